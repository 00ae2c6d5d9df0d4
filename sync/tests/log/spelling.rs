//! Spellings: every form has one, and what is spelt otherwise or is beyond a limit is refused for just that reason.

use consilience_sync::{
    DecodeError, ENTRY_BYTES_MAX, Evidence, EvidenceError, Gone, Have, HeadError, LOG_SIZE_MAX, LogKind,
    OpeningError, RangeForm, ReceiveError, SignedHead, Want,
};

use super::common::{
    OWN, T, ada, assert_equals_plain, budget, cites, closures, empty, item, mesh, plain, receive, rising,
    seen, stamp, time,
};
use super::plain::{Ink, Item, Plain};

/// All padded spellings of something that is written with varints: by one group, two, and as many as no number has.
fn padded(write: impl Fn(&mut Ink)) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut good = Ink::default();
    write(&mut good);
    let mut bad = vec![];
    for which in 0..good.varints {
        for groups in [1, 2, 10] {
            let mut ink = Ink::new(Some((which, groups)));
            write(&mut ink);
            assert!(ink.bytes.len() >= good.bytes.len() + groups);
            bad.push(ink.bytes);
        }
    }
    assert!(!bad.is_empty());
    (good.bytes, bad)
}

/// A log with a varint wherever an entry can have one.
fn wordy(kind: LogKind) -> Plain {
    plain(kind).with((0..8).map(|seq| {
        let mut item = rising(seq);
        // Milliseconds alone, and with a counter.
        item.hlc = stamp(1_000 * seq) + seq % 2;
        item.cites = if seq % 3 == 0 { cites(seq, kind) } else { vec![] };
        item.closures = if seq % 3 > 0 { closures(seq, kind) } else { vec![] };
        item.last_final = (seq % 4 == 1 && kind == LogKind::State).then_some(seq);
        item.others =
            if seq % 2 == 0 { vec![(seq as u8 + 9, vec![1; 200]), (0xff, vec![2])] } else { vec![] };
        item
    }))
}

#[test]
fn an_over_long_varint_is_refused_at_every_place_of_a_range() {
    for kind in [LogKind::State, LogKind::Event] {
        let model = wordy(kind);
        let said = model.said(8, T);
        let signature = model.sign(said);
        for (from, to) in [(0, 8), (0, 5), (3, 7), (4, 4), (8, 8)] {
            for alone in [false, true] {
                let (good, bad) = padded(|ink| model.range_signed((from, to), alone, said, &signature, ink));
                let mut copy = empty(kind);
                if !alone && from > 0 {
                    copy.receive(
                        &model.range((0, from), false, said),
                        &consilience_sync::Allowance::ANY,
                        &mut budget(),
                    )
                    .unwrap();
                }
                let before = seen(&copy);
                for bytes in bad {
                    let got = receive(&mut copy, &bytes);
                    assert_eq!(got, Err(ReceiveError::Decode(DecodeError::Varint)), "{from}..{to} {alone}");
                }
                assert_eq!(seen(&copy), before);
                assert!(receive(&mut copy, &good).is_ok());
            }
        }
    }
}

#[test]
fn an_over_long_varint_is_refused_at_every_place_of_a_head() {
    let model = wordy(LogKind::State);
    let (good, bad) = padded(|ink| model.head_bytes(model.said(8, T), ink));
    assert!(SignedHead::decode(&good, &mesh()).is_ok());
    for bytes in bad {
        let varint = HeadError::Opening(OpeningError::Decode(DecodeError::Varint));
        assert_eq!(SignedHead::decode(&bytes, &mesh()), Err(varint));
    }
}

#[test]
fn an_over_long_varint_is_refused_at_every_place_of_evidence() {
    let one = wordy(LogKind::State);
    let mut other = plain(LogKind::State).with(one.items[..5].to_vec());
    (5..9).for_each(|seq| other.push(item(seq)));
    for (heads, size) in [([8, 9], 7), ([8, 9], 8), ([8, 8], 8)] {
        let heads = [one.said(heads[0], T), other.said(heads[1], T)];
        let (good, bad) = padded(|ink| one.evidence(&other, size, heads, ink));
        assert!(Evidence::decode(&good, &mesh(), &mut budget()).is_ok());
        for bytes in bad {
            let got = Evidence::decode(&bytes, &mesh(), &mut budget()).unwrap_err();
            assert_eq!(got, EvidenceError::Opening(OpeningError::Decode(DecodeError::Varint)));
        }
    }
}

#[test]
fn small_messages_have_one_spelling_and_stay_within_the_limits() {
    let have = Have { start: 300, size: 70_000, base: 128 };
    let want = Want { from: 300, to: LOG_SIZE_MAX, form: RangeForm::Alone };
    let gone = Gone { below: 1 << 20 };
    assert_eq!(Have::decode(&have.encode()), Ok(have));
    assert_eq!(Want::decode(&want.encode()), Ok(want));
    assert_eq!(Gone::decode(&gone.encode()), Ok(gone));
    type Reads = fn(&[u8]) -> Option<DecodeError>;
    let forms: [(u8, Vec<u64>, Vec<u8>, Reads); 3] = [
        (0x2c, vec![300, 69_700, 128], have.encode(), |bytes| Have::decode(bytes).err()),
        (0x2d, vec![300, LOG_SIZE_MAX - 300, 1], want.encode(), |bytes| Want::decode(bytes).err()),
        (0x2e, vec![1 << 20], gone.encode(), |bytes| Gone::decode(bytes).err()),
    ];
    for (kind, numbers, encoded, reads) in forms {
        let (good, bad) = padded(|ink| {
            ink.put(&[kind]);
            numbers.iter().for_each(|number| ink.varint(*number));
        });
        assert_eq!(good, encoded);
        bad.iter().for_each(|bytes| assert_eq!(reads(bytes), Some(DecodeError::Varint)));
        (0..good.len()).for_each(|len| assert_eq!(reads(&good[..len]), Some(DecodeError::Truncated)));
        assert_eq!(reads(&[&good[..], &[0]].concat()), Some(DecodeError::Trailing));
        assert_eq!(reads(&[&[0x2b], &good[1..]].concat()), Some(DecodeError::Kind));
    }
    let numbers = |kind: u8, numbers: &[u64]| {
        let mut ink = Ink::default();
        ink.put(&[kind]);
        numbers.iter().for_each(|number| ink.varint(*number));
        ink.bytes
    };
    assert_eq!(Have::decode(&numbers(0x2c, &[1, LOG_SIZE_MAX, 0])), Err(DecodeError::Limit));
    assert_eq!(Have::decode(&numbers(0x2c, &[u64::MAX, 1, 0])), Err(DecodeError::Limit));
    assert_eq!(Have::decode(&numbers(0x2c, &[1, 2, 4])), Err(DecodeError::Base));
    assert_eq!(Want::decode(&numbers(0x2d, &[u64::MAX, u64::MAX, 0])), Err(DecodeError::Limit));
    assert_eq!(Want::decode(&numbers(0x2d, &[1, 2, 2])), Err(DecodeError::Kind));
    assert_eq!(Gone::decode(&numbers(0x2e, &[LOG_SIZE_MAX + 1])), Err(DecodeError::Limit));
}

/// A range of one entry at the start of a log, the entry given as bytes, under a signature of zeros.
fn one_entry(kind: LogKind, entry: &[u8]) -> ReceiveError {
    let bytes = [&[0x20, 0, 1][..], entry, &[0], &[0; 64]].concat();
    let mut copy = empty(kind);
    let before = seen(&copy);
    let error = receive(&mut copy, &bytes).unwrap_err();
    assert_eq!(seen(&copy), before);
    error
}

/// Read, and found not to be what was signed.
const WELL_FORMED: ReceiveError = ReceiveError::BadSignature;

fn malformed(error: DecodeError) -> ReceiveError {
    ReceiveError::Decode(error)
}

/// Header of an entry with an empty payload and an extra byte; the stamp is the next.
const EXTRA: u8 = 1;
/// What stands before an empty payload.
const SALT: [u8; 4] = [0xa5; 4];

/// An entry with an empty payload.
fn salted(header: &[u8]) -> Vec<u8> {
    [header, &SALT].concat()
}

#[test]
fn headers_of_entries_have_one_spelling() {
    let state = |header: &[u8]| one_entry(LogKind::State, &salted(header));
    assert_eq!(state(&[0]), WELL_FORMED);
    assert_eq!(state(&[EXTRA, 0x90]), WELL_FORMED, "flags");
    assert_eq!(state(&[EXTRA, 0]), malformed(DecodeError::NotCanonical), "an extra byte that says nothing");
    assert_eq!(state(&[EXTRA, 1, 0]), malformed(DecodeError::NotCanonical), "a base that rises by nothing");
    assert_eq!(state(&[EXTRA, 1, 1]), malformed(DecodeError::Base), "a base above the entry");
    assert_eq!(state(&[8]), malformed(DecodeError::Truncated), "a payload that is not there");
    // The rest of a range has 65 bytes.
    assert_eq!(one_entry(LogKind::State, &[62 << 3 & 0x7f | 0x80, 3]), malformed(DecodeError::Truncated));
}

#[test]
fn an_epoch_is_written_only_where_it_changes() {
    for kind in [LogKind::State, LogKind::Event] {
        let first = |epoch: u32| salted(&[&[EXTRA, 8][..], &epoch.to_le_bytes()].concat());
        assert_eq!(one_entry(kind, &first(0)), malformed(DecodeError::NotCanonical), "after nothing it is 0");
        assert_eq!(one_entry(kind, &first(1)), WELL_FORMED);
        assert_eq!(one_entry(kind, &first(u32::MAX)), WELL_FORMED);
        let second = |header: &[u8]| {
            let bytes = [&[0x20, 0, 2][..], &first(5), &salted(header), &[0], &[0; 64]].concat();
            receive(&mut empty(kind), &bytes).unwrap_err()
        };
        let epoch = |epoch: u32| [&[EXTRA, 8][..], &epoch.to_le_bytes()].concat();
        assert_eq!(second(&[0]), WELL_FORMED, "the same");
        assert_eq!(second(&epoch(6)), WELL_FORMED);
        assert_eq!(second(&epoch(0)), WELL_FORMED, "in the clear again");
        assert_eq!(second(&epoch(5)), malformed(DecodeError::NotCanonical), "the same, written again");
    }
}

#[test]
fn stamps_have_one_spelling() {
    let state = |header: &[u8]| one_entry(LogKind::State, &salted(header));
    let raw = |bits: u64| [&[6][..], &bits.to_le_bytes()].concat();
    // Milliseconds alone; with a counter; raw.
    assert_eq!(state(&[2, 5]), WELL_FORMED);
    assert_eq!(state(&[4, 5, 7]), WELL_FORMED);
    assert_eq!(state(&[4, 0, 7]), WELL_FORMED);
    assert_eq!(state(&raw(0)), WELL_FORMED);
    let not = malformed(DecodeError::NotCanonical);
    assert_eq!(state(&[2, 0]), not, "the same stamp is not later");
    assert_eq!(state(&[4, 0, 0]), not);
    assert_eq!(state(&[4, 5, 0]), not, "a counter of nothing");
    assert_eq!(state(&[4, 0, 1]), not, "the next stamp");
    assert_eq!(state(&[&[4, 5][..], &[0x80, 0x80, 4]].concat()), not, "a counter beyond 16 bits");
    let beyond = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40];
    assert_eq!(state(&[&[2][..], &beyond].concat()), not, "milliseconds beyond 48 bits");
    for bits in [1, 2, 7 << 16, (7 << 16) + 3, u64::MAX] {
        assert_eq!(state(&raw(bits)), not, "a later stamp is not written raw");
    }
    // Behind the last stamp there is, there is no next.
    let last = |second: &[u8]| {
        let first = [&[4][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f], &[0xff, 0xff, 3]].concat();
        let bytes = [&[0x20, 0, 2][..], &salted(&first), &salted(second), &[0], &[0; 64]].concat();
        receive(&mut empty(LogKind::State), &bytes).unwrap_err()
    };
    assert_eq!(last(&[0]), not);
    assert_eq!(last(&[6, 255, 255, 255, 255, 255, 255, 255, 255]), WELL_FORMED);
}

/// An entry with an extension of these bytes.
fn extended(kind: LogKind, extension: &[u8]) -> ReceiveError {
    let mut ink = Ink::default();
    ink.put(&[EXTRA, 2]);
    ink.counted(|ink| ink.put(extension));
    ink.put(&SALT);
    one_entry(kind, &ink.bytes)
}

/// A field of an extension.
fn field(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut ink = Ink::default();
    ink.put(&[kind]);
    ink.counted(|ink| ink.put(content));
    ink.bytes
}

#[test]
fn malformed_extensions_are_refused() {
    for kind in [LogKind::State, LogKind::Event] {
        let entry = |fields: &[Vec<u8>]| extended(kind, &fields.concat());
        let refused = |fields: &[Vec<u8>]| match entry(fields) {
            ReceiveError::Decode(error) => error,
            other => panic!("{fields:02x?}: {other}"),
        };
        assert_eq!(refused(&[]), DecodeError::NotCanonical, "flagged, and none");
        // Whatever the kinds are: none of these is known.
        for (low, high) in [(0, 4), (0x7f, 0x80), (0x80, 0xff), (9, 0xfe)] {
            assert_eq!(entry(&[field(low, b"x")]), WELL_FORMED);
            assert_eq!(entry(&[field(low, b"x"), field(high, &[7; 300])]), WELL_FORMED);
            assert_eq!(
                refused(&[field(high, b"x"), field(low, b"x")]),
                DecodeError::NotCanonical,
                "unsorted"
            );
            assert_eq!(refused(&[field(low, b"x"), field(low, b"y")]), DecodeError::NotCanonical, "twice");
            assert_eq!(refused(&[field(low, b"")]), DecodeError::NotCanonical, "no content");
            assert_eq!(refused(&[vec![low]]), DecodeError::Truncated, "a kind alone");
            assert_eq!(refused(&[vec![low, 2, 0]]), DecodeError::Truncated, "beyond the extension");
            assert_eq!(refused(&[vec![low, 0x81, 0, 5]]), DecodeError::Varint, "an over-long length");
        }
        // A length that is not there, and one that no input has.
        assert_eq!(one_entry(kind, &[EXTRA, 2, 100, 1]), malformed(DecodeError::Truncated));
        let huge = [&[EXTRA, 2][..], &[0xff; 9], &[1]].concat();
        assert_eq!(one_entry(kind, &huge), malformed(DecodeError::Truncated));
    }
}

#[test]
fn malformed_citations_are_refused() {
    let root = [9; 32];
    for (kind, root) in [(LogKind::State, &root[..0]), (LogKind::Event, &root[..])] {
        let cite = |name: u8, size: &[u8]| [&[name; 8][..], size, root].concat();
        let entry = |cites: &[Vec<u8>]| extended(kind, &field(1, &cites.concat()));
        let (one, two) = (cite(1, &[5]), cite(2, &[0x85, 2]));
        assert_eq!(entry(std::slice::from_ref(&one)), WELL_FORMED);
        assert_eq!(entry(&[one.clone(), two.clone()]), WELL_FORMED);
        let refused = |cites: &[Vec<u8>]| match entry(cites) {
            ReceiveError::Decode(error) => error,
            other => panic!("{cites:02x?}: {other}"),
        };
        assert_eq!(refused(&[]), DecodeError::NotCanonical, "none");
        assert_eq!(refused(&[two, one.clone()]), DecodeError::NotCanonical, "unsorted");
        assert_eq!(refused(&[one.clone(), one.clone()]), DecodeError::NotCanonical, "twice");
        assert_eq!(refused(&[one.clone(), cite(1, &[6])]), DecodeError::NotCanonical, "twice, at two sizes");
        assert_eq!(refused(&[one.clone(), vec![0]]), DecodeError::Truncated, "the beginning of another");
        assert_eq!(refused(&[one[..one.len() - 1].to_vec()]), DecodeError::Truncated, "cut");
        assert_eq!(refused(&[cite(1, &[0x85, 0])]), DecodeError::Varint, "an over-long size");
        let beyond = [0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 4];
        assert_eq!(refused(&[cite(1, &beyond)]), DecodeError::Limit, "a size beyond 2⁴⁴");
        let most = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 4];
        assert_eq!(entry(&[cite(1, &most)]), WELL_FORMED);
        let many = |count: u8| (1..=count).map(|name| cite(name, &[1])).collect::<Vec<_>>();
        assert_eq!(entry(&many(64)), WELL_FORMED);
        assert_eq!(refused(&many(65)), DecodeError::Limit, "too many");
    }
    // Those of the other kind of log: a root too many, or one that is missing.
    let stated = field(1, &[&[1; 8][..], &[5]].concat());
    assert_eq!(extended(LogKind::State, &stated), WELL_FORMED);
    assert_eq!(extended(LogKind::Event, &stated), malformed(DecodeError::Truncated));
    let rooted = field(1, &[&[1; 8][..], &[5], &root].concat());
    assert_eq!(extended(LogKind::Event, &rooted), WELL_FORMED);
    assert_eq!(extended(LogKind::State, &rooted), malformed(DecodeError::NotCanonical));
}

#[test]
fn malformed_closures_are_refused_and_so_are_those_of_events() {
    let close = |incarnation: u64, below: &[u8]| [&incarnation.to_le_bytes()[..], below].concat();
    let entry = |closures: &[Vec<u8>]| extended(LogKind::State, &field(2, &closures.concat()));
    let refused = |closures: &[Vec<u8>]| match entry(closures) {
        ReceiveError::Decode(error) => error,
        other => panic!("{closures:02x?}: {other}"),
    };
    let most = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 4];
    assert_eq!(entry(&[close(0, &[1])]), WELL_FORMED);
    assert_eq!(entry(&[close(5, &[1]), close(256, &[1]), close(OWN - 1, &most)]), WELL_FORMED);
    assert_eq!(refused(&[]), DecodeError::NotCanonical, "none");
    assert_eq!(refused(&[close(256, &[1]), close(5, &[1])]), DecodeError::NotCanonical, "unsorted");
    assert_eq!(refused(&[close(5, &[1]), close(5, &[2])]), DecodeError::NotCanonical, "twice");
    assert_eq!(refused(&[close(5, &[0])]), DecodeError::Limit, "below 0 entries");
    let beyond = [0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 4];
    assert_eq!(refused(&[close(5, &beyond)]), DecodeError::Limit, "below more entries than a log has");
    assert_eq!(refused(&[close(OWN, &[1])]), DecodeError::Limit, "of the log itself");
    assert_eq!(refused(&[close(u64::MAX, &[1])]), DecodeError::Limit, "of a later one");
    assert_eq!(refused(&[close(5, &[0x81, 0])]), DecodeError::Varint, "an over-long number");
    assert_eq!(refused(&[close(5, &[])]), DecodeError::Truncated, "without its number");
    assert_eq!(refused(&[close(5, &[1]), vec![6, 0, 0]]), DecodeError::Truncated, "cut");
    let many = |count: u64| (0..count).map(|number| close(number, &[1])).collect::<Vec<_>>();
    assert_eq!(entry(&many(4_096)), WELL_FORMED);
    assert_eq!(refused(&many(4_097)), DecodeError::Limit, "too many");
    let events = extended(LogKind::Event, &field(2, &close(0, &[1])));
    assert_eq!(events, malformed(DecodeError::Kind));
}

#[test]
fn a_malformed_final_incarnation_is_refused_and_so_is_that_of_events() {
    let entry = |content: &[u8]| extended(LogKind::State, &field(3, content));
    assert_eq!(entry(&0_u64.to_le_bytes()), WELL_FORMED);
    assert_eq!(entry(&OWN.to_le_bytes()), WELL_FORMED, "its own");
    assert_eq!(entry(&(OWN + 1).to_le_bytes()), malformed(DecodeError::Limit), "a later one");
    assert_eq!(entry(&[0; 7]), malformed(DecodeError::Truncated));
    assert_eq!(entry(&[0; 9]), malformed(DecodeError::Trailing));
    let events = extended(LogKind::Event, &field(3, &0_u64.to_le_bytes()));
    assert_eq!(events, malformed(DecodeError::Kind));
}

#[test]
fn an_entry_with_a_field_that_is_not_known_is_held_and_passed_on_and_says_nothing_if_that_is_critical() {
    for kind in [LogKind::State, LogKind::Event] {
        let others = [vec![], vec![(0x80, vec![1])], vec![(0, vec![2; 130])], vec![(4, vec![3])]];
        let mixed = [vec![(0x7f, vec![4])], vec![(0x7f, vec![5]), (0xff, vec![6; 9])]];
        let model = plain(kind).with(others.into_iter().chain(mixed).zip(0..).map(|(others, seq)| {
            let mut item = item(seq);
            // Known fields stand beside the others.
            (item.others, item.epoch) = (others, 0);
            item.cites = if seq % 2 == 0 { cites(seq, kind) } else { vec![] };
            item.closures = closures(seq, kind);
            item
        }));
        let mut copy = empty(kind);
        receive(&mut copy, &model.whole(T)).unwrap();
        assert_equals_plain(&copy, &model);
        let opaque: Vec<_> = copy.entries(0, 6).map(|entry| entry.is_opaque()).collect();
        assert_eq!(opaque, [false, false, true, true, true, true]);
        assert_eq!(super::common::range(&copy, 0, 6, RangeForm::Follow), model.whole(T));
        let mut next = empty(kind);
        for seq in 0..6 {
            let bytes = super::common::range(&copy, seq, seq + 1, RangeForm::Alone);
            receive(&mut next, &bytes).unwrap();
        }
        assert_equals_plain(&next, &model);
        // Its writer goes on in it as in any log.
        super::common::append(&mut copy, &item(6));
        copy.sign_head(&ada(), time(T + 1)).unwrap();
        assert_equals_plain(&copy, &model.with([item(6)]));
    }
}

#[test]
fn a_payload_beyond_62_kib_is_refused_before_it_is_read_and_so_is_one_with_an_extension() {
    let entry = |len: u64, extension: &[u8], there: usize| {
        let mut ink = Ink::default();
        ink.varint(len << 3 | u64::from(!extension.is_empty()));
        if !extension.is_empty() {
            ink.put(&[2]);
            ink.counted(|ink| ink.put(extension));
        }
        ink.put(&SALT);
        ink.put(&vec![7; there]);
        one_entry(LogKind::State, &ink.bytes)
    };
    let max = ENTRY_BYTES_MAX as u64;
    assert_eq!(entry(max, &[], ENTRY_BYTES_MAX), WELL_FORMED);
    assert_eq!(entry(max + 1, &[], ENTRY_BYTES_MAX + 1), malformed(DecodeError::Limit));
    assert_eq!(entry(u64::MAX >> 3, &[], 0), malformed(DecodeError::Limit));
    for extension in [field(1, &[&[1; 8][..], &[5]].concat()), field(0xf0, &[9; 60_000])] {
        let most = ENTRY_BYTES_MAX - extension.len();
        assert_eq!(entry(most as u64, &extension, most), WELL_FORMED);
        assert_eq!(entry(most as u64 + 1, &extension, most + 1), malformed(DecodeError::Limit));
    }
    let all = field(0xf0, &[9; ENTRY_BYTES_MAX - 4]);
    assert_eq!((all.len(), entry(0, &all, 0)), (ENTRY_BYTES_MAX, WELL_FORMED));
    let more = field(0xf0, &[9; ENTRY_BYTES_MAX - 3]);
    assert_eq!(entry(0, &more, 0), malformed(DecodeError::Limit));
}

#[test]
fn an_erased_payload_of_a_state_is_refused() {
    let erased = [&[5 << 3 | EXTRA, 4][..], &[3; 32]].concat();
    assert_eq!(one_entry(LogKind::Event, &erased), WELL_FORMED);
    assert_eq!(one_entry(LogKind::State, &erased), malformed(DecodeError::NotCanonical));
}

#[test]
fn numbers_of_a_range_stay_within_their_limits() {
    let mut copy = empty(LogKind::State);
    let mut refused = |kind: u8, numbers: &[u64], rest: &[u8]| {
        let mut ink = Ink::default();
        ink.put(&[kind]);
        numbers.iter().for_each(|number| ink.varint(*number));
        ink.put(rest);
        let before = seen(&copy);
        let error = receive(&mut copy, &ink.bytes).unwrap_err();
        assert!(copy.verify(&ink.bytes, &mut budget()).is_err());
        assert_eq!(seen(&copy), before);
        error
    };
    let tail = [0; 64];
    for kind in (0..=u8::MAX).filter(|kind| !(0x20..0x24).contains(kind)) {
        assert_eq!(refused(kind, &[0, 0, 1, 0, 0], &tail), malformed(DecodeError::Kind));
    }
    assert_eq!(refused(0x20, &[LOG_SIZE_MAX + 1, 0, 0], &tail), malformed(DecodeError::Limit));
    assert_eq!(refused(0x20, &[LOG_SIZE_MAX, 1, 0], &tail), malformed(DecodeError::Limit));
    assert_eq!(refused(0x20, &[0, u64::MAX, 0], &tail), malformed(DecodeError::Truncated));
    assert_eq!(
        refused(0x20, &[0, 66, 0], &tail),
        malformed(DecodeError::Truncated),
        "more entries than bytes"
    );
    assert_eq!(refused(0x21, &[u64::MAX >> 20, 0, 0], &tail), malformed(DecodeError::Truncated), "peaks");
    assert_eq!(refused(0x20, &[7, 0, 0], &tail), ReceiveError::Gap { have: 0 });
    // What lies beyond: nothing, too much, and a base that the head cannot have.
    assert_eq!(refused(0x22, &[0, 0, 0, 0, 0], &tail), malformed(DecodeError::NotCanonical));
    assert_eq!(refused(0x22, &[0, 0, LOG_SIZE_MAX + 1, 0, 0], &tail), malformed(DecodeError::Limit));
    assert_eq!(refused(0x22, &[0, 0, u64::MAX, 0, 0], &tail), malformed(DecodeError::Limit));
    assert_eq!(refused(0x22, &[0, 0, 5, 5, 0], &tail), malformed(DecodeError::Base));
    assert_eq!(refused(0x20, &[0, 0, 0], &tail), malformed(DecodeError::Base), "a head over nothing");
    // A time below zero, and one beyond 48 bits.
    let hash = [[0; 64], [0; 64]].concat();
    assert_eq!(refused(0x22, &[0, 0, 5, 0, 1], &hash[..96]), malformed(DecodeError::Limit));
    assert_eq!(refused(0x22, &[0, 0, 5, 0, 1 << 49], &hash[..96]), malformed(DecodeError::Limit));
    assert_eq!(refused(0x22, &[0, 0, 5, 0, 0], &hash[..96]), WELL_FORMED);
    assert_eq!(refused(0x22, &[0, 0, 5, 0, 0], &hash[..95]), malformed(DecodeError::Truncated));
    assert_eq!(refused(0x22, &[0, 0, 5, 0, 0], &hash[..97]), malformed(DecodeError::Trailing));
}

#[test]
fn the_two_sides_of_evidence_stand_in_one_order_and_share_as_many_peaks_as_they_can() {
    let items = |fork: u64| (0..9).map(move |seq| if seq < fork { item(seq) } else { item(seq + 50) });
    let (one, other) = (plain(LogKind::State).with(items(9)), plain(LogKind::State).with(items(6)));
    let heads = [one.said(9, T), other.said(9, T)];
    let mut ink = Ink::default();
    one.evidence(&other, 7, heads, &mut ink);
    let good = ink.bytes;
    assert!(Evidence::decode(&good, &mesh(), &mut budget()).is_ok());
    let opening = one.opening.encode(&mesh()).len();
    // Kind and opening, size and the number of shared peaks, two peaks, two sides of one length.
    let front = 1 + opening + 2 + 64;
    assert_eq!(good[1 + opening..front - 64], [7, 2]);
    let side = (good.len() - front) / 2;
    let (first, second) = (&good[front..front + side], &good[front + side..]);
    let refused = |bytes: &[u8]| match Evidence::decode(bytes, &mesh(), &mut budget()) {
        Err(EvidenceError::Opening(OpeningError::Decode(error))) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&[&good[..front], second, first].concat()), DecodeError::NotCanonical);
    assert_eq!(refused(&[&good[..front], first, first].concat()), DecodeError::NotCanonical);
    // The second peak told twice instead of once.
    let (numbers, peaks) = (&good[..front - 64], &good[front - 64..front]);
    let own = |side: &[u8]| {
        // Size beyond, base and time are 1, 1 and 6 bytes; the signature 64.
        [&side[..72], &peaks[32..], &side[72..]].concat()
    };
    let mut fewer = [numbers, &peaks[..32], &own(first), &own(second)].concat();
    fewer[1 + opening + 1] = 1;
    assert_eq!(refused(&fewer), DecodeError::NotCanonical);
    // More shared than there are, and more than there are bytes.
    let mut more = good.clone();
    more[1 + opening + 1] = 4;
    assert_eq!(refused(&more), DecodeError::NotCanonical);
    more[1 + opening + 1] = 127;
    assert_eq!(refused(&more), DecodeError::Truncated);
    // At size 0 there is nothing to differ in.
    let mut nothing = good;
    nothing[1 + opening] = 0;
    assert_eq!(refused(&nothing), DecodeError::Limit);
}

#[test]
fn an_item_of_the_model_spells_like_the_library() {
    for kind in [LogKind::State, LogKind::Event] {
        let item = Item {
            flags: 3,
            epoch: 0x0102_0304,
            cites: cites(4, kind),
            closures: closures(4, kind),
            last_final: (kind == LogKind::State).then_some(OWN),
            salt: [1, 2, 3, 4],
            ..Item::new(stamp(5) + 9, b"payload")
        };
        let log = super::common::written(kind, [item.clone(), item.clone()], T);
        let model = plain(kind).with([item.clone(), item]);
        assert_eq!(super::common::range(&log, 0, 2, RangeForm::Follow), model.whole(T));
        let mut ink = Ink::default();
        model.head_bytes(model.said(2, T), &mut ink);
        assert_eq!(log.head().unwrap().encode(log.opening(), &mesh()), ink.bytes);
    }
}
