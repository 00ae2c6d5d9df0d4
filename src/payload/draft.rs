//! Writing a payload: operations are collected by collection, and put into the one spelling at the end.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use consilience_crdts::Hlc;
use consilience_sync::codec::put_varint;
use consilience_sync::{Closure, ENTRY_BYTES_MAX, Incarnation};

use super::read::LOGS_MAX;
use super::{CollectionId, CollectionKind, Ref, VERSION, index_of, put_bytes, seq_of};

/// The bytes by which an operation may grow when it is relisted.
const CARRY_ROOM: usize = 128;

/// The transaction does not fit an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the transaction has {bytes} bytes, and an entry at most {ENTRY_BYTES_MAX}")]
pub struct EntryTooLarge {
    /// How many it has.
    pub bytes: usize,
}

/// A dot that is listed again.
#[derive(Clone, Debug)]
pub(crate) struct Relisted {
    /// `None` for the writer's present log.
    pub(crate) incarnation: Option<Incarnation>,
    pub(crate) counter: u64,
    pub(crate) tag: [u8; 4],
    pub(crate) stamp: Hlc,
    pub(crate) key: Box<[u8]>,
    pub(crate) value: Box<[u8]>,
}

/// A value, or that there is none any more; and the dots that this ends.
type Write = (Option<Box<[u8]>>, BTreeSet<Ref>);

#[derive(Clone, Debug, Default)]
struct Section {
    /// Listed again, before anything else happens.
    relisted: Vec<Relisted>,
    ended: BTreeSet<Ref>,
    /// By key: the value, or `None` where it is removed; and the dots that this ends.
    writes: BTreeMap<Box<[u8]>, Write>,
    couplings: BTreeMap<(Box<[u8]>, bool), u64>,
}

/// A payload in the making.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    /// Not part of the payload: they stand in the entry's header.
    closures: BTreeMap<Incarnation, u64>,
    last_final: Option<Incarnation>,
    sections: BTreeMap<CollectionId, Section>,
    /// About how many bytes it has.
    bytes: usize,
}

impl Draft {
    fn section(&mut self, id: &CollectionId) -> &mut Section {
        if !self.sections.contains_key(id) {
            self.bytes += id.as_bytes().len() + 2;
            self.sections.insert(id.clone(), Section::default());
        }
        self.sections.entry(id.clone()).or_default()
    }

    /// Sets a key (with a value) or removes it. The dots that a key ends are added up over the transaction.
    pub(crate) fn write(&mut self, id: &CollectionId, key: &[u8], value: Option<&[u8]>, ends: BTreeSet<Ref>) {
        self.bytes += key.len() + value.map_or(0, <[u8]>::len) + 6;
        self.section(id).writes.insert(key.into(), (value.map(Into::into), ends));
    }

    pub(crate) fn couple(&mut self, id: &CollectionId, key: &[u8], weakens: bool, instant: u64) {
        self.bytes += key.len() + 11;
        let held = self.section(id).couplings.entry((key.into(), weakens)).or_default();
        *held = instant.max(*held);
    }

    pub(crate) fn relist(&mut self, id: &CollectionId, relisted: Relisted) {
        self.bytes += relisted.key.len() + relisted.value.len() + 32;
        self.section(id).relisted.push(relisted);
    }

    pub(crate) fn end(&mut self, id: &CollectionId, ended: Ref) {
        self.bytes += 12;
        self.section(id).ended.insert(ended);
    }

    /// Closes the log of an earlier incarnation.
    pub(crate) fn close(&mut self, incarnation: Incarnation, below: u64) {
        self.bytes += 20;
        let held = self.closures.entry(incarnation).or_default();
        *held = below.max(*held);
    }

    /// Ends all logs of incarnations below.
    pub(crate) fn end_below(&mut self, first: Incarnation) {
        self.bytes += 20;
        self.last_final = self.last_final.max(Some(first));
    }

    /// The closures, for the entry's header.
    pub(crate) fn closures(&self) -> Vec<Closure> {
        let all = self.closures.iter();
        all.map(|(incarnation, below)| Closure { incarnation: *incarnation, below: *below }).collect()
    }

    /// The incarnation below which all are ended, for the entry's header.
    pub(crate) const fn last_final(&self) -> Option<Incarnation> {
        self.last_final
    }

    /// The keys that this transaction removes, if it does nothing else.
    pub(crate) fn removals(&self) -> Option<Vec<(&CollectionId, &[u8])>> {
        let states_nothing = self.closures.is_empty() && self.last_final.is_none();
        let removes = |section: &Section| {
            section.relisted.is_empty()
                && section.couplings.is_empty()
                && section.writes.values().all(|(value, _)| value.is_none())
        };
        if !states_nothing || !self.sections.values().all(removes) {
            return None;
        }
        let mut keys = Vec::new();
        for (id, section) in &self.sections {
            keys.extend(section.writes.keys().map(|key| (id, &**key)));
        }
        Some(keys)
    }

    /// Whether this transaction writes a key.
    pub(crate) fn writes(&self, id: &CollectionId, key: &[u8]) -> bool {
        self.sections.get(id).is_some_and(|section| section.writes.contains_key(key))
    }

    /// The write of this transaction under a key: a value, or that the key is removed.
    pub(crate) fn written(&self, id: &CollectionId, key: &[u8]) -> Option<Option<&[u8]>> {
        self.sections.get(id)?.writes.get(key).map(|(value, _)| value.as_deref())
    }

    /// Looks at every write, with whether it removes and the dots that it ends, and drops those for which `keep` does
    /// not hold.
    pub(crate) fn retain_writes(
        &mut self,
        mut keep: impl FnMut(&CollectionId, &[u8], bool, &mut BTreeSet<Ref>) -> bool,
    ) {
        for (id, section) in &mut self.sections {
            section.writes.retain(|key, (value, ends)| keep(id, key, value.is_none(), ends));
        }
        self.sections.retain(|_, section| !section.is_empty());
    }

    /// Takes out the dots that its writes end.
    pub(crate) fn take_ends(&mut self) -> Vec<(CollectionId, Ref)> {
        let mut taken = Vec::new();
        for (id, section) in &mut self.sections {
            for (_, ends) in section.writes.values_mut() {
                taken.extend(core::mem::take(ends).into_iter().map(|ended| (id.clone(), ended)));
            }
        }
        taken
    }

    /// Whether it fits an entry, with some room for being relisted one day.
    pub(crate) fn check_size(&self) -> Result<(), EntryTooLarge> {
        // Most are small. Nothing is spelt in more than twice its estimate, a name in 15 bytes and its log in 8.
        let refs = self.refs().count();
        if refs <= LOGS_MAX && 2 * self.bytes + 23 * refs + 16 + CARRY_ROOM <= ENTRY_BYTES_MAX {
            return Ok(());
        }
        let bytes = self.encode()?.len();
        if bytes + CARRY_ROOM > ENTRY_BYTES_MAX { Err(EntryTooLarge { bytes }) } else { Ok(()) }
    }

    /// The instants that this transaction states for a key: strengthened, weakened.
    pub(crate) fn coupled(&self, id: &CollectionId, key: &[u8]) -> (u64, u64) {
        let Some(section) = self.sections.get(id) else { return (0, 0) };
        let of = |weakens| section.couplings.get(&(Box::from(key), weakens)).copied().unwrap_or(0);
        (of(false), of(true))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.closures.is_empty() && self.last_final.is_none() && self.sections.is_empty()
    }

    /// About how many bytes it has so far, logs that are named not counted.
    pub(crate) fn bytes(&self) -> usize {
        // The dots that writes end are found when they are committed.
        let ends = self.sections.values().flat_map(|section| section.writes.values());
        self.bytes + ends.map(|(_, ends)| 12 * ends.len()).sum::<usize>()
    }

    fn refs(&self) -> impl Iterator<Item = &Ref> {
        self.sections.values().flat_map(|section| {
            section.ended.iter().chain(section.writes.values().flat_map(|(_, ends)| ends))
        })
    }

    /// Which other logs it names.
    fn aliases(&self) -> Vec<[u8; 8]> {
        let mut aliases: Vec<[u8; 8]> = self.refs().map(|found| found.alias).collect();
        aliases.sort_unstable();
        aliases.dedup();
        aliases
    }

    /// Whether it would name more logs than a payload may with these.
    pub(crate) fn names_too_many_with(&self, names: impl Iterator<Item = [u8; 8]>) -> bool {
        let mut names: Vec<[u8; 8]> = self.refs().map(|found| found.alias).chain(names).collect();
        names.len() > LOGS_MAX && {
            names.sort_unstable();
            names.dedup();
            names.len() > LOGS_MAX
        }
    }

    /// Whether it names more logs than a payload may.
    pub(crate) fn names_too_many(&self) -> bool {
        self.aliases().len() > LOGS_MAX
    }

    /// The canonical bytes.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, EntryTooLarge> {
        let aliases = self.aliases();
        let mut out = Vec::with_capacity(self.bytes + aliases.len() * 8 + 8);
        out.push(VERSION);
        put_varint(&mut out, aliases.len() as u64);
        out.extend(aliases.iter().flatten());
        for (id, section) in &self.sections {
            section.write(id, &aliases, &mut out);
        }
        if out.len() > ENTRY_BYTES_MAX || aliases.len() > LOGS_MAX {
            return Err(EntryTooLarge { bytes: out.len() });
        }
        Ok(out)
    }
}

impl Section {
    fn is_empty(&self) -> bool {
        self.relisted.is_empty()
            && self.ended.is_empty()
            && self.writes.is_empty()
            && self.couplings.is_empty()
    }

    fn write(&self, id: &CollectionId, aliases: &[[u8; 8]], out: &mut Vec<u8>) {
        let ended = usize::from(!self.ended.is_empty());
        let count = self.relisted.len() + ended + self.writes.len() + self.couplings.len();
        if count == 0 {
            return;
        }
        out.extend(id.as_bytes());
        put_varint(out, count as u64);
        let has_values = id.kind() == CollectionKind::Map;
        for relisted in &self.relisted {
            match relisted.incarnation {
                None => out.push(3),
                Some(incarnation) => {
                    out.push(6);
                    out.extend(incarnation.as_u64().to_le_bytes());
                }
            }
            put_varint(out, seq_of(relisted.counter));
            put_varint(out, index_of(relisted.counter).into());
            out.extend(relisted.tag);
            out.extend(relisted.stamp.to_bits().to_le_bytes());
            put_bytes(out, &relisted.key);
            if has_values {
                put_bytes(out, &relisted.value);
            }
        }
        if ended > 0 {
            out.push(2);
            put_refs(&self.ended, aliases, out);
        }
        for (key, (value, ends)) in &self.writes {
            out.push(u8::from(value.is_none()));
            put_bytes(out, key);
            if let Some(value) = value.as_ref().filter(|_| has_values) {
                put_bytes(out, value);
            }
            put_refs(ends, aliases, out);
        }
        for ((key, weakens), instant) in &self.couplings {
            out.push(4 + u8::from(*weakens));
            put_bytes(out, key);
            out.extend(instant.to_le_bytes());
        }
    }
}

fn put_refs(refs: &BTreeSet<Ref>, aliases: &[[u8; 8]], out: &mut Vec<u8>) {
    put_varint(out, refs.len() as u64);
    for found in refs {
        let log = aliases.binary_search(&found.alias).unwrap_or_default();
        put_varint(out, log as u64);
        put_varint(out, seq_of(found.counter));
        put_varint(out, index_of(found.counter).into());
        out.extend(found.tag);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Op, PayloadError, Statement, Transaction, counter};
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec;
    use consilience_crdts::CouplingSchema;
    use consilience_sync::codec::DecodeError;

    #[test]
    fn a_payload_names_as_many_logs_as_fit_and_no_reader_takes_more_than_the_limit() {
        let map = CollectionId::new(CollectionKind::Map, "tasks", None).unwrap();
        let alias = |log: usize| (log as u64).to_be_bytes();
        let mut draft = Draft::default();
        let mut logs = 0;
        // 16 bytes for each, so the size of an entry ends it before the number of logs does.
        while draft.check_size().is_ok() {
            draft.end(&map, Ref { alias: alias(logs), counter: counter(1, 0), tag: [0; 4] });
            logs += 1;
        }
        assert!((3_000..LOGS_MAX).contains(&logs), "{logs}");
        let payload = draft.encode().unwrap();
        assert_eq!(
            Transaction::parse(&payload).unwrap().items().count(),
            2,
            "the collection, and one operation on it"
        );
        let names = |logs: usize| {
            let mut payload = vec![VERSION];
            put_varint(&mut payload, logs as u64);
            payload.extend((0..logs).flat_map(alias));
            Transaction::parse(&payload).map(|_| ())
        };
        let limit = Err(PayloadError::Malformed(DecodeError::Limit));
        assert_ne!(names(LOGS_MAX), limit);
        assert_eq!(names(LOGS_MAX + 1), limit);
    }

    fn draft() -> Vec<u8> {
        let map = CollectionId::new(CollectionKind::Map, "tasks", None).unwrap();
        let set = CollectionId::new(CollectionKind::Set, "members", None).unwrap();
        let schema = CouplingSchema::with_half_life(60_000).unwrap();
        let trust = CollectionId::new(CollectionKind::Coupling, "trust", Some(&schema)).unwrap();
        let name = |log, seq, tag| Ref { alias: [log; 8], counter: counter(seq, 3), tag: [tag; 4] };
        let mut draft = Draft::default();
        draft.write(&map, b"t1", Some(b"draft"), [name(9, 4, 1), name(2, 7, 2)].into());
        draft.write(&map, b"t0", None, BTreeSet::new());
        draft.end(&map, name(2, 8, 1));
        draft.write(&set, b"ada", Some(b""), BTreeSet::new());
        for incarnation in [None, Some(Incarnation::from_u64(77))] {
            let (key, value) = (b"t3".as_slice().into(), b"old".as_slice().into());
            draft.relist(
                &map,
                Relisted {
                    incarnation,
                    counter: counter(1, 2),
                    tag: [5; 4],
                    stamp: Hlc::from_bits(9),
                    key,
                    value,
                },
            );
        }
        draft.couple(&trust, b"bob", true, 1 << 40);
        draft.encode().unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = draft();
        let read = Transaction::parse(&bytes).unwrap();
        let mut said: Vec<(u64, u64, Vec<u8>)> = Vec::new();
        for item in read.items() {
            said.push(match item {
                Statement::Collection(id) => (0, 0, id.to_vec()),
                Statement::Op(index, Op::Set { key, value, ends }) => {
                    (index.into(), ends.count() as u64, [key, value].concat())
                }
                Statement::Op(index, Op::Remove { key, ends }) => {
                    (index.into(), ends.count() as u64, key.to_vec())
                }
                Statement::Op(index, Op::Relist { counter, key, value, .. }) => {
                    (index.into(), counter, [key, value].concat())
                }
                Statement::Op(index, Op::End { ends }) => (index.into(), ends.count() as u64, Vec::new()),
                Statement::Op(index, Op::Couple { key, instant, .. }) => {
                    (index.into(), instant, key.to_vec())
                }
            });
        }
        let schema = CouplingSchema::with_half_life(60_000).unwrap().encode();
        let expected: Vec<(u64, u64, Vec<u8>)> = [
            (0, 0, b"\x00\x05tasks".to_vec()),
            (0, counter(1, 2), b"t3old".to_vec()),
            (1, counter(1, 2), b"t3old".to_vec()),
            (2, 1, Vec::new()),
            (3, 0, b"t0".to_vec()),
            (4, 2, b"t1draft".to_vec()),
            (0, 0, b"\x01\x07members".to_vec()),
            (5, 0, b"ada".to_vec()),
            (0, 0, [b"\x02\x05trust".as_slice(), &schema].concat()),
            (6, 1 << 40, b"bob".to_vec()),
        ]
        .into();
        assert_eq!(said, expected);
    }

    #[test]
    fn the_documented_example_is_what_is_written() {
        let map = CollectionId::new(CollectionKind::Map, "tasks", None).unwrap();
        let mut draft = Draft::default();
        let seen = Ref { alias: [2; 8], counter: counter(7, 3), tag: [2; 4] };
        draft.write(&map, b"t1", Some(b"draft"), [seen].into());
        draft.write(&map, b"t2", None, BTreeSet::new());
        let written: Vec<String> = draft.encode().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        let document = include_str!("../../docs/wire/payload.md");
        let section = document.split("# Transactions").nth(1).unwrap();
        let example = section.lines().find(|line| line.starts_with("    01")).unwrap();
        assert_eq!(example.replace(' ', ""), written.concat());
    }

    #[test]
    fn every_other_spelling_is_refused_and_later_versions_wait() {
        let bytes = draft();
        // A prefix is a payload itself where a collection ends and every name is used: after the map and after the set.
        let read = |bytes: &[u8]| Transaction::parse(bytes).map(|_| ());
        let prefixes = (0..bytes.len()).filter(|end| read(&bytes[..*end]).is_ok()).count();
        assert_eq!(prefixes, 2);
        // Whatever a changed bit makes of it is refused, or can be read to its end.
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            if let Ok(said) = Transaction::parse(&changed) {
                assert!(said.items().count() > 0, "bit {bit}");
            }
        }
        let with = |at: usize, byte| {
            let mut changed = bytes.clone();
            changed[at] = byte;
            read(&changed)
        };
        assert_eq!(with(0, 2), Err(PayloadError::NeedsUpgrade(2)));
        assert_eq!(with(0, 0), Err(DecodeError::Kind.into()));
        // The aliases in the wrong order.
        assert_eq!(with(2, 10), Err(DecodeError::NotCanonical.into()));
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(read(&longer).is_err());
        assert_eq!(read(&[1, 0]), Ok(()));
        assert_eq!(read(&[1, 1, 0]), Err(DecodeError::Truncated.into()));
    }

    #[test]
    fn every_log_in_the_table_is_named_by_an_operation() {
        let map = CollectionId::new(CollectionKind::Map, "tasks", None).unwrap();
        for logs in [1, 63, 64, 65, 130_u8] {
            // Removes a key and ends one dot of each log, but for one.
            let payload = |unused: Option<u8>| {
                let mut bytes = vec![VERSION];
                put_varint(&mut bytes, u64::from(logs));
                bytes.extend((0..logs).flat_map(|log| [log; 8]));
                bytes.extend(map.as_bytes());
                bytes.extend([1, 1, 1, b'k']);
                put_varint(&mut bytes, u64::from(logs) - u64::from(unused.is_some()));
                for log in (0..logs).filter(|log| Some(*log) != unused) {
                    put_varint(&mut bytes, log.into());
                    bytes.extend([0; 6]);
                }
                bytes
            };
            let bytes = payload(None);
            let read = Transaction::parse(&bytes).unwrap();
            let named = read.items().filter_map(|item| match item {
                Statement::Op(_, Op::Remove { ends, .. }) => Some(ends.map(|found| found.alias[0])),
                _ => None,
            });
            assert!(named.flatten().eq(0..logs));
            for unused in 0..logs {
                let read = Transaction::parse(&payload(Some(unused))).map(|_| ());
                assert_eq!(read, Err(DecodeError::NotCanonical.into()));
            }
        }
    }
}
