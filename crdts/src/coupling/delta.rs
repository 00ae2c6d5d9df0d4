//! [`CouplingDelta`]: changed contributions on their way to a peer, as the canonical bytes that they are sent in.

use alloc::vec::Vec;
use core::fmt;

use super::schema::CouplingSchema;
use super::wire::{Encoder, RowContribution, RowReader};
use crate::bytes::{DecodeError, serde_as_canonical_bytes};
use crate::dot::ActorId;

/// Some contributions of a collection: those that one call changed, or that
/// [`Coupling::delta_since`](super::Coupling::delta_since) joined.
///
/// A delta is itself a state, of the same lattice and in the same bytes: deltas join, and may be lost, repeated and
/// reordered. A lost delta is made up for by any later delta or state that covers it.
///
/// A delta holds bytes that were found canonical, so two deltas that say the same are equal.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CouplingDelta {
    bytes: Vec<u8>,
}

impl CouplingDelta {
    /// From canonical bytes, which are read once. Errors on any others.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        RowReader::open(bytes)?.check()?;
        Ok(Self { bytes: bytes.to_vec() })
    }

    /// The canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    /// The canonical bytes, borrowed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The canonical bytes, given away.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Whether the delta is empty: it changes no state into which it is merged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.walk().is_none_or(|walk| walk.rows_left == 0)
    }

    /// From bytes that an encoder of this crate made.
    pub(super) const fn from_canonical(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    pub(super) fn empty(schema: &CouplingSchema) -> Self {
        Self { bytes: Encoder::new(schema, [].iter(), 0).finish() }
    }

    /// One contributor's instants under one key.
    pub(super) fn single(
        schema: &CouplingSchema,
        actor: &ActorId,
        key: &[u8],
        strengthened: u64,
        weakened: u64,
    ) -> Self {
        let mut writer = Encoder::new(schema, [*actor].iter(), 1);
        writer.row(key, core::iter::once(RowContribution { actor: 0, strengthened, weakened }));
        Self { bytes: writer.finish() }
    }

    /// A reader from the first row on. The bytes were validated, so there always is one.
    pub(super) fn walk(&self) -> Option<RowReader<'_>> {
        RowReader::open(&self.bytes).ok()
    }
}

impl fmt::Debug for CouplingDelta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CouplingDelta({} bytes)", self.bytes.len())
    }
}

serde_as_canonical_bytes!(CouplingDelta);
