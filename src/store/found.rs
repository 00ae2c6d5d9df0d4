//! Reading a folder: which of its files count, how much of them is good, and what is lost.
//!
//! A reading gives the longest part that is good, and the damage after it, if there is any; whether a store opens on such a
//! part is not decided here. Nothing is written.
//!
//! Three things know what was durable: a record knows which records before it were, a journal file how much of the one
//! before it, and the watermark how much of the last one. So damage is told from a torn end wherever one of them is left.
//!
//! The invariant: a file is taken for the store's content if its check is right and what names it agrees, or not at all.

use super::disk::Disk;
use super::files::{self, Behind, HEAD, Pointer, SLOTS, WATERMARK, Watermark};
use super::report::{Finding, StoreError, failed};
use crate::journal::{Cut, Damage, RecordId, covers, has_record, inspect};
use consilience_sync::planted::{Fault, planted};

/// A journal file that counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    pub(super) number: u64,
    /// How many bytes of its records are good.
    pub(super) len: u64,
    /// The last record that is in it or before it.
    pub(super) last: u64,
}

/// Where damage begins, and what it takes along.
#[derive(Clone, Debug)]
pub(super) struct Lost {
    pub(super) name: String,
    /// With which byte of the file.
    pub(super) from: u64,
    /// The first record that is lost.
    pub(super) first: u64,
    /// The last that is known to be.
    pub(super) last: Option<u64>,
}

impl Lost {
    /// After so many records were good; the watermark may know how many there were.
    fn after(good: u64, name: String, from: u64, watermark: Option<Watermark>) -> Self {
        let last = watermark.map(|watermark| watermark.last).filter(|last| *last > good);
        Self { name, from, first: good.saturating_add(1), last }
    }
}

impl From<Lost> for StoreError {
    fn from(lost: Lost) -> Self {
        let last = lost.last.map(RecordId::from_u64);
        Self::Damaged { name: lost.name, from: lost.from, first: RecordId::from_u64(lost.first), last }
    }
}

impl From<Lost> for Finding {
    fn from(lost: Lost) -> Self {
        let last = lost.last.map(RecordId::from_u64);
        Self::Lost { name: lost.name, from: lost.from, first: RecordId::from_u64(lost.first), last }
    }
}

/// The content of the folder, before anything is done to it.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) pointer: Pointer,
    /// The slot that the pointer was read from. `None`: it is to be written once something is stored.
    pub(super) slot: Option<&'static str>,
    pub(super) files: Vec<File>,
    pub(super) snapshot: Option<Vec<u8>>,
    /// The records, torn end included.
    pub(super) records: Vec<u8>,
    pub(super) covers: u64,
    pub(super) last: u64,
    /// The damage after this part.
    pub(super) lost: Option<Lost>,
    pub(super) findings: Vec<Finding>,
}

/// A file's bytes, if it is there.
fn read(disk: &mut dyn Disk, names: &[String], name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let is_there = names.iter().any(|there| there == name);
    if is_there { failed(disk.read(name), "read", name).map(Some) } else { Ok(None) }
}

/// The bytes of the watermark and of the pointers, as far as they are there.
#[derive(Clone, Debug, Default)]
pub(super) struct Smalls {
    pub(super) watermark: Option<Vec<u8>>,
    pub(super) slots: [Option<Vec<u8>>; 2],
}

impl Smalls {
    pub(super) fn read(disk: &mut dyn Disk, names: &[String]) -> Result<Self, StoreError> {
        let [even, odd] = SLOTS;
        Ok(Self {
            watermark: read(disk, names, WATERMARK)?,
            slots: [read(disk, names, even)?, read(disk, names, odd)?],
        })
    }

    pub(super) fn watermark(&self) -> Option<Watermark> {
        Watermark::decode(self.watermark.as_deref()?)
    }

    /// The pointers that are whole, each with its slot, the greatest generation first.
    fn pointers(&self) -> Vec<(Pointer, &'static str)> {
        let slots = self.slots.iter().zip(SLOTS);
        let mut pointers: Vec<(Pointer, &'static str)> =
            slots.filter_map(|(bytes, slot)| Some((Pointer::decode(bytes.as_deref()?)?, slot))).collect();
        pointers.sort_by_key(|(pointer, _)| core::cmp::Reverse(pointer.generation));
        pointers.dedup_by_key(|(pointer, _)| *pointer);
        pointers
    }

    /// The files that have to be written anew.
    fn damaged(&self) -> Vec<Finding> {
        let slots = self.slots.iter().zip(SLOTS);
        let damaged = |bytes: &Option<Vec<u8>>| bytes.as_deref().and_then(Pointer::decode).is_none();
        let slots = slots.filter(|(bytes, _)| damaged(bytes)).map(|(_, slot)| slot);
        let watermark = self.watermark().is_none().then_some(WATERMARK);
        slots.chain(watermark).map(|name| Finding::Mended { name: name.to_owned() }).collect()
    }
}

/// Reads the files that count. `None` in a folder in which nothing was ever written.
pub(super) fn find(
    disk: &mut dyn Disk,
    names: &[String],
    smalls: &Smalls,
) -> Result<Option<Found>, StoreError> {
    let pointers = smalls.pointers();
    let mut best: Option<Found> = None;
    for (pointer, slot) in &pointers {
        let mut found = by_pointer(disk, names, *pointer, smalls.watermark())?;
        found.slot = found.slot.map(|_| *slot);
        // Whether a former snapshot has all is known by the watermark alone.
        if let Some(Lost { name, .. }) = best.as_ref().and_then(|best| best.lost.as_ref()) {
            let name = name.clone();
            if found.lost.is_none() && smalls.watermark().is_some() {
                found.findings.push(Finding::Former { name });
            } else {
                found.lost = Some(Lost::after(found.last, name, 0, smalls.watermark()));
            }
        }
        let whole = found.lost.is_none();
        // Of two that lack something, the former is better than a snapshot that nothing is left of.
        if whole || best.as_ref().is_none_or(|best| best.slot.is_none()) {
            best = Some(found);
        }
        if whole {
            break;
        }
    }
    let Some(mut found) = best else { return Ok(without_pointer(names, smalls.watermark())) };
    found.findings.extend(smalls.damaged());
    Ok(Some(found))
}

/// A folder's pointers are durable before there is anything else; so without them all is lost, or nothing is there.
fn without_pointer(names: &[String], watermark: Option<Watermark>) -> Option<Found> {
    let of = |prefix: &str| names.iter().any(|name| files::number(name, prefix).is_some());
    let lost = Lost::after(0, SLOTS.join(" and "), 0, watermark);
    (of("journal") || of("snapshot")).then(|| Found { lost: Some(lost), ..Found::default() })
}

/// Reads the files that a pointer names.
fn by_pointer(
    disk: &mut dyn Disk,
    names: &[String],
    pointer: Pointer,
    watermark: Option<Watermark>,
) -> Result<Found, StoreError> {
    let (mut snapshot, mut covered) = (None, 0);
    if pointer.snapshot > 0 {
        let name = files::snapshot(pointer.snapshot);
        let bytes = read(disk, names, &name)?;
        covered = match bytes.as_deref().map(covers) {
            Some(Ok(covers)) => covers.as_u64(),
            Some(Err(error)) if error.damage == Damage::Version => return Err(error.into()),
            // Records after it are of no use without it.
            Some(Err(_)) | None => {
                let lost = Some(Lost::after(0, name, 0, watermark));
                return Ok(Found { pointer, lost, ..Found::default() });
            }
        };
        snapshot = bytes;
    }
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| files::number(name, "journal")).collect();
    numbers.retain(|number| *number >= pointer.first);
    numbers.sort_unstable();
    let newest = numbers.last().copied().unwrap_or(0);
    let mut journals = Vec::new();
    for number in numbers {
        let name = files::journal(number);
        journals.push(JournalFile::read(number, failed(disk.read(&name), "read", &name)?));
    }
    let (chain, damage) = longest(journals, pointer, covered);
    // After a file that a later run began, the numbers may be others.
    let in_force = watermark.filter(|watermark| newest <= watermark.file);
    let lost = damage.map(|(name, from)| Lost::after(chain.last, name, from, in_force));
    let watermark = watermark.filter(|_| !planted(Fault::WatermarkIsNotRead));
    let lost = lost.or_else(|| watermark.and_then(|watermark| chain.short_of(watermark)));
    let torn = |(name, cut)| Finding::Torn { name, cut };
    // A cut that is known to have been durable is no torn end.
    let findings = chain.torn.filter(|_| lost.is_none()).map(torn).into_iter().collect();
    Ok(Found {
        pointer,
        slot: Some(pointer.slot()),
        files: chain.files,
        snapshot,
        records: chain.records,
        covers: covered,
        last: chain.last,
        lost,
        findings,
    })
}

/// The head of a journal file.
#[derive(Clone, Copy, Debug)]
enum Head {
    Good(Behind),
    /// The run that began the file ended before that was durable: there are no records then.
    Torn,
    /// Something follows on it, so it was durable.
    Damaged,
}

/// A journal file as it was read.
#[derive(Debug)]
struct JournalFile {
    number: u64,
    head: Head,
    records: Vec<u8>,
}

impl JournalFile {
    fn read(number: u64, mut bytes: Vec<u8>) -> Self {
        let head = match Behind::decode(&bytes) {
            Some(behind) => Head::Good(behind),
            None if bytes.len() > HEAD => Head::Damaged,
            None => Head::Torn,
        };
        bytes.drain(..bytes.len().min(HEAD));
        Self { number, head, records: bytes }
    }

    /// It had a record that was durable, or may have: so it took the place of the bytes that were torn before.
    fn counts(&self) -> bool {
        match self.head {
            Head::Good(_) => has_record(&self.records),
            Head::Torn => false,
            Head::Damaged => true,
        }
    }
}

/// Journal files that follow one another.
#[derive(Debug, Default)]
struct Chain {
    files: Vec<File>,
    /// Their records, then the torn bytes, so that it is known that there were some.
    records: Vec<u8>,
    last: u64,
    torn: Option<(String, Cut)>,
}

impl Chain {
    /// The content that is missing here and was durable when the watermark was written.
    fn short_of(&self, watermark: Watermark) -> Option<Lost> {
        let newest = self.files.last().map_or(0, |file| file.number);
        // A later file took over from there, and said how much was good.
        if watermark.file < newest || watermark.last <= self.last {
            return None;
        }
        let good = self.files.last().filter(|file| file.number == watermark.file);
        let from = good.map_or(0, |file| file.len.saturating_add(HEAD as u64));
        Some(Lost::after(self.last, files::journal(watermark.file), from, Some(watermark)))
    }
}

/// Where a chain breaks.
struct Broken {
    name: String,
    from: u64,
    /// The file from which on nothing is of use.
    number: u64,
    /// But for so many bytes of its records.
    good: Option<usize>,
}

impl Broken {
    fn file(number: u64, good: Option<usize>) -> Self {
        let from = good.map_or(0, |good| good.saturating_add(HEAD)) as u64;
        Self { name: files::journal(number), from, number, good }
    }
}

/// The longest chain that is good, and where damage begins after it.
fn longest(mut journals: Vec<JournalFile>, pointer: Pointer, covers: u64) -> (Chain, Option<(String, u64)>) {
    let mut damage = None;
    loop {
        let broken = match chain(&journals, pointer, covers) {
            Ok(chain) => return (chain, damage),
            Err(broken) => broken,
        };
        damage = Some((broken.name, broken.from));
        let before: usize = journals.iter().map(|journal| journal.records.len().saturating_add(1)).sum();
        journals.retain(|journal| journal.number < broken.number + u64::from(broken.good.is_some()));
        if let (Some(last), Some(good)) = (journals.last_mut(), broken.good) {
            last.records.truncate(good);
        }
        let after: usize = journals.iter().map(|journal| journal.records.len().saturating_add(1)).sum();
        if after >= before {
            // Each turn leaves something out; with nothing left there is no damage.
            debug_assert!(false, "a chain breaks where nothing can be left out");
            journals.clear();
        }
    }
}

/// The files that count, from the last that has a record back to the first that is needed.
fn chain(journals: &[JournalFile], pointer: Pointer, covers: u64) -> Result<Chain, Broken> {
    // Torn ends after the last file that counts.
    let counting = journals.iter().rposition(JournalFile::counts).map_or(0, |at| at.saturating_add(1));
    let (counting, torn) = journals.split_at(counting.min(journals.len()));
    let linked = link(counting, pointer)?;

    let mut records = Vec::new();
    let mut starts = Vec::new();
    for (journal, len) in linked {
        starts.push((journal.number, records.len()));
        records.extend_from_slice(journal.records.get(..len).unwrap_or_default());
    }
    let whole = records.len();
    let first_torn = torn.first().map(|journal| journal.number);
    torn.iter().for_each(|journal| records.extend_from_slice(&journal.records));
    let place = |offset: usize| starts.iter().rev().find(|(_, start)| *start <= offset).copied();
    let broken = |offset: usize| {
        let (number, start) = place(offset.min(whole)).unwrap_or_default();
        Broken::file(number, Some(offset.min(whole).saturating_sub(start)))
    };
    let found = inspect(&records, RecordId::from_u64(covers)).map_err(|corrupt| broken(corrupt.offset))?;
    let good_to = found.good_to.min(whole);
    // Nothing that counts may begin after a cut: a file took the place of just the torn bytes.
    if starts.iter().any(|(_, start)| *start > good_to) {
        return Err(broken(good_to));
    }
    let ends = starts.iter().skip(1).map(|(_, start)| *start).chain([whole]);
    let mut files = Vec::new();
    for ((number, start), end) in starts.iter().zip(ends) {
        let end = end.min(good_to.max(*start));
        let inside = found.records.iter().filter(|record| record.end <= end).map(|record| record.id.as_u64());
        let last = inside.max().unwrap_or(covers);
        files.push(File { number: *number, len: (end - start) as u64, last });
    }
    let torn = found.cut.map(|cut| {
        let within =
            if cut.offset < whole { place(cut.offset).map(|(number, _)| number) } else { first_torn };
        (files::journal(within.unwrap_or_default()), cut)
    });
    Ok(Chain { files, records, last: found.last.as_u64(), torn })
}

/// The files that follow one another, in order, each with how many bytes of its records count.
fn link(journals: &[JournalFile], pointer: Pointer) -> Result<Vec<(&JournalFile, usize)>, Broken> {
    let mut linked = Vec::new();
    let mut want: Option<Behind> = None;
    for journal in journals.iter().rev() {
        let len = match want {
            None => journal.records.len(),
            // The file was torn, and another took its place.
            Some(behind) if journal.number > behind.number => continue,
            Some(behind) if journal.number < behind.number => break,
            Some(behind) => {
                let len = usize::try_from(behind.len).unwrap_or(usize::MAX);
                if journal.records.len() < len {
                    return Err(Broken::file(behind.number, Some(journal.records.len())));
                }
                len
            }
        };
        let Head::Good(behind) = journal.head else { return Err(Broken::file(journal.number, None)) };
        linked.push((journal, len));
        want = Some(behind).filter(|behind| behind.number >= pointer.first);
        if want.is_none() {
            break;
        }
    }
    if let Some(behind) = want {
        return Err(Broken::file(behind.number, None));
    }
    linked.reverse();
    Ok(linked)
}
