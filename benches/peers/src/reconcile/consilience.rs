//! `consilience`: `ReconcileSet` and `Reconciliation`, with messages of 64 KiB.
//!
//! The roots are read before the clock runs, as they are when anything has been sent since the last change. Its cost
//! for ids that changed is part of `build_ns_per_item` and, as it is put off, not of `insert_ns`.

use consilience::sync::reconcile::{Mode, Options, ReconcileSet, Reconciliation, Status};

use super::{Cost, Id, Peer};
use crate::measure::seconds;

pub struct Sets {
    sides: [ReconcileSet; 2],
    salt: u64,
}

impl Peer for Sets {
    fn build(ids: &[Id]) -> Self {
        let side = |seed| {
            let mut set = ReconcileSet::new(&[1; 32], seed);
            for id in ids {
                set.insert(&[], id).expect("an id that is new");
            }
            set.root();
            set
        };
        Sets {
            sides: [side(1), side(2)],
            salt: 0,
        }
    }

    fn change(&mut self, left: &[Id], right: &[Id], add: bool) {
        for (set, ids) in self.sides.iter_mut().zip([left, right]) {
            for id in ids {
                let changed = if add {
                    set.insert(&[], id).expect("an id")
                } else {
                    set.remove(id)
                };
                assert!(changed);
            }
            set.root();
        }
    }

    fn reconcile(&mut self, differences: usize, mode: &str) -> Cost {
        self.salt += 1;
        let config = || Options {
            salt: super::id(self.salt),
            mode: if mode == "ranges" {
                Mode::Ranges
            } else {
                Mode::Auto
            },
            announce: true,
            ..Options::default()
        };
        let [left, right] = &mut self.sides;
        let ((bytes, messages, found), took) = seconds(|| {
            let (opener, mut message) = Reconciliation::start(left, config());
            let mut sides = [opener, Reconciliation::accept(config())];
            let (mut bytes, mut messages, mut found) = (message.len(), 1, [0; 2]);
            loop {
                let to = messages % 2;
                let set = if to == 1 { &mut *right } else { &mut *left };
                let step = sides[to].handle(set, &message).expect("a message of our own");
                assert_ne!(step.status, Status::NeedsBudget);
                found[to] += step.push.len() + step.want.len();
                let Some(answer) = step.message else { break };
                bytes += answer.len();
                messages += 1;
                message = answer;
            }
            (bytes, messages, found)
        });
        assert_eq!(found, [differences; 2], "both sides learn all of it");
        Cost {
            bytes,
            messages,
            seconds: took,
        }
    }

    fn insert(&mut self, id: &Id) {
        self.sides[0].insert(&[], id).expect("an id that is new");
    }
}
