//! What the fuzz targets share: one face for map and set, the checks of bytes that claim to be one, a naive model of
//! both, logs with the sessions between their copies, sets that are reconciled, and replicas with what they are told and
//! what they have stored.

pub mod collection;
pub mod decoding;
pub mod logs;
pub mod model;
pub mod offers;
pub mod reconcile;
pub mod replicas;
pub mod session;
pub mod trace;
