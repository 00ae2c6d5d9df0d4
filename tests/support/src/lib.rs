//! The code that several test binaries of this workspace share. Nothing else depends on it.
//!
//! | module | feature | what it gives |
//! |---|---|---|
//! | [`dice`] | | random numbers that a seed replays, and the loop over seeds |
//! | [`vectors`] | | the format of the files of golden and malformed bytes |
//! | `collections` | `crdts` | one face for map and set, and the naive model that judges them |
//! | `logsets` | `sync` | sets of logs that tell each other everything, and a consumer that follows one |
//! | `histories` | `sync` | random histories of honest and cloned writers over a bad network |
//! | `foe` | `sync` | a speaker of the session protocol that may lie |
//! | `replicas` | `replica` | replicas with storage in memory |
//! | `meetings` | `replica` | a session in memory between a replica and a relay |
//! | `hand` | `replica` | a member that writes payloads and bundles byte by byte |
//! | `disk` | `disk` | a disk in memory that knows what is durable |
//!
//! Tests themselves, and code that only one test binary needs, live beside that binary. A model here shares no code
//! with the library that it judges.
//!
//! All features at once need the three crates; a crate's own tests name only the features that they use, so that
//! `cargo test -p` of one crate builds no crate above it.

#![allow(clippy::std_instead_of_alloc, clippy::std_instead_of_core, reason = "tests have a standard library")]
#![allow(clippy::cast_possible_truncation, reason = "test data is small, or cut on purpose")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

#[cfg(feature = "crdts")]
pub mod collections;
pub mod dice;
#[cfg(feature = "disk")]
pub mod disk;
#[cfg(feature = "sync")]
pub mod foe;
#[cfg(feature = "replica")]
pub mod hand;
#[cfg(feature = "sync")]
pub mod histories;
#[cfg(feature = "sync")]
pub mod logsets;
#[cfg(feature = "replica")]
pub mod meetings;
#[cfg(feature = "sync")]
pub mod noise;
#[cfg(feature = "replica")]
pub mod replicas;
pub mod vectors;
