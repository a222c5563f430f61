//! What surrounds a statement while it runs: its time, its chance, what it may take, and why it was refused.
//!
//! SQLite calls back without telling for whom, on the thread that runs the statement; so it is kept by thread.

use std::cell::{Cell, RefCell};

use xxhash_rust::xxh3::xxh3_64;

use crate::trace::monotonic_ns;

use super::value::{Budget, Moment};
use super::vfs;

/// Instructions of SQLite's machine between two looks at the budget.
pub const STEPS_A_LOOK: u64 = 1000;

#[derive(Clone, Copy)]
struct State {
    random: u64,
    steps_left: u64,
    until_ns: u64,
    /// It changes the state, and not only looks at it.
    is_command: bool,
    /// A statement of our own.
    is_own: bool,
    /// Rows that this connection had changed before.
    changed_before: u64,
    /// What SQLite remembers beside the pages may have changed.
    touched_schema: bool,
}

thread_local! {
    static STATE: Cell<State> = const {
        Cell::new(State {
            random: 0,
            steps_left: 0,
            until_ns: 0,
            is_command: false,
            is_own: true,
            changed_before: 0,
            touched_schema: false,
        })
    };
    static REFUSED: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn change(change: impl FnOnce(&mut State)) {
    let mut state = STATE.get();
    change(&mut state);
    STATE.set(state);
}

/// A command or a query begins on this thread.
///
/// `changed_before`: rows that the connection has changed so far.
pub fn begin(moment: Moment, budget: Budget, is_command: bool, changed_before: u64) {
    vfs::set_now_ms((moment.time_us / 1000) as i64);
    STATE.set(State {
        random: moment.seed,
        steps_left: budget.steps,
        until_ns: budget.until_ns.unwrap_or(u64::MAX),
        is_command,
        is_own: false,
        changed_before,
        touched_schema: false,
    });
    REFUSED.take();
}

pub fn is_command() -> bool {
    STATE.get().is_command
}

/// Runs what is not the client's, without rules and budget.
pub fn as_own<T>(run: impl FnOnce() -> T) -> T {
    let before = STATE.get().is_own;
    change(|state| state.is_own = true);
    let result = run();
    change(|state| state.is_own = before);
    result
}

pub fn is_own() -> bool {
    STATE.get().is_own
}

pub fn changed_before() -> u64 {
    STATE.get().changed_before
}

pub fn note_schema() {
    change(|state| state.touched_schema = true);
}

pub fn has_touched_schema() -> bool {
    STATE.get().touched_schema
}

/// Some thousand instructions more have run. True if that is enough.
pub fn is_over_budget() -> bool {
    let state = STATE.get();
    if state.is_own {
        return false;
    }
    change(|state| state.steps_left = state.steps_left.saturating_sub(STEPS_A_LOOK));
    state.steps_left <= STEPS_A_LOOK
        || state.until_ns != u64::MAX && state.until_ns < monotonic_ns()
}

/// The next number by chance.
pub fn random() -> u64 {
    let state = STATE.get();
    change(|state| state.random = state.random.wrapping_add(1));
    xxh3_64(&state.random.to_le_bytes())
}

/// Says why a statement is not allowed; the first reason counts.
pub fn refuse(why: String) {
    REFUSED.with_borrow_mut(|refused| {
        refused.get_or_insert(why);
    });
}

pub fn take_refusal() -> Option<String> {
    REFUSED.take()
}
