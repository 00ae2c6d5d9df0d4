//! All processes of a run: the acts on them, and waiting for their replies, by a [`Clock`]. The libraries
//! read no clock; that is the host's affair.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a program may read the clock")]

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::interrupt::Interrupt;
use crate::options::Options;
use crate::process::control::{Command, Detail};
use crate::replay::backlog::Backlog;
use crate::replay::links::{self, Link};
use crate::replay::member::{Heard, Member, Running, Said, Signal, Start, State, What};

/// For so long nothing may move: no process start, no event happen, no entry come or be signed anywhere.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks no more time than this counts: if it is more, this program was not let work either.
const LOOKED_AWAY: Duration = Duration::from_millis(250);
/// Between two looks at the same thing.
pub(crate) const LOOK: Duration = Duration::from_millis(4);

/// How long there was no progress. However long all of it takes on a busy machine, a run that moves may go on.
#[derive(Debug)]
pub(crate) struct Patience {
    last: Duration,
    moves: u64,
    idle: Duration,
}

impl Patience {
    /// From an instant on, with the count of moves then.
    pub(crate) const fn new(now: Duration, moves: u64) -> Self {
        Self { last: now, moves, idle: Duration::ZERO }
    }

    /// Looks at the clock and at the count of moves: whether nothing has moved for too long.
    pub(crate) fn is_over(&mut self, now: Duration, moves: u64) -> bool {
        self.idle += now.saturating_sub(self.last).min(LOOKED_AWAY);
        self.last = now;
        if self.moves != moves {
            self.moves = moves;
            self.idle = Duration::ZERO;
        }
        self.idle > PATIENCE
    }
}

pub(crate) struct Fleet {
    /// The agents' processes, then the relay.
    pub(crate) members: Vec<Member>,
    pub(crate) links: Vec<Link>,
    pub(crate) clock: Clock,
    pub(crate) kills: u64,
    /// Processes that came back after that.
    pub(crate) restarts: u64,
    said: Receiver<Said>,
    say: Sender<Said>,
    seed: u64,
    half_life_days: u64,
    /// Of the last question for a status.
    asked: u64,
    /// Counts all progress.
    moves: u64,
    pub(crate) backlog: Backlog,
    pub(crate) interrupt: Interrupt,
}

impl Fleet {
    /// Starts all processes, with their stores in `dir`, and joins them.
    pub(crate) fn start(
        options: &Options,
        dir: &Path,
        backlog: Backlog,
        interrupt: Interrupt,
    ) -> Result<Self, String> {
        let agents = (0..options.processes).map(|number| {
            let name = format!("agent-{number}");
            let store = dir.join(&name);
            Member::new(name, false, store)
        });
        let relay =
            links::relay(options.processes).map(|_| Member::new("relay".into(), true, dir.join("relay")));
        let (say, said) = channel();
        let mut fleet = Self {
            members: agents.chain(relay).collect(),
            links: links::links(options.processes),
            clock: Clock::start(),
            kills: 0,
            restarts: 0,
            said,
            say,
            seed: options.seed,
            half_life_days: options.half_life_days,
            asked: 0,
            moves: 0,
            backlog,
            interrupt,
        };
        for process in 0..fleet.members.len() {
            fleet.begin(process, false)?;
        }
        fleet.wait("for the processes to start", |fleet| {
            fleet.members.iter().all(|member| member.state == State::Awake)
        })?;
        Ok(fleet)
    }

    /// Starts a process, again or for the first time, where it listened before.
    fn begin(&mut self, process: usize, restored: bool) -> Result<(), String> {
        let member = &mut self.members[process];
        member.life += 1;
        let start = Start {
            process,
            life: member.life,
            mode: if member.is_relay { "--relay" } else { "--agent" },
            dir: &member.dir,
            listen: &member.addr,
            seed: self.seed,
            half_life_days: self.half_life_days,
            restored,
            log: &log_of(&member.dir),
        };
        let running = Running::start(&start, self.say.clone())?;
        member.begin(running);
        for link in &mut self.links {
            link.joined &= link.from != process;
        }
        Ok(())
    }

    /// Tells the processes which of their links are to be there now.
    fn join_links(&mut self) {
        for link in &mut self.links {
            let wanted = !link.cut && !self.members[link.from].isolated && !self.members[link.to].isolated;
            let (from, addr) = (&self.members[link.from], self.members[link.to].addr.clone());
            // One that starts is told when it is ready, and where the other listens is known when that one is.
            let known = from.state != State::Starting && !addr.ends_with(":0");
            if link.joined != wanted && known {
                from.tell(if wanted { Command::Join { addr } } else { Command::Cut { addr } });
                link.joined = wanted;
            }
        }
    }

    pub(crate) fn cut(&mut self, link: usize, cut: bool) {
        self.links[link].cut = cut;
        self.join_links();
    }

    /// Cuts all links of a process, and waits until it has noticed; or joins them again.
    pub(crate) fn isolate(&mut self, process: usize, isolated: bool) -> Result<(), String> {
        self.members[process].isolated = isolated;
        self.join_links();
        if !isolated {
            return Ok(());
        }
        let mut patience = self.patience();
        loop {
            self.statuses(&[process], Detail::Brief)?;
            let member = &self.members[process];
            if member.status.sessions == 0 {
                return Ok(());
            }
            let name = member.name.clone();
            if self.is_over(&mut patience) {
                return Err(format!("{} keeps its sessions although its links are cut", name));
            }
            self.pump(LOOK)?;
        }
    }

    /// SIGSTOP or SIGCONT.
    pub(crate) fn signal(&mut self, process: usize, signal: Signal) -> Result<(), String> {
        let member = &mut self.members[process];
        member.running.as_ref().ok_or("no process to signal")?.signal(signal)?;
        member.state = match signal {
            Signal::Stop => State::Asleep,
            Signal::Continue => State::Awake,
        };
        Ok(())
    }

    /// SIGKILL, then something with its directory, and a new start.
    pub(crate) fn kill(
        &mut self,
        process: usize,
        restored: bool,
        between: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<(), String> {
        let member = &mut self.members[process];
        member.running.as_mut().ok_or("no process to kill")?.kill()?;
        self.kills += 1;
        between(&member.dir)?;
        self.begin(process, restored)
    }

    /// Asks for the status of processes that are awake.
    pub(crate) fn ask(&mut self, processes: impl Iterator<Item = usize>, detail: Detail) -> u64 {
        self.asked += 1;
        for process in processes {
            if self.members[process].state == State::Awake {
                self.members[process].tell(Command::Status { id: self.asked, detail });
            }
        }
        self.asked
    }

    pub(crate) fn all(&self) -> Vec<usize> {
        (0..self.members.len()).collect()
    }

    /// Fresh statuses of all these processes, as soon as they are awake and answer.
    pub(crate) fn statuses(&mut self, processes: &[usize], detail: Detail) -> Result<(), String> {
        self.wait("for processes to start", |fleet| {
            processes.iter().all(|process| fleet.members[*process].state == State::Awake)
        })?;
        let asked = self.ask(processes.iter().copied(), detail);
        self.wait("for processes to say how they are", |fleet| {
            processes.iter().all(|process| fleet.members[*process].status.id >= asked)
        })
    }

    pub(crate) fn patience(&self) -> Patience {
        Patience::new(self.clock.now(), self.moves)
    }

    /// Whether nothing has moved for too long.
    pub(crate) fn is_over(&self, patience: &mut Patience) -> bool {
        patience.is_over(self.clock.now(), self.moves)
    }

    /// Waits until something is so. An error if nothing moves meanwhile.
    pub(crate) fn wait(&mut self, what: &str, so: impl Fn(&Self) -> bool) -> Result<(), String> {
        let mut patience = self.patience();
        while !so(self) {
            if self.is_over(&mut patience) {
                return Err(format!("waited {what}, and nothing moved for {} s", PATIENCE.as_secs()));
            }
            self.pump(LOOK)?;
        }
        Ok(())
    }

    /// Waits until all these processes hold the same and none has work to do; `Ok(false)` if nothing moves any more and
    /// they do not. The same state as well, unless the caller is content with entries.
    pub(crate) fn agree(&mut self, processes: &[usize], detail: Detail) -> Result<bool, String> {
        let mut patience = self.patience();
        loop {
            // Changes while they are asked are not in their replies.
            let drained = processes.iter().all(|process| self.members[*process].is_drained());
            self.statuses(processes, Detail::Brief)?;
            let mut agree = drained && self.hold_the_same(processes);
            // Only now is a pass over all that they hold worth its while.
            if agree && detail != Detail::Brief {
                self.statuses(processes, detail)?;
                agree = self.hold_the_same(processes) && self.mean_the_same(processes);
            }
            if agree || self.is_over(&mut patience) {
                return Ok(agree);
            }
            self.pump(LOOK)?;
        }
    }

    fn hold_the_same(&self, processes: &[usize]) -> bool {
        let mut members = processes.iter().map(|process| &self.members[*process]);
        let root = members.clone().next().map(|first| &first.status.root);
        members.all(|member| member.is_drained() && Some(&member.status.root) == root)
    }

    fn mean_the_same(&self, processes: &[usize]) -> bool {
        let agents =
            processes.iter().map(|process| &self.members[*process]).filter(|member| !member.is_relay);
        let mut digests = agents.map(|member| &member.status.digest);
        let first = digests.clone().next();
        digests.all(|digest| Some(digest) == first)
    }

    /// Hands out the events that can be, and hears the replies, for at most `limit` if there are none. An error if the
    /// program was told to end.
    pub(crate) fn pump(&mut self, limit: Duration) -> Result<(), String> {
        self.interrupt.check()?;
        for member in &mut self.members {
            while let Some(place) = member.next_event() {
                member.tell(self.backlog.command(place));
            }
        }
        let mut limit = limit;
        loop {
            match self.said.recv_timeout(limit) {
                Ok(said) => self.hear(said)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err("nobody is left to hear".into()),
            }
            limit = Duration::ZERO;
        }
    }

    fn hear(&mut self, said: Said) -> Result<(), String> {
        let now = self.clock.now();
        let member = &mut self.members[said.process];
        if said.life != member.life {
            return Ok(());
        }
        let held = (member.status.entries, member.status.root.clone());
        let heard = match said.what {
            What::Reply(reply) => member.hear(reply, now)?,
            What::Ended if member.state == State::Ended => return Ok(()),
            What::Ended => return Err(format!("{} ended by itself", member.name)),
            What::Nonsense(line) => return Err(format!("{} says a line, no reply: {line}", member.name)),
        };
        match heard {
            Heard::Ready => {
                self.moves += 1;
                self.restarts += u64::from(member.life > 1);
                self.join_links();
            }
            Heard::Done { agent, ordinal } => {
                let place = self.backlog.happened(agent, ordinal);
                self.moves += 1;
                member.unanswered.retain(|unanswered| Some(*unanswered) != place);
            }
            Heard::Status => {
                self.moves += u64::from(held != (member.status.entries, member.status.root.clone()));
            }
        }
        Ok(())
    }

    /// Lets all processes end in an orderly way.
    pub(crate) fn stop(&mut self) -> Result<(), String> {
        for member in &mut self.members {
            member.state = State::Ended;
            member.tell(Command::Stop);
        }
        for process in self.all() {
            let mut patience = self.patience();
            loop {
                let over = self.is_over(&mut patience);
                let member = &mut self.members[process];
                match member.running.as_mut().map_or(Ok(Some(true)), Running::ended)? {
                    Some(true) => break,
                    Some(false) => return Err(format!("{} did not end well", member.name)),
                    None if over => return Err(format!("{} does not end", member.name)),
                    None => self.pump(LOOK)?,
                }
            }
        }
        Ok(())
    }

    /// The complaints of the processes, from their standard error.
    pub(crate) fn complaints(&self) -> String {
        let log = |member: &Member| std::fs::read_to_string(log_of(&member.dir)).unwrap_or_default();
        let lines = self.members.iter().map(|member| {
            let log = log(member);
            let last = log.lines().rev().take(3).map(|line| format!("\n  {}: {line}", member.name));
            last.collect::<String>()
        });
        lines.collect()
    }
}

fn log_of(dir: &Path) -> PathBuf {
    dir.with_extension("log")
}

/// Time since the run began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(patience: &mut Patience, from_s: u64, to_s: u64, moves: impl Fn(u64) -> u64) -> bool {
        let looks = from_s * 10..to_s * 10;
        looks.into_iter().any(|look| patience.is_over(Duration::from_millis(look * 100), moves(look)))
    }

    #[test]
    fn patience_ends_when_nothing_moves_and_not_when_it_takes_long() {
        let mut patience = Patience::new(Duration::ZERO, 0);
        assert!(!looks(&mut patience, 0, 29, |_| 0));
        assert!(!looks(&mut patience, 29, 10_000, |look| look / 250), "one move in 25 s");
        assert!(looks(&mut patience, 10_000, 10_031, |_| 7));
    }

    #[test]
    fn patience_does_not_count_what_its_owner_slept_through() {
        let mut patience = Patience::new(Duration::ZERO, 0);
        for hour in 1..100 {
            assert!(!patience.is_over(Duration::from_secs(3_600 * hour), 0));
        }
    }
}
