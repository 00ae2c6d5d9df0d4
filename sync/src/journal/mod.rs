//! The content that a replica must not forget, as bytes for the host's storage, and the way back.
//!
//! The host appends the bytes of each [`Record`] to its storage, syncs, and confirms. A [`Snapshot`] takes the place of
//! all records up to an id. On opening, the host hands back the snapshot, if it has one, and the bytes of all records in
//! the order in which they were written; [`recover`] checks, orders and cuts them, and [`apply`] puts each item back into
//! a [`LogSet`](crate::LogSet).
//!
//! ```text
//! Journal::push, seal -> poll -> Record -> storage, synced -> Journal::confirm
//! storage -> recover -> Recovered::items -> apply; Recovered::journal goes on
//! ```
//!
//! Not here: IO, and the meaning of the replica's own notes. The bytes are in `docs/JOURNAL.md`.
//!
//! The invariants: no confirmed record is gone unnoticed; records that were never confirmed may be cut; and
//! reading takes time in proportion to the bytes, whatever they are.

mod damage;
mod envelope;
mod inspect;
mod item;
mod queue;
mod record;
mod recover;
mod snapshot;

pub use damage::{Area, Damage, JournalCorrupt};
pub use inspect::{Extent, Inspection, covers, has_record, inspect};
pub use item::JournalItem;
pub use queue::{ConfirmError, Journal};
pub use record::{Record, RecordId};
pub use recover::{Cut, Recovered, recover};
pub use snapshot::{Applied, ApplyError, Snapshot, SnapshotWriter, apply, write_set};
