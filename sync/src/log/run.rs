//! [`Run`]: consecutive verified entries of a log, with as much of the tree as it takes to prove any of them.
//!
//! Entries are kept in blocks of 64, as the bytes that came from the wire. Of the tree, the full nodes over whole
//! blocks are kept and those below are hashed again when a proof needs them: one hash for each entry would take four
//! times the memory that is kept beside the payloads now (32 bytes a block and 64 for its nodes; 1.5 bytes an entry,
//! before the slack of growing tables).
//!
//! A run may begin anywhere. The entries before it are present as the peaks of the tree at its start, so a proof of the
//! rest never needs the entries that were dropped.
//!
//! The invariant: `start ≤ end`, the peaks are those of the tree over `[0, end)`, and the blocks hold exactly
//! `[start, end)`.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::entry::{Before, Entry};
use super::extension::Within;
use super::keys::LogKeys;
use super::shape::{self, Node, Peaks, Subtree, bag};
use crate::codec::Reader;
use crate::hash::Hash;

/// The level of the nodes over whole blocks.
const LEVEL: u32 = 6;
/// Entries in a block. A larger one saves a byte an entry at most, and makes a proof hash more of them.
const BLOCK: u64 = 1 << LEVEL;

#[derive(Clone, Debug)]
struct Block {
    /// The predecessor on which the first entry's header depends.
    before: Before,
    bytes: Box<[u8]>,
}

#[derive(Clone, Debug)]
pub(crate) struct Run {
    within: Within,
    start: u64,
    /// Base, stamp and epoch of the entry before `start`; `None` where they never came along.
    before: Option<Before>,
    start_peaks: Vec<Hash>,
    /// In a box: a short run has none of it.
    long: Option<Box<Long>>,
    /// The entries after the last whole block.
    tail: Vec<u8>,
    tail_before: Before,
    /// Where in the tail the last entry begins, and the predecessor after which it is encoded; `None` where that is not
    /// known. The entry that was appended last is read more often than anything else, and needs no walk through the
    /// tail.
    last_from: Option<(usize, Before)>,
    peaks: Peaks,
    last: Before,
}

/// The parts that a run of few and small entries has not.
#[derive(Clone, Debug)]
struct Long {
    /// Whole blocks. The first may lack its front.
    blocks: VecDeque<Block>,
    /// By level from `LEVEL` up: the full nodes that end above `start`.
    levels: Vec<VecDeque<Hash>>,
    /// The leaves of entries with large payloads, by number: hashing those again would take long.
    large: VecDeque<(u64, Hash)>,
    /// The entries that close other logs, by number: a set of logs asks for them whenever it decides what counts.
    stated: Vec<u64>,
}

impl Long {
    const NONE: Self =
        Self { blocks: VecDeque::new(), levels: Vec::new(), large: VecDeque::new(), stated: Vec::new() };
}

static NONE: Long = Long::NONE;

/// Payloads above have their leaf kept: so a proof hashes at most 64 KiB again.
const LARGE_BYTES: u32 = 1 << 10;

/// Where a checked piece of the wire crosses from one block into the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crossing {
    /// Position in the bytes of the entries.
    pub(crate) at: usize,
    pub(crate) before: Before,
}

/// The results of checking a piece of the wire, so that appending it need not hash again.
#[derive(Debug)]
pub(crate) struct Grown {
    /// Where each whole block ends.
    pub(crate) crossings: Vec<Crossing>,
    /// The full nodes over blocks that were completed, in that order.
    pub(crate) nodes: Vec<(u8, Hash)>,
    /// The leaves of large entries.
    large: Vec<(u64, Hash)>,
    /// Those that close other logs.
    stated: Vec<u64>,
    pub(crate) peaks: Peaks,
    pub(crate) last: Before,
}

impl Grown {
    /// Room for exactly the nodes that `[from, to)` completes, so that memory follows the input.
    pub(crate) fn with_room(from: u64, to: u64, peaks: Peaks, last: Before) -> Self {
        let room = |level: u32| usize::try_from((to >> level).saturating_sub(from >> level)).unwrap_or(0);
        let nodes = (LEVEL..u64::BITS).map(room).sum();
        Self {
            crossings: Vec::with_capacity(room(LEVEL)),
            nodes: Vec::with_capacity(nodes),
            large: Vec::new(),
            stated: Vec::new(),
            peaks,
            last,
        }
    }

    /// Takes the next entry in, which ends at `at`. Nothing is noted for the entries below `known`.
    #[inline]
    pub(crate) fn push(&mut self, keys: &LogKeys, entry: &Entry<'_>, at: usize, known: u64) {
        self.last = Before::after(entry);
        let nodes = &mut self.nodes;
        let noted = entry.seq >= known;
        let leaf = entry.leaf(keys);
        if noted && entry.payload_len > LARGE_BYTES {
            self.large.push((entry.seq, leaf));
        }
        if noted && entry.closes() {
            self.stated.push(entry.seq);
        }
        self.peaks.push(keys, leaf, |level, hash| {
            if level >= LEVEL
                && noted
                && let Ok(level) = u8::try_from(level)
            {
                nodes.push((level, hash));
            }
        });
        if noted && self.peaks.size().is_multiple_of(BLOCK) {
            self.crossings.push(Crossing { at, before: self.last });
        }
    }
}

impl Run {
    /// An empty run at the start of a log.
    pub(crate) fn new(within: Within) -> Self {
        Self::starting_at(within, 0, Vec::new(), Some(Before::default()))
    }

    /// An empty run after `start` entries whose peaks these are.
    pub(crate) fn starting_at(within: Within, start: u64, peaks: Vec<Hash>, before: Option<Before>) -> Self {
        let last = before.unwrap_or_default();
        Self {
            within,
            start,
            before,
            start_peaks: peaks.clone(),
            long: None,
            tail: Vec::new(),
            tail_before: last,
            last_from: None,
            peaks: Peaks::new(start, peaks),
            last,
        }
    }

    fn long(&self) -> &Long {
        self.long.as_deref().unwrap_or(&NONE)
    }

    fn long_mut(&mut self) -> &mut Long {
        self.long.get_or_insert_with(|| Box::new(Long::NONE))
    }

    pub(crate) const fn start(&self) -> u64 {
        self.start
    }

    pub(crate) const fn end(&self) -> u64 {
        self.peaks.size()
    }

    /// Base, stamp and epoch of the entry before the start, where they came along, and the peaks of the entries before.
    pub(crate) const fn front(&self) -> (Option<Before>, &Vec<Hash>) {
        (self.before, &self.start_peaks)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.start == self.end()
    }

    pub(crate) const fn peaks(&self) -> &Peaks {
        &self.peaks
    }

    /// Base, stamp and epoch as of the last entry.
    pub(crate) const fn last(&self) -> Before {
        self.last
    }

    /// The bytes of the entries that are held.
    pub(crate) fn entry_bytes(&self) -> usize {
        self.long().blocks.iter().map(|block| block.bytes.len()).sum::<usize>() + self.tail.len()
    }

    /// The bytes that are held: entries, hashes, and the tables that find them.
    pub(crate) fn memory(&self) -> usize {
        let long = self.long();
        let blocks = long.blocks.iter().map(|block| block.bytes.len()).sum::<usize>();
        let hashes = long.levels.iter().map(VecDeque::capacity).sum::<usize>()
            + self.start_peaks.capacity()
            + self.peaks.hashes().len();
        blocks
            + self.tail.capacity()
            + long.blocks.capacity() * size_of::<Block>()
            + hashes * Hash::LEN
            + long.large.capacity() * size_of::<(u64, Hash)>()
            + long.levels.capacity() * size_of::<VecDeque<Hash>>()
    }

    /// Appends one entry, whose `seq` is [`end`](Self::end).
    pub(crate) fn push(&mut self, keys: &LogKeys, entry: &Entry<'_>) {
        let leaf = entry.leaf(keys);
        if entry.payload_len > LARGE_BYTES {
            self.long_mut().large.push_back((entry.seq, leaf));
        }
        if entry.closes() {
            self.long_mut().stated.push(entry.seq);
        }
        self.write(entry);
        let long = &mut self.long;
        self.peaks.push(keys, leaf, |level, hash| keep(long, level, hash));
        self.seal();
    }

    fn write(&mut self, entry: &Entry<'_>) {
        if self.tail.is_empty() {
            self.tail_before = self.last;
        }
        self.last_from = Some((self.tail.len(), self.last));
        self.last.write(entry, &mut self.tail);
    }

    /// Closes the tail if it is a whole block.
    fn seal(&mut self) {
        if self.end().is_multiple_of(BLOCK) && !self.tail.is_empty() {
            let bytes = core::mem::take(&mut self.tail).into_boxed_slice();
            let before = self.tail_before;
            self.long_mut().blocks.push_back(Block { before, bytes });
            self.last_from = None;
        }
    }

    /// Appends entries that were checked: `bytes` are the entries from [`end`](Self::end) on, `offset` is the position
    /// in the piece at which they begin, and `before` the predecessor after which the first of them is encoded there.
    pub(crate) fn grow(&mut self, bytes: &[u8], offset: usize, before: Before, grown: Grown) {
        let end = grown.peaks.size();
        let from = self.end();
        // Up to the next block boundary, entry by entry: the first header may depend on something else here.
        let boundary = end.min((from / BLOCK + 1) * BLOCK);
        let mut reader = Reader::new(bytes);
        let mut behind = before;
        let front = grown.crossings.first().map_or(bytes.len(), |crossing| crossing.at - offset);
        if self.tail.capacity() - self.tail.len() < front {
            // A quarter at least, so that many small pieces do not each move what is here.
            self.tail.reserve_exact(front.max(self.tail.len() / 4));
        }
        for seq in from..boundary {
            let Ok(entry) = behind.read(seq, self.within, &mut reader) else { break };
            self.write(&entry);
        }
        self.peaks = grown.peaks;
        if boundary.is_multiple_of(BLOCK) && !self.tail.is_empty() {
            let bytes = core::mem::take(&mut self.tail).into_boxed_slice();
            let before = self.tail_before;
            self.long_mut().blocks.push_back(Block { before, bytes });
            self.last_from = None;
        }
        if let [first, crossings @ ..] = &grown.crossings[..] {
            let mut last = *first;
            for &crossing in crossings {
                let block = &bytes[last.at - offset..crossing.at - offset];
                self.long_mut().blocks.push_back(Block { before: last.before, bytes: block.into() });
                last = crossing;
            }
            self.tail_before = last.before;
            self.tail = bytes[last.at - offset..].to_vec();
            self.last_from = None;
        }
        for (level, hash) in grown.nodes {
            keep(&mut self.long, level.into(), hash);
        }
        if !grown.large.is_empty() || !grown.stated.is_empty() {
            let long = self.long_mut();
            long.large.extend(grown.large);
            long.stated.extend(grown.stated);
        }
        self.last = grown.last;
    }

    /// The entries of `[from, to)` that close other logs, by number.
    pub(crate) fn stated(&self, from: u64, to: u64) -> &[u64] {
        let all = &self.long().stated;
        let at = |seq| all.partition_point(|stated| *stated < seq);
        &all[at(from)..at(to.max(from))]
    }

    /// The entry with this number.
    pub(crate) fn entry(&self, seq: u64) -> Option<Entry<'_>> {
        self.entries(seq, seq.checked_add(1)?).next()
    }

    /// The hash of an entry of this run.
    pub(crate) fn leaf(&self, keys: &LogKeys, entry: &Entry<'_>) -> Hash {
        if entry.payload_len > LARGE_BYTES
            && let Ok(at) = self.long().large.binary_search_by_key(&entry.seq, |(seq, _)| *seq)
        {
            return self.long().large[at].1;
        }
        entry.leaf(keys)
    }

    /// The entries of `[from, to)` that are here, in order.
    pub(crate) fn entries(&self, from: u64, to: u64) -> Entries<'_> {
        let (from, to) = (from.max(self.start), to.min(self.end()));
        let mut entries = Entries {
            run: self,
            seq: from,
            end: to,
            before: Before::default(),
            reader: Reader::new(&[]),
            base: &[],
        };
        if from < to {
            let mut reader = Reader::new(&self.tail);
            if let Some((at, before)) = self.last_from.filter(|_| from + 1 == self.end())
                && reader.take(at).is_ok()
            {
                (entries.base, entries.before, entries.reader) = (&self.tail, before, reader);
                return entries;
            }
            let first = (from / BLOCK * BLOCK).max(self.start);
            entries.enter(first);
            entries.seq = first;
            while entries.seq < from {
                entries.next();
            }
        }
        entries
    }

    /// Base, stamp and epoch of the entry before `seq`, if they are known.
    pub(crate) fn before(&self, seq: u64) -> Option<Before> {
        if seq == self.end() && (self.before.is_some() || !self.is_empty()) {
            return Some(self.last);
        }
        if seq <= self.start {
            return self.before.filter(|_| seq == self.start);
        }
        self.entry(seq - 1).map(|entry| Before::after(&entry))
    }

    /// Which of the blocks an entry is in; beyond the last, it is in the tail.
    fn number(&self, seq: u64) -> usize {
        usize::try_from(seq / BLOCK - self.start / BLOCK).unwrap_or(usize::MAX)
    }

    fn block(&self, seq: u64) -> (Before, &[u8]) {
        match self.long().blocks.get(self.number(seq)) {
            Some(block) => (block.before, &block.bytes),
            None => (self.tail_before, &self.tail),
        }
    }

    /// Drops the entries below `seq`, which is at most [`end`](Self::end). The rest proves as before. Gives how many bytes
    /// the dropped entries took.
    pub(crate) fn drop_below(&mut self, keys: &LogKeys, seq: u64) -> usize {
        if seq <= self.start || seq > self.end() {
            return 0;
        }
        let Some(peaks) = self.proofs(keys, &[]).peaks(seq) else { return 0 };
        let before = self.before(seq);
        // The bytes that the first block loses at its front. Its rest stays encoded after the entry that goes, as it
        // was.
        let skip = if seq == self.end() {
            0
        } else {
            let entries = self.entries(seq, self.end());
            entries.position()
        };
        let number = self.number(seq);
        let mut dropped = skip;
        if let Some(long) = &mut self.long {
            let whole = long.blocks.drain(..number.min(long.blocks.len()));
            dropped += whole.map(|block| block.bytes.len()).sum::<usize>();
        }
        if seq == self.end() {
            dropped += self.entry_bytes();
            if let Some(long) = &mut self.long {
                long.blocks.clear();
            }
            self.tail.clear();
            self.last_from = None;
            self.tail_before = self.last;
        } else if skip > 0 {
            let behind = before.unwrap_or_default();
            match self.long.as_mut().and_then(|long| long.blocks.front_mut()) {
                Some(first) => *first = Block { before: behind, bytes: first.bytes[skip..].into() },
                None => {
                    self.tail.drain(..skip);
                    self.last_from =
                        self.last_from.and_then(|(at, last)| Some((at.checked_sub(skip)?, last)));
                    self.tail.shrink_to_fit();
                    self.tail_before = behind;
                }
            }
        }
        let start = core::mem::replace(&mut self.start, seq);
        if let Some(long) = &mut self.long {
            for (level, nodes) in (LEVEL..).zip(&mut long.levels) {
                let gone = usize::try_from((seq >> level) - (start >> level)).unwrap_or(usize::MAX);
                nodes.drain(..gone.min(nodes.len()));
                nodes.shrink_to(nodes.len() * 2);
            }
            long.blocks.shrink_to(long.blocks.len() * 2);
            long.large.drain(..long.large.partition_point(|(large, _)| *large < seq));
            long.stated.drain(..long.stated.partition_point(|stated| *stated < seq));
        }
        self.tidy();
        self.start_peaks = peaks;
        self.before = before;
        dropped
    }

    /// Gives up the parts of a long run that have nothing in them any more.
    fn tidy(&mut self) {
        self.long.take_if(|long| {
            let nodes = long.levels.iter().map(VecDeque::len).sum::<usize>();
            long.blocks.len() + long.large.len() + long.stated.len() + nodes == 0
        });
    }

    /// Drops the entries from `size` on, which is not below [`start`](Self::start).
    pub(crate) fn truncate(&mut self, keys: &LogKeys, size: u64) {
        if size < self.start || size >= self.end() {
            return;
        }
        let Some(peaks) = self.proofs(keys, &[]).peaks(size) else { return };
        let last = self.before(size).unwrap_or_default();
        let (behind, bytes) = self.block(size);
        let cut = self.entries(size, self.end()).position();
        let tail = bytes[..cut].to_vec();
        let blocks = self.number(size);
        self.tail_before = if tail.is_empty() { last } else { behind };
        self.tail = tail;
        self.last_from = None;
        if let Some(long) = &mut self.long {
            long.blocks.truncate(blocks);
            for (level, nodes) in (LEVEL..).zip(&mut long.levels) {
                let kept = (size >> level).saturating_sub(self.start >> level);
                nodes.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
            }
            long.large.truncate(long.large.partition_point(|(large, _)| *large < size));
            long.stated.truncate(long.stated.partition_point(|stated| *stated < size));
        }
        self.tidy();
        self.peaks = Peaks::new(size, peaks);
        self.last = last;
    }

    /// Keeps the payload's hash in place of the salt and payload of `seq`, or, given those, the other way round. Nothing
    /// that is hashed differs.
    pub(crate) fn rewrite(&mut self, keys: &LogKeys, seq: u64, salted: Option<&[u8]>) {
        let Some(entry) = self.entry(seq) else { return };
        let entry = salted.map_or_else(|| entry.erased(keys), |salted| entry.restored(salted));
        let mut bytes = Vec::new();
        // Where nothing is known of the entry before, it is encoded after nothing.
        self.before(seq).unwrap_or_default().write(&entry, &mut bytes);
        let mut entries = self.entries(seq, self.end());
        let from = entries.position();
        entries.next();
        let to = entries.reader.position();
        let number = self.number(seq);
        match self.long.as_mut().and_then(|long| long.blocks.get_mut(number)) {
            Some(block) => block.bytes = [&block.bytes[..from], &bytes, &block.bytes[to..]].concat().into(),
            None => {
                self.tail.splice(from..to, bytes);
                self.last_from = None;
            }
        }
    }

    /// Hashes of this run's tree, with those of a tree that it is the front of.
    pub(crate) const fn proofs<'a>(&'a self, keys: &'a LogKeys, beyond: &'a [(Subtree, Hash)]) -> Proofs<'a> {
        Proofs { run: self, keys, beyond, block: None }
    }
}

fn keep(long: &mut Option<Box<Long>>, level: u32, hash: Hash) {
    let Some(at) = level.checked_sub(LEVEL) else { return };
    let at = at as usize;
    let levels = &mut long.get_or_insert_with(|| Box::new(Long::NONE)).levels;
    while levels.len() <= at {
        levels.push(VecDeque::new());
    }
    levels[at].push_back(hash);
}

/// Entries in order.
#[derive(Clone, Debug)]
pub(crate) struct Entries<'a> {
    run: &'a Run,
    seq: u64,
    end: u64,
    before: Before,
    reader: Reader<'a>,
    base: &'a [u8],
}

impl<'a> Entries<'a> {
    fn enter(&mut self, seq: u64) {
        let (before, bytes) = self.run.block(seq);
        self.before = before;
        self.base = bytes;
        self.reader = Reader::new(bytes);
    }

    /// Where the next entry begins in the bytes of its block.
    pub(crate) fn position(&self) -> usize {
        if self.seq.is_multiple_of(BLOCK) && self.seq > self.run.start { 0 } else { self.reader.position() }
    }

    /// The bytes of as many whole entries, at least one, as fit `room` bytes, from this position to the end of its
    /// block; with their number. Moves past them.
    pub(crate) fn take_bytes(&mut self, room: usize) -> (&'a [u8], u64) {
        if self.seq < self.end && self.seq.is_multiple_of(BLOCK) {
            self.enter(self.seq);
        }
        let from = self.reader.position();
        let first = self.seq;
        let mut to = from;
        let stop = self.end.min((self.seq / BLOCK + 1) * BLOCK);
        while self.seq < stop {
            let mark = self.clone();
            if self.next().is_none() {
                break;
            }
            if self.reader.position() - from > room {
                *self = mark;
                break;
            }
            to = self.reader.position();
        }
        (&self.base[from..to], self.seq - first)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        if self.seq >= self.end {
            return None;
        }
        if self.seq.is_multiple_of(BLOCK) && self.seq > self.run.start {
            self.enter(self.seq);
        }
        // The kept bytes were checked when they came.
        let entry = self.before.read(self.seq, self.run.within, &mut self.reader).ok()?;
        self.seq += 1;
        Some(entry)
    }
}

/// Hashes of a run's tree. Keeps the leaves of the block that was asked for last.
#[derive(Debug)]
pub(crate) struct Proofs<'a> {
    run: &'a Run,
    keys: &'a LogKeys,
    /// The cover of the entries after the run, in the tree of a larger size.
    beyond: &'a [(Subtree, Hash)],
    block: Option<(u64, Vec<Hash>)>,
}

impl Proofs<'_> {
    /// The hash of a full subtree within the run or below its start; `None` where it is not to be had.
    fn node(&mut self, node: Node) -> Option<Hash> {
        if node.end() <= self.run.start {
            let at = shape::peaks(self.run.start).position(|peak| peak == node)?;
            return self.run.start_peaks.get(at).copied();
        }
        if node.end() > self.run.end() {
            return None;
        }
        if let Some(level) = node.level.checked_sub(LEVEL) {
            let at = usize::try_from(node.index - (self.run.start >> node.level)).ok()?;
            return self.run.long().levels.get(level as usize)?.get(at).copied();
        }
        if node.level == 0 {
            return self.leaf(node.index);
        }
        let (left, right) = node.children();
        let left = self.node(left)?;
        let right = self.node(right)?;
        Some(self.keys.node(&left, &right))
    }

    /// The hash of one entry.
    fn leaf(&mut self, seq: u64) -> Option<Hash> {
        let number = seq / BLOCK;
        let first = (number * BLOCK).max(self.run.start);
        if self.block.as_ref().is_none_or(|(block, _)| *block != number) {
            let entries = self.run.entries(first, (number + 1) * BLOCK);
            self.block = Some((number, entries.map(|entry| self.run.leaf(self.keys, &entry)).collect()));
        }
        let (_, leaves) = self.block.as_ref()?;
        leaves.get(usize::try_from(seq.checked_sub(first)?).ok()?).copied()
    }

    /// The hash of any subtree of a tree that the run and the cover beyond it make up.
    pub(crate) fn subtree(&mut self, subtree: Subtree) -> Option<Hash> {
        if subtree.start >= self.run.end() {
            let at = self.beyond.iter().find(|(there, _)| *there == subtree);
            return at.map(|(_, hash)| *hash);
        }
        if subtree.end <= self.run.end()
            && let Some(node) = subtree.full()
        {
            return self.node(node);
        }
        let (left, right) = subtree.halves();
        let left = self.subtree(left)?;
        let right = self.subtree(right)?;
        Some(self.keys.node(&left, &right))
    }

    /// The peaks of the tree over `[0, size)`; `None` below the start or beyond the end.
    pub(crate) fn peaks(&mut self, size: u64) -> Option<Vec<Hash>> {
        if size == self.run.end() {
            return Some(self.run.peaks.hashes().to_vec());
        }
        if size < self.run.start || size > self.run.end() {
            return None;
        }
        shape::peaks(size).map(|peak| self.node(peak)).collect()
    }

    /// As [`peaks`](Self::peaks), and for sizes below the start that are the sum of the first of the peaks there.
    pub(crate) fn peaks_known(&mut self, size: u64) -> Option<Vec<Hash>> {
        if size < self.run.start {
            return shape::peaks(size).map(|peak| self.node(peak)).collect();
        }
        self.peaks(size)
    }

    /// The root over `[0, size)`; `None` as for [`peaks`](Self::peaks), and for 0.
    pub(crate) fn root(&mut self, size: u64) -> Option<Hash> {
        bag(self.keys, &self.peaks(size)?)
    }

    /// The hashes that cover `[from, size)` in a tree of `size` leaves.
    pub(crate) fn right_cover(&mut self, from: u64, size: u64) -> Option<Vec<(Subtree, Hash)>> {
        let cover = shape::right_cover(from, size);
        cover.into_iter().map(|subtree| Some((subtree, self.subtree(subtree)?))).collect()
    }
}
