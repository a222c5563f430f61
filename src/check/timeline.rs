//! A witness as lines of at most 80 columns: when, who, what, and a bar that shows what overlaps.
//!
//! The bars show the order of the times and not their lengths: what lies hours apart and what lies a
//! microsecond apart is to be seen equally well.

use super::model::{Op, Reply, Value};
use super::run::client_name;
use super::{Operation, Outcome, Witness};

/// Width of the bars.
const BAR: usize = 17;
/// Width of an operation and its reply.
const TEXT: usize = 29;
/// Operations that are shown; a witness of more is cut in its middle.
const LINES_MAX: usize = 24;
const KEY_MAX: usize = 60;

pub fn lines(witness: &Witness) -> Vec<String> {
    let operations = &witness.operations;
    let begin = operations.iter().map(|it| it.invoked).min().unwrap_or(0);
    let mut times: Vec<u64> = operations.iter().flat_map(|it| [it.invoked, end(it)]).collect();
    times.sort_unstable();
    times.dedup();
    let mut lines = vec![
        format!("key {}", quote(&witness.key)),
        format!(
            "  {} of its {} operations have no order; in ms from {}.{:09} s:",
            operations.len(),
            witness.of,
            begin / 1_000_000_000,
            begin % 1_000_000_000
        ),
    ];
    let left_out = operations.len().saturating_sub(LINES_MAX);
    for (at, operation) in operations.iter().enumerate() {
        if 0 < left_out && at == LINES_MAX / 2 {
            lines.push(format!("  … {left_out} more …"));
        }
        if at < LINES_MAX / 2 || LINES_MAX / 2 + left_out <= at {
            lines.push(line(operation, begin, &times));
        }
    }
    if 0 < witness.others {
        let others = witness.others;
        lines.push(format!("  nor do they with any of {others} more that may have taken effect"));
    }
    lines
}

fn line(operation: &Operation, begin: u64, times: &[u64]) -> String {
    let ms = |time: u64| format!("{:.3}", (time - begin) as f64 / 1e6);
    let place = |time: u64| {
        let rank = times.binary_search(&time).expect("every time is among them");
        rank * (BAR - 1) / (times.len() - 1).max(1)
    };
    let (from, to) = (place(operation.invoked), place(end(operation)));
    let bar: String = (0..BAR)
        .map(|at| match at {
            _ if at == from || at == to => '|',
            _ if from < at && at < to => '-',
            _ => ' ',
        })
        .collect();
    let client = client_name(operation.client);
    let line = format!(
        "  {:>10} {:>10} {:>8} {:<TEXT$} {bar}",
        ms(operation.invoked),
        ms(end(operation)),
        client,
        text(operation)
    );
    line.trim_end().chars().take(80).collect()
}

fn end(operation: &Operation) -> u64 {
    match operation.outcome {
        Outcome::Replied { at, .. } => at,
        Outcome::Unknown | Outcome::Failed => operation.invoked,
    }
}

fn text(operation: &Operation) -> String {
    let asked = match operation.op {
        Op::Get => "get".to_owned(),
        Op::Put(it) => format!("put {}", value(it)),
        Op::Create(it) => format!("create {}", value(it)),
        Op::Update(it) => format!("update {}", value(it)),
        Op::Delete => "delete".to_owned(),
        Op::Cas { expect, value: it } => format!("cas {} {}", value(expect), value(it)),
        Op::Incr(by) => format!("incr {by}"),
    };
    let told = match operation.outcome {
        Outcome::Unknown => "?".to_owned(),
        Outcome::Failed => "failed".to_owned(),
        Outcome::Replied { reply, .. } => match reply {
            Reply::Done => "done".to_owned(),
            Reply::Value(it) | Reply::Mismatch(it) => value(it),
            Reply::Integer(sum) => sum.to_string(),
            Reply::Refused => "refused".to_owned(),
        },
    };
    format!("{asked} -> {told}")
}

/// A value by its number, or the begin of its fingerprint.
fn value(it: Value) -> String {
    match it {
        Value::Absent => "none".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Numeral { number, .. } => format!("\"{number}\""),
        Value::Bytes(fingerprint) => format!("#{:06x}", fingerprint >> 40),
        Value::Any => "?".to_owned(),
    }
}

/// A key's name, without what does not print.
fn quote(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let clean = text.chars().map(|c| if c.is_control() { '?' } else { c });
    let short: String = clean.take(KEY_MAX).collect();
    if short.chars().count() < text.chars().count() { format!("{short}…") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(client: u64, op: Op, invoked: u64, at: u64, reply: Reply) -> Operation {
        Operation { client, key: 0, op, invoked, outcome: Outcome::Replied { at, reply } }
    }

    #[test]
    fn a_stale_read() {
        let (one, two) = (Value::Bytes(0xabcd_ef01 << 32), Value::Bytes(0x1234_5678 << 32));
        let second = 1_000_000_000;
        let witness = Witness {
            key: b"bench/00ab/k00000001".to_vec(),
            operations: vec![
                operation(3, Op::Put(one), 5 * second, 5 * second + 400_000, Reply::Done),
                operation(4, Op::Put(two), 5 * second + 500_000, 6 * second, Reply::Done),
                operation(1 << 40, Op::Get, 7 * second, 8 * second, Reply::Value(one)),
            ],
            others: 2,
            of: 118,
        };
        let expected = "\
key bench/00ab/k00000001
  3 of its 118 operations have no order; in ms from 5.000000000 s:
       0.000      0.400      1.3 put #abcdef -> done           |--|
       0.500   1000.000      1.4 put #123456 -> done                 |--|
    2000.000   3000.000      2.0 get -> #abcdef                            |---|
  nor do they with any of 2 more that may have taken effect";
        assert_eq!(witness.lines().join("\n"), expected);
    }

    /// However large the numbers and however many the operations.
    #[test]
    fn everything_fits_in_80_columns() {
        let value = Value::Integer(i64::MIN);
        let cas = Op::Cas { expect: value, value };
        let reply = Reply::Mismatch(value);
        let operations: Vec<Operation> =
            (0..100).map(|at| operation(u64::MAX, cas, at, u64::MAX / 2, reply)).collect();
        let witness = Witness { key: vec![0xff; 4096], operations, others: 7, of: 1_000_000 };
        let lines = witness.lines();
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
        assert!(lines.len() < 30 && lines.iter().any(|line| line.contains("76 more")));
        let empty = Witness { key: Vec::new(), operations: Vec::new(), others: 0, of: 0 };
        assert_eq!(empty.lines().len(), 2);
    }
}
