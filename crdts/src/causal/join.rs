//! The join of a form into a [`Causal`] state.
//!
//! For each key: dots of the form that are not covered here come alive, and dots here that the form covers and does
//! not list die. Two walks do that. A form that is small beside the state is *looked up*, its rows in batches: first
//! all index probes, then all slot loads, then the updates, so that cache misses overlap. A form of about the
//! state's size is *walked along* with it, both in key order, and no index is needed.
//!
//! Then the form's dots that no row accounted for (removals) are looked up by name, and the contexts are joined.
//! The invariant throughout: the state's context is the old one until the end.

use alloc::vec::Vec;
use core::cmp::Ordering;

use super::Causal;
use super::changelog::Changelog;
use super::form::{Form, Head};
use super::kind::Kind;
use super::rows::{Row, Rows};
use crate::bytes::DecodeError;
use crate::context::{Runs, Span};
use crate::store::{DotStore, NONE};
use consilience_base::planted::{Fault, planted};

/// Called for every key whose visible value a join changes: the key, its old value and its new one.
pub(crate) trait Observe {
    /// Whether anybody listens; if not, old values are not kept for it.
    const LISTENS: bool;
    fn changed(&mut self, key: &[u8], old: Option<&[u8]>, new: Option<&[u8]>);
}

/// Nobody listens.
pub(crate) struct Unobserved;

impl Observe for Unobserved {
    const LISTENS: bool = false;
    fn changed(&mut self, _: &[u8], _: Option<&[u8]>, _: Option<&[u8]>) {}
}

/// A key, its value before, and its value now.
type Change = (Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>);

/// Keeps changes until the join is done: a callback that panics in the middle of one would leave half of it.
#[derive(Debug, Default)]
pub(crate) struct HeldChanges(Vec<Change>);

impl HeldChanges {
    pub(crate) fn report(&self, mut changed: impl FnMut(&[u8], Option<&[u8]>, Option<&[u8]>)) {
        for (key, old, new) in &self.0 {
            changed(key, old.as_deref(), new.as_deref());
        }
    }
}

impl Observe for HeldChanges {
    const LISTENS: bool = true;
    fn changed(&mut self, key: &[u8], old: Option<&[u8]>, new: Option<&[u8]>) {
        self.0.push((key.to_vec(), old.map(<[u8]>::to_vec), new.map(<[u8]>::to_vec)));
    }
}

/// Rows looked up together.
const BATCH: usize = 32;

/// How the form names the actors here.
#[derive(Clone, Copy)]
struct Names<'a> {
    head: &'a Head,
    /// Index in the form of each actor here, or `NONE`; empty where the form's actors are so few that going through
    /// them is as quick.
    remote: &'a [u32],
}

impl Names<'_> {
    /// The form's index of an actor here.
    #[inline(always)]
    fn remote(&self, actor: u32) -> Option<u32> {
        if self.remote.is_empty() {
            (0_u32..).zip(&self.head.actors).find(|(_, remote)| remote.local == actor).map(|(index, _)| index)
        } else {
            self.remote.get(actor as usize).copied().filter(|index| *index != NONE)
        }
    }

    /// Whether the form says that a dot that is live here is dead.
    #[inline(always)]
    fn ends(&self, dot: (u32, u64)) -> bool {
        self.remote(dot.0)
            .is_some_and(|actor| self.head.covers(actor, dot.1) && !self.head.lists(actor, dot.1))
    }
}

/// A form that is being joined, and the fields of the state that it needs.
struct Join<'a, O> {
    head: &'a Head,
    /// The form's bytes, where the values are.
    bytes: &'a [u8],
    names: Names<'a>,
    store: &'a mut DotStore,
    seen: &'a [Runs],
    changelog: &'a mut Changelog,
    observe: &'a mut O,
    ended: u64,
    changed: bool,
}

/// The place at which a walk along the state stands.
struct Walk {
    here: core::iter::Peekable<alloc::vec::IntoIter<u32>>,
    order: Vec<u32>,
}

impl Causal {
    /// Gives the form's actors their indices here.
    fn name_actors(&mut self, head: &mut Head, bytes: &[u8]) {
        for actor in &mut head.actors {
            actor.local = self.intern(&bytes[actor.name.clone()]);
        }
    }

    /// Joins checked `bytes`, which `form` has read, and says whether that changed anything.
    pub(super) fn join(&mut self, form: &mut Form, bytes: &[u8], observe: &mut impl Observe) -> bool {
        self.name_actors(&mut form.head, bytes);
        let mut remote = core::mem::take(&mut self.remote);
        let tabled = form.head.actors.len() > 4;
        if tabled {
            remote.resize(self.store.actors.len(), NONE);
            for (index, actor) in (0_u32..).zip(&form.head.actors) {
                remote[actor.local as usize] = index;
            }
        }
        let changed = self.join_named(form, bytes, if tabled { &remote } else { &[] }, observe);
        if tabled {
            // Only the elements that were set: the table is as long as all actors ever met.
            form.head.actors.iter().for_each(|actor| remote[actor.local as usize] = NONE);
        }
        self.remote = remote;
        changed
    }

    /// [`join`](Self::join), once the actors know one another.
    fn join_named(
        &mut self,
        form: &mut Form,
        bytes: &[u8],
        remote: &[u32],
        observe: &mut impl Observe,
    ) -> bool {
        self.store.tidy();
        // Where the form has many rows for the number of keys here, walking is quicker than looking up. So it is where
        // no index has been made yet, unless the form is so small that making one costs less.
        let (rows, here) = (form.head.rows, self.store.live_keys());
        let walks = rows >= 64 && rows >= here / if self.store.has_keys_index() { 2 } else { 8 };
        let mut walk = walks.then(|| Walk::new(self.store.take_order(), rows));
        if !walks {
            self.store.build_keys();
        }
        let (mut ended, mut changed) = (0, false);
        loop {
            // The head is lent block by block, for reading the next one needs the form as a whole.
            let mut join = self.joining(&form.head, bytes, remote, observe);
            match &mut walk {
                Some(walk) => join.walk_block(walk, &form.rows),
                None => join.look_up_block(&form.rows),
            }
            ended += join.ended;
            changed |= join.changed;
            if !form.advance(bytes) {
                break;
            }
        }
        // Dots that no row accounted for: of keys after the last row, or removed by name.
        if walk.is_some() || ended + (rows as u64) < form.head.dots {
            let mut join = self.joining(&form.head, bytes, remote, observe);
            match walk {
                Some(walk) => join.finish_walk(walk),
                None if planted(Fault::RemovalsAreNotJoined) => {}
                None => join.end_unaccounted(),
            }
            changed |= join.changed;
        }
        changed | self.join_context(&form.head)
    }

    /// Fills this state, which has seen nothing, from `bytes`. After an error some of the bytes have been joined.
    pub(super) fn fill(&mut self, bytes: &[u8], kind: Kind) -> Result<(), DecodeError> {
        let mut form = Form::default();
        form.open(bytes, kind)?;
        self.name_actors(&mut form.head, bytes);
        let mut walk = Walk::new(self.store.take_order(), form.head.rows);
        // The slots are at hand now; the first delta would have to fetch them all again.
        self.store.prepare(form.head.rows, kind == Kind::Set);
        loop {
            form.read_block(bytes)?;
            self.joining(&form.head, bytes, &[], &mut Unobserved).walk_block(&mut walk, &form.rows);
            if form.rows.is_last() {
                break;
            }
        }
        self.joining(&form.head, bytes, &[], &mut Unobserved).finish_walk(walk);
        self.join_context(&form.head);
        Ok(())
    }

    #[inline]
    fn joining<'a, O: Observe>(
        &'a mut self,
        head: &'a Head,
        bytes: &'a [u8],
        remote: &'a [u32],
        observe: &'a mut O,
    ) -> Join<'a, O> {
        let Self { store, seen, changelog, .. } = self;
        let names = Names { head, remote };
        Join { head, bytes, names, store, seen, changelog, observe, ended: 0, changed: false }
    }

    /// Takes the form's context in, at the end.
    fn join_context(&mut self, head: &Head) -> bool {
        let Self { store, seen, changelog, .. } = self;
        let mut changed = false;
        for actor in &head.actors {
            for span in &head.spans[actor.spans.clone()] {
                seen[actor.local as usize].insert(*span, |fresh| {
                    changed = true;
                    changelog.push(actor.local, fresh);
                });
            }
        }
        changelog.trim(store.live_dots());
        changed
    }
}

impl Walk {
    fn new(here: Vec<u32>, rows: usize) -> Self {
        let order = Vec::with_capacity(here.len().max(rows));
        Self { here: here.into_iter().peekable(), order }
    }
}

impl<O: Observe> Join<'_, O> {
    /// The row's dot, named as here.
    #[inline]
    fn dot(&self, row: &Row) -> (u32, u64) {
        (self.head.actors[row.actor as usize].local, row.counter)
    }

    /// Whether the dot has been seen here, so that it is live already or dead.
    #[inline]
    fn has_seen(&self, dot: (u32, u64)) -> bool {
        let comes_again = planted(Fault::DeadDotsJoinAgain) && self.store.find_dot(dot).is_none();
        self.seen[dot.0 as usize].contains(dot.1) && !comes_again
    }

    #[inline]
    fn end(&mut self, dot: (u32, u64)) {
        self.ended += 1;
        self.changed = true;
        self.changelog.push(dot.0, Span::single(dot.1));
    }

    /// Joins rows of a form that is small beside the state.
    #[inline]
    fn look_up_block(&mut self, rows: &Rows) {
        if let [row] = rows.block.as_slice() {
            let key = rows.key(row, self.bytes).bytes();
            let hash = self.store.hash_key(key);
            let head = self.store.find_hashed(hash, key);
            if let Some(id) = self.join_key(head, hash, rows, 0) {
                self.store.order_push(id);
            }
            return;
        }
        let mut hashes = [0; BATCH];
        let mut heads = [NONE; BATCH];
        for at in (0..rows.block.len()).step_by(BATCH) {
            let batch = &rows.block[at..rows.block.len().min(at + BATCH)];
            for (hash, row) in hashes.iter_mut().zip(batch) {
                *hash = self.store.hash_key(rows.key(row, self.bytes).bytes());
            }
            for (head, hash) in heads.iter_mut().zip(&hashes[..batch.len()]) {
                *head = self.store.guess(*hash).unwrap_or(NONE);
            }
            for (head, row) in heads.iter_mut().zip(batch) {
                // The guess is by 32 bits of hash: only the slot knows.
                if *head != NONE && self.store.slot(*head).key() != rows.key(row, self.bytes).bytes() {
                    *head = NONE;
                }
            }
            for (i, row) in batch.iter().enumerate().filter(|(_, row)| !row.sibling) {
                let guess = Some(heads[i]).filter(|head| *head != NONE);
                let head =
                    guess.or_else(|| self.store.find_hashed(hashes[i], rows.key(row, self.bytes).bytes()));
                if let Some(id) = self.join_key(head, hashes[i], rows, at + i) {
                    self.store.order_push(id);
                }
            }
        }
    }

    /// Joins rows of a form of about the state's size, and everything here up to them.
    fn walk_block(&mut self, walk: &mut Walk, rows: &Rows) {
        for (at, row) in rows.block.iter().enumerate().filter(|(_, row)| !row.sibling) {
            let key = rows.key(row, self.bytes).bytes();
            let mut equal = None;
            while let Some(&head) = walk.here.peek() {
                match self.store.slot(head).key().cmp(key) {
                    Ordering::Less => self.end_chain(head),
                    Ordering::Equal => equal = Some(head),
                    Ordering::Greater => break,
                }
                walk.order.push(head);
                walk.here.next();
                if equal.is_some() {
                    break;
                }
            }
            let hash =
                if equal.is_none() && self.store.has_keys_index() { self.store.hash_key(key) } else { 0 };
            walk.order.extend(self.join_key(equal, hash, rows, at));
        }
    }

    /// Joins the keys here that come after the last row.
    fn finish_walk(&mut self, walk: Walk) {
        let Walk { here, mut order } = walk;
        for head in here {
            self.end_chain(head);
            order.push(head);
        }
        self.store.put_order(order);
    }

    /// Joins the rows of one key, the first of them at `at`, with the key's chain here. Returns the id of the head
    /// if the key is new.
    #[inline(always)]
    fn join_key(&mut self, head: Option<u32>, hash: u32, rows: &Rows, at: usize) -> Option<u32> {
        let row = &rows.block[at];
        let alone = rows.block.get(at + 1).is_none_or(|next| !next.sibling);
        let dot = self.dot(row);
        let Some(head) = head else {
            if !alone {
                return self.add_rows(None, hash, rows, at);
            }
            if self.has_seen(dot) {
                return None;
            }
            self.changed = true;
            let value = row.value(self.bytes);
            let key = rows.key(row, self.bytes);
            if O::LISTENS {
                self.observe.changed(key.bytes(), None, Some(value.bytes()));
            }
            return Some(self.store.add_key(hash, dot, row.stamp, key, value));
        };
        let slot = self.store.slot(head);
        if !alone || slot.next != NONE {
            self.join_chain(head, rows, at);
            return None;
        }
        // The common case: one dot here and one there.
        let own = slot.dot();
        if own == dot {
            return None;
        }
        let fresh = !self.has_seen(dot);
        match (self.names.ends(own), fresh) {
            (true, true) => {
                let value = row.value(self.bytes);
                if O::LISTENS && slot.value() != value.bytes() {
                    self.observe.changed(slot.key(), Some(slot.value()), Some(value.bytes()));
                }
                self.store.replace(head, dot, row.stamp, value);
                self.end(own);
            }
            (true, false) => self.end_chain(head),
            (false, true) => self.join_chain(head, rows, at),
            (false, false) => {}
        }
        None
    }

    /// Adds those rows of a key that are new. Returns the head if the key is.
    #[cold]
    fn add_rows(&mut self, had: Option<u32>, hash: u32, rows: &Rows, first: usize) -> Option<u32> {
        let mut head = had;
        let key = rows.key(&rows.block[first], self.bytes);
        let (one, siblings) = rows.block[first..].split_first()?;
        let siblings = siblings.iter().take_while(|row| row.sibling);
        for row in core::iter::once(one).chain(siblings) {
            let dot = self.dot(row);
            if !self.has_seen(dot) {
                self.changed = true;
                let value = row.value(self.bytes);
                match head {
                    Some(head) => self.store.add_sibling(head, dot, row.stamp, value.bytes()),
                    None => head = Some(self.store.add_key(hash, dot, row.stamp, key, value)),
                }
            }
        }
        let id = head.filter(|_| had.is_none())?;
        if O::LISTENS {
            self.observe.changed(key.bytes(), None, Some(self.store.slot(id).value()));
        }
        Some(id)
    }

    /// Joins the rows of a key that is here, however many rows and dots there are.
    #[cold]
    fn join_chain(&mut self, head: u32, rows: &Rows, first: usize) {
        let old = self.watch(head);
        self.add_rows(Some(head), 0, rows, first);
        // A form that names no more than its rows ends nothing, however long the chain.
        if self.head.dots > self.head.rows as u64 {
            self.end_dots(head);
        }
        self.report(head, &old);
    }

    /// Ends the dots of a key that the form covers and has no row of.
    #[inline]
    fn end_chain(&mut self, head: u32) {
        if self.store.chain(head).any(|id| self.names.ends(self.store.slot(id).dot())) {
            let old = self.watch(head);
            self.end_dots(head);
            self.report(head, &old);
        }
    }

    fn end_dots(&mut self, head: u32) {
        let (names, changelog) = (self.names, &mut *self.changelog);
        let mut ended = 0;
        self.store.retain_chain(
            head,
            |dot| !names.ends(dot),
            |(actor, counter)| {
                ended += 1;
                changelog.push(actor, Span::single(counter));
            },
        );
        self.ended += ended;
        self.changed |= ended > 0;
    }

    /// A key and its value, to be compared after the key was joined.
    #[inline]
    fn watch(&self, head: u32) -> (Vec<u8>, Vec<u8>) {
        if O::LISTENS {
            let slot = self.store.slot(head);
            (slot.key().into(), slot.value().into())
        } else {
            (Vec::new(), Vec::new())
        }
    }

    #[inline]
    fn report(&mut self, head: u32, (key, old): &(Vec<u8>, Vec<u8>)) {
        if O::LISTENS {
            let slot = self.store.slot(head);
            let new = slot.is_live().then(|| slot.value());
            if new != Some(old) {
                self.observe.changed(key, Some(old), new);
            }
        }
    }

    /// Ends the dots that the form covers and that no row dealt with: removals.
    fn end_unaccounted(&mut self) {
        let head = self.head;
        for (remote, actor) in (0_u32..).zip(&head.actors) {
            // Only dots that are live here can end, and only dots that have been seen are live, so a context costs
            // nothing where it reaches beyond them.
            let (live, most) = (self.store.live_dots_of(actor.local), self.seen[actor.local as usize].max());
            if live == 0 {
                continue;
            }
            let reachable = head.spans_of(remote).iter().filter_map(|span| {
                let end = span.end.min(most);
                (span.start <= end).then_some(Span { start: span.start, end })
            });
            let dots = reachable.clone().fold(0_u64, |sum, span| sum.saturating_add(span.count()));
            if dots > self.store.live_dots() as u64 {
                // More names than there are dots here: go through the dots, in key order.
                self.end_walking();
                return;
            }
            if dots > 0 {
                self.store.build_dots();
            }
            for counter in reachable.flat_map(|span| span.start..=span.end) {
                let dot = (actor.local, counter);
                if let Some(slot) = self.store.find_dot(dot)
                    && self.names.ends(dot)
                {
                    self.end_slot(slot);
                }
            }
        }
    }

    fn end_walking(&mut self) {
        self.store.sort();
        let heads: Vec<u32> = self.store.heads().collect();
        for head in heads {
            self.end_chain(head);
        }
    }

    /// Ends the dot of one slot, and with a head's all of its chain that the form ends.
    fn end_slot(&mut self, slot: u32) {
        if self.store.slot(slot).head().is_none() {
            return self.end_chain(slot);
        }
        // A change after the winner is not visible.
        self.end(self.store.slot(slot).dot());
        self.store.remove_slot(slot);
    }
}
