//! [`Disk`]: the few effects that the store has, so that a test can stand in for the disk and lose power between any two.
//!
//! The invariant: nothing is durable before it was synced, and neither is a name before its folder was.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A folder of files. Names are plain: no separators.
pub trait Disk: core::fmt::Debug + Send {
    /// Keeps every other store out of the folder until this is dropped. False if one is in it.
    ///
    /// # Errors
    ///
    /// The system's error; so for all others.
    fn lock(&mut self) -> io::Result<bool>;

    /// The names of all files.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn list(&mut self) -> io::Result<Vec<String>>;

    /// All bytes of a file.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn read(&mut self, name: &str) -> io::Result<Vec<u8>>;

    /// Makes an empty file, or empties the one that is there.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn create(&mut self, name: &str) -> io::Result<()>;

    /// Writes after the end of a file.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Writes over the first bytes of a file, and leaves the others as they are. It needs no room on the disk that the file
    /// does not have.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Makes the bytes of a file durable.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn sync_file(&mut self, name: &str) -> io::Result<()>;

    /// Makes durable which files there are.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn sync_folder(&mut self) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn remove(&mut self, name: &str) -> io::Result<()>;
}

/// The file that is locked. It stays empty.
pub(super) const LOCK: &str = "lock";

/// A folder of the file system.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    lock: Option<File>,
    /// The file that was appended to last.
    open: Option<(String, File)>,
}

impl Folder {
    /// Makes the folder if it is not there.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        make(path)?;
        Ok(Self { path: path.to_path_buf(), lock: None, open: None })
    }

    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        if self.open.as_ref().is_none_or(|(open, _)| open != name) {
            let file = OpenOptions::new().append(true).open(self.path.join(name))?;
            self.open = Some((name.to_owned(), file));
        }
        self.open.as_mut().map(|(_, file)| file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Makes a folder and those above it that are not there; all their names are durable then.
pub(super) fn make(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !is_there(folder)).collect();
    for folder in missing.into_iter().rev() {
        match fs::create_dir(folder) {
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
            made => made?,
        }
        sync_folder(above(folder))?;
    }
    Ok(())
}

/// An empty path is the folder that the process is in.
fn is_there(folder: &Path) -> bool {
    folder.as_os_str().is_empty() || folder.is_dir()
}

/// The folder that has a path's name.
pub(super) fn above(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

#[cfg(unix)]
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Elsewhere a folder cannot be opened as a file, and its names are journaled by the system.
#[cfg(not(unix))]
pub(super) fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

impl Disk for Folder {
    fn lock(&mut self) -> io::Result<bool> {
        let path = self.path.join(LOCK);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => {
                self.lock = Some(file);
                Ok(true)
            }
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&mut self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        Ok(names.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    fn read(&mut self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path.join(name))
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        self.open = None;
        File::create(self.path.join(name)).map(drop)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.file(name)?.write_all(bytes)
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        // A handle of its own: one that appends does not know of places.
        OpenOptions::new().write(true).open(self.path.join(name))?.write_all(bytes)
    }

    fn sync_file(&mut self, name: &str) -> io::Result<()> {
        self.file(name)?.sync_data()
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        sync_folder(&self.path)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|(open, _)| open == name) {
            self.open = None;
        }
        fs::remove_file(self.path.join(name))
    }
}
