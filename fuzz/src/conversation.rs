//! A member that says what it likes to one of two honest replicas, under keys that are right.

use std::collections::VecDeque;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use consilience::sync::Relay;
use consilience::sync::session::{SessionEvent, SessionId, SessionOptions};
use consilience::{Config, Opened, Replica, Writer};
use consilience_crdts::{Hlc, Timestamp};
use consilience_sync::{
    Answer, Incarnation, Limits, LogKind, LogOpening, LogSet, NewEntry, RangeForm, Signer, Topic, Want,
};

use crate::foe::{self, Foe};
use crate::keys::Key;
use crate::logs::{T, secret};

/// So many steps show what they can.
const STEPS_MAX: usize = 64;
/// A session's memory, and one message.
const MEMORY_MAX: usize = (256 << 10) + (72 << 10);

/// What the member does next.
#[derive(Arbitrary, Debug)]
pub enum Step {
    /// A message of this kind.
    Say { kind: u8, rest: Vec<u8> },
    /// One of the pass that goes on.
    OfPass { kind: u8, rest: Vec<u8> },
    /// A frame of the reconciliation that goes on, so many turns ahead.
    Frame { kind: u8, ahead: u8, rest: Vec<u8> },
    /// A message that would be right, and a change to it.
    Stock { which: u8, at: u16, flip: u8 },
    /// One that the other side has said.
    Echo { which: u8, at: u16, flip: u8 },
    /// A packet as it is.
    Packet(Vec<u8>),
    /// The victim writes something.
    Write(u8),
    /// So many times 100 milliseconds pass.
    Wait(u8),
}

/// A conversation.
#[derive(Arbitrary, Debug)]
pub struct Conversation {
    dials: bool,
    narrow: bool,
    logs: u8,
    steps: Vec<Step>,
}

struct Honest {
    replica: Replica,
    writer: Writer,
}

impl Honest {
    fn new(agent: u8) -> Self {
        let config = Config::new(secret(), [agent; 32]);
        let mut replica = Replica::open(config, Opened::Fresh, Timestamp::from_millis(T)).unwrap();
        let writer = replica.add_writer(Key(agent)).unwrap();
        Self { replica, writer }
    }

    fn write(&mut self, topic: u8, now: Timestamp) {
        let topic = format!("talk/{}", topic % 8);
        self.replica.append_event(self.writer, &topic, b"a word", now).unwrap();
        let mut tx = self.replica.transact(self.writer, "team", now).unwrap();
        tx.map("tasks").set("key", "value").unwrap();
        tx.commit().unwrap();
        self.store();
    }

    fn store(&mut self) {
        while let Some(record) = self.replica.poll_record() {
            self.replica.confirm(record.id()).unwrap();
        }
    }

    fn sent(&mut self, session: SessionId, now: Timestamp) -> Vec<Vec<u8>> {
        self.store();
        let mut frames = Vec::new();
        while frames.len() < 256 {
            let mut frame = Vec::new();
            if !self.replica.poll_transmit(session, now, &mut frame) {
                break;
            }
            frames.push(frame);
        }
        assert!(self.replica.session_memory(session) <= MEMORY_MAX);
        frames
    }

    fn take(&mut self, session: SessionId, frames: &[Vec<u8>], now: Timestamp) {
        for frame in frames {
            let _ = self.replica.handle_input(session, frame, now);
            assert!(self.replica.session_memory(session) <= MEMORY_MAX);
        }
        self.store();
    }
}

/// Both say what they have to say, for a while.
fn exchange(victim: &mut Honest, session: SessionId, foe: &mut Foe, now: u64) {
    let time = Timestamp::from_millis(T + now);
    for _ in 0..8 {
        let frames = victim.sent(session, time);
        let quiet = frames.is_empty();
        for frame in frames {
            foe.input(&frame, now);
        }
        let answers: Vec<Vec<u8>> = std::iter::from_fn(|| foe.poll(now)).collect();
        if quiet && answers.is_empty() {
            return;
        }
        victim.take(session, &answers, time);
    }
}

/// The number of a session: those of the hostile member are nobody's.
static ID: LazyLock<SessionId> = LazyLock::new(|| {
    let mut relay = Relay::new(secret(), Limits::default(), Key(60), [1; 32]);
    relay.connect(SessionOptions::dial(), Timestamp::from_millis(T))
});

/// Logs of the hostile member, and the messages that open them.
static OWN: LazyLock<(LogSet, Vec<Vec<u8>>)> = LazyLock::new(|| {
    let keys = Key(50);
    let mut set = LogSet::new(secret().id(), Limits::default());
    let mut stock = Vec::new();
    for (incarnation, kind) in [(1, LogKind::Event), (2, LogKind::State)] {
        let opening = LogOpening {
            topic: Topic::new("talk/0").unwrap(),
            kind,
            agent: keys.agent(),
            incarnation: Incarnation::from_u64(incarnation),
        };
        let log = set.open_local(&opening).unwrap();
        let hlc = Hlc::new(Timestamp::from_millis(T), 0);
        set.append(&log, &NewEntry::new(hlc, b"\x01\x00")).unwrap();
        set.sign_head(&log, &keys, Timestamp::from_millis(T)).unwrap();
        stock.push(foe::message(foe::OPEN, &opening.encode(&secret().id())));
    }
    (set, stock)
});

/// What an honest member might say.
fn stock(victim: &Honest) -> Vec<Vec<u8>> {
    let (set, mut stock) = OWN.clone();
    for set in [&set, victim.replica.logs()] {
        for log in set.logs() {
            let want = Want { from: 0, to: 1 << 44, form: RangeForm::Follow };
            if let Answer::Range { bytes, .. } = set.answer(log.id(), &want, 1 << 16) {
                stock.push(foe::range(log.id(), &bytes));
            }
            stock.push(foe::want(log.id(), want));
            stock.push(foe::want(log.id(), Want { from: 1, to: 1, form: RangeForm::Alone }));
            stock.push(foe::offers(1, foe::ALL, &[set.offer(log.id()).unwrap()]));
            stock.push(foe::about(foe::REFUSED, log.id(), &[0]));
            stock.push(foe::about(foe::UNWANTED, log.id(), &[]));
        }
    }
    stock.push(foe::subscribe(&[(2, "talk")]));
    stock.push(foe::subscribe(&[(0, "")]));
    stock
}

fn changed(mut message: Vec<u8>, at: u16, flip: u8) -> Vec<u8> {
    let at = usize::from(at) % message.len().max(1);
    if let Some(byte) = message.get_mut(at) {
        *byte ^= flip;
    }
    message
}

/// Runs a conversation; then the two honest replicas meet, and hold the same.
pub fn run(conversation: &Conversation) {
    let (mut ada, mut bob) = (Honest::new(1), Honest::new(2));
    let mut now = 0;
    for topic in 0..conversation.logs % 6 {
        ada.write(topic, Timestamp::from_millis(T));
    }
    bob.write(7, Timestamp::from_millis(T));
    let options = if conversation.dials { SessionOptions::listen() } else { SessionOptions::dial() };
    let time = |now: u64| Timestamp::from_millis(T + now);
    let session = ada.replica.connect(ada.writer, options, time(0)).unwrap();
    let mut foe = Foe::new(*ID, secret(), Key(50).keypair(), conversation.dials, |_, _| {});
    foe.everything = !conversation.narrow;
    foe.start();
    exchange(&mut ada, session, &mut foe, now);
    assert!(foe.session_keys.is_some(), "the handshake is done");
    let stock = stock(&ada);
    let mut pass = 1;
    if conversation.dials {
        foe.say(&foe::root(1, [1; 32], None));
        exchange(&mut ada, session, &mut foe, now);
    }
    for step in conversation.steps.iter().take(STEPS_MAX) {
        pass = foe.heard_of(foe::ROOT).last().map_or(pass, foe::pass_of);
        match step {
            Step::Say { kind, rest } => foe.say(&foe::message(*kind, rest)),
            Step::OfPass { kind, rest } => {
                if conversation.dials && *kind == foe::ROOT {
                    pass += 1;
                }
                foe.say(&foe::message(*kind, &[&foe::varint(pass), &rest[..]].concat()));
            }
            Step::Frame { kind, ahead, rest } => {
                let compared = foe.heard_of(foe::COMPARE).last().and_then(|rest| {
                    let mut rest = rest;
                    foe::take_varint(&mut rest)?;
                    let part = foe::take_varint(&mut rest)?;
                    rest = rest.get(1..)?;
                    Some((part, foe::take_varint(&mut rest)?))
                });
                let (part, number) = compared.unwrap_or((0, u64::MAX));
                let number = number.wrapping_add(1).wrapping_add(2 * u64::from(*ahead % 4));
                let frame = [&[0x10 | kind & 7][..], &foe::varint(number), rest].concat();
                foe.say(&foe::compare(pass, part, &frame));
            }
            Step::Stock { which, at, flip } => {
                foe.say(&changed(stock[usize::from(*which) % stock.len()].clone(), *at, *flip));
            }
            Step::Echo { which, at, flip } if !foe.heard.is_empty() => {
                let (_, kind, rest) = &foe.heard[usize::from(*which) % foe.heard.len()];
                let message = changed(foe::message(*kind, rest), *at, *flip);
                foe.say(&message);
            }
            Step::Echo { .. } => {}
            Step::Packet(packet) => foe.packet(packet),
            Step::Write(topic) => ada.write(*topic, time(now)),
            Step::Wait(ticks) => {
                now += u64::from(*ticks) * 100;
                ada.replica.handle_timeout(time(now));
            }
        }
        exchange(&mut ada, session, &mut foe, now);
    }
    ada.replica.disconnect(session);
    while ada.replica.poll_event().is_some() {}
    meet(&mut ada, &mut bob, now + 1_000);
}

fn meet(ada: &mut Honest, bob: &mut Honest, mut now: u64) {
    let time = |now: u64| Timestamp::from_millis(T + now);
    let a = ada.replica.connect(ada.writer, SessionOptions::dial(), time(now)).unwrap();
    let b = bob.replica.connect(bob.writer, SessionOptions::listen(), time(now)).unwrap();
    let held = |honest: &Honest| -> Vec<_> {
        let logs = honest.replica.logs().logs().filter(|log| log.size() > 0);
        logs.map(|log| (*log.id(), honest.replica.logs().offer(log.id()))).collect()
    };
    let mut to_come: VecDeque<Vec<Vec<u8>>> = VecDeque::new();
    for round in 0..400 {
        now += 10;
        to_come.push_back(ada.sent(a, time(now)));
        to_come.push_back(bob.sent(b, time(now)));
        if let (Some(from_ada), Some(from_bob)) = (to_come.pop_front(), to_come.pop_front()) {
            bob.take(b, &from_ada, time(now));
            ada.take(a, &from_bob, time(now));
        }
        ada.replica.handle_timeout(time(now));
        bob.replica.handle_timeout(time(now));
        if round > 10 && held(ada) == held(bob) {
            break;
        }
    }
    assert_eq!(held(ada), held(bob), "the honest meet");
    for honest in [ada, bob] {
        while let Some((_, event)) = honest.replica.poll_event() {
            assert!(!matches!(event, SessionEvent::Fault(_)), "{event:?}");
        }
        assert!(honest.replica.verify());
    }
}
