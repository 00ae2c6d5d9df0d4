//! What a set of logs says, the long way round: by the text of `docs/decisions/succession.md` and `docs/wire/payload.md`, from
//! the entries and facts alone. Nothing is kept from one time to the next, and nothing is used of the library's fold, of its
//! reader of payloads, and of its choice of the logs that count.
//!
//! For sets of which all is signed and nothing waits for its time.

use std::collections::{BTreeMap, BTreeSet};

use consilience::crdts::{CouplingSchema, Timestamp};
use consilience::sync::{AgentId, Entry, Hash, Incarnation, Log, LogId, LogKind, LogOpening, LogSet, Topic};
use consilience::{CollectionKind, Replica};

/// An item of the root: the size up to which a log counts, its root there, and what is known of it for ever.
type Head = (u64, Option<Hash>, Option<Hash>);

/// The first 8 bytes of a log's id, an entry's number, an operation's, and the tag.
type Dot = ([u8; 8], u64, u64, [u8; 4]);

/// Stamp, key and value.
type Item = (u64, Vec<u8>, Vec<u8>);

/// Kind and name.
type Collection = (u8, Vec<u8>);

/// A value with its stamp and its dot.
type Written = ((u64, Dot), Vec<u8>);

/// A key of a collection of a topic.
type Place = (Topic, Collection, Vec<u8>);

/// The live values by topic, collection and key: the one that is read, and all.
pub(crate) type State = BTreeMap<Place, (Vec<u8>, Vec<Vec<u8>>)>;

/// The payloads of the events by topic.
pub(crate) type Events = BTreeMap<Topic, Vec<Vec<u8>>>;

fn is_held(log: &Log, from: u64, to: u64) -> bool {
    from < to && log.held().any(|(start, end)| start <= from && to <= end)
}

/// The entries of a log that are retained and signed.
fn retained(log: &Log) -> impl Iterator<Item = Entry<'_>> {
    log.entries(log.base(), log.signed_size())
}

/// The logs of a set by agent and topic, the latest first.
fn families(logs: &LogSet, kind: LogKind) -> Vec<Vec<&Log>> {
    let mut all: BTreeMap<(AgentId, &Topic), Vec<&Log>> = BTreeMap::new();
    for log in logs.logs().filter(|log| log.opening().kind == kind) {
        all.entry((log.opening().agent, &log.opening().topic)).or_default().push(log);
    }
    let mut families: Vec<Vec<&Log>> = all.into_values().collect();
    for family in &mut families {
        family.sort_by_key(|log| core::cmp::Reverse(log.opening().incarnation));
    }
    families
}

/// The state logs of an agent in a topic that count, and the one whose fork is in the root.
fn counting<'a>(logs: &LogSet, family: &[&'a Log]) -> (Vec<&'a Log>, Option<&'a Log>) {
    let mut closed: BTreeMap<Incarnation, u64> = BTreeMap::new();
    let mut last_final = None;
    let (mut counts, mut forked) = (Vec::new(), None);
    for log in family {
        let incarnation = log.opening().incarnation;
        let is_dead = last_final.is_some_and(|last| incarnation < last) || forked.is_some();
        if logs.forks(log.id()).is_some() {
            forked = forked.or((!is_dead).then_some(*log));
            continue;
        }
        let is_closed = closed.get(&incarnation).is_some_and(|below| *below >= log.signed_size());
        if is_dead || is_closed || !is_held(log, log.base(), log.signed_size()) {
            continue;
        }
        counts.push(*log);
        for entry in retained(log) {
            last_final = last_final.max(entry.last_final());
            for closure in entry.closures() {
                let below = closed.entry(closure.incarnation).or_default();
                *below = (*below).max(closure.below);
            }
        }
    }
    (counts, forked)
}

/// The events of a log that count: from where, and up to where; nothing if they are not all held.
fn window(logs: &LogSet, log: &Log) -> (u64, u64) {
    let forks = logs.forks(log.id());
    let end = forks.map_or(u64::MAX, |forks| forks.valid_below()).min(log.signed_size());
    let base = end.checked_sub(1).and_then(|last| log.entry(last)).map_or(0, |last| last.base);
    let given_up = logs.facts(log.id()).and_then(|facts| facts.pruned()).map_or(0, |pruned| pruned.below());
    let start = base.max(forks.map_or(0, |forks| forks.floor())).max(given_up);
    if is_held(log, start, end) { (start, end) } else { (0, 0) }
}

/// Of an agent's event logs in a topic those that were not given up as a whole.
fn not_given_up<'a>(logs: &LogSet, family: &[&'a Log]) -> Vec<&'a Log> {
    let by = family.iter().find(|log| logs.facts(log.id()).is_some_and(|facts| facts.pruned().is_some()));
    let first = by.map(|log| log.opening().incarnation);
    family
        .iter()
        .filter(|log| first.is_none_or(|first| log.opening().incarnation >= first))
        .copied()
        .collect()
}

/// All that the root covers.
pub(crate) fn heads(logs: &LogSet) -> BTreeMap<LogId, Head> {
    let mut heads = BTreeMap::new();
    let digest = |log: &Log| logs.facts(log.id()).and_then(|facts| facts.digest());
    for family in families(logs, LogKind::State) {
        let (counts, forked) = counting(logs, &family);
        for log in counts {
            heads.insert(*log.id(), (log.signed_size(), log.root_at(log.signed_size()), digest(log)));
        }
        heads.extend(forked.map(|log| (*log.id(), (0, None, digest(log)))));
    }
    for family in families(logs, LogKind::Event) {
        for log in not_given_up(logs, &family) {
            let (_, end) = window(logs, log);
            let head = (end, (end > 0).then(|| log.root_at(end)).flatten(), digest(log));
            if head.0 > 0 || head.2.is_some() {
                heads.insert(*log.id(), head);
            }
        }
    }
    heads
}

/// What a log lists of dots, by collection, and which dots it names.
#[derive(Default)]
struct Said {
    lists: BTreeMap<(Collection, Dot), Item>,
    names: BTreeSet<Dot>,
    /// The last instant that it states of a key of a coupling, strengthened or weakened.
    states: BTreeMap<(Collection, Vec<u8>, bool), u64>,
}

/// Reads bytes of a payload.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N as u64)?.try_into().ok()
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<Vec<u8>> {
        let len = self.number()?;
        self.bytes(len).map(<[u8]>::to_vec)
    }

    fn dots(&mut self, aliases: &[[u8; 8]]) -> Option<Vec<Dot>> {
        let many = self.number()?;
        let mut dots = Vec::new();
        for _ in 0..many {
            let alias = *aliases.get(usize::try_from(self.number()?).ok()?)?;
            dots.push((alias, self.number()?, self.number()?, self.fixed()?));
        }
        Some(dots)
    }
}

impl Said {
    fn of(logs: &LogSet, log: &Log) -> Self {
        Self::up_to(logs, log, log.signed_size())
    }

    fn up_to(logs: &LogSet, log: &Log, end: u64) -> Self {
        let mut said = Self::default();
        for entry in log.entries(log.base(), end) {
            let _ = entry.payload().and_then(|payload| said.take(logs, log, &entry, payload));
        }
        said
    }

    fn end(&mut self, collection: &Collection, key: &[u8]) {
        self.lists.retain(|(of, _), (_, listed, _)| of != collection || listed != key);
    }

    /// Takes in a transaction; `None` where it cannot be read.
    fn take(&mut self, logs: &LogSet, log: &Log, entry: &Entry<'_>, payload: &[u8]) -> Option<()> {
        let mut reader = Reader(payload);
        if reader.byte()? != 1 {
            return None;
        }
        let aliases: Vec<[u8; 8]> = (0..reader.number()?).map(|_| reader.fixed()).collect::<Option<_>>()?;
        let mut index = 0;
        while !reader.0.is_empty() {
            let kind = reader.byte()?;
            let len = reader.byte()?;
            let mut name = reader.bytes(len.into())?.to_vec();
            if kind == 2 {
                // The schema is part of what tells couplings apart.
                for _ in 0..3 {
                    name.extend(reader.number()?.to_le_bytes());
                }
            }
            let collection = (kind, name);
            for _ in 0..reader.number()? {
                self.operation(logs, log, entry, &collection, index, &aliases, &mut reader)?;
                index += 1;
            }
        }
        Some(())
    }

    #[expect(clippy::too_many_arguments, reason = "they are the place of an operation")]
    fn operation(
        &mut self,
        logs: &LogSet,
        log: &Log,
        entry: &Entry<'_>,
        collection: &Collection,
        index: u64,
        aliases: &[[u8; 8]],
        reader: &mut Reader<'_>,
    ) -> Option<()> {
        let code = reader.byte()?;
        match code {
            0 => {
                let key = reader.text()?;
                let value = if collection.0 == 0 { reader.text()? } else { Vec::new() };
                self.names.extend(reader.dots(aliases)?);
                self.end(collection, &key);
                let mut tag = [0; 4];
                tag.copy_from_slice(&log.leaf(entry.seq)?.as_bytes()[..4]);
                let dot = (log.id().alias(), entry.seq, index, tag);
                self.lists.insert((collection.clone(), dot), (entry.hlc.to_bits(), key, value));
            }
            1 => {
                let key = reader.text()?;
                self.end(collection, &key);
                self.names.extend(reader.dots(aliases)?);
            }
            2 => self.names.extend(reader.dots(aliases)?),
            3 | 6 => {
                let mut of = log.opening().clone();
                let mut is_inert = false;
                if code == 6 {
                    of.incarnation = Incarnation::from_u64(u64::from_le_bytes(reader.fixed()?));
                    is_inert = of.incarnation >= log.opening().incarnation;
                }
                let (seq, index, tag) = (reader.number()?, reader.number()?, reader.fixed()?);
                let stamp = u64::from_le_bytes(reader.fixed()?);
                let key = reader.text()?;
                let value = if collection.0 == 0 { reader.text()? } else { Vec::new() };
                is_inert |= stamp > entry.hlc.to_bits() || code == 3 && seq >= entry.seq;
                if !is_inert {
                    let alias = LogOpening::log_id(&of, logs.mesh()).alias();
                    // A log lists a dot of a number once, whatever the tag.
                    self.lists.retain(|(there, dot), _| {
                        there != collection || (dot.0, dot.1, dot.2) != (alias, seq, index)
                    });
                    self.lists.insert((collection.clone(), (alias, seq, index, tag)), (stamp, key, value));
                }
            }
            4 | 5 => {
                let key = reader.text()?;
                let instant = u64::from_le_bytes(reader.fixed()?);
                if Decay::of(&collection.1)?.admits(instant, entry.hlc.time()) {
                    self.states.insert((collection.clone(), key, code == 5), instant);
                }
            }
            _ => return None,
        }
        Some(())
    }
}

/// The greatest number below which a log has closed another one.
fn answers_below(log: &Log, incarnation: Incarnation) -> u64 {
    let closures = retained(log).flat_map(|entry| entry.closures().collect::<Vec<_>>());
    let of = closures.filter(|closure| closure.incarnation == incarnation);
    of.map(|closure| closure.below).max().unwrap_or(0)
}

/// The live values to which a set adds up.
pub(crate) fn state(logs: &LogSet) -> State {
    let mut items: BTreeMap<Place, Vec<Written>> = BTreeMap::new();
    let topics: BTreeSet<&Topic> = logs.logs().map(|log| &log.opening().topic).collect();
    for topic in topics {
        let mut said: Vec<Vec<(&Log, Said)>> = Vec::new();
        for family in families(logs, LogKind::State).iter().filter(|of| of[0].opening().topic == *topic) {
            let (counts, _) = counting(logs, family);
            said.push(counts.into_iter().map(|log| (log, Said::of(logs, log))).collect());
        }
        let names = said.iter().flatten().flat_map(|(_, said)| said.names.iter().copied()).collect();
        for family in said {
            let listed: BTreeSet<&(Collection, Dot)> =
                family.iter().flat_map(|(_, said)| said.lists.keys()).collect();
            for (collection, dot) in listed {
                if let Some((stamp, key, value)) = live(logs, &family, collection, dot, &names) {
                    let place = (topic.clone(), collection.clone(), key);
                    items.entry(place).or_default().push(((stamp, *dot), value));
                }
            }
        }
    }
    let read = |(place, mut items): (Place, Vec<Written>)| {
        // The greatest stamp wins, and of two of the same stamp the greater dot.
        items.sort_unstable();
        let winner = items.last().map(|(_, value)| value.clone()).unwrap_or_default();
        let mut values: Vec<Vec<u8>> = items.into_iter().map(|(_, value)| value).collect();
        values.sort_unstable();
        let (_, (kind, _), _) = &place;
        if *kind == 1 {
            // The elements of a set have no values.
            values.clear();
        }
        (place, (winner, values))
    };
    items.into_iter().map(read).collect()
}

/// The item of a dot, if some log answers for it, all that do list it alike, and no removal names it.
fn live(
    logs: &LogSet,
    family: &[(&Log, Said)],
    collection: &Collection,
    dot: &Dot,
    names: &BTreeSet<Dot>,
) -> Option<Item> {
    let mut item: Option<&Item> = None;
    for (log, said) in family {
        let opening = log.opening();
        let answers = log.id().alias() == dot.0
            || incarnation_of(logs, opening, family, &dot.0).is_some_and(|of| {
                let last_final = retained(log).filter_map(|entry| entry.last_final()).max();
                of < opening.incarnation
                    && (last_final.is_some_and(|last| of < last) || dot.1 < answers_below(log, of))
            });
        if !answers {
            continue;
        }
        let listed = said.lists.get(&(collection.clone(), *dot))?;
        if *item.get_or_insert(listed) != listed {
            return None;
        }
    }
    item.filter(|_| !names.contains(dot)).cloned()
}

/// The incarnation of an agent's log in a topic, by its alias: one that is there, or one that entries speak of.
fn incarnation_of(
    logs: &LogSet,
    opening: &LogOpening,
    family: &[(&Log, Said)],
    alias: &[u8; 8],
) -> Option<Incarnation> {
    let closed = family.iter().flat_map(|(log, _)| retained(log)).flat_map(|entry| {
        let closures: Vec<Incarnation> = entry.closures().map(|closure| closure.incarnation).collect();
        closures
    });
    let relisted = family.iter().flat_map(|(log, _)| retained(log)).filter_map(|entry| entry.payload());
    let relisted = relisted.flat_map(incarnations_in);
    let held = logs.logs_in(&opening.topic).map(|log| log.opening().incarnation);
    held.chain(closed).chain(relisted).find(|incarnation| {
        LogOpening { incarnation: *incarnation, ..opening.clone() }.log_id(logs.mesh()).alias() == *alias
    })
}

/// The incarnations of listings in a payload; what cannot be read has none.
fn incarnations_in(payload: &[u8]) -> Vec<Incarnation> {
    // Such a listing begins with its code and 8 bytes of the incarnation: every place is tried.
    let places = payload.windows(9).filter(|window| window[0] == 6);
    places
        .filter_map(|window| window[1..].try_into().ok())
        .map(|bytes| Incarnation::from_u64(u64::from_le_bytes(bytes)))
        .collect()
}

/// A key of a coupling, and who strengthens or weakens it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Part {
    pub(crate) topic: Topic,
    collection: Collection,
    pub(crate) key: Vec<u8>,
    pub(crate) agent: AgentId,
    weakens: bool,
}

/// How contributions to a coupling decay: by the text of `docs/wire/collections.md`, in floating point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decay {
    half_life_ms: f64,
    /// In 2^-32 units.
    floor: f64,
    cap: f64,
}

impl Decay {
    /// By the end of a coupling's name, as it is kept here.
    fn of(name: &[u8]) -> Option<Self> {
        let numbers = name.len().checked_sub(24).map(|start| &name[start..])?;
        let number = |at: usize| numbers[8 * at..8 * at + 8].try_into().ok().map(u64::from_le_bytes);
        Some(Self { half_life_ms: number(0)? as f64, floor: number(1)? as f64, cap: number(2)? as f64 })
    }

    /// How many half-lives after a time an instant lies.
    fn until(self, instant: u64, time: Timestamp) -> f64 {
        instant as f64 / f64::from(1 << 24) - time.as_millis() as f64 / self.half_life_ms
    }

    /// Whether somebody could have contributed that at a time: at most 256 caps.
    fn admits(self, instant: u64, time: Timestamp) -> bool {
        self.until(instant, time) <= (self.cap * 256.0 / (self.floor / 1_024.0)).log2() + 1e-6
    }

    /// What a contribution amounts to at a time.
    pub(crate) fn amount(self, instant: u64, time: Timestamp) -> f64 {
        let until = self.until(instant, time);
        // One contribution counts for at most 256 caps.
        if until <= 0.0 { 0.0 } else { (self.floor / 1_024.0 * until.exp2()).min(self.cap * 256.0) }
    }
}

/// The instants that agents contribute to keys of couplings: the greatest of their logs that count.
pub(crate) fn contributions(logs: &LogSet) -> BTreeMap<Part, u64> {
    contributions_up_to(logs, Log::signed_size)
}

fn contributions_up_to(logs: &LogSet, end: impl Fn(&Log) -> u64) -> BTreeMap<Part, u64> {
    let mut parts = BTreeMap::new();
    for family in families(logs, LogKind::State) {
        for log in counting(logs, &family).0 {
            let (topic, agent) = (&log.opening().topic, log.opening().agent);
            for ((collection, key, weakens), instant) in Said::up_to(logs, log, end(log)).states {
                let part = Part { topic: topic.clone(), collection, key, agent, weakens };
                let greatest = parts.entry(part).or_insert(0);
                *greatest = instant.max(*greatest);
            }
        }
    }
    parts
}

/// Whether a contribution amounts to something at a time.
pub(crate) fn is_alive(part: &Part, instant: u64, time: Timestamp) -> bool {
    Decay::of(&part.collection.1).is_some_and(|decay| decay.until(instant, time) > 1e-3)
}

/// What all contributions to a key of a topic's couplings add up to, below nothing too; those that are not signed yet as well.
pub(crate) fn sum(logs: &LogSet, (topic, key): (&str, &str), time: Timestamp) -> f64 {
    let all = contributions_up_to(logs, Log::size);
    let of_key = all.iter().filter(|(part, _)| part.topic.as_str() == topic && part.key == key.as_bytes());
    let amounts = of_key.filter_map(|(part, instant)| {
        let amount = Decay::of(&part.collection.1)?.amount(*instant, time);
        Some(if part.weakens { -amount } else { amount })
    });
    amounts.sum()
}

/// A key of a coupling of which a replica reads another sum than its contributions add up to, and what.
pub(crate) fn wrong_sum(replica: &Replica, time: Timestamp) -> Option<String> {
    let mut sums: BTreeMap<(Topic, Collection, Vec<u8>), f64> = BTreeMap::new();
    for (part, instant) in contributions(replica.logs()) {
        let amount = Decay::of(&part.collection.1)?.amount(instant, time);
        *sums.entry((part.topic, part.collection, part.key)).or_default() +=
            if part.weakens { -amount } else { amount };
    }
    for ((topic, collection, key), sum) in sums {
        let decay = Decay::of(&collection.1)?;
        let name = String::from_utf8_lossy(&collection.1[..collection.1.len() - 24]).into_owned();
        let view = replica.topic(topic.as_str()).ok()?;
        let is_this = |schema: &CouplingSchema| {
            (schema.half_life_ms() as f64, schema.floor().to_bits() as f64, schema.cap().to_bits() as f64)
                == (decay.half_life_ms, decay.floor, decay.cap)
        };
        let schemas = view.collections().filter(|(_, there, _)| *there == name);
        let Some(schema) = schemas.filter_map(|(_, _, schema)| schema).find(is_this) else {
            if sum < decay.floor * 1.01 {
                continue;
            }
            return Some(format!("{name} is not there"));
        };
        let read = view.coupling(&name, schema).value(&key, time).to_bits() as f64;
        let sum = if sum < decay.floor { 0.0 } else { sum.min(decay.cap) };
        // Where one of the two is below the floor, the other may be just above it.
        if (read - sum).abs() > decay.floor + sum * 1e-5 {
            return Some(format!("{name}: {read} and not {sum}"));
        }
    }
    None
}

/// The payloads of the events to which a set adds up, in order of their bytes.
pub(crate) fn events(logs: &LogSet) -> Events {
    let mut events = Events::new();
    for family in families(logs, LogKind::Event) {
        for log in not_given_up(logs, &family) {
            let (from, to) = window(logs, log);
            let payloads = log.entries(from, to).filter_map(|entry| Some(entry.payload()?.to_vec()));
            let of_topic = events.entry(log.opening().topic.clone()).or_default();
            of_topic.extend(payloads);
            of_topic.sort_unstable();
        }
    }
    events.retain(|_, payloads| !payloads.is_empty());
    events
}

/// What a replica reads, in the same form.
pub(crate) fn read(replica: &Replica) -> (State, Events) {
    let (mut state, mut events) = (State::new(), Events::new());
    for topic in replica.topics() {
        let Ok(view) = replica.topic(topic.as_str()) else { continue };
        for (kind, name, _) in view.collections() {
            let collection = |kind: u8| (kind, name.as_bytes().to_vec());
            match kind {
                CollectionKind::Map => {
                    for live in view.map(name).iter() {
                        let key = live.key.to_vec();
                        let conflicts = view.map(name).conflicts(live.key);
                        let mut values: Vec<Vec<u8>> =
                            conflicts.iter().map(|one| one.value.to_vec()).collect();
                        values.sort_unstable();
                        state.insert((topic.clone(), collection(0), key), (live.value.to_vec(), values));
                    }
                }
                CollectionKind::Set => {
                    for live in view.set(name).iter() {
                        let place = (topic.clone(), collection(1), live.key.to_vec());
                        state.insert(place, (Vec::new(), Vec::new()));
                    }
                }
                _ => {}
            }
        }
        let mut payloads: Vec<Vec<u8>> =
            view.events().iter().filter_map(|event| Some(event.payload?.to_vec())).collect();
        payloads.sort_unstable();
        if !payloads.is_empty() {
            events.insert(topic.clone(), payloads);
        }
    }
    (state, events)
}
