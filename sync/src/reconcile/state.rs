//! The state of a reconciliation as bytes, so that a host can put a conversation aside and take it up again.
//!
//! The bytes are for the same version of this crate and are not part of the wire. The set, the salt and the limits
//! are not in them. The invariant: whatever the bytes are, reading them ends in an error, or in the state whose bytes
//! they are.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use super::config::{Options, Outcome, Report, StopReason};
use super::error::MessageError;
use super::machine::{Phase, Reconciliation};
use super::peel::{CELL_BYTES, Found, cell_of, put_cell};
use super::range::{BOUND_BYTES_MAX, KeyRange};
use super::task::Task;
use crate::codec::{Reader, put_len, put_varint, put_words};

/// Stands first.
const VERSION: u8 = 1;

impl Reconciliation {
    /// Its state: some dozen bytes, the ranges that wait, and cells while they are being decoded.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = alloc::vec![VERSION];
        let (phase, sent) = match self.phase {
            Phase::Accepting => (0, 0),
            Phase::OpenedWithRoot => (1, 0),
            Phase::Opened => (2, 0),
            Phase::Serving(sent) => (3, sent),
            Phase::Decoding => (4, 0),
            Phase::Ranging => (5, 0),
            Phase::Paused => (6, 0),
            Phase::Done => (7, 0),
        };
        out.push(phase);
        put_varint(&mut out, u64::from(sent));
        put_varint(&mut out, self.number);
        let flags = [self.turn.peer_more, self.turn.question, self.turn.promised, self.turn.peer_full];
        out.push(flags.iter().rev().fold(0, |flags, flag| flags << 1 | u8::from(*flag)));
        put_varint(&mut out, self.work_left);
        put_range(&mut out, &self.scope);
        put_words(&mut out, self.asks.iter().copied());
        put_words(&mut out, self.tells.iter().copied());
        put_len(&mut out, self.tasks.len());
        self.tasks.iter().for_each(|task| put_task(&mut out, task));
        put_len(&mut out, self.peeler.cells.len());
        self.peeler.cells.iter().for_each(|cell| put_cell(&mut out, cell));
        put_len(&mut out, self.peeler.counts.len());
        out.extend(self.peeler.counts.iter().map(|count| count.cast_unsigned()));
        put_len(&mut out, self.peeler.found.len());
        for found in &self.peeler.found {
            out.extend_from_slice(&found.short.to_le_bytes());
            out.push(u8::from(found.theirs));
        }
        put_report(&mut out, &self.report);
        out
    }

    /// From the bytes of [`to_bytes`](Self::to_bytes) and the configuration it was made with. The set should hold the
    /// same items as then; if it does not, differences may be missed, which the roots show.
    ///
    /// # Errors
    /// If the bytes are not such a state.
    pub fn from_bytes(config: Options, bytes: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(bytes);
        let reader = &mut reader;
        let mut this = Self::accept(config);
        if reader.byte()? != VERSION {
            return Err(MessageError::Kind);
        }
        let phase = reader.byte()?;
        let sent = u32::try_from(reader.varint()?).map_err(|_| MessageError::Varint)?;
        this.phase = match phase {
            0 => Phase::Accepting,
            1 => Phase::OpenedWithRoot,
            2 => Phase::Opened,
            3 => Phase::Serving(sent),
            4 => Phase::Decoding,
            5 => Phase::Ranging,
            6 => Phase::Paused,
            7 => Phase::Done,
            _ => return Err(MessageError::Kind),
        };
        this.number = reader.varint()?;
        let flags = reader.byte()?;
        this.turn.peer_more = flags & 1 != 0;
        this.turn.question = flags & 2 != 0;
        this.turn.promised = flags & 4 != 0;
        this.turn.peer_full = flags & 8 != 0;
        this.work_left = reader.varint()?;
        this.scope = range(reader)?;
        this.asks = reader.words(usize::MAX)?.into();
        this.tells = reader.words(usize::MAX)?.into();
        for _ in 0..reader.count_max(1, usize::MAX)? {
            let task = task(reader)?;
            let rest_inside = match &task {
                Task::Match { range, rest, .. } | Task::MatchFull { range, rest, .. } => range.contains(rest),
                _ => true,
            };
            // The ranges to be answered lie within the scope, as they do in messages.
            if !rest_inside || !this.scope.contains(task.range()) {
                return Err(MessageError::NotCanonical);
            }
            this.push_task(task);
        }
        let cells = reader.count_max(CELL_BYTES, usize::MAX)?;
        let cells = reader.take(cells.saturating_mul(CELL_BYTES))?;
        this.peeler.cells = cells.as_chunks::<CELL_BYTES>().0.iter().map(cell_of).collect();
        let counts = reader.count_max(1, usize::MAX)?;
        this.peeler.counts = reader.take(counts)?.iter().map(|count| count.cast_signed()).collect();
        for _ in 0..reader.count_max(9, usize::MAX)? {
            this.peeler.found.push(Found { short: reader.word()?, theirs: reader.byte()? == 1 });
        }
        this.report = report(reader)?;
        reader.finish()?;
        // Spare bits, and fields that their neighbour says are not there: one comparison finds all of them.
        if this.to_bytes() == bytes { Ok(this) } else { Err(MessageError::NotCanonical) }
    }
}

fn put_range(out: &mut Vec<u8>, range: &KeyRange) {
    for bound in [range.lower.as_slice(), range.upper.as_deref().unwrap_or(&[])] {
        put_len(out, bound.len());
        out.extend_from_slice(bound);
    }
}

fn range(reader: &mut Reader<'_>) -> Result<KeyRange, MessageError> {
    let mut bound = || {
        let len = reader.count_max(1, BOUND_BYTES_MAX)?;
        reader.take(len)
    };
    let (lower, upper) = (bound()?, bound()?);
    KeyRange::between(lower, Some(upper).filter(|upper| !upper.is_empty())).ok_or(MessageError::NotCanonical)
}

fn put_task(out: &mut Vec<u8>, task: &Task) {
    out.push(match task {
        Task::Compare { .. } => 0,
        Task::Split { .. } => 1,
        Task::List { .. } => 2,
        Task::Match { .. } => 3,
        Task::Full { .. } => 4,
        Task::MatchFull { .. } => 5,
    });
    put_range(out, task.range());
    match task {
        Task::Compare { count, fingerprint, .. } => {
            put_varint(out, *count);
            put_varint(out, *fingerprint);
        }
        Task::Split { theirs, guess, .. } => {
            put_varint(out, *theirs);
            out.push(u8::from(guess.is_some()));
            put_varint(out, guess.unwrap_or(0));
        }
        Task::Match { rest, shorts, asked, differs, .. } => {
            put_range(out, rest);
            put_words(out, shorts.iter().copied());
            put_len(out, *asked);
            out.push(u8::from(*differs));
        }
        Task::MatchFull { rest, ids, asked, .. } => {
            put_range(out, rest);
            put_len(out, ids.len());
            ids.iter().for_each(|id| out.extend_from_slice(id));
            put_len(out, *asked);
        }
        Task::List { .. } | Task::Full { .. } => {}
    }
}

fn task(reader: &mut Reader<'_>) -> Result<Task, MessageError> {
    let kind = reader.byte()?;
    let whole = range(reader)?;
    Ok(match kind {
        0 => Task::Compare { range: whole, count: reader.varint()?, fingerprint: reader.varint()? },
        1 => {
            let theirs = reader.varint()?;
            let known = reader.byte()? == 1;
            let guess = reader.varint()?;
            Task::Split { range: whole, theirs, guess: known.then_some(guess) }
        }
        2 => Task::List { range: whole },
        3 => {
            let rest = range(reader)?;
            let shorts = reader.words(usize::MAX)?;
            let asked = usize::try_from(reader.varint()?).map_err(|_| MessageError::Varint)?;
            Task::Match { range: whole, rest, shorts, asked, differs: reader.byte()? == 1 }
        }
        4 => Task::Full { range: whole },
        5 => {
            let rest = range(reader)?;
            let count = reader.count_max(32, usize::MAX)?;
            let ids = reader.take(count.saturating_mul(32))?.as_chunks::<32>().0.to_vec();
            let asked = usize::try_from(reader.varint()?).map_err(|_| MessageError::Varint)?;
            Task::MatchFull { range: whole, rest, ids, asked }
        }
        _ => return Err(MessageError::Kind),
    })
}

fn put_report(out: &mut Vec<u8>, report: &Report) {
    let (kind, code) = match report.outcome {
        Outcome::Equal => (0, 0),
        Outcome::Differences => (1, 0),
        Outcome::Stopped(reason) => (2, reason.code()),
        Outcome::PeerStopped(reason) => (3, reason.code()),
    };
    out.extend_from_slice(&[kind, code, u8::from(report.ranges) | u8::from(report.changed) << 1]);
    for number in [
        report.pushed,
        report.wanted,
        report.unresolved,
        report.bytes_sent,
        report.bytes_received,
        report.messages_sent,
        report.messages_received,
        report.work,
    ] {
        put_varint(out, number);
    }
    out.push(u8::from(report.peer_root.is_some()));
    out.extend_from_slice(&report.peer_root.unwrap_or_default());
}

fn report(reader: &mut Reader<'_>) -> Result<Report, MessageError> {
    let [kind, code, flags] = reader.array()?;
    let reason = StopReason::from_code(code);
    Ok(Report {
        outcome: match kind {
            0 => Outcome::Equal,
            1 => Outcome::Differences,
            2 => Outcome::Stopped(reason),
            3 => Outcome::PeerStopped(reason),
            _ => return Err(MessageError::Kind),
        },
        ranges: flags & 1 != 0,
        changed: flags & 2 != 0,
        pushed: reader.varint()?,
        wanted: reader.varint()?,
        unresolved: reader.varint()?,
        bytes_sent: reader.varint()?,
        bytes_received: reader.varint()?,
        messages_sent: reader.varint()?,
        messages_received: reader.varint()?,
        work: reader.varint()?,
        peer_root: {
            let known = reader.byte()? == 1;
            let root = reader.array()?;
            known.then_some(root)
        },
    })
}
