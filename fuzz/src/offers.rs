//! A set of logs with everything that an offer can be about, and plans for any offers.

use consilience_crdts::Timestamp;
use consilience_sync::{
    Admission, Answer, Limits, LogId, LogKind, LogOpening, LogSet, Move, NewEntry, Offer, RangeForm, Signer,
    Topic, Want,
};

use crate::logs::{T, ada, mesh, opening, plenty, written};

/// The set and its logs: an event and a state log, whole and with a dropped front; one of each that is forked; one
/// without entries; and one that is not held.
pub struct Held {
    pub set: LogSet,
    pub logs: Vec<LogId>,
}

fn in_topic(topic: &str, kind: LogKind) -> LogOpening {
    LogOpening { topic: Topic::new(topic).unwrap(), agent: ada().agent(), ..opening(kind) }
}

fn append(set: &mut LogSet, log: &LogId, payload: &[u8], count: u64, raise: bool) {
    for _ in 0..count {
        let mut hlc = set.log(log).unwrap().last_hlc();
        hlc.tick(Timestamp::from_millis(T));
        let size = set.log(log).unwrap().size();
        let base = if raise { size / 2 } else { 0 };
        set.append(log, &NewEntry { base, ..NewEntry::new(hlc, payload) }).unwrap();
    }
    set.sign_head(log, &ada(), Timestamp::from_millis(T)).unwrap();
}

/// Gives `to` all that `from` has of a log.
fn tell(from: &LogSet, to: &mut LogSet, log: &LogId, form: RangeForm) {
    let size = from.have(log).unwrap().size;
    let Answer::Range { bytes, .. } = from.answer(log, &Want { from: 0, to: size, form }, usize::MAX) else {
        panic!("what is held is given")
    };
    to.receive(log, &bytes, Timestamp::from_millis(T), &mut plenty()).unwrap();
}

pub fn held() -> Held {
    let now = Timestamp::from_millis(T);
    let mut set = LogSet::new(mesh(), Limits::default());
    let mut logs = Vec::new();
    for kind in [LogKind::Event, LogKind::State] {
        let log = written(kind);
        let id = set.open(log.opening(), |_| Admission::Hold).unwrap();
        let (bytes, _) = log.range(0, 70, RangeForm::Follow, usize::MAX).unwrap();
        set.receive(&id, &bytes, Timestamp::from_millis(T + 60_000), &mut plenty()).unwrap();
        logs.push(id);

        let id = set.open_local(&in_topic("dropped", kind)).unwrap();
        append(&mut set, &id, b"x", 20, true);
        logs.push(id);

        let opening = in_topic("forked", kind);
        let mut writer = LogSet::new(mesh(), Limits::default());
        let id = writer.open_local(&opening).unwrap();
        append(&mut writer, &id, b"both", 5, false);
        set.open(&opening, |_| Admission::Hold).unwrap();
        let mut clone = writer.clone();
        append(&mut writer, &id, b"one", 2, false);
        append(&mut clone, &id, b"other", 4, false);
        tell(&writer, &mut set, &id, RangeForm::Follow);
        let range = clone.answer(&id, &Want { from: 4, to: 9, form: RangeForm::Alone }, usize::MAX);
        let Answer::Range { bytes, .. } = range else { panic!("what is held is given") };
        set.receive(&id, &bytes, now, &mut plenty()).unwrap();
        assert!(set.evidence(&id).is_some());
        logs.push(id);

        logs.push(set.open(&in_topic("nothing", kind), |_| Admission::Hold).unwrap());
        logs.push(in_topic("elsewhere", kind).log_id(&mesh()));
    }
    while set.poll_change().is_some() {}
    assert!(set.log(&logs[1]).unwrap().start() > 0);
    Held { set, logs }
}

/// Plans for these offers: as they are, about each log, and with the root and facts that are held.
pub fn plan(held: &Held, offers: &[Offer]) {
    let Held { set, logs } = held;
    done(set, &set.plan(&[], offers), offers);
    done(set, &set.plan(logs, offers), offers);
    for log in logs {
        let about: Vec<Offer> = offers.iter().map(|offer| Offer { log: *log, ..*offer }).collect();
        done(set, &set.plan(logs, &about), &about);
        let Some(own) = set.offer(log) else { continue };
        let (root, facts) = (own.root, own.facts);
        let near: Vec<Offer> = about.iter().map(|offer| Offer { root, ..*offer }).collect();
        done(set, &set.plan(&[*log], &near), &near);
        let nearer: Vec<Offer> = near.iter().map(|offer| Offer { facts, ..*offer }).collect();
        done(set, &set.plan(&[*log], &nearer), &nearer);
        let same: Vec<Offer> = offers
            .iter()
            .map(|offer| Offer { size: own.size, start: offer.start.min(own.size), log: *log, ..*offer })
            .collect();
        done(set, &set.plan(&[*log], &same), &same);
        // What was named as different and looks the same may differ behind a root's first bytes: proofs, and no entries.
        let proofs = |step: &Move| match step {
            Move::Facts(_) | Move::Search(_) => true,
            Move::Send(_, want) => want.from == want.to,
            _ => false,
        };
        assert!(
            set.plan(&[], &[own]).iter().all(proofs),
            "a set that is offered what it has sends no entries"
        );
    }
}

/// A plan is about logs that are held or offered, one move of a kind for each, and can be carried out.
fn done(set: &LogSet, plan: &[Move], offers: &[Offer]) {
    for pair in plan.windows(2) {
        assert!(log_of(&pair[0]) <= log_of(&pair[1]), "in the order of the logs");
        assert_ne!(pair[0], pair[1]);
    }
    for step in plan {
        match step {
            Move::Open(log) => assert!(set.log(log).is_some()),
            Move::Facts(log) => assert!(set.facts(log).is_some_and(|facts| facts.digest().is_some())),
            Move::Send(log, want) => {
                assert!(want.from <= want.to);
                let answer = set.answer(log, want, usize::MAX);
                let Answer::Range { bytes, end } = answer else { panic!("{want:?} gives {answer:?}") };
                assert!(!bytes.is_empty() && end == want.to);
            }
            Move::Search(log) => assert!(set.evidence(log).is_some()),
            Move::Expect(log, want) => {
                assert!(want.from <= want.to);
                assert!(offers.iter().any(|offer| offer.log == *log && want.to == offer.size));
            }
        }
    }
}

fn log_of(step: &Move) -> LogId {
    match step {
        Move::Open(log)
        | Move::Facts(log)
        | Move::Send(log, _)
        | Move::Search(log)
        | Move::Expect(log, _) => *log,
    }
}
