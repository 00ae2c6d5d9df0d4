//! A consumer of notices: it read the content once, and knows from then on what it was told.

use std::collections::{BTreeMap, BTreeSet};

use consilience::sync::{LogId, Topic};
use consilience::{CollectionKind, Notice, Replica};

/// Where a value is: a map's key, or an element of a set.
type Place = (Topic, bool, String, Vec<u8>);

/// What a consumer knows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Mirror {
    values: BTreeMap<Place, Vec<u8>>,
    events: BTreeSet<(LogId, u64)>,
}

impl Mirror {
    /// All that a replica reads.
    pub(crate) fn of(replica: &Replica) -> Self {
        let mut mirror = Self::default();
        for topic in replica.topics() {
            let Ok(view) = replica.topic(topic.as_str()) else { continue };
            for (kind, name, _) in view.collections() {
                let place = |is_map, key: &[u8]| (topic.clone(), is_map, name.to_owned(), key.to_vec());
                match kind {
                    CollectionKind::Map => {
                        let all = view.map(name).iter();
                        mirror.values.extend(all.map(|live| (place(true, live.key), live.value.to_vec())));
                    }
                    CollectionKind::Set => {
                        let all = view.set(name).iter();
                        mirror.values.extend(all.map(|live| (place(false, live.key), Vec::new())));
                    }
                    _ => {}
                }
            }
            mirror.events.extend(view.events().iter().map(|event| (event.name.log, event.name.seq)));
        }
        mirror
    }

    /// Takes in what it is told; whether that fits what it knew.
    pub(crate) fn take(&mut self, notice: &Notice) -> bool {
        match notice {
            Notice::Changed { topic, kind, collection, key, old, new, .. } => {
                let place = (topic.clone(), *kind == CollectionKind::Map, collection.clone(), key.clone());
                let known = match new {
                    Some(value) => self.values.insert(place, value.clone()),
                    None => self.values.remove(&place),
                };
                known == *old
            }
            Notice::Events { log, from, to, .. } => {
                self.events.extend((*from..*to).map(|seq| (*log, seq)));
                true
            }
            _ => true,
        }
    }

    /// Whether it knows all that is read now. Events that went are not told one by one.
    pub(crate) fn is_true(&self, now: &Self) -> bool {
        self.values == now.values && now.events.is_subset(&self.events)
    }
}
