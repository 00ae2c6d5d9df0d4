//! Makes the committed corpora. For decoders the golden and the malformed vectors; for ranges, those of the logs too that the
//! target holds them against; for frames, those of the conversations that the target interrupts. For histories, bytes by dice
//! that make long ones. Everything follows from this file and the vectors: `--check` fails where a corpus is another. `--all` writes
//! all vectors there, under names that are not committed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

use consilience_fuzz::logs::written;
use consilience_fuzz::reconcile::{input, scenes};
use consilience_fuzz::targets::{Show, TARGETS};
use consilience_sync::{LogKind, RangeForm};
use consilience_test_support::dice::Dice;
use consilience_test_support::vectors::{Vector, parse};

/// A target, the files with golden vectors for it, the file with malformed ones, and how the names in them begin.
type Bytes = (&'static str, &'static [&'static str], &'static str, &'static [&'static str]);

const TARGETS_OF_BYTES: [Bytes; 9] = [
    ("decode_map", &["map"], "malformed", &["map"]),
    ("decode_set", &["set"], "malformed", &["set"]),
    ("decode_context", &["context"], "malformed", &["context"]),
    ("decode_coupling", &["coupling"], "malformed", &["coupling"]),
    ("decode_range", &["log"], "malformed_log", &["range", "event", "state", "verify"]),
    ("decode_evidence", &["evidence"], "malformed_log", &["evidence"]),
    ("decode_head_opening", &["log"], "malformed_log", &["opening", "head", "have", "want", "gone"]),
    ("decode_offer", &["log"], "malformed_log", &["offer"]),
    ("decode_message", &["reconcile"], "malformed_log", &[]),
];

/// What is committed of a target is no more than this.
const CORPUS_BYTES: usize = 3_600;
const INPUTS_MAX: usize = 14;
/// A longer vector leaves no room for others.
const INPUT_BYTES: usize = 900;
/// Histories of a target, and how long they are.
const HISTORIES: usize = 12;
const LENGTHS: [usize; 4] = [48, 150, 300, 600];

fn main() -> io::Result<ExitCode> {
    let (checks, all) = (env::args().any(|word| word == "--check"), env::args().any(|word| word == "--all"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut other = false;
    for target in TARGETS {
        let inputs = match target.show {
            Some(show) => histories(target.name, show),
            None => chosen(vectors(root, target.name)?),
        };
        let folder = root.join("corpus").join(target.name);
        if checks {
            other |= differs(&folder, &inputs);
            continue;
        }
        fs::create_dir_all(&folder)?;
        for old in fs::read_dir(&folder)?.flatten().filter(|file| is_seed(&file.path())) {
            fs::remove_file(old.path())?;
        }
        for (name, bytes) in &inputs {
            fs::write(folder.join(name), bytes)?;
        }
        if all && target.show.is_none() {
            for vector in vectors(root, target.name)? {
                fs::write(folder.join(file_name("all", &vector.name)), &vector.bytes)?;
            }
        }
        let bytes: usize = inputs.values().map(Vec::len).sum();
        println!("{}: {} inputs, {bytes} bytes", target.name, inputs.len());
    }
    Ok(if other { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn is_seed(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed_"))
}

/// Whether a folder has other seeds than these.
fn differs(folder: &Path, inputs: &BTreeMap<String, Vec<u8>>) -> bool {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path());
    let there = files.filter(|file| is_seed(file)).filter_map(|file| {
        let name = file.file_name()?.to_string_lossy().into_owned();
        Some((name, fs::read(&file).ok()?))
    });
    let differs = there.collect::<BTreeMap<_, _>>() != *inputs;
    if differs {
        println!("{} is not what this program makes", folder.display());
    }
    differs
}

fn file_name(begins: &str, name: &str) -> String {
    format!("{begins}_{}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "_"))
}

/// Some of these, from the smallest to the largest, as far as there is room.
fn chosen(mut inputs: Vec<Vector>) -> BTreeMap<String, Vec<u8>> {
    inputs.retain(|vector| vector.bytes.len() <= INPUT_BYTES);
    inputs.sort_by_key(|vector| (vector.bytes.len(), vector.name.clone()));
    inputs.dedup_by(|a, b| a.bytes == b.bytes);
    let step = inputs.len().div_ceil(INPUTS_MAX).max(1);
    let mut room = CORPUS_BYTES;
    // The large ones first: there is always room for a small one.
    let mut some: Vec<Vector> = inputs.into_iter().rev().step_by(step).collect();
    some.retain(|vector| {
        let fits = vector.bytes.len() <= room;
        room -= if fits { vector.bytes.len() } else { 0 };
        fits
    });
    some.into_iter().map(|vector| (file_name("seed", &vector.name), vector.bytes)).collect()
}

/// Histories that are long for their bytes: lists go on where the lowest bit of a byte is set.
fn histories(target: &str, show: Show) -> BTreeMap<String, Vec<u8>> {
    let mut inputs = BTreeMap::new();
    for number in 0..HISTORIES {
        let len = LENGTHS[number % 4];
        let made = (0..24_u64).map(|round| {
            let mut dice = Dice::new((number as u64) << 8 | round);
            let byte = |dice: &mut Dice| (dice.roll(256) | u64::from(!dice.one_in(8))) as u8;
            (0..len).map(|_| byte(&mut dice)).collect::<Vec<u8>>()
        });
        let longest = made.max_by_key(|bytes| show(bytes).map_or(0, |history| history.len()));
        inputs.insert(format!("seed_{target}_{number:02}"), longest.unwrap_or_default());
    }
    inputs
}

fn vectors(root: &Path, wanted: &str) -> io::Result<Vec<Vector>> {
    let read = |file: &str| {
        // Each crate has the vectors of its own forms.
        let folder = match file {
            "context" | "coupling" | "malformed" | "map" | "set" => "../crdts/tests/vectors",
            _ => "../sync/tests/vectors",
        };
        fs::read_to_string(root.join(folder).join(file).with_extension("txt"))
    };
    let Some((target, golden, malformed, names)) = TARGETS_OF_BYTES.iter().find(|target| target.0 == wanted)
    else {
        panic!("nothing is known of {wanted}")
    };
    let begins = |vector: &Vector| names.iter().any(|name| vector.name.starts_with(name));
    let mut vectors: Vec<Vector> = parse(&read(malformed)?).into_iter().filter(begins).collect();
    for file in *golden {
        // The file of a collection has nothing else.
        vectors.extend(parse(&read(file)?).into_iter().filter(|vector| *file != "log" || begins(vector)));
    }
    if *target == "decode_range" {
        vectors.extend(ranges());
    }
    if *target == "decode_message" {
        vectors.iter_mut().for_each(|vector| vector.bytes = input([&vector.bytes[..]]));
        vectors.extend(conversations());
    }
    Ok(vectors)
}

fn ranges() -> Vec<Vector> {
    let mut ranges = Vec::new();
    for kind in [LogKind::Event, LogKind::State] {
        let log = written(kind);
        for (from, to) in
            [(0, 5), (0, 70), (5, 20), (5, 70), (48, 70), (60, 70), (20, 30), (69, 70), (70, 70), (5, 5)]
        {
            for form in [RangeForm::Follow, RangeForm::Alone] {
                if let Some((bytes, _)) = log.range(from, to, form, usize::MAX) {
                    ranges.push(Vector { name: format!("{kind:?} {form:?} {from} {to}"), bytes });
                }
            }
        }
    }
    ranges
}

/// What each side of a conversation is sent, whole, and the states on the way.
fn conversations() -> Vec<Vector> {
    let mut sent: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    let mut vectors = Vec::new();
    for (at, scene) in scenes().iter().enumerate() {
        let (name, number) = scene.name();
        if let Some(frame) = &scene.next {
            sent.entry(format!("{name} {}", number % 2)).or_default().push(frame.clone());
        }
        vectors.push(Vector { name: format!("state {name} {at}"), bytes: scene.state() });
    }
    vectors.extend(
        sent.into_iter()
            .map(|(name, frames)| Vector { name, bytes: input(frames.iter().map(Vec::as_slice)) }),
    );
    vectors
}
