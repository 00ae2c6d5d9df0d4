//! The checks of a world: after each step, and once all is healed.

use std::collections::{BTreeMap, BTreeSet};

use consilience::sync::session::SessionEvent;

use super::{Checked, World, broken, text};
use crate::host::{Digests, Host, How};
use crate::mirror::Mirror;
use crate::naive;
use crate::step::When;

/// So many rounds of meetings of all with all are enough to be equal.
const SWEEPS_MAX: usize = 12;

/// What meetings of all with all come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    Equal,
    /// The same, but for what somebody was told that others do not take before its time.
    Peace,
}

impl World {
    /// Hosts with equal roots hold the same of what counts, and the other way round, and are in equal states.
    pub(super) fn compare(&mut self) -> Checked {
        let mut states: BTreeMap<([u8; 32], i64), (usize, Digests)> = BTreeMap::new();
        let mut roots: BTreeMap<[u8; 32], (usize, [u8; 32])> = BTreeMap::new();
        let mut heads: BTreeMap<[u8; 32], (usize, [u8; 32])> = BTreeMap::new();
        for at in 0..self.hosts.len() {
            let Some(root) = self.settled_root(at) else { continue };
            let host = &self.hosts[at];
            let Some(held) = host.heads() else { continue };
            let (other, there) = *roots.entry(root).or_insert((at, held));
            let (another, theirs) = *heads.entry(held).or_insert((at, root));
            if there != held || theirs != root {
                let other = if there == held { another } else { other };
                return broken("root", format!("{} and {}", self.hosts[other].name, host.name));
            }
            let Some(digests) = host.digests() else { continue };
            let (other, there) = states.entry((root, host.ahead)).or_insert_with(|| (at, digests.clone()));
            if *there != digests {
                return broken("unequal", format!("{} and {}", self.hosts[*other].name, host.name));
            }
        }
        Ok(())
    }

    /// The root of a host at which all is signed and nothing waits for its time.
    fn settled_root(&mut self, at: usize) -> Option<[u8; 32]> {
        let time = self.hosts[at].time(self.now);
        let host = &mut self.hosts[at];
        // An own entry is in the root once it is signed, and one from the future counts when its time has come.
        let logs = host.logs().filter(|_| host.when == When::AtOnce)?;
        let waits = logs.logs().any(|log| log.unsigned().next().is_some()) || logs.stats().late_bytes > 0;
        let is_due = host.due().is_some_and(|due| due <= time);
        if waits || is_due { None } else { host.root() }
    }

    /// A consumer that reads once, and follows the notices from then on, knows all that is read.
    pub(super) fn mirrored(&mut self, at: usize) -> Checked {
        let host = &mut self.hosts[at];
        if !host.polls {
            return Ok(());
        }
        let is_misled = std::mem::take(&mut host.is_misled);
        if let (Some(mirror), Some(replica)) = (&host.mirror, host.replica())
            && (is_misled || !mirror.is_true(&Mirror::of(replica)))
        {
            return broken("notices", host.name.clone());
        }
        Ok(())
    }

    /// No process had more on the heap than follows from what is retained and was signed, and no log has a place that nobody
    /// has signed anything of.
    pub(super) fn weigh(&mut self) -> Checked {
        if let Some((at, weight)) = self.heaviest.filter(|(_, weight)| weight.heap > weight.allowed) {
            return broken("heap", format!("{}: {weight:?}", self.hosts[at].name));
        }
        self.guests()?;
        for host in &self.hosts {
            let own = self.keys().agent(&host.agent);
            if self.forked.contains(&host.agent)
                && let Some(logs) = host.logs()
                && logs.logs().any(|log| log.opening().agent == own && log.base() > 0)
            {
                self.compacted.insert(host.agent.clone());
            }
            let all = host.logs().into_iter().flat_map(|logs| logs.logs().map(move |log| (logs, log)));
            let mut bare = all.filter(|(logs, log)| {
                log.opening().agent != own
                    && log.furthest_head().is_none()
                    && log.size() == 0
                    && logs.facts(log.id()).is_none_or(|facts| facts.digest().is_none())
            });
            if bare.next().is_some() {
                return broken("place", host.name.clone());
            }
        }
        Ok(())
    }

    /// A replica reads what the naive model says.
    pub(super) fn naive(&mut self, at: usize) -> Checked {
        if self.settled_root(at).is_none() {
            return Ok(());
        }
        let (Some(replica), Some(logs)) = (self.hosts[at].replica(), self.hosts[at].logs()) else {
            return Ok(());
        };
        let (state, events) = naive::read(replica);
        if state != naive::state(logs) || events != naive::events(logs) {
            return broken("naive", self.hosts[at].name.clone());
        }
        let topics = replica.topics().filter_map(|topic| replica.topic(topic.as_str()).ok());
        let mut all = topics.flat_map(|view| view.collections().map(|(kind, ..)| kind).collect::<Vec<_>>());
        // The sums are asked for less often, as they take as long as all the rest.
        if (at + self.figures.steps as usize / 4).is_multiple_of(3)
            && all.any(|kind| kind == consilience::CollectionKind::Coupling)
            && let Some(wrong) = naive::wrong_sum(replica, self.hosts[at].time(self.now))
        {
            return broken("coupling", format!("{}: {wrong}", self.hosts[at].name));
        }
        Ok(())
    }

    /// A host has been told of each own log of which there is another history.
    pub(super) fn told_of_forks(&self, at: usize) -> Checked {
        let host = &self.hosts[at];
        let Some(logs) = host.logs().filter(|_| host.polls && host.replica().is_some()) else {
            return Ok(());
        };
        let mut all = logs.logs().map(|log| *log.id());
        if all.any(|log| logs.is_self_forked(&log) && !host.knew_forks.contains(&log)) {
            return broken("untold", format!("{} was not told that a log of its own forked", host.name));
        }
        Ok(())
    }

    /// Guests hold no more than they have room for, and nothing that their gates leave out.
    fn guests(&self) -> Checked {
        for host in self.hosts.iter() {
            let (Some(guest), Some(logs)) = (&host.guest, host.logs()) else { continue };
            let mut agents: BTreeMap<_, usize> = BTreeMap::new();
            for log in logs.logs() {
                *agents.entry(log.opening().agent).or_default() += 1;
                let gate = guest.gate.as_ref();
                if gate.is_some_and(|gate| !gate.matches(&log.opening().topic)) {
                    return broken("gate", format!("{} holds {}", host.name, log.opening().topic.as_str()));
                }
            }
            let all: usize = agents.values().sum();
            if all > 2 * guest.logs || agents.values().any(|logs| *logs > guest.logs) {
                return broken("room", format!("{} holds {all} logs", host.name));
            }
        }
        Ok(())
    }

    /// A guest that has no room for what somebody holds is told, and so is that one.
    fn told_of_room(&mut self) -> Checked {
        for at in 0..self.hosts.len() {
            if self.hosts[at].guest.is_none() || !self.hosts[at].is_open() {
                continue;
            }
            let names = |at: usize| self.hosts[at].name.clone();
            let Some(other) = (0..self.hosts.len()).find(|other| self.hosts[*other].guest.is_none()) else {
                return Ok(());
            };
            let (this, that) = (names(at), names(other));
            self.meet((&this, &that), 3_000, 0)?;
            let [guest, host] = [at, other].map(|at| self.hosts[at].logs().map(naive::heads));
            let (Some(guest), Some(host)) = (guest, host) else { continue };
            // What is forked, or is known by facts alone, may need no room.
            let lacks = host.iter().any(|(log, (size, ..))| *size > 0 && !guest.contains_key(log));
            let told = |at: usize, is: &dyn Fn(&SessionEvent) -> bool| {
                self.overheard.iter().any(|(of, _, event)| *of == at && is(event))
            };
            if lacks
                && !(told(at, &|event| matches!(event, SessionEvent::TooManyLogs))
                    && told(other, &|event| matches!(event, SessionEvent::NoRoomAtPeer(_))))
            {
                return broken("untold", format!("{this} has no room for what {that} holds"));
            }
        }
        Ok(())
    }

    /// The folds are what the entries add up to, and no honest log is forked.
    fn verify(&self) -> Checked {
        for host in &self.hosts {
            if host.replica().is_some_and(|replica| !replica.verify()) {
                return broken("fold", host.name.clone());
            }
            let honest = self.hosts.iter().filter(|host| !self.forked.contains(&host.agent));
            let honest: BTreeSet<_> = honest.map(|host| self.keys().agent(&host.agent)).collect();
            let Some(logs) = host.logs() else { continue };
            for log in logs.logs().filter(|log| honest.contains(&log.opening().agent)) {
                if logs.evidence(log.id()).is_some() {
                    return broken("honest_fork", format!("at {}", host.name));
                }
            }
        }
        Ok(())
    }

    pub(super) fn heal(&mut self) -> Checked {
        // What was written since the copy was made, too.
        self.doubt_all();
        self.cut(|_| true, true);
        for at in 0..self.hosts.len() {
            let host = &mut self.hosts[at];
            (host.when, host.polls, host.ahead) = (When::AtOnce, true, 0);
            host.store(true);
            self.note_stored(at);
            if self.hosts[at].process.is_none() {
                self.hosts[at].start(self.seed, How::Resumed, self.now);
            }
        }
        self.sweep(Goal::Peace)?;
        self.verify()?;
        self.contributed()?;
        self.told_of_room()?;
        // All that was ahead of its time is not any more.
        self.advance(11 * 365 * 86_400_000);
        self.sweep(Goal::Equal)?;
        self.verify()?;
        (0..self.hosts.len()).try_for_each(|at| self.naive(at).and_then(|()| self.mirrored(at)))?;
        self.lost()?;
        for at in 0..self.hosts.len() {
            self.hosts[at].kill(100);
            self.note_weight(at);
        }
        self.weigh()
    }

    /// All meet all until they are equal.
    fn sweep(&mut self, goal: Goal) -> Checked {
        let hosts = self.hosts.iter().filter(|host| host.guest.is_none());
        let names: Vec<String> = hosts.map(|host| host.name.clone()).collect();
        for sweep in 0..SWEEPS_MAX {
            for (number, from) in names.iter().enumerate() {
                for to in &names[..number] {
                    // A writer that lost its storage, or a right clock, goes on once it has met somebody.
                    if (sweep > 0 || goal == Goal::Equal) && self.are_equal() {
                        self.figures.sweeps = self.figures.sweeps.max(sweep + 1);
                        return Ok(());
                    }
                    self.meet((from, to), 3_000, 0)?;
                    self.compare()?;
                }
            }
            if goal == Goal::Peace && self.waits && sweep > 2 {
                return Ok(());
            }
        }
        if self.are_equal() {
            return Ok(());
        }
        broken("never_equal", format!("after {SWEEPS_MAX} rounds"))
    }

    fn are_equal(&mut self) -> bool {
        let hosts = self.hosts.iter_mut().filter(|host| host.guest.is_none());
        let roots: BTreeSet<_> = hosts.map(Host::root).collect();
        roots.len() <= 1
    }

    /// What agents have contributed to couplings, and is not decayed, is there.
    fn contributed(&mut self) -> Checked {
        if !self.set_clocks.is_empty() || self.waits || !self.are_equal() {
            return Ok(());
        }
        let mut hosts = self.hosts.iter().filter(|host| host.guest.is_none());
        let Some((host, logs)) = hosts.find_map(|host| Some((host, host.logs()?))) else { return Ok(()) };
        let there = naive::contributions(logs);
        let time = host.time(self.now);
        let mut all =
            self.history.contributed().filter(|(part, instant)| naive::is_alive(part, *instant, time));
        let lost = all.find(|(part, instant)| there.get(part).is_none_or(|there| there < instant));
        match lost {
            Some((part, _)) => broken("lost", format!("a contribution to {}", text(&part.key))),
            None => Ok(()),
        }
    }

    fn lost(&self) -> Checked {
        let mut hosts = self.hosts.iter().filter(|host| host.guest.is_none());
        let Some(replica) = hosts.find_map(Host::replica) else { return Ok(()) };
        let (mut all, mut events) = (BTreeMap::new(), BTreeMap::new());
        for topic in replica.topics() {
            let Ok(view) = replica.topic(topic.as_str()) else { continue };
            for (kind, name, _) in view.collections() {
                if kind != consilience::CollectionKind::Map {
                    continue;
                }
                for live in view.map(name).iter() {
                    let values: BTreeSet<String> =
                        view.map(name).conflicts(live.key).iter().map(|live| text(live.value)).collect();
                    let place = (topic.as_str().to_owned(), name.to_owned(), text(live.key));
                    if self.set_clocks.is_empty() && self.history.is_stale(&place, &text(live.value), &values)
                    {
                        return broken("stale", format!("{} is read at {place:?}", text(live.value)));
                    }
                    all.insert(place, values);
                }
            }
            let texts = view.events().iter().filter_map(|event| event.payload.map(text)).collect();
            events.insert(topic.as_str().to_owned(), texts);
        }
        match self.history.check(&all, &events, |host| self.hosts[host].starts) {
            None => Ok(()),
            Some(what) if what.starts_with("lost") => broken("lost", what),
            Some(what) if what.starts_with("returned") => broken("returned", what),
            Some(what) => broken("invented", what),
        }
    }
}
