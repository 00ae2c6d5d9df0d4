//! Faults that can be planted in the libraries, to see whether a test or a simulator finds them.
//!
//! Only in a build with `--cfg planted` are they there: then one can be [chosen](choose), or named in the environment as
//! `CONSILIENCE_PLANTED`. In any other build [`planted`] is `false` where it is compiled, and nothing is left of it.
//!
//! Each takes one rule back, in the place where that rule is kept: `if planted(Fault::Name)`. They are for the project's own
//! tests, and no part of what the crates promise.
//!
//! The invariant: at most one is planted, and it stays until another is chosen.

/// Defines [`Fault`]: each with its name, the features of a world that come together where it shows, and why only a test
/// shows it, if no world of the simulator can.
macro_rules! faults {
    (@why) => { None };
    (@why $why:literal) => { Some($why) };
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal [$($need:literal),+] $(tests: $why:literal)?;)+) => {
        /// A fault that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Fault {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name, in lower case.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// The features that come together in a world that shows it.
            #[must_use]
            pub const fn needs(self) -> &'static [&'static str] {
                match self {
                    $(Self::$variant => &[$($need),+],)+
                }
            }

            /// Why no world of the simulator shows it; `None` if worlds do. Then a test does, which `.ci/planted` names.
            #[must_use]
            pub const fn only_in_tests(self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => faults!(@why $($why)?),)+
                }
            }

            /// The one with a name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|fault| fault.name() == name)
            }
        }
    };
}

faults! {
    // Which logs count, and how much of them is held.

    /// What a closure covers need not be held: a copy may begin there, and counts when the statement is taken back.
    ClosureIsFloor = "closure_is_floor" ["succession", "compaction", "partial transfer"];
    /// A closure closes a log however much longer that has become since.
    ClosureIgnoresTail = "closure_ignores_tail" ["succession", "restart", "concurrent writes"];
    /// Logs that do not count close others all the same.
    ClosedLogsClose = "closed_logs_close" ["succession", "restart", "concurrent writes"];
    /// A base that rises above a closure takes it back: it is not repeated.
    ClosuresAreNotRepeated = "closures_are_not_repeated" ["succession", "restart", "compaction"];
    /// A fork of a state log leaves the logs below it alive.
    ForkKeepsEarlier = "fork_keeps_earlier" ["fork", "succession", "restart"];
    /// A final ends no earlier log.
    FinalEndsNothing = "final_ends_nothing" ["succession", "restart", "removal"];
    /// Evidence of a fork is left out of the root and of offers: a forked log has the head that it would have otherwise.
    ForkNotInRoot = "fork_not_in_root" ["fork", "succession"];
    /// Of the evidence of a fork the piece that gives the floor is left out of the root.
    FloorNotInRoot = "floor_not_in_root" ["fork", "events", "event prune"];
    /// The first evidence of a fork stands, whatever comes later.
    FirstEvidenceStands = "first_evidence_stands" ["fork", "events", "concurrent writes"];
    /// Of the evidence of a fork only the least piece is kept, and the greatest base is lost.
    ForkHasNoFloor = "fork_has_no_floor" ["fork", "events", "event prune"];
    /// The entry in which two histories of an event log differ counts as well.
    CutCountsOneMore = "cut_counts_one_more" ["fork", "events"];
    /// A copy of a forked event log counts though it lacks entries that count.
    WindowMayLackEntries = "window_may_lack_entries" ["fork", "event prune", "partial transfer"];
    /// A tail that nobody will sign stays where a fork has others count.
    TailOfForkStays = "tail_of_fork_stays" ["fork", "backup", "events"];
    /// When the entries of a forked log expire, so does the evidence.
    ForkExpires = "fork_expires" ["fork", "succession", "time"];
    /// A base may fall within a log that is held.
    BaseMayFall = "base_may_fall" ["liar", "compaction"];
    /// The word that events are given up does not say where a log begins.
    PrunedIsNoFloor = "pruned_is_no_floor" ["event prune"];
    /// Of a writer's words that events are given up the first stands, whatever comes later.
    FirstWordStands = "first_word_stands" ["event prune", "another peer"];
    /// The word that events are given up leaves those of earlier incarnations.
    PrunedKeepsEarlier = "pruned_keeps_earlier" ["event prune", "restart", "events"];
    /// Whoever holds the end of a log is not compared with one who holds its beginning, by the peaks there.
    PeaksAreNotCompared = "peaks_are_not_compared" ["fork", "compaction", "partial transfer"];
    /// Entries that waited behind a gap are taken in without a look at whether they follow.
    StagedAreNotCompared = "staged_are_not_compared" ["fork", "partial transfer", "restart"];
    /// A later part takes the place of the held one before the base that allows it is there.
    FastForwardBeforeBase = "fast_forward_before_base" ["compaction", "partial transfer", "loss"];

    // Time.

    /// A log that was begun far ahead of the clock is taken in.
    AheadIsAdmitted = "ahead_is_admitted" ["liar", "clock ahead"];
    /// An entry from the future holds back those that have given it up.
    DeferredIsNotGivenUp = "deferred_is_not_given_up" ["clock ahead", "compaction", "partial transfer"];
    /// Entries stay ready though a fork has cut those that had given up what waits before them.
    PassedStaysReady = "passed_stays_ready" ["fork", "clock ahead", "events"];
    /// Entries from the future are not deferred.
    NothingIsDeferred = "nothing_is_deferred" ["clock ahead"];
    /// A writer takes its own clock for right before anybody has said so.
    FallenClockIsTrusted = "fallen_clock_is_trusted" ["clock fallen", "restart", "removal"];
    /// A side says the time in its handshake though it holds later entries than its clock admits.
    DoubtfulClockIsTold = "doubtful_clock_is_told" ["clock fallen", "restart", "removal"];
    /// A writer whose clock was ahead goes on in the log that others do not take.
    AheadIsGoneOnWith = "ahead_is_gone_on_with" ["clock ahead", "restart", "another peer"];
    /// A writer whose clock was ahead leaves its log, and what it said there is not said again.
    AheadIsNotSaidAgain = "ahead_is_not_said_again" ["clock ahead", "restart", "another peer"];

    // What is paid for.

    /// An opening gives its log a place before anything that its agent signed is there.
    OpeningTakesAPlace = "opening_takes_a_place" ["liar", "limits"];
    /// Dots that are looked at again because of closures are not paid for.
    WorkIsNotPaid = "work_is_not_paid" ["liar", "succession"]
        tests: "it takes more dots than a world has";
    /// Answers are not paid for by the bytes of questions.
    AnswersAreNotPaid = "answers_are_not_paid" ["liar", "work"];
    /// The bytes of a frame pay for checks at once, openings cost one, and whoever has used them up is blamed.
    CreditByTheFrame = "credit_by_the_frame" ["many logs", "work"];
    /// Hellos that were recorded are answered with a signature each.
    HellosAreAnswered = "hellos_are_answered" ["liar", "work"];
    /// What a peer has refused for now is sent to it over and over.
    RefusedIsSentAgain = "refused_is_sent_again" ["clock ahead", "work"];
    /// Whatever a message brings is a reason for another round.
    RoundsFollowRounds = "rounds_follow_rounds" ["fork", "events", "work"];
    /// Quotas do not count the logs of an agent.
    QuotaIsNotKept = "quota_is_not_kept" ["liar", "limits"];
    /// Entries from the future and behind gaps wait in any number.
    WaitingHasNoLimit = "waiting_has_no_limit" ["liar", "clock ahead", "memory"]
        tests: "it takes more bytes than a world has";

    // What is left in memory.

    /// Tables keep the room of what is gone.
    TablesDoNotShrink = "tables_do_not_shrink" ["compaction", "memory"];
    /// Collections without anything in them stay.
    EmptyCollectionsStay = "empty_collections_stay" ["removal", "memory"];
    /// Logs of which nothing is needed stay in the table of logs.
    MembersStay = "members_stay" ["succession", "restart", "memory"];
    /// Entries that their writer has given up are not dropped.
    GivenUpIsKept = "given_up_is_kept" ["compaction", "memory"];
    /// A relay acknowledges no changes, and so gives nothing up.
    RelayKeepsAll = "relay_keeps_all" ["relay", "compaction", "memory"];
    /// An agent's logs of earlier starts are not closed.
    EarlierLogsPileUp = "earlier_logs_pile_up" ["restart", "memory"];

    // The fold.

    /// The salts of own entries are known to everybody.
    SaltsAreKnown = "salts_are_known" ["liar", "removal"]
        tests: "a liar would have to know all bytes of a write beforehand";
    /// A removal ends the dot that it names whatever its tag.
    TagsAreNotCompared = "tags_are_not_compared" ["liar", "removal"];
    /// A removal that comes before the write it names has no effect.
    EarlyRemovalIsLost = "early_removal_is_lost" ["removal", "partial transfer"];
    /// Of two removals of one dot, the first that is given up takes both back.
    OneNameGoesForAll = "one_name_goes_for_all" ["removal", "compaction", "concurrent writes"];
    /// Entries that cease to count are not taken back out of the state.
    GivenUpStaysInState = "given_up_stays_in_state" ["fork", "succession"];
    /// What a log took part in answering for is not looked at again when it ceases to count.
    ClearedIsNotLookedAt = "cleared_is_not_looked_at" ["succession", "fork", "restart"];
    /// A log that comes after the one that closed it is not answered for.
    LateLogIsNotAnswered = "late_log_is_not_answered" ["succession", "restart", "partial transfer"];
    /// A dot is live if any log that answers for it lists it.
    OneAnswerSuffices = "one_answer_suffices" ["succession", "restart", "removal"];
    /// Events that a fork has cut off stay in the index.
    CutEventsStay = "cut_events_stay" ["fork", "events"];
    /// Of writes with one stamp the one that came first is read.
    TiesByArrival = "ties_by_arrival" ["concurrent writes", "one stamp"];
    /// Of an agent's logs the last in the table says what it contributes, and not the greatest.
    CouplingsTakeTheLast = "couplings_take_the_last" ["couplings", "succession", "restart"];
    /// An older statement that is given up takes a newer one back.
    OldStatementTakesNew = "old_statement_takes_new" ["couplings", "compaction"];
    /// Instants are believed that nobody could have made.
    InstantsHaveNoBound = "instants_have_no_bound" ["couplings", "liar"];

    // Collections by themselves.

    /// A join of contexts takes gaps for seen.
    ContextHasNoGaps = "context_has_no_gaps" ["collections", "partial transfer"]
        tests: "replicas do not join collections";
    /// A dot that is seen and dead comes alive again with a form that lists it.
    DeadDotsJoinAgain = "dead_dots_join_again" ["collections", "removal"]
        tests: "replicas do not join collections";
    /// A form ends no dots but those of keys that it lists.
    RemovalsAreNotJoined = "removals_are_not_joined" ["collections", "removal"]
        tests: "replicas do not join collections";
    /// A join of couplings takes the instant that came last.
    CouplingJoinTakesTheLast = "coupling_join_takes_the_last" ["collections", "couplings"]
        tests: "replicas do not join collections";
    /// No time passes for contributions: none decays.
    NothingDecays = "nothing_decays" ["couplings", "time"];
    /// A weakening takes more than there is.
    WeakeningHasNoBound = "weakening_has_no_bound" ["couplings"];

    // Writers.

    /// A new incarnation has no randomness in it.
    IncarnationsAreNotRandom = "incarnations_are_not_random" ["backup", "restart", "one clock"];
    /// A store that was put back from a backup is gone on with.
    BackupIsGoneOnWith = "backup_is_gone_on_with" ["backup", "restart"];
    /// Records that were cut off leave their writers in their logs.
    CutIsNoLoss = "cut_is_no_loss" ["damage", "restart"];
    /// Which logs writers have left is not stored.
    LeftIsNotStored = "left_is_not_stored" ["backup", "restart", "another peer"];
    /// Content that a fork took out is not written again.
    ForkedIsNotSaidAgain = "forked_is_not_said_again" ["fork", "backup"];
    /// Content that a fork took out is written again with stamps of now.
    SaidAgainAsNew = "said_again_as_new" ["fork", "backup", "concurrent writes"];
    /// Content that is written again ends what its agent has written later elsewhere.
    SaidAgainEndsLater = "said_again_ends_later" ["fork", "two processes", "concurrent writes"];
    /// A value that a fork took out is written again though its agent has ended it since.
    SaidAgainThoughEnded = "said_again_though_ended" ["fork", "succession", "removal"];
    /// If the process ends before content that a fork took out is written again, it never is.
    RecallIsLeftOut = "recall_is_left_out" ["fork", "crash", "restart"];
    /// Unsigned entries that give way to others are not written again.
    UnsignedTailIsLost = "unsigned_tail_is_lost" ["backup", "two processes", "restart"];
    /// Events that a fork took out are not written again.
    CutEventsAreLost = "cut_events_are_lost" ["fork", "events", "backup"];
    /// Events that were written again are written once more after a restart.
    EventsAreSaidTwice = "events_are_said_twice" ["fork", "events", "restart"];
    /// A log that another process has continued in a copy of the storage is gone on with.
    OutgrownIsGoneOnWith = "outgrown_is_gone_on_with" ["two processes", "backup", "succession"];
    /// Another process is not noticed by the writes of an own log that a later one lists otherwise.
    OtherWritesAreNotSeen = "other_writes_are_not_seen" ["two processes", "backup", "succession"];
    /// Removals of a log that is taken over are not repeated.
    TakenOverWithoutNames = "taken_over_without_names" ["restart", "removal", "partial transfer"];
    /// Contributions of a log that is taken over are not repeated.
    TakenOverWithoutCouplings = "taken_over_without_couplings" ["restart", "couplings", "succession"];
    /// A closure stands in the first entry of a takeover, before the content that it speaks of.
    ClosureComesFirst = "closure_comes_first" ["restart", "succession", "crash", "large values"];
    /// A write or a removal ends nothing that others have written.
    OthersAreNotEnded = "others_are_not_ended" ["removal", "another peer"];
    /// Removals in entries that are given up are not repeated, though somebody needs them.
    NamesAreNotRepeated = "names_are_not_repeated" ["removal", "compaction", "partial transfer"];
    /// Removals of what may lie in a part that is on its way are not repeated.
    PartsNeedNoNames = "parts_need_no_names" ["removal", "compaction", "partial transfer"];
    /// Contributions in entries that are given up are not repeated.
    CouplingsAreNotRepeated = "couplings_are_not_repeated" ["couplings", "compaction"];
    /// Live dots in entries that are given up are not listed again.
    DotsAreNotRelisted = "dots_are_not_relisted" ["compaction"];

    // Storage.

    /// Own entries are signed and sent before their records are confirmed.
    SentBeforeStored = "sent_before_stored" ["crash", "restart"];
    /// Own entries that only an unsigned one has given up are dropped.
    UnsignedBaseDrops = "unsigned_base_drops" ["compaction", "crash", "another peer"];
    /// The file store says that bytes are durable which are not.
    SyncIsLeftOut = "sync_is_left_out" ["crash", "restart"]
        tests: "worlds have disks of their own, and not the file store";
    /// Damage to records that the watermark knows of is taken for a torn end.
    WatermarkIsNotRead = "watermark_is_not_read" ["damage", "restart"]
        tests: "worlds have disks of their own, and not the file store";
    /// The check of a stored record is not looked at.
    RecordsAreNotChecked = "records_are_not_checked" ["damage", "restart"];
    /// The check of a snapshot is not looked at.
    SnapshotsAreNotChecked = "snapshots_are_not_checked" ["damage", "snapshot", "restart"];
    /// Records are taken though one before them is missing.
    GapsInRecordsAreTaken = "gaps_in_records_are_taken" ["damage", "restart"];
    /// Facts are left out of snapshots.
    FactsNotInSnapshots = "facts_not_in_snapshots" ["fork", "snapshot", "restart"];
    /// Unsigned entries are left out of snapshots.
    UnsignedNotInSnapshots = "unsigned_not_in_snapshots" ["snapshot", "crash", "restart"];
    /// How far entries were ready is left out of snapshots.
    ReadyNotInSnapshots = "ready_not_in_snapshots" ["snapshot", "clock fallen", "restart"];
    /// Entries that wait behind a gap are left out of snapshots.
    StagedNotInSnapshots = "staged_not_in_snapshots" ["partial transfer", "snapshot", "restart"];
    /// Stored entries are not taken back in whose way own ones stood that were given up since.
    ContestedIsLost = "contested_is_lost" ["backup", "two processes", "restart"];
    /// A fork that a range has shown is not stored.
    FoundForkIsNotStored = "found_fork_is_not_stored" ["fork", "restart"];
    /// What is purged comes back after a restart.
    PurgeIsNotStored = "purge_is_not_stored" ["purge", "restart"];

    // Sessions.

    /// The host is not told of a log for which the peer has no room.
    NoRoomIsNotTold = "no_room_is_not_told" ["limits"];
    /// Two histories of one length are not compared by a proof.
    NoProofOfTwoHistories = "no_proof_of_two_histories" ["fork", "concurrent writes"];
    /// A range that does not follow is not asked for with its peaks.
    UnprovenIsNotAskedFor = "unproven_is_not_asked_for" ["fork", "concurrent writes"];
    /// A peer that sends more of a forked log is not told of the fork.
    ForkIsNotToldBack = "fork_is_not_told_back" ["fork", "relay"];
    /// Facts of a log that differ are not sent after a comparison.
    FactsAreNotSent = "facts_are_not_sent" ["fork", "another peer"];
    /// Filters beyond the most that a scope may have are left out without a word.
    FiltersAreLeftOut = "filters_are_left_out" ["scope"];
    /// A scope has no order.
    ScopeHasNoOrder = "scope_has_no_order" ["scope"];
    /// Entries are sent of topics that a scope has left out since they were queued.
    NarrowedIsSent = "narrowed_is_sent" ["scope", "scope change"];
    /// A scope that is set later is not held within what the gate allows.
    GateIsForgotten = "gate_is_forgotten" ["gate", "scope change"];
    /// Two sides stay in sync when their scope changes.
    ScopeChangeStaysInSync = "scope_change_stays_in_sync" ["scope change", "in sync"];
    /// Refusals do not keep two sides from being in sync.
    RefusalsAreForgotten = "refusals_are_forgotten" ["limits", "in sync", "concurrent writes"];
    /// Entries that came of a log that is not held any more do not keep two sides from being in sync.
    MissesAreForgotten = "misses_are_forgotten" ["succession", "in sync", "concurrent writes"];
    /// Logs that the peer does not want do not keep two sides from being in sync.
    LacksAreForgotten = "lacks_are_forgotten" ["limits", "in sync", "concurrent writes"];
    /// A round that had no room for all that differs puts two sides in sync.
    MoreIsForgotten = "more_is_forgotten" ["many logs", "in sync"];
    /// Questions that are open do not keep two sides from being in sync.
    OpenQuestionsAreForgotten = "open_questions_are_forgotten" ["fork", "in sync", "concurrent writes"];
    /// Offers that are not met do not keep two sides from being in sync.
    OffersAreNotChecked = "offers_are_not_checked" ["in sync", "partial transfer"];
    /// An offer is met by as many entries, whatever its root.
    OffersAreMetBySize = "offers_are_met_by_size" ["fork", "events", "in sync"];
    /// Histories that part lower than is known do not keep two sides from being in sync.
    PartsLowerIsForgotten = "parts_lower_is_forgotten" ["fork", "events", "in sync"];
    /// A round about changes alone is believed: two sides are in sync though one has lost what it had.
    ChangesAreBelieved = "changes_are_believed" ["purge", "resubscribe", "concurrent writes"];
    /// One side's word puts both in sync.
    OneWordSuffices = "one_word_suffices" ["in sync", "limits"];
    /// A round that brought nothing though the roots differ puts two sides in sync.
    UselessIsInSync = "useless_is_in_sync" ["limits", "in sync"];
    /// A peer is said to have all while own entries are neither stored nor signed.
    UnsignedIsSpent = "unsigned_is_spent" ["in sync", "crash"];

    // Purges, bundles, notices.

    /// The events of a purged topic are still read.
    PurgeLeavesEvents = "purge_leaves_events" ["purge", "events"];
    /// What was to be written again of a purged topic is written all the same.
    PurgeLeavesRepair = "purge_leaves_repair" ["purge", "resubscribe", "fork", "events"];
    /// Evidence is left out of bundles.
    BundleWithoutEvidence = "bundle_without_evidence" ["bundle", "fork"];
    /// Words on events that are given up are left out of bundles.
    BundleWithoutPruned = "bundle_without_pruned" ["bundle", "event prune", "restart"];
    /// A bundle has all topics, whichever are wanted.
    BundleOfAllTopics = "bundle_of_all_topics" ["bundle", "scope"];
    /// A bundle believes that a copy of another history is its own.
    BundleBelievesSizes = "bundle_believes_sizes" ["bundle", "fork", "scope"];
    /// The keys of a purged topic are not told.
    PurgedKeysAreNotTold = "purged_keys_are_not_told" ["notices", "purge"];
    /// A writer's host is not told that there is another history of its log.
    SelfForkIsNotTold = "self_fork_is_not_told" ["notices", "fork", "backup"];
    /// The host is not told that the end of its records was cut off.
    CutIsNotTold = "cut_is_not_told" ["notices", "damage", "restart"];
    /// Events are told as one run though others lie between.
    EventNoticesRunTogether = "event_notices_run_together" ["notices", "events"]
        tests: "a world cannot tell an event that was given up from one that was never there";
    /// The value before a change is the one before the last of several.
    NoticesForgetTheFirst = "notices_forget_the_first" ["notices"];
}

#[cfg(planted)]
mod chosen {
    extern crate std;

    use core::sync::atomic::{AtomicU8, Ordering};

    use super::Fault;

    /// Nobody has chosen, and the environment was not looked at.
    const UNREAD: u8 = u8::MAX;
    /// None is planted. Others are numbered from one.
    const NONE: u8 = 0;

    static CHOSEN: AtomicU8 = AtomicU8::new(UNREAD);

    pub(super) fn set(fault: Option<Fault>) {
        CHOSEN.store(fault.map_or(NONE, number), Ordering::Relaxed);
    }

    pub(super) fn is(fault: Fault) -> bool {
        let mut chosen = CHOSEN.load(Ordering::Relaxed);
        if chosen == UNREAD {
            set(named());
            chosen = CHOSEN.load(Ordering::Relaxed);
        }
        chosen == number(fault)
    }

    /// Fewer than 255 are there.
    const fn number(fault: Fault) -> u8 {
        fault as u8 + 1
    }

    const _: () = assert!(Fault::ALL.len() < UNREAD as usize, "each has a number");

    /// The one that the environment names.
    fn named() -> Option<Fault> {
        let name = std::env::var("CONSILIENCE_PLANTED").ok().filter(|name| !name.is_empty())?;
        match Fault::from_name(&name) {
            Some(fault) => Some(fault),
            None => panic!("CONSILIENCE_PLANTED: there is no fault {name:?}"),
        }
    }
}

/// Whether faults can be planted in this build.
pub const CAN_PLANT: bool = cfg!(planted);

/// Plants a fault, or none, in the place of the one before: for all threads of the process. Without effect in a build in which
/// none [can be](CAN_PLANT).
pub fn choose(fault: Option<Fault>) {
    #[cfg(planted)]
    chosen::set(fault);
    #[cfg(not(planted))]
    let _ = fault;
}

/// Whether this fault is planted.
#[cfg(planted)]
#[must_use]
pub fn planted(fault: Fault) -> bool {
    chosen::is(fault)
}

/// Whether this fault is planted: none is.
#[cfg(not(planted))]
#[must_use]
#[inline(always)]
pub const fn planted(_: Fault) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_of_its_own() {
        for (at, fault) in Fault::ALL.iter().enumerate() {
            assert_eq!(Fault::from_name(fault.name()), Some(*fault));
            assert_eq!(*fault as usize, at);
            assert!(!fault.needs().is_empty());
            assert!(fault.only_in_tests().is_none_or(|why| !why.is_empty()));
        }
    }
}
