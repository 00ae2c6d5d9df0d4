//! The same in a real folder.

use std::fs;
use std::path::{Path, PathBuf};

use consilience::journal::{Journal, JournalItem, RecordId, SnapshotWriter, recover};
use consilience::store::{FileStore, Finding, StoreError};

use crate::world::mesh;

pub struct Temporary(PathBuf);

impl Temporary {
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn new(name: &str) -> Self {
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
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(names[0].starts_with("journal-") && names[1] == "lock");
        assert!(names[2].starts_with("snapshot-") && names[3] == "watermark");
    }
}

#[test]
fn a_real_folder_that_was_closed_tells_a_lost_batch_and_opens_the_rest() {
    let folder = Temporary::new("folder-rest");
    let path = folder.path();
    let (mut store, _) = FileStore::open(path).unwrap();
    let mut journal = Journal::new(&mesh());
    for _ in 0..3 {
        note(&mut journal, &mut store);
    }
    store.close().unwrap();
    let file = path.join("journal-1");
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let error = FileStore::open(path).unwrap_err();
    assert!(
        matches!(&error, StoreError::Damaged { name, first, .. } if name == "journal-1" && first.as_u64() == 3)
    );
    let (mut store, loaded) = FileStore::open_rest(path).unwrap();
    assert!(matches!(loaded.opened(), consilience::Opened::Restored(_)));
    assert!(matches!(&loaded.findings[..], [Finding::Lost { .. }]), "{:?}", loaded.findings);
    let recovered = recover(&mesh(), None, &loaded.records).unwrap();
    assert_eq!(recovered.last().as_u64(), 2);
    note(&mut recovered.journal(), &mut store);
    drop(store);
    let (_, loaded) = FileStore::open(path).unwrap();
    assert_eq!(loaded.findings, []);
    assert_eq!(recover(&mesh(), None, &loaded.records).unwrap().last().as_u64(), 3);
}
