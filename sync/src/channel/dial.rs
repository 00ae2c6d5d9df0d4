//! [`Dial`]: the handshake of the side that dials, up to the answer; and [`Proof`], which it sends until it is heard.
//!
//! The invariant: an answer that does not prove that a member of the mesh sent it changes nothing, and a member's answer to
//! another hello changes nothing either.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use super::cipher::Secret;
use super::error::{HandshakeError, Refusal};
use super::frame::{Kind, put_frame};
use super::handshake::{Hello, HelloName, Membership, Saying, Secrets, Terms, hello_name};
use super::resumption::{Resumed, Resumption};
use super::{HANDSHAKE_MS, NotTaken};
use crate::identity::AgentId;

/// The first wait before a frame of the handshake is sent again, in milliseconds. Doubles.
const AGAIN_MS: u64 = 250;
/// The longest wait where datagrams get lost: if three in ten do, one of the thirty hellos of a handshake's time is answered
/// but in one handshake of a billion.
const AGAIN_MS_MAX_LOSSY: u64 = 500;
/// The longest wait over a transport that repeats by itself.
const AGAIN_MS_MAX: u64 = 2_500;

/// The reason of a refusal by which a listener says that it does not remember what a hello resumes. No host is told.
pub(super) const FORGOTTEN: u8 = 5;

/// When a frame of the handshake is sent again.
#[derive(Clone, Copy, Debug)]
struct Resend {
    at: u64,
    wait: u64,
    wait_max: u64,
}

impl Resend {
    const fn new(lossy: bool, ms: u64) -> Self {
        Self { at: ms, wait: AGAIN_MS, wait_max: if lossy { AGAIN_MS_MAX_LOSSY } else { AGAIN_MS_MAX } }
    }

    /// It is due now, and then as if it had been sent for the first time.
    const fn nudge(&mut self, ms: u64) {
        self.at = ms;
        self.wait = AGAIN_MS;
    }

    const fn is_due(&mut self, ms: u64) -> bool {
        let due = ms >= self.at;
        if due {
            self.at = ms.saturating_add(self.wait);
            let next = self.wait.saturating_mul(2);
            self.wait = if next < self.wait_max { next } else { self.wait_max };
        }
        due
    }
}

/// Whether a refusal names a hello, and why it was refused.
pub(super) fn refusal_of(body: &[u8]) -> Option<(HelloName, Refusal)> {
    match body.split_first_chunk() {
        Some((name, [reason])) => Some((*name, Refusal::from_code(*reason))),
        _ => None,
    }
}

/// Why a hello was refused, if a refusal names it.
fn refusal_for(body: &[u8], hello: &HelloName) -> Option<Refusal> {
    refusal_of(body).filter(|(name, _)| name == hello).map(|(_, refusal)| refusal)
}

/// What a side that dials remembers of the other.
#[derive(Debug)]
pub(crate) struct Resuming {
    pub(crate) resumption: Resumption,
    pub(crate) with: Resumed,
    /// Of the channel.
    pub(crate) binding: Vec<u8>,
}

/// It has said hello, and waits for the answer.
#[derive(Debug)]
pub(crate) struct Dial {
    agent: AgentId,
    terms: Terms,
    /// As long as the other has not said that it does not remember.
    resuming: Option<Resuming>,
    hello: Hello,
    /// The challenge that the hello repeats, and the hello that was challenged.
    challenge: Option<([u8; 16], HelloName)>,
    resend: Resend,
    deadline: u64,
    /// Whether the other has dialled as well.
    called: bool,
}

/// What a hello says of both.
fn saying(challenge: Option<[u8; 16]>, resuming: Option<&Resuming>) -> Saying<'_> {
    let resumes = resuming.map(|resuming| (&resuming.resumption, &resuming.binding[..]));
    Saying { challenge, resumes }
}

impl Dial {
    /// For an agent, with what it remembers of the other and a secret that nobody can have known before, over a transport that
    /// loses frames or repeats them itself.
    pub(crate) fn new(
        membership: &Membership,
        (terms, agent): (Terms, AgentId),
        resuming: Option<Resuming>,
        secret: Secret,
        (lossy, ms): (bool, u64),
    ) -> Self {
        let hello = membership.hello(terms, saying(None, resuming.as_ref()), &agent, secret);
        Self {
            agent,
            terms,
            resuming,
            hello,
            challenge: None,
            resend: Resend::new(lossy, ms),
            deadline: ms.saturating_add(HANDSHAKE_MS),
            called: false,
        }
    }

    /// The name of its hello: a refusal says it.
    pub(crate) const fn name(&self) -> HelloName {
        self.hello.name
    }

    /// Notes that the other side dials as well, unless it is one's own hello, come back.
    pub(crate) fn handle_hello(&mut self, membership: &Membership, body: &[u8], secret: Secret) {
        let own = hello_name(body) == self.name();
        self.called |= !own && membership.read_hello(body, secret, &[], |_| None).is_ok();
    }

    /// Takes in that the other side does not answer this hello, since many came that were recorded: it is said again at
    /// once, with the challenge that shows that it was made now.
    ///
    /// # Errors
    ///
    /// If the challenge is not to this hello, or no member's.
    pub(crate) fn handle_challenge(
        &mut self,
        membership: &Membership,
        body: &[u8],
        secret: Secret,
        ms: u64,
    ) -> Result<(), NotTaken> {
        // The same again changes nothing, not even when the hello is sent again.
        if let Some((challenge, before)) = &self.challenge
            && membership.read_challenge(body, before).is_some_and(|again| again == *challenge)
        {
            return Ok(());
        }
        let name = self.name();
        let challenge = membership.read_challenge(body, &name).ok_or(NotTaken::NotAuthentic)?;
        // An ephemeral key seals one payload, so the other hello has another.
        let saying = saying(Some(challenge), self.resuming.as_ref());
        self.hello = membership.hello(self.terms, saying, &self.agent, secret);
        self.challenge = Some((challenge, name));
        self.resend.nudge(ms);
        Ok(())
    }

    /// Whom it resumes with.
    pub(crate) fn resumed(&self) -> Option<Resumed> {
        self.resuming.as_ref().map(|resuming| resuming.with)
    }

    /// Reads an answer: the other side's terms, its agent, and what both have in common.
    ///
    /// # Errors
    ///
    /// Why it was not taken in.
    pub(crate) fn handle_answer(
        &self,
        membership: &Membership,
        body: &[u8],
        binding: Option<&[u8]>,
    ) -> Result<(Terms, AgentId, Secrets), NotTaken> {
        let bytes = binding.unwrap_or_default();
        let read = membership.read_answer(&self.hello, body, bytes, binding.is_some());
        let (terms, agent, secrets) = read.map_err(|error| match error {
            // Somebody else's. The right one may still come.
            HandshakeError::NotAMember | HandshakeError::Decode(_) => NotTaken::NotAuthentic,
            error => NotTaken::Failed(error, Some(self.name())),
        })?;
        // Whoever gives no name is the one that is remembered.
        let agent = agent.or(self.resumed().map(|with| with.peer)).ok_or(NotTaken::NotAuthentic)?;
        Ok((terms, agent, secrets))
    }

    /// Why the other side refuses this hello, if a refusal is of that. If it only does not remember, another hello is said at
    /// once.
    pub(crate) fn handle_refusal(
        &mut self,
        membership: &Membership,
        body: &[u8],
        secret: Secret,
        ms: u64,
    ) -> Option<Refusal> {
        let refusal = refusal_for(body, &self.name())?;
        if refusal.code() != FORGOTTEN || self.resuming.take().is_none() {
            return Some(refusal);
        }
        let saying = saying(self.challenge.map(|(challenge, _)| challenge), None);
        self.hello = membership.hello(self.terms, saying, &self.agent, secret);
        self.resend.nudge(ms);
        None
    }

    /// Appends the hello, if it is due.
    pub(crate) fn poll_frame(&mut self, ms: u64, out: &mut Vec<u8>) -> bool {
        let due = self.resend.is_due(ms);
        if due {
            put_frame(out, Kind::Hello, &self.hello.body);
        }
        due
    }

    /// When there is something to do.
    pub(crate) fn poll_timeout(&self) -> u64 {
        self.resend.at.min(self.deadline)
    }

    /// The hello is sent again now.
    pub(crate) const fn nudge(&mut self, ms: u64) {
        self.resend.nudge(ms);
    }

    /// Whether it has taken too long.
    pub(crate) const fn is_over(&self, ms: u64) -> bool {
        ms >= self.deadline
    }

    /// Whether the other side has dialled as well.
    pub(crate) const fn was_called(&self) -> bool {
        self.called
    }
}

/// The proof that the side that dials sends until it hears something on the channel.
#[derive(Debug)]
pub(crate) struct Proof {
    /// Nothing, if the session was resumed: data is the proof then.
    body: Vec<u8>,
    hello: HelloName,
    resend: Resend,
    deadline: u64,
}

impl Proof {
    pub(crate) const fn new(body: Vec<u8>, dial: &Dial, ms: u64) -> Self {
        let mut resend = dial.resend;
        resend.nudge(ms);
        Self { body, hello: dial.name(), resend, deadline: dial.deadline }
    }

    /// It is sent again now.
    pub(crate) const fn nudge(&mut self, ms: u64) {
        self.resend.nudge(ms);
    }

    /// Why the other side refuses it, if a refusal is of the hello that this proof follows.
    pub(crate) fn handle_refusal(&self, body: &[u8]) -> Option<Refusal> {
        refusal_for(body, &self.hello)
    }

    /// Appends the proof, if it is due.
    pub(crate) fn poll_frame(&mut self, ms: u64, out: &mut Vec<u8>) -> bool {
        let due = !self.body.is_empty() && self.resend.is_due(ms);
        if due {
            put_frame(out, Kind::Proof, &self.body);
        }
        due
    }

    /// When there is something to do.
    pub(crate) fn poll_timeout(&self) -> u64 {
        if self.body.is_empty() { self.deadline } else { self.resend.at.min(self.deadline) }
    }

    /// Whether the other side never took it, and has given up by now.
    pub(crate) const fn is_over(&self, ms: u64) -> bool {
        ms >= self.deadline
    }
}
