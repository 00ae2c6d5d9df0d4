//! Replicas: random histories against a naive fold of everything that was ever written, and the promises one by one.
//!
//! `CONSILIENCE_CASES` sets the number of random histories; a failure prints the seed that replays it.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a panic is how a test fails")]
#![expect(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "tests have a standard library"
)]

#[path = "replica/bundles.rs"]
mod bundles;
#[path = "replica/clocks.rs"]
mod clocks;
#[path = "replica/closures.rs"]
mod closures;
#[path = "replica/couplings.rs"]
mod couplings;
#[path = "replica/digests.rs"]
mod digests;
#[path = "replica/events.rs"]
mod events;
#[path = "replica/forks.rs"]
mod forks;
#[path = "replica/histories.rs"]
mod histories;
#[path = "replica/limits.rs"]
mod limits;
#[path = "replica/named.rs"]
mod named;
#[path = "replica/notices.rs"]
mod notices;
#[path = "replica/openings.rs"]
mod openings;
#[path = "replica/restarts.rs"]
mod restarts;

use consilience_test_support::{hand, replicas as world};
