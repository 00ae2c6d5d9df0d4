//! A process that another program tells what to do: `control.rs` on standard input and output.

use std::io::Write as _;

use consilience::crdts::Timestamp;

use crate::process::Face;
use crate::process::control::{Command, Reply};
use crate::process::net::{Net, News};
use crate::process::node::Node;
use crate::process::work::Work;

/// What is to be answered once everything before it is stored.
#[derive(Debug, Default)]
pub(crate) struct Controlled {
    answers: Vec<Answer>,
}

#[derive(Debug)]
enum Answer {
    Done { agent: u64, ordinal: u64 },
    Status { id: u64, couplings: bool },
}

impl Face for Controlled {
    /// An event may touch any number of keys, and who started this process is trusted.
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
            Command::Status { id, couplings } => self.answers.push(Answer::Status { id, couplings }),
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
            Answer::Status { id, couplings } => {
                let mut status = node.status(couplings)?;
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
        // Whoever started this process is gone.
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
