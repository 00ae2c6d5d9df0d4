//! Any bytes as a coupling, a delta of one, or a schema: refused, and nothing changes, or the one form of what they
//! mean, which joins, reads, prunes and goes on.

use consilience_crdts::coupling::{Coupling, CouplingDelta, CouplingSchema};
use consilience_crdts::{ActorId, DecodeError, Timestamp};

const INSTANTS: [Timestamp; 4] =
    [Timestamp::EPOCH, Timestamp::from_millis(9_000), Timestamp::from_secs(1_700_000_000), Timestamp::MAX];

fn actor(name: u8) -> ActorId {
    ActorId::new(&[b'a' + name]).unwrap()
}

fn populated(schema: CouplingSchema) -> Coupling {
    let mut coupling = Coupling::new(schema);
    let by = schema.increment_min();
    let now = Timestamp::from_millis(9_000);
    for (name, key) in [(0, &b""[..]), (0, b"k"), (1, b"k"), (2, b"kernel"), (1, b"kernel/log")] {
        coupling.strengthen(actor(name), key, by, now).unwrap();
    }
    coupling.reset(actor(2), b"k", now).unwrap();
    coupling
}

fn reads(coupling: &Coupling) {
    for now in INSTANTS {
        for key in [&b""[..], b"k", b"kernel"] {
            assert!(coupling.sum().value(key, now) <= coupling.schema().cap());
            assert!(coupling.max().value(key, now) <= coupling.schema().cap());
            assert!(coupling.by(&actor(0)).value(key, now) <= coupling.schema().cap());
            assert!(coupling.contributions(key, now).count() <= coupling.stats().dots);
        }
    }
    assert!(coupling.keys().zip(coupling.keys().skip(1)).all(|(a, b)| a < b), "in key order");
}

/// Checks bytes.
pub fn check(bytes: &[u8]) {
    if let Ok(schema) = CouplingSchema::decode(bytes) {
        assert_eq!(schema.encode(), bytes, "one form only");
    }
    let week = populated(CouplingSchema::with_half_life(604_800_000).unwrap());
    let mut merged = week.clone();
    let decoded = match Coupling::decode(bytes) {
        Ok(decoded) => decoded,
        Err(_) => {
            assert!(CouplingDelta::decode(bytes).is_err());
            assert!(merged.merge_encoded(bytes).is_err());
            assert_eq!((&merged, merged.cursor()), (&week, week.cursor()), "a refused input changes nothing");
            return;
        }
    };
    let delta = CouplingDelta::decode(bytes).unwrap();
    assert_eq!((decoded.encode().as_slice(), delta.as_bytes()), (bytes, bytes), "one form only");
    reads(&decoded);
    if decoded.schema() != week.schema() {
        assert_eq!(merged.merge_encoded(bytes), Err(DecodeError::Schema));
        assert!(merged.merge(&delta).is_err() && merged.merge_state(&decoded).is_err());
        assert_eq!((&merged, merged.cursor()), (&week, week.cursor()), "a refused input changes nothing");
    }
    let own = populated(*decoded.schema());
    let (mut merged, mut other_way) = (own.clone(), decoded.clone());
    let changed = merged.merge_encoded(bytes).unwrap();
    assert_eq!(changed, merged != own, "a change is reported, and nothing else");
    other_way.merge_state(&own).unwrap();
    assert_eq!(merged, other_way, "commutative");
    assert_eq!(merged.encode(), other_way.encode());
    assert_eq!(merged.merge_encoded(bytes), Ok(false), "idempotent");
    assert_eq!(merged.merge(&delta), Ok(false));
    assert_eq!(merged, other_way);
    let mut peer = own.clone();
    assert_eq!(
        peer.merge(&merged.delta_since(own.cursor())),
        Ok(changed),
        "a catch-up brings what was missed"
    );
    assert_eq!(peer, merged);
    reads(&merged);
    for now in INSTANTS {
        // Pruning commutes with merging. What was written here is acknowledged, so that it may go too.
        let (mut pruned, mut before, mut theirs) = (merged.clone(), own.clone(), decoded.clone());
        pruned.acknowledge(pruned.cursor());
        pruned.prune(now);
        before.acknowledge(before.cursor());
        before.prune(now);
        theirs.prune(now);
        before.merge_state(&theirs).unwrap();
        assert_eq!(before, pruned, "pruning commutes with merging");
        assert_eq!(Coupling::decode(&pruned.encode()).as_ref(), Ok(&pruned));
        // Life goes on, whatever was merged.
        let (mut next, mut follower) = (merged.clone(), merged.clone());
        let by = next.schema().increment_min();
        for delta in [
            next.strengthen(actor(0), b"k", by, now).unwrap(),
            next.weaken(actor(1), b"k", by, now).unwrap(),
            next.weaken_own(actor(2), b"k", by, now).unwrap(),
            next.reset(actor(3), b"k", now).unwrap(),
        ] {
            follower.merge(&delta).unwrap();
        }
        reads(&next);
        assert_eq!(follower, next, "a mutator is the join of its delta");
        assert_eq!(Coupling::decode(&next.encode()).as_ref(), Ok(&next));
    }
}
