//! What a set is willing to hold is never exceeded, and one log's excess is not another's loss.

use consilience_sync::{
    Admission, CITATIONS_MAX, Change, Citation, Hash, LogId, LogKind, LogSet, NewEntry, OpenError,
    ReceiveError, SetError,
};

use crate::world::{
    Dice, KINDS, START, alone, append, append_based, follow, holder, keys, later, limited, opening,
    opening_in, range, receive, seeds, stamp, tell_in, write, writer,
};

/// Far enough ahead to be deferred.
const FUTURE_MS: u64 = 10 * 60 * 1_000;

/// Appends entries with payloads of 50 bytes and stamps from the future.
fn append_future(set: &mut LogSet, log: &LogId, count: u64) {
    for _ in 0..count {
        let base = set.log(log).unwrap().base();
        let hlc = set.log(log).unwrap().last_hlc().max(stamp(FUTURE_MS));
        let entry = NewEntry { base, ..NewEntry::new(hlc, &[7; 50]) };
        set.append(log, &entry).unwrap();
    }
}

#[test]
fn entries_from_the_future_are_refused_beyond_the_limit_of_their_log_and_those_before_are_taken() {
    for kind in KINDS {
        let (mut source, log) = writer(&opening(kind, 1));
        append(&mut source, &log, b"now", START);
        append_future(&mut source, &log, 100);
        source.sign_head(&log, &keys(1), START).unwrap();
        let mut to = limited(|limits| limits.late_bytes_per_log_max = 1_000);
        to.open(&opening(kind, 1), |_| Admission::Hold).unwrap();
        let whole = range(&source, &log, alone(0, 101));
        let refused = SetError::Receive(ReceiveError::TooLate { ready_to: 1 });
        assert_eq!(receive(&mut to, &log, &whole), Err(refused));
        assert_eq!(to.have(&log).unwrap().size, 0);
        receive(&mut to, &log, &range(&source, &log, alone(0, 1))).unwrap();
        assert_eq!(to.applicable(&log), Some((0, 1)));
        tell_in(&source, &mut to, &log, START, 300);
        assert!((500..=1_000).contains(&to.stats().late_bytes), "{}", to.stats().late_bytes);
        // Later all of it counts.
        let late = to.poll_timeout().unwrap();
        assert_eq!(late, later(FUTURE_MS - 120_000));
        to.handle_timeout(late);
        tell_in(&source, &mut to, &log, late, 300);
        assert_eq!(to.applicable(&log), Some((0, 101)));
        assert_eq!(to.stats().late_bytes, 0);
    }
}

#[test]
fn what_an_entry_says_of_other_logs_counts_against_the_limits_as_its_payload_does() {
    for kind in KINDS {
        let (mut source, log) = writer(&opening(kind, 1));
        append(&mut source, &log, b"now", START);
        let root = (kind == LogKind::Event).then_some(Hash::from_bytes([3; 32]));
        let citations: Vec<_> =
            (0..CITATIONS_MAX as u8).map(|name| Citation { log: [name; 8], size: 5, root }).collect();
        for _ in 0..100 {
            source
                .append(&log, &NewEntry { citations: &citations, ..NewEntry::new(stamp(FUTURE_MS), b"") })
                .unwrap();
        }
        source.sign_head(&log, &keys(1), START).unwrap();
        // Each of these has more than 500 bytes, and no payload.
        let least = CITATIONS_MAX * 9;
        let mut to = limited(|limits| {
            limits.late_bytes_per_log_max = 4 * least;
            limits.staged_bytes_per_log_max = 4 * least;
        });
        to.open(&opening(kind, 1), |_| Admission::Hold).unwrap();
        for (from, to_) in (1..101).zip(2..) {
            let _ = receive(&mut to, &log, &range(&source, &log, alone(from, to_)));
        }
        let waits = to.log(&log).unwrap().held().map(|(from, to)| to - from).sum::<u64>();
        assert!(waits < 4, "{kind:?}: {waits} entries wait behind the gap");
        let _ = receive(&mut to, &log, &range(&source, &log, alone(0, 1)));
        tell_in(&source, &mut to, &log, START, 3_000);
        let held = to.have(&log).unwrap().size;
        assert!(held < 1 + 4, "{kind:?}: {held} entries");
        assert!(to.stats().late_bytes <= 4 * least, "{kind:?}: {} bytes are late", to.stats().late_bytes);
    }
}

#[test]
fn entries_from_the_future_behind_a_gap_count_as_late_when_the_gap_is_filled() {
    for kind in KINDS {
        let (mut source, log) = writer(&opening(kind, 1));
        append(&mut source, &log, b"now", START);
        append_future(&mut source, &log, 100);
        source.sign_head(&log, &keys(1), START).unwrap();
        let mut to = limited(|limits| limits.late_bytes_per_log_max = 1_000);
        to.open(&opening(kind, 1), |_| Admission::Hold).unwrap();
        let _ = receive(&mut to, &log, &range(&source, &log, alone(1, 101)));
        let _ = receive(&mut to, &log, &range(&source, &log, alone(0, 1)));
        assert!(to.stats().late_bytes <= 1_000, "{kind:?}: {} bytes are late", to.stats().late_bytes);
    }
}

#[test]
fn entries_from_the_future_within_a_jump_count_as_late() {
    for kind in KINDS {
        let (mut source, log) = writer(&opening(kind, 1));
        write(&mut source, &log, 1, "x", 20);
        append_based(&mut source, &log, b"base", 20, START);
        append_future(&mut source, &log, 100);
        source.sign_head(&log, &keys(1), START).unwrap();
        let mut to = limited(|limits| limits.late_bytes_per_log_max = 1_000);
        to.open(&opening(kind, 1), |_| Admission::Hold).unwrap();
        let _ = receive(&mut to, &log, &range(&source, &log, alone(20, 121)));
        assert!(to.stats().late_bytes <= 1_000, "{kind:?}: {} bytes are late", to.stats().late_bytes);
    }
}

#[test]
fn what_is_late_in_all_is_limited_whatever_way_it_came() {
    let mut to = limited(|limits| {
        limits.late_bytes_per_log_max = 3_000;
        limits.late_bytes_max = 5_000;
    });
    for incarnation in 1..=4 {
        let opening = opening_in("a", LogKind::State, 1, incarnation);
        let (mut source, log) = writer(&opening);
        append(&mut source, &log, b"now", START);
        append_future(&mut source, &log, 40);
        source.sign_head(&log, &keys(1), START).unwrap();
        to.open(&opening, |_| Admission::Hold).unwrap();
        if incarnation % 2 == 0 {
            let _ = receive(&mut to, &log, &range(&source, &log, alone(1, 41)));
        }
        let _ = receive(&mut to, &log, &range(&source, &log, alone(0, 1)));
        let _ = receive(&mut to, &log, &range(&source, &log, alone(0, 41)));
        assert!(to.stats().late_bytes <= 5_000, "{} bytes are late", to.stats().late_bytes);
    }
}

#[test]
fn what_waits_behind_gaps_is_never_more_than_the_limits() {
    // Entries of one byte each: tables and hashes weigh more than they do.
    let openings: Vec<_> =
        (1..=4).map(|incarnation| opening_in("a", LogKind::State, 1, incarnation)).collect();
    let mut to = limited(|limits| {
        limits.staged_bytes_per_log_max = 16 << 10;
        limits.staged_bytes_max = 40 << 10;
    });
    for opening in &openings {
        let (mut source, log) = writer(opening);
        for _ in 0..20_000 {
            append(&mut source, &log, b"", START);
        }
        source.sign_head(&log, &keys(1), START).unwrap();
        to.open(opening, |_| Admission::Hold).unwrap();
        for (from, end) in [(1, 9_000), (9_500, 12_000), (12_100, 20_000), (15_000, 16_000)] {
            let before = to.stats().staged_bytes;
            let received = receive(&mut to, &log, &range(&source, &log, alone(from, end)));
            let staged = to.stats().staged_bytes;
            assert!(staged - before <= 16 << 10 && staged <= 40 << 10, "{staged} after {received:?}");
        }
    }
}

#[test]
fn random_ranges_never_exceed_the_limits_of_what_waits() {
    seeds(40, |seed| {
        let mut dice = Dice::new(seed);
        let openings: Vec<_> =
            (1..=3).map(|incarnation| opening_in("a", LogKind::Event, 1, incarnation)).collect();
        let sources: Vec<_> = openings
            .iter()
            .map(|opening| {
                let (mut source, log) = writer(opening);
                for _ in 0..200 {
                    append(&mut source, &log, &vec![7; dice.index(300)], START);
                }
                source.sign_head(&log, &keys(1), START).unwrap();
                (source, log)
            })
            .collect();
        let mut to = limited(|limits| {
            limits.staged_bytes_per_log_max = 20_000;
            limits.staged_bytes_max = 45_000;
        });
        assert!(openings.iter().all(|opening| to.open(opening, |_| Admission::Hold).is_ok()));
        for _ in 0..60 {
            let (source, log) = &sources[dice.index(3)];
            let from = dice.roll(200);
            let end = from + 1 + dice.roll((200 - from).min(30));
            let want = if dice.one_in(3) && from > 0 { follow(from, end) } else { alone(from, end) };
            let _ = receive(&mut to, log, &range(source, log, want));
            let stats = to.stats();
            assert!(stats.staged_bytes <= 45_000, "{stats:?}");
            assert!(to.log(log).unwrap().memory() <= 20_000 + 64_000 + 8_192);
        }
    });
}

#[test]
fn a_log_whose_retained_part_is_larger_than_what_may_wait_is_still_taken_over() {
    for kind in KINDS {
        let (mut source, log) = writer(&opening(kind, 1));
        write(&mut source, &log, 1, "gone", 100);
        // The base rises with the last entry, as it does with every carried one.
        for _ in 0..100 {
            append(&mut source, &log, &[7; 60_000], START);
        }
        append_based(&mut source, &log, b"base", 100, START);
        source.sign_head(&log, &keys(1), START).unwrap();
        while source.poll_change().is_some() {}
        assert_eq!(source.log(&log).unwrap().start(), 100);
        let mut to = holder(&[&opening(kind, 1)]);
        tell_in(&source, &mut to, &log, START, 64 << 10);
        assert_eq!(to.applicable(&log), Some((100, 201)), "{kind:?}: {:?}", to.stats());
    }
}

#[test]
fn a_flood_of_one_writer_leaves_the_others_as_they_are() {
    for kind in KINDS {
        let mut to = limited(|limits| {
            limits.late_bytes_per_log_max = 2_000;
            limits.late_bytes_max = 4_000;
            limits.staged_bytes_per_log_max = 2_000;
            limits.staged_bytes_max = 4_000;
            limits.logs_per_agent_max = 5;
        });
        for incarnation in 1..=8 {
            let opening = opening_in("flood", kind, 1, incarnation);
            let (mut source, log) = writer(&opening);
            append(&mut source, &log, b"now", START);
            append_future(&mut source, &log, 60);
            source.sign_head(&log, &keys(1), START).unwrap();
            let opened = to.open(&opening, |_| Admission::Hold);
            assert_eq!(opened.is_err(), incarnation > 5);
            for want in [alone(0, 1), alone(1, 10), alone(10, 61), alone(30, 61), alone(40, 50)] {
                let _ = receive(&mut to, &log, &range(&source, &log, want));
            }
        }
        let honest = opening_in("work", kind, 2, 1);
        let (mut source, log) = writer(&honest);
        write(&mut source, &log, 2, "x", 300);
        to.open(&honest, |_| Admission::Hold).unwrap();
        tell_in(&source, &mut to, &log, START, 600);
        assert_eq!(to.applicable(&log), Some((0, 300)));
    }
}

#[test]
fn logs_are_limited_by_agent_and_in_all_but_not_for_local_writers() {
    let mut to = limited(|limits| {
        limits.logs_max = 5;
        limits.logs_per_agent_max = 2;
    });
    let open = |to: &mut LogSet, agent, incarnation| {
        to.open(&opening_in("a", LogKind::Event, agent, incarnation), |_| Admission::Hold)
    };
    assert!(open(&mut to, 1, 1).is_ok());
    let second = open(&mut to, 1, 2).unwrap();
    assert_eq!(open(&mut to, 1, 3), Err(OpenError::Quota));
    assert_eq!(open(&mut to, 1, 2), Ok(second), "what is held is held");
    for agent in 2..=4 {
        assert!(open(&mut to, agent, 1).is_ok());
    }
    assert_eq!(open(&mut to, 5, 1), Err(OpenError::Quota));
    assert!(to.open_local(&opening_in("a", LogKind::Event, 1, 9)).is_ok());
    assert_eq!(to.stats().logs, 6);
    // Room that is made is room.
    assert!(to.remove(&second));
    assert_eq!(open(&mut to, 5, 1), Err(OpenError::Quota));
    let local = opening_in("a", LogKind::Event, 1, 9).log_id(to.mesh());
    assert!(to.remove(&local));
    assert!(open(&mut to, 5, 1).is_ok());
}

#[test]
fn a_log_that_is_removed_and_held_again_is_told_of_once() {
    let (mut set, log) = writer(&opening(LogKind::Event, 1));
    let other = set.open_local(&opening(LogKind::Event, 2)).unwrap();
    for _ in 0..3 {
        write(&mut set, &log, 1, "first", 2);
        write(&mut set, &other, 2, "other", 1);
        assert!(set.remove(&log));
        set.open_local(&opening(LogKind::Event, 1)).unwrap();
    }
    write(&mut set, &log, 1, "again", 1);
    let told: Vec<Change> = core::iter::from_fn(|| set.poll_change()).collect();
    let expected =
        [Change::Applicable { log: other, from: 0, to: 3 }, Change::Applicable { log, from: 0, to: 1 }];
    assert_eq!(told, expected);
}
