//! What the tests of logs share: names, small logs, and a look at everything that a log shows.

use consilience_sync::{
    Allowance, Citation, EntryFlags, Hash, Hlc, Incarnation, Keypair, Log, LogKind, LogOpening, MeshId,
    NewEntry, RangeForm, ReceiveError, Received, SignedHead, Signer, Timestamp, Topic, VerifyBudget,
};

use super::plain::{Cite, Item, Plain};

/// A moment in 2023, in milliseconds.
pub(crate) const T: u64 = 1_700_000_000_000;

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
        incarnation: Incarnation::from_u64(T << 16),
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

/// An item with a bit of everything that depends on its number: all forms of stamps, flags, sizes of payloads.
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

/// Appends what the model has there.
pub(crate) fn append(log: &mut Log, item: &Item) {
    let citations = citations(&item.cites);
    let entry = NewEntry {
        hlc: Hlc::from_bits(item.hlc),
        base: item.base,
        flags: EntryFlags::new(item.flags).unwrap(),
        citations: &citations,
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
pub(crate) type Shown = (u64, u64, Hlc, EntryFlags, u32, Option<Vec<u8>>, Vec<Citation>);

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
    let show = |entry: consilience_sync::Entry<'_>| {
        let payload = entry.payload().map(<[u8]>::to_vec);
        let citations = entry.citations().collect();
        (entry.seq, entry.base, entry.hlc, entry.flags, entry.payload_len, payload, citations)
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
    for (seq, base, hlc, flags, len, payload, cited) in entries {
        let item = &plain.items[seq as usize];
        assert_eq!((base, hlc.to_bits(), flags.bits()), (item.base, item.hlc, item.flags));
        assert_eq!((len as usize, cited), (item.payload.len(), citations(&item.cites)));
        assert!(payload.is_none_or(|payload| payload == item.payload));
    }
}
