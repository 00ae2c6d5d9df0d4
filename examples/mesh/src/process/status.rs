//! What a process says of what it holds.

use consilience::crdts::{Timestamp, Units};
use consilience::sync::{AgentId, LogKind, LogSet};
use consilience::{Replica, TopicView};

use crate::process::control::{Coupled, Status};
use crate::process::host::{Host, id_of};
use crate::process::node::{hex, text};
use crate::process::work::{AGENTS, FILES, MET, TOPIC, agents_of};

impl Host {
    pub(crate) fn status(&mut self, couplings: bool) -> Result<Status, String> {
        let (view, stats) = (self.replica.topic(TOPIC).map_err(text)?, self.replica.stats(None));
        let mut status = Status {
            digest: digest(&self.replica),
            events: view.events().len() as u64,
            keys: view.map(FILES).len() as u64,
            set_size: view.set(AGENTS).len() as u64,
            signatures_verified: self.replica.signatures_checked(),
            stored_bytes: stats.stored,
            live_bytes: stats.live,
            journal_bytes: self.journal_bytes(),
            written_bytes: self.written_bytes,
            ..of_logs(self.replica.logs())
        };
        if couplings {
            status.couplings = self.couplings(view);
            let latest = latest(view);
            let bundle = self.replica.export_bundle(|_| true, None, latest);
            status.bundle_bytes = bundle.map_err(text)?.len() as u64;
        }
        Ok(status)
    }

    fn couplings(&self, view: TopicView<'_>) -> Vec<Coupled> {
        let Some(met) = view.coupling(MET, self.schema).sum() else { return Vec::new() };
        let latest = latest(view);
        let numbers = numbers(view);
        let instants = [-2, -1, 0, 1, 2].map(|half_lives: i64| {
            let away = self.schema.half_life_ms().saturating_mul(half_lives.unsigned_abs());
            let millis = latest.as_millis();
            let millis =
                if half_lives < 0 { millis.saturating_sub(away) } else { millis.saturating_add(away) };
            Timestamp::from_millis(millis)
        });
        let coupled = met.iter(latest).filter_map(|(pair, _)| {
            let agents = agents_of(pair)?.map(|agent| numbers.get(&agent).copied());
            let [one, other] = [agents[0]?, agents[1]?];
            let values = instants.map(|instant| number(met.value(pair, instant)));
            Some(Coupled { agents: [one.min(other), one.max(other)], values })
        });
        coupled.collect()
    }
}

/// What the sets of logs of a replica and of a relay have in common.
pub(crate) fn of_logs(logs: &LogSet) -> Status {
    Status {
        root: root(logs),
        entries: logs.logs().map(consilience::sync::Log::size).sum(),
        forks: logs.logs().filter(|log| logs.evidence(log.id()).is_some()).count() as u64,
        ..Status::default()
    }
}

/// Hash over what counts of each log that somebody has signed.
fn root(logs: &LogSet) -> String {
    let mut hasher = blake3::Hasher::new();
    // They come in the order of their names.
    for log in logs.logs() {
        let evidence = logs.evidence(log.id());
        let size = match evidence {
            None => log.signed_size(),
            // Of a void log each may hold another part.
            Some(_) if log.opening().kind == LogKind::State => 0,
            Some(evidence) => log.signed_size().min(evidence.valid_below()),
        };
        if size == 0 && evidence.is_none() {
            continue;
        }
        hasher.update(log.id().as_bytes()).update(&size.to_le_bytes());
        hasher.update(&[u8::from(evidence.is_some())]);
        if let Some(root) = log.root_at(size) {
            hasher.update(root.as_bytes());
        }
    }
    hex(hasher.finalize().as_bytes())
}

/// Hash over the digests of all topics.
pub(crate) fn digest(replica: &Replica) -> String {
    let mut hasher = blake3::Hasher::new();
    for topic in replica.topics() {
        hasher.update(&blake3::hash(topic.as_str().as_bytes()).as_bytes()[..]);
        hasher.update(&replica.digest(topic));
    }
    hex(hasher.finalize().as_bytes())
}

/// The instant of the last event.
pub(crate) fn latest(view: TopicView<'_>) -> Timestamp {
    view.events().iter().last().map_or(Timestamp::EPOCH, |event| event.stamp.time())
}

/// The agents of the trace that were seen at work, by their names.
fn numbers(view: TopicView<'_>) -> std::collections::BTreeMap<AgentId, u64> {
    let seen = view.set(AGENTS).iter();
    let seen = seen.filter_map(|agent| std::str::from_utf8(agent.key).ok()?.parse().ok());
    seen.map(|number| (id_of(number), number)).collect()
}

/// Exact: a unit has 32 bits behind the point and at most 21 before it, up to the cap.
#[expect(clippy::cast_precision_loss, reason = "what is lost is below what is shown")]
pub(crate) fn number(units: Units) -> f64 {
    units.to_bits() as f64 / 2_f64.powi(32)
}
