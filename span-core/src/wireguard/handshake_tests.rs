use super::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

/// What a responder accepts: every suite of the build.
#[cfg(feature = "ring")]
const EITHER: Suites = WIREGUARDS.with(Suite::Aes256Gcm);
#[cfg(not(feature = "ring"))]
const EITHER: Suites = WIREGUARDS;
const WIREGUARDS: Suites = Suites::NONE.with(Suite::ChaCha20Poly1305);

struct Side {
    private: PrivateKey,
    public: PublicKey,
}

fn side(byte: u8) -> Side {
    let private = PrivateKey::from_bytes([byte; 32]);
    let public = private.public_key();
    Side { private, public }
}

struct Exchange {
    rng: ChaCha20Rng,
    alice: Side,
    bob: Side,
    shared: Zeroizing<[u8; 32]>,
}

impl Exchange {
    fn new() -> Self {
        let (alice, bob) = (side(1), side(2));
        let shared = diffie_hellman(&alice.private, &bob.public).unwrap();
        Exchange { rng: ChaCha20Rng::from_seed([0; 32]), alice, bob, shared }
    }

    fn begin(&mut self, timestamp: Tai64N) -> (InitiatorState, [u8; INITIATION_LEN]) {
        self.begin_in(Suite::default(), timestamp)
    }

    fn begin_in(&mut self, suite: Suite, timestamp: Tai64N) -> (InitiatorState, [u8; INITIATION_LEN]) {
        InitiatorState::begin(
            &mut self.rng,
            suite,
            11,
            &self.alice.public,
            &self.bob.public,
            &self.shared,
            timestamp,
        )
        .unwrap()
    }

    fn open(&self, message: &[u8; INITIATION_LEN]) -> Result<OpenedInitiation, Forged> {
        self.open_in(EITHER, message)
    }

    fn open_in(&self, accepted: Suites, message: &[u8; INITIATION_LEN]) -> Result<OpenedInitiation, Forged> {
        let message = Initiation(message);
        let received = ReceivedInitiation::open(&self.bob.private, &self.bob.public, accepted, message)?;
        assert_eq!(received.peer, self.alice.public);
        received.open_timestamp(&self.shared)
    }
}

#[test]
fn both_sides_derive_the_same_keys() {
    EITHER.iter().for_each(same_keys);
}

fn same_keys(suite: Suite) {
    let mut exchange = Exchange::new();
    let stamp = Tai64N::from_bytes([9; 12]);
    let (state, initiation) = exchange.begin_in(suite, stamp);
    let opened = exchange.open(&initiation).unwrap();
    assert_eq!(opened.timestamp, stamp);
    let preshared = PresharedKey::from_bytes([7; 32]);
    let (bobs, response) = opened.respond(&mut exchange.rng, 22, &preshared).unwrap();
    let alices = state.finish(&exchange.alice.private, &preshared, Response(&response)).unwrap();
    assert_eq!(*alices.sending, *bobs.receiving);
    assert_eq!(*alices.receiving, *bobs.sending);
    assert_ne!(*alices.sending, *alices.receiving);
    assert_eq!((alices.receiver, bobs.receiver), (22, 11));
    assert_eq!((alices.suite, bobs.suite), (suite, suite));
}

#[test]
fn another_preshared_key_fails_and_leaves_the_state_usable() {
    let mut exchange = Exchange::new();
    let (state, initiation) = exchange.begin(Tai64N::default());
    let preshared = PresharedKey::from_bytes([7; 32]);
    let (_, response) =
        exchange.open(&initiation).unwrap().respond(&mut exchange.rng, 22, &preshared).unwrap();
    let none = PresharedKey::default();
    assert!(state.finish(&exchange.alice.private, &none, Response(&response)).is_err());
    assert!(state.finish(&exchange.alice.private, &preshared, Response(&response)).is_ok());
}

/// Every bit of what is authenticated: the MACs after it are the cookie module's business.
#[test]
fn a_changed_bit_anywhere_is_noticed() {
    EITHER.iter().for_each(changed_bits_are_noticed);
}

fn changed_bits_are_noticed(suite: Suite) {
    let mut exchange = Exchange::new();
    let (state, initiation) = exchange.begin_in(suite, Tai64N::default());
    let preshared = PresharedKey::default();
    let (_, response) =
        exchange.open(&initiation).unwrap().respond(&mut exchange.rng, 22, &preshared).unwrap();
    // Type and sender index are covered by the MACs alone. The highest bit of a public key means nothing.
    for bit in (8 * 8..116 * 8).filter(|bit| *bit != 39 * 8 + 7).step_by(5) {
        let mut changed = initiation;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(exchange.open(&changed).is_err(), "bit {bit} of the initiation");
    }
    for bit in (12 * 8..60 * 8).step_by(5) {
        let mut changed = response;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(state.finish(&exchange.alice.private, &preshared, Response(&changed)).is_err(), "bit {bit}");
    }
}

#[test]
fn an_initiation_for_somebody_else_is_noticed() {
    let mut exchange = Exchange::new();
    let (_, initiation) = exchange.begin(Tai64N::default());
    let carol = side(3);
    let opened = ReceivedInitiation::open(&carol.private, &carol.public, EITHER, Initiation(&initiation));
    assert!(opened.is_err());
}

#[test]
fn a_claimed_static_key_needs_its_private_half() {
    let mut exchange = Exchange::new();
    // Mallory knows Alice's public key and sends it, but cannot compute the shared secret.
    let guess = [5; 32];
    let (_, initiation) = InitiatorState::begin(
        &mut exchange.rng,
        Suite::default(),
        11,
        &exchange.alice.public,
        &exchange.bob.public,
        &guess,
        Tai64N::default(),
    )
    .unwrap();
    let received = ReceivedInitiation::open(
        &exchange.bob.private,
        &exchange.bob.public,
        EITHER,
        Initiation(&initiation),
    )
    .unwrap();
    assert!(received.open_timestamp(&exchange.shared).is_err());
}

/// Written down before there was a second suite: what WireGuard's own says does not change by a byte.
#[test]
fn the_default_handshake_is_the_same_to_the_byte() {
    let mut exchange = Exchange::new();
    let (state, initiation) = exchange.begin(Tai64N::from_bytes([9; 12]));
    let preshared = PresharedKey::from_bytes([7; 32]);
    let (_, response) =
        exchange.open(&initiation).unwrap().respond(&mut exchange.rng, 22, &preshared).unwrap();
    let keys = state.finish(&exchange.alice.private, &preshared, Response(&response)).unwrap();
    let digest = hash(&[&initiation, &response, &*keys.sending, &*keys.receiving]);
    let before = [
        44, 15, 103, 33, 164, 227, 72, 200, 2, 247, 137, 5, 83, 200, 118, 125, 208, 151, 164, 157, 59, 97,
        28, 127, 240, 189, 66, 64, 152, 249, 135, 57,
    ];
    assert_eq!(digest, before);
}

fn by_noise<'a>(
    suite: Suite,
    private: &'a [u8; 32],
    preshared: &'a [u8; 32],
) -> Result<snow::Builder<'a>, snow::Error> {
    let name = core::str::from_utf8(construction(suite)).unwrap();
    snow::Builder::new(name.parse()?).prologue(IDENTIFIER)?.local_private_key(private)?.psk(2, preshared)
}

/// The handshake as Noise defines it, by an independent implementation and in either role: only the header and
/// the MACs around its messages are WireGuard's.
#[test]
fn another_implementation_of_noise_agrees() {
    let preshared = [7; 32];
    let key = PresharedKey::from_bytes(preshared);
    let stamp = Tai64N::from_bytes([9; 12]);
    for suite in EITHER.iter() {
        let mut exchange = Exchange::new();
        let alice_private = *exchange.alice.private.as_bytes();
        let bob_private = *exchange.bob.private.as_bytes();
        let (mut buffer, mut plain) = ([0; 148], [0; 148]);

        // Alice is snow.
        let builder = by_noise(suite, &alice_private, &preshared).unwrap();
        let builder = builder.remote_public_key(exchange.bob.public.as_bytes()).unwrap();
        let mut alice = builder.build_initiator().unwrap();
        assert_eq!(alice.write_message(stamp.as_bytes(), &mut buffer).unwrap(), 108);
        let mut initiation = [0; INITIATION_LEN];
        initiation[4] = 11;
        initiation[8..116].copy_from_slice(&buffer[..108]);
        let opened = exchange.open(&initiation).unwrap();
        assert_eq!(opened.timestamp, stamp);
        let (bobs, response) = opened.respond(&mut exchange.rng, 22, &key).unwrap();
        assert_eq!((bobs.suite, bobs.receiver), (suite, 11));
        assert_eq!(alice.read_message(&response[12..60], &mut plain).unwrap(), 0);
        let alice = alice.into_stateless_transport_mode().unwrap();
        for counter in [0, 1, (1 << 32) + 5] {
            let mut data = *b"from us";
            let tag = AeadKey::new(suite, &bobs.sending).seal(counter, &[], &mut data);
            let sealed = [&data[..], &tag].concat();
            assert_eq!(alice.read_message(counter, &sealed, &mut plain).unwrap(), 7);
            assert_eq!(plain[..7], *b"from us");
            let len = alice.write_message(counter, b"from snow", &mut buffer).unwrap();
            AeadKey::new(suite, &bobs.receiving).open(counter, &[], &mut buffer[..len]).unwrap();
            assert_eq!(buffer[..9], *b"from snow");
        }

        // Bob is snow.
        let builder = by_noise(suite, &bob_private, &preshared).unwrap();
        let mut bob = builder.build_responder().unwrap();
        let (state, initiation) = exchange.begin_in(suite, stamp);
        assert_eq!(bob.read_message(&initiation[8..116], &mut plain).unwrap(), 12);
        assert_eq!(plain[..12], *stamp.as_bytes());
        assert_eq!(bob.get_remote_static(), Some(&exchange.alice.public.as_bytes()[..]));
        assert_eq!(bob.write_message(&[], &mut buffer).unwrap(), 48);
        let mut response = [0; RESPONSE_LEN];
        response[12..60].copy_from_slice(&buffer[..48]);
        let alices = state.finish(&exchange.alice.private, &key, Response(&response)).unwrap();
        assert_eq!(alices.suite, suite);
        let bob = bob.into_stateless_transport_mode().unwrap();
        let len = bob.write_message(3, b"hello", &mut buffer).unwrap();
        AeadKey::new(suite, &alices.receiving).open(3, &[], &mut buffer[..len]).unwrap();
        assert_eq!(buffer[..5], *b"hello");
    }
}

#[cfg(feature = "ring")]
#[test]
fn a_suite_that_is_not_accepted_does_not_exist() {
    let mut exchange = Exchange::new();
    let (_, initiation) = exchange.begin_in(Suite::Aes256Gcm, Tai64N::default());
    assert!(exchange.open_in(WIREGUARDS, &initiation).is_err());
    let aes = Suites::NONE.with(Suite::Aes256Gcm);
    assert!(exchange.open_in(aes, &initiation).is_ok());
    let (_, initiation) = exchange.begin(Tai64N::default());
    assert!(exchange.open_in(aes, &initiation).is_err());
    assert!(exchange.open_in(EITHER, &initiation).is_ok());
}

/// The suite is no field that could be changed on the way: it is in the hash that every key and every tag of
/// the handshake comes from.
#[cfg(feature = "ring")]
#[test]
fn no_message_of_one_suite_passes_for_another() {
    let mut exchange = Exchange::new();
    let preshared = PresharedKey::default();
    let suites = [Suite::ChaCha20Poly1305, Suite::Aes256Gcm];
    for (begun, answered) in [(suites[0], suites[1]), (suites[1], suites[0])] {
        // A response made of the same initiation in another suite, as if a construction could be exchanged.
        let (mut state, initiation) = exchange.begin_in(begun, Tai64N::default());
        let mut opened = exchange.open(&initiation).unwrap();
        opened.noise.suite = answered;
        let (_, response) = opened.respond(&mut exchange.rng, 22, &preshared).unwrap();
        assert!(state.finish(&exchange.alice.private, &preshared, Response(&response)).is_err());
        // Nor does it help to believe in the other suite on both sides, but for the transcript.
        state.noise.suite = answered;
        let (_, other) = exchange.begin_in(answered, Tai64N::default());
        let (_, captured) =
            exchange.open(&other).unwrap().respond(&mut exchange.rng, 22, &preshared).unwrap();
        assert!(state.finish(&exchange.alice.private, &preshared, Response(&captured)).is_err());
    }
    // The initiation's sealed parts, relabelled.
    for suite in suites {
        let (_, initiation) = exchange.begin_in(suite, Tai64N::default());
        let other = suites.into_iter().filter(|other| *other != suite).collect();
        assert!(exchange.open_in(other, &initiation).is_err());
    }
}
