//! Progress on a terminal: a bar for the trace, and one for each process with its number of entries.

use std::io::IsTerminal as _;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::replay::fleet::Fleet;
use crate::replay::links;
use crate::replay::member::State;

pub(crate) struct Progress {
    all: MultiProgress,
    trace: ProgressBar,
    processes: Vec<ProgressBar>,
}

impl Progress {
    pub(crate) fn new(events: usize, processes: usize) -> Self {
        // Not in a pipe or a log file, where it would only be noise.
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let all = MultiProgress::with_draw_target(target);
        let add = |length: usize, template: &str| {
            let bar = all.add(ProgressBar::new(length as u64));
            match ProgressStyle::with_template(template) {
                Ok(style) => bar.with_style(style.progress_chars("█▌ ")),
                Err(_) => bar,
            }
        };
        let trace = add(events, "{prefix:8} {wide_bar} {human_pos:>6} of {human_len:6} events ");
        trace.set_prefix("trace");
        let count = processes + usize::from(links::relay(processes).is_some());
        let template = "{prefix:8} {wide_bar} {human_pos:>6} entries {msg:9}";
        let processes = (0..count).map(|_| add(1, template)).collect();
        Self { all, trace, processes }
    }

    pub(crate) fn show(&self, fleet: &Fleet) {
        if self.trace.is_hidden() {
            return;
        }
        self.trace.set_position(fleet.backlog.done() as u64);
        let most = fleet.members.iter().map(|member| member.status.entries).max().unwrap_or(0);
        for (bar, member) in self.processes.iter().zip(&fleet.members) {
            bar.set_prefix(member.name.clone());
            bar.set_length(most.max(1));
            bar.set_position(member.status.entries);
            bar.set_message(match member.state {
                State::Starting => "starting",
                State::Awake if member.isolated => "alone",
                State::Awake => "awake",
                State::Asleep => "asleep",
                State::Ended => "ended",
            });
        }
    }

    pub(crate) fn clear(&self) {
        // A bar that cannot be cleared stays on the terminal and does no harm.
        let _ = self.all.clear();
    }
}
