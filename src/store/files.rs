//! The names of the store's files, and the two forms that are its own: the pointer, and the head of a journal file.
//!
//! ```text
//! pointer-0, pointer-1   f5 63 4a 50 ‖ generation ‖ snapshot ‖ first ‖ check          u64le each, check 8 bytes
//! snapshot-<n>           a snapshot
//! journal-<n>            f5 63 4a 4a ‖ behind ‖ length ‖ check, then records
//! ```
//!
//! The pointer with the greater generation counts; the other is the one before, and the next to be written. It names the
//! snapshot (0: none) and the first journal file that is needed. A journal file names the one after which it goes on
//! (`behind`), and how much of that is good.
//!
//! The invariant: a form is read as it was written, or not at all.

/// Two halves of a form.
pub(super) const HEAD: usize = 4 + 16 + 8;

/// Which snapshot and which journal files count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pointer {
    pub(super) generation: u64,
    /// 0 if there is none.
    pub(super) snapshot: u64,
    /// Journal files before this one are not needed.
    pub(super) first: u64,
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

fn write(magic: u8, numbers: &[u64]) -> Vec<u8> {
    let mut bytes = vec![0xf5, 0x63, 0x4a, magic];
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    bytes.extend(check(&bytes));
    bytes
}

fn read<const N: usize>(magic: u8, bytes: &[u8]) -> Option<[u64; N]> {
    let (content, checked) = bytes.split_last_chunk::<8>()?;
    let (magics, rest) = content.split_first_chunk::<4>()?;
    let (numbers, left) = rest.as_chunks::<8>();
    if *magics != [0xf5, 0x63, 0x4a, magic] || !left.is_empty() || check(content) != *checked {
        return None;
    }
    let numbers: Vec<u64> = numbers.iter().map(|number| u64::from_le_bytes(*number)).collect();
    numbers.try_into().ok()
}

impl Pointer {
    pub(super) fn name(self) -> String {
        format!("pointer-{}", self.generation % 2)
    }

    pub(super) fn encode(self) -> Vec<u8> {
        write(b'P', &[self.generation, self.snapshot, self.first])
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let [generation, snapshot, first] = read(b'P', bytes)?;
        Some(Self { generation, snapshot, first })
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
