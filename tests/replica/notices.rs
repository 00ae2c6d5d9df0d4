//! What hosts are told, and what they may hide or forget.

use consilience::crdts::Units;
use consilience::sync::Topic;
use consilience::{Blocked, CollectionKind, Notice};

use super::world::{How, Node, TOPIC, at, schema, topic};

/// What changed: collection, key, old and new.
fn changes(node: &mut Node) -> Vec<(String, String, Option<String>, Option<String>)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    node.notices()
        .into_iter()
        .map(|notice| match notice {
            Notice::Changed { collection, key, old, new, .. } => {
                (collection, text(key), old.map(text), new.map(text))
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

fn change(
    key: &str,
    old: Option<&str>,
    new: Option<&str>,
) -> (String, String, Option<String>, Option<String>) {
    ("tasks".into(), key.into(), old.map(Into::into), new.map(Into::into))
}

#[test]
fn changes_are_coalesced_with_what_was_and_what_is() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    bob.set("t1", "before", at(1));
    bob.replica.subscribe(TOPIC).unwrap();
    assert!(bob.notices().is_empty(), "of what changes from now on");
    bob.tell(&mut ada, at(2));
    ada.set("t1", "one", at(3));
    ada.set("t1", "two", at(4));
    ada.set("t2", "new", at(5));
    ada.set("t3", "passing", at(6));
    ada.tell(&mut bob, at(7));
    ada.remove("t3", at(8));
    ada.set("t1", "three", at(9));
    ada.tell(&mut bob, at(10));
    assert_eq!(
        changes(&mut bob),
        [change("t1", Some("before"), Some("three")), change("t2", None, Some("new"))]
    );
    assert!(bob.notices().is_empty());
    bob.remove("t1", at(11));
    assert_eq!(changes(&mut bob), [change("t1", Some("three"), None)]);
    // A concurrent write that loses changes nothing that is read.
    ada.set("t2", "earlier", at(12));
    bob.set("t2", "later", at(13));
    assert_eq!(changes(&mut bob), [change("t2", Some("new"), Some("later"))]);
    ada.tell(&mut bob, at(14));
    assert_eq!(changes(&mut bob), []);
    // The same value written again is a change: of author or stamp.
    bob.set("t2", "later", at(15));
    assert_eq!(changes(&mut bob), [change("t2", Some("later"), Some("later"))]);
}

#[test]
fn carrying_changes_nothing_that_is_told() {
    let mut ada = Node::fresh(0, 2);
    for number in 0..20 {
        ada.set(&format!("k{number:02}"), "kept", at(number));
    }
    ada.replica.subscribe("*").unwrap();
    for round in 0..100 {
        ada.set("fill", &format!("{round}"), at(100 + round));
    }
    assert!(ada.replica.stats(None).relisted > 0);
    assert_eq!(changes(&mut ada), [change("fill", None, Some("99"))]);
}

#[test]
fn notices_of_couplings_and_authors() {
    let mut ada = Node::fresh(0, 1);
    ada.replica.subscribe(TOPIC).unwrap();
    ada.write(at(1), |tx| {
        tx.coupling("trust", schema()).strengthen("eve", Units::new(3)).unwrap();
        tx.set("members").insert("eve").unwrap();
    });
    let author = Some(ada.writer.id());
    let told = ada.notices();
    let expected = [
        Notice::Changed {
            topic: topic(),
            kind: CollectionKind::Set,
            collection: "members".into(),
            key: b"eve".to_vec(),
            old: None,
            new: Some(Vec::new()),
            author,
        },
        Notice::Coupled { topic: topic(), collection: "trust".into(), key: b"eve".to_vec() },
    ];
    assert_eq!(told, expected);
}

#[test]
fn patterns_are_a_topic_what_is_below_it_or_everything() {
    let heard = |pattern: &str| {
        let mut ada = Node::fresh(0, 1);
        ada.replica.subscribe(pattern).unwrap();
        for name in ["team", "team/planning", "team/planning/deep", "teams", "other"] {
            let mut tx = ada.replica.transact(ada.writer, name, at(1)).unwrap();
            tx.map("m").set("k", "v").unwrap();
            tx.commit().unwrap();
        }
        let mut heard: Vec<String> = ada
            .notices()
            .into_iter()
            .map(|notice| match notice {
                Notice::Changed { topic, .. } => topic.as_str().to_owned(),
                other => panic!("{other:?}"),
            })
            .collect();
        heard.sort();
        heard
    };
    assert_eq!(heard("*").len(), 5);
    assert_eq!(heard("team"), ["team"]);
    assert_eq!(heard("team/*"), ["team", "team/planning", "team/planning/deep"]);
    assert_eq!(heard("team/planning"), ["team/planning"]);
    let mut ada = Node::fresh(0, 1);
    for pattern in ["", "/*", "team/", "/team"] {
        assert!(ada.replica.subscribe(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn who_unsubscribed_hears_nothing_and_others_go_on() {
    let mut ada = Node::fresh(0, 1);
    let first = ada.replica.subscribe(TOPIC).unwrap();
    let second = ada.replica.subscribe("*").unwrap();
    assert!(ada.replica.unsubscribe(first));
    assert!(!ada.replica.unsubscribe(first));
    ada.set("t", "x", at(1));
    assert_eq!(changes(&mut ada).len(), 1);
    assert!(ada.replica.unsubscribe(second));
    ada.set("t", "y", at(2));
    assert!(ada.notices().is_empty());
    // Asked again, only what changes from then on counts.
    ada.replica.subscribe(TOPIC).unwrap();
    assert!(ada.notices().is_empty());
    ada.set("t", "z", at(3));
    assert_eq!(changes(&mut ada), [change("t", Some("y"), Some("z"))]);
}

#[test]
fn a_filter_hides_from_reads_and_notices_and_digests_stay_equal() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    let hidden = ada.writer.id();
    bob.replica.subscribe("*").unwrap();
    bob.replica.set_filter(move |surfaced| {
        surfaced.author != hidden || (surfaced.collection.is_some() && surfaced.key == b"shown")
    });
    bob.set("t", "own", at(1));
    ada.set("t", "later", at(2));
    ada.set("secret", "s", at(3));
    ada.set("shown", "s", at(3));
    ada.write(at(4), |tx| tx.set("members").insert("x").unwrap());
    ada.replica.append_event(ada.writer, TOPIC, b"event", at(5)).unwrap();
    ada.tell(&mut bob, at(6));
    let view = bob.replica.topic(TOPIC).unwrap();
    // Where the winner is hidden, the next is read.
    assert_eq!(bob.get("t").as_deref(), Some("own"));
    assert_eq!((bob.get("secret"), bob.get("shown").as_deref()), (None, Some("s")));
    let keys: Vec<_> = view.map("tasks").iter().map(|live| live.key.to_vec()).collect();
    assert_eq!(keys, [b"shown".to_vec(), b"t".to_vec()]);
    assert_eq!(view.map("tasks").conflicts("t").len(), 1);
    assert!(!view.set("members").contains("x"));
    assert_eq!(view.events().iter().count(), 0);
    let told: Vec<_> = bob
        .notices()
        .into_iter()
        .filter_map(|notice| match notice {
            Notice::Changed { key, new, .. } => {
                Some((String::from_utf8(key).unwrap(), new.map(|value| String::from_utf8(value).unwrap())))
            }
            _ => None,
        })
        .collect();
    // What is told agrees with what is read: the own value of "t" is still what is shown.
    for (key, new) in &told {
        assert_eq!(*new, bob.get(key), "{key}: {told:?}");
    }
    bob.tell(&mut ada, at(7));
    assert_eq!(bob.state(), ada.state());
}

#[test]
fn a_purged_topic_is_gone_and_comes_back_from_peers() {
    for reopened in [false, true] {
        let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
        ada.set("a", "1", at(1));
        bob.set("b", "2", at(1));
        bob.replica.append_event(bob.writer, TOPIC, b"event", at(1)).unwrap();
        let other = Topic::new("other").unwrap();
        let mut tx = bob.replica.transact(bob.writer, "other", at(1)).unwrap();
        tx.map("m").set("k", "v").unwrap();
        tx.commit().unwrap();
        ada.tell(&mut bob, at(2));
        bob.tell(&mut ada, at(2));
        bob.replica.purge(&topic());
        assert_eq!(bob.replica.logs().logs().filter(|log| log.opening().topic == topic()).count(), 0);
        bob.store();
        if reopened {
            bob = Node::open(1, 6, bob.disk(), How::Resumed, at(3));
        }
        assert_eq!((bob.get("a"), bob.get("b")), (None, None), "reopened {reopened}");
        assert_eq!(bob.replica.stats(Some(&topic())).events, 0);
        assert_eq!(bob.replica.topics().collect::<Vec<_>>(), [&other]);
        bob.state();
        // It writes before it got anything back.
        bob.set("c", "3", at(4));
        ada.tell(&mut bob, at(5));
        bob.set("d", "4", at(6));
        bob.tell(&mut ada, at(7));
        ada.tell(&mut bob, at(8));
        for node in [&ada, &bob] {
            for (key, value) in [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")] {
                assert_eq!(node.get(key).as_deref(), Some(value), "reopened {reopened}: {key}");
            }
            assert_eq!(node.replica.stats(Some(&topic())).events, 1);
            assert_eq!(node.state(), ada.state());
            assert!(node.replica.logs().logs().all(|log| node.replica.logs().evidence(log.id()).is_none()));
        }
        let view = bob.replica.topic("other").unwrap();
        assert!(view.map("m").get("k").is_some());
    }
}

#[test]
fn whoever_subscribed_is_told_of_each_key_that_a_purge_takes() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    bob.replica.subscribe("*").unwrap();
    ada.set("a", "1", at(1));
    bob.set("b", "2", at(1));
    ada.tell(&mut bob, at(2));
    assert_eq!(changes(&mut bob), [change("a", None, Some("1")), change("b", None, Some("2"))]);
    bob.strengthen("eve", 4, at(3));
    bob.notices();
    // A change that was not polled before is joined with it.
    bob.set("b", "3", at(4));
    bob.set("c", "4", at(4));
    bob.replica.purge(&topic());
    let gone = |key: &str, old: &str| Notice::Changed {
        topic: topic(),
        kind: CollectionKind::Map,
        collection: "tasks".into(),
        key: key.into(),
        old: Some(old.into()),
        new: None,
        author: None,
    };
    let coupled = |key: &str| Notice::Coupled { topic: topic(), collection: "trust".into(), key: key.into() };
    assert_eq!(bob.notices(), [gone("a", "1"), gone("b", "2"), coupled("eve")]);
    assert_eq!(bob.replica.topics().count(), 0);
    // What comes back is told again.
    ada.tell(&mut bob, at(5));
    assert_eq!(changes(&mut bob), [change("a", None, Some("1"))]);
    // A purge and a return between two polls are no change of the value.
    bob.replica.purge(&topic());
    ada.tell(&mut bob, at(6));
    assert_eq!(changes(&mut bob), []);
    bob.state();
}

#[test]
fn what_is_not_confirmed_is_told_and_does_not_leave() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    assert_eq!(ada.replica.blocked(), None);
    let first = ada.write(at(1), |tx| tx.map("tasks").set("t1", "x").unwrap()).unwrap();
    let last = ada.write(at(2), |tx| tx.map("tasks").set("t2", "x").unwrap()).unwrap();
    assert!(first < last);
    assert_eq!(ada.replica.blocked(), Some(Blocked::Unconfirmed { first, last }));
    assert_eq!(ada.get("t1").as_deref(), Some("x"), "readable at once");
    let bundle = ada.replica.export_bundle(|_| true, None, at(3)).unwrap();
    assert_eq!(bob.take(&bundle, at(3)).entries, 0);
    assert!(ada.replica.confirm(first).is_err());
    let mut polled = Vec::new();
    while let Some(record) = ada.replica.poll_record() {
        polled.push(record.id());
        ada.records.extend(record.as_bytes());
    }
    assert!(polled.is_sorted() && polled.contains(&first) && polled.contains(&last));
    let bundle = ada.replica.export_bundle(|_| true, None, at(4)).unwrap();
    assert_eq!(bob.take(&bundle, at(4)).entries, 0, "polled is not stored");
    ada.replica.confirm(first).unwrap();
    assert_eq!(ada.replica.blocked(), Some(Blocked::Unconfirmed { first: last, last }));
    let bundle = ada.replica.export_bundle(|_| true, None, at(5)).unwrap();
    assert_eq!(bob.take(&bundle, at(5)).entries, 1);
    assert_eq!((bob.get("t1").as_deref(), bob.get("t2")), (Some("x"), None));
    ada.replica.confirm(last).unwrap();
    ada.replica.confirm(first).unwrap();
    assert_eq!(ada.replica.blocked(), None);
    ada.tell(&mut bob, at(6));
    assert_eq!(bob.state(), ada.state());
}

#[test]
fn events_that_were_given_up_in_between_are_told_by_no_notice() {
    let (mut ada, mut bob) = (Node::fresh(0, 1), Node::fresh(1, 2));
    bob.replica.subscribe("*").unwrap();
    ada.event("first", 1);
    ada.tell(&mut bob, at(2));
    ada.event("second", 3);
    ada.event("third", 4);
    let last = ada.event("last", 5);
    ada.replica.prune_events_before(&last, at(6)).unwrap();
    ada.store();
    // Nobody polled at the other one: the runs are told one by one.
    ada.tell(&mut bob, at(7));
    let told: Vec<(u64, u64)> = bob
        .notices()
        .into_iter()
        .filter_map(|notice| match notice {
            Notice::Events { from, to, .. } => Some((from, to)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(0, 1), (3, 4)]);
}
