//! The rule of succession as an executable model, and a search for histories that break it.
//!
//! The rule in words is `docs/decisions/succession.md`; the numbers of clauses in comments are those of its list.
//!
//! The model keeps no bytes and no signatures: a log is a list of entries with links, a root a hash of what it covers,
//! and evidence is what two contradictory copies show. All else is as in the rule: bases, closures, finals, names,
//! contributions, windows of event logs, facts, staged parts, tails that are not signed. State and verdicts are computed
//! from scratch, so that they can be read.
//!
//! A history is a tape of bytes from which each choice is taken. One that fails is shrunk to a few steps.

mod bound;
mod checks;
mod coverage;
mod exchange;
mod facts;
mod history;
mod liars;
mod log;
mod replica;
mod report;
mod rule;
mod scenarios;
mod search;
mod shrink;
mod state;
mod tape;
mod verdict;
mod world;
mod writer;

use std::process::ExitCode;

use crate::checks::Counts;
use crate::coverage::Table;
use crate::rule::{Mode, Rule};

const USAGE: &str = "\
usage: succession full [--json] [--threads N]      a million histories in all modes
       succession quick [--json] [--threads N]     as many as fit a minute of one core
       succession scenarios                        the histories that shaped the rule
       succession ablations [--threads N]          each clause left out, and the failure that this causes
       succession run RULE MODE COUNT [FIRST]      histories of one mode, from a seed on
       succession shrink RULE MODE SEED            the smallest history that fails like this one, step by step
       succession bound [RULE] [STARTS]            what a peer keeps of an agent that is started so often
RULE is rd, today, rdp (rd, and forks that roots in entries would show), or rd and clauses to leave out (rd-kill-names);
MODE is none, all, or joined by + of
liar liars fork loss backup unsaid days quota purge facts final";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match command(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("{fault}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// True if all is as it has to be.
fn command(args: &[String]) -> Result<bool, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("no number: {text}"));
    let json = args.iter().any(|arg| arg == "--json");
    let threads = match args.iter().position(|arg| arg == "--threads") {
        Some(at) => number(args.get(at + 1).map_or("", String::as_str))? as usize,
        None => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["full", ..] => Ok(report::full(100_000, json, threads)),
        ["quick", ..] => Ok(report::full(4_000, json, threads)),
        ["scenarios"] => Ok(scenarios::all()),
        ["ablations", ..] => Ok(report::ablations(threads)),
        ["run", rule, mode, count, ref rest @ ..] => {
            let (rule, parsed) = (Rule::parse(rule)?, Mode::parse(mode)?);
            let first =
                rest.first().filter(|word| !word.starts_with('-')).map_or(Ok(0), |word| number(word))?;
            let findings =
                quietly(|| search::search(rule, parsed, first, number(count).unwrap_or(0), threads));
            report::print_mode(mode, &findings);
            findings.table.print();
            Ok(findings.found.is_empty())
        }
        ["shrink", rule, mode, seed] => {
            let (rule, mode, seed) = (Rule::parse(rule)?, Mode::parse(mode)?, number(seed)?);
            let tape = quietly(|| shrink::shrink(tape::of_seed(seed, search::LENGTH), rule, mode));
            println!("{} bytes: {tape:?}", tape.len());
            let outcome =
                history::run(&tape, rule, mode, true, &mut Counts::default(), &mut Table::default());
            println!("{outcome:?}");
            Ok(outcome.is_ok())
        }
        ["bound", ref rest @ ..] => {
            let rule = Rule::parse(rest.first().unwrap_or(&"rd"))?;
            let starts = rest.get(1).map_or(Ok(1_000), |word| number(word))?;
            report::bound(rule, u16::try_from(starts).map_err(|_| "at most 65,535 starts")?);
            Ok(true)
        }
        _ => Err("nothing to do".into()),
    }
}

/// Panics of the model are failures of a history, and reported as such.
fn quietly<T>(step: impl FnOnce() -> T) -> T {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let out = step();
    std::panic::set_hook(hook);
    out
}
