//! The way of packets, with an eye on who answers.

use alloc::vec::Vec;
use core::net::IpAddr;

use super::{Tunnel, is_forbidden, slot_mut};
use crate::path::Path;
use crate::time::Instant;
use crate::wireguard::{DropReason, Inbound, Opening, Outbound, PeerId};

impl Tunnel {
    /// The peer a packet to `destination` belongs to, see [`Device::route`](crate::wireguard::Device::route).
    #[inline]
    pub fn route(&self, destination: IpAddr) -> Option<PeerId> {
        self.device.route(destination)
    }

    /// How to send to a peer now, see [`Device::outbound`](crate::wireguard::Device::outbound).
    #[inline]
    pub fn outbound(&mut self, now: Instant, peer: PeerId) -> Outbound<'_> {
        self.device.outbound(now, peer)
    }

    /// Keeps a packet until it can be sent, see [`Device::stage`](crate::wireguard::Device::stage).
    pub fn stage(&mut self, now: Instant, peer: PeerId, packet: &[u8]) {
        self.device.stage(now, peer, packet);
    }

    /// Tells what was sealed, see [`Device::sent`](crate::wireguard::Device::sent).
    #[inline]
    pub fn sent(&mut self, now: Instant, peer: PeerId, packets: u32, bytes: u64) {
        self.device.sent(now, peer, packets, bytes);
        if packets > 0 {
            let here = self.clock.observe(now);
            self.expect_answer(here, peer);
        }
    }

    /// Takes a datagram that arrived over `path`, see
    /// [`Device::handle_datagram`](crate::wireguard::Device::handle_datagram). One from inside the mesh
    /// itself is dropped.
    #[inline]
    pub fn handle_datagram(&mut self, now: Instant, path: &Path, datagram: &mut [u8]) -> Inbound {
        let mut answer = Inbound::Dropped(DropReason::Malformed);
        let stride = datagram.len();
        self.handle_burst(now, path, datagram, stride, &mut |inbound| answer = inbound);
        answer
    }

    /// Takes datagrams that arrived together over `path`, see
    /// [`Device::handle_burst`](crate::wireguard::Device::handle_burst). Those from inside the mesh itself are
    /// dropped.
    #[inline]
    pub fn handle_burst(
        &mut self,
        now: Instant,
        path: &Path,
        burst: &mut [u8],
        stride: usize,
        each: &mut impl FnMut(Inbound),
    ) {
        if !self.is_clean(path) {
            return self.refuse(burst.len(), stride, each);
        }
        let mut heard = core::mem::take(&mut self.heard);
        self.device.handle_burst(now, path, burst, stride, &mut |inbound| {
            note(&mut heard, &inbound);
            each(inbound);
        });
        self.heard_from(now, heard);
    }

    /// The first of three steps that together are [`handle_burst`](Self::handle_burst), for threads that share
    /// the tunnel, see [`Device::begin_burst`](crate::wireguard::Device::begin_burst). Datagrams from inside the
    /// mesh itself are dropped.
    pub fn begin_burst(
        &mut self,
        now: Instant,
        path: &Path,
        burst: &[u8],
        stride: usize,
        openings: &mut Vec<Opening>,
        each: &mut impl FnMut(Inbound),
    ) {
        if self.is_clean(path) {
            self.device.begin_burst(now, path, burst, stride, openings, each);
        } else {
            self.refuse(burst.len(), stride, each);
        }
    }

    /// The third step, see [`Device::finish_burst`](crate::wireguard::Device::finish_burst).
    pub fn finish_burst(
        &mut self,
        now: Instant,
        path: &Path,
        openings: &mut [Opening],
        burst: &[u8],
        each: &mut impl FnMut(Inbound),
    ) {
        let mut heard = core::mem::take(&mut self.heard);
        self.device.finish_burst(now, path, openings, burst, &mut |inbound| {
            note(&mut heard, &inbound);
            each(inbound);
        });
        self.heard_from(now, heard);
    }

    /// Drops the datagrams of a burst that came from inside the mesh itself.
    #[cold]
    fn refuse(&mut self, len: usize, stride: usize, each: &mut impl FnMut(Inbound)) {
        for _ in 0..len.div_ceil(stride.max(1)) {
            self.counters.forbidden_datagrams += 1;
            each(Inbound::Dropped(DropReason::ForbiddenPath));
        }
    }

    /// Tells the selections of those who were heard.
    #[inline]
    fn heard_from(&mut self, now: Instant, mut heard: Vec<PeerId>) {
        let now = self.clock.observe(now);
        self.take_device_events(now);
        for peer in heard.drain(..) {
            if let Some(slot) = slot_mut(&mut self.slots, peer)
                && slot.selection.heard(now)
            {
                self.settle(peer);
            }
        }
        self.heard = heard;
    }

    /// Data went to the peer: its answer is awaited.
    #[inline]
    pub(super) fn expect_answer(&mut self, now: Instant, peer: PeerId) {
        if let Some(slot) = slot_mut(&mut self.slots, peer)
            && slot.selection.sent(now)
        {
            self.settle(peer);
        }
    }

    #[inline]
    fn is_clean(&mut self, path: &Path) -> bool {
        if self.forbidden.is_empty() {
            return true;
        }
        let remote = path.remote().map(|remote| remote.ip());
        if remote == self.last_clean {
            return true;
        }
        let clean = !is_forbidden(&self.forbidden, path);
        if clean {
            self.last_clean = remote;
        }
        clean
    }
}

/// Keeps in mind who was heard.
#[inline]
fn note(heard: &mut Vec<PeerId>, inbound: &Inbound) {
    if let Inbound::Packet { peer, .. } | Inbound::Keepalive { peer } = inbound
        && heard.last() != Some(peer)
    {
        heard.push(*peer);
    }
}
