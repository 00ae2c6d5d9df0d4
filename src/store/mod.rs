//! [`FileStore`]: a ready place for a replica's records and snapshots, in a folder of files. Feature `file-store`.
//!
//! It shows the demands on any storage: append, sync, then confirm; a snapshot takes the place of records in one step;
//! after a failed write or sync nothing is trusted until the store was opened anew.
//!
//! ```no_run
//! use consilience::crdts::Timestamp;
//! use consilience::store::FileStore;
//! use consilience::sync::{Keypair, MeshSecret};
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
//! let config = Config::new(MeshSecret::from_bytes(secret), entropy);
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
//! Every file has a check. What is not as it was written is told, at each opening until something took its place:
//!
//! - A torn end, as a process leaves it that ended in the middle of a write: a [`Finding`], and the replica's
//!   [`Notice::RecordsCut`](crate::Notice::RecordsCut).
//! - A pointer or the watermark, of which the content is known otherwise, and a snapshot that is damaged while the one
//!   before it is still there: a [`Finding`], and nothing is lost.
//! - Content that was durable: [`StoreError::Damaged`]. [`FileStore::open_rest`] opens the part that is left.
//!
//! The file `watermark` says how much was durable at least. It is written after each sync and not synced itself, but by
//! [`FileStore::close`]. So a system that loses power may leave an older one, and then damage to the last records looks
//! like a torn end. A disk that forgets bytes and watermark, though it said that they were durable, looks like a run
//! that stored nothing. Its writers then sign a second history, which is found out and healed
//! ([`Notice::SelfForked`](crate::Notice)).
//!
//! The invariants: between any two effects, the disk has the old state or the new one; and what is opened is all that was
//! durable, or it is said what is missing.

mod disk;
mod files;
mod found;
mod report;
mod secret;

use std::io;
use std::path::Path;

use consilience_sync::planted::{Fault, planted};
pub use disk::Disk;
pub use report::{Finding, StoreError};
pub use secret::{SecretError, SecretKind, load_secret, save_secret};

use crate::Opened;
use crate::journal::{Record, RecordId, Snapshot};
use disk::Folder;
use files::{Behind, Pointer, SLOTS, WATERMARK, Watermark};
use found::{File, Found, Smalls, find};
use report::failed;

/// The content of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loaded {
    /// The snapshot, if there is one.
    pub snapshot: Option<Vec<u8>>,
    /// The records, torn end included: [`recover`](crate::journal::recover) cuts it and says so.
    pub records: Vec<u8>,
    /// What is not as it was written. Tell the user.
    pub findings: Vec<Finding>,
}

impl Loaded {
    /// The way to open a replica: with the content of the folder, or with nothing if the folder is new; and as a restored
    /// one if content that was durable is lost. Of a folder that was put back from a backup say [`Opened::Restored`]
    /// instead.
    #[must_use]
    pub fn opened(&self) -> Opened<'_> {
        let stored = crate::Stored { snapshot: self.snapshot.as_deref(), records: &self.records };
        if self.findings.iter().any(|finding| matches!(finding, Finding::Lost { .. })) {
            return Opened::Restored(stored);
        }
        if self.snapshot.is_none() && self.records.is_empty() {
            return Opened::Fresh;
        }
        Opened::Resumed(stored)
    }
}

/// Records and snapshots in a folder of files. One at a time can have the folder open.
#[derive(Debug)]
pub struct FileStore {
    disk: Box<dyn Disk>,
    pointer: Pointer,
    /// Which files of pointers have their length, so that they can be written over.
    slots: [bool; 2],
    /// The pointer is to be written once something is stored: it leaves lost content behind.
    pending: bool,
    /// The watermark as it was written last, if the file has its length.
    watermark: Option<Watermark>,
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

impl FileStore {
    /// Opens a folder, and makes it if it is not there. Everything that is given back is durable.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`], if the system fails, or [`StoreError::Damaged`] if the disk has lost durable bytes. Nothing
    /// changed then.
    pub fn open(folder: &Path) -> Result<(Self, Loaded), StoreError> {
        Self::open_on(Self::folder(folder)?)
    }

    /// Opens the part of a folder that is left after the disk has lost durable bytes: the longest that is good, perhaps
    /// nothing. [`Finding::Lost`] says where it ends, and [`Loaded::opened`] that the replica is a restored one: its
    /// writers go on in their next incarnations, and peers bring what they have of the lost part. Opens any other folder as
    /// [`open`](Self::open) does. The damaged files stay until something is stored. Copy the folder before, if it may be
    /// of use.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), but for [`StoreError::Damaged`].
    pub fn open_rest(folder: &Path) -> Result<(Self, Loaded), StoreError> {
        Self::open_rest_on(Self::folder(folder)?)
    }

    fn folder(folder: &Path) -> Result<Box<dyn Disk>, StoreError> {
        let name = folder.display().to_string();
        Ok(Box::new(failed(Folder::new(folder), "open", &name)?))
    }

    /// Opens a folder of any kind.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_on(disk: Box<dyn Disk>) -> Result<(Self, Loaded), StoreError> {
        Self::open_part(disk, false)
    }

    /// Opens the part that is left of a folder of any kind.
    ///
    /// # Errors
    ///
    /// As [`open_rest`](Self::open_rest).
    pub fn open_rest_on(disk: Box<dyn Disk>) -> Result<(Self, Loaded), StoreError> {
        Self::open_part(disk, true)
    }

    fn open_part(mut disk: Box<dyn Disk>, rest: bool) -> Result<(Self, Loaded), StoreError> {
        if !failed(disk.lock(), "lock", disk::LOCK)? {
            return Err(StoreError::InUse);
        }
        let names = failed(disk.list(), "list", "the folder")?;
        let mut smalls = Smalls::read(&mut *disk, &names)?;
        let found = match find(&mut *disk, &names, &smalls)? {
            Some(found) => found,
            None => {
                begin(&mut *disk)?;
                // The pointer was written, and is read as at any other start.
                let names = failed(disk.list(), "list", "the folder")?;
                smalls = Smalls::read(&mut *disk, &names)?;
                find(&mut *disk, &names, &smalls)?.unwrap_or_default()
            }
        };
        let Found { pointer, slot, files, snapshot, records, covers, last, lost, mut findings } = found;
        if let (Some(lost), false) = (&lost, rest) {
            return Err(lost.clone().into());
        }
        let of = |prefix: &'static str| names.iter().filter_map(move |name| files::number(name, prefix));
        let watermarked = smalls.watermark().map_or(0, |watermark| watermark.file);
        // Not a number that something knows of, though the file itself may be gone.
        let number =
            of("journal").chain(of("snapshot")).chain([watermarked, pointer.first.saturating_sub(1)]).max();
        let number = number.unwrap_or(0);
        let is_lost = lost.is_some();
        findings.extend(lost.map(Finding::from));
        let mut store = Self {
            disk,
            pointer,
            slots: smalls.slots.each_ref().map(|bytes| has_len(bytes, Pointer::default().encode().len())),
            pending: false,
            watermark: smalls.watermark().or_else(|| {
                has_len(&smalls.watermark, Watermark::default().encode().len()).then(Watermark::default)
            }),
            files,
            begun: false,
            number,
            last,
            covers,
            unsynced: false,
            poisoned: false,
        };
        match slot {
            Some(slot) => store.sync_found(slot)?,
            None => {
                let generation = pointer.generation.saturating_add(1);
                store.pointer = Pointer { generation, snapshot: 0, first: number.saturating_add(1) };
                store.pending = true;
            }
        }
        // Until something takes its place, the lost content is told.
        if !is_lost {
            unless_full(store.mend(&smalls, &names))?;
        }
        Ok((store, Loaded { snapshot, records, findings }))
    }

    /// Makes the bytes durable that an earlier run may only have written, before anybody relies on them.
    fn sync_found(&mut self, slot: &str) -> Result<(), StoreError> {
        let mut names: Vec<String> = self.files.iter().map(|file| files::journal(file.number)).collect();
        names.push(slot.to_owned());
        if self.pointer.snapshot > 0 {
            names.push(files::snapshot(self.pointer.snapshot));
        }
        for name in &names {
            failed(self.disk.sync_file(name), "sync", name)?;
        }
        failed(self.disk.sync_folder(), "sync", "the folder")
    }

    /// Puts the small files in order, and removes those that are no longer needed. A full disk is no reason not to open:
    /// nothing depends on it, and the next opening does it again.
    fn mend(&mut self, smalls: &Smalls, names: &[String]) -> Result<(), StoreError> {
        let bytes = self.pointer.encode();
        for (slot, there) in SLOTS.into_iter().zip(&smalls.slots) {
            if there.as_ref() != Some(&bytes) {
                self.write_slot(slot)?;
            }
        }
        self.clean(names)?;
        if smalls.watermark.is_none()
            || smalls.watermark().is_none()
            || self.watermark != Some(self.watermark_now())
        {
            self.write_watermark()?;
        }
        Ok(())
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

    /// Writes the pointer into one of its two files. Durable then.
    fn write_slot(&mut self, slot: &'static str) -> Result<(), StoreError> {
        let bytes = self.pointer.encode();
        let [even, odd] = &mut self.slots;
        let there = if slot == SLOTS[0] { even } else { odd };
        if core::mem::replace(there, false) {
            failed(self.disk.write(slot, &bytes), "write to", slot)?;
        } else {
            failed(self.disk.create(slot), "create", slot)?;
            failed(self.disk.append(slot, &bytes), "write to", slot)?;
        }
        *there = true;
        failed(self.disk.sync_file(slot), "sync", slot)?;
        failed(self.disk.sync_folder(), "sync", "the folder")
    }

    fn other_slot(&self) -> &'static str {
        let [even, odd] = SLOTS;
        if self.pointer.slot() == even { odd } else { even }
    }

    /// How much is durable, as the watermark says it.
    fn watermark_now(&self) -> Watermark {
        // Where a snapshot covers all, no file before the next one has anything.
        let (file, len) = self.files.last().map_or((self.number, 0), |file| (file.number, file.len));
        Watermark { file, len, last: self.last }
    }

    /// Says how much is durable. Not synced: an older watermark says less, and nothing wrong.
    fn write_watermark(&mut self) -> Result<(), StoreError> {
        let watermark = self.watermark_now();
        if self.watermark.take().is_some() {
            failed(self.disk.write(WATERMARK, &watermark.encode()), "write to", WATERMARK)?;
        } else {
            failed(self.disk.create(WATERMARK), "create", WATERMARK)?;
            failed(self.disk.append(WATERMARK, &watermark.encode()), "write to", WATERMARK)?;
            failed(self.disk.sync_folder(), "sync", "the folder")?;
        }
        self.watermark = Some(watermark);
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
        let done = self.append_bytes(record.as_bytes(), id);
        self.guard(done)
    }

    fn append_bytes(&mut self, bytes: &[u8], id: u64) -> Result<(), StoreError> {
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
            if !planted(Fault::SyncIsLeftOut) {
                failed(self.disk.sync_file(&name), "sync", &name)?;
            }
            if core::mem::replace(&mut self.pending, false) {
                // Something took the place of the lost content.
                self.write_slot(self.pointer.slot())?;
                self.write_slot(self.other_slot())?;
            }
            self.write_watermark()?;
        }
        self.unsynced = false;
        Ok(())
    }

    /// Makes everything durable, the watermark included by which the next opening knows that nothing is missing. A
    /// store that is dropped without this leaves that to the system.
    ///
    /// # Errors
    ///
    /// If the system fails, now or before.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.check()?;
        self.sync_journal()?;
        match self.watermark {
            Some(_) => failed(self.disk.sync_file(WATERMARK), "sync", WATERMARK),
            None => Ok(()),
        }
    }

    /// Puts a snapshot in the place of the records that it covers. It is durable then, and so is everything that was
    /// appended: the host tells the journal
    /// ([`confirm_snapshot`](crate::journal::Journal::confirm_snapshot)). The snapshot before it and its records stay until
    /// then, and count if anything fails.
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
        let generation = self.pointer.generation.saturating_add(1);
        self.pointer = Pointer { generation, snapshot: number, first };
        self.pending = false;
        self.write_slot(self.pointer.slot())?;

        self.number = number;
        self.begun = false;
        self.covers = covers;
        self.last = self.last.max(covers);
        self.files.drain(..needed);
        let names = failed(self.disk.list(), "list", "the folder")?;
        self.clean(&names)?;
        // The pointer before named files that are gone now. Twice, one of the two may be damaged.
        self.write_slot(self.other_slot())?;
        self.write_watermark()
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

fn has_len(bytes: &Option<Vec<u8>>, len: usize) -> bool {
    bytes.as_ref().is_some_and(|bytes| bytes.len() == len)
}

/// Passes over an error that says that there is no room on the disk.
fn unless_full(done: Result<(), StoreError>) -> Result<(), StoreError> {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    match done {
        Err(StoreError::Io { source, .. }) if matches!(source.kind(), StorageFull | QuotaExceeded) => Ok(()),
        done => done,
    }
}

/// A new folder: a watermark and the pointers, so that where one is missing later, it is known that it is lost.
fn begin(disk: &mut dyn Disk) -> Result<(), StoreError> {
    let pointer = Pointer { generation: 1, snapshot: 0, first: 1 };
    let [even, odd] = SLOTS;
    for (name, bytes) in
        [(WATERMARK, Watermark::default().encode()), (odd, pointer.encode()), (even, pointer.encode())]
    {
        failed(disk.create(name), "create", name)?;
        failed(disk.append(name, &bytes), "write to", name)?;
        failed(disk.sync_file(name), "sync", name)?;
        failed(disk.sync_folder(), "sync", "the folder")?;
    }
    Ok(())
}
