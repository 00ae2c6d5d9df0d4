//! How a session is to be held.

use alloc::vec::Vec;

use crate::channel::{FRAME_BYTES_MAX, FRAME_BYTES_MIN, WINDOW_MAX, WINDOW_MIN};
use crate::exchange::Scope;
use crate::identity::AgentId;

/// How a session is to be held: one side dials, the other listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    pub(super) dials: bool,
    pub(super) binding: Option<Vec<u8>>,
    pub(super) scope: Scope,
    pub(super) expected: Option<AgentId>,
    pub(super) frame_bytes: usize,
    pub(super) window: usize,
    pub(super) datagrams: bool,
    pub(super) heartbeat_ms: u64,
    pub(super) idle_ms: u64,
}

impl SessionOptions {
    /// For the side that opened the connection. It speaks first.
    #[must_use]
    pub fn dial() -> Self {
        Self {
            dials: true,
            binding: None,
            scope: Scope::everything(),
            expected: None,
            frame_bytes: 16 << 10,
            window: 48 << 10,
            datagrams: false,
            heartbeat_ms: 30_000,
            idle_ms: 90_000,
        }
    }

    /// For the side that was called.
    #[must_use]
    pub fn listen() -> Self {
        Self { dials: false, ..Self::dial() }
    }

    /// With a name of the outer channel that both ends of it know and nobody else can have, such as a TLS exporter's 32 bytes
    /// (RFC 9266): then that channel ends where the session does. Both sides have to give it. Up to 64 bytes count. A session is
    /// private and knows its peer without one.
    #[must_use]
    pub fn with_binding(mut self, binding: &[u8]) -> Self {
        self.binding = Some(binding.iter().copied().take(64).collect());
        self
    }

    /// About some topics only, the most wanted first. All by default.
    #[must_use]
    pub fn with_scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// With this agent and no other. Whoever dials an agent that it has met within a day comes in without signatures and in
    /// fewer bytes, if both remember it: what a session leaves for the next one is kept in memory, and
    /// [stored](super::Sessions::marks).
    #[must_use]
    pub const fn with_expected(mut self, agent: AgentId) -> Self {
        self.expected = Some(agent);
        self
    }

    /// Over datagrams, or anything else that does not hold back by itself: frames have 1,200 bytes, at most 262,144 bytes
    /// are on their way, and the session finds out how many the path carries, by how long they wait (FAST TCP, Wei, Jin, Low
    /// and Hegde 2006). By default the transport is a stream that does that.
    #[must_use]
    pub const fn over_datagrams(mut self) -> Self {
        self.datagrams = true;
        self.frame_bytes = 1_200;
        self.window = 256 << 10;
        self
    }

    /// In frames of at most so many bytes, 256 to 65,536; the smaller of both sides' counts. 16,384 by default, 1,200
    /// [over datagrams](Self::over_datagrams).
    #[must_use]
    pub fn with_frame_bytes(mut self, bytes: usize) -> Self {
        self.frame_bytes = bytes.clamp(FRAME_BYTES_MIN, FRAME_BYTES_MAX);
        self
    }

    /// With at most so many bytes on their way in each direction, 4,096 to 1,048,576. 49,152 by default, 262,144
    /// [over datagrams](Self::over_datagrams); throughput is at most this for each round trip, and a session may hold about four
    /// times as much.
    #[must_use]
    pub fn with_window(mut self, bytes: usize) -> Self {
        self.window = bytes.clamp(WINDOW_MIN, WINDOW_MAX);
        self
    }

    /// The two sides compare their logs at least so often, in milliseconds. 30,000 by default, at least 100.
    #[must_use]
    pub fn with_heartbeat_ms(mut self, ms: u64) -> Self {
        self.heartbeat_ms = ms.max(100);
        self
    }

    /// The session ends when nothing valid came for so long, in milliseconds. 90,000 by default, at least 1,000; less than
    /// two heartbeats would end sessions that are only quiet.
    #[must_use]
    pub fn with_idle_ms(mut self, ms: u64) -> Self {
        self.idle_ms = ms.max(1_000);
        self
    }
}
