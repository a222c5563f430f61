//! The checker of histories against another one, and against histories whose verdict is known from how
//! they were made.
//!
//! A checker that says "well" to everything looks the same as a good one for as long as the store is
//! well, so wrong histories matter as much here as right ones.

use std::collections::BTreeMap;

use loggos::check::{History, Op, Reply, Value, Verdict, linearizable};
use loggos::store::{self, Command, Failure};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

/// SplitMix64: the same numbers everywhere, for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// What a client asks: `None` is a get.
type Question = Option<Command<'static>>;

/// One key, in words of its own: neither the store's code nor the model of the checker.
#[derive(Clone, Debug, Default, PartialEq)]
struct Key(Option<&'static str>);

const VALUES: [&str; 6] = ["x", "y", "1", "2", "02", "9223372036854775807"];
const DISTINCT: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
const SUMS: [&str; 12] =
    ["-2", "-1", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9223372036854775806"];

impl SequentialSpec for Key {
    type Op = Question;
    type Ret = store::Reply;

    fn invoke(&mut self, question: &Question) -> store::Reply {
        let text = |bytes: &'static [u8]| std::str::from_utf8(bytes).unwrap();
        let Some(command) = *question else {
            return store::Reply::Value(self.0.map(|value| value.as_bytes().to_vec()));
        };
        match (command, self.0) {
            (Command::Create { .. }, Some(_)) => return store::Reply::Failed(Failure::Exists),
            (Command::Update { .. } | Command::Delete { .. }, None) => {
                return store::Reply::Failed(Failure::NotFound);
            }
            (Command::Cas { expect, .. }, present) if expect != present.map(str::as_bytes) => {
                let present = present.map(|value| value.as_bytes().to_vec());
                return store::Reply::Failed(Failure::Mismatch { present });
            }
            (Command::Delete { .. }, _) => self.0 = None,
            (Command::Incr { by, .. }, present) => {
                let Ok(number) = present.unwrap_or("0").parse::<i64>() else {
                    return store::Reply::Failed(Failure::NotAnInteger);
                };
                let Some(sum) = number.checked_add(by) else {
                    return store::Reply::Failed(Failure::Overflow);
                };
                let written = sum.to_string();
                self.0 = Some(known_text(&written));
                return store::Reply::Integer(sum);
            }
            (
                Command::Put { value, .. }
                | Command::Create { value, .. }
                | Command::Update { value, .. }
                | Command::Cas { value, .. },
                _,
            ) => self.0 = Some(text(value)),
            _ => unreachable!("none is drawn here"),
        }
        store::Reply::Done
    }

    /// The checker does not tell why an increment was refused (no integer, or too large a sum).
    fn is_valid_step(&mut self, question: &Question, reply: &store::Reply) -> bool {
        Reply::of_reply(&self.invoke(question)) == Reply::of_reply(reply)
    }
}

/// A number as a text that lives for ever.
fn known_text(written: &str) -> &'static str {
    let known = SUMS.iter().chain(&VALUES).find(|text| **text == written);
    known.copied().unwrap_or_else(|| String::leak(written.to_owned()))
}

/// What a random history is made of.
#[derive(Clone, Copy, PartialEq)]
enum Mix {
    /// Put and get of few values.
    Register,
    /// Put and get, hardly a value twice.
    Distinct,
    /// Increments and gets.
    Counter,
    /// Everything.
    All,
}

fn question(random: &mut Random, mix: Mix) -> Question {
    let key: &[u8] = b"k";
    let value = random.pick(&VALUES).as_bytes();
    let by = random.pick(&[1, 1, 2, -1]);
    Some(match (mix, random.below(10)) {
        (_, 0..3) => return None,
        (Mix::Register, _) => Command::Put { key, value },
        (Mix::Distinct, _) => Command::Put { key, value: random.pick(&DISTINCT).as_bytes() },
        (Mix::Counter, _) => Command::Incr { key, by },
        (Mix::All, 3..5) => Command::Put { key, value },
        (Mix::All, 5) => Command::Create { key, value },
        (Mix::All, 6) => Command::Update { key, value },
        (Mix::All, 7) => Command::Delete { key },
        (Mix::All, 8) => Command::Incr { key, by },
        (Mix::All, _) => {
            let expect = random.pick(&[None, Some("x"), Some("y"), Some("1")]);
            Command::Cas { key, expect: expect.map(str::as_bytes), value }
        }
    })
}

/// Another reply that some state would have given to the same question.
fn another(random: &mut Random, question: &Question, seen: &[Event]) -> store::Reply {
    // Something that was put is more to the point than anything else.
    let put = seen.iter().filter_map(|event| match event {
        Event::Invoke(_, Some(Command::Put { value, .. })) => std::str::from_utf8(value).ok(),
        _ => None,
    });
    let put: Vec<&'static str> = put.collect();
    if !put.is_empty() && random.one_in(2) {
        return Key(Some(random.pick(&put))).invoke(question);
    }
    let mut state =
        Key(random.pick(&[None, Some("x"), Some("y"), Some("1"), Some("2"), Some("02")]));
    state.invoke(question)
}

/// One event of a history, in the order of time.
#[derive(Clone, Debug)]
enum Event {
    Invoke(u64, Question),
    Reply(u64, store::Reply),
}

/// A history that a single copy of the key really gave, then perhaps falsified.
fn random_history(random: &mut Random, mix: Mix, start: Option<&'static str>) -> Vec<Event> {
    enum Client {
        Idle,
        Asked(Question),
        Served(store::Reply),
    }
    let mut state = Key(start);
    let mut events: Vec<Event> = Vec::new();
    let mut clients: Vec<(u64, Client)> = (0..3).map(|id| (id, Client::Idle)).collect();
    let mut next_client = 3;
    let mut left = 1 + random.below(7);
    loop {
        let at = random.below(3) as usize;
        let (id, client) = &mut clients[at];
        let gone = random.one_in(8);
        let then = match std::mem::replace(client, Client::Idle) {
            Client::Idle if left == 0 => break,
            Client::Idle => {
                left -= 1;
                let question = question(random, mix);
                events.push(Event::Invoke(*id, question));
                Client::Asked(question)
            }
            // A client that gets no reply does not come back; another one comes.
            Client::Asked(question) if gone => {
                if random.one_in(2) {
                    state.invoke(&question);
                }
                (*id, next_client) = (next_client, next_client + 1);
                Client::Idle
            }
            Client::Asked(question) => Client::Served(state.invoke(&question)),
            Client::Served(reply) => {
                events.push(Event::Reply(*id, reply));
                Client::Idle
            }
        };
        *client = then;
    }
    for _ in 0..random.below(5) {
        falsify(random, &mut events);
    }
    events
}

fn falsify(random: &mut Random, events: &mut [Event]) {
    if events.is_empty() {
        return;
    }
    let at = random.below(events.len() as u64) as usize;
    let Event::Reply(client, _) = events[at] else { return };
    let asked = events[..at].iter().rev().find_map(|event| match event {
        Event::Invoke(id, question) if *id == client => Some(*question),
        _ => None,
    });
    let asked = asked.expect("replies follow questions");
    events[at] = Event::Reply(client, another(random, &asked, events));
}

/// The verdict of the other checker.
fn stateright(events: &[Event], start: Option<&'static str>) -> bool {
    let mut tester = LinearizabilityTester::new(Key(start));
    for event in events {
        match event {
            Event::Invoke(client, question) => tester.on_invoke(*client, *question).unwrap(),
            Event::Reply(client, reply) => tester.on_return(*client, reply.clone()).unwrap(),
        };
    }
    tester.is_consistent()
}

fn history(events: &[Event]) -> History {
    let mut history = History::new();
    let mut open = BTreeMap::new();
    for (time, event) in (0..).zip(events) {
        match event {
            Event::Invoke(client, question) => {
                let (key, op) = match question {
                    Some(command) => Op::of_command(command),
                    None => (&b"k"[..], Op::Get),
                };
                open.insert(*client, history.invoke(*client, time, key, op));
            }
            Event::Reply(client, reply) => {
                let ticket = open.remove(client).unwrap();
                history.reply(ticket, time, Reply::of_reply(reply).unwrap());
            }
        }
    }
    history
}

fn ours(history: &History) -> bool {
    match linearizable(history) {
        Verdict::Linearizable => true,
        Verdict::Violated(_) => false,
        Verdict::Undecided { .. } => panic!("so few operations are always decided"),
    }
}

/// Tens of thousands of small random histories, right and wrong ones: two checkers that share no line
/// must agree on every one.
#[test]
fn another_checker_agrees() {
    let (mut right, mut wrong) = (0, 0);
    for (mix, seed) in [(Mix::Register, 1), (Mix::Counter, 2), (Mix::All, 3), (Mix::Distinct, 5)] {
        let mut random = Random(seed);
        for number in 0..20_000 {
            let events = random_history(&mut random, mix, None);
            let expected = stateright(&events, None);
            assert_eq!(ours(&history(&events)), expected, "{mix} {number}: {events:?}");
            *(if expected { &mut right } else { &mut wrong }) += 1;
        }
    }
    assert!(10_000 < right && 4_000 < wrong, "{right} right, {wrong} wrong");
}

/// Keys of which nobody knows what they held: right if and only if some beginning makes it right.
#[test]
fn another_checker_agrees_on_unknown_beginnings() {
    let starts = [None, Some("x"), Some("y"), Some("1"), Some("2"), Some("02")];
    let mut random = Random(4);
    let mut wrong = 0;
    for number in 0..4_000 {
        let mix = random.pick(&[Mix::Register, Mix::Counter]);
        let start = random.pick(&starts);
        let events = random_history(&mut random, mix, start);
        let numbers = (-9..=9).map(|number: i64| Some(known_text(&number.to_string())));
        let large = VALUES.iter().map(|value| Some(*value));
        let expected = starts
            .iter()
            .copied()
            .chain(numbers)
            .chain(large)
            .any(|start| stateright(&events, start));
        let mut history = history(&events);
        history.start_unknown();
        let found = ours(&history);
        // That an increment was refused, the model forgets where nothing is known: then it is lenient.
        let refused =
            events.iter().any(|it| matches!(it, Event::Reply(_, store::Reply::Failed(_))));
        assert!(found == expected || (refused && found), "{mix} {number}: {events:?}");
        wrong += u64::from(!found);
    }
    assert!(400 < wrong, "{wrong} wrong");
}

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Mix::Register => "register",
            Mix::Distinct => "distinct",
            Mix::Counter => "counter",
            Mix::All => "all",
        })
    }
}

/// The shape of a large random history.
#[derive(Clone, Copy, Debug)]
struct Shape {
    operations: u64,
    keys: u64,
    clients: u64,
    /// Shares in percent; the rest are puts.
    reads: u64,
    increments: u64,
    /// One in so many gets no reply.
    unknown: u64,
}

/// What clients of a single copy saw, each asking one thing after the other. `spoil`: one reply, given
/// late in the history, shows something that was overwritten long before.
fn large_history(seed: u64, shape: Shape, spoil: bool) -> History {
    let mut random = Random(seed);
    let mut history = History::new();
    let names: Vec<String> = (0..shape.keys).map(|key| format!("bench/key{key:08}")).collect();
    // What each key holds, and what it held many writes ago.
    let mut state = vec![(Value::Absent, Value::Absent, 0); shape.keys as usize];
    // Per client, when it asks next. The heap's order is the order of taking effect.
    let mut queue: std::collections::BinaryHeap<_> =
        (0..shape.clients).map(|client| std::cmp::Reverse((client, client))).collect();
    let mut next_client = shape.clients;
    let mut spoiled = !spoil;
    for number in 0..shape.operations {
        let std::cmp::Reverse((effect, client)) = queue.pop().unwrap();
        let from = effect - random.below(500).min(effect);
        let to = effect + random.below(500);
        let key = random.below(shape.keys) as usize;
        let (held, old, writes) = &mut state[key];
        let kind = random.below(100);
        let lost = random.one_in(shape.unknown);
        let happens = !lost || random.one_in(2);
        let (op, reply, after) = if kind < shape.reads {
            (Op::Get, Reply::Value(*held), *held)
        } else if kind < shape.reads + shape.increments {
            let sum = held.number().unwrap_or(0) + 1;
            (Op::Incr(1), Reply::Integer(sum), Value::Integer(sum))
        } else {
            (Op::Put(Value::Bytes(number)), Reply::Done, Value::Bytes(number))
        };
        let mut reply = reply;
        if !spoiled && !lost && op == Op::Get && 8 < *writes && shape.operations / 2 < number {
            (reply, spoiled) = (Reply::Value(*old), true);
        }
        if happens && *held != after {
            if *writes == 1 {
                *old = after;
            }
            (*held, *writes) = (after, *writes + 1);
        }
        let ticket = history.invoke(client, from, names[key].as_bytes(), op);
        // One that got no reply may take effect later; here, it has or it never does.
        let again = if lost {
            next_client += 1;
            next_client - 1
        } else {
            history.reply(ticket, to, reply);
            client
        };
        queue.push(std::cmp::Reverse((to + 500 + random.below(300), again)));
    }
    assert!(spoiled, "no read could be spoiled");
    history
}

/// What clients of a single copy of one key saw, who asked everything that can be asked.
fn large_mixed_history(seed: u64, clients: u64, unknown: u64, wrong: bool) -> History {
    let mut random = Random(seed);
    let mut history = History::new();
    let mut state = Key(None);
    let mut old: Option<&'static [u8]> = None;
    let mut queue: std::collections::BinaryHeap<_> =
        (0..clients).map(|client| std::cmp::Reverse((client, client))).collect();
    let mut next_client = clients;
    for number in 0..2_000 {
        let std::cmp::Reverse((effect, client)) = queue.pop().unwrap();
        let from = effect - random.below(500).min(effect);
        let to = effect + random.below(500);
        let key: &[u8] = b"k";
        // Half of what is put is told from everything else, half is not.
        let value = match random.below(2) {
            0 => String::leak(format!("v{number}")).as_bytes(),
            _ => random.pick(&VALUES).as_bytes(),
        };
        let question = match random.below(8) {
            0 | 1 => None,
            2 => Some(Command::Put { key, value }),
            3 => Some(Command::Create { key, value }),
            4 => Some(Command::Update { key, value }),
            5 => Some(Command::Delete { key }),
            6 => Some(Command::Incr { key, by: 1 }),
            _ => Some(Command::Cas { key, expect: state.0.map(str::as_bytes), value }),
        };
        let lost = random.one_in(unknown);
        let mut reply = None;
        if !lost || random.one_in(2) {
            reply = Some(state.invoke(&question)).filter(|_| !lost);
        }
        if let (None, Some(Command::Put { value: put @ [b'v', ..], .. }), 100.., false) =
            (old, question, number, lost)
        {
            old = Some(put);
        }
        if wrong && number == 1_500 {
            // The key holds what it has not held for long.
            reply = Some(store::Reply::Failed(Failure::Mismatch {
                present: Some(old.unwrap().to_vec()),
            }));
        }
        let question = match wrong && number == 1_500 {
            true => Some(Command::Cas { key, expect: None, value }),
            false => question,
        };
        let op = question.as_ref().map_or(Op::Get, |command| Op::of_command(command).1);
        let ticket = history.invoke(client, from, key, op);
        let mut again = client;
        match reply {
            Some(reply) => history.reply(ticket, to, Reply::of_reply(&reply).unwrap()),
            None => (again, next_client) = (next_client, next_client + 1),
        }
        queue.push(std::cmp::Reverse((to + 500 + random.below(300), again)));
    }
    history
}

/// Everything at once on one key, from many clients, with many lost replies.
#[test]
fn large_mixed_histories_are_decided() {
    for (seed, clients, unknown) in [(1, 4, 1000), (2, 16, 100), (3, 16, 20)] {
        let verdict = linearizable(&large_mixed_history(seed, clients, unknown, false));
        assert_eq!(verdict, Verdict::Linearizable, "{clients} clients, 1 in {unknown} lost");
        let verdict = linearizable(&large_mixed_history(seed, clients, unknown, true));
        assert!(
            matches!(verdict, Verdict::Violated(_)),
            "{clients} clients, 1 in {unknown} lost: {verdict:?}"
        );
    }
}

const COUNTERS: Shape =
    Shape { operations: 20_000, keys: 200, clients: 64, reads: 20, increments: 80, unknown: 50 };
const REGISTERS: Shape = Shape { increments: 0, reads: 50, ..COUNTERS };

/// Long histories of many clients, with many lost replies, down to a single hot key.
#[test]
fn large_histories_are_decided() {
    for (seed, shape) in [
        (1, COUNTERS),
        (2, REGISTERS),
        (3, Shape { keys: 1, ..COUNTERS }),
        (4, Shape { keys: 1, ..REGISTERS }),
        (5, Shape { keys: 1, unknown: 3, ..COUNTERS }),
        (6, Shape { keys: 1, unknown: 3, ..REGISTERS }),
        (7, Shape { keys: 3, reads: 5, ..REGISTERS }),
    ] {
        let history = large_history(seed, shape, false);
        assert_eq!(linearizable(&history), Verdict::Linearizable, "{shape:?}");
    }
}

/// One stale reply among thousands is found, and shown by a handful of operations.
#[test]
fn one_wrong_reply_in_a_large_history_is_found() {
    for (seed, shape) in [
        (1, COUNTERS),
        (2, REGISTERS),
        (3, Shape { keys: 1, operations: 5_000, ..COUNTERS }),
        (4, Shape { keys: 1, ..REGISTERS }),
        (5, Shape { keys: 1, operations: 5_000, unknown: 3, ..COUNTERS }),
        (6, Shape { keys: 1, unknown: 3, ..REGISTERS }),
    ] {
        let history = large_history(seed, shape, true);
        let verdict = linearizable(&history);
        let Verdict::Violated(witness) = verdict else { panic!("{shape:?}: {verdict:?}") };
        assert!((2..=4).contains(&witness.operations.len()), "{shape:?}: {witness:#?}");
    }
}

mod command_line {
    use std::path::Path;
    use std::process::{Command, Output};

    use loggos::check::file::{Clock, Writer};
    use loggos::check::{Op, Operation, Outcome, Reply, Value};

    const CLOCK: Clock = Clock { boot: [1; 16], wall_ns: 5_000, monotonic_ns: 0, error_ns: 0 };
    const A: Value = Value::Integer(1);
    const B: Value = Value::Integer(2);

    fn check(arguments: &[&str], dir: &Path) -> (Option<i32>, String, String) {
        let binary = env!("CARGO_BIN_EXE_loggos");
        let Output { status, stdout, stderr } =
            Command::new(binary).arg("check").args(arguments).current_dir(dir).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }

    fn operation(client: u64, op: Op, invoked: u64, at: u64, reply: Reply) -> Operation {
        Operation { client, key: 0, op, invoked, outcome: Outcome::Replied { at, reply } }
    }

    fn write(path: &Path, clock: &Clock, operations: &[Operation]) {
        let mut writer = Writer::new(Vec::new(), clock, false).unwrap();
        writer.key(b"some/key").unwrap();
        for operation in operations {
            writer.operation(operation, 0).unwrap();
        }
        std::fs::write(path, writer.finish().unwrap()).unwrap();
    }

    /// One client puts, another reads: each file alone says nothing, together they are right or wrong.
    #[test]
    fn histories_are_judged_together() {
        let dir = tempfile::tempdir().unwrap();
        let traces = dir.path().join("traces");
        std::fs::create_dir(&traces).unwrap();
        let puts = [
            operation(0, Op::Put(A), 10_000, 20_000, Reply::Done),
            operation(0, Op::Put(B), 30_000, 40_000, Reply::Done),
        ];
        write(&traces.join("one.history"), &CLOCK, &puts);
        let get = |value| [operation(0, Op::Get, 50_000, 60_000, Reply::Value(value))];
        write(&traces.join("two.history"), &CLOCK, &get(B));
        let (code, out, err) = check(&["."], dir.path());
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        assert_eq!(
            out,
            "histories: 2 files, 3 operations on 1 keys, 0 without a reply\n\
             linearizable: yes, every key\n"
        );

        write(&traces.join("two.history"), &CLOCK, &get(A));
        let (code, out, err) = check(&["."], dir.path());
        assert_eq!((code, err.as_str()), (Some(5), ""), "{out}");
        let expected = "\
histories: 2 files, 3 operations on 1 keys, 0 without a reply
linearizable: NO, not 1 of the keys
key some/key
  3 of its 3 operations have no order; in ms from 0.000010000 s:
       0.000      0.010      1.0 put 1 -> done                 |--|
       0.020      0.030      1.0 put 2 -> done                       |--|
       0.040      0.050      2.0 get -> 1                                  |---|
";
        assert_eq!(out, expected);
        let (code, out, _) =
            check(&["--json", "traces/one.history", "traces/two.history"], dir.path());
        assert_eq!(code, Some(5));
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(json["verdict"], "violated");
        assert_eq!(json["histories"]["violated"], 1);
        assert_eq!(json["histories"]["witnesses"][0][0], "key some/key");
    }

    /// Of two machines the wall clock counts, and is not trusted beyond what it may be wrong.
    #[test]
    fn clocks_of_several_machines() {
        let dir = tempfile::tempdir().unwrap();
        let there = Clock { boot: [2; 16], wall_ns: 1_000_005_000, ..CLOCK };
        write(
            &dir.path().join("here.history"),
            &CLOCK,
            &[operation(0, Op::Put(A), 10_000, 20_000, Reply::Done)],
        );
        let get = operation(0, Op::Get, 10_000, 20_000, Reply::Value(Value::Absent));
        write(&dir.path().join("there.history"), &there, &[get]);
        let (code, _, err) = check(&["."], dir.path());
        assert_eq!(code, Some(2));
        assert!(err.contains("--clock-error"), "{err}");
        // A second later by the wall clock nothing was there; which is wrong if clocks are good.
        assert_eq!(check(&[".", "--clock-error", "1ms"], dir.path()).0, Some(5));
        assert_eq!(check(&[".", "--clock-error", "1s"], dir.path()).0, Some(0));
    }

    #[test]
    fn what_cannot_be_decided_is_not_called_well() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.history");
        write(&path, &CLOCK, &[operation(0, Op::Get, 1, 2, Reply::Value(A))]);
        assert_eq!(check(&["a.history"], dir.path()).0, Some(5));
        // Perhaps the put that it read is in the part that is missing.
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let (code, out, _) = check(&["a.history"], dir.path());
        assert_eq!(code, Some(6));
        assert!(out.contains("undecided: a.history is cut short"), "{out}");
    }

    #[test]
    fn what_cannot_be_read_is_one_line() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x.history"), b"no history at all").unwrap();
        let missing = check(&["missing"], dir.path());
        let foreign = check(&["x.history"], dir.path());
        let empty = tempfile::tempdir().unwrap();
        let nothing = check(&["."], empty.path());
        for ((code, out, err), what) in
            [(missing, "missing"), (foreign, "no history"), (nothing, "no traces")]
        {
            assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
            assert!(err.starts_with("loggos: ") && err.contains(what), "{err}");
            assert_eq!(err.lines().count(), 1, "{err}");
        }
    }
}
