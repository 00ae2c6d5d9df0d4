//! The keys of a world's agents: stand-ins, whose signatures are hashes, or in a share of the worlds real ones.

use consilience::sync::{AgentId, Keypair, SignError, Signature, Signer};
use consilience_sync::StandIn;

/// Whether the worlds of a seed have real keys: one of 50 does.
const REAL_EVERY: u64 = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    StandIn,
    Real,
}

#[derive(Clone, Debug)]
pub(crate) enum Key {
    StandIn(StandIn),
    Real(Box<Keypair>),
}

impl Keys {
    pub(crate) const fn of_seed(seed: u64) -> Self {
        if seed % REAL_EVERY == 7 { Self::Real } else { Self::StandIn }
    }

    /// The key of an agent by its name.
    pub(crate) fn key(self, agent: &str) -> Key {
        let hash = blake3::hash(agent.as_bytes());
        match self {
            Self::StandIn => {
                let mut name = [0; 16];
                name.copy_from_slice(&hash.as_bytes()[..16]);
                Key::StandIn(StandIn::new(name))
            }
            Self::Real => Key::Real(Box::new(Keypair::from_seed(*hash.as_bytes()))),
        }
    }

    /// An agent by its name.
    pub(crate) fn agent(self, agent: &str) -> AgentId {
        self.key(agent).agent()
    }
}

impl Signer for Key {
    fn agent(&self) -> AgentId {
        match self {
            Self::StandIn(key) => key.agent(),
            Self::Real(key) => key.agent(),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        match self {
            Self::StandIn(key) => key.sign(message),
            Self::Real(key) => key.sign(message),
        }
    }
}
