//! A blind relay: it holds what its peers have, checks it, and cannot read it.
//!
//! What it takes in is appended to one file and synced. Its peers have it too, so nothing waits for that.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use consilience::crdts::Timestamp;
use consilience::sync::session::{InputError, Relay, SessionEvent, SessionId, SessionOptions};
use consilience::sync::{Limits, MeshId};

use super::control::Status;
use super::node::{Node, text};
use super::work::Work;
use super::{folder, status};

pub(crate) const ITEMS: &str = "items";
const SYNC_MS: u64 = 200;

pub(crate) struct RelayNode {
    relay: Relay,
    items: File,
    bytes: u64,
    restored_entries: u64,
    sync_due: Option<Timestamp>,
}

impl RelayNode {
    pub(crate) fn open(dir: &Path, mesh: MeshId, now: Timestamp) -> Result<Self, String> {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", dir.join(ITEMS).display());
        let key = folder::key(dir)?;
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(false).read(true).write(true);
        let mut items = options.open(dir.join(ITEMS)).map_err(|error| named(&error))?;
        if items.try_lock().is_err() {
            return Err(named(&"another process has it open: stop that one first"));
        }
        let mut stored = Vec::new();
        items.read_to_end(&mut stored).map_err(|error| named(&error))?;
        let mut relay = Relay::new(mesh, Limits::default(), key, folder::random()?).with_storage();
        let good = relay.restore(&stored, now) as u64;
        // What a process that was killed left unfinished. It comes again.
        items.set_len(good).map_err(|error| named(&error))?;
        items.seek(SeekFrom::Start(good)).map_err(|error| named(&error))?;
        let restored_entries = relay.logs().logs().map(consilience::sync::Log::size).sum();
        Ok(Self { relay, items, bytes: good, restored_entries, sync_due: None })
    }

    fn write(&mut self, now: Timestamp) -> std::io::Result<()> {
        while let Some(item) = self.relay.poll_item() {
            self.items.write_all(item.as_bytes())?;
            self.bytes += item.as_bytes().len() as u64;
            self.sync_due.get_or_insert(now.saturating_add_millis(SYNC_MS));
        }
        if self.sync_due.is_some_and(|due| due <= now) {
            self.sync_due = None;
            self.items.sync_data()?;
        }
        Ok(())
    }
}

impl Node for RelayNode {
    fn connect(&mut self, options: SessionOptions, now: Timestamp) -> Result<SessionId, String> {
        Ok(self.relay.connect(options, now))
    }

    fn disconnect(&mut self, session: SessionId) {
        self.relay.disconnect(session);
    }

    fn handle_input(&mut self, session: SessionId, frames: &[u8], now: Timestamp) -> Result<(), InputError> {
        self.relay.handle_input(session, frames, now)
    }

    fn poll_transmit(&mut self, session: SessionId, now: Timestamp, out: &mut Vec<u8>) -> bool {
        self.relay.poll_transmit(session, now, out)
    }

    fn poll_event(&mut self) -> Option<(SessionId, SessionEvent)> {
        self.relay.poll_event()
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        self.relay.poll_timeout().into_iter().chain(self.sync_due).min()
    }

    fn handle_timeout(&mut self, now: Timestamp) {
        self.relay.handle_timeout(now);
    }

    fn store(&mut self, now: Timestamp) -> Result<(), String> {
        self.write(now).map_err(|error| format!("what was taken in cannot be stored: {error}"))
    }

    fn restored_entries(&self) -> u64 {
        self.restored_entries
    }

    fn play(&mut self, _: &Work<'_>) -> Result<(), String> {
        Err("nothing happens at a relay".into())
    }

    fn status(&mut self, _: bool) -> Result<Status, String> {
        Ok(Status {
            signatures_verified: self.relay.signatures_checked(),
            journal_bytes: self.bytes,
            ..status::of_logs(self.relay.logs())
        })
    }

    fn commands(&self) -> &'static str {
        "quit ends it"
    }

    fn obey(&mut self, _: &str, _: Timestamp) -> Result<Option<String>, String> {
        Err(text("a relay reads and writes nothing; \"quit\" ends it"))
    }

    fn changes(&mut self) -> Vec<String> {
        Vec::new()
    }
}
