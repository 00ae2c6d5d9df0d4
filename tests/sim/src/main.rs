//! One world, one seed: replicas, relays, disks, clocks, links and liars, whose faults meet one another.
//!
//! ```text
//! consilience-sim run --seeds 0..N [--json] [--threads N]   plays the histories of these seeds
//! consilience-sim run --seeds 0..N --record FILE             the same, a line for every ten thousand; goes on where it ended
//! consilience-sim show SEED                                  prints the history of a seed, one step a line
//! consilience-sim shrink SEED                                the least part of a history that breaks the same
//! consilience-sim script FILE [--seed N] [--told]            plays a file of steps, and prints what hosts are told
//! consilience-sim planted NAME,...|all [--threads N] [--worlds N] [--brief]   in how many worlds a planted fault is found (`--cfg planted`)
//! ```
//!
//! [`step`] is the vocabulary, [`draw`] makes histories, [`world`] plays them and checks, [`history`] knows what was promised
//! to honest hosts.

#![allow(
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "a program has a standard library"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is a find")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it tells how long it took")]

mod cover;
mod draw;
#[cfg(test)]
mod found;
mod history;
mod host;
mod keys;
mod liar;
mod mirror;
mod naive;
mod passage;
mod planted;
mod play;
mod step;
mod world;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use consilience::planted::CAN_PLANT;
use serde_json::json;

use cover::Cover;
use keys::Keys;
use play::{play, shrink};
use step::Step;

/// In so many worlds each kind of fault has to meet each feature, and each other kind.
const PAIR_WORLDS_MIN: u64 = 100;
/// Runs of fewer worlds may miss a pair.
const WORLDS_MANY: u64 = 10_000;

/// The sums over worlds.
#[derive(Debug, Default)]
struct Sums {
    worlds: u64,
    steps: Vec<u64>,
    liars: u64,
    real: u64,
    frames: u64,
    restarts: Vec<u64>,
    in_sync: u64,
    sweeps_max: usize,
    heap_permille: Vec<u64>,
    cover: Cover,
    broken: BTreeMap<&'static str, Vec<u64>>,
    trace: [u8; 32],
}

impl Sums {
    fn add(&mut self, other: Self) {
        self.worlds += other.worlds;
        self.steps.extend(other.steps);
        self.liars += other.liars;
        self.real += other.real;
        self.frames += other.frames;
        self.restarts.extend(other.restarts);
        self.in_sync += other.in_sync;
        self.sweeps_max = self.sweeps_max.max(other.sweeps_max);
        self.heap_permille.extend(other.heap_permille);
        self.cover.add(&other.cover);
        for (kind, seeds) in other.broken {
            self.broken.entry(kind).or_default().extend(seeds);
        }
        self.trace.iter_mut().zip(other.trace).for_each(|(sum, one)| *sum ^= one);
    }

    fn play(&mut self, seed: u64) {
        let steps = draw::history(seed);
        let played = play(seed, &steps);
        if seed.is_multiple_of(100) {
            assert_eq!(
                play(seed, &steps).trace,
                played.trace,
                "seed {seed} went another way the second time"
            );
        }
        self.worlds += 1;
        self.steps.push(played.figures.steps);
        self.restarts.push(played.figures.restarts);
        self.frames += played.figures.frames;
        self.in_sync += played.figures.in_sync;
        self.sweeps_max = self.sweeps_max.max(played.figures.sweeps);
        self.heap_permille.push(played.figures.heap_permille);
        self.liars += u64::from(steps.iter().any(|step| matches!(step, Step::Sign(_))));
        self.cover.note(&played.met);
        self.real += u64::from(Keys::of_seed(seed) == Keys::Real);
        // In any order of the worlds the same.
        let of = blake3::keyed_hash(&played.trace, &seed.to_le_bytes());
        self.trace.iter_mut().zip(of.as_bytes()).for_each(|(sum, one)| *sum ^= one);
        if let Some(broken) = played.broken {
            self.broken.entry(broken.kind).or_default().push(seed);
        }
    }

    /// A hash of all that happened.
    fn trace(&self) -> String {
        self.trace.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    fn found(&self, kind: &str) -> usize {
        self.broken.get(kind).map_or(0, Vec::len)
    }
}

fn median(numbers: &mut [u64]) -> u64 {
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied().unwrap_or(0)
}

/// Plays the histories of some seeds.
fn play_all(from: u64, to: u64, threads: u64) -> Sums {
    let next = AtomicU64::new(from);
    std::panic::set_hook(Box::new(|_| {}));
    let mut all = Sums::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut sums = Sums::default();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= to {
                            return sums;
                        }
                        sums.play(seed);
                    }
                })
            })
            .collect();
        for thread in threads {
            all.add(thread.join().expect("a thread that plays worlds"));
        }
    });
    let _ = std::panic::take_hook();
    all.broken.values_mut().for_each(|seeds| seeds.sort_unstable());
    all
}

/// So many worlds are one line of a record.
const WORLDS_A_LINE: u64 = 10_000;

/// Plays the histories of these seeds that a record does not have yet, and appends a line for every ten thousand.
fn record(from: u64, to: u64, threads: u64, file: &str) -> Result<ExitCode, String> {
    let known = std::fs::read_to_string(file).unwrap_or_default();
    let has = |seed: u64| {
        let mut lines = known.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines.any(|line| line["from"] == seed)
    };
    let commit = std::process::Command::new("git").args(["rev-parse", "--short=7", "HEAD"]).output();
    let commit =
        commit.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned()).unwrap_or_default();
    let mut is_good = true;
    for first in (from..to).step_by(WORLDS_A_LINE as usize).filter(|first| !has(*first)) {
        let begun = Instant::now();
        let all = play_all(first, (first + WORLDS_A_LINE).min(to), threads);
        let broken: BTreeMap<u64, &str> =
            all.broken.iter().flat_map(|(kind, seeds)| seeds.iter().map(|seed| (*seed, *kind))).collect();
        is_good &= broken.is_empty();
        let line = json!({
            "from": first, "worlds": all.worlds, "liars": all.liars, "real_keys": all.real, "broken": broken,
            "seconds": begun.elapsed().as_secs(), "trace_hash": all.trace(), "commit": commit,
        });
        let mut out = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(file)
            .map_err(|error| error.to_string())?;
        writeln!(out, "{line}").map_err(|error| format!("{file}: {error}"))?;
        println!("{line}");
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run(from: u64, to: u64, threads: u64, as_json: bool) -> ExitCode {
    let begun = Instant::now();
    let mut all = play_all(from, to, threads);
    let seconds = begun.elapsed().as_secs_f64();
    let other: usize = all.broken.values().map(Vec::len).sum();
    let known = all.found("unequal") + all.found("false_in_sync") + all.found("lost");
    let (pair, pair_worlds) = all.cover.least();
    let figures = json!({
        "worlds": all.worlds, "events_median": median(&mut all.steps), "liars": all.liars, "real_keys": all.real,
        "restarts_median": median(&mut all.restarts), "frames": all.frames, "in_sync": all.in_sync,
        "rounds_max": all.sweeps_max, "heap_permille_max": all.heap_permille.iter().max(),
        "heap_permille_median": median(&mut all.heap_permille),
        "unequal": all.found("unequal"), "false_in_sync": all.found("false_in_sync"), "lost": all.found("lost"),
        "other": other - known, "seeds_per_s": (all.worlds as f64 / seconds * 10.0).round() / 10.0,
        "trace_hash": all.trace(),
        "pair_least": pair, "pair_least_worlds": pair_worlds, "pairs": all.cover.json(), "broken": all.broken,
    });
    if as_json {
        println!("{figures}");
    } else {
        println!("{figures:#}");
        println!("{}", all.cover);
    }
    let unmet = all.worlds >= WORLDS_MANY && pair_worlds < PAIR_WORLDS_MIN;
    if unmet {
        eprintln!("met in fewer than {PAIR_WORLDS_MIN} worlds: {pair}");
    }
    if other == 0 && !unmet { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints a history that fails as small as it can be made, and what it breaks.
fn small(seed: u64) -> ExitCode {
    let steps = draw::history(seed);
    std::panic::set_hook(Box::new(|_| {}));
    let Some(broken) = play(seed, &steps).broken else {
        eprintln!("seed {seed} breaks nothing");
        return ExitCode::SUCCESS;
    };
    let kept = shrink(seed, &steps, broken.kind);
    let _ = std::panic::take_hook();
    for step in &kept {
        println!("{}", serde_json::to_string(step).expect("a step is JSON"));
    }
    let played = play(seed, &kept).broken;
    eprintln!("{} of {} steps: {:?}", kept.len(), steps.len(), played.unwrap_or(broken));
    eprintln!(
        "as a test: put these lines into tests/sim/found/{seed}.jsonl, and into tests/sim/src/found.rs"
    );
    eprintln!("    seed_{seed}_and_what_it_shows: {seed},");
    ExitCode::FAILURE
}

/// What each process has on the heap after these steps. They are played once more, since the processes have to end for it.
fn heaps(seed: u64, steps: &[Step]) -> BTreeMap<String, u64> {
    let mut world = world::World::new(seed);
    // What they break is told where they are played for it.
    let _ = steps.iter().try_for_each(|step| world.take(step));
    world.into_heaps()
}

fn script(file: &str, seed: u64, is_told: bool) -> Result<ExitCode, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let mut world = world::World::new(seed);
    world.is_told = is_told;
    let mut broken = None;
    let mut taken = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let step: Step = serde_json::from_str(line).map_err(|error| format!("{file}:{number}: {error}"))?;
        if matches!(step, Step::Print { .. }) {
            world.heaps = heaps(seed, &taken);
        }
        if let Err(found) = world.take(&step) {
            broken = Some((number, found));
            break;
        }
        taken.push(step);
    }
    world.heaps = heaps(seed, &taken);
    let _ = world.take(&Step::Print { at: None });
    world.printed.iter().for_each(|line| println!("{line}"));
    match broken {
        None => Ok(ExitCode::SUCCESS),
        Some((number, found)) => {
            eprintln!("{file}:{number}: {}: {}", found.kind, found.what);
            Ok(ExitCode::FAILURE)
        }
    }
}

fn planted(name: &str, threads: u64, worlds: u64, is_brief: bool) -> Result<ExitCode, String> {
    if !CAN_PLANT {
        return Err("faults are planted in a build with RUSTFLAGS=\"--cfg planted\"".into());
    }
    let faults = planted::named(name)?;
    std::panic::set_hook(Box::new(|_| {}));
    Ok(if planted::find(&faults, threads, worlds, is_brief) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn word_after<'a>(args: &'a [String], name: &str) -> Option<&'a str> {
    let at = args.iter().position(|arg| arg == name)?;
    args.get(at + 1).map(String::as_str)
}

fn number_after(args: &[String], name: &str) -> Option<u64> {
    word_after(args, name)?.parse().ok()
}

const USAGE: &str = "consilience-sim run --seeds FROM..TO [--json | --record FILE] [--threads N] | show SEED | shrink SEED | script FILE [--seed N] [--told] | planted NAME,...|all [--threads N] [--worlds N] [--brief]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["run", ..] => {
            let range = word_after(&args, "--seeds")
                .and_then(|seeds| seeds.split_once(".."))
                .map(|(from, to)| (from.parse(), to.parse()));
            let threads = number_after(&args, "--threads").unwrap_or(2);
            match range {
                Some((Ok(from), Ok(to))) => match word_after(&args, "--record") {
                    Some(file) => record(from, to, threads, file),
                    None => Ok(run(from, to, threads, words.contains(&"--json"))),
                },
                _ => Err("which seeds? --seeds FROM..TO".into()),
            }
        }
        ["show", seed] => seed.parse().map_err(|_| "a seed is a number".into()).map(|seed| {
            for step in draw::history(seed) {
                println!("{}", serde_json::to_string(&step).expect("a step is JSON"));
            }
            ExitCode::SUCCESS
        }),
        ["shrink", seed] => seed.parse().map_err(|_| "a seed is a number".into()).map(small),
        ["script", file, ..] => {
            script(file, number_after(&args, "--seed").unwrap_or(0), words.contains(&"--told"))
        }
        ["planted", name, ..] => {
            let threads = number_after(&args, "--threads").unwrap_or(2);
            let worlds = number_after(&args, "--worlds").unwrap_or(planted::WORLDS_MAX);
            planted(name, threads, worlds, words.contains(&"--brief"))
        }
        _ => Err(USAGE.into()),
    };
    outcome.unwrap_or_else(|error: String| {
        eprintln!("{error}");
        ExitCode::from(2)
    })
}
