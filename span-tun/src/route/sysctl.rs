//! Settings of our interface that netlink does not have. They vanish with the interface.

use std::fs;
use std::path::PathBuf;

/// What became of the reverse path filter.
pub(super) enum ReversePath {
    /// It lets packets from the tunnel through.
    Fine,
    /// It was strict, and is loose now.
    Loosened,
    /// It is strict, and we may not change it.
    Stuck,
}

/// Makes a strict reverse path filter loose, on this interface. The kernel goes by the larger of the settings for
/// all interfaces and for this one, and loose is the largest.
pub(super) fn loosen_reverse_path(interface: &str) -> ReversePath {
    const STRICT: u8 = 1;
    let of = |name: &str| read(&path("ipv4", name, "rp_filter")).unwrap_or(0);
    if of("all").max(of(interface)) != STRICT {
        return ReversePath::Fine;
    }
    match fs::write(path("ipv4", interface, "rp_filter"), "2") {
        Ok(()) => ReversePath::Loosened,
        Err(_) => ReversePath::Stuck,
    }
}

/// Enables IPv6 on this interface if it is disabled there; true if it was. Without the right to, adding the
/// address will say so.
pub(super) fn enable_ipv6(interface: &str) -> bool {
    let disabled = path("ipv6", interface, "disable_ipv6");
    read(&disabled) == Some(1) && fs::write(disabled, "0").is_ok()
}

fn read(path: &PathBuf) -> Option<u8> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// `/proc/sys/net` shows the network namespace of the calling thread.
fn path(family: &str, interface: &str, setting: &str) -> PathBuf {
    PathBuf::from(format!("/proc/sys/net/{family}/conf/{interface}/{setting}"))
}
