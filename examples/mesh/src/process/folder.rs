//! The files of a process beside its store: its own key, its mesh, and its kind.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use consilience::store::{Finding, SecretKind, load_secret, save_secret};
use consilience::sync::{Keypair, MeshSecret};

use crate::process::relay::STORE;
use crate::process::{hex, text};

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

    /// The content of the file that names it: a line with the name and its check.
    fn line(self) -> Vec<u8> {
        let check = blake3::derive_key("consilience example mesh kind v1", self.name().as_bytes());
        format!("{} {}\n", self.name(), &hex(&check)[..16]).into_bytes()
    }
}

/// The process's own key, made at the first start. A store without its key is no first start.
pub(crate) fn key(dir: &Path) -> Result<Keypair, String> {
    let path = dir.join(KEY);
    let key = match load_secret(&path, SecretKind::Agent).map_err(text)? {
        Some(key) => key,
        None if dir.join(LOCK).exists() || dir.join(STORE).exists() => {
            return Err(format!(
                "{} is gone: bring a copy of it; with another key this is another agent",
                path.display()
            ));
        }
        None => {
            let key = random()?;
            save_secret(&path, SecretKind::Agent, &key).map_err(text)?;
            key
        }
    };
    Ok(Keypair::from_seed(key))
}

/// Notes which mesh and which kind of process the directory belongs to; refuses others before it writes anything.
pub(crate) fn join(dir: &Path, mesh: &MeshSecret, kind: Kind) -> Result<(), String> {
    if let Some(other) = self::kind(dir)?.filter(|known| *known != kind) {
        let (dir, mine, other) = (dir.display(), kind.name(), other.name());
        return Err(format!("{dir} is the directory of --{other}: give --{mine} another one"));
    }
    let path = dir.join(MESH);
    let known = load_secret(&path, SecretKind::Mesh).map_err(text)?;
    if known.is_some_and(|known| known != *mesh.as_bytes()) {
        return Err(format!(
            "{} belongs to another mesh: give the --mesh or --seed of its first start, or another directory",
            dir.display()
        ));
    }
    if known.is_none() {
        save_secret(&path, SecretKind::Mesh, mesh.as_bytes()).map_err(text)?;
    }
    if bytes(dir, KIND)?.is_none() {
        write(dir, KIND, &kind.line())?;
    }
    Ok(())
}

/// Which kind of process the directory belongs to, if one was ever started in it.
pub(crate) fn kind(dir: &Path) -> Result<Option<Kind>, String> {
    match bytes(dir, KIND)? {
        Some(line) => [Kind::Agent, Kind::Relay]
            .into_iter()
            .find(|kind| kind.line() == line)
            .map(Some)
            .ok_or_else(|| {
                format!("{} is damaged: remove it, and the store says what it is", dir.join(KIND).display())
            }),
        // From before it was noted. A relay may have left its file in an agent's directory, which was not refused then.
        None if dir.join(LOCK).exists() => Ok(Some(Kind::Agent)),
        None if dir.join(STORE).exists() => Ok(Some(Kind::Relay)),
        None => Ok(None),
    }
}

/// The mesh that the directory belongs to.
pub(crate) fn mesh(dir: &Path) -> Result<MeshSecret, String> {
    let mesh = load_secret(&dir.join(MESH), SecretKind::Mesh).map_err(text)?;
    let mesh = mesh.ok_or_else(|| format!("no process was ever started in {}", dir.display()))?;
    Ok(MeshSecret::from_bytes(mesh))
}

/// 32 bytes of the operating system's randomness.
pub(crate) fn random() -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| format!("the system gives no randomness: {error}"))?;
    Ok(bytes)
}

/// Says on the standard error what of a store is not as it was written.
pub(crate) fn tell(dir: &Path, findings: &[Finding]) {
    for finding in findings {
        // There may be nobody to read it.
        let _ = writeln!(std::io::stderr(), "mesh: {}: {finding}", dir.display());
    }
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
