//! [`Questions`]: requests to the peer, and refusals of ranges and logs that it has sent.
//!
//! The invariant: each list has a limit, and one that does not fit is found again by the next round.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::message::{Alias, Message, alias_of};
use crate::identity::LogId;
use crate::log::{RangeForm, Want};

/// Questions and refusals that wait to be sent, of each kind.
const WAITING_MAX: usize = 64;

/// Questions and refusals.
#[derive(Debug, Default)]
pub(super) struct Questions {
    wants: BTreeMap<Alias, Want>,
    refused: BTreeMap<Alias, u64>,
    /// And whether that is for want of room.
    unwanted: BTreeMap<Alias, bool>,
    /// The range of a log that was asked for, and when: not asked for again as long as nothing has come.
    asked: BTreeMap<LogId, (Want, u64)>,
    /// Logs of which entries came for which there is no room before some time has passed. What was sent after them finds a
    /// gap, and asks in vain for what was refused.
    full: BTreeSet<LogId>,
}

impl Questions {
    /// Asks for entries, unless that was done and may still be answered.
    pub(super) fn ask(&mut self, log: &LogId, want: Want, ms: u64, patience_ms: u64) {
        if self.full.contains(log) && want.form == RangeForm::Follow {
            return;
        }
        let pending = self.asked.get(log).filter(|(_, at)| ms < at.saturating_add(patience_ms));
        let covers = |asked: &Want| match (asked.form, want.form) {
            // A range that stands alone shows where histories part, which the others that wait for it lack.
            (RangeForm::Alone, RangeForm::Follow) => true,
            // Of more there was no room.
            (RangeForm::Follow, RangeForm::Follow) => asked.from == want.from && asked.to <= want.to,
            _ => *asked == want,
        };
        if pending.is_some_and(|(asked, _)| covers(asked)) {
            return;
        }
        if put(&mut self.asked, *log, (want, ms)) {
            self.want(log, want);
        }
    }

    /// Asks for entries, however often.
    pub(super) fn want(&mut self, log: &LogId, want: Want) {
        put(&mut self.wants, alias_of(log), want);
    }

    /// Notes that entries of a log have come.
    pub(super) fn answered(&mut self, log: &LogId) {
        self.asked.remove(log);
    }

    /// Notes that a range that stands alone has come, whatever it is worth.
    pub(super) fn answered_alone(&mut self, log: &LogId) {
        if self.asked.get(log).is_some_and(|(asked, _)| asked.form == RangeForm::Alone) {
            self.asked.remove(log);
        }
    }

    /// Whether a range was asked for that shows where two histories part, and has not come.
    pub(super) fn await_proof(&self) -> bool {
        self.asked.values().any(|(want, _)| want.form == RangeForm::Alone)
    }

    /// Says that a range was not taken in, and how much is here.
    pub(super) fn refuse(&mut self, log: &LogId, have: u64) {
        put(&mut self.refused, alias_of(log), have);
    }

    /// Says that a range was not taken in, nor would be one in its place before some time has passed.
    pub(super) fn put_off(&mut self, log: &LogId, have: u64) {
        self.refuse(log, have);
        self.answered(log);
        if self.full.len() < WAITING_MAX {
            self.full.insert(*log);
        }
    }

    /// Says that a log is not held and not wanted; or that there is no room for it.
    pub(super) fn unwanted(&mut self, log: &LogId, no_room: bool) {
        put(&mut self.unwanted, alias_of(log), no_room);
    }

    /// Whether the peer has yet to answer something.
    pub(super) fn are_open(&self) -> bool {
        !self.wants.is_empty() || !self.asked.is_empty()
    }

    /// A round has ended: its questions are asked again if need be.
    pub(super) fn end_round(&mut self) {
        self.asked.clear();
        self.full.clear();
    }

    /// The questions are about something else by now.
    pub(super) fn abandon(&mut self) {
        self.wants.clear();
        self.asked.clear();
        self.full.clear();
    }

    /// Writes the next of them, if there is one.
    pub(super) fn compose(&mut self, out: &mut Vec<u8>) {
        if let Some((alias, want)) = self.wants.pop_first() {
            Message::Want { alias, want }.put(out);
        } else if let Some((alias, have)) = self.refused.pop_first() {
            Message::Refused { alias, have }.put(out);
        } else if let Some((alias, no_room)) = self.unwanted.pop_first() {
            Message::Unwanted { alias, no_room }.put(out);
        }
    }

    /// About how many bytes they take in memory.
    pub(super) fn memory(&self) -> usize {
        let waiting = self.wants.len().saturating_add(self.refused.len()).saturating_add(self.unwanted.len());
        let logs = self.full.len().saturating_mul(size_of::<LogId>());
        self.asked.len().saturating_mul(96).saturating_add(waiting.saturating_mul(48)).saturating_add(logs)
    }
}

/// Adds to a map that has a limit; false if there is no room.
fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V) -> bool {
    let room = map.len() < WAITING_MAX || map.contains_key(&key);
    if room {
        map.insert(key, value);
    }
    room
}
