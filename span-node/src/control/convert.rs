//! Core's words in the protocol's.

use std::time::Duration;

use span_core::endpoint;

use super::{Candidate, CandidateSource, PeerState, Race, RaceCause, Verdict};

impl From<endpoint::Liveness> for PeerState {
    fn from(liveness: endpoint::Liveness) -> Self {
        match liveness {
            endpoint::Liveness::Unknown => PeerState::Unknown,
            endpoint::Liveness::Up => PeerState::Up,
            endpoint::Liveness::Down => PeerState::Down,
        }
    }
}

impl From<endpoint::CandidateSource> for CandidateSource {
    fn from(source: endpoint::CandidateSource) -> Self {
        match source {
            endpoint::CandidateSource::Learnt => CandidateSource::Learnt,
            endpoint::CandidateSource::Configured => CandidateSource::Configured,
            endpoint::CandidateSource::Published => CandidateSource::Published,
            endpoint::CandidateSource::Observed => CandidateSource::Observed,
            endpoint::CandidateSource::Cached => CandidateSource::Cached,
        }
    }
}

impl From<&endpoint::Explained> for Candidate {
    fn from(explained: &endpoint::Explained) -> Self {
        Candidate {
            path: explained.path.to_string(),
            source: explained.source.into(),
            verdict: explained.verdict.into(),
            seen_seconds_ago: explained.age.as_secs_f64(),
            last_probe_seconds_ago: explained.last_probe.map(|ago| ago.as_secs_f64()),
            last_answer_seconds_ago: explained.last_answer.map(|ago| ago.as_secs_f64()),
            unanswered_probes: explained.unanswered,
        }
    }
}

/// What an [`Explanation`](endpoint::Explanation) says of handshakes under way.
impl From<(endpoint::Cause, Duration, u32)> for Race {
    fn from((cause, lasting, rounds): (endpoint::Cause, Duration, u32)) -> Self {
        Race { cause: cause.into(), seconds: lasting.as_secs_f64(), rounds }
    }
}

impl From<endpoint::Verdict> for Verdict {
    fn from(verdict: endpoint::Verdict) -> Self {
        match verdict {
            endpoint::Verdict::InUse => Verdict::InUse,
            endpoint::Verdict::Forbidden => Verdict::Forbidden,
            endpoint::Verdict::Untried => Verdict::Untried,
            endpoint::Verdict::Waiting => Verdict::Waiting,
            endpoint::Verdict::Beaten => Verdict::Beaten,
            endpoint::Verdict::Unanswered => Verdict::Unanswered,
            endpoint::Verdict::Left => Verdict::Left,
        }
    }
}

impl From<endpoint::Cause> for RaceCause {
    fn from(cause: endpoint::Cause) -> Self {
        match cause {
            endpoint::Cause::New => RaceCause::New,
            endpoint::Cause::Renewal => RaceCause::Renewal,
            endpoint::Cause::Expired => RaceCause::Expired,
            endpoint::Cause::Silence => RaceCause::Silence,
            endpoint::Cause::Unheard => RaceCause::Unheard,
            endpoint::Cause::Moved => RaceCause::Moved,
            endpoint::Cause::Network => RaceCause::Network,
        }
    }
}
