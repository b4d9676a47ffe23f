//! KubeSpan's rules in real network namespaces, with `ip` and `nft` as the second opinion. Needs root; see
//! `span_tests::ready`.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should not")]

use std::io::{ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::sys::socket::{setsockopt, sockopt};
use span_tests::{Namespace, eventually, ready, veth};
use span_tun::device::{Device, MAX_FRAME, Tun};
use span_tun::offload::{VirtioHeader, checksum};
use span_tun::route::{Change, Changes, Desired, Family, Net, Policy, Problem, RouteError};

const SOON: Duration = Duration::from_secs(10);

/// A namespace with a TUN and a [`Net`] for it.
struct Host {
    namespace: Namespace,
    tun: Tun,
    net: Net,
}

impl Host {
    fn new(name: &str) -> Self {
        Self::in_namespace(Namespace::new(name), "span0")
    }

    fn in_namespace(namespace: Namespace, interface: &str) -> Self {
        let tun = namespace.inside(|| Tun::builder(interface).open().unwrap());
        let net = namespace.inside(|| Net::new(tun.index(), Policy::default()).unwrap());
        Self { namespace, tun, net }
    }

    fn reconcile(&mut self, desired: &Desired) -> Changes {
        let Self { namespace, net, .. } = self;
        namespace.inside(|| net.reconcile(desired)).unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// What `nft` says of our table, as lines without indentation.
    fn rules(&self) -> Vec<String> {
        let text = self.namespace.run("nft list table inet span");
        // Older and newer `nft` write the same expression differently.
        let text = text.replace("tcp flags syn / syn,rst", "tcp flags & (syn | rst) == syn");
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim().to_owned());
        lines.filter(|line| !line.is_empty()).collect()
    }
}

/// What is there once the kernel has made its own routes for our IPv6 address, which takes it a moment.
fn settled(namespace: &Namespace) -> String {
    eventually(SOON, "the kernel's routes for the address", || {
        let there = namespace.snapshot();
        there.contains("local fd83:1::1 dev span0").then_some(there)
    })
}

/// Fails unless the namespace comes to look like this.
#[track_caller]
fn comes_to(namespace: &Namespace, expected: &str, what: &str) {
    let start = Instant::now();
    while start.elapsed() < SOON && namespace.snapshot() != expected {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(namespace.snapshot(), expected, "{what}");
}

fn nets(prefixes: &[&str]) -> Vec<IpNet> {
    prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect()
}

fn desired() -> Desired {
    Desired {
        addresses: nets(&["fd83:1::1/64", "10.77.0.1/32"]),
        mtu: 1420,
        routed: nets(&["10.99.0.0/24", "10.99.1.0/24", "192.0.2.7/32", "fd99::/64", "10.99.0.128/25"]),
    }
}

#[test]
fn makes_what_kubespan_makes() {
    if !ready() {
        return;
    }
    let mut host = Host::new("makes");
    let before = host.namespace.snapshot();
    let changes = host.reconcile(&desired());
    assert_eq!(changes.problems, []);
    assert_eq!(host.reconcile(&desired()), Changes::default(), "a second time there is nothing to do");

    let namespace = &host.namespace;
    for family in ["-4", "-6"] {
        let rules = namespace.run(&format!("ip {family} rule"));
        let ours: Vec<_> = rules.lines().filter(|line| line.starts_with("32500:")).collect();
        assert_eq!(ours.len(), 1, "{rules}");
        assert!(ours[0].contains("from all fwmark 0x40/0x60 lookup 180"), "{rules}");
        let routes = namespace.run(&format!("ip {family} route show table 180"));
        assert_eq!(routes.lines().count(), 1, "{routes}");
        for part in ["default dev span0", "proto static", "metric 1", "mtu 1420"] {
            assert!(routes.contains(part), "{part}: {routes}");
        }
    }
    let link = namespace.run("ip addr show dev span0");
    for part in ["mtu 1420", "UP", "inet 10.77.0.1/32", "inet6 fd83:1::1/64"] {
        assert!(link.contains(part), "{part}: {link}");
    }
    assert!(namespace.run("ip -6 route").contains("fd83:1::/64 dev span0"), "the connected prefix");

    let found = host.rules();
    let expected = [
        "table inet span {",
        "flags owner",
        "set routed4 {",
        "type ipv4_addr",
        "flags interval",
        "elements = { 10.99.0.0/23, 192.0.2.7 }",
        "}",
        "set routed6 {",
        "type ipv6_addr",
        "flags interval",
        "elements = { fd99::/64 }",
        "}",
        "chain prerouting {",
        "type filter hook prerouting priority filter; policy accept;",
        "meta mark & 0x00000060 == 0x00000020 accept",
        "ip daddr @routed4 meta mark set meta mark & 0xffffffdf | 0x00000040 accept",
        "ip6 daddr @routed6 meta mark set meta mark & 0xffffffdf | 0x00000040 accept",
        "}",
        "chain output {",
        "type route hook output priority filter; policy accept;",
        "meta mark & 0x00000060 == 0x00000020 accept",
        "oif \"lo\" accept",
        "ip daddr @routed4 tcp flags & (syn | rst) == syn tcp option maxseg size set 1368",
        "ip daddr @routed4 meta mark set meta mark & 0xffffffdf | 0x00000040 accept",
        "ip6 daddr @routed6 tcp flags & (syn | rst) == syn tcp option maxseg size set 1348",
        "ip6 daddr @routed6 meta mark set meta mark & 0xffffffdf | 0x00000040 accept",
        "}",
        "chain forward {",
        "type filter hook forward priority mangle; policy accept;",
        "oif \"span0\" meta nfproto ipv4 tcp flags & (syn | rst) == syn tcp option maxseg size set 1368",
        "iif \"span0\" meta nfproto ipv4 tcp flags & (syn | rst) == syn tcp option maxseg size set 1368",
        "oif \"span0\" meta nfproto ipv6 tcp flags & (syn | rst) == syn tcp option maxseg size set 1348",
        "iif \"span0\" meta nfproto ipv6 tcp flags & (syn | rst) == syn tcp option maxseg size set 1348",
        "}",
        "}",
    ];
    assert_eq!(found, expected);

    host.net.remove().unwrap();
    host.namespace.ip("link set span0 down mtu 1500\n");
    comes_to(&host.namespace, &before, "nothing may stay behind");
    host.net.remove().unwrap();
}

#[test]
fn repairs_what_others_break() {
    if !ready() {
        return;
    }
    let mut host = Host::new("repairs");
    host.reconcile(&desired());
    let whole = settled(&host.namespace);
    let wounds: [(&str, &[Change]); 8] = [
        ("ip -4 rule del priority 32500", &[Change::RuleAdded(Family::V4)]),
        ("ip -6 rule del priority 32500", &[Change::RuleAdded(Family::V6)]),
        ("ip -4 route flush table 180", &[Change::RouteAdded(Family::V4)]),
        ("ip -6 route flush table 180", &[Change::RouteAdded(Family::V6)]),
        (
            "ip route replace default dev span0 table 180 proto static metric 1 mtu 900",
            &[Change::RouteAdded(Family::V4)],
        ),
        (
            // With the last IPv4 address the kernel takes all IPv4 routes.
            "ip addr del 10.77.0.1/32 dev span0",
            &[Change::AddressAdded("10.77.0.1/32".parse().unwrap()), Change::RouteAdded(Family::V4)],
        ),
        ("ip link set span0 mtu 1400", &[Change::MtuFrom(1400)]),
        ("ip rule add priority 77 fwmark 0x1 lookup 99 protocol 180", &[Change::RuleRemoved(Family::V4)]),
    ];
    for (wound, healing) in wounds {
        host.namespace.run(wound);
        assert_eq!(host.reconcile(&desired()).made, healing, "{wound}");
        comes_to(&host.namespace, &whole, wound);
    }
    host.namespace.ip("link set span0 down\n");
    let made = host.reconcile(&desired()).made;
    assert!(made.contains(&Change::LinkUp) && made.contains(&Change::RouteAdded(Family::V4)), "{made:?}");
    comes_to(&host.namespace, &whole, "after the link was down");
    // The table belongs to our socket: a firewall that starts over does not take it along.
    host.namespace.run("nft flush ruleset");
    assert!(host.namespace.attempt("nft delete table inet span").is_err());
    assert_eq!(host.reconcile(&desired()), Changes::default());
}

#[test]
fn the_routed_set_changes_by_its_differences() {
    if !ready() {
        return;
    }
    let mut host = Host::new("set");
    let mut wanted = desired();
    host.reconcile(&wanted);
    let mut apply = |routed: &[&str], expected: Option<Change>| {
        wanted.routed = nets(routed);
        assert_eq!(host.reconcile(&wanted).made, Vec::from_iter(expected), "{routed:?}");
        assert_eq!(host.reconcile(&wanted), Changes::default(), "{routed:?}");
        let listed = host.namespace.run("nft list set inet span routed4");
        listed.lines().find(|line| line.contains("elements")).unwrap_or_default().trim().to_owned()
    };
    let changed = |added, removed| Some(Change::Routed { added, removed });
    assert_eq!(
        apply(&["10.99.0.0/24", "192.0.2.7/32", "fd99::/64"], changed(1, 1)),
        "elements = { 10.99.0.0/24, 192.0.2.7 }"
    );
    assert_eq!(
        apply(&["10.99.0.0/24", "192.0.2.6/31", "fd99::/64"], changed(1, 1)),
        "elements = { 10.99.0.0/24, 192.0.2.6/31 }"
    );
    assert_eq!(apply(&[], changed(0, 3)), "");
    assert_eq!(apply(&["0.0.0.0/0", "::/0"], changed(2, 0)), "elements = { 0.0.0.0/0 }");
    assert_eq!(
        apply(&["255.255.255.255/32", "0.0.0.0/32"], changed(2, 2)),
        "elements = { 0.0.0.0, 255.255.255.255 }"
    );
    assert_eq!(
        apply(&["10.0.0.0/24", "10.0.2.0/24"], changed(2, 2)),
        "elements = { 10.0.0.0/24, 10.0.2.0/24 }"
    );

    // Many, and a few of many.
    let many: Vec<String> =
        (0..5000u32).map(|i| format!("{}/28", std::net::Ipv4Addr::from(0x0b00_0000 + i * 32))).collect();
    let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
    let start = Instant::now();
    apply(&many, changed(5000, 2));
    println!("5000 prefixes set and read back in {:?}", start.elapsed());
    many.swap_remove(1234);
    apply(&many, changed(0, 1));
}

#[test]
fn two_do_not_fight() {
    if !ready() {
        return;
    }
    let mut first = Host::new("two");
    first.reconcile(&desired());
    let whole = settled(&first.namespace);
    let tun = first.namespace.inside(|| Tun::builder("span1").open().unwrap());
    let unchanged = first.namespace.snapshot();
    let start = |policy: Policy| {
        first.namespace.inside(|| {
            let mut net = Net::new(tun.index(), policy).unwrap();
            net.reconcile(&desired()).map(|_| net)
        })
    };
    let error = start(Policy::default()).unwrap_err();
    assert!(
        matches!(&error, RouteError::InUse { what } if what.contains("180") && what.contains("span0")),
        "{error}"
    );
    comes_to(&first.namespace, &unchanged, "the second changed nothing");
    let error = start(Policy { table: 181, priority: 32501, ..Policy::default() }).unwrap_err();
    assert!(matches!(&error, RouteError::InUse { what } if what.contains("inet span")), "{error}");
    comes_to(&first.namespace, &unchanged, "nor did it with another table");

    let apart = Policy {
        mask: 0x600,
        encrypted_mark: 0x200,
        routed_mark: 0x400,
        table: 181,
        priority: 32501,
        nftables_table: "span1".to_owned(),
    };
    drop(start(apart).unwrap());
    drop(tun);
    assert_eq!(
        first.namespace.snapshot(),
        whole,
        "with a policy of its own it comes and goes beside the first"
    );
}

/// The part of `a_crash_leaves_nothing_that_lasts` that crashes.
#[test]
#[ignore = "run by another test"]
fn crashes() {
    let tun = Tun::builder("span0").open().unwrap();
    let mut net = Net::new(tun.index(), Policy::default()).unwrap();
    net.reconcile(&desired()).unwrap();
    println!("made");
    std::process::abort();
}

#[test]
fn a_crash_leaves_nothing_that_lasts() {
    if !ready() {
        return;
    }
    let namespace = Namespace::new("crash");
    let before = namespace.snapshot();
    let mut command = namespace.command(std::env::current_exe().unwrap().to_str().unwrap());
    let said = command.args(["--exact", "crashes", "--ignored", "--nocapture"]).output().unwrap();
    assert!(String::from_utf8_lossy(&said.stdout).contains("made"), "{said:?}");
    eventually(SOON, "interface and table go with the process", || {
        let gone = !namespace.has_link("span0") && namespace.attempt("nft list table inet span").is_err();
        gone.then_some(())
    });
    assert!(namespace.run("ip rule").contains("lookup 180"), "the rule is what stays");
    // A kernel without owners would leave the table as well; and settings may have changed since.
    namespace.run("nft add table inet span");
    namespace.run("nft add chain inet span leftover");
    namespace.run("ip -6 rule add priority 32400 fwmark 0x400/0x600 lookup 170 protocol 180");

    let mut host = Host::in_namespace(namespace, "span0");
    let made = host.reconcile(&desired()).made;
    assert!(made.contains(&Change::RuleRemoved(Family::V6)), "{made:?}");
    assert!(!made.contains(&Change::RuleAdded(Family::V4)), "the one that was right is taken over: {made:?}");
    assert!(!host.rules().iter().any(|line| line.contains("leftover")));
    let Host { namespace, tun, net } = host;
    drop(net);
    drop(tun);
    comes_to(&namespace, &before, "nothing stays");
}

/// Receives from the TUN until `pick` finds what it wants.
fn receive<T>(tun: &mut Tun, mut pick: impl FnMut(&[u8]) -> Option<T>) -> T {
    eventually(SOON, "a packet of the kind", || {
        let mut buf = vec![0; MAX_FRAME];
        match tun.recv(&mut buf) {
            Ok((_, len)) => pick(&buf[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    })
}

/// The maximum segment size a SYN or SYN-ACK to or from this address announces.
fn mss(packet: &[u8], address: IpAddr) -> Option<u16> {
    let (at, end, protocol) = if packet[0] >> 4 == 6 { (40, 24, packet[6]) } else { (20, 16, packet[9]) };
    let len = if packet[0] >> 4 == 6 { 16 } else { 4 };
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let to = packet[end..end + len] == octets;
    let from = packet[end - len..end] == octets;
    let is_syn = protocol == 6 && packet[at + 13] & 0x02 != 0;
    // Linux puts this option first.
    (is_syn && (to || from) && packet[at + 20..at + 22] == [2, 4])
        .then(|| u16::from_be_bytes([packet[at + 22], packet[at + 23]]))
}

#[test]
fn local_traffic_goes_into_the_tunnel_clamped_and_comes_back() {
    if !ready() {
        return;
    }
    let outside = Namespace::new("outside");
    let mut host = Host::new("local");
    veth(&host.namespace, "eth0", &outside, "eth0");
    host.namespace.ip("addr add 203.0.113.1/24 dev eth0\naddr add fd03::1/64 dev eth0 nodad\nroute add default via 203.0.113.2\nroute add default via fd03::2\n");
    // As many distributions have it.
    host.namespace.run("sysctl -w net.ipv4.conf.all.rp_filter=1");
    let changes = host.reconcile(&desired());
    assert!(
        changes.made.contains(&Change::ReversePathLoosened) && changes.problems.is_empty(),
        "{changes:?}"
    );

    for (target, expected) in [("10.99.0.5:80", 1368), ("[fd99::5]:80", 1348)] {
        let target: SocketAddr = target.parse().unwrap();
        let Host { namespace, tun, .. } = &mut host;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                namespace.inside(|| TcpStream::connect_timeout(&target, Duration::from_millis(300)))
            });
            assert_eq!(receive(tun, |packet| mss(packet, target.ip())), expected);
        });
    }

    // Out with the address of the ordinary route, back through the tunnel, past the strict filter.
    let socket = host.namespace.inside(|| UdpSocket::bind("203.0.113.1:7000").unwrap());
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.send_to(b"question", "10.99.0.5:9").unwrap();
    let question = receive(&mut host.tun, |packet| (packet[9] == 17).then(|| packet.to_vec()));
    assert_eq!(question[12..20], [203, 0, 113, 1, 10, 99, 0, 5]);
    let mut answer = question.clone();
    answer[12..16].copy_from_slice(&question[16..20]);
    answer[16..20].copy_from_slice(&question[12..16]);
    answer[20..24].copy_from_slice(&[question[22], question[23], question[20], question[21]]);
    answer[26..28].fill(0);
    host.tun.send(&VirtioHeader::default(), &[IoSlice::new(&answer)]).unwrap();
    let mut said = [0; 16];
    let (len, from) = socket.recv_from(&mut said).unwrap();
    assert_eq!((&said[..len], from), (&b"question"[..], "10.99.0.5:9".parse().unwrap()));

    // What our own sockets send is encrypted already and stays outside.
    let outer = host.namespace.inside(|| UdpSocket::bind("203.0.113.1:0").unwrap());
    setsockopt(&outer, sockopt::Mark, &0x20).unwrap();
    let there = outside.inside(|| UdpSocket::bind("0.0.0.0:9").unwrap());
    outside.ip("addr add 203.0.113.2/24 dev eth0\naddr add 10.99.0.5/32 dev eth0\n");
    there.set_read_timeout(Some(SOON)).unwrap();
    outer.send_to(b"sealed", "10.99.0.5:9").unwrap();
    let (len, _) = there.recv_from(&mut said).unwrap();
    assert_eq!(&said[..len], b"sealed");
}

#[test]
fn forwarded_connections_are_clamped_both_ways() {
    if !ready() {
        return;
    }
    let mut host = Host::new("router");
    let pod = Namespace::new("pod");
    veth(&host.namespace, "cni0", &pod, "eth0");
    host.namespace.ip("addr add 10.244.0.1/24 dev cni0\naddr add fd44::1/64 dev cni0 nodad\n");
    pod.ip("addr add 10.244.0.2/24 dev eth0\naddr add fd44::2/64 dev eth0 nodad\nroute add default via 10.244.0.1\nroute add default via fd44::1\n");
    host.namespace.run("sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    host.reconcile(&desired());
    eventually(SOON, "the pod's addresses work", || {
        pod.attempt("ping -c 1 -W 1 fd44::1").and_then(|_| pod.attempt("ping -c 1 -W 1 10.244.0.1")).ok()
    });

    for (target, expected) in [("10.99.0.5:80", 1368), ("[fd99::5]:80", 1348)] {
        let target: SocketAddr = target.parse().unwrap();
        std::thread::scope(|scope| {
            let tun = &mut host.tun;
            scope.spawn(|| pod.inside(|| TcpStream::connect_timeout(&target, Duration::from_millis(300))));
            assert_eq!(receive(tun, |packet| mss(packet, target.ip())), expected, "towards the tunnel");
        });
    }

    // A SYN from far away that announces an Ethernet's worth: what the pod sees is clamped as well.
    let capture = pod.spawn("tcpdump", ["-ni", "eth0", "-c", "1", "-l", "tcp[tcpflags] & tcp-syn != 0"]);
    eventually(SOON, "the capture runs", || {
        host.tun.send(&VirtioHeader::default(), &[IoSlice::new(&syn())]).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        capture.out().contains("mss 1368").then_some(())
    });
}

/// A SYN from 10.99.0.5 to the pod with an MSS of 1460.
fn syn() -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 44, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 99, 0, 5, 10, 244, 0, 2];
    let sum = checksum::finish(checksum::add(0, &packet));
    packet[10..12].copy_from_slice(&sum);
    packet.extend([
        0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 0x02, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 0x05, 0xb4,
    ]);
    let pseudo = checksum::pseudo(&packet[12..20], 6) + checksum::word(24);
    let sum = checksum::finish(checksum::add(pseudo, &packet[20..]));
    packet[36..38].copy_from_slice(&sum);
    packet
}

#[test]
fn a_host_without_ipv6_has_ipv4() {
    if !ready() {
        return;
    }
    let namespace = Namespace::new("no6");
    namespace.run("sysctl -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
    let mut host = Host::in_namespace(namespace, "span0");
    let mut wanted = desired();
    wanted.addresses = nets(&["10.77.0.1/32"]);
    let changes = host.reconcile(&wanted);
    assert_eq!(changes.problems, [Problem::NoIpv6]);
    assert!(host.namespace.run("ip route show table 180").contains("default dev span0"));
    assert_eq!(host.reconcile(&wanted).made, []);
    // An address of the mesh is asked for: the interface alone gets IPv6.
    let changes = host.reconcile(&desired());
    assert!(changes.made.contains(&Change::Ipv6Enabled) && changes.problems.is_empty(), "{changes:?}");
    assert!(host.namespace.run("ip -6 addr show dev span0").contains("fd83:1::1"));
    assert!(!host.namespace.run("ip -6 addr show dev lo").contains("::1"), "no other interface does");

    wanted.mtu = 1200;
    wanted.addresses = desired().addresses;
    let changes = host.reconcile(&wanted);
    assert!(changes.problems.contains(&Problem::MtuBelowIpv6(1200)), "{changes:?}");
    assert!(host.namespace.run("ip route show table 180").contains("mtu 1200"));
}

#[test]
fn addresses_come_and_go_and_foreign_ones_stay() {
    if !ready() {
        return;
    }
    let mut host = Host::new("addresses");
    host.reconcile(&desired());
    host.namespace.ip("addr add 10.1.2.3/24 dev span0\n");
    let mut wanted = desired();
    wanted.addresses = nets(&["fd83:1::2/64"]);
    let made = host.reconcile(&wanted).made;
    assert!(made.contains(&Change::AddressRemoved("fd83:1::1/64".parse().unwrap())), "{made:?}");
    let shown = host.namespace.run("ip addr show dev span0");
    assert!(shown.contains("fd83:1::2/64") && shown.contains("10.1.2.3/24"), "{shown}");
    assert!(!shown.contains("fd83:1::1/") && !shown.contains("10.77.0.1"), "{shown}");
}

#[test]
fn without_the_right_to_it_says_so() {
    if !ready() {
        return;
    }
    let namespace = Namespace::new("rights");
    let tun = namespace.inside(|| Tun::builder("span0").open().unwrap());
    let mut command: Command = namespace.command("setpriv");
    let me = std::env::current_exe().unwrap();
    command.args(["--bounding-set=-all", "--inh-caps=-all", "--reuid=65534", "--clear-groups"]).arg(me);
    command.args(["--exact", "tries", "--ignored", "--nocapture"]);
    let said = command.env("SPAN_TEST_INDEX", tun.index().to_string()).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        said.contains("not allowed to make a network interface") && said.contains("CAP_NET_ADMIN"),
        "{said}"
    );
    assert!(said.contains("not allowed to change the network"), "{said}");
}

/// The part of `without_the_right_to_it_says_so` that has no rights.
#[test]
#[ignore = "run by another test"]
fn tries() {
    println!("{}", Tun::builder("span1").open().unwrap_err());
    let index = std::env::var("SPAN_TEST_INDEX").unwrap().parse().unwrap();
    println!("{}", Net::new(index, Policy::default()).unwrap().reconcile(&desired()).unwrap_err());
}

#[test]
fn leaves_routing_to_others_where_it_is_told_to() {
    if !ready() {
        return;
    }
    let mut host = Host::new("alone");
    host.net = host.namespace.inside(|| Net::interface_only(host.tun.index()).unwrap());
    let rules = |host: &Host| {
        ["ip -4 rule", "ip -6 rule", "nft list ruleset"].map(|command| host.namespace.run(command))
    };
    let before = rules(&host);
    let changes = host.reconcile(&desired());
    assert!(changes.made.contains(&Change::LinkUp), "{changes:?}");
    assert_eq!(host.reconcile(&desired()), Changes::default(), "a second time there is nothing to do");
    assert_eq!(rules(&host), before);
    assert!(host.namespace.run("ip addr show dev span0").contains("inet6 fd83:1::1/64"));
    host.net.remove().unwrap();
    assert!(!host.namespace.run("ip addr show dev span0").contains("fd83:1::1"));
}
