//! The replica: `cargo bench --bench replica`. Committing small writes, folding 100,000 verified entries, opening with a
//! million keys, and the end of a log that is forked. What it takes in memory and storage: `replica_figures`.
//!
//! The fold alone cannot be called from outside. It is what an import takes beyond what `LogSet` takes for the same ranges:
//! `import` less `receive`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::std_instead_of_core,
    reason = "a benchmark: criterion's macros, and inputs made here"
)]

use consilience::crdts::Timestamp;
use consilience::sync::{
    Admission, Answer, Keypair, Limits, LogOpening, LogSet, MeshSecret, Range, RangeForm, VerifyBudget, Want,
};
use consilience::{Config, Opened, Replica, Stored, Writer};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const TOPIC: &str = "bench";
const MESH: MeshSecret = MeshSecret::from_bytes([1; 32]);
const ENTRIES: u64 = 100_000;
const RANGE_BYTES: usize = 48 << 10;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + ms)
}

fn config() -> Config {
    Config::new(MESH, [7; 32])
}

fn open(opened: Opened<'_>) -> (Replica, Writer) {
    let mut replica = Replica::open(config(), opened, at(0)).unwrap();
    let writer = replica.add_writer(Keypair::from_seed([3; 32])).unwrap();
    (replica, writer)
}

/// 20 bytes.
fn key(number: u64) -> String {
    format!("team/task/{:010}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 10_000_000_000)
}

fn set(replica: &mut Replica, writer: Writer, number: u64, ms: u64) {
    let mut tx = replica.transact(writer, TOPIC, at(ms)).unwrap();
    let value = u128::from(ms).to_le_bytes();
    tx.map("tasks").set(key(number), value).unwrap();
    tx.commit().unwrap();
}

/// Stores what has to be stored: appends it to `records`.
fn store(replica: &mut Replica, records: &mut Vec<u8>) {
    while let Some(record) = replica.poll_record() {
        records.extend(record.as_bytes());
        replica.confirm(record.id()).unwrap();
    }
}

/// A replica whose writer has written so many keys, one in an entry.
fn written(entries: u64) -> (Replica, Writer) {
    let (mut replica, writer) = open(Opened::InMemory);
    (0..entries).for_each(|number| set(&mut replica, writer, number, number));
    (replica, writer)
}

fn everything(replica: &mut Replica) -> Vec<u8> {
    replica.export_bundle(|_| true, None, at(2_000_000)).unwrap()
}

fn commits(c: &mut Criterion) {
    let mut group = c.benchmark_group("commit");
    group.sample_size(20).throughput(Throughput::Elements(1));
    // 64 keys over and over: what is older is carried along, and the state stays small.
    let (mut replica, writer) = open(Opened::InMemory);
    let mut ms = 0;
    group.bench_function("in_memory", |b| {
        b.iter(|| {
            ms += 1;
            set(&mut replica, writer, ms % 64, ms);
        });
    });
    let (mut replica, writer) = open(Opened::Fresh);
    let mut records = Vec::new();
    let mut ms = 0;
    group.bench_function("stored", |b| {
        b.iter(|| {
            ms += 1;
            set(&mut replica, writer, ms % 64, ms);
            records.clear();
            store(&mut replica, &mut records);
        });
    });
    let (mut replica, writer) = open(Opened::Fresh);
    let mut ms = 0;
    group.bench_function("stored_head_each", |b| {
        b.iter(|| {
            ms += 1;
            set(&mut replica, writer, ms % 64, ms);
            records.clear();
            store(&mut replica, &mut records);
            // Of no topic: this only signs.
            replica.export_bundle(|_| false, None, at(ms)).unwrap();
        });
    });
    let (mut replica, writer) = open(Opened::InMemory);
    let mut ms = 0;
    group.bench_function("in_memory_new_keys", |b| {
        b.iter(|| {
            ms += 1;
            set(&mut replica, writer, ms, ms);
        });
    });
    group.finish();
}

/// The ranges that a bundle of this replica has, and the opening of the log.
fn ranges(replica: &Replica) -> (LogOpening, Vec<Vec<u8>>) {
    let log = replica.logs().logs().next().unwrap();
    let (mut from, to, mut ranges) = (log.start(), log.signed_size(), Vec::new());
    while from < to {
        let want = Want { from, to, form: RangeForm::Follow };
        let Answer::Range { bytes, end } = replica.logs().answer(log.id(), &want, RANGE_BYTES) else { break };
        ranges.push(bytes);
        from = end;
    }
    (log.opening().clone(), ranges)
}

fn folds(c: &mut Criterion) {
    let mut group = c.benchmark_group("fold");
    group.sample_size(15).throughput(Throughput::Elements(ENTRIES));
    let (mut replica, _) = written(ENTRIES);
    let bundle = everything(&mut replica);
    let (opening, ranges) = ranges(&replica);
    let now = at(2_000_000);
    group.bench_function("receive", |b| {
        b.iter_batched_ref(
            || LogSet::new(MESH.id(), Limits::default()),
            |set| {
                let opening = opening.clone().named(set.mesh());
                let mut budget = VerifyBudget::new();
                for range in &ranges {
                    budget.received(range.len());
                    let range = Range::parse(range).unwrap();
                    set.receive_first(&opening, &range, now, &mut budget, |_| Admission::Hold).unwrap();
                    while set.poll_change().is_some() {}
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("import", |b| {
        b.iter_batched_ref(
            || Replica::open(config(), Opened::InMemory, at(0)).unwrap(),
            |replica| replica.import_bundle(&bundle, now).unwrap(),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn opens(c: &mut Criterion) {
    let mut group = c.benchmark_group("open");
    const KEYS: u64 = 1_000_000;
    group.sample_size(10).throughput(Throughput::Elements(KEYS));
    let (mut replica, writer) = open(Opened::Fresh);
    let mut records = Vec::new();
    (0..KEYS / 10 * 9).for_each(|number| set(&mut replica, writer, number, number));
    let snapshot = replica.snapshot();
    replica.confirm_snapshot(snapshot.covers()).unwrap();
    (KEYS / 10 * 9..KEYS).for_each(|number| set(&mut replica, writer, number, number));
    store(&mut replica, &mut records);
    let snapshot = snapshot.into_bytes();
    drop(replica);
    group.bench_function("a_million_keys", |b| {
        b.iter_batched(
            || (),
            |()| {
                let stored = Stored { snapshot: Some(&snapshot), records: &records };
                open(Opened::Resumed(stored))
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn voids(c: &mut Criterion) {
    // Two that go on from the same storage, which is how a log forks.
    let (mut first, writer) = open(Opened::Fresh);
    let mut records = Vec::new();
    (0..ENTRIES).for_each(|number| set(&mut first, writer, number, number));
    store(&mut first, &mut records);
    let stored = Stored { snapshot: None, records: &records };
    let (mut second, writer) = open(Opened::Resumed(stored));
    let bundles = [(&mut first, 1), (&mut second, 2)].map(|(replica, number)| {
        set(replica, writer, number, ENTRIES);
        store(replica, &mut Vec::new());
        everything(replica)
    });
    let now = at(2_000_000);
    let mut both = Replica::open(config(), Opened::InMemory, at(0)).unwrap();
    let mut one = || {
        let mut replica = Replica::open(config(), Opened::InMemory, at(0)).unwrap();
        replica.import_bundle(&bundles[0], now).unwrap();
        replica
    };
    let summary = one().summary();
    for bundle in &bundles {
        both.import_bundle(bundle, now).unwrap();
    }
    let evidence = both.export_bundle(|_| true, Some(&summary), now).unwrap();

    let mut group = c.benchmark_group("void");
    group.sample_size(10).throughput(Throughput::Elements(ENTRIES));
    group.bench_function("a_log_of_100k_dots", |b| {
        b.iter_batched_ref(
            &mut one,
            |replica| {
                replica.import_bundle(&evidence, now).unwrap();
                assert_eq!(replica.stats(None).keys, 0);
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, commits, folds, opens, voids);
criterion_main!(benches);
