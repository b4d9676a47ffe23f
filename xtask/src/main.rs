//! Development tasks of the Span workspace.
//!
//! `cargo run -p xtask -- codegen` writes the Rust of the discovery protocol from its `.proto` files;
//! `codegen --check` writes nothing and fails if what is checked in differs.

mod codegen;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args.as_slice() {
        ["codegen"] => codegen::write(),
        ["codegen", "--check"] => codegen::check(),
        _ => {
            eprintln!("usage: cargo run -p xtask -- codegen [--check]");
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
