//! Two replicas over TCP with tokio: one asks, the other answers. Each connection has a task, which owns a replica here.
#![expect(clippy::disallowed_methods, clippy::std_instead_of_core, reason = "a program, not a library")]

use std::time::{Duration, SystemTime};

use consilience::sync::session::{FrameDecoder, SessionOptions};
use consilience::sync::{Keypair, MeshSecret, Topic};
use consilience::{Config, Opened, Replica, crdts::Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::{net::TcpListener, net::TcpStream, spawn, time::timeout, try_join};

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn agent(mut stream: TcpStream, mesh: MeshSecret, asks: bool) -> Result<Replica, Failure> {
    let now = || Timestamp::from(SystemTime::now());
    let (mut entropy, mut key) = ([0; 32], [0; 32]);
    getrandom::fill(&mut entropy).and_then(|()| getrandom::fill(&mut key))?;
    let mut replica = Replica::open(Config::new(mesh, entropy), Opened::InMemory, now())?;
    let me = replica.add_writer(Keypair::from_seed(key))?;
    let options = if asks { SessionOptions::dial() } else { SessionOptions::listen() };
    let session = replica.connect(me, options, now())?;
    let (mut decoder, mut piece) = (FrameDecoder::new(), [0; 4_096]);
    loop {
        match (asks, replica.stats(None).events) {
            (true, 0) | (false, 1) => drop(replica.append_event(me, "team", b"your turn", now())?),
            (true, 2) => replica.disconnect(session), // its last frame says so
            _ => {}
        }
        let mut out = Vec::new();
        while replica.poll_transmit(session, now(), &mut out) {}
        if stream.write_all(&out).await.is_err() || !replica.sessions().contains(&session) {
            return Ok(replica);
        }
        let wait =
            replica.poll_timeout().map_or(60_000, |due| due.as_millis().saturating_sub(now().as_millis()));
        match timeout(Duration::from_millis(wait), stream.read(&mut piece)).await {
            Ok(Ok(len @ 1..)) => decoder.push(&piece[..len]),
            Ok(_) => return Ok(replica), // the connection is gone
            Err(_) => replica.handle_timeout(now()),
        }
        while let Some(frame) = decoder.next_frame()? {
            replica.handle_input(session, frame, now())?;
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mesh = MeshSecret::from_bytes([7; 32]); // random, and shared by the members
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let asks = spawn(agent(TcpStream::connect(listener.local_addr()?).await?, mesh, true));
    let answers = spawn(agent(listener.accept().await?.0, mesh, false));
    let (asked, answered) = timeout(Duration::from_secs(20), async { try_join!(asks, answers) }).await??;
    let (asked, answered, topic) = (asked?, answered?, Topic::new("team")?);
    assert_eq!((answered.stats(None).events, answered.digest(&topic)), (2, asked.digest(&topic)));
    println!("tcp: asked and answered, and both digests are {:02x?}", &asked.digest(&topic)[..4]);
    Ok(())
}
