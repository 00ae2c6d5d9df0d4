//! Signs what an input says, in the name of the writer whose key is [`ada`](crate::logs::ada): heads, both heads of evidence,
//! and proofs. So that changed bytes get past the check of the signature. It reads no more of the forms than it has to, and
//! shares no code with the library.

use consilience_sync::codec::put_varint;
use consilience_sync::{LogOpening, Signer, SigningTag};

use crate::logs::{ada, mesh, opening};

const AGENT: core::ops::Range<usize> = 13..45;
/// The byte that says how many levels a topic has.
const LEVELS: usize = 53;
/// No input has a greater tree: hashes are counted before there is one.
const HASHES_MAX: usize = 64;

type Hash = [u8; 32];

/// An input, and how much of it was read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn hashes(&mut self, count: usize) -> Option<Vec<Hash>> {
        let bytes = self.take(count.checked_mul(32).filter(|_| count <= HASHES_MAX)?)?;
        Some(bytes.as_chunks().0.to_vec())
    }

    /// An opening as it is, but of the writer.
    fn opening(&mut self) -> Option<(Vec<u8>, LogOpening)> {
        let levels = *self.0.get(LEVELS)?;
        let mut len = LEVELS + 1;
        for _ in 0..levels {
            len += 2 + usize::from(*self.0.get(len + 1)?);
        }
        let mut bytes = self.take(len)?.to_vec();
        bytes[AGENT].copy_from_slice(ada().agent().as_bytes());
        let opening = LogOpening::decode(&bytes, &mesh()).ok()?;
        Some((bytes, opening))
    }
}

/// How many subtrees make up what lies behind the first `from` entries of a tree.
fn cover(from: u64, size: u64) -> usize {
    if from >= size {
        return 0;
    }
    if from == 0 {
        return 1;
    }
    let left = split(size);
    if from < left { cover(from, left) + 1 } else { cover(from - left, size - left) }
}

/// The greatest power of two below a size above 1.
const fn split(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}

/// The root of a tree from the subtrees before and after `from`, in order.
fn root(
    key: &Hash,
    from: u64,
    (start, size): (u64, u64),
    hashes: &mut impl Iterator<Item = Hash>,
) -> Option<Hash> {
    // The peaks before are full trees.
    if start + size <= from && size.is_power_of_two() || start >= from {
        return hashes.next();
    }
    let left = split(size);
    let [left, right] =
        [root(key, from, (start, left), hashes)?, root(key, from, (start + left, size - left), hashes)?];
    Some(*blake3::keyed_hash(key, &[left, right].concat()).as_bytes())
}

fn node_key(opening: &LogOpening) -> Hash {
    blake3::derive_key("consilience log node v2", opening.log_id(&mesh()).as_bytes())
}

fn signature(opening: &LogOpening, size: u64, base: u64, time: u64, root: &Hash) -> Option<Vec<u8>> {
    let mut message = SigningTag::Head.as_bytes().to_vec();
    message.extend(opening.log_id(&mesh()).as_bytes());
    message.extend([size, base, time].iter().flat_map(|number| number.to_le_bytes()));
    message.extend(root);
    Some(ada().sign(&message).ok()?.as_bytes().to_vec())
}

fn put_all(out: &mut Vec<u8>, numbers: &[u64]) {
    numbers.iter().for_each(|number| put_varint(out, *number));
}

/// A head with its signature.
pub fn head(input: &[u8]) -> Option<Vec<u8>> {
    let mut rest = Bytes(input);
    let mut out = rest.take(1).filter(|kind| kind[0] == 0x29)?.to_vec();
    let (bytes, opening) = rest.opening()?;
    out.extend(bytes);
    let (size, base, time) = (rest.varint()?, rest.varint()?, rest.varint()?);
    put_all(&mut out, &[size, base, time]);
    let root = rest.hashes(1)?[0];
    rest.take(64)?;
    out.extend(root);
    out.extend(signature(&opening, size, base, time, &root)?);
    out.extend(rest.0);
    Some(out)
}

/// Evidence with both signatures, and its sides in order.
pub fn evidence(input: &[u8]) -> Option<Vec<u8>> {
    let mut rest = Bytes(input);
    let mut out = rest.take(1).filter(|kind| kind[0] == 0x2a)?.to_vec();
    let (bytes, opening) = rest.opening()?;
    out.extend(bytes);
    let (size, shared) = (rest.varint()?, usize::try_from(rest.varint()?).ok()?);
    if size == 0 || size > 1 << 44 {
        return None;
    }
    put_all(&mut out, &[size, shared as u64]);
    let peaks = rest.hashes(shared)?;
    out.extend(peaks.iter().flatten());
    let key = node_key(&opening);
    let mut sides = Vec::new();
    for _ in 0..2 {
        let (beyond, base, time) = (rest.varint()?, rest.varint()?, rest.varint()?);
        rest.take(64)?;
        let whole = size.checked_add(beyond).filter(|size| *size <= 1 << 44)?;
        let others = (size.count_ones() as usize).checked_sub(shared)?;
        let hashes = rest.hashes(if beyond == 0 { 1 } else { others + cover(size, whole) })?;
        let root = match beyond {
            0 => hashes[0],
            _ => root(&key, size, (0, whole), &mut peaks.iter().chain(&hashes).copied())?,
        };
        let mut side = Vec::new();
        put_all(&mut side, &[beyond, base, time]);
        side.extend(signature(&opening, whole, base, time, &root)?);
        side.extend(hashes.iter().flatten());
        sides.push(side);
    }
    sides.sort();
    out.extend(sides.iter().flatten());
    out.extend(rest.0);
    Some(out)
}

/// A range without entries that brings its peaks, with its signature: of the log of this kind that the targets have.
pub fn proof(input: &[u8], kind: consilience_sync::LogKind) -> Option<Vec<u8>> {
    let mut rest = Bytes(input);
    let mut out = rest.take(1).filter(|kind| matches!(kind[0], 0x21 | 0x23))?.to_vec();
    let from = rest.varint().filter(|from| (1..1 << 44).contains(from))?;
    rest.varint().filter(|count| *count == 0)?;
    put_all(&mut out, &[from, 0]);
    let peaks = rest.hashes(from.count_ones() as usize)?;
    out.extend(peaks.iter().flatten());
    let beyond = if out[0] & 2 == 0 { 0 } else { rest.varint().filter(|beyond| *beyond < 1 << 44)? };
    if out[0] & 2 != 0 {
        put_all(&mut out, &[beyond]);
    }
    let (base, time) = (rest.varint()?, rest.varint()?);
    put_all(&mut out, &[base, time]);
    rest.take(64)?;
    let size = from + beyond;
    let after = rest.hashes(cover(from, size))?;
    let opening = opening(kind);
    let root = root(&node_key(&opening), from, (0, size), &mut peaks.iter().chain(&after).copied())?;
    // Zigzag: nobody signs a time before the epoch.
    let time = if time % 2 == 0 { time / 2 } else { return None };
    out.extend(signature(&opening, size, base, time, &root)?);
    out.extend(after.iter().flatten());
    out.extend(rest.0);
    Some(out)
}

#[cfg(test)]
mod tests {
    use consilience_sync::{Evidence, LogKind, RangeForm, SignedHead, VerifyBudget};
    use consilience_test_support::vectors::parse;

    use super::*;
    use crate::logs::written;

    const LOGS: &str = include_str!("../../sync/tests/vectors/log.txt");
    const EVIDENCE: &str = include_str!("../../sync/tests/vectors/evidence.txt");

    /// Whatever signature a golden form has, the right one takes its place.
    #[test]
    fn golden_heads_and_evidence_are_signed_as_they_are() {
        let (mut heads, mut found) = (0, 0);
        for vector in parse(LOGS).into_iter().filter(|vector| vector.name.starts_with("head_")) {
            assert_eq!(head(&vector.bytes).as_ref(), Some(&vector.bytes), "{}", vector.name);
            assert!(SignedHead::decode(&vector.bytes, &mesh()).is_ok());
            heads += 1;
        }
        for vector in parse(EVIDENCE) {
            assert_eq!(evidence(&vector.bytes).as_ref(), Some(&vector.bytes), "{}", vector.name);
            assert!(Evidence::decode(&vector.bytes, &mesh(), &mut VerifyBudget::new()).is_ok());
            found += 1;
        }
        assert!(heads > 1 && found == 4, "{heads} {found}");
    }

    #[test]
    fn a_changed_root_is_signed_and_decodes() {
        let vectors = parse(LOGS);
        let mut bytes = vectors.iter().find(|vector| vector.name.starts_with("head_")).unwrap().bytes.clone();
        let root = bytes.len() - 64 - 1;
        bytes[root] ^= 1;
        assert!(SignedHead::decode(&bytes, &mesh()).is_err());
        assert!(SignedHead::decode(&head(&bytes).unwrap(), &mesh()).is_ok());
    }

    #[test]
    fn proofs_of_the_targets_logs_are_signed_as_they_are() {
        for kind in [LogKind::Event, LogKind::State] {
            let log = written(kind);
            for from in [5, 48, 69, 70] {
                let (bytes, _) = log.range(from, from, RangeForm::Alone, usize::MAX).unwrap();
                assert_eq!(proof(&bytes, kind).as_ref(), Some(&bytes), "{from}");
            }
        }
    }
}
