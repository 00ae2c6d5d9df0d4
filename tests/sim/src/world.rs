//! [`World`]: hosts, links and liars on one clock. It takes steps, and says what they broke.
//!
//! Everything that happens depends on the seed and the steps alone: the trace is a hash of all frames that arrived and of
//! all that hosts were told.

mod attack;
mod check;
mod network;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use consilience::crdts::{CouplingSchema, Units};
use consilience::journal::RecordId;
use consilience::sync::session::{Scope, SessionEvent, SessionId};
use consilience::sync::{LogKind, LogSet, Topic};
use consilience::{EventRef, Subscription};
use consilience_test_support::dice::Dice;
use consilience_test_support::replicas::START;
use serde_json::{Value, json};

use crate::cover::Met;
use crate::history::{History, Wrote};
use crate::host::{Digests, Disk, Guest, Host, How, Weight};
use crate::keys::Keys;
use crate::liar::Liars;
use crate::mirror::Mirror;
use crate::naive;
use crate::step::{Step, When};
use network::Link;

/// A clock that is off by more, in milliseconds, is wrong.
const DRIFT: i64 = 60_000;

/// A unit of couplings, in the units of their sums.
const UNIT: f64 = 4_294_967_296.0;

/// After so many steps a host is held against the naive model.
const NAIVE_EVERY: u64 = 4;

/// What a world broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// One word.
    pub(crate) kind: &'static str,
    pub(crate) what: String,
}

type Checked = Result<(), Broken>;

fn broken(kind: &'static str, what: impl Into<String>) -> Checked {
    Err(Broken { kind, what: what.into() })
}

/// The figures of a world.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) steps: u64,
    pub(crate) frames: u64,
    pub(crate) told: u64,
    pub(crate) restarts: u64,
    pub(crate) in_sync: u64,
    pub(crate) sweeps: usize,
    /// The greatest part of the heap that a process may have, in thousandths.
    pub(crate) heap_permille: u64,
}

#[derive(Debug)]
pub(crate) struct World {
    seed: u64,
    now: u64,
    dice: Dice,
    pub(crate) hosts: Vec<Host>,
    names: BTreeMap<String, usize>,
    links: Vec<Link>,
    pub(crate) liars: Liars,
    stores: BTreeMap<String, (Disk, u64)>,
    /// The state of hosts that ended after all was stored.
    ended: BTreeMap<usize, (Digests, usize)>,
    /// Hosts whose clocks were set.
    set_clocks: BTreeSet<usize>,
    /// Whether the step could be taken.
    took: bool,
    /// What has been met so far: of steps that could be taken.
    pub(crate) met: Met,
    /// A host that has just started.
    started: Option<usize>,
    /// The host that came closest to the heap that it may have.
    heaviest: Option<(usize, Weight)>,
    /// A host that was in another state after a restart.
    restarted_otherwise: Option<usize>,
    subscriptions: BTreeMap<usize, Vec<Subscription>>,
    history: History,
    /// Agents of which two histories may have been signed by mistake.
    forked: BTreeSet<String>,
    /// Hosts that met others while both clocks were wrong.
    wrong: BTreeSet<usize>,
    were_ahead: BTreeSet<usize>,
    /// Hosts that lost what they had stored, or a part of it.
    forgot: BTreeSet<usize>,
    /// Whether a liar signed entries that are ahead of their time.
    lies_ahead: bool,
    /// Agents that run twice and have given up entries of a log: a longer history of it may take the place of a shorter one, and
    /// neither shows that there were two.
    compacted: BTreeSet<String>,
    /// When agents last gave up events.
    gave_up: BTreeMap<String, u64>,
    /// Whether events were stamped ahead of their time: their writers hold them, and nobody else until then.
    waits: bool,
    /// What hosts were told of sessions that are no connections of this world.
    overheard: Vec<(usize, SessionId, SessionEvent)>,
    /// What a host was told, or was not, against what is promised.
    mistold: Option<Broken>,
    /// What processes have on the heap, for what is printed next.
    pub(crate) heaps: BTreeMap<String, u64>,
    /// Whether all that hosts are told is printed.
    pub(crate) is_told: bool,
    trace: blake3::Hasher,
    pub(crate) figures: Figures,
    pub(crate) printed: Vec<Value>,
}

fn schema() -> CouplingSchema {
    CouplingSchema::with_half_life(3_600_000).expect("an hour")
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            now: 1_000,
            dice: Dice::new(seed),
            hosts: Vec::new(),
            names: BTreeMap::new(),
            links: Vec::new(),
            liars: Liars::new(Keys::of_seed(seed)),
            stores: BTreeMap::new(),
            ended: BTreeMap::new(),
            set_clocks: BTreeSet::new(),
            took: false,
            met: Met::default(),
            started: None,
            heaviest: None,
            restarted_otherwise: None,
            subscriptions: BTreeMap::new(),
            history: History::default(),
            forked: BTreeSet::new(),
            wrong: BTreeSet::new(),
            were_ahead: BTreeSet::new(),
            forgot: BTreeSet::new(),
            lies_ahead: false,
            compacted: BTreeSet::new(),
            gave_up: BTreeMap::new(),
            waits: false,
            overheard: Vec::new(),
            mistold: None,
            heaps: BTreeMap::new(),
            is_told: false,
            trace: blake3::Hasher::new(),
            figures: Figures::default(),
            printed: Vec::new(),
        }
    }

    /// A hash of all that happened.
    pub(crate) fn trace(&self) -> [u8; 32] {
        *self.trace.finalize().as_bytes()
    }

    const fn keys(&self) -> Keys {
        Keys::of_seed(self.seed)
    }

    fn host(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    fn add(&mut self, name: &str, agent: &str, is_relay: bool, disk: Disk, how: How) {
        if self.names.contains_key(name) {
            return;
        }
        let mut host = Host::new(name, agent, is_relay, disk);
        host.start(self.seed, how, self.now);
        self.names.insert(name.into(), self.hosts.len());
        self.hosts.push(host);
        self.took = true;
    }

    /// Takes a step.
    ///
    /// # Errors
    ///
    /// What it broke.
    pub(crate) fn take(&mut self, step: &Step) -> Checked {
        self.figures.steps += 1;
        self.took = false;
        self.overheard.clear();
        match step {
            Step::Agent { at } => self.add(at, at, false, Disk::default(), How::Fresh),
            Step::Relay { at } => self.add(at, at, true, Disk::default(), How::Fresh),
            Step::Set { at, topic, map, key, value } => self.write(at, (topic, map, key), Some(value)),
            Step::Remove { at, topic, map, key } => self.write(at, (topic, map, key), None),
            Step::Insert { at, topic, set, element } => self.change_set(at, (topic, set, element), true),
            Step::Take { at, topic, set, element } => self.change_set(at, (topic, set, element), false),
            Step::Strengthen { at, topic, coupling, key, by } => {
                self.couple(at, topic, (coupling, key, *by), false);
            }
            Step::Weaken { at, topic, coupling, key, by } => {
                self.couple(at, topic, (coupling, key, *by), true);
            }
            Step::Event { at, topic, text } => self.event(at, topic, text),
            Step::Prune { at, topic, keep } => self.prune(at, topic, *keep),
            Step::Clock { at, ahead } => {
                if let Some(at) = self.host(at) {
                    self.took = true;
                    self.hosts[at].ahead = *ahead;
                    self.set_clocks.insert(at);
                    self.waits |= self.lies_ahead && *ahead > DRIFT;
                    if *ahead > DRIFT {
                        self.were_ahead.insert(at);
                        self.waits |= self.forgot.contains(&at);
                    }
                    // What one of them ended of the other's, the other may say anew.
                    if self.were_ahead.len() > 1 {
                        self.wrong.extend(&self.were_ahead);
                    }
                }
            }
            Step::Advance { ms } => {
                self.took = true;
                self.advance(*ms);
                // Where histories fork, or an agent runs twice, two that were in sync may differ until the next heartbeat.
                if self.forked.is_empty() && self.liars.are_quiet() {
                    self.in_sync_is_true(2)?;
                    self.has_all_is_true()?;
                    if *ms > 100_000 {
                        self.sameness_is_told()?;
                    }
                }
            }
            Step::Copy { at, to } => self.copy(at, to),
            Step::Backup { at, name } => {
                if let Some(at) = self.host(at) {
                    self.hosts[at].store(true);
                    self.note_stored(at);
                    let host = &self.hosts[at];
                    self.stores.insert(name.clone(), (host.disk.clone(), at as u64));
                    self.took = true;
                }
            }
            Step::Restore { at, name, said } => self.restore(at, name, *said),
            Step::Snapshot { at } => {
                if let Some(at) = self.host(at).filter(|at| self.hosts[*at].process.is_some()) {
                    self.took = true;
                    self.hosts[at].snapshot();
                    self.note_stored(at);
                }
            }
            Step::Stop { at } => self.end(at, None),
            Step::Kill { at, written } => self.end(at, Some(*written)),
            Step::Start { at } => self.start(at, How::Resumed),
            Step::StartEmpty { at } => self.start_empty(at),
            Step::Stores { at, when } => {
                if let Some(at) = self.host(at) {
                    self.took = true;
                    self.hosts[at].when = *when;
                    self.hosts[at].store(false);
                    self.note_stored(at);
                }
            }
            Step::Polls { at, polls } => {
                if let Some(at) = self.host(at) {
                    self.took = true;
                    self.hosts[at].polls = *polls;
                }
            }
            Step::Churn { at, topic, many } => self.churn(at, topic, *many),
            Step::Crowd { at, many } => {
                (0..*many)
                    .for_each(|number| self.event(at, &format!("crowd/{number}"), &format!("{at} {number}")));
            }
            Step::Guest { at, logs, gate } => self.guest(at, *logs, gate),
            Step::Openings { of, topic, kind, last, many, host } => {
                self.openings(of, (topic, *kind), (*last, *many), host);
            }
            Step::Foe { by, host, script, many } => self.foe(by, host, *script, *many)?,
            Step::Prefer { of, first } => self.prefer(of, first)?,
            Step::Guess { by, topic, of, host } => {
                if let (Some(at), Some(of)) = (self.host(host), self.host(of))
                    && let Some(bundle) = self.guess(by, topic, of)
                {
                    self.took = self.import(at, &bundle);
                }
            }
            Step::Rot { at, place } => self.rot(at, *place),
            Step::Entropy { at, again } => {
                if let Some(at) = self.host(at) {
                    self.took = true;
                    self.hosts[at].same_entropy = *again;
                }
            }
            Step::Link { from, to, loss, repeats, delay, scope, one_way } => {
                self.link((from, to), (*loss, *repeats, *delay), *one_way, scope);
            }
            Step::Cut { from, to, noticed } => {
                if let (Some(from), Some(to)) = (self.host(from), self.host(to)) {
                    self.took = self.cut(|ends| ends == [from, to] || ends == [to, from], *noticed);
                }
            }
            Step::Meet { from, to, ms, loss } => self.meet((from, to), *ms, *loss)?,
            Step::Scope { at, filters } => self.set_scope(at, filters)?,
            Step::Bundle { from, to, whole, topic } => self.bundle(from, to, *whole, topic.as_deref())?,
            Step::Purge { at, topic } => self.purge(at, topic),
            Step::Subscribe { at, topic } => self.subscribe(at, topic.as_deref()),
            Step::Sign(sign) => {
                // Who has a clock that is ahead as well takes it in at once.
                self.waits |= sign.ahead > 0 && self.hosts.iter().any(|host| host.ahead > DRIFT);
                self.lies_ahead |= sign.ahead > 0;
                sign.writes.iter().for_each(|(_, value)| self.history.lie(value));
                self.took = self.liars.sign(sign, self.now);
            }
            Step::Give { by, branch, topic, kind, incarnation, from, to, host } => {
                let range = self.liars.range((by, branch), (topic, *kind, *incarnation), (*from, *to));
                if let (Some(bundle), Some(at)) = (range, self.host(host)) {
                    self.took = self.import(at, &bundle);
                }
            }
            Step::Expect { at, topic, map, key, value } => {
                self.expect(at, (topic, map, key), value.as_ref())?
            }
            Step::Heal => self.heal()?,
            Step::Print { at } => self.print(at.as_deref()),
        }
        self.poll();
        if self.took {
            self.met.note(step);
        }
        if let Some(mistold) = self.mistold.take() {
            return Err(mistold);
        }
        if let Some(at) = self.restarted_otherwise.take() {
            return broken("restart", self.hosts[at].name.clone());
        }
        self.weigh()?;
        // One of them a step, and whoever has just started.
        let turn = (self.figures.steps / NAIVE_EVERY) as usize % self.hosts.len().max(1);
        let turn = Some(turn).filter(|_| self.figures.steps.is_multiple_of(NAIVE_EVERY));
        for at in self.started.take().into_iter().chain(turn.filter(|_| !self.hosts.is_empty())) {
            self.naive(at)?;
            self.mirrored(at)?;
            self.told_of_forks(at)?;
        }
        self.compare()
    }

    fn note_stored(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        if let Some(to) = host.written.filter(|_| !host.is_noted) {
            host.is_noted = true;
            self.history.stored(at, host.starts, to);
        }
    }

    fn transact(
        &mut self,
        at: &str,
        topic: &str,
        work: impl FnOnce(&mut consilience::Transaction<'_>),
    ) -> Option<(usize, RecordId)> {
        let at = self.host(at)?;
        let time = self.hosts[at].time(self.now);
        let (replica, writer) = self.hosts[at].replica_mut()?;
        let mut tx = replica.transact(writer, topic, time).ok()?;
        work(&mut tx);
        let done = tx.commit();
        let record = self.accepted(at, done)??;
        self.took = true;
        self.hosts[at].store(false);
        self.note_stored(at);
        Some((at, record))
    }

    /// What a writer's host got for a write: nothing that others did may keep it from writing.
    fn accepted<T>(&mut self, at: usize, done: Result<T, impl std::fmt::Debug>) -> Option<T> {
        match done {
            Ok(done) => Some(done),
            Err(error) => {
                let what = format!("{}: {error:?}", self.hosts[at].name);
                self.mistold = Some(Broken { kind: "refused", what });
                None
            }
        }
    }

    /// Strengthens or weakens a key of a coupling.
    fn couple(&mut self, name: &str, topic: &str, (coupling, key, by): (&str, &str, u32), weaken: bool) {
        let sum = |world: &Self| {
            let host = &world.hosts[world.host(name)?];
            // The model's choice of logs is about what is signed: it passes over one whose signed entries are all given up.
            let logs = host.logs()?;
            let is_told =
                logs.logs().all(|log| log.base() < log.signed_size() || log.size() == log.signed_size());
            is_told.then(|| naive::sum(logs, (topic, key), host.time(world.now)))
        };
        let before = if weaken { sum(self) } else { None };
        let done = self.transact(name, topic, |tx| {
            let mut coupling = tx.coupling(coupling, schema());
            let by = Units::new(by);
            let _ = if weaken { coupling.weaken(key, by) } else { coupling.strengthen(key, by) };
        });
        let Some((at, record)) = done else { return };
        // A weakening takes no more than there is. A unit is far more than what is rounded.
        if let Some(before) = before
            && let Some(after) = sum(self)
            && self.set_clocks.is_empty()
            && after < before.min(0.0) - UNIT / 64.0
        {
            let what = format!("{name} took more than there is of {key}: {before} and then {after}");
            self.mistold = Some(Broken { kind: "weakening", what });
        }
        let agent = self.keys().agent(&self.hosts[at].agent);
        let Some(logs) = self.hosts[at].logs() else { return };
        let own = naive::contributions(logs);
        let of_key = own.into_iter().filter(|(part, _)| {
            part.agent == agent && part.topic.as_str() == topic && part.key == key.as_bytes()
        });
        for (part, instant) in of_key {
            self.history.state((at, self.hosts[at].starts, record), part, instant);
        }
    }

    fn write(&mut self, name: &str, (topic, map, key): (&str, &str, &str), value: Option<&String>) {
        let Some(at) = self.host(name) else { return };
        let seen = self.hosts[at].replica().map(|replica| live(replica, topic, map, key)).unwrap_or_default();
        let time = self.hosts[at].time(self.now);
        let Some((replica, writer)) = self.hosts[at].replica_mut() else { return };
        let Ok(mut tx) = replica.transact(writer, topic, time) else { return };
        let done = match value {
            Some(value) => tx.map(map).set(key, value),
            None => tx.map(map).remove(key),
        };
        if done.is_err() {
            return;
        }
        let done = tx.commit();
        let Some(Some(record)) = self.accepted(at, done) else { return };
        self.took = true;
        if let Some(value) = value.filter(|_| self.hosts[at].ahead > DRIFT) {
            self.history.written_ahead(value);
        }
        let place = (topic.to_owned(), map.to_owned(), key.to_owned());
        self.history.commit(
            (at, self.hosts[at].starts, Some(record)),
            place,
            value.cloned(),
            (seen, self.now),
        );
        self.hosts[at].store(false);
        self.note_stored(at);
    }

    /// Writes keys of collections of their own, and removes them: nothing of them is left.
    fn churn(&mut self, name: &str, topic: &str, many: u64) {
        // Of a log that forks they may come back.
        self.history.lie("value");
        for number in 0..many {
            for is_there in [true, false] {
                self.transact(name, topic, |tx| {
                    let mut map = tx.map(&format!("passing {number}"));
                    let _ = if is_there { map.set("key", "value") } else { map.remove("key") };
                });
            }
        }
    }

    /// A liar removes the next write of a host's agent, whose name it has to guess.
    fn guess(&self, by: &str, topic: &str, of: usize) -> Option<Vec<u8>> {
        let agent = self.keys().agent(&self.hosts[of].agent);
        let logs = self.hosts[of].logs()?.logs();
        let own = logs.filter(|log| {
            let opening = log.opening();
            opening.kind == LogKind::State && opening.agent == agent && opening.topic.as_str() == topic
        });
        let log = own.max_by_key(|log| log.opening().incarnation)?;
        let next = (log.id().alias(), log.size());
        self.liars.guess(by, topic, next, self.now)
    }

    fn change_set(&mut self, at: &str, (topic, set, element): (&str, &str, &str), insert: bool) {
        self.transact(at, topic, |tx| {
            let mut set = tx.set(set);
            let _ = if insert { set.insert(element) } else { set.remove(element) };
        });
    }

    fn event(&mut self, name: &str, topic: &str, text: &str) {
        let Some(at) = self.host(name) else { return };
        let time = self.hosts[at].time(self.now);
        let Some((replica, writer)) = self.hosts[at].replica_mut() else { return };
        let done = replica.append_event(writer, topic, text.as_bytes(), time);
        let Some((_, record)) = self.accepted(at, done) else { return };
        // Events that were stamped while a clock was ahead wait, and their writer is told.
        // What its writer gave up in an earlier life it does not know, and a clock that is behind puts it before that.
        let ahead = self.hosts[at].ahead;
        let is_ahead = ahead > 0;
        let gave_up = self.gave_up.get(&self.hosts[at].agent).is_some_and(|then| *then == self.now);
        let is_before = (ahead < 0 || gave_up) && self.forgot.contains(&at);
        self.history.event((at, self.hosts[at].starts, record), topic, text);
        self.waits |= is_ahead;
        self.took = true;
        if is_ahead || is_before {
            self.history.prune(at, topic, 0);
        }
        self.hosts[at].store(false);
        self.note_stored(at);
    }

    fn prune(&mut self, name: &str, topic: &str, keep: u64) {
        let Some(at) = self.host(name) else { return };
        let time = self.hosts[at].time(self.now);
        let agent = self.keys().agent(&self.hosts[at].agent);
        let Some((replica, _)) = self.hosts[at].replica_mut() else { return };
        let own = replica.logs().logs().filter(|log| {
            let opening = log.opening();
            opening.kind == LogKind::Event && opening.agent == agent && opening.topic.as_str() == topic
        });
        let Some(log) = own.max_by_key(|log| log.opening().incarnation) else { return };
        let event = EventRef { log: *log.id(), seq: log.size().saturating_sub(keep) };
        if replica.prune_events_before(&event, time).is_ok() {
            self.took = true;
            // A process gives up what another one of its agent wrote, too.
            let agent = self.hosts[at].agent.clone();
            self.gave_up.insert(agent.clone(), self.now);
            for at in (0..self.hosts.len()).filter(|at| self.hosts[*at].agent == agent) {
                self.history.prune(at, topic, 0);
            }
        }
        self.hosts[at].store(false);
        self.note_stored(at);
    }

    fn copy(&mut self, at: &str, to: &str) {
        let Some(at) = self.host(at) else { return };
        self.hosts[at].store(true);
        self.note_stored(at);
        let (disk, agent) = (self.hosts[at].disk.clone(), self.hosts[at].agent.clone());
        self.doubt(&agent);
        let is_relay = self.hosts[at].is_relay;
        self.add(to, &agent, is_relay, disk, How::Resumed);
    }

    /// An agent may have signed two histories.
    fn doubt(&mut self, agent: &str) {
        self.forked.insert(agent.into());
        self.doubt_all();
    }

    /// Two clocks that are wrong agree on it, and no peer with a right one is there to say so: what one of them gives up
    /// then, the other may have ended.
    fn doubt_wrong_clocks(&mut self, both: [usize; 2]) {
        if both.iter().all(|at| self.hosts[*at].ahead.abs() > DRIFT) {
            self.waits = true;
            for at in both {
                self.wrong.insert(at);
            }
        }
    }

    /// A host does not know any more what it had written; if its clock is or was ahead, it takes that in again as another's
    /// that is in time.
    fn forget(&mut self, at: usize) {
        self.forgot.insert(at);
        self.waits |= self.were_ahead.contains(&at);
    }

    fn doubt_all(&mut self) {
        for at in self.wrong.clone() {
            self.history.doubt(at);
        }
        for at in 0..self.hosts.len() {
            if !self.forked.contains(&self.hosts[at].agent) {
                continue;
            }
            // An agent of which a process has lost something, or wrote with a wrong clock, may not know what to say again.
            let agent = &self.hosts[at].agent;
            let mut lost = self.forgot.iter().chain(&self.set_clocks);
            if lost.any(|other| self.hosts[*other].agent == *agent) {
                self.history.doubt(at);
            } else {
                let (events, others) = (self.gave_up.contains_key(agent), self.compacted.contains(agent));
                self.history.twice(at, events, others);
            }
        }
    }

    /// A host loses what it had stored, of a topic or all. What others read of it, and have stored, comes back from them.
    fn lose(&mut self, at: usize, topic: Option<&str>) {
        let agent = &self.hosts[at].agent;
        let others = self.hosts.iter().enumerate().filter(|(other, host)| {
            *other != at && host.when == When::AtOnce && host.guest.is_none() && host.agent != *agent
        });
        let others = others.filter_map(|(other, host)| Some((other, host.replica()?, OnceCell::new())));
        let others: Vec<_> = others.collect();
        // A clock that was wrong may have others take it for the future.
        let is_sound = self.set_clocks.is_empty() && !self.forked.contains(agent);
        let keep = |wrote: &Wrote<'_>| {
            let keeps = |replica: &consilience::Replica, stated: &OnceCell<BTreeMap<_, _>>| match wrote {
                Wrote::Value((topic, map, key), value) => live(replica, topic, map, key).contains(*value),
                Wrote::Event(topic, text) => {
                    let view = replica.topic(topic).ok();
                    let mut events = view.iter().flat_map(|view| view.events().iter());
                    events.any(|event| event.payload.is_some_and(|payload| payload == text.as_bytes()))
                }
                Wrote::Stated(part, instant) => {
                    let stated = stated.get_or_init(|| naive::contributions(replica.logs()));
                    stated.get(*part).is_some_and(|there| there >= instant)
                }
            };
            let all = others.iter().filter(|(_, replica, stated)| is_sound && keeps(replica, stated));
            all.map(|(other, ..)| *other).collect()
        };
        self.history.lose(at, topic, keep);
        self.forget(at);
    }

    /// A guest begins to run.
    fn guest(&mut self, name: &str, logs: usize, gate: &[String]) {
        if self.names.contains_key(name) {
            return;
        }
        let filters: Vec<&str> = gate.iter().map(String::as_str).collect();
        let gate = Scope::of(&filters).ok().filter(|_| !gate.is_empty());
        let mut host = Host::new(name, name, false, Disk::default());
        host.guest = Some(Guest { logs: logs.max(1), gate });
        host.start(self.seed, How::Fresh, self.now);
        self.names.insert(name.into(), self.hosts.len());
        self.hosts.push(host);
        self.took = true;
    }

    fn end(&mut self, name: &str, killed: Option<u64>) {
        let Some(at) = self.host(name) else { return };
        if self.hosts[at].process.is_none() {
            return;
        }
        if killed.is_none() {
            self.hosts[at].store(true);
            self.note_stored(at);
        }
        self.took = true;
        self.ended.remove(&at);
        // All is stored.
        let before = killed.is_none() || self.hosts[at].when == When::AtOnce;
        // What a clock that fell makes wait is not there any more. Of an agent that runs twice, a restart may say something
        // again that the other process has said already.
        if before
            && !self.set_clocks.contains(&at)
            && !self.forked.contains(&self.hosts[at].agent)
            && let Some(digests) = self.hosts[at].digests()
        {
            let staged = self.hosts[at].logs().map_or(0, |logs| logs.stats().staged_bytes);
            self.ended.insert(at, (digests, staged));
        }
        self.hosts[at].kill(killed.unwrap_or(100));
        self.note_weight(at);
        self.cut(|ends| ends.contains(&at), false);
        self.figures.restarts += 1;
    }

    /// Notes how much of what it may have a process had on the heap.
    pub(super) fn note_weight(&mut self, at: usize) {
        let Some(weight) = self.hosts[at].weight.take().filter(|weight| weight.is_idle) else { return };
        // What came ahead of its time stays until that has come, and until the next change after it.
        if self.lies_ahead || !self.were_ahead.is_empty() {
            return;
        }
        let permille = weight.heap * 1_000 / weight.allowed;
        if permille > self.figures.heap_permille {
            self.figures.heap_permille = permille;
            self.heaviest = Some((at, weight));
        }
    }

    fn start(&mut self, name: &str, how: How) {
        let Some(at) = self.host(name) else { return };
        if self.hosts[at].process.is_some() {
            self.end(name, Some(0));
        }
        self.hosts[at].start(self.seed, how, self.now);
        self.took = true;
        self.subscriptions.remove(&at);
        let before = self.ended.remove(&at);
        // Of an event log that a liar forked, what was let go as incomplete may be there again.
        let honest: BTreeSet<_> = self.hosts.iter().map(|host| self.keys().agent(&host.agent)).collect();
        let brings_back = |logs: &LogSet| {
            let lies = logs.logs().filter(|log| !honest.contains(&log.opening().agent));
            let mut events = lies.filter(|log| log.opening().kind == LogKind::Event);
            events.any(|log| logs.forks(log.id()).is_some())
        };
        if how == How::Resumed
            && !self.hosts[at].logs().is_some_and(brings_back)
            && let Some(before) = before
            && self.hosts[at].digests().is_some_and(|digests| {
                let staged = self.hosts[at].logs().map_or(0, |logs| logs.stats().staged_bytes);
                (digests, staged) != before
            })
        {
            self.restarted_otherwise = Some(at);
        }
        self.started = Some(at);
    }

    fn start_empty(&mut self, name: &str) {
        let Some(at) = self.host(name) else { return };
        self.end(name, Some(0));
        self.lose(at, None);
        self.hosts[at].disk = Disk::default();
        self.start(name, How::Fresh);
    }

    /// What comes behind the bit in the records is lost, as in a backup.
    fn rot(&mut self, name: &str, place: u64) {
        let Some(at) = self.host(name) else { return };
        self.end(name, Some(100));
        self.ended.remove(&at);
        let is_rotten = self.hosts[at].rot(place);
        if is_rotten {
            self.lose(at, None);
        }
        self.start(name, How::Resumed);
        self.took = is_rotten;
    }

    fn restore(&mut self, name: &str, store: &str, said: bool) {
        let (Some(at), Some((disk, owner))) = (self.host(name), self.stores.get(store).cloned()) else {
            return;
        };
        if owner != at as u64 {
            return;
        }
        self.end(name, Some(0));
        self.lose(at, None);
        if !said {
            let agent = self.hosts[at].agent.clone();
            self.doubt(&agent);
        }
        self.hosts[at].disk = disk;
        self.ended.remove(&at);
        self.start(name, if said { How::Restored } else { How::Resumed });
    }

    fn import(&mut self, at: usize, bundle: &[u8]) -> bool {
        let time = self.hosts[at].time(self.now);
        let Some((replica, _)) = self.hosts[at].replica_mut() else { return false };
        let is_taken = replica.import_bundle(bundle, time).is_ok();
        self.trace.update(bundle);
        self.hosts[at].store(false);
        self.note_stored(at);
        is_taken
    }

    fn bundle(&mut self, from: &str, to: &str, whole: bool, topic: Option<&str>) -> Checked {
        let (Some(from), Some(to)) = (self.host(from), self.host(to)) else { return Ok(()) };
        if from == to {
            return Ok(());
        }
        let since = self.hosts[to].replica().map(consilience::Replica::summary).filter(|_| !whole);
        let time = self.hosts[from].time(self.now);
        let Some((replica, _)) = self.hosts[from].replica_mut() else { return Ok(()) };
        let wanted = |of: &Topic| topic.is_none_or(|topic| of.as_str() == topic);
        let Ok(bundle) = replica.export_bundle(wanted, since.as_deref(), time) else { return Ok(()) };
        self.hosts[from].store(false);
        self.note_stored(from);
        self.doubt_wrong_clocks([from, to]);
        let before = self.hosts[to].sizes_but(topic);
        self.took = self.import(to, &bundle);
        if topic.is_some() && self.hosts[to].sizes_but(topic) != before {
            return broken("bundle", format!("{} took more than the topic", self.hosts[to].name));
        }
        Ok(())
    }

    fn purge(&mut self, name: &str, topic: &str) {
        let (Some(at), Ok(name)) = (self.host(name), Topic::new(topic)) else { return };
        let Some((replica, _)) = self.hosts[at].replica_mut() else { return };
        replica.purge(&name);
        self.took = true;
        self.lose(at, Some(topic));
        self.hosts[at].store(false);
        self.note_stored(at);
    }

    fn subscribe(&mut self, name: &str, topic: Option<&str>) {
        let Some(at) = self.host(name) else { return };
        let Some((replica, _)) = self.hosts[at].replica_mut() else { return };
        let all = self.subscriptions.entry(at).or_default();
        self.took = true;
        match topic {
            Some(topic) => all.extend(replica.subscribe(topic).ok()),
            None => all.drain(..).for_each(|one| {
                replica.unsubscribe(one);
            }),
        }
        let is_first = all.len() == 1;
        let host = &mut self.hosts[at];
        match topic {
            Some("*") if is_first => host.mirror = host.replica().map(Mirror::of),
            None => host.mirror = None,
            Some(_) => {}
        }
    }

    fn set_scope(&mut self, name: &str, filters: &[String]) -> Checked {
        let Some(at) = self.host(name) else { return Ok(()) };
        let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
        let scope = if filters.is_empty() { Ok(Scope::everything()) } else { Scope::of(&filters) };
        let Ok(scope) = scope else { return Ok(()) };
        // One that is taken has all that was asked for.
        let lacks =
            filters.iter().filter_map(|filter| Topic::new(filter).ok()).find(|topic| !scope.matches(topic));
        if let Some(lacks) = lacks {
            return broken("scope", format!("{name} asked for {}", lacks.as_str()));
        }
        let is_open = self.hosts[at].is_open();
        let Some((replica, _)) = self.hosts[at].replica_mut() else { return Ok(()) };
        for link in &mut self.links {
            for (end, (host, session)) in link.ends.into_iter().enumerate() {
                if host == at && replica.set_scope(session, scope.clone()) {
                    let was = std::mem::replace(&mut link.narrow[end], !filters.is_empty() || !is_open);
                    // To ask for the same again changes nothing.
                    if was || link.narrow[end] {
                        link.in_sync = [false; 2];
                        link.changed = self.now;
                    }
                    self.took = true;
                }
            }
        }
        Ok(())
    }

    fn expect(&self, name: &str, (topic, map, key): (&str, &str, &str), value: Option<&String>) -> Checked {
        let Some(replica) = self.host(name).and_then(|at| self.hosts[at].replica()) else { return Ok(()) };
        let view = replica.topic(topic).ok();
        let read = view.and_then(|view| view.map(map).get(key).map(|live| text(live.value)));
        if read.as_ref() == value {
            Ok(())
        } else {
            broken("expected", format!("{name} reads {read:?} at {key}"))
        }
    }

    /// What each process has on the heap, in bytes: they end.
    pub(crate) fn into_heaps(mut self) -> BTreeMap<String, u64> {
        let weigh = |host: &mut Host| {
            host.kill(100);
            Some((host.name.clone(), host.weight?.heap))
        };
        self.hosts.iter_mut().filter_map(weigh).collect()
    }

    fn print(&mut self, at: Option<&str>) {
        for host in &mut self.hosts {
            if at.is_some_and(|at| at != host.name) {
                continue;
            }
            let root = host.root().map(|root| hex(&root));
            let topics = host.replica().map(|replica| {
                let all = replica.topics().map(|topic| {
                    let keys = replica.stats(Some(topic));
                    json!({
                        "topic": topic.as_str(), "digest": hex(&replica.digest(topic)),
                        "keys": keys.keys, "events": keys.events,
                    })
                });
                all.collect::<Vec<_>>()
            });
            let held = host.logs().map(|logs| {
                let all = logs.logs().map(|log| {
                    let opening = log.opening();
                    json!({
                        "log": hex(&log.id().alias()), "agent": hex(&opening.agent.as_bytes()[16..]),
                        "incarnation": opening.incarnation.as_u64(), "topic": opening.topic.as_str(),
                        "base": log.base(), "start": log.start(), "signed": log.signed_size(), "size": log.size(),
                        "until": log.last_hlc().time().as_millis().saturating_sub(START),
                        "forked": logs.evidence(log.id()).is_some(),
                    })
                });
                all.collect::<Vec<_>>()
            });
            let logs = host.logs().map(|logs| logs.stats());
            self.printed.push(json!({
                "host": host.name, "runs": host.process.is_some(), "root": root, "topics": topics,
                "told": host.notices.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "stored": host.disk.records.len() + host.disk.snapshot.as_ref().map_or(0, Vec::len),
                "heap": self.heaps.get(&host.name), "held": held, "staged": logs.map(|logs| logs.staged_bytes),
                "late": logs.map(|logs| logs.late_bytes), "logs": logs.map(|logs| logs.logs), "log_bytes": logs.map(|logs| logs.bytes),
            }));
        }
    }
}

const fn event_byte(event: &SessionEvent) -> u8 {
    match event {
        SessionEvent::Connected(_) => 1,
        SessionEvent::InSync => 2,
        SessionEvent::OutOfSync => 3,
        SessionEvent::Ended(_) => 4,
        SessionEvent::Fault(_) => 5,
        _ => 6,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn live(replica: &consilience::Replica, topic: &str, map: &str, key: &str) -> BTreeSet<String> {
    let view = replica.topic(topic).ok().map(|view| view.map(map).conflicts(key));
    view.into_iter().flatten().map(|live| text(live.value)).collect()
}
