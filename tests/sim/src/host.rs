//! A host: a process with a replica or a relay, its disk, its clock, and the habits of the program around it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use consilience::crdts::Timestamp;
use consilience::journal::{Area, Damage, JournalCorrupt, Record, RecordId};
use consilience::sync::session::{InputError, Scope, SessionEvent, SessionId, SessionOptions};
use consilience::sync::{AgentId, Limits, Log, LogId, LogSet, Relay, Signer as _, Topic};
use consilience::{Config, Notice, Opened, Replica, ReplicaError, Stored, Writer};
use consilience_test_support::replicas::{START, secret};

use crate::keys::{Key, Keys};
use crate::mirror::Mirror;
use crate::naive;
use crate::step::When;

/// Of more logs than these each may have more on the heap than follows from its few bytes.
const LOGS_FEW: usize = 16;
const LOG_BYTES: u64 = 2_048;

/// The stored bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) snapshot: Option<Vec<u8>>,
    pub(crate) records: Vec<u8>,
}

#[derive(Debug)]
pub(crate) enum Process {
    Replica(Box<Replica>, Writer),
    Relay(Box<Relay>),
}

/// How a process starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Fresh,
    Resumed,
    Restored,
}

/// A replica with little room, which shows few topics.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) logs: usize,
    /// None: all topics.
    pub(crate) gate: Option<Scope>,
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    /// The key's name: of a clone that of the first.
    pub(crate) agent: String,
    pub(crate) is_relay: bool,
    pub(crate) process: Option<Process>,
    pub(crate) disk: Disk,
    /// Records that were polled and are not written yet.
    pending: Vec<Record>,
    last: Option<RecordId>,
    /// Records up to here were written.
    pub(crate) written: Option<RecordId>,
    pub(crate) ahead: i64,
    pub(crate) when: When,
    pub(crate) polls: bool,
    pub(crate) starts: u64,
    /// Whether it gives the entropy of its first start each time.
    pub(crate) same_entropy: bool,
    /// The agent as whom it writes.
    own: Option<AgentId>,
    /// The sessions of its process.
    sessions: Vec<SessionId>,
    /// The heap of its process when it ended.
    pub(crate) weight: Option<Weight>,
    /// Whether a bit on its disk was changed.
    is_rotten: bool,
    /// A consumer of its notices, if it has subscribed to all.
    pub(crate) mirror: Option<Mirror>,
    /// A notice did not fit what the consumer knew.
    pub(crate) is_misled: bool,
    /// What it was told: the notices that were polled.
    pub(crate) notices: Vec<Notice>,
    /// How a guest runs.
    pub(crate) guest: Option<Guest>,
    /// Its records were cut when it started, and it was not told yet.
    pub(crate) is_cut: bool,
    /// Own logs of which another history was known when it started.
    pub(crate) knew_forks: BTreeSet<LogId>,
    /// Whether the promises that follow from what is stored were noted up to `written`.
    pub(crate) is_noted: bool,
    /// The digests of its topics, until something is done that may change them.
    digests: RefCell<Option<Digests>>,
    /// A hash of what its root covers, likewise.
    heads: Cell<Option<[u8; 32]>>,
}

/// What a process had on the heap, in bytes, and the most that it may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weight {
    pub(crate) heap: u64,
    pub(crate) allowed: u64,
    /// Nothing waited for its host.
    pub(crate) is_idle: bool,
}

/// The digests of the topics that are not empty.
pub(crate) type Digests = BTreeMap<String, [u8; 32]>;

impl Host {
    pub(crate) fn new(name: &str, agent: &str, is_relay: bool, disk: Disk) -> Self {
        Self {
            name: name.into(),
            agent: agent.into(),
            is_relay,
            process: None,
            disk,
            pending: Vec::new(),
            last: None,
            written: None,
            ahead: 0,
            when: When::AtOnce,
            polls: true,
            starts: 0,
            same_entropy: false,
            own: None,
            sessions: Vec::new(),
            weight: None,
            mirror: None,
            is_misled: false,
            is_rotten: false,
            notices: Vec::new(),
            guest: None,
            is_cut: false,
            knew_forks: BTreeSet::new(),
            is_noted: true,
            digests: RefCell::new(None),
            heads: Cell::new(None),
        }
    }

    /// The time by this host's clock.
    pub(crate) fn time(&self, now: u64) -> Timestamp {
        let ms = i64::try_from(START + now).unwrap_or(i64::MAX).saturating_add(self.ahead);
        Timestamp::from_millis(u64::try_from(ms).unwrap_or(0))
    }

    /// A time by this host's clock, by the world's.
    fn back(&self, time: Timestamp) -> u64 {
        let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX).saturating_sub(self.ahead);
        u64::try_from(ms).unwrap_or(0).saturating_sub(START)
    }

    /// Begins to run. The entropy depends on the world's seed, the host and the number of its starts.
    ///
    /// # Panics
    ///
    /// If the library refuses what it had given out to be stored.
    pub(crate) fn start(&mut self, seed: u64, how: How, now: u64) {
        let key = Keys::of_seed(seed).key(&self.agent);
        self.own = Some(key.agent());
        self.starts += 1;
        let drawn = if self.same_entropy { 1 } else { self.starts };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(self.name.as_bytes()).update(&drawn.to_le_bytes());
        let entropy = *hasher.finalize().as_bytes();
        let time = self.time(now);
        let mut how = how;
        let (process, cut) = loop {
            let stored = Stored { snapshot: self.disk.snapshot.as_deref(), records: &self.disk.records };
            let opened = match how {
                How::Fresh => Opened::Fresh,
                How::Resumed => Opened::Resumed(stored),
                How::Restored => Opened::Restored(stored),
            };
            match self.open(&key, entropy, opened, time) {
                Ok(opened) => break opened,
                // What is good of it is opened as a backup.
                Err(corrupt) if self.is_rotten && corrupt.damage == Damage::Lost => {
                    let good = if corrupt.part == Area::Records { corrupt.offset } else { 0 };
                    self.disk.records.truncate(good);
                    if corrupt.part == Area::Snapshot {
                        self.disk.snapshot = None;
                    }
                    how = How::Restored;
                }
                Err(corrupt) => panic!("{}: {corrupt:?}", self.name),
            }
        };
        self.is_rotten = false;
        if let Some(good_to) = cut {
            self.disk.records.truncate(good_to);
        }
        self.is_cut = cut.is_some() && matches!(process, Process::Replica(..));
        let logs = process.logs();
        self.knew_forks = logs.logs().map(|log| *log.id()).filter(|log| logs.is_self_forked(log)).collect();
        self.process = Some(process);
        self.stale();
        self.pending.clear();
        self.mirror = None;
        (self.last, self.written) = (None, None);
        self.store(how == How::Restored);
    }

    fn open(
        &self,
        key: &Key,
        entropy: [u8; 32],
        opened: Opened<'_>,
        time: Timestamp,
    ) -> Result<(Process, Option<usize>), JournalCorrupt> {
        if self.is_relay {
            let relay = Relay::open(secret(), Limits::default(), key.clone(), entropy, opened, time)?;
            let cut = relay.cut().map(|_| relay.good_to());
            return Ok((Process::Relay(Box::new(relay)), cut));
        }
        let tidy = if entropy[0].is_multiple_of(2) { (1, 0) } else { (2, 200) };
        let mut config = Config::new(secret(), entropy).with_compaction(tidy.0, tidy.1);
        if let Some(guest) = self.guest.clone() {
            let mut limits = Limits::default();
            (limits.logs_max, limits.logs_per_agent_max) = (2 * guest.logs, guest.logs);
            config = config.with_limits(limits);
            if let Some(gate) = guest.gate {
                config = config.with_gate(move |_| Some(gate.clone()));
            }
        }
        let mut replica = match Replica::open(config, opened, time) {
            Ok(replica) => replica,
            Err(ReplicaError::Corrupt(corrupt)) => return Err(corrupt),
            Err(error) => panic!("{error:?}"),
        };
        let cut = replica.cut().map(|_| replica.good_to());
        let writer = replica.add_writer(key.clone()).unwrap();
        Ok((Process::Replica(Box::new(replica), writer), cut))
    }

    /// Ends the process and its sessions, and says what it had on the heap, and how much of that is allowed: 12 bytes for each
    /// that is retained and was signed, 16 KiB for the set of logs, 32 KiB for a writer and for what sessions leave,
    /// and something for each of very many logs.
    fn weigh(&mut self) -> Option<Weight> {
        let is_idle = self.when == When::AtOnce && self.polls;
        self.sessions.drain(..).for_each(|session| disconnect(&mut self.process, session));
        let process = self.process.take()?;
        let signed = retained(process.logs(), self.own.as_ref());
        let crowd = process.logs().logs().count().saturating_sub(LOGS_FEW) as u64;
        let freed = allocation_counter::measure(|| drop(process)).bytes_current;
        let heap = u64::try_from(-freed).unwrap_or(0);
        Some(Weight { heap, allowed: 12 * signed + crowd * LOG_BYTES + 48 * 1_024, is_idle })
    }

    /// A bit on the disk is another one; false if there is none.
    pub(crate) fn rot(&mut self, place: u64) -> bool {
        let snapshot = self.disk.snapshot.as_mut().map_or(&mut [][..], Vec::as_mut_slice);
        let bytes = snapshot.len() + self.disk.records.len();
        let at = bytes.saturating_mul(usize::try_from(place.min(999)).unwrap_or(0)) / 1_000;
        let records = at.checked_sub(snapshot.len());
        let byte = records.map_or_else(|| snapshot.get_mut(at), |at| self.disk.records.get_mut(at));
        let Some(byte) = byte else { return false };
        *byte ^= 1 << (place % 8);
        self.is_rotten = true;
        true
    }

    /// The process is gone; of the records that were not written, so many of a hundred bytes are.
    pub(crate) fn kill(&mut self, written: u64) {
        self.weight = self.weigh();
        let bytes: Vec<u8> = self.pending.iter().flat_map(|record| record.as_bytes()).copied().collect();
        let kept = bytes.len() * usize::try_from(written.min(100)).unwrap_or(0) / 100;
        self.disk.records.extend(&bytes[..kept]);
        self.pending.clear();
    }

    /// Stores as this host does; at once if it must.
    pub(crate) fn store(&mut self, must: bool) {
        let Some(process) = &mut self.process else { return };
        while let Some(record) = process.poll_record() {
            self.last = Some(record.id());
            self.pending.push(record);
        }
        if self.when == When::Late && !must {
            return;
        }
        for record in self.pending.drain(..) {
            self.disk.records.extend(record.as_bytes());
            self.written = Some(record.id());
            self.is_noted = false;
        }
        if self.when == When::Unconfirmed && !must {
            return;
        }
        if let Some(last) = self.last.take() {
            process.confirm(last);
            self.digests.get_mut().take();
            self.heads.set(None);
        }
        if process.wants_snapshot() {
            self.snapshot();
        }
    }

    /// Stores a snapshot in the place of all records so far, written or not.
    pub(crate) fn snapshot(&mut self) {
        self.stale();
        let Some(process) = &mut self.process else { return };
        while let Some(record) = process.poll_record() {
            self.pending.push(record);
        }
        let (bytes, covers) = process.snapshot();
        self.disk = Disk { snapshot: Some(bytes), records: Vec::new() };
        self.pending.retain(|record| record.id() > covers);
        self.last = self.last.filter(|last| *last > covers);
        (self.written, self.is_noted) = (self.written.max(Some(covers)), false);
        process.confirm_snapshot(covers);
    }

    pub(crate) fn next_timeout(&self) -> Option<u64> {
        self.due().map(|due| self.back(due))
    }

    pub(crate) fn handle_timeout(&mut self, now: u64) {
        let time = self.time(now);
        if self.next_timeout().is_some_and(|due| due <= now) {
            self.stale();
        }
        match &mut self.process {
            Some(Process::Replica(replica, _)) => replica.handle_timeout(time),
            Some(Process::Relay(relay)) => relay.handle_timeout(time),
            None => return,
        }
        self.store(false);
    }

    pub(crate) fn connect(&mut self, options: SessionOptions, now: u64) -> Option<SessionId> {
        let time = self.time(now);
        let session = match self.process.as_mut()? {
            Process::Replica(replica, writer) => replica.connect(*writer, options, time).ok(),
            Process::Relay(relay) => Some(relay.connect(options, time)),
        };
        self.sessions.extend(session);
        self.store(false);
        session
    }

    pub(crate) fn input(&mut self, session: SessionId, frame: &[u8], now: u64) -> Result<(), InputError> {
        let time = self.time(now);
        self.stale();
        let result = match &mut self.process {
            Some(Process::Replica(replica, _)) => replica.handle_input(session, frame, time),
            Some(Process::Relay(relay)) => relay.handle_input(session, frame, time),
            None => Ok(()),
        };
        self.store(false);
        result
    }

    pub(crate) fn transmit(&mut self, session: SessionId, now: u64, frame: &mut Vec<u8>) -> bool {
        let time = self.time(now);
        let sent = match &mut self.process {
            Some(Process::Replica(replica, _)) => replica.poll_transmit(session, time, frame),
            Some(Process::Relay(relay)) => relay.poll_transmit(session, time, frame),
            None => false,
        };
        self.store(false);
        sent
    }

    pub(crate) fn disconnect(&mut self, session: SessionId) {
        self.sessions.retain(|one| *one != session);
        disconnect(&mut self.process, session);
    }

    /// Whether it shows its peers all topics.
    pub(crate) fn is_open(&self) -> bool {
        self.guest.as_ref().is_none_or(|guest| guest.gate.is_none())
    }

    /// Whether the peer of a session has all, as far as this side knows.
    pub(crate) fn peer_has_all(&mut self, session: SessionId) -> bool {
        match &mut self.process {
            Some(Process::Replica(replica, _)) => replica.peer_has_all(session),
            Some(Process::Relay(relay)) => relay.peer_has_all(session),
            None => false,
        }
    }

    pub(crate) fn event(&mut self) -> Option<(SessionId, SessionEvent)> {
        match self.process.as_mut()? {
            Process::Replica(replica, _) => replica.poll_event(),
            Process::Relay(relay) => relay.poll_event(),
        }
    }

    pub(crate) fn notice(&mut self) -> Option<Notice> {
        let notice = match self.process.as_mut()? {
            Process::Replica(replica, _) => replica.poll_notice(),
            Process::Relay(_) => None,
        }?;
        if matches!(notice, Notice::Missed { .. }) {
            self.mirror = None;
        }
        if let Some(mirror) = &mut self.mirror {
            self.is_misled |= !mirror.take(&notice);
        }
        Some(notice)
    }

    fn stale(&self) {
        *self.digests.borrow_mut() = None;
        self.heads.set(None);
    }

    /// A hash of what the root covers, as the naive model says.
    pub(crate) fn heads(&self) -> Option<[u8; 32]> {
        if self.heads.get().is_none() {
            let mut hasher = blake3::Hasher::new();
            for (log, (size, root, facts)) in naive::heads(self.logs()?) {
                hasher.update(log.as_bytes()).update(&size.to_le_bytes());
                for hash in [root, facts] {
                    hasher.update(hash.as_ref().map_or(&[0; 32], |hash| hash.as_bytes()));
                }
            }
            self.heads.set(Some(*hasher.finalize().as_bytes()));
        }
        self.heads.get()
    }

    /// When something is due by its clock.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        match self.process.as_ref()? {
            Process::Replica(replica, _) => replica.poll_timeout(),
            Process::Relay(relay) => relay.poll_timeout(),
        }
    }

    /// The digests of a replica's topics that are not empty.
    pub(crate) fn digests(&self) -> Option<Digests> {
        let replica = self.replica()?;
        let mut known = self.digests.borrow_mut();
        let digests = known.get_or_insert_with(|| {
            let nothing = replica.digest(&Topic::new("nothing").expect("a topic"));
            let topics = replica.topics().map(|topic| (topic.as_str().to_owned(), replica.digest(topic)));
            topics.filter(|(_, digest)| *digest != nothing).collect()
        });
        Some(digests.clone())
    }

    pub(crate) fn logs(&self) -> Option<&LogSet> {
        self.process.as_ref().map(Process::logs)
    }

    /// How much is held of others' logs of all topics but one.
    pub(crate) fn sizes_but(&self, topic: Option<&str>) -> BTreeMap<LogId, (u64, u64)> {
        let Some(topic) = topic else { return BTreeMap::new() };
        let logs = self.logs().into_iter().flat_map(|logs| logs.logs());
        let is_other =
            |log: &&Log| log.opening().topic.as_str() != topic && self.own != Some(log.opening().agent);
        let others = logs.filter(is_other);
        others.map(|log| (*log.id(), (log.signed_size(), log.start()))).collect()
    }

    /// The root over all heads that count.
    pub(crate) fn root(&mut self) -> Option<[u8; 32]> {
        Some(match self.process.as_mut()? {
            Process::Replica(replica, _) => replica.heads_root(),
            Process::Relay(relay) => relay.heads_root(),
        })
    }

    pub(crate) fn replica(&self) -> Option<&Replica> {
        match self.process.as_ref()? {
            Process::Replica(replica, _) => Some(replica),
            Process::Relay(_) => None,
        }
    }

    /// The replica, to do something that may change its state.
    pub(crate) fn replica_mut(&mut self) -> Option<(&mut Replica, Writer)> {
        self.stale();
        match self.process.as_mut()? {
            Process::Replica(replica, writer) => Some((replica, *writer)),
            Process::Relay(_) => None,
        }
    }
}

fn disconnect(process: &mut Option<Process>, session: SessionId) {
    match process {
        Some(Process::Replica(replica, _)) => replica.disconnect(session),
        Some(Process::Relay(relay)) => relay.disconnect(session),
        None => {}
    }
}

/// The bytes of entries that are retained, of heads and facts, and of what is staged or waits for its time.
fn retained(logs: &LogSet, own: Option<&AgentId>) -> u64 {
    let late = logs.stats().late_bytes;
    let of = |log: &Log| {
        // Of an own log what others may still need goes once the next entry is signed, of a forked one what its owner may say
        // again when that is done, and what waits for its time is all held.
        let is_kept = own == Some(&log.opening().agent) || logs.forks(log.id()).is_some() || late > 0;
        let base = if is_kept { 0 } else { log.base() };
        let entries = log.entries(base.max(log.start()), log.size());
        let entries: usize = entries.map(|entry| entry.encode().len()).sum();
        let head = log.head().map_or(0, |head| head.encode(log.opening(), logs.mesh()).len());
        let facts = logs.facts(log.id());
        let forks = facts.and_then(|facts| facts.forks()).into_iter().flat_map(|forks| forks.pieces());
        let forks: usize = forks.map(|evidence| evidence.as_bytes().len()).sum();
        let pruned = facts.and_then(|facts| facts.pruned()).map_or(0, |pruned| pruned.as_bytes().len());
        let mut staged = 0;
        log.staged_ranges(1 << 20, &mut |range| staged += range.len());
        (entries + head + forks + pruned + staged) as u64
    };
    logs.logs().map(of).sum::<u64>() + late as u64
}

impl Process {
    fn logs(&self) -> &LogSet {
        match self {
            Self::Replica(replica, _) => replica.logs(),
            Self::Relay(relay) => relay.logs(),
        }
    }

    fn poll_record(&mut self) -> Option<Record> {
        match self {
            Self::Replica(replica, _) => replica.poll_record(),
            Self::Relay(relay) => relay.poll_record(),
        }
    }

    fn confirm(&mut self, record: RecordId) {
        match self {
            Self::Replica(replica, _) => replica.confirm(record),
            Self::Relay(relay) => relay.confirm(record),
        }
        .expect("a record that was polled");
    }

    fn wants_snapshot(&self) -> bool {
        match self {
            Self::Replica(replica, _) => replica.wants_snapshot(),
            Self::Relay(relay) => relay.wants_snapshot(),
        }
    }

    fn snapshot(&mut self) -> (Vec<u8>, RecordId) {
        let snapshot = match self {
            Self::Replica(replica, _) => replica.snapshot(),
            Self::Relay(relay) => relay.snapshot(),
        };
        let covers = snapshot.covers();
        (snapshot.into_bytes(), covers)
    }

    fn confirm_snapshot(&mut self, covers: RecordId) {
        match self {
            Self::Replica(replica, _) => replica.confirm_snapshot(covers),
            Self::Relay(relay) => relay.confirm_snapshot(covers),
        }
        .expect("a snapshot that was made");
    }
}
