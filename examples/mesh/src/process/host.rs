//! One process's replica with its store and its writers. All that a host does with the library is in here, in
//! `work.rs` (events of a trace), in `hand.rs` (commands of a person) and in `net.rs` (connections). And a process's report
//! of its logs: its [`Status`], and the hashes in it.

use std::collections::BTreeMap;
use std::path::Path;

use consilience::crdts::{CouplingSchema, Timestamp, Units};
use consilience::store::{FileStore, StoreError};
use consilience::sync::session::{InputError, SessionEvent, SessionId, SessionOptions};
use consilience::sync::{AgentId, Keypair, Limits, MeshSecret, Signer as _};
use consilience::{Config, Opened, Replica, TopicView, Writer};

use crate::process::control::{Coupled, Detail, Status};
use crate::process::tally::Tally;
use crate::process::work::{AGENTS, FILES, MET, TOPIC, agents_of};
use crate::process::{Node, folder, hex, text};

/// Entries of others come again if they are lost, so they wait so long for a sync that is needed anyway.
const SYNC_MS: u64 = 200;

pub(crate) struct Host {
    pub(crate) replica: Replica,
    store: FileStore,
    /// The process itself: it opens sessions, and by hand it writes.
    pub(crate) own: Writer,
    /// The agents of the trace that have worked here, by their numbers.
    writers: BTreeMap<u64, Writer>,
    pub(crate) schema: CouplingSchema,
    /// Entries that were there when it was opened.
    pub(crate) restored_entries: u64,
    snapshot_bytes: u64,
    record_bytes: u64,
    pub(crate) tally: Tally,
    /// The digest of the state, and the changes that were counted when it was made.
    digest: (u64, String),
    /// When appended records are to be synced at the latest.
    sync_due: Option<Timestamp>,
}

/// The settings that a host is opened with.
#[derive(Clone, Debug)]
pub(crate) struct HostConfig {
    pub(crate) mesh: MeshSecret,
    pub(crate) half_life_days: u64,
    /// The directory was put back from a backup.
    pub(crate) restored: bool,
    /// A trace's events are stamped with the trace's instants, whatever was met before.
    pub(crate) by_trace: bool,
}

impl HostConfig {
    pub(crate) fn schema(&self) -> Result<CouplingSchema, String> {
        CouplingSchema::with_half_life(self.half_life_days * 24 * 60 * 60 * 1_000).map_err(text)
    }

    /// For the library.
    fn to_config(&self) -> Result<Config, String> {
        let config = Config::new(self.mesh, folder::random()?);
        if !self.by_trace {
            return Ok(config);
        }
        // Of two writes of a trace that did not see one another the later one is to win, so nobody's clock may push
        // another's forward.
        let mut limits = Limits::default();
        limits.max_drift_ms = 0;
        // An event that is done again after a restore has an earlier instant than those that came meanwhile.
        Ok(config.with_limits(limits).with_own_instants())
    }
}

impl Host {
    /// Opens the store in a directory, or makes one.
    pub(crate) fn open(dir: &Path, config: &HostConfig, now: Timestamp) -> Result<Self, String> {
        let key = folder::key(dir)?;
        let opens = if config.restored { FileStore::open_rest } else { FileStore::open };
        let (store, stored) = opens(dir).map_err(|error| damaged(&error, dir))?;
        folder::tell(dir, &stored.findings);
        let opened = match stored.opened() {
            Opened::Resumed(kept) if config.restored => Opened::Restored(kept),
            opened => opened,
        };
        let mut replica = Replica::open(config.to_config()?, opened, now)
            .map_err(|error| format!("{}: {error}", dir.display()))?;
        let own = replica.add_writer(key).map_err(text)?;
        let mut host = Self {
            tally: Tally::of(replica.logs()),
            digest: (0, String::new()),
            restored_entries: replica.logs().logs().map(consilience::sync::Log::size).sum(),
            replica,
            store,
            own,
            writers: BTreeMap::new(),
            schema: config.schema()?,
            snapshot_bytes: stored.snapshot.as_ref().map_or(0, |snapshot| snapshot.len() as u64),
            record_bytes: stored.records.len() as u64,
            sync_due: None,
        };
        host.add_writers()?;
        // The time of sessions, which lies after the instants of a trace.
        host.replica.handle_timeout(now);
        host.sync(now)?;
        Ok(host)
    }

    /// The writer for an agent of the trace, which is added when it is first needed.
    pub(crate) fn writer(&mut self, agent: u64) -> Result<Writer, String> {
        if let Some(writer) = self.writers.get(&agent) {
            return Ok(*writer);
        }
        let writer = self.replica.add_writer(keypair(agent)).map_err(text)?;
        self.writers.insert(agent, writer);
        Ok(writer)
    }

    /// Makes everything durable that has happened. Entries of local writers may leave then.
    pub(crate) fn sync(&mut self, now: Timestamp) -> Result<(), String> {
        self.append(now)?;
        self.sync_due = None;
        if let Some(last) = self.store.sync().map_err(text)? {
            self.replica.confirm(last).map_err(text)?;
        }
        self.compact()
    }

    /// Appends the records that have to be stored; whether a local writer's is among them.
    fn append(&mut self, now: Timestamp) -> Result<bool, String> {
        let mut own = false;
        while let Some(record) = self.replica.poll_record() {
            own |= record.is_own();
            self.tally.count(&record, self.replica.logs())?;
            self.record_bytes += record.as_bytes().len() as u64;
            self.store.append(&record).map_err(text)?;
            self.sync_due.get_or_insert(now.saturating_add_millis(SYNC_MS));
        }
        self.tally.settle(self.replica.logs());
        Ok(own)
    }

    /// Puts a snapshot in the place of the records when that is worth it.
    fn compact(&mut self) -> Result<(), String> {
        if !self.replica.wants_snapshot() {
            return Ok(());
        }
        let snapshot = self.replica.snapshot();
        self.store.install_snapshot(&snapshot).map_err(text)?;
        self.replica.confirm_snapshot(snapshot.covers()).map_err(text)?;
        self.snapshot_bytes = snapshot.as_bytes().len() as u64;
        self.record_bytes = 0;
        Ok(())
    }

    /// Bytes of the snapshot and the records.
    pub(crate) const fn journal_bytes(&self) -> u64 {
        self.snapshot_bytes + self.record_bytes
    }
}

impl Node for Host {
    fn connect(&mut self, options: SessionOptions, now: Timestamp) -> Result<SessionId, String> {
        self.replica.connect(self.own, options, now).map_err(text)
    }

    fn disconnect(&mut self, session: SessionId) {
        self.replica.disconnect(session);
    }

    fn handle_input(&mut self, session: SessionId, frames: &[u8], now: Timestamp) -> Result<(), InputError> {
        self.replica.handle_input(session, frames, now)
    }

    fn poll_transmit(&mut self, session: SessionId, now: Timestamp, out: &mut Vec<u8>) -> bool {
        self.replica.poll_transmit(session, now, out)
    }

    fn poll_event(&mut self) -> Option<(SessionId, SessionEvent)> {
        self.replica.poll_event()
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        self.replica.poll_timeout().into_iter().chain(self.sync_due).min()
    }

    fn handle_timeout(&mut self, now: Timestamp) {
        self.replica.handle_timeout(now);
    }

    fn store(&mut self, now: Timestamp) -> Result<(), String> {
        let own = self.append(now)?;
        if own || self.sync_due.is_some_and(|due| due <= now) { self.sync(now) } else { Ok(()) }
    }

    fn close(self) -> Result<(), String> {
        self.store.close().map_err(text)
    }

    fn restored_entries(&self) -> u64 {
        self.restored_entries
    }

    fn play(&mut self, work: &crate::process::work::Work<'_>) -> Result<(), String> {
        Self::play(self, work)
    }

    fn status(&mut self, detail: Detail) -> Result<Status, String> {
        Self::status(self, detail)
    }

    fn commands(&self) -> &'static str {
        crate::process::hand::COMMANDS
    }

    fn obey(&mut self, line: &str, now: Timestamp) -> Result<Option<String>, String> {
        Self::obey(self, line, now)
    }

    fn changes(&mut self) -> Vec<String> {
        Self::changes(self)
    }
}

/// Why a store was not opened, and the way on.
pub(crate) fn damaged(error: &StoreError, dir: &Path) -> String {
    let way = if matches!(error, StoreError::Damaged { .. }) { " (--restored opens it)" } else { "" };
    format!("{}: {error}{way}", dir.display())
}

/// The mesh's secret in a replay, so that every process has the same; a real one is drawn and shared among the members.
pub(crate) fn mesh_of_seed(seed: u64) -> MeshSecret {
    MeshSecret::from_bytes(blake3::derive_key("consilience example mesh secret v1", &seed.to_le_bytes()))
}

/// The mesh's secret from a password.
pub(crate) fn mesh_of_password(password: &str) -> MeshSecret {
    MeshSecret::from_bytes(blake3::derive_key("consilience example mesh password v1", password.as_bytes()))
}

/// The key of an agent of a trace, made from its number so that every run has the same; a real one is drawn and kept
/// secret.
fn keypair(agent: u64) -> Keypair {
    let name = format!("agent {agent}");
    Keypair::from_seed(blake3::derive_key("consilience example mesh agent v1", name.as_bytes()))
}

/// An agent's public key.
pub(crate) fn id_of(agent: u64) -> AgentId {
    keypair(agent).agent()
}

impl Host {
    pub(crate) fn status(&mut self, detail: Detail) -> Result<Status, String> {
        self.tally.refresh(self.replica.logs());
        let view = self.replica.topic(TOPIC).map_err(text)?;
        let mut status = Status {
            events: view.events().len() as u64,
            keys: view.map(FILES).len() as u64,
            set_size: view.set(AGENTS).len() as u64,
            signatures_verified: self.replica.signatures_checked(),
            journal_bytes: self.journal_bytes(),
            ..Status::default()
        };
        self.tally.report(&mut status);
        if detail == Detail::Brief {
            return Ok(status);
        }
        if self.digest.1.is_empty() || self.digest.0 != self.tally.changes() {
            self.digest = (self.tally.changes(), digest(&self.replica));
        }
        status.digest.clone_from(&self.digest.1);
        let stats = self.replica.stats(None);
        (status.stored_bytes, status.live_bytes) = (stats.stored, stats.live);
        if detail == Detail::Couplings {
            self.tally.check(self.replica.logs())?;
            status.couplings = self.couplings(view);
            let latest = latest(view);
            let bundle = self.replica.export_bundle(|_| true, None, latest);
            status.bundle_bytes = bundle.map_err(text)?.len() as u64;
        }
        Ok(status)
    }

    fn couplings(&self, view: TopicView<'_>) -> Vec<Coupled> {
        let Some(met) = view.coupling(MET, self.schema).sum() else { return Vec::new() };
        let latest = latest(view);
        let numbers = numbers(view);
        let instants = [-2, -1, 0, 1, 2].map(|half_lives: i64| {
            let away = self.schema.half_life_ms().saturating_mul(half_lives.unsigned_abs());
            let millis = latest.as_millis();
            let millis =
                if half_lives < 0 { millis.saturating_sub(away) } else { millis.saturating_add(away) };
            Timestamp::from_millis(millis)
        });
        let coupled = met.iter(latest).filter_map(|(pair, _)| {
            let agents = agents_of(pair)?.map(|agent| numbers.get(&agent).copied());
            let [one, other] = [agents[0]?, agents[1]?];
            let values = instants.map(|instant| number(met.value(pair, instant)));
            Some(Coupled { agents: [one.min(other), one.max(other)], values })
        });
        coupled.collect()
    }
}

/// Hash over the digests of all topics.
pub(crate) fn digest(replica: &Replica) -> String {
    let mut hasher = blake3::Hasher::new();
    for topic in replica.topics() {
        hasher.update(&blake3::hash(topic.as_str().as_bytes()).as_bytes()[..]);
        hasher.update(&replica.digest(topic));
    }
    hex(hasher.finalize().as_bytes())
}

/// The instant of the last event.
pub(crate) fn latest(view: TopicView<'_>) -> Timestamp {
    view.events().iter().last().map_or(Timestamp::EPOCH, |event| event.stamp.time())
}

/// The agents of the trace that were seen at work, by their names.
fn numbers(view: TopicView<'_>) -> BTreeMap<AgentId, u64> {
    let seen = view.set(AGENTS).iter();
    let seen = seen.filter_map(|agent| std::str::from_utf8(agent.key).ok()?.parse().ok());
    seen.map(|number| (id_of(number), number)).collect()
}

/// Exact: a unit has 32 bits behind the point and at most 21 before it, up to the cap.
#[expect(clippy::cast_precision_loss, reason = "the loss is below the shown digits")]
pub(crate) fn number(units: Units) -> f64 {
    units.to_bits() as f64 / 2_f64.powi(32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::control::Change;
    use crate::process::work::Work;

    const NOW: Timestamp = Timestamp::from_millis(2_000_000_000_000);

    fn open(dir: &Path) -> Host {
        let config =
            HostConfig { mesh: mesh_of_seed(1), half_life_days: 30, restored: false, by_trace: true };
        Host::open(dir, &config, NOW).unwrap()
    }

    fn play(host: &mut Host, agent: u64, ordinal: u64) {
        let at = Timestamp::from_millis(1_000_000_000_000 + 1_000 * ordinal + agent);
        let changes = [Change::Set(format!("{}", agent % 97)), Change::Remove(format!("{}", agent % 89))];
        host.play(&Work { agent, ordinal, at, changes: &changes }).unwrap();
        host.store(NOW).unwrap();
    }

    /// Gives `to` the entries of `from`.
    fn bring(from: &mut Host, to: &mut Host) {
        let bundle = from.replica.export_bundle(|_| true, None, NOW).unwrap();
        to.replica.import_bundle(&bundle, NOW).unwrap();
        to.store(NOW).unwrap();
        // An export signs.
        from.store(NOW).unwrap();
    }

    #[test]
    fn a_status_looks_at_what_changed_and_says_what_a_pass_over_all_says() {
        let dir = std::env::temp_dir().join(format!("consilience-mesh-host-{}", std::process::id()));
        let mut here = open(&dir.join("here"));
        let mut there = open(&dir.join("there"));
        (0..300).for_each(|agent| play(&mut here, agent, 1));
        bring(&mut here, &mut there);
        let looks = |host: &mut Host| {
            let before = host.tally.looks();
            host.status(Detail::Brief).unwrap();
            host.tally.looks() - before
        };
        assert!(looks(&mut here) <= 600);
        assert_eq!(looks(&mut here), 0);
        let before = [&here, &there].map(|host| host.tally.looks());
        play(&mut here, 7, 2);
        bring(&mut here, &mut there);
        let statuses = [&mut here, &mut there].map(|host| host.status(Detail::Brief).unwrap());
        let looked = [here.tally.looks() - before[0], there.tally.looks() - before[1]];
        assert!(looked.iter().all(|looks| (1..=12).contains(looks)), "{looked:?} of 600 logs");
        assert_eq!(statuses[0].root, statuses[1].root);
        assert_eq!((statuses[0].entries, statuses[1].entries), (602, 602));
        assert_eq!(statuses[0].needed_bytes, 0, "all of it was written here");
        let signatures = 64 * 602;
        let entries = statuses[1].needed_bytes - signatures;
        assert!((602 * 40..602 * 400).contains(&entries), "{entries} bytes of entries");
        drop(there);
        let mut there = open(&dir.join("there"));
        for host in [&mut here, &mut there] {
            let status = host.status(Detail::Couplings).expect("the counters are right");
            assert_eq!((&status.root, status.entries), (&statuses[0].root, 602));
        }
        assert_eq!(there.status(Detail::Full).unwrap().needed_bytes, 0, "nothing came in this life");
        drop((here, there));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
