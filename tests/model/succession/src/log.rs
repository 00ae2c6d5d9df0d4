//! Logs, entries, and copies of logs.
//!
//! The invariant: a copy's entries follow one another without a gap, and its peaks are those at its start.

use std::collections::BTreeMap as Map;
use std::rc::Rc;

/// How far beyond its entry's stamp a contribution may reach.
pub const CAP: u32 = 90;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Log {
    pub agent: u8,
    pub events: bool,
    pub inc: u16,
}

impl Log {
    pub const fn state(agent: u8, inc: u16) -> Self {
        Self { agent, events: false, inc }
    }

    pub const fn events(agent: u8, inc: u16) -> Self {
        Self { agent, events: true, inc }
    }
}

/// The write at a place of an entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Dot {
    pub log: Log,
    pub seq: u16,
    pub place: u8,
}

/// A dot, and the tag of the entry that minted it.
pub type Name = (Dot, u16);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Item {
    pub key: u8,
    pub value: u32,
    pub stamp: u32,
    pub tag: u16,
}

#[derive(Clone, Debug)]
pub enum Op {
    Set(u8, u32, Vec<Name>),
    Remove(u8, Vec<Name>),
    /// Lists a dot again.
    Relist(Dot, Item),
    /// Repeats removals.
    End(Vec<Name>),
    /// States a contribution: key, whether it weakens, the instant at which it has decayed.
    Couple(u8, bool, u32),
}

#[derive(Debug)]
pub struct Entry {
    pub log: Log,
    pub seq: u16,
    pub base: u16,
    pub stamp: u32,
    pub ops: Vec<Op>,
    /// In the header: this log answers for the first n entries of that lower incarnation.
    pub closures: Vec<(u16, u16)>,
    /// In the header: nothing below this incarnation is looked at any more; 0 for none.
    pub last: u16,
    /// The sizes of other logs on which a removal rests that this entry does not repeat. Nothing reads them but the
    /// check of transients: the rule has no such citations.
    pub cites: Vec<(Log, u16)>,
    pub link: u64,
    pub tag: u16,
    /// The entry before, whoever holds it; for checks alone.
    pub before: Option<Rc<Self>>,
}

impl Entry {
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.ops.iter().flat_map(|op| match op {
            Op::Set(_, _, names) | Op::Remove(_, names) | Op::End(names) => &names[..],
            _ => &[],
        })
    }

    pub fn couples(&self) -> impl Iterator<Item = ((u8, bool), u32)> + '_ {
        self.ops.iter().filter_map(|op| match op {
            Op::Couple(key, weakens, until) if *until <= self.stamp + CAP => Some(((*key, *weakens), *until)),
            _ => None,
        })
    }
}

/// What one log lists: each dot with its item and the entry that listed it last.
pub fn listing(entries: &[Rc<Entry>]) -> Map<Dot, (Item, u16)> {
    let mut out: Map<Dot, (Item, u16)> = Map::new();
    for entry in entries {
        for (place, op) in (0..).zip(&entry.ops) {
            if let Op::Set(key, ..) | Op::Remove(key, ..) = op {
                out.retain(|_, (item, _)| item.key != *key);
            }
            match op {
                Op::Set(key, value, _) => {
                    let dot = Dot { log: entry.log, seq: entry.seq, place };
                    let item = Item { key: *key, value: *value, stamp: entry.stamp, tag: entry.tag };
                    out.insert(dot, (item, entry.seq));
                }
                Op::Relist(dot, item) => {
                    let own = dot.log == entry.log && dot.seq < entry.seq;
                    let lower = dot.log.agent == entry.log.agent && dot.log.inc < entry.log.inc;
                    if (own || lower && !dot.log.events) && item.stamp <= entry.stamp {
                        out.insert(*dot, (*item, entry.seq));
                    }
                }
                _ => {}
            }
        }
    }
    out
}

/// The sizes at which the peaks of `size` entries give a root: the sums of its first peaks.
fn sums(size: u16) -> impl Iterator<Item = u16> {
    (0..16).rev().filter(move |bit| size & (1 << bit) != 0).map(move |bit| size >> bit << bit)
}

/// At which sizes a copy knows its roots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    /// From its start on.
    Overlap,
    /// And where the peaks at its start give one (clause 4).
    Peaks,
    /// And at each size that a retained entry's base passes, as if that entry stated these roots. Not in the rule: to
    /// measure how many more forks show for so many bytes.
    Passed,
}

#[derive(Clone, Debug, Default)]
pub struct Copy {
    pub start: u16,
    /// The roots that the peaks at the start give, the last one at the start itself.
    peaks: Vec<(u16, u64)>,
    pub entries: Vec<Rc<Entry>>,
}

impl Copy {
    /// Entries of a whole history, as a range that brings the peaks at its start.
    pub fn part(history: &[Rc<Entry>], from: usize, to: usize) -> Self {
        let mut copy = Self { start: 0, peaks: vec![], entries: history[..to].to_vec() };
        copy.drop_to(u16::try_from(from).expect("small"));
        copy
    }

    /// The first entries of this copy.
    pub fn first(&self, n: usize) -> Self {
        Self { start: self.start, peaks: self.peaks.clone(), entries: self.entries[..n].to_vec() }
    }

    /// This copy from an entry on.
    pub fn from(&self, start: u16) -> Self {
        let mut copy = self.clone();
        copy.drop_to(start);
        copy
    }

    pub fn size(&self) -> u16 {
        self.start + self.entries.len() as u16
    }

    pub fn base(&self) -> u16 {
        self.entries.last().map_or(self.start, |entry| entry.base)
    }

    /// The base that the entry before `size` states; none if it is not here.
    pub fn base_at(&self, size: u16) -> Option<u16> {
        if size <= self.start {
            None
        } else {
            self.entries.get((size - self.start - 1) as usize).map(|e| e.base)
        }
    }

    pub fn prefix(&self) -> u64 {
        self.peaks.last().map_or(0, |(_, link)| *link)
    }

    pub fn link(&self, size: u16) -> u64 {
        if size == self.start { self.prefix() } else { self.entries[(size - self.start - 1) as usize].link }
    }

    /// The root at a size, if this copy knows it.
    pub fn known(&self, size: u16, sight: Sight) -> Option<u64> {
        if size >= self.start {
            return (size <= self.size()).then(|| self.link(size));
        }
        if sight == Sight::Overlap {
            return None;
        }
        if sight == Sight::Passed {
            let passes = |entry: &Rc<Entry>| {
                entry.before.as_ref().is_some_and(|before| before.base <= size && size <= entry.base)
            };
            if self.entries.iter().any(passes) {
                return Some(self.truth(size));
            }
        }
        if size == 0 { Some(0) } else { self.peaks.iter().find(|(at, _)| *at == size).map(|(_, link)| *link) }
    }

    /// The greatest size at which both know a root, if these roots differ: then the log is forked.
    pub fn contradicts(&self, other: &Self, sight: Sight) -> Option<u16> {
        for size in (0..=self.size().min(other.size())).rev() {
            if let (Some(a), Some(b)) = (self.known(size, sight), other.known(size, sight)) {
                return (a != b).then_some(size);
            }
        }
        None
    }

    /// The least size at which both know a root and these differ.
    pub fn first_difference(&self, other: &Self, sight: Sight) -> Option<u16> {
        (0..=self.size().min(other.size())).find(|size| {
            matches!((self.known(*size, sight), other.known(*size, sight)), (Some(a), Some(b)) if a != b)
        })
    }

    pub fn drop_to(&mut self, base: u16) {
        let base = base.min(self.size());
        if base <= self.start {
            return;
        }
        self.peaks =
            sums(base).filter_map(|size| self.known(size, Sight::Peaks).map(|link| (size, link))).collect();
        self.entries.drain(..(base - self.start) as usize);
        self.start = base;
    }

    pub fn cut_to(&mut self, size: u16) {
        self.entries.truncate(size.saturating_sub(self.start) as usize);
    }

    /// The root that the history of this copy had at a size, whether it is held or not; for checks alone.
    pub fn truth(&self, size: u16) -> u64 {
        let mut entry = self.entries.last();
        while let Some(found) = entry {
            if found.seq < size {
                return found.link;
            }
            entry = found.before.as_ref();
        }
        0
    }
}
