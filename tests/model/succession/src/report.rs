//! The runs that are documented, and their figures as text or as rows.

use crate::bound::{self, Kept};
use crate::quietly;
use crate::rule::{CLAUSES, Mode, Rule};
use crate::scenarios;
use crate::search::{Findings, search};

/// The modes of the full run. Each has the same number of histories.
const MODES: [&str; 10] = [
    "none",
    "liar",
    "liars+fork",
    "loss+backup",
    "loss+backup+fork+days+unsaid",
    "days+backup+fork+unsaid",
    "facts+loss+backup+days",
    "facts+liars+fork+loss+backup+days",
    "quota+purge+loss+backup+fork+unsaid",
    "all",
];
/// Beside them, with owners that say Final at once: what is lost and comes back by that is counted apart.
const FINALS: [&str; 2] = ["loss+backup+fork+final", "all+final"];
const FIRST: u64 = 20_000_000;
const PACKAGE: &str = "cargo run --release --manifest-path tests/model/succession/Cargo.toml --";

pub fn print_mode(mode: &str, findings: &Findings) {
    let Findings { histories, counts: c, found, .. } = findings;
    let failed: u64 = found.values().map(|found| found.times).sum();
    println!("{mode}: {histories} histories, {} steps, {failed} failed", c.steps);
    println!(
        "    with forks {}, departures {}, finals {}; compared with the full history {}, asked for removed values {}",
        c.with_forks, c.with_departures, c.with_finals, c.checked_at_the_end, c.checked_back
    );
    println!(
        "    named by the rule: lost by final {}; back by final {}, by loss of all copies {}, by an unseen fork {} \
         (of {} such), by a closing {}",
        c.lost_by_final, c.back_by_final, c.back_by_loss, c.back_by_unseen, c.forks_unseen, c.back_by_closing
    );
    println!(
        "    for a while, where a citation would have told (and where not): hidden {} ({}), back {} ({}), view {} ({})",
        c.hidden.0, c.hidden.1, c.back.0, c.back.1, c.view.0, c.view.1
    );
    for (kind, found) in found {
        println!("    {kind}: {} (seed {}, {} bytes: {})", found.times, found.seed, found.bytes, found.text);
    }
}

/// All modes. True if nothing failed, and each pair of the table is there often enough for the size of the run.
pub fn full(each: u64, json: bool, threads: usize) -> bool {
    let rule = Rule::default();
    let mut all = Findings::default();
    for (first, mode) in (FIRST..).step_by(1_000_000).zip(MODES.iter().chain(&FINALS)) {
        let parsed = Mode::parse(mode).expect("a mode of the list");
        let findings = quietly(|| search(rule, parsed, first, each, threads));
        if !json {
            print_mode(mode, &findings);
        }
        all.add(findings);
    }
    let most = bound::bound(rule, 1_000);
    let name = if each >= 100_000 { "full" } else { "quick" };
    let pairs = each / 100;
    let rows = [
        ("model_histories", all.histories as f64, "histories", format!(">={}", each * MODES.len() as u64)),
        ("model_silent", all.times("SILENT") as f64, "histories", "==0".into()),
        ("model_converse", all.times("CONVERSE") as f64, "histories", "==0".into()),
        ("model_never_equal", all.times("NEVER EQUAL") as f64, "histories", "==0".into()),
        ("model_lost", all.times("LOST") as f64, "histories", "==0".into()),
        ("model_returned", all.times("RETURNED") as f64, "histories", "==0".into()),
        ("model_other", others(&all) as f64, "histories", "==0".into()),
        ("model_pair_least", all.table.least() as f64, "histories", format!(">={pairs}")),
        ("model_bound_logs", most[1].logs as f64, "logs", "<=8".into()),
        ("model_bound_bytes", most[1].bytes as f64, "bytes", "<=1024".into()),
        ("model_bound_growth", growth(&most), "bytes of starts 501-1000 / of 1-500", "<=1.25".into()),
    ];
    if json {
        for (row, value, unit, reach) in &rows {
            println!(
                "{{\"issue\":9,\"row\":\"{row}\",\"value\":{value},\"unit\":\"{unit}\",\"reach\":\"{reach}\",\
                 \"command\":\"{PACKAGE} {name} --json\"}}"
            );
        }
    } else {
        print_mode("in all", &all);
        all.table.print();
        print_bound(&most, 1_000);
        for (row, value, unit, reach) in &rows {
            println!("{row}: {value} {unit}, {reach}");
        }
    }
    rows.iter().all(|(_, value, _, reach)| {
        let bound: f64 = reach[2..].parse().expect("a number of the list");
        match &reach[..2] {
            ">=" => *value >= bound,
            "<=" => *value <= bound,
            _ => *value == bound,
        }
    })
}

/// Failures of kinds that have no row of their own.
fn others(all: &Findings) -> u64 {
    let named = ["SILENT", "CONVERSE", "NEVER EQUAL", "LOST", "RETURNED"];
    let total: u64 = all.found.values().map(|found| found.times).sum();
    total - named.iter().map(|kind| all.times(kind)).sum::<u64>()
}

fn growth(most: &[Kept; 2]) -> f64 {
    (most[1].bytes as f64 / most[0].bytes.max(1) as f64 * 100.0).round() / 100.0
}

pub fn bound(rule: Rule, starts: u16) {
    print_bound(&bound::bound(rule, starts), starts);
}

fn print_bound(most: &[Kept; 2], starts: u16) {
    for (half, kept) in most.iter().enumerate() {
        let (from, to) = (half as u16 * (starts / 2) + 1, (half as u16 + 1) * (starts / 2));
        println!(
            "starts {from} to {to}: a peer keeps at most {} logs, {} entries, {} bytes for succession",
            kept.logs, kept.entries, kept.bytes
        );
    }
}

/// Each clause left out: the scenarios, and histories of all modes in turn, until something fails. True if that is so for
/// each clause but `peaks`, which shows forks that would else not be seen, and not for the whole rule.
pub fn ablations(threads: usize) -> bool {
    const ROUNDS: u64 = 40;
    // These are to find nothing, so a part of the seeds is enough: `full` has more.
    const ROUNDS_OF_NONE: u64 = 4;
    let without = CLAUSES.iter().map(|(_, name)| format!("rd-{name}"));
    let mut good = true;
    println!("{:20} {:>10}  {:20} smallest", "rule", "histories", "fails with");
    let whole = ["today".into(), "rd".into(), "rd-peaks".into()];
    for name in without.filter(|name| name != "rd-peaks").chain(whole) {
        let rule = Rule::parse(&name).expect("a rule of the list");
        let mut all = Findings::default();
        if let Some((scenario, _)) = scenarios::broken(rule) {
            println!("{name:20} {:>10}  {scenario:20} succession scenarios", "-");
            good &= name != "rd";
            continue;
        }
        let none = name == "rd" || name == "rd-peaks";
        'search: for round in 0..if none { ROUNDS_OF_NONE } else { ROUNDS } {
            for (first, mode) in (FIRST / 2 + 250 * round..).step_by(100_000).zip(MODES.iter().chain(&FINALS))
            {
                let parsed = Mode::parse(mode).expect("a mode of the list");
                let findings = quietly(|| search(rule, parsed, first, 250, threads));
                let found = findings.found.iter().next().map(|(kind, found)| (kind.clone(), found.seed));
                all.add(findings);
                if let Some((kind, seed)) = found {
                    println!("{name:20} {:>10}  {kind:20} {name} {mode} {seed}", all.histories);
                    break 'search;
                }
            }
        }
        if all.found.is_empty() {
            println!(
                "{name:20} {:>10}  nothing; forks that nobody sees: {}",
                all.histories, all.counts.forks_unseen
            );
        }
        good &= all.found.is_empty() == none;
    }
    good
}
