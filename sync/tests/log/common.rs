//! What the tests of logs share: names, small logs, and a look at everything that a log shows.

use consilience_sync::{
    Allowance, Citation, Closure, EntryFlags, Hash, Hlc, Incarnation, Keypair, Log, LogKind, LogOpening,
    MeshId, NewEntry, RangeForm, ReceiveError, Received, SignedHead, Signer, Timestamp, Topic, VerifyBudget,
};

use super::plain::{Cite, Item, Plain};

/// A moment in 2023, in milliseconds.
pub(crate) const T: u64 = 1_700_000_000_000;

/// The incarnation of all logs here.
pub(crate) const OWN: u64 = T << 16;

pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.roll(at as u64 + 1) as usize);
        }
    }
}

pub(crate) fn mesh() -> MeshId {
    MeshId::from_bytes([7; 32])
}

pub(crate) fn ada() -> Keypair {
    Keypair::from_seed([1; 32])
}

pub(crate) fn time(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(crate) fn opening(kind: LogKind) -> LogOpening {
    LogOpening {
        topic: Topic::new("team/planning").unwrap(),
        kind,
        agent: ada().agent(),
        incarnation: Incarnation::from_u64(OWN),
    }
}

pub(crate) fn empty(kind: LogKind) -> Log {
    Log::new(opening(kind), &mesh()).unwrap()
}

pub(crate) fn plain(kind: LogKind) -> Plain {
    Plain::new(mesh(), opening(kind), ada())
}

pub(crate) fn budget() -> VerifyBudget {
    VerifyBudget::new()
}

/// A stamp so many milliseconds after [`T`].
pub(crate) fn stamp(millis: u64) -> u64 {
    (T + millis) << 16
}

/// An item with a bit of everything that depends on its number: all forms of stamps, flags, epochs, salts, sizes of
/// payloads.
pub(crate) fn item(seq: u64) -> Item {
    let hlc = match seq % 5 {
        0 => stamp(10 * seq),
        1 => stamp(10 * (seq - 1)) + 1,
        2 => stamp(10 * seq) + 7,
        // Not later than the one before.
        3 => stamp(0) + seq,
        _ => stamp(10 * seq),
    };
    let mut item = Item::new(hlc, &vec![seq as u8; (seq % 4) as usize]);
    item.flags = if seq % 7 == 3 { 9 } else { 0 };
    // Some follow on one of their own epoch, some on another.
    item.epoch = if seq % 6 == 4 { 0 } else { (seq % 9 / 3) as u32 };
    item.salt = [seq as u8, 0x5a, 0x17, 1];
    item
}

/// [`item`] with its base at its own number: everything before it may go.
pub(crate) fn rising(seq: u64) -> Item {
    item(seq).base(seq)
}

pub(crate) fn cites(seq: u64, kind: LogKind) -> Vec<Cite> {
    let root = |byte| (kind == LogKind::Event).then_some([byte; 32]);
    vec![([1; 8], seq, root(5)), ([2; 8], 300 + seq, root(6))]
}

pub(crate) fn citations(cites: &[Cite]) -> Vec<Citation> {
    let citation =
        |(log, size, root): &Cite| Citation { log: *log, size: *size, root: root.map(Hash::from_bytes) };
    cites.iter().map(citation).collect()
}

/// What a state log says of others: nothing of that in event logs.
pub(crate) fn closures(seq: u64, kind: LogKind) -> Vec<(u64, u64)> {
    if kind == LogKind::State { vec![(seq, 1), (OWN - 1, 300 + seq)] } else { vec![] }
}

fn closed(closures: &[(u64, u64)]) -> Vec<Closure> {
    let closure =
        |(number, below): &(u64, u64)| Closure { incarnation: Incarnation::from_u64(*number), below: *below };
    closures.iter().map(closure).collect()
}

/// Appends what the model has there.
pub(crate) fn append(log: &mut Log, item: &Item) {
    let (citations, closures) = (citations(&item.cites), closed(&item.closures));
    assert!(item.others.is_empty() && !item.erased, "no writer of the library says that");
    let entry = NewEntry {
        hlc: Hlc::from_bits(item.hlc),
        base: item.base,
        flags: EntryFlags::new(item.flags).unwrap(),
        epoch: item.epoch,
        citations: &citations,
        closures: &closures,
        last_final: item.last_final.map(Incarnation::from_u64),
        salt: item.salt,
        payload: &item.payload,
    };
    log.append(&entry).unwrap();
}

/// The writer's own copy of these items, signed once, at this time.
pub(crate) fn written(kind: LogKind, items: impl IntoIterator<Item = Item>, at: u64) -> Log {
    let mut log = empty(kind);
    items.into_iter().for_each(|item| append(&mut log, &item));
    log.sign_head(&ada(), time(at)).unwrap();
    log
}

pub(crate) fn receive(log: &mut Log, bytes: &[u8]) -> Result<Received, ReceiveError> {
    log.receive(bytes, &Allowance::ANY, &mut budget())
}

pub(crate) fn range(log: &Log, from: u64, to: u64, form: RangeForm) -> Vec<u8> {
    let (bytes, end) = log.range(from, to, form, usize::MAX).unwrap();
    assert_eq!(end, to, "nothing is cut without a limit");
    bytes
}

/// A copy of the first `size` entries under the head of the whole.
pub(crate) fn follower(log: &Log, size: u64) -> Log {
    let mut follower = Log::new(log.opening().clone(), &mesh()).unwrap();
    receive(&mut follower, &range(log, 0, size, RangeForm::Follow)).unwrap();
    assert_eq!((follower.size(), follower.root()), (size, log.root_at(size)));
    follower
}

/// An entry with everything that it shows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shown {
    pub(crate) seq: u64,
    pub(crate) base: u64,
    pub(crate) hlc: Hlc,
    pub(crate) flags: EntryFlags,
    pub(crate) epoch: u32,
    pub(crate) len: u32,
    pub(crate) citations: Vec<Citation>,
    pub(crate) closures: Vec<Closure>,
    pub(crate) last_final: Option<Incarnation>,
    pub(crate) opaque: bool,
    /// With the salt.
    pub(crate) payload: Option<([u8; 4], Vec<u8>)>,
}

/// Everything that a log shows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    numbers: [u64; 5],
    last: Hlc,
    root: Option<Hash>,
    heads: [Option<SignedHead>; 2],
    held: Vec<(u64, u64)>,
    gaps: Vec<(u64, u64)>,
    entries: Vec<Shown>,
    memory: usize,
}

pub(crate) fn shown(log: &Log) -> Vec<Shown> {
    let show = |entry: consilience_sync::Entry<'_>| Shown {
        seq: entry.seq,
        base: entry.base,
        hlc: entry.hlc,
        flags: entry.flags,
        epoch: entry.epoch,
        len: entry.payload_len,
        citations: entry.citations().collect(),
        closures: entry.closures().collect(),
        last_final: entry.last_final(),
        opaque: entry.is_opaque(),
        payload: entry.salt().zip(entry.payload().map(<[u8]>::to_vec)),
    };
    log.entries(0, u64::MAX).map(show).collect()
}

pub(crate) fn seen(log: &Log) -> Seen {
    Seen {
        numbers: [log.start(), log.size(), log.ready(), log.base(), log.ready_base()],
        last: log.last_hlc(),
        root: log.root(),
        heads: [log.head().copied(), log.furthest_head().copied()],
        held: log.held().collect(),
        gaps: log.gaps(),
        entries: shown(log),
        memory: log.memory(),
    }
}

/// That a log holds just what the model has from its start on.
pub(crate) fn assert_equals_plain(log: &Log, plain: &Plain) {
    assert_eq!(log.size(), plain.size());
    assert_eq!(log.root(), Some(Hash::from_bytes(plain.root(plain.size()))));
    let entries = shown(log);
    assert_eq!(entries.len() as u64, log.size() - log.start());
    let state = log.opening().kind == LogKind::State;
    for shown in entries {
        let item = &plain.items[shown.seq as usize];
        assert_eq!(shown.base, item.base);
        assert_eq!((shown.hlc.to_bits(), shown.flags.bits()), (item.hlc, item.flags));
        assert_eq!((shown.len as usize, shown.epoch), (item.payload.len(), item.epoch));
        assert_eq!(shown.citations, citations(&item.cites));
        assert_eq!(shown.closures, closed(&item.closures));
        assert_eq!(shown.last_final.map(Incarnation::as_u64), item.last_final);
        let critical = item.others.iter().any(|(kind, _)| *kind < 0x80);
        assert_eq!(shown.opaque, critical || (state && item.epoch != 0));
        assert!(shown.payload.is_none_or(|payload| payload == (item.salt, item.payload.clone())));
    }
}

/// Puts back what the model has there.
pub(crate) fn restore(log: &mut Log, model: &Plain, seq: u64) {
    let item = &model.items[seq as usize];
    log.restore(seq, item.salt, &item.payload).unwrap();
}
