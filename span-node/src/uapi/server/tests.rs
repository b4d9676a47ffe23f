use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use span_core::key::PublicKey;

use super::*;
use crate::uapi::PeerSnapshot;

#[derive(Default)]
struct Recorder {
    operations: Mutex<Vec<Operation>>,
    gets: AtomicU64,
    peers: usize,
}

impl Handler for Arc<Recorder> {
    fn set(&self, operations: Vec<Operation>) -> Result<(), Errno> {
        let refused = operations.contains(&Operation::ListenPort(1));
        self.operations.lock().unwrap().extend(operations);
        if refused { Err(Errno::PORT_IN_USE) } else { Ok(()) }
    }

    fn get(&self) -> Result<Snapshot, Errno> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        let peer = PeerSnapshot {
            public_key: PublicKey::from_bytes([3; 32]),
            preshared_key: Default::default(),
            endpoint: None,
            last_handshake: None,
            rx_bytes: 0,
            tx_bytes: 0,
            keepalive_seconds: 0,
            allowed_ips: vec!["10.0.0.0/8".parse().unwrap(); 1000],
        };
        Ok(Snapshot { listen_port: 7, peers: vec![peer; self.peers], ..Snapshot::default() })
    }
}

/// A server on a thread of its own, for one test.
struct Fixture {
    recorder: Arc<Recorder>,
    path: PathBuf,
    stopper: Stopper,
    thread: Option<JoinHandle<Ended>>,
    _home: tempfile::TempDir,
}

impl Fixture {
    fn start(recorder: Recorder) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut server = Server::bind(home.path(), &"wg0".parse().unwrap()).unwrap();
        let (path, stopper) = (server.path().to_path_buf(), server.stopper());
        let recorder = Arc::new(recorder);
        let handler = recorder.clone();
        let thread = Some(thread::spawn(move || server.run(&handler).unwrap()));
        Fixture { recorder, path, stopper, thread, _home: home }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn join(&mut self) -> Ended {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Sends `request` and reads one answer, empty line included.
fn ask(stream: &mut UnixStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    answer(stream)
}

fn answer(stream: &mut UnixStream) -> String {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    while !text.ends_with(b"\n\n") {
        match stream.read(&mut chunk).unwrap() {
            0 => break,
            read => text.extend_from_slice(&chunk[..read]),
        }
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn requests_are_answered_one_after_the_other_on_one_connection() {
    let fixture = Fixture::start(Recorder::default());
    let mut client = fixture.connect();
    assert_eq!(ask(&mut client, "get=1\n\n"), "listen_port=7\nerrno=0\n\n");
    assert_eq!(ask(&mut client, "set=1\nfwmark=1\n\n"), "errno=0\n\n");
    assert_eq!(ask(&mut client, "set=1\n\n"), "errno=0\n\n");
    assert_eq!(ask(&mut client, "get=1\n\n"), "listen_port=7\nerrno=0\n\n");
    assert_eq!(*fixture.recorder.operations.lock().unwrap(), [Operation::Fwmark(1)]);
}

#[test]
fn errors_are_told_by_number() {
    let fixture = Fixture::start(Recorder::default());
    let mut client = fixture.connect();
    assert_eq!(ask(&mut client, "set=1\nfwmark=1\nnonsense=1\nfwmark=2\n\n"), "errno=-22\n\n");
    assert_eq!(ask(&mut client, "set=1\nnonsense\n\n"), "errno=-71\n\n");
    assert_eq!(ask(&mut client, "set=1\nlisten_port=1\n\n"), "errno=-98\n\n");
    assert_eq!(ask(&mut client, "get=1\nfwmark\n\n"), "errno=-22\n\n");
    let done = [Operation::Fwmark(1), Operation::ListenPort(1)];
    assert_eq!(*fixture.recorder.operations.lock().unwrap(), done);
}

#[test]
fn another_protocol_is_refused_and_closed() {
    let fixture = Fixture::start(Recorder::default());
    for request in ["GET / HTTP/1.0\n\n", "set=2\n\n", "\n"] {
        let mut client = fixture.connect();
        assert_eq!(ask(&mut client, request), "errno=-71\n\n", "{request:?}");
        assert_eq!(answer(&mut client), "", "{request:?}");
    }
}

#[test]
fn half_a_request_is_not_carried_out() {
    let fixture = Fixture::start(Recorder::default());
    let mut client = fixture.connect();
    client.write_all(b"set=1\nfwmark=1\nfwmark=22").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(answer(&mut client), "errno=-71\n\n");
    assert_eq!(*fixture.recorder.operations.lock().unwrap(), []);
}

#[test]
fn an_oversized_request_is_refused() {
    let fixture = Fixture::start(Recorder::default());
    let mut client = fixture.connect();
    let endless = "fwmark=1\n".repeat(4096);
    client.write_all(b"set=1\n").unwrap();
    while client.write_all(endless.as_bytes()).is_ok() {}
    assert_eq!(*fixture.recorder.operations.lock().unwrap(), []);
    assert_eq!(ask(&mut fixture.connect(), "set=1\n\n"), "errno=0\n\n");
}

/// One peer with 255·256·2 allowed IPs (netns.sh), in one request; and read back while the client dawdles.
#[test]
fn large_requests_and_answers_pass() {
    let fixture = Fixture::start(Recorder { peers: 131, ..Recorder::default() });
    let mut request = format!("set=1\npublic_key={}\n", "ab".repeat(32));
    for (a, b) in (0..255).flat_map(|a| (0..256).map(move |b| (a, b))) {
        request += &format!("allowed_ip={a}.{b}.0.0/16\nallowed_ip={a:x}{b:02x}:abcd::1/128\n");
    }
    request += "\n";
    let start = Instant::now();
    let mut client = fixture.connect();
    assert_eq!(ask(&mut client, &request), "errno=0\n\n");
    assert!(start.elapsed() < Duration::from_secs(10), "took {:?}", start.elapsed());
    assert_eq!(fixture.recorder.operations.lock().unwrap().len(), 1 + 255 * 256 * 2);

    client.write_all(b"get=1\n\n").unwrap();
    thread::sleep(Duration::from_millis(50));
    assert_eq!(answer(&mut client).matches("allowed_ip=").count(), 131_000);
}

#[test]
fn silent_clients_keep_nobody_waiting() {
    let fixture = Fixture::start(Recorder::default());
    let silent: Vec<_> = (0..3 * MAX_CLIENTS)
        .map(|_| {
            let mut client = fixture.connect();
            client.write_all(b"set=1\nfwmark=").unwrap();
            client
        })
        .collect();
    assert_eq!(ask(&mut fixture.connect(), "get=1\n\n"), "listen_port=7\nerrno=0\n\n");
    drop(silent);
}

#[test]
fn a_client_that_stalls_in_a_request_is_dropped_and_an_idle_one_is_kept() {
    let fixture = Fixture::start(Recorder::default());
    let (mut stalled, mut idle) = (fixture.connect(), fixture.connect());
    stalled.write_all(b"set=1\n").unwrap();
    let start = Instant::now();
    assert_eq!(answer(&mut stalled), "");
    assert!(start.elapsed() >= Duration::from_secs(4), "dropped after {:?}", start.elapsed());
    assert_eq!(ask(&mut idle, "get=1\n\n"), "listen_port=7\nerrno=0\n\n");
}

#[test]
fn a_client_that_only_asks_does_not_starve_the_others() {
    let fixture = Fixture::start(Recorder { peers: 20, ..Recorder::default() });
    let mut greedy = fixture.connect();
    // Sends without end and reads nothing.
    let writer = thread::spawn(move || {
        greedy.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        while greedy.write_all(&b"get=1\n\n".repeat(1000)).is_ok() {}
    });
    let mut client = fixture.connect();
    assert!(ask(&mut client, "get=1\n\n").ends_with("errno=0\n\n"));
    writer.join().unwrap();
    // Its answers were not piled up.
    assert!(fixture.recorder.gets.load(Ordering::Relaxed) < 100);
}

#[test]
fn stopping_removes_the_socket() {
    let mut fixture = Fixture::start(Recorder::default());
    let stopper = fixture.stopper.clone();
    stopper.stop();
    assert_eq!(fixture.join(), Ended::Stopped);
    assert!(!fixture.path.exists());
    stopper.stop();
}

#[test]
fn removing_the_socket_ends_the_server() {
    let mut fixture = Fixture::start(Recorder::default());
    // Another file of the directory is none of its business.
    let other = fixture.path.with_file_name("other");
    std::fs::write(&other, "").unwrap();
    std::fs::remove_file(&other).unwrap();
    assert!(ask(&mut fixture.connect(), "get=1\n\n").ends_with("errno=0\n\n"));
    std::fs::remove_file(&fixture.path).unwrap();
    assert_eq!(fixture.join(), Ended::Removed);
}
