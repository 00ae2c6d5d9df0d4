//! Shared state for a mesh of agents, without IO.
//!
//! Agents write while offline, sleep for days, meet over any network and distrust the relays between them, and still
//! come to the same conclusion. This crate is what a host program links. It reads no clock, opens no socket and
//! starts no thread: the host gives bytes and the time, and takes bytes away.
//!
//! What is here so far is the data, [`crdts`]: the last-writer-wins map, the observed-remove set and the decaying
//! coupling counters, with deltas that can be lost, repeated and reordered; and signed logs, in [`sync`], which another
//! machine can check without trusting whoever handed them over. The replica that folds logs into collections belongs to
//! this crate, and is not there yet.
//!
//! ```
//! use consilience::crdts::{ActorId, Hlc, LwwMap, Timestamp};
//!
//! let (ada, bob) = (ActorId::from(1), ActorId::from(2));
//! let (mut here, mut there) = (LwwMap::new(), LwwMap::new());
//! let mut clock = Hlc::ZERO;
//!
//! // Both write while they cannot reach each other.
//! let now = Timestamp::from_millis(1_700_000_000_000);
//! let ours = here.set(ada, b"task/1", b"draft the plan", clock.tick(now))?;
//! let theirs = there.set(bob, b"task/2", b"book a room", clock.tick(now))?;
//!
//! // The deltas cross, one of them twice. Any transport will do: they are bytes.
//! there.merge_encoded(ours.as_bytes())?;
//! there.merge_encoded(ours.as_bytes())?;
//! here.merge_encoded(theirs.as_bytes())?;
//! assert_eq!(here, there);
//! assert_eq!(here.get(b"task/2"), Some(&b"book a room"[..]));
//!
//! // A peer that was away gets what it missed, joined into one delta.
//! let cursor = here.cursor();
//! here.remove(b"task/1");
//! here.set(ada, b"task/3", b"sleep", clock.tick(now))?;
//! there.merge(&here.delta_since(cursor));
//! assert_eq!(there.iter().count(), 2);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `std` | yes | conversions from the standard library's types; all else is `no_std` with `alloc` |
#![cfg_attr(not(feature = "std"), no_std)]

pub use consilience_crdts as crdts;
pub use consilience_sync as sync;

/// The README's example, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
