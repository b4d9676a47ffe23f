//! Another configuration for a running node.

use span_nat::transport::udp::BindError;

use super::error::{ReconfigureError, Stopped};
use super::manager::Manager;
use super::sources::{self, Origin};
use super::start::machine_name;
use crate::config::{Cluster, Discovery, NodeConfig};

impl Manager {
    /// See [`Node::reconfigure`](super::Node::reconfigure).
    pub(super) fn reconfigure(&mut self, mut new: NodeConfig) -> Result<(), ReconfigureError> {
        // As at the start.
        new.routes &= self.me.routable;
        let cluster = refuse_fixed(&self.me.config, &new)?;
        let old = &self.me.config;
        if new.mtu != old.mtu {
            if self.routing.is_none() {
                return Err(fixed("mtu", "the device was brought along; change it there and call `wake`"));
            }
            if new.mtu < NodeConfig::LEAST_MTU {
                return Err(invalid("mtu", "must be at least 1280, which IPv6 needs"));
            }
        }
        let wanted = sources::named(&new.discovery);
        let given = self.sources.iter().any(|source| source.origin == Origin::Given);
        if wanted.is_empty() && !given {
            return Err(invalid("discovery", "names no source of members, and none was given"));
        }
        let present = self.sources.iter().map(|source| source.origin.clone()).collect();
        let added = sources::configured(&new, &cluster, &self.me.node_id, &present)
            .map_err(ReconfigureError::Source)?;
        // The last that can fail; from here on everything is done.
        if new.listen_port != old.listen_port {
            self.me.port = self.move_to_port(new.listen_port)?;
        }
        for tier in added {
            self.add_source(tier);
        }
        self.remove_sources(|source| source.origin != Origin::Given && !wanted.contains(&source.origin));
        if let Some(routing) = &mut self.routing {
            routing.set_mtu(new.mtu);
        }
        let suites = new.cipher.suites();
        if suites != self.me.suites {
            self.me.suites = suites;
            // Without the packet thread the node is ending anyway.
            let _ = self.packets.post(move |core| core.tunnel.device_mut().accept_suites(suites));
        }
        (self.me.hostname, self.me.nodename) = new.names(&machine_name());
        self.me.config = new;
        self.todo.look = true;
        self.todo.plan = true;
        self.todo.reconcile = true;
        Ok(())
    }

    /// The port it got.
    fn move_to_port(&self, port: u16) -> Result<u16, ReconfigureError> {
        let moved = self.packets.ask(move |core| {
            core.rebind(port)?;
            Ok::<_, BindError>(core.transport.local_port())
        });
        match moved.map_err(Stopped::from)? {
            Ok(port) => Ok(port),
            Err(BindError::Given | BindError::Unsupported) => {
                Err(fixed("listen_port", "the sockets were brought along and stay on their port"))
            }
            Err(error) => Err(ReconfigureError::Port(error)),
        }
    }
}

/// Refuses what a running node cannot change, and returns the cluster, which is among it.
fn refuse_fixed(old: &NodeConfig, new: &NodeConfig) -> Result<Cluster, ReconfigureError> {
    // Every field is named, so that a new one is not forgotten here.
    let NodeConfig {
        cluster,
        name: _,
        hostname: _,
        machine_type: _,
        interface,
        mtu: _,
        listen_port: _,
        cipher: _,
        threads,
        overlay_host,
        routes,
        state_dir,
        control_socket,
        addresses: _,
        advertised_networks: _,
        exclude_advertised_networks: _,
        advertise_kubernetes_networks: _,
        extra_endpoints: _,
        endpoint_filters: _,
        peer_endpoint_filters: _,
        allow_down_peer_bypass: _,
        harvest_extra_endpoints: _,
        discovery: Discovery { services: _, ca, bypass_mesh, serve, members: _ },
        warnings: _,
        ignored: _,
    } = new;
    const NEW_NODE: &str = "start another node for that";
    const AT_START: &str = "it is used when the node starts";
    let same = |one: &Cluster, other: &Cluster| {
        one.id == other.id && one.secret.as_bytes() == other.secret.as_bytes()
    };
    let cluster = match (&old.cluster, cluster) {
        (Some(old), Some(new)) if same(old, new) => new.clone(),
        (_, _) => return Err(fixed("cluster", NEW_NODE)),
    };
    let fields = [
        ("interface", *interface == old.interface, NEW_NODE),
        ("overlay_host", *overlay_host == old.overlay_host, NEW_NODE),
        ("threads", *threads == old.threads, AT_START),
        ("routes", *routes == old.routes, AT_START),
        ("state_dir", *state_dir == old.state_dir, AT_START),
        ("control_socket", *control_socket == old.control_socket, AT_START),
        ("discovery.ca", *ca == old.discovery.ca, AT_START),
        ("discovery.bypass_mesh", *bypass_mesh == old.discovery.bypass_mesh, AT_START),
        ("discovery.serve", *serve == old.discovery.serve, AT_START),
    ];
    match fields.into_iter().find(|(_, same, _)| !same) {
        Some((field, _, why)) => Err(fixed(field, why)),
        None => Ok(cluster),
    }
}

fn fixed(field: &'static str, why: &'static str) -> ReconfigureError {
    ReconfigureError::Fixed { field, why }
}

fn invalid(field: &'static str, why: &'static str) -> ReconfigureError {
    ReconfigureError::Invalid { field, why }
}
