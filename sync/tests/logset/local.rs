//! What a local writer may do with its logs, and what a set says of them.

use consilience_sync::{
    Admission, Answer, Change, Closure, Hlc, LOG_SIZE_MAX, LogId, LogKind, LogSet, NewEntry, OpenError,
    Pruned, RangeForm, SetError, SignError, UncheckedPruned, Want,
};

use crate::world::{
    KINDS, START, WHOLE, append, holder, keys, later, limited, mesh, opening, opening_in, range, receive,
    stamp, tell, write, writer,
};

fn changes(set: &mut LogSet) -> Vec<Change> {
    std::iter::from_fn(|| set.poll_change()).collect()
}

#[test]
fn a_log_is_writable_for_its_local_writer_until_another_history_of_it_is_known() {
    for kind in KINDS {
        let (mut owner, log) = writer(&opening(kind, 1));
        assert!(owner.is_writable(&log) && owner.is_local(&log) && !owner.is_self_forked(&log));
        write(&mut owner, &log, 1, "shared", 2);
        let mut clone = owner.clone();
        let mut peer = holder(&[&opening(kind, 1)]);
        tell(&owner, &mut peer, &log, START);
        assert!(!peer.is_writable(&log) && !peer.is_local(&log));
        assert!(!owner.is_writable(&LogId::from_bytes([1; 32])));

        let mut disowned = owner.clone();
        disowned.disown(&log);
        assert!(!disowned.is_writable(&log) && disowned.is_self_forked(&log));
        assert!(changes(&mut disowned).contains(&Change::SelfForked { log }));
        peer.disown(&log);
        assert!(!peer.is_self_forked(&log), "only a writer's own log is disowned");

        write(&mut owner, &log, 1, "main", 1);
        write(&mut clone, &log, 1, "other", 1);
        tell(&clone, &mut owner, &log, START);
        assert!(!owner.is_writable(&log) && owner.is_self_forked(&log), "{kind:?}");
        assert!(owner.evidence(&log).is_some());
    }
}

#[test]
fn a_log_of_which_a_later_incarnation_has_closed_more_than_is_here_is_not_writable() {
    let (first, second) = (opening_in("a", LogKind::State, 1, 1), opening_in("a", LogKind::State, 1, 2));
    for (below, writable) in [(3, true), (4, false)] {
        let (mut owner, log) = writer(&first);
        write(&mut owner, &log, 1, "x", 3);
        let later = owner.open_local(&second).unwrap();
        let closures = [Closure { incarnation: first.incarnation, below }];
        let entry = NewEntry { closures: &closures, ..NewEntry::new(stamp(1), b"later") };
        owner.append(&later, &entry).unwrap();
        owner.sign_head(&later, &keys(1), START).unwrap();
        changes(&mut owner);
        assert_eq!((owner.is_writable(&log), owner.is_outgrown(&log)), (writable, !writable), "{below}");
    }
}

#[test]
fn what_is_not_signed_can_be_discarded_and_then_the_writer_goes_on() {
    for kind in KINDS {
        let (mut owner, log) = writer(&opening(kind, 1));
        write(&mut owner, &log, 1, "x", 3);
        changes(&mut owner);
        // Where nothing was dropped, nothing is told, and a log is not given back.
        assert_eq!(owner.discard_unsigned(&log), Ok(3));
        assert_eq!(changes(&mut owner), []);
        let mut going_on = owner.clone();
        write(&mut going_on, &log, 1, "y", 1);
        assert_eq!(changes(&mut going_on), [Change::Applicable { log, from: 3, to: 4 }]);
        let mut disowned = owner.clone();
        disowned.disown(&log);
        disowned.discard_unsigned(&log).unwrap();
        assert!(!disowned.is_writable(&log));

        append(&mut owner, &log, b"tail", START);
        owner.disown(&log);
        changes(&mut owner);
        assert_eq!(owner.discard_unsigned(&log), Ok(3));
        assert!(owner.is_writable(&log) && !owner.is_self_forked(&log));
        assert_eq!(
            changes(&mut owner),
            [Change::Replaced { log, from: 0 }, Change::Applicable { log, from: 0, to: 3 }]
        );
        assert_eq!(owner.discard_unsigned(&LogId::from_bytes([1; 32])), Err(SetError::Unknown));
    }
}

#[test]
fn a_greater_word_on_one_log_takes_the_place_of_a_smaller_one_and_not_the_other_way_round() {
    let opening = opening(LogKind::Event, 1);
    let (mut owner, log) = writer(&opening);
    write(&mut owner, &log, 1, "x", 6);
    let mut roots = vec![owner.heads_root()];
    let below = |set: &LogSet| set.facts(&log).unwrap().pruned().map(Pruned::below);
    assert_eq!(below(&owner), None);
    for (word, stands) in [(2, 2), (4, 4), (3, 4), (4, 4), (5, 5)] {
        let is_new = below(&owner) < Some(word);
        assert_eq!(owner.prune(&log, word, &keys(1), START).unwrap().is_some(), is_new, "{word}");
        assert_eq!(below(&owner), Some(stands));
        if is_new {
            roots.push(owner.heads_root());
        }
    }
    roots.sort_unstable();
    roots.dedup();
    assert_eq!(roots.len(), 4, "each word that says more is another root");
}

#[test]
fn a_word_reaches_to_the_greatest_size_of_a_log_and_no_further() {
    let named = opening(LogKind::Event, 1).named(&mesh());
    let sign = |below| Pruned::sign(&named, below, &mesh(), &keys(1));
    assert_eq!(sign(LOG_SIZE_MAX).unwrap().below(), LOG_SIZE_MAX);
    assert_eq!(sign(LOG_SIZE_MAX + 1), Err(SignError::Unavailable));
}

#[test]
fn a_log_that_is_removed_gives_its_place_to_another_of_its_agent() {
    let mut set = limited(|limits| limits.logs_per_agent_max = 3);
    assert_eq!(set.limits().logs_per_agent_max, 3);
    let open = |set: &mut LogSet, incarnation| {
        set.open(&opening_in("a", LogKind::State, 1, incarnation), |_| Admission::Hold)
    };
    let logs: Vec<LogId> = (1..=3).map(|incarnation| open(&mut set, incarnation).unwrap()).collect();
    assert!(matches!(open(&mut set, 4), Err(OpenError::Quota)));
    for (log, next) in logs.iter().zip(10..) {
        assert!(set.remove(log));
        assert!(!set.remove(log));
        open(&mut set, next).unwrap();
        assert!(open(&mut set, 20).is_err(), "{next}");
    }
}

#[test]
fn a_log_is_found_by_the_first_bytes_of_its_id() {
    let mut set = holder(&[&opening(LogKind::State, 1), &opening(LogKind::Event, 2)]);
    let logs: Vec<LogId> = set.logs().map(|log| *log.id()).collect();
    assert_eq!(logs.len(), 2);
    for log in &logs {
        assert_eq!(set.find(&log.alias()), Some(*log));
    }
    assert_eq!(set.find(&[1; 8]), None);
    set.remove(&logs[0]);
    assert_eq!(set.find(&logs[0].alias()), None);
}

#[test]
fn ranges_are_answered_up_to_what_is_signed_and_at_the_end_with_its_proof() {
    for kind in KINDS {
        let (mut owner, log) = writer(&opening(kind, 1));
        write(&mut owner, &log, 1, "x", 4);
        append(&mut owner, &log, b"not signed", START);
        let answer = |from, to| owner.answer(&log, &Want { from, to, form: RangeForm::Alone }, WHOLE);
        assert!(matches!(answer(0, 9), Answer::Range { end: 4, .. }));
        assert!(matches!(answer(4, 4), Answer::Range { end: 4, .. }), "the proof alone");
        assert!(matches!(answer(2, 2), Answer::Range { end: 2, .. }));
        assert_eq!(answer(4, 5), Answer::Nothing);
        assert_eq!(answer(5, 5), Answer::Nothing);
        assert_eq!(answer(5, 9), Answer::Nothing);
    }
}

#[test]
fn one_log_may_have_all_the_room_that_late_entries_have_in_however_many_ranges_they_come() {
    for kind in KINDS {
        let (mut source, log) = writer(&opening(kind, 1));
        for _ in 0..20 {
            let hlc = source.log(&log).unwrap().last_hlc().max(stamp(10 * 60 * 1_000));
            source.append(&log, &NewEntry::new(hlc, &[7; 50])).unwrap();
        }
        source.sign_head(&log, &keys(1), START).unwrap();
        let parts: Vec<Vec<u8>> = [(0, 10), (10, 20)]
            .map(|(from, to)| range(&source, &log, Want { from, to, form: RangeForm::Alone }))
            .into();
        let take = |most: usize| {
            let mut to = limited(|limits| limits.late_bytes_max = most);
            to.open(&opening(kind, 1), |_| Admission::Hold).unwrap();
            let taken: Vec<bool> = parts.iter().map(|part| receive(&mut to, &log, part).is_ok()).collect();
            (taken, to.stats().late_bytes)
        };
        let (taken, all) = take(usize::MAX);
        assert_eq!(taken, [true, true]);
        assert_eq!(take(all), (vec![true, true], all), "{kind:?}");
        assert_eq!(take(all - 1).0, [true, false]);
    }
}

#[test]
fn one_log_may_have_all_the_room_that_waits_behind_gaps_in_however_many_ranges_it_comes() {
    for kind in KINDS {
        let (mut source, log) = writer(&opening(kind, 1));
        write(&mut source, &log, 1, "x", 20);
        let parts: Vec<Vec<u8>> = [(2, 8), (10, 20)]
            .map(|(from, to)| range(&source, &log, Want { from, to, form: RangeForm::Alone }))
            .into();
        let take = |most: usize| {
            let mut to = limited(|limits| limits.staged_bytes_max = most);
            to.open(&opening(kind, 1), |_| Admission::Hold).unwrap();
            parts.iter().for_each(|part| drop(receive(&mut to, &log, part)));
            let held: u64 = to.log(&log).unwrap().held().map(|(from, to)| to - from).sum();
            (held, to.stats().staged_bytes)
        };
        let (held, all) = take(usize::MAX);
        assert_eq!(held, 16);
        assert_eq!(take(all), (16, all), "{kind:?}");
        let (held, less) = take(all - 1);
        assert!(held < 16 && less < all, "{kind:?}: {held} in {less}");
    }
}

#[test]
fn an_entry_from_the_future_counts_from_the_very_millisecond_that_is_told() {
    for kind in KINDS {
        let (mut source, log) = writer(&opening(kind, 1));
        let last = Hlc::new(later(10 * 60 * 1_000), u16::MAX);
        source.append(&log, &NewEntry::new(last, b"late")).unwrap();
        source.sign_head(&log, &keys(1), START).unwrap();
        let mut to = holder(&[&opening(kind, 1)]);
        let follow = Want { from: 0, to: 1, form: RangeForm::Follow };
        receive(&mut to, &log, &range(&source, &log, follow)).unwrap();
        let due = to.poll_timeout().unwrap();
        to.handle_timeout(later(8 * 60 * 1_000 - 1));
        assert_eq!(to.applicable(&log), Some((0, 0)));
        assert_eq!(due, later(8 * 60 * 1_000));
        to.handle_timeout(due);
        assert_eq!((to.applicable(&log), to.poll_timeout()), (Some((0, 1)), None), "{kind:?}");
    }
}

#[test]
fn a_log_that_its_writer_leaves_and_one_that_is_forked_say_so() {
    let (mut owner, log) = writer(&opening(LogKind::State, 1));
    write(&mut owner, &log, 1, "shared", 1);
    assert!(!owner.is_left(&log) && owner.kept_until(&log).is_none());
    let (mut left, mut clone) = (owner.clone(), owner.clone());
    left.leave(&log);
    assert!(left.is_left(&log));
    write(&mut owner, &log, 1, "main", 1);
    write(&mut clone, &log, 1, "other", 1);
    tell(&clone, &mut owner, &log, START);
    let keep = owner.limits().invalid_keep_ms;
    assert_eq!(owner.kept_until(&log), Some(later(keep)));
    assert_eq!(owner.poll_timeout(), Some(later(keep)));
}

#[test]
fn a_word_that_was_not_checked_yet_says_of_what_it_is_and_how_far_it_reaches() {
    let named = opening(LogKind::Event, 1).named(&mesh());
    let pruned = Pruned::sign(&named, 7, &mesh(), &keys(1)).unwrap();
    let found = UncheckedPruned::parse(pruned.as_bytes(), &mesh()).unwrap();
    assert_eq!((found.below(), found.opening().id()), (7, pruned.log()));
    assert_eq!(found.as_bytes(), pruned.as_bytes());
}

#[test]
fn a_closure_that_is_not_signed_leaves_the_log_that_it_closes_in_its_place() {
    let (first, second) = (opening_in("a", LogKind::State, 1, 1), opening_in("a", LogKind::State, 1, 2));
    let (mut owner, log) = writer(&first);
    write(&mut owner, &log, 1, "x", 3);
    owner.leave(&log);
    let later = owner.open_local(&second).unwrap();
    let closures = [Closure { incarnation: first.incarnation, below: 3 }];
    owner.append(&later, &NewEntry { closures: &closures, ..NewEntry::new(stamp(1), b"later") }).unwrap();
    let told = changes(&mut owner);
    assert!(!told.contains(&Change::Applicable { log, from: 0, to: 3 }), "{told:?}");
    assert_eq!(owner.applicable(&log), Some((0, 0)));
    assert!(owner.log(&log).is_some(), "the closure may yet be taken back");
    owner.sign_head(&later, &keys(1), START).unwrap();
    changes(&mut owner);
    assert!(owner.log(&log).is_none() && owner.log(&later).is_some());
}

#[test]
fn a_log_counts_again_when_the_one_that_closed_it_is_removed() {
    let (first, second) = (opening_in("a", LogKind::State, 1, 1), opening_in("a", LogKind::State, 1, 2));
    let (mut owner, log) = writer(&first);
    write(&mut owner, &log, 1, "x", 3);
    let later = owner.open_local(&second).unwrap();
    let closures = [Closure { incarnation: first.incarnation, below: 3 }];
    owner.append(&later, &NewEntry { closures: &closures, ..NewEntry::new(stamp(1), b"later") }).unwrap();
    owner.sign_head(&later, &keys(1), START).unwrap();
    changes(&mut owner);
    assert_eq!(owner.applicable(&log), Some((0, 0)));
    owner.remove(&later);
    assert_eq!(owner.applicable(&log), Some((0, 3)));
    assert_eq!(changes(&mut owner), [Change::Applicable { log, from: 0, to: 3 }]);
}

#[test]
fn only_what_was_told_is_told_to_be_dropped() {
    for kind in KINDS {
        for told in [false, true] {
            let (mut owner, log) = writer(&opening(kind, 1));
            write(&mut owner, &log, 1, "x", 3);
            if told {
                assert_eq!(changes(&mut owner), [Change::Applicable { log, from: 0, to: 3 }]);
            }
            owner.append(&log, &NewEntry { base: 3, ..NewEntry::new(stamp(1), b"y") }).unwrap();
            owner.sign_head(&log, &keys(1), START).unwrap();
            let dropped = told.then_some(Change::Dropped { log, below: 3 });
            let expected: Vec<Change> =
                dropped.into_iter().chain([Change::Applicable { log, from: 3, to: 4 }]).collect();
            assert_eq!(changes(&mut owner), expected);
        }
    }
}

#[test]
fn what_is_left_where_entries_give_way_is_said_until_it_is_told() {
    for kind in KINDS {
        let (mut owner, log) = writer(&opening(kind, 1));
        write(&mut owner, &log, 1, "x", 3);
        append(&mut owner, &log, b"not signed", START);
        changes(&mut owner);
        assert_eq!(owner.left_of_acknowledged(&log), 4);
        owner.discard_unsigned(&log).unwrap();
        assert_eq!(owner.left_of_acknowledged(&log), 3);
        assert_eq!(owner.left_of_acknowledged(&LogId::from_bytes([1; 32])), 0);
    }
}

#[test]
fn entries_whose_time_has_come_make_room_for_what_is_from_the_future_now() {
    const MINUTE: u64 = 60 * 1_000;
    for kind in KINDS {
        let (mut source, log) = writer(&opening(kind, 1));
        for minutes in [10, 60] {
            source.append(&log, &NewEntry::new(stamp(minutes * MINUTE), &[7; 50])).unwrap();
            source.sign_head(&log, &keys(1), START).unwrap();
        }
        let part = |from, to| range(&source, &log, Want { from, to, form: RangeForm::Follow });
        let mut to = holder(&[&opening(kind, 1)]);
        receive(&mut to, &log, &part(0, 1)).unwrap();
        let room = to.stats().late_bytes;
        for (now, taken) in [(8 * MINUTE - 1, false), (8 * MINUTE, true)] {
            let mut to = limited(|limits| limits.late_bytes_max = room);
            to.open(&opening(kind, 1), |_| Admission::Hold).unwrap();
            receive(&mut to, &log, &part(0, 1)).unwrap();
            let received = to.receive(&log, &part(1, 2), later(now), &mut crate::world::rich());
            assert_eq!(received.is_ok(), taken, "{received:?}");
            assert_eq!(to.applicable(&log), Some((0, u64::from(taken))));
        }
    }
}
