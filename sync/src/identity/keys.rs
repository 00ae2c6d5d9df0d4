//! Ed25519 keys and signatures (RFC 8032), with a strict reading of validity.
//!
//! Two things make a signature mean one thing to everybody. A public key is *admitted* once: its bytes are the
//! canonical ones, and its point has no part of small order, so no signature verifies for messages it was not made
//! for. And each signature is checked on its own with `verify_strict`: the equation without the cofactor, a reduced
//! `s`, no small-order `R`. Batch verification is not used anywhere: it accepts, depending on the company, signatures
//! that single verification refuses (Chalkias et al. 2020).

use alloc::sync::Arc;
use core::fmt;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};

use super::AgentId;
#[cfg(feature = "stand-in-keys")]
use super::stand_in;
use crate::hash::fixed_bytes;

/// The purpose of a signature. The 32 bytes of the tag begin the signed message, so no signature of one kind is one of
/// another. The reasons for which each statement has its own are in `docs/decisions/signed-bytes.md`.
///
/// Only heads, handshakes and the end of events are signed yet. The other tags are reserved, so that nothing else ever
/// takes their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SigningTag {
    /// A log's head: everything below its size.
    Head,
    /// The transcript of a session's handshake; a byte after the tag says which side signs.
    Handshake,
    /// Events that their writer gives up for good.
    Pruned,
    /// Reserved: the naming of a device's key by an agent's key.
    Delegation,
    /// Reserved: another fact of its agent's own logs.
    Fact,
    /// Reserved: a right that is given to an agent.
    Grant,
    /// Reserved: the end of the rights of an agent.
    Revocation,
    /// Reserved: the logs and sizes that still count of an agent that is gone.
    Closing,
    /// Reserved: where an agent may be reached.
    Hint,
    /// Reserved: what an agent says of its present state, for a time.
    Slot,
    /// Reserved: a message that is not kept.
    Message,
    /// Reserved: the word that something was received or done.
    Receipt,
}

impl SigningTag {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Head,
        Self::Handshake,
        Self::Pruned,
        Self::Delegation,
        Self::Fact,
        Self::Grant,
        Self::Revocation,
        Self::Closing,
        Self::Hint,
        Self::Slot,
        Self::Message,
        Self::Receipt,
    ];

    /// The bytes that begin the message.
    #[must_use]
    pub const fn as_bytes(self) -> &'static [u8; 32] {
        match self {
            Self::Head => b"consilience signed log head v1\0\0",
            Self::Handshake => b"consilience signed handshake v1\0",
            Self::Pruned => b"consilience signed pruned v1\0\0\0\0",
            Self::Delegation => b"consilience signed delegation v1",
            Self::Fact => b"consilience signed fact v1\0\0\0\0\0\0",
            Self::Grant => b"consilience signed grant v1\0\0\0\0\0",
            Self::Revocation => b"consilience signed revocation v1",
            Self::Closing => b"consilience signed closing v1\0\0\0",
            Self::Hint => b"consilience signed hint v1\0\0\0\0\0\0",
            Self::Slot => b"consilience signed slot v1\0\0\0\0\0\0",
            Self::Message => b"consilience signed message v1\0\0\0",
            Self::Receipt => b"consilience signed receipt v1\0\0\0",
        }
    }
}

fixed_bytes! {
    /// An Ed25519 signature: 64 bytes. Never an identity: an author can make many valid ones of one message.
    Signature, 64
}

/// Why a signer did not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The signer is out of reach or refused. Nothing changed; try again.
    #[error("the signer is out of reach or refused")]
    Unavailable,
    /// The signer is of another agent than the log. Nothing changed.
    #[error("the signer is of another agent than the log")]
    OtherAgent,
    /// The writer has signed more of this log than is here: it was restored from a backup. Nothing changed; receive the
    /// rest from others, or go on in the next incarnation.
    #[error("the writer has signed more of this log than is here")]
    Behind,
}

/// Something that signs for one agent: a [`Keypair`], or the host's way to keys in hardware.
pub trait Signer {
    /// The agent for whom it signs.
    fn agent(&self) -> AgentId;

    /// Signs these bytes as they are (Ed25519, no prehash). They begin with a [`SigningTag`].
    ///
    /// # Errors
    ///
    /// [`SignError::Unavailable`] when it cannot sign now.
    fn sign(&self, message: &[u8]) -> Result<Signature, SignError>;
}

/// An agent's secret key in memory; wiped when dropped.
#[derive(Clone)]
pub struct Keypair(SigningKey);

impl Keypair {
    /// From the 32 secret bytes of RFC 8032. Draw them from a source of randomness, and keep them.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }
}

impl Signer for Keypair {
    fn agent(&self) -> AgentId {
        AgentId::from_bytes(self.0.verifying_key().to_bytes())
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        Ok(Signature(self.0.sign(message).to_bytes()))
    }
}

impl fmt::Debug for Keypair {
    /// The public half.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keypair of ")?;
        self.agent().fmt(f)
    }
}

/// An identity that everybody can sign for: its signatures are hashes, for simulations of which millions of signatures would
/// take most of the time.
///
/// It is as if an agent had published its secret key. No other identity is any weaker for it: its bytes begin with a mark, and
/// are admitted as a stand-in's before they are looked at as a point of the curve.
#[cfg(feature = "stand-in-keys")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandIn(AgentId);

#[cfg(feature = "stand-in-keys")]
impl StandIn {
    /// From 16 bytes that tell it from others.
    #[must_use]
    pub fn new(name: [u8; 16]) -> Self {
        Self(AgentId::from_bytes(stand_in::name(name)))
    }
}

#[cfg(feature = "stand-in-keys")]
impl Signer for StandIn {
    fn agent(&self) -> AgentId {
        self.0
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        Ok(Signature(stand_in::signature(self.0.as_bytes(), message)))
    }
}

/// Why a public key is not admitted. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The bytes are no point of the curve.
    #[error("the bytes are no point of the curve")]
    NotAPoint,
    /// The bytes are another spelling of a point.
    #[error("the key is not in its canonical bytes")]
    NotCanonical,
    /// The point is of small order: such a key signs anything.
    #[error("the key is of small order")]
    SmallOrder,
    /// The point has a part of small order: verifiers disagree about its signatures.
    #[error("the key has a part of small order")]
    MixedOrder,
}

/// A public key that was admitted. Cheap to clone.
#[derive(Clone)]
pub struct AgentKey(Admitted);

#[derive(Clone)]
enum Admitted {
    Ed25519(Arc<VerifyingKey>),
    #[cfg(feature = "stand-in-keys")]
    StandIn(AgentId),
}

impl AgentKey {
    /// Checks a key, once: this costs about as much as a signature.
    ///
    /// # Errors
    ///
    /// The fault in the key; see [`KeyError`].
    pub fn admit(agent: &AgentId) -> Result<Self, KeyError> {
        #[cfg(feature = "stand-in-keys")]
        if stand_in::is_name(agent.as_bytes()) {
            return Ok(Self(Admitted::StandIn(*agent)));
        }
        let key = VerifyingKey::from_bytes(agent.as_bytes()).map_err(|_| KeyError::NotAPoint)?;
        let point = key.to_edwards();
        // The key remembers the bytes it was given; only the point knows the canonical ones.
        if point.compress().as_bytes() != agent.as_bytes() {
            return Err(KeyError::NotCanonical);
        }
        if key.is_weak() {
            return Err(KeyError::SmallOrder);
        }
        if !point.is_torsion_free() {
            return Err(KeyError::MixedOrder);
        }
        Ok(Self(Admitted::Ed25519(Arc::new(key))))
    }

    /// The agent whose key it is.
    #[must_use]
    pub fn agent(&self) -> AgentId {
        match &self.0 {
            Admitted::Ed25519(key) => AgentId::from_bytes(key.to_bytes()),
            #[cfg(feature = "stand-in-keys")]
            Admitted::StandIn(agent) => *agent,
        }
    }

    /// Whether this is a signature of exactly these bytes under this key.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        match &self.0 {
            Admitted::Ed25519(key) => {
                key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0)).is_ok()
            }
            #[cfg(feature = "stand-in-keys")]
            Admitted::StandIn(agent) => stand_in::signature(agent.as_bytes(), message) == signature.0,
        }
    }
}

impl fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AgentKey of ")?;
        self.agent().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_statement_has_the_tag_of_another() {
        for (at, one) in SigningTag::ALL.iter().enumerate() {
            assert!(SigningTag::ALL.iter().skip(at + 1).all(|other| other.as_bytes() != one.as_bytes()));
            let name: Vec<u8> = one.as_bytes().iter().copied().take_while(|byte| *byte != 0).collect();
            assert!(name.starts_with(b"consilience signed ") && name.ends_with(b" v1"));
        }
    }
}
