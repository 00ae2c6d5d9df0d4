//! A mesh of agents as processes on this machine: replays a trace of their work while links are cut and processes sleep,
//! are killed and come back, and shows that all end in the same state with nothing lost.
//!
//! ```sh
//! cargo run --release -p consilience-mesh                        # a generated trace
//! cargo run --release -p consilience-mesh -- --git .             # this repository's own history
//! cargo run --release -p consilience-mesh -- --help
//! cargo run --release -p consilience-mesh -- --agent --help      # one process, as on a machine of its own
//! ```
//!
//! Each agent has a key of its own and writes in one of the processes. Its `n`-th event is a transaction: it sets keys of
//! an LWW map to the text `a@n`, where `a` is the agent's number, or removes them; inserts the agent into an OR-set; and
//! strengthens the coupling of the agent with the last agent that touched each of these keys, as far as its process
//! knows. And it is an event `a@n` of its log.
//!
//! One program, three parts. A process (`process/`): `host.rs` and `work.rs` show the library in use, `net.rs` connects it.
//! The starter of the processes and of their faults (`replay/`), with `fleet.rs` for its acts and `faults.rs` for their
//! times. And the findings in the end (`report/`): `verdict.rs` compares the stores that are left with the trace.
//! The first two speak `process/control.rs`.
#![expect(
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "a program has the standard library"
)]

mod interrupt;
mod options;
mod process;
mod replay;
mod report;
mod scratch;
mod shown;
mod trace;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use interrupt::Interrupt;
use options::{Command, Options, Source};
use report::html::Page;
use report::outcome::Outcome;
use report::progress::Progress;
use report::{html, table};
use scratch::Scratch;
use trace::{Trace, generate, git, lines};

/// The processes differ, something is lost or wrong, or a process failed.
const FAILED: u8 = 1;
/// The arguments or the trace are wrong.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match process::options::parse(&arguments) {
        Some(Ok(command)) => return process::run(&command),
        Some(Err(complaint)) => {
            return fail(MISUSED, &format!("{complaint}\n(mesh --agent --help lists the options)"));
        }
        None => {}
    }
    match options::parse(arguments.into_iter()) {
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
    // Before there is anything that must not be left behind.
    let interrupt = match Interrupt::watch() {
        Ok(interrupt) => interrupt,
        Err(complaint) => return fail(FAILED, &complaint),
    };
    let scratch = match Scratch::new(options.keep.as_deref()) {
        Ok(scratch) => scratch,
        Err(complaint) => return fail(MISUSED, &complaint),
    };
    let page = match options.html.as_deref().map(Page::open).transpose() {
        Ok(page) => page,
        Err(complaint) => return fail(MISUSED, &complaint),
    };
    let progress = Progress::new(trace.events.len(), options.processes);
    let outcome = scratch.keep_trace(&trace).and_then(|()| {
        replay::replay(&trace, options, scratch.dir(), &interrupt, &|fleet| progress.show(fleet))
    });
    progress.clear();
    match (outcome.and_then(|outcome| report(&trace, options, &outcome, page)), interrupt.code()) {
        (Ok((text, code)), _) => print(&text, code),
        // Any failure after a signal.
        (Err(_), Some(code)) => fail(code, "interrupted"),
        (Err(complaint), None) => fail(FAILED, &complaint),
    }
}

/// The text to be printed, and the exit code.
fn report(
    trace: &Trace,
    options: &Options,
    outcome: &Outcome,
    page: Option<Page>,
) -> Result<(String, ExitCode), String> {
    if let Some(page) = page {
        page.write(&html::page(trace, options, outcome))?;
    }
    let text = if options.json {
        serde_json::to_string(&outcome.figures(options)).map_err(|error| error.to_string())? + "\n"
    } else {
        table::table(trace, options, outcome)
    };
    let code = if outcome.is_good() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) };
    Ok((text, code))
}

fn read(options: &Options) -> Result<Trace, String> {
    match &options.source {
        Source::Generated { events, agents } => Ok(generate::generate(*events, *agents, options.seed)),
        Source::Lines(file) => lines::read(file),
        Source::Git(dir) => git::read(dir),
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
