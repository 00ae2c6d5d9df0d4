//! Coupling: bounded counters that decay, shared by many contributors.
//!
//! A [`Coupling`] says how strongly something is coupled: an agent to an agent, a topic, a file. Contributors
//! [strengthen](Coupling::strengthen) and [weaken](Coupling::weaken) a key, and all of it halves with one half-life.
//! Agents, peers and topics are not known here; neither is the clock: the host reads it and gives the time as `now`.
//!
//! ```
//! use consilience_crdts::{ActorId, Timestamp};
//! use consilience_crdts::coupling::{Coupling, CouplingSchema, Units};
//!
//! let schema = CouplingSchema::with_half_life(7 * 86_400_000)?;
//! let (ada, bob) = (ActorId::from(1), ActorId::from(2));
//! let (mut here, mut there) = (Coupling::new(schema), Coupling::new(schema));
//! let monday = Timestamp::from_secs(1_700_000_000);
//!
//! let ours = here.strengthen(ada, b"src/lib.rs", Units::new(3), monday)?;
//! let theirs = there.strengthen(bob, b"src/lib.rs", Units::new(5), monday)?;
//! here.merge(&theirs)?;
//! there.merge(&ours)?;
//!
//! assert_eq!(here, there);
//! let next_monday = monday.saturating_add_millis(7 * 86_400_000);
//! assert_eq!(format!("{:.3}", here.sum().value(b"src/lib.rs", next_monday)), "4.000");
//! assert_eq!(format!("{:.3}", here.by(&ada).value(b"src/lib.rs", next_monday)), "1.500");
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # The stored state
//!
//! For each key, contributor and sign one `u64`: the instant, in half-lives since the Unix epoch, at which that
//! contribution will have decayed to a grain, the floor's 2¹⁰th part. With one half-life for all, the order of two
//! contributions never changes with time; so the greater of two is the later instant, and a merge needs no clock
//! (forward decay: Cormode, Shkapenyuk, Srivastava and Xu 2009). The state is a map from (key, contributor, sign) to
//! instants under pointwise maximum, which is the invariant of this module and all that its laws rest on: joins are
//! commutative, associative and idempotent because the maximum is, and every mutator raises one instant.
//!
//! A value is `clamp(Σ strengthened − Σ weakened, 0, cap)`, and 0 where that is below the floor. The cap and the floor
//! apply to reads only: clamping the stored instants would make the outcome depend on the order of merges.
//!
//! # Exactness
//!
//! All arithmetic is on integers, so every machine reads the same. One step of an instant is 2⁻²⁴ half-lives, a
//! relative change of s = ln 2 · 2⁻²⁴ = 4.1e-8.
//!
//! - Every strengthening rounds its contributor's total to one of the two instants beside it: less than s of that
//!   total, which then decays along with it. Reading the time in steps costs at most s more. So after k increments a
//!   contribution is right to (k + 1) · s of itself, however large they were. The choice between the two instants looks
//!   random, so the errors mostly cancel, and their size grows as the square root of k (0.24 · s · √k without decay).
//!   After 200,000 increments, with and without decay, the tests measure at most 7.3e-6
//!   (`relative_error_stays_small_after_200k_increments`).
//! - While a contributor's total is within the cap, at most 2²⁰ floors, the error of one increment is at most 0.044
//!   floors: 2.2% of the smallest increment, two floors. Towards the limit of 2⁸ caps it grows to 11 floors, and
//!   increments below that may count for nothing there.
//! - A contribution that ends takes a grain out of a sum at once: n contributors are off by at most n/1024 floors.
//! - A reset is rounded up, so it reads 0 at once; it may overshoot by one step of its contributor's total, which the
//!   next strengthening pays: at most 0.044 floors while that total is within the cap. The sum stays at 0, because both
//!   sides decay by one factor. Two amounts can come back: the weakening of contributions that have ended, less than
//!   n/1024 floors, and the error of reads, 2⁻⁵⁷ of the total. For n < 1,024 contributors that total is below 2³⁸
//!   floors, so both together stay below the floor, and read as 0.
//!
//! # Saturation
//!
//! Time is good for 2⁴⁰ half-lives (35,000 years at the shortest); beyond that, and at `u64::MAX` milliseconds, it
//! stands still and everything reads 0. One contribution holds at most 2⁸ caps, so that a reset of several contributors
//! at the cap fits, and so do 2⁸ resets at the cap within a half-life; beyond that strengthenings and weakenings count
//! for nothing until some of the contribution has decayed. An instant from the future (a wrong clock, an attacker) is
//! merged like any other and reads as 2⁸ caps until its time has come: a host that knows when a contribution was
//! stamped asks [`CouplingSchema::admits`] first.

mod contribution;
mod decay;
mod delta;
mod exp2;
mod merge;
mod ops;
mod schema;
mod state;
mod units;
mod view;
mod wire;

pub use delta::CouplingDelta;
pub use merge::CouplingChange;
pub use ops::CouplingError;
pub use schema::{CouplingSchema, SchemaError, SchemaMismatch};
pub use state::{Coupling, CouplingCursor};
pub use units::Units;
pub use view::{CouplingContribution, CouplingContributions, CouplingValues, CouplingView};
