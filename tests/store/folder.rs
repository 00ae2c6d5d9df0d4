//! The same in a real folder.

use std::fs;
use std::path::PathBuf;

use consilience::journal::{Journal, JournalItem, RecordId, SnapshotWriter, recover};
use consilience::store::{FileStore, StoreError};

use crate::world::mesh;

struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("consilience-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn note(journal: &mut Journal, store: &mut FileStore) -> RecordId {
    journal.push(&JournalItem::Note { kind: 1, bytes: b"note" });
    journal.seal();
    let record = journal.poll().unwrap();
    store.append(&record).unwrap();
    let id = store.sync().unwrap().unwrap();
    journal.confirm(id).unwrap();
    id
}

#[test]
fn a_folder_keeps_what_was_synced_and_only_what_is_needed() {
    let folder = Temporary::new("folder");
    let path = folder.0.join("deep").join("er");
    for run in 0..4 {
        let (mut store, stored) = FileStore::open(&path).unwrap();
        assert!(matches!(FileStore::open(&path), Err(StoreError::InUse)));
        let recovered = recover(&mesh(), stored.snapshot.as_deref(), &stored.records).unwrap();
        assert_eq!((recovered.last().as_u64(), recovered.cut()), (run * 3, None));
        let mut journal = recovered.journal();
        for _ in 0..2 {
            note(&mut journal, &mut store);
        }
        let mut writer = SnapshotWriter::new(&mesh(), journal.last_sealed());
        writer.push(&JournalItem::Note { kind: 2, bytes: b"all" });
        let snapshot = writer.finish();
        store.install_snapshot(&snapshot).unwrap();
        journal.confirm_snapshot(snapshot.covers()).unwrap();
        let id = note(&mut journal, &mut store);
        assert_eq!(id.as_u64(), run * 3 + 3);
        drop(store);
        let mut names: Vec<String> = fs::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with("pointer"))
            .collect();
        names.sort();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(names[0].starts_with("journal-") && names[1] == "lock" && names[2].starts_with("snapshot-"));
    }
}
