//! Any bytes as evidence of a fork: refused, and the set is as it was; or kept as they are, once, and never given up
//! for evidence that says less.

use std::sync::LazyLock;

use crate::logs::{T, mesh, opening, plenty};
use consilience_crdts::Timestamp;
use consilience_sync::{Admission, Evidence, Limits, LogKind, LogSet, OpenError, SetError};

static SET: LazyLock<LogSet> = LazyLock::new(|| {
    let mut set = LogSet::new(mesh(), Limits::default());
    set.open(&opening(LogKind::Event), |_| Admission::Hold).unwrap();
    set
});

/// Checks bytes.
pub fn check(bytes: &[u8]) {
    let now = Timestamp::from_millis(T);
    let mut set = SET.clone();
    let before = format!("{set:?}");
    let received = set.receive_evidence(bytes, now, &mut plenty(), |_| Admission::Hold);
    let evidence = match Evidence::decode(bytes, &mesh(), &mut plenty()) {
        Ok(evidence) => evidence,
        Err(error) => {
            assert_eq!(received, Err(SetError::Evidence(error)));
            assert_eq!(format!("{set:?}"), before, "a refused input changes nothing");
            return;
        }
    };
    if received == Err(SetError::Open(OpenError::Ahead)) {
        // An incarnation is a time in its upper 48 bits.
        assert!(evidence.opening().incarnation.as_u64() >> 16 > T, "the log was begun in the future");
        assert_eq!(format!("{set:?}"), before, "a refused input changes nothing");
        return;
    }
    assert_eq!(received, Ok(true));
    assert_eq!(evidence.as_bytes(), bytes, "one form only");
    assert_eq!(*evidence.log(), evidence.opening().log_id(&mesh()));
    assert!(evidence.valid_below() < evidence.size());
    assert_eq!(set.evidence(evidence.log()), Some(&evidence));
    let once = format!("{set:?}");
    let again = set.receive_evidence(bytes, now, &mut plenty(), |_| Admission::Ignore);
    assert_eq!((again, format!("{set:?}")), (Ok(false), once), "idempotent");
}
