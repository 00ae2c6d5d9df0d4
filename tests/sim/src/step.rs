//! [`Step`]: one thing that happens in a world. A history is a list of them, whether a seed drew it or a file holds it, so
//! a history that fails is made smaller by leaving steps out, and is its own report.
//!
//! A step that cannot be taken (an agent that does not run, a store that is not there) does nothing: so every part of a
//! history is a history.

use serde::{Deserialize, Serialize};

/// Times are milliseconds. Names of hosts, agents, stores and branches are the history's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Step {
    /// A host with storage begins to run a replica; its agent's key is made of the name.
    Agent { at: String },
    /// A host with storage begins to run a relay.
    Relay { at: String },
    /// Writes a key of a map.
    Set { at: String, topic: String, map: String, key: String, value: String },
    /// Removes a key of a map.
    Remove { at: String, topic: String, map: String, key: String },
    /// Inserts an element into a set.
    Insert { at: String, topic: String, set: String, element: String },
    /// Takes an element out of a set.
    Take { at: String, topic: String, set: String, element: String },
    /// Strengthens a key of a coupling with a half-life of an hour.
    Strengthen { at: String, topic: String, coupling: String, key: String, by: u32 },
    /// Weakens a key of a coupling.
    Weaken { at: String, topic: String, coupling: String, key: String, by: u32 },
    /// Appends an event.
    Event { at: String, topic: String, text: String },
    /// Gives up the own events of a topic, but for so many of the last.
    Prune { at: String, topic: String, keep: u64 },
    /// The host's clock is so far ahead of the world's, or behind it.
    Clock { at: String, ahead: i64 },
    /// So much time passes: frames fly, timers run.
    Advance { ms: u64 },
    /// Another host runs on a copy of a store, under the same key.
    Copy { at: String, to: String },
    /// The store is copied aside.
    Backup { at: String, name: String },
    /// The host ends, its store is put back from a copy, and it starts; whether it says so.
    Restore { at: String, name: String, said: bool },
    /// The host stores a snapshot, whatever it has confirmed.
    Snapshot { at: String },
    /// The process ends after all is stored.
    Stop { at: String },
    /// The process ends as it is; of what it had not written yet, so many of a hundred bytes are on the disk.
    Kill { at: String, written: u64 },
    /// The process starts again from its store.
    Start { at: String },
    /// The process starts again, and its store is gone.
    StartEmpty { at: String },
    /// When the host stores records and confirms them.
    Stores { at: String, when: When },
    /// Whether the host polls what it is told.
    Polls { at: String, polls: bool },
    /// Writes so many keys, each of a map of its own, and removes each at once.
    Churn { at: String, topic: String, many: u64 },
    /// Appends an event to each of so many topics.
    Crowd { at: String, many: u64 },
    /// A guest begins to run: a replica that writes nothing, has room for so many logs, and lets its peers see these topics
    /// alone, if any are named. It may lack what others hold.
    Guest { at: String, logs: usize, gate: Vec<String> },
    /// A host is handed openings of logs in the name of another's agent, which this never signed: so many, up to an
    /// incarnation.
    Openings { of: String, topic: String, kind: Kind, last: u64, many: u64, host: String },
    /// Somebody speaks the protocol of sessions to a host, under a key of its own, and by a script.
    Foe { by: String, host: String, script: Script, many: u64 },
    /// A liar signs a removal of the next write of a host's agent before it is there, and hands it to another host.
    Guess { by: String, topic: String, of: String, host: String },
    /// The process ends as it is, a bit on its disk becomes another one, so many thousandths behind the beginning of what is
    /// stored, and the process starts again: of what is not good any more as from a backup.
    Rot { at: String, place: u64 },
    /// The host gives the entropy of its first start at each one, or new entropy again.
    Entropy { at: String, again: bool },
    /// Two hosts are connected, until they are cut. The loss is of a hundred frames, and so are the repeats; one way only
    /// those of the first arrive.
    Link {
        from: String,
        to: String,
        loss: u64,
        repeats: u64,
        delay: u64,
        scope: Vec<String>,
        #[serde(default)]
        one_way: bool,
    },
    /// The connection between two hosts breaks; whether they notice.
    Cut { from: String, to: String, noticed: bool },
    /// Two hosts are connected for so long, and nobody else acts meanwhile.
    Meet { from: String, to: String, ms: u64, loss: u64 },
    /// The scope of the connections of a host changes.
    Scope { at: String, filters: Vec<String> },
    /// A host that holds nothing asks another one for all topics, and for one of them first.
    Prefer { of: String, first: String },
    /// A bundle is carried: of all topics, or of one.
    Bundle {
        from: String,
        to: String,
        whole: bool,
        #[serde(default)]
        topic: Option<String>,
    },
    /// A host forgets a topic.
    Purge { at: String, topic: String },
    /// Subscribes to a topic's changes, or ends all subscriptions.
    Subscribe { at: String, topic: Option<String> },
    /// A liar signs entries in one of its histories, which begins as another one is, if it is not there.
    Sign(Sign),
    /// A liar hands over a range of one of its logs.
    Give {
        by: String,
        branch: String,
        topic: String,
        kind: Kind,
        incarnation: u64,
        from: u64,
        to: u64,
        host: String,
    },
    /// A key of a map is read, or is not there.
    Expect { at: String, topic: String, map: String, key: String, value: Option<String> },
    /// All hosts run, with clocks that are right, and meet until they are equal.
    Heal,
    /// Prints a line for each host, or for one.
    Print { at: Option<String> },
}

/// When a host stores records and confirms them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum When {
    AtOnce,
    /// When time passes.
    Late,
    /// It stores at once, and never confirms.
    Unconfirmed,
}

/// What a foe says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Script {
    /// It asks for the same again and again.
    Asks,
    /// It plays recorded hellos.
    Hellos,
    /// It offers what it does not send.
    Offers,
}

/// The kind of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    State,
    Event,
}

/// Entries that a liar signs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sign {
    pub(crate) by: String,
    pub(crate) branch: String,
    #[serde(default)]
    pub(crate) like: Option<String>,
    pub(crate) topic: String,
    pub(crate) kind: Kind,
    pub(crate) incarnation: u64,
    /// Key and value of the map "tasks", one pair an entry; of an event the second is its text. The key `far`: a strengthening
    /// of that key of the coupling "trust" to an instant that nobody could have reached.
    pub(crate) writes: Vec<(String, String)>,
    /// The base of the last of them.
    #[serde(default)]
    pub(crate) base: u64,
    /// What the last of them closes: incarnations, and below which number.
    #[serde(default)]
    pub(crate) closes: Vec<(u64, u64)>,
    /// The incarnation below which it ends all.
    #[serde(default)]
    pub(crate) last_final: Option<u64>,
    /// How far the stamps are ahead.
    #[serde(default)]
    pub(crate) ahead: u64,
}

impl Step {
    /// All words of [`feature`](Self::feature).
    pub(crate) const FEATURES: [&'static str; 16] = [
        "map",
        "churn",
        "removal",
        "set",
        "coupling",
        "event",
        "prune",
        "bundle",
        "scope",
        "purge",
        "notice",
        "session",
        "relay",
        "succession",
        "weakening",
        "snapshot",
    ];

    /// All words of [`faults`](Self::faults).
    pub(crate) const FAULTS: [&'static str; 25] = [
        "clock",
        "clone",
        "restored",
        "backup_as_resumed",
        "crash",
        "stop",
        "storage_lost",
        "late_store",
        "unconfirmed",
        "unpolled",
        "cut",
        "loss",
        "repeats",
        "slow",
        "one_way",
        "guess",
        "rot",
        "entropy_again",
        "months",
        "lying_fork",
        "partial_range",
        "liar",
        "little_room",
        "openings",
        "foe",
    ];

    /// The word that counts it in the table of what met.
    pub(crate) fn feature(&self) -> Option<&'static str> {
        Some(match self {
            Self::Set { .. } => "map",
            Self::Remove { .. } => "removal",
            Self::Churn { .. } => "churn",
            Self::Insert { .. } | Self::Take { .. } => "set",
            Self::Strengthen { .. } => "coupling",
            Self::Weaken { .. } => "weakening",
            Self::Snapshot { .. } => "snapshot",
            Self::Event { .. } | Self::Crowd { .. } => "event",
            Self::Prune { .. } => "prune",
            Self::Bundle { .. } => "bundle",
            Self::Scope { .. } | Self::Prefer { .. } => "scope",
            Self::Purge { .. } => "purge",
            Self::Subscribe { .. } => "notice",
            Self::Meet { .. } | Self::Link { .. } => "session",
            Self::Relay { .. } => "relay",
            Self::Sign(sign) if !sign.closes.is_empty() || sign.last_final.is_some() => "succession",
            _ => return None,
        })
    }

    /// The words that count it among the faults.
    pub(crate) fn faults(&self) -> Vec<&'static str> {
        if let Self::Link { loss, repeats, delay, one_way, .. } = self {
            let all = [
                (*loss > 0, "loss"),
                (*repeats > 0, "repeats"),
                (*delay >= SLOW, "slow"),
                (*one_way, "one_way"),
            ];
            return all.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect();
        }
        let one = match self {
            Self::Clock { .. } => "clock",
            Self::Copy { .. } => "clone",
            Self::Restore { said: true, .. } => "restored",
            Self::Restore { said: false, .. } => "backup_as_resumed",
            Self::Kill { .. } => "crash",
            Self::Stop { .. } => "stop",
            Self::StartEmpty { .. } => "storage_lost",
            Self::Guess { .. } => "guess",
            Self::Guest { .. } => "little_room",
            Self::Openings { .. } => "openings",
            Self::Foe { .. } => "foe",
            Self::Rot { .. } => "rot",
            Self::Entropy { again: true, .. } => "entropy_again",
            Self::Stores { when: When::Late, .. } => "late_store",
            Self::Stores { when: When::Unconfirmed, .. } => "unconfirmed",
            Self::Polls { polls: false, .. } => "unpolled",
            Self::Cut { .. } => "cut",
            Self::Meet { loss, .. } if *loss > 0 => "loss",
            Self::Advance { ms } if *ms > 20 * 86_400_000 => "months",
            Self::Sign(sign) if sign.like.is_some() => "lying_fork",
            Self::Give { from, .. } if *from > 0 => "partial_range",
            Self::Give { .. } => "liar",
            _ => return Vec::new(),
        };
        vec![one]
    }
}

/// A frame that takes longer, in milliseconds, is slow.
const SLOW: u64 = 1_000;
