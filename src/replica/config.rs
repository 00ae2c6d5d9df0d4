//! [`Config`]: the settings with which a replica is opened.

use alloc::boxed::Box;
use core::fmt;

use consilience_sync::session::{Gate, Peer, Scope};
use consilience_sync::{Admission, Admit, Limits, LogOpening, MeshSecret};

use crate::author::CompactionPolicy;

/// The settings with which a replica is opened.
pub struct Config {
    pub(crate) mesh: MeshSecret,
    pub(crate) entropy: [u8; 32],
    pub(crate) limits: Limits,
    pub(crate) admit: Admit,
    pub(crate) compaction: CompactionPolicy,
    pub(crate) gate: Option<Gate>,
    pub(crate) own_instants: bool,
}

impl Config {
    /// For a mesh, by its secret, with 32 bytes of the operating system's randomness, drawn anew at each start. All logs are admitted
    /// that the default [`Limits`] allow.
    #[must_use]
    pub fn new(mesh: MeshSecret, entropy: [u8; 32]) -> Self {
        Self {
            mesh,
            entropy,
            limits: Limits::default(),
            admit: Box::new(|_| Admission::Hold),
            compaction: CompactionPolicy::default(),
            gate: None,
            own_instants: false,
        }
    }

    /// With other limits on the logs that are held.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Writers list older entries again once a log's entries weigh more than `per_live` times their live content, and
    /// more than `slack` bytes. 2 and 1,024 by default: fewer stored bytes cost more relisted ones. At least 1 and 0.
    #[must_use]
    pub const fn with_compaction(mut self, per_live: u32, slack: u32) -> Self {
        self.compaction = CompactionPolicy { per_live, slack };
        self
    }

    /// Writes are made at instants that the host chooses, which need not rise: those of a trace that it plays, say. One that
    /// lies more before its writer's last than entries may be ahead goes to the writer's next log, so that its stamp is the
    /// instant. By default an instant that lies before is a clock that has fallen, and the stamp follows on the last.
    #[must_use]
    pub const fn with_own_instants(mut self) -> Self {
        self.own_instants = true;
        self
    }

    /// With a say in which logs are held. Replicas that hold the same logs come to the same state.
    #[must_use]
    pub fn with_admission(mut self, admit: impl FnMut(&LogOpening) -> Admission + Send + 'static) -> Self {
        self.admit = Box::new(admit);
        self
    }

    /// With a say in which peers may come in, and to which topics. By default, all that know the mesh, and to all
    /// topics. The name of a [`Peer`] is only to be relied on if the peer is [bound](Peer::bound).
    #[must_use]
    pub fn with_gate(mut self, gate: impl FnMut(&Peer) -> Option<Scope> + Send + 'static) -> Self {
        self.gate = Some(Box::new(gate));
        self
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("limits", &self.limits).finish_non_exhaustive()
    }
}
