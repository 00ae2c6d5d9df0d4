//! [`Topic`]: a named part of a mesh.

use alloc::sync::Arc;
use core::cmp::Ordering;
use core::fmt;

/// A topic's name: 1 to 128 bytes of UTF-8 in levels separated by `/`, such as `team/planning`.
///
/// No level is empty, and no byte is below 0x20 or 0x7f. A level that is `*` alone is left to subscriptions.
///
/// Topics are ordered as bytes with `/` as 0x00. So a topic stands directly before those below it, and a topic with
/// all below it is one range: `a`, `a/b`, `a/c`, `a b`, `ab`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Topic(
    // Every change of a log names its topic: clones are made far more often than topics.
    Arc<str>,
);

/// Why a name is not one of a topic. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// It is empty or longer than 128 bytes.
    #[error("a topic has 1 to 128 bytes")]
    Length,
    /// It is not UTF-8.
    #[error("a topic is UTF-8")]
    NotUtf8,
    /// A level is empty: a `/` at the start, at the end or next to another.
    #[error("a level of the topic is empty")]
    EmptyLevel,
    /// It has a control character, or a level that is `*` alone.
    #[error("the topic has a control character or a level that is * alone")]
    Reserved,
}

impl Topic {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 128;

    /// Checks a name.
    ///
    /// # Errors
    ///
    /// The fault in the name; see [`TopicError`].
    pub fn new(name: &str) -> Result<Self, TopicError> {
        if name.is_empty() || name.len() > Self::BYTES_MAX {
            return Err(TopicError::Length);
        }
        if name.bytes().any(|byte| byte < 0x20 || byte == 0x7f) || name.split('/').any(|level| level == "*") {
            return Err(TopicError::Reserved);
        }
        if name.split('/').any(str::is_empty) {
            return Err(TopicError::EmptyLevel);
        }
        Ok(Self(name.into()))
    }

    /// Checks bytes that came from elsewhere.
    ///
    /// # Errors
    ///
    /// The fault in the bytes; see [`TopicError`].
    pub fn from_utf8(bytes: &[u8]) -> Result<Self, TopicError> {
        // The length first: the check below is linear in it.
        if bytes.len() > Self::BYTES_MAX {
            return Err(TopicError::Length);
        }
        Self::new(core::str::from_utf8(bytes).map_err(|_| TopicError::NotUtf8)?)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `other` or lies below it: `team/planning` is within `team`.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        match self.0.strip_prefix(&*other.0) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }
}

impl Ord for Topic {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.0 == other.0 {
            return Ordering::Equal;
        }
        let key = |byte| if byte == b'/' { 0 } else { byte };
        self.0.bytes().map(key).cmp(other.0.bytes().map(key))
    }
}

impl PartialOrd for Topic {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn a_topic_and_what_is_below_it_is_one_range() {
        let mut topics: Vec<Topic> =
            ["ab", "a/c", "a b", "a", "a/b", "a/b/c"].iter().map(|name| Topic::new(name).unwrap()).collect();
        topics.sort();
        let names: Vec<&str> = topics.iter().map(Topic::as_str).collect();
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/c", "a b", "ab"]);
        let within: Vec<bool> = topics.iter().map(|topic| topic.is_within(&topics[0])).collect();
        assert_eq!(within, [true, true, true, true, false, false]);
    }

    #[test]
    fn names_that_are_no_topics_are_refused() {
        for (name, error) in [
            ("", TopicError::Length),
            ("/", TopicError::EmptyLevel),
            ("a/", TopicError::EmptyLevel),
            ("a//b", TopicError::EmptyLevel),
            ("a\0b", TopicError::Reserved),
            ("team/*", TopicError::Reserved),
        ] {
            assert_eq!(Topic::new(name), Err(error), "{name:?}");
        }
        assert!(Topic::new(&"x".repeat(128)).is_ok());
        assert_eq!(Topic::new(&"x".repeat(129)), Err(TopicError::Length));
        assert_eq!(Topic::from_utf8(b"a\xff"), Err(TopicError::NotUtf8));
    }
}
