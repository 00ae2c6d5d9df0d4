//! Gaps and jumps: what waits, for what, and what is left when the rest never comes.

use consilience_sync::{
    Admission, Allowance, Change, Have, Hlc, Limits, Log, LogKind, LogSet, RangeForm, ReceiveError, Received,
    VerifyBudget, Want,
};

use super::common::{
    Dice, T, assert_equals_plain, budget, empty, follower, item, mesh, opening, plain, range, receive, seen,
    stamp, time, written,
};
use super::plain::Item;

/// 60 entries. From the 50th on the base is 30, and the writer has dropped what lies below.
fn compacted() -> Log {
    let items = (0..60).map(|seq| item(seq).base(if seq >= 50 { 30 } else { 0 }));
    let mut log = written(LogKind::State, items, T);
    log.drop_below(30).unwrap();
    log
}

/// The chunks of what a log has from its start on.
fn chunks(log: &Log, bytes_max: usize) -> Vec<(Vec<u8>, u64, u64)> {
    let mut chunks = vec![];
    let mut at = log.start();
    while at < log.size() {
        let form = if at == log.start() { RangeForm::Alone } else { RangeForm::Follow };
        let (bytes, end) = log.range(at, log.size(), form, bytes_max).unwrap();
        chunks.push((bytes, at, end));
        at = end;
    }
    chunks
}

fn have(log: &Log) -> Have {
    Have { start: log.start(), size: log.size(), base: log.base() }
}

#[test]
fn a_jump_cut_half_way_leaves_the_old_copy_until_the_entry_that_raised_the_base_is_there() {
    let log = compacted();
    let old = written(LogKind::State, (0..10).map(item), T);
    for bytes_max in [0, 500, 560, 700, 900] {
        let mut copy = follower(&old, 10);
        let before = seen(&copy);
        let chunks = chunks(&log, bytes_max);
        assert!(bytes_max > 0 || chunks.len() == 30, "one entry each");
        for (bytes, from, to) in &chunks {
            // Cut here for good: whatever comes again or in part, the old copy is there.
            if copy.start() == 0 {
                assert_eq!((copy.start(), copy.size(), copy.root()), (0, 10, old.root()));
                assert_eq!(super::common::shown(&copy), super::common::shown(&old));
                assert_eq!((copy.head(), copy.base(), copy.ready()), (old.head(), 0, 10));
                let form = if *from == 30 { RangeForm::Alone } else { RangeForm::Follow };
                assert_eq!(copy.want(&have(&log)), Some(Want { from: *from, to: 60, form }));
                let half = &bytes[..bytes.len() / 2];
                let staged = seen(&copy);
                assert!(receive(&mut copy, half).is_err());
                assert_eq!(seen(&copy), staged);
            }
            let got = receive(&mut copy, bytes);
            match *to {
                ..=50 => assert_eq!(got, Ok(Received::Staged { from: *from, to: *to })),
                _ if *from <= 50 => assert_eq!(got, Ok(Received::FastForwarded { from: 30, to: *to })),
                _ => assert_eq!(got, Ok(Received::Extended { from: *from, to: *to })),
            }
        }
        assert_eq!(copy.want(&have(&log)), None);
        assert_eq!(copy.held().collect::<Vec<_>>(), [(30, 60)]);
        assert_eq!((copy.start(), copy.root(), copy.head()), (30, log.root(), log.head()));
        assert_eq!(super::common::shown(&copy), super::common::shown(&log));
        drop(before);
    }
}

#[test]
fn a_jump_in_a_set_shows_the_old_state_or_the_new_one() {
    let log = compacted();
    let old = written(LogKind::State, (0..10).map(item), T);
    let mut set = LogSet::new(mesh(), Limits::default());
    let id = set.open(log.opening(), |_| Admission::Hold).unwrap();
    let mut budget = VerifyBudget::new();
    set.receive(&id, &range(&old, 0, 10, RangeForm::Follow), time(T), &mut budget).unwrap();
    assert_eq!(set.poll_change(), Some(Change::Applicable { log: id, from: 0, to: 10 }));
    for (bytes, _, to) in chunks(&log, 0) {
        set.receive(&id, &bytes, time(T), &mut budget).unwrap();
        if to <= 50 {
            assert_eq!((set.poll_change(), set.applicable(&id)), (None, Some((0, 10))));
        } else if to == 51 {
            assert_eq!(set.poll_change(), Some(Change::Replaced { log: id, from: 30 }));
            assert_eq!(set.poll_change(), Some(Change::Applicable { log: id, from: 30, to: 51 }));
        }
    }
    assert_eq!(set.applicable(&id), Some((30, 60)));
}

#[test]
fn what_waits_behind_a_gap_follows_when_the_gap_is_filled_in_any_order() {
    let log = written(LogKind::Event, (0..70).map(item), T);
    let model = plain(LogKind::Event).with((0..70).map(item));
    let pieces = [(0, 9), (9, 20), (15, 33), (33, 64), (60, 66), (66, 70)];
    let mut dice = Dice(5);
    for _ in 0..300 {
        let mut order = pieces;
        dice.shuffle(&mut order);
        let mut copy = empty(LogKind::Event);
        for (from, to) in order {
            receive(&mut copy, &range(&log, from, to, RangeForm::Alone)).unwrap();
        }
        assert_equals_plain(&copy, &model);
        assert_eq!((copy.gaps(), copy.head()), (vec![], log.head()), "{order:?}");
    }
}

#[test]
fn gaps_and_held_ranges_tile_the_log_up_to_the_furthest_head_that_was_seen() {
    let log = written(LogKind::Event, (0..50).map(item), T);
    let mut copy = follower(&written(LogKind::Event, (0..10).map(item), T), 10);
    receive(&mut copy, &range(&log, 20, 30, RangeForm::Alone)).unwrap();
    assert_eq!(copy.held().collect::<Vec<_>>(), [(0, 10), (20, 30)]);
    // The head that came with the range is of size 50.
    assert_eq!(copy.furthest_head().map(|head| head.size), Some(50));
    assert_eq!(copy.gaps(), [(10, 20), (30, 50)]);
}

#[test]
fn a_jump_over_another_staged_range_says_that_it_jumped() {
    let items = |seq: u64| item(seq).base(if seq >= 50 { 50 } else { 0 });
    let log = written(LogKind::State, (0..60).map(items), T);
    let mut copy = follower(&written(LogKind::State, (0..10).map(item), T), 10);
    receive(&mut copy, &range(&log, 20, 30, RangeForm::Alone)).unwrap();
    let got = receive(&mut copy, &range(&log, 50, 60, RangeForm::Alone));
    assert_eq!((copy.start(), copy.size(), copy.root()), (50, 60, log.root()));
    assert_eq!(copy.held().collect::<Vec<_>>(), [(50, 60)]);
    assert_eq!(got, Ok(Received::FastForwarded { from: 50, to: 60 }));
}

#[test]
fn a_jump_over_another_staged_range_reaches_the_fold_of_a_set() {
    let items = |seq: u64| item(seq).base(if seq >= 50 { 50 } else { 0 });
    let log = written(LogKind::State, (0..60).map(items), T);
    let mut set = LogSet::new(mesh(), Limits::default());
    let id = set.open(log.opening(), |_| Admission::Hold).unwrap();
    let old = written(LogKind::State, (0..10).map(item), T);
    let mut budget = VerifyBudget::new();
    for bytes in [
        range(&old, 0, 10, RangeForm::Follow),
        range(&log, 20, 30, RangeForm::Alone),
        range(&log, 50, 60, RangeForm::Alone),
    ] {
        set.receive(&id, &bytes, time(T), &mut budget).unwrap();
        while set.poll_change().is_some() {}
    }
    assert_eq!(set.applicable(&id), Some((50, 60)));
    assert_eq!(set.stats().staged_bytes, 0);
}

#[test]
fn a_later_head_that_comes_with_entries_that_wait_already_is_told() {
    let log = written(LogKind::Event, (0..9).map(item), T);
    let later = written(LogKind::Event, (0..12).map(item), T + 1);
    let mut copy = follower(&written(LogKind::Event, (0..2).map(item), T), 2);
    receive(&mut copy, &range(&log, 4, 8, RangeForm::Alone)).unwrap();
    let bytes = range(&later, 5, 7, RangeForm::Alone);
    assert_eq!(receive(&mut copy, &bytes), Ok(Received::Head));
    assert_eq!((copy.furthest_head(), copy.gaps()), (later.head(), vec![(2, 4), (8, 12)]));
    assert_eq!(receive(&mut copy, &bytes), Ok(Received::Nothing));
}

/// Nobody has the entries any more that the first of what waits is waiting for, so only the jump can help.
#[test]
fn a_jump_that_its_writer_declared_takes_the_place_of_what_waits_in_vain() {
    let whole = written(LogKind::State, (0..60).map(|seq| item(seq).base(if seq >= 50 { 30 } else { 0 })), T);
    let old = written(LogKind::State, (0..10).map(item), T);
    let mut copy = follower(&old, 10);
    for piece in 0..8 {
        let piece = range(&whole, 11 + 2 * piece, 12 + 2 * piece, RangeForm::Alone);
        assert!(matches!(receive(&mut copy, &piece), Ok(Received::Staged { .. })));
    }
    let jump = range(&compacted(), 30, 60, RangeForm::Alone);
    assert_eq!(receive(&mut copy, &jump), Ok(Received::FastForwarded { from: 30, to: 60 }));
    assert_eq!((copy.start(), copy.root(), copy.gaps()), (30, whole.root(), vec![]));
}

#[test]
fn what_may_wait_behind_gaps_is_limited_and_a_refusal_changes_nothing() {
    let log = written(LogKind::Event, (0..64).map(item), T);
    let mut copy = follower(&written(LogKind::Event, (0..2).map(item), T), 2);
    for piece in 0..8 {
        receive(&mut copy, &range(&log, 4 + 4 * piece, 6 + 4 * piece, RangeForm::Alone)).unwrap();
    }
    let before = seen(&copy);
    let ninth = range(&log, 60, 62, RangeForm::Alone);
    assert_eq!(receive(&mut copy, &ninth), Err(ReceiveError::TooManyStaged));
    let longer = range(&log, 6, 7, RangeForm::Follow);
    let tight = Allowance { staged_bytes_max: 10, ..Allowance::ANY };
    assert_eq!(copy.receive(&longer, &tight, &mut budget()), Err(ReceiveError::TooManyStaged));
    assert_eq!(seen(&copy), before);
    // Filling the gaps always goes.
    let filling = range(&log, 2, 64, RangeForm::Follow);
    assert_eq!(copy.receive(&filling, &tight, &mut budget()), Ok(Received::Extended { from: 2, to: 64 }));
    assert_eq!((copy.root(), copy.held().count()), (log.root(), 1));
}

#[test]
fn a_range_that_follows_on_nothing_or_begins_before_what_is_kept_says_from_where_to_ask() {
    let items = |seq: u64| item(seq).base(seq);
    let log = written(LogKind::Event, (0..20).map(items), T);
    let mut copy = follower(&log, 10);
    copy.drop_below(5).unwrap();
    let before = seen(&copy);
    for (from, form, error) in [
        (11, RangeForm::Follow, ReceiveError::Gap { have: 10 }),
        (4, RangeForm::Follow, ReceiveError::Stale { have: 10 }),
        (4, RangeForm::Alone, ReceiveError::Stale { have: 10 }),
        (0, RangeForm::Alone, ReceiveError::Stale { have: 10 }),
    ] {
        assert_eq!(receive(&mut copy, &range(&log, from, 20, form)), Err(error));
    }
    assert_eq!(seen(&copy), before);
    for (from, form) in [(5, RangeForm::Follow), (5, RangeForm::Alone), (10, RangeForm::Follow)] {
        let mut copy = copy.clone();
        let got = receive(&mut copy, &range(&log, from, 20, form));
        assert_eq!(got, Ok(Received::Extended { from: 10, to: 20 }));
        assert_eq!(copy.root(), log.root());
    }
}

/// Ten entries of which the fifth is an hour ahead.
fn ahead() -> Vec<Item> {
    (0..10)
        .map(|seq| {
            let mut item = item(seq);
            item.hlc = stamp(if seq == 5 { 3_600_000 } else { seq });
            item
        })
        .collect()
}

#[test]
fn an_entry_beyond_the_limit_is_held_and_not_ready_and_neither_is_what_follows_it() {
    let log = written(LogKind::State, ahead(), T);
    let limit = |latest, late_bytes_max| Allowance { latest, late_bytes_max, ..Allowance::ANY };
    let now = Hlc::from_bits(stamp(120_000));
    let mut copy = empty(LogKind::State);
    let whole = range(&log, 0, 10, RangeForm::Follow);
    let refused = copy.receive(&whole, &limit(now, 10), &mut budget());
    assert_eq!(refused, Err(ReceiveError::TooLate { ready_to: 5 }));
    assert_eq!(seen(&copy), seen(&empty(LogKind::State)));
    // Those before can be had alone.
    let front = range(&log, 0, 5, RangeForm::Follow);
    assert!(copy.receive(&front, &limit(now, 10), &mut budget()).is_ok());
    assert_eq!((copy.size(), copy.ready()), (5, 5));
    let before = seen(&copy);
    assert!(copy.receive(&whole, &limit(now, 10), &mut budget()).is_err());
    assert_eq!(seen(&copy), before);
    assert!(copy.receive(&whole, &limit(now, 1_000), &mut budget()).is_ok());
    assert_eq!((copy.size(), copy.ready(), copy.root()), (10, 5, log.root()));
    // A limit that is exactly the stamp is enough.
    let mut exact = empty(LogKind::State);
    let just = Hlc::from_bits(stamp(3_600_000));
    assert!(exact.receive(&whole, &limit(just, 0), &mut budget()).is_ok());
    assert_eq!(exact.ready(), 10);
}

#[test]
fn what_is_held_stays_disjoint_when_what_waits_behind_a_filled_gap_is_from_the_future() {
    // The entries from the fifth on are late, and no more than a few bytes of such are kept.
    let log = written(LogKind::State, ahead(), T);
    let now = Hlc::from_bits(stamp(120_000));
    let tight = Allowance { latest: now, late_bytes_max: 10, ..Allowance::ANY };
    let mut copy = empty(LogKind::State);
    let behind = range(&log, 3, 10, RangeForm::Alone);
    assert!(copy.receive(&behind, &tight, &mut budget()).is_ok());
    let front = range(&log, 0, 5, RangeForm::Follow);
    assert!(copy.receive(&front, &tight, &mut budget()).is_ok());
    assert_eq!((copy.size(), copy.ready()), (5, 5));
    let held: Vec<(u64, u64)> = copy.held().collect();
    assert!(held.is_sorted_by(|one, next| one.1 <= next.0), "{held:?}");
    // When there is room for it, or time has caught up, it follows.
    let mut later = copy.clone();
    let room = Allowance { latest: now, ..Allowance::ANY };
    later.receive(&range(&log, 4, 6, RangeForm::Follow), &room, &mut budget()).unwrap();
    assert!(later.size() >= 6 && later.ready() == 5);
    copy.receive(&range(&log, 4, 6, RangeForm::Follow), &Allowance::ANY, &mut budget()).unwrap();
    assert_eq!((copy.size(), copy.ready(), copy.root()), (10, 10, log.root()));
    assert_eq!(copy.held().collect::<Vec<_>>(), [(0, 10)]);
}

#[test]
fn entries_that_were_late_become_ready_when_time_has_caught_up() {
    let log = written(LogKind::State, ahead(), T);
    let now = Hlc::from_bits(stamp(120_000));
    let mut copy = empty(LogKind::State);
    let limits = Allowance { latest: now, ..Allowance::ANY };
    copy.receive(&range(&log, 0, 10, RangeForm::Follow), &limits, &mut budget()).unwrap();
    assert_eq!(copy.make_ready(now), Some(Hlc::from_bits(stamp(3_600_000))));
    assert_eq!(copy.ready(), 5);
    assert_eq!(
        copy.make_ready(Hlc::from_bits(stamp(3_600_000) - 1)).map(Hlc::to_bits),
        Some(stamp(3_600_000))
    );
    assert_eq!(copy.make_ready(Hlc::from_bits(stamp(3_600_000))), None);
    assert_eq!((copy.ready(), copy.size()), (10, 10));
}

#[test]
fn a_set_defers_what_is_from_the_future_and_applies_it_when_time_has_caught_up() {
    let log = written(LogKind::State, ahead(), T);
    let mut set = LogSet::new(mesh(), Limits::default());
    let id = set.open(log.opening(), |_| Admission::Hold).unwrap();
    let whole = range(&log, 0, 10, RangeForm::Follow);
    set.receive(&id, &whole, time(T), &mut VerifyBudget::new()).unwrap();
    assert_eq!(set.poll_change(), Some(Change::Applicable { log: id, from: 0, to: 5 }));
    assert_eq!(set.poll_change(), Some(Change::Deferred { log: id, from: 5 }));
    assert_eq!(set.poll_change(), None);
    let due = T + 3_600_000 - 120_000;
    assert_eq!(set.poll_timeout(), Some(time(due)));
    set.handle_timeout(time(due - 1));
    assert_eq!((set.poll_change(), set.applicable(&id)), (None, Some((0, 5))));
    set.handle_timeout(time(due));
    assert_eq!(set.poll_change(), Some(Change::Applicable { log: id, from: 5, to: 10 }));
    assert_eq!((set.poll_change(), set.poll_timeout()), (None, None));
    assert_eq!((set.applicable(&id), set.stats().late_bytes), (Some((0, 10)), 0));
}

#[test]
fn a_jump_whose_raising_entry_is_from_the_future_waits_for_its_time() {
    let mut items: Vec<Item> = (0..60).map(|seq| item(seq).base(if seq >= 50 { 30 } else { 0 })).collect();
    items[50].hlc = stamp(3_600_000);
    let mut log = written(LogKind::State, items, T);
    log.drop_below(30).unwrap();
    let old = written(LogKind::State, (0..10).map(item), T);
    let mut set = LogSet::new(mesh(), Limits::default());
    let id = set.open(log.opening(), |_| Admission::Hold).unwrap();
    let mut budget = VerifyBudget::new();
    set.receive(&id, &range(&old, 0, 10, RangeForm::Follow), time(T), &mut budget).unwrap();
    let got = set.receive(&id, &range(&log, 30, 60, RangeForm::Alone), time(T), &mut budget);
    assert_eq!(got, Ok(Received::Staged { from: 30, to: 60 }));
    assert_eq!(set.poll_change(), Some(Change::Applicable { log: id, from: 0, to: 10 }));
    assert_eq!((set.poll_change(), set.applicable(&id)), (None, Some((0, 10))));
    let due = time(T + 3_600_000 - 120_000);
    assert_eq!(set.poll_timeout(), Some(due));
    set.handle_timeout(due);
    assert_eq!(set.poll_change(), Some(Change::Replaced { log: id, from: 30 }));
    assert_eq!(set.poll_change(), Some(Change::Applicable { log: id, from: 30, to: 60 }));
    assert_eq!((set.poll_change(), set.poll_timeout()), (None, None));
    assert_eq!(opening(LogKind::State).log_id(&mesh()), id);
}
