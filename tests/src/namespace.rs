//! Network namespaces and the wires between them.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::Process;
use crate::{eventually, holds};

/// A network namespace with a `/run` of its own, gone when this is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    holder: Child,
}

impl Namespace {
    /// Makes one, its loopback up. `name` is for messages only.
    ///
    /// # Panics
    /// Without the right to make namespaces: see [`crate::ready`].
    #[must_use]
    pub fn new(name: &str) -> Self {
        // `cat` ends when this process does, whatever ends it: the kernel closes the pipe.
        // Duplicate address detection would hold every IPv6 address back for a second.
        let script = "mount -t tmpfs tmpfs /run && mkdir -p /run/lock \
            && { mount -t sysfs sysfs /sys || true; } 2>/dev/null \
            && echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad \
            && echo 0 >/proc/sys/net/ipv6/conf/all/accept_dad \
            && ip link set lo up && echo ready && exec cat";
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare, of util-linux");
        let mut said = [0; 6];
        let outcome = holder.stdout.as_mut().expect("piped").read_exact(&mut said);
        assert!(outcome.is_ok() && &said == b"ready\n", "namespace {name}: not allowed here?");
        Self { name: name.to_owned(), holder }
    }

    /// The name it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A process in it, as `ip link set … netns PID` wants it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// A command that will run in it and die with the thread that starts it.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.pid()));
        command.args(["--net", "--mount", "--", "setpriv", "--pdeathsig", "KILL", "--", program]);
        command
    }

    /// Runs a line (words separated by spaces, no quoting) and gives its output, or what it said instead.
    ///
    /// # Errors
    /// If it fails, its standard error; if it takes more than 30 seconds, `timeout`'s status.
    pub fn attempt(&self, line: &str) -> Result<String, String> {
        let mut command = self.command("timeout");
        command.arg("30").args(line.split_whitespace());
        let output = command.stdin(Stdio::null()).output().expect("nsenter and timeout");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        if output.status.success() {
            Ok(text(output.stdout))
        } else {
            Err(format!("{}: {line}: {}: {}", self.name, output.status, text(output.stderr).trim()))
        }
    }

    /// Runs a line and gives its output.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        self.attempt(line).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs a command with something on its standard input and gives its output.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn feed(&self, line: &str, input: &str) -> String {
        let mut command = self.command("timeout");
        command.arg("30").args(line.split_whitespace());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsenter and timeout");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("a reader");
        let output = child.wait_with_output().expect("a child");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {line}: {error}", self.name);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs lines of `ip`, without the word itself, and waits until the addresses are in use.
    #[track_caller]
    pub fn ip(&self, lines: &str) {
        self.feed("ip -batch -", lines);
        if lines.contains(':') {
            // The kernel takes IPv6 addresses into use a moment later; until then it would choose other sources.
            eventually(SOON, "IPv6 addresses are usable", || {
                holds(self.run("ip -6 -o addr show tentative").is_empty())
            });
        }
    }

    /// Starts a program that runs beside the test.
    #[must_use]
    pub fn spawn<'a>(&self, program: &str, args: impl IntoIterator<Item = &'a str>) -> Process {
        self.spawn_with(program, args, &[])
    }

    /// The same with environment variables.
    #[must_use]
    pub fn spawn_with<'a>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = &'a str>,
        environment: &[(&str, &str)],
    ) -> Process {
        let mut command = self.command(program);
        command.args(args).envs(environment.iter().copied());
        let short = program.rsplit('/').next().unwrap_or(program);
        Process::start(&format!("{short}@{}", self.name), command)
    }

    /// Runs `work` on a thread that is in it, for sockets of our own.
    ///
    /// # Panics
    /// If `work` does.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/proc/{}/ns/net", self.pid())).expect("a namespace");
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("setns");
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Whether a network interface of this name is here.
    #[must_use]
    pub fn has_link(&self, interface: &str) -> bool {
        self.attempt(&format!("ip link show dev {interface}")).is_ok()
    }

    /// Everything of the network that a program could leave behind: links, addresses, rules, routes, nftables.
    ///
    /// Counters, ages and interface indices are left out: two snapshots are equal when nothing was left.
    #[must_use]
    pub fn snapshot(&self) -> String {
        let mut out = String::new();
        for line in [
            "ip -o -br link",
            "ip -o -br addr",
            "ip -4 rule",
            "ip -6 rule",
            "ip -4 route show table all",
            "ip -6 route show table all",
            "nft list ruleset",
            "ls -A /run/wireguard /run/span",
        ] {
            out.push_str(line);
            out.push('\n');
            for said in self.attempt(line).unwrap_or_default().lines() {
                let words: Vec<&str> =
                    said.split_whitespace().filter(|word| !word.ends_with("sec")).collect();
                out.push_str(&words.join(" "));
                out.push('\n');
            }
        }
        out
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// Joins two namespaces by a cable, both ends up, without addresses.
pub fn veth(a: &Namespace, a_end: &str, b: &Namespace, b_end: &str) {
    a.ip(&format!("link add {a_end} type veth peer name {b_end} netns {}\nlink set {a_end} up\n", b.pid()));
    b.ip(&format!("link set {b_end} up\n"));
}

/// A switch that namespaces are plugged into.
#[derive(Debug)]
pub struct Switch {
    namespace: Namespace,
}

impl Switch {
    /// Makes one: a bridge `br0` in a namespace of its own, where a service can listen and a capture can look.
    #[must_use]
    pub fn new() -> Self {
        let namespace = Namespace::new("switch");
        namespace.ip("link add br0 type bridge\nlink set br0 up\n");
        Self { namespace }
    }

    /// Plugs `eth0` of `node` in, with these addresses.
    pub fn plug(&self, node: &Namespace, addresses: &[&str]) {
        self.plug_as(node, "eth0", addresses);
    }

    /// Plugs an interface of `node` in, with these addresses.
    pub fn plug_as(&self, node: &Namespace, interface: &str, addresses: &[&str]) {
        let port = format!("p{}{interface}", node.name());
        assert!(port.len() < 16, "the name of a port has at most 15 bytes: {port}");
        veth(&self.namespace, &port, node, interface);
        self.namespace.ip(&format!("link set {port} master br0\n"));
        let lines: String =
            addresses.iter().map(|address| format!("addr add {address} dev {interface}\n")).collect();
        node.ip(&lines);
    }

    /// The port `eth0` of `node` is plugged into: what a capture listens on.
    #[must_use]
    pub fn port(&self, node: &Namespace) -> String {
        format!("p{}eth0", node.name())
    }

    /// The switch as a host: for services beside the nodes.
    #[must_use]
    pub fn host(&self) -> &Namespace {
        &self.namespace
    }
}

impl Default for Switch {
    fn default() -> Self {
        Self::new()
    }
}

/// Long enough for anything that needs a few packets, short enough to notice what never comes.
pub const SOON: Duration = Duration::from_secs(10);
