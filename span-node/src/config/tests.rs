use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;
use span_core::mesh::MachineType;

use super::*;
use crate::cipher::Cipher;
use crate::token::Token;

const ID: &str = "8XuV9TZHW08DOk3bVxQjH9ih_TBKjnh-j44tsCLSBzo=";
const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn good(text: &str) -> NodeConfig {
    parse(text).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

/// The messages for a text that is wrong.
fn bad(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(config) => panic!("{text}\nwas taken: {config:?}"),
        Err(error) => error.to_string().lines().map(str::to_owned).collect(),
    }
}

fn strings<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(T::to_string).collect()
}

#[test]
fn nothing_configured_is_the_defaults() {
    for text in ["", "---\n", "# nothing\n---\n---\n", "{}", "machine:\ncluster: ~\n"] {
        let config = good(text);
        assert!(config.cluster.is_none() && config.discovery.services.is_empty());
        assert_eq!((config.mtu, config.listen_port, config.interface.as_str()), (1420, 51820, "span0"));
        assert_eq!(config.control_socket(), Path::new("/run/span/span0.sock"));
        assert!(config.routes && config.discovery.bypass_mesh && !config.allow_down_peer_bypass);
        assert_eq!((config.warnings.len(), config.ignored.len()), (0, 0));
    }
}

#[test]
fn a_talos_fragment() {
    let config = good(&format!(
        "machine:\n  type: controlplane\n  network:\n    hostname: node-1.example.org\n    kubespan:\n      enabled: true\n\
         \x20     allowDownPeerBypass: yes\n      harvestExtraEndpoints: true\n      mtu: 1380\n      filters:\n\
         \x20       endpoints: [0.0.0.0/0, '!192.168.0.0/16', '::/0']\n        excludeAdvertisedNetworks: [192.168.1.0/24]\n\
         cluster:\n  id: {ID}\n  secret: {SECRET}\n  discovery:\n    enabled: true\n    registries:\n\
         \x20     kubernetes: {{disabled: true}}\n      service: {{endpoint: 'http://10.0.0.1:3000/'}}\n"
    ));
    let cluster = config.cluster.as_ref().unwrap();
    assert_eq!((cluster.id.as_str(), cluster.secret.to_base64().as_str()), (ID, SECRET));
    assert_eq!((config.machine_type, config.mtu), (MachineType::ControlPlane, 1380));
    assert!(config.allow_down_peer_bypass && config.harvest_extra_endpoints);
    assert_eq!(strings(&config.exclude_advertised_networks), ["192.168.1.0/24"]);
    assert_eq!(strings(&config.discovery.services), ["http://10.0.0.1:3000"]);
    assert_eq!(config.names("machine"), ("node-1.example.org".into(), "node-1".into()));
    let filters = config.endpoint_filters.unwrap();
    let kept = filters.addresses(&["192.168.1.1".parse().unwrap(), "10.0.0.1".parse().unwrap()]);
    assert_eq!(strings(&kept), ["10.0.0.1"]);
    assert_eq!((config.warnings.len(), config.ignored.len()), (0, 0));
}

#[test]
fn talos_discovery_is_off_unless_switched_on() {
    let services = |text: &str| strings(&good(&format!("cluster: {{discovery: {text}}}")).discovery.services);
    assert_eq!(services("{enabled: true}"), ["https://discovery.talos.dev:443"]);
    assert_eq!(services("{enabled: true, registries: {service: {}}}"), ["https://discovery.talos.dev:443"]);
    assert_eq!(services("{enabled: true, registries: {service: {disabled: true}}}"), [""; 0]);
    assert_eq!(services("{enabled: false, registries: {service: {endpoint: 'https://a'}}}"), [""; 0]);
    assert_eq!(services("{}"), [""; 0]);
}

#[test]
fn the_newer_talos_documents() {
    let config = good(&format!(
        "apiVersion: v1alpha1\nkind: KubeSpanConfig\nenabled: true\nmtu: 1300\nfilters: {{peerEndpoints: ['!10.0.0.0/8']}}\n\
         ---\napiVersion: v1alpha1\nkind: KubeSpanEndpointsConfig\nextraAnnouncedEndpoints:\n  - 192.168.13.46:52000\n  - '[2001:db8::1]:1'\n\
         ---\napiVersion: v1alpha1\nkind: DiscoveryServiceConfig\nname: a\nendpoint: https://discovery.talos.dev/\n\
         ---\napiVersion: v1alpha1\nkind: DiscoveryServiceConfig\nname: b\nendpoint: grpc://b.example\n\
         ---\napiVersion: v1alpha1\nkind: DiscoveryIdentityConfig\nclusterID: {ID}\nclusterSecret: {SECRET}\n\
         ---\napiVersion: v1alpha1\nkind: HostnameConfig\nhostname: x\n"
    ));
    assert_eq!(config.cluster.unwrap().id.as_str(), ID);
    assert_eq!(config.mtu, 1300);
    assert_eq!(strings(&config.extra_endpoints), ["192.168.13.46:52000", "[2001:db8::1]:1"]);
    assert_eq!(
        strings(&config.discovery.services),
        ["https://discovery.talos.dev:443", "https://b.example:443"]
    );
    assert!(config.peer_endpoint_filters.is_some() && config.endpoint_filters.is_none());
    assert_eq!(config.ignored, ["HostnameConfig"]);
}

#[test]
fn spans_own_document() {
    let services = vec!["https://d.example".parse().unwrap()];
    let token = Token::generate(&[5; 64], services).unwrap();
    let config = good(&format!(
        "apiVersion: span/v1\nkind: NodeConfig\ntoken: {}\nname: n1\nhostname: n1.example\nmachineType: worker\n\
         interface: mesh0\nmtu: 9000\nlistenPort: 0\nthreads: 4\ncipher: chacha20-poly1305\noverlayAddress: mac\nroutes: false\nstateDirectory: state\n\
         controlSocket: /tmp/s.sock\naddresses: [192.0.2.7, '2001:db8::7']\nadvertisedNetworks:\n- 10.244.1.7/24\n\
         discovery:\n  ca: /etc/ca.pem\n  bypassMesh: false\n  serve: '[::]:3000'\n  membersFile: members.yaml\n",
        *token.encode()
    ));
    assert_eq!(config.cluster.as_ref().unwrap().id, *token.id());
    assert_eq!(config.cluster.as_ref().unwrap().secret.as_bytes(), token.secret().as_bytes());
    assert_eq!(strings(&config.discovery.services), ["https://d.example:443"]);
    assert_eq!(config.names("machine"), ("n1.example".into(), "n1".into()));
    assert_eq!((config.interface.as_str(), config.mtu, config.listen_port), ("mesh0", 9000, 0));
    assert_eq!((config.overlay_host, config.routes), (OverlayHost::Mac, false));
    assert_eq!(config.cipher, Cipher::ChaCha20Poly1305);
    assert_eq!(config.threads.get(), 4);
    assert_eq!(config.control_socket(), Path::new("/tmp/s.sock"));
    assert_eq!(strings(&config.addresses), ["192.0.2.7", "2001:db8::7"]);
    assert_eq!(strings(&config.advertised_networks), ["10.244.1.0/24"]);
    assert_eq!(config.discovery.ca.as_deref(), Some(Path::new("/etc/ca.pem")));
    assert_eq!(config.discovery.serve, Some("[::]:3000".parse().unwrap()));
    assert!(!config.discovery.bypass_mesh);
    assert_eq!(
        (config.state_dir.to_str(), config.discovery.members.unwrap().to_str()),
        (Some("state"), Some("members.yaml"))
    );
}

/// The example in the module's documentation is taken as it stands, but for the token.
#[test]
fn the_documented_example_is_right() {
    let source = include_str!("mod.rs");
    let example = source.split("```yaml\n").nth(1).unwrap().split("//! ```").next().unwrap();
    let example: String =
        example.lines().map(|line| line.trim_start_matches("//!").to_owned() + "\n").collect();
    let config = good(&example.replace("token:", "#"));
    assert_eq!(config.discovery.members.unwrap(), Path::new("/etc/span/members.yaml"));
    assert_eq!(config.hostname.unwrap(), "node-1.example.org");
}

/// What `talosctl gen config` writes, shortened: everything that is not for Span is left alone.
#[test]
fn a_whole_machine_configuration() {
    let config = good(&format!(
        "version: v1alpha1\ndebug: false\npersist: true\nmachine:\n  type: worker\n  token: abc.def\n  ca: {{crt: x, key: ''}}\n\
         \x20 certSANs: []\n  time: {{servers: [a]}}\n  env: {{A: b}}\n  kubelet: {{image: k}}\n  pods: []\n  network:\n    interfaces: [{{interface: eth0, mtu: 9000}}]\n    nameservers: [1.1.1.1]\n    kubespan: {{enabled: true}}\n\
         \x20 install: {{disk: /dev/sda}}\ncluster:\n  id: {ID}\n  secret: {SECRET}\n  controlPlane: {{endpoint: 'https://1.2.3.4:6443'}}\n\
         \x20 clusterName: c\n  network: {{podSubnets: [10.244.0.0/16]}}\n  token: t.t\n  ca: {{crt: x}}\n  etcd: {{}}\n  discovery: {{enabled: true}}\n"
    ));
    assert_eq!(config.machine_type, MachineType::Worker);
    assert!(config.ignored.contains(&"machine.install".to_owned()), "{:?}", config.ignored);
    assert!(config.ignored.contains(&"cluster.ca".to_owned()));
    assert!(config.ignored.contains(&"machine.network.interfaces".to_owned()));
    assert_eq!(config.warnings, []);
}

#[test]
fn what_has_no_effect_is_told() {
    let config = good("machine: {network: {kubespan: {advertiseKubernetesNetworks: true}}}");
    assert!(config.advertise_kubernetes_networks);
    assert_eq!(
        config.warnings[0].to_string(),
        "1:32: machine.network.kubespan.advertiseKubernetesNetworks: Span does not ask Kubernetes for this node's pod \
         networks; list them in advertisedNetworks of Span's NodeConfig"
    );
    let config = good("cluster: {discovery: {enabled: true, registries: {kubernetes: {disabled: false}}}}");
    assert_eq!(config.warnings[0].field, "cluster.discovery.registries.kubernetes.disabled");
}

/// The messages people will meet, word by word.
#[test]
fn errors_say_where_what_and_what_to_do() {
    let own = "apiVersion: span/v1\nkind: NodeConfig\n";
    let kubespan = "apiVersion: v1alpha1\nkind: KubeSpanConfig\n";
    let endpoints = "apiVersion: v1alpha1\nkind: KubeSpanEndpointsConfig\n";
    let service = "apiVersion: v1alpha1\nkind: DiscoveryServiceConfig\nname: a\n";
    let identity = "apiVersion: v1alpha1\nkind: DiscoveryIdentityConfig\n";
    for (head, text, expected) in [
        (
            "",
            "machine:\n  network:\n    kubespan:\n      mut: 1\n",
            "4:7: machine.network.kubespan.mut: no such field; did you mean `mtu`?",
        ),
        (
            "",
            "machine:\n  network:\n    kubspan: {}\n",
            "3:5: machine.network.kubspan: no such field; did you mean `kubespan`?",
        ),
        ("", "cluster:\n  discvery: {}\n", "2:3: cluster.discvery: no such field; did you mean `discovery`?"),
        (
            "",
            "network: {}\n",
            "1:1: network: no such field; there is apiVersion, cluster, debug, kind, machine, persist, version",
        ),
        (
            "",
            "cluster: {discovery: {enabled: true, registry: {}}}\n",
            "1:38: cluster.discovery.registry: no such field; did you mean `registries`?",
        ),
        ("", "machine: {<<: {type: worker}}\n", "1:11: machine.<<: no such field; there is type, network"),
        ("", "- a\n", "1:1: expected a section with fields, found a list"),
        ("", "machine: [a]\n", "1:10: machine: expected a section with fields, found a list"),
        ("", "a: b: c\n", "1:5: not usable YAML: mapping values are not allowed in this context"),
        (
            "",
            "machine: {type: router}\n",
            "1:17: machine.type: `router` is no role; write controlplane or worker",
        ),
        (
            "",
            "version: v1beta1\n",
            "1:10: version: `v1beta1` is a version of the Talos configuration Span does not know; it knows v1alpha1",
        ),
        (
            "",
            "cluster: {id: abc}\n",
            "1:11: cluster.secret: is missing; a cluster is known by its id and its secret together",
        ),
        (
            "",
            "cluster: {id: abc, secret: c2hvcnQ=}\n",
            "1:28: cluster.secret: is no cluster secret; write 32 bytes as 44 characters of base64",
        ),
        (
            "",
            "cluster: {discovery: {registries: {service: {endpoint: 'https://a'}}}}\n",
            "1:11: cluster.discovery: names a service but is not switched on; add `enabled: true`",
        ),
        (
            kubespan,
            "enabled: false\n",
            "3:10: enabled: KubeSpan is switched off here; set it to true or leave it out to run it with Span",
        ),
        (
            kubespan,
            "enabled: 'true'\n",
            "3:10: enabled: `true` is no truth value; write true or false, without quotes",
        ),
        (
            kubespan,
            "mtu: 1279\n",
            "3:6: mtu: `1279` is no MTU; write a number between 1280, which IPv6 needs, and 65455",
        ),
        (
            kubespan,
            "mtu: 1420.0\n",
            "3:6: mtu: `1420.0` is no MTU; write a number between 1280, which IPv6 needs, and 65455",
        ),
        (kubespan, "mtu: [1]\n", "3:6: mtu: expected a single value, found a list"),
        (
            kubespan,
            "filters: {endpoints: [10.0.0.0/33]}\n",
            "3:23: filters.endpoints[0]: `10.0.0.0/33` is neither a network nor an address; write 192.168.0.0/16 or 192.0.2.1, with `!` in front to exclude it",
        ),
        (
            kubespan,
            "filters: {excludeAdvertisedNetworks: 10.0.0.0/8}\n",
            "3:38: filters.excludeAdvertisedNetworks: expected a list, each item in a line of its own after `- `, found a single value",
        ),
        (
            endpoints,
            "extraAnnouncedEndpoints:\n- 192.0.2.1:51820\n- host.example:51820\n",
            "5:3: extraAnnouncedEndpoints[1]: `host.example:51820` is not an IP address and a port; write them as 192.0.2.1:51820 or [2001:db8::1]:51820, names are not looked up",
        ),
        (
            endpoints,
            "extraAnnouncedEndpoints: ['192.0.2.1:0']\n",
            "3:27: extraAnnouncedEndpoints[0]: `192.0.2.1:0` has port 0; write the port others can reach",
        ),
        (
            endpoints,
            "extraAnnouncedEndpoints: ['0.0.0.0:1']\n",
            "3:27: extraAnnouncedEndpoints[0]: `0.0.0.0:1` is no address of a single machine that others can reach",
        ),
        (
            service,
            "endpoint: discovery.example\n",
            "4:11: endpoint: `discovery.example` cannot be used: the address of a discovery service begins with https://, http:// or grpc://",
        ),
        (
            service,
            "endpoint: https://a:99999\n",
            "4:11: endpoint: `https://a:99999` cannot be used: the port of a discovery service is a number from 1 to 65535",
        ),
        (service, "", "1:1: endpoint: is missing; write a URL such as https://discovery.talos.dev/"),
        (
            identity,
            "clusterID: x\n",
            "1:1: clusterSecret: is missing; a cluster is known by its id and its secret together",
        ),
        (
            identity,
            "clusterID: ''\nclusterSecret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
            "3:12: clusterID: `` cannot be used: a cluster id has 1 to 256 bytes, this one has 0",
        ),
        (own, "listen_port: 1\n", "3:1: listen_port: no such field; did you mean `listenPort`?"),
        (
            own,
            "listenPort: 70000\n",
            "3:13: listenPort: `70000` is no UDP port; write a number between 1 and 65535, or 0 to take any",
        ),
        (
            own,
            "interface: a/b\n",
            "3:12: interface: `a/b` cannot be an interface's name; use 1 to 15 letters, digits, '_', '=', '+', '.' or '-'",
        ),
        (
            own,
            "name: -x\n",
            "3:7: name: `-x` is no host name; use letters, digits and '-' between dots, at most 63 to a part",
        ),
        (own, "threads: 0\n", "3:10: threads: `0` is no number of threads; write one between 1 and 255"),
        (
            own,
            "cipher: aes-256-gcm\n",
            "3:9: cipher: `aes-256-gcm` is no choice of cipher; write auto or chacha20-poly1305",
        ),
        (
            own,
            "overlayAddress: ip\n",
            "3:17: overlayAddress: `ip` is no source of an address; write key, or mac as Talos has it",
        ),
        (
            own,
            "addresses: [10.0.0.0/8]\n",
            "3:13: addresses[0]: `10.0.0.0/8` is no IP address; write one such as 192.0.2.1 or 2001:db8::1",
        ),
        (
            own,
            "addresses: [127.0.0.1]\n",
            "3:13: addresses[0]: `127.0.0.1` is no address of a single machine that others can reach",
        ),
        (
            own,
            "advertisedNetworks: [10.0.0.1]\n",
            "3:22: advertisedNetworks[0]: `10.0.0.1` is an address without a prefix length; for this one alone write 10.0.0.1/32",
        ),
        (
            own,
            "advertisedNetworks: [pods]\n",
            "3:22: advertisedNetworks[0]: `pods` is not a network; write an address and a prefix length such as 10.0.0.0/8 or fd00::/8",
        ),
        (
            own,
            "token: span1.AFUH\n",
            "3:8: token: the token is cut short: 10 characters of 120; copy all of it",
        ),
        (
            own,
            "stateDirectory: ''\n",
            "3:17: stateDirectory: `` is empty; write a path or leave the field out",
        ),
        (own, "discovery: {servers: []}\n", "3:13: discovery.servers: no such field; did you mean `serve`?"),
        (
            "",
            "kind: NodeConfig\n",
            "1:1: apiVersion: is missing; write v1alpha1 for documents of Talos, span/v1 for Span's own",
        ),
        (
            "",
            "apiVersion: span/v1\n",
            "1:1: kind: is missing; write NodeConfig for Span's own document, or one of Talos' kinds",
        ),
        (
            "",
            "apiVersion: v1\nkind: Pod\n",
            "1:13: apiVersion: `v1` is no version Span knows; write v1alpha1 for documents of Talos, span/v1 for Span's own",
        ),
        ("", "apiVersion: span/v1\nkind: Node\n", "2:7: kind: no such kind of document; there is NodeConfig"),
        (
            "",
            "apiVersion: v1alpha1\nkind: KubespanEndpointsConfig\n",
            "2:7: kind: no such kind of document; did you mean `KubeSpanEndpointsConfig`?",
        ),
    ] {
        assert_eq!(bad(&format!("{head}{text}")), [expected], "{text}");
    }
}

#[test]
fn one_thing_is_said_in_one_place() {
    let kubespan = "apiVersion: v1alpha1\nkind: KubeSpanConfig\n";
    let service = "apiVersion: v1alpha1\nkind: DiscoveryServiceConfig\nname: a\nendpoint: https://a\n";
    let identity = format!(
        "apiVersion: v1alpha1\nkind: DiscoveryIdentityConfig\nclusterID: x\nclusterSecret: {SECRET}\n"
    );
    let own = "apiVersion: span/v1\nkind: NodeConfig\n";
    for (first, second, expected) in [
        (
            "machine: {network: {kubespan: {}}}\n",
            kubespan,
            "3:1: KubeSpanConfig: already configured by machine.network.kubespan in line 1; remove one of them",
        ),
        (
            kubespan,
            kubespan,
            "4:1: KubeSpanConfig: already configured by KubeSpanConfig in line 1; remove one of them",
        ),
        (
            "cluster: {discovery: {enabled: false}}\n",
            service,
            "3:1: DiscoveryServiceConfig: already configured by cluster.discovery in line 1; remove one of them",
        ),
        (
            service,
            "cluster: {discovery: {}}\n",
            "6:11: cluster.discovery: already configured by DiscoveryServiceConfig in line 1; remove one of them",
        ),
        (
            service,
            service,
            "8:1: name: already configured by another service named a in line 3; remove one of them",
        ),
        (
            &identity,
            &format!("cluster: {{id: x, secret: {SECRET}}}\n"),
            "6:11: cluster.id: already configured by clusterID in line 3; remove one of them",
        ),
        (
            &identity,
            &format!("{own}token: span1.x\n"),
            "8:1: token: already configured by clusterID in line 3; remove one of them",
        ),
        (
            &format!("{kubespan}mtu: 1400\n"),
            &format!("{own}mtu: 1400\n"),
            "7:1: mtu: already configured by mtu in line 3; remove one of them",
        ),
        (
            "machine: {network: {hostname: a}}\n",
            &format!("{own}hostname: a\n"),
            "5:1: hostname: already configured by machine.network.hostname in line 1; remove one of them",
        ),
        (
            "machine: {type: worker}\n",
            &format!("{own}machineType: worker\n"),
            "5:1: machineType: already configured by machine.type in line 1; remove one of them",
        ),
        (
            "machine: {type: worker}\n",
            "cluster: {}\n",
            "3:1: the Talos machine configuration: already configured by the Talos machine configuration in line 1; remove one of them",
        ),
        (own, own, "4:1: NodeConfig: already configured by NodeConfig in line 1; remove one of them"),
    ] {
        assert_eq!(bad(&format!("{first}---\n{second}")), [expected], "{first}---\n{second}");
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once_in_the_order_of_the_file() {
    let text = "apiVersion: span/v1\nkind: NodeConfig\nmtu: 1\nfoo: 1\ninterface: 'a b'\naddresses: [x, y]\n";
    let places: Vec<_> = bad(text).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(places, ["3:6:", "4:1:", "5:12:", "6:13:", "6:16:"]);
}

#[test]
fn secrets_are_in_no_message() {
    let secret = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2Vj";
    for text in [
        format!("cluster: {{id: x, secret: {secret}}}"),
        format!("cluster: {{id: x, secret: [{secret}]}}"),
        format!("apiVersion: span/v1\nkind: NodeConfig\ntoken: span1.{secret}"),
        format!(
            "apiVersion: v1alpha1\nkind: DiscoveryIdentityConfig\nclusterID: x\nclusterSecret: '{secret}'"
        ),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
    }
    let config = good(&format!("cluster: {{id: x, secret: {SECRET}}}"));
    assert!(!format!("{config:?}").contains(SECRET));
}

#[test]
fn values_are_shown_short_and_without_control_characters() {
    let error = &bad(&format!("machine: {{type: \"\\e[31m{}\"}}", "x".repeat(500)))[0];
    assert!(error.len() < 200 && error.contains("`\\u{1b}[31mxxx") && error.contains("…`"), "{error}");
}

#[test]
fn files() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("span.yaml");
    let error = load(&file).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{} cannot be read: ", file.display())), "{error}");
    assert!(load(home.path()).is_err());

    fs::write(&file, "mtu: 1\n").unwrap();
    let error = load(&file).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}:1:1: mtu: no such field", file.display())), "{error}");
    fs::write(&file, b"\xff\xfe").unwrap();
    assert!(matches!(load(&file), Err(ConfigError::Unreadable { .. })));

    let text = format!(
        "cluster: {{id: x, secret: {SECRET}}}\n---\napiVersion: span/v1\nkind: NodeConfig\nstateDirectory: state\n\
         discovery: {{membersFile: /abs/members.yaml, ca: ca.pem}}\n"
    );
    fs::write(&file, &text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let config = load(&file).unwrap();
    assert_eq!(config.state_dir, home.path().join("state"));
    assert_eq!(config.discovery.ca, Some(home.path().join("ca.pem")));
    assert_eq!(config.discovery.members.unwrap(), Path::new("/abs/members.yaml"));
    assert!(config.warnings[0].to_string().contains("chmod 600"), "{}", config.warnings[0]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(load(&file).unwrap().warnings, []);
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text: String) {
        let _ = parse(&text);
    }

    /// Fields that exist, at places where they do not, with values that do not fit.
    #[test]
    fn any_mixture_is_parsed_or_refused(lines in prop::collection::vec(
        "(  ){0,4}(- )?(machine|cluster|network|kubespan|discovery|kind|apiVersion|mtu|filters|endpoints|token|<<): ?(v1alpha1|span/v1|NodeConfig|KubeSpanConfig|1300|\\[|\\]|\\{|\\*a|&a|x|'|true|)",
        0..16,
    )) {
        let _ = parse(&lines.join("\n"));
    }
}
