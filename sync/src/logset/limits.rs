//! The limits of a [`LogSet`](super::LogSet).

/// Limits of one replica or relay. They delay entries or refuse to hold them, and never decide validity: two sets
/// with different limits differ in their entries, not in the meaning of those.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// How far ahead of `now` a stamp may be before its entry is deferred, in milliseconds. 120,000.
    pub max_drift_ms: u64,
    /// Logs in all. 65,536.
    pub logs_max: usize,
    /// Logs of one agent. 1,024.
    pub logs_per_agent_max: usize,
    /// Bytes of deferred entries in one log. 256 KiB.
    pub late_bytes_per_log_max: usize,
    /// Bytes of deferred entries in all. 8 MiB.
    pub late_bytes_max: usize,
    /// Bytes of entries after gaps in one log. 4 MiB.
    pub staged_bytes_per_log_max: usize,
    /// Bytes of entries after gaps in all. 32 MiB.
    pub staged_bytes_max: usize,
    /// For how long the entries of an invalidated log are kept for its writer, in milliseconds. 30 days.
    pub invalid_keep_ms: u64,
    /// This process's own randomness, which the host should set: without it, whoever knows the mesh can choose logs whose
    /// heads crowd one place of a table in memory. 0. A replica takes it from the
    /// configuration with which it is opened, whatever this says.
    pub seed: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_drift_ms: 120_000,
            logs_max: 65_536,
            logs_per_agent_max: 1_024,
            late_bytes_per_log_max: 256 << 10,
            late_bytes_max: 8 << 20,
            staged_bytes_per_log_max: 4 << 20,
            staged_bytes_max: 32 << 20,
            invalid_keep_ms: 30 * 24 * 60 * 60 * 1_000,
            seed: 0,
        }
    }
}

/// The host's answer to a log that it has not held yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Hold it.
    Hold,
    /// Do not. The same question comes again with the next peer that has the log.
    Ignore,
}
