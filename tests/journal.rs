//! The journal: what storage may do to it, and what comes back. Torn at every byte, one bit flipped at every bit, records
//! missing, doubled and in another order; and random sets of logs that come back as they were.
//!
//! `CONSILIENCE_CASES` sets the number of random histories a property runs; a failure prints the seed that replays it.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a panic is how a test fails")]
#![expect(unreachable_pub, reason = "one binary, and its modules share a world")]
#![expect(clippy::std_instead_of_alloc, reason = "tests have a standard library")]

#[path = "journal/bytes.rs"]
mod bytes;
#[path = "journal/format.rs"]
mod format;
#[allow(dead_code, reason = "the model's own tests run elsewhere")]
#[path = "support/src/histories.rs"]
mod model;
#[path = "journal/sets.rs"]
mod sets;
#[allow(dead_code, reason = "each test binary takes its part of it")]
#[path = "support/src/logsets.rs"]
mod world;
