//! The plain model: a log as a list, its tree by the recursive definition of RFC 6962 §2.1, and its bytes written
//! from the documented layout. It shares no code with the library but the keys and the opening, and it can say what
//! no honest writer says.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use consilience_sync::{Keypair, LogOpening, MeshId, Signer};

pub(crate) type Digest = [u8; 32];

/// Bytes with a note of where their varints are. One of them can be written longer than it has to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ink {
    pub(crate) bytes: Vec<u8>,
    /// How many varints were written.
    pub(crate) varints: usize,
    /// Which of them is over-long, and by how many groups.
    pub(crate) padded: Option<(usize, usize)>,
}

impl Ink {
    pub(crate) fn new(padded: Option<(usize, usize)>) -> Self {
        Self { padded, ..Self::default() }
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn varint(&mut self, mut value: u64) {
        let padding = self.padded.filter(|(which, _)| *which == self.varints).map_or(0, |(_, groups)| groups);
        self.varints += 1;
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
        for _ in 0..padding {
            *self.bytes.last_mut().unwrap() |= 0x80;
            self.bytes.push(0);
        }
    }

    /// Something after its length, which counts what an over-long varint inside adds.
    pub(crate) fn counted(&mut self, write: impl FnOnce(&mut Self)) {
        let mut inner = Self { bytes: vec![], varints: self.varints + 1, padded: self.padded };
        write(&mut inner);
        self.varint(inner.bytes.len() as u64);
        self.put(&inner.bytes);
        self.varints = inner.varints;
    }
}

fn zigzag(from: u64, to: u64) -> u64 {
    if to >= from { (to - from) * 2 } else { (from - to) * 2 - 1 }
}

/// A citation: alias, size, and the root in event logs.
pub(crate) type Cite = ([u8; 8], u64, Option<Digest>);

#[derive(Clone, Debug, Default)]
pub(crate) struct Item {
    pub(crate) base: u64,
    pub(crate) hlc: u64,
    pub(crate) flags: u8,
    pub(crate) epoch: u32,
    pub(crate) cites: Vec<Cite>,
    /// Incarnations, and the numbers below which they count.
    pub(crate) closures: Vec<(u64, u64)>,
    pub(crate) last_final: Option<u64>,
    /// Fields of kinds that the library does not know, ascending.
    pub(crate) others: Vec<(u8, Vec<u8>)>,
    pub(crate) salt: [u8; 4],
    pub(crate) payload: Vec<u8>,
    pub(crate) erased: bool,
}

impl Item {
    pub(crate) fn new(hlc: u64, payload: &[u8]) -> Self {
        Self { hlc, payload: payload.to_vec(), ..Self::default() }
    }

    pub(crate) fn base(self, base: u64) -> Self {
        Self { base, ..self }
    }

    /// The fields of the extension, each with its kind.
    fn write_fields(&self, ink: &mut Ink) {
        let first = self.others.partition_point(|(kind, _)| *kind == 0);
        let other = |ink: &mut Ink, (kind, content): &(u8, Vec<u8>)| {
            ink.put(&[*kind]);
            ink.counted(|ink| ink.put(content));
        };
        self.others[..first].iter().for_each(|field| other(ink, field));
        if !self.cites.is_empty() {
            ink.put(&[1]);
            ink.counted(|ink| {
                for (log, size, root) in &self.cites {
                    ink.put(log);
                    ink.varint(*size);
                    ink.put(&root.map_or(Vec::new(), |root| root.to_vec()));
                }
            });
        }
        if !self.closures.is_empty() {
            ink.put(&[2]);
            ink.counted(|ink| {
                for (incarnation, below) in &self.closures {
                    ink.put(&incarnation.to_le_bytes());
                    ink.varint(*below);
                }
            });
        }
        if let Some(incarnation) = self.last_final {
            ink.put(&[3]);
            ink.counted(|ink| ink.put(&incarnation.to_le_bytes()));
        }
        self.others[first..].iter().for_each(|field| other(ink, field));
    }

    fn extension(&self) -> Vec<u8> {
        let mut ink = Ink::default();
        self.write_fields(&mut ink);
        ink.bytes
    }

    /// What an entry that follows on this one is written after.
    fn behind(&self) -> Behind {
        (self.base, self.hlc, self.epoch)
    }
}

/// Base, stamp and epoch of the entry before.
pub(crate) type Behind = (u64, u64, u32);

/// What a signed head says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) size: u64,
    pub(crate) base: u64,
    pub(crate) time: u64,
}

#[derive(Clone)]
pub(crate) struct Plain {
    pub(crate) mesh: MeshId,
    pub(crate) opening: LogOpening,
    pub(crate) signer: Keypair,
    pub(crate) items: Vec<Item>,
    keys: [Digest; 4],
    leaves: Vec<Digest>,
    memo: RefCell<HashMap<(u64, u64), Digest>>,
}

impl Plain {
    pub(crate) fn new(mesh: MeshId, opening: LogOpening, signer: Keypair) -> Self {
        let id = opening.log_id(&mesh);
        let keys = ["leaf", "node", "payload", "extension"]
            .map(|use_| blake3::derive_key(&format!("consilience log {use_} v2"), id.as_bytes()));
        Self { mesh, opening, signer, items: vec![], keys, leaves: vec![], memo: RefCell::default() }
    }

    pub(crate) fn with(mut self, items: impl IntoIterator<Item = Item>) -> Self {
        items.into_iter().for_each(|item| self.push(item));
        self
    }

    pub(crate) fn push(&mut self, item: Item) {
        let leaf = self.hash_leaf(self.items.len() as u64, &item);
        self.leaves.push(leaf);
        self.items.push(item);
    }

    pub(crate) fn size(&self) -> u64 {
        self.items.len() as u64
    }

    fn payload_hash(&self, item: &Item) -> Digest {
        *blake3::keyed_hash(&self.keys[2], &[&item.salt[..], &item.payload].concat()).as_bytes()
    }

    fn hash_leaf(&self, seq: u64, item: &Item) -> Digest {
        let extension = item.extension();
        let mut bytes = vec![item.flags, u8::from(!extension.is_empty())];
        bytes.extend((item.payload.len() as u16).to_le_bytes());
        bytes.extend(item.epoch.to_le_bytes());
        bytes.extend(seq.to_le_bytes());
        bytes.extend(item.base.to_le_bytes());
        bytes.extend(item.hlc.to_le_bytes());
        bytes.extend(self.payload_hash(item));
        assert_eq!(bytes.len(), 64);
        if !extension.is_empty() {
            bytes.extend(blake3::keyed_hash(&self.keys[3], &extension).as_bytes());
        }
        *blake3::keyed_hash(&self.keys[0], &bytes).as_bytes()
    }

    pub(crate) fn leaf(&self, seq: u64) -> Digest {
        self.leaves[seq as usize]
    }

    /// MTH(D[from:to]) of RFC 6962 §2.1.
    pub(crate) fn mth(&self, from: u64, to: u64) -> Digest {
        if to - from == 1 {
            return self.leaves[from as usize];
        }
        if let Some(known) = self.memo.borrow().get(&(from, to)) {
            return *known;
        }
        let k = split(to - from);
        let pair = [self.mth(from, from + k), self.mth(from + k, to)].concat();
        let hash = *blake3::keyed_hash(&self.keys[1], &pair).as_bytes();
        self.memo.borrow_mut().insert((from, to), hash);
        hash
    }

    pub(crate) fn root(&self, size: u64) -> Digest {
        self.mth(0, size)
    }

    /// PATH(m, D[from:to]) of RFC 6962 §2.1.1.
    pub(crate) fn path(&self, m: u64, from: u64, to: u64) -> BTreeSet<Digest> {
        if to - from == 1 {
            return BTreeSet::new();
        }
        let mid = from + split(to - from);
        let (mut path, sibling) = if m < mid {
            (self.path(m, from, mid), self.mth(mid, to))
        } else {
            (self.path(m, mid, to), self.mth(from, mid))
        };
        path.insert(sibling);
        path
    }

    /// SUBPROOF(m, D[from:to], known) of RFC 9162 §2.1.4.1.
    pub(crate) fn subproof(&self, m: u64, from: u64, to: u64, known: bool) -> BTreeSet<Digest> {
        if m == to - from {
            return if known { BTreeSet::new() } else { [self.mth(from, to)].into() };
        }
        let k = split(to - from);
        let (mut proof, other) = if m <= k {
            (self.subproof(m, from, from + k, known), self.mth(from + k, to))
        } else {
            (self.subproof(m - k, from + k, to, false), self.mth(from, from + k))
        };
        proof.insert(other);
        proof
    }

    /// The full trees that make up the first `size` leaves, the greatest first.
    pub(crate) fn peaks(&self, size: u64) -> Vec<Digest> {
        let mut peaks = vec![];
        let mut at = 0;
        while at < size {
            let len = 1 << (size - at).ilog2();
            peaks.push(self.mth(at, at + len));
            at += len;
        }
        peaks
    }

    /// The largest subtrees of the tree over `[0, size)` that make up `[from, size)`, from the left.
    pub(crate) fn cover(&self, from: u64, size: u64) -> Vec<Digest> {
        let mut cover = vec![];
        self.cover_within(from, 0, size, &mut cover);
        cover
    }

    fn cover_within(&self, from: u64, start: u64, end: u64, cover: &mut Vec<Digest>) {
        if start >= from {
            cover.push(self.mth(start, end));
        } else if from < end {
            let mid = start + split(end - start);
            self.cover_within(from, start, mid, cover);
            self.cover_within(from, mid, end, cover);
        }
    }

    /// The head that an honest writer signs at this size and time.
    pub(crate) fn said(&self, size: u64, time: u64) -> Said {
        Said { size, base: self.items[size as usize - 1].base, time }
    }

    pub(crate) fn message(&self, said: Said) -> Vec<u8> {
        let mut bytes = b"consilience signed log head v1\0\0".to_vec();
        bytes.extend(self.opening.log_id(&self.mesh).as_bytes());
        bytes.extend(said.size.to_le_bytes());
        bytes.extend(said.base.to_le_bytes());
        bytes.extend(said.time.to_le_bytes());
        bytes.extend(self.root(said.size));
        bytes
    }

    pub(crate) fn sign(&self, said: Said) -> [u8; 64] {
        *self.signer.sign(&self.message(said)).unwrap().as_bytes()
    }

    pub(crate) fn head_bytes(&self, said: Said, ink: &mut Ink) {
        ink.put(&[0x29]);
        ink.put(&self.opening.encode(&self.mesh));
        ink.varint(said.size);
        ink.varint(said.base);
        ink.varint(said.time);
        ink.put(&self.root(said.size));
        ink.put(&self.sign(said));
    }

    /// One entry, written behind another.
    pub(crate) fn entry(&self, seq: u64, behind: Behind, ink: &mut Ink) {
        let item = &self.items[seq as usize];
        let (form, numbers) = match (item.hlc >> 16).checked_sub(behind.1 >> 16) {
            Some(0) if Some(item.hlc) == behind.1.checked_add(1) => (0, vec![]),
            Some(millis @ 1..) if item.hlc & 0xffff == 0 => (1, vec![millis]),
            Some(millis) if item.hlc > behind.1 => (2, vec![millis, item.hlc & 0xffff]),
            _ => (3, vec![]),
        };
        let rise = item.base - behind.0;
        let (extended, epoch) = (!item.extension().is_empty(), item.epoch != behind.2);
        let bits = [rise > 0, extended, item.erased, epoch];
        let bits = bits.iter().enumerate().map(|(at, bit)| u8::from(*bit) << at).sum::<u8>();
        let extra = item.flags << 4 | bits;
        ink.varint((item.payload.len() as u64) << 3 | form << 1 | u64::from(extra > 0));
        if extra > 0 {
            ink.put(&[extra]);
        }
        if rise > 0 {
            ink.varint(rise);
        }
        if epoch {
            ink.put(&item.epoch.to_le_bytes());
        }
        numbers.into_iter().for_each(|number| ink.varint(number));
        if form == 3 {
            ink.put(&item.hlc.to_le_bytes());
        }
        if extended {
            ink.counted(|ink| item.write_fields(ink));
        }
        if item.erased {
            ink.put(&self.payload_hash(item));
        } else {
            ink.put(&item.salt);
            ink.put(&item.payload);
        }
    }

    /// The range `[from, to)` under a head, with the peaks before it or without them.
    pub(crate) fn range_ink(&self, range: (u64, u64), alone: bool, said: Said, ink: &mut Ink) {
        self.range_signed(range, alone, said, &self.sign(said), ink);
    }

    pub(crate) fn range_signed(
        &self,
        (from, to): (u64, u64),
        alone: bool,
        said: Said,
        signature: &[u8; 64],
        ink: &mut Ink,
    ) {
        let more = said.size - to;
        // From the start on there are no peaks, and a range stands alone without the bit.
        let (peaks, alone) = (alone && from > 0, alone || from == 0);
        ink.put(&[0x20 + u8::from(peaks) + 2 * u8::from(more > 0)]);
        ink.varint(from);
        ink.varint(to - from);
        let mut behind = Behind::default();
        if alone {
            ink.put(&self.peaks(from).concat());
        } else {
            behind = self.items[from as usize - 1].behind();
        }
        for seq in from..to {
            self.entry(seq, behind, ink);
            behind = self.items[seq as usize].behind();
        }
        if more > 0 {
            ink.varint(more);
        }
        if more > 0 || (alone && from == to) {
            ink.varint(said.base);
        }
        ink.varint(zigzag(behind.1 >> 16, said.time));
        ink.put(signature);
        ink.put(&self.cover(to, said.size).concat());
    }

    pub(crate) fn range(&self, range: (u64, u64), alone: bool, said: Said) -> Vec<u8> {
        let mut ink = Ink::default();
        self.range_ink(range, alone, said, &mut ink);
        ink.bytes
    }

    /// Everything, under a head signed at this time.
    pub(crate) fn whole(&self, time: u64) -> Vec<u8> {
        self.range((0, self.size()), false, self.said(self.size(), time))
    }

    fn side(&self, size: u64, shared: usize, said: Said, ink: &mut Ink) {
        ink.varint(said.size - size);
        ink.varint(said.base);
        ink.varint(said.time);
        ink.put(&self.sign(said));
        if said.size == size {
            ink.put(&self.root(size));
        } else {
            ink.put(&self.peaks(size)[shared..].concat());
            ink.put(&self.cover(size, said.size).concat());
        }
    }

    /// Evidence that this log and another differ at a size.
    pub(crate) fn evidence(&self, other: &Self, size: u64, heads: [Said; 2], ink: &mut Ink) {
        let whole = heads.iter().any(|said| said.size == size);
        let same = |(one, other): &(Digest, Digest)| one == other;
        let shared = self.peaks(size).into_iter().zip(other.peaks(size)).take_while(same).count();
        let shared = if whole { 0 } else { shared };
        ink.put(&[0x2a]);
        ink.put(&self.opening.encode(&self.mesh));
        ink.varint(size);
        ink.varint(shared as u64);
        ink.put(&self.peaks(size)[..shared].concat());
        let plain = |log: &Self, said| {
            let mut ink = Ink::default();
            log.side(size, shared, said, &mut ink);
            ink.bytes
        };
        let mut sides = [(self, heads[0]), (other, heads[1])];
        sides.sort_by_key(|(log, said)| plain(log, *said));
        for (log, said) in sides {
            log.side(size, shared, said, ink);
        }
    }
}

/// The largest power of two smaller than `n`.
fn split(n: u64) -> u64 {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}
