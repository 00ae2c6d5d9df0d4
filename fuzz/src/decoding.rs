//! Any bytes as a map, a set or a delta of one. The bytes are refused and nothing changes, or they are the one form
//! of what they mean, and merging them is a join.
//!
//! Bytes may name a dot that is live elsewhere for another write, which no honest writer does. Joins of such bytes
//! are still idempotent, but what comes first wins: so nothing here expects them to commute with other writes.

use std::collections::BTreeSet;

use consilience_crdts::{ActorId, CausalContext, Hlc, Timestamp};

use crate::collection::{Change, Collection};

/// Names that a fuzzer finds.
pub fn actor(name: u8) -> ActorId {
    ActorId::new(&[b'a' + name]).unwrap()
}

/// A collection with what a form can meet: keys that share prefixes, removed and overwritten keys, conflicts, and
/// a gap in what was seen.
pub fn populated<C: Collection>() -> C {
    let at = |millis| Hlc::new(Timestamp::from_millis(millis), 0);
    let (mut here, mut there) = (C::new(), C::new());
    for number in 0..24_u8 {
        let key = [b'k', number / 8, number % 8];
        here.write(actor(0), &key[..usize::from(number % 3) + 1], &[number], at(u64::from(number))).unwrap();
    }
    there.merge(&here.encode()).unwrap();
    here.write(actor(0), b"", b"", at(7)).unwrap();
    here.write(actor(0), b"k", b"left", at(9)).unwrap();
    let lost = there.write(actor(1), b"lost", b"?", at(1)).unwrap();
    let there_first = there.write(actor(1), b"k", b"right", at(9)).unwrap();
    here.remove(b"k\x01");
    here.merge(&there_first).unwrap();
    assert!(!lost.is_empty() && here.writes(b"k").len() == 2);
    here
}

/// Checks `bytes` alone, and against `populated`.
pub fn check<C: Collection>(populated: &C, bytes: &[u8]) {
    let before = populated.encode();
    let mut merged = populated.clone();
    let decoded = match C::decode(bytes) {
        Ok(decoded) => decoded,
        Err(_) => {
            assert!(C::delta(bytes).is_err());
            assert!(merged.merge(bytes).is_err());
            assert!(merged.merge_watched(bytes).is_err());
            assert_eq!(merged.encode(), before, "a refused input changes nothing");
            assert_eq!(merged.cursor(), populated.cursor());
            return;
        }
    };
    assert_eq!(decoded.encode(), bytes, "one form only");
    assert_eq!(C::delta(bytes).as_deref(), Ok(bytes));
    consistent(&decoded);
    let mut empty = C::new();
    assert_eq!(empty.merge(bytes), Ok(!decoded.context().is_empty()));
    assert_eq!(empty.encode(), bytes, "an empty collection takes all of it");

    let (changed, changes) = merged.merge_watched(bytes).unwrap();
    let after = merged.encode();
    assert_eq!(changed, after != before, "a change is reported, and nothing else");
    check_changes(populated, &merged, &changes);
    consistent(&merged);
    assert_eq!(merged.merge_watched(bytes), Ok((false, Vec::new())), "idempotent");
    assert_eq!(merged.encode(), after);
    assert!(!merged.merge_state(&decoded), "idempotent, whichever way it comes in");
    assert_eq!(merged.merge(&before), Ok(false), "what was there before brings nothing new");
    assert_eq!(C::join(&before, bytes), after, "merging is joining");

    // A peer that had what was there before needs only what changed since.
    let mut peer = populated.clone();
    assert_eq!(peer.merge(&merged.delta_since(populated.cursor())), Ok(changed));
    assert_eq!(peer.encode(), after, "a catch-up brings what was missed");

    // Life goes on, whatever was merged. A counter used up is refused.
    let stamp = Hlc::new(Timestamp::from_millis(5), 5);
    for name in 0..3 {
        let Ok(delta) = merged.write(actor(name), b"k", b"new", stamp) else { continue };
        assert_eq!(merged.writes(b"k").len(), 1, "a write ends all that it has seen");
        assert_eq!(peer.merge(&delta), Ok(true));
        assert_eq!(peer.writes(b"k"), merged.writes(b"k"));
    }
    let delta = merged.remove(b"k");
    peer.merge(&delta).unwrap();
    assert_eq!((merged.read(b"k"), peer.read(b"k")), (None, None));
    assert_eq!(merged.encode(), peer.encode());
    consistent(&merged);
}

/// Every way to look at a collection shows the same.
fn consistent<C: Collection>(collection: &C) {
    let keys = collection.keys();
    assert_eq!(keys.len(), collection.len());
    assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "in key order");
    assert_eq!(collection.prefixed(b""), keys);
    let context = collection.context();
    let mut dots = BTreeSet::new();
    for key in &keys {
        let writes = collection.writes(key);
        assert_eq!(collection.read(key), writes.first().map(|write| write.2.clone()));
        assert!(writes.windows(2).all(|pair| (pair[0].0, pair[0].1) > (pair[1].0, pair[1].1)));
        for (_, dot, _) in writes {
            assert!(context.contains(&dot), "every live dot is covered");
            assert!(dots.insert(dot), "one dot, one key");
        }
    }
    assert_eq!(dots.len(), collection.live_dots());
    assert_eq!(CausalContext::decode(&context.encode()), Ok(context));
}

fn check_changes<C: Collection>(before: &C, after: &C, changes: &[Change]) {
    let mut reported = BTreeSet::new();
    for (key, old, new) in changes {
        assert!(reported.insert(key), "each key is reported once");
        assert_ne!(old, new);
        assert_eq!((before.read(key), after.read(key)), (old.clone(), new.clone()));
    }
    for key in before.keys().iter().chain(&after.keys()) {
        assert_eq!(before.read(key) != after.read(key), reported.contains(key), "what changed is reported");
    }
}
