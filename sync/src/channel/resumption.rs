//! [`Resumptions`]: what two agents that have met remember of each other, so that they meet again without signatures.
//!
//! Here: a bounded table, by both agents. Not here: the handshake that uses it (`handshake`), and where it is stored
//! (`session`). The invariant: a secret is used once with success, and follows from a signature that is at most a day old.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use consilience_base::Timestamp;

use super::cipher::Secret;
use crate::codec::Reader;
use crate::identity::AgentId;

/// Pairs of agents that are remembered: the one that met longest ago goes first.
const PAIRS_MAX: usize = 256;
/// Of each pair: the newest, and the one before, where only one of the two has come to the newest.
const KEPT_MAX: usize = 2;
/// Two agents sign again after so long by either one's clock, in milliseconds: whoever steals a store can take an agent's
/// place for no longer.
const PROVED_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// A pair is stored at most so often, in milliseconds.
const STORED_MS: u64 = 1_000;

/// The name of a resumption, which the hello says.
pub(crate) type ResumptionId = [u8; 16];

/// One thing that two sides remember.
#[derive(Clone)]
pub(crate) struct Resumption {
    pub(crate) id: ResumptionId,
    pub(crate) secret: Secret,
}

impl core::fmt::Debug for Resumption {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Resumption")
    }
}

/// Whom a session is resumed with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resumed {
    pub(crate) peer: AgentId,
    pub(crate) id: ResumptionId,
    /// When the two signed last, by this side's clock.
    pub(crate) proved: Timestamp,
}

/// A local agent, and the peer.
pub(crate) type Pair = (AgentId, AgentId);

/// What a session leaves behind once the peer was heard in it.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) pair: Pair,
    pub(crate) resumption: Resumption,
    /// When the two signed last, by this side's clock.
    pub(crate) proved: Timestamp,
    /// The one that this session has used.
    pub(crate) used: Option<ResumptionId>,
}

/// What is remembered of a pair.
#[derive(Debug, Default)]
struct Known {
    /// The newest last.
    kept: Vec<Resumption>,
    proved: Timestamp,
    /// Which of all was the last to be noted.
    noted: u64,
    /// When it may be stored again.
    stored_until: u64,
}

impl Known {
    /// Whether the two have signed lately. A clock that fell does not know.
    fn is_fresh(&self, now: Timestamp) -> bool {
        now >= self.proved && now.as_millis().saturating_sub(self.proved.as_millis()) < PROVED_MS_MAX
    }
}

/// All that is remembered.
#[derive(Debug, Default)]
pub(crate) struct Resumptions {
    pairs: BTreeMap<Pair, Known>,
    noted: u64,
}

impl Resumptions {
    /// The bytes of one, as it is stored.
    pub(crate) const BYTES: usize = 32 + 32 + 16 + 32 + 8;

    /// The one by which a local agent calls a peer.
    pub(crate) fn newest(
        &self,
        own: &AgentId,
        peer: &AgentId,
        now: Timestamp,
    ) -> Option<(&Resumption, Resumed)> {
        let known = self.pairs.get(&(*own, *peer)).filter(|known| known.is_fresh(now))?;
        let newest = known.kept.last()?;
        Some((newest, Resumed { peer: *peer, id: newest.id, proved: known.proved }))
    }

    /// The secret by which somebody calls a local agent, and who that is.
    pub(crate) fn find(
        &self,
        own: &AgentId,
        id: &ResumptionId,
        now: Timestamp,
    ) -> Option<(&Secret, Resumed)> {
        let first = (*own, AgentId::from_bytes([0; 32]));
        let of_own = self.pairs.range(first..).take_while(|((agent, _), _)| agent == own);
        of_own.filter(|(_, known)| known.is_fresh(now)).find_map(|((_, peer), known)| {
            let found = known.kept.iter().find(|one| one.id == *id)?;
            Some((&found.secret, Resumed { peer: *peer, id: *id, proved: known.proved }))
        })
    }

    /// Notes what a session has left.
    pub(crate) fn remember(&mut self, left: &Left) {
        if self.pairs.len() >= PAIRS_MAX && !self.pairs.contains_key(&left.pair) {
            let oldest = self.pairs.iter().min_by_key(|(_, known)| known.noted).map(|(pair, _)| *pair);
            oldest.map(|pair| self.pairs.remove(&pair));
        }
        self.noted = self.noted.saturating_add(1);
        let known = self.pairs.entry(left.pair).or_default();
        known.kept.retain(|one| Some(one.id) != left.used && one.id != left.resumption.id);
        if known.kept.len() >= KEPT_MAX {
            known.kept.remove(0);
        }
        known.kept.push(left.resumption.clone());
        (known.proved, known.noted) = (left.proved, self.noted);
    }

    /// The bytes by which the newest of a pair is stored, unless that was done just now.
    pub(crate) fn unstored(&mut self, pair: &Pair, ms: u64) -> Option<Vec<u8>> {
        let known = self.pairs.get_mut(pair).filter(|known| ms >= known.stored_until)?;
        known.stored_until = ms.saturating_add(STORED_MS);
        Some(to_bytes(pair, known.kept.last()?, known.proved))
    }

    /// All, as they are stored: those that were noted last, last.
    pub(crate) fn all(&self) -> Vec<Vec<u8>> {
        let mut pairs: Vec<_> = self.pairs.iter().collect();
        pairs.sort_by_key(|(_, known)| known.noted);
        let each = |(pair, known): (&Pair, &Known)| {
            known.kept.iter().map(|one| to_bytes(pair, one, known.proved)).collect::<Vec<_>>()
        };
        pairs.into_iter().flat_map(each).collect()
    }

    /// Takes back what was stored. Bytes of another length are none.
    pub(crate) fn restore(&mut self, bytes: &[u8]) {
        if bytes.len() == Self::BYTES
            && let Some(left) = from_bytes(bytes)
        {
            self.remember(&left);
        }
    }
}

fn to_bytes((own, peer): &Pair, one: &Resumption, proved: Timestamp) -> Vec<u8> {
    let proved = proved.as_millis().to_le_bytes();
    [&own.as_bytes()[..], peer.as_bytes(), &one.id, &one.secret[..], &proved].concat()
}

fn from_bytes(bytes: &[u8]) -> Option<Left> {
    let mut reader = Reader::new(bytes);
    let pair = (AgentId::from_bytes(reader.array().ok()?), AgentId::from_bytes(reader.array().ok()?));
    let resumption = Resumption { id: reader.array().ok()?, secret: Secret::new(reader.array().ok()?) };
    let proved = Timestamp::from_millis(u64::from_le_bytes(reader.array().ok()?));
    Some(Left { pair, resumption, proved, used: None })
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]
mod tests {
    use super::*;

    fn agent(number: usize) -> AgentId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        AgentId::from_bytes(bytes)
    }

    fn left(peer: usize, number: u8, used: Option<u8>) -> Left {
        let resumption = Resumption { id: [number; 16], secret: Secret::new([number; 32]) };
        let proved = Timestamp::from_millis(1_000);
        Left { pair: (agent(1), agent(peer)), resumption, proved, used: used.map(|used| [used; 16]) }
    }

    fn newest(table: &Resumptions, peer: usize, ms: u64) -> Option<ResumptionId> {
        let found = table.newest(&agent(1), &agent(peer), Timestamp::from_millis(ms));
        found.map(|(one, _)| one.id)
    }

    #[test]
    fn the_newest_is_said_the_one_before_is_taken_and_what_was_used_is_gone() {
        let mut table = Resumptions::default();
        for number in 1..=3 {
            table.remember(&left(2, number, None));
        }
        let now = Timestamp::from_millis(1_000);
        let find = |table: &Resumptions, number| table.find(&agent(1), &[number; 16], now).is_some();
        assert_eq!(newest(&table, 2, 1_000), Some([3; 16]));
        assert_eq!([1, 2, 3].map(|number| find(&table, number)), [false, true, true]);
        assert!(table.find(&agent(2), &[3; 16], now).is_none(), "it is for one local agent");
        table.remember(&left(2, 4, Some(2)));
        assert_eq!([2, 3, 4].map(|number| find(&table, number)), [false, true, true]);
    }

    #[test]
    fn nothing_is_said_or_taken_a_day_after_the_signatures_nor_before_them() {
        let mut table = Resumptions::default();
        table.remember(&left(2, 1, None));
        for (ms, known) in
            [(999, false), (1_000, true), (1_000 + PROVED_MS_MAX - 1, true), (1_000 + PROVED_MS_MAX, false)]
        {
            assert_eq!(newest(&table, 2, ms).is_some(), known, "{ms}");
            assert_eq!(table.find(&agent(1), &[1; 16], Timestamp::from_millis(ms)).is_some(), known, "{ms}");
        }
    }

    #[test]
    fn so_many_pairs_are_kept_and_all_comes_back_from_its_bytes() {
        let mut table = Resumptions::default();
        for peer in 0..PAIRS_MAX + 10 {
            table.remember(&left(peer, 7, None));
            table.remember(&left(5, 8, None));
        }
        table.remember(&left(5, 9, None));
        assert_eq!(table.pairs.len(), PAIRS_MAX);
        assert_eq!(newest(&table, 5, 1_000), Some([9; 16]), "it met last");
        assert_eq!((newest(&table, 0, 1_000), newest(&table, 20, 1_000)), (None, Some([7; 16])));
        let mut again = Resumptions::default();
        table.all().iter().for_each(|bytes| again.restore(bytes));
        assert_eq!((again.all(), newest(&again, 5, 1_000)), (table.all(), Some([9; 16])));
        again.restore(&[0; 48]);
        assert_eq!(again.pairs.len(), PAIRS_MAX);
        let pair = (agent(1), agent(5));
        assert_eq!(again.unstored(&pair, 5).map(|bytes| bytes.len()), Some(Resumptions::BYTES));
        assert_eq!((again.unstored(&pair, 1_004), again.unstored(&pair, 1_005).is_some()), (None, true));
    }
}
