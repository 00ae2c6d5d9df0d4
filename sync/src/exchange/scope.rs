//! [`Scope`]: the topics that a session is about.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;
use core::fmt;

use crate::codec::{DecodeError, Reader, put_varint};
use crate::identity::{LogId, Topic, TopicError, TopicFilter};
use crate::logset::LogSet;
use crate::reconcile::KeyRange;
use consilience_base::planted::{Fault, planted};

/// The same for scopes of the same topics: the first bytes of a hash.
pub(crate) type ScopeName = [u8; 8];

/// The topics that one side of a session wants, the most wanted first: topics, topics with all below them, and everything. A
/// session speaks of the topics that both sides want.
///
/// A topic is as much wanted as the first filter that matches it: `t/08, t/05, *` are all topics, two of them before the
/// others. A filter that an earlier one covers changes nothing and is left out. Up to [64](Self::FILTERS_MAX) filters can be
/// asked for; those that two scopes have [in common](Self::meet) may be more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// None of them is covered by an earlier one.
    filters: Vec<TopicFilter>,
}

/// Why filters make no scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScopeError {
    /// One of them is no filter.
    #[error(transparent)]
    Filter(#[from] TopicError),
    /// They are more than a scope may have, also without those that an earlier one covers.
    #[error(
        "a scope has at most {max} filters: name a topic with all below it, as in team/*, in the place of many"
    )]
    TooMany {
        /// So many it may have.
        max: usize,
    },
}

impl Default for Scope {
    fn default() -> Self {
        Self::everything()
    }
}

impl fmt::Display for Scope {
    /// Its filters, the most wanted first: `team/planning, notes/*`. `nothing` if there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rest)) = self.filters.split_first() else { return f.write_str("nothing") };
        write!(f, "{first}")?;
        rest.iter().try_for_each(|filter| write!(f, ", {filter}"))
    }
}

impl Scope {
    /// The most filters that a host can ask for.
    pub const FILTERS_MAX: usize = 64;
    /// The most that a side of a session can state: those of its host, narrowed by those of its gate.
    pub(crate) const STATED_MAX: usize = 2 * Self::FILTERS_MAX;
    /// The most ranges that a common scope of two such sides has.
    pub(crate) const RANGES_MAX: usize = 2 * Self::STATED_MAX;

    /// All topics.
    #[must_use]
    pub fn everything() -> Self {
        Self { filters: alloc::vec![TopicFilter::Everything] }
    }

    /// No topic.
    pub(crate) const fn nothing() -> Self {
        Self { filters: Vec::new() }
    }

    /// The topics that any of these filters matches: `team/planning`, `team/*`, `*`. The first is the most wanted.
    ///
    /// # Errors
    ///
    /// The fault in the first that is no filter, or that they are [too many](ScopeError::TooMany).
    pub fn of(filters: &[&str]) -> Result<Self, ScopeError> {
        let filters: Result<Vec<_>, _> = filters.iter().map(|filter| TopicFilter::new(filter)).collect();
        Self::from_filters(filters?)
    }

    /// As [`of`](Self::of), of filters that were read already.
    ///
    /// # Errors
    ///
    /// If they are [too many](ScopeError::TooMany).
    pub fn from_filters(filters: impl IntoIterator<Item = TopicFilter>) -> Result<Self, ScopeError> {
        let mut scope = Self::nothing();
        for filter in filters {
            scope.add(filter);
            if planted(Fault::FiltersAreLeftOut) {
                scope.filters.truncate(Self::FILTERS_MAX);
            }
            if scope.filters.len() > Self::FILTERS_MAX {
                return Err(ScopeError::TooMany { max: Self::FILTERS_MAX });
            }
        }
        Ok(scope)
    }

    /// Its filters, the most wanted first.
    pub fn filters(&self) -> impl Iterator<Item = &TopicFilter> {
        self.filters.iter()
    }

    /// Adds the least wanted filter.
    fn add(&mut self, filter: TopicFilter) {
        if !self.filters.iter().any(|there| there.covers(&filter)) {
            self.filters.push(filter);
        }
    }

    /// Whether these are all topics, in whichever order they are wanted.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.filters.contains(&TopicFilter::Everything)
    }

    /// Whether these are all topics and none is wanted more than another: a peer needs not be told.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.filters[..], [TopicFilter::Everything])
    }

    /// Whether a side of a session can state it.
    pub(crate) const fn can_be_stated(&self) -> bool {
        self.filters.len() <= Self::STATED_MAX
    }

    /// Whether a topic is among them.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        self.rank(topic).is_some()
    }

    /// The place of the first filter that matches: 0 is the most wanted.
    pub(crate) fn rank(&self, topic: &Topic) -> Option<usize> {
        let rank = self.filters.iter().position(|filter| filter.matches(topic));
        rank.map(|rank| if planted(Fault::ScopeHasNoOrder) { 0 } else { rank })
    }

    /// The topics that both want, the most wanted by this one first, and of those that it wants alike, by the other.
    ///
    /// They have at most as many filters as the two together.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let mut both = Self::nothing();
        for filter in &self.filters {
            for theirs in &other.filters {
                if theirs.covers(filter) {
                    both.add(filter.clone());
                } else if filter.covers(theirs) {
                    both.add(theirs.clone());
                }
            }
        }
        both
    }

    /// The ranges of the order of heads that they are: ascending, and none overlaps another.
    pub(crate) fn ranges(&self) -> Vec<KeyRange> {
        let range = |filter: &TopicFilter| match filter {
            TopicFilter::Everything => KeyRange::all(),
            TopicFilter::Topic(topic) => LogSet::scope_of(topic),
            TopicFilter::Within(topic) => LogSet::scope_within(topic),
        };
        let mut ranges: Vec<KeyRange> = self.filters.iter().map(range).collect();
        // Two filters have no topic in common, or one covers the other: then its range begins first or ends last.
        ranges.sort_by(|a, b| a.lower().cmp(b.lower()).then_with(|| b.contains(a).cmp(&a.contains(b))));
        ranges.dedup_by(|next, last| last.contains(next));
        ranges
    }

    /// The same for scopes of the same topics, in whichever order.
    pub(crate) fn name(&self) -> ScopeName {
        let mut hasher = blake3::Hasher::new_derive_key("consilience session scope v1");
        for range in self.ranges() {
            for bound in [range.lower(), range.upper().unwrap_or_default()] {
                hasher.update(&(bound.len() as u64).to_le_bytes()).update(bound);
            }
        }
        hasher.finalize().as_bytes().first_chunk().copied().unwrap_or_default()
    }

    /// The root over the heads of a set that they name.
    pub(crate) fn root(&self, set: &mut LogSet) -> [u8; 32] {
        if self.is_everything() { set.heads_root() } else { set.heads_root_within(&self.ranges()) }
    }

    /// Up to `max` and one logs with a head.
    pub(crate) fn logs(&self, set: &mut LogSet, max: usize) -> Vec<LogId> {
        let mut logs = Vec::new();
        for range in self.ranges() {
            let room = max.saturating_add(1).saturating_sub(logs.len());
            logs.extend(set.heads_within(&range).take(room));
        }
        logs
    }

    /// About how many bytes it takes to send all that a set holds of it, once.
    pub(crate) fn bytes(&self, set: &mut LogSet) -> u64 {
        if self.is_everything() {
            return set.bytes_to_send();
        }
        let within = |range| set.bytes_to_send_within(range);
        self.ranges().iter().map(within).fold(0, u64::saturating_add)
    }

    pub(crate) fn write(&self, bytes: &mut Vec<u8>) {
        put_varint(bytes, self.filters.len() as u64);
        for filter in &self.filters {
            let (kind, topic) = match filter {
                TopicFilter::Everything => (0, ""),
                TopicFilter::Topic(topic) => (1, topic.as_str()),
                TopicFilter::Within(topic) => (2, topic.as_str()),
            };
            bytes.push(kind);
            put_varint(bytes, topic.len() as u64);
            bytes.extend_from_slice(topic.as_bytes());
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.count(2)?;
        if count > Self::STATED_MAX {
            return Err(DecodeError::Limit);
        }
        let mut scope = Self::nothing();
        for at in 1..=count {
            let kind = reader.byte()?;
            let len = reader.count(1)?;
            let name = reader.take(len)?;
            let topic = || Topic::from_utf8(name).map_err(|_| DecodeError::NotCanonical);
            scope.add(match kind {
                0 if name.is_empty() => TopicFilter::Everything,
                1 => TopicFilter::Topic(topic()?),
                2 => TopicFilter::Within(topic()?),
                _ => return Err(DecodeError::Kind),
            });
            if scope.filters.len() != at {
                return Err(DecodeError::NotCanonical);
            }
        }
        Ok(scope)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::indexing_slicing, reason = "a panic fails the test")]

    use super::*;

    fn scope(filters: &[&str]) -> Scope {
        Scope::of(filters).unwrap()
    }

    #[test]
    fn two_scopes_meet_in_what_both_want() {
        for (a, b, both) in [
            (&["*"][..], &["*"][..], &["*"][..]),
            (&["*"], &["b", "a/*"], &["b", "a/*"]),
            (&["a/*"], &["a", "a/b", "b"], &["a", "a/b"]),
            (&["a", "b/*"], &["b/c/*", "a/*"], &["a", "b/c/*"]),
            (&["a"], &["b"], &[]),
        ] {
            assert_eq!(scope(a).meet(&scope(b)), scope(both), "{a:?} {b:?}");
            let back = scope(b).meet(&scope(a));
            let topics =
                ["a", "b", "a/b", "a/b/c", "b/c", "b/c/d", "c"].map(|name| Topic::new(name).unwrap());
            assert!(topics.iter().all(|topic| back.matches(topic) == scope(both).matches(topic)));
        }
        assert_eq!(scope(&["a/*", "a/b", "a", "a/*"]), scope(&["a/*"]));
    }

    #[test]
    fn a_broad_filter_leaves_those_before_it_their_rank() {
        let rank = |scope: &Scope, name| scope.rank(&Topic::new(name).unwrap());
        let wanted = scope(&["t/08", "t/05", "*"]);
        assert_eq!(alloc::format!("{wanted}"), "t/08, t/05, *");
        assert!(wanted.is_everything() && !wanted.is_plain());
        assert_eq!(
            ["t/08", "t/05", "t/01", "u"].map(|name| rank(&wanted, name)),
            [Some(0), Some(1), Some(2), Some(2)]
        );
        // Of all topics the one side wants, the other's order is left; where both have one, the first decides.
        assert_eq!(scope(&["*"]).meet(&wanted), wanted);
        assert_eq!(wanted.meet(&scope(&["t/*"])), scope(&["t/08", "t/05", "t/*"]));
        assert_eq!(scope(&["t/05", "t/*"]).meet(&wanted), scope(&["t/05", "t/08", "t/*"]));
        // It is one range, and has the name of all scopes of these topics.
        assert_eq!(wanted.ranges(), [KeyRange::all()]);
        assert_eq!(wanted.name(), Scope::everything().name());
        assert_eq!(scope(&["a/b/c", "b", "a/b/*", "a/*"]).ranges(), scope(&["a/*", "b"]).ranges());
        assert_eq!(scope(&["a", "a/*"]).ranges(), scope(&["a/*"]).ranges());
    }

    #[test]
    fn more_filters_than_fit_are_refused_and_not_cut() {
        let names: Vec<_> = (0..100).map(|number| alloc::format!("t/{number:02}")).collect();
        let filters: Vec<&str> = names.iter().map(|name| &**name).collect();
        let most = scope(&filters[..64]);
        assert_eq!(most.filters().count(), 64);
        for many in [65, 100] {
            assert_eq!(Scope::of(&filters[..many]), Err(ScopeError::TooMany { max: 64 }), "{many}");
        }
        assert_eq!(Scope::of(&["a", "a/"]), Err(ScopeError::Filter(TopicError::EmptyLevel)));
        // Those that an earlier one covers are none.
        let within: Vec<&str> = core::iter::once("t/*").chain(filters.iter().copied()).collect();
        assert_eq!(scope(&within), scope(&["t/*"]));
        // A host's 64, narrowed by 64 of its gate, can be stated, and a peer takes them.
        let gate: Vec<_> = (0..32).map(|number| alloc::format!("t/{number:02}/x")).collect();
        let halves: Vec<_> = (0..32).map(|number| alloc::format!("t/{number:02}/*")).collect();
        let host =
            Scope::of(&halves.iter().chain(&names[32..64]).map(|name| &**name).collect::<Vec<_>>()).unwrap();
        let allowed = gate.iter().map(|name| &**name).chain(["t/*"]).collect::<Vec<_>>();
        let both = Scope::of(&allowed).unwrap().meet(&host);
        assert_eq!(both.filters().count(), 96);
        assert!(both.can_be_stated());
        let mut bytes = Vec::new();
        both.write(&mut bytes);
        assert_eq!(Scope::read(&mut Reader::new(&bytes)), Ok(both));
    }

    #[test]
    fn a_scope_is_shown_as_it_is_written() {
        for (filters, shown) in [(&["*"][..], "*"), (&["b", "a/*"], "b, a/*"), (&[], "nothing")] {
            assert_eq!(alloc::format!("{}", scope(filters)), shown);
        }
    }

    #[test]
    fn a_scope_has_one_spelling() {
        for filters in [&["*"][..], &["b", "a/*"], &["a", "a/*", "b", "*"], &[]] {
            let mut bytes = Vec::new();
            scope(filters).write(&mut bytes);
            let mut reader = Reader::new(&bytes);
            assert_eq!(Scope::read(&mut reader), Ok(scope(filters)));
            assert!(reader.is_empty());
        }
        let covered = [2, 2, 1, b'a', 1, 1, b'a'];
        assert_eq!(Scope::read(&mut Reader::new(&covered)), Err(DecodeError::NotCanonical));
        assert_eq!(Scope::read(&mut Reader::new(&[1, 0, 1, b'a'])), Err(DecodeError::Kind));
        let most = |count: u8| {
            let names = (0..count).flat_map(|number| [1, 2, b'a' + number / 26, b'a' + number % 26]);
            [&[count][..], &names.collect::<Vec<_>>()].concat()
        };
        let varint = |mut bytes: Vec<u8>| {
            bytes.splice(..1, [0x80, 1]);
            bytes
        };
        assert!(Scope::read(&mut Reader::new(&most(127))).is_ok());
        assert!(Scope::read(&mut Reader::new(&varint(most(128)))).is_ok());
        let beyond = [&[0x81, 1][..], &most(129)[1..]].concat();
        assert_eq!(Scope::read(&mut Reader::new(&beyond)), Err(DecodeError::Limit));
    }

    #[test]
    fn the_ranges_of_a_scope_ascend() {
        let ranges = scope(&["b", "a/*", "a b"]).ranges();
        assert!(ranges.iter().zip(ranges.iter().skip(1)).all(|(a, b)| a.upper() <= Some(b.lower())));
    }
}
