//! The smallest tape that fails in the same way.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::checks::Counts;
use crate::coverage::Table;
use crate::history::run;
use crate::rule::{Mode, Rule};
use crate::world::Outcome;

/// A history whose panic is a failure.
pub fn guarded(tape: &[u8], rule: Rule, mode: Mode, counts: &mut Counts, table: &mut Table) -> Outcome {
    let run = AssertUnwindSafe(|| run(tape, rule, mode, false, counts, table));
    catch_unwind(run).unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().cloned();
        let text = text.or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_string()));
        Err(format!("PANIC {}", text.unwrap_or_default()))
    })
}

/// The kind of a failure: its words in capitals.
pub fn kind(failure: &str) -> String {
    let capital = |word: &&str| word.chars().all(|c| c.is_uppercase());
    let words: Vec<&str> = failure.split([' ', ':']).take_while(capital).collect();
    words.join(" ")
}

pub fn shrink(mut tape: Vec<u8>, rule: Rule, mode: Mode) -> Vec<u8> {
    let fails = |tape: &[u8]| {
        let outcome = guarded(tape, rule, mode, &mut Counts::default(), &mut Table::default());
        outcome.err().map(|failure| kind(&failure))
    };
    let want = fails(&tape);
    loop {
        let mut changed = false;
        for len in [64, 32, 16, 8, 4, 3, 2, 1] {
            let mut at = 0;
            while at + len <= tape.len() {
                let mut less = tape.clone();
                less.drain(at..at + len);
                if fails(&less) == want {
                    tape = less;
                    changed = true;
                } else {
                    at += 1;
                }
            }
        }
        for at in 0..tape.len() {
            for byte in 0..4 {
                let mut less = tape.clone();
                less[at] = byte;
                if byte < tape[at] && fails(&less) == want {
                    tape = less;
                    changed = true;
                    break;
                }
            }
        }
        if !changed {
            return tape;
        }
    }
}
