//! Being told to end: the processes that were started and the directory of a run are not to be left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A signal is noted here, and looked for between two steps of the work: then everything is cleared up as after a failure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    /// Takes note of SIGINT and SIGTERM from now on.
    pub(crate) fn watch() -> Result<Self, String> {
        let interrupt = Self::default();
        let noted = interrupt.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        // Before the thread starts, so that none gets past it.
        let mut signals = runtime.block_on(async { Signals::new() }).map_err(|error| error.to_string())?;
        #[expect(clippy::disallowed_methods, reason = "a program may start threads")]
        std::thread::spawn(move || {
            runtime.block_on(async {
                noted.0.store(signals.next().await, Ordering::Relaxed);
                // A person who asks twice does not want to wait: the processes end when they find that they are alone.
                std::process::exit(signals.next().await.into());
            });
        });
        Ok(interrupt)
    }

    /// The code to exit with, after a signal.
    pub(crate) fn code(&self) -> Option<u8> {
        Some(self.0.load(Ordering::Relaxed)).filter(|code| *code > 0)
    }

    /// An error after a signal.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.code().map_or(Ok(()), |_| Err("interrupted".into()))
    }
}

/// As shells have it.
const SIGINT_CODE: u8 = 128 + 2;

#[cfg(unix)]
struct Signals {
    int: tokio::signal::unix::Signal,
    term: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { int: signal(SignalKind::interrupt())?, term: signal(SignalKind::terminate())? })
    }

    /// The code to exit with after the next one.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.int.recv() => SIGINT_CODE,
            _ = self.term.recv() => 128 + 15,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> u8 {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        SIGINT_CODE
    }
}
