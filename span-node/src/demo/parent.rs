//! The demo from beginning to end.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::capture::Capture;
use super::frame::Expected;
#[cfg(feature = "netstack")]
use super::inprocess;
use super::netns;
use super::nodes::{Event, Nodes};
use super::report::{Report, Summary};
use super::service::Service;
use super::stages::Stages;
use super::switch::{self, Switch};
use super::view::View;
use crate::clock;
use crate::token::Token;

/// What can be chosen.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many nodes, at least 2 and at most 64.
    pub nodes: u16,
    /// Print one JSON object at the end, and nothing else on standard output.
    pub json: bool,
    /// Run all nodes in this process even where they could have namespaces of their own.
    pub in_process: bool,
}

/// The nodes' UDP port. Each is alone in its network namespace, so they can all have the same one.
const WIREGUARD_PORT: u16 = 51820;
const DISCOVERY_PORT: u16 = 3000;

/// Runs the demo and prints what it found.
///
/// Must be called before the process has started a thread: it moves to namespaces of its own. Exits with
/// 0 when every link came up and nothing leaked, 1 when not, 2 when the demo cannot run here, and 128 and
/// the signal's number when it was interrupted.
pub fn run(options: Options) -> ExitCode {
    let mut view = View::new(options.nodes, options.json);
    let outcome = demonstrate(options, &mut view);
    view.end();
    let (summary, code) = match &outcome {
        Ok(report) => {
            let summary = report.summary();
            let code = if summary.ok { 0 } else { 1 };
            (summary, code)
        }
        Err(error) => {
            eprintln!("span demo: {error}");
            (Summary::failed(options.nodes, error.to_string()), error.exit_code())
        }
    };
    if options.json {
        // Fails for what cannot be written as JSON only; figures can.
        println!("{}", serde_json::to_string(&summary).unwrap_or_default());
    } else if let Ok(report) = &outcome {
        println!("{report}");
    }
    ExitCode::from(code)
}

/// Why there is nothing to report.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0}")]
    Namespaces(#[from] netns::Error),
    #[error("cannot {what}: {error}")]
    Setup { what: &'static str, error: io::Error },
    #[error("node-{number}: {what}{}", quote(log))]
    Node { number: u16, what: String, log: Vec<String> },
    #[error("the capture did not see a packet sent in plaintext on purpose; its verdict would mean nothing")]
    Blind,
    #[error("interrupted")]
    Interrupted(i32),
}

impl Error {
    fn exit_code(&self) -> u8 {
        match self {
            Error::Namespaces(_) | Error::Setup { .. } => 2,
            Error::Node { .. } | Error::Blind => 1,
            Error::Interrupted(signal) => 128_u8.saturating_add(u8::try_from(*signal).unwrap_or(0)),
        }
    }
}

fn quote(log: &[String]) -> String {
    log.iter().map(|line| format!("\n    {line}")).collect()
}

/// Names a step for the error that may come of it.
pub(super) fn to(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::Setup { what, error }
}

fn demonstrate(options: Options, view: &mut View) -> Result<Report, Error> {
    #[cfg(feature = "netstack")]
    {
        if options.in_process {
            return inprocess::demonstrate(options, view);
        }
        if let Err(error) = netns::enter() {
            eprintln!("span demo: {error}\nGoing on in this process, over loopback, without interfaces.");
            return inprocess::demonstrate(options, view);
        }
    }
    #[cfg(not(feature = "netstack"))]
    netns::enter()?;
    view.stage("setting up the switch");
    let mut switch = Switch::new().map_err(to("create the switch"))?;
    let discovery = SocketAddr::new(switch::address(0), DISCOVERY_PORT);
    let expected = Expected { wireguard_port: WIREGUARD_PORT, discovery };
    let capture = Capture::start(expected, switch.index()).map_err(to("capture on the switch"))?;
    let (sender, events) = mpsc::channel();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(to("wait for signals"))?;
    let service = Service::start(discovery).map_err(to("start the discovery service"))?;
    let token = new_cluster(discovery).map_err(to("make a cluster"))?;
    let nodes = Nodes::start(options.nodes, &sender).map_err(to("start the nodes"))?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || signals.forever().try_for_each(|signal| sender.send(Event::Signal(signal))))
        .map_err(to("wait for signals"))?;

    let mut stages = Stages::new(nodes, events, view);
    stages.plug_in(&mut switch)?;
    stages.test_the_capture(&capture)?;
    stages.join(&token, WIREGUARD_PORT)?;
    stages.ping_every_pair()?;
    let transfer = stages.transfer()?;
    // Later the ports are gone, and their counters with them.
    let frames = Switch::frames().map_err(to("read the switch's counters"))?;
    let links = stages.leave()?;
    drop(service);
    let counts = capture.finish().map_err(to("capture on the switch"))?;
    Ok(Report { nodes: options.nodes, links, transfer, frames, counts: Some(counts) })
}

/// A cluster of its own for every demo.
pub(super) fn new_cluster(discovery: SocketAddr) -> io::Result<Token> {
    let service = format!("http://{discovery}").parse().map_err(io::Error::other)?;
    Token::generate(&clock::entropy()?, vec![service]).map_err(io::Error::other)
}
