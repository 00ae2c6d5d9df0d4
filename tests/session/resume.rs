//! Two that have met meet again: in few bytes, without signatures, and with the same promises.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use consilience::sync::session::{
    EndReason, HandshakeError, Refusal, SessionEvent, SessionId, SessionOptions,
};
use consilience::sync::{AgentId, Limits, Relay, Signer};

use crate::foe::{self, Foe, Heard, Secrets};
use crate::hostile::work;
use crate::noise::Handshake;
use crate::outside::{Frame, Line, meets, two};
use crate::replays::Counting;
use crate::replicas::{How, Node, at, config, keys, secret};
use crate::world::{Net, Party};

const DAY: u64 = 24 * 60 * 60 * 1_000;

fn to(agent: u8) -> SessionOptions {
    SessionOptions::dial().with_expected(keys(agent).agent())
}

/// Replica 0 calls replica 1, which it expects there, until both are quiet. Gives the frames.
fn call(net: &mut Net) -> (Line, Vec<Frame>) {
    let line = Line::with(net, 0, to(1), 1, SessionOptions::listen());
    let frames = line.run(net);
    (line, frames)
}

fn kinds(frames: &[Frame]) -> Vec<u8> {
    frames.iter().map(|(_, frame)| foe::frames(frame)[0].0).collect()
}

/// Both have met, hold the same, and have hung up.
fn met() -> Net {
    let mut net = two();
    work(&mut net, "before");
    let (line, frames) = call(&mut net);
    assert!(line.is_in_sync(&net) && kinds(&frames).contains(&foe::PROOF));
    line.hang_up(&mut net);
    net
}

/// A new process with the same store.
fn restart(net: &mut Net, party: usize, seed: u64) {
    let (disk, now) = (net.node(party).disk(), net.time());
    net.parties[party] = Party::Replica(Box::new(Node::open(party as u8, seed, disk, How::Resumed, now)));
}

#[test]
fn two_equal_replicas_meet_again_in_300_bytes_also_after_both_were_stopped() {
    for stored in ["not stopped", "journal", "snapshot"] {
        let mut net = met();
        if stored == "snapshot" {
            (0..2).for_each(|party| net.node(party).snapshot());
        }
        if stored != "not stopped" {
            (0..2).for_each(|party| restart(&mut net, party, 40 + party as u64));
        }
        for again in 0..3 {
            net.now += 2_000;
            let (line, frames) = call(&mut net);
            assert!(line.is_in_sync(&net), "{:?}", net.events);
            let bytes: usize = frames.iter().map(|(_, frame)| frame.len()).sum();
            let each: Vec<usize> = frames.iter().map(|(_, frame)| frame.len()).collect();
            println!("{stored}, {again}: {bytes} bytes in frames of {each:?}");
            assert!(bytes <= 300, "{stored}, {again}: {bytes} bytes in frames of {each:?}");
            assert_eq!(kinds(&frames)[..3], [foe::HELLO, foe::ANSWER, foe::DATA]);
            assert_eq!(
                frames[..3].iter().map(|(dialed, _)| *dialed).collect::<Vec<_>>(),
                [true, false, true]
            );
            for (dials, agent) in [(true, 1), (false, 0)] {
                let peer = line.events(&net, dials).into_iter().find_map(|event| match event {
                    SessionEvent::Connected(peer) => Some(peer.agent),
                    _ => None,
                });
                assert_eq!(peer, Some(keys(agent).agent()));
            }
            line.hang_up(&mut net);
        }
        meets(&mut net);
    }
}

#[test]
fn who_resumes_signs_nothing_on_either_side() {
    let mut net = two();
    let counts: [Arc<AtomicU64>; 2] = Default::default();
    for (party, count) in counts.iter().enumerate() {
        let signer = Counting { keys: keys(party as u8), handshakes: Arc::clone(count) };
        net.node(party).replica.add_writer(signer).unwrap();
    }
    for turn in 0..4 {
        let (line, _) = call(&mut net);
        assert!(line.is_in_sync(&net));
        line.hang_up(&mut net);
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "turn {turn}: {counts:?}");
    }
    // A day after the signatures they sign again.
    net.now += DAY;
    let (line, frames) = call(&mut net);
    assert!(line.is_in_sync(&net) && kinds(&frames).contains(&foe::PROOF));
    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 2), "{counts:?}");
}

#[test]
fn a_listener_that_does_not_remember_is_told_again_in_the_same_session() {
    // It was reinstalled.
    let mut net = met();
    net.parties[1] = Party::replica(1, 77);
    let (line, frames) = call(&mut net);
    assert!(line.is_in_sync(&net), "{:?}", net.events);
    let first = [foe::HELLO, foe::REFUSAL, foe::HELLO, foe::ANSWER, foe::PROOF, foe::DATA];
    assert_eq!(kinds(&frames)[..6], first);
    line.hang_up(&mut net);
    let (line, frames) = call(&mut net);
    assert!(line.is_in_sync(&net));
    assert_eq!(kinds(&frames)[..3], [foe::HELLO, foe::ANSWER, foe::DATA]);
    line.hang_up(&mut net);
    // Over a channel with a name both resume; who sits in between two of different names is found out by the signatures.
    for (ours, theirs, ends) in
        [([1; 32], [1; 32], None), ([1; 32], [2; 32], Some(HandshakeError::Signature))]
    {
        let dial = to(1).with_binding(&ours);
        let line = Line::with(&mut net, 0, dial, 1, SessionOptions::listen().with_binding(&theirs));
        let frames = line.run(&mut net);
        let second = if ends.is_none() { foe::ANSWER } else { foe::REFUSAL };
        assert_eq!(kinds(&frames)[..2], [foe::HELLO, second]);
        assert_eq!(line.ended(&net, true), ends.map(EndReason::Handshake));
        assert_eq!(line.is_in_sync(&net), ends.is_none());
        line.hang_up(&mut net);
    }
    // With equal bindings they resume.
    let mut net = two();
    for turn in 0..3 {
        let dial = to(1).with_binding(&[3; 32]);
        let line = Line::with(&mut net, 0, dial, 1, SessionOptions::listen().with_binding(&[3; 32]));
        let frames = line.run(&mut net);
        assert_eq!(kinds(&frames).contains(&foe::PROOF), turn == 0);
        line.hang_up(&mut net);
    }
}

#[test]
fn a_resumed_hello_that_is_played_again_costs_no_signature_and_leads_nowhere() {
    let mut net = met();
    let count: Arc<AtomicU64> = Arc::default();
    let signer = Counting { keys: keys(1), handshakes: Arc::clone(&count) };
    net.node(1).replica.add_writer(signer).unwrap();
    let now = net.time();
    let played = |net: &mut Net, record: &[Frame], session: SessionId| {
        let mut said = Vec::new();
        for (dialed, frame) in record {
            if *dialed {
                let _ = net.parties[1].input(session, frame, now);
                said.extend(std::iter::from_fn(|| net.parties[1].transmit(session, now)));
            }
        }
        said
    };
    // One that was kept back before it came: it is answered, and no data is there that opens.
    let kept = net.parties[0].connect(to(1), now);
    let hello = vec![(true, net.parties[0].transmit(kept, now).unwrap())];
    net.parties[0].drop_session(kept);
    let mut answers = 0;
    for _ in 0..200 {
        let session = net.parties[1].connect(SessionOptions::listen(), now);
        let said = played(&mut net, &hello, session);
        answers += said.iter().filter(|frame| foe::frames(frame)[0].0 == foe::ANSWER).count();
        net.parties[1].drop_session(session);
    }
    assert!(answers <= 8, "{answers} answers: then a challenge");
    // One that was used.
    net.now += 16_000;
    let (line, record) = call(&mut net);
    assert!(line.is_in_sync(&net));
    line.hang_up(&mut net);
    let before = count.load(Ordering::Relaxed);
    for _ in 0..200 {
        let now = net.time();
        let session = net.parties[1].connect(SessionOptions::listen(), now);
        let said = played(&mut net, &record, session);
        assert!(said.iter().all(|frame| foe::frames(frame)[0].0 == foe::REFUSAL));
        net.parties[1].drop_session(session);
    }
    assert_eq!(count.load(Ordering::Relaxed), before);
    while let Some((_, event)) = net.parties[1].event() {
        assert!(!matches!(event, SessionEvent::Connected(_)), "{event:?}");
    }
    let (line, _) = call(&mut net);
    assert!(line.is_in_sync(&net));
}

#[test]
fn frames_of_a_resumed_session_that_are_changed_or_played_again_change_nothing() {
    let mut net = met();
    let line = Line::with(&mut net, 0, to(1), 1, SessionOptions::listen());
    let mut all: Vec<Frame> = Vec::new();
    loop {
        let mut frames = line.sent(&mut net, true);
        frames.extend(line.sent(&mut net, false));
        if frames.is_empty() {
            break;
        }
        for (dialed, frame) in frames {
            for at in 0..frame.len() {
                let mut bad = frame.clone();
                bad[at] ^= 1 << (at % 8);
                let _ = line.give(&mut net, !dialed, &bad);
                let _ = line.give(&mut net, !dialed, &frame[..at]);
            }
            line.give(&mut net, !dialed, &frame).unwrap();
            all.push((dialed, frame));
            for (dialed, old) in &all {
                let _ = line.give(&mut net, !dialed, old);
                let _ = line.give(&mut net, *dialed, old);
            }
            line.note(&mut net);
            assert_eq!((line.ended(&net, true), line.ended(&net, false)), (None, None));
        }
        net.now += 10;
        assert!(all.len() < 60, "they come to an end");
    }
    assert!(line.is_in_sync(&net), "{:?}", net.events);
    line.hang_up(&mut net);
    meets(&mut net);
}

#[test]
fn a_gate_is_asked_before_a_resumed_session_says_anything() {
    let mut net = met();
    let disk = net.node(1).disk();
    let gated = config(9).with_gate(|peer| {
        (peer.agent != keys(0).agent()).then(consilience::sync::session::Scope::everything)
    });
    let stored = consilience::sync::Stored { snapshot: disk.snapshot.as_deref(), records: &disk.records };
    let opened = consilience::Opened::Resumed(stored);
    let mut replica = consilience::Replica::open(gated, opened, net.time()).unwrap();
    let writer = replica.add_writer(keys(1)).unwrap();
    net.parties[1] =
        Party::Replica(Box::new(Node { replica, writer, agent: 1, snapshot: None, records: Vec::new() }));
    // Its sessions are counted anew.
    net.events.clear();
    let (line, frames) = call(&mut net);
    let last = frames.last().unwrap();
    assert_eq!(
        (kinds(&frames)[..3].to_vec(), foe::frames(&last.1)[0].0),
        (vec![foe::HELLO, foe::ANSWER, foe::DATA], foe::REFUSAL)
    );
    assert!(!frames.iter().any(|(dialed, frame)| !dialed && foe::frames(frame)[0].0 == foe::DATA));
    assert_eq!(line.ended(&net, true), Some(EndReason::Refused(Refusal::NotAdmitted)));
    assert_eq!(line.ended(&net, false), Some(EndReason::NotAdmitted));
}

/// Everything that a thief of both stores finds in them of this kind: name and secret of each resumption.
fn stolen(net: &mut Net) -> Vec<[u8; 32]> {
    let mut found = Vec::new();
    for party in 0..2 {
        net.node(party).snapshot();
        let disk = net.node(party).disk();
        for bytes in [disk.snapshot.unwrap_or_default(), disk.records] {
            found.extend(bytes.windows(32).map(|window| <[u8; 32]>::try_from(window).unwrap()));
        }
    }
    found
}

#[test]
fn a_recorded_resumed_session_stays_closed_when_what_it_resumed_and_what_it_left_are_stolen() {
    let mut net = met();
    let mut secrets = stolen(&mut net);
    work(&mut net, "news");
    net.now += 2_000;
    let (line, record) = call(&mut net);
    assert!(line.is_in_sync(&net));
    line.hang_up(&mut net);
    secrets.extend(stolen(&mut net));
    let body = |kind: u8| {
        record.iter().flat_map(|(_, frame)| foe::frames(frame)).find(|(there, _)| *there == kind).unwrap().1
    };
    let (hello, answer, data) = (body(foe::HELLO), body(foe::ANSWER), body(foe::DATA));
    let (clear, first) = foe::hello_parts(&hello);
    let psk = foe::derive("consilience session psk v1", &[secret().as_bytes()]);
    let agents = [keys(0).agent(), keys(1).agent()];
    let mut opened = 0;
    for key in &secrets {
        assert!(foe::open(key, foe::DATA, &data).is_none());
        let resumed = foe::derive("consilience session resumed psk v1", &[&psk, key]);
        let mut handshake = Handshake::new(&[&[0x11], clear].concat(), resumed, [1; 32]);
        // The one that was used opens the terms: the stores do have it.
        if handshake.read_first(first).is_none() {
            continue;
        }
        opened += 1;
        for guess in secrets.iter().chain([&[0; 32], &psk]) {
            let mut handshake = handshake.clone();
            assert!(handshake.read_second_as(&answer, guess).is_none());
            let guessed = Secrets::new(&handshake, None).keys(&agents[0], &agents[1]);
            assert!(guessed.iter().all(|key| foe::open(key, foe::DATA, &data).is_none()));
        }
    }
    assert!(opened > 0);
}

/// The foe's bytes come from the documents alone, so this is what they say.
#[test]
fn a_resumed_handshake_is_spelled_as_it_is_written_down() {
    let now = |ms: u64| at(ms);
    let mut relay = Relay::new(secret(), Limits::default(), keys(1), [5; 32]);
    let mut resumption = None;
    for turn in 0..3_u64 {
        let session = relay.connect(SessionOptions::listen(), now(turn));
        let mut foe = Foe::new(session, secret(), keys(2), true, |_: &mut Foe, _: &Heard| {});
        foe.nonce = [turn as u8; 16];
        foe.resumes = resumption.map(|resumption| (resumption, keys(1).agent()));
        foe.start();
        for step in 0..4 {
            while let Some(frame) = foe.poll(turn) {
                relay.handle_input(session, &frame, now(turn)).unwrap();
            }
            if step == 1 {
                foe.say(&foe::root(1, [1; 32], None));
            }
            let mut frame = Vec::new();
            while relay.poll_transmit(session, now(turn), &mut frame) {
                foe.input(&std::mem::take(&mut frame), turn);
            }
        }
        assert!(!foe.heard.is_empty(), "turn {turn}");
        let proofs = foe.went.iter().filter(|frame| foe::frames(frame)[0].0 == foe::PROOF).count();
        assert_eq!(proofs, usize::from(turn == 0));
        let connected: Vec<AgentId> = std::iter::from_fn(|| relay.poll_event())
            .filter_map(
                |(_, event)| if let SessionEvent::Connected(peer) = event { Some(peer.agent) } else { None },
            )
            .collect();
        assert_eq!(connected, [keys(2).agent()]);
        resumption = Some(foe.secrets.as_ref().unwrap().resumption(&keys(2).agent(), &keys(1).agent()));
        relay.disconnect(session);
        while relay.poll_transmit(session, now(turn), &mut Vec::new()) {}
        while relay.poll_event().is_some() {}
    }
}
