//! The laws of coupling as properties over random histories, its error bounds, and the traps it must not fall into.
//!
//! `CONSILIENCE_CASES` sets the number of random cases per property (10,000 without it).

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests, outside of any #[test]"
)]

#[path = "coupling/named.rs"]
mod named;

use consilience_crdts::coupling::{Coupling, CouplingCursor, CouplingDelta, CouplingSchema, Units};
use consilience_crdts::{ActorId, DecodeError, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;

/// One week, and a time of day at which the tests begin.
const HALF_LIFE_MS: u64 = 7 * 86_400_000;
const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// One step of an instant, as a relative change: ln 2 · 2⁻²⁴.
const STEP: f64 = core::f64::consts::LN_2 / 16_777_216.0;
const FLOOR: f64 = 1.0 / 16.0;
const CAP: f64 = 65_536.0;

fn config() -> ProptestConfig {
    let cases =
        std::env::var("CONSILIENCE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(10_000);
    // A failure prints its shrunk trace, which then becomes a test with a name; no files are written.
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn schema() -> CouplingSchema {
    CouplingSchema::with_half_life(HALF_LIFE_MS).unwrap()
}

fn actor(name: u8) -> ActorId {
    ActorId::new(&[b'a' + name]).unwrap()
}

fn key(index: u8) -> &'static [u8] {
    [&b""[..], b"k", b"kernel", b"kernel/log", b"z\xff", b"z\xff\xff"][usize::from(index)]
}

fn float(units: Units) -> f64 {
    units.to_bits() as f64 / (1_u64 << 32) as f64
}

fn floors(count: u32) -> Units {
    Units::from_ratio(count, 16).unwrap()
}

fn later(now: Timestamp, half_lives: f64) -> Timestamp {
    now.saturating_add_millis((half_lives * HALF_LIFE_MS as f64) as u64)
}

/// What can happen to one replica.
#[derive(Clone, Debug)]
enum Op {
    Strengthen { actor: u8, key: u8, floors: u32 },
    Weaken { actor: u8, key: u8, floors: u32 },
    Reset { actor: u8, key: u8 },
    ResetOwn { actor: u8, key: u8 },
    Wait { ms: u64 },
}

fn amounts() -> impl Strategy<Value = u32> {
    prop_oneof![2..64_u32, 64..100_000_u32, Just(1 << 20), Just(u32::MAX)]
}

fn waits() -> impl Strategy<Value = u64> {
    prop_oneof![0..1_000_u64, 0..HALF_LIFE_MS, 0..40 * HALF_LIFE_MS]
}

fn ops() -> impl Strategy<Value = Op> {
    let (a, k) = (0..4_u8, 0..4_u8);
    prop_oneof![
        4 => (a.clone(), k.clone(), amounts()).prop_map(|(actor, key, floors)| Op::Strengthen { actor, key, floors }),
        2 => (a.clone(), k.clone(), amounts()).prop_map(|(actor, key, floors)| Op::Weaken { actor, key, floors }),
        1 => (a.clone(), k.clone()).prop_map(|(actor, key)| Op::Reset { actor, key }),
        1 => (a, k).prop_map(|(actor, key)| Op::ResetOwn { actor, key }),
        1 => waits().prop_map(|ms| Op::Wait { ms }),
    ]
}

/// Does one thing; returns what it changed.
fn apply(state: &mut Coupling, op: &Op, now: &mut Timestamp) -> CouplingDelta {
    match *op {
        Op::Strengthen { actor: a, key: k, floors: by } => {
            state.strengthen(actor(a), key(k), floors(by), *now)
        }
        Op::Weaken { actor: a, key: k, floors: by } => state.weaken(actor(a), key(k), floors(by), *now),
        Op::Reset { actor: a, key: k } => state.reset(actor(a), key(k), *now),
        Op::ResetOwn { actor: a, key: k } => state.reset_own(actor(a), key(k), *now),
        Op::Wait { ms } => {
            *now = now.saturating_add_millis(ms);
            Ok(state.delta_since(state.cursor()))
        }
    }
    .unwrap()
}

fn state_of(ops: &[Op]) -> Coupling {
    let (mut state, mut now) = (Coupling::new(schema()), START);
    for op in ops {
        apply(&mut state, op, &mut now);
    }
    state
}

/// A state without changes of its own, as a peer would hold it.
fn replica_of(ops: &[Op]) -> Coupling {
    Coupling::decode(&state_of(ops).encode()).unwrap()
}

fn joined(a: &Coupling, b: &Coupling) -> Coupling {
    let mut joined = a.clone();
    joined.merge_state(b).unwrap();
    joined
}

/// All values of all keys, in every view.
fn values(state: &Coupling, now: Timestamp) -> Vec<Units> {
    let mut values = Vec::new();
    for k in 0..6 {
        values.extend([state.sum(), state.max()].map(|view| view.value(key(k), now)));
        values.extend((0..4).map(|a| state.by(&actor(a)).value(key(k), now)));
    }
    values
}

/// What can happen in a mesh of up to four replicas.
#[derive(Clone, Debug)]
enum Event {
    /// One replica does something.
    Do { replica: usize, op: Op },
    /// One of the deltas so far, of any age, again or for the first time, reaches a replica.
    Deliver { delta: prop::sample::Index, to: usize },
    /// A replica gets all that another one changed since they last met.
    Meet { from: usize, to: usize },
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..4_usize, ops()).prop_map(|(replica, op)| Event::Do { replica, op }),
        3 => (any::<prop::sample::Index>(), 0..4_usize).prop_map(|(delta, to)| Event::Deliver { delta, to }),
        1 => (0..4_usize, 0..4_usize).prop_map(|(from, to)| Event::Meet { from, to }),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn joins_of_states_are_commutative_associative_and_idempotent(
        a in vec(ops(), 0..10), b in vec(ops(), 0..10), c in vec(ops(), 0..10),
    ) {
        let [a, b, c] = [a, b, c].map(|ops| state_of(&ops));
        let ab = joined(&a, &b);
        prop_assert_eq!(&ab, &joined(&b, &a));
        prop_assert_eq!(ab.encode(), joined(&b, &a).encode());
        prop_assert_eq!(joined(&ab, &c), joined(&a, &joined(&b, &c)));
        let mut again = ab.clone();
        prop_assert_eq!(again.merge_state(&ab), Ok(false));
        prop_assert_eq!(again.merge_encoded(&a.encode()), Ok(false));
        prop_assert_eq!(again, ab);
    }

    #[test]
    fn joins_of_deltas_are_commutative_associative_and_idempotent(
        ops in vec(ops(), 3..12), order in any::<prop::sample::Index>(),
    ) {
        let (mut state, mut now) = (Coupling::new(schema()), START);
        let deltas: Vec<CouplingDelta> = ops.iter().map(|op| apply(&mut state, op, &mut now)).collect();
        let empty = Coupling::new(schema()).delta_since(CouplingCursor::default());
        let join = |deltas: &[CouplingDelta]| {
            let mut all = empty.clone();
            deltas.iter().for_each(|delta| { all = all.join(delta).unwrap(); });
            all
        };
        let all = join(&deltas);
        prop_assert_eq!(all.as_bytes(), &state.encode()[..]);
        let mut turned = deltas.clone();
        turned.rotate_left(order.index(deltas.len()));
        prop_assert_eq!(&join(&turned), &all);
        let (head, tail) = deltas.split_at(order.index(deltas.len()));
        prop_assert_eq!(&join(&[join(head), join(tail)]), &all);
        prop_assert_eq!(all.join(&join(head)), Ok(all.clone()));
        let mut merged = Coupling::new(schema());
        merged.merge(&all).unwrap();
        prop_assert_eq!(merged, state);
    }

    #[test]
    fn lost_repeated_and_reordered_deltas_converge_once_repaired(events in vec(events(), 1..24), full in any::<bool>()) {
        let mut replicas = vec![Coupling::new(schema()); 4];
        let mut met = [[CouplingCursor::default(); 4]; 4];
        let mut now = START;
        let mut deltas = vec![];
        for event in &events {
            match event {
                Event::Do { replica, op } => deltas.push(apply(&mut replicas[*replica], op, &mut now)),
                Event::Deliver { delta, to } if !deltas.is_empty() => {
                    replicas[*to].merge(delta.get(&deltas)).unwrap();
                }
                Event::Deliver { .. } => {}
                Event::Meet { from, to } => {
                    let delta = replicas[*from].delta_since(met[*from][*to]);
                    met[*from][*to] = replicas[*from].cursor();
                    replicas[*to].merge_encoded(delta.as_bytes()).unwrap();
                }
            }
        }
        let mut everything = Coupling::new(schema());
        for delta in &deltas {
            everything.merge(delta).unwrap();
        }
        // All to the first, and the first to all.
        for (from, to) in [(1, 0), (2, 0), (3, 0), (0, 1), (0, 2), (0, 3)] {
            let bytes = if full {
                replicas[from].encode()
            } else {
                replicas[from].delta_since(met[from][to]).encode()
            };
            replicas[to].merge_encoded(&bytes).unwrap();
        }
        for replica in &replicas {
            prop_assert_eq!(replica, &everything);
            prop_assert_eq!(replica.encode(), everything.encode());
            prop_assert_eq!(values(replica, now), values(&everything, now));
        }
    }

    #[test]
    fn a_delta_since_a_cursor_is_all_that_changed_behind_it(ops in vec(ops(), 1..16), at in any::<prop::sample::Index>()) {
        let (mut state, mut now) = (Coupling::new(schema()), START);
        let (before, after) = ops.split_at(at.index(ops.len()));
        before.iter().for_each(|op| { apply(&mut state, op, &mut now); });
        let (mut peer, cursor) = (state.clone(), state.cursor());
        after.iter().for_each(|op| { apply(&mut state, op, &mut now); });
        prop_assert_eq!(state.delta_since(state.cursor()).is_empty(), true);
        let delta = state.delta_since(cursor);
        peer.merge(&delta).unwrap();
        prop_assert_eq!(&peer, &state);
        prop_assert_eq!(state.delta_since(CouplingCursor::default()).encode(), state.encode());
    }

    #[test]
    fn every_mutator_is_an_inflation_and_the_join_of_its_delta(ops in vec(ops(), 1..16)) {
        let (mut state, mut now) = (Coupling::new(schema()), START);
        for op in &ops {
            let before = state.clone();
            let delta = apply(&mut state, op, &mut now);
            prop_assert_eq!(&joined(&state, &before), &state);
            let mut merged = before.clone();
            prop_assert_eq!(merged.merge(&delta).unwrap(), !delta.is_empty());
            prop_assert_eq!(&merged, &state);
            prop_assert_eq!(before == state, delta.is_empty());
            prop_assert_eq!(CouplingDelta::decode(delta.as_bytes()), Ok(delta));
        }
    }

    #[test]
    fn prune_commutes_with_merge_and_changes_no_value(
        a in vec(ops(), 0..12), b in vec(ops(), 0..12), wait in waits(), after in waits(),
    ) {
        let [mut a, mut b] = [a, b].map(|ops| replica_of(&ops));
        let now = START.saturating_add_millis(wait);
        let whole = joined(&a, &b);
        let mut pruned_after = whole.clone();
        pruned_after.prune(now);
        let unpruned = a.clone();
        a.prune(now);
        // With one side unpruned, what had passed comes back, and goes again.
        let mut mixed = joined(&a, &b);
        mixed.prune(now);
        b.prune(now);
        prop_assert_eq!(&joined(&a, &b), &pruned_after);
        prop_assert_eq!(&mixed, &pruned_after);
        prop_assert_eq!(joined(&a, &unpruned), unpruned);
        for now in [now, now.saturating_add_millis(after)] {
            prop_assert_eq!(values(&pruned_after, now), values(&whole, now));
        }
        prop_assert_eq!(pruned_after.prune(now), 0);
    }

    #[test]
    fn no_value_leaves_zero_to_cap_at_any_time(
        ops in vec(ops(), 0..16), wild in vec((0..4_u8, 0..4_u8, any::<u64>()), 0..4), reads in vec(any::<u64>(), 4),
    ) {
        let mut state = state_of(&ops);
        // Clocks that went wrong, up to the end of time.
        for (a, k, millis) in wild {
            let wrong = Timestamp::from_millis(millis);
            state.strengthen(actor(a), key(k), floors(50), wrong).unwrap();
            state.weaken(actor(3 - a), key(k), floors(5), wrong).unwrap();
        }
        for millis in reads.into_iter().chain([0, START.as_millis(), u64::MAX]) {
            let now = Timestamp::from_millis(millis);
            for value in values(&state, now) {
                prop_assert!(value == Units::ZERO || value >= schema().floor());
                prop_assert!(value <= schema().cap());
            }
        }
    }

    #[test]
    fn concurrent_strengthenings_by_several_contributors_all_count(
        steps in vec((0..4_u8, 2..100_000_u32, 0..HALF_LIFE_MS), 1..24), wait in 0..10 * HALF_LIFE_MS,
    ) {
        // Four replicas that never met until the end, and the sum in real numbers beside them.
        let mut replicas = vec![Coupling::new(schema()); 4];
        let end = steps.iter().map(|(_, _, ms)| ms).sum::<u64>() + wait;
        let (mut now, mut passed) = (START, 0);
        let (mut model, mut bound) = ([0.0; 4], [1.0; 4]);
        for (name, by, ms) in steps {
            now = now.saturating_add_millis(ms);
            passed += ms;
            let index = usize::from(name);
            replicas[index].strengthen(actor(name), key(1), floors(by), now).unwrap();
            let age = (end - passed) as f64 / HALF_LIFE_MS as f64;
            model[index] += f64::from(by) * FLOOR * (-age).exp2();
            bound[index] += 1.0;
        }
        let now = START.saturating_add_millis(end);
        let mut all = Coupling::new(schema());
        for replica in &replicas {
            all.merge_state(replica).unwrap();
        }
        let sum: f64 = model.iter().sum();
        // k + 1 steps for k increments each, and a grain for each that has ended.
        let error = model.iter().zip(bound).map(|(m, k)| m * k * STEP + FLOOR / 1024.0).sum::<f64>();
        let value = float(all.sum().value(key(1), now));
        if value == 0.0 {
            prop_assert!(sum - error < FLOOR, "{sum} reads 0");
        } else {
            prop_assert!((value - sum.min(CAP)).abs() <= error, "{value} instead of {sum}, allowed {error}");
        }
    }

    #[test]
    fn a_reset_reads_zero_at_once_and_ever_after_and_concurrent_strengthenings_survive(
        history in vec((0..4_u8, any::<bool>(), 2..5_000_u32, 0..HALF_LIFE_MS), 1..16),
        by in 2..5_000_u32, resetter in 0..4_u8, other in 0..4_u8, waits in vec(0..30 * HALF_LIFE_MS, 4),
    ) {
        let (mut state, mut now, mut most) = (Coupling::new(schema()), START, 2.0 * f64::from(by));
        for (name, plus, by, ms) in history {
            now = now.saturating_add_millis(ms);
            most += f64::from(by);
            if plus {
                state.strengthen(actor(name), key(1), floors(by), now).unwrap();
            } else {
                state.weaken(actor(name), key(1), floors(by), now).unwrap();
            }
        }
        // Something is there to be reset.
        state.strengthen(actor(other), key(1), floors(by), now).unwrap();
        prop_assert!(state.sum().value(key(1), now) > Units::ZERO);
        let mut elsewhere = state.clone();
        state.reset(actor(resetter), key(1), now).unwrap();
        let reads = waits.into_iter().map(|ms| now.saturating_add_millis(ms)).chain([now]);
        for then in reads.clone() {
            prop_assert_eq!(state.sum().value(key(1), then), Units::ZERO);
        }
        let concurrent = elsewhere.strengthen(actor(other), key(1), floors(by), now).unwrap();
        state.merge(&concurrent).unwrap();
        let value = float(state.sum().value(key(1), now));
        let expected = f64::from(by) * FLOOR;
        // Two roundings, each by a step of a total that is at most all there ever was.
        prop_assert!((value - expected).abs() <= 2.0 * most * FLOOR * STEP, "{value} instead of {expected}");
        for then in reads {
            let mut pruned = Coupling::decode(&state.encode()).unwrap();
            pruned.prune(then);
            prop_assert_eq!(pruned.sum().value(key(1), then), state.sum().value(key(1), then));
        }
    }

    #[test]
    fn bytes_that_were_tampered_with_are_refused_or_canonical(
        ops in vec(ops(), 0..12), hits in vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..4),
    ) {
        let mut bytes = state_of(&ops).encode();
        for (at, byte, how) in hits {
            let place = at.index(bytes.len());
            match how {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                2 if bytes.len() > 1 => { bytes.remove(place); }
                _ => bytes[place] ^= 1 << (byte % 8),
            }
        }
        refused_or_canonical(&state_of(&ops), &bytes);
    }

    #[test]
    fn any_bytes_are_refused_or_canonical(bytes in vec(any::<u8>(), 0..64)) {
        let mut framed = Coupling::new(schema()).encode();
        framed.truncate(framed.len() - 2);
        framed.extend_from_slice(&bytes);
        refused_or_canonical(&Coupling::new(schema()), &bytes);
        refused_or_canonical(&Coupling::new(schema()), &framed);
    }
}

/// Bytes are either refused, and the state is as it was, or their one and only form.
fn refused_or_canonical(state: &Coupling, bytes: &[u8]) {
    let mut merged = state.clone();
    let stats = merged.stats();
    let outcome = merged.merge_encoded(bytes);
    match Coupling::decode(bytes) {
        Ok(decoded) => {
            assert_eq!(decoded.encode(), bytes);
            assert_eq!(CouplingDelta::decode(bytes).unwrap().as_bytes(), bytes);
            if decoded.schema() == state.schema() {
                assert_eq!(merged, joined(state, &decoded));
                assert_eq!(outcome, Ok(merged != *state));
            } else {
                assert_eq!(outcome, Err(DecodeError::Schema));
                assert_eq!(merged, *state);
            }
        }
        Err(_) => {
            assert!(outcome.is_err() && CouplingDelta::decode(bytes).is_err());
            assert_eq!(merged, *state);
            assert_eq!(merged.cursor(), state.cursor());
            assert_eq!(merged.stats(), stats);
        }
    }
}
