//! The file store on a disk that loses power between any two effects, keeps any part of what was not synced, tears
//! writes at every byte, and fails; and in a real folder.
//!
//! `CONSILIENCE_CASES` sets the number of random histories; a failure prints the seed that replays it.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a panic is how a test fails")]
#![expect(clippy::std_instead_of_core, reason = "tests have a standard library")]

#[path = "store/folder.rs"]
mod folder;
#[path = "store/power.rs"]
mod power;

use consilience_test_support::{disk as simulated, logsets as world};
