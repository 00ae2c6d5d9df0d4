//! How far one peer is known to have followed a replica.
//!
//! The rule that makes repairs safe: a cursor moves only when the peer has confirmed a repair that reached it. A repair
//! that was sent may have been lost, and so may the confirmation; then the next one covers the same ground again.

use std::collections::VecDeque;

use consilience::crdts::Cursor;
use consilience::crdts::coupling::CouplingCursor;

/// Repairs remembered while they are unconfirmed. Confirmations of older ones come too late to be of use.
const UNCONFIRMED_MAX: usize = 16;

/// Places in the change sequences of the three collections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursors {
    pub(crate) map: Cursor,
    pub(crate) set: Cursor,
    pub(crate) coupling: CouplingCursor,
}

#[derive(Debug)]
pub(crate) struct Follower {
    confirmed: Cursors,
    sent: u64,
    unconfirmed: VecDeque<(u64, Cursors)>,
}

impl Follower {
    /// `confirmed`: what the peer has from the start.
    pub(crate) const fn new(confirmed: Cursors) -> Self {
        Self { confirmed, sent: 0, unconfirmed: VecDeque::new() }
    }

    pub(crate) const fn confirmed(&self) -> Cursors {
        self.confirmed
    }

    /// A repair that reaches up to `cursors` goes out. Returns its number.
    pub(crate) fn sends(&mut self, cursors: Cursors) -> u64 {
        self.sent += 1;
        if self.unconfirmed.len() == UNCONFIRMED_MAX {
            self.unconfirmed.pop_front();
        }
        self.unconfirmed.push_back((self.sent, cursors));
        self.sent
    }

    /// The peer says that it has merged a repair. Each covers what those before it did, so confirmations may come in
    /// any order and more than once.
    pub(crate) fn confirms(&mut self, number: u64) {
        while let Some((sent, cursors)) = self.unconfirmed.front()
            && *sent <= number
        {
            self.confirmed = *cursors;
            self.unconfirmed.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilience::crdts::{ActorId, OrSet};

    /// Cursors after so many changes.
    fn cursors(changes: u8) -> Cursors {
        let mut set = OrSet::new();
        for element in 0..changes {
            set.insert(ActorId::from(1), &[element]).unwrap();
        }
        Cursors { map: Cursor::default(), set: set.cursor(), coupling: CouplingCursor::default() }
    }

    #[test]
    fn a_cursor_moves_by_confirmations_only_and_never_back() {
        let mut follower = Follower::new(cursors(0));
        let numbers = [1, 2, 3].map(|changes| follower.sends(cursors(changes)));
        assert_eq!(follower.confirmed(), cursors(0));
        follower.confirms(numbers[1]);
        assert_eq!(follower.confirmed(), cursors(2));
        for number in [numbers[0], numbers[1], 0] {
            follower.confirms(number);
            assert_eq!(follower.confirmed(), cursors(2));
        }
        follower.confirms(numbers[2]);
        assert_eq!(follower.confirmed(), cursors(3));
    }

    #[test]
    fn repairs_remembered_are_bounded() {
        let mut follower = Follower::new(cursors(0));
        let first = follower.sends(cursors(1));
        let last = (0..100).map(|_| follower.sends(cursors(2))).max().unwrap();
        assert_eq!(follower.unconfirmed.len(), UNCONFIRMED_MAX);
        follower.confirms(first);
        assert_eq!(follower.confirmed(), cursors(0));
        follower.confirms(last);
        assert_eq!(follower.confirmed(), cursors(2));
    }
}
