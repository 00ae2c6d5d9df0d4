//! [`Listen`]: the handshake of the side that was called.
//!
//! Anybody can repeat a hello of an earlier session, so a hello never takes the place of another, and none but a proof
//! decides whose it was. Each answer costs a signature; so while many hellos come that nobody proves ([`Calm`]), a hello is
//! answered only if it repeats the challenge of this one session, which none has that was made before.
//!
//! The invariant: at most [`ANSWERED_MAX`] hellos are remembered, each is answered with a nonce of its own, and whoever is
//! no member causes at most [`Calm::UNPROVEN_MAX`] signatures, in all sessions together, as long as it does not pause.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::dial::refusal_of;
use super::error::{HandshakeError, Refusal};
use super::frame::{Kind, put_frame};
use super::handshake::{Hello, Membership, SessionKeys, Terms, Transcript, hello_nonce};
use super::{HANDSHAKE_MS, NotTaken};
use crate::identity::{AgentId, SignError, Signature};
use consilience_base::planted::{Fault, planted};

/// Hellos that a session waits for the proof of; the oldest go first.
const ANSWERED_MAX: usize = 4;

/// Hellos that wait to be told the challenge; the oldest go first, and are sent again.
const CHALLENGED_MAX: usize = 16;
/// A session signs at most so many answers: hellos that were made for it can be recorded and repeated as well.
const SIGNED_MAX: u32 = 32;

/// How many hellos were answered, in all sessions, that nobody has proved: what a listener spends before it asks for more
/// than a hello.
#[derive(Debug, Default)]
pub(crate) struct Calm {
    unproven: u32,
    /// When the last hello came that repeats no challenge.
    last: u64,
}

impl Calm {
    /// So many are answered at once.
    pub(crate) const UNPROVEN_MAX: u32 = 8;
    /// They are forgotten once no further hello without a challenge came for so long, in milliseconds: a handshake that was
    /// to be proved is over by then.
    const PAUSE_MS: u64 = HANDSHAKE_MS;

    /// Takes in a hello that repeats no challenge. Whether it may be answered.
    const fn allows(&mut self, ms: u64) -> bool {
        if ms >= self.last.saturating_add(Self::PAUSE_MS) {
            self.unproven = 0;
        }
        self.last = ms;
        self.unproven < Self::UNPROVEN_MAX
    }

    /// Notes that such a hello was answered.
    const fn answered(&mut self) {
        self.unproven = self.unproven.saturating_add(1);
    }

    /// Notes that one of them was proved.
    const fn proved(&mut self) {
        self.unproven = self.unproven.saturating_sub(1);
    }
}

/// It waits for a hello, and for the proof of one that it has answered.
#[derive(Debug)]
pub(crate) struct Listen {
    answered: Vec<Answered>,
    /// Of this session alone.
    challenge: [u8; 16],
    /// The nonces of hellos that have to be sent again with it.
    challenged: VecDeque<[u8; 16]>,
    /// How many answers were signed.
    signed: u32,
    deadline: u64,
}

/// A hello that was answered.
#[derive(Debug)]
struct Answered {
    hello: Vec<u8>,
    theirs: Terms,
    /// Whether it repeats the challenge.
    challenged: bool,
    answer: Vec<u8>,
    transcript: Transcript,
    due: bool,
    /// Why the side that dials did not take the answer, if it said so.
    refused: Option<Refusal>,
}

impl Listen {
    /// With a challenge that nobody can have known before.
    pub(crate) const fn new(challenge: [u8; 16], ms: u64) -> Self {
        Self {
            answered: Vec::new(),
            challenge,
            challenged: VecDeque::new(),
            signed: 0,
            deadline: ms.saturating_add(HANDSHAKE_MS),
        }
    }

    /// Takes in a hello, to be answered by an agent with terms that are made for it; or to be sent again with the
    /// challenge.
    ///
    /// # Errors
    ///
    /// Why it is not answered.
    pub(crate) fn handle_hello(
        &mut self,
        membership: &Membership,
        body: &[u8],
        (agent, binding): (&AgentId, Option<&[u8]>),
        (calm, ms): (&mut Calm, u64),
        terms: impl FnOnce() -> Terms,
        sign: impl FnOnce(&[u8]) -> Result<Signature, SignError>,
    ) -> Result<(), NotTaken> {
        if let Some(again) = self.answered.iter_mut().find(|answered| answered.hello == body) {
            again.due = true;
            return Ok(());
        }
        // A side that a member has called already tells nobody that something is wrong with the address.
        let others = !self.answered.is_empty();
        let Hello { terms: theirs, challenge } = match membership.read_hello(body) {
            Ok(hello) => hello,
            Err(HandshakeError::WrongMesh) if !others => {
                return Err(NotTaken::Failed(HandshakeError::WrongMesh, hello_nonce(body)));
            }
            Err(_) => return Err(NotTaken::NotAuthentic),
        };
        let challenged = challenge == Some(self.challenge);
        if !challenged && !calm.allows(ms) && !planted(Fault::HellosAreAnswered) {
            self.ask_again(theirs.nonce);
            return Ok(());
        }
        if theirs.bound != binding.is_some() {
            let failed = NotTaken::Failed(HandshakeError::Binding, Some(theirs.nonce));
            return Err(if others { NotTaken::NotAuthentic } else { failed });
        }
        if self.signed >= SIGNED_MAX {
            return Err(NotTaken::NotAuthentic);
        }
        self.signed = self.signed.saturating_add(1);
        if !challenged {
            calm.answered();
        }
        let (answer, transcript) = membership
            .answer(body, &terms(), binding.unwrap_or_default(), agent, sign)
            .map_err(|error| NotTaken::Failed(HandshakeError::Sign(error), Some(theirs.nonce)))?;
        if self.answered.len() >= ANSWERED_MAX {
            self.answered.remove(0);
        }
        self.answered.push(Answered {
            hello: body.to_vec(),
            theirs,
            challenged,
            answer,
            transcript,
            due: true,
            refused: None,
        });
        Ok(())
    }

    /// Has a hello sent again with the challenge.
    fn ask_again(&mut self, nonce: [u8; 16]) {
        if self.challenged.contains(&nonce) {
            return;
        }
        if self.challenged.len() >= CHALLENGED_MAX {
            self.challenged.pop_front();
        }
        self.challenged.push_back(nonce);
    }

    /// Reads the proof of one of the hellos: the terms of that, the agent, and the keys.
    ///
    /// # Errors
    ///
    /// Why it was not taken in.
    pub(crate) fn handle_proof(
        &self,
        membership: &Membership,
        body: &[u8],
        calm: &mut Calm,
    ) -> Result<(Terms, AgentId, SessionKeys), NotTaken> {
        for answered in &self.answered {
            match membership.read_proof(&answered.transcript, body) {
                Ok(agent) => {
                    if !answered.challenged {
                        calm.proved();
                    }
                    return Ok((answered.theirs, agent, membership.keys(&answered.transcript, &agent)));
                }
                Err(HandshakeError::NotAMember | HandshakeError::Decode(_)) => {}
                Err(error) => return Err(NotTaken::Failed(error, Some(answered.theirs.nonce))),
            }
        }
        Err(NotTaken::NotAuthentic)
    }

    /// Notes that somebody did not take an answer. Anybody who saw the hello could have said so, thus a proof is still
    /// waited for.
    pub(crate) fn handle_refusal(&mut self, body: &[u8]) {
        let Some((nonce, refusal)) = refusal_of(body) else { return };
        let of_them = self.answered.iter_mut().filter(|answered| answered.theirs.nonce == nonce);
        of_them.for_each(|answered| answered.refused = Some(refusal));
    }

    /// Whether there is a hello that a proof may follow.
    pub(crate) const fn has_answered(&self) -> bool {
        !self.answered.is_empty()
    }

    /// Appends an answer or a challenge, if one is due.
    pub(crate) fn poll_frame(&mut self, membership: &Membership, out: &mut Vec<u8>) -> bool {
        if let Some(due) = self.answered.iter_mut().find(|answered| answered.due) {
            due.due = false;
            put_frame(out, Kind::Answer, &due.answer);
            return true;
        }
        let Some(nonce) = self.challenged.pop_front() else { return false };
        put_frame(out, Kind::Challenge, &membership.challenge(&nonce, &self.challenge));
        true
    }

    /// When it has taken too long.
    pub(crate) const fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Why the side that dialled last did not go on, if it said so.
    pub(crate) fn refused(&self) -> Option<Refusal> {
        self.answered.iter().rev().find_map(|answered| answered.refused)
    }
}
