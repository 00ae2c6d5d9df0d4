//! Writers whose clocks were ahead: what others do not take yet is told, and once the clock is right all read the same.

use consilience::crdts::{Timestamp, Units};
use consilience::sync::Keypair;
use consilience::sync::session::{SessionId, SessionOptions};
use consilience::{Config, Notice, Opened, Replica, Transaction};

use super::world::{Disk, How, Node, TOPIC, at, schema, secret};

const DAY: u64 = 24 * 3_600_000;
/// By so much a clock is ahead.
const AHEAD: u64 = 3_650 * DAY;

fn trust(node: &Node, ms: u64) -> Units {
    node.replica.topic(TOPIC).unwrap().coupling("trust", schema()).value("eve", at(ms))
}

fn about(found: Units, expected: u32) {
    let (found, expected) = (found.to_bits(), Units::new(expected).to_bits());
    assert!(found.abs_diff(expected) <= expected / 1_000, "{found} {expected}");
}

/// What a collection of each kind is given.
fn write(node: &mut Node, kind: usize, ms: u64) {
    node.write(at(ms), |tx: &mut Transaction<'_>| match kind {
        0 => tx.map("tasks").set("k", "v").unwrap(),
        1 => tx.set("members").insert("eve").unwrap(),
        2 => tx.coupling("trust", schema()).strengthen("eve", Units::new(8)).unwrap(),
        _ => {
            tx.coupling("trust", schema()).strengthen("eve", Units::new(20)).unwrap();
            tx.coupling("trust", schema()).weaken("eve", Units::new(12)).unwrap();
        }
    });
    node.store();
}

#[test]
fn what_was_written_while_the_clock_was_ahead_reads_the_same_everywhere_once_it_is_right() {
    for kind in 0..4 {
        for (met, reopened, writes) in [
            (false, false, false),
            (true, false, false),
            (true, true, false),
            (false, true, true),
            (true, false, true),
        ] {
            let name = format!("kind {kind}, {met}, {reopened}, {writes}");
            let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
            bob.set("early", "kept", at(1));
            if met {
                bob.tell(&mut ada, at(2));
                ada.tell(&mut bob, at(2));
            }
            write(&mut bob, kind, AHEAD);
            bob.tell(&mut ada, at(5));
            assert!(ada.notices().iter().any(|notice| matches!(notice, Notice::Deferred { .. })), "{name}");
            // The clock is set right.
            if reopened {
                bob = Node::open(1, 6, bob.disk(), How::Resumed, at(10));
            }
            bob.replica.trust_clock(at(10));
            if writes {
                bob.set("late", "too", at(10));
            }
            bob.store();
            let told = bob.notices();
            assert!(told.iter().any(|notice| matches!(notice, Notice::Restamped { .. })), "{name}: {told:?}");
            bob.tell(&mut ada, at(20));
            ada.tell(&mut bob, at(20));
            assert_eq!(ada.state(), bob.state(), "{name}");
            for node in [&ada, &bob] {
                let there = node.replica.topic(TOPIC).unwrap();
                match kind {
                    0 => assert_eq!(node.get("k").as_deref(), Some("v"), "{name}"),
                    1 => assert!(there.set("members").contains("eve"), "{name}"),
                    _ => about(trust(node, 20), 8),
                }
                assert_eq!(node.get("early").as_deref(), Some("kept"), "{name}");
            }
            // And also when the time has come.
            for node in [&mut ada, &mut bob] {
                node.replica.handle_timeout(at(AHEAD + DAY));
                node.store();
            }
            assert_eq!(ada.state(), bob.state(), "{name}: later");
        }
    }
}

#[test]
fn events_of_a_clock_that_was_ahead_are_told_to_their_writer() {
    for (reopened, appends) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut bob = Node::fresh(1, 2);
        bob.event("early", 1);
        bob.event("ahead", AHEAD);
        bob.event("behind it", AHEAD + 1);
        bob.notices();
        if reopened {
            bob = Node::open(1, 6, bob.disk(), How::Resumed, at(10));
        }
        bob.replica.trust_clock(at(10));
        let name = format!("{reopened}, {appends}");
        for round in 0..3 {
            if appends {
                bob.event("late", 11 + round);
            } else {
                bob.replica.connect(bob.writer, SessionOptions::dial(), at(11 + round)).unwrap();
            }
            let told = bob.notices();
            let of = told.iter().filter_map(|notice| match notice {
                Notice::EventsAhead { log, from } => Some((log.agent, *from)),
                _ => None,
            });
            let expected = if round == 0 { vec![(bob.writer.id(), 1)] } else { Vec::new() };
            assert_eq!(of.collect::<Vec<_>>(), expected, "{name}, round {round}: {told:?}");
        }
        // What others take of it.
        let mut ada = Node::fresh(0, 1);
        bob.tell(&mut ada, at(20));
        assert_eq!(ada.events().iter().filter(|event| *event == "ahead").count(), 0, "{name}");
        assert_eq!(ada.events().iter().filter(|event| *event == "early").count(), 1, "{name}");
    }
}

/// A log with stamps from a clock that was ahead had taken an earlier one over: the log that takes its place does as well.
#[test]
fn content_that_was_taken_over_while_the_clock_was_ahead_stays() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    ada.set("k0", "first", at(1_000));
    ada.tell(&mut bob, at(1_001));
    let mut ada = Node::open(0, 3, Disk::default(), How::InMemory, at(AHEAD));
    bob.tell(&mut ada, at(AHEAD));
    ada.set("k1", "ahead", at(AHEAD + 1));
    ada.tell(&mut bob, at(1_002));
    assert_eq!(ada.get("k0").as_deref(), Some("first"));
    ada.replica.trust_clock(at(2_000));
    ada.set("k2", "right", at(2_000));
    ada.tell(&mut bob, at(2_001));
    bob.tell(&mut ada, at(2_002));
    for node in [&ada, &bob] {
        let values = ["k0", "k1", "k2"].map(|key| node.get(key));
        assert_eq!(values, ["first", "ahead", "right"].map(|value| Some(value.to_owned())));
        assert_eq!(node.state(), bob.state());
    }
    for node in [&mut ada, &mut bob] {
        node.replica.handle_timeout(at(2 * AHEAD));
        node.store();
    }
    assert_eq!(ada.state(), bob.state(), "also once the stamps are past");
}

/// The log itself was begun while the clock was ahead, so that nobody else takes any of it before its time has come.
#[test]
fn a_writer_that_began_its_log_while_the_clock_was_ahead_goes_on_once_it_is_right() {
    for (how, restarts) in [(How::Resumed, 0), (How::Resumed, 3), (How::Restored, 1)] {
        for kind in 0..4 {
            let name = format!("{how:?}, {restarts}, kind {kind}");
            let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
            ada.set("hers", "kept", at(1));
            bob.write(at(AHEAD), |tx| tx.map("tasks").set("gone", "v").unwrap());
            bob.remove("gone", at(AHEAD + 1));
            write(&mut bob, kind, AHEAD + 2);
            let ahead = bob.own_log().unwrap().0;
            bob.tell(&mut ada, at(5));
            assert!(ada.replica.logs().log(&ahead).is_none(), "{name}: nobody takes it");
            // The clock is right again.
            for restart in 0..restarts {
                bob = Node::open(1, 6 + restart, bob.disk(), how, at(10 + restart));
            }
            bob.replica.trust_clock(at(14));
            if restarts != 3 {
                bob.set("late", "too", at(14));
            }
            bob.store();
            let told = bob.notices();
            assert!(told.iter().any(|notice| matches!(notice, Notice::Restamped { .. })), "{name}: {told:?}");
            assert!(bob.replica.logs().log(&ahead).is_none(), "{name}: it is given up");
            bob.set("more", "still", at(15));
            bob.tell(&mut ada, at(20));
            ada.tell(&mut bob, at(20));
            let same = |ada: &Node, bob: &Node, when: &str| {
                assert_eq!(ada.state(), bob.state(), "{name}: {when}");
                for node in [ada, bob] {
                    let there = node.replica.topic(TOPIC).unwrap();
                    match kind {
                        0 => assert_eq!(node.get("k").as_deref(), Some("v"), "{name}"),
                        1 => assert!(there.set("members").contains("eve"), "{name}"),
                        _ => about(trust(node, 20), 8),
                    }
                    let values = ["hers", "gone", "more"].map(|key| node.get(key));
                    assert_eq!(
                        values,
                        [Some("kept"), None, Some("still")].map(|value| value.map(str::to_owned))
                    );
                }
                assert_eq!(node_logs(ada), node_logs(bob), "{name}: {when}");
            };
            same(&ada, &bob, "at once");
            // It goes on in the same log after further starts, and stays so when the time has come.
            let own = bob.own_log().unwrap().0;
            bob = Node::open(1, 20, bob.disk(), How::Resumed, at(30));
            bob.replica.trust_clock(at(31));
            bob.set("more", "still", at(31));
            assert_eq!(bob.own_log().unwrap().0, own, "{name}");
            bob.tell(&mut ada, at(32));
            for node in [&mut ada, &mut bob] {
                node.replica.handle_timeout(at(AHEAD + DAY));
                node.store();
            }
            same(&ada, &bob, "later");
        }
    }
}

fn node_logs(node: &Node) -> Vec<consilience::sync::LogId> {
    node.replica.logs().logs().map(|log| *log.id()).collect()
}

/// Whoever holds the log that was given up, as its clock was ahead too, passes it on when its time has come: nothing of it
/// comes back.
#[test]
fn a_log_that_was_given_up_and_comes_back_in_its_time_brings_nothing_back() {
    let (mut ada, mut bob, mut eve) = (Node::fresh(0, 1), Node::fresh(1, 2), Node::fresh(2, 3));
    bob.set("k", "ahead", at(AHEAD));
    bob.set("other", "ahead", at(AHEAD));
    bob.tell(&mut eve, at(AHEAD + 1));
    assert_eq!(eve.get("k").as_deref(), Some("ahead"));
    bob = Node::open(1, 6, bob.disk(), How::Resumed, at(10));
    bob.replica.trust_clock(at(11));
    bob.set("k", "right", at(11));
    bob.remove("other", at(12));
    bob.tell(&mut ada, at(13));
    let late = at(AHEAD + DAY);
    for _ in 0..2 {
        eve.tell(&mut ada, late);
        eve.tell(&mut bob, late);
        bob.tell(&mut ada, late);
        bob.tell(&mut eve, late);
        ada.tell(&mut eve, late);
    }
    for node in [&ada, &bob, &eve] {
        assert_eq!((node.get("k").as_deref(), node.get("other")), (Some("right"), None));
        assert_eq!(node.state(), ada.state());
    }
    bob.set("k", "later", late);
    bob.tell(&mut ada, late);
    bob.tell(&mut eve, late);
    for node in [&ada, &eve] {
        assert_eq!(node.get("k").as_deref(), Some("later"));
    }
}

/// The events that were appended meanwhile count in their own time, and the writer's next ones at once, in one further log
/// however often it starts.
#[test]
fn events_of_a_log_that_was_begun_ahead_wait_and_those_after_it_do_not() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    bob.event("ahead", AHEAD);
    for start in 0..3 {
        bob = Node::open(1, 6 + start, bob.disk(), How::Resumed, at(10 * start));
        bob.replica.trust_clock(at(10 * start + 1));
        bob.event("right", 10 * start + 1);
        bob.tell(&mut ada, at(10 * start + 2));
    }
    assert_eq!(ada.events(), ["right"; 3]);
    assert_eq!(bob.replica.logs().logs().count(), 2);
    bob.tell(&mut ada, at(AHEAD + DAY));
    ada.replica.handle_timeout(at(AHEAD + DAY));
    assert_eq!(ada.events(), ["right", "right", "right", "ahead"]);
    assert_eq!(node_logs(&ada), node_logs(&bob));
}

/// A device without a battery: it starts in 1970 and meets nobody yet. What others have ended stays so, and it is told.
#[test]
fn a_clock_that_fell_brings_nothing_back_and_is_told() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    bob.set("k", "old", at(0));
    bob.set("mine", "kept", at(1));
    bob.tell(&mut ada, at(2));
    ada.set("k", "new", at(3));
    let early = Timestamp::from_millis(5_000);
    let mut bob = Node::open(1, 6, bob.disk(), How::Resumed, early);
    bob.set("late", "too", early);
    bob.set("later", "too", early);
    let told = bob.notices();
    let doubts = told.iter().filter(|notice| matches!(notice, Notice::ClockInDoubt { .. })).count();
    assert_eq!(doubts, 1, "{told:?}");
    assert!(!told.iter().any(|notice| matches!(notice, Notice::Restamped { .. })), "{told:?}");
    for ms in [10, 12] {
        bob.tell(&mut ada, at(ms));
        ada.tell(&mut bob, at(ms + 1));
    }
    for node in [&ada, &bob] {
        let values = ["k", "mine", "late", "later"].map(|key| node.get(key));
        assert_eq!(values, ["new", "kept", "too", "too"].map(|value| Some(value.to_owned())));
        let there = node.replica.topic(TOPIC).unwrap();
        assert_eq!(there.map("tasks").conflicts("k").len(), 1, "the old value has not come back");
    }
    assert_eq!(ada.state(), bob.state());
}

/// Carries frames between two sides, as many as there are.
fn talk(mut nodes: [&mut Node; 2], sessions: [SessionId; 2], now: Timestamp) {
    let mut frame = Vec::new();
    for _ in 0..50 {
        for from in [0, 1] {
            frame.clear();
            while nodes[from].replica.poll_transmit(sessions[from], now, &mut frame) {}
            if !frame.is_empty() {
                nodes[1 - from].replica.handle_input(sessions[1 - from], &frame, now).unwrap();
            }
            nodes.iter_mut().for_each(|node| node.store());
        }
    }
}

/// Two sides of a connection, the second of which dials.
fn connected(nodes: [&mut Node; 2], now: Timestamp) -> [SessionId; 2] {
    let [listens, dials] = nodes;
    [
        listens.replica.connect(listens.writer, SessionOptions::listen(), now).unwrap(),
        dials.replica.connect(dials.writer, SessionOptions::dial(), now).unwrap(),
    ]
}

/// A fleet whose clocks fell together believes none of its members.
#[test]
fn two_whose_clocks_fell_bring_nothing_back() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    bob.set("k", "old", at(0));
    bob.tell(&mut ada, at(1));
    ada.set("k", "new", at(2));
    let early = Timestamp::from_millis(5_000);
    let mut bob = Node::open(1, 6, bob.disk(), How::Resumed, early);
    let mut ada = Node::open(0, 7, ada.disk(), How::Resumed, early);
    let sessions = connected([&mut ada, &mut bob], early);
    talk([&mut ada, &mut bob], sessions, early);
    let told = bob.notices();
    assert!(!told.iter().any(|notice| matches!(notice, Notice::Restamped { .. })), "{told:?}");
    for node in [&mut ada, &mut bob] {
        node.replica.handle_timeout(at(3));
        node.store();
    }
    ada.tell(&mut bob, at(4));
    assert_eq!(bob.get("k").as_deref(), Some("new"));
    assert_eq!(bob.replica.topic(TOPIC).unwrap().map("tasks").conflicts("k").len(), 1);
}

/// What an agent without storage takes over of its earlier log is stamped by the clock as it is, not as it was.
#[test]
fn remains_are_taken_over_at_the_time_of_the_clock_as_it_is() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    ada.set("k0", "first", at(0));
    ada.tell(&mut bob, at(1));
    let mut ada = Node::open(0, 3, Disk::default(), How::Resumed, at(AHEAD));
    ada.set("k1", "ahead", at(AHEAD));
    let sessions = connected([&mut bob, &mut ada], at(10));
    talk([&mut bob, &mut ada], sessions, at(11));
    let logs = ada.replica.logs();
    let latest = logs.logs().flat_map(|log| log.entries(0, u64::MAX)).map(|entry| entry.hlc.time()).max();
    assert!(latest.unwrap() <= at(11), "{latest:?}");
    assert_eq!([ada.get("k0"), ada.get("k1")], ["first", "ahead"].map(|value| Some(value.to_owned())));
    assert_eq!([bob.get("k0"), bob.get("k1")], ["first", "ahead"].map(|value| Some(value.to_owned())));
}

/// A peer's clock decides it: not one of a peer that holds what is ahead of that clock itself.
#[test]
fn a_peer_that_says_the_time_has_a_writer_go_on_at_the_right_one() {
    for peer_knows in [true, false] {
        let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
        bob.set("k", "ahead", at(AHEAD));
        if !peer_knows {
            ada.set("hers", "ahead", at(AHEAD));
        }
        let sessions = connected([&mut ada, &mut bob], at(10));
        let told = bob.notices();
        assert!(told.iter().any(|notice| matches!(notice, Notice::ClockInDoubt { .. })), "{told:?}");
        talk([&mut ada, &mut bob], sessions, at(11));
        let restamped = bob.notices().iter().any(|notice| matches!(notice, Notice::Restamped { .. }));
        assert_eq!(restamped, peer_knows);
        assert_eq!(ada.get("k").is_some(), peer_knows, "in its time");
    }
}

/// A host that plays a trace says so: an instant before the last is meant.
#[test]
fn instants_that_the_host_chooses_need_not_rise() {
    for own_instants in [true, false] {
        let config = Config::new(secret(), [7; 32]);
        let config = if own_instants { config.with_own_instants() } else { config };
        let mut replica = Replica::open(config, Opened::InMemory, at(0)).unwrap();
        replica.declare_alone();
        let writer = replica.add_writer(Keypair::from_seed([3; 32])).unwrap();
        for (key, ms) in [("first", DAY), ("second", 0)] {
            let mut tx = replica.transact(writer, TOPIC, at(ms)).unwrap();
            tx.map("tasks").set(key, "v").unwrap();
            tx.commit().unwrap();
        }
        let stamp = |key: &str| replica.topic(TOPIC).unwrap().map("tasks").get(key).unwrap().stamp.time();
        assert_eq!(stamp("second") == at(0), own_instants, "{:?}", stamp("second"));
        assert_eq!(stamp("second") >= at(DAY), !own_instants);
    }
}
