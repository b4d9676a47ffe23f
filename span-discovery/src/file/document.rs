//! The document of the file tier.

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::Deserialize;
use serde_saphyr::Spanned;
use span_core::crypto::Suite;
use span_core::key::PublicKey;
use span_core::mesh::{ControlPlane, KubeSpan, MachineType, Member, NodeId};

/// What is wrong in a member list, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentError {
    /// The line it is in, from 1; 0 if it concerns the document as a whole.
    pub line: u64,
    /// The field, as `members[2].publicKey`; empty if the document's form is broken.
    pub field: String,
    /// What is wrong with it.
    pub what: String,
}

impl Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.line)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for DocumentError {}

/// Reads a member list from YAML or JSON.
pub fn parse(text: &str) -> Result<Vec<Member>, DocumentError> {
    let document: Document = serde_saphyr::from_str(text).map_err(|error| syntax_error(&error))?;
    let mut members = Vec::with_capacity(document.members.len());
    let (mut ids, mut keys) = (HashMap::new(), HashMap::new());
    for (index, entry) in document.members.iter().enumerate() {
        let member = entry.value.member(index)?;
        let key = member.kubespan.as_ref().map(|mesh| mesh.public_key);
        let twice = ids.insert(member.node_id.clone(), index).map(|first| ("nodeId", first));
        if let Some((field, first)) = twice.or(keys.insert(key, index).map(|first| ("publicKey", first))) {
            return Err(DocumentError {
                line: entry.referenced.line(),
                field: format!("members[{index}]"),
                what: format!("has the same {field} as members[{first}]"),
            });
        }
        members.push(member);
    }
    Ok(members)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    members: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Entry {
    public_key: Spanned<String>,
    node_id: Option<Spanned<String>>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    hostname: String,
    machine_type: Option<Spanned<String>>,
    #[serde(default)]
    operating_system: String,
    address: Option<Spanned<String>>,
    #[serde(default)]
    addresses: Vec<Spanned<String>>,
    #[serde(default)]
    networks: Vec<Spanned<String>>,
    #[serde(default)]
    excluded_networks: Vec<Spanned<String>>,
    #[serde(default)]
    endpoints: Vec<Spanned<String>>,
    api_server_port: Option<Spanned<String>>,
    #[serde(default)]
    suites: Vec<Spanned<String>>,
}

impl Entry {
    fn member(&self, index: usize) -> Result<Member, DocumentError> {
        let at = |field: &str| format!("members[{index}].{field}");
        let public_key: PublicKey =
            self.public_key.value.parse().map_err(|e| error(&self.public_key, at("publicKey"), &e))?;
        let node_id = match &self.node_id {
            Some(id) => NodeId::new(&id.value).map_err(|e| error(id, at("nodeId"), &e))?,
            None => NodeId::new(&self.public_key.value).expect("a key has 44 characters"),
        };
        let machine_type = match &self.machine_type {
            None => MachineType::Unknown,
            Some(word) => match MachineType::from_talos(&word.value) {
                MachineType::Unknown if word.value != "unknown" => {
                    return Err(error(word, at("machineType"), &"is `controlplane` or `worker`"));
                }
                known @ (MachineType::Unknown
                | MachineType::Init
                | MachineType::ControlPlane
                | MachineType::Worker) => known,
            },
        };
        let address = match &self.address {
            Some(text) => Some(one(text, || at("address"), ADDRESS)?),
            None => None,
        };
        let control_plane = match &self.api_server_port {
            Some(text) => {
                let port: NonZeroU16 = one(text, || at("apiServerPort"), PORT)?;
                Some(ControlPlane { api_server_port: u32::from(port.get()) })
            }
            None => None,
        };
        Ok(Member {
            node_id,
            addresses: each(&self.addresses, &at("addresses"), ADDRESS)?,
            hostname: self.hostname.clone(),
            nodename: self.name.clone(),
            machine_type,
            operating_system: self.operating_system.clone(),
            kubespan: Some(KubeSpan {
                public_key,
                address,
                additional_addresses: each(&self.networks, &at("networks"), NETWORK)?,
                exclude_advertised_addresses: each(
                    &self.excluded_networks,
                    &at("excludedNetworks"),
                    NETWORK,
                )?,
                suites: each::<Suite>(&self.suites, &at("suites"), SUITE)?.into_iter().collect(),
            }),
            control_plane,
            endpoints: each(&self.endpoints, &at("endpoints"), ENDPOINT)?,
        })
    }
}

const ADDRESS: &str = "is an IP address, such as 10.1.0.4 or fd00::1";
const NETWORK: &str = "is a network, such as 10.244.1.0/24 or fd00::/64";
const SUITE: &str = "is a cipher suite, aes-256-gcm";
const PORT: &str = "is a port, 1 to 65535";
const ENDPOINT: &str = "is an IP address and a port, such as 192.0.2.7:51820 or \"[2001:db8::7]:51820\"";

fn each<T: FromStr>(texts: &[Spanned<String>], field: &str, form: &str) -> Result<Vec<T>, DocumentError> {
    texts.iter().enumerate().map(|(i, text)| one(text, || format!("{field}[{i}]"), form)).collect()
}

fn one<T: FromStr>(
    text: &Spanned<String>,
    field: impl FnOnce() -> String,
    form: &str,
) -> Result<T, DocumentError> {
    text.value.parse().map_err(|_| error(text, field(), &format_args!("{form}; not {:?}", text.value)))
}

fn error(at: &Spanned<String>, field: String, what: &dyn Display) -> DocumentError {
    DocumentError { line: at.referenced.line(), field, what: what.to_string() }
}

fn syntax_error(error: &serde_saphyr::Error) -> DocumentError {
    let line = error.location().map_or(0, |location| location.line());
    // The first line says what; the others draw the place, which a log has no room for. The line is told apart.
    let text = error.without_snippet().to_string();
    let what = text.lines().next().unwrap_or_default();
    let what = what.rsplit_once(" at line ").map_or(what, |(what, _)| what).to_owned();
    DocumentError { line, field: String::new(), what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "PLPNBddmTgHJhtw0vxltq1ZBdPP9RNOEUd5JjJZzBRY=";

    fn with(lines: &str) -> String {
        format!("members:\n  - publicKey: {KEY}\n{lines}")
    }

    #[test]
    fn a_whole_member() {
        let text = with(
            "    nodeId: one\n    name: alpha\n    hostname: alpha.example\n    machineType: controlplane\n\
             \x20   operatingSystem: Linux\n    address: fd00::1\n    addresses: [10.1.0.4, fd00::1]\n\
             \x20   networks: [10.244.1.0/24]\n    excludedNetworks: [10.0.0.0/8]\n    apiServerPort: 6443\n\
             \x20   endpoints: [\"192.0.2.7:51820\", \"[2001:db8::7]:51820\"]\n    suites: [aes-256-gcm]\n",
        );
        let members = parse(&text).unwrap();
        let [member] = &members[..] else { panic!("{members:?}") };
        assert_eq!(member.node_id.as_str(), "one");
        assert_eq!((member.nodename.as_str(), member.hostname.as_str()), ("alpha", "alpha.example"));
        assert_eq!(member.machine_type, MachineType::ControlPlane);
        assert_eq!(member.addresses.len(), 2);
        assert_eq!(member.endpoints[1], "[2001:db8::7]:51820".parse().unwrap());
        assert_eq!(member.control_plane, Some(ControlPlane { api_server_port: 6443 }));
        let mesh = member.kubespan.as_ref().unwrap();
        assert_eq!(mesh.address, Some("fd00::1".parse().unwrap()));
        assert_eq!(mesh.additional_addresses, ["10.244.1.0/24".parse().unwrap()]);
        assert_eq!(mesh.exclude_advertised_addresses, ["10.0.0.0/8".parse().unwrap()]);
        assert!(mesh.suites.iter().eq([Suite::Aes256Gcm]));
    }

    #[test]
    fn the_key_is_enough_and_json_will_do() {
        assert_eq!(parse(&with("")).unwrap()[0].node_id.as_str(), KEY);
        assert_eq!(
            parse(&format!(r#"{{"members": [{{"publicKey": "{KEY}"}}]}}"#)).unwrap(),
            parse(&with("")).unwrap()
        );
    }

    #[test]
    fn mistakes_are_named_with_line_and_field() {
        for (text, line, field, what) in [
            ("members:\n  - publicKey: short\n".to_owned(), 2, "members[0].publicKey", "44 characters"),
            (with("    nodeId: ''\n"), 3, "members[0].nodeId", "1 to 256"),
            (with("    address: fd00::/64\n"), 3, "members[0].address", "fd00::/64"),
            (
                with("    networks:\n      - 10.0.0.0/8\n      - 10.0.0.0/33\n"),
                5,
                "members[0].networks[1]",
                "33",
            ),
            (with("    endpoints:\n      - example.org:1\n"), 4, "members[0].endpoints[0]", "example.org:1"),
            (with("    suites: [rot13]\n"), 3, "members[0].suites[0]", "aes-256-gcm; not \"rot13\""),
            (with("    machineType: toaster\n"), 3, "members[0].machineType", "controlplane"),
            (with(&format!("  - publicKey: {KEY}\n")), 3, "members[1]", "members[0]"),
            (with("    endpoint: x\n"), 3, "", "endpoint"),
            (with("    apiServerPort: 65536\n"), 3, "members[0].apiServerPort", "65536"),
            ("members:\n  - name: x\n".to_owned(), 2, "", "publicKey"),
            ("members: [\n".to_owned(), 1, "", "bracket"),
        ] {
            let error = parse(&text).expect_err(&text);
            assert_eq!((error.line, error.field.as_str()), (line, field), "{error}");
            assert!(error.what.contains(what), "{error}");
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,200}") {
            let _ = parse(&text);
            let _ = parse(&with(&text));
        }
    }
}
