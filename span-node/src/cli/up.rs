//! `span up`.

#[cfg(feature = "proxies")]
use std::net::TcpListener;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
#[cfg(feature = "proxies")]
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use span_discovery::url::ServiceUrl;
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::args::Up;
use super::signals;
use crate::config::{self, NodeConfig};
use crate::node::Node;
#[cfg(feature = "proxies")]
use crate::proxy::Proxies;
use crate::token::Token;

pub(super) fn run(args: &Up) -> Result<ExitCode> {
    let config = configuration(args)?;
    for warning in &config.warnings {
        warn!("{warning}");
    }
    if !config.ignored.is_empty() {
        info!(parts = config.ignored.join(", "), "not for Span, left alone");
    }
    let node = start(config, args)?;
    let stopper = node.stopper();
    signals::on_end(move || stopper.stop()).context("listening for signals")?;
    if let Ok(status) = node.status() {
        info!(
            interface = status.node.interface,
            address = %status.node.overlay_address,
            port = status.node.listen_port,
            "up; `span peers` shows the others"
        );
    }
    #[cfg(feature = "proxies")]
    let _proxies = serve(&node, args)?;
    node.wait()?;
    info!("down");
    Ok(ExitCode::SUCCESS)
}

#[cfg(feature = "proxies")]
fn start(mut config: NodeConfig, args: &Up) -> Result<Arc<Node>> {
    let start = "cannot start the node";
    if !args.netstack {
        return Ok(Arc::new(Node::start(config).context(start)?));
    }
    if !rustix::process::geteuid().is_root() {
        // Where only root may write, this user cannot keep anything.
        if config.state_dir == NodeConfig::default().state_dir {
            config.state_dir = own_state_directory()
                .context("there is no HOME to keep the identity in: name a --state-dir")?;
        }
        if config.control_socket.is_none() {
            config.control_socket = Some(config.state_dir.join(format!("{}.sock", config.interface)));
        }
    }
    let socket = config.control_socket();
    let node = Node::builder(config).netstack().start().context(start)?;
    info!("`span status --socket {}` shows this node", socket.display());
    Ok(Arc::new(node))
}

#[cfg(not(feature = "proxies"))]
fn start(config: NodeConfig, _args: &Up) -> Result<Arc<Node>> {
    Ok(Arc::new(Node::start(config).context("cannot start the node")?))
}

/// Where programs of this user keep their state (XDG Base Directory Specification).
#[cfg(feature = "proxies")]
fn own_state_directory() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
    Some(state?.join("span"))
}

/// Serves what programs of this machine reach the mesh through.
#[cfg(feature = "proxies")]
fn serve(node: &Arc<Node>, args: &Up) -> Result<Option<Proxies>> {
    if !args.netstack {
        return Ok(None);
    }
    let proxies = Proxies::over(Arc::clone(node)).context("cannot start the thread for connections")?;
    let listen = |at: SocketAddr| TcpListener::bind(at).with_context(|| format!("cannot listen at {at}"));
    if let Some(at) = args.socks5 {
        if !at.ip().is_loopback() {
            warn!(address = %at, "SOCKS5 asks nobody who they are: whoever reaches it reaches the mesh");
        }
        proxies.serve_socks(listen(at)?)?;
    }
    for (at, to) in &args.forward {
        proxies.forward(listen(*at)?, to.clone())?;
    }
    for inward in &args.listen_forward {
        proxies.forward_inward(*inward).context("cannot listen in the mesh")?;
    }
    Ok(Some(proxies))
}

/// The configuration file with the token and the options over it.
fn configuration(args: &Up) -> Result<NodeConfig> {
    let mut config = match &args.config {
        Some(file) => config::load(file)?,
        None => NodeConfig::default(),
    };
    if let Some(token) = token(args)? {
        config.join(&token);
    }
    if let Some(interface) = &args.interface {
        config.interface = interface.parse()?;
    }
    set(&mut config.listen_port, args.listen_port);
    set(&mut config.mtu, args.mtu);
    set(&mut config.cipher, args.cipher.as_deref().map(str::parse).transpose()?);
    set(&mut config.threads, args.threads);
    set(&mut config.state_dir, args.state_dir.clone());
    if args.name.is_some() {
        config.name.clone_from(&args.name);
    }
    config.advertised_networks.extend(&args.advertise);
    config.extra_endpoints.extend(&args.endpoints);
    config.allow_down_peer_bypass |= args.allow_down_peer_bypass;
    config.harvest_extra_endpoints |= args.harvest_extra_endpoints;
    config.routes &= !args.no_routes;
    let discovery = &mut config.discovery;
    for url in &args.discovery {
        discovery.services.push(url.parse().with_context(|| format!("--discovery {url}"))?);
    }
    if args.discovery_ca.is_some() {
        discovery.ca.clone_from(&args.discovery_ca);
    }
    if args.members.is_some() {
        discovery.members.clone_from(&args.members);
    }
    discovery.serve = args.serve_discovery.or(discovery.serve);
    if let Some(served) = discovery.serve {
        join_own_service(&mut discovery.services, served)?;
    }
    Ok(config)
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn token(args: &Up) -> Result<Option<Token>> {
    let text = match (&args.token, &args.token_file) {
        (Some(token), _) => Zeroizing::new(token.clone()),
        (None, Some(file)) => read(file)?,
        (None, None) => return Ok(None),
    };
    Ok(Some(text.trim().parse()?))
}

fn read(file: &Path) -> Result<Zeroizing<String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Zeroizing::new(text))
}

/// A node that serves discovery is a member of what it serves. One of the services it was told to use is taken
/// for its own if it has the same port: a token usually names it by an address that others can reach.
fn join_own_service(services: &mut Vec<ServiceUrl>, served: SocketAddr) -> Result<()> {
    if services.iter().all(|service| service.port() != served.port()) {
        let ip = if served.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { served.ip() };
        services.push(format!("http://{}", SocketAddr::new(ip, served.port())).parse()?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_served_service_is_joined_once() {
        let served: SocketAddr = "[::]:3000".parse().unwrap();
        let mut services = Vec::new();
        join_own_service(&mut services, served).unwrap();
        assert_eq!(services, ["http://127.0.0.1:3000".parse().unwrap()]);
        let named: Vec<ServiceUrl> = vec!["http://192.0.2.10:3000".parse().unwrap()];
        services.clone_from(&named);
        join_own_service(&mut services, served).unwrap();
        assert_eq!(services, named);
    }
}
