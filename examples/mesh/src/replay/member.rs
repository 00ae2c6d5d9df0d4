//! What the starter knows of one process: whether it runs, what it was told, what it said last.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use crate::process::control::{Command, Coupled, Reply, Status};
use crate::replay::starter::Running;

/// Events that a process may have been sent and not answered.
const UNANSWERED_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Started; it has not said that it is ready.
    Starting,
    Awake,
    Asleep,
    /// In an orderly way.
    Ended,
}

/// One process, over all its lives.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) is_relay: bool,
    pub(crate) dir: PathBuf,
    /// Where it listens, in every life the same.
    pub(crate) addr: String,
    pub(crate) running: Option<Running>,
    /// How often it was started.
    pub(crate) life: u32,
    pub(crate) state: State,
    /// Its links are cut, so that it sees nothing of others before it has done what is waiting.
    pub(crate) isolated: bool,
    /// Events to be sent, by their places in the trace, and those that were sent and not answered.
    pub(crate) queue: VecDeque<usize>,
    pub(crate) unanswered: VecDeque<usize>,
    /// What it said last in this life, when, and with which number.
    pub(crate) status: Status,
    /// What counts in each life anew, of the lives before.
    past: Counters,
    /// Entries that it held, over time.
    pub(crate) entries: Vec<(Duration, u64)>,
    /// Couplings that it was asked for, by the number of the question.
    pub(crate) couplings: BTreeMap<u64, Vec<Coupled>>,
}

/// What a process counts from its start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) signatures: u64,
    /// By address, bytes written to connections that it dialled and read from them.
    pub(crate) links: BTreeMap<String, [u64; 2]>,
    /// Bytes that accepted connections brought, and took.
    pub(crate) accepted: [u64; 2],
    /// Faults that peers showed.
    pub(crate) peer_faults: u64,
    /// Bytes of what local writers wrote.
    pub(crate) own_entries: u64,
}

impl Counters {
    fn add(&mut self, status: &Status) {
        self.signatures += status.signatures_verified;
        for (addr, bytes) in &status.links {
            let sum = self.links.entry(addr.clone()).or_default();
            *sum = [sum[0] + bytes[0], sum[1] + bytes[1]];
        }
        self.accepted = [self.accepted[0] + status.accepted[0], self.accepted[1] + status.accepted[1]];
        self.peer_faults += status.faults;
        self.own_entries += status.written_bytes;
    }

    pub(crate) fn written(&self) -> u64 {
        self.links.values().map(|bytes| bytes[0]).sum::<u64>() + self.accepted[1]
    }

    pub(crate) fn read(&self) -> u64 {
        self.links.values().map(|bytes| bytes[1]).sum::<u64>() + self.accepted[0]
    }
}

impl Member {
    pub(crate) fn new(name: String, is_relay: bool, dir: PathBuf) -> Self {
        Self {
            name,
            is_relay,
            dir,
            addr: "127.0.0.1:0".into(),
            running: None,
            life: 0,
            state: State::Starting,
            isolated: false,
            queue: VecDeque::new(),
            unanswered: VecDeque::new(),
            status: Status::default(),
            past: Counters::default(),
            entries: Vec::new(),
            couplings: BTreeMap::new(),
        }
    }

    /// A process that runs, in place of the one before.
    pub(crate) fn begin(&mut self, running: Running) {
        self.past.add(&std::mem::take(&mut self.status));
        self.running = Some(running);
        self.state = State::Starting;
        // What was not answered is sent again, before everything else.
        while let Some(event) = self.unanswered.pop_back() {
            self.queue.push_front(event);
        }
    }

    /// All that was counted in all lives, up to what was said last.
    pub(crate) fn counters(&self) -> Counters {
        let mut counters = self.past.clone();
        counters.add(&self.status);
        counters
    }

    pub(crate) fn tell(&self, command: Command) {
        if let Some(running) = &self.running {
            running.tell(command);
        }
    }

    /// The next event that can be sent, if any.
    pub(crate) fn next_event(&mut self) -> Option<usize> {
        if self.state != State::Awake || self.unanswered.len() >= UNANSWERED_MAX {
            return None;
        }
        let event = self.queue.pop_front()?;
        self.unanswered.push_back(event);
        Some(event)
    }

    /// Whether nothing is waiting for it.
    pub(crate) fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.unanswered.is_empty()
    }

    /// Takes in what it said. Returns what is left for others to act upon.
    pub(crate) fn hear(&mut self, reply: Reply, now: Duration) -> Result<Heard, String> {
        match reply {
            Reply::Ready { addr, .. } => {
                self.addr = addr;
                self.state = State::Awake;
                Ok(Heard::Ready)
            }
            Reply::Done { agent, ordinal } => Ok(Heard::Done { agent, ordinal }),
            Reply::Status(status) => {
                self.entries.push((now, status.entries));
                if !status.couplings.is_empty() {
                    self.couplings.insert(status.id, status.couplings.clone());
                }
                self.status = *status;
                Ok(Heard::Status)
            }
            Reply::Failed { why } => Err(format!("{} says: {why}", self.name)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Ready,
    Done { agent: u64, ordinal: u64 },
    Status,
}
