//! Points in time, handed in by the caller.

use core::fmt;
use core::ops::{Add, AddAssign, Sub};
use core::time::Duration;

/// A point on a monotonic clock that goes on while the machine is suspended.
///
/// Nanoseconds since an origin of the caller's choice; on Linux read `CLOCK_BOOTTIME`. Arithmetic
/// saturates: a clock that misbehaves bends timers, it never panics.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The clock's origin.
    pub const ORIGIN: Instant = Instant(0);

    /// The instant `nanos` nanoseconds after the clock's origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Instant(nanos)
    }

    /// The instant `millis` milliseconds after the clock's origin.
    pub const fn from_millis(millis: u64) -> Self {
        Instant(millis.saturating_mul(1_000_000))
    }

    /// The instant `secs` seconds after the clock's origin.
    pub const fn from_secs(secs: u64) -> Self {
        Instant(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the clock's origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time since `earlier`, zero if `earlier` is later.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_add(saturating_nanos(rhs)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_sub(saturating_nanos(rhs)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, rhs: Instant) -> Duration {
        self.since(rhs)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Duration::from_nanos(self.0))
    }
}

fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Wall-clock time since 1970-01-01 00:00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixTime(Duration);

impl UnixTime {
    /// The moment `since_epoch` after 1970-01-01 00:00:00 UTC.
    pub const fn from_duration(since_epoch: Duration) -> Self {
        UnixTime(since_epoch)
    }

    /// Time since 1970-01-01 00:00:00 UTC.
    pub const fn as_duration(self) -> Duration {
        self.0
    }
}

impl Add<Duration> for UnixTime {
    type Output = UnixTime;

    fn add(self, rhs: Duration) -> UnixTime {
        UnixTime(self.0.saturating_add(rhs))
    }
}

/// A TAI64N label: the timestamp of a handshake initiation (WireGuard paper, section 5.1).
///
/// Twelve bytes, big-endian, so that the order of the bytes is the order in time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Tai64N([u8; 12]);

impl Tai64N {
    /// Nanoseconds are rounded down to a multiple of this, about 16.8 ms.
    const GRAIN: u32 = 1 << 24;

    /// Encodes `time`, rounded down to a multiple of 2^24 ns (16.8 ms) so that it tells nobody how
    /// exact, or how wrong, this machine's clock is.
    pub fn new(time: UnixTime) -> Self {
        const TAI_AT_UNIX_EPOCH: u64 = (1 << 62) + 10;
        let since = time.as_duration();
        let mut label = [0; 12];
        label[..8].copy_from_slice(&TAI_AT_UNIX_EPOCH.saturating_add(since.as_secs()).to_be_bytes());
        label[8..].copy_from_slice(&(since.subsec_nanos() & !(Self::GRAIN - 1)).to_be_bytes());
        Tai64N(label)
    }

    /// The earliest label [`new`](Tai64N::new) can make that is later than this one.
    #[must_use]
    pub fn next(self) -> Self {
        let [seconds @ .., n3, n2, n1, n0] = self.0;
        let grains = u32::from_be_bytes([n3, n2, n1, n0]) / Self::GRAIN + 1;
        let mut label = [0; 12];
        if grains <= 999_999_999 / Self::GRAIN {
            label[..8].copy_from_slice(&seconds);
            label[8..].copy_from_slice(&(grains * Self::GRAIN).to_be_bytes());
        } else {
            label[..8].copy_from_slice(&u64::from_be_bytes(seconds).saturating_add(1).to_be_bytes());
        }
        Tai64N(label)
    }

    /// The label on the wire.
    pub const fn from_bytes(bytes: [u8; 12]) -> Self {
        Tai64N(bytes)
    }

    /// The label as it goes on the wire.
    pub const fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }
}

impl fmt::Debug for Tai64N {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tai64N(")?;
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_panicking() {
        let late = Instant::from_nanos(u64::MAX);
        assert_eq!(late + Duration::from_secs(1), late);
        assert_eq!(Instant::ORIGIN - Duration::from_secs(1), Instant::ORIGIN);
        assert_eq!(Instant::ORIGIN - late, Duration::ZERO);
    }

    #[test]
    fn tai64n_orders_like_time_and_hides_the_low_bits() {
        let at = |secs, nanos| Tai64N::new(UnixTime::from_duration(Duration::new(secs, nanos)));
        assert_eq!(at(0, 0).as_bytes(), &[0x40, 0, 0, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0]);
        assert!(at(1, 999_999_999) < at(2, 0));
        assert_eq!(at(5, 1), at(5, (1 << 24) - 1));
        assert!(at(5, 0) < at(5, 1 << 24));
        assert_eq!(at(5, 0).next(), at(5, 1 << 24));
        assert_eq!(at(5, 999_999_999).next(), at(6, 0));
        assert!(Tai64N::from_bytes([0xff; 12]).next() <= Tai64N::from_bytes([0xff; 12]));
    }
}
