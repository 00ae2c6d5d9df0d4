//! Framing: where a record begins and ends, and whether it is as it was written.
//!
//! ```text
//! magic      f5 63 4a e7
//! stuffed    a 00 after each f5 63 4a, so that the magic stands nowhere but at a beginning:
//!   len        varint, of the bytes that follow, before they were stuffed
//!   id         varint
//!   confirmed  varint, below the id
//!   body
//!   seal       8 bytes: of the hash of digest, keyed by the mesh; digest = the keyed hash of id ‖ confirmed ‖ body
//!   check      8 bytes: of the keyed hash of digest ‖ seal, under a key that everybody has
//! ```
//!
//! A record ends where the next magic begins, so a stream is cut into pieces in one pass and each is hashed once: a
//! length on its own would let crafted bytes be hashed over and over, and a payload that looks like a record would be
//! taken for one. The check tells damage; the seal, after a good check, another mesh.
//!
//! The invariant: a record has one spelling, and no sequence of bodies contains the magic.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::borrow::Cow;
use alloc::vec::Vec;

use crate::MeshId;
use crate::codec::{Reader, put_varint};
use consilience_base::planted::{Fault, planted};

const MAGIC: [u8; 4] = [0xf5, 0x63, 0x4a, 0xe7];
/// Its first three bytes, after which everything else has a zero. No end of them is a beginning of them.
const STEM: [u8; 3] = [0xf5, 0x63, 0x4a];
const ESCAPE: u8 = 0;
/// The bytes of seal and check.
const CLOSING: usize = 16;

/// The keys that tell whether bytes are as they were written, and by the same mesh.
#[derive(Clone)]
pub(crate) struct Key {
    check: [u8; 32],
    seal: Option<[u8; 32]>,
}

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Key")
    }
}

/// The verdict of the two halves of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    Damaged,
    OtherMesh,
}

impl Key {
    const CHECK: &'static str = "consilience journal check v1";

    pub(crate) fn new(mesh: &MeshId) -> Self {
        let seal = blake3::derive_key("consilience journal seal v1", mesh.as_bytes());
        Self { check: blake3::derive_key(Self::CHECK, &[]), seal: Some(seal) }
    }

    /// For a program that stores records and does not know the mesh: every seal is good.
    pub(crate) fn without_mesh() -> Self {
        Self { check: blake3::derive_key(Self::CHECK, &[]), seal: None }
    }

    /// Appends seal and check of the bytes from `from` on.
    pub(crate) fn close(&self, bytes: &mut Vec<u8>, from: usize) {
        let digest = blake3::keyed_hash(&self.check, bytes.get(from..).unwrap_or_default());
        let seal = self.seal_of(digest.as_bytes()).unwrap_or_default();
        bytes.extend_from_slice(&seal);
        bytes.extend_from_slice(&self.check_of(digest.as_bytes(), seal));
    }

    /// The bytes before seal and check, and the verdict of these two.
    pub(crate) fn open<'a>(&self, bytes: &'a [u8]) -> (&'a [u8], Verdict) {
        let Some((sealed, check)) = bytes.split_last_chunk::<8>() else { return (&[], Verdict::Damaged) };
        let Some((content, seal)) = sealed.split_last_chunk::<8>() else { return (&[], Verdict::Damaged) };
        let digest = blake3::keyed_hash(&self.check, content);
        if self.check_of(digest.as_bytes(), *seal) != *check {
            return (content, Verdict::Damaged);
        }
        let ours = self.seal_of(digest.as_bytes()).is_none_or(|ours| ours == *seal);
        (content, if ours { Verdict::Good } else { Verdict::OtherMesh })
    }

    fn seal_of(&self, digest: &[u8; 32]) -> Option<[u8; 8]> {
        self.seal.map(|key| first8(&blake3::keyed_hash(&key, digest)))
    }

    fn check_of(&self, digest: &[u8; 32], seal: [u8; 8]) -> [u8; 8] {
        let mut bytes = [0; 40];
        let (front, back) = bytes.split_at_mut(32);
        front.copy_from_slice(digest);
        back.copy_from_slice(&seal);
        first8(&blake3::keyed_hash(&self.check, &bytes))
    }
}

fn first8(hash: &blake3::Hash) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    [a, b, c, d, e, f, g, h]
}

/// The bytes of a record.
pub(crate) fn write(key: &Key, id: u64, confirmed: u64, body: Vec<u8>) -> Vec<u8> {
    let mut numbers = Vec::with_capacity(20);
    put_varint(&mut numbers, id);
    put_varint(&mut numbers, confirmed);
    let content = numbers.len().saturating_add(body.len()).saturating_add(CLOSING);
    let mut bytes = Vec::with_capacity(content.saturating_add(14));
    bytes.extend_from_slice(&MAGIC);
    put_varint(&mut bytes, content as u64);
    let from = bytes.len();
    bytes.append(&mut numbers);
    bytes.extend_from_slice(&body);
    drop(body);
    key.close(&mut bytes, from);
    let plain = bytes.get(MAGIC.len()..).unwrap_or_default();
    if find_stem(plain).is_none() { bytes } else { stuff(plain) }
}

fn stuff(plain: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(plain.len().saturating_add(8));
    bytes.extend_from_slice(&MAGIC);
    let mut rest = plain;
    while let Some(at) = find_stem(rest) {
        let (done, more) = rest.split_at(at.saturating_add(STEM.len()).min(rest.len()));
        bytes.extend_from_slice(done);
        bytes.push(ESCAPE);
        rest = more;
    }
    bytes.extend_from_slice(rest);
    bytes
}

fn find_stem(bytes: &[u8]) -> Option<usize> {
    let mut from = 0_usize;
    loop {
        let rest = bytes.get(from..)?;
        let at = from.saturating_add(rest.iter().position(|byte| *byte == 0xf5)?);
        if bytes.get(at..)?.starts_with(&STEM) {
            return Some(at);
        }
        from = at.saturating_add(1);
    }
}

fn find_magic(bytes: &[u8], from: usize) -> Option<usize> {
    let mut from = from;
    loop {
        let at = from.saturating_add(find_stem(bytes.get(from..)?)?);
        if bytes.get(at..)?.starts_with(&MAGIC) {
            return Some(at);
        }
        from = at.saturating_add(STEM.len());
    }
}

/// A record that is as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Whole<'a> {
    pub(crate) id: u64,
    pub(crate) confirmed: u64,
    /// Id, confirmed and body.
    content: Cow<'a, [u8]>,
    body_at: usize,
    /// Where it ends in the stream.
    pub(crate) end: usize,
}

impl<'a> Whole<'a> {
    pub(crate) fn body(&self) -> &[u8] {
        self.content.get(self.body_at..).unwrap_or_default()
    }

    pub(crate) fn into_body(self) -> Cow<'a, [u8]> {
        match self.content {
            Cow::Borrowed(content) => Cow::Borrowed(content.get(self.body_at..).unwrap_or_default()),
            Cow::Owned(mut content) => {
                content.drain(..self.body_at.min(content.len()));
                Cow::Owned(content)
            }
        }
    }
}

/// A piece of a stream.
#[derive(Clone, Debug)]
pub(crate) enum Segment<'a> {
    Whole(Whole<'a>),
    /// Bytes that are no record.
    Damaged,
    /// A record of another mesh.
    OtherMesh,
}

/// The pieces of a stream, each with where it begins.
pub(crate) fn segments<'a>(key: &Key, bytes: &'a [u8]) -> impl Iterator<Item = (usize, Segment<'a>)> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let start = at;
        if !rest.starts_with(&MAGIC) {
            at = find_magic(bytes, at).unwrap_or(bytes.len());
            return Some((start, Segment::Damaged));
        }
        let next = find_magic(bytes, start.saturating_add(MAGIC.len())).unwrap_or(bytes.len());
        let segment = read(key, bytes.get(start..next).unwrap_or_default(), start);
        at = match &segment {
            Segment::Whole(whole) => whole.end,
            _ => next,
        };
        Some((start, segment))
    })
}

/// Takes the zeros out after the stems, up to where one is missing. Also says after how many plain bytes each stood.
fn unstuff(bytes: &[u8]) -> (Cow<'_, [u8]>, Vec<usize>) {
    let Some(mut at) = find_stem(bytes) else { return (Cow::Borrowed(bytes), Vec::new()) };
    let (mut plain, mut escapes) = (Vec::with_capacity(bytes.len()), Vec::new());
    let mut rest = bytes;
    loop {
        let (done, more) = rest.split_at(at.saturating_add(STEM.len()).min(rest.len()));
        plain.extend_from_slice(done);
        let [ESCAPE, more @ ..] = more else {
            plain.pop();
            break;
        };
        escapes.push(plain.len());
        rest = more;
        match find_stem(rest) {
            Some(next) => at = next,
            None => {
                plain.extend_from_slice(rest);
                break;
            }
        }
    }
    (Cow::Owned(plain), escapes)
}

/// Reads the record with which a piece begins.
fn read<'a>(key: &Key, segment: &'a [u8], start: usize) -> Segment<'a> {
    let (plain, escapes) = unstuff(segment.get(MAGIC.len()..).unwrap_or_default());
    let mut reader = Reader::new(&plain);
    let Ok(len) = reader.count(1) else { return Segment::Damaged };
    let from = reader.position();
    let to = from.saturating_add(len);
    let (content, verdict) = key.open(plain.get(from..to).unwrap_or_default());
    match verdict {
        Verdict::Damaged if !planted(Fault::RecordsAreNotChecked) => return Segment::Damaged,
        Verdict::OtherMesh => return Segment::OtherMesh,
        Verdict::Damaged | Verdict::Good => {}
    }
    let mut reader = Reader::new(content);
    let (Ok(id), Ok(confirmed)) = (reader.varint(), reader.varint()) else { return Segment::Damaged };
    if confirmed >= id {
        return Segment::Damaged;
    }
    let body_at = reader.position();
    let content_to = from.saturating_add(content.len());
    let stuffed = to.saturating_add(escapes.iter().take_while(|&&at| at <= to).count());
    let end = start.saturating_add(MAGIC.len()).saturating_add(stuffed);
    let content = match plain {
        Cow::Borrowed(plain) => Cow::Borrowed(plain.get(from..content_to).unwrap_or_default()),
        Cow::Owned(mut plain) => {
            plain.truncate(content_to);
            plain.drain(..from);
            Cow::Owned(plain)
        }
    };
    Segment::Whole(Whole { id, confirmed, content, body_at, end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn key() -> Key {
        Key::new(&MeshId::from_bytes([7; 32]))
    }

    #[test]
    fn bodies_made_of_magic_come_back() {
        for count in 0..40 {
            for cut in 0..4 {
                let body: Vec<u8> = MAGIC.iter().copied().cycle().take(4 * count + cut).collect();
                let stems: Vec<u8> = STEM.iter().copied().cycle().take(4 * count + cut).collect();
                for body in [body, stems] {
                    let one = write(&key(), 1, 0, body.clone());
                    assert_eq!(find_magic(&one, 1), None);
                    let key = key();
                    let stream = [&one[..], &one, &[0xf5, 0x63]].concat();
                    let all: Vec<_> = segments(&key, &stream).collect();
                    assert_eq!(all.len(), 3);
                    for ((at, segment), number) in all.iter().zip([0, 1]) {
                        let Segment::Whole(whole) = segment else { panic!("{segment:?}") };
                        assert_eq!((*at, whole.end), (number * one.len(), (number + 1) * one.len()));
                        assert_eq!(whole.body(), body);
                    }
                }
            }
        }
    }

    #[test]
    fn an_unneeded_or_missing_zero_is_no_second_spelling() {
        let one = write(&key(), 1, 0, vec![0xf5, 0x63, 0x4a, 1]);
        let at = one.windows(4).position(|four| four == [0xf5, 0x63, 0x4a, 0]).unwrap();
        let mut missing = one.clone();
        missing.remove(at + 3);
        let mut more = one.clone();
        more.insert(at + 3, 0);
        for bytes in [missing, more] {
            let key = key();
            let all: Vec<_> = segments(&key, &bytes).map(|(_, segment)| segment).collect();
            assert!(matches!(all[..], [Segment::Damaged]), "{all:?}");
        }
    }

    #[test]
    fn a_record_of_another_mesh_is_told_from_a_damaged_one() {
        let one = write(&key(), 1, 0, b"body".to_vec());
        let other = Key::new(&MeshId::from_bytes([8; 32]));
        assert!(matches!(segments(&other, &one).next(), Some((0, Segment::OtherMesh))));
        for at in 0..one.len() {
            let mut flipped = one.clone();
            *flipped.get_mut(at).unwrap() ^= 1;
            let all: Vec<_> = segments(&other, &flipped).collect();
            assert!(matches!(all[..], [(0, Segment::Damaged)]), "{at}: {all:?}");
        }
        let bytes = vec![0xf5; 1 << 20];
        assert_eq!(segments(&other, &bytes).count(), 1);
    }
}
