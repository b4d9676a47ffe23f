//! The state on disk.
//!
//! Records are kept with the time they have left, so that the time a service is down costs no record its life.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use span_core::time::{Instant, UnixTime};

use super::limits;
use super::state::{State, Update};
use crate::wire::storage::{AffiliateSnapshot, ClusterSnapshot, EndpointSnapshot, StateSnapshot};

/// The state at `now`, as bytes.
pub(super) fn encode(state: &State, now: Instant) -> Vec<u8> {
    let left = |expires: Instant| {
        let seconds = expires.since(now).as_secs();
        Some(prost_types::Duration { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanos: 0 })
    };
    // Cluster by cluster: the bytes are those of the whole message, without it ever being built.
    let mut bytes = Vec::new();
    for (id, cluster) in state.clusters() {
        let affiliates = cluster.affiliates().map(|(id, affiliate)| AffiliateSnapshot {
            id: id.to_owned(),
            expiration: None,
            data: affiliate.data.clone(),
            endpoints: affiliate
                .endpoints
                .iter()
                .map(|e| EndpointSnapshot { expiration: None, data: e.data.clone(), ttl: left(e.expires) })
                .collect(),
            ttl: left(affiliate.expires),
        });
        let cluster = ClusterSnapshot { id: id.to_owned(), affiliates: affiliates.collect() };
        StateSnapshot { clusters: vec![cluster] }.encode_raw(&mut bytes);
    }
    bytes
}

/// Puts what `bytes` hold into `state`, and tells how many affiliates that were. What the service would not
/// take from a client is left out.
pub(super) fn restore(
    state: &mut State,
    bytes: &[u8],
    now: Instant,
    unix: UnixTime,
) -> Result<usize, prost::DecodeError> {
    let snapshot = StateSnapshot::decode(bytes)?;
    let mut restored = 0;
    for cluster in snapshot.clusters {
        if limits::cluster_id(&cluster.id).is_err() {
            continue;
        }
        for affiliate in cluster.affiliates {
            restored += usize::from(restore_affiliate(state, &cluster.id, affiliate, now, unix).is_some());
        }
    }
    Ok(restored)
}

fn restore_affiliate(
    state: &mut State,
    cluster: &str,
    affiliate: AffiliateSnapshot,
    now: Instant,
    unix: UnixTime,
) -> Option<()> {
    let left = |ttl: Option<prost_types::Duration>, expiration: Option<prost_types::Timestamp>| {
        let ttl = match (ttl, expiration) {
            (Some(ttl), _) => Duration::try_from(ttl).unwrap_or_default(),
            (None, Some(at)) => {
                Duration::from_secs(u64::try_from(at.seconds).unwrap_or(0)).saturating_sub(unix.as_duration())
            }
            (None, None) => Duration::ZERO,
        };
        ttl.min(limits::TTL)
    };
    let mut update = |data, endpoint: Option<Bytes>, ttl| {
        let endpoints = endpoint.into_iter().collect();
        let update = Update { affiliate: affiliate.id.clone(), data, endpoints, ttl };
        limits::affiliate_id(&update.affiliate).ok()?;
        limits::data(&update.data).ok()?;
        limits::endpoints(&update.endpoints).ok()?;
        state.update(now, cluster, &update).ok()
    };
    let own = left(affiliate.ttl, affiliate.expiration);
    update(affiliate.data, None, own)?;
    for endpoint in affiliate.endpoints {
        // An endpoint does not outlive its affiliate, and must not prolong its life either.
        update(Bytes::new(), Some(endpoint.data), left(endpoint.ttl, endpoint.expiration).min(own));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_secs(1000);

    fn filled() -> State {
        let mut state = State::new(100);
        for (cluster, affiliate, ttl) in [("c", "a", 60), ("c", "b", 1800), ("d", "a", 30)] {
            let update = Update {
                affiliate: affiliate.to_owned(),
                data: Bytes::from(format!("record of {affiliate}")),
                endpoints: vec![Bytes::from_static(b"first"), Bytes::from_static(b"second")],
                ttl: Duration::from_secs(ttl),
            };
            state.update(NOW, cluster, &update).unwrap();
        }
        state
    }

    fn sorted(state: &State, cluster: &str) -> Vec<crate::wire::server::Affiliate> {
        let mut all = state.list(cluster);
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    #[test]
    fn what_was_saved_is_restored_with_the_time_it_had_left() {
        let before = filled();
        let bytes = encode(&before, NOW + Duration::from_secs(20));
        let mut after = State::new(100);
        let later = Instant::from_secs(50_000);
        assert_eq!(restore(&mut after, &bytes, later, UnixTime::default()).unwrap(), 3);
        assert_eq!(after.totals(), before.totals());
        for cluster in ["c", "d"] {
            assert_eq!(sorted(&after, cluster), sorted(&before, cluster));
        }
        after.collect(later + Duration::from_secs(10));
        assert_eq!(after.list("d").len(), 1, "30 s less 20 s are 10 s");
        after.collect(later + Duration::from_secs(11));
        assert!(after.list("d").is_empty());
        assert_eq!(after.list("c").len(), 2);
    }

    #[test]
    fn the_expiry_times_of_old_versions_are_understood() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let affiliate = AffiliateSnapshot {
            id: "a".to_owned(),
            expiration: at(1_000_100),
            data: Bytes::from_static(b"x"),
            endpoints: vec![EndpointSnapshot {
                expiration: at(1_000_050),
                data: Bytes::from_static(b"e"),
                ttl: None,
            }],
            ttl: None,
        };
        let clusters = vec![ClusterSnapshot { id: "c".to_owned(), affiliates: vec![affiliate] }];
        let bytes = StateSnapshot { clusters }.encode_to_vec();
        let mut state = State::new(100);
        let unix = UnixTime::from_duration(Duration::from_secs(1_000_000));
        restore(&mut state, &bytes, NOW, unix).unwrap();
        state.collect(NOW + Duration::from_secs(50));
        assert_eq!(state.list("c")[0].endpoints.len(), 0);
        state.collect(NOW + Duration::from_secs(101));
        assert!(state.list("c").is_empty());
    }

    #[test]
    fn what_no_client_could_have_stored_is_left_out() {
        let affiliate = |id: &str, data: usize, endpoint: usize| AffiliateSnapshot {
            id: id.to_owned(),
            data: vec![1; data].into(),
            ttl: Some(prost_types::Duration { seconds: i64::MAX, nanos: 0 }),
            endpoints: vec![EndpointSnapshot { data: vec![2; endpoint].into(), ..Default::default() }],
            ..Default::default()
        };
        let affiliates = vec![affiliate("", 1, 1), affiliate("a", 2049, 1), affiliate("b", 2048, 33)];
        let clusters = vec![
            ClusterSnapshot { id: "c".to_owned(), affiliates },
            ClusterSnapshot { id: String::new(), affiliates: vec![affiliate("a", 1, 1)] },
        ];
        let mut state = State::new(100);
        let bytes = StateSnapshot { clusters }.encode_to_vec();
        assert_eq!(restore(&mut state, &bytes, NOW, UnixTime::default()).unwrap(), 1);
        let list = state.list("c");
        assert_eq!((list[0].id.as_str(), list[0].endpoints.len()), ("b", 0));
        state.collect(NOW + limits::TTL + Duration::from_secs(1));
        assert!(state.list("c").is_empty(), "no time to live is longer than a client's");
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(restore(&mut State::new(1), &[0xff; 32], NOW, UnixTime::default()).is_err());
    }
}
