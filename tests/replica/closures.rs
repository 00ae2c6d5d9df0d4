//! What logs of one agent say of the dots of its earlier incarnations counts, whichever of the logs comes first.

use std::collections::BTreeMap;

use consilience::crdts::Hlc;
use consilience::sync::{Incarnation, NewEntry};

use super::hand::{Hand, on_tasks, op_carry, op_set, payload};
use super::world::{Node, TOPIC, at};

fn stamp(ms: u64) -> Hlc {
    Hlc::new(at(ms), 0)
}

/// The log of incarnation 1: three keys in an entry each.
fn first() -> Hand {
    let mut hand = Hand::new(8, 1);
    for (key, now) in [("a", 1), ("b", 2), ("c", 3)] {
        hand.append(&on_tasks(&[], op_set(key, "1", &[])), stamp(now));
    }
    hand
}

/// The listing of the first of them, with a value.
fn lists_a(first: &Hand, value: &str) -> Vec<u8> {
    on_tasks(&[], op_carry(1, 0, 0, first.tag(0), stamp(1), "a", value))
}

/// All orders of so many.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut all = vec![vec![]];
    for next in 0..count {
        let at_all = |order: &Vec<usize>| {
            (0..=order.len())
                .map(|place| [&order[..place], &[next], &order[place..]].concat())
                .collect::<Vec<_>>()
        };
        all = all.iter().flat_map(at_all).collect();
    }
    all
}

/// In whatever order the logs come, these keys are live in the end, and the fold is what it is from scratch.
fn ends_with(logs: &mut [Hand], keys: &[&str]) {
    let bundles: Vec<Vec<u8>> = logs.iter_mut().map(|log| log.bundle(at(50))).collect();
    let mut states = BTreeMap::new();
    for order in orders(bundles.len()) {
        let mut node = Node::fresh(0, 1);
        for log in &order {
            node.take(&bundles[*log], at(60));
            node.state();
        }
        let view = node.replica.topic(TOPIC).unwrap().map("tasks");
        let live: Vec<&str> =
            ["a", "b", "c", "own"].into_iter().filter(|key| view.get(key).is_some()).collect();
        assert_eq!(live, keys, "{order:?}");
        states.insert(node.state(), order);
    }
    assert_eq!(states.len(), 1, "{states:?}");
}

#[test]
fn of_a_log_that_is_closed_in_part_what_is_closed_is_live_only_if_all_who_answer_list_it_alike() {
    let silent = |incarnation, below| {
        let mut hand = Hand::new(8, incarnation);
        hand.close(&[(1, below)], &on_tasks(&[], op_set("own", "1", &[])), stamp(9));
        hand
    };
    let listing = |incarnation, value| {
        let mut hand = Hand::new(8, incarnation);
        hand.close(&[(1, 2)], &lists_a(&first(), value), stamp(9));
        hand
    };
    ends_with(&mut [first(), silent(5, 2)], &["c", "own"]);
    ends_with(&mut [first(), silent(5, 1)], &["b", "c", "own"]);
    ends_with(&mut [first(), silent(5, 3)], &["own"]);
    ends_with(&mut [first(), listing(5, "1")], &["a", "c"]);
    ends_with(&mut [first(), listing(5, "2")], &["c"]);
    ends_with(&mut [first(), listing(5, "1"), listing(7, "1")], &["a", "c"]);
    ends_with(&mut [first(), listing(5, "1"), listing(7, "2")], &["c"]);
    ends_with(&mut [first(), listing(5, "1"), silent(7, 1)], &["c", "own"]);
}

#[test]
fn a_log_that_ends_all_earlier_ones_answers_for_their_dots_also_where_others_list_them() {
    let ending = |last_final, payload: &[u8]| {
        let mut hand = Hand::new(8, 5);
        hand.append_entry(&NewEntry {
            last_final: Some(Incarnation::from_u64(last_final)),
            ..NewEntry::new(stamp(9), payload)
        });
        hand
    };
    let own = on_tasks(&[], op_set("own", "1", &[]));
    let mut relisting = Hand::new(8, 3);
    relisting.close(&[(1, 2)], &lists_a(&first(), "1"), stamp(8));
    // The end stands after the third, or before it.
    ends_with(&mut [first(), relisting.clone(), ending(4, &own)], &["own"]);
    ends_with(&mut [first(), relisting.clone(), ending(3, &own)], &["own"]);
    ends_with(&mut [first(), relisting.clone(), ending(2, &own)], &["own"]);
    ends_with(&mut [first(), relisting.clone(), ending(2, &lists_a(&first(), "1"))], &["a"]);
    ends_with(&mut [relisting.clone(), ending(2, &lists_a(&first(), "1"))], &["a"]);
    ends_with(&mut [relisting.clone(), ending(2, &own)], &["own"]);
    ends_with(&mut [first(), relisting, ending(1, &own)], &["a", "c", "own"]);
}

#[test]
fn a_closure_counts_whether_its_log_was_known_before_or_comes_later() {
    let mut closing = Hand::new(8, 5);
    closing.append(&on_tasks(&[], op_set("own", "1", &[])), stamp(8));
    let before = closing.bundle(at(50));
    closing.close(&[(1, 2)], &payload(&[], &[]), stamp(9));
    let closed = closing.bundle(at(51));
    let mut earlier = first();
    let first = earlier.bundle(at(50));
    for order in orders(3) {
        let mut node = Node::fresh(0, 1);
        for part in order {
            node.take([&before, &closed, &first][part], at(60));
            node.state();
        }
        let view = node.replica.topic(TOPIC).unwrap().map("tasks");
        assert!(view.get("a").is_none() && view.get("b").is_none());
        assert!(view.get("c").is_some() && view.get("own").is_some());
    }
}
