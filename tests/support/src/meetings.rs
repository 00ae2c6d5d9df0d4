//! A replica and a relay that meet: a session in memory, whose frames go from one to the other until both are quiet.

use consilience::sync::Relay;
use consilience::sync::session::{SessionEvent, SessionId, SessionOptions};

use crate::replicas::{Node, at};

/// The size of frames of which there are not enough.
const FRAME_BYTES: usize = 256;

/// What both were told in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// The replica was told that both hold the same.
    pub replica_in_sync: bool,
    /// The relay was told so.
    pub relay_in_sync: bool,
}

impl Met {
    /// Both were told so.
    pub const fn in_sync(self) -> bool {
        self.replica_in_sync && self.relay_in_sync
    }
}

/// The replica dials the relay `ms` after the start of all, and each frame arrives at once, until both are quiet or
/// `frames_max` frames were sent; then the connection is gone. Frames are small where so few of them are. The replica stores at once. `after_frame` sees the relay after
/// each frame of either side.
///
/// # Panics
///
/// If either refuses a frame of the other, or is told that the other misbehaves.
pub fn meet(
    node: &mut Node,
    relay: &mut Relay,
    ms: u64,
    frames_max: usize,
    mut after_frame: impl FnMut(&mut Relay),
) -> Met {
    let now = at(ms);
    node.store();
    let sized = |options: SessionOptions| {
        if frames_max < usize::MAX { options.with_frame_bytes(FRAME_BYTES) } else { options }
    };
    let calls = node.replica.connect(node.writer, sized(SessionOptions::dial()), now).unwrap();
    let called = relay.connect(sized(SessionOptions::listen()), now);
    if node.replica.poll_timeout().is_some_and(|due| due <= now) {
        node.replica.handle_timeout(now);
        node.store();
    }
    if relay.poll_timeout().is_some_and(|due| due <= now) {
        relay.handle_timeout(now);
        after_frame(relay);
    }
    let (mut frame, mut frames) = (Vec::new(), 0);
    while frames < frames_max {
        let before = frames;
        while frames < frames_max && node.replica.poll_transmit(calls, now, &mut frame) {
            node.store();
            relay.handle_input(called, &frame, now).unwrap();
            after_frame(relay);
            frame.clear();
            frames += 1;
        }
        while frames < frames_max && relay.poll_transmit(called, now, &mut frame) {
            after_frame(relay);
            node.replica.handle_input(calls, &frame, now).unwrap();
            node.store();
            frame.clear();
            frames += 1;
        }
        if frames == before {
            break;
        }
    }
    let mut met = Met::default();
    let replica_told = std::iter::from_fn(|| node.replica.poll_event());
    told(replica_told, calls, &mut met.replica_in_sync);
    told(std::iter::from_fn(|| relay.poll_event()), called, &mut met.relay_in_sync);
    node.replica.disconnect(calls);
    relay.disconnect(called);
    // Each says goodbye, and nobody listens any more.
    while node.replica.poll_transmit(calls, now, &mut frame) || relay.poll_transmit(called, now, &mut frame) {
    }
    node.store();
    after_frame(relay);
    while node.replica.poll_event().is_some() || relay.poll_event().is_some() {}
    met
}

fn told(events: impl Iterator<Item = (SessionId, SessionEvent)>, session: SessionId, in_sync: &mut bool) {
    for (_, event) in events.filter(|(there, _)| *there == session) {
        match event {
            SessionEvent::InSync => *in_sync = true,
            SessionEvent::OutOfSync => *in_sync = false,
            SessionEvent::Connected(_) => {}
            other => panic!("{other}"),
        }
    }
}
