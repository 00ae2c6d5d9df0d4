//! [`Surface`]: the host's word on which content is shown.
//!
//! The invariant: content that is not shown is merged, stored and passed on all the same.

use alloc::boxed::Box;
use core::fmt;

use consilience_crdts::Hlc;
use consilience_sync::{AgentId, Topic};

use crate::payload::CollectionKind;

/// Something that is about to be shown: [`Replica::set_filter`](crate::Replica::set_filter) may keep it from being read or reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Surfaced<'a> {
    /// The topic.
    pub topic: &'a Topic,
    /// The collection; `None` for an event.
    pub collection: Option<(CollectionKind, &'a str)>,
    /// The key or element; empty for an event.
    pub key: &'a [u8],
    /// The value, or the event's payload.
    pub value: &'a [u8],
    /// The author.
    pub author: AgentId,
    /// The stamp.
    pub stamp: Hlc,
}

type Filter = Box<dyn Fn(&Surfaced<'_>) -> bool + Send>;

/// The content that may be shown: everything, unless the host has a filter.
#[derive(Default)]
pub(crate) struct Surface {
    filter: Option<Filter>,
}

impl fmt::Debug for Surface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surface").field("filters", &self.filters()).finish_non_exhaustive()
    }
}

impl Surface {
    pub(crate) fn set(&mut self, filter: impl Fn(&Surfaced<'_>) -> bool + Send + 'static) {
        self.filter = Some(Box::new(filter));
    }

    /// Whether there is a filter.
    pub(crate) const fn filters(&self) -> bool {
        self.filter.is_some()
    }

    pub(crate) fn shows(&self, surfaced: &Surfaced<'_>) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter(surfaced))
    }
}
