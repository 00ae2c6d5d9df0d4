//! [`JournalCorrupt`]: damage to bytes from storage.
//!
//! The invariant: damage is named with the byte where it begins, and nothing of such storage is taken in.

use crate::codec::DecodeError;

/// Which bytes a fault is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Area {
    /// The snapshot.
    Snapshot,
    /// The records.
    Records,
}

/// The kind of damage to bytes from storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// They differ from the bytes that were written, or something is missing before them. Bring a good copy of the
    /// storage; or open the part before them as a restored replica, and without a part as one.
    Lost,
    /// They were written for another mesh: the host opened the wrong storage.
    OtherMesh,
    /// A later version of this library wrote them: upgrade.
    Version,
}

/// Storage has lost or changed bytes that it had confirmed, or belongs elsewhere. Nothing was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalCorrupt {
    /// The area that is damaged.
    pub part: Area,
    /// The byte with which the fault begins.
    pub offset: usize,
    /// The kind of damage.
    pub damage: Damage,
}

impl core::fmt::Display for JournalCorrupt {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let part = match self.part {
            Area::Snapshot => "snapshot",
            Area::Records => "journal",
        };
        let damage = match self.damage {
            Damage::Lost => "storage has lost or changed bytes that it had confirmed: bring a good copy",
            Damage::OtherMesh => "it belongs to another mesh: check the mesh id and the place",
            Damage::Version => "a later version of this library wrote it: upgrade",
        };
        write!(f, "the {part} is not usable from byte {} on: {damage}", self.offset)
    }
}

impl core::error::Error for JournalCorrupt {}

/// The damage of an item that is whole and cannot be read.
pub(super) const fn damage_of(error: DecodeError) -> Damage {
    match error {
        DecodeError::Kind => Damage::Version,
        _ => Damage::Lost,
    }
}
