//! Histories by seed: who there is, and what they do. The numbers lean towards what belongs together: few topics, few keys,
//! restarts near writes, meetings near both.

use consilience_test_support::dice::Dice;

use crate::step::{Kind, Sign, Step, When};

const TOPICS: [&str; 2] = ["team", "team/plan"];
const KEYS: [&str; 4] = ["a", "b", "c", "d"];
const DAY: u64 = 86_400_000;
const YEARS: i64 = 10 * 365 * 86_400_000;

/// How many kinds of visits there are.
const VISITS: u64 = 3;

/// Instead of the key of a map: a contribution to a coupling that nobody could have made.
pub(crate) const FAR: &str = "far";

/// Kinds of faults that a history has few of.
const FAULTS: u64 = 12;

pub(crate) struct Draw {
    pub(crate) dice: Dice,
    pub(crate) steps: Vec<Step>,
    pub(crate) replicas: Vec<String>,
    relays: Vec<String>,
    /// Copies run under another's key.
    pub(crate) clones: usize,
    liars: Vec<Lies>,
    unique: u64,
    /// Liars do the most of it.
    lying: bool,
    /// And they fork few logs, and hand over parts of them.
    forking: bool,
    backups: Vec<(String, String)>,
}

/// A liar, its branches, and the incarnations of its logs so far.
struct Lies {
    name: String,
    branches: Vec<String>,
    logs: Vec<(String, Kind, u64)>,
}

/// The history of a seed.
pub(crate) fn history(seed: u64) -> Vec<Step> {
    let mut dice = Dice::new(seed ^ 0x51b);
    let replicas = 3 + dice.index(2);
    let relays = 1 + usize::from(dice.one_in(4));
    let liars = usize::from(dice.roll(10) < 4) + usize::from(dice.one_in(8));
    let names =
        |what: &str, many: usize| (0..many).map(|number| format!("{what}{number}")).collect::<Vec<_>>();
    let mut draw = Draw {
        dice,
        steps: Vec::new(),
        replicas: names("agent", replicas),
        relays: names("relay", relays),
        clones: 0,
        liars: Vec::new(),
        unique: 0,
        lying: false,
        forking: false,
        backups: Vec::new(),
    };
    for name in names("liar", liars) {
        draw.liars.push(Lies { name, branches: vec!["one".into()], logs: Vec::new() });
    }
    for at in draw.replicas.clone() {
        draw.steps.push(Step::Agent { at });
    }
    for at in draw.relays.clone() {
        draw.steps.push(Step::Relay { at });
    }
    draw.lying = liars > 0 && draw.dice.one_in(3);
    draw.forking = draw.lying && draw.dice.one_in(2);
    let many = 165 + draw.dice.roll(50);
    // A world has few kinds of faults, so that they meet one another often and the rest works.
    let faults: Vec<u64> = (0..4).map(|_| draw.dice.roll(FAULTS)).collect();
    // In a calm world passages are most of what goes wrong, so that more is promised of it.
    let is_calm = draw.dice.one_in(4);
    let passages = if is_calm { 2 + draw.dice.roll(4) } else { draw.dice.roll(3) };
    let places: Vec<u64> = (0..passages).map(|_| draw.dice.roll(many)).collect();
    let mut visits = Vec::new();
    for visit in 0..VISITS {
        if draw.dice.one_in(4) {
            visits.push((draw.dice.roll(many), visit));
        }
    }
    for step in 0..many {
        for (_, visit) in visits.iter().filter(|(place, _)| *place == step) {
            draw.visit(*visit);
        }
        for _ in places.iter().filter(|place| **place == step) {
            draw.passage();
        }
        draw.step(&faults, is_calm);
    }
    if draw.dice.one_in(150) {
        let at = draw.replica();
        draw.steps.push(Step::Crowd { at, many: 250 });
    }
    draw.steps.push(Step::Heal);
    draw.steps
}

impl Draw {
    pub(crate) fn any(&mut self) -> String {
        let all = self.replicas.len() + self.relays.len();
        let at = self.dice.index(all);
        self.replicas.iter().chain(&self.relays).nth(at).cloned().unwrap_or_default()
    }

    pub(crate) fn replica(&mut self) -> String {
        let at = self.dice.index(self.replicas.len());
        self.replicas[at].clone()
    }

    fn pair(&mut self) -> (String, String) {
        loop {
            let (from, to) = (self.any(), self.any());
            if from != to {
                return (from, to);
            }
        }
    }

    pub(crate) fn topic(&mut self) -> String {
        TOPICS[self.dice.index(4) / 3].into()
    }

    pub(crate) fn key(&mut self) -> String {
        KEYS[self.dice.index(KEYS.len())].into()
    }

    pub(crate) fn value(&mut self) -> String {
        self.unique += 1;
        // Some are large, so that logs are compacted.
        let filling = if self.unique.is_multiple_of(9) { "x".repeat(300) } else { String::new() };
        format!("v{}{filling}", self.unique)
    }

    fn step(&mut self, faults: &[u64], is_calm: bool) {
        let step = match self.dice.roll(100) {
            0..50 if self.lying => self.lie(),
            0..42 => self.write(),
            42..62 => {
                let (from, to) = self.pair();
                let loss = [0, 0, 10, 30][self.dice.index(4)];
                Step::Meet { from, to, ms: 200 + self.dice.roll(2_000), loss }
            }
            62..67 => self.link(),
            67..72 => {
                let (from, to) = self.pair();
                Step::Cut { from, to, noticed: self.dice.one_in(2) }
            }
            72..78 => Step::Advance { ms: [200, 2_000, 40_000, 700_000][self.dice.index(4)] },
            78..81 => {
                let (from, to) = (self.replica(), self.replica());
                Step::Bundle { from, to, whole: self.dice.one_in(3), topic: None }
            }
            81..84 => {
                let at = self.any();
                self.steps.push(Step::Kill { at: at.clone(), written: [0, 0, 37, 100][self.dice.index(4)] });
                Step::Start { at }
            }
            84..86 => {
                let at = self.any();
                self.steps.push(Step::Stop { at: at.clone() });
                Step::Start { at }
            }
            86..93 if is_calm => self.write(),
            86..93 => {
                let fault = faults[self.dice.index(faults.len())];
                self.fault(fault)
            }
            _ if self.liars.is_empty() => self.write(),
            _ => self.lie(),
        };
        self.steps.push(step);
    }

    fn write(&mut self) -> Step {
        let (at, topic) = (self.replica(), self.topic());
        let map = if self.dice.one_in(4) { "notes" } else { "tasks" }.to_owned();
        match self.dice.roll(20) {
            0..9 => Step::Set { at, topic, map, key: self.key(), value: self.value() },
            9..12 => Step::Remove { at, topic, map, key: self.key() },
            12 => Step::Insert { at, topic, set: "members".into(), element: self.key() },
            13 => Step::Take { at, topic, set: "members".into(), element: self.key() },
            14 => {
                let (coupling, key, by) = ("trust".into(), self.key(), 1 + self.dice.roll(9) as u32);
                if self.dice.one_in(4) {
                    Step::Weaken { at, topic, coupling, key, by }
                } else {
                    Step::Strengthen { at, topic, coupling, key, by }
                }
            }
            15 if self.dice.one_in(32) => {
                // What would stay of many is more than what a process may have.
                let many = if self.dice.one_in(4) { 700 } else { 150 };
                Step::Churn { at, topic, many }
            }
            16 if self.dice.one_in(3) => Step::Prune { at, topic, keep: self.dice.roll(4) },
            17 if self.dice.one_in(3) => {
                let topic = (!self.dice.one_in(3)).then(|| "*".to_owned());
                Step::Subscribe { at, topic }
            }
            _ => Step::Event { at, topic, text: self.value() },
        }
    }

    fn link(&mut self) -> Step {
        let (from, to) = self.pair();
        let loss = [0, 0, 5, 30][self.dice.index(4)];
        let repeats = [0, 0, 10, 50][self.dice.index(4)];
        let delay = [2, 20, 150, 20, 150, 5_000][self.dice.index(6)];
        let one_way = self.dice.one_in(12);
        let scope = if self.dice.one_in(5) { vec![self.topic()] } else { Vec::new() };
        Step::Link { from, to, loss, repeats, delay, scope, one_way }
    }

    fn fault(&mut self, kind: u64) -> Step {
        match kind {
            0 => {
                let at = self.any();
                let ahead = [0, 0, 60_000, 3 * DAY as i64, YEARS, -YEARS, -40_000][self.dice.index(7)];
                Step::Clock { at, ahead }
            }
            1 => {
                let at = self.replica();
                self.clones += 1;
                let to = format!("clone{}", self.clones);
                if self.clones <= 2 {
                    self.replicas.push(to.clone());
                }
                Step::Copy { at, to }
            }
            2 | 3 => {
                let at = self.replica();
                let found = self.backups.iter().position(|(host, _)| *host == at);
                match found {
                    Some(found) if self.dice.one_in(2) => {
                        let (at, name) = self.backups.remove(found);
                        Step::Restore { at, name, said: kind == 2 }
                    }
                    _ => {
                        let name = format!("backup{}", self.backups.len() + self.steps.len());
                        self.backups.push((at.clone(), name.clone()));
                        Step::Backup { at, name }
                    }
                }
            }
            4 => Step::StartEmpty { at: self.any() },
            5 => {
                let when = [When::AtOnce, When::Late, When::Unconfirmed][self.dice.index(3)];
                Step::Stores { at: self.any(), when }
            }
            6 => Step::Polls { at: self.any(), polls: self.dice.one_in(2) },
            7 => Step::Purge { at: self.replica(), topic: self.topic() },
            8 => Step::Rot { at: self.any(), place: self.dice.roll(1_000) },
            9 => Step::Entropy { at: self.replica(), again: !self.dice.one_in(3) },
            10 => Step::Advance { ms: (25 + self.dice.roll(40)) * DAY },
            _ => {
                let filters = if self.dice.one_in(2) { vec![self.topic()] } else { Vec::new() };
                Step::Scope { at: self.replica(), filters }
            }
        }
    }

    fn lie(&mut self) -> Step {
        let number = self.dice.index(self.liars.len());
        let (topic, host) = (self.topic(), self.replica());
        let forking = self.forking;
        if self.dice.one_in(12) {
            let by = self.liars[number].name.clone();
            return Step::Guess { by, topic, of: self.replica(), host };
        }
        let is_event = if forking { !self.dice.one_in(4) } else { self.dice.one_in(4) };
        let kind = if is_event { Kind::Event } else { Kind::State };
        let topic = if forking { TOPICS[0].to_owned() } else { topic };
        let mut writes = (0..=self.dice.roll(4)).map(|_| (self.key(), self.value())).collect::<Vec<_>>();
        if self.dice.one_in(12) {
            writes.insert(0, (FAR.into(), self.key()));
        }
        let dice = &mut self.dice;
        let liar = &mut self.liars[number];
        let by = liar.name.clone();
        if liar.logs.is_empty() || dice.one_in(3) {
            let mut like = None;
            let forks = dice.one_in(if forking { 1 } else { 3 });
            if !liar.logs.is_empty() && liar.branches.len() < 4 && forks {
                like = Some(liar.branches[dice.index(liar.branches.len())].clone());
                liar.branches.push(format!("branch{}", liar.branches.len()));
            }
            let branch = match &like {
                Some(_) => liar.branches.last().cloned().unwrap_or_default(),
                None => liar.branches[dice.index(liar.branches.len())].clone(),
            };
            let incarnation = 1 + dice.roll(if forking { 2 } else { 4 });
            let log = (topic.clone(), kind, incarnation);
            if !liar.logs.contains(&log) {
                liar.logs.push(log);
            }
            let mut closes: Vec<(u64, u64)> = Vec::new();
            if kind == Kind::State && dice.one_in(2) {
                for lower in 1..incarnation {
                    if dice.one_in(2) {
                        closes.push((lower, 1 + dice.roll(9)));
                    }
                }
            }
            let last_final = (kind == Kind::State && dice.one_in(8)).then(|| 1 + dice.roll(incarnation));
            let base = if dice.one_in(2) { 0 } else { dice.roll(12) };
            let ahead = if dice.one_in(12) { 400 * DAY } else { 0 };
            return Step::Sign(Sign {
                by,
                branch,
                like,
                topic,
                kind,
                incarnation,
                writes,
                base,
                closes,
                last_final,
                ahead,
            });
        }
        let (topic, kind, incarnation) = liar.logs[dice.index(liar.logs.len())].clone();
        let branch = liar.branches[dice.index(liar.branches.len())].clone();
        let from = if dice.one_in(2) { 0 } else { dice.roll(10) };
        let to = if dice.one_in(2) { u64::from(u32::MAX) } else { from + dice.roll(10) };
        Step::Give { by, branch, topic, kind, incarnation, from, to, host }
    }
}
