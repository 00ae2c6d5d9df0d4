//! A trace from a file of JSON lines: `{"t": unix seconds, "agent": n, "keys": ["path", "-deleted path"]}`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;

use consilience::crdts::KEY_BYTES_MAX;
use serde::Deserialize;

use crate::trace::{Change, Event, TIME_S_MAX, Trace};

/// The longest line that is read, in bytes: a file that is no trace should not fill the memory.
const LINE_BYTES_MAX: u64 = 64 << 20;

#[derive(Deserialize)]
#[serde(expecting = "an object with \"t\", \"agent\" and \"keys\"")]
struct Line {
    t: u64,
    agent: u64,
    keys: Vec<String>,
}

pub(crate) fn read(file: &Path) -> Result<Trace, String> {
    let name = file.display().to_string();
    let input = File::open(file).map_err(|error| format!("{name}: {error}"))?;
    let title = file.file_name().map_or_else(|| name.clone(), |last| last.to_string_lossy().into_owned());
    Ok(Trace { title, events: read_from(BufReader::new(input), &name)?, ..Trace::default() })
}

/// Complaints say where: `name:line: the mistake`.
fn read_from(mut input: impl BufRead, name: &str) -> Result<Vec<Event>, String> {
    let mut events = Vec::new();
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let place = |complaint: String| format!("{name}:{number}: {complaint}");
        let read = input.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line);
        match read.map_err(|error| place(error.to_string()))? {
            0 => break,
            bytes if u64::try_from(bytes).is_ok_and(|bytes| bytes > LINE_BYTES_MAX) => {
                return Err(place(format!("a line of more than {LINE_BYTES_MAX} bytes")));
            }
            _ => events.push(event(&line).map_err(place)?),
        }
    }
    Ok(events)
}

fn event(line: &[u8]) -> Result<Event, String> {
    if line.trim_ascii().is_empty() {
        return Err("an empty line".into());
    }
    let line: Line = serde_json::from_slice(line).map_err(|error| plain(&error))?;
    if line.t > TIME_S_MAX {
        return Err(format!("the time {} s is after the year 9999", line.t));
    }
    let changes = line.keys.into_iter().map(change).collect::<Result<_, _>>()?;
    Ok(Event { time_s: line.t, agent: line.agent, changes })
}

/// The parser saw one line only, so its "at line 1" would mislead.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((text, _)) => format!("{text} (column {})", error.column()),
        None => text,
    }
}

fn change(text: String) -> Result<Change, String> {
    let removed = text.strip_prefix('-');
    let key = removed.unwrap_or(&text);
    if key.is_empty() {
        return Err(if removed.is_some() { "a \"-\" without a key" } else { "an empty key" }.into());
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(format!("a key of {} bytes: the limit is {KEY_BYTES_MAX}", key.len()));
    }
    let key = key.to_string();
    Ok(if removed.is_some() { Change::Remove(key) } else { Change::Set(key) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(line: &str) -> String {
        let text = format!("{{\"t\":1,\"agent\":0,\"keys\":[]}}\n{line}\n");
        let complaint = read_from(text.as_bytes(), "some.jsonl").unwrap_err();
        complaint.strip_prefix("some.jsonl:2: ").expect("names file and line").to_string()
    }

    #[test]
    fn a_line_gives_an_event() {
        let text = "{\"t\":7,\"agent\":3,\"keys\":[\"a\",\"-b\",\"--c\"],\"more\":null}\r\n{\"keys\":[],\"agent\":0,\"t\":0}";
        let events = read_from(text.as_bytes(), "x").unwrap();
        let changes = vec![Change::Set("a".into()), Change::Remove("b".into()), Change::Remove("-c".into())];
        assert_eq!(events[0], Event { time_s: 7, agent: 3, changes });
        assert_eq!(events.len(), 2);
    }

    #[test]
    fn malformed_lines_are_named() {
        assert_eq!(complaint("{\"t\":1,\"agent\":0}"), "missing field `keys` (column 17)");
        assert_eq!(complaint("{\"t\":1,\"agent\":0,\"keys\":[\"\"]}"), "an empty key");
        assert_eq!(complaint("{\"t\":1,\"agent\":0,\"keys\":[\"-\"]}"), "a \"-\" without a key");
        assert_eq!(complaint(""), "an empty line");
        assert_eq!(
            complaint("{\"t\":253402300800,\"agent\":0,\"keys\":[]}"),
            "the time 253402300800 s is after the year 9999"
        );
        let long = format!("{{\"t\":1,\"agent\":0,\"keys\":[\"{}\"]}}", "k".repeat(KEY_BYTES_MAX + 1));
        assert_eq!(complaint(&long), "a key of 4097 bytes: the limit is 4096");
        for wrong in [
            "nonsense",
            "{\"t\":1,\"agent\":0,\"keys\":[\"a\"]",
            "{\"t\":1,\"agent\":0,\"keys\":[\"a\"]} {}",
            "{\"t\":-1,\"agent\":0,\"keys\":[]}",
            "{\"t\":1.5,\"agent\":0,\"keys\":[]}",
            "{\"t\":1,\"agent\":\"ada\",\"keys\":[]}",
            "{\"t\":1,\"agent\":0,\"keys\":\"a\"}",
            "{\"t\":1,\"agent\":0,\"keys\":[1]}",
            "{\"t\":1,\"t\":1,\"agent\":0,\"keys\":[]}",
            "null",
        ] {
            assert!(!complaint(wrong).contains("line 1"), "{wrong}");
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_refused() {
        assert!(
            read_from(&b"{\"t\":1,\"agent\":0,\"keys\":[\"\xff\"]}"[..], "x")
                .unwrap_err()
                .starts_with("x:1: ")
        );
    }
}
