//! The comparison of a round: a reconciliation of each range of the scope, one after the other.
//!
//! Here: the progress of a comparison, its findings, and its messages to be sent. Not here: reconciliation itself, and when
//! a round compares. The invariant: while a message waits to be sent, none is taken in, for its sender cannot have seen the
//! message that it would answer.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::window::Window;
use crate::logset::{HeadStep, LogSet};
use crate::reconcile::{KeyRange, Limits, MessageError, Mode, Options, Reconciliation, Status};

/// The values that make the comparisons of a round unlike all others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed {
    /// Bytes that both sides know and neither chose alone.
    pub(super) salt: [u8; 32],
    pub(super) round: u64,
    /// Whether ranges are compared from the start: a sketch has not helped.
    pub(super) in_ranges: bool,
}

impl Seed {
    fn config(&self, scope_range: usize, range: &KeyRange) -> Options {
        let mut hasher = blake3::Hasher::new_keyed(&self.salt);
        hasher.update(&self.round.to_le_bytes()).update(&(scope_range as u64).to_le_bytes());
        Options {
            salt: *hasher.finalize().as_bytes(),
            scope: range.clone(),
            mode: if self.in_ranges { Mode::Ranges } else { Mode::Auto },
            limits: comparison_limits(),
            ..Options::default()
        }
    }
}

/// How far a comparison is.
#[derive(Debug)]
pub(super) struct Comparison {
    ranges: Vec<KeyRange>,
    /// Which of them is compared.
    at: usize,
    machine: Option<Box<Reconciliation>>,
    differ: Window,
    messages: VecDeque<(usize, Vec<u8>)>,
}

impl Comparison {
    /// Of some ranges; differing logs are noted as far as the window has room.
    pub(super) const fn new(ranges: Vec<KeyRange>, differ: Window) -> Self {
        Self { ranges, at: 0, machine: None, differ, messages: VecDeque::new() }
    }

    /// Opens the scope range that is next, if there is one; for the side that listens.
    pub(super) fn open_range(&mut self, seed: &Seed, set: &mut LogSet) {
        if let Some(range) = self.ranges.get(self.at) {
            let (machine, message) = set.reconcile(seed.config(self.at, range));
            self.machine = Some(Box::new(machine));
            self.messages.push_back((self.at, message));
        }
    }

    /// Gets ready for a scope range that the other side opens.
    fn accept_range(&mut self, scope_range: usize, seed: &Seed) -> Result<(), MessageError> {
        if self.machine.is_none() {
            let range = self
                .ranges
                .get(scope_range)
                .filter(|_| scope_range == self.at)
                .ok_or(MessageError::Unexpected)?;
            self.machine = Some(Box::new(Reconciliation::accept(seed.config(scope_range, range))));
        }
        Ok(())
    }

    /// Takes in a message of a scope range. Whether that was the last of them all, for the side that dials; the other learns
    /// that by the offers that follow.
    ///
    /// # Errors
    ///
    /// If it cannot come now.
    pub(super) fn handle(
        &mut self,
        (scope_range, message): (usize, &[u8]),
        dials: bool,
        seed: &Seed,
        set: &mut LogSet,
    ) -> Result<bool, MessageError> {
        if !self.messages.is_empty() {
            return Err(MessageError::Unexpected);
        }
        if dials {
            self.accept_range(scope_range, seed)?;
        }
        let machine =
            self.machine.as_mut().filter(|_| scope_range == self.at).ok_or(MessageError::Unexpected)?;
        let mut step = set.handle_reconcile(machine, message)?;
        let mut ended = take_step(&mut step, &mut self.differ, scope_range, &mut self.messages);
        while step.status == Status::NeedsBudget {
            machine.grant(1 << 22);
            step = set.resume_reconcile(machine)?;
            ended = take_step(&mut step, &mut self.differ, scope_range, &mut self.messages);
        }
        if !ended {
            return Ok(false);
        }
        self.machine = None;
        self.at = self.at.saturating_add(1);
        if !dials {
            self.open_range(seed, set);
        }
        Ok(dials && self.at >= self.ranges.len())
    }

    /// The next message to be sent, and the scope range that it is of.
    pub(super) fn next_message(&mut self) -> Option<(usize, Vec<u8>)> {
        self.messages.pop_front()
    }

    /// The findings, and the messages that are still to be sent.
    pub(super) fn into_found(self) -> (Window, VecDeque<(usize, Vec<u8>)>) {
        (self.differ, self.messages)
    }

    /// About how many bytes it takes in memory.
    pub(super) fn memory(&self) -> usize {
        let machine = self.machine.as_ref().map_or(0, |machine| machine.memory());
        bytes_of(&self.messages).saturating_add(self.differ.memory()).saturating_add(machine)
    }
}

/// How many bytes messages have.
pub(super) fn bytes_of(messages: &VecDeque<(usize, Vec<u8>)>) -> usize {
    messages.iter().map(|(_, message)| message.len()).sum()
}

/// Notes the result of a step of a comparison. Whether the comparison has ended.
fn take_step(
    step: &mut HeadStep,
    differ: &mut Window,
    scope_range: usize,
    messages: &mut VecDeque<(usize, Vec<u8>)>,
) -> bool {
    differ.extend(step.differ.drain(..));
    messages.extend(step.message.take().map(|message| (scope_range, message)));
    matches!(step.status, Status::Done(_))
}

/// The limits of a comparison. The ranges of a message wait for an answer while those they are split into go back and
/// forth, at some 250 bytes each, three or four deep: the waiting bytes need room for that, or two honest sides stop.
fn comparison_limits() -> Limits {
    Limits {
        message_bytes: 16 << 10,
        cells: 2_048,
        ranges: 96,
        ids: 1_024,
        waiting_bytes: 64 << 10,
        rounds: 4_096,
        bytes: 64 << 20,
        ..Limits::default()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "small numbers")]

    use super::*;
    use crate::reconcile::{Outcome, ReconcileSet};

    fn id(number: u64) -> [u8; 32] {
        *blake3::hash(&number.to_le_bytes()).as_bytes()
    }

    /// As heads are: a topic, and a log's id.
    fn insert(set: &mut ReconcileSet, number: u64, version: u64) {
        let mut key = b"team/work\0\0".to_vec();
        key.extend(id(number));
        set.insert(&key, &id((number << 8) | version)).unwrap();
    }

    /// The number of messages, and the most memory that either side took.
    fn compare(ours: &mut ReconcileSet, theirs: &mut ReconcileSet, mode: Mode) -> (u64, usize) {
        let config = Options { mode, limits: comparison_limits(), ..Options::default() };
        let mut machines = [None, Some(Reconciliation::accept(config.clone()))];
        let (first, frame) = Reconciliation::start(ours, config);
        machines[0] = Some(first);
        let (mut frame, mut frames, mut memory) = (Some(frame), 0, 0);
        let mut pushed = [0, 0];
        let mut side = 1;
        while let Some(bytes) = frame.take() {
            frames += 1;
            let machine = machines[side].as_mut().unwrap();
            let set = if side == 0 { &mut *ours } else { &mut *theirs };
            let step = machine.handle(set, &bytes).unwrap();
            pushed[side] += step.push.len();
            memory = memory.max(machine.memory());
            if let Status::Done(report) = &step.status {
                assert_eq!(report.outcome, Outcome::Differences, "{report:?}");
            }
            frame = step.message;
            side = 1 - side;
        }
        let lacking = |a: &ReconcileSet, b: &ReconcileSet| a.iter().filter(|(_, id)| !b.contains(id)).count();
        assert_eq!(pushed, [lacking(ours, theirs), lacking(theirs, ours)]);
        (frames, memory)
    }

    #[test]
    fn two_honest_sides_never_reach_the_limits_of_a_comparison() {
        for (logs, changed, extra) in [
            (2_000, 100, 200),
            (2_000, 1_800, 0),
            (5_000, 2_500, 1_000),
            (40_000, 4_000, 4_000),
            (80_000, 80_000, 0),
        ] {
            for mode in [Mode::Auto, Mode::Ranges] {
                let mut sets = [1, 2].map(|seed| ReconcileSet::new(&[7; 32], seed));
                for number in 0..logs {
                    insert(&mut sets[0], number, 0);
                    insert(&mut sets[1], number, u64::from(id(number)[1..3] < share(changed, logs)[..]));
                }
                for number in logs..logs + extra {
                    insert(&mut sets[(number % 3 / 2) as usize], number, 0);
                }
                let [ours, theirs] = &mut sets;
                let (frames, memory) = compare(ours, theirs, mode);
                assert!(
                    memory <= 68 << 10,
                    "{logs} {changed} {extra} {mode:?}: {memory} bytes, {frames} messages"
                );
            }
        }
    }

    fn share(part: u64, whole: u64) -> [u8; 2] {
        u16::try_from(part * 65_535 / whole).unwrap().to_be_bytes()
    }
}
