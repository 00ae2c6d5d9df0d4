//! The content of an entry of a state log: one transaction, as bytes.
//!
//! The form is checked once, which gives a [`Transaction`] that hands out borrowed operations as often as one likes; and
//! written by a [`Draft`]. `docs/wire/payload.md` has it to the byte. The meaning of the operations is in `fold`.
//!
//! The invariant: bytes that become a transaction are the only spelling of their content. Bytes that are refused make
//! their entry inert, for everybody alike; those of a later version are kept until they can be read.

mod draft;
mod read;

pub use draft::EntryTooLarge;
pub(crate) use draft::{Draft, Relisted};
pub(crate) use read::{LOGS_MAX, Op, PayloadError, Refs, Statement, Transaction};

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::borrow::Borrow;

use consilience_crdts::CouplingSchema;
use consilience_sync::codec::put_varint;

/// The version of payloads that is written, and read.
const VERSION: u8 = 1;
/// The most bytes in the name of a collection.
pub const NAME_BYTES_MAX: usize = 64;

/// The kind of a collection. With the name, and the schema of a coupling, it says which collection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CollectionKind {
    /// Keys to values; the last writer wins.
    Map,
    /// Elements.
    Set,
    /// Counters that decay.
    Coupling,
}

impl CollectionKind {
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Map => 0,
            Self::Set => 1,
            Self::Coupling => 2,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Map),
            1 => Some(Self::Set),
            2 => Some(Self::Coupling),
            _ => None,
        }
    }
}

/// Which collection of a topic, in canonical bytes: kind, length of the name, name, and the schema of a coupling. They
/// order collections by kind first. Several tables have the id of a collection, and share its bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CollectionId(Arc<[u8]>);

/// Ids order as their bytes do, so a table of them is searched by bytes that were read.
impl Borrow<[u8]> for CollectionId {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl CollectionId {
    pub(crate) fn new(kind: CollectionKind, name: &str, schema: Option<&CouplingSchema>) -> Option<Self> {
        let len =
            u8::try_from(name.len()).ok().filter(|len| (1..=NAME_BYTES_MAX).contains(&usize::from(*len)))?;
        let mut bytes = Vec::with_capacity(2 + name.len());
        bytes.extend([kind.byte(), len]);
        bytes.extend(name.as_bytes());
        if let Some(schema) = schema {
            bytes.extend(schema.encode());
        }
        Some(Self(bytes.into()))
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn kind(&self) -> CollectionKind {
        self.0.first().and_then(|byte| CollectionKind::from_byte(*byte)).unwrap_or(CollectionKind::Map)
    }

    /// The name. It was checked when the id was made or read.
    pub(crate) fn name(&self) -> &str {
        let len = self.0.get(1).map_or(0, |len| usize::from(*len));
        let name = self.0.get(2..2 + len).unwrap_or_default();
        core::str::from_utf8(name).unwrap_or_default()
    }

    /// The schema of a coupling.
    pub(crate) fn schema(&self) -> Option<CouplingSchema> {
        let len = self.0.get(1).map_or(0, |len| usize::from(*len));
        CouplingSchema::decode(self.0.get(2 + len..)?).ok()
    }
}

/// A dot of another log, as a removal names it. The tag is the first 4 bytes of the leaf hash of the entry that minted
/// it, which depends on the entry's salt: nobody can name a dot that does not exist yet, whatever is known of the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ref {
    /// The first 8 bytes of the log's id.
    pub(crate) alias: [u8; 8],
    pub(crate) counter: u64,
    pub(crate) tag: [u8; 4],
}

/// The counter of the dot that operation `index` of entry `seq` mints. From 1.
pub(crate) const fn counter(seq: u64, index: u16) -> u64 {
    (seq << 16 | index as u64) + 1
}

/// The entry that minted a dot.
pub(crate) const fn seq_of(counter: u64) -> u64 {
    counter.saturating_sub(1) >> 16
}

/// Which operation of its entry minted a dot.
pub(crate) const fn index_of(counter: u64) -> u16 {
    let [low, high, ..] = counter.saturating_sub(1).to_le_bytes();
    u16::from_le_bytes([low, high])
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
