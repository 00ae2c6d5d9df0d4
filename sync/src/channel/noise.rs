//! Noise (revision 34): `NNpsk0`, ephemeral keys on both sides and a secret that both have already.
//!
//! `snow` runs the pattern, and has no cryptography of its own here: the [`Resolver`] gives it X25519, ChaCha20-Poly1305
//! and SHA-256 of the crates that the library has. It draws nothing either: the one secret of a handshake comes from the
//! host's entropy, and is handed in.
//!
//! Here: the two messages, and what follows from them. Not here: their frames, and who signs what (`handshake`). The
//! invariant: a state reads one message. One that was refused leaves nothing behind, as each is read by a state of its own.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use sha2::{Digest, Sha256};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Dh, Hash, Random};
use snow::{Builder, Error, HandshakeState};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

use super::cipher::{Cipher, Secret, TAG_BYTES};
#[cfg(feature = "stand-in-keys")]
use crate::identity::stand_in;

/// The pattern, by the name that goes into the hash.
const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_SHA256";
/// The bytes of a public key.
pub(super) const POINT_BYTES: usize = 32;

/// An ephemeral key: for one handshake, on one side.
#[derive(Clone)]
pub(super) struct Ephemeral {
    secret: Secret,
    /// Once it is needed: a hello that nobody takes costs no multiplication.
    public: Option<[u8; POINT_BYTES]>,
    /// Whether it is one that simulations have in place of points of the curve.
    #[cfg(feature = "stand-in-keys")]
    stands_in: bool,
}

impl Ephemeral {
    /// From 32 bytes that nobody else knows and that are used for nothing else.
    pub(super) const fn new(secret: Secret) -> Self {
        Self {
            secret,
            public: None,
            #[cfg(feature = "stand-in-keys")]
            stands_in: false,
        }
    }

    /// The one for an agent that dials: in simulations, where an agent may be a stand-in, its keys are as well.
    #[cfg_attr(not(feature = "stand-in-keys"), expect(unused_variables, reason = "for simulations"))]
    pub(super) fn dialing(secret: Secret, agent: &[u8; 32]) -> Self {
        #[cfg_attr(not(feature = "stand-in-keys"), expect(unused_mut, reason = "for simulations"))]
        let mut made = Self::new(secret);
        #[cfg(feature = "stand-in-keys")]
        {
            made.stands_in = stand_in::is_name(agent);
        }
        made
    }

    /// The one that answers a message.
    #[cfg_attr(not(feature = "stand-in-keys"), expect(unused_variables, reason = "for simulations"))]
    fn answering(secret: Secret, message: &[u8]) -> Self {
        #[cfg_attr(not(feature = "stand-in-keys"), expect(unused_mut, reason = "for simulations"))]
        let mut made = Self::new(secret);
        #[cfg(feature = "stand-in-keys")]
        {
            made.stands_in = message.first_chunk().is_some_and(stand_in::is_name);
        }
        made
    }

    /// The public key.
    pub(super) fn public(&mut self) -> [u8; POINT_BYTES] {
        let made = self.public.unwrap_or_else(|| {
            #[cfg(feature = "stand-in-keys")]
            if self.stands_in {
                return stand_in::point(&self.secret);
            }
            PublicKey::from(&StaticSecret::from(*self.secret)).to_bytes()
        });
        self.public = Some(made);
        made
    }

    /// The secret that it shares with the holder of another; none if that key is one with which everybody shares it.
    fn shared(&self, theirs: [u8; POINT_BYTES]) -> Option<Secret> {
        #[cfg(feature = "stand-in-keys")]
        if self.stands_in {
            return stand_in::shared(&self.public.unwrap_or_default(), &theirs).map(Zeroizing::new);
        }
        let shared = StaticSecret::from(*self.secret).diffie_hellman(&PublicKey::from(theirs));
        shared.was_contributory().then(|| Zeroizing::new(shared.to_bytes()))
    }
}

/// What both sides know after both messages.
pub(super) struct Outcome {
    /// Both keys of Noise's `Split`, one after the other.
    pub(super) split: Zeroizing<[u8; 64]>,
    /// The hash of the prologue and of both messages.
    pub(super) hash: [u8; 32],
}

impl Outcome {
    /// The state is dropped with it. It holds secrets that it does not wipe itself.
    fn of(mut state: HandshakeState) -> Option<Self> {
        let hash = state.get_handshake_hash().try_into().ok()?;
        let (mut first, mut second) = state.dangerously_get_raw_split();
        let mut split = Zeroizing::new([0; 64]);
        split.iter_mut().zip(first.iter().chain(&second)).for_each(|(place, byte)| *place = *byte);
        first.zeroize();
        second.zeroize();
        Some(Self { split, hash })
    }
}

/// A state before its first message.
fn state(psk: &[u8; 32], prologue: &[u8], ephemeral: Ephemeral, dials: bool) -> Option<HandshakeState> {
    let builder = Builder::with_resolver(PATTERN.parse().ok()?, Box::new(Resolver(ephemeral)));
    let builder = builder.psk(0, psk).and_then(|builder| builder.prologue(prologue)).ok()?;
    if dials { builder.build_initiator().ok() } else { builder.build_responder().ok() }
}

/// Appends the message of a state.
fn write(state: &mut HandshakeState, payload: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let from = out.len();
    out.resize(from.saturating_add(POINT_BYTES + TAG_BYTES).saturating_add(payload.len()), 0);
    state.write_message(payload, out.get_mut(from..)?).map(drop).ok()
}

/// The payload of a message.
fn read(state: &mut HandshakeState, message: &[u8]) -> Option<Vec<u8>> {
    let mut payload = vec![0; message.len().saturating_sub(POINT_BYTES + TAG_BYTES)];
    let length = state.read_message(message, &mut payload).ok()?;
    payload.truncate(length);
    Some(payload)
}

/// Appends the first message.
pub(super) fn begin(
    psk: &[u8; 32],
    prologue: &[u8],
    ephemeral: &mut Ephemeral,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Option<()> {
    ephemeral.public();
    write(&mut state(psk, prologue, ephemeral.clone(), true)?, payload, out)
}

/// Reads the second message, after a first one that is made again: a state that has read one reads no other, and the right
/// answer may come after a wrong one.
pub(super) fn finish(
    psk: &[u8; 32],
    prologue: &[u8],
    ephemeral: &Ephemeral,
    payload: &[u8],
    message: &[u8],
) -> Option<(Vec<u8>, Outcome)> {
    let mut state = state(psk, prologue, ephemeral.clone(), true)?;
    write(&mut state, payload, &mut Vec::new())?;
    let payload = read(&mut state, message)?;
    Some((payload, Outcome::of(state)?))
}

/// A first message that was read.
pub(super) struct Begun(Box<HandshakeState>);

impl Begun {
    /// Reads a first message, and gives its payload. It costs a few hashes and no multiplication: the secret that both have
    /// comes first.
    pub(super) fn read(
        psk: &[u8; 32],
        prologue: &[u8],
        secret: Secret,
        message: &[u8],
    ) -> Option<(Self, Vec<u8>)> {
        let mut state = state(psk, prologue, Ephemeral::answering(secret, message), false)?;
        let payload = read(&mut state, message)?;
        Some((Self(Box::new(state)), payload))
    }

    /// Appends the second message.
    pub(super) fn answer(mut self, payload: &[u8], out: &mut Vec<u8>) -> Option<Outcome> {
        write(&mut self.0, payload, out)?;
        Outcome::of(*self.0)
    }
}

/// The primitives.
struct Resolver(Ephemeral);

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(NoRandom))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| -> Box<dyn Dh> { Box::new(Curve(self.0.clone())) })
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        matches!(choice, HashChoice::SHA256).then(|| -> Box<dyn Hash> { Box::new(Sha(Sha256::new())) })
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn snow::types::Cipher>> {
        matches!(choice, CipherChoice::ChaChaPoly)
            .then(|| -> Box<dyn snow::types::Cipher> { Box::new(ChaCha(Cipher::new(&[0; 32]))) })
    }
}

/// Nothing is drawn here.
struct NoRandom;

impl Random for NoRandom {
    fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Error> {
        Err(Error::Rng)
    }
}

/// X25519 (RFC 7748) with the key that was handed in.
struct Curve(Ephemeral);

impl Dh for Curve {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        POINT_BYTES
    }

    fn priv_len(&self) -> usize {
        POINT_BYTES
    }

    fn set(&mut self, secret: &[u8]) {
        if let Ok(secret) = secret.try_into() {
            self.0 = Ephemeral::new(Zeroizing::new(secret));
            self.0.public();
        }
    }

    fn generate(&mut self, _: &mut dyn Random) -> Result<(), Error> {
        self.0.public();
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        self.0.public.as_ref().map_or(&[], |public| &public[..])
    }

    fn privkey(&self) -> &[u8] {
        &self.0.secret[..]
    }

    fn dh(&self, theirs: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let shared = theirs.first_chunk().and_then(|theirs| self.0.shared(*theirs)).ok_or(Error::Dh)?;
        out.get_mut(..POINT_BYTES).ok_or(Error::Dh)?.copy_from_slice(&shared[..]);
        Ok(())
    }
}

struct Sha(Sha256);

impl Hash for Sha {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0 = Sha256::new();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let hash = core::mem::take(&mut self.0).finalize();
        out.iter_mut().zip(hash).for_each(|(place, byte)| *place = byte);
    }
}

struct ChaCha(Cipher);

impl snow::types::Cipher for ChaCha {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0 = Cipher::new(key);
    }

    fn encrypt(&self, number: u64, data: &[u8], bytes: &[u8], out: &mut [u8]) -> usize {
        // The caller made room for the bytes and the tag.
        let Some((sealed, rest)) = out.split_at_mut_checked(bytes.len()) else { return 0 };
        sealed.copy_from_slice(bytes);
        let (Some(tag), Some(place)) = (self.0.seal(number, data, sealed), rest.get_mut(..TAG_BYTES)) else {
            return 0;
        };
        place.copy_from_slice(&tag);
        bytes.len().saturating_add(TAG_BYTES)
    }

    fn decrypt(&self, number: u64, data: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        self.0.open(number, data, sealed, out).ok_or(Error::Decrypt)
    }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    fn key(hex: &str) -> Secret {
        Zeroizing::new(bytes(hex).try_into().unwrap())
    }

    /// The vector of this pattern that the authors of `cacophony` published: prologue, key, both ephemeral keys, the hash,
    /// and payload and message of each turn.
    const PROLOGUE: &str = "4a6f686e2047616c74";
    const PSK: &str = "54686973206973206d7920417573747269616e20706572737065637469766521";
    const DIALS: &str = "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a";
    const LISTENS: &str = "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b";
    const HASH: &str = "f4d03dc34495c95729ea6de9e1b59004b59733102488b3e24bc441e0be208eaf";
    const MESSAGES: [(&str, &str); 6] = [
        (
            "4c756477696720766f6e204d69736573",
            "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c794479b962b8aff8485742ac32f905ba45369e2465fb59e138a93d67a0d1266b6a54",
        ),
        (
            "4d757272617920526f746862617264",
            "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843d6062704d5a9c422a8e834423f8c1feada7e8d0d910a1a2cd030fb584221e3",
        ),
        ("462e20412e20486179656b", "e632c3763d7669067383433197a3baddf146e9e70ad4b4e9e59e0f"),
        ("4361726c204d656e676572", "64c6bee32ea91c8474bb4c21d7a700109ad45af77b29764ba5eb1e"),
        (
            "4a65616e2d426170746973746520536179",
            "e2fa0bed0603b62d3ccac2ecabbf3fe33f3e86514909b323361626266cb2471cc8",
        ),
        (
            "457567656e2042f6686d20766f6e2042617765726b",
            "0c01dc9cec1fe4ddd692e8dd32188aa351088dc91183639a53b57aa4692b5ebdef8b8ca111",
        ),
    ];

    #[test]
    fn the_published_vector_comes_out() {
        let (psk, prologue) = (key(PSK), bytes(PROLOGUE));
        let [first, second] = [0, 1].map(|at| (bytes(MESSAGES[at].0), bytes(MESSAGES[at].1)));
        let mut ephemeral = Ephemeral::new(key(DIALS));
        let mut message = Vec::new();
        begin(&psk, &prologue, &mut ephemeral, &first.0, &mut message).unwrap();
        assert_eq!(message, first.1);
        let (begun, payload) = Begun::read(&psk, &prologue, key(LISTENS), &message).unwrap();
        assert_eq!(payload, first.0);
        let mut answer = Vec::new();
        let theirs = begun.answer(&second.0, &mut answer).unwrap();
        assert_eq!(answer, second.1);
        let (payload, ours) = finish(&psk, &prologue, &ephemeral, &first.0, &answer).unwrap();
        assert_eq!(payload, second.0);
        assert_eq!((ours.hash.to_vec(), theirs.hash.to_vec()), (bytes(HASH), bytes(HASH)));
        assert_eq!(ours.split, theirs.split);
        for (turn, (payload, sealed)) in MESSAGES.iter().enumerate().skip(2) {
            let from = 32 * (turn % 2);
            let cipher = Cipher::new(ours.split[from..from + 32].try_into().unwrap());
            let mut out = bytes(payload);
            let tag = cipher.seal((turn as u64 - 2) / 2, &[], &mut out).unwrap();
            out.extend(tag);
            assert_eq!(out, bytes(sealed), "turn {turn}");
        }
    }

    #[test]
    fn a_message_under_another_key_prologue_or_bytes_is_refused_and_the_right_one_is_read_after_it() {
        let (psk, mut ephemeral) = (key(PSK), Ephemeral::new(key(DIALS)));
        let mut message = Vec::new();
        begin(&psk, b"clear", &mut ephemeral, b"sealed", &mut message).unwrap();
        let listens =
            |psk: &Secret, prologue: &[u8], message: &[u8]| Begun::read(psk, prologue, key(LISTENS), message);
        assert!(listens(&key(HASH), b"clear", &message).is_none());
        assert!(listens(&psk, b"clean", &message).is_none());
        assert!(listens(&psk, b"clear", &[]).is_none());
        for at in 0..message.len() {
            let mut bad = message.clone();
            bad[at] ^= 1;
            assert!(listens(&psk, b"clear", &bad).is_none(), "byte {at}");
            assert!(listens(&psk, b"clear", &message[..at]).is_none(), "{at} bytes");
        }
        let mut answer = Vec::new();
        listens(&psk, b"clear", &message).unwrap().0.answer(b"too", &mut answer).unwrap();
        let dials = |answer: &[u8]| finish(&psk, b"clear", &ephemeral, b"sealed", answer);
        for at in 0..answer.len() {
            let mut bad = answer.clone();
            bad[at] ^= 1;
            assert!(dials(&bad).is_none() && dials(&answer[..at]).is_none(), "byte {at}");
        }
        assert_eq!(dials(&answer).unwrap().0, b"too");
    }

    #[test]
    fn a_key_with_which_everybody_shares_a_secret_is_refused() {
        let ours = Ephemeral::new(key(DIALS));
        // The points of small order, as RFC 7748 has them computed.
        let small = [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ];
        for point in small {
            assert!(ours.shared(*key(point)).is_none(), "{point}");
        }
        let mut theirs = Ephemeral::new(key(LISTENS));
        assert!(ours.shared(theirs.public()).is_some());
    }
}
