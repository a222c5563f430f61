//! Looks for an order of one key's operations that the model allows.
//!
//! The search is that of Wing and Gong with Lowe's memory ("Testing for linearizability", 2017): walk
//! forward in time, at each point choose one of the operations that may be next (invoked before the
//! first reply that is still to be explained), and go back where none fits. A point is what has been
//! ordered, as a set, and the state that it led to; a point met before is not entered again.
//!
//! What makes it fast on long histories, and why nothing is lost by it. Each says: if there is an
//! order from here, there is one that this rule leaves.
//!
//! 1. *Reads at once.* An operation whose reply says that it changed nothing, and that fits now, is
//!    taken now. In any order that has it later it can be moved here.
//! 2. *No way back.* A state that other replies still show, and that nothing left can produce again,
//!    is not left.
//! 3. *Unseen writes at once.* Of a key that is only put and read: when the present value has been
//!    shown to all who saw it, a write whose value nobody saw is taken now.
//! 4. *Unknown outcomes last and for a reason.* Take the order with the fewest of them. In it none is
//!    followed directly by a put (or it could be left out), and none is last. So one is only tried for
//!    the sake of what comes directly after it; and one whose value nobody saw, on a key where mere
//!    presence shows in no reply, is never tried. Equal ones are interchangeable: the one that was
//!    invoked first is taken first. So thousands of them cost next to nothing.
//! 5. *Better kept than used.* Of two points with the same known operations ordered and the same state,
//!    the one that has taken no unknown outcome which the other has not leaves at least as much.
//!
//! A point is remembered by a 128-bit hash. Should two of a billion points collide, by a chance of
//! about 1 in 10^20, an order could be missed.

// Looked up, never walked through: hash order is of no consequence.
#![allow(clippy::disallowed_types)]

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;

use super::model::{Op, Reply, Value, step};
use super::telling::{Telling, made_if_it_happened, makes, sees};
use super::values::{Same, Values, hash};
use super::{Operation, Outcome};

/// No position, no value.
const NONE: u32 = u32::MAX;

/// Looking at so many unknown outcomes counts as entering a point.
const GROUPS_A_POINT: u64 = 16;
/// Sets of unknown outcomes that are compared in the time of a point.
const TAKEN_A_POINT: u64 = 16;

/// How many points a search of so many operations may enter before it is given up.
pub fn budget(operations: usize) -> u64 {
    2_000_000 + 50 * operations as u64
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Order,
    NoOrder,
    GivenUp,
}

/// An operation with a reply.
struct Known {
    op: Op,
    reply: Reply,
    invoked: u64,
    replied: u64,
    /// The value that must be there before it, if it is one only; else `NONE`.
    sees: u32,
    /// The value that is there after it, if it changes any; else `NONE`.
    makes: u32,
    /// Its reply says that nothing was changed.
    is_read: bool,
}

/// Unknown outcomes that ask the same, in the order in which they were invoked.
struct Group {
    op: Op,
    makes: u32,
    invoked: Vec<u64>,
    taken: usize,
}

/// A search for an order; `run` once.
pub struct Search {
    known: Vec<Known>,
    groups: Vec<Group>,
    /// Invocations and replies of `known` in the order of time: 2 * operation, + 1 for its reply.
    events: Vec<u32>,
    /// Links between the events that are not ordered yet; the last one is the list's head.
    next: Vec<u32>,
    before: Vec<u32>,
    /// Where each operation's reply stands in `events`.
    reply_at: Vec<u32>,
    values: Values,
    /// Replies still to be explained that show the value, and operations left that can make it.
    seen: Vec<u32>,
    made: Vec<u32>,
    /// Unknown increments left, which can make any number.
    wild: u32,
    traits: Traits,
    state: Value,
    /// The last choice was an unknown outcome: something must show what it did.
    owes: bool,
    set: u128,
    /// Groups of which unknown outcomes are taken, in the order of their first.
    used: Vec<u32>,
    /// Points entered, by what known operations are ordered and the state; those with unknown outcomes
    /// taken also with how many of each group.
    visited: HashSet<u128, BuildHasherDefault<Same>>,
    visited_with: HashMap<u128, Vec<Taken>, BuildHasherDefault<Same>>,
    path: Vec<Frame>,
    /// The latest reply that no order came past.
    furthest: u64,
    entered: u64,
}

/// Groups, and how many of each.
type Taken = Box<[(u32, u32)]>;

/// What can occur on a key, and which rules therefore hold.
#[derive(Clone, Copy, Default)]
struct Traits {
    /// Only put and get.
    plain: bool,
    /// Some reply shows, or some unknown outcome depends on, more than one exact value.
    loose: bool,
    /// A number that is spelled otherwise: increments may see several values.
    numerals: bool,
    /// Only get and increments of one sign: no value ever comes back.
    one_way: bool,
}

struct Frame {
    choice: Choice,
    state: Value,
    owes: bool,
    /// Another choice could not do better: going back goes on past this one.
    forced: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// The event of its invocation.
    Known(u32),
    Unknown(u32),
}

/// Where among the choices of a point to go on.
#[derive(Clone, Copy)]
enum Cursor {
    Start,
    Known(u32),
    Unknown(u32),
}

impl Search {
    /// The operations of one key, and what it held before them.
    pub fn new(start: Value, operations: &[Operation]) -> Search {
        let mut values = Values::default();
        let mut known = Vec::with_capacity(operations.len());
        let mut unknown = Vec::new();
        for operation in operations {
            match operation.outcome {
                Outcome::Failed => {}
                Outcome::Unknown if operation.op == Op::Get => {}
                Outcome::Unknown => unknown.push((operation.op, operation.invoked)),
                Outcome::Replied { at, reply } => {
                    let (sees, makes) = (sees(operation.op, reply), makes(operation.op, reply));
                    known.push(Known {
                        op: operation.op,
                        reply,
                        invoked: operation.invoked,
                        replied: at,
                        sees: sees.map_or(NONE, |value| values.number(value)),
                        makes: makes.map_or(NONE, |value| values.number(value)),
                        is_read: makes.is_none(),
                    });
                }
            }
        }
        let traits = traits(&known, &unknown);
        let groups = groups(&known, unknown, &mut values);
        let mut seen = vec![0; values.len()];
        let mut made = vec![0; values.len()];
        for known in &known {
            count(&mut seen, known.sees, 1);
            count(&mut made, known.makes, 1);
        }
        let mut wild = 0;
        for group in &groups {
            count(&mut made, group.makes, group.invoked.len() as u32);
            wild += if group.makes == NONE { group.invoked.len() as u32 } else { 0 };
        }
        let events = events(&known);
        let mut reply_at = vec![0; known.len()];
        for (at, event) in events.iter().enumerate().filter(|(_, event)| *event % 2 == 1) {
            reply_at[(event / 2) as usize] = at as u32;
        }
        let head = events.len() as u32;
        Search {
            known,
            groups,
            next: (0..=head).map(|at| if at == head { 0 } else { at + 1 }).collect(),
            before: (0..=head).map(|at| if at == 0 { head } else { at - 1 }).collect(),
            events,
            reply_at,
            values,
            seen,
            made,
            wild,
            traits,
            state: start,
            owes: false,
            set: 0,
            used: Vec::new(),
            visited: HashSet::default(),
            visited_with: HashMap::default(),
            path: Vec::new(),
            furthest: 0,
            entered: 0,
        }
    }

    /// Searches until there is an order, or none is left, or `budget` points have been entered.
    pub fn run(&mut self, budget: u64) -> Found {
        let mut cursor = Cursor::Start;
        if self.shows_what_nobody_made() {
            return Found::NoOrder;
        }
        loop {
            let head = self.next[self.events.len()];
            if head as usize == self.events.len() {
                return Found::Order;
            }
            if let Some((choice, after, forced)) = self.choose(head, cursor) {
                if budget <= self.entered {
                    return Found::GivenUp;
                }
                self.entered += 1;
                self.take(choice, after, forced);
                if forced || self.enter() {
                    cursor = Cursor::Start;
                    continue;
                }
            }
            match self.go_back() {
                Some(on) => cursor = on,
                None => return Found::NoOrder,
            }
        }
    }

    /// Whether a reply shows a value that was not there at the beginning and that nothing can make.
    fn shows_what_nobody_made(&self) -> bool {
        if self.state == Value::Any || self.traits.numerals {
            return false;
        }
        let start = self.values.find(self.state);
        let unmade = |(value, (seen, made)): (usize, (&u32, &u32))| {
            0 < *seen && *made == 0 && start != Some(value as u32)
        };
        let all = self.seen.iter().zip(&self.made).enumerate();
        self.wild == 0 && all.into_iter().any(unmade)
    }

    /// The time of the latest reply that no order came past: what was invoked later had no part in
    /// that there is none.
    pub fn furthest(&self) -> u64 {
        self.furthest
    }

    /// How many points the search entered.
    pub fn entered(&self) -> u64 {
        self.entered
    }

    /// The next choice from `cursor` on: what to take, the state after it, whether it is forced.
    fn choose(&mut self, head: u32, cursor: Cursor) -> Option<(Choice, Value, bool)> {
        let mut at = match cursor {
            Cursor::Start => {
                if let Some(at) = self.forced(head) {
                    let known = &self.known[(self.events[at as usize] / 2) as usize];
                    let after = step(self.state, known.op, Some(known.reply));
                    return Some((Choice::Known(at), after.expect("it fits"), true));
                }
                head
            }
            Cursor::Known(at) => at,
            Cursor::Unknown(group) => return self.choose_unknown(head, group),
        };
        let stays = self.must_stay();
        while self.is_invocation(at) {
            let known = &self.known[(self.events[at as usize] / 2) as usize];
            let blind = matches!(known.op, Op::Put(_));
            if !(self.owes && blind)
                && let Some(after) = step(self.state, known.op, Some(known.reply))
            {
                let leaves = after != self.state;
                // What it sees itself need not be seen after it.
                let last = stays.is_some_and(|(value, count)| known.sees == value && count == 1);
                if !(leaves && stays.is_some() && !last) {
                    return Some((Choice::Known(at), after, false));
                }
            }
            at = self.next[at as usize];
        }
        // `at` is the first reply that is to be explained and is not.
        self.furthest = self.furthest.max(self.time(at));
        self.choose_unknown(head, 0)
    }

    /// An operation that can be taken now without a loss: rules 1 and 3.
    fn forced(&self, head: u32) -> Option<u32> {
        let over = self.traits.plain
            && !self.owes
            && self.state != Value::Any
            && self.values.find(self.state).is_none_or(|value| self.seen[value as usize] == 0);
        let mut at = head;
        while self.is_invocation(at) {
            let known = &self.known[(self.events[at as usize] / 2) as usize];
            let after = || step(self.state, known.op, Some(known.reply));
            // A reply that is not of its operation's kind fits nowhere.
            let unseen = over
                && known.makes != NONE
                && self.seen[known.makes as usize] == 0
                && after().is_some();
            // On an unknown beginning a read decides what that was.
            let fits = known.is_read && after() == Some(self.state);
            if unseen || fits {
                return Some(at);
            }
            at = self.next[at as usize];
        }
        None
    }

    /// Rule 2: the present value, and how many replies still show it, if it must not be left before
    /// those are explained.
    fn must_stay(&self) -> Option<(u32, u32)> {
        if self.traits.numerals && self.state.number().is_some() {
            return None;
        }
        let value = self.values.find(self.state)?;
        let (seen, made) = (self.seen[value as usize], self.made[value as usize]);
        let again = 0 < made || (0 < self.wild && self.state.number().is_some());
        let again = again && !self.traits.one_way;
        (0 < seen && !again).then_some((value, seen))
    }

    /// Rule 4: an unknown outcome for whose sake something can come directly after it.
    fn choose_unknown(&mut self, head: u32, from: u32) -> Option<(Choice, Value, bool)> {
        if self.groups.is_empty() || self.must_stay().is_some() {
            return None;
        }
        let mut end = head;
        while self.is_invocation(end) {
            end = self.next[end as usize];
        }
        let limit = self.time(end);
        // Where there are thousands of them, to look through them is what takes the time.
        self.entered += (self.groups.len() as u64 - u64::from(from)) / GROUPS_A_POINT;
        for index in from..self.groups.len() as u32 {
            let group = &self.groups[index as usize];
            let blind = matches!(group.op, Op::Put(_));
            if group.invoked.get(group.taken).is_none_or(|&invoked| limit < invoked)
                || (self.owes && blind)
                || !self.is_wanted(head, group)
            {
                continue;
            }
            let after = step(self.state, group.op, None).expect("it may do whatever it does");
            if after != self.state {
                return Some((Choice::Unknown(index), after, false));
            }
        }
        None
    }

    /// Whether something that may be next can depend on what the group makes.
    fn is_wanted(&self, head: u32, group: &Group) -> bool {
        if self.traits.loose || group.makes == NONE {
            return true;
        }
        if self.seen[group.makes as usize] == 0 {
            return false;
        }
        let mut at = head;
        while self.is_invocation(at) {
            if self.known[(self.events[at as usize] / 2) as usize].sees == group.makes {
                return true;
            }
            at = self.next[at as usize];
        }
        false
    }

    fn take(&mut self, choice: Choice, after: Value, forced: bool) {
        let (state, owes) = (self.state, self.owes);
        self.path.push(Frame { choice, state, owes, forced });
        match choice {
            Choice::Known(at) => {
                let number = self.events[at as usize] / 2;
                let known = &self.known[number as usize];
                uncount(&mut self.seen, known.sees, 1);
                uncount(&mut self.made, known.makes, 1);
                self.unlink(at);
                self.unlink(self.reply_at[number as usize]);
                self.set ^= hash(u64::from(number));
            }
            Choice::Unknown(index) => {
                let group = &mut self.groups[index as usize];
                if group.taken == 0 {
                    self.used.push(index);
                }
                group.taken += 1;
                uncount(&mut self.made, group.makes, 1);
                self.wild -= u32::from(group.makes == NONE);
            }
        }
        self.state = after;
        self.owes = matches!(choice, Choice::Unknown(_));
    }

    /// Undoes choices up to the last that was one; where to go on there.
    fn go_back(&mut self) -> Option<Cursor> {
        loop {
            let frame = self.path.pop()?;
            self.state = frame.state;
            self.owes = frame.owes;
            let on = match frame.choice {
                Choice::Known(at) => {
                    let number = self.events[at as usize] / 2;
                    let known = &self.known[number as usize];
                    count(&mut self.seen, known.sees, 1);
                    count(&mut self.made, known.makes, 1);
                    // In the reverse order of `take`, or the links would not fit.
                    self.link(self.reply_at[number as usize]);
                    self.link(at);
                    self.set ^= hash(u64::from(number));
                    Cursor::Known(self.next[at as usize])
                }
                Choice::Unknown(index) => {
                    let group = &mut self.groups[index as usize];
                    group.taken -= 1;
                    if group.taken == 0 {
                        self.used.pop();
                    }
                    count(&mut self.made, group.makes, 1);
                    self.wild += u32::from(group.makes == NONE);
                    Cursor::Unknown(index + 1)
                }
            };
            if !frame.forced {
                return Some(on);
            }
        }
    }

    /// Whether the point we are at is worth entering; notes it. Not if it was entered before with the
    /// same unknown outcomes taken or fewer: whatever can follow now could follow then (rule 5).
    fn enter(&mut self) -> bool {
        let point = self.point();
        if self.visited.contains(&point) {
            return false;
        }
        // On a counter with one kind of increment the state tells how many of them are taken.
        if self.used.is_empty() || (self.traits.one_way && self.groups.len() == 1) {
            return self.visited.insert(point);
        }
        let before = self.visited_with.entry(point).or_default();
        // Each of them is looked through, and there may be thousands.
        self.entered += before.len() as u64 / TAKEN_A_POINT;
        let groups = &self.groups;
        let no_more =
            |(group, count): &(u32, u32)| *count as usize <= groups[*group as usize].taken;
        if before.iter().any(|taken| taken.iter().all(no_more)) {
            return false;
        }
        let taken = self.used.iter().map(|&group| (group, groups[group as usize].taken as u32));
        before.push(taken.collect());
        true
    }

    /// The hash of the known operations that are ordered and of the state that all led to.
    fn point(&self) -> u128 {
        let (kind, content) = match self.state {
            Value::Absent => (1, 0),
            Value::Integer(number) => (2, number as u64),
            Value::Numeral { number, spelling } => (3 | u64::from(spelling) << 8, number as u64),
            Value::Bytes(fingerprint) => (4, fingerprint),
            Value::Any => (5, 0),
        };
        let state = hash(content).wrapping_add(hash(!(kind | u64::from(self.owes) << 48)));
        self.set ^ state.rotate_left(64)
    }

    /// Whether an event is an invocation that is not ordered; else it is a reply or the list's head.
    fn is_invocation(&self, at: u32) -> bool {
        self.events.get(at as usize).is_some_and(|event| event % 2 == 0)
    }

    /// The time of a reply; after the last, the end of time.
    fn time(&self, at: u32) -> u64 {
        self.events.get(at as usize).map_or(u64::MAX, |e| self.known[(e / 2) as usize].replied)
    }

    fn unlink(&mut self, at: u32) {
        let (before, next) = (self.before[at as usize], self.next[at as usize]);
        self.next[before as usize] = next;
        self.before[next as usize] = before;
    }

    fn link(&mut self, at: u32) {
        let (before, next) = (self.before[at as usize], self.next[at as usize]);
        self.next[before as usize] = at;
        self.before[next as usize] = at;
    }
}

fn traits(known: &[Known], unknown: &[(Op, u64)]) -> Traits {
    let mut traits = Traits { plain: true, ..Traits::default() };
    let (mut up, mut down) = (true, true);
    let mut note = |op: Op, reply: Option<Reply>| {
        up &= op == Op::Get || matches!(op, Op::Incr(1..));
        down &= op == Op::Get || matches!(op, Op::Incr(..0));
        traits.plain &= matches!(op, Op::Get | Op::Put(_));
        traits.loose |= match reply {
            None => !matches!(op, Op::Put(_)),
            Some(reply) => sees(op, reply).is_none() && !matches!(op, Op::Put(_)),
        };
        let values = match op {
            Op::Put(value) | Op::Create(value) | Op::Update(value) => [value, Value::Absent],
            Op::Cas { expect, value } => [expect, value],
            _ => [Value::Absent; 2],
        };
        let shown = match reply {
            Some(Reply::Value(value) | Reply::Mismatch(value)) => value,
            _ => Value::Absent,
        };
        let is_numeral = |value: &Value| matches!(value, Value::Numeral { .. });
        traits.numerals |= values.iter().chain([&shown]).any(is_numeral);
    };
    known.iter().for_each(|it| note(it.op, Some(it.reply)));
    unknown.iter().for_each(|(op, _)| note(*op, None));
    // An increment may have seen one spelling of its number or another.
    traits.loose |= traits.numerals && !traits.plain;
    traits.one_way = up || down;
    traits
}

/// The unknown outcomes that may matter, equal ones together.
fn groups(known: &[Known], unknown: Vec<(Op, u64)>, values: &mut Values) -> Vec<Group> {
    if unknown.is_empty() {
        return Vec::new();
    }
    let mut telling = Telling::default();
    known.iter().for_each(|it| telling.note(it.op, Some(it.reply)));
    unknown.iter().for_each(|(op, _)| telling.note(*op, None));
    let mut groups: Vec<Group> = Vec::new();
    let mut places: HashMap<Op, usize> = HashMap::new();
    for (op, invoked) in unknown.into_iter().filter(|(op, _)| telling.of(*op)) {
        let place = *places.entry(op).or_insert(groups.len());
        if place == groups.len() {
            let makes = made_if_it_happened(op).map_or(NONE, |value| values.number(value));
            groups.push(Group { op, makes, invoked: Vec::new(), taken: 0 });
        }
        groups[place].invoked.push(invoked);
    }
    groups.iter_mut().for_each(|group| group.invoked.sort_unstable());
    groups
}

fn events(known: &[Known]) -> Vec<u32> {
    assert!(known.len() < (NONE / 2) as usize, "so many operations do not fit in memory");
    let mut events: Vec<u32> = (0..2 * known.len() as u32).collect();
    events.sort_unstable_by_key(|&event| {
        let known = &known[(event / 2) as usize];
        // At one time invocations come first: they overlap with what ends then.
        let (time, is_reply) = if event % 2 == 0 { (known.invoked, 0) } else { (known.replied, 1) };
        (time, is_reply, event)
    });
    events
}

fn count(counts: &mut [u32], value: u32, by: u32) {
    if value != NONE {
        counts[value as usize] += by;
    }
}

fn uncount(counts: &mut [u32], value: u32, by: u32) {
    if value != NONE {
        counts[value as usize] -= by;
    }
}
