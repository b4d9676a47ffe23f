//! The policy rule and the table it leads to.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use super::{Change, Family, Policy};
use crate::netlink::Client;

/// Marks a rule as ours, so that leftovers are known even after the settings changed. Not in use by others
/// (`/etc/iproute2/rt_protos`).
const OUR_RULES: u8 = 180;

/// Metric of the default routes.
const METRIC: u32 = 1;

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn address_family(self) -> AddressFamily {
        match self {
            Self::V4 => AddressFamily::Inet,
            Self::V6 => AddressFamily::Inet6,
        }
    }
}

/// Whether an error means that the host has no IPv6, or not on this interface.
pub(super) fn means_no_ipv6(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::AFNOSUPPORT | Errno::OPNOTSUPP | Errno::ACCESS | Errno::PFNOSUPPORT)
    )
}

/// Sees to it that there is the one rule, and no leftover of a run with other settings. What leads to a table
/// with routes in it belongs to someone who is alive.
pub(super) fn reconcile_rule(
    client: &mut Client,
    family: Family,
    policy: &Policy,
    changes: &mut Vec<Change>,
) -> io::Result<()> {
    let mut found = false;
    for rule in rules(client, family)? {
        if is_wanted(&rule, policy) && !found {
            found = true;
        } else if is_ours(&rule) {
            let table = table(&rule);
            if table != policy.table && !routes(client, family, table)?.is_empty() {
                continue;
            }
            client.change(RouteNetlinkMessage::DelRule(rule), 0)?;
            changes.push(Change::RuleRemoved(family));
        }
    }
    if !found {
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        match client.change(RouteNetlinkMessage::NewRule(rule(family, policy)), flags) {
            // The same rule without our mark, made by a person: just as good.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => changes.push(Change::RuleAdded(family)),
        }
    }
    Ok(())
}

/// Removes the rule, unless a person made it.
pub(super) fn remove_rules(client: &mut Client, family: Family, policy: &Policy) -> io::Result<()> {
    let ours = |rule: &RuleMessage| is_ours(rule) && is_wanted(rule, policy);
    for rule in rules(client, family)?.into_iter().filter(ours) {
        client.change(RouteNetlinkMessage::DelRule(rule), 0)?;
    }
    Ok(())
}

fn rule(family: Family, policy: &Policy) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = family.address_family();
    rule.header.action = RuleAction::ToTable;
    rule.attributes = vec![
        RuleAttribute::Priority(policy.priority),
        RuleAttribute::FwMark(policy.routed_mark),
        RuleAttribute::FwMask(policy.mask),
        RuleAttribute::Table(policy.table),
        RuleAttribute::Protocol(RouteProtocol::from(OUR_RULES)),
    ];
    rule
}

fn rules(client: &mut Client, family: Family) -> io::Result<Vec<RuleMessage>> {
    let mut request = RuleMessage::default();
    request.header.family = family.address_family();
    let answers = client.dump(&RouteNetlinkMessage::GetRule(request))?;
    let rules = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewRule(rule) => Some(rule),
        _ => None,
    });
    // A kernel without the family answers with those of all families.
    Ok(rules.filter(|rule| rule.header.family == family.address_family()).collect())
}

fn table(rule: &RuleMessage) -> u32 {
    let attribute = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Table(table) => Some(*table),
        _ => None,
    });
    attribute.unwrap_or(rule.header.table.into())
}

fn is_ours(rule: &RuleMessage) -> bool {
    rule.attributes.contains(&RuleAttribute::Protocol(RouteProtocol::from(OUR_RULES)))
}

/// Nothing more and nothing less than the rule we would make.
fn is_wanted(found: &RuleMessage, policy: &Policy) -> bool {
    let selects_more = found.header.src_len != 0
        || found.header.dst_len != 0
        || found.header.tos != 0
        || found.header.flags.contains(RuleFlags::Invert)
        || found.attributes.iter().any(|attribute| {
            matches!(
                attribute,
                RuleAttribute::Iifname(_)
                    | RuleAttribute::Oifname(_)
                    | RuleAttribute::UidRange(_)
                    | RuleAttribute::IpProtocol(_)
                    | RuleAttribute::SourcePortRange(_)
                    | RuleAttribute::DestinationPortRange(_)
                    | RuleAttribute::TunId(_)
            )
        });
    let has = |attribute| found.attributes.contains(&attribute);
    !selects_more
        && found.header.action == RuleAction::ToTable
        && has(RuleAttribute::Priority(policy.priority))
        && has(RuleAttribute::FwMark(policy.routed_mark))
        && has(RuleAttribute::FwMask(policy.mask))
        && has(RuleAttribute::Table(policy.table))
}

/// An interface other than ours that the policy's table leads to, which means that someone else uses it.
pub(super) fn other_user(client: &mut Client, index: u32, policy: &Policy) -> io::Result<Option<u32>> {
    for family in Family::BOTH {
        for route in routes(client, family, policy.table)? {
            if let Some(other) = interface(&route)
                && other != index
            {
                return Ok(Some(other));
            }
        }
    }
    Ok(None)
}

/// Sees to it that the table has the default route through the interface.
pub(super) fn reconcile_route(
    client: &mut Client,
    family: Family,
    policy: &Policy,
    index: u32,
    mtu: u16,
    changes: &mut Vec<Change>,
) -> io::Result<()> {
    let wanted = default_route(family, policy, index, mtu);
    let has = |route: &RouteMessage| {
        route.header.destination_prefix_length == 0
            && wanted.attributes.iter().all(|attribute| {
                // The kernel leaves the all-zero destination out.
                matches!(attribute, RouteAttribute::Destination(_)) || route.attributes.contains(attribute)
            })
    };
    if routes(client, family, policy.table)?.iter().any(has) {
        return Ok(());
    }
    client.change(RouteNetlinkMessage::NewRoute(wanted), NLM_F_CREATE | NLM_F_REPLACE)?;
    changes.push(Change::RouteAdded(family));
    Ok(())
}

/// Removes what leads from the table to the interface.
pub(super) fn remove_routes(
    client: &mut Client,
    family: Family,
    policy: &Policy,
    index: u32,
) -> io::Result<()> {
    for route in routes(client, family, policy.table)? {
        if interface(&route) == Some(index) {
            client.change(RouteNetlinkMessage::DelRoute(route), 0)?;
        }
    }
    Ok(())
}

fn default_route(family: Family, policy: &Policy, index: u32, mtu: u16) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = family.address_family();
    // The attribute has the number; the byte in the header is for tables below 256.
    route.header.table = u8::try_from(policy.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    route.header.protocol = RouteProtocol::Static;
    route.header.kind = RouteType::Unicast;
    route.header.scope = match family {
        Family::V4 => RouteScope::Link,
        Family::V6 => RouteScope::Universe,
    };
    let everything = match family {
        Family::V4 => RouteAddress::Inet(Ipv4Addr::UNSPECIFIED),
        Family::V6 => RouteAddress::Inet6(Ipv6Addr::UNSPECIFIED),
    };
    route.attributes = vec![
        RouteAttribute::Destination(everything),
        RouteAttribute::Table(policy.table),
        RouteAttribute::Oif(index),
        RouteAttribute::Priority(METRIC),
        RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu.into())]),
    ];
    route
}

fn routes(client: &mut Client, family: Family, table: u32) -> io::Result<Vec<RouteMessage>> {
    let mut request = RouteMessage::default();
    request.header.address_family = family.address_family();
    request.attributes.push(RouteAttribute::Table(table));
    let answers = match client.dump(&RouteNetlinkMessage::GetRoute(request)) {
        Ok(answers) => answers,
        // What a strict dump says of a table nobody has used yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let routes = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewRoute(route) => Some(route),
        _ => None,
    });
    let in_table = RouteAttribute::Table(table);
    Ok(routes
        .filter(|route| {
            route.header.address_family == family.address_family() && route.attributes.contains(&in_table)
        })
        .collect())
}

fn interface(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}
