//! Where the stores of a run are: a directory of its own that is gone in the end, or one that is kept.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::trace::{Change, Trace};

pub(crate) struct Scratch {
    dir: PathBuf,
    kept: bool,
}

impl Scratch {
    /// In `keep`, which must be empty or new; else in a fresh temporary directory.
    pub(crate) fn new(keep: Option<&Path>) -> Result<Self, String> {
        let Some(dir) = keep else { return Self::fresh() };
        let named = |error: std::io::Error| format!("{}: {error}", dir.display());
        fs::create_dir_all(dir).map_err(named)?;
        if fs::read_dir(dir).map_err(named)?.next().is_some() {
            return Err(format!("{} is not empty", dir.display()));
        }
        Ok(Self { dir: dir.into(), kept: true })
    }

    fn fresh() -> Result<Self, String> {
        let mut number = 0_u32;
        loop {
            let dir = std::env::temp_dir().join(format!("consilience-mesh-{}-{number}", std::process::id()));
            match fs::create_dir(&dir) {
                Ok(()) => return Ok(Self { dir, kept: false }),
                // Left behind by a run that was killed.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && number < 1_000 => {
                    number += 1
                }
                Err(error) => return Err(format!("{}: {error}", dir.display())),
            }
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Puts the trace beside the stores that are kept, whatever it was made from.
    pub(crate) fn keep_trace(&self, trace: &Trace) -> Result<(), String> {
        if !self.kept {
            return Ok(());
        }
        let file = self.dir.join("trace.jsonl");
        let written = (|| {
            let mut out = std::io::BufWriter::new(fs::File::create(&file)?);
            for event in &trace.events {
                let key = |change: &Change| match change {
                    Change::Set(key) => key.clone(),
                    Change::Remove(key) => format!("-{key}"),
                };
                let keys: Vec<String> = event.changes.iter().map(key).collect();
                writeln!(out, "{}", json!({ "t": event.time_s, "agent": event.agent, "keys": keys }))?;
            }
            out.flush()
        })();
        written.map_err(|error| format!("{}: {error}", file.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.kept {
            // It is in the system's temporary directory, which is cleared in the end anyway.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
