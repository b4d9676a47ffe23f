use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};

use mio::net::UnixStream;
use zeroize::Zeroizing;

use super::Errno;
use super::framing::Framer;
use super::server::status;

/// Most clients at a time.
pub(super) const MAX_CLIENTS: usize = 16;

/// How long a client may leave a request or an answer half-way.
const STALL: Duration = Duration::from_secs(5);

/// The connections of a server, in numbered places.
#[derive(Default)]
pub(super) struct Clients {
    slots: Vec<Option<Client>>,
}

impl Clients {
    /// A place for one more, taken from the one silent longest if there is no other.
    pub(super) fn free_slot(&mut self) -> usize {
        if let Some(free) = self.slots.iter().position(Option::is_none) {
            return free;
        }
        if self.slots.len() < MAX_CLIENTS {
            self.slots.push(None);
            return self.slots.len() - 1;
        }
        let silence = |slot: &Option<Client>| slot.as_ref().map(|client| client.heard);
        let oldest = (0..self.slots.len()).min_by_key(|&slot| silence(&self.slots[slot]));
        oldest.unwrap_or_default()
    }

    pub(super) fn put(&mut self, slot: usize, client: Client) {
        self.slots[slot] = Some(client);
    }

    /// There may be something to do for this one.
    pub(super) fn wake(&mut self, slot: usize) {
        if let Some(Some(client)) = self.slots.get_mut(slot) {
            client.ready = true;
        }
    }

    /// Does what there is to do and drops who is done for.
    pub(super) fn serve(&mut self, answer: &mut impl FnMut(&[u8]) -> (Zeroizing<String>, Then)) {
        let now = Instant::now();
        for slot in &mut self.slots {
            let Some(client) = slot else { continue };
            let lost = (client.ready && client.serve(now, answer).is_err()) || client.stalled(now);
            if lost {
                *slot = None;
            }
        }
    }

    /// How long to wait for an event.
    pub(super) fn timeout(&self) -> Option<Duration> {
        let clients = self.slots.iter().flatten();
        if clients.clone().any(|client| client.ready) {
            return Some(Duration::ZERO);
        }
        let stalls = clients.filter(|client| client.is_busy()).map(|client| client.heard + STALL);
        stalls.min().map(|at| at.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }
}

/// What to do after an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Go,
    Close,
}

/// The connection is over.
struct Closed;

/// One connection.
pub(super) struct Client {
    stream: UnixStream,
    requests: Framer,
    answer: Zeroizing<String>,
    written: usize,
    then: Then,
    /// When bytes last moved.
    heard: Instant,
    /// May have more to read or to write than was done.
    ready: bool,
}

impl Client {
    pub(super) fn new(stream: UnixStream) -> Self {
        Client {
            stream,
            requests: Framer::default(),
            answer: Zeroizing::default(),
            written: 0,
            then: Then::Go,
            heard: Instant::now(),
            ready: true,
        }
    }

    /// In the middle of a request or an answer.
    fn is_busy(&self) -> bool {
        !self.requests.is_empty() || self.written < self.answer.len()
    }

    fn stalled(&self, now: Instant) -> bool {
        self.is_busy() && !self.ready && now.saturating_duration_since(self.heard) >= STALL
    }

    /// Reads, answers and writes, but not so much that others have to wait.
    fn serve(
        &mut self,
        now: Instant,
        answer: &mut impl FnMut(&[u8]) -> (Zeroizing<String>, Then),
    ) -> Result<(), Closed> {
        const STEPS: usize = 64;
        for _ in 0..STEPS {
            match self.step(now, answer) {
                Ok(()) => {}
                Err(Step::Wait) => {
                    self.ready = false;
                    return Ok(());
                }
                Err(Step::Close) => return Err(Closed),
            }
        }
        Ok(())
    }

    fn step(
        &mut self,
        now: Instant,
        answer: &mut impl FnMut(&[u8]) -> (Zeroizing<String>, Then),
    ) -> Result<(), Step> {
        // No further request before the last one's answer is out.
        if self.written < self.answer.len() {
            self.written += moved(|| self.stream.write(&self.answer.as_bytes()[self.written..]))?;
            self.heard = now;
            return Ok(());
        }
        if self.then == Then::Close {
            return Err(Step::Close);
        }
        if let Some(request) = self.requests.request() {
            let len = request.len();
            (self.answer, self.then) = answer(request);
            self.written = 0;
            self.requests.consume(len);
            return Ok(());
        }
        if self.requests.is_full() {
            self.refuse(Errno::TOO_LARGE);
            return Ok(());
        }
        match moved(|| self.requests.read_from(&mut self.stream))? {
            0 if self.requests.is_empty() => Err(Step::Close),
            // Half a request must not be carried out: its last line may be half a line.
            0 => {
                self.refuse(Errno::PROTOCOL);
                Ok(())
            }
            _ => {
                self.heard = now;
                Ok(())
            }
        }
    }

    fn refuse(&mut self, errno: Errno) {
        self.answer = Zeroizing::new(status(Err(errno)));
        self.written = 0;
        self.then = Then::Close;
        // What the client still has to say is thrown away, so that closing does not take the answer back.
        let _ = io::copy(&mut (&mut self.stream).take(1 << 20), &mut io::sink());
    }
}

/// Why a client cannot go on now.
enum Step {
    Wait,
    Close,
}

fn moved(mut transfer: impl FnMut() -> io::Result<usize>) -> Result<usize, Step> {
    loop {
        return match transfer() {
            Ok(count) => Ok(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Step::Wait),
            Err(_) => Err(Step::Close),
        };
    }
}
