//! The traps that coupling must not fall into, and its error bounds, one named test each.

use consilience_crdts::coupling::{
    Coupling, CouplingChange, CouplingCursor, CouplingDelta, CouplingError, CouplingSchema, SchemaMismatch,
    Units,
};
use consilience_crdts::{ActorId, DecodeError, KEY_BYTES_MAX, Timestamp};

use super::{
    FLOOR, HALF_LIFE_MS, START, STEP, actor, float, floors, key, later, refused_or_canonical, schema, values,
};

/// A state with several keys, contributors of different lengths, both signs.
fn sample() -> Coupling {
    let mut state = Coupling::new(schema());
    for (index, name) in [&b"ada"[..], b"b", &[7; 32]].into_iter().enumerate() {
        let name = ActorId::new(name).unwrap();
        for k in 0..6 {
            let now = START.saturating_add_millis(u64::from(k) * 100_000_000);
            state.strengthen(name, key(k), floors(1 << (k + 2)), now).unwrap();
            if index == 1 {
                state.weaken(name, key(k), floors(3), now).unwrap();
            }
        }
    }
    state
}

#[test]
fn every_truncation_is_refused_and_changes_nothing() {
    let state = sample();
    let bytes = state.encode();
    for cut in 0..bytes.len() {
        let mut merged = state.clone();
        assert!(merged.merge_encoded(&bytes[..cut]).is_err());
        assert!(CouplingDelta::decode(&bytes[..cut]).is_err());
        assert_eq!(merged, state);
    }
    assert_eq!(state.clone().merge_encoded(&[&bytes[..], &[0]].concat()), Err(DecodeError::Trailing));
}

#[test]
fn every_flipped_bit_is_refused_or_canonical() {
    let state = sample();
    let bytes = state.encode();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        refused_or_canonical(&state, &flipped);
    }
}

#[test]
fn two_schemas_of_coupling_do_not_merge() {
    let mut week = sample();
    let before = week.clone();
    let other_floor = CouplingSchema::new(HALF_LIFE_MS, floors(2), schema().cap()).unwrap();
    let other_cap = CouplingSchema::new(HALF_LIFE_MS, floors(1), Units::new(65_535)).unwrap();
    for other in [CouplingSchema::with_half_life(HALF_LIFE_MS + 1).unwrap(), other_floor, other_cap] {
        let mut state = Coupling::new(other);
        let delta = state.strengthen(actor(0), key(1), floors(20), START).unwrap();
        assert_eq!(week.merge(&delta), Err(SchemaMismatch));
        assert_eq!(week.merge_with(&delta, START, |_| panic!("nothing changed")), Err(SchemaMismatch));
        assert_eq!(week.merge_encoded(delta.as_bytes()), Err(DecodeError::Schema));
        assert_eq!(week.merge_state(&state), Err(SchemaMismatch));
        assert_eq!(delta.join(&week.delta_since(CouplingCursor::default())), Err(SchemaMismatch));
        assert_eq!((&week, week.cursor()), (&before, before.cursor()));
        assert_ne!(Coupling::new(other), Coupling::new(schema()));
    }
}

#[test]
fn strengthening_after_a_reset_at_cap_counts() {
    let mut state = Coupling::new(schema());
    let cap = schema().cap();
    state.strengthen(actor(0), key(1), cap.saturating_add(cap), START).unwrap();
    assert_eq!(state.sum().value(key(1), START), cap);
    // Again and again, by the contributor itself and by another one.
    for (round, resetter) in [0, 1, 1, 0, 2].into_iter().enumerate() {
        state.reset(actor(resetter), key(1), START).unwrap();
        assert_eq!(state.sum().value(key(1), START), Units::ZERO, "{round}");
        state.strengthen(actor(0), key(1), floors(16), START).unwrap();
        let value = float(state.sum().value(key(1), START));
        assert!((value - 1.0).abs() < 0.02, "{round}: {value}");
        state.strengthen(actor(0), key(1), cap, START).unwrap();
        assert_eq!(state.sum().value(key(1), START), cap);
    }
}

#[test]
fn a_reset_of_several_contributors_at_the_cap_fits() {
    let mut state = Coupling::new(schema());
    for name in 0..100_u64 {
        state.strengthen(ActorId::from(name), key(1), schema().cap(), START).unwrap();
    }
    state.reset(ActorId::from(7), key(1), START).unwrap();
    for step in 0..400 {
        assert_eq!(state.sum().value(key(1), later(START, f64::from(step) * 0.1)), Units::ZERO);
    }
}

#[test]
fn many_small_weakenings_that_end_first_do_not_bring_a_reset_key_back() {
    let mut state = Coupling::new(schema());
    let weakeners = 1_000_u64;
    state.strengthen(ActorId::from(weakeners), key(1), floors(10_000), START).unwrap();
    for name in 0..weakeners {
        state.weaken(ActorId::from(name), key(1), floors(2), START).unwrap();
    }
    let left = float(state.sum().value(key(1), START));
    assert!((left - 500.0).abs() < 0.01, "{left}");
    state.reset(ActorId::from(weakeners + 1), key(1), START).unwrap();
    for step in 0..300 {
        let now = later(START, f64::from(step) * 0.1);
        assert_eq!(state.sum().value(key(1), now), Units::ZERO);
        state.acknowledge(state.cursor());
        state.prune(now);
    }
    assert_eq!(state.stats().live, 0);
}

#[test]
fn u64_max_stamps_saturate() {
    for half_life_ms in [CouplingSchema::HALF_LIFE_MS_MIN, HALF_LIFE_MS, CouplingSchema::HALF_LIFE_MS_MAX] {
        let schema = CouplingSchema::with_half_life(half_life_ms).unwrap();
        let mut state = Coupling::new(schema);
        for now in [Timestamp::MAX, Timestamp::from_millis(u64::MAX - 1), Timestamp::EPOCH, START] {
            state.strengthen(actor(0), key(1), Units::MAX, now).unwrap();
            state.weaken(actor(1), key(1), Units::MAX, now).unwrap();
            state.reset(actor(2), key(1), now).unwrap();
            state.strengthen(actor(3), key(2), schema.cap(), now).unwrap();
            for read in [Timestamp::EPOCH, START, now, Timestamp::MAX] {
                assert!(values(&state, read).into_iter().all(|value| value <= schema.cap()));
            }
        }
        let copy = Coupling::decode(&state.encode()).unwrap();
        assert_eq!(copy, state);
        assert!(schema.admits(u64::MAX, Timestamp::MAX) || half_life_ms > CouplingSchema::HALF_LIFE_MS_MIN);
        assert!(!schema.admits(u64::MAX, Timestamp::EPOCH));
        state.acknowledge(CouplingCursor::default());
        assert_eq!(state.prune(Timestamp::MAX), 0, "nothing was acknowledged");
    }
    // At the shortest half-life the end of time is the end of everything.
    let mut state = Coupling::new(CouplingSchema::with_half_life(1_000).unwrap());
    state.strengthen(actor(0), key(1), Units::ONE, Timestamp::MAX).unwrap();
    assert_eq!(state.sum().value(key(1), Timestamp::MAX), Units::ZERO);
}

#[test]
fn half_life_halves() {
    let mut state = Coupling::new(schema());
    state.strengthen(actor(0), key(1), Units::new(1_024), START).unwrap();
    let mut expected = 1_024.0;
    for half_lives in 0..14 {
        let value = float(state.sum().value(key(1), later(START, f64::from(half_lives))));
        assert!((value / expected - 1.0).abs() < 2.0 * STEP, "{half_lives}: {value}");
        expected /= 2.0;
    }
    // 1,024 units are 2¹⁴ floors: another half-life, and it is below the floor.
    assert_eq!(state.sum().value(key(1), later(START, 14.01)), Units::ZERO);
    // It can be pruned ten half-lives later.
    state.acknowledge(state.cursor());
    assert_eq!(state.prune(later(START, 23.99)), 0);
    assert_eq!(state.prune(later(START, 24.01)), 1);
    assert_eq!(state, Coupling::new(schema()));
}

#[test]
fn relative_error_stays_small_after_200k_increments() {
    // How long between two increments, in half-lives, and how large they are, in floors: towards 2⁸ caps without
    // any decay, and around a balance far below and near the cap.
    for (gap, by) in [(0.0, 16_u32), (0.0, 2), (1e-5, 16), (1e-3, 16), (1e-4, 37), (1e-3, 2), (1e-5, 1_000)] {
        let mut state = Coupling::new(schema());
        let (mut model, mut passed, mut worst) = (0.0, 0_u64, 0.0_f64);
        let gap_ms = (gap * HALF_LIFE_MS as f64) as u64;
        for step in 1..=200_000_u32 {
            // Irregular, so that roundings are not all the same.
            let ms = if gap_ms == 0 {
                0
            } else {
                gap_ms / 2 + u64::from(step).wrapping_mul(2_654_435_761) % gap_ms
            };
            passed += ms;
            model *= (-(ms as f64) / HALF_LIFE_MS as f64).exp2();
            model += f64::from(by) * FLOOR;
            let now = START.saturating_add_millis(passed);
            state.strengthen(actor(0), key(1), floors(by), now).unwrap();
            // What a contributor holds is not clamped to the cap.
            if step % 1_000 == 0 {
                let held = float(state.contributions(key(1), now).next().unwrap().strengthened);
                worst = worst.max((held / model - 1.0).abs());
            }
        }
        println!("gap {gap} half-lives, {by} floors: total {model:.1}, relative error {worst:.2e}");
        assert!(worst < 2e-5, "gap {gap}, {by} floors: {worst}");
    }
}

#[test]
fn two_devices_under_one_actor_count_once_and_under_two_twice() {
    let (mut phone, mut laptop) = (Coupling::new(schema()), Coupling::new(schema()));
    let mut deltas = vec![];
    for (index, device) in [&mut phone, &mut laptop].into_iter().enumerate() {
        let own = actor(u8::try_from(index).unwrap());
        deltas.push(device.strengthen(actor(3), key(1), Units::new(5), START).unwrap());
        deltas.push(device.strengthen(own, key(2), Units::new(5), START).unwrap());
    }
    for delta in &deltas {
        phone.merge(delta).unwrap();
    }
    assert_eq!(phone.sum().value(key(1), START).to_string(), "5");
    assert_eq!(phone.sum().value(key(2), START).to_string(), "10");
}

#[test]
fn prune_keeps_what_was_written_here_and_not_acknowledged() {
    let mut state = Coupling::new(schema());
    let written = state.strengthen(actor(0), key(1), Units::new(5), START).unwrap();
    let cursor = state.cursor();
    let (mut peer, now) = (Coupling::new(schema()), START);
    let theirs = peer.strengthen(actor(1), key(2), Units::new(5), START).unwrap();
    state.merge(&theirs).unwrap();
    // The clock jumps ten years ahead, and back.
    assert_eq!(state.prune(later(now, 520.0)), 1);
    assert_eq!(state.keys().collect::<Vec<_>>(), [key(1)]);
    assert_eq!(state.by(&actor(0)).value(key(1), now).to_string(), "5");
    // What came from a peer comes back from it.
    assert_eq!(state.merge(&theirs), Ok(true));
    // Merging one's own change back acknowledges nothing by itself.
    assert_eq!(state.merge(&written), Ok(false));
    assert_eq!(state.prune(later(now, 520.0)), 1);
    state.acknowledge(cursor);
    assert_eq!(state.prune(later(now, 520.0)), 1);
    assert_eq!(state.stats(), Coupling::new(schema()).stats());
}

#[test]
fn contributors_that_are_gone_leave_nothing_behind() {
    let mut state = Coupling::new(schema());
    for name in 0..10_000_u64 {
        let now = later(START, name as f64 * 0.1);
        state.strengthen(ActorId::from(name), &name.to_be_bytes(), Units::ONE, now).unwrap();
        if name % 100 == 0 {
            state.acknowledge(state.cursor());
            state.prune(now);
        }
    }
    // One unit is 2¹⁴ grains: 14 half-lives of ten contributors each are there, and up to a hundred unpruned.
    assert!(state.stats().dots <= 240, "{:?}", state.stats());
    assert!(state.stats().bytes <= 240 * 300, "{:?}", state.stats());
    let now = later(START, 1_000.0);
    for (key, value) in state.sum().iter(now) {
        let name = ActorId::new(key).unwrap();
        assert_eq!(state.by(&name).value(key, now), value);
    }
}

#[test]
fn a_merge_reports_the_sums_that_it_changed_in_key_order() {
    let (mut here, mut there) = (Coupling::new(schema()), Coupling::new(schema()));
    let shared = here.strengthen(actor(0), key(3), Units::new(8), START).unwrap();
    there.merge(&shared).unwrap();
    here.strengthen(actor(0), key(1), schema().cap(), START).unwrap();
    for k in [3, 2, 1] {
        there.strengthen(actor(1), key(k), Units::new(2), START).unwrap();
    }
    let now = later(START, 1.0);
    let mut seen = vec![];
    let report = |change: CouplingChange<'_>| {
        seen.push((change.key.to_vec(), format!("{:.3} {:.3}", change.old, change.new)));
    };
    let delta = there.delta_since(CouplingCursor::default());
    let mut copy = here.clone();
    assert_eq!(here.merge_with(&delta, now, report), Ok(true));
    let expected = [(1, "32768.000 32769.000"), (2, "0.000 1.000"), (3, "4.000 5.000")];
    assert_eq!(seen, expected.map(|(k, text)| (key(k).to_vec(), text.to_owned())));
    assert_eq!(here.merge_with(&delta, now, |_| panic!("nothing changed")), Ok(false));
    let mut keys = vec![];
    let report = |change: CouplingChange<'_>| keys.push(change.key.to_vec());
    assert_eq!(copy.merge_encoded_with(delta.as_bytes(), now, report), Ok(true));
    assert_eq!((keys, &copy), (expected.map(|(k, _)| key(k).to_vec()).to_vec(), &here));
    assert!(copy.merge_encoded_with(&[0x14], now, |_| panic!("refused")).is_err());
    // Changed, but nothing to see: at the cap before and after.
    let mut above = Coupling::new(schema());
    above.strengthen(actor(2), key(1), schema().cap(), START).unwrap();
    here.strengthen(actor(0), key(1), schema().cap(), START).unwrap();
    let delta = above.delta_since(CouplingCursor::default());
    assert_eq!(here.merge_with(&delta, START, |_| panic!("the same value")), Ok(true));
}

#[test]
fn views_read_one_contributor_all_or_the_greatest_and_ranges_in_key_order() {
    let mut state = Coupling::new(schema());
    for k in [5, 3, 1, 0, 2, 4] {
        state.strengthen(actor(0), key(k), Units::new(3 + u32::from(k)), START).unwrap();
        state.strengthen(actor(1), key(k), Units::new(9), START).unwrap();
    }
    state.weaken_own(actor(1), key(2), Units::new(20), START).unwrap();
    let read = |value: Units| format!("{value:.3}");
    assert_eq!(read(state.sum().value(key(3), START)), "15.000");
    assert_eq!(read(state.max().value(key(3), START)), "9.000");
    assert_eq!(read(state.by(&actor(0)).value(key(3), START)), "6.000");
    assert_eq!(state.by(&actor(2)).value(key(3), START), Units::ZERO);
    assert_eq!(state.sum().value(b"elsewhere", START), Units::ZERO);
    // The own view of the one that weakened is gone, the other's is not.
    assert_eq!(state.by(&actor(1)).value(key(2), START), Units::ZERO);
    assert_eq!(read(state.sum().value(key(2), START)), "5.000");
    let held: Vec<_> = state.contributions(key(2), START).collect();
    assert_eq!(held.iter().map(|c| c.actor).collect::<Vec<_>>(), [actor(0), actor(1)]);
    assert!(held[1].strengthened <= held[1].weakened && held[0].weakened == Units::ZERO);
    assert_eq!(state.contributions(key(2), later(START, 40.0)).count(), 0);

    let names = |values: Vec<(&[u8], Units)>| values.iter().map(|(key, _)| key.to_vec()).collect::<Vec<_>>();
    let all: Vec<Vec<u8>> = (0..6).map(|k| key(k).to_vec()).collect();
    assert_eq!(names(state.sum().iter(START).collect()), all);
    assert_eq!(names(state.sum().iter(START).rev().collect()), all.iter().rev().cloned().collect::<Vec<_>>());
    assert_eq!(names(state.sum().prefix(b"k", START).collect()), all[1..4]);
    assert_eq!(names(state.sum().prefix(b"z\xff", START).collect()), all[4..]);
    assert_eq!(names(state.sum().prefix(b"\xff", START).collect()), all[..0]);
    assert_eq!(names(state.sum().prefix(b"", START).collect()), all);
    assert_eq!(names(state.by(&actor(1)).prefix(b"k", START).collect()), [key(1), key(3)]);
    assert_eq!(names(state.sum().range(key(2)..key(4), START).collect()), all[2..4]);
    assert_eq!(names(state.sum().range(..=key(2), START).collect()), all[..3]);
    assert_eq!(state.sum().range(key(4)..key(2), START).count(), 0);
    let excluded = (core::ops::Bound::Excluded(key(2)), core::ops::Bound::Excluded(key(2)));
    assert_eq!(state.sum().range(excluded, START).count(), 0);
}

#[test]
fn refused_calls_change_nothing() {
    let mut state = sample();
    let before = (state.clone(), state.cursor());
    let long = vec![0; KEY_BYTES_MAX + 1];
    let small = Units::from_bits(floors(2).to_bits() - 1);
    let name = actor(9);
    let refused = [
        (state.strengthen(name, &long, Units::ONE, START), CouplingError::KeyTooLong),
        (state.weaken(name, &long, Units::ONE, START), CouplingError::KeyTooLong),
        (state.reset(name, &long, START), CouplingError::KeyTooLong),
        (state.strengthen(name, key(1), small, START), CouplingError::Increment),
        (state.weaken(name, key(1), small, START), CouplingError::Increment),
        (state.weaken_own(name, key(1), Units::ZERO, START), CouplingError::Increment),
    ];
    for (outcome, error) in refused {
        assert_eq!(outcome, Err(error));
    }
    // Nothing to take from: no error, and no change either.
    assert!(state.reset(name, b"elsewhere", START).unwrap().is_empty());
    assert!(state.reset_own(name, key(1), START).unwrap().is_empty());
    assert_eq!((state, before.0.cursor()), before);
}

#[test]
fn what_is_made_now_is_admitted_and_what_comes_from_the_future_is_not() {
    // Instants are read out of the bytes: of a delta of one contribution, the last varint.
    let instant = |delta: &CouplingDelta| {
        let bytes = delta.as_bytes();
        let start = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte < 0x80).unwrap() + 1;
        let zigzag =
            bytes[start..].iter().rev().fold(0_u64, |value, byte| value << 7 | u64::from(byte & 0x7f));
        zigzag >> 1
    };
    let schema = schema();
    let most = Units::from_bits(schema.cap().to_bits() << 8);
    let mut state = Coupling::new(schema);
    let z = instant(&state.strengthen(actor(0), key(1), Units::MAX, START).unwrap());
    assert!(schema.admits(z, START));
    assert!(schema.admits(z, later(START, 1.0)));
    assert!(!schema.admits(z + 1, START));
    assert_eq!(schema.amount_at(z, START), most);
    // A clock a year ahead.
    let z = instant(&state.strengthen(actor(1), key(1), schema.cap(), later(START, 52.0)).unwrap());
    assert!(!schema.admits(z, START));
    assert!(schema.admits(z, later(START, 52.0)));
    assert_eq!(schema.amount_at(z, START), most);
    assert_eq!(schema.amount_at(0, START), Units::ZERO);
}

#[test]
fn serde_carries_the_canonical_bytes() {
    let state = sample();
    let json = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<Coupling>(&json).unwrap(), state);
    let delta = state.delta_since(CouplingCursor::default());
    let bytes = postcard::to_allocvec(&delta).unwrap();
    assert_eq!(postcard::from_bytes::<CouplingDelta>(&bytes).unwrap(), delta);
    let bytes = postcard::to_allocvec(state.schema()).unwrap();
    assert_eq!(postcard::from_bytes::<CouplingSchema>(&bytes).unwrap(), schema());
    assert!(serde_json::from_str::<Coupling>(&json.replacen("20,", "21,", 1)).is_err());
}
