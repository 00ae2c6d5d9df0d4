//! Runs the targets on stable Rust and without libFuzzer: takes inputs of the committed corpora, changes them by dice, and hands
//! them to the functions behind the targets. No coverage guides it; a seed replays it.
//!
//! ```sh
//! cargo run --release --no-default-features --example mutate -- --seconds 10 [--seed N] [--target NAME] [--len BYTES]
//! ```
//!
//! Prints a line for each target; after a panic the input in hex, and the seed and round that made it, and then fails.
//! `--input HEX` runs one input of a target, and shows the history that it is.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it runs for a time, and says how fast"
)]

use std::panic::catch_unwind;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs};

use consilience_fuzz::targets::{TARGETS, Target};
use consilience_test_support::dice::Dice;

struct Options {
    seconds: f64,
    seed: u64,
    target: Option<String>,
    /// The longest input.
    len: usize,
    input: Option<Vec<u8>>,
}

fn options() -> Option<Options> {
    let mut options = Options { seconds: 5.0, seed: 1, target: None, len: 600, input: None };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next()?;
        match word.as_str() {
            "--seconds" => options.seconds = value.parse().ok()?,
            "--seed" => options.seed = value.parse().ok()?,
            "--len" => options.len = value.parse().ok().filter(|len| *len > 0)?,
            "--target" => options.target = Some(value),
            "--input" => options.input = Some(unhex(&value)?),
            _ => return None,
        }
    }
    let known = |name: &String| TARGETS.iter().any(|target| target.name == name);
    options.target.as_ref().is_none_or(known).then_some(options)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    bytes.collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The committed inputs of a target, in the order of their names.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut files: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path()).collect();
    files.sort();
    files.iter().filter_map(|file| fs::read(file).ok()).collect()
}

/// An input of a corpus, changed in some places.
fn mutated(corpus: &[Vec<u8>], len_max: usize, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = if corpus.is_empty() || dice.one_in(16) {
        (0..dice.index(len_max)).map(|_| dice.roll(256) as u8).collect()
    } else {
        corpus[dice.index(corpus.len())].clone()
    };
    for _ in 0..1 + dice.roll(8) {
        let at = dice.index(bytes.len() + 1);
        let to = at + dice.index((bytes.len() - at).min(24) + 1);
        match dice.roll(9) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
            2 if at < bytes.len() => bytes[at] = dice.roll(256) as u8,
            3 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][dice.index(5)],
            4 => drop(bytes.drain(at..to)),
            5 => {
                let new: Vec<u8> = (0..1 + dice.roll(12)).map(|_| dice.roll(256) as u8).collect();
                bytes.splice(at..at, new);
            }
            6 => {
                let again = bytes[at..to].to_vec();
                let place = dice.index(bytes.len() + 1);
                bytes.splice(place..place, again);
            }
            7 if dice.one_in(3) => bytes.truncate(at),
            8 if !corpus.is_empty() => {
                // The beginning of this one and the end of another.
                let other = &corpus[dice.index(corpus.len())];
                bytes.truncate(at);
                bytes.extend(&other[dice.index(other.len() + 1)..]);
            }
            _ => {}
        }
    }
    bytes.truncate(len_max);
    bytes
}

fn survives(target: &Target, input: &[u8], how: &str) -> bool {
    let run = target.run;
    let done = catch_unwind(|| run(input)).is_ok();
    if !done {
        println!("{}: panicked at {how}\n  --target {} --input {}", target.name, target.name, hex(input));
    }
    done
}

/// The processor time of this process so far, where the system tells it: others may use the machine too.
fn processor() -> Option<f64> {
    let told = fs::read_to_string("/proc/self/schedstat").ok()?;
    Some(told.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}

/// Runs a target for a while; whether nothing panicked.
fn play(target: &Target, options: &Options) -> bool {
    let corpus = corpus(target);
    let (started, limit) = (Instant::now(), Duration::from_secs_f64(options.seconds));
    for (number, input) in corpus.iter().enumerate() {
        if !survives(target, input, &format!("input {number} of its corpus")) {
            return false;
        }
    }
    let (mut inputs, mut bytes, mut slowest) = (corpus.len() as u64, 0_u64, Duration::ZERO);
    // What is made once is not part of the rate.
    let (begun, processor_before) = (Instant::now(), processor());
    let mut rounds = 0_u64;
    while started.elapsed() < limit || rounds == 0 {
        let mut dice = Dice::new(options.seed.wrapping_mul(0x1_0000_0001).wrapping_add(rounds));
        let input = mutated(&corpus, options.len, &mut dice);
        let one = Instant::now();
        if !survives(target, &input, &format!("--seed {}, round {rounds}", options.seed)) {
            return false;
        }
        slowest = slowest.max(one.elapsed());
        bytes += input.len() as u64;
        rounds += 1;
        inputs += 1;
    }
    let rate = |seconds: f64| rounds as f64 / seconds;
    let processor = processor_before.zip(processor()).map(|(before, now)| rate(now - before));
    println!(
        "{:<20} {inputs:>9} inputs {:>9.0}/s {:>9}/s of the processor, {:>4} bytes, the slowest {:.1} ms",
        target.name,
        rate(begun.elapsed().as_secs_f64()),
        processor.map_or("?".into(), |rate| format!("{rate:.0}")),
        bytes / rounds,
        slowest.as_secs_f64() * 1_000.0,
    );
    true
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("--seconds N --seed N --target NAME --len BYTES --input HEX");
        return ExitCode::from(2);
    };
    let wanted = |target: &&Target| options.target.as_ref().is_none_or(|name| name == target.name);
    let targets: Vec<&Target> = TARGETS.iter().filter(wanted).collect();
    if let Some(input) = &options.input {
        let histories = targets.iter().filter_map(|target| target.show?(input));
        histories.for_each(|history| println!("{history}"));
        let fine = targets.iter().all(|target| survives(target, input, "the input that was given"));
        return if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let failed = targets.iter().filter(|target| !play(target, &options)).count();
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
