//! [`Scope`]: the topics that a session is about.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;
use core::fmt;

use crate::codec::{DecodeError, Reader, put_varint};
use crate::identity::{LogId, Topic, TopicError, TopicFilter};
use crate::logset::LogSet;
use crate::reconcile::KeyRange;

/// The same for scopes of the same topics: the first bytes of a hash.
pub(crate) type ScopeName = [u8; 8];

/// The topics that one side of a session wants, the most wanted first: up to 64 topics and topics with all below them,
/// or everything. A session speaks of the topics that both sides want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// None of them is covered by another.
    filters: Vec<TopicFilter>,
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
    /// The most filters that a scope may have.
    pub const FILTERS_MAX: usize = 64;

    /// All topics.
    #[must_use]
    pub fn everything() -> Self {
        Self { filters: alloc::vec![TopicFilter::Everything] }
    }

    /// The topics that any of these filters matches: `team/planning`, `team/*`, `*`. The first is the most wanted. Of more
    /// than 64 the first 64 count.
    ///
    /// # Errors
    ///
    /// The first that is no filter.
    pub fn of(filters: &[&str]) -> Result<Self, TopicError> {
        let filters: Result<Vec<_>, _> = filters.iter().map(|filter| TopicFilter::new(filter)).collect();
        Ok(Self::from_filters(filters?))
    }

    /// As [`of`](Self::of), of filters that were read already.
    #[must_use]
    pub fn from_filters(filters: impl IntoIterator<Item = TopicFilter>) -> Self {
        let mut scope = Self { filters: Vec::new() };
        for filter in filters {
            if scope.filters.len() >= Self::FILTERS_MAX {
                break;
            }
            scope.add(filter);
        }
        scope
    }

    fn add(&mut self, filter: TopicFilter) {
        if !self.filters.iter().any(|there| there.covers(&filter)) {
            self.filters.retain(|there| !filter.covers(there));
            self.filters.push(filter);
        }
    }

    /// Whether these are all topics.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.filters == [TopicFilter::Everything]
    }

    /// Whether a topic is among them.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        self.rank(topic).is_some()
    }

    /// The place of the first filter that matches: 0 is the most wanted.
    pub(crate) fn rank(&self, topic: &Topic) -> Option<usize> {
        self.filters.iter().position(|filter| filter.matches(topic))
    }

    /// The topics that both want, in the order of the first.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let mut both = Self { filters: Vec::new() };
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
        ranges.sort_by(|a, b| a.lower().cmp(b.lower()));
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
        if count > Self::FILTERS_MAX {
            return Err(DecodeError::Limit);
        }
        let mut scope = Self { filters: Vec::new() };
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
        assert_eq!(scope(&["a/b", "a/*", "a"]), scope(&["a/*"]));
    }

    #[test]
    fn a_scope_is_shown_as_it_is_written() {
        for (filters, shown) in [(&["*"][..], "*"), (&["b", "a/*"], "b, a/*"), (&[], "nothing")] {
            assert_eq!(alloc::format!("{}", scope(filters)), shown);
        }
    }

    #[test]
    fn a_scope_has_one_spelling() {
        for filters in [&["*"][..], &["b", "a/*"], &[]] {
            let mut bytes = Vec::new();
            scope(filters).write(&mut bytes);
            let mut reader = Reader::new(&bytes);
            assert_eq!(Scope::read(&mut reader), Ok(scope(filters)));
            assert!(reader.is_empty());
        }
        let covered = [2, 2, 1, b'a', 1, 1, b'a'];
        assert_eq!(Scope::read(&mut Reader::new(&covered)), Err(DecodeError::NotCanonical));
        assert_eq!(Scope::read(&mut Reader::new(&[1, 0, 1, b'a'])), Err(DecodeError::Kind));
        assert_eq!(Scope::read(&mut Reader::new(&[65; 200])), Err(DecodeError::Limit));
    }

    #[test]
    fn the_ranges_of_a_scope_ascend() {
        let ranges = scope(&["b", "a/*", "a b"]).ranges();
        assert!(ranges.iter().zip(ranges.iter().skip(1)).all(|(a, b)| a.upper() <= Some(b.lower())));
    }
}
