//! What the fuzz targets share: one face for map and set, the checks of bytes that claim to be one, a naive model of
//! both, logs with the sessions between their copies, sets that are reconciled, replicas with what they are told and
//! what they have stored, and a member that speaks with them.

pub mod collection;
pub mod conversation;
pub mod decoding;
pub mod logs;
pub mod model;
pub mod offers;
pub mod reconcile;
pub mod replicas;
pub mod session;
pub mod trace;

pub use consilience_test_support::foe;
