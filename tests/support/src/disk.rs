//! A disk in memory that knows what is durable.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use consilience::store::Disk;

use crate::dice::Dice;

/// What power loss leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    All,
    /// All of it: only the program ended.
    None,
    /// Any part, in any order.
    Some(u64),
    /// All, but of the last write only so many bytes.
    Torn(usize),
    /// All files, and some of the writes in them with other bytes than were written.
    Rotten(u64),
}

#[derive(Clone, Debug)]
enum Write {
    Truncate,
    Append(usize, Vec<u8>),
}

#[derive(Clone, Debug, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Write>,
}

/// The content of the disk: live, durable, and on its way from one to the other.
#[derive(Clone, Debug, Default)]
pub struct State {
    contents: Vec<Content>,
    live: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    /// Names since the folder was synced.
    pending: Vec<(String, Option<usize>)>,
    locked: bool,
    /// The number of effects so far.
    pub effects: usize,
    /// The effect that fails, and whether it has its effect all the same.
    pub fail: Option<(usize, bool)>,
    /// How many bytes there is room for, if the disk is small. A write that does not fit is done as far as it does.
    pub room: Option<usize>,
    last_write: Option<usize>,
}

/// One handle of a disk that others share.
#[derive(Clone, Debug, Default)]
pub struct Simulated {
    state: Arc<Mutex<State>>,
    holds: bool,
}

impl Drop for Simulated {
    fn drop(&mut self) {
        if self.holds {
            self.state().locked = false;
        }
    }
}

impl Simulated {
    /// The state that all handles share.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Another handle of the same disk, which holds no lock.
    pub fn handle(&self) -> Self {
        Self { state: self.state.clone(), holds: false }
    }

    /// The power fails, and comes back.
    pub fn lose_power(&self, loss: Loss) {
        self.state().lose_power(loss);
    }

    /// Counts an effect. True if it fails after it was done.
    fn effect(&self) -> io::Result<bool> {
        let mut state = self.state();
        let number = state.effects;
        state.effects += 1;
        match state.fail {
            Some((at, false)) if at == number => Err(io::Error::other("failed")),
            Some((at, true)) => Ok(at == number),
            _ => Ok(false),
        }
    }
}

/// A part of what was written reads as zeros, as other bytes, or with one bit changed.
fn rot(bytes: &mut [u8], dice: &mut Dice) {
    if bytes.is_empty() {
        return;
    }
    let from = dice.index(bytes.len());
    let to = from + 1 + dice.index(bytes.len() - from);
    match dice.roll(3) {
        0 => bytes[from..to].fill(0),
        1 => bytes[from..to].iter_mut().for_each(|byte| *byte = dice.roll(256) as u8),
        _ => bytes[from] ^= 1 << dice.roll(8),
    }
}

fn after(failed: bool) -> io::Result<()> {
    if failed { Err(io::Error::other("failed after the effect")) } else { Ok(()) }
}

fn apply(bytes: &mut Vec<u8>, write: &Write) {
    match write {
        Write::Truncate => bytes.clear(),
        Write::Append(at, new) => {
            bytes.resize(bytes.len().max(at + new.len()), 0);
            bytes[*at..at + new.len()].copy_from_slice(new);
        }
    }
}

impl State {
    fn lose_power(&mut self, loss: Loss) {
        self.locked = false;
        self.fail = None;
        let mut dice = Dice::new(match loss {
            Loss::Some(seed) | Loss::Rotten(seed) => seed,
            _ => 1,
        });
        let last = self.last_write.take();
        for (number, content) in self.contents.iter_mut().enumerate() {
            let mut pending = std::mem::take(&mut content.pending);
            match loss {
                Loss::All => pending.clear(),
                Loss::None => {}
                Loss::Some(_) => {
                    // A truncation comes before what is written over it.
                    let truncated = dice.one_in(2);
                    let from = pending.iter().rposition(|write| matches!(write, Write::Truncate));
                    if let (Some(from), false) = (from, truncated) {
                        pending.truncate(from);
                    }
                    pending.retain(|write| matches!(write, Write::Truncate) || dice.one_in(2));
                    for write in &mut pending {
                        if let Write::Append(_, bytes) = write
                            && dice.one_in(3)
                        {
                            bytes.truncate(dice.index(bytes.len() + 1));
                        }
                    }
                }
                Loss::Rotten(_) => {
                    for write in &mut pending {
                        if let Write::Append(_, bytes) = write
                            && dice.one_in(2)
                        {
                            rot(bytes, &mut dice);
                        }
                    }
                }
                Loss::Torn(keep) => {
                    if let (true, Some(Write::Append(_, bytes))) = (last == Some(number), pending.last_mut())
                    {
                        bytes.truncate(keep);
                    }
                }
            }
            pending.iter().for_each(|write| apply(&mut content.durable, write));
            content.live = content.durable.clone();
        }
        let mut names = std::mem::take(&mut self.pending);
        match loss {
            Loss::All => names.clear(),
            Loss::Some(_) => names.retain(|_| dice.one_in(2)),
            Loss::None | Loss::Torn(_) | Loss::Rotten(_) => {}
        }
        for (name, content) in names {
            match content {
                Some(content) => drop(self.durable.insert(name, content)),
                None => drop(self.durable.remove(&name)),
            }
        }
        self.live = self.durable.clone();
    }

    fn content(&mut self, name: &str) -> io::Result<(usize, &mut Content)> {
        let number = *self.live.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok((number, &mut self.contents[number]))
    }

    /// What a test damages.
    pub fn damage(&mut self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let (_, content) = self.content(name).unwrap();
        change(&mut content.durable);
        content.live = content.durable.clone();
    }

    /// A file is gone.
    pub fn lose(&mut self, name: &str) {
        self.live.remove(name).unwrap();
        self.durable.remove(name).unwrap();
    }

    /// All files are gone for good.
    pub fn lose_all(&mut self) {
        *self = Self { effects: self.effects, fail: self.fail, room: self.room, ..Self::default() };
    }

    /// How many bytes of a write there is room for; they are taken.
    fn take_room(&mut self, bytes: usize) -> usize {
        let Some(room) = &mut self.room else { return bytes };
        let fits = bytes.min(*room);
        *room -= fits;
        fits
    }

    /// What is on the disk once all that was written is durable: the names of all files, and their bytes.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.live.iter().map(|(name, number)| (name.as_str(), &self.contents[*number].live[..]))
    }

    /// Whether anything is not durable yet.
    pub fn is_unsynced(&self) -> bool {
        let reached = self.live.values().chain(self.durable.values());
        !self.pending.is_empty()
            || reached.into_iter().any(|number| !self.contents[*number].pending.is_empty())
    }

    /// Lets go of the bytes of files that are gone for good.
    pub fn forget(&mut self) {
        let named = self.pending.iter().filter_map(|(_, number)| *number);
        let kept: std::collections::BTreeSet<usize> =
            self.live.values().chain(self.durable.values()).copied().chain(named).collect();
        for (number, content) in self.contents.iter_mut().enumerate() {
            if !kept.contains(&number) {
                *content = Content::default();
            }
        }
    }

    /// How many bytes the last write has that is not durable yet.
    pub fn last_write_len(&self) -> usize {
        let pending = self.last_write.and_then(|number| self.contents[number].pending.last());
        if let Some(Write::Append(_, bytes)) = pending { bytes.len() } else { 0 }
    }

    /// The names of all files, in order.
    pub fn names(&self) -> Vec<String> {
        self.live.keys().cloned().collect()
    }
}

impl Disk for Simulated {
    fn lock(&mut self) -> io::Result<bool> {
        let free = !std::mem::replace(&mut self.state().locked, true);
        self.holds |= free;
        Ok(free)
    }

    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(self.state().names())
    }

    fn read(&mut self, name: &str) -> io::Result<Vec<u8>> {
        Ok(self.state().content(name)?.1.live.clone())
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        let failed = self.effect()?;
        let mut state = self.state();
        if let Ok((_, content)) = state.content(name) {
            let freed = content.live.len();
            content.live.clear();
            content.pending.push(Write::Truncate);
            state.room = state.room.map(|room| room + freed);
        } else {
            let number = state.contents.len();
            state.contents.push(Content::default());
            state.live.insert(name.to_owned(), number);
            state.pending.push((name.to_owned(), Some(number)));
        }
        after(failed)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let failed = self.effect()?;
        let mut state = self.state();
        let (fits, rest) = bytes.split_at(state.take_room(bytes.len()));
        let (number, content) = state.content(name)?;
        content.pending.push(Write::Append(content.live.len(), fits.to_vec()));
        content.live.extend_from_slice(fits);
        state.last_write = Some(number);
        if rest.is_empty() { after(failed) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let failed = self.effect()?;
        let mut state = self.state();
        let (number, content) = state.content(name)?;
        assert!(bytes.len() <= content.live.len(), "a write over bytes that are there");
        let write = Write::Append(0, bytes.to_vec());
        apply(&mut content.live, &write);
        content.pending.push(write);
        state.last_write = Some(number);
        after(failed)
    }

    fn sync_file(&mut self, name: &str) -> io::Result<()> {
        let failed = self.effect()?;
        let mut state = self.state();
        let (_, content) = state.content(name)?;
        content.durable = content.live.clone();
        content.pending.clear();
        after(failed)
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        let failed = self.effect()?;
        let mut state = self.state();
        state.durable = state.live.clone();
        state.pending.clear();
        after(failed)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let failed = self.effect()?;
        let mut state = self.state();
        let number = state.live.remove(name).ok_or(io::ErrorKind::NotFound)?;
        let freed = state.contents[number].live.len();
        state.room = state.room.map(|room| room + freed);
        state.pending.push((name.to_owned(), None));
        after(failed)
    }
}
