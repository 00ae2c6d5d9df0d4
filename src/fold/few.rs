//! [`FewMap`]: an ordered map that is a sorted vector of exactly its size as long as it is small, and a tree beyond that.
//!
//! A node of a tree has room for eleven from its first element on. Most topics have one or two logs and collections, and
//! a mesh has very many topics.
//!
//! The invariant: keys ascend, and nothing is kept for elements that are gone.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, btree_map};
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::ops::{Bound, RangeBounds, RangeFull};
use core::slice;

/// So many elements are moved aside for a new one as fast as a tree takes it in.
const FEW: usize = 8;

#[derive(Clone, Debug)]
pub(crate) struct FewMap<K, V>(Form<K, V>);

#[derive(Clone, Debug)]
enum Form<K, V> {
    /// Ascending.
    Few(Vec<(K, V)>),
    /// In a box, so that a small one takes no more for its sake.
    #[expect(clippy::box_collection, reason = "the tree is a third larger than the vector with its niche")]
    Many(Box<BTreeMap<K, V>>),
}

/// An ordered set of the same making.
pub(crate) type FewSet<K> = FewMap<K, ()>;

impl<K, V> Default for FewMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> FewMap<K, V> {
    pub(crate) const fn new() -> Self {
        Self(Form::Few(Vec::new()))
    }

    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Form::Few(few) => few.len(),
            Form::Many(many) => many.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Ord, V> FewMap<K, V> {
    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        match &self.0 {
            Form::Few(few) => place(few, key).ok().map(|at| &few[at].1),
            Form::Many(many) => many.get(key),
        }
    }

    pub(crate) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        match &mut self.0 {
            Form::Few(few) => place(few, key).ok().map(|at| &mut few[at].1),
            Form::Many(many) => many.get_mut(key),
        }
    }

    pub(crate) fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// The value before, if there was one.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.make_room(&key);
        match &mut self.0 {
            Form::Few(few) => match place(few, &key) {
                Ok(at) => Some(core::mem::replace(&mut few[at].1, value)),
                Err(at) => {
                    few.reserve_exact(1);
                    few.insert(at, (key, value));
                    None
                }
            },
            Form::Many(many) => many.insert(key, value),
        }
    }

    /// The value of a key, which is made if it is not there.
    pub(crate) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        self.make_room(&key);
        match &mut self.0 {
            Form::Few(few) => {
                let at = place(few, &key).unwrap_or_else(|at| {
                    few.reserve_exact(1);
                    few.insert(at, (key, make()));
                    at
                });
                &mut few[at].1
            }
            Form::Many(many) => many.entry(key).or_insert_with(make),
        }
    }

    /// Becomes a tree, if a further key would be one too many for a vector.
    fn make_room(&mut self, key: &K) {
        if let Form::Few(few) = &mut self.0
            && few.len() >= FEW
            && place(few, key).is_err()
        {
            self.0 = Form::Many(Box::new(core::mem::take(few).into_iter().collect()));
        }
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        match &mut self.0 {
            Form::Few(few) => {
                let (_, value) = few.remove(place(few, key).ok()?);
                few.shrink_to_fit();
                Some(value)
            }
            Form::Many(many) => {
                let value = many.remove(key);
                // Half of the size at which it becomes a tree, so that one element that comes and goes moves nothing.
                if many.len() <= FEW / 2 {
                    self.0 = Form::Few(core::mem::take(&mut **many).into_iter().collect());
                }
                value
            }
        }
    }

    pub(crate) fn last_key_value(&self) -> Option<(&K, &V)> {
        self.iter().next_back()
    }

    /// The elements whose keys lie in a range, ascending. No range ends before it begins.
    pub(crate) fn range(&self, range: impl RangeBounds<K>) -> Iter<'_, K, V> {
        match &self.0 {
            Form::Few(few) => {
                let from = few.partition_point(|(key, _)| match range.start_bound() {
                    Bound::Included(first) => key < first,
                    Bound::Excluded(before) => key <= before,
                    Bound::Unbounded => false,
                });
                let to = few.partition_point(|(key, _)| match range.end_bound() {
                    Bound::Included(last) => key <= last,
                    Bound::Excluded(end) => key < end,
                    Bound::Unbounded => true,
                });
                Iter::Few(few.get(from..to).unwrap_or_default().iter())
            }
            Form::Many(many) => Iter::Many(many.range(range)),
        }
    }

    pub(crate) fn iter(&self) -> Iter<'_, K, V> {
        self.range(RangeFull)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

fn place<K: Borrow<Q>, V, Q: Ord + ?Sized>(few: &[(K, V)], key: &Q) -> Result<usize, usize> {
    few.binary_search_by(|(at, _)| at.borrow().cmp(key))
}

/// Elements in the order of their keys.
#[derive(Clone, Debug)]
pub(crate) enum Iter<'a, K, V> {
    Few(slice::Iter<'a, (K, V)>),
    Many(btree_map::Range<'a, K, V>),
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Few(few) => few.next().map(|(key, value)| (key, value)),
            Self::Many(many) => many.next(),
        }
    }
}

impl<K, V> DoubleEndedIterator for Iter<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        match self {
            Self::Few(few) => few.next_back().map(|(key, value)| (key, value)),
            Self::Many(many) => many.next_back(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Elements that come and go, in numbers around the one at which the form changes.
    #[test]
    fn it_is_a_map_whatever_its_size() {
        let (mut map, mut model) = (FewMap::new(), BTreeMap::new());
        let (mut state, mut forms) = (9_u64, [0; 2]);
        for step in 0..20_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (key, kind) = ((state >> 33) % 14, (state >> 50) % 8);
            // More come for some time, then more go.
            match (kind, step / 100 % 2) {
                (0..=1, _) | (2..=5, 0) => assert_eq!(map.insert(key, step), model.insert(key, step)),
                (6, 0) => {
                    let (one, other) =
                        (map.get_or_insert_with(key, || step), model.entry(key).or_insert(step));
                    assert_eq!(one, other);
                }
                _ => assert_eq!(map.remove(&key), model.remove(&key)),
            }
            forms[usize::from(matches!(map.0, Form::Many(_)))] += 1;
            assert!(map.iter().eq(model.iter()) && map.len() == model.len());
            assert!(map.iter().rev().eq(model.iter().rev()));
            assert_eq!(map.get(&key), model.get(&key));
            assert_eq!(map.get_mut(&key), model.get_mut(&key));
            let (low, high) = (key.min(step % 14), key.max(step % 14));
            assert!(map.range(low..=high).eq(model.range(low..=high)));
            assert!(map.range(low..).eq(model.range(low..)));
            let open = (Bound::Excluded(low), Bound::Excluded(high + 1));
            assert!(map.range(open).eq(model.range(open)));
            assert_eq!(map.last_key_value(), model.last_key_value());
            if let Form::Few(few) = &map.0 {
                assert_eq!(few.capacity(), few.len(), "nothing is kept for what is gone");
            }
        }
        assert!(forms.iter().all(|steps| *steps > 1_000), "{forms:?}");
    }

    #[test]
    fn a_ninth_key_makes_it_a_tree_and_with_the_fifth_from_the_last_it_is_a_vector_again() {
        let is_few = |map: &FewMap<usize, u8>| matches!(map.0, Form::Few(_));
        let mut map = FewMap::new();
        assert!(map.is_empty());
        for key in 0..FEW {
            map.insert(key, 0);
        }
        map.insert(FEW - 1, 1);
        *map.get_or_insert_with(0, || 2) += 3;
        assert!(is_few(&map) && !map.is_empty());
        map.insert(FEW, 4);
        assert!(!is_few(&map));
        for key in 0..FEW / 2 {
            assert!(!is_few(&map), "{key}");
            map.remove(&key);
        }
        assert!(!is_few(&map));
        map.remove(&(FEW / 2));
        assert!(is_few(&map));
        assert!(map.keys().copied().eq(FEW / 2 + 1..=FEW));
        assert!(map.values().copied().eq([0, 0, 1, 4]));
    }
}
