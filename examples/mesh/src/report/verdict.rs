//! Whether the stores that the processes left agree with the trace, as `--dump` shows them. Found without the library, by a
//! plain replay.
//!
//! Every event of the trace has to be there once, in its writer's order. A key whose last operation is a set has that
//! value and its author. A key whose last operation is a removal is gone, or has a value that the remover had not seen:
//! one that another process had set, or its own from before it was put back from a backup.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use crate::interrupt::Interrupt;
use crate::options::Options;
use crate::replay::backlog::process_of;
use crate::replay::member::own_group;
use crate::trace::{Change, Trace};

/// One of several wrong things is named each, not thousands.
const NAMED_MAX: usize = 3;

/// The findings about all stores.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    /// Events of the trace that are not in every store once, in their writer's order.
    pub(crate) lost: u64,
    /// Keys and elements that are not as they should be, over all stores.
    pub(crate) wrong: u64,
    /// Keys whose value is known: all but those that were removed last and may have survived it.
    pub(crate) plain_keys: u64,
    pub(crate) keys_ever: u64,
    /// Of each store.
    pub(crate) digests: Vec<String>,
    /// Some of the mistakes.
    pub(crate) complaints: Vec<String>,
}

/// A line of a dump, whatever it is about.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    collection: String,
    /// Text, or bytes that are none.
    key: Option<serde_json::Value>,
    value: Option<serde_json::Value>,
    author: Option<String>,
    payload: Option<String>,
    digest: Option<String>,
}

/// The content of a dump.
#[derive(Default)]
struct Store {
    /// Value and author of each key.
    files: BTreeMap<String, (String, String)>,
    agents: BTreeSet<String>,
    /// Author and payload, in the order of the dump.
    events: Vec<(String, String)>,
    digest: String,
}

/// The effect of the trace on a key.
#[derive(Default)]
struct Key {
    /// The value, if its last operation is a set.
    value: Option<String>,
    /// The process of that operation.
    process: usize,
    /// All values that it ever had, with the processes that set them.
    values: BTreeMap<String, usize>,
}

struct Plain {
    keys: BTreeMap<String, Key>,
    agents: BTreeSet<String>,
    /// How many events each agent has.
    events: BTreeMap<u64, u64>,
}

impl Verdict {
    /// Of the stores in these directories, when the processes that wrote them have ended.
    pub(crate) fn new(
        trace: &Trace,
        options: &Options,
        restored: &[usize],
        stores: &[&Path],
        interrupt: &Interrupt,
    ) -> Result<Self, String> {
        let plain = Plain::new(trace, options.processes);
        let may_survive = |key: &Key| !options.lockstep && key.value.is_none();
        let mut verdict = Self {
            keys_ever: plain.keys.len() as u64,
            plain_keys: plain.keys.values().filter(|key| !may_survive(key)).count() as u64,
            ..Self::default()
        };
        for dir in stores {
            interrupt.check()?;
            let store = Store::parse(&dump(dir)?).map_err(|why| format!("{}: {why}", dir.display()))?;
            let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let found = plain.compare(&store, restored, options.lockstep);
            verdict.lost = verdict.lost.max(found.lost);
            verdict.wrong += found.wrong;
            verdict.digests.push(store.digest);
            let complaints = found.complaints.into_iter().take(NAMED_MAX);
            verdict.complaints.extend(complaints.map(|complaint| format!("{name}: {complaint}")));
        }
        Ok(verdict)
    }
}

/// The lines that this program prints of a stopped store.
fn dump(dir: &Path) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = std::process::Command::new(program);
    command.arg("--dump").arg(dir);
    own_group(&mut command);
    let output = command.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().into());
    }
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}

impl Store {
    fn parse(dump: &str) -> Result<Self, String> {
        let mut store = Self::default();
        for line in dump.lines() {
            let line: Line = serde_json::from_str(line).map_err(|error| format!("{error} in {line}"))?;
            let text = |value: Option<serde_json::Value>| Some(value?.as_str()?.to_string());
            match (line.kind.as_str(), line.collection.as_str(), text(line.key), line.author) {
                ("map", "files", Some(key), Some(author)) => {
                    store.files.insert(key, (text(line.value).unwrap_or_default(), author));
                }
                ("set", "agents", Some(key), _) => {
                    store.agents.insert(key);
                }
                ("event", _, _, Some(author)) => {
                    store.events.push((author, line.payload.unwrap_or_default()));
                }
                _ => store.digest = line.digest.unwrap_or(store.digest),
            }
        }
        Ok(store)
    }
}

impl Plain {
    fn new(trace: &Trace, processes: usize) -> Self {
        let mut plain = Self { keys: BTreeMap::new(), agents: BTreeSet::new(), events: BTreeMap::new() };
        for event in &trace.events {
            let ordinal = plain.events.entry(event.agent).or_default();
            *ordinal += 1;
            plain.agents.insert(event.agent.to_string());
            for change in &event.changes {
                let key = plain.keys.entry(change.key().into()).or_default();
                key.process = process_of(event, processes);
                key.value = match change {
                    Change::Set(_) => Some(format!("{}@{ordinal}", event.agent)),
                    Change::Remove(_) => None,
                };
                if let Some(value) = &key.value {
                    key.values.insert(value.clone(), key.process);
                }
            }
        }
        plain
    }

    fn compare(&self, store: &Store, restored: &[usize], exactly: bool) -> Verdict {
        let mut verdict = Verdict::default();
        let mut authors: BTreeMap<&str, u64> = BTreeMap::new();
        verdict.lost = self.lost(store, &mut authors, &mut verdict.complaints);
        let mut wrong = |complaint: String| {
            verdict.wrong += 1;
            verdict.complaints.push(complaint);
        };
        for (name, key) in &self.keys {
            match (&key.value, store.files.get(name)) {
                (None, None) => {}
                (None, Some((value, _))) => {
                    let setter = key.values.get(value);
                    let unseen =
                        setter.is_some_and(|setter| *setter != key.process || restored.contains(setter));
                    if exactly || !unseen {
                        wrong(format!("{name:?} was removed last and is there with {value}"));
                    }
                }
                (Some(value), there) if there.map(|(there, _)| there) != Some(value) => {
                    let there = there.map_or("nothing", |(there, _)| there);
                    wrong(format!("{name:?} was set to {value} last and has {there}"));
                }
                _ => {}
            }
        }
        for (name, (value, author)) in &store.files {
            let agent = value.split_once('@').and_then(|(agent, _)| agent.parse().ok());
            if !self.keys.contains_key(name) || agent != authors.get(author.as_str()).copied() {
                wrong(format!("{name:?} has {value} of {author}, which is not so in the trace"));
            }
        }
        for agent in self.agents.symmetric_difference(&store.agents) {
            wrong(format!("agent {agent} is missing in the set, or should not be there"));
        }
        verdict
    }

    /// How many events are not there once, each writer's in its order. Finds out the agent of each author.
    fn lost<'a>(
        &self,
        store: &'a Store,
        authors: &mut BTreeMap<&'a str, u64>,
        complaints: &mut Vec<String>,
    ) -> u64 {
        let mut next: BTreeMap<u64, u64> = BTreeMap::new();
        let mut known: BTreeMap<u64, &str> = BTreeMap::new();
        let mut odd = 0;
        for (author, payload) in &store.events {
            let name = payload.split_once('@');
            let name = name.and_then(|(agent, ordinal)| Some((agent.parse().ok()?, ordinal.parse().ok()?)));
            let Some((agent, ordinal)) = name else {
                odd += 1;
                complaints.push(format!("an event {payload:?} that is not in the trace"));
                continue;
            };
            // One to one.
            let is_it = *authors.entry(author).or_insert(agent) == agent
                && *known.entry(agent).or_insert(author) == author;
            let expected: &mut u64 = next.entry(agent).or_default();
            if is_it && ordinal == *expected + 1 {
                *expected = ordinal;
            } else {
                odd += 1;
                complaints.push(format!("event {payload} comes after {agent}@{expected}"));
            }
        }
        let missing = self
            .events
            .iter()
            .map(|(agent, count)| count.saturating_sub(next.get(agent).copied().unwrap_or(0)));
        let missing: u64 = missing.sum();
        if missing > 0 {
            complaints.push(format!("{missing} events are missing"));
        }
        missing.max(odd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Event;

    fn trace() -> Trace {
        let set = |key: &str| Change::Set(key.into());
        let event = |agent, changes| Event { time_s: 0, agent, changes };
        let events = vec![
            event(0, vec![set("a"), set("b")]),
            event(1, vec![set("b"), set("c")]),
            event(0, vec![Change::Remove("c".into()), Change::Remove("a".into())]),
        ];
        Trace { events, ..Trace::default() }
    }

    const GOOD: [&str; 7] = [
        r#"{"kind":"map","collection":"files","key":"b","value":"1@1","author":"y","stamp":{}}"#,
        r#"{"kind":"map","collection":"done","key":"0","value":"2","author":"x"}"#,
        r#"{"kind":"set","collection":"agents","key":"0","author":"x"}"#,
        r#"{"kind":"set","collection":"agents","key":"1","author":"y"}"#,
        r#"{"kind":"event","collection":"events","payload":"0@1","author":"x"}"#,
        r#"{"kind":"event","collection":"events","payload":"1@1","author":"y"}"#,
        r#"{"kind":"event","collection":"events","payload":"0@2","author":"x"}"#,
    ];

    fn judged(lines: &[&str], exactly: bool) -> (u64, u64) {
        let store = Store::parse(&lines.join("\n")).unwrap();
        let verdict = Plain::new(&trace(), 2).compare(&store, &[], exactly);
        assert_eq!(verdict.complaints.is_empty(), verdict.lost + verdict.wrong == 0);
        (verdict.lost, verdict.wrong)
    }

    #[test]
    fn a_store_with_all_of_the_trace_is_good() {
        assert_eq!(judged(&GOOD, true), (0, 0));
        // Agent 1's process had set this, and agent 0's had perhaps not seen it.
        let survivor = r#"{"kind":"map","collection":"files","key":"c","value":"1@1","author":"y"}"#;
        assert_eq!(judged(&[&GOOD[..], &[survivor]].concat(), false), (0, 0));
        assert_eq!(judged(&[&GOOD[..], &[survivor]].concat(), true), (0, 1));
        let own = r#"{"kind":"map","collection":"files","key":"a","value":"0@1","author":"x"}"#;
        assert_eq!(judged(&[&GOOD[..], &[own]].concat(), false), (0, 1));
    }

    #[test]
    fn whatever_is_missing_or_wrong_is_seen() {
        for place in [0, 2, 3] {
            let mut lines = GOOD.to_vec();
            lines.remove(place);
            assert_eq!(judged(&lines, false), (0, 1), "{place}");
        }
        let mut lines = GOOD.to_vec();
        lines.remove(6);
        assert_eq!(judged(&lines, false), (1, 0));
        lines.insert(4, GOOD[6]);
        assert!(judged(&lines, false).0 > 0, "out of order");
        assert!(judged(&[&GOOD[..], &[GOOD[5]]].concat(), false).0 > 0, "twice");
        let other = GOOD[0].replace("\"y\"", "\"x\"");
        assert_eq!(judged(&[&GOOD[1..], &[&other]].concat(), false), (0, 1), "another author");
        let older = GOOD[0].replace("1@1", "0@1").replace("\"y\"", "\"x\"");
        assert_eq!(judged(&[&GOOD[1..], &[&older]].concat(), false), (0, 1), "an older value");
        let unknown = GOOD[0].replace("\"b\"", "\"z\"");
        assert_eq!(judged(&[&GOOD[..], &[&unknown]].concat(), false), (0, 1), "a key of nobody");
    }
}
