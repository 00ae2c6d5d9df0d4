//! [`Checkpoint`]: when two sides were equal, so that the next time only the changes since then have to be compared.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use super::message::RootPrefix;
use super::scope::ScopeName;
use crate::identity::AgentId;

/// Roots that are remembered.
const ROOTS_MAX: usize = 256;
/// Peers whose last common root is remembered.
const PEERS_MAX: usize = 256;

/// That this side was equal with a peer: stored after the entries that it held then, and taken back there
/// ([`Sessions::restore`](crate::session::Sessions::restore)), it saves a comparison after a restart. One that is lost or out of
/// place costs bytes and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) peer: AgentId,
    /// The scope that they were equal in.
    pub(crate) scope: ScopeName,
    pub(crate) root: RootPrefix,
}

impl Checkpoint {
    /// The bytes of one.
    pub(crate) const BYTES: usize = 48;

    /// To be stored.
    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let parts = self.peer.as_bytes().iter().chain(&self.scope).chain(&self.root);
        bytes.iter_mut().zip(parts).for_each(|(byte, part)| *byte = *part);
        bytes
    }

    /// As it was stored.
    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let (peer, rest) = bytes.split_first_chunk().unwrap_or((&[0; 32], &[]));
        let (scope, rest) = rest.split_first_chunk().unwrap_or((&[0; 8], &[]));
        let root = rest.first_chunk().copied().unwrap_or_default();
        Self { peer: AgentId::from_bytes(*peer), scope: *scope, root }
    }
}

/// The roots at which this side was equal with somebody, and its versions then.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    roots: VecDeque<(RootPrefix, u64)>,
    peers: BTreeMap<AgentId, Met>,
}

/// The last time that this side and a peer were equal.
#[derive(Clone, Copy, Debug)]
struct Met {
    scope: ScopeName,
    root: RootPrefix,
    /// Whether the store has marked it, or need not.
    marked: bool,
}

impl Memory {
    /// Notes that this side and a peer were equal, and at which version of this side.
    pub(crate) fn equal(&mut self, checkpoint: &Checkpoint, version: u64, mark: bool) {
        let Checkpoint { peer, scope, root } = *checkpoint;
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&peer) {
            self.peers.pop_first();
        }
        let met = self.peers.entry(peer).or_insert(Met { scope, root, marked: !mark });
        if (met.scope, met.root) != (scope, root) {
            *met = Met { scope, root, marked: !mark };
        }
        if self.roots.back() == Some(&(root, version)) {
            return;
        }
        // The same root may come again, with a later version.
        self.roots.retain(|(there, _)| *there != root);
        if self.roots.len() >= ROOTS_MAX {
            self.roots.pop_front();
        }
        self.roots.push_back((root, version));
    }

    /// The checkpoint with a peer that the store has yet to mark. Once.
    pub(crate) fn unmarked(&mut self, peer: &AgentId) -> Option<Checkpoint> {
        let met = self.peers.get_mut(peer).filter(|met| !met.marked)?;
        met.marked = true;
        Some(Checkpoint { peer: *peer, scope: met.scope, root: met.root })
    }

    /// The version of this side when it had a root.
    fn version_of(&self, root: RootPrefix) -> Option<u64> {
        self.roots.iter().find(|(there, _)| *there == root).map(|(_, version)| *version)
    }

    /// The last with each peer, in the order of their versions.
    pub(crate) fn all(&self) -> Vec<(u64, Checkpoint)> {
        let checkpoint = |(peer, met): (&AgentId, &Met)| {
            let Met { scope, root, .. } = *met;
            Some((self.version_of(root)?, Checkpoint { peer: *peer, scope, root }))
        };
        let mut all: Vec<_> = self.peers.iter().filter_map(checkpoint).collect();
        all.sort_by_key(|(version, _)| *version);
        all
    }
}

/// The same, as one session sees it.
pub(crate) struct Checkpoints<'a> {
    pub(crate) memory: &'a mut Memory,
    pub(crate) peer: AgentId,
    /// The session's scope now.
    pub(crate) scope: ScopeName,
}

impl Checkpoints<'_> {
    /// Notes that the two were equal, and at which version of this side; and whether nothing has changed since.
    pub(crate) fn equal(&mut self, root: &[u8; 32], version: u64, still: bool) {
        let root = root.first_chunk().copied().unwrap_or_default();
        self.memory.equal(&Checkpoint { peer: self.peer, scope: self.scope, root }, version, still);
    }

    /// The root at which this side and the peer were equal last, if it is of the same scope: of topics outside it says
    /// nothing.
    pub(crate) fn last_with_peer(&self) -> Option<RootPrefix> {
        let met = self.memory.peers.get(&self.peer)?;
        (met.scope == self.scope).then_some(met.root)
    }

    /// The version of this side when it had a root.
    pub(crate) fn version_of(&self, root: RootPrefix) -> Option<u64> {
        self.memory.version_of(root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_comes_back_from_its_bytes() {
        let checkpoint =
            Checkpoint { peer: AgentId::from_bytes([1; 32]), scope: [2; 8], root: [3, 4, 5, 6, 7, 8, 9, 10] };
        let bytes = checkpoint.to_bytes();
        assert_eq!(
            (&bytes[..32], &bytes[32..40], &bytes[40..]),
            (&[1; 32][..], &[2; 8][..], &checkpoint.root[..])
        );
        assert_eq!(Checkpoint::from_bytes(&bytes), checkpoint);
    }

    #[test]
    fn each_is_marked_once_and_the_last_with_a_peer_is_kept() {
        let mut memory = Memory::default();
        let at = |peer: u8, root: u8| Checkpoint {
            peer: AgentId::from_bytes([peer; 32]),
            scope: [0; 8],
            root: [root; 8],
        };
        memory.equal(&at(1, 1), 5, true);
        memory.equal(&at(2, 2), 3, false);
        assert_eq!(memory.unmarked(&at(1, 1).peer), Some(at(1, 1)));
        memory.equal(&at(1, 1), 5, true);
        assert_eq!((memory.unmarked(&at(1, 1).peer), memory.unmarked(&at(2, 2).peer)), (None, None));
        assert_eq!(memory.all(), [(3, at(2, 2)), (5, at(1, 1))]);
        memory.equal(&at(1, 7), 8, true);
        assert_eq!(memory.unmarked(&at(1, 7).peer), Some(at(1, 7)));
        assert_eq!(memory.all(), [(3, at(2, 2)), (8, at(1, 7))]);
        for peer in 3..=255 {
            memory.equal(&at(peer, peer), u64::from(peer) + 10, false);
            memory.equal(&at(peer, 0), u64::from(peer) + 11, false);
        }
        assert!(memory.all().len() <= PEERS_MAX && memory.roots.len() <= ROOTS_MAX);
    }
}
