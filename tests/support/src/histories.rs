//! Random histories of honest and of cloned writers, over a network that loses, repeats, reorders and cuts. At each
//! set stands a consumer that only follows the changes; what it believes must at every step be what the set says.

use std::collections::BTreeMap;

use consilience_sync::{
    Answer, Forks, Hlc, LogId, LogKind, LogOpening, LogSet, NewEntry, SetError, Timestamp,
};

use crate::logsets::{
    Dice, KINDS, Replica, START, alone, converge, follow, holder, keys, meaning, mesh, opening_in, rich,
    tell, tell_evidence,
};

/// What happens in a history beside appends, raised bases and deliveries.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How many steps a history has.
    pub steps: u64,
    /// The kind of all logs; either one where there is none.
    pub kind: Option<LogKind>,
    /// Writers are cloned and both copies go on.
    pub clones: bool,
    /// Bases rise.
    pub bases: bool,
    /// Stamps lie in the future.
    pub future: bool,
}

/// No clones.
pub const HONEST: Rules = Rules { steps: 120, kind: None, clones: false, bases: true, future: true };

/// The writer of one log.
#[derive(Debug)]
pub struct Writer {
    /// The opening of its log.
    pub opening: LogOpening,
    /// The id of its log.
    pub log: LogId,
    /// The number of its agent.
    pub agent: u8,
    /// In which set it writes.
    home: usize,
    /// Copies that live outside of all sets and write on.
    clones: Vec<LogSet>,
    /// Signed and not cloned: these entries were written once.
    written: u64,
}

/// Bytes on their way to a set.
#[derive(Debug)]
pub enum Packet {
    /// A range of a log.
    Range(LogId, Vec<u8>),
    /// Evidence of a fork.
    Evidence(Vec<u8>),
}

/// Sets, their consumers, the writers, and the network between them.
#[derive(Debug)]
pub struct World {
    rules: Rules,
    dice: Dice,
    /// The time that has come.
    pub now: Timestamp,
    /// The sets with their consumers.
    pub replicas: Vec<Replica>,
    /// The writers, each at home in one of the sets.
    pub writers: Vec<Writer>,
    network: Vec<(usize, Packet)>,
}

impl World {
    /// A world that depends on seed and rules alone.
    pub fn new(seed: u64, rules: Rules) -> Self {
        let mut dice = Dice::new(seed);
        let count = 2 + dice.index(4);
        let writers: Vec<Writer> = (0..1 + dice.index(3))
            .map(|number| {
                let kind = rules.kind.unwrap_or(KINDS[dice.index(2)]);
                let agent = 1 + number as u8;
                let opening = opening_in("model", kind, agent, 1);
                let log = opening.log_id(&mesh());
                Writer { opening, log, agent, home: dice.index(count), clones: Vec::new(), written: 0 }
            })
            .collect();
        let openings: Vec<_> = writers.iter().map(|writer| &writer.opening).collect();
        let mut replicas: Vec<_> = (0..count).map(|_| Replica::new(holder(&openings))).collect();
        for writer in &writers {
            replicas[writer.home].set.open_local(&writer.opening).unwrap();
        }
        Self { rules, dice, now: START, replicas, writers, network: Vec::new() }
    }

    /// One random step.
    pub fn step(&mut self) {
        let writer = self.dice.index(self.writers.len());
        let at = self.dice.index(self.replicas.len());
        match self.dice.roll(24) {
            0..=7 => self.append(writer),
            8..=9 => self.sign(writer),
            10..=14 => self.ask(writer),
            15..=19 => self.deliver(),
            20 => {
                self.now = self.now.saturating_add_millis(self.dice.roll(300_000));
                self.replicas[at].set.handle_timeout(self.now);
            }
            21 => {
                let log = self.writers[writer].log;
                let (from, to) = self.replicas[at].set.applicable(&log).unwrap();
                let _ = self.replicas[at].set.erase(&log, from + self.dice.roll((to - from).max(1)));
            }
            _ => self.clone_writer(writer),
        }
        // A consumer that is behind for a while comes to the same.
        for replica in &mut self.replicas {
            if self.dice.one_in(3) {
                replica.follow();
            }
        }
    }

    /// Where a writer appends now: at home, or in one of its clones.
    fn target(&mut self, writer: usize) -> &mut LogSet {
        let clone = self.dice.index(self.writers[writer].clones.len() + 1);
        let home = self.writers[writer].home;
        match clone.checked_sub(1) {
            Some(clone) => &mut self.writers[writer].clones[clone],
            None => &mut self.replicas[home].set,
        }
    }

    fn append(&mut self, writer: usize) {
        let (now, rules, log) = (self.now, self.rules, self.writers[writer].log);
        let mut dice = Dice::new(self.dice.roll(1 << 40));
        let set = self.target(writer);
        for _ in 0..1 + dice.roll(12) {
            let held = set.log(&log).unwrap();
            let (size, base) = (held.size(), held.base());
            let base = if rules.bases && dice.one_in(8) { base + dice.roll(size - base + 1) } else { base };
            let mut hlc = held.last_hlc();
            if rules.future && dice.one_in(40) {
                hlc = hlc.max(Hlc::new(now.saturating_add_millis(dice.roll(600_000)), 3));
            }
            hlc.tick(now);
            let payload = vec![dice.roll(256) as u8; dice.index(120)];
            let entry = NewEntry { base, ..NewEntry::new(hlc, &payload) };
            match set.append(&log, &entry) {
                Ok(seq) => assert_eq!(seq, size),
                // Known to be forked: nothing more can come of it.
                Err(error) => assert!(rules.clones, "{error}"),
            }
        }
    }

    fn sign(&mut self, writer: usize) {
        let (now, agent, log) = (self.now, self.writers[writer].agent, self.writers[writer].log);
        let clones = self.rules.clones;
        match self.target(writer).sign_head(&log, &keys(agent), now) {
            Ok(head) => self.writers[writer].written = head.size,
            Err(SetError::Sign(_)) => {}
            Err(error) => assert!(clones, "{error}"),
        }
    }

    /// One asks another for what it wants, or for anything.
    fn ask(&mut self, writer: usize) {
        let (count, log) = (self.replicas.len(), self.writers[writer].log);
        let to = self.dice.index(count);
        let from = (to + 1 + self.dice.index(count - 1)) % count;
        let source = match self.writers[writer].clones.last() {
            Some(clone) if self.dice.one_in(3) => clone,
            _ => &self.replicas[from].set,
        };
        for evidence in source.forks(&log).into_iter().flat_map(Forks::pieces) {
            self.network.push((to, Packet::Evidence(evidence.as_bytes().to_vec())));
        }
        let have = source.have(&log).unwrap();
        let mut want = self.replicas[to].set.want(&log, &have);
        if self.dice.one_in(3) && have.size > have.start {
            let from = have.start + self.dice.roll(have.size - have.start);
            let end = from + self.dice.roll(have.size - from + 1);
            want = Some(if self.dice.one_in(2) { alone(from, end) } else { follow(from, end) });
        }
        let Some(mut want) = want else { return };
        // Several pieces at once, so that they can arrive in any order.
        for _ in 0..1 + self.dice.roll(4) {
            let chunk = 128 + self.dice.index(1_500);
            let Answer::Range { bytes, end } = source.answer(&log, &want, chunk) else { break };
            self.network.push((to, Packet::Range(log, bytes)));
            want.from = end;
            if want.from >= want.to {
                break;
            }
        }
    }

    fn deliver(&mut self) {
        for _ in 0..1 + self.dice.roll(4) {
            if self.network.is_empty() {
                return;
            }
            let at = self.dice.index(self.network.len());
            let (to, packet) = &self.network[at];
            let set = &mut self.replicas[*to].set;
            if !self.dice.one_in(6) {
                match packet {
                    Packet::Range(log, bytes) => drop(set.receive(log, bytes, self.now, &mut rich())),
                    Packet::Evidence(bytes) => {
                        let hold = |_: &LogOpening| consilience_sync::Admission::Hold;
                        set.receive_evidence(bytes, self.now, &mut rich(), hold).unwrap();
                    }
                }
            }
            if !self.dice.one_in(5) {
                self.network.swap_remove(at);
            }
        }
    }

    fn clone_writer(&mut self, writer: usize) {
        let Writer { opening, log, home, clones, .. } = &mut self.writers[writer];
        if !self.rules.clones || clones.len() >= 2 {
            return;
        }
        // A copy of this one log, unsigned entries and all.
        let mut clone = self.replicas[*home].set.clone();
        let others: Vec<LogId> = clone.logs().map(|held| *held.id()).filter(|id| id != log).collect();
        assert!(others.iter().all(|other| clone.remove(other)));
        assert_eq!(clone.log(log).unwrap().opening(), opening);
        clones.push(clone);
    }

    /// Everything is signed and told, and nothing is from the future any more.
    pub fn settle(&mut self) {
        self.now = self.now.saturating_add_millis(24 * 60 * 60 * 1_000);
        for writer in &mut self.writers {
            let home = &mut self.replicas[writer.home].set;
            let _ = home.sign_head(&writer.log, &keys(writer.agent), self.now);
            for clone in &mut writer.clones {
                let _ = clone.sign_head(&writer.log, &keys(writer.agent), self.now);
            }
        }
        for replica in &mut self.replicas {
            replica.set.handle_timeout(self.now);
            replica.follow();
            assert_eq!(replica.set.stats().late_bytes, 0);
            replica.follow();
        }
        for writer in &self.writers {
            for clone in &writer.clones {
                for replica in &mut self.replicas {
                    tell(clone, &mut replica.set, &writer.log, self.now);
                    tell_evidence(clone, &mut replica.set, &writer.log, self.now);
                }
            }
            converge(&mut self.replicas, &writer.log, self.now);
            // An unsigned tail that conflicts stands in the way of what was signed; its owner begins anew.
            let home = &mut self.replicas[writer.home];
            if home.consumer.self_forked.contains(&writer.log) && home.set.evidence(&writer.log).is_none() {
                home.set.remove(&writer.log);
                home.set.open(&writer.opening, |_| consilience_sync::Admission::Hold).unwrap();
                home.consumer.logs.remove(&writer.log);
                converge(&mut self.replicas, &writer.log, self.now);
            }
        }
        for writer in &self.writers {
            let home = &self.replicas[writer.home].set;
            let seen: Vec<_> =
                self.replicas.iter().map(|replica| meaning(&replica.set, &writer.log).evidence).collect();
            assert!(seen.iter().all(|evidence| *evidence == seen[0]), "one verdict");
            // Payloads are erased here and there; the consumers hold the hashes.
            let leaves: Vec<BTreeMap<_, _>> = self
                .replicas
                .iter()
                .map(|replica| replica.consumer.logs.get(&writer.log).cloned().unwrap_or_default())
                .collect();
            for (number, there) in leaves.iter().enumerate() {
                let (here, there) = (leaves[0].keys().collect::<Vec<_>>(), there.keys().collect::<Vec<_>>());
                assert_eq!(here, there, "sets 0 and {number}, {:?}", writer.opening.kind);
            }
            assert!(leaves.iter().all(|there| *there == leaves[0]), "the consumers believe the same");
            if writer.clones.is_empty() {
                let (_, end) = home.applicable(&writer.log).unwrap();
                assert_eq!(end, home.log(&writer.log).unwrap().size(), "all of an honest log counts");
                assert!(seen[0].is_none());
            }
        }
    }
}
