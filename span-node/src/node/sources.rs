//! The tiers that a configuration names, and the discovery service a node may serve itself.

use span_core::mesh::NodeId;
use span_discovery::file::FileTier;
use span_discovery::tier::Tier;

use super::error::StartError;
use crate::config::{Cluster, NodeConfig};

/// The tiers of the configuration, the weakest first: a static list, then the services.
pub(super) fn configured(
    config: &NodeConfig,
    cluster: &Cluster,
    node_id: &NodeId,
) -> Result<Vec<Box<dyn Tier>>, StartError> {
    let mut tiers: Vec<Box<dyn Tier>> = Vec::new();
    if let Some(path) = &config.discovery.members {
        // Read once now, so that a mistake in it is told to whoever starts the node.
        FileTier::read(path).map_err(|error| StartError::Source(error.to_string()))?;
        tiers.push(Box::new(FileTier::new(path)));
    }
    #[cfg(feature = "service")]
    tiers.extend(super::service::clients(config, cluster, node_id));
    #[cfg(not(feature = "service"))]
    {
        let _ = (cluster, node_id);
        if !config.discovery.services.is_empty() || config.discovery.serve.is_some() {
            let why = "this build of Span has no discovery service: build it with the feature `service`";
            return Err(StartError::Source(why.to_owned()));
        }
    }
    Ok(tiers)
}
