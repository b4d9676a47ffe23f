//! Leaving for a network namespace of one's own, with privileges or without.

use std::fs::{self, File};
use std::io;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

/// Where a node keeps what others keep under `/var/lib` and `/run`: a directory every system has.
pub(super) const SCRATCH: &str = "/tmp";

/// Why the demo cannot have namespaces, and what would give it some.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// There is no TUN driver, or it may not be used.
    #[error(
        "cannot open /dev/net/tun: {0}\n\
         The nodes need TUN devices. Load the driver (`modprobe tun`); in a container, pass the device in \
         (`--device /dev/net/tun`)."
    )]
    Tun(io::Error),
    /// Neither privileges nor user namespaces.
    #[error("{0}")]
    Denied(Denied),
    /// The kernel refused something a privileged process may do.
    #[error("cannot create a network namespace: {0}")]
    Namespace(io::Error),
}

/// User namespaces were tried and refused.
#[derive(Debug)]
pub(super) struct Denied {
    what: &'static str,
    errno: Errno,
    hints: Vec<&'static str>,
}

/// Moves this process into a fresh network namespace in which it may create devices.
///
/// A process without the privileges for that first becomes root of a user namespace of its own, which many
/// systems allow anyone. Must be called before the process has started a thread.
pub(super) fn enter() -> Result<(), Error> {
    File::options().read(true).write(true).open("/dev/net/tun").map_err(Error::Tun)?;
    if privileged() {
        return unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| Error::Namespace(errno.into()));
    }
    become_root_of_a_user_namespace().map_err(Error::Denied)
}

/// Moves a process that is already allowed to into one more fresh network namespace.
pub(super) fn enter_another() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(Into::into)
}

/// Puts an empty directory over [`SCRATCH`] that this process alone sees, and that goes with it.
pub(super) fn take_scratch_directory() -> io::Result<()> {
    const NOTHING: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    // Or the host would see what is mounted from now on.
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)?;
    mount(
        Some("scratch"),
        SCRATCH,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("mode=0700"),
    )?;
    Ok(())
}

fn become_root_of_a_user_namespace() -> Result<(), Denied> {
    // Read before: in the new namespace they are unmapped.
    let (uid, gid) = (geteuid(), getegid());
    let denied = |what| move |errno| Denied { what, errno, hints: hints() };
    let written = |result: io::Result<()>| {
        result.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    };

    unshare(CloneFlags::CLONE_NEWUSER).map_err(denied("create a user namespace"))?;
    // An unprivileged process may map its group only after giving up setgroups(2).
    written(fs::write("/proc/self/setgroups", "deny")).map_err(denied("give up setgroups"))?;
    written(fs::write("/proc/self/uid_map", format!("0 {uid} 1"))).map_err(denied("map the user id"))?;
    written(fs::write("/proc/self/gid_map", format!("0 {gid} 1"))).map_err(denied("map the group id"))?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(denied("create a network namespace in the user namespace"))
}

/// Whether the effective capabilities suffice without a user namespace. Being root says little: in a
/// container root often has none of them.
pub(super) fn privileged() -> bool {
    const NET_ADMIN: u64 = 1 << 12;
    const NET_RAW: u64 = 1 << 13;
    const SYS_ADMIN: u64 = 1 << 21;
    const NEEDED: u64 = NET_ADMIN | NET_RAW | SYS_ADMIN;
    fs::read_to_string("/proc/self/status").is_ok_and(|status| capabilities(&status) & NEEDED == NEEDED)
}

fn capabilities(status: &str) -> u64 {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

/// What this system says about its refusal.
fn hints() -> Vec<&'static str> {
    let setting = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let is = |path: &str, value: &str| setting(path).as_deref() == Some(value);
    let mut hints = Vec::new();
    if is("/proc/sys/user/max_user_namespaces", "0") {
        hints.push("sysctl -w user.max_user_namespaces=10000");
    }
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        hints.push("sysctl -w kernel.unprivileged_userns_clone=1");
    }
    if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        hints.push("sysctl -w kernel.apparmor_restrict_unprivileged_userns=0");
    }
    hints
}

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Of the two meanings of this number, "no space left on device" is not the one.
        let why = if self.errno == Errno::ENOSPC { "no more are allowed" } else { self.errno.desc() };
        writeln!(f, "cannot {}: {why}", self.what)?;
        f.write_str("The demo puts each node into a network namespace of its own. Run it as root, ")?;
        if self.hints.is_empty() {
            return f.write_str(
                "or allow unprivileged user namespaces (in a container: `--privileged`, or a seccomp profile that permits \
                 `unshare`).",
            );
        }
        f.write_str("or allow unprivileged user namespaces, as root:")?;
        self.hints.iter().try_for_each(|hint| write!(f, "\n    {hint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status_file() {
        assert_eq!(capabilities("Name:\tspan\nCapPrm:\t0\nCapEff:\t000001ffffffffff\n"), 0x1ff_ffff_ffff);
        assert_eq!(capabilities("CapEff:\tzz\n"), 0);
        assert_eq!(capabilities(""), 0);
    }

    #[test]
    fn a_refusal_says_what_to_enable() {
        let mut denied = Denied { what: "create a user namespace", errno: Errno::ENOSPC, hints: vec![] };
        assert!(denied.to_string().starts_with("cannot create a user namespace: no more are allowed\n"));
        assert!(denied.to_string().contains("Run it as root, or allow unprivileged user namespaces"));
        denied.hints.push("sysctl -w user.max_user_namespaces=10000");
        assert!(denied.to_string().ends_with("as root:\n    sysctl -w user.max_user_namespaces=10000"));
    }
}
