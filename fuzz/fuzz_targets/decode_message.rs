//! Any bytes as messages to one side of a reconciliation, and as the state of one: see [`targets`].
#![no_main]

use consilience_fuzz::targets;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| targets::decode_message(bytes));
