//! Programs outside of the repository: a Rust, a C and a Go project made from nothing, each a small file, join
//! one mesh without privileges, with `span up` on a host beside them. Everyone greets everyone.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use span_tests::mesh::Mesh;
use span_tests::programs::{c_library, cargo, root, target};
use span_tests::{Namespace, Process, eventually, ready, several_users};
use tempfile::TempDir;

/// A program is short when it has fewer lines, comments and all.
const SHORT: usize = 50;

/// Where the programs greet.
const PORT: u16 = 7777;

/// For a greeting to arrive on a machine that does much else.
const BOUND: Duration = Duration::from_secs(30);

#[test]
fn everyone_greets_everyone() {
    if !ready() {
        return;
    }
    let project = Project::new();
    let programs = [("rust", project.rust()), ("c", project.c()), ("go", project.go())];

    let mut mesh = Mesh::new(1);
    mesh.up();
    let node = &mesh.nodes[0];
    let overlay = node.overlay().parse::<Ipv6Addr>().expect("an address");
    let listener = node.host.inside(|| TcpListener::bind((overlay, PORT)).expect("a free port"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Whoever does not want to be greeted has gone.
            let _ = stream.and_then(|mut stream| stream.write_all(b"hello from n1\n"));
        }
    });

    let hosts: Vec<Namespace> = programs.iter().map(|(name, _)| Namespace::new(name)).collect();
    let mut members: Vec<(&str, Process)> = Vec::new();
    for (number, ((name, program), host)) in programs.iter().zip(&hosts).enumerate() {
        mesh.switch
            .plug(host, &[&format!("10.5.0.{}/24", 11 + number), &format!("fd05::{}/64", 11 + number)]);
        members.push((*name, start(host, program, name, &mesh.cluster.token)));
    }

    for (name, process) in &mut members {
        for other in ["rust", "c", "go", "n1"].iter().filter(|other| *other != name) {
            let said = format!("{name}: hello from {other}\n");
            process.wait_for(&said, BOUND);
            print!("{said}");
        }
    }
    for (name, _) in &members {
        let address = eventually(BOUND, "the member is known", || {
            let peers = node.ask("peers");
            let peer = peers["peers"].as_array()?.iter().find(|peer| peer["name"] == *name)?;
            peer["overlay_address"].as_str()?.parse::<Ipv6Addr>().ok()
        });
        let greeting = node.host.inside(|| greeting((address, PORT).into()));
        assert_eq!(greeting, format!("hello from {name}\n"));
        print!("n1: {greeting}");
    }
    for (name, process) in &mut members {
        assert!(process.runs(), "{name} goes on");
    }
}

fn greeting(from: SocketAddr) -> String {
    let mut stream = TcpStream::connect_timeout(&from, BOUND).expect("a connection");
    stream.set_read_timeout(Some(BOUND)).expect("a socket");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("a greeting");
    text
}

/// Starts a program as a user who may do nothing: without capabilities, and as nobody where there is such a user.
fn start(host: &Namespace, program: &Built, name: &str, token: &str) -> Process {
    // Another user forgets who it dies with.
    let mut arguments = vec!["--pdeathsig=KILL", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"];
    if several_users() {
        arguments.extend(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    }
    let path = program.path.to_str().expect("a path in UTF-8");
    arguments.extend(["--", path, name]);
    let libraries = program.libraries.as_ref().map_or("", |path| path.to_str().expect("a path in UTF-8"));
    let environment = [("SPAN_TOKEN", token), ("LD_LIBRARY_PATH", libraries)];
    host.spawn_with("setpriv", arguments, &environment)
}

/// Somebody's directory, with nothing of the repository in it.
struct Project {
    directory: TempDir,
}

/// A program and where its libraries are.
struct Built {
    path: PathBuf,
    libraries: Option<PathBuf>,
}

impl Project {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let everyone = Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), everyone).expect("a directory of ours");
        Self { directory }
    }

    fn rust(&self) -> Built {
        let directory = self.begin("rust", "examples/rust/join.rs", "src/main.rs");
        let repository = root().display();
        let workspace = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
        // Built as the repository builds, so that what it has built already is not built again.
        let profiles = &workspace[workspace.find("[profile.").expect("profiles at its end")..];
        let manifest = format!(
            "[package]\nname = \"outside\"\nedition = \"2024\"\n\n\
             [dependencies]\nspan-node = {{ path = \"{repository}/span-node\" }}\n\n{profiles}"
        );
        fs::write(directory.join("Cargo.toml"), manifest).expect("a file");
        fs::copy(root().join("Cargo.lock"), directory.join("Cargo.lock")).expect("a file");
        let mut cargo = cargo();
        run(cargo.args(["build", "--quiet", "--offline"]).current_dir(&directory));
        let path = directory.join("main");
        fs::copy(target().join("debug/outside"), &path).expect("a program");
        Built { path, libraries: None }
    }

    fn c(&self) -> Built {
        let directory = self.begin("c", "examples/c/join.c", "main.c");
        let prefix = self.installed();
        let script = "cc -Wall -Wextra -Werror main.c $(pkg-config --cflags --libs span) -o main";
        let mut shell = Command::new("sh");
        shell.args(["-ec", script]).env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"));
        run(shell.current_dir(&directory));
        Built { path: directory.join("main"), libraries: Some(self.libraries()) }
    }

    fn go(&self) -> Built {
        let directory = self.begin("go", "examples/go/join/main.go", "main.go");
        let prefix = self.installed();
        let module = format!(
            "module outside\n\ngo 1.24\n\nrequire span v0.0.0\n\nreplace span => {}/span-ffi/go\n",
            root().display()
        );
        fs::write(directory.join("go.mod"), module).expect("a file");
        let mut go = Command::new("go");
        go.args(["build", "-o", "main", "."]).env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"));
        go.envs([("GOPROXY", "off"), ("GOWORK", "off"), ("GOFLAGS", "-mod=mod"), ("CGO_ENABLED", "1")]);
        // Part of the key of Go's cache, unlike what pkg-config says.
        go.env("CGO_LDFLAGS", format!("-L{}", prefix.join("lib").display()));
        run(go.current_dir(&directory));
        Built { path: directory.join("main"), libraries: Some(self.libraries()) }
    }

    /// A directory with one program in it, which must be short.
    fn begin(&self, language: &str, source: &str, name: &str) -> PathBuf {
        let program = fs::read_to_string(root().join(source)).expect("a program");
        let lines = program.lines().count();
        assert!(lines < SHORT, "{source} has {lines} lines, and should have fewer than {SHORT}");
        let directory = self.directory.path().join(language);
        let file = directory.join(name);
        fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
        fs::write(file, program).expect("a file");
        directory
    }

    /// Installs the C library, and says where.
    fn installed(&self) -> PathBuf {
        let (prefix, libraries) = (c_library(), self.libraries());
        if !libraries.exists() {
            fs::create_dir(&libraries).expect("a directory");
            fs::copy(prefix.join("lib/libspan.so.0"), libraries.join("libspan.so.0")).expect("a library");
        }
        prefix
    }

    /// Where everybody may read the C library.
    fn libraries(&self) -> PathBuf {
        self.directory.path().join("lib")
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
}
