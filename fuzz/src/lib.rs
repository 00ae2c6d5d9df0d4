//! What the fuzz targets share: one face for map and set, the checks of bytes that claim to be one, and a naive
//! model of both.

pub mod collection;
pub mod decoding;
pub mod model;
pub mod trace;
