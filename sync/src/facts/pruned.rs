//! [`Pruned`]: a writer's word that it has given up events for good.

use alloc::vec::Vec;

use crate::budget::VerifyBudget;
use crate::codec::{DecodeError, Reader, put_varint};
use crate::identity::{
    AgentKey, KeyError, LogId, LogKind, LogOpening, MeshId, NamedOpening, OpeningError, SignError, Signature,
    Signer, SigningTag,
};
use crate::log::LOG_SIZE_MAX;

const KIND: u8 = 0x2b;

/// A writer's signed word that nobody needs its events in a topic before a point: all of its event logs of earlier
/// incarnations than the one named, and of that one the entries below a number.
///
/// A base in a log's own entries gives up events of that log as long as its writer goes on in it, and can be cut out by a
/// fork. This gives up those of earlier incarnations, and stays. Of two statements of an agent about a topic the one of the
/// later incarnation stands, then the one of the greater number; it says all that the other does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    log: LogId,
    opening: LogOpening,
    below: u64,
    bytes: Vec<u8>,
}

/// Why bytes are not such a statement. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrunedError {
    /// The opening or the bytes are not accepted, or the log is no event log.
    #[error(transparent)]
    Opening(#[from] OpeningError),
    /// The signature is not the writer's.
    #[error("the signature is not the writer's")]
    BadSignature,
    /// The peer has caused more signature checks than its bytes pay for. Try again when more has come.
    #[error("the peer's allowance of signature checks is used up")]
    Budget,
}

impl From<DecodeError> for PrunedError {
    fn from(error: DecodeError) -> Self {
        Self::Opening(error.into())
    }
}

impl From<KeyError> for PrunedError {
    fn from(error: KeyError) -> Self {
        Self::Opening(error.into())
    }
}

/// The signed bytes: tag ‖ log id ‖ below u64le.
fn message(log: &LogId, below: u64) -> [u8; 72] {
    let mut bytes = [0; 72];
    let (tag, rest) = bytes.split_at_mut(32);
    let (id, number) = rest.split_at_mut(32);
    tag.copy_from_slice(SigningTag::Pruned.as_bytes());
    id.copy_from_slice(log.as_bytes());
    number.copy_from_slice(&below.to_le_bytes());
    bytes
}

impl Pruned {
    /// Signs that the events of earlier logs, and those of this one below a number, are given up.
    ///
    /// # Errors
    ///
    /// [`SignError::OtherAgent`] if the signer is of another agent, [`SignError::Unavailable`] for a state log or a number
    /// above [`LOG_SIZE_MAX`], else why the signer did not sign.
    pub fn sign(
        named: &NamedOpening,
        below: u64,
        mesh: &MeshId,
        signer: &dyn Signer,
    ) -> Result<Self, SignError> {
        let opening = named.opening();
        if signer.agent() != opening.agent {
            return Err(SignError::OtherAgent);
        }
        if opening.kind != LogKind::Event || below > LOG_SIZE_MAX {
            return Err(SignError::Unavailable);
        }
        let signature = signer.sign(&message(named.id(), below))?;
        let mut bytes = Vec::new();
        bytes.push(KIND);
        opening.write(mesh, &mut bytes);
        put_varint(&mut bytes, below);
        bytes.extend_from_slice(signature.as_bytes());
        Ok(Self { log: *named.id(), opening: opening.clone(), below, bytes })
    }

    /// The canonical bytes, some 150. Layout: `docs/wire/log.md`.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The log of which the entries below [`below`](Self::below) are given up, and all earlier ones wholly.
    #[must_use]
    pub const fn log(&self) -> &LogId {
        &self.log
    }

    /// The opening of that log.
    #[must_use]
    pub const fn opening(&self) -> &LogOpening {
        &self.opening
    }

    /// The first number in that log that is not given up. It may lie beyond the log's end.
    #[must_use]
    pub const fn below(&self) -> u64 {
        self.below
    }

    /// What it says, without the signature, of which there can be many.
    pub(crate) fn statement(&self) -> [u8; 9] {
        let mut bytes = [KIND; 9];
        if let Some((_, number)) = bytes.split_first_chunk_mut::<1>() {
            number.copy_from_slice(&self.below.to_le_bytes());
        }
        bytes
    }
}

/// A statement of which the form was checked, and the signature was not.
#[derive(Clone, Debug)]
pub struct UncheckedPruned<'a> {
    named: NamedOpening,
    below: u64,
    signature: Signature,
    bytes: &'a [u8],
}

impl<'a> UncheckedPruned<'a> {
    /// Reads the bytes.
    ///
    /// # Errors
    ///
    /// [`OpeningError::WrongMesh`] where the bytes belong elsewhere, else the fault in their form.
    pub fn parse(bytes: &'a [u8], mesh: &MeshId) -> Result<Self, PrunedError> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != KIND {
            return Err(DecodeError::Kind.into());
        }
        let opening = LogOpening::read(&mut reader, mesh)?;
        let below = reader.varint_max(LOG_SIZE_MAX)?;
        let signature = Signature::from_bytes(reader.array()?);
        reader.finish()?;
        if opening.kind != LogKind::Event {
            return Err(DecodeError::Kind.into());
        }
        Ok(Self { named: opening.named(mesh), below, signature, bytes })
    }

    /// All of its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The opening of the log that it names.
    #[must_use]
    pub const fn opening(&self) -> &NamedOpening {
        &self.named
    }

    /// The first number in that log that is not given up.
    #[must_use]
    pub const fn below(&self) -> u64 {
        self.below
    }

    /// Checks the signature, with a key that may be admitted already, and is afterwards. Costs one signature check, and
    /// another for the admission of the key.
    pub(crate) fn check(
        &self,
        budget: &mut VerifyBudget,
        admitted: Option<AgentKey>,
    ) -> Result<(Pruned, AgentKey), PrunedError> {
        if !budget.spend(if admitted.is_some() { 1 } else { 2 }) {
            return Err(PrunedError::Budget);
        }
        let opening = self.named.opening();
        let key = match admitted {
            Some(key) => key,
            None => AgentKey::admit(&opening.agent)?,
        };
        if !key.verifies(&message(self.named.id(), self.below), &self.signature) {
            return Err(PrunedError::BadSignature);
        }
        let (log, opening) = (*self.named.id(), opening.clone());
        Ok((Pruned { log, opening, below: self.below, bytes: self.bytes.to_vec() }, key))
    }
}
