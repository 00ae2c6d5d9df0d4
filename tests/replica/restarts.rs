//! The promises about restarts and incarnations, one by one.

use consilience::crdts::Hlc;
use consilience::journal::{JournalItem, recover};
use consilience::sync::{
    Admission, Entry, Incarnation, Limits, LogId, LogKind, LogOpening, LogStore, NewEntry, RangeForm, Signer,
    Want,
};
use consilience::{Config, Notice, Opened, Replica, Stored};

use super::hand::{Hand, bundle, map_id, on_tasks, op_carry, op_set, payload};
use super::world::{Disk, How, Node, START, TOPIC, at, config, converge, keys, mesh, topic};

const DAY: u64 = 24 * 3_600_000;

#[test]
fn twenty_restarts_without_storage_pile_up_nothing() {
    let mut bob = Node::fresh(1, 2);
    let mut stored = Vec::new();
    let mut expected = std::collections::BTreeMap::new();
    for round in 0..20_u64 {
        let ms = round * 1_000;
        let mut ada = Node::open(0, 101 + round, Disk::default(), How::InMemory, at(ms));
        bob.tell(&mut ada, at(ms + 1));
        for key in 0..10 {
            ada.set(&format!("k{key}"), &format!("{round}"), at(ms + 2 + key));
            expected.insert(format!("k{key}"), format!("{round}"));
        }
        let gone = format!("k{}", round % 10);
        ada.remove(&gone, at(ms + 20));
        expected.remove(&gone);
        ada.set(&format!("once{round}"), "kept", at(ms + 21));
        expected.insert(format!("once{round}"), "kept".into());
        ada.strengthen("eve", 4, at(ms + 22));
        ada.tell(&mut bob, at(ms + 30));
        bob.remove("k9", at(ms + 31));
        expected.remove("k9");
        let stats = bob.replica.stats(Some(&topic()));
        stored.push(stats);
        assert_eq!(stats.keys, expected.len());
        for (key, value) in &expected {
            assert_eq!(bob.get(key).as_deref(), Some(value.as_str()), "round {round}");
        }
        assert_eq!(bob.get("k9"), None);
        bob.state();
    }
    let trust = bob.replica.topic(TOPIC).unwrap().coupling("trust", super::world::schema());
    assert!(trust.value("eve", at(20_000)) >= consilience::crdts::Units::new(79), "it adds up over them");
    // Late, from the one who has it all.
    let mut late = Node::fresh(2, 4);
    bob.tell(&mut late, at(30_000));
    assert_eq!(late.state(), bob.state());
    let stats = bob.replica.stats(Some(&topic()));
    assert!(stats.stored < 6 * stats.live.max(1_000), "{stats:?}");
    assert_eq!(bob.replica.logs().stats().logs, 2, "ada's last and bob's");
    for (key, value) in &expected {
        assert_eq!(bob.get(key).as_deref(), Some(value.as_str()));
    }
    let mut later = Node::fresh(3, 8);
    bob.tell(&mut later, at(31 * DAY));
    assert_eq!(later.state(), bob.state());
    let mut all = [bob, late, later];
    converge(&mut all, at(31 * DAY));
}

/// Ada in two incarnations: the second has taken the first over.
fn taken_over() -> (Node, Node) {
    let mut bob = Node::fresh(1, 2);
    let mut ada = Node::open(0, 1, Disk::default(), How::InMemory, at(0));
    for number in 0..10 {
        ada.set(&format!("k{number}"), "first", at(number));
    }
    ada.tell(&mut bob, at(20));
    let mut ada = Node::open(0, 3, Disk::default(), How::InMemory, at(30));
    bob.tell(&mut ada, at(31));
    ada.set("k0", "second", at(32));
    ada.remove("k1", at(33));
    ada.tell(&mut bob, at(34));
    (ada, bob)
}

#[test]
fn closed_logs_are_dropped_at_once_and_everybody_agrees() {
    let (mut ada, mut dropped) = taken_over();
    let (mut kept, mut partly) = (Node::fresh(2, 4), Node::fresh(3, 6));
    dropped.tell(&mut kept, at(40));
    dropped.tell(&mut partly, at(40));
    assert_eq!(dropped.replica.logs().stats().logs, 1, "only the log that has taken the other over");
    assert_eq!(dropped.replica.poll_timeout(), None, "nothing waits for a time");
    assert_eq!(dropped.state(), kept.state());
    let now = at(34 + 30 * DAY);
    dropped.replica.handle_timeout(now);
    dropped.store();
    // A late joiner, from one, then from another; and the other way round.
    let (mut late, mut later) = (Node::fresh(4, 8), Node::fresh(5, 10));
    dropped.tell(&mut late, now);
    assert_eq!(late.state(), kept.state());
    kept.tell(&mut late, now);
    kept.tell(&mut later, now);
    dropped.tell(&mut later, now);
    for node in [&late, &later] {
        assert_eq!(node.state(), kept.state());
        assert_eq!((node.get("k0").as_deref(), node.get("k1")), (Some("second"), None));
        assert_eq!(node.get("k9").as_deref(), Some("first"));
    }
    // It is remembered over restarts, with and without a snapshot.
    for snapshot in [false, true] {
        if snapshot {
            dropped.snapshot();
        }
        dropped = Node::open(1, 12 + 2 * u64::from(snapshot), dropped.disk(), How::Resumed, now);
        assert_eq!(dropped.state(), kept.state());
        assert_eq!(dropped.replica.poll_timeout(), None, "snapshot {snapshot}");
    }
    // Life goes on, in all of them.
    ada.set("k2", "third", now);
    ada.remove("k3", now);
    dropped.set("k4", "bob", now);
    let mut all = [ada, dropped, kept, partly, late, later];
    converge(&mut all, now);
    for node in &all {
        assert_eq!(node.state(), all[0].state());
        assert_eq!((node.get("k2").as_deref(), node.get("k3")), (Some("third"), None));
        assert_eq!(node.get("k4").as_deref(), Some("bob"));
    }
}

/// A later incarnation that has taken an earlier one over may come in one bundle with a later part of that one, which has given
/// up what was taken over: from where the holder's copy ends, or in its place.
#[test]
fn a_dot_that_was_given_up_is_gone_whichever_incarnation_is_heard_first() {
    let stamp = |ms| Hlc::new(at(ms), 0);
    let set = |value| on_tasks(&[], op_set("k", value, &[]));
    let mut first = Hand::new(0, 1);
    first.append(&set("old"), stamp(0));
    let early = first.bundle(at(0));
    first.append_with_base(&set("mid"), 1, stamp(1));
    let mut second = Hand::new(0, 2);
    second.append(&on_tasks(&[], op_set("other", "value", &[])), stamp(2));
    let old = op_carry(1, 0, 0, first.tag(0), stamp(0), "k", "old");
    let mid = op_carry(1, 1, 0, first.tag(1), stamp(1), "k", "mid");
    second.close(&[(1, 2)], &payload(&[], &[(map_id("tasks"), vec![old, mid])]), stamp(3));
    second.sign(at(3));
    first.append_with_base(&set("new"), 2, stamp(4));
    first.sign(at(4));
    let part = |hand: &Hand, from, to, form| hand.parts(&Want { from, to, form }).to_vec();
    let second = [(0, 1), (1, 2)].map(|(from, to)| part(&second, from, to, RangeForm::Follow)).concat();
    let after = part(&first, 1, 3, RangeForm::Follow);
    let instead = part(&first, 2, 3, RangeForm::Alone);
    let mut late = Node::fresh(1, 1);
    late.take(&bundle(&mesh(), &[second.clone(), instead.clone()].concat()), at(5));
    for parts in [
        [second.clone(), after.clone()],
        [second.clone(), instead.clone()],
        [after, second.clone()],
        [instead, second],
    ] {
        let mut node = Node::fresh(2, 2);
        node.take(&early, at(5));
        assert_eq!(node.get("k").as_deref(), Some("old"));
        node.take(&bundle(&mesh(), &parts.concat()), at(6));
        assert_eq!(node.state(), late.state());
        assert_eq!(node.live("tasks", "k"), [b"new".to_vec()].into());
    }
}

/// What the first incarnation wrote and the second never saw still counts, also where the rest was dropped: it is fetched
/// again, for a removal by a log of its own dot names nothing, and only ends what that log lists.
#[test]
fn a_tail_that_nobody_took_over_still_counts() {
    let mut bob = Node::fresh(1, 2);
    let mut ada = Node::fresh(0, 1);
    ada.set("k0", "first", at(0));
    ada.set("k1", "first", at(1));
    ada.tell(&mut bob, at(2));
    let backup = ada.disk();
    // What bob has not seen.
    ada.set("tail", "unseen", at(3));
    ada.remove("k1", at(4));
    let mut eve = Node::fresh(2, 4);
    ada.tell(&mut eve, at(5));
    // The backup comes back, and takes over what bob has.
    let mut again = Node::open(0, 3, backup, How::Restored, at(6));
    bob.tell(&mut again, at(7));
    again.set("k0", "second", at(8));
    again.tell(&mut bob, at(9));
    bob.replica.handle_timeout(at(40 * DAY));
    bob.store();
    assert_eq!((bob.get("k0").as_deref(), bob.get("k1").as_deref()), (Some("second"), Some("first")));
    eve.tell(&mut bob, at(40 * DAY));
    bob.tell(&mut eve, at(40 * DAY));
    for node in [&bob, &eve] {
        assert_eq!((node.get("tail").as_deref(), node.get("k1")), (Some("unseen"), None));
        assert_eq!(node.state(), eve.state());
    }
    let mut all = [bob, eve, again];
    converge(&mut all, at(40 * DAY));
    all[2].set("k0", "third", at(40 * DAY));
    converge(&mut all, at(40 * DAY));
    for node in &all {
        assert_eq!((node.get("tail").as_deref(), node.get("k1")), (Some("unseen"), None));
        assert_eq!(node.get("k0").as_deref(), Some("third"));
    }
}

#[test]
fn a_writer_resumes_its_log_and_a_restored_one_opens_the_next() {
    let mut ada = Node::fresh(0, 1);
    ada.set("t", "x", at(1));
    let (log, size) = ada.own_log().unwrap();
    for snapshot in [false, true] {
        if snapshot {
            ada.snapshot();
        }
        let mut resumed = Node::open(0, 3, ada.disk(), How::Resumed, at(2));
        assert_eq!(resumed.state(), ada.state());
        resumed.set("u", "y", at(3));
        assert_eq!(resumed.own_log(), Some((log, size + 1)));
        let mut restored = Node::open(0, 5, ada.disk(), How::Restored, at(2));
        assert_eq!(restored.state(), ada.state());
        restored.set("u", "y", at(3));
        assert_ne!(restored.own_log().unwrap().0, log);
        // Nobody was met: it did not take over, and it does once told that it is alone.
        assert_eq!(restored.replica.logs().log(&restored.own_log().unwrap().0).unwrap().size(), 1);
        restored.replica.declare_alone();
        restored.set("v", "z", at(4));
        assert_eq!(restored.get("t").as_deref(), Some("x"));
        let took_over = restored.own_log().unwrap();
        // Resumed after that, it goes on in the new one.
        let mut again = Node::open(0, 7, restored.disk(), How::Resumed, at(5));
        again.set("w", "z", at(6));
        assert_eq!(again.own_log().unwrap().0, took_over.0);
        assert_eq!(again.get("t").as_deref(), Some("x"));
        let mut bob = Node::fresh(1, 2);
        again.tell(&mut bob, at(7));
        assert_eq!(bob.state(), again.state());
    }
}

#[test]
fn storage_of_another_mesh_or_damaged_is_refused() {
    let mut ada = Node::fresh(0, 1);
    ada.set("t", "x", at(1));
    ada.set("t", "y", at(2));
    let other = Config::new(consilience::sync::MeshSecret::from_bytes([1; 32]), [2; 32]);
    let stored = Stored { snapshot: None, records: &ada.records };
    assert!(Replica::open(other, Opened::Resumed(stored), at(3)).is_err());
    let mut damaged = ada.records.clone();
    damaged[20] ^= 1;
    let stored = Stored { snapshot: None, records: &damaged };
    assert!(Replica::open(config(3), Opened::Resumed(stored), at(3)).is_err());
    // What is good of it serves as a backup.
    let stored = Stored { snapshot: None, records: &ada.records[..ada.records.len() - 1] };
    let replica = Replica::open(config(3), Opened::Resumed(stored), at(3)).unwrap();
    assert!(replica.cut().is_some());
    assert_eq!(replica.mesh(), &mesh());
    assert!(replica.verify());
}

/// Its bytes are as they were written, by another version of this library.
#[test]
fn an_own_entry_that_the_logs_refuse_is_told_and_its_log_is_left() {
    let mut ada = Node::fresh(0, 1);
    ada.set("t", "x", at(1));
    let (log, size) = ada.own_log().unwrap();
    let mut journal = recover(&mesh(), None, &ada.records).unwrap().journal();
    journal.push(&JournalItem::Append { log, seq: size, entry: &[0xff; 3] });
    journal.seal();
    ada.records.extend(journal.poll().unwrap().into_bytes());
    let mut again = Node::open(0, 3, ada.disk(), How::Resumed, at(2));
    assert_eq!(again.notices(), [Notice::ItemsRefused { items: 1 }]);
    again.set("u", "y", at(3));
    assert_ne!(again.own_log().unwrap().0, log, "the number may be signed");
}

#[test]
fn a_torn_end_is_the_first_notice_after_the_start() {
    let mut ada = Node::fresh(0, 1);
    ada.set("t", "x", at(1));
    let log = ada.own_log().unwrap().0;
    ada.set("t", "y", at(2));
    ada.records.pop();
    let mut again = Node::open(0, 3, ada.disk(), How::Resumed, at(3));
    let cut = again.replica.cut().unwrap();
    assert_eq!(again.notices(), [Notice::RecordsCut { cut }]);
    assert_eq!((cut.offset + cut.bytes, cut.whole), (ada.records.len(), 0));
    again.set("u", "y", at(4));
    assert_ne!(again.own_log().unwrap().0, log, "the number may be signed");
}

/// The first process lives on beside the restored one, and raises its base over what others have dropped by then.
#[test]
fn a_closed_log_that_goes_on_and_compacts_means_the_same_everywhere() {
    let mut bob = Node::fresh(1, 2);
    let mut ada = Node::fresh(0, 2);
    for number in 0..4 {
        ada.set(&format!("k{number}"), "first", at(number));
    }
    ada.tell(&mut bob, at(5));
    let mut again = Node::open(0, 3, ada.disk(), How::Restored, at(6));
    bob.tell(&mut again, at(7));
    again.set("other", "second", at(8));
    again.tell(&mut bob, at(9));
    let mut kept = Node::fresh(2, 4);
    bob.tell(&mut kept, at(10));
    bob.replica.handle_timeout(at(40 * DAY));
    bob.store();
    assert_eq!(bob.state(), kept.state());
    // Unseen by the restored one.
    let now = at(40 * DAY);
    ada.remove("k1", now);
    for round in 0..40 {
        ada.set("fill", &format!("{round}"), now);
    }
    ada.tell(&mut kept, now);
    ada.tell(&mut bob, now);
    let mut late = Node::fresh(3, 8);
    kept.tell(&mut late, now);
    for node in [&bob, &kept, &late] {
        assert_eq!(
            (node.get("k0").as_deref(), node.get("k1")),
            (Some("first"), None),
            "agent {}",
            node.agent
        );
        assert_eq!(node.get("fill").as_deref(), Some("39"));
        assert_eq!(node.state(), kept.state());
    }
}

/// An old backup is opened as resumed, after the same backup was opened as restored and has gone on in the next incarnation,
/// which has closed more of the log than the backup has.
fn resumed_after_restored(writes: u64) -> (Node, Node) {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    ada.set("gone", "old", at(0));
    ada.set("k1", "old", at(1));
    let backup = ada.disk();
    (2..8).for_each(|number| ada.set(&format!("k{number}"), "old", at(number)));
    ada.strengthen("eve", 4, at(8));
    ada.tell(&mut bob, at(9));
    let mut restored = Node::open(0, 3, backup.clone(), How::Restored, at(10));
    bob.tell(&mut restored, at(11));
    restored.set("restored", "r", at(12));
    restored.remove("gone", at(13));
    restored.tell(&mut bob, at(14));
    let mut resumed = Node::open(0, 5, backup, How::Resumed, at(15));
    resumed.strengthen("zoe", 4, at(15));
    (0..writes).for_each(|number| resumed.set(&format!("new{number}"), "n", at(16 + number)));
    (resumed, bob)
}

fn assert_nothing_is_lost_of_either(node: &Node) {
    let all = ["k1", "k7", "restored", "new0", "new1", "new2"].map(|key| node.get(key));
    let all = all.each_ref().map(Option::as_deref);
    assert_eq!(all, [Some("old"), Some("old"), Some("r"), Some("n"), Some("n"), Some("n")]);
    assert_eq!(node.get("gone"), None);
    let trust = node.replica.topic(TOPIC).unwrap().coupling("trust", super::world::schema());
    for key in ["eve", "zoe"] {
        assert!(trust.value(key, at(60)) > consilience::crdts::Units::new(3), "{key}");
    }
    node.state();
}

#[test]
fn a_writer_does_not_go_on_in_a_log_of_which_more_is_closed_than_it_wrote() {
    for (restarts, signed) in [(false, false), (true, false), (false, true), (true, true)] {
        let (mut resumed, mut bob) = resumed_after_restored(3);
        if signed {
            resumed.tell(&mut bob, at(21));
        }
        if restarts {
            resumed = Node::open(0, 7, resumed.disk(), How::Resumed, at(22));
        }
        let (log, _) = resumed.own_log().unwrap();
        bob.tell(&mut resumed, at(23));
        let told = resumed.notices();
        assert!(told.iter().any(|notice| matches!(notice, Notice::SelfForked { .. })), "{told:?}");
        assert_nothing_is_lost_of_either(&resumed);
        resumed.set("later", "l", at(24));
        assert_ne!(resumed.own_log().unwrap().0, log);
        assert_eq!(resumed.get("later").as_deref(), Some("l"));
        let mut all = [resumed, bob];
        converge(&mut all, at(25));
        for node in &all {
            assert_nothing_is_lost_of_either(node);
            assert_eq!(node.get("later").as_deref(), Some("l"));
        }
        let [resumed, _] = &mut all;
        resumed.notices();
        let mut again = Node::open(0, 9, resumed.disk(), How::Resumed, at(26));
        assert!(again.notices().is_empty(), "it is told once");
        again.set("k1", "newer", at(27));
        assert_eq!(again.get("k1").as_deref(), Some("newer"));
    }
}

/// The closure covers the log, or would not if both had the same history: a later incarnation lists other writes in its places.
#[test]
fn a_writer_does_not_go_on_in_a_log_of_which_other_writes_are_listed() {
    for (writes, signed) in [(6, false), (9, false), (6, true), (9, true)] {
        let (mut resumed, mut bob) = resumed_after_restored(writes);
        if signed {
            resumed.tell(&mut bob, at(31));
        }
        let (log, size) = resumed.own_log().unwrap();
        assert_eq!(size, 3 + writes);
        bob.tell(&mut resumed, at(32));
        let told = resumed.notices();
        let forks = told.iter().filter(|notice| matches!(notice, Notice::SelfForked { .. })).count();
        assert_eq!(forks, 1, "{told:?}");
        let mut all = [resumed, bob];
        converge(&mut all, at(33));
        for node in &all {
            assert_nothing_is_lost_of_either(node);
            for number in 0..writes {
                assert_eq!(
                    node.get(&format!("new{number}")).as_deref(),
                    Some("n"),
                    "{writes} {signed} {number}"
                );
            }
            (2..8).for_each(|number| assert_eq!(node.get(&format!("k{number}")).as_deref(), Some("old")));
        }
        let [resumed, _] = &mut all;
        resumed.set("later", "l", at(34));
        assert_ne!(resumed.own_log().unwrap().0, log);
        resumed.notices();
        let mut again = Node::open(0, 9, resumed.disk(), How::Resumed, at(35));
        assert!(again.notices().is_empty(), "it is told once");
        converge(&mut all, at(36));
        assert_nothing_is_lost_of_either(&all[1]);
    }
}

/// The later incarnation and the head of the other history come in one bundle: when the one shows that there is another
/// history, the other has closed the log already.
#[test]
fn what_a_copy_wrote_is_not_lost_if_its_log_is_closed_with_another_history_in_the_same_bundle() {
    for (common, more, seed) in [(1, 0, 2), (1, 0, 3), (1, 2, 2), (3, 0, 3), (3, 1, 2)] {
        let mut ada = Node::fresh(0, seed);
        (0..common).for_each(|number| ada.set(&format!("c{number}"), "c", at(1 + number)));
        let mut copy = Node::open(0, seed + 2, ada.disk(), How::Resumed, at(10));
        ada.set("left", "l", at(11));
        copy.set("right", "r", at(12));
        (0..more).for_each(|number| copy.set(&format!("more{number}"), "r", at(13 + number)));
        let mut ada = Node::open(0, seed + 4, ada.disk(), How::Restored, at(20));
        let mut bob = Node::fresh(1, seed + 6);
        bob.tell(&mut ada, at(21));
        ada.set("after", "a", at(22));
        let mut disk = copy.disk();
        ada.store();
        let since = copy.replica.summary();
        let bundle = ada.replica.export_bundle(|_| true, Some(&since), at(23)).unwrap();
        copy.replica.import_bundle(&bundle, at(23)).unwrap();
        let told = copy.notices();
        assert!(told.iter().any(|notice| matches!(notice, Notice::SelfForked { .. })), "{told:?}");
        let mut records = 0;
        loop {
            // Wherever its process ends.
            let again = Node::open(0, seed + 10 + 2 * records, disk.clone(), How::Resumed, at(24));
            let mut all =
                [again, Node::open(0, seed + 4, ada.disk(), How::Resumed, at(24)), Node::fresh(1, 1)];
            converge(&mut all, at(25));
            for node in &all {
                for (key, value) in [("c0", "c"), ("left", "l"), ("right", "r"), ("after", "a")] {
                    let found = node.get(key);
                    assert_eq!(
                        found.as_deref(),
                        Some(value),
                        "{key} after {records} records, {common} {more}"
                    );
                }
                (0..more).for_each(|number| assert!(node.get(&format!("more{number}")).is_some()));
            }
            let Some(record) = copy.replica.poll_record() else { break };
            disk.records.extend(record.as_bytes());
            records += 1;
        }
        assert!(records > 1, "{records}");
    }
}

#[test]
fn what_such_a_log_said_is_not_lost_wherever_the_process_ends() {
    let (mut resumed, mut bob) = resumed_after_restored(3);
    let mut disk = resumed.disk();
    let bundle = bob.replica.export_bundle(|_| true, None, at(23)).unwrap();
    resumed.replica.import_bundle(&bundle, at(23)).unwrap();
    let (mut whole, mut records) = (0, 0);
    loop {
        for snapshot in [false, true] {
            let mut again = Node::open(0, 90 + 2 * records, disk.clone(), How::Resumed, at(24));
            if snapshot {
                again.store();
                again.snapshot();
                again = Node::open(0, 91 + 2 * records, again.disk(), How::Resumed, at(25));
            }
            let new = ["new0", "new1", "new2"].map(|key| again.get(key));
            assert!(
                new.iter().all(|value| value.as_deref() == Some("n")),
                "after {records} records: {new:?}"
            );
            whole += u32::from(again.get("restored").is_some());
            again.take(&bundle, at(26));
            assert_nothing_is_lost_of_either(&again);
            again.set("new0", "newer", at(27));
            let again = Node::open(0, 190 + 2 * records, again.disk(), How::Resumed, at(28));
            assert_eq!(again.get("new0").as_deref(), Some("newer"));
        }
        let Some(record) = resumed.replica.poll_record() else { break };
        disk.records.extend(record.as_bytes());
        records += 1;
    }
    assert!(records >= 3 && whole >= 4, "{records} records, {whole}");
}

/// Another process of the agent took over what the first one wrote, and that one goes on: its next entry opens its log again.
#[test]
fn the_next_entry_of_a_closed_log_takes_nothing_of_it_away() {
    let (mut ada, mut again, mut bob) = (Node::fresh(0, 2), Node::fresh(0, 4), Node::fresh(1, 6));
    ada.set("k0", "first", at(1));
    ada.set("k1", "first", at(2));
    ada.strengthen("eve", 4, at(3));
    ada.tell(&mut again, at(4));
    again.set("k2", "second", at(5));
    again.remove("k1", at(6));
    again.tell(&mut bob, at(7));
    bob.tell(&mut ada, at(8));
    ada.set("k3", "third", at(9));
    let mut all = [ada, again, bob];
    converge(&mut all, at(10));
    for node in &all {
        let values = ["k0", "k1", "k2", "k3"].map(|key| node.get(key));
        let values = values.each_ref().map(Option::as_deref);
        assert_eq!(values, [Some("first"), None, Some("second"), Some("third")]);
        let trust = node.replica.topic(TOPIC).unwrap().coupling("trust", super::world::schema());
        assert!(trust.value("eve", at(10)) > consilience::crdts::Units::new(3));
        assert_eq!(node.state(), all[0].state());
    }
}

/// Who has a part of a log that was closed drops it as the others did.
#[test]
fn who_has_a_part_of_what_was_given_up_comes_to_the_same() {
    let (mut bob, mut late) = (Node::fresh(1, 2), Node::fresh(2, 4));
    let mut ada = Node::fresh(0, 1);
    ada.set("k0", "first", at(0));
    ada.tell(&mut late, at(1));
    let (log, _) = ada.own_log().unwrap();
    ada.set("k1", "first", at(2));
    ada.tell(&mut bob, at(3));
    let mut ada = Node::open(0, 3, ada.disk(), How::Restored, at(4));
    bob.tell(&mut ada, at(5));
    ada.set("k2", "second", at(6));
    ada.tell(&mut bob, at(7));
    let now = 40 * DAY;
    bob.replica.handle_timeout(at(now));
    bob.store();
    bob.tell(&mut late, at(now + 1));
    bob.tell(&mut late, at(now + 2));
    assert!(late.replica.logs().log(&log).is_none() && bob.replica.logs().log(&log).is_none());
    assert_eq!(late.state(), bob.state());
}

/// A host's clock was ahead and is right again when a writer goes on in its next incarnation: it takes over what has later
/// stamps than it can give now.
#[test]
fn what_was_written_while_the_clock_was_ahead_is_taken_over() {
    let mut ada = Node::fresh(0, 1);
    ada.set("k0", "old", at(200_000));
    ada.set("k0", "new", at(200_001));
    ada.set("k1", "gone", at(200_002));
    ada.remove("k1", at(200_003));
    let mut ada = Node::open(0, 3, ada.disk(), How::Restored, at(10_000));
    ada.replica.trust_clock(at(10_000));
    ada.replica.declare_alone();
    ada.set("k2", "next", at(10_001));
    let told = ada.notices();
    assert!(told.iter().any(|notice| matches!(notice, Notice::Restamped { .. })), "{told:?}");
    let mut bob = Node::fresh(1, 2);
    ada.tell(&mut bob, at(10_002));
    for node in [&ada, &bob] {
        let values = ["k0", "k1", "k2"].map(|key| node.get(key));
        assert_eq!(values, [Some("new".to_owned()), None, Some("next".to_owned())]);
    }
    assert_eq!(ada.state(), bob.state());
    bob.replica.handle_timeout(at(300_000));
    assert_eq!(ada.state(), bob.state(), "also once the old stamps are past");
}

/// A later incarnation took over and closed an earlier one, and is forked then: what it listed is written again, and what it
/// had ended does not come back.
#[test]
fn what_a_forked_log_had_taken_over_is_written_again() {
    let (mut ada, mut bob, mut eve) = (Node::fresh(0, 1), Node::fresh(1, 2), Node::fresh(2, 4));
    ada.set("k0", "first", at(0));
    ada.set("gone", "first", at(1));
    ada.tell(&mut bob, at(2));
    let mut ada = Node::open(0, 3, ada.disk(), How::Restored, at(3));
    bob.tell(&mut ada, at(4));
    ada.remove("gone", at(5));
    ada.tell(&mut bob, at(6));
    bob.tell(&mut eve, at(7));
    let now = 40 * DAY;
    for node in [&mut ada, &mut bob] {
        node.replica.handle_timeout(at(now));
        node.store();
    }
    let backup = ada.disk();
    ada.set("k1", "lost with the storage", at(now + 1));
    ada.tell(&mut bob, at(now + 2));
    let mut ada = Node::open(0, 5, backup, How::Resumed, at(now + 3));
    ada.set("k2", "second", at(now + 4));
    let mut all = [ada, bob, eve];
    converge(&mut all, at(now + 5));
    for node in &all {
        let values = ["k0", "k2", "gone"].map(|key| node.get(key));
        assert_eq!(values, [Some("first".to_owned()), Some("second".to_owned()), None]);
        assert_eq!(node.state(), all[0].state());
    }
}

/// The salt and the leaf of an entry.
fn salted(node: &Node, log: &LogId, seq: u64) -> ([u8; 4], [u8; 32]) {
    let held = node.replica.logs().log(log).unwrap();
    (held.entry(seq).as_ref().and_then(Entry::salt).unwrap(), *held.leaf(seq).unwrap().as_bytes())
}

#[test]
fn what_was_stored_before_a_restart_is_signed_with_the_salt_that_it_had() {
    for snapshot in [false, true] {
        let mut ada = Node::fresh(0, 1);
        ada.set("t", "x", at(1));
        let (log, _) = ada.own_log().unwrap();
        ada.event("said", 2);
        let events: Vec<_> =
            ada.replica.topic(TOPIC).unwrap().events().iter().map(|event| event.name).collect();
        if snapshot {
            ada.snapshot();
        }
        let before = [salted(&ada, &log, 0), salted(&ada, &events[0].log, 0)];
        // Nobody has seen the entries: they are not signed.
        assert_eq!(ada.replica.logs().log(&log).unwrap().signed_size(), 0);
        let mut ada = Node::open(0, 3, ada.disk(), How::Resumed, at(3));
        assert_eq!([salted(&ada, &log, 0), salted(&ada, &events[0].log, 0)], before);
        let mut bob = Node::fresh(1, 2);
        ada.tell(&mut bob, at(4));
        assert_eq!([salted(&bob, &log, 0), salted(&bob, &events[0].log, 0)], before);
        assert_eq!(bob.get("t").as_deref(), Some("x"));
    }
}

#[test]
fn salts_come_from_the_entropy_of_a_start_and_differ_from_entry_to_entry() {
    let mut ada = Node::fresh(0, 1);
    ada.set("t", "x", at(1));
    let (log, _) = ada.own_log().unwrap();
    // One disk, opened with one entropy twice and with others: the writes are the same.
    let mut starts: Vec<_> = [3, 3, 5, 7, 9]
        .map(|seed| {
            let mut again = Node::open(0, seed, ada.disk(), How::Resumed, at(2));
            (0..40).for_each(|ms| again.set("door", "open", at(3 + ms)));
            (1..41).map(|seq| salted(&again, &log, seq)).collect::<Vec<_>>()
        })
        .into();
    assert_eq!(starts[0], starts[1]);
    starts.remove(0);
    let salts: std::collections::BTreeSet<_> = starts.iter().flatten().map(|(salt, _)| *salt).collect();
    let leaves: std::collections::BTreeSet<_> = starts.iter().flatten().map(|(_, leaf)| *leaf).collect();
    assert_eq!((salts.len(), leaves.len()), (160, 160));
    assert!(!salts.contains(&[0; 4]));
}

/// The incarnation of the log that a later version left.
const LATER: u64 = START << 16;

/// What a later version of this software left: an own log with entries that this one cannot write.
fn of_a_later_version(kind: LogKind, entries: &[NewEntry<'_>]) -> (Disk, LogId) {
    let admit = Box::new(|_: &LogOpening| Admission::Hold);
    let (mut store, _) = LogStore::open(mesh(), Limits::default(), admit, Opened::Fresh, at(0)).unwrap();
    store.add_signer(keys(0)).unwrap();
    let opening = LogOpening {
        topic: topic(),
        kind,
        agent: keys(0).agent(),
        incarnation: Incarnation::from_u64(LATER),
    };
    let log = store.open_local(&opening).unwrap();
    for entry in entries {
        store.append(&log, entry).unwrap();
    }
    let records = std::iter::from_fn(|| store.poll_record()).flat_map(|record| record.as_bytes().to_vec());
    (Disk { snapshot: None, records: records.collect() }, log)
}

#[test]
fn own_entries_of_a_later_version_are_not_given_up_however_much_is_written_after_them() {
    let clear = on_tasks(&[], op_set("t", "clear", &[]));
    let hlc = |ms| Hlc::new(at(ms), 0);
    let mut later = payload(&[], &[(map_id("tasks"), vec![op_set("t", "later", &[])])]);
    later[0] = 2;
    let encrypted = NewEntry { epoch: 1, ..NewEntry::new(hlc(2), &clear) };
    let malformed = b"\x01no transaction";
    for (unread, kept) in
        [(encrypted, true), (NewEntry::new(hlc(2), &later), true), (NewEntry::new(hlc(2), malformed), false)]
    {
        let (disk, log) = of_a_later_version(LogKind::State, &[NewEntry::new(hlc(1), &clear), unread]);
        // It lists again as soon as there is anything to gain.
        let mut ada = Node::open(0, 2, disk, How::Resumed, at(3));
        for ms in 4..200 {
            ada.set("t", "again", at(ms));
        }
        let held = ada.replica.logs().log(&log).unwrap();
        assert_eq!((ada.own_log().unwrap().0, held.size()), (log, 198));
        // What says nothing for good goes like all that was overwritten.
        assert!(if kept { held.base() == 1 } else { held.base() > 100 }, "{} {unread:?}", held.base());
        ada.state();
    }
}

#[test]
fn an_event_with_an_epoch_that_a_fork_took_out_comes_again_with_it() {
    let hlc = |ms| Hlc::new(at(ms), 0);
    let (one, two) = (NewEntry::new(hlc(1), b"one"), NewEntry { epoch: 9, ..NewEntry::new(hlc(2), b"two") });
    let (disk, log) = of_a_later_version(LogKind::Event, &[one, two]);
    let mut ada = Node::open(0, 2, disk, How::Resumed, at(3));
    assert_eq!(ada.events(), ["one", "two"]);
    // Its clone has signed another second event.
    let mut clone = Hand::of_kind(0, LATER, LogKind::Event);
    assert_eq!(clone.log, log);
    clone.append_entry(&one);
    clone.append_entry(&NewEntry::new(Hlc::new(at(1), 1), b"other"));
    ada.take(&clone.bundle(at(4)), at(4));
    ada.take(&clone.bundle(at(5)), at(5));
    ada.event("three", 20_000);
    assert_eq!(ada.events(), ["one", "other", "two", "three"]);
    let logs = ada.replica.logs().logs().filter(|held| *held.id() != log);
    let epochs: Vec<_> = logs
        .flat_map(|held| held.entries(0, 9).map(|entry| (entry.payload().unwrap().to_vec(), entry.epoch)))
        .collect();
    assert_eq!(epochs, [(b"two".to_vec(), 9), (b"three".to_vec(), 0)]);
}
