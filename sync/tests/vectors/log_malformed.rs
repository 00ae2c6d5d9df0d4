//! Bytes with one fault each, made from the golden ones. A name is the form or the copy that is given the bytes, the
//! error, and what is wrong.

use consilience_sync::{Have, Log, LogKind, NewEntry, Offer, RangeForm, Signer as _, SigningTag, Want};
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::{Digest as _, Sha512, SigningKey};

use super::scenes::{
    T, ada, at, event_log, event_log_of, event_opening, letters, mesh, range, sign, state_log_of,
    state_opening,
};
use super::{Built, built, varint};

/// The salt of entries whose salt does not matter.
const SALT: [u8; 4] = [0; 4];

/// Bytes that are put together.
#[derive(Clone, Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn num(mut self, number: u64) -> Self {
        varint(&mut self.0, number);
        self
    }
}

fn bytes(first: &[u8]) -> Bytes {
    Bytes::default().raw(first)
}

/// These bytes with others in one place.
fn with(bytes: &[u8], at: usize, new: &[u8]) -> Vec<u8> {
    [&bytes[..at], new, &bytes[at + new.len()..]].concat()
}

/// These bytes with `new` in place of `len` bytes.
fn instead(bytes: &[u8], at: usize, len: usize, new: &[u8]) -> Vec<u8> {
    [&bytes[..at], new, &bytes[at + len..]].concat()
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    with(bytes, at, &[bytes[at] ^ 1])
}

/// The order of the base point, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// The same signature with the order added to its second half.
fn unreduced(signature: &[u8; 64]) -> [u8; 64] {
    let mut long = *signature;
    let mut carry = 0;
    for (byte, more) in long[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(more) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    long
}

/// A signature by Ada whose first half has a part of small order: right for whoever multiplies by the cofactor, and
/// for some batches.
fn torsioned(message: &[u8]) -> [u8; 64] {
    let key = SigningKey::from_bytes(&[1; 32]);
    let nonce = Scalar::from(7_u64);
    let point = (ED25519_BASEPOINT_POINT * nonce + EIGHT_TORSION[1]).compress();
    let hash = Sha512::new().chain_update(point.as_bytes()).chain_update(key.verifying_key().as_bytes());
    let hash = Scalar::from_bytes_mod_order_wide(&hash.chain_update(message).finalize().into());
    let second = nonce + hash * key.to_scalar();
    [*point.as_bytes(), *second.as_bytes()].concat().try_into().unwrap()
}

/// A signature whose first half is the neutral element.
fn small_order(message: &[u8]) -> [u8; 64] {
    let key = SigningKey::from_bytes(&[1; 32]);
    let point = EIGHT_TORSION[0].compress();
    let hash = Sha512::new().chain_update(point.as_bytes()).chain_update(key.verifying_key().as_bytes());
    let hash = Scalar::from_bytes_mod_order_wide(&hash.chain_update(message).finalize().into());
    [*point.as_bytes(), *(hash * key.to_scalar()).as_bytes()].concat().try_into().unwrap()
}

const MIXED_COMMENT: &str = "Keys: 32 bytes that are admitted or not.";

pub(crate) fn malformed() -> Vec<Built> {
    let mut vectors = vec![];
    openings(&mut vectors);
    keys(&mut vectors);
    heads(&mut vectors);
    entries(&mut vectors);
    extensions(&mut vectors);
    ranges(&mut vectors);
    evidence(&mut vectors);
    messages(&mut vectors);
    vectors
}

fn openings(vectors: &mut Vec<Built>) {
    let sound = event_opening().encode(&mesh());
    let levels = |levels: &[&[u8]]| {
        let spelt = levels.iter().flat_map(|level| [&[0, level.len() as u8][..], *level].concat());
        bytes(&sound[..53]).raw(&[levels.len() as u8]).raw(&spelt.collect::<Vec<_>>()).0
    };
    let last = sound.len() - b"planning".len() - 1;
    assert_eq!((sound[53], sound[54], sound[55], sound[last]), (2, 0, 4, 8));
    vectors.extend([
        built(
            "opening Ok sound",
            "Openings. Entries named Ok are the sound forms that the others are made from.",
            sound.clone(),
        ),
        built("opening Truncated nothing", "", []),
        built("opening Kind unknown_kind", "", with(&sound, 0, &[0x27])),
        built("opening WrongMesh other_mesh", "", flipped(&sound, 3)),
        built("opening Suite no_suite", "", with(&sound, 9, &[0])),
        built("opening Suite unknown_suite", "", with(&sound, 9, &[2])),
        built("opening Suite nothing_after_an_unknown_suite", "", [&sound[..9], &[0xff]].concat()),
        built("opening Kind unknown_kind_of_log", "", with(&sound, 10, &[2])),
        built("opening Form unknown_form_of_writer", "", with(&sound, 11, &[1])),
        built("opening Form unknown_form_of_grant", "", with(&sound, 12, &[1])),
        built("opening Form unknown_form_of_level", "", with(&sound, 54, &[1])),
        built("opening Truncated cut_in_the_key", "", &sound[..40]),
        built("opening Truncated fewer_levels_than_it_says", "", with(&sound, 53, &[3])),
        built("opening Trailing more_levels_than_it_says", "", with(&sound, 53, &[1])),
        built("opening Truncated level_beyond_the_end", "", with(&sound, last, &[9])),
        built("opening Trailing byte_behind_the_topic", "", with(&sound, last, &[7])),
        built("opening NotCanonical topic_without_levels", "", levels(&[])),
        built("opening NotCanonical topic_of_129_bytes", "", levels(&[&[b't'; 129]])),
        built(
            "opening NotCanonical topic_of_129_bytes_in_two_levels",
            "",
            levels(&[&[b't'; 64], &[b't'; 64]]),
        ),
        built("opening NotCanonical topic_of_255_levels", "", levels(&[&b"t"[..]; 255])),
        built("opening NotCanonical topic_not_utf8", "", levels(&[b"team\xc3"])),
        built("opening NotCanonical topic_of_one_letter_in_two_levels", "", levels(&[b"\xc3", b"\xa9"])),
        built("opening NotCanonical topic_over_long_utf8", "", levels(&[b"team\xc0\xaf"])),
        built("opening NotCanonical topic_with_a_control_character", "", levels(&[b"team\n"])),
        built("opening NotCanonical topic_with_7f", "", levels(&[b"team\x7f"])),
        built("opening NotCanonical topic_with_a_slash_in_a_level", "", levels(&[b"team/planning"])),
        built("opening NotCanonical topic_with_an_empty_level", "", levels(&[b"team", b"", b"planning"])),
        built("opening NotCanonical topic_with_a_star", "", levels(&[b"team", b"*"])),
    ]);
}

/// A key with a part of small order: Ada's with a point of order 8 added.
fn mixed_order() -> [u8; 32] {
    let key = SigningKey::from_bytes(&[1; 32]);
    (key.verifying_key().to_edwards() + EIGHT_TORSION[1]).compress().to_bytes()
}

fn keys(vectors: &mut Vec<Built>) {
    let ada = *ada().agent().as_bytes();
    let mut prime_and_one = [0xff; 32];
    (prime_and_one[0], prime_and_one[31]) = (0xee, 0x7f);
    let mut no_point = [0; 32];
    no_point[0] = 2;
    let mut negative_zero = [0; 32];
    (negative_zero[0], negative_zero[31]) = (1, 0x80);
    vectors.extend([
        built("key Ok sound", MIXED_COMMENT, ada),
        built("key NotAPoint no_point_has_this_y", "", no_point),
        built("key NotCanonical y_of_p_and_1", "", prime_and_one),
        built("key NotCanonical negative_zero", "", negative_zero),
        built("key SmallOrder neutral_element", "", EIGHT_TORSION[0].compress().to_bytes()),
        built("key SmallOrder order_8", "", EIGHT_TORSION[1].compress().to_bytes()),
        built("key SmallOrder order_2", "", EIGHT_TORSION[4].compress().to_bytes()),
        built("key MixedOrder ada_and_order_8", "", mixed_order()),
    ]);
}

fn heads(vectors: &mut Vec<Built>) {
    let log = event_log();
    let (head, opening) = (*log.head().unwrap(), log.opening());
    let sound = head.encode(opening, &mesh());
    // The size is one byte behind the opening, then the base, the time in 6, the root and the signature.
    let at_size = 1 + opening.encode(&mesh()).len();
    let (at_base, at_time, at_root) = (at_size + 1, at_size + 2, at_size + 8);
    let at_signature = at_root + 32;
    assert_eq!((sound[at_size], sound[at_base], sound.len()), (11, 3, at_signature + 64));
    let message = [
        &SigningTag::Head.as_bytes()[..],
        log.id().as_bytes(),
        &11_u64.to_le_bytes(),
        &3_u64.to_le_bytes(),
        &head.time.as_millis().to_le_bytes(),
        head.root.as_bytes(),
    ]
    .concat();
    let signed = |signature: &[u8; 64]| with(&sound, at_signature, signature);
    vectors.extend([
        built("head Ok sound", "Heads.", sound.clone()),
        built("head Kind unknown_kind", "", with(&sound, 0, &[0x2b])),
        built("head Kind another_form_within", "", with(&sound, 1, &[0x29])),
        built("head Suite of_a_log_of_an_unknown_suite", "", with(&sound, 10, &[2])),
        built("head WrongMesh other_mesh", "", flipped(&sound, 2)),
        built("head Truncated cut_in_the_root", "", &sound[..at_root + 31]),
        built("head Truncated cut_in_the_signature", "", &sound[..sound.len() - 1]),
        built("head Trailing byte_behind_the_signature", "", [&sound[..], &[0]].concat()),
        built("head Varint over_long_size", "", instead(&sound, at_size, 1, &[0x8b, 0])),
        built(
            "head Varint size_beyond_64_bits",
            "",
            instead(&sound, at_size, 1, &[&[0xff; 9][..], &[2]].concat()),
        ),
        built(
            "head Limit size_beyond_the_limit",
            "",
            instead(&sound, at_size, 1, &bytes(&[]).num((1 << 44) + 1).0),
        ),
        built("head Base size_0", "", with(&sound, at_size, &[0, 0])),
        built("head Base base_at_the_size", "", with(&sound, at_base, &[11])),
        built("head Limit time_beyond_48_bits", "", instead(&sound, at_time, 6, &bytes(&[]).num(1 << 48).0)),
        built("head BadSignature another_size", "", with(&sound, at_size, &[12])),
        built("head BadSignature another_base", "", with(&sound, at_base, &[2])),
        built("head BadSignature another_time", "", flipped(&sound, at_time)),
        built("head BadSignature another_root", "", flipped(&sound, at_root + 31)),
        built("head BadSignature another_kind_of_log", "", with(&sound, 11, &[0])),
        built("head BadSignature another_incarnation", "", with(&sound, 46, &[4])),
        built("head BadSignature another_topic", "", with(&sound, 57, b"T")),
        built("head BadSignature second_half_not_reduced", "", signed(&unreduced(head.signature.as_bytes()))),
        built("head BadSignature first_half_of_small_order", "", signed(&small_order(&message))),
        built("head BadSignature first_half_of_mixed_order", "", signed(&torsioned(&message))),
        built(
            "head SmallOrder key_of_small_order",
            "",
            with(&sound, 14, &EIGHT_TORSION[1].compress().to_bytes()),
        ),
        built("head MixedOrder key_of_mixed_order", "", with(&sound, 14, &mixed_order())),
    ]);
}

/// Ranges from nothing whose entries are wrong. The rest of them is there in length only: entries are read first, but
/// no signature can be right.
fn entries(vectors: &mut Vec<Built>) {
    let entries =
        |count: u64, entries: Bytes| bytes(&[0x20, 0]).num(count).raw(&entries.0).num(0).raw(&[0; 64]).0;
    // Header: payload length × 8, form of the stamp × 2, whether an extra byte follows. A salt of zeros.
    let first = || bytes(&[3 << 3 | 1 << 1]).num(T).raw(&SALT).raw(b"abc");
    let raw = |bits: u64| bytes(&[3 << 1]).raw(&bits.to_le_bytes()).raw(&SALT);
    vectors.extend([
        built(
            "event BadSignature one_entry",
            "Entries, in ranges without a right signature: those that are sound are BadSignature.",
            entries(1, first()),
        ),
        built(
            "event Limit payload_beyond_the_limit",
            "",
            entries(1, bytes(&[]).num(((62 << 10) + 1) << 3 | 1 << 1).num(T).raw(&vec![0; (62 << 10) + 5])),
        ),
        built("event Limit payload_length_beyond_32_bits", "", entries(1, bytes(&[]).num(1 << 35))),
        built(
            "event Truncated payload_beyond_the_end",
            "",
            entries(1, bytes(&[]).num(200 << 3 | 1 << 1).num(T)),
        ),
        built("event NotCanonical extra_byte_of_0", "", entries(1, bytes(&[1 << 1 | 1, 0]).num(T))),
        built("event Truncated extra_byte_missing", "", bytes(&[0x20, 0, 1, 3]).0),
        built("event NotCanonical base_that_rises_by_0", "", entries(2, first().raw(&[1, 1, 0]).raw(&SALT))),
        built("event Base base_above_its_entry", "", entries(2, first().raw(&[1, 1, 2]).raw(&SALT))),
        built(
            "event Base base_beyond_64_bits",
            "",
            entries(3, first().raw(&[1, 1, 1]).raw(&SALT).raw(&[1, 1]).num(u64::MAX).raw(&SALT)),
        ),
        built("event BadSignature base_at_its_entry", "", entries(2, first().raw(&[1, 1, 1]).raw(&SALT))),
        built(
            "event NotCanonical stamp_0_ms_later",
            "Stamps. Forms: 0 next, 1 milliseconds, 2 both, 3 all bits.",
            entries(2, first().raw(&[1 << 1, 0])),
        ),
        built("event NotCanonical stamp_next_spelt_as_both", "", entries(2, first().raw(&[2 << 1, 0, 1]))),
        built(
            "event NotCanonical stamp_of_milliseconds_spelt_as_both",
            "",
            entries(2, first().raw(&[2 << 1, 1, 0])),
        ),
        built(
            "event NotCanonical stamp_that_is_the_last_spelt_as_both",
            "",
            entries(2, first().raw(&[2 << 1, 0, 0])),
        ),
        built(
            "event NotCanonical stamp_that_rises_spelt_as_bits",
            "",
            entries(2, first().raw(&raw((T << 16) + 5).0)),
        ),
        built("event NotCanonical stamp_next_spelt_as_bits", "", entries(1, raw(1))),
        built("event BadSignature stamp_0_behind_nothing", "", entries(1, raw(0))),
        built(
            "event NotCanonical stamp_next_carries",
            "",
            entries(2, bytes(&[2 << 1, 1]).num(0xffff).raw(&SALT).raw(&[0])),
        ),
        built(
            "event NotCanonical stamp_next_of_the_last",
            "",
            entries(2, bytes(&[2 << 1]).num((1 << 48) - 1).num(0xffff).raw(&SALT).raw(&[0])),
        ),
        built(
            "event NotCanonical stamp_milliseconds_beyond_48_bits",
            "",
            entries(2, first().raw(&[1 << 1]).num((1 << 48) - T)),
        ),
        built(
            "event NotCanonical stamp_milliseconds_beyond_64_bits",
            "",
            entries(2, first().raw(&[1 << 1]).num(u64::MAX)),
        ),
        built(
            "event NotCanonical stamp_counter_beyond_16_bits",
            "",
            entries(2, first().raw(&[2 << 1, 0]).num(1 << 16)),
        ),
        built("event Varint stamp_over_long", "", entries(2, first().raw(&[1 << 1, 0x81, 0]))),
        built(
            "event BadSignature erased_payload",
            "Erased payloads.",
            entries(1, bytes(&[5 << 3 | 1 << 1 | 1, 4]).num(T).raw(&[0xaa; 32])),
        ),
        built(
            "state NotCanonical erased_payload",
            "",
            entries(1, bytes(&[5 << 3 | 1 << 1 | 1, 4]).num(T).raw(&[0xaa; 32])),
        ),
        built(
            "event Truncated erased_payload_without_its_hash",
            "",
            bytes(&[0x20, 0, 1, 5 << 3 | 1 << 1 | 1, 4]).num(T).raw(&[0xaa; 31]).0,
        ),
    ]);
}

/// As [`entries`], of entries with an epoch or an extension.
fn extensions(vectors: &mut Vec<Built>) {
    let entry = |header: Bytes| bytes(&[0x20, 0, 1]).raw(&header.0).raw(&SALT).num(0).raw(&[0; 64]).0;
    let two = |header: Bytes| {
        let first = bytes(&[0x20, 0, 2, 1, 8, 7, 0, 0, 0]).raw(&SALT);
        first.raw(&header.0).raw(&SALT).num(0).raw(&[0; 64]).0
    };
    let epoch = |epoch: u32| bytes(&[1, 8]).raw(&epoch.to_le_bytes());
    let extended = |fields: &[Vec<u8>]| {
        let fields = fields.concat();
        entry(bytes(&[1, 2]).num(fields.len() as u64).raw(&fields))
    };
    let field = |kind: u8, content: &[u8]| bytes(&[kind]).num(content.len() as u64).raw(content).0;
    let alias = |last: u8| [0, 0, 0, 0, 0, 0, 0, last];
    let cite = |last: u8, size: u64| bytes(&alias(last)).num(size).raw(&[9; 32]).0;
    let plain = |last: u8, size: u64| bytes(&alias(last)).num(size).0;
    let cited = |cites: &[Vec<u8>]| extended(&[field(1, &cites.concat())]);
    let close = |incarnation: u64, below: u64| bytes(&incarnation.to_le_bytes()).num(below).0;
    let closed = |closures: &[Vec<u8>]| extended(&[field(2, &closures.concat())]);
    let last_final = |incarnation: u64| extended(&[field(3, &incarnation.to_le_bytes())]);
    let own = state_opening().incarnation.as_u64();
    let full = |payload: u64| {
        let header = bytes(&[]).num(payload << 3 | 1).raw(&[2, 43]).raw(&field(1, &cite(1, 5)));
        bytes(&[0x20, 0, 1]).raw(&header.0).raw(&SALT).raw(&vec![0; payload as usize]).num(0).raw(&[0; 64]).0
    };
    let most = (62 << 10) - 43;
    vectors.extend([
        built("event BadSignature epoch_1", "Epochs.", entry(epoch(1))),
        built("event NotCanonical epoch_0_behind_nothing", "", entry(epoch(0))),
        built("event BadSignature epoch_0_behind_another", "", two(epoch(0))),
        built("event BadSignature epoch_that_goes_on", "", two(bytes(&[0]))),
        built("event NotCanonical epoch_that_goes_on_written_again", "", two(epoch(7))),
        built("event Truncated epoch_cut", "", [0x20, 0, 1, 1, 8, 1, 0, 0]),
        built(
            "event BadSignature extension_of_fields_that_are_not_known",
            "Extensions.",
            extended(&[field(4, b"?"), field(0xff, b"!")]),
        ),
        built("event NotCanonical extension_of_no_bytes", "", extended(&[])),
        built("event Truncated extension_beyond_the_entry", "", bytes(&[0x20, 0, 1, 1, 2]).num(5_000).0),
        built("event NotCanonical extension_unsorted", "", extended(&[field(5, b"?"), field(4, b"?")])),
        built("event NotCanonical extension_field_twice", "", extended(&[field(4, b"?"), field(4, b"?")])),
        built("event NotCanonical extension_field_of_no_bytes", "", extended(&[field(0xff, b"")])),
        built("event Truncated extension_field_beyond_it", "", extended(&[vec![0xff, 2, 0]])),
        built("event Truncated extension_field_without_a_length", "", extended(&[vec![0xff]])),
        built("event Varint extension_field_of_an_over_long_length", "", extended(&[vec![0xff, 0x81, 0, 0]])),
        built("event Limit extension_and_payload", "", full(most + 1)),
        built("event BadSignature extension_and_payload_at_the_limit", "", full(most)),
        built("event BadSignature one_citation", "Citations.", cited(&[cite(1, 5)])),
        built("event NotCanonical citations_none", "", cited(&[])),
        built("event Truncated citation_without_its_root", "", cited(&[plain(1, 5)])),
        built("event Truncated citation_cut", "", cited(&[cite(1, 5), vec![0]])),
        built("event NotCanonical citations_unsorted", "", cited(&[cite(2, 5), cite(1, 5)])),
        built("event NotCanonical citation_twice", "", cited(&[cite(1, 5), cite(1, 6)])),
        built("event Limit citation_of_a_size_beyond_the_limit", "", cited(&[cite(1, (1 << 44) + 1)])),
        built("event Limit citations_65", "", cited(&(0..65).map(|last| cite(last, 5)).collect::<Vec<_>>())),
        built("state NotCanonical citation_with_a_root", "", cited(&[cite(1, 5)])),
        built("state BadSignature citation_without_a_root", "", cited(&[plain(1, 5)])),
        built("state BadSignature closures", "Closures.", closed(&[close(5, 1), close(own - 1, 1 << 44)])),
        built("state NotCanonical closures_none", "", closed(&[])),
        built("state NotCanonical closures_unsorted", "", closed(&[close(6, 1), close(5, 1)])),
        built("state NotCanonical closure_twice", "", closed(&[close(5, 1), close(5, 2)])),
        built("state Limit closure_of_the_log_itself", "", closed(&[close(own, 1)])),
        built("state Limit closure_below_0", "", closed(&[close(5, 0)])),
        built("state Limit closure_below_more_than_a_log_has", "", closed(&[close(5, (1 << 44) + 1)])),
        built("state Truncated closure_cut", "", closed(&[vec![0; 8]])),
        built("event Kind closure_of_events", "", closed(&[close(1, 1)])),
        built("state BadSignature final_its_own", "Final incarnations.", last_final(own)),
        built("state Limit final_above_its_own", "", last_final(own + 1)),
        built("state Truncated final_cut", "", extended(&[field(3, &[0; 7])])),
        built("state Trailing final_too_long", "", extended(&[field(3, &[0; 9])])),
        built("event Kind final_of_events", "", last_final(1)),
    ]);
}

/// Where in a range under this log's head stand: the size beyond (with a base of one byte behind it), the time, the
/// signature.
fn parts(range: &[u8], log: &Log) -> (usize, usize, usize) {
    let signature = log.head().unwrap().signature;
    let at_signature = range.windows(64).position(|bytes| bytes == signature.as_bytes()).unwrap();
    let longer = range[..at_signature - 1].iter().rev().take_while(|byte| **byte >= 0x80).count();
    let at_time = at_signature - 1 - longer;
    (at_time - 2, at_time, at_signature)
}

fn ranges(vectors: &mut Vec<Built>) {
    use RangeForm::{Alone, Follow};
    let log = event_log();
    let (whole, middle) = (range(&log, 0, 11, Follow), range(&log, 4, 7, Follow));
    let (end, sparse) = (range(&log, 9, 11, Alone), range(&log, 4, 5, Alone));
    let consistency = range(&log, 7, 7, Alone);
    let (_, at_time, at_signature) = parts(&whole, &log);
    let timed = |time: u64| instead(&whole, at_time, at_signature - at_time, &bytes(&[]).num(time).0);
    let beyond =
        |range: &[u8], beyond: u64| instead(range, parts(range, &log).0, 1, &bytes(&[]).num(beyond).0);
    let base = |range: &[u8], base: u8| with(range, parts(range, &log).0 + 1, &[base]);
    // Another history behind the same four events.
    let mut other = event_log_of(4);
    for (payload, after) in [(b"other", 900), (b"again", 901)] {
        other.append(&NewEntry::new(at(after), payload)).unwrap();
    }
    sign(&mut other, 1_000);
    vectors.extend([
        built("event Ok sound", "Ranges, as a copy takes them in: one that is empty, holds 4 events, or holds 3 to 10 and dropped those before.", whole.clone()),
        built("event_at_4 Ok sound_middle", "", middle.clone()),
        built("verify Ok sound_end", "", end.clone()),
        built("verify Ok sound_sparse", "", sparse.clone()),
        built("verify Ok sound_consistency", "", consistency.clone()),
        built("event Truncated range_of_nothing", "", []),
        built("event Kind range_of_an_unknown_kind", "", with(&whole, 0, &[0x24])),
        built("event Kind range_that_is_an_opening", "", event_opening().encode(&mesh())),
        built("event Truncated range_of_a_kind", "", [0x20]),
        built("event Varint range_from_over_long", "", bytes(&[0x20, 0x80, 0]).raw(&whole[2..]).0),
        built("event Limit range_from_beyond_the_limit", "", bytes(&[0x20]).num((1 << 44) + 1).raw(&whole[2..]).0),
        built("event Limit range_to_beyond_the_limit", "", bytes(&[0x20]).num(1 << 44).raw(&whole[2..]).0),
        built("event Truncated range_of_more_entries_than_bytes", "", bytes(&[0x20, 0]).num(5_000).raw(&whole[3..]).0),
        built("event Base range_of_nothing_from_nothing", "", bytes(&[0x20, 0, 0]).num(2 * T).raw(&[0; 64]).0),
        built("event Trailing range_with_a_hash_too_many", "", [&whole[..], &[0; 32]].concat()),
        built("event Truncated range_without_the_end_of_its_signature", "", &whole[..whole.len() - 1]),
        built("verify Truncated range_without_its_last_hash", "", &sparse[..sparse.len() - 32]),
        built("verify Truncated range_without_its_peaks", "", &end[..34]),
        built("event_at_4 NotCanonical range_beyond_by_0", "", beyond(&middle, 0)),
        built("verify NotCanonical sparse_beyond_by_0", "", beyond(&sparse, 0)),
        built("verify Limit sparse_beyond_the_limit", "", beyond(&sparse, 1 << 44)),
        built("event_at_4 Base range_base_at_its_size", "", base(&middle, 11)),
        built("verify Base consistency_base_at_its_size", "", base(&consistency, 11)),
        built("event Limit range_time_before_1970", "", timed(2 * T + 1_001)),
        built("event Limit range_time_beyond_48_bits", "", timed(1 << 49)),
        built("event Varint range_time_over_long", "", instead(&whole, at_signature - 1, 1, &[whole[at_signature - 1] | 0x80, 0])),
        built("event BadSignature range_with_another_payload", "What is sound in form, and proves nothing.", flipped(&whole, 11)),
        built("event BadSignature range_with_another_time", "", flipped(&whole, at_time)),
        built("event BadSignature range_with_another_signature", "", flipped(&whole, at_signature)),
        built("event_at_4 Unproven range_with_another_base", "", base(&middle, 2)),
        built("event_at_4 Unproven range_with_another_size", "", with(&middle, parts(&middle, &log).0, &[3])),
        built("event_at_4 Unproven range_of_another_history", "", with(&range(&other, 5, 6, Follow), 1, &[4])),
        built("verify Unproven range_to_verify_without_peaks", "", middle.clone()),
        built("verify BadSignature range_with_another_peak", "", flipped(&end, 3)),
        built("verify BadSignature range_with_another_hash_beyond", "", flipped(&sparse, sparse.len() - 1)),
        built("verify BadSignature sparse_with_another_payload", "", flipped(&sparse, parts(&sparse, &log).0 - 1)),
        built("verify BadSignature sparse_with_another_number", "", with(&sparse, 1, &[8])),
        built("verify BadSignature consistency_with_another_base", "", base(&consistency, 2)),
        built("event Gap range_that_follows_on_nothing", "", middle.clone()),
        built("event_at_11_from_3 Stale range_from_before_what_is_kept", "", with(&middle, 1, &[2])),
        built("state BadSignature range_of_another_log", "", range(&event_log_of(4), 0, 4, Follow)),
        built("event BadSignature range_of_a_state_log", "", range(&state_log_of(1), 0, 1, Follow)),
    ]);
}

fn evidence(vectors: &mut Vec<Built>) {
    let golden =
        |name: &str| super::scenes::evidence().into_iter().find(|one| one.name == name).unwrap().bytes;
    let (whole, above) = (golden("evidence_whole_whole"), golden("evidence_above_above"));
    let mixed = golden("evidence_whole_above");
    let head = 1 + letters(LogKind::Event, "a", "", 1).opening().encode(&mesh()).len();
    assert_eq!((whole[head..head + 2].to_vec(), above[head..head + 2].to_vec()), (vec![6, 0], vec![6, 1]));
    // A whole side has 3 numbers of 1, 1 and 6 bytes, a signature and a root.
    let side = 8 + 64 + 32;
    let (one, other) = whole[head + 2..].split_at(side);
    assert_eq!(other.len(), side);
    let front = &whole[..head + 2];
    let again = {
        let mut log = letters(LogKind::Event, "abcde", "F", 10);
        let first = *log.head().unwrap();
        let second = sign(&mut log, 50);
        let side = |head: &consilience_sync::SignedHead| {
            let numbers = bytes(&[0, 0]).num(head.time.as_millis()).raw(head.signature.as_bytes());
            numbers.raw(head.root.as_bytes()).0
        };
        let mut sides = [side(&first), side(&second)];
        sides.sort();
        bytes(front).raw(&sides.concat()).0
    };
    let above_side = head + 2 + 32;
    vectors.extend([
        built("evidence Ok sound_whole", "Evidence.", whole.clone()),
        built("evidence Ok sound_above", "", above.clone()),
        built("evidence Truncated evidence_of_nothing", "", []),
        built("evidence Kind evidence_of_an_unknown_kind", "", with(&whole, 0, &[0x2b])),
        built("evidence WrongMesh evidence_of_another_mesh", "", flipped(&whole, 2)),
        built("evidence Suite evidence_of_a_log_of_an_unknown_suite", "", with(&whole, 10, &[2])),
        built("evidence Limit evidence_at_size_0", "", with(&whole, head, &[0])),
        built(
            "evidence Limit evidence_at_a_size_beyond_the_limit",
            "",
            instead(&whole, head, 1, &bytes(&[]).num((1 << 44) + 1).0),
        ),
        built("evidence Varint evidence_at_an_over_long_size", "", instead(&whole, head, 1, &[0x86, 0])),
        built("evidence Truncated evidence_with_more_peaks_than_bytes", "", with(&whole, head + 1, &[0x7f])),
        built(
            "evidence NotCanonical evidence_with_more_peaks_than_there_are",
            "",
            with(&whole, head + 1, &[3]),
        ),
        built(
            "evidence NotCanonical evidence_with_a_peak_for_a_whole_side",
            "",
            instead(&whole, head + 1, 1, &[1; 33]),
        ),
        built(
            "evidence NotCanonical evidence_with_a_peak_for_one_whole_side",
            "",
            instead(&mixed, head + 1, 1, &[1; 33]),
        ),
        built("evidence NotCanonical evidence_with_its_sides_exchanged", "", [front, other, one].concat()),
        built("evidence NotCanonical evidence_with_one_side_twice", "", [front, one, one].concat()),
        built("evidence NotCanonical evidence_with_a_shared_peak_in_both_sides", "", unshared(&above, head)),
        built("evidence NoFork evidence_of_a_heartbeat", "", again),
        built("evidence BadSignature evidence_with_another_root", "", flipped(&whole, whole.len() - 1)),
        built("evidence BadSignature evidence_with_another_shared_peak", "", flipped(&above, head + 2)),
        built("evidence BadSignature evidence_of_another_incarnation", "", with(&whole, 46, &[2])),
        built(
            "evidence SmallOrder evidence_of_a_key_of_small_order",
            "",
            with(&whole, 14, &EIGHT_TORSION[1].compress().to_bytes()),
        ),
        built("evidence Base evidence_with_a_base_at_the_size", "", with(&whole, head + 3, &[6])),
        built(
            "evidence Limit evidence_of_a_head_beyond_the_limit",
            "",
            instead(&above, above_side, 1, &bytes(&[]).num(1 << 44).0),
        ),
        built(
            "evidence Limit evidence_of_a_time_beyond_48_bits",
            "",
            instead(&whole, head + 4, 6, &bytes(&[]).num(1 << 48).0),
        ),
        built("evidence Trailing evidence_with_a_byte_behind", "", [&whole[..], &[0]].concat()),
        built("evidence Truncated evidence_of_one_side", "", [front, one].concat()),
    ]);
}

/// Evidence with one shared peak, written into both sides instead.
fn unshared(above: &[u8], head: usize) -> Vec<u8> {
    let peak = &above[head + 2..head + 34];
    let sides = &above[head + 34..];
    // A side above the size: 1, 1 and 6 bytes of numbers, a signature, a peak, and what covers the rest.
    let numbers = 8 + 64;
    let len = |more: u8| numbers + 32 + 32 * if more == 1 { 1 } else { 2 };
    let (one, other) = sides.split_at(len(sides[0]));
    assert_eq!(other.len(), len(other[0]));
    let spelt = |side: &[u8]| [&side[..numbers], peak, &side[numbers..]].concat();
    [&above[..head + 1], &[0], &spelt(one)[..], &spelt(other)].concat()
}

fn messages(vectors: &mut Vec<Built>) {
    let have = Have { start: 3, size: 300, base: 4 }.encode();
    let want = Want { from: 200, to: 200, form: RangeForm::Alone }.encode();
    vectors.extend([
        built("have Ok sound", "Have, want, gone.", have.clone()),
        built("have Kind a_want", "", with(&have, 0, &[0x2d])),
        built("have Truncated cut", "", &have[..have.len() - 1]),
        built("have Trailing one_more", "", [&have[..], &[0]].concat()),
        built("have Varint over_long", "", instead(&have, 1, 1, &[0x83, 0])),
        built("have Limit start_beyond_the_limit", "", bytes(&[0x2c]).num((1 << 44) + 1).raw(&[0, 0]).0),
        built("have Limit size_beyond_the_limit", "", bytes(&[0x2c, 1]).num(1 << 44).raw(&[0]).0),
        built("have Limit size_beyond_64_bits", "", bytes(&[0x2c, 1]).num(u64::MAX).raw(&[0]).0),
        built("have Base base_beyond_the_size", "", [0x2c, 1, 4, 6]),
        built("want Ok sound", "", want.clone()),
        built("want Kind a_have", "", with(&want, 0, &[0x2c])),
        built("want Kind unknown_form", "", [0x2d, 1, 1, 2]),
        built("want Limit beyond_the_limit", "", bytes(&[0x2d, 1]).num(1 << 44).raw(&[0]).0),
        built("want Truncated cut", "", [0x2d, 1]),
        built("want Varint over_long", "", [0x2d, 1, 0x80, 0, 0]),
        built("want Trailing one_more", "", [0x2d, 1, 1, 0, 0]),
        built("gone Ok sound", "", [0x2e, 3]),
        built("gone Kind unknown_kind", "", [0x2f, 3]),
        built("gone Limit beyond_the_limit", "", bytes(&[0x2e]).num((1 << 44) + 1).0),
        built("gone Truncated cut", "", [0x2e]),
        built("gone Varint over_long", "", [0x2e, 0x83, 0]),
        built("gone Trailing one_more", "", [0x2e, 3, 0]),
    ]);
    offers(vectors);
}

fn offers(vectors: &mut Vec<Built>) {
    let log = *event_log().id();
    let offer = Offer { log, start: 3, size: 11, root: [4; 8], facts: None };
    let plain = offer.encode();
    let forked = Offer { facts: Some([5; 8]), ..offer }.encode();
    let begun = || bytes(&plain[..33]);
    vectors.extend([
        built("offer Ok sound", "Offers.", plain.clone()),
        built("offer Ok sound_with_evidence", "", forked.clone()),
        built("offer Truncated nothing", "", []),
        built("offer Kind gone", "", with(&plain, 0, &[0x2e])),
        built("offer Truncated cut_in_the_log_id", "", &plain[..32]),
        built("offer Truncated cut_before_the_size", "", &plain[..34]),
        built("offer Truncated cut_in_the_root", "", &plain[..plain.len() - 1]),
        built("offer Truncated cut_in_the_evidence", "", &forked[..forked.len() - 1]),
        built("offer Truncated one_byte_of_evidence", "", [&plain[..], &[0]].concat()),
        built("offer Trailing one_more", "", [&forked[..], &[0]].concat()),
        built("offer Varint start_over_long", "", instead(&plain, 33, 1, &[0x83, 0])),
        built("offer Varint size_over_long", "", instead(&plain, 34, 1, &[0x88, 0])),
        built("offer Limit start_beyond_the_limit", "", begun().num((1 << 44) + 1).raw(&[0; 9]).0),
        built("offer Limit size_beyond_the_limit", "", begun().num(3).num((1 << 44) - 2).raw(&[0; 8]).0),
        built("offer Limit size_beyond_64_bits", "", begun().num(3).num(u64::MAX).raw(&[0; 8]).0),
    ]);
}
