//! The list of the examples.

use std::fs;
use std::path::{Path, PathBuf};

use span_tests::programs::root;

/// What there is, as the list names it: programs of one file, and directories.
fn examples() -> Vec<String> {
    let all = root().join("examples");
    let inside = |directory: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(all.join(directory)).expect("a directory");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    };
    let mut found: Vec<PathBuf> = Vec::new();
    for directory in inside("") {
        let language = directory.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8");
        match language {
            "README.md" => {}
            "rust" | "c" => found.extend(inside(language)),
            "go" => found.extend(inside(language).iter().map(|module| module.join("main.go"))),
            _ => found.push(directory),
        }
    }
    found.retain(|path| {
        path.extension().is_none_or(|kind| ["rs", "c", "go"].iter().any(|known| kind == *known))
    });
    let relative =
        |path: PathBuf| path.strip_prefix(&all).expect("below").to_str().expect("UTF-8").to_owned();
    found.into_iter().map(relative).collect()
}

#[test]
fn every_example_is_listed_and_everything_listed_is_there() {
    let list = fs::read_to_string(root().join("examples/README.md")).expect("the list");
    let examples = examples();
    assert!(examples.len() > 5, "{examples:?}");
    for example in &examples {
        assert!(list.contains(&format!("]({example})")), "{example} is not in examples/README.md");
    }
    for link in list.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        let there = root().join("examples").join(link);
        assert!(link.starts_with('#') || Path::exists(&there), "{link}: nothing is there");
    }
}
