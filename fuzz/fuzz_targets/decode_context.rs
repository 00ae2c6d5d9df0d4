//! Any bytes as a causal context: see [`targets`].
#![no_main]

use consilience_fuzz::targets;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| targets::decode_context(bytes));
