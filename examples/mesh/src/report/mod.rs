//! The outcome of a run, found out and shown.

pub(crate) mod html;
pub(crate) mod outcome;
pub(crate) mod plot;
pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod verdict;
