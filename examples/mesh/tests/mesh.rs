//! The program `mesh`, run as a user runs it and checked from outside: what it leaves on the disk is compared with a replay
//! of the trace that is made here, in a few lines and without any of the library.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::std_instead_of_alloc, reason = "a test has the standard library")]

#[allow(dead_code, reason = "shared with the test of single processes")]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use support::{Scratch, binary};

fn run(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).output().unwrap()
}

/// The object on the last line of a run that went well.
fn figures(arguments: &[&str]) -> Value {
    let output = run(&[arguments, &["--json"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}{stdout}");
    serde_json::from_str(stdout.lines().last().unwrap()).unwrap()
}

fn write(scratch: &Scratch, name: &str, text: &str) -> String {
    let path = scratch.path(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// What a trace comes to if one thing happens after the other.
#[derive(Default)]
struct Plain {
    /// The last operation on each key: the value, if it is a set, and its agent.
    keys: BTreeMap<String, (Option<String>, u64)>,
    /// All values that a key was ever set to.
    values: BTreeSet<(String, String)>,
    agents: BTreeSet<u64>,
    /// Each agent's events, in their order.
    events: BTreeMap<u64, Vec<String>>,
}

impl Plain {
    fn new(trace: &str) -> Self {
        let mut plain = Self::default();
        for line in trace.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let agent = line["agent"].as_u64().unwrap();
            let events = plain.events.entry(agent).or_default();
            let value = format!("{agent}@{}", events.len() + 1);
            events.push(value.clone());
            plain.agents.insert(agent);
            for key in line["keys"].as_array().unwrap() {
                let key = key.as_str().unwrap();
                match key.strip_prefix('-') {
                    Some(key) => plain.keys.insert(key.into(), (None, agent)),
                    None => {
                        plain.values.insert((key.into(), value.clone()));
                        plain.keys.insert(key.into(), (Some(value.clone()), agent))
                    }
                };
            }
        }
        plain
    }
}

/// What `--dump` prints of a store.
#[derive(Default)]
struct Dumped {
    /// Value and author.
    files: BTreeMap<String, (String, String)>,
    agents: BTreeSet<u64>,
    /// Each author's events, in their order.
    events: BTreeMap<String, Vec<String>>,
    digest: String,
}

impl Dumped {
    fn new(store: &Path) -> Self {
        let output = Command::new(binary()).arg("--dump").arg(store).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut dumped = Self::default();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| line[name].as_str().unwrap().to_string();
            match (line["kind"].as_str(), line["collection"].as_str()) {
                (Some("map"), Some("files")) => {
                    dumped.files.insert(text("key"), (text("value"), text("author")));
                }
                (Some("set"), Some("agents")) => {
                    dumped.agents.insert(text("key").parse().unwrap());
                }
                (Some("event"), _) => dumped.events.entry(text("author")).or_default().push(text("payload")),
                _ if line["digest"].is_string() => dumped.digest = text("digest"),
                _ => {}
            }
        }
        dumped
    }

    /// The agents' numbers by their ids: an author is the agent whose events it wrote.
    fn numbers(&self) -> BTreeMap<&str, u64> {
        let number = |events: &Vec<String>| events[0].split_once('@').unwrap().0.parse().unwrap();
        self.events.iter().map(|(author, events)| (author.as_str(), number(events))).collect()
    }
}

/// Runs the trace in `file`, and compares every store with `plain`. Gives the figures.
fn check(scratch: &Scratch, name: &str, file: &str, more: &[&str], exactly: bool) -> Value {
    let keep = scratch.path(name);
    let figures = figures(&[&["--trace", file, "--keep", &keep], more].concat());
    let trace = std::fs::read_to_string(file).unwrap();
    let plain = Plain::new(&trace);
    let processes = figures["processes"].as_u64().unwrap();
    let restored: Vec<u64> =
        figures["restored"].as_array().unwrap().iter().map(|process| process.as_u64().unwrap()).collect();
    for process in 0..processes {
        let dumped = Dumped::new(&Path::new(&keep).join(format!("agent-{process}")));
        assert_eq!(figures["digest"], dumped.digest.as_str());
        let numbers = dumped.numbers();
        assert_eq!(
            numbers.values().collect::<BTreeSet<_>>().len(),
            numbers.len(),
            "two authors are one agent"
        );
        let events: BTreeMap<u64, &Vec<String>> =
            dumped.events.iter().map(|(author, events)| (numbers[author.as_str()], events)).collect();
        assert!(events.into_iter().eq(plain.events.iter().map(|(agent, events)| (*agent, events))));
        assert_eq!(dumped.agents, plain.agents);
        for (key, (value, agent)) in &plain.keys {
            match (value, dumped.files.get(key)) {
                (Some(value), Some((there, author))) => {
                    assert_eq!((there, numbers[author.as_str()]), (value, *agent), "{key}");
                }
                (Some(value), None) => panic!("{key} is not there and was set to {value} last"),
                (None, None) => {}
                (None, Some((there, _))) => {
                    // By whoever may have set it without the remover's seeing it.
                    let setter: u64 = there.split_once('@').unwrap().0.parse().unwrap();
                    let process = setter % processes;
                    let unseen = process != agent % processes || restored.contains(&process);
                    assert!(!exactly && unseen, "{key} was removed last and has {there}");
                }
            }
        }
        for (key, (value, author)) in &dumped.files {
            assert!(plain.values.contains(&(key.clone(), value.clone())), "{key} never was {value}");
            assert!(
                value.starts_with(&format!("{}@", numbers[author.as_str()])),
                "{key}: {value} by {author}"
            );
        }
    }
    figures
}

/// A trace with what real ones have: agents of several processes on the same keys, removals, keys that come back.
fn small_trace(events: u64) -> String {
    let line = |number: u64| {
        let (agent, key) = (number * 7 % 11, number * number % 37);
        let removed = if number % 5 == 3 { format!("\"-{}\",", (key + 11) % 37) } else { String::new() };
        let time = 1_700_000_000 + number * 500 - number % 3 * 700;
        format!(
            "{{\"t\":{time},\"agent\":{agent},\"keys\":[{removed}\"{key}\",\"shared/{}\"]}}\n",
            number % 4
        )
    };
    (0..events).map(line).collect()
}

#[test]
fn one_event_at_a_time_is_a_plain_replay() {
    let scratch = Scratch::new("lockstep");
    let file = write(&scratch, "trace.jsonl", &small_trace(120));
    for processes in ["1", "3", "5"] {
        let more = ["--faults", "none", "--lockstep", "--processes", processes];
        let figures = check(&scratch, processes, &file, &more, true);
        assert_eq!(figures["kills"], 0);
    }
}

#[test]
fn nothing_is_lost_whatever_goes_wrong() {
    let scratch = Scratch::new("faults");
    let file = write(&scratch, "trace.jsonl", &small_trace(400));
    for (processes, seed) in [("2", "1"), ("5", "2"), ("7", "3")] {
        let name = format!("{processes}-{seed}");
        let figures = check(&scratch, &name, &file, &["--processes", processes, "--seed", seed], false);
        assert_eq!(figures["lost"], 0);
        for fault in ["kills", "restarts", "sleeps", "cuts", "catch_up_bytes"] {
            assert!(figures[fault].as_u64() > Some(0) || (fault == "cuts" && processes == "2"), "{fault}");
        }
        assert_eq!(figures["restored"].as_array().unwrap().len(), 2, "one knows of it, one forks");
        assert!(figures["forks"].as_u64() > Some(0), "{processes} {seed}");
        assert_eq!(figures["kills"], figures["restarts"]);
    }
}

#[test]
fn a_generated_trace_is_kept_beside_the_stores() {
    let scratch = Scratch::new("kept");
    let keep = scratch.path("first");
    let figures = figures(&["--events", "200", "--agents", "9", "--faults", "cut,kill", "--keep", &keep]);
    assert_eq!((figures["sleeps"].as_u64(), figures["cuts"].as_u64() > Some(0)), (Some(0), true));
    let again = check(&scratch, "again", &format!("{keep}/trace.jsonl"), &["--faults", "none"], false);
    assert_eq!((&again["events"], &again["keys"].is_u64()), (&figures["events"], &true));
    let refused = run(&["--events", "10", "--keep", &keep]);
    assert_eq!(refused.status.code(), Some(2), "it would be mixed with what is there");
}

#[test]
fn a_run_says_what_came_of_it_in_eighty_columns() {
    let scratch = Scratch::new("table");
    let page = scratch.path("page.html");
    let output = run(&["--events", "300", "--html", &page]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    assert!(stdout.contains("All 5 processes ended in the same state"), "{stdout}");
    assert!(stdout.lines().all(|line| line.chars().count() <= 80), "{stdout}");
    let more = stdout.split_once("as in a plain replay").unwrap().1.starts_with(";\n");
    let number = |line: &str| {
        let figure = stdout.lines().find_map(|text| text.trim().strip_prefix(line)).unwrap();
        figure.split_whitespace().next().unwrap().replace(',', "").parse::<u64>().unwrap()
    };
    let plain = stdout.split_once("once each, and ").unwrap().1;
    let plain: u64 = plain.split_once(" key").unwrap().0.replace(',', "").parse().unwrap();
    assert_eq!(more, number("live keys") > plain, "{stdout}");
    assert!(output.stderr.is_empty(), "no progress bar where there is no terminal");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("All 5 processes ended in the same state"));
    assert_eq!(page.matches("role=img").count(), page.matches("<svg").count());
    assert_eq!(page.matches("<svg").count(), 3);
    for elsewhere in ["http", "src=", "@import", "url(", "<script"] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
}

#[test]
fn json_has_its_figures_on_the_last_line() {
    let figures = figures(&["--events", "300", "--faults", "none"]);
    assert_eq!((figures["events"].as_u64(), figures["processes"].as_u64()), (Some(300), Some(5)));
    assert_eq!((&figures["converged"], &figures["matches_plain_replay"]), (&true.into(), &true.into()));
    assert_eq!(figures["digest"].as_str().unwrap().len(), 64);
    for name in ["keys", "set_size", "signatures_verified", "wire_bytes", "floor_bytes", "journal_bytes"] {
        assert!(figures[name].as_u64() > Some(0), "{name}");
    }
    for name in ["lost", "kills", "sleeps", "forks", "cuts", "peer_faults"] {
        assert_eq!(figures[name], 0, "{name}");
    }
    // Each event is a transaction and an event, and some of the agents' next ones list again what went.
    assert!(figures["entries"].as_u64() >= Some(600));
    assert!(figures["stored_bytes"].as_u64() >= figures["live_bytes"].as_u64());
    assert!(figures["wire_bytes"].as_u64() > figures["kept_bytes"].as_u64());
}

#[test]
fn the_wire_is_never_below_the_floor() {
    let lines: [&[&str]; 6] = [
        &["--events", "400", "--faults", "none"],
        &["--events", "400", "--faults", "none", "--processes", "2"],
        &["--events", "100", "--agents", "20", "--lockstep"],
        &["--events", "600"],
        // Few logs, of which a sleeper is brought many entries with one signature.
        &["--events", "1000", "--agents", "4", "--processes", "2"],
        &["--events", "1000", "--agents", "1", "--processes", "2"],
    ];
    for line in lines {
        let figures = figures(line);
        let [wire, floor, kept] =
            ["wire_bytes", "floor_bytes", "kept_bytes"].map(|name| figures[name].as_u64().unwrap());
        assert!(wire >= floor, "{line:?}: {wire} on the wire, a floor of {floor}");
        assert!(floor >= kept, "{line:?}: a floor of {floor}, and one process alone needs {kept}");
    }
}

#[test]
fn malformed_lines_are_named_by_file_and_line() {
    let scratch = Scratch::new("malformed");
    for (number, (line, complaint)) in [
        ("{\"t\":1,\"agent\":0", "EOF while parsing an object"),
        ("{\"t\":1,\"agent\":0}", "missing field `keys`"),
        ("{\"t\":\"now\",\"agent\":0,\"keys\":[]}", "invalid type: string \"now\", expected u64"),
        ("{\"t\":1,\"agent\":-4,\"keys\":[]}", "invalid value: integer `-4`, expected u64"),
        ("{\"t\":1,\"agent\":0,\"keys\":[\"a\",\"\"]}", "an empty key"),
        ("{\"t\":1,\"agent\":0,\"keys\":[\"-\"]}", "a \"-\" without a key"),
        ("", "an empty line"),
        ("commit 1234", "expected value"),
    ]
    .into_iter()
    .enumerate()
    {
        let good = "{\"t\":1,\"agent\":0,\"keys\":[\"a\"]}\n";
        let file =
            write(&scratch, &format!("trace-{number}.jsonl"), &format!("{}{line}\n{good}", good.repeat(16)));
        for json in [&[][..], &["--json"]] {
            let output = run(&[&["--trace", &file], json].concat());
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{line}");
            assert!(stderr.contains(&format!("trace-{number}.jsonl:17: {complaint}")), "{stderr}");
            assert!(output.stdout.is_empty());
        }
    }
}

#[test]
fn misuse_exits_with_2() {
    let cases: [&[&str]; 10] = [
        // Before the run, not after it.
        &["--html", "/nonexistent/page.html"],
        &["--html", env!("CARGO_TARGET_TMPDIR")],
        &["--trace", "no/such/file.jsonl"],
        &["--git", "no/such/dir"],
        &["--loss", "0.2"],
        &["--processes", "0"],
        &["--faults", "fire"],
        &["--frobnicate"],
        &["--trace"],
        &["--events", "5", "--agent", "somewhere"],
    ];
    for arguments in cases {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
    let help = run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8(help.stdout).unwrap().lines().all(|line| line.len() <= 80));
}

/// The processes with this in their arguments, and whether each is stopped.
#[cfg(target_os = "linux")]
fn processes(part: &str) -> Vec<bool> {
    let of = |dir: std::fs::DirEntry| {
        let arguments = std::fs::read(dir.path().join("cmdline")).ok()?;
        let stat = std::fs::read_to_string(dir.path().join("stat")).ok()?;
        let state = stat.rsplit_once(") ")?.1.chars().next()?;
        (String::from_utf8_lossy(&arguments).contains(part) && state != 'Z').then_some(state == 'T')
    };
    std::fs::read_dir("/proc").unwrap().filter_map(|dir| of(dir.unwrap())).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn a_run_that_is_told_to_end_leaves_nothing_behind() {
    let pause = || {
        #[expect(clippy::disallowed_methods, reason = "a test may wait for a process")]
        std::thread::sleep(core::time::Duration::from_millis(10));
    };
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let scratch = Scratch::new(&format!("told-{signal}"));
        let dir = scratch.path("");
        let mut mesh = Command::new(binary());
        mesh.args(["--faults", "sleep,relay", "--html", &scratch.path("page.html")]).env("TMPDIR", &dir);
        let mut mesh =
            mesh.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        let part = format!("{dir}consilience-mesh-");
        // One that is stopped cannot end by itself.
        while !processes(&part).contains(&true) {
            assert_eq!(mesh.try_wait().unwrap(), None, "nothing was stopped");
            pause();
        }
        let kill = Command::new("kill").args([&format!("-{signal}"), &mesh.id().to_string()]).status();
        assert!(kill.unwrap().success());
        assert_eq!(mesh.wait().unwrap().code(), Some(code));
        assert!(processes(&part).is_empty(), "{signal}: {:?}", processes(&part));
        assert!(scratch.files("").is_empty(), "{signal}");
    }
}

#[test]
fn time_may_fall_back_and_keys_may_come_again() {
    let scratch = Scratch::new("times");
    let text = "\
{\"t\":2000000,\"agent\":1,\"keys\":[\"a\",\"b\"]}
{\"t\":1000000,\"agent\":2,\"keys\":[\"-a\",\"c\"]}
{\"t\":1000000,\"agent\":1,\"keys\":[\"-never\",\"-c\"]}
{\"t\":3000000,\"agent\":6,\"keys\":[]}
{\"t\":0,\"agent\":2,\"keys\":[\"a\",\"-b\",\"a\"]}
";
    let file = write(&scratch, "times.jsonl", text);
    for processes in ["1", "5"] {
        let figures = check(&scratch, processes, &file, &["--lockstep", "--replicas", processes], true);
        assert_eq!(figures["keys"], 1, "a is left, b and c are gone");
        assert_eq!(figures["set_size"], 3, "one of the three only looked on");
        // Agent 2 removed an `a` and a `b` of agent 1's, and agent 1 removed a `c` of agent 2's.
        assert_eq!(figures["couplings"][0]["agents"], serde_json::json!([1, 2]));
        assert!(figures["couplings"][0]["values"][2].as_f64() > Some(2.5));
    }
}

#[test]
fn an_event_of_many_keys_is_one_event() {
    let scratch = Scratch::new("many");
    let keys = |from: u64| {
        (from..from + 1_500).map(|key| format!("\"path/to/some/file-{key}.rs\"")).collect::<Vec<_>>()
    };
    let line = |agent: u64, from: u64| {
        format!("{{\"t\":{agent},\"agent\":{agent},\"keys\":[{}]}}\n", keys(from).join(","))
    };
    let file = write(&scratch, "many.jsonl", &(line(1, 0) + &line(2, 700) + &line(1, 1_000)));
    let figures = check(&scratch, "many", &file, &["--processes", "2", "--lockstep"], true);
    assert_eq!((figures["keys"].as_u64(), figures["lost"].as_u64()), (Some(2_500), Some(0)));
}

#[test]
fn an_empty_trace_converges() {
    let scratch = Scratch::new("empty");
    let file = write(&scratch, "empty.jsonl", "");
    let figures = figures(&["--trace", &file]);
    assert_eq!((figures["events"].as_u64(), figures["entries"].as_u64()), (Some(0), Some(0)));
    assert!(run(&["--trace", &file]).status.success());
}

#[test]
fn a_git_history_is_a_trace() {
    let scratch = Scratch::new("git");
    let git = |author: &str, date: &str, arguments: &[&str]| {
        let mut git = Command::new("git");
        git.arg("-C").arg(scratch.path("")).args([
            "-c",
            "commit.gpgsign=false",
            "-c",
            "init.defaultBranch=main",
        ]);
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        for role in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{role}_NAME"), author);
            git.env(format!("GIT_{role}_EMAIL"), format!("{author}@example.org"));
            git.env(format!("GIT_{role}_DATE"), format!("{date} +0000"));
        }
        for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            git.env_remove(variable);
        }
        let output = git.args(arguments).output().expect("this test needs git");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let commit = |author: &str, date: &str| {
        git(author, date, &["add", "-A"]);
        git(author, date, &["commit", "-q", "--allow-empty", "-m", "A\tbreak\n\nM\tmessage\n"]);
    };
    git("ada", "1700000000", &["init", "-q"]);
    write(&scratch, "shared.txt", "1");
    write(&scratch, "-dash ünd \"quote\".txt", "1");
    write(&scratch, "gone.txt", "1");
    commit("ada", "1700000000");
    // No changes: no event.
    commit("ada", "1700000500");
    git("bob", "1700001000", &["checkout", "-q", "-b", "side"]);
    write(&scratch, "shared.txt", "2");
    std::fs::remove_file(scratch.path("gone.txt")).unwrap();
    // Before the commit that it builds upon.
    commit("bob", "1600000000");
    git("ada", "1700002000", &["checkout", "-q", "main"]);
    write(&scratch, "other.txt", "1");
    commit("ada", "1700002000");
    git("ada", "1700003000", &["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    git("bob", "1700004000", &["mv", "other.txt", "moved.txt"]);
    commit("bob", "1700004000");

    let dir = &scratch.path("");
    let one = figures(&["--git", dir, "--processes", "1", "--faults", "none"]);
    assert_eq!(one["events"], 4, "neither the empty commit nor the merge");
    assert_eq!(one["keys"], 3, "the shared one, the odd one and the moved one");
    assert_eq!(one["set_size"], 2);
    assert_eq!(one["couplings"][0]["agents"], serde_json::json!([0, 1]));
    assert_eq!(one["matches_plain_replay"], true);
    assert_eq!(figures(&["--git", dir])["converged"], true);
    assert!(
        String::from_utf8(run(&["--git", dir, "--processes", "1", "--faults", "none"]).stdout)
            .unwrap()
            .contains("ada, bob")
    );
}

#[test]
fn a_directory_without_history_is_refused() {
    let scratch = Scratch::new("no-git");
    let dir = &scratch.path("");
    let refused = || {
        let mut mesh = Command::new(binary());
        // Else git would find the repository that this directory lies in.
        mesh.args(["--git", dir]).env("GIT_CEILING_DIRECTORIES", Path::new(env!("CARGO_TARGET_TMPDIR")));
        let output = mesh.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused().contains("not a git repository"));
    assert!(Command::new("git").args(["init", "-q", dir]).status().unwrap().success());
    assert!(refused().contains("git:"), "a repository without commits");
}
