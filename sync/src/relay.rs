//! [`Relay`]: a log store with sessions, and no fold.
//!
//! A relay checks everything that it holds and interprets none of it. It stores the logs that it holds as a replica
//! does: records, and snapshots in their place.
//!
//! The invariant: a relay is a [`LogStore`] and [`Sessions`]; nothing of it is stored in another form.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::task::Waker;

use consilience_base::Timestamp;
use consilience_base::planted::{Fault, planted};

use crate::identity::{AgentId, LogOpening, MeshSecret, Signer};
use crate::journal::{ConfirmError, Cut, JournalCorrupt, Record, RecordId, Snapshot};
use crate::logset::{Admission, Limits, LogSet};
use crate::session::{InputError, Peer, Scope, SessionEvent, SessionId, SessionOptions, Sessions};
use crate::store::{LogStore, Opened, Recovery};

/// Holds logs and passes them on between peers that are never awake together. It checks everything and interprets nothing.
///
/// It has a key of its own to open sessions with, and writes no log.
pub struct Relay {
    store: LogStore,
    sessions: Sessions,
    agent: AgentId,
    recovery: Recovery,
}

impl Relay {
    /// For a mesh, by its secret, without storage, with the relay's own key and 32 bytes of the operating system's
    /// randomness, drawn anew at each start.
    #[must_use]
    pub fn new(
        mesh: MeshSecret,
        limits: Limits,
        signer: impl Signer + Send + 'static,
        entropy: [u8; 32],
    ) -> Self {
        let store = LogStore::in_memory(mesh.id(), seeded(limits, &entropy), Box::new(|_| Admission::Hold));
        Self::with(store, Recovery::default(), Sessions::new(&mesh, &entropy), signer)
    }

    /// The same with storage: the host stores [records](Self::poll_record), and now and then a
    /// [snapshot](Self::snapshot) in their place.
    ///
    /// # Errors
    ///
    /// If the stored bytes are damaged where they had been confirmed, or belong elsewhere.
    pub fn open(
        mesh: MeshSecret,
        limits: Limits,
        signer: impl Signer + Send + 'static,
        entropy: [u8; 32],
        opened: Opened<'_>,
        now: Timestamp,
    ) -> Result<Self, JournalCorrupt> {
        let admit = Box::new(|_: &LogOpening| Admission::Hold);
        let (store, recovery) = LogStore::open(mesh.id(), seeded(limits, &entropy), admit, opened, now)?;
        let mut relay = Self::with(store, recovery, Sessions::new(&mesh, &entropy), signer);
        relay.pass_over_changes();
        Ok(relay)
    }

    fn with(
        mut store: LogStore,
        mut recovery: Recovery,
        mut sessions: Sessions,
        signer: impl Signer + Send + 'static,
    ) -> Self {
        sessions.restore(&recovery.marks);
        // They are of use once, and a relay makes no notes.
        (recovery.marks, recovery.notes) = (Vec::new(), Vec::new());
        let agent = store.insert_signer(signer);
        Self { store, sessions, agent, recovery }
    }

    /// With a say in which logs are held. Those that are held already stay.
    #[must_use]
    pub fn with_admission(mut self, admit: impl FnMut(&LogOpening) -> Admission + Send + 'static) -> Self {
        self.store.set_admission(admit);
        self
    }

    /// The end of the records that was cut off when the relay was opened: the host has to cut its file there before it
    /// appends to it. A file store does that by itself.
    #[must_use]
    pub const fn cut(&self) -> Option<Cut> {
        self.recovery.cut
    }

    /// Up to which byte the stored records were good.
    #[must_use]
    pub const fn good_to(&self) -> usize {
        self.recovery.good_to
    }

    /// The next record to be stored: append its bytes to those that are stored, make them durable, and
    /// [confirm](Self::confirm) it.
    pub fn poll_record(&mut self) -> Option<Record> {
        self.store.poll_record()
    }

    /// The host has a record and all before it on durable storage.
    ///
    /// # Errors
    ///
    /// If the record was never polled. Nothing changed then.
    pub fn confirm(&mut self, record: RecordId) -> Result<(), ConfirmError> {
        self.store.confirm(record)
    }

    /// Whether the records since the last snapshot weigh so much that a [snapshot](Self::snapshot) should take their place;
    /// see [`LogStore::wants_snapshot`].
    #[must_use]
    pub const fn wants_snapshot(&self) -> bool {
        self.store.wants_snapshot()
    }

    /// Everything that has to be stored, in one piece, in the place of all records so far. Once it is durable,
    /// [confirm it](Self::confirm_snapshot), and drop those.
    #[must_use]
    pub fn snapshot(&mut self) -> Snapshot {
        self.store.snapshot(&[], &self.sessions.marks())
    }

    /// The host has a snapshot on durable storage.
    ///
    /// # Errors
    ///
    /// If there are no such records. Nothing changed then.
    pub fn confirm_snapshot(&mut self, snapshot: RecordId) -> Result<(), ConfirmError> {
        self.store.confirm_snapshot(snapshot)
    }

    /// The logs that are held.
    #[must_use]
    pub const fn logs(&self) -> &LogSet {
        self.store.logs()
    }

    /// The root over all that counts here; see [`LogSet::heads_root`].
    #[must_use]
    pub fn heads_root(&mut self) -> [u8; 32] {
        self.store.heads_root()
    }

    /// The sessions that have not ended.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions.ids()
    }

    /// The peer on the other side, once the handshake is done.
    #[must_use]
    pub fn peer(&self, session: SessionId) -> Option<Peer> {
        self.sessions.peer(session)
    }

    /// The scope of a session; see [`Sessions::scope`].
    #[must_use]
    pub fn scope(&self, session: SessionId) -> Option<&Scope> {
        self.sessions.scope(session)
    }

    /// Whether the peer has all that it wants of the entries here; see [`Sessions::peer_has_all`].
    #[must_use]
    pub fn peer_has_all(&mut self, session: SessionId) -> bool {
        self.sessions.peer_has_all(&mut self.store, session)
    }

    /// Lets the host decide which peers may come in; see [`Sessions::set_gate`].
    pub fn set_gate(&mut self, gate: impl FnMut(&Peer) -> Option<Scope> + Send + 'static) {
        self.sessions.set_gate(gate);
    }

    /// Is woken when there may be something new to send or an event.
    pub fn set_waker(&mut self, waker: Waker) {
        self.sessions.set_waker(waker);
    }

    /// How many signatures of heads and evidence were checked for peers.
    #[must_use]
    pub fn signatures_checked(&self) -> u64 {
        self.sessions.signatures_checked()
    }

    /// About how many bytes a session takes in memory.
    #[must_use]
    pub fn session_memory(&self, session: SessionId) -> usize {
        self.sessions.memory(session)
    }

    /// Takes in that a path may be back; see [`Sessions::nudge`].
    pub fn nudge(&mut self, session: SessionId, now: Timestamp) {
        self.sessions.nudge(session, now);
    }

    /// Ends a session; see [`Sessions::disconnect`].
    pub fn disconnect(&mut self, session: SessionId) {
        self.sessions.disconnect(session);
    }

    /// Begins a session; see [`Sessions::connect`].
    pub fn connect(&mut self, options: SessionOptions, now: Timestamp) -> SessionId {
        self.sessions.connect(&self.store, self.agent, options, now)
    }

    /// Takes in the bytes that came; see [`Sessions::handle_input`].
    ///
    /// # Errors
    ///
    /// Why a frame was not taken in.
    pub fn handle_input(
        &mut self,
        session: SessionId,
        frames: &[u8],
        now: Timestamp,
    ) -> Result<(), InputError> {
        let result = self.sessions.handle_input(&mut self.store, session, frames, now);
        self.pass_over_changes();
        result
    }

    /// The next frame to be sent; see [`Sessions::poll_transmit`].
    pub fn poll_transmit(&mut self, session: SessionId, now: Timestamp, out: &mut Vec<u8>) -> bool {
        let sent = self.sessions.poll_transmit(&mut self.store, session, now, out);
        self.store.seal();
        sent
    }

    /// The next session event; see [`Sessions::poll_event`].
    pub fn poll_event(&mut self) -> Option<(SessionId, SessionEvent)> {
        self.sessions.poll_event()
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do, if ever.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.store.poll_timeout().into_iter().chain(self.sessions.poll_timeout()).min()
    }

    /// Takes in that time has passed.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.store.handle_timeout(now);
        self.pass_over_changes();
        self.sessions.handle_timeout(now);
    }

    /// Nobody folds the logs here; entries that were given up go once their changes were polled.
    fn pass_over_changes(&mut self) {
        while !planted(Fault::RelayKeepsAll) && self.store.poll_change().is_some() {}
        self.store.seal();
    }
}

/// Limits with a seed that nobody outside can guess.
fn seeded(limits: Limits, entropy: &[u8; 32]) -> Limits {
    let seed = blake3::derive_key("consilience relay seed v1", entropy);
    Limits { seed: seed.first_chunk().copied().map_or(0, u64::from_le_bytes), ..limits }
}

impl core::fmt::Debug for Relay {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Relay").field("logs", &self.store.logs().stats().logs).finish_non_exhaustive()
    }
}
