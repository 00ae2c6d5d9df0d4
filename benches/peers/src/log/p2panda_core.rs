//! `p2panda-core`: operations, each with its own signature and the hash of the one before it.
//!
//! The crate has no log that holds operations. Here the log is a list of them as the bytes that travel, which
//! is the least memory that keeps everything, and of the last one what the next needs.
//!
//! It signs every operation, so `append_sealed_100` signs every one too. There is no bulk form: the whole log
//! is its operations one after the other, each checked by `validate_operation`, which verifies its signature,
//! and `validate_backlink`. The last entry is one operation, and so is a sparse proof. That shows less than a
//! proof in a tree does: the author signed this entry with this number. Whether a later entry that one knows
//! has it in its history, only all operations in between tell.
//!
//! Fork proofs: none. Two operations of one author with the same number would show a fork, but the crate has
//! no form to hand them on in and nothing that checks it, and the log is not named in the header unless the
//! application puts it there.
//!
//! Wire form: header and body as a pair in CBOR, without extensions, by the crate's own functions.
//!
//! Release 0.6: 0.7 asks for a newer compiler than the rest of this package.

use p2panda_core::cbor::{decode_cbor, encode_cbor};
use p2panda_core::{
    Body, Hash, Header, Operation, SigningKey, Timestamp, VerifyingKey, validate_backlink, validate_operation,
};

use super::{Payload, Peer};

pub struct P2pandaCore;

impl Peer for P2pandaCore {
    const NAME: &'static str = "p2panda-core";
    const SKIPS: &'static [&'static str] = &["fork_proof_bytes"];
    type Writer = Writer;
}

/// The time of the first entry, in microseconds; every further one is a millisecond later.
const START: u64 = 1_700_000_000_000_000;

fn decode(message: &[u8]) -> Option<Operation> {
    let mut rest = message;
    let (header, body): (Header, Option<Body>) = decode_cbor(&mut rest).ok()?;
    let hash = header.hash();
    rest.is_empty().then_some(Operation { hash, header, body })
}

/// The payload of an operation that holds one.
fn payload(operation: &Operation) -> Option<Payload> {
    operation.body.as_ref()?.as_bytes().try_into().ok()
}

pub struct Writer {
    secret: SigningKey,
    public: VerifyingKey,
    operations: Vec<Box<[u8]>>,
    last: Option<Hash>,
}

impl super::Writer for Writer {
    type Follower = Follower;

    fn new(secret: [u8; 32]) -> Self {
        let secret = SigningKey::from_bytes(&secret);
        Writer {
            public: secret.verifying_key(),
            secret,
            operations: Vec::new(),
            last: None,
        }
    }

    fn append_sealed(&mut self, payloads: &[Payload]) {
        for payload in payloads {
            let seq_num = self.operations.len() as u64;
            let body = Body::new(payload);
            let mut header = Header {
                version: 1,
                verifying_key: self.public,
                signature: None,
                payload_size: body.size(),
                payload_hash: Some(body.hash()),
                timestamp: Timestamp::new(START + seq_num * 1_000),
                seq_num,
                backlink: self.last,
                extensions: (),
            };
            header.sign(&self.secret);
            self.last = Some(header.hash());
            let operation = encode_cbor(&(header, Some(body))).expect("an operation encodes");
            self.operations.push(operation.into());
        }
    }

    fn follower(&self) -> Follower {
        Follower {
            author: self.public,
            operations: Vec::new(),
            last: None,
        }
    }

    fn bulk(&mut self) -> Vec<Vec<u8>> {
        self.operations
            .iter()
            .map(|operation| operation.to_vec())
            .collect()
    }

    fn push(&mut self) -> Vec<u8> {
        self.operations.last().expect("an entry").to_vec()
    }

    fn prove_entry(&mut self, index: usize) -> Vec<u8> {
        self.operations[index].to_vec()
    }
}

pub struct Follower {
    author: VerifyingKey,
    operations: Vec<Box<[u8]>>,
    last: Option<Header>,
}

impl super::Follower for Follower {
    fn receive(&mut self, message: &[u8]) -> bool {
        let Some(operation) = decode(message) else {
            return false;
        };
        let follows = match &self.last {
            Some(last) => validate_backlink(last, &operation.header).is_ok(),
            None => operation.header.seq_num == 0,
        };
        let valid = follows
            && operation.header.verifying_key == self.author
            && operation.body.is_some()
            && validate_operation(&operation).is_ok();
        if valid {
            self.operations.push(message.into());
            self.last = Some(operation.header);
        }
        valid
    }

    fn verify_entry(&mut self, proof: &[u8], index: usize) -> Option<Payload> {
        let operation = decode(proof)?;
        let right = operation.header.verifying_key == self.author
            && operation.header.seq_num == index as u64
            && validate_operation(&operation).is_ok();
        if right { payload(&operation) } else { None }
    }

    fn len(&self) -> usize {
        self.operations.len()
    }

    fn holds(&mut self, index: usize, expected: &Payload) -> bool {
        let operation = self.operations.get(index).and_then(|message| decode(message));
        operation.and_then(|operation| payload(&operation)).as_ref() == Some(expected)
    }
}
