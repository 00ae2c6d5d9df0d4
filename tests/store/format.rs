//! The small files of `docs/JOURNAL.md`, byte for byte.

use std::fs;

use consilience::journal::{Journal, JournalItem};
use consilience::store::{FileStore, SecretKind, save_secret};

use crate::folder::Temporary;
use crate::world::mesh;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_documents_files_are_what_is_written() {
    let folder = Temporary::new("format");
    let path = folder.path();
    let (mut store, _) = FileStore::open(path).unwrap();
    let mut journal = Journal::new(&mesh());
    journal.push(&JournalItem::Note { kind: 1, bytes: b"hello" });
    journal.seal();
    store.append(&journal.poll().unwrap()).unwrap();
    store.sync().unwrap();
    store.close().unwrap();
    save_secret(&path.join("key"), SecretKind::Agent, &[7; 32]).unwrap();
    let written: String = include_str!("../../docs/JOURNAL.md").split_whitespace().collect();
    for (name, len) in
        [("pointer-0", 36), ("pointer-1", 36), ("watermark", 36), ("journal-1", 28), ("key", 46)]
    {
        let bytes = fs::read(path.join(name)).unwrap();
        let bytes = &bytes[..len];
        assert!(written.contains(&hex(bytes)), "the document does not have {name}: {}", hex(bytes));
    }
}
