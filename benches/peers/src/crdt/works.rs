//! The works themselves. Each one builds its input once and returns a closure that makes one run on fresh
//! state, checks the outcome outside of the timing, and returns the figure.

use std::collections::BTreeSet;

use super::data::{Change, Kind, Model, Scale, Source, apply_to};
use super::{Peer, Replica};
use crate::group::{Run, Work, size, timed};
use crate::measure::{held_bytes, seconds};

/// All works in the order of the output.
pub const WORKS: &[Work] = &[
    timed("lww_delta_apply", "keys/s"),
    timed("lww_one_op", "ops/s"),
    timed("lww_one_op_1k", "ops/s"),
    timed("lww_full_merge_ms", "ms"),
    size("lww_state_bytes_per_entry"),
    size("lww_state_bytes_per_entry_shuffled"),
    size("lww_memory_per_entry"),
    size("lww_delta_bytes_per_change"),
    timed("orset_delta_apply", "changes/s"),
    timed("orset_one_op", "ops/s"),
    timed("orset_one_op_1k", "ops/s"),
    timed("orset_full_merge_ms", "ms"),
    size("orset_state_bytes_per_entry"),
    size("orset_state_bytes_per_entry_shuffled"),
    size("orset_memory_per_entry"),
    size("orset_delta_bytes_per_change"),
    size("growth_bytes"),
    size("lww_growth_bytes"),
];

/// Builds the input of a work for a peer.
pub fn prepare<P: Peer>(work: &str, quick: bool) -> Run {
    let scale = &Scale::new(quick);
    if work == "growth_bytes" {
        growth::<P::Set>(Kind::Set, scale)
    } else if let Some(work) = work.strip_prefix("lww_") {
        prepare_kind::<P::Map>(Kind::Map, work, scale)
    } else if let Some(work) = work.strip_prefix("orset_") {
        prepare_kind::<P::Set>(Kind::Set, work, scale)
    } else {
        unreachable!("no such work: {work}")
    }
}

fn prepare_kind<R: Replica>(kind: Kind, work: &str, scale: &Scale) -> Run {
    match work {
        "delta_apply" => delta_apply::<R>(kind, scale),
        "one_op" => one_op::<R>(kind, scale.entries, R::ONE_OPS / scale.divisor),
        "one_op_1k" => one_op::<R>(kind, scale.small, R::ONE_OPS_SMALL / scale.divisor),
        "full_merge_ms" => full_merge::<R>(kind, scale),
        "state_bytes_per_entry" => state_bytes::<R>(Source::new(kind).base(scale.entries)),
        "state_bytes_per_entry_shuffled" => state_bytes::<R>(Source::new(kind).base_shuffled(scale.entries)),
        "memory_per_entry" => memory::<R>(Source::new(kind).base(scale.entries)),
        "delta_bytes_per_change" => delta_bytes::<R>(kind, scale),
        "growth_bytes" => growth::<R>(kind, scale),
        _ => unreachable!("no such work: {work}"),
    }
}

/// The actors: the writer of the base, the one or two that change it, the one that receives.
const WRITER: u64 = 1;
const SENDER: u64 = 2;
const OTHER: u64 = 3;
const RECEIVER: u64 = 4;

/// A base on which everybody agrees, as bytes and as content.
struct Base {
    saved: Vec<u8>,
    model: Model,
    changes: Vec<Change>,
}

fn base<R: Replica>(source: &mut Source, entries: usize) -> Base {
    let changes = source.base(entries);
    let mut writer = R::new(WRITER);
    writer.change(&changes);
    let mut model = Model::new();
    apply_to(&mut model, &changes);
    Base {
        saved: writer.save(),
        model,
        changes,
    }
}

/// Panics unless the replica has the content of the model: the count, and a sample of the entries and of
/// what was touched.
fn check<R: Replica>(replica: &R, model: &Model, touched: &[Change]) {
    assert_eq!(replica.len(), model.len(), "number of entries");
    let step = |len: usize| (len / 1_000).max(1);
    for (key, value) in model.iter().step_by(step(model.len())) {
        assert!(replica.holds(key, value), "wrong or missing: {key}");
    }
    for Change { key, .. } in touched.iter().step_by(step(touched.len())) {
        match model.get(key) {
            Some(value) => assert!(
                replica.holds(key, value),
                "wrong or missing after the change: {key}"
            ),
            None => assert!(!replica.has(key), "still there after its removal: {key}"),
        }
    }
}

/// A receiver with the base. Reading it makes sure that nothing of the base is left to be decoded later,
/// when the clock runs.
fn receiver<R: Replica>(base: &Base) -> R {
    let receiver = R::load(RECEIVER, &base.saved);
    check(&receiver, &base.model, &base.changes);
    receiver
}

/// The base, one encoded delta of many changes, those changes, and the content after them.
struct Delta {
    base: Base,
    encoded: Vec<u8>,
    changes: Vec<Change>,
    after: Model,
}

fn delta<R: Replica>(kind: Kind, scale: &Scale) -> Delta {
    let mut source = Source::new(kind);
    let base = base::<R>(&mut source, scale.entries);
    let changes = source
        .changes(&base.changes, 1, R::DELTA_CHANGES / scale.divisor)
        .remove(0);
    let encoded = R::load(SENDER, &base.saved).change_encoded(&changes);
    let mut after = base.model.clone();
    apply_to(&mut after, &changes);
    Delta {
        base,
        encoded,
        changes,
        after,
    }
}

/// Changes each second when one delta of many changes is decoded and applied, up to the first read.
fn delta_apply<R: Replica>(kind: Kind, scale: &Scale) -> Run {
    let Delta {
        base,
        encoded,
        changes,
        after,
    } = delta::<R>(kind, scale);
    Box::new(move || {
        let mut receiver = receiver::<R>(&base);
        let (receiver, took) = seconds(|| {
            receiver.apply(&encoded);
            // A library that puts work off until the content is read has to do it here.
            receiver.has(&changes[0].key);
            receiver
        });
        check(&receiver, &after, &changes);
        changes.len() as f64 / took
    })
}

fn delta_bytes<R: Replica>(kind: Kind, scale: &Scale) -> Run {
    let Delta {
        base,
        encoded,
        changes,
        after,
    } = delta::<R>(kind, scale);
    Box::new(move || {
        let mut receiver = receiver::<R>(&base);
        receiver.apply(&encoded);
        check(&receiver, &after, &changes);
        encoded.len() as f64 / changes.len() as f64
    })
}

/// Deltas of one change each second, decoded and applied one after the other.
fn one_op<R: Replica>(kind: Kind, entries: usize, ops: usize) -> Run {
    let mut source = Source::new(kind);
    let base = base::<R>(&mut source, entries);
    let changes = source.stream(&base.changes, ops);
    let mut sender = R::load(SENDER, &base.saved);
    let deltas: Vec<Vec<u8>> = changes
        .chunks(1)
        .map(|change| sender.change_encoded(change))
        .collect();
    let mut after = base.model.clone();
    apply_to(&mut after, &changes);
    Box::new(move || {
        let mut receiver = receiver::<R>(&base);
        let (receiver, took) = seconds(|| {
            for delta in &deltas {
                receiver.apply(delta);
            }
            receiver
        });
        check(&receiver, &after, &changes);
        deltas.len() as f64 / took
    })
}

/// Milliseconds to decode two whole replicas that drifted apart and to merge them, up to the first read.
fn full_merge<R: Replica>(kind: Kind, scale: &Scale) -> Run {
    let mut source = Source::new(kind);
    let base = base::<R>(&mut source, scale.entries);
    let lists = source.changes(&base.changes, 2, scale.entries / 10);
    let mut after = base.model.clone();
    let mut saved = Vec::new();
    for (actor, changes) in [SENDER, OTHER].into_iter().zip(&lists) {
        let mut replica = R::load(actor, &base.saved);
        replica.change(changes);
        saved.push(replica.save());
        apply_to(&mut after, changes);
    }
    let touched = lists.concat();
    Box::new(move || {
        let (merged, took) = seconds(|| {
            let merged = R::merge_saved(RECEIVER, &saved[0], &saved[1]);
            merged.has(&touched[0].key);
            merged
        });
        check(&merged, &after, &touched);
        took * 1_000.0
    })
}

/// Bytes of the encoded state for each entry, written by one actor in the order of `changes`.
fn state_bytes<R: Replica>(changes: Vec<Change>) -> Run {
    let mut model = Model::new();
    apply_to(&mut model, &changes);
    Box::new(move || {
        let mut writer = R::new(WRITER);
        writer.change(&changes);
        let saved = writer.save();
        check(&R::load(RECEIVER, &saved), &model, &changes);
        saved.len() as f64 / changes.len() as f64
    })
}

/// Heap bytes for each entry of a replica built by local writes, keys and values included.
fn memory<R: Replica>(changes: Vec<Change>) -> Run {
    let mut model = Model::new();
    apply_to(&mut model, &changes);
    Box::new(move || {
        let (writer, held) = held_bytes(|| {
            let mut writer = R::new(WRITER);
            writer.change(&changes);
            writer
        });
        check(&writer, &model, &changes);
        held / changes.len() as f64
    })
}

/// Bytes of the encoded state after one actor wrote and removed the same entries over and over.
fn growth<R: Replica>(kind: Kind, scale: &Scale) -> Run {
    let mut source = Source::new(kind);
    let first = source.base(scale.growth_entries);
    let keys: BTreeSet<String> = first.into_iter().map(|change| change.key).collect();
    let mut rounds = Vec::new();
    for _ in 0..scale.growth_rounds {
        let writes: Vec<Change> = keys.iter().map(|key| source.put(key.clone())).collect();
        let removals: Vec<Change> = keys.iter().map(|key| source.remove(key.clone())).collect();
        rounds.push((writes, removals));
    }
    Box::new(move || {
        let mut writer = R::new(WRITER);
        for (writes, removals) in &rounds {
            writer.change(writes);
            assert_eq!(writer.len(), writes.len(), "number of entries written");
            writer.change(removals);
        }
        let saved = writer.save();
        check(&R::load(RECEIVER, &saved), &Model::new(), &rounds[0].1);
        saved.len() as f64
    })
}
