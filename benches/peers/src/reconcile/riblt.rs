//! `riblt`: a rateless sketch over whole ids, in one stream and the word to stop: two messages. A cell is counted as
//! postcard encodes it.
//!
//! The library makes cells in blocks by a pass over the set, and none of them survives a change of the set; `insert`
//! is therefore making the first block again. To save hours, the cells for the differences of a draw are added to those
//! of the shared ids with the library's own mapping, which gives the same cells; that is not timed. The receiver
//! does not know the number of differences: it tries to decode at every tenth more cells, from 1.25 a difference on.

use riblt::{CodedSymbol, RandomMapping, RatelessIBLT, Symbol, UnmanagedRatelessIBLT};

use super::{Cost, Id, Peer};
use crate::measure::seconds;

/// Enough for ten thousand differences.
const CELLS: usize = 20_000;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Item(Id);

impl Symbol for Item {
    const BYTE_ARRAY_LENGTH: usize = 32;

    fn encode_to_bytes(&self) -> Vec<u8> {
        self.0.to_vec()
    }

    fn decode_from_bytes(bytes: &Vec<u8>) -> Self {
        Item(bytes.as_slice().try_into().expect("32 bytes"))
    }
}

type Sketch = RatelessIBLT<Item, Vec<Item>>;

pub struct Sets {
    sides: [Sketch; 2],
    /// Ids of this draw are in the cells already.
    prepared: bool,
}

impl Peer for Sets {
    fn build(ids: &[Id]) -> Self {
        // The items stay with the sketch, as it may have to make more cells.
        let side = || RatelessIBLT::new(ids.iter().copied().map(Item).collect::<Vec<_>>());
        Sets {
            sides: [side(), side()],
            prepared: false,
        }
    }

    fn change(&mut self, left: &[Id], right: &[Id], add: bool) {
        for (side, ids) in self.sides.iter_mut().zip([left, right]) {
            if !self.prepared {
                // From here on the cells are only those of the shared ids.
                side.coded_symbols.clear();
                side.extend_coded_symbols(CELLS - 1);
                continue;
            }
            for id in ids {
                let item = Item(*id);
                let cells = side.coded_symbols.len();
                for at in RandomMapping::new(&item).take_while(|&at| at < cells) {
                    apply(&mut side.coded_symbols[at], &item, if add { 1 } else { -1 });
                }
            }
        }
        self.prepared = true;
    }

    fn reconcile(&mut self, differences: usize, _mode: &str) -> Cost {
        let [left, right] = &self.sides;
        let mut cells = (differences * 5 / 4).max(1);
        let ((bytes, found), took) = seconds(|| {
            loop {
                let received = UnmanagedRatelessIBLT {
                    coded_symbols: left.coded_symbols[..cells].to_vec(),
                };
                let own = UnmanagedRatelessIBLT {
                    coded_symbols: right.coded_symbols[..cells].to_vec(),
                };
                let mut difference = own.collapse(&received);
                let found = difference.peel_all_symbols().len();
                if difference.is_empty() {
                    let bytes = received.coded_symbols.iter().map(cell_bytes).sum::<usize>();
                    return (bytes + 1, found);
                }
                cells = (cells + cells.div_ceil(10)).min(left.coded_symbols.len());
            }
        });
        assert_eq!(found, differences);
        Cost {
            bytes,
            messages: 2,
            seconds: took,
        }
    }

    fn insert(&mut self, id: &Id) {
        // The set cannot be reached any more: the new id goes into the new cells by hand.
        let side = &mut self.sides[0];
        side.coded_symbols.clear();
        side.extend_coded_symbols(0);
        let cells = side.coded_symbols.len();
        let item = Item(*id);
        for at in RandomMapping::new(&item).take_while(|&at| at < cells) {
            apply(&mut side.coded_symbols[at], &item, 1);
        }
    }
}

fn cell_bytes(cell: &CodedSymbol<Item>) -> usize {
    postcard::to_allocvec(cell).expect("a cell encodes").len()
}

/// As the library does it; the direction its own function takes has a type that it does not export.
fn apply(cell: &mut CodedSymbol<Item>, item: &Item, count: i64) {
    cell.sum
        .iter_mut()
        .zip(item.0)
        .for_each(|(sum, byte)| *sum ^= byte);
    cell.hash ^= item.hash_();
    cell.count += count;
}
