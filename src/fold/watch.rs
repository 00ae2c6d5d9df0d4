//! The changes since the host last looked: keys whose winner may be another one, each once, with the winner before.
//!
//! The invariant: at most one note for each key, made before its first change.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use consilience_crdts::{Dot, Hlc};

use super::collection::{Collection, Table};

/// The content of a key before: its winning dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Winner {
    pub(crate) value: Box<[u8]>,
    pub(crate) dot: Dot,
    pub(crate) stamp: Hlc,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    touched: BTreeMap<(usize, Box<[u8]>), Option<Winner>>,
}

/// The winner of a key now.
pub(crate) fn winner(collection: &Collection, key: &[u8]) -> Option<Winner> {
    let Table::Dots(dots) = &collection.table else { return None };
    let entry = dots.live.get(key)?;
    Some(Winner { value: entry.value.into(), dot: entry.dot, stamp: entry.stamp })
}

impl Watch {
    pub(crate) fn touch(&mut self, index: usize, key: &[u8], collection: &Collection) {
        self.touched.entry((index, key.into())).or_insert_with(|| winner(collection, key));
    }

    /// The next key that was touched: its collection, itself, and the winner before.
    pub(crate) fn pop(&mut self) -> Option<(usize, Box<[u8]>, Option<Winner>)> {
        self.touched.pop_first().map(|((index, key), was)| (index, key, was))
    }
}
