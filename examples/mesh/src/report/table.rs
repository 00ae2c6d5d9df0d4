//! The table for people, 80 columns wide.

use std::fmt::Write as _;
use std::time::Duration;

use consilience::crdts::Timestamp;

use crate::options::Options;
use crate::process::control::Coupled;
use crate::report::outcome::{AtProcess, HALF_LIVES, Outcome};
use crate::shown::shown;
use crate::trace::Trace;

/// Characters for the two names of a coupling.
const PAIR_CHARS: usize = 37;
const TITLE_CHARS: usize = 60;

pub(crate) fn table(trace: &Trace, options: &Options, outcome: &Outcome) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut out, trace, options, outcome);
    out
}

fn write(out: &mut String, trace: &Trace, options: &Options, outcome: &Outcome) -> std::fmt::Result {
    writeln!(out, "Mesh: {}", cut(&shown(&trace.title), TITLE_CHARS))?;
    for section in sections(trace, outcome) {
        writeln!(out, "\n{}", section.title)?;
        for Row { name, number, note } in section.rows {
            writeln!(out, "{}", format!("  {name:<16}{number:>12}  {note}").trim_end())?;
        }
    }
    couplings(out, trace, options.half_life_days, outcome)?;
    processes(out, outcome)?;
    writeln!(out, "\n{}", verdict(outcome))
}

/// A group of figures, the same in the table and on the page.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) rows: Vec<Row>,
}

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) number: String,
    pub(crate) note: String,
}

fn row(name: &'static str, number: u64, note: impl Into<String>) -> Row {
    Row { name, number: grouped(number), note: note.into() }
}

pub(crate) fn sections(trace: &Trace, outcome: &Outcome) -> Vec<Section> {
    let status = outcome.status();
    let span = outcome.span.map(|(start, end)| format!(", {} to {}", date(start), date(end)));
    let mut state = vec![
        row(
            "events",
            outcome.events,
            format!("by {}{}", counted(outcome.agents, "agent"), span.unwrap_or_default()),
        ),
        row("live keys", status.keys, format!("of {} ever touched", grouped(outcome.verdict.keys_ever))),
        row("set size", status.set_size, "agents seen at work"),
        row("entries", status.entries, "of signed logs, held by every process"),
        row("signatures", outcome.signatures(), "checked, by all processes together"),
    ];
    if trace.left_out > 0 {
        state.push(row("left out", trace.left_out, "paths that are no text or too long for a key"));
    }
    vec![
        Section { title: "State", rows: state },
        Section { title: "Faults meanwhile", rows: faults(outcome) },
        Section { title: "Bytes", rows: bytes(outcome) },
    ]
}

fn faults(outcome: &Outcome) -> Vec<Row> {
    let tally = &outcome.tally;
    let mut rows = vec![
        row("links cut", tally.cuts, "and joined again"),
        row("sleeps", tally.sleeps, "SIGSTOP for a span of the trace, then SIGCONT"),
        row(
            "kills",
            outcome.kills,
            format!("with SIGKILL; restarts survived: {}", grouped(outcome.restarts)),
        ),
        row("put back", tally.restored.len() as u64, "directories, from a backup that was older"),
        row("forks", outcome.forks(), "writers with two histories: found and healed"),
    ];
    if let Some(catch_up) = &tally.catch_up {
        let process = &outcome.processes[catch_up.process];
        let note = format!("until {}, longest asleep, had {} more", process.name, grouped(catch_up.entries));
        rows.push(Row { name: "catch-up", number: seconds(catch_up.time), note });
        let own = format!("both ways; {} of its own came first", counted(catch_up.own, "event"));
        rows.push(row("  bytes for it", catch_up.bytes, own));
    }
    let settled =
        if tally.agreed { "from the last event until all held the same" } else { "NOT ENOUGH TO AGREE" };
    rows.push(Row { name: "settled", number: seconds(tally.settled), note: settled.into() });
    rows
}

fn bytes(outcome: &Outcome) -> Vec<Row> {
    let status = outcome.status();
    let hundredths = (outcome.wire_bytes * 100).checked_div(outcome.floor_bytes).unwrap_or(0);
    let times = format!("{}.{:02} times the floor", hundredths / 100, hundredths % 100);
    let share = (status.live_bytes * 100).checked_div(status.stored_bytes).unwrap_or(0);
    vec![
        row("on the wire", outcome.wire_bytes, if outcome.floor_bytes > 0 { times } else { String::new() }),
        row("floor", outcome.floor_bytes, "of the entries needed, one signature an update"),
        row("kept", outcome.kept_bytes, "the bundle for a process that has nothing"),
        row("stored", status.stored_bytes, "of state entries, in each process"),
        row("live", status.live_bytes, format!("of these list live content: {share} %")),
    ]
}

fn couplings(out: &mut String, trace: &Trace, days: u64, outcome: &Outcome) -> std::fmt::Result {
    let alive = grouped(outcome.couplings_alive);
    writeln!(out, "\nCouplings: {alive} alive at the end, half-life {days} d")?;
    if outcome.couplings.is_empty() && outcome.couplings_once.is_empty() {
        return Ok(());
    }
    write!(out, "  {:<PAIR_CHARS$}", "")?;
    for head in heads(days) {
        write!(out, "{head:>8}")?;
    }
    writeln!(out)?;
    for coupled in outcome.couplings.iter().chain(&outcome.couplings_once) {
        write!(out, "  {:<PAIR_CHARS$}", pair(trace, coupled))?;
        for value in coupled.values {
            write!(out, "{value:>8.1}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// The instants at which couplings are read.
pub(crate) fn heads(days: u64) -> [String; HALF_LIVES.len()] {
    HALF_LIVES.map(|half_lives| match i128::from(half_lives) * i128::from(days) {
        0 => "end".into(),
        distance => format!("{distance:+} d"),
    })
}

pub(crate) fn pair(trace: &Trace, coupled: &Coupled) -> String {
    let [one, other] = coupled.agents.map(|agent| name(trace, agent));
    format!("{one}, {other}")
}

fn processes(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let [process, lives, entries, disk, digest] = COLUMNS;
    writeln!(out, "\n  {process:<9} {lives:>6} {entries:>9} {disk:>11}  {digest}")?;
    for process in &outcome.processes {
        let [name, lives, entries, disk, digest] = cells(process);
        let digest: String = digest.chars().take(32).collect();
        writeln!(out, "  {name:<9} {lives:>6} {entries:>9} {disk:>11}  {digest}")?;
    }
    Ok(())
}

pub(crate) const COLUMNS: [&str; 5] = ["process", "starts", "entries", "on disk", "state digest (BLAKE3)"];

pub(crate) fn cells(process: &AtProcess) -> [String; COLUMNS.len()] {
    let status = &process.status;
    let digest = if process.is_relay { "(does not interpret its entries)" } else { &status.digest };
    [
        process.name.clone(),
        process.lives.to_string(),
        grouped(status.entries),
        grouped(status.journal_bytes),
        digest.into(),
    ]
}

pub(crate) fn verdict(outcome: &Outcome) -> String {
    let count = outcome.agents_processes().count();
    let verdict = &outcome.verdict;
    let mut text = if outcome.is_converged() {
        let they = if count == 1 { "The process".into() } else { format!("All {count} processes") };
        format!("{they} ended in the same state, and so did the stores on disk.")
    } else if outcome.tally.agreed {
        let stores = outcome.agents_processes().zip(&verdict.digests);
        let stores = stores.filter(|(process, stored)| process.status.digest != **stored);
        let stores: Vec<&str> = stores.map(|(process, _)| process.name.as_str()).collect();
        format!("A STORE DIFFERS from the process that wrote it: {}.", stores.join(", "))
    } else {
        "THE PROCESSES DIFFER.".into()
    };
    if verdict.lost + verdict.wrong == 0 {
        let (events, keys) = (counted(outcome.events, "event"), counted(verdict.plain_keys, "key"));
        let _ = write!(
            text,
            "\nNothing is lost: {events} once each, and {keys} as in a plain replay{}.",
            survivors(outcome)
        );
    } else {
        let (lost, wrong) = (counted(verdict.lost, "event"), counted(verdict.wrong, "key"));
        let _ = write!(text, "\nLOST: {lost}; {wrong} not as they should be.");
    }
    if outcome.peer_faults > 0 {
        let _ = write!(text, "\nPROCESSES FOUND FAULT WITH PEERS, {} times.", grouped(outcome.peer_faults));
    }
    for complaint in &verdict.complaints {
        let _ = write!(text, "\n  {complaint}");
    }
    text
}

/// Why more keys may be live than a plain replay leaves.
fn survivors(outcome: &Outcome) -> String {
    match outcome.status().keys.saturating_sub(outcome.verdict.plain_keys) {
        0 => String::new(),
        1 => ";\n1 more was removed last by somebody who had not seen its last set".into(),
        more => {
            format!(";\n{} more were removed last by somebody who had not seen their last set", grouped(more))
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn name(trace: &Trace, agent: u64) -> String {
    match trace.names.get(&agent) {
        Some(name) => cut(&shown(name), PAIR_CHARS / 2 - 2),
        None => format!("agent {agent}"),
    }
}

/// At most `chars` characters.
pub(crate) fn cut(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.into();
    }
    text.chars().take(chars - 1).chain(['…']).collect()
}

/// With a comma between each three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// Year, month and day (Hinnant's `civil_from_days`).
fn date(time: Timestamp) -> String {
    let days = time.as_millis() / 86_400_000 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    format!("{:04}-{month:02}-{day:02}", year + era * 400 + u64::from(month <= 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_dates_are_readable() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        let dates = [0, 951_782_400, 951_868_800, 1_704_096_000, 253_402_300_799];
        let dates = dates.map(|time_s| date(Timestamp::from_secs(time_s)));
        assert_eq!(dates, ["1970-01-01", "2000-02-29", "2000-03-01", "2024-01-01", "9999-12-31"]);
        assert_eq!((cut("abc", 3), cut("abcd", 3)), ("abc".into(), "ab…".into()));
    }
}
