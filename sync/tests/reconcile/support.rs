//! Two sets and a wire between them that can count, cut and change what passes.

use std::collections::BTreeSet;

use consilience_sync::reconcile::{
    Limits, Mode, Options, Outcome, ReconcileSet, Reconciliation, Report, Status, Step,
};

pub(crate) type Id = [u8; 32];
/// An order key and an id.
pub(crate) type Item = (Vec<u8>, Id);

/// How many cases a property runs: `CONSILIENCE_CASES`, else `default`.
pub(crate) fn cases(default: u32) -> u32 {
    std::env::var("CONSILIENCE_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// An id as hashes are.
pub(crate) fn id(n: u64) -> Id {
    *blake3::hash(&n.to_le_bytes()).as_bytes()
}

/// A fixed sequence of numbers.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % sides
    }
}

pub(crate) fn set_of<'a>(items: impl IntoIterator<Item = &'a Item>) -> ReconcileSet {
    let mut set = ReconcileSet::new(&[7; 32], 99);
    for (key, id) in items {
        set.insert(key, id).unwrap();
    }
    set
}

pub(crate) fn plain(ids: impl IntoIterator<Item = u64>) -> ReconcileSet {
    let items: Vec<Item> = ids.into_iter().map(|n| (Vec::new(), id(n))).collect();
    set_of(&items)
}

pub(crate) fn config(mode: Mode, message_bytes: usize, salt: u8) -> Options {
    Options {
        salt: [salt; 32],
        mode,
        announce: true,
        limits: Limits { message_bytes, ..Limits::default() },
        ..Options::default()
    }
}

/// One side and what it learnt.
pub(crate) struct Side {
    pub(crate) machine: Reconciliation,
    pub(crate) push: Vec<Id>,
    pub(crate) want: Vec<u64>,
    pub(crate) done: Option<Report>,
}

impl Side {
    pub(crate) fn new(machine: Reconciliation) -> Self {
        Self { machine, push: vec![], want: vec![], done: None }
    }

    /// Handles a message, grants whatever budget is asked for, and returns the answer.
    pub(crate) fn handle(&mut self, set: &mut ReconcileSet, message: &[u8]) -> Option<Vec<u8>> {
        let mut step = self.machine.handle(set, message).unwrap();
        while step.status == Status::NeedsBudget {
            assert_eq!(step.message, None);
            let _ = self.take(step);
            self.machine.grant(100);
            step = self.machine.resume(set).unwrap();
        }
        self.take(step)
    }

    fn take(&mut self, step: Step) -> Option<Vec<u8>> {
        self.push.extend(step.push);
        self.want.extend(step.want.iter().map(|short| u64::from_le_bytes(short.to_bytes())));
        if let Status::Done(report) = step.status {
            self.done = Some(report);
        }
        step.message
    }
}

/// What one pass came to.
pub(crate) struct Pass {
    pub(crate) opener: Side,
    pub(crate) other: Side,
    pub(crate) messages: Vec<usize>,
}

impl Pass {
    pub(crate) fn bytes(&self) -> usize {
        self.messages.iter().sum()
    }

    /// Checks both reports against what was seen on the wire.
    fn check(&self, message_bytes: usize) {
        let (a, b) = (self.opener.done.as_ref().unwrap(), self.other.done.as_ref().unwrap());
        assert_eq!((a.bytes_sent, a.messages_sent), (b.bytes_received, b.messages_received));
        assert_eq!((b.bytes_sent, b.messages_sent), (a.bytes_received, a.messages_received));
        assert_eq!(a.bytes_sent + b.bytes_sent, self.bytes() as u64);
        assert_eq!((a.pushed, a.wanted), (self.opener.push.len() as u64, self.opener.want.len() as u64));
        assert_eq!((b.pushed, b.wanted), (self.other.push.len() as u64, self.other.want.len() as u64));
        assert!(self.messages.iter().all(|&len| len <= message_bytes), "a message is above the limit");
    }
}

/// Runs one pass to its end.
pub(crate) fn pass(a: &mut ReconcileSet, b: &mut ReconcileSet, opens: Options, accepts: Options) -> Pass {
    let message_bytes = opens.limits.message_bytes;
    let (machine, mut message) = Reconciliation::start(a, opens);
    let mut pass = Pass {
        opener: Side::new(machine),
        other: Side::new(Reconciliation::accept(accepts)),
        messages: vec![message.len()],
    };
    loop {
        let to_other = pass.messages.len() % 2 == 1;
        let answer = if to_other { pass.other.handle(b, &message) } else { pass.opener.handle(a, &message) };
        let Some(answer) = answer else { break };
        pass.messages.push(answer.len());
        assert!(pass.messages.len() < 2_000_000, "it goes on for ever");
        message = answer;
    }
    pass.check(message_bytes);
    pass
}

pub(crate) fn ids(set: &ReconcileSet) -> BTreeSet<Id> {
    set.iter().map(|item| *item.1).collect()
}

/// What one side has and the other does not, by plain set difference.
pub(crate) fn lacks(a: &ReconcileSet, b: &ReconcileSet) -> BTreeSet<Id> {
    ids(a).difference(&ids(b)).copied().collect()
}

/// Whether a pass found exactly the difference, and each side learnt its part of it once.
pub(crate) fn assert_exact(a: &ReconcileSet, b: &ReconcileSet, pass: &Pass) {
    for (side, own, other) in [(&pass.opener, a, b), (&pass.other, b, a)] {
        let push: BTreeSet<Id> = side.push.iter().copied().collect();
        assert_eq!(push.len(), side.push.len(), "an id was pushed twice");
        assert_eq!(push, lacks(own, other));
        let short = |id: &Id| u64::from_le_bytes(own.short_id(id).to_bytes());
        let mut lacking: Vec<u64> = lacks(other, own).iter().map(short).collect();
        lacking.sort_unstable();
        let mut want = side.want.clone();
        want.sort_unstable();
        assert_eq!(want, lacking);
    }
    let equal = pass.opener.done.as_ref().unwrap().outcome == Outcome::Equal;
    assert_eq!(equal, ids(a) == ids(b));
}

/// Gives each side what the other pushed.
pub(crate) fn exchange(a: &mut ReconcileSet, b: &mut ReconcileSet, pass: &Pass) {
    let carry = |from: &ReconcileSet, to: &mut ReconcileSet, push: &[Id]| {
        for id in push {
            // What was pushed may have been removed since.
            if let Some(key) = from.key_of(id) {
                to.insert(key, id).unwrap();
            }
        }
    };
    carry(a, b, &pass.opener.push);
    carry(b, a, &pass.other.push);
}
