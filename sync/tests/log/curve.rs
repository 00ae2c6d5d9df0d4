//! Keys and signatures that some verifiers accept: mixed and small order, other spellings, a torsioned `R`, `s + ℓ`.

use consilience_sync::{
    Admission, AgentId, AgentKey, HeadError, KeyError, Limits, Log, LogKind, LogOpening, LogSet, OpenError,
    OpeningError, RangeForm, ReceiveError, Received, SignError, Signature, SignedHead, Signer,
};
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::traits::{Identity, IsIdentity};
use curve25519_dalek::{EdwardsPoint, Scalar};
use ed25519_dalek::{Digest as _, Sha512, SigningKey, verify_batch};

use super::common::{
    T, ada, empty, follower, item, mesh, opening, plain, range, receive, seen, time, written,
};
use super::plain::{Ink, Plain};

/// The secret key behind [`ada`].
fn secret() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn challenge(r: &[u8], key: &[u8], message: &[u8]) -> Scalar {
    let digest = Sha512::new().chain_update(r).chain_update(key).chain_update(message).finalize();
    Scalar::from_bytes_mod_order_wide(&digest.into())
}

/// A signature with a nonce of the author's choice, and with a part of small order added to `R`.
fn sign_oddly(message: &[u8], nonce: u64, torsion: EdwardsPoint) -> [u8; 64] {
    let (secret, nonce) = (secret(), Scalar::from(nonce));
    let r = (ED25519_BASEPOINT_POINT * nonce + torsion).compress();
    let k = challenge(r.as_bytes(), secret.verifying_key().as_bytes(), message);
    let s = nonce + k * secret.to_scalar();
    [*r.as_bytes(), s.to_bytes()].concat().try_into().unwrap()
}

/// Whether the equation with the cofactor holds, which is what some verifiers ask for.
fn holds_with_cofactor(message: &[u8], signature: &[u8; 64]) -> bool {
    let key = secret().verifying_key();
    let (r, s) = signature.split_at(32);
    let k = challenge(r, key.as_bytes(), message);
    let s = Scalar::from_canonical_bytes(s.try_into().unwrap()).unwrap();
    let r = CompressedEdwardsY::from_slice(r).unwrap().decompress().unwrap();
    (ED25519_BASEPOINT_POINT * s - key.to_edwards() * k - r).mul_by_cofactor().is_identity()
}

/// Signs as [`ada`], with another nonce.
struct Again(u64);

impl Signer for Again {
    fn agent(&self) -> AgentId {
        ada().agent()
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        Ok(Signature::from_bytes(sign_oddly(message, self.0, EdwardsPoint::identity())))
    }
}

/// That nothing of an agent with this key is accepted anywhere.
fn assert_not_admitted(key: [u8; 32], error: KeyError) {
    let agent = AgentId::from_bytes(key);
    assert_eq!(AgentKey::admit(&agent).unwrap_err(), error);
    let opening = LogOpening { agent, ..opening(LogKind::State) };
    assert_eq!(Log::new(opening.clone(), &mesh()).unwrap_err(), error);
    let mut set = LogSet::new(mesh(), Limits::default());
    assert_eq!(set.open(&opening, |_| Admission::Hold), Err(OpenError::Key(error)));
    assert_eq!(set.open_local(&opening), Err(OpenError::Key(error)));
    assert_eq!((set.stats().logs, set.logs().count()), (0, 0));
    // Its opening can be read and passed on; a head cannot.
    assert_eq!(LogOpening::decode(&opening.encode(&mesh()), &mesh()), Ok(opening.clone()));
    let model = Plain::new(mesh(), opening, ada()).with((0..2).map(item));
    let mut ink = Ink::default();
    model.head_bytes(model.said(2, T), &mut ink);
    let refused = HeadError::Opening(OpeningError::Key(error));
    assert_eq!(SignedHead::decode(&ink.bytes, &mesh()), Err(refused));
}

#[test]
fn keys_of_mixed_order_are_not_admitted() {
    for torsion in &EIGHT_TORSION[1..] {
        let key = (secret().verifying_key().to_edwards() + torsion).compress();
        assert_not_admitted(key.to_bytes(), KeyError::MixedOrder);
    }
}

#[test]
fn keys_of_small_order_are_not_admitted() {
    for torsion in &EIGHT_TORSION {
        assert_not_admitted(torsion.compress().to_bytes(), KeyError::SmallOrder);
    }
}

#[test]
fn other_spellings_of_keys_are_not_admitted() {
    let mut spellings = 0;
    for y in 0..19_u8 {
        for sign in [0, 0x80] {
            // p + y, where p is 2²⁵⁵ − 19.
            let mut bytes = [0xff; 32];
            bytes[0] = 0xed + y;
            bytes[31] = 0x7f | sign;
            let point = CompressedEdwardsY(bytes).decompress();
            let error = if point.is_some() { KeyError::NotCanonical } else { KeyError::NotAPoint };
            spellings += u32::from(point.is_some_and(|point| !point.is_small_order()));
            assert_not_admitted(bytes, error);
        }
    }
    assert!(spellings > 4, "{spellings} of them are points that sign");
    // No x is its own negative but 0.
    for y in [[1, 0], [0xec, 0xff]] {
        let mut bytes = [y[1]; 32];
        bytes[0] = y[0];
        bytes[31] = y[1] | 0x80;
        assert!(AgentKey::admit(&AgentId::from_bytes(bytes)).is_err());
    }
    assert_not_admitted([2; 32], KeyError::NotAPoint);
}

/// A log of five entries as the plain model, with every way in which its head can come.
fn assert_refused_everywhere(model: &Plain, at: u64, signature: &[u8; 64]) {
    let size = model.size();
    let said = model.said(size, at);
    let key = AgentKey::admit(&ada().agent()).unwrap();
    let odd = Signature::from_bytes(*signature);
    assert!(!key.verifies(&model.message(said), &odd));
    let mut copy = follower(&written(LogKind::State, (0..2).map(item), T), 2);
    let before = seen(&copy);
    for (from, alone, error) in [
        (2, false, ReceiveError::Unproven),
        (2, true, ReceiveError::BadSignature),
        (4, true, ReceiveError::BadSignature),
    ] {
        let mut ink = Ink::default();
        model.range_signed((from, size), alone, said, signature, &mut ink);
        assert_eq!(receive(&mut copy, &ink.bytes), Err(error));
        let reader = copy.clone();
        assert!(reader.verify(&ink.bytes, &mut super::common::budget()).is_err());
    }
    assert_eq!(seen(&copy), before);
    let root = consilience_sync::Hash::from_bytes(model.root(size));
    let head = SignedHead { size, base: said.base, time: time(at), root, signature: odd };
    assert!(!head.verifies(copy.id(), &key));
    let bytes = head.encode(&model.opening, &mesh());
    assert_eq!(SignedHead::decode(&bytes, &mesh()), Err(HeadError::BadSignature));
    // The same with an honest signature goes everywhere.
    assert!(receive(&mut copy, &model.range((2, size), false, said)).is_ok());
}

#[test]
fn a_torsioned_signature_that_batch_verification_accepts_is_refused() {
    let model = plain(LogKind::State).with((0..5).map(item));
    let key = secret().verifying_key();
    let (mut accepted, mut refused) = (0, 0);
    for at in 0..400 {
        let message = model.message(model.said(5, T + at));
        let torsion = EIGHT_TORSION[1 + at as usize % 7];
        let odd = sign_oddly(&message, 77 + at, torsion);
        assert!(holds_with_cofactor(&message, &odd));
        let company = model.message(model.said(4, T + at));
        let good = sign_oddly(&company, 9, EdwardsPoint::identity());
        let signatures = [odd, good].map(|bytes| ed25519_dalek::Signature::from_bytes(&bytes));
        if verify_batch(&[&message, &company], &signatures, &[key, key]).is_err() {
            refused += 1;
            continue;
        }
        accepted += 1;
        assert_refused_everywhere(&model, T + at, &odd);
    }
    assert!(accepted > 20 && refused > 200, "a batch accepts it or not, as it comes: {accepted}, {refused}");
}

#[test]
fn a_signature_with_the_order_of_the_group_added_to_s_is_refused() {
    let model = plain(LogKind::State).with((0..5).map(item));
    let mut signature = model.sign(model.said(5, T));
    let mut order = (-Scalar::ONE).to_bytes();
    order[0] += 1;
    let mut carry = 0;
    for (byte, more) in signature[32..].iter_mut().zip(order) {
        carry += u16::from(*byte) + u16::from(more);
        *byte = carry as u8;
        carry >>= 8;
    }
    assert_eq!(carry, 0);
    assert_refused_everywhere(&model, T, &signature);
}

#[test]
fn a_signature_whose_r_is_of_small_order_is_refused() {
    let model = plain(LogKind::State).with((0..5).map(item));
    for torsion in EIGHT_TORSION {
        let signature = sign_oddly(&model.message(model.said(5, T)), 0, torsion);
        assert_refused_everywhere(&model, T, &signature);
    }
}

#[test]
fn the_same_content_signed_twice_has_one_identity_and_is_no_fork() {
    let mut log = written(LogKind::State, (0..5).map(item), T);
    let mut twin = empty(LogKind::State);
    (0..5).for_each(|seq| super::common::append(&mut twin, &item(seq)));
    let (one, other) = (*log.head().unwrap(), twin.sign_head(&Again(5), time(T)).unwrap());
    assert_ne!(one.signature, other.signature);
    assert_eq!((one.root, one.size, one.base, one.time), (other.root, other.size, other.base, other.time));
    assert_eq!(one.id(log.id()), other.id(log.id()));
    for head in [one, other] {
        assert!(head.verifies(log.id(), log.key()));
        let bytes = head.encode(log.opening(), &mesh());
        assert_eq!(SignedHead::decode(&bytes, &mesh()), Ok((log.opening().clone(), head)));
    }
    for (mine, theirs) in [(&log, &twin), (&twin, &log)] {
        let mut copy = follower(mine, 5);
        let before = seen(&copy);
        for (from, form) in
            [(5, RangeForm::Follow), (5, RangeForm::Alone), (0, RangeForm::Alone), (3, RangeForm::Follow)]
        {
            assert_eq!(receive(&mut copy, &range(theirs, from, 5, form)), Ok(Received::Nothing));
        }
        assert_eq!(seen(&copy), before);
    }
    // The identity is of what is said, so another time is another one.
    let later = log.sign_head(&ada(), time(T + 1)).unwrap();
    assert_ne!(later.id(log.id()), one.id(log.id()));
}
