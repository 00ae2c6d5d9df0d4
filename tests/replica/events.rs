//! The promises about events, one by one.

use consilience::crdts::Hlc;
use consilience::sync::{
    Citation, Hash, Incarnation, LogKind, LogOpening, NewEntry, SetError, Signer, SigningTag,
};
use consilience::{AppendEventError, Blocked, EventRef, Missing, Notice};

use super::hand::{self, Hand};
use super::world::{Disk, How, Node, TOPIC, at, keys, mesh, topic};

fn stamp(ms: u64) -> Hlc {
    Hlc::new(at(ms), 0)
}

#[test]
fn events_are_read_merged_by_stamp_in_ranges_and_by_log() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    let a1 = ada.event("a1", 10);
    let b1 = bob.event("b1", 20);
    ada.event("a2", 30);
    bob.event("b2", 40);
    ada.event("a3", 50);
    ada.tell(&mut bob, at(60));
    bob.tell(&mut ada, at(60));
    for node in [&ada, &bob] {
        assert_eq!(node.events(), ["a1", "b1", "a2", "b2", "a3"]);
        let view = node.replica.topic(TOPIC).unwrap().events();
        let of = |from: u64, to: u64| -> Vec<Vec<u8>> {
            view.range(stamp(from)..stamp(to)).map(|event| event.payload.unwrap().to_vec()).collect()
        };
        assert_eq!(of(20, 50), [b"b1", b"a2", b"b2"]);
        assert_eq!(of(50, 20), Vec::<Vec<u8>>::new());
        assert_eq!(view.range(..=stamp(20)).count(), 2);
        assert_eq!(view.range(stamp(50)..).count(), 1);
        assert_eq!(view.range(stamp(20)..stamp(20)).count(), 0);
        assert_eq!(view.range(stamp(20)..=stamp(20)).count(), 1);
        use std::ops::Bound::{Excluded, Unbounded};
        assert_eq!(view.range((Excluded(stamp(20)), Unbounded)).count(), 3);
        assert_eq!(view.range((Excluded(stamp(20)), Excluded(stamp(20)))).count(), 0);
        assert_eq!(view.of_log(&a1.log, 1, 9).map(|event| event.name.seq).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(view.get(&b1).unwrap().author, bob.writer.id());
        assert_eq!(view.get(&EventRef { seq: 7, ..b1 }), None);
        assert_eq!(view.len(), 5);
        assert_eq!(node.state(), ada.state());
    }
}

#[test]
fn events_of_one_stamp_are_told_apart_by_author() {
    let mut nodes: Vec<Node> = (0..5).map(|agent| Node::fresh(agent, u64::from(agent) + 1)).collect();
    for node in &mut nodes {
        node.event("x", 10);
        node.event("y", 20);
    }
    let mut orders = Vec::new();
    for reader in 0..5 {
        for from in (0..5).rev().filter(|from| *from != reader) {
            let [from, to] = nodes.get_disjoint_mut([from, reader]).unwrap();
            from.tell(to, at(30));
        }
        let view = nodes[reader].replica.topic(TOPIC).unwrap().events();
        let order: Vec<_> = view.iter().map(|event| (event.stamp, event.author, event.name)).collect();
        assert!(order.is_sorted() && order.len() == 10);
        orders.push(order);
    }
    assert!(orders.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn an_event_cites_what_it_answers_with_its_root() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    let question = ada.event("question", 1);
    let second = ada.event("more", 2);
    ada.tell(&mut bob, at(3));
    let cites = [question, second, question];
    let answer = bob.replica.append_event_citing(bob.writer, TOPIC, b"answer", &cites, at(4)).unwrap().0;
    bob.store();
    bob.tell(&mut ada, at(5));
    let citations = ada.replica.topic(TOPIC).unwrap().events().citations(&answer);
    assert_eq!(citations.len(), 1);
    assert_eq!((citations[0].log, citations[0].size), (question.log.alias(), 2));
    assert_eq!(citations[0].root, ada.replica.logs().log(&question.log).unwrap().root_at(2));
    let unknown = EventRef { seq: 9, ..question };
    let refused = bob.replica.append_event_citing(bob.writer, TOPIC, b"x", &[unknown], at(6));
    assert_eq!(refused, Err(AppendEventError::UnknownCitation));
    let last = EventRef { seq: u64::MAX, ..question };
    let refused = bob.replica.append_event_citing(bob.writer, TOPIC, b"x", &[last], at(6));
    assert_eq!(refused, Err(AppendEventError::UnknownCitation));
    assert_eq!(bob.events().len(), 3);
}

#[test]
fn what_events_cite_is_missing_until_it_comes_or_nobody_cites_it_any_more() {
    let missing = |node: &Node| node.replica.topic(TOPIC).unwrap().events().missing();
    let mut asked = Hand::of_kind(9, 1, LogKind::Event);
    for number in 0..3 {
        asked.append(b"question", stamp(number));
    }
    let questions = asked.bundle(at(3));
    let cites = |size| {
        let root = asked.set.log(&asked.log).unwrap().root_at(size);
        [Citation { log: asked.log.alias(), size, root }]
    };
    let mut answering = Hand::of_kind(8, 5, LogKind::Event);
    for (seq, size) in [(0, 1), (1, 3), (2, 3), (3, 2)] {
        let citations = cites(size);
        let entry = NewEntry { citations: &citations, ..NewEntry::new(stamp(10 + seq), b"answer") };
        answering.append_entry(&entry);
    }
    let lacks = |size| [Missing { log: asked.log.alias(), size }];
    let mut nodes = [Node::fresh(0, 1), Node::fresh(1, 2)];
    let mut give = |base: Option<u64>, now: u64| {
        if let Some(base) = base {
            answering.append_with_base(b"", base, stamp(now));
        }
        answering.bundle(at(now))
    };
    // Of the two that cite all of it the last is given up after the first.
    for (base, size) in [(None, 3), (Some(2), 3), (Some(3), 2)] {
        let bundle = give(base, 20 + size);
        for node in &mut nodes {
            node.take(&bundle, at(30));
            assert_eq!(missing(node), lacks(size), "{base:?}");
        }
    }
    let [ada, bob] = &mut nodes;
    bob.take(&give(Some(4), 31), at(31));
    assert_eq!(missing(bob), []);
    ada.take(&questions, at(31));
    assert_eq!(missing(ada), []);
    assert!(ada.replica.verify() && bob.replica.verify());
}

#[test]
fn pruned_events_go_everywhere() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    for number in 0..10 {
        ada.event(&format!("e{number}"), number);
    }
    ada.tell(&mut bob, at(20));
    assert_eq!(bob.events().len(), 10);
    ada.replica.append_event_pruning(ada.writer, TOPIC, b"last", 8, at(21)).unwrap();
    ada.store();
    ada.tell(&mut bob, at(22));
    let mut late = Node::fresh(2, 4);
    bob.tell(&mut late, at(23));
    for node in [&ada, &bob, &late] {
        assert_eq!(node.events(), ["e8", "e9", "last"]);
        assert_eq!(node.state(), ada.state());
    }
    // Beyond what there is means all of it.
    ada.replica.append_event_pruning(ada.writer, TOPIC, b"only", 99, at(24)).unwrap();
    ada.store();
    ada.tell(&mut bob, at(25));
    assert_eq!((ada.events(), bob.events()), (vec!["only".to_owned()], vec!["only".to_owned()]));
    let ada = Node::open(0, 6, ada.disk(), How::Resumed, at(26));
    assert_eq!(ada.events(), ["only"]);
    assert_eq!(ada.state(), bob.state());
}

#[test]
fn an_erased_event_leaves_its_hash_and_stays_erased() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    ada.event("kept", 1);
    let secret = ada.event("secret", 2);
    ada.event("after", 3);
    ada.tell(&mut bob, at(4));
    bob.replica.erase_event(&secret).unwrap();
    bob.store();
    assert_eq!(bob.events(), ["kept", "erased", "after"]);
    let mut bob = Node::open(1, 6, bob.disk(), How::Resumed, at(5));
    assert_eq!(bob.events(), ["kept", "erased", "after"]);
    bob.snapshot();
    assert!(!bob.snapshot.as_ref().unwrap().windows(6).any(|bytes| bytes == b"secret"));
    let mut bob = Node::open(1, 8, bob.disk(), How::Resumed, at(6));
    assert_eq!(bob.events(), ["kept", "erased", "after"]);
    // It proves all the same, to whoever gets it from here.
    let mut late = Node::fresh(2, 4);
    bob.tell(&mut late, at(7));
    assert_eq!(late.events(), ["kept", "erased", "after"]);
    assert_eq!(late.state(), ada.state());
    // What is of a state log cannot be erased.
    bob.set("t", "x", at(8));
    let (log, _) = bob.own_log().unwrap();
    assert!(bob.replica.erase_event(&EventRef { log, seq: 0 }).is_err());
    assert!(bob.replica.erase_event(&EventRef { seq: 99, ..secret }).is_err());
    assert_eq!(bob.get("t").as_deref(), Some("x"));
}

#[test]
fn a_forked_event_log_is_valid_below_the_first_that_differs() {
    let (mut ada, mut bob, mut eve) = (Node::fresh(0, 1), Node::fresh(1, 2), Node::fresh(2, 4));
    let first = ada.event("common 0", 1);
    ada.event("common 1", 2);
    ada.tell(&mut bob, at(3));
    let mut clone = Node::open(0, 6, ada.disk(), How::Resumed, at(4));
    ada.event("left 2", 5);
    ada.event("left 3", 7);
    clone.event("right 2", 6);
    ada.tell(&mut bob, at(8));
    clone.tell(&mut eve, at(8));
    assert_eq!((bob.events().len(), eve.events().len()), (4, 3));
    bob.notices();
    // The shorter history goes to where it is seen that it differs, and the evidence comes back.
    bob.tell(&mut eve, at(8));
    eve.tell(&mut bob, at(9));
    for node in [&mut bob, &mut eve] {
        assert_eq!(node.events(), ["common 0", "common 1"]);
        let told = node.notices();
        let forked = |notice: &Notice| matches!(notice, Notice::Forked { valid_below: 2, .. });
        assert!(told.iter().any(forked), "{told:?}");
    }
    assert_eq!(bob.state(), eve.state());
    // The owner hears of it, and appends again in its next incarnation what it has of what does not count.
    bob.tell(&mut ada, at(10));
    let next = ada.event("next", 11);
    assert_ne!(next.log, first.log);
    ada.tell(&mut bob, at(12));
    assert_eq!(bob.events(), ["common 0", "common 1", "left 2", "left 3", "next"]);
    assert_eq!(ada.events(), bob.events());
    let mut late = Node::fresh(3, 8);
    bob.tell(&mut late, at(13));
    assert_eq!(late.state(), bob.state());
    // So does its clone, and each event is there once.
    bob.tell(&mut clone, at(14));
    clone.tell(&mut bob, at(15));
    bob.tell(&mut ada, at(16));
    let all = ["common 0", "common 1", "left 2", "right 2", "left 3", "next"];
    for node in [&ada, &bob, &clone] {
        assert_eq!(node.events(), all);
    }
    // What was appended again is stored: a restart appends nothing.
    let again = Node::open(0, 9, ada.disk(), How::Resumed, at(20));
    assert_eq!(again.events(), all);
}

#[test]
fn what_a_silently_restored_writer_said_before_it_met_anybody_is_not_lost() {
    // Also if it is killed at once.
    for killed in [false, true] {
        let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
        ada.event("one", 1);
        ada.tell(&mut bob, at(2));
        let backup = ada.disk();
        ada.event("two", 3);
        ada.event("three", 4);
        ada.tell(&mut bob, at(5));
        drop(ada);
        let mut ada = Node::open(0, 6, backup, How::Resumed, at(6));
        ada.event("four", 7);
        ada.event("five", 8);
        bob.tell(&mut ada, at(10));
        if killed {
            ada = Node::open(0, 7, ada.disk(), How::Resumed, at(11));
        }
        for ms in 12..18 {
            let (from, to) = if ms % 2 == 0 { (&mut ada, &mut bob) } else { (&mut bob, &mut ada) };
            from.tell(to, at(ms));
        }
        for node in [&ada, &bob] {
            assert_eq!(node.events(), ["one", "two", "three", "four", "five"], "{killed}");
        }
        assert_eq!(ada.state(), bob.state());
    }
}

/// What comes in the place of events says the same, and less: the rest waits for nobody.
#[test]
fn what_lies_behind_all_that_comes_in_its_place_is_not_lost() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    let one = ada.event("one", 1);
    let backup = ada.disk();
    ada.event("two", 3);
    ada.tell(&mut bob, at(4));
    let mut ada = Node::open(0, 6, backup, How::Resumed, at(5));
    // Otherwise than before, as it cites something.
    ada.replica.append_event_citing(ada.writer, TOPIC, b"two", &[one], at(3)).unwrap();
    ada.event("three", 6);
    bob.tell(&mut ada, at(7));
    bob.tell(&mut ada, at(7));
    ada.event("four", 8);
    ada.tell(&mut bob, at(9));
    for node in [&ada, &bob] {
        assert_eq!(node.events(), ["one", "two", "three", "four"]);
    }
}

/// Of an own log that goes on otherwise elsewhere only what was not signed goes, also when the records are read again.
#[test]
fn what_was_signed_before_a_clone_turned_up_is_there_after_a_restart() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    ada.event("one", 1);
    ada.tell(&mut bob, at(2));
    let mut clone = Node::open(0, 6, ada.disk(), How::Resumed, at(3));
    ada.event("two", 4);
    clone.event("other", 5);
    clone.store();
    let since = ada.replica.summary();
    let bundle = clone.replica.export_bundle(|_| true, Some(&since), at(6)).unwrap();
    ada.take(&bundle, at(6));
    assert_eq!(ada.events(), ["one"], "until the other history is here");
    let again = Node::open(0, 7, ada.disk(), How::Resumed, at(7));
    assert_eq!(again.events(), ["one"]);
}

/// What came of the other history once that was given up comes back with it, though nobody brings it another time.
#[test]
fn what_was_taken_in_after_unsigned_entries_were_given_up_is_there_after_a_restart() {
    let mut ada = Node::fresh(0, 1);
    ada.event("one", 1);
    ada.set("k", "one", at(1));
    ada.store();
    let mut clone = Node::open(0, 6, ada.disk(), How::Resumed, at(3));
    ada.event("two", 4);
    ada.set("k2", "two", at(4));
    ada.store();
    clone.event("other", 5);
    clone.set("k3", "other", at(5));
    clone.store();
    for _ in 0..2 {
        let bundle = clone.replica.export_bundle(|_| true, None, at(6)).unwrap();
        ada.take(&bundle, at(6));
    }
    let all = |node: &Node| {
        let mut events = node.events();
        events.sort();
        (events, ["k", "k2", "k3"].map(|key| node.get(key)))
    };
    let expected = (
        ["one", "other", "two"].map(str::to_owned).to_vec(),
        ["one", "two", "other"].map(|value| Some(value.to_owned())),
    );
    assert_eq!(all(&ada), expected);
    let mut disk = ada.disk();
    for start in 7..10 {
        let mut again = Node::open(0, start, disk, How::Resumed, at(start));
        again.store();
        assert_eq!(all(&again), expected, "start {start}");
        disk = again.disk();
    }
}

#[test]
fn events_are_told_and_unsigned_ones_do_not_leave() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    bob.replica.subscribe(TOPIC).unwrap();
    let event = ada.event("e", 1);
    let (waiting, record) = ada.replica.append_event(ada.writer, TOPIC, b"waiting", at(2)).unwrap();
    assert_eq!(waiting.seq, 1);
    let bundle = ada.replica.export_bundle(|_| true, None, at(3)).unwrap();
    assert_eq!(bob.take(&bundle, at(3)).entries, 1);
    let told = bob.notices();
    assert!(
        matches!(&told[..], [Notice::Events { log, from: 0, to: 1, .. }] if *log == event.log),
        "{told:?}"
    );
    assert_eq!(ada.events().len(), 2, "readable at once");
    assert!(ada.replica.confirm(record).is_err(), "it was not polled");
    ada.tell(&mut bob, at(4));
    assert_eq!(bob.events(), ["e", "waiting"]);
}

#[test]
fn a_very_large_event_is_refused() {
    let mut ada = Node::fresh(0, 1);
    let refused = ada.replica.append_event(ada.writer, TOPIC, &vec![0; (62 << 10) + 1], at(1));
    assert!(matches!(refused, Err(AppendEventError::Append(SetError::Append(_)))), "{refused:?}");
    assert!(ada.events().is_empty());
    ada.replica.append_event(ada.writer, TOPIC, &vec![0; 62 << 10], at(1)).unwrap();
    ada.store();
    let mut bob = Node::fresh(1, 2);
    ada.tell(&mut bob, at(2));
    assert_eq!(bob.replica.topic(TOPIC).unwrap().events().len(), 1);
}

#[test]
fn an_event_log_written_by_hand_may_say_anything() {
    let mut mallory = Hand::of_kind(8, 5, LogKind::Event);
    for payload in [&b""[..], b"\x01\x00", &[0xff; 100]] {
        mallory.append(payload, stamp(1));
    }
    let mut ada = Node::fresh(0, 1);
    ada.take(&mallory.bundle(at(2)), at(2));
    assert!(ada.notices().is_empty());
    assert_eq!(ada.replica.topic(TOPIC).unwrap().events().len(), 3);
    let bundle = mallory.bundle(at(3));
    assert_eq!(ada.take(&bundle, at(3)).entries, 0);
    assert_eq!(ada.replica.stats(Some(&topic())).events, 3);
    let ada = Node::open(0, 3, Disk { snapshot: None, records: ada.records.clone() }, How::Resumed, at(4));
    assert_eq!(ada.replica.stats(None).events, 3);
}

/// A bundle with an event log of one event that has a field of this kind: no writer of this library writes it, so it is
/// put together from `docs/wire/log.md`.
fn with_a_field(kind: u8) -> (Vec<u8>, consilience::sync::LogId) {
    let opening = LogOpening {
        topic: topic(),
        kind: LogKind::Event,
        agent: keys(8).agent(),
        incarnation: Incarnation::from_u64(5),
    };
    let id = opening.log_id(&mesh());
    let keyed = |use_: &str, bytes: &[u8]| {
        let key = blake3::derive_key(&format!("consilience log {use_} v2"), id.as_bytes());
        *blake3::keyed_hash(&key, bytes).as_bytes()
    };
    let (millis, body, fields) = (at(1).as_millis(), b"saltsaid", [kind, 1, b'?']);
    let mut leaf = vec![0, 1, 4, 0, 0, 0, 0, 0];
    // Number and base.
    leaf.extend([0; 16]);
    leaf.extend((millis << 16).to_le_bytes());
    leaf.extend(keyed("payload", body));
    leaf.extend(keyed("extension", &fields));
    let root = keyed("leaf", &leaf);
    let mut message = SigningTag::Head.as_bytes().to_vec();
    message.extend(id.as_bytes());
    message.extend([1_u64.to_le_bytes(), 0_u64.to_le_bytes(), millis.to_le_bytes()].concat());
    message.extend(Hash::from_bytes(root).as_bytes());
    let signature = keys(8).sign(&message).unwrap();
    let mut range = vec![0x20, 0, 1, 4 << 3 | 1 << 1 | 1, 2];
    range.extend(hand::varint(millis));
    range.extend([3, kind, 1, b'?']);
    range.extend(body);
    range.push(0);
    range.extend(signature.as_bytes());
    let parts = [(1, opening.encode(&mesh())), (3, [&id.alias()[..], &range].concat())];
    (hand::bundle(&mesh(), &parts), id)
}

#[test]
fn an_event_with_a_critical_field_that_is_not_known_says_nothing_and_is_held_and_passed_on() {
    for (kind, said) in [(0x80, 1), (0xff, 1), (0x7f, 0), (4, 0), (0, 0)] {
        let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
        let (bundle, log) = with_a_field(kind);
        assert_eq!(ada.take(&bundle, at(2)).entries, 1);
        ada.event("own", 3);
        ada.tell(&mut bob, at(4));
        for node in [&ada, &bob] {
            let held = node.replica.logs().log(&log).unwrap().entry(0).unwrap();
            assert_eq!((held.payload(), held.is_opaque()), (Some(&b"said"[..]), said == 0));
            let view = node.replica.topic(TOPIC).unwrap().events();
            assert_eq!((view.len(), view.iter().count()), (1 + said, 1 + said), "kind {kind:#x}");
            assert_eq!(view.of_log(&log, 0, 9).count(), said);
            assert_eq!(view.get(&EventRef { log, seq: 0 }).is_some(), said == 1);
            assert_eq!(node.state(), ada.state());
        }
    }
}

/// An agent that starts without storage again and again, and gives up the events of its earlier starts.
#[test]
fn events_of_earlier_starts_are_given_up_for_good() {
    let mut bob = Node::fresh(1, 2);
    let mut first = Node::fresh(0, 3);
    let old = first.event("old", 1);
    first.tell(&mut bob, at(2));
    for start in 0..40 {
        let now = 10 + 10 * start;
        let mut ada = Node::fresh(0, 10 + start);
        bob.tell(&mut ada, at(now));
        let event = ada.event(&format!("start {start}"), now + 1);
        ada.replica.prune_events_before(&event, at(now + 2)).unwrap();
        ada.store();
        assert_eq!(ada.events(), [format!("start {start}")]);
        ada.tell(&mut bob, at(now + 3));
        assert_eq!(bob.events(), [format!("start {start}")]);
        let event_logs = |node: &Node| {
            let logs = node.replica.logs().logs();
            logs.filter(|log| log.opening().kind == LogKind::Event).count()
        };
        assert_eq!((event_logs(&ada), event_logs(&bob)), (1, 1));
        // After a restart of either it is as before.
        bob = Node::open(1, 1_000 + start, bob.disk(), How::Resumed, at(now + 4));
        let again = Node::open(0, 2_000 + start, ada.disk(), How::Resumed, at(now + 5));
        for node in [&bob, &again] {
            assert_eq!(node.events(), [format!("start {start}")]);
            assert_eq!(event_logs(node), 1);
        }
    }
    // Somebody who slept has the first log, and learns that it is over.
    let mut carol = Node::fresh(2, 5);
    first.tell(&mut carol, at(900));
    assert_eq!(carol.events(), ["old"]);
    bob.tell(&mut carol, at(901));
    assert_eq!(carol.events(), ["start 39"]);
    carol.tell(&mut bob, at(902));
    assert_eq!(bob.state(), carol.state());
    assert!(matches!(bob.replica.prune_events_before(&old, at(903)), Err(SetError::Unknown)));
    let kept = carol.replica.topic(TOPIC).unwrap().events().iter().next().unwrap().name;
    assert!(matches!(
        carol.replica.prune_events_before(&kept, at(904)),
        Err(SetError::Sign(consilience::sync::SignError::OtherAgent))
    ));
}

#[test]
fn events_are_given_up_once_the_word_is_stored_and_not_before() {
    let (mut node, mut peer) = (Node::fresh(1, 1), Node::fresh(2, 2));
    let names: Vec<EventRef> = (0..5).map(|number| node.event(&format!("e{number}"), number)).collect();
    node.tell(&mut peer, at(10));
    let before = node.disk();
    let (last, _) = node.replica.append_event(node.writer, TOPIC, b"e5", at(11)).unwrap();
    let record = node.replica.prune_events_before(&last, at(11)).unwrap();
    assert!(matches!(node.replica.blocked(), Some(Blocked::Unconfirmed { last, .. }) if last == record));
    let bundle = node.replica.export_bundle(|_| true, None, at(12)).unwrap();
    peer.take(&bundle, at(12));
    assert_eq!(peer.events().len(), names.len(), "nothing of it has left");
    // The process ends before anything was stored: nothing has happened.
    let mut again = Node::open(1, 3, before, How::Resumed, at(13));
    again.tell(&mut peer, at(14));
    assert_eq!((again.events().len(), peer.events().len()), (names.len(), names.len()));
    // It is stored, in a snapshot or a record: all before the event are gone.
    for by_snapshot in [false, true] {
        let (mut stored, mut peer) = (Node::fresh(1, 4), Node::fresh(2, 5));
        for number in 0..5 {
            stored.event(&format!("e{number}"), number);
        }
        stored.tell(&mut peer, at(10));
        let (last, _) = stored.replica.append_event(stored.writer, TOPIC, b"e5", at(11)).unwrap();
        stored.replica.prune_events_before(&last, at(11)).unwrap();
        if by_snapshot {
            stored.snapshot();
        }
        stored.store();
        assert_eq!(stored.events(), ["e5"]);
        stored.tell(&mut peer, at(12));
        assert_eq!(peer.events(), ["e5"]);
        let again = Node::open(1, 6, stored.disk(), How::Resumed, at(13));
        assert_eq!(again.events(), ["e5"]);
    }
}

#[test]
fn a_word_that_is_not_stored_yet_goes_with_its_topic() {
    let mut node = Node::fresh(1, 1);
    node.event("e0", 1);
    let last = node.event("e1", 2);
    node.replica.prune_events_before(&last, at(3)).unwrap();
    node.replica.purge(&topic());
    node.snapshot();
    node.store();
    let again = Node::open(1, 2, node.disk(), How::Resumed, at(4));
    assert_eq!(again.replica.logs().logs().count(), 0);
}
