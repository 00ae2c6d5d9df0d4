//! Any bytes as offers, and plans of a set that holds the logs they are about.
#![no_main]

use std::sync::LazyLock;

use consilience_fuzz::offers::{Held, held, plan};
use consilience_fuzz::reconcile::messages;
use consilience_sync::Offer;
use libfuzzer_sys::fuzz_target;

static HELD: LazyLock<Held> = LazyLock::new(held);

fuzz_target!(|bytes: &[u8]| {
    let decode = |bytes: &[u8]| {
        let offer = Offer::decode(bytes).ok()?;
        assert_eq!(offer.encode(), bytes, "one form only");
        Some(offer)
    };
    let offers: Vec<Offer> =
        decode(bytes).into_iter().chain(messages(bytes).into_iter().filter_map(decode)).collect();
    plan(&HELD, &offers);
});
