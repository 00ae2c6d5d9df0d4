//! Replays a trace of agents' work through several replicas that exchange signed logs over bad links, and shows that every
//! replica ends in the same state.
//!
//! ```sh
//! cargo run --release --example mesh                        # a generated trace
//! cargo run --release --example mesh -- --git .             # this repository's own history
//! cargo run --release --example mesh -- --help
//! ```
//!
//! Each agent has a key of its own and writes at one of the replicas. Its `n`-th event is a transaction: it sets keys of
//! an LWW map to the text `a@n`, where `a` is the agent's number, or removes them; inserts the agent into an OR-set; and
//! strengthens the coupling of the agent with whoever last touched each of these keys, as far as its replica knows.
//!
//! A replica sends each peer a bundle of what an event brought, and from time to time its summary to one of them, which
//! answers with a bundle of what is missing there. `host.rs` shows the library in use, `replay.rs` drives it all. The
//! integration test `tests/mesh.rs` takes these modules in, and so runs their tests too.
#![expect(
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "a program has the standard library"
)]

pub(crate) mod generate;
mod git;
mod history;
pub(crate) mod host;
mod lines;
mod link;
mod message;
pub(crate) mod options;
pub(crate) mod outcome;
pub(crate) mod plain;
mod prng;
pub(crate) mod replay;
mod stopwatch;
mod table;
mod trace;
mod verdict;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use options::{Command, Options, Source};
use outcome::Outcome;
use trace::Trace;

/// The replicas differ or are wrong, or the library refused what another replica sent.
const FAILED: u8 = 1;
/// The arguments or the trace are wrong.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    match options::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => print(options::USAGE, ExitCode::SUCCESS),
        Ok(Command::Run(options)) => run(&options),
        Err(complaint) => fail(MISUSED, &format!("{complaint}\n(--help lists the options)")),
    }
}

fn run(options: &Options) -> ExitCode {
    let trace = match read(options) {
        Ok(trace) => trace,
        Err(complaint) => return fail(MISUSED, &complaint),
    };
    let bar = progress_bar(trace.events.len());
    let outcome = replay::replay(&trace, options, &|events| bar.set_position(events));
    bar.finish_and_clear();
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(complaint) => return fail(FAILED, &complaint),
    };
    let text = if options.json {
        match serde_json::to_string(&outcome.figures(options)) {
            Ok(json) => json + "\n",
            Err(error) => return fail(FAILED, &error.to_string()),
        }
    } else {
        table::table(&trace, options, &outcome)
    };
    print(&text, exit_code(&outcome))
}

fn read(options: &Options) -> Result<Trace, String> {
    match &options.source {
        Source::Generated { events, agents } => Ok(generate::generate(*events, *agents, options.seed)),
        Source::Lines(file) => lines::read(file),
        Source::Git(dir) => git::read(dir),
    }
}

/// Success only if all replicas ended in one state, in the right one as far as that is known, and come back in it.
pub(crate) fn exit_code(outcome: &Outcome) -> ExitCode {
    if outcome.is_good() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

fn progress_bar(events: usize) -> ProgressBar {
    // Not in a pipe or a log file, where it would only be noise.
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(u64::try_from(events).ok(), ProgressDrawTarget::stderr());
    match ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} events") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Prints to standard output. A reader that has gone away (`mesh | head`) is no reason to panic.
fn print(text: &str, code: ExitCode) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => fail(FAILED, &error.to_string()),
        _ => code,
    }
}

fn fail(code: u8, complaint: &str) -> ExitCode {
    // There is nowhere left to report that standard error is closed.
    let _ = writeln!(std::io::stderr(), "mesh: {complaint}");
    ExitCode::from(code)
}
