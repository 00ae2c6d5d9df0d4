//! A writer, its clone and two followers that exchange ranges: see [`session`].
#![no_main]

use consilience_fuzz::session::{self, Session};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|history: Session| session::run(&history));
