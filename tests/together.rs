//! What several parts of a frame or a bundle do together, where each alone is well.

use consilience::BundleError;
use consilience::sync::{DecodeError, LogKind};
use consilience_test_support::hand;
use consilience_test_support::replicas::{How, Node, at, mesh};

const DAY: u64 = 86_400_000;

/// Evidence of a fork and less than what counts of the log come at once.
#[test]
fn an_own_event_beyond_what_comes_with_the_evidence_is_appended_again() {
    for together in [false, true] {
        let (mut ada, mut bob, mut eve) = (Node::fresh(0, 1), Node::fresh(1, 2), Node::fresh(2, 4));
        let mut log = None;
        for number in 0..6 {
            log = Some(ada.event(&format!("e{number}"), number + 1).log);
        }
        let log = log.unwrap();
        ada.tell(&mut bob, at(10));
        let disk = ada.disk();
        // Two clones go on, and eve sees that they differ.
        let mut left = Node::open(0, 6, disk.clone(), How::Resumed, at(11));
        let mut right = Node::open(0, 8, disk.clone(), How::Resumed, at(11));
        for number in 0..4 {
            left.event(&format!("left {number}"), 20 + number);
            right.event(&format!("right {number}"), 20 + number);
        }
        left.tell(&mut eve, at(30));
        right.store();
        let bundle = right.replica.export_bundle(|_| true, None, at(30)).unwrap();
        eve.take(&bundle, at(31));
        let evidence = eve.replica.logs().evidence(&log).unwrap().clone();
        // Of that, bob gets the evidence alone.
        let opening = eve.replica.logs().log(&log).unwrap().opening().encode(&mesh());
        bob.take(&hand::bundle(&mesh(), &[(1, opening.clone()), (5, evidence.as_bytes().to_vec())]), at(32));
        assert_eq!(bob.events().len(), 6);
        // Ada herself, after a restart, has one more that nobody has.
        let mut ada = Node::open(0, 10, disk, How::Resumed, at(33));
        ada.event("mine", 34);
        if !together {
            ada.take(&hand::bundle(&mesh(), &[(1, opening), (5, evidence.as_bytes().to_vec())]), at(35));
        }
        let bundle = bob.replica.export_bundle(|_| true, None, at(36)).unwrap();
        ada.take(&bundle, at(36));
        ada.replica.handle_timeout(at(60_000));
        ada.store();
        let all = ["e0", "e1", "e2", "e3", "e4", "e5", "mine"];
        assert_eq!(ada.events(), all, "together: {together}");
        ada.tell(&mut bob, at(60_001));
        assert_eq!(bob.events(), all, "together: {together}");
    }
}

/// Bytes that are no bundle say nothing of what an earlier incarnation left.
#[test]
fn bytes_that_are_no_bundle_are_no_peer_that_was_met() {
    let mut ada = Node::fresh(0, 1);
    ada.set("k", "v", at(1));
    let mut ada = Node::open(0, 3, ada.disk(), How::Restored, at(2));
    assert!(matches!(ada.replica.import_bundle(b"", at(3)), Err(BundleError::Decode(_))));
    ada.set("x", "y", at(4));
    let (log, size) = ada.own_log().unwrap();
    assert_eq!(size, 1, "nothing is taken over before a peer was met: {log:?}");
}

/// Ada's replica, in which a later incarnation has taken over what an earlier one wrote.
fn taken_over(agent: u8, bob: &mut Node) -> Node {
    let mut ada = Node::fresh(agent, 1);
    ada.set("k", "v", at(1));
    ada.tell(bob, at(2));
    let mut ada = Node::open(agent, 3, ada.disk(), How::Restored, at(3));
    bob.tell(&mut ada, at(4));
    ada.replica.declare_alone();
    ada.set("x", "y", at(5));
    ada.tell(bob, at(6));
    ada
}

/// A clock that was wrong once ends no time that is to pass.
#[test]
fn what_was_taken_over_is_kept_though_the_clock_was_ahead_once() {
    let mut bob = Node::fresh(1, 2);
    let _ada = taken_over(0, &mut bob);
    let kept = |bob: &Node| {
        let state = bob.replica.logs().logs().filter(|log| log.opening().kind == LogKind::State);
        state.map(|log| log.start()).max().unwrap()
    };
    bob.replica.handle_timeout(at(10));
    assert_eq!(kept(&bob), 0);
    // For one call.
    let _ = bob.replica.import_bundle(b"", at(40 * DAY));
    bob.replica.append_event(bob.writer, "other", b"x", at(40 * DAY)).unwrap();
    bob.replica.handle_timeout(at(20));
    assert_eq!(kept(&bob), 0);
}

/// An agent has taken over its earlier log, and runs twice from one copy of its storage, so the later log forks. One peer sees
/// months pass, between any two steps, and the other does not.
#[test]
fn a_fork_of_a_successor_leaves_one_state_whichever_peer_sees_months_pass() {
    const KEYS: u64 = 6;
    for months in 0..4 {
        let (mut bob, mut carol) = (Node::fresh(1, 2), Node::fresh(2, 4));
        let sleep = |bob: &mut Node, step| {
            if step == months {
                bob.replica.handle_timeout(at(40 * DAY));
                bob.store();
                let disk = bob.disk();
                *bob = Node::open(1, 6, disk, How::Resumed, at(80 * DAY));
            }
        };
        let now = |ms| at(90 * DAY + ms);
        let mut ada = Node::fresh(0, 1);
        for key in 0..KEYS {
            ada.set(&format!("k{key}"), "v", at(1 + key));
        }
        ada.tell(&mut bob, at(10));
        ada.tell(&mut carol, at(10));
        sleep(&mut bob, 0);
        let mut ada = Node::open(0, 3, ada.disk(), How::Restored, at(11));
        carol.tell(&mut ada, at(12));
        ada.replica.declare_alone();
        ada.set("x", "y", at(13));
        ada.tell(&mut bob, at(14));
        ada.tell(&mut carol, at(14));
        sleep(&mut bob, 1);
        let disk = ada.disk();
        let mut left = Node::open(0, 8, disk.clone(), How::Resumed, at(15));
        let mut right = Node::open(0, 10, disk, How::Resumed, at(15));
        left.set("left", "l", at(16));
        right.set("right", "r", at(16));
        left.tell(&mut bob, at(17));
        right.tell(&mut carol, at(17));
        sleep(&mut bob, 2);
        let mut equal = 0;
        let mut check = |bob: &Node, carol: &Node| {
            let root = |node: &Node| node.replica.logs().clone().heads_root();
            let same = root(bob) == root(carol);
            assert_eq!(same, bob.state() == carol.state(), "months pass at {months}: roots and states");
            equal += u32::from(same);
        };
        check(&bob, &carol);
        bob.tell(&mut carol, now(1));
        check(&bob, &carol);
        sleep(&mut bob, 3);
        carol.tell(&mut bob, now(2));
        check(&bob, &carol);
        bob.tell(&mut carol, now(3));
        check(&bob, &carol);
        // Both processes learn of the fork, and write again what either had.
        for node in [&mut left, &mut right] {
            bob.tell(node, now(4));
            node.replica.handle_timeout(now(20_000));
            node.tell(&mut bob, now(20_001));
        }
        bob.tell(&mut carol, now(20_002));
        carol.tell(&mut bob, now(20_003));
        check(&bob, &carol);
        assert!(equal >= 2, "months pass at {months}");
        for node in [&bob, &carol] {
            for key in (0..KEYS).map(|key| format!("k{key}")).chain(["x", "left", "right"].map(String::from))
            {
                assert!(node.get(&key).is_some(), "months pass at {months}: {key}");
            }
        }
    }
}

#[test]
fn one_bundle_brings_all_of_an_agent_that_took_its_earlier_logs_over() {
    let mut missing = Vec::new();
    for agent in 3..23 {
        let mut bob = Node::fresh(1, 2);
        let _ada = taken_over(agent, &mut bob);
        bob.replica.handle_timeout(at(40 * DAY));
        bob.store();
        let old = bob.replica.logs().logs().filter(|log| log.opening().agent != bob.writer.id());
        assert_eq!(
            old.filter(|log| log.opening().kind == LogKind::State).count(),
            1,
            "the last of them alone"
        );
        let mut bundle = bob.replica.export_bundle(|_| true, None, at(40 * DAY)).unwrap();
        // Whole, and with a fault behind the last part.
        for whole in [true, false] {
            let mut cat = Node::fresh(2, 4);
            if whole {
                let imported = cat.replica.import_bundle(&bundle, at(40 * DAY)).unwrap();
                assert_eq!((imported.refused, imported.early), (0, 0), "{agent}");
            } else {
                bundle.extend([1, 15]);
                let error = cat.replica.import_bundle(&bundle, at(40 * DAY)).unwrap_err();
                assert_eq!(error, BundleError::Decode(DecodeError::Kind));
            }
            if cat.replica.summary() != bob.replica.summary() {
                missing.push((agent, whole));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}
