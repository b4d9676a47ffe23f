//! Sidero's discovery service under span's nodes, and Talos' discovery client on span's service; with TLS and
//! without.

use serde_json::{Value, json};
use span_tests::affiliate::{Affiliate, member};
use span_tests::certificate::Certificate;
use span_tests::mesh::{DISCOVERY, Mesh, Node, listens};
use span_tests::namespace::SOON;
use span_tests::traffic::assert_ping;
use span_tests::{Namespace, Process, eventually, holds, programs, ready};

const ADDRESS: &str = "10.5.0.254";

/// Starts the real service where [`DISCOVERY`] is expected.
fn sidero(mesh: &Mesh, certificate: Option<&Certificate>) -> Process {
    let mut arguments =
        vec!["-addr", DISCOVERY, "-landing-addr", "", "-metrics-addr", "", "-snapshots-enabled=false"];
    if let Some(files) = certificate {
        arguments.extend(["-certificate-path", text(&files.certificate), "-key-path", text(&files.key)]);
    }
    let service = mesh.switch.host().spawn(&programs::peer("discovery-service"), arguments);
    listens(mesh.switch.host(), DISCOVERY);
    service
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn sideros_service_serves_span_nodes() {
    if !ready() {
        return;
    }
    let mut mesh = Mesh::without_discovery(3);
    let mut service = sidero(&mesh, None);
    mesh.up();
    assert_ping(&mesh.nodes[0].host, &mesh.nodes[2].address(), 5);
    assert!(service.runs());

    // A Talos node joins and leaves; the span nodes know both from the service.
    let host = Namespace::new("talos");
    mesh.switch.plug(&host, &["10.5.0.77/24"]);
    let mut talos =
        Affiliate::start(&host, &mesh.cluster, member(&host, "talos", 71), &json!([]), &["-plaintext"]);
    let knows = |node: &Node| list(&node.ask("peers")).iter().any(|peer| peer["name"] == "talos");
    eventually(SOON, "all know the Talos node", || holds(mesh.nodes.iter().all(knows)));
    talos.process.close_input();
    eventually(SOON, "all know that it left", || holds(!mesh.nodes.iter().any(knows)));
    eventually(SOON, "the Talos node read all three", || {
        holds(talos.view()["members"].as_array().is_some_and(|members| members.len() == 3))
    });
}

#[test]
fn sideros_service_serves_span_nodes_over_tls() {
    if !ready() {
        return;
    }
    let mut mesh = Mesh::without_discovery(2);
    let files = tempfile::tempdir().expect("a temporary directory");
    let certificate = Certificate::new(files.path(), ADDRESS);
    let _service = sidero(&mesh, Some(&certificate));
    let fragment = mesh.cluster.talos_fragment(&format!("https://{DISCOVERY}/"));
    let config = files.path().join("talos.yaml");
    std::fs::write(&config, fragment).expect("a file");
    for node in &mut mesh.nodes {
        node.up(&["--config", text(&config), "--discovery-ca", text(&certificate.authority)]);
    }
    mesh.meets();
}

/// The list of peers, whether it is printed by itself or within a status.
fn list(peers: &Value) -> &Vec<Value> {
    peers.as_array().or_else(|| peers["peers"].as_array()).expect("a list of peers")
}

fn talos_clients_meet(tls: bool) {
    let mut mesh = Mesh::without_discovery(1);
    let files = tempfile::tempdir().expect("a temporary directory");
    let certificate = Certificate::new(files.path(), ADDRESS);
    let mut serve = vec!["discovery", "--listen", DISCOVERY];
    let client: Vec<&str> = if tls {
        serve.extend(["--certificate", text(&certificate.certificate), "--key", text(&certificate.key)]);
        vec!["-ca", text(&certificate.authority)]
    } else {
        vec!["-plaintext"]
    };
    let mut service = mesh.switch.host().spawn(programs::span(), serve);
    listens(mesh.switch.host(), DISCOVERY);
    let host = Namespace::new("talos");
    mesh.switch.plug(&host, &["10.5.0.77/24"]);

    let first = Affiliate::start(&host, &mesh.cluster, member(&host, "first", 71), &json!([]), &client);
    // The second has seen the first somewhere else, and says so.
    let seen = json!([{ "node_id": first.me["node_id"], "endpoint": "203.0.113.9:40000" }]);
    let mut second = Affiliate::start(&host, &mesh.cluster, member(&host, "second", 72), &seen, &client);

    let mut expected = first.me.clone();
    expected["endpoints"].as_array_mut().expect("a list").push(json!("203.0.113.9:40000"));
    // The service keeps endpoints in the order it heard of them, and the second may have spoken first.
    eventually(SOON, "the second reads the first, with the endpoint it saw itself", || {
        holds(second.sees(&first.me["node_id"]).map(sorted) == Some(sorted(expected.clone())))
    });
    eventually(SOON, "the first reads the second", || {
        holds(first.sees(&second.me["node_id"]).as_ref() == Some(&second.me))
    });
    assert_eq!(first.view()["public_address"], json!("10.5.0.77"));

    // A span node among them: each sees the other as it describes itself.
    let url = format!("{}://{DISCOVERY}/", if tls { "https" } else { "http" });
    let config = files.path().join("talos.yaml");
    std::fs::write(&config, mesh.cluster.talos_fragment(&url)).expect("a file");
    let mut arguments = vec!["--config", text(&config)];
    if tls {
        arguments.extend(["--discovery-ca", text(&certificate.authority)]);
    }
    mesh.nodes[0].up(&arguments);
    let node = &mesh.nodes[0];
    let me = node.ask("status");
    let me = me.get("node").unwrap_or(&me).clone();
    let published = eventually(SOON, "the first reads the span node", || first.sees(&me["node_id"]));
    for (theirs, ours) in [
        ("public_key", &me["public_key"]),
        ("kubespan_address", &me["overlay_address"]),
        ("nodename", &me["name"]),
        ("machine_type", &me["machine_type"]),
        ("endpoints", &me["endpoints"]),
        ("additional_addresses", &json!(["10.51.0.0/24"])),
    ] {
        assert_eq!(published[theirs], *ours, "{theirs}: {published}");
    }
    // What Span says beyond that, the field with its cipher suites, was there and did no harm.
    let offers_aes = me["ciphers"].as_array().is_some_and(|ciphers| ciphers.contains(&json!("aes-256-gcm")));
    let skipped = if offers_aes { json!("827d030a0101") } else { Value::Null };
    assert_eq!(published["skipped"], skipped);
    eventually(SOON, "the span node reads both", || {
        let peers = node.ask("peers");
        let names: Vec<&str> = list(&peers).iter().filter_map(|peer| peer["name"].as_str()).collect();
        holds(names.contains(&"first") && names.contains(&"second"))
    });

    // One leaves; it is gone for the other at once.
    second.process.close_input();
    eventually(SOON, "the second is gone", || holds(first.sees(&second.me["node_id"]).is_none()));
    assert!(service.runs());
}

/// The member with its endpoints in an order of their own.
fn sorted(mut member: Value) -> Value {
    let endpoints = member["endpoints"].as_array_mut().expect("a list");
    endpoints.sort_by_key(Value::to_string);
    member
}

#[test]
fn talos_clients_meet_on_spans_service() {
    if ready() {
        talos_clients_meet(false);
    }
}

#[test]
fn talos_clients_meet_on_spans_service_over_tls() {
    if ready() {
        talos_clients_meet(true);
    }
}
