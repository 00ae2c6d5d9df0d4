//! The content of a stopped process's store, as JSON lines. The store stays as it is: it is opened from a copy in memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use consilience::crdts::Hlc;
use consilience::store::{Disk, FileStore};
use consilience::sync::AgentId;
use consilience::{CollectionKind, Config, Live, Opened, Replica, Stored, TopicView};
use serde_json::{Value, json};

use crate::process::folder;
use crate::process::folder::Kind;
use crate::process::host;
use crate::process::{hex, text};
use crate::shown::shown_json;

/// The last instant of hybrid logical clocks, in milliseconds.
const MILLIS_MAX: u64 = (1 << 48) - 1;

/// Writes the content of a directory's store.
pub(crate) fn dump(dir: &Path, out: &mut impl Write) -> Result<(), String> {
    let replica = open(dir)?;
    let mut lines = Vec::new();
    for topic in replica.topics() {
        let view = replica.topic(topic.as_str()).map_err(text)?;
        let from = lines.len();
        collections(view, &mut lines);
        events(view, &mut lines);
        for line in &mut lines[from..] {
            line["topic"] = json!(topic.as_str());
        }
    }
    let entries: u64 = replica.logs().logs().map(consilience::sync::Log::size).sum();
    lines.push(json!({
        "digest": host::digest(&replica),
        "entries": entries,
        "topics": replica.topics().map(consilience::sync::Topic::as_str).collect::<Vec<_>>(),
    }));
    let written = lines
        .iter()
        .try_for_each(|line| writeln!(out, "{}", shown_json(&line.to_string())))
        .and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(text(error)),
        _ => Ok(()),
    }
}

fn open(dir: &Path) -> Result<Replica, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", dir.display());
    let mesh = folder::mesh(dir)?;
    if folder::kind(dir)? == Some(Kind::Relay) {
        return Err(named(&"this is a relay's directory, and a relay does not interpret its entries"));
    }
    let (_, stored) = FileStore::open_on(Box::new(Copied::new(dir)?)).map_err(|error| named(&error))?;
    folder::tell(dir, &stored.findings);
    let stored = Stored { snapshot: stored.snapshot.as_deref(), records: &stored.records };
    let config = Config::new(mesh, folder::random()?);
    // Late enough for every stamp.
    let now = consilience::crdts::Timestamp::from_millis(MILLIS_MAX);
    Replica::open(config, Opened::Resumed(stored), now).map_err(|error| named(&error))
}

fn collections(view: TopicView<'_>, lines: &mut Vec<Value>) {
    let latest = host::latest(view);
    for (kind, name, schema) in view.collections() {
        match (kind, schema) {
            (CollectionKind::Map, _) => {
                lines.extend(view.map(name).iter().map(|live| row("map", name, &live)));
            }
            (CollectionKind::Set, _) => {
                lines.extend(view.set(name).iter().map(|live| row("set", name, &live)));
            }
            (CollectionKind::Coupling, Some(schema)) => {
                let sum = view.coupling(name, schema).sum();
                lines.extend(sum.into_iter().flat_map(|sum| sum.iter(latest)).map(|(key, value)| {
                    json!({
                        "collection": name, "kind": "coupling", "key": shown(key),
                        "value": host::number(value), "at_ms": latest.as_millis(),
                        "half_life_ms": schema.half_life_ms(),
                    })
                }));
            }
            _ => {}
        }
    }
}

fn row(kind: &str, name: &str, live: &Live<'_>) -> Value {
    let mut row = json!({
        "collection": name, "kind": kind, "key": shown(live.key),
        "author": author(live.author), "stamp": stamp(live.stamp),
    });
    if kind == "map" {
        row["value"] = shown(live.value);
    }
    row
}

fn events(view: TopicView<'_>, lines: &mut Vec<Value>) {
    lines.extend(view.events().iter().map(|event| {
        json!({
            "collection": "events", "kind": "event",
            "log": hex(event.name.log.as_bytes()), "seq": event.name.seq,
            "payload": event.payload.map(shown),
            "author": author(event.author), "stamp": stamp(event.stamp),
        })
    }));
}

/// Text as text, anything else by its digits.
fn shown(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(|_| json!({ "hex": hex(bytes) }), |text| json!(text))
}

fn author(author: AgentId) -> String {
    hex(author.as_bytes())
}

fn stamp(stamp: Hlc) -> Value {
    json!({ "ms": stamp.time().as_millis(), "logical": stamp.logical() })
}

/// A copy of a store's files in memory.
#[derive(Debug)]
struct Copied(BTreeMap<String, Vec<u8>>);

impl Copied {
    /// Reads a directory in which no process runs.
    fn new(dir: &Path) -> Result<Self, String> {
        let lock =
            File::open(dir.join(folder::LOCK)).map_err(|error| format!("{}: {error}", dir.display()))?;
        if lock.try_lock().is_err() {
            return Err(format!("a process runs in {}: stop it first", dir.display()));
        }
        let read = |entry: io::Result<fs::DirEntry>| {
            let entry = entry?;
            Ok((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?))
        };
        let files = fs::read_dir(dir).and_then(|entries| entries.map(read).collect());
        files.map(Self).map_err(|error: io::Error| format!("{}: {error}", dir.display()))
    }

    fn file(&mut self, name: &str) -> io::Result<&mut Vec<u8>> {
        self.0.get_mut(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for Copied {
    fn lock(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(self.0.keys().cloned().collect())
    }

    fn read(&mut self, name: &str) -> io::Result<Vec<u8>> {
        self.file(name).cloned()
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        self.0.insert(name.into(), Vec::new());
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.file(name)?.extend_from_slice(bytes);
        Ok(())
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let file = self.file(name)?;
        file.splice(..bytes.len().min(file.len()), bytes.iter().copied());
        Ok(())
    }

    fn sync_file(&mut self, name: &str) -> io::Result<()> {
        self.file(name).map(drop)
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.0.remove(name);
        Ok(())
    }
}
