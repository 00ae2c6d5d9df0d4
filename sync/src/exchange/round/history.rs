//! [`History`]: the lessons of earlier rounds for the next.
//!
//! The invariant: nothing of it is needed for two sides to become equal. It saves bytes, and says when to tell the host.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use super::RoundOutcome;
use super::window::Window;
use crate::identity::LogId;

/// A pair of roots that could not be made equal is tried again every so many times that it is asked about.
const RETRY: u32 = 8;

/// The roots that a round began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Roots {
    /// The peer's, if it has said so.
    pub(super) theirs: Option<[u8; 32]>,
    pub(super) ours: [u8; 32],
}

/// A round that both sides are done with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) roots: Roots,
    /// It only looked at changes since the two were equal.
    pub(super) partial: bool,
    /// It brought this side something, and the other.
    pub(super) gained: (bool, bool),
    /// More differs than fitted into it.
    pub(super) more: bool,
}

/// The outcomes of a session's rounds.
#[derive(Debug)]
pub(super) struct History {
    /// Rounds in a row that brought nothing.
    useless: u32,
    /// How many of the last of these found this side with one root, and which.
    stuck: u32,
    stuck_at: Option<[u8; 32]>,
    /// The roots that could not be made equal, and how often they were asked about since.
    failed: Option<(Roots, u32)>,
    /// A round that only looked at changes brought nothing: the memory of one side, or of both, is wrong.
    mistaken: bool,
    /// Where a round goes on that has more to say than fits into one: after this log.
    after: LogId,
}

impl History {
    pub(super) const fn new() -> Self {
        Self {
            useless: 0,
            stuck: 0,
            stuck_at: None,
            failed: None,
            mistaken: false,
            after: LogId::from_bytes([0; 32]),
        }
    }

    /// Rounds in a row that brought nothing.
    pub(super) const fn useless(&self) -> u32 {
        self.useless
    }

    /// How many rounds in a row brought nothing while this side had nothing new either.
    pub(super) const fn stuck(&self) -> u32 {
        self.stuck
    }

    /// Whether it is likely that both sides remember when they were equal.
    pub(super) const fn trusts_memory(&self) -> bool {
        self.useless == 0 && !self.mistaken
    }

    /// Whether an earlier root that the other side names may be the one that both had.
    pub(super) const fn trusts_root(&self) -> bool {
        !self.mistaken
    }

    /// Whether lists and sketches have not helped. A list may call two histories equal that a writer has made for it.
    pub(super) const fn needs_ranges(&self) -> bool {
        self.useless > 1
    }

    /// Whether these roots are known not to become equal, and this is not the time to try again.
    pub(super) fn is_hopeless(&mut self, roots: &Roots) -> bool {
        // One useless round may have begun with knowledge that was out of date; two have not.
        if self.useless <= 1 {
            return false;
        }
        let Some((_, asked)) = self.failed.as_mut().filter(|(failed, _)| failed == roots) else {
            return false;
        };
        *asked = asked.wrapping_add(1);
        !asked.is_multiple_of(RETRY)
    }

    /// Where the window of a round begins.
    pub(super) const fn window(&self) -> Window {
        Window::new(self.after)
    }

    /// Notes where the next round goes on. Gives the logs of this one, and whether there are more.
    pub(super) fn moved(&mut self, window: Window) -> (Vec<LogId>, bool) {
        let next = window.next_after();
        self.after = next.unwrap_or(LogId::from_bytes([0; 32]));
        (window.into_logs().collect(), next.is_some())
    }

    /// Notes that the two are equal.
    pub(super) const fn equal(&mut self) {
        (self.useless, self.stuck) = (0, 0);
        self.failed = None;
        self.mistaken = false;
    }

    /// Notes that each side has what either had when a round began.
    pub(super) const fn level(&mut self) {
        (self.useless, self.stuck) = (0, 0);
        self.mistaken = false;
    }

    /// Notes that only changes were compared: the next round compares everything.
    pub(super) const fn doubt(&mut self) {
        self.mistaken = true;
    }

    /// Notes a round that was given up, or that the other side did not want.
    pub(super) const fn gave_up(&mut self) {
        self.useless = self.useless.saturating_add(1);
        self.stuck = self.stuck.saturating_add(1);
    }

    /// Notes the outcome of a round.
    pub(super) fn ended(&mut self, round: &Ended) -> RoundOutcome {
        let (here, there) = round.gained;
        if here || there {
            (self.useless, self.stuck) = (0, 0);
            return RoundOutcome::Gained { here };
        }
        if round.more {
            return RoundOutcome::Gained { here };
        }
        // Unless this side's logs have changed: then another session brought it entries by which the roots differed.
        let changed = self.stuck_at != Some(round.roots.ours);
        self.stuck_at = Some(round.roots.ours);
        self.stuck = if changed { 1 } else { self.stuck.saturating_add(1) };
        if round.partial && !self.mistaken {
            // Most of their logs were not looked at.
            self.mistaken = true;
            self.useless = 1;
            return RoundOutcome::Useless;
        }
        self.useless = self.useless.saturating_add(1);
        if self.useless > 1 {
            self.failed = Some((round.roots, 0));
        }
        RoundOutcome::Useless
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOTS: Roots = Roots { theirs: Some([1; 32]), ours: [2; 32] };
    const NOTHING: Ended = Ended { roots: ROOTS, partial: false, gained: (false, false), more: false };

    #[test]
    fn what_is_remembered_is_not_trusted_once_a_look_at_the_changes_was_of_no_use() {
        let mut history = History::new();
        assert!(history.trusts_memory() && history.trusts_root());
        assert_eq!(history.ended(&Ended { partial: true, ..NOTHING }), RoundOutcome::Useless);
        assert!(!history.trusts_memory() && !history.trusts_root() && !history.needs_ranges());
        assert_eq!(
            history.ended(&Ended { gained: (false, true), ..NOTHING }),
            RoundOutcome::Gained { here: false }
        );
        assert!(!history.trusts_root(), "that this round was of use says nothing of the memory");
        history.equal();
        assert!(history.trusts_memory() && history.trusts_root());
    }

    #[test]
    fn roots_that_two_rounds_did_not_make_equal_are_tried_again_now_and_then() {
        let mut history = History::new();
        assert_eq!((history.ended(&NOTHING), history.is_hopeless(&ROOTS)), (RoundOutcome::Useless, false));
        assert_eq!((history.ended(&NOTHING), history.useless()), (RoundOutcome::Useless, 2));
        assert!(history.needs_ranges() && history.stuck() == 2);
        for asked in 1..=2 * RETRY {
            assert_eq!(history.is_hopeless(&ROOTS), asked % RETRY != 0);
        }
        assert!(!history.is_hopeless(&Roots { ours: [3; 32], ..ROOTS }), "this side has something new");
        // Another session has brought this side something: it is not stuck, though this peer brings it nothing.
        assert_eq!(
            history.ended(&Ended { roots: Roots { ours: [3; 32], ..ROOTS }, ..NOTHING }),
            RoundOutcome::Useless
        );
        assert_eq!((history.useless(), history.stuck()), (3, 1));
    }

    #[test]
    fn round_after_round_comes_to_all_logs_whatever_fills_the_first_places() {
        let mut history = History::new();
        let logs: Vec<LogId> =
            (0..1_300_u32).map(|at| LogId::from_bytes(*blake3::hash(&at.to_le_bytes()).as_bytes())).collect();
        let mut seen = alloc::collections::BTreeSet::new();
        let mut sizes = Vec::new();
        for _ in 0..3 {
            let mut window = history.window();
            window.extend(logs.iter().copied());
            let (taken, more) = history.moved(window);
            sizes.push((taken.len(), more));
            seen.extend(taken);
        }
        assert_eq!((seen.len(), sizes), (logs.len(), alloc::vec![(512, true), (512, true), (512, false)]));
    }
}
