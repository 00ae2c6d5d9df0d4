//! A member that says what it likes in a session: see [`conversation`].
#![no_main]

use consilience_fuzz::conversation::{self, Conversation};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|conversation: Conversation| conversation::run(&conversation));
