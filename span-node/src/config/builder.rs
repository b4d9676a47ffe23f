use std::collections::HashMap;

use super::node::NodeConfig;
use super::problem::{Fault, Position};
use super::section::{Field, Report};

/// The configuration while it is read, and who has said what.
#[derive(Default)]
pub(super) struct Builder {
    pub(super) config: NodeConfig,
    said: HashMap<Topic, Said>,
    service_names: HashMap<String, usize>,
}

/// What only one place may speak of: with two, one would silently lose.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Topic {
    MachineConfig,
    Span,
    KubeSpan,
    KubeSpanEndpoints,
    Discovery,
    Identity,
    Hostname,
    MachineType,
    Mtu,
}

struct Said {
    by: String,
    line: usize,
}

impl Builder {
    /// Whether `by` may speak of `topic`; if not, that is reported.
    pub(super) fn claim(&mut self, topic: Topic, by: &str, at: Position, report: &mut Report) -> bool {
        match self.said.get(&topic) {
            Some(Said { by: other, line }) => {
                let fault = Fault::Conflict { other: other.clone(), line: *line };
                report.problem(at, by, fault);
                false
            }
            None => {
                self.said.insert(topic, Said { by: by.to_owned(), line: at.line });
                true
            }
        }
    }

    /// As [`claim`](Builder::claim) for services described in documents: many of them, but none beside
    /// `cluster.discovery`.
    pub(super) fn claim_service(&mut self, by: &str, at: Position, report: &mut Report) -> bool {
        match self.said.get(&Topic::Discovery) {
            Some(said) if said.by == by => true,
            Some(_) | None => self.claim(Topic::Discovery, by, at, report),
        }
    }

    /// No two services may have the same name.
    pub(super) fn name_service(&mut self, name: &str, field: &Field<'_>, report: &mut Report) {
        if let Some(line) = self.service_names.insert(name.to_owned(), field.at.line) {
            let other = format!("another service named {name}");
            report.problem(field.at, &field.path, Fault::Conflict { other, line });
        }
    }
}
