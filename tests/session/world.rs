//! Replicas and relays on a simulated network: frames are lost, repeated, delayed and put out of order, connections are
//! cut, and time is a number.

use std::collections::BTreeMap;

use consilience::crdts::Timestamp;
use consilience::sync::session::{FrameDecoder, InputError, SessionEvent, SessionId, SessionOptions};
use consilience::sync::{Hash, Limits, LogId, LogSet, Opened, Relay, Stored};

use crate::foe::Foe;
use crate::replicas::{Dice, Node, START, at};
pub use crate::replicas::{keys, mesh, secret};

/// Who takes part.
#[derive(Debug)]
pub enum Party {
    Replica(Box<Node>),
    Relay(Box<Relay>),
    /// Says what it likes.
    Foe(Box<Foe>),
}

fn since_start(now: Timestamp) -> u64 {
    now.as_millis().saturating_sub(START)
}

impl Party {
    pub fn relay(agent: u8, seed: u8) -> Self {
        Self::Relay(Box::new(Relay::new(secret(), Limits::default(), keys(agent), [seed; 32])))
    }

    /// One that comes back from its stored records.
    pub fn storing_relay(agent: u8, seed: u8, records: &[u8]) -> Self {
        let opened = Opened::Resumed(Stored { snapshot: None, records });
        let relay = Relay::open(secret(), Limits::default(), keys(agent), [seed; 32], opened, at(0));
        Self::Relay(Box::new(relay.unwrap()))
    }

    pub fn replica(agent: u8, seed: u64) -> Self {
        Self::Replica(Box::new(Node::fresh(agent, seed)))
    }

    pub fn node(&mut self) -> &mut Node {
        match self {
            Self::Replica(node) => node,
            _ => panic!("only a replica has a state"),
        }
    }

    pub fn foe(&mut self) -> &mut Foe {
        match self {
            Self::Foe(foe) => foe,
            _ => panic!("an honest party"),
        }
    }

    pub fn logs(&self) -> &LogSet {
        match self {
            Self::Replica(node) => node.replica.logs(),
            Self::Relay(relay) => relay.logs(),
            Self::Foe(_) => panic!("a foe says what it likes"),
        }
    }

    /// What it holds of all logs.
    pub fn roots(&self) -> Vec<(LogId, u64, Option<Hash>)> {
        self.logs().logs().map(|log| (*log.id(), log.size(), log.root())).collect()
    }

    pub fn connect(&mut self, options: SessionOptions, now: Timestamp) -> SessionId {
        match self {
            Self::Replica(node) => node.replica.connect(node.writer, options, now).unwrap(),
            Self::Relay(relay) => relay.connect(options, now),
            Self::Foe(foe) => {
                foe.now = since_start(now);
                foe.start();
                foe.id
            }
        }
    }

    pub fn input(&mut self, session: SessionId, frames: &[u8], now: Timestamp) -> Result<(), InputError> {
        let result = match self {
            Self::Replica(node) => node.replica.handle_input(session, frames, now),
            Self::Relay(relay) => relay.handle_input(session, frames, now),
            Self::Foe(foe) => {
                foe.input(frames, since_start(now));
                Ok(())
            }
        };
        self.store();
        result
    }

    pub fn store(&mut self) {
        if let Self::Replica(node) = self {
            node.store();
        }
    }

    pub fn transmit(&mut self, session: SessionId, now: Timestamp) -> Option<Vec<u8>> {
        let mut frame = Vec::new();
        let sent = match self {
            Self::Replica(node) => node.replica.poll_transmit(session, now, &mut frame),
            Self::Relay(relay) => relay.poll_transmit(session, now, &mut frame),
            Self::Foe(foe) => return foe.poll(since_start(now)),
        };
        sent.then_some(frame)
    }

    pub fn timeout(&mut self, now: Timestamp) {
        match self {
            Self::Replica(node) => node.replica.handle_timeout(now),
            Self::Relay(relay) => relay.handle_timeout(now),
            Self::Foe(foe) => foe.timeout(since_start(now)),
        }
        self.store();
    }

    pub fn next_timeout(&self) -> Option<Timestamp> {
        match self {
            Self::Replica(node) => node.replica.poll_timeout(),
            Self::Relay(relay) => relay.poll_timeout(),
            Self::Foe(foe) => foe.tick.map(at),
        }
    }

    pub fn event(&mut self) -> Option<(SessionId, SessionEvent)> {
        match self {
            Self::Replica(node) => node.replica.poll_event(),
            Self::Relay(relay) => relay.poll_event(),
            Self::Foe(_) => None,
        }
    }

    pub fn memory(&mut self, session: SessionId) -> usize {
        match self {
            Self::Replica(node) => node.replica.session_memory(session),
            Self::Relay(relay) => relay.session_memory(session),
            Self::Foe(_) => 0,
        }
    }

    pub fn drop_session(&mut self, session: SessionId) {
        match self {
            Self::Replica(node) => node.replica.disconnect(session),
            Self::Relay(relay) => relay.disconnect(session),
            Self::Foe(_) => {}
        }
    }
}

/// What a connection does to frames.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Of a hundred.
    pub loss: u64,
    pub repeats: u64,
    /// Each frame takes between these many milliseconds.
    pub delay: (u64, u64),
    /// A stream of bytes, cut anywhere, rather than datagrams.
    pub stream: bool,
}

impl Weather {
    pub const FAIR: Self = Self { loss: 0, repeats: 0, delay: (10, 10), stream: false };
    pub const FOUL: Self = Self { loss: 30, repeats: 10, delay: (5, 80), stream: false };
    pub const STREAM: Self = Self { loss: 0, repeats: 0, delay: (10, 10), stream: true };
}

/// A connection, and what it has cost.
#[derive(Debug)]
pub struct Wire {
    pub ends: [(usize, SessionId); 2],
    pub weather: Weather,
    pub bytes: [usize; 2],
    pub frames: [usize; 2],
    decoders: [FrameDecoder; 2],
    /// By when they arrive: which end, and the frame.
    flying: BTreeMap<(u64, u64), (usize, Vec<u8>)>,
    sent: u64,
    pub cut: bool,
    pub memory_max: usize,
}

#[derive(Debug)]
pub struct Net {
    pub parties: Vec<Party>,
    pub wires: Vec<Wire>,
    pub now: u64,
    pub dice: Dice,
    pub events: Vec<(u64, usize, SessionId, SessionEvent)>,
    /// Who does not run now.
    pub asleep: Vec<bool>,
}

impl Net {
    pub fn new(parties: Vec<Party>, seed: u64) -> Self {
        let asleep = vec![false; parties.len()];
        Self { parties, wires: Vec::new(), now: 1_000, dice: Dice::new(seed), events: Vec::new(), asleep }
    }

    pub fn time(&self) -> Timestamp {
        at(self.now)
    }

    pub fn node(&mut self, index: usize) -> &mut Node {
        self.parties[index].node()
    }

    pub fn connect(&mut self, from: usize, to: usize, weather: Weather) -> usize {
        let options =
            |options: SessionOptions| if weather.stream { options } else { options.over_datagrams() };
        self.connect_with(
            from,
            to,
            weather,
            options(SessionOptions::dial()),
            options(SessionOptions::listen()),
        )
    }

    pub fn connect_with(
        &mut self,
        from: usize,
        to: usize,
        weather: Weather,
        dial: SessionOptions,
        listen: SessionOptions,
    ) -> usize {
        let now = self.time();
        let ends =
            [(from, self.parties[from].connect(dial, now)), (to, self.parties[to].connect(listen, now))];
        self.wires.push(Wire {
            ends,
            weather,
            bytes: [0; 2],
            frames: [0; 2],
            decoders: [FrameDecoder::new(), FrameDecoder::new()],
            flying: BTreeMap::new(),
            sent: 0,
            cut: false,
            memory_max: 0,
        });
        self.wires.len() - 1
    }

    /// The connection breaks: what is on its way is lost, and both hosts notice.
    pub fn cut(&mut self, wire: usize) {
        let wire = &mut self.wires[wire];
        wire.cut = true;
        wire.flying.clear();
        for (party, session) in wire.ends {
            self.parties[party].drop_session(session);
        }
    }

    /// Everybody sends what there is to send.
    fn transmit(&mut self) {
        let now = self.time();
        for wire in self.wires.iter_mut().filter(|wire| !wire.cut) {
            for end in 0..2 {
                let (party, session) = wire.ends[end];
                if self.asleep[party] {
                    continue;
                }
                self.parties[party].store();
                for _ in 0..256 {
                    let Some(frame) = self.parties[party].transmit(session, now) else { break };
                    wire.bytes[end] += frame.len();
                    wire.frames[end] += 1;
                    let copies = 1 + usize::from(self.dice.roll(100) < wire.weather.repeats);
                    for _ in 0..copies {
                        if self.dice.roll(100) < wire.weather.loss {
                            continue;
                        }
                        let (least, most) = wire.weather.delay;
                        let due = self.now + least + self.dice.roll(most - least + 1);
                        wire.sent += 1;
                        wire.flying.insert((due, wire.sent), (1 - end, frame.clone()));
                    }
                }
                wire.memory_max = wire.memory_max.max(self.parties[party].memory(session));
            }
        }
    }

    fn deliver(&mut self) {
        let now = self.time();
        for wire in self.wires.iter_mut().filter(|wire| !wire.cut) {
            while let Some((&(due, number), _)) = wire.flying.first_key_value() {
                if due > self.now {
                    break;
                }
                let (end, frame) = wire.flying.remove(&(due, number)).unwrap();
                let (party, session) = wire.ends[end];
                if self.asleep[party] {
                    continue;
                }
                if !wire.weather.stream {
                    let _ = self.parties[party].input(session, &frame, now);
                    continue;
                }
                let mut rest = &frame[..];
                while !rest.is_empty() {
                    let piece = rest.split_off(..1 + self.dice.index(rest.len())).unwrap();
                    wire.decoders[end].push(piece);
                    while let Some(frame) = wire.decoders[end].next_frame().unwrap() {
                        let _ = self.parties[party].input(session, frame, now);
                    }
                }
            }
        }
    }

    fn note(&mut self) {
        for (index, party) in self.parties.iter_mut().enumerate() {
            while let Some((session, event)) = party.event() {
                self.events.push((self.now, index, session, event));
            }
        }
    }

    /// Goes to the next moment at which something happens, or to `until`.
    fn advance(&mut self, until: u64) {
        let wires = self.wires.iter().filter(|wire| !wire.cut);
        let arrival = wires.filter_map(|wire| wire.flying.first_key_value().map(|((due, _), _)| *due)).min();
        let awake = self.parties.iter().zip(&self.asleep).filter(|(_, asleep)| !**asleep);
        let timer = awake.filter_map(|(party, _)| party.next_timeout()).min();
        let timer = timer.map(|timer| timer.as_millis().saturating_sub(at(0).as_millis()));
        let next = arrival.into_iter().chain(timer).min().unwrap_or(until);
        self.now = next.clamp(self.now, until).max(self.now);
        if arrival.is_none_or(|arrival| arrival > self.now) && timer.is_none_or(|timer| timer > self.now) {
            self.now = until;
        }
    }

    pub fn run(&mut self, ms: u64) {
        let until = self.now + ms;
        let mut turns = 0_u32;
        loop {
            self.transmit();
            self.note();
            let before = self.now;
            self.advance(until);
            if self.now >= until {
                break;
            }
            turns = if self.now == before { turns + 1 } else { 0 };
            assert!(turns < 10_000, "time stands still at {before}");
            let now = self.time();
            for (party, asleep) in self.parties.iter_mut().zip(&self.asleep) {
                if !asleep && party.next_timeout().is_some_and(|due| due <= now) {
                    party.timeout(now);
                }
            }
            self.deliver();
        }
        self.deliver();
        self.note();
    }

    pub fn bytes(&self, wire: usize) -> usize {
        self.wires[wire].bytes.iter().sum()
    }

    pub fn said(&self, party: usize, wanted: impl Fn(&SessionEvent) -> bool) -> usize {
        self.events.iter().filter(|(_, index, _, event)| *index == party && wanted(event)).count()
    }
}
