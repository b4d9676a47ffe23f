//! Results as text and as Markdown.

use std::fmt::Write as _;

use crate::metric::Metric;
use crate::results::{Results, Spread};

/// What a cell says about one metric of one implementation.
type Cell = fn(&Metric, &Spread) -> String;

fn median(metric: &Metric, spread: &Spread) -> String {
    format!("{:.*}", metric.digits, spread.median)
}

fn ratio(metric: &Metric, spread: &Spread) -> String {
    match spread.ratio {
        Some(ratio) if metric.has_ratio => format!("{ratio:.2}"),
        Some(_) | None => "-".to_owned(),
    }
}

fn range(metric: &Metric, spread: &Spread) -> String {
    format!("{:.*}..{:.*}", metric.digits, spread.least, metric.digits, spread.most)
}

/// Everything, for a terminal.
pub(crate) fn text(results: &Results) -> String {
    let mut text = String::new();
    let tables: [(String, Cell); 3] = [
        ("medians".to_owned(), median),
        (format!("medians of the ratios to {}, each inside one repetition", results.reference), ratio),
        ("least..most".to_owned(), range),
    ];
    for (title, cell) in tables {
        let _ = writeln!(text, "\n{title}\n");
        let rows = rows(results, cell);
        let widths: Vec<usize> = (0..rows[0].len())
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        for row in rows {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(
                    |(column, (cell, width))| {
                        if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
                    },
                )
                .collect();
            let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        }
    }
    for run in &results.runs {
        if let Some(failure) = &run.failure {
            let _ = writeln!(text, "\nFAILED: {} in repetition {}: {failure}", run.name, run.repetition);
        }
    }
    if let Some(warning) = disturbance(results) {
        let _ = writeln!(text, "\n{warning}");
    }
    text
}

/// How often the machine had other things to do.
fn disturbance(results: &Results) -> Option<String> {
    (results.disturbed() > 0).then(|| {
        format!(
            "During {} of {} measurements other programs used more than a fifth of a core.",
            results.disturbed(),
            results.runs.len()
        )
    })
}

/// One column for each implementation, one row for each metric.
fn rows(results: &Results, cell: Cell) -> Vec<Vec<String>> {
    let names = results.subjects.iter().map(|subject| subject.name.clone());
    let mut rows = vec![std::iter::once(String::new()).chain(names).collect::<Vec<_>>()];
    for metric in results.metrics() {
        let cells = results.subjects.iter().map(|subject| {
            results
                .spread(&subject.name, metric)
                .map_or_else(|| "-".to_owned(), |spread| cell(metric, &spread))
        });
        rows.push(std::iter::once(format!("{}, {}", metric.title, metric.unit)).chain(cells).collect());
    }
    let counts = results.subjects.iter().map(|subject| results.count(&subject.name).to_string());
    rows.push(std::iter::once("measured, times".to_owned()).chain(counts).collect());
    rows
}

/// The results for a page of documentation: one column for each implementation, medians and in parentheses the
/// ratios to the reference.
pub(crate) fn markdown(results: &Results) -> String {
    let mut text = format!("Measured {} on {}, cable `{}`:\n\n", results.date, results.machine, results.link);
    let _ = writeln!(text, "    {}\n", results.command);
    let names = results.subjects.iter().map(|subject| format!(" {} |", subject.name));
    let _ = writeln!(text, "| |{}", names.collect::<String>());
    let _ = writeln!(text, "|---|{}", "---:|".repeat(results.subjects.len()));
    for metric in results.metrics() {
        let cells = results.subjects.iter().map(|subject| {
            let spread = results.spread(&subject.name, metric);
            let cell = spread.map_or_else(
                || "-".to_owned(),
                |spread| match spread.ratio {
                    Some(ratio) if metric.has_ratio && subject.name != results.reference => {
                        format!("{} ({ratio:.2})", median(metric, &spread))
                    }
                    Some(_) | None => median(metric, &spread),
                },
            );
            format!(" {cell} |")
        });
        let _ = writeln!(text, "| {}, {} |{}", metric.title, metric.unit, cells.collect::<String>());
    }
    let most = results.subjects.iter().map(|subject| results.count(&subject.name)).max().unwrap_or(0);
    let _ = writeln!(
        text,
        "\nMedians of {most} repetitions; in parentheses the median of the ratios to {}, each inside one repetition.",
        results.reference
    );
    if let Some(warning) = disturbance(results) {
        let _ = writeln!(text, "{warning}");
    }
    text.push('\n');
    for subject in &results.subjects {
        if !subject.version.is_empty() {
            let _ = writeln!(text, "* {}: {}", subject.name, subject.version);
        }
    }
    for run in &results.runs {
        if let Some(failure) = &run.failure {
            let _ = writeln!(text, "* {} failed in repetition {}: {failure}", run.name, run.repetition);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::example;

    #[test]
    fn markdown_shows_medians_and_ratios() {
        let text = markdown(&example());
        assert!(text.contains("| | base | other |\n|---|---:|---:|\n"), "{text}");
        assert!(text.contains("| TCP, 1 stream, Gbit/s | 2.00 | 3.50 (2.50) |\n"), "{text}");
        assert!(text.contains("Measured 2026-11-21 on a machine, 2 cores"), "{text}");
        assert!(text.contains("* other: other 1.0\n"), "{text}");
        assert!(text.contains("* other failed in repetition 3: it ended\n"), "{text}");
    }

    #[test]
    fn a_terminal_sees_failures_too() {
        let text = text(&example());
        assert!(text.contains("1.00..5.00"), "{text}");
        assert!(text.contains("FAILED: other in repetition 3: it ended"), "{text}");
    }
}
