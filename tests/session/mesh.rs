//! Meshes of many: random work on all collections, random topologies and weather, cuts and sleeps; and in the end
//! everybody holds the same, which is what the entries add up to.

use consilience::sync::Log;
use consilience::sync::session::SessionEvent;
use consilience_test_support::oracle::Oracle;

use crate::meet::event;
use crate::replicas::{Dice, Disk, How, Node, TOPIC, seeds, topic};
use crate::world::{Net, Party, Weather};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Line,
    Star,
    Ring,
    Full,
    /// All through relays that know each other.
    Relays,
}

const SHAPES: [Shape; 5] = [Shape::Line, Shape::Star, Shape::Ring, Shape::Full, Shape::Relays];

/// Who is connected with whom; of the relays, which come last, there are `relays`.
fn pairs(shape: Shape, replicas: usize, relays: usize) -> Vec<(usize, usize)> {
    let line = (1..replicas).map(|n| (n - 1, n));
    match shape {
        Shape::Line => line.collect(),
        Shape::Star => (1..replicas).map(|n| (n, 0)).collect(),
        Shape::Ring => line.chain([(replicas - 1, 0)]).collect(),
        Shape::Full => (0..replicas).flat_map(|n| (0..n).map(move |m| (n, m))).collect(),
        Shape::Relays => {
            let to_relays = (0..replicas).map(|n| (n, replicas + n % relays));
            to_relays.chain((1..relays).map(|n| (replicas + n - 1, replicas + n))).collect()
        }
    }
}

fn work(net: &mut Net, index: usize, dice: &mut Dice, oracle: &mut Oracle, events: &mut u64) {
    let (ms, now) = (net.now, net.time());
    let node = net.node(index);
    if dice.one_in(4) {
        event(node, TOPIC, &format!("event {}", dice.roll(1_000)), now);
        *events += 1;
    } else {
        // What is not stored does not leave.
        let store = !dice.one_in(4);
        oracle.write(dice, node, ms, store);
    }
}

/// A replica goes down and comes up again, from what it had stored or from a backup of that.
fn restart(net: &mut Net, index: usize, how: How, disk: Disk, seed: u64) {
    for wire in 0..net.wires.len() {
        if net.wires[wire].ends.iter().any(|(party, _)| *party == index) {
            net.cut(wire);
        }
    }
    let (agent, now) = (net.node(index).agent, net.time());
    let mut node = Node::open(agent, seed, disk, how, now);
    // The first record says which logs were left.
    node.store();
    net.parties[index] = Party::Replica(Box::new(node));
}

/// Cuts a wire, or connects it again.
fn flip(net: &mut Net, wires: &mut [(usize, usize, usize)], at: usize, weather: Weather) {
    let (from, to, wire) = wires[at];
    if net.wires[wire].cut {
        wires[at].2 = net.connect(from, to, weather);
    } else {
        net.cut(wire);
    }
}

fn history(seed: u64, replicas: usize) {
    let mut dice = Dice::new(seed);
    let shape = SHAPES[dice.index(SHAPES.len())];
    let relays = if shape == Shape::Relays { 1 + dice.index(2) } else { 0 };
    let weather = [Weather::FOUL, Weather::FAIR, Weather::STREAM][dice.index(3)];
    let parties = (0..replicas).map(|n| Party::replica(n as u8, seed + n as u64));
    let parties = parties.chain((0..relays).map(|n| Party::relay(200 + n as u8, n as u8)));
    let mut net = Net::new(parties.collect(), seed);
    let mut wires = Vec::new();
    for (from, to) in pairs(shape, replicas, relays) {
        let (from, to) = if dice.one_in(2) { (from, to) } else { (to, from) };
        wires.push((from, to, net.connect(from, to, weather)));
    }
    let (mut oracle, mut events, mut opened) = (Oracle::default(), 0, 0);
    let mut backups: Vec<Option<Disk>> = vec![None; replicas];
    for _ in 0..60 {
        match dice.roll(14) {
            0 => {
                let at = dice.index(wires.len());
                flip(&mut net, &mut wires, at, weather);
            }
            1 => {
                let who = dice.index(net.parties.len());
                net.asleep[who] = !net.asleep[who];
            }
            2 => net.run(dice.roll(20_000)),
            3 => {
                let who = dice.index(replicas);
                net.node(who).store();
                backups[who] = Some(net.node(who).disk());
            }
            4 | 5 => {
                let who = dice.index(replicas);
                opened += 1;
                let (before, disk) = (net.node(who).own_log(), net.node(who).disk());
                let from_backup = backups[who].take().filter(|_| backup_is_harmless(&mut net, who));
                let how = if from_backup.is_some() { How::Restored } else { How::Resumed };
                restart(&mut net, who, how, from_backup.unwrap_or(disk), seed * 64 + 32 + opened);
                let held: Vec<_> = net.parties.iter().map(Party::logs).collect();
                oracle.lose(before, &held, who);
            }
            _ => {
                let who = dice.index(replicas);
                if !net.asleep[who] {
                    work(&mut net, who, &mut dice, &mut oracle, &mut events);
                }
                net.run(dice.roll(300));
            }
        }
    }
    // In the end all are awake and connected.
    net.asleep.fill(false);
    net.run(1);
    for (from, to, wire) in &mut wires {
        let ends = net.wires[*wire].ends;
        let gone = ends.iter().any(|(party, session)| !net.parties[*party].has(*session));
        if net.wires[*wire].cut || gone {
            if !net.wires[*wire].cut {
                net.cut(*wire);
            }
            *wire = net.connect(*from, *to, weather);
        }
    }
    // Sessions that died in their sleep are replaced as a host would.
    for _ in 0..40 {
        net.run(30_000);
        for (from, to, wire) in &mut wires {
            let ends = net.wires[*wire].ends;
            if ends.iter().any(|(party, session)| !net.parties[*party].has(*session)) {
                net.cut(*wire);
                *wire = net.connect(*from, *to, weather);
            }
        }
        if equal(&net) {
            break;
        }
    }
    assert!(
        equal(&net),
        "seed {seed} {shape:?} {weather:?}: {:#?}",
        net.parties.iter().map(Party::roots).collect::<Vec<_>>()
    );
    let state = net.node(0).state();
    for index in 0..replicas {
        assert_eq!(net.node(index).state(), state);
    }
    let nodes: Vec<&Node> = net.parties[..replicas].iter().map(Party::as_node).collect();
    oracle.check(&nodes, net.now);
    assert_eq!(nodes[0].replica.stats(Some(&topic())).events as u64, events);
    let faults: Vec<_> =
        net.events.iter().filter(|(.., event)| matches!(event, SessionEvent::Fault(_))).collect();
    assert!(faults.is_empty(), "{faults:?}");
    for wire in &net.wires {
        assert!(wire.memory_max <= (256 << 10) + (64 << 10), "{}", wire.memory_max);
    }
}

/// Whether others hold all that a replica holds, so that nothing is lost with it.
fn backup_is_harmless(net: &mut Net, index: usize) -> bool {
    net.node(index).store();
    let now = net.time();
    let _ = net.node(index).replica.export_bundle(|_| false, None, now);
    net.parties[index].logs().logs().all(|log| {
        let others = net.parties.iter().enumerate().filter(|(other, _)| *other != index);
        let held = others.filter_map(|(_, party)| party.logs().log(log.id())).map(Log::size);
        held.max().unwrap_or(0) >= log.size()
    })
}

fn equal(net: &Net) -> bool {
    net.parties.windows(2).all(|pair| pair[0].roots() == pair[1].roots())
}

#[test]
fn three_come_to_the_same() {
    seeds(150, |seed| history(seed, 3));
}

#[test]
fn five_come_to_the_same() {
    seeds(60, |seed| history(10_000 + seed, 5));
}

#[test]
fn twenty_come_to_the_same() {
    seeds(6, |seed| history(20_000 + seed, 20));
}
