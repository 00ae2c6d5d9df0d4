//! [`Relay`]: logs with sessions and no means to read payloads.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::task::Waker;

use consilience_base::Timestamp;

use super::checkpoints::Checkpoint;
use super::holder::Holder;
use super::{InputError, Peer, Scope, SessionEvent, SessionId, SessionOptions, Sessions};
use crate::budget::VerifyBudget;
use crate::codec::{DecodeError, Reader, put_varint};
use crate::identity::{AgentId, LogId, LogOpening, MeshId, SignError, Signature, Signer};
use crate::log::Received;
use crate::logset::{Admission, Limits, LogSet, OpenError, SetError};

const OPENING: u8 = 1;
const EVIDENCE: u8 = 2;
const RANGE: u8 = 3;
const EQUAL: u8 = 4;

/// Holds logs and passes them on between peers that are never awake together. It checks everything and reads nothing.
///
/// It has a key of its own to open sessions with, and writes no log.
pub struct Relay {
    held: Held,
    sessions: Sessions,
}

/// What the sessions of a relay work on.
struct Held {
    set: LogSet,
    signer: Box<dyn Signer + Send>,
    admit: Box<dyn FnMut(&LogOpening) -> Admission + Send>,
    items: Option<VecDeque<RelayItem>>,
}

/// Something that a relay took in, to be stored: [`Relay::restore`] takes it back in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayItem(Vec<u8>);

impl RelayItem {
    fn new(kind: u8, log: Option<&LogId>, bytes: &[u8]) -> Self {
        let mut item = alloc::vec![kind];
        item.extend(log.iter().flat_map(|log| *log.as_bytes()));
        put_varint(&mut item, bytes.len() as u64);
        item.extend_from_slice(bytes);
        Self(item)
    }

    /// Its bytes, to be appended to what is stored. They say where they end.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Relay {
    /// For a mesh, with the relay's own key and 32 bytes of the operating system's randomness, drawn anew at each start.
    #[must_use]
    pub fn new(
        mesh: MeshId,
        limits: Limits,
        signer: impl Signer + Send + 'static,
        entropy: [u8; 32],
    ) -> Self {
        let sessions = Sessions::new(&mesh, &entropy);
        let seed = blake3::derive_key("consilience relay seed v1", &entropy);
        let seed = seed.first_chunk().copied().map_or(0, u64::from_le_bytes);
        let held = Held {
            set: LogSet::new(mesh, Limits { seed, ..limits }),
            signer: Box::new(signer),
            admit: Box::new(|_| Admission::Hold),
            items: None,
        };
        Self { held, sessions }
    }

    /// With a say in which logs are held.
    #[must_use]
    pub fn with_admission(mut self, admit: impl FnMut(&LogOpening) -> Admission + Send + 'static) -> Self {
        self.held.admit = Box::new(admit);
        self
    }

    /// With storage: what is taken in waits to be [polled](Self::poll_item), so the host has to.
    #[must_use]
    pub fn with_storage(mut self) -> Self {
        self.held.items = Some(VecDeque::new());
        self
    }

    /// Takes back in what was stored. A torn end is left out; what is damaged does not prove and is left out as well, and
    /// comes again from peers. Gives how many bytes were read.
    pub fn restore(&mut self, stored: &[u8], now: Timestamp) -> usize {
        let items = self.held.items.take();
        let mut reader = Reader::new(stored);
        let mut good = 0;
        while let Ok(checkpoint) = self.held.restore_item(&mut reader, now) {
            good = reader.position();
            if let Some(checkpoint) = checkpoint {
                self.sessions.restore(&checkpoint, &mut self.held.set);
            }
        }
        self.held.items = items;
        good
    }

    /// The next thing to be stored, in the order in which it was taken in. Only of a relay [with
    /// storage](Self::with_storage).
    pub fn poll_item(&mut self) -> Option<RelayItem> {
        self.held.items.as_mut()?.pop_front()
    }

    /// The logs that are held.
    #[must_use]
    pub const fn logs(&self) -> &LogSet {
        &self.held.set
    }

    /// The sessions that have not ended.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions.ids()
    }

    /// Who is on the other side, once the handshake is done.
    #[must_use]
    pub fn peer(&self, session: SessionId) -> Option<Peer> {
        self.sessions.peer(session)
    }

    /// What a session is about; see [`Sessions::scope`].
    #[must_use]
    pub fn scope(&self, session: SessionId) -> Option<&Scope> {
        self.sessions.scope(session)
    }

    /// Whether the peer has all that it wants of what is here; see [`Sessions::peer_has_all`].
    #[must_use]
    pub fn peer_has_all(&mut self, session: SessionId) -> bool {
        self.sessions.peer_has_all(&mut self.held, session)
    }

    /// Lets the host decide who may come in; see [`Sessions::set_gate`].
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

    /// Ends a session; see [`Sessions::disconnect`].
    pub fn disconnect(&mut self, session: SessionId) {
        self.sessions.disconnect(session);
    }

    /// Begins a session; see [`Sessions::connect`].
    pub fn connect(&mut self, options: SessionOptions, now: Timestamp) -> SessionId {
        self.sessions.connect(self.held.signer.agent(), options, now)
    }

    /// Takes in what came; see [`Sessions::handle_input`].
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
        self.sessions.handle_input(&mut self.held, session, frames, now)
    }

    /// The next frame to be sent; see [`Sessions::poll_transmit`].
    pub fn poll_transmit(&mut self, session: SessionId, now: Timestamp, out: &mut Vec<u8>) -> bool {
        self.sessions.poll_transmit(&mut self.held, session, now, out)
    }

    /// What happened; see [`Sessions::poll_event`].
    pub fn poll_event(&mut self) -> Option<(SessionId, SessionEvent)> {
        self.sessions.poll_event()
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do, if ever.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.held.set.poll_timeout().into_iter().chain(self.sessions.poll_timeout()).min()
    }

    /// Takes in that time has passed.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.held.set.handle_timeout(now);
        self.held.forget_changes();
        self.sessions.handle_timeout(now);
    }
}

impl Held {
    /// Takes an item back in, but for a checkpoint, which is the sessions'.
    fn restore_item(
        &mut self,
        reader: &mut Reader<'_>,
        now: Timestamp,
    ) -> Result<Option<Checkpoint>, DecodeError> {
        let kind = reader.byte()?;
        let log = if kind == RANGE { Some(LogId::from_bytes(reader.array()?)) } else { None };
        let len = reader.count(1)?;
        let bytes = reader.take(len)?;
        let mut budget = VerifyBudget::unlimited();
        match (kind, log) {
            (OPENING, _) => {
                if let Ok(opening) = LogOpening::decode(bytes, self.set.mesh()) {
                    let _ = self.open(&opening);
                }
            }
            (EVIDENCE, _) => {
                let _ = self.receive_evidence(bytes, now, &mut budget);
            }
            (RANGE, Some(log)) => {
                let _ = self.receive(&log, bytes, now, &mut budget);
            }
            (EQUAL, _) => return Ok(bytes.try_into().ok().map(Checkpoint::from_bytes)),
            _ => return Err(DecodeError::Kind),
        }
        Ok(None)
    }

    fn store(&mut self, kind: u8, log: Option<&LogId>, bytes: &[u8]) {
        if let Some(items) = &mut self.items {
            items.push_back(RelayItem::new(kind, log, bytes));
        }
    }

    /// Nobody folds what is here, so nobody has to be told.
    fn forget_changes(&mut self) {
        while self.set.poll_change().is_some() {}
    }
}

impl Holder for Held {
    fn logs(&self) -> &LogSet {
        &self.set
    }

    fn logs_mut(&mut self) -> &mut LogSet {
        &mut self.set
    }

    fn sign_heads(&mut self, _: Timestamp) {}

    fn sign(&self, agent: &AgentId, message: &[u8]) -> Result<Signature, SignError> {
        if *agent == self.signer.agent() { self.signer.sign(message) } else { Err(SignError::OtherAgent) }
    }

    fn open(&mut self, opening: &LogOpening) -> Result<LogId, OpenError> {
        let held = self.set.log(&opening.log_id(self.set.mesh())).is_some();
        let admit = &mut self.admit;
        let log = self.set.open(opening, |opening| admit(opening))?;
        if !held {
            self.store(OPENING, None, &opening.encode(self.set.mesh()));
        }
        Ok(log)
    }

    fn receive(
        &mut self,
        log: &LogId,
        range: &[u8],
        now: Timestamp,
        budget: &mut VerifyBudget,
    ) -> Result<Received, SetError> {
        let known = self.set.evidence(log).cloned();
        let received = self.set.receive(log, range, now, budget)?;
        self.forget_changes();
        if received != Received::Nothing {
            self.store(RANGE, Some(log), range);
        }
        // What a fork was seen against may be gone when it is taken back in.
        if let Some(evidence) = self.set.evidence(log).filter(|found| known.as_ref() != Some(found)).cloned()
        {
            self.store(EVIDENCE, None, evidence.as_bytes());
        }
        Ok(received)
    }

    fn receive_evidence(
        &mut self,
        bytes: &[u8],
        now: Timestamp,
        budget: &mut VerifyBudget,
    ) -> Result<bool, SetError> {
        let admit = &mut self.admit;
        let news = self.set.receive_evidence(bytes, now, budget, |opening| admit(opening))?;
        self.forget_changes();
        if news {
            self.store(EVIDENCE, None, bytes);
        }
        Ok(news)
    }

    fn equal(&mut self, checkpoint: &Checkpoint) {
        self.store(EQUAL, None, &checkpoint.to_bytes());
    }
}

impl core::fmt::Debug for Relay {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Relay").field("logs", &self.held.set.stats().logs).finish_non_exhaustive()
    }
}
