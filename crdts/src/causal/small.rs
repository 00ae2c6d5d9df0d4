//! The small form: one actor, a few dots, at most one row. A peer that is awake sends one for each write, so it is read
//! without tables and joined without setting up a general join.
//!
//! A form that is not small, or not right, is left to the general way, which also names the fault. The invariant: both
//! ways end in the same state.

use super::kind::Kind;
use super::rows::{check_stamp, check_value_len, read_nibble};
use super::{Causal, Observe};
use crate::bytes::{KEY_BYTES_MAX, Reader, unzigzag};
use crate::context::Span;
use crate::dot::{ActorId, COUNTER_MAX};
use crate::store::NONE;

const SPANS_MAX: usize = 4;
const DOTS_MAX: u64 = 16;

/// A small form, read and checked.
#[derive(Debug)]
pub(super) struct Small<'a> {
    name: &'a [u8],
    spans: [Span; SPANS_MAX],
    spans_len: usize,
    dots: u64,
    row: Option<Write<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Write<'a> {
    counter: u64,
    stamp: u64,
    key: &'a [u8],
    value: &'a [u8],
}

impl<'a> Small<'a> {
    /// Reads a small form; `None` if the form is not small, or wrong.
    #[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    #[inline]
    pub(super) fn read(bytes: &'a [u8], kind: Kind) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.byte().ok()? != kind as u8 || reader.byte().ok()? != 1 {
            return None;
        }
        let name_len = usize::from(reader.byte().ok()?);
        if name_len == 0 || name_len > ActorId::BYTES_MAX {
            return None;
        }
        let name = reader.take(name_len).ok()?;
        let spans_len = usize::from(reader.byte().ok()?);
        let mut spans = [Span { start: 0, end: 0 }; SPANS_MAX];
        let (mut least, mut dots) = (1_u64, 0_u64);
        // More spans than there is room for, or none at all: not for here.
        for span in spans.get_mut(..spans_len).filter(|spans| !spans.is_empty())? {
            let head = reader.varint().ok()?;
            let more = if head & 1 == 0 { 0 } else { reader.varint().ok()?.checked_add(1)? };
            let start = least.checked_add(head >> 1)?;
            let end = start.checked_add(more).filter(|end| *end <= COUNTER_MAX)?;
            *span = Span { start, end };
            dots = dots.saturating_add(span.count());
            least = end.saturating_add(2);
        }
        if dots > DOTS_MAX {
            return None;
        }
        let mut small = Self { name, spans, spans_len, dots, row: None };
        match reader.byte().ok()? {
            0 => {}
            1 => small.row = Some(small.read_row(&mut reader, kind)?),
            _ => return None,
        }
        reader.finish().ok()?;
        Some(small)
    }

    #[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    #[inline]
    fn read_row(&self, reader: &mut Reader<'a>, kind: Kind) -> Option<Write<'a>> {
        let lead = reader.byte().ok()?;
        // The first key has nothing to drop.
        if lead >> 4 != 0 {
            return None;
        }
        let len = read_nibble(reader, lead).ok()?;
        let key = reader.take(len).ok().filter(|key| key.len() <= KEY_BYTES_MAX)?;
        let dot = reader.varint().ok()?;
        let last = self.spans().last()?.end;
        let counter = last.wrapping_add_signed(unzigzag(dot >> 2));
        // Neither another actor nor a sibling.
        if dot & 3 != 0 || !self.covers(counter) {
            return None;
        }
        let (mut stamp, mut value) = (0, &[][..]);
        if kind == Kind::Map {
            let head = reader.varint().ok()?;
            let logical = if head & 2 == 0 { 0 } else { reader.varint().ok()? };
            stamp = check_stamp(unzigzag(head >> 2).cast_unsigned(), head & 2 != 0, logical).ok()?;
            if head & 1 != 0 {
                let len = check_value_len(reader.varint().ok()?, 0).ok()?;
                value = reader.take(usize::from(len)).ok()?;
            }
        }
        Some(Write { counter, stamp, key, value })
    }

    fn spans(&self) -> &[Span] {
        self.spans.get(..self.spans_len).unwrap_or_default()
    }

    #[inline]
    fn covers(&self, counter: u64) -> bool {
        self.spans().iter().any(|span| span.contains(counter))
    }
}

impl Causal {
    /// Joins a small form and says whether that changed anything; `None`, with nothing changed, where the general
    /// way has to: where the row meets a concurrent dot.
    #[inline]
    pub(super) fn join_small<O: Observe>(&mut self, small: &Small<'_>, observe: &mut O) -> Option<bool> {
        let actor = self.intern(small.name);
        self.store.tidy();
        let Self { store, seen, changelog, .. } = self;
        let runs = &mut seen[actor as usize];
        let listed = small.row.map(|row| row.counter);
        let ends = |dot: (u32, u64)| dot.0 == actor && Some(dot.1) != listed && small.covers(dot.1);
        let mut accounted = u64::from(listed.is_some());
        if let Some(row) = small.row {
            store.build_keys();
            let hash = store.hash_key(row.key);
            let dot = (actor, row.counter);
            let fresh = !runs.contains(row.counter);
            if let Some(head) = store.find_hashed(hash, row.key) {
                let slot = store.slot(head);
                let own = slot.dot();
                let meets = slot.next != NONE || fresh != ends(own);
                if meets && own != dot && !(small.dots == 1 && fresh) {
                    return None;
                }
                if meets && own != dot {
                    // One more concurrent write, which ends nothing.
                    let old = O::LISTENS.then(|| slot.value().to_vec());
                    store.add_sibling(head, dot, row.stamp, row.value);
                    let new = store.slot(head).value();
                    if let Some(old) = old.filter(|old| old != new) {
                        observe.changed(row.key, Some(&old), Some(new));
                    }
                } else if own != dot && fresh {
                    if O::LISTENS && slot.value() != row.value {
                        observe.changed(row.key, Some(slot.value()), Some(row.value));
                    }
                    store.replace(head, dot, row.stamp, row.value.into());
                    changelog.push(own.0, Span::single(own.1));
                    accounted += 1;
                }
            } else if fresh {
                if O::LISTENS {
                    observe.changed(row.key, None, Some(row.value));
                }
                let id = store.add_key(hash, dot, row.stamp, row.key.into(), row.value.into());
                store.order_push(id);
            }
        }
        let mut changed = false;
        if accounted < small.dots && store.live_dots_of(actor) > 0 {
            for counter in small.spans().iter().flat_map(|span| span.start..=span.end) {
                if !runs.contains(counter) || Some(counter) == listed {
                    continue;
                }
                store.build_dots();
                let Some(slot) = store.find_dot((actor, counter)) else { continue };
                changed = true;
                if store.slot(slot).head().is_some() {
                    // A change after the winner is not visible.
                    changelog.push(actor, Span::single(counter));
                    store.remove_slot(slot);
                    continue;
                }
                let head = store.slot(slot);
                let old = O::LISTENS.then(|| (head.key().to_vec(), head.value().to_vec()));
                store.retain_chain(slot, |dot| !ends(dot), |dot| changelog.push(dot.0, Span::single(dot.1)));
                if let Some((key, old)) = old {
                    let new = Some(store.slot(slot)).filter(|slot| slot.is_live()).map(|slot| slot.value());
                    if new != Some(&old) {
                        observe.changed(&key, Some(&old), new);
                    }
                }
            }
        }
        for span in small.spans() {
            runs.insert(*span, |new| {
                changed = true;
                changelog.push(actor, new);
            });
        }
        changelog.trim(store.live_dots());
        Some(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causal::{HeldChanges, Unobserved};
    use crate::{Hlc, Timestamp};
    use alloc::vec::Vec;

    #[test]
    fn both_ways_end_in_the_same_state_and_refuse_the_same() {
        for (seed, kind) in (0..60_u64).flat_map(|seed| [(seed, Kind::Map), (seed, Kind::Set)]) {
            let mut state = seed;
            let mut below = |bound: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % bound
            };
            let mut writers = [Causal::new(kind, 1), Causal::new(kind, 2), Causal::new(kind, 3)];
            let (mut small, mut any) = (Causal::new(kind, 4), Causal::new(kind, 5));
            let mut deltas: Vec<Vec<u8>> = Vec::new();
            for _ in 0..120 {
                let encoder = usize::try_from(below(3)).unwrap();
                let (key, value) = (alloc::format!("key/{}", below(9)), alloc::format!("{}", below(2_000)));
                let stamp = Hlc::new(Timestamp::from_millis(below(50)), u16::try_from(below(3)).unwrap());
                let (value, stamp) =
                    if kind == Kind::Map { (value.as_bytes(), stamp) } else { (&[][..], Hlc::ZERO) };
                deltas.push(match below(3) {
                    0 => writers[encoder].remove(key.as_bytes()),
                    _ => writers[encoder]
                        .write(&ActorId::from(below(2)), key.as_bytes(), value, stamp)
                        .unwrap(),
                });
                // Late, out of order, twice, or with a byte wrong; to the writers as well.
                let mut delta = deltas[usize::try_from(below(deltas.len() as u64)).unwrap()].clone();
                if below(3) == 0 {
                    let at = usize::try_from(below(delta.len() as u64)).unwrap();
                    delta[at] = delta[at].wrapping_add(u8::try_from(below(4)).unwrap());
                }
                let (mut held, mut held_any) = (HeldChanges::default(), HeldChanges::default());
                let one = small.merge(&delta, &mut held);
                let other = any.merge_any(&delta, &mut held_any);
                let [mut changes, mut changes_any] = [Vec::new(), Vec::new()];
                held.report(|key, old, new| changes.push(alloc::format!("{key:?} {old:?} {new:?}")));
                held_any.report(|key, old, new| changes_any.push(alloc::format!("{key:?} {old:?} {new:?}")));
                assert_eq!((one, changes), (other, changes_any), "seed {seed}");
                assert_eq!(small.encode(), any.encode(), "seed {seed}");
                if one.is_ok() {
                    let to = usize::try_from(below(3)).unwrap();
                    writers[to].merge(&delta, &mut Unobserved).unwrap();
                }
            }
        }
    }
}
