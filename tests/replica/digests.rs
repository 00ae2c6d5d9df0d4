//! The digest of a topic: equal where two replicas mean the same, and nowhere else.

use std::collections::BTreeSet;

use super::world::{Node, at};

/// The state after one write at one time by one process: all that differs is what is written.
fn after(map: &str, key: &str, value: &str) -> [u8; 32] {
    let mut node = Node::fresh(0, 1);
    node.write(at(1), |tx| {
        tx.map(map).set(key, value).unwrap();
    });
    node.state()
}

#[test]
fn each_change_of_a_topic_gives_it_another_digest() {
    let mut ada = Node::fresh(0, 1);
    let mut seen = BTreeSet::from([ada.state()]);
    let mut is_new = |node: &Node| seen.insert(node.state());
    ada.set("a", "1", at(1));
    assert!(is_new(&ada));
    ada.set("a", "2", at(2));
    assert!(is_new(&ada));
    ada.set("b", "2", at(3));
    assert!(is_new(&ada));
    for (key, now) in [("a", 4), ("a", 5), ("b", 6)] {
        ada.strengthen(key, 1, at(now));
        assert!(is_new(&ada), "{key} at {now}");
    }
    for (payload, now) in [("one", 7), ("one", 8)] {
        ada.event(payload, now);
        assert!(is_new(&ada), "{now}");
    }
    ada.remove("b", at(9));
    assert!(is_new(&ada));
}

#[test]
fn digests_tell_names_keys_and_values_apart_that_one_place_could_have() {
    let all = [("m", "a", "12"), ("m", "a", "13"), ("m", "a1", "2"), ("m", "b", "12"), ("ma", "1", "2")];
    let states: BTreeSet<_> = all.iter().map(|(map, key, value)| after(map, key, value)).collect();
    assert_eq!(states.len(), all.len());
    assert_eq!(after("m", "a", "12"), after("m", "a", "12"));
}

#[test]
fn a_topic_of_which_nothing_is_left_has_the_digest_of_one_that_never_had_anything() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    let nothing = ada.state();
    ada.set("a", "1", at(1));
    ada.tell(&mut bob, at(2));
    // Of the removal a name is kept, and with it the collection.
    bob.remove("a", at(3));
    assert_eq!(bob.state(), nothing);
    bob.tell(&mut ada, at(4));
    assert_eq!(ada.state(), nothing);
    assert_eq!(Node::fresh(2, 3).state(), nothing);
}
