//! One replica: three collections, a clock, and the next peer on the ring that it keeps up to date. All that a host
//! does with the library is in here.

use std::collections::BTreeMap;

use consilience::crdts::{
    ActorId, Coupling, CouplingDelta, CouplingSchema, Hlc, LwwMap, MapDelta, OrSet, Timestamp, Units,
};

use super::follower::{Cursors, Follower};
use super::frame::{Frame, Parts};
use super::stopwatch::Stopwatch;
use super::trace::{Change, Event};

pub(crate) struct Replica {
    pub(crate) map: LwwMap,
    pub(crate) set: OrSet,
    pub(crate) coupling: Coupling,
    clock: Hlc,
    follower: Follower,
    /// Events that happened here.
    pub(crate) events: u64,
}

/// The three collections' canonical bytes.
pub(crate) struct Encoded {
    pub(crate) map: Vec<u8>,
    pub(crate) set: Vec<u8>,
    pub(crate) coupling: Vec<u8>,
}

impl Encoded {
    pub(crate) const fn len(&self) -> usize {
        self.map.len() + self.set.len() + self.coupling.len()
    }
}

impl Replica {
    pub(crate) fn new(schema: CouplingSchema) -> Self {
        let (map, set, coupling) = (LwwMap::new(), OrSet::new(), Coupling::new(schema));
        // All replicas start empty, so the peer has what this one has: nothing.
        let empty = Cursors { map: map.cursor(), set: set.cursor(), coupling: coupling.cursor() };
        Self { map, set, coupling, clock: Hlc::ZERO, follower: Follower::new(empty), events: 0 }
    }

    /// Makes the `ordinal`-th event of its agent happen here, and returns the frame for the peers.
    pub(crate) fn play(&mut self, event: &Event, ordinal: u64, now: Timestamp) -> Result<Vec<u8>, String> {
        self.events += 1;
        let actor = ActorId::from(event.agent);
        let value = format!("{}@{ordinal}", event.agent);
        let mut met: BTreeMap<u64, u32> = BTreeMap::new();
        let mut map = Vec::with_capacity(event.changes.len());
        for change in &event.changes {
            if let Some(other) = self.last_touch(change.key())
                && other != event.agent
            {
                *met.entry(other).or_default() += 1;
            }
            map.push(match change {
                Change::Set(key) => {
                    let stamp = self.clock.tick(now);
                    self.map.set(actor, key, value.as_bytes(), stamp).map_err(|error| error.to_string())?
                }
                Change::Remove(key) => self.map.remove(key),
            });
        }
        let set = self.set.insert(actor, event.agent.to_string().as_bytes());
        let set = set.map_err(|error| error.to_string())?;
        let mut coupling = Vec::with_capacity(met.len());
        for (other, keys) in met {
            // One unit for each key in common, contributed by the agent that came to it second.
            let delta = self.coupling.strengthen(actor, &pair(event.agent, other), Units::new(keys), now);
            coupling.push(delta.map_err(|error| error.to_string())?);
        }
        let map = joined(map, |one, other| Ok(one.join(other)))?.filter(|map| !map.is_empty());
        let coupling = joined(coupling, |one, other| one.join(other).map_err(|error| error.to_string()))?;
        let coupling = coupling.filter(|coupling| !coupling.is_empty());
        let parts = Parts {
            map: map.as_ref().map_or(&[], MapDelta::as_bytes),
            set: set.as_bytes(),
            coupling: coupling.as_ref().map_or(&[], CouplingDelta::as_bytes),
        };
        Frame::Changes { stamp: self.clock.tick(now), parts }.encode()
    }

    /// Who set the key last, as far as this replica knows. Of a removed key it knows nothing any more.
    fn last_touch(&self, key: &[u8]) -> Option<u64> {
        let author = self.map.entry(key)?.dot.actor;
        author.as_bytes().try_into().ok().map(u64::from_be_bytes)
    }

    /// What the next peer on the ring may lack: everything that changed here behind what it has confirmed, own events
    /// and merged ones alike. `None` if there is nothing.
    pub(crate) fn repair(&mut self, now: Timestamp) -> Result<Option<Vec<u8>>, String> {
        let confirmed = self.follower.confirmed();
        let reached =
            Cursors { map: self.map.cursor(), set: self.set.cursor(), coupling: self.coupling.cursor() };
        if reached == confirmed {
            return Ok(None);
        }
        let map = self.map.delta_since(confirmed.map);
        let set = self.set.delta_since(confirmed.set);
        let coupling = self.coupling.delta_since(confirmed.coupling);
        let parts = Parts {
            map: if map.is_empty() { &[] } else { map.as_bytes() },
            set: if set.is_empty() { &[] } else { set.as_bytes() },
            coupling: if coupling.is_empty() { &[] } else { coupling.as_bytes() },
        };
        let number = self.follower.sends(reached);
        Frame::Repair { number, stamp: self.clock.tick(now), parts }.encode().map(Some)
    }

    /// Takes a frame in. Returns the answer to send back, if there is one.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        merges: &mut Stopwatch,
    ) -> Result<Option<Vec<u8>>, String> {
        match Frame::decode(bytes)? {
            Frame::Changes { stamp, parts } => {
                self.merge(stamp, &parts, merges)?;
                Ok(None)
            }
            Frame::Repair { number, stamp, parts } => {
                self.merge(stamp, &parts, merges)?;
                Frame::Confirm { number }.encode().map(Some)
            }
            Frame::Confirm { number } => {
                self.follower.confirms(number);
                Ok(None)
            }
        }
    }

    fn merge(&mut self, stamp: Hlc, parts: &Parts<'_>, merges: &mut Stopwatch) -> Result<(), String> {
        self.clock.observe(stamp);
        let Self { map, set, coupling, .. } = self;
        let merged = merges
            .time(parts.map, |bytes| map.merge_encoded(bytes))
            .and_then(|_| merges.time(parts.set, |bytes| set.merge_encoded(bytes)))
            .and_then(|_| merges.time(parts.coupling, |bytes| coupling.merge_encoded(bytes)));
        match merged {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("a peer's delta was refused: {error}")),
        }
    }

    pub(crate) fn encode(&self) -> Encoded {
        Encoded { map: self.map.encode(), set: self.set.encode(), coupling: self.coupling.encode() }
    }
}

/// The join of all deltas, made two by two: each is copied as often as the logarithm of their number.
fn joined<D>(mut deltas: Vec<D>, join: impl Fn(&D, &D) -> Result<D, String>) -> Result<Option<D>, String> {
    while deltas.len() > 1 {
        let mut pairs = Vec::with_capacity(deltas.len().div_ceil(2));
        let mut rest = deltas.into_iter();
        while let Some(one) = rest.next() {
            pairs.push(match rest.next() {
                Some(other) => join(&one, &other)?,
                None => one,
            });
        }
        deltas = pairs;
    }
    Ok(deltas.pop())
}

/// The coupling's key for two agents, in whichever order.
pub(crate) fn pair(one: u64, other: u64) -> Vec<u8> {
    [one.min(other).to_be_bytes(), one.max(other).to_be_bytes()].concat()
}

/// The agents of a coupling's key.
pub(crate) fn agents(pair: &[u8]) -> Option<[u64; 2]> {
    let (one, other) = pair.split_at_checked(8)?;
    Some([u64::from_be_bytes(one.try_into().ok()?), u64::from_be_bytes(other.try_into().ok()?)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn replicas() -> [Replica; 2] {
        let schema = CouplingSchema::with_half_life(1_000_000).unwrap();
        [Replica::new(schema), Replica::new(schema)]
    }

    fn event(agent: u64, keys: &[&str]) -> Event {
        let change = |key: &&str| match key.strip_prefix('-') {
            Some(key) => Change::Remove(key.into()),
            None => Change::Set((*key).into()),
        };
        Event { time_s: 1_000, agent, changes: keys.iter().map(change).collect() }
    }

    fn are_equal(one: &Replica, other: &Replica) -> bool {
        (&one.map, &one.set, &one.coupling) == (&other.map, &other.set, &other.coupling)
    }

    #[test]
    fn one_frame_carries_all_that_an_event_changed() {
        let [mut here, mut there] = replicas();
        let events = [
            event(1, &["a", "b", "c"]),
            event(2, &["d", "e"]),
            event(3, &["f"]),
            event(4, &["a", "-b", "d", "f", "g", "-never"]),
            event(5, &[]),
            event(6, &["-a"]),
        ];
        for event in events {
            let frame = here.play(&event, 1, NOW).unwrap();
            assert_eq!(there.receive(&frame, &mut Stopwatch::default()), Ok(None));
            assert!(are_equal(&here, &there), "{event:?}");
        }
        let value = |one, other| there.coupling.sum().value(&pair(one, other), NOW).to_string();
        assert_eq!(
            [value(4, 1), value(2, 4), value(3, 4), value(6, 4), value(1, 2)],
            ["2", "1", "1", "1", "0"]
        );
    }

    #[test]
    fn repairs_cover_the_same_ground_until_they_are_confirmed() {
        let [mut here, mut there] = replicas();
        let merges = &mut Stopwatch::default();
        here.play(&event(1, &["a"]), 1, NOW).unwrap();
        let lost = here.repair(NOW).unwrap().unwrap();
        here.play(&event(2, &["a", "b"]), 1, NOW).unwrap();
        let repair = here.repair(NOW).unwrap().unwrap();
        assert!(repair.len() > lost.len());
        let confirm = there.receive(&repair, merges).unwrap().unwrap();
        assert!(are_equal(&here, &there));
        // The confirmation is under way: nothing is known yet.
        assert!(here.repair(NOW).unwrap().is_some());
        assert_eq!(here.receive(&confirm, merges), Ok(None));
        assert_eq!(here.repair(NOW), Ok(None));
    }

    #[test]
    fn a_refused_frame_is_an_error() {
        let [mut here, _] = replicas();
        let parts = Parts { map: b"nonsense", ..Parts::default() };
        let frame = Frame::Changes { stamp: Hlc::ZERO, parts }.encode().unwrap();
        assert!(here.receive(&frame, &mut Stopwatch::default()).is_err());
    }
}
