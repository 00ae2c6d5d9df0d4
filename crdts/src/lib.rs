//! CRDTs.
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

mod causal;
pub(crate) mod codec;
mod context;
pub mod coupling;
mod dot;
mod lww;
mod orset;
mod store;
mod time;

pub use causal::{Cursor, WriteError};
pub use codec::{DecodeError, KEY_BYTES_MAX, VALUE_BYTES_MAX};
pub use context::{CausalContext, VersionVector};
pub use coupling::{Coupling, CouplingDelta, CouplingSchema, Units};
pub use dot::{ActorId, COUNTER_MAX, Dot};
pub use lww::{LwwMap, MapChange, MapDelta};
pub use orset::{Elements, OrSet, SetChange, SetDelta};
pub use store::{DotStore, Entry, Iter, Stats};
pub use time::{Hlc, Timestamp};
