//! [`Listen`]: the handshake of the side that was called.
//!
//! Anybody can repeat a hello of an earlier session, so a hello never takes the place of another, and none but a proof
//! decides whose it was. The invariant: at most [`ANSWERED_MAX`] hellos are remembered, and each is answered with a nonce of
//! its own.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use super::dial::refusal_of;
use super::error::{HandshakeError, Refusal};
use super::frame::{Kind, put_frame};
use super::handshake::{Membership, SessionKeys, Terms, Transcript, hello_nonce};
use super::{HANDSHAKE_MS, NotTaken};
use crate::identity::{AgentId, SignError, Signature};

/// Hellos that a session waits for the proof of; the oldest go first.
const ANSWERED_MAX: usize = 4;

/// It waits for a hello, and for the proof of one that it has answered.
#[derive(Debug)]
pub(crate) struct Listen {
    answered: Vec<Answered>,
    deadline: u64,
}

/// A hello that was answered.
#[derive(Debug)]
struct Answered {
    hello: Vec<u8>,
    theirs: Terms,
    answer: Vec<u8>,
    transcript: Transcript,
    due: bool,
    /// Why the side that dials did not take the answer, if it said so.
    refused: Option<Refusal>,
}

impl Listen {
    pub(crate) const fn new(ms: u64) -> Self {
        Self { answered: Vec::new(), deadline: ms.saturating_add(HANDSHAKE_MS) }
    }

    /// Takes in a hello, to be answered by an agent with terms that are made for it.
    ///
    /// # Errors
    ///
    /// Why it is not answered.
    pub(crate) fn handle_hello(
        &mut self,
        membership: &Membership,
        body: &[u8],
        (agent, binding): (&AgentId, Option<&[u8]>),
        terms: impl FnOnce() -> Terms,
        sign: impl FnOnce(&[u8]) -> Result<Signature, SignError>,
    ) -> Result<(), NotTaken> {
        if let Some(again) = self.answered.iter_mut().find(|answered| answered.hello == body) {
            again.due = true;
            return Ok(());
        }
        // A side that a member has called already tells nobody that something is wrong with the address.
        let others = !self.answered.is_empty();
        let theirs = match membership.read_hello(body) {
            Ok(terms) => terms,
            Err(HandshakeError::WrongMesh) if !others => {
                return Err(NotTaken::Failed(HandshakeError::WrongMesh, hello_nonce(body)));
            }
            Err(_) => return Err(NotTaken::NotAuthentic),
        };
        if theirs.bound != binding.is_some() {
            let failed = NotTaken::Failed(HandshakeError::Binding, Some(theirs.nonce));
            return Err(if others { NotTaken::NotAuthentic } else { failed });
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
            answer,
            transcript,
            due: true,
            refused: None,
        });
        Ok(())
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
    ) -> Result<(Terms, AgentId, SessionKeys), NotTaken> {
        for answered in &self.answered {
            match membership.read_proof(&answered.transcript, body) {
                Ok(agent) => {
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

    /// Appends an answer, if one is due.
    pub(crate) fn poll_frame(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(due) = self.answered.iter_mut().find(|answered| answered.due) else { return false };
        due.due = false;
        put_frame(out, Kind::Answer, &due.answer);
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
