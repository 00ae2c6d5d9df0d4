//! The example `mesh`: run as a user runs it, and from the inside where a figure cannot show it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../examples/mesh/main.rs"]
#[expect(dead_code, reason = "nobody calls its main function here")]
mod mesh;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use mesh::host::{Host, HostConfig};
use mesh::options::Options;
use mesh::{generate, outcome::Outcome, plain::Plain, replay};

/// The binary that cargo built beside this test: target/<profile>/examples/mesh.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().and_then(Path::parent).unwrap();
        let binary = profile.join("examples").join(format!("mesh{}", std::env::consts::EXE_SUFFIX));
        if is_stale(&binary) {
            let name = profile.file_name().filter(|name| *name != "debug").unwrap_or("test".as_ref());
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--example", "mesh", "--target-dir"]);
            cargo.arg(profile.parent().unwrap()).arg("--profile").arg(name);
            assert!(cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
        }
        assert!(binary.exists(), "{} is missing", binary.display());
        binary
    })
}

/// Whether the binary is missing or older than one of its own sources: `cargo test --test mesh` builds no examples.
fn is_stale(binary: &Path) -> bool {
    let Ok(built) = std::fs::metadata(binary).and_then(|data| data.modified()) else { return true };
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/mesh");
    let newer = |file: std::fs::DirEntry| file.metadata().unwrap().modified().unwrap() > built;
    std::fs::read_dir(sources).unwrap().any(|file| newer(file.unwrap()))
}

fn run(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).output().unwrap()
}

/// The object on the last line of a run that went well, without the one figure that is wall time.
fn figures(arguments: &[&str]) -> serde_json::Value {
    let output = run(&[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let mut figures: serde_json::Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    let rate = figures.as_object_mut().unwrap().remove("merges_per_s").unwrap();
    assert!(rate.is_u64());
    figures
}

/// A directory of this test's own, empty, and gone when it ends well.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mesh-{name}-{}", std::process::id()));
        // Left behind by a run that failed, if it is there.
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().into()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// Replays a generated trace of 600 events within this process.
fn replayed(options: Options) -> Outcome {
    let trace = generate::generate(600, 20, options.seed);
    replay::replay(&trace, &options, &|_| {}).unwrap()
}

#[test]
fn the_default_run_converges_and_says_so() {
    let output = run(&[]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout.contains("All 5 replicas ended in the same state"), "{stdout}");
    assert!(stdout.lines().all(|line| line.chars().count() <= 80), "{stdout}");
    assert!(output.stderr.is_empty(), "no progress bar where there is no terminal");
}

#[test]
fn replicas_converge_under_loss_duplication_and_partition() {
    for (seed, (loss, duplicate, partition)) in
        (1..).zip([(0.0, 0.0, 0.0), (0.2, 0.1, 0.25), (0.5, 0.5, 0.5), (0.9, 0.0, 0.0), (0.0, 1.0, 0.9)])
    {
        for replicas in [2, 3, 7] {
            let outcome =
                replayed(Options { seed, replicas, loss, duplicate, partition, ..Options::default() });
            let traffic = outcome.traffic;
            assert!(outcome.is_good(), "seed {seed}, {replicas} replicas");
            assert_eq!(traffic.lost > 0, loss > 0.0);
            assert_eq!(traffic.cut > 0, partition > 0.0);
            assert_eq!(traffic.duplicated > 0, duplicate > 0.0);
            assert!(traffic.overtaken > 0);
        }
    }
}

#[test]
fn replicas_converge_even_if_nothing_arrives_before_the_links_heal() {
    let outcome = replayed(Options { loss: 1.0, ..Options::default() });
    assert!(outcome.is_good());
    assert!(outcome.traffic.lost > 1_000);
    assert!(outcome.bytes.sent() < outcome.bytes.full_states);
}

#[test]
fn sixty_four_replicas_converge() {
    assert!(replayed(Options { replicas: 64, ..Options::default() }).is_good());
}

#[test]
fn one_replica_equals_a_plain_replay() {
    for seed in 1..=5 {
        let trace = generate::generate(600, 20, seed);
        let options = Options { replicas: 1, loss: 0.0, seed, ..Options::default() };
        let outcome = replay::replay(&trace, &options, &|_| {}).unwrap();
        assert!(outcome.is_good() && outcome.plain);
        assert_eq!(outcome.plain_keys, outcome.keys_ever);
        assert_eq!(outcome.bytes.sent(), 0);
    }
}

#[test]
fn a_replica_that_lacks_an_event_is_not_taken_for_a_plain_replay() {
    let trace = generate::generate(50, 5, 1);
    let schema = consilience::crdts::CouplingSchema::with_half_life(1_000).unwrap();
    let mut host = Host::new(HostConfig { number: 0, seed: 1, schema }).unwrap();
    let plain = Plain::new(&trace.events, 1);
    let mut counts = [0; 5];
    for (event, now) in trace.events.iter().zip(trace.instants()) {
        assert!(!plain.matches(&host).unwrap());
        let ordinal = &mut counts[usize::try_from(event.agent).unwrap()];
        *ordinal += 1;
        host.play(event, *ordinal, now).unwrap();
    }
    assert!(plain.matches(&host).unwrap());
}

#[test]
fn keys_of_one_replica_are_checked_where_there_are_several() {
    let outcome = replayed(Options::default());
    assert!((1..outcome.keys_ever).contains(&outcome.plain_keys));
    // All that one replica of two did, at a replica that has nothing of the other's.
    let trace = generate::generate(200, 8, 1);
    let schema = consilience::crdts::CouplingSchema::with_half_life(1_000).unwrap();
    let mut host = Host::new(HostConfig { number: 0, seed: 1, schema }).unwrap();
    let mut counts = [0; 8];
    for (event, now) in trace.events.iter().zip(trace.instants()) {
        let ordinal = &mut counts[usize::try_from(event.agent).unwrap()];
        *ordinal += 1;
        if event.agent % 2 == 0 {
            host.play(event, *ordinal, now).unwrap();
        }
    }
    assert!(!Plain::new(&trace.events, 2).matches(&host).unwrap());
    let even: Vec<_> = trace.events.iter().filter(|event| event.agent % 2 == 0).cloned().collect();
    assert!(Plain::new(&even, 2).matches(&host).unwrap());
}

#[test]
fn an_outcome_whose_replicas_differ_is_not_good() {
    let good = replayed(Options::default());
    let mut differs = replayed(Options::default());
    differs.replicas[3].digest = replayed(Options { seed: 9, ..Options::default() }).replicas[3].digest;
    assert!(good.is_good() && !differs.is_good());
    assert_eq!(differs.digest(), None);
    assert!(!Outcome { rounds: None, ..replayed(Options::default()) }.is_good());
    assert!(!Outcome { plain: false, ..replayed(Options::default()) }.is_good());
    let mut forgets = replayed(Options::default());
    forgets.replicas[3].comes_back = false;
    assert!(!forgets.is_good());
    // As the program would end.
    let code = |outcome: &Outcome| format!("{:?}", mesh::exit_code(outcome));
    assert_eq!(code(&differs), format!("{:?}", std::process::ExitCode::from(1)));
    assert_eq!(code(&good), format!("{:?}", std::process::ExitCode::SUCCESS));
}

#[test]
fn the_same_seed_gives_the_same_digest_and_bytes() {
    let arguments = |seed| ["--events", "800", "--agents", "16", "--seed", seed];
    let (one, again, other) = (figures(&arguments("7")), figures(&arguments("7")), figures(&arguments("8")));
    assert_eq!(one, again);
    assert_ne!(one["digest"], other["digest"]);
    assert_ne!(one["bytes_sent"], other["bytes_sent"]);
}

#[test]
fn the_state_does_not_depend_on_how_bad_the_links_are_where_nothing_is_concurrent() {
    // One agent, so one replica writes and the others only follow.
    let follow = |links: [&str; 6]| figures(&[&["--events", "500", "--agents", "1"][..], &links].concat());
    let good = follow(["--loss", "0", "--duplicate", "0", "--partition", "0"]);
    let bad = follow(["--loss", "0.6", "--duplicate", "0.5", "--partition", "0.5"]);
    assert_eq!(good["digest"], bad["digest"]);
    assert!(bad["lost"].as_u64() > Some(100));
}

#[test]
fn json_has_its_figures_on_the_last_line() {
    let figures = figures(&["--events", "300"]);
    assert_eq!((figures["events"].as_u64(), figures["replicas"].as_u64()), (Some(300), Some(5)));
    assert_eq!(figures["converged"], true);
    assert_eq!(figures["digest"].as_str().unwrap().len(), 64);
    for name in ["keys", "bytes_sent", "set_size", "full_state_bytes", "lost", "duplicated", "merges"] {
        assert!(figures[name].as_u64() > Some(0), "{name}");
    }
    for name in
        ["summary_bytes", "repair_bytes", "entries_kept", "stored_bytes", "live_bytes", "journal_bytes"]
    {
        assert!(figures[name].as_u64() > Some(0), "{name}");
    }
    // Each event is a transaction, and some of the agents' next ones list again what went.
    assert!(figures["entries"].as_u64() >= Some(300));
    assert!(figures["stored_bytes"].as_u64() >= figures["live_bytes"].as_u64());
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
            scratch.write(&format!("trace-{number}.jsonl"), &format!("{}{line}\n{good}", good.repeat(16)));
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
    let cases: [&[&str]; 6] = [
        &["--trace", "no/such/file.jsonl"],
        &["--git", "no/such/dir"],
        &["--loss", "2"],
        &["--replicas", "0"],
        &["--frobnicate"],
        &["--trace"],
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
    let file = scratch.write("times.jsonl", text);
    let figures = figures(&["--trace", &file, "--replicas", "1"]);
    assert_eq!(figures["matches_plain_replay"], true);
    assert_eq!(figures["keys"], 1, "a is left, b and c are gone");
    assert_eq!(figures["set_size"], 3, "one of the three only looked on");
    assert_eq!(figures["events"], 5);
    // Agent 2 removed an `a` and a `b` of agent 1's, and agent 1 removed a `c` of agent 2's.
    assert_eq!(figures["couplings"][0]["agents"], serde_json::json!([1, 2]));
    assert!(figures["couplings"][0]["values"][2].as_f64() > Some(2.5));
    // By five replicas as well.
    assert_eq!(self::figures(&["--trace", &file])["set_size"], 3);
}

#[test]
fn an_empty_trace_converges() {
    let scratch = Scratch::new("empty");
    let file = scratch.write("empty.jsonl", "");
    let figures = figures(&["--trace", &file]);
    assert_eq!((figures["events"].as_u64(), figures["entries"].as_u64()), (Some(0), Some(0)));
    assert_eq!((figures["changes_bytes"].as_u64(), figures["repair_bytes"].as_u64()), (Some(0), Some(0)));
    assert!(run(&["--trace", &file]).status.success());
}

#[test]
fn a_git_history_is_a_trace() {
    let scratch = Scratch::new("git");
    let git = |author: &str, date: &str, arguments: &[&str]| {
        let mut git = Command::new("git");
        git.arg("-C").arg(&scratch.0).args(["-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main"]);
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
    scratch.write("shared.txt", "1");
    scratch.write("-dash ünd \"quote\".txt", "1");
    scratch.write("gone.txt", "1");
    commit("ada", "1700000000");
    // No changes: no event.
    commit("ada", "1700000500");
    git("bob", "1700001000", &["checkout", "-q", "-b", "side"]);
    scratch.write("shared.txt", "2");
    std::fs::remove_file(scratch.0.join("gone.txt")).unwrap();
    // Before the commit that it builds upon.
    commit("bob", "1600000000");
    git("ada", "1700002000", &["checkout", "-q", "main"]);
    scratch.write("other.txt", "1");
    commit("ada", "1700002000");
    git("ada", "1700003000", &["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    git("bob", "1700004000", &["mv", "other.txt", "moved.txt"]);
    commit("bob", "1700004000");

    let dir = scratch.0.to_str().unwrap();
    let one = figures(&["--git", dir, "--replicas", "1"]);
    assert_eq!(one["events"], 4, "neither the empty commit nor the merge");
    assert_eq!(one["keys"], 3, "the shared one, the odd one and the moved one");
    assert_eq!(one["set_size"], 2);
    assert_eq!(one["couplings"][0]["agents"], serde_json::json!([0, 1]));
    assert_eq!(one["matches_plain_replay"], true);
    assert_eq!(figures(&["--git", dir])["converged"], true);
    assert!(String::from_utf8(run(&["--git", dir, "--replicas", "1"]).stdout).unwrap().contains("ada, bob"));
}

#[test]
fn a_directory_without_history_is_refused() {
    let scratch = Scratch::new("no-git");
    let dir = scratch.0.to_str().unwrap();
    let refused = || {
        let mut mesh = Command::new(binary());
        // Else git would find the repository that this directory lies in.
        mesh.args(["--git", dir]).env("GIT_CEILING_DIRECTORIES", scratch.0.parent().unwrap());
        let output = mesh.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused().contains("not a git repository"));
    assert!(Command::new("git").args(["init", "-q", dir]).status().unwrap().success());
    assert!(refused().contains("git:"), "a repository without commits");
}
