//! A trace from the history of a git repository: a commit is an event, an author an agent, a path a key.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use consilience::crdts::KEY_BYTES_MAX;

use crate::trace::{Change, Event, TIME_S_MAX, Trace};

/// Opens every commit in git's output. No status starts with it, and names are taken by their position.
const OPENING: u8 = 1;
/// Author's time, name and mail, the latter two by the repository's mailmap.
const FORMAT: &str = "--format=%x01%at%x00%aN%x00%aE";

pub(crate) fn read(dir: &Path) -> Result<Trace, String> {
    let name = dir.display();
    let mut git = Command::new("git");
    // Set in hooks, and then meant for another repository.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"] {
        git.env_remove(variable);
    }
    git.arg("-C").arg(dir).args(["-c", "log.showSignature=false", "log", "--reverse", "--no-merges"]);
    // By date, but never a commit before the one that it builds upon, whatever their clocks said.
    git.args(["--date-order", "--no-renames", "--no-relative", "--no-color", "--name-status", "-z"]);
    git.args([FORMAT, "HEAD", "--"]);
    git.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = git.spawn().map_err(|error| format!("git cannot be run: {error}"))?;
    let mut trace = Trace { title: format!("history of {name}"), ..Trace::default() };
    let read = match child.stdout.take() {
        Some(stdout) => parse(BufReader::new(stdout), &mut trace),
        None => Err("no output".into()),
    };
    // Git writes little to standard error, so it was never blocked on it.
    let mut complaint = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_string(&mut complaint);
    }
    let status = child.wait().map_err(|error| format!("git: {error}"))?;
    // Git that dies because nobody reads on has nothing to say about it.
    if !status.success() && (read.is_ok() || !complaint.is_empty()) {
        return Err(format!("{name}: git: {}", text(complaint.trim().as_bytes())));
    }
    read.map_err(|complaint| format!("{name}: the output of git log: {complaint}"))?;
    Ok(trace)
}

/// Fields end with a zero byte: the opening of a commit with its time, name, mail; then a status and a path for each
/// file, the first of them after an empty field and a line break.
fn parse(input: impl BufRead, trace: &mut Trace) -> Result<(), String> {
    let mut fields = input.split(0);
    let mut next = || fields.next().transpose().map_err(|error| error.to_string());
    let mut agents = BTreeMap::new();
    let mut event: Option<Event> = None;
    while let Some(field) = next()? {
        match field.trim_ascii_start() {
            [] => {}
            [OPENING, time @ ..] => {
                keep(event.take(), trace);
                // Git knows commits from before 1970.
                let time_s: i64 = text(time).parse().map_err(|_| "a time that is no number")?;
                let time_s = u64::try_from(time_s).unwrap_or(0).min(TIME_S_MAX);
                let (Some(name), Some(mail)) = (next()?, next()?) else {
                    return Err("a commit without an author".into());
                };
                // One person, several names: the mail says so. Without a mail only the name is left.
                let identity = if mail.is_empty() { name.clone() } else { mail };
                let fresh = u64::try_from(agents.len()).unwrap_or(u64::MAX);
                let agent = *agents.entry(identity).or_insert(fresh);
                trace.names.entry(agent).or_insert_with(|| text(&name));
                event = Some(Event { time_s, agent, changes: Vec::new() });
            }
            [status, ..] => {
                let Some(path) = next()? else {
                    return Err("a status without a path".into());
                };
                let Some(event) = &mut event else {
                    return Err("a path without a commit".into());
                };
                // Keys of a trace are text, so that they can be checked from outside.
                match String::from_utf8(path) {
                    Ok(path) if !path.is_empty() && path.len() <= KEY_BYTES_MAX => {
                        let removed = *status == b'D';
                        event.changes.push(if removed { Change::Remove(path) } else { Change::Set(path) });
                    }
                    _ => trace.left_out += 1,
                }
            }
        }
    }
    keep(event, trace);
    Ok(())
}

/// Commits that touch nothing are no work.
fn keep(event: Option<Event>, trace: &mut Trace) {
    trace.events.extend(event.filter(|event| !event.changes.is_empty()));
}

/// Names end up on a terminal, which must not take orders from them.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_read_whatever_the_names() {
        let output = b"\x0110\0Ada\0a@x\0\0\nA\0\x01x\0A\0-dash\0M\0odd\nname\0\x0111\0Bob\x1b[1m\0\0\
            \x01-5\0Ada L\0a@x\0\0\nD\0-dash\0T\0\xff\0T\0\xc3\xbc\0";
        let mut trace = Trace::default();
        parse(&output[..], &mut trace).unwrap();
        let set = |key: &str| Change::Set(key.into());
        let first = vec![set("\x01x"), set("-dash"), set("odd\nname")];
        let second = vec![Change::Remove("-dash".into()), set("ü")];
        assert_eq!(
            trace.events,
            [Event { time_s: 10, agent: 0, changes: first }, Event { time_s: 0, agent: 0, changes: second },]
        );
        assert_eq!(trace.left_out, 1, "a path that is not UTF-8");
        assert_eq!(trace.names[&0], "Ada");
        assert_eq!(trace.names[&1], "Bob?[1m");
    }

    #[test]
    fn output_that_is_cut_is_refused() {
        for output in [&b"\x0110\0Ada\0"[..], b"\x01ten\0Ada\0a\0", b"\x0110\0Ada\0a\0\0\nM\0", b"M\0a\0"] {
            assert!(parse(output, &mut Trace::default()).is_err());
        }
    }
}
