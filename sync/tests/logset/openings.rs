//! Openings that anybody can make: without bytes that the agent signed they take no place, whatever they say.

use consilience_sync::journal::{Journal, JournalItem, apply, recover};
use consilience_sync::{
    Admission, AgentId, Change, Closure, Incarnation, KeyError, LogKind, LogOpening, LogSet, NamedOpening,
    NewEntry, OpenError, Range, ReceiveError, Received, SetError, Timestamp, VerifyBudget,
};

use crate::world::{
    KINDS, START, alone, follow, keys, later, limited, mesh, opening, opening_in, range, rich, set, stamp,
    write, writer,
};

/// The last time that an incarnation can have.
const END: Timestamp = Timestamp::from_millis((1 << 48) - 1);

fn named(opening: &LogOpening) -> NamedOpening {
    opening.clone().named(&mesh())
}

fn first(
    to: &mut LogSet,
    opening: &LogOpening,
    bytes: &[u8],
    now: Timestamp,
    budget: &mut VerifyBudget,
) -> Result<Received, SetError> {
    to.receive_first(&named(opening), &Range::parse(bytes).unwrap(), now, budget, |_| Admission::Hold)
}

fn hold(_: &LogOpening) -> Admission {
    Admission::Hold
}

/// An opening that names an agent of which nobody has the key.
fn made_up(number: u32, kind: LogKind) -> LogOpening {
    let agent = AgentId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes());
    LogOpening { agent, ..opening_in(&format!("t/{}", number % 512), kind, 1, number.into()) }
}

/// A good range of another agent's log, to be passed off as one of these.
fn strange() -> Vec<u8> {
    let (mut source, log) = writer(&opening(LogKind::Event, 9));
    write(&mut source, &log, 9, "x", 2);
    range(&source, &log, alone(0, 2))
}

#[test]
fn an_opening_of_the_last_incarnation_does_not_lock_its_victim_out() {
    for kind in KINDS {
        let forged = LogOpening { incarnation: Incarnation::from_u64(u64::MAX), ..opening(kind, 1) };
        let mut to = set();
        let before = format!("{to:?}");
        assert_eq!(to.admits(&named(&forged), START, hold), Err(OpenError::Ahead));
        for now in [START, END] {
            assert!(first(&mut to, &forged, &strange(), now, &mut rich()).is_err());
        }
        assert_eq!(format!("{to:?}"), before, "it leaves no trace");
        // The victim's own log, and its next one after a start without storage.
        let mut last = None;
        for at in [0, 5_000] {
            let incarnation = Incarnation::next(last, later(at), [1, 2]);
            assert!(!incarnation.is_ahead(later(at), 0));
            let own = LogOpening { incarnation, ..opening(kind, 1) };
            let (mut source, log) = writer(&own);
            write(&mut source, &log, 1, "x", 3);
            let bytes = range(&source, &log, follow(0, 3));
            assert_eq!(
                first(&mut to, &own, &bytes, later(at), &mut rich()),
                Ok(Received::Extended { from: 0, to: 3 })
            );
            assert_eq!(to.applicable(&log), Some((0, 3)));
            last = Some(incarnation);
        }
    }
}

#[test]
fn openings_that_nobody_signed_leave_no_trace() {
    for kind in KINDS {
        let mut to = set();
        let before = format!("{to:?}");
        // In the name of one victim, more than it may have logs; and in any names, more than there may be logs in all.
        let of_victim = (1..=1_024).map(|incarnation| opening_in("team/planning", kind, 1, incarnation));
        let mut budget = rich();
        let bytes = strange();
        for forged in of_victim.clone().chain((0..65_536).map(|number| made_up(number, kind))) {
            assert_eq!(to.admits(&named(&forged), START, hold), Ok(()));
            let refused = first(&mut to, &forged, &bytes, START, &mut budget);
            assert!(matches!(
                refused,
                Err(SetError::Receive(ReceiveError::BadSignature | ReceiveError::Budget)
                    | SetError::Open(OpenError::Key(_)))
            ));
        }
        assert!(budget.checks() < 8_192 + 128, "the peer's bytes pay for the checks: {}", budget.checks());
        assert_eq!(format!("{to:?}"), before);
        assert_eq!((to.stats(), to.poll_change(), to.poll_timeout()), (set().stats(), None, None));
        // The victim and a newcomer are taken in as ever.
        for agent in [1, 200] {
            let own = opening_in("team/planning", kind, agent, 5_000);
            let (mut source, log) = writer(&own);
            write(&mut source, &log, agent, "x", 3);
            let bytes = range(&source, &log, follow(0, 3));
            first(&mut to, &own, &bytes, START, &mut VerifyBudget::new()).unwrap();
            assert_eq!(to.applicable(&log), Some((0, 3)));
        }
    }
}

/// Records as they would be if something had stored openings alone.
#[test]
fn openings_alone_in_a_journal_bring_nothing_back() {
    let mut journal = Journal::new(&mesh());
    let victims = LogOpening { incarnation: Incarnation::from_u64(u64::MAX), ..opening(LogKind::State, 1) };
    let many = (0..65_536).map(|number| made_up(number, KINDS[number as usize % 2]));
    let of_victim =
        (1..=1_024).map(|incarnation| opening_in("team/planning", LogKind::State, 1, incarnation));
    for (number, forged) in core::iter::once(victims).chain(of_victim).chain(many).enumerate() {
        journal.push(&JournalItem::Opening { local: false, bytes: &forged.encode(&mesh()) });
        if number % 100 == 0 {
            journal.seal();
        }
    }
    journal.seal();
    let mut bytes = Vec::new();
    while let Some(record) = journal.poll() {
        bytes.extend(record.into_bytes());
    }
    let mut back = set();
    let before = format!("{back:?}");
    let recovered = recover(&mesh(), None, &bytes).unwrap();
    let mut replay = back.replay(START);
    let mut items = 0;
    for item in recovered.items() {
        apply(&item, &mut replay).unwrap();
        items += 1;
    }
    assert_eq!(items, 1 + 1_024 + 65_536);
    assert_eq!(format!("{back:?}"), before);
    // The victim writes in a log of its own time.
    let own =
        LogOpening { incarnation: Incarnation::next(None, START, [0; 2]), ..opening(LogKind::State, 1) };
    let log = back.open_local(&own).unwrap();
    write(&mut back, &log, 1, "x", 3);
    assert_eq!(back.poll_change(), Some(Change::Applicable { log, from: 0, to: 3 }));
}

#[test]
fn the_first_range_of_a_log_that_proves_itself_gives_it_a_place_and_nothing_before_it_does() {
    for kind in KINDS {
        let own = opening(kind, 1);
        let (mut source, log) = writer(&own);
        write(&mut source, &log, 1, "x", 40);
        let whole = range(&source, &log, follow(0, 40));
        let mut to = set();
        let before = format!("{to:?}");
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            let Ok(bytes) = Range::parse(&damaged) else { continue };
            let refused = to.receive_first(&named(&own), &bytes, START, &mut rich(), hold);
            assert!(refused.is_err(), "byte {at}: {refused:?}");
            assert_eq!(format!("{to:?}"), before, "byte {at}");
        }
        // What follows on entries that are not here, and what the host does not want.
        let refused = first(&mut to, &own, &range(&source, &log, follow(20, 40)), START, &mut rich());
        assert_eq!(refused, Err(ReceiveError::Gap { have: 0 }.into()));
        let bytes = Range::parse(&whole).unwrap();
        let ignored = to.receive_first(&named(&own), &bytes, START, &mut rich(), |_| Admission::Ignore);
        assert_eq!(ignored, Err(OpenError::Ignored.into()));
        let mut poor = VerifyBudget::new();
        while first(&mut to, &own, &strange(), START, &mut poor) != Err(ReceiveError::Budget.into()) {}
        let refused = first(&mut to, &own, &whole, START, &mut poor);
        assert_eq!(refused, Err(ReceiveError::Budget.into()), "keys and signatures are paid for");
        let mut full = limited(|limits| limits.logs_max = 0);
        assert_eq!(first(&mut full, &own, &whole, START, &mut rich()), Err(OpenError::Quota.into()));
        assert_eq!(format!("{to:?}"), before);
        // A piece from the middle waits, and a head alone is a word of its writer too.
        for want in [alone(10, 20), alone(40, 40), follow(0, 10)] {
            let mut to = set();
            let received = first(&mut to, &own, &range(&source, &log, want), START, &mut rich()).unwrap();
            assert_ne!(received, Received::Nothing);
            assert_eq!((to.stats().logs, to.logs().count()), (1, 1), "{want:?}");
            assert!(first(&mut to, &own, &whole, START, &mut rich()).is_ok(), "{want:?}");
            assert_eq!(to.applicable(&log), Some((0, 40)), "{want:?}");
        }
        // A check that brought entries is free, that of the key as well.
        let mut budget = VerifyBudget::new();
        for agent in 1..=250 {
            let own = opening(kind, agent);
            let (mut source, log) = writer(&own);
            write(&mut source, &log, agent, "x", 1);
            first(&mut to, &own, &range(&source, &log, follow(0, 1)), START, &mut budget).unwrap();
        }
        assert_eq!((to.stats().logs, budget.checks()), (250, 500));
    }
}

#[test]
fn a_log_from_the_future_waits_for_its_time_and_one_of_a_weak_key_gets_no_place() {
    let drift = set().limits().max_drift_ms;
    for kind in KINDS {
        let incarnation = Incarnation::next(None, later(3 * drift), [7, 7]);
        let own = LogOpening { incarnation, ..opening(kind, 1) };
        let (mut source, log) = writer(&own);
        write(&mut source, &log, 1, "x", 3);
        let bytes = range(&source, &log, follow(0, 3));
        let mut to = set();
        let before = format!("{to:?}");
        for now in [START, later(2 * drift - 1)] {
            assert_eq!(to.admits(&named(&own), now, hold), Err(OpenError::Ahead));
            assert_eq!(first(&mut to, &own, &bytes, now, &mut rich()), Err(OpenError::Ahead.into()));
        }
        assert_eq!(format!("{to:?}"), before);
        first(&mut to, &own, &bytes, later(2 * drift), &mut rich()).unwrap();
        assert_eq!(to.applicable(&log), Some((0, 3)));

        let weak = LogOpening { agent: AgentId::from_bytes([0; 32]), ..opening(kind, 1) };
        let refused = first(&mut to, &weak, &bytes, START, &mut rich());
        assert_eq!(refused, Err(OpenError::Key(KeyError::SmallOrder).into()));
        assert_eq!(to.stats().logs, 1);
    }
}

/// A log that a later incarnation has closed in its whole size needs no place.
#[test]
fn a_closed_log_that_comes_again_gets_no_place() {
    let (low, high) = (opening(LogKind::State, 1), opening_in("team/planning", LogKind::State, 1, 2));
    let (mut source, log) = writer(&low);
    write(&mut source, &log, 1, "x", 3);
    let (mut later_one, closing) = writer(&high);
    let closures = [Closure { incarnation: low.incarnation, below: 3 }];
    let entry = NewEntry { closures: &closures, ..NewEntry::new(stamp(1), b"") };
    later_one.append(&closing, &entry).unwrap();
    later_one.sign_head(&closing, &keys(1), START).unwrap();
    let mut to = set();
    first(&mut to, &high, &range(&later_one, &closing, follow(0, 1)), START, &mut rich()).unwrap();
    let bytes = range(&source, &log, follow(0, 3));
    assert_eq!(first(&mut to, &low, &bytes, START, &mut rich()), Ok(Received::Nothing));
    assert!(to.log(&log).is_none());
    // One entry more, and it counts.
    write(&mut source, &log, 1, "y", 1);
    first(&mut to, &low, &range(&source, &log, follow(0, 4)), START, &mut rich()).unwrap();
    assert_eq!(to.applicable(&log), Some((0, 4)));
}
