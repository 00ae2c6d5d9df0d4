//! Proofs, exhaustively for all sizes to 130, against the plain model.

use std::collections::BTreeSet;

use consilience_sync::{Hash, Log, LogKind, RangeForm, Received};

use super::common::{
    T, append, assert_equals_plain, budget, empty, follower, item, plain, range, receive, rising, time,
    written,
};
use super::plain::{Digest, Plain};

const ALL: u64 = 130;
/// Sizes at which everything is tried at every point: all small ones, and those around whole blocks of 64.
const CROWDED: [u64; 6] = [63, 64, 65, 127, 128, 130];

/// One log of each size to [`ALL`], each signed at its end only.
fn logs(item: fn(u64) -> super::plain::Item) -> Vec<(Log, Plain)> {
    let kind = LogKind::Event;
    let mut grown = empty(kind);
    let mut model = plain(kind);
    (0..ALL)
        .map(|seq| {
            append(&mut grown, &item(seq));
            model.push(item(seq));
            let mut log = grown.clone();
            log.sign_head(&super::common::ada(), time(T + 9)).unwrap();
            (log, model.clone())
        })
        .collect()
}

/// Holds nothing, but knows the head, so that checking a range under it costs no signature.
fn reader_of(log: &Log) -> Log {
    let mut reader = empty(log.opening().kind);
    let at = log.size();
    assert_eq!(receive(&mut reader, &range(log, at, at, RangeForm::Alone)), Ok(Received::Head));
    reader
}

fn hashes(digests: impl IntoIterator<Item = Digest>) -> BTreeSet<Hash> {
    digests.into_iter().map(Hash::from_bytes).collect()
}

fn assert_proves(reader: &Log, log: &Log, model: &Plain, from: u64, to: u64) {
    let bytes = range(log, from, to, RangeForm::Alone);
    let mut budget = budget();
    let verified = reader.verify(&bytes, &mut budget).unwrap();
    assert_eq!(budget.checks(), 0, "the head is known");
    assert_eq!(verified.head().root.as_bytes(), &model.root(model.size()));
    let mut seq = from;
    for entry in verified.entries() {
        assert_eq!((entry.seq, entry.payload()), (seq, Some(&model.items[seq as usize].payload[..])));
        seq += 1;
    }
    assert_eq!(seq, to);
}

#[test]
fn the_hashes_of_a_range_of_one_are_those_of_the_audit_path_of_rfc_6962() {
    let model = plain(LogKind::State).with((0..ALL).map(item));
    for size in 1..=ALL {
        for seq in 0..size {
            let around = model.peaks(seq).into_iter().chain(model.cover(seq + 1, size));
            assert_eq!(around.collect::<BTreeSet<_>>(), model.path(seq, 0, size), "{seq} of {size}");
        }
    }
}

#[test]
fn roots_and_leaves_are_those_of_the_plain_model_at_every_size() {
    for (log, model) in logs(item) {
        let size = log.size();
        assert_equals_plain(&log, &model);
        for at in 1..=size {
            assert_eq!(log.root_at(at), Some(Hash::from_bytes(model.root(at))), "{at} of {size}");
            assert_eq!(log.leaf(at - 1), Some(Hash::from_bytes(model.leaf(at - 1))));
        }
        assert_eq!((log.root_at(0), log.root_at(size + 1), log.leaf(size)), (None, None, None));
    }
}

#[test]
fn the_bytes_of_every_range_are_those_of_the_documented_layout() {
    for (log, model) in logs(item) {
        let size = log.size();
        if size > 40 && !CROWDED.contains(&size) {
            continue;
        }
        let said = model.said(size, T + 9);
        let signature = model.sign(said);
        assert_eq!(log.head().unwrap().signature.as_bytes(), &signature);
        for from in 0..=size {
            for to in from..=size {
                for (form, alone) in [(RangeForm::Follow, false), (RangeForm::Alone, true)] {
                    // Signing is what takes long.
                    let mut ink = super::plain::Ink::default();
                    model.range_signed((from, to), alone, said, &signature, &mut ink);
                    assert_eq!(range(&log, from, to, form), ink.bytes, "{from}..{to} of {size}");
                }
            }
        }
    }
}

#[test]
fn every_entry_of_every_size_has_an_inclusion_proof() {
    for (log, model) in logs(item) {
        let reader = reader_of(&log);
        for seq in 0..log.size() {
            assert_proves(&reader, &log, &model, seq, seq + 1);
        }
    }
}

#[test]
fn every_range_of_every_size_proves_alone() {
    for (log, model) in logs(item) {
        let reader = reader_of(&log);
        for from in 0..=log.size() {
            for to in from..=log.size() {
                assert_proves(&reader, &log, &model, from, to);
            }
        }
    }
}

#[test]
fn every_range_follows_on_every_copy_and_what_was_received_proves_like_the_original() {
    for (log, model) in logs(item) {
        let size = log.size();
        let crowded = size <= 40 || CROWDED.contains(&size);
        for from in 0..=size {
            let mut copy = empty(LogKind::Event);
            receive(&mut copy, &range(&log, 0, from, RangeForm::Follow)).unwrap();
            for to in from + 1..=size {
                if !crowded && ![from + 1, from.midpoint(size), size].contains(&to) {
                    continue;
                }
                let mut copy = copy.clone();
                let got = receive(&mut copy, &range(&log, from, to, RangeForm::Follow));
                assert_eq!(got, Ok(Received::Extended { from, to }));
                assert_eq!((copy.root(), copy.head()), (log.root_at(to), log.head()));
                if size > 40 && to - from > 2 && to < size {
                    continue;
                }
                // It can be passed on.
                for (a, b) in [(0, to), (from, to), (to, to), (to - 1, to)] {
                    if !crowded && a == 0 {
                        continue;
                    }
                    for form in [RangeForm::Follow, RangeForm::Alone] {
                        assert_eq!(range(&copy, a, b, form), range(&log, a, b, form), "{a}..{b} of {size}");
                    }
                }
            }
            if crowded {
                let whole = receive(&mut copy, &range(&log, 0, size, RangeForm::Alone)).unwrap();
                assert_eq!(matches!(whole, Received::Extended { .. }), from < size);
                assert_equals_plain(&copy, &model);
            }
        }
    }
}

/// What holds for consistency in a copy that has dropped what lies below `start`.
fn assert_consistent(log: &Log, model: &Plain, start: u64, from: u64, size: u64) {
    let proof = log.consistency(from, size).unwrap();
    let roots = [from, size].map(|at| Hash::from_bytes(model.root(at)));
    assert!(start <= from && log.root_at(from) == Some(roots[0]) && log.root_at(size) == Some(roots[1]));
    assert!(log.is_consistent((from, &roots[0]), (size, &roots[1]), &proof), "{from} in {size}");
    let set: BTreeSet<Hash> = proof.iter().copied().collect();
    assert_eq!(set.len(), proof.len());
    if from < size {
        // RFC 9162 leaves the root of the smaller tree away where it is a node of the larger; here it is always there.
        let mut rfc = hashes(model.subproof(from, 0, size, true));
        rfc.extend(from.is_power_of_two().then_some(roots[0]));
        assert_eq!(set, rfc, "{from} in {size}");
        assert_eq!(set, hashes(model.subproof(from, 0, size, false)));
        assert!(!log.is_consistent((from, &roots[1]), (size, &roots[1]), &proof));
        assert!(!log.is_consistent((from, &roots[0]), (size, &roots[0]), &proof));
    } else {
        assert_eq!(set, hashes(model.peaks(from)));
    }
    for cut in 0..proof.len() {
        assert!(!log.is_consistent((from, &roots[0]), (size, &roots[1]), &proof[..cut]));
    }
    let longer = [&proof[..], &proof[..1]].concat();
    assert!(!log.is_consistent((from, &roots[0]), (size, &roots[1]), &longer));
}

#[test]
fn any_two_sizes_have_a_consistency_proof_with_the_hashes_of_rfc_9162() {
    for (log, model) in logs(item) {
        let size = log.size();
        for from in 1..=size {
            assert_consistent(&log, &model, 0, from, size);
        }
    }
    let (log, model) = logs(item).pop().unwrap();
    for size in 1..=ALL {
        for from in 1..=size {
            assert_consistent(&log, &model, 0, from, size);
        }
    }
}

#[test]
fn there_is_no_consistency_proof_for_sizes_that_are_not_in_order_or_not_there() {
    let log = written(LogKind::Event, (0..20).map(item), T);
    assert_eq!(log.consistency(0, 20), None);
    assert_eq!(log.consistency(20, 21), None);
    assert_eq!(log.consistency(u64::MAX, u64::MAX), None);
    for size in 1..20 {
        assert_eq!(log.consistency(size + 1, size), None, "{} does not come before {size}", size + 1);
    }
}

#[test]
fn proofs_of_sizes_that_no_log_has_are_refused_without_harm() {
    let log = written(LogKind::Event, (0..20).map(item), T);
    let root = log.root().unwrap();
    let hashes = vec![root; 130];
    for from in [0, 1, 7, 20, 1 << 44, (1 << 44) + 1, u64::MAX - 1, u64::MAX] {
        for size in [0, 1, 19, 20, 21, 1 << 44, 1 << 63, u64::MAX] {
            for len in [0, 1, 2, 5, 44, 63, 64, 65, 130] {
                let same = from == size && from.is_power_of_two() && len == 1;
                assert_eq!(log.is_consistent((from, &root), (size, &root), &hashes[..len]), same);
            }
        }
        for form in [RangeForm::Follow, RangeForm::Alone] {
            assert_eq!(log.range(from, 19, form, usize::MAX).is_some(), from <= 19);
            assert_eq!(log.range(0, from, form, 0).is_some(), from <= 20);
        }
        assert_eq!(log.root_at(from).is_some(), (1..=20).contains(&from));
        assert_eq!((log.entry(from).is_some(), log.leaf(from).is_some()), (from < 20, from < 20));
        assert_eq!(log.entries(from, u64::MAX).count() as u64, 20_u64.saturating_sub(from));
        assert_eq!(log.entries(u64::MAX, from).count(), 0);
    }
}

#[test]
fn a_range_without_entries_ties_a_copy_of_any_size_to_a_later_head() {
    for (log, _) in logs(item) {
        let size = log.size();
        for from in 1..=size {
            let said = range(&log, from, from, RangeForm::Alone);
            // A copy that stands exactly there, under its own head.
            let mut copy = follower(&written(LogKind::Event, (0..from).map(item), T + 1), from);
            assert_eq!(receive(&mut copy, &said), Ok(Received::Head));
            assert_eq!((copy.size(), copy.head().unwrap().size), (from, size));
            assert_eq!(range(&copy, 0, from, RangeForm::Alone), range(&log, 0, from, RangeForm::Alone));
        }
    }
}

#[test]
fn a_range_without_entries_shows_a_copy_of_any_size_that_the_log_is_forked() {
    for (log, _) in logs(item) {
        let size = log.size();
        for from in 1..=size {
            let other = (0..from).map(|seq| if seq == from - 1 { item(seq + 1_000) } else { item(seq) });
            let mut copy = follower(&written(LogKind::Event, other, T + 1), from);
            let got = receive(&mut copy, &range(&log, from, from, RangeForm::Alone));
            assert!(matches!(&got, Ok(Received::Forked(evidence)) if evidence.size() == from), "{got:?}");
        }
    }
}

#[test]
fn every_proof_from_the_drop_on_verifies_after_dropping_at_every_point() {
    for (full, model) in logs(rising) {
        let size = full.size();
        let crowded = size <= 40 || CROWDED.contains(&size);
        let reader = reader_of(&full);
        let mut log = full.clone();
        // What the full copy sends was checked above.
        let proofs: Vec<_> = (0..=size).map(|from| full.consistency(from, size)).collect();
        let mut ranges = vec![];
        for from in (1..=size).filter(|_| crowded) {
            for to in (from..=size).filter(|to| size <= 40 || *to == size || to - from < 2) {
                for form in [RangeForm::Alone, RangeForm::Follow] {
                    ranges.push(((from, to, form), range(&full, from, to, form)));
                }
            }
        }
        for start in 1..size {
            // One by one, and at once.
            log.drop_below(start).unwrap();
            let mut once = full.clone();
            once.drop_below(start).unwrap();
            assert_eq!((log.start(), log.size(), log.root()), (start, size, full.root()));
            assert_eq!(
                range(&once, start, size, RangeForm::Alone),
                range(&log, start, size, RangeForm::Alone)
            );
            assert_proves(&reader, &log, &model, start, size);
            assert_consistent(&log, &model, start, start, size);
            assert_eq!((log.root_at(start - 1), log.consistency(start - 1, size)), (None, None));
            assert_eq!(log.range(start - 1, size, RangeForm::Alone, usize::MAX), None);
            if !crowded {
                continue;
            }
            assert_equals_plain(&log, &model);
            for from in start..=size {
                assert_eq!(log.root_at(from), Some(Hash::from_bytes(model.root(from))));
                assert_eq!(log.consistency(from, size), proofs[from as usize]);
            }
            // The last entry before the drop is still known, so a range can follow on it.
            for ((from, to, form), bytes) in &ranges {
                if *from >= start {
                    assert!(range(&log, *from, *to, *form) == *bytes, "{from}..{to} of {size} from {start}");
                }
            }
        }
        assert_eq!(log.drop_below(size), Err(consilience_sync::KeepError::StillNeeded { base: size - 1 }));
    }
}

#[test]
fn all_pairs_of_sizes_are_consistent_after_dropping_at_every_point() {
    let (mut log, model) = logs(rising).pop().unwrap();
    for start in 1..ALL {
        log.drop_below(start).unwrap();
        for size in start..=ALL {
            for from in (start..=size).filter(|from| *from == start || size == ALL || (from + size) % 7 == 0)
            {
                let proof = log.consistency(from, size).unwrap();
                let roots = [from, size].map(|at| Hash::from_bytes(model.root(at)));
                assert!(log.is_consistent((from, &roots[0]), (size, &roots[1]), &proof), "{from} in {size}");
            }
        }
    }
}

#[test]
fn a_copy_that_has_dropped_its_front_goes_on_receiving_and_proves_like_the_original() {
    for (full, model) in logs(rising) {
        let size = full.size();
        if size > 20 && !CROWDED.contains(&size) {
            continue;
        }
        for held in (1..=size).filter(|held| size <= 20 || held % 32 < 2 || *held > size - 2) {
            for start in (1..held).filter(|start| size <= 20 || start % 32 < 2 || *start > held - 2) {
                let mut copy = follower(&full, held);
                copy.drop_below(start).unwrap();
                if held < size {
                    let rest = range(&full, held, size, RangeForm::Follow);
                    assert_eq!(receive(&mut copy, &rest), Ok(Received::Extended { from: held, to: size }));
                }
                assert_eq!(copy.start(), start);
                assert_equals_plain(&copy, &model);
                for from in start..=size {
                    assert_eq!(copy.consistency(from, size), full.consistency(from, size));
                    for to in [from, size, (from + 1).min(size)] {
                        let form = RangeForm::Alone;
                        assert_eq!(range(&copy, from, to, form), range(&full, from, to, form));
                    }
                }
            }
        }
    }
}
