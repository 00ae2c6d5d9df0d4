//! Histories over three replicas of a map and of a set: see [`trace`].
#![no_main]

use consilience_crdts::{LwwMap, OrSet};
use consilience_fuzz::trace::{self, Step};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|steps: Vec<Step>| {
    trace::run::<LwwMap>(&steps);
    trace::run::<OrSet>(&steps);
});
