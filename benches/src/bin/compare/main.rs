//! Span and other WireGuard programs side by side. See `docs/performance.md`.

mod adapter;
mod args;
mod chart;
mod docs;
mod host;
mod lab;
mod measure;
mod metric;
mod results;
mod table;
mod usage;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use adapter::Adapter;
use args::Args;
use clap::Parser as _;
use lab::{Lab, Side};
use measure::STOP;
use results::{Results, Run, Subject};

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = if args.list {
        list(&args)
    } else if let Some(path) = &args.from {
        Results::read(path).and_then(|results| show(&args, &results)).map(|()| ExitCode::SUCCESS)
    } else {
        compare(&args)
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("compare: {error}");
        ExitCode::FAILURE
    })
}

fn adapters(args: &Args) -> Result<Vec<Adapter>, String> {
    let added = args.add.iter().map(|text| Adapter::parse(text)).collect::<Result<Vec<_>, _>>()?;
    // What is added comes first, so that it can replace what is known.
    Ok(added.into_iter().chain(adapter::all()).collect())
}

fn list(args: &Args) -> Result<ExitCode, String> {
    for adapter in adapters(args)? {
        let found = match adapter.find(&args.bin_dir) {
            Ok(Some(_)) if adapter.is_built() => "built from this tree".to_owned(),
            Ok(Some(path)) => path.display().to_string(),
            Ok(None) => String::new(),
            Err(missing) => missing,
        };
        println!("{:<14} {:<40} {found}", adapter.name, adapter.note);
    }
    Ok(ExitCode::SUCCESS)
}

fn compare(args: &Args) -> Result<ExitCode, String> {
    let adapters = adapters(args)?;
    let names = names(args, &adapters);
    let pairs =
        names.iter().map(|name| pair(name, &adapters, &args.bin_dir)).collect::<Result<Vec<_>, _>>()?;
    let reference = reference(args, &names)?;
    host::check(args.link)?;
    if let Some(page) = &args.docs {
        // Better now than after an hour.
        docs::check(page)?;
    }
    if pairs.iter().flatten().any(|(adapter, _)| adapter.is_built()) {
        adapter::build_span()?;
    }
    catch_signals()?;
    let _priority = args.nice.map(host::Priority::set).transpose()?;

    let subject =
        |(name, pair): (&String, &[Side<'_>; 2])| Subject { name: name.clone(), version: version(pair) };
    let mut results = Results {
        date: host::date(),
        command: command_line(std::env::args().skip(1)),
        machine: host::describe(),
        link: [format!("{:?}", args.link).to_lowercase()]
            .into_iter()
            .chain(args.rate.clone())
            .collect::<Vec<_>>()
            .join(", "),
        reference,
        subjects: names.iter().zip(&pairs).map(subject).collect(),
        runs: Vec::new(),
    };
    let total = args.repetitions as usize * names.len();
    for repetition in 1..=args.repetitions {
        for turn in 0..names.len() {
            // Each repetition begins with another one.
            let at = (turn + repetition as usize - 1) % names.len();
            let run = run(args, repetition, &names[at], &pairs[at]);
            if STOP.load(Ordering::Relaxed) {
                eprintln!("interrupted; nothing is left behind");
                return Ok(ExitCode::from(130));
            }
            results.runs.push(run);
            let run = &results.runs[results.runs.len() - 1];
            eprintln!("{}/{total} {}", results.runs.len(), line(run));
            if let Some(path) = &args.json {
                results.write(path)?;
            }
        }
    }
    show(args, &results)?;
    let failed = results.runs.iter().any(|run| run.failure.is_some());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What was asked for, or else what is there.
fn names(args: &Args, adapters: &[Adapter]) -> Vec<String> {
    if !args.names.is_empty() {
        return args.names.clone();
    }
    let (added, known) = adapters.split_at(args.add.len());
    let is_usual = |adapter: &&Adapter| {
        adapter::USUAL.contains(&adapter.name.as_str())
            && !added.iter().any(|other| other.name == adapter.name)
    };
    let usual = known.iter().filter(is_usual);
    let found = added.iter().chain(usual).filter(|adapter| match adapter.find(&args.bin_dir) {
        Ok(_) => true,
        Err(missing) => {
            eprintln!("without {}: {missing}", adapter.name);
            false
        }
    });
    found.map(|adapter| adapter.name.clone()).collect()
}

/// Both ends of `X` or `X/Y`.
fn pair<'a>(name: &str, adapters: &'a [Adapter], directories: &[PathBuf]) -> Result<[Side<'a>; 2], String> {
    let (near, far) = name.split_once('/').unwrap_or((name, name));
    let side = |name: &str| {
        let adapter = adapters.iter().find(|adapter| adapter.name == name);
        let adapter = adapter.ok_or_else(|| format!("no implementation is called {name}: see --list"))?;
        Ok::<_, String>((adapter, adapter.find(directories)?))
    };
    Ok([side(near)?, side(far)?])
}

fn reference(args: &Args, names: &[String]) -> Result<String, String> {
    let first = names.first().ok_or("nothing to measure is installed")?;
    match &args.reference {
        Some(reference) if names.contains(reference) => Ok(reference.clone()),
        Some(reference) => Err(format!("--reference {reference} is not measured")),
        None => Ok(names.iter().find(|name| *name == "wireguard-go").unwrap_or(first).clone()),
    }
}

/// One measurement from nothing to nothing. What the helpers of the tests panic with is why it failed.
fn run(args: &Args, repetition: u32, name: &str, pair: &[Side<'_>; 2]) -> Run {
    static WHY: Mutex<Option<String>> = Mutex::new(None);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("a panic without a message");
        // The first says what happened, others follow from it.
        WHY.lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .get_or_insert_with(|| message.to_owned());
    }));
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut lab = Lab::new([&pair[0], &pair[1]], args.link, args.rate.as_deref());
        measure::all(&mut lab, &args.tests, args.seconds)
    }));
    std::panic::set_hook(hook);
    let why = WHY.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    let (figures, failure) = match outcome {
        Ok(figures) => (figures, None),
        Err(_) => (measure::Figures::new(), Some(why.unwrap_or_default().trim().to_owned())),
    };
    Run { repetition, name: name.to_owned(), figures, failure }
}

/// From now on Ctrl-C and its like end what is under way instead of this program.
fn catch_signals() -> Result<(), String> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&STOP))
            .map_err(|error| format!("signals: {error}"))?;
    }
    Ok(())
}

fn show(args: &Args, results: &Results) -> Result<(), String> {
    let shown = if args.markdown { table::markdown(results) } else { table::text(results) };
    println!("{shown}");
    if let Some(path) = &args.chart {
        std::fs::write(path, chart::svg(results)).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if let Some(page) = &args.docs {
        docs::write(page, results)?;
    }
    Ok(())
}

/// One measurement, for whoever waits for the rest.
fn line(run: &Run) -> String {
    let figures = metric::ALL.iter().filter_map(|metric| {
        let value = run.figures.get(metric.key)?;
        Some(format!(" {} {value:.*}", metric.key, metric.digits))
    });
    let found = run.failure.as_ref().map_or_else(|| figures.collect(), |why| format!(" FAILED: {why}"));
    format!("{:<22}{found}", run.name)
}

fn version(pair: &[Side<'_>; 2]) -> String {
    let mut versions: Vec<String> = pair
        .iter()
        .filter_map(|(adapter, program)| program.as_deref().map(|program| adapter.version(program)))
        .collect();
    versions.dedup();
    versions.join(" / ")
}

/// As a person would type it to measure the same, wherever the programs are and whatever becomes of the results.
fn command_line(arguments: impl Iterator<Item = String>) -> String {
    let mut words = vec!["cargo run --release -p span-benches --bin compare --".to_owned()];
    let mut is_file = false;
    for word in arguments {
        // Those whose value is the next word, where it is not behind an equals sign.
        let names_file = ["--json", "--chart", "--docs", "--bin-dir"].contains(&word.as_str());
        let is_output = ["--json", "--chart", "--docs", "--bin-dir", "--markdown"]
            .iter()
            .any(|output| word.starts_with(output));
        if !is_output && !is_file {
            words.push(word);
        }
        is_file = names_file;
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_without_what_becomes_of_the_results() {
        let words =
            "--json a.json span --repetitions 7 --chart=b.svg --markdown gotatun --docs d.md --bin-dir e";
        assert_eq!(
            command_line(words.split(' ').map(str::to_owned)),
            "cargo run --release -p span-benches --bin compare -- span --repetitions 7 gotatun"
        );
    }

    #[test]
    fn pairs_may_be_mixed() {
        let adapters = [adapter::all(), vec![Adapter::parse("mine=true {if}").unwrap()]].concat();
        let [near, far] = pair("none/kernel", &adapters, &[]).unwrap();
        assert_eq!((near.0.name.as_str(), far.0.name.as_str()), ("none", "kernel"));
        assert!(pair("mine", &adapters, &[]).unwrap()[1].1.is_some());
        assert!(pair("nobody", &adapters, &[]).is_err());
    }
}
