//! Containers of a Pod's manifest without a cluster: a root file system of their own, the volumes, environment, user and
//! capabilities that the manifest says, and its command.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use span_tests::{Namespace, Process, programs};
use tempfile::TempDir;

/// A machine that runs Pods: files that outlive them, and what a Pod is told of where it runs.
pub(crate) struct Machine<'a> {
    /// Its network. A Pod of the host's network shares it, any other is alone in it.
    pub(crate) network: &'a Namespace,
    /// Stands for the host's own file system, but for its devices.
    pub(crate) files: TempDir,
    /// What `fieldRef` gives.
    pub(crate) fields: Vec<(&'static str, String)>,
    /// The keys of every secret.
    pub(crate) secret: Vec<(&'static str, String)>,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(network: &'a Namespace, token: &str) -> Self {
        let files = directory();
        let fields = vec![
            ("spec.nodeName", network.name().to_owned()),
            ("metadata.name", format!("pod-{}", network.name())),
        ];
        Self { network, files, fields, secret: vec![("token", token.to_owned())] }
    }
}

/// A container that runs.
pub(crate) struct Container {
    pub(crate) process: Process,
    /// What a command in it begins with.
    begin: Vec<String>,
    // Removed after the process has ended.
    _files: TempDir,
}

impl Container {
    /// Starts the container `container` of the Pod's `spec`; `image` gives its program.
    pub(crate) fn start(machine: &Machine<'_>, spec: &Value, container: &Value, image: &Image) -> Self {
        let files = directory();
        let root = files.path().join("root");
        let mut script = base(&root, image, files.path());
        for mount in list(&container["volumeMounts"]) {
            let volume = list(&spec["volumes"]).find(|volume| volume["name"] == mount["name"]);
            let volume = volume.unwrap_or_else(|| panic!("no volume for {mount}"));
            let source = provide(machine, spec, volume, files.path());
            let at = root.join(text(&mount["mountPath"]).trim_start_matches('/'));
            if source.is_dir() {
                fs::create_dir_all(&at).expect("a directory");
            } else {
                fs::create_dir_all(at.parent().expect("a directory above")).expect("a directory");
                fs::write(&at, "").expect("a file");
            }
            let (source, at) = (source.display(), at.display());
            writeln!(script, "mount --bind {source} {at}").expect("text");
            if mount["readOnly"] == true {
                writeln!(script, "mount -o remount,bind,ro {at}").expect("text");
            }
        }
        if container["securityContext"]["readOnlyRootFilesystem"] == true {
            writeln!(script, "mount -o remount,bind,ro {}", root.display()).expect("text");
        }
        writeln!(script, "exec chroot {} \"$@\"", root.display()).expect("text");
        let start = files.path().join("start");
        fs::write(&start, script).expect("a file");

        let variables = variables(machine, container);
        let mut begin =
            vec!["/usr/bin/env".to_owned(), "-i".to_owned(), "PATH=/usr/local/bin:/usr/bin:/bin".to_owned()];
        begin.extend(variables.iter().map(|(name, value)| format!("{name}={value}")));
        begin.extend(rights(spec, container));
        let program = match list(&container["command"]).map(text).collect::<Vec<_>>() {
            command if command.is_empty() => image.entrypoint.clone(),
            command => command,
        };
        let arguments = program.into_iter().chain(list(&container["args"]).map(text));
        let mut all = vec!["--mount".to_owned(), "sh".to_owned(), "-e".to_owned(), path(&start)];
        all.extend(begin.iter().cloned().chain(arguments.map(|argument| expand(&argument, &variables))));
        let process = machine.network.spawn("unshare", all.iter().map(String::as_str));
        Self { process, begin, _files: files }
    }

    /// Runs a command in it, as a probe does.
    pub(crate) fn run(&self, command: &[String]) -> Output {
        let mut enter = Command::new("timeout");
        enter.args(["10", "nsenter", "--mount", "--net", "--root", "--wd=/", "--target"]);
        enter.arg(self.process.pid().to_string()).arg("--");
        enter.args(&self.begin).args(command).output().expect("timeout and nsenter")
    }
}

/// What the `Containerfile` makes.
pub(crate) struct Image {
    entrypoint: Vec<String>,
    /// A directory with the program, and where it is in the image.
    program: (TempDir, PathBuf),
}

impl Image {
    /// Follows the `Containerfile`, with the program under test for the one it builds.
    pub(crate) fn new() -> Self {
        let file = programs::root().join("examples/kubernetes/Containerfile");
        let recipe = fs::read_to_string(file).expect("a Containerfile");
        let line = |start: &str| {
            let mut lines = recipe.lines().filter_map(|line| line.strip_prefix(start));
            lines.next().unwrap_or_else(|| panic!("no {start:?} in {recipe}"))
        };
        let copied: Vec<&str> = line("COPY --from=build ").split(' ').collect();
        let ["/src/target/release/span", program] = copied[..] else { panic!("{copied:?}") };
        let entrypoint: Vec<String> = serde_json::from_str(line("ENTRYPOINT ")).expect("a list");
        assert_eq!(entrypoint, [program]);
        let directory = directory();
        let program = PathBuf::from(program);
        let built = directory.path().join(program.file_name().expect("a name"));
        fs::copy(programs::span(), &built).expect("the program");
        Self { entrypoint, program: (directory, program) }
    }

    /// How the `Containerfile` builds the program.
    pub(crate) fn build(&self) -> String {
        let file = programs::root().join("examples/kubernetes/Containerfile");
        let recipe = fs::read_to_string(file).expect("a Containerfile");
        let build = recipe.lines().find_map(|line| line.strip_prefix("RUN ")).expect("a line that builds");
        build.to_owned()
    }
}

/// The lines that make a root: what the machine's C library needs to run programs, the image's program, and what a
/// container runtime adds.
fn base(root: &Path, image: &Image, files: &Path) -> String {
    let program = root.join(image.program.1.strip_prefix("/").expect("an absolute path"));
    for directory in ["usr", "proc", "dev/net", "etc", "tmp"] {
        fs::create_dir_all(root.join(directory)).expect("a directory");
    }
    let mut script = String::new();
    let shown = root.display();
    writeln!(script, "mount --bind {shown} {shown}").expect("text");
    for directory in ["usr", "lib", "lib64", "bin", "sbin"] {
        let there = Path::new("/").join(directory);
        match fs::read_link(&there) {
            Ok(target) => symlink(target, root.join(directory)).expect("a link"),
            Err(_) if there.is_dir() => {
                fs::create_dir_all(root.join(directory)).expect("a directory");
                writeln!(script, "mount --bind /{directory} {shown}/{directory}").expect("text");
                writeln!(script, "mount -o remount,bind,ro {shown}/{directory}").expect("text");
            }
            Err(_) => {}
        }
    }
    let beside = program.parent().expect("a directory").display();
    writeln!(script, "mount --bind {} {beside}", image.program.0.path().display()).expect("text");
    writeln!(script, "mount --rbind /proc {shown}/proc").expect("text");
    // Settings of the kernel are not a container's to change.
    writeln!(script, "mount --bind /proc/sys {shown}/proc/sys").expect("text");
    writeln!(script, "mount -o remount,bind,ro {shown}/proc/sys").expect("text");
    for device in ["null", "zero", "random", "urandom"] {
        fs::write(root.join("dev").join(device), "").expect("a file");
        writeln!(script, "mount --bind /dev/{device} {shown}/dev/{device}").expect("text");
    }
    fs::write(files.join("resolv.conf"), "").expect("a file");
    fs::copy(files.join("resolv.conf"), root.join("etc/resolv.conf")).expect("a file");
    script
}

/// What stands for a volume, made as the kubelet makes it.
fn provide(machine: &Machine<'_>, spec: &Value, volume: &Value, files: &Path) -> PathBuf {
    let group =
        spec["securityContext"]["fsGroup"].as_u64().map(|group| u32::try_from(group).expect("a group"));
    if let Some(host) = volume["hostPath"].as_object() {
        let named = PathBuf::from(text(&host["path"]));
        return match host["type"].as_str() {
            Some("CharDevice") => named,
            Some("DirectoryOrCreate") => {
                let there = machine.files.path().join(named.strip_prefix("/").expect("an absolute path"));
                fs::create_dir_all(&there).expect("a directory");
                fs::set_permissions(&there, Permissions::from_mode(0o755)).expect("a directory of ours");
                there
            }
            other => panic!("{other:?} as a path of the host"),
        };
    }
    let there = files.join(text(&volume["name"]));
    fs::create_dir(&there).expect("a directory");
    let shared = |path: &Path, mode: u32| {
        if group.is_some() {
            chown(path, None, group).expect("as root");
        }
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("a file of ours");
    };
    if let Some(secret) = volume["secret"].as_object() {
        let mode = u32::try_from(secret["defaultMode"].as_u64().expect("a mode")).expect("a mode");
        for (key, value) in &machine.secret {
            let file = there.join(key);
            fs::write(&file, value).expect("a file");
            shared(&file, if group.is_some() { mode | 0o040 } else { mode });
        }
        shared(&there, 0o755);
    } else if volume["emptyDir"].is_object() {
        shared(&there, if group.is_some() { 0o2777 } else { 0o777 });
    } else {
        panic!("a volume this test does not know: {volume}");
    }
    there
}

/// The command that takes away what the manifest does not give.
fn rights(spec: &Value, container: &Value) -> Vec<String> {
    let (pod, own) = (&spec["securityContext"], &container["securityContext"]);
    let number = |name: &str| own[name].as_u64().or_else(|| pod[name].as_u64());
    let user = number("runAsUser").expect("a user");
    let group = number("runAsGroup").expect("a group");
    assert!(user != 0 || pod["runAsNonRoot"] != true, "root, who is not to be");
    assert!(own["privileged"].is_null(), "privileged");
    assert_eq!(own["capabilities"]["drop"], serde_json::json!(["ALL"]));
    assert_eq!(own["allowPrivilegeEscalation"], false);
    let added: String =
        list(&own["capabilities"]["add"]).map(|name| format!(",+{}", text(name).to_lowercase())).collect();
    let groups =
        pod["fsGroup"].as_u64().map_or("--clear-groups".to_owned(), |group| format!("--groups={group}"));
    let mut rights: Vec<String> = ["setpriv", "--pdeathsig=KILL", "--no-new-privs"].map(str::to_owned).into();
    rights.extend([
        format!("--reuid={user}"),
        format!("--regid={group}"),
        groups,
        format!("--inh-caps=-all{added}"),
        format!("--bounding-set=-all{added}"),
        "--".to_owned(),
    ]);
    rights
}

fn variables(machine: &Machine<'_>, container: &Value) -> Vec<(String, String)> {
    let variables = list(&container["env"]).map(|variable| {
        let value = match &variable["valueFrom"]["fieldRef"]["fieldPath"] {
            Value::String(field) => {
                let known = machine.fields.iter().find(|(name, _)| name == field);
                known.unwrap_or_else(|| panic!("no field {field}")).1.clone()
            }
            _ => text(&variable["value"]),
        };
        (text(&variable["name"]), value)
    });
    variables.collect()
}

/// `$(NAME)` in arguments.
fn expand(argument: &str, variables: &[(String, String)]) -> String {
    let all = variables
        .iter()
        .fold(argument.to_owned(), |argument, (name, value)| argument.replace(&format!("$({name})"), value));
    assert!(!all.contains("$("), "a variable that is not there: {all}");
    all
}

/// The items of a list, none where there is no list.
pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text: {value}")).to_owned()
}

fn path(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// A directory that every user may look into.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("a directory of ours");
    directory
}
