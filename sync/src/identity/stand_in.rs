//! [`StandIn`]: identities whose signatures are hashes, for simulations of which millions of signatures would take most of
//! the time.
//!
//! A stand-in signs nothing: everybody can make its signatures, as everybody could of an agent that had published its
//! secret key. No other identity is any weaker for it: its bytes begin with a mark, and are admitted as a stand-in's before
//! they are looked at as a point of the curve.

use super::{AgentId, SignError, Signature, Signer};

const MARK: &[u8; 16] = b"stand-in, forged";

/// An identity that everybody can sign for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandIn(AgentId);

impl StandIn {
    /// From 16 bytes that tell it from others.
    #[must_use]
    pub fn new(name: [u8; 16]) -> Self {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(MARK);
        bytes[16..].copy_from_slice(&name);
        Self(AgentId::from_bytes(bytes))
    }

    /// The stand-in of this name, if it is one.
    pub(super) fn admit(agent: &AgentId) -> Option<Self> {
        agent.as_bytes().starts_with(MARK).then_some(Self(*agent))
    }

    fn signature(&self, message: &[u8]) -> Signature {
        let mut signature = [0; 64];
        let hash = blake3::keyed_hash(self.0.as_bytes(), message);
        signature[..32].copy_from_slice(hash.as_bytes());
        signature[32..].copy_from_slice(hash.as_bytes());
        Signature::from_bytes(signature)
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        self.signature(message) == *signature
    }
}

impl Signer for StandIn {
    fn agent(&self) -> AgentId {
        self.0
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        Ok(self.signature(message))
    }
}
