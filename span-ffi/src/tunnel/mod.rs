//! The sans-IO stratum: a tunnel that knows neither socket nor clock.

mod drive;
mod drops;
mod event;
mod open;
mod packet;
mod peers;
mod seal;
mod stats;

use span_core::crypto::{Suite, Suites};
use span_core::time::{Instant, UnixTime};
use span_core::{key, tunnel};
use zeroize::Zeroizing;

pub use drive::{
    SPAN_NEVER, span_tunnel_handle_timeout, span_tunnel_next_timeout, span_tunnel_poll_transmit,
    span_tunnel_reseed, span_tunnel_set_unix_time, span_tunnel_unix_time,
};
pub use drops::{DropReason, SPAN_DROP_REASONS, span_drop_reason_name, span_tunnel_dropped};
pub use event::{Event, EventKind, span_tunnel_poll_event};
pub use open::span_tunnel_open;
pub use packet::{
    Packet, PacketResult, SPAN_DATAGRAM_MAX, SPAN_HEADROOM, SPAN_PACKET_MAX, SPAN_TAILROOM, span_datagram_len,
};
pub use peers::{
    PeerConfig, SPAN_PEER_NONE, span_tunnel_add_allowed_ip, span_tunnel_add_peer, span_tunnel_allowed_ips,
    span_tunnel_clear_allowed_ips, span_tunnel_find_peer, span_tunnel_initiate, span_tunnel_peers,
    span_tunnel_remove_allowed_ip, span_tunnel_remove_peer, span_tunnel_route, span_tunnel_set_candidates,
    span_tunnel_set_cipher, span_tunnel_set_keepalive, span_tunnel_set_path, span_tunnel_set_preshared_key,
};
pub use seal::span_tunnel_seal;
pub use stats::{PeerStats, TunnelCounters, span_tunnel_counters, span_tunnel_peer_stats};

use crate::boundary::{self, Handle, Opaque, call, change};
use crate::key::Key;
use crate::pointer::{self, Versioned};
use crate::status::Status;
use peers::Names;

/// A WireGuard interface without its network: keys, peers, sessions and timers.
///
/// It does nothing by itself. Hand in what happened, with the time: packets by span_tunnel_seal, datagrams by
/// span_tunnel_open, a moment that has come by span_tunnel_handle_timeout. Then take out what there is, by
/// span_tunnel_poll_transmit and span_tunnel_poll_event, and ask span_tunnel_next_timeout when to come back.
///
/// Times are nanoseconds on a clock of the caller's that never goes back and goes on while the machine sleeps, as
/// CLOCK_BOOTTIME does. The same clock, seed and calls give the same datagrams.
///
/// Functions that take a const span_tunnel may run at the same time, the others only one at a time: a call that
/// meets another is refused with SPAN_STATUS_BUSY.
pub struct Tunnel(Handle<State>);

/// What a tunnel is made with. Begin with all zeros and set `size`; zero is a good value for every other field.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TunnelConfig {
    /// sizeof(span_tunnel_config).
    pub size: u32,
    /// The largest packet of the inner side; 1420 if zero. Packets are not padded beyond it.
    pub mtu: u16,
    /// Reserved.
    pub reserved: u16,
    /// The time now, in nanoseconds on the caller's clock.
    pub now: u64,
    /// The time now, in nanoseconds since 1970; the operating system is asked if zero. Handshakes carry it: let it
    /// never be earlier than span_tunnel_unix_time was in the last run, or peers refuse them.
    pub unix_time: u64,
    /// SPAN_CIPHER_ bits: the ciphers in which peers may begin sessions, besides WireGuard's own.
    pub ciphers: u32,
    /// Reserved.
    pub reserved2: u32,
    /// The private key; none yet if all zeros.
    pub private_key: Key,
    /// 32 bytes of true randomness that nobody else knows, from which all secrets are drawn; the operating system
    /// is asked if all zeros.
    pub seed: [u8; 32],
}

// SAFETY: numbers and bytes, the first of which is the size.
unsafe impl Versioned for TunnelConfig {
    const FIRST_SIZE: usize = 96;
}

/// A cipher suite. As a bit of span_tunnel_config, 1 << cipher.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// ChaCha20-Poly1305, which every WireGuard speaks.
    Chacha20Poly1305 = 0,
    /// AES-256-GCM, which only Span speaks.
    Aes256Gcm = 1,
}

impl Cipher {
    fn from_core(suite: Suite) -> Self {
        match suite {
            Suite::ChaCha20Poly1305 => Cipher::Chacha20Poly1305,
            Suite::Aes256Gcm => Cipher::Aes256Gcm,
        }
    }
}

/// The suite of this number.
fn suite(cipher: u32) -> Result<Suite, Status> {
    Suite::ALL.into_iter().find(|suite| Cipher::from_core(*suite) as u32 == cipher).ok_or(Status::Invalid)
}

/// The suites of these bits.
fn suites(bits: u32) -> Result<Suites, Status> {
    (0..u32::BITS).filter(|bit| bits >> bit & 1 == 1).map(suite).collect()
}

/// What is behind a handle.
pub(crate) struct State {
    tunnel: tunnel::Tunnel,
    names: Names,
    mtu: usize,
    /// Events lost that the caller knows of.
    lost: u64,
}

impl Opaque for Tunnel {
    type State = State;
    fn handle(&self) -> &Handle<State> {
        &self.0
    }
}

impl State {
    fn new(config: &TunnelConfig) -> Result<Self, Status> {
        if config.reserved != 0 || config.reserved2 != 0 {
            return Err(Status::Unsupported);
        }
        let suites = suites(config.ciphers)?;
        let unix = if config.unix_time == 0 {
            // A clock before 1970 is as good as none.
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
        } else {
            std::time::Duration::from_nanos(config.unix_time)
        };
        let seed =
            if config.seed == [0; 32] { crate::key::randomness()? } else { Zeroizing::new(config.seed) };
        let (now, unix) = (Instant::from_nanos(config.now), UnixTime::from_duration(unix));
        let mut tunnel = tunnel::Tunnel::new(config.private_key.private(), now, unix, *seed);
        let mtu = if config.mtu == 0 { DEFAULT_MTU } else { config.mtu };
        tunnel.device_mut().set_mtu(mtu);
        tunnel.device_mut().accept_suites(suites);
        Ok(State { tunnel, names: Names::default(), mtu: mtu.into(), lost: 0 })
    }
}

const DEFAULT_MTU: u16 = 1420;

/// Makes a tunnel without peers, to be given to span_tunnel_free in the end. Any thread.
///
/// SPAN_STATUS_ENTROPY if a seed is wanted from the operating system and there is none; SPAN_STATUS_INVALID for a
/// cipher that does not exist.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_new(config: *const TunnelConfig, tunnel: *mut *mut Tunnel) -> Status {
    call(|| {
        // SAFETY: the caller's promise.
        let (config, place) = unsafe { (pointer::config(config)?, pointer::place(tunnel)?) };
        place.write(boundary::make(Tunnel(Handle::new(State::new(&config)?))));
        Ok(())
    })
}

/// Frees a tunnel; NULL is nothing to free. The handle is not to be used again.
///
/// A tunnel that another thread is in a call with is not freed, ever: that is a mistake of the caller's which
/// costs memory instead of safety.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_free(tunnel: *mut Tunnel) {
    // SAFETY: the caller's promise.
    unsafe { boundary::free(tunnel) };
}

/// Sets the private key, none if all zeros. A peer with the same public key is removed. Sessions made with the
/// former key go on receiving, but the next packet to each peer begins a handshake.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_set_private_key(
    tunnel: *mut Tunnel,
    now: u64,
    private_key: *const Key,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        change(tunnel, |state| {
            let private_key: Option<key::PrivateKey> = pointer::reference(private_key)?.private();
            state.tunnel.device_mut().set_private_key(Instant::from_nanos(now), private_key);
            Ok(())
        })
    }
}
