//! The stored instants of one contributor under one key, and the table of contributors. No amounts and no time:
//! instants are compared here, never read.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::wire::RowContribution;
use crate::dot::ActorId;
use consilience_base::planted::{Fault, planted};

/// The contributors, interned. Indices are local: never compared, never written to bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Actors {
    ids: Vec<ActorId>,
    by_id: BTreeMap<ActorId, usize>,
}

impl Actors {
    pub(super) fn intern(&mut self, actor: &ActorId) -> usize {
        if let Some(index) = self.index(actor) {
            return index;
        }
        self.ids.push(*actor);
        self.by_id.insert(*actor, self.ids.len() - 1);
        self.ids.len() - 1
    }

    #[inline]
    pub(super) fn index(&self, actor: &ActorId) -> Option<usize> {
        self.by_id.get(actor).copied()
    }

    #[inline]
    pub(super) fn id(&self, index: usize) -> &ActorId {
        &self.ids[index]
    }

    pub(super) const fn len(&self) -> usize {
        self.ids.len()
    }

    /// The contributors in the order of their names, with their indices.
    pub(super) fn sorted(&self) -> impl Iterator<Item = (&ActorId, usize)> {
        self.by_id.iter().map(|(id, index)| (id, *index))
    }

    /// Drops the contributors that are not in use. Returns the new index of each old one that is.
    pub(super) fn retain(&mut self, used: &[bool]) -> Vec<usize> {
        let mut moved = alloc::vec![0; self.ids.len()];
        let mut kept = Self::default();
        for (index, id) in self.ids.iter().enumerate().filter(|(index, _)| used[*index]) {
            moved[index] = kept.intern(id);
        }
        *self = kept;
        moved
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.ids.capacity() * size_of::<ActorId>()
            + self.by_id.len() * (size_of::<ActorId>() + size_of::<usize>())
    }
}

/// One contributor's instants under one key; 0 where there is none. At least one of the two is not 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contribution {
    pub(super) actor: usize,
    pub(super) strengthened: u64,
    pub(super) weakened: u64,
    /// The replica's version at which an instant last changed.
    pub(super) changed: u64,
    /// The replica's version at which a mutator of this replica last changed one; 0 if none did.
    written: u64,
}

impl Contribution {
    const fn new(part: &RowContribution, origin: Origin) -> Self {
        let (changed, written) = origin.versions();
        Self { actor: part.actor, strengthened: part.strengthened, weakened: part.weakened, changed, written }
    }

    /// Takes the later of two instants each; says whether one changed.
    fn raise(&mut self, part: &RowContribution, origin: Origin) -> bool {
        if planted(Fault::CouplingJoinTakesTheLast) {
            (self.strengthened, self.weakened) = (part.strengthened, part.weakened);
        } else if part.strengthened <= self.strengthened && part.weakened <= self.weakened {
            return false;
        }
        let (changed, written) = origin.versions();
        self.strengthened = self.strengthened.max(part.strengthened);
        self.weakened = self.weakened.max(part.weakened);
        self.changed = changed;
        self.written = self.written.max(written);
        true
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.strengthened == 0 && self.weakened == 0
    }

    /// Whether a mutator changed the contribution after the version `acknowledged`.
    pub(super) const fn is_unacknowledged(&self, acknowledged: u64) -> bool {
        self.written > acknowledged
    }

    /// Drops the instants that have passed at `tau`; returns how many.
    pub(super) fn prune(&mut self, tau: u64) -> usize {
        let mut dropped = 0;
        for instant in [&mut self.strengthened, &mut self.weakened] {
            if *instant > 0 && *instant <= tau {
                *instant = 0;
                dropped += 1;
            }
        }
        dropped
    }
}

/// Where a change comes from, and at which version of the replica it happens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    /// A mutator of this replica: not to be pruned before peers hold it.
    Written(u64),
    /// A merge: peers hold it.
    Merged(u64),
}

impl Origin {
    /// The versions of [`Contribution::changed`] and [`Contribution::written`].
    const fn versions(self) -> (u64, u64) {
        match self {
            Self::Written(version) => (version, version),
            Self::Merged(version) => (version, 0),
        }
    }
}

/// The contributions under one key, in the order of the contributors' names.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    list: Vec<Contribution>,
}

impl Row {
    #[inline]
    pub(super) fn iter(&self) -> core::slice::Iter<'_, Contribution> {
        self.list.iter()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) const fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) const fn heap_bytes(&self) -> usize {
        self.list.capacity() * size_of::<Contribution>()
    }

    /// One contributor's contribution, if there is one.
    pub(super) fn of(&self, actors: &Actors, actor: usize) -> Option<&Contribution> {
        self.place(actors, actor).ok().map(|place| &self.list[place])
    }

    fn place(&self, actors: &Actors, actor: usize) -> Result<usize, usize> {
        let id = actors.id(actor);
        self.list.binary_search_by(|contribution| {
            // By name, never by index; equal indices are equal names.
            if contribution.actor == actor { Ordering::Equal } else { actors.id(contribution.actor).cmp(id) }
        })
    }

    /// The join of one contribution of a row: the later of two instants each. `part.actor` is an index of `actors`.
    /// Returns whether anything changed.
    pub(super) fn raise(&mut self, actors: &Actors, part: &RowContribution, origin: Origin) -> bool {
        match self.place(actors, part.actor) {
            Ok(place) => self.list[place].raise(part, origin),
            Err(place) => {
                let new = Contribution::new(part, origin);
                if new.is_empty() {
                    return false;
                }
                // Exactly one more: a row of one would otherwise hold room for four.
                if self.list.len() < 4 {
                    self.list.reserve_exact(1);
                }
                self.list.insert(place, new);
                true
            }
        }
    }

    /// Puts one contribution of a row in the place of its contributor's present one.
    pub(super) fn put(&mut self, actors: &Actors, part: &RowContribution, origin: Origin) {
        let new = Contribution::new(part, origin);
        match self.place(actors, part.actor) {
            Ok(place) if new.is_empty() => {
                self.list.remove(place);
                if self.list.capacity() > 4 * self.list.len() {
                    self.list.shrink_to(2 * self.list.len());
                }
            }
            Ok(place) => self.list[place] = new,
            Err(_) if new.is_empty() => {}
            Err(place) => {
                if self.list.len() < 4 {
                    self.list.reserve_exact(1);
                }
                self.list.insert(place, new);
            }
        }
    }

    /// [`raise`](Self::raise) for contributions of different contributors. New ones are put in together, not one by
    /// one: each would move those after it.
    pub(super) fn raise_all(
        &mut self,
        actors: &Actors,
        parts: impl Iterator<Item = RowContribution>,
        origin: Origin,
    ) -> bool {
        let mut changed = false;
        let mut new = Vec::new();
        for part in parts {
            match self.place(actors, part.actor) {
                Ok(place) => changed |= self.list[place].raise(&part, origin),
                Err(_) => new.push(Contribution::new(&part, origin)),
            }
        }
        new.retain(|contribution| !contribution.is_empty());
        if new.is_empty() {
            return changed;
        }
        self.list.reserve_exact(new.len());
        self.list.append(&mut new);
        // Two runs, each in order or nearly so: the sort merges them.
        self.list.sort_by(|a, b| actors.id(a.actor).cmp(actors.id(b.actor)));
        true
    }

    /// Drops the instants that have passed at `tau`, except in contributions that a mutator changed after
    /// `acknowledged`. Returns how many.
    pub(super) fn prune(&mut self, tau: u64, acknowledged: u64) -> usize {
        let mut dropped = 0;
        self.list.retain_mut(|contribution| {
            if !contribution.is_unacknowledged(acknowledged) {
                dropped += contribution.prune(tau);
            }
            !contribution.is_empty()
        });
        dropped
    }

    /// Gives every contributor its new index.
    pub(super) fn rename(&mut self, moved: &[usize]) {
        for contribution in &mut self.list {
            contribution.actor = moved[contribution.actor];
        }
    }
}
