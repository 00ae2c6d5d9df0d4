//! Sessions: the replica's work for them, and its face for the host.
//!
//! The messages of peers are `consilience_sync::session`'s; here they meet storage, the fold and local keys.

use alloc::vec::Vec;
use core::task::Waker;

use consilience_crdts::Timestamp;
use consilience_sync::session::{InputError, Peer, Scope, SessionEvent, SessionId, SessionOptions};

use consilience_sync::{BundleError, Imported, Topic};

use super::{Replica, Writer};
use crate::repair::Source;

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
    /// Once the peer has said the time, state that local writers wrote while their clock was ahead is stamped anew: nobody
    /// would take it before its time. Events cannot be: they wait at peers, and this host is told
    /// ([`Notice::EventsAhead`](crate::Notice)). Until then it is told that its clock is in doubt
    /// ([`Notice::ClockInDoubt`](crate::Notice)).
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
        if !self.author.has(&writer.id()) {
            return Err(ConnectError::UnknownWriter);
        }
        self.note_time(now);
        self.restamp_ahead(now);
        self.tell_of_doubt(now);
        Ok(self.sessions.connect(&self.store, writer.id(), options, now))
    }

    /// Takes in that a session's path may be back, or that the host has reason to ask: a handshake goes on at once, what waits
    /// for the peer is sent, and the two compare now and not at the next heartbeat. A session finds a path that is back
    /// by itself, within a second and two round trips, if it has something to say.
    pub fn nudge(&mut self, session: SessionId, now: Timestamp) {
        self.sessions.nudge(session, now);
    }

    /// Ends a session. [`poll_transmit`](Self::poll_transmit) has one more frame that tells the peer; a connection may
    /// also just be dropped. Frames that still come over it are refused with [`InputError::Unknown`]. The peer gets the
    /// entries that it does not have yet from the next session, or from others: a host that is about to stop for long
    /// first waits until [`peer_has_all`](Self::peer_has_all), for as long as it cares to.
    pub fn disconnect(&mut self, session: SessionId) {
        self.sessions.disconnect(session);
    }

    /// Takes in the bytes that came over a session's connection: one frame, or several one after the other. Streams are
    /// cut into frames by a [`FrameDecoder`](consilience_sync::session::FrameDecoder).
    ///
    /// # Errors
    ///
    /// Why a frame was not taken in; see [`InputError`]. It changed nothing, and those after it were not looked at.
    pub fn handle_input(
        &mut self,
        session: SessionId,
        frames: &[u8],
        now: Timestamp,
    ) -> Result<(), InputError> {
        self.note_time(now);
        let result = self.sessions.handle_input(&mut self.store, session, frames, now);
        if let Some(there) = self.sessions.take_peer_time() {
            self.author.note_elsewhere(there, now);
            self.restamp_ahead(now);
        }
        self.settle(now, Source::Session);
        self.end_rounds();
        self.store.seal();
        result
    }

    /// Appends the next frame that a session has to send to `out`; false if there is none now. Call it when the
    /// connection has room, and send every frame whole: over a stream one after the other, else one in each message.
    ///
    /// Entries that were not taken away stay in the logs: nothing piles up for a peer that does not listen.
    pub fn poll_transmit(&mut self, session: SessionId, now: Timestamp, out: &mut Vec<u8>) -> bool {
        let sent = self.sessions.poll_transmit(&mut self.store, session, now, out);
        self.end_rounds();
        self.store.seal();
        sent
    }

    /// The next session event. At most 4,096 wait, and the oldest go first: a host that polls
    /// less often may look at [`sessions`](Self::sessions) for which of its connections are still of use.
    pub fn poll_event(&mut self) -> Option<(SessionId, SessionEvent)> {
        self.sessions.poll_event()
    }

    /// The sessions that have not ended.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionId> {
        self.sessions.ids().collect()
    }

    /// The sessions that have not ended, and those that have and still have one frame to send.
    #[must_use]
    pub fn sessions_to_send(&self) -> Vec<SessionId> {
        self.sessions.ids_to_send().collect()
    }

    /// The peer on the other side, once the handshake is done.
    #[must_use]
    pub fn peer(&self, session: SessionId) -> Option<Peer> {
        self.sessions.peer(session)
    }

    /// The scope of a session: the topics that both sides want, the most wanted by the peer first. `None` before both have
    /// said so.
    #[must_use]
    pub fn scope(&self, session: SessionId) -> Option<&Scope> {
        self.sessions.scope(session)
    }

    /// Whether a session's peer has all that it wants of the entries here, as far as this side knows: they were sent,
    /// and the peer has taken them in, which does not say that they are stored there. False before the two were
    /// [in sync](SessionEvent::InSync), while they compare, and as long as own entries wait to be stored or signed.
    ///
    /// Over a connection that loses frames it may be true for a moment too early, as long as a lost answer by which the peer
    /// asks for more is not sent again: a host that is about to stop for long asks once more after some round trips.
    #[must_use]
    pub fn peer_has_all(&mut self, session: SessionId) -> bool {
        self.store.has_signed_all() && self.sessions.peer_has_all(&mut self.store, session)
    }

    /// Changes the scope of a session. False if there is no such session, or if the scope and the host's
    /// [gate](crate::Config::with_gate) have more than 128 filters in common; then nothing changed.
    pub fn set_scope(&mut self, session: SessionId, scope: Scope) -> bool {
        self.sessions.set_scope(session, scope)
    }

    /// Is woken when a session may have something new to send, or an event: after input, when time has passed, when
    /// something was written and confirmed. There is one waker, which takes the place of the last; where several tasks
    /// share a replica, it has to wake all of them. It is called from within the replica's methods, so it must not wait
    /// for a lock that their caller holds.
    pub fn set_waker(&mut self, waker: Waker) {
        self.sessions.set_waker(waker);
    }

    /// How long a frame and its answer take, in milliseconds, once that is known.
    #[must_use]
    pub fn round_trip_ms(&self, session: SessionId) -> Option<u64> {
        self.sessions.round_trip_ms(session)
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

    /// How much is held of each log: with this summary a peer exports only the entries that are missing here. See
    /// [`LogStore::summary`](crate::sync::LogStore::summary).
    #[must_use]
    pub fn summary(&self) -> Vec<u8> {
        self.store.summary()
    }

    /// Entries of some topics, as bytes to be carried; see
    /// [`LogStore::export_bundle`](crate::sync::LogStore::export_bundle).
    ///
    /// # Errors
    ///
    /// If the summary is none.
    pub fn export_bundle(
        &mut self,
        wanted: impl Fn(&Topic) -> bool,
        since: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<Vec<u8>, BundleError> {
        self.store.export_bundle(wanted, since, now)
    }

    /// Takes in a bundle, from any carrier. Entries that are not proven are refused; the others count.
    ///
    /// # Errors
    ///
    /// If the bytes are no bundle of this mesh. The parts before the fault were taken in.
    pub fn import_bundle(&mut self, bundle: &[u8], now: Timestamp) -> Result<Imported, BundleError> {
        self.store.check_bundle(bundle)?;
        let first = self.store.import_bundle(bundle, now);
        self.repair.meet();
        self.settle(now, Source::Host);
        let imported = if first.is_ok_and(|first| first.early == 0) {
            first
        } else {
            // Its own statements about logs that were taken over are folded only now. Entries that are here cost little, and of
            // a bundle with a fault it is not known whether any came early.
            let mut again = self.store.import_bundle(bundle, now);
            self.settle(now, Source::Host);
            if let (Ok(again), Ok(first)) = (&mut again, first) {
                again.entries += first.entries;
            }
            again
        };
        self.take_over_what_came();
        imported
    }

    /// Takes the steps that follow the end of a round, once the entries that came in it are folded.
    fn end_rounds(&mut self) {
        if let Some(rounds) = self.sessions.poll_rounds() {
            self.repair.meet();
            self.take_over_what_came();
            if rounds.exhausted {
                self.reissue_events(|_| true);
            }
        }
    }
}
