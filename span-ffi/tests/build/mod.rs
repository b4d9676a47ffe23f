//! C programs of the tests, built against the library and run in three ways.

#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

#[path = "../../../tests/src/cargo.rs"]
mod cargo;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

pub(crate) use cargo::cargo;

pub const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

/// What a static library written in Rust needs.
const SYSTEM: [&str; 3] = ["-lpthread", "-ldl", "-lm"];

/// Where all that is built is.
pub fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a directory in it")
}

/// Where the libraries are, which are built when it is first asked for.
pub fn libraries() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut cargo = cargo();
        cargo
            .args(["build", "--quiet", "-p", "span-ffi", "-p", "span-ffi-hooks", "--target-dir"])
            .arg(target());
        run(&mut cargo);
        target().join("debug")
    })
}

/// A file of this crate.
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a program that must succeed, and returns what it prints.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// Whether the machine has a program. Without it a test may be left out, but not in continuous integration.
pub fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    assert!(found || env::var_os("CI") != Some("true".into()), "{program} is missing");
    if !found {
        eprintln!("NOT RUN: {program} is not installed");
    }
    found
}

/// A program in C and the archive it is linked with, to be run in each of the [`Way`]s.
pub struct Program {
    source: &'static str,
    archive: &'static str,
    defines: Option<String>,
    valgrind: Vec<&'static str>,
}

/// How a program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As it is.
    Plain,
    /// With the address and undefined-behaviour sanitizers.
    Sanitized,
    /// In valgrind, which looks for leaks too.
    Valgrind,
}

impl Program {
    /// A program without threads.
    pub fn new(source: &'static str, archive: &'static str) -> Self {
        Program { source, archive, defines: None, valgrind: Vec::new() }
    }

    /// A program with whole nodes.
    pub fn with_nodes(source: &'static str, archive: &'static str) -> Self {
        // Threads take turns in valgrind, which runs one at a time and else lets the busiest go on.
        Program { valgrind: vec!["--fair-sched=try"], ..Self::new(source, archive) }
    }

    /// For programs that send what was sealed with AES-256-GCM: valgrind cannot follow `ring`'s instructions for that,
    /// and complains of uninitialised bytes.
    pub fn without_definedness(mut self) -> Self {
        self.valgrind.push("--undef-value-errors=no");
        self
    }

    /// Gives the compiler a definition.
    pub fn defining(mut self, define: String) -> Self {
        self.defines = Some(define);
        self
    }

    /// The ways that this machine has.
    pub fn ways() -> impl Iterator<Item = Way> {
        [Way::Plain, Way::Sanitized, Way::Valgrind]
            .into_iter()
            .filter(|way| *way != Way::Valgrind || installed("valgrind"))
    }

    /// Builds it, and gives the command that runs it.
    pub fn command(&self, way: Way) -> Command {
        let built = match way {
            Way::Plain | Way::Valgrind => self.build(&[]),
            Way::Sanitized => self.build(&["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]),
        };
        if way != Way::Valgrind {
            return Command::new(built);
        }
        let mut valgrind = Command::new("valgrind");
        valgrind.args([
            "--quiet",
            "--error-exitcode=99",
            "--leak-check=full",
            "--errors-for-leak-kinds=definite",
            "--show-leak-kinds=definite",
        ]);
        valgrind.args(&self.valgrind).arg(built);
        valgrind
    }

    /// Runs it in each way.
    pub fn prove(&self) {
        for way in Self::ways() {
            run(&mut self.command(way));
        }
    }

    fn build(&self, flags: &[&str]) -> PathBuf {
        // Two may have the same name, in different directories.
        let name = format!("{}{}", self.source.replace(['/', '.'], "_"), flags.concat());
        let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let mut cc = Command::new("cc");
        cc.args(["-std=c11", "-g", "-I"])
            .arg(source("include"))
            .args(WARNINGS)
            .args(flags)
            .args(&self.defines)
            .arg("-o");
        run(cc.arg(&built).arg(source(self.source)).arg(libraries().join(self.archive)).args(SYSTEM));
        built
    }
}
