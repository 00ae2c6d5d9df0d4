//! One history: random steps, then everybody meets everybody.

use std::collections::BTreeMap as Map;

use crate::checks::{Counts, check_back, check_end, check_forked_events, check_pairs, common_events};
use crate::coverage::{Feature, Table};
use crate::facts::{Closing, Pin};
use crate::log::Log;
use crate::replica::Replica;
use crate::rule::{Mode, Rule};
use crate::world::{Outcome, World, say};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Lie,
    HandOver,
    LiarFork,
    LiarFacts,
    Write,
    Event,
    Meet,
    Relay,
    Restart,
    Save,
    Silent,
    Keep,
    Month,
    Clone,
    Check,
    Newcomer,
    Purge,
    Evict,
    Facts,
}

use Step::{
    Check, Clone as Twice, Event, Evict, Facts, HandOver, Keep, LiarFacts, LiarFork, Lie, Meet, Month,
    Newcomer, Purge, Relay, Restart, Save, Silent, Write,
};

const UNIFORM: [Step; 32] = [
    Lie, Lie, HandOver, HandOver, HandOver, LiarFork, LiarFacts, Write, Write, Write, Write, Event, Event,
    Meet, Meet, Meet, Meet, Relay, Restart, Restart, Save, Silent, Keep, Month, Twice, Check, Newcomer,
    Purge, Evict, Facts, Meet, Write,
];
const RESTARTS: [Step; 24] = [
    Write, Write, Write, Write, Event, Meet, Meet, Meet, Restart, Restart, Restart, Restart, Save, Save,
    Silent, Silent, Silent, Keep, Month, Twice, Check, Relay, Facts, Newcomer,
];
const LIARS: [Step; 22] = [
    Lie, Lie, Lie, Lie, HandOver, HandOver, HandOver, HandOver, LiarFork, LiarFork, LiarFacts, LiarFacts,
    Meet, Meet, Meet, Write, Keep, Relay, Check, Month, Purge, Facts,
];
const CLONES: [Step; 26] = [
    Write, Write, Write, Event, Meet, Meet, Meet, Restart, Restart, Restart, Save, Save, Silent, Silent,
    Keep, Twice, Twice, Twice, Lie, HandOver, LiarFork, Month, Check, Relay, Facts, Evict,
];

struct Run<'w, 'c> {
    world: World<'w>,
    replicas: Vec<Replica>,
    /// Processes that were replaced, and may still be heard.
    silent: Vec<Replica>,
    saved: Map<u8, Replica>,
    clones: u32,
    counts: &'c mut Counts,
}

pub fn two(replicas: &mut [Replica], i: usize, j: usize) -> (&mut Replica, &mut Replica) {
    if i < j {
        let (a, b) = replicas.split_at_mut(j);
        (&mut a[i], &mut b[0])
    } else {
        let (a, b) = replicas.split_at_mut(i);
        (&mut b[0], &mut a[j])
    }
}

pub fn run(
    tape: &[u8],
    rule: Rule,
    mode: Mode,
    trace: bool,
    counts: &mut Counts,
    table: &mut Table,
) -> Outcome {
    let mut world = World::new(tape, rule, mode, trace);
    let n = 2 + world.tape.below(3);
    let mut replicas = vec![];
    for agent in 0..n as u8 {
        let inc = world.next_incarnation(agent);
        let mut replica = Replica::new(rule, agent, inc);
        replica.keep = agent % 2 == 1;
        replicas.push(replica);
    }
    if mode.quota && n > 2 {
        replicas[n - 1].limits = 1 + world.tape.below(2) as u8;
    }
    if mode.liar {
        let count = if mode.liars { 1 + world.tape.below(3) } else { 1 };
        world.add_liars(count);
    }
    let mut run = Run { world, replicas, silent: vec![], saved: Map::new(), clones: 2, counts };
    let profile = run.world.tape.below(4);
    let mut outcome = Ok(());
    while outcome.is_ok() && !run.world.tape.ended() {
        let step = match profile {
            1 => run.world.tape.pick(&RESTARTS),
            2 if mode.liar => run.world.tape.pick(&LIARS),
            3 => run.world.tape.pick(&CLONES),
            _ => run.world.tape.pick(&UNIFORM),
        };
        outcome = run.step(step).and_then(|()| check_pairs(run.replicas.iter()));
        run.counts.steps += 1;
        if trace {
            run.show();
        }
    }
    if outcome.is_ok() {
        outcome = run.finish();
    }
    run.counts.view.0 += run.world.views.0;
    run.counts.view.1 += run.world.views.1;
    table.add(&run.world.coverage);
    outcome
}

impl Run<'_, '_> {
    fn any(&mut self) -> usize {
        self.world.tape.below(self.replicas.len())
    }

    fn step(&mut self, step: Step) -> Outcome {
        let mode = self.world.mode;
        match step {
            Lie if mode.liar => self.world.lie(&self.replicas),
            HandOver if mode.liar => {
                let to = self.any();
                self.world.hand_over(&mut self.replicas[to]);
            }
            LiarFork if mode.liar && mode.fork => {
                if self.world.branches.len() < 4 * self.world.liars.len() + 3 && self.world.tape.percent(40) {
                    self.world.fork_branch();
                } else {
                    let to = self.any();
                    self.world.lie_evidence(&mut self.replicas[to]);
                }
            }
            LiarFacts if mode.liar && mode.facts => {
                let to = self.any();
                let mut taken = self.replicas[to].clone();
                self.world.lie_facts(&self.replicas, &mut taken);
                self.replicas[to] = taken;
            }
            Write => {
                let at = self.any();
                return self.world.write(&mut self.replicas[at]);
            }
            Event => {
                let at = self.any();
                self.world.write_event(&mut self.replicas[at]);
            }
            Meet => self.meet(),
            Relay if self.replicas.len() > 1 => {
                let i = self.any();
                let j = (i + 1 + self.world.tape.below(self.replicas.len() - 1)) % self.replicas.len();
                let (of, to) = two(&mut self.replicas, i, j);
                self.world.relay(of, to);
                say!(self.world, "a part of what {i} holds is relayed to {j}");
            }
            Restart => self.restart(),
            Save => {
                let at = self.any();
                say!(self.world, "{at} is saved");
                self.saved.insert(self.replicas[at].agent, self.replicas[at].clone());
            }
            Silent if !self.silent.is_empty() => return self.hear_silent(),
            Keep => {
                let at = self.any();
                let replica = &mut self.replicas[at];
                if !replica.rule.today {
                    replica.keep = !replica.keep;
                    replica.settle_all();
                }
            }
            Month if mode.days => self.month(),
            Twice if mode.fork && self.clones > 0 && self.replicas.len() < 6 => {
                let at = self.any();
                self.clones -= 1;
                let mut clone = self.replicas[at].clone();
                if self.world.tape.percent(50) {
                    clone = self.saved.get(&clone.agent).cloned().unwrap_or(clone);
                }
                clone.limits = 0;
                say!(self.world, "{at} runs twice from now on, as {:?}", clone.log());
                self.replicas.push(clone);
            }
            Check => check_back(&self.world, &self.replicas, self.counts)?,
            Newcomer if self.replicas.len() < 6 => {
                let agent = 100 + self.replicas.len() as u8;
                let inc = self.world.next_incarnation(agent);
                let mut replica = Replica::new(self.world.rule, agent, inc);
                replica.keep = agent % 2 == 1;
                replica.met = false;
                say!(self.world, "a newcomer");
                self.replicas.push(replica);
            }
            Purge if mode.purge && self.world.tape.percent(50) => {
                let at = self.any();
                let facts = self.world.tape.percent(50);
                let replica = &mut self.replicas[at];
                replica.purge(facts);
                replica.inc = self.world.next_incarnation(replica.agent);
                say!(self.world, "{at} purges the topic, and is {:?} from now on", replica.log());
            }
            Evict => {
                let at = self.any();
                let replica = &mut self.replicas[at];
                let logs: Vec<Log> =
                    replica.copies.keys().filter(|l| l.agent != replica.agent).copied().collect();
                if replica.limits > 0 && !logs.is_empty() {
                    let log = logs[self.world.tape.below(logs.len())];
                    replica.evict(log);
                    say!(self.world, "{at} drops {log:?}");
                }
            }
            Facts if mode.facts => return self.state_fact(),
            _ => {}
        }
        Ok(())
    }

    /// One learns from another, and it is counted if that hid a live value for a while.
    fn meet(&mut self) {
        if self.replicas.len() < 2 {
            return;
        }
        let i = self.any();
        let j = (i + 1 + self.world.tape.below(self.replicas.len() - 1)) % self.replicas.len();
        let limit = self.world.tape.pick(&[None, None, Some(1), Some(2), Some(4)]);
        let (from, to) = two(&mut self.replicas, i, j);
        let before = to.state();
        let changed = self.world.meet(from, to, limit);
        say!(self.world, "{i} -> {j} {limit:?}: {changed}");
        if !changed {
            return;
        }
        let after = to.state();
        let world = &self.world;
        let gone = before.live.iter().filter(|(dot, item)| {
            world.good(dot.log.agent) && world.forked.is_empty() && after.live.get(dot) != Some(*item)
        });
        for (dot, item) in gone {
            let lies = world.branches.iter().flat_map(|branch| &branch.entries);
            let all = world.history.values().flatten().chain(lies);
            let removed = all.flat_map(|entry| entry.names()).any(|name| *name == (*dot, item.tag));
            let written = world.history.get(&dot.log).map_or(&[][..], |e| e);
            let kept =
                crate::log::listing(written).get(dot).is_some_and(|(known, _)| known.value == item.value);
            if !removed && kept {
                let told = to.incomplete();
                self.counts.hidden.0 += u64::from(told);
                self.counts.hidden.1 += u64::from(!told);
            }
        }
    }

    fn restart(&mut self) {
        let at = self.any();
        let (mode, rule) = (self.world.mode, self.world.rule);
        let old = self.replicas[at].clone();
        let (agent, limits) = (old.agent, old.limits);
        let saved = self.saved.get(&agent).cloned();
        let mut new = old.clone();
        let mut anew = true;
        self.world.coverage.note(agent, Feature::Restart);
        let kind = self.world.tape.below(7);
        match (kind, saved) {
            (0, _) if mode.loss => new = Replica::new(rule, agent, 0),
            (1 | 2, Some(saved)) if mode.backup => {
                new = saved;
                new.ghost.wrote.clear();
                self.world.coverage.note(agent, Feature::BackupSaid);
            }
            (3 | 4, Some(saved)) if mode.unsaid && mode.fork => {
                new = saved;
                new.ghost.wrote.clear();
                anew = false;
                self.world.coverage.note(agent, Feature::BackupUnsaid);
            }
            (5, _) => {
                anew = false;
                self.lose_tails(&mut new, at);
            }
            (3 | 6, _) => anew = false,
            _ => {}
        }
        if anew {
            new.inc = self.world.next_incarnation(agent);
            new.met = false;
            new.outrun = false;
        }
        (new.keep, new.limits) = (old.keep, limits);
        say!(self.world, "{at} restarts (kind {kind}) as {:?}", new.log());
        self.replicas[at] = new;
        let replaced = matches!(kind, 0..=4) && (mode.loss || mode.backup);
        if replaced && limits == 0 && self.world.tape.percent(60) {
            self.silent.push(old);
        }
    }

    /// Entries that were not signed yet are not there after a restart.
    fn lose_tails(&mut self, new: &mut Replica, at: usize) {
        for (log, signed) in std::mem::take(&mut new.signed) {
            if !new.copies.contains_key(&log) {
                continue;
            }
            let others =
                self.replicas.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, replica)| replica);
            let backups = self.world.mode.backup || self.world.mode.fork;
            let saved = self.saved.values().filter(|_| backups);
            let others: Vec<&Replica> = others.chain(&self.silent).chain(saved).collect();
            self.world.forget_tail(log, &signed, &others);
            new.ghost.wrote.retain(|(written, seq)| *written != log || *seq < signed.size());
            new.ghost.seen.insert(log, signed.size());
            if signed.size() > 0 {
                new.copies.insert(log, signed);
            } else {
                new.copies.remove(&log);
            }
        }
        // Facts are durable, and hold for the signed copies that come back as well.
        new.fit_all(new.agent);
        new.settle(new.agent);
    }

    fn hear_silent(&mut self) -> Outcome {
        let at = self.world.tape.below(self.silent.len());
        if self.world.tape.percent(30) {
            self.world.write(&mut self.silent[at])?;
        }
        let to = self.any();
        let limit = self.world.tape.pick(&[None, Some(2)]);
        self.world.meet(&mut self.silent[at], &mut self.replicas[to], limit);
        say!(self.world, "silent {at} -> {to}");
        Ok(())
    }

    fn month(&mut self) {
        let at = self.any();
        if self.world.tape.percent(30) {
            self.world.clock += 1_000;
        }
        let replica = &mut self.replicas[at];
        let mut known: Map<u8, u32> = Map::new();
        for log in replica.ghost.seen.keys().filter(|log| !log.events) {
            *known.entry(log.agent).or_default() += 1;
        }
        for (agent, _) in known.into_iter().filter(|(_, logs)| *logs > 1) {
            self.world.coverage.note(agent, Feature::Month);
        }
        replica.month();
        self.world.note_reopened(&mut self.replicas[at]);
        say!(self.world, "a month passes at {at}");
    }

    /// Somebody prunes events, or closes an agent.
    fn state_fact(&mut self) -> Outcome {
        let at = self.any();
        let replica = &mut self.replicas[at];
        // What was appended before a fact was signed is durable (18).
        replica.sign();
        if self.world.tape.percent(60) {
            let own = |log: &&Log| log.events && log.agent == replica.agent && log.inc <= replica.inc;
            let earlier: Vec<Log> = replica.copies.keys().filter(own).copied().collect();
            if !earlier.is_empty() && !replica.departed(replica.agent) {
                let log = earlier[self.world.tape.below(earlier.len())];
                // Of a log that goes on, no events that are still to come.
                let size = replica.copies[&log].size() as usize;
                let most = if log.inc == replica.inc { size } else { size + 3 };
                let below = self.world.tape.below(most) as u16 + 1;
                replica.prune(log, below);
                say!(self.world, "{at} prunes {log:?} below {below}");
            }
            return Ok(());
        }
        if self.world.departures.len() >= 2 || self.world.tape.percent(50) {
            return Ok(());
        }
        let agents: Vec<u8> = replica.verdicts.keys().copied().collect();
        if agents.is_empty() {
            return Ok(());
        }
        let agent = agents[self.world.tape.below(agents.len())];
        let mut closing = Closing::default();
        for (log, copy) in replica.copies.iter().filter(|(log, _)| log.agent == agent) {
            let counts = log.events || replica.verdict(agent).is_some_and(|v| v.says(log.inc).is_some());
            if let Some(floor) = copy.base_at(copy.size()).filter(|_| counts) {
                closing.pins.insert(*log, Pin { size: copy.size(), link: copy.link(copy.size()), floor });
            }
        }
        let before = replica.state();
        let of = |live: &Map<crate::log::Dot, crate::log::Item>| -> Map<_, _> {
            live.iter().filter(|(dot, _)| dot.log.agent == agent).map(|(dot, item)| (*dot, *item)).collect()
        };
        let again = replica.departed(agent);
        replica.close(agent, &closing);
        say!(self.world, "{at} closes {agent} with {:?}", closing.pins);
        let after = replica.state();
        if !again && (of(&before.live) != of(&after.live) || before.couplings != after.couplings) {
            return Err(format!("CLOSING: {agent} was {:?} and is {:?}", of(&before.live), of(&after.live)));
        }
        let departure = self.world.departures.entry(agent).or_default();
        departure.closings += 1;
        if departure.closings == 1 {
            departure.live = of(&before.live);
            departure.events = before.events.clone();
            departure.pinned = closing.pins.iter().map(|(log, pin)| (*log, pin.size)).collect();
        }
        Ok(())
    }

    fn show(&self) {
        for (i, p) in self.replicas.iter().enumerate() {
            let copies: Vec<_> = p
                .copies
                .iter()
                .map(|(l, c)| {
                    let counts = l.events || p.verdict(l.agent).is_some_and(|v| v.says(l.inc).is_some());
                    let kind = if l.events { "e" } else { "" };
                    let closed = if counts { "" } else { " closed" };
                    let tail = p.signed.get(l).map_or(String::new(), |s| format!(" signed {}", s.size()));
                    format!("{kind}{}.{} [{},{}){closed}{tail}", l.agent, l.inc, c.start, c.size())
                })
                .collect();
            let live: Vec<_> = p.state().live.values().map(|i| (i.key, i.value)).collect();
            println!("      {i}: {copies:?} {:?} live {live:?}", p.facts);
        }
    }

    fn finish(&mut self) -> Outcome {
        self.replicas.append(&mut self.silent);
        let (limited, mut all): (Vec<Replica>, Vec<Replica>) =
            std::mem::take(&mut self.replicas).into_iter().partition(|replica| replica.limits > 0);
        if all.is_empty() {
            return Ok(());
        }
        for replica in &mut all {
            replica.sign();
        }
        let common = common_events(&all);
        for round in 0.. {
            let before: Vec<u64> = all.iter().map(Replica::root).collect();
            for _ in 0..2 {
                for i in 1..all.len() {
                    let (one, hub) = two(&mut all, i, 0);
                    self.world.meet(one, hub, None);
                    self.world.meet(hub, one, None);
                }
            }
            check_pairs(all.iter().chain(&limited))?;
            let after: Vec<u64> = all.iter().map(Replica::root).collect();
            if before == after && after.iter().all(|root| *root == after[0]) {
                break;
            }
            if round > 14 {
                let other = after.iter().position(|root| *root != after[0]).unwrap_or(0);
                let show = |p: &Replica| {
                    let heads: Vec<_> =
                        p.copies.iter().map(|(l, c)| (l, c.start, c.size(), c.prefix())).collect();
                    format!("{heads:?} {:?}", p.facts)
                };
                return Err(format!("NEVER EQUAL: {} and {}", show(&all[0]), show(&all[other])));
            }
        }
        self.counts.with_forks += u64::from(!self.world.forked.is_empty());
        self.counts.with_finals += u64::from(self.world.finals > 0);
        self.counts.with_departures += u64::from(!self.world.departures.is_empty());
        self.replicas = all;
        if self.world.trace {
            println!("  at the end");
            self.show();
        }
        check_forked_events(&self.replicas[0], &common)?;
        check_end(&self.world, &self.replicas, self.counts)
    }
}
