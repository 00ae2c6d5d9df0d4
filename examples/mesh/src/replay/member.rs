//! The starter's knowledge of one process: whether it runs, its commands, its last status ([`Member`]). And the child
//! process itself: started, spoken to by lines, signalled, killed ([`Running`]).

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::process::control::{Command, Coupled, Reply, Status};

/// Events that a process may have been sent and not answered.
const UNANSWERED_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Started; it has not said that it is ready.
    Starting,
    Awake,
    Asleep,
    /// In an orderly way.
    Ended,
}

/// One process, over all its lives.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) is_relay: bool,
    pub(crate) dir: PathBuf,
    /// Where it listens, in every life the same.
    pub(crate) addr: String,
    pub(crate) running: Option<Running>,
    /// How often it was started.
    pub(crate) life: u32,
    pub(crate) state: State,
    /// Its links are cut, so that it sees nothing of others before it has done its waiting work.
    pub(crate) isolated: bool,
    /// Events to be sent, by their places in the trace, and those that were sent and not answered.
    pub(crate) queue: VecDeque<usize>,
    pub(crate) unanswered: VecDeque<usize>,
    /// Its last status in this life.
    pub(crate) status: Status,
    /// The counters that begin anew with each life, of the lives before.
    past: Counters,
    /// Entries that it held, over time.
    pub(crate) entries: Vec<(Duration, u64)>,
    /// Couplings that it was asked for, by the number of the question.
    pub(crate) couplings: BTreeMap<u64, Vec<Coupled>>,
}

/// The counters of a process from its start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) signatures: u64,
    /// By address, bytes written to connections that it dialled and read from them.
    pub(crate) links: BTreeMap<String, [u64; 2]>,
    /// Bytes that accepted connections brought, and took.
    pub(crate) accepted: [u64; 2],
    /// Faults that peers showed.
    pub(crate) peer_faults: u64,
    /// Bytes that could not be done without.
    pub(crate) needed_bytes: u64,
}

impl Counters {
    fn add(&mut self, status: &Status) {
        self.signatures += status.signatures_verified;
        for (addr, bytes) in &status.links {
            let sum = self.links.entry(addr.clone()).or_default();
            *sum = [sum[0] + bytes[0], sum[1] + bytes[1]];
        }
        self.accepted = [self.accepted[0] + status.accepted[0], self.accepted[1] + status.accepted[1]];
        self.peer_faults += status.faults;
        self.needed_bytes += status.needed_bytes;
    }

    pub(crate) fn written(&self) -> u64 {
        self.links.values().map(|bytes| bytes[0]).sum::<u64>() + self.accepted[1]
    }

    pub(crate) fn read(&self) -> u64 {
        self.links.values().map(|bytes| bytes[1]).sum::<u64>() + self.accepted[0]
    }
}

impl Member {
    pub(crate) fn new(name: String, is_relay: bool, dir: PathBuf) -> Self {
        Self {
            name,
            is_relay,
            dir,
            addr: "127.0.0.1:0".into(),
            running: None,
            life: 0,
            state: State::Starting,
            isolated: false,
            queue: VecDeque::new(),
            unanswered: VecDeque::new(),
            status: Status::default(),
            past: Counters::default(),
            entries: Vec::new(),
            couplings: BTreeMap::new(),
        }
    }

    /// A process that runs, in place of the one before.
    pub(crate) fn begin(&mut self, running: Running) {
        self.past.add(&std::mem::take(&mut self.status));
        self.running = Some(running);
        self.state = State::Starting;
        // Unanswered events are sent again, before everything else.
        while let Some(event) = self.unanswered.pop_back() {
            self.queue.push_front(event);
        }
    }

    /// The counters of all lives, up to the last status.
    pub(crate) fn counters(&self) -> Counters {
        let mut counters = self.past.clone();
        counters.add(&self.status);
        counters
    }

    pub(crate) fn tell(&self, command: Command) {
        if let Some(running) = &self.running {
            running.tell(command);
        }
    }

    /// The next event that can be sent, if any.
    pub(crate) fn next_event(&mut self) -> Option<usize> {
        if self.state != State::Awake || self.unanswered.len() >= UNANSWERED_MAX {
            return None;
        }
        let event = self.queue.pop_front()?;
        self.unanswered.push_back(event);
        Some(event)
    }

    /// Whether nothing is waiting for it.
    pub(crate) fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.unanswered.is_empty()
    }

    /// Takes in a reply. Returns the news on which others have to act.
    pub(crate) fn hear(&mut self, reply: Reply, now: Duration) -> Result<Heard, String> {
        match reply {
            Reply::Ready { addr, .. } => {
                self.addr = addr;
                self.state = State::Awake;
                Ok(Heard::Ready)
            }
            Reply::Done { agent, ordinal } => Ok(Heard::Done { agent, ordinal }),
            Reply::Status(status) => {
                self.entries.push((now, status.entries));
                if !status.couplings.is_empty() {
                    self.couplings.insert(status.id, status.couplings.clone());
                }
                self.status = *status;
                Ok(Heard::Status)
            }
            Reply::Failed { why } => Err(format!("{} says: {why}", self.name)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Ready,
    Done { agent: u64, ordinal: u64 },
    Status,
}

/// Something that a process said, or that it said its last.
pub(crate) struct Said {
    pub(crate) process: usize,
    /// Which of its lives it was said in.
    pub(crate) life: u32,
    pub(crate) what: What,
}

pub(crate) enum What {
    Reply(Reply),
    /// A line that is no reply.
    Nonsense(String),
    Ended,
}

/// The settings that a process is started with.
pub(crate) struct Start<'a> {
    pub(crate) process: usize,
    pub(crate) life: u32,
    /// `--agent` or `--relay`.
    pub(crate) mode: &'a str,
    pub(crate) dir: &'a Path,
    pub(crate) listen: &'a str,
    pub(crate) seed: u64,
    pub(crate) half_life_days: u64,
    pub(crate) restored: bool,
    /// Where its complaints go.
    pub(crate) log: &'a Path,
}

/// A running process. It is killed if it is still there when this is dropped.
pub(crate) struct Running {
    child: Child,
    commands: Sender<Command>,
}

#[derive(Clone, Copy)]
pub(crate) enum Signal {
    Stop,
    Continue,
}

impl Running {
    /// Starts this very program as a process of the mesh.
    pub(crate) fn start(start: &Start<'_>, said: Sender<Said>) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = std::process::Command::new(program);
        command.arg(start.mode).arg(start.dir).args(["--listen", start.listen, "--control"]);
        command.args(["--seed", &start.seed.to_string()]);
        command.args(["--half-life-days", &start.half_life_days.to_string()]);
        if start.restored {
            command.arg("--restored");
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(start.log);
        let log = log.map_err(|error| format!("{}: {error}", start.log.display()))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        own_group(&mut command);
        let mut child = command.spawn().map_err(|error| format!("a process cannot be started: {error}"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a process without pipes".into());
        };
        let (commands, waiting) = channel();
        let (process, life) = (start.process, start.life);
        spawn(move || write(input, &waiting));
        spawn(move || read(output, |what| said.send(Said { process, life, what }).is_ok()));
        Ok(Self { child, commands })
    }

    /// Hands a command over. Whether it arrives is seen by the answer only.
    pub(crate) fn tell(&self, command: Command) {
        // The writing thread ends when the process does, and that is reported by the reading one.
        let _ = self.commands.send(command);
    }

    /// Stops the process where it is, or lets it go on. The standard library sends no signals but SIGKILL.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), String> {
        let name = match signal {
            Signal::Stop => "-STOP",
            Signal::Continue => "-CONT",
        };
        let mut command = std::process::Command::new("kill");
        command.args([name, &self.child.id().to_string()]);
        own_group(&mut command);
        let status = command.status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("kill {name}: {status}")),
            Err(error) => Err(format!("kill {name}: {error}")),
        }
    }

    /// SIGKILL, and waits until it is gone, so that its port and its store are free.
    pub(crate) fn kill(&mut self) -> Result<(), String> {
        self.child.kill().and_then(|()| self.child.wait()).map(drop).map_err(|error| error.to_string())
    }

    /// Whether it has ended, and well.
    pub(crate) fn ended(&mut self) -> Result<Option<bool>, String> {
        let status = self.child.try_wait().map_err(|error| error.to_string())?;
        Ok(status.map(|status| status.success()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = self.kill();
    }
}

/// Puts a process into a group of its own. Ctrl-C is then for the starter alone, which knows what to do about it. And if
/// the starter is killed, most systems wake and end a process that was stopped: nobody else could do so.
pub(crate) fn own_group(command: &mut std::process::Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    #[cfg(not(unix))]
    let _ = command;
}

/// A thread each for writing and reading: pipes fill while a process is stopped.
fn spawn(work: impl FnOnce() + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "a program may start threads")]
    std::thread::spawn(work);
}

fn write(mut input: ChildStdin, commands: &Receiver<Command>) {
    for command in commands {
        let Ok(mut line) = serde_json::to_vec(&command) else { return };
        line.push(b'\n');
        // It was killed, then.
        if input.write_all(&line).and_then(|()| input.flush()).is_err() {
            return;
        }
    }
}

fn read(output: ChildStdout, mut tell: impl FnMut(What) -> bool) {
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { break };
        let what = serde_json::from_str(&line).map_or_else(|_| What::Nonsense(line), What::Reply);
        if !tell(what) {
            return;
        }
    }
    tell(What::Ended);
}
