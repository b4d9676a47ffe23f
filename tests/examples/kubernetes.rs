//! The manifests: decoded as the API server does, and run as they say, without a cluster.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use span_tests::mesh::Mesh;
use span_tests::traffic::assert_ping;
use span_tests::{Namespace, eventually, holds, programs, ready, several_users};

use crate::container::{Container, Image, Machine, list, text};

/// For a few packets on a machine that does much else.
const BOUND: Duration = Duration::from_secs(20);

/// Whether containers can be run here, whose users and groups are others than ours.
fn able() -> bool {
    if ready() && !several_users() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "needs root");
        eprintln!("skipped: needs root");
        return false;
    }
    ready()
}

fn manifest(name: &str) -> PathBuf {
    programs::root().join("examples/kubernetes").join(name)
}

/// The object of this kind in a file, as Kubernetes' own types have it.
fn object(file: &str, kind: &str) -> Value {
    let output = Command::new(programs::peer("kubernetes")).arg(manifest(file)).output().expect("a program");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let objects: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let object = list(&objects).find(|object| object["kind"] == kind);
    object.unwrap_or_else(|| panic!("no {kind} in {file}")).clone()
}

#[test]
fn what_kubernetes_does_not_know_is_no_manifest() {
    let good = fs::read_to_string(manifest("daemonset.yaml")).expect("a manifest");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("bad.yaml");
    for (right, wrong) in [
        ("hostNetwork: true", "hostNetwrk: true"),
        ("containerPort: 51820", "containerPort: wireguard"),
        ("periodSeconds: 1\n", "periodSeconds: 1\n            periodSeconds: 2\n"),
    ] {
        let bad = good.replacen(right, wrong, 1);
        assert_ne!(bad, good, "{right}");
        fs::write(&file, bad).expect("a file");
        let output = Command::new(programs::peer("kubernetes")).arg(&file).output().expect("a program");
        assert!(!output.status.success(), "{wrong} is taken");
    }
}

/// The line of the `Containerfile` that builds the program, less optimised.
#[test]
fn the_image_is_built_by_a_command_that_works() {
    let line = Image::new().build();
    let words: Vec<&str> =
        line.split(' ').map(|word| if word == "--release" { "--profile=dev" } else { word }).collect();
    let ["cargo", arguments @ ..] = &words[..] else { panic!("{line}") };
    let mut build = programs::cargo();
    let status = build.arg("--quiet").args(arguments).current_dir(programs::root()).status();
    assert!(status.is_ok_and(|status| status.success()), "{line}");
}

#[test]
fn a_daemon_set_is_a_mesh_of_the_nodes() {
    if !able() {
        return;
    }
    let set = object("daemonset.yaml", "DaemonSet");
    let spec = &set["spec"]["template"]["spec"];
    let container = &spec["containers"][0];
    assert_eq!(spec["hostNetwork"], true);
    assert_eq!(container["securityContext"]["capabilities"]["add"], json!(["NET_ADMIN"]));
    let image = Image::new();
    let mesh = Mesh::new(3);
    let machines: Vec<Machine<'_>> =
        mesh.nodes.iter().map(|node| Machine::new(&node.host, &mesh.cluster.token)).collect();
    let before: Vec<String> = mesh.nodes.iter().map(|node| node.host.snapshot()).collect();

    // The capability is needed.
    let mut poor = container.clone();
    poor["securityContext"]["capabilities"]["add"] = json!([]);
    let mut refused = Container::start(&machines[0], spec, &poor, &image);
    assert!(!refused.process.wait(BOUND).success());
    assert!(refused.process.err().contains("CAP_NET_ADMIN"), "{}", refused.process.err());

    let start = |machine| started(Container::start(machine, spec, container, &image), container);
    let mut pods: Vec<Container> = machines.iter().map(start).collect();
    mesh.meets();
    for from in &mesh.nodes {
        for to in mesh.nodes.iter().filter(|to| to.host.name() != from.host.name()) {
            assert_ping(&from.host, &to.overlay(), 10);
            assert_ping(&from.host, &to.address(), 10);
        }
    }
    for probe in ["readinessProbe", "livenessProbe"] {
        for pod in &pods {
            succeeds(pod, &container[probe]);
        }
    }
    let names = said(&pods[0], &["span", "peers", "--json"]);
    for other in &mesh.nodes[1..] {
        assert!(list(&names["peers"]).any(|peer| peer["name"] == other.host.name()), "{names}");
    }

    // Another Pod on the same node is the same member.
    let overlay = mesh.nodes[0].overlay();
    ends(&mut pods[0], spec);
    pods[0] = start(&machines[0]);
    assert_eq!(mesh.nodes[0].overlay(), overlay);
    mesh.meets();

    for pod in &mut pods {
        eprintln!("peak memory: {} KiB", pod.process.peak_memory());
        ends(pod, spec);
    }
    for (node, before) in mesh.nodes.iter().zip(before) {
        assert_eq!(node.host.snapshot(), before, "nothing stays behind");
    }
}

#[test]
fn a_sidecar_takes_a_program_into_the_mesh() {
    if !able() {
        return;
    }
    let pod = object("sidecar.yaml", "Pod");
    let spec = &pod["spec"];
    let container = &spec["initContainers"][0];
    assert_eq!(container["restartPolicy"], "Always");
    let image = Image::new();
    let mesh = Mesh::new(0);
    let db = Namespace::new("db");
    mesh.switch.plug(&db, &["10.5.0.3/24", "fd05::3/64"]);
    let state = tempfile::tempdir().expect("a temporary directory");
    let state = state.path().join("state");
    let options = ["up", "--name", "db", "--token", &mesh.cluster.token, "--state-dir"];
    let mut member = db.spawn(programs::span(), options.into_iter().chain(state.to_str()));
    member.wait_for("`span peers` shows the others", BOUND);
    let database = db.inside(|| TcpListener::bind("[::]:5432").expect("a free port"));
    greets(database, "the database");

    let network = Namespace::new("app");
    mesh.switch.plug(&network, &["10.5.0.2/24", "fd05::2/64"]);
    let before = network.snapshot();
    let program = network.inside(|| TcpListener::bind("127.0.0.1:8080").expect("a free port"));
    greets(program, "the program");
    let machine = Machine::new(&network, &mesh.cluster.token);
    let mut sidecar = started(Container::start(&machine, spec, container, &image), container);

    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.process.pid())).expect("a process");
    let nothing = "0000000000000000";
    for line in [
        "Uid:\t65532\t65532\t65532\t65532",
        &format!("CapPrm:\t{nothing}"),
        &format!("CapBnd:\t{nothing}"),
        "NoNewPrivs:\t1",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
    succeeds(&sidecar, &container["livenessProbe"]);

    let forwarded = eventually(BOUND, "the program reaches db by the forwarded port", || {
        network.inside(|| read(TcpStream::connect("127.0.0.1:5432").ok()?))
    });
    assert_eq!(forwarded, "this is the database");
    assert_eq!(network.inside(|| by_socks("db", 5432)).as_deref(), Some("this is the database"));

    let text = db.run(&format!("{} peers --json", programs::span()));
    let peers: Value = serde_json::from_str(&text).expect("JSON");
    let peer = list(&peers["peers"]).find(|peer| peer["name"] == "pod-app").expect("the Pod");
    let address: Ipv6Addr = crate::container::text(&peer["overlay_address"]).parse().expect("an address");
    let served = db.inside(|| read(TcpStream::connect(SocketAddr::from((address, 80))).ok()?));
    assert_eq!(served.as_deref(), Some("this is the program"));

    assert_eq!(network.snapshot(), before, "the Pod's network is as it was");
    ends(&mut sidecar, spec);
    assert!(member.runs());
}

/// Waits until the startup probe succeeds, no longer than the kubelet would.
fn started(mut container: Container, manifest: &Value) -> Container {
    let probe = &manifest["startupProbe"];
    let number = |name: &str| probe[name].as_u64().expect("a number");
    let bound = Duration::from_secs(number("periodSeconds") * number("failureThreshold"));
    let command = command(probe);
    eventually(bound, "the container has started", || {
        assert!(container.process.runs(), "{}", container.process.err());
        holds(container.run(&command).status.success())
    });
    container
}

fn succeeds(container: &Container, probe: &Value) {
    let output = container.run(&command(probe));
    assert!(output.status.success(), "{probe}: {}", String::from_utf8_lossy(&output.stderr));
}

fn command(probe: &Value) -> Vec<String> {
    let command: Vec<String> = list(&probe["exec"]["command"]).map(text).collect();
    assert!(!command.is_empty(), "a probe by a command: {probe}");
    command
}

/// What a command in the container prints, as JSON.
fn said(container: &Container, command: &[&str]) -> Value {
    let command: Vec<String> = command.iter().map(ToString::to_string).collect();
    let output = container.run(&command);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{command:?}: {error}: {output:?}"))
}

/// Stops it as the kubelet does, which would kill it after the grace period.
fn ends(container: &mut Container, spec: &Value) {
    let grace = spec["terminationGracePeriodSeconds"].as_u64().expect("a grace period");
    assert!(container.process.terminate(Duration::from_secs(grace)).success(), "{}", container.process.err());
}

/// Tells everyone who connects whom they reached.
fn greets(listener: TcpListener, name: &'static str) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Whoever does not want to know has gone.
            let _ = stream.and_then(|mut stream| write!(stream, "this is {name}"));
        }
    });
}

/// All that comes, if anything does.
fn read(mut stream: TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(BOUND)).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    (!text.is_empty()).then_some(text)
}

/// The same through the SOCKS5 proxy (RFC 1928), by name.
fn by_socks(name: &str, port: u16) -> Option<String> {
    let mut stream = TcpStream::connect("127.0.0.1:1080").ok()?;
    stream.set_read_timeout(Some(BOUND)).ok()?;
    stream.write_all(&[5, 1, 0]).ok()?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).ok()?;
    assert_eq!(chosen, [5, 0], "no authentication");
    let mut request = vec![5, 1, 0, 3, u8::try_from(name.len()).expect("a short name")];
    request.extend(name.bytes().chain(port.to_be_bytes()));
    stream.write_all(&request).ok()?;
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).ok()?;
    assert_eq!(reply[..2], [5, 0], "connected");
    let address = if reply[3] == 1 { 4 } else { 16 };
    stream.read_exact(&mut vec![0; address + 2]).ok()?;
    read(stream)
}
