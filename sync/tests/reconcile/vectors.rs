//! Golden messages: whole conversations between two fixed sets. **A change to `tests/vectors/reconcile.txt` is a change
//! of the format**: of the layout, of short ids, checks and the mapping of items to cells, of the root, or of the
//! fingerprints. Sizes that a side is free to choose (how many cells, how ranges are split) show in them too.

use core::fmt::Write as _;

use consilience_sync::reconcile::{KeyRange, MessageError, Mode, Options, ReconcileSet, Reconciliation};
use consilience_test_support::vectors::{golden, hex, parse};

use crate::support::{Item, Side, config, id, plain, set_of};

const FRAMES: &str = include_str!("../vectors/reconcile.txt");
const WIRE: &str = include_str!("../../../docs/wire/reconcile.md");

/// Sees each message before the side that waits for it does.
type Watch<'a> = &'a mut dyn FnMut(&Reconciliation, &mut ReconcileSet, &[u8]);

/// The messages of one pass, in order.
fn conversation(
    (a, b): (&mut ReconcileSet, &mut ReconcileSet),
    opens: Options,
    accepts: Options,
    watch: Watch<'_>,
) -> Vec<Vec<u8>> {
    let (machine, first) = Reconciliation::start(a, opens);
    let (mut opener, mut other) = (Side::new(machine), Side::new(Reconciliation::accept(accepts)));
    let mut messages = vec![first];
    loop {
        let message = messages.last().unwrap();
        let (side, set) =
            if messages.len() % 2 == 1 { (&mut other, &mut *b) } else { (&mut opener, &mut *a) };
        watch(&side.machine, set, message);
        match side.handle(set, message) {
            Some(answer) => messages.push(answer),
            None => return messages,
        }
    }
}

fn built(watch: Watch<'_>) -> Vec<(String, Vec<u8>)> {
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
        ("equal", conversation((&mut plain(0..3), &mut plain(0..3)), auto.clone(), auto.clone(), watch)),
        (
            "equal_last_time",
            conversation((&mut plain(0..3), &mut plain(0..3)), root.clone(), auto.clone(), watch),
        ),
        ("few", conversation((&mut plain(0..40), &mut plain(2..43)), auto.clone(), auto.clone(), watch)),
        ("no_longer_equal", conversation((&mut plain(0..40), &mut plain(1..41)), root, auto.clone(), watch)),
        ("cells", conversation((&mut plain(0..330), &mut plain(30..360)), auto.clone(), auto.clone(), watch)),
        (
            "ranges",
            conversation((&mut plain(0..60), &mut plain(1..61)), ranges.clone(), ranges.clone(), watch),
        ),
        ("empty", conversation((&mut plain(0..0), &mut plain(0..3)), ranges.clone(), ranges, watch)),
        ("scope", conversation((&mut keyed(0), &mut keyed(3)), scoped.clone(), auto, watch)),
        ("refused", conversation((&mut keyed(0), &mut keyed(3)), scoped, refuses, watch)),
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
    let built = built(&mut |_, _, _| ());
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

/// Every prefix and every changed bit is refused and changes nothing, or is another message, after which the state has one
/// form. Lists of cells and ranges end where their message ends, so a prefix may be a message.
#[test]
fn golden_messages_cut_or_with_any_bit_changed_are_refused_and_change_nothing_or_are_other_messages() {
    let configs = [config(Mode::Auto, 512, 1), config(Mode::Ranges, 512, 1)];
    let (mut prefixes, mut whole, mut bits, mut taken) = (0_u64, 0_u64, 0_u64, 0_u64);
    built(&mut |machine, set, message| {
        let before = machine.to_bytes();
        let mut handle = |bytes: &[u8]| {
            let mut machine = machine.clone();
            let step = machine.handle(set, bytes);
            let after = machine.to_bytes();
            assert!(step.is_ok() || after == before, "a refused message changes nothing");
            // A side is put back with the options that it had; those of another mode refuse its state.
            let read =
                configs.iter().filter_map(|config| Reconciliation::from_bytes(config.clone(), &after).ok());
            assert!(step.is_err() || read.map(|machine| machine.to_bytes()).all(|read| read == after));
            u64::from(step.is_ok())
        };
        for cut in 0..message.len() {
            whole += handle(&message[..cut]);
            prefixes += 1;
        }
        let mut changed = message.to_vec();
        for bit in 0..message.len() * 8 {
            changed[bit / 8] ^= 1 << (bit % 8);
            taken += handle(&changed);
            bits += 1;
            changed[bit / 8] = message[bit / 8];
        }
    });
    println!(
        "{prefixes} prefixes, {whole} of them messages; {bits} bits changed, {taken} of them other messages"
    );
    assert!(whole < prefixes / 4 && taken > 0 && taken < bits, "{whole} of {prefixes}, {taken} of {bits}");
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
    for (name, bytes) in built(&mut |_, _, _| ()) {
        write!(text, "\n{name} =").unwrap();
        for row in bytes.chunks(38) {
            write!(text, "\n    {}", hex(row).trim_end()).unwrap();
        }
        text.push('\n');
    }
    std::fs::write("tests/vectors/reconcile.txt", text).unwrap();
}
