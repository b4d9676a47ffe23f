//! Every function of the header with every mistake that can be made with any: `every_function.c`, and its table.

mod build;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use build::{Program, source};

/// Pointers that may be NULL although there is room for something behind them.
const OPTIONAL: [(&str, &str); 8] = [
    ("span_node_new", "why"),
    ("span_node_start", "why"),
    ("span_node_status", "text"),
    ("span_token_generate", "services"),
    ("span_token_generate", "token"),
    ("span_tunnel_open", "opened"),
    ("span_tunnel_seal", "sealed"),
    ("span_tunnel_reseed", "seed"),
];

/// Structs that have grown since their first version, and the first field they had not then.
const GROWN: [(&str, &str); 1] = [("span_node_event", "address")];

/// Kinds of handles, as `every_function.c` has them.
const HANDLES: [&str; 5] = ["span_tunnel", "span_node", "span_listener", "span_stream", "span_datagrams"];

#[test]
fn every_function_sees_every_mistake() {
    let header = fs::read_to_string(source("include/span.h")).expect("the header");
    let table = Path::new(env!("CARGO_TARGET_TMPDIR")).join("every_function.h");
    fs::write(&table, table_of(&header)).expect("the table");
    let table = format!("-DFUNCTIONS=\"{}\"", table.display());
    Program::with_nodes("tests/c/every_function.c", "libspan_hooks.a").defining(table).prove();
}

struct Param<'a> {
    /// Without `struct` and `const`, as `span_node *`.
    ctype: String,
    is_const: bool,
    name: &'a str,
}

/// The table of the functions that take a pointer, and of those that free one.
fn table_of(header: &str) -> String {
    let (calls, mut rows) = (&mut String::new(), String::new());
    let (mut frees, mut kinds) = (Vec::new(), Vec::new());
    for declaration in declarations(header) {
        let (name, params) = parts(&declaration);
        if name.ends_with("_free") {
            frees.push(format!("(void (*)(void *)){name}"));
            kinds.push(kind(&params[0]).expect("a handle").to_string());
            continue;
        }
        if params.iter().all(|param| !param.ctype.contains('*')) {
            continue;
        }
        let arguments: Vec<String> =
            params.iter().enumerate().map(|(at, param)| argument(at, param)).collect();
        let _ = writeln!(
            calls,
            "static span_status call_{name}(struct world *w, int at, void *argument)\n{{\n    return {name}({});\n}}\n",
            arguments.join(", ")
        );
        let described: Vec<String> = params.iter().map(|param| describe(header, name, param)).collect();
        let (kind, changes) = match kind(&params[0]) {
            Some(kind) => (kind.to_string(), !params[0].is_const),
            None => ("-1".into(), false),
        };
        let _ = writeln!(
            rows,
            "    {{\"{name}\", {kind}, {}, {}, {{{}}}, call_{name}}},",
            i32::from(changes),
            params.len(),
            described.join(", ")
        );
    }
    format!(
        "{calls}static const struct function functions[] = {{\n{rows}}};\n\
         enum {{ FUNCTION_COUNT = sizeof functions / sizeof *functions, FREE_COUNT = {} }};\n\
         static void (*const frees[])(void *) = {{{}}};\nstatic const int free_kinds[] = {{{}}};\n",
        frees.len(),
        frees.join(", "),
        kinds.join(", ")
    )
}

/// The functions' declarations, each on one line.
fn declarations(header: &str) -> Vec<String> {
    let (_, functions) = header.split_once("extern \"C\" {").expect("functions");
    let (functions, _) = functions.split_once("#ifdef __cplusplus").expect("an end");
    let code: Vec<&str> =
        functions.lines().filter(|line| !line.starts_with("//") && !line.starts_with('#')).collect();
    let code = code.join(" ");
    code.split(';')
        .map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|text| !text.is_empty())
        .collect()
}

/// The name and the parameters of a function.
fn parts(declaration: &str) -> (&str, Vec<Param<'_>>) {
    let (head, params) = declaration.split_once('(').expect("a function");
    let name = head.rsplit([' ', '*']).next().expect("a name");
    let params = params.trim_end_matches(')');
    let params = params.split(", ").filter(|param| *param != "void").map(|param| {
        let at = param.rfind([' ', '*']).expect("a type and a name") + 1;
        let ctype = param[..at].trim().trim_start_matches("const ").trim_start_matches("struct ");
        Param { ctype: ctype.to_owned(), is_const: param.starts_with("const "), name: &param[at..] }
    });
    (name, params.collect())
}

/// Which handle it is, if it is one.
fn kind(param: &Param<'_>) -> Option<usize> {
    HANDLES.iter().position(|handle| param.ctype == format!("{handle} *"))
}

/// Something right from the world of `every_function.c`, unless something else is to be tried.
fn argument(at: usize, param: &Param<'_>) -> String {
    let right = match param.ctype.as_str() {
        "uint64_t" if param.name == "peer" => return "w->peer".into(),
        "uint16_t" | "uint32_t" | "uint64_t" | "size_t" => return "1".into(),
        "char *" => "w->text".to_owned(),
        "uint8_t *" => "w->bytes".to_owned(),
        "uint64_t *" => "&w->number".to_owned(),
        "size_t *" => "&w->count".to_owned(),
        "int *" => "&w->fd".to_owned(),
        handle if kind(param).is_some() => {
            format!("w->{}", &handle["span_".len()..handle.len() - " *".len()])
        }
        place if place.ends_with("**") => {
            format!("&w->new_{}", &place["span_".len()..place.len() - " **".len()])
        }
        object => format!("&w->{}", &object["span_".len()..object.len() - " *".len()]),
    };
    format!("at == {at} ? argument : (void *){right}")
}

/// What `every_function.c` knows of a parameter.
fn describe(header: &str, function: &str, param: &Param<'_>) -> String {
    let Some(pointee) = param.ctype.strip_suffix('*').map(str::trim_end) else {
        return format!("{{\"{}\", 0, 0, 0, 0, 0}}", param.name);
    };
    let optional = OPTIONAL.contains(&(function, param.name));
    let alignment = if kind(param).is_some() { "8".to_owned() } else { format!("_Alignof({pointee})") };
    let versioned = header.contains(&format!("typedef struct {pointee} {{\n    // sizeof({pointee})"));
    let size = if versioned { format!("sizeof({pointee})") } else { "0".to_owned() };
    let grown = GROWN.iter().find(|(name, _)| *name == pointee);
    let first = grown.map_or(size.clone(), |(name, field)| format!("offsetof({name}, {field})"));
    format!(
        "{{\"{}\", {}, {alignment}, {size}, {first}, {}}}",
        param.name,
        i32::from(optional),
        i32::from(param.is_const)
    )
}
