//! [`TopicFilter`]: the topics in which a subscriber is interested.

use core::fmt;

use super::{Topic, TopicError};

/// One topic (`team/planning`), a topic and all below it (`team/*`), or all (`*`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopicFilter {
    /// All topics.
    Everything,
    /// This topic.
    Topic(Topic),
    /// This topic and all below it.
    Within(Topic),
}

impl TopicFilter {
    /// Reads a filter as it is written in text.
    ///
    /// # Errors
    ///
    /// If it is none; see [`TopicError`].
    pub fn new(filter: &str) -> Result<Self, TopicError> {
        Ok(match filter.strip_suffix("/*") {
            _ if filter == "*" => Self::Everything,
            Some(topic) => Self::Within(Topic::new(topic)?),
            None => Self::Topic(Topic::new(filter)?),
        })
    }

    /// Whether a topic is wanted.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        match self {
            Self::Everything => true,
            Self::Topic(wanted) => wanted == topic,
            Self::Within(wanted) => topic.is_within(wanted),
        }
    }

    /// Whether every topic that `other` matches is matched by this as well.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match other {
            Self::Everything => *self == Self::Everything,
            Self::Topic(topic) => self.matches(topic),
            Self::Within(topic) => !matches!(self, Self::Topic(_)) && self.matches(topic),
        }
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("*"),
            Self::Topic(topic) => topic.fmt(f),
            Self::Within(topic) => write!(f, "{topic}/*"),
        }
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
