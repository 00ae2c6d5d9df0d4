//! Forks and what is none: heads, heartbeats, evidence, and bytes that belong elsewhere.

use consilience_sync::{
    Admission, Answer, Evidence, EvidenceError, HeadError, Incarnation, Keypair, Limits, Log, LogKind,
    LogOpening, LogSet, MeshId, OpeningError, RangeForm, ReceiveError, Received, SetError, SignedHead,
    Signer, Topic, VerifyBudget, Want,
};

use super::common::{
    T, ada, append, assert_equals_plain, budget, empty, follower, item, mesh, opening, plain, range, receive,
    seen, time, written,
};
use super::plain::{Ink, Item, Said};

/// Items that differ from [`item`] from `fork` on.
fn branch(fork: u64, size: u64) -> impl Iterator<Item = Item> {
    (0..size).map(move |seq| if seq < fork { item(seq) } else { item(seq + 1_000) })
}

fn evidence_of(received: Result<Received, ReceiveError>) -> Evidence {
    match received {
        Ok(Received::Forked(evidence)) => *evidence,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_head_of_a_smaller_size_is_not_a_fork() {
    let small = written(LogKind::State, (0..10).map(item), T + 5);
    let large = written(LogKind::State, (0..20).map(item), T);
    let mut copy = follower(&large, 20);
    let before = seen(&copy);
    for form in [RangeForm::Alone, RangeForm::Follow] {
        for (from, to) in [(0, 10), (3, 7), (10, 10)] {
            assert_eq!(receive(&mut copy, &range(&small, from, to, form)), Ok(Received::Nothing));
        }
    }
    assert_eq!(seen(&copy), before);
}

#[test]
fn the_same_root_at_a_new_time_is_a_heartbeat_and_not_a_fork() {
    let mut log = written(LogKind::State, (0..10).map(item), T);
    let mut copy = follower(&log, 10);
    let before = seen(&copy);
    let old = range(&log, 10, 10, RangeForm::Follow);
    let beat = log.sign_head(&ada(), time(T + 60_000)).unwrap();
    let bytes = range(&log, 10, 10, RangeForm::Follow);
    assert!(bytes.len() < 80, "{}", bytes.len());
    assert_eq!(receive(&mut copy, &bytes), Ok(Received::Head));
    assert_eq!((copy.head(), copy.size()), (Some(&beat), 10));
    assert_ne!(seen(&copy), before);
    assert_eq!(receive(&mut copy, &bytes), Ok(Received::Nothing));
    assert_eq!(receive(&mut copy, &old), Ok(Received::Nothing), "time does not go back");
    assert_eq!(copy.head(), Some(&beat));
}

#[test]
fn a_head_with_another_base_than_its_last_entry_does_not_spoil_what_a_copy_sends() {
    let log = written(LogKind::State, (0..10).map(|seq| item(seq).base(seq / 3)), T);
    let model = plain(LogKind::State).with((0..10).map(|seq| item(seq).base(seq / 3)));
    // Only the writer can sign such a thing; those who pass it on must not look like liars.
    for base in [0, 2, 4, 9] {
        for at in [10, 5] {
            let mut copy = follower(&log, 10);
            let _ =
                receive(&mut copy, &model.range((at, at), true, Said { size: 10, base, time: T + 60_000 }));
            for (from, form) in [(0, RangeForm::Follow), (0, RangeForm::Alone), (5, RangeForm::Alone)] {
                let mut next = empty(LogKind::State);
                let got = receive(&mut next, &range(&copy, from, 10, form));
                assert!(got.is_ok(), "base {base}, from {from}, {form:?}: {got:?}");
            }
        }
    }
}

#[test]
fn two_roots_at_one_size_are_a_fork_whichever_of_them_comes_first_and_however() {
    for kind in [LogKind::State, LogKind::Event] {
        let one = written(kind, (0..20).map(item), T);
        let other = written(kind, branch(12, 24), T + 1);
        for (first, second) in [(&one, &other), (&other, &one)] {
            let mut copy = follower(first, first.size());
            let before = seen(&copy);
            for (from, to) in [(0, 20), (12, 20), (15, 20), (20, 20), (14, 14), (11, 13)] {
                let evidence = evidence_of(receive(&mut copy, &range(second, from, to, RangeForm::Alone)));
                assert!((13..=20).contains(&evidence.size()));
                assert_eq!(seen(&copy), before, "what becomes of it is for its holder to decide");
                let again = Evidence::decode(evidence.as_bytes(), &mesh(), &mut budget()).unwrap();
                assert_eq!(again, evidence);
                assert_eq!(again.opening(), copy.opening());
                assert_eq!(again.log(), copy.id());
                let valid = if kind == LogKind::State { 0 } else { evidence.size() - 1 };
                assert_eq!(evidence.valid_below(), valid);
            }
            // Without peaks it does not prove, and nobody can say why.
            let follow = receive(&mut copy, &range(second, 20, 20, RangeForm::Follow));
            assert_eq!(follow, Err(ReceiveError::Unproven));
            assert_eq!(seen(&copy), before);
        }
    }
}

#[test]
fn evidence_has_the_documented_bytes_whoever_finds_it() {
    let items = |fork: u64, size: u64| branch(fork, size).collect::<Vec<_>>();
    for (fork, one_size, other_size) in
        [(12, 20, 24), (0, 1, 1), (0, 3, 9), (63, 64, 70), (64, 100, 90), (5, 7, 7)]
    {
        let log = |fork, size, at| written(LogKind::Event, items(fork, size), at);
        let (one, other) = (log(1_000, one_size, T), log(fork, other_size, T + 1));
        let model = |fork, size| plain(LogKind::Event).with(items(fork, size));
        let (plain_one, plain_other) = (model(1_000, one_size), model(fork, other_size));
        let heads = [plain_one.said(one_size, T), plain_other.said(other_size, T + 1)];
        for size in fork + 1..=one_size.min(other_size) {
            let mut ink = Ink::default();
            plain_one.evidence(&plain_other, size, heads, &mut ink);
            let decoded = Evidence::decode(&ink.bytes, &mesh(), &mut budget()).unwrap();
            assert_eq!((decoded.size(), decoded.as_bytes()), (size, &ink.bytes[..]));
            for (mine, theirs) in [(&one, &other), (&other, &one)] {
                let mut copy = follower(mine, mine.size());
                let found = evidence_of(receive(&mut copy, &range(theirs, size, size, RangeForm::Alone)));
                assert_eq!((found.size(), found.as_bytes()), (size, &ink.bytes[..]), "{size}");
            }
        }
        // At a size where the two agree it shows nothing.
        for size in 1..=fork {
            let mut ink = Ink::default();
            plain_one.evidence(&plain_other, size, heads, &mut ink);
            assert_eq!(
                Evidence::decode(&ink.bytes, &mesh(), &mut budget()),
                Err(EvidenceError::NoFork),
                "{size}"
            );
        }
    }
}

#[test]
fn a_heartbeat_or_a_smaller_head_is_no_evidence() {
    let model = plain(LogKind::State).with((0..20).map(item));
    let decode = |heads: [Said; 2], size| {
        let mut ink = Ink::default();
        model.evidence(&model, size, heads, &mut ink);
        Evidence::decode(&ink.bytes, &mesh(), &mut budget())
    };
    let (now, later) = (model.said(20, T), model.said(20, T + 1));
    assert_eq!(decode([now, later], 20), Err(EvidenceError::NoFork));
    assert_eq!(decode([now, model.said(10, T)], 10), Err(EvidenceError::NoFork));
    assert!(matches!(decode([now, now], 20), Err(EvidenceError::Opening(OpeningError::Decode(_)))));
}

#[test]
fn evidence_that_says_more_comes_first_and_joining_is_the_minimum() {
    let one = written(LogKind::Event, (0..20).map(item), T);
    let other = written(LogKind::Event, branch(12, 24), T + 1);
    let mut copy = follower(&one, 20);
    let mut all: Vec<Evidence> = (13..=20)
        .map(|at| evidence_of(receive(&mut copy, &range(&other, at, at, RangeForm::Alone))))
        .collect();
    let sizes: Vec<u64> = all.iter().map(Evidence::size).collect();
    assert_eq!(sizes, (13..=20).collect::<Vec<_>>());
    assert!(all.is_sorted());
    all.reverse();
    let least = all.iter().min().unwrap();
    for order in [&all[..], &all.iter().rev().cloned().collect::<Vec<_>>()] {
        let mut set = LogSet::new(mesh(), Limits::default());
        for evidence in order {
            set.receive_evidence(evidence.as_bytes(), time(T), &mut budget(), |_| Admission::Hold).unwrap();
        }
        assert_eq!(set.evidence(least.log()), Some(least));
    }
}

#[test]
fn a_gap_filled_from_one_branch_before_a_range_of_the_other_shows_the_fork() {
    let one = written(LogKind::Event, (0..30).map(item), T);
    let other = written(LogKind::Event, branch(12, 31), T + 1);
    let mut copy = empty(LogKind::Event);
    assert!(receive(&mut copy, &range(&other, 20, 25, RangeForm::Alone)).is_ok());
    let evidence = evidence_of(receive(&mut copy, &range(&one, 0, 22, RangeForm::Follow)));
    assert!((13..=25).contains(&evidence.size()), "{}", evidence.size());
    assert!(Evidence::decode(evidence.as_bytes(), &mesh(), &mut budget()).is_ok());
    // What is held is of one branch, and proves.
    assert!(copy.root().is_none() || copy.root() == one.root_at(copy.size()));
    if copy.size() > 0 {
        let mut next = empty(LogKind::Event);
        assert!(receive(&mut next, &range(&copy, 0, copy.size(), RangeForm::Follow)).is_ok());
    }
}

#[test]
fn a_later_head_of_another_branch_does_not_spoil_what_is_sent_from_below_a_known_fork() {
    // The set knows of a fork at 15; it holds ten events under a head of the one branch.
    let one = written(LogKind::Event, (0..20).map(item), T);
    let other = written(LogKind::Event, branch(14, 20), T + 60_000);
    let mut finder = follower(&one, 20);
    let evidence = evidence_of(receive(&mut finder, &range(&other, 15, 15, RangeForm::Alone)));
    let mut set = LogSet::new(mesh(), Limits::default());
    let id = set.open(one.opening(), |_| Admission::Hold).unwrap();
    let mut budget = VerifyBudget::new();
    set.receive(&id, &range(&one, 0, 10, RangeForm::Follow), time(T), &mut budget).unwrap();
    set.receive_evidence(evidence.as_bytes(), time(T), &mut budget, |_| Admission::Hold).unwrap();
    let _ = set.receive(&id, &range(&other, 10, 10, RangeForm::Alone), time(T), &mut budget);
    let want = Want { from: 0, to: 10, form: RangeForm::Follow };
    let Answer::Range { bytes, end: 10 } = set.answer(&id, &want, usize::MAX) else { panic!("it has them") };
    assert!(receive(&mut empty(LogKind::Event), &bytes).is_ok());
    // The rest of the valid events can still be had, from either branch.
    let rest = set.receive(&id, &range(&other, 10, 14, RangeForm::Follow), time(T), &mut budget);
    assert_eq!(rest, Ok(Received::Extended { from: 10, to: 14 }));
    assert_eq!(set.applicable(&id), Some((0, 14)));
    let want = Want { from: 0, to: 14, form: RangeForm::Follow };
    let Answer::Range { bytes, .. } = set.answer(&id, &want, usize::MAX) else { panic!("it has them") };
    assert!(receive(&mut empty(LogKind::Event), &bytes).is_ok());
}

/// The openings that differ in one thing from [`opening`], in the same mesh.
fn neighbours(kind: LogKind) -> Vec<(&'static str, LogOpening)> {
    let here = opening(kind);
    let other_kind = if kind == LogKind::State { LogKind::Event } else { LogKind::State };
    let topic = |name| Topic::new(name).unwrap();
    vec![
        ("topic", LogOpening { topic: topic("team/planninG"), ..here.clone() }),
        ("topic above", LogOpening { topic: topic("team"), ..here.clone() }),
        ("kind", LogOpening { kind: other_kind, ..here.clone() }),
        ("agent", LogOpening { agent: Keypair::from_seed([2; 32]).agent(), ..here.clone() }),
        ("incarnation", LogOpening { incarnation: Incarnation::from_u64((T << 16) + 1), ..here }),
    ]
}

#[test]
fn a_range_means_nothing_in_another_mesh_topic_kind_incarnation_or_of_another_agent() {
    for kind in [LogKind::State, LogKind::Event] {
        let log = written(kind, (0..5).map(item), T);
        let elsewhere = MeshId::from_bytes([8; 32]);
        let mut others: Vec<(&str, Log)> = neighbours(kind)
            .into_iter()
            .map(|(what, opening)| (what, Log::new(opening, &mesh()).unwrap()))
            .collect();
        others.push(("mesh", Log::new(opening(kind), &elsewhere).unwrap()));
        for (what, mut other) in others {
            let before = seen(&other);
            for (from, to) in [(0, 5), (2, 3), (5, 5)] {
                let bytes = range(&log, from, to, RangeForm::Alone);
                assert_eq!(receive(&mut other, &bytes), Err(ReceiveError::BadSignature), "{what}");
                assert_eq!(other.verify(&bytes, &mut budget()).unwrap_err(), ReceiveError::BadSignature);
            }
            assert_eq!(seen(&other), before);
        }
    }
}

#[test]
fn openings_heads_and_evidence_of_another_mesh_are_told_apart_from_changed_ones() {
    let here = opening(LogKind::State);
    let one = written(LogKind::State, (0..5).map(item), T);
    let other = written(LogKind::State, branch(2, 5), T);
    let head = one.head().unwrap();
    let mut copy = follower(&one, 5);
    let evidence = evidence_of(receive(&mut copy, &range(&other, 4, 4, RangeForm::Alone)));
    let elsewhere = MeshId::from_bytes([8; 32]);

    assert_eq!(LogOpening::decode(&here.encode(&mesh()), &mesh()), Ok(here.clone()));
    assert_eq!(LogOpening::decode(&here.encode(&mesh()), &elsewhere), Err(OpeningError::WrongMesh));
    let wrong = HeadError::Opening(OpeningError::WrongMesh);
    assert_eq!(SignedHead::decode(&head.encode(&here, &mesh()), &mesh()), Ok((here.clone(), *head)));
    assert_eq!(SignedHead::decode(&head.encode(&here, &mesh()), &elsewhere), Err(wrong));
    let mut budget = VerifyBudget::new();
    let wrong = EvidenceError::Opening(OpeningError::WrongMesh);
    assert_eq!(Evidence::decode(evidence.as_bytes(), &elsewhere, &mut budget), Err(wrong));
    let mut set = LogSet::new(elsewhere, Limits::default());
    let refused = set.receive_evidence(evidence.as_bytes(), time(T), &mut budget, |_| panic!("asked"));
    assert_eq!(refused, Err(SetError::Evidence(wrong)));
    assert_eq!(budget.checks(), 0, "no signature is checked for another mesh");

    // Said to be of this mesh, they are lies.
    assert_eq!(SignedHead::decode(&head.encode(&here, &elsewhere), &elsewhere), Err(HeadError::BadSignature));
    let mut forged = elsewhere_evidence(evidence.as_bytes(), &elsewhere);
    assert_eq!(Evidence::decode(&forged, &elsewhere, &mut budget), Err(EvidenceError::BadSignature));
    // And so are those that name another log of this mesh.
    for (what, opening) in neighbours(LogKind::State) {
        let bytes = head.encode(&opening, &mesh());
        assert_eq!(SignedHead::decode(&bytes, &mesh()), Err(HeadError::BadSignature), "{what}");
        assert!(!head.verifies(&opening.log_id(&mesh()), copy.key()), "{what}");
        assert_ne!(head.id(&opening.log_id(&mesh())), head.id(one.id()), "{what}");
        forged = evidence.as_bytes()[..1].to_vec();
        forged.extend(opening.encode(&mesh()));
        forged.extend(&evidence.as_bytes()[1 + here.encode(&mesh()).len()..]);
        assert_eq!(
            Evidence::decode(&forged, &mesh(), &mut VerifyBudget::new()),
            Err(EvidenceError::BadSignature)
        );
    }
}

/// The evidence with the tag of another mesh.
fn elsewhere_evidence(bytes: &[u8], mesh: &MeshId) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[2..10].copy_from_slice(&mesh.discovery_key().as_bytes()[..8]);
    bytes
}

#[test]
fn what_a_peer_sends_in_vain_is_paid_for_and_then_refused() {
    let other = written(LogKind::State, branch(0, 4), T);
    let mut copy = follower(&written(LogKind::State, (0..4).map(item), T), 4);
    let before = seen(&copy);
    let mut bytes = range(&other, 4, 4, RangeForm::Alone);
    let at = bytes.len() - 1;
    bytes[at] ^= 1;
    let mut budget = VerifyBudget::new();
    for _ in 0..128 {
        let got = copy.receive(&bytes, &consilience_sync::Allowance::ANY, &mut budget);
        assert_eq!(got, Err(ReceiveError::BadSignature));
    }
    for _ in 0..3 {
        let got = copy.receive(&bytes, &consilience_sync::Allowance::ANY, &mut budget);
        assert_eq!(got, Err(ReceiveError::Budget));
    }
    assert_eq!((budget.checks(), seen(&copy)), (128, before));
    budget.received(256);
    let mut whole = written(LogKind::State, (0..4).map(item), T);
    append(&mut whole, &item(4));
    whole.sign_head(&ada(), time(T + 1)).unwrap();
    let good = range(&whole, 4, 5, RangeForm::Follow);
    let got = copy.receive(&good, &consilience_sync::Allowance::ANY, &mut budget);
    assert_eq!(got, Ok(Received::Extended { from: 4, to: 5 }));
    assert_equals_plain(&copy, &plain(LogKind::State).with((0..5).map(item)));
}

#[test]
fn a_sparing_budget_is_not_spent_on_what_is_known_and_still_shows_forks() {
    let one = written(LogKind::State, (0..20).map(item), T);
    let other = written(LogKind::State, branch(12, 24), T + 1);
    let earlier = written(LogKind::State, (0..15).map(item), T - 1);
    let mut copy = follower(&one, 20);
    let before = seen(&copy);
    let mut budget = VerifyBudget::sparing();
    let any = consilience_sync::Allowance::ANY;
    for (from, to, form) in [
        (0, 15, RangeForm::Follow),
        (12, 15, RangeForm::Follow),
        (14, 15, RangeForm::Alone),
        (15, 15, RangeForm::Alone),
    ] {
        let got = copy.receive(&range(&earlier, from, to, form), &any, &mut budget);
        assert_eq!(got, Ok(Received::Nothing), "{from} to {to}, {form:?}");
    }
    assert_eq!((budget.checks(), seen(&copy)), (0, before.clone()));
    // Of another history it says the same as any budget.
    for (from, to) in [(0, 20), (12, 20), (14, 14), (11, 13)] {
        let got = copy.receive(&range(&other, from, to, RangeForm::Alone), &any, &mut budget);
        assert!((13..=20).contains(&evidence_of(got).size()), "{from} to {to}");
    }
    for (from, to) in [(15, 20), (20, 20)] {
        let got = copy.receive(&range(&other, from, to, RangeForm::Follow), &any, &mut budget);
        assert_eq!(got, Err(ReceiveError::Unproven), "{from} to {to}");
    }
    assert_eq!(seen(&copy), before);
}
