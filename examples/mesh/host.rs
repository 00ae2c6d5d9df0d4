//! One host: a replica, its storage, and the agents that work here. All that a host does with the library is in here.

use std::collections::{BTreeMap, BTreeSet};

use consilience::crdts::{CouplingSchema, Timestamp, Units};
use consilience::sync::{AgentId, Keypair, MeshId, Signer as _, Topic};
use consilience::{
    CommitError, Config, CouplingRead, MapView, Opened, Replica, SetView, Stored, TopicView, Writer,
};

use super::message::Message;
use super::stopwatch::Stopwatch;
use super::trace::{Change, Event};
use super::verdict::Digest;

/// Everything happens in one topic.
const TOPIC: &str = "work";
/// Its collections: who touched which key last, who was seen at work, and who met whom.
const FILES: &str = "files";
const AGENTS: &str = "agents";
const MET: &str = "met";

pub(crate) struct Host {
    replica: Replica,
    topic: Topic,
    config: HostConfig,
    /// What a disk would hold: records, one after the other.
    disk: Vec<u8>,
    /// The agents that work here, by their numbers in the trace.
    writers: BTreeMap<u64, Writer>,
    /// A bundle with nothing in it.
    nothing: Vec<u8>,
    /// Events that happened here.
    pub(crate) events: u64,
    /// Ranges of entries that were refused because those before them have not come yet.
    pub(crate) refused: u64,
}

/// What a host is told before it starts.
#[derive(Clone, Copy)]
pub(crate) struct HostConfig {
    pub(crate) number: u64,
    pub(crate) seed: u64,
    pub(crate) schema: CouplingSchema,
}

/// What all logs of a replica take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Entries that were ever appended.
    pub(crate) entries: u64,
    /// Of these, the ones that are still needed.
    pub(crate) entries_kept: u64,
    /// Bytes of the latter.
    pub(crate) stored: u64,
    /// About how many of these say what is live.
    pub(crate) live: u64,
}

impl HostConfig {
    /// For the library. The mesh's secret and the entropy come from the seed, so that every run can be repeated; a real
    /// host draws them from the operating system.
    fn to_config(self) -> Config {
        let mesh = blake3::derive_key("consilience example mesh secret v1", &self.seed.to_le_bytes());
        let drawn = [self.seed.to_le_bytes(), self.number.to_le_bytes()].concat();
        let entropy = blake3::derive_key("consilience example mesh entropy v1", &drawn);
        Config::new(MeshId::from_bytes(mesh), entropy)
    }
}

impl Host {
    pub(crate) fn new(config: HostConfig) -> Result<Self, String> {
        let start = Timestamp::EPOCH;
        let mut replica = Replica::open(config.to_config(), Opened::Fresh, start).map_err(text)?;
        Ok(Self {
            topic: Topic::new(TOPIC).map_err(text)?,
            nothing: replica.export_bundle(|_| false, None, start).map_err(text)?,
            replica,
            config,
            disk: Vec::new(),
            writers: BTreeMap::new(),
            events: 0,
            refused: 0,
        })
    }

    /// Makes the `ordinal`-th event of its agent happen here, and returns the message for the peers.
    pub(crate) fn play(&mut self, event: &Event, ordinal: u64, now: Timestamp) -> Result<Message, String> {
        self.events += 1;
        let writer = match self.writers.get(&event.agent) {
            Some(writer) => *writer,
            None => self.replica.add_writer(keypair(event.agent)).map_err(text)?,
        };
        self.writers.insert(event.agent, writer);
        // One unit for each key in common, contributed by the agent that came to it second.
        let mut met: BTreeMap<AgentId, u32> = BTreeMap::new();
        let keys: BTreeSet<&[u8]> = event.changes.iter().map(Change::key).collect();
        let files = self.files()?;
        for author in keys.iter().filter_map(|key| files.get(key)).map(|file| file.author) {
            if author != writer.id() {
                *met.entry(author).or_default() += 1;
            }
        }
        let met: Vec<(AgentId, u32)> = met.into_iter().collect();
        let before = self.replica.summary();
        let work = Work { event, value: &format!("{}@{ordinal}", event.agent), now };
        self.commit(writer, &work, &event.changes, &met)?;
        self.store()?;
        // What is here now and was not before: signed, so that nobody need trust who passes it on.
        let bundle = self.replica.export_bundle(|_| true, Some(&before), now).map_err(text)?;
        Ok(Message::Changes(bundle))
    }

    /// One transaction; two if it is too large for one, and so on.
    fn commit(
        &mut self,
        writer: Writer,
        work: &Work<'_>,
        changes: &[Change],
        met: &[(AgentId, u32)],
    ) -> Result<(), String> {
        let mut tx = self.replica.transact(writer, TOPIC, work.now).map_err(text)?;
        for change in changes {
            match change {
                Change::Set(key) => tx.map(FILES).set(key, work.value),
                Change::Remove(key) => tx.map(FILES).remove(key),
            }
            .map_err(text)?;
        }
        tx.set(AGENTS).insert(work.event.agent.to_string()).map_err(text)?;
        for (other, keys) in met {
            let mut coupling = tx.coupling(MET, self.config.schema);
            coupling.strengthen(pair(writer.id(), *other), Units::new(*keys)).map_err(text)?;
        }
        match tx.commit() {
            Err(CommitError::TooLarge(_)) if changes.len().max(met.len()) > 1 => {
                let (changes, other_changes) = changes.split_at(changes.len() / 2);
                let (met, others_met) = met.split_at(met.len() / 2);
                self.commit(writer, work, changes, met)?;
                self.commit(writer, work, other_changes, others_met)
            }
            committed => committed.map(drop).map_err(text),
        }
    }

    /// Asks a peer for what is missing here.
    pub(crate) fn ask(&self) -> Message {
        Message::Summary(self.replica.summary())
    }

    /// Takes a message in. Returns the answer to send back, if there is one.
    pub(crate) fn receive(
        &mut self,
        message: &Message,
        now: Timestamp,
        merges: &mut Stopwatch,
    ) -> Result<Option<Message>, String> {
        match message {
            Message::Summary(summary) => {
                let bundle = self.replica.export_bundle(|_| true, Some(summary), now).map_err(text)?;
                Ok((bundle != self.nothing).then_some(Message::Repair(bundle)))
            }
            Message::Changes(bundle) | Message::Repair(bundle) => {
                let imported = merges.time(bundle, |bundle| self.replica.import_bundle(bundle, now));
                // What follows on entries that were lost is refused, and comes again with a repair.
                self.refused += imported.map_err(text)?.refused as u64;
                self.store()?;
                Ok(None)
            }
        }
    }

    /// Stores what has to be stored. Own entries may leave once that is confirmed.
    fn store(&mut self) -> Result<(), String> {
        while let Some(record) = self.replica.poll_record() {
            self.disk.extend(record.as_bytes());
            self.replica.confirm(record.id()).map_err(text)?;
        }
        Ok(())
    }

    /// Whether the host comes back from its storage as it is now.
    pub(crate) fn comes_back(&self, now: Timestamp) -> Result<bool, String> {
        let stored = Opened::Resumed(Stored { snapshot: None, records: &self.disk });
        let back = Replica::open(self.config.to_config(), stored, now).map_err(text)?;
        Ok(back.digest(&self.topic) == self.replica.digest(&self.topic))
    }

    /// What a peer would have to be sent that has nothing.
    pub(crate) fn everything(&mut self, now: Timestamp) -> Result<Vec<u8>, String> {
        self.replica.export_bundle(|_| true, None, now).map_err(text)
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest(self.replica.digest(&self.topic))
    }

    pub(crate) fn size(&self) -> Size {
        let stats = self.replica.stats(Some(&self.topic));
        let mut size = Size { stored: stats.stored, live: stats.live, ..Size::default() };
        for log in self.replica.logs().logs() {
            size.entries += log.size();
            size.entries_kept += log.size() - log.base();
        }
        size
    }

    /// Bytes on the disk: the records of everything that happened, since no snapshot is made.
    pub(crate) const fn disk_bytes(&self) -> usize {
        self.disk.len()
    }

    fn view(&self) -> Result<TopicView<'_>, String> {
        self.replica.topic(TOPIC).map_err(text)
    }

    pub(crate) fn files(&self) -> Result<MapView<'_>, String> {
        Ok(self.view()?.map(FILES))
    }

    pub(crate) fn agents(&self) -> Result<SetView<'_>, String> {
        Ok(self.view()?.set(AGENTS))
    }

    pub(crate) fn met(&self) -> Result<CouplingRead<'_>, String> {
        Ok(self.view()?.coupling(MET, self.config.schema))
    }
}

/// What the transactions of one event have in common.
struct Work<'a> {
    event: &'a Event,
    value: &'a str,
    now: Timestamp,
}

/// The key of an agent, made from its name so that every run has the same; a real one is drawn and kept secret.
fn keypair(agent: u64) -> Keypair {
    let name = format!("agent {agent}");
    Keypair::from_seed(blake3::derive_key("consilience example mesh agent v1", name.as_bytes()))
}

/// An agent's public key.
pub(crate) fn id_of(agent: u64) -> AgentId {
    keypair(agent).agent()
}

/// The coupling's key for two agents, in whichever order.
pub(crate) fn pair(one: AgentId, other: AgentId) -> Vec<u8> {
    [one.min(other).as_bytes().as_slice(), one.max(other).as_bytes()].concat()
}

/// The agents of a coupling's key.
pub(crate) fn agents_of(pair: &[u8]) -> Option<[AgentId; 2]> {
    let (one, other) = pair.split_at_checked(32)?;
    Some([AgentId::from_bytes(one.try_into().ok()?), AgentId::from_bytes(other.try_into().ok()?)])
}

fn text(error: impl std::error::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn hosts() -> [Host; 2] {
        let schema = CouplingSchema::with_half_life(1_000_000).unwrap();
        [1, 2].map(|number| Host::new(HostConfig { number, seed: 7, schema }).unwrap())
    }

    fn event(agent: u64, keys: &[&str]) -> Event {
        let change = |key: &&str| match key.strip_prefix('-') {
            Some(key) => Change::Remove(key.into()),
            None => Change::Set((*key).into()),
        };
        Event { time_s: 1_000, agent, changes: keys.iter().map(change).collect() }
    }

    fn receive(host: &mut Host, message: &Message) -> Option<Message> {
        host.receive(message, NOW, &mut Stopwatch::default()).unwrap()
    }

    #[test]
    fn one_message_carries_all_that_an_event_changed() {
        let [mut here, mut there] = hosts();
        let events = [
            event(1, &["a", "b", "c"]),
            event(2, &["d", "e"]),
            event(3, &["f"]),
            event(4, &["a", "-b", "d", "f", "g", "-never"]),
            event(5, &[]),
            event(6, &["-a"]),
        ];
        for event in events {
            let message = here.play(&event, 1, NOW).unwrap();
            assert_eq!(receive(&mut there, &message), None);
            assert_eq!(here.digest(), there.digest(), "{event:?}");
        }
        let value = |one, other| {
            let pair = pair(id_of(one), id_of(other));
            there.met().unwrap().value(pair, NOW).to_string()
        };
        assert_eq!(
            [value(4, 1), value(2, 4), value(3, 4), value(6, 4), value(1, 2)],
            ["2", "1", "1", "1", "0"]
        );
        assert!(here.comes_back(NOW).unwrap() && there.comes_back(NOW).unwrap());
    }

    #[test]
    fn an_answer_has_what_the_asker_lacks_and_no_more() {
        let [mut here, mut there] = hosts();
        assert_eq!(receive(&mut here, &there.ask()), None);
        here.play(&event(1, &["a"]), 1, NOW).unwrap();
        let early = there.ask();
        let Some(Message::Repair(first)) = receive(&mut here, &early) else { panic!("there is something") };
        receive(&mut there, &Message::Repair(first.clone()));
        let lost = here.play(&event(1, &["b"]), 2, NOW).unwrap();
        // It follows on what was lost, so it says nothing.
        let next = here.play(&event(1, &["c"]), 3, NOW).unwrap();
        receive(&mut there, &next);
        assert_eq!(there.files().unwrap().len(), 1);
        let repair = receive(&mut here, &there.ask()).unwrap();
        // The answer to an old question has more in it, and does no harm; nor does what was thought lost.
        for message in [&receive(&mut here, &early).unwrap(), &repair, &lost, &next] {
            receive(&mut there, message);
            assert_eq!(here.digest(), there.digest());
        }
        assert_eq!(receive(&mut here, &there.ask()), None);
        assert_eq!(receive(&mut there, &here.ask()), None);
    }

    #[test]
    fn an_event_that_is_too_large_for_one_entry_becomes_several() {
        let [mut here, mut there] = hosts();
        let keys: Vec<String> = (0..5_000).map(|key| format!("some/quite/long/path/{key}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let message = here.play(&event(1, &keys), 1, NOW).unwrap();
        assert!(here.size().entries > 1);
        receive(&mut there, &message);
        assert_eq!(there.files().unwrap().len(), 5_000);
        assert_eq!(here.digest(), there.digest());
    }

    #[test]
    fn a_refused_message_is_an_error() {
        let [mut here, _] = hosts();
        for message in [Message::Changes(b"nonsense".into()), Message::Summary(b"nonsense".into())] {
            assert!(here.receive(&message, NOW, &mut Stopwatch::default()).is_err());
        }
    }
}
