//! A relay: it holds its peers' entries, checks them, and carries payloads that it does not interpret. Nothing is
//! encrypted, so it could.
//!
//! The entries that it takes in are stored as a replica's are. Its peers have them too, so nothing waits for that.

use std::path::Path;

use consilience::crdts::Timestamp;
use consilience::store::FileStore;
use consilience::sync::session::{InputError, SessionEvent, SessionId, SessionOptions};
use consilience::sync::{Limits, MeshSecret, Relay};

use crate::process::control::{Detail, Status};
use crate::process::folder;
use crate::process::host::damaged;
use crate::process::tally::Tally;
use crate::process::work::Work;
use crate::process::{Node, text};

/// The folder of its store, within its directory.
pub(crate) const STORE: &str = "relay";
const SYNC_MS: u64 = 200;

pub(crate) struct RelayNode {
    relay: Relay,
    store: FileStore,
    record_bytes: u64,
    snapshot_bytes: u64,
    tally: Tally,
    restored_entries: u64,
    sync_due: Option<Timestamp>,
}

impl RelayNode {
    pub(crate) fn open(dir: &Path, mesh: MeshSecret, restored: bool, now: Timestamp) -> Result<Self, String> {
        let folder = dir.join(STORE);
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", folder.display());
        let key = folder::key(dir)?;
        let opens = if restored { FileStore::open_rest } else { FileStore::open };
        let (store, stored) = opens(&folder).map_err(|error| damaged(&error, &folder))?;
        folder::tell(&folder, &stored.findings);
        let relay = Relay::open(mesh, Limits::default(), key, folder::random()?, stored.opened(), now);
        let relay = relay.map_err(|error| named(&error))?;
        let restored_entries = relay.logs().logs().map(consilience::sync::Log::size).sum();
        let tally = Tally::of(relay.logs());
        Ok(Self {
            relay,
            store,
            record_bytes: stored.records.len() as u64,
            snapshot_bytes: stored.snapshot.map_or(0, |snapshot| snapshot.len() as u64),
            tally,
            restored_entries,
            sync_due: None,
        })
    }

    fn write(&mut self, now: Timestamp) -> Result<(), Box<dyn std::error::Error>> {
        while let Some(record) = self.relay.poll_record() {
            self.tally.count(&record, self.relay.logs())?;
            self.store.append(&record)?;
            self.record_bytes += record.as_bytes().len() as u64;
            self.sync_due.get_or_insert(now.saturating_add_millis(SYNC_MS));
        }
        self.tally.settle(self.relay.logs());
        if self.sync_due.is_some_and(|due| due <= now) {
            self.sync_due = None;
            if let Some(last) = self.store.sync()? {
                self.relay.confirm(last)?;
            }
        }
        if self.relay.wants_snapshot() {
            let snapshot = self.relay.snapshot();
            self.store.install_snapshot(&snapshot)?;
            self.relay.confirm_snapshot(snapshot.covers())?;
            (self.record_bytes, self.snapshot_bytes) = (0, snapshot.as_bytes().len() as u64);
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
        self.write(now).map_err(|error| format!("the relay's records cannot be stored: {error}"))
    }

    fn close(self) -> Result<(), String> {
        self.store.close().map_err(text)
    }

    fn restored_entries(&self) -> u64 {
        self.restored_entries
    }

    fn play(&mut self, _: &Work<'_>) -> Result<(), String> {
        Err("nothing happens at a relay".into())
    }

    fn status(&mut self, detail: Detail) -> Result<Status, String> {
        self.tally.refresh(self.relay.logs());
        if detail == Detail::Couplings {
            self.tally.check(self.relay.logs())?;
        }
        let mut status = Status {
            signatures_verified: self.relay.signatures_checked(),
            journal_bytes: self.snapshot_bytes + self.record_bytes,
            ..Status::default()
        };
        self.tally.report(&mut status);
        Ok(status)
    }

    fn commands(&self) -> &'static str {
        "quit ends it"
    }

    fn obey(&mut self, _: &str, _: Timestamp) -> Result<Option<String>, String> {
        Err(text("a relay interprets and writes nothing; \"quit\" ends it"))
    }

    fn changes(&mut self) -> Vec<String> {
        Vec::new()
    }
}
