//! Pieces of source on one line, as rustfmt would write them were lines long enough.

use syn::punctuated::Punctuated;
use syn::{
    Attribute, Expr, Generics, Item, Path, Signature, Token, Type, TypeParamBound, WhereClause, parse_quote,
};

pub(super) fn of_type(piece: &Type) -> String {
    cut(&parse_quote!(type X = #piece;), "type X = ", ";")
}

pub(super) fn of_path(piece: &Path) -> String {
    cut(&parse_quote!(type X = #piece;), "type X = ", ";")
}

/// With the angle brackets, or nothing.
pub(super) fn of_generics(piece: &Generics) -> String {
    cut(&parse_quote!(struct X #piece;), "struct X", ";")
}

pub(super) fn of_where(piece: Option<&WhereClause>) -> String {
    cut(&parse_quote!(struct X<T>() #piece;), "struct X<T>()", ";")
}

pub(super) fn of_bounds(piece: &Punctuated<TypeParamBound, Token![+]>) -> String {
    if piece.is_empty() {
        return String::new();
    }
    cut(&parse_quote!(trait X: #piece {}), "trait X: ", " {}")
}

pub(super) fn of_expression(piece: &Expr) -> String {
    cut(&parse_quote!(const X: T = #piece;), "const X: T = ", ";")
}

pub(super) fn of_signature(piece: &Signature) -> String {
    cut(&parse_quote!(#piece {}), "", " {}")
}

pub(super) fn of_attribute(piece: &Attribute) -> String {
    cut(&parse_quote!(#piece struct X;), "", " struct X;")
}

/// What stands between in an item made for it.
fn cut(item: &Item, before: &str, after: &str) -> String {
    let file = syn::File { shebang: None, attrs: Vec::new(), items: vec![item.clone()] };
    let lines = prettyplease::unparse(&file);
    let line = lines.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    // What broken lines leave behind.
    let line = line.replace("( ", "(").replace(", )", ")").replace("< ", "<").replace(", >", ">");
    let line = line.strip_prefix(before).unwrap_or(&line);
    line.strip_suffix(after).unwrap_or(line).trim().to_owned()
}
