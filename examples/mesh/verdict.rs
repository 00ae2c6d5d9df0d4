//! Whether replicas are in the same state.

use std::fmt::Write as _;

/// What [`consilience::Replica::digest`] gives: a BLAKE3 hash of the state, equal for equal states, whatever way they
/// came about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Digest(pub(crate) [u8; 32]);

impl Digest {
    pub(crate) fn to_hex(self) -> String {
        self.0.iter().fold(String::new(), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

/// The digest that all replicas have; `None` if any two differ, or if there is none.
pub(crate) fn common(digests: &[Digest]) -> Option<Digest> {
    let (first, rest) = digests.split_first()?;
    rest.iter().all(|digest| digest == first).then_some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilience::crdts::{CouplingSchema, Timestamp, Units};
    use consilience::sync::{Keypair, MeshId, Topic};
    use consilience::{Config, Opened, Replica, Transaction};

    const TOPIC: &str = "work";
    const NOW: Timestamp = Timestamp::from_secs(5);

    fn schema() -> CouplingSchema {
        CouplingSchema::with_half_life(1_000).unwrap()
    }

    /// A state that two replicas may share, and what one of two writers may have done since.
    fn digest(change: Option<fn(&mut Transaction<'_>)>) -> Digest {
        let config = Config::new(MeshId::from_bytes([1; 32]), [2; 32]);
        let mut replica = Replica::open(config, Opened::InMemory, NOW).unwrap();
        let [one, other] = [3, 4].map(|seed| replica.add_writer(Keypair::from_seed([seed; 32])).unwrap());
        let mut tx = replica.transact(one, TOPIC, NOW).unwrap();
        tx.map("files").set("key", "value").unwrap();
        tx.set("agents").insert("element").unwrap();
        tx.coupling("met", schema()).strengthen("pair", Units::ONE).unwrap();
        tx.commit().unwrap();
        if let Some(change) = change {
            let mut tx = replica.transact(other, TOPIC, NOW).unwrap();
            change(&mut tx);
            tx.commit().unwrap();
        }
        Digest(replica.digest(&Topic::new(TOPIC).unwrap()))
    }

    #[test]
    fn equal_states_have_a_common_digest() {
        let digests = [digest(None), digest(None), digest(None)];
        assert_eq!(common(&digests), Some(digests[0]));
        assert_eq!(common(&digests[..1]), Some(digests[0]));
        assert_eq!(common(&[]), None);
        assert_eq!(Digest([0x0a; 32]).to_hex(), "0a".repeat(32));
    }

    #[test]
    fn a_difference_in_any_collection_is_seen_in_any_place() {
        let good = digest(None);
        let changes: [fn(&mut Transaction<'_>); 5] = [
            |tx| tx.map("files").set("key", "other").unwrap(),
            |tx| tx.map("files").remove("key").unwrap(),
            |tx| tx.set("agents").remove("element").unwrap(),
            // The same element, but another insertion: a removal would not fare alike.
            |tx| tx.set("agents").insert("element").unwrap(),
            |tx| tx.coupling("met", schema()).strengthen("pair", Units::ONE).unwrap(),
        ];
        for change in changes {
            let bad = digest(Some(change));
            for place in 0..3 {
                let mut digests = [good; 3];
                digests[place] = bad;
                assert_eq!(common(&digests), None);
            }
        }
    }
}
