//! What is sent because heads differ: what two sets that planned it end with, and what a plan must not hold back or cost.

use consilience_sync::reconcile::Mode;
use consilience_sync::{Admission, LogKind, Move, Offer, RangeForm, Want};

use super::heads::{carry, meet_until_equal};
use super::world::{KINDS, START, meaning, opening, set, tell, write, writer};

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
        assert_eq!((moves[0], moves.len()), (Move::Facts(log), 1 + usize::from(searched)));
        // Two pieces of evidence cut to two sizes.
        if kind == LogKind::Event {
            assert_eq!(a.plan(&[log], &[Offer { size: 1, ..offer }])[0], Move::Facts(log));
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
    assert_eq!(b.plan(&[log], &[of_a]), [Move::Facts(log)]);
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
    assert_eq!(a.plan(&[log], &[]), [Move::Open(log), Move::Facts(log)]);
    assert_eq!(set().plan(&[], &[a.offer(&log).unwrap()]), []);
}

#[test]
fn facts_are_sent_unless_they_are_the_same_and_the_roots_show_why_the_heads_differ() {
    let (mut a, log) = writer(&opening(LogKind::Event, 1));
    write(&mut a, &log, 1, "shared", 3);
    let mut clone = a.clone();
    write(&mut a, &log, 1, "main", 4);
    write(&mut clone, &log, 1, "other", 2);
    tell(&clone, &mut a, &log, START);
    let ours = a.offer(&log).unwrap();
    let sends = |offer: Offer| a.plan(&[log], &[offer]).contains(&Move::Facts(log));
    let (root, facts) = ([0xff; 8], Some([1; 8]));
    assert!(sends(ours) && sends(Offer { facts, ..ours }) && sends(Offer { facts, root, ..ours }));
    assert!(!sends(Offer { root, ..ours }), "the histories differ, and the facts do not");
    assert!(sends(Offer { root, size: 1, ..ours }) && sends(Offer { root, size: 9, ..ours }));
}

#[test]
fn of_a_log_without_entries_nothing_is_proven_and_of_a_void_one_nothing_expected() {
    for kind in KINDS {
        let (a, log) = writer(&opening(kind, 1));
        let ours = a.offer(&log).unwrap();
        assert_eq!(a.plan(&[log], &[ours]), []);
        let want = Want { from: 0, to: 3, form: RangeForm::Follow };
        assert_eq!(a.plan(&[log], &[Offer { size: 3, ..ours }]), [Move::Expect(log, want)]);
        let moves = a.plan(&[log], &[Offer { size: 3, facts: Some([1; 8]), ..ours }]);
        // The facts of a state log are a fork: nothing of it counts, whatever else is said.
        assert_eq!(moves.is_empty(), kind == LogKind::State, "{moves:?}");
        for (start, form) in [(0, RangeForm::Follow), (2, RangeForm::Alone)] {
            let moves = set().plan(&[], &[Offer { start, size: 3, ..ours }]);
            assert_eq!(moves, [Move::Expect(log, Want { from: start, to: 3, form })]);
        }
    }
}
