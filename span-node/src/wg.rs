//! A plain WireGuard interface: `span wg`, the drop-in for wireguard-go under `wg` and `wg-quick`.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use ipnet::IpNet;
use span_core::crypto::{Suite, Suites};
use span_core::key::{PresharedKey, PrivateKey, PublicKey};
use span_core::path;
use span_core::tunnel::Tunnel;
use span_core::wireguard::{AddPeerError, PeerId};
use span_nat::monitor::Monitor;
use span_nat::transport::udp::{self, BindError, Udp};
use span_tun::device::{OpenError, Tun};

use crate::clock::{self, SystemClock};
use crate::interface::InterfaceName;
use crate::packet::{Core, Handle, PacketLoop, Parts};
use crate::uapi::{self, Ended, Errno, Operation, PeerSnapshot, Snapshot};

/// Why an interface could not be made, or had to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WgError {
    /// The TUN device.
    #[error(transparent)]
    Tun(#[from] OpenError),
    /// The UDP sockets.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The configuration socket.
    #[error(transparent)]
    Socket(#[from] uapi::BindError),
    /// The system gave no thread, poll or netlink socket.
    #[error("{what}: {source}")]
    System {
        /// What was wanted.
        what: &'static str,
        /// What the system answered.
        source: io::Error,
    },
}

/// A WireGuard interface and its configuration socket. Both go when it is dropped.
pub struct Interface {
    server: uapi::Server,
    handle: Handle,
    packets: Option<JoinHandle<io::Result<()>>>,
    suite: Suite,
}

impl Interface {
    /// Makes the interface, without keys and peers, on a port the host chooses. It carries packets from now
    /// on, on as many `threads` as the host lets it; [`serve`](Self::serve) lets it be configured.
    ///
    /// It begins handshakes in `suite`; with another than WireGuard's own its peers must be Span too. Whatever
    /// the suite, peers that begin in WireGuard's are answered.
    ///
    /// # Errors
    /// See [`WgError`]; each says what to do.
    pub fn create(name: &InterfaceName, suite: Suite, threads: NonZeroU8) -> Result<Self, WgError> {
        let server = uapi::Server::bind(Path::new(uapi::DIRECTORY), name)?;
        let several = threads > NonZeroU8::MIN;
        let tun = Tun::builder(name.as_str()).many_queues(several).open()?;
        let transport = Udp::bind(udp::Config { shared: several, ..udp::Config::default() })?;
        let seed = clock::entropy().map_err(system("reading randomness"))?;
        let mut tunnel = Tunnel::new(None, clock::now(), clock::unix(), seed);
        tunnel.device_mut().accept_suites(Suites::NONE.with(suite));
        let monitor = Monitor::new().map_err(system("watching the network"))?;
        let (tun, transport, clock) = (Box::new(tun), Box::new(transport), Arc::new(SystemClock));
        let parts = Parts { tunnel, tun, transport, clock, threads };
        let (packets, handle) = PacketLoop::new(parts, Some(monitor), Box::new(|_, _| {}))
            .map_err(system("setting up the packet thread"))?;
        let stopper = server.stopper();
        let packets = std::thread::Builder::new()
            .name("span-packets".into())
            .spawn(move || {
                let ended = packets.run();
                stopper.stop();
                ended
            })
            .map_err(system("starting the packet thread"))?;
        Ok(Interface { server, handle, packets: Some(packets), suite })
    }

    /// What ends [`serve`](Self::serve) from another thread.
    pub fn stopper(&self) -> uapi::Stopper {
        self.server.stopper()
    }

    /// Serves the configuration socket on this thread until stopped, or until the socket or the interface
    /// is removed, which are the usual ways to take a userspace WireGuard down.
    ///
    /// # Errors
    /// The system could not poll, or a socket broke.
    pub fn serve(&mut self) -> Result<(), WgError> {
        let served = self.server.run(&Configuration { handle: self.handle.clone(), suite: self.suite });
        match served {
            Ok(Ended::Stopped | Ended::Removed) => {}
            Err(source) => return Err(WgError::System { what: "serving the configuration socket", source }),
        }
        self.end().map_err(system("carrying packets"))
    }

    fn end(&mut self) -> io::Result<()> {
        self.handle.stop();
        match self.packets.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Err(io::Error::other("the packet thread panicked")),
        }
    }
}

impl Drop for Interface {
    fn drop(&mut self) {
        // `serve` has already told what went wrong.
        let _ = self.end();
    }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> WgError {
    move |source| WgError::System { what, source }
}

/// The way from the configuration socket to the packet thread.
struct Configuration {
    handle: Handle,
    suite: Suite,
}

impl uapi::Handler for Configuration {
    fn set(&self, operations: Vec<Operation>) -> Result<(), Errno> {
        let suite = self.suite;
        self.handle
            .ask(move |core| uapi::apply(&mut Target { core, suite }, &operations))
            .map_err(|_| Errno::IO)?
    }

    fn get(&self) -> Result<Snapshot, Errno> {
        self.handle.ask(|core| snapshot(core)).map_err(|_| Errno::IO)
    }
}

/// The interface as the configuration protocol changes it.
struct Target<'a, 'b> {
    core: &'a mut Core<'b>,
    /// What handshakes with new peers begin in.
    suite: Suite,
}

impl uapi::Target for Target<'_, '_> {
    type Peer = PeerId;

    fn public_key(&self) -> Option<PublicKey> {
        self.core.tunnel.device().public_key().copied()
    }

    fn set_private_key(&mut self, key: Option<PrivateKey>) {
        self.core.tunnel.device_mut().set_private_key(clock::now(), key);
    }

    fn set_listen_port(&mut self, port: u16) -> Result<(), Errno> {
        self.core.rebind(port).map_err(|error| match error {
            BindError::PortInUse(_) => Errno::PORT_IN_USE,
            _ => Errno::IO,
        })
    }

    fn set_fwmark(&mut self, mark: u32) -> Result<(), Errno> {
        self.core.set_mark(mark).map_err(|_| Errno::IO)
    }

    fn remove_all_peers(&mut self) {
        let peers: Vec<_> = self.core.tunnel.device().peers().collect();
        for peer in peers {
            self.core.tunnel.remove_peer(peer);
        }
    }

    fn find_peer(&self, key: &PublicKey) -> Option<PeerId> {
        self.core.tunnel.device().find(key)
    }

    fn add_peer(&mut self, key: &PublicKey) -> Result<PeerId, Errno> {
        let (device, now) = (self.core.tunnel.device_mut(), clock::now());
        let peer = device.add_peer(now, *key).map_err(|error| match error {
            AddPeerError::OwnKey => Errno::INVALID,
            _ => Errno::NO_SPACE,
        })?;
        device.set_suite(now, peer, self.suite);
        Ok(peer)
    }

    fn remove_peer(&mut self, peer: PeerId) {
        self.core.tunnel.remove_peer(peer);
    }

    fn set_preshared_key(&mut self, peer: PeerId, key: PresharedKey) {
        self.core.tunnel.device_mut().set_preshared_key(peer, key);
    }

    fn set_endpoint(&mut self, peer: PeerId, endpoint: SocketAddr) {
        self.core.tunnel.device_mut().set_path(clock::now(), peer, Some(path::Path::udp(endpoint)));
    }

    fn set_keepalive(&mut self, peer: PeerId, seconds: u16) {
        let seconds = (seconds > 0).then_some(seconds);
        self.core.tunnel.device_mut().set_keepalive(clock::now(), peer, seconds);
    }

    fn clear_allowed_ips(&mut self, peer: PeerId) {
        self.core.tunnel.device_mut().clear_allowed_ips(peer);
    }

    fn add_allowed_ip(&mut self, peer: PeerId, prefix: IpNet) {
        self.core.tunnel.device_mut().add_allowed_ip(peer, prefix);
    }

    fn remove_allowed_ip(&mut self, peer: PeerId, prefix: IpNet) {
        self.core.tunnel.device_mut().remove_allowed_ip(peer, prefix);
    }

    fn peer_configured(&mut self, _peer: PeerId) {
        // The packet loop asks the tunnel what to send after every command.
    }
}

fn snapshot(core: &Core<'_>) -> Snapshot {
    let device = core.tunnel.device();
    let peers = device.peers().filter_map(|id| {
        let peer = device.peer(clock::now(), id)?;
        Some(PeerSnapshot {
            public_key: *peer.public_key,
            preshared_key: peer.preshared_key.clone(),
            endpoint: peer.path.and_then(path::Path::remote),
            last_handshake: peer.last_handshake,
            rx_bytes: peer.rx_bytes,
            tx_bytes: peer.tx_bytes,
            keepalive_seconds: peer.keepalive.unwrap_or(0),
            allowed_ips: device.allowed_ips(id).collect(),
        })
    });
    Snapshot {
        private_key: device.private_key().cloned(),
        listen_port: core.transport.local_port(),
        fwmark: core.transport.mark(),
        peers: peers.collect(),
    }
}
