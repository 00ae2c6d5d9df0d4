//! What replicas say to one another, in bytes. A link knows who is at its other end, so no frame names its sender.

use consilience::crdts::Hlc;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Frame<'a> {
    /// What one event changed. Nobody confirms it: what is lost comes with a later repair.
    Changes {
        stamp: Hlc,
        #[serde(borrow)]
        parts: Parts<'a>,
    },
    /// Everything that changed at the sender behind what the receiver has confirmed.
    Repair {
        number: u64,
        stamp: Hlc,
        #[serde(borrow)]
        parts: Parts<'a>,
    },
    /// The repair of this number has been merged.
    Confirm { number: u64 },
}

/// Canonical bytes of a delta for each of the three collections; no bytes where there is nothing to say.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parts<'a> {
    pub(crate) map: &'a [u8],
    pub(crate) set: &'a [u8],
    pub(crate) coupling: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, String> {
        postcard::to_allocvec(self).map_err(|error| format!("a frame cannot be encoded: {error}"))
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, String> {
        postcard::from_bytes(bytes).map_err(|error| format!("a frame cannot be decoded: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_their_bytes() {
        let parts = Parts { map: b"m", set: b"", coupling: b"cc" };
        let frame = Frame::Repair { number: 300, stamp: Hlc::from_bits(7), parts };
        assert_eq!(Frame::decode(&frame.encode().unwrap()), Ok(frame));
        assert!(Frame::decode(b"\x07").is_err());
    }
}
