//! The bytes of stand-ins: names and signatures that everybody can make.
//!
//! And the public keys of their handshakes, from which everybody can work out the shared secret.
//!
//! Not here: the identity with such a name ([`StandIn`](super::StandIn)).

/// The first 16 bytes of a stand-in's name.
const MARK: &[u8; 16] = b"stand-in, forged";

/// The name with these last 16 bytes.
pub(super) fn name(rest: [u8; 16]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(MARK);
    bytes[16..].copy_from_slice(&rest);
    bytes
}

/// Whether bytes are the name of a stand-in.
pub(crate) fn is_name(bytes: &[u8; 32]) -> bool {
    bytes.starts_with(MARK)
}

/// The signature of a message.
pub(super) fn signature(name: &[u8; 32], message: &[u8]) -> [u8; 64] {
    let mut signature = [0; 64];
    let hash = blake3::keyed_hash(name, message);
    signature[..32].copy_from_slice(hash.as_bytes());
    signature[32..].copy_from_slice(hash.as_bytes());
    signature
}

/// The public key in a handshake, by its secret: not a point of the curve that anybody has, and marked like a name.
pub(crate) fn point(secret: &[u8; 32]) -> [u8; 32] {
    let hash = blake3::derive_key("consilience stand-in point v1", secret);
    name(hash.first_chunk().copied().unwrap_or_default())
}

/// The secret that the holders of two such keys share; none if one of them is not such a key.
pub(crate) fn shared(one: &[u8; 32], other: &[u8; 32]) -> Option<[u8; 32]> {
    if !is_name(one) || !is_name(other) {
        return None;
    }
    let (first, second) = if one < other { (one, other) } else { (other, one) };
    Some(blake3::derive_key("consilience stand-in shared secret v1", &[*first, *second].concat()))
}
