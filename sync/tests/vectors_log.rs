//! Golden bytes of everything about logs that has a byte form, and bytes that must be refused, each with its reason.
//! `docs/wire/log.md` and `docs/wire/logset.md` say why they are what they are; the derivations they give are computed here
//! a second time, from the documents alone.
//!
//! **A change to a file in `tests/vectors/` is a change of the format**, as the vectors of `crdts` say. The files are what
//! `cargo test -p consilience-sync --test vectors_log -- --ignored --nocapture print` prints.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::cast_possible_truncation, reason = "the numbers are small, or cut on purpose")]
#![expect(clippy::std_instead_of_alloc, clippy::std_instead_of_core, reason = "tests have all of std")]

#[path = "vectors/log_malformed.rs"]
mod malformed;

#[path = "vectors/log_scenes.rs"]
mod scenes;

use std::collections::BTreeSet;
use std::fmt::Debug;

use consilience_sync::reconcile::ReconcileSet;
use consilience_sync::{
    AgentId, AgentKey, Entry, Evidence, Gone, Hash, Have, Log, LogKind, LogOpening, LogSet, MeshId, Offer,
    RangeForm, ReceiveError, Received, SignedHead, Signer, SigningTag, VerifyBudget, Want,
};
use consilience_test_support::vectors::{Vector, bits, compare, golden, hex, parse};
use malformed::malformed;
use scenes::{
    ada, all, event_log, event_opening, evidence, follower, log_forms, mesh, receive, state_log,
    state_opening,
};

const LOGS: &str = include_str!("vectors/log.txt");
const EVIDENCE: &str = include_str!("vectors/evidence.txt");
const MALFORMED: &str = include_str!("vectors/malformed_log.txt");
const WIRE: &str = concat!(include_str!("../../docs/wire/log.md"), include_str!("../../docs/wire/logset.md"));

/// One vector as it is built: its name, what stands above it in the file, its bytes.
#[derive(Clone)]
pub(crate) struct Built {
    pub(crate) name: String,
    pub(crate) comment: &'static str,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn built(name: &str, comment: &'static str, bytes: impl Into<Vec<u8>>) -> Built {
    Built { name: name.into(), comment, bytes: bytes.into() }
}

fn named(built: Vec<Built>) -> impl Iterator<Item = (String, Vec<u8>)> {
    built.into_iter().map(|vector| (vector.name, vector.bytes))
}

#[test]
fn openings_heads_ranges_and_messages_have_the_golden_bytes() {
    compare(LOGS, named(log_forms()));
}

#[test]
fn evidence_has_the_golden_bytes_whoever_finds_it() {
    compare(EVIDENCE, named(evidence()));
}

#[test]
fn malformed_bytes_are_built_from_the_golden_ones() {
    compare(MALFORMED, named(malformed()));
}

/// A varint, the only way there is.
fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// The first two numbers of a range: where it begins, and how many entries it has.
fn bounds(range: &[u8]) -> (u64, u64) {
    let mut at = range[1..].iter();
    let mut number = || {
        let mut value = 0;
        for (shift, byte) in (0..).step_by(7).zip(at.by_ref()) {
            value |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                break;
            }
        }
        value
    };
    (number(), number())
}

#[test]
fn golden_bytes_decode_and_encode_to_themselves() {
    let mesh = mesh();
    for Vector { name, bytes } in parse(LOGS) {
        match name.split('_').next().unwrap() {
            "opening" => {
                let opening = LogOpening::decode(&bytes, &mesh).map(|opening| opening.encode(&mesh));
                assert_eq!(opening.as_ref(), Ok(&bytes), "{name}");
            }
            "head" => {
                let head =
                    SignedHead::decode(&bytes, &mesh).map(|(opening, head)| head.encode(&opening, &mesh));
                assert_eq!(head.as_ref(), Ok(&bytes), "{name}");
            }
            "have" => {
                assert_eq!(Have::decode(&bytes).map(|have| have.encode()).as_ref(), Ok(&bytes), "{name}")
            }
            "want" => {
                assert_eq!(Want::decode(&bytes).map(|want| want.encode()).as_ref(), Ok(&bytes), "{name}")
            }
            "gone" => {
                assert_eq!(Gone::decode(&bytes).map(|gone| gone.encode()).as_ref(), Ok(&bytes), "{name}")
            }
            "offer" => {
                assert_eq!(Offer::decode(&bytes).map(|offer| offer.encode()).as_ref(), Ok(&bytes), "{name}")
            }
            _ => {}
        }
    }
    for Vector { name, bytes } in parse(EVIDENCE) {
        let evidence = Evidence::decode(&bytes, &mesh, &mut VerifyBudget::new());
        assert_eq!(evidence.as_ref().map(Evidence::as_bytes), Ok(&bytes[..]), "{name}");
        let mut set = LogSet::new(mesh, Default::default());
        let now = scenes::at(0).time();
        let mut take = || set.receive_evidence(&bytes, now, &mut VerifyBudget::new(), |_| all());
        assert_eq!((take(), take()), (Ok(true), Ok(false)), "{name}");
    }
}

/// Each range is taken in by a follower that stands where it begins, which then gives the same range to others; and
/// those with peaks by somebody who has nothing.
#[test]
fn golden_ranges_are_taken_in_and_given_on_to_the_byte() {
    let writers = [event_log(), state_log()];
    for Vector { name, bytes } in parse(LOGS) {
        let Some(rest) = name.strip_prefix("range_") else { continue };
        let writer = &writers[usize::from(rest.starts_with("state"))];
        if rest.starts_with("extremes") {
            continue;
        }
        let (from, count) = bounds(&bytes);
        let alone = bytes[0] & 1 == 1;
        let form = if alone { RangeForm::Alone } else { RangeForm::Follow };
        let mut log = follower(writer, from);
        let received = receive(&mut log, &bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = match count {
            0 => Received::Head,
            _ => Received::Extended { from, to: from + count },
        };
        assert_eq!(received, expected, "{name}");
        let again = log.range(from, from + count, form, usize::MAX).map(|(bytes, _)| hex(&bytes));
        assert_eq!(again, Some(hex(&bytes)), "{name}");
        assert_eq!(log.root(), writer.root_at(from + count), "{name}");
        if alone {
            let stranger = Log::new(writer.opening().clone(), &mesh()).unwrap();
            let verified = stranger.verify(&bytes, &mut VerifyBudget::new()).unwrap();
            assert!(verified.entries().eq(log.entries(from, from + count)), "{name}");
            assert_eq!(Some(verified.head()), log.head(), "{name}");
        }
    }
}

/// Golden bytes cut anywhere are refused, so are golden bytes with one more behind them, and those of a range and of
/// evidence with any bit changed.
#[test]
fn cut_prolonged_and_changed_golden_bytes_are_refused() {
    let mesh = mesh();
    let writers = [event_log(), state_log()];
    // What is said to bytes in place of a golden vector, by whoever takes that in.
    let refused = |name: &str, copy: &Log, bytes: &[u8]| -> Option<String> {
        let budget = &mut VerifyBudget::new();
        match name.split('_').next().unwrap() {
            "opening" => Some(verdict(&LogOpening::decode(bytes, &mesh))),
            "head" => Some(verdict(&SignedHead::decode(bytes, &mesh))),
            "have" => Some(verdict(&Have::decode(bytes))),
            "want" => Some(verdict(&Want::decode(bytes))),
            "gone" => Some(verdict(&Gone::decode(bytes))),
            "offer" => Some(verdict(&Offer::decode(bytes))),
            "evidence" => Some(verdict(&Evidence::decode(bytes, &mesh, budget))),
            "range" if !name.contains("extremes") => {
                let mut log = copy.clone();
                let received = receive(&mut log, bytes);
                assert!(received.is_ok() || picture(&log) == picture(copy), "{name}: changed");
                Some(verdict(&received))
            }
            _ => None,
        }
    };
    for Vector { name, bytes } in parse(LOGS).into_iter().chain(parse(EVIDENCE)) {
        let writer = &writers[usize::from(name.contains("state"))];
        let from = if name.starts_with("range") { bounds(&bytes).0 } else { 0 };
        let copy = follower(writer, from);
        if refused(&name, &copy, &bytes).is_none() {
            continue;
        }
        // An offer without evidence is one too.
        let offer = name.starts_with("offer");
        let plain = bytes.len() - if offer && Offer::decode(&bytes).unwrap().facts.is_some() { 8 } else { 0 };
        for cut in (0..bytes.len()).filter(|cut| !offer || *cut != plain) {
            assert_ne!(refused(&name, &copy, &bytes[..cut]).unwrap(), "Ok", "{name} cut at {cut}");
        }
        let long = [&bytes[..], &[0]].concat();
        // One byte behind an offer without evidence begins some.
        let verdict = if offer && plain == bytes.len() { "Truncated" } else { "Trailing" };
        assert_eq!(refused(&name, &copy, &long).unwrap(), verdict, "{name}");
        if name.starts_with("range") || name.starts_with("evidence") || name.starts_with("head") {
            for bit in 0..bytes.len() * 8 {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(refused(&name, &copy, &changed).unwrap(), "Ok", "{name} with bit {bit} changed");
            }
        }
    }
}

/// The form that bytes have once they were decoded as what stands in a vector of that name.
fn form(name: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let mesh = mesh();
    match name.split('_').next().unwrap() {
        "opening" => LogOpening::decode(bytes, &mesh).ok().map(|opening| opening.encode(&mesh)),
        "head" => SignedHead::decode(bytes, &mesh).ok().map(|(opening, head)| head.encode(&opening, &mesh)),
        "have" => Have::decode(bytes).ok().map(|have| have.encode()),
        "want" => Want::decode(bytes).ok().map(|want| want.encode()),
        "gone" => Gone::decode(bytes).ok().map(|gone| gone.encode()),
        "offer" => Offer::decode(bytes).ok().map(|offer| offer.encode()),
        _ => None,
    }
}

/// Every prefix and every changed bit of what has no signature is refused, or is the one form of something else.
#[test]
fn small_golden_messages_with_any_bit_changed_are_refused_or_have_one_form() {
    let (mut prefixes, mut changes, mut taken) = (0_u64, 0_u64, 0_u64);
    for Vector { name, bytes } in parse(LOGS) {
        if form(&name, &bytes).is_none() {
            continue;
        }
        for cut in 0..bytes.len() {
            // An offer without evidence is one too.
            let form = form(&name, &bytes[..cut]);
            assert!(
                form.is_none_or(|form| name.starts_with("offer") && form == bytes[..cut]),
                "{name}: {cut}"
            );
            prefixes += 1;
        }
        let mut changed = bytes.clone();
        for bit in bits(&bytes) {
            changed[bit / 8] ^= 1 << (bit % 8);
            if let Some(form) = form(&name, &changed) {
                assert!(form == changed, "{name} with bit {bit} changed has two forms");
                taken += 1;
            }
            changes += 1;
            changed[bit / 8] = bytes[bit / 8];
        }
    }
    println!("{prefixes} prefixes, {changes} bits changed, {taken} of them something else");
    assert!(taken > 0 && taken < changes, "{taken} of {changes}");
}

/// Every prefix and every bit of the longest range.
#[test]
fn the_longest_golden_range_with_any_bit_changed_is_refused_and_changes_nothing() {
    let bytes = golden(LOGS, "range_extremes");
    let copy = scenes::extremes_follower();
    let before = picture(&copy);
    let mut log = copy.clone();
    let mut refused = |bytes: &[u8]| {
        let received = receive(&mut log, bytes);
        assert!(received.is_err() && picture(&log) == before, "{received:?}");
    };
    (0..bytes.len()).for_each(|cut| refused(&bytes[..cut]));
    let (mut changed, mut changes) = (bytes.clone(), 0_u64);
    for bit in bits(&bytes) {
        changed[bit / 8] ^= 1 << (bit % 8);
        refused(&changed);
        changed[bit / 8] = bytes[bit / 8];
        changes += 1;
    }
    println!("{} prefixes and {changes} changed bits refused", bytes.len());
    assert!(receive(&mut copy.clone(), &bytes).is_ok());
}

/// All that can be seen of a copy.
fn picture(log: &Log) -> impl PartialEq + use<> {
    let entries: Vec<_> = log.entries(0, u64::MAX).map(|entry| log.leaf(entry.seq)).collect();
    let held: Vec<_> = log.held().collect();
    (entries, held, log.head().copied(), log.furthest_head().copied(), log.ready(), log.base())
}

/// The name in a vector for what a decoder or a copy said: that of the innermost reason.
fn verdict<T, E: Debug>(result: &Result<T, E>) -> String {
    let Err(error) = result else { return "Ok".into() };
    let text = format!("{error:?}");
    let name = text.rsplit('(').next().unwrap_or_default();
    name.chars().take_while(char::is_ascii_alphanumeric).collect()
}

#[test]
fn malformed_bytes_are_refused_for_the_reason_named_and_change_nothing() {
    let mesh = mesh();
    let event = event_log();
    let state = state_log();
    let mut dropped = follower(&event, 11);
    dropped.drop_below(3).unwrap();
    let copies = [
        ("event", follower(&event, 0)),
        ("event_at_4", follower(&event, 4)),
        ("event_at_11_from_3", dropped),
        ("state", follower(&state, 0)),
    ];
    let mut names = BTreeSet::new();
    let vectors = parse(MALFORMED);
    for Vector { name, bytes } in &vectors {
        assert!(names.insert(name.clone()), "{name} is there twice");
        let [form, expected, _] = name.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{name}: not a form, an error and a name")
        };
        let budget = &mut VerifyBudget::new();
        let verdict = match form {
            "opening" => verdict(&LogOpening::decode(bytes, &mesh)),
            "key" => verdict(&AgentKey::admit(&AgentId::from_bytes(bytes[..].try_into().unwrap()))),
            "head" => verdict(&SignedHead::decode(bytes, &mesh)),
            "have" => verdict(&Have::decode(bytes)),
            "want" => verdict(&Want::decode(bytes)),
            "gone" => verdict(&Gone::decode(bytes)),
            "offer" => verdict(&Offer::decode(bytes)),
            "evidence" => {
                let mut set = LogSet::new(mesh, Default::default());
                let before = format!("{set:?}");
                let now = scenes::at(0).time();
                let received = set.receive_evidence(bytes, now, &mut VerifyBudget::new(), |_| all());
                assert!(received.is_ok() || format!("{set:?}") == before, "{name}: changed");
                let decoded = verdict(&Evidence::decode(bytes, &mesh, budget));
                assert_eq!(verdict(&received), decoded, "{name}");
                decoded
            }
            "verify" => verdict(&follower(&event, 0).verify(bytes, budget).map(|_| ())),
            _ => {
                let copy = copies.iter().find(|(copy, _)| *copy == form);
                let mut log = copy.unwrap_or_else(|| panic!("{name}: no such copy")).1.clone();
                let before = format!("{log:?}");
                let received = receive(&mut log, bytes);
                assert!(received.is_ok() || format!("{log:?}") == before, "{name}: changed");
                verdict(&received)
            }
        };
        assert_eq!(verdict, expected, "{name}");
    }
    for error in [
        "Truncated",
        "Varint",
        "Trailing",
        "Kind",
        "NotCanonical",
        "Limit",
        "Base",
        "WrongMesh",
        "NotAPoint",
        "SmallOrder",
        "MixedOrder",
        "BadSignature",
        "Unproven",
        "Gap",
        "Stale",
        "NoFork",
    ] {
        assert!(names.iter().any(|name| name.contains(error)), "no vector for {error}");
    }
    let refused = names.iter().filter(|name| !name.contains(" Ok ")).count();
    assert!(refused >= 60, "{refused}");
}

/// The extension of an entry, as `docs/wire/log.md` has it.
fn spelt(entry: &Entry<'_>) -> Vec<u8> {
    let mut extension = Vec::new();
    let mut field = |kind: u8, content: Vec<u8>| {
        if !content.is_empty() {
            extension.push(kind);
            varint(&mut extension, content.len() as u64);
            extension.extend(content);
        }
    };
    let mut content = Vec::new();
    for citation in entry.citations() {
        content.extend_from_slice(&citation.log);
        varint(&mut content, citation.size);
        content.extend(citation.root.iter().flat_map(|root| *root.as_bytes()));
    }
    field(1, core::mem::take(&mut content));
    for closure in entry.closures() {
        content.extend(closure.incarnation.as_u64().to_le_bytes());
        varint(&mut content, closure.below);
    }
    field(2, content);
    field(3, entry.last_final().map_or_else(Vec::new, |last| last.as_u64().to_le_bytes().to_vec()));
    extension
}

/// The keyed hashes of `docs/wire/log.md`, computed without the library.
struct Derived {
    id: [u8; 32],
}

impl Derived {
    fn new(mesh: &MeshId, opening: &LogOpening) -> Self {
        let levels: Vec<&str> = opening.topic.as_str().split('/').collect();
        let spelt = levels.iter().flat_map(|level| [&[0, level.len() as u8][..], level.as_bytes()].concat());
        let material = [
            &mesh.as_bytes()[..],
            &[1, u8::from(opening.kind == LogKind::Event), 0, 0],
            opening.agent.as_bytes(),
            &opening.incarnation.as_u64().to_le_bytes(),
            &[levels.len() as u8],
            &spelt.collect::<Vec<_>>(),
        ]
        .concat();
        assert_eq!(material, [mesh.as_bytes(), &opening.encode(mesh)[9..]].concat());
        Self { id: blake3::derive_key("consilience log v2", &material) }
    }

    fn key(&self, context: &str) -> [u8; 32] {
        blake3::derive_key(context, &self.id)
    }

    fn leaf(&self, entry: &Entry<'_>) -> [u8; 32] {
        let extension = spelt(entry);
        let payload = entry.payload().unwrap();
        let salted = [&entry.salt().unwrap()[..], payload].concat();
        let mut bytes = [
            &[entry.flags.bits(), u8::from(!extension.is_empty())][..],
            &(payload.len() as u16).to_le_bytes(),
            &entry.epoch.to_le_bytes(),
            &entry.seq.to_le_bytes(),
            &entry.base.to_le_bytes(),
            &entry.hlc.to_bits().to_le_bytes(),
            blake3::keyed_hash(&self.key("consilience log payload v2"), &salted).as_bytes(),
        ]
        .concat();
        assert_eq!(bytes.len(), 64);
        if !extension.is_empty() {
            let hash = blake3::keyed_hash(&self.key("consilience log extension v2"), &extension);
            bytes.extend_from_slice(hash.as_bytes());
        }
        *blake3::keyed_hash(&self.key("consilience log leaf v2"), &bytes).as_bytes()
    }

    /// RFC 6962 §2.1, word for word.
    fn root(&self, leaves: &[[u8; 32]]) -> [u8; 32] {
        if let [leaf] = leaves {
            return *leaf;
        }
        let mut split = 1;
        while split * 2 < leaves.len() {
            split *= 2;
        }
        let (left, right) = leaves.split_at(split);
        let both = [self.root(left), self.root(right)].concat();
        *blake3::keyed_hash(&self.key("consilience log node v2"), &both).as_bytes()
    }
}

#[test]
fn the_derivations_in_the_document_are_those_of_the_library() {
    let mesh = mesh();
    let discovery = blake3::derive_key("consilience discovery v1", mesh.as_bytes());
    assert_eq!(*mesh.discovery_key().as_bytes(), discovery);
    assert_eq!(golden(LOGS, "discovery_key"), discovery);
    for log in [event_log(), state_log()] {
        let derived = Derived::new(&mesh, log.opening());
        assert_eq!(*log.id().as_bytes(), derived.id);
        let leaves: Vec<_> = log.entries(0, u64::MAX).map(|entry| derived.leaf(&entry)).collect();
        for (leaf, seq) in leaves.iter().zip(0..) {
            assert_eq!(log.leaf(seq), Some(Hash::from_bytes(*leaf)));
        }
        for size in 1..=log.size() {
            let root = derived.root(&leaves[..size as usize]);
            assert_eq!(log.root_at(size), Some(Hash::from_bytes(root)));
        }
        let head = log.head().unwrap();
        let message = [
            &b"consilience signed log head v1\0\0"[..],
            &derived.id,
            &head.size.to_le_bytes(),
            &head.base.to_le_bytes(),
            &head.time.as_millis().to_le_bytes(),
            &derived.root(&leaves),
        ]
        .concat();
        assert_eq!(message.len(), 120);
        assert!(log.key().verifies(&message, &head.signature));
        assert_eq!(head.id(log.id()), Hash::from_bytes(*blake3::hash(&message).as_bytes()));
        assert_eq!(ada().sign(&message), Ok(head.signature), "signatures are those of RFC 8032");
    }
    for tag in SigningTag::ALL {
        let name = core::str::from_utf8(tag.as_bytes()).unwrap().trim_end_matches('\0');
        let zeros = ["", "one byte", "two bytes", "three bytes", "four bytes", "five bytes", "six bytes"]
            [32 - name.len()];
        let row =
            if zeros.is_empty() { format!("| `{name}` |") } else { format!("| `{name}` and {zeros} 0x00 |") };
        assert!(WIRE.contains(&row), "{row}");
    }
    assert_ne!(event_opening().log_id(&mesh), state_opening().log_id(&mesh));
}

/// The bytes in the document are those of the vectors.
#[test]
fn the_worked_examples_in_the_document_are_true() {
    let blocks: Vec<_> =
        WIRE.split("```wire\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let names = [
        (LOGS, "opening_event"),
        (LOGS, "range_event_sparse"),
        (EVIDENCE, "evidence_above_above"),
        (LOGS, "heads_order_event"),
        (LOGS, "heads_hashed_event"),
        (LOGS, "offer_forked"),
    ];
    assert_eq!(blocks.len(), names.len());
    for (block, (file, name)) in blocks.iter().zip(names) {
        let Some(Vector { bytes, .. }) = parse(&format!("example = {block}")).pop() else { unreachable!() };
        assert_eq!(hex(&bytes), hex(&golden(file, name)), "{name}");
    }
    let id = hex(&golden(LOGS, "heads_id_event"));
    assert!(WIRE.replace('\n', " ").contains(id.trim_end()), "the id of that head");
}

/// A set made of these ids under these keys, as the document has them, has the root of the library's.
#[test]
fn the_heads_of_a_set_are_those_of_the_document() {
    let (mut set, forked) = scenes::heads();
    let key = golden(LOGS, "heads_set_key").try_into().unwrap();
    let mut heads = ReconcileSet::new(&key, 1);
    for (name, log) in [("event", *event_log().id()), ("state", *state_log().id()), ("forked", forked)] {
        let held = |form: &str| golden(LOGS, &format!("heads_{form}_{name}"));
        let id = <[u8; 32]>::try_from(held("id")).unwrap();
        assert_eq!(heads.insert(&held("order"), &id), Ok(true));
        let topic = &set.log(&log).unwrap().opening().topic;
        for scope in [LogSet::scope_of(topic), LogSet::scope_within(topic)] {
            assert!(heads.range(&scope).any(|(_, there)| *there == id), "{name}");
        }
        let offer = Offer::decode(&golden(LOGS, &format!("offer_{name}"))).unwrap();
        let hashed = held("hashed");
        assert_eq!((&hashed[..32], &hashed[32..40]), (&log.as_bytes()[..], &offer.size.to_le_bytes()[..]));
        assert_eq!(hashed[40..48], offer.root, "{name}");
        assert_eq!(hashed.get(72..80), offer.facts.as_ref().map(|hash| &hash[..]), "{name}");
    }
    assert_eq!(heads.root(), set.heads_root());
    assert_eq!(golden(LOGS, "heads_root"), heads.root());
}

/// Writes bytes as the files have them: runs of one byte as `6b*9`, lines of at most 110 characters.
fn layout(vector: &Built) -> String {
    let mut tokens: Vec<String> = Vec::new();
    let mut rest = &vector.bytes[..];
    while let Some(first) = rest.first() {
        let run = rest.iter().take_while(|byte| *byte == first).count();
        let run = if run < 6 { 1 } else { run };
        tokens.push(if run == 1 { format!("{first:02x}") } else { format!("{first:02x}*{run}") });
        rest = &rest[run..];
    }
    let one = format!("{} = {}", vector.name, tokens.join(" "));
    if one.len() <= 110 {
        return one.trim_end().into();
    }
    let mut text = format!("{} =", vector.name);
    let mut line = usize::MAX;
    for token in tokens {
        if line > 106 - token.len() {
            text.push_str("\n   ");
            line = 3;
        }
        text.push(' ');
        text.push_str(&token);
        line += token.len() + 1;
    }
    text
}

#[test]
#[ignore = "prints the vectors, for whoever adds one"]
fn print() {
    for (file, vectors) in
        [("log.txt", log_forms()), ("evidence.txt", evidence()), ("malformed_log.txt", malformed())]
    {
        println!("=== {file}");
        for vector in &vectors {
            if !vector.comment.is_empty() {
                println!("\n# {}", vector.comment);
            }
            println!("{}", layout(vector));
        }
    }
}

/// Two spellings of one range: what begins at 0 has no peaks, whether its kind says that they are there or not.
#[test]
fn a_range_from_0_has_one_kind() {
    let mut bytes = golden(LOGS, "range_event_whole");
    assert_eq!(bytes[..2], [0x20, 0]);
    bytes[0] = 0x21;
    let mut log = follower(&event_log(), 0);
    assert_eq!(verdict::<_, ReceiveError>(&receive(&mut log, &bytes)), "NotCanonical");
}
