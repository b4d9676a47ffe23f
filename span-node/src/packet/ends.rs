//! The two sides of the tunnel, as one packet thread has them.

use std::io;
use std::sync::Arc;

use span_nat::transport::udp::BindError;
use span_nat::transport::{self, Transport};
use span_tun::device::Device;

use super::crew::{Counts, Crew};
use super::outbound::Drops;
use crate::clock::Clock;

/// What a packet thread has besides the tunnel. That of the leader speaks for the other threads as well.
pub(crate) struct Ends {
    pub(crate) tun: Box<dyn Device>,
    pub(crate) transport: Box<dyn Transport>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Packets this thread did not carry.
    pub(super) own_drops: Drops,
    /// Datagrams that transports lost which this thread had before.
    lost_before: transport::Drops,
    /// The transport's descriptors are others than before.
    pub(super) rebound: bool,
    pub(super) stopping: bool,
    pub(super) crew: Crew,
}

impl Ends {
    pub(super) fn new(tun: Box<dyn Device>, transport: Box<dyn Transport>, clock: Arc<dyn Clock>) -> Self {
        Ends {
            tun,
            transport,
            clock,
            own_drops: Drops::default(),
            lost_before: transport::Drops::default(),
            rebound: false,
            stopping: false,
            crew: Crew::default(),
        }
    }

    /// The same ends for another thread; `None` where the device or the transport has but one.
    pub(super) fn another(&self) -> io::Result<Option<Ends>> {
        // The queue last: the host gives packets to it as soon as it is there.
        let Some(transport) = self.transport.sibling().map_err(io::Error::other)? else { return Ok(None) };
        let Some(tun) = self.tun.another_queue()? else { return Ok(None) };
        Ok(Some(Ends::new(tun, transport, Arc::clone(&self.clock))))
    }

    /// Packets that were not carried, by all threads.
    pub(crate) fn drops(&self) -> Drops {
        self.totals().drops
    }

    /// Datagrams lost at sending, by all threads.
    pub(crate) fn lost(&self) -> transport::Drops {
        self.totals().lost
    }

    /// Frames the device did not take, from all threads.
    pub(crate) fn refused(&self) -> u64 {
        self.totals().refused
    }

    fn totals(&self) -> Counts {
        self.crew.counts().fold(self.counts(), Counts::plus)
    }

    /// What this thread did not carry.
    pub(super) fn counts(&self) -> Counts {
        let mut lost = self.transport.drops();
        lost.merge(&self.lost_before);
        Counts { drops: self.own_drops, lost, refused: self.tun.refused() }
    }

    /// Moves the transports of all threads to another port; 0 lets the host choose.
    pub(crate) fn rebind(&mut self, port: u16) -> Result<(), BindError> {
        let before = self.transport.local_port();
        self.transport.rebind(port)?;
        if self.transport.local_port() == before {
            // Already there: the descriptors are those that are polled already.
            return Ok(());
        }
        self.rebound = true;
        for member in 0..self.crew.len() {
            match self.transport.sibling() {
                Ok(Some(transport)) => self.crew.order(member, |ends| {
                    ends.replace(transport);
                    Ok(())
                }),
                // Without its sockets a thread carries nothing, and the old ones are of no use.
                Ok(None) | Err(_) => self.crew.order(member, |_| {
                    Err(io::Error::other("a packet thread got no sockets on the new port"))
                }),
            }
        }
        Ok(())
    }

    fn replace(&mut self, transport: Box<dyn Transport>) {
        self.lost_before.merge(&self.transport.drops());
        self.transport = transport;
        self.rebound = true;
    }

    /// Changes the firewall mark of everything sent from now on, by all threads; 0 for none.
    pub(crate) fn set_mark(&mut self, mark: u32) -> Result<(), BindError> {
        self.transport.set_mark(mark)?;
        self.crew.order_all(|| move |ends| ends.transport.set_mark(mark).map_err(io::Error::other));
        Ok(())
    }

    /// Looks again at what the device is like, in all threads.
    pub(super) fn refresh(&mut self) -> io::Result<()> {
        self.tun.refresh()?;
        self.crew.order_all(|| |ends: &mut Ends| ends.tun.refresh().map(drop));
        Ok(())
    }
}
