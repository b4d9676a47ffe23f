//! The tiers that a configuration names, and the discovery service a node may serve itself.

use std::collections::BTreeSet;
use std::path::PathBuf;

use span_core::mesh::NodeId;
use span_discovery::file::FileTier;
use span_discovery::tier::Tier;

use crate::config::{Cluster, Discovery, NodeConfig};

/// Who named a tier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// The configuration: a list in a file.
    File(PathBuf),
    /// The configuration: a service, by its URL.
    Service(String),
    /// The embedder.
    Given,
}

/// A tier and who named it.
pub(super) type Named = (Origin, Box<dyn Tier>);

/// What the configuration names.
pub(super) fn named(discovery: &Discovery) -> BTreeSet<Origin> {
    let file = discovery.members.iter().cloned().map(Origin::File);
    file.chain(discovery.services.iter().map(|url| Origin::Service(url.to_string()))).collect()
}

/// The tiers of the configuration, the weakest first: a static list, then the services. Those in `present` are
/// left out.
pub(super) fn configured(
    config: &NodeConfig,
    cluster: &Cluster,
    node_id: &NodeId,
    present: &BTreeSet<Origin>,
) -> Result<Vec<Named>, String> {
    let mut tiers: Vec<Named> = Vec::new();
    if let Some(path) = &config.discovery.members {
        let origin = Origin::File(path.clone());
        if !present.contains(&origin) {
            // Read once now, so that a mistake in it is told to whoever starts the node.
            FileTier::read(path).map_err(|error| error.to_string())?;
            tiers.push((origin, Box::new(FileTier::new(path))));
        }
    }
    #[cfg(feature = "service")]
    for url in &config.discovery.services {
        let origin = Origin::Service(url.to_string());
        if !present.contains(&origin) {
            tiers.push((origin, super::service::client(url, config, cluster, node_id)));
        }
    }
    #[cfg(not(feature = "service"))]
    {
        let _ = (cluster, node_id);
        if !config.discovery.services.is_empty() || config.discovery.serve.is_some() {
            let why = "this build of Span has no discovery service: build it with the feature `service`";
            return Err(why.to_owned());
        }
    }
    Ok(tiers)
}
