//! `consilience`: sessions between replicas whose logs are signed by their writers.
//!
//! Each writer has a key pair and a log of its own, and each change is a transaction at its stamp, one entry of that
//! log. A holds the key of the first writer and goes on with its log; a third replica holds those of the others, and what
//! they wrote came to A in a bundle, with one signed head for each log. B writes nothing and has no writer's key: it
//! speaks as an agent of its own. Nothing is stored ([`Opened::InMemory`]), so a change may leave as soon as it is signed.
//!
//! Logs are not kept whole: once the entries of a log weigh more than twice what they list, each new one writes some of the
//! oldest again, and those go. What is missing is sent as the entries it is made of, with what they carry along.
//!
//! B dials, with the options of a session over a stream. Every frame counts as a message, with the length and the MAC
//! that it has in any case; one side speaks until it has nothing more to say now, then the other. `catch-up` and `equal`
//! begin with the handshake, in which both sides prove their keys, and end when both roots were compared and found
//! equal. `one-change` is signed, sent, checked and acknowledged.
//!
//! `consilience`: the two had a session in the same run of the program when B was last up to date, so they know since when
//! to compare. They still know it for `equal`, where it makes no difference but the 8 bytes that say so.
//! `consilience-unmet`: they never had one; for `equal` both are opened anew from snapshots.

use consilience::crdts::Timestamp;
use consilience::sync::session::{SessionEvent, SessionId, SessionOptions};
use consilience::sync::{Keypair, MeshSecret};
use consilience::{Config, Opened, Replica, Stored, Writer};

use super::history::{Change, History, LOCAL, Value};
use super::{Cost, Side, Subject};
use crate::measure::seconds;

const TOPIC: &str = "bench";
const MAP: &str = "map";

/// Replicas whose sessions know of an earlier one, or not.
pub struct Consilience<const MET: bool> {
    replicas: [Replica; 2],
    /// In whose names the sessions are held.
    agents: [Writer; 2],
    /// The seeds of their keys.
    seeds: [[u8; 32]; 2],
    /// Of A and of B, while they are connected.
    sessions: Option<[SessionId; 2]>,
    now: Timestamp,
}

fn open(opened: Opened<'_>, entropy: u8, now: Timestamp) -> Replica {
    let config = Config::new(MeshSecret::from_bytes([7; 32]), [entropy; 32]);
    Replica::open(config, opened, now).expect("nothing is damaged")
}

fn add(replica: &mut Replica, seed: [u8; 32]) -> Writer {
    let key = Keypair::from_seed(seed);
    replica.add_writer(key).expect("a key that is admitted")
}

fn put(replica: &mut Replica, writer: Writer, change: &Change) {
    let now = Timestamp::from_millis(change.stamp);
    let mut tx = replica
        .transact(writer, TOPIC, now)
        .expect("a writer of this replica");
    let set = tx.map(MAP).set(&change.key, change.value);
    set.expect("a short key and value");
    tx.commit().expect("a small transaction");
}

/// Brings what one replica has and another has not to it.
fn carry(from: &mut Replica, to: &mut Replica, now: Timestamp) {
    let summary = to.summary();
    let bundle = from.export_bundle(|_| true, Some(&summary), now);
    let imported = to
        .import_bundle(&bundle.expect("a summary"), now)
        .expect("a bundle");
    assert_eq!((imported.ignored, imported.refused), (0, 0));
}

impl<const MET: bool> Consilience<MET> {
    fn connect(&mut self) {
        let [a, b] = &mut self.replicas;
        let [at_a, at_b] = self.agents;
        self.sessions = Some([
            a.connect(at_a, SessionOptions::listen(), self.now)
                .expect("its writer"),
            b.connect(at_b, SessionOptions::dial(), self.now)
                .expect("its writer"),
        ]);
    }

    fn disconnect(&mut self) {
        let [_, dialled] = self.sessions.expect("connected");
        self.replicas[1].disconnect(dialled);
        self.exchange(1);
        assert!(self.replicas.iter().all(|replica| replica.sessions().is_empty()));
        for replica in &mut self.replicas {
            while replica.poll_event().is_some() {}
        }
    }

    /// Frames in turn until nobody has anything more to say. Gives their bytes and how many there were.
    fn exchange(&mut self, first: usize) -> (usize, usize) {
        let sessions = self.sessions.expect("connected");
        let (mut bytes, mut messages) = (0, 0);
        let (mut from, mut silent) = (first, 0);
        let mut frame = Vec::new();
        let mut waited = false;
        loop {
            if silent == 2 && waited {
                break;
            }
            if silent == 2 {
                // A last acknowledgement waits in vain for a packet to go along with.
                waited = true;
                silent = 0;
                self.now = Timestamp::from_millis(self.now.as_millis() + 25);
                for replica in &mut self.replicas {
                    replica.handle_timeout(self.now);
                }
            }
            silent += 1;
            while self.replicas[from].poll_transmit(sessions[from], self.now, &mut frame) {
                silent = 0;
                bytes += frame.len();
                messages += 1;
                let to = 1 - from;
                self.replicas[to]
                    .handle_input(sessions[to], &frame, self.now)
                    .expect("the frame fits");
                frame.clear();
            }
            from = 1 - from;
        }
        (bytes, messages)
    }

    /// Connects, and lets the two find out that they hold the same, or make it so.
    fn meet(&mut self) -> (usize, usize) {
        self.connect();
        self.exchange(1)
    }

    /// Checks that both sides know that they hold the same.
    fn expect_in_sync(&mut self) {
        for replica in &mut self.replicas {
            let events: Vec<SessionEvent> = std::iter::from_fn(|| replica.poll_event())
                .map(|(_, event)| event)
                .collect();
            assert!(
                matches!(events[..], [SessionEvent::Connected(_), SessionEvent::InSync]),
                "{events:?}"
            );
        }
    }

    /// Both replicas from snapshots, as after a restart.
    fn reopen(&mut self) {
        for (side, replica) in self.replicas.iter_mut().enumerate() {
            let snapshot = replica.snapshot();
            let stored = Stored {
                snapshot: Some(snapshot.as_bytes()),
                records: &[],
            };
            *replica = open(Opened::Restored(stored), 10 + side as u8, self.now);
            self.agents[side] = add(replica, self.seeds[side]);
        }
    }

    fn cost(((bytes, messages), seconds): ((usize, usize), f64)) -> Cost {
        Cost {
            bytes,
            messages,
            seconds,
        }
    }
}

impl<const MET: bool> Subject for Consilience<MET> {
    const NAME: &'static str = if MET { "consilience" } else { "consilience-unmet" };
    const SIGNED: bool = true;

    fn build(history: &History) -> Self {
        let time = |change: &Change| Timestamp::from_millis(change.stamp);
        let start = time(&history.changes[0]);
        let mut replicas = [1, 2].map(|entropy| open(Opened::InMemory, entropy, start));
        let mut others = open(Opened::InMemory, 3, start);
        let seeds = [history.ids[LOCAL[0]], [9; 32]];
        let [a, b] = &mut replicas;
        let agents = [add(a, seeds[0]), add(b, seeds[1])];
        let writers: Vec<Writer> = (history.ids.iter().enumerate())
            .map(|(writer, id)| {
                if writer == LOCAL[0] {
                    agents[0]
                } else {
                    add(&mut others, *id)
                }
            })
            .collect();
        let mut write = |changes: &[Change], a: &mut Replica| {
            for change in changes {
                let holder = if change.writer == LOCAL[0] {
                    &mut *a
                } else {
                    &mut others
                };
                put(holder, writers[change.writer], change);
            }
            let now = time(changes.last().expect("some changes"));
            carry(&mut others, a, now);
            now
        };
        let (shared, missed) = history.changes.split_at(history.shared);
        let now = write(shared, a);
        carry(a, b, now);
        let mut subject = Consilience {
            replicas,
            agents,
            seeds,
            sessions: None,
            now,
        };
        if MET {
            subject.meet();
            subject.expect_in_sync();
            subject.disconnect();
        }
        subject.now = write(missed, &mut subject.replicas[0]);
        subject
    }

    fn catch_up(&mut self) -> Cost {
        let cost = Self::cost(seconds(|| self.meet()));
        self.expect_in_sync();
        cost
    }

    fn one_change(&mut self, change: &Change) -> Cost {
        self.now = self.now.max(Timestamp::from_millis(change.stamp));
        Self::cost(seconds(|| {
            put(&mut self.replicas[0], self.agents[0], change);
            self.exchange(0)
        }))
    }

    fn equal(&mut self) -> Cost {
        self.disconnect();
        if !MET {
            self.reopen();
        }
        let cost = Self::cost(seconds(|| self.meet()));
        self.expect_in_sync();
        cost
    }

    fn value(&self, side: Side, key: &str) -> Option<Value> {
        let topic = self.replicas[side as usize].topic(TOPIC).expect("a topic");
        topic.map(MAP).get(key)?.value.try_into().ok()
    }
}
