//! [`LogStore`]: the logs that a replica or a relay holds, and all that has to be stored of them.
//!
//! A log set, a journal, the keys of local agents and the host's word on which logs are held, behind one face: every
//! change of durable state goes through here, and leaves its items in the journal. Sessions and bundles work on a
//! store; a replica folds its logs afterwards ([`LogStore::poll_change`]), and a relay does not fold.
//!
//! Not here: the meaning of payloads, peers, and files (the host's).
//!
//! The invariants: nothing derived from an own entry is signed before the host has confirmed the record that holds it; and
//! everything that a restart must not forget is an item of the journal before the call that brought it returns.

mod bundle;
mod opening;
mod own;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::fmt;

use consilience_base::Timestamp;
use consilience_base::planted::{Fault, planted};

pub use bundle::{BundleError, Imported};
pub use opening::{Mark, Opened, Recovery, Stored};

use crate::budget::VerifyBudget;
use crate::facts::{Forks, Pruned, UncheckedPruned};
use crate::identity::{AgentId, LogId, LogOpening, MeshId, NamedOpening, Signer, Topic};
use crate::journal::{ConfirmError, Journal, JournalItem, Record, RecordId};
use crate::log::{Range, RangeForm, Received, UncheckedEvidence};
use crate::logset::{Admission, Change, Limits, LogSet, OpenError, ReplayError, SetError};

/// The host's word on which logs of peers are held.
pub type Admit = Box<dyn FnMut(&LogOpening) -> Admission + Send>;

/// Logs, and the journal of their stored content. See the module.
pub struct LogStore {
    set: LogSet,
    journal: Journal,
    admit: Admit,
    signers: BTreeMap<AgentId, Box<dyn Signer + Send>>,
    /// Own entries whose records were not confirmed yet: up to which size of which log.
    unconfirmed: VecDeque<(RecordId, LogId, u64)>,
    /// Words of own writers that events are given up, whose records were not confirmed yet: nobody hears of them before.
    pruning: VecDeque<(RecordId, LogId, Pruned)>,
    /// Own entries below may be signed; of logs of which not all of these are.
    durable: BTreeMap<LogId, u64>,
    /// Up to which version of the heads own ones are recorded.
    recorded: u64,
    /// Whether there is storage.
    stores: bool,
    growth: Growth,
    /// Stored ranges in whose way own entries stand that their writer has to give up again.
    contested: Vec<(LogId, Box<[u8]>)>,
    /// How many logs the host has had forgotten so far.
    forgotten: u64,
}

/// How many bytes the host has stored, so that a snapshot is made in time.
#[derive(Clone, Copy, Debug, Default)]
struct Growth {
    /// Of the records since the last snapshot that was confirmed.
    records: usize,
    /// Of that snapshot.
    snapshot: usize,
    /// How many bytes of entries had been [dropped](LogSet::freed_bytes) by then.
    freed: u64,
    /// The same of the last snapshot made, if it is not confirmed yet: the last record that it covers, the bytes of the
    /// records up to that, its own, and those dropped by then.
    made: Option<(RecordId, usize, usize, u64)>,
}

impl Growth {
    /// Records of fewer bytes are not worth a snapshot.
    const RECORDS_MIN: usize = 4 << 10;

    const fn wants_snapshot(self, freed: u64) -> bool {
        let third = self.snapshot / 3;
        let least = if third > Self::RECORDS_MIN { third } else { Self::RECORDS_MIN };
        self.records >= least || freed.saturating_sub(self.freed) >= least as u64
    }

    /// Notes that a record was given out. One that the last snapshot made covers goes with it.
    fn store(&mut self, record: RecordId, bytes: usize) {
        self.records = self.records.saturating_add(bytes);
        if let Some((_, records, ..)) = self.made.as_mut().filter(|made| record <= made.0) {
            *records = records.saturating_add(bytes);
        }
    }

    /// Notes that a snapshot is durable. Of one that is not the last made the figures are not known any more.
    fn confirm(&mut self, covers: RecordId) {
        if let Some((_, records, snapshot, freed)) = self.made.take_if(|made| made.0 == covers) {
            self.records = self.records.saturating_sub(records);
            (self.snapshot, self.freed) = (snapshot, freed);
        }
    }
}

impl fmt::Debug for LogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStore")
            .field("logs", &self.set.stats().logs)
            .field("agents", &self.signers.keys())
            .finish_non_exhaustive()
    }
}

impl LogStore {
    /// Without storage: nothing has to be stored, and own entries may leave at once.
    #[must_use]
    pub fn in_memory(mesh: MeshId, limits: Limits, admit: Admit) -> Self {
        Self::with(mesh, limits, admit, false)
    }

    fn with(mesh: MeshId, limits: Limits, admit: Admit, stores: bool) -> Self {
        Self {
            journal: Journal::new(&mesh),
            set: LogSet::new(mesh, limits),
            admit,
            signers: BTreeMap::new(),
            unconfirmed: VecDeque::new(),
            pruning: VecDeque::new(),
            durable: BTreeMap::new(),
            recorded: 0,
            stores,
            growth: Growth::default(),
            contested: Vec::new(),
            forgotten: 0,
        }
    }

    /// The logs.
    #[must_use]
    pub const fn logs(&self) -> &LogSet {
        &self.set
    }

    /// The root over all that counts here; see [`LogSet::heads_root`].
    #[must_use]
    pub fn heads_root(&mut self) -> [u8; 32] {
        self.set.heads_root()
    }

    /// The logs, for callers that look at them and make their heads up to date meanwhile.
    pub(crate) const fn logs_mut(&mut self) -> &mut LogSet {
        &mut self.set
    }

    /// Whether there is storage: whether records have to be stored before own entries may leave.
    #[must_use]
    pub const fn has_storage(&self) -> bool {
        self.stores
    }

    /// Replaces the host's word on which logs of peers are held. Logs that are held stay.
    pub fn set_admission(&mut self, admit: impl FnMut(&LogOpening) -> Admission + Send + 'static) {
        self.admit = Box::new(admit);
    }

    /// Whether a log that a peer has is held, or would be from its first range on; see [`LogSet::admits`].
    ///
    /// # Errors
    ///
    /// Why it would not be held; see [`OpenError`].
    pub fn admits(&mut self, named: &NamedOpening, now: Timestamp) -> Result<(), OpenError> {
        self.set.admits(named, now, &mut self.admit)
    }

    /// Takes a range in of a log that may not be held yet, and notes it with the opening; see [`LogSet::receive_first`].
    ///
    /// # Errors
    ///
    /// Why it was refused. Nothing changed then.
    pub fn receive_first(
        &mut self,
        named: &NamedOpening,
        range: &Range<'_>,
        now: Timestamp,
        budget: &mut VerifyBudget,
    ) -> Result<Received, SetError> {
        if self.set.log(named.id()).is_some() {
            return self.receive(named.id(), range, now, budget);
        }
        let received = self.set.receive_first(named, range, now, budget, &mut self.admit)?;
        if self.set.log(named.id()).is_some() {
            let bytes = named.opening().encode(self.set.mesh());
            self.record(&JournalItem::Opening { local: false, bytes: &bytes });
            self.record(&JournalItem::Range { log: *named.id(), bytes: range.as_bytes() });
        }
        Ok(received)
    }

    /// Takes a range of a held log in, and notes it; see [`LogSet::receive_range`].
    ///
    /// # Errors
    ///
    /// Why it was refused. Nothing changed then.
    pub fn receive(
        &mut self,
        log: &LogId,
        range: &Range<'_>,
        now: Timestamp,
        budget: &mut VerifyBudget,
    ) -> Result<Received, SetError> {
        let known = self.set.forks(log).cloned();
        let received = self.set.receive_range(log, range, now, budget)?;
        if received == Received::Conflict || self.set.forks(log) != known.as_ref() {
            self.record_own_head(log);
        }
        if received != Received::Nothing {
            self.record(&JournalItem::Range { log: *log, bytes: range.as_bytes() });
        }
        // A range may show a fork against a head that is in no record: one's own are not.
        if !planted(Fault::FoundForkIsNotStored) {
            self.record_evidence(log, known.as_ref());
        }
        Ok(received)
    }

    /// Takes in what was stored of own logs after entries that were given up since, and that have come back: once the writer
    /// has given them up again. Gives how many ranges there are, and how many of them the logs refused: peers bring the
    /// entries in those.
    pub fn receive_contested(&mut self, now: Timestamp) -> (usize, usize) {
        let contested = core::mem::take(&mut self.contested);
        if planted(Fault::ContestedIsLost) {
            return (0, 0);
        }
        // Each is stored, and was taken in before.
        let refused = contested.iter().filter(|(log, bytes)| {
            let Ok(range) = Range::parse(bytes) else { return true };
            match self.set.receive_range(log, &range, now, &mut VerifyBudget::unlimited()) {
                Ok(received) => received == Received::Conflict,
                Err(error) => !ReplayError::from(error).is_stale(),
            }
        });
        let refused = refused.count();
        (contested.len(), refused)
    }

    /// Notes what is known of a log's forks and was not `known`.
    fn record_evidence(&mut self, log: &LogId, known: Option<&Forks>) {
        let Some(forks) = self.set.forks(log).cloned() else { return };
        for evidence in forks.pieces() {
            if known.is_none_or(|known| known.pieces().all(|piece| piece != evidence)) {
                self.record(&JournalItem::Evidence { bytes: evidence.as_bytes() });
            }
        }
    }

    /// Takes evidence of a fork in, and notes it; see
    /// [`LogSet::receive_unchecked`]. True if it says more than was known.
    ///
    /// # Errors
    ///
    /// Why it was refused. Nothing changed then.
    pub fn receive_evidence(
        &mut self,
        evidence: &UncheckedEvidence<'_>,
        now: Timestamp,
        budget: &mut VerifyBudget,
    ) -> Result<bool, SetError> {
        let log = *evidence.opening().id();
        let known = self.set.forks(&log).cloned();
        let news = self.set.receive_unchecked(evidence, now, budget, &mut self.admit)?;
        if news {
            self.record_own_head(&log);
            // Evidence that this copy had to make with it may say all that it says.
            self.record_evidence(&log, known.as_ref());
        }
        Ok(news)
    }

    /// Takes in a writer's word that it has given up events, and notes it; see [`LogSet::receive_pruned`]. True if it says more
    /// than was known.
    ///
    /// # Errors
    ///
    /// Why it was refused. Nothing changed then.
    pub fn receive_pruned(
        &mut self,
        pruned: &UncheckedPruned<'_>,
        now: Timestamp,
        budget: &mut VerifyBudget,
    ) -> Result<bool, SetError> {
        let log = *pruned.opening().id();
        let known = self.set.forks(&log).cloned();
        let news = self.set.receive_pruned(pruned, now, budget, &mut self.admit)?;
        if news {
            self.record(&JournalItem::Pruned { bytes: pruned.as_bytes() });
            // It may have let entries in that had waited, and that are of another history.
            self.record_evidence(&log, known.as_ref());
        }
        Ok(news)
    }

    /// Notes work that an agent's logs in a topic have caused; see [`LogSet::charge`].
    pub fn charge(&mut self, agent: &AgentId, topic: &Topic, dots: u64) {
        self.set.charge(agent, topic, dots);
    }

    /// Notes that the local writer of a log goes on in another one; see [`LogSet::leave`].
    pub fn leave(&mut self, log: &LogId) {
        self.set.leave(log);
    }

    /// Notes that another history of a local writer's log was found; see [`LogSet::disown`].
    pub fn disown(&mut self, log: &LogId) {
        self.set.disown(log);
    }

    /// Gives up a log that a local writer began while the clock was ahead; see [`LogSet::abandon`].
    pub fn abandon(&mut self, log: &LogId) {
        self.set.abandon(log);
    }

    /// Erases the payload of one event here, for good.
    ///
    /// # Errors
    ///
    /// If it is not here or not an event's. Nothing changed then.
    pub fn erase(&mut self, log: &LogId, seq: u64) -> Result<RecordId, SetError> {
        self.set.erase(log, seq)?;
        self.record(&JournalItem::Erased { log: *log, seq });
        Ok(self.seal())
    }

    /// Forgets all logs of a topic. They come back from peers if they are admitted again. Gives their ids.
    pub fn forget_topic(&mut self, topic: &Topic) -> Vec<LogId> {
        let logs: Vec<LogId> = self.set.logs_in(topic).map(|log| *log.id()).collect();
        self.forgotten = self.forgotten.saturating_add(logs.len() as u64);
        for log in &logs {
            self.set.remove(log);
            if !planted(Fault::PurgeIsNotStored) {
                self.forgotten(log);
            }
        }
        logs
    }

    /// How many logs were forgotten because a host said so, since the store was opened.
    pub(crate) const fn forgotten_logs(&self) -> u64 {
        self.forgotten
    }

    /// Notes that a log is not held any more: neither it nor a word about it comes back after a restart.
    fn forgotten(&mut self, log: &LogId) {
        self.record(&JournalItem::Forgotten { log: *log });
        self.forget_own(log);
        self.pruning.retain(|(_, pruned, _)| pruned != log);
    }

    /// The next change of the logs for a fold; see [`LogSet::poll_change`]. A host that does not fold polls as well,
    /// until there is none: entries that were given up go only then.
    pub fn poll_change(&mut self) -> Option<Change> {
        let change = self.set.poll_change();
        for log in self.set.take_dropped() {
            self.forgotten(&log);
        }
        change
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do, if ever.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.set.poll_timeout()
    }

    /// Takes in that time has passed.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.set.handle_timeout(now);
    }

    /// Notes something that has to be stored.
    fn record(&mut self, item: &JournalItem<'_>) {
        if self.stores {
            self.journal.push(item);
        }
    }

    /// Notes something that only a layer above knows the meaning of; it comes back in [`LogStore::open`]. Kinds in
    /// [`NOTES_RESERVED`](Self::NOTES_RESERVED) are the store's own, and not for others.
    pub fn note(&mut self, kind: u8, bytes: &[u8]) {
        debug_assert!(!Self::NOTES_RESERVED.contains(&kind), "the kind is the store's own");
        self.record(&JournalItem::Note { kind, bytes });
    }

    /// Ends the record that is being made, so that its items are stored together. Gives the last record.
    pub fn seal(&mut self) -> RecordId {
        self.journal.seal();
        self.journal.last_sealed()
    }

    /// The next record to be stored: the host appends its bytes to those that are stored, makes them durable, and
    /// [confirms](Self::confirm) it.
    pub fn poll_record(&mut self) -> Option<Record> {
        self.journal.seal();
        let record = self.journal.poll();
        if let Some(record) = &record {
            self.growth.store(record.id(), record.as_bytes().len());
        }
        record
    }

    /// Whether the records since the last snapshot, or the entries that were dropped since, weigh a third of that, and at
    /// least 4 KiB: then a [snapshot](Self::snapshot) in their place keeps the stored bytes in proportion to the entries
    /// held. In `docs/decisions/house.md` is how much the host writes for it; more where entries are dropped without
    /// others in their place.
    #[must_use]
    pub const fn wants_snapshot(&self) -> bool {
        self.growth.wants_snapshot(self.set.freed_bytes())
    }

    /// The host has a record and all before it on durable storage. Own entries in them may be signed now.
    ///
    /// # Errors
    ///
    /// If the record was never polled. Nothing changed then.
    pub fn confirm(&mut self, record: RecordId) -> Result<(), ConfirmError> {
        self.journal.confirm(record)?;
        self.confirmed(record);
        Ok(())
    }

    /// Marks the version that the heads have now, with a note of the layer above; and notes the heads of own logs: those
    /// signed anew after a restart would have changed since.
    pub fn mark(&mut self, bytes: &[u8]) {
        if !self.stores {
            return;
        }
        let version = self.set.heads_version();
        let changed: Vec<LogId> = self.set.heads_changed(self.recorded).map(|(_, log, _)| log).collect();
        for log in changed {
            self.record_own_head(&log);
        }
        self.recorded = version;
        self.record(&JournalItem::Note { kind: opening::MARK, bytes });
    }

    /// Notes how far an own log is signed, which nobody needs to know as long as the log has one history. Of a forked
    /// one, entries that are not known to be signed stand in the way of those that others have in their place.
    fn record_own_head(&mut self, log: &LogId) {
        let held = self.set.log(log).filter(|_| self.set.is_local(log));
        let head = held.and_then(|held| {
            let signed = held.signed_size();
            held.range(signed, signed, RangeForm::Follow, 0)
        });
        if let Some((bytes, _)) = head {
            self.record(&JournalItem::Range { log: *log, bytes: &bytes });
        }
    }
}
