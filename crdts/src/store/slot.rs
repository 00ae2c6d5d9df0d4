//! Slots: one live dot each, a cache line each, in chunks that never move.
//!
//! A key and its value share 37 inline bytes, or one box. The invariant: a slot id stays valid, and its key
//! readable, from [`Arena::alloc`] to [`Arena::free`].

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::bytes::Window;

/// No slot: the end of a chain.
pub(crate) const NONE: u32 = u32::MAX;
/// The actor of a slot that holds no live dot.
pub(crate) const DEAD: u32 = u32::MAX;

const INLINE: usize = 37;
const CHUNK_BITS: u32 = 7;
const CHUNK: usize = 1 << CHUNK_BITS;

/// The bytes of a slot, beside its dot.
#[derive(Clone, Debug)]
enum Body {
    /// A head's key and value, one after the other.
    Inline { key_len: u8, value_len: u8, bytes: [u8; INLINE] },
    /// The same where they are longer.
    Boxed { key_len: u16, bytes: Box<[u8]> },
    /// The value of a dot after its key's head, and the slot before it in the chain. The key is not repeated: many
    /// concurrent writes of one long key would unfold into many copies of it.
    Behind { head: u32, before: u32, value: Box<[u8]> },
}

impl Body {
    const EMPTY: Self = Self::Inline { key_len: 0, value_len: 0, bytes: [0; INLINE] };

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "keys and values were checked against their limits")]
    fn new(key: Window<'_>, value: Window<'_>) -> Self {
        if key.len() + value.len() <= INLINE {
            let mut bytes = [0; INLINE];
            key.copy_to(&mut bytes, 0);
            value.copy_to(&mut bytes, key.len());
            Self::Inline { key_len: key.len() as u8, value_len: value.len() as u8, bytes }
        } else {
            Self::Boxed { key_len: key.len() as u16, bytes: [key.bytes(), value.bytes()].concat().into() }
        }
    }

    #[inline]
    fn key(&self) -> &[u8] {
        match self {
            Self::Inline { key_len, bytes, .. } => &bytes[..usize::from(*key_len)],
            Self::Boxed { key_len, bytes } => &bytes[..usize::from(*key_len)],
            Self::Behind { .. } => &[],
        }
    }

    #[inline]
    fn value(&self) -> &[u8] {
        match self {
            Self::Inline { key_len, value_len, bytes } => {
                &bytes[usize::from(*key_len)..usize::from(*key_len) + usize::from(*value_len)]
            }
            Self::Boxed { key_len, bytes } => &bytes[usize::from(*key_len)..],
            Self::Behind { value, .. } => value,
        }
    }

    /// Gives the same key another value.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "at most 37 is stored")]
    fn set_value(&mut self, value: Window<'_>) {
        match self {
            Self::Inline { key_len, value_len, bytes } if usize::from(*key_len) + value.len() <= INLINE => {
                value.copy_to(bytes, usize::from(*key_len));
                *value_len = value.len() as u8;
            }
            _ => *self = Self::new(self.key().into(), value),
        }
    }

    fn boxed_bytes(&self) -> usize {
        match self {
            Self::Inline { .. } => 0,
            Self::Boxed { bytes, .. } | Self::Behind { value: bytes, .. } => bytes.len(),
        }
    }
}

/// One dot and the bytes that it wrote.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(crate) struct Slot {
    /// The bits of the write's hybrid logical clock.
    pub(crate) stamp: u64,
    pub(crate) counter: u64,
    /// The writer's interned index, or [`DEAD`].
    pub(crate) actor: u32,
    /// The next dot of the same key, or [`NONE`]. The first of a chain is the winner.
    pub(crate) next: u32,
    body: Body,
}

const _: () = assert!(size_of::<Slot>() == 64, "a slot is a cache line");

impl Slot {
    /// The key of a head; empty in the slots after it.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        self.body.key()
    }

    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        self.body.value()
    }

    #[inline]
    pub(crate) const fn dot(&self) -> (u32, u64) {
        (self.actor, self.counter)
    }

    #[inline]
    pub(crate) const fn is_live(&self) -> bool {
        self.actor != DEAD
    }

    /// The head of the chain, if that is another slot.
    pub(crate) const fn head(&self) -> Option<u32> {
        match self.body {
            Body::Behind { head, .. } => Some(head),
            _ => None,
        }
    }
}

#[inline]
fn slot_id(chunk: usize, place: usize) -> u32 {
    match u32::try_from((chunk << CHUNK_BITS) + place) {
        Ok(id) if id < NONE - 1 => id,
        // 256 GiB of slots: the machine ran out of memory long before.
        _ => unreachable!("an arena holds less than 2^32 slots"),
    }
}

/// All slots, by id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arena {
    // The first chunk grows like a vector, so that a small collection stays small; the others are allocated whole.
    chunks: Vec<Vec<Slot>>,
    free: Vec<u32>,
    boxed_bytes: usize,
    /// Those of them that are keys of buried heads.
    dead_bytes: usize,
}

impl Arena {
    /// An arena with room for so many slots.
    pub(crate) fn with_room(slots: usize) -> Self {
        let mut arena = Self::default();
        if slots > 0 {
            arena.chunks = Vec::with_capacity(slots.div_ceil(CHUNK));
            arena.chunks.push(Vec::with_capacity(slots.min(CHUNK)));
        }
        arena
    }

    /// For how many slots there is room.
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        match &self.chunks[..] {
            [] => 0,
            [first] => first.capacity(),
            chunks => chunks.len() * CHUNK,
        }
    }

    /// No slot's id is above this.
    pub(crate) fn last(&self) -> u32 {
        u32::try_from(self.capacity()).unwrap_or(NONE)
    }

    /// Whether at most so many slots were ever in use at once.
    #[inline]
    pub(crate) fn has_few(&self, most: usize) -> bool {
        match &self.chunks[..] {
            [] => true,
            [first] => first.len() <= most,
            _ => false,
        }
    }

    /// The bytes of keys and values that have a box.
    pub(crate) const fn boxed_bytes(&self) -> usize {
        self.boxed_bytes
    }

    /// Those of them that are keys of buried heads.
    pub(crate) const fn dead_bytes(&self) -> usize {
        self.dead_bytes
    }

    /// Moves a key's chain over from another arena, with other indices of actors, and returns the head's id here.
    pub(crate) fn take_chain(
        &mut self,
        from: &mut Self,
        head: u32,
        rename: &mut impl FnMut(u32) -> u32,
    ) -> u32 {
        let (mut id, mut first, mut last) = (head, NONE, NONE);
        while id != NONE {
            let slot = from.slot_mut(id);
            let body = match core::mem::replace(&mut slot.body, Body::EMPTY) {
                Body::Behind { value, .. } => Body::Behind { head: first, before: last, value },
                body => body,
            };
            id = slot.next;
            let at = self.place((rename(slot.actor), slot.counter), slot.stamp, body);
            if last == NONE {
                first = at;
            } else {
                self.slot_mut(last).next = at;
            }
            last = at;
        }
        first
    }

    #[inline]
    pub(crate) fn slot(&self, id: u32) -> &Slot {
        &self.chunks[(id >> CHUNK_BITS) as usize][id as usize % CHUNK]
    }

    #[inline]
    pub(crate) fn slot_mut(&mut self, id: u32) -> &mut Slot {
        &mut self.chunks[(id >> CHUNK_BITS) as usize][id as usize % CHUNK]
    }

    /// A new head.
    #[inline(always)]
    pub(crate) fn alloc(&mut self, dot: (u32, u64), stamp: u64, key: Window<'_>, value: Window<'_>) -> u32 {
        self.place(dot, stamp, Body::new(key, value))
    }

    /// A new slot in a chain, right after the head.
    pub(crate) fn alloc_behind(&mut self, head: u32, dot: (u32, u64), stamp: u64, value: &[u8]) -> u32 {
        let id = self.place(dot, stamp, Body::Behind { head, before: head, value: value.into() });
        let next = core::mem::replace(&mut self.slot_mut(head).next, id);
        self.link(id, next);
        id
    }

    /// Lets `next` follow `id`.
    fn link(&mut self, id: u32, next: u32) {
        self.slot_mut(id).next = next;
        if next != NONE
            && let Body::Behind { before, .. } = &mut self.slot_mut(next).body
        {
            *before = id;
        }
    }

    /// Takes a slot after a head out of its chain and gives it back.
    pub(crate) fn unlink(&mut self, id: u32) {
        let slot = self.slot(id);
        let next = slot.next;
        if let Body::Behind { before, .. } = slot.body {
            self.link(before, next);
            self.free(id);
        }
    }

    /// Ends a head: its key can still be read, for the order, but its value is gone.
    pub(crate) fn bury(&mut self, id: u32) {
        let slot = self.slot_mut(id);
        slot.actor = DEAD;
        let before = slot.body.boxed_bytes();
        slot.body.set_value((&[][..]).into());
        let after = slot.body.boxed_bytes();
        self.boxed_bytes = self.boxed_bytes + after - before;
        self.dead_bytes += after;
    }

    #[inline(always)]
    fn place(&mut self, (actor, counter): (u32, u64), stamp: u64, body: Body) -> u32 {
        self.boxed_bytes += body.boxed_bytes();
        let slot = Slot { stamp, counter, actor, next: NONE, body };
        if let Some(id) = self.free.pop() {
            *self.slot_mut(id) = slot;
            return id;
        }
        let last = self.chunks.len().wrapping_sub(1);
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => {
                if chunk.len() == chunk.capacity() {
                    // By half at a time: of a doubled chunk half would be for nothing.
                    chunk.reserve_exact((chunk.len() / 2 + 1).min(CHUNK - chunk.len()));
                }
                let id = slot_id(last, chunk.len());
                chunk.push(slot);
                id
            }
            _ => self.push_chunk(slot),
        }
    }

    #[cold]
    fn push_chunk(&mut self, slot: Slot) -> u32 {
        let mut chunk = Vec::with_capacity(if self.chunks.is_empty() { 1 } else { CHUNK });
        chunk.push(slot);
        if self.chunks.is_empty() {
            self.chunks.reserve_exact(1);
        }
        self.chunks.push(chunk);
        slot_id(self.chunks.len() - 1, 0)
    }

    /// Replaces a slot's dot and value; the key stays.
    #[inline]
    pub(crate) fn overwrite(&mut self, id: u32, dot: (u32, u64), stamp: u64, value: Window<'_>) {
        let slot = self.slot_mut(id);
        let before = slot.body.boxed_bytes();
        (slot.actor, slot.counter) = dot;
        slot.stamp = stamp;
        slot.body.set_value(value);
        let after = slot.body.boxed_bytes();
        self.boxed_bytes = self.boxed_bytes + after - before;
    }

    /// Gives a slot back. Its body goes at once.
    pub(crate) fn free(&mut self, id: u32) {
        let slot = self.slot_mut(id);
        let was_buried = !slot.is_live();
        slot.actor = DEAD;
        let body = core::mem::replace(&mut slot.body, Body::EMPTY);
        self.boxed_bytes -= body.boxed_bytes();
        if was_buried {
            self.dead_bytes -= body.boxed_bytes();
        }
        self.free.push(id);
    }

    /// Exchanges the dots and values of a head and a slot after it; key and places in the chain stay.
    pub(crate) fn exchange(&mut self, head: u32, behind: u32) {
        let slot = self.slot_mut(behind);
        let body = core::mem::replace(&mut slot.body, Body::EMPTY);
        let Body::Behind { before: place, .. } = body else { unreachable!("only heads are not behind one") };
        let (actor, counter, stamp) = (slot.actor, slot.counter, slot.stamp);
        let first = self.slot_mut(head);
        let value: Box<[u8]> = first.value().into();
        let before = first.body.boxed_bytes() + body.boxed_bytes();
        first.body.set_value(body.value().into());
        let after = first.body.boxed_bytes() + value.len();
        let old = (first.actor, first.counter, first.stamp);
        (first.actor, first.counter, first.stamp) = (actor, counter, stamp);
        let slot = self.slot_mut(behind);
        (slot.actor, slot.counter, slot.stamp) = old;
        slot.body = Body::Behind { head, before: place, value };
        self.boxed_bytes = self.boxed_bytes + after - before;
    }

    /// Every live slot's id.
    pub(crate) fn live(&self) -> impl Iterator<Item = (u32, &Slot)> {
        (0_u32..).zip(self.chunks.iter().flatten()).filter(|(_, slot)| slot.is_live())
    }

    /// Heap bytes held.
    pub(crate) fn bytes(&self) -> usize {
        let slots: usize = self.chunks.iter().map(Vec::capacity).sum();
        slots * size_of::<Slot>()
            + self.chunks.capacity() * size_of::<Vec<Slot>>()
            + self.free.capacity() * size_of::<u32>()
            + self.boxed_bytes
    }
}
