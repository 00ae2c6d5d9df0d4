//! [`OrSet`]: a set of byte strings in which a concurrent insertion survives a removal.

use alloc::vec::Vec;
use core::ops::RangeBounds;

use consilience_base::Hlc;

use crate::bytes::DecodeError;
use crate::causal::{Causal, Kind, WriteError, causal_collection};
use crate::dot::{ActorId, Dot};
use crate::store::Iter;

/// An observed-remove set of byte strings, without tombstones (Bieniusa et al. 2012; deltas as Almeida, Shoker,
/// Baquero 2018).
///
/// A removal ends the insertions that its replica had seen, and no others: *add wins*. Of a removed element nothing is
/// kept but the context, a counter per writer. Elements are at most [`KEY_BYTES_MAX`](crate::KEY_BYTES_MAX) bytes long.
///
/// ```
/// use consilience_crdts::{ActorId, OrSet};
///
/// let (ada, bob) = (ActorId::from(1), ActorId::from(2));
/// let (mut here, mut there) = (OrSet::new(), OrSet::new());
/// there.merge(&here.insert(ada, b"ada")?);
/// // One removes the element that the other inserts once more, at the same time.
/// let (removed, inserted) = (here.remove(b"ada"), there.insert(bob, b"ada")?);
/// here.merge(&inserted);
/// there.merge(&removed);
/// assert!(here.contains(b"ada") && there.contains(b"ada"));
/// # Ok::<(), consilience_crdts::WriteError>(())
/// ```
#[derive(Clone)]
pub struct OrSet {
    causal: Causal,
}

causal_collection!(OrSet, SetDelta, Kind::Set);

/// An element that a merge brought or took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetChange<'a> {
    /// The element.
    pub element: &'a [u8],
    /// Whether the element was there before.
    pub old: bool,
    /// Whether the element is there now.
    pub new: bool,
}

impl OrSet {
    /// Inserts an element, anew if it is there: a fresh insertion outlives the removals of replicas that have not seen
    /// it. Returns the delta for the peers.
    ///
    /// # Errors
    /// An element beyond its limit, or an actor without dots left; nothing changed.
    pub fn insert(&mut self, actor: ActorId, element: &[u8]) -> Result<SetDelta, WriteError> {
        self.causal.write(&actor, element, &[], Hlc::ZERO).map(|bytes| SetDelta { bytes })
    }

    /// Removes an element: ends the insertions of it that were seen here. The delta of an absent element is empty.
    pub fn remove(&mut self, element: &[u8]) -> SetDelta {
        SetDelta { bytes: self.causal.remove(element) }
    }

    /// Whether the element is there.
    #[must_use]
    pub fn contains(&self, element: &[u8]) -> bool {
        self.causal.store.find(element).is_some()
    }

    /// The name of an element's live insertion, the greatest if there are several; `None` if it is not there.
    #[must_use]
    pub fn get(&self, element: &[u8]) -> Option<Dot> {
        self.causal.store.get(element).map(|entry| entry.dot)
    }

    /// The live insertions of an element. Several only after concurrent ones.
    #[must_use]
    pub fn conflicts(&self, element: &[u8]) -> Vec<Dot> {
        self.causal.store.dots(element).into_iter().map(|entry| entry.dot).collect()
    }

    /// The elements in order.
    #[must_use]
    pub fn iter(&self) -> Elements<'_> {
        Elements(self.causal.store.iter())
    }

    /// The elements that start with `prefix`, in order.
    #[must_use]
    pub fn prefix(&self, prefix: &[u8]) -> Elements<'_> {
        Elements(self.causal.store.prefix(prefix))
    }

    /// The elements in a range, in order.
    #[must_use]
    pub fn range<'k>(&self, range: impl RangeBounds<&'k [u8]>) -> Elements<'_> {
        Elements(self.causal.store.range(range))
    }

    /// Joins a delta, and then reports each element that came or went, once.
    pub fn merge_with(&mut self, delta: &SetDelta, mut changed: impl FnMut(SetChange<'_>)) -> bool {
        self.causal.merge_valid_watched(&delta.bytes, |element, old, new| {
            changed(SetChange { element, old: old.is_some(), new: new.is_some() });
        })
    }

    /// [`merge_encoded`](Self::merge_encoded), and reports each element that came or went, once.
    ///
    /// # Errors
    /// Anything but canonical bytes. Nothing changed and nothing was reported.
    pub fn merge_encoded_with(
        &mut self,
        bytes: &[u8],
        mut changed: impl FnMut(SetChange<'_>),
    ) -> Result<bool, DecodeError> {
        self.causal.merge_watched(bytes, |element, old, new| {
            changed(SetChange { element, old: old.is_some(), new: new.is_some() })
        })
    }
}

/// Elements of an [`OrSet`], in order.
#[derive(Clone, Debug)]
pub struct Elements<'a>(Iter<'a>);

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.0.next().map(|entry| entry.key)
    }
}

impl<'a> IntoIterator for &'a OrSet {
    type Item = &'a [u8];
    type IntoIter = Elements<'a>;

    fn into_iter(self) -> Elements<'a> {
        self.iter()
    }
}
