//! Two hosts, the cable between them, and a tunnel over it.

use std::path::PathBuf;

use span_tests::wg::{self, Keys, setconf};
use span_tests::{Namespace, Process, eventually, holds, veth};

use crate::adapter::{Adapter, Kind};
use crate::args::Link;

/// One end of the tunnel: an implementation and its program.
pub(crate) type Side<'a> = (&'a Adapter, Option<PathBuf>);

/// Two hosts with nothing between them but a cable and, over it, a tunnel.
#[derive(Debug)]
pub(crate) struct Lab {
    // Processes end before their namespaces.
    /// The tunnel's processes, none where there is none to bill.
    pub(crate) tunnel: Vec<Process>,
    /// The host that sends.
    pub(crate) a: Namespace,
    /// The host that receives.
    pub(crate) b: Namespace,
    /// The address of `b` to send to, through the tunnel.
    pub(crate) target: &'static str,
}

/// Addresses and ports of one host, and what is known of it.
struct Host {
    outer: &'static str,
    inner: &'static str,
    inner6: &'static str,
    port: u16,
}

const A: Host = Host { outer: "192.0.2.1", inner: "198.18.0.1", inner6: "fd77::1", port: 51820 };
const B: Host = Host { outer: "192.0.2.2", inner: "198.18.0.2", inner6: "fd77::2", port: 51821 };

const CABLE: &str = "cable0";
const INTERFACE: &str = "wg0";
/// Of the tunnel. The cable has Ethernet's 1500 bytes.
pub(crate) const MTU: u32 = 1420;

impl Lab {
    /// Builds everything; the tunnel is configured, but has carried nothing.
    ///
    /// # Panics
    /// If something of it fails.
    pub(crate) fn new(sides: [&Side<'_>; 2], link: Link, rate: Option<&str>) -> Self {
        let (a, b) = (Namespace::new("a"), Namespace::new("b"));
        veth(&a, CABLE, &b, CABLE);
        for (namespace, host) in [(&a, &A), (&b, &B)] {
            namespace.ip(&format!("addr add {}/30 dev {CABLE}\n", host.outer));
            if link == Link::Nic {
                namespace.run(&format!("ethtool -K {CABLE} tso off gso off tx-udp-segmentation off gro on"));
            }
            if let Some(rate) = rate {
                namespace
                    .run(&format!("tc qdisc add dev {CABLE} root tbf rate {rate} burst 1mb latency 20ms"));
            }
        }
        let mut lab = Self { tunnel: Vec::new(), a, b, target: B.outer };
        if !sides.iter().any(|(adapter, _)| matches!(adapter.kind, Kind::Cable)) {
            lab.target = B.inner;
            lab.dig(sides);
        }
        lab
    }

    /// Starts and configures both ends.
    fn dig(&mut self, sides: [&Side<'_>; 2]) {
        let hosts = [(&self.a, sides[0]), (&self.b, sides[1])];
        for (namespace, side) in hosts {
            self.tunnel.extend(start(namespace, side));
        }
        for (namespace, (adapter, _)) in hosts {
            eventually(span_tests::namespace::SOON, &format!("{} serves wg", adapter.name), || {
                for process in &mut self.tunnel {
                    assert!(process.runs(), "{}: {}{}", adapter.name, process.out(), process.err());
                }
                holds(matches!(adapter.kind, Kind::Kernel) || wg::serves(namespace, INTERFACE))
            });
        }
        let keys = [Keys::new(&self.a), Keys::new(&self.b)];
        for (namespace, host, peer, own, other) in
            [(&self.a, &A, &B, &keys[0], &keys[1]), (&self.b, &B, &A, &keys[1], &keys[0])]
        {
            let Host { outer, inner, inner6, port } = peer;
            let text = format!(
                "[Interface]\nPrivateKey = {}\nListenPort = {}\n[Peer]\nPublicKey = {}\n\
                 AllowedIPs = {inner}/32, {inner6}/128\nEndpoint = {outer}:{port}\n",
                own.private, host.port, other.public
            );
            setconf(namespace, INTERFACE, &text);
            namespace.ip(&format!(
                "addr add {}/30 dev {INTERFACE}\naddr add {}/126 dev {INTERFACE} nodad\n\
                 link set {INTERFACE} mtu {MTU} up\n",
                host.inner, host.inner6
            ));
        }
    }

    /// Asserts that the tunnel's processes still run.
    pub(crate) fn assert_alive(&mut self) {
        for process in &mut self.tunnel {
            assert!(process.runs(), "the tunnel ended: {}{}", process.out(), process.err());
        }
    }
}

fn start(namespace: &Namespace, (adapter, program): &Side<'_>) -> Option<Process> {
    match (&adapter.kind, program) {
        (Kind::Program { environment, .. }, Some(program)) => {
            let arguments = adapter.arguments(INTERFACE);
            let program = program.to_str().expect("a path in UTF-8");
            Some(namespace.spawn_with(program, arguments.iter().map(String::as_str), environment))
        }
        (Kind::Kernel, _) => {
            namespace.ip(&format!("link add {INTERFACE} type wireguard\n"));
            None
        }
        (Kind::Cable | Kind::Program { .. }, _) => None,
    }
}
