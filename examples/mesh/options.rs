//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
Replays a trace of agents' work through several replicas over links that lose,
duplicate, reorder and partition, and shows that all end in the same state.

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
  --replicas N      replicas, 1 to 64; agent a works at replica a mod N [5]
  --loss P          share of frames that a link loses, 0 to 1 [0.2]
  --duplicate P     share of frames that a link delivers twice [0.1]
  --partition P     share of the time in which the replicas are split into two
                    groups that cannot reach one another [0.25]
  --half-life DAYS  time in which a coupling halves [30]
  --seed N          seed of the links and of the generated trace [1]

  --json            one JSON object on the last line instead of the table
  --help            this text

Frames are reordered too: each takes a time of its own.
Exit code 0: all replicas agree; 1: they differ; 2: wrong arguments or trace.
";

const REPLICAS_MAX: u64 = 64;
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
    pub(crate) replicas: usize,
    pub(crate) loss: f64,
    pub(crate) duplicate: f64,
    pub(crate) partition: f64,
    pub(crate) half_life_days: u64,
    pub(crate) seed: u64,
    pub(crate) json: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            source: Source::Generated { events: 4_000, agents: 48 },
            replicas: 5,
            loss: 0.2,
            duplicate: 0.1,
            partition: 0.25,
            half_life_days: 30,
            seed: 1,
            json: false,
        }
    }
}

pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut arguments = arguments;
    let mut options = Options::default();
    let (mut trace, mut git, mut events, mut agents) = (None, None, None, None);
    while let Some(argument) = arguments.next() {
        let (name, attached) = split(argument);
        let name = name.to_string_lossy().into_owned();
        let is_flag = matches!(name.as_str(), "--json" | "--help" | "-h");
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
            "--trace" => trace = Some(PathBuf::from(value()?)),
            "--git" => git = Some(PathBuf::from(value()?)),
            "--events" => events = Some(whole(&name, &value()?, 1, EVENTS_MAX)?),
            "--agents" => agents = Some(whole(&name, &value()?, 1, AGENTS_MAX)?),
            "--replicas" => {
                let replicas = whole(&name, &value()?, 1, REPLICAS_MAX)?;
                options.replicas = usize::try_from(replicas).map_err(|error| error.to_string())?;
            }
            "--loss" => options.loss = share(&name, &value()?)?,
            "--duplicate" => options.duplicate = share(&name, &value()?)?,
            "--partition" => options.partition = share(&name, &value()?)?,
            "--half-life" => options.half_life_days = whole(&name, &value()?, 1, HALF_LIFE_DAYS_MAX)?,
            "--seed" => options.seed = whole(&name, &value()?, 0, u64::MAX)?,
            _ => return Err(format!("unknown argument {name:?}")),
        }
    }
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

fn share(name: &str, value: &OsString) -> Result<f64, String> {
    let number = value.to_str().and_then(|text| text.parse().ok());
    number
        .filter(|number| (0.0..=1.0).contains(number))
        .ok_or_else(|| format!("{name} takes a share from 0 to 1, not {value:?}"))
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
            parsed(&["--loss=0.5", "--replicas", "3", "--json", "--trace", "a=b"])
        else {
            panic!("refused");
        };
        assert_eq!((options.loss, options.replicas, options.json), (0.5, 3, true));
        assert!(matches!(options.source, Source::Lines(file) if file.as_os_str() == "a=b"));
        assert!(matches!(parsed(&["--seed", "1", "--help"]), Ok(Command::Help)));
    }

    #[test]
    fn wrong_options_are_refused() {
        let wrong: [&[&str]; 12] = [
            &["--loss"],
            &["--loss", "1.1"],
            &["--loss", "NaN"],
            &["--loss", "-0.1"],
            &["--replicas", "0"],
            &["--replicas", "65"],
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
