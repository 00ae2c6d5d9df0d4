//! [`Answers`]: how many bytes of answers the peer's questions pay for.
//!
//! A question of a few bytes can ask for everything that is held, and again after it has come: the channel's window only
//! bounds the bytes on their way. So each answer is paid for:
//!
//! - by the peer's bytes, four times;
//! - by what is held of the scope, twice in a session: whoever has nothing is sent everything, and again if it was of no use
//!   where it was sent to, as at a fork;
//! - and a frame for each heartbeat, so that two that have used all that up still come to the same.
//!
//! Entries that are new since the peer was last sent some are no answers, and cost nothing.
//!
//! *Rejected:* a bound on what the peer has not acknowledged. The window is one, and an asker that acknowledges everything
//! is not held by any. A note of what each log's entries were sent for: it grows with the logs, for each session.
//!
//! The invariant: whoever asks in vain waits, and is never told a lie.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::scope::Scope;
use crate::logset::LogSet;
use consilience_base::planted::{Fault, planted};

/// A peer's bytes pay for so many times as many.
const BYTES_FOR_ONE: u64 = 4;
/// How often the contents of the scope may be sent beside that.
const TIMES: u64 = 2;

/// The bytes that may be answered with.
#[derive(Debug)]
pub(super) struct Answers {
    /// Below 0 after an answer that was longer than the rest.
    credit: i64,
    /// The credit is at least this at each heartbeat: a frame.
    least: i64,
    heartbeat_ms: u64,
    /// When it is that again.
    refill_at: u64,
    held: Held,
}

/// The bytes that were given because they are held.
#[derive(Debug, Default)]
struct Held {
    given: u64,
    /// Bytes of entries that were dropped, when it was looked first: what came and went since counts as well.
    freed: Option<u64>,
    /// When it was looked next, and at which version of the heads.
    again_at: (u64, u64),
}

impl Answers {
    pub(super) fn new(frame_bytes: usize, heartbeat_ms: u64, ms: u64) -> Self {
        let least = i64::try_from(frame_bytes).unwrap_or(i64::MAX);
        let refill_at = ms.saturating_add(heartbeat_ms);
        Self { credit: least, least, heartbeat_ms, refill_at, held: Held::default() }
    }

    /// Notes a message of the peer.
    pub(super) fn received(&mut self, bytes: usize) {
        self.give(BYTES_FOR_ONE.saturating_mul(bytes as u64));
    }

    /// Notes an answer.
    pub(super) fn answered(&mut self, bytes: usize) {
        self.credit = self.credit.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    fn give(&mut self, bytes: u64) {
        self.credit = self.credit.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Whether another answer may be given.
    pub(super) fn are_paid(&mut self, set: &mut LogSet, scope: &Scope, ms: u64) -> bool {
        if ms >= self.refill_at {
            self.refill_at = ms.saturating_add(self.heartbeat_ms);
            self.credit = self.credit.max(self.least);
        }
        if self.credit <= 0 {
            let held = self.held.take_more(set, scope, (ms, self.heartbeat_ms));
            self.give(held);
        }
        self.credit > 0 || planted(Fault::AnswersAreNotPaid)
    }
}

impl Held {
    /// The bytes for what is held that were not given yet. It visits all logs of the scope, so it does that only after a good
    /// part of them has changed, or a heartbeat has passed.
    fn take_more(&mut self, set: &mut LogSet, scope: &Scope, (ms, heartbeat_ms): (u64, u64)) -> u64 {
        let version = set.heads_version();
        let (due, due_version) = self.again_at;
        if self.freed.is_some() && ms < due && version < due_version {
            return 0;
        }
        let part = set.heads_len() as u64 / 16;
        self.again_at = (ms.saturating_add(heartbeat_ms), version.saturating_add(part).saturating_add(1));
        let freed = set.freed_bytes();
        let gone = freed.saturating_sub(*self.freed.get_or_insert(freed));
        let held = TIMES.saturating_mul(scope.bytes(set).saturating_add(gone));
        let more = held.saturating_sub(self.given);
        self.given = self.given.max(held);
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::MeshId;
    use crate::logset::Limits;

    #[test]
    fn a_question_pays_for_four_times_its_bytes_and_a_heartbeat_for_a_frame() {
        let mut set = LogSet::new(MeshId::from_bytes([1; 32]), Limits::default());
        let all = Scope::everything();
        let mut answers = Answers::new(1_000, 30_000, 5);
        let mut sent = 0;
        let mut flood = |answers: &mut Answers, ms| {
            let before = sent;
            while answers.are_paid(&mut set, &all, ms) {
                answers.answered(100);
                sent += 100;
            }
            sent - before
        };
        assert_eq!([5, 6, 30_004].map(|ms| flood(&mut answers, ms)), [1_000, 0, 0]);
        answers.received(250);
        assert_eq!(flood(&mut answers, 30_004), 1_000);
        assert_eq!(
            [30_005, 60_004, 60_005, 200_000].map(|ms| flood(&mut answers, ms)),
            [1_000, 0, 1_000, 1_000]
        );
        // One that was longer than the rest is paid for later.
        answers.answered(5_000);
        answers.received(1_250);
        assert_eq!(flood(&mut answers, 200_001), 0);
        answers.received(25);
        assert_eq!(flood(&mut answers, 200_001), 100);
    }
}
