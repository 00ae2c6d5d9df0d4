//! Hostile and unlucky input: bytes made by hand, histories that no honest peer has, and loads that are all on one
//! spot. Nothing may panic, a refused input changes nothing, everything equals a naive model, and the work for an
//! input is in proportion to its bytes. The limits on time are wide: what breaks them grows with the square.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "helpers of tests")]
#![allow(clippy::std_instead_of_core, clippy::std_instead_of_alloc, reason = "tests have a standard library")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "limits on time need a clock")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use consilience_crdts::coupling::{Coupling, CouplingSchema, Units};
use consilience_crdts::{
    ActorId, COUNTER_MAX, CausalContext, Cursor, Dot, DotStore, Hlc, LwwMap, MapDelta, OrSet, Timestamp,
    VersionVector, WriteError,
};
use consilience_test_support::collections::{Bytes, Change, Subject, difference};

const MAP: u8 = 0x11;
const SET: u8 = 0x12;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// The limits are many times what the work takes on a busy machine, and a fraction of what it took when it grew with
/// the square: no other measure sees that from outside.
fn within<T>(limit_ms: u64, work: impl FnOnce() -> T) -> T {
    let limit_ms = 6 * limit_ms;
    let start = Instant::now();
    let result = work();
    let spent = start.elapsed();
    assert!(spent < Duration::from_millis(limit_ms), "{spent:?} where {limit_ms} ms are plenty");
    result
}

fn actor(number: u64) -> ActorId {
    ActorId::from(number)
}

fn at(ms: u64) -> Hlc {
    Hlc::new(Timestamp::from_millis(ms), 0)
}

type Spans = (ActorId, Vec<(u64, u64)>);

#[derive(Clone)]
struct Live {
    key: Bytes,
    stamp: u64,
    value: Bytes,
}

fn put(out: &mut Bytes, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn zigzag(to: u64, from: u64) -> u64 {
    let distance = to.wrapping_sub(from) as i64;
    ((distance << 1) ^ (distance >> 63)) as u64
}

/// The form of docs/wire/collections.md: `rows` are sorted by key, then actor, then counter; actors are indices of
/// `actors`.
fn form(kind: u8, actors: &[Spans], rows: &[(usize, u64, &Live)]) -> Bytes {
    let (mut out, mut last) = (vec![kind], Vec::new());
    put(&mut out, actors.len() as u64);
    for (id, spans) in actors {
        put(&mut out, id.as_bytes().len() as u64);
        out.extend_from_slice(id.as_bytes());
        put(&mut out, spans.len() as u64);
        let mut least = 1;
        for (start, end) in spans {
            put(&mut out, (start - least) << 1 | u64::from(end > start));
            (end > start).then(|| put(&mut out, end - start - 1));
            least = end + 2;
        }
        last.push(spans.last().unwrap().1);
    }
    put(&mut out, rows.len() as u64);
    let (mut key, mut decoded): (Option<&Bytes>, usize) = (None, 0);
    let (mut author, mut millis, mut value_len) = (0, 0, 0);
    for (i, (actor, counter, live)) in rows.iter().enumerate() {
        if key != Some(&live.key) {
            let old = key.map_or(&[][..], Vec::as_slice);
            let sharing = key.is_some() && decoded <= 4_096 + 64 * out.len();
            let common = old.iter().zip(&live.key).take_while(|(a, b)| a == b).count();
            let shared = if sharing { common } else { 0 };
            let lens = [old.len() - shared, live.key.len() - shared];
            out.push((lens[0].min(15) as u8) << 4 | lens[1].min(15) as u8);
            lens.iter().filter(|len| **len >= 15).for_each(|len| put(&mut out, *len as u64 - 15));
            out.extend_from_slice(&live.key[shared..]);
            decoded += live.key.len();
            key = Some(&live.key);
        }
        decoded += live.value.len();
        let more = rows.get(i + 1).is_some_and(|next| next.2.key == live.key);
        let other = *actor != author;
        put(&mut out, zigzag(*counter, last[*actor]) << 2 | u64::from(other) << 1 | u64::from(more));
        other.then(|| put(&mut out, *actor as u64));
        (author, last[*actor]) = (*actor, *counter);
        if kind == MAP {
            let (ms, logical, len) = (live.stamp >> 16, live.stamp & 0xffff, live.value.len());
            let (ticks, resized) = (logical > 0, len != value_len);
            put(&mut out, zigzag(ms, millis) << 2 | u64::from(ticks) << 1 | u64::from(resized));
            ticks.then(|| put(&mut out, logical));
            resized.then(|| put(&mut out, len as u64));
            out.extend_from_slice(&live.value);
            (millis, value_len) = (ms, len);
        }
    }
    out
}

fn ends(kind: u8, id: ActorId, start: u64, end: u64) -> Bytes {
    form(kind, &[(id, vec![(start, end)])], &[])
}

fn one(kind: u8, id: ActorId, counter: u64, key: &[u8], stamp: u64, value: &[u8]) -> Bytes {
    let live = Live { key: key.into(), stamp, value: value.into() };
    form(kind, &[(id, vec![(counter, counter)])], &[(0, counter, &live)])
}

#[derive(Clone, Default)]
struct Model {
    seen: BTreeSet<Dot>,
    live: BTreeMap<Dot, Live>,
}

impl Model {
    fn join(&mut self, other: &Self) {
        self.live.retain(|dot, _| other.live.contains_key(dot) || !other.seen.contains(dot));
        let fresh = other.live.iter().filter(|(dot, _)| !self.seen.contains(dot));
        self.live.extend(fresh.map(|(dot, live)| (*dot, live.clone())));
        self.seen.extend(&other.seen);
    }

    fn encode(&self, kind: u8) -> Bytes {
        let mut actors: Vec<Spans> = Vec::new();
        for dot in &self.seen {
            if actors.last().is_none_or(|(id, _)| *id != dot.actor) {
                actors.push((dot.actor, Vec::new()));
            }
            let spans = &mut actors.last_mut().unwrap().1;
            match spans.last_mut() {
                Some((_, end)) if *end + 1 == dot.counter => *end += 1,
                _ => spans.push((dot.counter, dot.counter)),
            }
        }
        let rank: BTreeMap<ActorId, usize> = actors.iter().enumerate().map(|(i, (id, _))| (*id, i)).collect();
        let mut rows: Vec<_> =
            self.live.iter().map(|(dot, live)| (rank[&dot.actor], dot.counter, live)).collect();
        rows.sort_by_key(|(actor, counter, live)| (&live.key, *actor, *counter));
        form(kind, &actors, &rows)
    }

    fn of_key(&self, key: &[u8]) -> BTreeSet<Dot> {
        self.live.iter().filter(|(_, live)| live.key == key).map(|(dot, _)| *dot).collect()
    }

    fn reads(&self) -> BTreeMap<Bytes, Bytes> {
        let mut winners: BTreeMap<&Bytes, (u64, Dot, &Bytes)> = BTreeMap::new();
        for (dot, live) in &self.live {
            let write = (live.stamp, *dot, &live.value);
            let winner = winners.entry(&live.key).or_insert(write);
            *winner = (*winner).max(write);
        }
        winners.into_iter().map(|(key, (_, _, value))| (key.clone(), value.clone())).collect()
    }
}

/// What a dot writes depends on its name, so that no two replicas disagree about it, whoever makes it up.
fn written<S: Subject>(dot: Dot, keys: u64) -> Live {
    let name = dot.actor.as_bytes()[0];
    let mut dice = Dice(dot.counter.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(name) << 32 | 1);
    dice.roll(2);
    let number = dice.roll(keys);
    let key = match number % 5 {
        0 => number.to_be_bytes().to_vec(),
        1 => format!("task/{number:04}").into_bytes(),
        2 => [&[b'p'; 300][..], &number.to_be_bytes()].concat(),
        3 => vec![b'z'; number as usize % 60],
        _ => vec![0xff; number as usize % 9],
    };
    if !S::HAS_VALUES {
        return Live { key, stamp: 0, value: Vec::new() };
    }
    let stamp = [0, u64::MAX, 7 << 16, dice.roll(3) << 16 | 5, dice.roll(1 << 50)][dice.roll(5) as usize];
    Live { key, stamp, value: vec![name; [0, 1, 16, 38, 200][dice.roll(5) as usize]] }
}

fn arbitrary_forms_join_as_the_model_says<S: Subject>(kind: u8, seeds: core::ops::Range<u64>) {
    for seed in seeds {
        let mut dice = Dice(seed * 7_919 + 1);
        let names = [&b"m"[..], b"a", b"zz", b"k", b"b", b"x"].map(|name| ActorId::new(name).unwrap());
        // Few keys: long chains of siblings. Many keys: forms of many blocks.
        let keys = [2, 12, 400, 3_000][dice.roll(4) as usize];
        let reach = [40, 600, 3_000][dice.roll(3) as usize];
        let (mut subject, mut model) = (S::new(seed), Model::default());
        let mut past: Vec<(Cursor, S)> = Vec::new();
        for _ in 0..14 {
            let mut delta = Model::default();
            match dice.roll(8) {
                0..5 => {
                    for _ in 0..=dice.roll(6) {
                        let id = names[dice.roll(6) as usize];
                        let start = 1 + dice.roll(reach);
                        let end = start + [0, dice.roll(4), dice.roll(reach)][dice.roll(3) as usize];
                        let listed = dice.roll(5);
                        for counter in start..=end {
                            let dot = Dot { actor: id, counter };
                            if delta.seen.insert(dot) && dice.roll(4) < listed {
                                delta.live.insert(dot, written::<S>(dot, keys));
                            }
                        }
                    }
                }
                5 => {
                    let own = model.seen.iter().filter(|dot| dot.actor == names[0]);
                    let counter = 1 + own.map(|dot| dot.counter).max().unwrap_or(0);
                    let dot = Dot { actor: names[0], counter };
                    let live = written::<S>(dot, keys);
                    delta.seen = model.of_key(&live.key);
                    delta.seen.insert(dot);
                    let bytes = subject.add(names[0], &live.key, &live.value, Hlc::from_bits(live.stamp));
                    delta.live.insert(dot, live);
                    assert_eq!(bytes, delta.encode(kind), "a local write names what it ends, seed {seed}");
                }
                6 => {
                    let key = written::<S>(Dot { actor: names[0], counter: 1 + dice.roll(reach) }, keys).key;
                    delta.seen = model.of_key(&key);
                    assert_eq!(subject.remove(&key), delta.encode(kind), "seed {seed}");
                }
                _ => (subject, past) = (S::decode(&subject.encode()).unwrap(), Vec::new()),
            }
            let (before, bytes) = (model.clone(), delta.encode(kind));
            model.join(&delta);
            if subject.encode() != model.encode(kind) {
                let (changed, changes) = subject.merge_watched(&bytes);
                let reported: BTreeSet<Change> = changes.iter().cloned().collect();
                assert!(changed && reported.len() == changes.len(), "each once, seed {seed}");
                assert_eq!(reported, difference(&before.reads(), &model.reads()), "seed {seed}");
            }
            let encoded = subject.encode();
            assert_eq!(encoded, model.encode(kind), "seed {seed}");
            assert!(!subject.merge(&bytes).unwrap() && !subject.merge(&encoded).unwrap(), "seed {seed}");
            let reads = model.reads();
            if dice.roll(3) > 0 {
                assert_eq!(subject.entries(), reads.clone().into_iter().collect::<Vec<_>>(), "seed {seed}");
            }
            assert_eq!((subject.len(), subject.live_dots()), (reads.len(), model.live.len()), "seed {seed}");
            past.push((subject.cursor(), subject.clone()));
            let (cursor, then) = &past[dice.roll(past.len() as u64) as usize];
            let mut then = then.clone();
            then.merge(&subject.delta_since(*cursor)).unwrap();
            assert_eq!(then.encode(), encoded, "who was there at the cursor is here now, seed {seed}");
        }
    }
}

#[test]
fn maps_and_sets_join_arbitrary_canonical_forms_as_the_model_says() {
    arbitrary_forms_join_as_the_model_says::<LwwMap>(MAP, 0..250);
    arbitrary_forms_join_as_the_model_says::<OrSet>(SET, 1_000..1_250);
}

#[test]
fn what_is_refused_changes_nothing_and_what_is_accepted_is_canonical() {
    let (mut dice, mut model) = (Dice(11), Model::default());
    for counter in (1..300).chain(5_000_000..5_000_020) {
        let dot = Dot { actor: actor(counter % 3), counter };
        model.seen.insert(dot);
        (counter % 4 > 0).then(|| model.live.insert(dot, written::<LwwMap>(dot, 100)));
    }
    let bytes = model.encode(MAP);
    let mut state = LwwMap::decode(&one(MAP, actor(3), 9, b"task/0006", 1, b"here")).unwrap();
    state.set(actor(4), b"other", b"too", at(1)).unwrap();
    let (before, cursor) = (state.encode(), state.cursor());
    for _ in 0..30_000 {
        let mut changed = bytes.clone();
        let place = dice.roll(bytes.len() as u64) as usize;
        match dice.roll(4) {
            0 => changed.truncate(place),
            1 => changed.push(dice.roll(256) as u8),
            2 => drop(changed.remove(place)),
            _ => changed[place] ^= 1 << dice.roll(8),
        }
        let delta = MapDelta::decode(&changed).map(MapDelta::into_bytes);
        assert_eq!(LwwMap::decode(&changed).map(|map| map.encode()), delta);
        if let Err(error) = delta {
            assert_eq!(state.merge_encoded_with(&changed, |_| panic!("reported")), Err(error));
            assert!(state.cursor() == cursor && state.encode() == before);
        } else {
            assert_eq!(delta, Ok(changed));
        }
    }
}

#[test]
fn a_dot_store_on_its_own_equals_a_naive_model() {
    for seed in 0..60 {
        let (mut dice, mut store, mut model) = (Dice(seed + 99), DotStore::new(seed), Model::default());
        let reach = [6, 60, 900][dice.roll(3) as usize];
        for _ in 0..400 {
            let dot = Dot { actor: actor(dice.roll(3)), counter: dice.roll(reach) };
            if dice.roll(5) < 3 {
                let live = written::<LwwMap>(dot, 1 + reach / 3);
                let new = dot.counter > 0 && !model.live.contains_key(&dot);
                assert_eq!(store.insert(&live.key, &live.value, dot, Hlc::from_bits(live.stamp)), new);
                new.then(|| model.live.insert(dot, live));
            } else {
                assert_eq!(store.remove(&dot), model.live.remove(&dot).is_some());
            }
            assert_eq!(store.contains(&dot), model.live.contains_key(&dot));
            if dice.roll(20) == 0 {
                let reads = store.iter().map(|e| (e.key.to_vec(), e.value.to_vec()));
                assert_eq!(reads.collect::<Vec<_>>(), model.reads().into_iter().collect::<Vec<_>>());
                for entry in store.iter() {
                    let dots = store.dots(entry.key).iter().map(|entry| entry.dot).collect();
                    assert_eq!((model.of_key(entry.key), store.get(entry.key)), (dots, Some(entry)));
                }
            }
        }
        assert_eq!(store.stats().dots, model.live.len());
    }
}

#[test]
fn a_dot_store_refuses_or_keeps_a_key_beyond_any_limit() {
    let (mut store, long) = (DotStore::new(0), vec![b'k'; 70_000]);
    let dot = Dot { actor: actor(1), counter: 1 };
    let inserted = store.insert(&long, b"v", dot, Hlc::ZERO);
    assert_eq!(store.get(&long).map(|entry| entry.value), inserted.then_some(&b"v"[..]));
    assert!(store.iter().all(|entry| entry.key == long));
    assert_eq!(store.remove(&dot), inserted);
}

#[test]
fn a_delta_with_a_bare_version_vector_cannot_erase_the_peers_elements() {
    let (mut here, mut there) = (OrSet::new(), OrSet::new());
    there.merge(&here.insert(actor(1), b"one").unwrap());
    here.insert(actor(1), b"two").unwrap();
    let last = here.insert(actor(1), b"three").unwrap();
    let context = OrSet::decode(last.as_bytes()).unwrap().context();
    assert_eq!((context.vector(), context.cloud_len()), (VersionVector::new(), 1));
    there.merge(&last);
    assert_eq!(there.iter().collect::<Vec<_>>(), [&b"one"[..], b"three"]);
    there.merge_state(&here);
    assert!(there == here && there.len() == 3);
}

#[test]
fn ops_of_one_actor_out_of_order_lose_none() {
    let (mut author, mut dice) = (LwwMap::new(), Dice(3));
    let set = |key: &u8| author.set(actor(1), &[*key], b"v", at(5)).unwrap();
    let deltas: Vec<MapDelta> = b"abacba".iter().map(set).collect();
    for _ in 0..500 {
        let (mut left, mut reader) = (deltas.clone(), LwwMap::new());
        while !left.is_empty() {
            reader.merge(&left.swap_remove(dice.roll(left.len() as u64) as usize));
        }
        assert!(reader == author && reader.context().cloud_len() == 0);
    }
}

#[test]
fn removing_a_dot_twice_is_harmless() {
    let (mut here, mut there, mut store) = (OrSet::new(), OrSet::new(), DotStore::new(0));
    there.merge(&here.insert(actor(1), b"x").unwrap());
    let (ours, theirs) = (here.remove(b"x"), there.remove(b"x"));
    assert!(!here.merge(&theirs) && !there.merge(&ours) && !there.merge(&ours));
    assert!(here.remove(b"x").is_empty() && here.is_empty() && here == there);
    here.insert(actor(1), b"x").unwrap();
    assert!(!here.merge(&theirs) && here.contains(b"x"));
    let dot = Dot { actor: actor(1), counter: 1 };
    assert!(store.insert(b"x", b"", dot, Hlc::ZERO) && store.remove(&dot) && !store.remove(&dot));
    assert!(store.insert(b"y", b"", dot, Hlc::ZERO) && store.get(b"x").is_none() && store.remove(&dot));
}

#[test]
fn re_adding_after_removal_survives_the_late_old_delta() {
    let (mut here, mut there) = (LwwMap::new(), LwwMap::new());
    let old = here.set(actor(1), b"k", b"old", at(9_000)).unwrap();
    let removal = here.remove(b"k");
    let new = here.set(actor(1), b"k", b"new", at(1)).unwrap();
    for delta in [&new, &removal, &old, &new, &old, &removal] {
        there.merge(delta);
        assert_eq!(there.get(b"k"), Some(&b"new"[..]));
    }
    assert_eq!(there, here);
}

#[test]
fn a_write_that_saw_another_beats_it_though_that_clock_is_ten_years_ahead() {
    let (now, ten_years) = (1_700_000_000_000, 10 * 31_557_600_000);
    let (mut fast, mut slow) = (LwwMap::new(), LwwMap::new());
    let ahead = fast.set(actor(9), b"k", b"future", at(now + ten_years)).unwrap();
    slow.merge(&ahead);
    fast.merge(&slow.set(actor(1), b"k", b"present", at(now)).unwrap());
    slow.merge(&ahead);
    assert!(fast == slow && fast.get(b"k") == Some(b"present") && fast.conflicts(b"k").len() == 1);
}

#[test]
fn adding_and_removing_1000_elements_100_times_leaves_20_bytes() {
    let (mut set, mut map, mut peer) = (OrSet::new(), LwwMap::new(), OrSet::new());
    for round in 0..100 {
        let cursor = set.cursor();
        for i in 0..1_000_u32 {
            set.insert(actor(1), &i.to_be_bytes()).unwrap();
            map.set(actor(1), &i.to_be_bytes(), b"a value of its own", at(round)).unwrap();
        }
        for i in 0..1_000_u32 {
            set.remove(&i.to_be_bytes());
            map.remove(&i.to_be_bytes());
        }
        peer.merge(&set.delta_since(cursor));
    }
    assert!(set == peer && set.encode().len() <= 20 && map.encode().len() <= 20);
    assert!(set.stats().bytes.max(map.stats().bytes) < 1 << 20, "{:?}", map.stats());
}

#[test]
fn u64_max_stamps_order_and_encode() {
    let (mut map, stamps) = (LwwMap::new(), [u64::MAX, u64::MAX - 1, u64::MAX << 16, 1, 0]);
    for (i, stamp) in [4_u8, 3, 2, 1, 0].map(|i| (i, stamps[usize::from(i)])) {
        map.merge_encoded(&one(MAP, actor(u64::from(i)), 1, b"k", stamp, &[i])).unwrap();
        assert_eq!(map.get(b"k"), Some(&[i][..]));
        map.set(actor(100), &[i], b"alone", Hlc::from_bits(stamp)).unwrap();
    }
    assert!(map.conflicts(b"k").iter().map(|entry| entry.stamp.to_bits()).eq(stamps));
    assert_eq!(LwwMap::decode(&map.encode()).unwrap(), map);
}

#[test]
fn an_actor_whose_counter_a_peer_used_up_is_refused_and_nothing_changes() {
    let mut map = LwwMap::new();
    map.set(actor(1), b"k", b"v", at(1)).unwrap();
    map.merge_encoded(&ends(MAP, actor(1), COUNTER_MAX, COUNTER_MAX)).unwrap();
    let (before, cursor) = (map.encode(), map.cursor());
    assert_eq!(map.set(actor(1), b"k", b"w", at(2)), Err(WriteError::Exhausted));
    assert_eq!((map.encode(), map.cursor()), (before, cursor));
    map.set(actor(2), b"k", b"w", at(0)).unwrap();
    assert_eq!(map.get(b"k"), Some(&b"w"[..]));
}

#[test]
fn nobody_has_seen_a_dot_with_counter_0() {
    let none = Dot { actor: actor(1), counter: 0 };
    assert!(!CausalContext::new().insert(none) && !VersionVector::new().contains(&none));
}

#[test]
fn one_dot_under_two_keys_is_live_once_and_ends_for_all() {
    let mut a = LwwMap::decode(&one(MAP, actor(1), 1, b"k1", 5, b"one")).unwrap();
    let mut b = LwwMap::decode(&one(MAP, actor(1), 1, b"k2", 5, b"two")).unwrap();
    a.merge_state(&b);
    b.merge_state(&a);
    assert!([&a, &b].iter().all(|map| map.len() == 1 && LwwMap::decode(&map.encode()).as_ref() == Ok(map)));
    b.merge(&a.remove(b"k1"));
    assert!(a == b && a.is_empty());
}

#[test]
fn a_huge_span_costs_a_peer_that_was_away_nothing() {
    let mut map = LwwMap::new();
    (0..2_000_u32).for_each(|i| drop(map.set(actor(1), &i.to_be_bytes(), b"v", at(1)).unwrap()));
    let (cursor, mut peer) = (map.cursor(), map.clone());
    for i in 0..20 {
        map.merge_encoded(&ends(MAP, actor(50 + i), 1, COUNTER_MAX)).unwrap();
    }
    map.set(actor(1), b"k", b"v", at(1)).unwrap();
    let delta = map.delta_since(cursor);
    peer.merge(&delta);
    assert_eq!(peer, map);
    assert!(delta.as_bytes().len() < 1_000, "{delta:?} instead of what changed");
    assert!(map.delta_since(map.cursor()).is_empty(), "nothing has changed since now");
}

#[test]
fn serde_gives_back_what_it_took_and_believes_no_length() {
    fn check<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
        let bytes = postcard::to_allocvec(value).unwrap();
        assert_eq!(postcard::from_bytes::<T>(&bytes).as_ref(), Ok(value));
        assert_eq!(serde_json::from_str::<T>(&serde_json::to_string(value).unwrap()).unwrap(), *value);
        (0..bytes.len()).for_each(|cut| assert!(postcard::from_bytes::<T>(&bytes[..cut]).is_err()));
        for bad in ["[17]", "[]", "[256]", "\"\"", "null", "{}", "[17,0,0,0]"] {
            assert!(serde_json::from_str::<T>(bad).is_err(), "{bad}");
        }
        assert!(postcard::from_bytes::<T>(&[&[0xff; 9][..], &[1, MAP]].concat()).is_err());
    }
    let (mut map, mut set) = (LwwMap::new(), OrSet::new());
    check(&map.set(actor(1), b"k", &[7; 300], at(3)).unwrap());
    check(&set.insert(actor(1), b"k").unwrap());
    map.merge_encoded(&ends(MAP, actor(9), 5, COUNTER_MAX)).unwrap();
    check(&map);
    check(&set);
    check(&map.context());
}

#[test]
fn contributors_before_many_others_are_taken_in_without_moving_them_each_time() {
    let coupled = |names: core::ops::Range<u64>| {
        let mut coupling = Coupling::new(CouplingSchema::with_half_life(1_000).unwrap());
        names.for_each(|i| drop(coupling.strengthen(actor(i), b"k", Units::ONE, Timestamp::EPOCH).unwrap()));
        coupling
    };
    let mut coupling = coupled(100_000..200_000);
    let delta = coupled(0..6_000).encode();
    within(400, || coupling.merge_encoded(&delta).unwrap());
}

fn keys_of_one_author(count: u64) -> LwwMap {
    let mut map = LwwMap::new();
    (0..count)
        .for_each(|i| drop(map.set(actor(1), format!("key/{i:08}").as_bytes(), &[7; 16], at(1)).unwrap()));
    map
}

#[test]
fn a_few_bytes_that_name_many_dead_dots_cost_a_large_map_little() {
    let mut map = keys_of_one_author(100_000);
    for end in [50_000, 100_000, COUNTER_MAX] {
        let delta = ends(MAP, actor(7), 1, end);
        map.merge_encoded(&delta).unwrap();
        within(60, || (0..100).for_each(|_| assert!(!map.merge_encoded(&delta).unwrap())));
    }
}

#[test]
fn a_delta_of_five_actors_does_not_pay_for_all_that_are_known() {
    let actors: Vec<Spans> = (0..400_000).map(|i| (actor(i), vec![(1, 1)])).collect();
    let mut map = LwwMap::decode(&form(MAP, &actors, &[])).unwrap();
    let delta = form(MAP, &actors[..5], &[]);
    within(100, || (0..2_000).for_each(|_| assert!(!map.merge_encoded(&delta).unwrap())));
}

#[test]
fn twenty_thousand_concurrent_dots_of_one_key_come_and_go_one_by_one() {
    let mut map = LwwMap::new();
    let mut merge = |delta: &[u8]| assert!(map.merge_encoded(delta).unwrap());
    within(500, || (0..20_000).for_each(|i| merge(&one(MAP, actor(i), 1, b"k", i, b"v"))));
    within(500, || (0..5_000).for_each(|i| merge(&ends(MAP, actor(i), 1, 1))));
    assert_eq!(map.conflicts(b"k").len(), 15_000);
}

#[test]
fn keys_chosen_to_collide_do_not_collide_under_a_seed() {
    // Makes one factor of a product zero where the seed does not reach it: foldhash's second fixed seed.
    let zero = 0x3f84_d5b5_b547_0917_u64.to_le_bytes();
    let mut set = OrSet::with_seed(0x1234_5678_9abc_def0);
    let mut insert = |i: u64| drop(set.insert(actor(1), &[i.to_be_bytes(), zero].concat()).unwrap());
    within(500, || (0..20_000).for_each(&mut insert));
}

#[test]
fn prefix_reads_between_no_writes_pay_for_the_order_once() {
    let map = keys_of_one_author(100_000);
    let read = |i: u32| map.prefix(format!("key/00{i:04}").as_bytes()).count();
    within(300, || assert_eq!((0..500).map(read).sum::<usize>(), 50_000));
}

#[test]
fn a_queue_is_emptied_from_the_front_in_linear_time() {
    let mut queue = OrSet::new();
    (0..100_000_u64).for_each(|i| drop(queue.insert(actor(1), &i.to_be_bytes()).unwrap()));
    let mut pop = |i: u64| {
        assert_eq!(queue.iter().next(), Some(&i.to_be_bytes()[..]));
        queue.remove(&i.to_be_bytes());
    };
    within(800, || (0..45_000).for_each(&mut pop));
}

#[test]
fn a_removed_value_gives_its_memory_back() {
    let mut map = LwwMap::new();
    for _ in 0..500 {
        map.set(actor(1), b"k", &[1; 60_000], at(1)).unwrap();
        map.remove(b"k");
    }
    assert!(map.stats().bytes < 1 << 20, "{:?}", map.stats());
}

#[test]
fn a_dot_store_takes_many_inserts_before_the_first_removal() {
    let mut store = DotStore::new(0);
    let dot = |counter| Dot { actor: actor(1), counter };
    let mut insert = |i: u64| assert!(store.insert(&i.to_be_bytes(), b"", dot(i), Hlc::ZERO));
    within(500, || (1..=40_000).for_each(&mut insert));
}
