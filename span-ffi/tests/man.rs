//! The manual pages: well-formed, whole, and found under the name of each function.

mod build;

use std::fs;
use std::process::Command;

use build::{installed, source};

const PAGES: [&str; 3] = ["span.3", "span_node.3", "span_tunnel.3"];

#[test]
fn the_pages_are_well_formed() {
    if !installed("groff") {
        return;
    }
    for page in PAGES {
        let mut groff = Command::new("groff");
        groff.args(["-ww", "-man", "-Tutf8", "-z"]).arg(source("man").join(page));
        let output = groff.output().expect("groff");
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && complaints.is_empty(), "{page}: {complaints}");
    }
}

#[test]
fn each_function_stands_on_one_page() {
    let pages = PAGES.map(|page| fs::read_to_string(source("man").join(page)).expect("a page"));
    let symbols = fs::read_to_string(source("symbols.txt")).expect("the list of symbols");
    for symbol in symbols.lines() {
        let places =
            pages.iter().flat_map(|page| page.lines()).filter(|line| *line == format!(".SS {symbol}"));
        assert_eq!(places.count(), 1, "{symbol}");
    }
}
