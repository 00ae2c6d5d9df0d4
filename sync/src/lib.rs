//! Signed logs, set reconciliation and the sessions that carry them, for whatever an application puts into its logs.
//!
//! What will live here:
//!
//! - **Signed logs**: append-only sequences, one writer each, in which one signature covers everything below it; ranges
//!   of entries with their proofs, consistency proofs, and portable evidence of forks.
//! - **Reconciliation**: finding what two peers do not share, at a cost that follows the difference and not the size:
//!   a root for equality, a sketch for small differences, ranges for large ones.
//! - **Sessions**: handshake, frames in, frames out. Nothing here opens a connection, reads a clock, draws randomness
//!   or stores anything; the host does.
//!
//! What does not: maps, sets, counters and what a payload means. A relay that passes on what it must not read needs
//! only this crate.
//!
//! The invariant: payloads are opaque. They are carried, hashed and compared as the bytes that were received, and no
//! decision depends on what is in them.
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub mod reconcile;
