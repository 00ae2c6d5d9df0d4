//! Somebody on the path: who writes down what goes by, and later steals every key; and a member that sits in between.

use consilience::sync::session::{
    EndReason, HandshakeError, Refusal, SessionEvent, SessionId, SessionOptions,
};
use consilience::sync::{Keypair, Limits, MeshSecret, Relay, Signer};

use crate::foe::{self, Foe, Heard, Secrets};
use crate::noise::{self, Handshake};
use crate::outside::{Frame, Line, meets, recorded, two};
use crate::replicas::{at, keys, secret};
use crate::world::Net;

/// The bodies of the frames of a kind, in their order.
fn bodies(frames: &[Frame], kind: u8) -> Vec<(bool, Vec<u8>)> {
    let of = |(dialed, frame): &Frame| {
        let found = foe::frames(frame).into_iter().find(|(there, _)| *there == kind);
        found.map(|(_, body)| (*dialed, body))
    };
    frames.iter().filter_map(of).collect()
}

/// The seed of an agent's key.
fn seed(agent: u8) -> [u8; 32] {
    let seed = [agent + 1; 32];
    assert_eq!(Keypair::from_seed(seed).agent(), keys(agent).agent());
    seed
}

fn has(frame: &[u8], part: &[u8]) -> bool {
    frame.windows(part.len()).any(|window| window == part)
}

/// Everything that can be worked out from the record and the stolen secrets in the way of the protocol: for each guess of the
/// secret that only the two ephemeral keys give, what both sides would have had in common.
fn guesses(hello: &[u8], answer: &[u8], stolen: &[[u8; 32]]) -> Vec<Secrets> {
    let (clear, first) = foe::hello_parts(hello);
    let (second, _) = answer.split_at(answer.len() - 112);
    let psk = foe::derive("consilience session psk v1", &[secret().as_bytes()]);
    let points: [[u8; 32]; 2] = [first, second].map(|message| *message.first_chunk().unwrap());
    let mut shared = vec![[0; 32], psk, points[0], points[1]];
    for key in stolen {
        shared.push(*key);
        // A signing key's scalar and its bytes, with either ephemeral key; and what entropy begins with.
        for point in &points {
            shared.push(noise::shared(key, point));
            shared.push(noise::shared(&foe::derive("consilience session randomness v1", &[key]), point));
        }
    }
    shared
        .into_iter()
        .map(|shared| {
            let mut handshake = Handshake::new(&[&[0x11], clear].concat(), psk, [1; 32]);
            // The mesh's secret opens the terms of the hello: the attack is spelled right.
            assert!(handshake.read_first(first).is_some());
            handshake.read_second_as(second, &shared);
            Secrets::new(&handshake, None)
        })
        .collect()
}

#[test]
fn who_recorded_a_session_and_then_steals_every_key_and_both_stores_reads_nothing_of_it() {
    let mut net = two();
    let record = recorded(&mut net);
    let (hello, answer) = (bodies(&record, foe::HELLO), bodies(&record, foe::ANSWER));
    let data: Vec<(bool, Vec<u8>)> = bodies(&record, foe::DATA);
    assert!(data.len() >= 6, "{} frames", data.len());
    // Nothing that was said stands there, and nobody's name.
    let agents = [keys(0).agent(), keys(1).agent()];
    let said: [&[u8]; 4] = [b"before", b"a value", agents[0].as_bytes(), agents[1].as_bytes()];
    for (_, frame) in &record {
        assert!(!said.iter().any(|part| has(frame, part)));
        assert!(!has(frame, secret().id().discovery_key().as_bytes().first_chunk::<4>().unwrap()));
    }
    let mut stolen = vec![*secret().as_bytes(), *secret().id().as_bytes(), seed(0), seed(1)];
    // Every 32 bytes of both stores.
    for index in 0..2 {
        net.node(index).snapshot();
        let disk = net.node(index).disk();
        for bytes in [disk.snapshot.unwrap_or_default(), disk.records] {
            stolen.extend(bytes.windows(32).map(|window| <[u8; 32]>::try_from(window).unwrap()));
        }
    }
    let (first, sealed) = (&hello[0].1, &answer[0].1);
    let long_terms = &stolen[..4];
    for secrets in guesses(first, sealed, long_terms) {
        assert!(secrets.agent(false, &sealed[sealed.len() - 112..]).is_none());
        for (dialed, body) in &data {
            let keys = secrets.keys(&agents[0], &agents[1]);
            assert!(keys.iter().all(|key| foe::open(key, foe::DATA, body).is_none()), "{dialed}");
        }
    }
    for key in &stolen {
        assert!(foe::open(key, foe::DATA, &data[0].1).is_none());
    }
}

#[test]
fn what_an_honest_side_knows_opens_its_session_in_the_same_way() {
    // The control of the test above: with the ephemeral secret of one side, which it forgets, all of it opens.
    let mut net = two();
    let now = net.time();
    let session = net.parties[0].connect(SessionOptions::dial(), now);
    let mut foe = Foe::new(session, secret(), keys(7), false, |_: &mut Foe, _: &Heard| {});
    let mut data = Vec::new();
    for _ in 0..4 {
        while let Some(frame) = net.parties[0].transmit(session, now) {
            foe.input(&frame, 0);
            data.push((true, frame));
        }
        while let Some(frame) = foe.poll(0) {
            net.parties[0].input(session, &frame, now).unwrap();
        }
    }
    let (ours, theirs, _) = foe.session_keys.unwrap();
    let data = bodies(&data, foe::DATA);
    assert!(!data.is_empty() && data.iter().all(|(_, body)| foe::open(&theirs, foe::DATA, body).is_some()));
    assert!(data.iter().all(|(_, body)| foe::open(&ours, foe::DATA, body).is_none()));
}

/// A member that ends both legs: each side shakes hands with it.
struct Between {
    to_dialer: Foe,
    to_listener: Foe,
}

impl Between {
    fn new(line: &Line, binding: Option<&[u8]>) -> Self {
        let leg = |id: SessionId, dials, nonce| {
            let mut foe = Foe::new(id, secret(), keys(9), dials, |_: &mut Foe, _: &Heard| {});
            foe.nonce = [nonce; 16];
            foe.binding = binding.map(<[u8]>::to_vec);
            foe
        };
        Self { to_dialer: leg(line.dials.1, false, 1), to_listener: leg(line.listens.1, true, 2) }
    }
}

fn give(net: &mut Net, (party, session): (usize, SessionId), foe: &mut Foe) {
    let now = net.time();
    while let Some(frame) = foe.poll(0) {
        let _ = net.parties[party].input(session, &frame, now);
    }
}

fn take(net: &mut Net, (party, session): (usize, SessionId), foe: &mut Foe) {
    let now = net.time();
    while let Some(frame) = net.parties[party].transmit(session, now) {
        foe.input(&frame, 0);
    }
}

#[test]
fn a_member_in_between_speaks_for_nobody_but_itself() {
    for binding in [None, Some(&[5_u8; 32][..])] {
        let options = |options: SessionOptions| match binding {
            Some(binding) => options.with_binding(binding),
            None => options,
        };
        // As itself: each side is told its name, and no other's.
        let mut net = two();
        let line =
            Line::with(&mut net, 0, options(SessionOptions::dial()), 1, options(SessionOptions::listen()));
        let mut between = Between::new(&line, binding);
        between.to_listener.start();
        take(&mut net, line.dials, &mut between.to_dialer);
        give(&mut net, line.dials, &mut between.to_dialer);
        give(&mut net, line.listens, &mut between.to_listener);
        take(&mut net, line.listens, &mut between.to_listener);
        give(&mut net, line.listens, &mut between.to_listener);
        line.note(&mut net);
        for dials in [true, false] {
            let connected = line.events(&net, dials).into_iter().find_map(|event| match event {
                SessionEvent::Connected(peer) => Some((peer.agent, peer.bound)),
                _ => None,
            });
            assert_eq!(connected, Some((keys(9).agent(), binding.is_some())));
        }
        // With the signature that the listener gave it.
        let mut net = two();
        let line =
            Line::with(&mut net, 0, options(SessionOptions::dial()), 1, options(SessionOptions::listen()));
        let mut between = Between::new(&line, binding);
        between.to_listener.start();
        give(&mut net, line.listens, &mut between.to_listener);
        take(&mut net, line.listens, &mut between.to_listener);
        let came = between.to_listener.came.concat();
        let (_, answer) = foe::frames(&came).into_iter().find(|(kind, _)| *kind == foe::ANSWER).unwrap();
        let theirs = between.to_listener.secrets.clone().unwrap();
        let listener = theirs.opened(false, &answer[answer.len() - 112..]).unwrap();
        assert!(listener.starts_with(keys(1).agent().as_bytes()));
        between.to_dialer.says = Some(listener);
        take(&mut net, line.dials, &mut between.to_dialer);
        give(&mut net, line.dials, &mut between.to_dialer);
        line.note(&mut net);
        assert_eq!(line.ended(&net, true), Some(EndReason::Handshake(HandshakeError::Signature)));
        // With the one that the dialer gave it, and with its own under another's name.
        for own in [false, true] {
            let mut net = two();
            let line = Line::with(
                &mut net,
                0,
                options(SessionOptions::dial()),
                1,
                options(SessionOptions::listen()),
            );
            let mut between = Between::new(&line, binding);
            take(&mut net, line.dials, &mut between.to_dialer);
            give(&mut net, line.dials, &mut between.to_dialer);
            take(&mut net, line.dials, &mut between.to_dialer);
            let came = between.to_dialer.came.concat();
            let (_, proof) = foe::frames(&came).into_iter().find(|(kind, _)| *kind == foe::PROOF).unwrap();
            let theirs = between.to_dialer.secrets.clone().unwrap();
            let mut dialer = theirs.opened(true, &proof).unwrap();
            assert!(dialer.starts_with(keys(0).agent().as_bytes()));
            if own {
                dialer[32..].copy_from_slice(&[3; 64]);
            }
            between.to_listener.says = Some(dialer);
            between.to_listener.start();
            give(&mut net, line.listens, &mut between.to_listener);
            take(&mut net, line.listens, &mut between.to_listener);
            give(&mut net, line.listens, &mut between.to_listener);
            line.note(&mut net);
            assert_eq!(line.ended(&net, false), Some(EndReason::Handshake(HandshakeError::Signature)));
            assert!(
                !line.events(&net, false).iter().any(|event| matches!(event, SessionEvent::Connected(_)))
            );
        }
    }
}

#[test]
fn frames_that_are_cut_changed_or_played_again_at_any_place_change_nothing() {
    let mut net = two();
    let line = Line::new(&mut net, 0, 1);
    let mut all: Vec<Frame> = Vec::new();
    loop {
        let mut frames = line.sent(&mut net, true);
        frames.extend(line.sent(&mut net, false));
        if frames.is_empty() {
            break;
        }
        for (dialed, frame) in frames {
            for at in 0..frame.len() {
                for bit in [1, 0x80] {
                    let mut bad = frame.clone();
                    bad[at] ^= bit;
                    let _ = line.give(&mut net, !dialed, &bad);
                }
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
    let connected = |dials| {
        let is = |event: &SessionEvent| matches!(event, SessionEvent::Connected(_));
        line.events(&net, dials).iter().filter(|event| is(event)).count()
    };
    assert_eq!((connected(true), connected(false)), (1, 1));
    line.hang_up(&mut net);
    meets(&mut net);
}

/// Two relays of two meshes, connected.
fn strangers(seconds: u64) -> ([Relay; 2], [SessionId; 2]) {
    let mesh = |number: u8| MeshSecret::from_bytes([number; 32]);
    let relay = |number: u8| Relay::new(mesh(number), Limits::default(), keys(number), [number; 32]);
    let (mut dials, mut listens) = (relay(1), relay(2));
    let now = at(seconds * 1_000);
    let sessions =
        [dials.connect(SessionOptions::dial(), now), listens.connect(SessionOptions::listen(), now)];
    ([dials, listens], sessions)
}

#[test]
fn two_of_different_meshes_are_both_told_so() {
    for hangs_up in [false, true] {
        let ([mut dials, mut listens], [here, there]) = strangers(1);
        let (mut hello, mut refusal) = (Vec::new(), Vec::new());
        assert!(dials.poll_transmit(here, at(1_000), &mut hello));
        listens.handle_input(there, &hello, at(1_000)).unwrap();
        assert!(listens.poll_transmit(there, at(1_000), &mut refusal));
        dials.handle_input(here, &refusal, at(1_000)).unwrap();
        let told = dials.poll_event().map(|(_, event)| event);
        assert_eq!(told, Some(SessionEvent::Ended(EndReason::Refused(Refusal::WrongMesh))));
        assert_eq!(listens.poll_event(), None, "the right one may still come");
        if hangs_up {
            listens.disconnect(there);
        } else {
            listens.handle_timeout(at(2_000));
        }
        let told = listens.poll_event().map(|(_, event)| event);
        assert_eq!(told, Some(SessionEvent::Ended(EndReason::Handshake(HandshakeError::WrongMesh))));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Two relays without any log, whose entropy and clocks are fixed.
fn fixed() -> ([Relay; 2], [SessionId; 2]) {
    let relay = |number: u8| {
        let keys = Keypair::from_seed([number; 32]);
        Relay::new(MeshSecret::from_bytes([7; 32]), Limits::default(), keys, [number + 10; 32])
    };
    let (mut dials, mut listens) = (relay(1), relay(2));
    let sessions =
        [dials.connect(SessionOptions::dial(), at(0)), listens.connect(SessionOptions::listen(), at(0))];
    ([dials, listens], sessions)
}

/// A frame a line, of which the first byte tells the kind: a change to these bytes is a change of the format.
const GOLDEN: &str = include_str!("golden.txt");

#[test]
fn the_frames_of_a_session_with_fixed_entropy_are_those_that_are_written_down() {
    let (mut relays, sessions) = fixed();
    let mut frames: Vec<Vec<u8>> = Vec::new();
    let mut order = Vec::new();
    let mut ms = 0;
    loop {
        let before = frames.len();
        for (from, to) in [(0, 1), (1, 0)] {
            let mut frame = Vec::new();
            while relays[from].poll_transmit(sessions[from], at(ms), &mut frame) {
                let frame = std::mem::take(&mut frame);
                relays[to].handle_input(sessions[to], &frame, at(ms)).unwrap();
                order.push((from == 0, frame[0]));
                frames.push(frame);
            }
        }
        if frames.len() > before {
            continue;
        }
        // The last acknowledgement waits in vain for a packet to go along with.
        if ms > 0 {
            break;
        }
        ms = 20;
        relays.iter_mut().for_each(|relay| relay.handle_timeout(at(ms)));
    }
    // The dialer's first data follows its proof at once, so what it asks is answered in the second round trip.
    assert_eq!(order[..4], [(true, 0x11), (false, 0x12), (true, 0x13), (true, 0x15)]);
    let handshake: usize = frames[..3].iter().map(Vec::len).sum();
    assert!(handshake <= 600, "{handshake} bytes");
    let said: Vec<String> = frames.iter().map(|frame| hex(frame)).collect();
    assert_eq!(
        said,
        GOLDEN.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>(),
        "{}",
        said.join("\n")
    );
}
