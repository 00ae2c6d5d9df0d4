//! Any bytes as a causal context: refused, or the one form of a set of dots, which joins as sets do.

use consilience_crdts::{ActorId, CausalContext, Dot};

fn populated() -> CausalContext {
    let mut context = CausalContext::new();
    for (name, counter) in [(b"a", 1), (b"a", 2), (b"a", 5), (b"a", 9), (b"b", 3), (b"c", 1)] {
        context.insert(Dot { actor: ActorId::new(name).unwrap(), counter });
    }
    context
}

/// Checks bytes.
pub fn check(bytes: &[u8]) {
    let Ok(decoded) = CausalContext::decode(bytes) else { return };
    assert_eq!(decoded.encode(), bytes, "one form only");
    let own = populated();
    let mut merged = own.clone();
    merged.merge(&decoded);
    let mut other_way = decoded.clone();
    other_way.merge(&own);
    assert_eq!(merged, other_way, "commutative");
    assert_eq!(CausalContext::decode(&merged.encode()).as_ref(), Ok(&merged));
    let once = merged.clone();
    merged.merge(&decoded);
    merged.merge(&own);
    assert_eq!(merged, once, "idempotent");
    // The part without gaps is in it, and what lies behind it is not.
    for (actor, upto) in decoded.vector().iter() {
        assert!(
            decoded.contains(&Dot { actor, counter: 1 }) && decoded.contains(&Dot { actor, counter: upto })
        );
        assert!(!decoded.contains(&Dot { actor, counter: upto + 1 }));
    }
    for (name, counter) in [(b"a", 1), (b"a", 2), (b"a", 3), (b"a", 9), (b"b", 2), (b"b", 3), (b"c", 1)] {
        let dot = Dot { actor: ActorId::new(name).unwrap(), counter };
        assert_eq!(once.contains(&dot), own.contains(&dot) || decoded.contains(&dot), "a union");
        let mut more = decoded.clone();
        assert_eq!(more.insert(dot), !decoded.contains(&dot));
        assert!(more.contains(&dot));
    }
}
