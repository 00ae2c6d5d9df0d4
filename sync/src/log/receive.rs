//! Taking ranges in: checking them against the held run, and appending, staging or refusing their entries.
//!
//! A range is checked whole before anything changes. The place where it begins decides its use:
//!
//! - within or at the end of the held run, it extends that run;
//! - after its end, and with its own peaks, it is [staged](super::staging).
//!
//! Forks show as two roots at one size: the computed one and the one that is known here, from the entries or from a
//! head. Of a range that begins above all that is held its peaks show roots at smaller sizes: the first of them make up whole
//! trees.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::boxed::Box;
use alloc::vec::Vec;

use consilience_base::Hlc;
use consilience_base::planted::{Fault, planted};

use super::entry::{Before, Entry};
use super::evidence::{Evidence, Side};
use super::extension::Within;
use super::head::SignedHead;
use super::keys::LogKeys;
use super::range::{Checked, Footing, Range, RangeFault, check};
use super::run::Run;
use super::shape::{bag, peaks};
use super::{Log, Proof, Staged};
use crate::budget::VerifyBudget;
use crate::codec::{DecodeError, Reader};
use crate::hash::Hash;

/// Staged ranges of one log: enough for the chunks of a fast-forward to arrive in any order within a window.
const STAGED_MAX: usize = 8;

/// The limits of a receiver. They delay what is applied, and never decide what is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Entries with later stamps are not ready: usually now and `max_drift`.
    pub latest: Hlc,
    /// Bytes of entries that are not ready, at most.
    pub late_bytes_max: usize,
    /// Bytes of entries that wait after a gap, at most.
    pub staged_bytes_max: usize,
}

impl Allowance {
    /// Everything is ready, and a mebibyte may wait after gaps.
    pub const ANY: Self = Self { latest: Hlc::MAX, late_bytes_max: usize::MAX, staged_bytes_max: 1 << 20 };
}

/// The outcome of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// Nothing that was not known.
    Nothing,
    /// A later head.
    Head,
    /// Entries `[from, to)` follow on the held run.
    Extended {
        /// The first of them.
        from: u64,
        /// The number after the last of them.
        to: u64,
    },
    /// Entries `[from, to)` wait for the gap before them to be filled, or for the base to reach them.
    Staged {
        /// The first of them.
        from: u64,
        /// The number after the last of them.
        to: u64,
    },
    /// Entries `[from, to)` replace the held run, which is no longer needed.
    FastForwarded {
        /// The first of them.
        from: u64,
        /// The number after the last of them.
        to: u64,
    },
    /// The writer signed two histories. The entries of the range are not taken in, unless it filled a gap and the fork
    /// shows against the entries that waited after that: then the copy was extended, and the waiting entries are gone.
    /// The log's holder decides what becomes of the log.
    Forked(Box<Evidence>),
    /// The writer signed something else than the entries that were appended here and not signed yet. Nobody has seen
    /// those; they belong into the writer's next incarnation. They stay until then, and the range may wait.
    Conflict,
}

impl Received {
    /// Whether entries were taken in that were not here.
    pub(crate) const fn is_entries(&self) -> bool {
        matches!(self, Self::Extended { .. } | Self::Staged { .. } | Self::FastForwarded { .. })
    }
}

/// Why a range was refused. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The bytes are no range: the sender's fault.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It begins after the end of the held run and cannot be checked from there. Ask from `have`, or in the form
    /// `Alone`.
    #[error("it follows on entries that are not here: ask from {have}")]
    Gap {
        /// How many entries are here.
        have: u64,
    },
    /// It begins before the held run, where nothing is left to check it against. Ask from `have`.
    #[error("it begins before the entries that are kept: ask from {have}")]
    Stale {
        /// How many entries are here.
        have: u64,
    },
    /// The head's signature does not cover the held run and the range together: the range was changed on its way, or
    /// the writer has another history than the one here. The form `Alone` tells which.
    #[error("it does not prove against what is held: ask for it with its peaks")]
    Unproven,
    /// The signature is not the writer's, of just this range: the range was changed on its way.
    #[error("the signature is not the writer's")]
    BadSignature,
    /// More entries from the future than are kept. Those before `ready_to` can be asked for alone.
    #[error("entries from {ready_to} on are from the future, and no more of those are kept")]
    TooLate {
        /// The first entry of the range that is from the future.
        ready_to: u64,
    },
    /// More entries after gaps than are kept. Ask for the gaps first.
    #[error("no more entries are kept behind a gap")]
    TooManyStaged,
    /// The peer has caused more signature checks than its bytes pay for. Try again when more has come.
    #[error("the peer's allowance of signature checks is used up")]
    Budget,
    /// The writer's logs have said so much of one another, in so few bytes, that taking it in took more work than these pay
    /// for. Try again later: what is refused pays as well.
    #[error("what the writer's logs say of one another takes more work than their bytes pay for")]
    TooMuchWork,
}

impl From<RangeFault> for ReceiveError {
    fn from(fault: RangeFault) -> Self {
        match fault {
            RangeFault::Form(error) => Self::Decode(error),
            RangeFault::Footing => Self::Unproven,
        }
    }
}

/// Entries that were checked and are not held.
#[derive(Clone, Debug)]
pub struct VerifiedRange<'a> {
    within: Within,
    from: u64,
    to: u64,
    head: SignedHead,
    entries: &'a [u8],
}

impl<'a> VerifiedRange<'a> {
    /// The head under which they stand.
    #[must_use]
    pub const fn head(&self) -> &SignedHead {
        &self.head
    }

    /// The entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> {
        let mut reader = Reader::new(self.entries);
        let mut behind = Before::default();
        let within = self.within;
        // They were read once already.
        (self.from..self.to).map_while(move |seq| behind.read(seq, within, &mut reader).ok())
    }
}

/// Which run a range belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Held,
    Staged(usize),
    New,
}

/// A root that is known here, and the head that vouches for it.
#[derive(Clone, Copy, Debug)]
struct KnownRoot {
    size: u64,
    root: Hash,
    /// `None` for entries that are not signed yet.
    head: Option<SignedHead>,
}

impl Log {
    /// Takes a range in. First of all, entries with stamps up to `allowance.latest` are [made
    /// ready](Self::make_ready), whatever becomes of the range.
    ///
    /// # Errors
    ///
    /// Why it was refused; see [`ReceiveError`]. Nothing else changed then.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        allowance: &Allowance,
        budget: &mut VerifyBudget,
    ) -> Result<Received, ReceiveError> {
        self.make_ready(allowance.latest);
        self.receive_forked(&Range::parse(bytes)?, allowance, budget, u64::MAX)
    }

    /// [`receive`](Self::receive) for a log that is known to be forked at size `forked`: differences there and after it
    /// are nothing new.
    pub(crate) fn receive_forked(
        &mut self,
        range: &Range<'_>,
        allowance: &Allowance,
        budget: &mut VerifyBudget,
        forked: u64,
    ) -> Result<Received, ReceiveError> {
        let place = self.place(range)?;
        let mut known = self.known_roots(place, range);
        let mut sizes: Vec<u64> = known.iter().map(|known| known.size).collect();
        // Two histories may be known to differ at one size.
        sizes.dedup();
        let footing = self.footing(place, range, &sizes, allowance.latest)?;
        let checked = check(&self.keys, self.within(), range, footing)?;
        self.check_room(place, &checked, allowance)?;
        if place == Target::Held && budget.is_sparing() && self.knows(range, &checked) {
            return Ok(Received::Nothing);
        }

        let refused = if range.is_alone() { ReceiveError::BadSignature } else { ReceiveError::Unproven };
        let paid = self.check_head(&checked.head, refused, budget)?;
        if paid && let Some(root) = self.root_at(checked.head.size) {
            let size = checked.head.size;
            let head = self.head().copied().filter(|head| head.size >= size);
            known.insert(known.partition_point(|known| known.size < size), KnownRoot { size, root, head });
        }
        let shared = if place == Target::New && !planted(Fault::PeaksAreNotCompared) {
            self.shared_size(checked.from)
        } else {
            None
        };
        if let Some((size, _)) = shared
            && let Some(root) = self.root_at(size)
        {
            let head = self.head().copied().filter(|head| head.size >= size);
            known.insert(known.partition_point(|known| known.size < size), KnownRoot { size, root, head });
        }
        let differs = |known: &&KnownRoot| {
            let theirs = if known.size == checked.head.size {
                Some(checked.head.root)
            } else if let Some((_, count)) = shared.filter(|(size, _)| *size == known.size) {
                checked.left.get(..count).and_then(|peaks| bag(&self.keys, peaks))
            } else {
                checked.roots.iter().find(|(size, _)| *size == known.size).map(|(_, root)| *root)
            };
            theirs.is_some_and(|root| root != known.root)
        };
        let received = match known.iter().find(differs) {
            // After a fork that is known, a difference from heads is nothing new; waiting entries are not mixed with
            // it, but for those that lie before it: whichever history they come from, they count.
            Some(known) if known.size >= forked && (place == Target::Held || checked.to <= forked) => {
                self.take(place, checked, allowance)
            }
            Some(known) if known.size >= forked => Received::Nothing,
            Some(KnownRoot { head: None, .. }) => Received::Conflict,
            Some(known) => match self.evidence_at(known, &checked) {
                Some(evidence) => Received::Forked(Box::new(evidence)),
                None => Received::Conflict,
            },
            None => self.take(place, checked, allowance),
        };
        if paid && received.is_entries() {
            budget.refund(1);
        }
        Ok(received)
    }

    /// Takes a range back that waited here before a restart. It is compared with nothing: what was not seen when it came, and
    /// may be seen now, is for the next range that comes.
    pub(crate) fn stage_again(
        &mut self,
        range: &Range<'_>,
        allowance: &Allowance,
        budget: &mut VerifyBudget,
    ) -> Result<Received, ReceiveError> {
        let place = self.place(range)?;
        if place == Target::Held {
            return Ok(Received::Nothing);
        }
        let footing = self.footing(place, range, &[], allowance.latest)?;
        let checked = check(&self.keys, self.within(), range, footing)?;
        self.check_room(place, &checked, allowance)?;
        self.check_head(&checked.head, ReceiveError::BadSignature, budget)?;
        Ok(self.take(place, checked, allowance))
    }

    /// Checks a range that brings its peaks, whatever is held here, and keeps nothing of it: a sparse read, or a look
    /// at another branch of a forked log.
    ///
    /// # Errors
    ///
    /// Why it does not prove. A range without peaks is [`ReceiveError::Unproven`].
    pub fn verify<'a>(
        &self,
        bytes: &'a [u8],
        budget: &mut VerifyBudget,
    ) -> Result<VerifiedRange<'a>, ReceiveError> {
        let checked = self.verify_alone(&Range::parse(bytes)?, &[], budget)?;
        let Checked { from, to, head, entries, .. } = checked;
        Ok(VerifiedRange { within: self.within(), from, to, head, entries })
    }

    fn verify_alone<'a>(
        &self,
        range: &Range<'a>,
        sizes: &[u64],
        budget: &mut VerifyBudget,
    ) -> Result<Checked<'a>, ReceiveError> {
        if !range.is_alone() {
            return Err(ReceiveError::Unproven);
        }
        let footing = Footing { sizes, known: range.to, limit: Hlc::MAX, ..Footing::default() };
        let checked = check(&self.keys, self.within(), range, footing)?;
        self.check_head(&checked.head, ReceiveError::BadSignature, budget)?;
        Ok(checked)
    }

    /// Compares a proof without entries at `size` with the held run there: evidence if they differ.
    pub(super) fn compare(
        &self,
        range: &Range<'_>,
        size: u64,
        budget: &mut VerifyBudget,
    ) -> Result<Option<Evidence>, ReceiveError> {
        let checked = self.verify_alone(range, &[size], budget)?;
        let (Some(root), Some((_, theirs))) = (self.root_at(size), checked.roots.first()) else {
            return Err(ReceiveError::Stale { have: self.size() });
        };
        if root == *theirs {
            return Ok(None);
        }
        let head = self.head().copied().filter(|head| head.size >= size);
        Ok(self.evidence_at(&KnownRoot { size, root, head }, &checked))
    }

    fn place(&self, range: &Range<'_>) -> Result<Target, ReceiveError> {
        let (start, end) = (self.run.start(), self.run.end());
        // A base that falls begins something else.
        let falls = |run: &Run| {
            !planted(Fault::BaseMayFall)
                && range.from == run.end()
                && range.first_base(self.within()).is_some_and(|base| base < run.last().base)
        };
        let within = |run: &Run| run.start() <= range.from && range.from <= run.end() && !falls(run);
        if within(&self.run) {
            return Ok(Target::Held);
        }
        if range.from < start {
            return Err(ReceiveError::Stale { have: end });
        }
        match self.staged.iter().position(|staged| within(&staged.run)) {
            Some(at) => Ok(Target::Staged(at)),
            // A proof without entries has no place either, and still shows a head.
            None if range.is_alone() => Ok(Target::New),
            // Nothing is missing before it: it is of another history, which its peaks show.
            None if falls(&self.run) => Err(ReceiveError::Unproven),
            None => Err(ReceiveError::Gap { have: end }),
        }
    }

    /// The greatest size within the held run at which the first of the peaks at a place beyond it, and how many of them, make
    /// up a tree.
    fn shared_size(&self, from: u64) -> Option<(u64, usize)> {
        let least = self.run.start().max(1);
        let ends = peaks(from).map(|peak| peak.end()).zip(1..);
        ends.take_while(|(end, _)| *end <= self.run.end().min(from.saturating_sub(1)))
            .last()
            .filter(|(end, _)| *end >= least)
    }

    fn run_at(&self, place: Target) -> Option<&Run> {
        match place {
            Target::Held => Some(&self.run),
            Target::Staged(at) => self.staged.get(at).map(|staged| &staged.run),
            Target::New => None,
        }
    }

    /// The roots with which a range can be compared, by size: at its ends and those of the held and staged runs, and
    /// those of the heads that were seen.
    fn known_roots(&self, place: Target, range: &Range<'_>) -> Vec<KnownRoot> {
        let mut known = Vec::new();
        let signed = self.head().copied();
        if place == Target::Held {
            let mut proofs = self.run.proofs(&self.keys, &[]);
            let to = range.to.min(self.run.end());
            // Without peaks, the range is computed from the peaks held here: the two cannot differ where it begins.
            let from = range.is_alone().then_some(range.from);
            for size in from.into_iter().chain((to > range.from).then_some(to)) {
                let head = signed.filter(|head| head.size >= size);
                known.extend(proofs.root(size).map(|root| KnownRoot { size, root, head }));
            }
        }
        for head in [signed, self.furthest.as_deref().copied()].into_iter().flatten() {
            known.push(KnownRoot { size: head.size, root: head.root, head: Some(head) });
        }
        for staged in &self.staged {
            let head = staged.proof.head;
            known.push(KnownRoot { size: head.size, root: head.root, head: Some(head) });
            let run = &staged.run;
            let mut proofs = run.proofs(&self.keys, &[]);
            for size in [run.start(), range.from, range.to, run.end()] {
                if range.from <= size && size <= range.to {
                    known.extend(proofs.root(size).map(|root| KnownRoot { size, root, head: Some(head) }));
                }
            }
        }
        known.sort_by_key(|known| known.size);
        known.dedup_by_key(|known| (known.size, known.root));
        known
    }

    fn footing<'a>(
        &self,
        place: Target,
        range: &Range<'_>,
        sizes: &'a [u64],
        limit: Hlc,
    ) -> Result<Footing<'a>, ReceiveError> {
        let mut footing = Footing { sizes, limit, ..Footing::default() };
        let Some(run) = self.run_at(place) else {
            footing.known = range.from;
            return Ok(footing);
        };
        footing.known = run.end();
        if !range.is_alone() {
            footing.before = run.before(range.from).ok_or(ReceiveError::Unproven)?;
            footing.peaks = run.proofs(&self.keys, &[]).peaks(range.from).ok_or(ReceiveError::Unproven)?;
        }
        Ok(footing)
    }

    fn check_room(
        &self,
        place: Target,
        checked: &Checked<'_>,
        allowance: &Allowance,
    ) -> Result<(), ReceiveError> {
        if checked.to <= checked.from.max(self.run_at(place).map_or(0, Run::end)) {
            return Ok(());
        }
        if place != Target::Held {
            let start = self.run_at(place).map_or(checked.from, Run::start);
            // A fast-forward that its writer has declared is as large as what the log retains.
            let declared = checked.head.base >= start;
            let waits = self.staged_bytes().saturating_add(checked.fresh_cost);
            // It takes the place of runs that no head declares: those may wait for entries that no holder has any more.
            let yields = declared && self.staged.iter().any(|staged| staged.yields_to(start));
            let full = place == Target::New && self.staged.len() >= STAGED_MAX && !yields;
            if full || (!declared && waits > allowance.staged_bytes_max) {
                return Err(ReceiveError::TooManyStaged);
            }
            return Ok(());
        }
        // After a deferred entry, all are deferred, unless they give up all before them.
        let gives_up = checked.late.is_none() && checked.grown.last.base.max(self.floor) >= self.run.end();
        let late = if self.ready.to < self.run.end() && !gives_up {
            Some((self.run.end(), checked.fresh_cost))
        } else {
            checked.late
        };
        match late {
            Some((ready_to, cost)) if self.late_bytes.saturating_add(cost) > allowance.late_bytes_max => {
                Err(ReceiveError::TooLate { ready_to })
            }
            _ => Ok(()),
        }
    }

    /// Whether a range that lies within the held run says nothing beyond a head that was verified: the roots are the same at
    /// its size, so it holds the same entries, whoever signed it. Without peaks and entries it says nothing of its root: that is
    /// made from what is held here, and only the signature tells whether the writer has another.
    fn knows(&self, range: &Range<'_>, checked: &Checked<'_>) -> bool {
        let Some(held) = self.head() else { return false };
        if range.from == range.to && !range.is_alone() {
            return false;
        }
        let theirs = &checked.head;
        let earlier = theirs.size < held.size
            || ((theirs.size, theirs.base) == (held.size, held.base) && theirs.time <= held.time);
        earlier && checked.to <= self.run.end() && self.root_at(theirs.size) == Some(theirs.root)
    }

    /// Checks a head's signature, unless just this head was verified before. Whether it had to be paid for.
    fn check_head(
        &self,
        head: &SignedHead,
        refused: ReceiveError,
        budget: &mut VerifyBudget,
    ) -> Result<bool, ReceiveError> {
        let staged = self.staged.iter().map(|staged| &staged.proof.head);
        if self.head().into_iter().chain(self.furthest.as_deref()).chain(staged).any(|known| known == head) {
            return Ok(false);
        }
        if !budget.spend(1) {
            return Err(ReceiveError::Budget);
        }
        if head.verifies(&self.id, &self.key) { Ok(true) } else { Err(refused) }
    }

    /// Takes in entries that were verified and do not differ from the held run.
    fn take(&mut self, place: Target, checked: Checked<'_>, allowance: &Allowance) -> Received {
        let Checked {
            from,
            to,
            head,
            entries,
            fresh: (at, before),
            fresh_cost,
            beyond,
            grown,
            left,
            late,
            ..
        } = checked;
        let fresh = entries.get(at..).unwrap_or_default();
        let proof = Proof { head, beyond };
        match place {
            Target::Held if to > self.run.end() => {
                let end = self.run.end();
                self.run.grow(fresh, at, before, grown);
                let waits = self.ready.to < end;
                let (ready, cost) = if waits { (self.ready.to, fresh_cost) } else { late.unwrap_or((to, 0)) };
                self.ready.to = ready;
                self.late_bytes = self.late_bytes.saturating_add(cost);
                self.replace_proof(proof);
                // The new entries may have given up some that wait.
                self.make_ready(allowance.latest);
                match self.absorb_staged(allowance) {
                    None | Some(Received::Extended { .. }) => {
                        Received::Extended { from: end, to: self.run.end() }
                    }
                    Some(absorbed) => absorbed,
                }
            }
            Target::Held => self.take_head(to, proof),
            Target::New | Target::Staged(_) if from == to => self.take_head(to, proof),
            Target::Staged(index) => {
                let later = self.see(head);
                let Some(staged) = self.staged.get_mut(index) else { return Received::Nothing };
                let end = staged.run.end();
                if to <= end {
                    return if later { Received::Head } else { Received::Nothing };
                }
                staged.run.grow(fresh, at, before, grown);
                staged.proof = proof;
                staged.count(fresh_cost);
                self.join_staged(index);
                self.absorb_staged(allowance).unwrap_or(Received::Staged { from: end, to })
            }
            Target::New => {
                self.see(head);
                let mut run = Run::starting_at(self.within(), from, left, None);
                run.grow(fresh, at, before, grown);
                if self.staged.len() >= STAGED_MAX
                    && let Some(yields) = self.staged.iter().position(|staged| staged.yields_to(from))
                {
                    self.staged.remove(yields);
                }
                let index = self.staged.partition_point(|staged| staged.run.start() < from);
                self.staged.insert(index, Staged::new(run, proof, fresh_cost));
                self.join_staged(index);
                self.absorb_staged(allowance).unwrap_or(Received::Staged { from, to })
            }
        }
    }

    /// Takes a head in that brought no entries.
    fn take_head(&mut self, to: u64, proof: Proof) -> Received {
        let head = proof.head;
        let held = self.head().copied();
        // At the tip, a head states the base of the last entry. One that does not would spoil the ranges sent from
        // here. Where nothing is left of the entries, nothing is sent either.
        let unknown = self.run.is_empty() && self.run.front().0.is_none();
        let sound = head.size != self.run.end() || unknown || head.base == self.run.last().base;
        if let Some(held) = held
            && (held.size, held.base, held.root) == (head.size, head.base, head.root)
        {
            // The same at a later time, or an earlier one.
            if head.time <= held.time {
                return Received::Nothing;
            }
            if let Some(proof) = &mut self.proof {
                proof.head = head;
            }
            return Received::Head;
        }
        let later = head.size > held.map_or(0, |held| held.size);
        if to == self.run.end() && later && sound {
            // It ties the held run to a later head.
            self.replace_proof(proof);
            return Received::Head;
        }
        if head.size < self.run.end() && later && head.base == self.base_at(head.size) {
            // The writer signed elsewhere the entries that were appended here, as far as the head goes.
            self.replace_proof(Proof { head, beyond: Vec::new() });
            return Received::Head;
        }
        if self.see(head) { Received::Head } else { Received::Nothing }
    }

    /// Remembers a verified head if it is the furthest.
    fn see(&mut self, head: SignedHead) -> bool {
        let further = self.furthest_head().is_none_or(|seen| seen.size < head.size);
        if further {
            self.furthest = Some(Box::new(head));
        }
        further
    }

    /// Takes the proof that ties the run to a head, and remembers the furthest head.
    pub(super) fn replace_proof(&mut self, proof: Proof) {
        let heads = [self.furthest.as_deref().copied(), self.head().copied()];
        let size = proof.head.size;
        let beyond = heads.into_iter().flatten().filter(|head| head.size > size);
        self.furthest = beyond.max_by_key(|head| head.size).map(Box::new);
        self.proof = Some(proof);
    }

    /// The evidence that the writer signed both the root that is known here and the range that came.
    fn evidence_at(&self, known: &KnownRoot, checked: &Checked<'_>) -> Option<Evidence> {
        let size = known.size;
        let ours = match known.head? {
            head if head.size == size => Side::whole(head),
            head => {
                let held = self.proof.iter().map(|proof| (&self.run, proof));
                let staged = self.staged.iter().map(|staged| (&staged.run, &staged.proof));
                let mut vouched = held.chain(staged).filter(|(_, proof)| proof.head == head);
                vouched.find_map(|(run, proof)| Side::within(run, &self.keys, proof, size))?
            }
        };
        let theirs = if checked.head.size == size {
            Side::whole(checked.head)
        } else {
            let run = rebuilt(&self.keys, self.within(), checked);
            let proof = Proof { head: checked.head, beyond: checked.beyond.clone() };
            Side::within(&run, &self.keys, &proof, size)?
        };
        Evidence::of((&self.opening, &self.mesh), (self.id, &self.keys), size, ours, theirs)
    }
}

/// The run of a range that was checked, with all its hashes.
fn rebuilt(keys: &LogKeys, within: Within, checked: &Checked<'_>) -> Run {
    let mut run = Run::starting_at(within, checked.from, checked.left.clone(), Some(checked.before));
    let mut reader = Reader::new(checked.entries);
    let mut behind = checked.before;
    for seq in checked.from..checked.to {
        let Ok(entry) = behind.read(seq, within, &mut reader) else { break };
        run.push(keys, &entry);
    }
    run
}
