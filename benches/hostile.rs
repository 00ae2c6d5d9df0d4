//! A search for the bytes that cost a replica the most: `cargo bench --bench hostile [-- SECONDS [SEED]]`. One JSON line.
//!
//! A member composes entries of its own logs, signed, and hands them over in bundles. What it writes is a short *program* of
//! acts, run again and again: keys written over, removed by names of dots that are there or not, sets, couplings, bases that
//! rise at once or late, closures of its own earlier logs that hold much, given back the next time, new logs and new topics,
//! given up events, forks, bytes that are nothing. The search changes the program that was worst so far, or makes up another,
//! and measures the processor's time that the replica takes for each byte that it received: the bundle, what has to be stored
//! of it, and the notices. The replica holds 20,000 entries of others and as many of the member's.
//!
//! The figure is the least of three measurements of the worst program, in microseconds a byte.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark: inputs made here, and a clock"
)]

use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{env, fs};

use consilience::sync::{
    Answer, Closure, Hlc, Incarnation, Limits, LogId, LogKind, LogOpening, LogSet, NewEntry, RangeForm,
    Timestamp, Topic, Want,
};
use consilience_test_support::hand;
use consilience_test_support::replicas::{Dice, Node, START, at, keys, mesh, schema};
use serde_json::json;

/// Entries of others, and of the member's earlier logs.
const HELD: u64 = 20_000;
/// Acts of a program, at most.
const ACTS_MAX: usize = 4;
/// Bytes that are handed over for one measurement, about.
const BYTES: usize = 60_000;
/// The member's number.
const MEMBER: u8 = 9;

#[derive(Clone, Copy, Debug)]
enum Payload {
    Nothing,
    Set { key: u16, value: u16 },
    Remove { names: u16, there: bool },
    End { names: u16 },
    Strengthen { key: u16 },
    Collections { count: u16 },
    Nonsense { bytes: u16 },
}

#[derive(Clone, Copy, Debug)]
enum Base {
    Stays,
    Last,
    All,
}

#[derive(Clone, Copy, Debug)]
enum Log {
    Same,
    NextIncarnation,
    OtherTopic,
    Events,
    Fork,
}

#[derive(Clone, Copy, Debug)]
struct Act {
    payload: Payload,
    base: Base,
    /// Whether it closes the log that holds much.
    closes: bool,
    log: Log,
    /// How often it is done before the next act.
    times: u16,
    /// Whether it is signed and handed over by itself.
    alone: bool,
}

fn act(dice: &mut Dice) -> Act {
    let few = |dice: &mut Dice, max: u64| 1 + dice.roll(max) as u16;
    let payload = match dice.roll(7) {
        0 => Payload::Nothing,
        1 => Payload::Set { key: few(dice, 300), value: few(dice, 40) },
        2 => Payload::Remove { names: few(dice, 60), there: dice.one_in(2) },
        3 => Payload::End { names: few(dice, 60) },
        4 => Payload::Strengthen { key: few(dice, 300) },
        5 => Payload::Collections { count: few(dice, 20) },
        _ => Payload::Nonsense { bytes: few(dice, 60) },
    };
    let base = [Base::Stays, Base::Last, Base::All][dice.index(3)];
    let log = match dice.roll(12) {
        0 => Log::NextIncarnation,
        1 => Log::OtherTopic,
        2 | 3 => Log::Events,
        4 => Log::Fork,
        _ => Log::Same,
    };
    Act { payload, base, closes: dice.one_in(3), log, times: few(dice, 40), alone: dice.one_in(2) }
}

/// Changes one act, or takes one in or out.
fn changed(program: &[Act], dice: &mut Dice) -> Vec<Act> {
    let mut program = program.to_vec();
    let place = dice.index(program.len());
    match dice.roll(5) {
        0 if program.len() < ACTS_MAX => program.insert(place, act(dice)),
        1 if program.len() > 1 => drop(program.remove(place)),
        2 => program[place].times = 1 + dice.roll(40) as u16,
        3 => {
            let other = act(dice);
            let here = &mut program[place];
            match dice.roll(4) {
                0 => here.payload = other.payload,
                1 => here.base = other.base,
                2 => here.log = other.log,
                _ => (here.closes, here.alone) = (other.closes, other.alone),
            }
        }
        _ => program[place] = act(dice),
    }
    program
}

/// The member's logs, and how much of each was handed over.
#[derive(Clone)]
struct Member {
    set: LogSet,
    log: LogId,
    events: LogId,
    much: u64,
    incarnation: u64,
    topics: u64,
    ms: u64,
    sent: Vec<(LogId, u64)>,
    parts: Vec<(u8, Vec<u8>)>,
    dice: Dice,
}

fn opening(topic: &str, kind: LogKind, incarnation: u64) -> LogOpening {
    let (topic, agent) = (Topic::new(topic).unwrap(), consilience::sync::Signer::agent(&keys(MEMBER)));
    LogOpening { topic, kind, agent, incarnation: Incarnation::from_u64(incarnation) }
}

/// An incarnation number of about that time.
fn incarnation(number: u64) -> u64 {
    (START << 16) + number
}

impl Member {
    fn new() -> Self {
        let mut limits = Limits::default();
        (limits.logs_max, limits.logs_per_agent_max) = (usize::MAX, usize::MAX);
        let mut set = LogSet::new(mesh(), limits);
        let much = set.open_local(&opening("team", LogKind::State, incarnation(1))).unwrap();
        let log = set.open_local(&opening("team", LogKind::State, incarnation(2))).unwrap();
        let events = set.open_local(&opening("team", LogKind::Event, incarnation(2))).unwrap();
        let mut member = Self {
            set,
            log: much,
            events,
            much: HELD,
            incarnation: 2,
            topics: 0,
            ms: 0,
            sent: Vec::new(),
            parts: Vec::new(),
            dice: Dice::new(5),
        };
        for number in 0..HELD {
            let payload = hand::on_tasks(&[], hand::op_set(&format!("much/{number}"), "value", &[]));
            member.append(&NewEntry::new(member.stamp(), &payload), much);
        }
        member.hand_over(much);
        member.log = log;
        member
    }

    fn stamp(&self) -> Hlc {
        Hlc::new(at(self.ms / 1_000), (self.ms % 1_000) as u16)
    }

    fn append(&mut self, entry: &NewEntry<'_>, log: LogId) {
        self.ms += 1;
        // What its own log refuses it cannot sign.
        let _ = self.set.append(&log, &NewEntry { salt: (self.ms as u32).to_le_bytes(), ..*entry });
    }

    /// Signs what is new in a log, and puts it with what goes next.
    fn hand_over(&mut self, log: LogId) {
        if self.set.sign_head(&log, &keys(MEMBER), at(self.ms / 1_000)).is_err() {
            return;
        }
        let held = self.set.log(&log).unwrap();
        let from = self.sent.iter().find(|(sent, _)| *sent == log).map(|(_, size)| *size);
        let (mut from, to) = (from.unwrap_or(0), held.signed_size());
        self.parts.push((1, held.opening().encode(&mesh())));
        while from < to {
            let want = Want { from, to, form: RangeForm::Follow };
            let Answer::Range { bytes, end } = self.set.answer(&log, &want, 60_000) else { break };
            self.parts.push((3, [&log.alias()[..], &bytes].concat()));
            from = end;
        }
        self.sent.retain(|(sent, _)| *sent != log);
        self.sent.push((log, to));
    }

    fn payload(&mut self, payload: Payload) -> Vec<u8> {
        let other = self.set.log(&self.log).unwrap().id().alias();
        let names = |dice: &mut Dice, count: u16| -> Vec<hand::Name> {
            (0..count).map(|_| (0, dice.roll(HELD), 0, [dice.roll(256) as u8; 4])).collect()
        };
        match payload {
            Payload::Nothing => Vec::new(),
            Payload::Set { key, value } => {
                let (key, value) =
                    (format!("k{}", self.dice.roll(u64::from(key))), "v".repeat(value as usize));
                hand::on_tasks(&[], hand::op_set(&key, &value, &[]))
            }
            Payload::Remove { names: count, there } => {
                let names = names(&mut self.dice, count);
                let key = if there { format!("much/{}", names[0].1) } else { "nowhere".into() };
                hand::on_tasks(&[other], hand::op_remove(&key, &names))
            }
            Payload::End { names: count } => {
                hand::on_tasks(&[other], hand::op_end(&names(&mut self.dice, count)))
            }
            Payload::Strengthen { key } => {
                let key = format!("k{}", self.dice.roll(u64::from(key)));
                let instant = (START + 1_000) * 1_024;
                let op = hand::op_strengthen(&key, instant);
                hand::payload(&[], &[(hand::coupling_id("trust", &schema()), vec![op])])
            }
            Payload::Collections { count } => {
                let sections = (0..count).map(|number| {
                    let op = hand::op_set("k", "v", &[]);
                    (
                        hand::map_id(&format!("c{:05}", self.ms as u32 % 1_000 * 20 + u32::from(number))),
                        vec![op],
                    )
                });
                hand::payload(&[], &sections.collect::<Vec<_>>())
            }
            Payload::Nonsense { bytes } => (0..bytes).map(|_| self.dice.roll(256) as u8).collect(),
        }
    }

    fn log_for(&mut self, log: Log) -> LogId {
        match log {
            Log::Events => self.events,
            Log::NextIncarnation => {
                self.incarnation += 1;
                self.log = self
                    .set
                    .open_local(&opening("team", LogKind::State, incarnation(self.incarnation)))
                    .unwrap();
                self.log
            }
            Log::OtherTopic => {
                self.topics += 1;
                let topic = format!("team/{}", self.topics % 200);
                self.set.open_local(&opening(&topic, LogKind::State, incarnation(2))).unwrap()
            }
            Log::Same | Log::Fork => self.log,
        }
    }

    fn act(&mut self, act: &Act) {
        let payload = self.payload(act.payload);
        let log = self.log_for(act.log);
        let held = self.set.log(&log).unwrap();
        let base = match act.base {
            Base::Stays => held.base(),
            Base::Last => held.size().saturating_sub(1).max(held.base()),
            Base::All => held.size(),
        };
        let closures = [Closure { incarnation: Incarnation::from_u64(incarnation(1)), below: self.much }];
        let closures: &[Closure] =
            if act.closes && held.opening().topic.as_str() == "team" && !matches!(act.log, Log::Events) {
                &closures
            } else {
                &[]
            };
        let stamp = self.stamp();
        if matches!(act.log, Log::Fork) {
            // Another history of the log, from here on.
            let mut other = self.set.clone();
            let _ = other.append(&log, &NewEntry { base, ..NewEntry::new(stamp, b"other") });
            if other.sign_head(&log, &keys(MEMBER), at(self.ms / 1_000)).is_ok() {
                let size = other.log(&log).unwrap().signed_size();
                let want = Want { from: size - 1, to: size, form: RangeForm::Alone };
                if let Answer::Range { bytes, .. } = other.answer(&log, &want, 60_000) {
                    self.parts.push((1, other.log(&log).unwrap().opening().encode(&mesh())));
                    self.parts.push((3, [&log.alias()[..], &bytes].concat()));
                }
            }
        }
        self.append(&NewEntry { base, closures, ..NewEntry::new(stamp, &payload) }, log);
        if act.alone {
            self.hand_over(log);
        }
    }

    /// The bundle that goes next.
    fn bundle(&mut self) -> Vec<u8> {
        for log in [self.log, self.events] {
            self.hand_over(log);
        }
        hand::bundle(&mesh(), &core::mem::take(&mut self.parts))
    }
}

/// How everything is before the member's program begins.
struct World {
    /// Entries of somebody else.
    others: Vec<u8>,
    /// The member's log that holds much.
    much: Vec<u8>,
    member: Member,
}

impl World {
    fn new() -> Self {
        let mut other = Node::fresh(2, 4);
        for chunk in 0..HELD / 100 {
            other.write(at(0), |tx| {
                for number in 0..100 {
                    tx.map("tasks").set(format!("key/{}", chunk * 100 + number), "value").unwrap();
                }
            });
            other.store();
        }
        let others = other.replica.export_bundle(|_| true, None, at(1)).unwrap();
        let mut member = Member::new();
        Self { others, much: member.bundle(), member }
    }
}

/// What a program costs: microseconds and bytes.
fn cost(world: &World, program: &[Act]) -> (f64, usize) {
    let (mut node, mut member) = (Node::fresh(1, 2), world.member.clone());
    node.replica.subscribe("*").unwrap();
    take(&mut node, &world.others, at(1));
    take(&mut node, &world.much, at(1));
    let (mut spent, mut bytes) = (Duration::ZERO, 0);
    let limit = Duration::from_secs(4);
    while bytes < BYTES && spent < limit {
        let before = member.ms;
        for act in program {
            for _ in 0..act.times {
                member.act(act);
            }
        }
        if member.ms == before {
            break;
        }
        let bundle = member.bundle();
        let now = at(2 + member.ms / 1_000);
        let started = on_processor();
        take(&mut node, &bundle, now);
        spent += on_processor().saturating_sub(started);
        bytes += bundle.len();
    }
    (spent.as_secs_f64() * 1e6, bytes)
}

/// How long this thread was on a processor, where the system says so: else the time that passed.
fn on_processor() -> Duration {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    let said = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = said.and_then(|said| said.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| BEGUN.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

fn take(node: &mut Node, bundle: &[u8], now: Timestamp) {
    // What is refused costs as well.
    let _ = node.replica.import_bundle(bundle, now);
    node.store();
    while node.replica.poll_notice().is_some() {}
}

fn main() {
    let words: Vec<u64> = env::args().filter_map(|word| word.parse().ok()).collect();
    let (seconds, seed) = (words.first().copied().unwrap_or(2), words.get(1).copied().unwrap_or(1));
    let (mut dice, world) = (Dice::new(seed), World::new());
    let (mut worst, mut figure, mut programs) = (vec![act(&mut dice)], 0.0, 0_u32);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end || programs == 0 {
        let program = if programs == 0 || dice.one_in(3) {
            (0..1 + dice.roll(ACTS_MAX as u64)).map(|_| act(&mut dice)).collect()
        } else {
            changed(&worst, &mut dice)
        };
        programs += 1;
        let (spent, bytes) = cost(&world, &program);
        let found = spent / bytes.max(1) as f64;
        if bytes > 0 && found > figure {
            (worst, figure) = (program, found);
            eprintln!("{programs}: {figure:.3} us a byte, {bytes} bytes: {worst:?}");
        }
    }
    let again = (0..3).map(|_| cost(&world, &worst)).map(|(spent, bytes)| spent / bytes as f64);
    let least = again.fold(f64::INFINITY, f64::min);
    let least = (least * 1_000.0).round() / 1_000.0;
    println!("{}", json!({ "workload": "hostile", "us_a_byte": least, "programs": programs, "seed": seed }));
}
