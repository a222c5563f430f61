//! Reduces operations that have no order to few that still have none.
//!
//! To leave out a write would prove nothing: of course a read of it finds no order then. So a step
//! only ever makes more orders possible, and what has none afterwards had none before:
//!
//! - a read is left out;
//! - of a write it is forgotten what it saw: it puts what it left there, whatever was there before;
//! - of a write it is forgotten when it ended: it may take effect at any time since, or never. If no
//!   reply that is left shows its value, it can then be left out;
//! - of an increment all is forgotten: it may add what it added at any time since, or never.
//!
//! First in large portions, then in smaller ones down to single operations.

use super::model::{Op, Reply, Value};
use super::search::{Found, Search};
use super::telling;
use super::{Operation, Outcome, Witness};

/// Points that all searches together may enter, and each of them beside some for each operation.
const BUDGET: u64 = 20_000_000;
const BUDGET_EACH: u64 = 100_000;

/// How much is still demanded of an operation; each allows all orders that the one before does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Demand {
    All,
    /// That it took effect between its two times, and left what it left.
    Effect,
    /// Nothing; since it was invoked it may have left what it left.
    Nothing,
    /// Nothing; since it was invoked it may have added what it added, to whatever was there.
    NothingAdded,
}

/// The witness among `operations`, which have no order from `start`. `key` and the number of all
/// operations are noted in it.
pub fn witness(key: &[u8], start: Value, operations: &[Operation], furthest: u64) -> Witness {
    let mut shrink =
        Shrink { start, operations, demands: vec![Demand::All; operations.len()], left: BUDGET };
    // Whatever began after the point that no order came past, mostly had no part in it.
    let late: Vec<usize> =
        (0..operations.len()).filter(|&at| furthest < operations[at].invoked).collect();
    shrink.weaken(&late, Demand::Nothing);
    shrink.in_portions();
    shrink.witness(key)
}

struct Shrink<'a> {
    start: Value,
    operations: &'a [Operation],
    demands: Vec<Demand>,
    left: u64,
}

impl Shrink<'_> {
    fn in_portions(&mut self) {
        let mut size = self.demanding().len().div_ceil(2).max(1);
        while 0 < self.left {
            let mut progress = false;
            for portion in self.demanding().chunks(size) {
                // On a counter, adding keeps the search short; what was left there adds choices.
                let adds = portion.iter().any(|&at| matches!(self.operations[at].op, Op::Incr(_)));
                progress |= (adds && self.weaken(portion, Demand::NothingAdded))
                    || ((!adds || size == 1) && self.weaken(portion, Demand::Nothing));
            }
            if size == 1 {
                for at in self.demanding() {
                    progress |=
                        self.demands[at] == Demand::All && self.weaken(&[at], Demand::Effect);
                }
                if !progress {
                    return;
                }
            }
            size = size.div_ceil(2).min(self.demanding().len().max(1));
        }
    }

    /// The operations of which something is still demanded.
    fn demanding(&self) -> Vec<usize> {
        let demanding = |at: &usize| {
            self.demands[*at] < Demand::Nothing
                && matches!(self.operations[*at].outcome, Outcome::Replied { .. })
        };
        (0..self.operations.len()).filter(demanding).collect()
    }

    /// Demands no more than `demand` of these, if there is no order then either.
    fn weaken(&mut self, portion: &[usize], demand: Demand) -> bool {
        let before: Vec<Demand> = portion.iter().map(|&at| self.demands[at]).collect();
        for &at in portion {
            let adds = matches!(self.operations[at].op, Op::Incr(_));
            self.demands[at] = match demand {
                Demand::NothingAdded if !adds => Demand::Nothing,
                demand => demand,
            };
        }
        let kept = !portion.is_empty() && 0 < self.left && self.has_no_order();
        if !kept {
            for (&at, &demand) in portion.iter().zip(&before) {
                self.demands[at] = demand;
            }
        }
        kept
    }

    fn has_no_order(&mut self) -> bool {
        let weakened: Vec<Operation> = self.pieces().map(|(operation, _)| operation).collect();
        let budget = self.left.min(BUDGET_EACH + 10 * weakened.len() as u64);
        let mut search = Search::new(self.start, &weakened);
        let found = search.run(budget);
        self.left = self.left.saturating_sub(search.entered());
        found == Found::NoOrder
    }

    /// What is left of the operations, each with its number.
    fn pieces(&self) -> impl Iterator<Item = (Operation, usize)> {
        let pieces = self.operations.iter().zip(&self.demands).enumerate();
        pieces.filter_map(|(at, (operation, demand))| Some((weakened(operation, *demand)?, at)))
    }

    fn witness(&self, key: &[u8]) -> Witness {
        let (pieces, numbers): (Vec<Operation>, Vec<usize>) = self.pieces().unzip();
        let matters = telling::that_matter(&pieces);
        let mut shown = self.demanding();
        let others = numbers.iter().zip(matters).filter(|(at, it)| *it && !shown.contains(at));
        let others = others.count();
        shown.sort_by_key(|&at| self.operations[at].invoked);
        Witness {
            key: key.to_vec(),
            operations: shown.into_iter().map(|at| self.operations[at]).collect(),
            others,
            of: self.operations.len(),
        }
    }
}

/// The operation with no more than this demanded of it; `None` if nothing is left of it.
fn weakened(operation: &Operation, demand: Demand) -> Option<Operation> {
    let Outcome::Replied { at, reply } = operation.outcome else {
        return (operation.outcome == Outcome::Unknown).then_some(*operation);
    };
    if demand == Demand::All {
        return Some(*operation);
    }
    let op = match (telling::makes(operation.op, reply)?, demand) {
        (_, Demand::NothingAdded) => operation.op,
        (value, _) => Op::Put(value),
    };
    let outcome = match demand {
        Demand::Effect => Outcome::Replied { at, reply: Reply::Done },
        _ => Outcome::Unknown,
    };
    Some(Operation { op, outcome, ..*operation })
}
