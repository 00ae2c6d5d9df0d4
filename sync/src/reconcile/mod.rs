//! Set reconciliation.
mod index;
mod lthash;
mod mapping;
mod order;
mod range;
mod set;
mod short;
mod sketch;
mod slots;

pub use range::KeyRange;
pub use set::{InsertError, KEY_BYTES_MAX, ReconcileSet};
pub use short::ShortId;
