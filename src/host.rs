//! [`Host`]: callbacks instead of polling, for hosts that prefer them.
//!
//! [`drive`] does everything that polling would: it has records stored, sends the frames that may leave, and reports
//! notices and session events. The callbacks get no way to the replica, so none of them can change the state that is
//! being worked on.

use alloc::vec::Vec;

use consilience_crdts::Timestamp;
use consilience_sync::session::{SessionEvent, SessionId};

use crate::journal::Record;
use crate::{Notice, Replica};

/// The work of a host for its replica.
pub trait Host {
    /// Why something could not be done.
    type Error;

    /// Sends a frame to a session's peer: whole, as one message or after the last one on a stream. A transport that
    /// loses it costs time and nothing else.
    ///
    /// # Errors
    ///
    /// Only an error with which the host wants [`drive`] to end. A connection that is gone is a reason to
    /// [disconnect](Replica::disconnect) afterwards.
    fn send(&mut self, session: SessionId, frame: &[u8]) -> Result<Sent, Self::Error>;

    /// Appends a record to those that are stored, and makes it durable before it returns.
    ///
    /// # Errors
    ///
    /// If it is not durable. It counts as not stored then, and nothing that depends on it leaves.
    fn persist(&mut self, record: &Record) -> Result<(), Self::Error>;

    /// Receives a notice or a session event.
    fn notify(&mut self, told: Notification);
}

/// The outcome of sending a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way, or lost.
    Yes,
    /// It is on its way, and this session should not be asked for more now: its connection has no more room.
    Full,
}

/// One thing that [`drive`] reports to a host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notification {
    /// Something about the shared data.
    Notice(Notice),
    /// Something in a session.
    Session(SessionId, SessionEvent),
}

/// Does everything that there is to do now: lets the replica take in that time has passed, stores, sends and reports.
/// Gives the latest time for the next call; call `drive` as well after each write, after each
/// [input](Replica::handle_input), and when a connection that was full has room again.
///
/// # Errors
///
/// The first error of a callback. Call it again: a record that was not stored is polled once only, so after an error of
/// [`persist`](Host::persist) the replica has to be opened anew from its storage.
pub fn drive<H: Host>(
    replica: &mut Replica,
    host: &mut H,
    now: Timestamp,
) -> Result<Option<Timestamp>, H::Error> {
    if replica.poll_timeout().is_some_and(|due| due <= now) {
        replica.handle_timeout(now);
    }
    persist(replica, host)?;
    let mut frame = Vec::new();
    for session in replica.sessions_to_send() {
        loop {
            frame.clear();
            if !replica.poll_transmit(session, now, &mut frame) {
                break;
            }
            if host.send(session, &frame)? == Sent::Full {
                break;
            }
        }
    }
    // The records of the heads that sending has signed.
    persist(replica, host)?;
    while let Some(notice) = replica.poll_notice() {
        host.notify(Notification::Notice(notice));
    }
    while let Some((session, event)) = replica.poll_event() {
        host.notify(Notification::Session(session, event));
    }
    Ok(replica.poll_timeout())
}

fn persist<H: Host>(replica: &mut Replica, host: &mut H) -> Result<(), H::Error> {
    while let Some(record) = replica.poll_record() {
        host.persist(&record)?;
        // It was polled just now.
        let _ = replica.confirm(record.id());
    }
    Ok(())
}
