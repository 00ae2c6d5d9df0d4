//! The works on signed logs: 100,000 entries of 128 bytes by one writer.
//!
//! A library takes part through one file with a type that implements [`Peer`], a `mod` line and a line in
//! [`PEERS`], as in the group `crdt`.
//!
//! What the figures count:
//!
//! - `append_sealed_each`, `append_sealed_100`: entries appended each second, with a signature after every
//!   entry and after every 100. A library that signs every entry in any case does so in the second work too.
//! - `receive_verify`: entries each second that a follower decodes, verifies and keeps in memory, from the
//!   messages in which the whole log travels, sealed every 100 entries. Making and asking for them is not
//!   counted.
//! - `bulk_overhead_bytes`: the bytes of those messages for each entry, less the payload. Requests and the
//!   frame that a connection puts around a message are counted for nobody.
//! - `live_overhead_bytes`: the same for an entry that is appended, sealed and handed to a follower which
//!   holds all before it; the mean of 100 in a row.
//! - `memory_overhead_bytes`: heap bytes that the writer holds for each entry, less the payload, sealed every
//!   100. What buffers keep free for more is included.
//! - `sparse_proof_bytes`, `sparse_verify_us`: what shows one entry from the middle to somebody who knows
//!   only whose log it is, less the payload, and the time until it is decoded and verified.
//! - `fork_proof_bytes`: what shows somebody who knows only whose log it is that its owner signed two
//!   histories. They part half-way; one of them ends after three quarters.

mod consilience;
mod hypercore;
mod p2panda_core;
mod works;

use crate::Options;
use crate::group::{self, Entry};
use crate::measure::Figure;

/// What an entry carries.
pub type Payload = [u8; 128];

/// A library under measurement.
pub trait Peer {
    /// The name in the output.
    const NAME: &'static str;
    /// Works the library cannot do; the reason stands where they are named.
    const SKIPS: &'static [&'static str] = &[];
    /// The log of the one who signs.
    type Writer: Writer;
}

/// The log as its owner holds it.
///
/// Bytes made by a writer are only ever read by followers of the same library.
pub trait Writer: Sized + 'static {
    /// The log as everybody else holds it.
    type Follower: Follower;

    /// An empty log whose owner has this secret key. The same secret makes the same log.
    fn new(secret: [u8; 32]) -> Self;

    /// Appends these entries and then signs, once if the library can: what is in the log is now covered.
    fn append_sealed(&mut self, payloads: &[Payload]);

    /// Somebody who knows whose log this is and no entry of it. What has to be done once for a key is done.
    fn follower(&self) -> Self::Follower;

    /// The messages that take the whole log to a follower without entries, in order.
    fn bulk(&mut self) -> Vec<Vec<u8>>;

    /// The message that takes the last entry, sealed by itself, to a follower that holds all before it.
    fn push(&mut self) -> Vec<u8>;

    /// What shows the entry at this index, payload included, to a follower without entries.
    fn prove_entry(&mut self, index: usize) -> Vec<u8>;

    /// What shows a follower without entries that this log and the other, of the same owner, are two
    /// histories; `None` if one is the beginning of the other.
    fn prove_fork(&mut self, _other: &mut Self) -> Option<Vec<u8>> {
        unreachable!("a library without such a proof skips the work")
    }
}

/// The log as somebody else holds it, who trusts only the owner's key.
pub trait Follower: Sized + 'static {
    /// Decodes a message of [`Writer::bulk`] or [`Writer::push`], verifies it and keeps its entries. Returns
    /// whether all was right.
    fn receive(&mut self, message: &[u8]) -> bool;

    /// Decodes and verifies what [`Writer::prove_entry`] made for this index. Returns the payload if all was
    /// right.
    fn verify_entry(&mut self, proof: &[u8], index: usize) -> Option<Payload>;

    /// Decodes and verifies what [`Writer::prove_fork`] made. Returns whether it shows a fork.
    fn verify_fork(&mut self, _proof: &[u8]) -> bool {
        unreachable!("a library without such a proof skips the work")
    }

    /// Number of entries, from the first one without a gap.
    fn len(&self) -> usize;

    /// Whether the entry at this index is kept and has this payload.
    fn holds(&mut self, index: usize, payload: &Payload) -> bool;
}

const fn entry<P: Peer>() -> Entry {
    Entry {
        name: P::NAME,
        skips: P::SKIPS,
        prepare: works::prepare::<P>,
    }
}

const PEERS: &[Entry] = &[
    entry::<consilience::Consilience>(),
    entry::<hypercore::Hypercore>(),
    entry::<p2panda_core::P2pandaCore>(),
];

/// The names `--peer` knows.
pub fn peer_names() -> Vec<&'static str> {
    PEERS.iter().map(|peer| peer.name).collect()
}

/// The names `--work` knows.
pub fn work_names() -> Vec<&'static str> {
    works::WORKS.iter().map(|work| work.name).collect()
}

/// Measures what the options ask for.
pub fn run(options: &Options, emit: &mut dyn FnMut(Figure)) {
    group::measure("log", works::WORKS, PEERS, options, emit);
}
