//! Any bytes as what opens a log, as a head, and as one of the small messages: refused, or the one form of what they
//! mean.

use crate::logs::mesh;
use consilience_sync::{AgentKey, Gone, Have, HeadError, LogOpening, OpeningError, SignedHead, Topic, Want};

/// Checks bytes.
pub fn check(bytes: &[u8]) {
    if let Ok(opening) = LogOpening::decode(bytes, &mesh()) {
        assert_eq!(opening.encode(&mesh()), bytes, "one form only");
        assert_eq!(Topic::new(opening.topic.as_str()).as_ref(), Ok(&opening.topic));
        assert!(opening.topic.is_within(&opening.topic));
    }
    match SignedHead::decode(bytes, &mesh()) {
        Ok((opening, head)) => {
            assert_eq!(head.encode(&opening, &mesh()), bytes, "one form only");
            let key = AgentKey::admit(&opening.agent).unwrap();
            assert!(head.verifies(&opening.log_id(&mesh()), &key) && head.base < head.size);
        }
        Err(HeadError::Opening(OpeningError::Decode(_))) => {}
        // Well formed up to where it is checked against something: so is the opening in it.
        Err(HeadError::BadSignature | HeadError::Opening(OpeningError::Key(_))) => {
            // After 54 bytes and the kind of the head, each level of the topic has a form, a length and so many bytes.
            let end = (0..bytes[54]).fold(55, |at, _| at + 2 + usize::from(bytes[at + 1]));
            assert!(LogOpening::decode(&bytes[1..end], &mesh()).is_ok());
        }
        Err(_) => {}
    }
    if let Ok(have) = Have::decode(bytes) {
        assert_eq!(have.encode(), bytes, "one form only");
        assert!(have.start <= have.size && have.base <= have.size);
    }
    if let Ok(want) = Want::decode(bytes) {
        assert_eq!(want.encode(), bytes, "one form only");
        assert!(want.from <= want.to);
    }
    if let Ok(gone) = Gone::decode(bytes) {
        assert_eq!(gone.encode(), bytes, "one form only");
    }
}
