//! The mutators: strengthen, weaken, reset. Each raises one instant of one contributor and returns it as a delta.

use consilience_base::Timestamp;
use consilience_base::planted::{Fault, planted};

use super::contribution::{Origin, Row};
use super::decay::{Rounding, wide};
use super::delta::CouplingDelta;
use super::state::Coupling;
use super::units::Units;
use super::view;
use super::wire::RowContribution;
use crate::bytes::KEY_BYTES_MAX;
use crate::dot::ActorId;

/// The reason for which a mutator refused: the host misused it. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CouplingError {
    /// The key is longer than [`KEY_BYTES_MAX`](crate::KEY_BYTES_MAX). Nothing changed.
    #[error("the key is longer than {KEY_BYTES_MAX} bytes")]
    KeyTooLong,
    /// The amount is below two floors, where it would mostly be rounding. Nothing changed.
    #[error("the amount is below two floors")]
    Increment,
}

/// The value from which a weakening takes.
#[derive(Clone, Copy, Debug)]
enum Against {
    Sum,
    Own,
}

impl Coupling {
    /// Adds `by` to the contribution of `actor` to `key`.
    ///
    /// `by` is at least [two floors](super::CouplingSchema::increment_min). One contributor holds at most 2⁸ caps; the
    /// excess is cut off. Strengthenings by different contributors add up, also when they are concurrent. **Two devices
    /// that strengthen under one `ActorId` do not**: of two concurrent ones the greater counts. Each device needs its
    /// own.
    ///
    /// Returns the delta to send, empty if nothing changed: at 2⁸ caps, where rounding swallows an increment far
    /// below the contributor's total (never up to the cap), or where a clock stood still at the end
    /// of time. Errors if the key is too long or `by` too small.
    pub fn strengthen(
        &mut self,
        actor: ActorId,
        key: &[u8],
        by: Units,
        now: Timestamp,
    ) -> Result<CouplingDelta, CouplingError> {
        let Some(raised) = self.strengthened(&actor, key, by, now)? else {
            return Ok(CouplingDelta::empty(&self.schema));
        };
        let part = RowContribution { actor: self.actors.intern(&actor), strengthened: raised, weakened: 0 };
        self.version = self.version.saturating_add(1);
        match self.rows.get_mut(key) {
            Some(row) => row.raise(&self.actors, &part, Origin::Written(self.version)),
            None => {
                let mut row = Row::default();
                row.raise(&self.actors, &part, Origin::Written(self.version));
                self.rows.insert(key.into(), row).is_none()
            }
        };
        Ok(CouplingDelta::single(&self.schema, &actor, key, raised, 0))
    }

    /// The instant that [`strengthen`](Self::strengthen) would give `actor`'s strengthening of `key`; `None` if it
    /// would change nothing. For hosts that write contributions down elsewhere. Errors as `strengthen`.
    pub fn strengthened(
        &self,
        actor: &ActorId,
        key: &[u8],
        by: Units,
        now: Timestamp,
    ) -> Result<Option<u64>, CouplingError> {
        self.check(key, by)?;
        let (own, _) = self.instants(actor, key);
        let raised = self.schema.raised(own, wide(by), self.schema.tau(now), Rounding::Fair);
        Ok((raised != own).then_some(raised))
    }

    /// The instant that [`weaken`](Self::weaken), or with no amount [`reset`](Self::reset), would give `actor`'s
    /// weakening of `key`; with `own`, that of [`weaken_own`](Self::weaken_own) and [`reset_own`](Self::reset_own).
    /// `None` if it would change nothing. Errors as `weaken`.
    pub fn weakened(
        &self,
        actor: &ActorId,
        key: &[u8],
        by: Option<Units>,
        own: bool,
        now: Timestamp,
    ) -> Result<Option<u64>, CouplingError> {
        self.check(key, by.unwrap_or(Units::MAX))?;
        let against = if own { Against::Own } else { Against::Sum };
        Ok(self.taken(actor, key, by.map_or(u128::MAX, wide), now, against))
    }

    /// The instants of a contributor under a key: of its strengthenings and of its weakenings, in half-lives since the
    /// epoch as Q40.24; 0 where there is none.
    #[must_use]
    pub fn instants(&self, actor: &ActorId, key: &[u8]) -> (u64, u64) {
        let one = self.actors.index(actor).and_then(|index| self.rows.get(key)?.of(&self.actors, index));
        one.map_or((0, 0), |one| (one.strengthened, one.weakened))
    }

    /// The contributors to a key, in the order of their names.
    pub fn contributors(&self, key: &[u8]) -> impl Iterator<Item = ActorId> + '_ {
        let row = self.rows.get(key);
        row.into_iter().flat_map(|row| row.iter().map(|one| *self.actors.id(one.actor)))
    }

    /// Puts these instants in the place of a contributor's under a key; two zeros end it. **Not a join**: for hosts
    /// that keep the contributions themselves elsewhere and fold them into this collection, and that know when one no
    /// longer counts. Errors if the key is too long.
    pub fn put(
        &mut self,
        actor: &ActorId,
        key: &[u8],
        strengthened: u64,
        weakened: u64,
    ) -> Result<(), CouplingError> {
        if key.len() > KEY_BYTES_MAX {
            return Err(CouplingError::KeyTooLong);
        }
        self.version = self.version.saturating_add(1);
        let origin = Origin::Merged(self.version);
        if strengthened == 0 && weakened == 0 {
            self.end(actor, key, origin);
            return Ok(());
        }
        let part = RowContribution { actor: self.actors.intern(actor), strengthened, weakened };
        match self.rows.get_mut(key) {
            Some(row) => row.put(&self.actors, &part, origin),
            None => {
                let mut row = Row::default();
                row.put(&self.actors, &part, origin);
                self.rows.insert(key.into(), row);
            }
        }
        Ok(())
    }

    fn end(&mut self, actor: &ActorId, key: &[u8], origin: Origin) {
        let Some(actor) = self.actors.index(actor) else { return };
        let Some(row) = self.rows.get_mut(key) else { return };
        let before = row.len();
        row.put(&self.actors, &RowContribution { actor, strengthened: 0, weakened: 0 }, origin);
        if row.len() == before {
            return;
        }
        if row.is_empty() {
            self.rows.remove(key);
        }
        self.note_ended();
    }

    /// Takes `by` from the [sum](Self::sum) of `key`, but not more than there is; the part above the cap, which no read
    /// shows, is there too. The amount taken is counted against `actor`, as the negative side of its contribution.
    ///
    /// So a weakening can leave `actor` with more weakened than strengthened: its own view ([`by`](Self::by)) then
    /// reads 0 until new strengthenings outweigh the rest, while they count in the sum at once. A host that reads `by`
    /// weakens with [`weaken_own`](Self::weaken_own).
    ///
    /// Concurrent weakenings add up, and may together take more than there was: the sum reads 0, and the shortfall
    /// decays like everything else.
    ///
    /// Returns the delta, empty where there is nothing to weaken. Errors as [`strengthen`](Self::strengthen).
    pub fn weaken(
        &mut self,
        actor: ActorId,
        key: &[u8],
        by: Units,
        now: Timestamp,
    ) -> Result<CouplingDelta, CouplingError> {
        self.check(key, by)?;
        Ok(self.take(&actor, key, wide(by), now, Against::Sum))
    }

    /// Weakens `key` by all of its [sum](Self::sum): the sum reads 0 at once, and later, until a contributor
    /// strengthens the key. A strengthening by another contributor that is concurrent stays alive, and one after it
    /// counts in full.
    ///
    /// "Reads 0" holds while the sum and the weakenings of `actor` are together within 2⁸ caps, and for fewer than
    /// 1,024 contributors (see the [module](super)). Two contributors that reset concurrently weaken twice.
    ///
    /// Returns the delta, empty where there is nothing. Errors if the key is too long.
    pub fn reset(
        &mut self,
        actor: ActorId,
        key: &[u8],
        now: Timestamp,
    ) -> Result<CouplingDelta, CouplingError> {
        self.check(key, Units::MAX)?;
        Ok(self.take(&actor, key, u128::MAX, now, Against::Sum))
    }

    /// As [`weaken`](Self::weaken), but at most by the contribution of `actor` itself ([`by`](Self::by)).
    pub fn weaken_own(
        &mut self,
        actor: ActorId,
        key: &[u8],
        by: Units,
        now: Timestamp,
    ) -> Result<CouplingDelta, CouplingError> {
        self.check(key, by)?;
        Ok(self.take(&actor, key, wide(by), now, Against::Own))
    }

    /// As [`reset`](Self::reset), but only of the contribution of `actor` itself ([`by`](Self::by)).
    pub fn reset_own(
        &mut self,
        actor: ActorId,
        key: &[u8],
        now: Timestamp,
    ) -> Result<CouplingDelta, CouplingError> {
        self.check(key, Units::MAX)?;
        Ok(self.take(&actor, key, u128::MAX, now, Against::Own))
    }

    fn check(&self, key: &[u8], by: Units) -> Result<(), CouplingError> {
        if key.len() > KEY_BYTES_MAX {
            return Err(CouplingError::KeyTooLong);
        }
        if by < self.schema.increment_min() { Err(CouplingError::Increment) } else { Ok(()) }
    }

    fn take(
        &mut self,
        actor: &ActorId,
        key: &[u8],
        by: u128,
        now: Timestamp,
        against: Against,
    ) -> CouplingDelta {
        let raised = self.taken(actor, key, by, now, against);
        let (Some(raised), Some(row)) = (raised, self.rows.get_mut(key)) else {
            return CouplingDelta::empty(&self.schema);
        };
        let part = RowContribution { actor: self.actors.intern(actor), strengthened: 0, weakened: raised };
        self.version = self.version.saturating_add(1);
        row.raise(&self.actors, &part, Origin::Written(self.version));
        CouplingDelta::single(&self.schema, actor, key, 0, raised)
    }

    fn taken(&self, actor: &ActorId, key: &[u8], by: u128, now: Timestamp, against: Against) -> Option<u64> {
        let row = self.rows.get(key)?;
        let tau = self.schema.tau(now);
        let own = self.actors.index(actor).and_then(|index| row.of(&self.actors, index));
        let (strengthened, weakened) = match against {
            Against::Sum => view::totals(&self.schema, row.iter(), tau),
            Against::Own => view::totals(&self.schema, own.into_iter(), tau),
        };
        if self.schema.read(strengthened, weakened) == Units::ZERO {
            return None;
        }
        let own = own.map_or(0, |own| own.weakened);
        let there = strengthened - weakened;
        // All of the sum must be gone, so the weakening is rounded up.
        let raised = if by < there || planted(Fault::WeakeningHasNoBound) {
            self.schema.raised(own, by, tau, Rounding::Fair)
        } else {
            self.schema.raised(own, there, tau, Rounding::Up)
        };
        (raised != own).then_some(raised)
    }
}
