//! Recorded hellos that somebody who is no member plays again: they cost a listener a few signatures, and honest peers
//! still come in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use consilience::sync::session::{Scope, SessionEvent, SessionId, SessionOptions};
use consilience::sync::{AgentId, Keypair, Limits, Relay, SignError, Signature, Signer};

use crate::foe::{self, Foe, Heard};
use crate::hostile::{attack_with, work};
use crate::replicas::{Dice, keys, secret, seeds};
use crate::world::{Net, Party, Weather};

/// The most answers that hellos without a proof may cost, whatever their number.
const SIGNED_MAX: u64 = 8;
/// A handshake is over after so many milliseconds.
const HANDSHAKE_MS: u64 = 15_000;

/// A key that counts the handshakes that it signs.
pub struct Counting {
    pub keys: Keypair,
    pub handshakes: Arc<AtomicU64>,
}

impl Signer for Counting {
    fn agent(&self) -> AgentId {
        self.keys.agent()
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        if message.starts_with(b"consilience signed handshake") {
            self.handshakes.fetch_add(1, Ordering::Relaxed);
        }
        self.keys.sign(message)
    }
}

/// A replica that dials, a replica that listens, and a relay that listens; and how many handshakes each of the latter
/// signed.
fn watched(seed: u64) -> (Net, [Arc<AtomicU64>; 2]) {
    let mut net = Net::new(vec![Party::replica(0, seed), Party::replica(1, seed + 1)], seed);
    let counts: [Arc<AtomicU64>; 2] = Default::default();
    let signer =
        |agent: u8, count: &Arc<AtomicU64>| Counting { keys: keys(agent), handshakes: Arc::clone(count) };
    net.node(1).replica.add_writer(signer(1, &counts[0])).unwrap();
    let relay = Relay::new(secret(), Limits::default(), signer(2, &counts[1]), [5; 32]);
    net.parties.push(Party::Relay(Box::new(relay)));
    net.asleep.push(false);
    (net, counts)
}

/// The hellos of so many sessions that came to nothing.
fn recorded(net: &mut Net, count: usize) -> Vec<Vec<u8>> {
    let now = net.time();
    let mut record = Vec::new();
    for _ in 0..count {
        let session = net.parties[0].connect(SessionOptions::dial(), now);
        record.push(net.parties[0].transmit(session, now).unwrap());
        net.parties[0].drop_session(session);
    }
    assert!(record.iter().all(|frame| foe::frames(frame)[0].0 == foe::HELLO));
    record
}

/// What a party says to frames that come over a session.
fn said(net: &mut Net, party: usize, session: SessionId, frame: &[u8]) -> Vec<Vec<u8>> {
    let now = net.time();
    let _ = net.parties[party].input(session, frame, now);
    std::iter::from_fn(|| net.parties[party].transmit(session, now)).collect()
}

/// How often somebody was connected.
fn connected(net: &Net, party: usize) -> usize {
    net.said(party, |event| matches!(event, SessionEvent::Connected(_)))
}

#[test]
fn ten_thousand_hellos_that_were_recorded_cost_a_few_signatures() {
    for sessions in [1, 100] {
        let (mut net, counts) = watched(1);
        let record = recorded(&mut net, 100);
        for (listens, count) in [(1, &counts[0]), (2, &counts[1])] {
            let now = net.time();
            let listening: Vec<SessionId> =
                (0..sessions).map(|_| net.parties[listens].connect(SessionOptions::listen(), now)).collect();
            let (mut bytes, mut honest) = (0, 0);
            for turn in 0..10_000 {
                let hello = &record[turn % record.len()];
                let session = listening[turn / record.len() % sessions];
                bytes += said(&mut net, listens, session, hello).iter().map(Vec::len).sum::<usize>();
                // Somebody honest dials meanwhile, over another connection.
                if turn % 1_000 == 999 {
                    let before = connected(&net, listens);
                    let wire = net.connect(0, listens, Weather::STREAM);
                    net.run(200);
                    assert_eq!(connected(&net, listens), before + 1, "turn {turn}: {:?}", net.events);
                    net.cut(wire);
                    honest += 1;
                }
            }
            let signed = count.load(Ordering::Relaxed);
            assert!(signed <= honest + SIGNED_MAX, "{sessions} sessions, {listens}: {signed} signatures");
            assert!(bytes <= 10_000 * record[0].len() * 2, "{bytes} bytes for what came");
        }
    }
}

#[test]
fn an_honest_peer_comes_in_over_the_connection_that_is_flooded() {
    seeds(20, |seed| {
        let (mut net, counts) = watched(seed);
        let record = recorded(&mut net, 100);
        let mut dice = Dice::new(seed);
        for (listens, count) in [(1, &counts[0]), (2, &counts[1])] {
            let wire = net.connect(0, listens, Weather::FOUL);
            let (_, session) = net.wires[wire].ends[1];
            let before = connected(&net, listens);
            for _ in 0..1_000 {
                for _ in 0..10 {
                    let now = net.time();
                    let _ = net.parties[listens].input(session, &record[dice.index(record.len())], now);
                }
                net.run(10);
            }
            assert_eq!(connected(&net, listens), before + 1, "seed {seed}: {:?}", net.events);
            let signed = count.load(Ordering::Relaxed);
            // Those of the honest side get lost as well, and each of its hellos is answered anew if it was pushed out.
            assert!(signed <= 2 * SIGNED_MAX, "seed {seed}, {listens}: {signed} signatures");
            net.cut(wire);
        }
    });
}

#[test]
fn a_hello_that_was_made_for_one_session_is_of_no_use_in_another() {
    let (mut net, counts) = watched(1);
    let record = recorded(&mut net, 20);
    let now = net.time();
    let [flooded, other] = [0; 2].map(|_| net.parties[1].connect(SessionOptions::listen(), now));
    record.iter().for_each(|hello| drop(said(&mut net, 1, flooded, hello)));
    let signed = counts[0].load(Ordering::Relaxed);
    assert_eq!(signed, SIGNED_MAX);
    // Twenty honest sides repeat the challenge, and somebody writes down what they say.
    let mut made = Vec::new();
    for _ in 0..20 {
        let dials = net.parties[0].connect(SessionOptions::dial(), now);
        let hello = net.parties[0].transmit(dials, now).unwrap();
        let challenge = said(&mut net, 1, flooded, &hello);
        assert_eq!(foe::frames(&challenge[0])[0].0, foe::CHALLENGE);
        let again = said(&mut net, 0, dials, &challenge[0]);
        assert_eq!(again.len(), 1, "it is sent at once");
        assert!(said(&mut net, 0, dials, &challenge[0]).is_empty(), "and once");
        made.push(again[0].clone());
    }
    // Elsewhere they prove nothing.
    for hello in &made {
        let said = said(&mut net, 1, other, hello);
        assert_eq!(foe::frames(&said[0])[0].0, foe::CHALLENGE);
    }
    assert_eq!(counts[0].load(Ordering::Relaxed), signed);
    // And where they do, not for ever.
    for turn in 0..10_000 {
        said(&mut net, 1, flooded, &made[turn % made.len()]);
    }
    assert!(counts[0].load(Ordering::Relaxed) <= signed + 32, "{counts:?}");
}

#[test]
fn a_challenge_is_a_members_and_to_the_hello_that_it_names() {
    let (mut net, _) = watched(1);
    let now = net.time();
    let record = recorded(&mut net, 20);
    let listens = net.parties[1].connect(SessionOptions::listen(), now);
    let challenges: Vec<Vec<u8>> =
        record.iter().flat_map(|hello| said(&mut net, 1, listens, hello)).skip(8).collect();
    assert_eq!(challenges.len(), 12);
    let dials = net.parties[0].connect(SessionOptions::dial(), now);
    let hello = net.parties[0].transmit(dials, now).unwrap();
    let own = said(&mut net, 1, listens, &hello).remove(0);
    for other in &challenges {
        assert!(said(&mut net, 0, dials, other).is_empty());
    }
    for at in 2..own.len() {
        let mut bad = own.clone();
        bad[at] ^= 1;
        assert!(net.parties[0].input(dials, &bad, now).is_err(), "byte {at}");
        assert!(net.parties[0].transmit(dials, now).is_none());
    }
    let again = said(&mut net, 0, dials, &own);
    assert_eq!(foe::frames(&again[0])[0].1.len(), foe::frames(&hello)[0].1.len() + 16);
}

#[test]
fn a_pause_ends_the_caution_and_a_proof_gives_back_what_it_cost() {
    let (mut net, _) = watched(1);
    let record = recorded(&mut net, 8);
    let answered_by = |net: &mut Net| {
        let now = net.time();
        let dials = net.parties[0].connect(SessionOptions::dial(), now);
        let listens = net.parties[1].connect(SessionOptions::listen(), now);
        let hello = net.parties[0].transmit(dials, now).unwrap();
        let answer = said(net, 1, listens, &hello).remove(0);
        net.parties[0].drop_session(dials);
        net.parties[1].drop_session(listens);
        foe::frames(&answer)[0].0
    };
    for _ in 0..40 {
        let wire = net.connect(0, 1, Weather::STREAM);
        net.run(100);
        net.cut(wire);
    }
    assert_eq!((connected(&net, 1), answered_by(&mut net)), (40, foe::ANSWER));
    let now = net.time();
    let listens = net.parties[1].connect(SessionOptions::listen(), now);
    record.iter().for_each(|hello| drop(said(&mut net, 1, listens, hello)));
    assert_eq!(answered_by(&mut net), foe::CHALLENGE);
    net.run(HANDSHAKE_MS - 1);
    assert_eq!(answered_by(&mut net), foe::CHALLENGE);
    net.run(HANDSHAKE_MS);
    assert_eq!(answered_by(&mut net), foe::ANSWER);
}

/// The foe's bytes come from the documents alone, so this is what they say.
#[test]
fn a_challenge_is_spelled_as_it_is_written_down() {
    for dials in [true, false] {
        let (mut net, _) = watched(1);
        work(&mut net, "before");
        let record = recorded(&mut net, 8);
        let now = net.time();
        let flooded = net.parties[0].connect(SessionOptions::listen(), now);
        record.iter().for_each(|hello| drop(said(&mut net, 0, flooded, hello)));
        let challenge = (!dials).then_some([3; 16]);
        let script = |_: &mut Foe, _: &Heard| {};
        let with = |foe: &mut Foe| foe.challenge = challenge;
        let (foe, wire) = attack_with(&mut net, 0, dials, Weather::FAIR, |options| options, with, script);
        net.run(200);
        assert!(net.parties[foe].foe().session_keys.is_some(), "{dials}");
        assert!(net.parties[foe].foe().challenge.is_some());
        let (party, session) = *net.wires[wire].ends.iter().find(|(party, _)| *party == 0).unwrap();
        let scope = net.node(party).replica.scope(session).map(Scope::is_everything);
        assert_eq!(scope, Some(true));
    }
}
