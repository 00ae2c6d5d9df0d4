//! Any bytes as a range of a log, held against copies of an event log and of a state log: refused, and nothing changes;
//! or taken in, and then the copy gives the very same bytes.

use std::sync::LazyLock;

use crate::logs::{consistent, follower, mesh, picture, plenty, proves, written};
use consilience_sync::{Allowance, Evidence, Log, LogKind, RangeForm, Received};

/// Copies, each with its picture: empty; with the front under a later head; whole; with a gap; behind a dropped front.
static COPIES: LazyLock<Vec<(Log, String)>> = LazyLock::new(|| {
    let mut copies = Vec::new();
    for kind in [LogKind::Event, LogKind::State] {
        let writer = written(kind);
        copies.push(follower(&writer, &[]));
        copies.push(follower(&writer, &[(0, 5, RangeForm::Follow)]));
        copies.push(follower(&writer, &[(0, 5, RangeForm::Follow), (20, 30, RangeForm::Alone)]));
        copies.push(follower(&writer, &[(48, 70, RangeForm::Alone)]));
        let mut whole = follower(&writer, &[(0, 70, RangeForm::Follow)]);
        whole.drop_below(40).unwrap();
        copies.push(whole);
    }
    copies.into_iter().map(|log| (log.clone(), picture(&log))).collect()
});

/// A varint, as short or as long as it is.
fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// Checks bytes.
pub fn check(bytes: &[u8]) {
    for (before, shown) in &*COPIES {
        let mut log = before.clone();
        let verified = log.verify(bytes, &mut plenty()).map(|verified| verified.entries().count());
        let received = match log.receive(bytes, &Allowance::ANY, &mut plenty()) {
            Ok(received) => received,
            Err(_) => {
                assert_eq!(picture(&log), *shown, "a refused input changes nothing");
                continue;
            }
        };
        consistent(&log);
        proves(&log);
        let mut rest = &bytes[1..];
        let (from, count) = (varint(&mut rest), varint(&mut rest));
        let form = if bytes[0] & 1 == 1 { RangeForm::Alone } else { RangeForm::Follow };
        if form == RangeForm::Alone {
            assert_eq!(verified, Ok(count as usize), "whoever holds nothing can check it too");
        }
        let same = match received {
            Received::Extended { to, .. } | Received::FastForwarded { to, .. } => to == from + count,
            Received::Staged { .. } | Received::Nothing | Received::Head => false,
            // Only the seeds have it from the writer's key.
            Received::Forked(evidence) => {
                let decoded = Evidence::decode(evidence.as_bytes(), &mesh(), &mut plenty());
                assert_eq!(decoded, Ok(*evidence), "evidence is portable");
                assert_eq!(picture(&log), *shown, "a fork changes nothing");
                continue;
            }
            Received::Conflict => panic!("nothing here is without a signature"),
            _ => unreachable!("{received:?}"),
        };
        if same {
            // What was erased on the way may be held whole here, but not the other way round.
            let again = log.range(from, from + count, form, usize::MAX).map(|(bytes, _)| bytes);
            let erased = log.entries(from, from + count).any(|entry| entry.payload().is_none());
            assert!(erased || again.as_deref() == Some(bytes), "one form only");
        }
        let once = picture(&log);
        if let Ok(again) = log.receive(bytes, &Allowance::ANY, &mut plenty()) {
            assert!(matches!(again, Received::Nothing | Received::Head), "idempotent: {again:?}");
        }
        assert!(once == picture(&log) || received == Received::Head, "idempotent");
    }
}
