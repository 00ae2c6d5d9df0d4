//! Plays histories, and makes those that fail smaller.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::cover::Met;
use crate::step::Step;
use crate::world::{Broken, Figures, World};

/// The outcome of a history.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) broken: Option<Broken>,
    pub(crate) figures: Figures,
    pub(crate) met: Met,
    pub(crate) trace: [u8; 32],
}

/// Plays a history from its beginning.
pub(crate) fn play(seed: u64, steps: &[Step]) -> Played {
    let mut world = World::new(seed);
    let run = catch_unwind(AssertUnwindSafe(|| steps.iter().try_for_each(|step| world.take(step))));
    let broken = match run {
        Ok(checked) => checked.err(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Some(Broken { kind: "panic", what: text.unwrap_or_default() })
        }
    };
    let trace = world.trace();
    Played { broken, figures: world.figures, met: world.met, trace }
}

/// A part of a history that fails in the same way and of which no step, or run of steps, can be left out.
pub(crate) fn shrink(seed: u64, steps: &[Step], kind: &str) -> Vec<Step> {
    let fails = |steps: &[Step]| play(seed, steps).broken.is_some_and(|broken| broken.kind == kind);
    let mut kept = steps.to_vec();
    let mut chunk = kept.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        let mut smaller = false;
        while at < kept.len() {
            let end = (at + chunk).min(kept.len());
            let without = [&kept[..at], &kept[end..]].concat();
            if fails(&without) {
                kept = without;
                smaller = true;
            } else {
                at = end;
            }
        }
        if !smaller || chunk > 1 {
            chunk /= 2;
        }
    }
    kept
}
