//! [`LiveDots`]: the keys of a collection with their live dots, however many.
//!
//! A [`DotStore`] has tables that pay off where there are many. A few dots are kept one after the other, in a vector of
//! exactly their number: most topics have collections of few keys, and a mesh has very many topics.
//!
//! The invariants: both forms give the same; of few dots the keys ascend, and the dots of one key descend, so that the first
//! of them is its winner.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cmp::{Ordering, Reverse};

use consilience_crdts::{COUNTER_MAX, Dot, DotStore, Hlc, Iter, KEY_BYTES_MAX, LiveDot, VALUE_BYTES_MAX};
use consilience_sync::planted::{Fault, planted};

/// So many dots are gone through as fast as an index finds one of them.
const FEW: usize = 8;

#[derive(Clone, Debug)]
pub(crate) struct LiveDots {
    form: Form,
    /// Keys the hashes of the store.
    seed: u64,
}

#[derive(Clone, Debug)]
enum Form {
    Few(Vec<One>),
    Many(Box<DotStore>),
}

/// One live dot.
#[derive(Clone, Debug)]
struct One {
    dot: Dot,
    stamp: Hlc,
    /// The key, and the value after it.
    bytes: Box<[u8]>,
    key_len: u16,
}

impl One {
    fn key(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.key_len)).unwrap_or_default()
    }

    fn entry(&self) -> LiveDot<'_> {
        let value = self.bytes.get(usize::from(self.key_len)..).unwrap_or_default();
        LiveDot { key: self.key(), value, dot: self.dot, stamp: self.stamp }
    }

    /// How it stands to a dot of a key, in the order of the few.
    fn cmp(&self, key: &[u8], rank: (Hlc, Dot)) -> Ordering {
        let dot = if planted(Fault::TiesByArrival) { rank.1 } else { self.dot };
        self.key().cmp(key).then_with(|| rank.cmp(&(self.stamp, dot)))
    }
}

impl LiveDots {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { form: Form::Few(Vec::new()), seed }
    }

    /// Without dots, and with the same seed.
    pub(crate) const fn another(&self) -> Self {
        Self::new(self.seed)
    }

    /// See [`DotStore::insert`].
    pub(crate) fn insert(&mut self, key: &[u8], value: &[u8], dot: Dot, stamp: Hlc) -> bool {
        self.replace(key, value, dot, stamp, None)
    }

    /// See [`DotStore::replace_own`].
    pub(crate) fn replace_own(
        &mut self,
        key: &[u8],
        value: &[u8],
        dot: Dot,
        stamp: Hlc,
        mut ended: impl FnMut(LiveDot<'_>),
    ) -> bool {
        match &mut self.form {
            Form::Many(store) => store.replace_own(key, value, dot, stamp, ended),
            Form::Few(_) => self.replace(key, value, dot, stamp, Some(&mut ended)),
        }
    }

    /// Inserts a dot, after its actor's other dots of the key have ended if somebody wants to be told of them.
    fn replace(
        &mut self,
        key: &[u8],
        value: &[u8],
        dot: Dot,
        stamp: Hlc,
        ended: Option<&mut dyn FnMut(LiveDot<'_>)>,
    ) -> bool {
        let few = match &mut self.form {
            Form::Many(store) => return store.insert(key, value, dot, stamp),
            Form::Few(few) => few,
        };
        let counts = (1..=COUNTER_MAX).contains(&dot.counter) && value.len() <= VALUE_BYTES_MAX;
        let Some(key_len) = u16::try_from(key.len()).ok().filter(|_| counts && key.len() <= KEY_BYTES_MAX)
        else {
            return false;
        };
        if few.iter().any(|one| one.dot == dot) {
            return false;
        }
        if let Some(ended) = ended {
            few.retain(|one| {
                let stays = one.dot.actor != dot.actor || one.key() != key;
                if !stays {
                    ended(one.entry());
                }
                stays
            });
        }
        if few.len() >= FEW {
            let mut store = DotStore::new(self.seed);
            for one in core::mem::take(few) {
                let LiveDot { key, value, dot, stamp } = one.entry();
                store.insert(key, value, dot, stamp);
            }
            store.insert(key, value, dot, stamp);
            self.form = Form::Many(Box::new(store));
            return true;
        }
        let at = few.partition_point(|one| one.cmp(key, (stamp, dot)) == Ordering::Less);
        few.reserve_exact(1);
        few.insert(at, One { dot, stamp, bytes: [key, value].concat().into(), key_len });
        true
    }

    /// See [`DotStore::remove`].
    pub(crate) fn remove(&mut self, dot: &Dot) -> bool {
        match &mut self.form {
            Form::Many(store) => store.remove(dot),
            Form::Few(few) => {
                let Some(at) = few.iter().position(|one| one.dot == *dot) else { return false };
                few.remove(at);
                true
            }
        }
    }

    /// Gives back the memory of dots that are gone; see [`DotStore::shrink`].
    pub(crate) fn shrink(&mut self) {
        match &mut self.form {
            Form::Few(few) => few.shrink_to_fit(),
            Form::Many(store) if store.len() > FEW / 2 => store.shrink(),
            Form::Many(store) => {
                let all = store.iter().flat_map(|first| {
                    // The winner first.
                    let mut all: Vec<LiveDot<'_>> = store.siblings(first.key).collect();
                    all.sort_unstable_by_key(|entry| Reverse((entry.stamp, entry.dot)));
                    all
                });
                let few = all.map(|LiveDot { key, value, dot, stamp }| {
                    // The store has checked it.
                    let key_len = u16::try_from(key.len()).unwrap_or(u16::MAX);
                    One { dot, stamp, bytes: [key, value].concat().into(), key_len }
                });
                let mut few: Vec<One> = few.collect();
                few.shrink_to_fit();
                self.form = Form::Few(few);
            }
        }
    }

    /// The few whose keys are neither before nor after a range.
    fn between(few: &[One], before: impl Fn(&[u8]) -> bool, after: impl Fn(&[u8]) -> bool) -> &[One] {
        let from = few.partition_point(|one| before(one.key()));
        let to = few.partition_point(|one| !after(one.key()));
        few.get(from..to).unwrap_or_default()
    }

    fn of_key<'a>(few: &'a [One], key: &[u8]) -> &'a [One] {
        Self::between(few, |one| one < key, |one| one > key)
    }

    /// The winning dot of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<LiveDot<'_>> {
        match &self.form {
            Form::Few(few) => Self::of_key(few, key).first().map(One::entry),
            Form::Many(store) => store.get(key),
        }
    }

    /// All live dots of a key, the winner first, the others in no order.
    pub(crate) fn siblings(&self, key: &[u8]) -> impl Iterator<Item = LiveDot<'_>> {
        let (few, store): (&[One], _) = match &self.form {
            Form::Few(few) => (Self::of_key(few, key), None),
            Form::Many(store) => (&[], Some(store.siblings(key))),
        };
        few.iter().map(One::entry).chain(store.into_iter().flatten())
    }

    /// All live dots of a key, the winner first, the others in descending order.
    pub(crate) fn dots(&self, key: &[u8]) -> Vec<LiveDot<'_>> {
        match &self.form {
            Form::Few(few) => Self::of_key(few, key).iter().map(One::entry).collect(),
            Form::Many(store) => store.dots(key),
        }
    }

    /// The key, value and stamp that were written as a dot, if the dot is live.
    pub(crate) fn entry_of(&self, dot: &Dot) -> Option<LiveDot<'_>> {
        match &self.form {
            Form::Few(few) => few.iter().find(|one| one.dot == *dot).map(One::entry),
            Form::Many(store) => store.entry_of(dot),
        }
    }

    pub(crate) fn contains(&self, dot: &Dot) -> bool {
        match &self.form {
            Form::Few(few) => few.iter().any(|one| one.dot == *dot),
            Form::Many(store) => store.contains(dot),
        }
    }

    /// The winning dots in key order.
    pub(crate) fn iter(&self) -> Winners<'_> {
        match &self.form {
            Form::Few(few) => Winners::Few(FewWinners(few)),
            Form::Many(store) => Winners::Many(store.iter()),
        }
    }

    /// The winning dots of the keys that start with `prefix`, in key order.
    pub(crate) fn prefix(&self, prefix: &[u8]) -> Winners<'_> {
        let after = |key: &[u8]| key > prefix && !key.starts_with(prefix);
        match &self.form {
            Form::Few(few) => Winners::Few(FewWinners(Self::between(few, |key| key < prefix, after))),
            Form::Many(store) => Winners::Many(store.prefix(prefix)),
        }
    }

    /// How many dots are live.
    pub(crate) fn len(&self) -> usize {
        match &self.form {
            Form::Few(few) => few.len(),
            Form::Many(store) => store.len(),
        }
    }

    /// How many keys have a live dot.
    pub(crate) fn keys_len(&self) -> usize {
        match &self.form {
            Form::Few(_) => self.iter().count(),
            Form::Many(store) => store.keys_len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The winning dots of some keys, in key order.
#[derive(Clone, Debug)]
pub(crate) enum Winners<'a> {
    Few(FewWinners<'a>),
    Many(Iter<'a>),
}

/// Of the few that are left.
#[derive(Clone, Debug)]
pub(crate) struct FewWinners<'a>(&'a [One]);

impl<'a> Iterator for Winners<'a> {
    type Item = LiveDot<'a>;

    fn next(&mut self) -> Option<LiveDot<'a>> {
        match self {
            Self::Few(FewWinners(few)) => {
                let first = few.first()?;
                let others = few.iter().take_while(|one| one.key() == first.key()).count();
                *few = few.get(others..).unwrap_or_default();
                Some(first.entry())
            }
            Self::Many(store) => store.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::cast_possible_truncation, reason = "small numbers")]

    use consilience_crdts::ActorId;

    use super::*;

    /// Whatever is written and removed, it is as if a store had been used all the time.
    #[test]
    fn few_dots_are_as_many_are() {
        let (mut live, mut model) = (LiveDots::new(1), DotStore::new(2));
        let (mut state, mut forms) = (5_u64, [0; 2]);
        let mut known: Vec<Dot> = Vec::new();
        for step in 1..=20_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = [b'a', b'0' + (state >> 33) as u8 % 7, b'b'];
            let key = &key[..1 + (state >> 37) as usize % 3];
            let value = step.to_le_bytes();
            let actor = ActorId::from([(state >> 41) as u8 % 3; 32]);
            // Few stamps: many are equal.
            let (dot, stamp) = (Dot { actor, counter: step }, Hlc::from_bits((state >> 45) % 50));
            match ((state >> 55) % 8, step / 200 % 2) {
                (0, _) | (1..=2, 0) => {
                    assert_eq!(live.insert(key, &value, dot, stamp), model.insert(key, &value, dot, stamp));
                    assert!(!live.insert(b"other", &value, dot, stamp), "it is live already");
                    known.push(dot);
                }
                (3..=4, 0) => {
                    let (mut ended, mut expected) = (Vec::new(), Vec::new());
                    let is_new = live.replace_own(key, &value, dot, stamp, |entry| ended.push(entry.dot));
                    let modelled =
                        model.replace_own(key, &value, dot, stamp, |entry| expected.push(entry.dot));
                    ended.sort_unstable();
                    expected.sort_unstable();
                    assert_eq!((is_new, ended), (modelled, expected));
                    known.push(dot);
                }
                _ if !known.is_empty() => {
                    let dot = known.swap_remove((state >> 20) as usize % known.len());
                    assert_eq!(live.remove(&dot), model.remove(&dot));
                }
                _ => {}
            }
            if step % 3 == 0 {
                live.shrink();
                if let Form::Few(few) = &live.form {
                    assert_eq!(few.capacity(), few.len());
                }
            }
            forms[usize::from(matches!(live.form, Form::Many(_)))] += 1;
            assert_eq!((live.len(), live.keys_len()), (model.len(), model.keys_len()));
            assert!(live.iter().eq(model.iter()));
            assert!(live.prefix(key).eq(model.prefix(key)));
            assert_eq!((live.get(key), live.dots(key)), (model.get(key), model.dots(key)));
            assert_eq!(live.siblings(key).next(), live.get(key));
            assert_eq!(live.siblings(key).count(), model.dots(key).len());
            for dot in [dot, known.last().copied().unwrap_or(dot)] {
                assert_eq!(
                    (live.entry_of(&dot), live.contains(&dot)),
                    (model.entry_of(&dot), model.contains(&dot))
                );
            }
        }
        assert!(forms.iter().all(|steps| *steps > 1_000), "{forms:?}");
    }

    #[test]
    fn beyond_the_limits_of_a_store_nothing_is_taken_in() {
        let mut live = LiveDots::new(1);
        let dot = |counter| Dot { actor: ActorId::from([1; 32]), counter };
        for (key, value, counter) in [
            (vec![1; KEY_BYTES_MAX + 1], vec![], 1),
            (vec![], vec![1; VALUE_BYTES_MAX + 1], 1),
            (vec![], vec![], 0),
            (vec![], vec![], COUNTER_MAX + 1),
        ] {
            assert!(!live.insert(&key, &value, dot(counter), Hlc::ZERO));
            assert!(!live.replace_own(&key, &value, dot(counter), Hlc::ZERO, |_| {}));
        }
        assert!(live.insert(&[1; KEY_BYTES_MAX], &[2; VALUE_BYTES_MAX], dot(COUNTER_MAX), Hlc::ZERO));
    }

    #[test]
    fn dots_beyond_a_few_are_a_store_and_few_again_at_half_of_that() {
        let dot = |counter| Dot { actor: ActorId::from([1; 32]), counter };
        let is_few = |live: &LiveDots| matches!(live.form, Form::Few(_));
        let mut live = LiveDots::new(1);
        for counter in 1..=FEW as u64 {
            assert!(live.insert(&counter.to_be_bytes(), b"", dot(counter), Hlc::ZERO));
        }
        assert!(is_few(&live));
        assert!(live.insert(b"one more", b"", dot(100), Hlc::ZERO));
        assert!(!is_few(&live));
        for counter in 1..=(FEW - FEW / 2) as u64 {
            assert!(live.remove(&dot(counter)));
            live.shrink();
            assert!(!is_few(&live), "{counter}");
        }
        assert!(live.remove(&dot(100)));
        assert!(!is_few(&live), "memory is given back where that is asked for");
        live.shrink();
        assert!(is_few(&live));
        let left = (FEW - FEW / 2) as u64 + 1..=FEW as u64;
        assert!(live.iter().map(|entry| entry.dot).eq(left.map(dot)));
    }
}
