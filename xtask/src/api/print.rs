//! The listing: a line for everything a user of the crate can name.

use std::collections::{BTreeMap, BTreeSet};

use syn::{
    Attribute, Expr, Fields, ImplItem, Item, ItemConst, ItemEnum, ItemImpl, ItemStruct, ItemTrait, Meta,
    Path, Signature, TraitItem, Type, Visibility,
};

use super::resolve::{Target, name};
use super::source;
use super::tree::{Id, Tree};

/// Lists the crate.
pub(super) fn listing(crate_name: &str, tree: &Tree) -> String {
    let mut printer = Printer { tree, impls: impls(tree), lines: Vec::new(), open: BTreeSet::new() };
    printer.module(Id(0), crate_name, "");
    let mut text = printer.lines.join("\n");
    text.push('\n');
    text
}

/// The implementations for each item of the crate.
type Impls<'t> = BTreeMap<(Id, usize), Vec<(Id, &'t ItemImpl)>>;

struct Printer<'t> {
    tree: &'t Tree,
    impls: Impls<'t>,
    lines: Vec<String>,
    /// Modules being listed: one may be re-exported inside of itself.
    open: BTreeSet<Id>,
}

/// Modules that pass on everything of one another: more in a row are a circle.
const DEPTH: usize = 4;

/// What a module lets others name.
#[derive(Default)]
struct Names {
    named: BTreeMap<String, Target>,
    /// The attributes of modules that stand here.
    marked: BTreeMap<Id, String>,
    /// Other crates' modules of which it passes on everything.
    foreign: Vec<String>,
}

fn impls(tree: &Tree) -> Impls<'_> {
    let mut all = Impls::new();
    for (index, module) in tree.modules.iter().enumerate() {
        for item in &module.items {
            let Item::Impl(item) = item else { continue };
            let place = |path: &Path| match tree.resolve(Id(index), &segments(path)) {
                Target::Item(module, at) => Some((module, at)),
                Target::Module(_) | Target::Foreign(_) => None,
            };
            let own = match &*item.self_ty {
                Type::Path(path) => place(&path.path),
                _ => None,
            };
            // What is implemented for others' types stands with the trait.
            let key = own.or_else(|| item.trait_.as_ref().and_then(|(_, path, _)| place(path)));
            if let Some(key) = key {
                all.entry(key).or_default().push((Id(index), item));
            }
        }
    }
    all
}

impl Printer<'_> {
    fn module(&mut self, id: Id, path: &str, marked: &str) {
        if !self.open.insert(id) {
            return;
        }
        self.lines.push(format!("{marked}pub mod {path}"));
        let Names { named, marked, foreign } = self.names(id, DEPTH);
        self.lines.extend(foreign.into_iter().map(|path| format!("pub use {path}::*")));
        for (name, target) in named {
            match target {
                Target::Module(child) => {
                    let marked = marked.get(&child).map_or("", String::as_str);
                    self.module(child, &format!("{path}::{name}"), marked);
                }
                Target::Item(module, at) => self.item(module, at, path, &name),
                Target::Foreign(foreign) => self.lines.push(format!("pub use {foreign} as {path}::{name}")),
            }
        }
        self.open.remove(&id);
    }

    /// What a module lets others name.
    fn names(&self, id: Id, depth: usize) -> Names {
        let module = self.tree.module(id);
        let mut names = Names::default();
        let imports = self.tree.imports(id);
        let public = imports.into_iter().filter(|import| import.public);
        let (some, all): (Vec<_>, Vec<_>) = public.partition(|import| import.name.is_some());
        for import in all {
            match self.tree.resolve(id, &import.path) {
                Target::Foreign(path) => names.foreign.push(path),
                Target::Module(other) if depth > 0 => {
                    let others = self.names(other, depth - 1);
                    names.named.extend(others.named);
                    names.marked.extend(others.marked);
                    names.foreign.extend(others.foreign);
                }
                Target::Module(_) | Target::Item(..) => {}
            }
        }
        // Whatever is named itself hides what comes with all the rest.
        for import in some {
            let target = self.tree.resolve(id, &import.path);
            names.named.extend(import.name.map(|name| (name, target)));
        }
        for (at, item) in module.items.iter().enumerate() {
            match item {
                Item::Mod(item) if is_public(&item.vis) => {
                    let name = item.ident.to_string();
                    let child = module.children[&name];
                    names.named.insert(name, Target::Module(child));
                    names.marked.insert(child, marks(&item.attrs));
                }
                item if visibility(item).is_some_and(is_public) => {
                    names.named.extend(name(item).map(|name| (name, Target::Item(id, at))));
                }
                _ => {}
            }
        }
        names
    }

    fn item(&mut self, module: Id, at: usize, parent: &str, name: &str) {
        let path = format!("{parent}::{name}");
        let tree = self.tree;
        match &tree.module(module).items[at] {
            Item::Const(item) => self.constant(item, &path),
            Item::Enum(item) => self.enumeration(item, &path),
            Item::Fn(item) => self.lines.push(function(&item.attrs, &item.sig, parent, name)),
            Item::Static(item) => {
                self.lines.push(format!(
                    "{}pub static {path}: {}",
                    marks(&item.attrs),
                    source::of_type(&item.ty)
                ));
            }
            Item::Struct(item) => self.structure(item, &path),
            Item::Trait(item) => self.interface(item, &path),
            Item::Type(item) => {
                let generics = source::of_generics(&item.generics);
                self.lines.push(format!(
                    "{}pub type {path}{generics} = {}",
                    marks(&item.attrs),
                    source::of_type(&item.ty)
                ));
            }
            _ => {}
        }
        self.implementations((module, at), &path);
    }

    fn constant(&mut self, item: &ItemConst, path: &str) {
        self.lines.push(format!("{}pub const {path}: {}", marks(&item.attrs), source::of_type(&item.ty)));
    }

    fn enumeration(&mut self, item: &ItemEnum, path: &str) {
        let (marks, generics) = (marks(&item.attrs), source::of_generics(&item.generics));
        self.lines.push(format!("{marks}pub enum {path}{generics}"));
        for variant in &item.variants {
            let number =
                variant.discriminant.as_ref().map(|(_, number): &(_, Expr)| source::of_expression(number));
            let number = number.map(|number| format!(" = {number}")).unwrap_or_default();
            let fields = variant.fields.iter().map(|field| match &field.ident {
                Some(name) => format!("{name}: {}", source::of_type(&field.ty)),
                None => source::of_type(&field.ty),
            });
            let fields = fields.collect::<Vec<_>>().join(", ");
            let fields = match &variant.fields {
                Fields::Named(_) => format!(" {{ {fields} }}"),
                Fields::Unnamed(_) => format!("({fields})"),
                Fields::Unit => String::new(),
            };
            self.lines.push(format!("{path}::{}{fields}{number}", variant.ident));
        }
        self.derives(&item.attrs, path);
    }

    fn structure(&mut self, item: &ItemStruct, path: &str) {
        let (marks, generics) = (marks(&item.attrs), source::of_generics(&item.generics));
        let hides = item.fields.iter().any(|field| !is_public(&field.vis));
        let shape = match &item.fields {
            Fields::Named(_) if hides => " { … }",
            Fields::Unnamed(_) if hides => "(…)",
            Fields::Named(_) | Fields::Unnamed(_) | Fields::Unit => "",
        };
        self.lines.push(format!("{marks}pub struct {path}{generics}{shape}"));
        for (at, field) in item.fields.iter().enumerate().filter(|(_, field)| is_public(&field.vis)) {
            let name = field.ident.as_ref().map_or_else(|| at.to_string(), ToString::to_string);
            self.lines.push(format!("pub {path}::{name}: {}", source::of_type(&field.ty)));
        }
        self.derives(&item.attrs, path);
    }

    fn interface(&mut self, item: &ItemTrait, path: &str) {
        let supertraits = source::of_bounds(&item.supertraits);
        let supertraits = if supertraits.is_empty() { supertraits } else { format!(": {supertraits}") };
        let (marks, generics) = (marks(&item.attrs), source::of_generics(&item.generics));
        self.lines.push(format!("{marks}pub trait {path}{generics}{supertraits}"));
        for part in &item.items {
            match part {
                TraitItem::Fn(part) => {
                    let kind = if part.default.is_some() { "provided" } else { "required" };
                    let line = function(&part.attrs, &part.sig, path, &part.sig.ident.to_string());
                    self.lines.push(format!("{line} // {kind}"));
                }
                TraitItem::Const(part) => {
                    self.lines.push(format!(
                        "pub const {path}::{}: {}",
                        part.ident,
                        source::of_type(&part.ty)
                    ));
                }
                TraitItem::Type(part) => {
                    self.lines.push(format!(
                        "pub type {path}::{}: {}",
                        part.ident,
                        source::of_bounds(&part.bounds)
                    ));
                }
                _ => {}
            }
        }
    }

    fn derives(&mut self, attributes: &[Attribute], path: &str) {
        for attribute in attributes {
            let Meta::List(list) = &attribute.meta else { continue };
            if !list.path.is_ident("derive") {
                continue;
            }
            let traits =
                list.parse_args_with(syn::punctuated::Punctuated::<Path, syn::Token![,]>::parse_terminated);
            for derived in traits.into_iter().flatten() {
                self.lines.push(format!("impl {} for {path}", source::of_path(&derived)));
            }
        }
    }

    /// The implementations of an item, sorted: their order in the source means nothing.
    fn implementations(&mut self, key: (Id, usize), path: &str) {
        let mut lines = Vec::new();
        for (module, item) in self.impls.get(&key).into_iter().flatten() {
            match &item.trait_ {
                Some((bang, interface, _)) => {
                    if self.is_hidden(*module, interface) {
                        continue;
                    }
                    let bang = if bang.is_some() { "!" } else { "" };
                    let generics = source::of_generics(&item.generics);
                    let place = source::of_where(item.generics.where_clause.as_ref());
                    let place = if place.is_empty() { place } else { format!(" {place}") };
                    lines.push(format!(
                        "{}impl{generics} {bang}{} for {}{place}",
                        marks(&item.attrs),
                        source::of_path(interface),
                        source::of_type(&item.self_ty)
                    ));
                }
                None => lines.extend(item.items.iter().filter_map(|part| inherent(item, part, path))),
            }
        }
        lines.sort();
        self.lines.append(&mut lines);
    }

    /// Whether a trait of this crate is out of others' reach.
    fn is_hidden(&self, module: Id, interface: &Path) -> bool {
        match self.tree.resolve(module, &segments(interface)) {
            Target::Item(module, at) => {
                let item = &self.tree.module(module).items[at];
                !visibility(item).is_some_and(is_public)
            }
            Target::Module(_) | Target::Foreign(_) => false,
        }
    }
}

fn inherent(of: &ItemImpl, part: &ImplItem, path: &str) -> Option<String> {
    // What holds for some parameters only is said of them.
    let generics = source::of_generics(&of.generics);
    let cfg = marks(&of.attrs);
    let line = match part {
        ImplItem::Fn(part) if is_public(&part.vis) => {
            function(&part.attrs, &part.sig, path, &part.sig.ident.to_string())
        }
        ImplItem::Const(part) if is_public(&part.vis) => {
            format!("{}pub const {path}::{}: {}", marks(&part.attrs), part.ident, source::of_type(&part.ty))
        }
        _ => return None,
    };
    let place = if generics.is_empty() { String::new() } else { format!(" // impl{generics}") };
    Some(format!("{cfg}{line}{place}"))
}

fn function(attributes: &[Attribute], signature: &Signature, parent: &str, name: &str) -> String {
    let sig = source::of_signature(signature);
    let own = format!("fn {}", signature.ident);
    // Whether it changes what it was given is its own business.
    let sig = sig.replacen(&own, &format!("fn {parent}::{name}"), 1).replacen("(mut self", "(self", 1);
    format!("{}pub {sig}", marks(attributes))
}

/// The attributes that concern users.
fn marks(attributes: &[Attribute]) -> String {
    let marks = attributes.iter().filter(|attribute| {
        let path = attribute.path();
        ["cfg", "non_exhaustive", "must_use", "deprecated", "repr"].iter().any(|name| path.is_ident(name))
    });
    let mark = |attribute: &Attribute| match &attribute.meta {
        // The reason may change.
        Meta::NameValue(pair) => format!("#[{}] ", source::of_path(&pair.path)),
        Meta::Path(_) | Meta::List(_) => format!("{} ", source::of_attribute(attribute)),
    };
    marks.map(mark).collect()
}

fn visibility(item: &Item) -> Option<&Visibility> {
    match item {
        Item::Const(item) => Some(&item.vis),
        Item::Enum(item) => Some(&item.vis),
        Item::Fn(item) => Some(&item.vis),
        Item::Static(item) => Some(&item.vis),
        Item::Struct(item) => Some(&item.vis),
        Item::Trait(item) => Some(&item.vis),
        Item::Type(item) => Some(&item.vis),
        Item::Union(item) => Some(&item.vis),
        _ => None,
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn segments(path: &Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}
