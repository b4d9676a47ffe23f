//! Two namespaces, a cable between them, a WireGuard interface on each.

use span_tests::wg::{Keys, Program, setconf};
use span_tests::{Namespace, Process, veth};

/// The family of the addresses the datagrams travel between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// 192.0.2.0/24
    V4,
    /// 2001:db8::/64
    V6,
}

/// A, who knows B's endpoint, and B, who does not know A's. Both call their interface `wg0`.
pub(crate) struct Pair {
    pub(crate) programs: [Program; 2],
    pub(crate) family: Family,
    pub(crate) keys: [Keys; 2],
    pub(crate) preshared: String,
    // The processes end before the namespaces they are in.
    pub(crate) processes: [Process; 2],
    pub(crate) a: Namespace,
    pub(crate) b: Namespace,
}

impl Pair {
    pub(crate) const A_INNER: &str = "10.9.0.1";
    pub(crate) const B_INNER: &str = "10.9.0.2";
    pub(crate) const A_INNER6: &str = "fd09::1";
    pub(crate) const B_INNER6: &str = "fd09::2";
    pub(crate) const A_PORT: u16 = 51820;
    pub(crate) const B_PORT: u16 = 51821;

    /// Both programs run, nothing is configured.
    pub(crate) fn new(a_program: Program, b_program: Program, family: Family) -> Self {
        let (a, b) = (Namespace::new("a"), Namespace::new("b"));
        veth(&a, "eth0", &b, "eth0");
        let pair = Self {
            programs: [a_program, b_program],
            family,
            keys: [Keys::new(&a), Keys::new(&b)],
            preshared: a.run("wg genpsk"),
            processes: [a_program.start(&a, "wg0"), b_program.start(&b, "wg0")],
            a,
            b,
        };
        pair.a.ip(&format!("addr add {}/{} dev eth0\n", pair.outer(1, 1), pair.length()));
        pair.b.ip(&format!("addr add {}/{} dev eth0\n", pair.outer(2, 1), pair.length()));
        pair
    }

    /// Asserts that neither program has ended.
    pub(crate) fn both_run(&mut self) {
        for process in &mut self.processes {
            assert!(process.runs(), "{}", process.err());
        }
    }

    /// Keys, preshared key, allowed IPs and addresses on both, and the endpoint of B at A.
    pub(crate) fn configure(&self) {
        setconf(&self.a, "wg0", &self.a_config());
        setconf(&self.b, "wg0", &self.b_config());
        for (node, v4, v6) in
            [(&self.a, Self::A_INNER, Self::A_INNER6), (&self.b, Self::B_INNER, Self::B_INNER6)]
        {
            node.ip(&format!(
                "addr add {v4}/24 dev wg0\naddr add {v6}/64 dev wg0\nlink set wg0 mtu 1420 up\n"
            ));
        }
    }

    pub(crate) fn a_config(&self) -> String {
        format!(
            "[Interface]\nPrivateKey = {}\nListenPort = {}\n\
             [Peer]\nPublicKey = {}\nPresharedKey = {}\nAllowedIPs = {}/32, {}/128\nEndpoint = {}\n",
            self.keys[0].private,
            Self::A_PORT,
            self.keys[1].public,
            self.preshared.trim(),
            Self::B_INNER,
            Self::B_INNER6,
            self.endpoint(2, 1, Self::B_PORT),
        )
    }

    pub(crate) fn b_config(&self) -> String {
        format!(
            "[Interface]\nPrivateKey = {}\nListenPort = {}\n\
             [Peer]\nPublicKey = {}\nPresharedKey = {}\nAllowedIPs = {}/32, {}/128\n",
            self.keys[1].private,
            Self::B_PORT,
            self.keys[0].public,
            self.preshared.trim(),
            Self::A_INNER,
            Self::A_INNER6,
        )
    }

    /// The outer address of A (`host` 1) or B (2) in its `generation`, from 1.
    pub(crate) fn outer(&self, host: u8, generation: u8) -> String {
        match self.family {
            Family::V4 => format!("192.0.2.{generation}{host}"),
            Family::V6 => format!("2001:db8::{generation}{host}"),
        }
    }

    /// The same with a port.
    pub(crate) fn endpoint(&self, host: u8, generation: u8, port: u16) -> String {
        match self.family {
            Family::V4 => format!("{}:{port}", self.outer(host, generation)),
            Family::V6 => format!("[{}]:{port}", self.outer(host, generation)),
        }
    }

    /// The lines of `ip` that move A (1) or B (2) from its first address to its second.
    pub(crate) fn renumber(&self, host: u8) -> String {
        let length = self.length();
        let [old, new] = [self.outer(host, 1), self.outer(host, 2)];
        // In this order: with its first address an IPv4 network loses the others.
        format!("addr del {old}/{length} dev eth0\naddr add {new}/{length} dev eth0\n")
    }

    fn length(&self) -> u8 {
        match self.family {
            Family::V4 => 24,
            Family::V6 => 64,
        }
    }
}
