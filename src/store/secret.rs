//! [`load_secret`] and [`save_secret`]: 32 bytes that must never change unnoticed, each in a file of its own: the seed of
//! an agent's key, and the mesh's secret. A bit that flips in a bare seed makes another agent, and nobody is told.
//!
//! ```text
//! f5 63 4a 4b ‖ version 01 ‖ kind: 01 agent, 02 mesh ‖ secret, 32 bytes ‖ check, 8 bytes
//! ```
//!
//! The check is that of the store's other files. Nothing is encrypted: the file is for its owner alone to read.
//!
//! The invariant: a secret is read as it was written, or not at all; and it is written whole, once.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::{disk, files};

const MAGIC: [u8; 4] = [0xf5, 0x63, 0x4a, 0x4b];
const VERSION: u8 = 1;

/// The use of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretKind {
    /// The seed of an agent's key ([`Keypair::from_seed`](crate::sync::Keypair::from_seed)).
    Agent,
    /// The mesh's secret ([`MeshSecret::from_bytes`](crate::sync::MeshSecret::from_bytes)).
    Mesh,
}

impl SecretKind {
    const fn byte(self) -> u8 {
        match self {
            Self::Agent => 1,
            Self::Mesh => 2,
        }
    }
}

/// Why a secret was not read or written. No secret changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The system failed.
    #[error("the system failed to {doing} {}: {source}", path.display())]
    Io {
        /// The operation that failed.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is not as it was written: bring a copy of it. Without one the agent is lost, and another key is another
    /// agent.
    #[error("{} is damaged: bring a copy of it; any other secret is another identity", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The file holds a secret for another use.
    #[error("{} holds a secret for another use", path.display())]
    OtherKind {
        /// The file.
        path: PathBuf,
    },
    /// A later version of this library wrote the file: upgrade.
    #[error("{} is of a later version of this library: upgrade", path.display())]
    Version {
        /// The file.
        path: PathBuf,
    },
    /// There is a file already. It may hold an identity.
    #[error("{} is there already, and is not written over", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a secret. `None` if there is no such file: whether that is a first start, or the file is lost, is the caller's to
/// know.
///
/// # Errors
///
/// If the system fails, or the file is not as [`save_secret`] wrote it for this use.
pub fn load_secret(path: &Path, kind: SecretKind) -> Result<Option<[u8; 32]>, SecretError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return failed(Err(error), "read", path),
    };
    let path = || path.to_owned();
    let damaged = || SecretError::Damaged { path: path() };
    let content = files::open(&bytes).ok_or_else(damaged)?;
    let (magic, content) = content.split_first_chunk::<4>().ok_or_else(damaged)?;
    let ([version, found], secret) = content.split_first_chunk::<2>().ok_or_else(damaged)?;
    if *magic != MAGIC {
        return Err(damaged());
    }
    if *version != VERSION {
        return Err(SecretError::Version { path: path() });
    }
    if *found != kind.byte() {
        return Err(SecretError::OtherKind { path: path() });
    }
    secret.try_into().map(Some).map_err(|_| damaged())
}

/// Writes a secret: whole and durable, or not at all, for nobody but the owner to read. Makes the folder if it is not
/// there.
///
/// # Errors
///
/// [`SecretError::Exists`], or if the system fails.
pub fn save_secret(path: &Path, kind: SecretKind, secret: &[u8; 32]) -> Result<(), SecretError> {
    if failed(path.try_exists(), "look for", path)? {
        return Err(SecretError::Exists { path: path.to_owned() });
    }
    let mut bytes = MAGIC.to_vec();
    bytes.extend([VERSION, kind.byte()]);
    bytes.extend(secret);
    failed(replace(path, &files::close(bytes)), "write", path)
}

/// Puts bytes in the place of a file: all of them or none, whenever the process ends.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = disk::above(path);
    disk::make(folder)?;
    let mut begun = path.as_os_str().to_owned();
    begun.push(".new");
    let begun = PathBuf::from(begun);
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&begun)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&begun, path)?;
    disk::sync_folder(folder)
}

fn failed<T>(result: io::Result<T>, doing: &'static str, path: &Path) -> Result<T, SecretError> {
    result.map_err(|source| SecretError::Io { doing, path: path.to_owned(), source })
}
