//! Heads that are reconciled: what differs is found, and what is planned because of it makes the two sets equal.

use consilience_sync::reconcile::{
    KeyRange, Limits as ReconcileLimits, Mode, Options, Outcome, Reconciliation, Report, Status,
};
use consilience_sync::{
    Admission, Answer, HeadStep, Hlc, LogId, LogKind, LogSet, Move, NewEntry, Offer, RangeForm, ReceiveError,
    SetError, Timestamp, Topic, Want,
};

use super::world::{
    Dice, KINDS, START, append_based, keys, later, meaning, opening, opening_in, rich, search, seeds, set,
    tell, tell_evidence, write, writer,
};

/// What one side of a pass learnt.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    pub(super) differ: Vec<LogId>,
    lacking: usize,
    report: Option<Report>,
}

impl Learnt {
    fn handle(&mut self, set: &mut LogSet, machine: &mut Reconciliation, message: &[u8]) -> Option<Vec<u8>> {
        let mut step = set.handle_reconcile(machine, message).unwrap();
        while step.status == Status::NeedsBudget {
            self.take(step);
            machine.grant(100);
            step = set.resume_reconcile(machine).unwrap();
        }
        self.take(step)
    }

    fn take(&mut self, step: HeadStep) -> Option<Vec<u8>> {
        self.differ.extend(step.differ);
        self.lacking += step.lacking;
        if let Status::Done(report) = step.status {
            self.report = Some(report);
        }
        step.message
    }
}

pub(super) fn config(scope: KeyRange, mode: Mode, salt: u8) -> Options {
    Options { salt: [salt; 32], scope, mode, ..Options::default() }
}

pub(super) fn everything() -> KeyRange {
    KeyRange::all()
}

/// One pass: which logs each side has to speak about, and the number of messages.
pub(super) fn find(a: &mut LogSet, b: &mut LogSet, opens: Options) -> (Learnt, Learnt, usize) {
    let accepts = Options { scope: everything(), ..opens.clone() };
    let (mut opener, mut message) = a.reconcile(opens);
    let mut other = Reconciliation::accept(accepts);
    let (mut here, mut there) = (Learnt::default(), Learnt::default());
    for messages in 1.. {
        let answer = if messages % 2 == 1 {
            there.handle(b, &mut other, &message)
        } else {
            here.handle(a, &mut opener, &message)
        };
        let Some(answer) = answer else {
            return (here, there, messages);
        };
        message = answer;
        assert!(messages < 10_000, "it goes on for ever");
    }
    unreachable!()
}

/// Does one side's half of a plan; gives how many things were sent. A range that begins behind what the other can
/// prove is asked for again in the form that stands alone.
pub(super) fn carry(from: &LogSet, to: &mut LogSet, moves: &[Move], now: Timestamp) -> usize {
    let mut sent = 0;
    for step in moves {
        match step {
            Move::Open(log) => {
                to.open(from.log(log).unwrap().opening(), |_| Admission::Hold).unwrap();
            }
            Move::Facts(log) => {
                tell_evidence(from, to, log, now);
            }
            Move::Send(log, want) => {
                let mut want = *want;
                while let Answer::Range { bytes, end } = from.answer(log, &want, 4 << 10) {
                    match to.receive(log, &bytes, now, &mut rich()) {
                        Err(SetError::Receive(ReceiveError::Unproven)) if want.form == RangeForm::Follow => {
                            want.form = RangeForm::Alone;
                            continue;
                        }
                        Err(SetError::Forked { .. }) => break,
                        other => {
                            other.unwrap();
                        }
                    }
                    if end >= want.to {
                        break;
                    }
                    want = Want { from: end, form: RangeForm::Follow, ..want };
                }
            }
            Move::Search(_) | Move::Expect(..) => continue,
        }
        sent += 1;
    }
    sent
}

/// A pass and what follows from it.
pub(super) fn meet(a: &mut LogSet, b: &mut LogSet, opens: Options, now: Timestamp) -> (Learnt, Learnt) {
    let (here, there, _) = find(a, b, opens);
    let offers = |set: &LogSet, logs: &[LogId]| -> Vec<Offer> {
        let offers = logs.iter().map(|log| set.offer(log).unwrap().encode());
        offers.map(|bytes| Offer::decode(&bytes).unwrap()).collect()
    };
    let (of_a, of_b) = (offers(a, &here.differ), offers(b, &there.differ));
    let (plan_a, plan_b) = (a.plan(&here.differ, &of_b), b.plan(&there.differ, &of_a));
    carry(a, b, &plan_a, now);
    carry(b, a, &plan_b, now);
    for step in plan_a {
        if let Move::Search(log) = step {
            search(b, a, &log, now);
        }
    }
    for step in plan_b {
        if let Move::Search(log) = step {
            search(a, b, &log, now);
        }
    }
    (here, there)
}

/// Passes until the roots are equal; gives how many.
pub(super) fn meet_until_equal(a: &mut LogSet, b: &mut LogSet, now: Timestamp, mode: Mode) -> usize {
    for pass in 0..12 {
        if a.heads_root() == b.heads_root() {
            return pass;
        }
        let (a, b) = if pass % 2 == 0 { (&mut *a, &mut *b) } else { (&mut *b, &mut *a) };
        meet(a, b, config(everything(), mode, pass as u8), now);
    }
    let (here, there, _) = find(a, b, config(everything(), mode, 99));
    for log in here.differ.iter().chain(&there.differ) {
        let kind = a.log(log).map(|log| log.opening().kind);
        println!("{kind:?}\n  {:?} {:?}\n  {:?} {:?}", a.offer(log), a.have(log), b.offer(log), b.have(log));
    }
    panic!("they do not meet");
}

#[test]
fn a_thousand_logs_of_which_ten_differ_meet_in_one_pass() {
    let (mut a, mut b) = (set(), set());
    for number in 0..1_000_u64 {
        let opening = opening_in(
            &format!("team/{}", number % 7),
            KINDS[number as usize % 2],
            (number % 200) as u8,
            number,
        );
        let log = a.open_local(&opening).unwrap();
        write(&mut a, &log, (number % 200) as u8, "entry", 1 + number % 3);
        b.open(&opening, |_| Admission::Hold).unwrap();
        tell(&a, &mut b, &log, START);
        if number % 100 == 0 {
            write(&mut a, &log, (number % 200) as u8, "more", 2);
        }
    }
    assert_ne!(a.heads_root(), b.heads_root());
    let (here, there, messages) = find(&mut a.clone(), &mut b.clone(), config(everything(), Mode::Auto, 1));
    assert_eq!((here.differ.len(), there.differ.len()), (10, 10));
    assert!(messages <= 3, "{messages} messages");
    let bytes = here.report.as_ref().unwrap();
    assert!(bytes.bytes_sent + bytes.bytes_received < 2_000, "{bytes:?}");
    meet(&mut a, &mut b, config(everything(), Mode::Auto, 1), START);
    assert_eq!(a.heads_root(), b.heads_root());
    let (here, there, messages) = find(&mut a, &mut b, config(everything(), Mode::Auto, 2));
    assert_eq!((here.report.unwrap().outcome, messages), (Outcome::Equal, 2));
    assert!(there.differ.is_empty());
}

#[test]
fn the_root_follows_what_is_held_and_not_how_it_came() {
    let (mut a, mut b) = (set(), set());
    let empty = a.heads_root();
    let first = opening(LogKind::Event, 1);
    let log = a.open_local(&first).unwrap();
    assert_eq!(a.heads_root(), empty, "a log without entries is nothing to tell");
    append_based(&mut a, &log, b"one", 0, START);
    assert_eq!(a.heads_root(), empty, "nor are entries that are not signed");
    a.sign_head(&log, &keys(1), START).unwrap();
    let one = a.heads_root();
    assert_ne!(one, empty);
    a.sign_head(&log, &keys(1), later(5_000)).unwrap();
    assert_eq!(a.heads_root(), one, "a heartbeat says nothing new");
    append_based(&mut a, &log, b"two", 0, START);
    a.sign_head(&log, &keys(1), START).unwrap();
    let two = a.heads_root();
    assert_ne!(two, one);

    b.open(&first, |_| Admission::Hold).unwrap();
    tell(&a, &mut b, &log, START);
    assert_eq!(b.heads_root(), two);
    assert!(b.remove(&log));
    assert_eq!(b.heads_root(), empty);

    // Another log with the same entries is another head.
    let second = opening(LogKind::Event, 2);
    let other = b.open_local(&second).unwrap();
    append_based(&mut b, &other, b"one", 0, START);
    b.sign_head(&other, &keys(2), START).unwrap();
    assert_ne!(b.heads_root(), one);
}

#[test]
fn the_heads_that_changed_after_a_version_come_with_what_counted_before() {
    let mut a = set();
    let logs = [1, 2, 3].map(|agent| a.open_local(&opening(LogKind::Event, agent)).unwrap());
    let changed = |set: &mut LogSet, after: u64| -> Vec<(LogId, u64)> {
        set.heads_changed(after).map(|(_, log, before)| (log, before)).collect()
    };
    assert_eq!((a.heads_version(), a.heads_len()), (0, 0), "nothing is signed");
    write(&mut a, &logs[0], 1, "x", 2);
    let first = a.heads_version();
    write(&mut a, &logs[1], 2, "y", 3);
    let second = a.heads_version();
    assert!(0 < first && first < second);
    assert_eq!(a.heads_len(), 2);
    assert_eq!(changed(&mut a, 0), [(logs[0], 0), (logs[1], 0)]);
    assert_eq!(changed(&mut a, first), [(logs[1], 0)]);
    assert_eq!(changed(&mut a, second), []);
    write(&mut a, &logs[0], 1, "z", 5);
    assert_eq!(changed(&mut a, second), [(logs[0], 2)]);
    assert_eq!(changed(&mut a, first), [(logs[1], 0), (logs[0], 2)]);
    assert_eq!(changed(&mut a, first - 1), [(logs[1], 0), (logs[0], 0)], "it had no head then");
    write(&mut a, &logs[0], 1, "z", 1);
    let last = a.heads_version();
    assert_eq!(changed(&mut a, second), [(logs[0], 7)]);
    assert_eq!(a.heads_changed(second).next().unwrap().0, last);
    assert!(a.remove(&logs[0]));
    assert_eq!(changed(&mut a, 0), [(logs[1], 0)]);
    assert_eq!(a.heads_version(), last);
}

#[test]
fn how_much_counted_at_a_version_is_remembered_if_that_was_marked() {
    let (mut a, log) = writer(&opening(LogKind::Event, 1));
    let mut versions = Vec::new();
    for size in 1..=10 {
        write(&mut a, &log, 1, "x", 1);
        let version = a.heads_version();
        versions.push(version);
        assert_eq!(a.size_at_version(&log, version), Some(size));
        a.mark_version(version);
        // An older mark takes nothing back.
        a.mark_version(versions[0]);
    }
    for (version, size) in versions.iter().zip(1..) {
        // Of ten sizes nine were noted when they changed, and the first of these has given way.
        let known = if size == 1 { 2 } else { size };
        assert_eq!(a.size_at_version(&log, *version), Some(known), "{size}");
    }
    // What changes again after the same mark was noted already.
    for _ in 0..2 {
        write(&mut a, &log, 1, "x", 1);
        assert!(a.heads_version() > versions[9]);
    }
    assert_eq!(a.size_at_version(&log, versions[9]), Some(10));
    assert_eq!(a.size_at_version(&log, a.clone().heads_version()), Some(12));
    assert_eq!(a.size_at_version(&LogId::from_bytes([1; 32]), 1), None);
}

#[test]
fn the_root_of_a_scope_follows_its_topics_alone() {
    let mut a = set();
    let logs =
        ["team/a", "team/b"].map(|topic| a.open_local(&opening_in(topic, LogKind::State, 1, 1)).unwrap());
    let scope = LogSet::scope_within(&Topic::new("team/a").unwrap());
    let root = |set: &mut LogSet| set.heads_root_within(std::slice::from_ref(&scope));
    let nothing = root(&mut a);
    write(&mut a, &logs[1], 1, "other", 1);
    assert_eq!(root(&mut a), nothing);
    assert_eq!(a.heads_within(&scope).count(), 0);
    write(&mut a, &logs[0], 1, "own", 1);
    let one = root(&mut a);
    assert_ne!(one, nothing);
    assert_eq!(a.heads_within(&scope).collect::<Vec<_>>(), [logs[0]]);
    write(&mut a, &logs[0], 1, "more", 1);
    assert_ne!(root(&mut a), one);
    assert_ne!(root(&mut a), nothing);
    // Of a set that was never asked before.
    let mut fresh = set();
    fresh.open(a.log(&logs[0]).unwrap().opening(), |_| Admission::Hold).unwrap();
    tell(&a, &mut fresh, &logs[0], START);
    assert_eq!(root(&mut fresh), root(&mut a));
    assert!(a.remove(&logs[0]));
    assert_eq!(root(&mut a), nothing);
}

#[test]
fn entries_that_one_side_gave_up_earlier_make_no_difference() {
    let (mut a, mut b) = (set(), set());
    let opening = opening(LogKind::State, 1);
    let log = a.open_local(&opening).unwrap();
    b.open(&opening, |_| Admission::Hold).unwrap();
    for seq in 0..40 {
        append_based(&mut a, &log, b"state", if seq < 30 { 0 } else { 25 }, START);
    }
    a.sign_head(&log, &keys(1), START).unwrap();
    tell(&a, &mut b, &log, START);
    while b.poll_change().is_some() {}
    assert!(b.log(&log).unwrap().start() > a.log(&log).unwrap().start());
    assert_eq!(a.heads_root(), b.heads_root());
}

#[test]
fn the_same_entries_with_other_evidence_differ_until_the_evidence_has_travelled() {
    for kind in KINDS {
        let opening = opening(kind, 1);
        let (mut a, log) = writer(&opening);
        write(&mut a, &log, 1, "shared", 6);
        let mut b = set();
        b.open(&opening, |_| Admission::Hold).unwrap();
        tell(&a, &mut b, &log, START);
        // Two clones of the writer fork it, at different places.
        let mut early = a.clone();
        write(&mut early, &log, 1, "early", 2);
        write(&mut a, &log, 1, "common", 3);
        let mut late = a.clone();
        write(&mut late, &log, 1, "late", 2);
        write(&mut a, &log, 1, "main", 2);
        let (mut x, mut y) = (a.clone(), a.clone());
        tell(&late, &mut x, &log, START);
        tell(&early, &mut y, &log, START);
        assert!(x.evidence(&log).unwrap() > y.evidence(&log).unwrap());
        assert_ne!(x.heads_root(), y.heads_root());
        assert_ne!(x.heads_root(), b.heads_root());

        for mode in [Mode::Auto, Mode::Ranges] {
            let (mut x, mut y, mut b) = (x.clone(), y.clone(), b.clone());
            let (here, there, _) = find(&mut x.clone(), &mut y.clone(), config(everything(), mode, 3));
            assert_eq!((&here.differ, &there.differ), (&vec![log], &vec![log]));
            meet_until_equal(&mut x, &mut y, START, mode);
            assert_eq!(x.evidence(&log), y.evidence(&log));
            meet_until_equal(&mut b, &mut x, START, mode);
            assert_eq!(b.evidence(&log), y.evidence(&log));
            assert_eq!(meaning(&b, &log).entries, meaning(&y, &log).entries);
        }
    }
}

#[test]
fn a_topic_is_reconciled_alone_and_with_what_is_below_it() {
    let (mut a, mut b) = (set(), set());
    let topics = ["team", "team/a", "team/a/x", "team/a/y", "team/ab", "team/b", "t", "u"];
    let logs: Vec<LogId> = topics
        .iter()
        .enumerate()
        .flat_map(|(number, topic)| [(topic, number as u8, true), (topic, 100 + number as u8, false)])
        .map(|(topic, agent, first)| {
            let side = if first { &mut a } else { &mut b };
            let log = side.open_local(&opening_in(topic, LogKind::Event, agent, 1)).unwrap();
            write(side, &log, agent, topic, 2);
            log
        })
        .collect();
    let names = |set: &LogSet, found: &[LogId]| {
        let mut names: Vec<String> =
            found.iter().map(|log| set.log(log).unwrap().opening().topic.to_string()).collect();
        names.sort();
        names
    };
    let topic = Topic::new("team/a").unwrap();
    let (here, there, _) = find(&mut a, &mut b, config(LogSet::scope_of(&topic), Mode::Auto, 1));
    assert_eq!(
        (names(&a, &here.differ), names(&b, &there.differ)),
        (vec!["team/a".into()], vec!["team/a".into()])
    );
    let scope = LogSet::scope_within(&topic);
    let (here, there, _) = find(&mut a, &mut b, config(scope.clone(), Mode::Auto, 2));
    let expected: Vec<String> = ["team/a", "team/a/x", "team/a/y"].map(String::from).into();
    assert_eq!((names(&a, &here.differ), names(&b, &there.differ)), (expected.clone(), expected));

    // Exchanged, that part is equal and the rest is not.
    meet(&mut a, &mut b, config(scope.clone(), Mode::Auto, 3), START);
    let (here, there, messages) = find(&mut a, &mut b, config(scope, Mode::Auto, 4));
    assert_eq!((here.report.unwrap().outcome, there.differ.len(), messages), (Outcome::Equal, 0, 2));
    assert_ne!(a.heads_root(), b.heads_root());
    meet(&mut a, &mut b, config(everything(), Mode::Auto, 5), START);
    assert_eq!(a.heads_root(), b.heads_root());
    assert_eq!(logs.iter().filter(|log| a.log(log).is_some()).count(), logs.len());
}

/// One step of a random history of two sets: somebody writes, raises a base, is copied, or tells a little.
fn random_step(dice: &mut Dice, sets: &mut [LogSet; 4], logs: &[(LogId, u8)]) {
    let (log, agent) = logs[dice.index(logs.len())];
    match dice.roll(10) {
        0..6 => {
            // The first two sets write; where both do, the log is forked.
            let side = if dice.one_in(12) { 1 } else { 0 };
            let set = &mut sets[side];
            for _ in 0..=dice.roll(3) {
                let held = set.log(&log).unwrap();
                let (base, size) = (held.base(), held.size());
                let base = if dice.one_in(4) && size > 0 { base.max(dice.roll(size)) } else { base };
                if set.append(&log, &new_entry(held_hlc(set, &log), base, dice)).is_err() {
                    return;
                }
            }
            let _ = set.sign_head(&log, &keys(agent), START);
        }
        _ => {
            let (from, to) = (dice.index(4), dice.index(4));
            if from != to {
                let [from, to] = sets.get_disjoint_mut([from, to]).unwrap();
                tell(from, to, &log, START);
            }
        }
    }
    if dice.one_in(3) {
        let at = dice.index(4);
        while sets[at].poll_change().is_some() {}
    }
}

fn held_hlc(set: &LogSet, log: &LogId) -> Hlc {
    let mut hlc = set.log(log).unwrap().last_hlc();
    hlc.tick(START);
    hlc
}

fn new_entry(hlc: Hlc, base: u64, dice: &mut Dice) -> NewEntry<'static> {
    let payloads: [&'static [u8]; 4] = [b"", b"a", b"bb", b"a longer payload than the others have"];
    NewEntry { base, ..NewEntry::new(hlc, payloads[dice.index(4)]) }
}

#[test]
fn random_sets_meet_and_mean_the_same() {
    seeds(300, |seed| {
        let mut dice = Dice::new(seed);
        let mut sets = [set(), set(), set(), set()];
        let mut logs = Vec::new();
        for agent in 0..3 + dice.roll(6) as u8 {
            let topic = ["team", "team/a", "other"][dice.index(3)];
            let opening = opening_in(topic, KINDS[dice.index(2)], agent, u64::from(agent));
            for (side, set) in sets.iter_mut().enumerate() {
                let log = if side < 2 {
                    set.open_local(&opening).unwrap()
                } else {
                    set.open(&opening, |_| Admission::Hold).unwrap()
                };
                if side == 0 {
                    logs.push((log, agent));
                }
            }
        }
        for _ in 0..10 + dice.roll(80) {
            random_step(&mut dice, &mut sets, &logs);
        }
        let mode = [Mode::Auto, Mode::Ranges][dice.index(2)];
        // Around twice: then everybody has met everybody's news.
        for round in 0..4 {
            for (one, other) in [(0, 1), (1, 2), (2, 3), (3, 0)] {
                let [a, b] = sets.get_disjoint_mut([one, other]).unwrap();
                meet_until_equal(a, b, START, mode);
                assert!(round < 3 || a.heads_root() == b.heads_root());
            }
        }
        let [first, others @ ..] = &mut sets;
        for other in others {
            assert_eq!(first.heads_root(), other.heads_root());
            while first.poll_change().is_some() || other.poll_change().is_some() {}
            for (log, _) in &logs {
                let (ours, theirs) = (meaning(first, log), meaning(other, log));
                assert_eq!(ours.evidence, theirs.evidence);
                let kind = first.log(log).unwrap().opening().kind;
                if kind == LogKind::Event && ours.evidence.is_some() {
                    // Who has seen a branch's base has given up what is below, and the rest is the same.
                    let (longer, shorter) = if ours.entries.len() > theirs.entries.len() {
                        (&ours.entries, &theirs.entries)
                    } else {
                        (&theirs.entries, &ours.entries)
                    };
                    assert!(shorter.iter().eq(longer.iter().skip(longer.len() - shorter.len())));
                } else {
                    assert_eq!(ours.entries, theirs.entries);
                }
            }
        }
    });
}

#[test]
fn any_frame_size_finds_the_same_heads() {
    for message_bytes in [512, 600, 1_200, 4_096, 65_536, 1 << 20] {
        for mode in [Mode::Auto, Mode::Ranges] {
            let (mut a, mut b) = (set(), set());
            for number in 0..300_u64 {
                let side = if number % 3 == 0 { &mut b } else { &mut a };
                let log = side
                    .open_local(&opening_in("team", LogKind::Event, (number % 250) as u8, number))
                    .unwrap();
                write(side, &log, (number % 250) as u8, "x", 1);
            }
            let limits = ReconcileLimits { message_bytes, ..ReconcileLimits::default() };
            let (here, there, _) = find(&mut a, &mut b, Options { limits, ..config(everything(), mode, 1) });
            assert_eq!((here.differ.len(), there.differ.len()), (200, 100));
        }
    }
}

#[test]
fn only_what_waits_for_budget_goes_on() {
    let (mut a, log) = writer(&opening(LogKind::Event, 1));
    write(&mut a, &log, 1, "x", 1);
    let (mut machine, _) = a.reconcile(config(everything(), Mode::Auto, 1));
    assert!(a.resume_reconcile(&mut machine).is_err());
}
