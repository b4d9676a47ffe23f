//! What a discovery service can hand out: records, endpoints, messages, and lists in files. A record that
//! opens becomes a member, and a plan made of such members never gives one address to two peers.
//!
//! The first byte chooses: sealed bytes as they stand, or bytes sealed here first, as by a member that has
//! the secret and no manners.
#![no_main]

use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use span_core::crypto::{Suite, Suites};
use span_core::key::PrivateKey;
use span_core::mesh::{Local, Member, NodeId, overlay, plan};
use span_discovery::seal::ClusterSecret;
use span_discovery::wire::{client, server, storage};
use span_discovery::{file, identity};

/// The key of the published vectors: 00 01 … 1f.
const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fuzz_target!(|input: &[u8]| {
    let Some((&choice, bytes)) = input.split_first() else { return };
    let secret: ClusterSecret = SECRET.parse().expect("a secret");
    match choice % 6 {
        0 => {
            let id = NodeId::new("fzvex3e0LP8uzu6obO5iDu3crN2WTt0Q7MzKjsxELMwA").expect("an id");
            if let Ok(member) = secret.open_member(&id, bytes) {
                assert_eq!(member.node_id, id);
            }
            let _ = secret.open_endpoint(bytes);
        }
        1 => {
            let members: Vec<Member> =
                bytes.split(|&byte| byte == b'|').filter_map(|part| sealed_record(&secret, part)).collect();
            no_address_has_two_owners(&members);
        }
        2 => {
            let mut sealed = bytes.to_vec();
            sealed.resize(sealed.len().clamp(1, 32).next_multiple_of(16), 0);
            let cipher = aes::Aes256::new(&std::array::from_fn(|at| u8::try_from(at).unwrap_or(0)).into());
            for block in sealed.as_chunks_mut::<16>().0 {
                cipher.encrypt_block(block.into());
            }
            if let Ok(endpoint) = secret.open_endpoint(&sealed) {
                let again = secret.open_endpoint(&secret.seal_endpoint(endpoint));
                assert_eq!(again.ok(), Some(endpoint));
            }
        }
        3 => {
            let _ = server::HelloRequest::decode(bytes);
            let _ = server::HelloResponse::decode(bytes);
            let _ = server::AffiliateUpdateRequest::decode(bytes);
            let _ = server::WatchResponse::decode(bytes);
            let _ = storage::StateSnapshot::decode(bytes);
        }
        4 => {
            if let Ok(text) = std::str::from_utf8(bytes)
                && let Ok(members) = file::parse(text)
            {
                no_address_has_two_owners(&members);
            }
        }
        _ => {
            if let Ok(text) = std::str::from_utf8(bytes)
                && let Ok(raw) = identity::decode(text)
            {
                assert_eq!(identity::decode(&identity::encode(&raw)).as_deref(), Ok(&raw[..]));
            }
        }
    }
});

/// Seals `plain` whatever it is, and opens it under the id it says it has.
fn sealed_record(secret: &ClusterSecret, plain: &[u8]) -> Option<Member> {
    let key: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap_or(0));
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("32 bytes"));
    let mut sealed = plain.to_vec();
    let nonce = [7; 12];
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed).ok()?;
    sealed.splice(0..0, nonce);
    let id = client::Affiliate::decode(plain).ok().and_then(|inner| NodeId::new(&inner.node_id).ok())?;
    let member = secret.open_member(&id, &sealed).ok()?;
    // What was understood can be said again, and is understood the same.
    if let Ok(again) = secret.seal_member(&member, [8; 12]) {
        assert_eq!(secret.open_member(&id, &again).as_ref(), Ok(&member));
    }
    Some(member)
}

fn no_address_has_two_owners(members: &[Member]) {
    let local = Local {
        node_id: NodeId::new("me").expect("an id"),
        public_key: PrivateKey::from_bytes([9; 32]).public_key(),
        overlay: overlay::prefix("8XuV9TZHW08DOk3bVxQjH9ih_TBKjnh-j44tsCLSBzo="),
        addresses: vec!["10.5.0.1/24".parse().expect("a network")],
        networks: vec!["10.244.9.0/24".parse().expect("a network")],
        excluded: Vec::new(),
        peer_endpoints: None,
        suites: Suites::NONE.with(Suite::Aes256Gcm),
    };
    let plan = plan(&local, members);
    for (at, peer) in plan.peers.iter().enumerate() {
        assert_ne!(peer.public_key, local.public_key);
        for other in &plan.peers[at + 1..] {
            assert_ne!(peer.public_key, other.public_key);
            for prefix in &peer.allowed_ips {
                let shared = other
                    .allowed_ips
                    .iter()
                    .find(|&theirs| prefix.contains(theirs) || theirs.contains(prefix));
                assert_eq!(shared, None, "{} and {} both have {prefix}", peer.node_id, other.node_id);
            }
        }
    }
}
