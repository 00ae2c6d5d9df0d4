//! Sessions between copies of one log: a writer that appends, signs and drops, perhaps a clone of it that does the same
//! without knowing, and two followers. Ranges are lost, repeated, reordered, cut, changed, and passed on by followers.
//!
//! Whatever happens: nothing panics, a refused range changes nothing, and what a copy holds it can prove. As long as
//! there was no clone, nobody ever speaks of a fork, and in the end the followers equal the writer.

use arbitrary::Arbitrary;
use consilience_crdts::{Hlc, Timestamp};
use consilience_sync::{
    Allowance, Citation, Closure, EntryFlags, Evidence, Hash, Have, Incarnation, Log, LogKind, NewEntry,
    RangeForm, ReceiveError, Received,
};

use crate::logs::{T, ada, at, consistent, mesh, opening, picture, plenty, proves};

/// So long a history shows what it can.
const STEPS_MAX: usize = 96;
/// So many entries cross several blocks.
const ENTRIES_MAX: u64 = 400;
const WRITER: usize = 0;
const CLONE: usize = 3;

#[derive(Clone, Debug, Arbitrary)]
pub struct Session {
    pub event: bool,
    pub steps: Vec<Step>,
}

/// A step of a history. Numbers are indices, taken modulo how many there are.
#[derive(Clone, Debug, Arbitrary)]
pub enum Step {
    Append {
        clone: bool,
        len: u8,
        clock: u8,
        raise: u8,
        flags: u8,
    },
    Many {
        clone: bool,
        count: u8,
        raise: bool,
    },
    Sign {
        clone: bool,
    },
    /// The clone begins: a copy of the writer's disk.
    Clone,
    /// The writer drops what its base allows, or a follower does.
    Drop {
        who: u8,
        upto: u8,
    },
    Erase {
        who: u8,
        seq: u16,
    },
    /// Some range of what somebody holds goes to somebody, and into the stock of old messages.
    Send {
        from: u8,
        to: u8,
        at: u16,
        count: u8,
        alone: bool,
        bytes_max: u16,
    },
    /// An old message comes again.
    Again {
        message: u16,
        to: u8,
    },
    /// An old message comes changed: a bit, and perhaps cut.
    Changed {
        message: u16,
        to: u8,
        bit: u16,
        cut: u16,
    },
    /// `to` asks `from` for what it lacks, so many times.
    CatchUp {
        from: u8,
        to: u8,
        times: u8,
        bytes_max: u16,
    },
    /// The followers' clock goes on.
    Later {
        millis: u16,
    },
}

struct Net {
    kind: LogKind,
    /// The writer, two followers, and perhaps the writer's clone.
    copies: Vec<Log>,
    messages: Vec<Vec<u8>>,
    signed_at: u64,
    now: u64,
    late_bytes_max: usize,
}

/// Runs a history and panics where something does not hold.
pub fn run(session: &Session) {
    let kind = if session.event { LogKind::Event } else { LogKind::State };
    let empty = Log::new(opening(kind), &mesh()).unwrap();
    let (copies, messages) = (vec![empty; 3], Vec::new());
    let mut net = Net { kind, copies, messages, signed_at: T, now: T, late_bytes_max: 4_096 };
    for step in session.steps.iter().take(STEPS_MAX) {
        net.step(step);
        for copy in &net.copies {
            consistent(copy);
        }
    }
    net.copies.iter().for_each(proves);
    if net.copies.len() == CLONE {
        net.finish();
    }
}

impl Net {
    fn copy(&self, who: u8) -> usize {
        usize::from(who) % self.copies.len()
    }

    fn author(&self, clone: bool) -> usize {
        if clone && self.copies.len() > CLONE { CLONE } else { WRITER }
    }

    fn append(&mut self, who: usize, len: u8, clock: u8, raise: u8, flags: u8) {
        let log = &mut self.copies[who];
        let seq = log.size();
        if seq >= ENTRIES_MAX {
            return;
        }
        let last = log.last_hlc();
        let hlc = match clock % 5 {
            0 => at(self.now + u64::from(clock)),
            1 => Hlc::from_bits(last.to_bits().saturating_add(1)),
            2 => Hlc::new(last.time(), u16::from(clock) << 8),
            // From the future, by more or less than followers allow.
            3 => at(self.now + u64::from(clock) * 1_000),
            _ => at(T - u64::from(clock)),
        };
        // A base rises by little or to the entry itself.
        let base = (log.base() + u64::from(raise % 32)).min(seq);
        let root = (self.kind == LogKind::Event).then_some(Hash::from_bytes([len; 32]));
        let cites = [Citation { log: [clock; 8], size: u64::from(raise), root }];
        let citations = if flags & 0x80 == 0 { &[][..] } else { &cites };
        let payload = vec![if who == CLONE { b'c' } else { b'w' }; usize::from(len)];
        let flags = EntryFlags::new(flags & 15).unwrap();
        // Only a copy that knows of later heads refuses: a clone's.
        let state = self.kind == LogKind::State;
        let closures = [1, 2].map(|number| Closure { incarnation: Incarnation::from_u64(number), below: 9 });
        let appended = log.append(&NewEntry {
            hlc,
            base,
            flags,
            // It stays for some entries, and comes and goes.
            epoch: u32::from(clock / 64),
            citations,
            closures: if state && len % 8 == 1 { &closures } else { &[] },
            last_final: (state && len % 8 == 3).then_some(Incarnation::from_u64(3)),
            // A clone salts otherwise.
            salt: [who as u8, len, clock, raise],
            payload: &payload,
        });
        assert!(appended == Ok(seq) || self.copies.len() > CLONE, "{appended:?}");
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Append { clone, len, clock, raise, flags } => {
                self.append(self.author(clone), len, clock, raise, flags);
            }
            Step::Many { clone, count, raise } => {
                for number in 0..count {
                    self.append(self.author(clone), number % 3, 1, u8::from(raise), 0);
                }
            }
            Step::Sign { clone } => {
                let who = self.author(clone);
                self.signed_at += 7;
                let signed = self.copies[who].sign_head(&ada(), Timestamp::from_millis(self.signed_at));
                assert!(signed.is_ok() || self.copies[who].size() == 0 || self.copies.len() > CLONE);
            }
            Step::Clone => {
                if self.copies.len() == CLONE {
                    self.copies.push(self.copies[WRITER].clone());
                }
            }
            Step::Drop { who, upto } => {
                let who = self.copy(who);
                let log = &mut self.copies[who];
                let upto = log.start() + u64::from(upto);
                // Others still need what only an unsigned entry has given up.
                let last = log.ready().min(log.signed_size()).checked_sub(1).and_then(|last| log.entry(last));
                let base = last.map_or(0, |last| last.base);
                let dropped = log.drop_below(upto).is_ok();
                assert!(dropped || upto > base, "{upto} {base}");
                assert!(!dropped || upto <= base.max(log.start()), "{upto} {base}");
            }
            Step::Erase { who, seq } => {
                let who = self.copy(who);
                if let Some(seq) = u64::from(seq).checked_rem(self.copies[who].size().max(1)) {
                    let _ = self.copies[who].erase(seq);
                }
            }
            Step::Send { from, to, at, count, alone, bytes_max } => {
                let (from, to) = (self.copy(from), self.copy(to));
                let log = &self.copies[from];
                let at = log.start() + u64::from(at) % (log.size() - log.start() + 1);
                let form = if alone { RangeForm::Alone } else { RangeForm::Follow };
                let end = (at + u64::from(count)).min(log.head().map_or(0, |head| head.size)).min(log.size());
                if let Some((bytes, _)) = log.range(at, end, form, usize::from(bytes_max)) {
                    self.messages.push(bytes.clone());
                    self.deliver(to, &bytes);
                }
            }
            Step::Again { message, to } => {
                if let Some(message) = usize::from(message).checked_rem(self.messages.len()) {
                    let bytes = self.messages[message].clone();
                    self.deliver(self.copy(to), &bytes);
                }
            }
            Step::Changed { message, to, bit, cut } => {
                if let Some(message) = usize::from(message).checked_rem(self.messages.len()) {
                    let mut bytes = self.messages[message].clone();
                    let bit = usize::from(bit) % (bytes.len() * 8);
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    bytes.truncate(bytes.len() - usize::from(cut >> 12));
                    let to = self.copy(to);
                    // Whatever becomes of a range, entries are made ready whose time has come.
                    let mut before = self.copies[to].clone();
                    before.make_ready(Allowance::ANY.latest);
                    let mut log = before.clone();
                    let received = log.receive(&bytes, &Allowance::ANY, &mut plenty());
                    assert!(received.is_err(), "what was changed is refused: {received:?}");
                    assert_eq!(picture(&log), picture(&before), "a refused range changes nothing");
                }
            }
            Step::CatchUp { from, to, times, bytes_max } => {
                let (from, to) = (self.copy(from), self.copy(to));
                for _ in 0..times % 8 {
                    if from == to || !self.ask(from, to, usize::from(bytes_max)) {
                        break;
                    }
                }
            }
            Step::Later { millis } => self.now += u64::from(millis),
        }
    }

    /// `to` asks `from` for the first thing that it lacks. False if there is nothing to be had.
    fn ask(&mut self, from: usize, to: usize, bytes_max: usize) -> bool {
        let log = &self.copies[from];
        let signed = log.size().min(log.head().map_or(0, |head| head.size));
        let have = Have { start: log.start(), size: signed, base: log.base().min(signed) };
        let Some(want) = self.copies[to].want(&have) else { return false };
        let range = log.range(want.from, want.to.min(signed), want.form, bytes_max);
        let range = range.or_else(|| log.range(want.from, want.to.min(signed), RangeForm::Alone, bytes_max));
        let Some((bytes, _)) = range else { return false };
        self.messages.push(bytes.clone());
        self.deliver(to, &bytes);
        true
    }

    fn deliver(&mut self, to: usize, bytes: &[u8]) {
        let latest = Hlc::new(Timestamp::from_millis(self.now + 120_000), u16::MAX);
        let allowance = Allowance { latest, late_bytes_max: self.late_bytes_max, staged_bytes_max: 16_384 };
        let honest = self.copies.len() == CLONE;
        let log = &mut self.copies[to];
        log.make_ready(latest);
        let before = log.clone();
        let received = log.receive(bytes, &allowance, &mut plenty());
        match &received {
            Ok(Received::Forked(evidence)) => {
                assert!(!honest, "nobody signed two histories");
                let decoded = Evidence::decode(evidence.as_bytes(), &mesh(), &mut plenty());
                assert_eq!(decoded.as_ref(), Ok(&**evidence), "evidence is portable");
                assert_eq!(picture(log), picture(&before), "a fork changes nothing");
            }
            Ok(Received::Conflict) => {
                assert!(!honest, "nobody signed two histories");
                // A range that would take the place of entries which are not signed yet waits; they stay.
                let held = |log: &Log| (log.start(), log.size(), log.root(), log.base(), log.head().copied());
                assert_eq!(held(log), held(&before), "a conflict changes nothing of what is held");
            }
            Ok(Received::Extended { from, to }) => {
                assert_eq!((*from, *to), (before.size(), log.size()));
            }
            Ok(Received::FastForwarded { to, .. }) => assert_eq!(*to, log.size()),
            Ok(Received::Nothing) => assert_eq!(picture(log), picture(&before)),
            Ok(_) => {
                assert_eq!((log.start(), log.size()), (before.start(), before.size()), "{received:?}");
            }
            Err(error) => {
                assert_eq!(picture(log), picture(&before), "a refused range changes nothing");
                match error {
                    // Behind another predecessor, a stamp may not be in its shortest form.
                    ReceiveError::Decode(_) => assert!(!honest, "{error}"),
                    ReceiveError::Budget => panic!("{error}"),
                    ReceiveError::BadSignature => assert!(!honest, "what the writer signed proves"),
                    // A range that follows on what was jumped over: the entry before never was here.
                    ReceiveError::Unproven => assert!(!honest || before.held().any(|held| held.0 > 0)),
                    _ => {}
                }
            }
        }
        if !matches!(received, Ok(Received::Nothing) | Err(_)) {
            consistent(log);
            proves(log);
        }
        let again = self.copies[to].clone().receive(bytes, &allowance, &mut plenty());
        if let (Ok(Received::Extended { .. }), Ok(again)) = (&received, again) {
            assert!(matches!(again, Received::Nothing | Received::Head), "idempotent: {again:?}");
        }
    }

    /// Everybody gets everything, from a writer with nothing unsigned.
    fn finish(&mut self) {
        self.now += 1_000_000;
        self.signed_at += 7;
        self.late_bytes_max = usize::MAX;
        if self.copies[WRITER].size() == 0 {
            return;
        }
        self.copies[WRITER].sign_head(&ada(), Timestamp::from_millis(self.signed_at)).unwrap();
        for to in [1, 2] {
            let mut rounds = 0;
            while self.ask(WRITER, to, 1 << 20) {
                rounds += 1;
                assert!(rounds < 64, "it ends");
            }
            let writer = &self.copies[WRITER];
            let follower = &self.copies[to];
            assert_eq!(follower.root(), writer.root(), "the follower has all of it");
            assert_eq!((follower.size(), follower.base()), (writer.size(), writer.base()));
            assert_eq!(follower.head().map(|head| head.size), Some(writer.size()));
            let from = follower.start().max(writer.start());
            for (theirs, ours) in follower.entries(from, u64::MAX).zip(writer.entries(from, u64::MAX)) {
                assert_eq!(follower.leaf(theirs.seq), writer.leaf(ours.seq));
                if let (Some(theirs), Some(ours)) = (theirs.payload(), ours.payload()) {
                    assert_eq!(theirs, ours);
                }
            }
        }
    }
}
