//! `automerge`: its sync protocol, on documents whose root map is the map. Unsigned.
//!
//! Every change is a transaction, with an actor id of 16 bytes for each writer as its own are. The history is written
//! into one document, whose actor changes with the writer: the same changes with the same hashes as when each writer
//! had a document and received all changes before its own, in a fraction of the time. Both replicas are loaded from a
//! save of that document.
//!
//! Messages are counted until neither side generates another one, with B speaking first. What a side says of what it
//! has is a Bloom filter of all changes since the two last met, and two that never met have never agreed on anything:
//! `automerge` is that case. `automerge-resumed` is the other: A and B had met when both held the changes they share,
//! and each kept its `sync::State` for the other, encoded as it is for keeping; likewise for `equal`.

use automerge::sync::{Message, State, SyncDoc};
use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, ROOT, ReadDoc, ScalarValue, Value as Content};

use super::history::{Change, History, LOCAL, Value};
use super::{Cost, Side, Subject};
use crate::measure::seconds;

/// Documents whose peers have kept a state for each other, or not.
pub struct Automerge<const RESUMED: bool> {
    docs: [AutoCommit; 2],
    states: [State; 2],
}

fn actor_id(history: &History, writer: usize) -> ActorId {
    ActorId::from(&history.ids[writer][..16])
}

fn put(doc: &mut AutoCommit, change: &Change) {
    doc.put(
        ROOT,
        change.key.as_str(),
        ScalarValue::Bytes(change.value.to_vec()),
    )
    .expect("the root map can be changed");
    doc.commit();
}

/// Lets a side say what it has to say. Returns the bytes of the message, if it has one.
fn send(docs: &mut [AutoCommit; 2], states: &mut [State; 2], from: usize) -> Option<usize> {
    let message = docs[from].sync().generate_sync_message(&mut states[from])?;
    let message = message.encode();
    let read = Message::decode(&message).expect("a message");
    let to = 1 - from;
    docs[to]
        .sync()
        .receive_sync_message(&mut states[to], read)
        .expect("the message fits");
    Some(message.len())
}

/// Messages in turn until nobody has anything more to say.
fn exchange(docs: &mut [AutoCommit; 2], states: &mut [State; 2], first: usize) -> (usize, usize) {
    let (mut bytes, mut messages) = (0, 0);
    let (mut from, mut silent) = (first, 0);
    while silent < 2 {
        match send(docs, states, from) {
            Some(sent) => {
                bytes += sent;
                messages += 1;
                silent = 0;
            }
            None => silent += 1,
        }
        from = 1 - from;
    }
    (bytes, messages)
}

/// What is left of a state when it is kept for the next connection.
fn kept(state: &State) -> State {
    State::decode(&state.encode()).expect("an encoded state")
}

impl<const RESUMED: bool> Automerge<RESUMED> {
    fn cost(((bytes, messages), seconds): ((usize, usize), f64)) -> Cost {
        Cost {
            bytes,
            messages,
            seconds,
        }
    }
}

impl<const RESUMED: bool> Subject for Automerge<RESUMED> {
    const NAME: &'static str = if RESUMED { "automerge-resumed" } else { "automerge" };
    const SIGNED: bool = false;

    fn build(history: &History) -> Self {
        let mut writer = AutoCommit::new();
        let mut write = |changes: &[Change]| {
            for change in changes {
                writer.set_actor(actor_id(history, change.writer));
                put(&mut writer, change);
            }
            writer.save()
        };
        let (shared, missed) = history.changes.split_at(history.shared);
        let shared = write(shared);
        let all = write(missed);
        let load = |saved: &[u8], writer| {
            AutoCommit::load(saved)
                .expect("a saved document")
                .with_actor(actor_id(history, writer))
        };
        let mut states = [State::new(), State::new()];
        if RESUMED {
            let mut before = LOCAL.map(|writer| load(&shared, writer));
            exchange(&mut before, &mut states, 1);
            states = states.each_ref().map(kept);
        }
        Automerge {
            docs: [load(&all, LOCAL[0]), load(&shared, LOCAL[1])],
            states,
        }
    }

    fn catch_up(&mut self) -> Cost {
        Self::cost(seconds(|| exchange(&mut self.docs, &mut self.states, 1)))
    }

    fn one_change(&mut self, change: &Change) -> Cost {
        Self::cost(seconds(|| {
            put(&mut self.docs[0], change);
            exchange(&mut self.docs, &mut self.states, 0)
        }))
    }

    fn equal(&mut self) -> Cost {
        self.states = if RESUMED {
            self.states.each_ref().map(kept)
        } else {
            [State::new(), State::new()]
        };
        Self::cost(seconds(|| exchange(&mut self.docs, &mut self.states, 1)))
    }

    fn value(&self, side: Side, key: &str) -> Option<Value> {
        match self.docs[side as usize].get(ROOT, key) {
            Ok(Some((Content::Scalar(found), _))) => match found.as_ref() {
                ScalarValue::Bytes(found) => found[..].try_into().ok(),
                _ => None,
            },
            _ => None,
        }
    }
}
