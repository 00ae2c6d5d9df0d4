//! [`Node`]: what the connections of a process need of what it holds, a replica or a relay.

use consilience::crdts::Timestamp;
use consilience::sync::session::{InputError, SessionEvent, SessionId, SessionOptions};

use crate::process::control::Status;
use crate::process::work::Work;

/// A replica with its store, or a relay with its own.
pub(crate) trait Node {
    fn connect(&mut self, options: SessionOptions, now: Timestamp) -> Result<SessionId, String>;
    fn disconnect(&mut self, session: SessionId);
    fn handle_input(&mut self, session: SessionId, frames: &[u8], now: Timestamp) -> Result<(), InputError>;
    fn poll_transmit(&mut self, session: SessionId, now: Timestamp, out: &mut Vec<u8>) -> bool;
    fn poll_event(&mut self) -> Option<(SessionId, SessionEvent)>;
    fn poll_timeout(&self) -> Option<Timestamp>;
    fn handle_timeout(&mut self, now: Timestamp);

    /// Stores what has to be stored; what local writers wrote is durable afterwards. An error is the end.
    fn store(&mut self, now: Timestamp) -> Result<(), String>;

    /// Entries that were there when it was opened.
    fn restored_entries(&self) -> u64;

    /// Makes an event of a trace happen here.
    fn play(&mut self, work: &Work<'_>) -> Result<(), String>;

    /// What it holds, without what is known of connections.
    fn status(&mut self, couplings: bool) -> Result<Status, String>;

    /// What a person may ask for.
    fn commands(&self) -> &'static str;

    /// Does what a person asks for, and says what is to be shown.
    fn obey(&mut self, line: &str, now: Timestamp) -> Result<Option<String>, String>;

    /// What changed since the last call, for a person.
    fn changes(&mut self) -> Vec<String>;
}

pub(crate) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
