//! The two halves of a TCP stream: frames out of it and into it, and how many bytes they were.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use consilience::sync::session::{FrameDecoder, SessionId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};

use crate::process::net::Input;

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

/// Writes what waits, and says when there is room for more.
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
