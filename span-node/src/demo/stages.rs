//! What the demo lets its nodes do, one stage after the other.

use std::iter;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use span_core::time::Instant as Moment;

use super::capture::Capture;
use super::messages::{Answer, Order};
use super::nodes::{Event, Nodes};
use super::parent::{Error, to};
use super::report::{Link, Transfer};
use super::switch::{self, Switch};
use super::view::View;
use crate::token::Token;

/// How long a step may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pings per address.
const PINGS: u16 = 2;
const TRANSFER: Duration = Duration::from_secs(2);
/// How long nodes have to leave in order before they are killed.
const FAREWELL: Duration = Duration::from_secs(5);

/// The nodes and what is known about them by now.
pub(super) struct Stages<'a> {
    nodes: Nodes,
    events: Receiver<Event>,
    view: &'a mut View,
    /// The nodes' addresses in the overlay, as far as they have started.
    overlay: Vec<Option<IpAddr>>,
    last_start: Moment,
    pairs: Vec<Pair>,
}

/// One direction between two nodes.
struct Pair {
    from: u16,
    to: u16,
    up: bool,
    /// When it came up for the first time.
    up_at: Option<Moment>,
    round_trips: Vec<Duration>,
    answered: bool,
}

impl<'a> Stages<'a> {
    pub(super) fn new(nodes: Nodes, events: Receiver<Event>, view: &'a mut View) -> Self {
        let all = nodes.numbers();
        let pairs = all.clone().flat_map(|from| {
            let others = all.clone().filter(move |to| *to != from);
            others.map(move |to| Pair {
                from,
                to,
                up: false,
                up_at: None,
                round_trips: Vec::new(),
                answered: false,
            })
        });
        let (pairs, overlay) = (pairs.collect(), vec![None; all.len()]);
        Self { nodes, events, view, overlay, last_start: Moment::ORIGIN, pairs }
    }

    /// Gives every node its cable.
    pub(super) fn plug_in(&mut self, switch: &mut Switch) -> Result<(), Error> {
        self.view.stage("setting up the nodes");
        self.gather("take a network namespace", |_, _, answer| matches!(answer, Answer::Isolated))?;
        let nodes = self.nodes.count();
        for number in self.nodes.numbers() {
            let attached = switch.attach(number, self.nodes.process_id(number));
            attached.map_err(to("attach a node to the switch"))?;
            self.tell(number, &Order::PlugIn { number, nodes })?;
        }
        self.gather("set up its network", |_, _, answer| matches!(answer, Answer::PluggedIn))
    }

    /// A capture that saw nothing would always be content: this one has to find a packet first.
    pub(super) fn test_the_capture(&mut self, capture: &Capture) -> Result<(), Error> {
        self.tell(1, &Order::Leak { to: SocketAddr::new(switch::address(0), 9) })?;
        let deadline = Instant::now() + PATIENCE;
        while capture.counts().plaintext == 0 {
            if Instant::now() >= deadline {
                return Err(Error::Blind);
            }
            thread::sleep(Duration::from_millis(1));
        }
        capture.reset();
        Ok(())
    }

    /// Lets all nodes join and waits until each is connected with every other. What is still missing when
    /// patience ends is for the report.
    pub(super) fn join(&mut self, token: &Token, listen_port: u16) -> Result<(), Error> {
        self.view.stage("the nodes find each other");
        let nodes = self.nodes.count();
        for number in self.nodes.numbers() {
            self.tell(number, &Order::Join { number, nodes, token: token.encode(), listen_port })?;
        }
        self.gather("start", |stages, number, answer| match answer {
            Answer::Started { at_nanos, overlay } => {
                stages.last_start = stages.last_start.max(Moment::from_nanos(*at_nanos));
                stages.overlay[usize::from(number) - 1] = Some(*overlay);
                true
            }
            _ => false,
        })?;
        let deadline = Instant::now() + PATIENCE;
        while self.pairs.iter().any(|pair| !pair.up) {
            if self.next(deadline)?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Lets every node ping every node it is connected with, one after the other: all at once would
    /// measure how busy the machine is.
    pub(super) fn ping_every_pair(&mut self) -> Result<(), Error> {
        self.view.stage("pinging every pair");
        for number in self.nodes.numbers() {
            let up = self.pairs.iter().filter(|pair| pair.from == number && pair.up).map(|pair| pair.to);
            let up: Vec<u16> = up.collect();
            let targets: Vec<Vec<IpAddr>> = up.iter().map(|to| self.addresses(*to)).collect();
            self.tell(number, &Order::Ping { targets: targets.concat(), times: PINGS })?;
            let deadline = Instant::now() + PATIENCE + Duration::from_secs(targets.concat().len() as u64);
            let answer = self.answer(number, "ping", deadline, |answer| match answer {
                Answer::Pinged { round_trips } => Some(round_trips),
                _ => None,
            });
            let mut round_trips = answer?.into_iter();
            for (to, targets) in iter::zip(up, targets) {
                let answers: Vec<Vec<Duration>> = round_trips.by_ref().take(targets.len()).collect();
                let pair = self.pairs.iter_mut().find(|pair| (pair.from, pair.to) == (number, to));
                if let Some(pair) = pair {
                    pair.answered = answers.len() == targets.len() && answers.iter().all(|a| !a.is_empty());
                    pair.round_trips = answers.concat();
                }
            }
        }
        Ok(())
    }

    /// Sends bulk data from the first node to the second. The inner error tells why it did not arrive.
    pub(super) fn transfer(&mut self) -> Result<Result<Transfer, String>, Error> {
        const FROM: u16 = 1;
        const TO: u16 = 2;
        self.view.stage("moving data");
        let Some(address) = self.overlay[usize::from(TO) - 1] else {
            return Ok(Err(format!("node-{TO} has no address")));
        };
        let deadline = Instant::now() + PATIENCE;
        self.tell(TO, &Order::Receive { address })?;
        let at = self.answer(TO, "listen", deadline, |answer| match answer {
            Answer::Listening { at } => Some(at),
            _ => None,
        })?;
        self.tell(FROM, &Order::Send { to: at, millis: TRANSFER.as_millis() as u64 })?;
        loop {
            match self.next(deadline)? {
                Some((TO, Answer::Received(received))) => {
                    return Ok(Ok(Transfer { from: FROM, to: TO, received }));
                }
                Some((number, Answer::NotTransferred { what })) => {
                    return Ok(Err(format!("node-{number} {what}")));
                }
                Some(_) => {}
                None => return Ok(Err("no end in sight".to_owned())),
            }
        }
    }

    /// Ends the nodes.
    pub(super) fn leave(mut self) -> Result<Vec<Link>, Error> {
        self.view.stage("cleaning up");
        if let Some((number, what)) = self.nodes.stop(FAREWELL).map_err(to("end the nodes"))? {
            return Err(self.failure(number, what));
        }
        let last_start = self.last_start;
        let links = self.pairs.into_iter().map(|pair| Link {
            from: pair.from,
            to: pair.to,
            connected: pair.up_at.filter(|_| pair.up).map(|at| at.since(last_start)),
            round_trips: pair.round_trips,
            answered: pair.answered,
        });
        Ok(links.collect())
    }

    /// Where a node should answer: its address in the overlay and its real ones, to which the way leads
    /// through the tunnel as well.
    fn addresses(&self, number: u16) -> Vec<IpAddr> {
        let overlay = self.overlay[usize::from(number) - 1];
        overlay.into_iter().chain(switch::addresses(number).map(|address| address.addr())).collect()
    }

    fn tell(&mut self, number: u16, order: &Order) -> Result<(), Error> {
        let told = self.nodes.tell(number, order);
        told.map_err(|error| self.failure(number, format!("does not listen: {error}")))
    }

    /// Waits until every node has given the answer that `is_it` recognises.
    fn gather(
        &mut self,
        what: &str,
        mut is_it: impl FnMut(&mut Self, u16, &Answer) -> bool,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        let mut missing: Vec<u16> = self.nodes.numbers().collect();
        while let Some(first) = missing.first().copied() {
            let Some((number, answer)) = self.next(deadline)? else {
                return Err(self.failure(first, format!("did not {what} within {PATIENCE:?}")));
            };
            if is_it(self, number, &answer) {
                missing.retain(|other| *other != number);
            }
        }
        Ok(())
    }

    /// Waits for one node's answer.
    fn answer<T>(
        &mut self,
        number: u16,
        what: &str,
        deadline: Instant,
        mut is_it: impl FnMut(Answer) -> Option<T>,
    ) -> Result<T, Error> {
        loop {
            match self.next(deadline)? {
                Some((from, answer)) if from == number => {
                    if let Some(answer) = is_it(answer) {
                        return Ok(answer);
                    }
                }
                Some(_) => {}
                None => return Err(self.failure(number, format!("did not {what} in time"))),
            }
        }
    }

    /// The next thing a node says; `None` when the deadline passes. Links are taken note of on the way.
    fn next(&mut self, deadline: Instant) -> Result<Option<(u16, Answer)>, Error> {
        let event = match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(None),
        };
        match event {
            Event::Answered(number, Answer::Failed { what }) => Err(self.failure(number, what)),
            Event::Answered(number, answer) => {
                if let Answer::Link { peer, up, at_nanos } = answer {
                    self.link(number, peer, up, Moment::from_nanos(at_nanos));
                }
                Ok(Some((number, answer)))
            }
            Event::Ended(number) => Err(self.failure(number, "ended unexpectedly".to_owned())),
            Event::Signal(signal) => Err(Error::Interrupted(signal)),
        }
    }

    fn link(&mut self, from: u16, to: u16, up: bool, at: Moment) {
        let last_start = self.last_start;
        let pair = self.pairs.iter_mut().find(|pair| (pair.from, pair.to) == (from, to));
        if let Some(pair) = pair {
            pair.up = up;
            pair.up_at = pair.up_at.or(Some(at));
            self.view.link(from, to, pair.up_at.filter(|_| up).map(|at| at.since(last_start)));
        }
    }

    fn failure(&self, number: u16, what: String) -> Error {
        Error::Node { number, what, log: self.nodes.log(number) }
    }
}
