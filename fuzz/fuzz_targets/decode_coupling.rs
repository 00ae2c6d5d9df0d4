//! Any bytes as a coupling, a delta of one, or a schema: see [`targets`].
#![no_main]

use consilience_fuzz::targets;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| targets::decode_coupling(bytes));
