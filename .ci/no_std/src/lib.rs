//! The libraries in a program without the standard library: it has a panic handler and an allocator of its own.
//!
//! This does not compile once anything below brings the standard library in, since that has a panic handler too. What
//! comes out is linked with `main.c` and run, which calls the libraries for real.
#![no_std]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

use consilience_crdts::coupling::{Coupling, CouplingSchema, Units};
use consilience_crdts::{ActorId, Hlc, LwwMap, OrSet, Timestamp};
use consilience_sync::{
    Admission, Answer, Incarnation, Keypair, Limits, LogKind, LogOpening, LogSet, MeshId, NewEntry, Range,
    RangeForm, Signer, Topic, VerifyBudget, Want,
};

const ARENA_BYTES: usize = 1 << 20;

/// Hands out an arena from front to back and takes nothing back.
struct Bump {
    arena: UnsafeCell<[u8; ARENA_BYTES]>,
    used: AtomicUsize,
}

// SAFETY: every byte of the arena is handed out once, by an atomic update of `used`.
unsafe impl Sync for Bump {}

// SAFETY: the returned blocks lie in the arena, do not overlap, and are aligned; null says that it is full.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let arena = self.arena.get().cast::<u8>();
        let address = arena as usize;
        let place = |used: usize| {
            let start = (address + used).next_multiple_of(layout.align()) - address;
            let end = start.checked_add(layout.size())?;
            (end <= ARENA_BYTES).then_some((start, end))
        };
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| place(used).map(|(_, end)| end));
        match taken.ok().and_then(place) {
            // SAFETY: `start` is within the arena.
            Some((start, _)) => unsafe { arena.add(start) },
            None => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Bump = Bump { arena: UnsafeCell::new([0; ARENA_BYTES]), used: AtomicUsize::new(0) };

unsafe extern "C" {
    safe fn abort() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    abort()
}

/// Two replicas write, exchange what they wrote, and agree.
fn converges() -> Option<bool> {
    let (ada, bob) = (ActorId::from(1), ActorId::from(2));
    let now = Timestamp::from_secs(1_700_000_000);

    let (mut here, mut there) = (LwwMap::new(), LwwMap::new());
    let ours = here.set(ada, b"task", b"draft", Hlc::new(now, 0)).ok()?;
    let theirs = there.set(bob, b"task", b"done", Hlc::new(now, 1)).ok()?;
    here.merge_encoded(theirs.as_bytes()).ok()?;
    there.merge_encoded(ours.as_bytes()).ok()?;
    let maps = here == there && here.get(b"task") == Some(&b"done"[..]);
    let maps = maps && LwwMap::decode(&here.encode()).ok()? == here;

    let mut members = OrSet::new();
    members.insert(ada, b"ada").ok()?;
    members.remove(b"ada");
    // The library once more, through the facade.
    let mut copy = consilience::crdts::OrSet::new();
    let sets = copy.merge_state(&members) && !copy.contains(b"ada");

    let schema = CouplingSchema::with_half_life(86_400_000).ok()?;
    let mut trust = Coupling::new(schema);
    trust.strengthen(ada, b"bob", Units::new(3), now).ok()?;
    let couplings = trust.sum().value(b"bob", now.saturating_add_millis(86_400_000)) < Units::new(2);

    Some(maps && sets && couplings)
}

/// A log is written and signed, crosses as bytes, and is checked; changed bytes are refused.
fn verifies() -> Option<bool> {
    let (mesh, ada) = (MeshId::from_bytes([7; 32]), Keypair::from_seed([1; 32]));
    let now = Timestamp::from_secs(1_700_000_000);
    let opening = LogOpening {
        topic: Topic::new("team").ok()?,
        kind: LogKind::Event,
        agent: ada.agent(),
        incarnation: Incarnation::next(None, now, [1, 2]),
    };
    let mut here = LogSet::new(mesh, Limits::default());
    let log = here.open_local(&opening).ok()?;
    here.append(&log, &NewEntry::new(Hlc::new(now, 0), b"draft")).ok()?;
    here.append(&log, &NewEntry::new(Hlc::new(now, 1), b"done")).ok()?;
    here.sign_head(&log, &ada, now).ok()?;

    let mut there = LogSet::new(mesh, Limits::default());
    let opening = opening.named(&mesh);
    let want = Want { from: 0, to: 2, form: RangeForm::Follow };
    let Answer::Range { mut bytes, .. } = here.answer(&log, &want, 4_096) else { return None };
    let mut budget = VerifyBudget::new();
    let mut take = |bytes: &[u8]| {
        let range = Range::parse(bytes).ok()?;
        there.receive_first(&opening, &range, now, &mut budget, |_| Admission::Hold).ok()
    };
    bytes[8] ^= 1;
    let refused = take(&bytes).is_none();
    bytes[8] ^= 1;
    take(&bytes)?;
    Some(refused && there.log(&log)?.entry(1)?.payload() == Some(&b"done"[..]))
}

/// What `main.c` calls: 0 if all went well.
#[unsafe(no_mangle)]
pub extern "C" fn consilience_no_std_check() -> i32 {
    i32::from(converges() != Some(true) || verifies() != Some(true))
}
