//! Which dots changed, in the order in which they did, so that a peer that was away gets the changes it missed and no
//! more.
//!
//! A dot changes when it is first covered (whether it came alive or was dead on arrival) and when a live one dies. The
//! changelog is a courtesy to peers, not part of the state: it is bounded, and a peer whose cursor lies before its
//! beginning gets the whole state. The invariant: positions only rise, by one for each dot recorded.

use alloc::collections::VecDeque;

use crate::context::Span;

/// How far a peer has followed one replica's changes. A cursor is of use only with the very collection that gave it
/// out: a collection that was decoded from bytes begins anew, and so do its peers.
///
/// The default stands before everything and gets the whole state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor(pub(crate) u64);

/// Dots of one actor with consecutive counters.
#[derive(Clone, Copy, Debug)]
struct Record {
    span: Span,
    actor: u32,
}

impl Record {
    /// How far the record moves the position: by its dots, so that a record can grow and a cursor stand within it; or
    /// by one, if a peer named more dots at once than anybody can have written.
    const fn weight(&self) -> u64 {
        let dots = self.span.count();
        if dots > u32::MAX as u64 { 1 } else { dots }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Changelog {
    records: VecDeque<Record>,
    /// Position before the first record.
    floor: u64,
    /// Position after the last record.
    end: u64,
}

impl Default for Changelog {
    fn default() -> Self {
        // The default cursor is zero and must lie before everything, so positions start at one.
        Self { records: VecDeque::new(), floor: 1, end: 1 }
    }
}

impl Changelog {
    pub(crate) const fn cursor(&self) -> Cursor {
        Cursor(self.end)
    }

    /// Records that the dots changed.
    #[inline]
    pub(crate) fn push(&mut self, actor: u32, span: Span) {
        let new = Record { span, actor };
        // 2^32 positions a change: the end of u64 is 2^32 changes of that size away, and is never reached.
        self.end = self.end.saturating_add(new.weight());
        if let Some(last) = self.records.back_mut()
            && last.actor == actor
            && last.span.end.saturating_add(1) == span.start
            && span.end.saturating_sub(last.span.start) < u64::from(u32::MAX)
        {
            last.span.end = span.end;
            return;
        }
        self.records.push_back(new);
    }

    /// Keeps the changelog in proportion to `live` dots.
    #[inline]
    pub(crate) fn trim(&mut self, live: usize) {
        let most = 1_024 + live / 4;
        if self.records.len() > most {
            self.drop_oldest(self.records.len() - most / 2);
        }
    }

    #[cold]
    fn drop_oldest(&mut self, count: usize) {
        for record in self.records.drain(..count) {
            self.floor = self.floor.saturating_add(record.weight());
        }
        self.records.shrink_to(self.records.len() * 2);
    }

    /// The dots that changed after `cursor`, newest first; `None` if the changelog does not reach back that far, or
    /// never came as far as the cursor.
    pub(crate) fn since(&self, cursor: Cursor) -> Option<impl Iterator<Item = (u32, Span)> + '_> {
        if cursor.0 < self.floor || cursor.0 > self.end {
            return None;
        }
        let mut missing = self.end - cursor.0;
        Some(self.records.iter().rev().map_while(move |record| {
            let weight = record.weight();
            let taken = missing.min(weight);
            missing -= taken;
            // Records grow at their end, so the dots newer than the cursor are the record's tail.
            let start = if taken == weight { record.span.start } else { record.span.end + 1 - taken };
            (taken > 0).then_some((record.actor, Span { start, end: record.span.end }))
        }))
    }

    /// Heap bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.records.capacity() * size_of::<Record>()
    }
}
