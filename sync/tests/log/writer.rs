//! The writer's side: what can be appended, signed, dropped, erased and restored, and what a writer must not forget.

use consilience_sync::{
    AppendError, CITATIONS_MAX, CLOSURES_MAX, Citation, Closure, ENTRY_BYTES_MAX, EntryFlags, Hash, Hlc,
    Incarnation, KeepError, Keypair, LOG_SIZE_MAX, Log, LogKind, NewEntry, RangeForm, Received, SignError,
};

use super::common::{
    OWN, T, ada, append, assert_equals_plain, budget, empty, follower, item, plain, range, receive, restore,
    rising, seen, stamp, time, written,
};

fn entry(base: u64) -> NewEntry<'static> {
    NewEntry { base, ..NewEntry::new(Hlc::from_bits(stamp(0)), b"x") }
}

/// That a refused entry changes nothing.
fn refused(log: &mut Log, entry: &NewEntry<'_>) -> AppendError {
    let before = seen(log);
    let error = log.append(entry).unwrap_err();
    assert_eq!(seen(log), before);
    error
}

#[test]
fn a_base_that_falls_or_lies_above_its_own_entry_is_not_appended() {
    let mut log = written(LogKind::State, (0..5).map(item), T);
    assert_eq!(refused(&mut log, &entry(6)), AppendError::Base);
    assert_eq!(refused(&mut log, &entry(u64::MAX)), AppendError::Base);
    assert_eq!(log.append(&entry(5)), Ok(5), "its own number is the highest base of an entry");
    assert_eq!(refused(&mut log, &entry(4)), AppendError::Base);
    assert_eq!(refused(&mut log, &entry(7)), AppendError::Base);
    assert_eq!(log.append(&entry(5)), Ok(6));
}

#[test]
fn an_entry_has_62_kib_of_payload_and_extension_and_not_a_byte_more() {
    let payload = vec![3; ENTRY_BYTES_MAX + 1];
    let hlc = Hlc::from_bits(stamp(0));
    let citations = [Citation { log: [1; 8], size: 3, root: Some(Hash::from_bytes([0; 32])) }];
    // Kind and length of the field; an alias, a size and a root.
    let cites = 2 + 8 + 1 + 32;
    let mut log = empty(LogKind::Event);
    let too_long = AppendError::TooLong(ENTRY_BYTES_MAX + 1);
    assert_eq!(refused(&mut log, &NewEntry::new(hlc, &payload)), too_long);
    assert_eq!(log.append(&NewEntry::new(hlc, &payload[1..])), Ok(0));
    let citing =
        |skip: usize| NewEntry { citations: &citations, ..NewEntry::new(hlc, &payload[skip + cites..]) };
    assert_eq!(refused(&mut log, &citing(0)), too_long);
    assert_eq!(log.append(&citing(1)), Ok(1));
    assert_eq!(log.append(&NewEntry::new(hlc, b"")), Ok(2));
    log.sign_head(&ada(), time(T)).unwrap();
    for seq in 0..3 {
        // Not below one entry, and with its proof it fits a frame.
        let (bytes, end) = log.range(seq, 3, RangeForm::Alone, 64 << 10).unwrap();
        assert_eq!(end, if seq == 0 { 1 } else { 3 });
        assert!(bytes.len() <= 64 << 10, "{}", bytes.len());
        assert!(empty(LogKind::Event).verify(&bytes, &mut budget()).is_ok());
    }
    let copy = follower(&log, 3);
    assert_eq!(copy.entry(1).unwrap().payload(), Some(&payload[1 + cites..]));
}

#[test]
fn citations_that_are_unsorted_twice_too_many_or_of_the_other_kind_are_not_appended() {
    let root = Some(Hash::from_bytes([0; 32]));
    let cite = |name: u8, size: u64, root: Option<Hash>| Citation { log: [name; 8], size, root };
    for (kind, right, wrong) in [(LogKind::Event, root, None), (LogKind::State, None, root)] {
        let mut log = empty(kind);
        let many: Vec<Citation> = (0..=CITATIONS_MAX as u8).map(|name| cite(name, 1, right)).collect();
        for citations in [
            &[cite(2, 1, right), cite(1, 1, right)][..],
            &[cite(1, 1, right), cite(1, 2, right)],
            &[cite(1, 1, wrong)],
            &[cite(1, 1, right), cite(2, 1, wrong)],
            &[cite(1, LOG_SIZE_MAX + 1, right)],
            &many,
        ] {
            assert_eq!(refused(&mut log, &NewEntry { citations, ..entry(0) }), AppendError::Citations);
        }
        let most = &many[1..];
        assert_eq!(log.append(&NewEntry { citations: most, ..entry(0) }), Ok(0));
        assert_eq!(log.append(&NewEntry { citations: &[cite(9, LOG_SIZE_MAX, right)], ..entry(0) }), Ok(1));
        log.sign_head(&ada(), time(T)).unwrap();
        let copy = follower(&log, 2);
        assert_eq!(copy.entry(0).unwrap().citations().collect::<Vec<_>>(), most);
    }
}

#[test]
fn closures_that_are_unsorted_twice_too_many_not_below_the_log_or_of_events_are_not_appended() {
    let close =
        |incarnation: u64, below: u64| Closure { incarnation: Incarnation::from_u64(incarnation), below };
    let mut log = empty(LogKind::State);
    let many: Vec<Closure> = (0..=CLOSURES_MAX as u64).map(|number| close(number, LOG_SIZE_MAX)).collect();
    for closures in [
        &[close(2, 1), close(1, 1)][..],
        &[close(1, 1), close(1, 2)],
        &[close(1, 0)],
        &[close(1, LOG_SIZE_MAX + 1)],
        &[close(OWN, 1)],
        &[close(1, 1), close(OWN + 1, 1)],
        &many,
    ] {
        assert_eq!(refused(&mut log, &NewEntry { closures, ..entry(0) }), AppendError::Closures);
    }
    let most = &many[1..];
    let last = [close(0, 1), close(OWN - 1, 7)];
    assert_eq!(log.append(&NewEntry { closures: most, ..entry(0) }), Ok(0));
    assert_eq!(log.append(&NewEntry { closures: &last, ..entry(0) }), Ok(1));
    log.sign_head(&ada(), time(T)).unwrap();
    let copy = follower(&log, 2);
    assert_eq!(copy.entry(0).unwrap().closures().collect::<Vec<_>>(), most);
    assert_eq!(copy.entry(1).unwrap().closures().collect::<Vec<_>>(), last);
    let mut events = empty(LogKind::Event);
    assert_eq!(refused(&mut events, &NewEntry { closures: &last, ..entry(0) }), AppendError::Closures);
}

#[test]
fn a_final_incarnation_is_at_most_the_logs_own_and_not_of_events() {
    let last_final = |number: u64| NewEntry { last_final: Some(Incarnation::from_u64(number)), ..entry(0) };
    let mut log = empty(LogKind::State);
    assert_eq!(refused(&mut log, &last_final(OWN + 1)), AppendError::Final);
    assert_eq!(refused(&mut log, &last_final(u64::MAX)), AppendError::Final);
    for (seq, number) in [0, OWN - 1, OWN].into_iter().enumerate() {
        assert_eq!(log.append(&last_final(number)), Ok(seq as u64));
    }
    log.sign_head(&ada(), time(T)).unwrap();
    let copy = follower(&log, 3);
    let finals: Vec<_> =
        copy.entries(0, 3).map(|entry| entry.last_final().map(Incarnation::as_u64)).collect();
    assert_eq!(finals, [Some(0), Some(OWN - 1), Some(OWN)]);
    assert!(copy.entries(0, 3).all(|entry| entry.citations().count() + entry.closures().count() == 0));
    assert_eq!(refused(&mut empty(LogKind::Event), &last_final(1)), AppendError::Final);
}

#[test]
fn stamps_may_be_anything_and_flags_are_four_bits() {
    let bits = [u64::MAX, 0, 1, 0xffff, 0x1_0000, u64::MAX - 1, u64::MAX, u64::MAX, stamp(0), 0, 0];
    let mut model = plain(LogKind::State);
    let mut log = empty(LogKind::State);
    for (seq, bits) in bits.into_iter().enumerate() {
        let mut item = super::plain::Item::new(bits, b"payload");
        item.flags = seq as u8;
        append(&mut log, &item);
        model.push(item);
    }
    assert_eq!(EntryFlags::new(16), None);
    log.sign_head(&ada(), time(T)).unwrap();
    assert_equals_plain(&log, &model);
    assert_equals_plain(&follower(&log, log.size()), &model);
    assert_eq!(range(&log, 0, log.size(), RangeForm::Follow), model.whole(T));
}

#[test]
fn the_time_of_a_head_never_falls_and_an_empty_log_has_none() {
    let mut log = empty(LogKind::State);
    assert_eq!(log.sign_head(&ada(), time(T)), Err(SignError::Unavailable));
    append(&mut log, &item(0));
    assert_eq!(log.sign_head(&Keypair::from_seed([9; 32]), time(T)), Err(SignError::OtherAgent));
    assert_eq!(log.head(), None);
    let first = log.sign_head(&ada(), time(T)).unwrap();
    assert_eq!(log.sign_head(&ada(), time(T - 5)), Ok(first), "the last head itself");
    assert_eq!(log.sign_head(&ada(), time(T)), Ok(first));
    append(&mut log, &item(1));
    let second = log.sign_head(&ada(), time(T - 5)).unwrap();
    assert_eq!((second.size, second.time), (2, time(T)));
    let last = log.sign_head(&ada(), time(u64::MAX)).unwrap();
    assert_eq!(last.time, time((1 << 48) - 1));
    assert_eq!(log.sign_head(&ada(), time(u64::MAX)), Ok(last));
    assert_equals_plain(&follower(&log, 2), &plain(LogKind::State).with((0..2).map(item)));
}

#[test]
fn what_is_not_signed_is_not_sent() {
    let mut log = written(LogKind::State, (0..3).map(item), T);
    append(&mut log, &item(3));
    assert_eq!(log.range(0, 4, RangeForm::Follow, usize::MAX), None);
    assert_eq!(log.range(4, 4, RangeForm::Alone, usize::MAX), None);
    let copy = follower(&log, 3);
    assert_equals_plain(&copy, &plain(LogKind::State).with((0..3).map(item)));
    assert_eq!(empty(LogKind::State).range(0, 0, RangeForm::Alone, usize::MAX), None);
}

#[test]
fn entries_from_the_base_on_cannot_be_dropped() {
    let mut log = written(LogKind::State, (0..10).map(|seq| item(seq).base(seq / 2)), T);
    let before = seen(&log);
    for seq in [5, 6, 10, 11, u64::MAX] {
        assert_eq!(log.drop_below(seq), Err(KeepError::StillNeeded { base: 4 }));
    }
    assert_eq!(seen(&log), before);
    log.drop_below(4).unwrap();
    log.drop_below(2).unwrap();
    assert_eq!((log.start(), log.size()), (4, 10));
    assert!(log.entry(3).is_none() && log.entry(4).is_some());
}

#[test]
fn an_erased_event_proves_as_before_and_can_be_restored_with_its_own_payload_only() {
    let items: Vec<_> = (0..150).map(rising).collect();
    let model = plain(LogKind::Event).with(items.clone());
    let whole = written(LogKind::Event, items, T);
    for start in [0, 1, 63, 64, 65, 127, 128, 149] {
        let mut log = whole.clone();
        log.drop_below(start).unwrap();
        let proofs = |log: &Log| (log.root(), log.consistency(start.max(1), 150), log.leaf(149));
        let (before, memory) = (seen(&log), proofs(&log));
        for seq in start..150 {
            log.erase(seq).unwrap();
            log.erase(seq).unwrap();
            assert_eq!((log.entry(seq).unwrap().payload(), log.entry(seq).unwrap().salt()), (None, None));
            assert_eq!(log.entry(seq).unwrap().payload_len as usize, model.items[seq as usize].payload.len());
            assert_eq!(log.leaf(seq), Some(Hash::from_bytes(model.leaf(seq))));
        }
        assert_eq!(proofs(&log), memory);
        // Others get the hashes, and can prove and pass on all of it.
        let mut copy = empty(LogKind::Event);
        receive(&mut copy, &range(&log, start, 150, RangeForm::Alone)).unwrap();
        assert_eq!((copy.start(), copy.size(), copy.root()), (start, 150, whole.root()));
        assert_equals_plain(&copy, &model);
        for log in [&mut log, &mut copy] {
            let item = &model.items[start as usize];
            assert_eq!(log.restore(start, item.salt, b"another"), Err(KeepError::OtherPayload));
            let salted = log.restore(start, [0xff; 4], &item.payload);
            assert_eq!(salted, Err(KeepError::OtherPayload), "the salt is not known any more");
            assert_eq!(log.restore(150, [0; 4], b""), Err(KeepError::Unknown));
            assert_eq!(log.erase(150), Err(KeepError::Unknown));
            if start > 0 {
                assert_eq!(log.erase(start - 1), Err(KeepError::Unknown));
            }
            for seq in (start..150).rev() {
                restore(log, &model, seq);
                restore(log, &model, seq);
            }
            assert_eq!(
                super::common::shown(log),
                super::common::shown(&{
                    let mut log = whole.clone();
                    log.drop_below(start).unwrap();
                    log
                })
            );
        }
        assert_eq!(super::common::shown(&log).len(), 150 - start as usize);
        drop(before);
    }
}

#[test]
fn a_payload_that_was_erased_elsewhere_does_not_replace_the_one_held_here() {
    let mut log = written(LogKind::Event, (0..10).map(item), T);
    let mut copy = follower(&log, 10);
    let before = seen(&copy);
    log.erase(3).unwrap();
    assert_eq!(receive(&mut copy, &range(&log, 0, 10, RangeForm::Alone)), Ok(Received::Nothing));
    assert_eq!(seen(&copy), before);
}

#[test]
fn a_state_cannot_be_erased() {
    let mut log = written(LogKind::State, (0..10).map(item), T);
    let before = seen(&log);
    assert_eq!(log.erase(3), Err(KeepError::NotAnEvent));
    assert_eq!(seen(&log), before);
    assert_eq!(log.restore(3, item(3).salt, &item(3).payload), Ok(()), "it is there");
}

/// A backup of a log of 10 entries, of which 5 and a head over all are here.
fn backup_with_a_later_head() -> Log {
    follower(&written(LogKind::State, (0..10).map(item), T), 5)
}

#[test]
fn a_writer_that_knows_of_its_entries_beyond_its_copy_cannot_append() {
    let mut log = backup_with_a_later_head();
    assert_eq!(refused(&mut log, &entry(0)), AppendError::NotWritable);

    let whole = written(LogKind::State, (0..10).map(item), T);
    let mut log = follower(&written(LogKind::State, (0..5).map(item), T), 5);
    receive(&mut log, &range(&whole, 10, 10, RangeForm::Alone)).unwrap();
    assert_eq!(refused(&mut log, &entry(0)), AppendError::NotWritable);
    receive(&mut log, &range(&whole, 5, 10, RangeForm::Follow)).unwrap();
    assert_eq!(log.append(&entry(0)), Ok(10), "it has caught up");
}

#[test]
fn a_heartbeat_does_not_make_a_writer_forget_its_entries_beyond_its_copy() {
    let mut log = backup_with_a_later_head();
    // Whether it signs or refuses to: it must not go on from here, for that would fork the log.
    let _ = log.sign_head(&ada(), time(T + 5));
    assert_eq!(log.furthest_head().map(|head| head.size), Some(10));
    assert_eq!(log.append(&entry(0)), Err(AppendError::NotWritable));
}

#[test]
fn a_writer_that_holds_its_own_entries_behind_a_gap_cannot_append() {
    let whole = written(LogKind::State, (0..10).map(item), T);
    let mut log = follower(&written(LogKind::State, (0..5).map(item), T), 5);
    let staged = receive(&mut log, &range(&whole, 7, 10, RangeForm::Alone));
    assert_eq!(staged, Ok(Received::Staged { from: 7, to: 10 }));
    assert_eq!(refused(&mut log, &entry(0)), AppendError::NotWritable);
}

#[test]
fn a_writer_that_hears_its_own_head_below_what_it_has_appended_goes_on() {
    // Its clone, or itself before a crash, has signed the first eight of the same ten entries.
    let mut log = written(LogKind::State, (0..5).map(item), T);
    (5..10).for_each(|seq| append(&mut log, &item(seq)));
    let clone = written(LogKind::State, (0..8).map(item), T + 1);
    receive(&mut log, &range(&clone, 5, 8, RangeForm::Follow)).unwrap();
    assert_eq!((log.size(), log.gaps()), (10, vec![]));
    let head = log.sign_head(&ada(), time(T + 2)).unwrap();
    assert_eq!((log.furthest_head(), head.size), (Some(&head), 10));
    assert_eq!(log.append(&entry(0)), Ok(10), "it knows of nothing beyond its copy");
}

#[test]
fn what_was_not_signed_can_be_discarded_and_the_log_goes_on_as_if_it_had_not_been() {
    let items = (0..200).map(|seq| item(seq).base(seq / 2)).collect::<Vec<_>>();
    for signed in [0, 1, 5, 63, 64, 65, 128, 150] {
        for start in [0, 1, 20, 32, 63, 64, 70] {
            for unsigned in [0, 1, 13, 50] {
                let mut log = empty(LogKind::State);
                items[..signed].iter().for_each(|item| append(&mut log, item));
                let _ = log.sign_head(&ada(), time(T));
                if log.drop_below(start).is_err() {
                    continue;
                }
                let base = log.base();
                (0..unsigned).for_each(|seq| append(&mut log, &item(900 + seq).base(base)));
                assert_eq!((log.signed_size(), log.size()), (signed as u64, signed as u64 + unsigned));
                assert_eq!(log.discard_unsigned(), signed as u64);
                assert_eq!((log.start(), log.size(), log.ready()), (start, signed as u64, signed as u64));
                items[signed..].iter().for_each(|item| append(&mut log, item));
                log.sign_head(&ada(), time(T + 1)).unwrap();
                assert_equals_plain(&log, &plain(LogKind::State).with(items.clone()));
                let bytes = range(&log, start, 200, RangeForm::Alone);
                assert_eq!(bytes, {
                    let model = plain(LogKind::State).with(items.clone());
                    model.range((start, 200), true, model.said(200, T + 1))
                });
            }
        }
    }
}

#[test]
fn a_writer_that_discards_what_conflicts_takes_over_what_its_clone_has_signed() {
    let mut log = written(LogKind::State, (0..5).map(item), T);
    append(&mut log, &item(99));
    let clone = written(LogKind::State, (0..8).map(item), T + 1);
    let bytes = range(&clone, 5, 8, RangeForm::Follow);
    assert_eq!(receive(&mut log, &bytes), Ok(Received::Conflict));
    assert_eq!(log.discard_unsigned(), 5);
    assert_eq!(receive(&mut log, &bytes), Ok(Received::Extended { from: 5, to: 8 }));
    assert_eq!(log.append(&entry(0)), Ok(8));
}

#[test]
fn a_head_over_less_than_was_signed_already_is_not_signed() {
    let mut log = backup_with_a_later_head();
    let before = seen(&log);
    assert_eq!(log.sign_head(&ada(), time(T + 5)), Err(SignError::Behind));
    assert_eq!(seen(&log), before);
}

#[test]
fn entries_that_nobody_has_seen_yield_to_what_was_signed_elsewhere_without_evidence() {
    let mut log = written(LogKind::State, (0..5).map(item), T);
    append(&mut log, &item(99));
    let before = seen(&log);
    let clone = written(LogKind::State, (0..8).map(item), T + 1);
    for form in [RangeForm::Follow, RangeForm::Alone] {
        assert_eq!(receive(&mut log, &range(&clone, 5, 8, form)), Ok(Received::Conflict));
    }
    assert_eq!(seen(&log), before);
}
