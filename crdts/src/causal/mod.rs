//! The causal machine under the LWW map and the OR-set: a [`DotStore`], and a context that says which dots were seen.
//!
//! A dot that the context covers and the store does not hold is dead. A write mints a dot and ends those it observed
//! for its key; a removal only ends. A delta names exactly the dots it is about, so deltas can be lost, repeated and
//! reordered without harm to others (Almeida, Shoker, Baquero 2018; Akka's LWWMap and DSON work alike). The invariant:
//! every live dot is covered.

mod changelog;
mod encoder;
mod facade;
mod form;
mod join;
mod kind;
mod lookup;
mod rows;
mod small;

use alloc::boxed::Box;
use alloc::vec::Vec;

use consilience_base::Hlc;

use crate::bytes::{DecodeError, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::context::{CausalContext, Runs, Span};
use crate::dot::{ActorId, COUNTER_MAX};
use crate::store::{DotStore, Stats};
use changelog::Changelog;
pub use changelog::Cursor;
use encoder::Encoder;
pub(crate) use facade::causal_collection;
use form::{Form, Head};
pub(crate) use join::{HeldChanges, Observe, Unobserved};
pub(crate) use kind::Kind;
use small::Small;

/// Why a local write was refused. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The host gave a key or element of more than [`KEY_BYTES_MAX`] bytes.
    #[error("a key or element of {0} bytes: the limit is {KEY_BYTES_MAX}")]
    KeyTooLong(usize),
    /// The host gave a value of more than [`VALUE_BYTES_MAX`] bytes. A larger one belongs elsewhere, by its hash.
    #[error("a value of {0} bytes: the limit is {VALUE_BYTES_MAX}")]
    ValueTooLong(usize),
    /// The actor's counter is used up, which only a context made up by a peer can do. Write under a new name.
    #[error("the actor has no dots left")]
    Exhausted,
}

/// A local write.
#[derive(Clone, Copy)]
struct Write<'a> {
    key: &'a [u8],
    value: &'a [u8],
    dot: (u32, u64),
    stamp: Hlc,
}

/// The most memory that is kept between merges for decoding, so that small deltas need no allocation.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;

#[derive(Clone, Debug, Default)]
pub(crate) struct Causal {
    kind: Kind,
    pub(crate) store: DotStore,
    /// By the store's actor indices.
    seen: Vec<Runs>,
    changelog: Changelog,
    scratch: Option<Box<Form>>,
    /// A table of joins, by the store's actor indices, all unset between them.
    remote: Vec<u32>,
    observed: Vec<(u32, u64)>,
}

impl Causal {
    pub(crate) fn new(kind: Kind, seed: u64) -> Self {
        Self { kind, store: DotStore::new(seed), ..Self::default() }
    }

    #[inline]
    fn intern(&mut self, actor: &[u8]) -> u32 {
        let index = self.store.actors.intern(actor);
        if self.seen.len() <= index as usize {
            self.seen.resize_with(index as usize + 1, Runs::default);
        }
        index
    }

    /// Sets a key, or inserts an element with an empty value. Returns the delta's bytes.
    pub(crate) fn write(
        &mut self,
        actor: &ActorId,
        key: &[u8],
        value: &[u8],
        stamp: Hlc,
    ) -> Result<Vec<u8>, WriteError> {
        if key.len() > KEY_BYTES_MAX {
            return Err(WriteError::KeyTooLong(key.len()));
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(WriteError::ValueTooLong(value.len()));
        }
        let known = self.store.actors.index(actor).and_then(|index| self.seen.get(index as usize));
        let counter = known.map_or(0, Runs::max) + 1;
        if counter > COUNTER_MAX {
            return Err(WriteError::Exhausted);
        }
        let dot = (self.intern(actor.as_bytes()), counter);
        self.store.tidy();
        self.store.build_keys();
        let hash = self.store.hash_key(key);
        self.observed.clear();
        if let Some(head) = self.store.find_hashed(hash, key) {
            if self.store.slot(head).next != crate::store::NONE {
                // Concurrent writes: all but the winner go first, so that one slot is left to write over.
                let winner = self.store.slot(head).dot();
                self.store.retain_chain(head, |dot| dot == winner, |dot| self.observed.push(dot));
            }
            self.observed.push(self.store.slot(head).dot());
            self.store.replace(head, dot, stamp.to_bits(), value.into());
        } else {
            let id = self.store.add_key(hash, dot, stamp.to_bits(), key.into(), value.into());
            self.store.order_push(id);
        }
        self.record_observed();
        self.seen[dot.0 as usize].insert(Span::single(counter), |_| {});
        self.changelog.push(dot.0, Span::single(counter));
        self.changelog.trim(self.store.live_dots());
        self.observed.push(dot);
        Ok(self.local_delta(Some(Write { key, value, dot, stamp })))
    }

    /// Removes a key or element: ends the dots observed for it. Returns the delta's bytes.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Vec<u8> {
        self.observed.clear();
        self.store.tidy();
        self.store.build_keys();
        if let Some(head) = self.store.find(key) {
            self.store.retain_chain(head, |_| false, |dot| self.observed.push(dot));
        }
        self.record_observed();
        self.changelog.trim(self.store.live_dots());
        self.local_delta(None)
    }

    fn record_observed(&mut self) {
        for (actor, counter) in &self.observed {
            self.changelog.push(*actor, Span::single(*counter));
        }
    }

    /// The delta about the dots in `observed`, with one row at most.
    fn local_delta(&mut self, row: Option<Write<'_>>) -> Vec<u8> {
        let actors = &self.store.actors;
        self.observed.sort_unstable_by_key(|(actor, counter)| (actors.id(*actor), *counter));
        let mut encoder = Encoder::new(self.kind, self.observed.chunk_by(|a, b| a.0 == b.0).count());
        let mut author = 0;
        for (rank, dots) in (0_u32..).zip(self.observed.chunk_by(|a, b| a.0 == b.0)) {
            // Consecutive counters make one span.
            let spans = dots.chunk_by(|a, b| a.1 + 1 == b.1).filter_map(|run| {
                let ((_, start), (_, end)) = (run.first()?, run.last()?);
                Some(Span { start: *start, end: *end })
            });
            encoder.actor(actors.id(dots[0].0), spans);
            if row.is_some_and(|write| write.dot.0 == dots[0].0) {
                author = rank;
            }
        }
        encoder.rows(usize::from(row.is_some()));
        if let Some(Write { key, value, dot, stamp }) = row {
            encoder.row(Some(key), false, (author, dot.1), stamp.to_bits(), value);
        }
        encoder.finish()
    }

    /// Decodes and joins. A refused input changes nothing.
    #[inline]
    pub(crate) fn merge(&mut self, bytes: &[u8], observe: &mut impl Observe) -> Result<bool, DecodeError> {
        if let Some(small) = Small::read(bytes, self.kind)
            && let Some(changed) = self.join_small(&small, observe)
        {
            return Ok(changed);
        }
        self.merge_any(bytes, observe)
    }

    /// [`merge`](Self::merge), and then reports the keys that changed, each once.
    pub(crate) fn merge_watched(
        &mut self,
        bytes: &[u8],
        changed: impl FnMut(&[u8], Option<&[u8]>, Option<&[u8]>),
    ) -> Result<bool, DecodeError> {
        let mut held = HeldChanges::default();
        let merged = self.merge(bytes, &mut held)?;
        held.report(changed);
        Ok(merged)
    }

    /// [`merge`](Self::merge) for forms of any size.
    #[inline(never)]
    fn merge_any(&mut self, bytes: &[u8], observe: &mut impl Observe) -> Result<bool, DecodeError> {
        let mut form = self.scratch.take().unwrap_or_default();
        let checked = form.check(bytes, self.kind);
        let merged = checked.map(|()| self.join(&mut form, bytes, observe));
        if form.bytes() <= SCRATCH_BYTES_MAX {
            self.scratch = Some(form);
        }
        merged
    }

    /// Joins bytes that were checked when they came in, or written here.
    pub(crate) fn merge_valid(&mut self, bytes: &[u8], observe: &mut impl Observe) -> bool {
        match self.merge(bytes, observe) {
            Ok(changed) => changed,
            Err(error) => unreachable!("canonical bytes were refused: {error}"),
        }
    }

    /// [`merge_valid`](Self::merge_valid), and then reports the keys that changed, each once.
    pub(crate) fn merge_valid_watched(
        &mut self,
        bytes: &[u8],
        changed: impl FnMut(&[u8], Option<&[u8]>, Option<&[u8]>),
    ) -> bool {
        let mut held = HeldChanges::default();
        let merged = self.merge_valid(bytes, &mut held);
        held.report(changed);
        merged
    }

    /// From the bytes of a state (or of a delta, which makes a state that has seen only that).
    pub(crate) fn decode(kind: Kind, seed: u64, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut new = Self::new(kind, seed);
        new.fill(bytes, kind)?;
        new.changelog = Changelog::default();
        Ok(new)
    }

    /// The whole state's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut ranks = alloc::vec![0; self.store.actors.len()];
        let known = || {
            let actors = self.store.actors.sorted();
            actors.filter_map(|(id, index)| {
                let runs = self.seen.get(index as usize).filter(|runs| !runs.is_empty())?;
                Some((id, index, runs))
            })
        };
        let mut encoder = Encoder::new(self.kind, known().count());
        for (rank, (id, index, runs)) in (0_u32..).zip(known()) {
            ranks[index as usize] = rank;
            let spans: Vec<Span> = runs.spans().collect();
            encoder.actor(id, spans.iter().copied());
        }
        encoder.rows(self.store.live_dots());
        self.write_rows(&mut encoder, &ranks, self.store.heads(), |_| true);
        encoder.finish()
    }

    /// Writes the dots of these keys for which `wanted` holds.
    fn write_rows<'a>(
        &'a self,
        encoder: &mut Encoder<'a>,
        ranks: &[u32],
        heads: impl Iterator<Item = u32>,
        wanted: impl Fn((u32, u64)) -> bool,
    ) {
        let mut dots: Vec<(u32, u64, u32)> = Vec::new();
        for head in heads {
            let slot = self.store.slot(head);
            if slot.next == crate::store::NONE {
                if wanted(slot.dot()) {
                    let rank = ranks[slot.actor as usize];
                    encoder.row(Some(slot.key()), false, (rank, slot.counter), slot.stamp, slot.value());
                }
                continue;
            }
            dots.clear();
            dots.extend(self.store.chain(head).filter_map(|id| {
                let (actor, counter) = self.store.slot(id).dot();
                wanted((actor, counter)).then(|| (ranks[actor as usize], counter, id))
            }));
            dots.sort_unstable();
            for (i, (rank, counter, id)) in dots.iter().enumerate() {
                let dot = self.store.slot(*id);
                let key = (i == 0).then(|| slot.key());
                encoder.row(key, i + 1 < dots.len(), (*rank, *counter), dot.stamp, dot.value());
            }
        }
    }

    pub(crate) const fn cursor(&self) -> Cursor {
        self.changelog.cursor()
    }

    /// All changes after `cursor`, joined into one delta; the whole state where the changelog does not reach back.
    pub(crate) fn delta_since(&self, cursor: Cursor) -> Vec<u8> {
        let Some(changes) = self.changelog.since(cursor) else { return self.encode() };
        let actors = &self.store.actors;
        let mut changed: Vec<(&ActorId, u32, Span)> =
            changes.map(|(actor, span)| (actors.id(actor), actor, span)).collect();
        changed.sort_unstable();
        let mut about = Head::default();
        let mut ranks = alloc::vec![u32::MAX; actors.len()];
        for (rank, own) in (0_u32..).zip(changed.chunk_by(|a, b| a.1 == b.1)) {
            ranks[own[0].1 as usize] = rank;
            about.push_actor(joined(own.iter().map(|(_, _, span)| *span)).into_iter());
        }
        about.index();
        let covered = |(actor, counter): (u32, u64)| {
            let rank = ranks[actor as usize];
            rank != u32::MAX && about.covers(rank, counter)
        };
        let heads = self.changed_heads(&about, &ranks);
        let rows = heads.iter().flat_map(|head| self.store.chain(*head));
        let rows = rows.filter(|id| covered(self.store.slot(*id).dot())).count();
        let mut encoder = Encoder::new(self.kind, about.actors.len());
        for (rank, own) in (0_u32..).zip(changed.chunk_by(|a, b| a.1 == b.1)) {
            encoder.actor(own[0].0, about.spans_of(rank).iter().copied());
        }
        encoder.rows(rows);
        self.write_rows(&mut encoder, &ranks, heads.into_iter(), covered);
        encoder.finish()
    }

    /// The keys that may have dots in `about`, in order: looked up where they are few, else all there are.
    fn changed_heads(&self, about: &Head, ranks: &[u32]) -> Vec<u32> {
        let few = usize::try_from(about.dots).is_ok_and(|dots| dots <= self.store.live_dots() / 4);
        if !few || !self.store.has_dots_index() {
            return self.store.heads().collect();
        }
        let mut heads = Vec::new();
        for (index, rank) in (0_u32..).zip(ranks).filter(|(_, rank)| **rank != u32::MAX) {
            for span in about.spans_of(*rank) {
                let slots =
                    (span.start..=span.end).filter_map(|counter| self.store.find_dot((index, counter)));
                heads.extend(slots.map(|slot| self.store.slot(slot).head().unwrap_or(slot)));
            }
        }
        heads.sort_unstable_by_key(|head| self.store.slot(*head).key());
        heads.dedup();
        heads
    }

    pub(crate) fn context(&self) -> CausalContext {
        let mut context = CausalContext::new();
        for (id, index) in self.store.actors.sorted() {
            if let Some(runs) = self.seen.get(index as usize).filter(|runs| !runs.is_empty()) {
                *context.runs_mut(*id) = runs.clone();
            }
        }
        context
    }

    pub(crate) fn stats(&self) -> Stats {
        let stats = self.store.stats();
        let clouds: usize = self.seen.iter().map(Runs::bytes).sum();
        let context =
            self.seen.capacity() * size_of::<Runs>() + self.remote.capacity() * size_of::<u32>() + clouds;
        let kept = self.changelog.bytes()
            + self.scratch.as_ref().map_or(0, |form| form.bytes())
            + self.observed.capacity() * size_of::<(u32, u64)>();
        Stats { bytes: stats.bytes + context + kept, ..stats }
    }
}

/// Checks a form's bytes.
pub(crate) fn validate(kind: Kind, bytes: &[u8]) -> Result<(), DecodeError> {
    Form::default().check(bytes, kind)
}

/// Unites spans that ascend by their starts.
fn joined(spans: impl Iterator<Item = Span>) -> Vec<Span> {
    let mut united: Vec<Span> = Vec::new();
    for span in spans {
        match united.last_mut() {
            Some(last) if span.start <= last.end + 1 => last.end = last.end.max(span.end),
            _ => united.push(span),
        }
    }
    united
}
