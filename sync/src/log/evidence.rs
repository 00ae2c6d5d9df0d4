//! [`Evidence`] of a fork: two signed heads of one log, and the hashes that show different roots at one size.
//!
//! Evidence is portable. Every member of the mesh can check it without either copy of the log, and it stays true
//! whatever else is learnt. Of two pieces of evidence about one log, the one at the smaller size says more; at one
//! size, the bytes decide. So evidence is a lattice, whose join is the minimum.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;
use core::cmp::Ordering;

use consilience_base::Timestamp;

use super::Proof;
use super::head::{HEAD_MILLIS_MAX, SignedHead};
use super::keys::LogKeys;
use super::run::Run;
use super::shape;
use super::shape::LOG_SIZE_MAX;
use crate::budget::VerifyBudget;
use crate::codec::{DecodeError, Reader, put_varint};
use crate::hash::Hash;
use crate::identity::{AgentKey, LogId, LogKind, LogOpening, MeshId, NamedOpening, OpeningError, Signature};

const KIND: u8 = 0x2a;

/// A head, and the hashes that show the root of its tree at a smaller size.
#[derive(Clone, Debug)]
pub(super) struct Side {
    head: SignedHead,
    /// The peaks at the size in question. For a head of just that size, its root alone.
    peaks: Vec<Hash>,
    right: Vec<Hash>,
}

impl Side {
    /// A head at the size in question.
    pub(super) fn whole(head: SignedHead) -> Self {
        Self { head, peaks: [head.root].into(), right: Vec::new() }
    }

    /// A head above the size in question, from the run that it covers.
    pub(super) fn within(run: &Run, keys: &LogKeys, proof: &Proof, size: u64) -> Option<Self> {
        if proof.head.size == size {
            return Some(Self::whole(proof.head));
        }
        let mut proofs = run.proofs(keys, &proof.beyond);
        let peaks = proofs.peaks_known(size)?;
        let right = proofs.right_cover(size, proof.head.size)?.into_iter().map(|(_, hash)| hash).collect();
        Some(Self { head: proof.head, peaks, right })
    }

    fn write(&self, size: u64, shared: usize, bytes: &mut Vec<u8>) {
        put_varint(bytes, self.head.size.saturating_sub(size));
        put_varint(bytes, self.head.base);
        put_varint(bytes, self.head.time.as_millis());
        bytes.extend_from_slice(self.head.signature.as_bytes());
        for hash in self.peaks.iter().skip(shared).chain(&self.right) {
            bytes.extend_from_slice(hash.as_bytes());
        }
    }

    fn read(reader: &mut Reader<'_>, size: u64, shared: &[Hash]) -> Result<Self, DecodeError> {
        let more = reader.varint()?;
        let head_size =
            size.checked_add(more).filter(|&size| size <= LOG_SIZE_MAX).ok_or(DecodeError::Limit)?;
        let base = reader.varint()?;
        if base >= head_size {
            return Err(DecodeError::Base);
        }
        let time = Timestamp::from_millis(reader.varint_max(HEAD_MILLIS_MAX)?);
        let signature = Signature::from_bytes(reader.array()?);
        let whole = more == 0;
        if whole && !shared.is_empty() {
            return Err(DecodeError::NotCanonical);
        }
        let count = if whole { 1 } else { shape::peaks_len(size) };
        let mut peaks = shared.to_vec();
        while peaks.len() < count {
            peaks.push(Hash::from_bytes(reader.array()?));
        }
        let mut right = Vec::new();
        for _ in shape::right_cover(size, head_size) {
            right.push(Hash::from_bytes(reader.array()?));
        }
        // The root comes from the hashes.
        let root = Hash::from_bytes([0; 32]);
        Ok(Self { head: SignedHead { size: head_size, base, time, root, signature }, peaks, right })
    }

    /// The root at the size in question, after putting the head's own root in its place.
    fn complete(&mut self, keys: &LogKeys, size: u64) -> Option<Hash> {
        let at_size = shape::bag(keys, &self.peaks)?;
        self.head.root = if self.head.size == size {
            at_size
        } else {
            shape::fold(keys, self.head.size, size, &self.peaks, &self.right)?
        };
        Some(at_size)
    }
}

/// Proof that a writer signed two histories of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    opening: LogOpening,
    log: LogId,
    size: u64,
    /// The greater base of the two heads.
    base: u64,
    bytes: Vec<u8>,
}

/// Why bytes are not evidence. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// The opening or the bytes are not accepted.
    #[error(transparent)]
    Opening(#[from] OpeningError),
    /// One of the two signatures is not the writer's.
    #[error("one of the signatures is not the writer's")]
    BadSignature,
    /// The two heads agree at the size in question: no fork.
    #[error("the two heads agree: this shows no fork")]
    NoFork,
    /// The peer has caused more signature checks than its bytes pay for. Try again when more has come.
    #[error("the peer's allowance of signature checks is used up")]
    Budget,
}

impl From<DecodeError> for EvidenceError {
    fn from(error: DecodeError) -> Self {
        Self::Opening(error.into())
    }
}

impl Evidence {
    /// Two verified heads whose trees differ at `size`. `None` if they do not.
    pub(super) fn of(
        (opening, mesh): (&LogOpening, &MeshId),
        (log, keys): (LogId, &LogKeys),
        size: u64,
        one: Side,
        other: Side,
    ) -> Option<Self> {
        if shape::bag(keys, &one.peaks) == shape::bag(keys, &other.peaks) {
            return None;
        }
        let shared = shared_peaks(size, &one, &other);
        let mut sides = [Vec::new(), Vec::new()];
        for (side, bytes) in [&one, &other].into_iter().zip(&mut sides) {
            side.write(size, shared, bytes);
        }
        sides.sort();
        let mut bytes = Vec::new();
        bytes.push(KIND);
        opening.write(mesh, &mut bytes);
        put_varint(&mut bytes, size);
        put_varint(&mut bytes, shared as u64);
        for hash in one.peaks.iter().take(shared) {
            bytes.extend_from_slice(hash.as_bytes());
        }
        bytes.extend(sides.concat());
        let base = one.head.base.max(other.head.base);
        Some(Self { opening: opening.clone(), log, size, base, bytes })
    }

    /// Reads and checks evidence: its form, the writer's key, and both signatures. Costs two signature checks, and
    /// the admission of the key, which counts as another.
    ///
    /// # Errors
    ///
    /// [`OpeningError::WrongMesh`] where the bytes belong elsewhere, [`EvidenceError::NoFork`] where they show none,
    /// else the fault in them.
    pub fn decode(bytes: &[u8], mesh: &MeshId, budget: &mut VerifyBudget) -> Result<Self, EvidenceError> {
        Ok(UncheckedEvidence::parse(bytes, mesh)?.check(budget, None)?.0)
    }

    /// Evidence at the same size of one of its two heads and another one, if that contradicts it.
    pub(super) fn with(&self, mesh: &MeshId, keys: &LogKeys, other: &Side) -> Option<Self> {
        let unchecked = UncheckedEvidence::parse(&self.bytes, mesh).ok()?;
        let (size, sides) = unchecked.sides(keys).ok()?;
        let about = (&self.opening, mesh);
        sides.into_iter().find_map(|side| Self::of(about, (self.log, keys), size, side, other.clone()))
    }

    /// The canonical bytes, at most some 1.5 kB for logs of up to a million entries. Layout: `docs/wire/log.md`.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The opening of the forked log.
    #[must_use]
    pub const fn opening(&self) -> &LogOpening {
        &self.opening
    }

    /// The id of the forked log.
    #[must_use]
    pub const fn log(&self) -> &LogId {
        &self.log
    }

    /// The size at which the two roots differ: the first entry that differs is below it.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The greater base of the two heads: the writer has signed in one of its histories that nobody needs the entries of
    /// an event log below it. It may lie above [`valid_below`](Self::valid_below).
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Whether the forked log is an event log.
    pub(crate) fn is_of_events(&self) -> bool {
        self.opening.kind == LogKind::Event
    }

    /// Entries below are valid as far as this evidence goes: none of a state log; of an event log those before the
    /// last that the differing roots cover.
    #[must_use]
    pub const fn valid_below(&self) -> u64 {
        match self.opening.kind {
            LogKind::State => 0,
            LogKind::Event => self.size.saturating_sub(1),
        }
    }
}

/// Evidence of which the opening was read: which log it is about is known, and nothing of it is checked.
#[derive(Clone, Debug)]
pub struct UncheckedEvidence<'a> {
    opening: NamedOpening,
    bytes: &'a [u8],
    /// The bytes after the opening.
    rest: Reader<'a>,
}

impl<'a> UncheckedEvidence<'a> {
    /// Reads the opening.
    ///
    /// # Errors
    ///
    /// [`OpeningError::WrongMesh`] where the bytes belong elsewhere, else the fault in the opening.
    pub fn parse(bytes: &'a [u8], mesh: &MeshId) -> Result<Self, EvidenceError> {
        let mut rest = Reader::new(bytes);
        if rest.byte()? != KIND {
            return Err(DecodeError::Kind.into());
        }
        let opening = LogOpening::read(&mut rest, mesh)?.named(mesh);
        Ok(Self { opening, bytes, rest })
    }

    /// The opening of the log that it is about.
    #[must_use]
    pub const fn opening(&self) -> &NamedOpening {
        &self.opening
    }

    /// All of its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Reads the rest: the size in question, and the two heads, whose roots at that size differ.
    fn sides(&self, keys: &LogKeys) -> Result<(u64, [Side; 2]), EvidenceError> {
        let mut reader = self.rest.clone();
        let size = reader.varint_max(LOG_SIZE_MAX)?;
        if size == 0 {
            return Err(DecodeError::Limit.into());
        }
        let shared_len = reader.count(Hash::LEN)?;
        if shared_len > shape::peaks_len(size) {
            return Err(DecodeError::NotCanonical.into());
        }
        let mut shared = Vec::with_capacity(shared_len);
        for _ in 0..shared_len {
            shared.push(Hash::from_bytes(reader.array()?));
        }
        let start = reader.position();
        let mut one = Side::read(&mut reader, size, &shared)?;
        let one_bytes = reader.since(start);
        let middle = reader.position();
        let mut other = Side::read(&mut reader, size, &shared)?;
        let other_bytes = reader.since(middle);
        reader.finish()?;
        if one_bytes >= other_bytes || shared_peaks(size, &one, &other) != shared_len {
            return Err(DecodeError::NotCanonical.into());
        }

        let (Some(one_root), Some(other_root)) = (one.complete(keys, size), other.complete(keys, size))
        else {
            return Err(DecodeError::NotCanonical.into());
        };
        if one_root == other_root {
            return Err(EvidenceError::NoFork);
        }
        Ok((size, [one, other]))
    }

    /// Reads and checks the rest, as [`Evidence::decode`] does, with a key that may be admitted already, and is
    /// afterwards.
    pub(crate) fn check(
        &self,
        budget: &mut VerifyBudget,
        admitted: Option<AgentKey>,
    ) -> Result<(Evidence, AgentKey), EvidenceError> {
        let (log, opening) = (*self.opening.id(), self.opening.opening().clone());
        let (size, [one, other]) = self.sides(&LogKeys::new(&log))?;
        if !budget.spend(if admitted.is_some() { 2 } else { 3 }) {
            return Err(EvidenceError::Budget);
        }
        let key = match admitted {
            Some(key) => key,
            None => AgentKey::admit(&opening.agent).map_err(OpeningError::Key)?,
        };
        if !one.head.verifies(&log, &key) || !other.head.verifies(&log, &key) {
            return Err(EvidenceError::BadSignature);
        }
        let base = one.head.base.max(other.head.base);
        Ok((Evidence { opening, log, size, base, bytes: self.bytes.to_vec() }, key))
    }
}

/// Evidence that says more comes first: the smaller size, then the smaller bytes. Joining is taking the minimum.
impl Ord for Evidence {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.log, self.size, &self.bytes).cmp(&(other.log, other.size, &other.bytes))
    }
}

impl PartialOrd for Evidence {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// How many peaks stand in front of both sides. A head of just the size in question brings its root instead.
fn shared_peaks(size: u64, one: &Side, other: &Side) -> usize {
    if one.head.size == size || other.head.size == size {
        return 0;
    }
    one.peaks.iter().zip(&other.peaks).take_while(|(one, other)| one == other).count()
}
