//! Manual pages from `span.h`: one for what everything needs, one for tunnels, one for nodes.

mod header;
mod roff;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use header::{Header, Item};
use roff::Roff;

/// A page, and what stands on it.
struct Page {
    name: &'static str,
    about: &'static str,
    see_also: &'static str,
    /// A program of the repository.
    example: &'static str,
    /// What the names begin with that belong here; a page earlier in the list goes first.
    prefixes: &'static [&'static str],
}

const PAGES: [Page; 3] = [
    Page {
        name: "span_node",
        about: "whole nodes of a mesh, with threads and sockets inside",
        see_also: "\\fBspan\\fR(3), \\fBspan_tunnel\\fR(3), \\fBpoll\\fR(2)",
        example: "examples/c/node.c",
        prefixes: &[
            "span_node",
            "SPAN_NODE",
            "SPAN_TEXT",
            "span_stream",
            "span_listener",
            "span_datagrams",
            "span_endpoint",
            "span_token",
        ],
    },
    Page {
        name: "span_tunnel",
        about: "WireGuard without socket, thread or clock",
        see_also: "\\fBspan\\fR(3), \\fBspan_node\\fR(3), \\fBwg\\fR(8)",
        example: "examples/c/two_tunnels.c",
        prefixes: &[
            "span_tunnel",
            "span_peer",
            "SPAN_PEER",
            "span_counters",
            "span_event",
            "span_packet",
            "SPAN_PACKET",
            "span_drop",
            "SPAN_DROP",
            "span_cipher",
            "span_datagram",
            "SPAN_DATAGRAM",
            "SPAN_HEADROOM",
            "SPAN_TAILROOM",
            "SPAN_NEVER",
        ],
    },
    Page {
        name: "span",
        about: "WireGuard and encrypted meshes, for C",
        see_also: "\\fBspan_tunnel\\fR(3), \\fBspan_node\\fR(3)",
        example: "span-ffi/tests/c/outside.c",
        prefixes: &["span_", "SPAN_"],
    },
];

/// Writes the pages into the source tree.
pub(crate) fn write() -> Result<()> {
    fs::create_dir_all(directory())?;
    for (name, page) in generate()? {
        fs::write(directory().join(&name), page).with_context(|| format!("writing {name}"))?;
    }
    Ok(())
}

/// Fails if a page in the source tree is not what the header gives today.
pub(crate) fn check() -> Result<()> {
    for (name, page) in generate()? {
        if fs::read_to_string(directory().join(&name)).ok() != Some(page) {
            bail!("{name} is out of date; run `cargo run -p xtask -- man`");
        }
    }
    Ok(())
}

/// Writes the pages below a directory `man3`, and a page for each function that leads to the one it is on.
pub(crate) fn install(man3: &Path) -> Result<()> {
    for page in &PAGES {
        let file = format!("{}.3", page.name);
        fs::copy(directory().join(&file), man3.join(&file)).with_context(|| format!("installing {file}"))?;
    }
    for item in Header::read(&root())?.items {
        if let Item::Function { name, .. } = &item {
            let file = man3.join(format!("{name}.3"));
            fs::write(&file, format!(".so man3/{}.3\n", page_of(name).name))
                .with_context(|| format!("writing {}", file.display()))?;
        }
    }
    Ok(())
}

/// The pages' file names and texts.
fn generate() -> Result<Vec<(String, String)>> {
    let header = Header::read(&root())?;
    PAGES.iter().map(|page| Ok((format!("{}.3", page.name), text_of(page, &header)?))).collect()
}

fn text_of(page: &Page, header: &Header) -> Result<String> {
    let items: Vec<&Item> =
        header.items.iter().filter(|item| page_of(item.name()).name == page.name).collect();
    let mut roff = Roff::new(page.name);
    roff.section("NAME");
    roff.line(&format!("{} \\- {}", page.name, page.about));
    roff.section("SYNOPSIS");
    roff.code("#include <span.h>\n\ncc program.c $(pkg-config --cflags --libs span)");
    roff.section("DESCRIPTION");
    match page.name {
        "span" => roff.prose(&header.rules),
        "span_tunnel" => roff.prose(&header.packets),
        _ => {}
    }
    let mut handles = Vec::new();
    for item in &items {
        if let Item::Opaque { name, doc } = item {
            handles.push((name != page.name, name, doc));
        }
    }
    // The page's own first.
    handles.sort_unstable();
    for (_, name, doc) in handles {
        roff.subsection(name);
        roff.prose(doc);
    }
    roff.section("FUNCTIONS");
    for item in &items {
        if let Item::Function { name, declaration, doc } = item {
            roff.subsection(name);
            roff.declaration(declaration);
            roff.prose(doc);
        }
    }
    types(&mut roff, &items);
    roff.section("EXAMPLES");
    let example = root().join(page.example);
    roff.code(&fs::read_to_string(&example).with_context(|| format!("reading {}", example.display()))?);
    roff.section("SEE ALSO");
    roff.line(page.see_also);
    Ok(roff.finish())
}

/// Structs, enumerations and constants.
fn types(roff: &mut Roff, items: &[&Item]) {
    if items.iter().any(|item| matches!(item, Item::Struct { .. })) {
        roff.section("STRUCTURES");
    }
    for item in items {
        if let Item::Struct { name, doc, fields } = item {
            roff.subsection(name);
            roff.prose(doc);
            for (field, doc) in fields {
                roff.tagged(field, doc);
            }
        }
    }
    roff.section("CONSTANTS");
    for item in items {
        if let Item::Constant { name, value, doc } = item {
            roff.tagged(&format!("{name} = {value}"), doc);
        }
    }
    for item in items {
        if let Item::Enum { name, doc, values } = item {
            roff.subsection(name);
            roff.prose(doc);
            for (value, doc) in values {
                roff.tagged(value, doc);
            }
        }
    }
}

/// Where something of that name stands. A function that makes or breaks nothing of a page's own stands on the last.
fn page_of(name: &str) -> &'static Page {
    let here = |page: &&Page| page.prefixes.iter().any(|prefix| name.starts_with(prefix));
    PAGES.iter().find(here).unwrap_or(&PAGES[2])
}

fn directory() -> PathBuf {
    root().join("span-ffi/man")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("")
}
