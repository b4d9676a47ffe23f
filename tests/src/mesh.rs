//! A few hosts on a switch, a discovery service beside them, `span up` on each.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use tempfile::TempDir;

use crate::namespace::{Namespace, SOON, Switch};
use crate::process::Process;
use crate::traffic::first_ping;
use crate::{eventually, holds, programs};

/// Where the discovery service listens.
pub const DISCOVERY: &str = "10.5.0.254:3000";

/// The id and secret of a cluster, and the token that holds both.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// What `span up --token` takes.
    pub token: String,
    /// The cluster's id, as text.
    pub id: String,
    /// The cluster's secret, base64.
    pub secret: String,
}

impl Cluster {
    /// Makes one with `span cluster new`, its token naming these discovery services.
    ///
    /// # Panics
    /// If the program does not print what it should.
    #[must_use]
    pub fn new(discovery: &[&str]) -> Self {
        let mut command = std::process::Command::new(programs::span());
        command.args(["cluster", "new", "--json"]);
        for url in discovery {
            command.args(["--discovery", url]);
        }
        let output = command.output().expect("span");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let field = |name: &str| printed[name].as_str().expect(name).to_owned();
        Self { token: field("token"), id: field("id"), secret: field("secret") }
    }

    /// The part of a Talos machine configuration that says the same.
    #[must_use]
    pub fn talos_fragment(&self, discovery: &str) -> String {
        format!(
            "machine:\n  network:\n    kubespan:\n      enabled: true\n\
             cluster:\n  id: {}\n  secret: {}\n  discovery:\n    enabled: true\n    registries:\n\
             \x20     kubernetes:\n        disabled: true\n      service:\n        endpoint: {discovery}\n",
            self.id, self.secret
        )
    }
}

/// A host that can be a node of the mesh: `10.5.0.N` and `fd05::N` on `eth0`, and the network `10.(50+N).0.0/24`
/// on `lan0` behind it.
#[derive(Debug)]
pub struct Node {
    // Ends before the namespace it is in.
    process: Option<Process>,
    state: TempDir,
    number: u8,
    /// The host.
    pub host: Namespace,
}

impl Node {
    /// A host on `switch`, not started.
    #[must_use]
    pub fn new(switch: &Switch, number: u8) -> Self {
        let host = Namespace::new(&format!("n{number}"));
        switch.plug(&host, &[&format!("10.5.0.{number}/24"), &format!("fd05::{number}/64")]);
        // Forwarding first: it resets what IPv6 has learnt.
        host.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        host.ip(&format!(
            "route add default via 10.5.0.254\nlink add lan0 type bridge\nlink set lan0 up\n\
             addr add 10.{}.0.1/24 dev lan0\n",
            50 + number
        ));
        let state = tempfile::tempdir().expect("a temporary directory");
        Self { process: None, state, number, host }
    }

    /// Starts `span up` with these arguments, a name, a directory for its state and its network to advertise.
    pub fn start(&mut self, arguments: &[&str]) {
        let name = format!("n{}", self.number);
        let network = self.network();
        let state = self.state_dir().to_str().expect("a path in UTF-8").to_owned();
        let fixed = ["up", "--name", &name, "--state-dir", &state, "--advertise", &network];
        let all = fixed.into_iter().chain(arguments.iter().copied());
        self.process = Some(self.host.spawn_with(programs::span(), all, &[("SPAN_LOG", "debug")]));
    }

    /// The same, and waits until it has its address in the mesh.
    pub fn up(&mut self, arguments: &[&str]) {
        self.start(arguments);
        self.wait_for_overlay();
    }

    /// Waits until it has its address in the mesh.
    pub fn wait_for_overlay(&mut self) {
        let what = format!("{} has its address in the mesh", self.host.name());
        eventually(SOON, &what, || {
            let process = self.process.as_mut().expect("started");
            assert!(process.runs(), "span up ended: {}", process.err());
            holds(self.find_overlay().is_some())
        });
    }

    /// The running program.
    ///
    /// # Panics
    /// If it was not started.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("started")
    }

    /// Stops it with SIGTERM.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.take().expect("started").terminate(SOON)
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.take().expect("started").kill();
    }

    /// Where it keeps its identity.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.state.path().join("state")
    }

    /// A directory of its own for files of the test.
    #[must_use]
    pub fn files(&self) -> &Path {
        self.state.path()
    }

    /// Its address on the switch.
    #[must_use]
    pub fn address(&self) -> String {
        format!("10.5.0.{}", self.number)
    }

    /// The same in IPv6.
    #[must_use]
    pub fn address6(&self) -> String {
        format!("fd05::{}", self.number)
    }

    /// The network behind it.
    #[must_use]
    pub fn network(&self) -> String {
        format!("10.{}.0.0/24", 50 + self.number)
    }

    /// Its own address in that network.
    #[must_use]
    pub fn behind(&self) -> String {
        format!("10.{}.0.1", 50 + self.number)
    }

    /// Its address in the mesh.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn overlay(&self) -> String {
        self.find_overlay().expect("an address on span0")
    }

    fn find_overlay(&self) -> Option<String> {
        let shown = self.host.attempt("ip -6 -o addr show dev span0 scope global").ok()?;
        let prefix = shown.split_whitespace().skip_while(|&word| word != "inet6").nth(1)?;
        Some(prefix.split('/').next()?.to_owned())
    }

    /// What `span COMMAND --json` says about it.
    ///
    /// # Panics
    /// If it is not JSON.
    #[must_use]
    pub fn ask(&self, command: &str) -> serde_json::Value {
        let text = self.host.run(&format!("{} {command} --json", programs::span()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("span {command}: {error}: {text}"))
    }
}

/// A whole mesh.
#[derive(Debug)]
pub struct Mesh {
    /// The nodes, from number 1.
    pub nodes: Vec<Node>,
    /// The discovery service, while it runs.
    pub discovery: Option<Process>,
    /// The cluster.
    pub cluster: Cluster,
    /// What they are plugged into. Its own address is [`DISCOVERY`]'s.
    pub switch: Switch,
}

impl Mesh {
    /// `size` hosts and a running discovery service; no node started.
    #[must_use]
    pub fn new(size: u8) -> Self {
        let mut mesh = Self::without_discovery(size);
        mesh.start_discovery();
        mesh
    }

    /// `size` hosts.
    #[must_use]
    pub fn without_discovery(size: u8) -> Self {
        let switch = Switch::new();
        switch.host().ip("addr add 10.5.0.254/24 dev br0\naddr add fd05::254/64 dev br0\n");
        let nodes = (1..=size).map(|number| Node::new(&switch, number)).collect();
        let cluster = Cluster::new(&[&format!("http://{DISCOVERY}")]);
        Self { nodes, discovery: None, cluster, switch }
    }

    /// Starts `span discovery` on the switch.
    pub fn start_discovery(&mut self) {
        let arguments = ["discovery", "--listen", DISCOVERY];
        self.discovery = Some(self.switch.host().spawn(programs::span(), arguments));
        listens(self.switch.host(), DISCOVERY);
    }

    /// Starts every node from the token and waits until each reaches each.
    pub fn up(&mut self) {
        let token = self.cluster.token.clone();
        for node in &mut self.nodes {
            node.up(&["--token", &token]);
        }
        self.meets();
    }

    /// Waits until each node reaches each other by its address in the mesh.
    pub fn meets(&self) {
        self.meets_within(SOON);
    }

    /// The same where it may take longer.
    pub fn meets_within(&self, limit: Duration) {
        for from in &self.nodes {
            for to in &self.nodes {
                if from.number != to.number {
                    first_ping(&from.host, &to.overlay(), limit);
                }
            }
        }
    }
}

/// Waits until something listens on a TCP port of a namespace.
pub fn listens(namespace: &Namespace, address: &str) {
    let address: SocketAddr = address.parse().expect("an address with a port");
    let what = format!("something listens on {address}");
    eventually(SOON, &what, || {
        let connected = namespace.inside(|| TcpStream::connect_timeout(&address, Duration::from_secs(1)));
        holds(connected.is_ok())
    });
}
