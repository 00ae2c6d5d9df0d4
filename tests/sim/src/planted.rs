//! Faults that are planted in the libraries, and in how many worlds they are found. In a build with `--cfg planted`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use consilience::planted::{Fault, choose};
use serde_json::{Value, json};

use crate::draw;
use crate::play::{play, shrink};

/// Worlds that are played to find one, unless it is said otherwise.
pub(crate) const WORLDS_MAX: u64 = 10_000;

/// Plants faults, one after another: the line of each, and whether all were found. In brief, no history is made smaller.
pub(crate) fn find(faults: &[Fault], threads: u64, worlds: u64, is_brief: bool) -> bool {
    let mut missed = Vec::new();
    let mut sizes = Vec::new();
    for fault in faults {
        choose(Some(*fault));
        let found = first(threads, worlds);
        let line = match &found {
            None => {
                missed.push(fault.name());
                json!({ "planted": fault.name(), "found_in": Value::Null, "worlds": worlds })
            }
            Some((seed, kind)) if is_brief => {
                sizes.push(0);
                json!({ "planted": fault.name(), "found_in": seed + 1, "kind": kind })
            }
            Some((seed, kind)) => {
                let kept = shrink(*seed, &draw::history(*seed), kind);
                sizes.push(kept.len());
                json!({
                    "planted": fault.name(), "found_in": seed + 1, "kind": kind, "shrunk_events": kept.len(),
                    "needs": fault.needs(),
                })
            }
        };
        println!("{line}");
    }
    choose(None);
    sizes.sort_unstable();
    let three = faults.iter().filter(|fault| fault.needs().len() > 2 && !missed.contains(&fault.name()));
    let sums = json!({
        "planted": faults.len(), "found": sizes.len(), "found_that_need_three": three.count(),
        "shrunk_median": sizes.get(sizes.len() / 2), "missed": missed,
    });
    println!("{sums}");
    missed.is_empty()
}

/// The first seed that finds what is planted, and how it shows.
fn first(threads: u64, worlds: u64) -> Option<(u64, &'static str)> {
    let next = AtomicU64::new(0);
    let is_found = AtomicBool::new(false);
    let found = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !is_found.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= worlds {
                        return;
                    }
                    if let Some(broken) = play(seed, &draw::history(seed)).broken {
                        is_found.store(true, Ordering::Relaxed);
                        found.lock().expect("no thread panics").insert(seed, broken.kind);
                    }
                }
            });
        }
    });
    found.into_inner().expect("no thread panics").pop_first()
}

/// The faults of these names, with commas between, or all that worlds can show.
pub(crate) fn named(name: &str) -> Result<Vec<Fault>, String> {
    if name == "all" {
        return Ok(Fault::ALL.iter().copied().filter(|fault| fault.only_in_tests().is_none()).collect());
    }
    let fault = |name| Fault::from_name(name).ok_or_else(|| format!("no fault is called {name}"));
    name.split(',').map(fault).collect()
}
