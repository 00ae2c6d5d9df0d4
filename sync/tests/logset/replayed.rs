//! What comes back from storage piece by piece: what is known already changes nothing, and nothing follows from bytes that did
//! not follow when they came.

use consilience_sync::{Closure, LogKind, NewEntry, Pruned, Received, SignedHead};

use crate::world::{
    KINDS, START, alone, evidence_of, follow, head_proof, holder, keys, opening, opening_in, range, receive,
    set, stamp, tell, write, writer,
};

#[test]
fn facts_that_are_known_come_back_without_news_and_greater_ones_with() {
    let (mut owner, log) = writer(&opening(LogKind::Event, 1));
    write(&mut owner, &log, 1, "shared", 3);
    let mut clone = owner.clone();
    write(&mut owner, &log, 1, "main", 4);
    write(&mut clone, &log, 1, "other", 4);
    let mut back = owner.clone();
    receive(&mut owner, &log, &head_proof(&clone, &log).unwrap()).unwrap();
    let worse = evidence_of(&owner, &log);
    tell(&clone, &mut owner, &log, START);
    let better = evidence_of(&owner, &log);
    assert_ne!(worse, better);
    let mut replay = back.replay(START);
    for (evidence, news) in [(&worse[0], true), (&worse[0], false), (&better[0], true), (&better[0], false)] {
        assert_eq!(replay.evidence(evidence, None), Ok(news));
    }

    let openings = [1, 2].map(|incarnation| opening_in("a", LogKind::Event, 1, incarnation));
    let (mut owner, first) = writer(&openings[0]);
    let second = owner.open_local(&openings[1]).unwrap();
    [first, second].iter().for_each(|log| write(&mut owner, log, 1, "x", 4));
    let word = |log, below| -> Pruned { owner.clone().prune(log, below, &keys(1), START).unwrap().unwrap() };
    let words = [word(&second, 1), word(&second, 3), word(&first, 2)];
    let mut back = set();
    let mut replay = back.replay(START);
    for (at, news) in [(0, true), (0, false), (1, true), (0, false), (2, false)] {
        assert_eq!(replay.pruned(words[at].as_bytes()), Ok(news), "{at}");
    }
    assert_eq!(back.logs().map(|log| *log.id()).collect::<Vec<_>>(), [second], "the first is over");
}

#[test]
fn a_copy_of_which_anything_is_held_begins_where_it_does() {
    for kind in KINDS {
        let (mut source, log) = writer(&opening(kind, 1));
        write(&mut source, &log, 1, "x", 3);
        source.append(&log, &NewEntry { base: 3, ..NewEntry::new(stamp(1), b"x") }).unwrap();
        source.sign_head(&log, &keys(1), START).unwrap();
        let mut later = holder(&[&opening(kind, 1)]);
        receive(&mut later, &log, &range(&source, &log, alone(3, 4))).unwrap();
        let front = later.log(&log).unwrap().front();
        assert_eq!(front.start, 3);

        let (mut owner, _) = writer(&opening(kind, 1));
        owner.append(&log, &NewEntry::new(stamp(1), b"x")).unwrap();
        owner.replay(START).front(&log, &front).unwrap();
        assert_eq!((owner.log(&log).unwrap().start(), owner.log(&log).unwrap().size()), (0, 1));

        let head: &SignedHead = source.log(&log).unwrap().head().unwrap();
        let head = head.encode(&opening(kind, 1), source.mesh());
        let mut seen = holder(&[&opening(kind, 1)]);
        seen.replay(START).head(&head).unwrap();
        seen.replay(START).front(&log, &front).unwrap();
        assert_eq!((seen.log(&log).unwrap().start(), seen.log(&log).unwrap().size()), (0, 0));

        let mut empty = holder(&[&opening(kind, 1)]);
        empty.replay(START).front(&log, &front).unwrap();
        assert_eq!(empty.log(&log).unwrap().start(), 3);
    }
}

#[test]
fn no_fork_follows_from_a_range_that_comes_back() {
    for kind in KINDS {
        let (mut owner, log) = writer(&opening(kind, 1));
        write(&mut owner, &log, 1, "shared", 2);
        let mut clone = owner.clone();
        write(&mut owner, &log, 1, "main", 3);
        write(&mut clone, &log, 1, "other", 3);
        let mut back = holder(&[&opening(kind, 1)]);
        tell(&owner, &mut back, &log, START);
        let mut peer = back.clone();
        let other = range(&clone, &log, follow(2, 5));
        let replayed = back.replay(START).range(&log, &other).unwrap();
        assert!(matches!(replayed, Received::Forked(_)), "{replayed:?}");
        assert_eq!(back.forks(&log), None);
        assert_eq!(receive(&mut peer, &log, &other), Ok(replayed));
        assert!(peer.forks(&log).is_some());
    }
}

#[test]
fn a_change_since_a_version_comes_back_with_what_counted_before() {
    let (mut back, log) = writer(&opening(LogKind::Event, 1));
    write(&mut back, &log, 1, "x", 5);
    let first = back.heads_version();
    let changed = |set: &mut consilience_sync::LogSet, after| -> Vec<_> {
        set.heads_changed(after).map(|(_, log, before)| (log, before)).collect()
    };
    assert_eq!(changed(&mut back, first), []);
    back.replay(START).changed(&log, 2);
    assert_eq!(changed(&mut back, first), [(log, 2)]);
    let second = back.heads_version();
    assert!(second > first);
    back.replay(START).changed(&log, 0);
    assert_eq!(changed(&mut back, second), [(log, 0)]);
    let last = back.heads_version();
    assert_eq!(changed(&mut back, last), []);
}

#[test]
fn a_range_of_a_closed_log_brings_nothing_to_others_and_its_writer_compares_it() {
    let (first, second) = (opening_in("a", LogKind::State, 1, 1), opening_in("a", LogKind::State, 1, 2));
    let (mut owner, log) = writer(&first);
    write(&mut owner, &log, 1, "x", 3);
    let mut peer = holder(&[&first, &second]);
    tell(&owner, &mut peer, &log, START);
    let mut clone = owner.clone();
    write(&mut clone, &log, 1, "y", 2);
    let later = owner.open_local(&second).unwrap();
    let closures = [Closure { incarnation: first.incarnation, below: 5 }];
    owner.append(&later, &NewEntry { closures: &closures, ..NewEntry::new(stamp(1), b"later") }).unwrap();
    owner.sign_head(&later, &keys(1), START).unwrap();
    tell(&owner, &mut peer, &later, START);
    let more = range(&clone, &log, follow(3, 5));
    assert_eq!(receive(&mut peer, &log, &more), Ok(Received::Nothing));
    assert_eq!(peer.log(&log).unwrap().size(), 3);
    assert!(matches!(receive(&mut owner, &log, &more), Ok(Received::Extended { .. })));
}
