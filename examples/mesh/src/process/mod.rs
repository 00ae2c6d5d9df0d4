//! One process: a loop around one replica or relay, over TCP, commanded by a person or by another program.
//!
//! A round takes in all that waits, commands before frames of peers, stores it with one sync, and only then answers and
//! sends. [`Node`] is the loop's view of its replica or relay, [`Face`] its view of the source of its commands.

pub(crate) mod control;
pub(crate) mod dump;
pub(crate) mod folder;
pub(crate) mod hand;
pub(crate) mod host;
pub(crate) mod net;
pub(crate) mod options;
pub(crate) mod relay;
pub(crate) mod tally;
pub(crate) mod work;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use consilience::crdts::Timestamp;
use consilience::sync::session::{InputError, SessionEvent, SessionId, SessionOptions};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};

use crate::process::control::{Controlled, Detail, Status};
use crate::process::folder::Kind;
use crate::process::hand::Hand;
use crate::process::host::{Host, HostConfig, mesh_of_password, mesh_of_seed};
use crate::process::net::{Input, Net, News, Timing};
use crate::process::options::{Process, ProcessCommand, Role, USAGE};
use crate::process::relay::RelayNode;
use crate::process::work::Work;
use crate::trace::TIME_S_MAX;

/// So many waiting lines and inputs are taken in at once.
const LINES_MAX: usize = 256;
const INPUTS_MAX: usize = 64;
/// The shortest wait, for when something is due that a full stream holds up.
const WAIT_MIN_MS: u64 = 2;
/// Nothing is ever due later: a wait that is too short costs nothing.
const WAIT_MAX_MS: u64 = 60_000;

/// The source of the process's commands, which hears their results.
pub(crate) trait Face {
    /// So many bytes a line may have.
    const LINE_MAX: usize;

    fn ready(&mut self, addr: &str, node: &impl Node) -> Result<(), String>;

    /// Takes a command in. False if it is the last one.
    fn take(
        &mut self,
        line: &str,
        node: &mut impl Node,
        net: &mut Net,
        now: Timestamp,
    ) -> Result<bool, String>;

    /// Is told of a line that cannot be taken in. An error is the end.
    fn garbled(&mut self, why: String) -> Result<(), String>;

    /// Answers: everything that was taken in is stored.
    fn stored(&mut self, node: &mut impl Node, net: &Net) -> Result<(), String>;

    fn hear(&mut self, news: News);

    /// There will be no more commands. False if the process is to end.
    fn closed(&self) -> bool;

    /// Is told why the process cannot go on.
    fn failed(&mut self, why: &str);
}

/// Runs one of the modes in which this program is one process.
pub(crate) fn run(command: &ProcessCommand) -> ExitCode {
    let done = match command {
        ProcessCommand::Help => {
            print!("{USAGE}");
            Ok(())
        }
        ProcessCommand::Dump(dir) => dump::dump(dir, &mut std::io::stdout().lock()),
        ProcessCommand::Agent(process) | ProcessCommand::Relay(process) => {
            let relays = matches!(command, ProcessCommand::Relay(_));
            match &process.role {
                Role::Hand { .. } => start(process, relays, Hand::new()),
                Role::Control { .. } => start(process, relays, Controlled::default()),
            }
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("mesh: {why}");
            ExitCode::FAILURE
        }
    }
}

fn start(process: &Process, relays: bool, mut face: impl Face) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let done = runtime.block_on(async {
        let clock = Clock::of(&process.role);
        let (mesh, half_life_days) = match &process.role {
            Role::Hand { mesh } => (mesh_of_password(mesh), 30),
            Role::Control { seed, half_life_days } => (mesh_of_seed(*seed), *half_life_days),
        };
        // First of all: of an address that cannot be had nothing is to be left behind.
        let listener = TcpListener::bind(&process.listen).await;
        let listener = listener.map_err(|error| format!("--listen {}: {error}", process.listen))?;
        folder::join(&process.dir, &mesh, if relays { Kind::Relay } else { Kind::Agent })?;
        if relays {
            let node = RelayNode::open(&process.dir, mesh, process.restored, clock.now())?;
            return serve(process, &clock, listener, node, &mut face).await;
        }
        let by_trace = matches!(process.role, Role::Control { .. });
        let config = HostConfig { mesh, half_life_days, restored: process.restored, by_trace };
        let mut node = Host::open(&process.dir, &config, clock.now())?;
        if matches!(process.role, Role::Hand { .. }) {
            node.watch()?;
        }
        serve(process, &clock, listener, node, &mut face).await
    });
    if let Err(why) = &done {
        face.failed(why);
    }
    // It may be waiting for a line that never comes.
    runtime.shutdown_background();
    done
}

async fn serve<F: Face>(
    process: &Process,
    clock: &Clock,
    listener: TcpListener,
    mut node: impl Node,
    face: &mut F,
) -> Result<(), String> {
    let addr = listener.local_addr().map_err(|error| error.to_string())?;
    let (input, mut inputs) = mpsc::channel(INPUTS_MAX);
    let room = Arc::new(Notify::new());
    let mut net = Net::new(clock.timing(), input, room.clone());
    net.listen(listener);
    process.peers.iter().for_each(|peer| net.join(peer));
    face.ready(&addr.to_string(), &node)?;

    let mut lines = lines(F::LINE_MAX, LINES_MAX);
    let mut round = Round::default();
    let mut goes_on = true;
    while goes_on {
        let due = clock.wait(node.poll_timeout().into_iter().chain(net.poll_timeout()).min());
        tokio::select! {
            biased;
            line = lines.recv(), if !round.closed => round.line(line),
            input = inputs.recv() => round.inputs.extend(input),
            () = room.notified() => {}
            () = tokio::time::sleep(due) => {}
        }
        // All else that waits comes along: one sync is for all of it.
        while round.lines.len() < LINES_MAX
            && let Ok(line) = lines.try_recv()
        {
            round.line(Some(line));
        }
        while round.inputs.len() < INPUTS_MAX
            && let Ok(input) = inputs.try_recv()
        {
            round.inputs.push(input);
        }
        let now = clock.now();
        for line in round.lines.drain(..) {
            match line {
                Ok(line) => goes_on = goes_on && face.take(&line, &mut node, &mut net, now)?,
                Err(why) => face.garbled(why)?,
            }
        }
        for input in round.inputs.drain(..) {
            net.take(input, &mut node, now)?;
        }
        if node.poll_timeout().is_some_and(|due| due <= now) {
            node.handle_timeout(now);
        }
        net.handle_timeout(&mut node, now);
        node.store(now)?;
        face.stored(&mut node, &net)?;
        net.pump(&mut node, now);
        // The heads that sending has signed.
        node.store(now)?;
        net.news(&mut node).into_iter().for_each(|news| face.hear(news));
        goes_on = goes_on && (!round.closed || face.closed());
    }
    net.end(&mut node, clock.now()).await;
    node.store(clock.now())?;
    node.close()
}

/// The lines and inputs that wait to be taken in.
#[derive(Default)]
struct Round {
    lines: Vec<Line>,
    inputs: Vec<Input>,
    /// There will be no more lines.
    closed: bool,
}

impl Round {
    fn line(&mut self, line: Option<Line>) {
        self.closed |= line.is_none();
        self.lines.extend(line);
    }
}

/// The time for sessions and for storage. Events of a trace have instants of their own.
enum Clock {
    System,
    /// Of a replay: the system's, moved after every trace, so no stamp is ever from the future. It is one clock for all
    /// processes and for all their lives, since a log that a repair begins is named after it.
    Replay,
}

impl Clock {
    fn of(role: &Role) -> Self {
        match role {
            Role::Hand { .. } => Self::System,
            Role::Control { .. } => Self::Replay,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a program has a clock")]
    fn now(&self) -> Timestamp {
        let base_ms = match self {
            Self::System => 0,
            Self::Replay => TIME_S_MAX * 1_000,
        };
        let passed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let millis = passed.map_or(0, |passed| u64::try_from(passed.as_millis()).unwrap_or(u64::MAX));
        Timestamp::from_millis(base_ms.saturating_add(millis))
    }

    fn wait(&self, due: Option<Timestamp>) -> Duration {
        let wait = due.map_or(WAIT_MAX_MS, |due| due.as_millis().saturating_sub(self.now().as_millis()));
        Duration::from_millis(wait.clamp(WAIT_MIN_MS, WAIT_MAX_MS))
    }

    /// The library's own by hand; in a replay everything takes seconds.
    const fn timing(&self) -> Timing {
        match self {
            Self::System => Timing { heartbeat_ms: 30_000, idle_ms: 90_000 },
            Self::Replay => Timing { heartbeat_ms: 1_000, idle_ms: 10_000 },
        }
    }
}

/// A line, or why it cannot be taken in. The lines after it are there in both cases.
pub(crate) type Line = Result<String, String>;

/// The lines of standard input of at most so many bytes, of which at most `waiting` wait to be taken in.
pub(crate) fn lines(bytes_max: usize, waiting: usize) -> mpsc::Receiver<Line> {
    let (send, receive) = mpsc::channel(waiting);
    tokio::spawn(async move {
        let mut input = BufReader::new(tokio::io::stdin());
        while let Some(line) = next(&mut input, bytes_max).await {
            if send.send(line).await.is_err() {
                break;
            }
        }
    });
    receive
}

/// The next line, nothing at the end. Of a line that is too long no more is kept than may be.
async fn next(input: &mut (impl AsyncBufRead + Unpin), bytes_max: usize) -> Option<Line> {
    let (mut line, mut bytes) = (Vec::new(), 0_usize);
    loop {
        let piece = input.fill_buf().await.ok()?;
        let end = piece.iter().position(|byte| *byte == b'\n');
        let text = &piece[..end.unwrap_or(piece.len())];
        let is_last = piece.is_empty();
        if is_last && bytes == 0 {
            return None;
        }
        bytes = bytes.saturating_add(text.len());
        if bytes <= bytes_max {
            line.extend_from_slice(text);
        }
        let used = text.len() + usize::from(end.is_some());
        input.consume(used);
        if is_last || end.is_some() {
            break;
        }
    }
    if bytes > bytes_max {
        return Some(Err(format!("a line of {bytes} bytes is passed over: at most {bytes_max} are taken")));
    }
    Some(String::from_utf8(line).map_err(|_| "a line that is not UTF-8 is passed over".into()))
}

/// A replica with its store, or a relay with its own.
pub(crate) trait Node {
    fn connect(&mut self, options: SessionOptions, now: Timestamp) -> Result<SessionId, String>;
    fn disconnect(&mut self, session: SessionId);
    fn handle_input(&mut self, session: SessionId, frames: &[u8], now: Timestamp) -> Result<(), InputError>;
    fn poll_transmit(&mut self, session: SessionId, now: Timestamp, out: &mut Vec<u8>) -> bool;
    fn poll_event(&mut self) -> Option<(SessionId, SessionEvent)>;
    fn poll_timeout(&self) -> Option<Timestamp>;
    fn handle_timeout(&mut self, now: Timestamp);

    /// Stores all that has to be stored; entries of local writers are durable afterwards. An error is the end.
    fn store(&mut self, now: Timestamp) -> Result<(), String>;

    /// Ends well: everything that was stored is durable.
    fn close(self) -> Result<(), String>;

    /// Entries that were there when it was opened.
    fn restored_entries(&self) -> u64;

    /// Makes an event of a trace happen here.
    fn play(&mut self, work: &Work<'_>) -> Result<(), String>;

    /// Its figures, without those of connections.
    fn status(&mut self, detail: Detail) -> Result<Status, String>;

    /// The commands that a person may give.
    fn commands(&self) -> &'static str;

    /// Obeys a person's command, and gives the text to be shown.
    fn obey(&mut self, line: &str, now: Timestamp) -> Result<Option<String>, String>;

    /// The changes since the last call, for a person.
    fn changes(&mut self) -> Vec<String>;
}

pub(crate) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_line_leaves_the_ones_after_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = |bytes: &[u8], buffer: usize| {
            runtime.block_on(async {
                let (mut input, mut lines) = (BufReader::with_capacity(buffer, bytes), Vec::new());
                while let Some(line) = next(&mut input, 4).await {
                    lines.push(line.ok());
                }
                lines
            })
        };
        let some = |line: &str| Some(line.to_owned());
        for buffer in [1, 3, 64] {
            assert_eq!(
                read(b"one\n\n\xff\xfe\nfour\nfives\nend", buffer),
                [some("one"), some(""), None, some("four"), None, some("end")]
            );
            assert_eq!(read(b"", buffer), []);
            assert_eq!(read(b"\n", buffer), [some("")]);
        }
    }
}
