//! The example of `docs/JOURNAL.md`, byte for byte.

use consilience_sync::journal::{Journal, JournalItem, RecordId, SnapshotWriter};

use crate::world::mesh;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_documents_examples_are_what_is_written() {
    let mut journal = Journal::new(&mesh());
    journal.push(&JournalItem::Note { kind: 1, bytes: b"hello" });
    journal.seal();
    journal.push(&JournalItem::Note { kind: 2, bytes: &[0xf5, 0x63, 0x4a, 0xe7] });
    journal.seal();
    let one = journal.poll().unwrap();
    journal.confirm(RecordId::from_u64(1)).unwrap();
    let two = journal.poll().unwrap();
    let mut snapshot = SnapshotWriter::new(&mesh(), RecordId::from_u64(2));
    snapshot.push(&JournalItem::Note { kind: 1, bytes: b"hello" });
    let snapshot = snapshot.finish();
    let document = include_str!("../../../docs/JOURNAL.md");
    let written: String = document.split_whitespace().collect();
    for bytes in [one.as_bytes(), two.as_bytes(), snapshot.as_bytes()] {
        assert!(written.contains(&hex(bytes)), "the document does not have {}", hex(bytes));
    }
}
