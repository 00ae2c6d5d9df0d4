//! The works themselves. Each one builds its input once and returns a closure that makes one run on fresh
//! state, checks the outcome outside of the timing, and returns the figure.

use super::{Follower, Payload, Peer, Writer};
use crate::group::{Run, Work, size, timed};
use crate::measure::{held_bytes, median, seconds};
use crate::random::Random;

/// All works in the order of the output.
pub const WORKS: &[Work] = &[
    timed("append_sealed_each", "entries/s"),
    timed("append_sealed_100", "entries/s"),
    timed("receive_verify", "entries/s"),
    size("bulk_overhead_bytes"),
    size("live_overhead_bytes"),
    size("memory_overhead_bytes"),
    size("sparse_proof_bytes"),
    timed("sparse_verify_us", "us"),
    size("fork_proof_bytes"),
];

/// Builds the input of a work for a peer.
pub fn prepare<P: Peer>(work: &str, quick: bool) -> Run {
    let entries = if quick { 10_000 } else { 100_000 };
    match work {
        "append_sealed_each" => append_sealed::<P::Writer>(payloads(entries), 1),
        "append_sealed_100" => append_sealed::<P::Writer>(payloads(entries), SEAL),
        "receive_verify" => receive_verify::<P::Writer>(payloads(entries)),
        "bulk_overhead_bytes" => bulk_overhead::<P::Writer>(payloads(entries)),
        "live_overhead_bytes" => live_overhead::<P::Writer>(payloads(entries + LIVE)),
        "memory_overhead_bytes" => memory_overhead::<P::Writer>(payloads(entries)),
        "sparse_proof_bytes" => sparse_proof::<P::Writer>(payloads(entries)),
        "sparse_verify_us" => sparse_verify::<P::Writer>(payloads(entries)),
        "fork_proof_bytes" => fork_proof::<P::Writer>(payloads(entries)),
        _ => unreachable!("no such work: {work}"),
    }
}

/// The owner's secret key.
const SECRET: [u8; 32] = [7; 32];

/// Entries under one signature, where a work does not say otherwise.
const SEAL: usize = 100;

/// How many entries are pushed one by one.
const LIVE: usize = 100;

/// How often a proof is verified in one run.
const VERIFICATIONS: usize = 101;

const PAYLOAD: usize = size_of::<Payload>();

/// Random bytes, so that no two entries are alike and nothing can be compressed.
fn payloads(count: usize) -> Vec<Payload> {
    let mut random = Random::new(0x5EED_0F0B_5E55_1075);
    let mut payload = || {
        let mut payload = [0; PAYLOAD];
        for part in payload.chunks_exact_mut(8) {
            part.copy_from_slice(&random.next().to_le_bytes());
        }
        payload
    };
    (0..count).map(|_| payload()).collect()
}

/// A log of these entries.
fn written<W: Writer>(payloads: &[Payload], seal: usize) -> W {
    let mut writer = W::new(SECRET);
    for batch in payloads.chunks(seal) {
        writer.append_sealed(batch);
    }
    writer
}

/// The bytes with one bit of this payload turned over, if they carry it.
fn tampered(bytes: &[u8], payload: &Payload) -> Option<Vec<u8>> {
    let at = bytes.windows(PAYLOAD).position(|window| window == payload)?;
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    Some(bytes)
}

/// Panics unless the follower has these entries: the count, and a sample of the payloads.
fn check<F: Follower>(follower: &mut F, payloads: &[Payload]) {
    assert_eq!(follower.len(), payloads.len(), "number of entries");
    let step = (payloads.len() / 1_000).max(1);
    for (index, payload) in payloads.iter().enumerate().step_by(step) {
        assert!(follower.holds(index, payload), "wrong or missing: {index}");
    }
}

/// Panics unless the proof shows the entry, and one with another payload does not.
fn check_proof<W: Writer>(writer: &W, proof: &[u8], index: usize, payload: &Payload) {
    assert_eq!(
        writer.follower().verify_entry(proof, index).as_ref(),
        Some(payload),
        "the proof of entry {index}"
    );
    let forged = tampered(proof, payload).expect("a proof carries the payload");
    assert_eq!(
        writer.follower().verify_entry(&forged, index),
        None,
        "a forged proof"
    );
}

/// Entries appended each second, with a signature after every `seal` of them.
fn append_sealed<W: Writer>(payloads: Vec<Payload>, seal: usize) -> Run {
    Box::new(move || {
        let (mut writer, took) = seconds(|| written::<W>(&payloads, seal));
        for index in [0, payloads.len() / 2] {
            let proof = writer.prove_entry(index);
            check_proof(&writer, &proof, index, &payloads[index]);
        }
        payloads.len() as f64 / took
    })
}

/// Entries each second that a follower takes in from the messages that carry the whole log.
fn receive_verify<W: Writer>(payloads: Vec<Payload>) -> Run {
    let mut writer: W = written(&payloads, SEAL);
    let messages = writer.bulk();
    // Not looking would be fast: a follower has to refuse the messages once a payload in them was changed.
    let mut follower = writer.follower();
    let refused = messages
        .iter()
        .any(|message| match tampered(message, &payloads[SEAL / 2]) {
            Some(forged) => !follower.receive(&forged),
            None => {
                assert!(follower.receive(message), "a message was refused");
                false
            }
        });
    assert!(refused, "forged bytes");
    Box::new(move || {
        let mut follower = writer.follower();
        let (received, took) = seconds(|| messages.iter().all(|message| follower.receive(message)));
        assert!(received, "a message was refused");
        check(&mut follower, &payloads);
        payloads.len() as f64 / took
    })
}

/// Bytes of those messages for each entry, less the payload.
fn bulk_overhead<W: Writer>(payloads: Vec<Payload>) -> Run {
    let mut writer: W = written(&payloads, SEAL);
    Box::new(move || {
        let messages = writer.bulk();
        let mut follower = writer.follower();
        for message in &messages {
            assert!(follower.receive(message), "a message was refused");
        }
        check(&mut follower, &payloads);
        let bytes: usize = messages.iter().map(Vec::len).sum();
        bytes as f64 / payloads.len() as f64 - PAYLOAD as f64
    })
}

/// Bytes of the message that carries one new entry to a follower at the tip, less the payload.
fn live_overhead<W: Writer>(payloads: Vec<Payload>) -> Run {
    Box::new(move || {
        let (before, live) = payloads.split_at(payloads.len() - LIVE);
        let mut writer: W = written(before, SEAL);
        let mut follower = writer.follower();
        for message in &writer.bulk() {
            assert!(follower.receive(message), "a message was refused");
        }
        let mut bytes = 0;
        for payload in live {
            writer.append_sealed(&[*payload]);
            let message = writer.push();
            let forged = tampered(&message, payload).expect("a message carries the payload");
            assert!(!follower.receive(&forged), "forged bytes");
            assert!(follower.receive(&message), "a message was refused");
            bytes += message.len();
        }
        check(&mut follower, &payloads);
        bytes as f64 / LIVE as f64 - PAYLOAD as f64
    })
}

/// Heap bytes of the writer for each entry, less the payload.
fn memory_overhead<W: Writer>(payloads: Vec<Payload>) -> Run {
    Box::new(move || {
        let (mut writer, held) = held_bytes(|| written::<W>(&payloads, SEAL));
        let index = payloads.len() / 2;
        let proof = writer.prove_entry(index);
        check_proof(&writer, &proof, index, &payloads[index]);
        held / payloads.len() as f64 - PAYLOAD as f64
    })
}

/// Bytes of the proof of one entry, less the payload.
fn sparse_proof<W: Writer>(payloads: Vec<Payload>) -> Run {
    let mut writer: W = written(&payloads, SEAL);
    Box::new(move || {
        let index = payloads.len() / 2;
        let proof = writer.prove_entry(index);
        check_proof(&writer, &proof, index, &payloads[index]);
        (proof.len() - PAYLOAD) as f64
    })
}

/// Microseconds to verify such a proof: the median over followers that have not seen the log before.
fn sparse_verify<W: Writer>(payloads: Vec<Payload>) -> Run {
    let mut writer: W = written(&payloads, SEAL);
    let index = payloads.len() / 2;
    let proof = writer.prove_entry(index);
    check_proof(&writer, &proof, index, &payloads[index]);
    Box::new(move || {
        let verify = || {
            let mut follower = writer.follower();
            let (shown, took) = seconds(|| follower.verify_entry(&proof, index));
            assert_eq!(shown.as_ref(), Some(&payloads[index]), "the proof");
            took * 1_000_000.0
        };
        median((0..VERIFICATIONS).map(|_| verify()).collect())
    })
}

/// Bytes of the proof that an owner signed two histories.
fn fork_proof<W: Writer>(payloads: Vec<Payload>) -> Run {
    let mut branch = payloads[..payloads.len() / 4 * 3].to_vec();
    for payload in &mut branch[payloads.len() / 2..] {
        payload[0] ^= 1;
    }
    let mut left: W = written(&payloads, SEAL);
    let mut right: W = written(&branch, SEAL);
    let mut beginning: W = written(&payloads[..payloads.len() / 2], SEAL);
    Box::new(move || {
        assert_eq!(left.prove_fork(&mut beginning), None, "one history");
        let proof = left.prove_fork(&mut right).expect("a fork");
        assert!(left.follower().verify_fork(&proof), "the proof of a fork");
        for at in 0..proof.len() {
            let mut forged = proof.clone();
            forged[at] ^= 1;
            assert!(!left.follower().verify_fork(&forged), "forged at byte {at}");
        }
        proof.len() as f64
    })
}
