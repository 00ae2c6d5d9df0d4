//! Random histories of whole sets: several logs, clones, unsigned tails, discarded entries, erasures,
//! removals, time, and ranges that were cut anywhere. At every step the root of the heads is that of what is held and
//! each consumer believes what its set says; in the end all sets meet by reconciliation and mean the same.

use std::collections::BTreeMap;

use consilience_sync::reconcile::Mode;
use consilience_sync::{
    Admission, Answer, LogId, LogOpening, LogSet, Move, NewEntry, Offer, RangeForm, ReceiveError, SetError,
    Timestamp, Want,
};

use super::heads::{config, everything, find};
use super::world::{
    Dice, KINDS, Replica, START, WHOLE, keys, opening_in, rich, search, seeds, set, tell_evidence, tell_in,
};

/// What happens in a history beside writing and telling.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// The second set writes the first one's logs as well.
    clones: bool,
    /// Writers leave entries unsigned.
    unsigned: bool,
    /// Stamps from the future.
    future: bool,
    /// Bases rise.
    bases: bool,
    /// Unsigned entries are given up at any time, not only where another history stands against them.
    discards: bool,
    /// Followers drop a log and begin anew.
    removes: bool,
}

const HONEST: Rules =
    Rules { clones: false, unsigned: true, future: true, bases: true, discards: true, removes: true };

struct Writer {
    log: LogId,
    agent: u8,
    opening: LogOpening,
}

struct World {
    rules: Rules,
    dice: Dice,
    replicas: [Replica; 4],
    now: [Timestamp; 4],
    writers: Vec<Writer>,
}

/// The root is that of what is held: the same as if all heads were made anew.
fn check_root(set: &LogSet) {
    let (mut kept, mut anew) = (set.clone(), set.clone());
    let logs: Vec<LogId> = set.logs().map(|log| *log.id()).collect();
    for log in &logs {
        anew.leave(log);
        let offer = set.offer(log).unwrap();
        assert_eq!(Offer::decode(&offer.encode()), Ok(offer));
        assert!(offer.size == 0 || offer.root != [0; 8], "what is offered has a root: {offer:?}");
    }
    assert_eq!(kept.heads_root(), anew.heads_root());
}

impl World {
    fn new(seed: u64, rules: Rules) -> Self {
        let mut dice = Dice::new(seed);
        let mut replicas = [(); 4].map(|()| Replica::new(set()));
        let mut writers = Vec::new();
        for agent in 0..1 + dice.roll(4) as u8 {
            let topic = ["team", "team/a", "other"][dice.index(3)];
            let opening = opening_in(topic, KINDS[dice.index(2)], agent, u64::from(agent));
            for (at, replica) in replicas.iter_mut().enumerate() {
                if at == 0 || (at == 1 && rules.clones) {
                    replica.set.open_local(&opening).unwrap();
                } else {
                    replica.set.open(&opening, |_| Admission::Hold).unwrap();
                }
            }
            let log = opening.log_id(&crate::world::mesh());
            writers.push(Writer { log, agent, opening });
        }
        Self { rules, dice, replicas, now: [START; 4], writers }
    }

    fn step(&mut self) {
        let Self { rules, dice, replicas, now, writers } = self;
        let Writer { log, agent, opening } = &writers[dice.index(writers.len())];
        let (from, to) = (dice.index(4), dice.index(4));
        let home = usize::from(rules.clones && dice.one_in(6));
        let mut touched = to;
        match dice.roll(24) {
            0..8 => {
                touched = home;
                append_some(&mut replicas[home].set, log, *rules, dice);
                if !rules.unsigned || !dice.one_in(3) {
                    let _ = replicas[home].set.sign_head(log, &keys(*agent), now[home]);
                }
            }
            8 => {
                touched = home;
                let _ = replicas[home].set.sign_head(log, &keys(*agent), now[home]);
            }
            9..15 if from != to => {
                let [source, target] = replicas.get_disjoint_mut([from, to]).unwrap();
                let chunk = [1, 200, 512, 1 << 16][dice.index(4)];
                tell_in(&source.set, &mut target.set, log, now[to], chunk);
            }
            15 | 16 if from != to => {
                let [source, target] = replicas.get_disjoint_mut([from, to]).unwrap();
                let size = source.set.have(log).unwrap().size;
                let first = dice.roll(size + 1);
                let end = first + dice.roll(size - first + 1);
                let form = if dice.one_in(2) { RangeForm::Alone } else { RangeForm::Follow };
                if let Answer::Range { bytes, .. } =
                    source.set.answer(log, &Want { from: first, to: end, form }, WHOLE)
                {
                    let _ = target.set.receive(log, &bytes, now[to], &mut rich());
                }
            }
            17 if from != to => {
                let [source, target] = replicas.get_disjoint_mut([from, to]).unwrap();
                tell_evidence(&source.set, &mut target.set, log, now[to]);
            }
            18 => {
                let seq = dice.roll(replicas[to].set.log(log).unwrap().size() + 1);
                let _ = replicas[to].set.erase(log, seq);
            }
            19 if rules.removes && to >= 2 => {
                assert!(replicas[to].set.remove(log));
                replicas[to].consumer.logs.remove(log);
                check_root(&replicas[to].set);
                replicas[to].set.open(opening, |_| Admission::Hold).unwrap();
            }
            20 if rules.discards => {
                touched = home;
                replicas[home].set.discard_unsigned(log).unwrap();
            }
            21 => {
                now[to] = now[to].saturating_add_millis([1_000, 400_000, 40 * 24 * 3_600_000][dice.index(3)]);
                replicas[to].set.handle_timeout(now[to]);
            }
            _ => replicas[to].follow(),
        }
        check_root(&replicas[touched].set);
        if dice.one_in(3) {
            replicas[touched].follow();
        }
    }

    /// Nothing is from the future any more, all is signed, and the sets meet in a circle.
    fn settle(&mut self) {
        let end = self.now.into_iter().max().unwrap().max(START.saturating_add_millis(10 * 24 * 3_600_000));
        for (at, replica) in self.replicas.iter_mut().enumerate() {
            replica.set.handle_timeout(end);
            check_root(&replica.set);
            replica.follow();
            for Writer { log, agent, .. } in self.writers.iter().filter(|_| at < 2) {
                let _ = replica.set.sign_head(log, &keys(*agent), end);
            }
        }
        let mode = [Mode::Auto, Mode::Ranges][self.dice.index(2)];
        for _ in 0..5 {
            for (one, other) in [(0, 1), (1, 2), (2, 3), (3, 0)] {
                let [one, other] = self.replicas.get_disjoint_mut([one, other]).unwrap();
                meet_until_equal(one, other, end, mode);
            }
        }
        let [first, others @ ..] = &mut self.replicas;
        for other in others {
            assert_eq!(first.set.heads_root(), other.set.heads_root());
            for Writer { log, .. } in &self.writers {
                assert_eq!(first.set.evidence(log), other.set.evidence(log));
                let believed = |replica: &Replica| -> BTreeMap<_, _> {
                    replica.consumer.logs.get(log).cloned().unwrap_or_default()
                };
                let (ours, theirs) = (believed(first), believed(other));
                if first.set.evidence(log).is_some() {
                    // Who has seen a branch's base has given up what is below, and the rest is the same.
                    let (longer, shorter) =
                        if ours.len() > theirs.len() { (&ours, &theirs) } else { (&theirs, &ours) };
                    assert!(shorter.iter().eq(longer.iter().skip(longer.len() - shorter.len())));
                } else {
                    assert_eq!(ours, theirs);
                }
            }
        }
    }
}

/// Appends up to five entries, as far as the log is writable.
fn append_some(set: &mut LogSet, log: &LogId, rules: Rules, dice: &mut Dice) {
    for _ in 0..=dice.roll(4) {
        let held = set.log(log).unwrap();
        let (base, size) = (held.base(), held.size());
        let raises = rules.bases && dice.one_in(4) && size > 0;
        let base = if raises { base.max(dice.roll(size + 1)) } else { base };
        let mut hlc = held.last_hlc();
        let ahead_ms = if rules.future && dice.one_in(6) { 500_000 } else { 0 };
        hlc.tick(START.saturating_add_millis(ahead_ms));
        let payload: &[u8] = [b"a", b"b", b"c", b"d"][dice.index(4)];
        if set.append(log, &NewEntry { base, ..NewEntry::new(hlc, payload) }).is_err() {
            return;
        }
    }
}

/// What a host does about its own logs: where another history of one goes on, unsigned entries give way.
fn give_way(replica: &mut Replica) {
    replica.follow();
    let logs: Vec<LogId> = replica.set.logs().map(|log| *log.id()).collect();
    for log in logs.iter().filter(|log| replica.consumer.self_forked.contains(log)) {
        if replica.set.evidence(log).is_none() {
            replica.set.discard_unsigned(log).unwrap();
        }
    }
    replica.follow();
}

fn meet_until_equal(one: &mut Replica, other: &mut Replica, now: Timestamp, mode: Mode) {
    for pass in 0..12 {
        if one.set.heads_root() == other.set.heads_root() {
            break;
        }
        let (a, b) = if pass % 2 == 0 { (&mut *one, &mut *other) } else { (&mut *other, &mut *one) };
        meet(&mut a.set, &mut b.set, mode, pass, now);
        give_way(a);
        give_way(b);
    }
    if one.set.heads_root() != other.set.heads_root() {
        let (here, there, _) = find(&mut one.set, &mut other.set, config(everything(), mode, 99));
        for log in here.differ.iter().chain(&there.differ) {
            println!("{:?}\n{:?}", one.set.offer(log), other.set.offer(log));
        }
        panic!("they do not meet");
    }
    one.follow();
    other.follow();
}

fn meet(a: &mut LogSet, b: &mut LogSet, mode: Mode, salt: u8, now: Timestamp) {
    let (here, there, _) = find(a, b, config(everything(), mode, salt));
    let offers = |set: &LogSet, logs: &[LogId]| -> Vec<Offer> {
        logs.iter().map(|log| set.offer(log).unwrap()).collect()
    };
    let (of_a, of_b) = (offers(a, &here.differ), offers(b, &there.differ));
    let (plan_a, plan_b) = (a.plan(&here.differ, &of_b), b.plan(&there.differ, &of_a));
    for (sends, expects) in [(&plan_a, &plan_b), (&plan_b, &plan_a)] {
        for step in expects {
            if let Move::Expect(log, want) = step {
                assert!(sends.contains(&Move::Send(*log, *want)), "{step:?} is not sent: {sends:?}");
            }
        }
    }
    carry(a, b, &plan_a, now);
    carry(b, a, &plan_b, now);
    for (moves, forward) in [(plan_a, true), (plan_b, false)] {
        for step in moves {
            if let Move::Search(log) = step {
                let (from, to) = if forward { (&*b, &mut *a) } else { (&*a, &mut *b) };
                search(from, to, &log, now);
            }
        }
    }
}

/// Does one side's half of a plan. Whatever is refused is left for the next pass.
fn carry(from: &LogSet, to: &mut LogSet, moves: &[Move], now: Timestamp) {
    for step in moves {
        match step {
            Move::Open(log) => {
                let _ = to.open(from.log(log).unwrap().opening(), |_| Admission::Hold);
            }
            Move::Facts(log) => tell_evidence(from, to, log, now),
            Move::Send(log, want) => {
                let mut want = *want;
                while let Answer::Range { bytes, end } = from.answer(log, &want, 4 << 10) {
                    match to.receive(log, &bytes, now, &mut rich()) {
                        Err(SetError::Receive(ReceiveError::Unproven)) if want.form == RangeForm::Follow => {
                            want.form = RangeForm::Alone;
                            continue;
                        }
                        Err(_) => break,
                        Ok(_) => {}
                    }
                    if end >= want.to {
                        break;
                    }
                    want = Want { from: end, form: RangeForm::Follow, ..want };
                }
            }
            Move::Search(_) | Move::Expect(..) => {}
        }
    }
}

fn run(cases: u64, rules: Rules) {
    seeds(cases, |seed| {
        let mut world = World::new(seed, rules);
        for _ in 0..10 + world.dice.roll(90) {
            world.step();
        }
        world.settle();
    });
}

#[test]
fn honest_histories_end_alike() {
    run(80, HONEST);
}

#[test]
fn histories_with_clones_end_alike() {
    run(80, Rules { clones: true, discards: false, ..HONEST });
}

#[test]
fn histories_of_signed_clones_end_alike() {
    run(80, Rules { clones: true, discards: false, unsigned: false, ..HONEST });
}
