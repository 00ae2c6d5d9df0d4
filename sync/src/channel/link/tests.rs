//! Two links over a simulated path. A failure names the seed that replays it.

use super::packet::{AHEAD_MAX, Packet, SelectiveAck};
use super::receive::Receiver;
use super::*;
use alloc::collections::BTreeMap;
use alloc::vec;
use core::ops::RangeInclusive;

impl Link {
    fn write(&mut self, bytes: &[u8]) {
        self.queue().extend_from_slice(bytes);
    }

    fn poll_into(&mut self, now: u64, out: &mut Vec<u8>) -> bool {
        let Some(packet) = self.poll_packet(now) else { return false };
        let before = out.len();
        self.put(&packet, out);
        assert_eq!(out.len() - before, packet.bytes());
        true
    }
}

struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn within(&mut self, range: &RangeInclusive<u64>) -> u64 {
        range.start() + self.next() % (range.end() - range.start() + 1)
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

#[derive(Clone, Debug)]
struct Path {
    loss_percent: u64,
    double_percent: u64,
    delay_ms: RangeInclusive<u64>,
    /// Bytes a millisecond and how many may wait, if there is a bottleneck.
    bottleneck: Option<(u64, u64)>,
}

impl Path {
    fn steady(delay_ms: u64, loss_percent: u64) -> Self {
        Self { loss_percent, double_percent: 0, delay_ms: delay_ms..=delay_ms, bottleneck: None }
    }
}

struct End {
    link: Link,
    /// The bytes that it has to write, and those that it read.
    writes: Vec<u8>,
    written: usize,
    read: Vec<u8>,
    /// The bytes and the packets that it sent.
    sent: usize,
    packets: usize,
    /// When the bottleneck behind it is free, in microseconds.
    free_us: u64,
}

struct World {
    rng: Rng,
    path: Path,
    now: u64,
    ends: [End; 2],
    /// By arrival and by order of departure: the receiver, and the packet.
    air: BTreeMap<(u64, u64), (usize, Vec<u8>)>,
    departures: u64,
    piece_max: u64,
    batches: bool,
    memory_max: usize,
}

const CONFIG: LinkOptions = LinkOptions {
    packet_bytes: 1_200,
    window_out: 256 << 10,
    window_in: 256 << 10,
    unread_max: 256 << 10,
    peer_window: 256 << 10,
    controlled: true,
};

impl World {
    fn new(seed: u64, config: LinkOptions, path: Path, streams: [usize; 2]) -> Self {
        let mut rng = Rng::new(seed);
        // A write may overshoot by all of it, and the last few bytes stay unread.
        let memory_max = config.window_out + 70_000 + 2 * config.window_in + 2 * 253 * 64;
        let ends = streams.map(|len| End {
            link: Link::new(config, 0),
            writes: rng.bytes(len),
            written: 0,
            read: vec![],
            sent: 0,
            packets: 0,
            free_us: 0,
        });
        Self {
            rng,
            path,
            now: 0,
            ends,
            air: BTreeMap::new(),
            departures: 0,
            piece_max: 70_000,
            batches: false,
            memory_max,
        }
    }

    fn pump(&mut self, at: usize) {
        let end = &mut self.ends[at];
        while end.written < end.writes.len() && end.link.room() > 0 {
            let piece = self.rng.within(&(1..=self.piece_max)) as usize;
            let until = end.writes.len().min(end.written + piece);
            end.link.write(&end.writes[end.written..until]);
            end.written = until;
        }
        let mut body = vec![];
        while end.link.poll_into(self.now, &mut body) {
            assert!(body.len() <= end.link.packet_bytes);
            end.sent += body.len();
            end.packets += 1;
            let copies = if self.rng.percent(self.path.double_percent) { 2 } else { 1 };
            for _ in 0..copies {
                let mut depart = self.now;
                if let Some((rate, queue)) = self.path.bottleneck {
                    let waiting = end.free_us.saturating_sub(self.now * 1000) * rate / 1000;
                    if waiting + body.len() as u64 > queue {
                        continue;
                    }
                    end.free_us = end.free_us.max(self.now * 1000) + body.len() as u64 * 1000 / rate;
                    depart = end.free_us / 1000;
                }
                if !self.rng.percent(self.path.loss_percent) {
                    let arrival = depart + self.rng.within(&self.path.delay_ms);
                    self.departures += 1;
                    self.air.insert((arrival, self.departures), (1 - at, body.clone()));
                }
            }
            body.clear();
        }
        assert!(end.link.memory() <= self.memory_max, "{} bytes", end.link.memory());
    }

    /// Goes to the next thing that happens; false if nothing does any more.
    fn step(&mut self) -> bool {
        let timers = self.ends.iter().filter_map(|end| end.link.poll_timeout());
        let arrivals = self.air.keys().map(|(arrival, _)| *arrival).take(1);
        let Some(next) = timers.chain(arrivals).min() else { return false };
        self.now = self.now.max(next);
        while let Some(entry) = self.air.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (to, body) = entry.remove();
            let end = &mut self.ends[to];
            end.link.handle_packet(&body, self.now).unwrap();
            let unread = end.link.unread();
            // Sometimes the end of it stays for the next time.
            let len = unread.len() - (self.rng.next() % 3) as usize * unread.len() / 8;
            end.read.extend(&unread[..len]);
            end.link.consume(len);
            // A host that reads many packets at once answers them at once.
            if !self.batches {
                self.pump(to);
            }
        }
        for at in 0..2 {
            if self.ends[at].link.poll_timeout().is_some_and(|timeout| timeout <= self.now) {
                self.ends[at].link.handle_timeout(self.now);
            }
            self.pump(at);
        }
        true
    }

    /// Until both are quiet; the time it took.
    fn run(&mut self, what: &str) -> u64 {
        self.pump(0);
        self.pump(1);
        let mut steps = 0;
        while self.step() {
            steps += 1;
            assert!(steps < 2_000_000, "{what}: does not end");
        }
        for at in 0..2 {
            let rest = self.ends[at].link.unread().to_vec();
            self.ends[at].read.extend(rest);
            let (from, to) = (&self.ends[1 - at], &self.ends[at]);
            assert!(from.writes == to.read, "{what}: {} of {} bytes", to.read.len(), from.writes.len());
            assert!(from.link.is_quiet(), "{what}");
            assert_eq!(from.link.poll_timeout(), None, "{what}");
            assert_eq!(from.link.delivered(), from.writes.len() as u64, "{what}");
            assert_eq!(from.link.written(), from.writes.len() as u64, "{what}");
        }
        self.now
    }
}

fn pair() -> [Link; 2] {
    [Link::new(CONFIG, 0), Link::new(CONFIG, 0)]
}

fn packet(link: &mut Link, now: u64) -> Option<Vec<u8>> {
    let mut body = vec![];
    link.poll_into(now, &mut body).then_some(body)
}

/// The packet that acknowledges a single chunk which came at a time, when that is due.
fn late_ack(link: &mut Link, came: u64) -> Vec<u8> {
    let due = came + Receiver::ACK_DELAY_MS;
    assert_eq!(packet(link, due - 1), None);
    assert_eq!(link.poll_timeout(), Some(due));
    link.handle_timeout(due);
    packet(link, due).unwrap()
}

#[test]
fn both_streams_arrive_exactly_over_any_path() {
    for seed in 0..400 {
        let mut rng = Rng::new(seed ^ 0xabcd);
        let low = rng.within(&(0..=50));
        let path = Path {
            loss_percent: rng.within(&(0..=50)),
            double_percent: rng.within(&(0..=20)),
            delay_ms: low..=low + rng.within(&(0..=100)),
            bottleneck: rng.percent(25).then(|| (rng.within(&(20..=500)), rng.within(&(4_000..=100_000)))),
        };
        let window = rng.within(&(1..=100_000)) as usize;
        let config = LinkOptions {
            packet_bytes: rng.within(&(64..=2_000)) as usize,
            window_out: rng.within(&(1..=100_000)) as usize,
            // Unread bytes have room as well.
            window_in: window.max(70_000),
            unread_max: window.max(70_000),
            peer_window: window,
            controlled: true,
        };
        let streams = [rng.within(&(0..=30_000)) as usize, rng.within(&(0..=10_000)) as usize];
        let mut world = World::new(seed, config, path.clone(), streams);
        world.batches = rng.percent(50);
        world.piece_max = rng.within(&(1..=5_000));
        world.run(&alloc::format!("seed {seed}, {path:?}, {config:?}"));
    }
}

#[test]
fn a_clean_path_is_used_to_its_window() {
    let mut world = World::new(1, CONFIG, Path::steady(20, 0), [1_000_000, 0]);
    let took = world.run("clean");
    // Four round trips of slow start, then a window of 256 KiB in each of 40 ms, and the acknowledgement of the last chunk.
    assert!(took <= 340 + Receiver::ACK_DELAY_MS, "{took} ms");
    assert!(world.ends[0].sent < 1_006_000, "{}", world.ends[0].sent);
    // The last chunk waited for its acknowledgement, which is an eighth of the average.
    assert!(world.ends[0].link.rtt().is_some_and(|rtt| (40..=42).contains(&rtt)));
}

#[test]
fn packets_of_a_stream_transport_are_used_to_the_window_too() {
    let config = LinkOptions {
        packet_bytes: 65_000,
        window_out: 1 << 20,
        window_in: 1 << 20,
        unread_max: 1 << 20,
        peer_window: 1 << 20,
        controlled: true,
    };
    let mut world = World::new(1, config, Path::steady(20, 0), [4_000_000, 0]);
    let took = world.run("clean");
    assert!(took <= 260, "{took} ms");
}

#[test]
fn a_bottleneck_is_kept_busy_without_much_being_lost() {
    // 1 MB/s, and room for one round trip of 40 ms.
    let path = Path { bottleneck: Some((1_000, 40_000)), ..Path::steady(20, 0) };
    let mut world = World::new(1, CONFIG, path, [4_000_000, 0]);
    let took = world.run("bottleneck");
    let sent = world.ends[0].sent;
    assert!(took <= 4_400, "{took} ms");
    assert!(sent <= 4_150_000, "{sent} bytes");
}

#[test]
fn heavy_loss_slows_down_but_does_not_stop() {
    for (loss, bytes_a_second) in [(1, 500_000), (5, 120_000), (10, 90_000), (30, 35_000), (50, 3_500)] {
        let mut took = 0;
        for seed in 0..4 {
            took += World::new(seed, CONFIG, Path::steady(20, loss), [500_000, 0]).run("loss");
        }
        let goodput = 4 * 500_000 * 1000 / took;
        assert!(goodput >= bytes_a_second, "{loss} %: {goodput} bytes/s");
    }
}

#[test]
fn a_loss_in_a_hundred_leaves_half_of_a_wide_path() {
    // 10 Mbit/s, 100 ms, and room for one round trip.
    let mut took = 0;
    for seed in 0..4 {
        let path = Path { bottleneck: Some((1_250, 125_000)), ..Path::steady(50, 1) };
        took += World::new(seed, CONFIG, path, [4_000_000, 0]).run("loss");
    }
    let goodput = 4 * 4_000_000 * 1000 / took;
    assert!(goodput >= 600_000, "{goodput} bytes/s");
}

#[test]
fn two_that_share_a_path_both_get_on_and_little_waits() {
    // The other direction has a bottleneck of its own, and what waits there holds the acknowledgements up.
    let path = Path { bottleneck: Some((1_250, 250_000)), ..Path::steady(50, 0) };
    let mut world = World::new(1, CONFIG, path, [4_000_000, 4_000_000]);
    let took = world.run("both");
    assert!(took <= 4_400, "{took} ms");
    let sent: usize = world.ends.iter().map(|end| end.sent).sum();
    assert!(sent <= 8_200_000, "{sent} bytes");
}

#[test]
fn nothing_is_sent_again_behind_a_pipe_that_is_only_slow() {
    // A stream transport of 1 Mbit/s: a window of 48 KiB takes 393 ms.
    let config = LinkOptions {
        packet_bytes: 16_000,
        window_out: 48 << 10,
        window_in: 48 << 10,
        peer_window: 48 << 10,
        controlled: false,
        ..CONFIG
    };
    let path = Path { bottleneck: Some((125, u64::MAX)), ..Path::steady(50, 0) };
    let mut world = World::new(1, config, path, [500_000, 200_000]);
    world.run("slow");
    let sent: usize = world.ends.iter().map(|end| end.sent).sum();
    assert!(sent <= 704_000, "{sent} bytes");
}

#[test]
fn a_host_without_room_for_packets_has_no_timer_that_is_due_for_ever() {
    let [mut a, mut b] = pair();
    measure(&mut a, &mut b, 0);
    a.write(&[7; 100_000]);
    while let Some(body) = packet(&mut a, 40) {
        b.handle_packet(&body, 50).unwrap();
    }
    b.write(b"one");
    a.handle_packet(&packet(&mut b, 50).unwrap(), 60).unwrap();
    for end in [&mut a, &mut b] {
        let mut last = 60;
        for _ in 0..50 {
            let Some(due) = end.poll_timeout() else { break };
            assert!(due > last, "due at {due}, and it was {last} already");
            last = due;
            end.handle_timeout(due);
        }
    }
}

#[test]
fn a_path_that_is_back_is_found_within_a_second() {
    for cut in (0..90_000).step_by(997) {
        let [mut a, mut b] = pair();
        measure(&mut a, &mut b, 0);
        a.write(b"said while nobody heard");
        let (back, mut now, mut sent) = (40 + cut, 40, 0);
        let heard = loop {
            while let Some(body) = packet(&mut a, now) {
                sent += 1;
                if now >= back {
                    b.handle_packet(&body, now + 20).unwrap();
                }
            }
            if !b.unread().is_empty() {
                break now + 20;
            }
            now = a.poll_timeout().unwrap();
            a.handle_timeout(now);
        };
        assert!(heard <= back + 1_000 + 40, "{} ms after a cut of {cut}", heard - back);
        assert!(sent <= 6 + cut / 1_000, "{sent} packets in {cut} ms");
    }
}

#[test]
fn both_directions_at_once_find_their_losses() {
    let mut took = 0;
    for seed in 0..4 {
        took += World::new(seed, CONFIG, Path::steady(20, 10), [500_000, 500_000]).run("both");
    }
    let goodput = 4 * 500_000 * 1000 / took;
    assert!(goodput >= 90_000, "{goodput} bytes/s each way");
}

#[test]
fn a_quiet_link_has_no_timer_and_no_packet() {
    let [mut a, mut b] = pair();
    assert!(a.is_quiet() && a.poll_timeout().is_none());
    assert_eq!(packet(&mut a, 0), None);
    a.write(b"hello");
    assert!(!a.is_quiet());
    let body = packet(&mut a, 0).unwrap();
    assert_eq!(packet(&mut a, 0), None);
    assert_eq!(a.poll_timeout(), Some(1_000));
    b.handle_packet(&body, 10).unwrap();
    assert_eq!(b.unread(), b"hello");
    b.consume(5);
    let ack = late_ack(&mut b, 10);
    assert_eq!(packet(&mut b, 30), None);
    assert_eq!(b.poll_timeout(), None);
    a.handle_packet(&ack, 40).unwrap();
    assert!(a.is_quiet());
    assert_eq!((a.poll_timeout(), a.delivered(), a.rtt()), (None, 5, Some(40)));
    assert_eq!(packet(&mut a, 40), None);
    // A timeout that nobody asked for does nothing.
    a.handle_timeout(u64::MAX);
    assert_eq!((a.poll_timeout(), packet(&mut a, 40)), (None, None));
    assert_eq!((a.memory(), b.memory()), (0, 0));
}

#[test]
fn a_live_packet_has_three_bytes_of_overhead_and_an_acknowledgement_two() {
    let [mut a, mut b] = pair();
    let mut now = 0;
    for number in 0..100_u8 {
        a.write(b"live");
        let body = packet(&mut a, now).unwrap();
        assert_eq!(body, [&[1, 0, number], &b"live"[..]].concat());
        b.handle_packet(&body, now).unwrap();
        let ack = late_ack(&mut b, now);
        assert_eq!(ack, [0, number + 1]);
        now += Receiver::ACK_DELAY_MS;
        a.handle_packet(&ack, now).unwrap();
    }
    // A gap costs one byte more, and is told at once.
    a.write(b"lost");
    packet(&mut a, now).unwrap();
    a.write(b"live");
    b.handle_packet(&packet(&mut a, now).unwrap(), now).unwrap();
    assert_eq!(packet(&mut b, now).unwrap(), [2, 100, 1]);
}

#[test]
fn small_writes_travel_together() {
    let [mut a, _] = pair();
    for _ in 0..100 {
        a.write(b"0123456789");
    }
    assert_eq!(packet(&mut a, 0).unwrap().len(), 1_003);
    assert_eq!(packet(&mut a, 0), None);
}

#[test]
fn a_lost_acknowledgement_is_said_again_when_the_chunk_comes_again() {
    let [mut a, mut b] = pair();
    a.write(b"last");
    let body = packet(&mut a, 0).unwrap();
    b.handle_packet(&body, 20).unwrap();
    b.consume(4);
    late_ack(&mut b, 20); // and it is lost
    let timeout = a.poll_timeout().unwrap();
    a.handle_timeout(timeout - 1);
    assert_eq!(packet(&mut a, timeout - 1), None);
    a.handle_timeout(timeout);
    let again = packet(&mut a, timeout).unwrap();
    assert_eq!(again, body);
    b.handle_packet(&again, timeout + 20).unwrap();
    assert_eq!(b.unread(), b"");
    a.handle_packet(&packet(&mut b, timeout + 20).unwrap(), timeout + 40).unwrap();
    assert!(a.is_quiet());
    // Nobody knows which of the two was acknowledged.
    assert_eq!(a.rtt(), None);
}

#[test]
fn a_chunk_is_sent_again_once_three_later_ones_arrived_and_again_if_that_is_lost() {
    let [mut a, mut b] = pair();
    let mut sent = vec![];
    a.write(&[7; 4 * 1_193]);
    while let Some(body) = packet(&mut a, 0) {
        sent.push(body);
    }
    assert_eq!(sent.len(), 4);
    let mut tell = |a: &mut Link, body: &[u8], now| {
        b.handle_packet(body, now).unwrap();
        a.handle_packet(&packet(&mut b, now).unwrap(), now).unwrap();
    };
    tell(&mut a, &sent[1], 20);
    tell(&mut a, &sent[2], 20);
    assert_eq!(packet(&mut a, 20), None);
    tell(&mut a, &sent[3], 20);
    assert_eq!(packet(&mut a, 20).as_ref(), Some(&sent[0]));
    assert_eq!(packet(&mut a, 20), None);
    // The second transmission is lost as well; three that were sent after it arrive.
    a.write(&[8; 3 * 1_193]);
    for _ in 0..3 {
        let body = packet(&mut a, 21).unwrap();
        assert_ne!(body, sent[0]);
        tell(&mut a, &body, 40);
    }
    assert_eq!(packet(&mut a, 40).as_ref(), Some(&sent[0]));
    tell(&mut a, &sent[0], 60);
    assert!(a.is_quiet());
    assert_eq!(b.unread().len(), 7 * 1_193);
}

#[test]
fn the_wait_doubles_and_a_sleep_is_one_timeout() {
    let [mut a, _] = pair();
    a.write(b"anyone");
    packet(&mut a, 0).unwrap();
    let mut now = 0;
    for wait in [1_000, 2_000, 2_000, 2_000] {
        assert_eq!(a.poll_timeout(), Some(now + wait));
        now += wait;
        a.handle_timeout(now);
        assert!(packet(&mut a, now).is_some());
        assert_eq!(packet(&mut a, now), None);
    }
    let late = u64::MAX - 100_000;
    a.handle_timeout(late);
    assert!(packet(&mut a, late).is_some());
    assert_eq!(packet(&mut a, late), None);
    assert_eq!(a.poll_timeout(), Some(late + 2_000));
    // A clock that goes back stands still.
    a.handle_timeout(5);
    assert_eq!(packet(&mut a, 5), None);
    assert_eq!(a.poll_timeout(), Some(late + 2_000));
}

#[test]
fn no_more_is_on_its_way_than_the_peer_keeps_and_can_name() {
    let config = LinkOptions { peer_window: 3_000, ..CONFIG };
    let mut a = Link::new(config, 0);
    a.write(&[0; 10_000]);
    assert!(packet(&mut a, 0).is_some() && packet(&mut a, 0).is_some());
    assert_eq!(packet(&mut a, 0), None);

    let mut a = Link::new(LinkOptions { peer_window: 0, ..CONFIG }, 0);
    a.write(&[0; 10]);
    assert_eq!(packet(&mut a, 0).unwrap().len(), 4);
    assert_eq!(packet(&mut a, 0), None);

    let [mut a, mut b] = pair();
    let mut bodies = vec![];
    for number in 0..300_u32 {
        a.write(&number.to_be_bytes());
        bodies.extend(packet(&mut a, 0));
    }
    assert_eq!(bodies.len() as u64, AHEAD_MAX + 1);
    for body in bodies[1..].iter().rev() {
        b.handle_packet(body, 20).unwrap();
    }
    assert_eq!(b.unread(), b"");
    let ack = packet(&mut b, 20).unwrap();
    assert_eq!(ack.len(), 2 + SelectiveAck::BYTES_MAX);
    a.handle_packet(&ack, 40).unwrap();
    assert_eq!(packet(&mut a, 40).as_ref(), Some(&bodies[0]));
    b.handle_packet(&bodies[0], 60).unwrap();
    let numbers: Vec<u8> = (0..253_u32).flat_map(u32::to_be_bytes).collect();
    assert_eq!(b.unread(), numbers);
}

#[test]
fn a_chunk_whose_packet_has_no_room_for_the_bitmap_leaves_it_owed() {
    let [mut a, mut b] = pair();
    b.write(&[1; 1_200 - 8]);
    let full = packet(&mut b, 0).unwrap();
    assert_eq!(full.len(), 1_195);
    // The chunks of `a` arrive with gaps, so that the bitmap is long.
    for number in 0..200_u8 {
        a.write(&[number]);
        let body = packet(&mut a, 0).unwrap();
        if number % 2 == 1 {
            b.handle_packet(&body, 10).unwrap();
        }
    }
    b.handle_timeout(1_000);
    let again = packet(&mut b, 1_000).unwrap();
    assert_eq!(again, full);
    let ack = packet(&mut b, 1_000).unwrap();
    assert_eq!(Packet::decode(&ack).unwrap().held.iter().count(), 100);
    assert_eq!(packet(&mut b, 1_000), None);
    // A new chunk is cut for it.
    b.write(&[2; 5_000]);
    let body = packet(&mut b, 1_000).unwrap();
    assert!(body.len() <= 1_200);
    assert_eq!(Packet::decode(&body).unwrap().held.iter().count(), 100);
}

#[test]
fn malformed_packets_change_nothing() {
    let [mut a, _] = pair();
    a.write(b"one");
    packet(&mut a, 0).unwrap();
    let far = AHEAD_MAX as u8; // two bytes as a varint
    let mut long = vec![2, 0];
    long.extend([0xff; SelectiveAck::BYTES_MAX]);
    long.push(1);
    for (body, error) in [
        (&[][..], DecodeError::Truncated),
        (&[4, 0], DecodeError::Kind),
        (&[0x80, 0], DecodeError::Kind),
        (&[0], DecodeError::Truncated),
        (&[0, 0x80, 0], DecodeError::Varint),
        (&[0, 0, 0], DecodeError::Trailing),
        (&[2, 0, 0], DecodeError::NotCanonical),
        (&[2, 0, 0x81, 0], DecodeError::Varint),
        (&[2, 0, 0x81], DecodeError::Truncated),
        (&[2, 0, 1, 0], DecodeError::Trailing),
        (&long, DecodeError::Varint),
        (&[1, 0], DecodeError::Truncated),
        (&[1, 0, 0], DecodeError::Truncated),
        (&[3, 0, 0, 0, 9], DecodeError::NotCanonical),
        // Well-formed, and of chunks that were never sent or cannot be kept.
        (&[0, 2], DecodeError::Limit),
        (&[2, 0, 1], DecodeError::Limit),
        (&[2, 1, 1], DecodeError::Limit),
        (&[1, 2, 0, 9], DecodeError::Limit),
        (&[1, 1, far + 1, 1, 9], DecodeError::Limit),
        (&[1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 9], DecodeError::Limit),
    ] {
        let before = alloc::format!("{a:?}");
        assert_eq!(a.handle_packet(body, 0), Err(error), "{body:?}");
        assert_eq!(alloc::format!("{a:?}"), before, "{body:?}");
    }
    a.handle_packet(&[1, 1, far, 1, 9], 0).unwrap();
    assert!(a.is_quiet());
    assert_eq!(packet(&mut a, 0).unwrap().len(), 2 + SelectiveAck::BYTES_MAX);
}

#[test]
fn old_acknowledgements_are_ignored() {
    let [mut a, _] = pair();
    for byte in 0..10_u8 {
        a.write(&[byte]);
        packet(&mut a, 0).unwrap();
    }
    a.handle_packet(&[0, 5], 10).unwrap();
    let before = alloc::format!("{a:?}");
    a.handle_packet(&[0, 3], 10).unwrap();
    a.handle_packet(&[2, 1, 0b111], 10).unwrap();
    assert_eq!(alloc::format!("{a:?}"), before);
    assert_eq!((a.delivered(), a.written()), (5, 10));
}

#[test]
fn a_hostile_peer_makes_nothing_grow() {
    let config = LinkOptions {
        packet_bytes: 300,
        window_out: 5_000,
        window_in: 4_000,
        unread_max: 4_000,
        peer_window: 8_000,
        controlled: true,
    };
    // The numbers beside the bytes, and one write on top.
    let most = 5_000 + 4_000 + 253 * (64 + 24) + 1_000;
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let mut link = Link::new(config, 0);
        let mut now = 0;
        let mut accepted = 0;
        for _ in 0..400 {
            if link.room() > 0 {
                link.write(&vec![1; rng.within(&(0..=1_000)) as usize]);
            }
            let body = match rng.next() % 4 {
                0 => {
                    let len = rng.next() as usize % 40;
                    rng.bytes(len)
                }
                // Flags and small numbers, which get further.
                1 => {
                    let len = rng.next() as usize % 12;
                    let mut body = rng.bytes(len);
                    body.iter_mut().for_each(|byte| *byte &= 0x3f);
                    body.insert(0, rng.next() as u8 & 3);
                    body
                }
                _ => {
                    let mut body = vec![1];
                    put_varint(&mut body, rng.next() % (link.send.delivered() / 300 + 2));
                    let ahead = if rng.percent(80) { rng.within(&(1..=260)) } else { rng.next() };
                    put_varint(&mut body, link.receive.next() + ahead);
                    body.resize(body.len() + rng.within(&(1..=1_500)) as usize, 7);
                    body
                }
            };
            accepted += u32::from(link.handle_packet(&body, now).is_ok());
            let mut out = vec![];
            while link.poll_into(now, &mut out) {
                assert!(out.len() <= 300);
                out.clear();
            }
            link.consume(link.unread().len());
            if rng.percent(10) {
                now += rng.within(&(0..=10_000));
                link.handle_timeout(now);
            }
            assert!(link.memory() <= most, "seed {seed}: {}", link.memory());
        }
        assert!(accepted > 50, "seed {seed}: {accepted}");
    }
}

#[test]
fn a_host_that_does_not_read_is_not_buried() {
    let config = LinkOptions { window_in: 4_000, unread_max: 4_000, ..CONFIG };
    let mut link = Link::new(config, 0);
    for number in 0..100 {
        let mut body = vec![1, 0];
        put_varint(&mut body, number);
        body.resize(1_000, 7);
        link.handle_packet(&body, 0).unwrap_or_default();
    }
    assert!(link.unread().len() <= 5_000);
    assert!(link.memory() <= 2 * 4_000 + 1_000 + 253 * 64);
}

/// Brings one write over in 40 ms there and back.
fn measure(a: &mut Link, b: &mut Link, now: u64) {
    a.write(b"measured");
    b.handle_packet(&packet(a, now).unwrap(), now + 10).unwrap();
    b.consume(8);
    a.handle_packet(&late_ack(b, now + 10), now + 40).unwrap();
    assert!(a.is_quiet());
    assert_eq!(a.rtt(), Some(40));
}

#[test]
fn a_lost_acknowledgement_does_not_make_the_round_trip_longer() {
    let [mut a, mut b] = pair();
    measure(&mut a, &mut b, 0);
    let mut now = 40;
    for _ in 0..50 {
        for _ in 0..2 {
            a.write(b"arrives");
            b.handle_packet(&packet(&mut a, now).unwrap(), now + 20).unwrap();
        }
        packet(&mut b, now + 20).unwrap(); // and it is lost
        let timeout = a.poll_timeout().unwrap();
        a.handle_timeout(timeout);
        b.handle_packet(&packet(&mut a, timeout).unwrap(), timeout + 20).unwrap();
        a.handle_packet(&packet(&mut b, timeout + 20).unwrap(), timeout + 40).unwrap();
        // The second chunk was sent once, but the answer is not to it.
        assert!(a.is_quiet());
        assert_eq!(a.rtt(), Some(40));
        now = timeout + 40;
    }
}

#[test]
fn the_first_wait_is_short_once_the_round_trip_is_known() {
    let [mut a, mut b] = pair();
    measure(&mut a, &mut b, 0);
    a.write(b"anyone");
    packet(&mut a, 40).unwrap();
    let mut now = 40;
    // 40 and four times 20, and 25 for the answer; then the shortest timeout, which doubles.
    for wait in [145, 200, 400, 800, 1_000, 1_000] {
        assert_eq!(a.poll_timeout(), Some(now + wait));
        now += wait;
        a.handle_timeout(now);
        assert!(packet(&mut a, now).is_some());
        assert_eq!(packet(&mut a, now), None);
    }
    // Any acknowledgement ends the doubling.
    a.handle_timeout(now + 1_000);
    b.handle_packet(&packet(&mut a, now + 1_000).unwrap(), now + 1_020).unwrap();
    a.handle_packet(&late_ack(&mut b, now + 1_020), now + 1_060).unwrap();
    assert!(a.is_quiet());
    a.write(b"anyone");
    packet(&mut a, now + 1_060).unwrap();
    assert_eq!(a.poll_timeout(), Some(now + 1_060 + 145));
}

#[test]
fn what_was_only_late_is_not_sent_twice() {
    let [mut a, mut b] = pair();
    measure(&mut a, &mut b, 0);
    a.write(&[7; 10 * 1_193]);
    let mut sent = vec![];
    while let Some(body) = packet(&mut a, 40) {
        sent.push(body);
    }
    // All of them are held up for longer than the short wait, and then come one by one.
    a.handle_timeout(185);
    assert_eq!(packet(&mut a, 185).as_ref(), sent.first());
    for bodies in sent.chunks(2) {
        for body in bodies {
            b.handle_packet(body, 190).unwrap();
        }
        a.handle_packet(&packet(&mut b, 190).unwrap(), 200).unwrap();
        assert_eq!(packet(&mut a, 200), None);
    }
    assert!(a.is_quiet());
}

#[test]
fn a_path_that_becomes_slower_is_learnt_from_single_chunks() {
    for (before, after) in [(0, 5_000), (40, 150), (40, 5_000), (25, 29_000)] {
        let [mut a, mut b] = pair();
        let mut now = 0;
        let mut sent = [0; 30];
        for (number, sent) in sent.iter_mut().enumerate() {
            // Before 0 there is none: the first round trip is a slow one.
            let rtt = if before > 0 && number < 10 { before } else { after };
            a.write(b"live");
            let arrival = now + rtt;
            while let Some(body) = packet(&mut a, now) {
                *sent += 1;
                b.handle_packet(&body, now).unwrap();
                now = a.poll_timeout().unwrap();
                if now < arrival {
                    a.handle_timeout(now);
                }
            }
            now = arrival;
            // Whatever came in this time is acknowledged by now.
            a.handle_packet(&packet(&mut b, now).unwrap(), now).unwrap();
            assert!(a.is_quiet());
        }
        assert_eq!(sent[25..], [1; 5], "from {before} to {after} ms: {sent:?}");
    }
}
