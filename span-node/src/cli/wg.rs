//! `span wg`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};
use span_core::crypto::Suite;

use super::args::Wg;
use super::signals;
use crate::cipher::has_aes;
use crate::interface::InterfaceName;
use crate::wg::Interface;

/// What the background half says on its standard output once it serves.
const READY: &str = "ready";

pub(super) fn run(args: &Wg) -> Result<ExitCode> {
    let name: InterfaceName = args.interface.parse()?;
    if args.daemon {
        return to_background(args);
    }
    if args.cipher == Suite::Aes256Gcm && !has_aes() {
        tracing::warn!("this CPU has no instructions for AES-256-GCM: chacha20-poly1305 is faster on it");
    }
    if args.background {
        rustix::process::setsid().context("leaving the terminal")?;
    }
    let mut interface = Interface::create(&name, args.cipher, args.threads)
        .with_context(|| format!("cannot create interface {}", name.as_str()))?;
    let stopper = interface.stopper();
    signals::on_end(move || stopper.stop())?;
    tracing::info!(interface = name.as_str(), "serving; configure it with `wg set` or `wg setconf`");
    if args.background {
        leave_streams().context("detaching from the terminal's streams")?;
    }
    interface.serve()?;
    Ok(ExitCode::SUCCESS)
}

/// Starts this program again, detached, and waits until it serves or fails.
fn to_background(args: &Wg) -> Result<ExitCode> {
    let mut child = Command::new("/proc/self/exe")
        .args(["wg", "--background", "--cipher", args.cipher.name()])
        .args(["--threads", &args.threads.to_string(), &args.interface])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the background process")?;
    let stdout = child.stdout.take().context("the background process has no output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).context("waiting for the background process")?;
    if line.trim_end() == READY {
        return Ok(ExitCode::SUCCESS);
    }
    // It has said on standard error why.
    let status = child.wait().context("waiting for the background process")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Tells the foreground half that all is well, and lets go of the streams it lent.
fn leave_streams() -> std::io::Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{READY}")?;
    stdout.flush()?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}
