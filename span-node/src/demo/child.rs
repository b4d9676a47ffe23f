//! One node of the demo: a process in a network namespace of its own that does what it is told.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use span_core::time::Instant;

use super::member::Member;
use super::messages::{self, Answer, Order};
use super::netns::{self, SCRATCH};
use super::{ping, switch, transfer};
use crate::clock;

/// How long an echo may take.
const PING_PATIENCE: Duration = Duration::from_secs(1);
/// How often the links are looked at until all are up, and after that.
const WATCH_INTERVAL: Duration = Duration::from_millis(10);
const REST: Duration = Duration::from_millis(200);

/// Runs one node until it is told to stop or the demo is gone. Must be called before the process has
/// started a thread.
pub fn run() -> ExitCode {
    match isolate().and_then(|()| obey()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&Answer::Failed { what: error.to_string() });
            ExitCode::FAILURE
        }
    }
}

fn isolate() -> io::Result<()> {
    // However the demo ends, its nodes end with it. Had it ended before this line, standard input is at
    // its end.
    set_pdeathsig(Signal::SIGKILL)?;
    netns::enter_another()?;
    netns::take_scratch_directory().map_err(|error| {
        io::Error::new(error.kind(), format!("cannot mount a private {SCRATCH}: {error}"))
    })?;
    tell(&Answer::Isolated);
    Ok(())
}

fn obey() -> io::Result<()> {
    let mut member = None;
    for line in io::stdin().lines() {
        match messages::read(&line?)? {
            Order::PlugIn { number, nodes } => {
                switch::plug_in(number, nodes)?;
                tell(&Answer::PluggedIn);
            }
            Order::Leak { to } => {
                UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.send_to(b"in plaintext", to)?;
            }
            Order::Join { number, nodes, token, listen_port } => {
                let token = token.parse().map_err(io::Error::other)?;
                let at_nanos = clock::now().as_nanos();
                let joined = Member::join(number, &token, listen_port, Path::new(SCRATCH))?;
                tell(&Answer::Started { at_nanos, overlay: joined.overlay()? });
                let joined = Arc::new(Mutex::new(Some(joined)));
                watch(&joined, nodes - 1)?;
                member = Some(joined);
            }
            Order::Ping { targets, times } => {
                let round_trips = targets.iter().map(|target| {
                    let pings = (0..times).map(|sequence| ping::ping(*target, sequence, PING_PATIENCE));
                    pings.filter_map(Result::transpose).collect()
                });
                tell(&Answer::Pinged { round_trips: round_trips.collect::<io::Result<_>>()? });
            }
            Order::Receive { address } => {
                let listener = transfer::listen(address)?;
                tell(&Answer::Listening { at: listener.local_addr()? });
                tell(&match transfer::receive(&listener) {
                    Ok(received) => Answer::Received(received),
                    Err(error) => Answer::NotTransferred { what: format!("cannot receive: {error}") },
                });
            }
            Order::Send { to, millis } => {
                if let Err(error) = transfer::send(to, Duration::from_millis(millis)) {
                    tell(&Answer::NotTransferred { what: format!("cannot send: {error}") });
                }
            }
            Order::Stop => break,
        }
    }
    if let Some(member) = member {
        *lock(&member) = None;
    }
    Ok(())
}

/// Reports the links as they come and go, from a thread of its own. There are `others` to come.
fn watch(member: &Arc<Mutex<Option<Member>>>, others: u16) -> io::Result<()> {
    let member = Arc::clone(member);
    thread::Builder::new().name("watch".to_owned()).spawn(move || {
        let mut up: Vec<u16> = Vec::new();
        let mut looked = Instant::ORIGIN;
        loop {
            let Some(links) = lock(&member).as_ref().and_then(|member| member.links().ok()) else { return };
            for link in links.iter().filter(|link| !up.contains(&link.peer)) {
                // The path may be older than the tunnel over it, which was not there at the last look.
                let at_nanos = link.since.max(looked).as_nanos();
                tell(&Answer::Link { peer: link.peer, up: true, at_nanos });
            }
            looked = clock::now();
            let now_up: Vec<u16> = links.iter().map(|link| link.peer).collect();
            for peer in up.iter().filter(|peer| !now_up.contains(*peer)) {
                tell(&Answer::Link { peer: *peer, up: false, at_nanos: looked.as_nanos() });
            }
            up = now_up;
            let complete = up.len() == usize::from(others);
            thread::sleep(if complete { REST } else { WATCH_INTERVAL });
        }
    })?;
    Ok(())
}

fn lock(member: &Mutex<Option<Member>>) -> MutexGuard<'_, Option<Member>> {
    member.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the demo. When it is gone there is nobody to tell, and standard input says so too.
fn tell(answer: &Answer) {
    let _ = messages::write(&mut io::stdout().lock(), answer);
}
