//! Writes the golden and the malformed vectors to where the decoders' targets look for seeds; for ranges, those of the
//! logs too that the target holds them against; for frames, those of the conversations that the target interrupts.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use consilience_fuzz::logs::written;
use consilience_fuzz::reconcile::{input, scenes};
use consilience_sync::{LogKind, RangeForm};
use consilience_test_support::vectors::{Vector, parse};

/// A target, the files with golden vectors for it, the file with malformed ones, and how the names in them begin.
type Target = (&'static str, &'static [&'static str], &'static str, &'static [&'static str]);

const TARGETS: [Target; 9] = [
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

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| {
        // Each crate has the vectors of its own forms.
        let folder = match file {
            "context" | "coupling" | "malformed" | "map" | "set" => "../crdts/tests/vectors",
            _ => "../sync/tests/vectors",
        };
        fs::read_to_string(root.join(folder).join(file).with_extension("txt"))
    };
    for (target, golden, malformed, names) in TARGETS {
        let corpus = root.join("corpus").join(target);
        fs::create_dir_all(&corpus)?;
        let begins = |vector: &Vector| names.iter().any(|name| vector.name.starts_with(name));
        let mut vectors: Vec<Vector> = parse(&read(malformed)?).into_iter().filter(begins).collect();
        for file in golden {
            // The file of a collection has nothing else.
            vectors.extend(parse(&read(file)?).into_iter().filter(|vector| *file != "log" || begins(vector)));
        }
        if target == "decode_range" {
            vectors.extend(ranges());
        }
        if target == "decode_message" {
            vectors.iter_mut().for_each(|vector| vector.bytes = input([&vector.bytes[..]]));
            vectors.extend(conversations());
        }
        for vector in vectors {
            fs::write(corpus.join(vector.name.replace(' ', "_")), &vector.bytes)?;
        }
    }
    Ok(())
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
