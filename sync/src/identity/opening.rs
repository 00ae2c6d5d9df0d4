//! The opening of a log: [`LogOpening`], and the [`LogId`] it hashes to.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use consilience_base::Timestamp;

use super::{AgentId, KeyError, MeshId, Topic};
use crate::codec::{DecodeError, Reader};
use crate::hash::fixed_bytes;

const KIND: u8 = 0x28;
/// The writer is the agent's own key. Other forms will name a device's key and the key that vouches for it.
const WRITER_IS_AGENT: u8 = 0;

/// The purpose of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogKind {
    /// Its entries add up to a state. It compacts itself by relisting the entries that still count; when forked, it is
    /// invalidated.
    State,
    /// Its entries are events and are kept from its base on. When forked, it is valid below the first difference.
    Event,
}

impl LogKind {
    const fn byte(self) -> u8 {
        match self {
            Self::State => 0,
            Self::Event => 1,
        }
    }
}

/// Which of an agent's logs of one kind in a topic: a number that rises. A new one is opened by a restart without
/// storage, by a restored backup, and after a fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(u64);

impl Incarnation {
    /// From its number.
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The one that follows `previous`: the milliseconds of `now` above 16 bits of the host's randomness, and above
    /// `previous` even if the clock fell. Saturates at the greatest number.
    ///
    /// Two clones that restart in the same millisecond differ by the randomness with probability 1 − 2⁻¹⁶; if they do
    /// not, their new logs fork, and the next restart has another try.
    #[must_use]
    pub const fn next(previous: Option<Self>, now: Timestamp, random: [u8; 2]) -> Self {
        let millis = now.as_millis() & ((1 << 48) - 1);
        let [low, high] = random;
        let fresh = millis << 16 | (high as u64) << 8 | low as u64;
        match previous {
            Some(Self(last)) if last >= fresh => Self(last.saturating_add(1)),
            _ => Self(fresh),
        }
    }
}

fixed_bytes! {
    /// The id of a log: a hash that binds its mesh, topic, kind, writer and incarnation.
    LogId, 32
}

impl LogId {
    /// Its first 8 bytes, by which citations name it.
    #[must_use]
    pub const fn alias(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        [a, b, c, d, e, f, g, h]
    }
}

/// Why an opening, or something that contains one, is not accepted. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpeningError {
    /// The bytes are no form of this library: the sender's fault.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// They belong to another mesh: sender and receiver were set up differently.
    #[error("the bytes belong to another mesh")]
    WrongMesh,
    /// The writer's key is not admitted.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The facts that are known of a log before its first entry: enough to admit it or not, and to check everything in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogOpening {
    /// In which topic.
    pub topic: Topic,
    /// Its purpose.
    pub kind: LogKind,
    /// The agent whose log it is: the key that signs its heads.
    pub agent: AgentId,
    /// Which of that agent's logs.
    pub incarnation: Incarnation,
}

/// An opening with the id of its log. Deriving the id takes two hashes, so that is done once, where the opening comes
/// from, and the two are passed on together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedOpening {
    id: LogId,
    opening: LogOpening,
}

impl NamedOpening {
    /// Reads the bytes that [`LogOpening::encode`] wrote.
    ///
    /// # Errors
    ///
    /// As [`LogOpening::decode`].
    pub fn decode(bytes: &[u8], mesh: &MeshId) -> Result<Self, OpeningError> {
        Ok(LogOpening::decode(bytes, mesh)?.named(mesh))
    }

    /// The id of the log.
    #[must_use]
    pub const fn id(&self) -> &LogId {
        &self.id
    }

    /// The opening itself.
    #[must_use]
    pub const fn opening(&self) -> &LogOpening {
        &self.opening
    }

    pub(crate) fn into_opening(self) -> LogOpening {
        self.opening
    }
}

impl LogOpening {
    /// The log's id in this mesh:
    /// `derive_key("consilience log v1", mesh ‖ topic hash ‖ kind ‖ agent ‖ incarnation u64le)`,
    /// with the topic hash `derive_key("consilience topic v1", mesh ‖ topic)`.
    #[must_use]
    pub fn log_id(&self, mesh: &MeshId) -> LogId {
        let mut material = Vec::with_capacity(Topic::BYTES_MAX);
        material.extend_from_slice(mesh.as_bytes());
        material.extend_from_slice(self.topic.as_str().as_bytes());
        let topic = blake3::derive_key("consilience topic v1", &material);
        material.truncate(32);
        material.extend_from_slice(&topic);
        material.push(self.kind.byte());
        material.extend_from_slice(self.agent.as_bytes());
        material.extend_from_slice(&self.incarnation.0.to_le_bytes());
        LogId(blake3::derive_key("consilience log v1", &material))
    }

    /// With the log's id in this mesh, for all that needs both.
    #[must_use]
    pub fn named(self, mesh: &MeshId) -> NamedOpening {
        NamedOpening { id: self.log_id(mesh), opening: self }
    }

    /// Its canonical bytes, 52 and the topic's. Layout: `docs/wire/log.md`.
    #[must_use]
    pub fn encode(&self, mesh: &MeshId) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(mesh, &mut bytes);
        bytes
    }

    pub(crate) fn write(&self, mesh: &MeshId, bytes: &mut Vec<u8>) {
        bytes.push(KIND);
        bytes.extend_from_slice(&mesh.discovery_key().tag());
        bytes.extend_from_slice(&[self.kind.byte(), WRITER_IS_AGENT]);
        bytes.extend_from_slice(self.agent.as_bytes());
        bytes.extend_from_slice(&self.incarnation.0.to_le_bytes());
        let topic = self.topic.as_str().as_bytes();
        // At most 128 bytes: one byte holds the length.
        bytes.extend(u8::try_from(topic.len()));
        bytes.extend_from_slice(topic);
    }

    /// Reads the bytes that [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    ///
    /// [`OpeningError::WrongMesh`] if it was written for another mesh, else the fault in the bytes. The key is not
    /// looked at: see [`AgentKey::admit`](super::AgentKey::admit).
    pub fn decode(bytes: &[u8], mesh: &MeshId) -> Result<Self, OpeningError> {
        let mut reader = Reader::new(bytes);
        let opening = Self::read(&mut reader, mesh)?;
        reader.finish()?;
        Ok(opening)
    }

    pub(crate) fn read(reader: &mut Reader<'_>, mesh: &MeshId) -> Result<Self, OpeningError> {
        if reader.byte()? != KIND {
            return Err(DecodeError::Kind.into());
        }
        if reader.array()? != mesh.discovery_key().tag() {
            return Err(OpeningError::WrongMesh);
        }
        let kind = match reader.byte()? {
            0 => LogKind::State,
            1 => LogKind::Event,
            _ => return Err(DecodeError::Kind.into()),
        };
        if reader.byte()? != WRITER_IS_AGENT {
            return Err(DecodeError::Kind.into());
        }
        let agent = AgentId::from_bytes(reader.array()?);
        let incarnation = Incarnation(u64::from_le_bytes(reader.array()?));
        let len = reader.byte()?;
        let topic = Topic::from_utf8(reader.take(len.into())?).map_err(|_| DecodeError::NotCanonical)?;
        Ok(Self { topic, kind, agent, incarnation })
    }
}
