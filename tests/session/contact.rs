//! First contact: whoever holds a branch of a forked log learns of the fork in the first round with somebody who holds
//! evidence or another branch, whoever dials, whatever the two hold of the log, and by a bundle as well.

use consilience::Notice;
use consilience::crdts::{Hlc, Timestamp};
use consilience::sync::session::SessionEvent;
use consilience::sync::{Admission, Answer, LogId, LogKind, LogOpening, RangeForm, Want};
use consilience::{Opened, Replica};

use crate::hand::{Hand, bundle, on_tasks, op_set};
use crate::meet::event;
use crate::replicas::{Dice, Disk, How, Node, TOPIC, at, config, keys, seeds};
use crate::world::{Net, Party, Weather, mesh};

/// Milliseconds of one-way trips of 10: three for the handshake, root, offers, answer, a question and what it brings, and
/// evidence. No heartbeat comes before 30,000.
const ROUND_MS: u64 = 105;

/// What the writer of a copied store writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    State,
    Events,
    Both,
}

const WORK: [Work; 3] = [Work::State, Work::Events, Work::Both];

/// Who both copies meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hub {
    Replica,
    Relay,
    /// A relay for each of the copies; these meet one another.
    Relays,
}

const HUBS: [Hub; 3] = [Hub::Replica, Hub::Relay, Hub::Relays];

/// A history of two copies of a store.
#[derive(Clone, Copy, Debug)]
struct Case {
    seed: u64,
    work: Work,
    hub: Hub,
    /// Whether a copy dials, at each meeting.
    dials: [bool; 3],
    /// How much was written before the store was copied, and by each of the copies.
    shared: u64,
    own: [u64; 2],
    /// Whether the store met the hub before it was copied.
    met: bool,
    /// The first copy is stopped between its meetings.
    restarts: bool,
    /// Logs of others, of which more than 256 are compared by sketches.
    others: u64,
}

fn write(net: &mut Net, party: usize, work: Work, what: &str, count: u64) {
    for number in 0..count {
        net.now += 1;
        let (now, node) = (net.time(), net.node(party));
        if work != Work::State {
            event(node, TOPIC, &format!("{what} {number}"), now);
        }
        if work != Work::Events {
            node.set(&format!("{what} {number}"), what, now);
        }
    }
}

/// They meet for one round. Gives what the sessions said.
fn meet(net: &mut Net, (one, other): (usize, usize), one_dials: bool, ms: u64) -> Vec<SessionEvent> {
    let before = net.events.len();
    let (dials, listens) = if one_dials { (one, other) } else { (other, one) };
    let wire = net.connect(dials, listens, Weather::STREAM);
    net.run(ms);
    net.cut(wire);
    net.run(1);
    net.events[before..].iter().map(|(.., event)| event.clone()).collect()
}

/// The forked logs of the first agent that a party knows of.
fn forked(net: &Net, party: usize) -> usize {
    let logs = net.parties[party].logs();
    logs.logs().filter(|log| logs.evidence(log.id()).is_some()).count()
}

/// The same process with another store.
fn reopen(net: &mut Net, party: usize, seed: u64, disk: Disk) {
    let now = net.time();
    net.parties[party] = Party::Replica(Box::new(Node::open(0, seed, disk, How::Resumed, now)));
}

impl Case {
    fn run(&self) {
        let Self { seed, work, hub, dials, shared, own, .. } = *self;
        let hubs: Vec<Party> = match hub {
            Hub::Replica => vec![Party::replica(1, seed + 7)],
            Hub::Relay => vec![Party::relay(9, 5)],
            Hub::Relays => vec![Party::relay(9, 5), Party::relay(10, 6)],
        };
        let [first_hub, second_hub] = [2, 1 + hubs.len()];
        let parties = [Party::replica(0, seed + 1), Party::replica(0, seed + 2)].into_iter().chain(hubs);
        let mut net = Net::new(parties.collect(), seed);
        for number in 0..self.others {
            net.now += 1;
            let now = net.time();
            event(net.node(0), &format!("others/{number}"), "there before", now);
        }
        write(&mut net, 0, work, "shared", shared);
        if self.met {
            meet(&mut net, (0, first_hub), dials[0], 10_000);
        }
        let copy = net.node(0).disk();
        reopen(&mut net, 1, seed + 3, copy);
        write(&mut net, 0, work, "one", own[0]);
        write(&mut net, 1, work, "two", own[1]);
        meet(&mut net, (0, first_hub), dials[0], 10_000);
        if first_hub != second_hub {
            meet(&mut net, (first_hub, second_hub), dials[1], 10_000);
        }
        meet(&mut net, (1, second_hub), dials[1], 10_000);
        if first_hub != second_hub {
            meet(&mut net, (first_hub, second_hub), dials[2], 10_000);
        }
        let logs = if work == Work::Both { 2 } else { 1 };
        assert_eq!(
            [first_hub, 1].map(|party| forked(&net, party)),
            [logs; 2],
            "{self:?}: the second copy heals"
        );
        assert_eq!(forked(&net, 0), 0, "{self:?}: nobody has told the first");
        if self.restarts {
            let disk = net.node(0).disk();
            reopen(&mut net, 0, seed + 4, disk);
        }
        net.node(0).notices();
        let events = meet(&mut net, (0, first_hub), dials[2], ROUND_MS);
        assert_eq!(forked(&net, 0), logs, "{self:?}: {events:?}");
        let notices = net.node(0).notices();
        let told = notices.iter().filter(|notice| matches!(notice, Notice::Forked { .. })).count();
        assert!(told >= logs, "{self:?}: {notices:?}");
        // And in the end all is there, everywhere.
        for _ in 0..3 {
            for (party, hub) in [(0, first_hub), (1, second_hub), (first_hub, second_hub)] {
                if party != hub {
                    meet(&mut net, (party, hub), true, 10_000);
                }
            }
        }
        let states = [0, 1].map(|party| net.node(party).state());
        assert_eq!(states[0], states[1], "{self:?}");
        for (what, count) in [("shared", shared), ("one", own[0]), ("two", own[1])] {
            for number in 0..count {
                let key = format!("{what} {number}");
                let node = net.node(0);
                assert!(work == Work::Events || node.get(&key).is_some(), "{self:?}: {key}");
                let said = node.events().iter().filter(|event| **event == key).count();
                assert_eq!(said, usize::from(work != Work::State), "{self:?}: {key}");
            }
        }
    }
}

#[test]
fn both_copies_of_a_store_learn_of_the_fork_in_their_first_round_with_who_knows() {
    for work in WORK {
        for hub in HUBS {
            for met in [false, true] {
                for dials in [[true; 3], [false; 3]] {
                    let case = Case {
                        seed: 1,
                        work,
                        hub,
                        dials,
                        shared: 1,
                        own: [1, 1],
                        met,
                        restarts: false,
                        others: 0,
                    };
                    case.run();
                }
            }
        }
    }
}

#[test]
fn whatever_two_copies_of_a_store_wrote_each_learns_of_the_fork_in_one_round() {
    seeds(60, |seed| {
        let mut dice = Dice::new(seed);
        let mut coin = || dice.one_in(2);
        let dials = [coin(), coin(), coin()];
        let (met, restarts) = (coin(), coin());
        let case = Case {
            seed,
            work: WORK[dice.index(3)],
            hub: HUBS[dice.index(3)],
            dials,
            // Copies of a store in which nothing is written yet begin logs of their own.
            shared: 1 + dice.roll(4),
            own: [1 + dice.roll(4), 1 + dice.roll(4)],
            met,
            restarts,
            others: [0, 0, 3, 300][dice.index(4)],
        };
        case.run();
    });
}

/// What somebody has of a log that its writer forked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// So much of a branch.
    Branch(usize, u64),
    /// A branch as far as its writer has not given it up.
    Tail(usize, u64),
    /// A branch, and then evidence from what another says.
    Forked(usize, u64, usize),
}

/// The writer of a log, as three clones of it go on.
struct Branches {
    kind: LogKind,
    shared: Hand,
}

impl Branches {
    fn new(kind: LogKind, shared: u64) -> Self {
        let mut trunk = Hand::of_kind(20, 5, kind);
        (0..shared).for_each(|number| Self::append(&mut trunk, kind, "shared", number, 0));
        Self { kind, shared: trunk }
    }

    fn append(hand: &mut Hand, kind: LogKind, name: &str, number: u64, base: u64) {
        let stamp = Hlc::new(at(number), 0);
        let payload = match kind {
            LogKind::State => on_tasks(&[], op_set(&format!("{name} {number}"), name, &[])),
            LogKind::Event => format!("{name} {number}").into_bytes(),
        };
        hand.append_with_base(&payload, base, stamp);
    }

    /// A bundle of a branch that has so many entries of its own; of a tail, the last of them gives up all before it.
    fn bundle(&self, branch: usize, own: u64, tail: bool) -> Vec<u8> {
        let mut clone = self.shared.clone();
        let from = clone.set.log(&clone.log).unwrap().size();
        for number in from..from + own {
            let base = if tail && number + 1 == from + own { number } else { 0 };
            // A tail is a history of its own: no other has its last entry.
            let name = ["one", "two", "three"][branch];
            let name = if tail { format!("{name} of {own}") } else { name.to_owned() };
            Self::append(&mut clone, self.kind, &name, number, base);
        }
        let whole = clone.bundle(at(1_000));
        let last = from + own - 1;
        if !tail || last == 0 {
            return whole;
        }
        let want = Want { from: last, to: last + 1, form: RangeForm::Alone };
        let Answer::Range { bytes, .. } = clone.set.answer(&clone.log, &want, usize::MAX) else {
            panic!("{want:?}")
        };
        let opening = clone.set.log(&clone.log).unwrap().opening().encode(&mesh());
        bundle(&mesh(), &[(1, opening), (3, [&clone.log.alias()[..], &bytes].concat())])
    }

    fn give(&self, node: &mut Node, part: Part, now: Timestamp) {
        match part {
            Part::Branch(branch, own) => drop(node.take(&self.bundle(branch, own, false), now)),
            Part::Tail(branch, own) => drop(node.take(&self.bundle(branch, own, true), now)),
            Part::Forked(branch, own, other) => {
                node.take(&self.bundle(branch, own, false), now);
                node.take(&self.bundle(other, own, false), now);
                assert!(node.replica.logs().evidence(&self.shared.log).is_some(), "{part:?}");
            }
        }
    }
}

/// Which history a part is of, and the first and the last size of which its holder knows the root.
fn extent(part: Part, shared: u64) -> ((usize, Option<u64>), u64, u64) {
    match part {
        Part::Branch(branch, own) | Part::Forked(branch, own, _) => ((branch, None), 1, shared + own),
        Part::Tail(branch, own) => ((branch, Some(own)), (shared + own - 1).max(1), shared + own),
    }
}

/// Whether the two of them show the fork: one knows of it, or both hold a size that each has another root at.
fn shows([one, other]: [Part; 2], shared: u64) -> bool {
    let known = |part: Part| matches!(part, Part::Forked(..));
    let (one_is, other_is) = (extent(one, shared), extent(other, shared));
    let size = one_is.2.min(other_is.2);
    let both = size > shared && size >= one_is.1 && size >= other_is.1;
    known(one) || known(other) || one_is.0 != other_is.0 && both
}

/// Whether the peaks where the later one begins show it to the holder of the other, which ends before that.
fn shows_by_peaks(parts: [Part; 2], shared: u64) -> bool {
    let [one, other] = parts.map(|part| extent(part, shared));
    let shows = |shorter: ((usize, Option<u64>), u64, u64), longer: ((usize, Option<u64>), u64, u64)| {
        let (mut sum, mut left) = (0, longer.1);
        while left > 0 && sum + (1 << left.ilog2()) <= shorter.2 {
            let peak = 1 << left.ilog2();
            (sum, left) = (sum + peak, left - peak);
        }
        longer.1 > shorter.2 && sum > shared && sum >= shorter.1
    };
    one.0 != other.0 && (shows(one, other) || shows(other, one))
}

fn knows(net: &Net, party: usize, log: &LogId) -> Option<Vec<u8>> {
    net.parties[party].logs().evidence(log).map(|evidence| evidence.as_bytes().to_vec())
}

fn part(dice: &mut Dice) -> Part {
    let (branch, own) = (dice.index(3), 1 + dice.roll(5));
    match dice.roll(4) {
        0 => Part::Tail(branch, own),
        1 => Part::Forked(branch, own, (branch + 1 + dice.index(2)) % 3),
        _ => Part::Branch(branch, own),
    }
}

#[test]
fn whoever_holds_different_branches_or_evidence_finds_the_fork_in_one_round() {
    let mut shown = [0; 2];
    seeds(240, |seed| {
        let mut dice = Dice::new(seed);
        let kind = [LogKind::State, LogKind::Event][dice.index(2)];
        let shared = dice.roll(3);
        let parts = [part(&mut dice), part(&mut dice)];
        let (dials, relays) = (dice.one_in(2), [dice.one_in(3), dice.one_in(3)]);
        let others = if dice.one_in(10) { 300 } else { 0 };
        let branches = Branches::new(kind, shared);
        let log = branches.shared.log;
        // Relays have what they have from replicas.
        let parties = [0, 1].map(|party| Party::replica(party, seed + u64::from(party)));
        let mut net = Net::new(parties.into_iter().collect(), seed);
        let bystander = |net: &mut Net| {
            (0..others).for_each(|number| {
                let now = net.time();
                event(net.node(0), &format!("others/{number}"), "there before", now);
            });
            if others > 0 {
                meet(net, (0, 1), true, 10_000);
            }
        };
        bystander(&mut net);
        for (party, part) in parts.into_iter().enumerate() {
            let now = net.time();
            branches.give(net.node(party), part, now);
        }
        let mut ends = [0, 1];
        for (party, end) in ends.iter_mut().enumerate().filter(|(party, _)| relays[*party]) {
            net.parties.push(Party::relay(40 + party as u8, party as u8));
            net.asleep.push(false);
            let relay = net.parties.len() - 1;
            meet(&mut net, (party, relay), true, 10_000);
            *end = relay;
        }
        let what = format!(
            "seed {seed}: {kind:?}, {shared} shared, {parts:?}, {dials}, {relays:?}, {others} others"
        );
        let before = ends.map(|end| knows(&net, end, &log));
        let events = meet(&mut net, (ends[0], ends[1]), dials, ROUND_MS + if others > 0 { 40 } else { 0 });
        let after = ends.map(|end| knows(&net, end, &log));
        let shows = shows(parts, shared) || shows_by_peaks(parts, shared);
        shown[usize::from(shows)] += 1;
        if shows {
            assert!(after.iter().all(Option::is_some), "{what}: {before:?} → {after:?}: {events:?}");
        } else {
            assert_eq!(after, [None, None], "{what}");
        }
        for (party, after) in ends.into_iter().zip(&after) {
            if let Party::Replica(node) = &mut net.parties[party] {
                let told = node.notices();
                let told = told.iter().any(|notice| matches!(notice, Notice::Forked { .. }));
                assert_eq!(told, after.is_some(), "{what}: a notice where there is evidence, and only there");
            }
        }
        // The same evidence in the end.
        meet(&mut net, (ends[0], ends[1]), dials, 10_000);
        let [one, other] = ends.map(|end| knows(&net, end, &log));
        assert_eq!(one, other, "{what}");
    });
    assert!(std::env::var("CONSILIENCE_CASES").is_ok() || shown[0] >= 30 && shown[1] >= 100, "{shown:?}");
}

#[test]
fn a_bundle_of_who_knows_of_a_fork_tells_whoever_holds_another_branch() {
    seeds(400, |seed| {
        let mut dice = Dice::new(seed);
        let kind = [LogKind::State, LogKind::Event][dice.index(2)];
        let shared = dice.roll(3);
        let parts = [part(&mut dice), part(&mut dice)];
        let branches = Branches::new(kind, shared);
        let log = branches.shared.log;
        let mut nodes = [Node::fresh(0, seed), Node::fresh(1, seed + 1)];
        for (node, part) in nodes.iter_mut().zip(parts) {
            branches.give(node, part, at(2_000));
            node.notices();
        }
        let what = format!("seed {seed}: {kind:?}, {shared} shared, {parts:?}");
        let since = dice.one_in(2);
        for (from, to) in [(0, 1), (1, 0)] {
            let [from, to] = nodes.get_disjoint_mut([from, to]).unwrap();
            let summary = since.then(|| to.replica.summary());
            let bundle = from.replica.export_bundle(|_| true, summary.as_deref(), at(3_000)).unwrap();
            let (knew, aware) =
                [&*from, &*to].map(|node| node.replica.logs().evidence(&log).is_some()).into();
            to.take(&bundle, at(3_000));
            let found = to.replica.logs().evidence(&log).is_some();
            assert!(found || !knew, "{what}: the bundle of a holder of evidence");
            let told = to.notices();
            let told = told.iter().any(|notice| matches!(notice, Notice::Forked { .. }));
            // A fork that turns out to lie lower is told as well.
            assert!(aware || told == found, "{what}: {told}");
        }
        // Who said what it has is told in any case; and else one of the two, unless it has nothing left to compare.
        let found = nodes.each_ref().map(|node| node.replica.logs().evidence(&log).is_some());
        let enough = if since { found == [true; 2] } else { found.contains(&true) };
        let by_peaks = shows_by_peaks(parts, shared);
        assert!(enough || !shows(parts, shared), "{what}: {found:?}");
        assert!(found.contains(&true) || !by_peaks, "{what}: {found:?}");
        assert!(found == [false; 2] || shows(parts, shared) || by_peaks, "{what}: {found:?}");
    });
}

/// A replica that does not want what is written in the topic "private".
fn unwilling(agent: u8) -> Party {
    let admit = |opening: &LogOpening| {
        if opening.topic.as_str() == "private" { Admission::Ignore } else { Admission::Hold }
    };
    let config = config(u64::from(agent) + 1).with_admission(admit);
    let mut replica = Replica::open(config, Opened::Fresh, at(0)).unwrap();
    let writer = replica.add_writer(keys(agent)).unwrap();
    Party::Replica(Box::new(Node { replica, writer, agent, snapshot: None, records: Vec::new() }))
}

/// Two branches of an event log that differ in their fourth entry. What a holder lacks of the beginning was given up in both.
#[test]
fn two_that_hold_the_same_of_a_forked_log_do_not_compare_it_again_and_again() {
    let mut trunk = Hand::of_kind(20, 1, LogKind::Event);
    trunk.append(b"given up", Hlc::new(at(0), 0));
    trunk.append_with_base(b"1", 1, Hlc::new(at(1), 0));
    trunk.append_with_base(b"2", 1, Hlc::new(at(2), 0));
    let mut branches = [trunk.clone(), trunk];
    for (branch, word) in branches.iter_mut().zip([b"x", b"y"]) {
        branch.append_with_base(word, 1, Hlc::new(at(3), 0));
    }
    branches[0].append_with_base(b"x", 1, Hlc::new(at(4), 0));
    let whole = branches[0].bundle(at(10));
    branches[1].bundle(at(10));
    let (log, set) = (branches[1].log, &branches[1].set);
    let want = Want { from: 1, to: 4, form: RangeForm::Alone };
    let Answer::Range { bytes, .. } = set.answer(&log, &want, usize::MAX) else { panic!("{want:?}") };
    let opening = set.log(&log).unwrap().opening().encode(&mesh());
    let later = bundle(&mesh(), &[(1, opening), (3, [&log.alias()[..], &bytes].concat())]);
    for dials in [0, 1] {
        let mut net = Net::new(vec![unwilling(0), Party::replica(1, 7)], 5);
        let now = net.time();
        net.node(0).take(&later, now);
        net.node(1).take(&whole, now);
        event(net.node(1), "private", "not for the other", now);
        let wire = net.connect(dials, 1 - dials, Weather::STREAM);
        net.run(10_000);
        assert!([0, 1].iter().all(|party| knows(&net, *party, &log).is_some()));
        let frames: usize = net.wires[wire].frames.iter().sum();
        assert!(frames < 100, "{frames} frames, {} bytes, {dials} dials", net.bytes(wire));
    }
}
