//! The promises about couplings, one by one.

use consilience::crdts::{Timestamp, Units};
use consilience::{CouplingRead, WriteError};

use super::hand::{Hand, coupling_id, op_strengthen, payload};
use super::world::{Disk, How, Node, START, TOPIC, at, converge, schema};

const HOUR: u64 = 3_600_000;

fn trust(node: &Node) -> CouplingRead<'_> {
    node.replica.topic(TOPIC).unwrap().coupling("trust", schema())
}

fn sum(node: &Node, key: &str, now: Timestamp) -> Units {
    trust(node).value(key, now)
}

/// Equal but for rounding.
#[track_caller]
fn about(found: Units, expected: u32) {
    let (found, expected) = (found.to_bits(), Units::new(expected).to_bits());
    assert!(found.abs_diff(expected) <= expected / 10_000, "{found} {expected}");
}

#[test]
fn reads_are_by_one_agent_the_sum_or_the_greatest() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    ada.strengthen("eve", 8, at(1));
    bob.strengthen("eve", 4, at(1));
    bob.strengthen("joe", 2, at(1));
    ada.tell(&mut bob, at(2));
    bob.tell(&mut ada, at(2));
    for node in [&ada, &bob] {
        let read = trust(node);
        about(read.by(ada.writer.id()).unwrap().value(b"eve", at(2)), 8);
        about(read.by(bob.writer.id()).unwrap().value(b"eve", at(2)), 4);
        about(read.sum().unwrap().value(b"eve", at(2)), 12);
        about(read.max().unwrap().value(b"eve", at(2)), 8);
        about(read.value("joe", at(2)), 2);
        assert_eq!(read.value("nobody", at(2)), Units::ZERO);
        assert_eq!(read.contributions(b"eve", at(2)).unwrap().count(), 2);
        assert_eq!(node.state(), ada.state());
    }
    // Another half-life is another coupling.
    let other = consilience::crdts::CouplingSchema::with_half_life(HOUR * 2).unwrap();
    assert!(ada.replica.topic(TOPIC).unwrap().coupling("trust", other).sum().is_none());
}

#[test]
fn what_is_not_strengthened_decays() {
    let mut ada = Node::fresh(0, 1);
    ada.strengthen("eve", 1_024, at(0));
    for halvings in 0..10 {
        about(sum(&ada, "eve", at(halvings * HOUR)), 1_024 >> halvings);
    }
    assert_eq!(sum(&ada, "eve", at(40 * HOUR)), Units::ZERO);
    ada.strengthen("eve", 16, at(40 * HOUR));
    about(sum(&ada, "eve", at(40 * HOUR)), 16);
    ada.state();
}

#[test]
fn a_reset_takes_what_all_have_given() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    ada.strengthen("eve", 100, at(0));
    bob.strengthen("eve", 50, at(0));
    bob.tell(&mut ada, at(1));
    ada.write(at(2), |tx| tx.coupling("trust", schema()).reset("eve").unwrap());
    assert_eq!(sum(&ada, "eve", at(2)), Units::ZERO);
    ada.tell(&mut bob, at(3));
    assert_eq!(sum(&bob, "eve", at(3)), Units::ZERO);
    bob.strengthen("eve", 10, at(4));
    bob.tell(&mut ada, at(5));
    about(sum(&ada, "eve", at(5)), 10);
    // Only one's own.
    bob.strengthen("joe", 10, at(6));
    bob.tell(&mut ada, at(6));
    ada.strengthen("joe", 7, at(6));
    ada.write(at(7), |tx| tx.coupling("trust", schema()).reset_own("joe").unwrap());
    about(sum(&ada, "joe", at(7)), 10);
    assert_eq!(ada.state(), {
        ada.tell(&mut bob, at(8));
        bob.state()
    });
}

#[test]
fn several_changes_in_one_transaction_add_up() {
    for written in [0, 5] {
        let mut ada = Node::fresh(0, 1);
        if written > 0 {
            ada.strengthen("eve", written, at(0));
        }
        ada.write(at(0), |tx| {
            let mut trust = tx.coupling("trust", schema());
            for _ in 0..5 {
                trust.strengthen("eve", Units::new(4)).unwrap();
            }
            trust.weaken("eve", Units::new(3)).unwrap();
            trust.weaken_own("eve", Units::new(2)).unwrap();
            trust.strengthen("joe", Units::new(2)).unwrap();
        });
        about(sum(&ada, "eve", at(0)), written + 15);
        about(sum(&ada, "joe", at(0)), 2);
        ada.write(at(0), |tx| {
            let mut trust = tx.coupling("trust", schema());
            trust.reset("eve").unwrap();
            trust.strengthen("eve", Units::new(6)).unwrap();
        });
        about(sum(&ada, "eve", at(0)), 6);
        ada.state();
    }
}

#[test]
fn amounts_below_two_floors_are_refused() {
    let mut ada = Node::fresh(0, 1);
    let mut tx = ada.replica.transact(ada.writer, TOPIC, at(1)).unwrap();
    let little = Units::from_ratio(1, 16).unwrap();
    let refused = tx.coupling("trust", schema()).strengthen("eve", little);
    assert!(matches!(refused, Err(WriteError::Coupling(_))));
    let refused = tx.coupling("trust", schema()).strengthen([0; 4_097], Units::new(3));
    assert!(refused.is_err());
    assert_eq!(tx.commit().unwrap(), None);
}

/// What several incarnations of one agent state joins by the greatest: it is not added up.
#[test]
fn contributions_of_two_incarnations_join_by_the_greatest() {
    let mut bob = Node::fresh(1, 2);
    let mut ada = Node::open(0, 1, Disk::default(), How::InMemory, at(0));
    ada.strengthen("eve", 64, at(1));
    ada.tell(&mut bob, at(2));
    // Storage is lost, and nobody was met yet.
    let mut ada = Node::open(0, 3, Disk::default(), How::InMemory, at(3));
    ada.strengthen("eve", 8, at(4));
    ada.tell(&mut bob, at(5));
    about(sum(&bob, "eve", at(5)), 64);
    about(trust(&bob).by(ada.writer.id()).unwrap().value(b"eve", at(5)), 64);
    assert_eq!(trust(&bob).contributions(b"eve", at(5)).unwrap().count(), 1);
    // From then on it goes on from there.
    bob.tell(&mut ada, at(6));
    ada.strengthen("eve", 8, at(7));
    ada.tell(&mut bob, at(8));
    about(sum(&bob, "eve", at(8)), 72);
    assert_eq!(ada.state(), bob.state());
}

#[test]
fn an_instant_that_nobody_could_have_made_is_inert() {
    let mut mallory = Hand::new(8, 5);
    let id = coupling_id("trust", &schema());
    let stamp = consilience::crdts::Hlc::new(at(1), 0);
    // Half-lives since the epoch, Q40.24.
    let instant = |half_lives: u64| (START / HOUR + half_lives) << 24;
    for inflated in [u64::MAX, instant(100), instant(39)] {
        let op = op_strengthen("eve", inflated);
        mallory.append(&payload(&[], &[(id.clone(), vec![op])]), stamp);
    }
    // 2^8 caps of 65,536 are 38 half-lives above a grain, 2^-10 of a floor of 1/16; this is less.
    let op = op_strengthen("joe", instant(20));
    mallory.append(&payload(&[], &[(id, vec![op])]), stamp);
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    ada.strengthen("eve", 5, at(1));
    ada.take(&mallory.bundle(at(2)), at(2));
    ada.tell(&mut bob, at(3));
    for node in [&mut ada, &mut bob] {
        about(sum(node, "eve", at(3)), 5);
        assert!(sum(node, "joe", at(3)) > Units::new(10));
        assert!(node.notices().is_empty(), "it is well-formed");
    }
    assert_eq!(ada.state(), bob.state());
}

#[test]
fn contributions_are_carried_while_they_live_and_go_when_they_have_decayed() {
    let (mut ada, mut bob) = (Node::fresh(0, 2), Node::fresh(1, 4));
    for number in 0..20 {
        ada.strengthen(&format!("k{number}"), 1_000, at(number));
    }
    for round in 0..200 {
        ada.set("fill", &format!("{round}"), at(100 + round));
    }
    ada.tell(&mut bob, at(400));
    for number in 0..20 {
        about(sum(&bob, &format!("k{number}"), at(400)), 1_000);
    }
    let before = ada.replica.stats(None);
    for round in 0..200 {
        ada.set("fill", &format!("{round}"), at(100 * HOUR + round));
    }
    let after = ada.replica.stats(None);
    assert!(after.live < before.live / 4, "{before:?} {after:?}");
    ada.tell(&mut bob, at(101 * HOUR));
    let mut all = [ada, bob];
    converge(&mut all, at(101 * HOUR));
    assert_eq!(all[0].state(), all[1].state());
}
