//! Reconciliation against plain set difference: every mode, every message limit, both orders of initiation, interrupted
//! and restarted, while the sets change, and against peers that lie.
//!
//! `CONSILIENCE_CASES` sets the number of random cases of each property.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a panic is how a test fails")]
#![expect(clippy::std_instead_of_alloc, reason = "tests have a standard library")]

#[path = "reconcile/hostile.rs"]
mod hostile;
#[path = "reconcile/support.rs"]
mod support;
#[path = "reconcile/vectors.rs"]
mod vectors;

use consilience_sync::reconcile::{KeyRange, Limits, Mode, Options, Outcome, Reconciliation, StopReason};
use proptest::prelude::*;
use support::{Dice, Item, Side, assert_exact, cases, config, exchange, id, ids, lacks, pass, plain, set_of};

const MODES: [Mode; 2] = [Mode::Auto, Mode::Ranges];
const FRAMES: [usize; 6] = [512, 777, 1_200, 4_096, 65_536, 1 << 20];

fn proptest_config(default: u32) -> ProptestConfig {
    ProptestConfig { cases: cases(default), failure_persistence: None, ..ProptestConfig::default() }
}

/// How the items of a case are spread.
#[derive(Clone, Copy, Debug)]
enum Spread {
    /// Plain ids.
    Plain,
    /// Keys of topics, with the differences anywhere.
    Topics,
    /// Keys of topics, with the differences in one of them.
    Clustered,
    /// Keys as long as they may be that differ in their last bytes.
    LongKeys,
}

fn item(spread: Spread, n: u64, differs: bool) -> Item {
    let topic = |topic: u64| format!("team\0{topic}\0").into_bytes();
    let key = match spread {
        Spread::Plain => Vec::new(),
        Spread::Topics => topic(n % 7),
        Spread::Clustered => topic(if differs { 3 } else { n % 7 }),
        Spread::LongKeys => [&[0xaa; 174][..], &(n as u16).to_be_bytes()].concat(),
    };
    (key, id(n))
}

fn spread() -> impl Strategy<Value = Spread> {
    prop_oneof![Just(Spread::Plain), Just(Spread::Topics), Just(Spread::Clustered), Just(Spread::LongKeys)]
}

/// Both sides' items: so many shared, so many of each alone.
fn sides(spread: Spread, shared: u64, left: u64, right: u64, seed: u64) -> (Vec<Item>, Vec<Item>) {
    let base = seed << 32;
    let shared: Vec<Item> = (base..base + shared).map(|n| item(spread, n, false)).collect();
    let alone = |from: u64, count: u64| {
        (base + from..base + from + count).map(move |n| item(spread, n, true)).collect::<Vec<Item>>()
    };
    let (left, right) = (alone(1 << 24, left), alone(1 << 25, right));
    ([shared.clone(), left].concat(), [shared, right].concat())
}

proptest! {
    #![proptest_config(proptest_config(256))]

    #[test]
    fn every_mode_and_message_limit_finds_exactly_the_difference(
        spread in spread(),
        shared in prop_oneof![0_u64..40, 0_u64..3_000],
        left in prop_oneof![0_u64..4, 0_u64..60, 0_u64..1_500],
        right in prop_oneof![0_u64..4, 0_u64..60, 0_u64..1_500],
        modes in (0_usize..2, 0_usize..2),
        message in 0_usize..FRAMES.len(),
        seed in 0_u64..1_000,
    ) {
        let (left_items, right_items) = sides(spread, shared, left, right, seed);
        let (mut a, mut b) = (set_of(&left_items), set_of(&right_items));
        let message = FRAMES[message];
        let salt = seed as u8;
        let once = pass(&mut a, &mut b, config(MODES[modes.0], message, salt), config(MODES[modes.1], message, salt));
        assert_exact(&a, &b, &once);
        // Turns in proportion to the bytes: each is nearly full, or one of the few that lead down the tree.
        prop_assert!(once.messages.len() <= 30 + 5 * once.bytes() / message, "{} messages", once.messages.len());
        let other_way =
            pass(&mut b, &mut a, config(MODES[modes.0], message, salt), config(MODES[modes.1], message, salt));
        assert_exact(&b, &a, &other_way);
        exchange(&mut a, &mut b, &once);
        prop_assert_eq!(a.root(), b.root());
        let again = pass(&mut a, &mut b, Options { equal_last_time: true, ..config(Mode::Auto, message, 1) }, config(Mode::Auto, message, 1));
        prop_assert_eq!(again.messages.len(), 2);
        prop_assert!(again.messages.iter().all(|&len| len <= 48));
    }

    #[test]
    fn a_part_of_the_order_is_reconciled_alone(
        shared in 0_u64..2_000, left in 0_u64..200, right in 0_u64..200, seed in 0_u64..1_000,
        message in 0_usize..FRAMES.len(), topic in 0_u64..7,
    ) {
        let (left_items, right_items) = sides(Spread::Topics, shared, left, right, seed);
        let (mut a, mut b) = (set_of(&left_items), set_of(&right_items));
        let scope = KeyRange::prefix(format!("team\0{topic}\0").as_bytes()).unwrap();
        let within = |items: &[Item]| {
            let inside = items.iter().filter(|(key, _)| key.starts_with(scope.lower()));
            set_of(inside)
        };
        let opens = Options { scope: scope.clone(), ..config(Mode::Auto, FRAMES[message], 3) };
        let result = pass(&mut a, &mut b, opens, config(Mode::Auto, FRAMES[message], 3));
        assert_exact(&within(&left_items), &within(&right_items), &result);
    }

    #[test]
    fn sets_that_change_meanwhile_are_equal_after_further_passes(
        shared in 0_u64..1_500, left in 0_u64..300, right in 0_u64..300, seed in 0_u64..1_000,
        message in 0_usize..FRAMES.len(), mode in 0_usize..2, often in 1_u64..6,
    ) {
        let (left_items, right_items) = sides(Spread::Plain, shared, left, right, seed);
        let (mut a, mut b) = (set_of(&left_items), set_of(&right_items));
        let mut dice = Dice(seed);
        let mut fresh = (seed << 32) + (1 << 30);
        let message = FRAMES[message];
        let mut passes = 0;
        while a.root() != b.root() {
            let quiet = passes >= 3;
            let mode = MODES[mode];
            let (machine, first) = Reconciliation::start(&mut a, config(mode, message, passes));
            let (mut left, mut right) = (Side::new(machine), Side::new(Reconciliation::accept(config(mode, message, passes))));
            let mut next = Some(first);
            let mut turn = 0_u64;
            while let Some(message) = next {
                if !quiet && dice.roll(often) == 0 {
                    // Something comes and something goes, on either side.
                    for set in [&mut a, &mut b] {
                        fresh += 1;
                        set.insert(&[], &id(fresh)).unwrap();
                        if let Some(gone) = set.select(dice.roll(set.len() as u64) as usize).map(|item| *item.1) {
                            set.remove(&gone);
                        }
                    }
                }
                next = if turn.is_multiple_of(2) { right.handle(&mut b, &message) } else { left.handle(&mut a, &message) };
                turn += 1;
            }
            // One that changed in the middle may end without the other side noticing.
            let result = support::Pass { opener: left, other: right, messages: vec![] };
            exchange(&mut a, &mut b, &result);
            passes += 1;
            prop_assert!(passes < 8, "{} and {} are left", lacks(&a, &b).len(), lacks(&b, &a).len());
        }
    }

    #[test]
    fn one_cut_off_anywhere_and_restarted_ends_right(
        shared in 0_u64..2_000, left in 0_u64..400, right in 0_u64..400, seed in 0_u64..1_000,
        message in 0_usize..FRAMES.len(), mode in 0_usize..2, cut in 0_usize..12,
    ) {
        let (left_items, right_items) = sides(Spread::Plain, shared, left, right, seed);
        let (mut a, mut b) = (set_of(&left_items), set_of(&right_items));
        let message_bytes = FRAMES[message];
        let config = |salt| config(MODES[mode], message_bytes, salt);
        let (machine, first) = Reconciliation::start(&mut a, config(1));
        let (mut left, mut right) = (Side::new(machine), Side::new(Reconciliation::accept(config(1))));
        let mut next = Some(first);
        for turn in 0..cut {
            let Some(message) = next.take() else { break };
            next = if turn % 2 == 0 { right.handle(&mut b, &message) } else { left.handle(&mut a, &message) };
        }
        // What was learnt until then is true, if not all.
        prop_assert!(left.push.iter().all(|id| !b.contains(id)));
        prop_assert!(right.push.iter().all(|id| !a.contains(id)));
        let cut = support::Pass { opener: left, other: right, messages: vec![] };
        exchange(&mut a, &mut b, &cut);
        let again = pass(&mut b, &mut a, config(2), config(2));
        assert_exact(&b, &a, &again);
    }

    #[test]
    fn a_state_put_aside_as_bytes_goes_on_where_it_was(
        shared in 0_u64..2_000, left in 0_u64..700, right in 0_u64..700, seed in 0_u64..1_000,
        message in 0_usize..FRAMES.len(), mode in 0_usize..2,
    ) {
        let (left_items, right_items) = sides(Spread::Topics, shared, left, right, seed);
        let (mut a, mut b) = (set_of(&left_items), set_of(&right_items));
        let config = config(MODES[mode], FRAMES[message], 9);
        let whole = pass(&mut a, &mut b, config.clone(), config.clone());
        let (machine, first) = Reconciliation::start(&mut a, config.clone());
        let (mut left, mut right) = (Side::new(machine), Side::new(Reconciliation::accept(config.clone())));
        let mut next = Some(first);
        let mut messages = vec![];
        while let Some(message) = next {
            messages.push(message.len());
            for side in [&mut left, &mut right] {
                let bytes = side.machine.to_bytes();
                side.machine = Reconciliation::from_bytes(config.clone(), &bytes).unwrap();
                prop_assert_eq!(side.machine.to_bytes(), bytes);
            }
            next = if messages.len() % 2 == 1 { right.handle(&mut b, &message) } else { left.handle(&mut a, &message) };
        }
        prop_assert_eq!(messages, whole.messages);
        prop_assert_eq!((left.push, right.push), (whole.opener.push, whole.other.push));
    }

    #[test]
    fn a_small_budget_delays_and_changes_nothing_else(
        shared in 0_u64..2_000, left in 0_u64..300, right in 0_u64..300, seed in 0_u64..1_000, mode in 0_usize..2,
    ) {
        let (left_items, right_items) = sides(Spread::Plain, shared, left, right, seed);
        let (mut a, mut b) = (set_of(&left_items), set_of(&right_items));
        let poor = |mode| {
            let config = config(mode, 4_096, 4);
            Options { limits: Limits { work: 50, ..config.limits.clone() }, ..config }
        };
        let result = pass(&mut a, &mut b, poor(MODES[mode]), poor(MODES[mode]));
        assert_exact(&a, &b, &result);
    }

    #[test]
    fn a_side_that_is_told_nothing_is_still_sent_everything(
        shared in 0_u64..2_000, left in 0_u64..300, right in 0_u64..300, seed in 0_u64..1_000, mode in 0_usize..2,
    ) {
        let (left_items, right_items) = sides(Spread::Plain, shared, left, right, seed);
        let (mut a, mut b) = (set_of(&left_items), set_of(&right_items));
        let quiet = Options { announce: false, ..config(MODES[mode], 4_096, 4) };
        let result = pass(&mut a, &mut b, quiet.clone(), quiet);
        exchange(&mut a, &mut b, &result);
        prop_assert_eq!(ids(&a), ids(&b));
    }
}

#[test]
fn one_side_empty_and_disjoint_sets_cost_lists_and_not_fingerprints() {
    for message in [512, 65_536, 1 << 20] {
        for (left, right) in [(0, 5_000), (5_000, 0), (5_000, 5_000), (1, 5_000), (20_000, 3)] {
            for mode in MODES {
                let (mut a, mut b) = (plain(0..left), plain(1 << 20..(1 << 20) + right));
                let result = pass(&mut a, &mut b, config(mode, message, 5), config(mode, message, 5));
                assert_exact(&a, &b, &result);
                let differences = (left + right) as usize;
                // 8 bytes to list, 8 to ask and 8 to tell, and little besides, where nothing had to be guessed.
                if mode == Mode::Auto {
                    assert!(result.bytes() <= 1_500 + 20 * differences, "{} bytes", result.bytes());
                }
                assert!(
                    result.messages.len() <= 12 + 3 * result.bytes() / message,
                    "{}",
                    result.messages.len()
                );
            }
        }
    }
}

#[test]
fn message_limits_from_512_bytes_to_a_mebibyte_find_the_difference_whoever_begins() {
    let powers = (9..=20).flat_map(|bits| [(1_usize << bits) - 1, 1 << bits, (1 << bits) + 1]);
    // What is beyond the least and the greatest counts as these.
    for message in (512..560).chain(powers).chain([0, usize::MAX]) {
        for spread in [Spread::Plain, Spread::LongKeys] {
            let (left, right) = sides(spread, 300, 40, 70, 1);
            let (mut a, mut b) = (set_of(&left), set_of(&right));
            for (opens, accepts) in MODES.iter().flat_map(|opens| MODES.map(|accepts| (*opens, accepts))) {
                let within = message.clamp(Limits::FRAME_BYTES_MIN, Limits::FRAME_BYTES_MAX);
                let one = pass(&mut a, &mut b, config(opens, within, 1), config(accepts, message, 1));
                assert_exact(&a, &b, &one);
                let other = pass(&mut b, &mut a, config(opens, within, 2), config(accepts, message, 2));
                assert_exact(&b, &a, &other);
            }
        }
    }
}

#[test]
fn one_cut_off_at_each_of_its_messages_and_restarted_ends_right() {
    for mode in MODES {
        let config = |salt| config(mode, 512, salt);
        let (left, right) = sides(Spread::Topics, 500, 100, 140, 2);
        let (a, b) = (set_of(&left), set_of(&right));
        let messages = pass(&mut a.clone(), &mut b.clone(), config(1), config(1)).messages.len();
        assert!(messages >= 8, "{messages} messages are too few to cut");
        for cut in 0..=messages {
            let (mut a, mut b) = (a.clone(), b.clone());
            let (machine, first) = Reconciliation::start(&mut a, config(1));
            let (mut opener, mut other) = (Side::new(machine), Side::new(Reconciliation::accept(config(1))));
            let mut next = Some(first);
            for turn in 0..cut {
                let Some(message) = next.take() else { break };
                next = if turn % 2 == 0 {
                    other.handle(&mut b, &message)
                } else {
                    opener.handle(&mut a, &message)
                };
            }
            exchange(&mut a, &mut b, &support::Pass { opener, other, messages: vec![] });
            let again = pass(&mut a, &mut b, config(2), config(2));
            assert_exact(&a, &b, &again);
            exchange(&mut a, &mut b, &again);
            assert_eq!(a.root(), b.root(), "cut after {cut} of {messages} messages");
        }
    }
}

#[test]
fn a_scope_that_is_not_allowed_is_refused() {
    let mut a = plain(0..100);
    let mut b = plain(0..50);
    let secret = KeyRange::prefix(b"secret").unwrap();
    let public = KeyRange::prefix(b"public").unwrap();
    for asked in [secret, KeyRange::all()] {
        let opens = Options { scope: asked, ..config(Mode::Auto, 4_096, 1) };
        let accepts = Options { scope: public.clone(), ..config(Mode::Auto, 4_096, 1) };
        let result = pass(&mut a, &mut b, opens, accepts);
        let outcome = |side: &Side| side.done.as_ref().unwrap().outcome;
        assert_eq!(outcome(&result.other), Outcome::Stopped(StopReason::Scope));
        assert_eq!(outcome(&result.opener), Outcome::PeerStopped(StopReason::Scope));
        assert!(result.opener.push.is_empty() && result.other.push.is_empty());
    }
}

#[test]
fn ten_thousand_differences_take_tens_of_sixty_kilobyte_messages() {
    // A published implementation takes 275 messages for this many at a million items.
    let (mut a, mut b) = (plain(0..205_000), plain((0..200_000).chain(1 << 20..(1 << 20) + 5_000)));
    for (mode, most) in [(Mode::Auto, 9), (Mode::Ranges, 45)] {
        let result = pass(&mut a, &mut b, config(mode, 60_000, 5), config(mode, 60_000, 5));
        assert_exact(&a, &b, &result);
        assert!(result.messages.len() <= most, "{} messages", result.messages.len());
    }
}

#[test]
fn bytes_and_messages_are_within_what_was_promised() {
    // Bytes do not depend on the size of the sets, but for the count of the items: these are the figures for a million.
    let (mut a, mut b) = (plain(0..70_000), plain(0..70_000));
    let equal = pass(&mut a, &mut b, config(Mode::Auto, 65_536, 1), config(Mode::Auto, 65_536, 1));
    assert!(equal.bytes() <= 470 && equal.messages.len() == 2);
    let mut fresh = 1 << 40;
    for (d, draws, mean_bytes, worst_bytes, messages) in
        [(10, 100, 700, 2_000, 3), (100, 100, 4_000, 5_000, 3), (1_000, 30, 30_000, 38_000, 5)]
    {
        let (mut bytes, mut turns) = (vec![], vec![]);
        for draw in 0..draws {
            let alone: Vec<_> = (fresh..fresh + d).map(id).collect();
            fresh += d;
            let (left, right) = alone.split_at(alone.len() / 2);
            left.iter().for_each(|id| assert_eq!(a.insert(&[], id), Ok(true)));
            right.iter().for_each(|id| assert_eq!(b.insert(&[], id), Ok(true)));
            let config = || config(Mode::Auto, 65_536, draw as u8);
            let result = pass(&mut a, &mut b, config(), config());
            assert_eq!((result.opener.push.len(), result.other.push.len()), (left.len(), right.len()));
            bytes.push(result.bytes());
            turns.push(result.messages.len());
            left.iter().for_each(|id| assert!(a.remove(id)));
            right.iter().for_each(|id| assert!(b.remove(id)));
        }
        bytes.sort_unstable();
        turns.sort_unstable();
        let mean = bytes.iter().sum::<usize>() / bytes.len();
        assert!(mean <= mean_bytes, "{mean} bytes for {d}");
        assert!(bytes[bytes.len() - 1] <= worst_bytes, "{bytes:?} for {d}");
        let most = turns[turns.len() * 9 / 10 - 1];
        assert!(most <= messages, "{most} messages for {d} in nine of ten draws");
    }
}
