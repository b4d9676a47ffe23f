//! The commands of the program `span`.

mod args;
mod cluster;
#[cfg(feature = "service")]
mod discovery;
mod query;
mod signals;
mod up;
mod wg;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use args::{Args, Command};

#[cfg(feature = "service")]
use crate::demo;

/// Runs the program on the process's arguments.
///
/// Nothing here starts a thread before the command does: `span demo` enters namespaces of its own first.
pub fn main() -> ExitCode {
    run(&Args::parse())
}

/// Runs the program as `span-wg`: `wg-quick` passes the name of the interface and nothing else, and expects
/// the interface to be there when the command ends.
pub fn wg_quick() -> ExitCode {
    let given: Vec<OsString> = std::env::args_os().skip(1).collect();
    if given.get(1).is_some_and(|word| word == "--background") {
        // The background half is this program again, called as `span` is.
        return main();
    }
    let words = ["span", "wg", "--daemon"].map(OsString::from);
    run(&Args::parse_from(words.into_iter().chain(given)))
}

fn run(args: &Args) -> ExitCode {
    if let Err(error) = start_log(args) {
        eprintln!("span: --log: {error}");
        return ExitCode::FAILURE;
    }
    let done = match &args.command {
        #[cfg(feature = "service")]
        Command::Demo(args) => Ok(demo::run(demo::Options {
            nodes: args.nodes,
            json: args.json,
            #[cfg(feature = "netstack")]
            in_process: args.in_process,
            #[cfg(not(feature = "netstack"))]
            in_process: false,
        })),
        #[cfg(feature = "service")]
        Command::DemoNode => Ok(demo::child::run()),
        Command::Cluster(args) => cluster::run(args),
        Command::Up(args) => up::run(args),
        Command::Status(args) => query::status(args),
        Command::Peers(args) => query::peers(args),
        Command::Why(args) => query::why(args),
        #[cfg(feature = "service")]
        Command::Discovery(args) => discovery::run(args),
        Command::Wg(args) => wg::run(args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("span: {}", explain(&error));
        ExitCode::FAILURE
    })
}

/// The error and what caused it, each said once: many an error already says its cause itself.
fn explain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

fn start_log(args: &Args) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(&args.log)?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    if args.log_json {
        log.json().init();
    } else {
        log.with_target(false).init();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn every_cause_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read x: {source}")]
        struct Unreadable {
            source: std::io::Error,
        }
        let source = std::io::Error::other("it is gone");
        let error = Err::<(), _>(Unreadable { source }).context("cannot start").unwrap_err();
        assert_eq!(explain(&error), "cannot start: cannot read x: it is gone");
    }
}
