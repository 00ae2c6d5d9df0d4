//! The events that local writers append to their logs.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use consilience_crdts::Timestamp;
use consilience_sync::journal::RecordId;
use consilience_sync::{Citation, KeepError, LogKind, NewEntry, SetError, Topic};

use super::error::AppendEventError;
use super::settle::Stamp;
use super::{Replica, Writer};
use crate::fold::EventRef;
use crate::repair::Source;

impl Replica {
    /// Appends an event to the writer's event log of a topic. It is readable here at once, and sent once its record is
    /// [confirmed](Self::confirm).
    ///
    /// # Errors
    ///
    /// Why it was not appended. Nothing changed then.
    pub fn append_event(
        &mut self,
        writer: Writer,
        topic: &str,
        payload: &[u8],
        now: Timestamp,
    ) -> Result<(EventRef, RecordId), AppendEventError> {
        self.append_event_citing(writer, topic, payload, &[], now)
    }

    /// As [`append_event`](Self::append_event), for an event that answers others: it cites their logs as they were up
    /// to them, with the root, so that nobody can change the events that were answered.
    ///
    /// # Errors
    ///
    /// Also [`AppendEventError::UnknownCitation`].
    pub fn append_event_citing(
        &mut self,
        writer: Writer,
        topic: &str,
        payload: &[u8],
        cites: &[EventRef],
        now: Timestamp,
    ) -> Result<(EventRef, RecordId), AppendEventError> {
        let mut citations: BTreeMap<[u8; 8], Citation> = BTreeMap::new();
        for cited in cites {
            let log = self.store.logs().log(&cited.log).ok_or(AppendEventError::UnknownCitation)?;
            let size = cited.seq.checked_add(1).ok_or(AppendEventError::UnknownCitation)?;
            let root = log.root_at(size).ok_or(AppendEventError::UnknownCitation)?;
            let citation = Citation { log: cited.log.alias(), size, root: Some(root) };
            let known = citations.entry(citation.log).or_insert(citation);
            if known.size < size {
                *known = citation;
            }
        }
        let citations: Vec<Citation> = citations.into_values().collect();
        self.put_event(writer, topic, payload, &citations, 0, now)
    }

    /// Gives up the events of a local writer below a number: with its next event, everybody drops them.
    ///
    /// # Errors
    ///
    /// As [`append_event`](Self::append_event).
    pub fn append_event_pruning(
        &mut self,
        writer: Writer,
        topic: &str,
        payload: &[u8],
        below: u64,
        now: Timestamp,
    ) -> Result<(EventRef, RecordId), AppendEventError> {
        self.put_event(writer, topic, payload, &[], below, now)
    }

    fn put_event(
        &mut self,
        writer: Writer,
        topic: &str,
        payload: &[u8],
        citations: &[Citation],
        below: u64,
        now: Timestamp,
    ) -> Result<(EventRef, RecordId), AppendEventError> {
        let topic = Topic::new(topic)?;
        if !self.author.has(&writer.0) {
            return Err(AppendEventError::UnknownWriter);
        }
        self.settle(now, Source::Host);
        // The new event comes after those that are appended again.
        self.reissue_events(|opening| opening.agent == writer.0 && opening.topic == topic);
        self.store.seal();
        let log = self.own_log(&writer.0, &topic, LogKind::Event, now)?;
        let base = self.store.logs().log(&log).map_or(0, |log| log.base().max(below.min(log.size())));
        let entry = |hlc| NewEntry { base, citations, ..NewEntry::new(hlc, payload) };
        let (seq, record) = self.append(&log, Stamp::Now(now), entry)?;
        self.store.seal();
        self.settle(now, Source::Host);
        Ok((EventRef { log, seq }, record))
    }

    /// Gives up the events of a local writer before one, for good and for everybody: all of its earlier logs of the topic,
    /// and those before it in its log, which need not be the one in which the writer goes on. Nothing that comes later takes
    /// that back, not even a fork. It is done once the record is [confirmed](Self::confirm).
    ///
    /// # Errors
    ///
    /// If there is no such event here, or the writer is not a local one. Nothing changed then.
    pub fn prune_events_before(&mut self, event: &EventRef, now: Timestamp) -> Result<RecordId, SetError> {
        let log = self.store.logs().log(&event.log).ok_or(SetError::Unknown)?;
        if event.seq >= log.size() {
            return Err(KeepError::Unknown.into());
        }
        let record = self.store.prune(&event.log, event.seq)?;
        self.settle(now, Source::Host);
        Ok(record)
    }

    /// Erases the payload of one event here, for good; its hash stays, so everything around it can still be proven.
    ///
    /// # Errors
    ///
    /// If it is not here or not an event's.
    pub fn erase_event(&mut self, event: &EventRef) -> Result<RecordId, SetError> {
        self.store.erase(&event.log, event.seq)
    }
}
