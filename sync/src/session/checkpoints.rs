//! [`Checkpoints`]: when two sides were equal, so that the next time only what changed since has to be compared.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::collections::{BTreeMap, VecDeque};

use super::message::Name;
use crate::identity::AgentId;

/// Roots that are remembered.
const ROOTS_MAX: usize = 256;
/// Peers whose last common root is remembered.
const PEERS_MAX: usize = 256;

/// The roots at which this side was equal with somebody, and what had changed by then.
#[derive(Debug, Default)]
pub(super) struct Memory {
    roots: VecDeque<(Name, u64)>,
    /// With the scope that they were equal in.
    peers: BTreeMap<AgentId, (Name, Name)>,
}

/// The same, as one session sees it.
pub(super) struct Checkpoints<'a> {
    pub(super) memory: &'a mut Memory,
    pub(super) peer: AgentId,
    /// What the session is about now.
    pub(super) scope: Name,
}

impl Checkpoints<'_> {
    /// Notes that the two were equal, and at which turn of this side.
    pub(super) fn equal(&mut self, root: &[u8; 32], turn: u64) {
        let name = root.first_chunk().copied().unwrap_or_default();
        let memory = &mut *self.memory;
        if memory.peers.len() >= PEERS_MAX && !memory.peers.contains_key(&self.peer) {
            memory.peers.pop_first();
        }
        memory.peers.insert(self.peer, (self.scope, name));
        if memory.roots.back() == Some(&(name, turn)) {
            return;
        }
        // The same root may come again, with a later turn.
        memory.roots.retain(|(there, _)| *there != name);
        if memory.roots.len() >= ROOTS_MAX {
            memory.roots.pop_front();
        }
        memory.roots.push_back((name, turn));
    }

    /// The root at which this side and the peer were equal last, if it is of the same scope: of what lay outside it says
    /// nothing.
    pub(super) fn last_with_peer(&self) -> Option<Name> {
        let (scope, root) = self.memory.peers.get(&self.peer)?;
        (*scope == self.scope).then_some(*root)
    }

    /// The turn of this side when it had a root.
    pub(super) fn turn_of(&self, root: Name) -> Option<u64> {
        self.memory.roots.iter().find(|(there, _)| *there == root).map(|(_, turn)| *turn)
    }
}
