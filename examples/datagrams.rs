//! Two replicas over UDP, in a plain loop with callbacks. Three datagrams in ten are lost, on purpose.
#![expect(clippy::disallowed_methods, clippy::std_instead_of_core, reason = "a program, not a library")]

use std::{error::Error, io, net::UdpSocket, time::Duration, time::SystemTime};

use consilience::sync::session::{SessionId, SessionOptions};
use consilience::sync::{Keypair, MeshSecret, Topic};
use consilience::{
    Config, Host, Notification, Opened, Replica, Sent, crdts::Timestamp, drive, journal::Record,
};

struct Lossy(UdpSocket, u32); // a socket, and the dice that say what it loses

impl Host for Lossy {
    type Error = io::Error;

    fn send(&mut self, _: SessionId, frame: &[u8]) -> io::Result<Sent> {
        self.1 ^= self.1 << 13; // xorshift (Marsaglia 2003)
        self.1 ^= self.1 >> 17;
        self.1 ^= self.1 << 5;
        let lost = self.1 % 10 < 3;
        if lost { Ok(Sent::Yes) } else { self.0.send(frame).map(|_| Sent::Yes) }
    }

    fn persist(&mut self, _: &Record) -> io::Result<()> {
        unreachable!("it was opened without storage, and has no records")
    }

    fn notify(&mut self, _: Notification) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let now = || Timestamp::from(SystemTime::now());
    let (mesh, topic) = (MeshSecret::from_bytes([7; 32]), Topic::new("team")?); // random, and shared
    let (near, far) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    near.connect(far.local_addr()?)?;
    far.connect(near.local_addr()?)?;
    let (mut agents, mut datagram, deadline) = (Vec::new(), [0; 1_500], now().saturating_add_millis(100_000));
    for (socket, options) in [(near, SessionOptions::dial()), (far, SessionOptions::listen())] {
        socket.set_read_timeout(Some(Duration::from_millis(1)))?; // then it is the other's turn
        let (mut entropy, mut key) = ([0; 32], [0; 32]);
        getrandom::fill(&mut entropy).and_then(|()| getrandom::fill(&mut key))?;
        let mut replica = Replica::open(Config::new(mesh, entropy), Opened::InMemory, now())?;
        let me = replica.add_writer(Keypair::from_seed(key))?;
        replica.append_event(me, "team", &[7; 20_000], now())?; // some twenty datagrams
        agents.push((replica, me, options.over_datagrams().with_idle_ms(15_000), Lossy(socket, 7)));
    }
    while agents[0].0.digest(&topic) != agents[1].0.digest(&topic) {
        for (replica, me, options, host) in &mut agents {
            let open = replica.sessions().first().copied(); // none at first, and when too much was lost
            let session = open.map_or_else(|| replica.connect(*me, options.clone(), now()), Ok)?;
            drive(replica, host, now())?;
            while let Ok(len) = host.0.recv(&mut datagram) {
                let _ = replica.handle_input(session, &datagram[..len], now()); // an error changes nothing
            }
        }
        assert!(now() < deadline, "they did not come to the same in time");
    }
    println!("datagrams: in spite of losses, both digests are {:02x?}", &agents[0].0.digest(&topic)[..4]);
    Ok(())
}
