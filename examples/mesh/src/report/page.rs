//! The file for the page: a place that cannot be written is found out before the run, not after it.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

pub(crate) struct Page {
    path: PathBuf,
    file: File,
    /// It was not there before, and nothing is in it yet.
    is_blank: bool,
}

impl Page {
    /// What is in the file stays until there is something to put in its place.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let is_blank = !path.exists();
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        let file = file.map_err(|error| format!("--html {}: {error}", path.display()))?;
        Ok(Self { path: path.into(), file, is_blank })
    }

    pub(crate) fn write(mut self, text: &str) -> Result<(), String> {
        self.is_blank = false;
        let written = self.file.metadata().and_then(|data| {
            // A pipe has no length.
            if data.is_file() {
                self.file.set_len(0)?;
            }
            self.file.write_all(text.as_bytes())
        });
        written.map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if self.is_blank {
            // An empty file does no harm.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
