//! Logs of one writer as they stand at different moments, and a picture of a copy that shows whether it changed.

use consilience_crdts::{Hlc, Timestamp};
use consilience_sync::{
    Allowance, Citation, Closure, EntryFlags, Hash, Incarnation, Log, LogKind, LogOpening, MeshId,
    MeshSecret, NewEntry, RangeForm, Received, Signer, Topic, VerifyBudget,
};

use crate::keys::Key;

/// A moment in 2023, in milliseconds.
pub const T: u64 = 1_700_000_000_000;

/// Mesh, writer and logs are those of the golden vectors, so that these are good seeds.
pub fn mesh() -> MeshId {
    MeshId::from_bytes([7; 32])
}

/// The secret of the mesh of replicas and sessions.
pub fn secret() -> MeshSecret {
    MeshSecret::from_bytes([7; 32])
}

pub fn ada() -> Key {
    Key(1)
}

pub fn opening(kind: LogKind) -> LogOpening {
    let topic = Topic::new("team/planning").unwrap();
    LogOpening { topic, kind, agent: ada().agent(), incarnation: Incarnation::from_u64(3) }
}

pub fn at(millis: u64) -> Hlc {
    Hlc::new(Timestamp::from_millis(millis), 0)
}

/// An allowance that no single message uses up.
pub fn plenty() -> VerifyBudget {
    VerifyBudget::new()
}

/// Everything that a copy holds, staged entries and heads included. Equal pictures, equal copies.
pub fn picture(log: &Log) -> String {
    format!("{log:?}")
}

/// The writer's copy with 70 entries: more than a block, with every way to write a stamp, bases that rise, flags,
/// epochs, citations, and in a state log closures.
pub fn written(kind: LogKind) -> Log {
    let mut log = Log::new(opening(kind), &mesh()).unwrap();
    let root = (kind == LogKind::Event).then_some(Hash::from_bytes([9; 32]));
    let cites = [Citation { log: [5; 8], size: 300, root }];
    let closures = [1, 2].map(|number| Closure { incarnation: Incarnation::from_u64(number), below: 300 });
    let state = kind == LogKind::State;
    let mut hlc = at(T);
    for seq in 0..70_u64 {
        hlc = match seq % 5 {
            0 => at(T + seq * 10),
            1 => Hlc::from_bits(hlc.to_bits() + 1),
            2 => Hlc::new(hlc.time(), 9),
            3 => at(T + seq * 10),
            _ => at(T - seq),
        };
        log.append(&NewEntry {
            hlc,
            base: seq / 16 * 12,
            flags: EntryFlags::new((seq % 16) as u8).unwrap(),
            epoch: (seq / 10 % 3) as u32,
            citations: if seq % 7 == 3 { &cites } else { &[] },
            closures: if state && seq % 5 == 1 { &closures } else { &[] },
            last_final: (state && seq % 9 == 2).then_some(Incarnation::from_u64(3)),
            salt: [seq as u8; 4],
            payload: &b"payload of some length"[..seq as usize % 22],
        })
        .unwrap();
        if seq == 30 {
            log.sign_head(&ada(), Timestamp::from_millis(T + 500)).unwrap();
        }
    }
    log.sign_head(&ada(), Timestamp::from_millis(T + 1_000)).unwrap();
    log
}

/// A copy that took these ranges in.
pub fn follower(writer: &Log, ranges: &[(u64, u64, RangeForm)]) -> Log {
    let mut log = Log::new(writer.opening().clone(), &mesh()).unwrap();
    for &(from, to, form) in ranges {
        let (bytes, _) = writer.range(from, to, form, usize::MAX).unwrap();
        let received = log.receive(&bytes, &Allowance::ANY, &mut plenty()).unwrap();
        assert!(!matches!(received, Received::Forked(_) | Received::Conflict | Received::Nothing));
    }
    log
}

/// What must hold of any copy at any time.
pub fn consistent(log: &Log) {
    let held: Vec<_> = log.held().collect();
    assert!(held.iter().all(|(from, to)| from < to));
    assert!(held.windows(2).all(|pair| pair[0].1 <= pair[1].0), "ascending and disjoint: {held:?}");
    assert!(log.start() <= log.ready() && log.ready() <= log.size(), "what is ready is held");
    assert!(log.ready_base() <= log.base().max(log.start()));
    assert_eq!(log.entries(0, u64::MAX).count() as u64, log.size() - log.start());
    assert!(log.entries(0, u64::MAX).zip(log.start()..).all(|(entry, seq)| entry.seq == seq));
    for (from, to) in log.gaps() {
        assert!(from < to);
        assert!(held.iter().all(|held| to <= held.0 || held.1 <= from), "a gap holds nothing");
    }
}

/// Whatever a copy holds and signed heads cover, it can show to somebody who has nothing.
pub fn proves(log: &Log) {
    let Some(head) = log.head() else { return };
    let to = log.size().min(head.size);
    // A writer may drop what an entry without a signature yet has raised the base over.
    if to < log.start() {
        return;
    }
    let stranger = Log::new(log.opening().clone(), &mesh()).unwrap();
    let Some((bytes, end)) = log.range(log.start(), to, RangeForm::Alone, usize::MAX) else {
        panic!("what is held and signed can be shown")
    };
    assert_eq!(end, to);
    let verified = stranger.verify(&bytes, &mut plenty());
    let verified = verified.unwrap_or_else(|error| panic!("what is held verifies: {error}"));
    assert!(verified.entries().eq(log.entries(log.start(), to)), "the entries are those that are held");
    assert_eq!(verified.head(), head);
}
