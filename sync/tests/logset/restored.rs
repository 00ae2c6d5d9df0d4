//! An honest owner whose copy was restored from an older one: what it wrote twice is a fork, and nothing that anybody
//! has seen is lost by it.

use std::collections::BTreeSet;

use consilience_sync::{
    Answer, AppendError, Change, Incarnation, LogId, LogKind, LogOpening, LogSet, NewEntry, Received,
    SetError,
};

use crate::world::{
    KINDS, Replica, START, alone, append, append_based, converge, follow, head_proof, holder, keys, later,
    meaning, opening, payloads, range, receive, rich, stamp, tell, tell_evidence, tell_in, write, writer,
};

fn replicas(opening: &LogOpening, count: usize) -> Vec<Replica> {
    (0..count).map(|_| Replica::new(holder(&[opening]))).collect()
}

fn tell_all(from: &LogSet, to: &mut [Replica], log: &LogId) {
    for replica in to {
        tell(from, &mut replica.set, log, START);
        replica.follow();
    }
}

/// The payloads that count, of all replicas.
fn visible(replicas: &[Replica], log: &LogId) -> BTreeSet<Vec<u8>> {
    replicas.iter().flat_map(|replica| payloads(&replica.set, log).into_values()).collect()
}

/// Every payload of a log that somebody else holds, proven to the owner in pieces and not kept.
fn read_from(owner: &LogSet, peer: &LogSet, log: &LogId) -> BTreeSet<Vec<u8>> {
    let mut read = BTreeSet::new();
    let have = peer.have(log).unwrap();
    let mut from = have.start;
    while from < have.size {
        let Answer::Range { bytes, end } = peer.answer(log, &alone(from, have.size), 300) else { break };
        let verified = owner.log(log).unwrap().verify(&bytes, &mut rich()).unwrap();
        read.extend(verified.entries().map(|entry| entry.payload().unwrap().to_vec()));
        from = end;
    }
    read
}

/// The owner goes on in its next incarnation with everything that its own branch and its peers' hold.
fn reopen(replicas: &mut [Replica], opening: &LogOpening, log: &LogId) -> LogId {
    let owner = &replicas[0].set;
    let mut all: BTreeSet<Vec<u8>> =
        owner.log(log).unwrap().entries(0, u64::MAX).map(|entry| entry.payload().unwrap().to_vec()).collect();
    for peer in &replicas[1..] {
        all.extend(read_from(owner, &peer.set, log));
    }
    let incarnation = Incarnation::next(Some(opening.incarnation), later(5), [1, 2]);
    assert!(incarnation > opening.incarnation);
    let next = LogOpening { incarnation, ..opening.clone() };
    let owner = &mut replicas[0].set;
    let id = owner.open_local(&next).unwrap();
    for payload in &all {
        append(owner, &id, payload, later(5));
    }
    owner.sign_head(&id, &keys(1), later(5)).unwrap();
    for replica in &mut replicas[1..] {
        replica.set.open(&next, |_| consilience_sync::Admission::Hold).unwrap();
    }
    id
}

/// The owner writes, peers copy it, and an older copy of the owner writes on and meets them.
fn diverge(kind: LogKind) -> (LogOpening, LogId, Vec<Replica>) {
    let opening = opening(kind, 1);
    let (mut owner, log) = writer(&opening);
    write(&mut owner, &log, 1, "shared", 5);
    let backup = owner.clone();
    write(&mut owner, &log, 1, "lost", 4);
    let mut all = replicas(&opening, 3);
    tell_all(&owner, &mut all, &log);
    all.insert(0, Replica::new(backup));
    write(&mut all[0].set, &log, 1, "again", 6);
    all[0].follow();
    (opening, log, all)
}

#[test]
fn an_owner_that_wrote_on_from_a_backup_loses_nothing_in_its_next_incarnation() {
    for kind in KINDS {
        let (opening, log, mut all) = diverge(kind);
        let seen = visible(&all, &log);
        assert_eq!(seen.len(), 15);
        converge(&mut all, &log, START);
        for replica in &all {
            let told = &replica.consumer.told;
            match kind {
                LogKind::State => assert!(told.contains(&Change::Invalidated { log }), "{told:?}"),
                LogKind::Event => assert!(told.contains(&Change::Cut { log, valid_below: 5 }), "{told:?}"),
            }
            assert_eq!(meaning(&replica.set, &log), meaning(&all[0].set, &log));
        }
        assert!(all[0].consumer.self_forked.contains(&log));
        assert!(all[1].consumer.self_forked.is_empty(), "only its owner can do something about it");
        let valid_below = if kind == LogKind::State { 0 } else { 5 };
        let refused = SetError::Forked { valid_below };
        let entry = NewEntry::new(stamp(9), b"more");
        assert_eq!(all[0].set.append(&log, &entry), Err(refused));
        assert_eq!(all[0].set.sign_head(&log, &keys(1), later(9)), Err(refused));

        let next = reopen(&mut all, &opening, &log);
        converge(&mut all, &next, later(5));
        for replica in &all {
            let now: BTreeSet<_> = payloads(&replica.set, &next).into_values().collect();
            assert!(now.is_superset(&seen), "{:?} are lost", seen.difference(&now).collect::<Vec<_>>());
            assert_eq!(replica.set.evidence(&next), None);
        }
    }
}

#[test]
fn the_events_below_the_first_difference_stay_and_those_behind_are_written_again() {
    let (opening, log, mut all) = diverge(LogKind::Event);
    let seen = visible(&all, &log);
    converge(&mut all, &log, START);
    let next = reopen(&mut all, &opening, &log);
    converge(&mut all, &next, later(5));
    for replica in &all {
        let old: Vec<_> = payloads(&replica.set, &log).into_values().collect();
        assert_eq!(old, (0..5).map(|number| format!("shared{number}").into_bytes()).collect::<Vec<_>>());
        let cut = seen.iter().filter(|payload| !old.contains(payload));
        let again: BTreeSet<_> = payloads(&replica.set, &next).into_values().collect();
        assert!(cut.into_iter().all(|payload| again.contains(payload)));
    }
}

#[test]
fn a_restored_owner_that_meets_a_peer_first_continues_its_log() {
    for kind in KINDS {
        let opening = opening(kind, 1);
        let (mut owner, log) = writer(&opening);
        write(&mut owner, &log, 1, "shared", 5);
        let backup = owner.clone();
        write(&mut owner, &log, 1, "later", 40);
        let mut all = replicas(&opening, 3);
        tell_all(&owner, &mut all, &log);

        let mut owner = Replica::new(backup);
        tell(&all[1].set, &mut owner.set, &log, START);
        owner.follow();
        assert_eq!(owner.set.have(&log).unwrap().size, 45);
        write(&mut owner.set, &log, 1, "more", 3);
        all.insert(0, owner);
        converge(&mut all, &log, START);
        for replica in &all {
            assert_eq!(replica.set.evidence(&log), None);
            assert_eq!(payloads(&replica.set, &log).len(), 48);
            assert!(replica.consumer.self_forked.is_empty());
        }
    }
}

/// A backup of 5 entries, and a peer that holds 45, in pieces of at most so many.
fn behind(kind: LogKind, base: u64) -> (LogId, LogSet, LogSet) {
    let (mut owner, log) = writer(&opening(kind, 1));
    write(&mut owner, &log, 1, "shared", 5);
    let backup = owner.clone();
    write(&mut owner, &log, 1, "later", 39);
    append_based(&mut owner, &log, b"last", base, START);
    owner.sign_head(&log, &keys(1), START).unwrap();
    let mut peer = holder(&[&opening(kind, 1)]);
    tell(&owner, &mut peer, &log, START);
    (log, backup, peer)
}

#[test]
fn an_owner_that_has_half_of_what_it_wrote_does_not_write() {
    for kind in KINDS {
        let (log, mut owner, peer) = behind(kind, 0);
        receive(&mut owner, &log, &range(&peer, &log, follow(5, 20))).unwrap();
        let entry = NewEntry::new(stamp(9), b"more");
        assert_eq!(owner.append(&log, &entry), Err(AppendError::NotWritable.into()));
        tell(&peer, &mut owner, &log, START);
        assert_eq!(owner.append(&log, &entry), Ok(45));
    }
}

#[test]
fn an_owner_that_has_half_of_what_it_wrote_does_not_forget_it_by_signing() {
    for kind in KINDS {
        let (log, mut owner, peer) = behind(kind, 0);
        receive(&mut owner, &log, &range(&peer, &log, follow(5, 20))).unwrap();
        let _ = owner.sign_head(&log, &keys(1), later(9));
        let entry = NewEntry::new(stamp(9), b"more");
        assert_eq!(owner.append(&log, &entry), Err(AppendError::NotWritable.into()));
        assert_eq!(owner.log(&log).unwrap().furthest_head().unwrap().size, 45);
    }
}

#[test]
fn an_owner_that_has_seen_a_longer_head_of_its_own_does_not_write() {
    for kind in KINDS {
        let (log, mut owner, peer) = behind(kind, 0);
        receive(&mut owner, &log, &head_proof(&peer, &log).unwrap()).unwrap();
        let entry = NewEntry::new(stamp(9), b"more");
        assert_eq!(owner.append(&log, &entry), Err(AppendError::NotWritable.into()));
        let _ = owner.sign_head(&log, &keys(1), later(9));
        assert_eq!(owner.append(&log, &entry), Err(AppendError::NotWritable.into()));
    }
}

#[test]
fn an_owner_that_has_entries_of_its_own_behind_a_gap_does_not_write() {
    for kind in KINDS {
        let (log, mut owner, peer) = behind(kind, 0);
        receive(&mut owner, &log, &range(&peer, &log, alone(20, 30))).unwrap();
        let entry = NewEntry::new(stamp(9), b"more");
        assert_eq!(owner.append(&log, &entry), Err(AppendError::NotWritable.into()));
        assert_eq!(owner.log(&log).unwrap().furthest_head().unwrap().size, 45, "it was seen");
    }
}

#[test]
fn an_unsigned_tail_conflicts_with_what_was_signed_before_and_is_no_fork() {
    for kind in KINDS {
        let (log, owner, peer) = behind(kind, 0);
        let mut owner = Replica::new(owner);
        append(&mut owner.set, &log, b"tail", START);
        owner.follow();
        let received = receive(&mut owner.set, &log, &range(&peer, &log, follow(5, 45)));
        assert_eq!(received, Ok(Received::Conflict), "{kind:?}");
        owner.follow();
        assert_eq!(owner.consumer.self_forked, BTreeSet::from([log]));
        assert!(owner.consumer.voided.is_empty());
        assert_eq!(owner.set.evidence(&log), None);
        let entry = NewEntry::new(stamp(9), b"more");
        assert_eq!(owner.set.append(&log, &entry), Err(AppendError::NotWritable.into()));
        assert_eq!(owner.set.sign_head(&log, &keys(1), later(9)), Err(AppendError::NotWritable.into()));
        // The tail is still there to be written into the next incarnation.
        assert_eq!(owner.set.log(&log).unwrap().entry(5).unwrap().payload(), Some(&b"tail"[..]));

        // Then the owner takes its log from the others.
        owner.set.remove(&log);
        owner.set.open(&opening(kind, 1), |_| consilience_sync::Admission::Hold).unwrap();
        tell(&peer, &mut owner.set, &log, START);
        assert_eq!(payloads(&owner.set, &log), payloads(&peer, &log));
    }
}

#[test]
fn a_jump_does_not_swallow_an_unsigned_tail() {
    for kind in KINDS {
        let (log, owner, mut peer) = behind(kind, 40);
        while peer.poll_change().is_some() {}
        let mut owner = Replica::new(owner);
        append(&mut owner.set, &log, b"tail", START);
        owner.follow();
        let jump = range(&peer, &log, alone(40, 45));
        let received = receive(&mut owner.set, &log, &jump);
        owner.follow();
        assert_eq!(owner.consumer.self_forked, BTreeSet::from([log]), "{kind:?}: {received:?}");
        assert_eq!(owner.set.log(&log).unwrap().entry(5).unwrap().payload(), Some(&b"tail"[..]));
    }
}

#[test]
fn a_local_log_that_was_forked_before_it_was_taken_over_says_so() {
    for kind in KINDS {
        let (opening, log, mut all) = diverge(kind);
        converge(&mut all, &log, START);
        let mut late = Replica::new(holder(&[&opening]));
        tell(&all[1].set, &mut late.set, &log, START);
        late.set.open_local(&opening).unwrap();
        late.follow();
        assert_eq!(late.consumer.self_forked, BTreeSet::from([log]), "{kind:?}");
    }
}

#[test]
fn what_a_writer_has_not_signed_is_offered_to_nobody() {
    for kind in KINDS {
        let (mut owner, log) = writer(&opening(kind, 1));
        write(&mut owner, &log, 1, "x", 5);
        append(&mut owner, &log, b"not yet", START);
        let have = owner.have(&log).unwrap();
        let mut peer = holder(&[&opening(kind, 1)]);
        tell_in(&owner, &mut peer, &log, START, 4_096);
        assert_eq!(peer.have(&log).unwrap().size, 5);
        let want = peer.want(&log, &have);
        assert_eq!(want, None, "{kind:?}: what cannot be answered is asked for");
    }
}

#[test]
fn a_base_that_only_a_discarded_entry_had_raised_does_not_count() {
    for kind in KINDS {
        let opening = opening(kind, 1);
        let (set, log) = writer(&opening);
        let mut home = Replica::new(set);
        write(&mut home.set, &log, 1, "kept", 6);
        let mut other = Replica::new(holder(&[&opening]));
        tell(&home.set, &mut other.set, &log, START);
        other.follow();
        home.follow();
        append_based(&mut home.set, &log, b"raises the base", 4, START);
        home.follow();
        assert_eq!(home.set.applicable(&log), Some((4, 7)));
        home.set.discard_unsigned(&log).unwrap();
        home.follow();
        assert_eq!(home.set.applicable(&log), Some((0, 6)), "{kind:?}");
        assert_eq!(home.consumer.logs, other.consumer.logs);
        assert_eq!(home.set.heads_root(), other.set.heads_root());
    }
}

/// An owner that has not signed its last entries, and peers that know of two signed histories that both go on otherwise.
fn unsigned_below_a_fork() -> (LogId, Replica, Replica) {
    let opening = opening(LogKind::Event, 1);
    let (set, log) = writer(&opening);
    let mut home = Replica::new(set);
    write(&mut home.set, &log, 1, "shared", 5);
    let mut clone = home.set.clone();
    write(&mut clone, &log, 1, "clone", 2);
    let mut second = clone.clone();
    write(&mut clone, &log, 1, "first", 2);
    write(&mut second, &log, 1, "second", 2);
    let mut peer = Replica::new(holder(&[&opening]));
    tell(&clone, &mut peer.set, &log, START);
    tell(&second, &mut peer.set, &log, START);
    assert_eq!(peer.set.evidence(&log).unwrap().valid_below(), 7);
    for number in 0..5 {
        append(&mut home.set, &log, format!("unsigned{number}").as_bytes(), START);
    }
    (log, home, peer)
}

#[test]
fn an_unsigned_tail_gives_way_to_what_was_signed_below_a_fork() {
    let (log, mut home, mut peer) = unsigned_below_a_fork();
    home.follow();
    tell(&peer.set, &mut home.set, &log, START);
    home.follow();
    peer.follow();
    let changes = [Change::Cut { log, valid_below: 7 }, Change::Replaced { log, from: 0 }];
    assert!(home.consumer.told.windows(2).any(|told| told == changes), "{:?}", home.consumer.told);
    assert_eq!(payloads(&home.set, &log), payloads(&peer.set, &log));
    assert_eq!(home.consumer.logs, peer.consumer.logs);
    assert_eq!(home.set.heads_root(), peer.set.heads_root());
}

#[test]
fn an_unsigned_tail_that_gives_way_can_be_read_by_its_owner_until_it_was_told() {
    for polls in [true, false] {
        let (log, mut home, peer) = unsigned_below_a_fork();
        if polls {
            home.follow();
        }
        tell_evidence(&peer.set, &mut home.set, &log, START);
        let mut read = Vec::new();
        while let Some(change) = home.set.poll_change() {
            if matches!(change, Change::Cut { .. }) {
                let tail = home.set.acknowledged_entries(&log, 5, u64::MAX);
                read.extend(tail.map(|entry| String::from_utf8(entry.payload().unwrap().to_vec()).unwrap()));
            }
        }
        let expected: Vec<_> = (0..5).map(|number| format!("unsigned{number}")).collect();
        assert_eq!(read, expected, "polls {polls}");
        assert_eq!(home.set.acknowledged_entries(&log, 0, u64::MAX).count(), 5, "then it is gone");
        assert_eq!(home.set.applicable(&log), Some((0, 5)));
    }
}

#[test]
fn an_unsigned_tail_behind_all_that_counts_stays_for_its_owner() {
    let opening = opening(LogKind::Event, 1);
    let (set, log) = writer(&opening);
    let mut home = Replica::new(set);
    write(&mut home.set, &log, 1, "shared", 5);
    let mut clone = home.set.clone();
    write(&mut clone, &log, 1, "clone", 2);
    write(&mut home.set, &log, 1, "main", 2);
    append(&mut home.set, &log, b"unsigned", START);
    home.follow();
    tell(&clone, &mut home.set, &log, START);
    home.follow();
    assert_eq!(home.set.applicable(&log), Some((0, 5)));
    assert_eq!(home.set.log(&log).unwrap().entry(7).unwrap().payload(), Some(&b"unsigned"[..]));
}
