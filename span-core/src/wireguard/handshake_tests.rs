use super::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

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
        InitiatorState::begin(
            &mut self.rng,
            11,
            &self.alice.public,
            &self.bob.public,
            &self.shared,
            timestamp,
        )
        .unwrap()
    }

    fn open(&self, message: &[u8; INITIATION_LEN]) -> Result<OpenedInitiation, Forged> {
        let received = ReceivedInitiation::open(&self.bob.private, &self.bob.public, Initiation(message))?;
        assert_eq!(received.peer, self.alice.public);
        received.open_timestamp(&self.shared)
    }
}

#[test]
fn both_sides_derive_the_same_keys() {
    let mut exchange = Exchange::new();
    let stamp = Tai64N::from_bytes([9; 12]);
    let (state, initiation) = exchange.begin(stamp);
    let opened = exchange.open(&initiation).unwrap();
    assert_eq!(opened.timestamp, stamp);
    let preshared = PresharedKey::from_bytes([7; 32]);
    let (bobs, response) = opened.respond(&mut exchange.rng, 22, &preshared).unwrap();
    let alices = state.finish(&exchange.alice.private, &preshared, Response(&response)).unwrap();
    assert_eq!(*alices.sending, *bobs.receiving);
    assert_eq!(*alices.receiving, *bobs.sending);
    assert_ne!(*alices.sending, *alices.receiving);
    assert_eq!((alices.receiver, bobs.receiver), (22, 11));
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
    let mut exchange = Exchange::new();
    let (state, initiation) = exchange.begin(Tai64N::default());
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
    assert!(ReceivedInitiation::open(&carol.private, &carol.public, Initiation(&initiation)).is_err());
}

#[test]
fn a_claimed_static_key_needs_its_private_half() {
    let mut exchange = Exchange::new();
    // Mallory knows Alice's public key and sends it, but cannot compute the shared secret.
    let guess = [5; 32];
    let (_, initiation) = InitiatorState::begin(
        &mut exchange.rng,
        11,
        &exchange.alice.public,
        &exchange.bob.public,
        &guess,
        Tai64N::default(),
    )
    .unwrap();
    let received =
        ReceivedInitiation::open(&exchange.bob.private, &exchange.bob.public, Initiation(&initiation))
            .unwrap();
    assert!(received.open_timestamp(&exchange.shared).is_err());
}
