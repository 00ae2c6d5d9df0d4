//! Limits that honest sides reach: neither is called dishonest for it, and both are told.

use consilience::crdts::{Hlc, Timestamp};
use consilience::sync::session::{EndReason, Scope, SessionEvent, SessionOptions};
use consilience::sync::{Hash, Limits, LogId, LogKind, Topic};

use crate::hand::Hand;
use crate::meet::event;
use crate::replicas::{Node, at, config, keys};
use crate::world::{Net, Party, Weather};

/// A replica that holds up to so many logs of one agent.
fn party(agent: u8, per_agent: usize) -> Party {
    let mut limits = Limits::default();
    limits.logs_per_agent_max = per_agent;
    limited(agent, limits)
}

fn limited(agent: u8, limits: Limits) -> Party {
    let config = config(u64::from(agent) + 1).with_limits(limits);
    let mut replica = consilience::Replica::open(config, consilience::Opened::Fresh, at(0)).unwrap();
    let writer = replica.add_writer(keys(agent)).unwrap();
    Party::Replica(Box::new(Node { replica, writer, agent, snapshot: None, records: Vec::new() }))
}

/// A replica with so much room for entries from the future.
fn waiting(agent: u8, late_bytes: usize) -> Party {
    let mut limits = Limits::default();
    (limits.late_bytes_max, limits.late_bytes_per_log_max) = (late_bytes, late_bytes);
    limited(agent, limits)
}

fn faults(net: &Net) -> Vec<&SessionEvent> {
    let wrong = |event: &&SessionEvent| {
        matches!(event, SessionEvent::Fault(_) | SessionEvent::Ended(EndReason::Misbehaved))
    };
    net.events.iter().map(|(.., event)| event).filter(wrong).collect()
}

/// When a party was told something, after a time.
fn told(net: &Net, party: usize, after: u64, wanted: &SessionEvent) -> Vec<u64> {
    let told =
        net.events.iter().filter(|(at, index, _, event)| (*at > after && *index == party) && event == wanted);
    told.map(|(at, ..)| *at).collect()
}

fn logs(net: &Net, party: usize) -> usize {
    net.parties[party].logs().logs().filter(|log| log.size() > 0).count()
}

#[test]
fn many_small_logs_come_in_one_sync_at_every_size_of_frames() {
    for count in [300, 1_000, 5_000] {
        let frames = [256, 1_024, 16_384, 65_536];
        let parties = (0..=frames.len()).map(|number| party(u8::try_from(number).unwrap(), 8_192));
        let mut net = Net::new(parties.collect(), 7);
        let now = net.time();
        for n in 0..count {
            event(net.node(0), &format!("t/{n}"), "a word", now);
        }
        for (number, bytes) in frames.into_iter().enumerate() {
            // Either side may dial.
            let (from, to) = if number % 2 == 0 { (0, number + 1) } else { (number + 1, 0) };
            let (dial, listen) = (SessionOptions::dial(), SessionOptions::listen());
            let wire = net.connect_with(
                from,
                to,
                Weather::STREAM,
                dial.with_frame_bytes(bytes),
                listen.with_frame_bytes(bytes),
            );
            let since = net.now;
            while told(&net, number + 1, since, &SessionEvent::InSync).is_empty() {
                net.run(50);
                assert!(
                    net.now < since + 60_000,
                    "{count} logs, frames of {bytes}: {} came",
                    logs(&net, number + 1)
                );
            }
            assert_eq!(faults(&net), Vec::<&SessionEvent>::new(), "{count} logs, frames of {bytes}");
            assert_eq!(logs(&net, number + 1), count, "frames of {bytes}");
            println!("{count} logs, frames of {bytes}: {} ms, {} bytes", net.now - since, net.bytes(wire));
            net.cut(wire);
            net.events.clear();
        }
    }
}

#[test]
fn a_peer_that_is_a_step_behind_another_is_not_refused() {
    let relay = |agent| Party::relay(agent, agent);
    let mut net = Net::new(vec![Party::replica(0, 1), relay(10), relay(11), Party::replica(1, 2)], 7);
    let slow = Weather { delay: (60, 60), ..Weather::STREAM };
    for (from, to, weather) in
        [(0, 1, Weather::STREAM), (0, 2, slow), (1, 3, Weather::STREAM), (3, 2, Weather::STREAM)]
    {
        net.connect(from, to, weather);
    }
    net.run(1_000);
    for n in 0..1_500 {
        let now = net.time();
        event(net.node(0), "t", &format!("{n}"), now);
        net.run(4);
    }
    net.run(2_000);
    assert_eq!(faults(&net), Vec::<&SessionEvent>::new());
    for other in 1..4 {
        assert_eq!(net.parties[other].roots(), net.parties[0].roots());
    }
    let checked = net.node(3).replica.signatures_checked();
    println!("{checked} signatures");
    assert!(checked <= 2_000, "{checked} signatures of 1,500 heads");
}

type Roots = Vec<(LogId, u64, Option<Hash>)>;

/// Whether a party holds everything of some logs, as they were.
fn holds(net: &Net, party: usize, roots: &Roots) -> bool {
    roots.iter().all(|(id, size, root)| {
        *size == 0 || net.parties[party].logs().log(id).is_some_and(|log| log.root_at(*size) == *root)
    })
}

/// Two that write every three milliseconds, in a new topic now and then, and a round trip takes 20.
fn busy(net: &mut Net, ms: u64, step: &mut u64, mut each: impl FnMut(&mut Net)) {
    let until = net.now + ms;
    while net.now < until {
        for index in 0..2 {
            let topic = format!("t/{}", if step.is_multiple_of(20) { *step } else { *step % 5 });
            let now = net.time();
            event(net.node(index), &topic, &format!("{step}"), now);
        }
        *step += 1;
        net.run(3);
        each(net);
    }
}

#[test]
fn two_that_write_all_the_time_are_told_that_they_are_in_sync() {
    for first in [0, 20, 300] {
        let mut net = Net::new((0..2).map(|agent| party(agent, 8_192)).collect(), 7);
        for index in 0..2 {
            for n in 0..first {
                let now = net.time();
                event(net.node(index), &format!("old/{n}"), "before they met", now);
            }
        }
        let wire = net.connect(0, 1, Weather::STREAM);
        let (mut step, since) = (0, net.now);
        // What each held, and when.
        let mut held: Vec<(u64, [Roots; 2])> = Vec::new();
        let mut looked = false;
        busy(&mut net, 1_500, &mut step, |net| {
            held.push((net.now, [0, 1].map(|index| net.parties[index].roots())));
            if !looked && (0..2).all(|index| !told(net, index, since, &SessionEvent::InSync).is_empty()) {
                looked = true;
                // The last round began after the handshake; what they held by then, both hold.
                let began = held.iter().rev().find(|(at, _)| *at + 120 <= net.now);
                if let Some((_, roots)) = began {
                    assert!(holds(net, 0, &roots[1]) && holds(net, 1, &roots[0]));
                }
            }
        });
        for index in 0..2 {
            let told = told(&net, index, since, &SessionEvent::InSync);
            println!(
                "{first} logs: {} told in sync after {:?} ms",
                index,
                told.iter().map(|at| at - since).collect::<Vec<_>>()
            );
            assert_eq!(told.len(), 1, "{index}: {:?}", net.events);
        }
        assert!(looked);
        // It stays so, and does not make them compare all the time.
        busy(&mut net, 20_000, &mut step, |_| {});
        let wrong = |event: &SessionEvent| {
            matches!(event, SessionEvent::OutOfSync | SessionEvent::Fault(_) | SessionEvent::Ended(_))
        };
        assert_eq!((net.said(0, wrong), net.said(1, wrong)), (0, 0), "{:?}", net.events);
        let (party, session) = net.wires[wire].ends[0];
        net.run(1_000);
        assert!(net.node(party).replica.peer_has_all(session), "they have stopped");
        assert_eq!(net.parties[0].roots(), net.parties[1].roots());
    }
}

#[test]
fn two_that_write_all_the_time_are_told_that_one_has_no_room() {
    for dials in [0, 1] {
        // The second holds ten logs of one agent, and the first has more.
        let mut net = Net::new(vec![party(0, 8_192), party(1, 10)], 7);
        for n in 0..30 {
            let now = net.time();
            event(net.node(0), &format!("t/{n}"), "before they met", now);
        }
        net.connect(dials, 1 - dials, Weather::STREAM);
        let since = net.now;
        let until = net.now + 40_000;
        let mut n = 0;
        while net.now < until {
            for index in 0..2 {
                let now = net.time();
                event(net.node(index), "t/0", &format!("{n}"), now);
            }
            n += 1;
            net.run(7);
        }
        for index in 0..2 {
            assert_eq!(told(&net, index, since, &SessionEvent::InSync), [0; 0], "{index}");
            let told = told(&net, index, since, &SessionEvent::OutOfSync);
            assert!(told.len() == 1 && told[0] < since + 1_000, "{index}: {told:?}");
        }
    }
}

fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

#[test]
fn a_log_for_which_a_peer_has_no_room_is_told_to_both() {
    for scope in [Scope::everything(), Scope::of(&["t/*"]).unwrap(), Scope::of(&["t/10"]).unwrap()] {
        for (before, dials) in [(true, 0), (true, 1), (false, 0), (false, 1)] {
            let mut net = Net::new(vec![party(0, 1_024), party(1, 10)], 7);
            let last = |net: &mut Net, now: Timestamp| event(net.node(0), "t/10", "the eleventh", now);
            for n in 0..10 {
                let now = net.time();
                event(net.node(0), &format!("t/{n}"), "a word", now);
            }
            // Ten of them are there, whichever they will be.
            let now = net.time();
            let bundle = net.node(0).replica.export_bundle(|_| true, None, now).unwrap();
            net.node(1).take(&bundle, now);
            if before {
                last(&mut net, now);
            }
            let wire = net.connect_with(
                dials,
                1 - dials,
                Weather::STREAM,
                SessionOptions::dial().with_scope(scope.clone()),
                SessionOptions::listen(),
            );
            if !before {
                net.run(2_000);
                assert_eq!(net.said(0, |event| *event == SessionEvent::InSync), 1);
                let now = net.time();
                last(&mut net, now);
            }
            let since = net.now;
            net.run(70_000);
            let refused = *net.parties[0].logs().logs_in(&topic("t/10")).next().unwrap().id();
            for (index, event) in [(0, SessionEvent::NoRoomAtPeer(refused)), (1, SessionEvent::TooManyLogs)] {
                for event in [event, SessionEvent::OutOfSync] {
                    let told = told(&net, index, since, &event);
                    assert!(
                        told.len() == 1 && told[0] < since + 500,
                        "{index} {event:?}: {told:?} {:?}",
                        net.events
                    );
                }
                assert_eq!(told(&net, index, since, &SessionEvent::InSync), [0; 0], "{index} {scope}");
            }
            let (_, session) = net.wires[wire].ends[usize::from(dials != 0)];
            assert!(!net.node(0).replica.peer_has_all(session));
            assert!(net.bytes(wire) < 12_000, "{} bytes", net.bytes(wire));
            assert_eq!(faults(&net), Vec::<&SessionEvent>::new());
        }
    }
}

/// A member's log of events from an hour ahead; one that has room for them meets one that has not.
#[test]
fn what_a_peer_cannot_take_in_yet_is_not_sent_to_it_over_and_over() {
    // Of the first range either all fits or only what is not from the future.
    for (dials, waits_max) in [(0, 20_000), (1, 20_000), (0, 5_000), (1, 5_000)] {
        let mut net = Net::new(vec![waiting(0, 8 << 20), waiting(1, waits_max)], 7);
        let mut hand = Hand::of_kind(20, 1, LogKind::Event);
        hand.append(b"of now", Hlc::new(at(0), 0));
        hand.append(b"of now", Hlc::new(at(1), 0));
        let write = |net: &mut Net, hand: &mut Hand, count: u64| {
            for _ in 0..count {
                hand.append(&[7; 1_000], Hlc::new(at(3_600_000 + net.now), 0));
            }
            let now = net.time();
            let bundle = hand.bundle(now);
            net.node(0).take(&bundle, now);
        };
        write(&mut net, &mut hand, 2_000);
        let wire = net.connect(dials, 1 - dials, Weather::STREAM);
        net.run(2_000);
        let there = net.parties[1].logs().log(&hand.log).unwrap().size();
        assert!(if waits_max == 5_000 { there == 2 } else { (10..20).contains(&there) }, "{there} entries");
        for party in [0, 1] {
            assert_eq!(told(&net, party, 0, &SessionEvent::InSync), [0; 0]);
            assert_eq!(told(&net, party, 0, &SessionEvent::OutOfSync).len(), 1);
        }
        // What is on its way before the peer can say that it has no room, in each of the first rounds.
        let bytes = net.bytes(wire);
        assert!(bytes < 150_000, "{bytes} bytes, {dials} dials, {waits_max} wait");
        // New entries of the log are of no use to it either.
        for _ in 0..100 {
            write(&mut net, &mut hand, 1);
            net.run(50);
        }
        let more = net.bytes(wire) - bytes;
        assert!(more < 10_000, "{more} bytes of new entries, {dials} dials, {waits_max} wait");
        assert_eq!(faults(&net), Vec::<&SessionEvent>::new());
        // Once their time has come, all are there.
        net.run(3_700_000);
        assert_eq!(net.parties[1].roots(), net.parties[0].roots());
        assert_eq!(told(&net, 1, 0, &SessionEvent::InSync).len(), 1);
    }
}
