//! `hypercore`, the Rust port, with storage in memory.
//!
//! `append_batch` signs once for the batch: a batch of one for `append_sealed_each`, of 100 for
//! `append_sealed_100`.
//!
//! It has no bulk form. A proof holds at most one block, so the whole log is one proof that upgrades an empty
//! core to the length of the log, and then one proof for each block in order, with the hashes that a follower
//! which asks for one block after the other still misses (`missing_nodes`). The last entry is a proof of
//! block and upgrade at once, and so is a sparse proof, for an empty core. (In 0.16 an empty core panics at
//! such a proof of a block that is not below the first root of the log; the works ask for none.)
//! `verify_and_apply_proof` is the only way to verify a proof, so `sparse_verify_us` includes keeping what it
//! shows.
//!
//! Fork proofs: none. Two upgrades that are signed for one length would show a fork, but this port has no
//! form to hand them on in and nothing that checks it.
//!
//! Wire form: the message `Data` of `hypercore-protocol`, put together here from the encodings in
//! `hypercore_schema`, as that crate does it; the crate itself would bring a whole connection along. The
//! number of the request takes one byte, as with an implementation that uses numbers again.
//!
//! Set up as it is fastest here: small pages, no cache of tree nodes, no events for replication.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use compact_encoding::{CompactEncoding, EncodingError};
use hypercore::{HypercoreBuilder, PartialKeypair, SigningKey, Storage, StorageTraits, VerifyingKey};
use hypercore_schema::{DataBlock, DataHash, DataSeek, DataUpgrade, Proof, RequestBlock, RequestUpgrade};
use random_access_memory::RandomAccessMemory;

use super::{Payload, Peer};

pub struct Hypercore;

impl Peer for Hypercore {
    const NAME: &'static str = "hypercore";
    const SKIPS: &'static [&'static str] = &["fork_proof_bytes"];
    type Writer = Writer;
}

/// Bytes in a page of the storage. With the 1 MiB of `Storage::new_memory` most of the time goes into
/// zeroing: the storage does that to the rest of a page whenever the core empties its journal, every fourth
/// time it stores something. From 4 to 16 KiB the figures hardly differ.
const PAGE: usize = 8 * 1024;

/// The result of a future that has nothing to wait for, as all is in memory.
fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("storage in memory answers at once"),
    }
}

fn core(public: VerifyingKey, secret: Option<SigningKey>) -> hypercore::Hypercore {
    let create = |_| -> Pin<Box<dyn Future<Output = _> + Send>> {
        Box::pin(async { Ok(Box::new(RandomAccessMemory::new(PAGE)) as Box<dyn StorageTraits + Send>) })
    };
    let storage = ready(Storage::open(create, false)).expect("storage in memory");
    let builder = HypercoreBuilder::new(storage).key_pair(PartialKeypair { public, secret });
    ready(builder.build()).expect("an empty core")
}

/// The proof as the message `Data`.
fn encode(proof: &Proof) -> Vec<u8> {
    fn put(message: &mut Vec<u8>, part: &impl CompactEncoding) -> Result<(), EncodingError> {
        let start = message.len();
        message.resize(start + part.encoded_size()?, 0);
        part.encode(&mut message[start..])?;
        Ok(())
    }
    fn put_all(message: &mut Vec<u8>, proof: &Proof) -> Result<(), EncodingError> {
        let request = 1_u64;
        put(message, &request)?;
        put(message, &proof.fork)?;
        proof.block.iter().try_for_each(|part| put(message, part))?;
        proof.hash.iter().try_for_each(|part| put(message, part))?;
        proof.seek.iter().try_for_each(|part| put(message, part))?;
        proof.upgrade.iter().try_for_each(|part| put(message, part))
    }
    let flags = u8::from(proof.block.is_some())
        | u8::from(proof.hash.is_some()) << 1
        | u8::from(proof.seek.is_some()) << 2
        | u8::from(proof.upgrade.is_some()) << 3;
    let mut message = vec![flags];
    put_all(&mut message, proof).expect("a proof encodes");
    message
}

fn decode(message: &[u8]) -> Result<Proof, EncodingError> {
    fn take<T: CompactEncoding>(rest: &mut &[u8]) -> Result<T, EncodingError> {
        let (part, after) = T::decode(rest)?;
        *rest = after;
        Ok(part)
    }
    fn take_if<T: CompactEncoding>(there: bool, rest: &mut &[u8]) -> Result<Option<T>, EncodingError> {
        there.then(|| take(rest)).transpose()
    }
    let mut rest = message;
    let flags: u8 = take(&mut rest)?;
    let _request: u64 = take(&mut rest)?;
    Ok(Proof {
        fork: take(&mut rest)?,
        block: take_if::<DataBlock>(flags & 1 != 0, &mut rest)?,
        hash: take_if::<DataHash>(flags & 2 != 0, &mut rest)?,
        seek: take_if::<DataSeek>(flags & 4 != 0, &mut rest)?,
        upgrade: take_if::<DataUpgrade>(flags & 8 != 0, &mut rest)?,
    })
}

pub struct Writer {
    public: VerifyingKey,
    core: hypercore::Hypercore,
}

impl Writer {
    /// A proof for a follower of length `from` that lacks this many hashes above the block.
    fn prove(&mut self, block: Option<(u64, u64)>, from: Option<u64>) -> Proof {
        let length = self.core.info().length;
        let block = block.map(|(index, nodes)| RequestBlock { index, nodes });
        let upgrade = from.map(|start| RequestUpgrade {
            start,
            length: length - start,
        });
        ready(self.core.create_proof(block, None, None, upgrade))
            .expect("a proof")
            .expect("the block is there")
    }
}

impl super::Writer for Writer {
    type Follower = Follower;

    fn new(secret: [u8; 32]) -> Self {
        let secret = SigningKey::from_bytes(&secret);
        let public = secret.verifying_key();
        Writer {
            public,
            core: core(public, Some(secret)),
        }
    }

    fn append_sealed(&mut self, payloads: &[Payload]) {
        ready(self.core.append_batch(payloads)).expect("an append");
    }

    fn follower(&self) -> Follower {
        Follower {
            core: core(self.public, None),
        }
    }

    fn bulk(&mut self) -> Vec<Vec<u8>> {
        // Somebody has to say which hashes are missing at each step.
        let mut asking = self.follower().core;
        let mut messages = Vec::new();
        let mut send = |asking: &mut hypercore::Hypercore, proof: Proof| {
            messages.push(encode(&proof));
            ready(asking.verify_and_apply_proof(&proof)).expect("a proof");
        };
        send(&mut asking, self.prove(None, Some(0)));
        for index in 0..self.core.info().length {
            let missing = ready(asking.missing_nodes(index)).expect("a number of hashes");
            send(&mut asking, self.prove(Some((index, missing)), None));
        }
        messages
    }

    fn push(&mut self) -> Vec<u8> {
        let last = self.core.info().length - 1;
        encode(&self.prove(Some((last, 0)), Some(last)))
    }

    fn prove_entry(&mut self, index: usize) -> Vec<u8> {
        encode(&self.prove(Some((index as u64, 0)), Some(0)))
    }
}

pub struct Follower {
    core: hypercore::Hypercore,
}

impl Follower {
    fn apply(&mut self, message: &[u8]) -> Option<Proof> {
        let proof = decode(message).ok()?;
        let applied = ready(self.core.verify_and_apply_proof(&proof)).ok()?;
        applied.then_some(proof)
    }
}

impl super::Follower for Follower {
    fn receive(&mut self, message: &[u8]) -> bool {
        self.apply(message).is_some()
    }

    fn verify_entry(&mut self, proof: &[u8], index: usize) -> Option<Payload> {
        let block = self.apply(proof)?.block?;
        if block.index != index as u64 {
            return None;
        }
        block.value.try_into().ok()
    }

    fn len(&self) -> usize {
        self.core.info().contiguous_length as usize
    }

    fn holds(&mut self, index: usize, payload: &Payload) -> bool {
        ready(self.core.get(index as u64)).is_ok_and(|found| found.is_some_and(|found| found == payload))
    }
}
