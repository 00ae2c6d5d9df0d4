//! Entries from the future: which entries count follows from the entries and the clock, not from where a copy begins or in
//! which order it came about.

use consilience_sync::{Log, LogKind, LogSet, NewEntry};

use super::succession::{State, give, pass_on, pass_on_at, settle, state};
use super::world::{Consumer, Dice, KINDS, START, keys, later, mesh, opening, seeds, set, stamp, tell};

/// Far enough ahead to wait.
const AHEAD_MS: u64 = 10 * 60 * 1_000;

fn log(kind: LogKind, agent: u8) -> Log {
    Log::new(opening(kind, agent), &mesh()).unwrap()
}

fn say(log: &mut Log, base: u64, ahead_ms: u64, name: u64) {
    let payload = name.to_le_bytes();
    let stamp = stamp(ahead_ms + log.size());
    log.append(&NewEntry { base, ..NewEntry::new(stamp, &payload) }).unwrap();
    log.sign_head(&keys(1), START).unwrap();
}

/// Equal roots are equal states.
fn check(sets: &[LogSet], at: &str) {
    let of = |set: &LogSet| {
        let mut state = state(set);
        // Of nothing it says nothing where it would begin.
        state.values_mut().filter(|(_, leaves, _)| leaves.is_empty()).for_each(|(from, ..)| *from = 0);
        state
    };
    let found: Vec<([u8; 32], State)> = sets.iter().map(|set| (set.clone().heads_root(), of(set))).collect();
    for (n, (root, one)) in found.iter().enumerate() {
        for (m, (_, other)) in found.iter().enumerate().take(n).filter(|(_, (other, _))| other == root) {
            let first = |state: &State| state.values().map(|(from, leaves, _)| (*from, leaves.len())).next();
            assert!(
                one == other,
                "{at}: {m} and {n}: {:?} and {:?} under one root",
                first(other),
                first(one)
            );
        }
    }
}

#[test]
fn an_entry_that_gives_up_one_from_the_future_counts_wherever_a_copy_begins() {
    for kind in KINDS {
        let mut source = log(kind, 1);
        say(&mut source, 0, AHEAD_MS, 0);
        say(&mut source, 1, 0, 1);
        let mut sets = [set(), set(), set()];
        give(&source, &mut sets[0], (0, 2));
        give(&source, &mut sets[1], (1, 2));
        give(&source, &mut sets[2], (0, 1));
        give(&source, &mut sets[2], (1, 2));
        for set in &sets {
            assert_eq!(set.applicable(source.id()), Some((1, 2)), "{kind:?}");
            assert_eq!(set.stats().late_bytes, 0, "nothing waits");
        }
        check(&sets, "given");
    }
}

#[test]
fn an_entry_that_waits_holds_back_those_after_it_that_need_it() {
    for kind in KINDS {
        let mut source = log(kind, 1);
        for (base, ahead) in [(0, 0), (0, AHEAD_MS), (1, 0), (2, 0)] {
            say(&mut source, base, ahead, ahead + base);
        }
        let mut to = set();
        give(&source, &mut to, (0, 3));
        assert_eq!(to.applicable(source.id()), Some((0, 1)));
        give(&source, &mut to, (3, 4));
        assert_eq!(to.applicable(source.id()), Some((2, 4)), "the last gives up the one that waits");
    }
}

/// Any stamps and bases, forks, parts of any kind, and time that passes.
#[test]
fn random_stamps_and_bases_have_one_state_for_one_root() {
    seeds(600, |seed| {
        let mut dice = Dice::new(seed);
        let kind = KINDS[dice.index(2)];
        let mut logs: Vec<Log> = vec![log(kind, 1)];
        let mut sets: Vec<LogSet> = (0..3).map(|_| set()).collect();
        let mut consumers: Vec<Consumer> = (0..3).map(|_| Consumer::default()).collect();
        for step in 0..60 {
            let (which, to) = (dice.index(logs.len()), dice.index(3));
            match dice.roll(16) {
                0..=5 => {
                    let size = logs[which].size();
                    let base = if dice.one_in(3) { dice.roll(size + 1) } else { 0 };
                    let ahead = if dice.one_in(3) { AHEAD_MS * (1 + dice.roll(3)) } else { 0 };
                    let base = base.max(logs[which].base());
                    say(&mut logs[which], base, ahead, dice.roll(1 << 30));
                }
                6..=10 if logs[which].size() > 0 => {
                    let first = if dice.one_in(2) { 0 } else { dice.roll(logs[which].size()) };
                    let end = first + 1 + dice.roll(logs[which].size() - first);
                    give(&logs[which], &mut sets[to], (first, end));
                }
                11 if dice.one_in(6) && logs.len() < 3 => {
                    let copy = logs[which].clone();
                    logs.push(copy);
                }
                12 => settle(&mut sets, &mut consumers),
                _ => {
                    let from = dice.index(3);
                    if from != to {
                        let from = sets[from].clone();
                        let ranges = if dice.one_in(2) { 1 + dice.index(3) } else { usize::MAX };
                        pass_on(&from, &mut sets[to], ranges, [40, 1 << 16][dice.index(2)]);
                    }
                }
            }
            check(&sets, &format!("seed {seed}, step {step}"));
        }
        for round in 0..8 {
            let now = later(AHEAD_MS * round);
            for set in &mut sets {
                set.handle_timeout(now);
            }
            settle(&mut sets, &mut consumers);
            check(&sets, &format!("seed {seed}, round {round}"));
            for (from, to) in [(0, 1), (1, 2), (2, 0), (0, 2), (2, 1), (1, 0)] {
                let giver = sets[from].clone();
                pass_on_at(&giver, &mut sets[to], usize::MAX, 1 << 16, now);
                // Of a forked log the two look for the first difference.
                giver.logs().for_each(|log| tell(&giver, &mut sets[to], log.id(), now));
                check(&sets, &format!("seed {seed}, round {round}, {from} to {to}"));
            }
        }
        let roots: Vec<[u8; 32]> = sets.iter_mut().map(LogSet::heads_root).collect();
        assert!(roots.iter().all(|root| *root == roots[0]), "seed {seed}: they do not become equal");
        check(&sets, &format!("seed {seed}, in the end"));
    });
}
