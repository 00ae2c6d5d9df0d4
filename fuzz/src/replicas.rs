//! Replicas that hear a hostile member beside honest ones, in two orders; and journals as storage may give them back.

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use consilience::journal::{Journal, JournalItem, apply, recover};
use consilience::{Config, Opened, Replica, Stored, Writer};
use consilience_crdts::{CouplingSchema, Hlc, Timestamp, Units};
use consilience_sync::codec::put_varint;
use consilience_sync::{
    Answer, Incarnation, Limits, LogId, LogKind, LogOpening, LogRef, LogSet, MeshId, NewEntry, Part,
    RangeForm, Signer, Topic, Want,
};

use crate::keys::Key;
use crate::logs::{T, secret};

/// So many entries show what they can.
const ENTRIES_MAX: usize = 24;
pub(crate) const TOPIC: &str = "team/planning";
pub(crate) const KEYS: [&str; 4] = ["a", "b", "c", "d"];
/// Of the hostile member, in order.
const INCARNATIONS: [u64; 3] = [3, 7, 1 << 60];

pub(crate) fn now(ms: u64) -> Timestamp {
    Timestamp::from_millis(T + ms)
}

pub(crate) fn schema() -> CouplingSchema {
    CouplingSchema::with_half_life(3_600_000).unwrap()
}

pub(crate) const fn keys(agent: u8) -> Key {
    Key(agent)
}

pub(crate) fn topic() -> Topic {
    Topic::new(TOPIC).unwrap()
}

/// A replica with its host's storage.
pub(crate) struct Node {
    pub(crate) replica: Replica,
    pub(crate) writer: Writer,
    pub(crate) records: Vec<u8>,
}

fn config(seed: u8) -> Config {
    Config::new(secret(), [seed; 32]).with_compaction(1, 0)
}

impl Node {
    pub(crate) fn new(agent: u8, seed: u8, opened: Opened<'_>) -> Self {
        Self::at(0, agent, seed, opened)
    }

    pub(crate) fn at(ms: u64, agent: u8, seed: u8, opened: Opened<'_>) -> Self {
        let mut replica = Replica::open(config(seed), opened, now(ms)).unwrap();
        let writer = replica.add_writer(keys(agent)).unwrap();
        Self { replica, writer, records: Vec::new() }
    }

    pub(crate) fn store(&mut self) {
        while let Some(record) = self.replica.poll_record() {
            self.records.extend(record.as_bytes());
            self.replica.confirm(record.id()).unwrap();
        }
    }

    fn write(&mut self, ms: u64, key: &str, value: Option<&str>) {
        let mut tx = self.replica.transact(self.writer, TOPIC, now(ms)).unwrap();
        match value {
            Some(value) => tx.map("tasks").set(key, value).unwrap(),
            None => tx.map("tasks").remove(key).unwrap(),
        }
        tx.coupling("trust", schema()).strengthen(key, Units::new(3)).unwrap();
        tx.commit().unwrap();
        self.store();
    }

    /// Writes a key, or removes it.
    pub(crate) fn put(&mut self, ms: u64, key: &str, value: Option<&[u8]>) {
        let mut tx = self.replica.transact(self.writer, TOPIC, now(ms)).unwrap();
        match value {
            Some(value) => tx.map("tasks").set(key, value).unwrap(),
            None => tx.map("tasks").remove(key).unwrap(),
        }
        tx.commit().unwrap();
        self.store();
    }

    fn all(&mut self, ms: u64) -> Vec<u8> {
        self.store();
        self.replica.export_bundle(|_| true, None, now(ms)).unwrap()
    }

    pub(crate) fn take(&mut self, bundle: &[u8], ms: u64) {
        self.replica.import_bundle(bundle, now(ms)).unwrap();
        self.store();
    }

    /// Hears everything, as often as it brings news: what could not be placed can be now.
    fn settle(&mut self, bundles: &[Vec<u8>], ms: u64) {
        loop {
            let before = self.replica.summary();
            bundles.iter().for_each(|bundle| self.take(bundle, ms));
            if self.replica.summary() == before {
                return;
            }
        }
    }
}

/// What honest members have sent, in order; and the dots of theirs that a hostile one may know.
struct Honest {
    bundles: Vec<Vec<u8>>,
    dots: Vec<([u8; 8], u64, [u8; 4])>,
}

static HONEST: LazyLock<Honest> = LazyLock::new(|| {
    let (mut ada, mut bob) = (Node::new(1, 1, Opened::InMemory), Node::new(2, 2, Opened::Fresh));
    let mut honest = Honest { bundles: Vec::new(), dots: Vec::new() };
    let mut ms = 0;
    for round in 0..6 {
        ms += 10;
        ada.write(ms, KEYS[round % 4], Some("ada"));
        bob.write(ms + 1, KEYS[(round + 1) % 4], (round % 3 != 2).then_some("bob"));
        if round == 3 {
            // Storage is lost; the next incarnation takes over.
            ada = Node::new(1, 9, Opened::InMemory);
        }
        let (left, right) = (ada.all(ms + 2), bob.all(ms + 2));
        if round % 2 == 1 {
            ada.take(&right, ms + 3);
            bob.take(&left, ms + 3);
        }
        honest.bundles.extend([left, right]);
        for log in ada.replica.logs().logs() {
            for entry in log.entries(log.start(), log.size()) {
                let leaf = log.leaf(entry.seq).unwrap();
                let dot = (log.id().alias(), entry.seq, *leaf.as_bytes().first_chunk().unwrap());
                if !honest.dots.contains(&dot) {
                    honest.dots.push(dot);
                }
            }
        }
    }
    honest
});

/// What a hostile member writes, and in which order everything is heard.
#[derive(Clone, Debug, Arbitrary)]
pub struct Scene {
    pub entries: Vec<Hostile>,
    pub orders: [Vec<u8>; 2],
}

#[derive(Clone, Debug, Arbitrary)]
pub struct Hostile {
    /// Which of its incarnations.
    pub log: u8,
    pub raise: u8,
    pub clock: u8,
    pub payload: Payload,
}

#[derive(Clone, Debug, Arbitrary)]
pub enum Payload {
    Any(Vec<u8>),
    Built(Built),
    Changed { built: Built, at: u16, by: u8 },
}

/// A payload that is well-formed, whatever it says.
#[derive(Clone, Debug, Arbitrary)]
pub struct Built {
    pub retired: Vec<(u8, u8)>,
    pub set: bool,
    pub ops: Vec<Op>,
    pub couples: Vec<(bool, u8, u64)>,
}

#[derive(Clone, Debug, Arbitrary)]
pub enum Op {
    Set(u8, u8, Vec<Name>),
    Remove(u8, Vec<Name>),
    End(Vec<Name>),
    Carry { incarnation: Option<u8>, name: Name, stamp: u8, key: u8, value: u8 },
}

/// A dot: one of the honest members', or any of the own.
#[derive(Clone, Debug, Arbitrary)]
pub enum Name {
    Theirs(u8, u8),
    Own { log: u8, seq: u8, index: u8, tag: Option<u8> },
}

/// What the hostile member has written.
#[derive(Clone)]
pub(crate) struct Mallory {
    set: LogSet,
    logs: [LogId; 3],
    clock: [u64; 3],
}

pub(crate) static MALLORY: LazyLock<Mallory> = LazyLock::new(Mallory::new);

impl Mallory {
    fn new() -> Self {
        let mut set = LogSet::new(secret().id(), Limits::default());
        let logs = INCARNATIONS.map(|incarnation| {
            let incarnation = Incarnation::from_u64(incarnation);
            let agent = keys(8).agent();
            set.open_local(&LogOpening { topic: topic(), kind: LogKind::State, agent, incarnation }).unwrap()
        });
        Self { set, logs, clock: [0; 3] }
    }

    /// Alias, entry, operation and tag.
    fn name(&self, name: &Name) -> ([u8; 8], u64, u64, [u8; 4]) {
        match name {
            Name::Theirs(which, index) => {
                let dots = &HONEST.dots;
                let (alias, seq, tag) = dots[usize::from(*which) % dots.len()];
                (alias, seq, u64::from(index % 3), tag)
            }
            Name::Own { log, seq, index, tag } => {
                let log = self.logs[usize::from(log % 3)];
                let seq = u64::from(seq % 8);
                let leaf = self.set.log(&log).and_then(|log| log.leaf(seq));
                let right = leaf.map_or([0; 4], |leaf| *leaf.as_bytes().first_chunk().unwrap());
                (log.alias(), seq, u64::from(index % 4), tag.map_or(right, |tag| [tag; 4]))
            }
        }
    }

    fn payload(&self, built: &Built) -> Vec<u8> {
        let mut aliases = Vec::new();
        for op in &built.ops {
            if let Op::Set(_, _, names) | Op::Remove(_, names) | Op::End(names) = op {
                aliases.extend(names.iter().map(|name| self.name(name).0));
            }
        }
        aliases.sort_unstable();
        aliases.dedup();
        let mut out = vec![1];
        put_varint(&mut out, aliases.len() as u64);
        out.extend(aliases.iter().flatten());
        if !built.ops.is_empty() {
            out.extend(if built.set { *b"\x01\x05tasks" } else { *b"\x00\x05tasks" });
            put_varint(&mut out, built.ops.len() as u64);
        }
        for op in &built.ops {
            self.put(op, built.set, &aliases, &mut out);
        }
        if !built.couples.is_empty() {
            out.extend(b"\x02\x05trust");
            out.extend(schema().encode());
            put_varint(&mut out, built.couples.len() as u64);
        }
        for (weakens, key, instant) in &built.couples {
            out.push(4 + u8::from(*weakens));
            put_bytes(KEYS[usize::from(key % 4)].as_bytes(), &mut out);
            // Around what is possible now, mostly.
            let span = (T / 3_600_000 + 60) << 24;
            out.extend((1 + instant % span.saturating_mul(2)).to_le_bytes());
        }
        out
    }

    fn put(&self, op: &Op, set: bool, aliases: &[[u8; 8]], out: &mut Vec<u8>) {
        let names = |names: &[Name], out: &mut Vec<u8>| {
            let mut all: Vec<_> = names.iter().map(|name| self.name(name)).collect();
            all.sort_unstable();
            all.dedup();
            put_varint(out, all.len() as u64);
            for (alias, seq, index, tag) in all {
                put_varint(out, aliases.binary_search(&alias).unwrap() as u64);
                put_varint(out, seq);
                put_varint(out, index);
                out.extend(tag);
            }
        };
        let key = |key: u8| KEYS[usize::from(key % 4)].as_bytes();
        match op {
            Op::Set(at, value, ends) => {
                out.push(0);
                put_bytes(key(*at), out);
                if !set {
                    put_bytes(&[*value], out);
                }
                names(ends, out);
            }
            Op::Remove(at, ends) => {
                out.push(1);
                put_bytes(key(*at), out);
                names(ends, out);
            }
            Op::End(ends) => {
                out.push(2);
                names(ends, out);
            }
            Op::Carry { incarnation, name, stamp, key: at, value } => {
                let (_, seq, index, tag) = self.name(name);
                match incarnation {
                    None => out.push(3),
                    Some(which) => {
                        out.push(6);
                        out.extend(INCARNATIONS[usize::from(which % 3)].to_le_bytes());
                    }
                }
                put_varint(out, seq);
                put_varint(out, index);
                out.extend(tag);
                out.extend(Hlc::new(now(u64::from(*stamp)), 0).to_bits().to_le_bytes());
                put_bytes(key(*at), out);
                if !set {
                    put_bytes(&[*value], out);
                }
            }
        }
    }

    /// Appends, and gives a bundle with the new entry alone.
    pub(crate) fn append(&mut self, hostile: &Hostile) -> Vec<u8> {
        let which = usize::from(hostile.log % 3);
        let log = self.logs[which];
        let payload = match &hostile.payload {
            Payload::Any(bytes) => bytes.clone(),
            Payload::Built(built) => self.payload(built),
            Payload::Changed { built, at, by } => {
                let mut bytes = self.payload(built);
                let len = bytes.len();
                bytes[usize::from(*at) % len] ^= by;
                bytes
            }
        };
        self.clock[which] += u64::from(hostile.clock);
        let hlc = Hlc::new(now(self.clock[which]), 0);
        let (base, size) = self.set.log(&log).map_or((0, 0), |log| (log.base(), log.size()));
        let base = (base + u64::from(hostile.raise % 4)).min(size);
        // Too large, mostly.
        let _ = self.set.append(&log, &NewEntry { base, ..NewEntry::new(hlc, &payload) });
        while self.set.poll_change().is_some() {}
        let signed = self.set.log(&log).map_or(0, |log| log.signed_size());
        let _ = self.set.sign_head(&log, &keys(8), now(1_000));
        self.bundle(&log, signed)
    }

    /// A bundle with all of it for each log.
    pub(crate) fn everything(&self) -> Vec<Vec<u8>> {
        self.logs.iter().map(|log| self.bundle(log, 0)).collect()
    }

    fn bundle(&self, log: &LogId, from: u64) -> Vec<u8> {
        let held = self.set.log(log).unwrap();
        let (start, to) = (held.start(), held.signed_size());
        let mut bytes = vec![0x30];
        bytes.extend(&secret().id().discovery_key().as_bytes()[..8]);
        let from = from.max(start).min(to);
        let form = if from > 0 && from == start { RangeForm::Alone } else { RangeForm::Follow };
        if let Answer::Range { bytes: range, .. } = self.set.answer(log, &Want { from, to, form }, usize::MAX)
        {
            Part::Opening(&held.opening().encode(&secret().id())).put(&mut bytes);
            Part::Range(LogRef::Alias(log.alias()), &range).put(&mut bytes);
        }
        bytes
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Two replicas hear everything in two orders: they never panic, their states are what their entries add up to, and in
/// the end they are equal; also once one of them was opened anew, and goes on writing.
pub fn hostile(scene: &Scene) {
    let mut writer = MALLORY.clone();
    let mut heard: Vec<Vec<u8>> = HONEST.bundles.clone();
    for entry in scene.entries.iter().take(ENTRIES_MAX) {
        heard.push(writer.append(entry));
    }
    let mut everything = HONEST.bundles[HONEST.bundles.len() - 2..].to_vec();
    everything.extend(writer.everything());
    let mut nodes: Vec<Node> = Vec::new();
    for (order, agent) in scene.orders.iter().zip([4_u8, 5]) {
        let mut node = Node::new(agent, agent, Opened::Fresh);
        let mut left: Vec<&Vec<u8>> = heard.iter().collect();
        for pick in order.iter().take(48) {
            if left.is_empty() {
                break;
            }
            let bundle = left.remove(usize::from(*pick) % left.len());
            // What does not follow yet waits, or is refused: all comes again.
            let _ = node.replica.import_bundle(bundle, now(2_000));
            if *pick % 16 == 0 {
                node.write(2_000 + u64::from(*pick), KEYS[usize::from(*pick >> 4) % 4], Some("own"));
            }
        }
        assert!(node.replica.verify(), "the state is what the entries add up to");
        nodes.push(node);
    }
    for (number, node) in nodes.iter_mut().enumerate() {
        node.settle(&everything, 3_000);
        // The second comes back from its storage.
        if number == 1 {
            let stored = Stored { snapshot: None, records: &node.records };
            let again = Node::new(5, 6, Opened::Resumed(stored));
            assert_eq!(
                again.replica.digest(&topic()),
                node.replica.digest(&topic()),
                "storage brings it back"
            );
            node.replica = again.replica;
            node.writer = again.writer;
        }
    }
    for round in 0..3 {
        let all: Vec<Vec<u8>> = nodes.iter_mut().map(|node| node.all(3_000 + round)).collect();
        for node in &mut nodes {
            node.settle(&all, 3_000 + round);
            node.settle(&everything, 3_000 + round);
            assert!(node.replica.verify(), "the state is what the entries add up to");
        }
        let digests: Vec<_> = nodes.iter().map(|node| node.replica.digest(&topic())).collect();
        assert_eq!(digests[0], digests[1], "the same entries, the same state");
        // What they carry along of it changes nothing.
        nodes[0].write(3_100 + round, "a", Some("first"));
        nodes[1].write(3_100 + round, "b", None);
    }
}

/// A journal with what could be read when each record was the last, and a snapshot in the middle.
struct Journaled {
    records: Vec<u8>,
    snapshot: Vec<u8>,
    behind: Vec<u8>,
    /// None where a record is one of several that came of one thing.
    digests: Vec<Option<[u8; 32]>>,
}

static JOURNALED: LazyLock<Journaled> = LazyLock::new(|| {
    let mut ada = Node::new(1, 1, Opened::Fresh);
    let (mut snapshot, mut cut) = (Vec::new(), 0);
    let mut digests = vec![Some(ada.replica.digest(&topic()))];
    for round in 0..8 {
        ada.take(&HONEST.bundles[round], 10 * round as u64);
        note(&ada, &mut digests);
        ada.write(500 + round as u64, KEYS[round % 4], (round % 3 != 1).then_some("\u{f5}cJ"));
        note(&ada, &mut digests);
        if round == 4 {
            (snapshot, cut) = (ada.replica.snapshot().into_bytes(), ada.records.len());
        }
    }
    let behind = ada.records[cut..].to_vec();
    Journaled { records: ada.records, snapshot, behind, digests }
});

fn note(node: &Node, digests: &mut Vec<Option<[u8; 32]>>) {
    let last = recover(&secret().id(), None, &node.records).unwrap().last().as_u64();
    digests.resize(last as usize, None);
    digests.push(Some(node.replica.digest(&topic())));
}

/// Bytes as storage gives them back.
#[derive(Clone, Debug, Arbitrary)]
pub enum Storage {
    Any {
        snapshot: Option<Vec<u8>>,
        records: Vec<u8>,
    },
    Changed {
        snapshot: bool,
        edits: Vec<Edit>,
        cut: u16,
    },
    SnapshotChanged {
        edits: Vec<Edit>,
    },
    /// Real items that were changed, in records and with checks that are right.
    Items {
        changes: Vec<(u8, Change)>,
        sealed: u8,
    },
}

/// What becomes of an item of the journal.
#[derive(Clone, Debug, Arbitrary)]
pub enum Change {
    Lost,
    Twice,
    /// It comes after the next.
    Late,
    Bytes(Vec<Edit>),
    Number(u8),
}

#[derive(Clone, Debug, Arbitrary)]
pub enum Edit {
    Flip(u16, u8),
    Insert(u16, Vec<u8>),
    Remove(u16, u8),
    Repeat(u16, u16),
}

fn edit(bytes: &mut Vec<u8>, edits: &[Edit]) {
    for edit in edits.iter().take(8) {
        let len = bytes.len().max(1);
        match edit {
            Edit::Flip(at, by) => {
                if let Some(byte) = bytes.get_mut(usize::from(*at) % len) {
                    *byte ^= by;
                }
            }
            Edit::Insert(at, new) => {
                let at = usize::from(*at) % len;
                bytes.splice(at.min(bytes.len())..at.min(bytes.len()), new.iter().copied());
            }
            Edit::Remove(at, count) => {
                let at = (usize::from(*at) % len).min(bytes.len());
                let to = (at + usize::from(*count)).min(bytes.len());
                bytes.drain(at..to);
            }
            Edit::Repeat(at, count) => {
                let at = (usize::from(*at) % len).min(bytes.len());
                let to = (at + usize::from(*count)).min(bytes.len());
                let again = bytes[at..to].to_vec();
                bytes.extend(again);
            }
        }
    }
}

/// Whatever storage gives back is refused, or is what was written up to some record.
pub fn storage(storage: &Storage) {
    let real = &*JOURNALED;
    match storage {
        Storage::Any { snapshot, records } => opened(snapshot.as_deref(), records, None),
        Storage::Changed { snapshot, edits, cut } => {
            let mut records = if *snapshot { real.behind.clone() } else { real.records.clone() };
            edit(&mut records, edits);
            let len = records.len();
            records.truncate(len - usize::from(*cut) % (len + 1));
            let snapshot = snapshot.then_some(&real.snapshot[..]);
            opened(snapshot, &records, Some(&real.digests));
        }
        Storage::SnapshotChanged { edits } => {
            let mut snapshot = real.snapshot.clone();
            edit(&mut snapshot, edits);
            let same = snapshot == real.snapshot;
            assert_eq!(
                recover(&secret().id(), Some(&snapshot), &real.behind).is_ok(),
                same,
                "its check is over all of it"
            );
            opened(Some(&snapshot), &real.behind, Some(&real.digests));
        }
        Storage::Items { changes, sealed } => {
            let recovered = recover(&secret().id(), None, &real.records).unwrap();
            let items: Vec<JournalItem<'_>> = recovered.items().collect();
            opened(None, &records_of(&items, changes, 1 + usize::from(*sealed % 4)), None);
        }
    }
    // Of another mesh, it is refused or nothing.
    let other = MeshId::from_bytes([1; 32]);
    if let Ok(recovered) = recover(&other, None, &real.records) {
        assert_eq!(recovered.items().count(), 0);
    }
}

/// Records of changed items; a record has so many.
fn records_of(items: &[JournalItem<'_>], changes: &[(u8, Change)], sealed: usize) -> Vec<u8> {
    let mut journal = Journal::new(&secret().id());
    let mut late: Option<&JournalItem<'_>> = None;
    for (number, item) in items.iter().enumerate() {
        let place = |at: u8| usize::from(at) % items.len() == number;
        match changes.iter().find(|(at, _)| place(*at)).map(|(_, change)| change) {
            None => journal.push(item),
            Some(Change::Lost) => {}
            Some(Change::Twice) => [item, item].into_iter().for_each(|item| journal.push(item)),
            Some(Change::Late) => {
                late = Some(item);
                continue;
            }
            Some(Change::Bytes(edits)) => changed_bytes(item, edits, &mut journal),
            Some(Change::Number(by)) => {
                let seq = |seq: u64| seq ^ u64::from(*by);
                match *item {
                    JournalItem::Append { log, seq: at, entry } => {
                        journal.push(&JournalItem::Append { log, seq: seq(at), entry });
                    }
                    JournalItem::Erased { log, seq: at } => {
                        journal.push(&JournalItem::Erased { log, seq: seq(at) });
                    }
                    JournalItem::Range { log, .. } => journal.push(&JournalItem::Forgotten { log }),
                    _ => journal.push(item),
                }
            }
        }
        late.take().into_iter().for_each(|item| journal.push(item));
        if number % sealed == 0 {
            journal.seal();
        }
    }
    journal.seal();
    std::iter::from_fn(|| journal.poll()).flat_map(|record| record.into_bytes()).collect()
}

/// Pushes an item with other bytes.
fn changed_bytes(item: &JournalItem<'_>, edits: &[Edit], journal: &mut Journal) {
    let mut changed = match *item {
        JournalItem::Append { entry: bytes, .. }
        | JournalItem::Opening { bytes, .. }
        | JournalItem::Range { bytes, .. }
        | JournalItem::Evidence { bytes }
        | JournalItem::Head { bytes }
        | JournalItem::Note { bytes, .. } => bytes.to_vec(),
        _ => return journal.push(item),
    };
    edit(&mut changed, edits);
    let bytes = &changed[..];
    journal.push(&match *item {
        JournalItem::Append { log, seq, .. } => JournalItem::Append { log, seq, entry: bytes },
        JournalItem::Opening { local, .. } => JournalItem::Opening { local, bytes },
        JournalItem::Range { log, .. } => JournalItem::Range { log, bytes },
        JournalItem::Evidence { .. } => JournalItem::Evidence { bytes },
        JournalItem::Head { .. } => JournalItem::Head { bytes },
        JournalItem::Note { kind, .. } => JournalItem::Note { kind, bytes },
        _ => return,
    });
}

fn opened(snapshot: Option<&[u8]>, records: &[u8], digests: Option<&[Option<[u8; 32]>]>) {
    let stored = Stored { snapshot, records };
    let recovered = match recover(&secret().id(), snapshot, records) {
        Ok(recovered) => recovered,
        Err(corrupt) => {
            assert!(Replica::open(config(3), Opened::Resumed(stored), now(0)).is_err());
            assert!(corrupt.offset <= records.len().max(snapshot.map_or(0, <[u8]>::len)));
            return;
        }
    };
    assert!(recovered.good_to() <= records.len() && recovered.covers() <= recovered.last());
    let good = &records[..recovered.good_to()];
    let again = recover(&secret().id(), snapshot, good).unwrap();
    assert_eq!((again.last(), again.cut()), (recovered.last(), None), "what is good is good alone");
    assert!(again.items().eq(recovered.items()));
    let mut set = LogSet::new(secret().id(), Limits::default());
    let mut replay = set.replay(now(10_000));
    for item in recovered.items() {
        let _: Result<_, _> = apply(&item, &mut replay);
        let _: JournalItem<'_> = item;
    }
    let last = recovered.last().as_u64() as usize;
    let mut node = Node::new(1, 3, Opened::Resumed(stored));
    assert!(node.replica.verify());
    if let Some(digest) = digests.and_then(|digests| digests[last]) {
        assert_eq!(node.replica.digest(&topic()), digest, "what was written up to record {last}");
    }
    node.records = good.to_vec();
    node.write(10_000, "a", Some("after"));
    let stored = Stored { snapshot, records: &node.records };
    let again = Node::new(1, 4, Opened::Resumed(stored));
    assert_eq!(again.replica.digest(&topic()), node.replica.digest(&topic()));
}
