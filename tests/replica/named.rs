//! The promises about maps and sets, one by one.

use consilience::crdts::Hlc;
use consilience::sync::session::SessionOptions;
use consilience::sync::{
    Allowance, Keypair, Log, LogKind, MeshSecret, NewEntry, RangeForm, Signer, VerifyBudget,
};
use consilience::{Config, Notice, Opened, Replica, WriteError};

use super::hand::{Hand, on_tasks, op_carry, op_end, op_remove, op_set, payload};
use super::world::{Disk, How, Node, START, TOPIC, at, converge, mesh, secret, topic};

const DAY: u64 = 24 * 3_600_000;

fn three() -> [Node; 3] {
    [Node::fresh(0, 1), Node::fresh(1, 2), Node::fresh(2, 4)]
}

fn stamp(ms: u64) -> Hlc {
    Hlc::new(at(ms), 0)
}

fn value(replica: &Replica, key: &str) -> Option<String> {
    let view = replica.topic(TOPIC).unwrap();
    view.map("tasks").get(key).map(|live| String::from_utf8(live.value.to_vec()).unwrap())
}

#[test]
fn two_replicas_share_a_map() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    ada.set("t1", "draft", at(1));
    ada.tell(&mut bob, at(2));
    assert_eq!(bob.get("t1").as_deref(), Some("draft"));
    bob.set("t1", "done", at(3));
    bob.remove("t2", at(3));
    bob.tell(&mut ada, at(4));
    assert_eq!(ada.get("t1").as_deref(), Some("done"));
    ada.remove("t1", at(5));
    ada.tell(&mut bob, at(6));
    assert_eq!(bob.get("t1"), None);
}

#[test]
fn a_removal_of_what_does_not_exist_yet_has_no_effect() {
    let mut ada = Node::fresh(0, 1);
    ada.set("t0", "first", at(1));
    let (log, size) = ada.own_log().unwrap();
    assert_eq!(size, 1);
    // Mallory names what ada will write next, with every tag that it could guess.
    let mut mallory = Hand::new(8, 5);
    for guess in 0..64_u32 {
        let names: Vec<_> = (0..64).map(|low| (0, 1, 0, (guess << 8 | low).to_be_bytes())).collect();
        mallory.append(&on_tasks(&[log.alias()], op_end(&names)), stamp(2));
        mallory.append(&on_tasks(&[log.alias()], op_remove("t1", &names)), stamp(2));
    }
    let (mut before, mut after) = (Node::fresh(1, 2), Node::fresh(2, 4));
    let bundle = mallory.bundle(at(3));
    assert_eq!(before.take(&bundle, at(3)).entries, 128);
    ada.take(&bundle, at(3));
    ada.set("t1", "second", at(4));
    ada.tell(&mut before, at(5));
    ada.tell(&mut after, at(5));
    after.take(&bundle, at(6));
    for node in [&ada, &before, &after] {
        assert_eq!((node.get("t0").as_deref(), node.get("t1").as_deref()), (Some("first"), Some("second")));
        assert_eq!(node.state(), ada.state());
    }
    // Once it is born, whoever has seen it can end it.
    let tag = ada.replica.logs().log(&log).unwrap().leaf(1).unwrap();
    let tag = *tag.as_bytes().first_chunk().unwrap();
    mallory.append(&on_tasks(&[log.alias()], op_end(&[(0, 1, 0, tag)])), stamp(7));
    let bundle = mallory.bundle(at(7));
    for node in [&mut ada, &mut before, &mut after] {
        node.take(&bundle, at(8));
        assert_eq!((node.get("t0").as_deref(), node.get("t1")), (Some("first"), None));
    }
    assert_eq!(ada.state(), before.state());
}

#[test]
fn a_removal_that_was_signed_before_its_write_has_no_effect_though_the_write_was_guessed() {
    const GUESSED_MS: u64 = 5_000;
    let mut ada = Node::fresh(0, 1);
    ada.set("t0", "first", at(1));
    let mut before = Node::fresh(1, 2);
    ada.tell(&mut before, at(2));
    // Mallory goes on in a copy of Ada's log as Ada would: with the write that is known to come, at each millisecond of
    // five seconds.
    let (id, size) = ada.own_log().unwrap();
    let held = ada.replica.logs().log(&id).unwrap();
    let (bytes, _) = held.range(0, size, RangeForm::Follow, usize::MAX).unwrap();
    let mut copy = Log::new(held.opening().clone(), &mesh()).unwrap();
    copy.receive(&bytes, &Allowance::ANY, &mut VerifyBudget::new()).unwrap();
    let guess = on_tasks(&[], op_set("door", "open", &[]));
    let mut names = Vec::new();
    for ms in 3..3 + GUESSED_MS {
        copy.append(&NewEntry::new(stamp(ms), &guess)).unwrap();
        names.push((0, size, 0, *copy.leaf(size).unwrap().as_bytes().first_chunk().unwrap()));
        copy.discard_unsigned();
    }
    names.sort_unstable();
    names.dedup();
    let removal = on_tasks(&[id.alias()], op_end(&names));
    assert!(removal.len() <= 7 * GUESSED_MS as usize + 64, "{} bytes", removal.len());
    let mut mallory = Hand::new(8, 5);
    mallory.append(&removal, stamp(2));
    let bundle = mallory.bundle(at(3));
    let mut after = Node::fresh(2, 4);
    for node in [&mut ada, &mut before] {
        assert_eq!(node.take(&bundle, at(3)).entries, 1);
    }
    ada.set("door", "open", at(2_345));
    // All was guessed that can be.
    let written = ada.replica.logs().log(&id).unwrap().entry(size).unwrap();
    assert_eq!((written.hlc, written.base, written.payload()), (stamp(2_345), 0, Some(&guess[..])));
    ada.tell(&mut before, at(2_346));
    ada.tell(&mut after, at(2_346));
    after.take(&bundle, at(2_347));
    for node in [&ada, &before, &after] {
        assert_eq!(node.get("door").as_deref(), Some("open"), "agent {}", node.agent);
        assert_eq!(node.state(), ada.state());
    }
}

#[test]
fn an_entry_with_an_epoch_says_nothing_and_is_held_and_passed_on() {
    let [mut ada, mut bob, mut eve] = three();
    ada.set("t", "clear", at(1));
    ada.tell(&mut bob, at(2));
    let (log, _) = ada.own_log().unwrap();
    let tag = *ada.replica.logs().log(&log).unwrap().leaf(0).unwrap().as_bytes().first_chunk().unwrap();
    // Each of these would count without the epoch.
    let removal = on_tasks(&[log.alias()], op_end(&[(0, 0, 0, tag)]));
    let write = on_tasks(&[], op_set("u", "encrypted", &[]));
    let mut mallory = Hand::new(8, 5);
    for (payload, seq) in [&removal, &write].into_iter().zip(0..) {
        let entry = NewEntry { epoch: 7, ..NewEntry::new(stamp(3 + seq), payload) };
        assert_eq!(mallory.append_entry(&entry), seq);
    }
    mallory.append_entry(&NewEntry::new(stamp(5), &on_tasks(&[], op_set("v", "clear", &[]))));
    let bundle = mallory.bundle(at(6));
    bob.notices();
    assert_eq!(bob.take(&bundle, at(6)).entries, 3);
    let unread: Vec<u64> = bob
        .notices()
        .into_iter()
        .filter_map(|notice| if let Notice::NeedsUpgrade { seq, .. } = notice { Some(seq) } else { None })
        .collect();
    assert_eq!(unread, [0, 1]);
    bob.tell(&mut ada, at(7));
    bob.tell(&mut eve, at(7));
    for node in [&ada, &bob, &eve] {
        assert_eq!((node.get("t").as_deref(), node.get("u")), (Some("clear"), None));
        assert_eq!(node.get("v").as_deref(), Some("clear"));
        let held = node.replica.logs().log(&mallory.log).unwrap();
        assert_eq!(held.entry(1).unwrap().payload(), Some(&write[..]));
        assert!(held.entry(1).unwrap().is_opaque() && !held.entry(2).unwrap().is_opaque());
        assert_eq!(node.state(), ada.state());
    }
    // In the clear, the same removal counts.
    mallory.append_entry(&NewEntry::new(stamp(8), &removal));
    let bundle = mallory.bundle(at(9));
    for node in [&mut ada, &mut bob, &mut eve] {
        node.take(&bundle, at(9));
        assert_eq!(node.get("t"), None);
    }
}

#[test]
fn nothing_removed_reappears_once_a_replica_holds_what_the_remover_held() {
    let [mut ada, mut bob, mut eve] = three();
    for number in 0..12 {
        ada.set(&format!("t{number}"), "x", at(number));
    }
    ada.tell(&mut bob, at(20));
    ada.tell(&mut eve, at(20));
    for number in 0..12 {
        bob.remove(&format!("t{number}"), at(30 + number));
    }
    // Everything that follows carries, collects and drops, in all orders.
    for round in 0..20 {
        bob.set("fill", &format!("{round}"), at(100 + round * 10));
        ada.set("more", &format!("{round}"), at(101 + round * 10));
        bob.tell(&mut ada, at(102 + round * 10));
        ada.tell(&mut bob, at(103 + round * 10));
    }
    // Eve never heard of it, and writes all along.
    eve.set("t1", "again", at(90));
    for number in [0, 2, 11] {
        assert_eq!(eve.get(&format!("t{number}")).as_deref(), Some("x"));
    }
    bob.tell(&mut eve, at(400));
    eve.tell(&mut ada, at(401));
    eve.tell(&mut bob, at(401));
    // One who joins late, from whomever.
    let mut late = Node::fresh(3, 8);
    eve.tell(&mut late, at(402));
    bob.tell(&mut late, at(402));
    ada.tell(&mut late, at(403));
    let mut all = [ada, bob, eve, late];
    converge(&mut all, at(404));
    for node in &all {
        assert_eq!(node.state(), all[0].state());
        for number in (0..12).filter(|number| *number != 1) {
            assert_eq!(node.get(&format!("t{number}")), None, "agent {}", node.agent);
        }
        assert_eq!(node.get("t1").as_deref(), Some("again"), "that was concurrent");
    }
}

#[test]
fn what_was_removed_stays_removed_in_whatever_order_it_comes() {
    let [mut ada, mut bob, mut eve] = three();
    ada.set("t", "x", at(1));
    ada.tell(&mut bob, at(2));
    ada.tell(&mut eve, at(2));
    bob.remove("t", at(3));
    // The removal comes before what it removes.
    let mut late = Node::fresh(3, 8);
    let bundle = bob.replica.export_bundle(|_| true, None, at(4)).unwrap();
    late.take(&bundle, at(4));
    eve.tell(&mut late, at(5));
    ada.tell(&mut late, at(5));
    assert_eq!(late.get("t"), None);
    bob.tell(&mut ada, at(6));
    ada.set("other", "y", at(7));
    for round in 0..30 {
        bob.set("fill", &format!("{round}"), at(10 + round));
        ada.set("fill2", &format!("{round}"), at(10 + round));
        ada.tell(&mut bob, at(10 + round));
        bob.tell(&mut ada, at(10 + round));
    }
    for node in [&ada, &bob, &late] {
        assert_eq!(node.get("t"), None);
    }
    let mut all = [ada, bob, eve, late];
    converge(&mut all, at(100));
    for node in &all {
        assert_eq!((node.get("t"), node.get("other").as_deref()), (None, Some("y")));
        assert_eq!(node.state(), all[0].state());
    }
}

#[test]
fn a_writer_that_slept_for_a_year_comes_back_without_harm() {
    let [mut ada, mut bob, mut sleeper] = three();
    for number in 0..8 {
        sleeper.set(&format!("old{number}"), "kept", at(number));
    }
    sleeper.tell(&mut ada, at(10));
    sleeper.tell(&mut bob, at(10));
    ada.remove("old0", at(11));
    ada.tell(&mut sleeper, at(12));
    ada.set("shared", "before", at(13));
    ada.tell(&mut sleeper, at(14));
    // What the sleeper wrote last nobody has seen.
    sleeper.set("unseen", "news", at(15));
    sleeper.set("shared", "from sleep", at(16));
    bob.remove("old1", at(17));
    for day in 1..=365 {
        let now = at(day * DAY);
        for node in [&mut ada, &mut bob] {
            node.replica.handle_timeout(now);
            node.set("day", &day.to_string(), now);
        }
        ada.set(&format!("k{}", day % 7), &day.to_string(), now);
        bob.remove(&format!("k{}", (day + 3) % 7), now);
        ada.tell(&mut bob, now);
        bob.tell(&mut ada, now);
    }
    let stats = ada.replica.stats(Some(&topic()));
    assert!(stats.stored < 8_000, "a year of the same keys takes {stats:?}");
    let now = at(366 * DAY);
    let mut all = [ada, bob, sleeper];
    for node in &mut all {
        node.replica.handle_timeout(now);
    }
    all[2].set("awake", "yes", now);
    converge(&mut all, now);
    for node in &all {
        assert_eq!(node.state(), all[0].state());
        assert_eq!((node.get("old0"), node.get("old1")), (None, None), "collected long ago");
        for number in 2..8 {
            assert_eq!(node.get(&format!("old{number}")).as_deref(), Some("kept"));
        }
        assert_eq!(node.get("unseen").as_deref(), Some("news"));
        assert_eq!(node.get("shared").as_deref(), Some("from sleep"));
        assert_eq!((node.get("awake").as_deref(), node.get("day").as_deref()), (Some("yes"), Some("365")));
        assert!(node.replica.logs().logs().all(|log| node.replica.logs().evidence(log.id()).is_none()));
    }
}

#[test]
fn of_a_concurrent_set_and_removal_the_set_stays() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    ada.set("t", "one", at(1));
    ada.tell(&mut bob, at(2));
    bob.remove("t", at(9));
    ada.set("t", "two", at(3));
    let mut all = [ada, bob];
    converge(&mut all, at(10));
    assert!(all.iter().all(|node| node.get("t").as_deref() == Some("two")));

    let [ada, bob] = &mut all;
    ada.write(at(11), |tx| tx.set("members").insert("eve").unwrap());
    ada.tell(bob, at(12));
    bob.write(at(20), |tx| tx.set("members").remove("eve").unwrap());
    ada.write(at(13), |tx| tx.set("members").insert("eve").unwrap());
    converge(&mut all, at(21));
    assert!(all.iter().all(|node| node.replica.topic(TOPIC).unwrap().set("members").contains("eve")));
}

#[test]
fn of_two_concurrent_sets_the_greatest_stamp_wins_and_both_are_shown() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    bob.set("t", "late", at(50));
    ada.set("t", "early", at(1));
    ada.tell(&mut bob, at(51));
    bob.tell(&mut ada, at(51));
    for node in [&ada, &bob] {
        let view = node.replica.topic(TOPIC).unwrap().map("tasks");
        let all: Vec<_> = view.conflicts("t").iter().map(|live| (live.value, live.author)).collect();
        assert_eq!(all, [(&b"late"[..], bob.writer.id()), (&b"early"[..], ada.writer.id())]);
        assert_eq!(view.get("t").unwrap().stamp.time(), at(50));
        assert_eq!((view.len(), view.iter().count()), (1, 1));
    }
    // Whoever writes next ends both.
    ada.set("t", "settled", at(52));
    ada.tell(&mut bob, at(53));
    assert_eq!(bob.replica.topic(TOPIC).unwrap().map("tasks").conflicts("t").len(), 1);
    assert_eq!(bob.get("t").as_deref(), Some("settled"));
}

#[test]
fn a_write_that_saw_another_beats_it_whatever_the_clocks_said() {
    // Bob's clock is ten years slow.
    let mut ada = Node::fresh(0, 1);
    let past = consilience::crdts::Timestamp::from_millis(START - 3_650 * DAY);
    let mut bob = Node::open(1, 2, Disk::default(), How::Fresh, past);
    ada.set("t", "now", at(1));
    // Ada's log is from bob's future: it waits, and that is told.
    let bundle = ada.replica.export_bundle(|_| true, None, at(2)).unwrap();
    let imported = bob.take(&bundle, past);
    assert_eq!((imported.logs, imported.ahead, imported.entries), (1, 1, 0));
    assert_eq!(bob.get("t"), None);
    bob.set("t", "from the past", past);
    bob.tell(&mut ada, at(3));
    assert_eq!(ada.get("t").as_deref(), Some("now"), "the two are concurrent");
    // Ada has seen it: her next write beats it, as does anybody's who saw hers.
    ada.set("t", "later", at(4));
    let mut eve = Node::open(2, 4, Disk::default(), How::Fresh, at(0));
    ada.tell(&mut eve, at(5));
    // Eve's clock is slow by less than what may be ahead.
    eve.replica.handle_timeout(at(0));
    eve.set("t", "seen", at(0));
    eve.tell(&mut ada, at(6));
    assert_eq!(ada.get("t").as_deref(), Some("seen"));
    assert_eq!(ada.state(), eve.state());
    // Time passes for bob.
    bob.replica.handle_timeout(at(7));
    ada.tell(&mut bob, at(8));
    assert_eq!(bob.get("t").as_deref(), Some("seen"));
}

/// Its clock was right when it came, and wrong when it wrote: who saw the stamp from the future beats it all the same.
#[test]
fn a_stamp_from_the_future_holds_no_key() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    let wrong = at(3_650 * DAY);
    bob.set("early", "x", at(0));
    bob.set("t", "from the future", wrong);
    let bundle = bob.replica.export_bundle(|_| true, None, wrong).unwrap();
    ada.take(&bundle, at(1));
    assert_eq!(ada.get("t"), None, "deferred");
    let told = ada.notices();
    let deferred = told.iter().filter(|notice| matches!(notice, Notice::Deferred { from: 1, .. })).count();
    assert_eq!(deferred, 1, "{told:?}");
    assert_eq!(ada.replica.poll_timeout(), Some(at(3_650 * DAY - 120_000)));
    ada.set("t", "here", at(2));
    ada.replica.handle_timeout(at(3_650 * DAY - 120_000));
    assert_eq!(ada.get("t").as_deref(), Some("from the future"), "the two were concurrent");
    ada.set("t", "seen", at(3_650 * DAY - 120_000));
    assert_eq!(ada.get("t").as_deref(), Some("seen"));
    assert_eq!(ada.replica.topic(TOPIC).unwrap().map("tasks").conflicts("t").len(), 1);
    ada.state();
}

#[test]
fn a_writer_whose_clock_was_ahead_restamps_in_its_next_incarnation() {
    for reopened in [false, true] {
        let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
        bob.set("early", "kept", at(0));
        let wrong = at(3_650 * DAY);
        bob.set("t", "from the future", wrong);
        bob.write(wrong, |tx| tx.set("members").insert("bob").unwrap());
        bob.store();
        let (before, _) = bob.own_log().unwrap();
        bob.notices();
        if reopened {
            bob = Node::open(1, 6, bob.disk(), How::Resumed, at(10));
        }
        // The clock is repaired.
        bob.replica.trust_clock(at(10));
        for round in 0..5 {
            bob.set(&format!("r{round}"), "x", at(10 + round));
        }
        let restamped = bob.notices();
        let count = restamped.iter().filter(|notice| matches!(notice, Notice::Restamped { .. })).count();
        assert_eq!(count, 1, "reopened {reopened}: {restamped:?}");
        let (after, _) = bob.own_log().unwrap();
        assert_ne!(before, after);
        assert_eq!(bob.replica.logs().logs().count(), 2, "one next incarnation, not one for each write");
        bob.tell(&mut ada, at(20));
        for (key, value) in [("t", "from the future"), ("early", "kept"), ("r0", "x"), ("r4", "x")] {
            assert_eq!(ada.get(key).as_deref(), Some(value), "reopened {reopened}: {key}");
        }
        assert!(ada.replica.topic(TOPIC).unwrap().set("members").contains("bob"));
        let stamp = ada.replica.topic(TOPIC).unwrap().map("tasks").get("t").unwrap().stamp;
        assert!(stamp <= Hlc::new(at(120_020), 0), "{stamp:?}");
        bob.state();
        ada.state();
    }
}

#[test]
fn a_writer_whose_clock_was_ahead_restamps_before_it_meets_anybody() {
    let mut bob = Node::fresh(1, 2);
    bob.set("t", "from the future", at(3_650 * DAY));
    bob.store();
    let mut bob = Node::open(1, 6, bob.disk(), How::Resumed, at(10));
    bob.replica.trust_clock(at(11));
    bob.store();
    assert!(bob.notices().iter().any(|notice| matches!(notice, Notice::Restamped { .. })));
    let mut ada = Node::fresh(0, 1);
    bob.tell(&mut ada, at(20));
    assert_eq!(ada.get("t").as_deref(), Some("from the future"));
    // Once.
    assert!(bob.replica.connect(bob.writer, SessionOptions::dial(), at(21)).is_ok());
    assert!(bob.notices().is_empty());
    bob.state();
    ada.state();
}

/// Two processes with the same storage: both go on, and the log is forked.
pub(crate) fn clones() -> (Node, Node, Node) {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    ada.set("common", "c", at(1));
    ada.tell(&mut bob, at(2));
    let mut clone = Node::open(0, 6, ada.disk(), How::Resumed, at(3));
    ada.set("left", "l", at(4));
    clone.set("right", "r", at(5));
    ada.tell(&mut bob, at(6));
    (ada, clone, bob)
}

#[test]
fn a_forked_state_log_is_void_and_its_owner_writes_again() {
    let (mut ada, mut clone, mut bob) = clones();
    assert_eq!((bob.get("common").as_deref(), bob.get("left").as_deref()), (Some("c"), Some("l")));
    let (log, _) = ada.own_log().unwrap();
    clone.tell(&mut bob, at(7));
    let told = bob.notices();
    assert!(
        told.iter().any(|notice| matches!(notice, Notice::Forked { valid_below: 0, log: opening }
            if opening.log_id(&mesh()) == log)),
        "{told:?}"
    );
    assert_eq!((bob.get("common"), bob.get("left"), bob.get("right")), (None, None, None));
    bob.state();
    // The owners hear of it, and write again what they had.
    bob.tell(&mut ada, at(8));
    assert!(ada.notices().iter().any(|notice| matches!(notice, Notice::Forked { .. })));
    bob.tell(&mut clone, at(8));
    ada.set("after", "a", at(9));
    clone.set("beyond", "b", at(9));
    let mut all = [ada, clone, bob];
    converge(&mut all, at(10));
    for node in &all {
        for (key, value) in [("common", "c"), ("left", "l"), ("right", "r"), ("after", "a"), ("beyond", "b")]
        {
            assert_eq!(node.get(key).as_deref(), Some(value), "{key}");
        }
        assert_eq!(node.state(), all[0].state());
    }
}

#[test]
fn what_a_void_log_said_is_stored_again_with_the_evidence() {
    let (mut ada, mut clone, mut bob) = clones();
    clone.tell(&mut bob, at(7));
    // What the owner had is in the record that makes its log void, or the next: without any commit of its own.
    bob.tell(&mut ada, at(8));
    let ada = Node::open(0, 9, ada.disk(), How::Resumed, at(9));
    assert_eq!((ada.get("common").as_deref(), ada.get("left").as_deref()), (Some("c"), Some("l")));
    ada.state();
}

#[test]
fn what_is_written_again_after_a_fork_does_not_win_over_what_is_newer() {
    let (mut ada, mut clone, mut bob) = clones();
    let mut eve = Node::fresh(2, 4);
    ada.tell(&mut eve, at(7));
    bob.set("common", "newer", at(8));
    // The clone hears of the fork from somebody who does not know of the newer value either.
    clone.tell(&mut eve, at(20));
    eve.tell(&mut clone, at(21));
    assert_eq!(clone.get("common").as_deref(), Some("c"));
    // And so does the other, after it has gone on.
    eve.tell(&mut ada, at(22));
    ada.set("after", "a", at(23));
    let mut all = [ada, clone, bob, eve];
    converge(&mut all, at(30));
    for node in &all {
        for (key, value) in [("common", "newer"), ("left", "l"), ("right", "r"), ("after", "a")] {
            assert_eq!(node.get(key).as_deref(), Some(value), "{key}");
        }
    }
}

#[test]
fn a_fork_that_shows_against_an_own_head_is_stored() {
    let (mut ada, mut clone, _) = clones();
    // Ada's own heads are not stored, so only the evidence says what the range has shown.
    clone.tell(&mut ada, at(9));
    let log =
        *ada.replica.logs().logs().find(|log| ada.replica.logs().evidence(log.id()).is_some()).unwrap().id();
    let state = ada.state();
    let again = Node::open(0, 9, ada.disk(), How::Resumed, at(10));
    assert!(again.replica.logs().evidence(&log).is_some());
    assert_eq!(again.state(), state);
}

#[test]
fn a_malformed_payload_says_nothing_and_is_reported() {
    let mut mallory = Hand::new(8, 5);
    mallory.append(&on_tasks(&[], op_set("t", "good", &[])), stamp(1));
    let mut bad = on_tasks(&[], op_set("t", "bad", &[]));
    bad.push(0);
    for payload in [&bad[..], b"", &[0], &[1], &[1, 0, 0]] {
        mallory.append(payload, stamp(2));
    }
    mallory.append(&on_tasks(&[], op_set("u", "good", &[])), stamp(3));
    let mut ada = Node::fresh(0, 1);
    ada.take(&mallory.bundle(at(4)), at(4));
    let reported: Vec<u64> = ada
        .notices()
        .into_iter()
        .map(|notice| match notice {
            Notice::Malformed { seq, .. } => seq,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(reported, [1, 2, 3, 4, 5]);
    assert_eq!((ada.get("t").as_deref(), ada.get("u").as_deref()), (Some("good"), Some("good")));
    ada.state();
    // It is held and passed on as it is.
    let mut bob = Node::fresh(1, 2);
    ada.tell(&mut bob, at(5));
    assert_eq!(bob.state(), ada.state());
    assert_eq!(bob.notices().len(), 5);
}

#[test]
fn a_payload_of_a_later_version_is_held_passed_on_and_reported() {
    let mut later = on_tasks(&[], op_set("t", "tomorrow", &[]));
    later[0] = 2;
    let mut mallory = Hand::new(8, 5);
    mallory.append(&later, stamp(1));
    mallory.append(&on_tasks(&[], op_set("u", "today", &[])), stamp(2));
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    ada.take(&mallory.bundle(at(4)), at(4));
    ada.tell(&mut bob, at(5));
    for node in [&mut ada, &mut bob] {
        assert!(matches!(&node.notices()[..], [Notice::NeedsUpgrade { seq: 0, .. }]));
        assert_eq!((node.get("t"), node.get("u").as_deref()), (None, Some("today")));
        assert_eq!(
            node.replica.logs().log(&mallory.log).unwrap().entry(0).unwrap().payload(),
            Some(&later[..])
        );
        node.state();
    }
}

#[test]
fn nobody_lists_what_another_agent_wrote_or_what_is_not_yet_written() {
    let mut ada = Node::fresh(0, 1);
    ada.set("t", "hers", at(1));
    let opening = ada.replica.logs().logs().next().unwrap().opening().clone();
    let mut mallory = Hand::new(8, opening.incarnation.as_u64() + 1);
    // A carried dot of a lower incarnation has to be the writer's own; ada's number stands for another log here.
    let carry = op_carry(opening.incarnation.as_u64(), 0, 0, [0; 4], stamp(2), "t", "mine");
    mallory.append(&on_tasks(&[], carry), stamp(2));
    // And retiring an incarnation is about the writer's own too.
    mallory.close(&[(opening.incarnation.as_u64(), 9)], &payload(&[], &[]), stamp(3));
    // A stamp above the entry's.
    let carry = op_carry(1, 0, 0, [0; 4], stamp(50), "v", "future");
    let tasks = super::hand::map_id("tasks");
    mallory.close(&[(1, 9)], &payload(&[], &[(tasks, vec![carry])]), stamp(4));
    let mut bob = Node::fresh(1, 2);
    bob.take(&mallory.bundle(at(5)), at(5));
    ada.tell(&mut bob, at(6));
    bob.tell(&mut ada, at(7));
    for node in [&ada, &bob] {
        let view = node.replica.topic(TOPIC).unwrap().map("tasks");
        let all: Vec<_> = view.conflicts("t").iter().map(|live| (live.value, live.author)).collect();
        // What it says is its own word, beside hers.
        assert_eq!(all, [(&b"mine"[..], mallory.keys().agent()), (b"hers", ada.writer.id())]);
        assert_eq!(node.get("v"), None);
        assert_eq!(node.state(), ada.state());
    }
}

/// A removal counts as long as the entry that states it: a hostile writer that gives it up too early harms what it
/// removed alone, and everybody alike.
#[test]
fn what_a_base_gives_up_is_gone_in_whatever_order_it_comes() {
    let mut ada = Node::fresh(0, 1);
    ada.set("t", "hers", at(1));
    let log = ada.own_log().unwrap().0;
    let tag = *ada.replica.logs().log(&log).unwrap().leaf(0).unwrap().as_bytes().first_chunk().unwrap();
    let mut mallory = Hand::new(8, 5);
    mallory.append(&on_tasks(&[], op_set("m", "its own", &[])), stamp(2));
    let mut eve = Hand::new(9, 5);
    eve.append(&on_tasks(&[mallory.log.alias()], op_end(&[(0, 0, 0, mallory.tag(0))])), stamp(2));
    mallory.append(&on_tasks(&[log.alias()], op_end(&[(0, 0, 0, tag)])), stamp(3));
    mallory.append(&on_tasks(&[], op_set("n", "kept", &[])), stamp(4));
    let early = mallory.bundle(at(5));
    mallory.append_with_base(&[1, 0], 2, stamp(6));
    let late = mallory.bundle(at(7));
    let mut states = Vec::new();
    for bundles in [vec![&early, &late], vec![&late], vec![&late, &early]] {
        for eve_first in [false, true] {
            let mut bob = Node::fresh(1, 2);
            if eve_first {
                bob.take(&eve.bundle(at(8)), at(8));
            }
            ada.tell(&mut bob, at(8));
            for bundle in &bundles {
                bob.take(bundle, at(9));
            }
            bob.take(&eve.bundle(at(10)), at(10));
            assert_eq!((bob.get("t").as_deref(), bob.get("m")), (Some("hers"), None));
            assert_eq!(bob.get("n").as_deref(), Some("kept"));
            states.push(bob.state());
        }
    }
    assert!(states.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn values_of_sixty_kibibytes_fit_and_no_more() {
    let mut ada = Node::fresh(0, 1);
    let full = vec![7; 61_440];
    let mut tx = ada.replica.transact(ada.writer, TOPIC, at(1)).unwrap();
    assert_eq!(tx.map("m").set("k", vec![7; 61_441]), Err(WriteError::ValueTooLarge { bytes: 61_441 }));
    assert_eq!(tx.map("m").set([0; 4_097], "v"), Err(WriteError::KeyTooLong { bytes: 4_097 }));
    assert_eq!(tx.set("s").insert([0; 4_097]), Err(WriteError::KeyTooLong { bytes: 4_097 }));
    assert!(tx.is_empty());
    tx.map("m").set("k", &full).unwrap();
    tx.commit().unwrap();
    ada.store();
    // Again and again, so that it is carried.
    for round in 0..6 {
        ada.set("fill", &format!("{round}"), at(2 + round));
        ada.write(at(3 + round), |tx| tx.map("m").set(format!("k{}", round % 2), &full).unwrap());
        ada.store();
    }
    let mut bob = Node::fresh(1, 2);
    ada.tell(&mut bob, at(20));
    for key in ["k", "k0", "k1"] {
        assert_eq!(bob.replica.topic(TOPIC).unwrap().map("m").get(key).unwrap().value, full);
    }
    assert_eq!(bob.state(), ada.state());
    // With the longest key and name, the largest value does not fit an entry: said so, and nothing changed.
    let before = ada.state();
    let mut tx = ada.replica.transact(ada.writer, TOPIC, at(30)).unwrap();
    tx.map(&"n".repeat(64)).set([1; 4_096], &full).unwrap();
    assert!(matches!(tx.commit(), Err(consilience::CommitError::TooLarge(_))));
    assert_eq!(ada.state(), before);
}

#[test]
fn names_of_no_byte_and_of_sixty_five_are_refused() {
    let mut ada = Node::fresh(0, 1);
    let schema = super::world::schema();
    let long = "n".repeat(65);
    let mut tx = ada.replica.transact(ada.writer, TOPIC, at(1)).unwrap();
    for name in ["", &long] {
        assert_eq!(tx.map(name).set("k", "v"), Err(WriteError::Name));
        assert_eq!(tx.map(name).remove("k"), Err(WriteError::Name));
        assert_eq!(tx.set(name).insert("k"), Err(WriteError::Name));
        let by = consilience::crdts::Units::new(3);
        assert_eq!(tx.coupling(name, schema).strengthen("k", by), Err(WriteError::Name));
        assert_eq!(tx.coupling(name, schema).reset("k"), Err(WriteError::Name));
    }
    assert_eq!(tx.commit().unwrap(), None);
    let fits = &long[1..];
    ada.write(at(2), |tx| tx.map(fits).set("k", "v").unwrap());
    let view = ada.replica.topic(TOPIC).unwrap();
    assert!(view.map(fits).get("k").is_some());
    assert!(view.map("").is_empty() && view.map(&long).is_empty() && view.set(&long).is_empty());
    assert!(view.coupling(&long, schema).sum().is_none());
}

#[test]
fn typed_values_go_in_and_come_out() {
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Task {
        title: String,
        votes: u32,
    }
    let mut ada = Node::fresh(0, 1);
    let task = Task { title: "sleep".into(), votes: 3 };
    ada.write(at(1), |tx| {
        tx.map("tasks").set_as("t", &task).unwrap();
        tx.map("tasks").set_as("n", &7_u64).unwrap();
        assert_eq!(tx.map("tasks").get("n"), Some(vec![7]));
    });
    let view = ada.replica.topic(TOPIC).unwrap().map("tasks");
    assert_eq!(view.get_as("t"), Ok(Some(task)));
    assert_eq!(view.get_as("n"), Ok(Some(7_u64)));
    assert_eq!(view.get_as::<u64>("none"), Ok(None));
    assert!(view.get_as::<(u64, u64)>("n").is_err());
    let too_large = vec![1_u8; 61_440];
    let mut tx = ada.replica.transact(ada.writer, TOPIC, at(2)).unwrap();
    assert!(matches!(tx.map("tasks").set_as("t", &too_large), Err(WriteError::ValueTooLarge { .. })));
}

#[test]
fn sets_have_elements_in_order_and_transactions_read_their_own_writes() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    ada.write(at(1), |tx| {
        for element in ["team/b", "team/a", "other", ""] {
            tx.set("members").insert(element).unwrap();
        }
        assert!(tx.set("members").contains("other"));
        tx.set("members").remove("other").unwrap();
        assert!(!tx.set("members").contains("other"));
        tx.map("members").set("a map is another", "collection").unwrap();
    });
    // Dropped, it never happened.
    let mut tx = ada.replica.transact(ada.writer, TOPIC, at(2)).unwrap();
    tx.set("members").remove("team/a").unwrap();
    drop(tx);
    ada.tell(&mut bob, at(3));
    let view = bob.replica.topic(TOPIC).unwrap();
    let elements: Vec<_> = view.set("members").iter().map(|live| live.key).collect();
    assert_eq!(elements, [&b""[..], b"team/a", b"team/b"]);
    assert_eq!(view.set("members").prefix("team/").count(), 2);
    assert_eq!(view.set("members").get("team/a").unwrap().author, ada.writer.id());
    assert_eq!((view.set("members").len(), view.map("members").len()), (3, 1));
    assert_eq!(view.map("members").prefix("a ").count(), 1);
    let kinds: Vec<_> = view.collections().map(|(kind, name, _)| (kind, name)).collect();
    assert_eq!(kinds.len(), 2);
}

#[test]
fn a_transaction_without_effect_writes_nothing() {
    let mut ada = Node::fresh(0, 1);
    assert_eq!(ada.write(at(1), |tx| tx.map("tasks").remove("none").unwrap()), None);
    assert_eq!(ada.write(at(1), |_| {}), None);
    assert_eq!(ada.replica.logs().logs().count(), 0);
    let stranger = {
        let mut other = Replica::open(Config::new(secret(), [1; 32]), Opened::Fresh, at(0)).unwrap();
        other.add_writer(Keypair::from_seed([77; 32])).unwrap()
    };
    let refused = ada.replica.transact(stranger, TOPIC, at(1)).map(drop);
    assert_eq!(refused, Err(consilience::CommitError::UnknownWriter));
    assert!(ada.replica.transact(ada.writer, "", at(1)).is_err());
}

#[test]
fn two_writers_of_one_replica_are_two_agents() {
    let mut ada = Node::fresh(0, 1);
    let second = ada.replica.add_writer(super::world::keys(1)).unwrap();
    ada.set("t", "first", at(1));
    let mut tx = ada.replica.transact(second, TOPIC, at(2)).unwrap();
    tx.map("tasks").set("t", "second").unwrap();
    tx.commit().unwrap();
    assert_eq!(value(&ada.replica, "t").as_deref(), Some("second"));
    assert_eq!(ada.replica.topic(TOPIC).unwrap().map("tasks").get("t").unwrap().author, second.id());
    assert_eq!(ada.replica.logs().logs().filter(|log| log.opening().kind == LogKind::State).count(), 2);
    assert_eq!(ada.replica.writers().count(), 2);
    ada.state();
    // Another mesh is another world, with the same keys.
    let other =
        Replica::open(Config::new(MeshSecret::from_bytes([1; 32]), [2; 32]), Opened::Fresh, at(0)).unwrap();
    assert!(other.topic(TOPIC).unwrap().map("tasks").is_empty());
}
