//! Two channels over a path that loses, doubles and swaps frames, and a second protocol on them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;

use super::*;
use crate::identity::{AgentId, Keypair, MeshSecret, Signer};

/// The toy: kind 1 carries a number and some bytes that follow from it.
const TOY: Protocol = Protocol::new(5);
/// As the exchange is numbered.
const FIRST: Protocol = Protocol::new(0);

fn dice(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
}

fn payload(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(len.max(8), number.to_le_bytes()[0]);
    bytes
}

fn number_of(body: &[u8]) -> u64 {
    let number = u64::from_le_bytes(*body.first_chunk().unwrap());
    assert_eq!(body, payload(number, body.len()));
    number
}

fn pair(frame_bytes: usize) -> [Channel; 2] {
    let membership = Membership::new(&MeshSecret::from_bytes([7; 32]));
    let keypair = Keypair::from_seed([1; 32]);
    let terms = Terms { bound: false, everything: true, frame_bytes, window: 48 << 10, seconds: 0 };
    let agent = keypair.agent();
    let hello = membership.hello(terms, handshake::Saying::default(), &agent, Secret::new([3; 32]));
    let called = membership.read_hello(&hello.body, Secret::new([4; 32]), &[], |_| None).unwrap();
    let sign = |message: &[u8]| keypair.sign(message);
    let (_, secrets) = Membership::answer(called, terms, &[], &agent, sign).unwrap();
    [true, false].map(|dials| {
        let keys = secrets.keys(&agent, &agent);
        let agreed = Agreed {
            dials,
            peer: Peer { agent: keypair.agent(), bound: false, time: None },
            keys,
            frame_bytes,
            window: 48 << 10,
            peer_window: 48 << 10,
            datagrams: true,
            idle_ms: 90_000,
        };
        Channel::new(agreed, 0)
    })
}

/// The body of the only frame in some bytes.
fn body(frame: &[u8]) -> &[u8] {
    let mut reader = Reader::new(frame);
    let (kind, body) = read_frame(&mut reader).unwrap();
    assert!(kind == Some(Kind::Data) && reader.is_empty());
    body
}

#[derive(Default)]
struct Heard {
    /// Of each protocol, in the order in which they came on the stream.
    stream: BTreeMap<u8, Vec<u64>>,
    single: Vec<u64>,
}

impl Heard {
    fn take(&mut self, channel: &mut Channel, frame: &[u8], ms: u64) {
        if let Some(message) = channel.handle_packet(body(frame), &mut Vec::new(), ms).unwrap() {
            assert_eq!((message.protocol, message.kind), (TOY, 2));
            self.single.push(number_of(message.body));
        }
        while let Some(message) = channel.next_message().unwrap() {
            assert_eq!(message.kind, 1);
            self.stream.entry(message.protocol.0).or_default().push(number_of(message.body));
        }
    }
}

#[test]
fn two_protocols_share_a_path_that_loses_frames_and_only_single_messages_get_lost() {
    for seed in 1..=60_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let frame_bytes = 256 + (dice(&mut state) % 1_200) as usize;
        let loss = dice(&mut state) % 40;
        let mut ends = pair(frame_bytes);
        let (mut written, mut singles) = ([[0_u64; 2]; 2], [0_u64; 2]);
        let mut heard = [Heard::default(), Heard::default()];
        let mut way: Vec<(u64, usize, Vec<u8>)> = Vec::new();
        let mut lost_single = BTreeSet::new();
        let mut ms = 0;
        loop {
            for at in [0, 1] {
                // Both protocols write when there is room, of which the stream of one message may take all.
                while ends[at].has_room() && written[at][0] + written[at][1] < 150 {
                    let toy = dice(&mut state) % 2;
                    let len = [9, 120, 128, 3_000, 20_000][(dice(&mut state) % 5) as usize];
                    let number = written[at][toy as usize];
                    let before = ends[at].written();
                    let protocol = if toy == 1 { TOY } else { FIRST };
                    assert!(ends[at].write(protocol, |out| {
                        out.push(1);
                        out.extend(payload(number, len));
                    }));
                    let head = 2 + u64::from(len + 1 >= 128) + u64::from(len + 1 >= 16_384);
                    assert_eq!(ends[at].written() - before, len as u64 + head);
                    written[at][toy as usize] += 1;
                }
                let mut frames = Vec::new();
                if dice(&mut state).is_multiple_of(3) && singles[at] < 100 {
                    let mut message = vec![2];
                    message.extend(payload(singles[at], 40));
                    let mut frame = Vec::new();
                    assert!(ends[at].put_single(TOY, &message, &mut frame));
                    frames.push((Some(singles[at]), frame));
                    singles[at] += 1;
                }
                loop {
                    let mut frame = Vec::new();
                    if !ends[at].poll_frame(ms, &mut frame) {
                        break;
                    }
                    assert!(frame.len() <= frame_bytes, "seed {seed}: {}", frame.len());
                    frames.push((None, frame));
                }
                for (single, frame) in frames {
                    if dice(&mut state) % 100 < loss {
                        lost_single.extend(single.map(|number| (at, number)));
                        continue;
                    }
                    for _ in 0..=u64::from(dice(&mut state).is_multiple_of(10)) {
                        way.push((ms + 1 + dice(&mut state) % 40, 1 - at, frame.clone()));
                    }
                }
            }
            let all = written.iter().all(|written| written[0] + written[1] == 150);
            if all && singles == [100, 100] && way.is_empty() && ends.iter().all(Channel::is_quiet) {
                break;
            }
            ms += 1;
            assert!(ms < 600_000, "seed {seed}");
            let (due, later) = way.into_iter().partition(|(when, ..)| *when <= ms);
            way = later;
            for (_, to, frame) in due {
                heard[to].take(&mut ends[to], &frame, ms);
            }
            for end in &mut ends {
                assert!(end.handle_timeout(ms));
            }
        }
        for (at, heard) in heard.iter().enumerate() {
            let [first, toy] = written[1 - at];
            assert_eq!(heard.stream[&0], (0..first).collect::<Vec<_>>(), "seed {seed}");
            assert_eq!(heard.stream[&5], (0..toy).collect::<Vec<_>>(), "seed {seed}");
            let came: BTreeSet<u64> = heard.single.iter().copied().collect();
            assert_eq!(came.len(), heard.single.len(), "seed {seed}: one came twice");
            let lost = |number: &u64| lost_single.contains(&(1 - at, *number));
            assert_eq!(came, (0..100).filter(|number| !lost(number)).collect(), "seed {seed}");
        }
    }
}

#[test]
fn a_message_of_a_protocol_has_the_bytes_that_it_would_have_alone() {
    let [mut here, mut there] = pair(1_200);
    assert!(!here.write(FIRST, |_| ()), "nothing to say is no message");
    assert_eq!(here.written(), 0);
    assert!(here.write(FIRST, |out| out.extend(b"\x0dabc")));
    let mut frame = Vec::new();
    assert!(here.poll_frame(0, &mut frame));
    let mut packet = Vec::new();
    assert_eq!(there.handle_packet(body(&frame), &mut packet, 0), Ok(None));
    // Flags, acknowledgement and number; then length, kind and the rest.
    assert_eq!(packet, b"\x01\x00\x00\x04\x0dabc");
    // Head, and the frame's number; and a tag.
    assert_eq!((&frame[..4], frame.len()), (&b"\x15\x1a\x00\x00"[..], 4 + packet.len() + 16));
    let message = Message { protocol: FIRST, kind: 13, body: b"abc" };
    assert_eq!(there.next_message(), Ok(Some(message)));
    assert_eq!(there.next_message(), Ok(None));
    assert_eq!(there.memory(), 0);
}

#[test]
fn what_is_no_message_is_told_from_a_stream_that_is_lost() {
    let [mut here, mut there] = pair(1_200);
    let mut carry = |stream: &[u8], there: &mut Channel| {
        here.link.queue().extend_from_slice(stream);
        let mut frame = Vec::new();
        assert!(here.poll_frame(0, &mut frame));
        there.handle_packet(body(&frame), &mut Vec::new(), 0).unwrap();
    };
    carry(&[0, 2, 0xa1, 9, 1], &mut there);
    assert_eq!(there.next_message(), Err(MessageError::Malformed(DecodeError::Truncated)));
    let message = Message { protocol: TOY, kind: 1, body: &[9] };
    assert_eq!(there.next_message(), Ok(Some(message)));
    assert_eq!(there.next_message(), Ok(None));
    carry(&[0x20], &mut there);
    assert_eq!(there.next_message(), Ok(Some(Message { protocol: Protocol::new(1), kind: 0, body: &[] })));
    carry(&[0x81, 0x80, 0x80, 1], &mut there);
    assert_eq!(there.next_message(), Err(MessageError::Lost(DecodeError::Limit)));
}

#[test]
fn a_frame_is_the_peers_or_changes_nothing() {
    let [mut here, mut there] = pair(300);
    let (mut single, mut close, mut stream) = (Vec::new(), Vec::new(), Vec::new());
    assert!(here.put_single(TOY, &[2, 1, 2], &mut single));
    assert!(!here.put_single(TOY, &[2; 300], &mut Vec::new()) && !here.put_single(TOY, &[], &mut Vec::new()));
    here.put_close(&mut close);
    assert!(here.write(TOY, |out| out.extend([1, 2, 3])) && here.poll_frame(0, &mut stream));
    let mut buffer = Vec::new();
    for frame in [&single, &stream] {
        let good = body(frame);
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            assert_eq!(there.handle_packet(&bad, &mut buffer, 5), Err(PacketError::NotAuthentic));
            assert_eq!(there.handle_packet(&good[..at], &mut buffer, 5), Err(PacketError::NotAuthentic));
        }
        // One's own come back.
        assert_eq!(here.handle_packet(good, &mut buffer, 5), Err(PacketError::NotAuthentic));
        assert!(!there.is_close(good));
    }
    assert_eq!(there.heard, 0);
    let close = &close[2..];
    assert!(!here.is_close(close));
    assert_eq!(there.handle_packet(close, &mut buffer, 5), Err(PacketError::NotAuthentic));
    assert!(there.is_close(close));
    let message = Message { protocol: TOY, kind: 2, body: &[1, 2] };
    assert_eq!(there.handle_packet(body(&single), &mut buffer, 5), Ok(Some(message)));
    assert_eq!(there.handle_packet(body(&single), &mut buffer, 6), Ok(None), "it is passed on once");
    assert_eq!(there.heard, 5, "and says nothing of the peer when it comes again");
    assert_eq!(there.handle_packet(body(&stream), &mut buffer, 7), Ok(None));
    assert_eq!(there.peer().agent, AgentId::from_bytes(*here.peer().agent.as_bytes()));
    assert!(there.handle_timeout(7 + 89_999) && !there.handle_timeout(7 + 90_000));
}
