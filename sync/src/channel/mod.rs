//! The channel of a session: frames, the handshake, and a stream of bytes over packets that get lost. It knows no logs.

pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod link;
