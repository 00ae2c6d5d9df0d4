//! [`Coupling`]: the state, its sizes, its bytes, and pruning. Mutators, joins and reads have files of their own.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use consilience_base::Timestamp;

use super::contribution::{Actors, Contribution, Origin, Row};
use super::delta::CouplingDelta;
use super::schema::CouplingSchema;
use super::wire::{Encoder, RowContribution, RowReader};
use crate::Stats;
use crate::bytes::{DecodeError, serde_as_canonical_bytes};

/// A place in the sequence of a replica's own changes, as [`Coupling::cursor`] gives it out. The default stands
/// before everything.
///
/// A cursor means something only to the replica object that gave it out. A decoded state starts to count anew; after a
/// restart begin with the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CouplingCursor(pub(super) u64);

/// Decaying counters by key: how strongly something is coupled, strengthened and weakened by many contributors.
///
/// See the [module](super) for the meaning and the exactness of a value.
///
/// Two couplings are equal when they have the same schema and the same contributions, however these came about.
#[derive(Clone)]
pub struct Coupling {
    pub(super) schema: CouplingSchema,
    pub(super) actors: Actors,
    pub(super) rows: BTreeMap<Box<[u8]>, Row>,
    /// Counts the calls that changed something.
    pub(super) version: u64,
    acknowledged: u64,
    /// Contributions that were put an end to since unused contributors were last forgotten, and after how many they are
    /// again: so that going through everything is paid for by what came or went.
    ended: usize,
    ended_max: usize,
}

/// So many contributions end at least before contributors without any are forgotten.
const ENDED_MAX: usize = 16;

impl Coupling {
    /// An empty collection.
    #[must_use]
    pub fn new(schema: CouplingSchema) -> Self {
        Self {
            schema,
            actors: Actors::default(),
            rows: BTreeMap::new(),
            version: 0,
            acknowledged: 0,
            ended: 0,
            ended_max: ENDED_MAX,
        }
    }

    /// Half-life, floor and cap.
    #[must_use]
    pub const fn schema(&self) -> &CouplingSchema {
        &self.schema
    }

    /// Keys held, decayed ones included until they are pruned (`live`), contributors under them (`dots`), and an
    /// estimate of the heap bytes. Goes through everything.
    #[must_use]
    pub fn stats(&self) -> Stats {
        // A node of the standard library's B-tree has eleven places, two thirds of which are in use.
        let place = (size_of::<Box<[u8]>>() + size_of::<Row>()) * 3 / 2;
        Stats {
            live: self.rows.len(),
            dots: self.rows.values().map(Row::len).sum(),
            bytes: self.rows.iter().map(|(key, row)| key.len() + row.heap_bytes() + place).sum::<usize>()
                + self.actors.heap_bytes(),
        }
    }

    /// The place after the last change of this replica, whether it was made here or merged.
    #[must_use]
    pub const fn cursor(&self) -> CouplingCursor {
        CouplingCursor(self.version)
    }

    /// All changes after `cursor`, joined into one delta: the delta for a peer that was up to date then. The default
    /// cursor gives everything, and so does a cursor that this replica cannot have given out. Goes through all
    /// contributions.
    #[must_use]
    pub fn delta_since(&self, cursor: CouplingCursor) -> CouplingDelta {
        let after = if cursor.0 > self.version { 0 } else { cursor.0 };
        CouplingDelta::from_canonical(self.encode_where(|contribution| contribution.changed > after))
    }

    /// Takes note that peers, or storage that the host trusts, hold everything up to `cursor`: from now on
    /// [`prune`](Self::prune) may drop it. An acknowledgement is never taken back; a cursor after the present counts as
    /// the present.
    pub fn acknowledge(&mut self, cursor: CouplingCursor) {
        self.acknowledged = self.acknowledged.max(cursor.0.min(self.version));
    }

    /// Drops the strengthenings and weakenings (per key and contributor one each) that have decayed to a grain at
    /// `now`, 2⁻¹⁰ of the floor. Returns their number. Goes through everything.
    ///
    /// No value at `now` or later changes. Pruning commutes with merging: it maps each instant z to z or, if z has
    /// passed, to nothing; both that and the greater of two are monotone, so the order does not matter, and nothing has
    /// to be remembered of the dropped ones.
    ///
    /// A contribution that this replica wrote itself and that the host has not [acknowledged](Self::acknowledge) is
    /// kept: if the clock that gave `now` is years ahead, everything looks decayed. Contributions of peers come back
    /// from them; the only copy of an own change would be lost for ever.
    pub fn prune(&mut self, now: Timestamp) -> usize {
        let (tau, acknowledged) = (self.schema.tau(now), self.acknowledged);
        let mut dropped = 0;
        self.rows.retain(|_, row| {
            dropped += row.prune(tau, acknowledged);
            !row.is_empty()
        });
        if dropped > 0 {
            self.forget_unused_actors();
        }
        dropped
    }

    /// Notes that a contribution was put an end to.
    pub(super) fn note_ended(&mut self) {
        self.ended += 1;
        if self.rows.is_empty() || self.ended > self.ended_max {
            self.forget_unused_actors();
        }
    }

    /// Contributors come and go; the table would otherwise only grow.
    fn forget_unused_actors(&mut self) {
        let mut used = alloc::vec![false; self.actors.len()];
        let mut contributions = 0;
        self.rows.values().flat_map(Row::iter).for_each(|contribution| {
            used[contribution.actor] = true;
            contributions += 1;
        });
        (self.ended, self.ended_max) = (0, ENDED_MAX + contributions / 2);
        if used.contains(&false) {
            let moved = self.actors.retain(&used);
            self.rows.values_mut().for_each(|row| row.rename(&moved));
        }
    }

    /// The canonical bytes: equal states have equal bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.encode_where(|_| true)
    }

    /// A state from its canonical bytes, in the schema that they carry. A delta has the same form.
    ///
    /// Errors on anything that [`encode`](Self::encode) does not give. Memory is bounded by the input: keys take at
    /// most 64 times its length and 4,096 bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut walk = RowReader::open(bytes)?;
        let mut state = Self::new(walk.schema);
        let indices: Vec<usize> = walk.actors.iter().map(|actor| state.actors.intern(actor)).collect();
        let mut rows = Vec::new();
        while let Some((key, parts)) = walk.advance()? {
            let mut row = Row::default();
            for part in parts {
                row.raise(
                    &state.actors,
                    &RowContribution { actor: indices[part.actor], ..*part },
                    Origin::Merged(1),
                );
            }
            rows.push((Box::from(key), row));
        }
        state.version = u64::from(!rows.is_empty());
        // Sorted already, so the tree is built in one go.
        state.rows = BTreeMap::from_iter(rows);
        Ok(state)
    }

    fn encode_where(&self, keep: impl Fn(&Contribution) -> bool) -> Vec<u8> {
        let mut used = alloc::vec![false; self.actors.len()];
        let mut rows = 0;
        for row in self.rows.values() {
            let mut empty = true;
            row.iter().filter(|contribution| keep(contribution)).for_each(|contribution| {
                used[contribution.actor] = true;
                empty = false;
            });
            rows += usize::from(!empty);
        }
        let mut ranks = alloc::vec![0; self.actors.len()];
        let mut actors = Vec::new();
        for (id, index) in self.actors.sorted().filter(|(_, index)| used[*index]) {
            ranks[index] = actors.len();
            actors.push(id);
        }
        let mut writer = Encoder::new(&self.schema, actors.into_iter(), rows);
        for (key, row) in &self.rows {
            let mut parts = row
                .iter()
                .filter(|contribution| keep(contribution))
                .map(|contribution| RowContribution {
                    actor: ranks[contribution.actor],
                    strengthened: contribution.strengthened,
                    weakened: contribution.weakened,
                })
                .peekable();
            if parts.peek().is_some() {
                writer.row(key, parts);
            }
        }
        writer.finish()
    }
}

impl PartialEq for Coupling {
    fn eq(&self, other: &Self) -> bool {
        // Rows are in the order of names, so two equal rows are equal in order, whichever the indices.
        fn parts<'a>(state: &'a Coupling, row: &'a Row) -> impl Iterator<Item = (&'a [u8], u64, u64)> {
            row.iter().map(|c| (state.actors.id(c.actor).as_bytes(), c.strengthened, c.weakened))
        }
        self.schema == other.schema
            && self.rows.len() == other.rows.len()
            && self.rows.iter().zip(&other.rows).all(|((key, row), (other_key, other_row))| {
                key == other_key && parts(self, row).eq(parts(other, other_row))
            })
    }
}

impl Eq for Coupling {}

impl fmt::Debug for Coupling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coupling")
            .field("schema", &self.schema)
            .field("keys", &self.rows.len())
            .field("actors", &self.actors.len())
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

serde_as_canonical_bytes!(Coupling);
