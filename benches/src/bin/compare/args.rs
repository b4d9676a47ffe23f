//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::measure::Test;

/// Measures WireGuard programs side by side, each pair in two network namespaces joined by a cable.
///
/// Every repetition measures each of them once, with fresh processes, and the next begins with another one: what else
/// the machine does hits all alike. Needs root, iproute2, iperf3, ping (iputils) and wg. Only namespaces of its own
/// are touched, and nothing of them stays behind.
#[derive(Debug, Parser)]
#[command(name = "compare")]
pub(crate) struct Args {
    /// What to measure, see --list; X/Y puts X at the sending end and Y at the other. By default all that are
    /// installed.
    pub(crate) names: Vec<String>,
    /// Shows what can be measured, and where it was found.
    #[arg(long)]
    pub(crate) list: bool,
    /// Another program: it makes the interface {if} and serves WireGuard's configuration socket.
    #[arg(long, value_name = "NAME=COMMAND")]
    pub(crate) add: Vec<String>,
    /// Looks here first for the programs.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) bin_dir: Vec<PathBuf>,
    /// What the ratios are taken to [default: wireguard-go if it is measured, else the first].
    #[arg(long, value_name = "NAME")]
    pub(crate) reference: Option<String>,
    /// How often each is measured.
    #[arg(long, visible_alias = "reps", value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repetitions: u32,
    /// How long each transfer takes, in seconds.
    #[arg(long, visible_alias = "secs", value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,
    /// What is measured of each.
    #[arg(long, value_delimiter = ',', default_values_t = Test::USUAL)]
    pub(crate) tests: Vec<Test>,
    /// What the cable is like.
    #[arg(long, value_enum, default_value_t = Link::Veth)]
    pub(crate) link: Link,
    /// Limits the cable to a rate, as tc writes it: 1gbit.
    #[arg(long, value_name = "RATE")]
    pub(crate) rate: Option<String>,
    /// Runs everything at this niceness, -20 to 19: -15 shields it from compilers beside it.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-20..20))]
    pub(crate) nice: Option<i32>,
    /// Writes everything here, after each measurement.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Measures nothing, but shows what an earlier run wrote with --json.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["names", "json"])]
    pub(crate) from: Option<PathBuf>,
    /// Prints Markdown.
    #[arg(long)]
    pub(crate) markdown: bool,
    /// Writes the results into this page, between its lines <!-- compare:begin --> and <!-- compare:end -->, and
    /// chart.svg and results.json into the directory beside it that has its name.
    #[arg(long, value_name = "PAGE")]
    pub(crate) docs: Option<PathBuf>,
    /// Draws a chart as SVG.
    #[arg(long, value_name = "FILE")]
    pub(crate) chart: Option<PathBuf>,
}

/// What the cable between the two hosts does with bursts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Link {
    /// A burst crosses uncut, which flatters those that send bursts.
    Veth,
    /// The kernel cuts bursts before the cable and joins packets behind it, as with an ordinary network card.
    Nic,
}
