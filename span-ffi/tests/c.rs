//! The library as C programs see it: the header, the symbols, and programs run under a sanitizer and valgrind.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

/// What a static library written in Rust needs.
const SYSTEM: [&str; 3] = ["-lpthread", "-ldl", "-lm"];

/// Where the libraries are, which are built when it is first asked for.
fn libraries() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target =
            Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the directory of all that is built");
        let mut cargo = Command::new(env!("CARGO"));
        // Told of a package, build scripts would run again, and all that stands on them would be built again.
        for (name, _) in env::vars_os() {
            let told = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
            if name.to_str().is_some_and(|name| told.iter().any(|start| name.starts_with(start))) {
                cargo.env_remove(name);
            }
        }
        cargo
            .args(["build", "--quiet", "-p", "span-ffi", "-p", "span-ffi-hooks", "--target-dir"])
            .arg(target);
        run(&mut cargo);
        target.join("debug")
    })
}

/// Where all that is built is.
fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a directory in it")
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a program that must succeed, and returns what it prints.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

fn cc() -> Command {
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-g", "-I"]).arg(source("include")).args(WARNINGS);
    cc
}

/// Builds a program with the static library of this name.
fn build(program: &str, library: &str, flags: &[&str]) -> PathBuf {
    let stem = Path::new(program).file_stem().expect("a file").to_string_lossy();
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{stem}{}", flags.concat()));
    let library = libraries().join(library);
    run(cc().args(flags).arg("-o").arg(&built).arg(source(program)).arg(library).args(SYSTEM));
    built
}

/// Runs a program as it is, with the address and undefined-behaviour sanitizers, and in valgrind.
fn prove(program: &str, library: &str) {
    prove_with(program, library, &[]);
}

/// Threads take turns in valgrind, which runs one at a time and else lets the busiest go on.
const FAIR: &str = "--fair-sched=try";

/// For programs that send what was sealed with AES-256-GCM: valgrind cannot follow `ring`'s instructions for that, and
/// complains of uninitialised bytes.
const WITHOUT_DEFINEDNESS: &str = "--undef-value-errors=no";

fn prove_with(program: &str, library: &str, options: &[&str]) {
    let plain = build(program, library, &[]);
    run(&mut Command::new(&plain));
    run(&mut Command::new(build(
        program,
        library,
        &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    )));
    if Command::new("valgrind").arg("--version").output().is_err() {
        assert!(env::var("CI").as_deref() != Ok("true"), "valgrind is missing");
        eprintln!("NOT RUN: {program} in valgrind, which is not installed");
        return;
    }
    let mut valgrind = Command::new("valgrind");
    valgrind.args([
        "--quiet",
        "--error-exitcode=99",
        "--leak-check=full",
        "--errors-for-leak-kinds=definite",
    ]);
    run(valgrind.args(options).arg(&plain));
}

#[test]
fn the_header_compiles_alone() {
    let standards = [("cc", "c", "c99"), ("cc", "c", "c11"), ("c++", "c++", "c++17")];
    for (compiler, language, standard) in standards {
        let mut command = Command::new(compiler);
        command.args(["-fsyntax-only", "-x", language, &format!("-std={standard}")]).args(WARNINGS);
        run(command.arg("-Wno-pragma-once-outside-header").arg(source("include/span.h")));
    }
}

#[test]
fn only_the_interface_is_exported() {
    let library = libraries().join("libspan.so");
    let listing = run(Command::new("nm").args(["-D", "--defined-only", "--format=posix"]).arg(library));
    let exported: Vec<&str> = listing.lines().filter_map(|line| line.split(' ').next()).collect();
    let expected = fs::read_to_string(source("symbols.txt")).expect("the list of symbols");
    assert_eq!(exported, expected.lines().collect::<Vec<_>>(), "symbols.txt lists what is exported, sorted");
    let header = fs::read_to_string(source("include/span.h")).expect("the header");
    for symbol in exported {
        assert!(symbol.starts_with("span_") && header.contains(&format!("{symbol}(")), "{symbol}");
    }
}

#[test]
fn misuse_has_its_status_and_harms_nothing() {
    prove("tests/c/misuse.c", "libspan_hooks.a");
}

#[test]
fn tunnels_do_what_the_header_says() {
    prove("tests/c/tunnel.c", "libspan.a");
}

#[test]
fn nodes_do_what_the_header_says() {
    prove_with("tests/c/node.c", "libspan.a", &[FAIR]);
}

#[test]
fn the_examples_run() {
    prove("../examples/c/two_tunnels.c", "libspan.a");
    prove_with("../examples/c/two_nodes.c", "libspan.a", &[FAIR, WITHOUT_DEFINEDNESS]);
}

/// As somebody has it who has never seen the repository: a compiler, pkg-config, and what was installed.
#[test]
fn a_program_outside_the_repository_builds_and_runs() {
    let outside = tempfile::tempdir().expect("a directory");
    let prefix = outside.path().join("usr");
    let mut install = Command::new(env!("CARGO"));
    install
        .args(["run", "--quiet", "-p", "xtask", "--", "install-c", "--profile", "dev", "--prefix"])
        .arg(&prefix);
    run(install.env("CARGO_TARGET_DIR", target()));
    let source_of = |name: &str| fs::read_to_string(source(name)).expect("a program");
    for (name, program) in [
        ("outside", source_of("tests/c/outside.c")),
        ("two_tunnels", source_of("../examples/c/two_tunnels.c")),
    ] {
        fs::write(outside.path().join("main.c"), program).expect("a program");
        for library in ["span", "span-static"] {
            let script =
                format!("cc -Wall -Werror main.c $(pkg-config --cflags --libs {library}) -o main && ./main");
            let mut shell = Command::new("sh");
            shell.current_dir(outside.path()).args(["-ec", &script]);
            shell.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")).env_remove("LD_LIBRARY_PATH");
            if library == "span" {
                shell.env("LD_LIBRARY_PATH", prefix.join("lib"));
            }
            let printed = run(&mut shell);
            let expected =
                if name == "outside" { "1 datagram of 148 bytes to port 51820" } else { "what was sent" };
            assert!(printed.contains(expected), "{printed}");
        }
    }
    let soname = run(Command::new("readelf").arg("-d").arg(prefix.join("lib/libspan.so.0")));
    assert!(soname.contains("[libspan.so.0]"), "{soname}");
}
