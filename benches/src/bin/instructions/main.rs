//! Counts the instructions of Span's hot functions under valgrind and compares them with the counts checked in.
//!
//! Instructions do not depend on how busy a machine is, so a regression shows on any machine and in continuous
//! integration. They do depend on the compiler: another one than the baseline's is not compared. What depends on
//! the CPU is left out: the ciphers, and the copying of libc.

mod baseline;
mod callgrind;
mod cases;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use baseline::{Baseline, Line, TOLERANCE, Verdict};
use callgrind::Cost;

const USAGE: &str = "\
usage: instructions [--write]

Counts the instructions of hot functions under valgrind and compares them with benches/instructions.txt.

  --write   writes that file instead
status: 0 as before; 1 more instructions than before, or an error; 75 not compared, another compiler";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        [] => count().and_then(|counted| compare(&counted)),
        ["--write"] => count().and_then(|counted| write(&counted)),
        ["--run", name] => run(name),
        _ => Err(USAGE.to_owned()),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

/// The part that valgrind watches, in a process of its own for each case: one cannot disturb another.
fn run(name: &str) -> Result<ExitCode, String> {
    let case = cases::ALL.iter().find(|case| case.name == name).ok_or(USAGE)?;
    let mut work = (case.prepare)();
    work();
    counted_region(&mut *work, case.calls);
    Ok(ExitCode::SUCCESS)
}

/// Callgrind finds it by its name.
#[inline(never)]
fn counted_region(work: &mut dyn FnMut(), calls: u32) {
    for _ in 0..calls {
        work();
    }
}

fn count() -> Result<Baseline, String> {
    if !callgrind::is_installed() {
        return Err("valgrind is missing; on Debian:  sudo apt-get install valgrind".to_owned());
    }
    let program = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let file = program.with_file_name("instructions.callgrind");
    let line = |case: &cases::Case| {
        let cost = callgrind::count(&program, &["--run", case.name], &file)?;
        let each = |total: u64| (total + u64::from(case.calls) / 2) / u64::from(case.calls);
        let cost = Cost { instructions: each(cost.instructions), copies: each(cost.copies) };
        if cost.instructions == 0 {
            return Err(format!("{}: callgrind saw none of it", case.name));
        }
        Ok(Line { name: case.name.to_owned(), cost })
    };
    let lines = cases::ALL.iter().map(line).collect::<Result<_, _>>()?;
    Ok(Baseline { rustc: rustc()?, lines })
}

fn compare(counted: &Baseline) -> Result<ExitCode, String> {
    let path = file();
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let before = Baseline::parse(&text).ok_or_else(|| format!("{}: not a baseline", path.display()))?;
    println!("{:>9} {:>9} {:>6} {:>6}", "before", "now", "copies", "now");
    let (mut worse, mut better) = (0, 0);
    for Line { name, cost: now } in &counted.lines {
        let then = before.cost(name);
        let shown = then.unwrap_or_default();
        let verdict = match Verdict::of(then, *now) {
            Verdict::Same => "",
            Verdict::Better => {
                better += 1;
                "   <- better"
            }
            Verdict::Worse => {
                worse += 1;
                "   <- WORSE"
            }
            Verdict::New => {
                worse += 1;
                "   <- NOT IN THE BASELINE"
            }
        };
        let (Cost { instructions, copies }, Cost { instructions: i, copies: c }) = (shown, *now);
        println!("{instructions:>9} {i:>9} {copies:>6} {c:>6}  {name}{verdict}");
    }
    if before.rustc != counted.rustc {
        println!("\nNOT COMPARED: the baseline is of {}, this is {}.", before.rustc, counted.rustc);
        return Ok(ExitCode::from(75));
    }
    if better > 0 {
        println!("\n{better} better: keep it by writing the baseline anew.");
    }
    if worse > 0 {
        return Err(format!(
            "{worse} worse by more than {TOLERANCE} %, or new. If that is meant, write the baseline anew and say why:\n  \
             cargo run --profile count -p span-benches --no-default-features --bin instructions -- --write"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn write(counted: &Baseline) -> Result<ExitCode, String> {
    let path = file();
    std::fs::write(&path, counted.to_text()).map_err(|error| format!("{}: {error}", path.display()))?;
    print!("{}", counted.to_text());
    Ok(ExitCode::SUCCESS)
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.txt")
}

/// The compiler and what it builds for, as `rustc -vV` has them. Cargo's own `rustc` is asked, in the same directory.
fn rustc() -> Result<String, String> {
    let mut command = Command::new("rustc");
    let output = command.arg("-vV").current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let output = output.map_err(|error| format!("rustc: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or("?");
    Ok(format!("{} for {host}", text.lines().next().unwrap_or("?")))
}
