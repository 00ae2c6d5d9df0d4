//! All targets as functions of bytes, so that they run under libFuzzer and, on stable Rust, without it.

use std::cell::RefCell;
use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use consilience_crdts::{LwwMap, OrSet};
use consilience_sync::{LogKind, Offer};

use crate::decoding::{self, populated};
use crate::fixup;
use crate::offers::{Held, held, plan};
use crate::reconcile::{Scene, messages, scenes};
use crate::{
    context, conversation, coupling, evidence, opening, range, reconcile, replicas, session, trace, whole,
};

/// A history that bytes are, as a text; none if they are too few.
pub type Show = fn(&[u8]) -> Option<String>;

/// A target: its name, what it does with an input, and how a history reads that is read from the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub show: Option<Show>,
}

const fn bytes(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run, show: None }
}

macro_rules! history {
    ($name:literal, $history:ty, $run:expr) => {
        Target {
            name: $name,
            run: |bytes| {
                if let Some(history) = read::<$history>(bytes) {
                    $run(&history);
                }
            },
            show: Some(|bytes| read::<$history>(bytes).map(|history| format!("{history:#?}"))),
        }
    };
}

/// All targets.
pub const TARGETS: [Target; 16] = [
    bytes("decode_map", decode_map),
    bytes("decode_set", decode_set),
    bytes("decode_context", decode_context),
    bytes("decode_coupling", decode_coupling),
    bytes("decode_range", decode_range),
    bytes("decode_evidence", decode_evidence),
    bytes("decode_head_opening", decode_head_opening),
    bytes("decode_message", decode_message),
    bytes("decode_offer", decode_offer),
    history!("merge_trace", Vec<trace::Step>, |steps: &Vec<trace::Step>| merge_trace(steps)),
    history!("log_session", session::Session, session::run),
    history!("reconcile_session", reconcile::Session, reconcile::run),
    history!("decode_payload", replicas::Scene, replicas::hostile),
    history!("recover_journal", replicas::Storage, replicas::storage),
    history!("replica", Vec<whole::Step>, |steps: &Vec<whole::Step>| whole::run(steps)),
    history!("session_input", conversation::Conversation, conversation::run),
];

/// Reads a history from bytes, as libFuzzer's macro does; bytes that are too few for one are none.
fn read<'a, T: Arbitrary<'a>>(bytes: &'a [u8]) -> Option<T> {
    if bytes.len() < T::size_hint(0).0 {
        return None;
    }
    T::arbitrary_take_rest(Unstructured::new(bytes)).ok()
}

static MAP: LazyLock<LwwMap> = LazyLock::new(populated);
static SET: LazyLock<OrSet> = LazyLock::new(populated);
static HELD: LazyLock<Held> = LazyLock::new(held);

thread_local! {
    static SCENES: RefCell<Vec<Scene>> = RefCell::new(scenes());
}

/// Any bytes as a map or a delta of one: see [`decoding`].
pub fn decode_map(bytes: &[u8]) {
    decoding::check(&*MAP, bytes);
}

/// Any bytes as a set or a delta of one: see [`decoding`].
pub fn decode_set(bytes: &[u8]) {
    decoding::check(&*SET, bytes);
}

/// Any bytes as a causal context.
pub fn decode_context(bytes: &[u8]) {
    context::check(bytes);
}

/// Any bytes as a coupling, a delta of one, or a schema.
pub fn decode_coupling(bytes: &[u8]) {
    coupling::check(bytes);
}

/// Any bytes as a range of a log; a proof once more with the writer's signature.
pub fn decode_range(bytes: &[u8]) {
    range::check(bytes);
    for kind in [LogKind::Event, LogKind::State] {
        signed(bytes, fixup::proof(bytes, kind), range::check);
    }
}

/// Any bytes as evidence of a fork; once more with the writer's signatures.
pub fn decode_evidence(bytes: &[u8]) {
    evidence::check(bytes);
    signed(bytes, fixup::evidence(bytes), evidence::check);
}

/// Any bytes as what opens a log, as a head, and as one of the small messages; a head once more with the writer's signature.
pub fn decode_head_opening(bytes: &[u8]) {
    opening::check(bytes);
    signed(bytes, fixup::head(bytes), opening::check);
}

/// Checks an input once more where signing it makes another one.
fn signed(bytes: &[u8], fixed: Option<Vec<u8>>, check: fn(&[u8])) {
    if let Some(fixed) = fixed.filter(|fixed| fixed != bytes) {
        check(&fixed);
    }
}

/// Any bytes as messages to one side of a reconciliation in each of its phases, and as the state of one.
pub fn decode_message(bytes: &[u8]) {
    let messages = messages(bytes);
    SCENES.with_borrow_mut(|scenes| {
        for scene in scenes {
            scene.receive(&messages);
            scene.restore(bytes);
        }
    });
}

/// Any bytes as offers, alone and behind their lengths, and plans of a set that holds the logs they are about.
pub fn decode_offer(bytes: &[u8]) {
    let decode = |bytes: &[u8]| {
        let offer = Offer::decode(bytes).ok()?;
        assert_eq!(offer.encode(), bytes, "one form only");
        Some(offer)
    };
    let offers: Vec<Offer> =
        decode(bytes).into_iter().chain(messages(bytes).into_iter().filter_map(decode)).collect();
    plan(&HELD, &offers);
}

/// Histories over three replicas of a map and of a set: see [`trace`].
pub fn merge_trace(steps: &[trace::Step]) {
    trace::run::<LwwMap>(steps);
    trace::run::<OrSet>(steps);
}
