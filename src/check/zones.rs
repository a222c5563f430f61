//! Decides keys that are only put and read, each value put once, without a search: in the time that
//! sorting takes, however many clients are at it at once (Gibbons and Korach, "Testing shared
//! memories", 1997).
//!
//! A put and the reads that show its value are a cluster: in any order they stand together, with
//! nothing of another cluster between them. So cluster X comes before Y if anything of X ended before
//! anything of Y began, that is, if X's first end lies before Y's last begin. There is an order unless
//! a read ended before its put began, or two clusters must each come before the other. (Longer
//! circles contain such a pair: take the cluster of the circle that has the earliest first end.)
//!
//! A put without a reply has no end; one that nobody read is left out.

// Looked up, never walked through: hash order is of no consequence.
#![allow(clippy::disallowed_types)]

use std::collections::HashMap;

use super::model::{Op, Reply, Value};
use super::{Operation, Outcome};

/// What was found about a key.
pub enum Found {
    /// Something else than put and get was asked, or a value was put twice: not for us.
    NotForUs,
    Order,
    /// These alone have no order.
    NoOrder(Vec<Operation>),
}

/// All that is about one value.
struct Cluster {
    /// Position of its put; `None`: it was there at the beginning.
    put: Option<usize>,
    /// The earliest end and the latest begin in it, and whose they are. Times count from 1, so that
    /// the beginning can be 0.
    first_end: u64,
    ends_first: usize,
    last_begin: u64,
    begins_last: usize,
}

pub fn judge(start: Value, operations: &[Operation]) -> Found {
    let mut clusters: HashMap<Value, Cluster> = HashMap::new();
    if start == Value::Any {
        return Found::NotForUs;
    }
    let beginning =
        Cluster { put: None, first_end: 0, ends_first: 0, last_begin: 0, begins_last: 0 };
    clusters.insert(start, beginning);
    for (at, operation) in operations.iter().enumerate() {
        let end = match (operation.op, operation.outcome) {
            (_, Outcome::Failed) | (Op::Get, Outcome::Unknown) => continue,
            (Op::Get, Outcome::Replied { reply: Reply::Value(_), .. }) => continue,
            (Op::Put(_), Outcome::Replied { at, reply: Reply::Done }) => at.saturating_add(1),
            (Op::Put(_), Outcome::Unknown) => u64::MAX,
            _ => return Found::NotForUs,
        };
        let Op::Put(value) = operation.op else { return Found::NotForUs };
        let cluster = Cluster {
            put: Some(at),
            first_end: end,
            ends_first: at,
            last_begin: operation.invoked.saturating_add(1),
            begins_last: at,
        };
        if clusters.insert(value, cluster).is_some() {
            return Found::NotForUs;
        }
    }
    for (at, operation) in operations.iter().enumerate() {
        let Outcome::Replied { at: end, reply: Reply::Value(value) } = operation.outcome else {
            continue;
        };
        let (begin, end) = (operation.invoked.saturating_add(1), end.saturating_add(1));
        let Some(cluster) = clusters.get_mut(&value) else {
            return Found::NoOrder(vec![*operation]);
        };
        if let Some(put) = cluster.put.filter(|put| end <= operations[*put].invoked) {
            return Found::NoOrder(vec![operations[put], *operation]);
        }
        if end < cluster.first_end {
            (cluster.first_end, cluster.ends_first) = (end, at);
        }
        if cluster.last_begin < begin {
            (cluster.last_begin, cluster.begins_last) = (begin, at);
        }
    }
    // Whoever never ended was put by nobody who knows and read by nobody.
    let mut clusters: Vec<Cluster> =
        clusters.into_values().filter(|cluster| cluster.first_end < u64::MAX).collect();
    clusters.sort_by_key(|cluster| (cluster.first_end, cluster.put));
    match circle(&clusters) {
        Some((one, other)) => Found::NoOrder(both(one, other, operations)),
        None => Found::Order,
    }
}

/// Two clusters that must each come before the other. `clusters` are ordered by their first end.
fn circle(clusters: &[Cluster]) -> Option<(&Cluster, &Cluster)> {
    // Those that span time, from a first end to a last begin: nothing else lies between. Two of them
    // must not overlap, so that of all that begin before a moment only the latest can reach beyond it.
    let (long, short): (Vec<&Cluster>, Vec<&Cluster>) =
        clusters.iter().partition(|cluster| cluster.first_end < cluster.last_begin);
    for pair in long.windows(2) {
        if pair[1].first_end < pair[0].last_begin {
            return Some((pair[0], pair[1]));
        }
    }
    short.into_iter().find_map(|inner| {
        let before = long.partition_point(|outer| outer.first_end < inner.last_begin);
        let outer = long[..before].last()?;
        (inner.first_end < outer.last_begin).then_some((*outer, inner))
    })
}

/// The operations of two clusters that show what must come before what. All other clusters can be
/// left out as a whole: an order of everything would be one of these.
fn both(one: &Cluster, other: &Cluster, operations: &[Operation]) -> Vec<Operation> {
    let mut shown = Vec::new();
    for cluster in [one, other] {
        shown.extend(cluster.put);
        if 0 < cluster.first_end {
            shown.push(cluster.ends_first);
        }
        if 0 < cluster.last_begin {
            shown.push(cluster.begins_last);
        }
    }
    shown.sort_unstable();
    shown.dedup();
    shown.into_iter().map(|at| operations[at]).collect()
}
