//! The handshake: three frames, after which both sides know that the other is a member of the mesh, which agent speaks,
//! that nobody in between changed the terms, and keys that nobody else has.
//!
//! ```text
//! hello      dials → listens   discovery tag, flags; Noise's first message, with the terms
//! challenge  listens → dials   name of the hello, challenge, MAC       only while many hellos come that nobody proves
//! hello      dials → listens   the same with the challenge and another ephemeral key, then
//! answer     listens → dials   Noise's second message, with the terms; agent and signature, sealed
//! proof      dials → listens   agent and signature, sealed
//! ```
//!
//! The pattern is `NNpsk0`, with a key from the mesh's secret: a program without it can neither open nor answer, and learns
//! nothing but how long the frames are. The signatures cover Noise's hash of both messages and the channel binding, so
//! nothing of an earlier handshake or of another connection is of use. Neither the mesh's secret nor the agents' keys open
//! anything later: the keys of a session come from two ephemeral ones, which both sides forget.
//!
//! Two that remember each other from an earlier session leave agents and signatures out: what they remember is mixed into the
//! key of the pattern, and the hello says by which name.
//!
//! Here: the bytes of the frames and the keys. Not here: Noise itself (`noise`), and which frame is due when (`dial` and
//! `listen`).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use consilience_base::Timestamp;
use zeroize::Zeroizing;

use super::cipher::{Cipher, Secret, TAG_BYTES, derive};
use super::error::HandshakeError;
use super::frame::{FRAME_BYTES_MAX, FRAME_BYTES_MIN, Kind};
use super::noise::{self, Begun, Ephemeral, Outcome, POINT_BYTES};
use super::resumption::{Resumption, ResumptionId};
use crate::codec::{DecodeError, Reader, put_varint};
use crate::identity::{AgentId, AgentKey, DiscoveryKey, MeshSecret, SignError, Signature, SigningTag};

/// The bytes of a MAC of a challenge.
const MAC_BYTES: usize = 16;
/// In the flags of a hello: it resumes, and it repeats a challenge.
const RESUMES: u8 = 1;
const CHALLENGED: u8 = 2;
const BOUND: u8 = 1;
const EVERYTHING: u8 = 2;
/// The bytes of an agent and its signature, sealed.
const SEALED_AGENT_BYTES: usize = 32 + 64 + TAG_BYTES;
/// The smallest and the largest window, in bytes.
pub(crate) const WINDOW_MIN: usize = 4 << 10;
pub(crate) const WINDOW_MAX: usize = 1 << 20;

/// The name of a hello, by which a refusal or a challenge says to which it is: a hash of its body.
pub(crate) type HelloName = [u8; 16];

/// The terms that one side states in its first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// It knows the channel by a binding.
    pub(crate) bound: bool,
    /// It wants all topics.
    pub(crate) everything: bool,
    /// The largest frame that it takes.
    pub(crate) frame_bytes: usize,
    /// How much it is willing to keep that came out of order.
    pub(crate) window: usize,
    /// The time by its clock, in whole seconds of the Unix epoch; 0 if it has reason not to trust it.
    pub(crate) seconds: u64,
}

impl Terms {
    /// The time by its side's clock, if that side trusts it.
    pub(crate) fn time(&self) -> Option<Timestamp> {
        (self.seconds > 0).then(|| Timestamp::from_millis(self.seconds.saturating_mul(1_000)))
    }

    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        bytes.push(flag(self.bound, BOUND) | flag(self.everything, EVERYTHING));
        put_varint(&mut bytes, self.frame_bytes as u64);
        put_varint(&mut bytes, self.window as u64);
        put_varint(&mut bytes, self.seconds);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let flags = reader.byte()?;
        if flags & !(BOUND | EVERYTHING) != 0 {
            return Err(DecodeError::Kind);
        }
        let mut number = |min: usize, max: usize| {
            let number = reader.varint_max(max as u64)?;
            usize::try_from(number).ok().filter(|number| *number >= min).ok_or(DecodeError::Limit)
        };
        let frame_bytes = number(FRAME_BYTES_MIN, FRAME_BYTES_MAX)?;
        let window = number(WINDOW_MIN, WINDOW_MAX)?;
        let seconds = reader.varint()?;
        reader.finish()?;
        Ok(Self {
            bound: flags & BOUND != 0,
            everything: flags & EVERYTHING != 0,
            frame_bytes,
            window,
            seconds,
        })
    }
}

/// A hello of this side's, and what its answer is read with.
#[derive(Debug)]
pub(crate) struct Hello {
    pub(crate) body: Vec<u8>,
    pub(crate) name: HelloName,
    clear: usize,
    terms: Terms,
    ephemeral: Ephemeral,
    /// Other than the members', if it resumes.
    psk: Option<Secret>,
}

impl Hello {
    /// Whether its answer is without an agent.
    pub(crate) const fn resumes(&self) -> bool {
        self.psk.is_some()
    }
}

/// What a hello of this side's says beside its terms.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Saying<'a> {
    pub(crate) challenge: Option<[u8; 16]>,
    /// What this side remembers of the other, and the binding.
    pub(crate) resumes: Option<(&'a Resumption, &'a [u8])>,
}

/// Why a hello is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoHello {
    Failed(HandshakeError),
    /// It resumes what is not remembered, or with another binding.
    Forgotten,
}

impl From<HandshakeError> for NoHello {
    fn from(error: HandshakeError) -> Self {
        Self::Failed(error)
    }
}

impl From<DecodeError> for NoHello {
    fn from(error: DecodeError) -> Self {
        Self::Failed(error.into())
    }
}

/// A hello of the other side's that a member made.
pub(crate) struct Called {
    pub(crate) terms: Terms,
    /// This side's challenge, if it repeats one: then it is none that was recorded earlier.
    pub(crate) challenge: Option<[u8; 16]>,
    /// By which name it resumes.
    pub(crate) resumes: Option<ResumptionId>,
    begun: Begun,
}

/// What stands before Noise's message in a hello.
struct Clear<'a> {
    bytes: &'a [u8],
    tag: [u8; 8],
    resumes: Option<ResumptionId>,
    challenge: Option<[u8; 16]>,
    message: &'a [u8],
}

impl<'a> Clear<'a> {
    fn read(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let tag = reader.array()?;
        let flags = reader.byte()?;
        if flags & !(RESUMES | CHALLENGED) != 0 {
            return Err(DecodeError::Kind);
        }
        let resumes = if flags & RESUMES != 0 { Some(reader.array()?) } else { None };
        let challenge = if flags & CHALLENGED != 0 { Some(reader.array()?) } else { None };
        let bytes = reader.since(0);
        Ok(Self { bytes, tag, resumes, challenge, message: reader.take(reader.remaining())? })
    }
}

/// The keys of a session after its handshake.
#[derive(Clone)]
pub(crate) struct SessionKeys {
    dialer: Secret,
    listener: Secret,
    /// Bytes that both sides know and neither chose alone.
    pub(crate) salt: [u8; 32],
    /// For the next session of the two.
    pub(crate) resumption: Resumption,
}

impl SessionKeys {
    /// The key for the frames of one side.
    pub(super) fn of(&self, dials: bool) -> &[u8; 32] {
        if dials { &self.dialer } else { &self.listener }
    }
}

/// What both sides of a handshake have in common after Noise's messages, before they know who speaks.
pub(crate) struct Secrets {
    split: Zeroizing<[u8; 64]>,
    /// The transcript with the channel binding, for the signatures and the keys.
    bound: [u8; 32],
}

impl Secrets {
    fn new(Outcome { split, hash }: Outcome, binding: &[u8]) -> Self {
        let bound = *derive("consilience session bound transcript v1", &[&hash, binding]);
        Self { split, bound }
    }

    /// The key that seals the agent of one side. Without the binding: somebody who sits in between is found out by the
    /// signature, and told from bytes that were changed.
    fn agent_key(&self, dials: bool) -> Cipher {
        let context = if dials {
            "consilience session dialer proof v1"
        } else {
            "consilience session listener proof v1"
        };
        Cipher::new(&derive(context, &[&self.split[..]]))
    }

    /// The bytes that an agent signs.
    fn message(&self, dials: bool, agent: &AgentId) -> Vec<u8> {
        let mut message = SigningTag::Handshake.as_bytes().to_vec();
        message.push(u8::from(dials));
        message.extend_from_slice(&self.bound);
        message.extend_from_slice(agent.as_bytes());
        message
    }

    /// Appends an agent and its signature, sealed.
    fn put_agent(
        &self,
        dials: bool,
        agent: &AgentId,
        sign: impl FnOnce(&[u8]) -> Result<Signature, SignError>,
        body: &mut Vec<u8>,
    ) -> Result<(), SignError> {
        let signature = sign(&self.message(dials, agent))?;
        let said = [&agent.as_bytes()[..], signature.as_bytes()].concat();
        self.agent_key(dials).seal_once(&[proof_kind(dials).first()], &said, body);
        Ok(())
    }

    /// Opens an agent and its signature; the signature is not checked yet.
    fn open_agent(&self, dials: bool, sealed: &[u8]) -> Result<(AgentId, Signature), HandshakeError> {
        let mut said = [0; 32 + 64];
        let opened = self.agent_key(dials).open(0, &[proof_kind(dials).first()], sealed, &mut said);
        opened.filter(|bytes| *bytes == said.len()).ok_or(HandshakeError::NotAMember)?;
        let mut reader = Reader::new(&said);
        Ok((AgentId::from_bytes(reader.array()?), Signature::from_bytes(reader.array()?)))
    }

    /// Checks which agent speaks.
    fn check_signature(
        &self,
        dials: bool,
        agent: &AgentId,
        signature: &Signature,
    ) -> Result<(), HandshakeError> {
        let key = AgentKey::admit(agent)?;
        if key.verifies(&self.message(dials, agent), signature) {
            Ok(())
        } else {
            Err(HandshakeError::Signature)
        }
    }

    /// The body of a proof.
    pub(crate) fn proof(
        &self,
        agent: &AgentId,
        sign: impl FnOnce(&[u8]) -> Result<Signature, SignError>,
    ) -> Result<Vec<u8>, SignError> {
        let mut body = Vec::with_capacity(SEALED_AGENT_BYTES);
        self.put_agent(true, agent, sign, &mut body)?;
        Ok(body)
    }

    pub(crate) fn read_proof(&self, body: &[u8]) -> Result<AgentId, HandshakeError> {
        let (agent, signature) = self.open_agent(true, body)?;
        self.check_signature(true, &agent, &signature)?;
        Ok(agent)
    }

    /// The keys of the session of two agents: others, if the two do not agree about who they are.
    pub(crate) fn keys(&self, dialer: &AgentId, listener: &AgentId) -> SessionKeys {
        let parts = [&self.split[..], &self.bound, dialer.as_bytes(), listener.as_bytes()];
        let secret = derive("consilience session secret v1", &parts);
        SessionKeys {
            dialer: derive("consilience session dialer v1", &[&secret[..]]),
            listener: derive("consilience session listener v1", &[&secret[..]]),
            salt: *derive("consilience session salt v1", &[&secret[..]]),
            resumption: Resumption {
                id: derive("consilience session resumption name v1", &[&secret[..]])
                    .first_chunk()
                    .copied()
                    .unwrap_or_default(),
                secret: derive("consilience session resumption v1", &[&secret[..]]),
            },
        }
    }
}

/// The frame in which a side says who it is.
const fn proof_kind(dials: bool) -> Kind {
    if dials { Kind::Proof } else { Kind::Answer }
}

/// The part of the handshake that only members can do.
#[derive(Clone)]
pub(crate) struct Membership {
    psk: Secret,
    mac_key: Secret,
    discovery: DiscoveryKey,
}

impl Membership {
    pub(crate) fn new(mesh: &MeshSecret) -> Self {
        Self {
            psk: derive("consilience session psk v1", &[mesh.as_bytes()]),
            mac_key: derive("consilience session challenge v1", &[mesh.as_bytes()]),
            discovery: mesh.id().discovery_key(),
        }
    }

    /// By what members know a hello: somebody who does not know the mesh's public name sees 8 bytes of no meaning, which do not
    /// come again.
    fn tag(&self, message: &[u8]) -> [u8; 8] {
        let ephemeral = message.get(..POINT_BYTES).unwrap_or(message);
        let tag = blake3::keyed_hash(self.discovery.as_bytes(), ephemeral);
        tag.as_bytes().first_chunk().copied().unwrap_or_default()
    }

    /// The MAC of a challenge.
    fn mac(&self, said: &[u8]) -> [u8; MAC_BYTES] {
        let mac = blake3::keyed_hash(&self.mac_key, said);
        mac.as_bytes().first_chunk().copied().unwrap_or_default()
    }

    /// The key of a handshake between two that remember a secret, over channels of one name.
    fn resumed_psk(&self, secret: &Secret, binding: &[u8]) -> Secret {
        derive("consilience session resumed psk v1", &[&self.psk[..], &secret[..], binding])
    }

    /// A hello. The ephemeral secret is used for nothing else.
    pub(crate) fn hello(&self, terms: Terms, saying: Saying<'_>, agent: &AgentId, secret: Secret) -> Hello {
        let Saying { challenge, resumes } = saying;
        let mut ephemeral = Ephemeral::dialing(secret, agent.as_bytes());
        let mut body = self.tag(&ephemeral.public()).to_vec();
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        body.push(flag(resumes.is_some(), RESUMES) | flag(challenge.is_some(), CHALLENGED));
        body.extend(resumes.iter().flat_map(|(resumption, _)| resumption.id));
        body.extend(challenge.iter().flatten());
        let clear = body.len();
        let psk = resumes.map(|(resumption, binding)| self.resumed_psk(&resumption.secret, binding));
        let key = psk.as_ref().unwrap_or(&self.psk);
        let begun = noise::begin(key, &prologue(&body), &mut ephemeral, &terms.to_bytes(), &mut body);
        debug_assert!(begun.is_some(), "it fails only where there is no room");
        Hello { name: hello_name(&body), body, clear, terms, ephemeral, psk }
    }

    /// Reads a hello. The ephemeral secret is for the answer, and used for nothing else. If the hello resumes, the secret by a
    /// name is asked for.
    pub(crate) fn read_hello<'a>(
        &self,
        body: &[u8],
        secret: Secret,
        binding: &[u8],
        known: impl FnOnce(&ResumptionId) -> Option<&'a Secret>,
    ) -> Result<Called, NoHello> {
        let clear = Clear::read(body)?;
        if !same(&clear.tag, &self.tag(clear.message)) {
            return Err(HandshakeError::WrongMesh.into());
        }
        let (psk, fails) = match &clear.resumes {
            Some(id) => {
                let known = known(id).ok_or(NoHello::Forgotten)?;
                (&self.resumed_psk(known, binding), NoHello::Forgotten)
            }
            None => (&self.psk, HandshakeError::NotAMember.into()),
        };
        let (begun, payload) =
            Begun::read(psk, &prologue(clear.bytes), secret, clear.message).ok_or(fails)?;
        let terms = Terms::read(&payload)?;
        Ok(Called { terms, challenge: clear.challenge, resumes: clear.resumes, begun })
    }

    /// The body of a challenge: it names the hello that it asks again for, so one that was recorded is of no use.
    pub(crate) fn challenge(&self, hello: &HelloName, challenge: &[u8; 16]) -> Vec<u8> {
        let mut body = [*hello, *challenge].concat();
        body.extend(self.mac(&body));
        body
    }

    /// The challenge to a hello; none if it is another's, or no member's.
    pub(crate) fn read_challenge(&self, body: &[u8], hello: &HelloName) -> Option<[u8; 16]> {
        let (said, mac) = body.split_last_chunk::<MAC_BYTES>()?;
        let (name, challenge) = said.split_first_chunk()?;
        let challenge = challenge.try_into().ok()?;
        (name == hello && same(mac, &self.mac(said))).then_some(challenge)
    }

    /// The body of an answer: without an agent, if the hello resumes.
    pub(crate) fn answer(
        called: Called,
        terms: Terms,
        binding: &[u8],
        agent: &AgentId,
        sign: impl FnOnce(&[u8]) -> Result<Signature, SignError>,
    ) -> Result<(Vec<u8>, Secrets), HandshakeError> {
        let mut body = Vec::new();
        // An ephemeral key with which everybody would share the secret.
        let outcome = called.begun.answer(&terms.to_bytes(), &mut body).ok_or(HandshakeError::NotAMember)?;
        let secrets = Secrets::new(outcome, binding);
        if called.resumes.is_none() {
            secrets.put_agent(false, agent, sign, &mut body).map_err(HandshakeError::Sign)?;
        }
        Ok((body, secrets))
    }

    /// Reads an answer. Who gives it is none if the hello resumes: whom it calls is known.
    pub(crate) fn read_answer(
        &self,
        hello: &Hello,
        body: &[u8],
        binding: &[u8],
        bound: bool,
    ) -> Result<(Terms, Option<AgentId>, Secrets), HandshakeError> {
        let sealed_bytes = if hello.resumes() { 0 } else { SEALED_AGENT_BYTES };
        let (message, sealed) = body
            .len()
            .checked_sub(sealed_bytes)
            .and_then(|at| body.split_at_checked(at))
            .ok_or(DecodeError::Truncated)?;
        let clear = hello.body.get(..hello.clear).unwrap_or_default();
        let (payload, outcome) = noise::finish(
            hello.psk.as_ref().unwrap_or(&self.psk),
            &prologue(clear),
            &hello.ephemeral,
            &hello.terms.to_bytes(),
            message,
        )
        .ok_or(HandshakeError::NotAMember)?;
        let secrets = Secrets::new(outcome, binding);
        let signed = if hello.resumes() { None } else { Some(secrets.open_agent(false, sealed)?) };
        let terms = Terms::read(&payload)?;
        if terms.bound != bound {
            return Err(HandshakeError::Binding);
        }
        if let Some((agent, signature)) = &signed {
            secrets.check_signature(false, agent, signature)?;
        }
        Ok((terms, signed.map(|(agent, _)| agent), secrets))
    }

    /// The body of a refusal: it names the hello that it refuses, so nobody can refuse a hello that they have not seen.
    pub(crate) fn refusal(hello: &HelloName, reason: u8) -> Vec<u8> {
        let mut body = hello.to_vec();
        body.push(reason);
        body
    }
}

/// The clear part of a hello as Noise takes it in, with the frame's first byte, which says the version.
fn prologue(clear: &[u8]) -> Vec<u8> {
    [&[Kind::Hello.first()], clear].concat()
}

/// The name of a hello, by its body.
pub(crate) fn hello_name(body: &[u8]) -> HelloName {
    let name = blake3::derive_key("consilience session hello v1", body);
    name.first_chunk().copied().unwrap_or_default()
}

macro_rules! without_content {
    ($($secret:ident)*) => {$(
        impl core::fmt::Debug for $secret {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(stringify!($secret))
            }
        }
    )*};
}

without_content!(Membership SessionKeys Secrets Ephemeral Called);

/// Whether two are the same, in a time that does not depend on where they differ.
fn same<const N: usize>(a: &[u8; N], b: &[u8; N]) -> bool {
    a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}
