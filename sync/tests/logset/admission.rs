//! What is held and what is not, relays that cannot read what they carry, and the order of topics.

use std::cell::Cell;

use consilience_sync::{
    Admission, AgentId, Change, DecodeError, EvidenceError, KeyError, LogId, LogKind, LogOpening, MeshId,
    OpenError, OpeningError, Received, SetError, Topic, VerifyBudget,
};

use crate::world::{
    KINDS, Replica, START, alone, append, head_proof, holder, keys, limited, mesh, opening, opening_in,
    payloads, range, receive, rich, set, tell, tell_evidence, write, writer,
};

/// Evidence of a fork behind three entries.
fn forked(opening: &LogOpening) -> (LogId, Vec<u8>) {
    let (mut one, log) = writer(opening);
    write(&mut one, &log, 1, "x", 3);
    let mut other = one.clone();
    write(&mut one, &log, 1, "y", 2);
    write(&mut other, &log, 1, "z", 2);
    let mut judge = set();
    judge.open(opening, |_| Admission::Hold).unwrap();
    tell(&one, &mut judge, &log, START);
    tell(&other, &mut judge, &log, START);
    (log, judge.evidence(&log).unwrap().as_bytes().to_vec())
}

#[test]
fn the_host_is_asked_once_for_each_log_that_could_be_held_and_its_word_counts() {
    let asked = Cell::new(0);
    let answer = |admission| {
        let asked = &asked;
        move |_: &LogOpening| {
            asked.set(asked.get() + 1);
            admission
        }
    };
    let mut to = limited(|limits| limits.logs_per_agent_max = 1);
    let opening = opening(LogKind::Event, 1);
    let log = opening.log_id(&mesh());
    for number in 1..=3 {
        assert_eq!(to.open(&opening, answer(Admission::Ignore)), Err(OpenError::Ignored));
        assert_eq!(asked.get(), number, "the question comes again");
        assert!(to.log(&log).is_none());
    }
    assert_eq!(to.open(&opening, answer(Admission::Hold)), Ok(log));
    assert_eq!(to.open(&opening, answer(Admission::Ignore)), Ok(log), "held already");
    assert_eq!(asked.get(), 4);
    let another = opening_in("b", LogKind::Event, 1, 1);
    assert_eq!(to.open(&another, answer(Admission::Hold)), Err(OpenError::Quota));
    assert_eq!(asked.get(), 4, "a log that cannot be held is no question");
    assert_eq!(to.stats().logs, 1);
}

#[test]
fn a_key_that_is_not_admitted_opens_nothing() {
    let mut to = set();
    let mut weak = opening(LogKind::Event, 1);
    weak.agent = AgentId::from_bytes([0; 32]);
    assert!(matches!(to.open(&weak, |_| Admission::Hold), Err(OpenError::Key(KeyError::SmallOrder))));
    assert!(matches!(to.open_local(&weak), Err(OpenError::Key(KeyError::SmallOrder))));
    assert_eq!(to.stats(), set().stats());
    assert_eq!(to.logs().count(), 0);
}

#[test]
fn nothing_is_taken_of_logs_that_are_not_held() {
    let (mut source, log) = writer(&opening(LogKind::Event, 1));
    write(&mut source, &log, 1, "x", 3);
    let mut to = set();
    let mut budget = VerifyBudget::new();
    let bytes = range(&source, &log, alone(0, 3));
    assert_eq!(to.receive(&log, &bytes, START, &mut budget), Err(SetError::Unknown));
    assert_eq!(budget.checks(), 0);
    assert_eq!(to.erase(&log, 0), Err(SetError::Unknown));
    assert_eq!(to.restore(&log, 0, [0; 4], b"x0"), Err(SetError::Unknown));
    assert_eq!(to.sign_head(&log, &keys(1), START), Err(SetError::Unknown));
    assert_eq!((to.applicable(&log), to.have(&log)), (None, None));
    assert_eq!(to.want(&log, &source.have(&log).unwrap()), None);
    assert_eq!(to.answer(&log, &alone(0, 3), 100), consilience_sync::Answer::Nothing);
    assert!(!to.remove(&log));
    assert_eq!(to.poll_change(), None);
}

#[test]
fn evidence_opens_a_log_that_is_not_held_if_the_host_wants_it() {
    for kind in KINDS {
        let opening = opening(kind, 1);
        let (log, evidence) = forked(&opening);
        let mut to = Replica::new(set());
        let ignored = to.set.receive_evidence(&evidence, START, &mut rich(), |_| Admission::Ignore);
        assert_eq!(ignored, Err(SetError::Open(OpenError::Ignored)));
        assert_eq!(to.set.stats().logs, 0);
        let hold = |_: &LogOpening| Admission::Hold;
        assert_eq!(to.set.receive_evidence(&evidence, START, &mut rich(), hold), Ok(true));
        assert_eq!(to.set.receive_evidence(&evidence, START, &mut rich(), hold), Ok(false));
        assert_eq!(to.set.log(&log).unwrap().opening(), &opening);
        to.follow();
        let last = to.consumer.told.last();
        match kind {
            LogKind::State => assert_eq!(last, Some(&Change::Invalidated { log })),
            LogKind::Event => assert!(matches!(last, Some(Change::Cut { .. }))),
        }
        // Known evidence costs no check.
        let mut budget = VerifyBudget::new();
        to.set.receive_evidence(&evidence, START, &mut budget, hold).unwrap();
        assert_eq!(budget.checks(), 0);
    }
}

#[test]
fn evidence_finds_no_room_where_no_log_would() {
    let (_, evidence) = forked(&opening(LogKind::State, 1));
    let mut to = limited(|limits| limits.logs_max = 0);
    let refused = to.receive_evidence(&evidence, START, &mut rich(), |_| Admission::Hold);
    assert_eq!(refused, Err(SetError::Open(OpenError::Quota)));
    assert_eq!(to.stats().logs, 0);
}

#[test]
fn evidence_of_another_mesh_and_damaged_evidence_change_nothing() {
    let opening = opening(LogKind::State, 1);
    let (log, evidence) = forked(&opening);
    let mut elsewhere = consilience_sync::LogSet::new(MeshId::from_bytes([8; 32]), Default::default());
    let refused = elsewhere.receive_evidence(&evidence, START, &mut rich(), |_| Admission::Hold);
    assert_eq!(refused, Err(SetError::Evidence(EvidenceError::Opening(OpeningError::WrongMesh))));

    let (mut source, _) = writer(&opening);
    write(&mut source, &log, 1, "x", 3);
    let mut to = holder(&[&opening]);
    tell(&source, &mut to, &log, START);
    for at in 0..evidence.len() {
        let mut damaged = evidence.clone();
        damaged[at] ^= 1 << (at % 8);
        let refused = to.receive_evidence(&damaged, START, &mut rich(), |_| Admission::Ignore);
        assert!(refused.is_err(), "byte {at}: {refused:?}");
        let refused = to.receive_evidence(&evidence[..at], START, &mut rich(), |_| Admission::Ignore);
        assert!(refused.is_err(), "{at} bytes: {refused:?}");
    }
    assert_eq!(to.evidence(&log), None);
    assert_eq!(to.applicable(&log), Some((0, 3)));
    let longer = [&evidence[..], &[0]].concat();
    let refused = to.receive_evidence(&longer, START, &mut rich(), |_| Admission::Hold);
    assert_eq!(refused, Err(EvidenceError::from(DecodeError::Trailing).into()));
}

#[test]
fn a_log_that_was_removed_and_opened_again_begins_anew() {
    for kind in KINDS {
        let opening = opening(kind, 1);
        let (log, evidence) = forked(&opening);
        let (mut source, _) = writer(&opening);
        write(&mut source, &log, 1, "x", 3);
        let mut to = Replica::new(holder(&[&opening]));
        tell(&source, &mut to.set, &log, START);
        to.set.receive_evidence(&evidence, START, &mut rich(), |_| Admission::Hold).unwrap();
        // Removed with changes that nobody polled.
        assert!(to.set.remove(&log));
        assert!(!to.set.remove(&log));
        assert_eq!(to.set.poll_change(), None);
        assert_eq!(to.set.poll_timeout(), None);
        assert_eq!(to.set.stats(), set().stats());
        assert_eq!(to.set.logs().count(), 0);

        to.set.open(&opening, |_| Admission::Hold).unwrap();
        assert_eq!(to.set.evidence(&log), None);
        tell(&source, &mut to.set, &log, START);
        to.follow();
        assert_eq!(to.consumer.told, [Change::Applicable { log, from: 0, to: 3 }]);
        // Removed between two polls.
        append(&mut source, &log, b"more", START);
        source.sign_head(&log, &keys(1), START).unwrap();
        tell(&source, &mut to.set, &log, START);
        assert_eq!(to.set.poll_change(), Some(Change::Applicable { log, from: 3, to: 4 }));
        to.set.remove(&log);
        to.set.open(&opening, |_| Admission::Hold).unwrap();
        tell(&source, &mut to.set, &log, START);
        assert_eq!(to.set.poll_change(), Some(Change::Applicable { log, from: 0, to: 4 }));
        assert_eq!(to.set.poll_change(), None);
    }
}

#[test]
fn what_was_late_or_behind_a_gap_counts_no_more_when_its_log_is_removed() {
    let opening = opening(LogKind::Event, 1);
    let (mut source, log) = writer(&opening);
    append(&mut source, &log, b"now", START);
    for _ in 0..20 {
        append(&mut source, &log, b"in a year", crate::world::later(1 << 35));
    }
    source.sign_head(&log, &keys(1), START).unwrap();
    let mut to = holder(&[&opening]);
    receive(&mut to, &log, &range(&source, &log, alone(0, 5))).unwrap();
    receive(&mut to, &log, &range(&source, &log, alone(8, 12))).unwrap();
    assert!(to.stats().late_bytes > 0 && to.stats().staged_bytes > 0);
    assert!(to.poll_timeout().is_some());
    to.remove(&log);
    assert_eq!(to.stats(), set().stats());
    assert_eq!(to.poll_timeout(), None);
}

#[test]
fn a_relay_passes_on_what_it_cannot_read_byte_for_byte() {
    for kind in KINDS {
        let opening = opening(kind, 1);
        let (mut source, log) = writer(&opening);
        for number in 0..200_u64 {
            // As good as encrypted.
            let payload: Vec<u8> = (0..number).map(|at| (at * number * 131 % 251) as u8).collect();
            append(&mut source, &log, &payload, START);
        }
        source.sign_head(&log, &keys(1), START).unwrap();
        let mut relays = [holder(&[&opening]), holder(&[&opening]), holder(&[&opening])];
        tell(&source, &mut relays[0], &log, START);
        for at in 1..3 {
            let [from, to] = relays.get_disjoint_mut([at - 1, at]).unwrap();
            tell(from, to, &log, START);
        }
        let last = &relays[2];
        assert_eq!(payloads(last, &log), payloads(&source, &log));
        for want in [alone(0, 200), alone(77, 78), alone(63, 129), alone(200, 200)] {
            assert_eq!(range(last, &log, want), range(&source, &log, want));
        }
        assert_eq!(head_proof(last, &log), head_proof(&source, &log));
    }
}

#[test]
fn a_relay_passes_on_evidence_without_having_seen_an_entry() {
    let opening = opening(LogKind::State, 1);
    let (log, evidence) = forked(&opening);
    let mut relay = set();
    relay.receive_evidence(&evidence, START, &mut rich(), |_| Admission::Hold).unwrap();
    let mut to = set();
    tell_evidence(&relay, &mut to, &log, START);
    assert_eq!(to.evidence(&log).unwrap().as_bytes(), evidence);
}

#[test]
fn logs_are_listed_by_topic_with_those_below_it_and_then_by_id() {
    let names = ["ab", "a/c", "a b", "a", "a/b", "a/b/c", "b", "a/bc"];
    let mut to = set();
    for (at, name) in names.iter().enumerate() {
        for incarnation in 0..3 {
            let kind = KINDS[at % 2];
            to.open(&opening_in(name, kind, 1 + (at % 3) as u8, incarnation), |_| Admission::Hold).unwrap();
        }
    }
    let topics = |topics: Vec<String>| {
        let mut topics = topics;
        topics.dedup();
        topics
    };
    let of = |log: &consilience_sync::Log| log.opening().topic.to_string();
    let all = ["a", "a/b", "a/b/c", "a/bc", "a/c", "a b", "ab", "b"];
    assert_eq!(topics(to.logs().map(of).collect()), all);
    assert_eq!(to.logs().count(), 24);
    let within = |name: &str| {
        let topic = Topic::new(name).unwrap();
        (topics(to.logs_within(&topic).map(of).collect()), to.logs_in(&topic).count())
    };
    assert_eq!(within("a"), (all[..5].iter().map(ToString::to_string).collect(), 3));
    assert_eq!(within("a/b"), (vec!["a/b".into(), "a/b/c".into()], 3));
    assert_eq!(within("a/d"), (vec![], 0));
    assert_eq!(within("a/b/d"), (vec![], 0));
    assert_eq!(within("c"), (vec![], 0));
    let ids: Vec<_> = to.logs_in(&Topic::new("a").unwrap()).map(|log| *log.id()).collect();
    assert!(ids.is_sorted() && ids.len() == 3);
}

#[test]
fn erasing_an_event_changes_nothing_that_is_proven_and_nothing_elsewhere() {
    let opening = opening(LogKind::Event, 1);
    let (mut source, log) = writer(&opening);
    write(&mut source, &log, 1, "x", 150);
    let mut to = Replica::new(holder(&[&opening]));
    tell(&source, &mut to.set, &log, START);
    to.follow();
    let root = to.set.log(&log).unwrap().root();
    for seq in [0, 63, 64, 100, 149] {
        to.set.erase(&log, seq).unwrap();
        to.set.erase(&log, seq).unwrap();
    }
    to.follow();
    assert_eq!(to.set.log(&log).unwrap().root(), root);
    // A reader gets the hashes, and what is missing from somebody else.
    let mut reader = holder(&[&opening]);
    tell(&to.set, &mut reader, &log, START);
    let held = reader.log(&log).unwrap();
    assert_eq!((held.root(), held.entries(0, 150).count()), (root, 150));
    assert_eq!(held.entry(64).unwrap().payload(), None);
    let payload = source.log(&log).unwrap().entry(64).unwrap().payload().unwrap().to_vec();
    assert!(reader.restore(&log, 64, [0; 4], b"another").is_err());
    reader.restore(&log, 64, [0; 4], &payload).unwrap();
    assert_eq!(reader.log(&log).unwrap().entry(64).unwrap().payload(), Some(&payload[..]));
    // Whoever has the payload already keeps it.
    let mut full = holder(&[&opening]);
    tell(&source, &mut full, &log, START);
    let erased = range(&to.set, &log, alone(0, 150));
    assert_eq!(receive(&mut full, &log, &erased), Ok(Received::Nothing));
    assert_eq!(payloads(&full, &log), payloads(&source, &log));
    let mut state = holder(&[&crate::world::opening(LogKind::State, 1)]);
    let state_log = crate::world::opening(LogKind::State, 1).log_id(&mesh());
    assert!(state.erase(&state_log, 0).is_err());
}
