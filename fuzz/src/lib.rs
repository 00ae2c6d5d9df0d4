//! What the fuzz targets share: one face for map and set, the checks of bytes that claim to be one, a naive model of
//! both, and logs with the sessions between their copies.

pub mod collection;
pub mod decoding;
pub mod logs;
pub mod model;
pub mod session;
pub mod trace;
