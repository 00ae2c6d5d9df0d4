//! Two replicas over messages, one frame in each: all that is asked of a transport is a `Sink` of bytes and a `Stream` of
//! them, under any async runtime. WebSocket, MQTT and libp2p look like this. Two agents meet, and part once in sync.
#![expect(clippy::disallowed_methods, clippy::std_instead_of_core, reason = "a program, not a library")]

use std::{cell::RefCell, pin::pin, task::Poll, task::ready, time::Duration, time::SystemTime};

use consilience::sync::session::{SessionEvent, SessionOptions};
use consilience::sync::{Keypair, MeshSecret, Topic};
use consilience::{Config, Opened, Replica, crdts::Timestamp};
use futures::future::{FutureExt, select, try_join};
use futures::{Sink, SinkExt, Stream, StreamExt, channel::mpsc, executor::block_on, stream};
use futures_timer::Delay;

type Bytes = Vec<u8>;
type Error = Box<dyn std::error::Error>;

async fn agent(to: impl Sink<Bytes>, from: impl Stream<Item = Bytes>, dials: bool) -> Result<Replica, Error> {
    let now = || Timestamp::from(SystemTime::now());
    let (mut entropy, mut key) = ([0; 32], [0; 32]);
    getrandom::fill(&mut entropy).and_then(|()| getrandom::fill(&mut key))?;
    let mesh = MeshSecret::from_bytes([7; 32]); // random, and shared by the members
    let mut replica = Replica::open(Config::new(mesh, entropy), Opened::InMemory, now())?;
    let me = replica.add_writer(Keypair::from_seed(key))?;
    replica.append_event(me, "team", b"here I am", now())?;
    let options = if dials { SessionOptions::dial() } else { SessionOptions::listen() };
    let session = replica.connect(me, options, now())?;
    let (replica, mut timer) = (RefCell::new(replica), Delay::new(Duration::ZERO));
    let frames = stream::poll_fn(|cx| {
        let (mut replica, mut frame) = (replica.borrow_mut(), Vec::new());
        replica.set_waker(cx.waker().clone());
        while !replica.poll_transmit(session, now(), &mut frame) {
            match replica.poll_event() {
                Some((_, SessionEvent::InSync | SessionEvent::Ended(_))) => return Poll::Ready(None),
                Some(_) => {}
                None => {
                    let due = replica.poll_timeout().map_or(0, Timestamp::as_millis);
                    timer.reset(Duration::from_millis(due.saturating_sub(now().as_millis())));
                    ready!(timer.poll_unpin(cx));
                    replica.handle_timeout(now());
                }
            }
        }
        Poll::Ready(Some(Ok(frame)))
    });
    let receiving = from.take_until(Delay::new(Duration::from_secs(20))).for_each(async |frame| {
        let _ = replica.borrow_mut().handle_input(session, &frame, now()); // an error changes nothing
    });
    select(pin!(frames.forward(to.sink_map_err(drop))), pin!(receiving)).await;
    Ok(replica.into_inner())
}

fn main() -> Result<(), Error> {
    let ((to_bob, from_ada), (to_ada, from_bob)) = (mpsc::channel(1), mpsc::channel(1));
    let meeting = try_join(agent(to_bob, from_bob, true), agent(to_ada, from_ada, false));
    let ((ada, bob), topic) = (block_on(meeting)?, Topic::new("team")?);
    assert_eq!((ada.stats(None).events, ada.digest(&topic)), (2, bob.digest(&topic)));
    println!("messages: in sync, and both digests are {:02x?}", &ada.digest(&topic)[..4]);
    Ok(())
}
