//! Signed logs: one writer, one signature over everything so far, and proofs for any part of it.
//!
//! A [`Log`] is one copy of a log, the writer's own or a holder's. The writer [appends](Log::append), which only
//! hashes, and [signs](Log::sign_head) when something is to be sent. Others [receive](Log::receive) ranges, each with
//! its proof, and hold the entries that were verified.
//!
//! This module knows one log at a time; [`LogSet`](crate::LogSet) holds many, and decides what may be held. Pieces:
//! `shape` is the arithmetic of the tree, `entry` and `extension` the spelling of entries, `run` the storage, `range` the wire,
//! `receive` and `staging` the taking in, `evidence` and `search` the forks.
//!
//! The invariants:
//!
//! - each held entry was signed by the writer, or was appended by it here and is not signed yet;
//! - an error changes nothing; time that passes only makes entries ready;
//! - the entries that are *ready* are those with which a fold may work: without a gap from a base on, and none of them
//!   from the future.

pub(crate) mod entry;
mod evidence;
mod extension;
mod front;
pub(crate) mod head;
mod keys;
mod message;
mod range;
mod ready;
mod receive;
mod run;
mod search;
mod shape;
mod staging;

use alloc::boxed::Box;
use alloc::vec::Vec;

use consilience_base::{Hlc, Timestamp};

pub use entry::{AppendError, ENTRY_BYTES_MAX, Entry, EntryFlags, NewEntry, SALT_BYTES};
pub use evidence::{Evidence, EvidenceError, UncheckedEvidence};
pub use extension::{CITATIONS_MAX, CLOSURES_MAX, Citation, Closure};
pub use front::LogFront;
pub use head::{HeadError, SignedHead};
pub use message::{Gone, Have, Want};
pub use range::{Range, RangeForm};
pub use receive::{Allowance, ReceiveError, Received, VerifiedRange};
pub use search::{ForkSearch, SearchStep};
pub use shape::LOG_SIZE_MAX;

use crate::hash::Hash;
use crate::identity::{
    AgentKey, KeyError, LogId, LogKind, LogOpening, MeshId, NamedOpening, SignError, Signer,
};
use extension::Within;
use head::HEAD_MILLIS_MAX;
use keys::LogKeys;
use ready::Ready;
use run::Run;
use shape::Subtree;

/// A head with the hashes that tie a run to it: the cover of the entries between the run's end and the head's size.
#[derive(Clone, Debug)]
struct Proof {
    head: SignedHead,
    beyond: Vec<(Subtree, Hash)>,
}

/// Verified entries that do not connect to the held run: they wait after a gap, or are a fast-forward that is not
/// complete.
#[derive(Clone, Debug)]
struct Staged {
    run: Run,
    proof: Proof,
    ready: Ready,
    /// The [cost](Entry::cost) of all its entries, and of those that are not ready.
    cost: usize,
    late: usize,
}

/// One copy of a log.
#[derive(Clone, Debug)]
pub struct Log {
    opening: LogOpening,
    mesh: MeshId,
    id: LogId,
    keys: LogKeys,
    key: AgentKey,
    run: Run,
    proof: Option<Proof>,
    /// The verified head of the greatest size, where that lies beyond the run's proof. In a box: few have one.
    furthest: Option<Box<SignedHead>>,
    staged: Vec<Staged>,
    ready: Ready,
    /// The [cost](Entry::cost) of the entries that are not ready.
    late_bytes: usize,
    /// Entries below are not needed, by evidence of a fork.
    floor: u64,
    /// Whether a consumer takes note of entries, and has to learn later which ones ceased to count. Without a consumer,
    /// as in relays, no replaced entry is kept.
    has_consumer: bool,
    /// The run that was held before a fast-forward, or before entries at its end were given up, until the consumer has
    /// acknowledged the change.
    replaced: Option<Box<Run>>,
    /// How much was left then, before more came; the greatest number if nothing was replaced since.
    left: u64,
    /// Entries from here on do not count, as there is evidence of a fork; else the greatest number.
    valid_below: u64,
}

/// Why an entry cannot be erased, restored or dropped. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeepError {
    /// Entries from this one on are still needed: the base has not passed them.
    #[error("entries from {base} on are still needed")]
    StillNeeded {
        /// The base.
        base: u64,
    },
    /// Only events can be erased: a state is made of all its entries.
    #[error("only events can be erased")]
    NotAnEvent,
    /// There is no such entry here.
    #[error("there is no such entry here")]
    Unknown,
    /// The salt or the payload is not the one that was erased.
    #[error("the salt or the payload is not the one that was erased")]
    OtherPayload,
}

impl Log {
    /// An empty copy. Admits the writer's key.
    ///
    /// # Errors
    ///
    /// If the key is not admitted.
    pub fn new(opening: LogOpening, mesh: &MeshId) -> Result<Self, KeyError> {
        let key = AgentKey::admit(&opening.agent)?;
        Ok(Self::with_key(opening.named(mesh), mesh, key))
    }

    /// An empty copy of a log whose writer's key is admitted already.
    pub(crate) fn with_key(named: NamedOpening, mesh: &MeshId, key: AgentKey) -> Self {
        let (id, opening) = (*named.id(), named.into_opening());
        debug_assert_eq!(key.agent(), opening.agent, "the key of the log's writer");
        Self::empty(id, opening, *mesh, LogKeys::new(&id), key)
    }

    fn empty(id: LogId, opening: LogOpening, mesh: MeshId, keys: LogKeys, key: AgentKey) -> Self {
        Self {
            run: Run::new(Within::of(&opening)),
            opening,
            mesh,
            id,
            keys,
            key,
            proof: None,
            furthest: None,
            staged: Vec::new(),
            ready: Ready::from(0),
            late_bytes: 0,
            floor: 0,
            has_consumer: false,
            replaced: None,
            left: u64::MAX,
            valid_below: u64::MAX,
        }
    }

    const fn within(&self) -> Within {
        Within::of(&self.opening)
    }

    /// The opening of the log.
    #[must_use]
    pub const fn opening(&self) -> &LogOpening {
        &self.opening
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> &LogId {
        &self.id
    }

    /// The writer's key.
    #[must_use]
    pub const fn key(&self) -> &AgentKey {
        &self.key
    }

    /// The first entry that is here. Those before were dropped, or never came.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.run.start()
    }

    /// How many entries the log has as far as this copy goes: the number of the next one.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.run.end()
    }

    /// Entries below this number are ready, from the base as of the last of them on; those from it on carry a stamp from the
    /// future, or follow one that does and that none which is ready has given up.
    #[must_use]
    pub const fn ready(&self) -> u64 {
        self.ready.to
    }

    /// The base as of the last entry that is here: entries below it are no longer needed by anybody.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.run.last().base
    }

    /// The base as of the last entry that is ready. Entries below it may be dropped.
    #[must_use]
    pub fn ready_base(&self) -> u64 {
        self.base_at(self.ready.to)
    }

    /// The base as of the entry before `end`, for an end within the held run; the start where that is not known.
    pub(crate) fn base_at(&self, end: u64) -> u64 {
        self.run.before(end).map_or(self.run.start(), |before| before.base)
    }

    /// The stamp of the last entry that is here.
    #[must_use]
    pub const fn last_hlc(&self) -> Hlc {
        self.run.last().hlc
    }

    /// The root over all entries that are here; `None` for an empty log.
    #[must_use]
    pub fn root(&self) -> Option<Hash> {
        self.run.peaks().root(&self.keys)
    }

    /// The root over the first `size` entries, for any size from [`start`](Self::start) to [`size`](Self::size).
    /// `None` for others, and for 0.
    #[must_use]
    pub fn root_at(&self, size: u64) -> Option<Hash> {
        self.run.proofs(&self.keys, &[]).root(size)
    }

    /// The signed head that covers the held run. For the writer: the last one signed.
    #[must_use]
    pub fn head(&self) -> Option<&SignedHead> {
        self.proof.as_ref().map(|proof| &proof.head)
    }

    /// The signed head of the greatest size that was seen, which may lie beyond the held run.
    #[must_use]
    pub fn furthest_head(&self) -> Option<&SignedHead> {
        self.furthest.as_deref().or_else(|| self.head())
    }

    /// The bytes that its entries and hashes take in memory, tables included.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.run.memory() + self.staged.iter().map(|staged| staged.run.memory()).sum::<usize>()
    }

    /// The number of entries that are here and signed: those that others can be given.
    #[must_use]
    pub fn signed_size(&self) -> u64 {
        self.run.end().min(self.head().map_or(0, |head| head.size))
    }

    /// The entries that were appended here and not signed yet: no range can carry them.
    pub fn unsigned(&self) -> impl Iterator<Item = Entry<'_>> {
        self.entries(self.signed_size(), self.run.end())
    }

    pub(crate) fn has_unsigned(&self) -> bool {
        self.signed_size() < self.run.end()
    }

    /// Drops the entries that were appended and not signed, which no peer has seen. Returns the first number that is
    /// free again.
    pub fn discard_unsigned(&mut self) -> u64 {
        let size = self.signed_size().max(self.run.start());
        self.cut_run(size);
        size
    }

    /// Notes that a consumer takes note of entries from now on.
    pub(crate) const fn set_consumer(&mut self) {
        self.has_consumer = true;
    }

    /// Puts a run in the place of the held one, and keeps the old one for the consumer that has acknowledged it, unless
    /// something earlier is kept for the consumer already.
    fn replace_run(&mut self, run: Run) {
        self.left = self.left.min(run.end());
        let old = core::mem::replace(&mut self.run, run);
        if self.has_consumer {
            self.replaced.get_or_insert_with(|| Box::new(old));
        }
    }

    /// Drops the entries from `size` on, which is not below the start.
    fn cut_run(&mut self, size: u64) {
        if self.has_consumer && self.replaced.is_none() && size < self.run.end() {
            self.replaced = Some(Box::new(self.run.clone()));
        }
        self.left = self.left.min(size);
        self.run.truncate(&self.keys, size);
        self.cut_ready(size);
        self.ready.to = self.ready.to.min(size);
        self.count_late();
    }

    pub(crate) fn drop_replaced(&mut self) {
        self.replaced = None;
        self.left = u64::MAX;
    }

    /// How much was left when something took the place of entries of which a consumer was told, before more came.
    pub(crate) fn left(&self) -> u64 {
        self.left.min(self.run.end())
    }

    /// The entries `[from, to)` as they were before something took their place.
    pub(crate) fn replaced_entries(&self, from: u64, to: u64) -> impl Iterator<Item = Entry<'_>> {
        self.replaced.as_deref().unwrap_or(&self.run).entries(from, to)
    }

    /// The hash of an entry as it was before something took its place.
    pub(crate) fn replaced_leaf(&self, seq: u64) -> Option<Hash> {
        let run = self.replaced.as_deref().unwrap_or(&self.run);
        run.entry(seq).map(|entry| run.leaf(&self.keys, &entry))
    }

    /// The entry with this number, if it is here.
    #[must_use]
    pub fn entry(&self, seq: u64) -> Option<Entry<'_>> {
        self.run.entry(seq)
    }

    /// The entries of `[from, to)` that are here, in order.
    pub fn entries(&self, from: u64, to: u64) -> impl Iterator<Item = Entry<'_>> {
        self.run.entries(from, to)
    }

    /// The entries of `[from, to)` that close other logs, by number.
    pub(crate) fn stated(&self, from: u64, to: u64) -> &[u64] {
        self.run.stated(from, to)
    }

    /// Whether any entry that is here closes other logs.
    pub(crate) fn closes(&self) -> bool {
        !self.stated(0, u64::MAX).is_empty()
    }

    /// The hash of the entry with this number.
    #[must_use]
    pub fn leaf(&self, seq: u64) -> Option<Hash> {
        self.run.entry(seq).map(|entry| self.run.leaf(&self.keys, &entry))
    }

    /// The ranges of entries that are here and verified: the held run, then the entries that wait for a gap to be
    /// filled or for a fast-forward to be complete. Ascending and disjoint.
    pub fn held(&self) -> impl Iterator<Item = (u64, u64)> {
        let run = (self.run.start(), self.run.end());
        let staged = self.staged.iter().map(|staged| (staged.run.start(), staged.run.end()));
        core::iter::once(run).chain(staged).filter(|(from, to)| from < to)
    }

    /// The ranges between those that are [held](Self::held), up to the furthest head that was seen.
    #[must_use]
    pub fn gaps(&self) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut at = self.run.end();
        let to = self.furthest_head().map_or(0, |head| head.size);
        for (from, end) in self.held().skip_while(|(_, end)| *end <= self.run.end()).chain([(to, to)]) {
            if at < from {
                gaps.push((at, from));
            }
            at = at.max(end);
        }
        gaps
    }

    /// The request to make of a holder that has this: the first range that is missing here. `None` if nothing is.
    #[must_use]
    pub fn want(&self, have: &Have) -> Option<Want> {
        let end = self.run.end();
        if have.size <= end {
            return None;
        }
        if have.start <= end {
            let staged = self.staged.iter().map(|staged| staged.run.start()).find(|&start| start > end);
            let to = staged.unwrap_or(have.size).min(have.size);
            return Some(Want { from: end, to, form: RangeForm::Follow });
        }
        // The entries between are gone: go on with the fast-forward that has begun, or begin one.
        let begun = self.staged.iter().map(|staged| (staged.run.start(), staged.run.end()));
        let begun =
            begun.filter(|&(start, end)| start <= have.start && have.start <= end).map(|(_, end)| end);
        let want = match begun.max() {
            Some(from) => Want { from, to: have.size, form: RangeForm::Follow },
            None => Want { from: have.start, to: have.size, form: RangeForm::Alone },
        };
        (want.from < want.to).then_some(want)
    }

    /// Whether entries are signed beyond those that are here: a writer that appended now would fork its log.
    pub(crate) fn lacks_signed(&self) -> bool {
        let end = self.run.end();
        self.furthest.is_some() || self.proof.as_ref().is_some_and(|proof| proof.head.size > end)
    }

    /// Appends an entry: hashes it, and signs nothing. Gives its number.
    ///
    /// For the writer. A copy that received entries becomes the writer's by signing the next head.
    ///
    /// # Errors
    ///
    /// If the entry breaks a rule of the log; see [`AppendError`].
    pub fn append(&mut self, entry: &NewEntry<'_>) -> Result<u64, AppendError> {
        let seq = self.run.end();
        if seq >= LOG_SIZE_MAX {
            return Err(AppendError::Full);
        }
        if self.lacks_signed() {
            return Err(AppendError::NotWritable);
        }
        let within = self.within();
        let NewEntry { citations, closures, last_final, .. } = *entry;
        let extension = extension::write(citations, closures, last_final, within)?;
        let salted = [&entry.salt[..], entry.payload].concat();
        let entry = self.run.last().make(seq, within, entry, (&extension, &salted))?;
        self.run.push(&self.keys, &entry);
        if self.ready.to == seq {
            self.ready.to = self.run.end();
        } else {
            self.late_bytes += entry.cost();
        }
        Ok(seq)
    }

    /// Signs everything so far. Without new entries this is a heartbeat; at the time of the last head or earlier, the
    /// last head itself.
    ///
    /// # Errors
    ///
    /// If the signer is of another agent or does not answer. An empty log has no head: [`SignError::Unavailable`].
    pub fn sign_head(&mut self, signer: &dyn Signer, now: Timestamp) -> Result<SignedHead, SignError> {
        self.sign_head_at(self.run.end(), signer, now)
    }

    /// Signs the entries below `size`, if later ones must not leave yet. A size above the log's own means all its
    /// entries.
    ///
    /// # Errors
    ///
    /// As [`sign_head`](Self::sign_head).
    pub fn sign_head_at(
        &mut self,
        size: u64,
        signer: &dyn Signer,
        now: Timestamp,
    ) -> Result<SignedHead, SignError> {
        if signer.agent() != self.opening.agent {
            return Err(SignError::OtherAgent);
        }
        let size = size.min(self.run.end());
        let last = self.head().copied();
        // A head over less than the writer has signed already would be the beginning of a fork.
        if self.furthest_head().is_some_and(|head| head.size > size) {
            return Err(SignError::Behind);
        }
        let time = now.as_millis().min(HEAD_MILLIS_MAX).max(last.map_or(0, |head| head.time.as_millis()));
        let time = Timestamp::from_millis(time);
        if let Some(head) = last
            && head.size == size
            && head.time == time
        {
            return Ok(head);
        }
        let root = if size == self.run.end() { self.root() } else { self.root_at(size) };
        let root = root.ok_or(SignError::Unavailable)?;
        let head = SignedHead::sign(signer, &self.id, (size, self.base_at(size), time), root)?;
        self.replace_proof(Proof { head, beyond: Vec::new() });
        Ok(head)
    }

    /// The entries `[from, to)` with their proof, cut to about `bytes_max` bytes but not below one entry; and where
    /// they end. `from == to` gives a proof without entries. Layout: `docs/wire/log.md`.
    ///
    /// `None` if `[from, to)` is not all here and signed, or, in the form [`Follow`](RangeForm::Follow), if the entry
    /// before `from` never was here.
    #[must_use]
    pub fn range(&self, from: u64, to: u64, form: RangeForm, bytes_max: usize) -> Option<(Vec<u8>, u64)> {
        let mut bytes = Vec::new();
        let end = self.write_range(from, to, form, bytes_max, &mut bytes)?;
        Some((bytes, end))
    }

    /// As [`range`](Self::range), appended to `out`: nothing is, if it is `None`.
    pub(crate) fn write_range(
        &self,
        from: u64,
        to: u64,
        form: RangeForm,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Option<u64> {
        let proof = self.proof.as_ref()?;
        range::write(&self.run, &self.keys, (&proof.head, &proof.beyond), (from, to), form, bytes_max, out)
    }

    /// The hashes that show that the log of `size` entries continues that of `from`, for `0 < from ≤ size` and both not
    /// below [`start`](Self::start): the peaks at `from`, then the cover of the rest. From left to right; those of RFC
    /// 9162 §2.1.4, and where that leaves the smaller root out, that as well.
    #[must_use]
    pub fn consistency(&self, from: u64, size: u64) -> Option<Vec<Hash>> {
        if from == 0 || from > size || size > self.run.end() {
            return None;
        }
        let mut proofs = self.run.proofs(&self.keys, &[]);
        let mut hashes = proofs.peaks(from)?;
        hashes.extend(proofs.right_cover(from, size)?.iter().map(|(_, hash)| *hash));
        Some(hashes)
    }

    /// Checks the hashes that [`consistency`](Self::consistency) returned, here or elsewhere.
    #[must_use]
    pub fn is_consistent(&self, from: (u64, &Hash), size: (u64, &Hash), hashes: &[Hash]) -> bool {
        from.0 <= size.0 && shape::consistent(&self.keys, from, size, hashes)
    }

    /// Drops the entries below `seq`. The rest proves as before, and so does consistency from any size not below.
    ///
    /// # Errors
    ///
    /// [`KeepError::StillNeeded`] above the base of the last entry that is ready and signed.
    pub fn drop_below(&mut self, seq: u64) -> Result<(), KeepError> {
        let base = self.base_at(self.ready.to.min(self.signed_size()));
        if seq > base {
            return Err(KeepError::StillNeeded { base });
        }
        self.run.drop_below(&self.keys, seq);
        Ok(())
    }

    /// Drops entries whatever the base says: for logs of which the rest counts no more than these. Gives how many bytes they took.
    pub(crate) fn drop_all_below(&mut self, seq: u64) -> u64 {
        let seq = seq.min(self.run.end());
        let dropped = self.run.drop_below(&self.keys, seq);
        self.ready.raise(seq);
        self.count_late();
        dropped as u64
    }

    /// How many bytes the entries take that are here.
    pub(crate) fn entry_bytes(&self) -> u64 {
        self.run.entry_bytes() as u64
    }

    /// Drops the entries from `size` on: those after the first difference of a forked event log.
    pub(crate) fn truncate(&mut self, size: u64) {
        self.staged.clear();
        if size < self.run.start() {
            self.forget();
        }
        let Some(proof) = self.proof.as_mut().filter(|_| size < self.run.end()) else { return };
        let cover = self.run.proofs(&self.keys, &proof.beyond).right_cover(size, proof.head.size);
        if let Some(beyond) = cover {
            proof.beyond = beyond;
            self.cut_run(size);
        }
    }

    /// Erases the payload of one event and its salt, here only. Their hash stays, so everything verifies as before; others that ask
    /// for the event get the hash.
    ///
    /// # Errors
    ///
    /// If this is a state log, or there is no such entry here.
    pub fn erase(&mut self, seq: u64) -> Result<(), KeepError> {
        if self.opening.kind != LogKind::Event {
            return Err(KeepError::NotAnEvent);
        }
        self.run.entry(seq).ok_or(KeepError::Unknown)?;
        self.run.rewrite(&self.keys, seq, None);
        Ok(())
    }

    /// Puts salt and payload of an erased event back. They come from anywhere: the hash decides.
    ///
    /// # Errors
    ///
    /// If there is no such entry here, or it had another salt or payload.
    pub fn restore(&mut self, seq: u64, salt: [u8; SALT_BYTES], payload: &[u8]) -> Result<(), KeepError> {
        let entry = self.run.entry(seq).ok_or(KeepError::Unknown)?;
        if payload.len() != entry.payload_len as usize {
            return Err(KeepError::OtherPayload);
        }
        let salted = [&salt[..], payload].concat();
        if self.keys.payload(&salted) != entry.payload_hash(&self.keys) {
            return Err(KeepError::OtherPayload);
        }
        self.run.rewrite(&self.keys, seq, Some(&salted));
        Ok(())
    }

    /// Drops everything but the id, and the entries whose end the consumer has not acknowledged yet.
    pub(crate) fn forget(&mut self) {
        self.replace_run(Run::new(self.within()));
        let fresh =
            Self::empty(self.id, self.opening.clone(), self.mesh, self.keys.clone(), self.key.clone());
        let old = core::mem::replace(self, fresh);
        (self.floor, self.valid_below) = (old.floor, old.valid_below);
        (self.has_consumer, self.replaced, self.left) = (old.has_consumer, old.replaced, old.left);
    }
}
