//! Signed logs: `cargo bench --bench log`. Appending, sealing, serving and receiving 10,000 entries of 128 bytes, and
//! reading one of them sparsely.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark: criterion's macros, and inputs made here")]

use consilience::crdts::{Hlc, Timestamp};
use consilience::sync::{
    Allowance, Incarnation, Keypair, Log, LogKind, LogOpening, MeshId, NewEntry, RangeForm, Signer, Topic,
    VerifyBudget,
};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const ENTRIES: u64 = 10_000;
const PAYLOAD: [u8; 128] = [7; 128];
const CHUNK_BYTES: usize = 64 << 10;

fn empty(writer: &Keypair) -> Log {
    let opening = LogOpening {
        topic: Topic::new("bench").unwrap(),
        kind: LogKind::State,
        agent: writer.agent(),
        incarnation: Incarnation::from_u64(1),
    };
    Log::new(opening, &MeshId::from_bytes([1; 32])).unwrap()
}

/// Appends all entries, and signs after every `seal`.
fn fill(writer: &Keypair, seal: u64) -> Log {
    let mut log = empty(writer);
    for i in 0..ENTRIES {
        let now = Timestamp::from_millis(1_700_000_000_000 + i);
        log.append(&NewEntry::new(Hlc::new(now, 0), &PAYLOAD)).unwrap();
        if (i + 1) % seal == 0 {
            log.sign_head(writer, now).unwrap();
        }
    }
    log
}

fn chunks(log: &Log) -> Vec<Vec<u8>> {
    let mut chunks = vec![];
    let mut at = 0;
    while at < ENTRIES {
        let (bytes, end) = log.range(at, ENTRIES, RangeForm::Follow, CHUNK_BYTES).unwrap();
        chunks.push(bytes);
        at = end;
    }
    chunks
}

fn receive(log: &mut Log, chunks: &[Vec<u8>]) {
    let mut budget = VerifyBudget::new();
    for chunk in chunks {
        budget.received(chunk.len());
        log.receive(chunk, &Allowance::ANY, &mut budget).unwrap();
    }
}

fn logs(c: &mut Criterion) {
    let writer = Keypair::from_seed([3; 32]);
    let log = fill(&writer, ENTRIES);
    let bulk = chunks(&log);
    let (sparse, _) = log.range(ENTRIES / 2, ENTRIES / 2 + 1, RangeForm::Alone, 0).unwrap();
    let reader = empty(&writer);

    let mut group = c.benchmark_group("log");
    group.sample_size(20).throughput(Throughput::Elements(ENTRIES));
    group.bench_function("append", |b| b.iter(|| fill(&writer, ENTRIES)));
    group.bench_function("append_sealed_100", |b| b.iter(|| fill(&writer, 100)));
    group.bench_function("serve", |b| b.iter(|| chunks(&log)));
    group.bench_function("receive_verify", |b| {
        b.iter_batched_ref(|| empty(&writer), |log| receive(log, &bulk), BatchSize::LargeInput);
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("sparse_verify", |b| {
        b.iter(|| reader.verify(&sparse, &mut VerifyBudget::new()).unwrap().entries().count());
    });
    group.finish();
}

criterion_group!(benches, logs);
criterion_main!(benches);
