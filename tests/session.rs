//! Sessions between replicas and relays, on a simulated network.
#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a panic is how a test fails")]
#![expect(unreachable_pub, reason = "one binary, and its modules share a world")]
#![expect(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "tests have a standard library"
)]

#[path = "support/src/foe.rs"]
mod foe;
#[allow(dead_code, reason = "the tests of replicas alone take more of it")]
#[path = "support/src/hand.rs"]
mod hand;
#[path = "session/hostile.rs"]
mod hostile;
#[path = "session/meet.rs"]
mod meet;
#[path = "session/mesh.rs"]
mod mesh;
#[path = "session/outside.rs"]
mod outside;
#[allow(dead_code, reason = "the tests of replicas alone take more of it")]
#[path = "support/src/replicas.rs"]
mod replicas;
#[path = "session/scopes.rs"]
mod scopes;
#[path = "session/world.rs"]
mod world;
