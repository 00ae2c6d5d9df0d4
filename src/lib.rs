//! Shared state for a mesh of agents, without IO.
//!
//! Agents write while offline, sleep for days, meet over any network and distrust the relays between them, and still
//! come to the same conclusion. A host program links this crate. The crate reads no clock, opens no socket and
//! starts no thread: the host gives bytes and the time, and takes bytes away.
//!
//! The centre is the [`Replica`]: the signed logs that one process holds, and the state that they mean. Local writers
//! commit transactions on collections (maps, sets, decaying couplings) and append events; their writes travel as
//! entries of signed logs, which anybody may carry and nobody can forge; and replicas that hold the same entries are in
//! the same state, in whatever order the entries came.
//!
//! ```
//! use consilience::crdts::Timestamp;
//! use consilience::sync::{Keypair, MeshSecret};
//! use consilience::{Config, Opened, Replica};
//!
//! let mesh = MeshSecret::from_bytes([7; 32]); // random, and shared by the members
//! let now = Timestamp::from_millis(1_700_000_000_000);
//!
//! // Two processes. The 32 bytes are the operating system's randomness, drawn anew at each start.
//! let mut here = Replica::open(Config::new(mesh, [1; 32]), Opened::Fresh, now)?;
//! let mut there = Replica::open(Config::new(mesh, [2; 32]), Opened::Fresh, now)?;
//! let ada = here.add_writer(Keypair::from_seed([3; 32]))?; // the agent's secret
//!
//! // A transaction is one entry of the writer's log: readable at once, all of it or nothing.
//! let mut tx = here.transact(ada, "team/planning", now)?;
//! tx.map("tasks").set("t1", "draft the plan")?;
//! tx.set("members").insert(ada.id().as_bytes())?;
//! tx.commit()?;
//! here.append_event(ada, "team/planning", b"the plan is due on Friday", now)?;
//!
//! // Nothing leaves before the host has stored it.
//! let mut stored = Vec::new();
//! while let Some(record) = here.poll_record() {
//!     stored.extend(record.as_bytes()); // append to a file, and sync it
//!     here.confirm(record.id())?;
//! }
//!
//! // A file of entries, carried by anybody.
//! let bundle = here.export_bundle(|_| true, None, now)?;
//! there.import_bundle(&bundle, now)?;
//! let topic = there.topic("team/planning")?;
//! let task = topic.map("tasks").get("t1").unwrap();
//! assert_eq!((task.value, task.author), (&b"draft the plan"[..], ada.id()));
//! assert!(topic.set("members").contains(ada.id().as_bytes()));
//! assert_eq!(topic.events().iter().count(), 1);
//!
//! // After a restart the stored records bring everything back.
//! let again = Opened::Resumed(consilience::Stored { snapshot: None, records: &stored });
//! let again = Replica::open(Config::new(mesh, [4; 32]), again, now)?;
//! # use consilience::sync::Topic;
//! assert_eq!(again.digest(&Topic::new("team/planning")?), there.digest(&Topic::new("team/planning")?));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # The parts
//!
//! - [`Replica`]: topics, writers, transactions, events, reads, notices, sessions, bundles.
//! - [`Host`] and [`drive`]: callbacks, for hosts that prefer them to polling.
//! - [`journal`]: the records and snapshots that a host stores; with the feature `file-store`, `store` keeps them in a
//!   folder.
//! - [`crdts`]: the collections on their own, with deltas, for peers that trust each other.
//! - [`sync`]: signed logs and set reconciliation over opaque payloads; all that a relay needs.
//!
//! # Peers
//!
//! A session takes frames in and gives frames out, over any transport of bytes. From then on, the writes of either side
//! come to the other.
//!
//! ```
//! use consilience::crdts::Timestamp;
//! use consilience::sync::session::{SessionEvent, SessionOptions};
//! use consilience::sync::{Keypair, MeshSecret};
//! use consilience::{Config, Opened, Replica};
//!
//! let (mesh, now) = (MeshSecret::from_bytes([7; 32]), Timestamp::from_millis(1_700_000_000_000));
//! let mut here = Replica::open(Config::new(mesh, [1; 32]), Opened::InMemory, now)?;
//! let mut there = Replica::open(Config::new(mesh, [2; 32]), Opened::InMemory, now)?;
//! let ada = here.add_writer(Keypair::from_seed([3; 32]))?;
//! let bob = there.add_writer(Keypair::from_seed([4; 32]))?;
//! let mut tx = here.transact(ada, "team/planning", now)?;
//! tx.map("tasks").set("t1", "draft the plan")?;
//! tx.commit()?;
//!
//! // Each host has its end of a connection; one of them dials.
//! let calls = here.connect(ada, SessionOptions::dial(), now)?;
//! let called = there.connect(bob, SessionOptions::listen(), now)?;
//! let mut frame = Vec::new();
//! loop {
//!     let mut quiet = true;
//!     while here.poll_transmit(calls, now, &mut frame) {
//!         there.handle_input(called, &frame, now)?; // over a network
//!         frame.clear();
//!         quiet = false;
//!     }
//!     while there.poll_transmit(called, now, &mut frame) {
//!         here.handle_input(calls, &frame, now)?;
//!         frame.clear();
//!         quiet = false;
//!     }
//!     if quiet {
//!         break; // until poll_timeout, or until somebody writes
//!     }
//! }
//! assert_eq!(there.topic("team/planning")?.map("tasks").get("t1").unwrap().author, ada.id());
//! let told: Vec<_> = std::iter::from_fn(|| here.poll_event()).map(|(_, event)| event).collect();
//! assert!(matches!(told[..], [SessionEvent::Connected(peer), SessionEvent::InSync] if peer.agent == bob.id()));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! In the repository's `examples`, `tcp`, `messages`, `datagrams` and `bundle` are each one short file to begin from.
//!
//! # Guarantees
//!
//! - A removal ends the writes that its writer had seen, and none that came later or elsewhere; of concurrent writes of
//!   one key the one with the greatest stamp is read, and all can be seen. A write that saw another beats it, whatever
//!   the clocks said.
//! - An agent that restores an old backup, loses its storage or runs twice harms at most itself: a log with two
//!   histories is found out and does not count from the point where they part (a state log as a whole), and its writer
//!   writes again the content that it still has, events too ([`Opened`], [`Notice::Forked`]).
//! - The stored bytes follow the live ones: writers list older entries again, a little with each entry, and give up the
//!   rest ([`Config::with_compaction`], [`Replica::stats`]).
//!
//! # Time
//!
//! `now` is the wall clock, and may be wrong or jump. Entries whose stamps are too far ahead of it wait
//! ([`sync::Limits::max_drift_ms`], [`Notice::Deferred`]), so a host whose own clock is ahead hears of it from others only.
//! A jump forwards looks like a long silence: sessions end and have to be connected again; one backwards they do not
//! notice. The times that [`Replica::poll_timeout`] gives are by that clock as well: a host whose clock may be set
//! looks again at least once a minute.
//!
//! # Limits
//!
//! A key has at most 4,096 bytes, a value 61,440, a transaction and an event about 62 KiB; names of collections
//! [`NAME_BYTES_MAX`] bytes. How much is held is the host's choice ([`sync::Limits`]).
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `std` | yes | conversions from the standard library's types; all else is `no_std` with `alloc` |
//! | `file-store` | no | `store`, a ready place for the journal: files in a folder |
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

mod author;
mod fold;
mod host;
mod notice;
mod payload;
mod read;
mod repair;
mod replica;
#[cfg(feature = "file-store")]
pub mod store;

pub use consilience_crdts as crdts;
pub use consilience_sync as sync;
#[doc(hidden)]
pub use consilience_sync::planted;
pub use consilience_sync::{BundleError, Imported};
pub use consilience_sync::{Opened, Stored, journal};
pub use fold::EventRef;
pub use host::{Host, Notification, Sent, drive};
pub use notice::{Blocked, Notice, Obstacle, Subscription, SubscriptionError, Surfaced};
pub use payload::{CollectionKind, EntryTooLarge, NAME_BYTES_MAX};
pub use read::{CouplingRead, Event, EventsView, Live, MapView, Missing, SetView, TopicView};
pub use replica::*;

/// The README's example, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
