//! The root of a scope of one small topic among many heads, by the clock: the one workload that is timed.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark that is timed: libraries are passed the time in"
)]

use std::hint::black_box;
use std::time::Instant;

use consilience::crdts::Hlc;
use consilience::sync::{
    Incarnation, Limits, LogId, LogKind, LogOpening, LogSet, MeshId, NewEntry, Signer, Topic,
};
use serde_json::{Value, json};

use crate::at;
use crate::state::agent;

/// Logs of the small topic.
const SMALL: u64 = 20;
const ASKED: u32 = 10_000;
const CHANGES: u64 = 200;

fn write(set: &mut LogSet, topic: &str, number: u64) -> LogId {
    let keys = agent(number % 200);
    let opening = LogOpening {
        topic: Topic::new(topic).unwrap(),
        kind: LogKind::Event,
        agent: keys.agent(),
        incarnation: Incarnation::from_u64(number + 1),
    };
    let log = set.open_local(&opening).unwrap();
    set.append(&log, &NewEntry::new(Hlc::new(at(number), 0), b"a word")).unwrap();
    set.sign_head(&log, &keys, at(number)).unwrap();
    log
}

/// Microseconds for the root of one topic of 20 logs among so many others in 60 topics: with nothing new, and after a head of
/// it, or of another topic, has changed.
pub fn scope_root(heads: u64) -> Value {
    let mut limits = Limits::default();
    limits.logs_max = usize::MAX;
    limits.logs_per_agent_max = usize::MAX;
    let mut set = LogSet::new(MeshId::from_bytes([1; 32]), limits);
    for number in 0..heads {
        write(&mut set, &format!("large/{}", number % 60), number);
    }
    for number in 0..SMALL {
        write(&mut set, "small", heads + number);
    }
    let scope = [LogSet::scope_of(&Topic::new("small").unwrap())];
    black_box(set.heads_root_within(&scope));
    let start = Instant::now();
    for _ in 0..ASKED {
        black_box(set.heads_root_within(black_box(&scope)));
    }
    let same = start.elapsed().as_secs_f64() / f64::from(ASKED);
    let after = |set: &mut LogSet, topic: &str, first: u64| {
        let mut took = 0.0;
        for number in 0..CHANGES {
            write(set, topic, first + number);
            let _ = set.heads_version();
            let start = Instant::now();
            black_box(set.heads_root_within(&scope));
            took += start.elapsed().as_secs_f64();
        }
        took / CHANGES as f64
    };
    let other = after(&mut set, "large/7", heads + SMALL);
    let own = after(&mut set, "small", heads + SMALL + CHANGES);
    let us = |seconds: f64| (seconds * 1e8).round() / 100.0;
    json!({ "heads": heads, "same_us": us(same), "other_changed_us": us(other), "own_changed_us": us(own) })
}
