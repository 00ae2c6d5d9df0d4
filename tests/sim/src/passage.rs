//! Passages: few steps that belong together, in the midst of a history that has other worries. Each brings one thing about that
//! steps drawn one by one seldom do, and leaves the rest to chance.

use crate::draw::Draw;
use crate::step::{Kind, Script, Step, When};

/// How many passages there are.
const PASSAGES: u64 = 13;

impl Draw {
    /// One of them.
    pub(crate) fn passage(&mut self) {
        let number = self.dice.roll(PASSAGES);
        let at = self.replica();
        let topic = self.topic();
        match number {
            0 | 1 => self.twice(&at, &topic),
            2 => self.late(&at, &topic),
            3 => self.purged(&at, &topic),
            4 => self.rotten(&at, &topic),
            5 => self.lost(&at, &topic),
            6 => self.coupled(&at, &topic),
            7 => self.narrowed(&at, &topic),
            8 => self.torn(&at, &topic),
            9 => self.carried(&at, &topic),
            10 => self.pruned(&at, &topic),
            11 => self.snapshot(&at, &topic),
            _ => {
                let first = self.topic();
                self.set(&at, &topic);
                self.steps.push(Step::Prefer { of: at, first });
            }
        }
    }

    /// What many worlds have, whatever else there is in them.
    pub(crate) fn visit(&mut self, number: u64) {
        let (at, topic) = (self.replica(), self.topic());
        match number {
            0 => self.guest(),
            1 => self.attacked(&at, &topic),
            _ => self.opened(&at, &topic),
        }
    }

    /// Somebody hands out openings in the name of a writer, which goes on writing.
    fn opened(&mut self, at: &str, topic: &str) {
        let host = self.any();
        let kind = if self.dice.one_in(2) { Kind::State } else { Kind::Event };
        let last = if self.dice.one_in(2) { u64::MAX } else { 1 + self.dice.roll(1 << 40) };
        let many = 1 + self.dice.roll(3);
        let (of, topic) = (at.to_owned(), topic.to_owned());
        self.steps.push(Step::Openings { of, topic: topic.clone(), kind, last, many, host });
        self.set(at, &topic);
        self.event(at, &topic);
    }

    fn set(&mut self, at: &str, topic: &str) {
        let step = Step::Set {
            at: at.into(),
            topic: topic.into(),
            map: "tasks".into(),
            key: self.key(),
            value: self.value(),
        };
        self.steps.push(step);
    }

    fn remove(&mut self, at: &str, topic: &str) {
        let step = Step::Remove { at: at.into(), topic: topic.into(), map: "tasks".into(), key: self.key() };
        self.steps.push(step);
    }

    fn event(&mut self, at: &str, topic: &str) {
        let step = Step::Event { at: at.into(), topic: topic.into(), text: self.value() };
        self.steps.push(step);
    }

    /// Some of what a replica can write.
    fn writes(&mut self, at: &str, topic: &str) {
        for _ in 0..1 + self.dice.roll(3) {
            match self.dice.roll(6) {
                0..3 => self.set(at, topic),
                3 => self.remove(at, topic),
                4 => self.couple(at, topic),
                _ => self.event(at, topic),
            }
        }
    }

    fn couple(&mut self, at: &str, topic: &str) {
        let (at, topic, coupling) = (at.to_owned(), topic.to_owned(), "trust".to_owned());
        let (key, by) = (self.key(), 1 + self.dice.roll(9) as u32);
        self.steps.push(if self.dice.one_in(3) {
            Step::Weaken { at, topic, coupling, key, by }
        } else {
            Step::Strengthen { at, topic, coupling, key, by }
        });
    }

    /// Somebody else.
    fn other(&mut self, at: &str) -> String {
        loop {
            let other = self.any();
            if other != at {
                return other;
            }
        }
    }

    fn meet(&mut self, from: &str, to: &str) {
        self.steps.push(Step::Meet { from: from.into(), to: to.into(), ms: 2_000, loss: 0 });
    }

    /// It ends and starts, stored or not.
    fn again(&mut self, at: &str) {
        let end = if self.dice.one_in(2) {
            Step::Stop { at: at.into() }
        } else {
            Step::Kill { at: at.into(), written: [0, 37, 100][self.dice.index(3)] }
        };
        self.steps.push(end);
        self.steps.push(Step::Start { at: at.into() });
    }

    /// Two processes go on from one store, and learn of it.
    fn twice(&mut self, at: &str, topic: &str) {
        let third = self.other(at);
        self.writes(at, topic);
        self.meet(at, &third);
        self.clones += 1;
        let to = format!("clone{}", self.clones);
        if self.clones <= 2 {
            self.replicas.push(to.clone());
        }
        self.steps.push(Step::Copy { at: at.into(), to: to.clone() });
        self.writes(at, topic);
        self.writes(&to, topic);
        if self.dice.one_in(2) {
            self.meet(at, &third);
            self.writes(&third, topic);
            self.meet(&to, &third);
        } else {
            self.meet(at, &to);
        }
        if self.dice.one_in(2) {
            self.again(at);
        }
        self.writes(at, topic);
        self.meet(at, &third);
    }

    /// A host that stores late writes, meets somebody, and ends.
    fn late(&mut self, at: &str, topic: &str) {
        let other = self.other(at);
        let when = if self.dice.one_in(3) { When::Unconfirmed } else { When::Late };
        self.steps.push(Step::Stores { at: at.into(), when });
        self.writes(at, topic);
        self.meet(at, &other);
        self.writes(at, topic);
        if self.dice.one_in(3) {
            self.steps.push(Step::Snapshot { at: at.into() });
        }
        self.again(at);
        self.steps.push(Step::Stores { at: at.into(), when: When::AtOnce });
        self.writes(at, topic);
        self.meet(at, &other);
    }

    /// A topic is forgotten, and the process ends or others bring it again.
    fn purged(&mut self, at: &str, topic: &str) {
        let other = self.other(at);
        self.writes(at, topic);
        self.event(at, topic);
        self.steps.push(Step::Subscribe { at: at.into(), topic: Some("*".into()) });
        self.meet(at, &other);
        self.steps.push(Step::Purge { at: at.into(), topic: topic.into() });
        if self.dice.one_in(2) {
            self.again(at);
        }
        self.writes(at, topic);
        self.meet(at, &other);
    }

    /// The last of what is stored and was sent is not what was written.
    fn rotten(&mut self, at: &str, topic: &str) {
        let other = self.other(at);
        self.writes(at, topic);
        self.meet(at, &other);
        self.steps.push(Step::Rot { at: at.into(), place: 900 + self.dice.roll(100) });
        self.writes(at, topic);
        self.meet(at, &other);
    }

    /// What others keep comes back to a writer that lost its storage.
    fn lost(&mut self, at: &str, topic: &str) {
        let other = self.other(at);
        let name = format!("before{}", self.steps.len());
        self.writes(at, topic);
        self.steps.push(Step::Backup { at: at.into(), name: name.clone() });
        self.writes(at, topic);
        self.couple(at, topic);
        self.meet(at, &other);
        self.steps.push(if self.dice.one_in(2) {
            Step::StartEmpty { at: at.into() }
        } else {
            Step::Restore { at: at.into(), name, said: true }
        });
        if self.dice.one_in(2) {
            self.meet(at, &other);
        }
        self.writes(at, topic);
        self.meet(at, &other);
    }

    fn coupled(&mut self, at: &str, topic: &str) {
        let other = self.replica();
        for _ in 0..2 + self.dice.roll(4) {
            self.couple(at, topic);
            if self.dice.one_in(3) {
                self.couple(&other, topic);
            }
            if self.dice.one_in(3) {
                self.steps.push(Step::Advance { ms: [2_000, 700_000, 3_000_000][self.dice.index(3)] });
            }
        }
        self.meet(at, &other);
        if self.dice.one_in(3) {
            // So much that older statements are given up.
            for _ in 0..12 {
                self.set(at, topic);
            }
        }
    }

    /// A connection wants less for a time.
    fn narrowed(&mut self, at: &str, topic: &str) {
        let other = self.other(at);
        let delay = [2, 20, 150][self.dice.index(3)];
        let (from, to) = (at.to_owned(), other.clone());
        self.steps.push(Step::Cut { from: from.clone(), to: to.clone(), noticed: true });
        self.steps.push(Step::Link {
            from,
            to,
            loss: 0,
            repeats: 0,
            delay,
            scope: Vec::new(),
            one_way: false,
        });
        self.steps.push(Step::Advance { ms: 2_000 });
        let mut filters = vec![topic.to_owned()];
        if self.dice.one_in(8) {
            // More than a scope may have.
            filters.splice(0..0, (0..200).map(|number| format!("none/{number}")));
        }
        self.steps.push(Step::Scope { at: at.into(), filters });
        self.steps.push(Step::Advance { ms: [200, 2_000][self.dice.index(2)] });
        if !other.starts_with("relay") {
            let elsewhere = self.topic();
            self.writes(&other, &elsewhere);
        }
        self.steps.push(Step::Scope { at: at.into(), filters: Vec::new() });
        self.steps.push(Step::Advance { ms: [200, 700_000][self.dice.index(2)] });
    }

    /// The process ends in the midst of a write.
    fn torn(&mut self, at: &str, topic: &str) {
        let other = self.other(at);
        self.steps.push(Step::Stores { at: at.into(), when: When::Late });
        self.writes(at, topic);
        self.steps.push(Step::Kill { at: at.into(), written: 10 + self.dice.roll(80) });
        self.steps.push(Step::Start { at: at.into() });
        self.steps.push(Step::Stores { at: at.into(), when: When::AtOnce });
        self.writes(at, topic);
        self.meet(at, &other);
    }

    /// Bundles alone go to and fro.
    fn carried(&mut self, at: &str, topic: &str) {
        let to = self.replica();
        self.writes(at, topic);
        self.writes(&to, topic);
        for turn in 0..3 {
            let (from, to) =
                if turn % 2 == 0 { (at.to_owned(), to.clone()) } else { (to.clone(), at.to_owned()) };
            let wanted = self.dice.one_in(3).then(|| topic.to_owned());
            self.steps.push(Step::Bundle { from, to, whole: false, topic: wanted });
        }
    }

    /// Events are given up, by more than one word.
    fn pruned(&mut self, at: &str, topic: &str) {
        let other = self.replica();
        for _ in 0..2 + self.dice.roll(2) {
            self.event(at, topic);
            self.event(at, topic);
            if self.dice.one_in(2) {
                self.meet(at, &other);
            }
            self.steps.push(Step::Prune { at: at.into(), topic: topic.into(), keep: self.dice.roll(2) });
            match self.dice.roll(4) {
                0 => self.steps.push(Step::StartEmpty { at: at.into() }),
                1 => self.again(at),
                2 => self.steps.push(Step::Bundle {
                    from: at.into(),
                    to: other.clone(),
                    whole: false,
                    topic: None,
                }),
                _ => {}
            }
        }
        self.meet(at, &other);
    }

    /// A snapshot is stored in the midst of it.
    fn snapshot(&mut self, at: &str, topic: &str) {
        let other = self.other(at);
        if self.dice.one_in(2) {
            self.steps.push(Step::Stores { at: at.into(), when: When::Late });
        }
        self.writes(at, topic);
        self.steps.push(Step::Meet { from: at.into(), to: other, ms: 60 + self.dice.roll(200), loss: 30 });
        self.steps.push(Step::Snapshot { at: at.into() });
        self.again(at);
        self.steps.push(Step::Stores { at: at.into(), when: When::AtOnce });
        self.writes(at, topic);
    }

    /// A guest comes, with little room or few topics.
    fn guest(&mut self) {
        let name = "guest0".to_owned();
        let gate = if self.dice.one_in(2) { vec![self.topic()] } else { Vec::new() };
        let logs = if gate.is_empty() { 1 + self.dice.index(2) } else { 1_000 };
        self.steps.push(Step::Guest { at: name.clone(), logs, gate });
        for _ in 0..2 {
            let other = self.any();
            if self.dice.one_in(2) {
                self.meet(&name, &other);
                continue;
            }
            let (from, to) = (name.clone(), other.clone());
            self.steps.push(Step::Link {
                from,
                to,
                loss: 0,
                repeats: 0,
                delay: 20,
                scope: Vec::new(),
                one_way: false,
            });
            self.steps.push(Step::Advance { ms: 2_000 });
            self.steps.push(Step::Scope { at: name.clone(), filters: Vec::new() });
            if !other.starts_with("relay") {
                let topic = self.topic();
                self.writes(&other, &topic);
            }
            self.steps.push(Step::Advance { ms: [2_000, 100_000][self.dice.index(2)] });
            self.steps.push(Step::Cut { from: name.clone(), to: other, noticed: true });
        }
    }

    /// A foe speaks to a host.
    fn attacked(&mut self, at: &str, topic: &str) {
        let script = [Script::Asks, Script::Hellos, Script::Offers][self.dice.index(3)];
        let host = if self.dice.one_in(4) { self.any() } else { at.to_owned() };
        self.writes(at, topic);
        self.steps.push(Step::Foe { by: "foe".into(), host, script, many: 150 });
    }
}
