//! Replicas and relays on storage that loses power between any two effects: nothing confirmed is lost, nothing honest
//! forks, and what comes back is what the durable records say. Once with records in a row of bytes, once through the file store on
//! a simulated disk; and with the disk's effects recorded once and an image of each loss of power, at some hundred thousand
//! places (`matrix`, which has the command).
//!
//! `CONSILIENCE_CASES` sets the number of random subsets tried at each effect; a failure names the effect.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![expect(unreachable_pub, reason = "one binary, and its modules share a world")]
#![expect(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "tests have a standard library"
)]

#[path = "crash/agents.rs"]
mod agents;
#[cfg(feature = "file-store")]
#[path = "crash/files.rs"]
mod files;
#[cfg(feature = "file-store")]
#[path = "crash/matrix.rs"]
mod matrix;
#[path = "crash/records.rs"]
mod records;
#[path = "crash/relay.rs"]
mod relay;
#[path = "crash/watch.rs"]
mod watch;
#[path = "crash/workload.rs"]
mod workload;

#[cfg(feature = "file-store")]
use consilience_test_support::disk as simulated;
use consilience_test_support::meetings;
use consilience_test_support::replicas as world;
