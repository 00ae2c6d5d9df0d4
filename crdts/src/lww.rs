//! [`LwwMap`]: keys to values, last writer wins, by causality first and by stamps only between concurrent writes.

use alloc::vec::Vec;
use core::ops::RangeBounds;

use consilience_base::Hlc;

use crate::bytes::DecodeError;
use crate::causal::{Causal, Kind, WriteError, causal_collection};
use crate::dot::ActorId;
use crate::store::{Iter, LiveDot};

/// A last-writer-wins map of byte strings (delta-state; Almeida, Shoker, Baquero 2018).
///
/// A write replaces every write that its replica had seen of the key. Only between *concurrent* writes the stamp
/// decides, then the actor's name, so a clock years ahead wins no more than the moment: any replica that has seen its
/// write can overwrite it. A removal ends the writes that its replica had seen, so a concurrent write survives it. Of a
/// removed key nothing is kept but the context, a counter per writer.
///
/// Keys are at most [`KEY_BYTES_MAX`](crate::KEY_BYTES_MAX) bytes long, values at most
/// [`VALUE_BYTES_MAX`](crate::VALUE_BYTES_MAX).
///
/// ```
/// use consilience_crdts::{ActorId, Hlc, LwwMap, Timestamp};
///
/// let (ada, bob) = (ActorId::from(1), ActorId::from(2));
/// let at = |ms| Hlc::new(Timestamp::from_millis(ms), 0);
/// let (mut here, mut there) = (LwwMap::new(), LwwMap::new());
/// let delta = here.set(ada, b"task/1", b"draft", at(9_000))?;
/// there.merge(&delta);
/// // Bob's clock is behind, but he has seen the draft.
/// let delta = there.set(bob, b"task/1", b"done", at(5))?;
/// here.merge(&delta);
/// assert_eq!(here.get(b"task/1"), Some(&b"done"[..]));
/// # Ok::<(), consilience_crdts::WriteError>(())
/// ```
#[derive(Clone)]
pub struct LwwMap {
    causal: Causal,
}

causal_collection!(LwwMap, MapDelta, Kind::Map);

/// A key whose value a merge changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapChange<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value before; `None` if the key was absent.
    pub old: Option<&'a [u8]>,
    /// The value now; `None` if the key is absent.
    pub new: Option<&'a [u8]>,
}

impl LwwMap {
    /// Sets a key. `stamp` decides only against concurrent writes. Returns the delta for the peers.
    ///
    /// # Errors
    /// A key or value beyond its limit, or an actor without dots left; nothing changed.
    pub fn set(
        &mut self,
        actor: ActorId,
        key: &[u8],
        value: &[u8],
        stamp: Hlc,
    ) -> Result<MapDelta, WriteError> {
        self.causal.write(&actor, key, value, stamp).map(|bytes| MapDelta { bytes })
    }

    /// Removes a key: ends the writes of it that were seen here. The delta of an absent key is empty.
    pub fn remove(&mut self, key: &[u8]) -> MapDelta {
        MapDelta { bytes: self.causal.remove(key) }
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.entry(key).map(|entry| entry.value)
    }

    /// The winning write of a key: value, actor, stamp.
    #[must_use]
    pub fn entry(&self, key: &[u8]) -> Option<LiveDot<'_>> {
        self.causal.store.get(key)
    }

    /// All live writes of a key, the winner first. Several only after concurrent writes that nobody has overwritten.
    #[must_use]
    pub fn conflicts(&self, key: &[u8]) -> Vec<LiveDot<'_>> {
        self.causal.store.dots(key)
    }

    /// The keys with their winning writes, in key order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        self.causal.store.iter()
    }

    /// The keys that start with `prefix`, in key order.
    #[must_use]
    pub fn prefix(&self, prefix: &[u8]) -> Iter<'_> {
        self.causal.store.prefix(prefix)
    }

    /// The keys in a range, in key order: `map.range(&b"a"[..]..&b"b"[..])`.
    #[must_use]
    pub fn range<'k>(&self, range: impl RangeBounds<&'k [u8]>) -> Iter<'_> {
        self.causal.store.range(range)
    }

    /// Joins a delta and reports each key whose value that changed, once.
    pub fn merge_with(&mut self, delta: &MapDelta, mut changed: impl FnMut(MapChange<'_>)) -> bool {
        self.causal.merge_valid_watched(&delta.bytes, |key, old, new| changed(MapChange { key, old, new }))
    }

    /// [`merge_encoded`](Self::merge_encoded), and reports each key whose value that changed, once.
    ///
    /// # Errors
    /// Anything but canonical bytes; nothing changed and nothing was reported.
    pub fn merge_encoded_with(
        &mut self,
        bytes: &[u8],
        mut changed: impl FnMut(MapChange<'_>),
    ) -> Result<bool, DecodeError> {
        self.causal.merge_watched(bytes, |key, old, new| changed(MapChange { key, old, new }))
    }
}

impl<'a> IntoIterator for &'a LwwMap {
    type Item = LiveDot<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}
