//! A disk changes the bytes of a store that was stopped: all of it is there, or what is missing is said.

use consilience::Notice;
use consilience::store::{FileStore, Finding, StoreError};

use crate::replicas::{Disk, Node};
use crate::simulated::Simulated;
use crate::stopped::{Host, Outcome, Stopped, outcome};

/// Damages each store in each of several ways, and counts the outcomes: equal, and told.
fn damaged(ways: impl Fn(usize) -> Vec<(String, Box<dyn Fn(&mut Vec<u8>)>)>) -> (usize, usize) {
    let (mut equal, mut told) = (0, 0);
    for stopped in Stopped::all() {
        let mut seen: Vec<Disk> = Vec::new();
        for (file, len) in stopped.files() {
            for (way, change) in ways(len) {
                let disk = Simulated::default();
                *disk.state() = stopped.disk.clone();
                disk.state().damage(&file, change);
                let name = format!("{}, {file}, {way}", stopped.name);
                match outcome(&disk, &stopped, &name, &mut seen) {
                    Outcome::Equal => equal += 1,
                    Outcome::Told(text) => {
                        // A file of another name may be the one that shows it.
                        assert!(text.contains("journal-") || text.contains("snapshot-"), "{name}: {text}");
                        told += 1;
                    }
                }
            }
        }
    }
    (equal, told)
}

fn len_of(disk: &Simulated, file: &str) -> usize {
    consilience::store::Disk::read(&mut disk.handle(), file).unwrap().len()
}

#[test]
fn a_flipped_bit_in_any_file_of_a_stopped_store_is_told_or_loses_nothing() {
    let (equal, told) = damaged(|len| {
        let bits = (0..len).flat_map(|byte| [0, 3, 7].map(|bit| (byte, (bit + byte) % 8)));
        bits.map(|(byte, bit)| {
            let flip = move |bytes: &mut Vec<u8>| bytes[byte] ^= 1 << bit;
            (format!("bit {bit} of byte {byte}"), Box::new(flip) as Box<dyn Fn(&mut Vec<u8>)>)
        })
        .collect()
    });
    // The pointers and the watermark lose nothing; every bit of a journal or a snapshot is told.
    assert_eq!(equal, 5 * 3 * 36 * 3);
    assert!(told > 10_000, "{told}");
}

#[test]
fn a_file_that_ends_anywhere_is_told_or_loses_nothing() {
    let (equal, told) = damaged(|len| {
        let ends = 0..len;
        ends.map(|end| {
            let cut = move |bytes: &mut Vec<u8>| bytes.truncate(end);
            (format!("cut at {end}"), Box::new(cut) as Box<dyn Fn(&mut Vec<u8>)>)
        })
        .collect()
    });
    assert_eq!(equal, 5 * 3 * 36);
    assert!(told > 3_000, "{told}");
}

#[test]
fn a_sector_of_zeros_or_of_another_place_is_told_or_loses_nothing() {
    let (equal, told) = damaged(|len| {
        let sectors = (0..len).step_by(512).flat_map(move |from| [0, 1, 2].map(|kind| (from, kind)));
        sectors
            .map(|(from, kind)| {
                let change = move |bytes: &mut Vec<u8>| {
                    let to = bytes.len().min(from + 512);
                    match kind {
                        0 => bytes[from..to].fill(0),
                        1 => bytes[from..to].fill(0xff),
                        // As it was one sector before.
                        _ => {
                            let before = bytes[from.saturating_sub(512)..from].to_vec();
                            let len = before.len().min(to - from);
                            bytes[from..from + len].copy_from_slice(&before[..len]);
                        }
                    }
                };
                (format!("sector {from}, {kind}"), Box::new(change) as Box<dyn Fn(&mut Vec<u8>)>)
            })
            .collect()
    });
    assert!(equal > 0 && told > 25, "{equal} {told}");
}

#[test]
fn a_missing_file_is_told_or_loses_nothing() {
    for stopped in Stopped::all() {
        for (file, _) in stopped.files() {
            let disk = Simulated::default();
            *disk.state() = stopped.disk.clone();
            disk.state().lose(&file);
            let found =
                outcome(&disk, &stopped, &format!("{}, without {file}", stopped.name), &mut Vec::new());
            let known_otherwise = file.starts_with("pointer") || file == "watermark";
            assert_eq!(
                found == Outcome::Equal,
                known_otherwise,
                "{}, without {file}: {found:?}",
                stopped.name
            );
        }
    }
}

/// The last batch is in no later record.
#[test]
fn fifty_entries_of_the_last_batch_are_not_gone_without_a_word() {
    let disk = Simulated::default();
    let mut host = Host::open(&disk, 10).unwrap();
    host.set("first", "entry");
    host.sync().unwrap();
    let before = len_of(&disk, "journal-1");
    for number in 0..50 {
        host.event(&format!("event {number}"));
    }
    host.sync().unwrap();
    let ms = host.ms + 10;
    let last = host.store.sync().unwrap().unwrap().as_u64();
    host.store.close().unwrap();
    let whole = disk.state().clone();
    let len = len_of(&disk, "journal-1");
    // A bit of the first of the batch, of one in the middle, of the last; and all of it gone, at the end of a record.
    for (at, first) in
        [(before + 20, Some(last - 49)), (len / 2, None), (len - 1, Some(last)), (len, Some(last - 49))]
    {
        *disk.state() = whole.clone();
        disk.state().damage("journal-1", |bytes| match bytes.get_mut(at) {
            Some(byte) => *byte ^= 4,
            None => bytes.truncate(before),
        });
        let error = Host::open(&disk, ms).map(|_| ()).unwrap_err();
        let StoreError::Damaged { name, first: said, last: end, .. } = &error else { panic!("{error}") };
        assert_eq!((name.as_str(), said.as_u64()), ("journal-1", first.unwrap_or(said.as_u64())), "{error}");
        assert_eq!(end.map(|end| end.as_u64()), Some(last), "{error}");
        let text = match said.as_u64() {
            said if said == last => format!("record {said}, which was durable, is lost"),
            said => format!("records {said} to {last}, which were durable, are lost"),
        };
        assert!(error.to_string().contains(&text), "{error}");
        let (_, loaded) = FileStore::open_rest_on(Box::new(disk.handle())).unwrap();
        assert!(matches!(&loaded.findings[..], [Finding::Lost { name, .. }] if name == "journal-1"));
    }
}

/// Without the watermark a damaged last batch looks like a torn end, which is said as well; and its writer does not go
/// on where it may have signed.
#[test]
fn a_last_batch_that_may_have_been_durable_is_cut_and_told() {
    let stopped =
        Stopped::after("records", &[&[crate::stopped::Step::Batch(1), crate::stopped::Step::Batch(2)]]);
    let disk = Simulated::default();
    *disk.state() = stopped.disk.clone();
    disk.state().damage("watermark", |bytes| bytes.clear());
    disk.state().damage("journal-1", |bytes| {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    });
    let (store, loaded) = FileStore::open_on(Box::new(disk.handle())).unwrap();
    let torn = |finding: &Finding| matches!(finding, Finding::Torn { name, .. } if name == "journal-1");
    assert!(loaded.findings.iter().any(torn), "{:?}", loaded.findings);
    let mut host = Host::on(store, &loaded, stopped.ms + 1_000);
    let own = |replica: &consilience::Replica| replica.logs().logs().map(|log| *log.id()).collect::<Vec<_>>();
    let before = own(&host.replica);
    let told = host.notices();
    assert!(matches!(&told[..], [Notice::RecordsCut { cut }] if cut.bytes > 0), "{told:?}");
    assert!(told[0].to_string().contains("may have been confirmed"), "{}", told[0]);
    host.set("after", "the damage");
    assert_eq!(own(&host.replica).len(), before.len() + 1, "the next incarnation");
    drop(host);
    let mut seen = Vec::new();
    assert!(matches!(outcome(&disk, &stopped, "without a watermark", &mut seen), Outcome::Told(_)));
}

/// Power is lost after the pointer names the new snapshot and before the former one is gone, and the disk had not kept what
/// it said it had.
#[test]
fn a_half_snapshot_gives_way_to_the_former_one_and_its_records() {
    let mut fell_back = 0;
    for effect in 0..24 {
        let disk = Simulated::default();
        let mut peer = Node::fresh(2, 1_000);
        let mut host = Host::open(&disk, 10).unwrap();
        host.set("first", "entry");
        host.sync().unwrap();
        host.snapshot().unwrap();
        for number in 0..5 {
            host.set("second", &format!("{number}"));
            host.sync().unwrap();
        }
        host.tell(&mut peer);
        let seen = crate::stopped::view(&host.replica);
        let before = disk.state().names();
        let ms = host.ms + 10;
        let next = disk.state().effects + effect;
        disk.state().fail = Some((next, true));
        let done = host.snapshot();
        drop(host);
        disk.lose_power(crate::simulated::Loss::None);
        let state = disk.state().clone();
        let made =
            state.names().into_iter().find(|name| name.starts_with("snapshot") && !before.contains(name));
        let Some(made) = made else { continue };
        let whole = len_of(&disk, &made);
        for keep in (0..whole).step_by(37) {
            *disk.state() = state.clone();
            disk.state().damage(&made, |bytes| bytes.truncate(keep));
            let name = format!("effect {effect}, {keep} bytes of {made}");
            let stopped =
                Stopped { name: "", disk: state.clone(), view: seen.clone(), peer: peer.disk(), ms };
            let former = before.iter().all(|name| state.names().contains(name));
            let told = match FileStore::open_on(Box::new(disk.handle())) {
                Ok((_, loaded)) => loaded.findings,
                Err(error) => {
                    assert!(!former, "{name}: {error}");
                    assert!(matches!(&error, StoreError::Damaged { name, .. } if *name == made), "{error}");
                    continue;
                }
            };
            let says =
                told.iter().any(|finding| matches!(finding, Finding::Former { name } if *name == made));
            fell_back += usize::from(says);
            *disk.state() = state.clone();
            disk.state().damage(&made, |bytes| bytes.truncate(keep));
            assert_eq!(outcome(&disk, &stopped, &name, &mut Vec::new()), Outcome::Equal, "{name}");
        }
        if done.is_ok() {
            break;
        }
    }
    assert!(fell_back > 0);
}
