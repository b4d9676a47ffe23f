//! What can be set on `span wg` with `wg`, `wg-quick` and the configuration socket, and what they then show.
//! The cases are those of the kernel's own test of WireGuard.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use span_tests::namespace::SOON;
use span_tests::traffic::{assert_ping, ping_with};
use span_tests::wg::{Keys, Program, peer, peers, setconf};
use span_tests::{Namespace, Process, eventually, holds, programs, ready, veth};

/// A namespace with an interface `wg0` that has a private key.
struct Lone {
    keys: Keys,
    process: Process,
    node: Namespace,
}

impl Lone {
    fn new() -> Self {
        let node = Namespace::new("lone");
        let keys = Keys::new(&node);
        let process = Program::Span.start(&node, "wg0");
        setconf(&node, "wg0", &format!("[Interface]\nPrivateKey = {}\n", keys.private));
        Self { keys, process, node }
    }

    fn public_key(&self) -> String {
        Keys::new(&self.node).public
    }

    /// Speaks to the configuration socket as `wg` does, and gives the answer's lines without the empty one.
    fn ask(&self, request: &str) -> Vec<String> {
        let path = format!("/proc/{}/root/run/wireguard/wg0.sock", self.node.pid());
        let mut stream = UnixStream::connect(&path).expect("a configuration socket");
        stream.set_read_timeout(Some(SOON)).expect("a socket");
        stream.write_all(request.as_bytes()).expect("a server");
        let lines = BufReader::new(stream).lines().map(|line| line.expect("an answer"));
        lines.take_while(|line| !line.is_empty()).collect()
    }

    fn set(&self, body: &str) -> String {
        self.ask(&format!("set=1\n{body}\n")).pop().expect("an errno")
    }
}

fn hex(base64: &str) -> String {
    let mut bits = 0_u32;
    let mut count = 0;
    let mut out = String::new();
    for symbol in base64.trim().trim_end_matches('=').bytes() {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let value = alphabet.iter().position(|&known| known == symbol).expect("base64");
        bits = bits << 6 | u32::try_from(value).expect("below 64");
        count += 6;
        if count >= 8 {
            count -= 8;
            write!(out, "{:02x}", bits >> count & 0xff).expect("a string");
        }
    }
    out
}

/// 130,560 networks of one peer come back as they went in.
#[test]
fn a_peer_can_have_very_many_allowed_ips() {
    if !ready() {
        return;
    }
    let lone = Lone::new();
    let wanted: BTreeSet<String> = (0..=255_u16)
        .flat_map(|a| {
            (0..255_u16).flat_map(move |b| [format!("{a}.{b}.0.0/16"), format!("2{a:03x}:1{b:03x}::/32")])
        })
        .collect();
    let mut config = format!("[Interface]\nPrivateKey = {}\n", lone.keys.private);
    writeln!(config, "[Peer]\nPublicKey = {}", lone.public_key()).expect("a string");
    for prefix in &wanted {
        writeln!(config, "AllowedIPs = {prefix}").expect("a string");
    }
    setconf(&lone.node, "wg0", &config);
    let shown = lone.node.run("wg show wg0 allowed-ips");
    let shown: BTreeSet<String> =
        shown.trim().split_once('\t').expect("a peer").1.split(' ').map(str::to_owned).collect();
    assert_eq!(shown.len(), wanted.len());
    assert!(shown == wanted, "what was shown differs from what was set");
}

/// Many peers with a few networks each; many with none before one that has some.
#[test]
fn many_peers_keep_their_allowed_ips_apart() {
    if !ready() {
        return;
    }
    let lone = Lone::new();
    let mut config = format!("[Interface]\nPrivateKey = {}\n", lone.keys.private);
    let mut wanted = Vec::new();
    for a in 0..40 {
        let key = lone.public_key();
        let prefixes: Vec<String> = (0..52).map(|b| format!("10.{a}.{b}.0/24")).collect();
        writeln!(config, "[Peer]\nPublicKey = {key}\nAllowedIPs = {}", prefixes.join(",")).expect("a string");
        wanted.push((key, prefixes.into_iter().collect::<BTreeSet<_>>()));
    }
    setconf(&lone.node, "wg0", &config);
    assert_eq!(allowed(&lone.node), wanted.into_iter().collect());

    let mut config = format!("[Interface]\nPrivateKey = {}\n", lone.keys.private);
    for _ in 0..29 {
        writeln!(config, "[Peer]\nPublicKey = {}", lone.public_key()).expect("a string");
    }
    let last = lone.public_key();
    let prefixes: Vec<String> = (0..197).map(|n| format!("abcd:1{n:03x}::/32")).collect();
    writeln!(config, "[Peer]\nPublicKey = {last}\nAllowedIPs = {}", prefixes.join(", ")).expect("a string");
    setconf(&lone.node, "wg0", &config);
    let shown = lone.node.run("wg showconf wg0");
    assert_eq!(shown.matches("[Peer]").count(), 30);
    assert_eq!(shown.matches("AllowedIPs").count(), 1);
    assert_eq!(allowed(&lone.node)[&last], prefixes.into_iter().collect());
}

fn allowed(node: &Namespace) -> std::collections::BTreeMap<String, BTreeSet<String>> {
    peers(node, "wg0")
        .into_iter()
        .map(|peer| {
            let prefixes =
                peer.allowed_ips.split(',').filter(|&prefix| prefix != "(none)").map(str::to_owned);
            (peer.public_key, prefixes.collect())
        })
        .collect()
}

/// Keys are set, shown, changed and removed; a private key is clamped; `wg` sees nothing where nothing is.
#[test]
fn keys_come_back_as_they_were_set() {
    if !ready() {
        return;
    }
    let lone = Lone::new();
    let node = &lone.node;
    assert!(node.attempt("wg show nosuch").is_err());
    assert_eq!(node.run("wg show wg0 public-key").trim(), lone.keys.public);
    assert_eq!(node.run("wg show wg0 private-key").trim(), lone.keys.private);

    let (other, secret) = (lone.public_key(), node.run("wg genpsk"));
    node.feed(&format!("wg set wg0 peer {other} preshared-key /dev/stdin"), &secret);
    assert_eq!(peer(node, "wg0").preshared_key, secret.trim());
    node.run(&format!("wg set wg0 peer {other} preshared-key /dev/null"));
    assert_eq!(peer(node, "wg0").preshared_key, "(none)");

    let unclamped = "//////////////////////////////////////////8=";
    node.feed("wg set wg0 private-key /dev/stdin", unclamped);
    assert_eq!(node.run("wg show wg0 private-key").trim(), "+P///////////////////////////////////////38=");
    node.run("wg set wg0 private-key /dev/null");
    assert_eq!(node.run("wg show wg0 private-key").trim(), "(none)");
    assert_eq!(peers(node, "wg0").len(), 1, "peers stay when the private key goes");
}

/// An interface is never its own peer, whichever is set first.
#[test]
fn its_own_public_key_is_no_peer() {
    if !ready() {
        return;
    }
    let lone = Lone::new();
    let node = &lone.node;
    node.run(&format!("wg set wg0 peer {} allowed-ips 10.0.0.0/8", lone.keys.public));
    assert_eq!(peers(node, "wg0").len(), 0, "adding it changes nothing");

    let next = Keys::new(node);
    node.run(&format!("wg set wg0 peer {} allowed-ips 10.0.0.0/8", next.public));
    assert_eq!(peers(node, "wg0").len(), 1);
    node.feed("wg set wg0 private-key /dev/stdin", &next.private);
    assert_eq!(peers(node, "wg0").len(), 0, "becoming it removes the peer");

    node.feed("wg set wg0 private-key /dev/stdin", &lone.keys.private);
    node.run(&format!("wg set wg0 peer {} allowed-ips 10.0.0.0/8", next.public));
    assert_eq!(peers(node, "wg0").len(), 1, "and it can be a peer again");
}

/// A network belongs to the last peer that was given it; it goes with its peer.
#[test]
fn a_network_has_one_owner() {
    if !ready() {
        return;
    }
    let lone = Lone::new();
    let node = &lone.node;
    let (first, second) = (lone.public_key(), lone.public_key());
    node.run(&format!("wg set wg0 peer {first} allowed-ips 10.1.0.0/16,fd01::/64"));
    node.run(&format!("wg set wg0 peer {second} allowed-ips 10.1.0.0/16,0.0.0.0/0"));
    let owners = allowed(node);
    assert_eq!(owners[&first], ["fd01::/64".to_owned()].into());
    assert_eq!(owners[&second], ["0.0.0.0/0".to_owned(), "10.1.0.0/16".to_owned()].into());
    node.run(&format!("wg set wg0 peer {second} remove"));
    assert_eq!(allowed(node).len(), 1);
    node.run(&format!("wg set wg0 peer {first} allowed-ips ::/0"));
    assert_eq!(allowed(node)[&first], ["::/0".to_owned()].into(), "allowed-ips replaces");
}

/// The points of low order are taken as peers, but nothing can be agreed with them: no packet leaves.
#[test]
fn a_low_order_public_key_gets_no_packet() {
    if !ready() {
        return;
    }
    let lone = Lone::new();
    let low_order = [
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "4Ot6fDtBuK4WVuP68Z/EatoJjeucMrH9hmIFFl9JuAA=",
        "X5yVvKNQjCSx0LFVnIPvWwREXMRYHI6G2CJO3dCfEVc=",
        "7P///////////////////////////////////////38=",
        "7f///////////////////////////////////////38=",
        "7v///////////////////////////////////////38=",
    ];
    for (at, key) in low_order.into_iter().enumerate() {
        lone.node.run(&format!(
            "wg set wg0 peer {key} persistent-keepalive 1 endpoint 127.0.0.1:1111 allowed-ips 10.0.0.{at}/32"
        ));
    }
    lone.node.ip("addr add 10.0.1.1/16 dev wg0\nlink set wg0 up\n");
    assert_eq!(ping_with(&lone.node, "10.0.0.1", 2, "-i 0.5 -W 1"), 0);
    let shown = peers(&lone.node, "wg0");
    assert_eq!(shown.len(), low_order.len());
    assert!(shown.iter().all(|peer| peer.tx == 0 && peer.rx == 0), "{shown:?}");
}

/// What `wg` of Debian 12 cannot say: the socket itself.
#[test]
fn the_socket_answers_as_the_protocol_says() {
    if !ready() {
        return;
    }
    let mut lone = Lone::new();
    let [key, unknown] = [lone.public_key(), lone.public_key()].map(|key| hex(&key));

    assert_eq!(
        lone.set(&format!("public_key={key}\nallowed_ip=10.0.0.0/8\nallowed_ip=10.1.0.0/16\n")),
        "errno=0"
    );
    assert_eq!(lone.set(&format!("public_key={key}\nallowed_ip=-10.1.0.0/16\n")), "errno=0");
    assert_eq!(peer(&lone.node, "wg0").allowed_ips, "10.0.0.0/8", "one allowed IP removed");

    assert_eq!(
        lone.set(&format!("public_key={unknown}\nupdate_only=true\nallowed_ip=10.2.0.0/16\n")),
        "errno=0"
    );
    assert_eq!(peers(&lone.node, "wg0").len(), 1, "update_only makes no peer");

    let body = format!(
        "public_key={key}\nreplace_allowed_ips=true\nallowed_ip=fd00::/8\npersistent_keepalive_interval=25\n"
    );
    assert_eq!(lone.set(&body), "errno=0");
    let shown = peer(&lone.node, "wg0");
    assert_eq!((shown.allowed_ips.as_str(), shown.keepalive.as_str()), ("fd00::/8", "25"));

    let answer = lone.ask("get=1\n\n");
    assert_eq!(answer.last().map(String::as_str), Some("errno=0"));
    assert!(answer.contains(&format!("public_key={key}")), "{answer:?}");
    assert!(answer.contains(&format!("private_key={}", hex(&lone.keys.private))), "{answer:?}");

    for wrong in [
        "nonsense=1\n",
        "private_key=00\n",
        "private_key=zz\n",
        "listen_port=65536\n",
        "listen_port=-1\n",
        "fwmark=nine\n",
        "public_key=00\n",
        &format!("public_key={key}\nallowed_ip=10.0.0.0/33\n"),
        &format!("public_key={key}\nallowed_ip=300.0.0.0/8\n"),
        &format!("public_key={key}\nendpoint=nowhere:1\n"),
        &format!("public_key={key}\nendpoint=1.2.3.4\n"),
        &format!("public_key={key}\npreshared_key=12\n"),
        &format!("public_key={key}\npersistent_keepalive_interval=65536\n"),
        &format!("public_key={key}\nprotocol_version=2\n"),
        &format!("public_key={key}\nprivate_key={key}\n"),
        "allowed_ip=10.0.0.0/8\n",
    ] {
        let errno = lone.set(wrong);
        assert!(errno.starts_with("errno=-"), "{wrong:?}: {errno}");
    }
    for garbage in
        ["\n\n", "=\n\n", "set\n\n", "get=2\n\n", "\0\0\n\n", "set=1\n=\n\n", "set=1\n\u{fffd}=1\n\n"]
    {
        let answer = lone.ask(garbage);
        let refused = answer.last().is_none_or(|last| last.starts_with("errno=-"));
        assert!(refused, "{garbage:?}: {answer:?}");
    }

    assert_eq!(lone.set("replace_peers=true\n"), "errno=0");
    assert_eq!(peers(&lone.node, "wg0").len(), 0);
    assert!(lone.process.runs());
}

/// A port that another socket has is refused by its number, and the interface goes on with the one it had.
#[test]
fn a_port_in_use_is_refused() {
    if !ready() {
        return;
    }
    let mut lone = Lone::new();
    lone.node.ip("link set wg0 up\n");
    assert_eq!(lone.set("listen_port=51820\n"), "errno=0");
    let taken = lone.node.inside(|| UdpSocket::bind("0.0.0.0:51821").expect("a free port"));
    assert_eq!(lone.set("listen_port=51821\n"), "errno=-98");
    assert_eq!(lone.node.run("wg show wg0 listen-port").trim(), "51820");
    drop(taken);
    assert_eq!(lone.set("listen_port=51821\n"), "errno=0");
    assert_eq!(lone.node.run("wg show wg0 listen-port").trim(), "51821");
    assert!(lone.process.runs());
}

/// `wg-quick up` and `down` with span as the userspace implementation, with one network and with everything
/// routed through the tunnel: marks, policy routing and all.
#[test]
fn wg_quick_brings_it_up_and_down() {
    if !ready() {
        return;
    }
    if std::path::Path::new("/sys/module/wireguard").exists() {
        eprintln!("skipped: this kernel has WireGuard, and wg-quick prefers it");
        return;
    }
    let (a, b) = (Namespace::new("a"), Namespace::new("b"));
    veth(&a, "eth0", &b, "eth0");
    a.ip(
        "addr add 192.0.2.1/24 dev eth0\naddr add 2001:db8::1/64 dev eth0\nroute add default via 192.0.2.2\n",
    );
    b.ip(
        "addr add 192.0.2.2/24 dev eth0\naddr add 2001:db8::2/64 dev eth0\naddr add 203.0.113.9/32 dev lo\n",
    );
    let keys = [Keys::new(&a), Keys::new(&b)];

    let span = programs::span_wg();
    let directory = tempfile::tempdir().expect("a temporary directory");

    let _responder = Program::WireguardGo.start(&b, "wg0");
    setconf(
        &b,
        "wg0",
        &format!(
            "[Interface]\nPrivateKey={}\nListenPort=51820\n[Peer]\nPublicKey={}\nAllowedIPs=10.9.0.1/32,fd09::1/128\n",
            keys[1].private, keys[0].public
        ),
    );
    b.ip("addr add 10.9.0.2/24 dev wg0\naddr add fd09::2/64 dev wg0\nlink set wg0 up\n");

    for allowed in ["10.9.0.2/32, fd09::2/128", "0.0.0.0/0, ::/0"] {
        let before = a.snapshot();
        let file = directory.path().join("quick0.conf");
        let config = format!(
            "[Interface]\nAddress = 10.9.0.1/24, fd09::1/64\nMTU = 1400\nPrivateKey = {}\n\
             [Peer]\nPublicKey = {}\nAllowedIPs = {allowed}\nEndpoint = 192.0.2.2:51820\n",
            keys[0].private, keys[1].public
        );
        std::fs::write(&file, config).expect("a file");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("a file");
        let file = file.to_str().expect("a path in UTF-8");

        a.run(&format!("env WG_QUICK_USERSPACE_IMPLEMENTATION={span} wg-quick up {file}"));
        assert!(a.run("ip link show dev quick0").contains("mtu 1400"));
        assert_ping(&a, "10.9.0.2", 100);
        assert_ping(&a, "fd09::2", 100);
        if allowed.starts_with("0.0.0.0/0") {
            // Behind the default route: only the tunnel's policy rules lead there.
            let tx = peer(&a, "quick0").tx;
            assert_ping(&a, "203.0.113.9", 10);
            assert!(peer(&a, "quick0").tx >= tx + 10 * 128, "through the tunnel");
        }
        a.run(&format!("env WG_QUICK_USERSPACE_IMPLEMENTATION={span} wg-quick down {file}"));
        eventually(SOON, "the interface is gone", || holds(!a.has_link("quick0")));
        eventually(Duration::from_secs(5), "nothing stays behind", || holds(a.snapshot() == before));
    }
}

/// Ten thousand idle peers fit into 64 MiB, and one of them is found, changed and removed like one of ten.
#[test]
fn ten_thousand_peers_need_little_memory() {
    if !ready() {
        return;
    }
    let lone = Lone::new();
    let key = |number: u32| format!("{:08x}{}", number.wrapping_mul(0x9e37_79b1), "5a".repeat(28));
    for thousand in 0..10 {
        let mut body = String::new();
        for number in thousand * 1000..(thousand + 1) * 1000 {
            let (high, low) = (number / 250, number % 250 + 1);
            writeln!(
                body,
                "public_key={}\nendpoint=198.51.{high}.{low}:51820\n\
                 allowed_ip=10.1.{high}.{low}/32\nallowed_ip=fd00::{number:x}/128",
                key(number)
            )
            .expect("a string");
        }
        assert_eq!(lone.set(&body), "errno=0");
    }
    let shown = lone.ask("get=1\n\n");
    assert_eq!(shown.iter().filter(|line| line.starts_with("allowed_ip=")).count(), 20_000);
    let change = format!("public_key={}\nreplace_allowed_ips=true\nallowed_ip=fd00::1/128", key(9999));
    assert_eq!(lone.set(&format!("{change}\npublic_key={}\nremove=true\n", key(5000))), "errno=0");
    let shown = lone.ask("get=1\n\n");
    assert_eq!(shown.iter().filter(|line| line.starts_with("public_key=")).count(), 9999);
    assert_eq!(shown.iter().filter(|line| *line == "allowed_ip=fd00::1/128").count(), 1);
    let peak = lone.process.peak_memory();
    println!("{peak} KiB at most");
    assert!(peak > 0 && peak < 64 * 1024, "{peak} KiB");
}
