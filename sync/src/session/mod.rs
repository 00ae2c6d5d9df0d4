//! Sessions: two log stores meet over any transport, and each gets the entries that it lacks.
//!
//! [`Sessions`] performs no IO. The host connects (it says that a connection is there), hands in the frames that come,
//! and takes the frames away that are to be sent, whenever its transport has room: a session *pulls* from the logs, and
//! keeps no queue per peer. A loss, a repetition or a wrong order in the transport is repaired or ignored; two
//! sessions with one peer, or with oneself, are harmless.
//!
//! ```text
//! session      the map of sessions: each is a handshake, or a channel and an exchange
//! ├─ opening     the effects of a handshake's frames on a session
//! └─ established a session after that
//! channel      the peer's identity, and messages of several protocols over packets that get lost
//! exchange     the messages by which both sides come to hold the same
//! ```
//!
//! A session opens with a handshake of three frames. Then the side that dials tells the root of its heads; if the
//! other has the same, that was all. Otherwise they find the differing logs, send the entries, and compare roots again.
//! From then on each sends changes after they are signed, and at each heartbeat the roots are compared.
//!
//! Bytes: `docs/wire/`. The powers of attackers: `SECURITY.md`.
//!
//! # Limits
//!
//! | | |
//! |---|---|
//! | frame | 256 to 65,536 bytes, 16,384 unless told otherwise |
//! | on the way in each direction | 48 KiB, over datagrams 256 KiB, unless told otherwise |
//! | memory of a session | five windows and one frame |
//! | a handshake | 15 seconds |
//! | faults of a peer | 16, then the session ends |
//!
//! The invariant: a session is in one phase, and the state of a phase ends with it.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod established;
mod event;
mod opening;
mod options;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::task::Waker;

use consilience_base::Timestamp;
use consilience_base::planted::{self, planted};

pub use crate::channel::{
    FRAME_BYTES_MAX, FRAME_BYTES_MIN, FrameDecoder, FrameError, HandshakeError, Peer, Refusal, opens_session,
};
pub use crate::exchange::{Fault, RoundsEnded, Scope, ScopeError};
pub use event::{EndReason, InputError, SessionEvent, SessionId};
pub use options::SessionOptions;

use crate::channel::{
    Calm, Dial, Kind, Listen, Membership, Resuming, Resumptions, Secret, Terms, read_frame,
};
use crate::codec::Reader;
use crate::exchange::{Checkpoint, Context, Memory};
use crate::identity::{AgentId, MeshSecret};
use crate::store::{LogStore, Mark};
use established::Established;

/// The last frame of a session waits so long to be taken, in milliseconds.
const ENDING_MS: u64 = 5_000;
/// Events that wait for the host; the oldest go first.
const EVENTS_MAX: usize = 4_096;
/// A jump of the host's clock counts for so many milliseconds at most, 49 days: what sessions wait for has come by then. So
/// their own clock does not come to the end of its numbers, where each wait would be over at once.
const JUMP_MS_MAX: u64 = 1 << 32;

/// The host's word on whether a peer may come in: `None` if not, else the topics that the peer may see and send.
pub type Gate = Box<dyn FnMut(&Peer) -> Option<Scope> + Send>;

/// All sessions of one replica or relay.
pub struct Sessions {
    membership: Membership,
    sessions: BTreeMap<SessionId, Session>,
    events: Events,
    memory: Memory,
    rounds: RoundsEnded,
    gate: Option<Gate>,
    waker: Option<Waker>,
    opened: u64,
    draw: Draw,
    calm: Calm,
    /// Signatures that were checked for sessions that have ended.
    checked: u64,
    clock: Clock,
    resumptions: Resumptions,
    /// Frames are decrypted into it.
    buffer: Vec<u8>,
    /// The earliest time that peers stated and that was not taken yet.
    peer_time: Option<Timestamp>,
}

/// A clock that only rises, made from one that may jump: one that runs backwards stands still.
#[derive(Debug, Default)]
struct Clock {
    last: Timestamp,
    ms: u64,
}

impl Clock {
    fn advance(&mut self, now: Timestamp) -> u64 {
        if self.ms > 0 || self.last != Timestamp::EPOCH {
            let passed = now.as_millis().saturating_sub(self.last.as_millis());
            self.ms = self.ms.saturating_add(passed.min(JUMP_MS_MAX));
        }
        self.last = now;
        self.ms
    }
}

/// The session events that wait for the host.
#[derive(Debug, Default)]
struct Events(VecDeque<(SessionId, SessionEvent)>);

impl Events {
    fn push(&mut self, id: SessionId, event: SessionEvent) {
        if self.0.len() >= EVENTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((id, event));
    }
}

/// Where numbers and secrets come from that nobody can guess.
struct Draw {
    /// Replaced at each draw: who learns it later cannot draw again what was drawn.
    random: Secret,
}

impl Draw {
    fn new(entropy: &[u8; 32]) -> Self {
        Self { random: Secret::new(blake3::derive_key("consilience session randomness v1", entropy)) }
    }

    /// A secret that was never drawn before.
    fn secret(&mut self) -> Secret {
        let drawn = Secret::new(*blake3::keyed_hash(&self.random, &[1]).as_bytes());
        self.random = Secret::new(*blake3::keyed_hash(&self.random, &[0]).as_bytes());
        drawn
    }

    /// A number that was never used before.
    fn number(&mut self) -> [u8; 16] {
        self.secret().first_chunk().copied().unwrap_or_default()
    }
}

/// The terms of a session.
fn terms(options: &SessionOptions, now: Option<Timestamp>) -> Terms {
    Terms {
        bound: options.binding.is_some(),
        everything: options.scope.is_plain(),
        frame_bytes: options.frame_bytes,
        window: options.window,
        // Rounded up: what others still take must not look as if they did not.
        seconds: now.map_or(0, |now| now.as_millis().div_ceil(1_000)),
    }
}

/// The time, unless entries are held that are too late for it: then either they or the clock are wrong.
fn trusted(store: &LogStore, now: Timestamp) -> Option<Timestamp> {
    let set = store.logs();
    let latest = now.saturating_add_millis(set.limits().max_drift_ms);
    (set.latest_stamp().time() <= latest || planted(planted::Fault::DoubtfulClockIsTold)).then_some(now)
}

struct Session {
    /// The local agent that speaks.
    agent: AgentId,
    options: SessionOptions,
    /// The topics that the host's gate lets the peer see and send.
    allowed: Option<Scope>,
    /// The host has set another scope since the handshake began, which may have said that this side wants everything, or
    /// that it does not.
    rescoped: bool,
    phase: Phase,
}

/// How far a session is.
enum Phase {
    Dialing(Box<Dial>),
    Listening(Listen),
    Established(Box<Established>),
    Ending(Ending),
}

/// It has ended, and one frame is left.
struct Ending {
    last: Vec<u8>,
    deadline: u64,
}

impl Session {
    fn established(&self) -> Option<&Established> {
        match &self.phase {
            Phase::Established(established) => Some(established),
            _ => None,
        }
    }

    const fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ending(_))
    }

    /// When it has something to do.
    fn poll_timeout(&self) -> u64 {
        match &self.phase {
            Phase::Dialing(dial) => dial.poll_timeout(),
            Phase::Listening(listen) => listen.deadline(),
            Phase::Established(established) => established.poll_timeout(),
            Phase::Ending(ending) => ending.deadline,
        }
    }

    /// Takes in that time has passed. Gives a session event, if there is one.
    ///
    /// # Errors
    ///
    /// Why it is over.
    fn handle_timeout(&mut self, ms: u64) -> Result<Option<SessionEvent>, EndReason> {
        match &mut self.phase {
            Phase::Established(established) => return established.handle_timeout(ms),
            Phase::Dialing(dial) if dial.is_over(ms) => {
                return Err(if dial.was_called() {
                    HandshakeError::BothDial.into()
                } else {
                    EndReason::TimedOut
                });
            }
            Phase::Listening(listen) if ms >= listen.deadline() => {
                if listen.is_strange() {
                    return Err(HandshakeError::WrongMesh.into());
                }
                return Err(listen.refused().map_or(EndReason::TimedOut, EndReason::Refused));
            }
            Phase::Ending(ending) if ms >= ending.deadline => return Err(EndReason::TimedOut),
            _ => {}
        }
        Ok(None)
    }
}

impl Sessions {
    /// For a mesh, by its secret, with 32 bytes of the operating system's randomness, drawn anew at each start.
    #[must_use]
    pub fn new(mesh: &MeshSecret, entropy: &[u8; 32]) -> Self {
        Self {
            membership: Membership::new(mesh),
            sessions: BTreeMap::new(),
            events: Events::default(),
            memory: Memory::default(),
            rounds: RoundsEnded::default(),
            gate: None,
            waker: None,
            opened: 0,
            draw: Draw::new(entropy),
            calm: Calm::default(),
            checked: 0,
            clock: Clock::default(),
            resumptions: Resumptions::default(),
            buffer: Vec::new(),
            peer_time: None,
        }
    }

    /// Lets the host decide which peers may come in, and to which topics. All to all by default.
    pub fn set_gate(&mut self, gate: impl FnMut(&Peer) -> Option<Scope> + Send + 'static) {
        self.gate = Some(Box::new(gate));
    }

    /// Is woken when there may be something new to send or an event.
    pub fn set_waker(&mut self, waker: Waker) {
        self.waker = Some(waker);
    }

    /// Wakes the host: something may have to be sent.
    pub fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Begins a session over a connection that the host has, for a local agent.
    pub fn connect(
        &mut self,
        store: &LogStore,
        agent: AgentId,
        options: SessionOptions,
        now: Timestamp,
    ) -> SessionId {
        let ms = self.clock.advance(now);
        self.opened = self.opened.saturating_add(1);
        let id = SessionId(self.opened);
        let phase = if options.dials {
            let terms = terms(&options, trusted(store, now));
            let known = options.expected.and_then(|peer| self.resumptions.newest(&agent, &peer, now));
            let resuming = known.map(|(resumption, with)| {
                let binding = options.binding.clone().unwrap_or_default();
                Resuming { resumption: resumption.clone(), with, binding }
            });
            let (secret, path) = (self.draw.secret(), (options.datagrams, ms));
            Phase::Dialing(Box::new(Dial::new(&self.membership, (terms, agent), resuming, secret, path)))
        } else {
            Phase::Listening(Listen::new(self.draw.number(), ms))
        };
        self.sessions.insert(id, Session { agent, options, allowed: None, rescoped: false, phase });
        self.wake();
        id
    }

    fn established(&self, session: SessionId) -> Option<&Established> {
        self.sessions.get(&session)?.established()
    }

    /// When this side was last equal with each peer, and what it remembers of peers to meet them without signatures, for a
    /// [snapshot](LogStore::snapshot) of the store. There are secrets among them.
    #[must_use]
    pub fn marks(&self) -> Vec<Mark> {
        let checkpoints = self.memory.all().into_iter();
        let checkpoints = checkpoints.map(|(version, one)| Mark { version, bytes: one.to_bytes().into() });
        // They are tied to no version, so nothing has changed since.
        let resumptions = self.resumptions.all().into_iter().map(|bytes| Mark { version: u64::MAX, bytes });
        checkpoints.chain(resumptions).collect()
    }

    /// Takes back in the peers with which this side was equal and what it remembers of them, from [stored](crate::Recovery)
    /// marks. One that is neither is left out.
    pub fn restore(&mut self, marks: &[Mark]) {
        for mark in marks {
            if let Ok(bytes) = mark.bytes[..].try_into() {
                self.memory.equal(&Checkpoint::from_bytes(bytes), mark.version, false);
            } else {
                self.resumptions.restore(&mark.bytes);
            }
        }
    }

    /// The sessions that have not ended.
    pub fn ids(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions.iter().filter(|(_, session)| !session.has_ended()).map(|(id, _)| *id)
    }

    /// Those, and the ones that have ended and have one more frame to send.
    pub fn ids_to_send(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions.keys().copied()
    }

    /// The agent on the other side, after the handshake.
    #[must_use]
    pub fn peer(&self, session: SessionId) -> Option<Peer> {
        self.established(session).map(|established| *established.channel.peer())
    }

    /// The scope of a session: the topics that both sides want, the most wanted by the peer first. `None` before both have
    /// said so.
    #[must_use]
    pub fn scope(&self, session: SessionId) -> Option<&Scope> {
        self.established(session)?.exchange.scope()
    }

    /// The earliest time by the clocks of peers that shook hands since this was called last: a hint that a liar may give as
    /// well.
    pub const fn take_peer_time(&mut self) -> Option<Timestamp> {
        self.peer_time.take()
    }

    /// Whether the peer has all the signed entries of this side that it wants, as far as this side knows. False before the
    /// two were in sync, and while they compare.
    ///
    /// A peer acknowledges bytes before it says that they were of no use to it. Where that word gets lost, this is true until
    /// it comes again.
    #[must_use]
    pub fn peer_has_all(&self, store: &mut LogStore, session: SessionId) -> bool {
        self.established(session).is_some_and(|established| established.peer_has_all(store.logs_mut()))
    }

    /// Changes the scope of a session, within the one that the [gate](Self::set_gate) lets the peer see. False if there is
    /// no such session, or if the two have more than 128 filters in common: then nothing changed.
    pub fn set_scope(&mut self, session: SessionId, scope: Scope) -> bool {
        let Some(there) = self.sessions.get_mut(&session) else { return false };
        let allowed = there.allowed.as_ref().filter(|_| !planted(planted::Fault::GateIsForgotten));
        let ours = allowed.map_or_else(|| scope.clone(), |allowed| scope.meet(allowed));
        if !ours.can_be_stated() {
            return false;
        }
        if let Phase::Established(established) = &mut there.phase {
            established.exchange.set_scope(&scope, ours, self.clock.ms);
        }
        there.rescoped = true;
        there.options.scope = scope;
        self.wake();
        true
    }

    /// Takes in that a path may be back, or that the host has reason to ask: a handshake goes on at once, what waits for the peer
    /// is sent, and the two compare now and not at the next heartbeat. Without it a session finds a path that is back within
    /// a second and two round trips, if it has something to say, and at the heartbeat if not. Of a session that has ended or
    /// was not there it takes no note.
    pub fn nudge(&mut self, session: SessionId, now: Timestamp) {
        let ms = self.clock.advance(now);
        match self.sessions.get_mut(&session).map(|session| &mut session.phase) {
            Some(Phase::Dialing(dial)) => dial.nudge(ms),
            Some(Phase::Established(established)) => established.nudge(ms),
            _ => return,
        }
        self.wake();
    }

    /// Ends a session. One more frame tells the peer, if the host still takes it. Entries that the peer does not have yet
    /// it does not get: see [`peer_has_all`](Self::peer_has_all).
    pub fn disconnect(&mut self, session: SessionId) {
        // Whoever called from another mesh has hung up, perhaps, and this host as well: it is told why.
        let strange = self
            .sessions
            .get(&session)
            .is_some_and(|session| matches!(&session.phase, Phase::Listening(listen) if listen.is_strange()));
        let reason = if strange { HandshakeError::WrongMesh.into() } else { EndReason::Disconnected };
        self.end(session, reason);
    }

    fn end(&mut self, id: SessionId, reason: EndReason) {
        let Some(session) = self.sessions.get_mut(&id).filter(|session| !session.has_ended()) else { return };
        let mut last = Vec::new();
        if let Phase::Established(established) = &mut session.phase {
            self.checked = self.checked.saturating_add(established.exchange.signatures_checked());
            // A peer that has closed knows.
            if reason != EndReason::PeerDisconnected {
                established.channel.put_close(&mut last);
            }
        }
        self.events.push(id, SessionEvent::Ended(reason));
        self.set_ending(id, last);
    }

    /// Leaves a session with one last frame to be taken, or none.
    fn set_ending(&mut self, id: SessionId, last: Vec<u8>) {
        if last.is_empty() {
            self.sessions.remove(&id);
        } else if let Some(session) = self.sessions.get_mut(&id) {
            let deadline = self.clock.ms.saturating_add(ENDING_MS);
            session.phase = Phase::Ending(Ending { last, deadline });
        }
        self.wake();
    }

    /// The next session event.
    pub fn poll_event(&mut self) -> Option<(SessionId, SessionEvent)> {
        self.events.0.pop_front()
    }

    /// Whether rounds of comparison have ended since the last call: poll after each input and each frame, after the
    /// entries that the store took in are folded.
    pub fn poll_rounds(&mut self) -> Option<RoundsEnded> {
        self.rounds.take()
    }

    /// Takes in bytes that came over a session's connection: one frame, or several one after the other. The entries that
    /// the store took in are folded afterwards ([`LogStore::poll_change`]).
    ///
    /// # Errors
    ///
    /// Why a frame was not taken in; see [`InputError`]. That frame changed nothing, and those after it were not looked
    /// at.
    pub fn handle_input(
        &mut self,
        store: &mut LogStore,
        session: SessionId,
        frames: &[u8],
        now: Timestamp,
    ) -> Result<(), InputError> {
        let ms = self.clock.advance(now);
        let mut reader = Reader::new(frames);
        while !reader.is_empty() {
            let (kind, body) = read_frame(&mut reader)?;
            if self.sessions.get(&session).is_none_or(Session::has_ended) {
                return Err(InputError::Unknown);
            }
            match kind {
                Some(Kind::Hello) => self.take_hello(store, session, body, ms)?,
                Some(Kind::Challenge) => self.take_challenge(session, body, ms)?,
                Some(Kind::Answer) => self.take_answer(store, session, body, ms)?,
                Some(Kind::Proof) => self.take_proof(session, body, ms)?,
                Some(Kind::Refusal) => self.take_refusal(session, body, ms),
                Some(Kind::Data) => self.take_data(store, session, body, now, ms)?,
                Some(Kind::Close) => self.take_close(session, body)?,
                None => {}
            }
        }
        self.wake();
        Ok(())
    }

    fn take_data(
        &mut self,
        store: &mut LogStore,
        id: SessionId,
        body: &[u8],
        now: Timestamp,
        ms: u64,
    ) -> Result<(), InputError> {
        self.take_resumed(id, body, ms);
        // Before the handshake is done it comes too early, and will come again.
        let Some(Session { phase: Phase::Established(established), .. }) = self.sessions.get_mut(&id) else {
            return Ok(());
        };
        let (memory, rounds, notices) = (&mut self.memory, &mut self.rounds, Vec::new());
        let mut cx = Context { store, rounds, memory, notices, written: 0, now, ms };
        let mut tell = |event| self.events.push(id, event);
        let over = established.handle_data(body, &mut self.buffer, &mut cx, &mut tell)?;
        if let Some(left) = established.left.take() {
            self.resumptions.remember(&left);
            if let Some(bytes) = self.resumptions.unstored(&left.pair, ms) {
                store.mark(&bytes);
            }
        }
        if let Some(reason) = over {
            self.end(id, reason);
        }
        Ok(())
    }

    fn take_close(&mut self, id: SessionId, body: &[u8]) -> Result<(), InputError> {
        let Some(Session { phase: Phase::Established(established), .. }) = self.sessions.get_mut(&id) else {
            return Ok(());
        };
        if !established.channel.is_close(body) {
            return Err(InputError::NotAuthentic);
        }
        self.end(id, EndReason::PeerDisconnected);
        Ok(())
    }

    /// Appends the next frame that a session has to send to `out`. False if there is none now. Call it when the
    /// transport has room, until it has none or there is nothing more.
    pub fn poll_transmit(
        &mut self,
        store: &mut LogStore,
        session: SessionId,
        now: Timestamp,
        out: &mut Vec<u8>,
    ) -> bool {
        let ms = self.clock.advance(now);
        let Some(there) = self.sessions.get_mut(&session) else { return false };
        match &mut there.phase {
            Phase::Dialing(dial) => dial.poll_frame(ms, out),
            Phase::Listening(listen) => listen.poll_frame(&self.membership, out),
            Phase::Established(established) => {
                let (memory, rounds, notices) = (&mut self.memory, &mut self.rounds, Vec::new());
                let mut cx = Context { store, rounds, memory, notices, written: 0, now, ms };
                established.poll_frame(&mut cx, &mut |event| self.events.push(session, event), out)
            }
            Phase::Ending(ending) => {
                out.extend_from_slice(&ending.last);
                self.sessions.remove(&session);
                true
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) or [`poll_transmit`](Self::poll_transmit) has something to do, if
    /// ever, by the host's clock as it was last given.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let first = self.sessions.values().map(Session::poll_timeout).min()?;
        // A time that the host's clock cannot say never comes.
        let due = self.clock.last.as_millis().checked_add(first.saturating_sub(self.clock.ms))?;
        Some(Timestamp::from_millis(due))
    }

    /// Takes in that time has passed.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let ms = self.clock.advance(now);
        let mut ended = Vec::new();
        for (id, session) in &mut self.sessions {
            match session.handle_timeout(ms) {
                Ok(None) => {}
                Ok(Some(event)) => self.events.push(*id, event),
                Err(reason) => ended.push((*id, reason)),
            }
        }
        for (id, reason) in ended {
            if self.sessions.get(&id).is_some_and(Session::has_ended) {
                self.sessions.remove(&id);
            } else {
                self.end(id, reason);
            }
        }
        self.wake();
    }

    /// How long a frame and its answer take, in milliseconds, if that is known.
    #[must_use]
    pub fn round_trip_ms(&self, session: SessionId) -> Option<u64> {
        self.established(session)?.channel.round_trip_ms()
    }

    /// How many signatures of heads and evidence were checked for peers.
    #[must_use]
    pub fn signatures_checked(&self) -> u64 {
        let open = self.sessions.values().filter_map(Session::established);
        open.map(|one| one.exchange.signatures_checked()).fold(self.checked, u64::saturating_add)
    }

    /// About how many bytes a session takes in memory.
    #[must_use]
    pub fn memory(&self, session: SessionId) -> usize {
        self.established(session).map_or(0, Established::memory)
    }
}

impl core::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sessions").field("sessions", &self.sessions.len()).finish_non_exhaustive()
    }
}
