//! The commands of the program that starts the others, and the replies of the processes: one JSON object a line, commands
//! on the standard input of a process and replies on its standard output. And a process's side of it.

use std::collections::BTreeMap;
use std::io::Write as _;

use consilience::crdts::Timestamp;
use serde::{Deserialize, Serialize};

use crate::process::net::{Net, News};
use crate::process::work::Work;
use crate::process::{Face, Node};

/// From the starter to a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Command {
    /// An event of the trace happens here. Answered by [`Reply::Done`] when it is on the disk. Sent again after a restart
    /// if it was not answered; it happens once.
    Event {
        agent: u64,
        /// Which of the agent's events it is, from 1.
        ordinal: u64,
        /// The instant by the virtual clock, in milliseconds since the Unix epoch.
        at_ms: u64,
        /// Keys to set to `agent@ordinal`, and keys to remove, in the order of the trace.
        changes: Vec<Change>,
    },
    /// Keeps a connection to a peer from now on: dials, and again whenever it breaks.
    Join { addr: String },
    /// Breaks the connection to that peer, and does not dial it any more.
    Cut { addr: String },
    /// Answered by [`Reply::Status`].
    Status { id: u64, detail: Detail },
    /// Ends in an orderly way.
    Stop,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    Set(String),
    Remove(String),
}

impl Change {
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Set(key) | Self::Remove(key) => key,
        }
    }
}

/// From a process to the starter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(crate) enum Reply {
    /// It listens, and has read its store.
    Ready {
        addr: String,
        restored_entries: u64,
    },
    /// The event is on the disk.
    Done {
        agent: u64,
        ordinal: u64,
    },
    Status(Box<Status>),
    /// Something that should not be: the run has failed.
    Failed {
        why: String,
    },
}

/// How much a status is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Detail {
    /// Figures whose cost is in proportion to the changes.
    Brief,
    /// And the digest of the state, and the stored and the live bytes: a pass over all of it.
    Full,
    /// And couplings, and the bytes of a bundle of all that is held. The counters are checked as well.
    Couplings,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) id: u64,
    /// Hash over the held entries of all logs: the same at processes that hold the same ones, relays included.
    pub(crate) root: String,
    /// Digest of the state, empty at a relay and in a brief status.
    pub(crate) digest: String,
    pub(crate) entries: u64,
    pub(crate) events: u64,
    pub(crate) keys: u64,
    pub(crate) set_size: u64,
    pub(crate) signatures_verified: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) live_bytes: u64,
    pub(crate) journal_bytes: u64,
    /// Bytes that cannot be done without to bring the entries that came in this life: of each that was not here as the wire
    /// spells it, and of one signature an update. An update is the entries that a writer signed at once, as they came: one
    /// at a time, or all that a sleeper missed.
    #[serde(default)]
    pub(crate) needed_bytes: u64,
    /// Only if couplings are asked for: bytes of a bundle of all that is held, which a process that has nothing would
    /// have to be brought.
    #[serde(default)]
    pub(crate) bundle_bytes: u64,
    pub(crate) forks: u64,
    /// Faults that peers showed.
    pub(crate) faults: u64,
    /// By the peer's address: bytes written to the connections that this process dialled, and read from them.
    pub(crate) links: BTreeMap<String, [u64; 2]>,
    /// Bytes that connections which were accepted brought, and took.
    pub(crate) accepted: [u64; 2],
    /// Sessions that are open, and of these the ones that were in sync when last compared.
    pub(crate) sessions: u64,
    pub(crate) in_sync: u64,
    /// Only if asked for: of two agents, how strongly they are coupled at the latest instant of the virtual clock, and
    /// at half-lives from there.
    pub(crate) couplings: Vec<Coupled>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Coupled {
    pub(crate) agents: [u64; 2],
    /// At -2, -1, 0, 1 and 2 half-lives from the latest instant.
    pub(crate) values: [f64; 5],
}

/// The answers that are due after everything before them is stored.
#[derive(Debug, Default)]
pub(crate) struct Controlled {
    answers: Vec<Answer>,
}

#[derive(Debug)]
enum Answer {
    Done { agent: u64, ordinal: u64 },
    Status { id: u64, detail: Detail },
}

impl Face for Controlled {
    /// An event may touch any number of keys, and the starter of this process is trusted.
    const LINE_MAX: usize = usize::MAX;

    fn ready(&mut self, addr: &str, node: &impl Node) -> Result<(), String> {
        say(&[Reply::Ready { addr: addr.into(), restored_entries: node.restored_entries() }])
    }

    fn take(
        &mut self,
        line: &str,
        node: &mut impl Node,
        net: &mut Net,
        _: Timestamp,
    ) -> Result<bool, String> {
        let command = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
        match command {
            Command::Event { agent, ordinal, at_ms, changes } => {
                let at = Timestamp::from_millis(at_ms);
                node.play(&Work { agent, ordinal, at, changes: &changes })
                    .map_err(|error| format!("event {agent}@{ordinal}: {error}"))?;
                self.answers.push(Answer::Done { agent, ordinal });
            }
            Command::Join { addr } => net.join(&addr),
            Command::Cut { addr } => net.cut(&addr, node),
            Command::Status { id, detail } => self.answers.push(Answer::Status { id, detail }),
            Command::Stop => return Ok(false),
        }
        Ok(true)
    }

    fn garbled(&mut self, why: String) -> Result<(), String> {
        // An event would be lost.
        Err(why)
    }

    fn stored(&mut self, node: &mut impl Node, net: &Net) -> Result<(), String> {
        if self.answers.is_empty() {
            return Ok(());
        }
        let replies = self.answers.drain(..).map(|answer| match answer {
            Answer::Done { agent, ordinal } => Ok(Reply::Done { agent, ordinal }),
            Answer::Status { id, detail } => {
                let mut status = node.status(detail)?;
                status.id = id;
                net.report(&mut status);
                Ok(Reply::Status(Box::new(status)))
            }
        });
        say(&replies.collect::<Result<Vec<_>, String>>()?)
    }

    fn hear(&mut self, news: News) {
        if let News::Session(addr, consilience::sync::session::SessionEvent::Fault(fault)) = news {
            eprintln!("mesh: {addr}: {fault}");
        }
    }

    fn closed(&self) -> bool {
        // The starter of this process is gone.
        false
    }

    fn failed(&mut self, why: &str) {
        // It is written to standard error as well.
        let _ = say(&[Reply::Failed { why: why.into() }]);
    }
}

fn say(replies: &[Reply]) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    for reply in replies {
        let line = serde_json::to_string(reply).map_err(|error| error.to_string())?;
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| error.to_string())?;
    }
    Ok(())
}
