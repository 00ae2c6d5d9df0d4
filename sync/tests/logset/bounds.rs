//! What a peer can cause: memory in proportion to what it sends, and signature checks too.

use allocation_counter::measure;
use consilience_sync::{
    Admission, Evidence, Gone, Have, LogId, LogKind, LogOpening, LogSet, ReceiveError, Received, SetError,
    SignedHead, VerifyBudget, Want,
};

use crate::world::{
    Dice, KINDS, START, alone, append, append_based, follow, head_proof, holder, keys, later, mesh, opening,
    opening_in, range, receive, rich, seeds, set, tell, write, writer,
};

/// Runs something on `input` bytes and checks the most that was allocated at once.
fn bounded<T>(what: &str, input: usize, work: impl FnOnce() -> T) -> T {
    let mut result = None;
    let info = measure(|| result = Some(work()));
    let limit = 8 * input as u64 + (16 << 10);
    assert!(info.bytes_max <= limit, "{what}: {} bytes for {input}, {limit} are allowed", info.bytes_max);
    result.unwrap()
}

/// As many entries as can be, of one byte each.
fn dense(kind: LogKind, count: u64) -> (LogSet, LogId) {
    let (mut source, log) = writer(&opening(kind, 1));
    append(&mut source, &log, b"", START);
    for _ in 1..count {
        append(&mut source, &log, b"", START);
    }
    source.sign_head(&log, &keys(1), START).unwrap();
    (source, log)
}

#[test]
fn one_range_of_the_smallest_entries_takes_memory_in_proportion() {
    let (source, log) = dense(LogKind::State, 140_000);
    for count in [1, 2, 63, 64, 65, 127, 128, 1_000, 1_025, 4_097, 33_000, 65_600, 131_200] {
        for from in [0, 1, 63, 64, 777] {
            let bytes = range(&source, &log, alone(from, from + count));
            let mut to = holder(&[&opening(LogKind::State, 1)]);
            let received = bounded(&format!("{count} entries from {from}"), bytes.len(), || {
                to.receive(&log, &bytes, START, &mut rich())
            });
            assert!(received.is_ok());
        }
    }
}

#[test]
fn ranges_that_follow_take_memory_in_proportion_to_all_of_them() {
    let (source, log) = dense(LogKind::State, 140_000);
    for chunk in [1, 10, 100, 1_000, 10_000] {
        let total = (chunk * 400).min(140_000);
        let ranges: Vec<_> =
            (0..total / chunk).map(|at| range(&source, &log, follow(at * chunk, (at + 1) * chunk))).collect();
        let mut to = holder(&[&opening(LogKind::State, 1)]);
        let input = ranges.iter().map(Vec::len).sum();
        bounded(&format!("{} ranges of {chunk}", ranges.len()), input, || {
            for bytes in &ranges {
                to.receive(&log, bytes, START, &mut rich()).unwrap();
            }
        });
    }
}

#[test]
fn ranges_of_one_entry_that_stand_alone_take_memory_in_proportion() {
    let (source, log) = dense(LogKind::State, 5_000);
    let ranges: Vec<_> = (1..5_000).step_by(2).map(|at| range(&source, &log, alone(at, at + 1))).collect();
    let mut to = holder(&[&opening(LogKind::State, 1)]);
    let mut input = 0;
    for bytes in &ranges {
        input += bytes.len();
        bounded("a range alone", bytes.len(), || to.receive(&log, bytes, START, &mut rich()).is_ok());
    }
    assert!(to.stats().bytes <= 8 * input + (16 << 10));
}

#[test]
fn a_jump_takes_memory_in_proportion() {
    for kind in KINDS {
        let (mut source, log) = dense(kind, 70_001);
        append_based(&mut source, &log, b"", 1_000, START);
        source.sign_head(&log, &keys(1), START).unwrap();
        let mut to = holder(&[&opening(kind, 1)]);
        receive(&mut to, &log, &range(&source, &log, alone(0, 900))).unwrap();
        let bytes = range(&source, &log, alone(1_000, 70_002));
        let received = bounded("a jump", bytes.len(), || to.receive(&log, &bytes, START, &mut rich()));
        assert_eq!(received, Ok(Received::FastForwarded { from: 1_000, to: 70_002 }));
    }
}

#[test]
fn filling_a_gap_takes_memory_in_proportion_to_what_waited() {
    let (source, log) = dense(LogKind::State, 70_000);
    let mut to = holder(&[&opening(LogKind::State, 1)]);
    let [behind, first] = [range(&source, &log, alone(64, 70_000)), range(&source, &log, alone(0, 64))];
    bounded("both", behind.len() + first.len(), || {
        to.receive(&log, &behind, START, &mut rich()).unwrap();
        to.receive(&log, &first, START, &mut rich()).unwrap();
    });
    assert_eq!(to.applicable(&log), Some((0, 70_000)));
}

#[test]
fn another_branch_takes_memory_in_proportion() {
    for kind in KINDS {
        let (mut one, log) = dense(kind, 10_000);
        let mut other = one.clone();
        write(&mut one, &log, 1, "x", 30_000);
        for _ in 0..30_000 {
            append(&mut other, &log, b"", START);
        }
        other.sign_head(&log, &keys(1), START).unwrap();
        for want in [alone(0, 40_000), alone(9_990, 40_000), alone(20_000, 20_000), alone(9_000, 9_001)] {
            let mut to = holder(&[&opening(kind, 1)]);
            receive(&mut to, &log, &range(&one, &log, alone(0, 39_000))).unwrap();
            let bytes = range(&other, &log, want);
            bounded("another branch", bytes.len(), || to.receive(&log, &bytes, START, &mut rich()).is_ok());
        }
    }
}

/// Bytes that begin like something and claim much.
fn claims() -> Vec<Vec<u8>> {
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let large = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let opening = opening(LogKind::Event, 1).encode(&mesh());
    let mut claims = Vec::new();
    for kind in [0x20_u8, 0x21, 0x22, 0x23, 0x28, 0x29, 0x2a, 0x2c, 0x2d, 0x2e] {
        for prefix in [&[][..], &opening] {
            for number in [&huge[..], &large, &[0x80, 0x00], &[0x00], &[0x7f]] {
                for copies in 1..6 {
                    for tail in [0, 1, 64, 4_096, 65_536] {
                        let mut bytes = vec![kind];
                        bytes.extend_from_slice(prefix);
                        (0..copies).for_each(|_| bytes.extend_from_slice(number));
                        bytes.resize(bytes.len() + tail, 0);
                        claims.push(bytes);
                    }
                }
            }
        }
    }
    claims
}

fn decode_everything(to: &mut LogSet, log: &LogId, bytes: &[u8]) {
    let mesh = mesh();
    let n = bytes.len();
    let budget = &mut rich();
    bounded("receive", n, || to.receive(log, bytes, START, budget).is_ok());
    bounded("receive_evidence", n, || {
        let _ = to.receive_evidence(bytes, START, budget, |_| Admission::Ignore);
    });
    bounded("verify", n, || to.log(log).unwrap().verify(bytes, budget).is_ok());
    bounded("evidence", n, || Evidence::decode(bytes, &mesh, budget).is_ok());
    bounded("head", n, || SignedHead::decode(bytes, &mesh).is_ok());
    bounded("opening", n, || LogOpening::decode(bytes, &mesh).is_ok());
    bounded("have", n, || Have::decode(bytes).is_ok());
    bounded("want", n, || Want::decode(bytes).is_ok());
    bounded("gone", n, || Gone::decode(bytes).is_ok());
}

#[test]
fn claims_that_the_bytes_do_not_hold_take_no_memory() {
    let (source, log) = dense(LogKind::Event, 3_000);
    let mut to = holder(&[&opening(LogKind::Event, 1)]);
    receive(&mut to, &log, &range(&source, &log, alone(0, 1_000))).unwrap();
    for bytes in claims() {
        decode_everything(&mut to, &log, &bytes);
    }
    assert_eq!(to.applicable(&log), Some((0, 1_000)));
}

#[test]
fn damaged_messages_take_memory_in_proportion() {
    let (mut source, log) = dense(LogKind::Event, 200);
    append_based(&mut source, &log, b"", 100, START);
    let mut other = source.clone();
    append(&mut source, &log, b"x", START);
    append(&mut other, &log, b"y", START);
    source.sign_head(&log, &keys(1), START).unwrap();
    other.sign_head(&log, &keys(1), START).unwrap();
    let mut judge = holder(&[&opening(LogKind::Event, 1)]);
    tell(&source, &mut judge, &log, START);
    tell(&other, &mut judge, &log, START);
    let head = *source.log(&log).unwrap().head().unwrap();
    let good = [
        range(&source, &log, alone(0, 150)),
        range(&source, &log, alone(101, 202)),
        range(&source, &log, follow(64, 128)),
        head_proof(&source, &log).unwrap(),
        judge.evidence(&log).unwrap().as_bytes().to_vec(),
        head.encode(&opening(LogKind::Event, 1), &mesh()),
    ];
    seeds(40, |seed| {
        let mut dice = Dice::new(seed);
        let mut to = holder(&[&opening(LogKind::Event, 1)]);
        receive(&mut to, &log, &range(&source, &log, alone(0, 70))).unwrap();
        for _ in 0..40 {
            let mut bytes = good[dice.index(good.len())].clone();
            for _ in 0..dice.roll(4) {
                let at = dice.index(bytes.len());
                bytes[at] = dice.roll(256) as u8;
            }
            if dice.one_in(3) {
                bytes.truncate(dice.index(bytes.len()));
            }
            decode_everything(&mut to, &log, &bytes);
        }
    });
}

/// Hands messages in and checks after each that they paid for the checks that they caused.
fn paid<'a>(messages: impl IntoIterator<Item = &'a Vec<u8>>, mut hand: impl FnMut(&[u8], &mut VerifyBudget)) {
    let mut budget = VerifyBudget::new();
    let mut bytes = 0;
    for message in messages {
        bytes += message.len() as u64;
        budget.received(message.len());
        hand(message, &mut budget);
        let allowed = 128 + bytes / 128;
        assert!(budget.checks() <= allowed, "{} checks, {bytes} bytes pay for {allowed}", budget.checks());
    }
}

fn take(to: &mut LogSet, log: &LogId, bytes: &[u8], budget: &mut VerifyBudget) {
    let _ = to.receive(log, bytes, START, budget);
}

#[test]
fn floods_of_bad_signatures_are_checked_only_as_far_as_they_pay() {
    let (source, log) = dense(LogKind::State, 64);
    let mut to = holder(&[&opening(LogKind::State, 1)]);
    receive(&mut to, &log, &range(&source, &log, alone(0, 10))).unwrap();
    let good = range(&source, &log, follow(10, 11));
    let bad: Vec<_> = (0..3_000_u64)
        .map(|number| {
            let mut bytes = good.clone();
            let signature = bytes.len() - 60;
            bytes[signature..signature + 8].copy_from_slice(&number.to_le_bytes());
            bytes
        })
        .collect();
    let mut refused = 0;
    paid(&bad, |bytes, budget| match to.receive(&log, bytes, START, budget) {
        Err(SetError::Receive(ReceiveError::Budget)) => refused += 1,
        Err(SetError::Receive(ReceiveError::Unproven | ReceiveError::BadSignature)) => {}
        other => panic!("{other:?}"),
    });
    assert!(refused > 0 || good.len() >= 128, "{} bytes each", good.len());
    // An honest peer has a budget of its own.
    assert!(to.receive(&log, &good, START, &mut VerifyBudget::new()).is_ok());
}

#[test]
fn good_heads_of_the_past_are_checked_only_as_far_as_they_pay() {
    for kind in KINDS {
        let (mut source, log) = writer(&opening(kind, 1));
        let mut old = Vec::new();
        for number in 0..40 {
            append(&mut source, &log, b"", START);
            source.sign_head(&log, &keys(1), later(number)).unwrap();
            old.push(head_proof(&source, &log).unwrap());
            old.push(range(&source, &log, follow(number, number + 1)));
        }
        let mut to = holder(&[&opening(kind, 1)]);
        tell(&source, &mut to, &log, START);
        paid((0..100).flat_map(|_| &old), |bytes, budget| take(&mut to, &log, bytes, budget));
    }
}

#[test]
fn a_range_that_conflicts_is_not_checked_again_for_nothing() {
    let (mut source, log) = writer(&opening(LogKind::State, 1));
    write(&mut source, &log, 1, "x", 4);
    let mut owner = source.clone();
    append(&mut owner, &log, b"tail", START);
    write(&mut source, &log, 1, "y", 1);
    let conflict = range(&source, &log, follow(4, 5));
    assert_eq!(receive(&mut owner, &log, &conflict), Ok(Received::Conflict));
    paid((0..2_000).map(|_| &conflict), |bytes, budget| take(&mut owner, &log, bytes, budget));
}

#[test]
fn endless_heartbeats_are_checked_only_as_far_as_they_pay() {
    for kind in KINDS {
        let (mut source, log) = writer(&opening(kind, 1));
        write(&mut source, &log, 1, "x", 1);
        let mut to = holder(&[&opening(kind, 1)]);
        tell(&source, &mut to, &log, START);
        let beats: Vec<_> = (1..1_000)
            .map(|number| {
                source.sign_head(&log, &keys(1), later(number)).unwrap();
                range(&source, &log, follow(1, 1))
            })
            .collect();
        paid(&beats, |bytes, budget| take(&mut to, &log, bytes, budget));
    }
}

#[test]
fn endless_further_heads_are_checked_only_as_far_as_they_pay() {
    for kind in KINDS {
        let (mut source, log) = writer(&opening(kind, 1));
        let mut to = holder(&[&opening(kind, 1)]);
        let mut heads = Vec::new();
        for _ in 0..3_000 {
            append(&mut source, &log, b"", START);
            source.sign_head(&log, &keys(1), START).unwrap();
            heads.push(head_proof(&source, &log).unwrap());
            heads.extend(match source.answer(&log, &follow(1, 1), 200) {
                consilience_sync::Answer::Range { bytes, .. } => Some(bytes),
                _ => None,
            });
        }
        receive(&mut to, &log, &range(&source, &log, follow(0, 1))).unwrap();
        paid(&heads, |bytes, budget| take(&mut to, &log, bytes, budget));
    }
}

#[test]
fn floods_of_evidence_are_checked_only_as_far_as_they_pay() {
    for kind in KINDS {
        let (mut one, log) = writer(&opening(kind, 1));
        append(&mut one, &log, b"", START);
        let mut other = one.clone();
        write(&mut one, &log, 1, "x", 300);
        write(&mut other, &log, 1, "y", 300);
        let mut all = Vec::new();
        for size in (2..300).rev() {
            let mut judge = holder(&[&opening(kind, 1)]);
            tell(&one, &mut judge, &log, START);
            receive(&mut judge, &log, &range(&other, &log, alone(size, size))).unwrap();
            all.push(judge.evidence(&log).unwrap().as_bytes().to_vec());
        }
        let bad: Vec<_> = all
            .iter()
            .map(|bytes| {
                let mut bytes = bytes.clone();
                *bytes.last_mut().unwrap() ^= 1;
                bytes
            })
            .collect();
        // Better and better, then damaged, then worse again: for a log that is held, and for one that is not.
        for mut to in [holder(&[&opening(kind, 1)]), set()] {
            let floods = all.iter().chain(&bad).chain(all.iter().rev()).chain(&bad).chain(&all);
            paid(floods, |bytes, budget| {
                let _ = to.receive_evidence(bytes, START, budget, |_| Admission::Hold);
            });
        }
        let mut to = set();
        paid((0..10).flat_map(|_| &all), |bytes, budget| {
            let _ = to.receive_evidence(bytes, START, budget, |_| Admission::Ignore);
        });
    }
}

#[test]
fn floods_of_forks_are_checked_only_as_far_as_they_pay() {
    for kind in KINDS {
        let mut budget_free = Vec::new();
        let mut to = set();
        for incarnation in 1..=40 {
            let opening = opening_in("f", kind, 1, incarnation);
            let (mut one, log) = writer(&opening);
            append(&mut one, &log, b"", START);
            let mut other = one.clone();
            write(&mut one, &log, 1, "x", 2);
            write(&mut other, &log, 1, "y", 2);
            to.open(&opening, |_| Admission::Hold).unwrap();
            tell(&one, &mut to, &log, START);
            budget_free.push((log, range(&other, &log, alone(1, 3))));
        }
        let messages: Vec<_> = budget_free.iter().map(|(_, bytes)| bytes.clone()).collect();
        let mut at = 0;
        paid((0..100).flat_map(|_| &messages), |bytes, budget| {
            take(&mut to, &budget_free[at % 40].0, bytes, budget);
            at += 1;
        });
    }
}

#[test]
fn sparse_reads_are_checked_only_as_far_as_they_pay() {
    let (mut source, log) = writer(&opening(LogKind::State, 1));
    write(&mut source, &log, 1, "x", 1);
    let mut reads = Vec::new();
    for number in 1..400 {
        source.sign_head(&log, &keys(1), later(number)).unwrap();
        reads.push(range(&source, &log, alone(0, 1)));
    }
    let to = holder(&[&opening(LogKind::State, 1)]);
    paid((0..5).flat_map(|_| &reads), |bytes, budget| {
        let _ = to.log(&log).unwrap().verify(bytes, budget);
    });
}

#[test]
fn what_is_known_already_costs_no_check() {
    for kind in KINDS {
        let (mut source, log) = writer(&opening(kind, 1));
        write(&mut source, &log, 1, "x", 30);
        let mut to = holder(&[&opening(kind, 1)]);
        let mut budget = VerifyBudget::new();
        let bytes = range(&source, &log, alone(0, 30));
        to.receive(&log, &bytes, START, &mut budget).unwrap();
        assert_eq!(budget.checks(), 1);
        for _ in 0..500 {
            to.receive(&log, &bytes, START, &mut budget).unwrap();
            take(&mut to, &log, &head_proof(&source, &log).unwrap(), &mut budget);
            take(&mut to, &log, &range(&source, &log, follow(10, 20)), &mut budget);
        }
        assert_eq!(budget.checks(), 1);
    }
}

#[test]
fn a_writer_at_work_is_never_refused() {
    for kind in KINDS {
        let (mut source, log) = writer(&opening(kind, 1));
        let mut to = holder(&[&opening(kind, 1)]);
        let mut budget = VerifyBudget::new();
        for number in 0..1_000 {
            append(&mut source, &log, b"", later(number));
            source.sign_head(&log, &keys(1), later(number)).unwrap();
            let bytes = range(&source, &log, follow(number, number + 1));
            assert!(bytes.len() < 128, "or it would pay for itself");
            budget.received(bytes.len());
            let received = to.receive(&log, &bytes, later(number), &mut budget);
            assert_eq!(received, Ok(Received::Extended { from: number, to: number + 1 }));
        }
    }
}
