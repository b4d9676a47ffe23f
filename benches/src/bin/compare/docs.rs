//! Results as a part of the documentation: a page, and files beside it.

use std::path::Path;

use crate::results::Results;
use crate::{chart, table};

/// The lines of the page between which the results stand.
const MARKERS: [&str; 2] = ["<!-- compare:begin -->", "<!-- compare:end -->"];

/// Says whether there is a page that takes results.
pub(crate) fn check(page: &Path) -> Result<(), String> {
    updated(page, "").map(drop)
}

/// Puts the results into `page`, and the chart and all that was measured into the directory of its name.
pub(crate) fn write(page: &Path, results: &Results) -> Result<(), String> {
    let directory = page.with_extension("");
    let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let told = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    std::fs::create_dir_all(&directory).map_err(|error| told(&directory, error))?;
    let picture = directory.join("chart.svg");
    std::fs::write(&picture, chart::svg(results)).map_err(|error| told(&picture, error))?;
    results.write(&directory.join("results.json"))?;
    let text = updated(page, &section(&name, results))?;
    std::fs::write(page, text).map_err(|error| told(page, error))
}

fn section(directory: &str, results: &Results) -> String {
    format!(
        "{}\n![The same as bars]({directory}/chart.svg)\n\n\
         Every single figure is in [{directory}/results.json]({directory}/results.json); `compare --from` shows it again.\n",
        table::markdown(results)
    )
}

/// The page with `section` between its markers.
fn updated(page: &Path, section: &str) -> Result<String, String> {
    let told = |error: String| format!("{}: {error}", page.display());
    let text = std::fs::read_to_string(page).map_err(|error| told(error.to_string()))?;
    insert(&text, section).map_err(told)
}

fn insert(page: &str, section: &str) -> Result<String, String> {
    let missing = || format!("the lines {} and {} are not there", MARKERS[0], MARKERS[1]);
    let (before, rest) = page.split_once(MARKERS[0]).ok_or_else(missing)?;
    let (_, after) = rest.split_once(MARKERS[1]).ok_or_else(missing)?;
    Ok(format!("{before}{}\n{section}{}{after}", MARKERS[0], MARKERS[1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::example;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let page = format!("# Title\n{}\nold\n{}\nrest\n", MARKERS[0], MARKERS[1]);
        let new = insert(&page, "new\n").unwrap();
        assert_eq!(new, format!("# Title\n{}\nnew\n{}\nrest\n", MARKERS[0], MARKERS[1]));
        assert_eq!(insert(&new, "new\n").unwrap(), new);
        assert!(insert("# Title\n", "new\n").is_err());
    }

    #[test]
    fn a_page_has_its_files_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let page = directory.path().join("speed.md");
        assert!(check(&page).is_err(), "there is no page");
        std::fs::write(&page, format!("{}\n{}\n", MARKERS[0], MARKERS[1])).unwrap();
        check(&page).unwrap();
        write(&page, &example()).unwrap();
        let text = std::fs::read_to_string(&page).unwrap();
        assert!(text.contains("](speed/chart.svg)") && text.contains("3.50 (2.50)"), "{text}");
        assert_eq!(Results::read(&directory.path().join("speed/results.json")), Ok(example()));
        assert!(directory.path().join("speed/chart.svg").exists());
    }
}
