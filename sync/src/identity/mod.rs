//! Identities: meshes, agents and their keys, topics, and the ids of logs.
//!
//! The invariant: a value of one of these types was checked. A [`Topic`] is well formed, an [`AgentKey`] is a key under
//! which a signature means one thing; an [`AgentId`] is any 32 bytes until it is admitted.

mod filter;
mod keys;
mod opening;
#[cfg(feature = "stand-in-keys")]
pub(crate) mod stand_in;
mod topic;

use core::fmt;

use crate::hash::fixed_bytes;

pub use filter::TopicFilter;
#[cfg(feature = "stand-in-keys")]
pub use keys::StandIn;
pub use keys::{AgentKey, KeyError, Keypair, SignError, Signature, Signer, SigningTag};
pub use opening::{Incarnation, LogId, LogKind, LogOpening, NamedOpening, OpeningError, OpeningField};
pub use topic::{Topic, TopicError};

/// The secret of a mesh: 32 bytes that its members share, and by which a session knows that a member speaks.
///
/// Draw it from a source of randomness, and keep it: it goes into the handshake of sessions and nowhere else. Who has it may
/// call and be answered; what others say to each other it does not open.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MeshSecret([u8; 32]);

impl MeshSecret {
    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes. Every agent that has them is a member.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The mesh's public name: `derive_key("consilience mesh id v1", secret)`, which does not give the secret away.
    #[must_use]
    pub fn id(&self) -> MeshId {
        MeshId(blake3::derive_key("consilience mesh id v1", &self.0))
    }
}

impl fmt::Debug for MeshSecret {
    /// The mesh's public name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MeshSecret of ")?;
        self.id().fmt(f)
    }
}

fixed_bytes! {
    /// A mesh by its public name. Bound into the id of every log, so nothing of one mesh is valid in another.
    ///
    /// Whoever knows it can check logs and bundles of the mesh, and make some in its own agent's name; it opens no
    /// session. In a mesh of members that share a secret it is [`MeshSecret::id`].
    MeshId, 32
}

impl MeshId {
    /// The bytes by which members may be found, for example in a directory that is open to all: they do not even give
    /// the public name away.
    #[must_use]
    pub fn discovery_key(&self) -> DiscoveryKey {
        DiscoveryKey(blake3::derive_key("consilience discovery v1", &self.0))
    }
}

fixed_bytes! {
    /// A hash of a [`MeshId`] that does not give that away.
    DiscoveryKey, 32
}

impl DiscoveryKey {
    /// Its first 8 bytes. They tell bytes of another mesh from bytes that were changed, and prove nothing.
    #[must_use]
    pub fn tag(&self) -> [u8; 8] {
        core::array::from_fn(|at| self.0[at])
    }
}

fixed_bytes! {
    /// An agent: the 32 bytes of an Ed25519 public key, not checked yet. [`AgentKey::admit`] checks them.
    AgentId, 32
}

impl fmt::Display for AgentId {
    /// All 32 bytes in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
