//! Which dots changed, in the order in which they did, so that a peer that was away gets what it missed and no more.
//!
//! A dot changes when it is first covered (whether it came alive or was dead on arrival) and when a live one dies.
//! The journal is a courtesy to peers, not part of the state: it is bounded, and who comes from before its beginning
//! gets the whole state. The invariant: positions only rise, by one for each dot recorded.

use alloc::collections::VecDeque;

use crate::context::Span;

/// How far a peer has followed one replica's changes. Of use only with the replica that gave it out.
///
/// The default stands before everything: it gets the whole state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor(pub(crate) u64);

/// `len` dots of one actor with consecutive counters.
#[derive(Clone, Copy, Debug)]
struct Record {
    start: u64,
    actor: u32,
    len: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Journal {
    records: VecDeque<Record>,
    /// Position before the first record.
    floor: u64,
    /// Position behind the last one.
    end: u64,
}

impl Default for Journal {
    fn default() -> Self {
        // The default cursor is zero and must lie before everything, so positions start at one.
        Self { records: VecDeque::new(), floor: 1, end: 1 }
    }
}

impl Journal {
    pub(crate) const fn cursor(&self) -> Cursor {
        Cursor(self.end)
    }

    /// Records that the dots changed.
    #[inline]
    pub(crate) fn push(&mut self, actor: u32, span: Span) {
        let Ok(len) = u32::try_from(span.count()) else { return self.forget(span.count()) };
        self.end = self.end.saturating_add(u64::from(len));
        if let Some(last) = self.records.back_mut()
            && last.actor == actor
            && last.start.saturating_add(u64::from(last.len)) == span.start
            && let Some(longer) = last.len.checked_add(len)
        {
            last.len = longer;
            return;
        }
        self.records.push_back(Record { start: span.start, actor, len });
    }

    /// A change too large to record: everybody starts anew.
    #[cold]
    fn forget(&mut self, count: u64) {
        self.records.clear();
        self.end = self.end.saturating_add(count);
        self.floor = self.end;
    }

    /// Keeps the journal in proportion to `live` dots.
    #[inline]
    pub(crate) fn trim(&mut self, live: usize) {
        let most = 1_024 + live / 2;
        if self.records.len() > most {
            self.drop_oldest(self.records.len() - most / 2);
        }
    }

    #[cold]
    fn drop_oldest(&mut self, count: usize) {
        for record in self.records.drain(..count) {
            self.floor = self.floor.saturating_add(u64::from(record.len));
        }
        self.records.shrink_to(self.records.len() * 2);
    }

    /// The dots that changed since, newest first; `None` if the journal does not reach back that far, or never was
    /// there.
    pub(crate) fn since(&self, cursor: Cursor) -> Option<impl Iterator<Item = (u32, Span)> + '_> {
        if cursor.0 < self.floor || cursor.0 > self.end || self.end == u64::MAX {
            return None;
        }
        let mut missing = self.end - cursor.0;
        Some(self.records.iter().rev().map_while(move |record| {
            // Records grow at their end, so what is newer than the cursor is the record's tail.
            let count = missing.min(u64::from(record.len));
            missing -= count;
            let end = record.start + u64::from(record.len) - 1;
            (count > 0).then(|| (record.actor, Span { start: end + 1 - count, end }))
        }))
    }

    /// Heap bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.records.capacity() * size_of::<Record>()
    }
}
