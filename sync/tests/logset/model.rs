//! Random histories of honest and of cloned writers: at every step the consumers believe what their sets say, and all end
//! alike.

use consilience_sync::LogKind;
use consilience_test_support::histories::{HONEST, Rules, World};

use crate::world::{
    Dice, KINDS, Replica, START, append_based, holder, keys, opening_in, seeds, tell, writer,
};

fn run(cases: u64, rules: Rules) {
    seeds(cases, |seed| {
        let mut world = World::new(seed, rules);
        for _ in 0..rules.steps {
            world.step();
        }
        world.settle();
    });
}

#[test]
fn consumers_of_honest_logs_believe_what_their_sets_say_and_end_alike() {
    run(200, HONEST);
}

#[test]
fn consumers_of_logs_without_bases_and_future_stamps_end_alike() {
    run(100, Rules { bases: false, future: false, ..HONEST });
}

#[test]
fn consumers_of_cloned_state_logs_end_alike() {
    run(200, Rules { kind: Some(LogKind::State), clones: true, ..HONEST });
}

#[test]
fn consumers_of_cloned_event_logs_end_alike() {
    run(150, Rules { kind: Some(LogKind::Event), clones: true, bases: false, ..HONEST });
}

#[test]
fn a_consumer_that_never_polled_is_told_the_same_in_the_end() {
    seeds(50, |seed| {
        let mut dice = Dice::new(seed);
        for kind in KINDS {
            let opening = opening_in("model", kind, 1, 1);
            let (mut source, log) = writer(&opening);
            let mut lazy = Replica::new(holder(&[&opening]));
            let mut eager = Replica::new(holder(&[&opening]));
            for _ in 0..10 {
                for _ in 0..1 + dice.roll(20) {
                    let held = source.log(&log).unwrap();
                    let (size, base) = (held.size(), held.base());
                    let base = if dice.one_in(5) { base + dice.roll(size - base + 1) } else { base };
                    append_based(&mut source, &log, b"payload", base, START);
                }
                source.sign_head(&log, &keys(1), START).unwrap();
                tell(&source, &mut lazy.set, &log, START);
                tell(&source, &mut eager.set, &log, START);
                eager.follow();
            }
            lazy.follow();
            assert_eq!(lazy.consumer.logs, eager.consumer.logs);
        }
    });
}
