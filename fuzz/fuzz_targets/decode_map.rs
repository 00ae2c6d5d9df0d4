//! Any bytes as a map or a delta of one: see [`targets`].
#![no_main]

use consilience_fuzz::targets;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| targets::decode_map(bytes));
