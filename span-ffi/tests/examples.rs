//! The examples, as their readers run them: programs of their own, and here nodes that talk to them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod build;

use std::io::{BufRead as _, BufReader, ErrorKind, Lines, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use build::{Program, Way};
use span_node::cipher::Cipher;
use span_node::state::Identity;
use span_node::token::Token;
use span_node::{Event, Node, NodeConfig};
use span_tun::netstack::{Config, Netstack};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn two_tunnels() {
    Program::new("../examples/c/two_tunnels.c", "libspan.a").prove();
}

#[test]
fn two_nodes() {
    Program::with_nodes("../examples/c/two_nodes.c", "libspan.a").without_definedness().prove();
}

#[test]
fn a_node_tells_what_happens_and_ends_when_asked() {
    let program = Program::with_nodes("../examples/c/node.c", "libspan.a");
    for way in Program::ways() {
        let mesh = Mesh::new();
        let mut running = mesh.run(&program, way, &["-u", "-s", "1"]);
        running.wait_for(|line| line == "other is up");
        let address = mesh.wait_for("example");
        mesh.netstack.ping(address).unwrap().timeout(PATIENCE).send().unwrap();
        let of_itself = |line: &str| line.starts_with('{') && line.contains("\"name\":\"other\"");
        running.wait_for(of_itself);
        assert_eq!(running.end(libc::SIGTERM).as_deref(), Some("stopped"), "{way:?}");

        // Without a timer, it says how it is when it is asked.
        let mut running = mesh.run(&program, way, &["-u"]);
        running.wait_for(|line| line == "other is up");
        running.signal(libc::SIGHUP);
        running.wait_for(of_itself);
        assert_eq!(running.end(libc::SIGINT).as_deref(), Some("stopped"), "{way:?}");
    }
}

#[test]
fn an_echo_server_serves_many_at_once_and_keeps_nothing() {
    let program = Program::with_nodes("../examples/c/echo_server.c", "libspan.a");
    for way in Program::ways() {
        // What valgrind runs is so slow that nodes take it for lost.
        let (clients, bytes) = if way == Way::Valgrind { (3, 32 << 10) } else { (8, 512 << 10) };
        let mesh = Mesh::new();
        let mut running = mesh.run(&program, way, &["7"]);
        running.wait_for(|line| line.starts_with("echo on [fd") && line.ends_with("]:7"));
        let server = SocketAddr::new(mesh.wait_for("example"), 7);
        let before = running.descriptors();
        // One that never reads is no hindrance to the others, nor are those that go without a word.
        let mut greedy = mesh.netstack.connect_timeout(server, PATIENCE).unwrap();
        fill(&mut greedy);
        thread::scope(|scope| {
            for client in 0..clients {
                let netstack = &mesh.netstack;
                scope.spawn(move || echo(netstack, server, client, bytes));
                let gone = netstack.connect_timeout(server, PATIENCE).unwrap();
                (&gone).write_all(b"unread").unwrap();
            }
        });
        assert!(running.descriptors() > before, "that of the greedy client");
        drop(greedy);
        let deadline = Instant::now() + PATIENCE;
        while running.descriptors() != before {
            assert!(
                Instant::now() < deadline,
                "{way:?}: {} descriptors, {before} before",
                running.descriptors()
            );
            thread::sleep(Duration::from_millis(20));
        }
        // It ends well with clients there, too.
        let left = mesh.netstack.connect_timeout(server, PATIENCE).unwrap();
        (&left).write_all(b"x").unwrap();
        assert_eq!((&left).read(&mut [0; 2]).unwrap(), 1);
        assert_eq!(running.end(libc::SIGTERM), None, "{way:?}");
    }
}

/// Sends while it reads, ends its half, and reads to the end.
fn echo(netstack: &Netstack, server: SocketAddr, seed: usize, bytes: usize) {
    let stream = netstack.connect_timeout(server, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let sent: Vec<u8> = (0..bytes).map(|at| (at * (2 * seed + 3) + at / 251) as u8).collect();
    let mut received = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        (&stream).read_to_end(&mut received).unwrap();
    });
    assert!(received == sent, "client {seed} got something else back");
}

/// Writes until there is no more room on the whole way there and back.
fn fill(stream: &mut span_tun::netstack::TcpStream) {
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let error = stream.write_all(&vec![7; 64 << 20]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
}

/// A node of this process, which serves discovery, and what others need to join it.
struct Mesh {
    token: Token,
    node: Node,
    netstack: Netstack,
    directory: tempfile::TempDir,
}

impl Mesh {
    fn new() -> Self {
        let service = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let random = span_node::clock::entropy().unwrap();
        let url = format!("http://{service}").parse().unwrap();
        let token = Token::generate(&random, vec![url]).unwrap();
        let identity = Identity::generate().unwrap();
        let prefix = span_core::mesh::overlay::prefix(token.id().as_str());
        let address = span_core::mesh::overlay::address_from_key(prefix, &identity.private_key.public_key());
        let (netstack, device) = Netstack::new(Config::new([IpAddr::from(address)])).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut config = NodeConfig::from_token(&token);
        config.name = Some("other".into());
        config.cipher = Cipher::ChaCha20Poly1305;
        config.extra_endpoints.push(socket.local_addr().unwrap());
        config.discovery.serve = Some(service);
        config.discovery.bypass_mesh = false;
        let node = Node::builder(config)
            .device(Box::new(device))
            .sockets(Some(socket), None)
            .identity(identity)
            .without_control_socket()
            .start()
            .unwrap();
        Mesh { token, node, netstack, directory: tempfile::tempdir().unwrap() }
    }

    /// Starts a program whose node joins the mesh: one half of what it needs stands in a file, the other is a token.
    fn run(&self, program: &Program, way: Way, arguments: &[&str]) -> Running {
        let file: PathBuf = self.directory.path().join("node.yaml");
        // It finds this node, and this node answers: it need not be found itself.
        let text = "apiVersion: span/v1\nkind: NodeConfig\nname: example\nlistenPort: 0\n\
             cipher: chacha20-poly1305\ndiscovery:\n  bypassMesh: false\n";
        fs::write(&file, text).unwrap();
        let mut command = program.command(way);
        command.args(arguments).arg(file).arg(self.token.encode().as_str()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, lines, way }
    }

    /// Waits until the tunnel to the node of this name works, and returns its address.
    fn wait_for(&self, name: &str) -> IpAddr {
        let (events, deadline) = (self.node.events(), Instant::now() + PATIENCE);
        loop {
            let event = events.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap();
            if let Event::PeerUp(peer) = event
                && peer.name == name
            {
                let prefix = span_core::mesh::overlay::prefix(self.token.id().as_str());
                return span_core::mesh::overlay::address_from_key(prefix, &peer.public_key).into();
            }
        }
    }
}

/// A program that runs.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    way: Way,
}

impl Running {
    /// Waits until it prints such a line.
    fn wait_for(&mut self, wanted: impl Fn(&str) -> bool) {
        let printed: io::Result<Vec<String>> =
            self.lines.by_ref().take_while(|line| !line.as_ref().is_ok_and(|line| wanted(line))).collect();
        let printed = printed.unwrap();
        assert!(self.child.try_wait().unwrap().is_none(), "{:?}: it has ended: {printed:#?}", self.way);
    }

    fn signal(&self, signal: libc::c_int) {
        // SAFETY: the process is our child, and was not waited for.
        assert_eq!(unsafe { libc::kill(self.child.id() as libc::pid_t, signal) }, 0);
    }

    /// Asks it to end, which must go well, and returns the last line it still printed.
    fn end(mut self, signal: libc::c_int) -> Option<String> {
        self.signal(signal);
        let last = self.lines.by_ref().map(Result::unwrap).last();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{:?}: {status}, and at last {last:?}", self.way);
        last
    }

    /// How many descriptors it has.
    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind; after `end` there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
