//! TCP through the mesh between two processes without TUN: Span's stack beside wireguard-go's, which is gVisor's.
//!
//! Both do the same with the same bytes, over UDP on the loopback interface; see [`ends`] and `tests/go/netstack`.

mod ends;

use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Parser, Subcommand};
use serde::{Deserialize, Serialize};
use span_core::key::PrivateKey;
use span_tests::{Process, programs};

/// Measures TCP through network stacks in processes: Span's, and wireguard-go's tun/netstack.
///
/// Every repetition measures each of them once, with fresh processes, in turn. Needs neither privileges nor anything
/// but Go.
#[derive(Debug, Parser)]
#[command(name = "netstack")]
struct Args {
    /// How often each is measured.
    #[arg(long, visible_alias = "reps", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// How long each transfer takes, in seconds.
    #[arg(long, visible_alias = "secs", default_value_t = 3.0)]
    seconds: f64,
    /// Connections at once.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10])]
    streams: Vec<u16>,
    #[command(subcommand)]
    end: Option<End>,
}

/// One end of a pair.
#[derive(Debug, Subcommand)]
enum End {
    #[command(hide = true)]
    Receive(ends::Receive),
    #[command(hide = true)]
    Send(ends::Send),
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// As nodes are by themselves: AES-256-GCM where the CPU has instructions for it.
    Span,
    /// With WireGuard's own cipher.
    SpanChaCha20,
    WireguardGo,
}

const SUBJECTS: [Subject; 3] = [Subject::WireguardGo, Subject::Span, Subject::SpanChaCha20];

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Self::Span => "span",
            Self::SpanChaCha20 => "span, chacha20",
            Self::WireguardGo => "wireguard-go",
        }
    }
}

/// What whoever sends says in the end.
#[derive(Debug, Serialize, Deserialize)]
struct Sent {
    /// That the other end received.
    bytes: u64,
    /// From the first to the answer to the last.
    seconds: f64,
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Figures {
    /// Payload, in Gb/s.
    rate: f64,
    /// Processor time of both ends, in seconds for each GiB of payload.
    cost: f64,
    /// The larger peak of resident memory, in MiB.
    memory: f64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.end {
        Some(End::Receive(end)) => end.run(),
        Some(End::Send(end)) => end.run(),
        None => compare(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netstack: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let span = std::env::current_exe()?;
    let gvisor = PathBuf::from(programs::peer("netstack"));
    for &streams in &args.streams {
        let mut figures = [const { Vec::new() }; SUBJECTS.len()];
        for repetition in 0..args.repetitions as usize {
            for turn in 0..SUBJECTS.len() {
                // Each repetition begins with another one.
                let at = (turn + repetition) % SUBJECTS.len();
                let measured = measure(SUBJECTS[at], &span, &gvisor, streams, args.seconds)?;
                eprintln!("{streams:>3} streams  {:<16} {:>6.2} Gb/s", SUBJECTS[at].name(), measured.rate);
                figures[at].push(measured);
            }
        }
        let median = |at: usize, what: fn(&Figures) -> f64| median(figures[at].iter().map(what).collect());
        println!("{streams} streams, medians of {}:", args.repetitions);
        for (at, subject) in SUBJECTS.into_iter().enumerate() {
            // Those of one repetition are beside each other.
            let ratios = figures[at].iter().zip(&figures[0]).map(|(one, other)| one.rate / other.rate);
            println!(
                "  {:<16} {:>6.2} Gb/s  x{:<5.2} {:>5.2} CPU s/GiB  {:>6.1} MiB",
                subject.name(),
                median(at, |figures| figures.rate),
                self::median(ratios.collect()),
                median(at, |figures| figures.cost),
                median(at, |figures| figures.memory),
            );
        }
    }
    Ok(())
}

fn measure(
    subject: Subject,
    span: &PathBuf,
    gvisor: &PathBuf,
    streams: u16,
    seconds: f64,
) -> Result<Figures, Box<dyn std::error::Error>> {
    let port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
    let (receive, mut send) = match subject {
        Subject::Span | Subject::SpanChaCha20 => {
            let (mut receive, mut send) = (Command::new(span), Command::new(span));
            let token = ends::token(port)?;
            receive.args(["receive", "--token", &token, "--discovery", &port.to_string()]);
            send.args(["send", "--token", &token]);
            if subject == Subject::SpanChaCha20 {
                receive.arg("--chacha20");
                send.arg("--chacha20");
            }
            (receive, send)
        }
        Subject::WireguardGo => {
            let (mut receive, mut send) = (Command::new(gvisor), Command::new(gvisor));
            let key = || span_node::clock::entropy().map(PrivateKey::from_bytes);
            let (there, here) = (key()?, key()?);
            receive.args(["receive", "-listen", &port.to_string(), "-private-key", &there.to_hex()]);
            receive.args(["-peer", &here.public_key().to_hex()]);
            send.args(["send", "-endpoint", &format!("127.0.0.1:{port}"), "-private-key", &here.to_hex()]);
            send.args(["-peer", &there.public_key().to_hex()]);
            (receive, send)
        }
    };
    let flag =
        |name: &str| if subject == Subject::WireguardGo { format!("-{name}") } else { format!("--{name}") };
    send.args([flag("streams"), streams.to_string(), flag("seconds"), seconds.to_string()]);
    let patience = Duration::from_secs_f64(seconds) + Duration::from_secs(60);
    let mut receiver = Process::start("receiver", receive);
    receiver.wait_for("ready", patience);
    let before = receiver.processor_time();
    let mut sender = Process::start("sender", send);
    sender.wait_for("}", patience);
    let sent: Sent = serde_json::from_str(&sender.out())?;
    let time = receiver.processor_time() - before + sender.processor_time();
    let memory = receiver.peak_memory().max(sender.peak_memory());
    sender.close_input();
    receiver.close_input();
    sender.wait(patience);
    receiver.wait(patience);
    Ok(Figures {
        rate: sent.bytes as f64 * 8e-9 / sent.seconds,
        cost: time.as_secs_f64() / (sent.bytes as f64 / f64::from(1 << 30)),
        memory: memory as f64 / 1024.0,
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}
