//! The limits of a reconciliation's cost on this side.
//!
//! The invariant: limits only refuse, delay or end; none of them changes the difference that is found.

/// Bounds on one reconciliation. The defaults suit a peer that has been authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest message to send or accept, in bytes: 512 to 1 MiB. Both sides should agree on it; the default is
    /// 65,536.
    pub message_bytes: usize,
    /// The most cells to send or accept in all; while they are decoded each takes 17 bytes. Default 65,536.
    pub cells: usize,
    /// The most ranges in a message, sent or accepted. Their bounds unfold to at most some 500 bytes each. Default
    /// 16,384.
    pub ranges: usize,
    /// The most ids in a message, sent or accepted, short or whole. Default 131,072.
    pub ids: usize,
    /// The most bytes that ranges and lists which wait to be answered may take in memory. Beyond it the
    /// reconciliation ends. Default 16 MiB.
    pub waiting_bytes: usize,
    /// Work granted at the start, in items or cells visited. When it is used up the step says so, and the host grants
    /// more or drops the reconciliation. Default 67,108,864: some seconds.
    pub work: u64,
    /// The most messages to receive. Default 1,048,576.
    pub rounds: u64,
    /// The most bytes to send and receive in all. Default 4 GiB.
    pub bytes: u64,
    /// Before the peer is authenticated: send at most this many times the bytes received, and one message. The default
    /// is no such limit.
    pub amplification: Option<u64>,
}

impl Limits {
    /// The least that `message_bytes` may be: it has room for the two longest bounds.
    pub const FRAME_BYTES_MIN: usize = 512;
    /// The most that `message_bytes` may be, 1 MiB.
    pub const FRAME_BYTES_MAX: usize = 1 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 65_536,
            cells: 65_536,
            ranges: 16_384,
            ids: 131_072,
            waiting_bytes: 1 << 24,
            work: 1 << 26,
            rounds: 1 << 20,
            bytes: 1 << 32,
            amplification: None,
        }
    }
}
