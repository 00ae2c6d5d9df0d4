//! Joins: deltas, bytes and states into a state. Values are read only to report changes.
//!
//! The invariant, and the whole idea of the proofs: a state is a map from (key, contributor, sign) to an instant, 0
//! where there is none, and a join takes the later of two instants everywhere. So joins are commutative, associative
//! and idempotent because the maximum of integers is; a mutator only ever raises one instant, so it is an inflation,
//! and the state after it is the join of the state before and the delta it returns.

use alloc::vec::Vec;

use consilience_base::Timestamp;

use super::contribution::{Origin, Row};
use super::delta::CouplingDelta;
use super::schema::SchemaMismatch;
use super::state::Coupling;
use super::units::Units;
use super::view;
use super::wire::{RowContribution, RowReader};
use crate::bytes::DecodeError;

/// A key whose sum a merge changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CouplingChange<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value of the sum before, at the `now` of the merge.
    pub old: Units,
    /// The value of the sum after it, at the same instant.
    pub new: Units,
}

impl CouplingDelta {
    /// The join of two deltas: merging it does the same as merging both, in either order. Errors if the schemas differ.
    pub fn join(&self, other: &Self) -> Result<Self, SchemaMismatch> {
        let Ok(mut joined) = Coupling::decode(self.as_bytes()) else {
            unreachable!("the bytes were validated")
        };
        Ok(if joined.merge(other)? { Self::from_canonical(joined.encode()) } else { self.clone() })
    }
}

impl Coupling {
    /// Takes a delta in. Returns whether anything changed. Errors, and changes nothing, if the schemas differ.
    pub fn merge(&mut self, delta: &CouplingDelta) -> Result<bool, SchemaMismatch> {
        match delta.walk() {
            Some(walk) if walk.schema == self.schema => Ok(self.absorb(walk, |_| (), |_, (), ()| {})),
            _ => Err(SchemaMismatch),
        }
    }

    /// As [`merge`](Self::merge), and calls `changed`, in key order, for each key whose [`sum`](Self::sum) at `now`
    /// is another one than before.
    pub fn merge_with(
        &mut self,
        delta: &CouplingDelta,
        now: Timestamp,
        mut changed: impl FnMut(CouplingChange<'_>),
    ) -> Result<bool, SchemaMismatch> {
        match delta.walk() {
            Some(walk) if walk.schema == self.schema => Ok(self.absorb_reporting(walk, now, &mut changed)),
            _ => Err(SchemaMismatch),
        }
    }

    /// Takes the canonical bytes of a delta or a state in. Returns whether anything changed. Errors, and changes
    /// nothing, if they are not canonical, or of another schema ([`DecodeError::Schema`]).
    pub fn merge_encoded(&mut self, bytes: &[u8]) -> Result<bool, DecodeError> {
        let walk = self.checked(bytes)?;
        Ok(self.absorb(walk, |_| (), |_, (), ()| {}))
    }

    /// [`merge_encoded`](Self::merge_encoded) with the report of [`merge_with`](Self::merge_with). Where it errors,
    /// nothing was reported.
    pub fn merge_encoded_with(
        &mut self,
        bytes: &[u8],
        now: Timestamp,
        mut changed: impl FnMut(CouplingChange<'_>),
    ) -> Result<bool, DecodeError> {
        let walk = self.checked(bytes)?;
        Ok(self.absorb_reporting(walk, now, &mut changed))
    }

    /// Takes another state in. Returns whether anything changed. Errors, and changes nothing, if the schemas differ.
    pub fn merge_state(&mut self, other: &Self) -> Result<bool, SchemaMismatch> {
        if self.schema != other.schema {
            return Err(SchemaMismatch);
        }
        let mut indices = alloc::vec![0; other.actors.len()];
        other.actors.sorted().for_each(|(id, index)| indices[index] = self.actors.intern(id));
        let origin = Origin::Merged(self.version.saturating_add(1));
        let mut changed = false;
        for (key, row) in &other.rows {
            let parts = row.iter().map(|contribution| RowContribution {
                actor: indices[contribution.actor],
                strengthened: contribution.strengthened,
                weakened: contribution.weakened,
            });
            changed |= self.absorb_row(key, parts, origin, &|_| (), &mut |_, (), ()| {});
        }
        self.version = self.version.saturating_add(u64::from(changed));
        Ok(changed)
    }

    /// A reader of bytes that were found canonical and of this schema.
    fn checked<'b>(&self, bytes: &'b [u8]) -> Result<RowReader<'b>, DecodeError> {
        let mut walk = RowReader::open(bytes)?;
        if walk.schema != self.schema {
            return Err(DecodeError::Schema);
        }
        walk.check()?;
        Ok(walk)
    }

    fn absorb_reporting(
        &mut self,
        walk: RowReader<'_>,
        now: Timestamp,
        changed: &mut impl FnMut(CouplingChange<'_>),
    ) -> bool {
        let schema = self.schema;
        let tau = schema.tau(now);
        let value = |row: &Row| {
            let (strengthened, weakened) = view::totals(&schema, row.iter(), tau);
            schema.read(strengthened, weakened)
        };
        self.absorb(walk, value, |key, old, new| {
            if old != new {
                changed(CouplingChange { key, old, new });
            }
        })
    }

    /// Takes in the rows of a reader of validated bytes of this schema. `report` is called for each key that changed,
    /// with the results of `read` for its row before and after.
    fn absorb<T>(
        &mut self,
        mut walk: RowReader<'_>,
        read: impl Fn(&Row) -> T,
        mut report: impl FnMut(&[u8], T, T),
    ) -> bool {
        // A canonical table has no actor without an instant, so none is interned in vain.
        let indices: Vec<usize> = walk.actors.iter().map(|actor| self.actors.intern(actor)).collect();
        let origin = Origin::Merged(self.version.saturating_add(1));
        let mut changed = false;
        while let Ok(Some((key, parts))) = walk.advance() {
            let parts = parts.iter().map(|part| RowContribution { actor: indices[part.actor], ..*part });
            changed |= self.absorb_row(key, parts, origin, &read, &mut report);
        }
        self.version = self.version.saturating_add(u64::from(changed));
        changed
    }

    fn absorb_row<T>(
        &mut self,
        key: &[u8],
        parts: impl Iterator<Item = RowContribution>,
        origin: Origin,
        read: &impl Fn(&Row) -> T,
        report: &mut impl FnMut(&[u8], T, T),
    ) -> bool {
        let Some(row) = self.rows.get_mut(key) else {
            let mut row = Row::default();
            let before = read(&row);
            row.raise_all(&self.actors, parts, origin);
            report(key, before, read(&row));
            self.rows.insert(key.into(), row);
            return true;
        };
        let before = read(row);
        let changed = row.raise_all(&self.actors, parts, origin);
        if changed {
            report(key, before, read(row));
        }
        changed
    }
}
