//! Histories that broke something once, each by the seed of which it is the least part: nothing is broken any more.

use crate::play::play;
use crate::step::Step;

fn holds(seed: u64, lines: &str) {
    let steps: Vec<Step> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let broken = play(seed, &steps).broken;
    assert!(broken.is_none(), "{broken:?}");
}

macro_rules! found {
    ($($name:ident: $seed:literal,)*) => {$(
        #[test]
        fn $name() {
            holds($seed, include_str!(concat!("../found/", $seed, ".jsonl")));
        }
    )*};
}

found! {
    // A clock that fell had writers say their content anew, in earlier logs: values that had been ended came back.
    seed_15_a_clock_that_fell_brings_back_no_value_of_its_own_log: 15,
    seed_87_nor_when_it_only_meets_somebody: 87,
    seed_97_nor_when_it_meets_a_third: 97,
    seed_11_events_after_a_clock_fell_are_not_those_that_were_given_up: 11,
    // One that had been ahead said anew what others had ended since.
    seed_124_only_entries_with_wrong_stamps_are_written_anew: 124,
    seed_275_nor_those_that_were_delivered_meanwhile: 275,
    seed_22_nor_when_the_clock_fell_afterwards: 22,
    seed_409_events_of_a_log_from_the_future_that_was_pruned_are_kept: 409,
    seed_9496_the_next_log_closes_what_the_one_from_the_future_had_closed: 9496,
    seed_34353_remains_keep_their_place_when_the_clock_fell: 34353,
    seed_3978_an_event_that_goes_to_a_log_from_the_future_is_told: 3978,
    seed_14788_two_restores_with_a_clock_that_fell_go_on_in_two_logs: 14788,
    // Copies of two histories of which both sides knew that they part, and not yet where; or of which the first events were
    // given up.
    seed_8268_two_histories_that_part_lower_than_is_known_are_not_in_sync: 8268,
    seed_23040_nor_are_two_of_which_the_first_events_were_given_up: 23040,
    // Who held an unforked beginning, or nothing, never took what a peer held from above the floor.
    seed_25507_who_holds_nothing_of_a_forked_log_takes_what_counts: 25507,
    seed_39167_who_holds_the_beginning_of_a_forked_log_takes_what_counts: 39167,
    // Entries came of a log that had just been let go, and both said that they were in sync.
    seed_9667_who_let_a_log_go_as_its_entries_came_is_not_in_sync: 9667,
    // The same after a round, until the next heartbeat; and after a purge.
    seed_30_nor_if_they_come_between_two_rounds: 30,
    seed_884_a_purge_is_compared_at_once: 884,
    // A fact about a log came after entries of it that a session had not looked at: it sent the fact alone.
    seed_18674_entries_that_came_before_a_fact_are_sent_with_it: 18674,
    // A torn end had a writer begin a log below the one by which it had given up all earlier events.
    seed_2114_events_go_to_no_log_below_one_that_gave_up_all_earlier: 2114,
    // A scope that was widened to everything while the two shook hands was never said: they compared nothing.
    seed_184_a_scope_that_is_set_during_the_handshake_is_said: 184,
    // Entries of an own log waited, as the clock was behind, and its writer was refused all writes.
    seed_1370_a_writer_whose_log_has_entries_that_wait_goes_on_in_the_next: 1370,
    // Two processes of one agent: a longer history took the place of what one of them had written, of which nothing was left
    // to compare.
    seed_1912_what_a_process_wrote_is_said_again_where_a_longer_history_takes_its_place: 1912,
    // A fork of a log that was not held here hid that a log of its own went with it.
    seed_415_what_goes_with_the_fork_of_a_log_that_is_not_held_is_said_again: 415,
    // The entries of a forked log went after 30 days, and stayed in memory.
    seed_3232_a_forked_log_that_has_expired_leaves_no_entries_in_memory: 3232,
}
