//! The logs behind the golden bytes: whose they are, what is in them, and who holds how much of them.

use consilience_sync::{
    Admission, Allowance, Citation, Closure, EntryFlags, Gone, Hash, Have, Hlc, Incarnation, Keypair, Limits,
    Log, LogId, LogKind, LogOpening, LogSet, MeshId, NewEntry, Offer, RangeForm, ReceiveError, Received,
    SignedHead, Signer, Timestamp, Topic, VerifyBudget, Want,
};

use super::{Built, built};

/// A moment in 2023, in milliseconds.
pub(crate) const T: u64 = 1_700_000_000_000;

pub(crate) fn mesh() -> MeshId {
    MeshId::from_bytes([7; 32])
}

pub(crate) fn ada() -> Keypair {
    Keypair::from_seed([1; 32])
}

pub(crate) fn opening(kind: LogKind, topic: &str, incarnation: u64) -> LogOpening {
    let (topic, incarnation) = (Topic::new(topic).unwrap(), Incarnation::from_u64(incarnation));
    LogOpening { topic, kind, agent: ada().agent(), incarnation }
}

pub(crate) fn event_opening() -> LogOpening {
    opening(LogKind::Event, "team/planning", 3)
}

pub(crate) fn state_opening() -> LogOpening {
    opening(LogKind::State, "team", 0x018b_cfe5_6800_5eed)
}

pub(crate) fn stamp(millis: u64, logical: u16) -> Hlc {
    Hlc::new(Timestamp::from_millis(millis), logical)
}

pub(crate) fn at(millis: u64) -> Hlc {
    stamp(T + millis, 0)
}

pub(crate) const fn all() -> Admission {
    Admission::Hold
}

pub(crate) fn sign(log: &mut Log, after: u64) -> SignedHead {
    log.sign_head(&ada(), Timestamp::from_millis(T + after)).unwrap()
}

pub(crate) fn receive(log: &mut Log, range: &[u8]) -> Result<Received, ReceiveError> {
    log.receive(range, &Allowance::ANY, &mut VerifyBudget::new())
}

pub(crate) fn range(log: &Log, from: u64, to: u64, form: RangeForm) -> Vec<u8> {
    let (bytes, end) = log.range(from, to, form, usize::MAX).unwrap();
    assert_eq!(end, to);
    bytes
}

/// A copy that holds the first `to` entries. Under the head of just that size, so that it knows of no later one.
pub(crate) fn follower(writer: &Log, to: u64) -> Log {
    let mut log = Log::new(writer.opening().clone(), &mesh()).unwrap();
    let kind = writer.opening().kind;
    if to > 0 {
        let signed = if kind == LogKind::Event { event_log_of(to) } else { state_log_of(to) };
        receive(&mut log, &range(&signed, 0, to, RangeForm::Follow)).unwrap();
    }
    log
}

fn cites(roots: bool) -> [Citation; 2] {
    let root = |byte| roots.then(|| Hash::from_bytes([byte; 32]));
    [
        Citation { log: [0xa0, 0, 0, 0, 0, 0, 0, 1], size: 300, root: root(0xc1) },
        Citation { log: [0xa0, 0, 0, 0, 0, 0, 0, 2], size: 7, root: root(0xc2) },
    ]
}

/// The salt of an entry here: anything, and another for each.
pub(crate) const fn salt(seq: u8) -> [u8; 4] {
    [0x5a, 0x17, 0, seq]
}

/// Appends entries, each with its salt, and signs them.
fn append_all(mut log: Log, entries: &[NewEntry<'_>]) -> Log {
    for (entry, seq) in entries.iter().zip(0..) {
        log.append(&NewEntry { salt: salt(seq), ..*entry }).unwrap();
    }
    sign(&mut log, 100 * entries.len() as u64);
    log
}

/// The first `size` entries of the event log, signed where its writer did and at the end: every way to write a stamp,
/// flags, citations, an epoch that comes and goes, and a base that rises.
pub(crate) fn event_log_of(size: u64) -> Log {
    let cites = cites(true);
    let flags = |bits| EntryFlags::new(bits).unwrap();
    let entries = [
        NewEntry::new(at(0), b"draft"),
        NewEntry::new(stamp(T, 1), b"review"),
        NewEntry::new(at(100), b"send"),
        NewEntry::new(stamp(T + 100, 7), b""),
        NewEntry::new(at(40), b"late"),
        NewEntry { epoch: 7, ..NewEntry::new(stamp(T + 40, 0xffff), b"x") },
        NewEntry { epoch: 7, ..NewEntry::new(at(41), b"y") },
        NewEntry { flags: flags(0b1010), ..NewEntry::new(stamp(T + 41, 1), b"f") },
        NewEntry { citations: &cites, ..NewEntry::new(stamp(T + 50, 3), b"answer") },
        NewEntry { base: 3, flags: flags(1), ..NewEntry::new(stamp(T + 50, 4), b"prune") },
        NewEntry { base: 3, ..NewEntry::new(stamp(T + 50, 5), b"") },
    ];
    append_all(Log::new(event_opening(), &mesh()).unwrap(), &entries[..size as usize])
}

pub(crate) fn event_log() -> Log {
    event_log_of(11)
}

/// The first `size` entries of the state log: citations without roots, closures, a final incarnation, an epoch, and a
/// base that rises to its own entry.
pub(crate) fn state_log_of(size: u64) -> Log {
    let cites = cites(false);
    let incarnation = Incarnation::from_u64;
    let closures = [(5, 1), (0x018b_cfe5_6700_0001, 70_000)];
    let closures = closures.map(|(number, below)| Closure { incarnation: incarnation(number), below });
    let entries = [
        NewEntry::new(at(0), b"a=1"),
        NewEntry { citations: &cites[..1], ..NewEntry::new(stamp(T, 1), b"b=2") },
        NewEntry::new(at(200), b"a=3"),
        NewEntry { base: 3, ..NewEntry::new(stamp(T + 200, 1), b"a=3 b=2") },
        NewEntry { base: 3, citations: &cites, ..NewEntry::new(at(300), b"c=4") },
        NewEntry { base: 3, closures: &closures[..1], ..NewEntry::new(at(301), b"") },
        NewEntry {
            base: 3,
            epoch: 2,
            citations: &cites[1..],
            closures: &closures,
            last_final: Some(state_opening().incarnation),
            ..NewEntry::new(at(302), b"secret")
        },
    ];
    append_all(Log::new(state_opening(), &mesh()).unwrap(), &entries[..size as usize])
}

pub(crate) fn state_log() -> Log {
    state_log_of(7)
}

pub(crate) fn log_forms() -> Vec<Built> {
    use RangeForm::{Alone, Follow};
    let mesh = mesh();
    let key = |log: &Log, context| blake3::derive_key(context, log.id().as_bytes()).to_vec();
    let (event, state) = (event_log(), state_log());
    let levels = [&["t"; 63][..], &["é"]].concat();
    let longest = opening(LogKind::State, &levels.join("/"), u64::MAX);
    assert_eq!(longest.topic.as_str().len(), 128);
    let mut forms = vec![
        built(
            "discovery_key",
            "Of the mesh 07*32. All keys and hashes here are of that mesh.",
            *mesh.discovery_key().as_bytes(),
        ),
        built("agent", "The public key of Ada, whose seed is 01*32.", *ada().agent().as_bytes()),
        built(
            "opening_event",
            "Ada's events in team/planning, incarnation 3.",
            event.opening().encode(&mesh),
        ),
        built("opening_state", "Her state in team.", state.opening().encode(&mesh)),
        built(
            "opening_longest",
            "A topic of 128 bytes in 64 levels, the last incarnation.",
            longest.encode(&mesh),
        ),
        built("id_event", "The ids of these logs.", *event.id().as_bytes()),
        built("id_state", "", *state.id().as_bytes()),
        built("id_longest", "", *longest.log_id(&mesh).as_bytes()),
        built("key_leaf", "The four keys of the event log.", key(&event, "consilience log leaf v2")),
        built("key_node", "", key(&event, "consilience log node v2")),
        built("key_payload", "", key(&event, "consilience log payload v2")),
        built("key_extension", "", key(&event, "consilience log extension v2")),
        built(
            "leaf_0",
            "Its first leaf, one with an epoch, the one with citations, and its roots at 1, 3 and 11.",
            *event.leaf(0).unwrap().as_bytes(),
        ),
        built("leaf_5", "", *event.leaf(5).unwrap().as_bytes()),
        built("leaf_8", "", *event.leaf(8).unwrap().as_bytes()),
        built("root_1", "", *event.root_at(1).unwrap().as_bytes()),
        built("root_3", "", *event.root_at(3).unwrap().as_bytes()),
        built("root_11", "", *event.root_at(11).unwrap().as_bytes()),
        built("leaf_state_6", "The leaf with closures.", *state.leaf(6).unwrap().as_bytes()),
    ];
    let head = |log: &Log| log.head().unwrap().encode(log.opening(), &mesh);
    let mut heartbeat = event_log();
    sign(&mut heartbeat, 60_000);
    forms.extend([
        built("head_event", "The head of the event log at size 11.", head(&event)),
        built("head_event_1", "At size 1.", head(&event_log_of(1))),
        built("head_heartbeat", "At size 11 again, a minute later.", head(&heartbeat)),
        built("head_state", "The head of the state log, with a base.", head(&state)),
    ]);
    let mut erased = event_log();
    erased.erase(1).unwrap();
    erased.erase(8).unwrap();
    forms.extend([
        built("range_event_whole", "All events, from nothing: kind 0x20.", range(&event, 0, 11, Follow)),
        built(
            "range_event_first",
            "The first, under the head of size 1.",
            range(&event_log_of(1), 0, 1, Follow),
        ),
        built("range_event_tip", "The last, for who holds those before.", range(&event, 10, 11, Follow)),
        built(
            "range_event_cites",
            "The one with citations, with peaks of 8 behind nothing.",
            range(&event_log_of(9), 8, 9, Alone),
        ),
        built(
            "range_event_erased",
            "All events without the payloads of 1 and 8.",
            range(&erased, 0, 11, Follow),
        ),
        built(
            "range_event_heartbeat",
            "A heartbeat: the head a minute later, for who holds all.",
            range(&heartbeat, 11, 11, Follow),
        ),
        built("range_event_root", "The same, with the peaks of 11.", range(&heartbeat, 11, 11, Alone)),
        built(
            "range_event_middle",
            "Events 4 to 6 under the head at 11: kind 0x22.",
            range(&event, 4, 7, Follow),
        ),
        built("range_event_head", "The head alone, for who holds 4 events.", range(&event, 4, 4, Follow)),
        built(
            "range_event_head_for_nobody",
            "The head alone, for who holds nothing: the root is the cover.",
            range(&event, 0, 0, Follow),
        ),
        built(
            "range_event_end",
            "Events 9 and 10 with the peaks of 9: kind 0x21. The base is written from 0.",
            range(&event, 9, 11, Alone),
        ),
        built("range_event_sparse", "A sparse read of event 4: kind 0x23.", range(&event, 4, 5, Alone)),
        built(
            "range_event_consistency",
            "No events, with peaks of 7: 11 is consistent with 7.",
            range(&event, 7, 7, Alone),
        ),
        built("range_state_whole", "All of the state log.", range(&state, 0, 7, Follow)),
        built(
            "range_state_jump",
            "What is left of it above its base, for anybody.",
            range(&state, 3, 7, Alone),
        ),
        built("range_state_cut", "The same, cut before the end.", range(&state, 3, 4, Alone)),
        built(
            "range_state_closures",
            "Its last entry: an epoch, citations, closures, and the final incarnation.",
            range(&state, 6, 7, Alone),
        ),
    ]);
    let mut extremes = Log::new(opening(LogKind::Event, "x", 0), &mesh).unwrap();
    for (hlc, payload) in [
        (Hlc::from_bits(1), &b""[..]),
        (Hlc::MAX, b""),
        (Hlc::MAX, b""),
        (Hlc::ZERO, b""),
        (stamp(0, 0xffff), b""),
        (stamp((1 << 48) - 1, 0), &[b'p'; 62 << 10]),
    ] {
        extremes.append(&NewEntry { salt: [0xff; 4], ..NewEntry::new(hlc, payload) }).unwrap();
    }
    extremes.sign_head(&ada(), Timestamp::MAX).unwrap();
    forms.push(built(
        "range_extremes",
        "Stamps from one end to the other, the longest payload, the last time. Topic x, incarnation 0.",
        range(&extremes, 0, 6, Follow),
    ));
    let (all, mid) = (1 << 44, 1 << 20);
    forms.extend([
        built("have_nothing", "Who has what.", Have { start: 0, size: 0, base: 0 }.encode()),
        built("have_some", "", Have { start: 3, size: 300, base: 4 }.encode()),
        built("have_all", "", Have { start: 0, size: all, base: all - 1 }.encode()),
        built("want_all", "Who wants what.", Want { from: 0, to: all, form: Follow }.encode()),
        built("want_alone", "", Want { from: mid, to: mid + 1, form: Alone }.encode()),
        built("want_proof", "", Want { from: 200, to: 200, form: Alone }.encode()),
        built("gone", "What is gone.", Gone { below: 3 }.encode()),
        built("gone_all", "", Gone { below: all }.encode()),
    ]);
    forms.extend(heads_and_offers());
    forms
}

/// A copy that has nothing yet of the log in the vector of extremes.
pub(crate) fn extremes_follower() -> Log {
    Log::new(opening(LogKind::Event, "x", 0), &mesh()).unwrap()
}

/// A set that holds the event log, the state log and a forked log of letters, and the id of the last.
pub(crate) fn heads() -> (LogSet, LogId) {
    let mut set = LogSet::new(mesh(), Limits::default());
    let whole = letters(LogKind::Event, "abcde", "FGHI", 10);
    for log in [&event_log(), &state_log(), &whole] {
        let id = set.open(log.opening(), |_| all()).unwrap();
        let bytes = range(log, 0, log.size(), RangeForm::Follow);
        set.receive(&id, &bytes, at(0).time(), &mut VerifyBudget::new()).unwrap();
    }
    let forked = found(&whole, &letters(LogKind::Event, "abcde", "fg", 20), 6, 6);
    let new = set.receive_evidence(&forked, at(0).time(), &mut VerifyBudget::new(), |_| all());
    assert_eq!(new, Ok(true));
    (set, *whole.id())
}

/// What `docs/wire/logset.md` has hashed for the id of a log's head, and the key that orders it.
pub(crate) fn head_form(set: &LogSet, log: &LogId) -> (Vec<u8>, Vec<u8>) {
    let held = set.log(log).unwrap();
    let evidence = set.evidence(log);
    let size = evidence.map_or(held.size(), |evidence| evidence.size() - 1);
    let mut material = [&log.as_bytes()[..], &size.to_le_bytes()].concat();
    material.extend_from_slice(held.root_at(size).unwrap().as_bytes());
    material.extend(evidence.iter().flat_map(|evidence| *blake3::hash(evidence.as_bytes()).as_bytes()));
    let topic = held.opening().topic.as_str().replace('/', "\0");
    (material, [topic.as_bytes(), &[0, 0], log.as_bytes()].concat())
}

fn heads_and_offers() -> Vec<Built> {
    let mesh = mesh();
    let (mut set, forked) = heads();
    let key = blake3::derive_key("consilience head id v1", mesh.as_bytes());
    let id = |material: &[u8]| *blake3::keyed_hash(&key, material).as_bytes();
    let (event, state) = (*event_log().id(), *state_log().id());
    let forms = [event, state, forked].map(|log| head_form(&set, &log));
    let nothing = Offer { log: event, start: 0, size: 0, root: [0; 8], facts: None };
    let last = Offer { start: 1 << 44, size: 1 << 44, root: [0xff; 8], facts: Some([0xff; 8]), ..nothing };
    let offer = |log: &LogId| set.offer(log).unwrap().encode();
    let offers = [offer(&event), offer(&state), offer(&forked)];
    vec![
        built(
            "heads_set_key",
            "The heads of a set with the event log, the state log and a forked log of letters.",
            blake3::derive_key("consilience heads set v1", mesh.as_bytes()),
        ),
        built("heads_key", "", key),
        built("heads_order_event", "Their order keys.", &*forms[0].1),
        built("heads_order_state", "", &*forms[1].1),
        built("heads_order_forked", "", &*forms[2].1),
        built("heads_hashed_event", "What is hashed for their ids, and the ids.", &*forms[0].0),
        built("heads_hashed_state", "", &*forms[1].0),
        built("heads_hashed_forked", "", &*forms[2].0),
        built("heads_id_event", "", id(&forms[0].0)),
        built("heads_id_state", "", id(&forms[1].0)),
        built("heads_id_forked", "", id(&forms[2].0)),
        built("heads_root", "The root over the three.", set.heads_root()),
        built(
            "offer_event",
            "What the set offers of each; nothing of a log; the greatest numbers.",
            &*offers[0],
        ),
        built("offer_state", "", &*offers[1]),
        built("offer_forked", "", &*offers[2]),
        built("offer_nothing", "", nothing.encode()),
        built("offer_last", "", last.encode()),
    ]
}

/// A log of single letters: `common`, then `own`, signed at the end; and, if `early`, before `own` too.
pub(crate) fn letters(kind: LogKind, common: &str, own: &str, after: u64) -> Log {
    let mut log = Log::new(opening(kind, "letters", 1), &mesh()).unwrap();
    for (letter, place) in common.bytes().chain(own.bytes()).zip(0..) {
        log.append(&NewEntry::new(at(place), &[letter])).unwrap();
    }
    sign(&mut log, after);
    log
}

/// What a copy of `held` finds when it is shown `[from, to)` of `shown`.
pub(crate) fn found(held: &Log, shown: &Log, from: u64, to: u64) -> Vec<u8> {
    let mut log = Log::new(held.opening().clone(), &mesh()).unwrap();
    receive(&mut log, &range(held, 0, held.size(), RangeForm::Follow)).unwrap();
    match receive(&mut log, &range(shown, from, to, RangeForm::Alone)) {
        Ok(Received::Forked(evidence)) => evidence.as_bytes().to_vec(),
        other => panic!("not a fork: {other:?}"),
    }
}

pub(crate) fn evidence() -> Vec<Built> {
    use LogKind::{Event, State};
    let both = |one: &Log, other: &Log, size: u64| {
        let evidence = found(one, other, size, size);
        assert_eq!(evidence, found(other, one, size, size), "whoever finds it");
        evidence
    };
    let whole = (letters(Event, "abcde", "F", 10), letters(Event, "abcde", "f", 20));
    let above = (letters(Event, "abcde", "FGHI", 10), letters(Event, "abcde", "fg", 20));
    let state = (letters(State, "", "A", 10), letters(State, "", "b", 10));
    vec![
        built(
            "evidence_whole_whole",
            "Two heads of size 6 with different roots.",
            both(&whole.0, &whole.1, 6),
        ),
        built(
            "evidence_whole_above",
            "A head of size 6, and one of size 9 with another root at 6.",
            both(&above.0, &whole.1, 6),
        ),
        built(
            "evidence_above_above",
            "Heads of size 9 and 7 with different roots at 6. Both have the peak of the first 4.",
            both(&above.0, &above.1, 6),
        ),
        built("evidence_state", "A state log, forked at its first entry.", both(&state.0, &state.1, 1)),
    ]
}
