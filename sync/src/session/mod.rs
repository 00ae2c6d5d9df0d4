//! Sessions: two log stores meet over any transport, and each gets what it lacks.
//!
//! [`Sessions`] performs no IO. The host connects (it says that a connection is there), hands in the frames that come,
//! and takes the frames away that are to be sent, whenever its transport has room: a session *pulls* from the logs, and
//! keeps no queue per peer. Whatever the transport loses, repeats or puts out of order is repaired or ignored; two
//! sessions with one peer, or with oneself, are harmless.
//!
//! ```text
//! talk         messages in, messages out
//! ├─ pass      what differs: roots, lists, sketches, ranges, offers
//! ├─ outbox    what the peer lacks, the most wanted first
//! └─ link      a stream of messages over packets that get lost
//! handshake    who speaks, and that a member of the mesh does
//! frame        where one ends on a stream of bytes
//! ```
//!
//! A session opens with a handshake of three frames. Then the side that dials tells the root of what it has; if the
//! other has the same, that was all. Otherwise they find out what differs, send it, and compare roots again. From then on
//! each sends what changes as it is signed, and at each heartbeat the roots are compared.
//!
//! Bytes: `docs/wire/`. What attackers can and cannot do: `SECURITY.md`.
//!
//! # Limits
//!
//! | | |
//! |---|---|
//! | frame | 256 to 65,536 bytes, 16,384 unless told otherwise |
//! | on the way in each direction | 48 KiB unless told otherwise |
//! | memory of a session | 256 KiB and one frame, with that window |
//! | a handshake | 15 seconds |
//! | faults of a peer | 16, then the session ends |
//!
//! The invariant: what a peer says is a hint of what to look at and send. What is taken in proves itself, and only roots
//! decide what is equal.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod event;
mod options;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::task::Waker;

use consilience_base::Timestamp;

pub use crate::channel::frame::{FRAME_BYTES_MAX, FRAME_BYTES_MIN, FrameDecoder, FrameError, opens_session};
pub use crate::exchange::scope::Scope;
pub use event::{
    EndReason, Fault, HandshakeError, InputError, Peer, Refusal, RoundsEnded, SessionEvent, SessionId,
};
pub use options::SessionOptions;

use crate::channel::frame::{Kind, put_frame, read_frame};
use crate::channel::handshake::{Membership, SessionKeys, Terms, Transcript, frame_mac, hello_nonce, same};
use crate::codec::Reader;
use crate::exchange::checkpoints::{Checkpoint, Memory};
use crate::exchange::talk::{Agreed, Context, MAC_BYTES, Talk};
use crate::identity::{AgentId, MeshId};
use crate::store::{LogStore, Mark};

/// A handshake that takes longer has failed, in milliseconds.
const HANDSHAKE_MS: u64 = 15_000;
/// The first wait before a frame of the handshake is sent again, in milliseconds. Doubles.
const AGAIN_MS: u64 = 250;
/// The longest wait: where three datagrams in ten are lost, the handshake still gets through in its time.
const AGAIN_MS_MAX: u64 = 2_500;
/// The last frame of a session waits so long to be taken, in milliseconds.
const ENDING_MS: u64 = 5_000;
/// Hellos that a session waits for the proof of; the oldest go first.
const ANSWERED_MAX: usize = 4;
/// Events that wait for the host; the oldest go first.
const EVENTS_MAX: usize = 4_096;
/// What the MAC of a last frame covers: no packet begins with this byte.
const CLOSE: u8 = 0xff;

/// The host's word on who may come in: `None` for nobody, else the topics that the peer may see and send.
pub type Gate = Box<dyn FnMut(&Peer) -> Option<Scope> + Send>;

/// All sessions of one replica or relay.
pub struct Sessions {
    membership: Membership,
    sessions: BTreeMap<SessionId, Session>,
    events: VecDeque<(SessionId, SessionEvent)>,
    memory: Memory,
    rounds: RoundsEnded,
    gate: Option<Gate>,
    waker: Option<Waker>,
    opened: u64,
    random: [u8; 32],
    drawn: u64,
    /// Signatures that were checked for sessions that have ended.
    checked: u64,
    clock: Clock,
}

/// A clock that only rises, made from one that may jump: what runs backwards stands still.
#[derive(Debug, Default)]
struct Clock {
    last: Timestamp,
    ms: u64,
}

impl Clock {
    fn advance(&mut self, now: Timestamp) -> u64 {
        if self.ms > 0 || self.last != Timestamp::EPOCH {
            let passed = now.as_millis().saturating_sub(self.last.as_millis());
            self.ms = self.ms.saturating_add(passed);
        }
        self.last = now;
        self.ms
    }
}

struct Session {
    /// The local agent that speaks.
    agent: AgentId,
    options: SessionOptions,
    /// What the host's gate lets the peer see and send.
    allowed: Option<Scope>,
    phase: Phase,
    deadline: u64,
}

enum Phase {
    /// Dials, and waits for the answer; and whether the other has dialled as well.
    Calling { hello: Vec<u8>, nonce: [u8; 16], resend: Resend, called: bool },
    /// Waits for a hello.
    Listening,
    /// Waits for the proof.
    Answered(Vec<Answered>),
    /// Goes on. Whoever dials sends its proof until the peer is heard.
    Open { talk: Box<Talk>, proof: Option<(Vec<u8>, Resend)>, nonce: [u8; 16] },
    /// Has ended; one frame is left.
    Ending(Vec<u8>),
}

/// A hello that was answered. Anybody can repeat one of an earlier session, so another does not take its place.
struct Answered {
    hello: Vec<u8>,
    theirs: Terms,
    answer: Vec<u8>,
    transcript: Transcript,
    due: bool,
    /// Why who dials did not take the answer, if it said so.
    refused: Option<Refusal>,
}

/// When a frame of the handshake is sent again.
#[derive(Clone, Copy, Debug)]
struct Resend {
    at: u64,
    wait: u64,
}

impl Resend {
    const fn now(ms: u64) -> Self {
        Self { at: ms, wait: AGAIN_MS }
    }

    const fn is_due(&mut self, ms: u64) -> bool {
        let due = ms >= self.at;
        if due {
            self.at = ms.saturating_add(self.wait);
            let next = self.wait.saturating_mul(2);
            self.wait = if next < AGAIN_MS_MAX { next } else { AGAIN_MS_MAX };
        }
        due
    }
}

impl Sessions {
    /// For a mesh, with 32 bytes of the operating system's randomness, drawn anew at each start.
    #[must_use]
    pub fn new(mesh: &MeshId, entropy: &[u8; 32]) -> Self {
        Self {
            membership: Membership::new(mesh),
            sessions: BTreeMap::new(),
            events: VecDeque::new(),
            memory: Memory::default(),
            rounds: RoundsEnded::default(),
            gate: None,
            waker: None,
            opened: 0,
            random: blake3::derive_key("consilience session randomness v1", entropy),
            drawn: 0,
            checked: 0,
            clock: Clock::default(),
        }
    }

    /// Lets the host decide who may come in, and to what. Everybody to everything by default.
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
    pub fn connect(&mut self, agent: AgentId, options: SessionOptions, now: Timestamp) -> SessionId {
        let ms = self.clock.advance(now);
        self.opened = self.opened.saturating_add(1);
        let id = SessionId(self.opened);
        let phase = if options.dials {
            let terms = self.terms(&options);
            let hello = self.membership.hello(&terms);
            Phase::Calling { hello, nonce: terms.nonce, resend: Resend::now(ms), called: false }
        } else {
            Phase::Listening
        };
        let deadline = ms.saturating_add(HANDSHAKE_MS);
        self.sessions.insert(id, Session { agent, options, allowed: None, phase, deadline });
        self.wake();
        id
    }

    fn terms(&mut self, options: &SessionOptions) -> Terms {
        self.drawn = self.drawn.saturating_add(1);
        let drawn = blake3::keyed_hash(&self.random, &self.drawn.to_le_bytes());
        Terms {
            bound: options.binding.is_some(),
            everything: options.scope.is_everything(),
            frame_bytes: options.frame_bytes,
            window: options.window,
            nonce: drawn.as_bytes().first_chunk().copied().unwrap_or_default(),
        }
    }

    /// When this side was last equal with each peer, for a [snapshot](LogStore::snapshot) of the store.
    #[must_use]
    pub fn marks(&self) -> Vec<Mark> {
        let checkpoints = self.memory.all().into_iter();
        checkpoints.map(|(version, one)| Mark { version, bytes: one.to_bytes().into() }).collect()
    }

    /// Takes back in, from what was [stored](crate::Recovery), with whom this side was equal. What is no checkpoint is left
    /// out.
    pub fn restore(&mut self, marks: &[Mark]) {
        for mark in marks {
            if let Ok(bytes) = mark.bytes[..].try_into() {
                self.memory.equal(&Checkpoint::from_bytes(bytes), mark.version, false);
            }
        }
    }

    /// The sessions that have not ended.
    pub fn ids(&self) -> impl Iterator<Item = SessionId> + '_ {
        let open = self.sessions.iter().filter(|(_, session)| !matches!(session.phase, Phase::Ending(_)));
        open.map(|(id, _)| *id)
    }

    /// Those, and the ones that have ended and have one more frame to send.
    pub fn ids_to_send(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions.keys().copied()
    }

    /// Who is on the other side, once the handshake is done.
    #[must_use]
    pub fn peer(&self, session: SessionId) -> Option<Peer> {
        match &self.sessions.get(&session)?.phase {
            Phase::Open { talk, .. } => Some(talk.peer),
            _ => None,
        }
    }

    /// What a session is about: the topics that both sides want. `None` before both have said so.
    #[must_use]
    pub fn scope(&self, session: SessionId) -> Option<&Scope> {
        match &self.sessions.get(&session)?.phase {
            Phase::Open { talk, .. } => talk.scope(),
            _ => None,
        }
    }

    /// Whether the peer has all that it wants of what is signed here, as far as this side knows. False before the two were
    /// in sync, and while they compare.
    #[must_use]
    pub fn peer_has_all(&self, store: &mut LogStore, session: SessionId) -> bool {
        match self.sessions.get(&session).map(|session| &session.phase) {
            Some(Phase::Open { talk, .. }) => talk.peer_has_all(store.logs_mut()),
            _ => false,
        }
    }

    /// Changes what a session is about, within what the [gate](Self::set_gate) lets the peer see. False if there is no such
    /// session.
    pub fn set_scope(&mut self, session: SessionId, scope: Scope) -> bool {
        let Some(there) = self.sessions.get_mut(&session) else { return false };
        there.options.scope = scope.clone();
        let scope = there.allowed.as_ref().map_or_else(|| scope.clone(), |allowed| scope.meet(allowed));
        if let Phase::Open { talk, .. } = &mut there.phase {
            talk.set_scope(scope, self.clock.ms);
        }
        self.wake();
        true
    }

    /// Ends a session. One more frame tells the peer, if the host still takes it. What the peer does not have yet it does
    /// not get: see [`peer_has_all`](Self::peer_has_all).
    pub fn disconnect(&mut self, session: SessionId) {
        self.end(session, EndReason::Disconnected);
    }

    fn end(&mut self, id: SessionId, reason: EndReason) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let mut last = Vec::new();
        match &session.phase {
            Phase::Ending(_) => return,
            Phase::Open { talk, .. } => {
                self.checked = self.checked.saturating_add(talk.signatures_checked());
                // Who has closed knows.
                if reason != EndReason::PeerDisconnected {
                    let mac = frame_mac(talk.keys.of(session.options.dials), &[CLOSE]);
                    put_frame(&mut last, Kind::Close, &mac);
                }
            }
            _ => {}
        }
        self.tell(id, SessionEvent::Ended(reason));
        self.set_ending(id, last);
    }

    /// Leaves a session with one last frame to be taken, or none.
    fn set_ending(&mut self, id: SessionId, last: Vec<u8>) {
        if last.is_empty() {
            self.sessions.remove(&id);
        } else if let Some(session) = self.sessions.get_mut(&id) {
            session.phase = Phase::Ending(last);
            session.deadline = self.clock.ms.saturating_add(ENDING_MS);
        }
        self.wake();
    }

    /// Ends a handshake that failed here, and tells the peer why, as far as it helps.
    fn fail(&mut self, id: SessionId, nonce: Option<[u8; 16]>, reason: EndReason) {
        let refusal = match &reason {
            EndReason::Handshake(error) => Refusal::from(error),
            _ => Refusal::NotAdmitted,
        };
        let mut last = Vec::new();
        if let Some(nonce) = nonce {
            put_frame(&mut last, Kind::Refusal, &Membership::refusal(&nonce, refusal.code()));
        }
        self.tell(id, SessionEvent::Ended(reason));
        self.set_ending(id, last);
    }

    fn tell(&mut self, id: SessionId, event: SessionEvent) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back((id, event));
    }

    /// What happened, one thing at a time.
    pub fn poll_event(&mut self) -> Option<(SessionId, SessionEvent)> {
        self.events.pop_front()
    }

    /// Whether rounds of comparison have ended since the last call: poll after each input and each frame, once what the
    /// store took in is folded.
    pub fn poll_rounds(&mut self) -> Option<RoundsEnded> {
        self.rounds.take()
    }

    /// Takes in what came over a session's connection: one frame, or several one after the other. What the store took in
    /// of them is folded afterwards ([`LogStore::poll_change`]).
    ///
    /// # Errors
    ///
    /// Why a frame was not taken in; see [`InputError`]. That frame changed nothing, and those behind it were not looked
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
            if matches!(self.sessions.get(&session), None | Some(Session { phase: Phase::Ending(_), .. })) {
                return Err(InputError::Unknown);
            }
            match kind {
                Some(Kind::Hello) => self.take_hello(store, session, body)?,
                Some(Kind::Answer) => self.take_answer(store, session, body, ms)?,
                Some(Kind::Proof) => self.take_proof(session, body, ms)?,
                Some(Kind::Refusal) => self.take_refusal(session, body),
                Some(Kind::Data) => self.take_data(store, session, body, now, ms)?,
                Some(Kind::Close) => self.take_close(session, body)?,
                None => {}
            }
        }
        self.wake();
        Ok(())
    }

    fn take_hello(&mut self, store: &LogStore, id: SessionId, body: &[u8]) -> Result<(), InputError> {
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let others = match &mut session.phase {
            Phase::Answered(answered) => {
                if let Some(again) = answered.iter_mut().find(|answered| answered.hello == body) {
                    again.due = true;
                    return Ok(());
                }
                true
            }
            Phase::Listening => false,
            Phase::Calling { nonce, called, .. } => {
                // Unless it is one's own, come back.
                let theirs = self.membership.read_hello(body).is_ok_and(|terms| terms.nonce != *nonce);
                *called |= theirs;
                return Ok(());
            }
            // It comes late.
            _ => return Ok(()),
        };
        let theirs = match self.membership.read_hello(body) {
            Ok(terms) => terms,
            // Whom a member has called already tells nobody that the address is wrong.
            Err(HandshakeError::WrongMesh) if !others => {
                self.fail(id, hello_nonce(body), HandshakeError::WrongMesh.into());
                return Ok(());
            }
            Err(_) => return Err(InputError::NotAuthentic),
        };
        let (agent, options) = (session.agent, session.options.clone());
        if theirs.bound != options.binding.is_some() {
            if others {
                return Err(InputError::NotAuthentic);
            }
            self.fail(id, Some(theirs.nonce), HandshakeError::Binding.into());
            return Ok(());
        }
        let terms = self.terms(&options);
        let binding = options.binding.as_deref().unwrap_or_default();
        let sign = |message: &[u8]| store.sign(&agent, message);
        match self.membership.answer(body, &terms, binding, &agent, sign) {
            Ok((answer, transcript)) => {
                let new =
                    Answered { hello: body.to_vec(), theirs, answer, transcript, due: true, refused: None };
                match self.sessions.get_mut(&id).map(|session| &mut session.phase) {
                    Some(Phase::Answered(answered)) => {
                        if answered.len() >= ANSWERED_MAX {
                            answered.remove(0);
                        }
                        answered.push(new);
                    }
                    Some(phase) => *phase = Phase::Answered(alloc::vec![new]),
                    None => {}
                }
            }
            Err(error) => self.fail(id, Some(theirs.nonce), HandshakeError::Sign(error).into()),
        }
        Ok(())
    }

    fn take_answer(
        &mut self,
        store: &LogStore,
        id: SessionId,
        body: &[u8],
        ms: u64,
    ) -> Result<(), InputError> {
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let (hello, nonce) = match &mut session.phase {
            Phase::Calling { hello, nonce, .. } => (core::mem::take(hello), *nonce),
            _ => return Ok(()),
        };
        let options = session.options.clone();
        let binding = options.binding.as_deref().unwrap_or_default();
        let read = self.membership.read_answer(&hello, body, binding, options.binding.is_some());
        let (theirs, agent, transcript) = match read {
            Ok(read) => read,
            Err(HandshakeError::NotAMember | HandshakeError::Decode(_)) => {
                // Somebody else's. The right one may still come.
                if let Phase::Calling { hello: kept, .. } = &mut session.phase {
                    *kept = hello;
                }
                return Err(InputError::NotAuthentic);
            }
            Err(error) => {
                self.fail(id, Some(nonce), error.into());
                return Ok(());
            }
        };
        let peer = Peer { agent, bound: theirs.bound };
        let scope = match self.admit(id, &options, &peer) {
            Ok(scope) => scope,
            Err(reason) => {
                self.fail(id, Some(nonce), reason);
                return Ok(());
            }
        };
        let Some(session) = self.sessions.get(&id) else { return Ok(()) };
        let own = session.agent;
        match self.membership.proof(&transcript, &own, |message| store.sign(&own, message)) {
            Ok(proof) => {
                let keys = self.membership.keys(&transcript, &own);
                let proof = Some((proof, Resend::now(ms)));
                self.open(id, (peer, scope, theirs, keys), proof, nonce, ms);
            }
            Err(error) => self.end(id, HandshakeError::Sign(error).into()),
        }
        Ok(())
    }

    fn take_proof(&mut self, id: SessionId, body: &[u8], ms: u64) -> Result<(), InputError> {
        let Some(session) = self.sessions.get(&id) else { return Ok(()) };
        let Phase::Answered(answered) = &session.phase else { return Ok(()) };
        let options = session.options.clone();
        let mut read = answered.iter().map(|answered| {
            let agent = self.membership.read_proof(&answered.transcript, body);
            (answered, agent)
        });
        let others =
            |error: &HandshakeError| matches!(error, HandshakeError::NotAMember | HandshakeError::Decode(_));
        let Some((answered, agent)) = read.find(|(_, agent)| !agent.as_ref().is_err_and(others)) else {
            return Err(InputError::NotAuthentic);
        };
        let theirs = answered.theirs;
        let agent = match agent {
            Ok(agent) => agent,
            Err(error) => {
                self.fail(id, Some(theirs.nonce), error.into());
                return Ok(());
            }
        };
        let keys = self.membership.keys(&answered.transcript, &agent);
        let peer = Peer { agent, bound: theirs.bound };
        match self.admit(id, &options, &peer) {
            Ok(scope) => self.open(id, (peer, scope, theirs, keys), None, theirs.nonce, ms),
            Err(reason) => self.fail(id, Some(theirs.nonce), reason),
        }
        Ok(())
    }

    /// Asks the host whether a peer may come in, and to what.
    fn admit(&mut self, id: SessionId, options: &SessionOptions, peer: &Peer) -> Result<Scope, EndReason> {
        if options.expected.is_some_and(|expected| expected != peer.agent) {
            return Err(HandshakeError::UnexpectedAgent.into());
        }
        let Some(gate) = &mut self.gate else { return Ok(options.scope.clone()) };
        let allowed = gate(peer).ok_or(EndReason::NotAdmitted)?;
        let scope = options.scope.meet(&allowed);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.allowed = Some(allowed);
        }
        Ok(scope)
    }

    fn open(
        &mut self,
        id: SessionId,
        (peer, ours, theirs, keys): (Peer, Scope, Terms, SessionKeys),
        proof: Option<(Vec<u8>, Resend)>,
        nonce: [u8; 16],
        ms: u64,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let options = &session.options;
        let agreed = Agreed {
            dials: options.dials,
            peer,
            keys,
            frame_bytes: options.frame_bytes.min(theirs.frame_bytes),
            window: options.window,
            peer_window: theirs.window,
            datagrams: options.datagrams,
            ours,
            told_everything: options.scope.is_everything(),
            theirs: theirs.everything.then(Scope::everything),
            heartbeat_ms: options.heartbeat_ms,
            idle_ms: options.idle_ms,
        };
        if proof.is_none() {
            session.deadline = u64::MAX;
        }
        session.phase = Phase::Open { talk: Box::new(Talk::new(agreed, ms)), proof, nonce };
        self.tell(id, SessionEvent::Connected(peer));
    }

    fn take_refusal(&mut self, id: SessionId, body: &[u8]) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let (Phase::Answered(answered), Some((refused, [reason]))) =
            (&mut session.phase, body.split_first_chunk())
        {
            // Anybody who saw the hello could have sent it, so whoever else dials is still waited for.
            let of_them = answered.iter_mut().filter(|answered| answered.theirs.nonce == *refused);
            of_them.for_each(|answered| answered.refused = Some(Refusal::from_code(*reason)));
            return;
        }
        let (Phase::Calling { nonce, .. } | Phase::Open { nonce, proof: Some(_), .. }) = &session.phase
        else {
            return;
        };
        if let Some((refused, [reason])) = body.split_first_chunk()
            && refused == nonce
        {
            self.tell(id, SessionEvent::Ended(EndReason::Refused(Refusal::from_code(*reason))));
            self.set_ending(id, Vec::new());
        }
    }

    fn take_data(
        &mut self,
        store: &mut LogStore,
        id: SessionId,
        body: &[u8],
        now: Timestamp,
        ms: u64,
    ) -> Result<(), InputError> {
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let dials = session.options.dials;
        // Before the handshake is done it comes too early, and will come again.
        let Phase::Open { talk, proof, .. } = &mut session.phase else { return Ok(()) };
        let (packet, mac) = body.split_last_chunk::<MAC_BYTES>().ok_or(InputError::NotAuthentic)?;
        if !same(mac, &frame_mac(talk.keys.of(!dials), packet)) {
            return Err(InputError::NotAuthentic);
        }
        *proof = None;
        session.deadline = u64::MAX;
        let (events, memory, rounds) = (&mut self.events, &mut self.memory, &mut self.rounds);
        let mut cx = Context { store, rounds, memory, events, session: id, now, ms };
        if let Err(reason) = talk.handle_packet(packet, &mut cx) {
            self.end(id, reason);
        }
        let excess = self.events.len().saturating_sub(EVENTS_MAX);
        self.events.drain(..excess);
        Ok(())
    }

    fn take_close(&mut self, id: SessionId, body: &[u8]) -> Result<(), InputError> {
        let Some(session) = self.sessions.get(&id) else { return Ok(()) };
        let Phase::Open { talk, .. } = &session.phase else { return Ok(()) };
        let mac = frame_mac(talk.keys.of(!session.options.dials), &[CLOSE]);
        match body.split_first_chunk() {
            Some((told, [])) if same(told, &mac) => {}
            _ => return Err(InputError::NotAuthentic),
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
        let dials = there.options.dials;
        match &mut there.phase {
            Phase::Calling { hello, resend, .. } => {
                let due = resend.is_due(ms);
                if due {
                    put_frame(out, Kind::Hello, hello);
                }
                due
            }
            Phase::Listening => false,
            Phase::Answered(answered) => {
                let Some(due) = answered.iter_mut().find(|answered| answered.due) else { return false };
                due.due = false;
                put_frame(out, Kind::Answer, &due.answer);
                true
            }
            Phase::Open { talk, proof, .. } => {
                if let Some((proof, resend)) = proof
                    && resend.is_due(ms)
                {
                    put_frame(out, Kind::Proof, proof);
                    return true;
                }
                let (events, memory, rounds) = (&mut self.events, &mut self.memory, &mut self.rounds);
                let mut cx = Context { store, rounds, memory, events, session, now, ms };
                let mut packet = Vec::new();
                if !talk.poll_packet(&mut cx, &mut packet) {
                    return false;
                }
                let mac = frame_mac(talk.keys.of(dials), &packet);
                packet.extend(mac);
                put_frame(out, Kind::Data, &packet);
                true
            }
            Phase::Ending(last) => {
                out.extend_from_slice(last);
                self.sessions.remove(&session);
                true
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) or [`poll_transmit`](Self::poll_transmit) has something to do, if
    /// ever, by the host's clock as it was last given.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let due = |session: &Session| match &session.phase {
            Phase::Calling { resend, .. } => resend.at.min(session.deadline),
            Phase::Open { talk, proof, .. } => {
                let resend = proof.as_ref().map_or(u64::MAX, |(_, resend)| resend.at);
                talk.poll_timeout().min(resend).min(session.deadline)
            }
            _ => session.deadline,
        };
        let first = self.sessions.values().map(due).min()?;
        Some(self.clock.last.saturating_add_millis(first.saturating_sub(self.clock.ms)))
    }

    /// Takes in that time has passed.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let ms = self.clock.advance(now);
        let (mut ended, mut told) = (Vec::new(), Vec::new());
        for (id, session) in &mut self.sessions {
            match &mut session.phase {
                // The peer never took the proof, and has given up by now.
                Phase::Open { .. } if ms >= session.deadline => ended.push((*id, EndReason::TimedOut)),
                Phase::Open { talk, .. } => match talk.handle_timeout(ms) {
                    Ok(event) => told.extend(event.map(|event| (*id, event))),
                    Err(reason) => ended.push((*id, reason)),
                },
                Phase::Calling { called: true, .. } if ms >= session.deadline => {
                    ended.push((*id, HandshakeError::BothDial.into()));
                }
                Phase::Answered(answered) if ms >= session.deadline => {
                    let refused = answered.iter().rev().find_map(|answered| answered.refused);
                    ended.push((*id, refused.map_or(EndReason::TimedOut, EndReason::Refused)));
                }
                _ if ms >= session.deadline => ended.push((*id, EndReason::TimedOut)),
                _ => {}
            }
        }
        for (id, event) in told {
            self.tell(id, event);
        }
        for (id, reason) in ended {
            if matches!(self.sessions.get(&id), Some(Session { phase: Phase::Ending(_), .. })) {
                self.sessions.remove(&id);
            } else {
                self.end(id, reason);
            }
        }
        self.wake();
    }

    /// How long a frame and its answer take, in milliseconds, once that is known.
    #[must_use]
    pub fn round_trip_ms(&self, session: SessionId) -> Option<u64> {
        match &self.sessions.get(&session)?.phase {
            Phase::Open { talk, .. } => talk.round_trip_ms(),
            _ => None,
        }
    }

    /// How many signatures of heads and evidence were checked for peers.
    #[must_use]
    pub fn signatures_checked(&self) -> u64 {
        let open = self.sessions.values().map(|session| match &session.phase {
            Phase::Open { talk, .. } => talk.signatures_checked(),
            _ => 0,
        });
        open.fold(self.checked, u64::saturating_add)
    }

    /// About how many bytes a session takes in memory.
    #[must_use]
    pub fn memory(&self, session: SessionId) -> usize {
        match self.sessions.get(&session).map(|session| &session.phase) {
            Some(Phase::Open { talk, .. }) => size_of::<Talk>().saturating_add(talk.memory()),
            _ => 0,
        }
    }
}

impl core::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sessions").field("sessions", &self.sessions.len()).finish_non_exhaustive()
    }
}
