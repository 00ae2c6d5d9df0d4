//! `consilience`.
//!
//! The bulk form is ranges of 64 KiB under the newest head, each with its proof. A session names a log by a number that
//! both sides gave it; one byte stands for it in front of every range here.
//!
//! `follower` admits the writer's key; a sparse proof is a range of one with the peaks on its left.

use consilience::crdts::{Hlc, Timestamp};
use consilience::sync::{
    Allowance, Evidence, Incarnation, Keypair, Log, LogKind, LogOpening, MeshId, NewEntry, RangeForm,
    Received, Signer, Topic, VerifyBudget,
};

use super::{Payload, Peer};

const ALIAS: u8 = 1;
const CHUNK_BYTES: usize = 64 << 10;

fn mesh() -> MeshId {
    MeshId::from_bytes([7; 32])
}

pub struct Consilience;

impl Peer for Consilience {
    const NAME: &'static str = "consilience";
    type Writer = Writer;
}

pub struct Writer {
    key: Keypair,
    log: Log,
    clock: Hlc,
    /// Each entry is written a millisecond after the one before.
    now: u64,
}

impl Writer {
    fn message(&self, from: usize, to: usize, form: RangeForm) -> (Vec<u8>, usize) {
        let range = self.log.range(from as u64, to as u64, form, CHUNK_BYTES);
        let (range, end) = range.expect("entries that are here and signed");
        let message = [&[ALIAS], &range[..]].concat();
        (message, usize::try_from(end).expect("a small log"))
    }

    fn len(&self) -> usize {
        usize::try_from(self.log.size()).expect("a small log")
    }
}

impl super::Writer for Writer {
    type Follower = Follower;

    fn new(secret: [u8; 32]) -> Self {
        let key = Keypair::from_seed(secret);
        let opening = LogOpening {
            topic: Topic::new("bench").expect("a topic"),
            kind: LogKind::State,
            agent: key.agent(),
            incarnation: Incarnation::from_u64(1),
        };
        let log = Log::new(opening, &mesh()).expect("a key of our own");
        Self {
            key,
            log,
            clock: Hlc::ZERO,
            now: 1_700_000_000_000,
        }
    }

    fn append_sealed(&mut self, payloads: &[Payload]) {
        for payload in payloads {
            self.now += 1;
            let stamp = self.clock.tick(Timestamp::from_millis(self.now));
            self.log
                .append(&NewEntry::new(stamp, payload))
                .expect("room in the log");
        }
        self.log
            .sign_head(&self.key, Timestamp::from_millis(self.now))
            .expect("a key in memory");
    }

    fn follower(&self) -> Follower {
        let log = Log::new(self.log.opening().clone(), &mesh()).expect("a good key");
        Follower {
            log,
            budget: VerifyBudget::new(),
        }
    }

    fn bulk(&mut self) -> Vec<Vec<u8>> {
        let mut messages = vec![];
        let mut at = 0;
        while at < self.len() {
            let (message, end) = self.message(at, self.len(), RangeForm::Follow);
            messages.push(message);
            at = end;
        }
        messages
    }

    fn push(&mut self) -> Vec<u8> {
        self.message(self.len() - 1, self.len(), RangeForm::Follow).0
    }

    fn prove_entry(&mut self, index: usize) -> Vec<u8> {
        self.message(index, index + 1, RangeForm::Alone).0
    }

    fn prove_fork(&mut self, other: &mut Self) -> Option<Vec<u8>> {
        let (theirs, _) = other.message(other.len(), other.len(), RangeForm::Alone);
        let received = self
            .log
            .receive(&theirs[1..], &Allowance::ANY, &mut VerifyBudget::new());
        match received.expect("a good proof") {
            Received::Forked(evidence) => Some(evidence.as_bytes().to_vec()),
            _ => None,
        }
    }
}

pub struct Follower {
    log: Log,
    budget: VerifyBudget,
}

impl super::Follower for Follower {
    fn receive(&mut self, message: &[u8]) -> bool {
        let [ALIAS, range @ ..] = message else {
            return false;
        };
        self.budget.received(message.len());
        self.log.receive(range, &Allowance::ANY, &mut self.budget).is_ok()
    }

    fn verify_entry(&mut self, proof: &[u8], index: usize) -> Option<Payload> {
        let [ALIAS, range @ ..] = proof else {
            return None;
        };
        let verified = self.log.verify(range, &mut self.budget).ok()?;
        let entry = verified.entries().find(|entry| entry.seq == index as u64)?;
        entry.payload()?.try_into().ok()
    }

    fn verify_fork(&mut self, proof: &[u8]) -> bool {
        Evidence::decode(proof, &mesh(), &mut VerifyBudget::new())
            .is_ok_and(|evidence| evidence.log() == self.log.id())
    }

    fn len(&self) -> usize {
        usize::try_from(self.log.size()).expect("a small log")
    }

    fn holds(&mut self, index: usize, payload: &Payload) -> bool {
        let entry = self.log.entry(index as u64);
        entry.and_then(|entry| entry.payload()) == Some(payload)
    }
}
