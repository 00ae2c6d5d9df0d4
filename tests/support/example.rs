//! The example `mesh` as a program, and directories for it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The binary that cargo built beside this test: target/<profile>/examples/mesh.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().and_then(Path::parent).unwrap();
        let binary = profile.join("examples").join(format!("mesh{}", std::env::consts::EXE_SUFFIX));
        if is_stale(&binary) {
            let name = profile.file_name().filter(|name| *name != "debug").unwrap_or("test".as_ref());
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--example", "mesh", "--target-dir"]);
            cargo.arg(profile.parent().unwrap()).arg("--profile").arg(name);
            assert!(cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
        }
        assert!(binary.exists(), "{} is missing", binary.display());
        binary
    })
}

/// Whether the binary is missing or older than one of its own sources: `cargo test --test` builds no examples.
fn is_stale(binary: &Path) -> bool {
    let Ok(built) = std::fs::metadata(binary).and_then(|data| data.modified()) else { return true };
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/mesh");
    let newer = |file: std::fs::DirEntry| file.metadata().unwrap().modified().unwrap() > built;
    std::fs::read_dir(sources).unwrap().any(|file| newer(file.unwrap()))
}

/// A directory of a test's own, empty, and gone when it ends well.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mesh-{name}-{}", std::process::id()));
        // Left behind by a run that failed, if it is there.
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().into()
    }

    /// The files of a directory, with what is in them.
    pub(crate) fn files(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = std::fs::read_dir(self.path(name))
            .unwrap()
            .map(|file| file.unwrap())
            .map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap()))
            .collect();
        files.sort();
        files
    }

    /// Puts a copy of a directory in the place of another.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        let files = self.files(from);
        let _ = std::fs::remove_dir_all(self.path(to));
        std::fs::create_dir_all(self.path(to)).unwrap();
        for (name, bytes) in files {
            std::fs::write(self.0.join(to).join(name), bytes).unwrap();
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
