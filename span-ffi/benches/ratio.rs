//! How fast sealing and opening are through C, compared with Rust in the same run: `cargo bench -p span-ffi`.
//!
//! Builds `libspan.so` as it is released and a C program's code on top of it, then lets both sides do the same
//! work in turn, in batches of 32 packets. The figures are the best round of each. Where Go is installed, the Go
//! module follows, in the same way, with other sizes of batches and the cost of a call besides.
//!
//! Rust is measured twice. *Rust* keeps books as C does: a list says of each packet where it stands and whom it is for or
//! where it came from, packets that fit together are found in it, and another list says what became of each. *Bare* has
//! no list: it knows that all packets have one length, one peer and one path, and keeps no result but their number. That
//! is the least that can be done, and all that is above it is what books cost in either language.

use std::ffi::{CString, c_char, c_int, c_void};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant as Clock;
use std::{array, env, fs, mem, ptr};

use span_core::crypto::Suite;
use span_core::key::PrivateKey;
use span_core::time::{Instant, UnixTime};
use span_core::tunnel::Tunnel;
use span_core::wireguard::{Inbound, Outbound, PeerId, Reserve, Sealer};
use span_core::{path, tunnel};

use cargo::cargo;

#[path = "../../tests/src/cargo.rs"]
mod cargo;

const BATCH: usize = 32;
/// Batches timed together, few enough to stay in the cache.
const BATCHES: usize = 4;
const ROUNDS: usize = 2000;
const NOW: Instant = Instant::ORIGIN;

fn main() {
    let c = Library::build();
    // What Go is compared with.
    let mut rust = Vec::new();
    let title = format!("batches of {BATCH}, ns for a packet");
    println!("{title:<52} {:>6}  {:>6}  {:>6}   to Rust  to bare", "bare", "Rust", "C");
    for (cipher, suite) in [(0, Suite::ChaCha20Poly1305), (1, Suite::Aes256Gcm)] {
        for len in [64, 512, 1420] {
            let datagram = Sealer::slot_len(len, 1420);
            for (layout, stride) in [("side by side", datagram), ("2048 apart", 2048)] {
                let best = measure(&c, cipher, suite, layout, len, stride);
                if suite == Suite::ChaCha20Poly1305 && stride == datagram {
                    rust.push((len, best));
                }
            }
        }
    }
    go(&rust);
}

/// Who does the work.
#[derive(Clone, Copy)]
enum Side {
    Bare,
    Rust,
    C,
}

/// Measures one length in one layout. Returns what sealing to a peer and opening take, bare and in Rust.
fn measure(c: &Library, cipher: u32, suite: Suite, layout: &str, len: usize, stride: usize) -> [[f64; 2]; 2] {
    let datagram = Sealer::slot_len(len, 1420);
    let mut rust = Pair::new(suite);
    let there = (c.new)(cipher);
    assert!(!there.is_null(), "two tunnels in C");
    let mut arena = vec![0; BATCHES * BATCH * stride];
    let mut best = [[f64::INFINITY; 3]; 3];
    for _ in 0..ROUNDS {
        for side in [Side::Bare, Side::Rust, Side::C] {
            // What is sealed has no headers to look at any more.
            for lookup in [false, true] {
                fill(&mut arena, stride, len);
                let start = Clock::now();
                for batch in arena.chunks_exact_mut(BATCH * stride) {
                    let batch = black_box(batch);
                    let sealed = match side {
                        Side::Bare => rust.seal_bare(batch, stride, datagram, lookup),
                        Side::Rust => rust.seal(batch, stride, len, lookup),
                        Side::C => {
                            let (arena, room) = (batch.as_mut_ptr(), batch.len());
                            (c.seal)(there, arena, room, stride, len, lookup.into())
                        }
                    };
                    assert_eq!(sealed, BATCH);
                }
                note(&mut best[usize::from(lookup)][side as usize], start);
            }
            let start = Clock::now();
            for batch in arena.chunks_exact_mut(BATCH * stride) {
                let batch = black_box(batch);
                let opened = match side {
                    Side::Bare => rust.open_bare(batch, stride, datagram),
                    Side::Rust => rust.open(batch, stride, datagram),
                    Side::C => (c.open)(there, batch.as_mut_ptr(), batch.len(), stride, datagram),
                };
                assert_eq!(opened, BATCH);
            }
            note(&mut best[2][side as usize], start);
        }
    }
    (c.free)(there);
    for (work, [bare, rust, c]) in ["seal to a peer", "seal by address", "open"].into_iter().zip(best) {
        println!(
            "{:<17} {len:>4} B {layout:<12} {work:<15} {bare:>6.1}  {rust:>6.1}  {c:>6.1}   {:>7.3}  {:>7.3}",
            suite.name(),
            rust / c,
            bare / c
        );
    }
    [best[0], best[2]].map(|[bare, rust, _]| [bare, rust])
}

/// Measures the Go module.
fn go(rust: &[(usize, [[f64; 2]; 2])]) {
    if Command::new("go").arg("version").output().is_err() {
        println!("not run: Go is not installed");
        return;
    }
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
    let mut install = cargo();
    install.args(["run", "--quiet", "-p", "xtask", "--", "install-c", "--prefix"]).arg(&prefix);
    run(install.env(
        "CARGO_TARGET_DIR",
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a directory in it"),
    ));
    let output = Command::new("go")
        .args(["test", "-run", "^$", "-bench", "EmptyCall|Batches", "-benchtime", "0.5s", "."])
        .current_dir(crate_dir.join("go"))
        .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"))
        .env("LD_LIBRARY_PATH", prefix.join("lib"))
        .output()
        .expect("Go");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    // BenchmarkBatches/1420/32-2   1209   290.3 open-ns/packet   279.0 seal-ns/packet
    let results: Vec<Vec<&str>> = printed
        .lines()
        .map(|line| line.split_whitespace().collect())
        .filter(|words: &Vec<_>| words.len() > 3)
        .collect();
    let figure = |name: &str, unit: &str| -> f64 {
        let line = results.iter().find(|words| words[0].rsplit_once('-').is_some_and(|it| it.0 == name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {printed}"));
        let at = line.iter().position(|word| *word == unit).expect("a figure");
        line[at - 1].parse().expect("a number")
    };
    println!("\n{:<52} {:>6}  {:>6}  {:>6}   to Rust  to bare", "", "bare", "Rust", "Go");
    for (row, (work, unit)) in
        [("seal to a peer", "seal-ns/packet"), ("open", "open-ns/packet")].into_iter().enumerate()
    {
        for (len, rust) in rust {
            let go = figure(&format!("BenchmarkBatches/{len}/{BATCH}"), unit);
            let [bare, rust] = rust[row];
            println!(
                "chacha20-poly1305 {len:>4} B side by side {work:<15} {bare:>6.1}  {rust:>6.1}  {go:>6.1}   {:>7.3}  \
                 {:>7.3}",
                rust / go,
                bare / go
            );
        }
    }
    println!(
        "\n{:<52} {:>6}  {:>6}  {:>6}  {:>6}",
        "packets in a batch, ns for a packet in Go", 1, 8, BATCH, 128
    );
    for unit in ["seal-ns/packet", "open-ns/packet"] {
        for len in [64, 512, 1420] {
            let [one, eight, many, most] =
                [1, 8, BATCH, 128].map(|size| figure(&format!("BenchmarkBatches/{len}/{size}"), unit));
            println!(
                "{:<52} {one:>6.1}  {eight:>6.1}  {many:>6.1}  {most:>6.1}",
                format!("{len:>22} B {}", &unit[..4])
            );
        }
    }
    println!("\na call from Go that has nothing to do: {:.1} ns", figure("BenchmarkEmptyCall/Seal", "ns/op"));
}

fn note(best: &mut f64, start: Clock) {
    let nanos = start.elapsed().as_nanos() as f64 / (BATCHES * BATCH) as f64;
    *best = best.min(nanos);
}

fn fill(arena: &mut [u8], stride: usize, len: usize) {
    for slot in arena.chunks_exact_mut(stride) {
        let packet = &mut slot[Sealer::PLAINTEXT_AT..][..len];
        packet[..4].copy_from_slice(&[0x45, 0, (len >> 8) as u8, len as u8]);
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    }
}

/// The same as in `ratio.c`.
struct Pair {
    alice: Tunnel,
    bob: Tunnel,
    bob_at_alice: PeerId,
    alice_path: path::Path,
    /// What became of the batch sealed last.
    sealed: Vec<Sealed>,
    /// What became of the batch opened last, with ranges within the arena.
    opened: Vec<Inbound>,
}

/// A packet to be sealed.
#[derive(Clone, Copy)]
struct Packet {
    at: u32,
    len: u32,
    /// Left to the allowed IPs if none.
    peer: Option<PeerId>,
}

/// A datagram to be sent.
struct Sealed {
    at: u32,
    len: u32,
    peer: PeerId,
    path: path::Path,
}

/// A datagram that arrived.
#[derive(Clone, Copy)]
struct Received {
    at: u32,
    len: u32,
    path: path::Path,
}

impl Pair {
    fn new(suite: Suite) -> Self {
        let key = |byte| PrivateKey::from_bytes([byte; 32]);
        let paths = [1, 2].map(|host| path::Path::udp(([192, 0, 2, host], 51820).into()));
        let end = |own: u8, other: u8| {
            let mut tunnel = Tunnel::new(Some(key(own)), NOW, UnixTime::default(), [own; 32]);
            let device = tunnel.device_mut();
            device.accept_suites(std::iter::once(suite).collect());
            let peer = device.add_peer(NOW, key(other).public_key()).expect("another's key");
            device.set_suite(NOW, peer, suite);
            device.add_allowed_ip(peer, format!("10.0.0.{other}/32").parse().expect("a prefix"));
            device.set_path(NOW, peer, Some(paths[usize::from(other) - 1]));
            (tunnel, peer)
        };
        let ((mut alice, bob_at_alice), (mut bob, _)) = (end(1, 2), end(2, 1));
        alice.device_mut().initiate(NOW, bob_at_alice);
        while carry(&mut alice, &mut bob, &paths[0]) + carry(&mut bob, &mut alice, &paths[1]) > 0 {}
        let (sealed, opened) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
        Self { alice, bob, bob_at_alice, alice_path: paths[0], sealed, opened }
    }

    /// Tells of each packet what it is, and seals them.
    #[inline(never)]
    fn seal(&mut self, batch: &mut [u8], stride: usize, len: usize, lookup: bool) -> usize {
        let peer = (!lookup).then_some(self.bob_at_alice);
        let packets: [Packet; BATCH] = array::from_fn(|i| Packet {
            at: (i * stride + Sealer::PLAINTEXT_AT) as u32,
            len: len as u32,
            peer,
        });
        self.sealed.clear();
        self.seal_packets(batch, black_box(&packets));
        let last = black_box(&self.sealed).last().expect("a packet");
        assert!(last.at as usize == batch.len() - stride && last.len as usize == Sealer::slot_len(len, 1420));
        assert!(last.peer == self.bob_at_alice && last.path.remote().is_some());
        self.sealed.len()
    }

    fn seal_packets(&mut self, arena: &mut [u8], packets: &[Packet]) {
        let mut rest = packets;
        while let Some(first) = rest.first() {
            let destination = destination(arena, first);
            let peer = first.peer.unwrap_or_else(|| self.alice.route(destination.into()).expect("a peer"));
            let Outbound::Ready(sending) = self.alice.outbound(NOW, peer) else { return };
            let path = *sending.path;
            let (mut sealed, mut bytes) = (0, 0);
            // As long as they go to the same peer, and of these as many as stand side by side.
            while let Some(first) = rest.first()
                && first.peer.map_or_else(|| self::destination(arena, first) == destination, |it| it == peer)
            {
                let slot_len = Sealer::slot_len(first.len as usize, 1420);
                let start = first.at as usize - Sealer::PLAINTEXT_AT;
                let mut at = first.at as usize;
                let joins = |next: &&Packet| {
                    at += slot_len;
                    next.at as usize == at
                        && next.len == first.len
                        && next.peer == first.peer
                        && (next.peer.is_some() || self::destination(arena, next) == destination)
                };
                let count = 1 + rest[1..].iter().take_while(joins).count();
                let (run, behind) = rest.split_at(count);
                rest = behind;
                let slots = &mut arena[start..][..count * slot_len];
                sending.sealer.seal_burst(slots, slot_len).expect("a fresh session");
                self.sealed.extend(run.iter().map(|packet| Sealed {
                    at: packet.at - Sealer::PLAINTEXT_AT as u32,
                    len: slot_len as u32,
                    peer,
                    path,
                }));
                sealed += count;
                bytes += count * slot_len;
            }
            self.alice.sent(NOW, peer, sealed as u32, bytes as u64);
        }
    }

    /// Tells of each datagram what it is, and opens them.
    #[inline(never)]
    fn open(&mut self, batch: &mut [u8], stride: usize, datagram: usize) -> usize {
        let path = self.alice_path;
        let datagrams: [Received; BATCH] =
            array::from_fn(|i| Received { at: (i * stride) as u32, len: datagram as u32, path });
        self.opened.clear();
        let opened = self.open_datagrams(batch, black_box(&datagrams));
        black_box(&self.opened);
        opened
    }

    fn open_datagrams(&mut self, arena: &mut [u8], datagrams: &[Received]) -> usize {
        let mut packets = 0;
        let mut rest = datagrams;
        while let Some(first) = rest.first() {
            let (start, len) = (first.at as usize, first.len as usize);
            let mut at = start;
            let joins = |next: &&Received| {
                at += len;
                next.at as usize == at && next.len == first.len && next.path == first.path
            };
            let count = 1 + rest[1..].iter().take_while(joins).count();
            rest = &rest[count..];
            let (burst, opened) = (&mut arena[start..][..count * len], &mut self.opened);
            self.bob.handle_burst(NOW, &first.path, burst, len, &mut |inbound| {
                opened.push(match inbound {
                    Inbound::Packet { peer, range } => {
                        packets += 1;
                        Inbound::Packet { peer, range: start + range.start..start + range.end }
                    }
                    other => other,
                });
            });
        }
        packets
    }

    #[inline(never)]
    fn seal_bare(&mut self, batch: &mut [u8], stride: usize, datagram: usize, lookup: bool) -> usize {
        let mut peer = self.bob_at_alice;
        if lookup {
            let to = *batch[Sealer::PLAINTEXT_AT + 16..].first_chunk::<4>().expect("a packet");
            peer = self.alice.route(to.into()).expect("a peer");
        }
        let Outbound::Ready(sending) = self.alice.outbound(NOW, peer) else { return 0 };
        if stride == datagram {
            sending.sealer.seal_burst(batch, stride).expect("a fresh session");
        } else {
            for slot in batch.chunks_exact_mut(stride) {
                sending.sealer.seal(&mut slot[..datagram]).expect("a fresh session");
            }
        }
        self.alice.sent(NOW, peer, BATCH as u32, (BATCH * datagram) as u64);
        BATCH
    }

    #[inline(never)]
    fn open_bare(&mut self, batch: &mut [u8], stride: usize, datagram: usize) -> usize {
        let mut opened = 0;
        let each = &mut |inbound| opened += usize::from(matches!(inbound, Inbound::Packet { .. }));
        if stride == datagram {
            self.bob.handle_burst(NOW, &self.alice_path, batch, stride, each);
        } else {
            for slot in batch.chunks_exact_mut(stride) {
                each(self.bob.handle_datagram(NOW, &self.alice_path, &mut slot[..datagram]));
            }
        }
        opened
    }
}

/// Where a packet over IPv4 goes to.
fn destination(arena: &[u8], packet: &Packet) -> [u8; 4] {
    *arena[packet.at as usize + 16..].first_chunk().expect("a packet")
}

#[derive(Default)]
struct Wire(Vec<Vec<u8>>);

impl Reserve for Wire {
    fn reserve(&mut self, _path: &path::Path, len: usize) -> Option<&mut [u8]> {
        self.0.push(vec![0; len]);
        self.0.last_mut().map(Vec::as_mut_slice)
    }

    fn release(&mut self) {
        self.0.pop();
    }
}

fn carry(sender: &mut tunnel::Tunnel, receiver: &mut tunnel::Tunnel, from: &path::Path) -> usize {
    let mut wire = Wire::default();
    while sender.poll_transmit(NOW, &mut wire).is_some() {}
    for datagram in &mut wire.0 {
        let _ = receiver.handle_datagram(NOW, from, datagram);
        receiver.handle_timeout(NOW);
    }
    wire.0.len()
}

/// The functions of `ratio.c`.
struct Library {
    new: extern "C" fn(u32) -> *mut c_void,
    free: extern "C" fn(*mut c_void),
    seal: extern "C" fn(*mut c_void, *mut u8, usize, usize, usize, c_int) -> usize,
    open: extern "C" fn(*mut c_void, *mut u8, usize, usize, usize) -> usize,
}

impl Library {
    fn build() -> Self {
        let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        let work = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let target = work.parent().expect("the directory of all that is built");
        run(cargo().args(["build", "--quiet", "--release", "-p", "span-ffi", "--target-dir"]).arg(target));
        fs::copy(target.join("release/libspan.so"), work.join("libspan.so.0")).expect("the library");
        let ours = work.join("ratio.so");
        run(Command::new("cc")
            .args(["-std=c11", "-O2", "-shared", "-fPIC", "-I"])
            .arg(crate_dir.join("include"))
            .arg("-o")
            .arg(&ours)
            .arg(crate_dir.join("benches/ratio.c"))
            .arg(work.join("libspan.so.0"))
            .arg(format!("-Wl,-rpath,{}", work.display())));
        let ours = CString::new(ours.to_str().expect("a path of letters")).expect("a path without NUL");
        // SAFETY: the library was just built and has no constructors; it is never unloaded.
        let library = unsafe { libc::dlopen(ours.as_ptr(), libc::RTLD_NOW) };
        assert!(!library.is_null(), "{} cannot be loaded", ours.to_string_lossy());
        let symbol = |name: *const c_char| {
            // SAFETY: the library is loaded, the name a C string.
            let symbol = unsafe { libc::dlsym(library, name) };
            assert_ne!(symbol, ptr::null_mut(), "a function of ratio.c");
            symbol
        };
        // SAFETY: the types are those of ratio.c.
        unsafe {
            Library {
                new: mem::transmute::<*mut c_void, extern "C" fn(u32) -> *mut c_void>(symbol(
                    c"pair_new".as_ptr(),
                )),
                free: mem::transmute::<*mut c_void, extern "C" fn(*mut c_void)>(symbol(
                    c"pair_free".as_ptr(),
                )),
                seal: mem::transmute::<
                    *mut c_void,
                    extern "C" fn(*mut c_void, *mut u8, usize, usize, usize, c_int) -> usize,
                >(symbol(c"pair_seal".as_ptr())),
                open: mem::transmute::<
                    *mut c_void,
                    extern "C" fn(*mut c_void, *mut u8, usize, usize, usize) -> usize,
                >(symbol(c"pair_open".as_ptr())),
            }
        }
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
