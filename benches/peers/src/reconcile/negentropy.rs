//! `negentropy`: range-based, in frames of 64 KiB. All items have the same timestamp, so that the order is that of
//! the ids. A sealed storage is needed to reconcile; adding an item means unsealing, sorting and sealing again.

use negentropy::{Id as Item, Negentropy, NegentropyStorageVector};

use super::{Cost, Id, Peer};
use crate::measure::seconds;

pub struct Sets {
    shared: Vec<Id>,
    sides: [NegentropyStorageVector; 2],
}

fn storage<'a>(ids: impl Iterator<Item = &'a Id>) -> NegentropyStorageVector {
    let mut storage = NegentropyStorageVector::new();
    for id in ids {
        storage.insert(0, Item::from_byte_array(*id)).expect("an item");
    }
    storage.seal().expect("no duplicates");
    storage
}

impl Peer for Sets {
    fn build(ids: &[Id]) -> Self {
        // The copy of the ids, from which changed sets are made, is not counted as memory: it is made last.
        let sides = [storage(ids.iter()), storage(ids.iter())];
        Sets {
            shared: Vec::new(),
            sides,
        }
    }

    fn change(&mut self, left: &[Id], right: &[Id], add: bool) {
        if self.shared.is_empty() {
            // Everything but what `insert` added since.
            self.shared = ids_of(&self.sides[1]);
        }
        self.sides = [left, right].map(|alone| {
            let alone = if add { alone } else { &[] };
            storage(self.shared.iter().chain(alone))
        });
    }

    fn reconcile(&mut self, differences: usize, _mode: &str) -> Cost {
        let [left, right] = &self.sides;
        let ((bytes, messages, found), took) = seconds(|| {
            let mut client = Negentropy::borrowed(left, 65_536).expect("a frame limit");
            let mut server = Negentropy::borrowed(right, 65_536).expect("a frame limit");
            let (mut have, mut need) = (vec![], vec![]);
            let mut query = client.initiate().expect("an opening");
            let (mut bytes, mut messages) = (0, 0);
            loop {
                bytes += query.len();
                let answer = server.reconcile(&query).expect("an answer");
                bytes += answer.len();
                messages += 2;
                let next = client
                    .reconcile_with_ids(&answer, &mut have, &mut need)
                    .expect("a query");
                let Some(next) = next else { break };
                query = next;
            }
            have.sort_unstable();
            have.dedup();
            need.sort_unstable();
            need.dedup();
            (bytes, messages, have.len() + need.len())
        });
        assert_eq!(found, differences);
        Cost {
            bytes,
            messages,
            seconds: took,
        }
    }

    fn insert(&mut self, id: &Id) {
        let side = &mut self.sides[0];
        side.unseal().expect("a sealed storage");
        side.insert(0, Item::from_byte_array(*id)).expect("an item");
        side.seal().expect("no duplicates");
    }
}

fn ids_of(storage: &NegentropyStorageVector) -> Vec<Id> {
    use negentropy::NegentropyStorageBase;
    let mut ids = Vec::new();
    let size = storage.size().expect("a sealed storage");
    storage
        .iterate(0, size, &mut |item, _| {
            ids.push(item.id.to_bytes());
            Ok(true)
        })
        .expect("items");
    ids
}
