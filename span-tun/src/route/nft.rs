//! The nftables table: which packets are marked for the tunnel, and how large their TCP segments may be.

use std::collections::BTreeSet;
use std::io;

use netlink_packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NlaBuffer, NlasIterator,
};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, Expressions, Hook, HookNumber, InetHookNumber,
    ListAttribute, NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute,
    SetElementFlags, SetElementList, SetElementMessage, SetFlags, SetMessage, TableAttribute, TableFlags,
    TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use rustix::io::Errno;

use super::error::{self, RouteError};
use super::expression as on;
use super::interval::{Interval, key};
use super::{Change, Policy};
use crate::netlink::Client;

/// The sets of routed addresses, IPv4 first.
const SETS: [&str; 2] = ["routed4", "routed6"];
/// `filter` and `mangle`, as `nft` calls these priorities.
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_MANGLE: i32 = -150;
/// The loopback interface has this index in every network namespace.
const LOOPBACK: u32 = 1;
/// What segments leave to IP and TCP headers and to TCP options, as KubeSpan counts them.
const MSS_OVERHEAD_V4: u16 = 20 + 20 + 12;
const MSS_OVERHEAD_V6: u16 = 40 + 20 + 12;
/// Elements per message: their list is one attribute, and its length has 16 bits.
const ELEMENTS_PER_MESSAGE: usize = 500;
/// What begins and ends a transaction names the subsystem it is for.
const SUBSYSTEM_NFTABLES: u16 = 10;

/// As [`error::trying`], and knows how a kernel says that it has no nftables.
pub(super) fn trying(action: &'static str) -> impl Fn(io::Error) -> RouteError {
    move |source| match Errno::from_io_error(&source) {
        Some(Errno::OPNOTSUPP | Errno::INVAL | Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT) => {
            RouteError::NoNftables
        }
        _ => error::trying(action)(source),
    }
}

/// What rules depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) policy: Policy,
    pub(super) index: u32,
    pub(super) mtu: u16,
}

/// Our table in the kernel. The socket owns it (since Linux 5.12): nobody else can change it, `nft flush ruleset`
/// leaves it alone, and it vanishes with the socket, even after a crash.
pub(super) struct Table {
    client: Client,
    installed: Option<Installed>,
}

struct Installed {
    shape: Shape,
    /// Chains and rules as the kernel showed them right after they were made.
    picture: Vec<NfTablesMessage>,
}

impl Table {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { client: Client::open(NETLINK_NETFILTER)?, installed: None })
    }

    /// Whether another process owns a table of this name.
    pub(super) fn is_foreign(&mut self, name: &str) -> io::Result<bool> {
        if self.installed.is_some() {
            return Ok(false);
        }
        let all = TableMessage { attributes: Vec::new() };
        for answer in self.dump(NfTablesMessage::GetTable(all))? {
            let NfTablesMessage::NewTable(table) = answer else { continue };
            let is_ours = table.attributes.contains(&TableAttribute::Name(name.to_owned()));
            if is_ours
                && table.attributes.iter().any(|attribute| matches!(attribute, TableAttribute::Owner(_)))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Brings the table into the given shape, with these intervals of both families in its sets.
    pub(super) fn reconcile(
        &mut self,
        shape: &Shape,
        wanted: [&[Interval]; 2],
        changes: &mut Vec<Change>,
    ) -> Result<(), RouteError> {
        let action = error::trying("compare the nftables table with what it should be");
        let intact = match &self.installed {
            Some(installed) => {
                installed.shape == *shape
                    && self.picture(&shape.policy.nftables_table).map_err(&action)?.as_ref()
                        == self.installed.as_ref().map(|installed| &installed.picture)
            }
            None => false,
        };
        if !intact {
            self.install(shape, wanted)?;
            changes.push(Change::TableInstalled);
            return Ok(());
        }
        let mut batch = Batch::default();
        let name = &shape.policy.nftables_table;
        let (mut added, mut removed) = (0, 0);
        for (v6, wanted) in [false, true].into_iter().zip(wanted) {
            let wanted: BTreeSet<Interval> = wanted.iter().copied().collect();
            let present = self.elements(name, v6).map_err(&action)?;
            let gone: Vec<Interval> = present.difference(&wanted).copied().collect();
            let new: Vec<Interval> = wanted.difference(&present).copied().collect();
            (added, removed) = (added + new.len(), removed + gone.len());
            batch.elements(name, v6, &gone, NfTablesMessage::DeleteSetElement, 0);
            batch.elements(name, v6, &new, NfTablesMessage::NewSetElement, NLM_F_CREATE);
        }
        if added + removed > 0 {
            batch.commit(&mut self.client).map_err(error::trying("change the set of routed addresses"))?;
            changes.push(Change::Routed { added, removed });
        }
        Ok(())
    }

    /// Removes the table. It is no error if it is gone already.
    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        self.installed = None;
        let mut batch = Batch::default();
        batch.push(NfTablesMessage::DeleteTable(table(name, None)), 0);
        match batch.commit(&mut self.client) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Makes everything anew, in place of whatever is there under the name.
    fn install(&mut self, shape: &Shape, wanted: [&[Interval]; 2]) -> Result<(), RouteError> {
        self.installed = None;
        let name = &shape.policy.nftables_table;
        // A table that is ours already, or has no owner, cannot become owned; so it goes first. Kernels that do
        // not know owners get an ordinary table.
        let mut outcome = Err(Errno::OPNOTSUPP.into());
        for flags in [Some(TableFlags::Owner), None] {
            outcome = self.batch(shape, wanted, flags).commit(&mut self.client);
            if !matches!(
                outcome.as_ref().map_err(Errno::from_io_error),
                Err(Some(Errno::OPNOTSUPP | Errno::INVAL))
            ) {
                break;
            }
        }
        outcome.map_err(|source| match Errno::from_io_error(&source) {
            // Permission as such was proven by the rule and the route before.
            Some(Errno::PERM | Errno::BUSY) => {
                RouteError::InUse { what: format!("the nftables table inet {name}") }
            }
            // A kernel without tables of family inet, or without a kind of expression.
            Some(Errno::OPNOTSUPP | Errno::AFNOSUPPORT | Errno::NOENT) => RouteError::NoNftables,
            _ => error::trying("make the nftables table")(source),
        })?;
        let picture =
            self.picture(name).map_err(error::trying("read the nftables table back"))?.unwrap_or_default();
        self.installed = Some(Installed { shape: shape.clone(), picture });
        Ok(())
    }

    fn batch(&self, shape: &Shape, wanted: [&[Interval]; 2], flags: Option<TableFlags>) -> Batch {
        let name = shape.policy.nftables_table.as_str();
        let mut batch = Batch::default();
        // Deleting what may not exist is an error, making what may exist is not.
        batch.push(NfTablesMessage::NewTable(table(name, None)), NLM_F_CREATE);
        batch.push(NfTablesMessage::DeleteTable(table(name, None)), 0);
        batch.push(NfTablesMessage::NewTable(table(name, flags)), NLM_F_CREATE);
        for v6 in [false, true] {
            batch.push(NfTablesMessage::NewSet(set(name, v6)), NLM_F_CREATE);
        }
        let Policy { mask, encrypted_mark, routed_mark, .. } = shape.policy;
        let is_encrypted = || [on::mark_is(mask, encrypted_mark), on::accept()];
        let to_tunnel = |v6| {
            [on::destination_in(SETS[usize::from(v6)], v6), on::set_mark(mask, routed_mark), on::accept()]
        };
        let mss = |v6| shape.mtu.saturating_sub(if v6 { MSS_OVERHEAD_V6 } else { MSS_OVERHEAD_V4 });

        let chain = "prerouting";
        batch.chain(name, chain, "filter", InetHookNumber::PreRouting, PRIORITY_FILTER);
        batch.rule(name, chain, is_encrypted());
        batch.rule(name, chain, to_tunnel(false));
        batch.rule(name, chain, to_tunnel(true));

        let chain = "output";
        batch.chain(name, chain, "route", InetHookNumber::LocalOut, PRIORITY_FILTER);
        batch.rule(name, chain, is_encrypted());
        batch.rule(name, chain, [on::goes_out_by(LOOPBACK), on::accept()]);
        for v6 in [false, true] {
            let routed = on::destination_in(SETS[usize::from(v6)], v6);
            batch.rule(name, chain, [routed, on::clamp(mss(v6))]);
            batch.rule(name, chain, to_tunnel(v6));
        }

        // Forwarded connections in both directions: the far end may not clamp, and what it answers with is what
        // our side will send.
        let chain = "forward";
        batch.chain(name, chain, "filter", InetHookNumber::Forward, PRIORITY_MANGLE);
        for v6 in [false, true] {
            for direction in [on::goes_out_by(shape.index), on::comes_in_by(shape.index)] {
                batch.rule(name, chain, [direction, on::family_is(v6), on::clamp(mss(v6))]);
            }
        }

        for (v6, wanted) in [false, true].into_iter().zip(wanted) {
            batch.elements(name, v6, wanted, NfTablesMessage::NewSetElement, NLM_F_CREATE);
        }
        batch
    }

    /// Chains and rules of the table as they are in the kernel; `None` if there is no table.
    fn picture(&mut self, name: &str) -> io::Result<Option<Vec<NfTablesMessage>>> {
        let rules = RuleMessage { attributes: vec![RuleAttribute::Table(name.to_owned())] };
        let mut picture = match self.dump(NfTablesMessage::GetRule(rules)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            answers => answers?,
        };
        let chains = ChainMessage { attributes: vec![ChainAttribute::Table(name.to_owned())] };
        let of_table = ChainAttribute::Table(name.to_owned());
        let chains = self.dump(NfTablesMessage::GetChain(chains))?;
        picture.extend(chains.into_iter().filter(
            |chain| matches!(chain, NfTablesMessage::NewChain(chain) if chain.attributes.contains(&of_table)),
        ));
        Ok((!picture.is_empty()).then_some(picture))
    }

    fn elements(&mut self, name: &str, v6: bool) -> io::Result<BTreeSet<Interval>> {
        let list = vec![
            SetElementList::Table(name.to_owned()),
            SetElementList::Set(SETS[usize::from(v6)].to_owned()),
        ];
        let request = NfTablesMessage::GetSetElement(SetElementMessage { attributes: list });
        let request = netfilter(request, NetfilterProtoFamily::Inet, 0);
        let answers: Vec<Edges> = self.client.dump_as(&request)?;
        Ok(pair(answers.into_iter().flat_map(|answer| answer.0).collect(), v6))
    }

    fn dump(&mut self, message: NfTablesMessage) -> io::Result<Vec<NfTablesMessage>> {
        let answers = self.client.dump(&netfilter(message, NetfilterProtoFamily::Inet, 0))?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer.inner {
                NetfilterMessageInner::NfTables(message) => Some(message),
                _ => None,
            })
            .collect())
    }
}

/// A bound of an interval: its first address, or the first address behind its last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    at: u128,
    begins: bool,
}

/// The elements of one message. Read by ourselves: the general parser takes seconds for thousands of them.
struct Edges(Vec<Edge>);

impl NetlinkDeserializable for Edges {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
        /// Family, version and subsystem.
        const NFGENMSG_LEN: usize = 4;
        let mut edges = Vec::new();
        for list in NlasIterator::new(payload.get(NFGENMSG_LEN..).unwrap_or_default()) {
            let list = list?;
            if list.kind() == NFTA_SET_ELEM_LIST_ELEMENTS {
                for element in NlasIterator::new(list.value()) {
                    edges.extend(edge(element?.value())?);
                }
            }
        }
        Ok(Self(edges))
    }
}

fn edge(element: &[u8]) -> Result<Option<Edge>, DecodeError> {
    const NFTA_SET_ELEM_KEY: u16 = 1;
    const NFTA_SET_ELEM_FLAGS: u16 = 3;
    let (mut at, mut begins) = (None, true);
    for attribute in NlasIterator::new(element) {
        let attribute = attribute?;
        match attribute.kind() {
            // The address stands in an attribute of its own.
            NFTA_SET_ELEM_KEY => at = NlasIterator::new(attribute.value()).next().transpose()?.map(number),
            NFTA_SET_ELEM_FLAGS => {
                let flags = u128::from(SetElementFlags::IntervalEnd.bits());
                begins = number(attribute) & flags == 0;
            }
            _ => {}
        }
    }
    Ok(at.map(|at| Edge { at, begins }))
}

/// A value in network order.
fn number(attribute: NlaBuffer<&[u8]>) -> u128 {
    attribute.value().iter().fold(0, |value, byte| value << 8 | u128::from(*byte))
}

/// An interval whose end is not there reaches to the last address.
fn pair(mut edges: Vec<Edge>, v6: bool) -> BTreeSet<Interval> {
    let highest = if v6 { u128::MAX } else { u32::MAX.into() };
    // At the same address an end stands before a beginning.
    edges.sort_unstable();
    let mut intervals = BTreeSet::new();
    let mut edges = edges.into_iter().peekable();
    while let Some(edge) = edges.next() {
        if edge.begins {
            let last = match edges.peek() {
                Some(next) => next.at.saturating_sub(1),
                None => highest,
            };
            intervals.insert(Interval { first: edge.at, last });
        }
    }
    intervals
}

fn table(name: &str, flags: Option<TableFlags>) -> TableMessage {
    let mut attributes = vec![TableAttribute::Name(name.to_owned())];
    attributes.extend(flags.map(TableAttribute::Flags));
    TableMessage { attributes }
}

fn set(table: &str, v6: bool) -> SetMessage {
    // Types as `nft` numbers them, so that it can print the elements.
    let (key_type, key_len) = if v6 { (8, 16) } else { (7, 4) };
    SetMessage {
        attributes: vec![
            SetAttribute::Table(table.to_owned()),
            SetAttribute::Name(SETS[usize::from(v6)].to_owned()),
            SetAttribute::Flags(SetFlags::Interval),
            SetAttribute::KeyType(key_type),
            SetAttribute::KeyLen(key_len),
            SetAttribute::Id(u32::from(v6) + 1),
        ],
    }
}

fn netfilter(message: NfTablesMessage, family: NetfilterProtoFamily, subsystem: u16) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(family, 0, subsystem), message)
}

/// A transaction: all of it or nothing.
#[derive(Default)]
struct Batch(Vec<(NfTablesMessage, u16)>);

impl Batch {
    fn push(&mut self, message: NfTablesMessage, flags: u16) {
        self.0.push((message, flags));
    }

    fn chain(&mut self, table: &str, name: &str, kind: &str, hook: InetHookNumber, priority: i32) {
        let hook = vec![Hook::Number(HookNumber::Inet(hook)), Hook::Priority(priority as u32)];
        let attributes = vec![
            ChainAttribute::Table(table.to_owned()),
            ChainAttribute::Name(name.to_owned()),
            ChainAttribute::Hook(hook),
            ChainAttribute::Type(kind.to_owned()),
        ];
        self.push(NfTablesMessage::NewChain(ChainMessage { attributes }), NLM_F_CREATE);
    }

    fn rule(&mut self, table: &str, chain: &str, parts: impl IntoIterator<Item = Vec<Expressions>>) {
        let expressions = parts.into_iter().flatten().map(ListAttribute::from).collect();
        let attributes = vec![
            RuleAttribute::Table(table.to_owned()),
            RuleAttribute::Chain(chain.to_owned()),
            RuleAttribute::Expressions(expressions),
        ];
        self.push(NfTablesMessage::NewRule(RuleMessage { attributes }), NLM_F_CREATE | NLM_F_APPEND);
    }

    fn elements(
        &mut self,
        table: &str,
        v6: bool,
        intervals: &[Interval],
        kind: fn(SetElementMessage) -> NfTablesMessage,
        flags: u16,
    ) {
        let highest = if v6 { u128::MAX } else { u32::MAX.into() };
        for intervals in intervals.chunks(ELEMENTS_PER_MESSAGE / 2) {
            let mut elements = Vec::new();
            for interval in intervals {
                let key = |address| SetElementAttribute::Key(DataAttribute::Value(key(address, v6)));
                elements.push(ListAttribute::Element(vec![key(interval.first)]));
                if interval.last < highest {
                    let end = SetElementAttribute::Flags(SetElementFlags::IntervalEnd);
                    elements.push(ListAttribute::Element(vec![key(interval.last + 1), end]));
                }
            }
            let attributes = vec![
                SetElementList::Table(table.to_owned()),
                SetElementList::Set(SETS[usize::from(v6)].to_owned()),
                SetElementList::SetId(u32::from(v6) + 1),
                SetElementList::Elements(elements),
            ];
            self.push(kind(SetElementMessage { attributes }), flags);
        }
    }

    fn commit(self, client: &mut Client) -> io::Result<()> {
        let count = self.0.len() as u32;
        let numbers = client.numbers(count + 2);
        let mut bytes = Vec::new();
        let mut number = *numbers.start();
        let control = |message| {
            let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM_NFTABLES);
            NetfilterMessage::new(header, message)
        };
        append(&mut bytes, control(ControlMessage::BatchBegin), 0, number);
        for (message, flags) in self.0 {
            number += 1;
            let acknowledge = if number + 1 == *numbers.end() { NLM_F_ACK } else { 0 };
            let message = netfilter(message, NetfilterProtoFamily::Inet, 0);
            append(&mut bytes, message, flags | acknowledge, number);
        }
        append(&mut bytes, control(ControlMessage::BatchEnd), 0, number + 1);
        client.transact::<NetfilterMessage>(&bytes, &numbers)
    }
}

fn append(bytes: &mut Vec<u8>, message: NetfilterMessage, flags: u16, number: u32) {
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(message));
    message.header.flags = NLM_F_REQUEST | flags;
    message.header.sequence_number = number;
    message.finalize();
    let at = bytes.len();
    bytes.resize(at + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut bytes[at..]);
}
