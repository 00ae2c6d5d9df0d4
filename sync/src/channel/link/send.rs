//! The half of a link that gives chunks out: the queue, the chunks on their way, and those that are lost.
//!
//! Losses are found by the order of transmissions and not of chunks (RFC 8985, RFC 9002): each transmission
//! has a number, and one is lost when another with a number greater by three has arrived, or a later one and a
//! round trip has passed. So a chunk that is lost again is found again within a round trip, without a timer of its own.
//!
//! The invariant: the pending bytes of the buffer begin with those of the first chunk of `flight`, and the chunks are cut
//! from them without a gap.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::congestion::{Acked, Congestion};
use super::packet::{AHEAD_MAX, SelectiveAck};
use super::rtt::Rtt;
use crate::codec::varint_bytes;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

#[derive(Debug)]
pub(super) struct Sender {
    window: usize,
    peer_window: usize,
    buffer: Buffer,
    /// The number of the first chunk of `flight`.
    first: u64,
    /// At most one more than [`AHEAD_MAX`].
    flight: VecDeque<Transmission>,
    /// Bytes of `flight` in all, and of those that are on their way.
    cut: usize,
    in_flight: usize,
    /// How many chunks are lost and were not sent again.
    lost: usize,
    /// The number of the next transmission.
    transmission: u64,
    /// One more than the greatest number that arrived; before any, 0.
    arrived: u64,
    rtt: Rtt,
    congestion: Congestion,
    /// When nothing has come for too long.
    timeout: Option<u64>,
    /// When a transmission before one that arrived is lost.
    overdue: Option<u64>,
    /// When the next chunk may go out, if one was held back.
    paced: Option<u64>,
    /// How many lost chunks may be sent even though the window is full.
    probes: u8,
}

/// The bytes that the peer is not known to have, then those not yet sent: one after the other in memory, so that messages
/// are written here and chunks are cut from here without another copy.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// So many at the front the peer has.
    done: usize,
    /// How many bytes of the stream the peer has, without a gap.
    delivered: u64,
}

impl Buffer {
    /// An empty buffer longer than this is given back.
    const SPARE_BYTES_MAX: usize = 4096;

    fn pending(&self) -> &[u8] {
        self.bytes.get(self.done..).unwrap_or_default()
    }

    const fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.done)
    }

    /// The peer has so many bytes more.
    fn deliver(&mut self, bytes: usize) {
        self.done = self.done.saturating_add(bytes).min(self.bytes.len());
        self.delivered = self.delivered.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// Gives back the bytes that the peer has, if they are an eighth of the rest: so little is wasted, and the moved bytes
    /// are in proportion to the delivered ones.
    fn make_room(&mut self) {
        if self.done > 0 && self.len() / 8 <= self.done {
            self.bytes.drain(..self.done);
            self.done = 0;
        }
        if self.bytes.is_empty() && self.bytes.capacity() > Self::SPARE_BYTES_MAX {
            self.bytes = Vec::new();
        }
    }
}

/// A chunk that was sent.
#[derive(Clone, Copy, Debug)]
struct Transmission {
    /// Where it begins in the stream.
    start: u64,
    len: usize,
    state: State,
    first_sent_ms: u64,
    /// Of its last transmission.
    transmission: u64,
    sent_ms: u64,
    /// Whether that was not its first.
    again: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    OnItsWay,
    Lost,
    Arrived,
}

/// A chunk to send.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) number: u64,
    pub(super) len: usize,
    start: u64,
}

/// The chunks that an acknowledgement is the first to name.
#[derive(Default)]
struct News {
    any: bool,
    bytes: usize,
    /// The latest transmission among them.
    latest: Option<Transmission>,
}

impl Sender {
    /// One transmission this much later arrived: the packets were not only swapped.
    const TURNS_LATE: u64 = 3;
    /// Sent after a whole timeout, within the bytes: on a bad path some of them are lost too, or their
    /// answers, and the wait doubles. Of long packets it is one, for a transport that repeats them
    /// itself was only slow.
    const PROBES: u8 = 4;
    const PROBE_BYTES_MAX: usize = 6_000;
    pub(super) fn new(packet_bytes: usize, window: usize, peer_window: usize, controlled: bool) -> Self {
        Self {
            window,
            // A peer that keeps nothing still takes the chunk it waits for.
            peer_window: peer_window.max(1),
            buffer: Buffer::default(),
            first: 0,
            flight: VecDeque::new(),
            cut: 0,
            in_flight: 0,
            lost: 0,
            transmission: 0,
            arrived: 0,
            rtt: Rtt::new(controlled),
            congestion: Congestion::new(packet_bytes, controlled),
            timeout: None,
            overdue: None,
            paced: None,
            probes: 0,
        }
    }

    pub(super) fn room(&self) -> usize {
        self.window.saturating_sub(self.buffer.len())
    }

    pub(super) const fn queue(&mut self) -> &mut Vec<u8> {
        &mut self.buffer.bytes
    }

    /// The next chunk that may go out now. A new one has at most `bytes_max` bytes together with its number.
    pub(super) fn poll_chunk(&mut self, bytes_max: usize, now: u64) -> Option<Chunk> {
        self.paced = None;
        let chunk = if self.lost > 0 { self.poll_lost(now) } else { self.poll_new(bytes_max, now) }?;
        self.congestion.sent(chunk.len);
        if self.timeout.is_none() {
            self.timeout = Some(now.saturating_add(self.rtt.wait()));
        }
        Some(chunk)
    }

    fn poll_lost(&mut self, now: u64) -> Option<Chunk> {
        let (number, sent) =
            (self.first..).zip(self.flight.iter_mut()).find(|(_, sent)| sent.state == State::Lost)?;
        if self.probes == 0 {
            if !self.congestion.allows(self.in_flight, sent.len) {
                return None;
            }
            self.paced = self.congestion.due(sent.len, now);
            if self.paced.is_some() {
                return None;
            }
        }
        *sent = Transmission {
            state: State::OnItsWay,
            transmission: self.transmission,
            sent_ms: now,
            again: true,
            ..*sent
        };
        self.transmission = self.transmission.saturating_add(1);
        self.probes = self.probes.saturating_sub(1);
        self.lost = self.lost.saturating_sub(1);
        self.in_flight = self.in_flight.saturating_add(sent.len);
        Some(Chunk { number, len: sent.len, start: sent.start })
    }

    fn poll_new(&mut self, bytes_max: usize, now: u64) -> Option<Chunk> {
        let ahead = u64::try_from(self.flight.len()).unwrap_or(u64::MAX);
        let number = self.first.saturating_add(ahead);
        let queued = self.buffer.len().saturating_sub(self.cut);
        let len = queued.min(bytes_max.saturating_sub(varint_bytes(number)));
        // A peer with little room gets short chunks one by one, but a chunk is not cut short to fill a window
        // up.
        let len = if self.cut == 0 { len.min(self.peer_window) } else { len };
        if len == 0
            || ahead > AHEAD_MAX
            || self.cut.saturating_add(len) > self.peer_window
            || !self.congestion.allows(self.in_flight, len)
        {
            return None;
        }
        self.paced = self.congestion.due(len, now);
        if self.paced.is_some() {
            return None;
        }
        let start = self.buffer.delivered.saturating_add(u64::try_from(self.cut).unwrap_or(u64::MAX));
        self.flight.push_back(Transmission {
            start,
            len,
            state: State::OnItsWay,
            first_sent_ms: now,
            transmission: self.transmission,
            sent_ms: now,
            again: false,
        });
        self.transmission = self.transmission.saturating_add(1);
        self.cut = self.cut.saturating_add(len);
        self.in_flight = self.in_flight.saturating_add(len);
        Some(Chunk { number, len, start })
    }

    /// Appends the bytes of a chunk that was just polled.
    pub(super) fn put_chunk(&self, chunk: &Chunk, out: &mut Vec<u8>) {
        let skip = usize::try_from(chunk.start.saturating_sub(self.buffer.delivered)).unwrap_or(usize::MAX);
        let bytes = self.buffer.pending().get(skip..).unwrap_or_default();
        out.extend_from_slice(bytes.get(..chunk.len).unwrap_or(bytes));
    }

    /// Whether all that an acknowledgement names was sent.
    pub(super) fn was_sent(&self, ack: u64, held: &SelectiveAck) -> bool {
        let end = self.first.saturating_add(u64::try_from(self.flight.len()).unwrap_or(u64::MAX));
        // Held chunks lie after a gap, so the chunk at `ack` must have been sent as well: it is nearer.
        ack <= end
            && held.iter().last().is_none_or(|distance| ack.saturating_add(distance) < end.saturating_sub(1))
    }

    /// Takes an acknowledgement in, however old it is.
    pub(super) fn handle_ack(&mut self, ack: u64, held: &SelectiveAck, now: u64) {
        let (in_flight, arrived) = (self.in_flight, self.arrived);
        let mut news = News::default();
        while self.first < ack {
            self.arrive(0, now, &mut news);
            let Some(sent) = self.flight.pop_front() else { break };
            self.buffer.deliver(sent.len);
            self.cut = self.cut.saturating_sub(sent.len);
            self.first = self.first.saturating_add(1);
        }
        self.buffer.make_room();
        for distance in held.iter() {
            let number = ack.saturating_add(1).saturating_add(distance);
            if let Some(Ok(at)) = number.checked_sub(self.first).map(usize::try_from) {
                self.arrive(at, now, &mut news);
            }
        }
        if !news.any {
            return;
        }
        // Only the latest chunk of all may have caused this acknowledgement. The others may have arrived long
        // ago, when the acknowledgement was lost, and to time them would make the next wait longer for it.
        let mut rtt = None;
        if let Some(sent) = news.latest.filter(|sent| sent.transmission >= arrived) {
            let took = now.saturating_sub(sent.first_sent_ms);
            if sent.again {
                self.rtt.sample_at_most(took);
            } else {
                self.rtt.sample(took);
                rtt = Some(took);
            }
        }
        self.probes = 0;
        self.find_lost(now);
        self.congestion.acknowledged(&Acked {
            bytes: news.bytes,
            in_flight,
            latest: news.latest.map_or(0, |sent| sent.transmission),
            next: self.transmission,
            rtt,
            smoothed: self.rtt.smoothed(),
            now,
        });
        let waits = self.in_flight > 0 || self.lost > 0;
        self.timeout = waits.then(|| now.saturating_add(self.rtt.wait()));
    }

    /// The peer has a chunk of the flight.
    fn arrive(&mut self, at: usize, now: u64, news: &mut News) {
        let Some(sent) = self.flight.get_mut(at) else { return };
        match sent.state {
            State::Arrived => return,
            State::OnItsWay => self.in_flight = self.in_flight.saturating_sub(sent.len),
            State::Lost => self.lost = self.lost.saturating_sub(1),
        }
        sent.state = State::Arrived;
        news.any = true;
        news.bytes = news.bytes.saturating_add(sent.len);
        let took = now.saturating_sub(sent.sent_ms);
        if news.latest.is_none_or(|latest| latest.transmission < sent.transmission) {
            news.latest = Some(*sent);
        }
        // Sooner than any round trip was, it is the earlier transmission that arrived after all.
        if !sent.again || took >= self.rtt.least() {
            self.arrived = self.arrived.max(sent.transmission.saturating_add(1));
        }
    }

    /// Marks the lost chunks, and sets the time when more will be.
    fn find_lost(&mut self, now: u64) {
        let patience = self.rtt.reordering();
        self.overdue = None;
        for sent in &mut self.flight {
            let late = self.arrived.saturating_sub(1).saturating_sub(sent.transmission);
            if sent.state != State::OnItsWay || late == 0 {
                continue;
            }
            let due = sent.sent_ms.saturating_add(patience);
            if late >= Self::TURNS_LATE || due <= now {
                sent.state = State::Lost;
                self.lost = self.lost.saturating_add(1);
                self.in_flight = self.in_flight.saturating_sub(sent.len);
                self.congestion.lost(sent.len);
            } else {
                self.overdue = Some(self.overdue.map_or(due, |overdue| overdue.min(due)));
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<u64> {
        [self.timeout, self.overdue, self.paced].into_iter().flatten().min()
    }

    /// The path may be back: what waits for the peer is tried now.
    pub(super) fn nudge(&mut self, now: u64) {
        if self.timeout.is_some() {
            self.rtt.nudge();
            self.timeout = Some(now);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: u64) {
        self.paced = self.paced.filter(|paced| *paced > now);
        if self.overdue.is_some_and(|overdue| overdue <= now) {
            self.find_lost(now);
        }
        if self.timeout.is_none_or(|timeout| timeout > now) {
            return;
        }
        // A short wait says nothing of the path yet.
        let whole = self.rtt.waited();
        if whole {
            self.congestion.timed_out(self.transmission);
        }
        // Not all that is on its way: if it was only late, it need not go out twice, and if it is lost, the
        // acknowledgement of a probe tells.
        self.probes = 0;
        let mut bytes = 0_usize;
        let waiting = self.flight.iter_mut().filter(|sent| sent.state != State::Arrived);
        for sent in waiting.take(if whole { usize::from(Self::PROBES) } else { 1 }) {
            bytes = bytes.saturating_add(sent.len);
            if self.probes > 0 && bytes > Self::PROBE_BYTES_MAX {
                break;
            }
            self.probes = self.probes.saturating_add(1);
            if sent.state == State::OnItsWay {
                sent.state = State::Lost;
                self.lost = self.lost.saturating_add(1);
                self.in_flight = self.in_flight.saturating_sub(sent.len);
            }
        }
        self.timeout = Some(now.saturating_add(self.rtt.wait()));
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.buffer.len() == 0
    }

    #[cfg(test)]
    pub(super) const fn delivered(&self) -> u64 {
        self.buffer.delivered
    }

    pub(super) fn written(&self) -> u64 {
        self.buffer.delivered.saturating_add(u64::try_from(self.buffer.len()).unwrap_or(u64::MAX))
    }

    pub(super) fn memory(&self) -> usize {
        self.buffer.bytes.len().saturating_add(self.flight.len().saturating_mul(size_of::<Transmission>()))
    }

    pub(super) fn rtt(&self) -> Option<u64> {
        self.rtt.smoothed()
    }
}
