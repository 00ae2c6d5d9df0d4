//! [`SignedHead`]: one signature over everything that a log holds below a size.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use consilience_base::Timestamp;

use super::shape::LOG_SIZE_MAX;
use crate::codec::{DecodeError, Reader, put_varint};
use crate::hash::Hash;
use crate::identity::{
    AgentKey, LogId, LogOpening, MeshId, NamedOpening, OpeningError, SignError, Signature, Signer, SigningTag,
};

const KIND: u8 = 0x29;
/// The last instant that a head can state, in milliseconds since the Unix epoch.
pub(crate) const HEAD_MILLIS_MAX: u64 = (1 << 48) - 1;

/// A signed head: the writer's word that the first `size` entries of its log have this root.
///
/// Two heads of one log at which the roots of one size differ are a fork. A head of a smaller size is none, and
/// neither is the same root signed again at a later time, which is a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedHead {
    /// How many entries it covers: 1 to 2⁴⁴.
    pub size: u64,
    /// The base as of the last of them.
    pub base: u64,
    /// When it was signed, by the writer's clock. Below 2⁴⁸ ms.
    pub time: Timestamp,
    /// The root of the tree over them.
    pub root: Hash,
    /// The writer's signature.
    pub signature: Signature,
}

/// Why bytes are not a head of a log. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// The opening or the bytes are not accepted.
    #[error(transparent)]
    Opening(#[from] OpeningError),
    /// The signature is not the writer's, of just this head.
    #[error("the signature is not the writer's")]
    BadSignature,
}

impl From<DecodeError> for HeadError {
    fn from(error: DecodeError) -> Self {
        Self::Opening(error.into())
    }
}

impl SignedHead {
    /// The signed bytes: tag ‖ log id ‖ size u64le ‖ base u64le ‖ time u64le ‖ root.
    pub(crate) fn message(log: &LogId, size: u64, base: u64, time: Timestamp, root: &Hash) -> [u8; 120] {
        let mut bytes = [0; 120];
        bytes[..32].copy_from_slice(SigningTag::Head.as_bytes());
        bytes[32..64].copy_from_slice(log.as_bytes());
        bytes[64..72].copy_from_slice(&size.to_le_bytes());
        bytes[72..80].copy_from_slice(&base.to_le_bytes());
        bytes[80..88].copy_from_slice(&time.as_millis().to_le_bytes());
        bytes[88..].copy_from_slice(root.as_bytes());
        bytes
    }

    pub(crate) fn sign(
        signer: &dyn Signer,
        log: &LogId,
        (size, base, time): (u64, u64, Timestamp),
        root: Hash,
    ) -> Result<Self, SignError> {
        let signature = signer.sign(&Self::message(log, size, base, time, &root))?;
        Ok(Self { size, base, time, root, signature })
    }

    /// Whether the writer of this log signed it: one signature check.
    #[must_use]
    pub fn verifies(&self, log: &LogId, key: &AgentKey) -> bool {
        key.verifies(&Self::message(log, self.size, self.base, self.time, &self.root), &self.signature)
    }

    /// The head's content, as a hash. The signature is not part of it: the same content signed twice is one head.
    #[must_use]
    pub fn id(&self, log: &LogId) -> Hash {
        let message = Self::message(log, self.size, self.base, self.time, &self.root);
        Hash::from_bytes(*blake3::hash(&message).as_bytes())
    }

    /// Its bytes with the opening of its log, to be carried by anything. Layout: `docs/wire/log.md`.
    #[must_use]
    pub fn encode(&self, opening: &LogOpening, mesh: &MeshId) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.push(KIND);
        opening.write(mesh, &mut bytes);
        put_varint(&mut bytes, self.size);
        put_varint(&mut bytes, self.base);
        put_varint(&mut bytes, self.time.as_millis());
        bytes.extend_from_slice(self.root.as_bytes());
        bytes.extend_from_slice(self.signature.as_bytes());
        bytes
    }

    /// Reads the bytes that [`encode`](Self::encode) wrote, and checks key and signature.
    ///
    /// # Errors
    ///
    /// [`OpeningError::WrongMesh`] where the bytes belong elsewhere, [`HeadError::BadSignature`] where they were
    /// changed, else the fault in their form.
    pub fn decode(bytes: &[u8], mesh: &MeshId) -> Result<(LogOpening, Self), HeadError> {
        let (named, head) = Self::decode_named(bytes, mesh)?;
        Ok((named.into_opening(), head))
    }

    /// [`decode`](Self::decode), with the id of the log.
    pub(crate) fn decode_named(bytes: &[u8], mesh: &MeshId) -> Result<(NamedOpening, Self), HeadError> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != KIND {
            return Err(DecodeError::Kind.into());
        }
        let opening = LogOpening::read(&mut reader, mesh)?;
        let size = reader.varint_max(LOG_SIZE_MAX)?;
        let base = reader.varint()?;
        let time = Timestamp::from_millis(reader.varint_max(HEAD_MILLIS_MAX)?);
        let root = Hash::from_bytes(reader.array()?);
        let signature = Signature::from_bytes(reader.array()?);
        reader.finish()?;
        if size == 0 || base >= size {
            return Err(DecodeError::Base.into());
        }
        let head = Self { size, base, time, root, signature };
        let key = AgentKey::admit(&opening.agent).map_err(OpeningError::Key)?;
        let named = opening.named(mesh);
        if !head.verifies(named.id(), &key) {
            return Err(HeadError::BadSignature);
        }
        Ok((named, head))
    }
}
