//! Events that their writer has given up by a signed word.

use consilience_sync::{
    Admission, Change, LogId, LogKind, LogOpening, LogSet, OpenError, Pruned, PrunedError, SetError,
    SignError, UncheckedPruned, VerifyBudget,
};

use crate::world::{
    Consumer, Replica, START, append, converge, holder, keys, limited, mesh, opening, opening_in, payloads,
    rich, set, tell,
};

fn opened(incarnation: u64) -> LogOpening {
    opening_in("team/planning", LogKind::Event, 1, incarnation)
}

/// A set with event logs of the incarnations, each of so many signed entries.
fn written(logs: &[(u64, u64)]) -> (LogSet, Vec<LogId>) {
    let mut set = set();
    let ids = logs.iter().map(|(incarnation, entries)| {
        let log = set.open_local(&opened(*incarnation)).unwrap();
        for number in 0..*entries {
            append(&mut set, &log, format!("{incarnation}/{number}").as_bytes(), START);
        }
        set.sign_head(&log, &keys(1), START).unwrap();
        log
    });
    let ids = ids.collect();
    (set, ids)
}

fn copy(of: &LogSet, logs: &[LogId]) -> Replica {
    let mut copy = holder(&[]);
    for log in logs {
        copy.open(of.log(log).unwrap().opening(), |_| Admission::Hold).unwrap();
        tell(of, &mut copy, log, START);
    }
    let mut copy = Replica::new(copy);
    copy.follow();
    copy
}

fn give(pruned: &Pruned, to: &mut LogSet) -> Result<bool, SetError> {
    let found = UncheckedPruned::parse(pruned.as_bytes(), &mesh()).map_err(SetError::from)?;
    to.receive_pruned(&found, START, &mut rich(), |_| Admission::Hold)
}

#[test]
fn earlier_logs_go_with_their_places_and_one_word_stays() {
    let logs: Vec<(u64, u64)> = (1..=20).map(|incarnation| (incarnation, 3)).collect();
    let (mut writer, ids) = written(&logs);
    let mut peer = copy(&writer, &ids);
    let whole = peer.set.stats();
    assert_eq!(whole.logs, 20);
    let pruned = writer.prune(&ids[19], 2, &keys(1), START).unwrap().expect("news");
    assert_eq!(writer.prune(&ids[19], 1, &keys(1), START).unwrap(), None, "it is known");
    assert_eq!(give(&pruned, &mut peer.set), Ok(true));
    assert_eq!(give(&pruned, &mut peer.set), Ok(false));
    peer.follow();
    Consumer::default().follow(&mut writer);
    for set in [&peer.set, &writer] {
        assert_eq!(set.stats().logs, 1);
        assert_eq!(payloads(set, &ids[19]).into_values().collect::<Vec<_>>(), [b"20/2".to_vec()]);
    }
    assert_eq!(peer.set.heads_root(), writer.heads_root());

    // Nothing of what is given up comes back, from whoever has it.
    let (other, _) = written(&logs);
    for log in &ids[..19] {
        assert!(peer.set.open(other.log(log).unwrap().opening(), |_| Admission::Hold).is_err());
    }
    // Its writer goes on in the same log.
    append(&mut writer, &ids[19], b"more", START);
    writer.sign_head(&ids[19], &keys(1), START).unwrap();
    tell(&writer, &mut peer.set, &ids[19], START);
    assert_eq!(
        payloads(&peer.set, &ids[19]).into_values().collect::<Vec<_>>(),
        [b"20/2".to_vec(), b"more".to_vec()]
    );
    assert_eq!(peer.set.heads_root(), writer.heads_root());
}

#[test]
fn the_greatest_word_stands_in_whatever_order_it_comes() {
    let (writer, ids) = written(&[(1, 4), (2, 4), (3, 4)]);
    let mut clone = writer.clone();
    let words: Vec<Pruned> = [(0, 3), (1, 1), (1, 2), (2, 1)]
        .into_iter()
        .map(|(log, below)| writer.clone().prune(&ids[log], below, &keys(1), START).unwrap().unwrap())
        .collect();
    assert!(clone.prune(&ids[1], 2, &keys(1), START).unwrap().is_some());
    Consumer::default().follow(&mut clone);
    assert_eq!(clone.prune(&ids[0], 4, &keys(1), START), Err(SetError::Unknown));
    let orders: [[usize; 4]; 5] = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1], [3, 0, 1, 2]];
    let mut replicas: Vec<Replica> = orders.iter().map(|_| copy(&writer, &ids)).collect();
    for (replica, order) in replicas.iter_mut().zip(orders) {
        for word in order {
            give(&words[word], &mut replica.set).unwrap();
            replica.follow();
        }
    }
    let expected = replicas[0].set.heads_root();
    for replica in &mut replicas {
        assert_eq!(replica.set.heads_root(), expected);
        assert_eq!(replica.set.stats().logs, 1);
        assert_eq!(payloads(&replica.set, &ids[2]).len(), 3);
    }
}

/// The word alone is in the root, so somebody who holds the log and nothing of what is left of it is equal.
#[test]
fn a_word_beyond_the_end_leaves_nothing_to_hold() {
    let (mut writer, ids) = written(&[(1, 4)]);
    let mut peer = copy(&writer, &ids);
    let mut newcomer = Replica::new(holder(&[]));
    let pruned = Pruned::sign(&opened(1).named(&mesh()), 9, &mesh(), &keys(1)).unwrap();
    for to in [&mut writer, &mut peer.set, &mut newcomer.set] {
        assert_eq!(give(&pruned, to), Ok(true));
        Consumer::default().follow(to);
    }
    assert_eq!(peer.set.heads_root(), newcomer.set.heads_root());
    assert_eq!(peer.set.heads_root(), writer.heads_root());
    assert!(payloads(&peer.set, &ids[0]).is_empty());
}

/// A fork cuts out the entry that raised the base; what the word gave up stays so.
#[test]
fn a_fork_does_not_take_the_word_back() {
    let (trunk, ids) = written(&[(1, 12)]);
    let log = ids[0];
    let (mut one, mut other) = (trunk.clone(), trunk.clone());
    let pruned = one.prune(&log, 10, &keys(1), START).unwrap().unwrap();
    append(&mut one, &log, b"one", START);
    append(&mut other, &log, b"other", START);
    for set in [&mut one, &mut other] {
        set.sign_head(&log, &keys(1), START).unwrap();
    }
    let mut replicas =
        [copy(&one, &ids), copy(&other, &ids), copy(&trunk, &ids), Replica::new(holder(&[&opened(1)]))];
    give(&pruned, &mut replicas[0].set).unwrap();
    replicas[0].follow();
    give(&pruned, &mut replicas[3].set).unwrap();
    converge(&mut replicas, &log, START);
    for replica in &mut replicas {
        give(&pruned, &mut replica.set).unwrap();
        replica.follow();
    }
    converge(&mut replicas, &log, START);
    let root = replicas[0].set.heads_root();
    for replica in &mut replicas {
        assert!(replica.set.evidence(&log).is_some());
        assert_eq!(payloads(&replica.set, &log).keys().copied().collect::<Vec<_>>(), [10, 11]);
        assert_eq!(replica.set.heads_root(), root);
    }
}

#[test]
fn only_the_writer_says_it_and_only_of_events() {
    let (mut writer, ids) = written(&[(1, 2)]);
    assert_eq!(writer.prune(&ids[0], 1, &keys(2), START), Err(SetError::Sign(SignError::OtherAgent)));
    let state = opening(LogKind::State, 1).named(&mesh());
    assert_eq!(Pruned::sign(&state, 1, &mesh(), &keys(1)), Err(SignError::Unavailable));
    let pruned = Pruned::sign(&opened(1).named(&mesh()), 1, &mesh(), &keys(1)).unwrap();
    let mut peer = copy(&writer, &ids);
    let root = peer.set.heads_root();
    // Each bit of it matters.
    for at in 0..pruned.as_bytes().len() {
        for bit in 0..8 {
            let mut bytes = pruned.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            let Ok(found) = UncheckedPruned::parse(&bytes, &mesh()) else { continue };
            let taken = peer.set.receive_pruned(&found, START, &mut rich(), |_| Admission::Hold);
            assert!(
                matches!(taken, Err(SetError::Pruned(PrunedError::BadSignature | PrunedError::Opening(_)))),
                "{taken:?}"
            );
        }
    }
    assert_eq!(peer.set.heads_root(), root);
    assert_eq!(peer.set.stats().logs, 1);
    // What was never signed costs an allowance, and then nothing is checked.
    let mut budget = VerifyBudget::new();
    let mut forged = pruned.as_bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let forged = UncheckedPruned::parse(&forged, &mesh()).unwrap();
    let mut refused = |_| peer.set.receive_pruned(&forged, START, &mut budget, |_| Admission::Hold);
    let last = (0..200).map(&mut refused).last();
    assert_eq!(last, Some(Err(SetError::Pruned(PrunedError::Budget))));
}

/// Where an agent has taken all of its places, its word frees them, though the log that it names has none yet.
#[test]
fn a_word_that_frees_places_needs_none() {
    let logs: Vec<(u64, u64)> = (1..=9).map(|incarnation| (incarnation, 1)).collect();
    let (mut writer, ids) = written(&logs);
    let mut peer = Replica::new(limited(|limits| limits.logs_per_agent_max = 8));
    for log in &ids[..8] {
        peer.set.open(writer.log(log).unwrap().opening(), |_| Admission::Hold).unwrap();
        tell(&writer, &mut peer.set, log, START);
    }
    peer.follow();
    let last = writer.log(&ids[8]).unwrap().opening().clone();
    assert_eq!(peer.set.open(&last, |_| Admission::Hold), Err(OpenError::Quota));
    // A word that ends nothing that is held is no way around the quota.
    let other = opening_in("team/other", LogKind::Event, 1, 9).named(&mesh());
    let nothing = Pruned::sign(&other, 0, &mesh(), &keys(1)).unwrap();
    assert_eq!(give(&nothing, &mut peer.set), Err(SetError::Open(OpenError::Quota)));
    let pruned = writer.prune(&ids[8], 0, &keys(1), START).unwrap().unwrap();
    assert_eq!(give(&pruned, &mut peer.set), Ok(true));
    peer.follow();
    assert_eq!(peer.set.stats().logs, 1);
    tell(&writer, &mut peer.set, &ids[8], START);
    peer.follow();
    Consumer::default().follow(&mut writer);
    assert_eq!(peer.set.heads_root(), writer.heads_root());
    assert_eq!(payloads(&peer.set, &ids[8]).len(), 1);
}

/// The consumer is told of each event that goes.
#[test]
fn what_goes_is_told() {
    let (writer, ids) = written(&[(1, 3), (2, 3)]);
    let mut peer = copy(&writer, &ids);
    let pruned = writer.clone().prune(&ids[1], 1, &keys(1), START).unwrap().unwrap();
    give(&pruned, &mut peer.set).unwrap();
    let mut changes = Vec::new();
    while let Some(change) = peer.set.poll_change() {
        changes.push(change);
    }
    changes.sort_by_key(|change| format!("{change:?}"));
    let mut expected = [Change::Dropped { log: ids[0], below: 3 }, Change::Dropped { log: ids[1], below: 1 }];
    expected.sort_by_key(|change| format!("{change:?}"));
    assert_eq!(changes, expected);
}

#[test]
fn a_greater_word_is_news_and_a_smaller_one_is_not() {
    let (writer, ids) = written(&[(1, 4)]);
    let word = |below| writer.clone().prune(&ids[0], below, &keys(1), START).unwrap().unwrap();
    let mut peer = copy(&writer, &ids).set;
    for (below, news) in [(1, true), (1, false), (3, true), (2, false), (3, false)] {
        assert_eq!(give(&word(below), &mut peer), Ok(news), "{below}");
    }
    assert_eq!(peer.facts(&ids[0]).unwrap().pruned().unwrap().below(), 3);
}
