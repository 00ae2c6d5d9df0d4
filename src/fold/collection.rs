//! [`Collection`]: one collection of a topic, with the table of its dots or contributions.
//!
//! The invariant: a collection is there only while a retained entry lists, names or states something in it.

use alloc::boxed::Box;

use super::coupling_table::CouplingTable;
use super::dots::Dots;
use crate::payload::{CollectionId, CollectionKind};
use consilience_sync::planted::{Fault, planted};

#[derive(Clone, Debug)]
pub(crate) enum Table {
    Dots(Box<Dots>),
    CouplingTable(Box<CouplingTable>),
}

#[derive(Clone, Debug)]
pub(crate) struct Collection {
    pub(crate) id: CollectionId,
    pub(crate) table: Table,
}

impl Collection {
    /// A collection without anything. `seed` keys the hashes of its tables.
    pub(crate) fn new(id: CollectionId, seed: u64) -> Self {
        let table = match id.schema() {
            Some(schema) if id.kind() == CollectionKind::Coupling => {
                Table::CouplingTable(Box::new(CouplingTable::new(schema)))
            }
            _ => Table::Dots(Box::new(Dots::new(seed))),
        };
        Self { id, table }
    }
}

impl Table {
    /// Whether it is as if it were new.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Dots(dots) => dots.is_empty(),
            Self::CouplingTable(couplings) => couplings.is_empty(),
        }
    }

    /// Gives back the memory of content that is gone.
    pub(crate) fn shrink(&mut self) {
        if let Self::Dots(dots) = self
            && !planted(Fault::TablesDoNotShrink)
        {
            dots.shrink();
        }
    }
}
