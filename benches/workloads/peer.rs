//! Two that meet: a session in memory, whose frames go from one side to the other until both are quiet.

use consilience::sync::session::{SessionId, SessionOptions};
use consilience::{Opened, Replica, Writer};

use crate::at;
use crate::state::{agent, config};

/// One side of a session, and what its host has to do.
pub trait Peer {
    fn connect(&mut self, options: SessionOptions, ms: u64) -> SessionId;
    fn disconnect(&mut self, session: SessionId);
    /// Takes a frame in, and stores what has to be stored.
    fn input(&mut self, session: SessionId, frame: &[u8], ms: u64);
    /// Appends a frame to `frame`, unless there is none.
    fn transmit(&mut self, session: SessionId, ms: u64, frame: &mut Vec<u8>) -> bool;
    /// Takes in that time has passed, if that is due.
    fn tick(&mut self, ms: u64);
}

/// A replica, its one writer, and the records that its host has stored.
pub struct Node {
    pub replica: Replica,
    pub writer: Writer,
    pub records: Vec<u8>,
}

impl Node {
    pub fn open(number: u64, opened: Opened<'_>) -> Self {
        let mut replica = Replica::open(config(number), opened, at(0)).unwrap();
        let writer = replica.add_writer(agent(number)).unwrap();
        Self { replica, writer, records: Vec::new() }
    }

    /// Stores the records that wait. Gives how many bytes they have.
    pub fn store(&mut self) -> usize {
        let before = self.records.len();
        while let Some(record) = self.replica.poll_record() {
            self.records.extend_from_slice(record.as_bytes());
            self.replica.confirm(record.id()).unwrap();
        }
        self.records.len() - before
    }
}

impl Peer for Node {
    fn connect(&mut self, options: SessionOptions, ms: u64) -> SessionId {
        self.replica.connect(self.writer, options, at(ms)).unwrap()
    }

    fn disconnect(&mut self, session: SessionId) {
        self.replica.disconnect(session);
    }

    fn input(&mut self, session: SessionId, frame: &[u8], ms: u64) {
        self.replica.handle_input(session, frame, at(ms)).unwrap();
        self.store();
    }

    fn transmit(&mut self, session: SessionId, ms: u64, frame: &mut Vec<u8>) -> bool {
        let sent = self.replica.poll_transmit(session, at(ms), frame);
        self.store();
        sent
    }

    fn tick(&mut self, ms: u64) {
        if self.replica.poll_timeout().is_some_and(|due| due <= at(ms)) {
            self.replica.handle_timeout(at(ms));
            self.store();
        }
    }
}

/// Where a frame goes.
#[derive(Clone, Copy)]
pub enum Direction {
    There,
    Here,
}

/// A session of two: who dials is here.
#[derive(Clone, Copy)]
pub struct Meeting {
    pub here: SessionId,
    pub there: SessionId,
}

impl Meeting {
    pub fn begin(here: &mut impl Peer, there: &mut impl Peer, ms: u64) -> Self {
        Self {
            here: here.connect(SessionOptions::dial(), ms),
            there: there.connect(SessionOptions::listen(), ms),
        }
    }

    /// Passes frames on until both are quiet.
    pub fn run<A: Peer, B: Peer>(&self, here: &mut A, there: &mut B, ms: u64) {
        self.pass(here, there, ms, |a, b, frame, direction| match direction {
            Direction::There => b.input(self.there, frame, ms),
            Direction::Here => a.input(self.here, frame, ms),
        });
    }

    /// Passes frames on until both are quiet; `deliver` takes each of them in.
    pub fn pass<A: Peer, B: Peer>(
        &self,
        here: &mut A,
        there: &mut B,
        ms: u64,
        mut deliver: impl FnMut(&mut A, &mut B, &[u8], Direction),
    ) {
        here.tick(ms);
        there.tick(ms);
        let mut frame = Vec::new();
        loop {
            let mut quiet = true;
            while here.transmit(self.here, ms, &mut frame) {
                deliver(here, there, &frame, Direction::There);
                frame.clear();
                quiet = false;
            }
            while there.transmit(self.there, ms, &mut frame) {
                deliver(here, there, &frame, Direction::Here);
                frame.clear();
                quiet = false;
            }
            if quiet {
                return;
            }
        }
    }
}
