//! What sessions are about, and what goes first.

use consilience::sync::Topic;
use consilience::sync::session::{Scope, SessionEvent, SessionOptions};

use crate::meet::event;
use crate::replicas::{Node, at, config, keys};
use crate::world::{Net, Party, Weather};

fn events(net: &Net, party: usize, topic: &str) -> u64 {
    let topic = Topic::new(topic).unwrap();
    net.parties[party].logs().logs_in(&topic).map(consilience::sync::Log::size).sum()
}

fn scope(filters: &[&str]) -> Scope {
    Scope::of(filters).unwrap()
}

#[test]
fn a_session_is_about_what_both_want_and_may_grow() {
    for (dial, listen) in [(&["a/*"][..], &["*"][..]), (&["*"], &["a/*"]), (&["a/*", "c"], &["a/*", "b"])] {
        let mut net = Net::new(vec![Party::replica(0, 1), Party::replica(1, 2)], 3);
        for (party, topic) in [(0, "a"), (0, "a/x"), (0, "b"), (1, "a/y"), (1, "c"), (1, "ab")] {
            let now = net.time();
            event(net.node(party), topic, "event", now);
        }
        let wire = net.connect_with(
            0,
            1,
            Weather::FAIR,
            SessionOptions::dial().with_scope(scope(dial)),
            SessionOptions::listen().with_scope(scope(listen)),
        );
        net.run(3_000);
        for topic in ["a", "a/x", "a/y"] {
            assert_eq!((events(&net, 0, topic), events(&net, 1, topic)), (1, 1), "{topic}");
        }
        for (topic, there) in [("b", (1, 0)), ("c", (0, 1)), ("ab", (0, 1))] {
            assert_eq!((events(&net, 0, topic), events(&net, 1, topic)), there, "{topic}");
        }
        // What is written in and out of it while the session is open.
        let now = net.time();
        event(net.node(0), "a", "event", now);
        event(net.node(1), "ab", "event", now);
        net.run(100);
        assert_eq!((events(&net, 1, "a"), events(&net, 0, "ab")), (2, 0));
        assert_eq!(
            (
                net.said(0, |event| *event == SessionEvent::InSync),
                net.said(1, |event| *event == SessionEvent::InSync)
            ),
            (1, 1)
        );
        let both = scope(dial).meet(&scope(listen));
        for (party, session) in net.wires[wire].ends {
            assert_eq!(net.node(party).replica.scope(session), Some(&both));
        }
        // Both want everything now.
        for end in 0..2 {
            let (party, session) = net.wires[wire].ends[end];
            net.node(party).replica.set_scope(session, Scope::everything());
        }
        net.run(3_000);
        assert!(net.parties[0].roots() == net.parties[1].roots());
        assert_eq!(events(&net, 0, "ab"), 2);
        for (party, session) in net.wires[wire].ends {
            assert_eq!(net.node(party).replica.scope(session), Some(&Scope::everything()));
            let told = net.said(party, |event| *event == SessionEvent::InSync);
            assert!(told > 1, "{told}: that they are in sync in the new scope as well");
        }
    }
}

#[test]
fn the_most_wanted_topic_comes_first_and_the_oldest_entry_of_it() {
    let mut net = Net::new(vec![Party::replica(0, 1), Party::replica(1, 2)], 3);
    for n in 0..400 {
        net.now += 1;
        let now = net.time();
        event(net.node(0), "last", &"x".repeat(500), now);
        event(net.node(0), ["first/a", "first/b"][n % 2], &"x".repeat(500), now);
    }
    net.connect_with(
        1,
        0,
        Weather::STREAM,
        SessionOptions::dial().with_scope(scope(&["first/*", "last"])),
        SessionOptions::listen(),
    );
    let mut halves = 0;
    loop {
        net.run(5);
        let [a, b, last] = ["first/a", "first/b", "last"].map(|topic| events(&net, 1, topic));
        assert!(last == 0 || (a, b) == (200, 200), "{a} {b} {last}");
        // They take turns by the age of what comes next; a range has some twenty of these.
        assert!(a.abs_diff(b) <= 30, "{a} {b}");
        halves += u32::from(a > 0 && a < 200);
        if last == 400 {
            break;
        }
    }
    assert!(halves > 0);
}

#[test]
fn wanted_topics_come_before_all_others_also_where_all_are_wanted() {
    let wanted = scope(&["t/08", "t/05", "*"]);
    for dials in [0, 1] {
        let mut net = Net::new(vec![Party::replica(0, 1), Party::replica(1, 2)], 3);
        for _ in 0..60 {
            for topic in 0..10 {
                net.now += 1;
                let now = net.time();
                event(net.node(0), &format!("t/{topic:02}"), &"x".repeat(500), now);
            }
        }
        let (ours, theirs) = (SessionOptions::dial(), SessionOptions::listen());
        let options = if dials == 1 {
            (ours.with_scope(wanted.clone()), theirs)
        } else {
            (ours, theirs.with_scope(wanted.clone()))
        };
        let wire = net.connect_with(dials, 1 - dials, Weather::STREAM, options.0, options.1);
        let mut order = Vec::new();
        while order.len() < 10 {
            net.run(1);
            for topic in 0..10 {
                if events(&net, 1, &format!("t/{topic:02}")) == 60 && !order.contains(&topic) {
                    order.push(topic);
                }
            }
        }
        assert_eq!(order[..2], [8, 5], "{order:?}");
        net.run(1_000);
        let narrowed = |event: &SessionEvent| *event == SessionEvent::Narrowed;
        for (party, session) in net.wires[wire].ends {
            assert_eq!(net.node(party).replica.scope(session).unwrap().to_string(), "t/08, t/05, *");
            assert_eq!(net.said(party, narrowed), 0, "nothing is left out");
        }
    }
}

#[test]
fn who_is_given_fewer_topics_than_it_asked_for_is_told() {
    let narrowed = |net: &Net, party| net.said(party, |event| *event == SessionEvent::Narrowed);
    for (dial, listen, told) in [
        (&["*"][..], &["*"][..], [0, 0]),
        (&["a", "b/*"], &["*"], [0, 1]),
        (&["a/*", "c"], &["a", "c", "d"], [1, 1]),
        (&["a"], &["b"], [1, 1]),
        (&["b", "a/*"], &["a/*", "a", "b"], [0, 0]),
    ] {
        let mut net = Net::new(vec![Party::replica(0, 1), Party::replica(1, 2)], 3);
        let wire = net.connect_with(
            0,
            1,
            Weather::FAIR,
            SessionOptions::dial().with_scope(scope(dial)),
            SessionOptions::listen().with_scope(scope(listen)),
        );
        net.run(1_000);
        assert_eq!([0, 1].map(|party| narrowed(&net, party)), told, "{dial:?} {listen:?}");
        // One comes to want what the other wants.
        let (party, session) = net.wires[wire].ends[0];
        net.node(party).replica.set_scope(session, scope(listen));
        net.run(1_000);
        assert_eq!(narrowed(&net, 0), told[0], "it has what it asked for by now");
    }
}

#[test]
fn a_gate_that_narrows_a_scope_is_told_to_both() {
    let config = config(1).with_gate(|_| Some(scope(&["open/*"])));
    let mut replica = consilience::Replica::open(config, consilience::Opened::Fresh, at(0)).unwrap();
    let writer = replica.add_writer(keys(0)).unwrap();
    let node = Node { replica, writer, agent: 0, snapshot: None, records: Vec::new() };
    let mut net = Net::new(vec![Party::Replica(Box::new(node)), Party::replica(1, 2)], 7);
    let now = net.time();
    event(net.node(1), "secret", "a word", now);
    let wire = net.connect(1, 0, Weather::FAIR);
    net.run(1_000);
    for (party, session) in net.wires[wire].ends {
        assert_eq!(net.said(party, |event| *event == SessionEvent::Narrowed), 1, "{party}");
        assert_eq!(net.said(party, |event| *event == SessionEvent::InSync), 1, "in the topics that are left");
        assert_eq!(net.node(party).replica.scope(session).unwrap().to_string(), "open/*");
    }
}

#[test]
fn two_with_nothing_in_common_are_in_sync() {
    let mut net = Net::new(vec![Party::replica(0, 1), Party::replica(1, 2)], 3);
    let now = net.time();
    event(net.node(0), "a", "event", now);
    let options = |options: SessionOptions, filter| options.with_scope(scope(&[filter]));
    net.connect_with(
        0,
        1,
        Weather::FAIR,
        options(SessionOptions::dial(), "a"),
        options(SessionOptions::listen(), "b"),
    );
    net.run(1_000);
    assert_eq!(net.said(0, |event| *event == SessionEvent::InSync), 1);
    assert_eq!(events(&net, 1, "a"), 0);
}

#[test]
fn a_thousand_logs_meet_by_a_sketch_and_by_ranges() {
    for (here, there, filter) in [(1_000, 990, "*"), (1_000, 0, "*"), (700, 690, "t/*")] {
        let mut net = Net::new(vec![Party::replica(0, 1), Party::replica(1, 2)], 3);
        for n in 0..here {
            let now = net.time();
            event(net.node(0), &format!("t/{n}"), "event", now);
        }
        // One has most of the other's by a bundle.
        let now = net.time();
        let few = |topic: &Topic| topic.as_str()[2..].parse::<u32>().unwrap() < there;
        let bundle = net.node(0).replica.export_bundle(few, None, now).unwrap();
        net.node(1).take(&bundle, now);
        event(net.node(1), "t/of the other", "event", now);
        let wire = net.connect_with(
            0,
            1,
            Weather::STREAM,
            SessionOptions::dial().with_scope(scope(&[filter])),
            SessionOptions::listen(),
        );
        net.run(20_000);
        assert!(net.parties[0].roots() == net.parties[1].roots());
        assert_eq!(net.said(1, |event| *event == SessionEvent::InSync), 1);
        let differ = here - there + 1;
        println!(
            "{here} and {there} in {filter}: {} bytes, {} of memory",
            net.bytes(wire),
            net.wires[wire].memory_max
        );
        assert!(net.bytes(wire) < 4_000 + 330 * differ as usize, "{}", net.bytes(wire));
        assert!(net.wires[wire].memory_max < 256 << 10, "{}", net.wires[wire].memory_max);
    }
}
