//! What is true of a history, whoever knows it: every entry written, who lies, who forked, who departed.

use std::collections::{BTreeMap as Map, BTreeSet as Set};
use std::rc::Rc;

use crate::coverage::Coverage;
use crate::log::{Copy, Dot, Entry, Item, Log, Name};
use crate::replica::Replica;
use crate::rule::{Mode, Rule};
use crate::tape::Tape;

/// A removal that an honest writer wrote.
#[derive(Clone, Copy, Debug)]
pub struct Removal {
    pub name: Name,
    pub at: (Log, u16),
}

/// What a closing by an honest agent left of another, as its author saw it.
#[derive(Clone, Debug, Default)]
pub struct Departure {
    pub closings: u32,
    /// A liar has a hand in it, so nothing but equality can be asked.
    pub by_liar: bool,
    pub live: Map<Dot, Item>,
    pub events: Map<Log, (u16, u16, u64)>,
    pub pinned: Map<Log, u16>,
}

/// One history of a log that a liar writes.
pub struct Branch {
    pub log: Log,
    pub entries: Vec<Rc<Entry>>,
}

pub struct World<'a> {
    pub tape: Tape<'a>,
    pub rule: Rule,
    pub mode: Mode,
    pub clock: u32,
    pub nonce: u32,
    /// Every entry of honest writers, but for those of second histories, which are in `extra`.
    pub history: Map<Log, Vec<Rc<Entry>>>,
    pub extra: Vec<Rc<Entry>>,
    pub incarnations: Map<u8, u16>,
    pub liars: Set<u8>,
    pub branches: Vec<Branch>,
    pub forked: Set<u8>,
    pub departures: Map<u8, Departure>,
    pub removals: Vec<Removal>,
    pub finals: u32,
    pub coverage: Coverage,
    pub trace: bool,
    /// Whether owners say Final behind the last 16 closures (`bound`).
    pub late_finals: bool,
    pub views: (u64, u64),
}

pub type Outcome = Result<(), String>;

macro_rules! say {
    ($world:expr, $($text:tt)*) => { if $world.trace { println!("  {}", format!($($text)*)); } };
}
pub(crate) use say;

impl<'a> World<'a> {
    pub fn new(tape: &'a [u8], rule: Rule, mode: Mode, trace: bool) -> Self {
        Self {
            tape: Tape::new(tape),
            rule,
            mode,
            clock: 1,
            nonce: 0,
            history: Map::new(),
            extra: vec![],
            incarnations: Map::new(),
            liars: Set::new(),
            branches: vec![],
            forked: Set::new(),
            departures: Map::new(),
            removals: vec![],
            finals: 0,
            coverage: Coverage::default(),
            trace,
            late_finals: false,
            views: (0, 0),
        }
    }

    pub fn next_incarnation(&mut self, agent: u8) -> u16 {
        let inc = self.incarnations.entry(agent).or_insert(0);
        *inc += 1;
        *inc
    }

    /// Completes an entry: stamp, link and tag.
    pub fn seal(&mut self, mut entry: Entry, before: Option<Rc<Entry>>) -> Rc<Entry> {
        self.nonce += 1;
        let previous = before.as_ref().map_or(0, |entry| entry.link);
        let mixed = (previous ^ u64::from(self.nonce).wrapping_mul(0x9E37_79B9_7F4A_7C15))
            .wrapping_mul(0xD134_2543_DE82_EF95)
            .wrapping_add(17);
        entry.stamp = self.clock;
        entry.link = mixed;
        entry.tag = (mixed >> 48) as u16;
        entry.before = before;
        Rc::new(entry)
    }

    /// Notes an entry of an honest writer; a second history of a log is a fork of its agent.
    pub fn record(&mut self, entry: &Rc<Entry>) {
        let history = self.history.entry(entry.log).or_default();
        let follows = history.len() == entry.seq as usize
            && history.last().map(|last| last.link) == entry.before.as_ref().map(|before| before.link);
        if follows {
            history.push(Rc::clone(entry));
        } else {
            self.forked.insert(entry.log.agent);
            self.extra.push(Rc::clone(entry));
        }
    }

    /// A tail that nobody else has seen is lost: its numbers are used again.
    pub fn forget_tail(&mut self, log: Log, signed: &Copy, others: &[&Replica]) {
        let size = signed.size();
        // A second process may have signed it.
        let held = |replica: &&Replica| replica.copies.get(&log).is_some_and(|copy| copy.size() > size);
        let held_elsewhere = others.iter().any(held);
        let link = signed.link(size);
        let history = self.history.entry(log).or_default();
        let main = history
            .get(size as usize)
            .is_some_and(|entry| entry.before.as_ref().map_or(0, |b| b.link) == link);
        if !main {
            return;
        }
        if held_elsewhere {
            self.forked.insert(log.agent);
            return;
        }
        history.truncate(size as usize);
        self.removals.retain(|removal| removal.at.0 != log || removal.at.1 < size);
    }

    pub fn good(&self, agent: u8) -> bool {
        !self.forked.contains(&agent) && !self.liars.contains(&agent) && !self.departures.contains_key(&agent)
    }
}
