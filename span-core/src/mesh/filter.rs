//! Ordered lists of prefixes that let addresses through or keep them back.

use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::str::FromStr;

use ipnet::IpNet;

/// `filters.endpoints` and `filters.peerEndpoints` of KubeSpan.
///
/// The list is walked in order over a result that begins empty: a plain item adds the candidates it
/// contains, an item with `!` takes them out again. So a list of only `!` items yields nothing, and the
/// result has the order of the list, not of the candidates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    rules: Vec<Rule>,
}

/// One item of a [`Filter`]: a prefix or a bare address, with `!` in front to take out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    net: IpNet,
    removes: bool,
}

/// The text is neither a prefix nor an address, with or without `!`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a filter item is a prefix such as 10.0.0.0/8, or an address, with `!` in front to exclude it")]
pub struct RuleError;

impl Filter {
    /// A filter of these rules, in order.
    pub fn new(rules: Vec<Rule>) -> Self {
        Filter { rules }
    }

    /// What the filter lets through of `candidates`, in the order of its rules, each once.
    pub fn addresses(&self, candidates: &[IpAddr]) -> Vec<IpAddr> {
        self.apply(candidates, |ip| *ip)
    }

    /// The same for endpoints, judged by their addresses.
    pub fn endpoints(&self, candidates: &[SocketAddr]) -> Vec<SocketAddr> {
        self.apply(candidates, SocketAddr::ip)
    }

    fn apply<T: Copy + PartialEq>(&self, candidates: &[T], ip: impl Fn(&T) -> IpAddr) -> Vec<T> {
        let mut passed: Vec<T> = Vec::new();
        for rule in &self.rules {
            if rule.removes {
                passed.retain(|candidate| !rule.net.contains(&ip(candidate)));
            } else {
                for candidate in candidates.iter().filter(|candidate| rule.net.contains(&ip(candidate))) {
                    if !passed.contains(candidate) {
                        passed.push(*candidate);
                    }
                }
            }
        }
        passed
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (removes, text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        Ok(Rule { net: net.map_err(|_| RuleError)?, removes })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.removes { "!" } else { "" }, self.net)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    fn filter(rules: &[&str]) -> Filter {
        Filter::new(rules.iter().map(|rule| rule.parse().unwrap()).collect())
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn walks_the_rules_in_order() {
        let candidates = ips(&["10.1.0.1", "192.168.7.1", "2001:db8::1", "192.168.9.1"]);
        let passed = |rules: &[&str]| filter(rules).addresses(&candidates);
        assert_eq!(passed(&["0.0.0.0/0", "!192.168.0.0/16", "::/0"]), ips(&["10.1.0.1", "2001:db8::1"]));
        assert_eq!(passed(&["!192.168.0.0/16"]), ips(&[]));
        assert_eq!(
            passed(&["0.0.0.0/0", "!192.168.0.0/16", "192.168.9.1"]),
            ips(&["10.1.0.1", "192.168.9.1"])
        );
        // The order is that of the rules, and nothing appears twice.
        assert_eq!(passed(&["2001:db8::1", "10.0.0.0/8", "0.0.0.0/0", "10.0.0.0/8"]).len(), 4);
        assert_eq!(passed(&["2001:db8::1", "10.0.0.0/8"]), ips(&["2001:db8::1", "10.1.0.1"]));
        assert_eq!(passed(&[]), ips(&[]));
    }

    #[test]
    fn endpoints_are_judged_by_address_and_kept_by_port() {
        let candidates: Vec<SocketAddr> =
            ["10.0.0.1:1", "10.0.0.1:2", "10.0.0.2:1"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(filter(&["10.0.0.1"]).endpoints(&candidates), candidates[..2]);
    }

    #[test]
    fn reads_and_writes_its_items() {
        for text in ["!10.0.0.0/8", "fd00::/8", "192.0.2.1/32"] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
        for text in ["", "!", "10.0.0.0/33", "!!10.0.0.0/8", "ten"] {
            assert_eq!(text.parse::<Rule>(), Err(RuleError), "{text}");
        }
    }
}
