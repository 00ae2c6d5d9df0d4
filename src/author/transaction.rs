//! The dots that the writes of a transaction end, and the instants that its couplings state.
//!
//! The invariant: nothing here changes anything but the draft.

use alloc::collections::BTreeSet;

use consilience_crdts::coupling::CouplingError;
use consilience_crdts::{ActorId, Coupling, CouplingSchema};
use consilience_sync::planted::{Fault, planted};
use consilience_sync::{LogId, LogSet, Topic};

use crate::fold::{Fold, Table};
use crate::payload::{CollectionId, Draft, Ref};

/// Finds the dots that the writes of a draft end: the live ones under their keys that are not of the writer's own log.
/// Removals that would end nothing go.
pub(crate) fn end_seen(set: &LogSet, fold: &Fold, topic: &Topic, log: Option<&LogId>, draft: &mut Draft) {
    let state = fold.topic(topic);
    draft.retain_writes(|id, key, is_removal, ends: &mut BTreeSet<Ref>| {
        let Some(state) = state else { return !is_removal };
        let Some(Table::Dots(dots)) = state.collection(id).map(|collection| &collection.table) else {
            return !is_removal;
        };
        ends.clear();
        let mut found = false;
        for entry in dots.live.siblings(key) {
            found = true;
            let is_other = log.is_none_or(|log| entry.dot.actor.as_bytes() != log.as_bytes());
            if is_other && !planted(Fault::OthersAreNotEnded) {
                ends.extend(state.name_of(set, id, &entry.dot));
            }
        }
        found || !is_removal
    });
}

/// Works out the instant that a writer states for a key, from the state and from the statements that its draft has made
/// already.
///
/// # Errors
///
/// The errors of `work`.
pub(crate) fn coupled(
    (fold, topic): (&Fold, &Topic),
    (id, schema): (&CollectionId, CouplingSchema),
    (actor, key): (&ActorId, &[u8]),
    draft: &Draft,
    work: impl FnOnce(&Coupling, &[u8]) -> Result<Option<u64>, CouplingError>,
) -> Result<Option<u64>, CouplingError> {
    let collection = fold.topic(topic).and_then(|state| state.collection(id));
    let held = match collection.map(|collection| &collection.table) {
        Some(Table::CouplingTable(couplings)) => Some(couplings.sums()),
        _ => None,
    };
    let stated = draft.coupled(id, key);
    if let Some(held) = held.filter(|_| stated == (0, 0)) {
        return work(held, key);
    }
    // A row of its own, with the stated instants put over those in the state.
    let mut row = Coupling::new(schema);
    for actor in held.iter().flat_map(|held| held.contributors(key)) {
        let (strengthened, weakened) = held.map_or((0, 0), |held| held.instants(&actor, key));
        row.put(&actor, key, strengthened, weakened)?;
    }
    let (strengthened, weakened) = row.instants(actor, key);
    row.put(actor, key, strengthened.max(stated.0), weakened.max(stated.1))?;
    work(&row, key)
}
