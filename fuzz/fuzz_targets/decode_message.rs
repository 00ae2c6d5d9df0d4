//! Any bytes as messages to one side of a reconciliation in each of its phases, and as the state of one.
#![no_main]

use std::sync::{LazyLock, Mutex};

use consilience_fuzz::reconcile::{Scene, messages, scenes};
use libfuzzer_sys::fuzz_target;

static SCENES: LazyLock<Mutex<Vec<Scene>>> = LazyLock::new(|| Mutex::new(scenes()));

fuzz_target!(|bytes: &[u8]| {
    let messages = messages(bytes);
    for scene in SCENES.lock().unwrap().iter_mut() {
        scene.receive(&messages);
        scene.restore(bytes);
    }
});
