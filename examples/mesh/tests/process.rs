//! The processes of the program `mesh`, one by one: told what to do as its starter tells them, killed between any two
//! steps, and used by hand.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "tests have the standard library"
)]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Scratch, binary};

/// Nothing takes that long, on any machine.
const LONG: Duration = Duration::from_secs(60);
/// Between two looks at something that has to become true.
const LOOK: Duration = Duration::from_millis(10);

/// A process that runs, and its lines.
struct Running {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    /// What came and was not asked for yet.
    heard: Vec<Value>,
    addr: String,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        Self::spawn(Command::new(binary()).args(arguments))
    }

    fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        #[expect(clippy::disallowed_methods, reason = "a test may wait for a process")]
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        let input = child.stdin.take().unwrap();
        Self { child, input, lines, heard: Vec::new(), addr: String::new() }
    }

    /// One that its starter tells what to do.
    fn controlled(mode: &str, scratch: &Scratch, name: &str, more: &[&str]) -> Self {
        let dir = scratch.path(name);
        let start = [mode, &dir, "--listen", "127.0.0.1:0", "--control", "--seed", "7"];
        let mut running = Self::start(&[&start, more].concat());
        let ready = running.hear("ready");
        running.addr = ready["addr"].as_str().unwrap().to_owned();
        running
    }

    fn tell(&mut self, line: &str) {
        // It may have been killed.
        let _ = writeln!(self.input, "{line}").and_then(|()| self.input.flush());
    }

    /// The next line.
    fn line(&self) -> String {
        self.lines.recv_timeout(LONG).unwrap()
    }

    /// A line with this in it, passing over others.
    fn line_with(&self, part: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(part) {
                return line;
            }
        }
    }

    /// The next reply of a kind.
    fn hear(&mut self, kind: &str) -> Value {
        loop {
            let reply: Value = serde_json::from_str(&self.line()).unwrap();
            assert_ne!(reply["say"], "failed", "{reply}");
            if reply["say"] == kind {
                return reply;
            }
            self.heard.push(reply);
        }
    }

    fn join(&mut self, addr: &str) {
        self.tell(&json!({ "do": "join", "addr": addr }).to_string());
    }

    fn status(&mut self) -> Value {
        self.tell(&json!({ "do": "status", "id": 1, "detail": "full" }).to_string());
        self.hear("status")
    }

    fn kill(mut self) -> Vec<Value> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut heard = std::mem::take(&mut self.heard);
        loop {
            match self.lines.try_recv() {
                Ok(line) => heard.push(serde_json::from_str(&line).unwrap()),
                Err(TryRecvError::Empty) => wait(LOOK),
                Err(TryRecvError::Disconnected) => return heard,
            }
        }
    }

    fn stop(mut self, word: &str) {
        self.tell(word);
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already if the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test may wait for a process")]
fn wait(time: Duration) {
    std::thread::sleep(time);
}

/// Waits until all hold the same, and the agents are in the same state.
fn equal(agents: &mut [&mut Running], relays: &mut [&mut Running]) {
    for _ in 0..LONG.as_millis() / LOOK.as_millis() {
        let states: Vec<Value> = agents.iter_mut().map(|agent| agent.status()).collect();
        let held: Vec<Value> = relays.iter_mut().map(|relay| relay.status()).collect();
        let roots = states.iter().chain(&held).all(|status| status["root"] == states[0]["root"]);
        if roots && states.iter().all(|status| status["digest"] == states[0]["digest"]) {
            assert!(states.iter().chain(&held).all(|status| status["faults"] == 0), "{states:?}");
            return;
        }
        wait(LOOK);
    }
    panic!("they did not become equal");
}

/// What a stopped process has, a value a line.
fn dump(scratch: &Scratch, name: &str) -> Vec<Value> {
    let output = Command::new(binary()).args(["--dump", &scratch.path(name)]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Events of agents `first`, `first + 2`, …: keys that only they touch, and one event that needs several transactions.
fn events(first: u64, count: u64) -> Vec<Value> {
    let event = |n: u64| {
        let (agent, ordinal) = (first + 2 * (n % 3), n / 3 + 1);
        let mut changes = vec![
            json!({ "set": format!("{first}/{}", n % 11) }),
            json!({ "remove": format!("{first}/{}", n * 5 % 13) }),
        ];
        if n % 30 == 10 {
            changes.extend((0..400).map(|key| json!({ "set": format!("{first}/large/{key}") })));
        }
        let at_ms = 1_000_000_000_000 + 3_600_000 * (2 * n + first);
        json!({ "do": "event", "agent": agent, "ordinal": ordinal, "at_ms": at_ms, "changes": changes })
    };
    (0..count).map(event).collect()
}

/// What a plain replay of the events leaves.
fn replayed(events: &[Value]) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    for event in events {
        let value = format!("{}@{}", event["agent"], event["ordinal"]);
        for change in event["changes"].as_array().unwrap() {
            match (change["set"].as_str(), change["remove"].as_str()) {
                (Some(key), _) => drop(map.insert(key.to_owned(), value.clone())),
                (_, Some(key)) => drop(map.remove(key)),
                _ => unreachable!(),
            }
        }
    }
    map
}

/// Whether a dump has every event once and in its agent's order, the map of a plain replay, and every agent.
fn check(lines: &[Value], all: &[Value]) {
    let of = |kind: &'static str, collection: &'static str| {
        lines.iter().filter(move |line| line["kind"] == kind && line["collection"] == collection)
    };
    let mut told: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for event in of("event", "events") {
        let (agent, ordinal) = event["payload"].as_str().unwrap().split_once('@').unwrap();
        told.entry(agent.to_owned()).or_default().push(ordinal.parse().unwrap());
    }
    let mut wanted: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for event in all {
        wanted.entry(event["agent"].to_string()).or_default().push(event["ordinal"].as_u64().unwrap());
    }
    assert_eq!(told, wanted);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let map: BTreeMap<_, _> =
        of("map", "files").map(|row| (text(&row["key"]), text(&row["value"]))).collect();
    assert_eq!(map, replayed(all));
    let agents: Vec<_> = of("set", "agents").map(|row| text(&row["key"])).collect();
    assert_eq!(agents, wanted.into_keys().collect::<Vec<_>>());
}

#[test]
fn two_agents_and_a_relay_between_them_come_to_the_same_state() {
    let scratch = Scratch::new("process-relay");
    let mut relay = Running::controlled("--relay", &scratch, "relay", &[]);
    let mut here = Running::controlled("--agent", &scratch, "here", &[]);
    let mut there = Running::controlled("--agent", &scratch, "there", &[]);
    here.join(&relay.addr);
    there.join(&relay.addr);
    let (ours, theirs) = (events(0, 60), events(1, 60));
    for (our, their) in ours.iter().zip(&theirs) {
        here.tell(&our.to_string());
        there.tell(&their.to_string());
    }
    for event in &ours {
        assert_eq!(here.hear("done")["ordinal"], event["ordinal"]);
    }
    equal(&mut [&mut here, &mut there], &mut [&mut relay]);
    // The relay is killed as well, and brings back what it had.
    let held = relay.status()["entries"].clone();
    relay.kill();
    let mut relay = Running::controlled("--relay", &scratch, "relay", &[]);
    assert_eq!(relay.status()["entries"], held);
    relay.join(&here.addr);
    relay.join(&there.addr);
    equal(&mut [&mut here, &mut there], &mut [&mut relay]);
    let digest = here.status()["digest"].clone();
    for running in [here, there, relay] {
        running.stop(r#"{"do":"stop"}"#);
    }
    let lines = dump(&scratch, "here");
    assert_eq!(lines.last().unwrap()["digest"], digest);
    assert_eq!(lines, dump(&scratch, "there"));
    check(&lines, &[ours, theirs].concat());
}

#[test]
fn an_event_happens_once_however_often_its_process_is_killed() {
    let scratch = Scratch::new("process-kill");
    let mut there = Running::controlled("--agent", &scratch, "there", &[]);
    let all = events(0, 240);
    let mut done = 0;
    for round in 0_usize.. {
        let mut here = Running::controlled("--agent", &scratch, "here", &[]);
        here.join(&there.addr);
        let last = round == 24;
        // Some at once, some each on its own; and it is killed soon, or only after an answer.
        let end = if last { all.len() } else { all.len().min(done + 1 + round * 7 % 12) };
        all[done..end].iter().for_each(|event| here.tell(&event.to_string()));
        if last {
            for event in &all[done..] {
                assert_eq!(here.hear("done")["ordinal"], event["ordinal"]);
            }
            equal(&mut [&mut here, &mut there], &mut []);
            here.stop(r#"{"do":"stop"}"#);
            break;
        }
        if round % 3 == 0 {
            here.hear("done");
            done += 1;
        }
        wait(Duration::from_micros(700 * (round as u64 % 8)));
        done += here.kill().iter().filter(|reply| reply["say"] == "done").count();
    }
    there.stop(r#"{"do":"stop"}"#);
    let lines = dump(&scratch, "here");
    check(&lines, &all);
    assert_eq!(lines, dump(&scratch, "there"));
}

#[test]
fn a_directory_put_back_from_a_backup_forks_nothing() {
    let scratch = Scratch::new("process-backup");
    let mut there = Running::controlled("--agent", &scratch, "there", &[]);
    let mut here = Running::controlled("--agent", &scratch, "here", &[]);
    here.join(&there.addr);
    let all = events(0, 90);
    let play = |here: &mut Running, events: &[Value]| {
        for event in events {
            here.tell(&event.to_string());
            here.hear("done");
        }
    };
    play(&mut here, &all[..30]);
    equal(&mut [&mut here, &mut there], &mut []);
    here.kill();
    scratch.copy("here", "backup");
    let mut here = Running::controlled("--agent", &scratch, "here", &[]);
    here.join(&there.addr);
    play(&mut here, &all[30..60]);
    equal(&mut [&mut here, &mut there], &mut []);
    here.kill();
    scratch.copy("backup", "here");
    let mut here = Running::controlled("--agent", &scratch, "here", &["--restored"]);
    here.join(&there.addr);
    equal(&mut [&mut here, &mut there], &mut []);
    play(&mut here, &all[60..]);
    equal(&mut [&mut here, &mut there], &mut []);
    assert_eq!(here.status()["forks"], 0);
    here.stop(r#"{"do":"stop"}"#);
    there.stop(r#"{"do":"stop"}"#);
    check(&dump(&scratch, "here"), &all);
}

#[test]
fn a_dump_leaves_the_directory_as_it_is_and_refuses_one_in_use() {
    let scratch = Scratch::new("process-dump");
    let mut here = Running::controlled("--agent", &scratch, "here", &[]);
    here.tell(&events(0, 1)[0].to_string());
    here.hear("done");
    let output = Command::new(binary()).args(["--dump", &scratch.path("here")]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("stop it first"));
    here.kill();
    let before = scratch.files("here");
    assert!(dump(&scratch, "here").len() >= 4);
    assert_eq!(scratch.files("here"), before);
}

#[test]
fn by_hand_a_write_in_one_shows_in_the_other_and_survives_a_kill() {
    let scratch = Scratch::new("process-hand");
    // Two ports that are free now.
    let ports = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let [here_addr, there_addr] = ports.map(|port| port.local_addr().unwrap().to_string());
    let start = |name: &str, listen: &str, peer: &str| {
        Running::start(&[
            "--agent",
            &scratch.path(name),
            "--listen",
            listen,
            "--peer",
            peer,
            "--mesh",
            "a word",
        ])
    };
    let mut here = start("here", &here_addr, &there_addr);
    // The other one is not up yet.
    here.tell("set team/planning t1 draft the plan");
    here.line_with("team/planning t1 = draft the plan (by ");
    let mut there = start("there", &there_addr, &here_addr);
    there.line_with("team/planning t1 = draft the plan (by ");
    there.tell("set team/planning t2 book a room");
    let line = here.lines.recv_timeout(Duration::from_secs(1));
    let line = line.map(|line| if line.contains("t2") { line } else { here.line_with("t2") });
    assert!(line.unwrap().starts_with("team/planning t2 = book a room (by "));
    // One is killed and misses something; then the other is killed.
    there.child.kill().unwrap();
    there.child.wait().unwrap();
    here.tell("remove team/planning t1");
    here.line_with("t1 is removed");
    here.tell("set team/planning t3 away");
    here.line_with("t3 = away");
    here.child.kill().unwrap();
    here.child.wait().unwrap();
    let mut here = start("here", &here_addr, &there_addr);
    let mut there = start("there", &there_addr, &here_addr);
    there.line_with("t3 = away");
    for running in [&mut here, &mut there] {
        running.tell("get team/planning t1");
        running.line_with("t1 is not set");
        running.tell("get team/planning t2");
        running.line_with("t2 = book a room");
    }
    here.stop("quit");
    there.stop("quit");
    let dumps = ["here", "there"].map(|name| dump(&scratch, name));
    assert_eq!(dumps[0], dumps[1]);
    assert_eq!(dumps[0].len(), 3);
}

#[test]
fn a_process_of_another_mesh_is_not_let_in() {
    let scratch = Scratch::new("process-stranger");
    let mut here = Running::controlled("--agent", &scratch, "here", &[]);
    let start = ["--agent", &scratch.path("there"), "--listen", "127.0.0.1:0", "--control", "--seed", "8"];
    let mut there = Running::start(&start);
    there.hear("ready");
    there.join(&here.addr);
    here.tell(&events(0, 1)[0].to_string());
    here.hear("done");
    wait(Duration::from_millis(300));
    assert_eq!(there.status()["entries"], 0);
    assert_eq!(there.status()["sessions"], 0);
    here.stop(r#"{"do":"stop"}"#);
    there.stop(r#"{"do":"stop"}"#);
    // And a directory stays with its mesh.
    let start = ["--agent", &scratch.path("there"), "--listen", "127.0.0.1:0", "--mesh", "other"];
    let output = Command::new(binary()).args(start).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("belongs to another mesh"));
}

/// Whether the other side has closed a socket on which it said nothing.
fn is_closed(socket: &mut TcpStream) -> bool {
    socket.set_nonblocking(true).unwrap();
    let mut bytes = [0; 4_096];
    loop {
        match socket.read(&mut bytes) {
            Ok(0) => return true,
            // What one that listens says first.
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn idle_sockets_keep_no_member_out() {
    let scratch = Scratch::new("process-idle");
    let mut here = Running::controlled("--agent", &scratch, "here", &[]);
    let mut relay = Running::controlled("--relay", &scratch, "relay", &[]);
    let mut there = Running::controlled("--agent", &scratch, "there", &[]);
    let idle = |addr: &str| (0..200).map(|_| TcpStream::connect(addr).unwrap()).collect::<Vec<_>>();
    let mut sockets = idle(&here.addr);
    sockets.extend(idle(&relay.addr));
    there.join(&here.addr);
    there.join(&relay.addr);
    let all = events(0, 30);
    for event in &all {
        here.tell(&event.to_string());
        here.hear("done");
    }
    equal(&mut [&mut here, &mut there], &mut [&mut relay]);
    let open = |sockets: &mut Vec<TcpStream>| {
        sockets.retain_mut(|socket| !is_closed(socket));
        sockets.len()
    };
    assert!(open(&mut sockets) <= 2 * 32, "most had to make room");
    // And those that did not have to are not waited for longer than a handshake takes.
    let looks = LONG.as_millis() / LOOK.as_millis();
    assert!((0..looks).any(|_| {
        wait(LOOK);
        open(&mut sockets) == 0
    }));
    assert_eq!(there.status()["sessions"], 2);
    for running in [here, there, relay] {
        running.stop(r#"{"do":"stop"}"#);
    }
}

#[test]
#[cfg(unix)]
fn an_agent_without_files_left_goes_on_and_accepts_again() {
    let scratch = Scratch::new("process-files");
    let dir = scratch.path("here");
    let mut command = Command::new("sh");
    // Fewer than the connections that it would take.
    command.args(["-c", "ulimit -n 36 && exec \"$0\" \"$@\""]).arg(binary());
    command.args(["--agent", &dir, "--listen", "127.0.0.1:0", "--control", "--seed", "7"]);
    let mut here = Running::spawn(&mut command);
    here.addr = here.hear("ready")["addr"].as_str().unwrap().to_owned();
    let sockets: Vec<TcpStream> = (0..80).map(|_| TcpStream::connect(&here.addr).unwrap()).collect();
    let mut there = Running::controlled("--agent", &scratch, "there", &[]);
    there.join(&here.addr);
    let all = events(0, 30);
    for event in &all {
        here.tell(&event.to_string());
        here.hear("done");
    }
    equal(&mut [&mut here, &mut there], &mut []);
    drop(sockets);
    here.stop(r#"{"do":"stop"}"#);
    there.stop(r#"{"do":"stop"}"#);
    check(&dump(&scratch, "here"), &all);
}

/// One by hand, which listens at any port.
fn by_hand(mode: &str, dir: &str, more: &[&str]) -> (Running, String) {
    let running = Running::start(&[&[mode, dir, "--listen", "127.0.0.1:0"], more].concat());
    let banner = running.line();
    (running, banner)
}

#[test]
fn lines_that_are_none_are_passed_over() {
    let scratch = Scratch::new("process-garbled");
    let (mut here, _) = by_hand("--agent", &scratch.path("here"), &[]);
    here.input.write_all(b"set a b \xff\xfe\n").unwrap();
    here.input.write_all(&vec![b'x'; 3 << 20]).unwrap();
    here.tell("");
    here.tell("set a b c");
    assert!(here.line().starts_with("a b = c (by "));
    here.stop("quit");
}

#[test]
fn what_a_peer_writes_stays_in_its_line() {
    let scratch = Scratch::new("process-escape");
    let (here, banner) = by_hand("--agent", &scratch.path("here"), &[]);
    let addr = banner.split([' ', ',']).nth(2).unwrap();
    let (mut there, _) = by_hand("--agent", &scratch.path("there"), &["--peer", addr]);
    there.tell("set a \u{1b}[2Jk\u{7} v\rdisconnected\u{202e}\u{9b}1m");
    let line = here.line_with("k");
    let line = if line.starts_with("connected") { here.line_with("k") } else { line };
    assert!(line.starts_with(r"a \u{1b}[2Jk\u{7} = v\rdisconnected\u{202e}\u{9b}1m (by "), "{line}");
    here.stop("quit");
    there.stop("quit");
    let lines = dump(&scratch, "here");
    assert_eq!(lines[0]["value"], "v\rdisconnected\u{202e}\u{9b}1m");
}

#[test]
fn a_directory_stays_with_its_kind_of_process() {
    let scratch = Scratch::new("process-kind");
    let dirs = [("--agent", scratch.path("agent")), ("--relay", scratch.path("relay"))];
    for (mode, dir) in &dirs {
        let (running, banner) = by_hand(mode, dir, &[]);
        assert_eq!(banner.contains("set TOPIC"), *mode == "--agent", "{banner}");
        running.stop("quit");
    }
    // As they were before the kind was noted, and then as they are now.
    for noted in [false, true] {
        for (name, mode) in [("agent", "--relay"), ("relay", "--agent")] {
            if !noted {
                std::fs::remove_file(format!("{}/kind", scratch.path(name))).unwrap();
            }
            let before = scratch.files(name);
            let start = [mode, &scratch.path(name), "--listen", "127.0.0.1:0"];
            let output = Command::new(binary()).args(start).output().unwrap();
            assert_eq!(output.status.code(), Some(1));
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(stderr.contains(&format!("is the directory of --{name}")), "{stderr}");
            assert_eq!(scratch.files(name), before);
        }
        for (mode, dir) in &dirs {
            by_hand(mode, dir, &[]).0.stop("quit");
        }
    }
    assert_eq!(dump(&scratch, "agent").len(), 1);
}

/// Starts a process in a directory in which it must not start; gives its words.
fn refused(mode: &str, dir: &str) -> String {
    let output = Command::new(binary()).args([mode, dir, "--listen", "127.0.0.1:0"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    stderr
}

#[test]
fn a_damaged_or_lost_key_is_never_another_identity() {
    let scratch = Scratch::new("process-key");
    for (mode, name) in [("--agent", "agent"), ("--relay", "relay")] {
        let dir = scratch.path(name);
        by_hand(mode, &dir, &[]).0.stop("quit");
        for file in ["key", "mesh", "kind"] {
            let path = format!("{dir}/{file}");
            let whole = std::fs::read(&path).unwrap();
            for at in (0..whole.len()).step_by(5) {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << (at % 8);
                std::fs::write(&path, &bytes).unwrap();
                let before = scratch.files(name);
                let stderr = refused(mode, &dir);
                assert!(stderr.contains(&format!("{path} is damaged")), "byte {at} of {file}: {stderr}");
                assert_eq!(scratch.files(name), before, "byte {at} of {file}");
            }
            std::fs::write(&path, &whole).unwrap();
        }
        let key = std::fs::read(format!("{dir}/key")).unwrap();
        std::fs::remove_file(format!("{dir}/key")).unwrap();
        let stderr = refused(mode, &dir);
        assert!(stderr.contains("is gone"), "{stderr}");
        std::fs::write(format!("{dir}/key"), key).unwrap();
        by_hand(mode, &dir, &[]).0.stop("quit");
    }
}

#[test]
fn a_damaged_store_says_so_and_starts_when_told_that_content_is_lost() {
    let scratch = Scratch::new("process-lost");
    let dir = scratch.path("agent");
    let (mut agent, _) = by_hand("--agent", &dir, &[]);
    agent.tell("set a first one");
    agent.line_with("first");
    agent.tell("set a second two");
    agent.line_with("second");
    agent.stop("quit");
    let name =
        scratch.files("agent").into_iter().map(|(name, _)| name).rfind(|name| name.starts_with("journal"));
    let path = format!("{dir}/{}", name.unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let stderr = refused("--agent", &dir);
    assert!(
        stderr.contains(", which was durable, is lost") && stderr.contains("--restored opens it"),
        "{stderr}"
    );
    let (mut agent, _) = by_hand("--agent", &dir, &["--restored"]);
    agent.tell("set a third three");
    agent.line_with("third");
    agent.stop("quit");
    by_hand("--agent", &dir, &[]).0.stop("quit");
    assert!(dump(&scratch, "agent").iter().any(|line| line["value"] == "three"));
}

#[test]
fn what_is_wrong_with_arguments_is_said_with_exit_code_2() {
    let scratch = Scratch::new("process-misuse");
    let dir = &*scratch.path("x");
    for arguments in [
        &["--agent"][..],
        &["--agent", dir],
        &["--agent", "--listen", "127.0.0.1:0"],
        &["--agent", dir, "--listen", "foo"],
        &["--agent", dir, "--listen", "127.0.0.1:0", "--peer", "nonsense"],
        &["--relay", dir, "--listen", "127.0.0.1:0", "--bogus"],
    ] {
        let output = Command::new(binary()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("mesh --agent --help"));
        assert!(!std::path::Path::new(dir).exists());
    }
    for arguments in [&["--agent", "--help"][..], &["--relay", dir, "--help"], &["--dump", "--help"]] {
        let output = Command::new(binary()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("mesh --dump DIR"));
    }
}
