//! [`FileStore`]: a ready place for a replica's records and snapshots, in a folder of files. Feature `file-store`.
//!
//! It shows the demands on any storage: append, sync, then confirm; a snapshot takes the place of records in one step;
//! after a failed write or sync nothing is trusted until the store was opened anew.
//!
//! ```no_run
//! use consilience::crdts::Timestamp;
//! use consilience::store::FileStore;
//! use consilience::sync::{Keypair, MeshId};
//! use consilience::{Config, Replica};
//!
//! /// Makes everything durable that has happened: call it before and after any call that sends.
//! fn persist(replica: &mut Replica, store: &mut FileStore) -> Result<(), Box<dyn core::error::Error>> {
//!     while let Some(record) = replica.poll_record() {
//!         store.append(&record)?;
//!     }
//!     if let Some(last) = store.sync()? {
//!         replica.confirm(last)?; // and now it may be sent
//!     }
//!     Ok(())
//! }
//!
//! let (secret, entropy, now) = ([7; 32], [1; 32], Timestamp::from_millis(1_700_000_000_000));
//! let (mut store, stored) = FileStore::open("state".as_ref())?;
//! let config = Config::new(MeshId::from_bytes(secret), entropy);
//! let mut replica = Replica::open(config, stored.opened(), now)?;
//! let ada = replica.add_writer(Keypair::from_seed([3; 32]))?;
//! replica.append_event(ada, "team/planning", b"started", now)?;
//! persist(&mut replica, &mut store)?;
//!
//! // Now and then, when the records outweigh the live content:
//! let snapshot = replica.snapshot();
//! store.install_snapshot(&snapshot)?;
//! replica.confirm_snapshot(snapshot.covers())?;
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! Nothing is ever written after bytes that an earlier run left: each run begins a journal file that names the one
//! before and how much of it is good. So a torn end is cut in the moment in which something takes its place, and not
//! before somebody could act on it.
//!
//! One loss it cannot see: if the newest journal file is gone as a whole, that looks like a run that stored nothing.
//! Its writers then sign a second history, which is found out and healed ([`Notice::SelfForked`](crate::Notice)).
//!
//! The invariant: between any two effects, the disk has the old state or the new one.

mod disk;
mod files;

use std::io;
use std::path::Path;

pub use disk::Disk;

use crate::Opened;
use crate::journal::{Area, Damage, JournalCorrupt, Record, RecordId, Snapshot, covers, has_record, inspect};
use disk::Folder;
use files::{Behind, HEAD, Pointer};

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another store has the folder open, here or in another process: the host's mistake. Nothing changed.
    #[error("the folder is in use by another store: close that one first")]
    InUse,
    /// The system failed. Whether something was written is unknown, and so the store does nothing any more: open it
    /// anew.
    #[error("the system failed to {doing} {name}: {source}; once that is mended, open the store anew")]
    Io {
        /// The operation that failed.
        doing: &'static str,
        /// The file.
        name: String,
        /// The system's error.
        source: io::Error,
    },
    /// A write or a sync failed before. Open the store anew. Nothing changed.
    #[error("a write or a sync failed before: open the store anew")]
    Poisoned,
    /// The disk has lost or changed durable bytes. Nothing changed. Bring a good copy of the folder, or open
    /// another one as a restored replica.
    #[error("{name} is damaged or missing: bring a good copy of the folder")]
    Damaged {
        /// Which file.
        name: String,
    },
    /// The disk has lost or changed durable bytes, within the records or the snapshot. Nothing changed.
    #[error(transparent)]
    Corrupt(#[from] JournalCorrupt),
    /// The host appends a record that does not follow on the last one, or a snapshot covers records that were never
    /// written. Nothing changed.
    #[error("record {} was expected here: append records in their order, each once", expected.as_u64())]
    OutOfOrder {
        /// The one that follows.
        expected: RecordId,
    },
}

/// The content of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loaded {
    /// The snapshot, if there is one.
    pub snapshot: Option<Vec<u8>>,
    /// The records, torn end included: [`recover`](crate::journal::recover) cuts it and says so.
    pub records: Vec<u8>,
}

impl Loaded {
    /// The way to open a replica: with the content of the folder, or with nothing if the folder is new. Of a folder
    /// that was put back from a backup say [`Opened::Restored`] instead.
    #[must_use]
    pub fn opened(&self) -> Opened<'_> {
        if self.snapshot.is_none() && self.records.is_empty() {
            return Opened::Fresh;
        }
        Opened::Resumed(crate::Stored { snapshot: self.snapshot.as_deref(), records: &self.records })
    }
}

/// A journal file that counts.
#[derive(Clone, Copy, Debug)]
struct File {
    number: u64,
    /// How many bytes of its records are good.
    len: u64,
    /// The last record that is in it or before it.
    last: u64,
}

/// Records and snapshots in a folder of files. One at a time can have the folder open.
#[derive(Debug)]
pub struct FileStore {
    disk: Box<dyn Disk>,
    pointer: Pointer,
    /// The journal files that count, in order.
    files: Vec<File>,
    /// Whether the last of them was begun by this store.
    begun: bool,
    /// The greatest number that a file has.
    number: u64,
    /// The last record that is there or covered.
    last: u64,
    covers: u64,
    unsynced: bool,
    poisoned: bool,
}

fn failed<T>(result: io::Result<T>, doing: &'static str, name: &str) -> Result<T, StoreError> {
    result.map_err(|source| StoreError::Io { doing, name: name.to_owned(), source })
}

fn damaged(name: String) -> StoreError {
    StoreError::Damaged { name }
}

/// The content of the folder, before anything is done to it.
struct Found {
    pointer: Pointer,
    files: Vec<File>,
    stored: Loaded,
    covers: u64,
    last: u64,
}

impl FileStore {
    /// Opens a folder, and makes it if it is not there. Everything that is given back is durable.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`], if the system fails, or if the disk has lost durable bytes.
    pub fn open(folder: &Path) -> Result<(Self, Loaded), StoreError> {
        let name = folder.display().to_string();
        let disk = failed(Folder::new(folder), "open", &name)?;
        Self::open_on(Box::new(disk))
    }

    /// Opens a folder of any kind.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_on(mut disk: Box<dyn Disk>) -> Result<(Self, Loaded), StoreError> {
        if !failed(disk.lock(), "lock", disk::LOCK)? {
            return Err(StoreError::InUse);
        }
        let names = failed(disk.list(), "list", "the folder")?;
        let of = |prefix: &'static str| names.iter().filter_map(move |name| files::number(name, prefix));
        let number = of("journal").chain(of("snapshot")).max().unwrap_or(0);
        let found = match read_pointer(&mut *disk, &names)? {
            Some(pointer) => find(&mut *disk, pointer, &names)?,
            None => begin(&mut *disk, &names)?,
        };
        let Found { pointer, files, stored, covers, last } = found;
        let mut store = Self {
            disk,
            pointer,
            files,
            begun: false,
            number: number.max(pointer.first.saturating_sub(1)),
            last,
            covers,
            unsynced: false,
            poisoned: false,
        };
        store.sync_found()?;
        store.clean(&names)?;
        Ok((store, stored))
    }

    /// Makes the bytes durable that an earlier run may only have written, before anybody relies on them.
    fn sync_found(&mut self) -> Result<(), StoreError> {
        let mut names: Vec<String> = self.files.iter().map(|file| files::journal(file.number)).collect();
        names.push(self.pointer.name());
        if self.pointer.snapshot > 0 {
            names.push(files::snapshot(self.pointer.snapshot));
        }
        for name in &names {
            failed(self.disk.sync_file(name), "sync", name)?;
        }
        failed(self.disk.sync_folder(), "sync", "the folder")
    }

    /// Removes the files that are no longer needed. The torn journal file of a run that ended stays until something
    /// takes its place.
    fn clean(&mut self, names: &[String]) -> Result<(), StoreError> {
        let Pointer { snapshot, first, .. } = self.pointer;
        for name in names {
            let old = files::number(name, "snapshot").is_some_and(|number| number != snapshot)
                || files::number(name, "journal").is_some_and(|number| number < first);
            if old {
                failed(self.disk.remove(name), "remove", name)?;
            }
        }
        Ok(())
    }

    /// Writes a record after the last one. It is not durable before [`sync`](Self::sync).
    ///
    /// # Errors
    ///
    /// [`StoreError::OutOfOrder`], or if the system fails, now or before.
    pub fn append(&mut self, record: &Record) -> Result<(), StoreError> {
        self.check()?;
        let expected = self.last.saturating_add(1);
        let id = record.id().as_u64();
        // Records that a snapshot covers may come late, or not at all.
        if id != expected && id > self.covers {
            return Err(StoreError::OutOfOrder { expected: RecordId::from_u64(expected) });
        }
        let done = self.write(record.as_bytes(), id);
        self.guard(done)
    }

    fn write(&mut self, bytes: &[u8], id: u64) -> Result<(), StoreError> {
        if !self.begun {
            self.begin_file()?;
        }
        let Some(file) = self.files.last_mut() else { return Err(StoreError::Poisoned) };
        let name = files::journal(file.number);
        failed(self.disk.append(&name, bytes), "write to", &name)?;
        self.unsynced = true;
        self.last = self.last.max(id);
        file.len = file.len.saturating_add(bytes.len() as u64);
        file.last = self.last;
        Ok(())
    }

    /// Begins a journal file after the last one. Durable before there is a record in it, so that a record without a
    /// head is damage.
    fn begin_file(&mut self) -> Result<(), StoreError> {
        self.number = self.number.saturating_add(1);
        let name = files::journal(self.number);
        let last = self.files.last().map(|file| Behind { number: file.number, len: file.len });
        failed(self.disk.create(&name), "create", &name)?;
        failed(self.disk.append(&name, &last.unwrap_or_default().encode()), "write to", &name)?;
        failed(self.disk.sync_file(&name), "sync", &name)?;
        failed(self.disk.sync_folder(), "sync", "the folder")?;
        self.files.push(File { number: self.number, len: 0, last: self.last });
        self.begun = true;
        Ok(())
    }

    /// Makes everything durable that was appended. Gives the last record that is: the one that the host then
    /// [confirms](crate::journal::Journal::confirm). `None` if there never was one.
    ///
    /// # Errors
    ///
    /// If the system fails, now or before.
    pub fn sync(&mut self) -> Result<Option<RecordId>, StoreError> {
        self.check()?;
        let done = self.sync_journal();
        self.guard(done)?;
        Ok((self.last > 0).then_some(RecordId::from_u64(self.last)))
    }

    fn sync_journal(&mut self) -> Result<(), StoreError> {
        if let (true, Some(file)) = (self.unsynced, self.files.last()) {
            let name = files::journal(file.number);
            failed(self.disk.sync_file(&name), "sync", &name)?;
        }
        self.unsynced = false;
        Ok(())
    }

    /// Puts a snapshot in the place of the records that it covers. It is durable then, and so is everything that was
    /// appended: the host tells the journal
    /// ([`confirm_snapshot`](crate::journal::Journal::confirm_snapshot)).
    ///
    /// # Errors
    ///
    /// [`StoreError::OutOfOrder`] if it covers less than the one before; or if the system fails, now or before.
    pub fn install_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.check()?;
        let covers = snapshot.covers().as_u64();
        if covers < self.covers {
            return Err(StoreError::OutOfOrder { expected: RecordId::from_u64(self.covers) });
        }
        let done = self.install(snapshot.as_bytes(), covers);
        self.guard(done)
    }

    fn install(&mut self, bytes: &[u8], covers: u64) -> Result<(), StoreError> {
        self.sync_journal()?;
        let number = self.number.saturating_add(1);
        let name = files::snapshot(number);
        failed(self.disk.create(&name), "create", &name)?;
        failed(self.disk.append(&name, bytes), "write to", &name)?;
        failed(self.disk.sync_file(&name), "sync", &name)?;
        failed(self.disk.sync_folder(), "sync", "the folder")?;

        // Records that it does not cover are still needed, and with the first of them all files after it.
        let needed = self.files.iter().position(|file| file.last > covers).unwrap_or(self.files.len());
        let first = self.files.get(needed).map_or(number.saturating_add(1), |file| file.number);
        let pointer =
            Pointer { generation: self.pointer.generation.saturating_add(1), snapshot: number, first };
        write_pointer(&mut *self.disk, pointer)?;

        let old = core::mem::replace(&mut self.pointer, pointer);
        self.number = number;
        self.begun = false;
        self.covers = covers;
        self.last = self.last.max(covers);
        self.files.drain(..needed);
        let names = failed(self.disk.list(), "list", "the folder")?;
        debug_assert_ne!(old.name(), self.pointer.name(), "pointers alternate");
        self.clean(&names)
    }

    /// Whether a write or a sync has failed. Then every call is refused until the folder is opened anew.
    #[must_use]
    pub const fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    const fn check(&self) -> Result<(), StoreError> {
        if self.poisoned { Err(StoreError::Poisoned) } else { Ok(()) }
    }

    const fn guard(&mut self, done: Result<(), StoreError>) -> Result<(), StoreError> {
        self.poisoned = done.is_err();
        done
    }
}

/// The pointer that counts. `None` in a folder in which nothing was ever written.
fn read_pointer(disk: &mut dyn Disk, names: &[String]) -> Result<Option<Pointer>, StoreError> {
    let mut best: Option<Pointer> = None;
    for name in names.iter().filter(|name| files::number(name, "pointer").is_some_and(|slot| slot < 2)) {
        let bytes = failed(disk.read(name), "read", name)?;
        let pointer = Pointer::decode(&bytes).filter(|pointer| pointer.name() == *name);
        best = best.into_iter().chain(pointer).max_by_key(|pointer| pointer.generation);
    }
    // A folder's pointer is durable before there is anything else.
    let other = names
        .iter()
        .find(|name| files::number(name, "journal").is_some() || files::number(name, "snapshot").is_some());
    match (best, other) {
        (None, Some(_)) => Err(damaged("pointer-0 or pointer-1".to_owned())),
        (best, _) => Ok(best),
    }
}

fn write_pointer(disk: &mut dyn Disk, pointer: Pointer) -> Result<(), StoreError> {
    let name = pointer.name();
    failed(disk.create(&name), "create", &name)?;
    failed(disk.append(&name, &pointer.encode()), "write to", &name)?;
    failed(disk.sync_file(&name), "sync", &name)?;
    failed(disk.sync_folder(), "sync", "the folder")
}

/// A new folder.
fn begin(disk: &mut dyn Disk, _: &[String]) -> Result<Found, StoreError> {
    let pointer = Pointer { generation: 1, snapshot: 0, first: 1 };
    write_pointer(disk, pointer)?;
    Ok(Found { pointer, files: Vec::new(), stored: Loaded::default(), covers: 0, last: 0 })
}

/// Reads the files that a pointer names.
fn find(disk: &mut dyn Disk, pointer: Pointer, names: &[String]) -> Result<Found, StoreError> {
    let (mut snapshot, mut covered) = (None, 0);
    if pointer.snapshot > 0 {
        let name = files::snapshot(pointer.snapshot);
        if !names.contains(&name) {
            return Err(damaged(name));
        }
        let bytes = failed(disk.read(&name), "read", &name)?;
        covered = covers(&bytes)?.as_u64();
        snapshot = Some(bytes);
    }
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| files::number(name, "journal")).collect();
    numbers.retain(|number| *number >= pointer.first);
    numbers.sort_unstable();
    let mut journals = Vec::new();
    for number in numbers {
        let name = files::journal(number);
        journals.push(JournalFile::read(number, failed(disk.read(&name), "read", &name)?)?);
    }
    let (files, records, last) = chain(journals, pointer, covered)?;
    Ok(Found { pointer, files, stored: Loaded { snapshot, records }, covers: covered, last })
}

/// A journal file as it was read.
struct JournalFile {
    number: u64,
    /// `None` if the run that began it ended before that was durable: there are no records then.
    behind: Option<Behind>,
    records: Vec<u8>,
    /// It has a record: so it took the place of the bytes that were torn before.
    counts: bool,
}

impl JournalFile {
    fn read(number: u64, mut bytes: Vec<u8>) -> Result<Self, StoreError> {
        let behind = Behind::decode(&bytes);
        if behind.is_none() && bytes.len() > HEAD {
            return Err(damaged(files::journal(number)));
        }
        bytes.drain(..bytes.len().min(HEAD));
        let counts = has_record(&bytes);
        Ok(Self { number, behind, records: bytes, counts: counts && behind.is_some() })
    }
}

/// The files that count, in order; their records, then the torn bytes, so that it is known that there were some; and
/// the last record.
fn chain(
    mut journals: Vec<JournalFile>,
    pointer: Pointer,
    covers: u64,
) -> Result<(Vec<File>, Vec<u8>, u64), StoreError> {
    // Torn ends after the last file that counts.
    let counting = journals.iter().rposition(|journal| journal.counts).map_or(0, |at| at.saturating_add(1));
    let torn: Vec<u8> = journals.split_off(counting).into_iter().flat_map(|torn| torn.records).collect();

    let mut linked: Vec<JournalFile> = Vec::new();
    let mut want: Option<Behind> = None;
    while let Some(mut journal) = journals.pop() {
        if let Some(behind) = want {
            if journal.number > behind.number {
                // The file was torn, and another took its place.
                continue;
            }
            let len = usize::try_from(behind.len).unwrap_or(usize::MAX);
            if journal.number < behind.number || journal.records.len() < len {
                return Err(damaged(files::journal(behind.number)));
            }
            journal.records.truncate(len);
        }
        want = journal.behind.filter(|behind| behind.number >= pointer.first);
        linked.push(journal);
        if want.is_none() {
            break;
        }
    }
    if let Some(behind) = want {
        return Err(damaged(files::journal(behind.number)));
    }
    linked.reverse();

    let mut records = Vec::new();
    let mut starts = Vec::new();
    for journal in &linked {
        starts.push((journal.number, records.len()));
        records.extend_from_slice(&journal.records);
    }
    let whole = records.len();
    records.extend(torn);
    let found = inspect(&records, RecordId::from_u64(covers))?;
    let good_to = found.good_to.min(whole);
    let ends = starts.iter().skip(1).map(|(_, start)| *start).chain([whole]);
    let mut files = Vec::new();
    for ((number, start), end) in starts.iter().zip(ends) {
        let end = end.min(good_to.max(*start));
        let inside = found.records.iter().filter(|record| record.end <= end).map(|record| record.id.as_u64());
        let last = inside.max().unwrap_or(covers);
        files.push(File { number: *number, len: (end - start) as u64, last });
    }
    // Nothing that counts may begin after a cut: a file took the place of just the torn bytes.
    let behind_cut = starts.iter().find(|(_, start)| *start > good_to);
    if let Some((_, start)) = behind_cut {
        return Err(JournalCorrupt { part: Area::Records, offset: *start, damage: Damage::Lost }.into());
    }
    let last = found.last.as_u64();
    Ok((files, records, last))
}
