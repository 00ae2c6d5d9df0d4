//! Signed logs, set reconciliation and the sessions that carry them, for any content of an application's logs.
//!
//! - [`Log`]: one writer's append-only sequence. One signature covers everything below it, any part of it can be
//!   proven, and entries that are no longer needed can be dropped from its front without harm to any later proof.
//! - [`LogSet`]: the logs that one replica or relay holds, the entries that count, and the evidence of forks.
//! - The identities in them: [`MeshSecret`], [`MeshId`], [`AgentId`] and its keys, [`Topic`], [`LogId`].
//! - [`reconcile`]: finding the difference of two sets of ids, at a cost that follows the difference.
//!   [`LogSet::reconcile`] does it for the heads of logs, and [`LogSet::plan`] says which ranges to send then.
//! - [`session`]: two holders of logs meet over any transport, and each gets the entries that it lacks.
//!
//! Nothing here opens a connection, reads a clock, draws randomness or stores anything; the host does.
//!
//! Not here: maps, sets, counters and the meaning of payloads. A relay, which passes on payloads that it does not
//! interpret, needs only this crate. (It could read them: payloads are not encrypted.)
//!
//! The invariant: payloads are opaque. They are carried, hashed and compared as the bytes that were received, and no
//! decision depends on their content.
//!
//! # A writer, a relay and a reader
//!
//! ```
//! use consilience_sync::{
//!     Admission, Answer, Change, Hlc, Incarnation, Keypair, Limits, LogKind, LogOpening, LogSet, MeshSecret,
//!     NamedOpening, NewEntry, Range, RangeForm, Signer, Timestamp, Topic, VerifyBudget, Want,
//! };
//!
//! let mesh = MeshSecret::from_bytes([7; 32]).id(); // the secret is random, and shared by the members
//! let ada = Keypair::from_seed([1; 32]); // likewise, and kept secret
//! let now = Timestamp::from_millis(1_700_000_000_000);
//!
//! // The writer appends, which only hashes, and signs once for all of it.
//! let opening = LogOpening {
//!     topic: Topic::new("team/planning")?,
//!     kind: LogKind::Event,
//!     agent: ada.agent(),
//!     incarnation: Incarnation::next(None, now, [0x5e, 0xed]),
//! };
//! let mut writer = LogSet::new(mesh, Limits::default());
//! let log = writer.open_local(&opening)?;
//! let mut clock = Hlc::ZERO;
//! for payload in [&b"draft"[..], b"review", b"send"] {
//!     writer.append(&log, &NewEntry::new(clock.tick(now), payload))?;
//! }
//! writer.sign_head(&log, &ada, now)?;
//!
//! // A relay takes the entries that it is given and can check all of them. The reader trusts neither.
//! let mut relay = LogSet::new(mesh, Limits::default());
//! let mut reader = LogSet::new(mesh, Limits::default());
//! let mut budget = VerifyBudget::new();
//! let carry = |from: &LogSet, to: &mut LogSet, budget: &mut VerifyBudget| -> Result<(), Box<dyn core::error::Error>> {
//!     // Anybody can claim an opening. The log has a place once a range of it was verified.
//!     let opening = NamedOpening::decode(&opening.encode(&mesh), &mesh)?;
//!     let have = from.have(&log).unwrap();
//!     let mut want = Some(Want { from: have.start, to: have.size, form: RangeForm::Follow });
//!     while let Some(wanted) = want {
//!         let Answer::Range { bytes, .. } = from.answer(&log, &wanted, 16 << 10) else { break };
//!         budget.received(bytes.len());
//!         to.receive_first(&opening, &Range::parse(&bytes)?, now, budget, |_| Admission::Hold)?;
//!         want = to.want(&log, &have);
//!     }
//!     Ok(())
//! };
//! carry(&writer, &mut relay, &mut budget)?;
//! carry(&relay, &mut reader, &mut budget)?;
//!
//! assert_eq!(reader.poll_change(), Some(Change::Applicable { log, from: 0, to: 3 }));
//! let events: Vec<_> = reader.log(&log).unwrap().entries(0, 3).map(|entry| entry.payload().unwrap()).collect();
//! assert_eq!(events, [&b"draft"[..], b"review", b"send"]);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # Bytes
//!
//! Every form has one spelling, documented to the byte in `docs/wire/`. Refused bytes change nothing.
//!
//! # Limits
//!
//! An entry has [`ENTRY_BYTES_MAX`] bytes, a log [`LOG_SIZE_MAX`] entries, a topic [`Topic::BYTES_MAX`] bytes: these
//! decide validity and are the same for all. How much a set is willing to hold is up to its host: [`Limits`].
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

mod budget;
mod channel;
mod exchange;
mod facts;
mod hash;
mod identity;
pub mod journal;
mod log;
mod logset;
mod part;
pub mod reconcile;
mod relay;
pub mod session;
mod store;

#[doc(inline)]
pub use consilience_base::codec;
#[doc(hidden)]
pub use consilience_base::planted;
pub use consilience_base::{DecodeError, Hlc, Timestamp};

pub use budget::VerifyBudget;
pub use facts::{Facts, Forks, Pruned, PrunedError, UncheckedPruned};
pub use hash::Hash;
#[cfg(feature = "stand-in-keys")]
pub use identity::StandIn;
pub use identity::{
    AgentId, AgentKey, DiscoveryKey, Incarnation, KeyError, Keypair, LogId, LogKind, LogOpening, MeshId,
    MeshSecret, NamedOpening, OpeningError, OpeningField, SignError, Signature, Signer, SigningTag, Topic,
    TopicError, TopicFilter,
};
pub use log::{
    Allowance, AppendError, CITATIONS_MAX, CLOSURES_MAX, Citation, Closure, ENTRY_BYTES_MAX, Entry,
    EntryFlags, Evidence, EvidenceError, ForkSearch, Gone, Have, HeadError, KeepError, LOG_SIZE_MAX, Log,
    LogFront, NewEntry, Range, RangeForm, ReceiveError, Received, SALT_BYTES, SearchStep, SignedHead,
    UncheckedEvidence, VerifiedRange, Want,
};
pub use logset::{
    Admission, Answer, Change, HeadStep, Limits, LogSet, Move, Offer, OpenError, Replay, ReplayError,
    SetError, SetStats,
};
pub use part::{LogRef, Part};
pub use relay::Relay;
pub use store::{Admit, BundleError, Imported, LogStore, Mark, Opened, Recovery, Stored};
