//! Writers that break the rules of bases. Only they can sign such logs; all copies must make the same of them.

use consilience_sync::{
    Admission, Answer, DecodeError, Have, Limits, Log, LogId, LogKind, LogSet, RangeForm, ReceiveError,
    Received, VerifyBudget,
};

use super::common::{
    T, assert_equals_plain, budget, empty, item, mesh, opening, plain, range, receive, seen, shown, time,
};
use super::plain::{Ink, Item, Plain};

fn with_bases(bases: &[u64]) -> Plain {
    plain(LogKind::State).with((0..).zip(bases).map(|(seq, base)| item(seq).base(*base)))
}

/// The base is 5 in ten entries, then 2 in five, then this in three.
fn falling(then: u64) -> Plain {
    with_bases(&[&[0; 5][..], &[5; 5], &[2; 5], &[then; 3]].concat())
}

/// A range of the model under its last head.
fn piece(model: &Plain, from: u64, to: u64, alone: bool) -> Vec<u8> {
    model.range((from, to), alone, model.said(model.size(), T))
}

#[test]
fn a_base_above_its_own_entry_is_refused_wherever_it_stands() {
    for above in [6, 7, 1_000, u64::MAX] {
        let model = with_bases(&[0, 0, 0, 0, 0, above, above, 1_001]);
        let mut copy = empty(LogKind::State);
        let said = super::plain::Said { base: 0, ..model.said(8, T) };
        receive(&mut copy, &model.range((0, 5), false, said)).unwrap();
        let before = seen(&copy);
        for (from, to, alone) in [(5, 6, false), (5, 6, true), (4, 6, true), (4, 6, false), (5, 7, true)] {
            let mut ink = Ink::default();
            model.range_ink((from, to), alone, said, &mut ink);
            // Behind another history it could be sound, for all that is known without the peaks.
            let base = ReceiveError::Decode(DecodeError::Base);
            let error = if alone { base } else { ReceiveError::Unproven };
            assert_eq!(receive(&mut copy, &ink.bytes), Err(error));
            assert_eq!(copy.verify(&ink.bytes, &mut budget()).unwrap_err(), error);
        }
        assert_eq!(seen(&copy), before);
    }
    // Nor does a head have one.
    let model = with_bases(&[0, 0, 0]);
    for base in [3, 4, u64::MAX] {
        let said = super::plain::Said { size: 3, base, time: T };
        let bytes = model.range((3, 3), true, said);
        assert_eq!(receive(&mut empty(LogKind::State), &bytes), Err(ReceiveError::Decode(DecodeError::Base)));
        let mut ink = Ink::default();
        model.head_bytes(said, &mut ink);
        assert!(consilience_sync::SignedHead::decode(&ink.bytes, &mesh()).is_err());
    }
}

#[test]
fn what_follows_an_entry_whose_base_is_above_it_replaces_what_is_held_for_all_alike() {
    // The sixth entry cannot be had by anybody; the seventh makes it needless.
    let model = with_bases(&[0, 0, 0, 0, 0, 6, 6, 6]);
    let (front, rest) = (piece(&model, 0, 5, false), piece(&model, 6, 8, true));
    let mut ends = vec![];
    for order in [&[&front, &rest][..], &[&rest, &front], &[&rest]] {
        let mut copy = empty(LogKind::State);
        order.iter().for_each(|bytes| drop(receive(&mut copy, bytes)));
        assert_eq!((copy.start(), copy.size()), (6, 8));
        assert_equals_plain(&copy, &model);
        ends.push(seen(&copy));
    }
    assert!(ends.iter().all(|end| *end == ends[0]));
}

#[test]
fn a_base_that_falls_cannot_follow_on_the_entry_before() {
    let model = falling(12);
    let mut copy = empty(LogKind::State);
    receive(&mut copy, &piece(&model, 0, 10, false)).unwrap();
    let before = (shown(&copy), copy.root(), copy.head().copied(), copy.ready(), copy.base());
    // Alone, it waits, and does not count by itself, however much of it is there.
    for (from, to) in [(10, 11), (11, 13), (13, 15)] {
        let got = receive(&mut copy, &piece(&model, from, to, true));
        assert_eq!(got, Ok(Received::Staged { from, to }));
        assert_eq!((shown(&copy), copy.root(), copy.head().copied(), copy.ready(), copy.base()), before);
        assert_eq!(copy.held().collect::<Vec<_>>(), [(0, 10), (10, to)]);
    }
    // The entry that raises the base to where it began replaces all that was before.
    let got = receive(&mut copy, &piece(&model, 15, 16, true));
    assert_eq!(got, Ok(Received::FastForwarded { from: 10, to: 16 }));
    receive(&mut copy, &piece(&model, 16, 18, false)).unwrap();
    assert_eq!((copy.start(), copy.size(), copy.base()), (10, 18, 12));
    assert_equals_plain(&copy, &model);
}

#[test]
fn a_range_whose_base_falls_where_it_would_follow_shows_another_history_by_its_peaks() {
    let (ours, theirs) = (with_bases(&[0, 0, 2]), with_bases(&[0; 5]));
    let mut copy = empty(LogKind::State);
    receive(&mut copy, &piece(&ours, 0, 3, false)).unwrap();
    // Nothing is missing before it, so to ask for what comes before would bring the same again.
    assert_eq!(receive(&mut copy, &piece(&theirs, 3, 5, false)), Err(ReceiveError::Unproven));
    assert!(matches!(receive(&mut copy, &piece(&theirs, 3, 5, true)), Ok(Received::Forked(_))));
}

#[test]
fn a_base_that_falls_cannot_hide_within_a_range() {
    // Written as the wire has it, a base only rises; what the writer signed is then not what is read.
    let honest = with_bases(&[&[0; 5][..], &[5; 5], &[5; 8]].concat());
    let model = falling(12);
    let said = model.said(18, T);
    let mut ink = Ink::default();
    honest.range_signed((0, 13), false, said, &model.sign(said), &mut ink);
    assert_eq!(receive(&mut empty(LogKind::State), &ink.bytes), Err(ReceiveError::BadSignature));
}

#[test]
fn a_base_that_falls_and_never_rises_to_its_start_is_never_applied() {
    for then in [2, 5, 9] {
        let model = falling(then);
        let mut copy = empty(LogKind::State);
        receive(&mut copy, &piece(&model, 0, 10, false)).unwrap();
        receive(&mut copy, &piece(&model, 10, 18, true)).unwrap();
        assert_eq!((copy.start(), copy.size(), copy.base()), (0, 10, 5));
        let mut other = empty(LogKind::State);
        receive(&mut other, &piece(&model, 10, 18, true)).unwrap();
        assert_eq!((other.start(), other.size()), (0, 0));
        receive(&mut other, &piece(&model, 0, 10, false)).unwrap();
        assert_eq!(shown(&other), shown(&copy));
        assert_eq!((other.root(), other.base(), other.ready()), (copy.root(), copy.base(), copy.ready()));
        // Nobody passes on what is not applied.
        assert_eq!(copy.range(10, 18, RangeForm::Alone, usize::MAX), None);
    }
}

/// What a set that holds some of it makes of the log.
fn verdict(set: &LogSet, id: &LogId) -> (Option<(u64, u64)>, Vec<super::common::Shown>) {
    let applicable = set.applicable(id);
    let (from, to) = applicable.unwrap();
    let entries = shown(set.log(id).unwrap());
    (applicable, entries.into_iter().filter(|shown| (from..to).contains(&shown.seq)).collect())
}

/// Every order of so many things.
fn orders(len: usize) -> Vec<Vec<usize>> {
    if len == 0 {
        return vec![vec![]];
    }
    let shorter = orders(len - 1);
    let insert = |order: &Vec<usize>, at: usize| [&order[..at], &[len - 1], &order[at..]].concat();
    shorter.iter().flat_map(|order| (0..len).map(move |at| insert(order, at))).collect()
}

#[test]
fn all_replicas_end_alike_in_whatever_order_the_pieces_of_a_log_whose_base_falls_come() {
    for (then, end) in [(10, (10, 18)), (12, (12, 18)), (9, (5, 10)), (2, (5, 10))] {
        let model = falling(then);
        let pieces =
            [(0, 4, false), (4, 10, true), (10, 12, true), (12, 15, true), (15, 16, true), (16, 18, true)];
        let pieces = pieces.map(|(from, to, alone)| piece(&model, from, to, alone));
        for order in orders(pieces.len()) {
            let mut set = LogSet::new(mesh(), Limits::default());
            let id = set.open(&opening(LogKind::State), |_| Admission::Hold).unwrap();
            // Twice, as from two peers: what could not be placed at first can be now.
            for &at in order.iter().chain(&order) {
                let _ = set.receive(&id, &pieces[at], time(T), &mut VerifyBudget::new());
            }
            let (applicable, entries) = verdict(&set, &id);
            assert_eq!(applicable, Some(end), "{order:?}");
            assert_eq!(entries.len() as u64, end.1 - end.0);
            for shown in entries {
                assert_eq!(shown.base, model.items[shown.seq as usize].base);
            }
        }
    }
}

#[test]
fn replicas_that_hold_different_parts_of_a_log_whose_base_falls_meet_and_are_alike() {
    let model = falling(12);
    let parts = [(0, 10, false), (0, 4, false), (10, 18, true), (12, 15, true), (15, 18, true)];
    for one in parts {
        for other in parts {
            let mut sets = [one, other].map(|(from, to, alone)| {
                let mut set = LogSet::new(mesh(), Limits::default());
                let id = set.open(&opening(LogKind::State), |_| Admission::Hold).unwrap();
                let bytes = piece(&model, from, to, alone);
                set.receive(&id, &bytes, time(T), &mut VerifyBudget::new()).unwrap();
                set
            });
            let id = opening(LogKind::State).log_id(&mesh());
            for round in 0..12 {
                let have: Have = sets[1 - round % 2].have(&id).unwrap();
                let Some(want) = sets[round % 2].want(&id, &have) else { continue };
                let Answer::Range { bytes, .. } = sets[1 - round % 2].answer(&id, &want, 64 << 10) else {
                    continue;
                };
                let got = sets[round % 2].receive(&id, &bytes, time(T), &mut VerifyBudget::new());
                assert!(got.is_ok(), "{one:?} {other:?}: {got:?}");
            }
            assert_eq!(verdict(&sets[0], &id), verdict(&sets[1], &id), "{one:?} {other:?}");
        }
    }
}

#[test]
fn the_chunks_of_a_jump_may_come_in_any_order() {
    let bases = (0..60).map(|seq| if seq >= 50 { 30 } else { 0 }).collect::<Vec<_>>();
    let model = with_bases(&bases);
    let chunks = [(30, 38), (38, 44), (44, 52), (52, 60)].map(|(from, to)| piece(&model, from, to, true));
    for order in orders(chunks.len()) {
        let mut copy = empty(LogKind::State);
        receive(&mut copy, &piece(&model, 0, 10, false)).unwrap();
        for &at in &order {
            receive(&mut copy, &chunks[at]).unwrap();
        }
        // All of it is there: nothing has to be asked for again.
        assert_eq!((copy.start(), copy.size()), (30, 60), "{order:?}, {:?}", copy.held().collect::<Vec<_>>());
        assert_equals_plain(&copy, &model);
    }
}

#[test]
fn a_copy_of_a_log_whose_base_fell_proves_and_can_be_passed_on_from_where_it_begins() {
    let model = falling(12);
    let mut copy = empty(LogKind::State);
    receive(&mut copy, &piece(&model, 10, 18, true)).unwrap();
    assert_eq!((copy.start(), copy.size()), (10, 18));
    let mut next: Log = empty(LogKind::State);
    receive(&mut next, &range(&copy, 10, 18, RangeForm::Alone)).unwrap();
    assert_eq!(seen(&next), seen(&copy));
    copy.drop_below(12).unwrap();
    let mut last = empty(LogKind::State);
    receive(&mut last, &range(&copy, 12, 18, RangeForm::Alone)).unwrap();
    assert_equals_plain(&last, &model);
    // Items are what they were, stamps and all.
    let items: Vec<Item> = model.items[12..].to_vec();
    assert!(shown(&last).iter().zip(items).all(|(entry, item)| entry.hlc.to_bits() == item.hlc));
}
