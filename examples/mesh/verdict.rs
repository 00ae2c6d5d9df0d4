//! Whether replicas are in the same state.

use super::replica::Encoded;

/// BLAKE3 of a state's canonical bytes. Equal states have equal bytes, whatever way they came about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Digest(blake3::Hash);

impl Digest {
    pub(crate) fn of(state: &Encoded) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in [&state.map, &state.set, &state.coupling] {
            // Lengths first, so that no byte can move from one part to the next unseen.
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize())
    }

    pub(crate) fn to_hex(self) -> String {
        self.0.to_hex().to_string()
    }
}

/// The digest that all replicas have; `None` if any two differ, or if there is none.
pub(crate) fn common(digests: &[Digest]) -> Option<Digest> {
    let (first, rest) = digests.split_first()?;
    rest.iter().all(|digest| digest == first).then_some(*first)
}

#[cfg(test)]
mod tests {
    use super::super::replica::Replica;
    use super::*;
    use consilience::crdts::coupling::{CouplingSchema, Units};
    use consilience::crdts::{ActorId, Hlc, Timestamp};

    /// A state that two replicas may share.
    fn replica() -> Replica {
        let mut replica = Replica::new(CouplingSchema::with_half_life(1_000).unwrap());
        let now = Timestamp::from_secs(5);
        replica.map.set(ActorId::from(1), b"key", b"value", Hlc::new(now, 0)).unwrap();
        replica.set.insert(ActorId::from(1), b"element").unwrap();
        replica.coupling.strengthen(ActorId::from(1), b"pair", Units::ONE, now).unwrap();
        replica
    }

    #[test]
    fn equal_states_have_a_common_digest() {
        let digests = [replica(), replica(), replica()].map(|replica| Digest::of(&replica.encode()));
        assert_eq!(common(&digests), Some(digests[0]));
        assert_eq!(common(&digests[..1]), Some(digests[0]));
        assert_eq!(common(&[]), None);
    }

    #[test]
    fn a_difference_in_any_collection_is_seen_in_any_place() {
        let good = Digest::of(&replica().encode());
        let (actor, now) = (ActorId::from(2), Timestamp::from_secs(5));
        let changes: [fn(&mut Replica, ActorId, Timestamp); 5] = [
            |replica, actor, now| drop(replica.map.set(actor, b"key", b"other", Hlc::new(now, 0))),
            |replica, _, _| drop(replica.map.remove(b"key")),
            |replica, _, _| drop(replica.set.remove(b"element")),
            // The same element, but another insertion: a removal would not fare alike.
            |replica, actor, _| drop(replica.set.insert(actor, b"element")),
            |replica, actor, now| drop(replica.coupling.strengthen(actor, b"pair", Units::ONE, now)),
        ];
        for change in changes {
            let mut replica = replica();
            change(&mut replica, actor, now);
            let bad = Digest::of(&replica.encode());
            for place in 0..3 {
                let mut digests = [good; 3];
                digests[place] = bad;
                assert_eq!(common(&digests), None);
            }
        }
    }

    #[test]
    fn a_byte_that_moves_to_the_next_part_is_seen() {
        let encoded = |map: &[u8], set: &[u8]| Encoded { map: map.into(), set: set.into(), coupling: vec![] };
        assert_ne!(Digest::of(&encoded(b"ab", b"c")), Digest::of(&encoded(b"a", b"bc")));
    }
}
