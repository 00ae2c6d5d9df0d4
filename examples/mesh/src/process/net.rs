//! Connections: TCP streams and the sessions over them.
//!
//! Each stream has a task that reads and one that writes. Frames that came go through one channel to the loop that holds
//! the replica. A session is asked for its next frame only when the stream has room for it, so nothing piles up.
//!
//! Anybody may call. Connections that were accepted are limited in number, and more so as long as the caller has not shown
//! that it is a member: then a new one takes the place of the oldest, and none may wait for long. So a caller that
//! opens sockets and says nothing neither takes the files that the store needs nor keeps members out.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use consilience::crdts::Timestamp;
use consilience::sync::session::{FrameDecoder, SessionEvent, SessionId, SessionOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{sleep, timeout};

use crate::process::Node;
use crate::process::control::Status;

/// Frames that wait for a stream.
const FRAMES_MAX: usize = 4;
const DIAL_FIRST_MS: u64 = 20;
const DIAL_MAX_MS: u64 = 1_000;
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that were accepted, and how many of them may be without a session that is established. Together with those
/// that wait to be taken in they stay below the number of files that systems let a process open: 256 and more.
const ACCEPTED_MAX: usize = 128;
const STRANGERS_MAX: usize = 32;
/// How long an accepted connection may take to establish its session.
const HANDSHAKE_MS: u64 = 10_000;
/// How long nobody is accepted after the system could not: mostly, too many files are open.
const ACCEPT_WAIT: Duration = Duration::from_millis(500);
/// How long an orderly end waits for streams.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// The reports of the tasks of streams.
#[derive(Debug)]
pub(crate) enum Input {
    Accepted(TcpStream, String),
    /// The system cannot accept, as long as so many files are open.
    Exhausted,
    Dialled(String, io::Result<TcpStream>),
    /// One or more whole frames.
    Frames(SessionId, Vec<u8>),
    Closed(SessionId),
}

/// Something about a peer, by its address.
pub(crate) enum News {
    Session(String, SessionEvent),
    /// Told once, until it was reached.
    Unreachable(String, io::Error),
}

/// How often sessions compare their logs, and when a silent one ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) heartbeat_ms: u64,
    pub(crate) idle_ms: u64,
}

/// A peer that is kept connected.
struct Dialled {
    wait_ms: u64,
    reached: bool,
    dialling: Option<AbortHandle>,
    session: Option<SessionId>,
}

/// A connection.
struct Link {
    addr: String,
    dialled: bool,
    frames: mpsc::Sender<Vec<u8>>,
    reader: AbortHandle,
    writer: JoinHandle<()>,
    connected: bool,
    in_sync: bool,
    /// When it is to be established, if it was accepted and is not.
    due: Option<Timestamp>,
}

pub(crate) struct Net {
    timing: Timing,
    input: mpsc::Sender<Input>,
    room: Arc<Notify>,
    peers: BTreeMap<String, Dialled>,
    links: BTreeMap<SessionId, Link>,
    traffic: BTreeMap<String, Arc<Traffic>>,
    accepted: Arc<Traffic>,
    faults: u64,
    news: Vec<News>,
}

impl Net {
    /// Reports of streams go into `input`; `room` is notified when a stream can take more.
    pub(crate) fn new(timing: Timing, input: mpsc::Sender<Input>, room: Arc<Notify>) -> Self {
        Self {
            timing,
            input,
            room,
            peers: BTreeMap::new(),
            links: BTreeMap::new(),
            traffic: BTreeMap::new(),
            accepted: Arc::default(),
            faults: 0,
            news: Vec::new(),
        }
    }

    /// Takes calls from now on.
    pub(crate) fn listen(&self, listener: TcpListener) {
        let input = self.input.clone();
        tokio::spawn(async move {
            loop {
                let accepted = match listener.accept().await {
                    Ok((stream, addr)) => input.send(Input::Accepted(stream, addr.to_string())).await,
                    // A caller that has gone away is nothing to wait for.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(()),
                    Err(_) => {
                        let told = input.send(Input::Exhausted).await;
                        sleep(ACCEPT_WAIT).await;
                        told
                    }
                };
                if accepted.is_err() {
                    break;
                }
            }
        });
    }

    /// Keeps a connection to a peer from now on.
    pub(crate) fn join(&mut self, addr: &str) {
        if self.peers.contains_key(addr) {
            return;
        }
        let dialled = Dialled { wait_ms: 0, reached: true, dialling: None, session: None };
        self.peers.insert(addr.to_owned(), dialled);
        self.traffic.entry(addr.to_owned()).or_default();
        self.dial(addr);
    }

    /// Breaks the connection to a peer, as a network that fails does, and does not dial it any more.
    pub(crate) fn cut(&mut self, addr: &str, node: &mut impl Node) {
        let Some(peer) = self.peers.remove(addr) else { return };
        if let Some(dialling) = peer.dialling {
            dialling.abort();
        }
        if let Some(link) = peer.session.and_then(|session| self.links.remove(&session)) {
            link.reader.abort();
            link.writer.abort();
        }
        if let Some(session) = peer.session {
            node.disconnect(session);
        }
    }

    fn dial(&mut self, addr: &str) {
        let Some(peer) = self.peers.get_mut(addr) else { return };
        let (input, name, wait) = (self.input.clone(), addr.to_owned(), Duration::from_millis(peer.wait_ms));
        peer.wait_ms = (2 * peer.wait_ms).clamp(DIAL_FIRST_MS, DIAL_MAX_MS);
        let dialling = tokio::spawn(async move {
            sleep(wait).await;
            let stream = timeout(DIAL_TIMEOUT, TcpStream::connect(&name)).await;
            let stream = stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            // Nobody waits for it any more if the process ends.
            let _ = input.send(Input::Dialled(name, stream)).await;
        });
        peer.dialling = Some(dialling.abort_handle());
    }

    /// Takes in the report of a stream.
    pub(crate) fn take(&mut self, input: Input, node: &mut impl Node, now: Timestamp) -> Result<(), String> {
        match input {
            Input::Accepted(stream, addr) => {
                let accepted = self.links.values().filter(|link| !link.dialled).count();
                if accepted - self.strangers().count() >= ACCEPTED_MAX - STRANGERS_MAX {
                    // The caller calls again.
                    return Ok(());
                }
                self.drop_strangers(STRANGERS_MAX - 1, node);
                self.open(stream, addr, false, node, now).map(drop)
            }
            Input::Exhausted => {
                let half = self.strangers().count() / 2;
                self.drop_strangers(half, node);
                Ok(())
            }
            Input::Dialled(addr, stream) => {
                let Some(peer) = self.peers.get_mut(&addr) else { return Ok(()) };
                peer.dialling = None;
                match stream {
                    Ok(stream) => {
                        peer.reached = true;
                        let session = self.open(stream, addr.clone(), true, node, now)?;
                        if let Some(peer) = self.peers.get_mut(&addr) {
                            peer.session = Some(session);
                        }
                    }
                    Err(error) => {
                        if std::mem::take(&mut peer.reached) {
                            self.news.push(News::Unreachable(addr.clone(), error));
                        }
                        self.dial(&addr);
                    }
                }
                Ok(())
            }
            Input::Frames(session, frames) => {
                if let Err(error) = node.handle_input(session, &frames, now)
                    && self.links.contains_key(&session)
                {
                    // On a stream nothing gets mixed up by itself.
                    eprintln!("mesh: {error}");
                    self.faults += 1;
                    node.disconnect(session);
                }
                Ok(())
            }
            Input::Closed(session) => {
                node.disconnect(session);
                Ok(())
            }
        }
    }

    fn open(
        &mut self,
        stream: TcpStream,
        addr: String,
        dialled: bool,
        node: &mut impl Node,
        now: Timestamp,
    ) -> Result<SessionId, String> {
        let options = if dialled { SessionOptions::dial() } else { SessionOptions::listen() };
        let Timing { heartbeat_ms, idle_ms } = self.timing;
        let session = node.connect(options.with_heartbeat_ms(heartbeat_ms).with_idle_ms(idle_ms), now)?;
        // Only slower without.
        let _ = stream.set_nodelay(true);
        let (read, write) = stream.into_split();
        let traffic = self.traffic.get(&addr).filter(|_| dialled).unwrap_or(&self.accepted).clone();
        let (frames, waiting) = mpsc::channel(FRAMES_MAX);
        let reader = tokio::spawn(read_frames(read, session, self.input.clone(), traffic.clone()));
        let writer = tokio::spawn(write_frames(write, waiting, self.room.clone(), traffic));
        let reader = reader.abort_handle();
        let due = (!dialled).then(|| now.saturating_add_millis(HANDSHAKE_MS));
        let link = Link { addr, dialled, frames, reader, writer, connected: false, in_sync: false, due };
        self.links.insert(session, link);
        Ok(session)
    }

    /// Connections that were accepted and are not established, the oldest first.
    fn strangers(&self) -> impl Iterator<Item = SessionId> {
        // Sessions have rising numbers.
        self.links.iter().filter(|(_, link)| link.due.is_some()).map(|(session, _)| *session)
    }

    /// Closes the oldest of them but for so many.
    fn drop_strangers(&mut self, kept: usize, node: &mut impl Node) {
        let count = self.strangers().count();
        let dropped: Vec<SessionId> = self.strangers().take(count.saturating_sub(kept)).collect();
        dropped.into_iter().for_each(|session| self.give_up(session, node));
    }

    /// Closes a connection at once.
    fn give_up(&mut self, session: SessionId, node: &mut impl Node) {
        if let Some(link) = self.links.remove(&session) {
            link.reader.abort();
            link.writer.abort();
        }
        node.disconnect(session);
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do, if ever.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        self.links.values().filter_map(|link| link.due).min()
    }

    /// Closes connections that have taken too long to be established.
    pub(crate) fn handle_timeout(&mut self, node: &mut impl Node, now: Timestamp) {
        let late = self.links.iter().filter(|(_, link)| link.due.is_some_and(|due| due <= now));
        let late: Vec<SessionId> = late.map(|(session, _)| *session).collect();
        late.into_iter().for_each(|session| self.give_up(session, node));
    }

    /// Gives every stream that has room the frames that its session has to send.
    pub(crate) fn pump(&self, node: &mut impl Node, now: Timestamp) {
        for (session, link) in &self.links {
            while let Ok(room) = link.frames.try_reserve() {
                let mut frame = Vec::new();
                if !node.poll_transmit(*session, now, &mut frame) {
                    break;
                }
                room.send(frame);
            }
        }
    }

    /// Follows the events of the sessions. Connections whose sessions have ended are closed, and dialled again.
    pub(crate) fn news(&mut self, node: &mut impl Node) -> Vec<News> {
        while let Some((session, event)) = node.poll_event() {
            let Some(link) = self.links.get_mut(&session) else { continue };
            let addr = link.addr.clone();
            match &event {
                SessionEvent::Connected(_) => {
                    link.connected = true;
                    link.due = None;
                    if let Some(peer) = self.peers.get_mut(&addr) {
                        peer.wait_ms = 0;
                    }
                }
                SessionEvent::InSync => link.in_sync = true,
                SessionEvent::OutOfSync => link.in_sync = false,
                SessionEvent::Fault(_) => self.faults += 1,
                SessionEvent::Ended(_) => self.close(session),
                _ => {}
            }
            self.news.push(News::Session(addr, event));
        }
        std::mem::take(&mut self.news)
    }

    /// Gives up a connection: the frames that wait for it are still written.
    fn close(&mut self, session: SessionId) {
        let Some(link) = self.links.remove(&session) else { return };
        link.reader.abort();
        if let Some(peer) = self.peers.get_mut(&link.addr).filter(|_| link.dialled) {
            peer.session = None;
            peer.wait_ms = peer.wait_ms.max(DIAL_FIRST_MS);
            self.dial(&link.addr);
        }
    }

    /// Ends all sessions and tells the peers.
    pub(crate) async fn end(mut self, node: &mut impl Node, now: Timestamp) {
        for session in self.links.keys() {
            node.disconnect(*session);
        }
        self.pump(node, now);
        for link in std::mem::take(&mut self.links).into_values() {
            link.reader.abort();
            drop(link.frames);
            // A peer that does not listen finds out by itself.
            let _ = timeout(CLOSE_TIMEOUT, link.writer).await;
        }
    }

    /// Adds the figures of connections.
    pub(crate) fn report(&self, status: &mut Status) {
        status.faults = self.faults;
        status.sessions = self.links.values().filter(|link| link.connected).count() as u64;
        status.in_sync = self.links.values().filter(|link| link.in_sync).count() as u64;
        status.links = self.traffic.iter().map(|(addr, traffic)| (addr.clone(), traffic.bytes())).collect();
        let [written, read] = self.accepted.bytes();
        status.accepted = [read, written];
    }
}

/// Bytes written and read.
#[derive(Debug, Default)]
pub(crate) struct Traffic([AtomicU64; 2]);

impl Traffic {
    fn add(&self, place: usize, bytes: usize) {
        self.0[place].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self) -> [u64; 2] {
        [0, 1].map(|place: usize| self.0[place].load(Ordering::Relaxed))
    }
}

/// Hands on the frames that come, as many at once as came at once.
pub(crate) async fn read_frames(
    mut stream: OwnedReadHalf,
    session: SessionId,
    input: mpsc::Sender<Input>,
    traffic: Arc<Traffic>,
) {
    let (mut decoder, mut piece) = (FrameDecoder::new(), vec![0; 16 << 10]);
    while let Ok(bytes @ 1..) = stream.read(&mut piece).await {
        traffic.add(1, bytes);
        decoder.push(&piece[..bytes]);
        let mut frames = Vec::new();
        let more = loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.extend_from_slice(frame),
                Ok(None) => break true,
                Err(error) => {
                    eprintln!("mesh: a connection is closed: {error}");
                    break false;
                }
            }
        };
        if !frames.is_empty() && input.send(Input::Frames(session, frames)).await.is_err() {
            return;
        }
        if !more {
            break;
        }
    }
    // Nobody waits for it any more if the process ends.
    let _ = input.send(Input::Closed(session)).await;
}

/// Writes the frames that wait, and says when there is room for more.
pub(crate) async fn write_frames(
    mut stream: OwnedWriteHalf,
    mut frames: mpsc::Receiver<Vec<u8>>,
    room: Arc<Notify>,
    traffic: Arc<Traffic>,
) {
    while let Some(mut frame) = frames.recv().await {
        // Several small ones are one write.
        while let Ok(next) = frames.try_recv() {
            frame.extend(next);
        }
        room.notify_one();
        if stream.write_all(&frame).await.is_err() {
            // The reader notices as well.
            break;
        }
        traffic.add(0, frame.len());
    }
}
