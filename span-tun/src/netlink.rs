//! A blocking netlink client: one request, its answers. Netlink answers within the call that asks, so there is
//! nothing to wait for.

use std::io;
use std::ops::RangeInclusive;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};

/// One socket of one netlink family. It speaks to the network namespace it was opened in.
pub(crate) struct Client {
    socket: Socket,
    sequence: u32,
    /// The kernel fills up to 32 KiB at once with a dump, if whoever reads leaves that much room.
    answers: Vec<u8>,
}

impl Client {
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Strict checking makes the kernel honour filters in dump requests. Kernels before 4.20 lack it; the
        // callers filter the answers themselves anyway.
        let _ = socket.set_netlink_get_strict_chk(true);
        // Errors quote the request that caused them, which in a transaction may be long.
        let _ = socket.set_cap_ack(true);
        Ok(Self { socket, sequence: 0, answers: vec![0; 64 * 1024] })
    }

    /// Asks for one change and waits for the acknowledgement.
    pub(crate) fn change<M>(&mut self, message: M, flags: u16) -> io::Result<()>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        self.request(message, NLM_F_ACK | flags).map(|_: Vec<M>| ())
    }

    /// Asks for everything that matches. A dump the kernel reports as torn by a change is read again.
    pub(crate) fn dump<M>(&mut self, message: &M) -> io::Result<Vec<M>>
    where
        M: NetlinkSerializable + NetlinkDeserializable + Clone,
    {
        self.dump_as(message)
    }

    /// The same where answers are read as something else than what was asked with.
    pub(crate) fn dump_as<M, A>(&mut self, message: &M) -> io::Result<Vec<A>>
    where
        M: NetlinkSerializable + Clone,
        A: NetlinkDeserializable,
    {
        const ATTEMPTS: usize = 10;
        for _ in 0..ATTEMPTS {
            match self.request(message.clone(), NLM_F_DUMP) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
        Err(io::Error::new(
            io::ErrorKind::Interrupted,
            "the kernel's tables change faster than they can be read",
        ))
    }

    /// Sends one request and collects the answers up to the acknowledgement, the error or the end of the dump.
    /// With neither `NLM_F_ACK` nor `NLM_F_DUMP` the first answer ends it.
    pub(crate) fn request<M, A>(&mut self, message: M, flags: u16) -> io::Result<Vec<A>>
    where
        M: NetlinkSerializable,
        A: NetlinkDeserializable,
    {
        let sequence = *self.numbers(1).start();
        let mut request =
            NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(message));
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let single = flags & (NLM_F_ACK | NLM_F_DUMP) == 0;
        let mut answers = Vec::new();
        let mut torn = false;
        loop {
            for answer in self.receive::<A>()? {
                // A leftover of an earlier request that ended in an error.
                if answer.header.sequence_number != sequence {
                    continue;
                }
                torn |= answer.header.flags & NLM_F_DUMP_INTR != 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => {
                        answers.push(message);
                        if single {
                            return Ok(answers);
                        }
                    }
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            Some(_) => Err(error.to_io()),
                            None => Ok(answers),
                        };
                    }
                    NetlinkPayload::Done(_) if torn => return Err(io::ErrorKind::Interrupted.into()),
                    NetlinkPayload::Done(_) => return Ok(answers),
                    _ => {}
                }
            }
        }
    }

    /// Sends several messages in one datagram, a transaction of nftables: `bytes` holds whole messages that are
    /// numbered `numbers`, begin and end included. The last before the end must ask for an acknowledgement.
    ///
    /// All or nothing is done; the first error is returned.
    pub(crate) fn transact<M>(&mut self, bytes: &[u8], numbers: &RangeInclusive<u32>) -> io::Result<()>
    where
        M: NetlinkDeserializable,
    {
        self.socket.send(bytes, 0)?;
        let mut failure = Ok(());
        loop {
            for answer in self.receive::<M>()? {
                let number = answer.header.sequence_number;
                let NetlinkPayload::Error(error) = answer.payload else { continue };
                if !numbers.contains(&number) {
                    continue;
                }
                if error.code.is_some() && failure.is_ok() {
                    failure = Err(error.to_io());
                }
                // What concerns the whole is reported of its beginning, and nothing need follow.
                if number == *numbers.start() || number + 1 == *numbers.end() {
                    return failure;
                }
            }
        }
    }

    /// Takes `count` consecutive sequence numbers.
    pub(crate) fn numbers(&mut self, count: u32) -> RangeInclusive<u32> {
        if self.sequence.checked_add(count).is_none() {
            self.sequence = 0;
        }
        let first = self.sequence + 1;
        self.sequence += count;
        first..=self.sequence
    }

    fn receive<M: NetlinkDeserializable>(&mut self) -> io::Result<Vec<NetlinkMessage<M>>> {
        let len = self.socket.recv(&mut &mut self.answers[..], 0)?;
        if len == self.answers.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer of netlink was cut off"));
        }
        let mut rest = &self.answers[..len];
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let len = NetlinkBuffer::new_checked(rest).map_err(io::Error::other)?.length() as usize;
            let (message, _) = rest.split_at_checked(len).ok_or(io::ErrorKind::InvalidData)?;
            messages.push(NetlinkMessage::deserialize(message).map_err(io::Error::other)?);
            // Messages are padded to four bytes, the last one perhaps not.
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(messages)
    }
}
