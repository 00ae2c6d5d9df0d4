//! `Noise_NNpsk0_25519_ChaChaPoly_SHA256`, written from the Noise specification (revision 34) alone: a second opinion on the
//! bytes of a handshake.

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, Tag};
use sha2::{Digest, Sha256};

/// The public key of a secret.
pub fn public(secret: &[u8; 32]) -> [u8; 32] {
    x25519_dalek::x25519(*secret, x25519_dalek::X25519_BASEPOINT_BYTES)
}

/// The secret that the holder of a secret shares with that of a public key.
pub fn shared(secret: &[u8; 32], theirs: &[u8; 32]) -> [u8; 32] {
    x25519_dalek::x25519(*secret, *theirs)
}

fn nonce(number: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_le_bytes());
    nonce
}

/// `ENCRYPT(k, n, ad, plaintext)`.
pub fn encrypt(key: &[u8; 32], number: u64, data: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut bytes = plain.to_vec();
    let cipher = ChaCha20Poly1305::new(&(*key).into());
    let tag =
        cipher.encrypt_inout_detached(&nonce(number).into(), data, bytes.as_mut_slice().into()).unwrap();
    bytes.extend(tag);
    bytes
}

/// `DECRYPT(k, n, ad, ciphertext)`.
pub fn decrypt(key: &[u8; 32], number: u64, data: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (sealed, tag) = sealed.split_last_chunk::<16>()?;
    let mut plain = vec![0; sealed.len()];
    let both = InOutBuf::new(sealed, &mut plain).unwrap();
    let cipher = ChaCha20Poly1305::new(&(*key).into());
    cipher.decrypt_inout_detached(&nonce(number).into(), data, both, &Tag::from(*tag)).ok()?;
    Some(plain)
}

/// `REKEY(k)`.
pub fn rekey(key: &[u8; 32]) -> [u8; 32] {
    *encrypt(key, u64::MAX, &[], &[0; 32]).first_chunk().unwrap()
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

/// RFC 2104.
fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(place, byte)| *place ^= byte);
        block
    };
    let inner = hash(&[&[&pad(0x36)[..]], parts].concat());
    hash(&[&pad(0x5c), &inner])
}

/// The side of a handshake whose messages are made and read one after the other.
#[derive(Clone, Debug)]
pub struct Handshake {
    h: [u8; 32],
    ck: [u8; 32],
    k: [u8; 32],
    psk: [u8; 32],
    secret: [u8; 32],
}

impl Handshake {
    /// `Initialize` with a prologue, the shared key and the ephemeral secret.
    pub fn new(prologue: &[u8], psk: [u8; 32], secret: [u8; 32]) -> Self {
        // The name is longer than a hash.
        let h = hash(&[b"Noise_NNpsk0_25519_ChaChaPoly_SHA256"]);
        let mut made = Self { h, ck: h, k: [0; 32], psk, secret };
        made.mix_hash(prologue);
        made
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.h = hash(&[&self.h, data]);
    }

    fn hkdf(&self, material: &[u8]) -> [[u8; 32]; 3] {
        let temp = hmac(&self.ck, &[material]);
        let first = hmac(&temp, &[&[1]]);
        let second = hmac(&temp, &[&first, &[2]]);
        [first, second, hmac(&temp, &[&second, &[3]])]
    }

    fn mix_key(&mut self, material: &[u8]) {
        [self.ck, self.k, _] = self.hkdf(material);
    }

    fn mix_psk(&mut self) {
        let [ck, hash, k] = self.hkdf(&self.psk.clone());
        (self.ck, self.k) = (ck, k);
        self.mix_hash(&hash);
    }

    fn mix_point(&mut self, point: &[u8; 32]) {
        self.mix_hash(point);
        self.mix_key(point);
    }

    fn seal(&mut self, payload: &[u8]) -> Vec<u8> {
        let sealed = encrypt(&self.k, 0, &self.h, payload);
        self.mix_hash(&sealed);
        sealed
    }

    /// Goes on as if nothing had happened, if the payload does not open.
    fn open(&mut self, sealed: &[u8]) -> Option<Vec<u8>> {
        let payload = decrypt(&self.k, 0, &self.h, sealed);
        self.mix_hash(sealed);
        payload
    }

    /// `-> psk, e`, written.
    pub fn write_first(&mut self, payload: &[u8]) -> Vec<u8> {
        let e = public(&self.secret);
        self.mix_psk();
        self.mix_point(&e);
        [e.to_vec(), self.seal(payload)].concat()
    }

    /// The same, read.
    pub fn read_first(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let (e, sealed) = message.split_first_chunk()?;
        self.mix_psk();
        self.mix_point(e);
        self.open(sealed)
    }

    /// `<- e, ee`, written to the holder of a key.
    pub fn write_second(&mut self, theirs: &[u8; 32], payload: &[u8]) -> Vec<u8> {
        let e = public(&self.secret);
        self.mix_point(&e);
        self.mix_key(&shared(&self.secret, theirs));
        [e.to_vec(), self.seal(payload)].concat()
    }

    /// The same, read.
    pub fn read_second(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let shared = shared(&self.secret, message.first_chunk()?);
        self.read_second_as(message, &shared)
    }

    /// The same, as if this were the secret that both ephemeral keys give.
    pub fn read_second_as(&mut self, message: &[u8], shared: &[u8; 32]) -> Option<Vec<u8>> {
        let (e, sealed) = message.split_first_chunk()?;
        self.mix_point(e);
        self.mix_key(shared);
        self.open(sealed)
    }

    /// The hash, and both keys of `Split`, one after the other.
    pub fn split(&self) -> ([u8; 32], Vec<u8>) {
        let [first, second, _] = self.hkdf(&[]);
        (self.h, [first, second].concat())
    }
}
