//! Histories that shaped the rule, as told in their names.

use crate::facts::Cut;
use crate::log::{Copy, Dot, Entry, Item, Log, Op};
use crate::replica::Replica;
use crate::rule::{Mode, Rule};
use crate::world::{Outcome, World};

/// Appends an entry to the log of a replica's agent, or to a lower one of it.
fn write(
    world: &mut World<'_>,
    replica: &mut Replica,
    log: Log,
    base: u16,
    ops: Vec<Op>,
    closures: &[(u16, u16)],
) {
    world.clock += 1;
    let copy = replica.copies.get(&log).cloned().unwrap_or_default();
    let closed: Vec<u16> = closures.iter().map(|(inc, _)| *inc).collect();
    // What the closed logs named and this entry does not: the sizes on which that rests.
    let left_out = closed.iter().filter_map(|inc| replica.copies.get(&Log::state(log.agent, *inc)));
    let left_out = left_out.flat_map(|copy| &copy.entries).flat_map(|entry| entry.names());
    let cites = left_out.flat_map(|(dot, _)| replica.rests_on(dot)).collect();
    let entry = Entry {
        log,
        seq: copy.size(),
        base,
        stamp: 0,
        ops,
        closures: closures.to_vec(),
        last: 0,
        cites,
        link: 0,
        tag: 0,
        before: None,
    };
    let entry = world.seal(entry, copy.entries.last().cloned());
    world.append(replica, &entry);
}

fn dot(agent: u8, inc: u16, seq: u16) -> Dot {
    Dot { log: Log::state(agent, inc), seq, place: 0 }
}

fn item(replica: &Replica, dot: Dot) -> Result<Item, String> {
    replica.state().live.get(&dot).copied().ok_or_else(|| format!("{dot:?} is not live at {}", replica.agent))
}

fn expect(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(format!("not so: {what}")) }
}

/// Find 1 of issue 9: a member retires its log, a peer takes only the tail that this allows, the retirement is taken back.
fn a_tail_that_a_retirement_let_in_is_no_state_of_its_own(rule: Rule) -> Result<bool, String> {
    let mut world = World::new(&[], rule, Mode::default(), false);
    let [mut liar, mut a, mut b] = [9, 1, 2].map(|agent| Replica::new(rule, agent, 1));
    let (one, two) = (Log::state(9, 1), Log::state(9, 2));
    write(&mut world, &mut liar, one, 0, vec![Op::Set(0, 10, vec![])], &[]);
    write(&mut world, &mut liar, one, 0, vec![Op::Set(1, 11, vec![])], &[]);
    let whole = liar.copies[&one].clone();
    write(&mut world, &mut liar, two, 0, vec![], &[(1, 1)]);
    let closing = liar.copies[&two].clone();
    write(&mut world, &mut liar, two, 1, vec![], &[]);
    let taken_back = liar.copies[&two].clone();
    a.take(one, &whole);
    a.take(two, &taken_back);
    b.take(two, &closing);
    b.take(one, &whole.from(1));
    b.take(two, &taken_back);
    Ok(a.root() == b.root() && !a.state().reads_as(&b.state()))
}

/// Two processes of agent 1: the later one collects a removal of the earlier one, on a copy that the earlier one lacks.
fn a_collected_removal_is_missed_until_the_copy_comes_on_which_that_rests(rule: Rule) -> Outcome {
    let mut world = World::new(&[], rule, Mode::default(), false);
    let [mut owner, mut early] = [0, 1].map(|agent| Replica::new(rule, agent, 1));
    let mut late = Replica::new(rule, 1, 2);
    let (theirs, mine, later) = (Log::state(0, 1), Log::state(1, 1), Log::state(1, 2));
    write(&mut world, &mut owner, theirs, 0, vec![Op::Set(1, 10, vec![])], &[]);
    early.take(theirs, &owner.copies[&theirs]);
    let removed = dot(0, 1, 0);
    let tag = item(&early, removed)?.tag;
    write(&mut world, &mut early, mine, 0, vec![Op::Set(2, 40, vec![(removed, tag)])], &[]);
    write(&mut world, &mut owner, theirs, 0, vec![Op::Set(1, 20, vec![])], &[]);
    late.take(theirs, &owner.copies[&theirs]);
    late.take(mine, &early.copies[&mine]);
    let state = late.state();
    expect(!late.needed(&state, &(removed, tag)), "the later process need not repeat the removal")?;
    let kept = item(&late, dot(1, 1, 0))?;
    write(&mut world, &mut late, later, 0, vec![Op::Relist(dot(1, 1, 0), kept)], &[(1, 1)]);
    let closing: Copy = late.copies[&later].clone();
    early.take(later, &closing);
    expect(early.state().live.contains_key(&removed), "BACK: the earlier process shows what it had removed")?;
    expect(early.incomplete(), "a citation would tell it that it is incomplete")?;
    expect(early.root() != late.root(), "its root says so already")?;

    let mut again = early.clone();
    write(&mut world, &mut again, mine, 0, vec![Op::Set(0, 50, vec![])], &[]);
    expect(
        !again.state().live.contains_key(&removed),
        "VIEW: its next entry opens its log again, with the removal",
    )?;

    early.take(theirs, &owner.copies[&theirs]);
    expect(
        !early.state().live.contains_key(&removed) && !early.incomplete(),
        "the copy comes, and both end",
    )?;
    expect(early.root() == late.root() && early.state().reads_as(&late.state()), "they are equal")
}

/// An entry that is not signed yet closes a lower log. It may get lost, and then the closed log is there; if it is
/// signed, that log goes.
fn what_an_unsigned_entry_closes_stays(rule: Rule) -> Outcome {
    // Two choices: the first entry is signed at once, the second later.
    let mut world = World::new(&[255, 0], rule, Mode::default(), false);
    let mut agent = Replica::new(rule, 0, 1);
    let (one, two) = (Log::state(0, 1), Log::state(0, 2));
    write(&mut world, &mut agent, one, 0, vec![Op::Set(1, 10, vec![])], &[]);
    agent.inc = 2;
    let kept = item(&agent, dot(0, 1, 0))?;
    write(&mut world, &mut agent, two, 0, vec![Op::Relist(dot(0, 1, 0), kept)], &[(1, 1)]);
    expect(
        agent.closed(&one) && agent.copies.contains_key(&one),
        "the closed log stays while the entry is unsigned",
    )?;
    let mut without = agent.clone();
    without.copies.remove(&two);
    without.signed.clear();
    without.settle(0);
    expect(without.state().live.contains_key(&dot(0, 1, 0)), "without the entry the value is there")?;
    agent.sign();
    agent.settle(0);
    expect(!agent.copies.contains_key(&one), "with it, signed, the log goes")?;
    expect(agent.state().live.contains_key(&dot(0, 1, 0)), "and the value stays")
}

/// A successor forks. The log that it had closed does not count again, or a value would be back whose removal was collected
/// because the log was closed.
fn a_fork_of_the_successor_brings_back_no_removed_value(rule: Rule) -> Outcome {
    let mut world = World::new(&[], rule, Mode::default(), false);
    let [mut agent, mut peer] = [0, 1].map(|agent| Replica::new(rule, agent, 1));
    peer.keep = true;
    let (one, two, theirs) = (Log::state(0, 1), Log::state(0, 2), Log::state(1, 1));
    write(&mut world, &mut agent, one, 0, vec![Op::Set(1, 10, vec![])], &[]);
    peer.take(one, &agent.copies[&one]);
    agent.inc = 2;
    let (removed, kept) = (dot(0, 1, 0), item(&agent, dot(0, 1, 0))?);
    write(&mut world, &mut agent, two, 0, vec![Op::Relist(removed, kept)], &[(1, 1)]);
    peer.take(two, &agent.copies[&two]);
    write(&mut world, &mut peer, theirs, 0, vec![Op::Remove(1, vec![(removed, kept.tag)])], &[]);
    agent.take(theirs, &peer.copies[&theirs]);
    write(&mut world, &mut agent, two, 1, vec![], &[(1, 1)]);
    peer.take(two, &agent.copies[&two]);
    let state = peer.state();
    expect(!peer.needed(&state, &(removed, kept.tag)), "the removal is not needed any more")?;
    write(&mut world, &mut peer, theirs, 1, vec![], &[]);
    peer.fork_state(two, &[]);
    expect(!peer.state().live.contains_key(&removed), "the removed value is not back")
}

/// A removal is kept though its dot's log is dead: a successor that nobody here has heard of may list the dot.
fn a_removal_stays_while_an_unknown_successor_may_list_its_dot(rule: Rule) -> Outcome {
    let mut world = World::new(&[], rule, Mode::default(), false);
    let [mut agent, mut peer] = [0, 1].map(|agent| Replica::new(rule, agent, 1));
    let (one, two, theirs) = (Log::state(0, 1), Log::state(0, 2), Log::state(1, 1));
    write(&mut world, &mut agent, one, 0, vec![Op::Set(1, 10, vec![])], &[]);
    peer.take(one, &agent.copies[&one]);
    agent.inc = 2;
    let (removed, kept) = (dot(0, 1, 0), item(&agent, dot(0, 1, 0))?);
    write(&mut world, &mut agent, two, 0, vec![Op::Relist(removed, kept)], &[(1, 1)]);
    let name = (removed, kept.tag);
    write(&mut world, &mut peer, theirs, 0, vec![Op::Remove(1, vec![name])], &[]);
    peer.fork_state(one, &[]);
    let needed = peer.needed(&peer.state(), &name);
    let names = if needed { vec![Op::End(vec![name])] } else { vec![] };
    write(&mut world, &mut peer, theirs, 1, names, &[]);
    peer.take(two, &agent.copies[&two]);
    expect(!peer.state().live.contains_key(&removed), "the removed value is not back")
}

/// After a fork its writer repeats the removals of its own log.
fn removals_of_a_forked_log_are_written_again(rule: Rule) -> Outcome {
    let mut world = World::new(&[], rule, Mode::default(), false);
    let [mut agent, mut peer] = [0, 1].map(|agent| Replica::new(rule, agent, 1));
    let (mine, theirs) = (Log::state(0, 1), Log::state(1, 1));
    write(&mut world, &mut peer, theirs, 0, vec![Op::Set(1, 10, vec![])], &[]);
    agent.take(theirs, &peer.copies[&theirs]);
    let (removed, kept) = (dot(1, 1, 0), item(&agent, dot(1, 1, 0))?);
    let remove = vec![Op::Remove(1, vec![(removed, kept.tag)])];
    write(&mut world, &mut agent, mine, 0, remove, &[]);
    let branch = agent.copies[&mine].clone();
    agent.fork_state(mine, &[branch]);
    expect(agent.state().live.contains_key(&removed), "the fork hides the removal")?;
    world.incarnations.insert(0, 1);
    world.write(&mut agent)?;
    expect(!agent.state().live.contains_key(&removed), "it is written again")
}

/// Evidence with a lesser floor does not ask for events that a greater one had let go.
fn a_floor_never_falls(rule: Rule) -> Outcome {
    let mut world = World::new(&[], rule, Mode::default(), false);
    let [mut agent, mut peer] = [0, 1].map(|agent| Replica::new(rule, agent, 1));
    let log = Log::events(0, 1);
    for base in [0, 0, 0, 2] {
        write(&mut world, &mut agent, log, base, vec![], &[]);
    }
    peer.take(log, &agent.copies[&log]);
    peer.fork_events(log, Cut { end: 3, floor: 2 });
    expect(
        peer.state().events.get(&log).is_some_and(|window| (window.0, window.1) == (2, 3)),
        "event 2 counts",
    )?;
    peer.fork_events(log, Cut { end: 3, floor: 0 });
    expect(
        peer.state().events.get(&log).is_some_and(|window| (window.0, window.1) == (2, 3)),
        "event 2 still counts",
    )
}

/// A history and its name.
type Told = (&'static str, fn(Rule) -> Outcome);

/// The name of the first history that does not go as told.
pub fn broken(rule: Rule) -> Option<(&'static str, String)> {
    let told: [Told; 4] = [
        ("fork of a successor", a_fork_of_the_successor_brings_back_no_removed_value),
        ("unknown successor", a_removal_stays_while_an_unknown_successor_may_list_its_dot),
        ("removals after a fork", removals_of_a_forked_log_are_written_again),
        ("floor", a_floor_never_falls),
    ];
    told.into_iter().find_map(|(name, tell)| tell(rule).err().map(|fault| (name, fault)))
}

/// True if all goes as told.
pub fn all() -> bool {
    let (rd, today) = (Rule::default(), Rule::today());
    let told = [
        (
            "find 1, today: one root, two states",
            a_tail_that_a_retirement_let_in_is_no_state_of_its_own(today),
            true,
        ),
        (
            "find 1, R-D: one root, two states",
            a_tail_that_a_retirement_let_in_is_no_state_of_its_own(rd),
            false,
        ),
    ];
    let mut good = true;
    for (name, outcome, want) in told {
        println!("{name}: {outcome:?}");
        good &= outcome == Ok(want);
    }
    let told = [
        ("BACK and VIEW", a_collected_removal_is_missed_until_the_copy_comes_on_which_that_rests(rd)),
        ("unsigned closings", what_an_unsigned_entry_closes_stays(rd)),
    ];
    for (name, outcome) in told {
        println!("{name}: {outcome:?}");
        good &= outcome.is_ok();
    }
    println!("with clauses that can be left out: {:?}", broken(rd));
    good && broken(rd).is_none()
}
