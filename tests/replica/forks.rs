//! What becomes of the content of own logs that a fork took out: whenever that shows, and wherever the process ends.

use std::collections::BTreeSet;

use consilience::crdts::Hlc;
use consilience::sync::Signer;
use consilience::{Notice, Opened, Replica, Stored};

use super::hand::{Hand, on_tasks, op_set};
use super::named::clones;
use super::world::{How, Node, at, config, converge, keys};

#[test]
fn what_a_void_log_said_is_written_again_though_its_writer_is_added_later() {
    for restarts in [false, true] {
        let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
        ada.set("common", "c", at(1));
        ada.event("said", 1);
        let mut clone = Node::open(0, 6, ada.disk(), How::Resumed, at(3));
        ada.set("left", "l", at(4));
        clone.set("right", "r", at(5));
        ada.event("left", 6);
        clone.event("right", 6);
        ada.tell(&mut bob, at(7));
        clone.tell(&mut bob, at(7));
        let bundle = bob.replica.export_bundle(|_| true, None, at(8)).unwrap();
        // The evidence comes before the host has added a writer.
        let mut disk = ada.disk();
        let stored = Stored { snapshot: None, records: &disk.records };
        let mut replica = Replica::open(config(8), Opened::Resumed(stored), at(8)).unwrap();
        replica.import_bundle(&bundle, at(8)).unwrap();
        while let Some(record) = replica.poll_record() {
            disk.records.extend(record.as_bytes());
            replica.confirm(record.id()).unwrap();
        }
        let mut ada = if restarts {
            Node::open(0, 10, disk, How::Resumed, at(9))
        } else {
            let writer = replica.add_writer(keys(0)).unwrap();
            Node { replica, writer, agent: 0, snapshot: None, records: disk.records }
        };
        assert_eq!((ada.get("common").as_deref(), ada.get("left").as_deref()), (Some("c"), Some("l")));
        assert_eq!(ada.events(), ["said", "left"], "restarts: {restarts}");
        // And the others have it from there.
        ada.tell(&mut bob, at(10));
        assert_eq!((bob.get("common").as_deref(), bob.get("left").as_deref()), (Some("c"), Some("l")));
        assert_eq!(bob.events(), ["said", "left"]);
        assert_eq!(bob.state(), ada.state());
        let logs = ada.replica.logs().logs().filter(|log| log.opening().agent == keys(0).agent()).count();
        assert_eq!(logs, 4, "one next incarnation of each kind");
    }
}

#[test]
fn what_a_void_log_said_is_not_lost_wherever_the_process_ends() {
    let (mut ada, mut clone, mut bob) = clones();
    for number in 0..5 {
        ada.set(&format!("k{number}"), "v", at(10 + number));
    }
    ada.remove("k0", at(20));
    ada.tell(&mut bob, at(21));
    clone.tell(&mut bob, at(21));
    let bundle = bob.replica.export_bundle(|_| true, None, at(22)).unwrap();
    let (log, _) = ada.own_log().unwrap();
    let mut disk = ada.disk();
    ada.replica.import_bundle(&bundle, at(22)).unwrap();
    let (mut records, mut void) = (0, 0);
    loop {
        for snapshot in [false, true] {
            let mut again = Node::open(0, 90 + 2 * records, disk.clone(), How::Resumed, at(23));
            if snapshot {
                again.store();
                again.snapshot();
                again = Node::open(0, 91 + 2 * records, again.disk(), How::Resumed, at(24));
            }
            for (key, value) in [("common", "c"), ("left", "l"), ("k1", "v"), ("k4", "v")] {
                assert_eq!(again.get(key).as_deref(), Some(value), "{key} after {records} records");
            }
            assert_eq!(again.get("k0"), None);
            again.state();
            void += u32::from(again.replica.logs().evidence(&log).is_some());
            // What it writes meanwhile is not taken back by another start.
            again.set("k1", "newer", at(25));
            again.remove("k4", at(25));
            let again = Node::open(0, 190 + 2 * records, again.disk(), How::Resumed, at(26));
            assert_eq!((again.get("k1").as_deref(), again.get("k4")), (Some("newer"), None));
        }
        let Some(record) = ada.replica.poll_record() else { break };
        disk.records.extend(record.as_bytes());
        records += 1;
    }
    assert!(records >= 6 && void >= 10, "{records} records, {void}");
}

#[test]
fn an_older_value_that_is_written_again_ends_no_newer_one() {
    for first_with_bob in [false, true] {
        let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
        ada.set("k", "1", at(1));
        let mut clone = Node::open(0, 3, ada.disk(), How::Resumed, at(2));
        ada.set("k", "2", at(3));
        clone.set("other", "3", at(4));
        ada.tell(&mut bob, at(5));
        if first_with_bob {
            bob.tell(&mut clone, at(6));
        } else {
            clone.tell(&mut ada, at(6));
            ada.tell(&mut clone, at(7));
        }
        let mut all = [ada, clone, bob];
        converge(&mut all, at(8));
        for node in &all {
            let found = (node.get("k"), node.get("other"));
            assert_eq!((found.0.as_deref(), found.1.as_deref()), (Some("2"), Some("3")), "{first_with_bob}");
            assert_eq!(node.state(), all[0].state());
        }
    }
}

#[test]
fn the_largest_value_is_written_again_however_many_dots_that_ends() {
    let (mut ada, mut clone, mut bob) = clones();
    let large = "x".repeat(61_440);
    ada.set("k", &large, at(10));
    ada.tell(&mut bob, at(11));
    // The agent ran many times without storage, and each time wrote the same key.
    for incarnation in 1..=200 {
        let mut earlier = Hand::new(0, incarnation);
        earlier.append(&on_tasks(&[], op_set("k", "small", &[])), Hlc::new(at(1), 0));
        ada.take(&earlier.bundle(at(12)), at(12));
    }
    clone.tell(&mut bob, at(13));
    let bundle = bob.replica.export_bundle(|_| true, None, at(14)).unwrap();
    ada.take(&bundle, at(14));
    let told = ada.notices();
    assert!(!told.iter().any(|notice| matches!(notice, Notice::NotWrittenAgain { .. })), "{told:?}");
    assert_eq!(ada.live("tasks", "k"), BTreeSet::from([large.clone().into_bytes()]));
    ada.set("after", "a", at(15));
    ada.state();
    let mut all = [ada, clone, bob];
    converge(&mut all, at(16));
    for node in &all {
        assert_eq!(node.live("tasks", "k"), BTreeSet::from([large.clone().into_bytes()]));
        assert_eq!(node.get("after").as_deref(), Some("a"));
    }
}
