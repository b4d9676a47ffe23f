//! The programs that can be measured, and where they are.

use std::path::{Path, PathBuf};
use std::process::Command;

use span_tests::programs;

/// How one implementation is started. Adding one is adding a line to [`all`].
#[derive(Clone, Debug)]
pub(crate) struct Adapter {
    /// What it is called.
    pub(crate) name: String,
    /// What carries the packets.
    pub(crate) kind: Kind,
    /// In a few words, how it differs from others.
    pub(crate) note: &'static str,
    /// Whether it answers `--version`. What others were given might become the name of an interface.
    pub(crate) tells_version: bool,
}

/// What carries the packets.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Nothing: the cable itself.
    Cable,
    /// The kernel's own WireGuard.
    Kernel,
    /// A program that makes the interface `{if}` and serves WireGuard's configuration socket.
    Program {
        /// The program and its arguments.
        command: Vec<String>,
        /// Its environment.
        environment: &'static [(&'static str, &'static str)],
    },
}

/// Every implementation known here.
pub(crate) fn all() -> Vec<Adapter> {
    let program = |name: &str, command: &str, environment, note| Adapter {
        name: name.to_owned(),
        kind: Kind::Program { command: words(command), environment },
        note,
        tells_version: true,
    };
    let without =
        |name: &str, kind, note| Adapter { name: name.to_owned(), kind, note, tells_version: false };
    const QUIET: &[(&str, &str)] = &[("LOG_LEVEL", "error")];
    const BORINGTUN: &str = "boringtun-cli --foreground --disable-drop-privileges";
    vec![
        program("span", "span wg {if}", &[], ""),
        program("span-aes", "span wg --cipher aes-256-gcm {if}", &[], "AES-256-GCM between Spans"),
        program(
            "wireguard-go",
            "wireguard-go --foreground {if}",
            QUIET,
            "by WireGuard's authors, with offloads",
        ),
        program("boringtun", &format!("{BORINGTUN} {{if}}"), &[], "as it comes, with four threads"),
        program("boringtun-t1", &format!("{BORINGTUN} --threads 1 {{if}}"), &[], "with one thread"),
        program(
            "gotatun",
            "gotatun -f -v error --disable-drop-privileges {if}",
            &[],
            "Mullvad's; gotatun-cli",
        ),
        without("kernel", Kind::Kernel, "its CPU is nobody's: not counted"),
        without("none", Kind::Cable, "no tunnel: the upper bound"),
    ]
}

/// Those measured if nobody says otherwise.
pub(crate) const USUAL: [&str; 5] = ["span", "span-aes", "wireguard-go", "boringtun-t1", "gotatun"];

impl Adapter {
    /// Reads `NAME=COMMAND`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (name, command) = text.split_once('=').ok_or("--add wants NAME=COMMAND")?;
        if !command.contains("{if}") {
            return Err(format!(
                "--add {name}: {{if}} must stand in the command where the interface's name belongs"
            ));
        }
        let kind = Kind::Program { command: words(command), environment: &[] };
        Ok(Self { name: name.to_owned(), kind, note: "", tells_version: false })
    }

    /// Finds what it needs, first in `directories`, and gives its program's path.
    pub(crate) fn find(&self, directories: &[PathBuf]) -> Result<Option<PathBuf>, String> {
        match &self.kind {
            Kind::Cable | Kind::Kernel => Ok(None),
            Kind::Program { command, .. } if command[0] == SPAN => Ok(Some(span())),
            Kind::Program { command, .. } => match installed(&command[0], directories) {
                Some(path) => Ok(Some(path)),
                None => Err(format!(
                    "{} is neither in target/interop/bin (tests/peers.sh) nor on PATH",
                    command[0]
                )),
            },
        }
    }

    /// Whether it is a Span of this tree, which is built when it is measured.
    pub(crate) fn is_built(&self) -> bool {
        matches!(&self.kind, Kind::Program { command, .. } if command[0] == SPAN)
            && std::env::var_os(SPAN_BIN).is_none()
    }

    /// What its program calls itself; without an answer, the command it was given with.
    pub(crate) fn version(&self, program: &Path) -> String {
        match &self.kind {
            Kind::Program { .. } if self.tells_version => {
                let output = Command::new(program).arg("--version").output();
                let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
                text.unwrap_or_default().lines().next().unwrap_or_default().to_owned()
            }
            Kind::Program { command, .. } => format!("`{}`", command.join(" ")),
            Kind::Cable | Kind::Kernel => String::new(),
        }
    }

    /// The command with the interface's name in its place, the program left out.
    pub(crate) fn arguments(&self, interface: &str) -> Vec<String> {
        match &self.kind {
            Kind::Cable | Kind::Kernel => Vec::new(),
            Kind::Program { command, .. } => {
                command[1..].iter().map(|word| word.replace("{if}", interface)).collect()
            }
        }
    }
}

/// The word that stands for the program of this tree.
const SPAN: &str = "span";
/// The variable that names another build of it.
const SPAN_BIN: &str = "SPAN_BIN";

/// `$SPAN_BIN`, or the one built from this tree as it is released.
fn span() -> PathBuf {
    std::env::var_os(SPAN_BIN).map_or_else(|| programs::target().join("release/span"), PathBuf::from)
}

/// Builds the span of this tree as it is released; nothing happens if it is there already.
pub(crate) fn build_span() -> Result<(), String> {
    let mut build = programs::cargo();
    build.args(["build", "--quiet", "--release", "-p", "span-node", "--bin", "span"]);
    let status = build.current_dir(programs::root()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{build:?}: {status}")),
        Err(error) => Err(format!("{build:?}: {error}")),
    }
}

/// A current wireguard-go of `tests/peers.sh` comes before an older one of the distribution.
fn installed(program: &str, directories: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let known = std::iter::once(programs::target().join("interop/bin")).chain(std::env::split_paths(&path));
    let mut directories = directories.iter().cloned().chain(known);
    let found =
        directories.find_map(|directory| Some(directory.join(program)).filter(|path| path.is_file()))?;
    // Programs are started from other directories.
    std::path::absolute(found).ok()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_stands_where_the_command_wants_it() {
        let adapter = Adapter::parse("mine=/opt/mine -x {if} --fast").unwrap();
        assert_eq!(adapter.name, "mine");
        assert_eq!(adapter.arguments("wg0"), ["-x", "wg0", "--fast"]);
        assert_eq!(adapter.version(Path::new("/opt/mine")), "`/opt/mine -x {if} --fast`");
        assert!(Adapter::parse("mine=/opt/mine wg0").is_err());
        assert!(Adapter::parse("mine").is_err());
    }

    #[test]
    fn a_named_directory_comes_first() {
        let directory = tempfile::tempdir().unwrap();
        let adapter = Adapter::parse("mine=true {if}").unwrap();
        let elsewhere = adapter.find(&[directory.path().to_owned()]).unwrap().unwrap();
        std::fs::write(directory.path().join("true"), "").unwrap();
        let here = adapter.find(&[directory.path().to_owned()]).unwrap().unwrap();
        assert_eq!(here, directory.path().join("true"));
        assert_ne!(elsewhere, here);
        assert!(Adapter::parse("mine=no-such-program {if}").unwrap().find(&[]).is_err());
    }
}
