//! Whole replicas that write, meet, restart, fork and hear a hostile member: see [`whole`].
#![no_main]

use consilience_fuzz::whole::{self, Step};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|steps: Vec<Step>| whole::run(&steps));
