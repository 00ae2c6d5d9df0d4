//! The handshake: three frames, after which both sides know that the other is a member of the mesh, which agent speaks,
//! and that nobody in between changed the terms.
//!
//! ```text
//! hello      dials → listens   discovery tag, terms, MAC
//! challenge  listens → dials   nonce of the hello, challenge, MAC      only while many hellos come that nobody proves
//! hello      dials → listens   discovery tag, terms, challenge, MAC    then
//! answer     listens → dials   terms, agent, signature, MAC
//! proof      dials → listens   agent, signature, MAC
//! ```
//!
//! The MACs are keyed with the mesh's secret: a program without it can neither open nor answer, and learns nothing but the tag.
//! The signatures cover the transcript, both nonces and the channel binding included, so nothing of an earlier
//! handshake or of another connection is of use. The keys that authenticate later frames derive from the same transcript
//! and the mesh's secret: they keep strangers out. They are no secret from other members, and nothing is encrypted; that is the
//! part of an encrypted channel below.
//!
//! Here: the bytes of the three frames and the keys. Not here: which frame is due when (`dial` and `listen`).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use consilience_base::Timestamp;

use super::error::HandshakeError;
use super::frame::{FRAME_BYTES_MAX, FRAME_BYTES_MIN};
use crate::codec::{DecodeError, Reader, put_varint};
use crate::identity::{AgentId, AgentKey, MeshSecret, SignError, Signature, SigningTag};

/// The bytes of a MAC of the handshake.
const MAC_BYTES: usize = 16;
const BOUND: u8 = 1;
const EVERYTHING: u8 = 2;
/// The smallest and the largest window, in bytes.
pub(crate) const WINDOW_MIN: usize = 4 << 10;
pub(crate) const WINDOW_MAX: usize = 1 << 20;

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
    pub(crate) nonce: [u8; 16],
    /// The time by its clock, in whole seconds of the Unix epoch; 0 if it has reason not to trust it.
    pub(crate) seconds: u64,
}

impl Terms {
    /// The time by its side's clock, if that side trusts it.
    pub(crate) fn time(&self) -> Option<Timestamp> {
        (self.seconds > 0).then(|| Timestamp::from_millis(self.seconds.saturating_mul(1_000)))
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        bytes.push(flag(self.bound, BOUND) | flag(self.everything, EVERYTHING));
        put_varint(bytes, self.frame_bytes as u64);
        put_varint(bytes, self.window as u64);
        bytes.extend_from_slice(&self.nonce);
        put_varint(bytes, self.seconds);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
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
        Ok(Self {
            bound: flags & BOUND != 0,
            everything: flags & EVERYTHING != 0,
            frame_bytes,
            window,
            nonce: reader.array()?,
            seconds: reader.varint()?,
        })
    }
}

/// The content of a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) terms: Terms,
    /// The other side's challenge, if there was one: then the hello is none that was recorded earlier.
    pub(crate) challenge: Option<[u8; 16]>,
}

/// The keys that authenticate the frames of a session after its handshake.
#[derive(Clone)]
pub(crate) struct SessionKeys {
    dialer: [u8; 32],
    listener: [u8; 32],
    /// Bytes that both sides know and neither chose alone.
    pub(crate) salt: [u8; 32],
}

impl SessionKeys {
    /// The key for the frames of one side.
    pub(crate) const fn of(&self, dials: bool) -> &[u8; 32] {
        if dials { &self.dialer } else { &self.listener }
    }
}

/// Hashes of the hello, and of the answer up to its agent.
#[derive(Clone, Debug)]
pub(crate) struct Transcript {
    /// For the MACs: they tell whether a member of the mesh speaks.
    plain: [u8; 32],
    /// With the channel binding, for the signatures and the keys.
    bound: [u8; 32],
}

/// The part of the handshake that only members can do.
#[derive(Clone)]
pub(crate) struct Membership {
    key: [u8; 32],
    tag: [u8; 8],
}

impl Membership {
    pub(crate) fn new(mesh: &MeshSecret) -> Self {
        let key = blake3::derive_key("consilience session handshake v1", mesh.as_bytes());
        Self { key, tag: mesh.id().discovery_key().tag() }
    }

    fn mac(&self, step: u8, parts: &[&[u8]]) -> [u8; MAC_BYTES] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&[step]);
        for part in parts {
            hasher.update(part);
        }
        let mut mac = [0; MAC_BYTES];
        hasher.finalize_xof().fill(&mut mac);
        mac
    }

    /// The body of a hello, which repeats a challenge if there was one.
    pub(crate) fn hello(&self, Hello { terms, challenge }: &Hello) -> Vec<u8> {
        let mut body = self.tag.to_vec();
        terms.write(&mut body);
        body.extend(challenge.iter().flatten());
        body.extend(self.mac(1, &[&body]));
        body
    }

    pub(crate) fn read_hello(&self, body: &[u8]) -> Result<Hello, HandshakeError> {
        let mut reader = Reader::new(body);
        if reader.array()? != self.tag {
            return Err(HandshakeError::WrongMesh);
        }
        let terms = Terms::read(&mut reader)?;
        let challenge = if reader.remaining() > MAC_BYTES { Some(reader.array()?) } else { None };
        let covered = reader.since(0);
        let mac = reader.array()?;
        reader.finish()?;
        if !same(&mac, &self.mac(1, &[covered])) {
            return Err(HandshakeError::NotAMember);
        }
        Ok(Hello { terms, challenge })
    }

    /// The body of a challenge: it names the hello that it asks again for, so one that was recorded is of no use.
    pub(crate) fn challenge(&self, hello_nonce: &[u8; 16], challenge: &[u8; 16]) -> Vec<u8> {
        let mut body = [*hello_nonce, *challenge].concat();
        body.extend(self.mac(5, &[&body]));
        body
    }

    /// The challenge to the hello with a nonce; none if it is another's, or no member's.
    pub(crate) fn read_challenge(&self, body: &[u8], hello_nonce: &[u8; 16]) -> Option<[u8; 16]> {
        let (nonce, rest) = body.split_first_chunk()?;
        let (challenge, mac) = rest.split_first_chunk()?;
        let mac: &[u8; MAC_BYTES] = mac.try_into().ok()?;
        (nonce == hello_nonce && same(mac, &self.mac(5, &[nonce, challenge]))).then_some(*challenge)
    }

    /// The body of an answer.
    pub(crate) fn answer(
        &self,
        hello: &[u8],
        terms: &Terms,
        binding: &[u8],
        agent: &AgentId,
        sign: impl FnOnce(&[u8]) -> Result<Signature, SignError>,
    ) -> Result<(Vec<u8>, Transcript), SignError> {
        let mut body = Vec::new();
        terms.write(&mut body);
        body.extend_from_slice(agent.as_bytes());
        let transcript = Transcript::new(hello, &body, binding);
        let signature = sign(&transcript.message(false, agent))?;
        body.extend_from_slice(signature.as_bytes());
        body.extend(self.mac(2, &[&transcript.plain, signature.as_bytes()]));
        Ok((body, transcript))
    }

    pub(crate) fn read_answer(
        &self,
        hello: &[u8],
        body: &[u8],
        binding: &[u8],
        bound: bool,
    ) -> Result<(Terms, AgentId, Transcript), HandshakeError> {
        let mut reader = Reader::new(body);
        let terms = Terms::read(&mut reader)?;
        let agent = AgentId::from_bytes(reader.array()?);
        let transcript = Transcript::new(hello, reader.since(0), binding);
        let signature = self.check_mac(2, &[], &transcript, reader)?;
        if terms.bound != bound {
            return Err(HandshakeError::Binding);
        }
        check_signature(false, &transcript, &agent, &signature)?;
        Ok((terms, agent, transcript))
    }

    /// The body of a proof.
    pub(crate) fn proof(
        &self,
        transcript: &Transcript,
        agent: &AgentId,
        sign: impl FnOnce(&[u8]) -> Result<Signature, SignError>,
    ) -> Result<Vec<u8>, SignError> {
        let signature = sign(&transcript.message(true, agent))?;
        let mut body = agent.as_bytes().to_vec();
        body.extend_from_slice(signature.as_bytes());
        body.extend(self.mac(3, &[&transcript.plain, agent.as_bytes(), signature.as_bytes()]));
        Ok(body)
    }

    pub(crate) fn read_proof(&self, transcript: &Transcript, body: &[u8]) -> Result<AgentId, HandshakeError> {
        let mut reader = Reader::new(body);
        let agent = AgentId::from_bytes(reader.array()?);
        let signature = self.check_mac(3, agent.as_bytes(), transcript, reader)?;
        check_signature(true, transcript, &agent, &signature)?;
        Ok(agent)
    }

    /// Checks the MAC at the end of a body, and gives the signature before it.
    fn check_mac(
        &self,
        step: u8,
        named: &[u8],
        transcript: &Transcript,
        mut reader: Reader<'_>,
    ) -> Result<Signature, HandshakeError> {
        let signature = Signature::from_bytes(reader.array()?);
        let mac = reader.array()?;
        reader.finish()?;
        if !same(&mac, &self.mac(step, &[&transcript.plain, named, signature.as_bytes()])) {
            return Err(HandshakeError::NotAMember);
        }
        Ok(signature)
    }

    pub(crate) fn keys(&self, transcript: &Transcript, dialer: &AgentId) -> SessionKeys {
        let mut secret = [0; 32];
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&[4]).update(&transcript.bound).update(dialer.as_bytes());
        hasher.finalize_xof().fill(&mut secret);
        SessionKeys {
            dialer: blake3::derive_key("consilience session dialer v1", &secret),
            listener: blake3::derive_key("consilience session listener v1", &secret),
            salt: blake3::derive_key("consilience session salt v1", &secret),
        }
    }

    /// The body of a refusal: it names the hello that it refuses, so nobody can refuse a hello that they have not seen.
    pub(crate) fn refusal(hello_nonce: &[u8; 16], reason: u8) -> Vec<u8> {
        let mut body = hello_nonce.to_vec();
        body.push(reason);
        body
    }
}

/// Checks which agent speaks, after the MAC has shown that a member does.
fn check_signature(
    dials: bool,
    transcript: &Transcript,
    agent: &AgentId,
    signature: &Signature,
) -> Result<(), HandshakeError> {
    let key = AgentKey::admit(agent)?;
    if key.verifies(&transcript.message(dials, agent), signature) {
        Ok(())
    } else {
        Err(HandshakeError::Signature)
    }
}

/// The nonce of a hello that is of another mesh, to refuse it.
pub(crate) fn hello_nonce(body: &[u8]) -> Option<[u8; 16]> {
    let mut reader = Reader::new(body);
    reader.take(8).ok()?;
    Terms::read(&mut reader).ok().map(|terms| terms.nonce)
}

impl core::fmt::Debug for Membership {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Membership")
    }
}

impl core::fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SessionKeys")
    }
}

impl Transcript {
    fn new(hello: &[u8], answer: &[u8], binding: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("consilience session transcript v1");
        // The first says where it ends.
        hasher.update(&(hello.len() as u64).to_le_bytes()).update(hello).update(answer);
        let plain = *hasher.finalize().as_bytes();
        let mut hasher = blake3::Hasher::new_derive_key("consilience session bound transcript v1");
        let bound = *hasher.update(&plain).update(binding).finalize().as_bytes();
        Self { plain, bound }
    }

    /// The bytes that an agent signs.
    fn message(&self, dials: bool, agent: &AgentId) -> Vec<u8> {
        let mut message = SigningTag::Handshake.as_bytes().to_vec();
        message.push(u8::from(dials));
        message.extend_from_slice(&self.bound);
        message.extend_from_slice(agent.as_bytes());
        message
    }
}

/// Whether two MACs are the same, in a time that does not depend on where they differ.
pub(crate) fn same<const N: usize>(a: &[u8; N], b: &[u8; N]) -> bool {
    a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// The first 8 bytes of a MAC over a frame's body.
pub(crate) fn frame_mac(key: &[u8; 32], body: &[u8]) -> [u8; 8] {
    let mut mac = [0; 8];
    blake3::Hasher::new_keyed(key).update(body).finalize_xof().fill(&mut mac);
    mac
}
