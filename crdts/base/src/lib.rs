//! The leaf on which the crates of Consilience stand: one codec, and the clocks.
//!
//! - [`codec`]: canonical bytes are read and written with it; there is one [`DecodeError`].
//! - [`Timestamp`], a reading of the host's wall clock, and [`Hlc`], the hybrid logical clock that orders writes.
//!
//! What does not live here: dots, collections, keys, logs and their limits. A relay of logs needs this crate and no
//! collections.
//!
//! The invariant: nothing here reads a clock, or knows of the crates that use it.
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub mod codec;
mod time;

pub use codec::DecodeError;
pub use time::{Hlc, Timestamp};
