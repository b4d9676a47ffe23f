//! The public interface of each library, as text that a review sees change: `docs/api/CRATE.txt`.
//!
//! Read from the source as it stands, with syn: it needs neither an unstable compiler nor a build. What macros
//! make is not in it.

mod print;
mod resolve;
mod source;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use tree::Tree;

/// The libraries that are published.
const CRATES: [&str; 6] = ["span-aead", "span-core", "span-tun", "span-nat", "span-discovery", "span-node"];

/// Writes the listings.
pub(crate) fn write() -> Result<()> {
    for name in CRATES {
        let path = listing(name);
        fs::create_dir_all(path.parent().context("a listing stands in a directory")?)?;
        fs::write(&path, list(name)?).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Fails if a listing is not what the source says, and shows where.
pub(crate) fn check() -> Result<()> {
    let mut different = Vec::new();
    for name in CRATES {
        let path = listing(name);
        let (before, now) = (fs::read_to_string(&path).unwrap_or_default(), list(name)?);
        if before != now {
            show_difference(name, &before, &now);
            different.push(name);
        }
    }
    if different.is_empty() {
        return Ok(());
    }
    bail!(
        "the public interface of {} is not what docs/api says; if that is meant: cargo run -p xtask -- api",
        different.join(", ")
    )
}

fn list(name: &str) -> Result<String> {
    let root = workspace().join(name).join("src/lib.rs");
    let tree = Tree::load(&root).with_context(|| format!("reading {name}"))?;
    Ok(print::listing(&name.replace('-', "_"), &tree))
}

fn show_difference(name: &str, before: &str, now: &str) {
    let (before, now): (Vec<&str>, Vec<&str>) = (before.lines().collect(), now.lines().collect());
    for line in before.iter().filter(|line| !now.contains(line)) {
        eprintln!("{name}: - {line}");
    }
    for line in now.iter().filter(|line| !before.contains(line)) {
        eprintln!("{name}: + {line}");
    }
}

fn listing(name: &str) -> PathBuf {
    workspace().join("docs/api").join(name).with_extension("txt")
}

fn workspace() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_can_name_is_listed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "lib.rs",
            "mod inner;\n#[cfg(feature = \"more\")] pub mod open { pub use super::inner::deep::*; }\n\
             pub use inner::{Shown as Renamed, Speak};\npub use other::Thing;\n#[cfg(test)] pub mod tests {}\n",
        );
        write(
            "inner/mod.rs",
            "pub mod deep;\npub struct Hidden;\n#[derive(Clone)] pub struct Shown<T> { pub a: u8, b: T }\n\
             impl<T> Shown<T> { pub fn get(mut self, of: &[T]) -> Option<T> { None } fn private(&self) {} }\n\
             pub trait Speak: Send { fn speak(&self); fn louder(&self) {} }\n\
             trait Secret {}\nimpl<T> Secret for Shown<T> {}\nimpl Speak for Box<u8> { fn speak(&self) {} }\n",
        );
        write(
            "inner/deep.rs",
            "#[non_exhaustive] pub enum Kind { One, Two(u8), Three { a: u8 } }\npub(crate) fn f() {}\n",
        );
        let tree = Tree::load(&directory.path().join("lib.rs")).unwrap();
        let expected = "\
pub mod x
pub struct x::Renamed<T> { … }
pub x::Renamed::a: u8
impl Clone for x::Renamed
pub fn x::Renamed::get(self, of: &[T]) -> Option<T> // impl<T>
pub trait x::Speak: Send
pub fn x::Speak::speak(&self) // required
pub fn x::Speak::louder(&self) // provided
impl Speak for Box<u8>
pub use other::Thing as x::Thing
#[cfg(feature = \"more\")] pub mod x::open
#[non_exhaustive] pub enum x::open::Kind
x::open::Kind::One
x::open::Kind::Two(u8)
x::open::Kind::Three { a: u8 }
";
        assert_eq!(print::listing("x", &tree), expected);
    }
}
