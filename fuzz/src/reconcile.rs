//! Sets to be reconciled, one side in each phase of a conversation, and two sides between which messages are lost,
//! repeated and changed.
//!
//! Whatever happens: nothing panics, a refused message changes nothing, and what is sent and done is bounded by what was
//! received. Once nothing is lost or changed any more, a few passes make the sets equal.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use consilience_sync::reconcile::{
    KeyRange, Limits, MessageError, Mode, Options, ReconcileSet, Reconciliation, Status, Step,
};

type Id = [u8; 32];

const KEY: [u8; 32] = [7; 32];
/// Several levels of ranges, and cells that decode most of the difference.
const SHARED: u64 = 400;
const ALONE: u64 = 90;
/// The smallest, so that answers take turns.
const FRAME: usize = 512;
const AMPLIFICATION: u64 = 4;
/// So many messages of one input are handled.
const FRAMES_MAX: usize = 12;
/// So many turns between honest sides are more than any of these sets takes.
const TURNS_MAX: usize = 4_000;
const STEPS_MAX: usize = 64;

fn id(n: u64) -> Id {
    *blake3::hash(&n.to_le_bytes()).as_bytes()
}

/// Ids that share one short id under [`KEY`]: both factors of the keyed products are zero. No hash is one of them; who
/// grinds finds such pairs.
fn colliding(n: u64) -> Id {
    let key = blake3::derive_key("consilience reconcile short id v1", &KEY);
    let mut id = id(n);
    id[..8].copy_from_slice(&key[..8]);
    id[16..24].copy_from_slice(&key[16..24]);
    id
}

fn key(n: u64) -> Vec<u8> {
    match n % 4 {
        0 => Vec::new(),
        1 => b"team\0".to_vec(),
        2 => format!("team\0{}\0", n / 4 % 5).into_bytes(),
        _ => vec![0xaa; 176],
    }
}

fn set_of(numbers: impl IntoIterator<Item = u64>) -> ReconcileSet {
    let mut set = ReconcileSet::new(&KEY, 1);
    for n in numbers {
        set.insert(&key(n), &id(n)).unwrap();
    }
    set
}

/// One side as it waits for a message, and what it may be sent.
pub struct Scene {
    name: &'static str,
    config: Options,
    machine: Reconciliation,
    set: ReconcileSet,
    /// The number of the message that comes next.
    number: u64,
    /// What an honest peer sends next, if anything.
    pub next: Option<Vec<u8>>,
}

fn guarded(mode: Mode, announce: bool) -> Options {
    let limits =
        Limits { message_bytes: FRAME, amplification: Some(AMPLIFICATION), work: 5_000, ..Limits::default() };
    Options { salt: [3; 32], mode, announce, limits, ..Options::default() }
}

/// Both sides of a conversation at each of its messages.
fn conversation(name: &'static str, opens: Options, accepts: Options, left: u64, scenes: &mut Vec<Scene>) {
    let mut sets =
        [set_of((0..SHARED).chain(1_000..1_000 + left)), set_of((0..SHARED).chain(2_000..2_000 + ALONE))];
    let configs = [opens.clone(), accepts.clone()];
    let (opener, first) = Reconciliation::start(&mut sets[0], opens);
    let mut machines = [opener, Reconciliation::accept(accepts)];
    let mut message = Some(first);
    let (mut number, mut who) = (0, 1);
    while let Some(bytes) = message {
        for side in [who, 1 - who] {
            let next = (side == who).then(|| bytes.clone());
            // The one that does not wait for this message waits for the next.
            let number = if side == who { number } else { number + 1 };
            let (config, machine, set) = (configs[side].clone(), machines[side].clone(), sets[side].clone());
            scenes.push(Scene { name, config, machine, set, number, next });
        }
        let mut step = machines[who].handle(&mut sets[who], &bytes).unwrap();
        while step.status == Status::NeedsBudget {
            let (config, machine, set) = (configs[who].clone(), machines[who].clone(), sets[who].clone());
            scenes.push(Scene { name, config, machine, set, number: number + 1, next: None });
            machines[who].grant(1_000);
            step = machines[who].resume(&mut sets[who]).unwrap();
        }
        message = step.message;
        number += 1;
        who = 1 - who;
    }
    for (config, (machine, set)) in configs.into_iter().zip(machines.into_iter().zip(sets)) {
        scenes.push(Scene { name, config, machine, set, number, next: None });
    }
}

/// One side in every phase: not yet opened, opened in each way, sending and receiving cells, comparing ranges, waiting
/// for budget, ended.
pub fn scenes() -> Vec<Scene> {
    let mut scenes = Vec::new();
    let (auto, ranges) = (guarded(Mode::Auto, true), guarded(Mode::Ranges, false));
    let root = Options { equal_last_time: true, ..auto.clone() };
    let scoped = Options { scope: KeyRange::prefix(b"team\0").unwrap(), ..auto.clone() };
    let poor =
        |config: &Options| Options { limits: Limits { work: 1, ..config.limits.clone() }, ..config.clone() };
    conversation("cells", auto.clone(), auto.clone(), ALONE, &mut scenes);
    conversation("root", root, auto.clone(), 2, &mut scenes);
    conversation("ranges", ranges.clone(), ranges.clone(), ALONE, &mut scenes);
    conversation("scope", scoped.clone(), auto, ALONE, &mut scenes);
    conversation("poor", poor(&ranges), poor(&scoped), ALONE, &mut scenes);
    // Long conversations are alike in their middle.
    let mut kept: Vec<Scene> = Vec::new();
    for scene in scenes {
        if scene.number < 6 || scene.number % 16 < 2 || scene.next.is_none() {
            kept.push(scene);
        }
    }
    kept
}

/// Frames as an input.
pub fn input<'a>(messages: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for message in messages {
        out.extend_from_slice(&(message.len() as u16).to_le_bytes());
        out.extend_from_slice(message);
    }
    out
}

/// Frames from an input: each behind its length in two bytes.
pub fn messages(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk() {
        let (message, rest) = rest.split_at(usize::from(u16::from_le_bytes(*len)).min(rest.len()));
        messages.push(message);
        bytes = rest;
    }
    messages.truncate(FRAMES_MAX);
    messages
}

/// The message under another number, so that it gets past the check of it.
fn numbered(message: &[u8], number: u64) -> Option<Vec<u8>> {
    let [kind, rest @ ..] = message else { return None };
    let body = rest.iter().position(|byte| *byte < 0x80)? + 1;
    let mut out = vec![*kind];
    let mut number = number;
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out.extend_from_slice(&rest[body..]);
    Some(out)
}

/// Gives budget until the step is done. What it hands out is what there is to hand out.
fn settle(machine: &mut Reconciliation, set: &mut ReconcileSet, step: Step) -> Step {
    let mut all = step;
    for granted in 0.. {
        assert!(all.push.iter().all(|id| set.contains(id)), "only what is held is handed out");
        if all.status != Status::NeedsBudget {
            break;
        }
        assert!(all.message.is_none() && granted < TURNS_MAX, "budget is used up for nothing");
        machine.grant(10_000);
        let next = machine.resume(set).unwrap();
        all.message = next.message;
        all.status = next.status;
        all.push.extend(next.push);
        all.want.extend(next.want);
    }
    all
}

impl Scene {
    /// Handles any messages, first as they are, then under the number that comes next.
    pub fn receive(&mut self, messages: &[&[u8]]) {
        let mut machine = self.machine.clone();
        let start = (machine.report().work, machine.report().bytes_received, machine.report().bytes_sent);
        let mut number = self.number;
        let mut handled = 0;
        for message in messages {
            let again = numbered(message, number);
            for bytes in [Some(message.to_vec()), again].into_iter().flatten() {
                let before = machine.to_bytes();
                match machine.handle(&mut self.set, &bytes) {
                    Ok(step) => {
                        let step = settle(&mut machine, &mut self.set, step);
                        number += 1 + u64::from(step.message.is_some());
                        handled += 1;
                        self.bounded(&machine, &step, start, handled);
                        let state = machine.to_bytes();
                        let read = Reconciliation::from_bytes(self.config.clone(), &state).unwrap();
                        assert_eq!(read.to_bytes(), state, "{}: a state survives its bytes", self.name);
                        break;
                    }
                    Err(error) => {
                        assert_eq!(machine.to_bytes(), before, "{}: {error} changes nothing", self.name);
                        if error == MessageError::Waiting {
                            machine.grant(10_000);
                            let step = machine.resume(&mut self.set).unwrap();
                            let step = settle(&mut machine, &mut self.set, step);
                            number += u64::from(step.message.is_some());
                            handled += 1;
                            self.bounded(&machine, &step, start, handled);
                        }
                    }
                }
            }
        }
    }

    fn bounded(&self, machine: &Reconciliation, step: &Step, start: (u64, u64, u64), handled: u64) {
        let report = machine.report();
        let message = step.message.as_ref().map_or(0, Vec::len);
        assert!(message <= FRAME, "{}: {message} bytes in a message", self.name);
        assert!(
            report.bytes_sent <= AMPLIFICATION * report.bytes_received + FRAME as u64,
            "{}: {report:?}",
            self.name
        );
        // A message can ask about everything once; beyond that, work follows the bytes.
        let (work, received, sent) = start;
        let bytes = 20 * (report.bytes_received - received) + 10 * (report.bytes_sent - sent);
        let bound = (handled + 1) * 4 * self.set.len() as u64 + bytes;
        assert!(report.work - work <= bound, "{}: {} above {bound}", self.name, report.work - work);
    }

    /// Takes any bytes for a state: refused, or the state that has these bytes, which goes on.
    pub fn restore(&mut self, bytes: &[u8]) {
        let Ok(mut machine) = Reconciliation::from_bytes(self.config.clone(), bytes) else { return };
        assert_eq!(machine.to_bytes(), bytes, "one form only");
        let messages = [self.next.clone(), Some(vec![0x13, 0]), Some(vec![0x14, 1, 0, 0, 0, 0x20, 0, 1])];
        for message in messages.into_iter().flatten() {
            let before = machine.to_bytes();
            match machine.handle(&mut self.set, &message) {
                Ok(step) => {
                    let _ = settle(&mut machine, &mut self.set, step);
                }
                Err(MessageError::Waiting) => {
                    let step = machine.resume(&mut self.set).unwrap();
                    let _ = settle(&mut machine, &mut self.set, step);
                }
                Err(_) => assert_eq!(machine.to_bytes(), before, "an error changes nothing"),
            }
        }
    }

    /// A conversation and the number of the message that comes next.
    pub fn name(&self) -> (&'static str, u64) {
        (self.name, self.number)
    }

    /// The state as bytes: a seed.
    pub fn state(&self) -> Vec<u8> {
        self.machine.to_bytes()
    }
}

/// Two sets, how they are reconciled, and what goes wrong on the way.
#[derive(Clone, Debug, Arbitrary)]
pub struct Session {
    pub shared: u8,
    pub left: Vec<Item>,
    pub right: Vec<Item>,
    pub ranges: (bool, bool),
    pub announce: (bool, bool),
    pub equal_last_time: bool,
    pub message: u8,
    pub work: u8,
    pub scoped: bool,
    pub faults: Vec<Fault>,
}

/// An item by its number. Those that collide have one short id.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub struct Item {
    pub number: u8,
    pub collides: bool,
}

/// What happens to the message that is on its way. Numbers are indices, taken modulo how many there are.
#[derive(Clone, Debug, Arbitrary)]
pub enum Fault {
    /// It arrives.
    None,
    /// It is lost, and with it the conversation.
    Lost,
    /// It arrives twice.
    Twice,
    /// It arrives changed, and then as it was.
    Changed {
        at: u16,
        xor: u8,
        cut: bool,
    },
    /// It arrives at its sender.
    Reflected,
    /// An old message arrives first.
    Old {
        message: u8,
    },
    /// Both sides are put aside as bytes and taken up again.
    Restarted,
    /// A set changes.
    Inserted {
        left: bool,
        item: Item,
    },
    Removed {
        left: bool,
        rank: u16,
    },
}

impl Item {
    fn insert(self, set: &mut ReconcileSet) {
        let number = u64::from(self.number);
        if self.collides {
            set.insert(b"", &colliding(number)).unwrap();
        } else {
            set.insert(&key(number), &id(number)).unwrap();
        }
    }
}

/// One side while it talks.
struct Talk {
    config: Options,
    machine: Reconciliation,
    pushed: Vec<Id>,
    done: bool,
}

impl Talk {
    fn new(config: &Options, machine: Reconciliation) -> Self {
        Self { config: config.clone(), machine, pushed: Vec::new(), done: false }
    }

    /// Handles a message. An error changes nothing.
    fn handle(&mut self, set: &mut ReconcileSet, message: &[u8]) -> Result<Option<Vec<u8>>, MessageError> {
        let before = self.machine.to_bytes();
        let step = match self.machine.handle(set, message) {
            Ok(step) => settle(&mut self.machine, set, step),
            Err(error) => {
                assert_eq!(self.machine.to_bytes(), before, "{error} changes nothing");
                return Err(error);
            }
        };
        assert!(
            step.message.as_ref().is_none_or(|message| message.len() <= self.config.limits.message_bytes)
        );
        self.done |= matches!(step.status, Status::Done(_));
        self.pushed.extend(step.push);
        Ok(step.message)
    }

    fn restart(&mut self) {
        let bytes = self.machine.to_bytes();
        self.machine = Reconciliation::from_bytes(self.config.clone(), &bytes).unwrap();
        assert_eq!(self.machine.to_bytes(), bytes);
    }
}

fn carry(from: &ReconcileSet, to: &mut ReconcileSet, pushed: &[Id]) {
    for id in pushed {
        if let Some(key) = from.key_of(id) {
            to.insert(key, id).unwrap();
        }
    }
}

impl Session {
    fn config(&self, side: usize, mode: Mode, salt: u8) -> Options {
        let pick = |pair: (bool, bool)| if side == 0 { pair.0 } else { pair.1 };
        let message_bytes = [512, 513, 700, 1_200, 4_096, 65_536, 1 << 20][usize::from(self.message) % 7];
        let work = if self.work < 128 { u64::from(self.work) * 8 } else { 1 << 26 };
        Options {
            salt: [salt; 32],
            mode,
            announce: pick(self.announce),
            equal_last_time: self.equal_last_time && salt % 2 == 1,
            limits: Limits { message_bytes, work, ..Limits::default() },
            ..Options::default()
        }
    }

    fn mode(&self, side: usize) -> Mode {
        let ranges = if side == 0 { self.ranges.0 } else { self.ranges.1 };
        if ranges { Mode::Ranges } else { Mode::Auto }
    }

    /// One conversation; whoever is `opens` begins it. What goes wrong is taken from the front of `faults`.
    fn pass(
        &self,
        sets: &mut [ReconcileSet; 2],
        opens: usize,
        modes: [Mode; 2],
        salt: u8,
        faults: &mut &[Fault],
    ) {
        let mut configs = [self.config(0, modes[0], salt), self.config(1, modes[1], salt)];
        if self.scoped && !faults.is_empty() {
            configs[opens].scope = KeyRange::prefix(b"team\0").unwrap();
        }
        let (machine, first) = Reconciliation::start(&mut sets[opens], configs[opens].clone());
        let other = Reconciliation::accept(configs[1 - opens].clone());
        let mut machines = [Some(machine), Some(other)];
        let mut talks: Vec<Talk> = (0..2)
            .map(|side| Talk::new(&configs[side], machines[usize::from(side != opens)].take().unwrap()))
            .collect();
        let mut old: Vec<Vec<u8>> = Vec::new();
        let mut who = 1 - opens;
        let mut message = first;
        let mut honest = true;
        for turn in 0.. {
            assert!(turn < TURNS_MAX, "it goes on for ever");
            let mut lost = false;
            if let [fault, rest @ ..] = faults {
                *faults = rest;
                match fault {
                    Fault::None => {}
                    Fault::Lost => lost = true,
                    Fault::Twice => old.push(message.clone()),
                    Fault::Changed { at, xor, cut } => {
                        let mut bytes = message.clone();
                        let at = usize::from(*at) % bytes.len();
                        bytes[at] ^= xor;
                        if *cut {
                            bytes.truncate(at);
                        }
                        if bytes != message
                            && let Ok(answer) = talks[who].handle(&mut sets[who], &bytes)
                        {
                            // It passed for the peer's, and the peer's comes too late.
                            honest = false;
                            let late = talks[who].handle(&mut sets[who], &message);
                            assert!(late.is_err(), "one message in each turn");
                            let Some(answer) = answer else { break };
                            old.push(std::mem::replace(&mut message, answer));
                            who = 1 - who;
                        }
                    }
                    Fault::Reflected => {
                        assert!(talks[1 - who].handle(&mut sets[1 - who], &message).is_err());
                    }
                    Fault::Old { message } => {
                        if let Some(bytes) = old.get(usize::from(*message) % old.len().max(1)) {
                            assert!(talks[who].handle(&mut sets[who], bytes).is_err());
                        }
                    }
                    Fault::Restarted => talks.iter_mut().for_each(Talk::restart),
                    Fault::Inserted { left, item } => item.insert(&mut sets[usize::from(!left)]),
                    Fault::Removed { left, rank } => {
                        let set = &mut sets[usize::from(!left)];
                        let rank = usize::from(*rank) % set.len().max(1);
                        if let Some(id) = set.select(rank).map(|item| *item.1) {
                            set.remove(&id);
                        }
                    }
                }
            }
            if lost {
                break;
            }
            match talks[who].handle(&mut sets[who], &message) {
                Ok(Some(answer)) => old.push(std::mem::replace(&mut message, answer)),
                Ok(None) => break,
                // An answer to a changed message need not be one that the peer expects.
                Err(error) => {
                    assert!(!honest, "an honest message is refused: {error}");
                    break;
                }
            }
            if let Some(again) = old.last() {
                assert!(talks[who].handle(&mut sets[who], again).is_err(), "one message in each turn");
            }
            who = 1 - who;
        }
        let [left, right] = sets;
        let before = [left.clone(), right.clone()];
        carry(&before[0], right, &talks[0].pushed);
        carry(&before[1], left, &talks[1].pushed);
    }
}

/// What both sides have to begin with.
static SETS: LazyLock<Vec<ReconcileSet>> = LazyLock::new(|| {
    let sizes = [0, 3, 60, 400, 1_500];
    let mut sets: Vec<_> = sizes.iter().map(|size| set_of(1_000..1_000 + size)).collect();
    for set in &mut sets {
        let _ = set.root();
    }
    sets
});

/// Runs a session and panics where something does not hold.
pub fn run(session: &Session) {
    let set = &SETS[usize::from(session.shared) % SETS.len()];
    let mut sets = [set.clone(), set.clone()];
    for (set, items) in sets.iter_mut().zip([&session.left, &session.right]) {
        items.iter().take(200).for_each(|item| item.insert(set));
    }
    let faults = &session.faults[..session.faults.len().min(STEPS_MAX)];
    let mut rest = faults;
    let mut salt = 0;
    while !rest.is_empty() {
        let modes = [session.mode(0), session.mode(1)];
        session.pass(&mut sets, usize::from(salt % 2 == 1), modes, salt, &mut rest);
        salt = salt.wrapping_add(1);
    }
    let ids = |set: &ReconcileSet| -> BTreeSet<Id> { set.iter().map(|item| *item.1).collect() };
    let short = |set: &ReconcileSet| -> BTreeSet<_> { set.iter().map(|item| set.short_id(item.1)).collect() };
    let collides = sets.iter().any(|set| short(set).len() != set.len()) || {
        let all = &ids(&sets[0]) | &ids(&sets[1]);
        all.iter().map(|id| sets[0].short_id(id)).collect::<BTreeSet<_>>().len() != all.len()
    };
    let mut passes = 0;
    while sets[0].root() != sets[1].root() {
        assert_ne!(ids(&sets[0]), ids(&sets[1]), "equal sets have equal roots");
        assert!(passes < if collides { 8 } else { 1 }, "{passes} passes were not enough");
        let mode = |side| if passes < 2 { session.mode(side) } else { Mode::Ranges };
        session.pass(&mut sets, passes % 2, [mode(0), mode(1)], 100 + passes as u8, &mut &[][..]);
        passes += 1;
    }
    assert_eq!(ids(&sets[0]), ids(&sets[1]), "equal roots are those of equal sets");
}
