//! The search for the first difference between two holders of a forked log.

use consilience_sync::{
    Evidence, ForkSearch, Gone, Log, LogKind, RangeForm, ReceiveError, Received, SearchStep, Want,
};

use super::common::{Dice, T, ada, append, budget, empty, follower, mesh, range, receive, rising, time};

/// The entry of the other branch.
fn other(seq: u64) -> super::plain::Item {
    let mut item = rising(seq);
    item.payload = b"the other branch".to_vec();
    item
}

/// Logs of each size to `size`, not signed, to make branches from.
fn trunks(size: u64) -> Vec<Log> {
    let mut trunk = empty(LogKind::Event);
    let mut trunks = vec![trunk.clone()];
    for seq in 0..size {
        append(&mut trunk, &rising(seq));
        trunks.push(trunk.clone());
    }
    trunks
}

fn branch(trunk: &Log, size: u64) -> Log {
    let mut log = trunk.clone();
    (trunk.size()..size).for_each(|seq| append(&mut log, &other(seq)));
    log.sign_head(&ada(), time(T + 1)).unwrap();
    log
}

fn signed(trunk: &Log) -> Log {
    let mut log = trunk.clone();
    log.sign_head(&ada(), time(T)).unwrap();
    log
}

/// Runs a search of `mine` against `theirs`, which differ at a size, to its end: what it found, and after how many exchanges.
fn search(mine: &mut Log, theirs: &Log, at: u64) -> (Evidence, u32) {
    let got = receive(mine, &range(theirs, at, at, RangeForm::Alone));
    let Ok(Received::Forked(evidence)) = got else { panic!("{got:?}") };
    let mut search = ForkSearch::new(mine, *evidence);
    let mut exchanges = 0;
    loop {
        let want = match search.step() {
            SearchStep::Done(evidence) => return (evidence, exchanges),
            SearchStep::Ask(want) => want,
        };
        assert_eq!((want.from, want.form), (want.to, RangeForm::Alone));
        exchanges += 1;
        assert!(exchanges < 64, "it does not end");
        if want.from < theirs.start() {
            search.handle_gone(Gone { below: theirs.start() });
            continue;
        }
        let answer = range(theirs, want.from, want.to, want.form);
        search.handle(mine, &answer, &mut budget()).unwrap();
    }
}

fn assert_found(mine: &mut Log, theirs: &Log, fork: u64) {
    let sizes = mine.size().min(theirs.size());
    let (evidence, exchanges) = search(mine, theirs, sizes);
    let first = (fork + 1).max(mine.start()).max(theirs.start());
    assert_eq!(evidence.size(), first, "fork at {fork}");
    let most = sizes.next_power_of_two().ilog2() + 1;
    assert!(exchanges <= most, "{exchanges} exchanges for {sizes} entries");
    assert_eq!(Evidence::decode(evidence.as_bytes(), &mesh(), &mut budget()), Ok(evidence));
}

#[test]
fn the_first_difference_is_found_exactly_for_all_forks_of_logs_to_70() {
    let trunks = trunks(70);
    for size in 1..=70 {
        for fork in 0..size {
            assert_found(&mut signed(&trunks[size as usize]), &branch(&trunks[fork as usize], size), fork);
        }
    }
}

#[test]
fn the_first_difference_is_found_between_copies_of_different_sizes() {
    let trunks = trunks(70);
    for fork in 0..70 {
        for size in [fork + 1, fork + 2, 64, 65, 100].into_iter().filter(|size| *size > fork) {
            let theirs = branch(&trunks[fork as usize], size);
            for mine in [fork + 1, 64, 70].into_iter().filter(|mine| *mine > fork) {
                let mut mine = signed(&trunks[mine as usize]);
                assert_found(&mut mine, &theirs, fork);
                assert_found(&mut theirs.clone(), &mine, fork);
            }
        }
    }
}

#[test]
fn the_first_difference_that_can_be_compared_is_found_with_bases_on_one_side_or_both() {
    let trunks = trunks(70);
    for fork in 0..70 {
        let (mine, theirs) = (signed(&trunks[70]), branch(&trunks[fork as usize], 70));
        let starts = [0, 1, fork / 2, fork, fork + 1, fork + 2, 69];
        for mine_start in starts.into_iter().filter(|start| *start < 70) {
            for their_start in starts.into_iter().filter(|start| *start < 70) {
                let (mut mine, mut theirs) = (mine.clone(), theirs.clone());
                mine.drop_below(mine_start).unwrap();
                theirs.drop_below(their_start).unwrap();
                assert_found(&mut mine, &theirs, fork);
            }
        }
    }
}

#[test]
fn the_first_difference_is_found_in_long_logs() {
    let mut dice = Dice(3);
    let trunks = trunks(6_000);
    for _ in 0..60 {
        let fork = dice.roll(6_000);
        let size = fork + 1 + dice.roll(200);
        let mut mine = signed(&trunks[fork as usize + 1 + dice.roll(6_000 - fork) as usize]);
        let mut theirs = branch(&trunks[fork as usize], size);
        if dice.roll(2) == 0 {
            mine.drop_below(dice.roll(mine.size())).unwrap();
        }
        if dice.roll(2) == 0 {
            theirs.drop_below(dice.roll(theirs.size())).unwrap();
        }
        // Only what both hold can be compared.
        if mine.start().max(theirs.start()) <= mine.size().min(theirs.size()) {
            assert_found(&mut mine, &theirs, fork);
        }
    }
}

#[test]
fn an_answer_that_is_none_changes_nothing() {
    let trunks = trunks(40);
    let (mut mine, theirs) = (signed(&trunks[40]), branch(&trunks[17], 40));
    let got = receive(&mut mine, &range(&theirs, 40, 40, RangeForm::Alone));
    let Ok(Received::Forked(evidence)) = got else { panic!("{got:?}") };
    let mut search = ForkSearch::new(&mine, *evidence);
    let step = search.step();
    assert_eq!(step, SearchStep::Ask(Want { from: 20, to: 20, form: RangeForm::Alone }));
    let good = range(&theirs, 20, 20, RangeForm::Alone);
    let mut spoilt = good.clone();
    spoilt[40] ^= 1;
    let other_size = range(&theirs, 25, 25, RangeForm::Alone);
    let no_peaks = range(&theirs, 20, 20, RangeForm::Follow);
    for bad in [&spoilt, &other_size, &no_peaks, &good[1..].to_vec(), &vec![]] {
        assert!(search.handle(&mine, bad, &mut budget()).is_err());
        assert_eq!(search.step(), step);
    }
    // A holder that has everything gone below a size where it could have answered ends nothing too soon.
    search.handle_gone(Gone { below: 3 });
    assert!(matches!(search.step(), SearchStep::Ask(_)));
    search.handle_gone(Gone { below: u64::MAX });
    assert!(matches!(search.step(), SearchStep::Done(best) if best.size() == 40));
}

#[test]
fn a_search_from_evidence_beyond_what_the_copy_holds_ends() {
    // 50 entries are here, and a head of 100. The other branch differs from the 60th entry on.
    let trunks = trunks(100);
    let whole = signed(&trunks[100]);
    let mut mine = follower(&signed(&trunks[50]), 50);
    assert_eq!(receive(&mut mine, &range(&whole, 100, 100, RangeForm::Alone)), Ok(Received::Head));
    let theirs = branch(&trunks[60], 100);
    let got = receive(&mut mine, &range(&theirs, 100, 100, RangeForm::Alone));
    let Ok(Received::Forked(evidence)) = got else { panic!("{got:?}") };
    assert_eq!(evidence.size(), 100);
    let mut search = ForkSearch::new(&mine, *evidence.clone());
    let mut asked = vec![];
    for _ in 0..20 {
        match search.step() {
            SearchStep::Done(best) => {
                assert_eq!(best, *evidence, "the best that this copy can give");
                return;
            }
            SearchStep::Ask(want) => {
                asked.push(want.from);
                let answer = range(&theirs, want.from, want.to, want.form);
                let got: Result<(), ReceiveError> = search.handle(&mine, &answer, &mut budget());
                assert_eq!(got, Ok(()), "a good answer to what was asked for, {asked:?}");
            }
        }
    }
    panic!("it asks for ever: {asked:?}");
}

#[test]
fn a_search_of_a_copy_with_entries_that_are_not_signed_finds_the_first_difference_below_them() {
    // 55 entries are signed and 5 more appended when the writer hears of a head of 100, and then of another branch.
    let trunks = trunks(100);
    for fork in 0..55 {
        let mut mine = signed(&trunks[55]);
        (55..60).for_each(|seq| append(&mut mine, &rising(seq)));
        let whole = signed(&trunks[100]);
        assert_eq!(receive(&mut mine, &range(&whole, 100, 100, RangeForm::Alone)), Ok(Received::Head));
        let theirs = branch(&trunks[fork as usize], 100);
        let (evidence, _) = search(&mut mine, &theirs, 100);
        assert_eq!(evidence.size(), fork + 1);
    }
}
