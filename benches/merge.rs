//! Merge throughput of the map and the set: `cargo bench --bench merge`.
//!
//! The works are those that `benches/peers` measures against the published libraries: 100,000 keys of 21 bytes with
//! values of 16, elements of 16 bytes; one replica has changed a tenth.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark: criterion's macros, and inputs made here")]

use consilience::crdts::{ActorId, Hlc, LwwMap, OrSet, Timestamp};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const BASE: u64 = 100_000;
const CHANGED: u64 = BASE / 10;

fn key(i: u64) -> Vec<u8> {
    format!("agent/{:05}/task/{:04}", i / 100, i % 100).into_bytes()
}

fn element(i: u64) -> Vec<u8> {
    format!("member/{i:09}").into_bytes()
}

/// A bijection on `0..BASE`, so that changes fall at random without repeating: 7,919 is coprime to the base.
fn scattered(i: u64) -> u64 {
    (i * 7_919 + 13) % BASE
}

fn stamp(write: u64) -> Hlc {
    Hlc::new(Timestamp::from_millis(1_700_000_000_000 + write), 0)
}

fn value(i: u64) -> [u8; 16] {
    let half = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (u128::from(half) << 64 | u128::from(half.rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)))
        .to_be_bytes()
}

fn map(keys: u64) -> LwwMap {
    let mut map = LwwMap::new();
    for i in 0..keys {
        map.set(ActorId::from(1), &key(i), &value(i), stamp(i)).unwrap();
    }
    map
}

fn set() -> OrSet {
    let mut set = OrSet::new();
    for i in 0..BASE {
        set.insert(ActorId::from(1), &element(i)).unwrap();
    }
    set
}

/// Overwrites `CHANGED` keys under another actor.
fn change_map(map: &mut LwwMap, actor: u64, first: u64) {
    for i in first..first + CHANGED {
        map.set(ActorId::from(actor), &key(scattered(i)), &value(i + BASE), stamp(BASE + i)).unwrap();
    }
}

/// Half of the changes insert, half remove.
fn change_set(set: &mut OrSet, actor: u64, first: u64) {
    for i in first..first + CHANGED / 2 {
        set.insert(ActorId::from(actor), &element(BASE + i)).unwrap();
        set.remove(&element(scattered(i)));
    }
}

fn lww(c: &mut Criterion) {
    let base = map(BASE);
    let mut group = c.benchmark_group("lww");

    let mut changed = base.clone();
    let cursor = changed.cursor();
    change_map(&mut changed, 2, 0);
    let delta = changed.delta_since(cursor).into_bytes();
    group.throughput(Throughput::Elements(CHANGED));
    group.bench_function("delta_apply", |b| {
        b.iter_batched_ref(|| base.clone(), |map| map.merge_encoded(&delta).unwrap(), BatchSize::LargeInput);
    });

    for (name, keys) in [("one_op_100k", BASE), ("one_op_1k", 1_000)] {
        let base = map(keys);
        let mut writer = base.clone();
        let deltas: Vec<Vec<u8>> = (0..BASE)
            .map(|i| {
                let delta =
                    writer.set(ActorId::from(2), &key(scattered(i) % keys), &value(i), stamp(BASE + i));
                delta.unwrap().into_bytes()
            })
            .collect();
        group.throughput(Throughput::Elements(BASE));
        group.bench_function(name, |b| {
            let apply =
                |map: &mut LwwMap| deltas.iter().filter(|delta| map.merge_encoded(delta).unwrap()).count();
            b.iter_batched_ref(|| base.clone(), apply, BatchSize::LargeInput);
        });
    }

    let (mut ours, mut theirs) = (base.clone(), base);
    change_map(&mut ours, 2, 0);
    change_map(&mut theirs, 3, CHANGED);
    let (ours, theirs) = (ours.encode(), theirs.encode());
    group.throughput(Throughput::Elements(BASE));
    group.bench_function("full_merge", |b| {
        b.iter_with_large_drop(|| {
            let mut map = LwwMap::decode(&ours).unwrap();
            map.merge_encoded(&theirs).unwrap();
            map
        });
    });
    group.finish();
}

fn orset(c: &mut Criterion) {
    let base = set();
    let mut group = c.benchmark_group("orset");

    let mut changed = base.clone();
    let cursor = changed.cursor();
    change_set(&mut changed, 2, 0);
    let delta = changed.delta_since(cursor).into_bytes();
    group.throughput(Throughput::Elements(CHANGED));
    group.bench_function("delta_apply", |b| {
        b.iter_batched_ref(|| base.clone(), |set| set.merge_encoded(&delta).unwrap(), BatchSize::LargeInput);
    });

    let mut writer = base.clone();
    let deltas: Vec<Vec<u8>> = (0..BASE)
        .map(|i| {
            if i % 2 == 0 {
                writer.insert(ActorId::from(2), &element(BASE + i)).unwrap().into_bytes()
            } else {
                writer.remove(&element(scattered(i))).into_bytes()
            }
        })
        .collect();
    group.throughput(Throughput::Elements(BASE));
    group.bench_function("one_op_100k", |b| {
        let apply = |set: &mut OrSet| deltas.iter().filter(|delta| set.merge_encoded(delta).unwrap()).count();
        b.iter_batched_ref(|| base.clone(), apply, BatchSize::LargeInput);
    });

    let (mut ours, mut theirs) = (base.clone(), base);
    change_set(&mut ours, 2, 0);
    change_set(&mut theirs, 3, CHANGED);
    let (ours, theirs) = (ours.encode(), theirs.encode());
    group.bench_function("full_merge", |b| {
        b.iter_with_large_drop(|| {
            let mut set = OrSet::decode(&ours).unwrap();
            set.merge_encoded(&theirs).unwrap();
            set
        });
    });
    group.finish();
}

criterion_group! {
    name = merge;
    config = Criterion::default().sample_size(30);
    targets = lww, orset
}
criterion_main!(merge);
