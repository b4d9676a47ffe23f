//! The figures that are shown, and how.

/// One kind of figure.
#[derive(Debug, PartialEq)]
pub(crate) struct Metric {
    /// Its name in files.
    pub(crate) key: &'static str,
    /// Its name for people.
    pub(crate) title: &'static str,
    /// What it is counted in.
    pub(crate) unit: &'static str,
    /// Digits behind the point.
    pub(crate) digits: usize,
    /// Whether ratios of it say anything.
    pub(crate) has_ratio: bool,
}

const fn metric(key: &'static str, title: &'static str, unit: &'static str, digits: usize) -> Metric {
    Metric { key, title, unit, digits, has_ratio: true }
}

const fn share(key: &'static str, title: &'static str, unit: &'static str, digits: usize) -> Metric {
    Metric { key, title, unit, digits, has_ratio: false }
}

/// All of them, in the order they are shown.
pub(crate) const ALL: &[Metric] = &[
    metric("rtt50", "ping p50", "µs", 0),
    metric("rtt99", "ping p99", "µs", 0),
    metric("tcp1", "TCP, 1 stream", "Gbit/s", 2),
    metric("cpu1", "its CPU", "s/GiB", 2),
    metric("tcp4", "TCP, 4 streams", "Gbit/s", 2),
    metric("cpu4", "its CPU", "s/GiB", 2),
    metric("tcp1r", "TCP, reverse", "Gbit/s", 2),
    metric("cpu1r", "its CPU", "s/GiB", 2),
    metric("udp", "UDP, 1392 B", "Gbit/s", 2),
    share("udp_loss", "its loss", "%", 0),
    metric("udp_cpu", "its CPU", "s/GiB", 2),
    metric("udp512", "UDP, 512 B", "Gbit/s", 3),
    share("udp512_loss", "its loss", "%", 0),
    metric("udp512_cpu", "its CPU", "s/GiB", 1),
    metric("udp64", "UDP, 64 B", "Gbit/s", 3),
    share("udp64_loss", "its loss", "%", 0),
    metric("udp64_cpu", "its CPU", "s/GiB", 1),
    metric("load50", "ping p50 beside TCP", "µs", 0),
    metric("load99", "ping p99 beside TCP", "µs", 0),
    metric("rss", "peak memory", "MiB", 1),
    share("foreign", "others", "cores", 2),
];
