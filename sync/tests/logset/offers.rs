//! What is sent because heads differ: what two sets that planned it end with, and what a plan must not hold back or cost.

use consilience_sync::reconcile::Mode;
use consilience_sync::{Admission, Answer, LogId, LogKind, LogSet, Move, Offer, RangeForm, Want};

use super::heads::{carry, config, everything, meet, meet_until_equal};
use super::world::{KINDS, Replica, START, append, meaning, opening, set, tell, write, writer};

/// One log of which the first set keeps only the position: its writer's next incarnation has taken all of it over.
fn retired(held_before: bool) -> (LogSet, LogSet, LogId) {
    let opening = opening(LogKind::State, 1);
    let (mut a, log) = writer(&opening);
    write(&mut a, &log, 1, "first", 3);
    let mut b = set();
    b.open(&opening, |_| Admission::Hold).unwrap();
    if held_before {
        tell(&a, &mut b, &log, START);
    }
    write(&mut a, &log, 1, "second", 3);
    a.retire(&log, 6).unwrap();
    while a.poll_change().is_some() {}
    assert_eq!(a.log(&log).unwrap().start(), 6);
    (a, b, log)
}

#[test]
fn who_learns_that_a_log_was_retired_becomes_equal_to_those_who_dropped_it() {
    for held_before in [true, false] {
        for knows_first in [true, false] {
            let (mut a, b, log) = retired(held_before);
            let mut b = Replica::new(b);
            b.follow();
            if knows_first {
                b.set.retire(&log, 6).unwrap();
            } else {
                let _ = meet(&mut a, &mut b.set, config(everything(), Mode::Auto, 9), START);
                b.set.retire(&log, 6).unwrap();
            }
            b.follow();
            meet_until_equal(&mut a, &mut b.set, START, Mode::Auto);
            b.follow();
            assert_eq!((b.set.log(&log).unwrap().start(), b.set.log(&log).unwrap().size()), (6, 6));
            // It goes on from there.
            write(&mut a, &log, 1, "third", 2);
            meet_until_equal(&mut a, &mut b.set, START, Mode::Auto);
            b.follow();
            assert_eq!(meaning(&a, &log), meaning(&b.set, &log));
        }
    }
}

#[test]
fn the_position_of_a_retired_log_is_asked_for_by_whoever_knows_of_it() {
    for held_before in [true, false] {
        let (a, mut b, log) = retired(held_before);
        assert_eq!(b.want(&log, &a.have(&log).unwrap()), None);
        b.retire(&log, 6).unwrap();
        tell(&a, &mut b, &log, START);
        let ends = |set: &LogSet| set.have(&log).map(|have| (have.start, have.size));
        assert_eq!(ends(&a), ends(&b));
        assert_eq!(b.want(&log, &a.have(&log).unwrap()), None);
    }
}

#[test]
fn who_never_learns_that_a_log_was_retired_goes_without_it_at_a_bounded_cost() {
    for held_before in [true, false] {
        let (mut a, mut relay, log) = retired(held_before);
        let before = relay.log(&log).unwrap().size();
        for pass in 0..10 {
            let (here, there) = meet(&mut a, &mut relay, config(everything(), Mode::Auto, pass), START);
            assert_eq!((&here.differ, there.differ.len()), (&vec![log], usize::from(held_before)));
            let cost = |set: &LogSet, differ: &[LogId], theirs: &[Offer]| -> usize {
                let moves = set.plan(differ, theirs).into_iter();
                let bytes = moves.map(|step| match step {
                    Move::Open(_) => 100,
                    Move::Send(log, want) => match set.answer(&log, &want, 1 << 20) {
                        Answer::Range { bytes, .. } => bytes.len(),
                        other => panic!("{other:?}"),
                    },
                    other => panic!("{other:?}"),
                });
                bytes.sum()
            };
            let theirs: Vec<Offer> = there.differ.iter().map(|log| relay.offer(log).unwrap()).collect();
            assert!(cost(&a, &here.differ, &theirs) < 400);
            assert_ne!(a.heads_root(), relay.heads_root());
            assert_eq!(relay.log(&log).unwrap().size(), before);
        }
    }
}

#[test]
fn an_unsigned_tail_of_a_retired_log_does_not_stand_in_the_way() {
    for discards in [true, false] {
        let opening = opening(LogKind::State, 1);
        let (mut a, log) = writer(&opening);
        write(&mut a, &log, 1, "signed", 4);
        let mut b = set();
        b.open(&opening, |_| Admission::Hold).unwrap();
        tell(&a, &mut b, &log, START);
        for _ in 0..3 {
            append(&mut a, &log, b"unsigned", START);
        }
        for set in [&mut a, &mut b] {
            set.retire(&log, 7).unwrap();
            while set.poll_change().is_some() {}
        }
        assert_eq!(a.log(&log).unwrap().size(), 7, "what is not signed is not dropped");
        if discards {
            a.discard_unsigned(&log).unwrap();
        }
        assert_eq!(a.heads_root(), b.heads_root());
    }
}

#[test]
fn two_histories_have_two_heads_also_where_an_unsigned_tail_was_retired() {
    let opening = opening(LogKind::State, 1);
    let (mut a, log) = writer(&opening);
    let mut b = a.clone();
    for (set, name) in [(&mut a, "one"), (&mut b, "other")] {
        write(set, &log, 1, name, 4);
        for _ in 0..3 {
            append(set, &log, b"unsigned", START);
        }
        set.retire(&log, 7).unwrap();
        while set.poll_change().is_some() {}
    }
    assert_ne!(a.heads_root(), b.heads_root());
}

#[test]
fn offers_that_agree_of_heads_that_differ_are_followed_by_proof() {
    let opening = opening(LogKind::State, 1);
    let (mut a, log) = writer(&opening);
    let mut b = a.clone();
    write(&mut a, &log, 1, "one", 4);
    write(&mut b, &log, 1, "other", 4);
    assert_ne!(a.heads_root(), b.heads_root());
    // As if the writer had searched for two roots that agree in 8 bytes.
    let (of_a, of_b) = (a.offer(&log).unwrap(), b.offer(&log).unwrap());
    let moves = a.plan(&[log], &[Offer { root: of_a.root, ..of_b }]);
    assert_eq!(moves, [Move::Send(log, Want { from: 4, to: 4, form: RangeForm::Alone })]);
    assert_eq!(b.plan(&[log], &[Offer { root: of_b.root, ..of_a }]), moves);
    carry(&a, &mut b, &moves, START);
    assert!(b.evidence(&log).is_some());
}

#[test]
fn offers_that_agree_of_forked_logs_are_followed_by_the_evidence() {
    for kind in KINDS {
        let (mut a, log) = writer(&opening(kind, 1));
        write(&mut a, &log, 1, "shared", 3);
        let mut clone = a.clone();
        write(&mut a, &log, 1, "main", 4);
        write(&mut clone, &log, 1, "other", 2);
        tell(&clone, &mut a, &log, START);
        let offer = a.offer(&log).unwrap();
        let moves = a.plan(&[log], &[offer]);
        // The roots of what counts may be two as well.
        let searched = kind == LogKind::Event;
        assert_eq!(moves.contains(&Move::Search(log)), searched);
        assert_eq!((moves[0], moves.len()), (Move::Evidence(log), 1 + usize::from(searched)));
        // Two pieces of evidence cut to two sizes.
        if kind == LogKind::Event {
            assert_eq!(a.plan(&[log], &[Offer { size: 1, ..offer }])[0], Move::Evidence(log));
        }
    }
}

#[test]
fn what_does_not_count_is_not_sent_to_who_knows_of_the_fork() {
    let opening = opening(LogKind::Event, 1);
    let (mut a, log) = writer(&opening);
    write(&mut a, &log, 1, "shared", 5);
    let mut clone = a.clone();
    write(&mut clone, &log, 1, "other", 1);
    write(&mut a, &log, 1, "main", 1_000);
    let mut judge = a.clone();
    tell(&clone, &mut judge, &log, START);
    let mut b = set();
    b.open(&opening, |_| Admission::Hold).unwrap();
    tell(&judge, &mut b, &log, START);
    let (of_a, of_b) = (a.offer(&log).unwrap(), b.offer(&log).unwrap());
    assert_eq!(a.plan(&[log], &[of_b]), []);
    assert_eq!(b.plan(&[log], &[of_a]), [Move::Evidence(log)]);
    meet_until_equal(&mut a, &mut b, START, Mode::Auto);
    assert_eq!(meaning(&a, &log), meaning(&b, &log));

    // Who holds nothing is sent all that counts with the evidence.
    let mut c = set();
    assert_eq!(meet_until_equal(&mut b, &mut c, START, Mode::Auto), 1);
    assert_eq!(meaning(&b, &log), meaning(&c, &log));
}

#[test]
fn nothing_is_expected_of_a_log_of_which_nothing_counts() {
    let (mut a, log) = writer(&opening(LogKind::State, 1));
    write(&mut a, &log, 1, "shared", 3);
    let mut clone = a.clone();
    write(&mut a, &log, 1, "main", 2);
    write(&mut clone, &log, 1, "other", 2);
    tell(&clone, &mut a, &log, START);
    assert_eq!(a.plan(&[log], &[]), [Move::Open(log), Move::Evidence(log)]);
    assert_eq!(set().plan(&[], &[a.offer(&log).unwrap()]), []);
}
