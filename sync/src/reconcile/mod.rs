//! Set reconciliation.
mod codec;
mod config;
mod estimate;
mod fingerprint;
mod frame;
mod index;
mod limits;
mod lthash;
mod machine;
mod mapping;
mod order;
mod peel;
mod plan;
mod range;
mod ranging;
mod set;
mod short;
mod sketch;
mod slots;
mod state;

pub use codec::FrameError;
pub use config::{Config, Mode, Outcome, Report, Status, Step, StopReason};
pub use limits::Limits;
pub use machine::Reconciliation;
pub use range::KeyRange;
pub use set::{InsertError, KEY_BYTES_MAX, ReconcileSet};
pub use short::ShortId;
