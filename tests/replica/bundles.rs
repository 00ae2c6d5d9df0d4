//! The promises about bundles, one by one.

use consilience::sync::{MeshSecret, OpeningError, Topic};
use consilience::{BundleError, Config, Opened, Replica};

use super::hand::{Hand, bundle, on_tasks, op_set, payload};
use super::world::{Node, TOPIC, at, mesh, topic};

/// Ada has written in two topics, and forked a log.
fn full() -> Node {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    for number in 0..6 {
        ada.set(&format!("t{number}"), "x", at(number));
        bob.set(&format!("b{number}"), "y", at(number));
    }
    ada.replica.append_event(ada.writer, TOPIC, b"event", at(7)).unwrap();
    bob.tell(&mut ada, at(8));
    ada.remove("b1", at(9));
    let mut mallory = Hand::new(8, 5);
    let mut clone = mallory.clone();
    let stamp = consilience::crdts::Hlc::new(at(1), 0);
    mallory.append(&on_tasks(&[], op_set("left", "l", &[])), stamp);
    clone.append(&on_tasks(&[], op_set("right", "r", &[])), stamp);
    ada.take(&mallory.bundle(at(9)), at(9));
    ada.take(&clone.bundle(at(9)), at(9));
    assert!(ada.replica.logs().evidence(&mallory.log).is_some());
    ada
}

#[test]
fn what_a_peer_has_is_not_sent_again() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    let value = "v".repeat(1_000);
    for number in 0..40 {
        ada.set(&format!("t{number}"), &value, at(number));
    }
    let all = ada.replica.export_bundle(|_| true, None, at(50)).unwrap();
    assert!(all.len() > 40_000);
    assert_eq!(bob.take(&all, at(50)).entries, 40);
    let nothing = ada.replica.export_bundle(|_| true, Some(&bob.replica.summary()), at(51)).unwrap();
    assert_eq!(nothing.len(), 9, "the head of a bundle");
    ada.set("t1", &value, at(52));
    ada.set("t2", &value, at(53));
    let news = ada.replica.export_bundle(|_| true, Some(&bob.replica.summary()), at(54)).unwrap();
    assert!(news.len() < 2_600, "{}", news.len());
    let imported = bob.take(&news, at(54));
    assert_eq!((imported.entries, imported.logs, imported.refused), (2, 1, 0));
    assert_eq!(bob.state(), ada.state());
    // A second time nothing comes of it.
    let again = bob.take(&all, at(55));
    assert_eq!((again.entries, again.refused), (0, 0));
    // Only what is wanted.
    let other = Topic::new("other").unwrap();
    let none = ada.replica.export_bundle(|topic| *topic == other, None, at(56)).unwrap();
    assert_eq!(none.len(), 9);
    // What has no summary's form is refused.
    assert!(ada.replica.export_bundle(|_| true, Some(&[]), at(57)).is_err());
    assert!(ada.replica.export_bundle(|_| true, Some(&all), at(57)).is_err());
    let summary = bob.replica.summary();
    for end in 1..summary.len() {
        let _ = ada.replica.export_bundle(|_| true, Some(&summary[..end]), at(57));
    }
}

#[test]
fn a_bundle_of_another_mesh_is_refused() {
    let mut ada = full();
    let all = ada.replica.export_bundle(|_| true, None, at(20)).unwrap();
    let other = MeshSecret::from_bytes([1; 32]);
    let mut there = Replica::open(Config::new(other, [2; 32]), Opened::Fresh, at(0)).unwrap();
    let refused = there.import_bundle(&all, at(20));
    assert_eq!(refused, Err(BundleError::Opening(OpeningError::WrongMesh)));
    // Under the right name the openings give it away.
    let mut renamed = all.clone();
    renamed[1..9].copy_from_slice(&other.id().discovery_key().as_bytes()[..8]);
    assert!(matches!(there.import_bundle(&renamed, at(20)), Err(BundleError::Opening(_))));
    assert_eq!(there.logs().logs().count(), 0);
    assert!(there.verify());
}

#[test]
fn a_bundle_cut_anywhere_brings_what_is_whole() {
    let mut ada = full();
    let all = ada.replica.export_bundle(|_| true, None, at(20)).unwrap();
    let mut whole = Node::fresh(2, 4);
    let expected = whole.take(&all, at(20));
    assert_eq!(expected.refused, 0);
    assert_eq!(whole.state(), ada.state());
    let mut last = 0;
    for end in 0..all.len() {
        let mut eve = Node::fresh(2, 4);
        let imported = eve.replica.import_bundle(&all[..end], at(20));
        eve.state();
        let entries: u64 = eve.replica.logs().logs().map(|log| log.size() - log.start()).sum();
        assert!(entries >= last, "what came before the cut was taken in");
        last = entries;
        if let Ok(imported) = imported {
            assert_eq!(imported.refused, 0);
        }
        // The rest makes it whole.
        if end % 7 == 0 {
            eve.take(&all, at(21));
            assert_eq!(eve.state(), whole.state(), "cut at {end}");
        }
    }
}

#[test]
fn a_bundle_changed_anywhere_brings_nothing_that_is_not_proven() {
    let mut ada = full();
    let all = ada.replica.export_bundle(|_| true, None, at(20)).unwrap();
    let mut whole = Node::fresh(2, 4);
    whole.take(&all, at(20));
    let mut partly = 0;
    for at_byte in 0..all.len() {
        for change in [1, 0x80, 0xff] {
            let mut changed = all.clone();
            changed[at_byte] ^= change;
            let mut eve = Node::fresh(2, 4);
            let _ = eve.replica.import_bundle(&changed, at(20));
            eve.store();
            eve.state();
            // All that is here is what was written there.
            for log in eve.replica.logs().logs() {
                for entry in log.entries(log.start(), log.size()) {
                    let theirs = ada.replica.logs().log(log.id()).and_then(|log| log.entry(entry.seq));
                    let theirs = theirs.map(|entry| entry.payload());
                    let forked = whole.replica.logs().evidence(log.id()).is_some();
                    assert!(forked || theirs == Some(entry.payload()), "byte {at_byte} ^ {change}");
                    partly += 1;
                }
            }
            eve.take(&all, at(21));
            assert_eq!(eve.state(), whole.state(), "byte {at_byte} ^ {change}");
        }
    }
    assert!(partly > 0, "good parts count");
}

#[test]
fn parts_in_any_order_harm_nothing() {
    let mut mallory = Hand::new(8, 5);
    let stamp = consilience::crdts::Hlc::new(at(1), 0);
    mallory.append(&on_tasks(&[], op_set("t", "x", &[])), stamp);
    let good = mallory.bundle(at(2));
    let opening = mallory.set.log(&mallory.log).unwrap().opening().encode(&mesh());
    let range = {
        let at = 9 + super::hand::varint(opening.len() as u64 + 1).len() + 1 + opening.len();
        let len = super::hand::varint((good.len() - at - 1) as u64).len();
        assert_eq!(good[at + len], 3);
        good[at + len + 1..].to_vec()
    };
    assert_eq!(bundle(&mesh(), &[(1, opening.clone()), (3, range.clone())]), good);
    let parts = [(1, opening.clone()), (5, range.clone()), (3, range.clone()), (3, opening.clone())];
    for first in 0..4 {
        for second in 0..4 {
            for third in 0..4 {
                let mut eve = Node::fresh(2, 4);
                let some = [parts[first].clone(), parts[second].clone(), parts[third].clone()];
                eve.take(&bundle(&mesh(), &some), at(3));
                let has = eve.get("t").is_some();
                let opened = some.iter().position(|part| part.0 == 1);
                let ranged = some.iter().rposition(|part| *part == (3, range.clone()));
                assert_eq!(has, opened.zip(ranged).is_some_and(|(opened, ranged)| opened < ranged));
                eve.state();
            }
        }
    }
    // A part of no known kind ends it.
    let mut eve = Node::fresh(2, 4);
    assert!(eve.replica.import_bundle(&bundle(&mesh(), &[(9, opening)]), at(3)).is_err());
    // Eleven hundred logs of one agent are more than it may have. Their openings alone are nothing.
    let mut many = (0..1_100).map(|number| Hand::new(8, number)).collect::<Vec<_>>();
    let opened = many.iter().map(|hand| (1, hand.set.log(&hand.log).unwrap().opening().encode(&mesh())));
    let imported = eve.take(&bundle(&mesh(), &opened.collect::<Vec<_>>()), at(4));
    assert_eq!((imported.logs, imported.ignored), (1_100, 0));
    assert_eq!(eve.replica.logs().logs().count(), 0);
    for hand in &mut many {
        hand.append(&payload(&[], &[]), stamp);
    }
    let all: Vec<u8> = many.iter_mut().flat_map(|hand| hand.bundle(at(2))[9..].to_vec()).collect();
    let imported = eve.take(&[&bundle(&mesh(), &[])[..], &all].concat(), at(4));
    assert_eq!((imported.logs, imported.ignored), (1_100, 76));
    assert_eq!(eve.replica.logs().logs().count(), 1_024);
    eve.state();
    assert_eq!(eve.replica.stats(Some(&topic())).keys, 0);
}
