//! Putting a node together, part by part, in the order in which the parts can fail.

use std::io;
use std::net::Ipv6Addr;
use std::num::NonZeroU8;
use std::sync::{Arc, Mutex};

use ipnet::Ipv6Net;
use span_core::key::PublicKey;
use span_core::mesh::overlay;
use span_core::tunnel::{self, Tunnel};
use span_core::wireguard::PeerId;
use span_discovery::cache::Cache;
use span_nat::monitor::{Interfaces, Monitor};
use span_nat::transport::Transport;
use span_nat::transport::udp::{self, Udp};
use span_tun::device::{Device, Tun};
#[cfg(feature = "netstack")]
use span_tun::netstack;
use zeroize::Zeroizing;

#[cfg(feature = "netstack")]
use super::builder::Tune;
use super::builder::{Builder, Inner, Outer};
use super::control_plane::ControlPlane;
use super::error::{NodeError, StartError};
use super::events::Queue;
use super::life::{Life, Role};
use super::manager::{Manager, Message, Parts};
use super::me::Me;
use super::routing::{self, MARK, Routing};
use super::runtime::{self, Outbox};
use super::saved::Saved;
#[cfg(feature = "service")]
use super::service::{self, Serving};
use super::sources::{self, Origin};
use super::{Node, answers, control, thread};
use crate::clock::{self, Clock};
use crate::config::{NodeConfig, OverlayHost};
use crate::packet::{self, Notice, Notify, PacketLoop};
use crate::state::State;

/// Starts what the builder describes.
pub(super) fn start(builder: Builder) -> Result<Node, StartError> {
    let Builder { mut config, tiers, inner, outer, identity, control, clock, own_clock, events } = builder;
    // What is routed into the mesh are packets of the host. Without them there is nothing to keep the node's own
    // apart from, and no need for the privilege to mark these. Where the routes are another's affair, they may know
    // the mark, if there can be one.
    let routable = match inner {
        Inner::Create => true,
        _ => inner.is_of_the_host() && routing::may_mark(),
    };
    config.routes &= routable;
    let cluster = config.cluster.clone().ok_or(StartError::NoCluster)?;
    let (identity, mut state) = match identity {
        Some(identity) => (identity, None),
        None => {
            let random = Zeroizing::new(entropy()?);
            let open = if own_clock { State::open_with_own_clock } else { State::open };
            let state = open(&config.state_dir, &random)?;
            (state.identity().clone(), Some(state))
        }
    };
    let public_key = identity.private_key.public_key();

    let mut tiers: Vec<_> = tiers.into_iter().map(|tier| (Origin::Given, tier)).collect();
    let configured = sources::configured(&config, &cluster, &identity.node_id, &Default::default());
    tiers.splice(..0, configured.map_err(StartError::Source)?);
    if tiers.is_empty() {
        return Err(StartError::NoSource);
    }
    #[cfg(feature = "service")]
    let server = service::bind(&config, state.as_ref())?;

    let transport = open_transport(outer, &config)?;
    if transport.descriptors().is_empty() {
        return Err(StartError::NotPollable("transport"));
    }

    // What happens to the host's network matters to whoever is reached at its addresses.
    let of_the_host = transport.local_port() != 0 || inner.is_of_the_host();
    let watch = || of_the_host.then(Monitor::new).transpose().map_err(system("opening a netlink socket"));
    let mut monitor = watch()?;
    let interfaces = monitor.as_mut().map(Monitor::snapshot).transpose();
    let interfaces = interfaces.map_err(system("listing the host's interfaces"))?.unwrap_or_default();
    let overlay = overlay::prefix(cluster.id.as_str());
    let address = overlay_address(config.overlay_host, overlay, &public_key, &interfaces)?;
    let managed = matches!(inner, Inner::Create);
    #[cfg(feature = "netstack")]
    let mut netstack = None;
    let device: Box<dyn Device> = match inner {
        Inner::Create => {
            let tun = Tun::builder(config.interface.as_str()).mtu(config.mtu);
            Box::new(tun.many_queues(several(&config)).open()?)
        }
        Inner::Device(device) => device,
        Inner::Descriptor(fd) => Box::new(Tun::from_fd(fd)?),
        #[cfg(feature = "netstack")]
        Inner::Netstack(tune) => {
            let (stack, device) = open_netstack(address, tune, &config, &clock)?;
            netstack = Some(stack);
            Box::new(device)
        }
    };
    if device.descriptor().is_none() {
        return Err(StartError::NotPollable("device"));
    }
    let routing = match managed {
        true => {
            let mut routing = Routing::new(device.index(), address, overlay, &config)?;
            routing.set_up()?;
            Some(routing)
        }
        false => None,
    };

    let control = control.then(|| {
        let path = config.control_socket();
        control::Control::bind(&path).map_err(|source| StartError::Control { path, source })
    });
    let control = control.transpose()?;

    let (now, wall) = (clock.now(), clock.unix());
    let unix = match &mut state {
        Some(state) => state.start_clock(now, wall)?,
        None => wall,
    };
    let mut tunnel = Tunnel::new(Some(identity.private_key), now, unix, *Zeroizing::new(entropy()?));
    let suites = config.cipher.suites();
    let threads = config.threads;
    tunnel.device_mut().accept_suites(suites);
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
        interface: device.index(),
        routable,
        device: device.name().to_owned(),
        config,
    };

    let (outbox, inbox) = runtime::inbox();
    let events = Queue::new(events).map_err(system("making a descriptor for events"))?;
    let parts = packet::Parts { tunnel, tun: device, transport, clock: Arc::clone(&clock), threads };
    let notify = notify(outbox.clone(), Arc::clone(&clock), Arc::clone(&events));
    let (packets, handle) =
        PacketLoop::new(parts, watch()?, notify).map_err(system("setting up the packet thread"))?;
    let cache = |state: &State| Cache::new(&state.file("members.cache"), &cluster.id, &cluster.secret);
    let saved = Saved::load(state.as_ref().map(cache));
    let manager = Manager::new(Parts {
        me,
        tiers,
        packets: handle.clone(),
        inbox,
        clock,
        events: Arc::clone(&events),
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

    let stopper = control.as_ref().map(control::Control::stopper).transpose();
    let stopper = stopper.map_err(system("making the control socket"))?;
    let life = Life::new(outbox.clone(), handle.clone(), stopper, Arc::clone(&events));
    let node = Node {
        life,
        packets: handle,
        manager: outbox,
        events,
        #[cfg(feature = "netstack")]
        netstack,
        threads: Mutex::default(),
    };
    let started = spawn(&node, packets, manage, control);
    node.life.started();
    started.map(|()| node)
}

/// Starts the threads. What was started ends again with the node if a later one cannot be.
fn spawn(
    node: &Node,
    packets: PacketLoop,
    manage: impl FnOnce() -> io::Result<Result<(), NodeError>> + Send + 'static,
    control: Option<control::Control>,
) -> Result<(), StartError> {
    let mut threads = node.threads();
    let mut start = |role, body: Box<dyn FnOnce() -> Result<(), NodeError> + Send>| {
        let thread = thread::start(role, &node.life, body).map_err(system("starting a thread"))?;
        threads.push(thread);
        Ok::<_, StartError>(())
    };
    start(Role::Manager, Box::new(move || manage().map_err(NodeError::Runtime)?))?;
    start(Role::Packets, Box::new(move || packets.run().map_err(NodeError::Packets)))?;
    if let Some(control) = control {
        let outbox = node.manager.clone();
        let answer = move || {
            control.serve(|question| answers::answer(&outbox, question));
            Ok(())
        };
        start(Role::Control, Box::new(answer))?;
    }
    Ok(())
}

/// Whether several threads are to carry packets.
fn several(config: &NodeConfig) -> bool {
    config.threads > NonZeroU8::MIN
}

fn open_transport(outer: Outer, config: &NodeConfig) -> Result<Box<dyn Transport>, StartError> {
    let mark = if config.routes { MARK } else { 0 };
    let udp =
        udp::Config { port: config.listen_port, mark, shared: several(config), ..udp::Config::default() };
    Ok(match outer {
        Outer::Bind => Box::new(Udp::bind(udp)?),
        Outer::Sockets { ipv4, ipv6 } => Box::new(Udp::from_sockets(ipv4, ipv6, udp)?),
        Outer::Transport(transport) => transport,
    })
}

#[cfg(feature = "netstack")]
fn open_netstack(
    address: Ipv6Addr,
    tune: Tune,
    config: &NodeConfig,
    clock: &Arc<dyn Clock>,
) -> Result<(netstack::Netstack, netstack::NetstackDevice), StartError> {
    let addresses = std::iter::once(address.into()).chain(config.addresses.iter().copied());
    let mut stack = netstack::Config::new(addresses);
    stack.mtu = config.mtu;
    let clock = Arc::clone(clock);
    stack.clock = netstack::Clock::new(move || clock.now());
    tune(&mut stack);
    netstack::Netstack::new(stack).map_err(system("making the network stack"))
}

/// Tells the manager what concerns it of what happens on the packet thread.
fn notify(outbox: Outbox<Message>, clock: Arc<dyn Clock>, events: Arc<Queue>) -> Notify {
    Box::new(move |tunnel, notice| {
        let key = |peer: PeerId| Some(*tunnel.device().peer(clock.now(), peer)?.public_key);
        let message = match notice {
            Notice::Network => Some(Message::Network),
            Notice::Tunnel(tunnel::Event::PeerUp { peer }) => {
                key(peer).map(|key| Message::Peer { key, up: true })
            }
            Notice::Tunnel(tunnel::Event::PeerDown { peer }) => {
                key(peer).map(|key| Message::Peer { key, up: false })
            }
            Notice::Tunnel(tunnel::Event::PathChanged { peer, path, .. }) => {
                key(peer).map(|key| Message::Path { key, path })
            }
            Notice::Tunnel(_) => None,
        };
        // A manager that cannot keep up asks the tunnel by itself who is up.
        let told_later = matches!(message, Some(Message::Peer { .. } | Message::Network));
        if let Some(message) = message
            && !outbox.post(message)
            && !told_later
        {
            events.missed(1);
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
pub(super) fn machine_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn entropy<const N: usize>() -> Result<[u8; N], StartError> {
    clock::entropy().map_err(system("reading randomness"))
}

fn system(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::System { what, source }
}
