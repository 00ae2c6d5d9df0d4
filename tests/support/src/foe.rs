//! A speaker of the protocol that may lie: written from `docs/wire/` alone, and without the library's sessions. What it
//! says is up to its script.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use consilience_sync::codec::put_varint;
use consilience_sync::session::SessionId;
use consilience_sync::{AgentId, LogId, MeshSecret, Offer, Signer, Want};

use crate::noise::{self, Handshake};

/// The time that it says when it shakes hands.
const SECONDS: u64 = 1_700_000_000;

/// The frame that begins a handshake.
pub const HELLO: u8 = 1;
/// The listener's part of the handshake.
pub const ANSWER: u8 = 2;
/// The dialer's signature, which ends the handshake.
pub const PROOF: u8 = 3;
/// A frame that refuses a handshake.
pub const REFUSAL: u8 = 4;
/// A frame with a packet of an established session.
pub const DATA: u8 = 5;
/// The frame that ends a session.
pub const CLOSE: u8 = 6;
/// The frame by which a listener asks for a hello that was made for it.
pub const CHALLENGE: u8 = 7;

/// Message: the topics that the speaker is interested in.
pub const SUBSCRIBE: u8 = 16;
/// Message: the root of all heads of the speaker, which opens a round.
pub const ROOT: u8 = 17;
/// Message: the roots are the same.
pub const SAME: u8 = 18;
/// Message: a frame of the reconciliation.
pub const COMPARE: u8 = 19;
/// Message: offers of logs.
pub const OFFERS: u8 = 20;
/// Message: the opening of a log.
pub const OPEN: u8 = 1;
/// Message: evidence of a fork.
pub const EVIDENCE: u8 = 5;
/// Message: a range of a log.
pub const RANGE: u8 = 3;
/// Message: the range that the speaker wants.
pub const WANT: u8 = 21;
/// Message: the range that was wanted is not there any more.
pub const GONE: u8 = 22;
/// Message: the speaker does not want a log.
pub const UNWANTED: u8 = 23;
/// Message: the speaker refuses a log.
pub const REFUSED: u8 = 24;
/// Message: the speaker's part of a round is done.
pub const DONE: u8 = 25;

/// What an offer is about.
pub const ALL: u8 = 0;
/// Offers of logs that changed since the last round.
pub const CHANGED: u8 = 1;
/// Offers of logs in which the two sides differ.
pub const DIFFERING: u8 = 2;
/// Offers that answer those of the other side.
pub const ANSWERING: u8 = 3;

/// A varint of the wire format.
pub fn varint(value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_varint(&mut bytes, value);
    bytes
}

/// Takes a varint from the front.
pub fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for at in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A frame of version 1.
pub fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    [vec![0x10 | kind], varint(body.len() as u64), body.to_vec()].concat()
}

/// The frames that follow each other in some bytes.
pub fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some((first, mut rest)) = bytes.split_first() {
        assert_eq!(first >> 4, 1, "a frame of version 1");
        let len = take_varint(&mut rest).unwrap() as usize;
        found.push((first & 15, rest[..len].to_vec()));
        bytes = &rest[len..];
    }
    found
}

/// A message of the stream, with its length before it.
pub fn message(kind: u8, rest: &[u8]) -> Vec<u8> {
    [varint(rest.len() as u64 + 1), vec![kind], rest.to_vec()].concat()
}

/// The first bytes of a log's id, which name it in a session.
pub fn name(log: &LogId) -> [u8; 8] {
    *log.as_bytes().first_chunk().unwrap()
}

/// A `ROOT` message.
pub fn root(pass: u64, root: [u8; 32], since: Option<[u8; 8]>) -> Vec<u8> {
    message(ROOT, &[varint(pass), root.to_vec(), since.iter().flatten().copied().collect()].concat())
}

/// A `SAME` message.
pub fn same(pass: u64) -> Vec<u8> {
    message(SAME, &varint(pass))
}

/// A `COMPARE` message.
pub fn compare(pass: u64, part: u64, frame: &[u8]) -> Vec<u8> {
    message(COMPARE, &[varint(pass), varint(part), frame.to_vec()].concat())
}

/// An `OFFERS` message.
pub fn offers(pass: u64, extent: u8, offers: &[Offer]) -> Vec<u8> {
    let mut bytes = varint(pass);
    bytes.push(extent);
    for offer in offers {
        bytes.extend(name(&offer.log));
        bytes.extend(varint(offer.start * 2 + u64::from(offer.facts.is_some())));
        bytes.extend(varint(offer.size - offer.start));
        if offer.size > 0 {
            bytes.extend(offer.root);
        }
        bytes.extend(offer.facts.iter().flatten());
    }
    message(OFFERS, &bytes)
}

/// A `RANGE` message.
pub fn range(log: &LogId, bytes: &[u8]) -> Vec<u8> {
    message(RANGE, &[&name(log), bytes].concat())
}

/// A `WANT` message.
pub fn want(log: &LogId, want: Want) -> Vec<u8> {
    message(WANT, &[&name(log)[..], &want.encode()].concat())
}

/// A message of any kind that begins with the name of a log.
pub fn about(kind: u8, log: &LogId, rest: &[u8]) -> Vec<u8> {
    message(kind, &[&name(log)[..], rest].concat())
}

/// A `DONE` message.
pub fn done(pass: u64, gained: bool) -> Vec<u8> {
    message(DONE, &[varint(pass), vec![u8::from(gained)]].concat())
}

/// Filters: 0 for all, 1 for a topic, 2 for a topic and all below it.
pub fn subscribe(filters: &[(u8, &str)]) -> Vec<u8> {
    let mut bytes = varint(filters.len() as u64);
    for (kind, topic) in filters {
        bytes.push(*kind);
        bytes.extend(varint(topic.len() as u64));
        bytes.extend(topic.as_bytes());
    }
    message(SUBSCRIBE, &bytes)
}

/// The number of the pass that a message is of.
pub fn pass_of(rest: &[u8]) -> u64 {
    take_varint(&mut &rest[..]).unwrap()
}

/// `derive`, of parts one after the other.
pub fn derive(context: &str, parts: &[&[u8]]) -> [u8; 32] {
    blake3::derive_key(context, &parts.concat())
}

/// The first bytes of `keyed`.
fn keyed<const N: usize>(key: &[u8; 32], bytes: &[u8]) -> [u8; N] {
    *blake3::keyed_hash(key, bytes).as_bytes().first_chunk().unwrap()
}

/// The name of a hello, by its body.
pub fn hello_name(body: &[u8]) -> [u8; 16] {
    *derive("consilience session hello v1", &[body]).first_chunk().unwrap()
}

/// A hello's clear part and its Noise message.
pub fn hello_parts(body: &[u8]) -> (&[u8], &[u8]) {
    body.split_at(9 + 16 * (body[8] & 3).count_ones() as usize)
}

/// The frames under one key.
const EPOCH: u64 = 1 << 12;

/// The key of a frame with a number.
fn key_of(first: &[u8; 32], number: u64) -> [u8; 32] {
    (0..number / EPOCH).fold(*first, |key, _| noise::rekey(&key))
}

/// The number with these lowest bits that is nearest to another.
fn nearest(low: [u8; 2], to: u64) -> u64 {
    let low = u64::from(u16::from_le_bytes(low));
    let around = [(to >> 16).saturating_sub(1), to >> 16, (to >> 16) + 1].map(|high| high << 16 | low);
    around.into_iter().min_by_key(|number| number.abs_diff(to)).unwrap()
}

/// The packet in the body of one of the first frames of a side, if it is under this key.
pub fn open(key: &[u8; 32], kind: u8, body: &[u8]) -> Option<Vec<u8>> {
    let (low, sealed) = body.split_first_chunk()?;
    noise::decrypt(key, u64::from(u16::from_le_bytes(*low)), &[0x10 | kind], sealed)
}

/// What Noise's messages end with.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// `N`, the keys of `Split`.
    pub split: Vec<u8>,
    /// `t'`, the transcript with the binding.
    pub bound: [u8; 32],
}

impl Secrets {
    /// From a handshake that is done.
    pub fn new(handshake: &Handshake, binding: Option<&[u8]>) -> Self {
        let (h, split) = handshake.split();
        let bound = derive("consilience session bound transcript v1", &[&h, binding.unwrap_or_default()]);
        Self { split, bound }
    }

    fn proof_key(&self, dials: bool) -> [u8; 32] {
        let side = if dials { "dialer" } else { "listener" };
        derive(&format!("consilience session {side} proof v1"), &[&self.split])
    }

    /// An agent and its signature.
    pub fn signed(&self, dials: bool, keys: &dyn Signer) -> Vec<u8> {
        let mut text = b"consilience signed handshake v1\0".to_vec();
        text.push(u8::from(dials));
        text.extend(self.bound);
        text.extend(keys.agent().as_bytes());
        [&keys.agent().as_bytes()[..], keys.sign(&text).unwrap().as_bytes()].concat()
    }

    /// `AEAD(agent || signature)`.
    pub fn sealed(&self, dials: bool, said: &[u8]) -> Vec<u8> {
        noise::encrypt(&self.proof_key(dials), 0, &[if dials { 0x13 } else { 0x12 }], said)
    }

    /// The agent and the signature that a side has sealed.
    pub fn opened(&self, dials: bool, sealed: &[u8]) -> Option<Vec<u8>> {
        let data = [if dials { 0x13 } else { 0x12 }];
        noise::decrypt(&self.proof_key(dials), 0, &data, sealed)
    }

    /// The agent that a side says it is. Its signature is not looked at.
    pub fn agent(&self, dials: bool, sealed: &[u8]) -> Option<AgentId> {
        self.opened(dials, sealed)?.first_chunk().copied().map(AgentId::from_bytes)
    }

    fn secret(&self, dialer: &AgentId, listener: &AgentId) -> [u8; 32] {
        let parts = [&self.split[..], &self.bound, dialer.as_bytes(), listener.as_bytes()];
        derive("consilience session secret v1", &parts)
    }

    /// The keys of the dialer and the listener, and the salt.
    pub fn keys(&self, dialer: &AgentId, listener: &AgentId) -> [[u8; 32]; 3] {
        let secret = self.secret(dialer, listener);
        ["dialer", "listener", "salt"]
            .map(|name| derive(&format!("consilience session {name} v1"), &[&secret]))
    }

    /// What the two remember of each other.
    pub fn resumption(&self, dialer: &AgentId, listener: &AgentId) -> Resumption {
        let secret = self.secret(dialer, listener);
        Resumption {
            id: *derive("consilience session resumption name v1", &[&secret]).first_chunk().unwrap(),
            secret: derive("consilience session resumption v1", &[&secret]),
        }
    }
}

/// What two that have met remember.
#[derive(Clone, Copy, Debug)]
pub struct Resumption {
    /// Its name.
    pub id: [u8; 16],
    /// The secret.
    pub secret: [u8; 32],
}

/// What came.
#[derive(Clone, Debug)]
pub enum Heard {
    /// The handshake is done.
    Opened,
    /// A message: its kind, and the rest.
    Message(u8, Vec<u8>),
    /// The time that was asked for.
    Tick,
}

/// A foe's answer to each thing that it hears.
pub type Script = Box<dyn FnMut(&mut Foe, &Heard) + Send>;

/// One end of one connection.
pub struct Foe {
    /// The session, as the simulated network numbers it.
    pub id: SessionId,
    /// The secret of its mesh.
    pub mesh: MeshSecret,
    /// The key that it signs with.
    pub keys: Box<dyn Signer + Send>,
    /// Whether it begins the handshake.
    pub dials: bool,
    /// The binding to an outer channel.
    pub binding: Option<Vec<u8>>,
    /// Whether it says that it wants all topics.
    pub everything: bool,
    /// The bytes of the largest frame that it says it takes.
    pub frame_bytes: u64,
    /// The bytes that it says may be on their way to it.
    pub window: u64,
    /// Its share of randomness in the handshake.
    pub nonce: [u8; 16],
    /// The time that it says when it shakes hands, in seconds.
    pub seconds: u64,
    /// What a hello has to repeat before it answers, if it listens; what its own repeats, if it dials.
    pub challenge: Option<[u8; 16]>,
    /// What it remembers of whom it dials, and who that is.
    pub resumes: Option<(Resumption, AgentId)>,
    /// What it says in place of its agent and signature.
    pub says: Option<Vec<u8>>,
    /// Whether it says what it has got.
    pub acknowledges: bool,
    /// Whether it takes frames at all.
    pub listens: bool,
    /// Its hello.
    pub said: Vec<u8>,
    handshake: Option<Handshake>,
    /// Once the answer was made.
    pub secrets: Option<Secrets>,
    /// How many frames it has sealed, and one more than the greatest number that came.
    frames: (u64, u64),
    /// For what it sends, for what it gets, and the salt.
    pub session_keys: Option<([u8; 32], [u8; 32], [u8; 32])>,
    /// The number of its next chunk, and what the peer has of them.
    pub sent: u64,
    /// The number of its chunks that the peer acknowledged.
    pub acked: u64,
    next: u64,
    early: BTreeMap<u64, Vec<u8>>,
    stream: Vec<u8>,
    owes: bool,
    out: VecDeque<Vec<u8>>,
    /// The script, but while it runs.
    pub script: Option<Script>,
    /// The time of the next [`Heard::Tick`], in milliseconds.
    pub tick: Option<u64>,
    /// The time of the last call, in milliseconds.
    pub now: u64,
    /// All messages, when they came.
    pub heard: Vec<(u64, u8, Vec<u8>)>,
    /// All frames that came and that went.
    pub came: Vec<Vec<u8>>,
    /// All frames that went.
    pub went: Vec<Vec<u8>>,
    /// The number of bytes that came.
    pub bytes: usize,
    /// The agent at the other end, once the handshake named it.
    pub peer: Option<AgentId>,
    /// The reason for which the peer refused the handshake.
    pub refused: Option<u8>,
    /// Whether the peer ended the session.
    pub closed: bool,
}

impl fmt::Debug for Foe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Foe").field("heard", &self.heard.len()).finish_non_exhaustive()
    }
}

impl Foe {
    /// Of a mesh, under a key, with a script.
    pub fn new(
        id: SessionId,
        mesh: MeshSecret,
        keys: impl Signer + Send + 'static,
        dials: bool,
        script: impl FnMut(&mut Self, &Heard) + Send + 'static,
    ) -> Self {
        Self {
            id,
            mesh,
            keys: Box::new(keys),
            dials,
            binding: None,
            everything: true,
            frame_bytes: 16 << 10,
            window: 48 << 10,
            nonce: [id.as_u64() as u8 ^ 0x5a; 16],
            seconds: SECONDS,
            challenge: None,
            resumes: None,
            says: None,
            acknowledges: true,
            listens: true,
            said: Vec::new(),
            handshake: None,
            secrets: None,
            frames: (0, 0),
            session_keys: None,
            sent: 0,
            acked: 0,
            next: 0,
            early: BTreeMap::new(),
            stream: Vec::new(),
            owes: false,
            out: VecDeque::new(),
            script: Some(Box::new(script)),
            tick: None,
            now: 0,
            heard: Vec::new(),
            came: Vec::new(),
            went: Vec::new(),
            bytes: 0,
            peer: None,
            refused: None,
            closed: false,
        }
    }

    /// The key that members share.
    pub fn psk(&self) -> [u8; 32] {
        derive("consilience session psk v1", &[self.mesh.as_bytes()])
    }

    /// Its ephemeral secret: another for each hello.
    pub fn ephemeral(&self) -> [u8; 32] {
        derive("foe", &[&self.nonce, &self.challenge.unwrap_or_default()])
    }

    fn tag(&self, e: &[u8]) -> [u8; 8] {
        keyed(self.mesh.id().discovery_key().as_bytes(), e)
    }

    fn challenge_mac(&self, said: &[u8]) -> [u8; 16] {
        keyed(&derive("consilience session challenge v1", &[self.mesh.as_bytes()]), said)
    }

    fn terms(&self) -> Vec<u8> {
        let flags = u8::from(self.binding.is_some()) | u8::from(self.everything) << 1;
        [vec![flags], varint(self.frame_bytes), varint(self.window), varint(self.seconds)].concat()
    }

    fn begin(&self, clear: &[u8]) -> Handshake {
        let psk = match &self.resumes {
            Some((Resumption { secret, .. }, _)) => {
                let parts = [&self.psk()[..], secret, self.binding.as_deref().unwrap_or_default()];
                derive("consilience session resumed psk v1", &parts)
            }
            None => self.psk(),
        };
        Handshake::new(&[&[0x11], clear].concat(), psk, self.ephemeral())
    }

    /// The body of its hello.
    pub fn hello(&mut self) -> Vec<u8> {
        let mut body = self.tag(&noise::public(&self.ephemeral())).to_vec();
        body.push(u8::from(self.resumes.is_some()) | if self.challenge.is_some() { 2 } else { 0 });
        body.extend(self.resumes.iter().flat_map(|(resumption, _)| resumption.id));
        body.extend(self.challenge.iter().flatten());
        let mut handshake = self.begin(&body);
        body.extend(handshake.write_first(&self.terms()));
        self.handshake = Some(handshake);
        body
    }

    /// Sends a frame as it is.
    pub fn send(&mut self, bytes: Vec<u8>) {
        self.went.push(bytes.clone());
        self.out.push_back(bytes);
    }

    fn sealed_agent(&self, secrets: &Secrets) -> Vec<u8> {
        let said = self.says.clone().unwrap_or_else(|| secrets.signed(self.dials, self.keys.as_ref()));
        secrets.sealed(self.dials, &said)
    }

    fn open(&mut self, theirs: AgentId) {
        self.peer = Some(theirs);
        let ours = self.keys.agent();
        let (dialer, listener) = if self.dials { (ours, theirs) } else { (theirs, ours) };
        let [dials, listens, salt] = self.secrets.as_ref().unwrap().keys(&dialer, &listener);
        let (ours, theirs) = if self.dials { (dials, listens) } else { (listens, dials) };
        self.session_keys = Some((ours, theirs, salt));
        self.act(&Heard::Opened);
    }

    fn act(&mut self, heard: &Heard) {
        if let Some(mut script) = self.script.take() {
            script(self, heard);
            self.script.get_or_insert(script);
        }
    }

    /// Begins, if it dials.
    pub fn start(&mut self) {
        if self.dials {
            self.said = self.hello();
            self.send(frame(HELLO, &self.said));
        }
    }

    fn seal(&mut self, kind: u8, packet: &[u8]) {
        let (ours, ..) = self.session_keys.unwrap();
        let number = self.frames.0;
        self.frames.0 += 1;
        let sealed = noise::encrypt(&key_of(&ours, number), number, &[0x10 | kind], packet);
        self.send(frame(kind, &[&number.to_le_bytes()[..2], &sealed].concat()));
    }

    /// A packet under its key.
    pub fn packet(&mut self, packet: &[u8]) {
        self.seal(DATA, packet);
    }

    /// A chunk with any number.
    pub fn chunk_at(&mut self, number: u64, chunk: &[u8]) {
        let ack = if self.acknowledges { self.next } else { 0 };
        self.packet(&[&[1][..], &varint(ack), &varint(number), chunk].concat());
        self.owes = false;
    }

    /// The next chunk of its stream.
    pub fn chunk(&mut self, chunk: &[u8]) {
        self.chunk_at(self.sent, chunk);
        self.sent += 1;
    }

    /// Messages, in as few chunks as frames allow.
    pub fn say(&mut self, messages: &[u8]) {
        for chunk in messages.chunks(16_000) {
            self.chunk(chunk);
        }
    }

    /// Ends the session, under its key.
    pub fn close(&mut self) {
        self.seal(CLOSE, &[]);
    }

    /// The next frame to the peer. `now` is in milliseconds. Poll again until there is none.
    pub fn poll(&mut self, now: u64) -> Option<Vec<u8>> {
        self.now = now;
        if self.owes && self.out.is_empty() && self.acknowledges {
            self.owes = false;
            self.packet(&[vec![0], varint(self.next)].concat());
        }
        self.out.pop_front()
    }

    /// Runs the script at the time that it asked for. `now` is in milliseconds.
    pub fn timeout(&mut self, now: u64) {
        self.now = now;
        if self.tick.is_some_and(|due| due <= now) {
            self.tick = None;
            self.act(&Heard::Tick);
        }
    }

    /// Takes in frames.
    pub fn input(&mut self, bytes: &[u8], now: u64) {
        self.now = now;
        if !self.listens {
            return;
        }
        self.bytes += bytes.len();
        self.came.push(bytes.to_vec());
        for (kind, body) in frames(bytes) {
            match kind {
                HELLO if !self.dials && self.secrets.is_none() => self.take_hello(&body),
                CHALLENGE if self.dials && self.secrets.is_none() => self.take_challenge(&body),
                ANSWER if self.dials && self.secrets.is_none() => self.take_answer(&body),
                PROOF if !self.dials && self.session_keys.is_none() => self.take_proof(&body),
                REFUSAL => self.refused = body.get(16).copied(),
                DATA if self.session_keys.is_some() => self.take_data(&body),
                CLOSE => self.closed = true,
                _ => {}
            }
        }
    }

    fn take_hello(&mut self, body: &[u8]) {
        let (clear, message) = hello_parts(body);
        let theirs = message.first_chunk().unwrap();
        let mut handshake = self.begin(clear);
        let opened = handshake.read_first(message).is_some();
        assert!(opened || !body.starts_with(&self.tag(theirs)), "the hello of an honest side");
        if let Some(challenge) = self.challenge.filter(|challenge| !clear.ends_with(challenge)) {
            let said = [hello_name(body), challenge].concat();
            self.send(frame(CHALLENGE, &[&said[..], &self.challenge_mac(&said)].concat()));
            return;
        }
        let mut answer = handshake.write_second(theirs, &self.terms());
        let secrets = Secrets::new(&handshake, self.binding.as_deref());
        answer.extend(self.sealed_agent(&secrets));
        self.secrets = Some(secrets);
        self.send(frame(ANSWER, &answer));
    }

    fn take_challenge(&mut self, body: &[u8]) {
        let (said, mac) = body.split_at(32);
        let right = mac == self.challenge_mac(said) && said[..16] == hello_name(&self.said);
        assert!(right, "the challenge of an honest side");
        self.challenge = said.last_chunk().copied();
        self.start();
    }

    fn take_answer(&mut self, body: &[u8]) {
        if let Some((_, theirs)) = self.resumes {
            let mut handshake = self.handshake.clone().unwrap();
            handshake.read_second(body).expect("the answer of an honest side");
            self.secrets = Some(Secrets::new(&handshake, self.binding.as_deref()));
            self.open(theirs);
            return;
        }
        let (message, sealed) = body.split_at(body.len() - 112);
        let mut handshake = self.handshake.clone().unwrap();
        handshake.read_second(message).expect("the answer of an honest side");
        let secrets = Secrets::new(&handshake, self.binding.as_deref());
        let theirs = secrets.agent(false, sealed).expect("an agent");
        self.send(frame(PROOF, &self.sealed_agent(&secrets)));
        self.secrets = Some(secrets);
        self.open(theirs);
    }

    fn take_proof(&mut self, body: &[u8]) {
        let said = self.secrets.as_ref().and_then(|secrets| secrets.agent(true, body));
        if let Some(agent) = said {
            self.open(agent);
        }
    }

    fn take_data(&mut self, body: &[u8]) {
        let (low, sealed) = body.split_first_chunk().unwrap();
        let number = nearest(*low, self.frames.1);
        let (_, theirs, _) = self.session_keys.unwrap();
        let Some(packet) = noise::decrypt(&key_of(&theirs, number), number, &[0x10 | DATA], sealed) else {
            return;
        };
        self.frames.1 = self.frames.1.max(number + 1);
        let (flags, mut rest) = (packet[0], &packet[1..]);
        self.acked = self.acked.max(take_varint(&mut rest).unwrap());
        if flags & 2 != 0 {
            let held = rest.iter().position(|byte| byte & 0x80 == 0).unwrap();
            rest = &rest[held + 1..];
        }
        if flags & 1 != 0 {
            let number = take_varint(&mut rest).unwrap();
            self.owes = true;
            if number >= self.next {
                self.early.insert(number, rest.to_vec());
            }
        }
        while let Some(chunk) = self.early.remove(&self.next) {
            self.stream.extend(chunk);
            self.next += 1;
        }
        loop {
            let mut rest = &self.stream[..];
            let Some(len) = take_varint(&mut rest).map(|len| len as usize) else { break };
            if rest.len() < len {
                break;
            }
            let (kind, body) = (rest[0], rest[1..len].to_vec());
            let used = self.stream.len() - rest.len() + len;
            self.stream.drain(..used);
            self.heard.push((self.now, kind, body.clone()));
            self.act(&Heard::Message(kind, body));
        }
    }

    /// The messages of a kind that came.
    pub fn heard_of(&self, kind: u8) -> impl Iterator<Item = &[u8]> {
        self.heard.iter().filter(move |(_, there, _)| *there == kind).map(|(.., rest)| &rest[..])
    }
}
