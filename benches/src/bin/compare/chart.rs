//! Results as a picture: bars, drawn as SVG.

use std::fmt::Write as _;

use crate::metric::{self, Metric};
use crate::results::Results;

/// What a page has room for: throughput and what it costs, and the round trip beside it.
const SHOWN: [(&str, &str); 4] = [
    ("tcp1", "TCP, one stream: Gbit/s, more is better"),
    ("cpu1", "its CPU, both ends: seconds per GiB, less is better"),
    ("udp", "UDP, 1392 bytes: Gbit/s, more is better"),
    ("load50", "ping beside one TCP stream, median: µs, less is better"),
];

const WIDTH: usize = 760;
/// Where bars begin, and where the longest ends.
const BARS: [usize; 2] = [130, 670];
const BAR: usize = 18;
const GAP: usize = 6;
const TITLE: usize = 34;
/// Span's own bars, and those of others.
const COLOURS: [&str; 2] = ["#c2410c", "#64748b"];

/// Draws the median of each implementation, one group of bars for each metric.
pub(crate) fn svg(results: &Results) -> String {
    let mut body = String::new();
    let mut y = 0;
    let groups = SHOWN.iter().filter_map(|(key, title)| {
        let metric = metric::ALL.iter().find(|metric| metric.key == *key)?;
        let bars = bars(results, metric);
        (!bars.is_empty()).then_some((title, metric, bars))
    });
    for (title, metric, bars) in groups {
        let _ = writeln!(body, r#"<text x="10" y="{}" font-weight="bold">{}</text>"#, y + 24, escape(title));
        y += TITLE;
        let longest = bars.iter().map(|bar| bar.1).fold(f64::MIN_POSITIVE, f64::max);
        for (name, value) in bars {
            let length = ((BARS[1] - BARS[0]) as f64 * value / longest).round().max(1.0);
            let colour = if name.starts_with("span") { COLOURS[0] } else { COLOURS[1] };
            let text_y = y + BAR - 5;
            let _ = writeln!(
                body,
                r#"<text x="{}" y="{text_y}" text-anchor="end">{}</text>"#,
                BARS[0] - 8,
                escape(name)
            );
            let _ = writeln!(
                body,
                r#"<rect x="{}" y="{y}" width="{length}" height="{BAR}" fill="{colour}"/>"#,
                BARS[0]
            );
            let text_x = BARS[0] as f64 + length + 6.0;
            let _ = writeln!(body, r#"<text x="{text_x}" y="{text_y}">{value:.*}</text>"#, metric.digits);
            y += BAR + GAP;
        }
    }
    let about = format!("{}; {}", results.date, results.machine);
    let _ = writeln!(body, r##"<text x="10" y="{}" fill="#6b7280">{}</text>"##, y + 22, escape(&about));
    let height = y + 34;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>Span beside other WireGuard programs</title>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

fn bars<'a>(results: &'a Results, metric: &Metric) -> Vec<(&'a str, f64)> {
    // The bare cable would leave nothing to see of the others.
    let subjects = results.subjects.iter().filter(|subject| subject.name != "none");
    subjects
        .filter_map(|subject| Some((subject.name.as_str(), results.spread(&subject.name, metric)?.median)))
        .collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::example;

    #[test]
    fn the_longest_bar_has_the_whole_width() {
        let svg = svg(&example());
        assert!(svg.contains(r#"<rect x="130" y="34" width="309" height="18""#), "{svg}");
        assert!(svg.contains(r#"<rect x="130" y="58" width="540" height="18""#), "{svg}");
        assert!(svg.contains(">3.50</text>") && !svg.contains("ping"), "{svg}");
    }

    #[test]
    fn names_cannot_break_the_picture() {
        let mut results = example();
        results.machine = "<a & b>".to_owned();
        assert!(svg(&results).contains("&lt;a &amp; b&gt;"));
    }
}
