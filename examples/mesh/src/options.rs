//! The command line of the program that starts the others.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::replay::faults::Kinds;

pub(crate) const USAGE: &str = "\
Starts agents as processes that meet over TCP on this machine, replays a trace
of their work while links are cut and processes sleep, are killed and come
back, and shows that all end in the same state with nothing lost.

Usage: mesh [OPTIONS]

The trace
  --trace FILE      JSON lines: {\"t\": unix seconds, \"agent\": number,
                    \"keys\": [\"set this\", \"-remove that\"]}
  --git DIR         the history of a git repository: a commit is an event, an
                    author an agent, a path a key
  (neither)         a generated one, the same for the same seed
  --events N        events to generate [4000]
  --agents N        agents to generate [48]

The mesh
  --processes N     processes, 1 to 16; agent a works in process a mod N [5]
  --faults LIST     all, none, or some of cut,sleep,kill,backup,fork,relay
                    [all]
  --lockstep        one event at a time: the next one when every process has it
                    (with --faults none, which it implies)
  --half-life DAYS  time in which a coupling halves [30]
  --seed N          seed of the faults and of the generated trace [1]

The results
  --json            one JSON object on the last line instead of the table
  --html FILE       a page with the table and plots too
  --keep DIR        keeps the stores in this directory, which must be empty or
                    new, with trace.jsonl: the trace as a file for --trace
  --help            this text

Parts, as on several machines: mesh --agent --help
Exit code 0: all processes agree and nothing is lost; 1: not so; 2: wrong
arguments or trace.
";

const PROCESSES_MAX: u64 = 16;
const EVENTS_MAX: u64 = 1_000_000;
const AGENTS_MAX: u64 = 100_000;
/// A century.
const HALF_LIFE_DAYS_MAX: u64 = 36_500;

pub(crate) enum Command {
    Help,
    Run(Options),
}

/// Where the trace comes from.
pub(crate) enum Source {
    Generated { events: u64, agents: u64 },
    Lines(PathBuf),
    Git(PathBuf),
}

pub(crate) struct Options {
    pub(crate) source: Source,
    pub(crate) processes: usize,
    pub(crate) faults: Kinds,
    pub(crate) lockstep: bool,
    pub(crate) half_life_days: u64,
    pub(crate) seed: u64,
    pub(crate) json: bool,
    pub(crate) html: Option<PathBuf>,
    pub(crate) keep: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            source: Source::Generated { events: 4_000, agents: 48 },
            processes: 5,
            faults: Kinds::ALL,
            lockstep: false,
            half_life_days: 30,
            seed: 1,
            json: false,
            html: None,
            keep: None,
        }
    }
}

pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut arguments = arguments;
    let mut options = Options::default();
    let (mut trace, mut git, mut events, mut agents, mut faults) = (None, None, None, None, None);
    while let Some(argument) = arguments.next() {
        let (name, attached) = split(argument);
        let name = name.to_string_lossy().into_owned();
        let is_flag = matches!(name.as_str(), "--json" | "--lockstep" | "--help" | "-h");
        if is_flag && attached.is_some() {
            return Err(format!("{name} takes no value"));
        }
        let mut value = || {
            let value = attached.clone().or_else(|| arguments.next());
            value.filter(|value| !value.is_empty()).ok_or_else(|| format!("{name} needs a value"))
        };
        match name.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--json" => options.json = true,
            "--lockstep" => options.lockstep = true,
            "--trace" => trace = Some(PathBuf::from(value()?)),
            "--git" => git = Some(PathBuf::from(value()?)),
            "--html" => options.html = Some(PathBuf::from(value()?)),
            "--keep" => options.keep = Some(PathBuf::from(value()?)),
            "--events" => events = Some(whole(&name, &value()?, 1, EVENTS_MAX)?),
            "--agents" => agents = Some(whole(&name, &value()?, 1, AGENTS_MAX)?),
            // The latter is its name from when they were no processes.
            "--processes" | "--replicas" => {
                let processes = whole(&name, &value()?, 1, PROCESSES_MAX)?;
                options.processes = usize::try_from(processes).map_err(|error| error.to_string())?;
            }
            "--faults" => faults = Some(Kinds::parse(&value()?.to_string_lossy())?),
            "--half-life" => options.half_life_days = whole(&name, &value()?, 1, HALF_LIFE_DAYS_MAX)?,
            "--seed" => options.seed = whole(&name, &value()?, 0, u64::MAX)?,
            _ => return Err(format!("unknown argument {name:?}")),
        }
    }
    options.faults = match faults {
        Some(faults) if options.lockstep && faults != Kinds::NONE => {
            return Err("--lockstep goes with --faults none only".into());
        }
        Some(faults) => faults,
        None if options.lockstep => Kinds::NONE,
        None => Kinds::ALL,
    };
    options.source = match (trace, git) {
        (Some(_), Some(_)) => return Err("--trace and --git exclude each other".into()),
        (None, None) => Source::Generated { events: events.unwrap_or(4_000), agents: agents.unwrap_or(48) },
        _ if events.or(agents).is_some() => {
            return Err("--events and --agents are for generated traces".into());
        }
        (Some(file), None) => Source::Lines(file),
        (None, Some(dir)) => Source::Git(dir),
    };
    Ok(Command::Run(options))
}

/// `--name=value` in its two parts. Only an argument in UTF-8 is looked into; any other can be a value, not a name.
fn split(argument: OsString) -> (OsString, Option<OsString>) {
    match argument.to_str().and_then(|text| text.split_once('=')) {
        Some((name, value)) if name.starts_with("--") => (name.into(), Some(value.into())),
        _ => (argument, None),
    }
}

fn whole(name: &str, value: &OsString, least: u64, most: u64) -> Result<u64, String> {
    let number = value.to_str().and_then(|text| text.parse().ok());
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("{name} takes a whole number from {least} to {most}, not {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Command, String> {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn options_are_read_in_both_spellings() {
        let Ok(Command::Run(options)) =
            parsed(&["--faults=cut,kill", "--processes", "3", "--json", "--trace", "a=b"])
        else {
            panic!("refused");
        };
        assert_eq!((options.processes, options.json, options.lockstep), (3, true, false));
        assert!(options.faults.cut && options.faults.kill && !options.faults.sleep);
        assert!(matches!(options.source, Source::Lines(file) if file.as_os_str() == "a=b"));
        assert!(matches!(parsed(&["--seed", "1", "--help"]), Ok(Command::Help)));
        let Ok(Command::Run(options)) = parsed(&["--replicas", "16", "--lockstep"]) else {
            panic!("refused")
        };
        assert_eq!((options.processes, options.faults), (16, Kinds::NONE));
    }

    #[test]
    fn wrong_options_are_refused() {
        let wrong: [&[&str]; 14] = [
            &["--faults"],
            &["--faults", "fire"],
            &["--faults", "cut,"],
            &["--faults", "all", "--lockstep"],
            &["--processes", "0"],
            &["--processes", "17"],
            &["--replicas", "17"],
            &["--loss", "0.5"],
            &["--seed", "-1"],
            &["--json=yes"],
            &["--trace", "a", "--git", "b"],
            &["--trace", "a", "--events", "5"],
            &["--trace="],
            &["somewhere"],
        ];
        for arguments in wrong {
            assert!(parsed(arguments).is_err(), "{arguments:?}");
        }
    }
}
