//! Any bytes as a set or a delta of one: see [`decoding`].
#![no_main]

use std::sync::LazyLock;

use consilience_crdts::OrSet;
use consilience_fuzz::decoding::{self, populated};
use libfuzzer_sys::fuzz_target;

static POPULATED: LazyLock<OrSet> = LazyLock::new(populated);

fuzz_target!(|bytes: &[u8]| decoding::check(&*POPULATED, bytes));
