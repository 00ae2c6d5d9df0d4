//! Two sets that are reconciled while frames are lost, repeated and changed: see [`reconcile`].
#![no_main]

use consilience_fuzz::reconcile::{self, Session};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|session: Session| reconcile::run(&session));
