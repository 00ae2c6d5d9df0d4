//! Who is not a member, who sits in between, and hosts and clocks that do what they should not.

use std::sync::{Arc, Mutex};

use consilience::crdts::Timestamp;
use consilience::sync::session::{
    EndReason, Fault, HandshakeError, InputError, Refusal, Scope, SessionEvent, SessionId, SessionOptions,
};
use consilience::sync::{LogId, MeshSecret, RangeForm, Signer, Want};

use crate::foe::{self, Heard};
use crate::hand;
use crate::hostile::{DECADE, agreed, attack, attack_with, ended, events, faults, pair, settled, work};
use crate::meet::event;
use crate::replicas::{Dice, Disk, How, Node, TOPIC, at, config, keys, mesh, secret, seeds};
use crate::world::{Net, Party, Weather};

/// A frame between two honest parties: from the side that dials or the other, and its bytes.
pub type Frame = (bool, Vec<u8>);

/// Two sessions that a test carries frames between.
pub struct Line {
    pub dials: (usize, SessionId),
    pub listens: (usize, SessionId),
}

impl Line {
    pub fn new(net: &mut Net, dials: usize, listens: usize) -> Self {
        Self::with(net, dials, SessionOptions::dial(), listens, SessionOptions::listen())
    }

    pub fn with(
        net: &mut Net,
        dials: usize,
        dial: SessionOptions,
        listens: usize,
        listen: SessionOptions,
    ) -> Self {
        let now = net.time();
        let dial = net.parties[dials].connect(dial, now);
        Self { dials: (dials, dial), listens: (listens, net.parties[listens].connect(listen, now)) }
    }

    fn end(&self, dials: bool) -> (usize, SessionId) {
        if dials { self.dials } else { self.listens }
    }

    /// What a side has to send now.
    pub fn sent(&self, net: &mut Net, dials: bool) -> Vec<Frame> {
        let ((party, session), now) = (self.end(dials), net.time());
        net.parties[party].store();
        std::iter::from_fn(|| net.parties[party].transmit(session, now)).map(|frame| (dials, frame)).collect()
    }

    pub fn give(&self, net: &mut Net, to_dialer: bool, frame: &[u8]) -> Result<(), InputError> {
        let ((party, session), now) = (self.end(to_dialer), net.time());
        net.parties[party].input(session, frame, now)
    }

    /// Carries everything to and fro until both are quiet. Gives what went over the line.
    pub fn run(&self, net: &mut Net) -> Vec<Frame> {
        let mut all = Vec::new();
        loop {
            let mut frames = self.sent(net, true);
            frames.extend(self.sent(net, false));
            if frames.is_empty() {
                self.note(net);
                return all;
            }
            for (dialed, frame) in frames {
                let _ = self.give(net, !dialed, &frame);
                all.push((dialed, frame));
            }
            net.now += 10;
        }
    }

    pub fn note(&self, net: &mut Net) {
        for index in [self.dials.0, self.listens.0] {
            while let Some((session, event)) = net.parties[index].event() {
                net.events.push((net.now, index, session, event));
            }
        }
    }

    pub fn events(&self, net: &Net, dials: bool) -> Vec<SessionEvent> {
        let (party, session) = self.end(dials);
        let of = |(_, index, id, _): &&(u64, usize, _, SessionEvent)| *index == party && *id == session;
        net.events.iter().filter(of).map(|(.., event)| event.clone()).collect()
    }

    pub fn is_in_sync(&self, net: &Net) -> bool {
        [true, false].iter().all(|dials| self.events(net, *dials).contains(&SessionEvent::InSync))
    }

    pub fn ended(&self, net: &Net, dials: bool) -> Option<EndReason> {
        self.events(net, dials).into_iter().find_map(|event| match event {
            SessionEvent::Ended(reason) => Some(reason),
            _ => None,
        })
    }

    pub fn hang_up(&self, net: &mut Net) {
        for (party, session) in [self.dials, self.listens] {
            net.parties[party].drop_session(session);
        }
        for dials in [true, false] {
            self.sent(net, dials);
        }
        self.note(net);
    }
}

pub fn two() -> Net {
    Net::new(vec![Party::replica(0, 1), Party::replica(1, 2)], 7)
}

/// What goes over the line of a session in which both have something to say.
pub fn recorded(net: &mut Net) -> Vec<Frame> {
    work(net, "before");
    let line = Line::new(net, 0, 1);
    let frames = line.run(net);
    assert!(line.is_in_sync(net));
    line.hang_up(net);
    frames
}

/// A new session works.
pub fn meets(net: &mut Net) {
    net.connect(0, 1, Weather::FAIR);
    work(net, "after");
    net.run(5_000);
    agreed(net);
    assert_eq!(net.parties[0].roots(), net.parties[1].roots());
}

#[test]
fn who_does_not_know_the_mesh_gets_nothing() {
    let mut net = pair();
    let stranger = MeshSecret::from_bytes([8; 32]);
    // With another tag: the host is told that addresses were mixed up.
    let (foe, wire) = attack_with(
        &mut net,
        0,
        true,
        Weather::FAIR,
        |options| options,
        |foe| foe.mesh = stranger,
        |_, _| panic!("no session"),
    );
    net.run(900);
    assert_eq!((ended(&net, wire), net.parties[foe].foe().refused), (None, Some(1)));
    net.run(200);
    assert_eq!(ended(&net, wire), Some(EndReason::Handshake(HandshakeError::WrongMesh)));
    // With the right tag, which everybody who knows the mesh's name can make, and nothing that opens.
    let (_, wire) = attack(&mut net, true, |_, _| panic!("no session"));
    let real = net.parties.last_mut().unwrap().foe().poll(1_100).unwrap();
    let (_, session) = net.wires[wire].ends[1];
    let now = net.time();
    for at in 43..real.len() {
        let mut bad = real.clone();
        bad[at] ^= 1;
        assert!(net.parties[0].input(session, &bad, now).is_err(), "byte {at}");
        assert!(net.parties[0].transmit(session, now).is_none());
    }
    // Somebody who does not know the mesh answers.
    let (_, answered) = attack_with(
        &mut net,
        0,
        false,
        Weather::FAIR,
        |options| options,
        |foe| foe.mesh = stranger,
        |_, _| panic!("no session"),
    );
    net.run(16_000);
    for wire in [wire, answered] {
        assert_eq!(events(&net, wire), [SessionEvent::Ended(EndReason::TimedOut)]);
        // Nine hellos of 71 bytes, and an answer.
        assert!(net.wires[wire].bytes[0] < 700 && net.wires[wire].bytes[1] < 700);
    }
    settled(&mut net);
}

#[test]
fn frames_that_are_changed_or_of_another_session_change_nothing() {
    let mut net = two();
    let record = recorded(&mut net);
    assert!(record.len() >= 6, "{} frames", record.len());
    work(&mut net, "news");
    // At each step of another session, everything that was recorded, and the next frame itself changed at each byte.
    let line = Line::new(&mut net, 0, 1);
    let mut steps = 0;
    loop {
        let mut frames = line.sent(&mut net, true);
        frames.extend(line.sent(&mut net, false));
        if frames.is_empty() {
            break;
        }
        for (dialed, frame) in frames {
            for (_, old) in &record {
                // A hello is good for whoever waits for one; see the next test.
                if foe::frames(old)[0].0 != foe::HELLO {
                    let _ = line.give(&mut net, !dialed, old);
                    let _ = line.give(&mut net, dialed, old);
                }
            }
            // Reflected.
            let _ = line.give(&mut net, dialed, &frame);
            for at in 0..frame.len() {
                let mut bad = frame.clone();
                bad[at] ^= 1 << (at % 8);
                let _ = line.give(&mut net, !dialed, &bad);
                let _ = line.give(&mut net, !dialed, &frame[..at]);
            }
            line.note(&mut net);
            assert_eq!((line.ended(&net, true), line.ended(&net, false)), (None, None), "step {steps}");
            line.give(&mut net, !dialed, &frame).unwrap();
            steps += 1;
        }
        net.now += 10;
    }
    line.note(&mut net);
    assert!(line.is_in_sync(&net), "{:?}", net.events);
    assert!(!net.events.iter().any(|(.., event)| matches!(event, SessionEvent::Fault(_))));
    assert_eq!(net.parties[0].roots(), net.parties[1].roots());
    meets(&mut net);
}

#[test]
fn hellos_of_others_do_not_end_a_handshake_that_goes_on() {
    let mut net = two();
    let record = recorded(&mut net);
    let old = &record[0].1;
    let mut of_another_mesh = old.clone();
    of_another_mesh[3] ^= 1;
    let other = Line::new(&mut net, 0, 1);
    other.hang_up(&mut net);
    let mut bound = foe::Foe::new(other.dials.1, secret(), keys(50), true, |_: &mut foe::Foe, _: &Heard| {});
    bound.binding = Some(vec![1; 32]);
    bound.start();
    let bound = bound.poll(0).unwrap();
    for disturbance in [old, &of_another_mesh, &bound] {
        for step in 0..3 {
            let line = Line::new(&mut net, 0, 1);
            let hello = line.sent(&mut net, true).remove(0).1;
            if step == 0 && disturbance == old {
                line.give(&mut net, false, disturbance).unwrap();
            }
            line.give(&mut net, false, &hello).unwrap();
            if step == 1 {
                let _ = line.give(&mut net, false, disturbance);
            }
            let answers = line.sent(&mut net, false);
            let answer = answers.last().unwrap().1.clone();
            if step == 2 {
                let _ = line.give(&mut net, false, disturbance);
                line.sent(&mut net, false);
            }
            for (_, answer) in answers {
                let _ = line.give(&mut net, true, &answer);
            }
            let _ = line.give(&mut net, true, &answer);
            line.run(&mut net);
            assert!(line.is_in_sync(&net), "step {step}: {:?}", net.events.last());
            line.hang_up(&mut net);
        }
    }
    meets(&mut net);
}

#[test]
fn forged_refusals_and_closes_are_not_believed() {
    let mut net = two();
    let record = recorded(&mut net);
    let line = Line::new(&mut net, 0, 1);
    let forge = |net: &mut Net| {
        let close = record.last().map(|(_, frame)| frame.clone()).unwrap();
        for bad in [
            foe::frame(foe::REFUSAL, &[0; 17]),
            foe::frame(foe::REFUSAL, &[]),
            foe::frame(foe::CLOSE, &[0; 8]),
            foe::frame(foe::CLOSE, &[]),
            close,
        ] {
            let _ = line.give(net, true, &bad);
            let _ = line.give(net, false, &bad);
        }
    };
    loop {
        forge(&mut net);
        let mut frames = line.sent(&mut net, true);
        frames.extend(line.sent(&mut net, false));
        if frames.is_empty() {
            break;
        }
        for (dialed, frame) in frames {
            line.give(&mut net, !dialed, &frame).unwrap();
        }
    }
    line.note(&mut net);
    assert!(line.is_in_sync(&net));
    // Its own close, reflected.
    net.parties[0].drop_session(line.dials.1);
    let close = line.sent(&mut net, true).remove(0).1;
    let session = Line::new(&mut net, 0, 1);
    session.run(&mut net);
    for to_dialer in [true, false] {
        assert_eq!(session.give(&mut net, to_dialer, &close), Err(InputError::NotAuthentic));
    }
    assert_eq!(line.give(&mut net, true, &close), Err(InputError::Unknown));
    line.give(&mut net, false, &close).unwrap();
    line.note(&mut net);
    assert_eq!(line.ended(&net, false), Some(EndReason::PeerDisconnected));
    meets(&mut net);
}

#[test]
fn who_sits_in_between_two_channels_is_found_out() {
    let (dial, listen) = (SessionOptions::dial, SessionOptions::listen);
    let unproven = EndReason::Refused(Refusal::Unproven);
    let failed = EndReason::Handshake;
    let cases = [
        (
            dial().with_binding(&[1; 32]),
            listen().with_binding(&[2; 32]),
            Some(failed(HandshakeError::Signature)),
            None,
        ),
        (dial().with_binding(&[1; 32]), listen(), Some(unproven), Some(failed(HandshakeError::Binding))),
        (dial(), listen().with_binding(&[1; 32]), Some(unproven), Some(failed(HandshakeError::Binding))),
        (
            dial().with_expected(keys(5).agent()),
            listen(),
            Some(failed(HandshakeError::UnexpectedAgent)),
            None,
        ),
        (
            dial(),
            listen().with_expected(keys(5).agent()),
            Some(EndReason::Refused(Refusal::NotAdmitted)),
            Some(failed(HandshakeError::UnexpectedAgent)),
        ),
    ];
    for (number, (dial, listen, dialing, listening)) in cases.into_iter().enumerate() {
        let mut net = two();
        work(&mut net, "before");
        let line = Line::with(&mut net, 0, dial, 1, listen);
        line.run(&mut net);
        assert_eq!(line.ended(&net, true), dialing, "case {number}");
        assert_eq!(line.ended(&net, false), listening, "case {number}");
        assert!(!line.events(&net, false).iter().any(|event| matches!(event, SessionEvent::Connected(_))));
        net.now += 16_000;
        let now = net.time();
        (0..2).for_each(|index| net.parties[index].timeout(now));
        if listening.is_none() {
            // A refusal that anybody could have made up ends nothing, but says why nobody came.
            let late = net.node(1).replica.poll_event().map(|(_, event)| event);
            let unexpected = dialing == Some(failed(HandshakeError::UnexpectedAgent));
            let why = if unexpected { Refusal::NotAdmitted } else { Refusal::Unproven };
            let why = EndReason::Refused(why);
            assert_eq!(late, Some(SessionEvent::Ended(why)), "case {number}");
        }
        assert!((0..2).all(|index| net.node(index).replica.sessions().is_empty()));
        meets(&mut net);
    }
    let mut net = two();
    let line = Line::with(&mut net, 0, dial().with_binding(&[1; 32]), 1, listen().with_binding(&[1; 32]));
    line.run(&mut net);
    assert!(line.is_in_sync(&net));
}

/// A replica with a gate, which holds open topics and secret ones.
fn gated(scope: Option<&'static [&'static str]>) -> Net {
    let config = config(1).with_gate(move |_| scope.map(|filters| Scope::of(filters).unwrap()));
    let mut replica = consilience::Replica::open(config, consilience::Opened::Fresh, at(0)).unwrap();
    let writer = replica.add_writer(keys(0)).unwrap();
    let node = Node { replica, writer, agent: 0, snapshot: None, records: Vec::new() };
    let mut net = Net::new(vec![Party::Replica(Box::new(node)), Party::replica(1, 2)], 7);
    let now = net.time();
    for n in 0..30 {
        event(net.node(0), &format!("open/{n}"), "for all", now);
        event(net.node(0), &format!("secret/{n}"), "the secret word", now);
    }
    net
}

#[test]
fn what_a_gate_keeps_back_is_never_named() {
    for dials in [true, false] {
        let mut net = gated(Some(&["open/*"]));
        let logs: Vec<(LogId, bool)> = net.parties[0]
            .logs()
            .logs()
            .map(|log| (*log.id(), log.opening().topic.as_str().starts_with("secret")))
            .collect();
        let asked = logs.clone();
        let secret = hand::Hand::of_kind(50, 1, consilience::sync::LogKind::Event);
        let opening = secret.set.log(&secret.log).unwrap().opening().encode(&mesh());
        let heads = net.node(0).replica.logs().clone().heads_root();
        let (foe, wire) = attack(&mut net, dials, move |foe, heard| match heard {
            Heard::Opened => {
                let mut messages = foe::subscribe(&[(0, "")]);
                if foe.dials {
                    messages.extend(foe::root(1, heads, None));
                }
                for (log, _) in &asked {
                    for want in [
                        Want { from: 0, to: 1 << 44, form: RangeForm::Follow },
                        Want { from: 1, to: 1, form: RangeForm::Alone },
                    ] {
                        messages.extend(foe::want(log, want));
                    }
                    messages.extend(foe::about(foe::REFUSED, log, &[0]));
                }
                // Of a topic that it may not send either.
                messages.extend(foe::message(foe::OPEN, &opening));
                foe.say(&messages);
                foe.tick = Some(foe.now + 5_000);
            }
            Heard::Message(foe::ROOT, rest) => {
                foe.say(&foe::offers(foe::pass_of(rest), foe::ALL, &[]));
            }
            Heard::Message(foe::OFFERS, rest) => {
                foe.say(&foe::offers(foe::pass_of(rest), foe::ANSWERING, &[]));
            }
            Heard::Tick => {
                let names = asked.iter().map(|(log, _)| consilience::sync::Offer {
                    log: *log,
                    start: 0,
                    size: 0,
                    root: [0; 8],
                    facts: None,
                });
                let names: Vec<_> = names.collect();
                let messages =
                    [foe::ALL, foe::DIFFERING, foe::ANSWERING].map(|extent| foe::offers(2, extent, &names));
                foe.say(&[foe::root(2, [1; 32], None), messages.concat()].concat());
            }
            _ => {}
        });
        net.run(2_000);
        let now = net.time();
        event(net.node(0), "secret/0", "another secret word", now);
        event(net.node(0), "open/0", "another word for all", now);
        net.run(60_000);
        assert_eq!(ended(&net, wire), None, "{:?}", events(&net, wire));
        assert!(net.parties[0].logs().log(&secret.log).is_none());
        let foe = net.parties[foe].foe();
        let mut open = 0;
        for (_, kind, rest) in &foe.heard {
            let has = |what: &[u8]| rest.windows(what.len()).any(|there| there == what);
            for (log, is_secret) in &logs {
                assert!(!(*is_secret && has(&foe::name(log))), "a message of kind {kind} names a secret log");
                open += usize::from(!is_secret && has(&foe::name(log)));
            }
            assert!(!has(b"secret"), "a message of kind {kind}");
        }
        assert!(open >= 30, "{open}");
    }
}

#[test]
fn a_narrower_scope_takes_back_what_was_queued() {
    let mut net = two();
    let now = net.time();
    for n in 0..30 {
        event(net.node(0), &format!("secret/{n}"), &"the secret word ".repeat(700), now);
        event(net.node(0), &format!("open/{n}"), "for all", now);
    }
    let (foe, wire) = attack_with(
        &mut net,
        0,
        true,
        Weather::FAIR,
        |options| options,
        |foe| foe.acknowledges = false,
        |foe, heard| match heard {
            Heard::Opened => foe.say(&foe::root(1, [1; 32], None)),
            Heard::Message(foe::OFFERS, _) => foe.say(&foe::offers(1, foe::ANSWERING, &[])),
            Heard::Tick => {
                foe.acknowledges = true;
                foe.say(&[1, 200]);
            }
            _ => {}
        },
    );
    net.run(10);
    let logs: Vec<LogId> = net.parties[0].logs().logs().map(|log| *log.id()).collect();
    let wants: Vec<u8> = logs
        .iter()
        .flat_map(|log| foe::want(log, Want { from: 0, to: 1 << 44, form: RangeForm::Follow }))
        .collect();
    net.run(100);
    net.parties[foe].foe().say(&wants);
    net.run(100);
    // The host takes back what it let the peer see. What was on its way already has left.
    let session = net.wires[wire].ends[1].1;
    net.node(0).replica.set_scope(session, Scope::of(&["open/*"]).unwrap());
    let now = net.now;
    net.parties[foe].foe().tick = Some(now + 100);
    net.run(60_000);
    let ranges: Vec<&[u8]> = net.parties[foe].foe().heard_of(foe::RANGE).collect();
    let secret = ranges.iter().filter(|rest| rest.windows(6).any(|there| there == b"secret")).count();
    assert!(secret <= 6, "{secret} of 30");
    assert!(ranges.len() - secret >= 20, "{} of 30", ranges.len() - secret);
}

#[test]
fn a_host_that_changes_the_scope_does_not_open_its_gate() {
    let mut net = gated(Some(&["open/*"]));
    let wire = net.connect(0, 1, Weather::FAIR);
    net.run(2_000);
    let session = net.wires[wire].ends[0].1;
    assert!(net.node(0).replica.set_scope(session, Scope::everything()));
    net.run(60_000);
    let secret = |net: &Net, index: usize| {
        net.parties[index]
            .logs()
            .logs()
            .filter(|log| log.opening().topic.as_str().starts_with("secret"))
            .count()
    };
    assert_eq!((secret(&net, 0), secret(&net, 1)), (30, 0));
    assert_eq!(net.parties[1].logs().logs().count(), 30);
}

#[test]
fn a_gate_that_refuses_says_so_and_nothing_else() {
    for dials in [0, 1] {
        let mut net = gated(None);
        let wire = net.connect(dials, 1 - dials, Weather::FAIR);
        net.run(20_000);
        assert!(net.parties[1].logs().logs().next().is_none());
        let of = |index: usize| {
            let of = |(_, there, _, _): &&(u64, usize, SessionId, SessionEvent)| *there == index;
            net.events.iter().filter(of).map(|(.., event)| event.clone()).collect::<Vec<_>>()
        };
        assert_eq!(of(0), [SessionEvent::Ended(EndReason::NotAdmitted)]);
        assert_eq!(of(1).last(), Some(&SessionEvent::Ended(EndReason::Refused(Refusal::NotAdmitted))));
        assert!(net.bytes(wire) < 800);
    }
}

#[test]
fn a_wider_scope_brings_what_a_narrower_one_left() {
    let mut net = gated(Some(&["*"]));
    let narrow = |options: SessionOptions| options.with_scope(Scope::of(&["open/*"]).unwrap());
    let wire = net.connect_with(
        0,
        1,
        Weather::FAIR,
        narrow(SessionOptions::dial()),
        narrow(SessionOptions::listen()),
    );
    net.run(5_000);
    assert_eq!(net.parties[1].logs().logs().count(), 30);
    net.cut(wire);
    net.connect(1, 0, Weather::FAIR);
    net.run(5_000);
    assert_eq!(net.parties[0].roots(), net.parties[1].roots());
}

#[test]
fn a_handshake_of_a_byte_a_minute_times_out() {
    let mut net = pair();
    let start = net.now;
    let (_, dialing) = attack_with(
        &mut net,
        0,
        true,
        Weather::STREAM,
        |options| options,
        |foe| foe.tick = Some(start + 60_000),
        |_, _| {},
    );
    // What it sends goes nowhere: a stream of which nothing whole has come.
    net.parties.last_mut().unwrap().foe().poll(0);
    let (_, listening) = attack_with(
        &mut net,
        0,
        false,
        Weather::FAIR,
        |options| options,
        |foe| foe.listens = false,
        |_, _| {},
    );
    net.run(14_000);
    assert_eq!((ended(&net, dialing), ended(&net, listening)), (None, None));
    net.run(2_000);
    for wire in [dialing, listening] {
        assert_eq!(ended(&net, wire), Some(EndReason::TimedOut));
        // Nine hellos of 71 bytes.
        assert!(net.wires[wire].bytes.iter().sum::<usize>() < 700);
    }
    settled(&mut net);
}

#[test]
fn clocks_that_jump_end_sessions_with_a_reason_at_most() {
    for jump in [DECADE as i64, -(DECADE as i64), 100_000, 40_000, -40_000] {
        for jumps_at in [0, 1, 2, 4, 7, 30] {
            let mut net = two();
            net.now = 2 * DECADE;
            let now = net.time();
            for n in 0..40 {
                event(net.node(0), &format!("talk/{n}"), &"a word ".repeat(500), now);
            }
            let options = |options: SessionOptions| options.with_window(8 << 10).with_frame_bytes(2_000);
            let line = Line::with(
                &mut net,
                0,
                options(SessionOptions::dial()),
                1,
                options(SessionOptions::listen()),
            );
            let honest = net.now;
            for step in 0..400 {
                for dials in [true, false] {
                    // The clock of one side jumps ahead, and later back.
                    let there = dials && (jumps_at..jumps_at + 10).contains(&step);
                    net.now = if there { honest.saturating_add_signed(jump) } else { honest } + step * 10;
                    let now = net.time();
                    let party = line.end(dials).0;
                    net.parties[party].timeout(now);
                    for (dialed, frame) in line.sent(&mut net, dials) {
                        net.now = honest + step * 10;
                        let _ = line.give(&mut net, !dialed, &frame);
                    }
                }
            }
            line.note(&mut net);
            for dials in [true, false] {
                let ended = line.ended(&net, dials);
                let said = matches!(ended, None | Some(EndReason::TimedOut | EndReason::PeerDisconnected));
                assert!(said, "{jump} {jumps_at}: {ended:?}");
            }
            assert!(!net.events.iter().any(|(.., event)| matches!(event, SessionEvent::Fault(_))));
            line.hang_up(&mut net);
            net.connect(1, 0, Weather::FAIR);
            net.run(60_000);
            assert_eq!(net.parties[0].roots(), net.parties[1].roots(), "{jump} {jumps_at}");
        }
    }
}

/// Two replicas on clocks of their own, and a session between them.
struct Pair {
    nodes: [Node; 2],
    sessions: [SessionId; 2],
}

impl Pair {
    fn opened(clocks: [Timestamp; 2]) -> Self {
        let open = |agent: u8| {
            let now = clocks[usize::from(agent)];
            Node::open(agent, u64::from(agent) + 1, Disk::default(), How::Fresh, now)
        };
        let mut nodes = [open(0), open(1)];
        let sessions = Self::connected(&mut nodes, clocks);
        Self { nodes, sessions }
    }

    fn connected([dials, listens]: &mut [Node; 2], [first, second]: [Timestamp; 2]) -> [SessionId; 2] {
        [
            dials.replica.connect(dials.writer, SessionOptions::dial(), first).unwrap(),
            listens.replica.connect(listens.writer, SessionOptions::listen(), second).unwrap(),
        ]
    }

    /// Everything that the two have to say at these times.
    fn talk(&mut self, clocks: [Timestamp; 2]) {
        let (mut frame, mut frames) = (Vec::new(), 0);
        loop {
            let before = frames;
            for (from, to) in [(0, 1), (1, 0)] {
                self.nodes[from].store();
                while self.nodes[from].replica.poll_transmit(self.sessions[from], clocks[from], &mut frame) {
                    frames += 1;
                    assert!(frames < 1_000, "{from} sends without an end at {clocks:?}");
                    let _ = self.nodes[to].replica.handle_input(self.sessions[to], &frame, clocks[to]);
                    frame.clear();
                }
            }
            if frames == before {
                return;
            }
        }
    }

    /// As a host does that wakes up when something is due.
    fn wake(&mut self, clocks: [Timestamp; 2]) {
        for (node, now) in self.nodes.iter_mut().zip(clocks) {
            let mut woken = 0;
            while node.replica.poll_timeout().is_some_and(|due| due <= now) {
                node.replica.handle_timeout(now);
                node.store();
                woken += 1;
                assert!(woken < 10, "something is due again and again at {now:?}");
            }
        }
    }
}

#[test]
fn whatever_a_clock_says_a_session_comes_to_an_end_and_the_next_one_works() {
    let times = [0, 1, 1 << 48, u64::MAX / 2, u64::MAX - 1, u64::MAX].map(Timestamp::from_millis);
    let times = times.into_iter().chain([at(0)]);
    for first in times.clone() {
        for second in times.clone() {
            for other in [first, second, at(0)] {
                let mut pair = Pair::opened([first, other]);
                for now in [first, second, first, second] {
                    event(&mut pair.nodes[0], TOPIC, "a word", now);
                    pair.talk([now, other]);
                    pair.wake([now, other]);
                }
                // The clocks are right at last.
                for ms in 10..13 {
                    pair.wake([at(ms), at(ms)]);
                    pair.talk([at(ms), at(ms)]);
                }
                pair.sessions = Pair::connected(&mut pair.nodes, [at(20), at(20)]);
                // Else what it says before a peer has told the time follows on what it said while its clock was ahead.
                pair.nodes[0].replica.trust_clock(at(20));
                event(&mut pair.nodes[0], TOPIC, "the last word", at(20));
                pair.talk([at(20), at(20)]);
                let last =
                    |node: &Node| node.events().iter().filter(|event| *event == "the last word").count();
                assert_eq!(pair.nodes.each_ref().map(last), [1, 1], "{first:?}, {second:?}, {other:?}");
            }
        }
    }
}

#[test]
fn hosts_may_connect_as_they_like() {
    // Two sessions with one peer, from both sides, and one with oneself.
    let mut net = two();
    work(&mut net, "before");
    net.connect(0, 1, Weather::FAIR);
    net.connect(0, 1, Weather::STREAM);
    net.connect(1, 0, Weather::FOUL);
    let with_itself = net.connect(0, 0, Weather::FAIR);
    net.run(5_000);
    work(&mut net, "more");
    net.run(5_000);
    assert!(events(&net, with_itself).contains(&SessionEvent::InSync));
    assert!(
        !net.events
            .iter()
            .any(|(.., event)| matches!(event, SessionEvent::Fault(_) | SessionEvent::Ended(_)))
    );
    agreed(&mut net);
    assert_eq!(net.parties[0].roots(), net.parties[1].roots());
    // Both dial; both listen.
    let dial =
        |net: &mut Net| net.connect_with(0, 1, Weather::FAIR, SessionOptions::dial(), SessionOptions::dial());
    let wires = [
        dial(&mut net),
        net.connect_with(0, 1, Weather::FAIR, SessionOptions::listen(), SessionOptions::listen()),
    ];
    net.run(20_000);
    for (wire, reason) in
        wires.into_iter().zip([EndReason::Handshake(HandshakeError::BothDial), EndReason::TimedOut])
    {
        for (party, session) in net.wires[wire].ends {
            let of = |(_, index, id, _): &&(u64, usize, _, SessionEvent)| *index == party && *id == session;
            let said: Vec<_> = net.events.iter().filter(of).map(|(.., event)| event.clone()).collect();
            assert_eq!(said, [SessionEvent::Ended(reason)]);
        }
    }
    // After the end, and with an id of somebody else's.
    let (_, over) = net.wires[wires[0]].ends[0];
    let now = net.time();
    assert_eq!(net.parties[0].input(over, &foe::frame(foe::DATA, &[0; 20]), now), Err(InputError::Unknown));
    assert!(net.parties[0].transmit(over, now).is_none());
    let (_, foreign) = net.wires[with_itself].ends[1];
    assert!(net.parties[1].input(foreign, &foe::frame(foe::DATA, &[0; 20]), now).is_err());
    assert!(net.parties[1].transmit(foreign, now).is_none());
    net.parties[1].drop_session(foreign);
    work(&mut net, "after");
    net.run(5_000);
    assert_eq!(net.parties[0].roots(), net.parties[1].roots());
}

#[test]
fn who_leaves_or_dies_at_any_moment_loses_nothing() {
    seeds(40, |seed| {
        let mut dice = Dice::new(seed);
        let mut net = two();
        let mut wires = Vec::new();
        for round in 0..8 {
            let weather = [Weather::FAIR, Weather::FOUL, Weather::STREAM][dice.index(3)];
            let wire = net.connect(dice.index(2), 0, weather);
            if net.wires[wire].ends[0].0 == 0 {
                net.cut(wire);
                wires.push(net.connect(0, 1, weather));
            } else {
                wires.push(wire);
            }
            work(&mut net, if round == 0 { "before" } else { "more" });
            for n in 0..dice.roll(30) {
                let now = net.time();
                event(net.node(dice.index(2)), &format!("talk/{n}"), &"a word ".repeat(100), now);
            }
            net.run(dice.roll(300));
            let victim = dice.index(2);
            if dice.one_in(2) {
                wires.drain(..).for_each(|wire| net.cut(wire));
                continue;
            }
            // What was confirmed is on the disk, and nothing else. Then the process is another one.
            let disk = net.node(victim).disk();
            for wire in wires.drain(..) {
                net.wires[wire].cut = true;
                let (party, session) =
                    *net.wires[wire].ends.iter().find(|(party, _)| *party != victim).unwrap();
                net.parties[party].drop_session(session);
            }
            let before = net.parties[victim].roots();
            let again = Node::open(victim as u8, seed * 100 + round, disk, How::Resumed, net.time());
            net.parties[victim] = Party::Replica(Box::new(again));
            let after = net.parties[victim].roots();
            assert!(
                before.iter().all(|(log, size, _)| {
                    after.iter().any(|(there, now, _)| there == log && now >= size)
                })
            );
        }
        net.connect(0, 1, Weather::FAIR);
        work(&mut net, "after");
        net.run(30_000);
        agreed(&mut net);
        assert_eq!(net.parties[0].roots(), net.parties[1].roots());
        assert!(!net.events.iter().any(|(.., event)| matches!(event, SessionEvent::Fault(_))));
        for key in ["before 0", "before 1", "after 0", "after 1"] {
            assert!(net.node(0).get(key).is_some());
        }
    });
}

#[test]
fn what_is_not_confirmed_does_not_leave() {
    for dials in [true, false] {
        let mut net = two();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&seen);
        // A foe that hears everything, at a victim whose host confirms nothing: frames are carried by hand.
        let (foe, wire) = attack(&mut net, dials, move |foe, heard| match heard {
            Heard::Message(foe::ROOT, rest) => foe.say(&foe::offers(foe::pass_of(rest), foe::ALL, &[])),
            Heard::Opened if foe.dials => foe.say(&foe::root(1, [1; 32], None)),
            Heard::Message(foe::OFFERS, _) => foe.say(&foe::offers(1, foe::ANSWERING, &[])),
            Heard::Message(kind, rest) => notes.lock().unwrap().push((*kind, rest.clone())),
            _ => {}
        });
        let (party, session) = *net.wires[wire].ends.iter().find(|(party, _)| *party != foe).unwrap();
        let exchange = |net: &mut Net| {
            for _ in 0..20 {
                net.now += 10;
                let now = net.time();
                let Party::Replica(node) = &mut net.parties[party] else { panic!() };
                let mut frames = Vec::new();
                loop {
                    let mut frame = Vec::new();
                    if !node.replica.poll_transmit(session, now, &mut frame) {
                        break;
                    }
                    frames.push(frame);
                }
                let at = net.now;
                let mut answers = Vec::new();
                let foe = net.parties[foe].foe();
                frames.iter().for_each(|frame| foe.input(frame, at));
                while let Some(frame) = foe.poll(at) {
                    answers.push(frame);
                }
                let Party::Replica(node) = &mut net.parties[party] else { panic!() };
                for frame in answers {
                    node.replica.handle_input(session, &frame, now).unwrap();
                }
            }
        };
        let has = |what: &[u8]| {
            let seen = seen.lock().unwrap();
            seen.iter().any(|(_, rest): &(u8, Vec<u8>)| rest.windows(what.len()).any(|there| there == what))
        };
        exchange(&mut net);
        for (n, word) in ["the first word", "the second word", "the third word"].iter().enumerate() {
            let now = net.time();
            let node = net.node(party);
            let mut tx = node.replica.transact(node.writer, "team", now).unwrap();
            tx.map("tasks").set("key", *word).unwrap();
            tx.commit().unwrap();
            node.replica.append_event(node.writer, "talk", word.as_bytes(), now).unwrap();
            exchange(&mut net);
            assert!(!has(word.as_bytes()), "{n}: it has left before it was confirmed");
            net.node(party).store();
            exchange(&mut net);
            assert!(has(word.as_bytes()), "{n}: it was confirmed");
        }
    }
}

#[test]
fn faults_end_one_session_and_a_new_one_works() {
    let mut net = pair();
    let bad = [foe::message(0, &[]), foe::message(foe::ROOT, &[1]), foe::message(foe::DONE, &[1, 9])];
    for message in bad {
        let (foe, wire) = attack(&mut net, true, move |foe, heard| {
            if matches!(heard, Heard::Opened) {
                foe.say(&message.repeat(100));
            }
        });
        net.run(500);
        assert_eq!(faults(&net, wire).len(), 16);
        assert!(faults(&net, wire).iter().all(|fault| matches!(fault, Fault::Message(_))));
        assert_eq!(ended(&net, wire), Some(EndReason::Misbehaved));
        assert!(net.parties[foe].foe().closed);
    }
    settled(&mut net);
}

#[test]
fn who_dials_and_whose_proof_is_lost_learns_of_it() {
    let mut net = Net::new(vec![Party::replica(0, 1), Party::replica(1, 2)], 3);
    let wire = net.connect(0, 1, Weather::FAIR);
    // Until the answer is on its way; then nothing gets through any more.
    net.run(12);
    net.wires[wire].weather.loss = 100;
    net.run(16_000);
    let told = |party| {
        let events = net.events.iter().filter(|(_, index, ..)| *index == party);
        events.map(|(.., event)| event.clone()).collect::<Vec<_>>()
    };
    assert!(matches!(told(0)[..], [SessionEvent::Connected(_), SessionEvent::Ended(EndReason::TimedOut)]));
    assert_eq!(told(1), [SessionEvent::Ended(EndReason::TimedOut)]);
}
