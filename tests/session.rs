//! Sessions between replicas and relays, on a simulated network.
#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a panic is how a test fails")]
#![expect(unreachable_pub, reason = "one binary, and its modules share a world")]
#![expect(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "tests have a standard library"
)]

#[path = "session/contact.rs"]
mod contact;
#[path = "session/hostile.rs"]
mod hostile;
#[path = "session/limits.rs"]
mod limits;
#[path = "session/meet.rs"]
mod meet;
#[path = "session/openings.rs"]
mod openings;
#[path = "session/outside.rs"]
mod outside;
#[path = "session/path.rs"]
mod path;
#[path = "session/replays.rs"]
mod replays;
#[path = "session/resume.rs"]
mod resume;
#[path = "session/scopes.rs"]
mod scopes;
#[path = "session/world.rs"]
mod world;

use consilience_test_support::{foe, hand, noise, replicas};
