//! Vectors computed independently of this code, and properties.

use std::net::SocketAddr;

use proptest::prelude::*;
use span_core::crypto::{Suite, Suites};
use span_core::mesh::{ControlPlane, KubeSpan, MachineType, Member, NodeId};

use super::*;

const PLAIN: &str = "0a2c667a7665783365304c5038757a75366f624f356944753363724e325754743051374d7a4b6a7378454c4d77411204ac1400021210fd7f175ab97c56022c1ab6fffe5381691a126e6f64652d312e6578616d706c652e6f726722066e6f64652d312a0c636f6e74726f6c706c616e65320f54616c6f73202876312e31332e30293a540a2c504c504e4264646d5467484a6874773076786c7471315a4264505039524e4f455564354a6a4a5a7a4252593d1210fd7f175ab97c56022c1ab6fffe5381691a080a040af40100101822080a04c0a801001018420308ab32";
const SEALED: &str = "a0a1a2a3a4a5a6a7a8a9aaabec341a5733ae7a8c0755cb833f0fbaab46c33b5fa7de0619af6d54c84dfc2175e22770b2d569394e27d948857e3b91fdeb0f464a70c0e7015604b222f272a9aa02437b3cb1ccfef29a8d9b7da2ffe2dfb56ac6d4a9a4b7159c121c9cdff529f1a2b501a760c1e1efecb46a20e9e9834d165f35cfb25ae81c07b9ef8a8566dc7dec2be475ff12cc47791b9aef7f1ef69ec2b1d91c8ea682e089bc8cafeda3647bff4a51fef33f2423c86061781590e4b84a34ed657d71f487fed474154634e0a967b725d368dbbfe7075c40df51063abf56294ce93f73c0faeec9f3d7567c1c8e9bb89c4b55f901732de1d9a1";
const ENDPOINTS: [(&str, &str); 5] = [
    ("172.20.0.2:51820", "ffbc9f4957354a5b1a5ec4767d27f433"),
    ("203.0.113.7:61033", "73af244b1eb3328c0e410cbfa9450fc0"),
    ("198.51.100.9:80", "f6dbe44710cc6aff809c9c9863534173"),
    ("[2001:db8::1]:51820", "e2702633ca89239d5ee036a316dde237d604c19a74d2f45c1e624c2d38c4cca0"),
    (
        "[fd7f:175a:b97c:5602:2c1a:b6ff:fe53:8169]:51820",
        "eb23778a86d91a4658e4ca488935062868a8a30f127249cfa9cdaed645ea6496",
    ),
];

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn secret() -> ClusterSecret {
    ClusterSecret::from_bytes(std::array::from_fn(|i| i as u8))
}

fn member() -> Member {
    Member {
        node_id: NodeId::new("fzvex3e0LP8uzu6obO5iDu3crN2WTt0Q7MzKjsxELMwA").unwrap(),
        addresses: vec![
            "172.20.0.2".parse().unwrap(),
            "fd7f:175a:b97c:5602:2c1a:b6ff:fe53:8169".parse().unwrap(),
        ],
        hostname: "node-1.example.org".to_owned(),
        nodename: "node-1".to_owned(),
        machine_type: MachineType::ControlPlane,
        operating_system: "Talos (v1.13.0)".to_owned(),
        kubespan: Some(KubeSpan {
            public_key: "PLPNBddmTgHJhtw0vxltq1ZBdPP9RNOEUd5JjJZzBRY=".parse().unwrap(),
            address: Some("fd7f:175a:b97c:5602:2c1a:b6ff:fe53:8169".parse().unwrap()),
            additional_addresses: vec!["10.244.1.0/24".parse().unwrap()],
            exclude_advertised_addresses: vec!["192.168.1.0/24".parse().unwrap()],
            suites: Suites::NONE,
        }),
        control_plane: Some(ControlPlane { api_server_port: 6443 }),
        endpoints: Vec::new(),
    }
}

fn nonce() -> [u8; NONCE_LEN] {
    std::array::from_fn(|i| 0xa0 + i as u8)
}

/// Seals bytes that are not what `seal_member` would write.
fn seal_bytes(secret: &ClusterSecret, plain: &[u8]) -> Vec<u8> {
    use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, secret.as_bytes()).unwrap());
    let mut body = plain.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce()), Aad::empty(), &mut body).unwrap();
    [&nonce()[..], &body].concat()
}

#[test]
fn the_record_vector() {
    use prost::Message as _;
    assert_eq!(member_to_wire(&member()).encode_to_vec(), hex(PLAIN));
    assert_eq!(secret().seal_member(&member(), nonce()).unwrap(), hex(SEALED));
    assert_eq!(secret().open_member(&member().node_id, &hex(SEALED)), Ok(member()));
}

/// Field 2000 of wire type 2 with three bytes: in it, field 1 with a packed list of one number.
const AES: &str = "827d030a0101";

#[test]
fn a_record_that_announces_aes_is_the_same_with_a_field_more() {
    use prost::Message as _;
    let mut announcing = member();
    announcing.kubespan.as_mut().unwrap().suites = Suites::NONE.with(Suite::Aes256Gcm);
    assert_eq!(member_to_wire(&announcing).encode_to_vec(), hex(&[PLAIN, AES].concat()));
    // WireGuard's own goes without saying.
    announcing.kubespan.as_mut().unwrap().suites = Suite::ALL.into_iter().collect();
    assert_eq!(member_to_wire(&announcing).encode_to_vec(), hex(&[PLAIN, AES].concat()));
}

#[test]
fn suites_of_the_future_are_ignored() {
    let suites = |field: &str| {
        let record = seal_bytes(&secret(), &hex(&[PLAIN, field].concat()));
        secret().open_member(&member().node_id, &record).unwrap().kubespan.unwrap().suites
    };
    assert_eq!(suites(AES), Suites::NONE.with(Suite::Aes256Gcm));
    // 2, 1 and 300; not packed; beside fields that are not known.
    assert_eq!(suites("827d060a040201ac02"), Suites::NONE.with(Suite::Aes256Gcm));
    assert_eq!(suites("827d0408070801"), Suites::NONE.with(Suite::Aes256Gcm));
    assert_eq!(suites("827d0710011a01ff0801"), Suites::NONE.with(Suite::Aes256Gcm));
    for none in ["", "827d00", "827d030a0102", "827d030a0100", "827d021001"] {
        assert_eq!(suites(none), Suites::NONE, "{none}");
    }
}

#[test]
fn the_endpoint_vectors() {
    for (endpoint, sealed) in ENDPOINTS {
        let endpoint: SocketAddr = endpoint.parse().unwrap();
        assert_eq!(secret().seal_endpoint(endpoint), hex(sealed), "{endpoint}");
        assert_eq!(secret().open_endpoint(&hex(sealed)), Ok(endpoint));
    }
}

#[test]
fn an_ipv4_endpoint_has_one_form() {
    let mapped: SocketAddr = "[::ffff:172.20.0.2]:51820".parse().unwrap();
    assert_eq!(secret().seal_endpoint(mapped), hex(ENDPOINTS[0].1));
    assert_eq!(
        secret().open_endpoint(&secret().seal_endpoint("0.0.0.0:0".parse().unwrap())).unwrap().port(),
        0
    );
}

#[test]
fn a_foreign_secret_opens_nothing() {
    let other = ClusterSecret::from_bytes([7; 32]);
    assert_eq!(other.open_member(&member().node_id, &hex(SEALED)), Err(OpenMemberError::Tag));
    assert_eq!(other.open_endpoint(&hex(ENDPOINTS[0].1)), Err(OpenEndpointError::Garbage));
}

#[test]
fn every_flipped_bit_is_noticed() {
    let sealed = hex(SEALED);
    for bit in 0..8 * sealed.len() {
        let mut damaged = sealed.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(secret().open_member(&member().node_id, &damaged), Err(OpenMemberError::Tag), "bit {bit}");
    }
}

#[test]
fn a_record_replayed_under_another_id_is_refused() {
    let inside = member().node_id.as_str().to_owned();
    assert_eq!(
        secret().open_member(&NodeId::new("somebody-else").unwrap(), &hex(SEALED)),
        Err(OpenMemberError::OtherNode { inside })
    );
}

#[test]
fn lengths_are_checked_on_both_sides() {
    let id = member().node_id;
    for len in [0, 11, 12, 27, 2049, 10_000] {
        assert_eq!(secret().open_member(&id, &vec![0; len]), Err(OpenMemberError::Length { len }));
    }
    for len in [0, 1, 15, 17, 31, 33, 48] {
        assert_eq!(secret().open_endpoint(&vec![0; len]), Err(OpenEndpointError::Length { len }));
    }
    // 220 bytes of plaintext hold 18 bytes of host name; the rest of the 2020 may be host name too.
    let mut long = member();
    long.hostname = "h".repeat(18 + 1799);
    assert_eq!(secret().seal_member(&long, nonce()).map(|sealed| sealed.len()), Ok(2048));
    long.hostname.push('h');
    assert_eq!(secret().seal_member(&long, nonce()), Err(SealMemberError::TooLong { len: 2049 }));
}

#[test]
fn what_does_not_parse_inside_a_record_costs_only_itself() {
    use prost::Message as _;
    let mut message = member_to_wire(&member());
    message.addresses.push(vec![1, 2, 3]);
    message.addresses.push(vec![0; 18]);
    let mesh = message.kubespan.as_mut().unwrap();
    mesh.address = vec![1];
    mesh.additional_addresses.push(crate::wire::client::IpPrefix { ip: vec![10, 0, 0, 0], bits: 33 });
    mesh.additional_addresses.push(crate::wire::client::IpPrefix { ip: vec![10, 244, 3, 1], bits: 24 });
    mesh.exclude_advertised_addresses.push(b"!10.0.0.0/8".to_vec());
    let opened = secret().open_member(&member().node_id, &seal_bytes(&secret(), &message.encode_to_vec()));
    let mut expected = member();
    let mesh = expected.kubespan.as_mut().unwrap();
    mesh.address = None;
    mesh.additional_addresses.push("10.244.3.0/24".parse().unwrap());
    assert_eq!(opened, Ok(expected));
}

#[test]
fn fields_of_the_future_are_skipped() {
    let future = [&hex(PLAIN)[..], &[0xfa, 0x01, 0x01, 0x2a]].concat();
    assert_eq!(secret().open_member(&member().node_id, &seal_bytes(&secret(), &future)), Ok(member()));
    let garbage = seal_bytes(&secret(), &[0xff; 40]);
    assert_eq!(secret().open_member(&member().node_id, &garbage), Err(OpenMemberError::Malformed));
}

proptest! {
    #[test]
    fn opening_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let _ = secret().open_member(&member().node_id, &bytes);
        let _ = secret().open_endpoint(&bytes);
        let _ = secret().open_endpoint(&bytes[..bytes.len().min(16)]);
        let _ = secret().open_endpoint(&bytes[..bytes.len().min(32)]);
        let _ = secret().open_member(&member().node_id, &seal_bytes(&secret(), &bytes));
    }

    #[test]
    fn endpoints_round_trip(endpoint: SocketAddr) {
        let sealed = secret().seal_endpoint(endpoint);
        prop_assert!(sealed.len() <= MAX_SEALED_ENDPOINT);
        let expected = SocketAddr::new(endpoint.ip().to_canonical(), endpoint.port());
        prop_assert_eq!(secret().open_endpoint(&sealed), Ok(expected));
    }

    #[test]
    fn records_round_trip(
        addresses: Vec<std::net::IpAddr>, hostname in ".{0,64}", nodename in ".{0,64}", port: Option<u32>,
        prefixes in proptest::collection::vec((any::<std::net::Ipv6Addr>(), 0..=128u8), 0..8), nonce: [u8; 12],
        aes: bool,
    ) {
        let mut member = member();
        member.addresses = addresses.iter().take(32).map(std::net::IpAddr::to_canonical).collect();
        member.hostname = hostname;
        member.nodename = nodename;
        member.control_plane = port.map(|api_server_port| ControlPlane { api_server_port });
        let mesh = member.kubespan.as_mut().unwrap();
        mesh.suites = aes.then_some(Suite::Aes256Gcm).into_iter().collect();
        mesh.exclude_advertised_addresses =
            prefixes.into_iter().map(|(ip, len)| ipnet::Ipv6Net::new(ip, len).unwrap().trunc().into()).collect();
        let sealed = secret().seal_member(&member, nonce).unwrap();
        prop_assert_eq!(secret().open_member(&member.node_id, &sealed), Ok(member));
    }
}
