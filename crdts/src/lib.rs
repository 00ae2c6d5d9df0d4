//! Delta-state CRDTs over one compact arena: pure data, `no_std` with `alloc`.
//!
//! | type | content | concurrent writes |
//! |---|---|---|
//! | [`LwwMap`] | keys to values | the greatest stamp wins; all of them can be [seen](LwwMap::conflicts) |
//! | [`OrSet`] | elements | an insertion survives a removal |
//! | [`Coupling`] | counters that decay with a half-life | all count |
//!
//! Every one of them has mutators that return a *delta*, a `merge` that takes deltas and states alike, and
//! `delta_since` for a peer that was away. Merging is a join: commutative, associative, idempotent. So deltas may be
//! lost (and repaired by a later `delta_since` or a whole state), repeated and reordered, and replicas that have
//! merged the same writes hold the same state, with the same bytes.
//!
//! # Two replicas
//!
//! ```
//! use consilience_crdts::{ActorId, LwwMap, Hlc, Timestamp, OrSet};
//!
//! let (ada, bob) = (ActorId::from(1), ActorId::from(2));
//! let (mut here, mut there) = (OrSet::new(), OrSet::new());
//! let a = here.insert(ada, b"ada")?;
//! let b = there.insert(bob, b"bob")?;
//! here.merge(&b);
//! there.merge(&a);
//! assert!(here.iter().eq([&b"ada"[..], b"bob"]));
//! assert_eq!(here.encode(), there.encode());
//! # Ok::<(), consilience_crdts::WriteError>(())
//! ```
//!
//! # Time
//!
//! Nothing here reads a clock. [`Timestamp`] is a reading of the host's wall clock, in milliseconds. [`Hlc`] is the
//! hybrid logical clock that stamps writes; it decides between concurrent writes of one key and nothing else, since a
//! write that saw another one beats it, however the clocks stood. Couplings decay by the `now` that is passed to each
//! read.
//!
//! # Bytes
//!
//! Each type has one canonical byte form, the same through `encode` and through serde. Decoding checks all of it and
//! refuses anything that would not encode to the same bytes; it allocates in proportion to the input; a refused input
//! changes nothing. `docs/wire/collections.md` in the repository has the layout.
//!
//! # Limits
//!
//! Keys and elements [`KEY_BYTES_MAX`] bytes, values [`VALUE_BYTES_MAX`], [`COUNTER_MAX`] writes an actor, 2³² − 2
//! live dots a collection.
//!
//! # Out of scope
//!
//! The crate authenticates nobody: a peer whose deltas are merged can name any actor and remove anything, so merge only
//! deltas of trusted peers. It sends nothing and stores nothing. Values are opaque and replaced whole; there is no text
//! or list type.
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub(crate) mod bytes;
mod causal;
mod context;
pub mod coupling;
mod dot;
mod lww;
mod orset;
mod store;

#[doc(hidden)]
pub use consilience_base::planted;
pub use consilience_base::{DecodeError, Hlc, Timestamp};

pub use bytes::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
pub use causal::{Cursor, WriteError};
pub use context::{CausalContext, VersionVector};
pub use coupling::{Coupling, CouplingDelta, CouplingSchema, Units};
pub use dot::{ActorId, COUNTER_MAX, Dot};
pub use lww::{LwwMap, MapChange, MapDelta};
pub use orset::{Elements, OrSet, SetChange, SetDelta};
pub use store::{DotStore, Iter, LiveDot, Stats};
