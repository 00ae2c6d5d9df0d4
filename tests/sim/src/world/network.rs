//! The network of a world: connections, frames on their way, and the time that passes meanwhile.

use std::collections::BTreeMap;

use consilience::Notice;
use consilience::sync::session::{Scope, SessionEvent, SessionId, SessionOptions};
use consilience_test_support::replicas::mesh;

use super::{Broken, Checked, DRIFT, World, broken, event_byte};
use crate::host::Host;
use crate::step::When;

const HOUR: u64 = 3_600_000;
/// Two that are connected compare what they hold so often, in milliseconds.
const HEARTBEAT: u64 = 30_000;

#[derive(Debug)]
pub(super) struct Link {
    pub(super) ends: [(usize, SessionId); 2],
    pub(super) loss: u64,
    /// Nothing that the second sends arrives.
    pub(super) one_way: bool,
    pub(super) repeats: u64,
    pub(super) delay: u64,
    /// Which of the two ask for less than everything, or show less.
    pub(super) narrow: [bool; 2],
    /// When it began, or its scope last changed.
    pub(super) changed: u64,
    pub(super) in_sync: [bool; 2],
    /// The bytes that were sent.
    pub(super) bytes: u64,
    pub(super) flying: BTreeMap<(u64, u64), (usize, Vec<u8>)>,
    pub(super) sent: u64,
    pub(super) last: u64,
}

impl World {
    pub(super) fn link(
        &mut self,
        (from, to): (&str, &str),
        (loss, repeats, delay): (u64, u64, u64),
        one_way: bool,
        scope: &[String],
    ) {
        let (Some(from), Some(to)) = (self.host(from), self.host(to)) else { return };
        let is_there = |link: &Link| {
            let ends = link.ends.map(|(host, _)| host);
            ends == [from, to] || ends == [to, from]
        };
        if from == to || self.links.iter().any(is_there) {
            return;
        }
        let filters: Vec<&str> = scope.iter().map(String::as_str).collect();
        let dial = SessionOptions::dial().over_datagrams();
        let dial = match Scope::of(&filters) {
            Ok(scope) if !filters.is_empty() => dial.with_scope(scope),
            _ => dial,
        };
        let listen = SessionOptions::listen().over_datagrams();
        if self.hosts[from].process.is_none() || self.hosts[to].process.is_none() {
            return;
        }
        self.doubt_wrong_clocks([from, to]);
        let (Some(dials), Some(listens)) =
            (self.hosts[from].connect(dial, self.now), self.hosts[to].connect(listen, self.now))
        else {
            return;
        };
        self.took = true;
        self.links.push(Link {
            ends: [(from, dials), (to, listens)],
            loss: loss.min(90),
            one_way,
            repeats,
            delay: delay.max(1),
            narrow: [!filters.is_empty() || !self.hosts[from].is_open(), !self.hosts[to].is_open()],
            changed: self.now,
            bytes: 0,
            in_sync: [false; 2],
            flying: BTreeMap::new(),
            sent: 0,
            last: self.now,
        });
    }

    /// Cuts links; whether there were any.
    pub(super) fn cut(&mut self, which: impl Fn([usize; 2]) -> bool, noticed: bool) -> bool {
        let hosts = &mut self.hosts;
        let before = self.links.len();
        self.links.retain(|link| {
            if !which(link.ends.map(|(host, _)| host)) {
                return true;
            }
            if noticed {
                link.ends.iter().for_each(|(host, session)| hosts[*host].disconnect(*session));
            }
            false
        });
        self.links.len() < before
    }

    pub(super) fn transmit(&mut self) {
        let mut frame = Vec::new();
        for link in &mut self.links {
            for end in 0..2 {
                let (at, session) = link.ends[end];
                for _ in 0..256 {
                    frame.clear();
                    if !self.hosts[at].transmit(session, self.now, &mut frame) {
                        break;
                    }
                    link.last = self.now;
                    link.bytes += frame.len() as u64;
                    let copies = 1 + u64::from(self.dice.roll(100) < link.repeats);
                    for _ in 0..copies {
                        if self.dice.roll(100) < link.loss || link.one_way && end == 1 {
                            continue;
                        }
                        let due = self.now + link.delay + self.dice.roll(link.delay);
                        link.sent += 1;
                        link.flying.insert((due, link.sent), (1 - end, frame.clone()));
                    }
                }
            }
        }
        (0..self.hosts.len()).for_each(|at| self.note_stored(at));
    }

    pub(super) fn deliver(&mut self) {
        for link in &mut self.links {
            while let Some(next) = link.flying.first_entry().filter(|next| next.key().0 <= self.now) {
                let (end, frame) = next.remove();
                let (at, session) = link.ends[end];
                self.trace.update(&frame);
                self.figures.frames += 1;
                let _ = self.hosts[at].input(session, &frame, self.now);
            }
        }
    }

    /// Takes in what hosts are told.
    pub(super) fn poll(&mut self) {
        for at in 0..self.hosts.len() {
            if !self.hosts[at].polls {
                continue;
            }
            while let Some((session, event)) = self.hosts[at].event() {
                self.figures.told += 1;
                self.trace.update(&[at as u8, event_byte(&event)]);
                if self.is_told {
                    eprintln!("{} {}: {event:?}", self.now, self.hosts[at].name);
                }
                let ends = self.links.iter_mut().flat_map(|link| link.ends.iter().zip(&mut link.in_sync));
                for (_, in_sync) in ends.filter(|(end, _)| **end == (at, session)) {
                    match event {
                        SessionEvent::InSync => *in_sync = true,
                        SessionEvent::OutOfSync | SessionEvent::Ended(_) => *in_sync = false,
                        SessionEvent::Fault(_) => {
                            // No host of this world lies.
                            let what = format!("{} blames a peer: {event:?}", self.hosts[at].name);
                            self.mistold = Some(Broken { kind: "blamed", what });
                        }
                        _ => {}
                    }
                }
                self.figures.in_sync += u64::from(event == SessionEvent::InSync);
                self.overheard.push((at, session, event));
            }
            let host = &mut self.hosts[at];
            let mut notices = std::mem::take(&mut host.notices);
            while let Some(notice) = host.notice() {
                self.waits |= matches!(notice, Notice::EventsAhead { .. });
                if std::mem::take(&mut host.is_cut) && !matches!(notice, Notice::RecordsCut { .. }) {
                    let what = format!("{} was not told first that records were cut", host.name);
                    self.mistold = Some(Broken { kind: "untold", what });
                }
                if let Notice::SelfForked { log } = &notice {
                    host.knew_forks.insert(log.log_id(&mesh()));
                }
                notices.push(notice);
            }
            if host.is_cut {
                let what = format!("{} was not told that records were cut", host.name);
                self.mistold = Some(Broken { kind: "untold", what });
            }
            host.notices = notices;
        }
    }

    /// Time passes. Over more than an hour hosts sleep, so their connections break after it, and nobody notices at once.
    pub(super) fn advance(&mut self, ms: u64) {
        let awake = ms.min(HOUR);
        self.pass(awake);
        if ms > awake {
            self.cut(|_| true, false);
            self.pass(ms - awake);
        }
    }

    pub(super) fn pass(&mut self, ms: u64) {
        let until = self.now.saturating_add(ms);
        let mut still = 0;
        loop {
            self.transmit();
            self.poll();
            let arrival = self.links.iter().filter_map(|link| Some(link.flying.first_key_value()?.0.0)).min();
            let timer = self.hosts.iter().filter_map(Host::next_timeout).min();
            let next = arrival.into_iter().chain(timer).min().unwrap_or(until).max(self.now);
            if next >= until {
                break;
            }
            still = if next == self.now { still + 1 } else { 0 };
            // A session whose connection is held still has something to send, and no timer changes that.
            let next = if still > 64 { next + 10 } else { next };
            assert!(still < 10_000, "time stands still at {next}");
            self.now = next;
            for at in 0..self.hosts.len() {
                if self.hosts[at].next_timeout().is_some_and(|due| due <= self.now) {
                    self.hosts[at].handle_timeout(self.now);
                    self.note_stored(at);
                }
            }
            self.deliver();
        }
        self.now = until;
        // Hosts that store late do so after time has passed.
        for at in 0..self.hosts.len() {
            if self.hosts[at].when == When::Late {
                self.hosts[at].store(true);
                self.note_stored(at);
            }
        }
        for at in 0..self.hosts.len() {
            self.hosts[at].handle_timeout(self.now);
            self.note_stored(at);
        }
        self.deliver();
        self.transmit();
        self.poll();
    }

    pub(super) fn meet(&mut self, (from, to): (&str, &str), ms: u64, loss: u64) -> Checked {
        let (Some(a), Some(b)) = (self.host(from), self.host(to)) else { return Ok(()) };
        self.cut(|ends| ends == [a, b] || ends == [b, a], true);
        let others = std::mem::take(&mut self.links);
        self.overheard.clear();
        self.link((from, to), (loss, 0, 20), false, &[]);
        let checked = self.met(ms);
        self.cut(|_| true, true);
        self.links = others;
        checked
    }

    fn met(&mut self, ms: u64) -> Checked {
        self.advance(ms);
        self.in_sync_is_true(1)?;
        self.has_all_is_true()
    }

    /// A peer of which a host says that it has all holds all that the host has written.
    pub(super) fn has_all_is_true(&mut self) -> Checked {
        for at in 0..self.links.len() {
            let ends = self.links[at].ends;
            let sound = |host: &Host, number| {
                host.process.is_some() && host.guest.is_none() && !self.set_clocks.contains(&number)
            };
            let link = &self.links[at];
            // What the other side wants now has to be known.
            let is_known = link.changed + 4 * link.delay + 1_000 < self.now;
            // Over one that loses frames it may be said too early: a peer acknowledges a range before it asks for what that one
            // follows on, and the question may be lost.
            if !is_known
                || link.loss > 0
                || link.narrow.contains(&true)
                || !ends.iter().all(|(at, _)| sound(&self.hosts[*at], *at))
            {
                continue;
            }
            for (this, that) in [(ends[0], ends[1]), (ends[1], ends[0])] {
                if self.hosts[this.0].agent == self.hosts[that.0].agent
                    || self.forked.contains(&self.hosts[this.0].agent)
                    || !self.hosts[this.0].peer_has_all(this.1)
                {
                    continue;
                }
                let own = self.keys().agent(&self.hosts[this.0].agent);
                let (Some(ours), Some(theirs)) = (self.hosts[this.0].logs(), self.hosts[that.0].logs())
                else {
                    continue;
                };
                let mut all = ours.logs().filter(|log| log.opening().agent == own && log.size() > log.base());
                let lacks = all.find(|log| {
                    let is_last = ours.logs_in(&log.opening().topic).all(|other| {
                        let (this, other) = (log.opening(), other.opening());
                        other.agent != own || other.kind != this.kind || other.incarnation <= this.incarnation
                    });
                    is_last && theirs.log(log.id()).is_none_or(|held| held.size() < log.size())
                });
                if lacks.is_some() {
                    let what =
                        format!("{} has not all of {}", self.hosts[that.0].name, self.hosts[this.0].name);
                    return broken("has_all", what);
                }
            }
        }
        Ok(())
    }

    /// Two that hold the same of everything are told so in the end, and once more after a scope has changed.
    pub(super) fn sameness_is_told(&mut self) -> Checked {
        for at in 0..self.links.len() {
            let link = &self.links[at];
            let ends = link.ends.map(|(host, _)| host);
            let is_sound = |at: usize| {
                let host = &self.hosts[at];
                host.process.is_some() && host.polls && host.guest.is_none() && !self.set_clocks.contains(&at)
            };
            let is_fair = link.loss == 0 && !link.one_way && link.delay < 1_000;
            if !is_fair
                || link.narrow.contains(&true)
                || link.changed + 3 * HEARTBEAT > self.now
                || link.in_sync.contains(&true)
                || !ends.iter().all(|at| is_sound(*at))
            {
                continue;
            }
            if self.hosts[ends[0]].root() == self.hosts[ends[1]].root() {
                let [a, b] = ends.map(|at| self.hosts[at].name.clone());
                return broken("untold", format!("{a} and {b} hold the same"));
            }
        }
        Ok(())
    }

    /// Hosts that are told that they are in sync are, once nothing is on its way: where so many of the two are told. In a
    /// connection that goes on one of them may know better, and the other one hears of it at the heartbeat.
    pub(super) fn in_sync_is_true(&mut self, told: usize) -> Checked {
        for at in 0..self.links.len() {
            let link = &self.links[at];
            let ends = link.ends.map(|(host, _)| host);
            // A frame that was lost is sent again, later.
            let is_quiet = link.flying.is_empty() && link.last + 2 * link.delay < self.now && link.loss == 0;
            let is_told =
                (0..2).filter(|end| link.in_sync[*end] && self.hosts[ends[*end]].polls).count() >= told;
            // What was written since the round began may wait: until it is stored, or for its time.
            let waits = told > 1 && ends.iter().any(|at| self.set_clocks.contains(at))
                || ends.iter().any(|at| {
                    let host = &self.hosts[*at];
                    let stats = host.logs().map(consilience::sync::LogSet::stats);
                    let waiting = stats.is_some_and(|stats| stats.late_bytes > 0 || stats.staged_bytes > 0);
                    waiting
                        || host.when != When::AtOnce
                        || host.ahead.abs() > DRIFT
                        || self.were_ahead.contains(at)
                });
            if !is_told || !is_quiet || link.one_way || link.narrow.contains(&true) || waits {
                continue;
            }
            let [a, b] = ends;
            // Equal roots are compared after each step.
            let differ = match [a, b].map(|at| self.hosts[at].digests()) {
                [Some(one), Some(other)] => one != other,
                _ => true,
            };
            if differ && self.hosts[a].root() != self.hosts[b].root() {
                return broken("false_in_sync", format!("{} and {}", self.hosts[a].name, self.hosts[b].name));
            }
        }
        Ok(())
    }
}
