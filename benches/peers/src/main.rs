//! Published libraries measured on the same work in one run: CRDTs, signed logs, set reconciliation, and bringing two
//! replicas together.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml -- crdt` prints a table, with `--json` one
//! line for each figure; `log`, `reconcile` and `sync` instead of `crdt` measure the others. `--help` lists the options.

mod crdt;
mod group;
mod log;
mod measure;
mod random;
mod reconcile;
mod sync;

use std::process::ExitCode;

use measure::Figure;

#[global_allocator]
static ALLOCATOR: measure::Counting = measure::Counting;

const HELP: &str = "\
usage: consilience-peers-bench [GROUP]... [OPTION]...

groups (all of them when none is named):
  crdt            last-writer-wins maps and observed-remove sets
  log             signed logs
  reconcile       finding what two sets of 32-byte ids do not share
  sync            bringing two replicas of one map together

options:
  --json          one JSON line for each figure instead of a table
  --peer NAME     only this library (repeatable)
  --work NAME     only this work (repeatable)
  --quick         a tenth of the size or less and two runs: a smoke test, no figures to keep
  --runs N        runs for each timed figure, of which the median is taken (default 5)
  --help          this text
";

/// What was asked for on the command line.
pub struct Options {
    groups: Vec<String>,
    json: bool,
    peers: Vec<String>,
    works: Vec<String>,
    quick: bool,
    runs: Option<usize>,
}

impl Options {
    /// Whether this library is to be measured.
    pub fn wants_peer(&self, name: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|peer| peer == name)
    }

    /// Whether this work is to be measured.
    pub fn wants_work(&self, name: &str) -> bool {
        self.works.is_empty() || self.works.iter().any(|work| work == name)
    }

    /// Whether everything is to be a tenth of its size or less.
    pub fn quick(&self) -> bool {
        self.quick
    }

    /// Runs for each timed figure.
    pub fn runs(&self) -> usize {
        self.runs.unwrap_or(if self.quick { 2 } else { 5 })
    }
}

/// One family of works. More of them go into `GROUPS`.
struct Group {
    name: &'static str,
    peers: fn() -> Vec<&'static str>,
    works: fn() -> Vec<&'static str>,
    run: fn(&Options, &mut dyn FnMut(Figure)),
}

const GROUPS: &[Group] = &[
    Group {
        name: "crdt",
        peers: crdt::peer_names,
        works: crdt::work_names,
        run: crdt::run,
    },
    Group {
        name: "log",
        peers: log::peer_names,
        works: log::work_names,
        run: log::run,
    },
    Group {
        name: "reconcile",
        peers: reconcile::peer_names,
        works: reconcile::work_names,
        run: reconcile::run,
    },
    Group {
        name: "sync",
        peers: sync::peer_names,
        works: sync::work_names,
        run: sync::run,
    },
];

/// The options, or `None` when only the help was asked for.
fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options {
        groups: vec![],
        json: false,
        peers: vec![],
        works: vec![],
        quick: false,
        runs: None,
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--json" => options.json = true,
            "--quick" => options.quick = true,
            "--peer" => options.peers.push(value()?),
            "--work" => options.works.push(value()?),
            "--runs" => {
                let runs = value()?.parse().ok().filter(|&runs| runs > 0);
                options.runs = Some(runs.ok_or("--runs needs a whole number above 0")?);
            }
            name if GROUPS.iter().any(|group| group.name == name) => options.groups.push(argument),
            _ => return Err(format!("unknown argument: {argument}")),
        }
    }
    // A name no group knows is a mistake too: it would print nothing and look like success.
    let known = |names: fn(&Group) -> Vec<&'static str>, name: &String| {
        GROUPS.iter().any(|group| names(group).contains(&name.as_str()))
    };
    if let Some(name) = options
        .peers
        .iter()
        .find(|name| !known(|group| (group.peers)(), name))
    {
        return Err(format!("unknown peer: {name}"));
    }
    if let Some(name) = options
        .works
        .iter()
        .find(|name| !known(|group| (group.works)(), name))
    {
        return Err(format!("unknown work: {name}"));
    }
    Ok(Some(options))
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(mistake) => {
            eprint!("{mistake}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let mut figures = Vec::new();
    for group in GROUPS {
        if options.groups.is_empty() || options.groups.iter().any(|name| name == group.name) {
            (group.run)(&options, &mut |figure| {
                if options.json {
                    println!("{}", figure.json());
                }
                figures.push(figure);
            });
        }
    }
    if !options.json {
        print!("{}", measure::table(&figures));
    }
    ExitCode::SUCCESS
}
