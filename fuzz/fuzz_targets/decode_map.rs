//! Any bytes as a map or a delta of one: see [`decoding`].
#![no_main]

use std::sync::LazyLock;

use consilience_crdts::LwwMap;
use consilience_fuzz::decoding::{self, populated};
use libfuzzer_sys::fuzz_target;

static POPULATED: LazyLock<LwwMap> = LazyLock::new(populated);

fuzz_target!(|bytes: &[u8]| decoding::check(&*POPULATED, bytes));
