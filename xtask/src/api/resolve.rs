//! What a path means in a module.

use syn::{Item, ItemUse, UseTree, Visibility};

use super::tree::{Id, Tree};

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// A module of the crate.
    Module(Id),
    /// An item of the crate: its module, and its place there.
    Item(Id, usize),
    /// Something of another crate, as it is written.
    Foreign(String),
}

/// One name that a `use` brings in.
pub(super) struct Import {
    pub(super) public: bool,
    pub(super) path: Vec<String>,
    /// The name; `None` for all names of the module.
    pub(super) name: Option<String>,
}

/// Imports of imports: more in a row are a circle.
const DEPTH: usize = 16;

impl Tree {
    /// Follows `path` from within the module.
    pub(super) fn resolve(&self, module: Id, path: &[String]) -> Target {
        self.follow(module, path, DEPTH).unwrap_or_else(|| Target::Foreign(path.join("::")))
    }

    /// The names that the module imports.
    pub(super) fn imports(&self, module: Id) -> Vec<Import> {
        let items = &self.module(module).items;
        let uses = items.iter().filter_map(|item| match item {
            Item::Use(item) => Some(item),
            _ => None,
        });
        uses.flat_map(imports).collect()
    }

    fn follow(&self, module: Id, path: &[String], depth: usize) -> Option<Target> {
        let (first, rest) = path.split_first()?;
        let start = match first.as_str() {
            "crate" => Target::Module(Id(0)),
            "self" => Target::Module(module),
            "super" => Target::Module(self.module(module).parent?),
            name => self.find(module, name, depth)?,
        };
        rest.iter().try_fold(start, |at, name| match at {
            Target::Module(module) if name == "super" => self.module(module).parent.map(Target::Module),
            Target::Module(module) => self.find(module, name, depth),
            // A variant or an associated item.
            Target::Item(..) => None,
            Target::Foreign(path) => Some(Target::Foreign(format!("{path}::{name}"))),
        })
    }

    fn find(&self, module: Id, name: &str, depth: usize) -> Option<Target> {
        let depth = depth.checked_sub(1)?;
        let here = self.module(module);
        if let Some(child) = here.children.get(name) {
            return Some(Target::Module(*child));
        }
        if let Some(at) = here.items.iter().position(|item| self::name(item).is_some_and(|own| own == name)) {
            return Some(Target::Item(module, at));
        }
        let imports = self.imports(module);
        let named = imports.iter().find(|import| import.name.as_deref() == Some(name));
        if let Some(import) = named {
            let found = self.follow(module, &import.path, depth);
            return found.or_else(|| Some(Target::Foreign(import.path.join("::"))));
        }
        imports.iter().filter(|import| import.name.is_none()).find_map(|import| {
            match self.follow(module, &import.path, depth) {
                Some(Target::Module(all)) if all != module => self.find(all, name, depth),
                Some(_) | None => None,
            }
        })
    }
}

/// The name an item is known by.
pub(super) fn name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

fn imports(item: &ItemUse) -> Vec<Import> {
    let mut found = Vec::new();
    flatten(&item.tree, &mut Vec::new(), matches!(item.vis, Visibility::Public(_)), &mut found);
    found
}

fn flatten(tree: &UseTree, path: &mut Vec<String>, public: bool, found: &mut Vec<Import>) {
    let mut import = |path: Vec<String>, name: Option<String>| found.push(Import { public, path, name });
    let join = |path: &[String], last: &syn::Ident| {
        let mut path = path.to_vec();
        if last != "self" {
            path.push(last.to_string());
        }
        path
    };
    match tree {
        UseTree::Path(tree) => {
            path.push(tree.ident.to_string());
            flatten(&tree.tree, path, public, found);
            path.pop();
        }
        UseTree::Name(tree) => {
            let path = join(path, &tree.ident);
            let name = path.last().cloned();
            import(path, name);
        }
        UseTree::Rename(tree) => import(join(path, &tree.ident), Some(tree.rename.to_string())),
        UseTree::Glob(_) => import(path.clone(), None),
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, path, public, found)),
    }
}
