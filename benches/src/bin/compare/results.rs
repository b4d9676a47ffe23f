//! What a run found, as it is kept on disk, and what follows from it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::measure::Figures;
use crate::metric::Metric;

/// A whole comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    /// When it began, UTC.
    pub(crate) date: String,
    /// The command line.
    pub(crate) command: String,
    /// Processor, cores and kernel.
    pub(crate) machine: String,
    /// What the cable was like.
    pub(crate) link: String,
    /// What the ratios are taken to.
    pub(crate) reference: String,
    /// What was measured, in the order asked for.
    pub(crate) subjects: Vec<Subject>,
    /// Every measurement, in the order it was made.
    pub(crate) runs: Vec<Run>,
}

/// One thing that was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Subject {
    /// What it is called.
    pub(crate) name: String,
    /// Which programs they were.
    pub(crate) version: String,
}

/// One measurement of one of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Counted from 1.
    pub(crate) repetition: u32,
    /// Of which.
    pub(crate) name: String,
    /// What was found.
    pub(crate) figures: Figures,
    /// Why nothing was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) failure: Option<String>,
}

/// What the repetitions say together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    /// The median of the ratios to the reference, each taken inside one repetition.
    pub(crate) ratio: Option<f64>,
}

impl Results {
    /// Reads what [`write`](Results::write) wrote.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Keeps everything, in one step: an interrupted run leaves what it had.
    pub(crate) fn write(&self, path: &Path) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).expect("plain data");
        let new = path.with_extension("new");
        std::fs::write(&new, text + "\n")
            .and_then(|()| std::fs::rename(&new, path))
            .map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The metrics that anything was found of.
    pub(crate) fn metrics(&self) -> impl Iterator<Item = &'static Metric> + '_ {
        crate::metric::ALL
            .iter()
            .filter(|metric| self.runs.iter().any(|run| run.figures.contains_key(metric.key)))
    }

    /// What the repetitions say about one metric of one of them.
    pub(crate) fn spread(&self, name: &str, metric: &Metric) -> Option<Spread> {
        let values = self.values(name, metric);
        let reference = self.values(&self.reference, metric);
        let mut ratios: Vec<f64> = values
            .iter()
            .filter_map(|(repetition, value)| {
                let (_, base) = reference.iter().find(|(other, _)| other == repetition)?;
                (*base > 0.0).then_some(value / base)
            })
            .collect();
        let mut values: Vec<f64> = values.into_iter().map(|(_, value)| value).collect();
        let median_value = median(&mut values)?;
        // In order now.
        let (least, most) = (values[0], values[values.len() - 1]);
        Some(Spread { median: median_value, least, most, ratio: median(&mut ratios) })
    }

    /// How many measurements of this one came to an end.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.runs.iter().filter(|run| run.name == name && run.failure.is_none()).count()
    }

    /// How many measurements were disturbed: others used more than a fifth of a core.
    pub(crate) fn disturbed(&self) -> usize {
        self.runs.iter().filter(|run| run.figures.get("foreign").is_some_and(|cores| *cores > 0.2)).count()
    }

    fn values(&self, name: &str, metric: &Metric) -> Vec<(u32, f64)> {
        let runs = self.runs.iter().filter(|run| run.name == name);
        runs.filter_map(|run| Some((run.repetition, *run.figures.get(metric.key)?))).collect()
    }
}

/// The middle of the values, which are in order then.
fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two of three repetitions of `other` succeeded; `base` is the reference.
    pub(crate) fn example() -> Results {
        let run = |repetition, name: &str, tcp1: f64| Run {
            repetition,
            name: name.to_owned(),
            figures: Figures::from([("tcp1".to_owned(), tcp1), ("cpu1".to_owned(), 10.0 / tcp1)]),
            failure: None,
        };
        let failed = Run {
            repetition: 3,
            name: "other".to_owned(),
            figures: Figures::new(),
            failure: Some("it ended".to_owned()),
        };
        let subject = |name: &str| Subject { name: name.to_owned(), version: format!("{name} 1.0") };
        Results {
            date: "2026-11-21".to_owned(),
            command: "compare base other".to_owned(),
            machine: "a machine, 2 cores".to_owned(),
            link: "veth".to_owned(),
            reference: "base".to_owned(),
            subjects: vec![subject("base"), subject("other")],
            runs: vec![
                run(1, "base", 2.0),
                run(1, "other", 4.0),
                run(2, "other", 3.0),
                run(2, "base", 1.0),
                run(3, "base", 5.0),
                failed,
            ],
        }
    }

    fn metric(key: &str) -> &'static Metric {
        crate::metric::ALL.iter().find(|metric| metric.key == key).unwrap()
    }

    #[test]
    fn ratios_are_taken_inside_a_repetition() {
        let results = example();
        let base = results.spread("base", metric("tcp1")).unwrap();
        assert_eq!(base, Spread { median: 2.0, least: 1.0, most: 5.0, ratio: Some(1.0) });
        let other = results.spread("other", metric("tcp1")).unwrap();
        assert_eq!(other, Spread { median: 3.5, least: 3.0, most: 4.0, ratio: Some(2.5) });
        assert_eq!(results.spread("other", metric("rss")), None);
        assert_eq!((results.count("base"), results.count("other")), (3, 2));
        assert_eq!(results.metrics().map(|metric| metric.key).collect::<Vec<_>>(), ["tcp1", "cpu1"]);
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results.json");
        example().write(&path).unwrap();
        assert_eq!(Results::read(&path).unwrap(), example());
    }
}
