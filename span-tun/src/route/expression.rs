//! The few nftables expressions our rules are made of, under the names `nft` gives them.

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, Expressions, Immediate, Lookup, Meta, MetaKey, Operator, Payload, Register,
    Verdict, VerdictAttribute,
};

/// Where a payload expression counts from.
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const NF_ACCEPT: u32 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
/// The TCP option "maximum segment size", and where in it the value is.
const TCPOPT_MAXSEG: u8 = 2;
const MAXSEG_VALUE: u32 = 2;

/// `meta mark and MASK == VALUE`
pub(super) fn mark_is(mask: u32, value: u32) -> Vec<Expressions> {
    vec![load(MetaKey::Mark), bits(mask, 0), equals(&value.to_ne_bytes())]
}

/// `meta mark set meta mark and not MASK or VALUE`
pub(super) fn set_mark(mask: u32, value: u32) -> Vec<Expressions> {
    let store = Expressions::Meta(vec![Meta::Key(MetaKey::Mark), Meta::SourceRegister(Register::Reg1)]);
    vec![load(MetaKey::Mark), bits(!mask, value), store]
}

/// `accept`
pub(super) fn accept() -> Vec<Expressions> {
    let verdict = vec![VerdictAttribute::Code(Verdict::Other(NF_ACCEPT))];
    vec![Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(verdict)),
    ])]
}

/// `iif INDEX`
pub(super) fn comes_in_by(index: u32) -> Vec<Expressions> {
    vec![load(MetaKey::Iif), equals(&index.to_ne_bytes())]
}

/// `oif INDEX`
pub(super) fn goes_out_by(index: u32) -> Vec<Expressions> {
    vec![load(MetaKey::Oif), equals(&index.to_ne_bytes())]
}

/// `meta nfproto ipv4` or `ipv6`
pub(super) fn family_is(v6: bool) -> Vec<Expressions> {
    vec![load(MetaKey::Nfproto), equals(&[if v6 { NFPROTO_IPV6 } else { NFPROTO_IPV4 }])]
}

/// `ip daddr @SET` or `ip6 daddr @SET`
pub(super) fn destination_in(set: &str, v6: bool) -> Vec<Expressions> {
    let (offset, len) = if v6 { (24, 16) } else { (16, 4) };
    let lookup = vec![Lookup::SourceRegister(Register::Reg1), Lookup::Set(set.to_owned())];
    let mut all = family_is(v6);
    all.extend([payload(NETWORK_HEADER, offset, len), Expressions::Lookup(lookup)]);
    all
}

/// `tcp flags and (syn or rst) == syn tcp option maxseg size set MSS`; the kernel only ever lowers it.
pub(super) fn clamp(mss: u16) -> Vec<Expressions> {
    let option = |kind: u16, value: &[u8]| DefaultNla::new(kind, value.to_vec());
    vec![
        load(MetaKey::L4Proto),
        equals(&[IPPROTO_TCP]),
        payload(TRANSPORT_HEADER, 13, 1),
        Expressions::Bitwise(vec![
            Bitwise::SourceRegister(Register::Reg1),
            Bitwise::DestinationRegister(Register::Reg1),
            Bitwise::Length(1),
            Bitwise::Mask(DataAttribute::Value(vec![0x06])),
            Bitwise::Xor(DataAttribute::Value(vec![0])),
        ]),
        equals(&[0x02]),
        Expressions::Immediate(vec![
            Immediate::DestinationRegister(Register::Reg1),
            Immediate::Data(DataAttribute::Value(mss.to_be_bytes().to_vec())),
        ]),
        // NFTA_EXTHDR_TYPE, _OFFSET, _LEN, _OP (a TCP option) and _SREG.
        Expressions::Other {
            expression_type: "exthdr".to_owned(),
            attributes: vec![
                option(2, &[TCPOPT_MAXSEG]),
                option(3, &MAXSEG_VALUE.to_be_bytes()),
                option(4, &2u32.to_be_bytes()),
                option(6, &1u32.to_be_bytes()),
                option(7, &u32::from(Register::Reg1).to_be_bytes()),
            ],
        },
    ]
}

fn load(key: MetaKey) -> Expressions {
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(Register::Reg1)])
}

fn payload(base: u32, offset: u32, len: u32) -> Expressions {
    Expressions::Payload(vec![
        Payload::DestinationRegister(Register::Reg1),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(len),
    ])
}

/// `and MASK xor XOR` on four bytes.
fn bits(mask: u32, xor: u32) -> Expressions {
    let value = |value: u32| DataAttribute::Value(value.to_ne_bytes().to_vec());
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(Register::Reg1),
        Bitwise::DestinationRegister(Register::Reg1),
        Bitwise::Length(4),
        Bitwise::Mask(value(mask)),
        Bitwise::Xor(value(xor)),
    ])
}

fn equals(value: &[u8]) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(Operator::Equal),
        Cmp::Data(DataAttribute::Value(value.to_vec())),
    ])
}
