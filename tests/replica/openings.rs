//! Openings that anybody can make, in bundles and in stored records: they lock nobody out, and leave no trace.

use consilience::sync::journal::{Journal, JournalItem};
use consilience::sync::{AgentId, Incarnation, LogKind, LogOpening, Signer as _, Topic};

use super::hand::bundle;
use super::world::{Disk, How, Node, at, keys, mesh, topic};

fn in_name_of(agent: AgentId, kind: LogKind, incarnation: u64) -> LogOpening {
    LogOpening { topic: topic(), kind, agent, incarnation: Incarnation::from_u64(incarnation) }
}

/// As many as there may be in the name of one agent, of each kind; and as many as there may be in all, in any names.
fn many(victim: AgentId) -> Vec<LogOpening> {
    let of_victim = (1..=1_024).flat_map(|incarnation| {
        [LogKind::State, LogKind::Event].map(|kind| in_name_of(victim, kind, incarnation))
    });
    let any = (0..65_536_u64).map(|number| {
        let agent = AgentId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes());
        let topic = Topic::new(&format!("t/{}", number % 512)).unwrap();
        LogOpening { topic, ..in_name_of(agent, LogKind::Event, number) }
    });
    of_victim.chain(any).collect()
}

fn carried(openings: &[LogOpening]) -> Vec<u8> {
    let parts: Vec<_> = openings.iter().map(|opening| (1, opening.encode(&mesh()))).collect();
    bundle(&mesh(), &parts)
}

/// Records as they would be if something had stored openings alone.
fn stored(openings: &[LogOpening]) -> Vec<u8> {
    let mut journal = Journal::new(&mesh());
    for some in openings.chunks(100) {
        for opening in some {
            journal.push(&JournalItem::Opening { local: false, bytes: &opening.encode(&mesh()) });
        }
        journal.seal();
    }
    let mut records = Vec::new();
    while let Some(record) = journal.poll() {
        records.extend(record.into_bytes());
    }
    records
}

/// The victim writes, starts without storage, writes, and is forked: what it writes then still counts.
fn writes_on(mut ada: Node) {
    let mut bob = Node::fresh(1, 2);
    let mut ms = 10;
    for turn in 0..3 {
        ada.set("k", &format!("{turn}"), at(ms));
        ada.tell(&mut bob, at(ms + 1));
        assert_eq!(bob.get("k"), Some(format!("{turn}")), "turn {turn}");
        if turn == 1 {
            // Two processes go on from one copy: the log is forked, and both learn of it.
            let mut clone = Node::open(0, 60, ada.disk(), How::Resumed, at(ms + 2));
            ada.set("mine", "a", at(ms + 3));
            clone.set("mine", "b", at(ms + 3));
            clone.tell(&mut bob, at(ms + 4));
            ada.tell(&mut bob, at(ms + 4));
            bob.tell(&mut ada, at(ms + 4));
        } else {
            ada = Node::open(0, 70 + turn, Disk::default(), How::Fresh, at(ms + 2));
            bob.tell(&mut ada, at(ms + 3));
        }
        let incarnations = ada.replica.logs().logs().map(|log| log.opening().incarnation);
        assert!(incarnations.into_iter().all(|incarnation| !incarnation.is_ahead(at(ms + 9), 0)));
        ms += 10;
    }
    ada.set("k", "last", at(ms));
    ada.tell(&mut bob, at(ms + 1));
    bob.tell(&mut ada, at(ms + 1));
    assert_eq!((ada.get("k"), bob.get("k")), (Some("last".to_owned()), Some("last".to_owned())));
    assert_eq!(ada.state(), bob.state());
}

#[test]
fn an_opening_of_the_last_incarnation_in_a_bundle_does_not_lock_its_victim_out() {
    let victim = keys(0).agent();
    let forged = [LogKind::State, LogKind::Event].map(|kind| in_name_of(victim, kind, u64::MAX));
    for late in [false, true] {
        let mut ada = Node::fresh(0, 1);
        if late {
            ada.set("before", "x", at(1));
            ada.store();
        }
        let before = (format!("{:?}", ada.replica.logs()), ada.records.clone());
        let imported = ada.take(&carried(&forged), at(2));
        assert_eq!((imported.logs, imported.ahead), (2, 2));
        assert_eq!((format!("{:?}", ada.replica.logs()), ada.records.clone()), before, "it leaves no trace");
        writes_on(ada);
    }
}

#[test]
fn an_opening_of_the_last_incarnation_in_storage_does_not_lock_its_victim_out() {
    let victim = keys(0).agent();
    let forged = [LogKind::State, LogKind::Event].map(|kind| in_name_of(victim, kind, u64::MAX));
    for how in [How::Resumed, How::Restored] {
        let disk = Disk { records: stored(&forged), ..Disk::default() };
        let ada = Node::open(0, 1, disk, how, at(2));
        assert_eq!(ada.replica.logs().logs().count(), 0);
        writes_on(ada);
    }
}

#[test]
fn openings_that_nobody_signed_in_a_bundle_leave_no_trace() {
    let mut ada = Node::fresh(0, 1);
    ada.set("k", "v", at(1));
    ada.store();
    let mut bob = Node::fresh(1, 2);
    bob.set("his", "v", at(1));
    let openings = many(keys(1).agent());
    let before = (format!("{:?}", ada.replica.logs()), ada.records.clone());
    let imported = ada.take(&carried(&openings), at(2));
    assert_eq!((imported.logs, imported.ignored, imported.refused), (2_048 + 65_536, 0, 0));
    assert_eq!((format!("{:?}", ada.replica.logs()), ada.records.clone()), before);
    // The one in whose name they were made is held as ever, and so is a newcomer.
    let mut eve = Node::fresh(2, 3);
    eve.set("hers", "v", at(1));
    for node in [&mut bob, &mut eve] {
        node.tell(&mut ada, at(3));
    }
    assert_eq!((ada.get("his").as_deref(), ada.get("hers").as_deref()), (Some("v"), Some("v")));
}

#[test]
fn openings_that_nobody_signed_in_storage_leave_no_trace_at_a_start() {
    let records = stored(&many(keys(1).agent()));
    let len = records.len();
    let mut ada = Node::open(0, 1, Disk { records, ..Disk::default() }, How::Resumed, at(2));
    assert_eq!(ada.replica.logs().stats(), Node::fresh(0, 1).replica.logs().stats());
    // The next snapshot is that of an empty store.
    ada.snapshot();
    let kept = ada.disk().snapshot.unwrap().len();
    assert!(kept < 100, "{kept} bytes are left of {len}");
    let mut bob = Node::fresh(1, 2);
    bob.set("his", "v", at(3));
    bob.tell(&mut ada, at(4));
    assert_eq!(ada.get("his").as_deref(), Some("v"));
}
