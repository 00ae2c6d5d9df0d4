//! Which dots a decoded form covers and which it lists, answered in O(1) where the dots lie close together.
//!
//! Few dots are scanned. More are kept as bits, one per counter between an actor's first and last, as long as that is a
//! fair price for the bytes received; else sorted. The memory is bounded by the form's bytes in every case.

use alloc::vec::Vec;

use super::rows::{FormActor, Row};
use crate::bytes::DecodeError;
use crate::context::Span;

/// Up to so many rows a scan is quicker than a table.
const SCANNED_ROWS_MAX: usize = 8;
/// Bits per row or span that are a fair price: four bytes of each.
const BITS_PER_ITEM: u64 = 32;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Scan,
    Bits,
    Sorted,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Lookup {
    mode: Mode,
    /// Per actor, its first counter and where its bits start.
    bases: Vec<(u64, u64)>,
    covered: Vec<u64>,
    listed: Vec<u64>,
    sorted: Vec<(u32, u64)>,
}

/// The word and the mask of a bit.
#[inline]
fn place(bit: u64) -> (usize, u64) {
    (usize::try_from(bit / 64).unwrap_or(usize::MAX), 1 << (bit % 64))
}

impl Lookup {
    /// Prepares for the dots of `rows` rows.
    pub(crate) fn prepare(&mut self, actors: &[FormActor], spans: &[Span], rows: usize) {
        self.sorted.clear();
        self.mode = if rows <= SCANNED_ROWS_MAX && spans.len() <= SCANNED_ROWS_MAX {
            Mode::Scan
        } else if self.lay_bits(actors, spans, rows) {
            Mode::Bits
        } else {
            Mode::Sorted
        };
    }

    /// Takes the dots of some rows in, and checks that each is covered and has not occurred before.
    #[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    pub(crate) fn note(
        &mut self,
        actors: &[FormActor],
        spans: &[Span],
        rows: &[Row],
    ) -> Result<(), DecodeError> {
        match self.mode {
            Mode::Scan => {
                for row in rows {
                    let actor = actors.get(row.actor as usize).ok_or(DecodeError::Uncovered)?;
                    let own = spans.get(actor.spans.clone()).unwrap_or_default();
                    if !own.iter().any(|span| span.contains(row.counter)) {
                        return Err(DecodeError::Uncovered);
                    }
                    if self.sorted.contains(&(row.actor, row.counter)) {
                        return Err(DecodeError::DuplicateDot);
                    }
                    self.sorted.push((row.actor, row.counter));
                }
            }
            Mode::Bits => {
                for row in rows {
                    // Outside the actor's first and last counter there are no bits.
                    let bit = self.bit(row.actor, row.counter).ok_or(DecodeError::Uncovered)?;
                    let (word, mask) = place(bit);
                    if self.covered.get(word).is_none_or(|covered| covered & mask == 0) {
                        return Err(DecodeError::Uncovered);
                    }
                    let listed = self.listed.get_mut(word).ok_or(DecodeError::Uncovered)?;
                    if *listed & mask != 0 {
                        return Err(DecodeError::DuplicateDot);
                    }
                    *listed |= mask;
                }
            }
            Mode::Sorted => {
                for row in rows {
                    check_covered(actors, spans, row)?;
                    self.sorted.push((row.actor, row.counter));
                }
            }
        }
        Ok(())
    }

    /// All rows were noted.
    pub(crate) fn finish(&mut self) -> Result<(), DecodeError> {
        if self.mode == Mode::Sorted {
            self.sorted.sort_unstable();
            if self.sorted.windows(2).any(|pair| pair.first() == pair.last()) {
                return Err(DecodeError::DuplicateDot);
            }
        }
        Ok(())
    }

    /// Gives every counter between each actor's first and last a bit, if that is not too many.
    fn lay_bits(&mut self, actors: &[FormActor], spans: &[Span], rows: usize) -> bool {
        self.bases.clear();
        let fair = BITS_PER_ITEM.saturating_mul(rows as u64 + spans.len() as u64);
        let mut total = 0_u64;
        for actor in actors {
            let own = spans.get(actor.spans.clone()).unwrap_or_default();
            let (Some(first), Some(last)) = (own.first(), own.last()) else { return false };
            self.bases.push((first.start, total));
            total = total.saturating_add(last.end - first.start + 1);
            if total > fair {
                return false;
            }
        }
        let words = place(total).0 + 1;
        for bits in [&mut self.covered, &mut self.listed] {
            bits.clear();
            bits.resize(words, 0);
        }
        for (actor, (first, base)) in actors.iter().zip(&self.bases) {
            for span in spans.get(actor.spans.clone()).unwrap_or_default() {
                set_range(&mut self.covered, base + (span.start - first), span.count());
            }
        }
        true
    }

    /// The bit of a dot; `None` outside the actor's first and last counter.
    #[inline]
    fn bit(&self, actor: u32, counter: u64) -> Option<u64> {
        let (first, base) = *self.bases.get(actor as usize)?;
        let bit = base.checked_add(counter.checked_sub(first)?)?;
        let behind = self.bases.get(actor as usize + 1).map_or(u64::MAX, |(_, base)| *base);
        (bit < behind && place(bit).0 < self.covered.len()).then_some(bit)
    }

    /// Whether one of the actor's spans holds the counter.
    #[inline]
    pub(crate) fn covers(&self, spans: &[Span], actor: u32, counter: u64) -> bool {
        if self.mode == Mode::Bits {
            return self.bit(actor, counter).is_some_and(|bit| {
                let (word, mask) = place(bit);
                self.covered[word] & mask != 0
            });
        }
        in_spans(spans, counter)
    }

    /// Whether the dot is one of the rows'.
    #[inline]
    pub(crate) fn lists(&self, actor: u32, counter: u64) -> bool {
        match self.mode {
            Mode::Scan => self.sorted.contains(&(actor, counter)),
            Mode::Bits => self.bit(actor, counter).is_some_and(|bit| {
                let (word, mask) = place(bit);
                self.listed[word] & mask != 0
            }),
            Mode::Sorted => self.sorted.binary_search(&(actor, counter)).is_ok(),
        }
    }

    /// Heap bytes held.
    pub(crate) const fn bytes(&self) -> usize {
        let words = self.covered.capacity() + self.listed.capacity();
        words * size_of::<u64>()
            + self.bases.capacity() * size_of::<(u64, u64)>()
            + self.sorted.capacity() * size_of::<(u32, u64)>()
    }
}

fn in_spans(spans: &[Span], counter: u64) -> bool {
    let behind = spans.partition_point(|span| span.start <= counter);
    behind.checked_sub(1).and_then(|at| spans.get(at)).is_some_and(|span| span.contains(counter))
}

fn check_covered(actors: &[FormActor], spans: &[Span], row: &Row) -> Result<(), DecodeError> {
    let actor = actors.get(row.actor as usize).ok_or(DecodeError::Uncovered)?;
    let own = spans.get(actor.spans.clone()).unwrap_or_default();
    if in_spans(own, row.counter) { Ok(()) } else { Err(DecodeError::Uncovered) }
}

/// Sets `count` bits from `start` on.
fn set_range(bits: &mut [u64], start: u64, count: u64) {
    let (mut at, end) = (start, start + count);
    while at < end {
        let (word, mask) = place(at);
        if at % 64 == 0 && end - at >= 64 {
            bits[word] = u64::MAX;
            at += 64;
        } else {
            bits[word] |= mask;
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_bits_are_set_exactly() {
        for (start, count) in [(0, 1), (3, 130), (64, 64), (63, 2), (100, 27)] {
            let mut bits = [0; 4];
            set_range(&mut bits, start, count);
            for bit in 0..256 {
                let (word, mask) = place(bit);
                assert_eq!(bits[word] & mask != 0, (start..start + count).contains(&bit));
            }
        }
    }
}
