//! Sets that come back from a snapshot, and from the records of all that happened.

use consilience_sync::Timestamp;
use consilience_sync::journal::{
    Applied, ApplyError, Journal, JournalItem, RecordId, SnapshotWriter, apply, recover, write_set,
};
use consilience_sync::{Admission, LogId, LogKind, LogSet, NewEntry, ReplayError, SetError, Signer};

use crate::model::{HONEST, Rules, World};
use crate::world::{
    Dice, START, append, holder, keys, limited, mesh, opening, opening_in, receive, seeds, set, tell, writer,
};

fn snapshot(set: &LogSet) -> Vec<u8> {
    let mut writer = SnapshotWriter::new(&mesh(), RecordId::from_u64(9));
    write_set(set, &mut |item| writer.push(item));
    writer.finish().into_bytes()
}

fn restore(bytes: &[u8], now: Timestamp) -> LogSet {
    let mut back = set();
    let recovered = recover(&mesh(), Some(bytes), &[]).unwrap();
    let mut replay = back.replay(now);
    for item in recovered.items() {
        let applied = apply(&item, &mut replay);
        assert_eq!(applied, Ok(Applied::Taken), "{item:?}");
    }
    back
}

/// What anybody can see of a set, and what waits behind gaps.
fn assert_same(was: &LogSet, back: &LogSet) {
    let (mut one, mut other) = (was.clone(), back.clone());
    assert!(was.logs().map(|log| *log.id()).eq(back.logs().map(|log| *log.id())));
    for held in was.logs() {
        let log = held.id();
        let there = back.log(log).unwrap();
        let at = format!("{:?} {log:?}", held.opening().kind);
        assert_eq!(was.have(log), back.have(log), "{at}");
        assert_eq!(was.applicable(log), back.applicable(log), "{at}");
        assert_eq!(held.front(), there.front(), "{at}");
        assert_eq!(
            (held.base(), held.size(), held.last_hlc()),
            (there.base(), there.size(), there.last_hlc())
        );
        assert_eq!((held.root(), held.head()), (there.root(), there.head()), "{at}");
        let furthest =
            |log: &consilience_sync::Log| log.furthest_head().filter(|head| head.size > log.size()).copied();
        assert_eq!(furthest(held), furthest(there), "{at}");
        let range = (held.start(), held.size());
        assert!(held.entries(range.0, range.1).eq(there.entries(range.0, range.1)), "{at}");
        assert!((range.0..range.1).all(|seq| held.leaf(seq) == there.leaf(seq)), "{at}");
        assert_eq!(was.evidence(log), back.evidence(log), "{at}");
        assert_eq!(was.kept_until(log), back.kept_until(log), "{at}");
        assert_eq!(was.is_local(log), back.is_local(log), "{at}");
        assert_eq!(was.is_self_forked(log), back.is_self_forked(log), "{at}");
        assert_eq!(held.signed_size(), there.signed_size(), "{at}");
        let size = held.signed_size();
        assert_eq!(held.root_at(size), there.root_at(size), "{at}");
        assert_eq!(waiting(held), waiting(there), "{at}");
    }
    assert_eq!(one.heads_root(), other.heads_root());
}

fn waiting(log: &consilience_sync::Log) -> Vec<Vec<u8>> {
    let mut ranges = Vec::new();
    log.staged_ranges(1 << 10, &mut |range| ranges.push(range.to_vec()));
    ranges
}

/// Both go on alike, and a peer that has the old copy follows.
fn assert_goes_on(was: &LogSet, back: &LogSet, log: &LogId, agent: u8, now: Timestamp) {
    let (mut was, mut back) = (was.clone(), back.clone());
    let mut peer = was.clone();
    for turn in 0..3 {
        let base = was.log(log).unwrap().base();
        let hlc = was.log(log).unwrap().last_hlc();
        let entry = NewEntry { base, ..NewEntry::new(hlc, b"more") };
        let (one, other) = (was.append(log, &entry), back.append(log, &entry));
        assert_eq!(one, other, "turn {turn}");
        let now = now.saturating_add_millis(turn);
        let (one, other) = (was.sign_head(log, &keys(agent), now), back.sign_head(log, &keys(agent), now));
        assert_eq!(one, other, "turn {turn}");
        if one.is_err() {
            return;
        }
        tell(&back, &mut peer, log, now);
        assert!(peer.evidence(log).is_none());
        assert_eq!(peer.log(log).unwrap().root(), back.log(log).unwrap().root());
    }
}

fn run(cases: u64, rules: Rules) {
    seeds(cases, |seed| {
        let mut world = World::new(seed, rules);
        let mut dice = Dice::new(seed ^ 0xabcd);
        for step in 0..rules.steps {
            world.step();
            if !dice.one_in(24) && step + 1 < rules.steps {
                continue;
            }
            // As everybody else, the one that is stored has taken notice of the time.
            let (now, at) = (world.now, dice.index(world.replicas.len()));
            world.replicas[at].set.handle_timeout(now);
            let was = world.replicas[at].set.clone();
            // Logs of which nothing is signed do not come back: whoever wants them opens them again.
            let restore = |set: &LogSet| {
                let mut back = restore(&snapshot(set), now);
                for writer in &world.writers {
                    back.open(&writer.opening, |_| Admission::Hold).unwrap();
                }
                back
            };
            let back = restore(&was);
            assert_same(&was, &back);
            assert_same(&was, &restore(&back));
            for writer in &world.writers {
                if was.is_local(&writer.log) {
                    assert_goes_on(&was, &back, &writer.log, writer.agent, now);
                }
            }
            // What was a snapshot goes on as the replica itself.
            if dice.one_in(4) {
                let replica = &mut world.replicas[at];
                replica.set = back;
                replica.consumer = crate::world::Consumer::default();
                replica.follow();
            }
        }
    });
}

#[test]
fn honest_sets_come_back() {
    run(150, HONEST);
}

#[test]
fn sets_with_forked_logs_come_back() {
    run(150, Rules { clones: true, ..HONEST });
}

#[test]
fn what_expired_does_not_come_back() {
    for kind in [LogKind::State, LogKind::Event] {
        let (mut one, log) = writer(&opening(kind, 1));
        let mut other = one.clone();
        crate::world::write(&mut one, &log, 1, "a", 20);
        crate::world::write(&mut other, &log, 1, "b", 30);
        tell(&other, &mut one, &log, START);
        let late = START.saturating_add_millis(1 << 40);
        one.handle_timeout(late);
        assert!(one.evidence(&log).is_some());
        assert_same(&one, &restore(&snapshot(&one), late));
    }
}

#[test]
fn limits_do_not_apply_to_what_comes_back() {
    let mut was = set();
    for agent in 1..=4 {
        let log = was.open_local(&opening_in("model", LogKind::Event, agent, 1)).unwrap();
        append(&mut was, &log, &[7; 2_000], START.saturating_add_millis(1 << 30));
        was.sign_head(&log, &keys(agent), START).unwrap();
    }
    let mut back = limited(|limits| {
        limits.logs_max = 1;
        limits.late_bytes_max = 1;
        limits.late_bytes_per_log_max = 1;
    });
    let bytes = snapshot(&was);
    let mut replay = back.replay(START);
    for item in recover(&mesh(), Some(&bytes), &[]).unwrap().items() {
        assert_eq!(apply(&item, &mut replay), Ok(Applied::Taken));
    }
    assert_same(&was, &back);
}

/// A writer whose every step is written down, with an event that is erased before it is signed.
#[test]
fn records_replay_onto_nothing_and_onto_a_later_snapshot() {
    let opening = opening(LogKind::Event, 1);
    let (mut was, log) = writer(&opening);
    let mut journal = Journal::new(&mesh());
    journal.push(&JournalItem::Opening { local: true, bytes: &opening.encode(&mesh()) });
    journal.seal();
    for number in 0..200_u8 {
        let seq = append(&mut was, &log, &[number; 40], START);
        let entry = was.log(&log).unwrap().entry(seq).unwrap().encode();
        journal.push(&JournalItem::Append { log, seq, entry: &entry });
        if number % 7 == 0 {
            was.erase(&log, seq).unwrap();
            journal.push(&JournalItem::Erased { log, seq });
        }
        if number % 21 == 0 {
            was.restore(&log, seq, [0; 4], &[number; 40]).unwrap();
            journal.push(&JournalItem::Restored { log, seq, salt: [0; 4], payload: &[number; 40] });
        }
        if number % 30 == 4 {
            was.sign_head(&log, &keys(1), START).unwrap();
            let held = was.log(&log).unwrap();
            let size = held.size();
            let form = consilience_sync::RangeForm::Alone;
            journal.push(&JournalItem::Range { log, bytes: &held.range(size, size, form, 1_000).unwrap().0 });
        }
        if number % 3 == 0 {
            journal.seal();
        }
    }
    journal.seal();
    let mut bytes = Vec::new();
    while let Some(record) = journal.poll() {
        bytes.extend(record.into_bytes());
    }
    let later = snapshot(&was);
    for snapshot in [None, Some(&later[..])] {
        let mut back = set();
        let recovered = recover(&mesh(), snapshot, &bytes).unwrap();
        let mut replay = back.replay(START);
        for item in recovered.items() {
            apply(&item, &mut replay).unwrap();
        }
        assert_same(&was, &back);
        assert_goes_on(&was, &back, &log, 1, START);
    }
}

#[test]
fn an_own_entry_that_does_not_fit_is_said_to_be_lost() {
    let opening = opening(LogKind::Event, 1);
    let (mut was, log) = writer(&opening);
    append(&mut was, &log, b"one", START);
    append(&mut was, &log, b"two", START);
    let entries: Vec<_> = was.log(&log).unwrap().entries(0, 2).map(|entry| entry.encode()).collect();
    let (mut back, _) = writer(&opening);
    let item = |seq, entry| JournalItem::Append { log, seq, entry };
    let own = |seq| Err(ApplyError::Replay(ReplayError::Own { seq }));
    assert_eq!(apply(&item(1, &entries[1]), &mut back.replay(START)), own(1));
    assert_eq!(apply(&item(0, &entries[0]), &mut back.replay(START)), Ok(Applied::Taken));
    assert_eq!(apply(&item(0, &entries[0]), &mut back.replay(START)), Ok(Applied::Taken));
    let stale = apply(&item(0, &entries[0]), &mut set().replay(START));
    assert_eq!(stale, Ok(Applied::Stale(ReplayError::Set(SetError::Unknown))));
    let other = NewEntry::new(was.log(&log).unwrap().last_hlc(), b"other");
    let mut forked = holder(&[]);
    forked.open_local(&opening).unwrap();
    forked.append(&log, &other).unwrap();
    assert_eq!(apply(&item(0, &entries[0]), &mut forked.replay(START)), own(0));
}

#[test]
fn a_writer_that_saw_a_longer_copy_does_not_fork_after_a_restart() {
    let opening = opening(LogKind::State, 1);
    let (mut was, log) = writer(&opening);
    crate::world::write(&mut was, &log, 1, "a", 5);
    let mut ahead = was.clone();
    crate::world::write(&mut ahead, &log, 1, "b", 40);
    // Its head only, and nothing to fill the gap with.
    let proof = crate::world::head_proof(&ahead, &log).unwrap();
    receive(&mut was, &log, &proof).unwrap();
    let mut back = restore(&snapshot(&was), START);
    assert_same(&was, &back);
    let hlc = back.log(&log).unwrap().last_hlc();
    assert!(back.append(&log, &NewEntry::new(hlc, b"fork")).is_err());
    assert!(back.sign_head(&log, &keys(1), START).is_err());
    assert_eq!(keys(1).agent(), opening.agent);
}

/// `cargo test --release -p consilience-sync --test journal -- --ignored --nocapture figures`
#[test]
#[ignore = "a figure, not a check"]
#[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "it measures")]
fn figures_of_a_million_entries() {
    use std::time::Instant;
    let (mut was, log) = writer(&opening(LogKind::Event, 1));
    for number in 0..1_000_000_u32 {
        append(&mut was, &log, &number.to_le_bytes().repeat(4), START.saturating_add_millis(number.into()));
    }
    was.sign_head(&log, &keys(1), START).unwrap();
    let start = Instant::now();
    let bytes = snapshot(&was);
    println!("snapshot of 1M entries of 16 B: {:?}, {} bytes", start.elapsed(), bytes.len());
    let start = Instant::now();
    let back = restore(&bytes, START.saturating_add_millis(1 << 30));
    println!("recover and apply: {:?}", start.elapsed());
    assert_eq!(was.log(&log).unwrap().root(), back.log(&log).unwrap().root());

    let mut journal = Journal::new(&mesh());
    let opening = opening(LogKind::Event, 1);
    journal.push(&JournalItem::Opening { local: true, bytes: &opening.encode(&mesh()) });
    let start = Instant::now();
    let mut bytes = Vec::new();
    for entry in was.log(&log).unwrap().entries(0, u64::MAX) {
        journal.push(&JournalItem::Append { log, seq: entry.seq, entry: &entry.encode() });
        journal.seal();
        bytes.extend(journal.poll().unwrap().into_bytes());
    }
    println!("1M records of one entry: {:?}, {} bytes", start.elapsed(), bytes.len());
    let start = Instant::now();
    let mut back = set();
    let mut replay = back.replay(START.saturating_add_millis(1 << 30));
    for item in recover(&mesh(), None, &bytes).unwrap().items() {
        apply(&item, &mut replay).unwrap();
    }
    println!("recover and apply: {:?}", start.elapsed());
    assert_eq!(was.log(&log).unwrap().root(), back.log(&log).unwrap().root());
}
