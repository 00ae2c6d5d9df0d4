//! [`Holder`]: what holds the logs that sessions are about.

use consilience_base::Timestamp;

use super::checkpoints::Checkpoint;
use crate::budget::VerifyBudget;
use crate::identity::{AgentId, LogId, LogOpening, SignError, Signature};
use crate::log::Received;
use crate::logset::{LogSet, OpenError, SetError};

/// What holds the logs that sessions are about: a replica, which also stores and folds what comes, or a relay.
///
/// What it is told to take in goes through it, so that it can follow; it must do with its set what it was asked to.
pub trait Holder {
    /// The logs.
    fn logs(&self) -> &LogSet;

    /// The logs, for what needs more than a look and changes nothing that counts.
    fn logs_mut(&mut self) -> &mut LogSet;

    /// Signs what local writers have appended and what may leave. Called before something is sent.
    fn sign_heads(&mut self, now: Timestamp);

    /// Signs a handshake for a local agent.
    ///
    /// # Errors
    ///
    /// [`SignError::OtherAgent`] if there is no such agent here, else why the signer did not sign.
    fn sign(&self, agent: &AgentId, message: &[u8]) -> Result<Signature, SignError>;

    /// Holds a log from now on; see [`LogSet::open`].
    ///
    /// # Errors
    ///
    /// Why it is not held.
    fn open(&mut self, opening: &LogOpening) -> Result<LogId, OpenError>;

    /// Takes a range in; see [`LogSet::receive`].
    ///
    /// # Errors
    ///
    /// Why it was refused.
    fn receive(
        &mut self,
        log: &LogId,
        range: &[u8],
        now: Timestamp,
        budget: &mut VerifyBudget,
    ) -> Result<Received, SetError>;

    /// Takes evidence in; see [`LogSet::receive_evidence`].
    ///
    /// # Errors
    ///
    /// Why it was refused.
    fn receive_evidence(
        &mut self,
        bytes: &[u8],
        now: Timestamp,
        budget: &mut VerifyBudget,
    ) -> Result<bool, SetError>;

    /// Everything that one peer had to say at first was taken in.
    fn met(&mut self) {}

    /// A pass has brought nothing more: what this peer knows of where histories part is known.
    fn settled(&mut self) {}

    /// This side and a peer hold the same. Whoever stores what it holds may store this behind it; see [`Checkpoint`].
    fn equal(&mut self, _: &Checkpoint) {}
}
