//! The keys of those who write: made once, and with a memory of what they have signed. What one target does before its input
//! says anything different is signed in the same way each time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::LazyLock;

use consilience_sync::{AgentId, Keypair, SignError, Signature, Signer};

/// So many signatures are remembered.
const REMEMBERED_MAX: usize = 1 << 14;

static KEYS: LazyLock<Vec<(AgentId, Keypair)>> = LazyLock::new(|| {
    let keypairs = (0..=u8::MAX).map(|seed| Keypair::from_seed([seed; 32]));
    keypairs.map(|keypair| (keypair.agent(), keypair)).collect()
});

thread_local! {
    static SIGNED: RefCell<HashMap<(u8, Vec<u8>), Signature>> = RefCell::default();
}

/// The key whose seed is this byte, 32 times. Ed25519 gives the same signature each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(pub u8);

impl Key {
    /// The same as the library's own.
    pub fn keypair(self) -> Keypair {
        KEYS[usize::from(self.0)].1.clone()
    }
}

impl Signer for Key {
    fn agent(&self) -> AgentId {
        KEYS[usize::from(self.0)].0
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        SIGNED.with_borrow_mut(|signed| {
            if let Some(known) = signed.get(&(self.0, message.to_vec())) {
                return Ok(*known);
            }
            if signed.len() >= REMEMBERED_MAX {
                signed.clear();
            }
            let signature = KEYS[usize::from(self.0)].1.sign(message)?;
            signed.insert((self.0, message.to_vec()), signature);
            Ok(signature)
        })
    }
}
