//! Development tasks of the Span workspace.
//!
//! `cargo run -p xtask -- codegen` writes the Rust of the discovery protocol from its `.proto` files;
//! `header` the C header from the Rust of `span-ffi`, `man` its manual pages from the header; `api` the public
//! interface of the libraries, to `docs/api`. With `--check` they write nothing and fail if what is checked in differs.
//!
//! `install-c --prefix DIR` builds `libspan` and puts it, its header, its `span.pc` and its manual pages where C
//! compilers and people find them.

mod api;
#[path = "../../tests/src/cargo.rs"]
mod cargo;
mod codegen;
mod header;
mod install_c;
mod man;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args.as_slice() {
        ["codegen"] => codegen::write(),
        ["codegen", "--check"] => codegen::check(),
        ["header"] => header::write(),
        ["header", "--check"] => header::check(),
        ["man"] => man::write(),
        ["man", "--check"] => man::check(),
        ["install-c", options @ ..] => install_c::install(options),
        ["api"] => api::write(),
        ["api", "--check"] => api::check(),
        _ => {
            eprintln!("usage: cargo run -p xtask -- codegen|header|man|api [--check]");
            eprintln!(
                "       cargo run -p xtask -- install-c --prefix DIR [--libdir DIR] [--destdir DIR] [--profile NAME]"
            );
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
