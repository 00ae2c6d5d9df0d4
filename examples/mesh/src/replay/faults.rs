//! The faults, and the event of the trace before which each happens: a schedule that follows from the seed.
//!
//! Everything is over before the trace is, but for kills, which may come at any moment.

use crate::trace::generate::Prng;

const STREAM: u64 = 2;
/// How long the longest sleeper sleeps, in thousandths of the trace.
const LONGEST: u64 = 200;

/// The kinds of faults that are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kinds {
    pub(crate) cut: bool,
    pub(crate) sleep: bool,
    pub(crate) kill: bool,
    pub(crate) backup: bool,
    pub(crate) fork: bool,
    pub(crate) relay: bool,
}

impl Kinds {
    pub(crate) const ALL: Self =
        Self { cut: true, sleep: true, kill: true, backup: true, fork: true, relay: true };
    pub(crate) const NONE: Self =
        Self { cut: false, sleep: false, kill: false, backup: false, fork: false, relay: false };

    pub(crate) fn parse(list: &str) -> Result<Self, String> {
        let mut kinds = Self::NONE;
        match list {
            "all" => return Ok(Self::ALL),
            "none" => return Ok(kinds),
            _ => {}
        }
        for kind in list.split(',') {
            match kind {
                "cut" => kinds.cut = true,
                "sleep" => kinds.sleep = true,
                "kill" => kinds.kill = true,
                "backup" => kinds.backup = true,
                "fork" => kinds.fork = true,
                "relay" => kinds.relay = true,
                _ => {
                    return Err(format!(
                        "--faults takes all, none, or some of cut,sleep,kill,backup,fork,relay, not {list:?}"
                    ));
                }
            }
        }
        Ok(kinds)
    }
}

/// Processes and links by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Cut {
        link: usize,
    },
    Mend {
        link: usize,
    },
    /// Its links are cut, then it is stopped (SIGSTOP).
    Sleep {
        process: usize,
    },
    /// It goes on (SIGCONT), does alone the work of its agents meanwhile, then its links are joined. The longest sleeper is
    /// watched while it catches up.
    Wake {
        process: usize,
        longest: bool,
    },
    /// SIGKILL in the middle of its work; started again at once.
    Kill {
        process: usize,
    },
    /// Its directory is copied.
    Copy {
        process: usize,
    },
    /// The copy takes the place of its directory, and the library is told so.
    PutBack {
        process: usize,
    },
    /// The copy takes the place of its directory, and nobody is told. Its agents do again, alone, their work since then,
    /// and go on: writers with two histories.
    Fork {
        process: usize,
    },
    /// Stopped with its connections open, so that they time out.
    RelaySleep,
    RelayWake,
    RelayKill,
}

/// The faults, each with the event before which it happens, in this order.
pub(crate) type Schedule = Vec<(usize, Fault)>;

/// `links` are the ones between agents, which come first; the relay is there if there are several processes.
pub(crate) fn schedule(kinds: Kinds, events: usize, processes: usize, links: usize, seed: u64) -> Schedule {
    if events == 0 {
        return Schedule::new();
    }
    let mut prng = Prng::new(seed, STREAM);
    let below = |bound: usize, prng: &mut Prng| usize::try_from(prng.below(bound as u64)).unwrap_or(0);
    // With places in thousandths of the trace, so that the order stays if the trace is short.
    let mut schedule: Vec<(u64, Fault)> = Vec::new();
    // They are different if there are so many. The last process has the relay alone to give its entries to before it
    // is put back.
    let first = below((processes - 1).max(1), &mut prng);
    let [restored, sleeper, napper, forked] =
        [first, first + 1, first + 2, first + 3].map(|process| process % processes);
    if kinds.cut && links > 0 {
        for (start, length) in [(30, 90), (240, 90), (480, 120), (820, 100)] {
            let link = below(links, &mut prng);
            let start = start + prng.below(30);
            schedule.push((start, Fault::Cut { link }));
            schedule.push((start + length, Fault::Mend { link }));
        }
    }
    if kinds.relay && processes > 1 {
        // Two processes have nothing but the relay between them, and it is needed to put one back.
        let until = if processes > 2 { 615 } else { 315 };
        schedule.push((40 + prng.below(20), Fault::RelaySleep));
        schedule.push((until + prng.below(20), Fault::RelayWake));
        schedule.push((760 + prng.below(100), Fault::RelayKill));
    }
    if kinds.backup && processes > 1 {
        schedule.push((80 + prng.below(60), Fault::Copy { process: restored }));
        schedule.push((360 + prng.below(40), Fault::PutBack { process: restored }));
    }
    if kinds.fork && processes > 1 {
        schedule.push((665 + prng.below(10), Fault::Copy { process: forked }));
        schedule.push((722 + prng.below(6), Fault::Fork { process: forked }));
    }
    if kinds.sleep && processes > 1 {
        let start = 440 + prng.below(20);
        schedule.push((start, Fault::Sleep { process: sleeper }));
        schedule.push((start + LONGEST, Fault::Wake { process: sleeper, longest: true }));
        for (start, process) in [(170, napper), (730, restored)] {
            let start = start + prng.below(20);
            schedule.push((start, Fault::Sleep { process }));
            schedule.push((start + 80 + prng.below(20), Fault::Wake { process, longest: false }));
        }
    }
    if kinds.kill {
        // The first ones of any process; then one that has slept, and one that was put back.
        for (start, give) in [(20, 130), (290, 60), (560, 60)] {
            let others: Vec<usize> = (0..processes).filter(|process| *process != sleeper).collect();
            let process = prng.pick(&others).copied().unwrap_or(0);
            schedule.push((start + prng.below(give), Fault::Kill { process }));
        }
        schedule.push((690 + prng.below(30), Fault::Kill { process: sleeper }));
        schedule.push((900 + prng.below(90), Fault::Kill { process: restored }));
    }
    schedule.sort_by_key(|(at, _)| *at);
    let place = |at: u64| usize::try_from(u128::from(at) * events as u128 / 1_000).unwrap_or(0);
    schedule.into_iter().map(|(at, fault)| (place(at), fault)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read() {
        assert_eq!(Kinds::parse("all"), Ok(Kinds::ALL));
        assert_eq!(Kinds::parse("none"), Ok(Kinds::NONE));
        assert_eq!(Kinds::parse("cut,relay"), Ok(Kinds { cut: true, relay: true, ..Kinds::NONE }));
        assert!(Kinds::parse("").is_err() && Kinds::parse("all,none").is_err());
    }

    #[test]
    fn whatever_begins_ends_within_the_trace() {
        for (events, processes, seed) in
            [(1, 1, 1), (4, 5, 1), (7, 2, 2), (100, 3, 3), (4_000, 5, 4), (4_440, 16, 5)]
        {
            let schedule = schedule(Kinds::ALL, events, processes, 4, seed);
            assert!(schedule.iter().all(|(at, _)| *at <= events));
            let (mut asleep, mut copied, mut relay) = (Vec::new(), None, true);
            assert!(schedule.is_sorted_by_key(|(at, _)| *at));
            for (_, fault) in &schedule {
                match *fault {
                    Fault::Sleep { process } => asleep.push(process),
                    Fault::Wake { process, longest } => {
                        assert!(!longest || (relay && asleep == [process]), "the others are to be awake");
                        assert!(asleep.contains(&process));
                        asleep.retain(|sleeper| *sleeper != process);
                    }
                    Fault::Copy { process } => copied = Some(process),
                    Fault::PutBack { process } | Fault::Fork { process } => {
                        assert_eq!(copied.take(), Some(process));
                    }
                    Fault::RelaySleep => relay = false,
                    Fault::RelayWake => relay = true,
                    _ => {}
                }
            }
            assert!(asleep.is_empty() && relay);
        }
    }

    #[test]
    fn the_longest_sleeper_sleeps_for_a_fifth_of_the_trace() {
        let schedule = schedule(Kinds::ALL, 4_000, 5, 4, 9);
        let woken = schedule.iter().find(|(_, fault)| matches!(fault, Fault::Wake { longest: true, .. }));
        let Some((woken, Fault::Wake { process, .. })) = woken else { panic!("nobody sleeps") };
        let slept = schedule.iter().find(|(_, fault)| *fault == Fault::Sleep { process: *process });
        assert_eq!(slept.map(|(slept, _)| woken - slept), Some(800));
    }
}
