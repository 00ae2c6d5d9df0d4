//! [`Collection`]: one collection of a topic, with the table of its dots or contributions.

use alloc::boxed::Box;

use super::coupling_table::CouplingTable;
use super::dots::Dots;
use crate::payload::CollectionId;

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
