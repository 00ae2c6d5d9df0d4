//! Set reconciliation: finding the difference of two sets of ids, at a cost that follows the difference.
//!
//! This module is generic: an ordered set of 32-byte ids under order keys ([`ReconcileSet`]), and one state machine for
//! both sides of a conversation ([`Reconciliation`]). It performs no IO; messages come in and go out as bytes. The
//! meaning of the ids, and the transfer of the items, are the caller's business.
//!
//! **How it works.** *Equality* is decided by a collision-resistant root alone (LtHash, Lewi et al. 2019). *Small
//! differences* are read out of a rateless sketch (Yang et al. 2024), whose first cells each set keeps up to date. One
//! side opens with its root and 24 cells; the other decodes the difference, or estimates it and answers with as many
//! cells as that takes. *Differences that the sketch does not reach*, and parts of the order, are found by splitting
//! ranges and comparing salted fingerprints (Meyer 2023). `docs/wire/reconcile.md` has the bytes.
//!
//! **Results for each side.** `push`: ids of its own that the other lacks. `want`: short ids (8 bytes) of items that it
//! lacks itself; the whole id comes with the item. With [`Options::announce`] both sides learn both, otherwise the side
//! that was asked learns of the items that it lacks by receiving them.
//!
//! **Rounds.** Short ids can collide, sets change while messages travel, and peers lie. None of that is an error: when
//! the items have been exchanged the roots are compared again, and as long as they differ another round is made, with a
//! fresh salt. After two rounds that did not help, use [`Mode::Ranges`], which no collision of short ids misleads.
//!
//! | limit | value |
//! |---|---|
//! | order key | 0 to 176 bytes |
//! | items of a set | 2^32 - 2 |
//! | cells kept | 256, 2,048 from 4,097 items, 16,384 from 65,537, 65,536 from 524,289 |
//! | difference that the sketch reaches | about 190, 1,500, 12,000, 48,000; above it, ranges |
//! | message | 512 bytes to 1 MiB |
//!
//! Two sets meet:
//!
//! ```
//! use consilience_sync::reconcile::{Options, ReconcileSet, Reconciliation, Status};
//!
//! // Both share the key; the seed is each process's own randomness.
//! let mut here = ReconcileSet::new(&[7; 32], 1);
//! let mut there = ReconcileSet::new(&[7; 32], 2);
//! for n in 0..1_000_u32 {
//!     let id = *blake3::hash(&n.to_le_bytes()).as_bytes();
//!     if n != 5 {
//!         here.insert(b"", &id)?;
//!     }
//!     if n != 9 {
//!         there.insert(b"", &id)?;
//!     }
//! }
//!
//! // The salt comes from a nonce of each side.
//! let config = Options { salt: [3; 32], announce: true, ..Options::default() };
//! let (mut opener, first) = Reconciliation::start(&mut here, config.clone());
//! let mut other = Reconciliation::accept(config);
//!
//! // One message each way.
//! let answer = other.handle(&mut there, &first)?;
//! let end = opener.handle(&mut here, &answer.message.unwrap())?;
//! assert!(matches!(answer.status, Status::Done(_)) && matches!(end.status, Status::Done(_)));
//! assert_eq!((answer.push.len(), answer.want.len()), (1, 1));
//! assert_eq!(end.want, [there.short_id(&answer.push[0])]);
//!
//! // The host sends the items; then the sets are equal, and the roots say so.
//! there.insert(b"", &end.push[0])?;
//! here.insert(b"", &answer.push[0])?;
//! assert_eq!(here.root(), there.root());
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! The invariant: hints (short ids, sketches, fingerprints) decide which items are looked at and sent; only roots
//! decide which sets are equal. So a peer's statements cost bytes, within the limits, and never correctness.

mod config;
mod error;
mod estimate;
mod fingerprint;
mod index;
mod limits;
mod lthash;
mod machine;
mod mapping;
mod message;
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
mod task;

pub use config::{Mode, Options, Outcome, Report, Status, Step, StopReason};
pub use error::MessageError;
pub use limits::Limits;
pub(crate) use lthash::LtHash;
pub use machine::Reconciliation;
pub use range::{KEY_BYTES_MAX, KeyRange};
pub use set::{InsertError, ReconcileSet};
pub use short::ShortId;
