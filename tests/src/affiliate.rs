//! Members driven by the discovery client that Talos links.

use serde_json::{Value, json};

use crate::mesh::{Cluster, DISCOVERY};
use crate::namespace::Namespace;
use crate::process::Process;
use crate::programs;
use crate::wg::Keys;

/// A member as Talos plays it.
#[derive(Debug)]
pub struct Affiliate {
    /// The program.
    pub process: Process,
    /// How it describes itself.
    pub me: Value,
}

impl Affiliate {
    /// Starts it on `host`. `observed` are endpoints of others it says it has seen, `options` those of the program.
    #[must_use]
    pub fn start(host: &Namespace, cluster: &Cluster, me: Value, observed: &Value, options: &[&str]) -> Self {
        let (me_text, observed) = (me.to_string(), observed.to_string());
        let fixed = ["-endpoint", DISCOVERY, "-cluster", &cluster.id, "-secret", &cluster.secret];
        let arguments = fixed.into_iter().chain(["-publish", &me_text, "-observed", &observed]);
        let process = host.spawn(&programs::peer("affiliate"), arguments.chain(options.iter().copied()));
        Self { process, me }
    }

    /// What it saw last.
    #[must_use]
    pub fn view(&self) -> Value {
        let out = self.process.out();
        out.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default()
    }

    /// The member with this id, as it sees it.
    #[must_use]
    pub fn sees(&self, id: &Value) -> Option<Value> {
        self.view()["members"].as_array()?.iter().find(|member| member["node_id"] == *id).cloned()
    }
}

/// How a member describes itself: a key of its own, two addresses, two networks.
#[must_use]
pub fn member(host: &Namespace, name: &str, number: u8) -> Value {
    json!({
        "node_id": format!("{name}AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        "addresses": [format!("10.5.0.{number}"), format!("fd05::{number}")],
        "hostname": format!("{name}.example.org"),
        "nodename": name,
        "machine_type": "controlplane",
        "operating_system": "Talos (v1.14.0)",
        "public_key": Keys::new(host).public,
        "kubespan_address": format!("fd6d:2850:f683:2002::{number}"),
        "additional_addresses": [format!("10.244.{number}.0/24"), format!("fd44:{number}::/64")],
        "exclude_advertised_addresses": ["192.168.0.0/16"],
        "api_server_port": 6443,
        "endpoints": [format!("10.5.0.{number}:51820"), format!("[fd05::{number}]:51820")],
    })
}
