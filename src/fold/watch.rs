//! The changes since the host last looked: keys whose winner may be another one, each once, with the winner before.
//!
//! The invariant: at most one note for each key, made before its first change; and of keys that are as they were before, no
//! more notes than of others, but for a few.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use consilience_crdts::{Dot, Hlc};
use consilience_sync::AgentId;
use consilience_sync::planted::{Fault, planted};

use crate::payload::CollectionId;

/// So many notes are not worth a look at whether they are news.
const NOTES_FEW: usize = 64;

/// The content of a key before: its winning dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Winner {
    pub(crate) value: Box<[u8]>,
    pub(crate) dot: Dot,
    pub(crate) stamp: Hlc,
    /// The dot's log may be forgotten before the host looks.
    pub(crate) author: AgentId,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    touched: BTreeMap<CollectionId, BTreeMap<Box<[u8]>, Option<Winner>>>,
    notes: usize,
    /// How many were news when that was last looked at.
    news: usize,
}

impl Watch {
    /// Notes that a key is about to change, of which this was the winner.
    pub(crate) fn touch(&mut self, id: &CollectionId, key: &[u8], winner: impl FnOnce() -> Option<Winner>) {
        if !self.touched.contains_key(id) {
            self.touched.insert(id.clone(), BTreeMap::new());
        }
        if let Some(keys) = self.touched.get_mut(id) {
            if planted(Fault::NoticesForgetTheFirst) && keys.remove(key).is_some() {
                self.notes -= 1;
            }
            keys.entry(key.into()).or_insert_with(|| {
                self.notes += 1;
                winner()
            });
        }
    }

    /// Whether there are twice as many notes as there were news.
    pub(crate) const fn is_crowded(&self) -> bool {
        self.notes > 2 * self.news + NOTES_FEW
    }

    /// Gives up the notes that are no news.
    pub(crate) fn retain(&mut self, is_news: impl Fn(&CollectionId, &[u8], Option<&Winner>) -> bool) {
        self.touched.retain(|id, keys| {
            keys.retain(|key, was| is_news(id, key, was.as_ref()));
            !keys.is_empty()
        });
        self.notes = self.touched.values().map(BTreeMap::len).sum();
        self.news = self.notes;
    }

    /// Whether the host has looked at all changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.touched.is_empty()
    }

    /// The next key that was touched: its collection, itself, and the winner before.
    pub(crate) fn pop(&mut self) -> Option<(CollectionId, Box<[u8]>, Option<Winner>)> {
        let mut first = self.touched.first_entry()?;
        let (key, was) = first.get_mut().pop_first()?;
        self.notes -= 1;
        let id = first.key().clone();
        if first.get().is_empty() {
            first.remove();
        }
        Some((id, key, was))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::cast_possible_truncation, reason = "a small number")]

    use alloc::vec::Vec;

    use super::*;
    use crate::payload::CollectionKind;

    fn touch(watch: &mut Watch, keys: impl IntoIterator<Item = u32>) {
        let id = CollectionId::new(CollectionKind::Map, "tasks", None).expect("a name");
        keys.into_iter().for_each(|key| watch.touch(&id, &key.to_be_bytes(), || None));
    }

    #[test]
    fn notes_are_looked_at_once_they_are_more_than_twice_the_news_and_a_few() {
        let (mut watch, few) = (Watch::default(), NOTES_FEW as u32);
        touch(&mut watch, 0..few);
        touch(&mut watch, 0..few);
        assert!(!watch.is_crowded(), "a key has one note");
        touch(&mut watch, [few]);
        assert!(watch.is_crowded());
        watch.retain(|_, key, _| key < &10_u32.to_be_bytes()[..]);
        touch(&mut watch, 100..100 + 10 + few);
        assert!(!watch.is_crowded());
        touch(&mut watch, [99]);
        assert!(watch.is_crowded());
        // Whoever looks makes room.
        assert!(watch.pop().is_some());
        assert!(!watch.is_crowded());
    }

    #[test]
    fn each_note_is_told_once_and_then_nothing_is_left() {
        let mut watch = Watch::default();
        assert!(watch.is_empty());
        touch(&mut watch, [2, 1, 3, 1]);
        watch.retain(|_, key, _| key != &3_u32.to_be_bytes()[..]);
        let told: Vec<_> = core::iter::from_fn(|| watch.pop()).map(|(_, key, _)| key).collect();
        assert_eq!(told, [1_u32, 2].map(|key| Box::from(key.to_be_bytes())));
        assert!(watch.is_empty());
        touch(&mut watch, [1]);
        assert!(!watch.is_empty());
        watch.retain(|_, _, _| false);
        assert!(watch.is_empty());
    }
}
