//! The face by which the crash matrix knows whoever stores: a replica, or a relay. What each does and what has to hold of
//! it after a crash live with it ([`workload`](crate::workload), [`relay`](crate::relay)); what storage does to records
//! lives in [`records`](crate::records) and in `files`.

use std::cell::RefCell;
use std::fmt::Debug;

use consilience::journal::{JournalCorrupt, Record, RecordId, Snapshot, recover};

use crate::world::{Dice, Disk, mesh};

/// What a step asks of storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: something changes in memory.
    Nothing,
    /// Takes the records that wait.
    Write,
    /// Makes them durable, after which they are confirmed.
    Sync,
    /// Puts a snapshot in the place of the records.
    Snapshot,
    /// The program ends and comes back from what is stored.
    Resume,
    /// The same, as if from a backup.
    Restore,
    /// What is stored is copied, and somebody else goes on with it too.
    Copy,
    /// All that is stored is gone, and the program starts without it.
    Lose,
}

/// One that stores while it is watched.
pub trait Watch: Debug {
    /// One thing that its host does.
    type Step: Copy + Debug + 'static;
    /// What is known where the power failed.
    type Aftermath: Survive;
    /// All that it does.
    const STEPS: &'static [Self::Step];
    /// What it goes on with after the power was back; each step changes what is in memory.
    const GOES_ON: &'static [Self::Step];

    fn new(seed: u64) -> Self;

    /// What one of a seed does.
    fn steps(_seed: u64) -> Vec<Self::Step> {
        Self::STEPS.to_vec()
    }

    /// What a step that is next will ask of storage.
    fn effect(&self, step: Self::Step) -> Effect;
    /// What changes in memory and not in storage.
    fn act(&mut self, step: Self::Step);
    /// Everything that may leave, leaves.
    fn leak(&mut self);
    /// All records that wait.
    fn poll(&mut self) -> Vec<Record>;
    /// The last record that was confirmed.
    fn confirmed(&self) -> u64;
    fn confirm(&mut self, id: RecordId);
    fn snapshot(&mut self) -> Snapshot;
    fn confirm_snapshot(&mut self, covers: RecordId);
    /// Comes back from what is stored, of which nothing is torn.
    fn open_again(&mut self, disk: &Disk, restores: bool);
    /// Comes back after the power failed, perhaps without what was torn.
    fn come_back(&mut self, disk: &Disk);
    /// Somebody else goes on with a copy of what is stored.
    fn copy(&mut self, _disk: &Disk) {
        unreachable!("nobody is copied here");
    }
    /// Starts without what was stored.
    fn start_over(&mut self) {
        unreachable!("nobody loses storage here");
    }
    /// Why it does not open on what is stored.
    fn refusal(disk: &Disk) -> Option<JournalCorrupt>;
    fn aftermath(&self) -> Self::Aftermath;

    /// Does one of the steps that change what is in memory.
    fn go_on(&mut self, dice: &mut Dice) {
        self.act(Self::GOES_ON[dice.index(Self::GOES_ON.len())]);
    }
}

/// What is known where the power failed, and what has to hold after it.
pub trait Survive: Clone + Debug {
    /// Whoever stored comes back from what storage has, is what it should be, and goes on. `damaged`: storage may have
    /// lost what was confirmed.
    fn survive(&self, disk: &Disk, damaged: bool, name: &str);
    /// The same where storage is opened as a backup from now on.
    fn as_backup(&self) -> Self;
    /// Whether anything was confirmed.
    fn has_confirmed(&self) -> bool;
}

/// What survived already: whether something was cut, and what was left.
pub type Seen = RefCell<Vec<(bool, Disk)>>;

/// What storage has after the power failed.
#[derive(Debug)]
pub struct Left {
    /// The last record.
    pub last: u64,
    /// The records are good up to here.
    pub good_to: usize,
    /// Whether what follows was cut.
    pub is_cut: bool,
    /// What reaches whoever opens it.
    pub disk: Disk,
}

/// What is left in storage, unless that survived already. Nothing that was confirmed is missing, if storage was not damaged.
pub fn left(disk: &Disk, (damaged, confirmed): (bool, u64), seen: &Seen, name: &str) -> Option<Left> {
    let recovered = recover(&mesh(), disk.snapshot.as_deref(), &disk.records)
        .unwrap_or_else(|error| panic!("{name}: {error:?}"));
    let (last, good_to, is_cut) = (recovered.last().as_u64(), recovered.good_to(), recovered.cut().is_some());
    assert!(damaged || last >= confirmed, "{name}: {confirmed} was confirmed, {last} is there");
    let disk = Disk { snapshot: disk.snapshot.clone(), records: disk.records[..good_to].to_vec() };
    let place = (is_cut, disk.clone());
    if seen.borrow().contains(&place) {
        return None;
    }
    seen.borrow_mut().push(place);
    Some(Left { last, good_to, is_cut, disk })
}
