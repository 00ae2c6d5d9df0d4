//! The page: the figures of the table, with plots. One file, nothing from elsewhere. A place that cannot be written is
//! found out before the run, not after it.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::options::Options;
use crate::report::outcome::{HALF_LIVES, Outcome};
use crate::report::plot::{Dot, Lines, Series, bars, escape};
use crate::report::table::{self, COLUMNS, cells, counted, grouped, heads, pair};
use crate::trace::Trace;

const STYLE: &str = include_str!("page.css");
/// Points of a line are at least this far apart.
const APART: Duration = Duration::from_millis(60);

pub(crate) fn page(trace: &Trace, options: &Options, outcome: &Outcome) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut out, trace, options, outcome);
    out
}

fn write(out: &mut String, trace: &Trace, options: &Options, outcome: &Outcome) -> std::fmt::Result {
    let title = escape(&trace.title);
    writeln!(out, "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>")?;
    writeln!(out, "<meta name=viewport content=\"width=device-width, initial-scale=1\">")?;
    writeln!(out, "<meta name=color-scheme content=\"light dark\">")?;
    writeln!(out, "<title>Mesh: {title}</title>\n<style>\n{STYLE}</style>\n<main>\n<h1>Mesh: {title}</h1>")?;
    let class = if outcome.is_good() { "good" } else { "bad" };
    let verdict = escape(&table::verdict(outcome)).replace('\n', "<br>");
    writeln!(out, "<p class=\"verdict {class}\">{verdict}</p>")?;
    if let (true, Some(digest)) = (outcome.is_converged(), outcome.agents_processes().next()) {
        writeln!(out, "<p>The state's digest: <code>{}</code></p>", escape(&digest.status.digest))?;
    }
    convergence(out, outcome)?;
    links(out, outcome)?;
    coupling(out, trace, options.half_life_days, outcome)?;
    writeln!(out, "<h2>Figures</h2>\n<div class=sections>")?;
    for section in table::sections(trace, outcome) {
        writeln!(out, "<section>\n<h3>{}</h3>\n<table>", escape(section.title))?;
        for row in section.rows {
            let [name, number, note] = [row.name.trim(), &row.number, &row.note].map(escape);
            writeln!(out, "<tr><th scope=row>{name}<td class=number>{number}<td>{note}")?;
        }
        writeln!(out, "</table>\n</section>")?;
    }
    writeln!(out, "</div>")?;
    processes(out, outcome)?;
    couplings(out, trace, options.half_life_days, outcome)?;
    writeln!(out, "</main>\n</html>")
}

/// Entries held by each process, over time, with all that happened to it.
fn convergence(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let series = outcome.processes.iter().map(|process| Series {
        name: process.name.clone(),
        points: thinned(&process.entries),
        steps: true,
    });
    let dots = outcome.tally.marks.iter().filter_map(|mark| {
        let x = mark.at.as_secs_f64();
        let series = mark.process?;
        let name = &outcome.processes.get(series)?.name;
        Some(Dot { series, x, label: format!("{name}, {x:.1} s: {}", mark.what) })
    });
    let lines = Lines {
        summary: format!(
            "Entries held by each of {} over {:.0} seconds. All lines rise and end together at {}.",
            counted(outcome.processes.len() as u64, "process").replace("processs", "processes"),
            outcome.time.as_secs_f64(),
            grouped(outcome.status().entries),
        ),
        x_name: "seconds since the start".into(),
        y_name: "entries held".into(),
        x_ticks: Vec::new(),
        series: series.collect(),
        dots: dots.collect(),
    };
    writeln!(out, "<h2>Convergence</h2>\n<figure>\n{}\n<figcaption>", lines.to_svg())?;
    legend(out, &lines.series)?;
    writeln!(
        out,
        "<p>A process that sleeps or is cut off stays level and catches up. A dot is a fault or a"
    )?;
    writeln!(
        out,
        "return there; in order of time:</p>\n<details><summary>All that happened</summary>\n<ol>"
    )?;
    for mark in &outcome.tally.marks {
        let name = mark.process.and_then(|process| outcome.processes.get(process));
        let name = name.map_or(String::new(), |process| format!("{}: ", process.name));
        let text = escape(&format!("{name}{}", mark.what));
        writeln!(out, "<li>{:.1} s: {text}", mark.at.as_secs_f64())?;
    }
    writeln!(out, "</ol></details>\n</figcaption>\n</figure>")
}

fn thinned(entries: &[(Duration, u64)]) -> Vec<(f64, f64)> {
    let mut points: Vec<(Duration, u64)> = Vec::new();
    for (at, held) in entries {
        let several = points.len() > 1;
        match points.last_mut() {
            // The last of those that are close together, so that a line ends where it ended.
            Some(last) if *at < last.0 + APART && several => last.1 = *held,
            _ => points.push((*at, *held)),
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "for a drawing")]
    points.into_iter().map(|(at, held)| (at.as_secs_f64(), held as f64)).collect()
}

fn legend(out: &mut String, series: &[Series]) -> std::fmt::Result {
    writeln!(out, "<ul class=legend>")?;
    for (number, series) in series.iter().enumerate() {
        writeln!(out, "<li class=c{}>{}", number % 8, escape(&series.name))?;
    }
    writeln!(out, "</ul>")
}

fn links(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let mut links: Vec<_> = outcome.links.iter().collect();
    links.sort_by_key(|link| std::cmp::Reverse(link.bytes));
    #[expect(clippy::cast_precision_loss, reason = "for a drawing")]
    let rows: Vec<(String, f64, String)> = links
        .iter()
        .map(|link| {
            let names = link.names.each_ref().map(|name| name.trim_start_matches("agent-"));
            (names.join(" – "), link.bytes as f64, grouped(link.bytes))
        })
        .collect();
    let Some((name, _, bytes)) = rows.first() else { return Ok(()) };
    let summary = format!("Bytes on each of {} links. The most, {bytes}, went over {name}.", rows.len());
    writeln!(out, "<h2>Bytes on each link</h2>\n<figure>\n{}", bars(&summary, &rows))?;
    let (wire, floor) = (grouped(outcome.wire_bytes), grouped(outcome.floor_bytes));
    writeln!(out, "<figcaption>Both ways, {wire} in all. The floor is {floor}: every entry, once to")?;
    writeln!(
        out,
        "every process that needed it, and one signature an update. (1 is agent-1.)</figcaption>\n</figure>"
    )
}

/// The strongest couplings as they came and go.
fn coupling(out: &mut String, trace: &Trace, days: u64, outcome: &Outcome) -> std::fmt::Result {
    let shown: Vec<_> = outcome.couplings.iter().take(3).chain(outcome.couplings_once.first()).collect();
    let Some(first) = shown.first() else { return Ok(()) };
    let points = |values: [f64; HALF_LIVES.len()]| {
        // The readings, and between the end and the last one the curve that the half-life makes.
        let mut points: Vec<(f64, f64)> =
            HALF_LIVES.iter().map(|at| f64::from(*at)).zip(values).take(3).collect();
        points.extend((1..=40).map(|step| {
            let at = f64::from(step) / 20.0;
            (at, values[2] * (-at).exp2())
        }));
        points
    };
    let heads = heads(days);
    let series = shown.iter().map(|coupled| Series {
        name: pair(trace, coupled),
        points: points(coupled.values),
        steps: false,
    });
    let ticks = HALF_LIVES.iter().map(|at| f64::from(*at)).zip(heads.iter().cloned());
    let values = first.values.map(|value| format!("{value:.1}")).join(", ");
    let lines = Lines {
        summary: format!(
            "How strongly agents are coupled, from two half-lives before the end of the trace to two after it. \
             The strongest, {}: {values}.",
            pair(trace, first)
        ),
        x_name: format!("days from the end of the trace, half-life {days} d"),
        y_name: "strength".into(),
        x_ticks: ticks.collect(),
        series: series.collect(),
        dots: Vec::new(),
    };
    writeln!(out, "<h2>Couplings fade</h2>\n<figure>\n{}\n<figcaption>", lines.to_svg())?;
    legend(out, &lines.series)?;
    writeln!(
        out,
        "<p>Read while the trace passed these instants; after its end nothing happens, and half is left"
    )?;
    writeln!(out, "after every half-life. {} are alive at the end.</p>", grouped(outcome.couplings_alive))?;
    writeln!(out, "</figcaption>\n</figure>")
}

fn processes(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    writeln!(out, "<h2>Processes</h2>\n<div class=wide><table>\n<tr>")?;
    for (column, class) in
        COLUMNS.into_iter().zip(["", " class=number", " class=number", " class=number", ""])
    {
        writeln!(out, "<th scope=col{class}>{column}")?;
    }
    for process in &outcome.processes {
        let [name, lives, entries, disk, digest] = cells(process).map(|cell| escape(&cell));
        write!(out, "<tr><th scope=row>{name}<td class=number>{lives}<td class=number>{entries}")?;
        writeln!(out, "<td class=number>{disk}<td><code>{digest}</code>")?;
    }
    writeln!(out, "</table></div>")
}

fn couplings(out: &mut String, trace: &Trace, days: u64, outcome: &Outcome) -> std::fmt::Result {
    if outcome.couplings.is_empty() && outcome.couplings_once.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h2>Couplings</h2>\n<div class=wide><table>\n<tr><th scope=col>agents")?;
    for head in heads(days) {
        writeln!(out, "<th scope=col class=number>{head}")?;
    }
    for coupled in outcome.couplings.iter().chain(&outcome.couplings_once) {
        write!(out, "<tr><th scope=row>{}", escape(&pair(trace, coupled)))?;
        for value in coupled.values {
            write!(out, "<td class=number>{value:.1}")?;
        }
        writeln!(out)?;
    }
    writeln!(out, "</table></div>")
}

pub(crate) struct Page {
    path: PathBuf,
    file: File,
    /// It was not there before, and nothing is in it yet.
    is_blank: bool,
}

impl Page {
    /// The content of the file stays until there is something to put in its place.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let is_blank = !path.exists();
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        let file = file.map_err(|error| format!("--html {}: {error}", path.display()))?;
        Ok(Self { path: path.into(), file, is_blank })
    }

    pub(crate) fn write(mut self, text: &str) -> Result<(), String> {
        self.is_blank = false;
        let written = self.file.metadata().and_then(|data| {
            // A pipe has no length.
            if data.is_file() {
                self.file.set_len(0)?;
            }
            self.file.write_all(text.as_bytes())
        });
        written.map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if self.is_blank {
            // An empty file does no harm.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
