//! [`Record`]: some bytes for the host to append, and the number by which it confirms them.

use alloc::vec::Vec;

/// The number of a record: 1, 2, 3, … in the order in which they are written, without gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(u64);

impl RecordId {
    /// Before the first record: a snapshot that was made before anything was written covers up to here.
    pub const NONE: Self = Self(0);

    /// The id with this number.
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The one that follows. Nobody writes 2⁶⁴ records.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Bytes to be appended to the host's storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    id: RecordId,
    own: bool,
    bytes: Vec<u8>,
}

impl Record {
    pub(super) const fn new(id: RecordId, own: bool, bytes: Vec<u8>) -> Self {
        Self { id, own, bytes }
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> RecordId {
        self.id
    }

    /// Whether something that a local writer wrote is in it, which must not be sent before this record is durable.
    #[must_use]
    pub const fn is_own(&self) -> bool {
        self.own
    }

    /// The bytes to append, whole and after the record before.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes themselves.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
