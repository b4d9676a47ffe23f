//! Numbers of the protocol, and numbers of this implementation.

use core::time::Duration;

// Specification: WireGuard paper, section 6.1.

/// A session that has sealed this many packets asks for a new one.
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// A session never seals or accepts this counter or a later one.
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// An AES-256-GCM session that has sealed this many blocks of 16 bytes (256 GiB) asks for a new one. How this
/// and the next follow from the bounds of GCM is in Span's documentation, `docs/ciphers.md`.
pub const REKEY_AFTER_BLOCKS: u64 = 1 << 34;
/// An AES-256-GCM session never seals more blocks than this.
pub const REJECT_AFTER_BLOCKS: u64 = 1 << 35;
/// The initiator of a session this old begins a new handshake when it sends.
pub const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// A session this old neither seals nor accepts packets.
pub const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// A handshake without success is given up after this time.
pub const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);
/// The shortest time between two initiations to a peer, and how long an answer is awaited.
pub const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long after receiving data a passive keepalive waits for something to be sent.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the secret behind cookies lives.
pub const COOKIE_SECRET_MAX_AGE: Duration = Duration::from_secs(120);

// Specification by the reference implementation.

/// Plaintexts are padded to a multiple of this many bytes.
pub const PADDING: usize = 16;
/// The most that is added at random to the wait for an answer.
pub(super) const JITTER_MAX: Duration = Duration::from_millis(333);
/// How much earlier than its maker an owner stops using a cookie.
pub(super) const COOKIE_LATENCY: Duration = Duration::from_secs(5);
/// Initiations of one peer closer together than this are a flood.
pub(super) const INITIATION_SPACING: Duration = Duration::from_millis(20);
/// Without a new session for this long, every ephemeral secret is erased.
pub(super) const ERASE_AFTER: Duration = Duration::from_secs(3 * 180);
/// Packets waiting for one peer's session.
pub(super) const MAX_STAGED: usize = 128;

// Implementation.

/// Packets waiting for sessions, all peers together, in bytes.
pub(super) const MAX_STAGED_BYTES: usize = 16 << 20;
/// Handshake messages waiting to be worked on.
pub(super) const MAX_HANDSHAKES: usize = 4096;
/// So many waiting handshake messages are load: from then on sources must prove themselves by cookie.
pub(super) const LOADED_HANDSHAKES: usize = MAX_HANDSHAKES / 8;
/// How long a device counts as loaded after its queue was last that long.
pub(super) const LOAD_MEMORY: Duration = Duration::from_secs(1);
/// Handshake messages worked on by one call of `handle_timeout`: about a millisecond and a half.
pub(super) const HANDSHAKE_BUDGET: usize = 8;
/// Responses and cookie replies waiting for a place in the caller's buffer.
pub(super) const MAX_REPLIES: usize = 256;
/// Events nobody has read yet.
pub(super) const MAX_EVENTS: usize = 1 << 15;
/// The inner MTU until the caller names one.
pub(super) const DEFAULT_MTU: usize = 1420;
