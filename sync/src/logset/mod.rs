//! [`LogSet`]: the logs that one replica or relay holds.
//!
//! It decides which logs and entries are held (admission, quotas, limits of waiting entries), keeps the verdicts about
//! forked logs, and reports to its caller which entries became applicable and which ceased to count. Payloads are
//! opaque to it, so a relay, which does not interpret them, needs nothing else.
//!
//! Not here: proofs (those are the [`Log`]'s), the meaning of payloads, and the peers.
//!
//! The invariants: entries of the same logs mean the same in any two sets, in whatever order they came; limits and
//! clocks only delay; an error changes nothing; and a log, its agent and its topic have a place here only once bytes
//! that the agent signed were verified, or the host or a local writer has begun the log.

mod change;
mod facts;
mod heads;
mod limits;
mod local;
mod offer;
mod outcome;
mod replay;
mod slot;
mod statements;
mod succession;
mod topics;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use consilience_base::planted::{Fault, planted};
use consilience_base::{Hlc, Timestamp};

pub use change::Change;
pub use heads::HeadStep;
pub use limits::{Admission, Limits};
pub use offer::{Move, Offer};
pub(crate) use outcome::Written;
pub use outcome::{Answer, OpenError, SetError, SetStats};
pub use replay::{Replay, ReplayError};

use crate::budget::VerifyBudget;
use crate::facts::{Facts, Forks};
use crate::hash::Hash;
use crate::identity::{AgentId, AgentKey, LogId, LogOpening, MeshId, NamedOpening, Topic};
use crate::log::{
    Allowance, Entry, Evidence, Gone, Have, Log, Range, RangeForm, ReceiveError, Received, SALT_BYTES, Want,
};
use heads::Heads;
use slot::Slot;
use statements::Standing;
use succession::{Family, Succession};

/// The logs of one replica or relay.
#[derive(Clone, Debug)]
pub struct LogSet {
    mesh: MeshId,
    limits: Limits,
    /// Boxed: the nodes of the tree have room for more than there are.
    slots: BTreeMap<LogId, Box<Slot>>,
    by_topic: BTreeSet<(Topic, LogId)>,
    successions: BTreeMap<Family, Succession>,
    heads: Heads,
    /// Each agent's key, admitted once, and how many of its logs are held.
    agents: BTreeMap<AgentId, (AgentKey, usize)>,
    /// Logs with a change that was not polled yet, each once, in the order in which they changed: by a number that
    /// rises, so that one can be taken out without a look at the others.
    changed: BTreeMap<u64, LogId>,
    changes: u64,
    polled: Polled,
    waiting: BTreeSet<(Hlc, LogId)>,
    invalid: BTreeSet<(Timestamp, LogId)>,
    late: usize,
    staged: usize,
    /// About how many bytes of entries that nobody needs were dropped so far.
    freed: u64,
    /// The latest time that was passed in.
    now: Timestamp,
}

/// What follows from the changes that were polled.
#[derive(Clone, Debug, Default)]
struct Polled {
    /// The log whose change was polled last: the entries of that change may go.
    log: Option<LogId>,
    /// Logs that were dropped because nothing of them counts, for the journal.
    dropped: Vec<LogId>,
    /// The latest stamp.
    latest: Hlc,
}

impl LogSet {
    /// Without logs.
    #[must_use]
    pub fn new(mesh: MeshId, limits: Limits) -> Self {
        Self {
            heads: Heads::new(&mesh, limits.seed),
            mesh,
            limits,
            slots: BTreeMap::new(),
            by_topic: BTreeSet::new(),
            successions: BTreeMap::new(),
            agents: BTreeMap::new(),
            changed: BTreeMap::new(),
            changes: 0,
            polled: Polled::default(),
            waiting: BTreeSet::new(),
            invalid: BTreeSet::new(),
            late: 0,
            staged: 0,
            freed: 0,
            now: Timestamp::EPOCH,
        }
    }

    /// The mesh that all logs belong to.
    #[must_use]
    pub const fn mesh(&self) -> &MeshId {
        &self.mesh
    }

    /// The set's limits.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether a log is held, or would be as soon as bytes come that its agent has signed. Changes nothing: an opening alone
    /// says only what somebody claims. `admit` is asked last, and only for logs that could be held.
    ///
    /// # Errors
    ///
    /// Why it would not be held; see [`OpenError`]. Its agent's key is not looked at.
    pub fn admits(
        &self,
        named: &NamedOpening,
        now: Timestamp,
        admit: impl FnOnce(&LogOpening) -> Admission,
    ) -> Result<(), OpenError> {
        self.admits_with(named, now, false, admit)
    }

    /// [`admits`](Self::admits); `frees` says that something comes with the log that frees the places of others.
    fn admits_with(
        &self,
        named: &NamedOpening,
        now: Timestamp,
        frees: bool,
        admit: impl FnOnce(&LogOpening) -> Admission,
    ) -> Result<(), OpenError> {
        let opening = named.opening();
        if self.slots.contains_key(named.id()) {
            return Ok(());
        }
        if !planted(Fault::AheadIsAdmitted) && opening.incarnation.is_ahead(now, self.limits.max_drift_ms) {
            return Err(OpenError::Ahead);
        }
        self.has_room(opening, frees, admit)
    }

    /// Whether the quotas, the logs that are held and the host leave room for a log that is not held.
    fn has_room(
        &self,
        opening: &LogOpening,
        frees: bool,
        admit: impl FnOnce(&LogOpening) -> Admission,
    ) -> Result<(), OpenError> {
        let of_agent = self.agents.get(&opening.agent).map_or(0, |(_, logs)| *logs);
        let of_agent = if planted(Fault::QuotaIsNotKept) { 0 } else { of_agent };
        let full = self.slots.len() >= self.limits.logs_max || of_agent >= self.limits.logs_per_agent_max;
        if full && !frees {
            return Err(OpenError::Quota);
        }
        // Nothing of a dead log will ever count.
        if self.is_dead(opening) || admit(opening) == Admission::Ignore {
            return Err(OpenError::Ignored);
        }
        Ok(())
    }

    /// Holds a log from now on, with nothing in it, if it is not held already, the quotas allow it, and the host wants it.
    ///
    /// This is the host's own act, for a log that it knows of from somebody whom it trusts. It costs a place at once. Logs
    /// that peers, bundles or anybody else name get theirs by [`receive_first`](Self::receive_first).
    ///
    /// # Errors
    ///
    /// Why it is not held; see [`OpenError`].
    pub fn open(
        &mut self,
        opening: &LogOpening,
        admit: impl FnOnce(&LogOpening) -> Admission,
    ) -> Result<LogId, OpenError> {
        let named = opening.clone().named(&self.mesh);
        let id = *named.id();
        if !self.slots.contains_key(&id) {
            self.has_room(opening, false, admit)?;
            let key = self.key_of(&opening.agent).map_or_else(|| AgentKey::admit(&opening.agent), Ok)?;
            self.insert(Log::with_key(named, &self.mesh, key), false);
        }
        Ok(id)
    }

    /// Gives a log its place, which signed bytes of its agent, or a local writer, have earned it.
    fn insert(&mut self, log: Log, local: bool) {
        let (id, opening) = (*log.id(), log.opening());
        self.agents.entry(opening.agent).or_insert_with(|| (log.key().clone(), 0)).1 += 1;
        self.by_topic.insert((opening.topic.clone(), id));
        self.slots.insert(id, Box::new(Slot::new(log, local)));
        self.enter_succession(&id);
    }

    /// An agent's key, if one of its logs is held.
    fn key_of(&self, agent: &AgentId) -> Option<AgentKey> {
        self.agents.get(agent).map(|(key, _)| key.clone())
    }

    /// Forgets a log and everything about it, without a word to the caller.
    pub fn remove(&mut self, log: &LogId) -> bool {
        let Some(slot) = self.slots.remove(log) else { return false };
        self.heads.forget(log, slot.head.id, slot.head.version);
        let opening = slot.log.opening();
        self.by_topic.remove(&(opening.topic.clone(), *log));
        if let Some((_, logs)) = self.agents.get_mut(&opening.agent) {
            *logs -= 1;
            if *logs == 0 {
                self.agents.remove(&opening.agent);
            }
        }
        if let Some(place) = slot.queued {
            self.changed.remove(&place);
        }
        if let Some(hlc) = slot.waiting {
            self.waiting.remove(&(hlc, *log));
        }
        if let Some(until) = slot.invalid_until {
            self.invalid.remove(&(until, *log));
        }
        self.late -= slot.late;
        self.staged -= slot.staged;
        self.freed += slot.log.entry_bytes();
        let opening = opening.clone();
        self.leave_succession(&opening);
        true
    }

    /// The log whose id begins with these bytes; `None` if there are several.
    #[must_use]
    pub fn find(&self, name: &[u8; 8]) -> Option<LogId> {
        let id = |fill| {
            let mut bytes = [fill; 32];
            if let Some((first, _)) = bytes.split_first_chunk_mut() {
                *first = *name;
            }
            LogId::from_bytes(bytes)
        };
        let mut found = self.slots.range(id(0)..=id(0xff));
        match (found.next(), found.next()) {
            (Some((id, _)), None) => Some(*id),
            _ => None,
        }
    }

    /// A log that is held.
    #[must_use]
    pub fn log(&self, log: &LogId) -> Option<&Log> {
        self.slots.get(log).map(|slot| &slot.log)
    }

    /// All logs, by topic and then by id.
    pub fn logs(&self) -> impl Iterator<Item = &Log> {
        self.by_topic.iter().filter_map(|(_, id)| self.log(id))
    }

    /// The logs of a topic, by id.
    pub fn logs_in(&self, topic: &Topic) -> impl Iterator<Item = &Log> {
        self.logs_within(topic).take_while(move |log| log.opening().topic == *topic)
    }

    /// The logs of a topic and of all topics below it, by topic and then by id.
    pub fn logs_within(&self, topic: &Topic) -> impl Iterator<Item = &Log> {
        let first = (topic.clone(), LogId::from_bytes([0; 32]));
        let from = self.by_topic.range(first..);
        from.take_while(move |(there, _)| there.is_within(topic)).filter_map(|(_, id)| self.log(id))
    }

    /// The evidence that a log is forked, if it is: of all that is known, that of the smallest size.
    #[must_use]
    pub fn evidence(&self, log: &LogId) -> Option<&Evidence> {
        self.forks(log).map(Forks::least)
    }

    /// All that is known of the forks of a log, if it is forked.
    #[must_use]
    pub fn forks(&self, log: &LogId) -> Option<&Forks> {
        self.facts(log)?.forks()
    }

    /// All that is known for ever of a log.
    #[must_use]
    pub fn facts(&self, log: &LogId) -> Option<&Facts> {
        self.slots.get(log).map(|slot| &slot.facts)
    }

    /// The entries `[from, to)` of a log that count: not from the future, not below the base, not of a fork.
    #[must_use]
    pub fn applicable(&self, log: &LogId) -> Option<(u64, u64)> {
        let slot = self.slots.get(log)?;
        let counts = !slot.is_invalid() && slot.standing() == Standing::Counts;
        Some(if counts { slot.applicable() } else { (0, 0) })
    }

    /// The entries `[from, to)` of a log as the consumer has last acknowledged them: those that have to be undone after
    /// [`Change::Replaced`], [`Change::Invalidated`] and [`Change::Cut`]. To be read until the next change is polled.
    ///
    /// After [`Change::Cut`] they include the entries that a local writer had appended and not signed, if a signed
    /// history takes their place: these are gone afterwards, and their writer has to reissue them in its next
    /// incarnation.
    pub fn acknowledged_entries(&self, log: &LogId, from: u64, to: u64) -> impl Iterator<Item = Entry<'_>> {
        self.log(log).into_iter().flat_map(move |log| log.replaced_entries(from, to))
    }

    /// The hash of such an entry. The change that takes it back may still wait behind one of another log.
    #[must_use]
    pub fn acknowledged_leaf(&self, log: &LogId, seq: u64) -> Option<Hash> {
        self.log(log)?.replaced_leaf(seq)
    }

    /// How much of a log was left when something took the place of such entries, whatever has come since: changes of one
    /// input are polled together. To be asked as long as these can be read.
    #[must_use]
    pub fn left_of_acknowledged(&self, log: &LogId) -> u64 {
        self.log(log).map_or(0, Log::left)
    }

    /// The contents of the set, in numbers. Looks at every log.
    #[must_use]
    pub fn stats(&self) -> SetStats {
        SetStats {
            logs: self.slots.len(),
            bytes: self.slots.values().map(|slot| slot.log.memory()).sum(),
            staged_bytes: self.staged,
            late_bytes: self.late,
        }
    }

    /// About how many bytes of entries were dropped so far, because nobody needs them: the journal has them until the next
    /// snapshot.
    pub(crate) const fn freed_bytes(&self) -> u64 {
        self.freed
    }

    /// The entries of a log that are held and signed.
    #[must_use]
    pub fn have(&self, log: &LogId) -> Option<Have> {
        let log = self.log(log)?;
        let size = log.signed_size().max(log.start());
        Some(Have { start: log.start(), size, base: log.base_at(size) })
    }

    /// The request to make of a peer that has this of a log: the first range that is missing here. `None` if nothing
    /// is.
    #[must_use]
    pub fn want(&self, log: &LogId, have: &Have) -> Option<Want> {
        let slot = self.slots.get(log)?;
        let valid_below = slot.valid_below().unwrap_or(u64::MAX);
        slot.log.want(&Have { size: have.size.min(valid_below), ..*have })
    }

    /// The answer to a peer that wants entries of a log, in about `bytes_max` bytes.
    #[must_use]
    pub fn answer(&self, log: &LogId, want: &Want, bytes_max: usize) -> Answer {
        let mut bytes = Vec::new();
        match self.write_answer(log, want, bytes_max, &mut bytes) {
            Written::Range { end } => Answer::Range { bytes, end },
            Written::Gone(gone) => Answer::Gone(gone),
            Written::Nothing => Answer::Nothing,
        }
    }

    /// As [`answer`](Self::answer), with the range appended to `out`; nothing is, if there is none.
    pub(crate) fn write_answer(
        &self,
        log: &LogId,
        want: &Want,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Written {
        let Some(log) = self.log(log) else { return Written::Nothing };
        let signed = log.signed_size();
        if want.from < log.start() {
            return Written::Gone(Gone { below: log.start() });
        }
        let to = want.to.min(signed);
        if want.from > to || (want.from == to && want.to > to) {
            return Written::Nothing;
        }
        // Where the entry before is not known, the peaks have to stand in.
        let end = log
            .write_range(want.from, to, want.form, bytes_max, out)
            .or_else(|| log.write_range(want.from, to, RangeForm::Alone, bytes_max, out));
        end.map_or(Written::Nothing, |end| Written::Range { end })
    }

    /// Takes in a range of a log that is held.
    ///
    /// # Errors
    ///
    /// Why it was refused; see [`SetError`]. Nothing changed then.
    pub fn receive(
        &mut self,
        log: &LogId,
        range: &[u8],
        now: Timestamp,
        budget: &mut VerifyBudget,
    ) -> Result<Received, SetError> {
        // A fault of the log is reported before a fault in the bytes.
        self.check_open(log)?;
        let range = Range::parse(range).map_err(ReceiveError::from)?;
        self.receive_range(log, &range, now, budget)
    }

    /// [`receive`](Self::receive) for a range of which the first bytes were read.
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive).
    pub fn receive_range(
        &mut self,
        log: &LogId,
        range: &Range<'_>,
        now: Timestamp,
        budget: &mut VerifyBudget,
    ) -> Result<Received, SetError> {
        self.receive_with(log, range, now, None, budget)
    }

    /// Takes in a range of a log that may not be held yet: it is held from now on, if the range proves itself, the quotas
    /// allow it and the host wants it. `admit` is asked as in [`admits`](Self::admits).
    ///
    /// The first range of an agent of which nothing is held costs a check for its key, which like that of the signature is
    /// free if the range brings entries.
    ///
    /// # Errors
    ///
    /// Why it was refused; see [`SetError`]. Nothing changed then, and nothing is left of the opening.
    pub fn receive_first(
        &mut self,
        named: &NamedOpening,
        range: &Range<'_>,
        now: Timestamp,
        budget: &mut VerifyBudget,
        admit: impl FnOnce(&LogOpening) -> Admission,
    ) -> Result<Received, SetError> {
        if self.slots.contains_key(named.id()) {
            return self.receive_range(named.id(), range, now, budget);
        }
        self.admits(named, now, admit)?;
        if range.size().is_some_and(|size| size <= self.closed_by_later(named.opening())) {
            // A later incarnation answers for all of it.
            return Ok(Received::Nothing);
        }
        let known = self.key_of(&named.opening().agent);
        let is_new = known.is_none();
        if is_new && !budget.spend(1) {
            return Err(ReceiveError::Budget.into());
        }
        let key =
            known.map_or_else(|| AgentKey::admit(&named.opening().agent), Ok).map_err(OpenError::from)?;
        let mut log = Log::with_key(named.clone(), &self.mesh, key);
        let allowance = allowance(&self.limits, (self.late, self.staged), now);
        let received = log.receive_forked(range, &allowance, budget, u64::MAX)?;
        if is_new && received.is_entries() {
            budget.refund(1);
        }
        self.insert(log, false);
        self.wait(named.id(), now);
        self.note(named.id());
        Ok(received)
    }

    /// Whether more of a log is taken in: it is held, and all that is valid of it is not here. If it is forked, the size
    /// at which that shows, else the greatest number.
    fn check_open(&self, log: &LogId) -> Result<u64, SetError> {
        let slot = self.slots.get(log).ok_or(SetError::Unknown)?;
        let Some(forks) = &slot.facts.forks else { return Ok(u64::MAX) };
        let valid_below = forks.valid_below();
        if slot.log.size() >= valid_below {
            Err(SetError::Forked { valid_below })
        } else {
            Ok(forks.least().size())
        }
    }

    /// [`receive_range`](Self::receive_range), or the same from storage, with the allowance of that. Of the latter no fork
    /// follows that was not seen when it came, for storage has evidence as well: more may be here now to compare with.
    fn receive_with(
        &mut self,
        log: &LogId,
        range: &Range<'_>,
        now: Timestamp,
        stored: Option<Allowance>,
        budget: &mut VerifyBudget,
    ) -> Result<Received, SetError> {
        let forked_at = self.check_open(log)?;
        let closed =
            self.slots.get(log).filter(|slot| !slot.local).map_or(0, |slot| slot.succession.closed_below);
        if range.size().is_some_and(|size| size <= closed) {
            // A later incarnation answers for all of it.
            return Ok(Received::Nothing);
        }
        if !self.pay(log, range.as_bytes().len()) && !budget.is_unlimited() {
            return Err(ReceiveError::TooMuchWork.into());
        }
        let waiting = self.slots.get(log).and_then(|slot| slot.waiting);
        if waiting.is_some_and(|hlc| hlc <= latest(&self.limits, now)) {
            // Time has passed for the entries that waited here.
            self.wait(log, now);
            self.note(log);
        }
        let Some(slot) = self.slots.get_mut(log) else { return Err(SetError::Unknown) };
        let others = (self.late - slot.late, self.staged - slot.staged);
        let allowance = stored.unwrap_or_else(|| allowance(&self.limits, others, now));
        let received = slot.log.receive_forked(range, &allowance, budget, forked_at)?;
        match &received {
            Received::Forked(_) if stored.is_some() => {}
            Received::Forked(evidence) => {
                let evidence = (**evidence).clone();
                self.judge(log, evidence, now);
            }
            Received::Conflict => slot.self_forked = slot.local,
            Received::FastForwarded { .. } => slot.fast_forwarded(),
            _ => {}
        }
        self.wait(log, now);
        self.note(log);
        Ok(received)
    }

    /// Notes that the local writer of a log goes on in another one: the log is held only as long as it counts.
    pub fn leave(&mut self, log: &LogId) {
        if let Some(slot) = self.slots.get_mut(log) {
            slot.is_left = true;
            self.queue(log);
        }
    }

    /// Whether the local writer of a log goes on in another one.
    #[must_use]
    pub fn is_left(&self, log: &LogId) -> bool {
        self.slots.get(log).is_some_and(|slot| slot.is_left)
    }

    /// Erases the payload of one event here; see [`Log::erase`].
    ///
    /// # Errors
    ///
    /// [`SetError::Unknown`], or why it cannot be erased.
    pub fn erase(&mut self, log: &LogId, seq: u64) -> Result<(), SetError> {
        let slot = self.slots.get_mut(log).ok_or(SetError::Unknown)?;
        Ok(slot.log.erase(seq)?)
    }

    /// Puts salt and payload of an erased event back; see [`Log::restore`].
    ///
    /// # Errors
    ///
    /// [`SetError::Unknown`], or why it cannot be restored.
    pub fn restore(
        &mut self,
        log: &LogId,
        seq: u64,
        salt: [u8; SALT_BYTES],
        payload: &[u8],
    ) -> Result<(), SetError> {
        let slot = self.slots.get_mut(log).ok_or(SetError::Unknown)?;
        Ok(slot.log.restore(seq, salt, payload)?)
    }

    /// The next change for a fold over the logs. Poll until there is none, after anything that changes the set. The
    /// entries that a change speaks of can be read until the next is polled.
    pub fn poll_change(&mut self) -> Option<Change> {
        if let Some(log) = self.polled.log.take() {
            self.drop_acknowledged(&log);
        }
        while let Some((place, log)) = self.changed.first_key_value().map(|(place, log)| (*place, *log)) {
            if let Some(slot) = self.slots.get_mut(&log) {
                if let Some(change) = slot.next_change() {
                    if let Change::Applicable { to, .. } = change {
                        let last = slot.log.entries(to.saturating_sub(1), to).last();
                        self.polled.latest =
                            self.polled.latest.max(last.map_or(Hlc::ZERO, |entry| entry.hlc));
                    }
                    self.polled.log = Some(log);
                    return Some(change);
                }
                slot.queued = None;
            }
            self.changed.remove(&place);
            self.drop_acknowledged(&log);
        }
        None
    }

    /// The latest stamp of the entries that [`poll_change`](Self::poll_change) has told of since this set was made.
    #[must_use]
    pub const fn latest_stamp(&self) -> Hlc {
        self.polled.latest
    }

    /// The logs that were dropped since the last call, because nothing of them counts.
    pub(crate) fn take_dropped(&mut self) -> Vec<LogId> {
        core::mem::take(&mut self.polled.dropped)
    }

    /// Drops the entries of a log that nobody needs, now that the caller has acknowledged its changes; and the log, if
    /// nothing of it counts.
    fn drop_acknowledged(&mut self, log: &LogId) {
        let Some(slot) = self.slots.get_mut(log) else { return };
        if slot.is_over() {
            self.remove(log);
            self.polled.dropped.push(*log);
        } else {
            self.freed += slot.drop_acknowledged();
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do, if ever.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let applies = self.waiting.first().map(|(hlc, _)| {
            let millis = hlc.time().as_millis().saturating_sub(self.limits.max_drift_ms);
            Timestamp::from_millis(millis)
        });
        let expires = self.invalid.first().map(|(until, _)| *until);
        applies.into_iter().chain(expires).min()
    }

    /// Takes in that time has passed: deferred entries may become applicable, and the entries of invalidated logs
    /// expire.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let latest = latest(&self.limits, now);
        while let Some((hlc, log)) = self.waiting.first().copied() {
            if hlc > latest {
                break;
            }
            self.wait(&log, now);
            self.note(&log);
        }
        while let Some((until, log)) = self.invalid.first().copied() {
            if until > now {
                break;
            }
            self.invalid.pop_first();
            if planted(Fault::ForkExpires) {
                self.remove(&log);
            }
            let Some(slot) = self.slots.get_mut(&log) else { continue };
            match slot.valid_below() {
                Some(0) => {
                    self.freed += slot.log.entry_bytes();
                    slot.log.forget();
                }
                Some(valid_below) => {
                    let held = slot.log.entry_bytes();
                    slot.log.truncate(valid_below);
                    self.freed += held.saturating_sub(slot.log.entry_bytes());
                }
                None => {}
            }
            self.wait(&log, now);
            // What went is kept for the consumer until it has asked for the next change.
            self.note(&log);
        }
    }

    /// Makes a log's entries ready as far as time allows, and counts its deferred and staged entries.
    fn wait(&mut self, log: &LogId, now: Timestamp) {
        self.now = self.now.max(now);
        let Some(slot) = self.slots.get_mut(log) else { return };
        let others = (self.late - slot.late, self.staged - slot.staged);
        let allowance = allowance(&self.limits, others, now);
        let mut evidence = None;
        // The held run comes first: its entries that are no longer deferred make room for the waiting ones.
        slot.log.make_ready(allowance.latest);
        match slot.log.absorb_staged(&allowance) {
            Some(Received::FastForwarded { .. }) => slot.fast_forwarded(),
            Some(Received::Conflict) => slot.self_forked = slot.local,
            Some(Received::Forked(found)) => evidence = Some(found),
            _ => {}
        }
        slot.refit();
        self.count(log, allowance.latest);
        if let Some(evidence) = evidence {
            self.judge(log, *evidence, now);
        }
    }

    /// Counts a log's deferred and staged entries.
    fn count(&mut self, log: &LogId, latest: Hlc) {
        let Some(slot) = self.slots.get_mut(log) else { return };
        let waiting = slot.log.wait(latest);
        if waiting != slot.waiting {
            if let Some(hlc) = slot.waiting {
                self.waiting.remove(&(hlc, *log));
            }
            slot.waiting = waiting;
            self.waiting.extend(waiting.map(|hlc| (hlc, *log)));
        }
        let (late, staged) = (slot.log.late_bytes(), slot.log.staged_bytes());
        self.late = self.late - slot.late + late;
        self.staged = self.staged - slot.staged + staged;
        (slot.late, slot.staged) = (late, staged);
    }

    /// Decides what counts of a log that may have changed, and queues it.
    fn note(&mut self, log: &LogId) {
        self.decide(log);
        self.queue(log);
    }

    /// Queues a log for [`poll_change`](Self::poll_change), and its head to be made anew.
    fn queue(&mut self, log: &LogId) {
        self.heads.touch(log);
        if let Some(slot) = self.slots.get_mut(log)
            && slot.queued.is_none()
        {
            slot.queued = Some(self.changes);
            self.changed.insert(self.changes, *log);
            self.changes = self.changes.wrapping_add(1);
        }
    }
}

/// The limits of one log's deferred and staged entries, given those of all others.
fn allowance(limits: &Limits, (late, staged): (usize, usize), now: Timestamp) -> Allowance {
    let room = |per_log: usize, max: usize, others: usize| {
        if planted(Fault::WaitingHasNoLimit) { usize::MAX } else { per_log.min(max.saturating_sub(others)) }
    };
    Allowance {
        latest: latest(limits, now),
        late_bytes_max: room(limits.late_bytes_per_log_max, limits.late_bytes_max, late),
        staged_bytes_max: room(limits.staged_bytes_per_log_max, limits.staged_bytes_max, staged),
    }
}

/// The latest stamp that is not from the future.
fn latest(limits: &Limits, now: Timestamp) -> Hlc {
    if planted(Fault::NothingIsDeferred) {
        return Hlc::MAX;
    }
    Hlc::new(now.saturating_add_millis(limits.max_drift_ms), u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Incarnation, Keypair, LogKind, NewEntry, RangeForm, Signer};

    /// A check is free if it brings entries, and no other check is given back with it.
    #[test]
    fn the_first_range_of_a_log_costs_what_its_checks_cost() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let (mesh, keys) = (MeshId::from_bytes([7; 32]), Keypair::from_seed([1; 32]));
        let mut source = LogSet::new(mesh, Limits::default());
        let mut to = source.clone();
        for incarnation in 1..=3 {
            let opening = LogOpening {
                topic: Topic::new("team").unwrap(),
                kind: LogKind::Event,
                agent: keys.agent(),
                incarnation: Incarnation::from_u64(incarnation),
            };
            let log = source.open_local(&opening).unwrap();
            source.append(&log, &NewEntry::new(Hlc::new(now, 0), b"a")).unwrap();
            source.sign_head(&log, &keys, now).unwrap();
            let want = Want { from: 0, to: 1, form: RangeForm::Follow };
            let Answer::Range { bytes, .. } = source.answer(&log, &want, usize::MAX) else {
                panic!("{want:?}")
            };
            let range = Range::parse(&bytes).unwrap();
            let mut budget = VerifyBudget::new();
            assert!(budget.spend(100));
            let received =
                to.receive_first(&opening.named(&mesh), &range, now, &mut budget, |_| Admission::Hold);
            assert_eq!(received, Ok(Received::Extended { from: 0, to: 1 }));
            assert!(budget.spend(28) && !budget.spend(1), "{incarnation}");
        }
    }
}
