//! A daemon with a node inside: it creates an interface and sets routes as `span up` does, tells what happens,
//! takes its configuration anew on SIGHUP without losing a link, and cleans up on SIGTERM.
//!
//! ```console
//! # cargo run -p span-examples --bin daemon -- span.yaml
//! ```

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use span_node::{Event, Node, config};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        // Every error says what is wrong and what to do.
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let file = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: daemon FILE")?);
    // From now on signals wait, so that none is lost while the node starts.
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let node = Arc::new(Node::start(config::load(&file)?)?);
    println!("up at {}", node.status()?.node.overlay_address);

    thread::spawn({
        let node = Arc::clone(&node);
        move || {
            for signal in signals.forever() {
                if signal != SIGHUP {
                    return node.stop();
                }
                match configure(&node, &file) {
                    Ok(()) => println!("configured anew"),
                    // The node goes on as it was.
                    Err(error) => eprintln!("not configured anew: {error}"),
                }
            }
        }
    });

    for event in node.events() {
        match event {
            Event::PeerUp(peer) => println!("{} is up", peer.name),
            Event::PeerDown(peer) => println!("{} does not answer", peer.name),
            Event::PathChanged { peer, path } => println!("{} is reached over {path}", peer.name),
            Event::DiscoveryDown { name, reason } => println!("{name} does not work: {reason}"),
            Event::Stopped(reason) => println!("stopped: {reason:?}"),
            // There are more kinds, and there will be.
            other => println!("{other:?}"),
        }
    }
    // If the node failed, why.
    Ok(node.wait()?)
}

fn configure(node: &Node, file: &Path) -> Result<(), Box<dyn Error>> {
    Ok(node.reconfigure(config::load(file)?)?)
}
