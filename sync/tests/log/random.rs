//! Properties over random logs, to some twenty thousand entries: all that the exhaustive tests show for small ones.

use consilience_sync::{Allowance, Evidence, Hash, Have, Hlc, Log, LogKind, RangeForm, Received};
use proptest::prelude::*;

use super::common::{
    Dice, OWN, T, ada, append, assert_equals_plain, budget, cites, closures, empty, mesh, plain, range,
    receive, restore, shown, stamp, time,
};
use super::plain::{Ink, Item, Plain};

fn config() -> ProptestConfig {
    let cases =
        std::env::var("CONSILIENCE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(10_000);
    // A failure prints the numbers that replay it; no files are written.
    ProptestConfig { cases: cases / 400 + 1, failure_persistence: None, ..ProptestConfig::default() }
}

fn kinds() -> impl Strategy<Value = LogKind> {
    prop_oneof![Just(LogKind::State), Just(LogKind::Event)]
}

fn sizes() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 1..300_u64, 3 => 1..3_000_u64, 1 => 3_000..20_000_u64]
}

/// A random log: most payloads are small, a few long; the base rises now and then, or stays, as `bases` says.
fn items(kind: LogKind, size: u64, bases: bool, dice: &mut Dice) -> Vec<Item> {
    let (mut hlc, mut base) = (stamp(0), 0);
    (0..size)
        .map(|seq| {
            hlc = match dice.roll(6) {
                0 => hlc + 1,
                1 => ((hlc >> 16) + dice.roll(100)) << 16,
                2 => hlc + dice.roll(1 << 20),
                3 => hlc - dice.roll(1 << 20),
                4 => hlc | 0xffff,
                _ => ((hlc >> 16) + 1) << 16,
            };
            if bases && dice.roll(9) == 0 {
                base += dice.roll(seq - base + 1);
            }
            let len = match dice.roll(200) {
                0 => 1_000 + dice.roll(3_000),
                1..20 => dice.roll(200),
                _ => dice.roll(24),
            };
            let mut item = Item::new(hlc, &vec![dice.roll(256) as u8; len as usize]).base(base);
            item.flags = if dice.roll(8) == 0 { dice.roll(16) as u8 } else { 0 };
            item.cites = if dice.roll(20) == 0 { cites(seq, kind) } else { vec![] };
            item.closures = if dice.roll(20) == 0 { closures(seq, kind) } else { vec![] };
            item.last_final = (kind == LogKind::State && dice.roll(30) == 0).then_some(OWN - dice.roll(9));
            item.epoch = [0, 0, 0, 1, 1, u32::MAX][dice.roll(6) as usize];
            item.salt = (dice.roll(1 << 32) as u32).to_le_bytes();
            item
        })
        .collect()
}

/// The writer's copy and the model, with some ranges as they were sent while the log grew, each under the head of
/// its time.
fn grown(kind: LogKind, items: Vec<Item>, dice: &mut Dice) -> (Log, Plain, Vec<Vec<u8>>) {
    let (mut log, mut model, mut sent) = (empty(kind), plain(kind), vec![]);
    let size = items.len() as u64;
    let mut head_at = 1;
    for item in items {
        append(&mut log, &item);
        model.push(item);
        if log.size() == head_at || log.size() == size {
            head_at += 1 + dice.roll(size / 3 + 1);
            log.sign_head(&ada(), time(T + log.size())).unwrap();
            for _ in 0..3 {
                let from = dice.roll(log.size() + 1);
                let to = from + dice.roll((log.size() - from).min(400) + 1);
                let form = if dice.roll(3) == 0 { RangeForm::Follow } else { RangeForm::Alone };
                sent.push(range(&log, from, to, form));
            }
        }
    }
    (log, model, sent)
}

fn have(log: &Log) -> Have {
    Have { start: log.start(), size: log.size(), base: log.base() }
}

/// Asks a holder for what is missing until nothing is.
fn catch_up(copy: &mut Log, from: &Log, dice: &mut Dice) {
    for round in 0.. {
        let Some(want) = copy.want(&have(from)) else { return };
        assert!(round < 60_000, "it asks for ever: {want:?}");
        let bytes_max = 200 + dice.roll(60_000) as usize;
        // Where the entry before is not known, the peaks stand in, as in an answer of a set.
        let answer = from.range(want.from, want.to, want.form, bytes_max);
        let answer = answer.or_else(|| from.range(want.from, want.to, RangeForm::Alone, bytes_max));
        let (bytes, end) = answer.unwrap();
        assert!(
            end > want.from && bytes.len() < bytes_max.max(5_000) + 2_000,
            "about as many bytes as were asked for"
        );
        receive(copy, &bytes).unwrap();
    }
}

fn assert_proves(log: &Log, reader: &Log, model: &Plain, dice: &mut Dice) {
    let (start, size) = (log.start(), log.size());
    let head = *log.head().unwrap();
    for _ in 0..12 {
        let from = start + dice.roll(size - start + 1);
        let to = from + dice.roll((size - from).min(200) + 1);
        let bytes = range(log, from, to, RangeForm::Alone);
        let mut ink = Ink::default();
        let said = super::plain::Said { size: head.size, base: head.base, time: head.time.as_millis() };
        model.range_signed((from, to), true, said, head.signature.as_bytes(), &mut ink);
        assert!(bytes == ink.bytes, "{from}..{to} of {size}");
        assert_eq!(reader.verify(&bytes, &mut budget()).unwrap().entries().count() as u64, to - from);
        let (from, to) = (from.max(1), to.max(1));
        let proof = log.consistency(from, to).unwrap();
        let roots = [from, to].map(|at| Hash::from_bytes(model.root(at)));
        assert!(reader.is_consistent((from, &roots[0]), (to, &roots[1]), &proof), "{from} in {to}");
        if from < to {
            let set: std::collections::BTreeSet<_> = proof.iter().map(|hash| *hash.as_bytes()).collect();
            assert_eq!(set, model.subproof(from, 0, to, false));
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn random_logs_prove_as_the_plain_model_says_before_and_after_dropping(
        kind in kinds(), size in sizes(), seed in 1..u64::MAX,
    ) {
        let mut dice = Dice(seed);
        let (mut log, model, _) = grown(kind, items(kind, size, true, &mut dice), &mut dice);
        let mut reader = empty(kind);
        receive(&mut reader, &range(&log, size, size, RangeForm::Alone)).unwrap();
        assert_equals_plain(&log, &model);
        assert_proves(&log, &reader, &model, &mut dice);
        while log.start() < log.base() {
            let seq = log.start() + 1 + dice.roll(log.base() - log.start());
            log.drop_below(seq).unwrap();
            assert_eq!(log.start(), seq);
            assert_proves(&log, &reader, &model, &mut dice);
            if dice.roll(4) == 0 {
                assert_equals_plain(&log, &model);
            }
        }
    }

    #[test]
    fn a_copy_fed_in_random_order_with_repetitions_and_overlaps_ends_like_the_original(
        kind in kinds(), size in sizes(), bases in any::<bool>(), seed in 1..u64::MAX,
    ) {
        let mut dice = Dice(seed);
        let (log, model, mut sent) = grown(kind, items(kind, size, bases, &mut dice), &mut dice);
        let mut at = 0;
        while at < size && sent.len() < 300 {
            let to = (at + 1 + dice.roll(size / 8 + 1)).min(size);
            let from = at.saturating_sub(dice.roll(20));
            sent.push(range(&log, from, to, RangeForm::Alone));
            at = to;
        }
        sent.extend(sent.clone().into_iter().step_by(3));
        dice.shuffle(&mut sent);
        let mut copy = empty(kind);
        for bytes in &sent {
            let before = (copy.size(), copy.root());
            match receive(&mut copy, bytes) {
                Ok(Received::Forked(_) | Received::Conflict) => panic!("there is one history"),
                Ok(Received::Extended { to, .. } | Received::FastForwarded { to, .. }) => {
                    assert!(copy.size() >= to && copy.size() > before.0);
                }
                Ok(_) | Err(_) => assert_eq!((copy.size(), copy.root()), before),
            }
            let root = model.root(copy.size().max(1));
            assert!(copy.size() == 0 || copy.root() == Some(Hash::from_bytes(root)));
        }
        catch_up(&mut copy, &log, &mut dice);
        assert_equals_plain(&copy, &model);
        assert_eq!((copy.held().count(), copy.gaps(), copy.head()), (1, vec![], log.head()));
        let mut reader = empty(kind);
        receive(&mut reader, &range(&log, size, size, RangeForm::Alone)).unwrap();
        assert_proves(&copy, &reader, &model, &mut dice);
        // And a copy of the copy.
        let mut next = empty(kind);
        catch_up(&mut next, &copy, &mut dice);
        assert_eq!((next.root(), shown(&next)), (log.root(), shown(&copy)));
    }

    #[test]
    fn a_copy_that_follows_drops_and_erases_on_the_way_ends_like_the_original(
        kind in kinds(), size in sizes(), seed in 1..u64::MAX,
    ) {
        let mut dice = Dice(seed);
        let (mut log, model, _) = grown(kind, items(kind, size, true, &mut dice), &mut dice);
        let mut copy = empty(kind);
        while copy.size() < size {
            let from = copy.size() - dice.roll((copy.size() - copy.start()).min(90) + 1);
            let to = (copy.size() + 1 + dice.roll(size / 5 + 1)).min(size);
            let form = if from == copy.start() && from > 0 { RangeForm::Alone } else { RangeForm::Follow };
            let bytes = range(&log, from, to, form);
            let before = copy.size();
            prop_assert_eq!(receive(&mut copy, &bytes), Ok(Received::Extended { from: before, to }));
            if dice.roll(3) == 0 && copy.ready_base() > copy.start() {
                copy.drop_below(copy.start() + dice.roll(copy.ready_base() - copy.start() + 1)).unwrap();
            }
            if kind == LogKind::Event {
                for _ in 0..dice.roll(4) {
                    copy.erase(copy.start() + dice.roll(copy.size() - copy.start())).unwrap();
                }
                let seq = copy.start() + dice.roll(copy.size() - copy.start());
                restore(&mut copy, &model, seq);
            }
        }
        assert_equals_plain(&copy, &model);
        for seq in copy.start()..size {
            restore(&mut copy, &model, seq);
        }
        if copy.start() > log.start() {
            log.drop_below(copy.start()).unwrap();
        }
        prop_assert!(shown(&copy) == shown(&log));
        for form in [RangeForm::Follow, RangeForm::Alone] {
            prop_assert!(range(&copy, copy.start(), size, form) == range(&log, copy.start(), size, form));
        }
    }

    #[test]
    fn a_copy_fed_from_two_branches_under_limits_holds_one_of_them_and_what_it_sends_proves(
        kind in kinds(), size in 1..120_u64, fork in 0..120_u64, late in any::<bool>(), seed in 1..u64::MAX,
    ) {
        let mut dice = Dice(seed);
        let mut trunk = items(kind, size, true, &mut dice);
        for item in &mut trunk {
            item.hlc += if late && dice.roll(12) == 0 { 3_600_000 << 16 } else { 0 };
        }
        let mut other = trunk.clone();
        let base = trunk.get(fork as usize).map_or(0, |item| item.base);
        for item in other.iter_mut().skip(fork as usize) {
            item.base = item.base.max(base);
            item.payload.push(1);
        }
        let (_, model, mut sent) = grown(kind, trunk, &mut dice);
        let (_, other, more) = grown(kind, other, &mut dice);
        sent.extend(more);
        dice.shuffle(&mut sent);
        let mut copy = empty(kind);
        for bytes in sent.iter().chain(&sent) {
            let room = [usize::MAX, 600, 60];
            let allowance = Allowance {
                latest: if dice.roll(20) == 0 { Hlc::MAX } else { Hlc::from_bits(stamp(1_000_000)) },
                late_bytes_max: room[dice.roll(3) as usize],
                staged_bytes_max: room[dice.roll(3) as usize],
            };
            copy.make_ready(allowance.latest);
            let before = super::common::seen(&copy);
            let got = copy.receive(bytes, &allowance, &mut budget());
            match &got {
                Err(_) | Ok(Received::Nothing) => prop_assert_eq!(super::common::seen(&copy), before),
                Ok(Received::Forked(evidence)) => {
                    let at = evidence.size();
                    prop_assert!(fork < at && at <= size, "{} with a fork at {}", at, fork);
                    let again = Evidence::decode(evidence.as_bytes(), &mesh(), &mut budget());
                    prop_assert_eq!(again.as_ref(), Ok(&**evidence));
                }
                Ok(Received::Conflict) => prop_assert!(false, "all is signed"),
                Ok(_) => {}
            }
            let held: Vec<(u64, u64)> = copy.held().collect();
            prop_assert!(held.is_sorted_by(|one, next| one.1 <= next.0), "{:?} after {:?}", held, got);
            let gaps = copy.gaps();
            prop_assert!(gaps.iter().all(|gap| gap.0 < gap.1));
            prop_assert!(copy.start() <= copy.ready() && copy.ready() <= copy.size());
            if copy.size() == 0 {
                continue;
            }
            let root = copy.root().map(|root| *root.as_bytes());
            let mine = [&model, &other].into_iter().find(|model| Some(model.root(copy.size())) == root).unwrap();
            for shown in shown(&copy) {
                let item = &mine.items[shown.seq as usize];
                prop_assert_eq!((shown.base, shown.hlc.to_bits()), (item.base, item.hlc));
                prop_assert_eq!(shown.payload, Some((item.salt, item.payload.clone())));
            }
            let mut next = empty(kind);
            next.receive(&range(&copy, copy.start(), copy.size(), RangeForm::Alone), &Allowance::ANY, &mut budget())
                .unwrap();
            prop_assert!(next.held().eq([(copy.start(), copy.size())]));
            let middle = copy.start() + dice.roll(copy.size() - copy.start() + 1);
            prop_assert!(next.verify(&range(&copy, middle, middle, RangeForm::Alone), &mut budget()).is_ok());
        }
    }

    #[test]
    fn a_range_with_a_few_bytes_changed_is_refused_and_changes_nothing(
        kind in kinds(), size in 2..400_u64, seed in 1..u64::MAX,
    ) {
        let mut dice = Dice(seed);
        let (log, _, sent) = grown(kind, items(kind, size, true, &mut dice), &mut dice);
        let mut copy = empty(kind);
        receive(&mut copy, &range(&log, 0, size / 2, RangeForm::Follow)).unwrap();
        let before = super::common::seen(&copy);
        for bytes in &sent {
            for _ in 0..8 {
                let mut changed = bytes.clone();
                let at = dice.roll(bytes.len() as u64 - 1) as usize + 1;
                match dice.roll(5) {
                    0 => changed.truncate(at),
                    1 => changed.insert(at, dice.roll(256) as u8),
                    2 => drop(changed.remove(at)),
                    3 => changed[at..].rotate_left(1),
                    _ => changed[at] = dice.roll(256) as u8,
                }
                if changed != *bytes {
                    prop_assert!(receive(&mut copy, &changed).is_err());
                }
            }
        }
        prop_assert_eq!(super::common::seen(&copy), before);
    }
}
