//! Names: of writers ([`ActorId`]) and of single writes ([`Dot`]).

use core::fmt;

/// The greatest counter of a dot. The bits above are left to the codec.
pub const COUNTER_MAX: u64 = (1 << 60) - 1;

/// The name of one writer: 1 to 32 bytes, ordered as bytes.
///
/// Every writer of a collection needs its own, for ever: two writers under one name mint the same dots and lose
/// each other's writes, and a writer that lost its state must take a new name. Public keys and hashes fit as they
/// are; among trusted processes a short name saves bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorId {
    // Padded with zeros, so that (bytes, len) orders as the byte strings do.
    bytes: [u8; 32],
    len: u8,
}

impl ActorId {
    /// The greatest length of a name, in bytes.
    pub const BYTES_MAX: usize = 32;

    /// From 1 to 32 bytes; `None` for any other length.
    #[must_use]
    pub fn new(name: &[u8]) -> Option<Self> {
        let len = u8::try_from(name.len()).ok().filter(|len| *len > 0)?;
        let mut bytes = [0; Self::BYTES_MAX];
        bytes.get_mut(..name.len())?.copy_from_slice(name);
        Some(Self { bytes, len })
    }

    /// The name's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }
}

impl From<[u8; 32]> for ActorId {
    fn from(bytes: [u8; 32]) -> Self {
        Self { bytes, len: 32 }
    }
}

impl From<u64> for ActorId {
    /// Eight bytes, most significant first, so that names sort as the numbers do.
    fn from(number: u64) -> Self {
        let mut bytes = [0; Self::BYTES_MAX];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        Self { bytes, len: 8 }
    }
}

impl fmt::Debug for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.as_bytes() {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl serde::Serialize for ActorId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.as_bytes())
    }
}

impl<'de> serde::Deserialize<'de> for ActorId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(crate::bytes::CanonicalVisitor(|bytes| {
            Self::new(bytes).ok_or(crate::bytes::DecodeError::Limit)
        }))
    }
}

/// The name of one write: its writer, and how many that writer had made (from 1, at most [`COUNTER_MAX`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Dot {
    /// The writer.
    pub actor: ActorId,
    /// Counts the writer's writes from 1.
    pub counter: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_order_as_their_bytes() {
        let mut names = [&b"a"[..], b"a\0", b"a\0\0", b"ab", b"b", &[0], &[0, 0], &[255; 32]];
        names.sort_unstable();
        let ids = names.map(|name| ActorId::new(name).unwrap());
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(names.iter().zip(ids).all(|(name, id)| id.as_bytes() == *name));
        assert!(ActorId::from(2) > ActorId::from(1) && ActorId::from(256) > ActorId::from(255));
    }

    #[test]
    fn empty_and_over_long_names_are_refused() {
        assert_eq!(ActorId::new(&[]), None);
        assert_eq!(ActorId::new(&[7; 33]), None);
    }
}
