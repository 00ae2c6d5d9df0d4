//! The names of the store's files, and the three forms that are its own: the pointer, the watermark, the head of a
//! journal file.
//!
//! ```text
//! pointer-0, pointer-1   f5 63 4a 50 ‖ generation ‖ snapshot ‖ first ‖ check          u64le each, check 8 bytes
//! watermark              f5 63 4a 4d ‖ number ‖ length ‖ last ‖ check
//! snapshot-<n>           a snapshot
//! journal-<n>            f5 63 4a 4a ‖ behind ‖ length ‖ check, then records
//! ```
//!
//! The two pointers are equal, but while a snapshot takes the place of the one before: then the greater generation
//! counts. A pointer names the snapshot (0: none) and the first journal file that is needed. The watermark says how
//! much of the last journal file was durable at least, and up to which record that is. A journal file names the one
//! after which it goes on (`behind`), and how much of that is good.
//!
//! The invariant: a form is read as it was written, or not at all.

/// The head of a journal file.
pub(super) const HEAD: usize = 4 + 16 + 8;
/// The name of the watermark.
pub(super) const WATERMARK: &str = "watermark";
/// The names of the pointers.
pub(super) const SLOTS: [&str; 2] = ["pointer-0", "pointer-1"];

/// Which snapshot and which journal files count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pointer {
    pub(super) generation: u64,
    /// 0 if there is none.
    pub(super) snapshot: u64,
    /// Journal files before this one are not needed.
    pub(super) first: u64,
}

/// How much was durable at least when this was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Watermark {
    /// The number of the last journal file then, 0 if there was none.
    pub(super) file: u64,
    /// How many bytes of its records.
    pub(super) len: u64,
    /// The last record that is in it, before it, or covered.
    pub(super) last: u64,
}

/// The file after which a journal file goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Behind {
    /// The number of that file, 0 if there is none.
    pub(super) number: u64,
    /// How many bytes of its records are good.
    pub(super) len: u64,
}

fn check(bytes: &[u8]) -> [u8; 8] {
    let hash = blake3::derive_key("consilience store v1", bytes);
    core::array::from_fn(|at| hash.get(at).copied().unwrap_or_default())
}

/// Some bytes with their check after them.
pub(super) fn close(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend(check(&bytes));
    bytes
}

/// The bytes before a check, if it is right.
pub(super) fn open(bytes: &[u8]) -> Option<&[u8]> {
    let (content, checked) = bytes.split_last_chunk::<8>()?;
    (check(content) == *checked).then_some(content)
}

fn write(magic: u8, numbers: &[u64]) -> Vec<u8> {
    let mut bytes = vec![0xf5, 0x63, 0x4a, magic];
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    close(bytes)
}

fn read<const N: usize>(magic: u8, bytes: &[u8]) -> Option<[u64; N]> {
    let (magics, rest) = open(bytes)?.split_first_chunk::<4>()?;
    let (numbers, left) = rest.as_chunks::<8>();
    if *magics != [0xf5, 0x63, 0x4a, magic] || !left.is_empty() {
        return None;
    }
    let numbers: Vec<u64> = numbers.iter().map(|number| u64::from_le_bytes(*number)).collect();
    numbers.try_into().ok()
}

impl Pointer {
    /// The name of the slot that is written first.
    pub(super) const fn slot(self) -> &'static str {
        let [even, odd] = SLOTS;
        if self.generation.is_multiple_of(2) { even } else { odd }
    }

    pub(super) fn encode(self) -> Vec<u8> {
        write(b'P', &[self.generation, self.snapshot, self.first])
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let [generation, snapshot, first] = read(b'P', bytes)?;
        Some(Self { generation, snapshot, first })
    }
}

impl Watermark {
    pub(super) fn encode(self) -> Vec<u8> {
        write(b'M', &[self.file, self.len, self.last])
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let [file, len, last] = read(b'M', bytes)?;
        Some(Self { file, len, last })
    }
}

impl Behind {
    pub(super) fn encode(self) -> Vec<u8> {
        write(b'J', &[self.number, self.len])
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let [number, len] = read(b'J', bytes.get(..HEAD)?)?;
        Some(Self { number, len })
    }
}

pub(super) fn snapshot(number: u64) -> String {
    format!("snapshot-{number}")
}

pub(super) fn journal(number: u64) -> String {
    format!("journal-{number}")
}

/// The number in a name that one of these gave.
pub(super) fn number(name: &str, prefix: &str) -> Option<u64> {
    let number = name.strip_prefix(prefix)?.strip_prefix('-')?.parse().ok()?;
    (format!("{prefix}-{number}") == name).then_some(number)
}
