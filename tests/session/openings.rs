//! Openings that a member makes up, in its own or another's name: nothing is spent on them.

use consilience::sync::session::{Fault, SessionEvent};
use consilience::sync::{AgentId, Incarnation, LogKind, LogOpening, Signer, Topic};

use crate::foe::{self, Foe, Heard};
use crate::hand::Hand;
use crate::hostile::{MEMORY_MAX, attack_with, events, faults, pair, settled, work};
use crate::meet::event;
use crate::replicas::{Dice, Node, at, keys, mesh, topic};
use crate::world::{Net, Party, Weather};

fn opened(opening: &LogOpening) -> Vec<u8> {
    foe::message(foe::OPEN, &opening.encode(&mesh()))
}

fn in_name_of(agent: AgentId, kind: LogKind, incarnation: u64) -> LogOpening {
    LogOpening { topic: topic(), kind, agent, incarnation: Incarnation::from_u64(incarnation) }
}

fn says(messages: Vec<u8>) -> impl FnMut(&mut Foe, &Heard) + Send + 'static {
    move |foe, heard| {
        if matches!(heard, Heard::Opened) {
            foe.say(&messages);
        }
    }
}

fn told(net: &mut Net, on: usize, messages: Vec<u8>) -> usize {
    let (_, wire) = attack_with(net, on, true, Weather::FAIR, |options| options, |_| {}, says(messages));
    net.run(2_000);
    assert!(net.wires[wire].memory_max <= MEMORY_MAX, "{} bytes of memory", net.wires[wire].memory_max);
    wire
}

#[test]
fn an_opening_of_the_last_incarnation_does_not_lock_its_victim_out_of_sessions() {
    let mut net = pair();
    let victim = keys(0).agent();
    let forged = [LogKind::State, LogKind::Event].map(|kind| opened(&in_name_of(victim, kind, u64::MAX)));
    for on in 0..2 {
        let before = format!("{:?}", net.parties[on].logs());
        let wire = told(&mut net, on, forged.concat());
        assert_eq!(faults(&net, wire), []);
        let ahead = events(&net, wire).iter().filter(|event| **event == SessionEvent::AheadOfClock).count();
        assert_eq!(ahead, 1, "it is told, once");
        assert_eq!(format!("{:?}", net.parties[on].logs()), before, "it leaves no trace");
        net.cut(wire);
    }
    // The victim writes on, and its peer reads it: in a log of its own time.
    settled(&mut net);
    for log in net.parties[0].logs().logs().chain(net.parties[1].logs().logs()) {
        assert!(!log.opening().incarnation.is_ahead(at(1_000_000), 0), "{:?}", log.opening());
    }
}

#[test]
fn openings_that_nobody_signed_keep_no_log_out_of_a_session() {
    // The victim has yet to meet the one who is flooded.
    for relay in [false, true] {
        let flooded = if relay { Party::relay(0, 1) } else { Party::replica(0, 1) };
        let mut net = Net::new(vec![flooded, Party::replica(1, 2)], 7);
        let mut dice = Dice::new(3);
        let victim = keys(1).agent();
        let before = format!("{:?}", net.parties[0].logs());
        let in_its_name: Vec<u8> = (1..=1_024)
            .flat_map(|incarnation| {
                let kinds = [LogKind::State, LogKind::Event];
                kinds.map(|kind| opened(&in_name_of(victim, kind, incarnation))).concat()
            })
            .collect();
        let mut floods = vec![in_its_name];
        for flood in 0..8_u64 {
            let any = (0..8_192).flat_map(|number| {
                let agent = AgentId::from_bytes(std::array::from_fn(|_| dice.roll(256) as u8));
                let topic = Topic::new(&format!("t/{}", number % 512)).unwrap();
                opened(&LogOpening { topic, ..in_name_of(agent, LogKind::Event, flood << 32 | number) })
            });
            floods.push(any.collect());
        }
        for flood in floods {
            let wire = told(&mut net, 0, flood);
            assert_eq!((faults(&net, wire), events(&net, wire).len()), (vec![], 1), "connected, and no more");
            net.cut(wire);
        }
        assert_eq!(format!("{:?}", net.parties[0].logs()), before, "they leave no trace");
        net.connect(1, 0, Weather::FAIR);
        let now = net.time();
        net.node(1).set("k", "a value", now);
        for n in 0..20 {
            event(net.node(1), &format!("talk/{n}"), "a word", now);
        }
        net.run(5_000);
        assert_eq!(net.parties[0].roots(), net.parties[1].roots());
        assert_eq!(net.parties[0].logs().logs().count(), 21);
        assert!(!net.events.iter().any(|(.., event)| *event == SessionEvent::TooManyLogs));
    }
}

#[test]
fn a_later_version_is_told_from_a_fault() {
    let mut net = pair();
    let now = net.time();
    let sound = in_name_of(keys(50).agent(), LogKind::Event, 1).encode(&mesh());
    // The suite, the form of the writer, of the grant, and of the first level.
    let unknown = [9, 11, 12, 54].map(|at| {
        let mut bytes = sound.clone();
        bytes[at] = 0x7f;
        foe::message(foe::OPEN, &bytes)
    });
    let wire = told(&mut net, 0, unknown.concat().repeat(20));
    assert_eq!(faults(&net, wire), []);
    let events = events(&net, wire);
    assert_eq!(events.iter().filter(|event| **event == SessionEvent::LaterVersion).count(), 1, "{events:?}");
    // No version has such a kind of log.
    let mut bytes = sound;
    bytes[10] = 0x7f;
    let wire = told(&mut net, 0, foe::message(foe::OPEN, &bytes));
    assert!(matches!(faults(&net, wire)[..], [Fault::Opening(_)]));
    net.node(0).set("later", "a value", now);
    settled(&mut net);
}

/// A log that was begun by a clock that is ahead by more than entries may be: it comes once its time has come.
#[test]
fn a_log_from_the_future_comes_when_its_time_has_come() {
    let mut net = pair();
    let drift = net.parties[0].logs().limits().max_drift_ms;
    let now = net.time();
    let begun = Incarnation::next(None, now.saturating_add_millis(drift + 60_000), [1, 1]).as_u64();
    let mut hand = Hand::of_kind(50, begun, LogKind::Event);
    hand.append(b"a word", consilience::crdts::Hlc::new(now, 0));
    let bundle = hand.bundle(now);
    let imported = net.node(0).take(&bundle, now);
    assert_eq!((imported.logs, imported.ahead, imported.entries), (1, 1, 0));
    assert!(net.parties[0].logs().log(&hand.log).is_none());
    // A host that brings it to a replica whose clock is right for it passes it on by a session.
    let later = now.saturating_add_millis(61_000);
    let imported = net.node(1).take(&bundle, later);
    assert_eq!((imported.logs, imported.ahead, imported.entries), (1, 0, 1));
    net.run(40_000);
    assert!(net.parties[0].logs().log(&hand.log).is_none(), "not yet");
    assert!(net.events.iter().any(|(.., event)| *event == SessionEvent::AheadOfClock));
    net.run(30_000);
    // Two whose rounds failed try again when something has changed.
    work(&mut net, "after");
    net.run(65_000);
    assert!(net.parties[0].logs().log(&hand.log).is_some(), "its time has come");
    settled(&mut net);
}

#[test]
fn a_writer_named_in_a_made_up_opening_goes_on_in_its_own_log() {
    let mut node = Node::fresh(0, 1);
    node.set("k", "first", at(1));
    let own = node.own_log();
    let mut net = Net::new(vec![Party::Replica(Box::new(node)), Party::replica(1, 2)], 7);
    let above = (at(50).as_millis() << 16) | 7;
    let forged = in_name_of(keys(0).agent(), LogKind::State, above);
    told(&mut net, 0, opened(&forged));
    let now = net.time();
    net.node(0).set("k", "second", now);
    assert_eq!(net.node(0).own_log(), own.map(|(log, size)| (log, size + 1)));
    assert_ne!(net.node(0).own_log().map(|(log, _)| log), Some(forged.log_id(&mesh())));
    assert_eq!(net.node(0).get("k").as_deref(), Some("second"));
}
