//! The table for people, 80 columns wide.

use std::fmt::Write as _;

use consilience::crdts::Timestamp;

use super::link::Traffic;
use super::options::Options;
use super::outcome::{Bytes, HALF_LIVES, Outcome};
use super::trace::Trace;

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
    writeln!(out, "Mesh: {}\n", cut(&trace.title, TITLE_CHARS))?;
    row(out, "replicas", outcome.replicas.len() as u64, "")?;
    let span =
        outcome.span.map_or_else(String::new, |(start, end)| format!(", {} to {}", date(start), date(end)));
    row(out, "events", outcome.events, &format!("by {}{span}", counted(outcome.agents, "agent")))?;
    row(out, "live keys", outcome.keys, &format!("of {} ever touched", grouped(outcome.keys_ever)))?;
    row(out, "set size", outcome.set_size, "agents seen at work")?;
    let size = outcome.size();
    row(
        out,
        "entries",
        size.entries,
        &format!("signed, of which {} are still needed", grouped(size.entries_kept)),
    )?;
    if trace.left_out > 0 {
        row(out, "left out", trace.left_out, "paths longer than a key may be")?;
    }

    if outcome.replicas.len() > 1 {
        links(out, options, outcome.traffic)?;
        sent(out, outcome.bytes)?;
        merges(out, outcome)?;
    }
    couplings(out, trace, options.half_life_days, outcome)?;

    let head = ["replica", "events", "on disk", "stored", "live"];
    let [number, events, disk, stored, live] = head;
    writeln!(out, "\n  {number:>7} {events:>8} {disk:>10} {stored:>10} {live:>10}  state digest (BLAKE3)")?;
    for (number, replica) in outcome.replicas.iter().enumerate() {
        let [events, disk, stored, live] =
            [replica.events, replica.disk_bytes, replica.size.stored, replica.size.live].map(grouped);
        let digest: String = replica.digest.to_hex().chars().take(24).collect();
        writeln!(out, "  {number:>7} {events:>8} {disk:>10} {stored:>10} {live:>10}  {digest}")?;
    }
    writeln!(out, "\n{}", verdict(outcome))
}

fn row(out: &mut String, name: &str, number: u64, note: &str) -> std::fmt::Result {
    writeln!(out, "{}", format!("  {name:<13}{:>13}  {note}", grouped(number)).trim_end())
}

fn links(out: &mut String, options: &Options, traffic: Traffic) -> std::fmt::Result {
    writeln!(out, "\nLinks")?;
    row(out, "frames", traffic.sent, "")?;
    row(out, "lost", traffic.lost, &format!("--loss {}", options.loss))?;
    row(out, "cut", traffic.cut, &format!("by partitions, --partition {}", options.partition))?;
    row(out, "duplicated", traffic.duplicated, &format!("--duplicate {}", options.duplicate))?;
    row(out, "overtaken", traffic.overtaken, "by a frame sent later on the same link")
}

fn sent(out: &mut String, bytes: Bytes) -> std::fmt::Result {
    writeln!(out, "\nBytes sent")?;
    row(out, "changes", bytes.changes, "bundles of what an event brought, to every peer")?;
    row(out, "summaries", bytes.summaries, "to a neighbour: what is here")?;
    row(out, "repairs", bytes.repairs, "its answers: bundles of what is not")?;
    row(out, "in all", bytes.sent(), "")?;
    let times = bytes.full_states.checked_div(bytes.sent()).unwrap_or(0);
    let note = format!(
        "with all that is held for changes: {}",
        match times {
            0 | 1 => "no more".to_string(),
            times => format!("{} times that", grouped(times)),
        }
    );
    row(out, "full states", bytes.full_states, &note)
}

fn merges(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let merges = &outcome.merges;
    writeln!(out, "\nBundles taken in, signatures checked")?;
    let bytes = merges.bytes.checked_div(merges.calls).unwrap_or(0);
    row(out, "calls", merges.calls, &format!("of {} bytes on average", grouped(bytes)))?;
    row(out, "refused", outcome.refused, "logs in them, for what was lost before")?;
    row(out, "a second", merges.per_second(), &format!("{:.3} s in all", merges.total.as_secs_f64()))
}

fn couplings(out: &mut String, trace: &Trace, days: u64, outcome: &Outcome) -> std::fmt::Result {
    let alive = grouped(outcome.couplings_alive);
    writeln!(out, "\nCouplings: {alive} alive at the end, half-life {days} d")?;
    if outcome.couplings.is_empty() && outcome.couplings_once.is_empty() {
        return Ok(());
    }
    write!(out, "  {:<PAIR_CHARS$}", "")?;
    for half_lives in HALF_LIVES {
        let distance = i128::from(half_lives) * i128::from(days);
        let head = if half_lives == 0 { "end".into() } else { format!("{distance:+} d") };
        write!(out, "{head:>8}")?;
    }
    writeln!(out)?;
    let strongest = [
        ("strongest at the end", &outcome.couplings),
        ("strongest of the others at the first date", &outcome.couplings_once),
    ];
    for (title, couplings) in strongest.into_iter().filter(|(_, couplings)| !couplings.is_empty()) {
        writeln!(out, "  {title}")?;
        for coupled in couplings {
            let [one, other] = coupled.agents.map(|agent| name(trace, agent));
            write!(out, "  {:<PAIR_CHARS$}", cut(&format!("  {one}, {other}"), PAIR_CHARS))?;
            for value in coupled.values {
                write!(out, "{:>8}", format!("{value:.1}"))?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

fn name(trace: &Trace, agent: u64) -> String {
    match trace.names.get(&agent) {
        Some(name) => cut(name, PAIR_CHARS / 2 - 2),
        None => format!("agent {agent}"),
    }
}

fn verdict(outcome: &Outcome) -> String {
    let replicas = outcome.replicas.len();
    let keys = counted(outcome.plain_keys, "key");
    let mut text = match (outcome.digest(), outcome.rounds) {
        (None, _) => format!("THE REPLICAS DIFFER: {replicas} replicas are not in one state."),
        (_, None) => "THE REPLICAS DID NOT COME TO REST, although their states are equal.".into(),
        _ if !outcome.plain => "THE STATE IS WRONG: a plain replay of the trace ends in another one.".into(),
        (_, Some(_)) if replicas == 1 => {
            "The replica's map and set equal those of a plain replay of the trace.".into()
        }
        (_, Some(rounds)) => {
            let rounds = counted(rounds, "round");
            format!(
                "All {replicas} replicas ended in the same state, at rest after {rounds} of repair.\n\
                 A plain replay has that set too, and the {keys} that only one ever touched."
            )
        }
    };
    if !outcome.replicas.iter().all(|replica| replica.comes_back) {
        text += "\nA REPLICA COMES BACK FROM ITS STORAGE IN ANOTHER STATE.";
    }
    text
}

/// At most `chars` characters.
fn cut(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.into();
    }
    text.chars().take(chars - 1).chain(['…']).collect()
}

/// With a comma between each three digits.
fn grouped(number: u64) -> String {
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

fn counted(number: u64, noun: &str) -> String {
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
