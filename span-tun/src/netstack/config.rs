use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use span_core::time::Instant;

/// Most addresses a stack can have.
pub const MAX_ADDRESSES: usize = 8;
/// The least MTU: IPv6's, and what carries any IPv4 host's packets as well.
pub const MIN_MTU: u16 = 1280;

/// What a [`super::Netstack`] is made of.
///
/// ```
/// use span_tun::netstack::Config;
/// let mut config = Config::new(["fd00::1".parse()?, "10.0.0.1".parse()?]);
/// config.mtu = 1420;
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The addresses of this host, one to [`MAX_ADDRESSES`] of either family. The first of a family is where
    /// connections and pings of that family come from.
    pub addresses: Vec<IpAddr>,
    /// Largest packet, in bytes, at least [`MIN_MTU`]. 1420 unless changed.
    pub mtu: u16,
    /// Bytes a TCP connection receives ahead of the application: its window. 1 MiB unless changed. Memory is
    /// touched as it fills.
    pub receive_buffer: usize,
    /// Bytes a TCP connection takes from the application ahead of the peer. 1 MiB unless changed.
    pub send_buffer: usize,
    /// Bytes of datagrams, headers included, that wait in a UDP socket to be received. What comes after is
    /// dropped and counted. 256 KiB unless changed.
    pub datagram_buffer: usize,
    /// Frames that wait to leave: datagrams, pings and answers. Senders wait for room, answers are dropped and
    /// counted. 1024 unless changed.
    pub queue: usize,
    /// Most TCP connections at a time, those that are being opened or closed included. 4096 unless changed.
    pub max_connections: usize,
    /// Most listeners and UDP sockets, each. 1024 unless changed.
    pub max_sockets: usize,
    /// How long a connection may take to open, unless the caller says otherwise. 30 s unless changed.
    pub connect_timeout: Duration,
    /// How long a peer may leave data unacknowledged before the connection is given up, and how long a
    /// connection that was closed here may take to close there. 60 s unless changed.
    pub patience: Duration,
    /// How long a connection may be silent before the peer is asked whether it is still there. Ten times that long
    /// without a word, and the connection is given up. `None` asks nobody: connections to peers that are gone stay
    /// until they are written to. 60 s unless changed.
    pub keepalive: Option<Duration>,
    /// What time it is.
    pub clock: Clock,
    /// Where initial sequence numbers and ports begin. Chosen at random unless set, which is for tests alone.
    pub seed: Option<u64>,
}

impl Config {
    /// A stack with these addresses and the defaults for everything else.
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            addresses: addresses.into_iter().collect(),
            mtu: 1420,
            receive_buffer: 1 << 20,
            send_buffer: 1 << 20,
            datagram_buffer: 256 << 10,
            queue: 1024,
            max_connections: 4096,
            max_sockets: 1024,
            connect_timeout: Duration::from_secs(30),
            patience: Duration::from_secs(60),
            keepalive: Some(Duration::from_secs(60)),
            clock: Clock::system(),
            seed: None,
        }
    }

    pub(super) fn check(&self) -> io::Result<()> {
        /// Windows up to 1 GiB can be announced.
        const BUFFERS: std::ops::RangeInclusive<usize> = 4096..=1 << 30;
        let unusable = |address: &IpAddr| {
            address.is_unspecified()
                || address.is_multicast()
                || address.is_loopback()
                || *address == IpAddr::from([255; 4])
                || address.to_canonical() != *address
        };
        let problem = if self.addresses.is_empty() || self.addresses.len() > MAX_ADDRESSES {
            format!("{} addresses; a stack has 1 to {MAX_ADDRESSES}", self.addresses.len())
        } else if let Some(address) = self.addresses.iter().find(|address| unusable(address)) {
            format!("{address} is not the address of a host")
        } else if self.mtu < MIN_MTU {
            format!("an MTU of {}; the least is {MIN_MTU}", self.mtu)
        } else if !BUFFERS.contains(&self.receive_buffer) || !BUFFERS.contains(&self.send_buffer) {
            "a buffer of TCP; it has 4 KiB to 1 GiB".to_owned()
        } else if self.keepalive.is_some_and(|silence| silence.is_zero()) {
            "a keepalive of no time".to_owned()
        } else if self.queue == 0 {
            "a queue of no frames".to_owned()
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
    }

    pub(super) fn random_seed(&self) -> u64 {
        // The standard library's hash keys are the system's randomness, on every system.
        self.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish())
    }
}

/// A clock: the same that the packet loop compares [`crate::device::Device::deadline`] with.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Instant + Send + Sync>);

impl Clock {
    /// A clock of the caller's. It must not run backwards.
    pub fn new(now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The machine's clock that goes on while it is suspended, which is the one of a node.
    #[cfg(target_os = "linux")]
    pub fn system() -> Self {
        use rustix::time::{ClockId, clock_gettime};
        Self::new(|| {
            let now = clock_gettime(ClockId::Boottime);
            let nanos = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
            Instant::from_nanos(u64::try_from(nanos).unwrap_or(0))
        })
    }

    /// Time since this process first asked.
    #[cfg(not(target_os = "linux"))]
    pub fn system() -> Self {
        static ORIGIN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        Self::new(|| {
            let nanos = ORIGIN.get_or_init(std::time::Instant::now).elapsed().as_nanos();
            Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        })
    }

    /// What time it is.
    #[inline]
    pub fn now(&self) -> Instant {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused() {
        let good = Config::new([IpAddr::from([10, 0, 0, 1])]);
        assert!(good.check().is_ok());
        let refused: [fn(&mut Config); 9] = [
            |config| config.addresses.clear(),
            |config| config.addresses = vec![IpAddr::from([10, 0, 0, 1]); MAX_ADDRESSES + 1],
            |config| config.addresses = vec![IpAddr::from([0; 4])],
            |config| config.addresses = vec![IpAddr::from([255; 4])],
            |config| config.addresses = vec!["ff02::1".parse().unwrap()],
            |config| config.addresses = vec!["::ffff:10.0.0.1".parse().unwrap()],
            |config| config.mtu = MIN_MTU - 1,
            |config| config.receive_buffer = 0,
            |config| config.keepalive = Some(Duration::ZERO),
        ];
        for spoil in refused {
            let mut config = good.clone();
            spoil(&mut config);
            assert_eq!(config.check().unwrap_err().kind(), io::ErrorKind::InvalidInput, "{config:?}");
        }
    }

    #[test]
    fn seeds_differ_and_the_clock_goes_on() {
        let config = Config::new([IpAddr::from([10, 0, 0, 1])]);
        assert_ne!(config.random_seed(), config.random_seed());
        let before = config.clock.now();
        assert!(config.clock.now() >= before);
    }
}
