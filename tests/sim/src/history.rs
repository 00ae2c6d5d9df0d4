//! The commits of honest hosts, and the promises that follow from them: a value that was stored is read unless somebody has
//! seen it and ended it, one that was ended is not, and nobody reads what nobody wrote.
//!
//! A commit is *stored* once its record was written to the disk, and *sure* as long as its host was neither cloned nor
//! put back nor robbed of its storage since, or as long as somebody else keeps what it wrote. Of an agent that runs twice it is
//! promised that a value that nobody wrote over later is not lost. Of the others the library promises that all become equal, and
//! no more.

use std::collections::{BTreeMap, BTreeSet};

use consilience::journal::RecordId;

use crate::naive::Part;

/// A key of a map of a topic.
pub(crate) type Place = (String, String, String);

impl Wrote<'_> {
    fn topic(&self) -> &str {
        match self {
            Self::Value((topic, ..), _) => topic,
            Self::Event(topic, _) => topic,
            Self::Stated(part, _) => part.topic.as_str(),
        }
    }
}

#[derive(Clone, Debug)]
struct Commit {
    host: usize,
    start: u64,
    record: Option<RecordId>,
    place: Place,
    value: Option<String>,
    seen: BTreeSet<String>,
    /// When it was made, by the world's clock.
    now: u64,
    stored: bool,
    sure: bool,
    /// Its agent runs twice, and its host has all that it ever wrote.
    twice: bool,
    /// Its host lost it, and these keep it.
    keep: Option<BTreeSet<usize>>,
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
    twice: bool,
    keep: Option<BTreeSet<usize>>,
}

/// A statement of an agent about a key of a coupling.
#[derive(Clone, Debug)]
struct Stated {
    host: usize,
    start: u64,
    record: RecordId,
    part: Part,
    instant: u64,
    stored: bool,
    sure: bool,
    twice: bool,
    keep: Option<BTreeSet<usize>>,
}

/// Something that a host wrote.
pub(crate) enum Wrote<'a> {
    Value(&'a Place, &'a String),
    Event(&'a String, &'a String),
    Stated(&'a Part, u64),
}

/// What is promised of something that a host wrote.
struct Promise<'a> {
    host: usize,
    sure: &'a mut bool,
    twice: &'a mut bool,
    keep: &'a mut Option<BTreeSet<usize>>,
}

impl Promise<'_> {
    /// Its host lost it: it is sure as long as these keep it.
    fn lose(&mut self, keep: BTreeSet<usize>) {
        *self.twice = false;
        *self.sure &= !keep.is_empty();
        *self.keep = Some(keep);
    }

    /// Another host lost what it kept.
    fn lose_at(&mut self, host: usize) {
        if let Some(keep) = self.keep {
            keep.remove(&host);
            *self.sure &= !keep.is_empty();
        }
    }

    /// Its agent runs twice.
    fn doubt(&mut self) {
        *self.twice |= *self.sure && self.keep.is_none();
        *self.sure = false;
    }
}

#[derive(Debug, Default)]
pub(crate) struct History {
    commits: Vec<Commit>,
    events: Vec<Appended>,
    stated: Vec<Stated>,
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
        (seen, now): (BTreeSet<String>, u64),
    ) {
        let (stored, sure, twice, keep) = (false, true, false, None);
        self.commits.push(Commit { host, start, record, place, value, seen, now, stored, sure, twice, keep });
    }

    pub(crate) fn state(&mut self, (host, start, record): (usize, u64, RecordId), part: Part, instant: u64) {
        let (stored, sure, twice, keep) = (false, true, false, None);
        self.stated.push(Stated { host, start, record, part, instant, stored, sure, twice, keep });
    }

    pub(crate) fn event(&mut self, (host, start, record): (usize, u64, RecordId), topic: &str, text: &str) {
        let (topic, text) = (topic.into(), text.into());
        let (stored, sure, twice, keep) = (false, true, false, None);
        self.events.push(Appended { host, start, record, topic, text, stored, sure, twice, keep });
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
        for stated in self.stated.iter_mut().filter(|one| (one.host, one.start) == (host, start)) {
            stated.stored |= stated.record <= to;
        }
    }

    /// All that was written, by topic, and what is promised of it.
    fn promises(&mut self) -> impl Iterator<Item = (Wrote<'_>, Promise<'_>)> {
        let commits = self.commits.iter_mut().filter_map(|one| {
            let Commit { host, sure, twice, keep, place, value, .. } = one;
            let promise = Promise { host: *host, sure, twice, keep };
            value.as_mut().map(|value| (Wrote::Value(place, value), promise))
        });
        let events = self.events.iter_mut().map(|one| {
            let Appended { host, sure, twice, keep, topic, text, .. } = one;
            (Wrote::Event(topic, text), Promise { host: *host, sure, twice, keep })
        });
        let stated = self.stated.iter_mut().map(|one| {
            let Stated { host, sure, twice, keep, part, instant, .. } = one;
            (Wrote::Stated(part, *instant), Promise { host: *host, sure, twice, keep })
        });
        commits.chain(events).chain(stated)
    }

    /// A host lost what it had stored, of a topic or all: what others keep of it is promised as long as they do.
    pub(crate) fn lose(
        &mut self,
        host: usize,
        topic: Option<&str>,
        keep: impl Fn(&Wrote<'_>) -> BTreeSet<usize>,
    ) {
        for (wrote, mut promise) in self.promises() {
            if topic.is_some_and(|topic| wrote.topic() != topic) {
                continue;
            }
            if promise.host == host {
                if *promise.sure || *promise.twice {
                    promise.lose(keep(&wrote));
                }
            } else {
                promise.lose_at(host);
            }
        }
        // Nobody is asked whether he knows of a removal.
        for commit in self.commits.iter_mut().filter(|one| one.host == host && one.value.is_none()) {
            commit.sure &= topic.is_some_and(|topic| commit.place.0 != topic);
        }
    }

    /// The agent of a host runs twice. One of its processes may have given up events of the other's, or other entries.
    pub(crate) fn twice(&mut self, host: usize, events: bool, others: bool) {
        for (wrote, mut promise) in self.promises().filter(|(_, promise)| promise.host == host) {
            promise.doubt();
            let is_event = matches!(wrote, Wrote::Event(..));
            *promise.twice &= if is_event { !events } else { !others };
        }
        for commit in self.commits.iter_mut().filter(|one| one.host == host && one.value.is_none()) {
            commit.sure = false;
        }
    }

    /// Nothing is promised of what a host wrote any more.
    pub(crate) fn doubt(&mut self, host: usize) {
        self.lose(host, None, |_| BTreeSet::new());
    }

    /// A host gave up its events of a topic, but for so many of the last.
    pub(crate) fn prune(&mut self, host: usize, topic: &str, keep: u64) {
        let own = self.events.iter_mut().rev().filter(|one| one.host == host && one.topic == topic);
        for event in own.skip(usize::try_from(keep).unwrap_or(usize::MAX)) {
            (event.sure, event.twice) = (false, false);
        }
    }

    /// The instants that agents must have contributed.
    pub(crate) fn contributed(&self) -> impl Iterator<Item = (&Part, u64)> {
        let kept = self.stated.iter().filter(|one| one.stored && (one.sure || one.twice));
        kept.map(|one| (&one.part, one.instant))
    }

    /// Whether another value that is live was written later than the one that is read, where all clocks were right.
    pub(crate) fn is_stale(&self, place: &Place, read: &str, live: &BTreeSet<String>) -> bool {
        let written = |value: &str| {
            let mut of = self.commits.iter().filter(|one| one.place == *place);
            of.find(|one| one.value.as_deref() == Some(value)).map(|one| one.now)
        };
        let Some(then) = written(read) else { return false };
        live.iter().filter_map(|value| written(value)).any(|other| other > then)
    }

    /// What is wrong with the values that are read everywhere, if anything.
    pub(crate) fn check(
        &self,
        live: &BTreeMap<Place, BTreeSet<String>>,
        events: &BTreeMap<String, Vec<String>>,
        starts: impl Fn(usize) -> u64,
    ) -> Option<String> {
        for (number, commit) in self.commits.iter().enumerate() {
            let Some(value) =
                commit.value.as_ref().filter(|_| commit.stored && (commit.sure || commit.twice))
            else {
                continue;
            };
            let here = live.get(&commit.place).is_some_and(|values| values.contains(value));
            let mut others = self.commits.iter().enumerate().filter(|(other, _)| *other != number);
            let ended = others.find(|(other, one)| {
                one.place == commit.place
                    && (one.seen.contains(value)
                        || (one.host == commit.host || commit.twice) && *other > number)
            });
            match ended {
                None if !here => return Some(format!("lost: {value} of {:?}", commit.place)),
                Some((_, by)) if here && commit.sure && !self.may_be_anew(commit, by) && by.ends(value) => {
                    return Some(format!("returned: {value} of {:?}", commit.place));
                }
                _ => {}
            }
        }
        // Of an agent that ran twice, an event that a fork took out waits in memory for its search.
        let promised = |event: &&Appended| event.sure || event.twice && starts(event.host) == event.start;
        for event in self.events.iter().filter(|event| event.stored).filter(promised) {
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
