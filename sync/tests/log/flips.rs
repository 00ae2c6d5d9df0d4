//! Every single-bit flip, every truncation and every byte too many: refused, and nothing changes.

use consilience_sync::{
    Admission, Evidence, Limits, Log, LogKind, LogOpening, LogSet, RangeForm, Received, SignedHead,
};

use super::common::{
    T, ada, append, assert_equals_plain, budget, cites, closures, empty, follower, item, mesh, opening,
    plain, range, receive, seen, time, written,
};
use super::plain::Item;

/// All the bytes that differ from these by one flipped bit, or are cut, or have one more.
fn spoilt(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let flips = (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    });
    let cuts = (0..bytes.len()).map(|len| bytes[..len].to_vec());
    let longer = (0..=u8::MAX).map(move |byte| [bytes, &[byte]].concat());
    flips.chain(cuts).chain(longer)
}

/// A bit of everything, small: bases, citations, closures, flags, epochs, all forms of stamps.
fn items(kind: LogKind, size: u64) -> Vec<Item> {
    (0..size)
        .map(|seq| {
            let mut item = item(seq).base(seq / 3);
            if seq % 4 == 1 {
                item.cites = cites(seq, kind);
                item.last_final = (kind == LogKind::State).then_some(seq);
            }
            if seq % 4 == 2 {
                item.closures = closures(seq, kind);
            }
            item
        })
        .collect()
}

fn log_of(kind: LogKind, size: u64, erased: &[u64]) -> Log {
    let mut log = written(kind, items(kind, size), T + 7);
    erased.iter().for_each(|&seq| log.erase(seq).unwrap());
    log
}

/// That nothing spoilt is taken in, and that the good range then still brings what it should.
fn assert_guarded(copy: &mut Log, bytes: &[u8], expected: Received) {
    let before = seen(copy);
    for (number, bad) in spoilt(bytes).enumerate() {
        let got = receive(copy, &bad);
        assert!(got.is_err(), "number {number} of {} bytes: {got:?}", bytes.len());
        assert!(copy.verify(&bad, &mut budget()).is_err());
        assert!(number % 64 > 0 || seen(copy) == before, "number {number} changed something");
    }
    assert_eq!(seen(copy), before);
    assert_eq!(receive(copy, bytes), Ok(expected));
}

#[test]
fn a_spoilt_range_is_refused_and_changes_nothing() {
    for kind in [LogKind::State, LogKind::Event] {
        let model = plain(kind).with(items(kind, 9));
        let all: &[&[u64]] = if kind == LogKind::State { &[&[]] } else { &[&[], &[3, 5]] };
        for erased in all {
            // At the tip, and with hashes of what lies beyond.
            for size in [6, 9] {
                let log = log_of(kind, size, erased);
                let old = written(kind, items(kind, 3), T + 1);
                for form in [RangeForm::Follow, RangeForm::Alone] {
                    let extended = |to| Received::Extended { from: 3, to };
                    // What follows, and what overlaps.
                    let mut copy = follower(&old, 3);
                    assert_guarded(&mut copy, &range(&log, 3, 6, form), extended(6));
                    assert_eq!(copy.root(), log.root_at(6));
                    assert_guarded(&mut follower(&old, 3), &range(&log, 2, 5, form), extended(5));
                    receive(&mut copy, &range(&log, 6, size, RangeForm::Follow)).unwrap();
                    if size == 9 {
                        assert_equals_plain(&copy, &model);
                    }
                }
                // Behind a gap, at first and on top of what waits there already.
                let mut copy = follower(&old, 3);
                let staged = |from, to| Received::Staged { from, to };
                assert_guarded(&mut copy, &range(&log, 4, 5, RangeForm::Alone), staged(4, 5));
                assert_guarded(&mut copy, &range(&log, 5, 6, RangeForm::Follow), staged(5, 6));
                let filled = Received::Extended { from: 3, to: 6 };
                assert_guarded(&mut copy, &range(&log, 3, 4, RangeForm::Follow), filled);
                assert_eq!(copy.root(), log.root_at(6));
            }
        }
    }
}

#[test]
fn a_spoilt_range_from_the_start_is_refused_in_either_form() {
    for kind in [LogKind::State, LogKind::Event] {
        for size in [4, 6] {
            let log = log_of(kind, size, &[]);
            for form in [RangeForm::Follow, RangeForm::Alone] {
                let bytes = range(&log, 0, 4, form);
                let taken: Vec<usize> = spoilt(&bytes)
                    .enumerate()
                    .filter(|(_, bad)| receive(&mut empty(kind), bad).is_ok())
                    .map(|(number, _)| number)
                    .collect();
                assert_eq!(taken, [0_usize; 0], "bits of {bytes:02x?} that mean nothing");
                let whole = Received::Extended { from: 0, to: 4 };
                assert_eq!(receive(&mut empty(kind), &bytes), Ok(whole));
            }
        }
    }
}

#[test]
fn a_spoilt_range_of_what_is_known_already_is_refused_though_its_head_is_known() {
    for kind in [LogKind::State, LogKind::Event] {
        let log = log_of(kind, 7, &[]);
        for form in [RangeForm::Follow, RangeForm::Alone] {
            for (from, to) in [(1, 7), (2, 5), (6, 7), (7, 7), (4, 4)] {
                assert_guarded(&mut follower(&log, 7), &range(&log, from, to, form), Received::Nothing);
            }
        }
    }
}

#[test]
fn a_spoilt_proof_without_entries_is_refused_and_changes_nothing() {
    let kind = LogKind::Event;
    let log = log_of(kind, 21, &[]);
    let old = written(kind, items(kind, 13), T + 1);
    // Consistency with the tip, a proof of some other size, a heartbeat, and a head that nothing here can tie to.
    for (from, form) in
        [(13, RangeForm::Alone), (13, RangeForm::Follow), (5, RangeForm::Alone), (21, RangeForm::Alone)]
    {
        let mut copy = follower(&old, 13);
        assert_guarded(&mut copy, &range(&log, from, from, form), Received::Head);
    }
    let mut later = log.clone();
    later.sign_head(&ada(), time(T + 60_000)).unwrap();
    for form in [RangeForm::Follow, RangeForm::Alone] {
        assert_guarded(&mut follower(&log, 21), &range(&later, 21, 21, form), Received::Head);
    }
}

#[test]
fn a_spoilt_range_that_shows_a_fork_shows_nothing() {
    let kind = LogKind::Event;
    let log = log_of(kind, 9, &[]);
    let mut other = empty(kind);
    items(kind, 5).iter().for_each(|item| append(&mut other, item));
    (5..9).for_each(|seq| append(&mut other, &item(seq + 100).base(1)));
    other.sign_head(&ada(), time(T + 8)).unwrap();
    for (from, to) in [(7, 7), (4, 6), (9, 9)] {
        let mut copy = follower(&log, 9);
        let before = seen(&copy);
        let bytes = range(&other, from, to, RangeForm::Alone);
        for bad in spoilt(&bytes) {
            assert!(receive(&mut copy, &bad).is_err());
        }
        assert!(matches!(receive(&mut copy, &bytes), Ok(Received::Forked(_))));
        assert_eq!(seen(&copy), before);
    }
}

#[test]
fn a_spoilt_head_is_refused() {
    for kind in [LogKind::State, LogKind::Event] {
        let log = log_of(kind, 9, &[]);
        let bytes = log.head().unwrap().encode(log.opening(), &mesh());
        assert!(SignedHead::decode(&bytes, &mesh()).is_ok());
        for bad in spoilt(&bytes) {
            assert!(SignedHead::decode(&bad, &mesh()).is_err());
        }
    }
}

#[test]
fn a_spoilt_opening_is_refused_or_opens_another_log() {
    // It is a name and nobody signs it: another name is another log, under which nothing of this one verifies.
    let here = opening(LogKind::State);
    let bytes = here.encode(&mesh());
    assert_eq!(LogOpening::decode(&bytes, &mesh()), Ok(here.clone()));
    let mut others = 0;
    for bad in spoilt(&bytes) {
        let Ok(other) = LogOpening::decode(&bad, &mesh()) else { continue };
        assert_eq!(bad.len(), bytes.len(), "cut or with a byte too many");
        assert_eq!(other.encode(&mesh()), bad, "each has one spelling");
        assert_ne!(other.log_id(&mesh()), here.log_id(&mesh()));
        others += 1;
    }
    // Kind, agent, incarnation, and the letters of the topic.
    assert!(others > 1 + 256 + 64 && others < 1 + 256 + 64 + 8 * 13, "{others}");
}

#[test]
fn spoilt_evidence_is_refused_and_changes_nothing() {
    for kind in [LogKind::State, LogKind::Event] {
        let log = |fork: u64, size: u64, at| {
            let items = (0..size).map(|seq| if seq < fork { item(seq) } else { item(seq + 100) });
            written(kind, items, at)
        };
        // Both heads above the size in question, one of them at it, both at it; with shared peaks and without.
        for (fork, mine, theirs, size) in [(5, 9, 12, 7), (5, 7, 12, 7), (5, 7, 7, 7), (0, 3, 2, 1)] {
            let (one, other) = (log(100, mine, T), log(fork, theirs, T + 1));
            let mut copy = follower(&one, mine);
            let Ok(Received::Forked(evidence)) =
                receive(&mut copy, &range(&other, size, size, RangeForm::Alone))
            else {
                panic!("they differ")
            };
            assert_eq!(evidence.size(), size);
            let mut set = LogSet::new(mesh(), Limits::default());
            for (number, bad) in spoilt(evidence.as_bytes()).enumerate() {
                assert!(Evidence::decode(&bad, &mesh(), &mut budget()).is_err());
                if number % 5 == 0 {
                    let got = set.receive_evidence(&bad, time(T), &mut budget(), |_| Admission::Hold);
                    assert!(got.is_err());
                }
            }
            assert_eq!((set.stats().logs, set.poll_change()), (0, None));
            let good = evidence.as_bytes();
            assert_eq!(set.receive_evidence(good, time(T), &mut budget(), |_| Admission::Hold), Ok(true));
            assert_eq!(set.receive_evidence(good, time(T), &mut budget(), |_| Admission::Hold), Ok(false));
            // It is known now: what is spoilt does not take its place.
            for bad in spoilt(good).step_by(7) {
                assert!(set.receive_evidence(&bad, time(T), &mut budget(), |_| Admission::Hold).is_err());
            }
            assert_eq!(set.evidence(one.id()), Some(&*evidence));
        }
    }
}
