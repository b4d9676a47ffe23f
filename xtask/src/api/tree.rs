//! The modules of a crate, as the compiler finds them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use syn::{Attribute, Expr, ExprLit, Item, ItemMod, Lit, Meta};

/// A crate.
pub(super) struct Tree {
    /// The root is the first.
    pub(super) modules: Vec<Module>,
}

/// The number of a module in its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(pub(super) usize);

/// One module; what only tests have is left out.
pub(super) struct Module {
    pub(super) parent: Option<Id>,
    pub(super) children: BTreeMap<String, Id>,
    pub(super) items: Vec<Item>,
}

impl Tree {
    /// Reads the crate whose root is the file `lib`.
    pub(super) fn load(lib: &Path) -> Result<Self> {
        let mut tree = Tree { modules: Vec::new() };
        let directory = lib.parent().context("a source file stands in a directory")?;
        tree.add(None, read(lib)?, directory)?;
        Ok(tree)
    }

    pub(super) fn module(&self, id: Id) -> &Module {
        &self.modules[id.0]
    }

    /// Adds a module with the items it has; the files of its children are in `directory`.
    fn add(&mut self, parent: Option<Id>, mut items: Vec<Item>, directory: &Path) -> Result<Id> {
        let id = Id(self.modules.len());
        items.retain(|item| !attributes(item).iter().any(is_for_tests));
        self.modules.push(Module { parent, children: BTreeMap::new(), items: items.clone() });
        for item in items {
            let Item::Mod(module) = item else { continue };
            let name = module.ident.to_string();
            let child = match module.content {
                Some((_, items)) => self.add(Some(id), items, &directory.join(&name))?,
                None => {
                    let (file, inside) = locate(&module, directory)?;
                    self.add(Some(id), read(&file)?, &inside)?
                }
            };
            self.modules[id.0].children.insert(name, child);
        }
        Ok(id)
    }
}

/// The file of a module, and the directory of its children's.
fn locate(module: &ItemMod, directory: &Path) -> Result<(PathBuf, PathBuf)> {
    let inside = directory.join(module.ident.to_string());
    if let Some(path) = module.attrs.iter().find_map(path_attribute) {
        return Ok((directory.join(path), inside));
    }
    let candidates = [inside.with_extension("rs"), inside.join("mod.rs")];
    match candidates.into_iter().find(|file| file.exists()) {
        Some(file) => Ok((file, inside)),
        None => bail!("no file for module {} in {}", module.ident, directory.display()),
    }
}

fn read(file: &Path) -> Result<Vec<Item>> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    Ok(syn::parse_file(&text).with_context(|| format!("parsing {}", file.display()))?.items)
}

fn is_for_tests(attribute: &Attribute) -> bool {
    let Meta::List(list) = &attribute.meta else { return false };
    list.path.is_ident("cfg") && list.tokens.to_string() == "test"
}

fn path_attribute(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(pair) = &attribute.meta else { return None };
    match &pair.value {
        Expr::Lit(ExprLit { lit: Lit::Str(path), .. }) if pair.path.is_ident("path") => Some(path.value()),
        _ => None,
    }
}

/// The attributes of any item.
pub(super) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
