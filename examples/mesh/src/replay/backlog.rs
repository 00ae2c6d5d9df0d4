//! The events of a trace on their way to the processes: which may happen already, and which have.
//!
//! Of two events that touch one key the later one is to have the last word, wherever they happen. So an event waits
//! until those before it on its keys have happened, or are waiting for a process that sees nothing of others before it
//! has done them: then neither sees the other, and their stamps decide.

use std::collections::BTreeMap;

use crate::process::control::Command;
use crate::trace::{Event, Trace};

pub(crate) struct Backlog {
    events: Vec<Waiting>,
    /// Places by agent and ordinal.
    places: BTreeMap<(u64, u64), usize>,
    done: usize,
}

struct Waiting {
    /// The process of its agent.
    process: usize,
    command: Command,
    /// The last events before it on its keys, by their places, where another process does them.
    after: Vec<usize>,
    given: bool,
    done: bool,
}

impl Backlog {
    /// Of a trace that so many processes do.
    pub(crate) fn new(trace: &Trace, processes: usize) -> Self {
        let mut ordinals: BTreeMap<u64, u64> = BTreeMap::new();
        let mut last: BTreeMap<&str, usize> = BTreeMap::new();
        let mut backlog = Self { events: Vec::new(), places: BTreeMap::new(), done: 0 };
        for ((place, event), at) in trace.events.iter().enumerate().zip(trace.instants()) {
            let ordinal = ordinals.entry(event.agent).or_default();
            *ordinal += 1;
            let process = process_of(event, processes);
            let before = event.changes.iter().filter_map(|change| last.insert(change.key(), place));
            let after =
                before.filter(|before| *before != place && backlog.events[*before].process != process);
            let waiting = Waiting {
                process,
                command: Command::Event {
                    agent: event.agent,
                    ordinal: *ordinal,
                    at_ms: at.as_millis(),
                    changes: event.changes.clone(),
                },
                after: after.collect(),
                given: false,
                done: false,
            };
            backlog.events.push(waiting);
            backlog.places.insert((event.agent, *ordinal), place);
        }
        backlog
    }

    pub(crate) const fn len(&self) -> usize {
        self.events.len()
    }

    /// How many have happened.
    pub(crate) const fn done(&self) -> usize {
        self.done
    }

    pub(crate) fn process(&self, place: usize) -> usize {
        self.events[place].process
    }

    /// Where the first event of the same agent is.
    pub(crate) fn first(&self, place: usize) -> usize {
        let Command::Event { agent, .. } = self.events[place].command else { return place };
        self.places.get(&(agent, 1)).copied().unwrap_or(place)
    }

    pub(crate) fn command(&self, place: usize) -> Command {
        self.events[place].command.clone()
    }

    /// Whether an event may be given to its process, if `alone` says which processes see nothing of others.
    pub(crate) fn is_free(&self, place: usize, alone: impl Fn(usize) -> bool) -> bool {
        self.events[place].after.iter().all(|before| {
            let before = &self.events[*before];
            before.done || (before.given && alone(before.process))
        })
    }

    /// An event is given to its process, which does its events in turn.
    pub(crate) fn give(&mut self, place: usize) {
        self.events[place].given = true;
    }

    /// Notes that an event has happened; where it was, unless there is no such event.
    pub(crate) fn happened(&mut self, agent: u64, ordinal: u64) -> Option<usize> {
        let place = *self.places.get(&(agent, ordinal))?;
        self.done += usize::from(!self.events[place].done);
        self.events[place].done = true;
        Some(place)
    }
}

/// Where an event happens.
pub(crate) fn process_of(event: &Event, processes: usize) -> usize {
    usize::try_from(event.agent % processes as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Change;

    fn trace(events: &[(u64, &[&str])]) -> Trace {
        let event = |(agent, keys): &(u64, &[&str])| Event {
            time_s: 0,
            agent: *agent,
            changes: keys.iter().map(|key| Change::Set((*key).into())).collect(),
        };
        Trace { events: events.iter().map(event).collect(), ..Trace::default() }
    }

    #[test]
    fn an_event_waits_for_those_before_it_on_its_keys() {
        let trace = trace(&[(0, &["a"]), (1, &["b"]), (1, &["a", "c", "a"]), (2, &["c"]), (0, &["a"])]);
        let mut backlog = Backlog::new(&trace, 2);
        let nobody = |_| false;
        let free = |backlog: &Backlog| [0, 1, 2, 3, 4].map(|place| backlog.is_free(place, nobody));
        assert_eq!(free(&backlog), [true, true, false, false, false]);
        backlog.give(0);
        assert_eq!(free(&backlog), [true, true, false, false, false]);
        assert!(
            backlog.is_free(2, |process| process == 0),
            "the process is alone, so it will not see this one"
        );
        assert_eq!(backlog.happened(0, 1), Some(0));
        assert_eq!(free(&backlog), [true, true, true, false, false]);
        assert_eq!(backlog.happened(1, 2), Some(2));
        assert_eq!(free(&backlog), [true; 5]);
        assert_eq!((backlog.happened(7, 1), backlog.done(), backlog.len()), (None, 2, 5));
        assert_eq!([0, 2, 3].map(|place| backlog.process(place)), [0, 1, 0]);
    }
}
