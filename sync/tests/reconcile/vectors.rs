//! Golden messages: whole conversations between two fixed sets. **A change to `tests/vectors/reconcile.txt` is a change
//! of the format**: of the layout, of short ids, checks and the mapping of items to cells, of the root, or of the
//! fingerprints. Sizes that a side is free to choose (how many cells, how ranges are split) show in them too.

use core::fmt::Write as _;

use consilience_sync::reconcile::{KeyRange, MessageError, Mode, Options, ReconcileSet, Reconciliation};
use consilience_test_support::vectors::{golden, hex, parse};

use crate::support::{Item, Side, config, id, plain, set_of};

const FRAMES: &str = include_str!("../vectors/reconcile.txt");
const WIRE: &str = include_str!("../../../docs/wire/reconcile.md");

/// The messages of one pass, in order.
fn conversation(
    a: &mut ReconcileSet,
    b: &mut ReconcileSet,
    opens: Options,
    accepts: Options,
) -> Vec<Vec<u8>> {
    let (machine, first) = Reconciliation::start(a, opens);
    let (mut opener, mut other) = (Side::new(machine), Side::new(Reconciliation::accept(accepts)));
    let mut messages = vec![first];
    loop {
        let message = messages.last().unwrap();
        let answer =
            if messages.len() % 2 == 1 { other.handle(b, message) } else { opener.handle(a, message) };
        match answer {
            Some(answer) => messages.push(answer),
            None => return messages,
        }
    }
}

fn built() -> Vec<(String, Vec<u8>)> {
    let auto = config(Mode::Auto, 512, 1);
    let ranges = config(Mode::Ranges, 512, 1);
    let root = Options { equal_last_time: true, ..auto.clone() };
    let keyed = |from: u64| -> ReconcileSet {
        let items: Vec<Item> =
            (from..from + 40).map(|n| (format!("t\0{}\0", n % 3).into_bytes(), id(n))).collect();
        set_of(&items)
    };
    let scoped = Options { scope: KeyRange::prefix(b"t\x001\0").unwrap(), ..auto.clone() };
    let refuses = Options { scope: KeyRange::prefix(b"u").unwrap(), ..auto.clone() };
    let conversations = [
        ("equal", conversation(&mut plain(0..3), &mut plain(0..3), auto.clone(), auto.clone())),
        ("equal_last_time", conversation(&mut plain(0..3), &mut plain(0..3), root.clone(), auto.clone())),
        ("few", conversation(&mut plain(0..40), &mut plain(2..43), auto.clone(), auto.clone())),
        ("no_longer_equal", conversation(&mut plain(0..40), &mut plain(1..41), root, auto.clone())),
        ("cells", conversation(&mut plain(0..330), &mut plain(30..360), auto.clone(), auto.clone())),
        ("ranges", conversation(&mut plain(0..60), &mut plain(1..61), ranges.clone(), ranges.clone())),
        ("empty", conversation(&mut plain(0..0), &mut plain(0..3), ranges.clone(), ranges)),
        ("scope", conversation(&mut keyed(0), &mut keyed(3), scoped.clone(), auto)),
        ("refused", conversation(&mut keyed(0), &mut keyed(3), scoped, refuses)),
    ];
    let named = |(name, messages): (&str, Vec<Vec<u8>>)| {
        messages
            .into_iter()
            .enumerate()
            .map(|(at, message)| (format!("{name}_{at}"), message))
            .collect::<Vec<_>>()
    };
    conversations.into_iter().flat_map(named).collect()
}

#[test]
fn the_messages_are_the_golden_ones() {
    let held = parse(FRAMES);
    let built = built();
    for (vector, (name, bytes)) in held.iter().zip(&built) {
        assert_eq!((&vector.name, hex(&vector.bytes)), (name, hex(bytes)));
    }
    assert_eq!(held.len(), built.len());
}

#[test]
fn no_golden_message_is_also_that_of_another_length() {
    // What is cut short, or has a byte behind it, is refused by the side that waits for the message.
    let open = golden(FRAMES, "few_0");
    let mut set = plain(2..43);
    for len in 0..open.len() {
        let mut machine = Reconciliation::accept(config(Mode::Auto, 512, 1));
        assert_eq!(machine.handle(&mut set, &open[..len]), Err(MessageError::Truncated), "{len} bytes");
    }
    let mut machine = Reconciliation::accept(config(Mode::Auto, 512, 1));
    let long = [&open[..], &[0]].concat();
    assert_eq!(machine.handle(&mut set, &long), Err(MessageError::Trailing));
}

#[test]
fn the_document_shows_messages_that_are_in_the_file() {
    // An example in the document is a line of hex behind the name of a vector in backquotes.
    let held = parse(FRAMES);
    let mut shown = 0;
    for line in WIRE.lines() {
        let Some((name, bytes)) = line.strip_prefix("    ").and_then(|line| line.split_once(" = ")) else {
            continue;
        };
        let vector = held.iter().find(|vector| vector.name == name).unwrap_or_else(|| panic!("no {name}"));
        let beginning = bytes.trim_end_matches(" ...");
        assert!(hex(&vector.bytes).starts_with(beginning), "{name}");
        assert!(bytes.ends_with("...") || hex(&vector.bytes).trim_end() == beginning, "{name}");
        shown += 1;
    }
    assert!(shown >= 4);
}

#[test]
#[ignore = "writes the vectors: for a change of the format that is meant"]
fn write_the_golden_messages() {
    let mut text = String::from(
        "# Frames of reconciliations between two fixed sets, in the order they are sent.\n\
         # A change to this file is a change of the format. tests/support has the notation, docs/wire/reconcile.md the layout.\n",
    );
    for (name, bytes) in built() {
        write!(text, "\n{name} =").unwrap();
        for row in bytes.chunks(38) {
            write!(text, "\n    {}", hex(row).trim_end()).unwrap();
        }
        text.push('\n');
    }
    std::fs::write("tests/vectors/reconcile.txt", text).unwrap();
}
