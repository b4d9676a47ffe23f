//! A mesh's plan becomes the device's configuration.

use alloc::vec::Vec;

use super::Tunnel;
use crate::endpoint::CandidateSource;
use crate::key::PresharedKey;
use crate::mesh::{Changes, PeerSpec};
use crate::path::Path;
use crate::time::Instant;
use crate::wireguard::AddPeerError;

/// Seconds between keepalives to every peer of a mesh, as in KubeSpan.
const KEEPALIVE: u16 = 25;

impl Tunnel {
    /// Brings the peers from one plan to the next. Peers that do not appear are not touched; those that
    /// change keep their sessions. `preshared_key` is the cluster's, for peers that are new.
    ///
    /// All of it is done even if a peer cannot be added; the error is that of the last one.
    pub fn apply(
        &mut self,
        now: Instant,
        changes: &Changes<'_>,
        preshared_key: &PresharedKey,
    ) -> Result<(), AddPeerError> {
        for spec in &changes.removed {
            if let Some(peer) = self.device.find(&spec.public_key) {
                self.remove_peer(peer);
            }
        }
        // Prefixes are given up before they are handed out: one may move from one peer to another.
        for update in &changes.updated {
            if let Some(peer) = self.device.find(&update.after.public_key) {
                for prefix in
                    update.before.allowed_ips.iter().filter(|p| !update.after.allowed_ips.contains(p))
                {
                    self.device.remove_allowed_ip(peer, *prefix);
                }
            }
        }
        let mut result = Ok(());
        for update in &changes.updated {
            // One that is missing was removed behind our back, and is added again.
            match self.device.find(&update.after.public_key) {
                Some(peer) => {
                    for prefix in
                        update.after.allowed_ips.iter().filter(|p| !update.before.allowed_ips.contains(p))
                    {
                        self.device.add_allowed_ip(peer, *prefix);
                    }
                    if update.before.suite != update.after.suite {
                        self.device.set_suite(now, peer, update.after.suite);
                    }
                    if update.before.endpoints != update.after.endpoints {
                        self.set_candidates(now, peer, CandidateSource::Published, &paths(update.after));
                    }
                }
                None => result = self.add(now, update.after, preshared_key).and(result),
            }
        }
        for spec in &changes.added {
            result = self.add(now, spec, preshared_key).and(result);
        }
        result
    }

    fn add(
        &mut self,
        now: Instant,
        spec: &PeerSpec,
        preshared_key: &PresharedKey,
    ) -> Result<(), AddPeerError> {
        let peer = self.device.add_peer(now, spec.public_key)?;
        self.device.set_preshared_key(peer, preshared_key.clone());
        self.device.set_suite(now, peer, spec.suite);
        for prefix in &spec.allowed_ips {
            self.device.add_allowed_ip(peer, *prefix);
        }
        self.set_candidates(now, peer, CandidateSource::Published, &paths(spec));
        self.device.set_keepalive(now, peer, Some(KEEPALIVE));
        Ok(())
    }
}

fn paths(spec: &PeerSpec) -> Vec<Path> {
    spec.endpoints.iter().map(|endpoint| Path::udp(*endpoint)).collect()
}
