//! Any bytes as what storage gives back, and real journals that were changed: see [`replicas`].
#![no_main]

use consilience_fuzz::replicas::{self, Storage};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|storage: Storage| replicas::storage(&storage));
