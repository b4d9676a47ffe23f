//! The processes of the nodes: started, spoken to, and never left behind.

use std::collections::VecDeque;
use std::env;
use std::io::{self, BufRead as _, BufReader, Read};
use std::ops::Range;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::messages::{self, Answer, Order};

/// What can happen to the demo while it waits.
#[derive(Debug)]
pub(super) enum Event {
    /// A node said something.
    Answered(u16, Answer),
    /// A node's process has closed its standard output: it ends.
    Ended(u16),
    /// The demo is asked to end.
    Signal(i32),
}

/// How many lines of a node's log are kept to explain its end.
const LOG_LINES: usize = 20;

/// The running nodes, numbered from 1. They die with this value, and with the process that holds it.
pub(super) struct Nodes(Vec<Node>);

struct Node {
    process: Child,
    /// `None` once it has been told to stop.
    orders: Option<ChildStdin>,
    log: Arc<Mutex<VecDeque<String>>>,
}

impl Nodes {
    /// Starts `count` processes of this program. What they say arrives at `events`.
    ///
    /// Must be called from a thread that lives as long as the nodes: they are killed when it ends.
    pub(super) fn start(count: u16, events: &Sender<Event>) -> io::Result<Self> {
        let mut nodes = Self(Vec::new());
        for number in 1..=count {
            nodes.0.push(Node::start(number, events.clone())?);
        }
        Ok(nodes)
    }

    /// The numbers of the nodes.
    pub(super) fn numbers(&self) -> Range<u16> {
        1..self.count() + 1
    }

    pub(super) fn count(&self) -> u16 {
        // Counted by a u16 when they were started.
        self.0.len() as u16
    }

    pub(super) fn process_id(&self, number: u16) -> u32 {
        self.node(number).process.id()
    }

    pub(super) fn tell(&mut self, number: u16, order: &Order) -> io::Result<()> {
        match &mut self.node_mut(number).orders {
            Some(orders) => messages::write(orders, order),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// The last lines the node has logged.
    pub(super) fn log(&self, number: u16) -> Vec<String> {
        let log = self.node(number).log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().cloned().collect()
    }

    /// Tells all nodes to stop and waits until they have, or kills them when `patience` is over.
    ///
    /// Returns the first that did not end by itself and well, and what it did instead.
    pub(super) fn stop(&mut self, patience: Duration) -> io::Result<Option<(u16, String)>> {
        for number in self.numbers() {
            // One that is gone already will be found so below.
            let _ = self.tell(number, &Order::Stop);
            self.node_mut(number).orders = None;
        }
        let deadline = Instant::now() + patience;
        for number in self.numbers() {
            match self.node_mut(number).wait(deadline)? {
                Some(status) if status.success() => {}
                Some(status) => return Ok(Some((number, format!("ended with {status}")))),
                None => return Ok(Some((number, format!("did not leave within {patience:?}")))),
            }
        }
        Ok(None)
    }

    fn node(&self, number: u16) -> &Node {
        &self.0[usize::from(number) - 1]
    }

    fn node_mut(&mut self, number: u16) -> &mut Node {
        &mut self.0[usize::from(number) - 1]
    }
}

impl Node {
    fn start(number: u16, events: Sender<Event>) -> io::Result<Self> {
        let mut process = Command::new("/proc/self/exe")
            .arg0("span")
            .arg("demo-node")
            // Nobody reads the logs while all is well, and then only the last lines.
            .envs(env::var_os("SPAN_LOG").is_none().then_some(("SPAN_LOG", "warn")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // The terminal's Ctrl-C is for the demo, which ends the nodes in order.
            .process_group(0)
            .spawn()?;
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let (orders, answers, errors) = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let node = Self { process, orders, log: Arc::clone(&log) };
        if let (Some(answers), Some(errors)) = (answers, errors) {
            let shown = env::var_os("SPAN_LOG").is_some();
            thread::Builder::new().spawn(move || keep_log(number, errors, &log, shown))?;
            thread::Builder::new().spawn(move || listen(number, answers, &events))?;
        }
        Ok(node)
    }

    /// Waits for the end of the process; `None` when the deadline is first.
    fn wait(&mut self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        loop {
            match self.process.try_wait()? {
                None if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
                status => return Ok(status),
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Fails only for a process that has ended, and that has been waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Passes on what a node says, until it says no more.
fn listen(number: u16, answers: impl Read, events: &Sender<Event>) {
    for line in BufReader::new(answers).lines() {
        let answer = match line.and_then(|line| messages::read(&line)) {
            Ok(answer) => answer,
            Err(error) => Answer::Failed { what: format!("said something incomprehensible: {error}") },
        };
        if events.send(Event::Answered(number, answer)).is_err() {
            return;
        }
    }
    let _ = events.send(Event::Ended(number));
}

fn keep_log(number: u16, errors: impl Read, log: &Mutex<VecDeque<String>>, shown: bool) {
    for line in BufReader::new(errors).lines().map_while(Result::ok) {
        if shown {
            eprintln!("node-{number}: {line}");
        }
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() == LOG_LINES {
            log.pop_front();
        }
        log.push_back(line);
    }
}
