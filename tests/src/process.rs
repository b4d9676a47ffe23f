//! A program that runs beside the test, its output, and its end.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{eventually, holds};

/// A running program. Dropping it ends it; when the test is failing, its output is shown.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    directory: TempDir,
}

impl Process {
    /// Starts `command`, its standard output and error kept in files.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(name: &str, mut command: Command) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = |kind| File::create(directory.path().join(kind)).expect("a log file");
        let child = command
            .stdin(Stdio::piped())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {command:?}: {error}"));
        Self { name: name.to_owned(), child, directory }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard output so far.
    #[must_use]
    pub fn out(&self) -> String {
        self.read("out")
    }

    /// What it wrote to standard error so far.
    #[must_use]
    pub fn err(&self) -> String {
        self.read("err")
    }

    fn read(&self, kind: &str) -> String {
        let path: PathBuf = self.directory.path().join(kind);
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }

    /// Waits until standard output or error holds `text`.
    pub fn wait_for(&mut self, text: &str, bound: Duration) {
        let what = format!("{} says {text:?}", self.name);
        eventually(bound, &what, || {
            let said = self.out().contains(text) || self.err().contains(text);
            if !said && let Some(status) = self.status() {
                panic!("{} ended with {status} before it said {text:?}:\n{}", self.name, self.err());
            }
            holds(said)
        });
    }

    /// How it ended, or `None` while it runs.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child to wait for")
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        self.status().is_none()
    }

    /// Writes to its standard input.
    pub fn write(&mut self, text: &str) {
        let input: &mut ChildStdin = self.child.stdin.as_mut().expect("standard input is a pipe");
        input.write_all(text.as_bytes()).expect("a reader of standard input");
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process id");
        // It may have ended by itself: the caller sees that from the status.
        let _ = kill_process(pid, signal);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it still runs after `bound`.
    pub fn wait(&mut self, bound: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(bound, &what, || self.status())
    }

    /// Ends it with SIGTERM and waits.
    pub fn terminate(&mut self, bound: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(bound)
    }

    /// Ends it with SIGKILL: it gets no chance to clean up.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait(Duration::from_secs(5));
    }

    /// What part of one processor it uses over `time`.
    #[must_use]
    pub fn busy(&self, time: Duration) -> f64 {
        let start = (Instant::now(), self.processor_time());
        std::thread::sleep(time);
        (self.processor_time() - start.1).as_secs_f64() / start.0.elapsed().as_secs_f64()
    }

    /// The processor time it has used so far, all its threads together.
    #[must_use]
    pub fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // The name in parentheses may hold spaces; user and system time are the 12th and 13th field after it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        // Every Linux counts these in hundredths of a second, whatever its timer does.
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }

    /// How many file descriptors it has open.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// How many threads it has.
    #[must_use]
    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.pid())).map_or(0, Iterator::count)
    }

    /// Its peak resident memory in KiB.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
        line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.runs() {
            self.signal(Signal::TERM);
            let start = Instant::now();
            while self.runs() && start.elapsed() < Duration::from_secs(2) {
                std::thread::sleep(Duration::from_millis(10));
            }
            if self.runs() {
                self.signal(Signal::KILL);
                let _ = self.child.wait();
            }
        }
        if std::thread::panicking() {
            for (kind, text) in [("output", self.out()), ("error", self.err())] {
                let lines: Vec<&str> = text.lines().collect();
                let tail = &lines[lines.len().saturating_sub(40)..];
                if !tail.is_empty() {
                    eprintln!("-- {} standard {kind}:\n{}", self.name, tail.join("\n"));
                }
            }
        }
    }
}
