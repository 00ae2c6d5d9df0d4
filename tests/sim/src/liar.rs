//! A liar: a member with its own key, which signs any number of histories of its logs, and hands over any part of them.

use std::collections::BTreeMap;

use consilience::crdts::{Hlc, Timestamp};
use consilience::sync::{
    Answer, Closure, Incarnation, Limits, LogKind, LogOpening, LogSet, NewEntry, RangeForm, Topic, Want,
};
use consilience_test_support::hand::{bundle, coupling_id, map_id, op_end, op_set, op_strengthen, payload};
use consilience_test_support::replicas::{START, mesh, schema};

use crate::draw::FAR;
use crate::keys::Keys;
use crate::step::{Kind, Sign};

/// The liars' histories, by agent and name.
#[derive(Debug)]
pub(crate) struct Liars {
    keys: Keys,
    branches: BTreeMap<(String, String), LogSet>,
}

fn opening(keys: Keys, agent: &str, topic: &str, kind: Kind, incarnation: u64) -> Option<LogOpening> {
    Some(LogOpening {
        topic: Topic::new(topic).ok()?,
        kind: if kind == Kind::State { LogKind::State } else { LogKind::Event },
        agent: keys.agent(agent),
        incarnation: Incarnation::from_u64(incarnation),
    })
}

impl Liars {
    pub(crate) const fn new(keys: Keys) -> Self {
        Self { keys, branches: BTreeMap::new() }
    }

    /// Whether none has signed anything yet.
    pub(crate) fn are_quiet(&self) -> bool {
        self.branches.is_empty()
    }

    /// Signs entries; what the library refuses to write for it is left out. Whether there is anything to hand over.
    pub(crate) fn sign(&mut self, sign: &Sign, now: u64) -> bool {
        let name = (sign.by.clone(), sign.branch.clone());
        if !self.branches.contains_key(&name) {
            let like =
                sign.like.as_ref().and_then(|like| self.branches.get(&(sign.by.clone(), like.clone())));
            let begins = like.cloned().unwrap_or_else(|| LogSet::new(mesh(), Limits::default()));
            self.branches.insert(name.clone(), begins);
        }
        let Some(set) = self.branches.get_mut(&name) else { return false };
        let Some(opening) = opening(self.keys, &sign.by, &sign.topic, sign.kind, sign.incarnation) else {
            return false;
        };
        let Ok(log) = set.open_local(&opening) else { return false };
        let closes = sign.closes.iter().map(|(incarnation, below)| Closure {
            incarnation: Incarnation::from_u64(*incarnation),
            below: *below,
        });
        let closures: Vec<Closure> = closes.collect();
        for (number, (key, value)) in sign.writes.iter().enumerate() {
            let bytes = match sign.kind {
                Kind::State if key == FAR => {
                    let far = op_strengthen(value, u64::MAX - number as u64);
                    payload(&[], &[(coupling_id("trust", &schema()), vec![far])])
                }
                Kind::State => payload(&[], &[(map_id("tasks"), vec![op_set(key, value, &[])])]),
                Kind::Event => value.clone().into_bytes(),
            };
            let mut hlc = set
                .log(&log)
                .and_then(|log| log.entries(0, u64::MAX).last().map(|entry| entry.hlc))
                .unwrap_or(Hlc::ZERO);
            let stamp = hlc.tick(Timestamp::from_millis(START + now + sign.ahead));
            let mut entry = NewEntry::new(stamp, &bytes);
            if number + 1 == sign.writes.len() {
                entry.base = sign.base.max(set.log(&log).map_or(0, consilience::sync::Log::base));
                if sign.kind == Kind::State {
                    entry.closures = &closures;
                    entry.last_final = sign.last_final.map(Incarnation::from_u64);
                }
            }
            let _ = set.append(&log, &entry);
        }
        let signed =
            set.sign_head(&log, &self.keys.key(&sign.by), Timestamp::from_millis(START + now + sign.ahead));
        signed.is_ok()
    }

    /// The bundle with a removal of a write that a log's next entry will hold, of which the liar knows all but the tag.
    pub(crate) fn guess(&self, by: &str, topic: &str, next: ([u8; 8], u64), now: u64) -> Option<Vec<u8>> {
        let mut set = LogSet::new(mesh(), Limits::default());
        let time = START + now;
        let opening = opening(
            self.keys,
            by,
            topic,
            Kind::State,
            Incarnation::next(None, Timestamp::from_millis(time), [0; 2]).as_u64(),
        )?;
        let log = set.open_local(&opening).ok()?;
        let bytes = payload(&[next.0], &[(map_id("tasks"), vec![op_end(&[(0, next.1, 0, [0; 4])])])]);
        let mut hlc = Hlc::ZERO;
        set.append(&log, &NewEntry::new(hlc.tick(Timestamp::from_millis(time)), &bytes)).ok()?;
        set.sign_head(&log, &self.keys.key(by), Timestamp::from_millis(time)).ok()?;
        let want = Want { from: 0, to: 1, form: RangeForm::Follow };
        let Answer::Range { bytes, .. } = set.answer(&log, &want, usize::MAX) else { return None };
        let range = [&log.alias()[..], &bytes].concat();
        Some(bundle(set.mesh(), &[(1, opening.encode(set.mesh())), (3, range)]))
    }

    /// The bundle with a range of a log, if there is one.
    pub(crate) fn range(
        &self,
        (by, branch): (&str, &str),
        (topic, kind, incarnation): (&str, Kind, u64),
        (from, to): (u64, u64),
    ) -> Option<Vec<u8>> {
        let set = self.branches.get(&(by.into(), branch.into()))?;
        let opening = opening(self.keys, by, topic, kind, incarnation)?;
        let log = set.log(&opening.log_id(set.mesh()))?;
        let from = from.clamp(log.start(), log.signed_size());
        let to = to.clamp(from, log.signed_size());
        let form = if from == 0 { RangeForm::Follow } else { RangeForm::Alone };
        let Answer::Range { bytes, .. } = set.answer(log.id(), &Want { from, to, form }, usize::MAX) else {
            return None;
        };
        let range = [&log.id().alias()[..], &bytes].concat();
        Some(bundle(set.mesh(), &[(1, opening.encode(set.mesh())), (3, range)]))
    }
}
