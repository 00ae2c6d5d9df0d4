//! The exchange of a session: what two log stores tell each other so that both come to hold the same. It knows no packets.

pub(crate) mod checkpoints;
pub(crate) mod message;
pub(crate) mod outbox;
pub(crate) mod pass;
pub(crate) mod scope;
pub(crate) mod talk;
