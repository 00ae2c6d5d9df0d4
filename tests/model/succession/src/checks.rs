//! What must hold: after every step of every pair, and at the end against the full history.

use std::collections::{BTreeMap as Map, BTreeSet as Set};

use crate::log::{Dot, Item, Log, Name, Op};
use crate::replica::Replica;
use crate::world::{Outcome, World, say};

/// What was counted without being a failure, because the rule names it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    pub steps: u64,
    pub with_forks: u64,
    pub with_departures: u64,
    pub with_finals: u64,
    pub checked_at_the_end: u64,
    pub checked_back: u64,
    /// Values and contributions that a final lost, and values that it brought back.
    pub lost_by_final: u64,
    pub back_by_final: u64,
    /// Values that came back because everybody who knew their end was gone.
    pub back_by_loss: u64,
    /// Copies that were replaced by ones of another history, with nothing to show it; values that came back so.
    pub forks_unseen: u64,
    pub back_by_unseen: u64,
    /// Values of a departed agent that came back because its closing named an earlier state than others knew.
    pub back_by_closing: u64,
    /// Transients: a live value hidden for a while; a removed one shown; what a writer saw changed by its own entry. The
    /// second of each pair: where no entry that counts rests on a copy that the reader lacks.
    pub hidden: (u64, u64),
    pub back: (u64, u64),
    pub view: (u64, u64),
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        let pair = |a: &mut (u64, u64), b: (u64, u64)| (a.0 += b.0, a.1 += b.1);
        self.steps += other.steps;
        self.with_forks += other.with_forks;
        self.with_departures += other.with_departures;
        self.with_finals += other.with_finals;
        self.checked_at_the_end += other.checked_at_the_end;
        self.checked_back += other.checked_back;
        self.lost_by_final += other.lost_by_final;
        self.back_by_final += other.back_by_final;
        self.back_by_loss += other.back_by_loss;
        self.forks_unseen += other.forks_unseen;
        self.back_by_unseen += other.back_by_unseen;
        self.back_by_closing += other.back_by_closing;
        pair(&mut self.hidden, other.hidden);
        pair(&mut self.back, other.back);
        pair(&mut self.view, other.view);
    }
}

/// SILENT: one root, and two states, or two sets of heads that count and facts. CONVERSE: one such set, two roots.
pub fn check_pairs<'r>(replicas: impl Iterator<Item = &'r Replica>) -> Outcome {
    let replicas: Vec<&Replica> = replicas.collect();
    for (i, a) in replicas.iter().enumerate() {
        for b in &replicas[..i] {
            if a.root() == b.root() {
                if !a.rule.today && a.meaning() != b.meaning() {
                    return Err(format!(
                        "SILENT: one root, heads or facts differ at {} and {}",
                        a.agent, b.agent
                    ));
                }
                let (a, b) = (a.state(), b.state());
                if !a.reads_as(&b) {
                    let show =
                        |s: &crate::state::State| format!("{:?} {:?} {:?}", s.live, s.couplings, s.events);
                    return Err(format!("SILENT: one root, {} and {}", show(&a), show(&b)));
                }
            } else if !a.rule.today && a.meaning() == b.meaning() {
                return Err(format!(
                    "CONVERSE: the same heads and facts, two roots, at {} and {}",
                    a.agent, b.agent
                ));
            }
        }
    }
    Ok(())
}

/// The dots that nothing ended, over the full history or over the sizes that are known.
fn naive(world: &World<'_>, sizes: Option<&Map<Log, u16>>, killers: &dyn Fn(u8) -> bool) -> Map<Dot, Item> {
    let mut listed: Map<Dot, Item> = Map::new();
    let mut ended: Set<Name> = Set::new();
    let branches = world.branches.iter().map(|branch| (&branch.log, &branch.entries));
    let branches = branches.filter(|_| sizes.is_none());
    for (log, entries) in world.history.iter().chain(branches) {
        let known = sizes.map_or(entries.len(), |sizes| sizes.get(log).copied().unwrap_or(0) as usize);
        for entry in &entries[..known.min(entries.len())] {
            for (place, op) in (0..).zip(&entry.ops) {
                if let Op::Set(key, ..) | Op::Remove(key, ..) = op {
                    listed.retain(|dot, item| dot.log != *log || item.key != *key);
                }
                if let Op::Set(key, value, _) = op {
                    let item = Item { key: *key, value: *value, stamp: entry.stamp, tag: entry.tag };
                    listed.insert(Dot { log: *log, seq: entry.seq, place }, item);
                }
            }
            if killers(log.agent) {
                ended.extend(entry.names().copied());
            }
        }
    }
    if sizes.is_none() {
        ended.extend(world.extra.iter().flat_map(|entry| entry.names().copied()));
    }
    listed.retain(|dot, item| !ended.contains(&(*dot, item.tag)));
    listed
}

/// BACK: a replica that holds all that another holds shows what that other one knows to be removed.
pub fn check_back(world: &World<'_>, replicas: &[Replica], counts: &mut Counts) -> Outcome {
    for p in replicas {
        let known = world.removals.iter().filter(|removal| {
            p.ghost.wrote.contains(&removal.at)
                && !world.forked.contains(&removal.at.0.agent)
                && !world.departures.contains_key(&removal.at.0.agent)
        });
        let known: Vec<Name> = known.map(|removal| removal.name).collect();
        if known.is_empty() {
            continue;
        }
        for q in replicas {
            let sees = |log: &Log, n: &u16| q.ghost.seen.get(log).is_some_and(|seen| seen >= n);
            let all = p.ghost.seen.iter().all(|(log, n)| sees(log, n))
                && p.facts.forked.iter().all(|log| q.dead(log))
                && p.facts.closings.keys().all(|agent| q.departed(*agent));
            if !all {
                continue;
            }
            counts.checked_back += 1;
            let state = q.state();
            for (dot, tag) in &known {
                if world.liars.contains(&dot.log.agent) || q.departed(dot.log.agent) {
                    continue;
                }
                if state.live.get(dot).is_some_and(|item| item.tag == *tag) {
                    if world.finals > 0 {
                        counts.back_by_final += 1;
                    } else if q.incomplete() {
                        counts.back.0 += 1;
                        say!(
                            world,
                            "BACK {dot:?} at {} (an entry rests on a copy that is not here)",
                            q.agent
                        );
                    } else if q.ghost.unseen.iter().any(|log| log.agent == dot.log.agent) {
                        counts.back_by_unseen += 1;
                    } else {
                        return Err(format!("BACK {dot:?} {tag} at {} though {} knows", q.agent, p.agent));
                    }
                }
            }
        }
    }
    Ok(())
}

/// At the end, when all are equal: nothing lost, nothing returned, against the full history.
pub fn check_end(world: &World<'_>, replicas: &[Replica], counts: &mut Counts) -> Outcome {
    let first = &replicas[0];
    let state = first.state();
    let mut known: Map<Log, u16> = Map::new();
    for (log, n) in replicas.iter().flat_map(|replica| &replica.ghost.seen) {
        let most = known.entry(*log).or_default();
        *most = (*n).max(*most);
    }
    let unseen: Set<Log> = replicas.iter().flat_map(|replica| replica.ghost.unseen.iter().copied()).collect();
    counts.checked_at_the_end += 1;
    counts.forks_unseen += unseen.len() as u64;
    let size = |log: &Log| known.get(log).copied().unwrap_or(0);

    for (dot, item) in naive(world, None, &|_| true) {
        if !world.good(dot.log.agent) || dot.seq >= size(&dot.log) {
            continue;
        }
        if state.live.get(&dot).is_some_and(|live| (live.key, live.value) == (item.key, item.value)) {
            continue;
        }
        if world.finals > 0 && first.verdict(dot.log.agent).is_some_and(|v| v.dead > dot.log.inc) {
            counts.lost_by_final += u64::from(state.live.values().all(|live| live.value != item.value));
            continue;
        }
        return Err(format!("LOST {dot:?} {item:?}"));
    }

    let by_known = naive(world, Some(&known), &|agent| world.good(agent));
    for (dot, item) in &state.live {
        let listed =
            by_known.get(dot).is_some_and(|known| (known.key, known.value) == (item.key, item.value));
        if !world.good(dot.log.agent) || listed {
            continue;
        }
        let of_agent = |log: &Log| log.agent == dot.log.agent && !log.events;
        if world.history.iter().any(|(log, entries)| of_agent(log) && entries.len() > size(log) as usize) {
            counts.back_by_loss += 1;
        } else if world.finals > 0 {
            counts.back_by_final += 1;
        } else {
            return Err(format!("RETURNED {dot:?} {item:?}"));
        }
    }

    check_forked(world, &state.live, &known, &unseen, counts)?;
    check_couplings(world, first, &known, counts)?;
    check_events(world, first, &known)?;
    check_departed(world, first, &known, counts)
}

/// A fork hides values, but brings none back that was removed.
fn check_forked(
    world: &World<'_>,
    live: &Map<Dot, Item>,
    known: &Map<Log, u16>,
    unseen: &Set<Log>,
    counts: &mut Counts,
) -> Outcome {
    for removal in &world.removals {
        let (dot, tag) = removal.name;
        let author = removal.at.0;
        let applies = world.forked.contains(&dot.log.agent)
            && world.good(author.agent)
            && !world.departures.contains_key(&dot.log.agent)
            && known.get(&author).is_some_and(|n| *n > removal.at.1);
        if !applies || live.get(&dot).is_none_or(|item| item.tag != tag) {
            continue;
        }
        if unseen.iter().any(|log| log.agent == dot.log.agent) {
            counts.back_by_unseen += 1;
        } else if world.finals > 0 {
            counts.back_by_final += 1;
        } else {
            return Err(format!("RETURNED (forked) {dot:?} {tag}"));
        }
    }
    Ok(())
}

/// Of each agent, key and sign the greatest instant that anybody knows to have been stated, and no more.
fn check_couplings(
    world: &World<'_>,
    first: &Replica,
    known: &Map<Log, u16>,
    counts: &mut Counts,
) -> Outcome {
    let mut want: Map<(u8, u8, bool), u32> = Map::new();
    let mut ever: Map<(u8, u8, bool), u32> = Map::new();
    for (log, entries) in &world.history {
        let size = known.get(log).copied().unwrap_or(0);
        for entry in entries {
            for ((key, weakens), until) in entry.couples() {
                let name = (log.agent, key, weakens);
                let most = ever.entry(name).or_default();
                *most = until.max(*most);
                if entry.seq < size {
                    let most = want.entry(name).or_default();
                    *most = until.max(*most);
                }
            }
        }
    }
    let state = first.state();
    for (name, until) in want.iter().filter(|(name, until)| world.good(name.0) && **until > world.clock) {
        let have = state.couplings.get(name).copied().unwrap_or(0);
        if have < *until {
            if world.finals > 0 {
                counts.lost_by_final += 1;
                continue;
            }
            return Err(format!("LOST coupling {name:?}: {have} and not {until}"));
        }
    }
    for (name, have) in state.couplings.iter().filter(|(name, _)| world.good(name.0)) {
        if *have > ever.get(name).copied().unwrap_or(0) {
            return Err(format!("RETURNED coupling {name:?}: {have}, which was never stated"));
        }
    }
    Ok(())
}

/// Of each event log all that is known of it, from its base and `Pruned` on.
fn check_events(world: &World<'_>, first: &Replica, known: &Map<Log, u16>) -> Outcome {
    let state = first.state();
    for (log, entries) in world.history.iter().filter(|(log, _)| log.events && world.good(log.agent)) {
        let size = known.get(log).copied().unwrap_or(0);
        if size == 0 {
            continue;
        }
        let pruned = first.facts.pruned_below(log).min(size);
        // What a clone had appended and lost unsigned is not in the history, though its sibling had signed as much.
        let Some(last) = entries.get(size as usize - 1) else { continue };
        let start = last.base.max(pruned);
        let want = (start < size).then_some((start, size, last.link));
        if state.events.get(log).copied() != want {
            return Err(format!("LOST events {log:?}: {:?} and not {want:?}", state.events.get(log)));
        }
    }
    Ok(())
}

/// Of each event log from which entry on, and up to which, all holders have its events.
pub fn common_events(replicas: &[Replica]) -> Map<Log, (u16, u16)> {
    let mut common: Map<Log, (u16, u16)> = Map::new();
    for (log, copy) in replicas.iter().flat_map(|replica| &replica.copies).filter(|(log, _)| log.events) {
        let (start, end) = common.entry(*log).or_insert((0, u16::MAX));
        (*start, *end) = (copy.start.max(*start), copy.size().min(*end));
    }
    common
}

/// What all holders of a forked event log had in common before everybody met everybody is still held by all, as far as
/// evidence and `Pruned` leave it.
pub fn check_forked_events(first: &Replica, common: &Map<Log, (u16, u16)>) -> Outcome {
    for (log, cut) in &first.facts.cuts {
        let Some((start, end)) = common.get(log) else { continue };
        let pruned = first.facts.pruned_below(log);
        let (start, end) = ((*start).max(cut.floor).max(pruned), cut.end.min(*end));
        let held = first.copies.get(log).is_some_and(|copy| copy.start <= start && copy.size() >= end);
        if start < end && !held && !first.dead(log) {
            return Err(format!("LOST events of a fork {log:?}: from {start} to {end}"));
        }
    }
    Ok(())
}

/// A departed agent's state is the one that its closing's author saw, without what was removed since.
fn check_departed(world: &World<'_>, first: &Replica, known: &Map<Log, u16>, counts: &mut Counts) -> Outcome {
    let state = first.state();
    for (agent, departure) in &world.departures {
        let knows = first.departed(*agent);
        if !knows || departure.by_liar || departure.closings != 1 {
            continue;
        }
        let pins = &first.facts.closings[agent].pins;
        let missing = pins.keys().any(|log| {
            !first.copies.contains_key(log) && !first.closed(log) && !first.dead(log) && !log.events
        });
        if missing {
            continue;
        }
        let beyond = known.iter().any(|(log, n)| {
            log.agent == *agent && !log.events && departure.pinned.get(log).is_none_or(|pin| pin < n)
        });
        let live = state.live.iter().filter(|(dot, _)| dot.log.agent == *agent);
        for (dot, item) in live {
            // What was removed by one whose log forked or was closed since comes back, and that is their fate.
            let by_others = world
                .removals
                .iter()
                .any(|removal| removal.name == (*dot, item.tag) && !world.good(removal.at.0.agent));
            // And so may what a liar removed, which can take that back: by a base, a fork, or a closing below it.
            let by_liars = world.extra.iter().chain(world.branches.iter().flat_map(|b| &b.entries));
            let by_liars = by_liars
                .filter(|entry| !world.good(entry.log.agent))
                .any(|entry| entry.names().any(|name| *name == (*dot, item.tag)));
            // Nobody is left who knew of it.
            let mut removals = world.removals.iter().filter(|removal| removal.name == (*dot, item.tag));
            if removals.any(|removal| known.get(&removal.at.0).is_none_or(|size| *size <= removal.at.1)) {
                counts.back_by_loss += 1;
                continue;
            }
            if departure.live.get(dot) != Some(item) && !by_others && !by_liars {
                // The author knew a removal that others collected, because they knew more of the agent than it did.
                if beyond {
                    counts.back_by_closing += 1;
                    continue;
                }
                return Err(format!("RETURNED (departed) {dot:?} {item:?}"));
            }
        }
        let mut ended: Set<Name> = world.extra.iter().flat_map(|e| e.names().copied()).collect();
        ended.extend(world.history.values().flatten().flat_map(|e| e.names().copied()));
        ended.extend(world.branches.iter().flat_map(|b| &b.entries).flat_map(|e| e.names().copied()));
        for (dot, item) in &departure.live {
            if state.live.get(dot) != Some(item) && !ended.contains(&(*dot, item.tag)) {
                return Err(format!("LOST (departed) {dot:?} {item:?}"));
            }
        }
    }
    Ok(())
}
