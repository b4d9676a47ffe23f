//! The counts that are checked in, and how others differ from them.

use std::fmt::Write as _;

use crate::callgrind::Cost;

/// A count this much larger than the baseline's is a regression, in percent.
pub(crate) const TOLERANCE: u64 = 5;

/// One line of the baseline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Of which case.
    pub(crate) name: String,
    /// What it cost.
    pub(crate) cost: Cost,
}

/// The counts of one compiler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Baseline {
    /// The compiler, with its version and what it builds for.
    pub(crate) rustc: String,
    /// Every case.
    pub(crate) lines: Vec<Line>,
}

const HEAD: &str = "\
# What each call costs: instructions, calls of memcpy and its like. `./test instructions` compares; to write it anew:
#   cargo run --profile count -p span-benches --no-default-features --bin instructions -- --write
";

impl Baseline {
    /// Reads a file.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let rustc = lines.next()?.to_owned();
        let lines = lines.map(|line| {
            let mut words = line.splitn(3, ' ').map(str::trim_start);
            let (instructions, rest) = (words.next()?.parse().ok()?, words.next()?);
            let copies = rest.parse().ok()?;
            Some(Line { name: words.next()?.to_owned(), cost: Cost { instructions, copies } })
        });
        Some(Self { rustc, lines: lines.collect::<Option<_>>()? })
    }

    /// Writes it.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("{HEAD}{}\n", self.rustc);
        for Line { name, cost } in &self.lines {
            let _ = writeln!(text, "{} {} {name}", cost.instructions, cost.copies);
        }
        text
    }

    /// What this case cost then.
    pub(crate) fn cost(&self, name: &str) -> Option<Cost> {
        self.lines.iter().find(|line| line.name == name).map(|line| line.cost)
    }
}

/// How a count compares with the baseline's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it was.
    Same,
    /// So much less that the baseline should be written anew.
    Better,
    /// A regression.
    Worse,
    /// Not in the baseline.
    New,
}

impl Verdict {
    /// Compares.
    pub(crate) fn of(before: Option<Cost>, now: Cost) -> Self {
        let Some(before) = before else { return Self::New };
        let worse = |before: u64, now: u64| now * 100 > before * (100 + TOLERANCE);
        if worse(before.instructions, now.instructions) || now.copies > before.copies {
            Self::Worse
        } else if worse(now.instructions, before.instructions) || now.copies < before.copies {
            Self::Better
        } else {
            Self::Same
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let line = |name: &str, instructions, copies| Line {
            name: name.to_owned(),
            cost: Cost { instructions, copies },
        };
        let lines = vec![line("open, in order", 200, 0), line("split, 45 x TCP", 12345, 90)];
        let baseline = Baseline {
            rustc: "rustc 1.95.0 (59807616e 2026-04-14) for x86_64-unknown-linux-gnu".to_owned(),
            lines,
        };
        assert_eq!(Baseline::parse(&baseline.to_text()), Some(baseline.clone()));
        assert_eq!(baseline.cost("open, in order"), Some(Cost { instructions: 200, copies: 0 }));
        assert_eq!(Baseline::parse("rustc 1\n12 x name"), None);
    }

    #[test]
    fn a_regression_is_more_than_the_tolerance() {
        let cost = |instructions, copies| Cost { instructions, copies };
        let before = Some(cost(1000, 2));
        for (now, verdict) in [
            (cost(1050, 2), Verdict::Same),
            (cost(1051, 2), Verdict::Worse),
            (cost(1000, 3), Verdict::Worse),
            (cost(953, 2), Verdict::Same),
            (cost(952, 2), Verdict::Better),
            (cost(1000, 1), Verdict::Better),
        ] {
            assert_eq!(Verdict::of(before, now), verdict, "{now:?}");
        }
        assert_eq!(Verdict::of(None, cost(1, 1)), Verdict::New);
    }
}
