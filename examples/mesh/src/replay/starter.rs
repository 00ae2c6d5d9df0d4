//! One child process: started, spoken to by lines, signalled, killed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::process::control::{Command, Reply};

/// Something that a process said, or that it said its last.
pub(crate) struct Said {
    pub(crate) process: usize,
    /// Which of its lives it was said in.
    pub(crate) life: u32,
    pub(crate) what: What,
}

pub(crate) enum What {
    Reply(Reply),
    /// A line that is no reply.
    Nonsense(String),
    Ended,
}

/// What a process is started with.
pub(crate) struct Start<'a> {
    pub(crate) process: usize,
    pub(crate) life: u32,
    /// `--agent` or `--relay`.
    pub(crate) mode: &'a str,
    pub(crate) dir: &'a Path,
    pub(crate) listen: &'a str,
    pub(crate) seed: u64,
    pub(crate) half_life_days: u64,
    pub(crate) restored: bool,
    /// Where its complaints go.
    pub(crate) log: &'a Path,
}

/// A running process. It is killed if it is still there when this is dropped.
pub(crate) struct Running {
    child: Child,
    commands: Sender<Command>,
}

#[derive(Clone, Copy)]
pub(crate) enum Signal {
    Stop,
    Continue,
}

impl Running {
    /// Starts this very program as a process of the mesh.
    pub(crate) fn start(start: &Start<'_>, said: Sender<Said>) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = std::process::Command::new(program);
        command.arg(start.mode).arg(start.dir).args(["--listen", start.listen, "--control"]);
        command.args(["--seed", &start.seed.to_string()]);
        command.args(["--half-life-days", &start.half_life_days.to_string()]);
        if start.restored {
            command.arg("--restored");
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(start.log);
        let log = log.map_err(|error| format!("{}: {error}", start.log.display()))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        own_group(&mut command);
        let mut child = command.spawn().map_err(|error| format!("a process cannot be started: {error}"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a process without pipes".into());
        };
        let (commands, waiting) = channel();
        let (process, life) = (start.process, start.life);
        spawn(move || write(input, &waiting));
        spawn(move || read(output, |what| said.send(Said { process, life, what }).is_ok()));
        Ok(Self { child, commands })
    }

    /// Hands a command over. Whether it arrives is seen by the answer only.
    pub(crate) fn tell(&self, command: Command) {
        // The writing thread ends when the process does, and that is reported by the reading one.
        let _ = self.commands.send(command);
    }

    /// Stops the process where it is, or lets it go on. The standard library sends no signals but SIGKILL.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), String> {
        let name = match signal {
            Signal::Stop => "-STOP",
            Signal::Continue => "-CONT",
        };
        let mut command = std::process::Command::new("kill");
        command.args([name, &self.child.id().to_string()]);
        own_group(&mut command);
        let status = command.status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("kill {name}: {status}")),
            Err(error) => Err(format!("kill {name}: {error}")),
        }
    }

    /// SIGKILL, and waits until it is gone, so that its port and its store are free.
    pub(crate) fn kill(&mut self) -> Result<(), String> {
        self.child.kill().and_then(|()| self.child.wait()).map(drop).map_err(|error| error.to_string())
    }

    /// Whether it has ended, and well.
    pub(crate) fn ended(&mut self) -> Result<Option<bool>, String> {
        let status = self.child.try_wait().map_err(|error| error.to_string())?;
        Ok(status.map(|status| status.success()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = self.kill();
    }
}

/// Puts a process into a group of its own. Ctrl-C is then for the starter alone, which knows what to do about it. And if
/// the starter is killed, most systems wake and end a process that was stopped: nobody else could do so.
pub(crate) fn own_group(command: &mut std::process::Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    #[cfg(not(unix))]
    let _ = command;
}

/// A thread each for writing and reading: pipes fill while a process is stopped.
fn spawn(work: impl FnOnce() + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "a program may start threads")]
    std::thread::spawn(work);
}

fn write(mut input: ChildStdin, commands: &Receiver<Command>) {
    for command in commands {
        let Ok(mut line) = serde_json::to_vec(&command) else { return };
        line.push(b'\n');
        // It was killed, then.
        if input.write_all(&line).and_then(|()| input.flush()).is_err() {
            return;
        }
    }
}

fn read(output: ChildStdout, mut tell: impl FnMut(What) -> bool) {
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { break };
        let what = serde_json::from_str(&line).map_or_else(|_| What::Nonsense(line), What::Reply);
        if !tell(what) {
            return;
        }
    }
    tell(What::Ended);
}
