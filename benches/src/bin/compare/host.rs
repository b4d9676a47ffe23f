//! The machine this runs on: what it has, and what it gives us.

use std::process::Command;

use crate::args::Link;

/// Says what is missing to measure at all.
pub(crate) fn check(link: Link) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("network namespaces and TUN devices need root".to_owned());
    }
    if !std::path::Path::new("/dev/net/tun").exists() {
        return Err("/dev/net/tun is missing: load the module with  modprobe tun".to_owned());
    }
    let mut needed = vec![
        ("ip", "iproute2"),
        ("ping", "iputils-ping"),
        ("iperf3", "iperf3"),
        ("wg", "wireguard-tools"),
        ("nsenter", "util-linux"),
    ];
    if link == Link::Nic {
        needed.push(("ethtool", "ethtool"));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_missing =
        |program: &str| !std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    let missing: Vec<&str> =
        needed.into_iter().filter(|(program, _)| is_missing(program)).map(|(_, package)| package).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("missing; on Debian:  apt-get install {}", missing.join(" ")))
    }
}

/// Processor, cores, memory and kernel.
pub(crate) fn describe() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: Option<u64> = memory.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    let kernel = output_of("uname", &["-sr"]);
    let gib = kib.unwrap_or(0).div_ceil(1 << 20);
    format!("{} ({cores} cores, {gib} GiB), {kernel}", model.unwrap_or("an unknown processor"))
}

/// The date, UTC.
pub(crate) fn date() -> String {
    output_of("date", &["--utc", "+%Y-%m-%d"])
}

/// The niceness of everything started here, as it was before when dropped.
pub(crate) struct Priority {
    group: Option<String>,
}

impl Priority {
    /// Where sessions are scheduled as groups, a process' niceness counts only inside its own: the group's is set too.
    const GROUP: &'static str = "/proc/self/autogroup";

    /// Sets it.
    pub(crate) fn set(nice: i32) -> Result<Self, String> {
        rustix::process::nice(nice).map_err(|error| format!("--nice {nice}: {error}"))?;
        let before = std::fs::read_to_string(Self::GROUP).ok();
        let group = before.and_then(|text| text.split_whitespace().last().map(str::to_owned));
        let _ = std::fs::write(Self::GROUP, nice.to_string());
        Ok(Self { group })
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        if let Some(before) = &self.group {
            let _ = std::fs::write(Self::GROUP, before);
        }
    }
}

fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
