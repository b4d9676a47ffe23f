use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use span_core::time::Instant;

use super::frame::{self, ECHO_HEADER};
use super::shared::{Patience, Shared};
use super::stack::Stack;
use super::wait::Waiters;
use crate::offload::VirtioHeader;

/// An echo that is under way.
#[derive(Debug)]
pub(super) struct Echo {
    pub(super) peer: IpAddr,
    pub(super) sequence: u16,
    sent: Instant,
    pub(super) outcome: Option<Result<Duration, ErrorKind>>,
    pub(super) waiters: Waiters,
}

/// Pings one address, as often as wanted. Made by [`super::Netstack::ping`].
#[derive(Debug)]
pub struct Ping {
    shared: Arc<Shared>,
    identifier: u16,
    peer: IpAddr,
    size: usize,
    timeout: Duration,
}

impl Ping {
    pub(super) fn new(shared: &Arc<Shared>, peer: IpAddr) -> io::Result<Self> {
        let peer = peer.to_canonical();
        let identifier = shared.with(|stack, now| {
            stack.check_open()?;
            stack.source_for(peer)?;
            let port = stack.free_port(|stack, port| stack.echoes.contains_key(&port))?;
            let echo = Echo { peer, sequence: 0, sent: now, outcome: None, waiters: Waiters::default() };
            stack.echoes.insert(port, echo);
            io::Result::Ok(port)
        })?;
        Ok(Self { shared: Arc::clone(shared), identifier, peer, size: 56, timeout: Duration::from_secs(5) })
    }

    /// How long [`Ping::send`] waits; 5 s unless changed.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Bytes of payload, what fits the MTU at most; 56 unless changed.
    pub fn size(mut self, size: usize) -> Self {
        self.size = size;
        self
    }

    /// Sends an echo request and waits for the reply. Returns the round trip.
    ///
    /// # Errors
    /// `TimedOut` if no reply comes, `HostUnreachable` and its like if somebody says that none will,
    /// `InvalidInput` if the size does not fit the MTU, `NetworkDown` when the stack is closed.
    pub fn send(&mut self) -> io::Result<Duration> {
        self.begin()?;
        self.shared.wait(
            Patience::Blocking(Some(self.timeout)),
            |stack, _| outcome(stack, self.identifier),
            |stack| stack.echoes.get_mut(&self.identifier).map(|echo| &mut echo.waiters),
        )
    }

    /// Sends an echo request, to be followed by [`Ping::poll_reply`].
    ///
    /// # Errors
    /// As [`Ping::send`], and `WouldBlock` if the queue of the stack is full.
    pub fn begin(&mut self) -> io::Result<()> {
        let (identifier, peer, size) = (self.identifier, self.peer, self.size);
        self.shared.with(|stack, now| {
            stack.check_open()?;
            let source = stack.source_for(peer)?;
            let len = frame::network_header(source).saturating_add(ECHO_HEADER).saturating_add(size);
            if len > usize::from(stack.config.mtu) {
                return Err(ErrorKind::InvalidInput.into());
            }
            let Some(echo) = stack.echoes.get_mut(&identifier) else {
                return Err(ErrorKind::NotConnected.into());
            };
            echo.sequence = echo.sequence.wrapping_add(1);
            echo.sent = now;
            echo.outcome = None;
            let sequence = echo.sequence;
            let sent = stack.outbox.push(VirtioHeader::default(), |out| {
                frame::echo_request(source, peer, identifier, sequence, size, out);
            });
            if sent { Ok(()) } else { Err(ErrorKind::WouldBlock.into()) }
        })
    }

    /// Ready with the round trip of what was last begun.
    ///
    /// # Errors
    /// As [`Ping::send`], without `TimedOut`.
    pub fn poll_reply(&self, context: &mut Context<'_>) -> Poll<io::Result<Duration>> {
        self.shared.poll(
            context,
            |stack, _| outcome(stack, self.identifier),
            |stack| stack.echoes.get_mut(&self.identifier).map(|echo| &mut echo.waiters),
        )
    }
}

impl Drop for Ping {
    fn drop(&mut self) {
        self.shared.with(|stack, _| stack.echoes.remove(&self.identifier));
    }
}

fn outcome(stack: &mut Stack, identifier: u16) -> Poll<io::Result<Duration>> {
    stack.check_open()?;
    match stack.echoes.get(&identifier).map(|echo| echo.outcome) {
        Some(Some(Ok(round_trip))) => Poll::Ready(Ok(round_trip)),
        Some(Some(Err(kind))) => Poll::Ready(Err(kind.into())),
        Some(None) => Poll::Pending,
        None => Poll::Ready(Err(ErrorKind::NotConnected.into())),
    }
}

impl Stack {
    /// An echo reply arrived, or the news that none will.
    pub(super) fn end_echo(
        &mut self,
        now: Instant,
        peer: IpAddr,
        identifier: u16,
        sequence: u16,
        failed: Option<ErrorKind>,
    ) {
        let Some(echo) = self.echoes.get_mut(&identifier) else { return };
        if echo.peer == peer && echo.sequence == sequence && echo.outcome.is_none() {
            echo.outcome = Some(match failed {
                None => Ok(now.since(echo.sent)),
                Some(kind) => Err(kind),
            });
            echo.waiters.wake(&mut self.wakers);
        }
    }
}
