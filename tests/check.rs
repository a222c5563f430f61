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
fn another(random: &mut Random, question: &Question) -> store::Reply {
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
    events[at] = Event::Reply(client, another(random, &asked.expect("replies follow questions")));
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
    for (mix, seed) in [(Mix::Register, 1), (Mix::Counter, 2), (Mix::All, 3)] {
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
    assert!(500 < wrong, "{wrong} wrong");
}

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Mix::Register => "register",
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
        (3, Shape { keys: 1, ..COUNTERS }),
        (5, Shape { keys: 1, unknown: 3, ..COUNTERS }),
    ] {
        let history = large_history(seed, shape, true);
        let verdict = linearizable(&history);
        let Verdict::Violated(witness) = verdict else { panic!("{shape:?}: {verdict:?}") };
        assert!((2..=4).contains(&witness.operations.len()), "{shape:?}: {witness:#?}");
    }
}
