//! The bytes of stand-ins: names and signatures that everybody can make.
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
pub(super) fn is_name(bytes: &[u8; 32]) -> bool {
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
