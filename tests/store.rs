//! The file store on a disk that loses power between any two effects, keeps any part of what was not synced, tears
//! writes at every byte, fails, is full, and changes bytes at rest; and in a real folder.
//!
//! `CONSILIENCE_CASES` sets the number of random histories; a failure prints the seed that replays it.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a panic is how a test fails")]
#![expect(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "tests have a standard library"
)]
#![expect(unreachable_pub, reason = "one binary, and its modules share a world")]

#[path = "store/damage.rs"]
mod damage;
#[path = "store/folder.rs"]
mod folder;
#[path = "store/format.rs"]
mod format;
#[path = "store/full.rs"]
mod full;
#[path = "store/power.rs"]
mod power;
#[path = "store/secrets.rs"]
mod secrets;
#[path = "store/stopped.rs"]
mod stopped;

use consilience_test_support::{disk as simulated, logsets as world, replicas};
