use std::io::{self, Read};

use zeroize::Zeroizing;

/// Largest request the server takes, in bytes: 10,000 peers with 20 prefixes each.
pub(super) const MAX_REQUEST: usize = 16 << 20;

const CHUNK: usize = 64 << 10;

/// Cuts a client's bytes into requests, which end with an empty line.
#[derive(Default)]
pub(super) struct Framer {
    /// Holds keys, so what was in it is wiped whenever it moves or goes.
    buffer: Zeroizing<Vec<u8>>,
    /// No request ends before this place.
    scanned: usize,
}

impl Framer {
    /// Whether a request has begun.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Whether more was collected than a request may have.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() > MAX_REQUEST
    }

    /// Reads once; 0 means the client is done.
    pub(super) fn read_from(&mut self, source: &mut impl Read) -> io::Result<usize> {
        let len = self.buffer.len();
        self.reserve(CHUNK);
        self.buffer.resize(len + CHUNK, 0);
        let read = source.read(&mut self.buffer[len..]);
        self.buffer.truncate(len + read.as_ref().map_or(0, |&read| read));
        read
    }

    /// The first complete request, closing empty line included.
    pub(super) fn request(&mut self) -> Option<&[u8]> {
        let end = self.buffer[self.scanned..].windows(2).position(|pair| pair == b"\n\n");
        match end {
            Some(at) => {
                // Nothing before the end needs a second look, should the caller ask again.
                self.scanned += at;
                Some(&self.buffer[..self.scanned + 2])
            }
            // A request that is an empty line alone.
            None if self.buffer.first() == Some(&b'\n') => Some(&self.buffer[..1]),
            None => {
                self.scanned = self.buffer.len().saturating_sub(1);
                None
            }
        }
    }

    /// Forgets the first `len` bytes.
    pub(super) fn consume(&mut self, len: usize) {
        let rest = Zeroizing::new(self.buffer[len..].to_vec());
        self.buffer = rest;
        self.scanned = 0;
    }

    /// Makes room without leaving an unwiped copy behind.
    fn reserve(&mut self, additional: usize) {
        let wanted = self.buffer.len() + additional;
        if wanted > self.buffer.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(wanted.max(2 * self.buffer.capacity())));
            larger.extend_from_slice(&self.buffer);
            self.buffer = larger;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `bytes` in pieces of the given sizes and collects the requests.
    fn requests(bytes: &[u8], sizes: &[usize]) -> (Vec<Vec<u8>>, bool) {
        let mut framer = Framer::default();
        let mut found = Vec::new();
        let mut rest = bytes;
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() {
            let (mut piece, tail) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            framer.read_from(&mut piece).unwrap();
            rest = tail;
            while let Some(request) = framer.request().map(<[u8]>::to_vec) {
                framer.consume(request.len());
                found.push(request);
            }
        }
        (found, framer.is_empty())
    }

    #[test]
    fn requests_end_with_an_empty_line() {
        let (found, empty) = requests(b"get=1\n\nset=1\nfwmark=1\n\nset=1\n", &[100]);
        assert_eq!(found, [&b"get=1\n\n"[..], b"set=1\nfwmark=1\n\n"]);
        assert!(!empty);
        assert_eq!(requests(b"\n", &[1]).0, [b"\n"]);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            lines in prop::collection::vec("[a-z=]{1,8}\n|[a-z=]{1,8}\n\n", 0..20),
            sizes in prop::collection::vec(1usize..9, 1..9),
        ) {
            let bytes = lines.concat().into_bytes();
            prop_assert_eq!(requests(&bytes, &sizes), requests(&bytes, &[usize::MAX]));
        }
    }
}
