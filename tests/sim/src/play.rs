//! Plays histories, and makes those that fail smaller.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;

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

/// A history that fails in the same way, and is as small as it can be made: first steps are left out, then hosts and agents
/// are taken for one another, then values, times and faults of links become smaller.
pub(crate) fn shrink(seed: u64, steps: &[Step], kind: &str) -> Vec<Step> {
    let fails = |steps: &[Step]| play(seed, steps).broken.is_some_and(|broken| broken.kind == kind);
    let mut kept = fewer(steps.to_vec(), &fails);
    for smaller in [same_names, short_values, small_numbers] {
        smaller(&mut kept, &fails);
    }
    fewer(kept, &fails)
}

/// Leaves out steps, until no run of them can be left out.
fn fewer(mut kept: Vec<Step>, fails: &Fails<'_>) -> Vec<Step> {
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

/// The steps with a change to each of their fields; as they were, if they are no steps then.
fn with(steps: &[Step], change: &impl Fn(&str, &mut Value)) -> Vec<Step> {
    let changed = |step: &Step| {
        let mut value = serde_json::to_value(step).ok()?;
        for (name, field) in value.as_object_mut()? {
            change(name, field);
        }
        serde_json::from_value(value).ok()
    };
    steps.iter().map(|step| changed(step).unwrap_or_else(|| step.clone())).collect()
}

type Fails<'a> = dyn Fn(&[Step]) -> bool + 'a;

fn try_with(kept: &mut Vec<Step>, fails: &Fails<'_>, change: &impl Fn(&str, &mut Value)) {
    let changed = with(kept, change);
    if changed != *kept && fails(&changed) {
        *kept = changed;
    }
}

/// The names of hosts in a history.
fn names(steps: &[Step]) -> BTreeSet<String> {
    let named = |step: &Step| match step {
        Step::Agent { at } | Step::Relay { at } => Some(at.clone()),
        Step::Copy { to, .. } => Some(to.clone()),
        _ => None,
    };
    steps.iter().filter_map(named).collect()
}

fn same_names(kept: &mut Vec<Step>, fails: &Fails<'_>) {
    for one in names(kept) {
        for other in names(kept) {
            try_with(kept, fails, &|_, field| {
                if field.as_str() == Some(&one) {
                    *field = Value::from(other.clone());
                }
            });
        }
    }
}

fn short_values(kept: &mut Vec<Step>, fails: &Fails<'_>) {
    try_with(kept, fails, &|name, field| {
        if let Some(text) = field.as_str().filter(|_| ["value", "text"].contains(&name)) {
            *field = Value::from(text.trim_end_matches('x'));
        }
    });
}

fn small_numbers(kept: &mut Vec<Step>, fails: &Fails<'_>) {
    for name in ["loss", "repeats", "delay", "ms", "many", "ahead"] {
        for number in [0, 20, 2_000] {
            try_with(kept, fails, &|field_name, field| {
                if field_name == name && field.as_i64().is_some_and(|was| was.unsigned_abs() > number) {
                    *field = Value::from(number);
                }
            });
        }
    }
}
