//! The leaf on which the crates of Consilience stand: one codec, and the clocks. `no_std` with `alloc`.
//!
//! - [`codec`]: the one reader and the one writer of canonical bytes, with one [`DecodeError`].
//! - [`Timestamp`], a reading of the host's wall clock in milliseconds, and [`Hlc`], the hybrid logical clock that
//!   orders writes.
//!
//! Dots, collections, keys, logs and their limits do not live here. A relay of logs needs this crate and no
//! collections.
//!
//! The invariant: nothing here reads a clock, or knows of the crates that use it.
//!
//! # A stamp as bytes
//!
//! ```
//! use consilience_base::codec::{DecodeError, Reader, put_varint};
//! use consilience_base::{Hlc, Timestamp};
//!
//! let mut clock = Hlc::ZERO;
//! let stamp = clock.tick(Timestamp::from_millis(1_700_000_000_000));
//! let mut bytes = Vec::new();
//! put_varint(&mut bytes, stamp.to_bits());
//!
//! let mut reader = Reader::new(&bytes);
//! assert_eq!(Hlc::from_bits(reader.varint()?), stamp);
//! reader.finish()?;
//! assert_eq!(Reader::new(&bytes[1..3]).varint(), Err(DecodeError::Truncated));
//! # Ok::<(), DecodeError>(())
//! ```
//!
//! | feature | adds |
//! |---|---|
//! | `std` (default) | `From<SystemTime>` for [`Timestamp`] |
//! | `serde` | serde for the clocks: each is its number |
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub mod codec;
#[doc(hidden)]
pub mod planted;
mod time;

pub use codec::DecodeError;
pub use time::{Hlc, Timestamp};
