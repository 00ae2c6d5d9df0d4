//! An agent without storage that is started again and again, and what a peer keeps of it.

use crate::history::two;
use crate::replica::Replica;
use crate::rule::{Mode, Rule};
use crate::tape;
use crate::world::World;

/// What a peer keeps, at most over some starts.
#[derive(Clone, Copy, Default, Debug)]
pub struct Kept {
    pub logs: usize,
    pub entries: usize,
    /// Closures at 10 bytes, finals at 9.
    pub bytes: usize,
}

fn kept(peer: &Replica) -> Kept {
    let copies = peer.copies.iter().filter(|(log, _)| log.agent == 0 && !log.events);
    let (mut logs, mut entries, mut bytes) = (0, 0, 0);
    for (_, copy) in copies {
        logs += 1;
        entries += copy.entries.len();
        for entry in &copy.entries {
            bytes += 10 * entry.closures.len() + if entry.last > 0 { 9 } else { 0 };
        }
    }
    Kept { logs, entries, bytes }
}

/// The most that any of three peers keeps in each half of the starts.
pub fn bound(rule: Rule, starts: u16) -> [Kept; 2] {
    let bytes: Vec<u8> = (0..4 * u64::from(starts)).flat_map(|seed| tape::of_seed(seed, 500)).collect();
    let mut world = World::new(&bytes, rule, Mode::default(), false);
    world.late_finals = true;
    let mut peers: Vec<Replica> = (1..4).map(|agent| Replica::new(rule, agent, 1)).collect();
    let mut most = [Kept::default(); 2];
    for start in 0..starts {
        let inc = world.next_incarnation(0);
        let mut agent = Replica::new(rule, 0, inc);
        agent.met = false;
        let peer = world.tape.below(3);
        for _ in 0..2 {
            world.meet(&mut peers[peer], &mut agent, None);
        }
        for _ in 0..3 {
            world.write(&mut agent).expect("an honest writer alone sees what it wrote");
            agent.sign();
            let limit = world.tape.pick(&[None, Some(2), None]);
            let peer = world.tape.below(3);
            world.meet(&mut agent, &mut peers[peer], limit);
        }
        for _ in 0..2 {
            let i = world.tape.below(3);
            let j = (i + 1 + world.tape.below(2)) % 3;
            let (from, to) = two(&mut peers, i, j);
            world.meet(from, to, None);
        }
        let half = &mut most[usize::from(start >= starts / 2)];
        for now in peers.iter().map(kept) {
            half.logs = half.logs.max(now.logs);
            half.entries = half.entries.max(now.entries);
            half.bytes = half.bytes.max(now.bytes);
        }
    }
    most
}
