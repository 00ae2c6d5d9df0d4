//! Branches of one log, handed to replicas in every order.
//!
//! The invariant that all of it is held against: once everybody has been told everything, the verdict, the bytes that
//! show it and the entries that count are the same at every replica.

use std::collections::BTreeMap;

use consilience_sync::{
    Admission, Answer, Change, Have, KeepError, LogId, LogKind, LogSet, Received, SearchStep, SetError,
    Timestamp,
};

use crate::world::{
    Consumer, Dice, KINDS, Replica, START, WHOLE, alone, append, append_based, converge, evidence_of, follow,
    head_proof, holder, keys, meaning, opening, payloads, permutations, range, receive, rich, search, seeds,
    set, tell, tell_evidence, write, writer,
};

/// A branch: how far it goes beyond what is shared, and the base that its last entry raises.
#[derive(Clone, Copy, Debug)]
struct Branch {
    size: u64,
    base: u64,
}

/// What is shared, the base that its last entry raises, and the branches.
#[derive(Clone, Copy, Debug)]
struct Shape<'a> {
    shared: u64,
    base: u64,
    branches: &'a [Branch],
}

const fn branch(size: u64, base: u64) -> Branch {
    Branch { size, base }
}

/// The branches, each as its writer's clone has it.
fn grow(kind: LogKind, shape: &Shape<'_>) -> (LogId, Vec<LogSet>) {
    let (mut trunk, log) = writer(&opening(kind, 1));
    fill(&mut trunk, &log, "shared", branch(shape.shared, shape.base));
    let branches = shape.branches.iter().zip(["a", "b", "c"]).map(|(branch, name)| {
        let mut clone = trunk.clone();
        fill(&mut clone, &log, name, *branch);
        clone
    });
    (log, branches.collect())
}

fn fill(set: &mut LogSet, log: &LogId, name: &str, to: Branch) {
    for seq in set.log(log).unwrap().size()..to.size {
        let base = set.log(log).unwrap().base();
        let base = if seq + 1 == to.size { base.max(to.base) } else { base };
        append_based(set, log, format!("{name}{seq}").as_bytes(), base, START);
    }
    if to.size > 0 {
        set.sign_head(log, &keys(1), START).unwrap();
    }
}

/// Somebody else's copy of all that a set holds. Told to nobody, so nothing of it is dropped.
fn copy(kind: LogKind, of: &LogSet, log: &LogId) -> LogSet {
    let mut copy = holder(&[&opening(kind, 1)]);
    tell(of, &mut copy, log, START);
    copy
}

/// A copy whose consumer has followed, without what is below the base.
fn pruned(kind: LogKind, of: &LogSet, log: &LogId) -> Replica {
    let mut copy = full(kind, of, log);
    copy.follow();
    copy
}

/// A copy whose consumer has not been told anything.
fn full(kind: LogKind, of: &LogSet, log: &LogId) -> Replica {
    Replica::new(copy(kind, of, log))
}

/// Something that a replica may be handed.
#[derive(Clone, Debug)]
enum Message {
    Range(Vec<u8>),
    Evidence(Vec<u8>),
}

fn hand(replica: &mut Replica, log: &LogId, message: &Message) {
    match message {
        Message::Range(bytes) => drop(replica.set.receive(log, bytes, START, &mut rich())),
        Message::Evidence(bytes) => {
            replica.set.receive_evidence(bytes, START, &mut rich(), |_| Admission::Hold).unwrap();
        }
    }
    replica.follow();
}

/// What a holder can say in `parts` pieces, the first of which stands alone.
fn messages(from: &Replica, log: &LogId, parts: u64) -> Vec<Message> {
    let Have { start, size, .. } = from.set.have(log).unwrap();
    let at = |part: u64| start + (size - start) * part / parts;
    let range = |part: u64| Message::Range(range(&from.set, log, alone(at(part), at(part + 1))));
    (0..parts).map(range).collect()
}

/// The evidence that two holders make of each other, if they do.
fn evidence(one: &LogSet, other: &LogSet, log: &LogId) -> Option<Message> {
    let mut one = one.clone();
    tell(other, &mut one, log, START);
    one.evidence(log).map(|found| Message::Evidence(found.as_bytes().to_vec()))
}

/// Hands the messages to replicas in all orders, five replicas at a time; then everybody is told everything, the
/// holders included. Gives the one verdict of all.
fn in_all_orders(kind: LogKind, log: &LogId, holders: &[Replica], messages: &[Message]) -> bool {
    let verdicts = verdicts_in_all_orders(kind, log, holders, messages);
    assert_eq!(verdicts.len(), 1, "the verdict depends on the order");
    verdicts[0]
}

/// The verdicts of all orders, without repetitions in a row. Within an order all replicas are alike.
fn verdicts_in_all_orders(
    kind: LogKind,
    log: &LogId,
    holders: &[Replica],
    messages: &[Message],
) -> Vec<bool> {
    let mut verdicts = Vec::new();
    for orders in permutations(messages.len()).chunks(5) {
        let mut replicas: Vec<Replica> = orders
            .iter()
            .map(|order| {
                let mut replica = Replica::new(holder(&[&opening(kind, 1)]));
                order.iter().for_each(|message| hand(&mut replica, log, &messages[*message]));
                replica
            })
            .collect();
        verdicts.push(all_alike(log, &mut replicas, holders, &format!("{orders:?}")));
    }
    verdicts.dedup();
    verdicts
}

/// Evidence is gossiped and settles; then everybody is told everything, and all are alike.
fn all_alike(log: &LogId, replicas: &mut Vec<Replica>, holders: &[Replica], orders: &str) -> bool {
    for _ in 0..2 {
        for from in 0..replicas.len() {
            let source = replicas[from].set.clone();
            replicas.iter_mut().for_each(|to| tell_evidence(&source, &mut to.set, log, START));
        }
    }
    let gossiped: Vec<_> = replicas.iter().map(|replica| meaning(&replica.set, log).evidence).collect();
    assert!(gossiped.iter().all(|evidence| *evidence == gossiped[0]), "gossip settles: {orders}");
    replicas.iter_mut().for_each(Replica::follow);

    replicas.extend(holders.iter().cloned());
    converge(replicas, log, START);
    let meanings: Vec<_> = replicas.iter().map(|replica| meaning(&replica.set, log)).collect();
    for (number, there) in meanings.iter().enumerate() {
        assert_eq!(*there, meanings[0], "replica {number} of {orders}");
    }
    meanings[0].evidence.is_some()
}

/// Fork at 12, with the bases of both branches before, at and behind it; all comparable.
const COMPARABLE: [[Branch; 2]; 6] = [
    [branch(15, 0), branch(17, 0)],
    [branch(15, 4), branch(17, 9)],
    [branch(15, 12), branch(15, 12)],
    [branch(16, 9), branch(18, 12)],
    [branch(18, 0), branch(18, 14)],
    [branch(20, 15), branch(19, 14)],
];

#[test]
fn two_branches_of_a_state_log_are_void_at_every_replica_in_all_orders() {
    for branches in &COMPARABLE {
        let (log, sets) = grow(LogKind::State, &Shape { shared: 12, base: 2, branches });
        let holders: Vec<_> = sets.iter().map(|set| full(LogKind::State, set, &log)).collect();
        let mut all: Vec<_> = holders.iter().flat_map(|set| messages(set, &log, 2)).collect();
        all.extend(evidence(&holders[0].set, &holders[1].set, &log));
        assert!(in_all_orders(LogKind::State, &log, &holders, &all), "{branches:?}");
    }
}

#[test]
fn two_branches_of_an_event_log_count_below_the_first_difference_at_every_replica_in_all_orders() {
    for branches in [[branch(15, 0), branch(17, 0)], [branch(15, 1), branch(13, 2)]] {
        let (log, sets) = grow(LogKind::Event, &Shape { shared: 12, base: 2, branches: &branches });
        let holders: Vec<_> = sets.iter().map(|set| full(LogKind::Event, set, &log)).collect();
        let mut all: Vec<_> = holders.iter().flat_map(|set| messages(set, &log, 2)).collect();
        all.extend(evidence(&holders[0].set, &holders[1].set, &log));
        assert!(in_all_orders(LogKind::Event, &log, &holders, &all), "{branches:?}");
        // The search finds the first entry that differs.
        let mut replicas = holders.clone();
        converge(&mut replicas, &log, START);
        let seqs: Vec<u64> = payloads(&replicas[0].set, &log).into_keys().collect();
        assert_eq!(seqs, (2..12).collect::<Vec<_>>());
    }
}

#[test]
fn events_before_the_fork_count_although_a_branch_pruned_them_behind_it() {
    for branches in [[branch(16, 0), branch(18, 11)], [branch(20, 15), branch(19, 0)]] {
        let (log, sets) = grow(LogKind::Event, &Shape { shared: 12, base: 0, branches: &branches });
        let holders: Vec<_> = sets.iter().map(|set| full(LogKind::Event, set, &log)).collect();
        let all: Vec<_> = holders.iter().flat_map(|set| messages(set, &log, 2)).collect();
        assert!(in_all_orders(LogKind::Event, &log, &holders, &all), "{branches:?}");
    }
}

#[test]
fn heads_alone_and_ranges_in_any_order_lead_to_one_verdict() {
    for kind in KINDS {
        let branches = [branch(7, 0), branch(9, 0)];
        let (log, sets) = grow(kind, &Shape { shared: 5, base: 0, branches: &branches });
        let holders: Vec<_> = sets.iter().map(|set| full(kind, set, &log)).collect();
        let mut all: Vec<_> = holders.iter().flat_map(|set| messages(set, &log, 1)).collect();
        all.extend(holders.iter().map(|held| Message::Range(head_proof(&held.set, &log).unwrap())));
        all.extend(evidence(&holders[0].set, &holders[1].set, &log));
        assert!(in_all_orders(kind, &log, &holders, &all), "{kind:?}");
    }
}

#[test]
fn three_branches_end_in_one_verdict_in_all_orders() {
    for kind in KINDS {
        let branches = [branch(15, 0), branch(17, 0), branch(19, 0)];
        let (log, sets) = grow(kind, &Shape { shared: 12, base: 2, branches: &branches });
        let holders: Vec<_> = sets.iter().map(|set| full(kind, set, &log)).collect();
        let mut all: Vec<_> = holders.iter().flat_map(|set| messages(set, &log, 1)).collect();
        all.extend(evidence(&holders[0].set, &holders[1].set, &log));
        all.extend(evidence(&holders[1].set, &holders[2].set, &log));
        assert!(in_all_orders(kind, &log, &holders, &all), "{kind:?}");
    }
}

#[test]
fn a_longer_branch_with_its_base_above_the_other_replaces_it_in_all_orders() {
    for kind in KINDS {
        let branches = [branch(12, 0), branch(26, 22)];
        let (log, sets) = grow(kind, &Shape { shared: 10, base: 0, branches: &branches });
        let holders = [full(kind, &sets[0], &log), pruned(kind, &sets[1], &log)];
        assert_eq!(holders[1].set.log(&log).unwrap().start(), 22);
        // Nobody holds both histories at one size, so nobody can show a fork.
        let all: Vec<_> = [messages(&holders[0], &log, 3), messages(&holders[1], &log, 2)].concat();
        assert!(!in_all_orders(kind, &log, &holders, &all), "{kind:?}");
        let mut one = holders[0].clone();
        one.follow();
        tell(&holders[1].set, &mut one.set, &log, START);
        one.follow();
        assert!(one.consumer.told.contains(&Change::Replaced { log, from: 22 }), "{:?}", one.consumer.told);
        assert_eq!(payloads(&one.set, &log).into_keys().collect::<Vec<_>>(), [22, 23, 24, 25]);
    }
}

#[test]
fn a_jump_that_some_can_compare_and_others_cannot_ends_alike_in_each_order() {
    let kind = LogKind::State;
    let branches = [branch(12, 0), branch(26, 22)];
    let (log, sets) = grow(kind, &Shape { shared: 10, base: 0, branches: &branches });
    let holders = [full(kind, &sets[0], &log), pruned(kind, &sets[1], &log), full(kind, &sets[1], &log)];
    let all: Vec<_> = [messages(&holders[0], &log, 2), messages(&holders[1], &log, 2)].concat();
    // Which verdict it is depends on who meets whom before the older branch is replaced.
    assert!(!verdicts_in_all_orders(kind, &log, &holders, &all).is_empty());
}

#[test]
fn random_deliveries_of_random_branches_end_alike() {
    seeds(150, |seed| {
        let mut dice = Dice::new(seed);
        let kind = LogKind::State;
        let shared = dice.roll(30);
        let base = dice.roll(shared.max(1));
        let branches: Vec<Branch> = (0..2 + dice.roll(2))
            .map(|_| {
                let size = shared + 1 + dice.roll(40);
                branch(size, dice.roll(size))
            })
            .collect();
        let (log, sets) = grow(kind, &Shape { shared, base, branches: &branches });
        let mut holders = Vec::new();
        for set in &sets {
            let make = if dice.one_in(2) { full } else { pruned };
            holders.push(make(kind, set, &log));
        }
        let mut all = Vec::new();
        for held in &holders {
            let parts = 1 + dice.roll(5);
            all.extend(messages(held, &log, parts));
            let Have { start, size, .. } = held.set.have(&log).unwrap();
            for _ in 0..dice.roll(4) {
                let from = start + dice.roll(size - start);
                let to = from + dice.roll(size - from + 1);
                let want = if dice.one_in(2) && from > start { follow(from, to) } else { alone(from, to) };
                all.push(Message::Range(range(&held.set, &log, want)));
            }
        }
        for (one, other) in [(0, 1), (1, 0)] {
            all.extend(evidence(&holders[one].set, &holders[other].set, &log));
        }
        let mut replicas = Vec::new();
        for _ in 0..5 {
            let mut replica = Replica::new(holder(&[&opening(kind, 1)]));
            // Some are lost, some come twice.
            for _ in 0..dice.roll(2 * all.len() as u64) {
                hand(&mut replica, &log, &all[dice.index(all.len())]);
            }
            replicas.push(replica);
        }
        all_alike(&log, &mut replicas, &holders, &format!("{branches:?} behind {shared}"));
    });
}

#[test]
fn random_deliveries_of_random_branches_of_events_end_alike() {
    seeds(100, |seed| {
        let mut dice = Dice::new(seed);
        let kind = LogKind::Event;
        let shared = dice.roll(30);
        let base = dice.roll(shared.max(1));
        let branches: Vec<Branch> =
            (0..2 + dice.roll(2)).map(|_| branch(shared + 1 + dice.roll(40), 0)).collect();
        let (log, sets) = grow(kind, &Shape { shared, base, branches: &branches });
        let holders: Vec<_> = sets.iter().map(|set| full(kind, set, &log)).collect();
        let mut all = Vec::new();
        for held in &holders {
            let parts = 1 + dice.roll(5);
            all.extend(messages(held, &log, parts));
        }
        all.extend(evidence(&holders[0].set, &holders[1].set, &log));
        let mut replicas = Vec::new();
        for _ in 0..5 {
            let mut replica = Replica::new(holder(&[&opening(kind, 1)]));
            for _ in 0..dice.roll(2 * all.len() as u64) {
                hand(&mut replica, &log, &all[dice.index(all.len())]);
            }
            replicas.push(replica);
        }
        assert!(all_alike(&log, &mut replicas, &holders, &format!("{branches:?} behind {shared}")));
    });
}

#[test]
fn a_copy_that_was_pruned_behind_the_fork_says_what_its_consumer_was_told() {
    // Seven entries below the base are kept for a while, and the cut takes the base back.
    let branches = [branch(16, 7), branch(17, 0)];
    let (log, sets) = grow(LogKind::Event, &Shape { shared: 12, base: 0, branches: &branches });
    let mut one = Replica::new(copy(LogKind::Event, &sets[0], &log));
    one.follow();
    tell(&sets[1], &mut one.set, &log, START);
    assert_eq!(one.set.evidence(&log).unwrap().valid_below(), 12);
    one.follow();
}

#[test]
fn the_first_difference_is_found_in_few_questions() {
    let branches = [branch(5_000, 0), branch(6_000, 0)];
    let (log, sets) = grow(LogKind::Event, &Shape { shared: 1_234, base: 0, branches: &branches });
    let [mut one, other] = [copy(LogKind::Event, &sets[0], &log), copy(LogKind::Event, &sets[1], &log)];
    let proof = head_proof(&one, &log).unwrap();
    assert!(receive(&mut one, &log, &proof).is_ok());
    // The other's head lies beyond; entries of both at one size show the fork.
    let beyond = range(&other, &log, alone(4_999, 5_001));
    assert!(matches!(receive(&mut one, &log, &beyond), Ok(Received::Forked(_))));
    let asked = search(&other, &mut one, &log, START);
    assert!(asked <= 13, "{asked} questions for 5,000 entries");
    assert_eq!(one.evidence(&log).unwrap().size(), 1_235);
    assert_eq!(one.evidence(&log).unwrap().valid_below(), 1_234);
    assert!(one.evidence(&log).unwrap().as_bytes().len() <= 1_536);
}

#[test]
fn what_is_held_behind_gaps_is_ascending_and_disjoint() {
    let (mut source, log) = writer(&opening(LogKind::State, 1));
    fill(&mut source, &log, "x", branch(60, 0));
    let mut to = holder(&[&opening(LogKind::State, 1)]);
    for want in [alone(10, 20), alone(30, 40), alone(20, 35), alone(5, 12)] {
        receive(&mut to, &log, &range(&source, &log, want)).unwrap();
        let held: Vec<_> = to.log(&log).unwrap().held().collect();
        assert!(held.is_sorted_by(|one, next| one.1 <= next.0), "{held:?} after {want:?}");
    }
}

#[test]
fn a_staged_range_is_never_continued_with_another_branch() {
    for kind in KINDS {
        let branches = [branch(40, 0), branch(26, 0)];
        let (log, sets) = grow(kind, &Shape { shared: 12, base: 0, branches: &branches });
        let mut to = holder(&[&opening(kind, 1)]);
        receive(&mut to, &log, &range(&sets[0], &log, alone(10, 20))).unwrap();
        let other = receive(&mut to, &log, &range(&sets[1], &log, alone(15, 26)));
        assert!(!matches!(other, Ok(Received::Staged { .. })), "{kind:?}: {other:?}");
        // What shows the fork, if anything was shown, holds elsewhere.
        tell(&sets[0], &mut to, &log, START);
        let mut elsewhere = set();
        tell_evidence(&to, &mut elsewhere, &log, START);
        assert!(elsewhere.evidence(&log).is_some());
    }
}

#[test]
fn a_jump_never_mixes_two_branches() {
    // Both branches are signed; what is made of the first's front and the second's end never was.
    let branches = [branch(40, 0), branch(26, 11)];
    let (log, sets) = grow(LogKind::State, &Shape { shared: 12, base: 0, branches: &branches });
    let mut to = holder(&[&opening(LogKind::State, 1)]);
    receive(&mut to, &log, &range(&sets[0], &log, alone(11, 20))).unwrap();
    let _ = receive(&mut to, &log, &range(&sets[1], &log, alone(15, 26)));
    let names: Vec<_> = payloads(&to, &log).into_values().map(|payload| payload[0]).collect();
    assert!(!(names.contains(&b'a') && names.contains(&b'b')), "{}", String::from_utf8_lossy(&names));
}

#[test]
fn a_jump_that_is_started_anew_leaves_nothing_of_the_first_behind() {
    for kind in KINDS {
        let (mut source, log) = writer(&opening(kind, 1));
        fill(&mut source, &log, "x", branch(40, 30));
        let (first, mut second) = (pruned(kind, &source, &log).set, source.clone());
        fill(&mut second, &log, "y", branch(100, 90));
        let second = pruned(kind, &second, &log).set;
        let mut to = Replica::new(holder(&[&opening(kind, 1)]));
        receive(&mut to.set, &log, &range(&first, &log, alone(30, 35))).unwrap();
        tell(&second, &mut to.set, &log, START);
        to.follow();
        assert_eq!(to.set.applicable(&log), Some((90, 100)));
        assert_eq!(to.set.stats().staged_bytes, 0);
        assert_eq!(to.set.log(&log).unwrap().held().collect::<Vec<_>>(), [(90, 100)]);
    }
}

#[test]
fn a_jump_is_reported_as_one_although_an_older_range_waits() {
    let (mut source, log) = writer(&opening(LogKind::State, 1));
    fill(&mut source, &log, "x", branch(20, 0));
    let (mut first, mut second) = (source.clone(), source.clone());
    fill(&mut first, &log, "x", branch(60, 0));
    fill(&mut second, &log, "x", branch(60, 0));
    fill(&mut second, &log, "x", branch(100, 90));
    let mut to = Replica::new(copy(LogKind::State, &source, &log));
    to.follow();
    receive(&mut to.set, &log, &range(&first, &log, alone(30, 35))).unwrap();
    let jump = range(&second, &log, alone(90, 100));
    assert_eq!(receive(&mut to.set, &log, &jump), Ok(Received::FastForwarded { from: 90, to: 100 }));
    to.follow();
    assert!(to.consumer.told.contains(&Change::Replaced { log, from: 90 }), "{:?}", to.consumer.told);
}

#[test]
fn a_forked_event_log_is_cut_to_what_counts_when_its_time_is_over() {
    let branches = [branch(16, 0), branch(18, 0)];
    let (log, sets) = grow(LogKind::Event, &Shape { shared: 12, base: 0, branches: &branches });
    let mut one = copy(LogKind::Event, &sets[0], &log);
    tell(&sets[1], &mut one, &log, START);
    assert_eq!(one.applicable(&log), Some((0, 12)));
    assert_eq!(one.have(&log).unwrap().size, 16, "the owner can still read its branch");
    let until = one.poll_timeout().unwrap();
    one.handle_timeout(until);
    assert_eq!(one.applicable(&log), Some((0, 12)));
    assert_eq!(one.have(&log).unwrap().size, 12);
    // What is left is proven as before.
    let mut reader = holder(&[&opening(LogKind::Event, 1)]);
    tell(&one, &mut reader, &log, until);
    assert_eq!(payloads(&reader, &log), payloads(&one, &log));
}

#[test]
fn a_forked_event_log_of_which_a_part_is_here_is_still_answered_for_when_its_time_is_over() {
    let branches = [branch(16, 0), branch(18, 0)];
    let (log, sets) = grow(LogKind::Event, &Shape { shared: 12, base: 0, branches: &branches });
    let evidence = evidence(&copy(LogKind::Event, &sets[0], &log), &sets[1], &log).unwrap();
    for size in 1..=12 {
        let mut one = Replica::new(holder(&[&opening(LogKind::Event, 1)]));
        receive(&mut one.set, &log, &range(&sets[0], &log, alone(0, size))).unwrap();
        hand(&mut one, &log, &evidence);
        let before = range(&one.set, &log, alone(0, size));
        let until = one.set.poll_timeout().unwrap();
        one.set.handle_timeout(until);
        assert_eq!(one.set.answer(&log, &alone(0, size), WHOLE), Answer::Range { bytes: before, end: size });
    }
}

#[test]
fn a_copy_that_begins_behind_the_first_difference_is_dropped_when_its_time_is_over() {
    let branches = [branch(40, 30), branch(41, 0)];
    let (log, sets) = grow(LogKind::Event, &Shape { shared: 12, base: 0, branches: &branches });
    let full = copy(LogKind::Event, &sets[0], &log);
    let mut one = pruned(LogKind::Event, &sets[0], &log).set;
    let Some(Message::Evidence(bytes)) = evidence(&full, &sets[1], &log) else { panic!("a fork") };
    one.receive_evidence(&bytes, START, &mut rich(), |_| Admission::Hold).unwrap();
    one.handle_timeout(one.poll_timeout().unwrap());
    assert_eq!(one.log(&log).unwrap().entries(0, 100).count(), 0, "none of it counts, and its time is over");
}

#[test]
fn a_void_log_is_kept_for_its_owner_and_then_forgotten() {
    let branches = [branch(16, 0), branch(18, 0)];
    let (log, sets) = grow(LogKind::State, &Shape { shared: 12, base: 0, branches: &branches });
    let mut one = copy(LogKind::State, &sets[0], &log);
    tell(&sets[1], &mut one, &log, START);
    assert_eq!(one.applicable(&log), Some((0, 0)));
    assert_eq!(one.log(&log).unwrap().entries(0, 16).count(), 16);
    let until = one.poll_timeout().unwrap();
    one.handle_timeout(Timestamp::from_millis(until.as_millis() - 1));
    assert_eq!(one.log(&log).unwrap().entries(0, 16).count(), 16);
    one.handle_timeout(until);
    assert_eq!(one.log(&log).unwrap().entries(0, 16).count(), 0);
    assert_eq!(one.poll_timeout(), None);
    // The evidence stays, and nothing of it is asked for again.
    assert!(one.evidence(&log).is_some());
    assert_eq!(one.want(&log, &sets[1].have(&log).unwrap()), None);
    let bytes = range(&sets[1], &log, alone(0, 18));
    assert_eq!(receive(&mut one, &log, &bytes), Err(SetError::Forked { valid_below: 0 }));
}

#[test]
fn a_heartbeat_and_a_shorter_head_are_no_fork() {
    for kind in KINDS {
        let (mut source, log) = writer(&opening(kind, 1));
        write(&mut source, &log, 1, "x", 5);
        let short = head_proof(&source, &log).unwrap();
        source.sign_head(&log, &keys(1), crate::world::later(9)).unwrap();
        let beat = head_proof(&source, &log).unwrap();
        write(&mut source, &log, 1, "y", 5);
        let mut to = Replica::new(copy(kind, &source, &log));
        for bytes in [&short, &beat, &short] {
            assert_eq!(receive(&mut to.set, &log, bytes), Ok(Received::Nothing));
        }
        to.follow();
        assert_eq!(to.set.evidence(&log), None);
        assert_eq!(to.consumer.told, [Change::Applicable { log, from: 0, to: 10 }]);
    }
}

#[test]
fn better_evidence_replaces_worse_and_never_the_other_way_round() {
    let branches = [branch(30, 0), branch(31, 0)];
    let (log, sets) = grow(LogKind::Event, &Shape { shared: 12, base: 0, branches: &branches });
    let (one, other) = (copy(LogKind::Event, &sets[0], &log), copy(LogKind::Event, &sets[1], &log));
    // Evidence at every size behind the fork.
    let mut all = BTreeMap::new();
    for size in 13..=30 {
        let proof = range(&other, &log, alone(size, size));
        let mut judge = one.clone();
        assert!(matches!(receive(&mut judge, &log, &proof), Ok(Received::Forked(_))));
        let found = judge.evidence(&log).unwrap().clone();
        assert_eq!(found.size(), size);
        all.insert(size, found.as_bytes().to_vec());
    }
    seeds(20, |seed| {
        let mut dice = Dice::new(seed);
        let mut order: Vec<u64> = all.keys().copied().collect();
        dice.shuffle(&mut order);
        let mut to = Replica::new(one.clone());
        let mut least = u64::MAX;
        for size in order {
            let news = to.set.receive_evidence(&all[&size], START, &mut rich(), |_| Admission::Hold);
            assert_eq!(news, Ok(size < least));
            least = least.min(size);
            assert_eq!(to.set.evidence(&log).unwrap().as_bytes(), all[&least]);
            assert_eq!(to.set.applicable(&log), Some((0, least - 1)));
            to.follow();
        }
    });
}

#[test]
fn a_search_between_two_copies_of_one_branch_ends_with_what_was_known() {
    let branches = [branch(30, 0), branch(31, 0)];
    let (log, sets) = grow(LogKind::Event, &Shape { shared: 12, base: 0, branches: &branches });
    let (mut one, other) = (copy(LogKind::Event, &sets[0], &log), copy(LogKind::Event, &sets[0], &log));
    let proof = range(&sets[1], &log, alone(25, 25));
    receive(&mut one, &log, &proof).unwrap();
    let known = one.evidence(&log).unwrap().clone();
    search(&other, &mut one, &log, START);
    assert_eq!(*one.evidence(&log).unwrap(), known);
    let search = consilience_sync::ForkSearch::new(other.log(&log).unwrap(), known);
    assert!(matches!(search.step(), SearchStep::Ask(_)));
}

#[test]
fn nothing_is_dropped_that_the_base_still_needs() {
    let (mut source, log) = writer(&opening(LogKind::Event, 1));
    fill(&mut source, &log, "x", branch(20, 15));
    let mut held = source.log(&log).unwrap().clone();
    assert_eq!(held.drop_below(16), Err(KeepError::StillNeeded { base: 15 }));
    held.drop_below(15).unwrap();
    assert_eq!(held.entries(0, 20).count(), 5);
    let mut consumer = Consumer::default();
    let mut to = set();
    to.open(&opening(LogKind::Event, 1), |_| Admission::Hold).unwrap();
    append(&mut source, &log, b"more", START);
    consumer.follow(&mut source);
    consumer.check(&source);
}

#[test]
fn a_copy_that_is_forgotten_before_its_jump_was_told_leaves_nothing_with_its_consumer() {
    let opening = opening(LogKind::Event, 1);
    let (mut main, log) = writer(&opening);
    write(&mut main, &log, 1, "shared", 10);
    let mut clone = main.clone();
    let mut replica = Replica::new(holder(&[&opening]));
    tell(&main, &mut replica.set, &log, START);
    replica.follow();
    write(&mut clone, &log, 1, "clone", 10);
    write(&mut main, &log, 1, "main", 30);
    // Somebody has seen both branches from the first difference on.
    let mut judge = main.clone();
    tell(&clone, &mut judge, &log, START);
    assert_eq!(judge.evidence(&log).unwrap().valid_below(), 10);
    append_based(&mut main, &log, b"base", 35, START);
    write(&mut main, &log, 1, "more", 5);
    while main.poll_change().is_some() {}
    assert_eq!(main.log(&log).unwrap().start(), 35);
    tell(&main, &mut replica.set, &log, START);
    assert_eq!(replica.set.log(&log).unwrap().start(), 35, "it jumped");
    tell_evidence(&judge, &mut replica.set, &log, START);
    replica.follow();
    assert!(replica.consumer.told.contains(&Change::Replaced { log, from: 0 }));
    assert!(replica.consumer.logs[&log].is_empty());
    tell(&clone, &mut replica.set, &log, START);
    replica.follow();
    assert_eq!(replica.consumer.logs[&log].len(), 10);
}

#[test]
fn what_was_told_of_a_log_can_be_undone_after_its_entries_expired() {
    for kind in KINDS {
        let opening = opening(kind, 1);
        let (mut main, log) = writer(&opening);
        write(&mut main, &log, 1, "shared", 10);
        let mut clone = main.clone();
        write(&mut main, &log, 1, "main", 4);
        write(&mut clone, &log, 1, "clone", 4);
        let mut replica = Replica::new(holder(&[&opening]));
        tell(&main, &mut replica.set, &log, START);
        replica.follow();
        assert_eq!(replica.consumer.logs[&log].len(), 14);
        tell(&clone, &mut replica.set, &log, START);
        // Nobody polls before the time of what does not count is over.
        replica.set.handle_timeout(replica.set.poll_timeout().unwrap());
        replica.follow();
        assert_eq!(replica.consumer.logs[&log].len(), if kind == LogKind::State { 0 } else { 10 });
    }
}

#[test]
fn what_was_replaced_is_not_kept_where_nobody_was_told_of_it() {
    for kind in KINDS {
        let opening = opening(kind, 1);
        let (mut main, log) = writer(&opening);
        write(&mut main, &log, 1, "first", 10);
        let mut relay = holder(&[&opening]);
        tell(&main, &mut relay, &log, START);
        write(&mut main, &log, 1, "second", 30);
        append_based(&mut main, &log, b"base", 35, START);
        write(&mut main, &log, 1, "third", 5);
        while main.poll_change().is_some() {}
        tell(&main, &mut relay, &log, START);
        assert_eq!(relay.log(&log).unwrap().start(), 35, "it jumped");
        assert_eq!(relay.acknowledged_entries(&log, 0, u64::MAX).next().unwrap().seq, 35);
    }
}

#[test]
fn a_range_of_another_branch_that_holds_all_that_counts_is_taken_by_the_base_of_the_evidence() {
    let opening = opening(LogKind::Event, 1);
    let (mut main, log) = writer(&opening);
    write(&mut main, &log, 1, "shared", 15);
    let mut clone = main.clone();
    write(&mut clone, &log, 1, "clone", 1);
    append_based(&mut main, &log, b"base", 14, START);
    main.sign_head(&log, &keys(1), START).unwrap();
    while main.poll_change().is_some() {}
    assert_eq!(main.log(&log).unwrap().start(), 14);
    tell(&clone, &mut main, &log, START);
    let evidence = main.evidence(&log).unwrap();
    assert_eq!((evidence.base(), evidence.valid_below()), (14, 15));

    let mut replica = Replica::new(holder(&[&opening]));
    tell_evidence(&main, &mut replica.set, &log, START);
    // No head of that branch says that nothing before is needed.
    receive(&mut replica.set, &log, &range(&clone, &log, alone(8, 16))).unwrap();
    replica.follow();
    assert_eq!(meaning(&replica.set, &log), meaning(&main, &log));
    assert_eq!(replica.set.heads_root(), main.heads_root());
}

/// A writer signs three histories. One replica sees the entry that raises the base, above the place where they part; of the
/// evidence that all get, neither head says anything of that.
#[test]
fn a_base_that_rose_above_a_cut_rises_for_all() {
    for (shared, base) in [(8, 5), (40, 30), (16, 16)] {
        let (mut trunk, log) = writer(&opening(LogKind::Event, 1));
        fill(&mut trunk, &log, "shared", branch(shared, 0));
        let (mut short, mut other) = (trunk.clone(), trunk);
        fill(&mut short, &log, "x", branch(shared + 1, 0));
        fill(&mut other, &log, "y", branch(shared + 1, 0));
        let mut long = short.clone();
        fill(&mut long, &log, "x", branch(shared + 2, base));

        let mut judge = full(LogKind::Event, &short, &log);
        tell(&other, &mut judge.set, &log, START);
        let evidence = judge.set.evidence(&log).expect("a fork").clone();
        assert_eq!((evidence.size(), evidence.base()), (shared + 1, 0));
        let everybody = || {
            [
                pruned(LogKind::Event, &long, &log),
                pruned(LogKind::Event, &short, &log),
                pruned(LogKind::Event, &other, &log),
                Replica::new(holder(&[&opening(LogKind::Event, 1)])),
            ]
        };
        let mut replicas = everybody();
        assert_eq!(payloads(&replicas[0].set, &log).len() as u64, shared + 2 - base);
        for replica in &mut replicas {
            receive_evidence(&mut replica.set, evidence.as_bytes());
            replica.follow();
        }
        equal_roots_are_equal_meanings(&mut replicas, &log);
        assert_eq!(payloads(&replicas[1].set, &log).len() as u64, shared, "shared {shared}, base {base}");
        converge(&mut replicas, &log, START);
        equal_roots_are_equal_meanings(&mut replicas, &log);
        let roots: Vec<_> = replicas.iter_mut().map(|replica| replica.set.heads_root()).collect();
        assert!(roots.iter().all(|root| *root == roots[0]));
        let events = payloads(&replicas[0].set, &log);
        // What the first has dropped cannot be had back from it, so nobody keeps it. What it still has, counts again.
        let dropped = if (8..shared).contains(&base) { base } else { 0 };
        assert_eq!(events.keys().copied().collect::<Vec<_>>(), (dropped..shared).collect::<Vec<_>>());

        // The order in which evidence comes, and a restart of the set between, make no difference.
        for last in 0..2 {
            let mut replicas = everybody();
            let pieces = evidence_of(&replicas_of_all(&evidence, &long, &log), &log);
            for (number, replica) in replicas.iter_mut().enumerate() {
                let mut pieces = pieces.clone();
                let turn = (number + last) % pieces.len();
                pieces.rotate_left(turn);
                for piece in &pieces {
                    receive_evidence(&mut replica.set, piece);
                    replica.follow();
                }
            }
            converge(&mut replicas, &log, START);
            equal_roots_are_equal_meanings(&mut replicas, &log);
            let held = replicas.iter().map(|replica| payloads(&replica.set, &log)).collect::<Vec<_>>();
            assert!(held.iter().all(|events| *events == held[0]));
        }
    }
}

/// A set that holds the long history, after the evidence.
fn replicas_of_all(evidence: &consilience_sync::Evidence, long: &LogSet, log: &LogId) -> LogSet {
    let mut replica = pruned(LogKind::Event, long, log);
    receive_evidence(&mut replica.set, evidence.as_bytes());
    replica.follow();
    replica.set
}

fn receive_evidence(set: &mut LogSet, evidence: &[u8]) {
    set.receive_evidence(evidence, START, &mut rich(), |_| Admission::Hold).unwrap();
}

fn equal_roots_are_equal_meanings(replicas: &mut [Replica], log: &LogId) {
    let found: Vec<_> =
        replicas.iter_mut().map(|replica| (replica.set.heads_root(), meaning(&replica.set, log))).collect();
    for (root, meaning) in &found {
        for (other_root, other) in &found {
            assert_eq!(root == other_root, meaning == other);
        }
    }
}

/// A copy that begins above the end of another brings the peaks at its start. Where the first of them make up a tree that the
/// other knows as well, a difference below shows.
#[test]
fn a_longer_copy_that_begins_beyond_a_shorter_one_shows_the_fork_by_its_peaks() {
    let (mut shown, mut unseen) = (0, 0);
    for kind in KINDS {
        for (shared, short, base, size) in [
            (0, 1, 2, 3),
            (2, 4, 6, 7),
            (3, 9, 12, 14),
            (3, 8, 24, 40),
            (5, 20, 22, 23),
            (5, 20, 24, 57),
            (9, 17, 18, 19),
            (9, 18, 21, 64),
            (17, 18, 19, 33),
            (30, 37, 44, 90),
            (64, 70, 96, 100),
            (130, 200, 260, 300),
        ] {
            let (mut trunk, log) = writer(&opening(kind, 1));
            fill(&mut trunk, &log, "shared", branch(shared, 0));
            let (mut one, mut other) = (trunk.clone(), trunk);
            fill(&mut one, &log, "one", branch(short, 0));
            fill(&mut other, &log, "other", branch(size, base));
            let mut holder = full(kind, &one, &log);
            holder.follow();
            let bytes = range(&other, &log, alone(base, size));
            let received = holder.set.receive(&log, &bytes, START, &mut rich()).unwrap();
            // The greatest sum of the first peaks at the base that does not lie beyond the shorter copy.
            let (mut sum, mut left) = (0, base);
            while left > 0 {
                let peak = 1 << left.ilog2();
                if sum + peak > short {
                    break;
                }
                (sum, left) = (sum + peak, left - peak);
            }
            let told = format!("{kind:?} {shared} {short} {base} {size}");
            if sum > shared {
                let Received::Forked(evidence) = received else { panic!("{told}: {received:?}") };
                assert_eq!(evidence.size(), sum, "{told}");
                // Anybody can check it.
                let mut judge = set();
                receive_evidence(&mut judge, evidence.as_bytes());
                assert_eq!(judge.evidence(&log), Some(&*evidence), "{told}");
                shown += 1;
            } else {
                assert!(!matches!(received, Received::Forked(_)), "{told}");
                unseen += 1;
            }
        }
    }
    assert!(shown > 10 && unseen > 3, "{shown} {unseen}");
}
