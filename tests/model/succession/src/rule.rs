//! The rule and its clauses, each of which can be switched off; and the modes, which say what befalls a history.
//!
//! `docs/decisions/succession.md` is the rule in words; numbers of clauses in comments are those of its list.

use crate::log::Sight;

/// A clause that an ablation leaves out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clause {
    /// 11: the root covers the heads that count. Off: the heads of all logs that are held.
    Root,
    /// 11: the root covers forks of state logs.
    Evidence,
    /// 3: a copy begins at its base. Off: also at the number that a closure says.
    Base,
    /// 4: copies that do not overlap are compared by the peaks at their starts.
    Peaks,
    /// 6: a fork kills the logs below it. Off: only itself.
    Kill,
    /// 7: only logs that count close others. Off: every log that is held.
    Counting,
    /// 8: who says F answers for all dots below it. Off: everybody answers for all dots of dead logs.
    OwnFinal,
    /// 9: all who answer list a live dot. Off: one is enough.
    Deny,
    /// 10: an agent's contribution is the greatest of its logs'. Off: the sum.
    Greatest,
    /// 12: the root covers own entries that are not signed.
    Tail,
    /// 16: the closures that a rising base passes are repeated.
    RepeatClosures,
    /// 16, 19: names that are needed are repeated.
    RepeatNames,
    /// 16, 19: contributions are repeated.
    RepeatCouplings,
    /// 17: a name is needed while nobody answers for its dot, be the log dead or not. Off: not if it is dead.
    Names,
    /// 19: a restarted agent relists the live dots of the logs that it closes.
    Relist,
    /// 21: after a fork its writer repeats the names of both branches.
    ForkNames,
    /// 24: closures and finals leave event logs alone.
    EventsApart,
    /// 11, 24: the root covers cut, floor and `Pruned` of event logs.
    EventRoot,
    /// Facts of event forks: the greatest floor is kept. Off: that of the evidence with the least cut.
    Floor,
    /// 25: who lacks a part of the window does not hold the log. Off: it counts as held.
    Window,
    /// 28: a pinned log is held at its pin or not at all. Off: shorter copies count as well.
    Exact,
    /// 28: what a closing does not name does not count.
    Unpinned,
    /// 29: evidence voids nothing of a departed agent.
    PinFork,
}

pub const CLAUSES: [(Clause, &str); 23] = [
    (Clause::Root, "root"),
    (Clause::Evidence, "evidence"),
    (Clause::Base, "base"),
    (Clause::Peaks, "peaks"),
    (Clause::Kill, "kill"),
    (Clause::Counting, "counting"),
    (Clause::OwnFinal, "ownfinal"),
    (Clause::Deny, "deny"),
    (Clause::Greatest, "greatest"),
    (Clause::Tail, "tail"),
    (Clause::RepeatClosures, "repeatclosures"),
    (Clause::RepeatNames, "repeatnames"),
    (Clause::RepeatCouplings, "repeatcouplings"),
    (Clause::Names, "names"),
    (Clause::Relist, "relist"),
    (Clause::ForkNames, "forknames"),
    (Clause::EventsApart, "eventsapart"),
    (Clause::EventRoot, "eventroot"),
    (Clause::Floor, "floor"),
    (Clause::Window, "window"),
    (Clause::Exact, "exact"),
    (Clause::Unpinned, "unpinned"),
    (Clause::PinFork, "pinfork"),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rule {
    /// The rule before this one: retirements with floors, positions and timers, and all heads in the root.
    pub today: bool,
    /// Beyond the rule: see [`Sight::Passed`].
    passed: bool,
    off: u32,
}

impl Rule {
    /// `rd`, `today`, `rd` and clauses to leave out (`rd-kill-names`), or `rdp`: see [`Sight::Passed`].
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split('-');
        let mut rule = match parts.next() {
            Some("rd") => Self::default(),
            Some("rdp") => Self { passed: true, ..Self::default() },
            Some("today") => Self::today(),
            _ => return Err(format!("no such rule: {text}")),
        };
        for part in parts {
            let clause = CLAUSES.iter().find(|(_, name)| *name == part);
            let (clause, _) = clause.ok_or_else(|| format!("no such clause: {part}"))?;
            rule.off |= 1 << *clause as u32;
        }
        Ok(rule)
    }

    pub const fn today() -> Self {
        Self { today: true, passed: false, off: 0 }
    }

    pub const fn sight(self) -> Sight {
        match (self.passed, self.has(Clause::Peaks)) {
            (true, _) => Sight::Passed,
            (false, true) => Sight::Peaks,
            (false, false) => Sight::Overlap,
        }
    }

    pub const fn has(self, clause: Clause) -> bool {
        self.off & (1 << clause as u32) == 0
    }
}

/// What befalls a history, beside writing, meeting, partial transfers, unsigned tails, couplings and events, which are in
/// every one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mode {
    /// One liar.
    pub liar: bool,
    /// Up to three liars, who relay one another's entries and those of others.
    pub liars: bool,
    /// Writers that run twice, and liars that fork.
    pub fork: bool,
    /// Storage that is lost.
    pub loss: bool,
    /// Backups that are put back, and said to be.
    pub backup: bool,
    /// Backups that are put back, and not said to be.
    pub unsaid: bool,
    /// Months that pass.
    pub days: bool,
    /// One replica that refuses logs and drops them by limits.
    pub quota: bool,
    /// Topics that are purged and subscribed to again.
    pub purge: bool,
    /// Closings of agents, and pruned events of earlier incarnations.
    pub facts: bool,
    /// Owners that say Final at once in three of ten takings-over.
    pub finals: bool,
}

impl Mode {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut mode = Self::default();
        for part in text.split('+') {
            match part {
                "none" => {}
                "liar" => mode.liar = true,
                "liars" => (mode.liar, mode.liars) = (true, true),
                "fork" => mode.fork = true,
                "loss" => mode.loss = true,
                "backup" => mode.backup = true,
                "unsaid" => mode.unsaid = true,
                "days" => mode.days = true,
                "quota" => mode.quota = true,
                "purge" => mode.purge = true,
                "facts" => mode.facts = true,
                "final" => mode.finals = true,
                "all" => {
                    mode = Self {
                        liar: true,
                        liars: true,
                        fork: true,
                        loss: true,
                        backup: true,
                        unsaid: true,
                        days: true,
                        quota: true,
                        purge: true,
                        facts: true,
                        finals: mode.finals,
                    };
                }
                _ => return Err(format!("no such mode: {part}")),
            }
        }
        Ok(mode)
    }
}
