//! What the fuzz targets share: one face for map and set, the checks of bytes that claim to be one, a naive model of
//! both, logs with the sessions between their copies, sets that are reconciled, replicas with what they are told and
//! what they have stored, and a member that speaks with them.

pub mod collection;
mod context;
pub mod conversation;
mod coupling;
pub mod decoding;
mod evidence;
pub mod fixup;
pub mod keys;
pub mod logs;
pub mod model;
pub mod offers;
mod opening;
mod range;
pub mod reconcile;
pub mod replicas;
pub mod session;
pub mod targets;
pub mod trace;
pub mod whole;

pub use consilience_test_support::foe;
