//! The command line of the modes in which this program is one process of a mesh: `--agent`, `--relay`, `--dump`.

use std::ffi::OsString;
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
One process of a mesh, as on a machine of its own:

  mesh --agent DIR --listen ADDR --peer ADDR...   an agent, with its store in DIR
  mesh --relay DIR --listen ADDR --peer ADDR...   a relay, which carries what it
                                                  does not interpret
  mesh --dump DIR                                 what a stopped agent has, as JSON

  --listen ADDR     where peers may call, as in 127.0.0.1:7001; port 0 for any;
                    96 members at once
  --peer ADDR       a process to call; any number, and again after a failure
  --mesh TEXT       the mesh's password [demo]: who knows it is a member, so
                    choose a long one outside of a demonstration
  --restored        DIR was put back from a backup, or its disk has lost
                    content: say so at the first start
  --control         commands and answers are JSON lines (for the program that
                    starts the others), with
  --seed N            which mesh, and the agents' keys [1]
  --half-life-days N  time in which a coupling halves [30]

An agent reads lines: set TOPIC KEY VALUE, remove TOPIC KEY, get TOPIC KEY, quit.
";

/// A century.
const HALF_LIFE_DAYS_MAX: u64 = 36_500;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProcessCommand {
    Help,
    Agent(Process),
    Relay(Process),
    Dump(PathBuf),
}

/// What a process is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) dir: PathBuf,
    pub(crate) listen: String,
    pub(crate) peers: Vec<String>,
    pub(crate) restored: bool,
    pub(crate) role: Role,
}

/// Who tells it what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A person, who knows the mesh's password.
    Hand { mesh: String },
    /// The program that started it.
    Control { seed: u64, half_life_days: u64 },
}

/// Reads the arguments if they start one of these modes.
pub(crate) fn parse(arguments: &[OsString]) -> Option<Result<ProcessCommand, String>> {
    let (mode, _) = split(arguments.first()?);
    matches!(mode.as_str(), "--agent" | "--relay" | "--dump").then(|| read(&mode, arguments))
}

fn read(mode: &str, arguments: &[OsString]) -> Result<ProcessCommand, String> {
    // Wherever it stands: whoever asks for help is not to start anything.
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        return Ok(ProcessCommand::Help);
    }
    let mut arguments = arguments.iter();
    let (mut dir, mut listen, mut peers) = (None, None, Vec::new());
    let (mut restored, mut control) = (false, false);
    let (mut mesh, mut seed, mut half_life) = (None, None, None);
    while let Some(argument) = arguments.next() {
        let (name, attached) = split(argument);
        if attached.is_some() && matches!(name.as_str(), "--restored" | "--control" | "--help") {
            return Err(format!("{name} takes no value"));
        }
        let mut value = || {
            // The next option is no value; one that looks like an option can be given as --name=value.
            let next =
                || arguments.next().filter(|next| !next.as_encoded_bytes().starts_with(b"--")).cloned();
            let value = attached.clone().or_else(next);
            value.filter(|value| !value.is_empty()).ok_or_else(|| format!("{name} needs a value"))
        };
        match name.as_str() {
            name if name == mode => dir = Some(PathBuf::from(value()?)),
            "--listen" => listen = Some(address(&name, value()?, 0)?),
            "--peer" => peers.push(address(&name, value()?, 1)?),
            "--mesh" => mesh = Some(text(&name, value()?)?),
            "--seed" => seed = Some(whole(&name, value()?, 0, u64::MAX)?),
            "--half-life-days" => half_life = Some(whole(&name, value()?, 1, HALF_LIFE_DAYS_MAX)?),
            "--restored" => restored = true,
            "--control" => control = true,
            _ => return Err(format!("{mode} does not go with {name:?}")),
        }
    }
    let dir = dir.ok_or_else(|| format!("{mode} needs a directory"))?;
    if mode == "--dump" {
        let alone = listen.is_none() && peers.is_empty() && mesh.is_none() && seed.or(half_life).is_none();
        let alone = alone && !restored && !control;
        return if alone { Ok(ProcessCommand::Dump(dir)) } else { Err("--dump stands alone".into()) };
    }
    let role = match (control, mesh) {
        (true, Some(_)) => return Err("--control has --seed in the place of --mesh".into()),
        (false, _) if seed.or(half_life).is_some() => {
            return Err("--seed and --half-life-days are for --control".into());
        }
        (true, None) => Role::Control { seed: seed.unwrap_or(1), half_life_days: half_life.unwrap_or(30) },
        (false, mesh) => Role::Hand { mesh: mesh.unwrap_or_else(|| "demo".into()) },
    };
    let listen = listen.ok_or_else(|| format!("{mode} needs --listen, as in --listen 127.0.0.1:7001"))?;
    let process = Process { dir, listen, peers, restored, role };
    Ok(if mode == "--agent" { ProcessCommand::Agent(process) } else { ProcessCommand::Relay(process) })
}

/// `--name=value` in two.
fn split(argument: &OsString) -> (String, Option<OsString>) {
    let text = argument.to_string_lossy();
    match (argument.to_str(), text.split_once('=')) {
        (Some(_), Some((name, value))) if name.starts_with("--") => (name.into(), Some(value.into())),
        _ => (text.into_owned(), None),
    }
}

fn text(name: &str, value: OsString) -> Result<String, String> {
    value.into_string().map_err(|value| format!("{name}: {} is not text", value.display()))
}

/// A host and a port, as far as that can be told without asking anybody.
fn address(name: &str, value: OsString, port_min: u16) -> Result<String, String> {
    let value = text(name, value)?;
    let is_address = value.rsplit_once(':').is_some_and(|(host, port)| {
        // An IPv6 address stands in brackets, or its last part would be the port.
        let is_host =
            !host.is_empty() && (!host.contains(':') || host.starts_with('[') && host.ends_with(']'));
        is_host && port.parse().is_ok_and(|port: u16| port >= port_min)
    });
    if is_address {
        Ok(value)
    } else {
        Err(format!("{name} needs a host and a port, as in 127.0.0.1:7001, and {value:?} is none"))
    }
}

fn whole(name: &str, value: OsString, min: u64, max: u64) -> Result<u64, String> {
    let value = text(name, value)?;
    let number = value.parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("{name} needs a whole number from {min} to {max}, and {value:?} is none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<Result<ProcessCommand, String>> {
        parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn other_arguments_are_left_to_the_starter() {
        for line in ["", "--json", "--trace --agent", "--events 5 --agent x"] {
            assert_eq!(parsed(line), None);
        }
    }

    #[test]
    fn a_process_by_hand_has_a_password_and_peers() {
        let Some(Ok(ProcessCommand::Agent(process))) =
            parsed("--agent a --listen 127.0.0.1:0 --peer b:1 --peer=c:2 --mesh secret")
        else {
            panic!("it is an agent")
        };
        assert_eq!(process.peers, ["b:1", "c:2"]);
        assert_eq!(process.role, Role::Hand { mesh: "secret".into() });
    }

    #[test]
    fn a_controlled_process_has_a_seed() {
        let Some(Ok(ProcessCommand::Relay(process))) =
            parsed("--relay=a --listen x:0 --control --seed 7 --restored")
        else {
            panic!("it is a relay")
        };
        assert_eq!(process.role, Role::Control { seed: 7, half_life_days: 30 });
        assert!(process.restored);
    }

    #[test]
    fn help_is_given_wherever_it_is_asked_for() {
        for line in [
            "--agent --help",
            "--relay a --help",
            "--dump --help",
            "--agent a --listen -h",
            "--dump a b --help",
        ] {
            assert_eq!(parsed(line), Some(Ok(ProcessCommand::Help)), "{line}");
        }
        assert!(parsed("--agent a --listen [::1]:0 --peer host:1").is_some_and(|parsed| parsed.is_ok()));
    }

    #[test]
    fn what_is_missing_or_too_much_is_named() {
        for (line, word) in [
            ("--agent", "value"),
            ("--agent a", "--listen"),
            ("--agent a --listen b:0 --relay c", "--relay"),
            ("--agent a --listen b:0 --seed 3", "--control"),
            ("--agent a --listen b:0 --control --mesh c", "--seed"),
            ("--agent a --listen b:0 --control --half-life-days 0", "from 1"),
            ("--dump a --listen b:0", "alone"),
            ("--dump a --seed 3", "alone"),
            ("--agent --listen b:0", "value"),
            ("--agent a --listen foo", "port"),
            ("--agent a --listen :7", "port"),
            ("--agent a --listen ::1", "port"),
            ("--agent a --listen b:0 --peer c", "port"),
            ("--agent a --listen b:0 --peer c:0", "port"),
            ("--agent a --listen b:0 --peer [::1]", "port"),
            ("--dump a --control=1", "takes no value"),
        ] {
            let Some(Err(complaint)) = parsed(line) else { panic!("{line} is wrong") };
            assert!(complaint.contains(word), "{line}: {complaint}");
        }
    }
}
