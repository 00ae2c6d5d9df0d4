//! Parts of logs that a writer signed by hand, in any order. Random histories of whole replicas are the simulator's
//! (`tests/sim/`).

use consilience::crdts::Hlc;
use consilience::sync::{Closure, Incarnation, LogKind, NewEntry, RangeForm, Want};

use super::hand::{Hand, bundle, on_tasks, op_carry, op_remove, op_set};
use super::world::{Dice, How, Node, at, converge, mesh, seeds};

/// An operation of an incarnation: it writes, removes, or lists again a write of one of them.
fn operation(dice: &mut Dice, logs: &[Hand], incarnation: u64, step: u64) -> Vec<u8> {
    let key = format!("k{}", dice.roll(4));
    let other = &logs[dice.index(incarnation as usize)];
    let held = other.set.log(&other.log).unwrap();
    let seq = held.start() + dice.roll(held.size() - held.start() + 1);
    let stamp = held.entry(seq).map(|entry| entry.hlc);
    match (dice.roll(6), stamp) {
        (0 | 1, Some(stamp)) if held.opening().incarnation.as_u64() < incarnation => {
            let value = format!("{}", dice.roll(2));
            op_carry(held.opening().incarnation.as_u64(), seq, 0, other.tag(seq), stamp, &key, &value)
        }
        (2, _) => op_remove(&key, &[]),
        _ => op_set(&key, &format!("{incarnation}.{step}"), &[]),
    }
}

/// One writer's incarnations, which all go on: each closes lower ones, ends them, and takes its word back by a base that
/// rises. Parts of them come to two nodes in any order, several in one bundle.
fn incarnations(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut logs: Vec<Hand> = (1..=4).map(|incarnation| Hand::new(9, incarnation)).collect();
    let mut nodes: Vec<Node> = (1..=2).map(|agent| Node::fresh(agent, seed * 2 + u64::from(agent))).collect();
    for step in 0..40 {
        let now = at(step);
        let incarnation = 1 + dice.roll(4);
        let mut closures = Vec::new();
        for lower in (1..incarnation).map(Incarnation::from_u64) {
            if dice.one_in(4) {
                closures.push(Closure { incarnation: lower, below: 1 + dice.roll(6) });
            }
        }
        let last_final = dice.one_in(12).then(|| Incarnation::from_u64(1 + dice.roll(incarnation)));
        let payload = on_tasks(&[], operation(&mut dice, &logs, incarnation, step));
        let hand = &mut logs[incarnation as usize - 1];
        let held = hand.set.log(&hand.log).unwrap();
        let raised = if dice.one_in(3) { dice.roll(held.size() - held.base() + 1) } else { 0 };
        let base = held.base() + raised;
        let hlc = Hlc::new(now, 0);
        hand.append_entry(&NewEntry {
            base,
            closures: &closures,
            last_final,
            ..NewEntry::new(hlc, &payload)
        });
        hand.sign(now);
        let mut parts = Vec::new();
        for _ in 0..dice.roll(4) {
            let hand = &logs[dice.index(logs.len())];
            let Some(have) = hand.set.have(&hand.log).filter(|have| have.size > 0) else { continue };
            let from = [have.start, have.base, have.start + dice.roll(have.size - have.start)];
            let from = from[dice.index(3)].min(have.size - 1);
            let form = if dice.one_in(2) { RangeForm::Follow } else { RangeForm::Alone };
            let form = if from == 0 { RangeForm::Follow } else { form };
            let to = if dice.one_in(3) { from + 1 } else { have.size };
            parts.extend(hand.parts(&Want { from, to, form }));
        }
        let node = &mut nodes[dice.index(2)];
        let _ = node.replica.import_bundle(&bundle(&mesh(), &parts), now);
        assert!(node.replica.verify(), "the fold is not what it is from scratch");
    }
    converge(&mut nodes, at(50));
    assert_eq!(nodes[0].state(), nodes[1].state());
}

#[test]
fn the_fold_follows_logs_that_end_and_come_back() {
    seeds(1_000, incarnations);
}

/// The histories of one log that its writer signed, and when: two, or one.
fn signed(dice: &mut Dice, kind: LogKind) -> Vec<Hand> {
    let mut states: Vec<Hand> = Vec::new();
    let mut hand = Hand::of_kind(9, 1, kind);
    for history in 0..1 + dice.roll(2) {
        if history > 0 {
            hand = states[dice.index(states.len())].clone();
        }
        for step in 0..2 + dice.roll(12) {
            let payload = match kind {
                LogKind::State => {
                    on_tasks(&[], op_set(&format!("k{}", step % 4), &format!("{history}"), &[]))
                }
                LogKind::Event => format!("{history}.{step}").into_bytes(),
            };
            let held = hand.set.log(&hand.log).unwrap();
            let raised = if dice.one_in(3) { dice.roll(held.size() - held.base() + 1) } else { 0 };
            let base = held.base() + raised;
            hand.append_with_base(&payload, base, Hlc::new(at(history * 100 + step), 0));
            if dice.one_in(3) {
                hand.sign(at(0));
                states.push(hand.clone());
            }
        }
        hand.sign(at(0));
        states.push(hand.clone());
    }
    states
}

/// Parts of one log come in any order, and the replica starts again in between.
fn restarts(seed: u64) {
    let mut dice = Dice::new(seed);
    let kind = if dice.one_in(2) { LogKind::State } else { LogKind::Event };
    let mut states = signed(&mut dice, kind);
    let mut pruned = Vec::new();
    if kind == LogKind::Event && dice.one_in(2) {
        let hand = &mut states[0];
        let (below, keys) = (1 + dice.roll(10), hand.keys());
        let said = hand.set.prune(&hand.log, below, &keys, at(0)).unwrap().unwrap();
        pruned.push((6, said.as_bytes().to_vec()));
    }
    let mut node = Node::fresh(1, seed);
    for step in 0..12 {
        let hand = &states[dice.index(states.len())];
        let Some(have) = hand.set.have(&hand.log).filter(|have| have.size > have.start) else { continue };
        let from = have.start + dice.roll(have.size - have.start);
        let to = from + 1 + dice.roll(have.size - from);
        let form = if from == 0 || dice.one_in(2) { RangeForm::Follow } else { RangeForm::Alone };
        let mut parts = hand.parts(&Want { from, to, form }).to_vec();
        if dice.one_in(4) {
            parts.extend(pruned.iter().cloned());
        }
        node.take(&bundle(&mesh(), &parts), at(step));
        let before = (node.replica.heads_root(), node.state());
        for snapshot in [false, true] {
            if snapshot && dice.one_in(2) {
                continue;
            }
            if snapshot {
                node.snapshot();
            }
            let mut again = Node::open(1, seed, node.disk(), How::Resumed, at(step));
            assert_eq!(
                (again.replica.heads_root(), again.state()),
                before,
                "step {step}, snapshot {snapshot}"
            );
            if snapshot && dice.one_in(2) {
                node = again;
            }
        }
    }
}

#[test]
fn a_restart_brings_back_root_and_state_whatever_came_in_whatever_order() {
    seeds(1_000, restarts);
}
