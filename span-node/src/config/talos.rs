//! The parts of Talos' configuration that are about KubeSpan and discovery.

use span_core::mesh::{Filter, MachineType};
use span_discovery::seal::{ClusterId, ClusterSecret};

use super::builder::{Builder, Topic};
use super::node::Cluster;
use super::problem::Fault;
use super::section::{Field, Report, Section};
use super::value;
use super::yaml::Node;

/// The service Talos uses when told no other.
const TALOS_SERVICE: &str = "https://discovery.talos.dev/";

const NO_SECRET: &str = "is no cluster secret; write 32 bytes as 44 characters of base64";

/// Names Talos has that could be taken for a slip of one Span reads.
const TALOS_MACHINE: &[&str] = &["time", "token", "ca", "env", "pods"];
const TALOS_CLUSTER: &[&str] = &["ca", "etcd", "token"];
const TALOS_NETWORK: &[&str] = &["nameservers", "interfaces"];

/// The document without a kind: `machine` and `cluster`. Only what Span uses is looked at; the rest of a
/// whole machine configuration is left alone.
pub(super) fn machine_config(mut root: Section<'_>, builder: &mut Builder, report: &mut Report) {
    if let Some(version) = root.get("version") {
        version.parse_with(report, |version| match version {
            "v1alpha1" => Ok(()),
            _ => {
                Err("is a version of the Talos configuration Span does not know; it knows v1alpha1"
                    .to_owned())
            }
        });
    }
    // Talos' own, without meaning here.
    root.get("debug");
    root.get("persist");
    if let Some(machine) = root.section("machine", report) {
        self::machine(machine, builder, report);
    }
    if let Some(cluster) = root.section("cluster", report) {
        self::cluster(cluster, builder, report);
    }
    root.finish(report);
}

fn machine(mut section: Section<'_>, builder: &mut Builder, report: &mut Report) {
    if let Some(field) = section.get("type")
        && let Some(machine_type) = machine_type(&field, report)
        && builder.claim(Topic::MachineType, &field.path, field.at, report)
    {
        builder.config.machine_type = machine_type;
    }
    if let Some(mut network) = section.section("network", report) {
        if let Some(field) = network.get("hostname") {
            hostname(&field, builder, report);
        }
        if let Some(field) = network.get("kubespan")
            && builder.claim(Topic::KubeSpan, &field.path, field.at, report)
            && let Some(mut kubespan) = Section::new(field.node, &field.path, report)
        {
            self::kubespan(&mut kubespan, builder, report);
            kubespan.finish(report);
        }
        network.finish_beside(TALOS_NETWORK, report);
    }
    section.finish_beside(TALOS_MACHINE, report);
}

fn cluster(mut section: Section<'_>, builder: &mut Builder, report: &mut Report) {
    let (id, secret) = (section.get("id"), section.get("secret"));
    match (&id, &secret) {
        (Some(id), Some(secret)) => identity(id, secret, builder, report),
        (None, None) => {}
        (Some(only), None) | (None, Some(only)) => {
            let other = if id.is_some() { "cluster.secret" } else { "cluster.id" };
            report.problem(
                only.at,
                other,
                Fault::Missing("a cluster is known by its id and its secret together"),
            );
        }
    }
    if let Some(field) = section.get("discovery")
        && builder.claim(Topic::Discovery, &field.path, field.at, report)
        && let Some(discovery) = Section::new(field.node, &field.path, report)
    {
        self::discovery(discovery, &field, builder, report);
    }
    section.finish_beside(TALOS_CLUSTER, report);
}

fn discovery(mut section: Section<'_>, whole: &Field<'_>, builder: &mut Builder, report: &mut Report) {
    let enabled = section.get("enabled").and_then(|field| field.boolean(report));
    let (mut service_disabled, mut service_said, mut endpoint) = (false, false, None);
    if let Some(mut registries) = section.section("registries", report) {
        if let Some(mut kubernetes) = registries.section("kubernetes", report) {
            if let Some(field) = kubernetes.get("disabled")
                && field.boolean(report) == Some(false)
            {
                report.warn(
                    &field,
                    "Span does not read Kubernetes nodes; its members come from the discovery services",
                );
            }
            kubernetes.finish(report);
        }
        if let Some(mut service) = registries.section("service", report) {
            service_disabled = service.get("disabled").and_then(|field| field.boolean(report)) == Some(true);
            if let Some(field) = service.get("endpoint") {
                service_said = true;
                endpoint = value::service(&field, report);
            }
            service.finish(report);
        }
        registries.finish(report);
    }
    section.finish(report);
    match enabled {
        Some(true) if !service_disabled => {
            // An endpoint that was there but wrong is already reported: no other is put in its place.
            let service = if service_said { endpoint } else { TALOS_SERVICE.parse().ok() };
            builder.config.discovery.services.extend(service);
        }
        Some(true | false) => {}
        None if service_said && !service_disabled => {
            let fault = Fault::Refused("names a service but is not switched on; add `enabled: true`");
            report.problem(whole.at, &whole.path, fault);
        }
        None => {}
    }
}

/// `KubeSpanConfig`.
pub(super) fn kubespan_config(mut document: Section<'_>, builder: &mut Builder, report: &mut Report) {
    kubespan(&mut document, builder, report);
    document.finish(report);
}

/// The fields that the section and the document have in common.
fn kubespan(section: &mut Section<'_>, builder: &mut Builder, report: &mut Report) {
    if let Some(field) = section.get("enabled")
        && field.boolean(report) == Some(false)
    {
        let fault = Fault::Refused(
            "KubeSpan is switched off here; set it to true or leave it out to run it with Span",
        );
        report.problem(field.node.at, &field.path, fault);
    }
    if let Some(field) = section.get("advertiseKubernetesNetworks")
        && let Some(advertise) = field.boolean(report)
    {
        builder.config.advertise_kubernetes_networks = advertise;
        if advertise {
            report.warn(
                &field,
                "Span does not ask Kubernetes for this node's pod networks; list them in advertisedNetworks of Span's \
                 NodeConfig",
            );
        }
    }
    if let Some(bypass) = section.get("allowDownPeerBypass").and_then(|field| field.boolean(report)) {
        builder.config.allow_down_peer_bypass = bypass;
    }
    if let Some(harvest) = section.get("harvestExtraEndpoints").and_then(|field| field.boolean(report)) {
        builder.config.harvest_extra_endpoints = harvest;
    }
    if let Some(field) = section.get("mtu") {
        mtu(&field, builder, report);
    }
    if let Some(mut filters) = section.section("filters", report) {
        builder.config.endpoint_filters =
            filters.get("endpoints").map(|field| endpoint_filter(&field, report));
        builder.config.peer_endpoint_filters =
            filters.get("peerEndpoints").map(|field| endpoint_filter(&field, report));
        if let Some(field) = filters.get("excludeAdvertisedNetworks") {
            builder.config.exclude_advertised_networks = field.list(report, value::network);
        }
        filters.finish(report);
    }
}

/// `KubeSpanEndpointsConfig`.
pub(super) fn kubespan_endpoints_config(
    mut document: Section<'_>,
    builder: &mut Builder,
    report: &mut Report,
) {
    if let Some(field) = document.get("extraAnnouncedEndpoints") {
        builder.config.extra_endpoints = field.list(report, value::endpoint);
    }
    document.finish(report);
}

/// `DiscoveryServiceConfig`.
pub(super) fn discovery_service_config(
    root: &Node,
    mut document: Section<'_>,
    builder: &mut Builder,
    report: &mut Report,
) {
    match document.get("name") {
        Some(field) => {
            if let Some(name) = field.text(report) {
                builder.name_service(name, &field, report);
            }
        }
        None => {
            report.problem(root.at, "name", Fault::Missing("give every discovery service a name of its own"));
        }
    }
    match document.get("endpoint") {
        Some(field) => builder.config.discovery.services.extend(value::service(&field, report)),
        None => {
            report.problem(
                root.at,
                "endpoint",
                Fault::Missing("write a URL such as https://discovery.talos.dev/"),
            );
        }
    }
    document.finish(report);
}

/// `DiscoveryIdentityConfig`.
pub(super) fn discovery_identity_config(
    root: &Node,
    mut document: Section<'_>,
    builder: &mut Builder,
    report: &mut Report,
) {
    let (id, secret) = (document.get("clusterID"), document.get("clusterSecret"));
    for (field, name) in [(&id, "clusterID"), (&secret, "clusterSecret")] {
        if field.is_none() {
            let fault = Fault::Missing("a cluster is known by its id and its secret together");
            report.problem(root.at, name, fault);
        }
    }
    if let (Some(id), Some(secret)) = (id, secret) {
        identity(&id, &secret, builder, report);
    }
    document.finish(report);
}

fn identity(id: &Field<'_>, secret: &Field<'_>, builder: &mut Builder, report: &mut Report) {
    if !builder.claim(Topic::Identity, &id.path, id.at, report) {
        return;
    }
    let id = id
        .parse_with(report, |text| ClusterId::new(text).map_err(|error| format!("cannot be used: {error}")));
    let secret =
        secret.secret_with(report, |text| text.parse::<ClusterSecret>().map_err(|_| NO_SECRET.to_owned()));
    if let (Some(id), Some(secret)) = (id, secret) {
        builder.config.cluster = Some(Cluster { id, secret });
    }
}

fn endpoint_filter(field: &Field<'_>, report: &mut Report) -> Filter {
    Filter::new(field.list(report, value::filter_rule))
}

/// The interface's MTU, wherever it is said.
pub(super) fn mtu(field: &Field<'_>, builder: &mut Builder, report: &mut Report) {
    if builder.claim(Topic::Mtu, &field.path, field.at, report)
        && let Some(mtu) = value::mtu(field, report)
    {
        builder.config.mtu = mtu;
    }
}

/// The full host name, wherever it is said.
pub(super) fn hostname(field: &Field<'_>, builder: &mut Builder, report: &mut Report) {
    if builder.claim(Topic::Hostname, &field.path, field.at, report) {
        builder.config.hostname = value::host_name(field, report);
    }
}

pub(super) fn machine_type(field: &Field<'_>, report: &mut Report) -> Option<MachineType> {
    field.parse_with(report, |word| match MachineType::from_talos(word) {
        MachineType::Unknown => Err("is no role; write controlplane or worker".to_owned()),
        role @ (MachineType::Init | MachineType::ControlPlane | MachineType::Worker) => Ok(role),
    })
}
