//! Each documented limit of writes, at the limit and beyond; and writes that no one entry holds.

use consilience::crdts::{Hlc, KEY_BYTES_MAX, Units};
use consilience::journal::Record;
use consilience::sync::{Closure, Incarnation, NewEntry};
use consilience::{AppendEventError, CommitError, EventRef, WriteError};

use super::hand::{Hand, map_id, op_carry, payload};
use super::world::{Node, TOPIC, at, keys, schema};

#[test]
fn keys_of_4096_bytes_fit_in_every_kind_of_collection() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    let (longest, longer) = (vec![b'k'; KEY_BYTES_MAX], vec![b'k'; KEY_BYTES_MAX + 1]);
    let mut tx = ada.replica.transact(ada.writer, TOPIC, at(1)).unwrap();
    let too_long = Err(WriteError::KeyTooLong { bytes: KEY_BYTES_MAX + 1 });
    assert_eq!(tx.map("map").set(&longer, "v"), too_long);
    assert_eq!(tx.map("map").remove(&longer), too_long);
    assert_eq!(tx.set("set").insert(&longer), too_long);
    assert_eq!(tx.set("set").remove(&longer), too_long);
    let mut coupling = tx.coupling("coupling", schema());
    assert!(matches!(coupling.strengthen(&longer, Units::new(4)), Err(WriteError::Coupling(_))));
    assert!(matches!(coupling.reset(&longer), Err(WriteError::Coupling(_))));
    assert!(tx.is_empty());
    tx.map("map").set(&longest, "v").unwrap();
    tx.set("set").insert(&longest).unwrap();
    tx.coupling("coupling", schema()).strengthen(&longest, Units::new(4)).unwrap();
    tx.commit().unwrap();
    ada.tell(&mut bob, at(2));
    let view = bob.replica.topic(TOPIC).unwrap();
    assert!(view.map("map").get(&longest).is_some() && view.set("set").contains(&longest));
    assert!(view.coupling("coupling", schema()).value(&longest, at(2)) > Units::new(3));
    ada.write(at(3), |tx| {
        tx.map("map").remove(&longest).unwrap();
        tx.set("set").remove(&longest).unwrap();
        tx.coupling("coupling", schema()).reset(&longest).unwrap();
    });
    ada.tell(&mut bob, at(4));
    assert_eq!(bob.replica.stats(None).keys, 0);
    assert_eq!(bob.state(), ada.state());
}

#[test]
fn topics_of_128_bytes_are_written_to_and_longer_ones_refused() {
    let mut ada = Node::fresh(0, 1);
    let longer = "t".repeat(129);
    let refused = ada.replica.transact(ada.writer, &longer, at(1)).map(drop);
    assert!(matches!(refused, Err(CommitError::Topic(_))));
    let refused = ada.replica.append_event(ada.writer, &longer, b"event", at(1));
    assert!(matches!(refused, Err(AppendEventError::Topic(_))));
    ada.replica.append_event(ada.writer, &longer[1..], b"event", at(1)).unwrap();
    assert_eq!(ada.replica.topic(&longer[1..]).unwrap().events().len(), 1);
}

#[test]
fn an_event_cites_64_logs_and_no_more() {
    let mut ada = Node::fresh(0, 1);
    let cited: Vec<EventRef> = (0..65)
        .map(|number| {
            let writer = ada.replica.add_writer(keys(100 + number)).unwrap();
            ada.replica.append_event(writer, TOPIC, b"cited", at(1)).unwrap().0
        })
        .collect();
    let refused = ada.replica.append_event_citing(ada.writer, TOPIC, b"answer", &cited, at(2));
    assert!(matches!(refused, Err(AppendEventError::Append(_))), "{refused:?}");
    assert_eq!(ada.replica.topic(TOPIC).unwrap().events().len(), 65, "nothing changed");
    let (event, _) =
        ada.replica.append_event_citing(ada.writer, TOPIC, b"answer", &cited[1..], at(2)).unwrap();
    assert_eq!(ada.replica.topic(TOPIC).unwrap().events().citations(&event).len(), 64);
}

#[test]
fn a_commit_that_changes_nothing_says_so_in_every_kind_of_collection() {
    let mut ada = Node::fresh(0, 1);
    ada.strengthen("eve", 4, at(1));
    let size = |ada: &Node| ada.replica.logs().logs().map(|log| log.size()).sum::<u64>();
    let before = size(&ada);
    let none = [
        ada.write(at(2), |tx| tx.map("tasks").remove("none").unwrap()),
        ada.write(at(2), |tx| tx.set("members").remove("none").unwrap()),
        ada.write(at(2), |tx| tx.coupling("trust", schema()).weaken("none", Units::new(4)).unwrap()),
        ada.write(at(2), |tx| tx.coupling("trust", schema()).reset("none").unwrap()),
        ada.write(at(2), |tx| tx.coupling("trust", schema()).reset_own("none").unwrap()),
    ];
    assert_eq!((none, size(&ada)), ([None; 5], before));
    assert!(ada.write(at(3), |tx| tx.coupling("trust", schema()).reset("eve").unwrap()).is_some());
}

/// One key of the map "tasks" with so many concurrent writes of one agent, each of an incarnation of its own, or all of one.
fn crowded(dots: u64, is_own_log_each: bool) -> Vec<u8> {
    let mut foe = Hand::new(9, 100_000);
    let closures = [Closure { incarnation: Incarnation::from_u64(1), below: dots }];
    for first in (0..dots).step_by(1_000) {
        let op = |dot: u64| {
            let (incarnation, seq) = if is_own_log_each { (1 + dot, 0) } else { (1, dot) };
            op_carry(incarnation, seq, 0, [7; 4], Hlc::new(at(0), 0), "crowded", "v")
        };
        let listings = payload(&[], &[(map_id("tasks"), (first..dots.min(first + 1_000)).map(op).collect())]);
        foe.append_entry(&NewEntry {
            closures: if is_own_log_each || first > 0 { &[] } else { &closures },
            last_final: (is_own_log_each && first == 0).then_some(Incarnation::from_u64(100_000)),
            ..NewEntry::new(Hlc::new(at(1), first as u16 / 1_000), &listings)
        });
    }
    foe.bundle(at(2))
}

#[test]
fn a_key_with_more_concurrent_writes_than_one_entry_names_is_removed_and_written_over() {
    for (dots, is_own_log_each) in [(10_000, false), (4_200, true)] {
        let bundle = crowded(dots, is_own_log_each);
        let (mut ada, mut bob, mut eve) = (Node::fresh(0, 1), Node::fresh(1, 2), Node::fresh(2, 3));
        for node in [&mut ada, &mut bob, &mut eve] {
            assert_eq!(node.take(&bundle, at(3)).refused, 0);
            let view = node.replica.topic(TOPIC).unwrap();
            assert_eq!(view.map("tasks").conflicts("crowded").len() as u64, dots);
        }
        // Each of them does without knowing of the other.
        ada.remove("crowded", at(4));
        assert_eq!(ada.get("crowded"), None);
        // All of it is in one record: after a crash it has happened, or it has not.
        let record = bob.write(at(4), |tx| tx.map("tasks").set("crowded", "bob's").unwrap());
        let records: Vec<_> = std::iter::from_fn(|| bob.replica.poll_record()).collect();
        assert_eq!((records.len(), records.last().map(Record::id)), (1, record));
        records.iter().for_each(|record| bob.records.extend(record.as_bytes()));
        bob.replica.confirm(record.unwrap()).unwrap();
        assert_eq!(bob.get("crowded").as_deref(), Some("bob's"));
        assert_eq!(bob.replica.topic(TOPIC).unwrap().map("tasks").conflicts("crowded").len(), 1);
        let own = bob.replica.logs().logs().find(|log| log.opening().agent == bob.writer.id()).unwrap();
        assert!(own.size() > 1, "one entry has no room for that");
        ada.tell(&mut eve, at(5));
        assert_eq!(eve.get("crowded"), None);
        bob.tell(&mut eve, at(6));
        ada.tell(&mut bob, at(6));
        assert_eq!(eve.get("crowded").as_deref(), Some("bob's"));
        assert_eq!(eve.state(), bob.state());
    }
}
