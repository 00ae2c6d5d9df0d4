//! The moves by which two sets become equal: the parts to send each other once they know in which logs they differ.
//!
//! Reconciliation finds the heads that differ; for each of them, the holder of the log describes its copy in an
//! [`Offer`]. From its own logs and the other's offers each side works out the same plan of [`Move`]s, its own half of
//! it to be done: no further question is asked where both sizes are known, and a log that the other did not offer is
//! one that it does not hold.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::LogSet;
use super::slot::Slot;
use crate::codec::{DecodeError, Reader, put_varint};
use crate::identity::{LogId, LogKind};
use crate::log::{LOG_SIZE_MAX, RangeForm, Want};
use consilience_base::planted::{Fault, planted};

const KIND: u8 = 0x2f;

/// A holder's description of one log whose head differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Which log.
    pub log: LogId,
    /// The first entry that is there.
    pub start: u64,
    /// The number after the last entry that is there and signed.
    pub size: u64,
    /// The first 8 bytes of the root at that size. They tell equal copies from different ones, and prove nothing.
    pub root: [u8; 8],
    /// The first 8 bytes of a hash of [all facts](crate::Facts::digest) that are known of the log, if there are any.
    pub facts: Option<[u8; 8]>,
}

/// One thing to do about one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Send the opening first: the other does not hold the log.
    Open(LogId),
    /// Send all facts.
    Facts(LogId),
    /// Send this range, whatever it is cut to; an empty one for its proof.
    Send(LogId, Want),
    /// Both know that the log is forked, and their histories part earlier than where that was seen: ask the other as a
    /// [`ForkSearch`](crate::ForkSearch) says. Only one of the two sides has to ask, unless the offers do not tell them
    /// apart.
    Search(LogId),
    /// The other is about to send this. Ask for it if it does not come.
    Expect(LogId, Want),
}

impl Offer {
    /// Its canonical bytes, about 50.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.push(KIND);
        bytes.extend_from_slice(self.log.as_bytes());
        put_varint(&mut bytes, self.start);
        put_varint(&mut bytes, self.size.saturating_sub(self.start));
        bytes.extend_from_slice(&self.root);
        bytes.extend(self.facts.iter().flatten());
        bytes
    }

    /// Reads the bytes that [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    ///
    /// The fault in the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != KIND {
            return Err(DecodeError::Kind);
        }
        let log = LogId::from_bytes(reader.array()?);
        let start = reader.varint_max(LOG_SIZE_MAX)?;
        let size = start.checked_add(reader.varint()?).filter(|&size| size <= LOG_SIZE_MAX);
        let size = size.ok_or(DecodeError::Limit)?;
        let root = reader.array()?;
        let facts = if reader.remaining() == 0 { None } else { Some(reader.array()?) };
        reader.finish()?;
        Ok(Self { log, start, size, root, facts })
    }

    /// Whether two holders have the same of all that counts. One of them may keep entries before those.
    pub(crate) fn counts_as(&self, other: &Self) -> bool {
        (self.log, self.size, self.root, self.facts) == (other.log, other.size, other.root, other.facts)
    }

    fn of(slot: &Slot) -> Self {
        let facts = slot.facts_digest().map(|digest| first(digest.as_bytes()));
        let (size, root) = slot.counted();
        Self {
            log: *slot.log.id(),
            start: slot.log.start().min(size),
            size,
            root: root.map_or([0; 8], |root| first(root.as_bytes())),
            facts,
        }
    }
}

const fn first(hash: &[u8; 32]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    [a, b, c, d, e, f, g, h]
}

impl LogSet {
    /// This set's offer of a log.
    #[must_use]
    pub fn offer(&self, log: &LogId) -> Option<Offer> {
        self.slots.get(log).map(|slot| Offer::of(slot))
    }

    /// Whether everything that a peer has offered of a log is here: up to that size, with that root; or there is no more of
    /// it to be had, as it is known here to be forked or given up. Of the log's id, the first 8 bytes count.
    pub(crate) fn has_offered(&self, offer: &Offer) -> bool {
        if offer.size == 0 && offer.facts.is_none() {
            return true;
        }
        let slot = self.find(&first(offer.log.as_bytes())).and_then(|log| self.slots.get(&log));
        let Some(slot) = slot else { return false };
        let (is_forked, is_pruned) = (slot.facts.forks.is_some(), slot.facts.pruned.is_some());
        if offer.facts.is_some() && !is_forked && !is_pruned {
            return false;
        }
        if slot.is_invalid() || slot.floor() >= offer.size {
            return true;
        }
        if slot.log.signed_size() < offer.size.min(slot.valid_below().unwrap_or(u64::MAX)) {
            return false;
        }
        match slot.log.root_at(offer.size) {
            // Where both histories are said to be one, they part before that.
            Some(root) => {
                first(root.as_bytes()) == offer.root
                    || planted(Fault::OffersAreMetBySize)
                    || slot.valid_below().is_some_and(|below| offer.size > below)
            }
            None => slot.log.start() > offer.size || is_forked,
        }
    }

    /// Whether what a peer has offered of a forked log differs from the copy here before the place at which the two histories
    /// are known to part: a search shows where they do.
    pub(crate) fn parts_lower(&self, offer: &Offer) -> bool {
        let slot = self.find(&first(offer.log.as_bytes())).and_then(|log| self.slots.get(&log));
        let Some(slot) = slot.filter(|slot| slot.facts.forks.is_some()) else { return false };
        let root = slot.log.root_at(offer.size);
        root.is_some_and(|root| first(root.as_bytes()) != offer.root)
    }

    /// The moves to make after reconciliation has named `ours`, the logs of this set whose heads the other lacks, and
    /// the other has made its offers, all of them. In the order of the logs' ids.
    #[must_use]
    pub fn plan(&self, ours: &[LogId], theirs: &[Offer]) -> Vec<Move> {
        let theirs: BTreeMap<LogId, &Offer> = theirs.iter().map(|offer| (offer.log, offer)).collect();
        let logs: BTreeSet<LogId> = ours.iter().copied().chain(theirs.keys().copied()).collect();
        let mut moves = Vec::new();
        for id in logs {
            let offer = theirs.get(&id).copied();
            match self.slots.get(&id) {
                Some(slot) => plan_log(slot, offer, &mut moves),
                None => moves.extend(offer.filter(|offer| offer.size > 0).map(|offer| {
                    let want = Want { from: offer.start, to: offer.size, form: form_from(offer.start) };
                    Move::Expect(id, want)
                })),
            }
        }
        moves
    }
}

/// Works out the moves for one log that is held here.
fn plan_log(slot: &Slot, theirs: Option<&Offer>, moves: &mut Vec<Move>) {
    let ours = Offer::of(slot);
    let id = ours.log;
    if theirs.is_none() {
        moves.push(Move::Open(id));
    }
    let known = theirs.and_then(|offer| offer.facts);
    let size = theirs.map_or(0, |offer| offer.size);
    let parted = theirs.is_some_and(|offer| offer.size == ours.size && offer.root != ours.root);
    // The heads differ, even where the offers do not say why: a writer that signs can find two histories, or two pieces
    // of evidence, that agree in 8 bytes.
    if ours.facts.is_some() && (ours.facts != known || !parted) && !planted(Fault::FactsAreNotSent) {
        moves.push(Move::Facts(id));
    }
    // An invalidated log needs no other move. The facts of state logs are forks.
    if slot.log.opening().kind == LogKind::State && (ours.facts.is_some() || known.is_some()) {
        return;
    }
    // After a fork that one side does not know of yet, its entries do not count. Entries wait for the next round.
    let unaware = if ours.facts.is_none() { ours.size } else { size };
    if ours.facts.is_some() != known.is_some() && unaware > 0 {
        return;
    }
    if ours.size > size {
        let from = if size >= ours.start { size } else { ours.start };
        let form = if size >= ours.start { RangeForm::Follow } else { RangeForm::Alone };
        moves.push(Move::Send(id, Want { from, to: ours.size, form }));
    } else if let Some(offer) = theirs {
        if offer.size > ours.size {
            let follows = ours.size >= offer.start;
            let from = if follows { ours.size } else { offer.start };
            let form = if follows { RangeForm::Follow } else { RangeForm::Alone };
            moves.push(Move::Expect(id, Want { from, to: offer.size, form }));
        } else if size > 0 && !planted(Fault::NoProofOfTwoHistories) {
            if slot.facts.forks.is_none() || ours.facts != known {
                // Two histories of one length: the proof shows it.
                moves.push(Move::Send(id, Want { from: size, to: size, form: RangeForm::Alone }));
            } else if ours.root <= offer.root {
                // The fork is known; the place where the histories part has to be found.
                moves.push(Move::Search(id));
            }
        }
    }
}

/// The form in which a side that holds nothing has to be sent a range.
const fn form_from(start: u64) -> RangeForm {
    if start == 0 { RangeForm::Follow } else { RangeForm::Alone }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Admission, Answer, Incarnation, Keypair, Limits, LogOpening, MeshId, NewEntry, Signer, Topic,
        VerifyBudget,
    };
    use consilience_base::{Hlc, Timestamp};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn opening(incarnation: u64) -> LogOpening {
        LogOpening {
            topic: Topic::new("team").unwrap(),
            kind: LogKind::Event,
            agent: Keypair::from_seed([1; 32]).agent(),
            incarnation: Incarnation::from_u64(incarnation),
        }
    }

    fn writes(set: &mut LogSet, log: u64, entries: u64, payload: &[u8]) -> LogId {
        let id = set.open_local(&opening(log)).unwrap();
        for _ in 0..entries {
            set.append(&id, &NewEntry::new(Hlc::new(NOW, 0), payload)).unwrap();
        }
        set.sign_head(&id, &Keypair::from_seed([1; 32]), NOW).unwrap();
        id
    }

    /// Does this side's half of the plan.
    fn carry(from: &LogSet, to: &mut LogSet, moves: &[Move]) {
        for step in moves {
            match step {
                Move::Open(log) => {
                    to.open(from.log(log).unwrap().opening(), |_| Admission::Hold).unwrap();
                }
                Move::Send(log, want) => {
                    let Answer::Range { bytes, .. } = from.answer(log, want, usize::MAX) else {
                        panic!("{want:?}")
                    };
                    to.receive(log, &bytes, NOW, &mut VerifyBudget::new()).unwrap();
                }
                Move::Facts(log) => {
                    for evidence in from.forks(log).unwrap().pieces() {
                        let mut budget = VerifyBudget::new();
                        to.receive_evidence(evidence.as_bytes(), NOW, &mut budget, |_| Admission::Hold)
                            .unwrap();
                    }
                }
                Move::Search(_) | Move::Expect(..) => {}
            }
        }
    }

    #[test]
    fn two_sets_that_know_where_they_differ_meet_without_a_further_question() {
        let mesh = MeshId::from_bytes([7; 32]);
        let (mut here, mut there) =
            (LogSet::new(mesh, Limits::default()), LogSet::new(mesh, Limits::default()));
        let longer = writes(&mut here, 1, 5, b"a");
        writes(&mut there, 1, 2, b"a");
        let shorter = writes(&mut here, 2, 1, b"b");
        writes(&mut there, 2, 4, b"b");
        let only_here = writes(&mut here, 3, 3, b"c");
        let only_there = writes(&mut there, 4, 3, b"d");
        let forked = writes(&mut here, 5, 3, b"e");
        writes(&mut there, 5, 3, b"f");

        let ours = [longer, shorter, only_here, forked];
        let theirs = [longer, shorter, only_there, forked];
        let offers = |set: &LogSet, logs: &[LogId]| -> Vec<Offer> {
            let offers = logs.iter().map(|log| set.offer(log).unwrap());
            offers.map(|offer| Offer::decode(&offer.encode()).unwrap()).collect()
        };
        let here_plan = here.plan(&ours, &offers(&there, &theirs));
        let there_plan = there.plan(&theirs, &offers(&here, &ours));
        carry(&here, &mut there, &here_plan);
        carry(&there, &mut here, &there_plan);
        for log in [longer, shorter, only_here, only_there] {
            assert_eq!(here.offer(&log), there.offer(&log));
            assert_eq!(here.log(&log).unwrap().root(), there.log(&log).unwrap().root());
        }
        assert_eq!(here.log(&only_there).unwrap().size(), 3);
        assert!(here.forks(&forked).is_some() && there.forks(&forked) == here.forks(&forked));
        // Each expects the ranges that the other had planned to send.
        let sent = |plan: &[Move]| plan.iter().filter(|step| matches!(step, Move::Send(..))).count();
        let expected = |plan: &[Move]| plan.iter().filter(|step| matches!(step, Move::Expect(..))).count();
        assert_eq!((sent(&here_plan), expected(&there_plan)), (3, 2));
        assert_eq!((sent(&there_plan), expected(&here_plan)), (3, 2));
    }

    #[test]
    fn an_offer_is_met_by_its_root_or_where_no_more_is_to_be_had() {
        let mesh = MeshId::from_bytes([7; 32]);
        let (mut here, mut there) =
            (LogSet::new(mesh, Limits::default()), LogSet::new(mesh, Limits::default()));
        let log = writes(&mut here, 1, 5, b"a");
        writes(&mut there, 1, 3, b"a");
        let (longer, shorter) = (here.offer(&log).unwrap(), there.offer(&log).unwrap());
        assert!(here.has_offered(&longer) && here.has_offered(&shorter) && there.has_offered(&shorter));
        assert!(!there.has_offered(&longer));
        assert!(longer.counts_as(&Offer { start: 2, ..longer }) && !longer.counts_as(&shorter));
        let wrong = |size, facts| Offer { size, facts, root: [1; 8], ..longer };
        assert!(!here.has_offered(&wrong(5, None)) && !here.parts_lower(&wrong(5, None)));
        assert!(!here.has_offered(&Offer { facts: Some([1; 8]), ..longer }), "facts that are not here");
        assert!(!here.has_offered(&wrong(0, Some([1; 8]))));
        assert!(here.has_offered(&wrong(0, None)));
        let unknown = LogId::from_bytes([1; 32]);
        assert!(here.has_offered(&Offer { log: unknown, ..wrong(0, None) }));
        assert!(!here.has_offered(&Offer { log: unknown, ..longer }));

        // Of events that are given up nothing is asked for.
        let mut pruned = here.clone();
        pruned.prune(&log, 4, &Keypair::from_seed([1; 32]), NOW).unwrap().unwrap();
        assert!(pruned.has_offered(&wrong(4, None)) && pruned.has_offered(&wrong(4, Some([1; 8]))));
        assert!(!pruned.has_offered(&wrong(5, None)) && pruned.has_offered(&longer));

        // Of histories that part, all is here that counts.
        let mut other = there.clone();
        writes(&mut other, 1, 3, b"b");
        let whole = Want { from: 0, to: 6, form: RangeForm::Alone };
        let Answer::Range { bytes, .. } = other.answer(&log, &whole, usize::MAX) else { panic!("{whole:?}") };
        here.receive(&log, &bytes, NOW, &mut VerifyBudget::new()).unwrap();
        let below = here.forks(&log).unwrap().valid_below();
        assert!((3..5).contains(&below));
        let forked = [other.offer(&log).unwrap(), wrong(below + 1, Some([1; 8]))];
        assert!(forked.iter().all(|offer| here.has_offered(offer)));
        assert!(!here.has_offered(&wrong(below, None)) && here.has_offered(&shorter));
        assert!(here.parts_lower(&wrong(below, None)) && !here.parts_lower(&shorter));
        // A copy of less than that lacks the rest.
        let mut part = LogSet::new(mesh, Limits::default());
        writes(&mut part, 1, 2, b"a");
        let found = here.forks(&log).unwrap().least().as_bytes().to_vec();
        part.receive_evidence(&found, NOW, &mut VerifyBudget::new(), |_| Admission::Hold).unwrap();
        assert!(!part.has_offered(&shorter) && !part.has_offered(&wrong(1, None)));
    }

    #[test]
    fn an_offer_of_less_than_where_a_copy_begins_is_met() {
        let mesh = MeshId::from_bytes([7; 32]);
        let (mut here, mut there) =
            (LogSet::new(mesh, Limits::default()), LogSet::new(mesh, Limits::default()));
        let log = writes(&mut here, 1, 4, b"a");
        let early = Offer { size: 2, root: [1; 8], ..here.offer(&log).unwrap() };
        here.append(&log, &NewEntry { base: 4, ..NewEntry::new(Hlc::new(NOW, 0), b"a") }).unwrap();
        here.sign_head(&log, &Keypair::from_seed([1; 32]), NOW).unwrap();
        there.open(&opening(1), |_| Admission::Hold).unwrap();
        let end = Want { from: 4, to: 5, form: RangeForm::Alone };
        let Answer::Range { bytes, .. } = here.answer(&log, &end, usize::MAX) else { panic!("{end:?}") };
        there.receive(&log, &bytes, NOW, &mut VerifyBudget::new()).unwrap();
        assert_eq!(there.log(&log).unwrap().start(), 4);
        assert!(there.has_offered(&early) && there.has_offered(&here.offer(&log).unwrap()));
        assert!(!there.has_offered(&Offer { size: 4, ..early }));
    }
}
