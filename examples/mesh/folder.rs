//! What a process keeps in its directory beside its store: its own key, and which mesh it belongs to.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use consilience::sync::{Keypair, MeshId};

/// Drawn from the operating system at the first start: the process proves itself with it, and by hand it also writes.
const KEY: &str = "key";
/// The mesh's secret, so that a stopped store can be read without being told it again.
const MESH: &str = "mesh";

/// The process's own key, made at the first start.
pub(crate) fn key(dir: &Path) -> Result<Keypair, String> {
    let key = match read(dir, KEY)? {
        Some(key) => key,
        None => write(dir, KEY, &random()?)?,
    };
    Ok(Keypair::from_seed(key))
}

/// Notes which mesh the directory belongs to; refuses another one.
pub(crate) fn join(dir: &Path, mesh: &MeshId) -> Result<(), String> {
    match read(dir, MESH)? {
        None => write(dir, MESH, mesh.as_bytes()).map(drop),
        Some(known) if known == *mesh.as_bytes() => Ok(()),
        Some(_) => Err(format!(
            "{} belongs to another mesh: give the --mesh or --seed of its first start, or another directory",
            dir.display()
        )),
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
    let path = dir.join(name);
    match fs::read(&path) {
        Ok(bytes) => {
            let bytes = bytes.try_into().map_err(|_| format!("{} is damaged", path.display()))?;
            Ok(Some(bytes))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// All of it or nothing, whenever the process is killed; and for nobody else to read.
fn write(dir: &Path, name: &str, bytes: &[u8; 32]) -> Result<[u8; 32], String> {
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
    written.map(|()| *bytes).map_err(|error: std::io::Error| format!("{}: {error}", path.display()))
}
