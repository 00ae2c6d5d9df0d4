//! Sessions: what the replica does for them, and its face for the host.
//!
//! What peers say to each other is `consilience_sync::session`'s; here it meets storage, the fold and local keys.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::task::Waker;

use consilience_crdts::Timestamp;
use consilience_sync::codec::{Reader, put_varint};
use consilience_sync::session::{
    Checkpoint, Holder, InputError, Peer, Scope, SessionEvent, SessionId, SessionOptions, Sessions,
};
use consilience_sync::{
    AgentId, Evidence, LogId, LogOpening, LogSet, OpenError, RangeForm, Received, SetError, SignError,
    Signature, VerifyBudget,
};

use super::persist::{CHANGED, EQUAL};
use super::{Replica, Writer};
use crate::journal::Item;

/// So many logs that have changed since are worth their notes. Sessions list no more.
const CHANGED_MAX: usize = 512;

/// Why no session was begun. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The writer is of another replica: add it first.
    #[error("the writer is not one of this replica: add it first")]
    UnknownWriter,
}

impl Replica {
    /// Begins a session over a connection that the host has, in the name of one of the local writers. The frames that
    /// come over the connection go to [`handle_input`](Self::handle_input), and those of
    /// [`poll_transmit`](Self::poll_transmit) go out over it.
    ///
    /// What local writers wrote while their clock was ahead is stamped anew first: nobody would take it before its time.
    /// Events cannot be: they wait, and peers say so ([`Notice::Deferred`](crate::Notice)).
    ///
    /// # Errors
    ///
    /// If the writer is not one of this replica.
    pub fn connect(
        &mut self,
        writer: Writer,
        options: SessionOptions,
        now: Timestamp,
    ) -> Result<SessionId, ConnectError> {
        if !self.locals.contains_key(&writer.id()) {
            return Err(ConnectError::UnknownWriter);
        }
        self.restamp_ahead(now);
        Ok(self.with_sessions(|sessions, _| sessions.connect(writer.id(), options, now)))
    }

    /// Ends a session. [`poll_transmit`](Self::poll_transmit) has one more frame that tells the peer; a connection may
    /// also just be dropped. What still comes over it is refused with [`InputError::Unknown`]. What the peer does not have
    /// yet it gets from the next session, or from others: a host that is about to stop for long first waits until
    /// [`peer_has_all`](Self::peer_has_all), for as long as it cares to.
    pub fn disconnect(&mut self, session: SessionId) {
        self.with_sessions(|sessions, _| sessions.disconnect(session));
    }

    /// Takes in what came over a session's connection: one frame, or several one after the other. Streams are cut into
    /// frames by a [`FrameDecoder`](consilience_sync::session::FrameDecoder).
    ///
    /// # Errors
    ///
    /// Why a frame was not taken in; see [`InputError`]. It changed nothing, and those behind it were not looked at.
    pub fn handle_input(
        &mut self,
        session: SessionId,
        frames: &[u8],
        now: Timestamp,
    ) -> Result<(), InputError> {
        let result =
            self.with_sessions(|sessions, replica| sessions.handle_input(replica, session, frames, now));
        self.seal();
        result
    }

    /// Appends the next frame that a session has to send to `out`; false if there is none now. Call it when the
    /// connection has room, and send every frame whole: over a stream one after the other, else one in each message.
    ///
    /// What was not taken away stays in the logs: nothing piles up for a peer that does not listen.
    pub fn poll_transmit(&mut self, session: SessionId, now: Timestamp, out: &mut Vec<u8>) -> bool {
        let sent = self.with_sessions(|sessions, replica| sessions.poll_transmit(replica, session, now, out));
        self.seal();
        sent
    }

    /// What happened in the sessions, one thing at a time. At most 4,096 wait, and the oldest go first: a host that polls
    /// less often may look at [`sessions`](Self::sessions) for which of its connections are still of use.
    pub fn poll_event(&mut self) -> Option<(SessionId, SessionEvent)> {
        self.with_sessions(|sessions, _| sessions.poll_event())
    }

    /// The sessions that have not ended.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionId> {
        self.sessions.as_ref().map(|sessions| sessions.ids().collect()).unwrap_or_default()
    }

    /// Those, and the ones that have ended and have one more frame to send.
    #[must_use]
    pub fn sessions_to_send(&self) -> Vec<SessionId> {
        self.sessions.as_ref().map(|sessions| sessions.ids_to_send().collect()).unwrap_or_default()
    }

    /// Who is on the other side, once the handshake is done.
    #[must_use]
    pub fn peer(&self, session: SessionId) -> Option<Peer> {
        self.sessions.as_ref()?.peer(session)
    }

    /// What a session is about: the topics that both sides want. `None` before both have said so.
    #[must_use]
    pub fn scope(&self, session: SessionId) -> Option<&Scope> {
        self.sessions.as_ref()?.scope(session)
    }

    /// Whether a session's peer has all that it wants of what is here, as far as this side knows: it was sent, and the peer
    /// has taken it in, which does not say that it is stored there. False before the two were
    /// [in sync](SessionEvent::InSync), while they compare, and as long as own entries wait to be stored or signed.
    #[must_use]
    pub fn peer_has_all(&mut self, session: SessionId) -> bool {
        self.has_signed_all() && self.with_sessions(|sessions, held| sessions.peer_has_all(held, session))
    }

    /// Changes what a session is about. False if there is no such session.
    pub fn set_scope(&mut self, session: SessionId, scope: Scope) -> bool {
        self.with_sessions(|sessions, _| sessions.set_scope(session, scope))
    }

    /// Is woken when a session may have something new to send, or an event: after input, when time has passed, when
    /// something was written and confirmed. There is one waker, which takes the place of the last; where several tasks
    /// share a replica, it has to wake all of them. It is called from within the replica's methods, so it must not wait
    /// for a lock that whoever calls them holds.
    pub fn set_waker(&mut self, waker: Waker) {
        self.with_sessions(|sessions, _| sessions.set_waker(waker));
    }

    /// How long a frame and its answer take, in milliseconds, once that is known.
    #[must_use]
    pub fn round_trip_ms(&self, session: SessionId) -> Option<u64> {
        self.sessions.as_ref()?.round_trip_ms(session)
    }

    /// How many signatures of heads and evidence were checked for peers.
    #[must_use]
    pub fn signatures_checked(&self) -> u64 {
        self.sessions.as_ref().map_or(0, |sessions| sessions.signatures_checked())
    }

    /// About how many bytes a session takes in memory.
    #[must_use]
    pub fn session_memory(&self, session: SessionId) -> usize {
        self.sessions.as_ref().map_or(0, |sessions| sessions.memory(session))
    }

    /// Wakes the host: something may leave now.
    pub(super) fn wake(&self) {
        if let Some(sessions) = &self.sessions {
            sessions.wake();
        }
    }

    fn with_sessions<T>(&mut self, work: impl FnOnce(&mut Sessions, &mut Held<'_>) -> T) -> T {
        // They are always there: nothing that sessions call comes back here.
        let mut sessions = self
            .sessions
            .take()
            .unwrap_or_else(|| Box::new(Sessions::new(self.set.mesh(), &self.random.next())));
        let result = work(&mut sessions, &mut Held(self));
        self.sessions = Some(sessions);
        result
    }
}

/// A replica as its sessions see it.
struct Held<'a>(&'a mut Replica);

impl Replica {
    /// Holds a log that a peer has, if the host wants it.
    pub(super) fn hold(&mut self, opening: &LogOpening) -> Result<LogId, OpenError> {
        let id = opening.log_id(self.set.mesh());
        if self.set.log(&id).is_some() {
            return Ok(id);
        }
        let admit = &mut self.admit;
        self.set.open(opening, |opening| admit(opening))?;
        let bytes = opening.encode(self.set.mesh());
        self.record(&Item::Opening { local: false, bytes: &bytes });
        // A later incarnation may have taken it over already.
        let claimed = self.fold.topic(&opening.topic).and_then(|state| state.member(&id));
        if let Some(below) = claimed.map(|(_, member)| member.claimed()).filter(|below| *below > 0) {
            self.set.allow_start(&id, below).map_err(|_| OpenError::Ignored)?;
        }
        Ok(id)
    }

    /// Takes in and notes what a peer has of a log.
    pub(super) fn take_range(
        &mut self,
        log: &LogId,
        range: &[u8],
        now: Timestamp,
        budget: &mut VerifyBudget,
    ) -> Result<Received, SetError> {
        let known = self.set.evidence(log).cloned();
        let received = self.set.receive(log, range, now, budget)?;
        let evidence = self.set.evidence(log).filter(|found| known.as_ref() != Some(found)).cloned();
        if evidence.is_some() || received == Received::Conflict {
            self.record_own_head(log);
        }
        if received != Received::Nothing {
            self.record(&Item::Range { log: *log, bytes: range });
        }
        // A range may show a fork against a head that is in no record: one's own are not.
        if let Some(evidence) = evidence {
            self.record(&Item::Evidence { bytes: evidence.as_bytes() });
        }
        self.settle(now);
        Ok(received)
    }

    /// Notes how far an own log is signed, which nobody needs to know as long as the log has one history. Of a forked one,
    /// what is not known to be signed stands in the way of what others have in its place.
    fn record_own_head(&mut self, log: &LogId) {
        let held = self.set.log(log).filter(|_| self.set.is_local(log));
        let head = held.and_then(|held| {
            let signed = held.signed_size();
            held.range(signed, signed, RangeForm::Follow, 0)
        });
        if let Some((bytes, _)) = head {
            self.record(&Item::Range { log: *log, bytes: &bytes });
        }
    }

    /// Notes that this replica and a peer hold the same, behind what it holds, with the heads of its own logs: those signed
    /// anew after a restart would have changed since.
    fn record_checkpoint(&mut self, checkpoint: &Checkpoint) {
        if !self.stores {
            return;
        }
        let turn = self.set.heads_turn();
        let changed: Vec<LogId> = self.set.heads_changed(self.checked_turn).map(|(_, log, _)| log).collect();
        for log in changed {
            self.record_own_head(&log);
        }
        self.checked_turn = turn;
        self.record(&Item::Note { kind: EQUAL, bytes: &checkpoint.to_bytes() });
    }

    /// Takes a note back in that is about peers.
    pub(super) fn restore_note(&mut self, kind: u8, bytes: &[u8], now: Timestamp) {
        match (kind, bytes.split_first_chunk()) {
            (EQUAL, _) => {
                let Ok(bytes) = bytes.try_into() else { return };
                let checkpoint = Checkpoint::from_bytes(bytes);
                self.with_sessions(|sessions, held| sessions.restore(&checkpoint, held.logs_mut()));
            }
            (CHANGED, Some((log, before))) => {
                let Ok(before) = Reader::new(before).varint() else { return };
                self.set.replay(now).changed(&LogId::from_bytes(*log), before);
            }
            _ => return,
        }
        self.checked_turn = self.set.heads_turn();
    }

    /// Gives out when this replica and its peers were equal, and what has changed since: logs stand in no order in a
    /// snapshot. Not of peers since whom so much has changed that nobody would list it.
    pub(super) fn write_checkpoints(&mut self, sink: &mut impl FnMut(&Item<'_>)) {
        let mut all = self.sessions.as_ref().map_or_else(Vec::new, |sessions| sessions.checkpoints());
        all.retain(|(turn, _)| self.set.heads_changed(*turn).nth(CHANGED_MAX).is_none());
        let ends: Vec<u64> = all.iter().skip(1).map(|(turn, _)| *turn).chain([u64::MAX]).collect();
        for ((turn, checkpoint), end) in all.into_iter().zip(ends) {
            sink(&Item::Note { kind: EQUAL, bytes: &checkpoint.to_bytes() });
            let changed = self.set.heads_changed(turn).take_while(|(changed, ..)| *changed <= end);
            let changed: Vec<LogId> = changed.map(|(_, log, _)| log).collect();
            for log in changed {
                let mut bytes = log.as_bytes().to_vec();
                put_varint(&mut bytes, self.set.size_at_turn(&log, turn).unwrap_or(0));
                sink(&Item::Note { kind: CHANGED, bytes: &bytes });
            }
        }
    }

    /// Takes in and notes evidence of a fork.
    pub(super) fn take_evidence(
        &mut self,
        bytes: &[u8],
        now: Timestamp,
        budget: &mut VerifyBudget,
    ) -> Result<bool, SetError> {
        let admit = &mut self.admit;
        let news = self.set.receive_evidence(bytes, now, budget, |opening| admit(opening))?;
        if news {
            if let Ok(opening) = Evidence::read_opening(bytes, self.set.mesh()) {
                self.record_own_head(&opening.log_id(self.set.mesh()));
            }
            self.record(&Item::Evidence { bytes });
        }
        self.settle(now);
        Ok(news)
    }
}

impl Holder for Held<'_> {
    fn logs(&self) -> &LogSet {
        &self.0.set
    }

    fn logs_mut(&mut self) -> &mut LogSet {
        &mut self.0.set
    }

    fn sign_heads(&mut self, now: Timestamp) {
        self.0.sign_heads(now);
    }

    fn sign(&self, agent: &AgentId, message: &[u8]) -> Result<Signature, SignError> {
        let local = self.0.locals.get(agent).ok_or(SignError::OtherAgent)?;
        local.signer.sign(message)
    }

    fn open(&mut self, opening: &LogOpening) -> Result<LogId, OpenError> {
        self.0.hold(opening)
    }

    fn receive(
        &mut self,
        log: &LogId,
        range: &[u8],
        now: Timestamp,
        budget: &mut VerifyBudget,
    ) -> Result<Received, SetError> {
        self.0.take_range(log, range, now, budget)
    }

    fn receive_evidence(
        &mut self,
        bytes: &[u8],
        now: Timestamp,
        budget: &mut VerifyBudget,
    ) -> Result<bool, SetError> {
        self.0.take_evidence(bytes, now, budget)
    }

    fn met(&mut self) {
        self.0.met = true;
    }

    fn settled(&mut self) {
        self.0.cast_out_all();
    }

    fn equal(&mut self, checkpoint: &Checkpoint) {
        self.0.record_checkpoint(checkpoint);
    }
}
