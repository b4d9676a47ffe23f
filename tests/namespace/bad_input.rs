//! What is wrong is refused in words that say what to do, or counted; nothing panics, the rest goes on.

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::{Value, json};
use span_tests::affiliate::{Affiliate, member};
use span_tests::mesh::{Cluster, DISCOVERY, Mesh, listens};
use span_tests::namespace::SOON;
use span_tests::traffic::assert_ping;
use span_tests::{Namespace, Process, eventually, holds, programs, ready};

/// Runs span to its end and gives what it said of what is wrong.
#[track_caller]
fn refusal(node: &Namespace, arguments: &[&str]) -> String {
    let mut process = node.spawn(programs::span(), arguments.iter().copied());
    let status = eventually(SOON, &format!("{arguments:?} ends"), || process.status());
    let said = process.err();
    assert!(!status.success(), "{arguments:?} should be refused");
    assert!(
        !said.contains("panicked") && status.code().is_some_and(|code| code < 100),
        "{arguments:?}: {status}: {said}"
    );
    said
}

/// Each is refused, and the message has these words.
#[test]
fn the_command_line_is_refused_with_a_reason() {
    if !ready() {
        return;
    }
    let node = Namespace::new("lone");
    let before = node.snapshot();
    let token = Cluster::new(&["http://127.0.0.1:3000"]).token;
    let cut = &token[..token.len() - 1];
    let mangled = format!(
        "{}{}",
        &token[..20],
        token[20..].replacen(|letter: char| letter.is_ascii_lowercase(), "Z", 3)
    );
    let files = tempfile::tempdir().expect("a temporary directory");
    let state = files.path().join("state");
    let state = state.to_str().expect("a path in UTF-8");
    let file = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("a path in UTF-8").to_owned()
    };
    let unknown = file("unknown.yaml", "machine:\n  network:\n    kubespan:\n      enabld: true\n");
    let broken = file("broken.yaml", "machine: [\n");
    let key = file("key.yaml", "cluster:\n  id: x\n  secret: tooshort\n");
    let network = file(
        "network.yaml",
        "machine:\n  network:\n    kubespan:\n      enabled: true\n      filters:\n        endpoints: [10.0.0.0/33]\n",
    );
    let binary = file("binary.yaml", "\u{0}\u{1}\u{2}");

    for (arguments, words) in [
        (&["--token", "nonsense"][..], "span cluster new"),
        (&["--token", cut], "cut short"),
        (&["--token", &mangled], "token"),
        (&["--token", ""], "token"),
        (&["--token", &token, "--advertise", "10.0.0.0/33"], "--advertise"),
        (&["--token", &token, "--advertise", "nonsense"], "--advertise"),
        (&["--token", &token, "--listen-port", "70000"], "65535"),
        (&["--token", &token, "--endpoint", "1.2.3.4"], "--endpoint"),
        (&["--token", &token, "--discovery", "ftp://x"], "https://"),
        (&["--token", &token, "--mtu", "100"], "1280"),
        (&["--token", &token, "--interface", "a/b"], "interface's name"),
        (&["--token", &token, "--interface", "longer-than-fifteen"], "interface's name"),
        (&["--token", &token, "--interface", "lo"], "lo"),
        (&["--token", &token, "--members", "/nonexistent"], "/nonexistent"),
        (&["--token-file", "/nonexistent"], "/nonexistent"),
        (&["--config", "/nonexistent"], "/nonexistent"),
        (
            &["--config", &unknown],
            "unknown.yaml:4:7: machine.network.kubespan.enabld: no such field; did you mean `enabled`?",
        ),
        (&["--config", &broken], "broken.yaml:1:"),
        (&["--config", &key], "cluster.secret"),
        (&["--config", &network], "10.0.0.0/33"),
        (&["--config", &binary], "binary.yaml"),
        (&[], "span cluster new"),
    ] {
        let all = [&["up", "--state-dir", state], arguments].concat();
        let said = refusal(&node, &all);
        assert!(said.contains(words), "{arguments:?} is refused without {words:?}: {said}");
    }
    for (arguments, words) in [
        (&["wg", "lo"][..], "lo exists already"),
        (&["wg", ""], "interface's name"),
        (&["wg", "../../etc"], "interface's name"),
        (&["discovery", "--listen", "999.1.1.1:1"], "--listen"),
        (
            &[
                "discovery",
                "--listen",
                "127.0.0.1:1",
                "--certificate",
                "/nonexistent",
                "--key",
                "/nonexistent",
            ],
            "/nonexistent",
        ),
        (&["discovery", "--certificate", "/nonexistent"], "--key"),
        (&["discovery", "--gc-interval", "0s"], "one second"),
        (&["status"], "span up"),
        (&["peers", "--interface", "nosuch"], "nosuch"),
        (&["cluster", "new", "--discovery", "ftp://x"], "https://"),
        (&["demo", "--nodes", "1"], "--nodes"),
        (&["nonsense"], "nonsense"),
        (&["--log", "=,=", "status"], "log"),
    ] {
        let said = refusal(&node, arguments);
        assert!(said.contains(words), "{arguments:?} is refused without {words:?}: {said}");
    }
    assert_eq!(node.snapshot(), before, "what is refused leaves nothing behind");
}

/// A foreign interface is not taken over, a taken port is named, and without privileges it says which are missing.
#[test]
fn what_others_own_is_left_to_them() {
    if !ready() {
        return;
    }
    let node = Namespace::new("lone");
    node.ip("link add theirs type bridge\naddr add 10.0.0.1/24 dev theirs\nlink set theirs up\n");
    let before = node.snapshot();
    let token = Cluster::new(&["http://127.0.0.1:3000"]).token;
    let files = tempfile::tempdir().expect("a temporary directory");
    let state = files.path().join("state");
    let state = state.to_str().expect("a path in UTF-8");
    let up = ["up", "--state-dir", state, "--token", &token];

    let said = refusal(&node, &[&up[..], &["--interface", "theirs"]].concat());
    assert!(said.contains("theirs") && said.contains("bridge"), "{said}");
    let said = refusal(&node, &["wg", "theirs"]);
    assert!(said.contains("theirs") && said.contains("bridge"), "{said}");

    let taken = node.inside(|| UdpSocket::bind("0.0.0.0:51820").expect("a free port"));
    let said = refusal(&node, &up);
    assert!(said.contains("51820"), "{said}");
    drop(taken);

    let served = node.spawn(programs::span(), ["discovery", "--listen", "127.0.0.1:3999"]);
    listens(&node, "127.0.0.1:3999");
    let said = refusal(&node, &["discovery", "--listen", "127.0.0.1:3999"]);
    assert!(said.contains("127.0.0.1:3999"), "{said}");
    drop(served);

    // As root of a namespace, but without the one capability it takes.
    for command in [&up[..], &["wg", "wg0"]] {
        let mut process = node.command("setpriv");
        process.args(["--bounding-set=-net_admin", "--inh-caps=-net_admin", programs::span()]).args(command);
        let mut process = Process::start("span without net_admin", process);
        assert!(!process.wait(SOON).success());
        let said = process.err();
        assert!(said.contains("CAP_NET_ADMIN") && !said.contains("panicked"), "{command:?}: {said}");
    }
    assert_eq!(node.snapshot(), before);
}

/// A service that cannot be reached is told, tried again, and used when it comes.
#[test]
fn a_service_may_come_later() {
    if !ready() {
        return;
    }
    let mut mesh = Mesh::without_discovery(2);
    let token = mesh.cluster.token.clone();
    for node in &mut mesh.nodes {
        // A second one that will never be there must not be in the way.
        node.up(&["--token", &token, "--discovery", "http://10.5.0.253:1"]);
    }
    eventually(SOON, "the status says what is wrong", || {
        let status = mesh.nodes[0].ask("status");
        let tiers = status["discovery"].as_array().expect("tiers").clone();
        holds(tiers.iter().any(|tier| tier["last_error"].is_string()))
    });
    mesh.start_discovery();
    let start = std::time::Instant::now();
    for (from, to) in [(0, 1), (1, 0)] {
        let overlay = mesh.nodes[to].overlay();
        span_tests::traffic::first_ping(&mesh.nodes[from].host, &overlay, Duration::from_secs(30));
    }
    assert!(start.elapsed() < Duration::from_secs(30));
}

/// Whoever knows a cluster's id can store anything under it. Garbage, records of another secret and claims to
/// what others have are refused one by one, and counted; the mesh goes on.
#[test]
fn records_of_others_do_no_harm() {
    if !ready() {
        return;
    }
    let mut mesh = Mesh::new(3);
    mesh.up();
    let host = Namespace::new("mallory");
    mesh.switch.plug(&host, &["10.5.0.66/24"]);

    let post = |id: &str, data: &str, endpoints: &str| {
        let mut command = host.command(&programs::peer("post"));
        command.args(["-endpoint", DISCOVERY, "-cluster", &mesh.cluster.id, "-id", id]);
        let output = command.args(["-data", data, "-endpoints", endpoints]).output().expect("post");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let bytes = |count: usize| "a5".repeat(count);
    // What the service takes, the nodes must stand.
    for (id, data, endpoints) in [
        ("garbage", bytes(248), bytes(16)),
        ("tiny", bytes(1), String::new()),
        ("overhead-only", bytes(28), String::new()),
        ("as-long-as-may-be", bytes(2048), format!("{},{}", bytes(32), bytes(16))),
        ("odd-endpoints", bytes(100), format!("{},{},{}", bytes(1), bytes(15), bytes(17))),
        ("endpoints-only", String::new(), bytes(16)),
    ] {
        assert_eq!(post(id, &data, &endpoints), "OK", "{id}");
    }
    // And under the name of a member, over its record: its own refresh puts it right.
    let victim = mesh.nodes[1].ask("status")["node"]["node_id"].as_str().expect("an id").to_owned();
    assert_eq!(post(&victim, &bytes(64), &bytes(16)), "OK");
    // What is too large never reaches them.
    for (id, data, endpoints) in [
        ("oversized", bytes(2049), String::new()),
        ("oversized-endpoint", bytes(100), bytes(33)),
        ("", bytes(100), String::new()),
        (&*"x".repeat(257), bytes(100), String::new()),
    ] {
        assert_eq!(post(id, &data, &endpoints), "InvalidArgument", "{id}");
    }

    let stranger = Cluster { secret: Cluster::new(&[]).secret, ..mesh.cluster.clone() };
    let _other_secret =
        Affiliate::start(&host, &stranger, member(&host, "stranger", 70), &json!([]), &["-plaintext"]);

    // A member of the cluster, but a greedy one: the addresses, networks and overlay address of others, and next
    // to everything. Of two that claim one thing the smaller id keeps it, and this one's is large.
    let mut greedy = member(&host, "zzzz", 71);
    greedy["addresses"] = json!(["10.5.0.1", "10.5.0.2", "10.5.0.71", mesh.nodes[1].overlay()]);
    greedy["additional_addresses"] =
        json!(["10.52.0.0/24", "10.51.0.0/25", "0.0.0.0/0", "::/0", "127.0.0.0/8", "224.0.0.0/4"]);
    greedy["endpoints"] = json!([
        "127.0.0.1:51820",
        "0.0.0.0:0",
        "10.5.0.71:51820",
        format!("[{}]:1", mesh.nodes[1].overlay())
    ]);
    let greedy = Affiliate::start(&host, &mesh.cluster, greedy, &json!([]), &["-plaintext"]);

    let node = &mesh.nodes[0];
    let refused = eventually(SOON, "the greedy member is known, and what it was refused", || {
        let peers = node.ask("peers");
        let list = peers.as_array().or_else(|| peers["peers"].as_array())?.clone();
        let greedy = list.into_iter().find(|peer| peer["node_id"] == greedy.me["node_id"])?;
        (greedy["refused"].as_array()?.len() >= 5).then_some(greedy)
    });
    let allowed = refused["allowed_ips"].as_array().expect("prefixes");
    let expected = [
        json!("10.5.0.71/32"),
        json!(format!("{}/128", greedy.me["kubespan_address"].as_str().expect("text"))),
    ];
    assert!(allowed.iter().all(|prefix| expected.contains(prefix)), "{refused}");

    let status = eventually(SOON, "garbage is counted", || {
        let status = node.ask("status");
        let count: u64 =
            status["discovery"].as_array()?.iter().filter_map(|tier| tier["refused"].as_u64()).sum();
        (count >= 6).then_some(status)
    });
    assert!(status["discovery"][0]["last_refusal"].is_string(), "{status}");

    for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 1)] {
        let to = &mesh.nodes[to];
        for address in [to.overlay(), to.address(), to.behind()] {
            assert_ping(&mesh.nodes[from].host, &address, 5);
        }
    }
    for node in &mut mesh.nodes {
        assert!(node.process().runs());
        let said = node.process().err();
        assert!(!said.contains("panicked"), "{said}");
    }
    let _: Value = status;
}
