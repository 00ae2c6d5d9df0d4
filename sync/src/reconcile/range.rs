//! Places in the order of a set, and the ranges between them.
//!
//! The invariant: a bound is a byte string that items compare with as `key ‖ id` does; it need not be an item's.

use alloc::vec::Vec;

/// The longest order key, in bytes: a topic, a separator and the id of a log, with room to spare.
pub const KEY_BYTES_MAX: usize = 176;

/// The longest bound: a key and an id.
pub(super) const BOUND_BYTES_MAX: usize = KEY_BYTES_MAX + 32;

/// The items whose `key ‖ id` is at least the lower bound and below the upper one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRange {
    pub(super) lower: Vec<u8>,
    /// `None` has no end.
    pub(super) upper: Option<Vec<u8>>,
}

impl KeyRange {
    /// Everything.
    #[must_use]
    pub const fn all() -> Self {
        Self { lower: Vec::new(), upper: None }
    }

    /// From `lower` up to, and without, `upper`. `None` if they are not in order or longer than a key and an id.
    #[must_use]
    pub fn between(lower: &[u8], upper: Option<&[u8]>) -> Option<Self> {
        let fits = lower.len() <= BOUND_BYTES_MAX && upper.is_none_or(|upper| upper.len() <= BOUND_BYTES_MAX);
        let ordered = upper.is_none_or(|upper| lower < upper);
        (fits && ordered).then(|| Self { lower: lower.into(), upper: upper.map(Into::into) })
    }

    /// All items whose `key ‖ id` begins with these bytes. `None` if they are longer than a key and an id.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Option<Self> {
        if prefix.len() > BOUND_BYTES_MAX {
            return None;
        }
        // The first string after all that begin so: the last byte that can rise does, and the bytes after it go.
        let kept = prefix.iter().rposition(|&byte| byte < u8::MAX);
        let upper = kept.map(|at| {
            let mut upper = prefix[..=at].to_vec();
            upper[at] += 1;
            upper
        });
        Some(Self { lower: prefix.into(), upper })
    }

    /// Whether it is the range of everything.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.lower.is_empty() && self.upper.is_none()
    }

    /// Whether all of `other` lies inside.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        let ends_inside = match (&self.upper, &other.upper) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(other)) => other <= own,
        };
        self.lower <= other.lower && ends_inside
    }

    /// The first place inside.
    #[must_use]
    pub fn lower(&self) -> &[u8] {
        &self.lower
    }

    /// The first place after the range, if there is an end.
    #[must_use]
    pub fn upper(&self) -> Option<&[u8]> {
        self.upper.as_deref()
    }
}

impl Default for KeyRange {
    fn default() -> Self {
        Self::all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_the_next_one_begins() {
        let upper = |prefix: &[u8]| KeyRange::prefix(prefix).unwrap().upper;
        assert_eq!(upper(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(upper(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(upper(b"\xff\xff"), None);
        assert_eq!(KeyRange::prefix(b""), Some(KeyRange::all()));
        assert_eq!(KeyRange::between(b"b", Some(b"a")), None);
        assert_eq!(KeyRange::between(b"b", Some(b"b")), None);
        assert_eq!(KeyRange::between(&[0; 300], None), None);
    }
}
