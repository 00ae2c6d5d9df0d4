//! The journal: what storage may do to it, and what comes back. Torn at every byte, one bit flipped at every bit, records
//! missing, doubled and in another order; and random sets of logs that come back as they were.
//!
//! `CONSILIENCE_CASES` sets the number of random histories a property runs; a failure prints the seed that replays it.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a panic is how a test fails")]

#[path = "journal/bytes.rs"]
mod bytes;
#[path = "journal/format.rs"]
mod format;
#[path = "journal/sets.rs"]
mod sets;

use consilience_test_support::{histories as model, logsets as world};
