//! KubeSpan's place in the network of a Linux host, over netlink and without programs to call.
//!
//! What [`Net`] makes, for an interface `span0` and with the [`Policy`] of KubeSpan:
//!
//! ```text
//! ip link      span0 up, its MTU, its addresses
//! ip rule      32500: from all fwmark 0x40/0x60 lookup 180          (IPv4 and IPv6)
//! ip route     default dev span0 table 180 proto static metric 1    (IPv4 and IPv6)
//! nftables     table inet span: packets to a routed prefix get the mark 0x40, unless they carry 0x20, the mark of
//!              what is encrypted already; the MSS of TCP connections through the tunnel is clamped, for local and
//!              for forwarded ones
//! ```
//!
//! [`Net::reconcile`] compares all of it with what the kernel really has, and repairs what others changed. All is
//! removed by [`Net::remove`], or when the value is dropped. After a crash the kernel removes the interface and
//! with it the addresses and routes, and the nftables table, which belongs to our socket; what remains is the
//! rule. It leads to an empty table and so does nothing, and the next start takes it over or removes it.
//!
//! **One per network namespace and policy.** A second [`Net`] with the same policy gets [`RouteError::InUse`];
//! give it a policy of its own if there must be two.
//!
//! **Reverse path filter.** Packets from the tunnel carry no mark, so a strict filter (`rp_filter=1`) would look
//! for their source outside the tunnel and drop them. Where the filter is strict, it is set to loose (2) for our
//! interface alone; the setting vanishes with the interface, and no other is touched.
//!
//! **IPv6.** A host without it gets everything for IPv4, and [`Problem::NoIpv6`]. Where IPv6 is disabled for new
//! interfaces but an IPv6 address is desired, it is enabled for our interface.

mod error;
mod expression;
mod interval;
pub mod link;
mod nft;
mod policy;
mod sysctl;

use std::fmt;

use ipnet::IpNet;
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::netlink::Client;

pub use error::RouteError;
use error::trying;

/// Least MTU of an interface with IPv6, in bytes (RFC 8200, section 5).
const MIN_MTU_V6: u16 = 1280;

/// The constants two nodes in one network namespace must not share. The default is KubeSpan's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The bits of the firewall mark that are looked at and changed.
    pub mask: u32,
    /// Mark of packets that are encrypted already: what our own sockets carry (`SO_MARK`).
    pub encrypted_mark: u32,
    /// Mark of packets that are to go into the tunnel.
    pub routed_mark: u32,
    /// Routing table of the tunnel.
    pub table: u32,
    /// Priority of the rule that leads there.
    pub priority: u32,
    /// Name of the nftables table, of family inet.
    pub nftables_table: String,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mask: 0x60,
            encrypted_mark: 0x20,
            routed_mark: 0x40,
            table: 180,
            priority: 32500,
            nftables_table: "span".to_owned(),
        }
    }
}

/// What the host's network should be like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Addresses of the interface, with the prefix that is on the link. Others it may have are left alone.
    pub addresses: Vec<IpNet>,
    /// MTU of interface and routes, in bytes, and what segment sizes are computed from.
    pub mtu: u16,
    /// Prefixes whose traffic goes into the tunnel. They may overlap.
    pub routed: Vec<IpNet>,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Something [`Net::reconcile`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The interface was down.
    LinkUp,
    /// The interface had this MTU.
    MtuFrom(u32),
    /// An address was missing.
    AddressAdded(IpNet),
    /// An address is not desired any more.
    AddressRemoved(IpNet),
    /// The policy rule was missing.
    RuleAdded(Family),
    /// A rule of an earlier run, or a duplicate.
    RuleRemoved(Family),
    /// The default route of the tunnel's table was missing or different.
    RouteAdded(Family),
    /// The nftables table was missing or different.
    TableInstalled,
    /// The set of routed addresses was different.
    Routed {
        /// Intervals that were missing.
        added: usize,
        /// Intervals that were too much.
        removed: usize,
    },
    /// The reverse path filter of the interface was strict.
    ReversePathLoosened,
    /// IPv6 was disabled on the interface.
    Ipv6Enabled,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkUp => f.write_str("interface brought up"),
            Self::MtuFrom(mtu) => write!(f, "MTU changed, was {mtu}"),
            Self::AddressAdded(net) => write!(f, "address {net} added"),
            Self::AddressRemoved(net) => write!(f, "address {net} removed"),
            Self::RuleAdded(family) => write!(f, "{family} policy rule added"),
            Self::RuleRemoved(family) => write!(f, "stale {family} policy rule removed"),
            Self::RouteAdded(family) => write!(f, "{family} default route of the tunnel's table set"),
            Self::TableInstalled => f.write_str("nftables table installed"),
            Self::Routed { added, removed } => {
                write!(f, "routed addresses: {added} added, {removed} removed")
            }
            Self::ReversePathLoosened => f.write_str("reverse path filter of the interface made loose"),
            Self::Ipv6Enabled => f.write_str("IPv6 enabled on the interface"),
        }
    }
}

/// Something that could not be had and can be lived without.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The host, or the interface, has no IPv6; only IPv4 goes through the tunnel.
    NoIpv6,
    /// The MTU is below 1280 bytes, which rules out IPv6.
    MtuBelowIpv6(u16),
    /// The reverse path filter is strict and cannot be changed; it will drop packets from the tunnel.
    ReversePathStrict,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIpv6 => f.write_str("this host has no IPv6: only IPv4 goes through the tunnel"),
            Self::MtuBelowIpv6(mtu) => {
                write!(f, "an MTU of {mtu} rules out IPv6, which needs {MIN_MTU_V6}")
            }
            Self::ReversePathStrict => f.write_str(
                "the reverse path filter is strict and /proc/sys cannot be written: set net.ipv4.conf.all.rp_filter \
                 to 2, or packets from the tunnel are dropped",
            ),
        }
    }
}

/// What [`Net::reconcile`] found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What was done; nothing if all was as desired.
    pub made: Vec<Change>,
    /// What could not be done.
    pub problems: Vec<Problem>,
}

/// The place of one interface in the host's network.
///
/// It belongs to the network namespace of the thread that makes it, where the interface must be and where
/// [`Net::reconcile`] must be called.
pub struct Net {
    index: u32,
    client: Client,
    /// What leads traffic to the interface; `None` if only the interface itself is looked after.
    steering: Option<Steering>,
    /// Addresses we added, which we may remove again.
    added: Vec<IpNet>,
    /// Whether anything of ours may be in the kernel.
    active: bool,
}

/// Rule, routes and nftables.
struct Steering {
    policy: Policy,
    table: nft::Table,
}

impl Net {
    /// For the interface with this index. Nothing is changed yet.
    ///
    /// # Errors
    /// [`RouteError::NoNftables`], or [`RouteError::Io`] if there are no netlink sockets to be had.
    pub fn new(index: u32, policy: Policy) -> Result<Self, RouteError> {
        let action = trying("open a netlink socket");
        let client = Client::open(NETLINK_ROUTE).map_err(&action)?;
        let table = nft::Table::open().map_err(nft::trying("open a netlink socket"))?;
        let steering = Some(Steering { policy, table });
        Ok(Self { index, client, steering, added: Vec::new(), active: false })
    }

    /// For the interface with this index, where someone else decides what is routed to it: only its state, MTU
    /// and addresses are looked after, and [`Desired::routed`] is left out of account.
    ///
    /// # Errors
    /// [`RouteError::Io`] if there is no netlink socket to be had.
    pub fn interface_only(index: u32) -> Result<Self, RouteError> {
        let client = Client::open(NETLINK_ROUTE).map_err(trying("open a netlink socket"))?;
        Ok(Self { index, client, steering: None, added: Vec::new(), active: false })
    }

    /// Brings the kernel's state to the desired one and says what was different. Costs about a millisecond when
    /// nothing is.
    ///
    /// # Errors
    /// See [`RouteError`]. What was done before the error stays, for the next attempt.
    pub fn reconcile(&mut self, desired: &Desired) -> Result<Changes, RouteError> {
        self.refuse_if_in_use()?;
        self.active = true;
        let mut changes = Changes::default();
        self.reconcile_link(desired, &mut changes)?;
        let Some(Steering { policy, table }) = &mut self.steering else { return Ok(changes) };
        for family in Family::BOTH {
            let (client, made) = (&mut self.client, &mut changes.made);
            match reconcile_family(client, policy, self.index, family, desired.mtu, made) {
                Err(error) if family == Family::V6 && policy::means_no_ipv6(&error) => {
                    note(&mut changes.problems, Problem::NoIpv6);
                }
                outcome => outcome.map_err(trying("set the policy rule and route"))?,
            }
        }
        let (v4, v6) = interval::merge(&desired.routed);
        let shape = nft::Shape { policy: policy.clone(), index: self.index, mtu: desired.mtu };
        table.reconcile(&shape, [&v4, &v6], &mut changes.made)?;
        Ok(changes)
    }

    /// Removes everything that was made. The interface itself stays, up and with its MTU.
    ///
    /// # Errors
    /// The first thing that could not be removed; the rest is removed nevertheless.
    pub fn remove(&mut self) -> Result<(), RouteError> {
        if !self.active {
            return Ok(());
        }
        self.active = false;
        // First what sends packets here, then what takes them.
        let mut first = Ok(());
        let mut keep = |outcome: std::io::Result<()>| {
            if first.is_ok() {
                first = outcome;
            }
        };
        if let Some(Steering { policy, table }) = &mut self.steering {
            keep(table.remove(&policy.nftables_table));
            for family in Family::BOTH {
                keep(policy::remove_rules(&mut self.client, family, policy));
                keep(policy::remove_routes(&mut self.client, family, policy, self.index));
            }
        }
        for address in self.added.drain(..) {
            keep(link::remove_address(&mut self.client, self.index, address).or_else(|error| {
                // Gone with the interface, or removed by someone else.
                match rustix::io::Errno::from_io_error(&error) {
                    Some(rustix::io::Errno::ADDRNOTAVAIL | rustix::io::Errno::NODEV) => Ok(()),
                    _ => Err(error),
                }
            }));
        }
        first.map_err(trying("remove what was made"))
    }

    /// Two at once would take turns undoing each other's work.
    fn refuse_if_in_use(&mut self) -> Result<(), RouteError> {
        let Some(Steering { policy, table }) = &mut self.steering else { return Ok(()) };
        let action = trying("look for other users of the routing table");
        if let Some(other) = policy::other_user(&mut self.client, self.index, policy).map_err(&action)? {
            let name =
                link::state(&mut self.client, other).map_or_else(|_| other.to_string(), |link| link.name);
            let what = format!("routing table {} (by interface {name})", policy.table);
            return Err(RouteError::InUse { what });
        }
        if table.is_foreign(&policy.nftables_table).map_err(trying("list nftables tables"))? {
            let what = format!("the nftables table inet {}", policy.nftables_table);
            return Err(RouteError::InUse { what });
        }
        Ok(())
    }

    fn reconcile_link(&mut self, desired: &Desired, changes: &mut Changes) -> Result<(), RouteError> {
        let state = link::state(&mut self.client, self.index).map_err(trying("ask about the interface"))?;
        if state.mtu != u32::from(desired.mtu) {
            link::change_mtu(&mut self.client, self.index, desired.mtu).map_err(trying("set the MTU"))?;
            changes.made.push(Change::MtuFrom(state.mtu));
        }
        let has_v6 = desired.addresses.iter().any(|net| net.addr().is_ipv6());
        if has_v6 && desired.mtu < MIN_MTU_V6 {
            changes.problems.push(Problem::MtuBelowIpv6(desired.mtu));
        }
        if has_v6 && sysctl::enable_ipv6(&state.name) {
            changes.made.push(Change::Ipv6Enabled);
        }
        if !state.up {
            link::set_up(&mut self.client, self.index).map_err(trying("bring the interface up"))?;
            changes.made.push(Change::LinkUp);
        }
        match sysctl::loosen_reverse_path(&state.name) {
            sysctl::ReversePath::Fine => {}
            sysctl::ReversePath::Loosened => changes.made.push(Change::ReversePathLoosened),
            sysctl::ReversePath::Stuck => changes.problems.push(Problem::ReversePathStrict),
        }
        let present = link::addresses(&mut self.client, self.index)
            .map_err(trying("list the interface's addresses"))?;
        for address in std::mem::take(&mut self.added) {
            if desired.addresses.contains(&address) {
                self.added.push(address);
            } else if present.contains(&address) {
                link::remove_address(&mut self.client, self.index, address)
                    .map_err(trying("remove an address"))?;
                changes.made.push(Change::AddressRemoved(address));
            }
        }
        for address in desired.addresses.iter().filter(|address| !present.contains(address)) {
            match link::add_address(&mut self.client, self.index, *address) {
                Ok(()) => {}
                Err(error) if address.addr().is_ipv6() && policy::means_no_ipv6(&error) => {
                    note(&mut changes.problems, Problem::NoIpv6);
                    continue;
                }
                // The kernel takes IPv6 from an interface with too small an MTU.
                Err(_) if address.addr().is_ipv6() && desired.mtu < MIN_MTU_V6 => continue,
                Err(error) => return Err(trying("add an address")(error)),
            }
            changes.made.push(Change::AddressAdded(*address));
            if !self.added.contains(address) {
                self.added.push(*address);
            }
        }
        Ok(())
    }
}

fn reconcile_family(
    client: &mut Client,
    policy: &Policy,
    index: u32,
    family: Family,
    mtu: u16,
    changes: &mut Vec<Change>,
) -> std::io::Result<()> {
    // The rule comes last: one that leads to an empty table would let packets out in the clear.
    if family == Family::V4 || mtu >= MIN_MTU_V6 {
        policy::reconcile_route(client, family, policy, index, mtu, changes)?;
    }
    policy::reconcile_rule(client, family, policy, changes)
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = self.remove();
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net")
            .field("index", &self.index)
            .field("policy", &self.steering.as_ref().map(|steering| &steering.policy))
            .finish_non_exhaustive()
    }
}

/// Notes a problem once.
fn note(problems: &mut Vec<Problem>, problem: Problem) {
    if !problems.contains(&problem) {
        problems.push(problem);
    }
}
