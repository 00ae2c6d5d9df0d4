//! The files of a process beside its store: its own key, its mesh, and its kind.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use consilience::sync::{Keypair, MeshId};

use crate::process::relay::STORE;

/// Drawn from the operating system at the first start: the process proves itself with it, and by hand it also writes.
const KEY: &str = "key";
/// The mesh's secret, so that a stopped store can be read without being told it again.
const MESH: &str = "mesh";
/// Which kind of process it is the directory of: neither can go on with the other's files.
const KIND: &str = "kind";
/// The file that a running agent's store has locked.
pub(crate) const LOCK: &str = "lock";

/// The kinds of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Agent,
    Relay,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Relay => "relay",
        }
    }
}

/// The process's own key, made at the first start.
pub(crate) fn key(dir: &Path) -> Result<Keypair, String> {
    let key = match read(dir, KEY)? {
        Some(key) => key,
        None => {
            let key = random()?;
            write(dir, KEY, &key)?;
            key
        }
    };
    Ok(Keypair::from_seed(key))
}

/// Notes which mesh and which kind of process the directory belongs to; refuses others before it writes anything.
pub(crate) fn join(dir: &Path, mesh: &MeshId, kind: Kind) -> Result<(), String> {
    if let Some(other) = self::kind(dir)?.filter(|known| *known != kind) {
        let (dir, mine, other) = (dir.display(), kind.name(), other.name());
        return Err(format!("{dir} is the directory of --{other}: give --{mine} another one"));
    }
    let known = read(dir, MESH)?;
    if known.is_some_and(|known| known != *mesh.as_bytes()) {
        return Err(format!(
            "{} belongs to another mesh: give the --mesh or --seed of its first start, or another directory",
            dir.display()
        ));
    }
    if known.is_none() {
        write(dir, MESH, mesh.as_bytes())?;
    }
    if bytes(dir, KIND)?.is_none() {
        write(dir, KIND, kind.name().as_bytes())?;
    }
    Ok(())
}

/// Which kind of process the directory belongs to, if one was ever started in it.
pub(crate) fn kind(dir: &Path) -> Result<Option<Kind>, String> {
    match bytes(dir, KIND)?.as_deref() {
        Some(b"agent") => Ok(Some(Kind::Agent)),
        Some(b"relay") => Ok(Some(Kind::Relay)),
        Some(_) => Err(format!("{} is damaged", dir.join(KIND).display())),
        // From before it was noted. A relay may have left its file in an agent's directory, which was not refused then.
        None if dir.join(LOCK).exists() => Ok(Some(Kind::Agent)),
        None if dir.join(STORE).exists() => Ok(Some(Kind::Relay)),
        None => Ok(None),
    }
}

/// The mesh that the directory belongs to.
pub(crate) fn mesh(dir: &Path) -> Result<MeshId, String> {
    let mesh = read(dir, MESH)?.ok_or_else(|| format!("no process was ever started in {}", dir.display()))?;
    Ok(MeshId::from_bytes(mesh))
}

/// 32 bytes of the operating system's randomness.
pub(crate) fn random() -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| format!("the system gives no randomness: {error}"))?;
    Ok(bytes)
}

fn read(dir: &Path, name: &str) -> Result<Option<[u8; 32]>, String> {
    let bytes = bytes(dir, name)?.map(TryInto::try_into).transpose();
    bytes.map_err(|_| format!("{} is damaged", dir.join(name).display()))
}

fn bytes(dir: &Path, name: &str) -> Result<Option<Vec<u8>>, String> {
    let path = dir.join(name);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// All of it or nothing, whenever the process is killed; and for nobody else to read.
fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), String> {
    let path = dir.join(name);
    let begun = dir.join(format!("{name}.new"));
    let written = (|| {
        fs::create_dir_all(dir)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&begun)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&begun, &path)?;
        if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
    })();
    written.map_err(|error: std::io::Error| format!("{}: {error}", path.display()))
}
