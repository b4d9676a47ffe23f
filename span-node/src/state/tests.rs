use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::*;

fn random(byte: u8) -> [u8; 64] {
    [byte; 64]
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn message(directory: &Path) -> String {
    State::open(directory, &random(9)).unwrap_err().to_string()
}

#[test]
fn an_identity_is_made_once() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("var/lib/span");
    let first = State::open(&directory, &random(1)).unwrap();
    let Identity { node_id, private_key } = first.identity().clone();
    assert_eq!(node_id.as_str(), span_discovery::identity::encode(&[1; 32]));
    drop(first);
    let again = State::open(&directory, &random(2)).unwrap();
    assert_eq!((&again.identity().node_id, &again.identity().private_key), (&node_id, &private_key));
    assert_eq!(again.file("members"), directory.join("members"));
}

#[test]
fn everything_is_for_the_owner_alone() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("a/state");
    let mut state = State::open(&directory, &random(1)).unwrap();
    state.start_clock(Instant::ORIGIN, UnixTime::default()).unwrap();
    assert_eq!(mode(&directory), 0o700);
    let mut names: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert_eq!(names, ["clock.yaml", "identity.yaml", "lock"].map(|name| directory.join(name)));
    for name in names {
        assert_eq!(mode(&name), 0o600, "{name:?}");
    }
    assert!(!format!("{state:?}").contains(&state.identity().private_key.to_base64()));
}

#[test]
fn what_others_can_open_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("state");
    drop(State::open(&directory, &random(1)).unwrap());
    fs::set_permissions(directory.join("identity.yaml"), fs::Permissions::from_mode(0o640)).unwrap();
    let error = message(&directory);
    assert!(
        error.contains("identity.yaml is open to others (mode 640)")
            && error.ends_with("run chmod 600 on it"),
        "{error}"
    );
    fs::set_permissions(directory.join("identity.yaml"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    let error = message(&directory);
    assert!(error.contains("(mode 755)") && error.ends_with("run chmod 700 on it"), "{error}");
}

#[test]
fn two_nodes_never_share_a_directory() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("state");
    let first = State::open(&directory, &random(1)).unwrap();
    let expected = format!("is in use by another node (process {})", std::process::id());
    assert!(message(&directory).contains(&expected), "{}", message(&directory));
    drop(first);
    State::open(&directory, &random(1)).unwrap();
}

#[test]
fn damage_is_told_and_not_repaired_behind_ones_back() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("state");
    drop(State::open(&directory, &random(1)).unwrap());
    let file = directory.join("identity.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let secret = text.lines().last().unwrap().strip_prefix("privateKey: ").unwrap();
    for (damaged, what) in [
        (String::new(), "it has no nodeId"),
        (text.replace("nodeId", "id"), "it has no nodeId"),
        (text.replace("privateKey: ", "privateKey: x"), "its privateKey is none"),
        (text.lines().take(2).collect::<Vec<_>>().join("\n"), "it has no privateKey"),
        (format!("nodeId: {}\nprivateKey: {secret}\n", "x".repeat(300)), "a node id has 1 to 256 bytes"),
    ] {
        fs::write(&file, &damaged).unwrap();
        let error = message(&directory);
        assert!(error.contains(what) && error.contains("remove it to become a new node"), "{error}");
        assert!(!error.contains(secret));
        assert_eq!(fs::read_to_string(&file).unwrap(), damaged);
    }
    fs::write(&file, [0xff]).unwrap();
    assert!(matches!(State::open(&directory, &random(1)), Err(StateError::Read { .. })));

    fs::write(&file, text).unwrap();
    let mut state = State::open(&directory, &random(1)).unwrap();
    files::write(&directory.join("clock.yaml"), "boot: x\n").unwrap();
    let error = state.start_clock(Instant::ORIGIN, UnixTime::default()).unwrap_err().to_string();
    assert!(error.contains("clock.yaml is damaged: its bootNanoseconds is no number; remove it"), "{error}");
}

#[test]
fn a_directory_that_cannot_be_is_told() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    for directory in [file.join("state"), file] {
        let error = State::open(&directory, &random(1)).unwrap_err();
        assert!(matches!(error, StateError::Make { .. }), "{error}");
        assert!(error.to_string().contains("choose another"), "{error}");
    }
}

#[test]
fn the_clock_goes_on_across_restarts_and_reboots() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("state");
    let open = |boot| State::open_in_boot(&directory, &random(1), boot).unwrap();
    let unix = |secs| UnixTime::from_duration(Duration::from_secs(secs));
    let at = Instant::from_secs;

    let mut state = open("first");
    assert_eq!(state.keep_clock(at(50)).unwrap(), at(650), "nothing to keep before it started");
    assert_eq!(state.start_clock(at(100), unix(5000)).unwrap(), unix(5000));
    assert_eq!(state.keep_clock(at(101)).unwrap(), at(700));
    drop(state);

    // Killed and started again a minute later, with the wall clock an hour back.
    let mut state = open("first");
    let start = state.start_clock(at(160), unix(1400)).unwrap();
    assert!(start > unix(5060) && start < unix(5061), "{start:?}");
    assert_eq!(state.keep_clock(at(760)).unwrap(), at(1360));
    drop(state);

    // The power failed: what the last run used is unknown, but less than 20 minutes more.
    let mut state = open("second");
    let start = state.start_clock(at(10), unix(1400)).unwrap();
    assert!(start > unix(5660 + 1200) && start < unix(5660 + 1201), "{start:?}");
    state.stop_clock(at(20)).unwrap();
    drop(state);

    // Stopped in order, rebooted, and the clock is right again.
    let mut state = open("third");
    assert_eq!(state.start_clock(at(5), unix(7000)).unwrap(), unix(7000));
}
