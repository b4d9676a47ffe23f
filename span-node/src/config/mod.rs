//! The configuration file: a stream of YAML documents, each of one of these kinds.
//!
//! * **A Talos machine configuration**, whole or a fragment: the document without `kind`. Span reads
//!   `machine.type`, `machine.network.hostname`, `machine.network.kubespan`, `cluster.id`,
//!   `cluster.secret` and `cluster.discovery`.
//! * **Talos' newer documents**, `apiVersion: v1alpha1`: `KubeSpanConfig`, `KubeSpanEndpointsConfig`,
//!   `DiscoveryServiceConfig` (any number) and `DiscoveryIdentityConfig`.
//! * **Span's own document** for what Talos lacks, `apiVersion: span/v1`, `kind: NodeConfig`:
//!
//! ```yaml
//! apiVersion: span/v1
//! kind: NodeConfig
//! token: span1.…                   # the cluster, instead of Talos' id and secret
//! name: node-1                     # default: the first part of the host name
//! hostname: node-1.example.org     # default: the machine's
//! machineType: worker              # or controlplane
//! interface: span0
//! mtu: 1420                        # or in KubeSpanConfig
//! listenPort: 51820                # 0 takes any
//! threads: 1                       # how many carry packets
//! cipher: auto                     # or chacha20-poly1305, for WireGuard's own alone
//! overlayAddress: key              # host part: from the key, or from the mac as Talos has it
//! routes: true                     # set routes, rules and nftables
//! stateDirectory: /var/lib/span
//! controlSocket: /run/span/span0.sock
//! addresses: [192.0.2.7]           # of this node, besides those of its interfaces
//! advertisedNetworks: [10.244.1.0/24]
//! discovery:
//!   ca: /etc/span/ca.pem           # trusted besides the system's
//!   bypassMesh: true               # keep connections to services out of the mesh
//!   serve: "[::]:3000"             # serve discovery from this node
//!   membersFile: /etc/span/members.yaml
//! ```
//!
//! Every document is optional and every field has a default, see [`NodeConfig`]. Relative paths begin at
//! the file's directory.
//!
//! **What Span does not know.** In everything Span reads, an unknown field is an error that says where it
//! is and what may have been meant. The rest of a Talos configuration (`machine.install`,
//! `cluster.apiServer`, other kinds of `v1alpha1` documents, …) is left alone and listed in
//! [`NodeConfig::ignored`], unless its name looks like a slip of one that Span reads.
//!
//! **One place for one thing.** Old and new forms exclude each other as in Talos: `KubeSpanConfig` and
//! `machine.network.kubespan`, `DiscoveryServiceConfig` and `cluster.discovery`, and for the cluster's
//! identity `DiscoveryIdentityConfig`, `cluster.id` with `cluster.secret`, and `token`.

mod builder;
mod node;
mod own;
mod problem;
mod section;
mod suggest;
mod talos;
mod value;
mod yaml;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

pub use node::{Cluster, Discovery, NodeConfig, OverlayHost};
pub use problem::{ConfigError, Fault, Position, Problem, Warning};

use builder::{Builder, Topic};
use section::{Report, Section};
use yaml::Node;

/// Reads the configuration in `file`.
///
/// # Errors
/// When the file cannot be read, or with everything that is wrong with it.
pub fn load(file: &Path) -> Result<NodeConfig, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { file: file.to_owned(), source };
    let (text, others_can_read) = read(file).map_err(unreadable)?;
    let mut config = parse(&text).map_err(|error| match error {
        ConfigError::Invalid { problems, .. } => {
            ConfigError::Invalid { file: Some(file.to_owned()), problems }
        }
        error @ ConfigError::Unreadable { .. } => error,
    })?;
    if let Some(directory) = file.parent() {
        config.resolve_paths(directory);
    }
    if others_can_read && config.cluster.is_some() {
        config.warnings.push(Warning {
            at: Position { line: 1, column: 1 },
            field: "this file".into(),
            text: "others on this machine can read the cluster's secret in it; run chmod 600 on it",
        });
    }
    Ok(config)
}

/// Reads a configuration from text; touches nothing else.
///
/// # Errors
/// [`ConfigError::Invalid`] with everything that is wrong, in the order of the text.
pub fn parse(text: &str) -> Result<NodeConfig, ConfigError> {
    let invalid = |problems| ConfigError::Invalid { file: None, problems };
    let documents = yaml::documents(text).map_err(|problem| invalid(vec![problem]))?;
    let (mut builder, mut report) = (Builder::default(), Report::default());
    for root in &documents {
        document(root, &mut builder, &mut report);
    }
    if !report.problems.is_empty() {
        report.problems.sort_by_key(|problem| problem.at);
        return Err(invalid(report.problems));
    }
    Ok(NodeConfig { warnings: report.warnings, ignored: report.ignored, ..builder.config })
}

const TALOS: &str = "v1alpha1";
const SPAN: &str = "span/v1";
const TALOS_KINDS: &[&str] =
    &["KubeSpanConfig", "KubeSpanEndpointsConfig", "DiscoveryServiceConfig", "DiscoveryIdentityConfig"];

fn document(root: &Node, builder: &mut Builder, report: &mut Report) {
    let Some(mut document) = Section::new(root, "", report) else { return };
    let (version, kind) = (document.get("apiVersion"), document.get("kind"));
    let (version, kind) = match (version, kind) {
        (None, None) => {
            if builder.claim(Topic::MachineConfig, "the Talos machine configuration", root.at, report) {
                talos::machine_config(document, builder, report);
            }
            return;
        }
        (Some(version), Some(kind)) => (version, kind),
        (None, Some(kind)) => {
            let fault = Fault::Missing("write v1alpha1 for documents of Talos, span/v1 for Span's own");
            return report.problem(kind.at, "apiVersion", fault);
        }
        (Some(version), None) => {
            let fault = Fault::Missing("write NodeConfig for Span's own document, or one of Talos' kinds");
            return report.problem(version.at, "kind", fault);
        }
    };
    let (Some(version_text), Some(name)) = (version.text(report), kind.text(report)) else { return };
    match (version_text, name) {
        (SPAN, "NodeConfig") => {
            if builder.claim(Topic::Span, name, root.at, report) {
                own::node_config(document, builder, report);
            }
        }
        (TALOS, "KubeSpanConfig") => {
            if builder.claim(Topic::KubeSpan, name, root.at, report) {
                talos::kubespan_config(document, builder, report);
            }
        }
        (TALOS, "KubeSpanEndpointsConfig") => {
            if builder.claim(Topic::KubeSpanEndpoints, name, root.at, report) {
                talos::kubespan_endpoints_config(document, builder, report);
            }
        }
        (TALOS, "DiscoveryServiceConfig") => {
            if builder.claim_service(name, root.at, report) {
                talos::discovery_service_config(root, document, builder, report);
            }
        }
        (TALOS, "DiscoveryIdentityConfig") => {
            talos::discovery_identity_config(root, document, builder, report);
        }
        (SPAN, other) => unknown_kind(other, &["NodeConfig"], kind.node.at, report),
        (TALOS, other) => match suggest::closest(other, TALOS_KINDS) {
            Some(_) => unknown_kind(other, TALOS_KINDS, kind.node.at, report),
            None => report.ignored.push(other.to_owned()),
        },
        (_, _) => {
            let reason =
                "is no version Span knows; write v1alpha1 for documents of Talos, span/v1 for Span's own";
            let fault = Fault::Value { value: Some(version_text.to_owned()), reason: reason.to_owned() };
            report.problem(version.node.at, "apiVersion", fault);
        }
    }
}

fn unknown_kind(kind: &str, known: &[&'static str], at: Position, report: &mut Report) {
    let suggestion = suggest::closest(kind, known).map(str::to_owned);
    report.problem(at, "kind", Fault::UnknownKind { suggestion, known: known.to_vec() });
}

/// The file's text, and whether others than its owner may read it.
fn read(file: &Path) -> io::Result<(Zeroizing<String>, bool)> {
    /// Far more than any machine configuration.
    const LARGEST: u64 = 16 << 20;
    let opened = File::open(file)?;
    let metadata = opened.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // Room for everything at once: growing would leave copies of secrets behind.
    let expected = usize::try_from(metadata.len().min(LARGEST)).unwrap_or_default();
    let mut text = Zeroizing::new(String::with_capacity(expected + 1));
    if opened.take(LARGEST + 1).read_to_string(&mut text)? as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 16 MiB"));
    }
    Ok((text, metadata.permissions().mode() & 0o077 != 0))
}

#[cfg(test)]
mod tests;
