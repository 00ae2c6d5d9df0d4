//! Any bytes as what a hostile member's entries say, beside honest ones: see [`replicas`].
#![no_main]

use consilience_fuzz::replicas::{self, Scene};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|scene: Scene| replicas::hostile(&scene));
