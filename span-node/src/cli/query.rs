//! `span status`, `span peers` and `span why`: what a running node says.

use std::io;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde_json::{Value, json};

use super::args::{Query, Why};
use crate::config::NodeConfig;
use crate::control::{self, Status};
use crate::interface::InterfaceName;
use crate::node;

pub(super) fn status(args: &Query) -> Result<ExitCode> {
    let status = ask(args)?;
    if args.json {
        return print(&status);
    }
    print!("{}", control::status_text(&status));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn peers(args: &Query) -> Result<ExitCode> {
    let status = ask(args)?;
    if args.json {
        return print(&json!({ "peers": status.peers }));
    }
    print!("{}", control::peers_text(&status));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn why(args: &Why) -> Result<ExitCode> {
    let status = ask(&args.query)?;
    let peer = status.find_peer(&args.peer)?;
    if args.query.json {
        return print(peer);
    }
    print!("{}", control::why_text(peer));
    Ok(ExitCode::SUCCESS)
}

fn print(document: &impl Serialize) -> Result<ExitCode> {
    println!("{}", serde_json::to_string_pretty(document)?);
    Ok(ExitCode::SUCCESS)
}

fn ask(args: &Query) -> Result<Status> {
    let path = match &args.socket {
        Some(path) => path.clone(),
        None => {
            let interface: InterfaceName = args.interface.parse()?;
            NodeConfig { interface, ..NodeConfig::default() }.control_socket()
        }
    };
    let answer = node::control::ask(&path, "status").map_err(|error| {
        let socket = path.display();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => anyhow::anyhow!(
                "no node answers at {socket}: start one with `span up`, or name its interface with --interface"
            ),
            io::ErrorKind::PermissionDenied => {
                anyhow::anyhow!("may not ask the node at {socket}: run this as the user the node runs as")
            }
            _ => anyhow::anyhow!("cannot ask the node at {socket}: {error}"),
        }
    })?;
    let document: Value = serde_json::from_str(&answer).context("the node's answer is no JSON document")?;
    if let Some(error) = document.get("error").and_then(Value::as_str) {
        bail!("the node answers: {error}");
    }
    serde_json::from_value(document).context("the node is of another version than this program")
}
