//! Small histories of which anybody can see whether they are right.

use super::*;

const A: Value = Value::Bytes(1);
const B: Value = Value::Bytes(2);
const C: Value = Value::Bytes(3);

/// One operation a line: client, invocation, reply (or `?`: no reply ever), what, and the answer.
struct Line(u64, u64, Option<u64>, Op, Option<Reply>);

fn ok(client: u64, from: u64, to: u64, op: Op, reply: Reply) -> Line {
    Line(client, from, Some(to), op, Some(reply))
}

fn put(client: u64, from: u64, to: u64, value: Value) -> Line {
    ok(client, from, to, Op::Put(value), Reply::Done)
}

fn get(client: u64, from: u64, to: u64, value: Value) -> Line {
    ok(client, from, to, Op::Get, Reply::Value(value))
}

fn incr(client: u64, from: u64, to: u64, sum: i64) -> Line {
    ok(client, from, to, Op::Incr(1), Reply::Integer(sum))
}

fn unknown(client: u64, from: u64, op: Op) -> Line {
    Line(client, from, None, op, None)
}

fn history(lines: &[Line]) -> History {
    let mut history = History::new();
    for &Line(client, from, to, op, reply) in lines {
        let ticket = history.invoke(client, from, b"key", op);
        if let (Some(to), Some(reply)) = (to, reply) {
            history.reply(ticket, to, reply);
        }
    }
    history
}

fn right(lines: &[Line]) {
    assert_eq!(linearizable(&history(lines)), Verdict::Linearizable);
}

fn wrong(lines: &[Line]) {
    let verdict = linearizable(&history(lines));
    assert!(matches!(verdict, Verdict::Violated(_)), "{verdict:?}");
}

#[test]
fn one_after_the_other() {
    right(&[]);
    right(&[get(1, 0, 1, Value::Absent)]);
    right(&[put(1, 0, 1, A), get(2, 2, 3, A), put(1, 4, 5, B), get(2, 6, 7, B)]);
    right(&[incr(1, 0, 1, 1), incr(2, 2, 3, 2), get(1, 4, 5, Value::Integer(2))]);
    wrong(&[get(1, 0, 1, A)]);
}

#[test]
fn a_lost_write() {
    wrong(&[put(1, 0, 1, A), get(2, 2, 3, Value::Absent)]);
    wrong(&[put(1, 0, 1, A), put(1, 2, 3, B), get(2, 4, 5, A)]);
    right(&[put(1, 0, 3, A), get(2, 2, 4, Value::Absent)]);
}

#[test]
fn a_stale_read() {
    // The write overlaps with both reads: once it has been seen, it stays.
    wrong(&[put(1, 0, 9, A), get(2, 1, 2, A), get(3, 3, 4, Value::Absent)]);
    right(&[put(1, 0, 9, A), get(2, 1, 2, Value::Absent), get(3, 3, 4, A)]);
    right(&[put(1, 0, 9, A), get(2, 1, 4, A), get(3, 3, 5, Value::Absent)]);
}

#[test]
fn two_reads_disagree_on_the_order_of_two_writes() {
    wrong(&[put(1, 0, 9, A), put(2, 0, 9, B), get(3, 10, 11, A), get(4, 10, 11, B)]);
    wrong(&[put(1, 0, 20, A), put(2, 0, 20, B), get(3, 1, 2, A), get(3, 3, 4, B), get(4, 5, 6, A)]);
    right(&[put(1, 0, 20, A), put(2, 0, 20, B), get(3, 1, 2, A), get(3, 3, 4, B)]);
}

#[test]
fn a_double_increment() {
    wrong(&[incr(1, 0, 1, 1), get(2, 2, 3, Value::Integer(2))]);
    wrong(&[incr(1, 0, 9, 1), incr(2, 0, 9, 1)]);
    wrong(&[incr(1, 0, 1, 1), incr(2, 2, 3, 3)]);
    right(&[incr(1, 0, 9, 2), incr(2, 0, 9, 1)]);
    // One that got no reply explains one more, and not two.
    let lost = || unknown(3, 0, Op::Incr(1));
    right(&[incr(1, 0, 1, 1), lost(), incr(2, 2, 3, 3)]);
    right(&[incr(1, 0, 1, 1), lost(), incr(2, 2, 3, 2)]);
    wrong(&[incr(1, 0, 1, 1), lost(), incr(2, 2, 3, 4)]);
    wrong(&[incr(1, 0, 1, 1), lost(), incr(2, 2, 3, 3), get(1, 4, 5, Value::Integer(2))]);
}

#[test]
fn both_cas_succeed() {
    let cas = |client, from, to, expect, value| {
        ok(client, from, to, Op::Cas { expect, value }, Reply::Done)
    };
    wrong(&[put(1, 0, 1, A), cas(1, 2, 9, A, B), cas(2, 2, 9, A, C)]);
    right(&[put(1, 0, 1, A), cas(1, 2, 9, A, B), cas(2, 2, 9, B, C)]);
    let failed = ok(2, 2, 9, Op::Cas { expect: A, value: C }, Reply::Mismatch(B));
    right(&[put(1, 0, 1, A), cas(1, 2, 9, A, B), failed]);
    let failed = ok(2, 3, 4, Op::Cas { expect: A, value: C }, Reply::Mismatch(B));
    wrong(&[put(1, 0, 1, A), failed, cas(1, 5, 9, A, B)]);
}

#[test]
fn conditions() {
    let done = |from, to, op| ok(1, from, to, op, Reply::Done);
    let refused = |from, to, op| ok(2, from, to, op, Reply::Refused);
    right(&[done(0, 1, Op::Create(A)), refused(2, 3, Op::Create(B)), get(3, 4, 5, A)]);
    wrong(&[done(0, 9, Op::Create(A)), done(0, 9, Op::Create(B))]);
    wrong(&[refused(0, 1, Op::Create(B))]);
    right(&[done(0, 9, Op::Create(A)), done(0, 9, Op::Delete), done(0, 9, Op::Create(B))]);
    wrong(&[done(0, 1, Op::Create(A)), refused(2, 3, Op::Update(B))]);
    wrong(&[done(0, 1, Op::Delete)]);
    right(&[refused(0, 1, Op::Delete), refused(0, 1, Op::Update(A))]);
    // Somebody's put, of which nobody heard again, is the only thing that explains them.
    right(&[unknown(3, 0, Op::Put(C)), refused(1, 2, Op::Create(B))]);
    right(&[unknown(3, 0, Op::Put(C)), done(1, 2, Op::Update(B)), get(4, 5, 6, B)]);
    right(&[unknown(3, 0, Op::Put(C)), done(1, 2, Op::Delete)]);
    right(&[put(1, 0, 1, A), unknown(3, 0, Op::Delete), done(2, 3, Op::Create(B))]);
}

/// A write without a reply may come late, and never before it was asked for; and only once.
#[test]
fn unknown_outcomes() {
    let lost = |from| unknown(9, from, Op::Put(B));
    right(&[put(1, 0, 1, A), lost(2), get(1, 3, 4, A), get(1, 5, 6, B)]);
    right(&[put(1, 0, 1, A), lost(2), get(1, 3, 4, A)]);
    wrong(&[put(1, 0, 1, A), lost(5), get(1, 3, 4, B)]);
    wrong(&[put(1, 0, 1, A), lost(2), get(1, 3, 4, B), get(1, 5, 6, A)]);
    wrong(&[lost(0), get(1, 1, 2, B), put(1, 3, 4, A), get(1, 5, 6, B)]);
    right(&[lost(0), lost(0), get(1, 1, 2, B), put(1, 3, 4, A), get(1, 5, 6, B)]);
    // One leads to the other.
    let cas = unknown(8, 0, Op::Cas { expect: B, value: C });
    right(&[cas, lost(0), get(1, 1, 2, C)]);
    right(&[unknown(8, 0, Op::Incr(3)), unknown(8, 0, Op::Incr(4)), incr(1, 1, 2, 8)]);
    wrong(&[unknown(8, 0, Op::Incr(3)), unknown(8, 0, Op::Incr(4)), incr(1, 1, 2, 7)]);
}

#[test]
fn what_failed_must_not_be_seen() {
    let mut history = History::new();
    let put = history.invoke(1, 0, b"key", Op::Put(A));
    history.fail(put);
    let get = history.invoke(1, 1, b"key", Op::Get);
    history.reply(get, 2, Reply::Value(A));
    assert!(matches!(linearizable(&history), Verdict::Violated(_)));
}

/// What happens at one time overlaps: the clock cannot tell what came first.
#[test]
fn equal_times_overlap() {
    right(&[put(1, 0, 5, A), get(2, 5, 5, Value::Absent)]);
    right(&[put(1, 0, 5, A), get(2, 5, 5, A)]);
    wrong(&[put(1, 0, 4, A), get(2, 5, 5, Value::Absent)]);
}

/// Keys that were there before: the first read says what they held, and all others must agree.
#[test]
fn an_unknown_beginning() {
    let judge = |lines: &[Line]| {
        let mut history = history(lines);
        history.start_unknown();
        linearizable(&history)
    };
    assert_eq!(judge(&[get(1, 0, 1, A), get(1, 2, 3, A)]), Verdict::Linearizable);
    assert_eq!(judge(&[put(1, 0, 9, A), get(2, 1, 2, B)]), Verdict::Linearizable);
    assert!(matches!(judge(&[get(1, 0, 1, A), get(1, 2, 3, B)]), Verdict::Violated(_)));
    assert!(matches!(judge(&[put(1, 0, 1, A), get(1, 2, 3, B)]), Verdict::Violated(_)));
}

/// Keys are judged apart, and the one that is wrong is named.
#[test]
fn the_wrong_key_is_named() {
    let mut history = History::new();
    for key in [b"a", b"b", b"c"] {
        let ticket = history.invoke(1, 0, key, Op::Get);
        let value = if key == b"b" { A } else { Value::Absent };
        history.reply(ticket, 1, Reply::Value(value));
    }
    let Verdict::Violated(witness) = linearizable(&history) else { panic!() };
    assert_eq!(witness.key, b"b");
}
