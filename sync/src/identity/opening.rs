//! The opening of a log: [`LogOpening`], and the [`LogId`] it hashes to.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;
use core::fmt;

use consilience_base::Timestamp;

use super::{AgentId, KeyError, MeshId, Topic};
use crate::codec::{DecodeError, Reader};
use crate::hash::fixed_bytes;

const KIND: u8 = 0x28;
/// BLAKE3 for the hashes and Ed25519 for the signatures, as `docs/wire/log.md` has them, and AES-256-GCM-SIV for payloads
/// once they are encrypted.
const SUITE: u8 = 1;
/// The writer is the agent's own key. Other forms will name a device's key and the key that vouches for it.
const WRITER_IS_AGENT: u8 = 0;
/// No grant is referred to. Another form will name the fact by which the agent may write.
const NO_GRANT: u8 = 0;
/// A level of a topic that can be read by all. Another form will be a token of 16 bytes in its place.
const CLEAR: u8 = 0;

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

    /// The time that [`next`](Self::next) had when it made the number. Numbers that something else chose have one as well.
    #[must_use]
    pub const fn time(self) -> Timestamp {
        Timestamp::from_millis(self.0 >> 16)
    }

    /// Whether its time lies more than `drift_ms` milliseconds ahead of `now`.
    #[must_use]
    pub const fn is_ahead(self, now: Timestamp, drift_ms: u64) -> bool {
        self.time().as_millis() > now.as_millis().saturating_add(drift_ms)
    }

    /// The one that follows `previous`: the milliseconds of `now` above 16 bits of the host's randomness, and above
    /// `previous` even if the clock fell: then of the next millisecond. Saturates at the greatest number.
    ///
    /// Two clones that restart in the same millisecond differ by the randomness with probability 1 − 2⁻¹⁶; if they do
    /// not, their new logs fork, and the next restart has another try.
    #[must_use]
    pub const fn next(previous: Option<Self>, now: Timestamp, random: [u8; 2]) -> Self {
        let millis = now.as_millis() & ((1 << 48) - 1);
        let [low, high] = random;
        let fresh = millis << 16 | (high as u64) << 8 | low as u64;
        match previous {
            // Of the next millisecond: the randomness still tells two processes apart.
            Some(Self(last)) if last >= fresh => match last.checked_add(1 << 16) {
                Some(next) => Self(next & !0xffff | fresh & 0xffff),
                None => Self(last.saturating_add(1)),
            },
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
    /// The log's suite of hash, signature and encryption is not known here: a later version of this library made it.
    #[error("the suite {suite} of the log is not known: a later version of this library made it")]
    Suite {
        /// The number of the suite.
        suite: u8,
    },
    /// A field of the opening has a form that is not known here: a later version of this library made it.
    #[error("the form {form} of the opening's {field} is not known: a later version of this library made it")]
    Form {
        /// Which field.
        field: OpeningField,
        /// The number of the form.
        form: u8,
    },
    /// The writer's key is not admitted.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl OpeningError {
    /// Whether a later version of this library made the opening: nobody is to blame, and the log is not for this program.
    #[must_use]
    pub const fn is_of_later_version(&self) -> bool {
        matches!(self, Self::Suite { .. } | Self::Form { .. })
    }
}

/// A field of an opening that has several forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpeningField {
    /// Which key signs.
    Writer,
    /// By which right the agent writes.
    Grant,
    /// A level of the topic.
    Level,
}

impl fmt::Display for OpeningField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Writer => "writer",
            Self::Grant => "grant",
            Self::Level => "topic",
        })
    }
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

/// An opening with the id of its log. Deriving the id takes a hash of all of it, so that is done once, where the opening comes
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
    /// The log's id in this mesh: `derive_key("consilience log v2", mesh id ‖ content)`, the content being the bytes of the
    /// opening after the mesh tag. So the id stands for all that the opening says.
    #[must_use]
    pub fn log_id(&self, mesh: &MeshId) -> LogId {
        let mut material = Vec::with_capacity(mesh.as_bytes().len().saturating_add(Self::BYTES_MAX));
        material.extend_from_slice(mesh.as_bytes());
        self.write_content(&mut material);
        LogId(blake3::derive_key("consilience log v2", &material))
    }

    /// With the log's id in this mesh, for all that needs both.
    #[must_use]
    pub fn named(self, mesh: &MeshId) -> NamedOpening {
        NamedOpening { id: self.log_id(mesh), opening: self }
    }

    /// The most bytes that an opening has: with a topic of 128 bytes in 64 levels.
    pub const BYTES_MAX: usize = 247;

    /// Its canonical bytes: 55, 1 more for each level of the topic, and the topic's. Layout: `docs/wire/log.md`.
    #[must_use]
    pub fn encode(&self, mesh: &MeshId) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(mesh, &mut bytes);
        bytes
    }

    pub(crate) fn write(&self, mesh: &MeshId, bytes: &mut Vec<u8>) {
        bytes.push(KIND);
        bytes.extend_from_slice(&mesh.discovery_key().tag());
        self.write_content(bytes);
    }

    /// Appends what the log's id is a hash of.
    fn write_content(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&[SUITE, self.kind.byte(), WRITER_IS_AGENT, NO_GRANT]);
        bytes.extend_from_slice(self.agent.as_bytes());
        bytes.extend_from_slice(&self.incarnation.0.to_le_bytes());
        let levels = || self.topic.as_str().split('/');
        // A topic has at most 128 bytes, so both numbers fit a byte.
        bytes.extend(u8::try_from(levels().count()));
        for level in levels() {
            bytes.push(CLEAR);
            bytes.extend(u8::try_from(level.len()));
            bytes.extend_from_slice(level.as_bytes());
        }
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
        // What follows may be spelled otherwise in another suite.
        match reader.byte()? {
            SUITE => {}
            suite => return Err(OpeningError::Suite { suite }),
        }
        let kind = match reader.byte()? {
            0 => LogKind::State,
            1 => LogKind::Event,
            _ => return Err(DecodeError::Kind.into()),
        };
        for (field, known) in [(OpeningField::Writer, WRITER_IS_AGENT), (OpeningField::Grant, NO_GRANT)] {
            let form = reader.byte()?;
            if form != known {
                return Err(OpeningError::Form { field, form });
            }
        }
        let agent = AgentId::from_bytes(reader.array()?);
        let incarnation = Incarnation(u64::from_le_bytes(reader.array()?));
        let topic = read_topic(reader)?;
        Ok(Self { topic, kind, agent, incarnation })
    }
}

/// Reads the levels of a topic.
fn read_topic(reader: &mut Reader<'_>) -> Result<Topic, OpeningError> {
    let mut name = Vec::with_capacity(Topic::BYTES_MAX);
    for level in 0..reader.byte()? {
        match reader.byte()? {
            CLEAR => {}
            form => return Err(OpeningError::Form { field: OpeningField::Level, form }),
        }
        let len = reader.byte()?;
        let bytes = reader.take(len.into())?;
        // A slash would make two levels of one.
        if bytes.contains(&b'/') {
            return Err(DecodeError::NotCanonical.into());
        }
        if level > 0 {
            name.push(b'/');
        }
        name.extend_from_slice(bytes);
        if name.len() > Topic::BYTES_MAX {
            return Err(DecodeError::NotCanonical.into());
        }
    }
    Ok(Topic::from_utf8(&name).map_err(|_| DecodeError::NotCanonical)?)
}
