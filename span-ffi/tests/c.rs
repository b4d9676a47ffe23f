//! The library as C programs see it: the header, the symbols, and programs run under a sanitizer and valgrind.

mod build;

use std::fs;
use std::process::Command;

use build::{Program, WARNINGS, Way, libraries, run, source, target};

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
    Program::new("tests/c/misuse.c", "libspan.a").prove();
}

#[test]
fn tunnels_do_what_the_header_says() {
    Program::new("tests/c/tunnel.c", "libspan.a").prove();
}

#[test]
fn misuse_of_nodes_has_its_status_too() {
    Program::with_nodes("tests/c/node_misuse.c", "libspan.a").prove();
}

#[test]
fn nodes_do_what_the_header_says() {
    Program::with_nodes("tests/c/node.c", "libspan.a").prove();
}

/// A thousand starts and stops. For valgrind a few will do: what leaks once is found once.
#[test]
fn nodes_that_come_and_go_leave_nothing_behind() {
    let program = Program::with_nodes("tests/c/cycles.c", "libspan.a").without_definedness();
    for way in Program::ways() {
        let directory = tempfile::tempdir().expect("a directory");
        let pairs = if way == Way::Plain { "500" } else { "4" };
        run(program.command(way).arg(pairs).arg(directory.path()));
    }
}

/// As somebody has it who has never seen the repository: a compiler, pkg-config, and what was installed.
#[test]
fn a_program_outside_the_repository_builds_and_runs() {
    let outside = tempfile::tempdir().expect("a directory");
    let prefix = outside.path().join("usr");
    let mut install = build::cargo();
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
    let manual = |name: &str| fs::read_to_string(prefix.join("share/man/man3").join(name)).expect("a page");
    assert_eq!(manual("span_stream_read.3"), ".so man3/span_node.3\n");
    assert!(manual("span_node.3").contains(".SS span_stream_read\n"));
}
