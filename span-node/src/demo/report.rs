//! What the demo found: as a table for a person, as one JSON object for a program.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::capture::Counts;
use super::transfer::Received;

/// Everything measured. Links are ordered pairs: 3 nodes have 6.
pub(super) struct Report {
    pub(super) nodes: u16,
    pub(super) links: Vec<Link>,
    /// The error tells why nothing was moved.
    pub(super) transfer: Result<Transfer, String>,
    /// How many frames the nodes sent through the switch.
    pub(super) frames: u64,
    /// What the capture saw; `None` where the nodes are in one process, whose packets only those with
    /// privileges can capture.
    pub(super) counts: Option<Counts>,
}

/// One direction between two nodes.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) from: u16,
    pub(super) to: u16,
    /// From the last node's start until this tunnel stood; `None` while it does not.
    pub(super) connected: Option<Duration>,
    /// The round trips of the pings that were answered.
    pub(super) round_trips: Vec<Duration>,
    /// Whether every address of the other node answered.
    pub(super) answered: bool,
}

/// The bulk transfer.
pub(super) struct Transfer {
    pub(super) from: u16,
    pub(super) to: u16,
    pub(super) received: Received,
}

/// The object `--json` prints.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    nodes: u16,
    links_total: usize,
    links_up: usize,
    /// From the last node's start until the link stood.
    connect_ms_p50: Option<f64>,
    connect_ms_max: Option<f64>,
    ping_ms_p50: Option<f64>,
    tcp_gbps: Option<f64>,
    /// `null` where nobody looked.
    underlay_plaintext_packets: Option<u64>,
    /// Whether the nodes were in network namespaces of their own, or all in one process.
    namespaces: bool,
    pub(super) ok: bool,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Link {
    /// The tunnel stands and pings go through it.
    fn is_up(&self) -> bool {
        self.connected.is_some() && self.answered
    }
}

impl Report {
    /// The figures in short.
    pub(super) fn summary(&self) -> Summary {
        let links_up = self.links.iter().filter(|link| link.is_up()).count();
        let mut connected: Vec<_> = self.links.iter().filter_map(|link| link.connected).collect();
        let mut pings: Vec<_> = self.links.iter().flat_map(|link| link.round_trips.iter().copied()).collect();
        let received = self.transfer.as_ref().ok().map(|transfer| transfer.received);
        let transferred = received.is_some_and(|received| received.intact && received.bytes > 0);
        Summary {
            nodes: self.nodes,
            links_total: self.links.len(),
            links_up,
            connect_ms_p50: median(&mut connected).map(millis),
            connect_ms_max: connected.iter().max().copied().map(millis),
            ping_ms_p50: median(&mut pings).map(millis),
            tcp_gbps: received.map(|received| round(received.gigabits_per_second())),
            underlay_plaintext_packets: self.counts.as_ref().map(|counts| counts.plaintext),
            namespaces: self.counts.is_some(),
            ok: links_up == self.links.len()
                && transferred
                && self.counts.as_ref().is_none_or(|counts| counts.plaintext == 0 && counts.lost == 0),
            error: None,
        }
    }
}

impl Summary {
    /// A demo that ended before it had figures.
    pub(super) fn failed(nodes: u16, error: String) -> Self {
        let links_total = usize::from(nodes) * (usize::from(nodes) - 1);
        Self { nodes, links_total, error: Some(error), ..Self::default() }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = self.summary();
        // Every link of a large mesh would be a wall of text.
        if self.nodes <= 4 { self.fmt_links(f) } else { self.fmt_nodes(f) }?;
        writeln!(f)?;
        writeln!(f, "links       {} of {} up", summary.links_up, summary.links_total)?;
        if let (Some(p50), Some(max)) = (summary.connect_ms_p50, summary.connect_ms_max) {
            writeln!(f, "connect     {p50:.0} ms median, {max:.0} ms at most after the last node's start")?;
        }
        if let Some(p50) = summary.ping_ms_p50 {
            writeln!(f, "ping        {p50:.2} ms median")?;
        }
        match &self.transfer {
            Ok(Transfer { from, to, received }) => {
                let damage = if received.intact { "" } else { ", DAMAGED" };
                let (rate, megabytes) = (received.gigabits_per_second(), received.bytes / 1_000_000);
                writeln!(
                    f,
                    "tcp         {rate:.2} Gbit/s, {megabytes} MB from node-{from} to node-{to}{damage}"
                )?;
            }
            Err(what) => writeln!(f, "tcp         broken: {what}")?,
        }
        match &self.counts {
            Some(Counts { plaintext, lost, leaks }) => {
                writeln!(f, "underlay    {plaintext} of {} packets in plaintext", self.frames)?;
                for (leak, count) in leaks {
                    writeln!(f, "            {count} x {leak}")?;
                }
                if *lost > 0 {
                    writeln!(f, "            {lost} packets came too fast to be looked at")?;
                }
            }
            None => writeln!(f, "underlay    loopback, not captured: that takes privileges")?,
        }
        writeln!(f)?;
        f.write_str(if summary.ok { "ok" } else { "NOT OK" })
    }
}

impl Report {
    fn fmt_links(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<20}{:>12}{:>10}", "link", "connect ms", "ping ms")?;
        for link in &self.links {
            let name = format!("node-{} \u{2192} node-{}", link.from, link.to);
            let connected = figure(link.connected.map(millis), 0);
            let ping = figure(median(&mut link.round_trips.clone()).map(millis), 2);
            let remark = if link.is_up() { "" } else { "   DOWN" };
            writeln!(f, "{name:<20}{connected:>12}{ping:>10}{remark}")?;
        }
        Ok(())
    }

    fn fmt_nodes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<10}{:>10}{:>20}{:>10}", "node", "links up", "connect ms p50/max", "ping ms")?;
        for node in 1..=self.nodes {
            let links: Vec<&Link> = self.links.iter().filter(|link| link.from == node).collect();
            let up = links.iter().filter(|link| link.is_up()).count();
            let mut connected: Vec<_> = links.iter().filter_map(|link| link.connected).collect();
            let mut pings: Vec<_> = links.iter().flat_map(|link| link.round_trips.iter().copied()).collect();
            let p50 = figure(median(&mut connected).map(millis), 0);
            let max = figure(connected.last().copied().map(millis), 0);
            let (up, connected) = (format!("{up}/{}", links.len()), format!("{p50}/{max}"));
            let ping = figure(median(&mut pings).map(millis), 2);
            writeln!(f, "{:<10}{up:>10}{connected:>20}{ping:>10}", format!("node-{node}"))?;
        }
        Ok(())
    }
}

fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

/// The middle of the values, the lower one of two; leaves them sorted.
fn median(values: &mut [Duration]) -> Option<Duration> {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied()
}

fn millis(duration: Duration) -> f64 {
    round(duration.as_secs_f64() * 1e3)
}

/// Three digits after the point tell all these figures know.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Report {
        let link = |from, to, connected| Link {
            from,
            to,
            connected: Some(Duration::from_millis(connected)),
            round_trips: vec![Duration::from_micros(250)],
            answered: true,
        };
        let received = Received { bytes: 500_000_000, time: Duration::from_secs(2), intact: true };
        Report {
            nodes: 2,
            links: vec![link(1, 2, 30), link(2, 1, 41)],
            transfer: Ok(Transfer { from: 1, to: 2, received }),
            frames: 1000,
            counts: Some(Counts::default()),
        }
    }

    #[test]
    fn the_object_has_the_promised_fields() {
        let object = serde_json::to_string(&good().summary()).unwrap();
        assert_eq!(
            object,
            "{\"nodes\":2,\"links_total\":2,\"links_up\":2,\"connect_ms_p50\":30.0,\"connect_ms_max\":41.0,\
             \"ping_ms_p50\":0.25,\"tcp_gbps\":2.0,\"underlay_plaintext_packets\":0,\
             \"namespaces\":true,\"ok\":true}"
        );
    }

    #[test]
    fn every_shortcoming_shows() {
        type Spoil = fn(&mut Report);
        let spoil: [(&str, Spoil); 6] = [
            ("a link down", |report| report.links[1].connected = None),
            ("a ping lost", |report| report.links[0].answered = false),
            ("no transfer", |report| report.transfer = Err(String::new())),
            ("a damaged transfer", |report| report.transfer.as_mut().unwrap().received.intact = false),
            ("a leak", |report| report.counts.as_mut().unwrap().plaintext = 1),
            ("a lost frame", |report| report.counts.as_mut().unwrap().lost = 1),
        ];
        assert!(good().summary().ok);
        for (what, spoil) in spoil {
            let mut report = good();
            spoil(&mut report);
            assert!(!report.summary().ok, "{what}");
            assert!(report.to_string().ends_with("NOT OK"), "{what}");
        }
    }

    #[test]
    fn a_failure_has_the_same_fields() {
        let failed = serde_json::to_value(Summary::failed(3, "no".to_owned())).unwrap();
        let mut expected: Vec<_> =
            serde_json::to_value(good().summary()).unwrap().as_object().unwrap().keys().cloned().collect();
        expected.push("error".to_owned());
        expected.sort();
        let mut keys: Vec<_> = failed.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        assert_eq!(keys, expected);
        assert_eq!((&failed["links_total"], &failed["ok"]), (&6.into(), &false.into()));
    }

    #[test]
    fn medians() {
        let median =
            |values: &[u64]| median(&mut values.iter().map(|v| Duration::from_secs(*v)).collect::<Vec<_>>());
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3, 1]), Some(Duration::from_secs(1)));
        assert_eq!(median(&[3, 1, 2]), Some(Duration::from_secs(2)));
    }
}
