//! Golden bytes of everything that has a byte form, and bytes that must be refused, each with its reason.
//! `docs/wire/collections.md` says why they are what they are.
//!
//! **A change to a file in `tests/vectors/` is a change of the format.** Replicas in the field exchange these bytes
//! and hold them in storage. Vectors may be added; a vector that has to change is another kind byte.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::std_instead_of_alloc, reason = "tests have all of std")]

use std::collections::BTreeSet;

use consilience_crdts::coupling::{Coupling, CouplingDelta, CouplingSchema, Units};
use consilience_crdts::{
    ActorId, COUNTER_MAX, CausalContext, DecodeError, Dot, Hlc, KEY_BYTES_MAX, LwwMap, MapDelta, OrSet,
    SetDelta, Timestamp, VALUE_BYTES_MAX,
};
use consilience_test_support::vectors::{Vector, bits, compare, hex, parse};

const MAPS: &str = include_str!("vectors/map.txt");
const SETS: &str = include_str!("vectors/set.txt");
const CONTEXTS: &str = include_str!("vectors/context.txt");
const COUPLINGS: &str = include_str!("vectors/coupling.txt");
const MALFORMED: &str = include_str!("vectors/malformed.txt");
const WIRE: &str = include_str!("../../docs/wire/collections.md");

/// A moment in 2023, in milliseconds.
const T: u64 = 1_700_000_000_000;

/// A file, and why its decoder refuses some bytes.
type Refusing = (&'static str, fn(&[u8]) -> Option<DecodeError>);
type Built = Vec<(&'static str, Vec<u8>)>;

fn ada() -> ActorId {
    ActorId::new(b"ada").unwrap()
}

fn bob() -> ActorId {
    ActorId::new(b"bob").unwrap()
}

fn at(millis: u64) -> Hlc {
    Hlc::new(Timestamp::from_millis(millis), 0)
}

fn maps() -> Built {
    let mut built: Built = vec![("empty", LwwMap::new().encode())];
    assert_eq!(LwwMap::new().remove(b"absent").into_bytes(), LwwMap::new().encode());

    let mut map = LwwMap::new();
    let first = map.set(ada(), b"task/1", b"draft", at(T)).unwrap();
    assert_eq!(map.encode(), first.as_bytes(), "the state that has seen one delta is that delta");
    built.push(("one_write", first.encode()));
    let mut other = map.clone();
    built.push(("overwrite_delta", map.set(ada(), b"task/1", b"final", at(T + 1_000)).unwrap().encode()));
    built.push(("overwritten_state", map.encode()));
    built.push(("removal_delta", map.remove(b"task/1").encode()));
    built.push(("removed_state", map.encode()));

    // Bob has seen the draft, but neither what Ada wrote over it nor that she removed it.
    other.set(bob(), b"task/1", b"theirs", at(T + 500)).unwrap();
    let mut conflict = LwwMap::new();
    conflict.merge(&first);
    conflict.set(ada(), b"task/1", b"ours", at(T + 400)).unwrap();
    conflict.merge_state(&other);
    assert_eq!(conflict.conflicts(b"task/1").len(), 2);
    built.push(("conflict_state", conflict.encode()));
    built.push(("resolution_delta", conflict.set(ada(), b"task/1", b"both", at(T)).unwrap().encode()));

    built.push(("worked_example", worked_example().encode()));

    let mut map = LwwMap::new();
    let key = [b"path/".to_vec(), vec![b'a'; 300]].concat();
    map.set(ada(), &key, &[b'v'; 1_000], at(T)).unwrap();
    map.set(ada(), &[key, b"/b".to_vec()].concat(), &[b'w'; 1_000], at(T)).unwrap();
    built.push(("long_keys_and_values", map.encode()));

    // All limits at once. A state that has seen all counters but the last is made from its bytes.
    let actor = ActorId::from([0xff; 32]);
    let seen = [&[0x11, 1, 32][..], &[0xff; 32], &[1, 1, 0xfc], &[0xff; 7], &[0x0f, 0]].concat();
    let mut map = LwwMap::decode(&seen).unwrap();
    map.set(actor, &[b'k'; KEY_BYTES_MAX], &vec![b'v'; VALUE_BYTES_MAX], Hlc::MAX).unwrap();
    assert!(map.set(actor, b"k", b"v", Hlc::MAX).is_err(), "the last counter is used up");
    assert!(map.context().contains(&Dot { actor, counter: COUNTER_MAX }));
    built.push(("all_limits", map.encode()));

    let mut map = LwwMap::new();
    for (key, stamp, value) in [
        (b"a", at(T), &b"one"[..]),
        (b"b", Hlc::new(Timestamp::from_millis(T), 1), b"two"),
        (b"c", at(T - 1), b""),
        (b"d", Hlc::MAX, b""),
        (b"e", Hlc::ZERO, b"x"),
        (b"f", Hlc::new(Timestamp::EPOCH, 300), b"y"),
        (b"g", at(T), &[b'z'; 200]),
    ] {
        map.set(ada(), key, value, stamp).unwrap();
    }
    built.push(("stamps_and_lengths", map.encode()));

    let mut map = LwwMap::new();
    for key in [&b""[..], &[b'a'; 14], &[b'b'; 15], &[b'c'; 16], b"d", b"dd", &[b'd'; 17]] {
        map.set(ada(), key, b"", Hlc::ZERO).unwrap();
    }
    built.push(("key_lengths", map.encode()));

    // Neither keys nor authors in the order of the writes.
    let mut map = LwwMap::new();
    for (actor, key) in [(bob(), b"z"), (ada(), b"x"), (bob(), b"x"), (bob(), b"y"), (ada(), b"w")] {
        map.set(actor, key, b"", at(1)).unwrap();
    }
    built.push(("dots_out_of_order", map.encode()));
    built
}

/// The state that `docs/wire/collections.md` takes apart.
fn worked_example() -> LwwMap {
    let (mut ada_s, mut bob_s) = (LwwMap::new(), LwwMap::new());
    bob_s.merge(&ada_s.set(ada(), b"task/1", b"draft", at(T)).unwrap());
    ada_s.set(ada(), b"task/1", b"ready", at(T + 100)).unwrap();
    let concurrent = bob_s.set(bob(), b"task/1", b"done", at(T + 40)).unwrap();
    let _lost = bob_s.set(bob(), b"later", b"?", at(T + 50)).unwrap();
    let last = bob_s.set(bob(), b"task/2", b"open", Hlc::new(Timestamp::from_millis(T + 50), 1)).unwrap();
    ada_s.merge(&concurrent);
    ada_s.merge(&last);
    ada_s
}

fn sets() -> Built {
    let mut built: Built = vec![("empty", OrSet::new().encode())];
    let mut set = OrSet::new();
    built.push(("one_insertion", set.insert(ada(), b"agent/7").unwrap().encode()));
    let mut other = set.clone();
    set.insert(ada(), b"agent/8").unwrap();
    set.insert(ada(), b"bot").unwrap();
    built.push(("three_elements", set.encode()));
    built.push(("insertion_again_delta", set.insert(ada(), b"agent/7").unwrap().encode()));
    other.insert(bob(), b"agent/7").unwrap();
    set.merge_state(&other);
    built.push(("conflict_state", set.encode()));
    built.push(("removal_delta", set.remove(b"agent/7").encode()));
    built.push(("removed_state", set.encode()));

    let mut set = OrSet::new();
    for _ in 0..100 {
        for element in 0..1_000_u32 {
            set.insert(ada(), &element.to_be_bytes()).unwrap();
        }
        for element in 0..1_000_u32 {
            set.remove(&element.to_be_bytes());
        }
    }
    built.push(("all_removed", set.encode()));
    built.push(("sharing_ends", sharing_ends().encode()));
    built
}

/// So many long elements that one of them has to stand whole.
fn sharing_ends() -> OrSet {
    let mut set = OrSet::new();
    for last in 0..72 {
        set.insert(ActorId::new(b"a").unwrap(), &[&[b'k'; 4_000][..], &[last]].concat()).unwrap();
    }
    set
}

fn context(dots: &[(&[u8], u64)]) -> Vec<u8> {
    let mut context = CausalContext::new();
    for (name, counter) in dots {
        context.insert(Dot { actor: ActorId::new(name).unwrap(), counter: *counter });
    }
    context.encode()
}

fn contexts() -> Built {
    vec![
        ("empty", context(&[])),
        ("one_dot", context(&[(b"ada", 1)])),
        ("without_gaps", context(&[(b"ada", 1), (b"ada", 2), (b"ada", 3), (b"bob", 1), (b"bob", 2)])),
        ("with_gaps", context(&[2, 3, 4, 6, 8, 9, 300].map(|counter| (&b"ada"[..], counter)))),
        ("actors_in_order", context(&[&b"b"[..], b"a\0", b"a", b"ab", &[0xff; 32]].map(|name| (name, 1)))),
        ("greatest_counter", context(&[(b"ada", COUNTER_MAX)])),
    ]
}

fn week() -> CouplingSchema {
    CouplingSchema::with_half_life(7 * 86_400_000).unwrap()
}

fn couplings() -> Built {
    let now = Timestamp::from_millis(T);
    let later = now.saturating_add_millis(3 * 86_400_000);
    let mut state = Coupling::new(week());
    let mut built: Built = vec![("schema", week().encode()), ("empty", state.encode())];
    built.push((
        "strengthen_delta",
        state.strengthen(ada(), b"src/lib.rs", Units::new(3), now).unwrap().encode(),
    ));
    state.strengthen(bob(), b"src/lib.rs", Units::new(5), later).unwrap();
    built.push(("weaken_delta", state.weaken(ada(), b"src/lib.rs", Units::new(1), later).unwrap().encode()));
    state.strengthen(bob(), b"src/main.rs", Units::new(1), now).unwrap();
    built.push(("reset_delta", state.reset(bob(), b"src/main.rs", later).unwrap().encode()));
    state.strengthen(ActorId::new(b"cyd").unwrap(), b"src", Units::new(2), later).unwrap();
    built.push(("state", state.encode()));

    let schema = CouplingSchema::new(1_000, CouplingSchema::FLOOR_MIN, Units::new(16)).unwrap();
    let mut state = Coupling::new(schema);
    state.strengthen(ada(), b"", Units::ONE, Timestamp::MAX).unwrap();
    built.push(("last_instant", state.encode()));

    let mut state = Coupling::new(schema);
    for last in 0..76 {
        let key = [&[b'k'; 4_000][..], &[last]].concat();
        state.strengthen(ada(), &key, Units::ONE, Timestamp::EPOCH).unwrap();
    }
    built.push(("sharing_ends", state.encode()));
    built
}

#[test]
fn maps_and_their_deltas_have_the_golden_bytes() {
    compare(MAPS, maps());
}

#[test]
fn sets_and_their_deltas_have_the_golden_bytes() {
    compare(SETS, sets());
}

#[test]
fn contexts_have_the_golden_bytes() {
    compare(CONTEXTS, contexts());
}

#[test]
fn couplings_and_their_deltas_have_the_golden_bytes() {
    compare(COUPLINGS, couplings());
}

#[test]
fn golden_bytes_decode_and_encode_to_themselves() {
    for Vector { name, bytes } in parse(MAPS) {
        assert_eq!(LwwMap::decode(&bytes).map(|map| map.encode()).as_ref(), Ok(&bytes), "{name}");
        assert_eq!(MapDelta::decode(&bytes).map(MapDelta::into_bytes).as_ref(), Ok(&bytes), "{name}");
    }
    for Vector { name, bytes } in parse(SETS) {
        assert_eq!(OrSet::decode(&bytes).map(|set| set.encode()).as_ref(), Ok(&bytes), "{name}");
        assert_eq!(SetDelta::decode(&bytes).map(SetDelta::into_bytes).as_ref(), Ok(&bytes), "{name}");
    }
    for Vector { name, bytes } in parse(CONTEXTS) {
        assert_eq!(CausalContext::decode(&bytes).map(|set| set.encode()).as_ref(), Ok(&bytes), "{name}");
    }
    for Vector { name, bytes } in parse(COUPLINGS) {
        if name == "schema" {
            let schema = CouplingSchema::decode(&bytes);
            assert_eq!(schema.map(|schema| schema.encode()).as_ref(), Ok(&bytes));
            continue;
        }
        assert_eq!(Coupling::decode(&bytes).map(|state| state.encode()).as_ref(), Ok(&bytes), "{name}");
        assert_eq!(
            CouplingDelta::decode(&bytes).map(CouplingDelta::into_bytes).as_ref(),
            Ok(&bytes),
            "{name}"
        );
    }
}

/// Golden bytes cut anywhere are refused, and so are golden bytes with one more behind them.
#[test]
fn cut_and_prolonged_golden_bytes_are_refused() {
    let kinds: [Refusing; 4] = [
        (MAPS, |bytes| LwwMap::decode(bytes).err()),
        (SETS, |bytes| OrSet::decode(bytes).err()),
        (CONTEXTS, |bytes| CausalContext::decode(bytes).err()),
        (COUPLINGS, |bytes| Coupling::decode(bytes).err()),
    ];
    for (file, refused) in kinds {
        for Vector { name, bytes } in parse(file).into_iter().filter(|vector| vector.name != "schema") {
            // The longest forms are runs of one byte: a sample of cuts is enough.
            for cut in (0..bytes.len()).step_by(1 + bytes.len() / 1_000) {
                assert!(refused(&bytes[..cut]).is_some(), "{name} cut at {cut}");
            }
            let long = [&bytes[..], &[0]].concat();
            assert_eq!(refused(&long), Some(DecodeError::Trailing), "{name}");
        }
    }
}

/// The form that bytes have once they were decoded, as a state and as a delta; none if they are refused, and then nothing
/// that is there has changed.
type Form = fn(&[u8]) -> Option<Vec<u8>>;

macro_rules! form {
    ($state:ty, $delta:ty, $held:expr) => {
        |bytes| {
            let delta = <$delta>::decode(bytes).map(<$delta>::into_bytes);
            let Ok(state) = <$state>::decode(bytes) else {
                assert!(delta.is_err(), "a delta and a state have the same forms");
                let held: $state = $held;
                let mut after = held.clone();
                assert!(after.merge_encoded(bytes).is_err());
                assert!(after == held && after.cursor() == held.cursor(), "a refused input changes nothing");
                return None;
            };
            assert_eq!(delta.as_deref(), Ok(bytes));
            Some(state.encode())
        }
    };
}

fn held_map() -> LwwMap {
    let mut map = LwwMap::new();
    map.set(ada(), b"task/1", b"held", at(T)).unwrap();
    map
}

fn held_set() -> OrSet {
    let mut set = OrSet::new();
    set.insert(ada(), b"agent/7").unwrap();
    set
}

fn held_coupling() -> Coupling {
    let mut state = Coupling::new(week());
    state.strengthen(ada(), b"src/lib.rs", Units::ONE, Timestamp::from_millis(T)).unwrap();
    state
}

/// Every prefix is refused; every changed bit is refused, or makes the one form of something else.
#[test]
fn golden_bytes_with_any_bit_changed_are_refused_and_change_nothing_or_have_one_form() {
    let kinds: [(&str, &str, Form); 4] = [
        ("maps", MAPS, form!(LwwMap, MapDelta, held_map())),
        ("sets", SETS, form!(OrSet, SetDelta, held_set())),
        ("contexts", CONTEXTS, |bytes| CausalContext::decode(bytes).ok().map(|context| context.encode())),
        ("couplings", COUPLINGS, form!(Coupling, CouplingDelta, held_coupling())),
    ];
    for (kind, file, form) in kinds {
        let (mut prefixes, mut changes, mut taken) = (0_u64, 0_u64, 0_u64);
        for Vector { name, bytes } in parse(file) {
            let form: Form = match name.as_str() {
                "schema" => |bytes| CouplingSchema::decode(bytes).ok().map(|schema| schema.encode()),
                _ => form,
            };
            for cut in 0..bytes.len() {
                assert_eq!(form(&bytes[..cut]), None, "{name} cut at {cut}");
                prefixes += 1;
            }
            let mut changed = bytes.clone();
            for bit in bits(&bytes) {
                changed[bit / 8] ^= 1 << (bit % 8);
                if let Some(form) = form(&changed) {
                    assert!(form == changed, "{name} with bit {bit} changed has two forms");
                    taken += 1;
                }
                changes += 1;
                changed[bit / 8] = bytes[bit / 8];
            }
        }
        println!(
            "{kind}: {prefixes} prefixes refused, {changes} bits changed, {taken} of them something else"
        );
        assert!(taken > 0 && taken < changes, "{kind}: {taken} of {changes}");
    }
}

/// The name in a vector for what a decoder said.
fn verdict<T>(result: &Result<T, DecodeError>) -> String {
    result.as_ref().err().map_or_else(|| "Ok".into(), |error| format!("{error:?}"))
}

#[test]
fn malformed_bytes_are_refused_for_the_reason_named_and_change_nothing() {
    let schema = CouplingSchema::with_half_life(1_000).unwrap();
    let (mut map, mut set, mut coupling) = (LwwMap::new(), OrSet::new(), Coupling::new(schema));
    map.set(ada(), b"k", b"v", at(T)).unwrap();
    set.insert(ada(), b"k").unwrap();
    coupling.strengthen(ada(), b"k", Units::ONE, Timestamp::from_millis(T)).unwrap();
    let mut names = BTreeSet::new();
    for Vector { name, bytes } in parse(MALFORMED) {
        assert!(names.insert(name.clone()), "{name} is there twice");
        let [collection, expected, _] = name.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{name}: not a collection, an error and a name")
        };
        let refused = expected != "Ok";
        let verdicts = match collection {
            "map" => {
                let mut merged = map.clone();
                let merge = merged.merge_encoded(&bytes);
                assert_eq!(merged == map && merged.cursor() == map.cursor(), refused, "{name}");
                vec![verdict(&LwwMap::decode(&bytes)), verdict(&MapDelta::decode(&bytes)), verdict(&merge)]
            }
            "set" => {
                let mut merged = set.clone();
                let merge = merged.merge_encoded(&bytes);
                assert_eq!(merged == set && merged.cursor() == set.cursor(), refused, "{name}");
                vec![verdict(&OrSet::decode(&bytes)), verdict(&SetDelta::decode(&bytes)), verdict(&merge)]
            }
            "context" => vec![verdict(&CausalContext::decode(&bytes))],
            "coupling" => {
                let mut merged = coupling.clone();
                let merge = merged.merge_encoded(&bytes);
                assert_eq!(merged == coupling && merged.cursor() == coupling.cursor(), refused, "{name}");
                vec![
                    verdict(&Coupling::decode(&bytes)),
                    verdict(&CouplingDelta::decode(&bytes)),
                    verdict(&merge),
                ]
            }
            // Sound by itself, and of another schema than the collection it is given to.
            "coupling_merge" => {
                let delta = CouplingDelta::decode(&bytes).unwrap();
                assert!(coupling.clone().merge(&delta).is_err());
                let mut merged = coupling.clone();
                let merge = merged.merge_encoded(&bytes);
                assert_eq!((&merged, merged.cursor()), (&coupling, coupling.cursor()), "{name}");
                vec![verdict(&merge)]
            }
            "schema" => vec![verdict(&CouplingSchema::decode(&bytes))],
            _ => panic!("{name}: no such collection"),
        };
        assert!(verdicts.iter().all(|verdict| verdict == expected), "{name}: {verdicts:?}");
    }
    for error in [
        "Truncated",
        "Varint",
        "Trailing",
        "Kind",
        "NotCanonical",
        "DuplicateDot",
        "Uncovered",
        "Limit",
        "Schema",
    ] {
        assert!(names.iter().any(|name| name.contains(error)), "no vector for {error}");
    }
}

/// The bytes in the document are those of the vector, and the vector's are those that the library writes.
#[test]
fn the_worked_example_in_the_document_is_true() {
    let example = WIRE.split("```wire\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let Some(Vector { bytes, .. }) = parse(&format!("worked_example = {example}")).pop() else {
        unreachable!()
    };
    assert_eq!(hex(&bytes), hex(&worked_example().encode()));
    let map = LwwMap::decode(&bytes).unwrap();
    assert_eq!(map.get(b"task/1"), Some(&b"ready"[..]));
    assert_eq!(map.conflicts(b"task/1").last().map(|entry| entry.value), Some(&b"done"[..]));
    assert_eq!(map.get(b"task/2"), Some(&b"open"[..]));
}

/// In other formats a collection is one byte string; in postcard that is its length and the bytes.
#[test]
fn inside_postcard_the_golden_bytes_are_a_byte_string() {
    let map = worked_example();
    let framed = postcard::to_allocvec(&map).unwrap();
    let bytes = map.encode();
    assert_eq!(framed, [&[u8::try_from(bytes.len()).unwrap()], &bytes[..]].concat());
    assert_eq!(postcard::from_bytes::<LwwMap>(&framed).unwrap(), map);
    assert_eq!(postcard::from_bytes::<MapDelta>(&framed).unwrap().as_bytes(), bytes);
    // What a collection's decoder refuses is refused there too.
    let mut changed = framed;
    changed[1] = 0x12;
    assert!(postcard::from_bytes::<LwwMap>(&changed).is_err());
}
