//! The keys that bind every hash of a log to that log.
//!
//! A key per use instead of a prefix byte: a keyed BLAKE3 of 64 bytes is one compression, with a prefix it would be
//! two. The invariant: since the keys derive from the log's id, which derives from mesh, topic, writer and incarnation,
//! no hash of one log means anything in another.

use core::fmt;

use crate::hash::Hash;
use crate::identity::LogId;

/// The keys of one log, derived from its id.
#[derive(Clone)]
pub(crate) struct LogKeys {
    leaf: [u8; 32],
    node: [u8; 32],
    payload: [u8; 32],
    extension: [u8; 32],
}

impl LogKeys {
    pub(crate) fn new(log: &LogId) -> Self {
        let key = |context| blake3::derive_key(context, log.as_bytes());
        Self {
            leaf: key("consilience log leaf v2"),
            node: key("consilience log node v2"),
            payload: key("consilience log payload v2"),
            extension: key("consilience log extension v2"),
        }
    }

    /// The hash of a salt and the payload after it.
    pub(crate) fn payload(&self, salted: &[u8]) -> Hash {
        Hash::from_bytes(*blake3::keyed_hash(&self.payload, salted).as_bytes())
    }

    pub(crate) fn extension(&self, extension: &[u8]) -> Hash {
        Hash::from_bytes(*blake3::keyed_hash(&self.extension, extension).as_bytes())
    }

    /// The hash of a leaf's bytes: 64, or 96 with an extension.
    pub(crate) fn leaf(&self, bytes: &[u8]) -> Hash {
        Hash::from_bytes(*blake3::keyed_hash(&self.leaf, bytes).as_bytes())
    }

    #[inline]
    pub(crate) fn node(&self, left: &Hash, right: &Hash) -> Hash {
        let mut bytes = [0; 64];
        let (low, high) = bytes.split_at_mut(32);
        low.copy_from_slice(left.as_bytes());
        high.copy_from_slice(right.as_bytes());
        Hash::from_bytes(*blake3::keyed_hash(&self.node, &bytes).as_bytes())
    }
}

impl fmt::Debug for LogKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogKeys")
    }
}
