//! What smoltcp takes for a network card: one frame in, one frame out.

use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use crate::device::MAX_FRAME;

/// One call of smoltcp: the frame it is given, the room for the one it may give.
pub(super) struct Port<'a> {
    pub(super) input: Option<&'a [u8]>,
    pub(super) output: Option<&'a mut [u8]>,
    /// Length of what was written to the output; zero if nothing.
    pub(super) written: usize,
}

/// What smoltcp is told of the card. `super_v4` and `super_v6` are the lengths of the longest super-packets.
///
/// The MTU is not that of the tunnel: segments are cut to it behind smoltcp, by what their flow has agreed on.
pub(super) fn capabilities(super_v4: usize, super_v6: usize) -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = MAX_FRAME;
    // Verified before smoltcp sees a packet, and done by whoever cuts what it sends.
    capabilities.checksum.tcp = Checksum::None;
    capabilities.checksum.udp = Checksum::Tx;
    capabilities.checksum.ipv4 = Checksum::Tx;
    capabilities.checksum.icmpv4 = Checksum::Tx;
    capabilities.checksum.icmpv6 = Checksum::Tx;
    capabilities.segmentation.tcpv4 = std::num::NonZeroUsize::new(super_v4);
    capabilities.segmentation.tcpv6 = std::num::NonZeroUsize::new(super_v6);
    capabilities
}

impl phy::Device for Port<'_> {
    type RxToken<'a>
        = Receive<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Transmit<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Receive<'_>, Transmit<'_>)> {
        let frame = self.input.take()?;
        Some((Receive(frame), Transmit { output: self.output.take(), written: &mut self.written }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Transmit<'_>> {
        let output = self.output.take()?;
        Some(Transmit { output: Some(output), written: &mut self.written })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        // Only an interface that is being made listens to this; see `capabilities`.
        DeviceCapabilities::default()
    }
}

pub(super) struct Receive<'a>(&'a [u8]);

impl phy::RxToken for Receive<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

pub(super) struct Transmit<'a> {
    output: Option<&'a mut [u8]>,
    written: &'a mut usize,
}

impl phy::TxToken for Transmit<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        match self.output.and_then(|output| output.get_mut(..len)) {
            Some(room) => {
                *self.written = len;
                f(room)
            }
            // Longer than any frame, or the second of one call: neither happens, and both are lost if they do.
            None => f(&mut vec![0; len]),
        }
    }
}

/// The card as it is while an interface is made.
pub(super) struct Blueprint(pub(super) DeviceCapabilities);

impl phy::Device for Blueprint {
    type RxToken<'a> = Receive<'a>;
    type TxToken<'a> = Transmit<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Receive<'_>, Transmit<'_>)> {
        None
    }

    fn transmit(&mut self, _: Instant) -> Option<Transmit<'_>> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.0.clone()
    }
}
