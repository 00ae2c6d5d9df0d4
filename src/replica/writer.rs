//! [`Writer`]: the local writers of a replica.

use consilience_crdts::Timestamp;
use consilience_sync::{AgentId, KeyError, LogKind, Signer};

use super::Replica;
use crate::repair::Source;

/// A local writer: an agent whose key is in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Writer(pub(super) AgentId);

impl Writer {
    /// The agent's name: its public key.
    #[must_use]
    pub const fn id(&self) -> AgentId {
        self.0
    }
}

/// Why a writer was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriterError {
    /// Its key is not admitted.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl Replica {
    /// Adds a local writer, which goes on with its logs if they are stored here. After a restart add every writer again, even
    /// those that have nothing more to say: entries that they had stored and not signed leave only then.
    ///
    /// # Errors
    ///
    /// If the agent's key is not admitted.
    pub fn add_writer(&mut self, signer: impl Signer + Send + 'static) -> Result<Writer, WriterError> {
        let agent = self.store.add_signer(signer)?;
        self.author.add(self.store.logs(), self.repair.left(), agent);
        Ok(Writer(agent))
    }

    /// The local writers.
    pub fn writers(&self) -> impl Iterator<Item = Writer> + '_ {
        self.author.writers().map(Writer)
    }

    /// Takes in that the clock of this host is right: it was set by a time server, say. A writer that was stopped while the
    /// clock was ahead then goes on, with its content stamped anew, before a peer has said the time, which each does when
    /// a session begins. Of events that wait the host is told.
    ///
    /// Without either, a writer goes on as if its stamps were right and the clock had fallen: content that is written again
    /// although the clock is behind would bring back what others have ended since.
    pub fn trust_clock(&mut self, now: Timestamp) {
        self.note_time(now);
        self.author.note_elsewhere(now, now);
        self.restamp_ahead(now);
    }

    /// Notes the time of sessions.
    pub(super) fn note_time(&mut self, now: Timestamp) {
        self.author.note_time(now);
        self.repair.note_time(now);
    }

    /// Tells the host of the logs of local writers that are ahead of its clock, where nothing tells whether that is right.
    pub(super) fn tell_of_doubt(&mut self, now: Timestamp) {
        let set = self.store.logs();
        for log in self.author.in_doubt(set, now) {
            if let Some(held) = set.log(&log) {
                self.notices.clock_in_doubt(held.opening(), &log);
            }
        }
    }

    /// Has those writers whose last stamps others would not take yet go on in their next incarnation, with their live
    /// content stamped anew; and tells of events that others would not take yet.
    pub(super) fn restamp_ahead(&mut self, now: Timestamp) {
        let ahead = self.author.ahead(self.store.logs(), now);
        for (agent, topic, kind) in &ahead {
            match (kind, self.author.log(agent, topic, *kind)) {
                (LogKind::Event, Some(log)) => self.tell_events_ahead(&log, now),
                // Where that is not possible now, the writer's next write tells.
                _ => {
                    let _ = self.own_log(agent, topic, *kind, now);
                }
            }
        }
        if !ahead.is_empty() {
            self.settle(now, Source::Host);
        }
    }
}
