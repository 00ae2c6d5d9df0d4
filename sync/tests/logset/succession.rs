//! Logs that follow one another: sets with one root hold the same entries that count, whatever an agent signs, in whatever
//! order and in whatever parts it comes; and sets that exchange all they have come to one root.

use std::collections::BTreeMap;

use consilience_sync::{
    Admission, Answer, Closure, Hash, Have, Incarnation, Log, LogId, LogKind, LogOpening, LogSet, NewEntry,
    RangeForm, ReceiveError, SetError, Timestamp, Want,
};

use super::world::{Consumer, Dice, START, evidence_of, keys, mesh, opening_in, rich, seeds, set, stamp};

fn opening(incarnation: u64) -> LogOpening {
    opening_in("team", LogKind::State, 1, incarnation)
}

/// A log in the hands of its writer, who may sign anything.
fn log(incarnation: u64) -> Log {
    Log::new(opening(incarnation), &mesh()).unwrap()
}

/// Appends an entry that closes others, and signs it.
fn say(log: &mut Log, base: u64, closures: &[(u64, u64)], last_final: Option<u64>, name: u64) {
    let closures = closures.iter().map(|(incarnation, below)| Closure {
        incarnation: Incarnation::from_u64(*incarnation),
        below: *below,
    });
    let closures: Vec<Closure> = closures.collect();
    let payload = name.to_le_bytes();
    let entry = NewEntry {
        base,
        closures: &closures,
        last_final: last_final.map(Incarnation::from_u64),
        ..NewEntry::new(stamp(log.size()), &payload)
    };
    log.append(&entry).unwrap();
    log.sign_head(&keys(1), START).unwrap();
}

/// Gives the entries of a log from a number on, up to another one.
pub(super) fn give(from: &Log, to: &mut LogSet, (first, end): (u64, u64)) {
    if to.open(from.opening(), |_| Admission::Hold).is_err() {
        return;
    }
    let form = if first == 0 { RangeForm::Follow } else { RangeForm::Alone };
    let range = from.range(first, end, form, usize::MAX);
    if let Some((bytes, _)) = range {
        // A part that is of no use, or has come before.
        let _ = to.receive(from.id(), &bytes, START, &mut rich());
    }
}

fn give_all(from: &Log, to: &mut LogSet) {
    give(from, to, (from.base(), from.size()));
}

/// Hands on what counts, at most so many ranges of at most so many bytes.
pub(super) fn pass_on(from: &LogSet, to: &mut LogSet, ranges: usize, bytes_max: usize) {
    pass_on_at(from, to, ranges, bytes_max, START);
}

pub(super) fn pass_on_at(
    from: &LogSet,
    to: &mut LogSet,
    mut ranges: usize,
    bytes_max: usize,
    now: Timestamp,
) {
    let logs: Vec<LogId> = from.logs().map(|log| *log.id()).collect();
    for id in logs {
        for evidence in evidence_of(from, &id) {
            let _ = to.receive_evidence(&evidence, now, &mut rich(), |_| Admission::Hold);
        }
        let Some(offer) = from.offer(&id).filter(|offer| offer.size > 0) else { continue };
        if to.open(from.log(&id).unwrap().opening(), |_| Admission::Hold).is_err() {
            continue;
        }
        let have = Have { start: offer.start, size: offer.size, base: from.have(&id).unwrap().base };
        let mut alone = false;
        while let Some(want) = to.want(&id, &have) {
            if ranges == 0 {
                return;
            }
            ranges -= 1;
            let want = Want { form: if alone { RangeForm::Alone } else { want.form }, ..want };
            let Answer::Range { bytes, .. } = from.answer(&id, &want, bytes_max) else { break };
            match to.receive(&id, &bytes, now, &mut rich()) {
                Ok(consilience_sync::Received::Nothing) => break,
                Ok(_) => {}
                Err(SetError::Receive(ReceiveError::Unproven)) if !alone => alone = true,
                Err(_) => break,
            }
        }
        // Copies of one size may differ.
        let proof = Want { from: offer.size, to: offer.size, form: RangeForm::Alone };
        if let Answer::Range { bytes, .. } = from.answer(&id, &proof, bytes_max) {
            let _ = to.receive(&id, &bytes, now, &mut rich());
        }
    }
}

/// All that has a meaning: the entries that count, and the evidence.
pub(super) type State = BTreeMap<LogId, (u64, Vec<Hash>, Vec<Vec<u8>>)>;

pub(super) fn state(set: &LogSet) -> State {
    let logs = set.logs().map(|log| {
        let (from, to) = set.applicable(log.id()).unwrap();
        let leaves: Vec<Hash> = (from..to).map(|seq| log.leaf(seq).unwrap()).collect();
        let evidence = if is_over(set, log) { Vec::new() } else { evidence_of(set, log.id()) };
        (*log.id(), (from, leaves, evidence))
    });
    logs.filter(|(_, (_, leaves, evidence))| !leaves.is_empty() || !evidence.is_empty()).collect()
}

/// Whether a later log of the agent is forked, or one that counts names a later one as the first that is not over.
fn is_over(set: &LogSet, log: &Log) -> bool {
    let incarnation = log.opening().incarnation;
    set.logs().filter(|other| other.opening().incarnation > incarnation).any(|later| {
        let counts = set.applicable(later.id()).is_some_and(|(from, to)| from < to);
        set.evidence(later.id()).is_some() || counts && set.last_final(later.id()) > Some(incarnation)
    })
}

/// The root says all there is to say.
fn check(sets: &[LogSet], at: &str) {
    let found: Vec<([u8; 32], State)> =
        sets.iter().map(|set| (set.clone().heads_root(), state(set))).collect();
    for (n, (root, one)) in found.iter().enumerate() {
        for (m, (other_root, other)) in found.iter().enumerate().take(n) {
            // A set that has been told of evidence of a dead log forgets it with the next change that is polled.
            assert_eq!(root == other_root, one == other, "{at}: {m} and {n}: one root, one state");
        }
    }
}

pub(super) fn settle(sets: &mut [LogSet], consumers: &mut [Consumer]) {
    for (set, consumer) in sets.iter_mut().zip(consumers) {
        consumer.follow(set);
        consumer.check(set);
    }
}

#[test]
fn a_statement_that_is_taken_back_leaves_nobody_with_a_part() {
    // The second log closes the first, and takes that back by a base that passes the statement.
    let (mut first, mut second) = (log(1), log(2));
    for name in 0..4 {
        say(&mut first, 0, &[], None, name);
    }
    say(&mut second, 0, &[(1, 3)], None, 10);
    let (mut whole, mut part) = (set(), set());
    give_all(&first, &mut whole);
    give_all(&second, &mut whole);
    // The other has the closing log, and of the first only the tail that the closure left open.
    give_all(&second, &mut part);
    give(&first, &mut part, (3, 4));
    say(&mut second, 1, &[], None, 11);
    for set in [&mut whole, &mut part] {
        give(&second, set, (1, 2));
        while set.poll_change().is_some() {}
    }
    let (sets, mut newcomer) = ([whole, part], set());
    check(&sets, "after the statement was taken back");
    let [mut whole, mut part] = sets;
    for _ in 0..3 {
        pass_on(&whole, &mut part, usize::MAX, 1 << 16);
        pass_on(&part, &mut newcomer, usize::MAX, 1 << 16);
        pass_on(&part, &mut whole, usize::MAX, 1 << 16);
        for set in [&mut whole, &mut part, &mut newcomer] {
            while set.poll_change().is_some() {}
        }
    }
    assert_eq!(whole.heads_root(), part.heads_root());
    assert_eq!(state(&whole), state(&part));
    assert_eq!(state(&newcomer), state(&part));
    let id = *first.id();
    assert_eq!(whole.applicable(&id), Some((0, 4)), "nothing is lost by it");
}

#[test]
fn a_closed_log_is_dropped_and_comes_back_whole_if_more_of_it_turns_up() {
    let (mut first, mut second) = (log(1), log(2));
    for name in 0..3 {
        say(&mut first, 0, &[], None, name);
    }
    let mut set = set();
    give_all(&first, &mut set);
    say(&mut second, 0, &[(1, 3)], None, 10);
    give_all(&second, &mut set);
    while set.poll_change().is_some() {}
    assert!(set.log(first.id()).is_none(), "nobody needs it");
    assert_eq!(set.stats().logs, 1);
    // What the closure covers is not taken again, and a later part alone is not held.
    give(&first, &mut set, (0, 3));
    while set.poll_change().is_some() {}
    assert_eq!(set.applicable(first.id()).unwrap_or_default(), (0, 0));
    say(&mut first, 0, &[], None, 3);
    give(&first, &mut set, (3, 4));
    assert_eq!(set.applicable(first.id()), Some((0, 0)));
    give_all(&first, &mut set);
    assert_eq!(set.applicable(first.id()), Some((0, 4)));
}

#[test]
fn logs_below_a_fork_and_below_a_final_incarnation_are_dead() {
    let mut logs = [log(1), log(2), log(3)];
    logs.iter_mut().for_each(|log| say(log, 0, &[], None, 1));
    let mut ended = set();
    logs.iter().for_each(|log| give_all(log, &mut ended));
    let [_, second, third] = &mut logs;
    say(third, 0, &[], Some(2), 2);
    give_all(third, &mut ended);
    while ended.poll_change().is_some() {}
    let counting: Vec<u64> = ended.logs().map(|log| log.opening().incarnation.as_u64()).collect();
    let mut sorted = counting.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [2, 3]);
    // The second one forks: it and all before it are over, the third stays.
    let mut other = second.clone();
    say(second, 0, &[], None, 3);
    say(&mut other, 0, &[], None, 4);
    give_all(second, &mut ended);
    give_all(&other, &mut ended);
    while ended.poll_change().is_some() {}
    assert!(ended.evidence(second.id()).is_some());
    assert_eq!(ended.applicable(second.id()), Some((0, 0)));
    assert_eq!(ended.applicable(third.id()), Some((0, 2)));
    assert!(ended.open(&opening(1), |_| Admission::Hold).is_err(), "nothing of it will ever count");
    // Evidence of what a final incarnation has ended is not kept either.
    say(third, 0, &[], Some(3), 5);
    give_all(third, &mut ended);
    while ended.poll_change().is_some() {}
    assert_eq!(ended.stats().logs, 1);
}

#[test]
fn random_histories_of_a_lying_agent_have_one_state_for_one_root() {
    seeds(300, |seed| {
        let mut dice = Dice::new(seed);
        let mut logs: Vec<Log> = (1..=4).map(log).collect();
        let mut sets: Vec<LogSet> = (0..4).map(|_| set()).collect();
        let mut consumers: Vec<Consumer> = (0..4).map(|_| Consumer::default()).collect();
        for step in 0..60 {
            let (which, to) = (dice.index(logs.len()), dice.index(4));
            match dice.roll(16) {
                0..=4 => {
                    let size = logs[which].size();
                    let own = logs[which].opening().incarnation.as_u64();
                    let base = if dice.one_in(4) { dice.roll(size + 1) } else { 0 };
                    let base = base.max(logs[which].base());
                    let mut closures = Vec::new();
                    for lower in 1..own {
                        if dice.one_in(3) {
                            closures.push((lower, 1 + dice.roll(6)));
                        }
                    }
                    let last_final = dice.one_in(12).then(|| 1 + dice.roll(own));
                    say(&mut logs[which], base, &closures, last_final, dice.roll(1 << 30));
                }
                5..=8 if logs[which].size() > 0 => {
                    let first = if dice.one_in(2) { 0 } else { dice.roll(logs[which].size()) };
                    let end = first + 1 + dice.roll(logs[which].size() - first);
                    give(&logs[which], &mut sets[to], (first, end));
                }
                9 if dice.one_in(4) && logs.len() < 6 => {
                    let copy = logs[which].clone();
                    logs.push(copy);
                }
                10 => settle(&mut sets, &mut consumers),
                _ => {
                    let from = dice.index(4);
                    if from != to {
                        let from = sets[from].clone();
                        let ranges = if dice.one_in(2) { 1 + dice.index(3) } else { usize::MAX };
                        pass_on(&from, &mut sets[to], ranges, [40, 1 << 16][dice.index(2)]);
                    }
                }
            }
            check(&sets, &format!("seed {seed}, step {step}"));
        }
        settle(&mut sets, &mut consumers);
        for _ in 0..12 {
            for from in 0..4 {
                for to in 0..4 {
                    if from != to {
                        let giver = sets[from].clone();
                        pass_on(&giver, &mut sets[to], usize::MAX, 1 << 16);
                    }
                }
                settle(&mut sets, &mut consumers);
            }
        }
        check(&sets, &format!("seed {seed}, in the end"));
        let roots: Vec<[u8; 32]> = sets.iter_mut().map(LogSet::heads_root).collect();
        assert!(roots.iter().all(|root| *root == roots[0]), "seed {seed}: they do not become equal");
    });
}

#[test]
fn a_writer_repeats_the_statements_that_its_base_gives_up_and_no_others() {
    // What entries 0 to 2 say; the base of the fourth; what that repeats of it.
    type Said<'a> = (&'a [(u64, u64)], Option<u64>);
    let none: Said<'_> = (&[], None);
    let cases: [([Said<'_>; 3], u64, Said<'_>); 11] = [
        ([(&[(1, 3)], None), (&[(1, 5), (2, 4)], None), (&[(1, 4)], None)], 2, (&[(1, 5), (2, 4)], None)),
        ([(&[(1, 3)], None), (&[(1, 5), (2, 4)], None), (&[(1, 4)], None)], 1, none),
        ([(&[(1, 3)], None), none, none], 0, none),
        ([(&[(1, 3)], None), none, none], 1, (&[(1, 3)], None)),
        ([none, (&[(1, 3)], None), none], 1, none),
        ([(&[(1, 3)], None), none, (&[(1, 3)], None)], 2, none),
        ([(&[], Some(2)), (&[], Some(4)), (&[], Some(3))], 2, (&[], Some(4))),
        ([(&[], Some(2)), (&[], Some(4)), (&[], Some(3))], 1, none),
        ([(&[], Some(4)), none, (&[], Some(4))], 2, none),
        // Of logs that are over by it no closure is repeated.
        ([(&[(3, 1), (4, 1)], None), (&[], Some(4)), none], 2, (&[(4, 1)], Some(4))),
        ([(&[(3, 1), (4, 1)], None), none, (&[], Some(4))], 1, (&[(4, 1)], None)),
    ];
    for (said, base, repeated) in cases {
        let mut owner = set();
        let log = owner.open_local(&opening(9)).unwrap();
        let closures = |said: Said<'_>| -> Vec<Closure> {
            let closure = |(incarnation, below): &(u64, u64)| Closure {
                incarnation: Incarnation::from_u64(*incarnation),
                below: *below,
            };
            said.0.iter().map(closure).collect()
        };
        for (seq, said) in (0..).zip(said) {
            let (closures, last_final) = (closures(said), said.1.map(Incarnation::from_u64));
            let entry = NewEntry { closures: &closures, last_final, ..NewEntry::new(stamp(seq), b"") };
            owner.append(&log, &entry).unwrap();
            let held = owner.log(&log).unwrap().entry(seq).unwrap();
            assert!(held.closures().eq(closures.iter().copied()) && held.last_final() == last_final);
            owner.sign_head(&log, &keys(1), START).unwrap();
        }
        owner.append(&log, &NewEntry { base, ..NewEntry::new(stamp(3), b"") }).unwrap();
        let entry = owner.log(&log).unwrap().entry(3).unwrap();
        assert_eq!(entry.closures().collect::<Vec<_>>(), closures(repeated), "{said:?} from {base}");
        assert_eq!(entry.last_final(), repeated.1.map(Incarnation::from_u64), "{said:?} from {base}");
    }
}

#[test]
fn the_statements_of_a_log_are_the_greatest_of_its_applicable_entries() {
    seeds(300, |seed| {
        let mut dice = Dice::new(seed);
        let (mut own, mut to) = (log(9), set());
        let mut given = 0;
        for step in 0..30 {
            let raised = if dice.one_in(3) { dice.roll(own.size() - own.base() + 1) } else { 0 };
            let mut closures = vec![(1, 1 + dice.roll(6)), (2, 1 + dice.roll(6)), (3, 1 + dice.roll(6))];
            closures.retain(|_| dice.one_in(3));
            let last_final = dice.one_in(5).then(|| 1 + dice.roll(5));
            let base = own.base() + raised;
            say(&mut own, base, &closures, last_final, step);
            if dice.one_in(2) {
                let from = if own.base() > given || dice.one_in(4) { own.base() } else { given };
                give(&own, &mut to, (from, own.size()));
                given = own.size();
            }
            while dice.one_in(2) && to.poll_change().is_some() {}
            let Some((from, end)) = to.applicable(own.id()) else { continue };
            let (mut expected, mut over) = (BTreeMap::new(), None);
            for entry in to.log(own.id()).unwrap().entries(from, end) {
                for closure in entry.closures() {
                    let below: &mut u64 = expected.entry(closure.incarnation).or_default();
                    *below = closure.below.max(*below);
                }
                over = entry.last_final().max(over);
            }
            assert!(to.closures(own.id()).eq(expected.clone()), "seed {seed}, step {step}");
            assert_eq!(to.last_final(own.id()), over, "seed {seed}, step {step}");
            for incarnation in (1..5).map(Incarnation::from_u64) {
                let below = expected.get(&incarnation).copied().unwrap_or(0);
                assert_eq!(to.closed_below(own.id(), incarnation), below);
            }
        }
    });
}

#[test]
fn work_that_an_agent_causes_is_paid_by_the_bytes_of_its_logs_and_a_little_is_free() {
    const AHEAD: u64 = 1 << 16;
    for (more, refused) in [(0, false), (1, true)] {
        let (mut own, mut to) = (log(9), set());
        (0..4).for_each(|step| say(&mut own, 0, &[], None, step));
        to.open(own.opening(), |_| Admission::Hold).unwrap();
        let parts: Vec<Vec<u8>> = [(0, 1), (1, 2), (2, 3)]
            .map(|(from, end)| own.range(from, end, RangeForm::Follow, usize::MAX).unwrap().0)
            .into();
        let mut budget = rich();
        let mut take = |to: &mut LogSet, part: usize| to.receive(own.id(), &parts[part], START, &mut budget);
        take(&mut to, 0).unwrap();
        let paid = parts[0].len() + parts[1].len();
        to.charge(&own.opening().agent, &own.opening().topic, AHEAD + paid as u64 + more);
        let taken = take(&mut to, 1);
        assert_eq!(taken.is_err(), refused, "{taken:?}");
        if refused {
            assert_eq!(taken, Err(SetError::Receive(ReceiveError::TooMuchWork)));
            // Further bytes have paid.
            take(&mut to, 1).unwrap();
        }
        take(&mut to, 2).unwrap();
        assert_eq!(to.log(own.id()).unwrap().size(), 3);
    }
}

#[test]
fn a_log_ends_those_below_an_incarnation_and_not_that_one() {
    let (mut own, mut to) = (log(9), set());
    say(&mut own, 0, &[(6, 3)], Some(4), 0);
    give_all(&own, &mut to);
    assert!(to.open(&opening(3), |_| Admission::Hold).is_err());
    let (at, later) = (log(4).id().to_owned(), log(6).id().to_owned());
    assert_eq!(to.open(&opening(4), |_| Admission::Hold), Ok(at));
    assert_eq!(to.open(&opening(6), |_| Admission::Hold), Ok(later));
    let earlier = |set: &LogSet, log: &LogId| set.earlier(log).map(|log| *log.id()).collect::<Vec<_>>();
    assert_eq!(earlier(&to, own.id()), [at, later]);
    assert_eq!(earlier(&to, &at), []);
}
