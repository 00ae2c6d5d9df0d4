//! [`Level`]: whether both sides hold everything that either held when a round began.
//!
//! Two that write all the time never have equal roots: when a root comes, its sender has written more. So each side says
//! after a round whether it has taken in everything that the other had when it made its offers. If both say so, and the round
//! was about all of the scope, each held at its end what the other had held at its beginning; that is what *in sync* means.
//! If one says that it does not and will not, round after round, they are out of sync, whatever else goes to and fro.
//!
//! ```text
//! round N ends  → took N (all | not yet | not)      each side, after the other's done
//! ```
//!
//! The invariant: a judgement is about a round that both sides have ended, and each is made once.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use consilience_base::planted::{Fault, planted};

/// How much of what the peer had at the beginning of a round is here at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Took {
    /// All of it.
    All,
    /// Not all: more of it is to come in the next round.
    NotYet,
    /// Not all, and what is lacking was refused here or is not sent there.
    Not,
}

impl Took {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::All => 0,
            Self::NotYet => 1,
            Self::Not => 2,
        }
    }

    pub(super) const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::All),
            1 => Some(Self::NotYet),
            2 => Some(Self::Not),
            _ => None,
        }
    }
}

/// What two sides' words on a round add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Both hold what either held at its beginning, of all the scope.
    InSync,
    /// The same, of all that changed since the two were equal: whether they were, the next round has to show.
    Doubtful,
    /// At least one does not, and did not in the round before.
    OutOfSync,
    /// Nothing that the host is told.
    Open,
}

/// One side's word on a round.
#[derive(Clone, Copy, Debug)]
struct Word {
    round: u64,
    took: Took,
}

/// Both sides' words on the last rounds.
#[derive(Debug, Default)]
pub(super) struct Level {
    ours: Option<Word>,
    /// The round was about changes alone.
    partial: bool,
    unsaid: bool,
    theirs: Option<Word>,
    /// Something was refused since the round began.
    refused: bool,
    /// Entries came of a log that is not held any more.
    missed: bool,
    /// Rounds in a row of which a side said that it lacks something.
    lacking: u32,
    /// The last round that was judged ended with both in sync.
    reached: bool,
    /// How many logs the host has had forgotten, as far as this side has looked.
    forgotten: u64,
}

/// Out of sync after so many rounds.
const LACKING_MAX: u32 = 2;

impl Level {
    /// A round begins.
    pub(super) const fn begin(&mut self) {
        self.refused = false;
        self.missed = false;
    }

    /// Forgets everything: the session is about something else.
    pub(super) fn reset(&mut self) {
        *self = Self { forgotten: self.forgotten, ..Self::default() };
    }

    /// Notes that this side did not take something in, and will not.
    pub(super) const fn refuse(&mut self) {
        self.refused = true;
    }

    /// Whether something was refused since the round began.
    pub(super) const fn has_refused(&self) -> bool {
        self.refused
    }

    /// Notes that this side could not take something in as it came, and may if it comes again.
    pub(super) const fn miss(&mut self) {
        self.missed = true;
    }

    /// Whether something has to come again. Once.
    pub(super) const fn take_missed(&mut self) -> bool {
        core::mem::replace(&mut self.missed, false)
    }

    /// Whether the host has had logs forgotten since this was asked: it holds less than the peer was told.
    pub(super) const fn has_forgotten(&mut self, so_far: u64) -> bool {
        let more = so_far > self.forgotten;
        self.forgotten = so_far;
        more
    }

    /// Takes back this side's word on the last round: it lacks something now.
    pub(super) fn take_back(&mut self) {
        if let Some(ours) = &mut self.ours {
            ours.took = Took::NotYet;
            self.unsaid = true;
        }
        self.reached = false;
    }

    /// Whether the two were in sync at the end of the last round that was judged.
    pub(super) const fn is_reached(&self) -> bool {
        self.reached
    }

    /// Notes this side's word on a round that it has ended.
    pub(super) const fn ended(&mut self, round: u64, partial: bool, took: Took) {
        self.ours = Some(Word { round, took });
        (self.partial, self.unsaid) = (partial, true);
    }

    /// This side's word, if it was not said yet.
    pub(super) fn take_unsaid(&mut self) -> Option<(u64, Took)> {
        self.ours.filter(|_| core::mem::take(&mut self.unsaid)).map(|word| (word.round, word.took))
    }

    /// Notes the peer's word.
    pub(super) const fn told(&mut self, round: u64, took: Took) {
        self.theirs = Some(Word { round, took });
    }

    /// Judges a round of which both sides have spoken. Once.
    pub(super) fn judge(&mut self) -> Judgement {
        let (Some(ours), Some(theirs)) = (self.ours, self.theirs) else { return Judgement::Open };
        if ours.round != theirs.round {
            return Judgement::Open;
        }
        self.theirs = None;
        self.reached = false;
        match (ours.took, theirs.took) {
            (Took::All, theirs) if theirs == Took::All || planted(Fault::OneWordSuffices) => {
                self.lacking = 0;
                self.reached = !self.partial;
                if self.partial { Judgement::Doubtful } else { Judgement::InSync }
            }
            (Took::Not, _) | (_, Took::Not) => {
                self.lacking = self.lacking.saturating_add(1);
                if self.lacking >= LACKING_MAX { Judgement::OutOfSync } else { Judgement::Open }
            }
            _ => Judgement::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(level: &mut Level, number: u64, partial: bool, ours: Took, theirs: Took) -> [Judgement; 3] {
        level.begin();
        let mut judgements = [Judgement::Open; 3];
        level.told(number, theirs);
        judgements[0] = level.judge();
        level.ended(number, partial, ours);
        assert_eq!((level.take_unsaid(), level.take_unsaid()), (Some((number, ours)), None));
        judgements[1] = level.judge();
        judgements[2] = level.judge();
        judgements
    }

    #[test]
    fn both_have_to_say_that_they_took_everything() {
        let open = Judgement::Open;
        let mut level = Level::default();
        assert_eq!(round(&mut level, 1, false, Took::All, Took::NotYet), [open; 3]);
        assert_eq!(round(&mut level, 2, true, Took::All, Took::All), [open, Judgement::Doubtful, open]);
        assert!(!level.is_reached());
        assert_eq!(round(&mut level, 3, false, Took::All, Took::All), [open, Judgement::InSync, open]);
        assert!(level.is_reached());
        level.told(3, Took::All);
        level.ended(4, false, Took::All);
        assert_eq!(level.judge(), open, "they speak of different rounds");
    }

    #[test]
    fn who_lacks_something_twice_is_out_of_sync() {
        let open = Judgement::Open;
        let mut level = Level::default();
        assert_eq!(round(&mut level, 1, false, Took::All, Took::Not), [open; 3]);
        assert_eq!(round(&mut level, 2, true, Took::NotYet, Took::All), [open; 3]);
        assert_eq!(round(&mut level, 3, true, Took::Not, Took::All), [open, Judgement::OutOfSync, open]);
        assert_eq!(round(&mut level, 4, false, Took::All, Took::All), [open, Judgement::InSync, open]);
        assert_eq!(round(&mut level, 5, false, Took::Not, Took::Not), [open; 3]);
        assert!(!level.is_reached());
    }
}
