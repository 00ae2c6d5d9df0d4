//! The entries of honest writers (clauses 16 to 23).

use std::collections::{BTreeMap as Map, BTreeSet as Set};
use std::rc::Rc;

use crate::log::{CAP, Copy, Dot, Entry, Item, Log, Name, Op, listing};
use crate::replica::Replica;
use crate::rule::Clause;
use crate::state::State;
use crate::world::{Outcome, Removal, World, say};

/// An entry in the making, and the writer's view as it will be.
struct Draft<'r> {
    replica: &'r Replica,
    state: &'r State,
    log: Log,
    seq: u16,
    copy: Copy,
    ops: Vec<Op>,
    closures: Map<u16, u16>,
    last: u16,
    cites: Set<(Log, u16)>,
    view: Map<Dot, Item>,
    own: Map<Dot, (Item, u16)>,
    ended: Set<Name>,
    removed: Vec<Name>,
    couplings: Map<(u8, bool), u32>,
}

impl<'r> Draft<'r> {
    fn new(replica: &'r Replica, state: &'r State) -> Self {
        let log = replica.log();
        let copy = replica.copies.get(&log).cloned().unwrap_or_default();
        Self {
            replica,
            state,
            log,
            seq: copy.size(),
            own: listing(&copy.entries),
            copy,
            ops: vec![],
            closures: Map::new(),
            last: 0,
            cites: Set::new(),
            view: state.live.clone(),
            ended: Set::new(),
            removed: vec![],
            couplings: Map::new(),
        }
    }

    /// What the own log retains of closures, and its greatest final.
    fn said(&self) -> (Map<u16, u16>, u16) {
        let (mut closures, mut last): (Map<u16, u16>, u16) = (Map::new(), 0);
        for entry in &self.copy.entries {
            last = last.max(entry.last);
            for (inc, n) in &entry.closures {
                let known = closures.entry(*inc).or_default();
                *known = (*known).max(*n);
            }
        }
        (closures, last)
    }

    /// What the own log states of couplings now.
    fn stated(&self) -> Map<(u8, bool), u32> {
        self.copy.entries.iter().flat_map(|entry| entry.couples()).collect()
    }

    fn place(&self) -> Dot {
        Dot { log: self.log, seq: self.seq, place: self.ops.len() as u8 }
    }

    /// Ends a key in the view, and gives the dots of other logs by name.
    fn end_key(&mut self, key: u8) -> Vec<Name> {
        let dots: Vec<Name> = self
            .view
            .iter()
            .filter(|(_, item)| item.key == key)
            .map(|(dot, item)| (*dot, item.tag))
            .collect();
        for name in &dots {
            self.view.remove(&name.0);
        }
        self.removed.extend(&dots);
        self.own.retain(|_, (item, _)| item.key != key);
        dots.into_iter().filter(|(dot, _)| dot.log != self.log).collect()
    }

    fn set(&mut self, key: u8, value: u32) {
        let names = self.end_key(key);
        self.list(key, value, names);
    }

    fn list(&mut self, key: u8, value: u32, names: Vec<Name>) {
        self.view.insert(self.place(), Item { key, value, stamp: 0, tag: 0 });
        self.ops.push(Op::Set(key, value, names));
    }

    /// Repeats removals, each once.
    fn end(&mut self, names: impl IntoIterator<Item = Name>) {
        let fresh: Vec<Name> = names.into_iter().filter(|name| self.ended.insert(*name)).collect();
        if !fresh.is_empty() {
            self.ops.push(Op::End(fresh));
        }
    }

    /// Those names of entries that are needed; of the others it is noted on which logs that rests.
    fn still_needed(&mut self, entries: &[Rc<Entry>]) -> Vec<Name> {
        let mut needed = vec![];
        for name in entries.iter().flat_map(|entry| entry.names()) {
            if self.replica.needed(self.state, name) {
                needed.push(*name);
            } else {
                self.cites.extend(self.replica.rests_on(&name.0));
            }
        }
        if self.replica.rule.has(Clause::RepeatNames) { needed } else { vec![] }
    }

    /// Contributions that are to be stated again, unless the own log says as much.
    fn contribute(&mut self, said: impl IntoIterator<Item = ((u8, bool), u32)>, clock: u32) {
        if !self.replica.rule.has(Clause::RepeatCouplings) {
            return;
        }
        let stated = self.stated();
        for (side, until) in said {
            let known = self.couplings.get(&side).or_else(|| stated.get(&side)).copied().unwrap_or(0);
            if until > clock && until > known && until <= clock + CAP {
                self.couplings.insert(side, until);
            }
        }
    }
}

impl World<'_> {
    /// The next entry of an honest writer, if it has anything to say.
    pub fn write(&mut self, replica: &mut Replica) -> Outcome {
        self.clock += 1;
        if replica.departed(replica.agent) {
            return Ok(());
        }
        let dead = replica.dead(&replica.log());
        if dead || replica.outrun && self.tape.percent(50) {
            replica.inc = self.next_incarnation(replica.agent);
            say!(self, "  goes on in {:?}", replica.log());
        }
        replica.outrun = false;
        let reissue = std::mem::take(&mut replica.reissue);
        let told = replica.incomplete();
        let state = replica.state();
        let mut draft = Draft::new(replica, &state);
        self.write_anew(&mut draft, reissue);
        for _ in 0..self.tape.pick(&[0, 1, 1, 2]) {
            self.change(&mut draft);
        }
        if replica.met && self.tape.percent(60) {
            self.take_over(&mut draft);
        }
        let mut base = draft.copy.base();
        if draft.seq > 0 && self.tape.percent(35) {
            base += self.tape.below((draft.seq - base) as usize + 1) as u16;
            self.raise_base(&mut draft, base);
        }
        let couplings = std::mem::take(&mut draft.couplings);
        draft
            .ops
            .extend(couplings.into_iter().map(|((key, weakens), until)| Op::Couple(key, weakens, until)));
        if draft.ops.is_empty() && draft.closures.is_empty() && draft.last == 0 && base == draft.copy.base() {
            return Ok(());
        }
        let Draft { log, seq, copy, ops, closures, last, cites, view, removed, .. } = draft;
        let before = self.last_of(log, &copy);
        let entry = Entry {
            log,
            seq,
            base,
            stamp: 0,
            ops,
            closures: closures.into_iter().collect(),
            last,
            cites: cites.into_iter().collect(),
            link: 0,
            tag: 0,
            before: None,
        };
        let entry = self.seal(entry, before);
        say!(
            self,
            "{log:?} seq {seq} base {base} tag {} {:?} closes {:?} final {last}",
            entry.tag,
            entry.ops,
            entry.closures
        );
        self.removals.extend(removed.iter().map(|name| Removal { name: *name, at: (log, seq) }));
        self.append(replica, &entry);
        self.check_view(replica, &view, told)
    }

    /// The entry that the next one follows. (Today's rule empties copies, and keeps their position.)
    fn last_of(&self, log: Log, copy: &Copy) -> Option<Rc<Entry>> {
        let written = || self.history.get(&log).into_iter().flatten().find(|e| e.link == copy.prefix());
        copy.entries.last().or_else(written).cloned()
    }

    /// Puts an own entry into its log, signed or not yet.
    pub fn append(&mut self, replica: &mut Replica, entry: &Rc<Entry>) {
        let (log, seq) = (entry.log, entry.seq);
        self.record(entry);
        let copy = replica.copies.entry(log).or_default();
        let before = copy.clone();
        copy.entries.push(Rc::clone(entry));
        if !log.events {
            copy.drop_to(entry.base);
        }
        replica.ghost.wrote.insert((log, seq));
        let late = self.tape.percent(30);
        if late {
            replica.signed.entry(log).or_insert(before);
        } else {
            // Storage is in the order of appending: what was appended before, to whatever log, is there as well.
            replica.sign();
        }
        replica.changed(log);
    }

    /// What the writer sees after its entry is what it meant to see. Where it differs and an entry that counts rests on a
    /// copy that is not here, it is a transient.
    fn check_view(&mut self, replica: &Replica, view: &Map<Dot, Item>, told: bool) -> Outcome {
        let plain =
            |of: &Map<Dot, Item>| of.iter().map(|(dot, i)| (*dot, i.key, i.value)).collect::<Vec<_>>();
        let after = replica.state();
        let (want, have) = (plain(view), plain(&after.live));
        if want == have || self.forked.contains(&replica.agent) || !self.liars.is_empty() {
            return Ok(());
        }
        if told || replica.incomplete() {
            self.views.0 += 1;
            say!(self, "VIEW (an entry rests on a copy that is not here)");
            return Ok(());
        }
        self.views.1 += 1;
        Err(format!("VIEW: {:?} expected {want:?} got {have:?}", replica.log()))
    }

    /// Clause 21.
    fn write_anew(&mut self, draft: &mut Draft<'_>, reissue: crate::replica::Reissue) {
        let taken: Set<u8> = draft.own.values().map(|(item, _)| item.key).collect();
        let mut best: Map<u8, Item> = Map::new();
        for ((dot, tag), item) in reissue.dots {
            if draft.state.named.contains(&(dot, tag)) || draft.state.live.contains_key(&dot) {
                continue;
            }
            let known = best.entry(item.key).or_insert(item);
            if (item.stamp, item.value) > (known.stamp, known.value) {
                *known = item;
            }
        }
        for (key, item) in best {
            if !taken.contains(&key) {
                draft.list(key, item.value, vec![]);
            }
        }
        if draft.replica.rule.has(Clause::ForkNames) {
            let (replica, state) = (draft.replica, draft.state);
            let names: Vec<Name> =
                reissue.names.into_iter().filter(|name| replica.needed(state, name)).collect();
            draft.view.retain(|dot, item| !names.contains(&(*dot, item.tag)));
            draft.end(names);
        }
        draft.contribute(reissue.couplings, self.clock);
    }

    /// A write that the host asks for.
    fn change(&mut self, draft: &mut Draft<'_>) {
        let key = self.tape.below(3) as u8;
        let value = self.nonce * 10 + draft.ops.len() as u32;
        match self.tape.below(8) {
            0..=3 => draft.set(key, value),
            4..=5 => {
                let names = draft.end_key(key);
                draft.ops.push(Op::Remove(key, names));
            }
            kind => {
                let side = (key, kind == 7);
                let now = draft.state.couplings.get(&(draft.log.agent, side.0, side.1)).copied().unwrap_or(0);
                let now = draft.couplings.get(&side).copied().unwrap_or(0).max(now).max(self.clock);
                let until = (now + 5 + self.tape.below(30) as u32).min(self.clock + CAP);
                draft.couplings.insert(side, until);
            }
        }
    }

    /// Clauses 19 and 23.
    fn take_over(&mut self, draft: &mut Draft<'_>) {
        let (replica, log, agent) = (draft.replica, draft.log, draft.log.agent);
        let (mine, last_mine) = draft.said();
        let Some(verdict) = replica.verdict(agent) else { return };
        let tails: Vec<u16> = verdict
            .counts
            .iter()
            .filter(|says| says.inc < log.inc && says.size > mine.get(&says.inc).copied().unwrap_or(0))
            .map(|says| says.inc)
            .collect();
        if tails.is_empty() {
            return;
        }
        let mut wanted = mine.clone();
        let mut last = last_mine;
        for says in verdict.counts.iter().filter(|says| tails.contains(&says.inc)) {
            last = last.max(says.last);
            for (inc, n) in says.closures.iter().chain([(&says.inc, &says.size)]) {
                let known = wanted.entry(*inc).or_default();
                *known = (*known).max(*n);
            }
        }
        if self.mode.finals && self.tape.percent(30) {
            let at = if self.tape.percent(50) { log.inc } else { self.tape.pick(&tails) };
            last = last.max(at);
        }
        if self.late_finals && wanted.len() > 16 {
            last = last.max(*wanted.keys().nth(wanted.len() - 16).expect("there are more"));
        }
        let view: Vec<(Dot, Item)> = draft.view.iter().map(|(dot, item)| (*dot, *item)).collect();
        for (dot, item) in view {
            if dot.log.agent != agent || dot.log == log || draft.own.contains_key(&dot) {
                continue;
            }
            let by_lower = verdict.answer(replica.rule, dot.log.inc, dot.seq).any(|inc| tails.contains(&inc));
            let covered = dot.log.inc < last || wanted.get(&dot.log.inc).is_some_and(|n| *n > dot.seq);
            if (covered || by_lower) && replica.rule.has(Clause::Relist) {
                draft.ops.push(Op::Relist(dot, item));
            }
        }
        for inc in &tails {
            let copy = &replica.copies[&Log::state(agent, *inc)];
            let names = draft.still_needed(&copy.entries);
            draft.end(names);
            let said: Map<(u8, bool), u32> = copy.entries.iter().flat_map(|entry| entry.couples()).collect();
            draft.contribute(said, self.clock);
        }
        let dead: Vec<Name> = draft
            .own
            .iter()
            .filter(|(dot, _)| !draft.view.contains_key(dot))
            .map(|(dot, (item, _))| (*dot, item.tag))
            .collect();
        draft.end(dead);
        if last > last_mine {
            self.finals += 1;
            draft.last = last;
        }
        for (inc, n) in wanted {
            let needed = replica.rule.today || inc >= last;
            if needed && inc < log.inc && n > mine.get(&inc).copied().unwrap_or(0) {
                draft.closures.insert(inc, n);
            }
        }
    }

    /// Clause 16.
    fn raise_base(&mut self, draft: &mut Draft<'_>, base: u16) {
        let own: Vec<(Dot, Item, u16)> =
            draft.own.iter().map(|(dot, (item, at))| (*dot, *item, *at)).collect();
        for (dot, item, at) in own {
            if at < base && draft.view.contains_key(&dot) {
                draft.ops.push(Op::Relist(dot, item));
            }
        }
        let going: Vec<Rc<Entry>> =
            draft.copy.entries.iter().filter(|entry| entry.seq < base).cloned().collect();
        let names = draft.still_needed(&going);
        draft.end(names);
        let (stays, stated) = (draft.copy.from(base), draft.stated());
        let stays: Map<(u8, bool), u32> = stays.entries.iter().flat_map(|entry| entry.couples()).collect();
        for (side, until) in stated {
            let restate = !stays.contains_key(&side) && !draft.couplings.contains_key(&side);
            if restate && until > self.clock && draft.replica.rule.has(Clause::RepeatCouplings) {
                draft.couplings.insert(side, until);
            }
        }
        if !draft.replica.rule.has(Clause::RepeatClosures) {
            return;
        }
        let (mine, last_mine) = draft.said();
        if draft.last == 0 && last_mine > 0 && going.iter().any(|entry| entry.last > 0) {
            draft.last = last_mine;
        }
        let again: Set<u16> = going.iter().flat_map(|entry| &entry.closures).map(|(inc, _)| *inc).collect();
        for inc in again {
            if inc >= last_mine {
                draft.closures.entry(inc).or_insert(mine[&inc]);
            }
        }
    }

    /// Appends an event, or gives up old ones.
    pub fn write_event(&mut self, replica: &mut Replica) {
        self.clock += 1;
        let log = Log::events(replica.agent, replica.inc);
        let cut = replica.facts.cuts.contains_key(&log) || replica.dead(&log);
        if replica.departed(replica.agent) || cut || replica.dead(&replica.log()) {
            return;
        }
        let copy = replica.copies.get(&log).cloned().unwrap_or_default();
        let seq = copy.size();
        let raise =
            if self.tape.percent(15) { self.tape.below((seq - copy.base()) as usize + 1) as u16 } else { 0 };
        let entry = Entry {
            log,
            seq,
            base: copy.base() + raise,
            stamp: 0,
            ops: vec![],
            closures: vec![],
            last: 0,
            cites: vec![],
            link: 0,
            tag: 0,
            before: None,
        };
        let entry = self.seal(entry, copy.entries.last().cloned());
        say!(self, "{log:?} event {seq} base {}", entry.base);
        self.append(replica, &entry);
    }
}
