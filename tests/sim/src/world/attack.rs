//! Whoever is no honest host and speaks to one: openings that nobody signed, and speakers of the protocol of sessions that
//! follow a script. What they may cost, and what they may make a host say, is checked here.

use std::collections::BTreeSet;

use consilience::sync::session::{Scope, SessionEvent, SessionId, SessionOptions};
use consilience::sync::{Incarnation, LogKind, LogOpening, Offer, RangeForm, Topic, Want};
use consilience_test_support::foe::{self, Foe, Heard};
use consilience_test_support::hand;
use consilience_test_support::replicas::{START, mesh, secret};

use super::{Checked, World, broken};
use crate::host::{Disk, Host};
use crate::step::{Kind, Script};

/// A host answers at most so many bytes for each that it was sent, beside those for what it holds.
const ANSWERS_A_BYTE: usize = 4;
/// Answers to hellos without a proof are few, whatever their number.
const ANSWERED_HELLOS_MAX: usize = 8;

impl World {
    /// Hands a host openings in the name of another's agent.
    pub(super) fn openings(
        &mut self,
        of: &str,
        (topic, kind): (&str, Kind),
        (last, many): (u64, u64),
        host: &str,
    ) {
        let (Some(of), Some(at), Ok(topic)) = (self.host(of), self.host(host), Topic::new(topic)) else {
            return;
        };
        let agent = self.keys().agent(&self.hosts[of].agent);
        let kind = if kind == Kind::State { LogKind::State } else { LogKind::Event };
        let openings = (0..many).map(|before| {
            let incarnation = Incarnation::from_u64(last.saturating_sub(before));
            (1, LogOpening { topic: topic.clone(), kind, agent, incarnation }.encode(&mesh()))
        });
        self.took = self.import(at, &hand::bundle(&mesh(), &openings.collect::<Vec<_>>()));
    }

    /// Somebody speaks to a host.
    pub(super) fn foe(&mut self, by: &str, host: &str, script: Script, many: u64) -> Checked {
        let Some(at) = self.host(host).filter(|at| self.hosts[*at].process.is_some()) else { return Ok(()) };
        self.took = true;
        match script {
            Script::Asks => self.asks(by, at, many),
            Script::Hellos => self.hellos(by, at, many),
            Script::Offers => self.offers(by, at),
        }
    }

    /// A foe that dials a host, and the host's session.
    fn calls(
        &mut self,
        by: &str,
        at: usize,
        script: impl FnMut(&mut Foe, &Heard) + Send + 'static,
    ) -> Option<(Foe, SessionId)> {
        let session = self.hosts[at].connect(SessionOptions::listen(), self.now)?;
        let mut foe = Foe::new(session, secret(), self.keys().key(by), true, script);
        foe.nonce = [self.dice.roll(256) as u8; 16];
        foe.seconds = (START + self.now) / 1_000;
        foe.start();
        Some((foe, session))
    }

    /// The two talk until neither has anything to say, or so many frames came. Gives the bytes to the host, and those of it.
    fn talk(&mut self, at: usize, (foe, session): (&mut Foe, SessionId)) -> (usize, usize) {
        let (mut sent, mut answered) = (0, 0);
        let mut frame = Vec::new();
        for _ in 0..4_000 {
            let mut is_quiet = true;
            foe.timeout(self.now);
            while let Some(bytes) = foe.poll(self.now) {
                is_quiet = false;
                sent += bytes.len();
                self.trace.update(&bytes);
                self.figures.frames += 1;
                let _ = self.hosts[at].input(session, &bytes, self.now);
            }
            frame.clear();
            while self.hosts[at].transmit(session, self.now, &mut frame) {
                is_quiet = false;
                answered += frame.len();
                foe.input(&frame, self.now);
                frame.clear();
            }
            if is_quiet {
                break;
            }
        }
        self.note_stored(at);
        (sent, answered)
    }

    /// Somebody asks for all of the longest log that a host holds, over and over.
    fn asks(&mut self, by: &str, at: usize, many: u64) -> Checked {
        let logs = self.hosts[at].logs().into_iter().flat_map(|logs| logs.logs());
        let Some(log) = logs.max_by_key(|log| log.signed_size()).map(|log| *log.id()) else { return Ok(()) };
        let held = self.hosts[at].logs().map_or(0, |logs| logs.stats().bytes);
        let all = Want { from: 0, to: 1 << 44, form: RangeForm::Follow };
        let mut turn = 0;
        let script = move |foe: &mut Foe, heard: &Heard| {
            if matches!(heard, Heard::Opened | Heard::Tick) && turn < many {
                foe.say(&foe::want(&log, all));
                turn += 1;
                foe.tick = Some(foe.now);
            }
        };
        let Some((mut foe, session)) = self.calls(by, at, script) else { return Ok(()) };
        let (sent, answered) = self.talk(at, (&mut foe, session));
        self.hosts[at].disconnect(session);
        // A frame is given for nothing, and what is held a few times.
        if answered > ANSWERS_A_BYTE * (sent + held) + (32 << 10) {
            return broken("answers", format!("{answered} bytes for {sent} of {}", self.hosts[at].name));
        }
        Ok(())
    }

    /// Hellos that were recorded are played to a host again.
    fn hellos(&mut self, by: &str, at: usize, many: u64) -> Checked {
        let mut record = Vec::new();
        for number in 0..many.min(64) {
            let Some((mut foe, session)) = self.calls(by, at, |_, _| {}) else { return Ok(()) };
            self.hosts[at].disconnect(session);
            while foe.poll(self.now).is_some() {}
            foe.nonce[..8].copy_from_slice(&number.to_le_bytes());
            record.push(foe::frame(foe::HELLO, &foe.hello()));
        }
        let mut answers = 0;
        for hello in &record {
            let Some(session) = self.hosts[at].connect(SessionOptions::listen(), self.now) else {
                return Ok(());
            };
            let mut frame = Vec::new();
            for _ in 0..2 {
                let _ = self.hosts[at].input(session, hello, self.now);
                while self.hosts[at].transmit(session, self.now, &mut frame) {
                    answers += foe::frames(&frame).iter().filter(|(kind, _)| *kind == foe::ANSWER).count();
                    self.trace.update(&frame);
                    frame.clear();
                }
            }
            self.hosts[at].disconnect(session);
        }
        // An answer is sent again with the hello that it was made for.
        if answers > 2 * ANSWERED_HELLOS_MAX {
            return broken("hellos", format!("{answers} answers of {}", self.hosts[at].name));
        }
        Ok(())
    }

    /// Somebody says that it holds more of each log than the host does, and sends nothing of it.
    fn offers(&mut self, by: &str, at: usize) -> Checked {
        let mut set = BTreeSet::new();
        if let Some(logs) = self.hosts[at].logs() {
            set.extend(logs.logs().map(|log| (*log.id(), log.signed_size())));
        }
        let lies: Vec<Offer> = set
            .into_iter()
            .map(|(log, size)| Offer { log, start: 0, size: size + 3, root: [7; 8], facts: None })
            .collect();
        if lies.is_empty() {
            return Ok(());
        }
        let script = move |foe: &mut Foe, heard: &Heard| match heard {
            Heard::Message(foe::ROOT, rest) => {
                let pass = foe::pass_of(rest);
                foe.say(&[foe::offers(pass, foe::ALL, &lies), foe::done(pass, false)].concat());
            }
            Heard::Message(foe::OFFERS, rest) => {
                let pass = foe::pass_of(rest);
                foe.say(&[foe::offers(pass, foe::ANSWERING, &lies), foe::done(pass, false)].concat());
            }
            _ => {}
        };
        let Some((mut foe, session)) = self.calls(by, at, script) else { return Ok(()) };
        self.poll();
        self.overheard.clear();
        self.talk(at, (&mut foe, session));
        self.poll();
        let said = std::mem::take(&mut self.overheard);
        self.hosts[at].disconnect(session);
        if said.contains(&(at, session, SessionEvent::InSync)) {
            return broken("false_in_sync", format!("{} and a foe", self.hosts[at].name));
        }
        Ok(())
    }

    /// A newcomer asks a host for all topics, and for one of them first: nothing of another one comes before all of it.
    pub(super) fn prefer(&mut self, of: &str, first: &str) -> Checked {
        let (Some(at), Ok(topic)) = (self.host(of), Topic::new(first)) else { return Ok(()) };
        let Ok(scope) = Scope::of(&[first, "*"]) else { return Ok(()) };
        if self.hosts[at].process.is_none() || self.hosts[at].ahead.abs() > super::DRIFT {
            return Ok(());
        }
        let mut newcomer = Host::new("newcomer", "newcomer", false, Disk::default());
        newcomer.start(self.seed, crate::host::How::Fresh, self.now);
        let options = SessionOptions::dial().with_scope(scope).with_frame_bytes(1_024);
        let (Some(dials), Some(listens)) =
            (newcomer.connect(options, self.now), self.hosts[at].connect(SessionOptions::listen(), self.now))
        else {
            return Ok(());
        };
        self.took = true;
        let sizes = |host: &Host, wanted: bool| {
            let logs = host.logs().into_iter().flat_map(|logs| logs.logs());
            let of = logs.filter(|log| (log.opening().topic == topic) == wanted);
            of.map(consilience::sync::Log::signed_size).sum::<u64>()
        };
        let (mut frame, mut first_other, mut late) = (Vec::new(), false, false);
        let mut before = sizes(&newcomer, true);
        for _ in 0..2_000 {
            let mut is_quiet = true;
            frame.clear();
            if newcomer.transmit(dials, self.now, &mut frame) {
                is_quiet = false;
                let _ = self.hosts[at].input(listens, &frame, self.now);
            }
            frame.clear();
            if self.hosts[at].transmit(listens, self.now, &mut frame) {
                is_quiet = false;
                self.trace.update(&frame);
                let _ = newcomer.input(dials, &frame, self.now);
                let now = sizes(&newcomer, true);
                // A frame may hold the end of the one and the beginning of the other.
                late |= first_other && now > before;
                first_other |= sizes(&newcomer, false) > 0;
                before = now;
            }
            if is_quiet {
                break;
            }
        }
        self.hosts[at].disconnect(listens);
        self.note_stored(at);
        if late {
            return broken("order", format!("{of}: {first} came after others"));
        }
        Ok(())
    }
}
