//! One log: its proofs against a naive model of RFC 6962 and RFC 9162, hostile bytes, and the traps that a log must not
//! fall into.
//!
//! `CONSILIENCE_CASES` sets the number of random cases per property, 400 of it for each case here (10,000 without it):
//! one case builds logs of thousands of entries.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![expect(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::cast_possible_truncation,
    reason = "tests have a standard library, and numbers that are small"
)]

#[path = "log/bases.rs"]
mod bases;
#[path = "log/common.rs"]
mod common;
#[path = "log/curve.rs"]
mod curve;
#[path = "log/flips.rs"]
mod flips;
#[path = "log/forks.rs"]
mod forks;
#[path = "log/plain.rs"]
mod plain;
#[path = "log/proofs.rs"]
mod proofs;
#[path = "log/random.rs"]
mod random;
#[path = "log/search.rs"]
mod search;
#[path = "log/spelling.rs"]
mod spelling;
#[path = "log/staging.rs"]
mod staging;
#[path = "log/writer.rs"]
mod writer;
