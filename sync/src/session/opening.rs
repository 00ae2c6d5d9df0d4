//! The effects of a handshake's frames on a session, until it is established.
//!
//! The states of a handshake are the channel's; here are the agents that sign, the host's gate, and how it ends. The
//! invariant: the gate is asked after the peer has proved its identity, and before anything of the host's is said.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::established::Established;
use super::event::{EndReason, InputError, SessionEvent, SessionId};
use super::options::SessionOptions;
use super::{Phase, Session, Sessions, terms, trusted};
use crate::channel::{
    Agreed, HandshakeError, HelloName, Kind, Left, Membership, NotTaken, Peer, Proof, Proven, Refusal,
    Resumed, SessionKeys, Terms, put_frame,
};
use crate::exchange::{Scope, Setup};
use crate::identity::AgentId;
use crate::store::LogStore;

/// The result of a handshake.
struct Proved {
    theirs: Terms,
    peer: Peer,
    keys: SessionKeys,
    /// The topics that this side wants and the peer may see.
    ours: Scope,
    /// For the side that dials.
    proof: Option<Proof>,
    resumed: Option<Resumed>,
}

impl Sessions {
    pub(super) fn take_hello(
        &mut self,
        store: &LogStore,
        id: SessionId,
        body: &[u8],
        ms: u64,
    ) -> Result<(), InputError> {
        let now = trusted(store, self.clock.last);
        let Some(Session { agent, options, phase, .. }) = self.sessions.get_mut(&id) else { return Ok(()) };
        let taken = match phase {
            Phase::Dialing(dial) => {
                dial.handle_hello(&self.membership, body, self.draw.secret());
                return Ok(());
            }
            Phase::Listening(listen) => {
                let this = (&*agent, options.binding.as_deref(), terms(options, now));
                let (draw, sign) = (|| self.draw.secret(), |message: &[u8]| store.sign(agent, message));
                let (known, times) = ((&mut self.calm, &self.resumptions), (ms, self.clock.last));
                listen.handle_hello((&self.membership, body), this, known, times, draw, sign)
            }
            // It comes late.
            _ => return Ok(()),
        };
        taken.or_else(|failure| self.not_taken(id, failure))
    }

    pub(super) fn take_challenge(&mut self, id: SessionId, body: &[u8], ms: u64) -> Result<(), InputError> {
        let Some(Session { phase: Phase::Dialing(dial), .. }) = self.sessions.get_mut(&id) else {
            return Ok(());
        };
        let taken = dial.handle_challenge(&self.membership, body, self.draw.secret(), ms);
        taken.or_else(|failure| self.not_taken(id, failure))
    }

    pub(super) fn take_answer(
        &mut self,
        store: &LogStore,
        id: SessionId,
        body: &[u8],
        ms: u64,
    ) -> Result<(), InputError> {
        let Some(Session { agent, options, phase: Phase::Dialing(dial), .. }) = self.sessions.get(&id) else {
            return Ok(());
        };
        let (own, options, hello, resumed) = (*agent, options.clone(), dial.name(), dial.resumed());
        let read = dial.handle_answer(&self.membership, body, options.binding.as_deref());
        let (theirs, agent, secrets) = match read {
            Ok(read) => read,
            Err(failure) => return self.not_taken(id, failure),
        };
        let peer = Peer { agent, bound: theirs.bound, time: theirs.time() };
        let ours = match self.admit(id, &options, &peer) {
            Ok(ours) => ours,
            Err(reason) => {
                self.fail(id, Some(hello), reason);
                return Ok(());
            }
        };
        let proof = match resumed {
            // Its first data is the proof.
            Some(_) => Ok(Vec::new()),
            None => secrets.proof(&own, |message| store.sign(&own, message)),
        };
        let proof = match proof {
            Ok(body) => body,
            Err(error) => {
                self.end(id, HandshakeError::Sign(error).into());
                return Ok(());
            }
        };
        let keys = secrets.keys(&own, &agent);
        if let Some(Session { phase: Phase::Dialing(dial), .. }) = self.sessions.get(&id) {
            let proof = Some(Proof::new(proof, dial, ms));
            self.open(id, Proved { theirs, peer, keys, ours, proof, resumed }, ms);
        }
        Ok(())
    }

    pub(super) fn take_proof(&mut self, id: SessionId, body: &[u8], ms: u64) -> Result<(), InputError> {
        let Some(Session { agent: own, options, phase: Phase::Listening(listen), .. }) =
            self.sessions.get(&id)
        else {
            return Ok(());
        };
        if !listen.has_answered() {
            return Ok(());
        }
        let options = options.clone();
        let Proven { hello, theirs, agent, secrets, .. } = match listen.handle_proof(body, &mut self.calm) {
            Ok(proven) => proven,
            Err(failure) => return self.not_taken(id, failure),
        };
        let keys = secrets.keys(&agent, own);
        let peer = Peer { agent, bound: theirs.bound, time: theirs.time() };
        match self.admit(id, &options, &peer) {
            Ok(ours) => self.open(id, Proved { theirs, peer, keys, ours, proof: None, resumed: None }, ms),
            Err(reason) => self.fail(id, Some(hello), reason),
        }
        Ok(())
    }

    /// Opens a session that a hello has resumed, if this is its first data.
    pub(super) fn take_resumed(&mut self, id: SessionId, body: &[u8], ms: u64) {
        let Some(Session { agent: own, options, phase: Phase::Listening(listen), .. }) =
            self.sessions.get(&id)
        else {
            return;
        };
        let Some((proven, keys)) = listen.handle_data(own, body, &mut self.buffer, &mut self.calm) else {
            return;
        };
        let (Proven { hello, theirs, agent, resumed, .. }, options) = (proven, options.clone());
        let peer = Peer { agent, bound: theirs.bound, time: theirs.time() };
        match self.admit(id, &options, &peer) {
            Ok(ours) => self.open(id, Proved { theirs, peer, keys, ours, proof: None, resumed }, ms),
            Err(reason) => self.fail(id, Some(hello), reason),
        }
    }

    pub(super) fn take_refusal(&mut self, id: SessionId, body: &[u8], ms: u64) {
        let refused = match self.sessions.get_mut(&id).map(|session| &mut session.phase) {
            Some(Phase::Listening(listen)) => {
                listen.handle_refusal(body);
                None
            }
            Some(Phase::Dialing(dial)) => dial.handle_refusal(&self.membership, body, self.draw.secret(), ms),
            Some(Phase::Established(established)) => {
                established.proof.as_ref().and_then(|proof| proof.handle_refusal(body))
            }
            _ => None,
        };
        if let Some(refusal) = refused {
            self.events.push(id, SessionEvent::Ended(EndReason::Refused(refusal)));
            self.set_ending(id, Vec::new());
        }
    }

    /// Asks the host whether a peer may come in, and to which topics.
    fn admit(&mut self, id: SessionId, options: &SessionOptions, peer: &Peer) -> Result<Scope, EndReason> {
        if options.expected.is_some_and(|expected: AgentId| expected != peer.agent) {
            return Err(HandshakeError::UnexpectedAgent.into());
        }
        let mut scope = options.scope.clone();
        if let Some(gate) = &mut self.gate {
            let allowed = gate(peer).ok_or(EndReason::NotAdmitted)?;
            scope = scope.meet(&allowed);
            if let Some(session) = self.sessions.get_mut(&id) {
                session.allowed = Some(allowed);
            }
        }
        if scope.can_be_stated() { Ok(scope) } else { Err(EndReason::TooManyFilters) }
    }

    fn open(&mut self, id: SessionId, proved: Proved, ms: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (options, Proved { theirs, peer, keys, ours, proof, resumed }) = (&session.options, proved);
        let left = Left {
            pair: (session.agent, peer.agent),
            resumption: keys.resumption.clone(),
            proved: resumed.map_or(self.clock.last, |resumed| resumed.proved),
            used: resumed.map(|resumed| resumed.id),
        };
        let setup = Setup {
            dials: options.dials,
            peer: peer.agent,
            salt: keys.salt,
            asked: options.scope.clone(),
            scope: ours,
            want_everything: (options.scope.is_plain() && !session.rescoped, theirs.everything),
            heartbeat_ms: options.heartbeat_ms,
            frame_bytes: options.frame_bytes.min(theirs.frame_bytes),
        };
        let agreed = Agreed {
            dials: options.dials,
            peer,
            keys,
            frame_bytes: options.frame_bytes.min(theirs.frame_bytes),
            window: options.window,
            peer_window: theirs.window,
            datagrams: options.datagrams,
            idle_ms: options.idle_ms,
        };
        session.phase = Phase::Established(Box::new(Established::new(agreed, setup, proof, left, ms)));
        self.peer_time = self.peer_time.into_iter().chain(peer.time).min();
        self.events.push(id, SessionEvent::Connected(peer));
    }

    /// Answers a frame that was not taken in.
    fn not_taken(&mut self, id: SessionId, failure: NotTaken) -> Result<(), InputError> {
        match failure {
            NotTaken::NotAuthentic => Err(InputError::NotAuthentic),
            NotTaken::Failed(error, hello) => {
                self.fail(id, hello, error.into());
                Ok(())
            }
        }
    }

    /// Ends a handshake that failed here, and tells the peer why, as far as it helps.
    fn fail(&mut self, id: SessionId, hello: Option<HelloName>, reason: EndReason) {
        let refusal = match &reason {
            EndReason::Handshake(error) => Refusal::from(error),
            _ => Refusal::NotAdmitted,
        };
        let mut last = Vec::new();
        if let Some(hello) = hello {
            put_frame(&mut last, Kind::Refusal, &Membership::refusal(&hello, refusal.code()));
        }
        self.events.push(id, SessionEvent::Ended(reason));
        self.set_ending(id, last);
    }
}
