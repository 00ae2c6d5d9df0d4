//! The commits of honest hosts, and the promises that follow from them: a value that was stored is read unless somebody has
//! seen it and ended it, one that was ended is not, and nobody reads what nobody wrote.
//!
//! A commit is *stored* once its record was written to the disk, and *sure* as long as its host was neither cloned nor
//! put back nor robbed of its storage since: of the others the library promises that all become equal, and no more.

use std::collections::{BTreeMap, BTreeSet};

use consilience::journal::RecordId;

/// A key of a map of a topic.
pub(crate) type Place = (String, String, String);

#[derive(Clone, Debug)]
struct Commit {
    host: usize,
    start: u64,
    record: Option<RecordId>,
    place: Place,
    value: Option<String>,
    seen: BTreeSet<String>,
    stored: bool,
    sure: bool,
}

impl Commit {
    /// Whether it ended a value that its writer had seen, for good.
    fn ends(&self, value: &String) -> bool {
        self.stored && self.sure && self.seen.contains(value)
    }
}

#[derive(Clone, Debug)]
struct Appended {
    host: usize,
    start: u64,
    record: RecordId,
    topic: String,
    text: String,
    stored: bool,
    sure: bool,
}

#[derive(Debug, Default)]
pub(crate) struct History {
    commits: Vec<Commit>,
    events: Vec<Appended>,
    /// Values that were written while a clock was ahead: once it is right they are written anew, and who ended one of them
    /// meanwhile may have ended the first write alone.
    anew: BTreeSet<String>,
    /// Values that liars signed, or of which nothing is promised.
    lies: BTreeSet<String>,
}

impl History {
    pub(crate) fn commit(
        &mut self,
        (host, start, record): (usize, u64, Option<RecordId>),
        place: Place,
        value: Option<String>,
        seen: BTreeSet<String>,
    ) {
        self.commits.push(Commit { host, start, record, place, value, seen, stored: false, sure: true });
    }

    pub(crate) fn event(&mut self, (host, start, record): (usize, u64, RecordId), topic: &str, text: &str) {
        let (topic, text) = (topic.into(), text.into());
        self.events.push(Appended { host, start, record, topic, text, stored: false, sure: true });
    }

    pub(crate) fn written_ahead(&mut self, value: &str) {
        self.anew.insert(value.into());
    }

    /// Whether a value was written while a clock was ahead, and somebody else ended it.
    fn may_be_anew(&self, commit: &Commit, by: &Commit) -> bool {
        by.host != commit.host && commit.value.as_ref().is_some_and(|value| self.anew.contains(value))
    }

    pub(crate) fn lie(&mut self, value: &str) {
        self.lies.insert(value.into());
    }

    /// A host has written records to its disk.
    pub(crate) fn stored(&mut self, host: usize, start: u64, to: RecordId) {
        for commit in self.commits.iter_mut().filter(|one| (one.host, one.start) == (host, start)) {
            commit.stored |= commit.record.is_some_and(|record| record <= to);
        }
        for event in self.events.iter_mut().filter(|one| (one.host, one.start) == (host, start)) {
            event.stored |= event.record <= to;
        }
    }

    /// Nothing is promised of a host's commits any more; of a topic, or of all.
    pub(crate) fn doubt(&mut self, host: usize, topic: Option<&str>) {
        for commit in self.commits.iter_mut().filter(|one| one.host == host) {
            commit.sure &= topic.is_some_and(|topic| commit.place.0 != topic);
        }
        for event in self.events.iter_mut().filter(|one| one.host == host) {
            event.sure &= topic.is_some_and(|topic| event.topic != topic);
        }
    }

    /// A host gave up its events of a topic, but for so many of the last.
    pub(crate) fn prune(&mut self, host: usize, topic: &str, keep: u64) {
        let own = self.events.iter_mut().rev().filter(|one| one.host == host && one.topic == topic);
        for event in own.skip(usize::try_from(keep).unwrap_or(usize::MAX)) {
            event.sure = false;
        }
    }

    /// What is wrong with the values that are read everywhere, if anything.
    pub(crate) fn check(
        &self,
        live: &BTreeMap<Place, BTreeSet<String>>,
        events: &BTreeMap<String, Vec<String>>,
    ) -> Option<String> {
        for (number, commit) in self.commits.iter().enumerate() {
            let Some(value) = commit.value.as_ref().filter(|_| commit.stored && commit.sure) else {
                continue;
            };
            let here = live.get(&commit.place).is_some_and(|values| values.contains(value));
            let mut others = self.commits.iter().enumerate().filter(|(other, _)| *other != number);
            let ended = others.find(|(other, one)| {
                one.place == commit.place
                    && (one.seen.contains(value) || one.host == commit.host && *other > number)
            });
            match ended {
                None if !here => return Some(format!("lost: {value} of {:?}", commit.place)),
                Some((_, by)) if here && !self.may_be_anew(commit, by) && by.ends(value) => {
                    return Some(format!("returned: {value} of {:?}", commit.place));
                }
                _ => {}
            }
        }
        for event in self.events.iter().filter(|event| event.stored && event.sure) {
            if !events.get(&event.topic).is_some_and(|texts| texts.contains(&event.text)) {
                return Some(format!("lost: event {} of {}", event.text, event.topic));
            }
        }
        let written: BTreeSet<&String> =
            self.commits.iter().filter_map(|one| one.value.as_ref()).chain(&self.lies).collect();
        live.iter().find_map(|(place, values)| {
            let value = values.iter().find(|value| !written.contains(value))?;
            Some(format!("invented: {value} of {place:?}"))
        })
    }
}
