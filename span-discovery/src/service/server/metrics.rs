//! What the service counts, in the text form of Prometheus.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};
use std::time::Duration;

use tonic::Code;

use super::cluster::Collected;
use super::state::Totals;

/// Upper bounds of the buckets of handling times, in milliseconds.
const BUCKETS: [u64; 6] = [10, 100, 250, 500, 1000, 2500];

/// Client versions told apart; a client can call itself anything.
const VERSIONS: usize = 64;

#[derive(Default)]
pub(super) struct Metrics {
    hellos: BTreeMap<String, u64>,
    calls: [Calls; Method::ALL.len()],
    gc_runs: u64,
    gc_clusters: u64,
    gc_affiliates: u64,
    storage: [Storage; Operation::ALL.len()],
    snapshot_bytes: u64,
}

/// A method of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Hello,
    AffiliateUpdate,
    AffiliateDelete,
    List,
    Watch,
}

/// Something done with the state on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Load,
    Save,
}

#[derive(Default)]
struct Calls {
    started: u64,
    handled: BTreeMap<i32, u64>,
    buckets: [u64; BUCKETS.len()],
    count: u64,
    time: Duration,
}

#[derive(Default)]
struct Storage {
    ok: u64,
    failed: u64,
    totals: Totals,
    time: Duration,
}

impl Method {
    const ALL: [Method; 5] =
        [Method::Hello, Method::AffiliateUpdate, Method::AffiliateDelete, Method::List, Method::Watch];

    fn kind(self) -> &'static str {
        match self {
            Method::Hello | Method::AffiliateUpdate | Method::AffiliateDelete | Method::List => "unary",
            Method::Watch => "server_stream",
        }
    }
}

impl Operation {
    const ALL: [Operation; 2] = [Operation::Load, Operation::Save];

    fn as_str(self) -> &'static str {
        match self {
            Operation::Load => "load",
            Operation::Save => "save",
        }
    }
}

impl Metrics {
    pub(super) fn hello(&mut self, client_version: &str) {
        let mut version = reduced(client_version);
        if self.hellos.len() >= VERSIONS && !self.hellos.contains_key(&version) {
            version = UNKNOWN.to_owned();
        }
        *self.hellos.entry(version).or_default() += 1;
    }

    pub(super) fn started(&mut self, method: Method) {
        self.calls[method as usize].started += 1;
    }

    pub(super) fn handled(&mut self, method: Method, code: Code, time: Duration) {
        let calls = &mut self.calls[method as usize];
        *calls.handled.entry(code as i32).or_default() += 1;
        calls.count += 1;
        calls.time += time;
        for (count, bound) in calls.buckets.iter_mut().zip(BUCKETS) {
            *count += u64::from(time <= Duration::from_millis(bound));
        }
    }

    pub(super) fn collected(&mut self, collected: Collected) {
        self.gc_runs += 1;
        self.gc_clusters += collected.clusters as u64;
        self.gc_affiliates += collected.affiliates as u64;
    }

    /// A snapshot of `totals` in this many bytes was saved or loaded, or failed to be.
    pub(super) fn stored(&mut self, operation: Operation, outcome: Option<(Totals, usize)>, time: Duration) {
        let storage = &mut self.storage[operation as usize];
        match outcome {
            Some((totals, bytes)) => {
                storage.ok += 1;
                storage.totals = totals;
                storage.time = time;
                self.snapshot_bytes = bytes as u64;
            }
            None => storage.failed += 1,
        }
    }

    /// All of it, with how much there is now.
    pub(super) fn render(&self, now: Totals) -> String {
        let mut text = Text(String::with_capacity(8 << 10));
        text.family(
            "discovery_server_hello_requests_total",
            "counter",
            "Greetings, by version of the client.",
        );
        for (version, count) in &self.hellos {
            text.sample(
                format_args!("discovery_server_hello_requests_total{{client_version=\"{version}\"}}"),
                count,
            );
        }
        for (name, help, value) in [
            ("discovery_state_clusters", "Clusters known.", now.clusters),
            ("discovery_state_affiliates", "Affiliates known.", now.affiliates),
            ("discovery_state_endpoints", "Endpoints known.", now.endpoints),
            ("discovery_state_subscriptions", "Watches open.", now.watchers),
        ] {
            text.family(name, "gauge", help);
            text.sample(name, value);
        }
        for (name, help, value) in [
            ("discovery_state_gc_runs_total", "Collections of what expired.", self.gc_runs),
            ("discovery_state_gc_clusters_total", "Clusters collected.", self.gc_clusters),
            ("discovery_state_gc_affiliates_total", "Affiliates collected.", self.gc_affiliates),
        ] {
            text.family(name, "counter", help);
            text.sample(name, value);
        }
        self.render_storage(&mut text);
        self.render_calls(&mut text);
        text.0
    }

    fn render_storage(&self, text: &mut Text) {
        let each = || Operation::ALL.into_iter().zip(&self.storage);
        text.family("discovery_storage_operations_total", "counter", "Snapshots saved and loaded.");
        for (operation, storage) in each() {
            for (status, count) in [("success", storage.ok), ("error", storage.failed)] {
                let operation = operation.as_str();
                text.sample(
                    format_args!(
                        "discovery_storage_operations_total{{operation=\"{operation}\",status=\"{status}\"}}"
                    ),
                    count,
                );
            }
        }
        text.family("discovery_storage_last_snapshot_size_bytes", "gauge", "Size of the last snapshot.");
        text.sample("discovery_storage_last_snapshot_size_bytes", self.snapshot_bytes);
        for what in ["clusters", "affiliates", "endpoints", "duration_seconds"] {
            let name = format!("discovery_storage_last_operation_{what}");
            text.family(&name, "gauge", "Of the last snapshot saved or loaded.");
            for (operation, Storage { totals, time, .. }) in each() {
                let value = match what {
                    "clusters" => totals.clusters as f64,
                    "affiliates" => totals.affiliates as f64,
                    "endpoints" => totals.endpoints as f64,
                    _ => time.as_secs_f64(),
                };
                text.sample(format_args!("{name}{{operation=\"{}\"}}", operation.as_str()), value);
            }
        }
    }

    fn render_calls(&self, text: &mut Text) {
        let each = || Method::ALL.into_iter().zip(&self.calls).map(|(method, calls)| (Labels(method), calls));
        text.family("grpc_server_started_total", "counter", "Calls begun.");
        for (labels, calls) in each() {
            text.sample(format_args!("grpc_server_started_total{{{labels}}}"), calls.started);
        }
        text.family("grpc_server_handled_total", "counter", "Calls ended, by their outcome.");
        for (labels, calls) in each() {
            for (code, count) in &calls.handled {
                let code = code_name(Code::from(*code));
                text.sample(
                    format_args!("grpc_server_handled_total{{{labels},grpc_code=\"{code}\"}}"),
                    count,
                );
            }
        }
        let name = "grpc_server_handling_seconds";
        text.family(name, "histogram", "How long calls took.");
        for (labels, calls) in each() {
            for (bound, count) in BUCKETS.into_iter().zip(calls.buckets) {
                let bound = bound as f64 / 1000.0;
                text.sample(format_args!("{name}_bucket{{{labels},le=\"{bound}\"}}"), count);
            }
            text.sample(format_args!("{name}_bucket{{{labels},le=\"+Inf\"}}"), calls.count);
            text.sample(format_args!("{name}_sum{{{labels}}}"), calls.time.as_secs_f64());
            text.sample(format_args!("{name}_count{{{labels}}}"), calls.count);
        }
    }
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: impl Display, value: impl Display) {
        self.line(format_args!("{name} {value}"));
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // A String takes whatever is written.
        let _ = writeln!(self.0, "{line}");
    }
}

struct Labels(Method);

impl Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, kind) = (self.0, self.0.kind());
        write!(
            f,
            "grpc_type=\"{kind}\",grpc_service=\"sidero.discovery.server.Cluster\",grpc_method=\"{method:?}\""
        )
    }
}

const UNKNOWN: &str = "unknown";

/// `v1.13`, or `v1.13-pre` of `v1.13.0-alpha.1`; anything else is unknown.
fn reduced(version: &str) -> String {
    let (numbers, suffix) = match version.strip_prefix('v').unwrap_or("").split_once('-') {
        Some((numbers, _)) => (numbers, "-pre"),
        None => (version.strip_prefix('v').unwrap_or(""), ""),
    };
    let mut parts = numbers.split('.').map(str::parse::<u16>);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor)), Some(Ok(_)), None) => format!("v{major}.{minor}{suffix}"),
        _ => UNKNOWN.to_owned(),
    }
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_reduced() {
        for (version, label) in [
            ("v1.13.0", "v1.13"),
            ("v1.14.2-alpha.1-3-gabc", "v1.14-pre"),
            ("v1.14", "unknown"),
            ("1.14.0", "unknown"),
            ("v1.14.0.1", "unknown"),
            ("v1.x.0", "unknown"),
            ("", "unknown"),
            ("\"} evil", "unknown"),
        ] {
            assert_eq!(reduced(version), label, "{version}");
        }
    }

    #[test]
    fn a_client_cannot_invent_labels_without_end() {
        let mut metrics = Metrics::default();
        for minor in 0..1000 {
            metrics.hello(&format!("v1.{minor}.0"));
        }
        assert_eq!(metrics.hellos.len(), VERSIONS + 1);
        assert_eq!(metrics.hellos[UNKNOWN], 1000 - VERSIONS as u64);
    }

    #[test]
    fn the_text_says_what_was_counted() {
        let mut metrics = Metrics::default();
        metrics.hello("v1.13.0");
        metrics.started(Method::Watch);
        metrics.started(Method::List);
        metrics.handled(Method::List, Code::Ok, Duration::from_millis(20));
        metrics.collected(Collected { clusters: 1, affiliates: 2, endpoints: 3 });
        let totals = Totals { clusters: 4, affiliates: 5, endpoints: 6, watchers: 7 };
        metrics.stored(Operation::Save, Some((totals, 1234)), Duration::from_millis(500));
        let text = metrics.render(totals);
        let list =
            "grpc_type=\"unary\",grpc_service=\"sidero.discovery.server.Cluster\",grpc_method=\"List\"";
        for line in [
            "discovery_server_hello_requests_total{client_version=\"v1.13\"} 1".to_owned(),
            "discovery_state_subscriptions 7".to_owned(),
            "discovery_state_gc_affiliates_total 2".to_owned(),
            "discovery_storage_operations_total{operation=\"save\",status=\"success\"} 1".to_owned(),
            "discovery_storage_last_snapshot_size_bytes 1234".to_owned(),
            "discovery_storage_last_operation_duration_seconds{operation=\"save\"} 0.5".to_owned(),
            format!("grpc_server_started_total{{{list}}} 1"),
            format!("grpc_server_handled_total{{{list},grpc_code=\"OK\"}} 1"),
            format!("grpc_server_handling_seconds_bucket{{{list},le=\"0.01\"}} 0"),
            format!("grpc_server_handling_seconds_bucket{{{list},le=\"0.1\"}} 1"),
            format!("grpc_server_handling_seconds_bucket{{{list},le=\"+Inf\"}} 1"),
            format!("grpc_server_handling_seconds_sum{{{list}}} 0.02"),
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
