//! [`Cipher`]: ChaCha20-Poly1305 (RFC 8439) with the nonces and the rekeying of Noise (revision 34, sections 4.2 and 12.3).
//!
//! Here: one key, and bytes that are sealed under a number. Not here: which number a frame has, and when a key is over
//! (`protect`). The invariant: whoever calls it seals at most once under one number.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, Nonce, Tag};
use zeroize::Zeroizing;

/// A secret of 32 bytes, wiped when it is dropped.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

/// The bytes that sealing adds.
pub(crate) const TAG_BYTES: usize = 16;

/// A secret that follows from others.
pub(super) fn derive(context: &str, parts: &[&[u8]]) -> Secret {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    Zeroizing::new(*hasher.finalize().as_bytes())
}

/// A key. Wiped when it is dropped.
pub(super) struct Cipher(ChaCha20Poly1305);

impl Cipher {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(ChaCha20Poly1305::new(&(*key).into()))
    }

    /// Four bytes of 0, and the number.
    fn nonce(number: u64) -> Nonce {
        let mut nonce = Nonce::default();
        let number = number.to_le_bytes();
        nonce.iter_mut().skip(4).zip(number).for_each(|(place, byte)| *place = byte);
        nonce
    }

    /// Encrypts bytes where they stand, and gives the tag that follows them. None if they are 256 GiB or more.
    pub(super) fn seal(&self, number: u64, data: &[u8], bytes: &mut [u8]) -> Option<[u8; TAG_BYTES]> {
        let tag = self.0.encrypt_inout_detached(&Self::nonce(number), data, bytes.into()).ok()?;
        Some(tag.into())
    }

    /// Decrypts bytes with their tag into the beginning of others, which are as long as the bytes without it at least. None
    /// if they were not sealed so: then nothing was written.
    pub(super) fn open(&self, number: u64, data: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<usize> {
        let (sealed, tag) = sealed.split_last_chunk::<TAG_BYTES>()?;
        let out = out.get_mut(..sealed.len())?;
        let both = InOutBuf::new(sealed, out).ok()?;
        self.0.decrypt_inout_detached(&Self::nonce(number), data, both, &Tag::from(*tag)).ok()?;
        Some(sealed.len())
    }

    /// Seals a few bytes that are sent once, as all that this key seals.
    pub(super) fn seal_once(&self, data: &[u8], bytes: &[u8], out: &mut Vec<u8>) {
        let from = out.len();
        out.extend_from_slice(bytes);
        let sealed = out.get_mut(from..).and_then(|bytes| self.seal(0, data, bytes));
        out.extend_from_slice(&sealed.unwrap_or_default());
    }

    /// The key that follows: the first 32 bytes of 32 zeros, sealed under the last number.
    pub(super) fn next(&self) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        // Of 32 bytes it always succeeds.
        let _ = self.seal(u64::MAX, &[], &mut key[..]);
        Self::new(&key)
    }
}

impl core::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Cipher")
    }
}
