//! Bundles: entries in a file that is carried by hand, or by anything that carries bytes.
//!
//! A bundle has, for each log, its opening, evidence of a fork if there is any, and ranges with their proofs: the same
//! that sessions send, so nobody has to trust the carrier. Layout: `docs/wire/bundle.md`.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use consilience_base::Timestamp;
use consilience_base::planted::{Fault, planted};

use super::LogStore;
use crate::budget::VerifyBudget;
use crate::codec::{DecodeError, Reader, put_varint};
use crate::facts::{Facts, Forks, UncheckedPruned};
use crate::identity::{LogId, NamedOpening, OpeningError, Topic};
use crate::log::{Log, Range, RangeForm, ReceiveError, Received, UncheckedEvidence, Want};
use crate::logset::{Answer, OpenError, SetError};
use crate::part::{LogRef, Part};

const BUNDLE: u8 = 0x30;
const SUMMARY: u8 = 0x31;
/// A range has at most about so many bytes.
const RANGE_BYTES: usize = 48 << 10;

/// Why a bundle was not read, or not to its end. The parts before the fault were taken in: each part proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The bytes are no bundle, or end early.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It is of another mesh, or names an agent whose key is not admitted.
    #[error(transparent)]
    Opening(#[from] OpeningError),
}

/// The outcome of a bundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// Logs that it speaks of.
    pub logs: usize,
    /// Logs that are not held here: by the host's choice, for lack of room, or because a later version of this library made
    /// them.
    pub ignored: usize,
    /// Logs that were begun at a time further ahead of the clock than entries may be without waiting. The same bundle
    /// brings them when that time has come.
    pub ahead: usize,
    /// Entries that were not here.
    pub entries: u64,
    /// Ranges that could not be placed or proven.
    pub refused: usize,
    /// Heads of logs of which nothing is held: where their copies begin may be allowed only by parts that came after them,
    /// when those are folded. Then the same bundle brings more.
    pub early: usize,
}

impl LogStore {
    /// How much is held of each log: a peer needs this to export only the entries that are missing here.
    #[must_use]
    pub fn summary(&self) -> Vec<u8> {
        let mut bytes = alloc::vec![SUMMARY];
        for log in self.set.logs() {
            let Some(have) = self.set.have(log.id()) else { continue };
            bytes.extend(log.id().as_bytes());
            put_varint(&mut bytes, have.start);
            put_varint(&mut bytes, have.size - have.start);
            bytes.extend(root_of(log, have.size));
        }
        bytes
    }

    /// Entries of some topics, as bytes to be carried: all of them, or those that are missing where a
    /// [summary](Self::summary) was made. First signs the entries that may leave.
    ///
    /// # Errors
    ///
    /// If the summary is none.
    pub fn export_bundle(
        &mut self,
        wanted: impl Fn(&Topic) -> bool,
        since: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<Vec<u8>, BundleError> {
        let known = since.map(read_summary).transpose()?.unwrap_or_default();
        self.sign_heads(now);
        let mut bytes = alloc::vec![BUNDLE];
        bytes.extend(self.set.mesh().discovery_key().tag());
        let wanted = |topic| planted(Fault::BundleOfAllTopics) || wanted(topic);
        for log in self.set.logs().filter(|log| wanted(&log.opening().topic)) {
            self.export_log(log, known.get(log.id()), &mut bytes);
        }
        Ok(bytes)
    }

    fn export_log(&self, log: &Log, known: Option<&Summarized>, bytes: &mut Vec<u8>) {
        let (forks, to) = (self.set.forks(log.id()), log.signed_size());
        let pruned = self.set.facts(log.id()).and_then(Facts::pruned);
        let to = to.min(forks.map_or(u64::MAX, Forks::valid_below));
        let size = known.map_or(0, |known| known.size);
        // Where the two histories differ, all of this one is sent, as far as the other does not show it.
        let differs = known.is_some_and(|known| {
            (log.start().max(1)..=log.signed_size()).contains(&size)
                && known.root != root_of(log, size)
                && !planted(Fault::BundleBelievesSizes)
        });
        let follows = size >= log.start() && size > 0 && !differs;
        let (mut from, mut form) = match (follows, log.start()) {
            (true, _) => (size, RangeForm::Follow),
            (false, 0) => (0, RangeForm::Follow),
            (false, start) => (start, RangeForm::Alone),
        };
        if forks.is_none() && pruned.is_none() && from >= to && to == size && known.is_some() && !differs {
            return;
        }
        Part::Opening(&log.opening().encode(self.set.mesh())).put(bytes);
        let told = forks.filter(|_| !planted(Fault::BundleWithoutEvidence));
        for evidence in told.into_iter().flat_map(Forks::pieces) {
            Part::Evidence(evidence.as_bytes()).put(bytes);
        }
        if let Some(pruned) = pruned.filter(|_| !planted(Fault::BundleWithoutPruned)) {
            Part::Pruned(pruned.as_bytes()).put(bytes);
        }
        // A copy that begins later than this one can be compared with what it has alone; and of one that has more, only its
        // holder can say whether this is where it begins.
        let compared = size.min(to);
        if (differs || size > to) && compared >= log.start().max(1) {
            let want = Want { from: compared, to: compared, form: RangeForm::Alone };
            if let Answer::Range { bytes: proof, .. } = self.set.answer(log.id(), &want, 0) {
                Part::Range(LogRef::Alias(log.id().alias()), &proof).put(bytes);
            }
        }
        if from >= to && to <= size && !differs {
            return;
        }
        while from < to || (from == to && form == RangeForm::Alone && to > 0) {
            let want = Want { from, to, form };
            let Answer::Range { bytes: range, end } = self.set.answer(log.id(), &want, RANGE_BYTES) else {
                break;
            };
            Part::Range(LogRef::Alias(log.id().alias()), &range).put(bytes);
            (from, form) = (end, RangeForm::Follow);
        }
    }

    /// Takes in a bundle, from any carrier. Entries that are not proven are refused; the others count.
    ///
    /// # Errors
    ///
    /// If the bytes are no bundle of this mesh. The parts before the fault were taken in.
    pub fn import_bundle(&mut self, bundle: &[u8], now: Timestamp) -> Result<Imported, BundleError> {
        let mut imported = Imported::default();
        let mut reader = self.bundle_parts(bundle)?;
        let mut budget = VerifyBudget::new();
        let mut log = None;
        let end = loop {
            if reader.is_empty() {
                break Ok(());
            }
            match self.import_part(&mut reader, &mut log, &mut imported, &mut budget, now) {
                Ok(()) => {}
                Err(error) => break Err(error),
            }
        };
        self.seal();
        end.map(|()| imported)
    }

    /// Checks that bytes begin as a bundle of this mesh does: others are refused whole, and say nothing.
    ///
    /// # Errors
    ///
    /// Why they do not.
    pub fn check_bundle(&self, bundle: &[u8]) -> Result<(), BundleError> {
        self.bundle_parts(bundle).map(|_| ())
    }

    /// Reads the beginning of a bundle; its parts follow.
    fn bundle_parts<'b>(&self, bundle: &'b [u8]) -> Result<Reader<'b>, BundleError> {
        let mut reader = Reader::new(bundle);
        if reader.byte()? != BUNDLE {
            return Err(DecodeError::Kind.into());
        }
        if reader.array()? != self.set.mesh().discovery_key().tag() {
            return Err(OpeningError::WrongMesh.into());
        }
        Ok(reader)
    }

    fn import_part(
        &mut self,
        reader: &mut Reader<'_>,
        log: &mut Option<NamedOpening>,
        imported: &mut Imported,
        budget: &mut VerifyBudget,
        now: Timestamp,
    ) -> Result<(), BundleError> {
        let len = reader.count(1)?;
        budget.received(len);
        match Part::read(reader.take(len)?)? {
            Some(Part::Opening(bytes)) => {
                *log = match NamedOpening::decode(bytes, self.set.mesh()) {
                    Err(error) if error.is_of_later_version() => None,
                    decoded => Some(decoded?),
                };
                imported.logs += 1;
                let admitted = log.as_ref().ok_or(OpenError::Ignored);
                if let Err(error) = admitted.and_then(|opening| self.admits(opening, now)) {
                    *(if error == OpenError::Ahead { &mut imported.ahead } else { &mut imported.ignored }) +=
                        1;
                    *log = None;
                }
            }
            Some(Part::Evidence(bytes)) => {
                let evidence = UncheckedEvidence::parse(bytes, self.set.mesh()).map_err(SetError::from);
                let taken = evidence.and_then(|evidence| self.receive_evidence(&evidence, now, budget));
                imported.refused += usize::from(taken.is_err());
            }
            Some(Part::Pruned(bytes)) => {
                let pruned = UncheckedPruned::parse(bytes, self.set.mesh()).map_err(SetError::from);
                let taken = pruned.and_then(|pruned| self.receive_pruned(&pruned, now, budget));
                imported.refused += usize::from(taken.is_err());
            }
            Some(Part::Range(LogRef::Alias(alias), bytes)) => match log {
                Some(log) if log.id().alias() == alias => {
                    return self.import_range(log, bytes, imported, budget, now);
                }
                // The log is not held.
                None if imported.logs > 0 => {}
                // It is of another log than the one before it, or no log stands before it.
                _ => imported.refused += 1,
            },
            _ => return Err(DecodeError::Kind.into()),
        }
        Ok(())
    }

    fn import_range(
        &mut self,
        log: &NamedOpening,
        range: &[u8],
        imported: &mut Imported,
        budget: &mut VerifyBudget,
        now: Timestamp,
    ) -> Result<(), BundleError> {
        let range = Range::parse(range).map_err(|error| SetError::Receive(error.into()));
        match range.and_then(|range| self.receive_first(log, &range, now, budget)) {
            Ok(Received::Extended { from, to } | Received::FastForwarded { from, to }) => {
                imported.entries += to - from
            }
            Ok(Received::Head | Received::Nothing)
                if self.set.log(log.id()).is_some_and(|held| held.size() == 0) =>
            {
                imported.early += 1;
            }
            Ok(_) => {}
            Err(SetError::Receive(ReceiveError::Stale { .. }) | SetError::Forked { .. }) => {}
            Err(SetError::Open(OpenError::Key(error))) => return Err(OpeningError::Key(error).into()),
            Err(_) => imported.refused += 1,
        }
        Ok(())
    }
}

/// The content of a summary on one log.
#[derive(Clone, Copy, Debug)]
struct Summarized {
    /// The number after the last entry that is held and signed.
    size: u64,
    /// The first bytes of the root there.
    root: [u8; 16],
}

/// The first half of a log's root; zeros where it is not known. Two histories with one half cost 2^64 trees.
fn root_of(log: &Log, size: u64) -> [u8; 16] {
    let root = log.root_at(size);
    root.and_then(|root| root.as_bytes().first_chunk().copied()).unwrap_or_default()
}

fn read_summary(bytes: &[u8]) -> Result<BTreeMap<LogId, Summarized>, BundleError> {
    let mut reader = Reader::new(bytes);
    if reader.byte()? != SUMMARY {
        return Err(DecodeError::Kind.into());
    }
    let mut known = BTreeMap::new();
    while !reader.is_empty() {
        let log = LogId::from_bytes(reader.array()?);
        let start = reader.varint()?;
        let size = start.checked_add(reader.varint()?).ok_or(DecodeError::Limit)?;
        known.insert(log, Summarized { size, root: reader.array()? });
    }
    Ok(known)
}
