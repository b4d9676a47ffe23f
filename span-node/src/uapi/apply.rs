use std::net::SocketAddr;

use ipnet::IpNet;
use span_core::key::{PresharedKey, PrivateKey, PublicKey};

use super::{Errno, Operation};

/// A WireGuard interface that can be configured.
pub trait Target {
    /// How the interface names a peer.
    type Peer: Copy;

    /// The interface's own public key, if it has a key.
    fn public_key(&self) -> Option<PublicKey>;
    /// Changes or removes the private key. A peer with the same public key is forgotten.
    fn set_private_key(&mut self, key: Option<PrivateKey>);
    /// Binds the sockets anew; 0 lets the host choose a port.
    fn set_listen_port(&mut self, port: u16) -> Result<(), Errno>;
    /// Marks outgoing datagrams; 0 does not.
    fn set_fwmark(&mut self, mark: u32) -> Result<(), Errno>;
    /// Forgets every peer.
    fn remove_all_peers(&mut self);
    /// The peer with this key.
    fn find_peer(&self, key: &PublicKey) -> Option<Self::Peer>;
    /// Makes a peer. Only called where [`find_peer`](Target::find_peer) found none.
    fn add_peer(&mut self, key: &PublicKey) -> Result<Self::Peer, Errno>;
    /// Forgets a peer with its prefixes and sessions.
    fn remove_peer(&mut self, peer: Self::Peer);
    /// Changes the preshared key, effective with the next handshake; zeros remove it.
    fn set_preshared_key(&mut self, peer: Self::Peer, key: PresharedKey);
    /// Where the peer is from now on, until it roams.
    fn set_endpoint(&mut self, peer: Self::Peer, endpoint: SocketAddr);
    /// Seconds between keepalives; 0 turns them off. Where this turns them on, one is sent at once.
    fn set_keepalive(&mut self, peer: Self::Peer, seconds: u16);
    /// Takes every prefix from the peer.
    fn clear_allowed_ips(&mut self, peer: Self::Peer);
    /// Gives the prefix to the peer, taking it from whoever had it.
    fn add_allowed_ip(&mut self, peer: Self::Peer, prefix: IpNet);
    /// Takes the prefix from the peer; nothing happens if it is another's.
    fn remove_allowed_ip(&mut self, peer: Self::Peer, prefix: IpNet);
    /// The lines of this peer are done: what waited for it may be sent.
    fn peer_configured(&mut self, peer: Self::Peer);
}

/// Carries out `operations` in order, and stops at the first that fails: what came before stays done.
///
/// A peer with the interface's own public key is ignored, as is one that `update_only` does not find.
pub fn apply<T: Target>(target: &mut T, operations: &[Operation]) -> Result<(), Errno> {
    let mut selected = Selected::Nobody;
    for operation in operations {
        match operation {
            Operation::PrivateKey(key) => target.set_private_key(key.clone()),
            Operation::ListenPort(port) => target.set_listen_port(*port)?,
            Operation::Fwmark(mark) => target.set_fwmark(*mark)?,
            Operation::ReplacePeers => target.remove_all_peers(),
            Operation::Peer(key) => {
                selected.finish(target)?;
                selected = Selected::select(target, key);
            }
            Operation::UpdateOnly => {
                if let Selected::Missing(_) = selected {
                    selected = Selected::Nobody;
                }
            }
            Operation::Remove => {
                if let Selected::Peer(peer) = selected {
                    target.remove_peer(peer);
                }
                selected = Selected::Nobody;
            }
            Operation::PresharedKey(key) => {
                if let Some(peer) = selected.peer(target)? {
                    target.set_preshared_key(peer, key.clone());
                }
            }
            Operation::Endpoint(endpoint) => {
                if let Some(peer) = selected.peer(target)? {
                    target.set_endpoint(peer, *endpoint);
                }
            }
            Operation::Keepalive(seconds) => {
                if let Some(peer) = selected.peer(target)? {
                    target.set_keepalive(peer, *seconds);
                }
            }
            Operation::ReplaceAllowedIps => {
                if let Some(peer) = selected.peer(target)? {
                    target.clear_allowed_ips(peer);
                }
            }
            Operation::AddAllowedIp(prefix) => {
                if let Some(peer) = selected.peer(target)? {
                    target.add_allowed_ip(peer, *prefix);
                }
            }
            Operation::RemoveAllowedIp(prefix) => {
                if let Some(peer) = selected.peer(target)? {
                    target.remove_allowed_ip(peer, *prefix);
                }
            }
        }
    }
    selected.finish(target)
}

/// Whom the current lines are about.
#[derive(Clone, Copy)]
enum Selected<P> {
    /// Nobody, or someone to be ignored.
    Nobody,
    /// A peer to be made, unless `update_only` or `remove` comes first.
    Missing(PublicKey),
    Peer(P),
}

impl<P: Copy> Selected<P> {
    fn select<T: Target<Peer = P>>(target: &T, key: &PublicKey) -> Self {
        if target.public_key().as_ref() == Some(key) {
            return Selected::Nobody;
        }
        match target.find_peer(key) {
            Some(peer) => Selected::Peer(peer),
            None => Selected::Missing(*key),
        }
    }

    /// The peer to change, made now if it was missing.
    fn peer<T: Target<Peer = P>>(&mut self, target: &mut T) -> Result<Option<P>, Errno> {
        match *self {
            Selected::Nobody => Ok(None),
            Selected::Peer(peer) => Ok(Some(peer)),
            Selected::Missing(key) => {
                let peer = target.add_peer(&key)?;
                *self = Selected::Peer(peer);
                Ok(Some(peer))
            }
        }
    }

    fn finish<T: Target<Peer = P>>(&mut self, target: &mut T) -> Result<(), Errno> {
        if let Some(peer) = self.peer(target)? {
            target.peer_configured(peer);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uapi::parse_set;

    /// Writes down what it is told.
    #[derive(Default)]
    struct Recorder {
        own: Option<PublicKey>,
        peers: Vec<PublicKey>,
        log: Vec<String>,
        full: bool,
    }

    impl Recorder {
        fn note(&mut self, what: &str, peer: usize) {
            self.log.push(format!("{what} {}", self.peers[peer].as_bytes()[0]));
        }
    }

    impl Target for Recorder {
        type Peer = usize;

        fn public_key(&self) -> Option<PublicKey> {
            self.own
        }
        fn set_private_key(&mut self, key: Option<PrivateKey>) {
            self.own = key.map(|key| key.public_key());
            self.log.push("private key".into());
        }
        fn set_listen_port(&mut self, port: u16) -> Result<(), Errno> {
            self.log.push(format!("port {port}"));
            if port == 1 { Err(Errno::PORT_IN_USE) } else { Ok(()) }
        }
        fn set_fwmark(&mut self, mark: u32) -> Result<(), Errno> {
            self.log.push(format!("mark {mark}"));
            Ok(())
        }
        fn remove_all_peers(&mut self) {
            self.log.push("remove all".into());
        }
        fn find_peer(&self, key: &PublicKey) -> Option<usize> {
            self.peers.iter().position(|known| known == key)
        }
        fn add_peer(&mut self, key: &PublicKey) -> Result<usize, Errno> {
            if self.full {
                return Err(Errno::NO_SPACE);
            }
            self.peers.push(*key);
            self.note("add", self.peers.len() - 1);
            Ok(self.peers.len() - 1)
        }
        fn remove_peer(&mut self, peer: usize) {
            self.note("remove", peer);
        }
        fn set_preshared_key(&mut self, peer: usize, _: PresharedKey) {
            self.note("psk", peer);
        }
        fn set_endpoint(&mut self, peer: usize, _: SocketAddr) {
            self.note("endpoint", peer);
        }
        fn set_keepalive(&mut self, peer: usize, _: u16) {
            self.note("keepalive", peer);
        }
        fn clear_allowed_ips(&mut self, peer: usize) {
            self.note("clear", peer);
        }
        fn add_allowed_ip(&mut self, peer: usize, _: IpNet) {
            self.note("allow", peer);
        }
        fn remove_allowed_ip(&mut self, peer: usize, _: IpNet) {
            self.note("disallow", peer);
        }
        fn peer_configured(&mut self, peer: usize) {
            self.note("done", peer);
        }
    }

    fn key(byte: u8) -> String {
        PublicKey::from_bytes([byte; 32]).to_hex()
    }

    fn run(target: &mut Recorder, body: &str) -> Result<(), Errno> {
        let set = parse_set(body.as_bytes());
        assert_eq!(set.failure, None);
        apply(target, &set.operations)
    }

    #[test]
    fn lines_are_about_the_peer_before_them() {
        let mut target = Recorder::default();
        let (one, two) = (key(1), key(2));
        let body = format!(
            "fwmark=9\nreplace_peers=true\npublic_key={one}\nendpoint=192.0.2.1:1\nreplace_allowed_ips=true\n\
             allowed_ip=10.0.0.0/8\nallowed_ip=-10.0.0.0/8\npublic_key={two}\npublic_key={one}\n\
             persistent_keepalive_interval=1\npreshared_key={two}\n"
        );
        assert_eq!(run(&mut target, &body), Ok(()));
        let expected = [
            "mark 9",
            "remove all",
            "add 1",
            "endpoint 1",
            "clear 1",
            "allow 1",
            "disallow 1",
            "done 1",
            "add 2",
            "done 2",
            "keepalive 1",
            "psk 1",
            "done 1",
        ];
        assert_eq!(target.log, expected);
    }

    #[test]
    fn a_removed_peer_is_gone_and_its_other_lines_are_ignored() {
        let mut target = Recorder { peers: vec![PublicKey::from_bytes([1; 32])], ..Recorder::default() };
        let body = format!("public_key={}\nremove=true\nendpoint=192.0.2.1:1\n", key(1));
        assert_eq!(run(&mut target, &body), Ok(()));
        assert_eq!(target.log, ["remove 1"]);
    }

    #[test]
    fn removing_a_peer_that_is_not_there_makes_none() {
        let mut target = Recorder::default();
        assert_eq!(run(&mut target, &format!("public_key={}\nremove=true\n", key(1))), Ok(()));
        assert_eq!(target.log, [""; 0]);
    }

    #[test]
    fn update_only_changes_but_does_not_make() {
        let mut target = Recorder { peers: vec![PublicKey::from_bytes([1; 32])], ..Recorder::default() };
        let lines = "update_only=true\nallowed_ip=10.0.0.0/8\n";
        let body = format!("public_key={}\n{lines}public_key={}\n{lines}", key(1), key(2));
        assert_eq!(run(&mut target, &body), Ok(()));
        assert_eq!(target.log, ["allow 1", "done 1"]);
    }

    #[test]
    fn the_own_key_is_no_peer() {
        let mut target = Recorder::default();
        let private = PrivateKey::from_bytes([7; 32]);
        let own = private.public_key().to_hex();
        let body = format!("private_key={}\npublic_key={own}\nallowed_ip=10.0.0.0/8\n", private.to_hex());
        assert_eq!(run(&mut target, &body), Ok(()));
        assert_eq!(target.log, ["private key"]);
        // Another private key makes it one.
        let other = PrivateKey::from_bytes([8; 32]).to_hex();
        assert_eq!(run(&mut target, &format!("private_key={other}\npublic_key={own}\n")), Ok(()));
        assert_eq!(target.log.len(), 4);
    }

    #[test]
    fn what_fails_stops_the_rest() {
        let mut target = Recorder::default();
        assert_eq!(run(&mut target, "fwmark=1\nlisten_port=1\nfwmark=2\n"), Err(Errno::PORT_IN_USE));
        assert_eq!(target.log, ["mark 1", "port 1"]);
        target.full = true;
        assert_eq!(run(&mut target, &format!("public_key={}\n", key(3))), Err(Errno::NO_SPACE));
    }
}
