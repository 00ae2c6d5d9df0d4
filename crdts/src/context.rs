//! The dots that have been seen: [`VersionVector`] has them without gaps, [`CausalContext`] with gaps.
//!
//! The invariant of [`Runs`], one writer's part of a context: the cloud's spans lie above `upto + 1`, are not
//! empty and neither touch nor overlap, so a context has one form, and it compacts as its gaps fill.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map;
use alloc::vec::Vec;

use crate::bytes::{DecodeError, Reader, put_len, put_varint, serde_as_canonical_bytes};
use crate::dot::{ActorId, COUNTER_MAX, Dot};
use consilience_base::planted::{Fault, planted};

/// A run of consecutive counters of one writer, both ends included. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Span {
    #[inline]
    pub(crate) const fn single(counter: u64) -> Self {
        Self { start: counter, end: counter }
    }

    #[inline]
    pub(crate) const fn contains(self, counter: u64) -> bool {
        self.start <= counter && counter <= self.end
    }

    /// How many counters the run holds.
    #[inline]
    pub(crate) const fn count(self) -> u64 {
        self.end.saturating_sub(self.start).saturating_add(1)
    }
}

/// The counters of one writer that have been seen: all up to `upto`, and a cloud above a gap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs {
    upto: u64,
    // start → end
    cloud: BTreeMap<u64, u64>,
}

impl Runs {
    #[inline]
    pub(crate) fn contains(&self, counter: u64) -> bool {
        counter <= self.upto || (!self.cloud.is_empty() && self.in_cloud(counter))
    }

    fn in_cloud(&self, counter: u64) -> bool {
        self.cloud.range(..=counter).next_back().is_some_and(|(_, end)| counter <= *end)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.upto == 0 && self.cloud.is_empty()
    }

    /// The greatest counter seen, 0 if none.
    #[inline]
    pub(crate) fn max(&self) -> u64 {
        self.cloud.last_key_value().map_or(self.upto, |(_, end)| *end)
    }

    /// Adds `span` and hands out the parts of it that were new, ascending.
    #[inline]
    pub(crate) fn insert(&mut self, span: Span, mut fresh: impl FnMut(Span)) {
        if span.end <= self.upto {
            return;
        }
        let follows = span.start <= self.upto.saturating_add(1) || planted(Fault::ContextHasNoGaps);
        if self.cloud.is_empty() && follows {
            fresh(Span { start: self.upto.saturating_add(1), end: span.end });
            self.upto = span.end;
        } else {
            self.insert_in_cloud(span, &mut fresh);
        }
    }

    fn insert_in_cloud(&mut self, span: Span, fresh: &mut dyn FnMut(Span)) {
        // Go through the spans that touch the new one and swallow them; the counters between them are new.
        let mut start = span.start;
        let mut end = span.end;
        let mut next_new = span.start.max(self.upto.saturating_add(1));
        if let Some((&s, &e)) = self.cloud.range(..span.start).next_back()
            && e.saturating_add(1) >= span.start
        {
            start = s;
            end = end.max(e);
            next_new = next_new.max(e.saturating_add(1));
            self.cloud.remove(&s);
        }
        while let Some((&s, &e)) = self.cloud.range(span.start..=span.end.saturating_add(1)).next() {
            if next_new < s && next_new <= span.end {
                fresh(Span { start: next_new, end: span.end.min(s.saturating_sub(1)) });
            }
            next_new = next_new.max(e.saturating_add(1));
            end = end.max(e);
            self.cloud.remove(&s);
        }
        if next_new <= span.end {
            fresh(Span { start: next_new, end: span.end });
        }
        if start <= self.upto.saturating_add(1) {
            self.upto = self.upto.max(end);
        } else {
            self.cloud.insert(start, end);
        }
        // The prefix may have reached the first span of the cloud.
        while let Some(first) = self.cloud.first_entry() {
            if *first.key() > self.upto.saturating_add(1) {
                break;
            }
            self.upto = self.upto.max(*first.get());
            first.remove();
        }
    }

    /// Heap bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        // A B-tree node is filled to two thirds or so.
        self.cloud.len() * 3 * size_of::<u64>()
    }

    /// The spans, ascending, not touching one another.
    pub(crate) fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        let prefix = (self.upto > 0).then_some(Span { start: 1, end: self.upto });
        prefix.into_iter().chain(self.cloud.iter().map(|(&start, &end)| Span { start, end }))
    }
}

/// Writes one actor's spans; they must ascend and not touch.
pub(crate) fn put_actor(out: &mut Vec<u8>, actor: &ActorId, spans: impl Iterator<Item = Span> + Clone) {
    let name = actor.as_bytes();
    put_len(out, name.len());
    out.extend_from_slice(name);
    put_len(out, spans.clone().count());
    let mut least = 1;
    for span in spans {
        let more = span.end - span.start;
        put_varint(out, ((span.start - least) << 1) | u64::from(more > 0));
        if more > 0 {
            put_varint(out, more - 1);
        }
        least = span.end.saturating_add(2);
    }
}

/// Reads one actor's name: 1 to 32 bytes.
#[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#[inline]
pub(crate) fn read_name<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let len = usize::from(reader.byte()?);
    if len == 0 || len > ActorId::BYTES_MAX {
        return Err(DecodeError::Limit);
    }
    reader.take(len)
}

/// Reads one actor's spans (at least one) and hands them out.
#[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#[inline]
pub(crate) fn read_spans(reader: &mut Reader<'_>, mut each: impl FnMut(Span)) -> Result<(), DecodeError> {
    let count = reader.count(1)?;
    if count == 0 {
        return Err(DecodeError::NotCanonical);
    }
    let mut least = 1_u64;
    for _ in 0..count {
        let head = reader.varint()?;
        let start = least.checked_add(head >> 1).ok_or(DecodeError::Limit)?;
        let more =
            if head & 1 == 0 { 0 } else { reader.varint()?.checked_add(1).ok_or(DecodeError::Limit)? };
        let end = start.checked_add(more).filter(|end| *end <= COUNTER_MAX).ok_or(DecodeError::Limit)?;
        each(Span { start, end });
        // Never beyond 2^60 + 1.
        least = end.saturating_add(2);
    }
    Ok(())
}

/// How many writes of each writer have been seen, without gaps.
///
/// Where deltas got lost, a version vector by itself names dots that were never delivered; [`CausalContext`] does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionVector {
    seen: BTreeMap<ActorId, u64>,
}

impl VersionVector {
    /// Nothing seen.
    #[must_use]
    pub const fn new() -> Self {
        Self { seen: BTreeMap::new() }
    }

    /// How many writes of `actor` have been seen.
    #[must_use]
    pub fn get(&self, actor: &ActorId) -> u64 {
        self.seen.get(actor).copied().unwrap_or(0)
    }

    /// Whether the dot has been seen.
    #[must_use]
    pub fn contains(&self, dot: &Dot) -> bool {
        dot.counter > 0 && dot.counter <= self.get(&dot.actor)
    }

    /// Raises an actor's count to at least `counter`, capped at [`COUNTER_MAX`].
    pub fn raise(&mut self, actor: ActorId, counter: u64) {
        let counter = counter.min(COUNTER_MAX);
        if counter > 0 {
            let seen = self.seen.entry(actor).or_insert(0);
            *seen = (*seen).max(counter);
        }
    }

    /// The join: the greater count of each actor.
    pub fn merge(&mut self, other: &Self) {
        for (actor, counter) in &other.seen {
            self.raise(*actor, *counter);
        }
    }

    /// Whether everything that `other` has seen has been seen here.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.seen.iter().all(|(actor, counter)| self.get(actor) >= *counter)
    }

    /// The actors and their counts (none of them 0), in the order of the actors.
    pub fn iter(&self) -> impl Iterator<Item = (ActorId, u64)> + '_ {
        self.seen.iter().map(|(actor, counter)| (*actor, *counter))
    }
}

/// A set of dots: a version vector, and a cloud of those above a gap, which compacts as the gaps fill
/// (Almeida, Shoker, Baquero 2018).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CausalContext {
    actors: BTreeMap<ActorId, Runs>,
}

const KIND_CONTEXT: u8 = 0x13;

impl CausalContext {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { actors: BTreeMap::new() }
    }

    /// Whether no dot is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.actors.is_empty()
    }

    /// Whether the dot is in the set.
    #[must_use]
    pub fn contains(&self, dot: &Dot) -> bool {
        self.actors.get(&dot.actor).is_some_and(|runs| dot.counter > 0 && runs.contains(dot.counter))
    }

    /// Adds a dot; says whether it was new. A counter of 0 or beyond [`COUNTER_MAX`] is no dot and is not added.
    pub fn insert(&mut self, dot: Dot) -> bool {
        let mut new = false;
        if (1..=COUNTER_MAX).contains(&dot.counter) {
            self.runs_mut(dot.actor).insert(Span::single(dot.counter), |_| new = true);
        }
        new
    }

    /// Adds a whole version vector.
    pub fn insert_vector(&mut self, vector: &VersionVector) {
        for (actor, end) in vector.iter() {
            self.runs_mut(actor).insert(Span { start: 1, end }, |_| {});
        }
    }

    /// The join: union.
    pub fn merge(&mut self, other: &Self) {
        for (actor, runs) in &other.actors {
            let own = self.runs_mut(*actor);
            for span in runs.spans() {
                own.insert(span, |_| {});
            }
        }
    }

    /// The part without gaps.
    #[must_use]
    pub fn vector(&self) -> VersionVector {
        let mut vector = VersionVector::new();
        for (actor, runs) in &self.actors {
            vector.raise(*actor, runs.upto);
        }
        vector
    }

    /// How many spans lie above a gap, over all actors. Zero once everything before them has arrived.
    #[must_use]
    pub fn cloud_len(&self) -> usize {
        self.actors.values().map(|runs| runs.cloud.len()).sum()
    }

    /// The canonical bytes; `docs/wire/collections.md` has the layout.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = alloc::vec![KIND_CONTEXT];
        put_len(&mut out, self.actors.len());
        for (actor, runs) in &self.actors {
            let spans: Vec<Span> = runs.spans().collect();
            put_actor(&mut out, actor, spans.iter().copied());
        }
        out
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// Anything but the canonical bytes of a context.
    #[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != KIND_CONTEXT {
            return Err(DecodeError::Kind);
        }
        let mut context = Self::new();
        for _ in 0..reader.count(4)? {
            let actor = ActorId::new(read_name(&mut reader)?).ok_or(DecodeError::Limit)?;
            if context.actors.last_key_value().is_some_and(|(last, _)| *last >= actor) {
                return Err(DecodeError::NotCanonical);
            }
            let mut runs = Runs::default();
            read_spans(&mut reader, |span| runs.insert(span, |_| {}))?;
            context.actors.insert(actor, runs);
        }
        reader.finish()?;
        Ok(context)
    }

    pub(crate) fn runs_mut(&mut self, actor: ActorId) -> &mut Runs {
        match self.actors.entry(actor) {
            btree_map::Entry::Occupied(entry) => entry.into_mut(),
            btree_map::Entry::Vacant(entry) => entry.insert(Runs::default()),
        }
    }
}

serde_as_canonical_bytes!(CausalContext);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    /// A small deterministic generator: no randomness dependency for unit tests.
    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    #[test]
    fn runs_equal_a_plain_set_whatever_the_order_of_spans() {
        for seed in 0..300 {
            let mut state = seed;
            let (mut runs, mut model) = (Runs::default(), BTreeSet::new());
            for _ in 0..40 {
                let start = 1 + next(&mut state) % 60;
                let span = Span { start, end: start + next(&mut state) % 6 };
                let mut fresh = Vec::new();
                runs.insert(span, |s| fresh.extend(s.start..=s.end));
                let expected: Vec<u64> = (span.start..=span.end).filter(|c| model.insert(*c)).collect();
                assert_eq!(fresh, expected, "seed {seed}");
                assert!((1..80).all(|c| runs.contains(c) == model.contains(&c)), "seed {seed}");
                let spans: Vec<Span> = runs.spans().collect();
                assert!(spans.windows(2).all(|w| w[0].end + 1 < w[1].start), "compact, seed {seed}");
                assert_eq!(runs.max(), model.last().copied().unwrap_or(0));
            }
        }
    }

    #[test]
    fn a_context_compacts_when_its_gaps_fill() {
        let actor = ActorId::from(1);
        let mut context = CausalContext::new();
        for counter in [2, 4, 3] {
            assert!(context.insert(Dot { actor, counter }));
        }
        assert_eq!((context.vector().get(&actor), context.cloud_len()), (0, 1));
        assert!(!context.insert(Dot { actor, counter: 3 }));
        context.insert(Dot { actor, counter: 1 });
        assert_eq!((context.vector().get(&actor), context.cloud_len()), (4, 0));
    }

    #[test]
    fn counters_out_of_range_are_no_dots() {
        let mut context = CausalContext::new();
        for counter in [0, COUNTER_MAX + 1, u64::MAX] {
            assert!(!context.insert(Dot { actor: ActorId::from(1), counter }));
            assert!(!context.contains(&Dot { actor: ActorId::from(1), counter }));
        }
        assert!(context.insert(Dot { actor: ActorId::from(1), counter: COUNTER_MAX }));
        assert_eq!(CausalContext::decode(&context.encode()), Ok(context));
    }

    #[test]
    fn context_bytes_are_canonical_and_every_cut_is_refused() {
        let mut context = CausalContext::new();
        for (actor, counter) in [(1, 1), (1, 2), (1, 9), (2, 5), (300, 1)] {
            context.insert(Dot { actor: ActorId::from(actor), counter });
        }
        let bytes = context.encode();
        assert_eq!(CausalContext::decode(&bytes), Ok(context));
        for cut in 0..bytes.len() {
            assert!(CausalContext::decode(&bytes[..cut]).is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = CausalContext::decode(&flipped) {
                assert_eq!(other.encode(), flipped, "one form only");
            }
        }
        let long: Vec<u8> = bytes.iter().copied().chain([0]).collect();
        assert_eq!(CausalContext::decode(&long), Err(DecodeError::Trailing));
    }

    #[test]
    fn vectors_join_to_the_greater_count() {
        let (a, b) = (ActorId::from(1), ActorId::from(2));
        let (mut x, mut y) = (VersionVector::new(), VersionVector::new());
        x.raise(a, 3);
        y.raise(a, 1);
        y.raise(b, 2);
        assert!(!x.covers(&y) && !y.covers(&x));
        x.merge(&y);
        assert!(x.covers(&y) && x.get(&a) == 3 && x.contains(&Dot { actor: b, counter: 2 }));
        x.raise(b, 0);
        assert_eq!(x.iter().count(), 2);
    }
}
