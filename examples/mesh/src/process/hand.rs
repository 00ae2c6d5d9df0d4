//! A process by hand: lines on standard input, changes on standard output.

use std::io::{IsTerminal as _, Write as _};

use consilience::crdts::Timestamp;
use consilience::sync::AgentId;
use consilience::sync::session::{EndReason, SessionEvent};
use consilience::{CollectionKind, Notice};

use crate::process::Face;
use crate::process::host::Host;
use crate::process::net::{Net, News};
use crate::process::{Node, hex, text};
use crate::shown::shown;

/// The map of each topic that is written by hand.
const NOTES: &str = "notes";
/// The commands that an agent understands.
pub(crate) const COMMANDS: &str = "set TOPIC KEY VALUE, remove TOPIC KEY, get TOPIC KEY, or quit";

pub(crate) struct Hand {
    /// The lines to be shown after everything is stored.
    shown: Vec<String>,
}

impl Hand {
    pub(crate) const fn new() -> Self {
        Self { shown: Vec::new() }
    }
}

impl Face for Hand {
    /// Nobody types that much, and a file piped in by mistake is not to fill the memory.
    const LINE_MAX: usize = 1 << 20;

    fn ready(&mut self, addr: &str, node: &impl Node) -> Result<(), String> {
        let (entries, commands) = (node.restored_entries(), node.commands());
        show(&format!("listening on {addr}, {entries} entries so far; {commands}"));
        Ok(())
    }

    fn take(
        &mut self,
        line: &str,
        node: &mut impl Node,
        _: &mut Net,
        now: Timestamp,
    ) -> Result<bool, String> {
        match line.trim() {
            "" => {}
            "quit" => return Ok(false),
            line => match node.obey(line, now) {
                Ok(shown) => self.shown.extend(shown),
                // A mistake of a person is no reason to end.
                Err(why) => complain(&why),
            },
        }
        Ok(true)
    }

    fn garbled(&mut self, why: String) -> Result<(), String> {
        complain(&why);
        Ok(())
    }

    fn stored(&mut self, node: &mut impl Node, _: &Net) -> Result<(), String> {
        self.shown.extend(node.changes());
        self.shown.drain(..).for_each(|line| show(&line));
        Ok(())
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Session(addr, SessionEvent::Connected(peer)) => {
                show(&format!("connected to {} at {addr}", short(peer.agent)));
            }
            // The stream has ended, and then so has the session.
            News::Session(addr, SessionEvent::Ended(EndReason::Disconnected)) => {
                show(&format!("disconnected from {addr}: the connection broke"));
            }
            News::Session(addr, SessionEvent::Ended(reason)) => {
                show(&format!("disconnected from {addr}: {reason}"));
            }
            News::Session(addr, SessionEvent::Fault(fault)) => complain(&format!("{addr}: {fault}")),
            News::Session(..) => {}
            News::Unreachable(addr, error) => {
                complain(&format!("{addr} cannot be reached ({error}); it is tried again until it can"));
            }
        }
    }

    fn closed(&self) -> bool {
        // A person who closes the terminal is done; a process without an input stays up as a server.
        !std::io::stdin().is_terminal()
    }

    fn failed(&mut self, _: &str) {}
}

/// One line, whatever peers put into it. A reader that has gone away is no reason to end: peers still need this process.
fn show(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", shown(line)).and_then(|()| out.flush());
}

fn complain(line: &str) {
    // As with the lines that are shown.
    let _ = writeln!(std::io::stderr(), "{}", shown(line));
}

impl Host {
    /// Asks to be told of all changes.
    pub(crate) fn watch(&mut self) -> Result<(), String> {
        self.replica.subscribe("*").map(drop).map_err(text)
    }

    pub(crate) fn obey(&mut self, line: &str, now: Timestamp) -> Result<Option<String>, String> {
        let mut words = line.splitn(4, ' ').filter(|word| !word.is_empty());
        let words = [words.next(), words.next(), words.next(), words.next()];
        match words {
            [Some("set"), Some(topic), Some(key), Some(value)] => {
                let mut tx = self.replica.transact(self.own, topic, now).map_err(text)?;
                tx.map(NOTES).set(key, value).map_err(text)?;
                tx.commit().map_err(text)?;
                Ok(None)
            }
            [Some("remove"), Some(topic), Some(key), None] => {
                let mut tx = self.replica.transact(self.own, topic, now).map_err(text)?;
                tx.map(NOTES).remove(key).map_err(text)?;
                let done = tx.commit().map_err(text)?;
                Ok(done.is_none().then(|| format!("{topic} {key} is not set")))
            }
            [Some("get"), Some(topic), Some(key), None] => {
                let live = self.replica.topic(topic).map_err(text)?.map(NOTES).get(key);
                let live = live.map(|live| said(topic, live.key, live.value, live.author));
                Ok(Some(live.unwrap_or_else(|| format!("{topic} {key} is not set"))))
            }
            _ => Err(format!("{line:?} is no command; {COMMANDS}")),
        }
    }

    pub(crate) fn changes(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(notice) = self.replica.poll_notice() {
            match notice {
                Notice::Changed { topic, kind: CollectionKind::Map, key, new, author, .. } => {
                    lines.push(match (new, author) {
                        (Some(value), Some(author)) => said(topic.as_str(), &key, &value, author),
                        _ => format!("{topic} {} is removed", String::from_utf8_lossy(&key)),
                    });
                }
                Notice::Forked { log, .. } => lines.push(format!(
                    "{} has signed two histories in {}: of that log nothing counts. Does it run twice with one directory \
                     or key? It writes again by itself the content that it still has",
                    short(log.agent),
                    log.topic
                )),
                Notice::SelfForked { log } => lines.push(format!(
                    "there is another history of this process's log in {}: it goes on in a new log",
                    log.topic
                )),
                Notice::Deferred { log, .. } => lines.push(format!(
                    "{} is ahead of this clock: its entries in {} count when their time has come. Check both clocks",
                    short(log.agent),
                    log.topic
                )),
                Notice::NeedsUpgrade { log, .. } => lines.push(format!(
                    "{} writes entries that this version does not know: upgrade this program",
                    short(log.agent)
                )),
                Notice::Restamped { .. }
                | Notice::Malformed { .. }
                | Notice::Missed { .. }
                | Notice::RecordsCut { .. }
                | Notice::ItemsRefused { .. } => lines.push(notice.to_string()),
                _ => {}
            }
        }
        lines
    }
}

fn said(topic: &str, key: &[u8], value: &[u8], author: AgentId) -> String {
    let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(value));
    format!("{topic} {key} = {value} (by {})", short(author))
}

/// The beginning of an agent's name.
fn short(agent: AgentId) -> String {
    hex(&agent.as_bytes()[..4])
}
