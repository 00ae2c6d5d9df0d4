//! Sets of logs among several replicas: forks in every order of delivery, backups that were restored, random histories
//! against a consumer that only follows the changes, and the bounds that hostile peers meet.
//!
//! `CONSILIENCE_CASES` sets the number of random histories a property runs; a failure prints the seed that replays it.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a panic is how a test fails")]
#![expect(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "tests have a standard library"
)]

#[path = "logset/admission.rs"]
mod admission;
#[path = "logset/bounds.rs"]
mod bounds;
#[path = "logset/forks.rs"]
mod forks;
#[path = "logset/future.rs"]
mod future;
#[path = "logset/heads.rs"]
mod heads;
#[path = "logset/histories.rs"]
mod histories;
#[path = "logset/local.rs"]
mod local;
#[path = "logset/model.rs"]
mod model;
#[path = "logset/offers.rs"]
mod offers;
#[path = "logset/openings.rs"]
mod openings;
#[path = "logset/pruned.rs"]
mod pruned;
#[path = "logset/quotas.rs"]
mod quotas;
#[path = "logset/replayed.rs"]
mod replayed;
#[path = "logset/restored.rs"]
mod restored;
#[path = "logset/succession.rs"]
mod succession;

use consilience_test_support::logsets as world;
