//! The format of the files of golden and malformed bytes, in `crdts/tests/vectors/` and `sync/tests/vectors/`. An entry
//! is `name = bytes`, over as many lines as it takes. Bytes are in hex; `6b*4000` is one byte 4,000 times. The text after
//! a `#` is a comment.

use std::collections::BTreeMap;

/// One entry: what stands before the `=`, and the bytes.
#[derive(Clone, Debug)]
pub struct Vector {
    /// The text before the `=`.
    pub name: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// All entries of a file. Panics on a line that is none.
pub fn parse(text: &str) -> Vec<Vector> {
    let mut vectors: Vec<Vector> = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let tokens = match line.split_once('=') {
            Some((name, tokens)) => {
                vectors.push(Vector { name: name.trim().into(), bytes: Vec::new() });
                tokens
            }
            None => line,
        };
        for token in tokens.split_whitespace() {
            let vector = vectors.last_mut().unwrap_or_else(|| panic!("bytes before the first name: {line}"));
            vector.bytes.extend(bytes(token).unwrap_or_else(|| panic!("{token} in {line}")));
        }
    }
    vectors
}

/// The bytes of the entry with that name. Panics if there is none.
#[must_use]
pub fn golden(text: &str, name: &str) -> Vec<u8> {
    parse(text).into_iter().find(|vector| vector.name == name).unwrap_or_else(|| panic!("no {name}")).bytes
}

/// Bytes as a file shows them: in hex, a space after each.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x} ")).collect()
}

/// The bits of a vector that a test changes: all of them, but inside of a long run of one byte only one of each byte, unless
/// `CONSILIENCE_ALL_BITS` is set.
pub fn bits(bytes: &[u8]) -> impl Iterator<Item = usize> + use<> {
    const RUN: usize = 64;
    let all = std::env::var_os("CONSILIENCE_ALL_BITS").is_some();
    let in_run = |at: usize| {
        let around = at.checked_sub(RUN / 2).and_then(|from| bytes.get(from..from + RUN));
        around.is_some_and(|around| around.iter().all(|byte| *byte == bytes[at]))
    };
    let runs: Vec<bool> = (0..bytes.len()).map(|at| !all && in_run(at)).collect();
    (0..bytes.len() * 8).filter(move |bit| !runs[bit / 8] || bit % 8 == bit / 8 % 8)
}

/// Panics unless a file holds these entries, all of them and no others, in whatever order.
pub fn compare(text: &str, built: impl IntoIterator<Item = (impl AsRef<str>, Vec<u8>)>) {
    let mut held = BTreeMap::new();
    for Vector { name, bytes } in parse(text) {
        assert!(held.insert(name.clone(), bytes).is_none(), "{name} is there twice");
    }
    for (name, bytes) in built {
        let name = name.as_ref();
        let golden: Option<Vec<u8>> = held.remove(name);
        assert_eq!(golden.as_deref().map(hex), Some(hex(&bytes)), "{name}");
    }
    assert!(held.is_empty(), "nobody builds {:?}", held.keys());
}

fn bytes(token: &str) -> Option<Vec<u8>> {
    let (hex, times) = token.split_once('*').unwrap_or((token, "1"));
    if !hex.is_ascii() || hex.len() % 2 != 0 {
        return None;
    }
    let once: Option<Vec<u8>> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect();
    Some(once?.repeat(times.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_a_name_and_bytes_over_several_lines_without_comments() {
        let vectors = parse("# none\nfirst = 00 ff\n    0102*2 # more = 03\n\nsecond =\n");
        let entries: Vec<_> =
            vectors.iter().map(|vector| (vector.name.as_str(), &vector.bytes[..])).collect();
        assert_eq!(entries, [("first", &[0, 0xff, 1, 2, 1, 2][..]), ("second", &[][..])]);
    }

    #[test]
    fn a_file_with_the_built_entries_compares() {
        compare("b = 01\na = 02 # two\n", [("a", vec![2]), ("b", vec![1])]);
        assert_eq!(golden("b = 01\na = 02\n", "a"), [2]);
    }

    #[test]
    fn every_bit_is_changed_but_in_long_runs() {
        assert!(bits(&[7; 8]).eq(0..64));
        let long = [vec![1, 2], vec![7; 200], vec![3]].concat();
        let changed: Vec<usize> = bits(&long).collect();
        // The run's ends are like everything else.
        assert_eq!(changed.len(), 3 * 8 + 63 * 8 + 137);
        assert!((0..long.len()).all(|at| changed.iter().any(|bit| bit / 8 == at)));
    }

    #[test]
    #[should_panic(expected = "02")]
    fn other_bytes_do_not_compare() {
        compare("a = 01\n", [("a", vec![2])]);
    }

    #[test]
    #[should_panic(expected = "nobody builds")]
    fn an_entry_that_nobody_builds_does_not_compare() {
        compare("a = 01\nb = 02\n", [("a", vec![1])]);
    }

    #[test]
    #[should_panic(expected = "is there twice")]
    fn two_entries_of_one_name_do_not_compare() {
        compare("a = 01\na = 01\n", [("a", vec![1])]);
    }

    #[test]
    #[should_panic(expected = "bytes before the first name")]
    fn bytes_without_a_name_are_no_entry() {
        parse("00 ff");
    }
}
