//! The checks of a world: after each step, and once all is healed.

use std::collections::{BTreeMap, BTreeSet};

use consilience::sync::Topic;

use super::{Checked, Digests, World, broken, text};
use crate::host::{Host, How};
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
    /// The digests of a replica's topics that are not empty.
    pub(super) fn digests(&self, at: usize) -> Option<Digests> {
        let replica = self.hosts[at].replica()?;
        let nothing = replica.digest(&Topic::new("nothing").expect("a topic"));
        let topics = replica.topics().map(|topic| (topic.as_str().to_owned(), replica.digest(topic)));
        Some(topics.filter(|(_, digest)| *digest != nothing).collect())
    }

    /// Hosts with equal roots are in equal states.
    pub(super) fn compare(&mut self) -> Checked {
        let mut known: BTreeMap<([u8; 32], i64), (usize, Digests)> = BTreeMap::new();
        for at in 0..self.hosts.len() {
            let time = self.hosts[at].time(self.now);
            let host = &mut self.hosts[at];
            if host.when != When::AtOnce {
                continue;
            }
            let Some(root) = host.root() else { continue };
            let Some(replica) = host.replica() else { continue };
            let logs = replica.logs();
            // An own entry is in the root once it is signed, and one from the future counts when its time has come.
            let waits = logs.logs().any(|log| log.unsigned().next().is_some()) || logs.stats().late_bytes > 0;
            if waits || replica.poll_timeout().is_some_and(|due| due <= time) {
                continue;
            }
            let Some(digests) = self.digests(at) else { continue };
            let host = &self.hosts[at];
            match known.get(&(root, host.ahead)) {
                Some((other, there)) if *there != digests => {
                    return broken(
                        "unequal",
                        format!("{} and {}", self.hosts[*other].name, self.hosts[at].name),
                    );
                }
                Some(_) => {}
                None => {
                    known.insert((root, host.ahead), (at, digests));
                }
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
        // All that was ahead of its time is not any more.
        self.advance(11 * 365 * 86_400_000);
        self.sweep(Goal::Equal)?;
        self.verify()?;
        self.lost()
    }

    /// All meet all until they are equal.
    fn sweep(&mut self, goal: Goal) -> Checked {
        let names: Vec<String> = self.hosts.iter().map(|host| host.name.clone()).collect();
        for sweep in 0..SWEEPS_MAX {
            for (number, from) in names.iter().enumerate() {
                for to in &names[..number] {
                    self.meet((from, to), 3_000, 0)?;
                    self.compare()?;
                }
            }
            if goal == Goal::Peace && self.waits && sweep > 2 {
                return Ok(());
            }
            let roots: BTreeSet<_> = self.hosts.iter_mut().map(Host::root).collect();
            if roots.len() <= 1 {
                self.figures.sweeps = self.figures.sweeps.max(sweep + 1);
                return Ok(());
            }
        }
        broken("never_equal", format!("after {SWEEPS_MAX} rounds"))
    }

    fn lost(&self) -> Checked {
        let Some(replica) = self.hosts.iter().find_map(Host::replica) else { return Ok(()) };
        let (mut all, mut events) = (BTreeMap::new(), BTreeMap::new());
        for topic in replica.topics() {
            let Ok(view) = replica.topic(topic.as_str()) else { continue };
            for (kind, name, _) in view.collections() {
                if kind != consilience::CollectionKind::Map {
                    continue;
                }
                for live in view.map(name).iter() {
                    let values =
                        view.map(name).conflicts(live.key).iter().map(|live| text(live.value)).collect();
                    all.insert((topic.as_str().to_owned(), name.to_owned(), text(live.key)), values);
                }
            }
            let texts = view.events().iter().filter_map(|event| event.payload.map(text)).collect();
            events.insert(topic.as_str().to_owned(), texts);
        }
        match self.history.check(&all, &events) {
            None => Ok(()),
            Some(what) if what.starts_with("lost") => broken("lost", what),
            Some(what) if what.starts_with("returned") => broken("returned", what),
            Some(what) => broken("invented", what),
        }
    }
}
