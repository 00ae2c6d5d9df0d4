//! The program `mesh`, and directories for it.

use std::path::{Path, PathBuf};

/// The binary that cargo built for this test.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_mesh"))
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
        let (mut files, mut folders) = (Vec::new(), vec![String::new()]);
        while let Some(folder) = folders.pop() {
            for file in std::fs::read_dir(self.0.join(name).join(&folder)).unwrap().map(Result::unwrap) {
                let path = format!("{folder}{}", file.file_name().into_string().unwrap());
                if file.path().is_dir() {
                    folders.push(format!("{path}/"));
                } else {
                    files.push((path, std::fs::read(file.path()).unwrap()));
                }
            }
        }
        files.sort();
        files
    }

    /// Puts a copy of a directory in the place of another.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        let files = self.files(from);
        let _ = std::fs::remove_dir_all(self.path(to));
        std::fs::create_dir_all(self.path(to)).unwrap();
        for (name, bytes) in files {
            let path = self.0.join(to).join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
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
