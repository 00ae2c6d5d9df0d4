//! A disk that is full: at each byte of a batch or a snapshot, and at the next start.

use consilience::store::{FileStore, StoreError};

use crate::simulated::{Loss, Simulated};
use crate::stopped::{Host, view};

/// A replica on a disk with so much room left for the snapshot that comes next.
fn before_snapshot(disk: &Simulated) -> Host {
    let mut host = Host::open(disk, 10).unwrap();
    host.set("first", "entry");
    host.sync().unwrap();
    host.snapshot().unwrap();
    for number in 0..4 {
        host.set("second", &format!("{number}"));
        host.event(&format!("event {number}"));
        host.sync().unwrap();
    }
    host
}

fn is_full(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull)
}

#[test]
fn a_disk_that_is_full_at_any_byte_of_a_snapshot_leaves_a_store_that_opens() {
    let mut room = 0;
    let mut failed = 0;
    loop {
        for loss in [None, Some(Loss::None), Some(Loss::All), Some(Loss::Some(room as u64))] {
            let disk = Simulated::default();
            let mut host = before_snapshot(&disk);
            let (seen, ms) = (view(&host.replica), host.ms + 10);
            disk.state().room = Some(room);
            match host.snapshot() {
                Ok(()) if loss.is_none() => {
                    assert!(failed > 500, "{failed}");
                    return;
                }
                Ok(()) => continue,
                Err(error) => assert!(is_full(&error), "{error}"),
            }
            failed += 1;
            assert!(host.store.is_poisoned());
            drop(host);
            if let Some(loss) = loss {
                disk.lose_power(loss);
            }
            // It is still full: what is there can be read, and nothing is missing.
            disk.state().room = Some(0);
            let name = format!("room for {room} bytes, {loss:?}");
            let (store, loaded) =
                FileStore::open_on(Box::new(disk.handle())).unwrap_or_else(|e| panic!("{name}: {e}"));
            let mut host = Host::on(store, &loaded, ms);
            assert_eq!(view(&host.replica), seen, "{name}");
            // The half snapshot is gone, and something else has taken the room.
            disk.state().room = Some(0);
            host.set("third", "unsaved");
            assert!(host.sync().is_err(), "{name}: there is no room");
            drop(host);
            // And then there is room.
            disk.state().room = None;
            let mut host = Host::open(&disk, ms + 10).unwrap();
            assert_eq!(view(&host.replica), seen, "{name}");
            host.set("fourth", "saved");
            host.sync().unwrap();
            host.snapshot().unwrap();
            let seen = view(&host.replica);
            host.store.close().unwrap();
            let (store, loaded) = FileStore::open_on(Box::new(disk.handle())).unwrap();
            assert_eq!(loaded.findings, [], "{name}");
            assert_eq!(view(&Host::on(store, &loaded, ms + 30).replica), seen, "{name}");
        }
        room += 3;
    }
}

#[test]
fn a_disk_that_is_full_at_any_byte_of_a_batch_loses_nothing_that_was_durable() {
    for room in (0..).step_by(7) {
        let disk = Simulated::default();
        let mut host = before_snapshot(&disk);
        let (seen, ms) = (view(&host.replica), host.ms + 10);
        disk.state().room = Some(room);
        host.set("third", "perhaps");
        host.event("perhaps");
        match host.sync() {
            Ok(()) => {
                assert!(room > 100, "{room}");
                return;
            }
            Err(error) => assert!(is_full(&error), "{error}"),
        }
        drop(host);
        disk.state().room = Some(0);
        let host = Host::open(&disk, ms).unwrap();
        let back = view(&host.replica);
        assert!(seen.live.iter().all(|(key, value)| back.live.get(key) == Some(value)), "room for {room}");
        assert!(seen.events.iter().all(|event| back.events.contains(event)), "room for {room}");
    }
}

/// The files that are kept twice, or known otherwise, wait for room.
#[test]
fn a_full_disk_with_a_damaged_pointer_or_watermark_opens() {
    for file in ["pointer-0", "pointer-1", "watermark"] {
        for keep in [0, 20] {
            let disk = Simulated::default();
            let host = before_snapshot(&disk);
            let (seen, ms) = (view(&host.replica), host.ms + 10);
            host.store.close().unwrap();
            disk.state().damage(file, |bytes| bytes.truncate(keep));
            disk.state().room = Some(0);
            for _ in 0..2 {
                let (store, loaded) = FileStore::open_on(Box::new(disk.handle())).unwrap();
                assert_eq!(loaded.findings.len(), 1, "{file}: {:?}", loaded.findings);
                assert_eq!(view(&Host::on(store, &loaded, ms).replica), seen);
            }
            disk.state().room = None;
            drop(FileStore::open_on(Box::new(disk.handle())).unwrap());
            let (_, loaded) = FileStore::open_on(Box::new(disk.handle())).unwrap();
            assert_eq!(loaded.findings, [], "{file} is mended");
        }
    }
}
