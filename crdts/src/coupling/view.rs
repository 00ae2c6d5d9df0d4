//! Reads: which contributions count, and their amount at a time. Nothing here changes anything.

use alloc::boxed::Box;
use alloc::collections::btree_map;
use core::fmt;
use core::ops::{Bound, RangeBounds};

use consilience_base::Timestamp;

use super::contribution::{Actors, Contribution, Row};
use super::decay::narrow;
use super::schema::CouplingSchema;
use super::state::Coupling;
use super::units::Units;
use crate::dot::ActorId;

/// The sums of strengthenings and of weakenings at `tau`, both as Q64.64.
#[inline]
pub(super) fn totals<'a>(
    schema: &CouplingSchema,
    contributions: impl Iterator<Item = &'a Contribution>,
    tau: u64,
) -> (u128, u128) {
    // At most 2⁹² each, so no number of contributions that fits in memory overflows.
    contributions.fold((0, 0), |(strengthened, weakened), contribution| {
        (
            strengthened + schema.amount(contribution.strengthened, tau),
            weakened + schema.amount(contribution.weakened, tau),
        )
    })
}

/// The contributors that a view counts.
#[derive(Clone, Copy, Debug)]
enum Who {
    /// One contributor, by index; `None` is one that never contributed.
    By(Option<usize>),
    Sum,
    Max,
}

/// A way to read a [`Coupling`]: by one contributor, the sum of all, or the greatest.
///
/// Every value is from 0 to the cap; an amount below the floor reads as 0. Rounded down to 2⁻³² units.
#[derive(Clone, Copy)]
pub struct CouplingView<'a> {
    coupling: &'a Coupling,
    who: Who,
}

impl<'a> CouplingView<'a> {
    /// The value of `key` at `now`. 0 for a key that is not there.
    #[must_use]
    pub fn value(&self, key: &[u8], now: Timestamp) -> Units {
        match self.coupling.rows.get(key) {
            Some(row) => self.read(row, self.coupling.schema.tau(now)),
            None => Units::ZERO,
        }
    }

    /// The keys whose value at `now` is above 0, in key order, with their values.
    #[must_use]
    pub fn iter(&self, now: Timestamp) -> CouplingValues<'a> {
        self.range(.., now)
    }

    /// Those keys that start with `prefix`, in key order, with their values at `now`.
    #[must_use]
    pub fn prefix(&self, prefix: &[u8], now: Timestamp) -> CouplingValues<'a> {
        // The end is the prefix with its last byte that can be raised raised, and the bytes after it cut off.
        let kept = prefix.iter().rposition(|byte| *byte < u8::MAX).map_or(0, |last| last + 1);
        let mut end = prefix[..kept].to_vec();
        match end.last_mut() {
            Some(last) => {
                *last += 1;
                self.range(prefix..end.as_slice(), now)
            }
            None => self.range(prefix.., now),
        }
    }

    /// Those keys that lie in `range`, in key order, with their values at `now`. An inverted range is empty.
    #[must_use]
    pub fn range<'k>(&self, range: impl RangeBounds<&'k [u8]>, now: Timestamp) -> CouplingValues<'a> {
        let bounds = (range.start_bound().map(|key| *key), range.end_bound().map(|key| *key));
        // The tree panics on inverted ranges.
        let inverted = match bounds {
            (Bound::Excluded(start), Bound::Excluded(end)) => start >= end,
            (
                Bound::Included(start) | Bound::Excluded(start),
                Bound::Included(end) | Bound::Excluded(end),
            ) => start > end,
            _ => false,
        };
        let rows = if inverted {
            btree_map::Range::default()
        } else {
            self.coupling.rows.range::<[u8], (Bound<&[u8]>, Bound<&[u8]>)>(bounds)
        };
        CouplingValues { view: *self, rows, tau: self.coupling.schema.tau(now) }
    }

    fn read(&self, row: &Row, tau: u64) -> Units {
        let Coupling { schema, actors, .. } = self.coupling;
        let totals_of = |one: &Contribution| totals(schema, core::iter::once(one), tau);
        let (strengthened, weakened) = match self.who {
            Who::Sum => totals(schema, row.iter(), tau),
            Who::By(index) => index.and_then(|index| row.of(actors, index)).map_or((0, 0), totals_of),
            Who::Max => {
                let nets = row.iter().map(totals_of).map(|(plus, minus)| plus.saturating_sub(minus));
                (nets.max().unwrap_or(0), 0)
            }
        };
        schema.read(strengthened, weakened)
    }
}

impl fmt::Debug for CouplingView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CouplingView").field("who", &self.who).finish_non_exhaustive()
    }
}

/// Keys in order with their values at one instant; keys that read as 0 are passed over.
#[derive(Clone)]
pub struct CouplingValues<'a> {
    view: CouplingView<'a>,
    rows: btree_map::Range<'a, Box<[u8]>, Row>,
    tau: u64,
}

impl<'a> Iterator for CouplingValues<'a> {
    type Item = (&'a [u8], Units);

    fn next(&mut self) -> Option<Self::Item> {
        let (view, tau) = (self.view, self.tau);
        self.rows
            .by_ref()
            .map(|(key, row)| (&**key, view.read(row, tau)))
            .find(|(_, value)| *value > Units::ZERO)
    }
}

impl DoubleEndedIterator for CouplingValues<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let (view, tau) = (self.view, self.tau);
        self.rows
            .by_ref()
            .rev()
            .map(|(key, row)| (&**key, view.read(row, tau)))
            .find(|(_, value)| *value > Units::ZERO)
    }
}

impl fmt::Debug for CouplingValues<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// One contributor's amounts under a key at one instant. Both are at most 2⁸ caps and are given as they are: neither
/// the cap nor the floor applies to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CouplingContribution {
    /// The contributor.
    pub actor: ActorId,
    /// The present amount of its strengthenings.
    pub strengthened: Units,
    /// The present amount of its weakenings.
    pub weakened: Units,
}

/// The contributions under one key at one instant, in the order of the contributors' names; those that have decayed
/// are passed over.
#[derive(Clone)]
pub struct CouplingContributions<'a> {
    schema: CouplingSchema,
    actors: &'a Actors,
    row: core::slice::Iter<'a, Contribution>,
    tau: u64,
}

impl Iterator for CouplingContributions<'_> {
    type Item = CouplingContribution;

    fn next(&mut self) -> Option<Self::Item> {
        let (schema, actors, tau) = (self.schema, self.actors, self.tau);
        self.row
            .by_ref()
            .map(|contribution| CouplingContribution {
                actor: *actors.id(contribution.actor),
                strengthened: narrow(schema.amount(contribution.strengthened, tau)),
                weakened: narrow(schema.amount(contribution.weakened, tau)),
            })
            .find(|contribution| contribution.strengthened.max(contribution.weakened) > Units::ZERO)
    }
}

impl fmt::Debug for CouplingContributions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl Coupling {
    /// One contributor's own view: the strengthenings of `actor` less its weakenings.
    #[must_use]
    pub fn by(&self, actor: &ActorId) -> CouplingView<'_> {
        CouplingView { coupling: self, who: Who::By(self.actors.index(actor)) }
    }

    /// All contributors together: all strengthenings less all weakenings.
    #[must_use]
    pub const fn sum(&self) -> CouplingView<'_> {
        CouplingView { coupling: self, who: Who::Sum }
    }

    /// The greatest of the contributors' own views ([`by`](Self::by)). A [`reset`](Self::reset), which speaks of the
    /// sum and for one contributor, leaves the others' views as they are.
    #[must_use]
    pub const fn max(&self) -> CouplingView<'_> {
        CouplingView { coupling: self, who: Who::Max }
    }

    /// The contributors to `key` at `now`, and their amounts.
    #[must_use]
    pub fn contributions(&self, key: &[u8], now: Timestamp) -> CouplingContributions<'_> {
        CouplingContributions {
            schema: self.schema,
            actors: &self.actors,
            row: self.rows.get(key).map(Row::iter).unwrap_or_default(),
            tau: self.schema.tau(now),
        }
    }

    /// All keys held, in order: decayed ones too, until they are [pruned](Self::prune).
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
        self.rows.keys().map(|key| &**key)
    }
}
