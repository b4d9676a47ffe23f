//! What `span.h` declares, with its documentation. It reads what cbindgen writes, and no other C.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// The header, taken apart.
pub(super) struct Header {
    /// The rules at its beginning.
    pub(super) rules: Vec<String>,
    /// How packets stand in memory.
    pub(super) packets: Vec<String>,
    pub(super) items: Vec<Item>,
}

/// Something that is declared. Documentation has one line for each line of the header.
pub(super) enum Item {
    Constant { name: String, value: String, doc: Vec<String> },
    Enum { name: String, doc: Vec<String>, values: Vec<(String, Vec<String>)> },
    Opaque { name: String, doc: Vec<String> },
    Struct { name: String, doc: Vec<String>, fields: Vec<(String, Vec<String>)> },
    Function { name: String, declaration: String, doc: Vec<String> },
}

impl Item {
    pub(super) fn name(&self) -> &str {
        match self {
            Item::Constant { name, .. }
            | Item::Enum { name, .. }
            | Item::Opaque { name, .. }
            | Item::Struct { name, .. }
            | Item::Function { name, .. } => name,
        }
    }
}

impl Header {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let path = root.join("span-ffi/include/span.h");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text).context("span.h is not as expected")
    }

    fn parse(text: &str) -> Option<Self> {
        let (comment, code) = text.strip_prefix("/*")?.split_once("*/")?;
        let lines: Vec<String> = comment
            .lines()
            .map(|line| line.trim_start().trim_start_matches('*'))
            .map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned())
            .collect();
        let packets = lines.iter().position(|line| line.starts_with("A packet is sealed"))?;
        let rules = lines.iter().position(|line| line.contains("What holds everywhere:"))?;
        Some(Header {
            rules: ["What holds everywhere:".to_owned()]
                .into_iter()
                .chain(lines[rules + 1..packets].iter().cloned())
                .collect(),
            packets: lines[packets..].to_vec(),
            items: items(code)?,
        })
    }
}

fn items(code: &str) -> Option<Vec<Item>> {
    let mut items = Vec::new();
    let mut doc = Vec::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        if let Some(line) = line.strip_prefix("//") {
            doc.push(line.trim_start().to_owned());
            continue;
        }
        let doc = std::mem::take(&mut doc);
        if let Some(constant) = line.strip_prefix("#define ") {
            if let Some((name, value)) = constant.split_once(' ') {
                items.push(Item::Constant { name: name.to_owned(), value: value.to_owned(), doc });
            }
        } else if let Some(name) = line.strip_prefix("enum ") {
            let values = members(&mut lines, ",");
            items.push(Item::Enum { name: name.trim().to_owned(), doc, values });
        } else if let Some(rest) = line.strip_prefix("typedef struct ") {
            let name = rest.split(' ').next()?.to_owned();
            if rest.ends_with('{') {
                let fields = members(&mut lines, ";");
                items.push(Item::Struct { name, doc, fields });
            } else {
                items.push(Item::Opaque { name, doc });
            }
        } else if !doc.is_empty() && !line.starts_with(['#', '}']) && !line.is_empty() {
            let mut declaration = line.to_owned();
            while !declaration.ends_with(';') {
                declaration = format!("{declaration} {}", lines.next()?.trim());
            }
            let (head, _) = declaration.split_once('(')?;
            let name = head.rsplit([' ', '*']).next()?.to_owned();
            items.push(Item::Function { name, declaration, doc });
        }
    }
    Some(items)
}

/// The fields of a struct or the values of an enumeration, until it ends.
fn members<'a>(lines: &mut impl Iterator<Item = &'a str>, end: &str) -> Vec<(String, Vec<String>)> {
    let (mut members, mut doc) = (Vec::new(), Vec::new());
    for line in lines.take_while(|line| !line.starts_with('}')) {
        let line = line.trim();
        if let Some(line) = line.strip_prefix("//") {
            doc.push(line.trim_start().to_owned());
        } else if let Some(member) = line.strip_suffix(end) {
            members.push((member.to_owned(), std::mem::take(&mut doc)));
        }
    }
    members
}
