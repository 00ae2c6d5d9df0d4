//! Any bytes as what opens a log, as a head, and as one of the small messages: see [`targets`].
#![no_main]

use consilience_fuzz::targets;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| targets::decode_head_opening(bytes));
