//! What these tests share: writers and sets with fixed keys, how one set tells another everything it can, and a
//! consumer that knows of a set only what it was told.

use std::collections::{BTreeMap, BTreeSet};

use consilience_sync::{
    Admission, Answer, Change, Entry, ForkSearch, Forks, Hash, Hlc, Incarnation, Keypair, Limits, LogId,
    LogKind, LogOpening, LogSet, MeshId, NewEntry, RangeForm, ReceiveError, Received, SearchStep, SetError,
    Signer, Timestamp, Topic, VerifyBudget, Want,
};

pub use crate::dice::{Dice, seeds};

/// Both kinds of logs.
pub const KINDS: [LogKind; 2] = [LogKind::State, LogKind::Event];
/// When everything begins.
pub const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// Enough for any answer here.
pub const WHOLE: usize = 1 << 24;

/// The one mesh.
pub fn mesh() -> MeshId {
    MeshId::from_bytes([7; 32])
}

/// The key of an agent.
pub fn keys(agent: u8) -> Keypair {
    Keypair::from_seed([agent; 32])
}

/// A time so many milliseconds after [`START`].
pub fn later(ms: u64) -> Timestamp {
    START.saturating_add_millis(ms)
}

/// The opening of a log.
pub fn opening_in(topic: &str, kind: LogKind, agent: u8, incarnation: u64) -> LogOpening {
    LogOpening {
        topic: Topic::new(topic).unwrap(),
        kind,
        agent: keys(agent).agent(),
        incarnation: Incarnation::from_u64(incarnation),
    }
}

/// The opening of a log of the usual topic and incarnation.
pub fn opening(kind: LogKind, agent: u8) -> LogOpening {
    opening_in("team/planning", kind, agent, 1)
}

/// An empty set with the usual limits.
pub fn set() -> LogSet {
    LogSet::new(mesh(), Limits::default())
}

/// An empty set with other limits.
pub fn limited(change: impl FnOnce(&mut Limits)) -> LogSet {
    let mut limits = Limits::default();
    change(&mut limits);
    LogSet::new(mesh(), limits)
}

/// A set that holds these logs, with nothing in them.
pub fn holder(openings: &[&LogOpening]) -> LogSet {
    let mut set = set();
    for opening in openings {
        set.open(opening, |_| Admission::Hold).unwrap();
    }
    set
}

/// A set in which `opening` is a local writer's.
pub fn writer(opening: &LogOpening) -> (LogSet, LogId) {
    let mut set = set();
    let log = set.open_local(opening).unwrap();
    (set, log)
}

/// Appends an entry with the base where it is, at the next stamp from `now` on.
pub fn append(set: &mut LogSet, log: &LogId, payload: &[u8], now: Timestamp) -> u64 {
    let base = set.log(log).unwrap().base();
    append_based(set, log, payload, base, now)
}

/// Appends an entry with a base, at the next stamp from `now` on.
pub fn append_based(set: &mut LogSet, log: &LogId, payload: &[u8], base: u64, now: Timestamp) -> u64 {
    let mut hlc = set.log(log).unwrap().last_hlc();
    hlc.tick(now);
    set.append(log, &NewEntry { base, ..NewEntry::new(hlc, payload) }).unwrap()
}

/// `count` entries named after `name`, signed.
pub fn write(set: &mut LogSet, log: &LogId, agent: u8, name: &str, count: u64) {
    for number in 0..count {
        append(set, log, format!("{name}{number}").as_bytes(), START);
    }
    set.sign_head(log, &keys(agent), START).unwrap();
}

/// A stamp so many milliseconds after [`START`].
pub fn stamp(ms: u64) -> Hlc {
    Hlc::new(later(ms), 0)
}

/// Plenty of signature checks, for tests that are not about them.
pub fn rich() -> VerifyBudget {
    let mut budget = VerifyBudget::new();
    budget.received(1 << 20);
    budget
}

/// A want of a range that proves itself.
pub fn alone(from: u64, to: u64) -> Want {
    Want { from, to, form: RangeForm::Alone }
}

/// A want of a range that follows on the receiver's entries.
pub fn follow(from: u64, to: u64) -> Want {
    Want { from, to, form: RangeForm::Follow }
}

/// The bytes of a range that is there.
pub fn range(set: &LogSet, log: &LogId, want: Want) -> Vec<u8> {
    match set.answer(log, &want, WHOLE) {
        Answer::Range { bytes, .. } => bytes,
        other => panic!("{want:?} was answered with {other:?}"),
    }
}

/// Takes a range in at [`START`], with plenty of signature checks.
pub fn receive(set: &mut LogSet, log: &LogId, bytes: &[u8]) -> Result<Received, SetError> {
    set.receive(log, bytes, START, &mut rich())
}

/// The proof of the head that a set holds, without entries.
pub fn head_proof(set: &LogSet, log: &LogId) -> Option<Vec<u8>> {
    let held = set.log(log)?;
    let size = held.head()?.size.min(held.size());
    match set.answer(log, &alone(size, size), WHOLE) {
        Answer::Range { bytes, .. } => Some(bytes),
        _ => None,
    }
}

/// Everything that `from` can say of a log is said to `to`: evidence, what is missing, and the head; where the log
/// is forked, the two look for the first difference.
pub fn tell(from: &LogSet, to: &mut LogSet, log: &LogId, now: Timestamp) {
    tell_in(from, to, log, now, 512);
}

/// As [`tell`], with ranges of at most `chunk` bytes.
pub fn tell_in(from: &LogSet, to: &mut LogSet, log: &LogId, now: Timestamp, chunk: usize) {
    let Some(have) = from.have(log) else { return };
    tell_evidence(from, to, log, now);
    let mut last = None;
    while let Some(mut want) = to.want(log, &have) {
        if last.replace(want) == Some(want) {
            break;
        }
        let mut received = ask(from, to, log, &want, now, chunk);
        if let Some(Err(SetError::Receive(ReceiveError::Unproven))) = received {
            want.form = RangeForm::Alone;
            received = ask(from, to, log, &want, now, chunk);
        }
        if !matches!(received, Some(Ok(_))) {
            break;
        }
    }
    if let Some(proof) = head_proof(from, log) {
        let _ = to.receive(log, &proof, now, &mut rich());
    }
    search(from, to, log, now);
}

fn ask(
    from: &LogSet,
    to: &mut LogSet,
    log: &LogId,
    want: &Want,
    now: Timestamp,
    chunk: usize,
) -> Option<Result<Received, SetError>> {
    let Answer::Range { bytes, .. } = from.answer(log, want, chunk) else { return None };
    Some(to.receive(log, &bytes, now, &mut rich()))
}

/// The pieces of evidence that say all that is known of a log's forks.
pub fn evidence_of(set: &LogSet, log: &LogId) -> Vec<Vec<u8>> {
    let pieces = set.forks(log).into_iter().flat_map(Forks::pieces);
    pieces.map(|evidence| evidence.as_bytes().to_vec()).collect()
}

/// Hands over the evidence against a log, if there is any.
pub fn tell_evidence(from: &LogSet, to: &mut LogSet, log: &LogId, now: Timestamp) {
    for evidence in evidence_of(from, log) {
        to.receive_evidence(&evidence, now, &mut rich(), |_| Admission::Hold).unwrap();
    }
}

/// Looks for the first difference between two copies; gives the number of questions.
pub fn search(from: &LogSet, to: &mut LogSet, log: &LogId, now: Timestamp) -> usize {
    let Some(evidence) = to.evidence(log).cloned() else { return 0 };
    let mut search = ForkSearch::new(to.log(log).unwrap(), evidence);
    for asked in 0..64 {
        match search.step() {
            SearchStep::Done(found) => {
                to.receive_evidence(found.as_bytes(), now, &mut rich(), |_| Admission::Hold).unwrap();
                return asked;
            }
            SearchStep::Ask(want) => match from.answer(log, &want, WHOLE) {
                Answer::Range { bytes, .. } => {
                    if search.handle(to.log(log).unwrap(), &bytes, &mut rich()).is_err() {
                        return asked;
                    }
                }
                Answer::Gone(gone) => search.handle_gone(gone),
                Answer::Nothing => return asked,
            },
        }
    }
    panic!("the search does not end");
}

/// A set, and a consumer that follows it.
#[derive(Clone, Debug)]
pub struct Replica {
    /// The logs.
    pub set: LogSet,
    /// The consumer that follows them.
    pub consumer: Consumer,
}

impl Replica {
    /// A set with a consumer that knows nothing yet.
    pub fn new(set: LogSet) -> Self {
        Self { set, consumer: Consumer::default() }
    }

    /// Lets the consumer take in all changes, and checks it against the set.
    pub fn follow(&mut self) {
        self.consumer.follow(&mut self.set);
        self.consumer.check(&self.set);
    }
}

/// All replicas tell each other everything, both ways, until nobody learns anything.
pub fn converge(replicas: &mut [Replica], log: &LogId, now: Timestamp) {
    for _ in 0..16 {
        let before: Vec<_> = replicas.iter().map(|replica| outline(&replica.set, log)).collect();
        for from in 0..replicas.len() {
            for to in (0..replicas.len()).filter(|to| *to != from) {
                let [source, target] = replicas.get_disjoint_mut([from, to]).unwrap();
                tell(&source.set, &mut target.set, log, now);
            }
        }
        replicas.iter_mut().for_each(Replica::follow);
        if before == replicas.iter().map(|replica| outline(&replica.set, log)).collect::<Vec<_>>() {
            return;
        }
    }
    panic!("the replicas go on telling each other news");
}

/// What can be learnt of a log.
fn outline(set: &LogSet, log: &LogId) -> impl PartialEq + use<> {
    let held = set.log(log).unwrap();
    let evidence = evidence_of(set, log);
    (held.held().collect::<Vec<_>>(), held.root(), held.furthest_head().copied(), evidence)
}

/// What a log means to a set: whether it is forked and what shows it, and the entries that count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// The size and the bytes of the evidence of forks.
    pub evidence: Option<(u64, Vec<Vec<u8>>)>,
    /// The payloads that count, by number.
    pub entries: BTreeMap<u64, Vec<u8>>,
}

/// The meaning of a log to a set.
pub fn meaning(set: &LogSet, log: &LogId) -> Meaning {
    let evidence = set.evidence(log).map(|found| (found.size(), evidence_of(set, log)));
    Meaning { evidence, entries: payloads(set, log) }
}

/// The payloads that count, by number.
pub fn payloads(set: &LogSet, log: &LogId) -> BTreeMap<u64, Vec<u8>> {
    let (from, to) = set.applicable(log).unwrap();
    let entries: BTreeMap<u64, Vec<u8>> = set
        .log(log)
        .unwrap()
        .entries(from, to)
        .map(|entry| (entry.seq, entry.payload().unwrap_or(b"erased").to_vec()))
        .collect();
    assert_eq!(entries.len() as u64, to - from, "what is applicable is there");
    entries
}

/// A consumer that follows the changes of one set and looks at nothing else but the entries that they speak of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consumer {
    /// The leaf hashes of the entries that count, by log and number.
    pub logs: BTreeMap<LogId, BTreeMap<u64, Hash>>,
    /// The logs whose entries ceased to count.
    pub voided: BTreeSet<LogId>,
    /// The logs of local writers that were found to be forked.
    pub self_forked: BTreeSet<LogId>,
    /// All changes, as they came.
    pub told: Vec<Change>,
    /// The entries as it was told them.
    read: BTreeMap<LogId, BTreeMap<u64, Read>>,
}

/// What can be read of an entry, in whichever of its forms.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Read {
    hlc: Hlc,
    base: u64,
    payload_len: u32,
    payload: Option<Vec<u8>>,
}

impl Read {
    fn of(entry: &Entry<'_>) -> Self {
        let payload = entry.payload().map(<[u8]>::to_vec);
        Self { hlc: entry.hlc, base: entry.base, payload_len: entry.payload_len, payload }
    }

    /// Payloads are erased and restored meanwhile.
    fn is(&self, other: &Self) -> bool {
        let payload = self.payload.is_none() || other.payload.is_none() || self.payload == other.payload;
        (self.hlc, self.base, self.payload_len) == (other.hlc, other.base, other.payload_len) && payload
    }
}

impl Consumer {
    /// Takes in all that changed.
    pub fn follow(&mut self, set: &mut LogSet) {
        while let Some(change) = set.poll_change() {
            self.take(set, change);
        }
    }

    fn take(&mut self, set: &LogSet, change: Change) {
        self.told.push(change);
        let log = *change.log();
        match change {
            Change::Replaced { .. } | Change::Closed { .. } | Change::Invalidated { .. } => {
                self.check_told(set, &log, 0, u64::MAX, change)
            }
            Change::Cut { valid_below, .. } => self.check_told(set, &log, valid_below, u64::MAX, change),
            Change::Dropped { below, .. } => {
                self.check_told(set, &log, 0, below, change);
            }
            _ => {}
        }
        let entries = self.logs.entry(log).or_default();
        match change {
            Change::Applicable { from, to, .. } => {
                assert!(from < to, "{change:?} says something");
                let follows = entries.last_key_value().is_none_or(|(last, _)| last + 1 == from);
                assert!(follows, "{change:?} follows on {:?}", entries.last_key_value());
                let held = set.log(&log).unwrap();
                for seq in from..to {
                    let leaf = held.leaf(seq);
                    entries.insert(seq, leaf.unwrap_or_else(|| panic!("{change:?}: {seq} is not there")));
                    let read = Read::of(&held.entry(seq).unwrap());
                    self.read.entry(log).or_default().insert(seq, read);
                }
                self.check_told(set, &log, from, to, change);
            }
            Change::Dropped { below, .. } => {
                *entries = entries.split_off(&below);
            }
            Change::Replaced { .. } | Change::Closed { .. } => entries.clear(),
            Change::Invalidated { .. } => {
                entries.clear();
                self.voided.insert(log);
            }
            Change::Cut { valid_below, .. } => {
                entries.split_off(&valid_below);
            }
            Change::SelfForked { .. } => {
                self.self_forked.insert(log);
            }
            Change::Deferred { .. } => {}
            _ => panic!("{change:?} is unknown here"),
        }
    }

    /// What ceases to count can be read as it was told, just that, so that a fold can be undone.
    fn check_told(&self, set: &LogSet, log: &LogId, from: u64, to: u64, change: Change) {
        let Some((first, end)) = self
            .logs
            .get(log)
            .and_then(|entries| Some((*entries.first_key_value()?.0, entries.last_key_value()?.0 + 1)))
        else {
            return;
        };
        let (from, to) = (from.max(first), to.min(end));
        let now: Vec<(u64, Read)> =
            set.acknowledged_entries(log, from, to).map(|entry| (entry.seq, Read::of(&entry))).collect();
        let seqs: Vec<u64> = now.iter().map(|(seq, _)| *seq).collect();
        assert_eq!(seqs, (from..to).collect::<Vec<_>>(), "{change:?}: what was told is there");
        for (seq, read) in &now {
            assert!(read.is(&self.read[log][seq]), "{change:?}: {seq} is what was told");
        }
    }

    /// What it believes is what the set says.
    pub fn check(&self, set: &LogSet) {
        for log in set.logs() {
            let (from, to) = set.applicable(log.id()).unwrap();
            let there: BTreeMap<u64, Hash> = (from..to).map(|seq| (seq, log.leaf(seq).unwrap())).collect();
            let believed = self.logs.get(log.id()).cloned().unwrap_or_default();
            let (believed_seqs, seqs): (Vec<_>, Vec<_>) = (believed.keys().collect(), there.keys().collect());
            assert_eq!(believed_seqs, seqs, "{:?} {:?}", log.opening().kind, log.id());
            assert!(believed == there, "the consumer has other entries of {:?}", log.id());
        }
    }
}

/// All orders of `0..n`.
pub fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![vec![]];
    }
    let mut all = Vec::new();
    for shorter in permutations(n - 1) {
        for at in 0..n {
            let mut longer = shorter.clone();
            longer.insert(at, n - 1);
            all.push(longer);
        }
    }
    all
}
