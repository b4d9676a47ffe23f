//! Putting a node together, part by part, in the order in which the parts can fail.

use std::io;
use std::net::Ipv6Addr;

use crossbeam_channel::bounded;
use ipnet::Ipv6Net;
use span_core::key::PublicKey;
use span_core::mesh::overlay;
use span_core::tunnel::{self, Tunnel};
use span_core::wireguard::PeerId;
use span_discovery::cache::Cache;
use span_discovery::tier::Tier;
use span_nat::monitor::{Interfaces, Monitor};
use span_nat::transport::udp::{self, Udp};
use span_tun::device::{Device as _, Tun};
use zeroize::Zeroizing;

use super::control_plane::ControlPlane;
use super::error::{NodeError, StartError};
use super::manager::{Manager, Message, Parts};
use super::me::Me;
use super::routing::{MARK, Routing};
use super::runtime::{self, Outbox};
use super::saved::Saved;
#[cfg(feature = "service")]
use super::service::{self, Serving};
use super::{Node, answers, control, sources, thread};
use crate::clock;
use crate::config::{NodeConfig, OverlayHost};
use crate::packet::{self, Core, Notice, PacketLoop};
use crate::state::State;

/// Threads of a node; each reports its end once.
const THREADS: usize = 3;

/// What a node is started from.
pub struct Builder {
    config: NodeConfig,
    tiers: Vec<Box<dyn Tier>>,
}

impl Builder {
    pub(super) fn new(config: NodeConfig) -> Self {
        Builder { config, tiers: Vec::new() }
    }

    /// Adds a source of members besides those the configuration names. It has the last word over them.
    #[must_use]
    pub fn tier(mut self, tier: Box<dyn Tier>) -> Self {
        self.tiers.push(tier);
        self
    }

    /// Starts the node.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing of the node is left then.
    pub fn start(self) -> Result<Node, StartError> {
        let Builder { config, tiers } = self;
        let cluster = config.cluster.clone().ok_or(StartError::NoCluster)?;
        let random = Zeroizing::new(entropy()?);
        let mut state = State::open(&config.state_dir, &random)?;
        let identity = state.identity().clone();
        let public_key = identity.private_key.public_key();

        let mut monitor = Monitor::new().map_err(system("opening a netlink socket"))?;
        let interfaces = monitor.snapshot().map_err(system("listing the host's interfaces"))?;
        let overlay = overlay::prefix(cluster.id.as_str());
        let address = overlay_address(config.overlay_host, overlay, &public_key, &interfaces)?;

        let mut all = sources::configured(&config, &cluster, &identity.node_id)?;
        all.extend(tiers);
        if all.is_empty() {
            return Err(StartError::NoSource);
        }
        #[cfg(feature = "service")]
        let server = service::bind(&config, &state)?;

        let mark = if config.routes { MARK } else { 0 };
        let transport = Udp::bind(udp::Config { port: config.listen_port, mark, ..udp::Config::default() })?;
        let tun = Tun::builder(config.interface.as_str()).mtu(config.mtu).open()?;
        let mut routing = Routing::new(tun.index(), address, overlay, &config)?;
        routing.set_up()?;

        let control_path = config.control_socket();
        let control = control::Control::bind(&control_path)
            .map_err(|source| StartError::Control { path: control_path, source })?;

        let now = clock::now();
        let unix = state.start_clock(now, clock::unix())?;
        let mut tunnel = Tunnel::new(Some(identity.private_key), now, unix, *Zeroizing::new(entropy()?));
        let suites = config.cipher.suites();
        tunnel.device_mut().accept_suites(suites);
        let (outbox, inbox) = runtime::inbox();
        let (hostname, nodename) = config.names(&machine_name());
        let me = Me {
            node_id: identity.node_id,
            public_key,
            preshared_key: cluster.secret.preshared_key(),
            address,
            overlay,
            hostname,
            nodename,
            cluster_id: cluster.id.clone(),
            suites,
            port: transport.local_port(),
            interface: tun.index(),
            config,
        };
        let watcher = Monitor::new().map_err(system("opening a netlink socket"))?;
        let core = Core::new(tunnel, Box::new(tun), transport).map_err(system("setting up the interface"))?;
        let (packets, handle) = PacketLoop::new(core, Some(watcher), notify(outbox.clone()))
            .map_err(system("setting up the packet thread"))?;
        let saved = Saved::load(Cache::new(&state.file("members.cache"), &cluster.id, &cluster.secret));
        let manager = Manager::new(Parts {
            me,
            tiers: all,
            packets: handle.clone(),
            inbox,
            monitor,
            routing,
            saved,
            state,
        });
        let manage = move || {
            runtime::drive(ControlPlane {
                manager,
                #[cfg(feature = "service")]
                serving: Serving::new(server),
                managed: false,
            })
        };
        spawn(packets, manage, control, handle, outbox)
    }
}

/// Starts the threads. What was started ends again if a later one cannot be.
fn spawn(
    packets: PacketLoop,
    manage: impl FnOnce() -> io::Result<Result<(), NodeError>> + Send + 'static,
    control: control::Control,
    handle: packet::Handle,
    outbox: Outbox<Message>,
) -> Result<Node, StartError> {
    let (end, ended) = bounded(THREADS);
    let mut node =
        Node { packets: handle, manager: outbox.clone(), control: None, threads: Vec::new(), ended };
    let start = system("starting a thread");
    let manage = move || manage().map_err(NodeError::Runtime)?;
    node.threads.push(thread::start(super::MANAGER, end.clone(), manage).map_err(&start)?);
    let carry = move || packets.run().map_err(NodeError::Packets);
    node.threads.push(thread::start(super::PACKETS, end.clone(), carry).map_err(&start)?);
    let stopper = control.stopper();
    let answer = move || {
        control.serve(|question| answers::answer(&outbox, question));
        Ok(())
    };
    node.threads.push(thread::start(super::CONTROL, end, answer).map_err(&start)?);
    node.control = Some(stopper);
    Ok(node)
}

/// Tells the manager what concerns it of what happens on the packet thread.
fn notify(outbox: Outbox<Message>) -> packet::Notify {
    Box::new(move |tunnel, notice| {
        let peer = |peer: PeerId, up: bool| {
            let key = *tunnel.device().peer(clock::now(), peer)?.public_key;
            Some(Message::Peer { key, up })
        };
        let message = match notice {
            Notice::Network => Some(Message::Network),
            Notice::Tunnel(tunnel::Event::PeerUp { peer: id }) => peer(id, true),
            Notice::Tunnel(tunnel::Event::PeerDown { peer: id }) => peer(id, false),
            Notice::Tunnel(_) => None,
        };
        if let Some(message) = message {
            // A manager that cannot keep up asks the tunnel by itself.
            outbox.post(message);
        }
    })
}

fn overlay_address(
    host: OverlayHost,
    overlay: Ipv6Net,
    key: &PublicKey,
    interfaces: &Interfaces,
) -> Result<Ipv6Addr, StartError> {
    match host {
        OverlayHost::Key => Ok(overlay::address_from_key(overlay, key)),
        OverlayHost::Mac => {
            let mac = interfaces.physical_mac().ok_or(StartError::NoHardwareAddress)?;
            overlay::address_from_mac(overlay, mac).map_err(|_| StartError::NoHardwareAddress)
        }
    }
}

/// What the machine calls itself.
fn machine_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn entropy<const N: usize>() -> Result<[u8; N], StartError> {
    clock::entropy().map_err(system("reading randomness"))
}

fn system(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::System { what, source }
}
