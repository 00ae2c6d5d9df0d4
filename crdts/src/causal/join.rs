//! The join of a decoded form into a [`Causal`] state.
//!
//! For each key: dots of the form that are not covered here come alive, and dots here that the form covers and does
//! not list die. Two walks do that. A form that is small beside the state is *looked up*, its rows in blocks: first
//! all index probes, then all slot loads, then the updates, so that cache misses overlap. A form of about the
//! state's size is *walked along* with it, both in key order, and no index is needed.
//!
//! Then the form's dots that no row accounted for (removals) are looked up by name, and the contexts are joined.
//! The invariant throughout: the state's context is the old one until the end.

use alloc::vec::Vec;
use core::cmp::Ordering;

use super::Causal;
use super::form::{Form, Row};
use super::journal::Journal;
use crate::context::{Runs, Span};
use crate::store::{DotStore, NONE};

/// Told of every key whose visible value a join changes: the key, its old value and its new one.
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

impl<F: FnMut(&[u8], Option<&[u8]>, Option<&[u8]>)> Observe for F {
    const LISTENS: bool = true;
    fn changed(&mut self, key: &[u8], old: Option<&[u8]>, new: Option<&[u8]>) {
        self(key, old, new);
    }
}

/// Rows looked up together.
const BLOCK: usize = 32;

/// How the form names the actors here.
#[derive(Clone, Copy)]
struct Names<'a> {
    form: &'a Form,
    /// Index here of each of the form's actors.
    local: &'a [u32],
    /// Index in the form of each actor here, or `NONE`; empty where the form's actors are so few that a scan of
    /// `local` is as quick.
    remote: &'a [u32],
}

impl Names<'_> {
    /// The form's index of an actor here.
    #[inline]
    fn remote(&self, actor: u32) -> Option<u32> {
        if self.remote.is_empty() {
            (0_u32..).zip(self.local).find(|(_, local)| **local == actor).map(|(index, _)| index)
        } else {
            self.remote.get(actor as usize).copied().filter(|index| *index != NONE)
        }
    }

    /// Whether the form says that a dot that is live here is dead.
    #[inline]
    fn ends(&self, dot: (u32, u64)) -> bool {
        self.remote(dot.0).is_some_and(|actor| self.form.covers(actor, dot.1) && !self.form.lists(actor, dot.1))
    }
}

/// A form that is being joined, and what it needs of the state.
struct Join<'a, O> {
    form: &'a Form,
    store: &'a mut DotStore,
    seen: &'a [Runs],
    journal: &'a mut Journal,
    names: Names<'a>,
    observe: &'a mut O,
    old_key: Vec<u8>,
    old_value: Vec<u8>,
    ended: u64,
    changed: bool,
}

impl Causal {
    /// Joins `form` and says whether that changed anything.
    pub(crate) fn join(&mut self, form: &Form, observe: &mut impl Observe) -> bool {
        let local: Vec<u32> = form.actors.iter().map(|actor| self.intern(&actor.id)).collect();
        let mut remote = Vec::new();
        if local.len() > 4 {
            remote.resize(self.store.actors.len(), NONE);
            for (index, actor) in (0_u32..).zip(&local) {
                remote[*actor as usize] = index;
            }
        }
        let Self { store, seen, journal, .. } = self;
        store.tidy();
        let (old_key, old_value) = (Vec::new(), Vec::new());
        let names = Names { form, local: &local, remote: &remote };
        let mut join =
            Join { form, store, seen, journal, names, observe, old_key, old_value, ended: 0, changed: false };
        // Where the form has many rows for what is here, walking is quicker than looking up. So it is where no
        // index has been made yet, unless the form is so small that making one costs less.
        let (rows, here) = (form.rows.len(), join.store.live_keys());
        if rows >= 64 && rows >= here / if join.store.has_keys_index() { 2 } else { 8 } {
            join.walk();
        } else {
            join.look_up();
            join.end_unaccounted();
        }
        let mut changed = join.changed;
        for (actor, index) in form.actors.iter().zip(&local) {
            for span in &form.spans[actor.spans.clone()] {
                seen[*index as usize].insert(*span, |fresh| {
                    changed = true;
                    journal.push(*index, fresh);
                });
            }
        }
        journal.trim(store.live_dots());
        changed
    }
}

impl<O: Observe> Join<'_, O> {
    /// The row's dot, named as here.
    #[inline]
    fn dot(&self, row: &Row) -> (u32, u64) {
        (self.names.local[row.actor as usize], row.counter)
    }

    /// Whether the row's dot has been seen here, so that it is live already or dead.
    #[inline]
    fn has_seen(&self, dot: (u32, u64)) -> bool {
        self.seen[dot.0 as usize].contains(dot.1)
    }

    fn end(&mut self, dot: (u32, u64)) {
        self.ended += 1;
        self.changed = true;
        self.journal.push(dot.0, Span::single(dot.1));
    }

    /// Joins a form that is small beside the state.
    fn look_up(&mut self) {
        self.store.build_keys();
        let form = self.form;
        let mut hashes = [0; BLOCK];
        let mut heads = [NONE; BLOCK];
        let mut at = 0;
        while at < form.rows.len() {
            let block = &form.rows[at..form.rows.len().min(at + BLOCK)];
            for (hash, row) in hashes.iter_mut().zip(block) {
                *hash = self.store.hash_key(form.key(row));
            }
            for (head, hash) in heads.iter_mut().zip(&hashes[..block.len()]) {
                *head = self.store.guess(*hash).unwrap_or(NONE);
            }
            for (head, row) in heads.iter_mut().zip(block) {
                // The guess is by 32 bits of hash: only the slot knows.
                if *head != NONE && self.store.slot(*head).key() != form.key(row) {
                    *head = NONE;
                }
            }
            for i in 0..block.len() {
                if block[i].sibling {
                    continue;
                }
                let mut head = Some(heads[i]).filter(|head| *head != NONE);
                if head.is_none() {
                    head = self.store.find_hashed(hashes[i], form.key(&block[i]));
                }
                if let Some(id) = self.join_key(head, hashes[i], at + i) {
                    self.store.order_push(id);
                }
            }
            at += BLOCK;
        }
    }

    /// Joins a form of about the state's size.
    fn walk(&mut self) {
        let form = self.form;
        let heads = self.store.take_order();
        let mut order = Vec::with_capacity(heads.len().max(form.rows.len()));
        let mut here = heads.into_iter().peekable();
        let mut at = 0;
        loop {
            let row = form.rows.get(at);
            let head = here.peek().copied();
            let side = match (head, row) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(head), Some(row)) => self.store.slot(head).key().cmp(form.key(row)),
            };
            if side != Ordering::Greater {
                here.next();
                order.extend(head);
            }
            match (side, head) {
                (Ordering::Less, Some(head)) => self.end_chain(head),
                (Ordering::Equal, head) => {
                    self.join_key(head, 0, at);
                }
                (_, _) => {
                    let key = row.map_or(&[][..], |row| form.key(row));
                    let hash = if self.store.has_keys_index() { self.store.hash_key(key) } else { 0 };
                    order.extend(self.join_key(None, hash, at));
                }
            }
            if side != Ordering::Less {
                at += 1;
                while form.rows.get(at).is_some_and(|row| row.sibling) {
                    at += 1;
                }
            }
        }
        self.store.put_order(order);
    }

    /// Joins the rows of one key, the first of them at `at`, with the key's chain here. Returns the id of the head
    /// if the key is new.
    #[inline]
    fn join_key(&mut self, head: Option<u32>, hash: u32, at: usize) -> Option<u32> {
        let form = self.form;
        let row = &form.rows[at];
        let alone = form.rows.get(at + 1).is_none_or(|next| !next.sibling);
        let dot = self.dot(row);
        let Some(head) = head else {
            if alone {
                return (!self.has_seen(dot)).then(|| self.add_key(hash, at, row));
            }
            return self.add_rows(None, hash, at);
        };
        let slot = self.store.slot(head);
        if !alone || slot.next != NONE {
            self.join_chain(head, hash, at);
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
                let value = form.value(row);
                if O::LISTENS && slot.value() != value {
                    self.observe.changed(slot.key(), Some(slot.value()), Some(value));
                }
                self.store.replace(head, dot, row.stamp, value);
                self.end(own);
            }
            (true, false) => self.end_chain(head),
            (false, true) => self.join_chain(head, hash, at),
            (false, false) => {}
        }
        None
    }

    fn add_key(&mut self, hash: u32, first: usize, row: &Row) -> u32 {
        let form = self.form;
        let dot = self.dot(row);
        self.changed = true;
        let id = if row.sibling {
            // Its key stands in the first row only.
            let key = form.key(&form.rows[first]);
            self.store.add_key(hash, dot, row.stamp, &[key, form.value(row)].concat(), key.len())
        } else {
            let (body, key_len) = form.body(row);
            self.store.add_key(hash, dot, row.stamp, body, key_len)
        };
        if O::LISTENS && !self.is_several(first) {
            let slot = self.store.slot(id);
            self.observe.changed(slot.key(), None, Some(slot.value()));
        }
        id
    }

    fn is_several(&self, first: usize) -> bool {
        self.form.rows.get(first + 1).is_some_and(|next| next.sibling)
    }

    /// Adds those rows of one key that are new. Returns the head if it is new.
    #[cold]
    fn add_rows(&mut self, head: Option<u32>, hash: u32, first: usize) -> Option<u32> {
        let form = self.form;
        let (mut head, had_key) = (head, head.is_some());
        let mut at = first;
        loop {
            let row = &form.rows[at];
            let dot = self.dot(row);
            if !self.has_seen(dot) {
                self.changed = true;
                match head {
                    Some(head) => self.store.add_sibling(head, dot, row.stamp, form.value(row)),
                    None => head = Some(self.add_key(hash, first, row)),
                }
            }
            at += 1;
            if form.rows.get(at).is_none_or(|row| !row.sibling) {
                break;
            }
        }
        let id = head.filter(|_| !had_key)?;
        if O::LISTENS && self.is_several(first) {
            let slot = self.store.slot(id);
            self.observe.changed(slot.key(), None, Some(slot.value()));
        }
        Some(id)
    }

    /// Joins the rows of a key that is here, whatever their number and the chain's.
    #[cold]
    fn join_chain(&mut self, head: u32, hash: u32, first: usize) {
        self.watch(head);
        self.add_rows(Some(head), hash, first);
        self.end_dots(head);
        self.report(head);
    }

    /// Ends the dots of a key that the form has no row of.
    fn end_chain(&mut self, head: u32) {
        if self.store.chain(head).any(|id| self.names.ends(self.store.slot(id).dot())) {
            self.watch(head);
            self.end_dots(head);
            self.report(head);
        }
    }

    fn end_dots(&mut self, head: u32) {
        let mut gone = Vec::new();
        let names = self.names;
        self.store.retain_chain(head, |dot| !names.ends(dot), |dot| gone.push(dot));
        for dot in gone {
            self.end(dot);
        }
    }

    /// Remembers what a key reads, to compare after it was joined.
    fn watch(&mut self, head: u32) {
        if O::LISTENS {
            let slot = self.store.slot(head);
            self.old_key.clear();
            self.old_key.extend_from_slice(slot.key());
            self.old_value.clear();
            self.old_value.extend_from_slice(slot.value());
        }
    }

    fn report(&mut self, head: u32) {
        if O::LISTENS {
            let slot = self.store.slot(head);
            let new = slot.is_live().then(|| slot.value());
            if new != Some(&self.old_value) {
                self.observe.changed(&self.old_key, Some(&self.old_value), new);
            }
        }
    }

    /// Ends the dots that the form covers and that no row dealt with: removals.
    fn end_unaccounted(&mut self) {
        let form = self.form;
        if self.ended + form.rows.len() as u64 >= form.dots {
            return;
        }
        // Only what has been seen here can be live here, so a context far beyond that costs nothing.
        let reachable = form.actors.iter().zip(self.names.local).flat_map(|(actor, index)| {
            let most = self.seen[*index as usize].max();
            let spans = form.spans[actor.spans.clone()].iter();
            spans.map(move |span| (*index, Span { start: span.start, end: span.end.min(most) }))
        });
        let reachable: Vec<(u32, Span)> = reachable.filter(|(_, span)| span.start <= span.end).collect();
        let dots = reachable.iter().fold(0_u64, |sum, (_, span)| sum.saturating_add(span.count()));
        if dots > self.store.live_dots() as u64 {
            // More names than there are dots here: go through the dots, in key order.
            self.store.settle();
            let heads: Vec<u32> = self.store.heads().collect();
            for head in heads {
                self.end_chain(head);
            }
            return;
        }
        if dots > 0 {
            self.store.build_dots();
        }
        for (actor, span) in reachable {
            for counter in span.start..=span.end {
                if let Some(slot) = self.store.find_dot((actor, counter))
                    && self.names.ends((actor, counter))
                {
                    self.end_chain(self.store.slot(slot).head().unwrap_or(slot));
                }
            }
        }
    }
}
