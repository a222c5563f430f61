//! Chosen values, read back from the log: for the store after a restart, and for a peer that lags.

use crate::limits;
use crate::mutants::{self, Mutant};
use crate::paxos::{
    Ballot, Batch, Configuration, Configurations, Epochs, LearnReply, NodeId, Slot,
};
use crate::store::{Applied, Store};
use crate::wal::{Disk, Wal};

use super::ServeError;

/// Where `Mutant::CorruptMemory` strikes.
const CORRUPTED_BEHIND: Slot = Slot(40);

/// A slot that was applied once more, and the store behind it.
#[cfg_attr(not(feature = "sim"), allow(dead_code))] // A server only counts; the simulator judges.
pub struct Replayed<'a> {
    pub slot: Slot,
    pub value: &'a [u8],
    pub applied: &'a [Applied],
    pub store: &'a Store,
}

/// Applies to `store`, as a snapshot has it or empty, all slots from there on that are below
/// `first_unchosen`; `done` hears of each.
pub fn replay_into<D: Disk>(
    mut store: Store,
    wal: &Wal<D>,
    first_unchosen: Slot,
    done: &mut dyn FnMut(Replayed<'_>),
) -> Result<Store, ServeError> {
    let mut applied = Vec::new();
    if mutants::is_on(Mutant::ApplyTwiceAfterSnapshot)
        && let Some((_, last)) = wal.read(store.applied())
    {
        store.apply_again(last);
    }
    for slot in (store.applied().next().0..first_unchosen.0).map(Slot) {
        let (_, value) = wal.read(slot).ok_or(ServeError::SlotMissing { slot: slot.0 })?;
        check_value(slot, value)?;
        store.apply_bytes(slot, value, &mut applied);
        if slot.next() == first_unchosen {
            break_on_purpose(&mut store, value);
        }
        done(Replayed { slot, value, applied: &applied, store: &store });
        applied.clear();
    }
    Ok(store)
}

/// What a node knows at start of the configurations: all that its data directory remembers, or `first` if it
/// is new, and what is chosen behind in the log, which begins at `log_begin`.
pub fn recover_configurations<D: Disk>(
    first: Configurations,
    remembered: impl IntoIterator<Item = Epochs>,
    wal: &Wal<D>,
    log_begin: Slot,
    first_unchosen: Slot,
) -> Result<Configurations, ServeError> {
    let mut remembered: Vec<Epochs> = remembered.into_iter().collect();
    remembered.sort_by_key(Epochs::known_below);
    let mut remembered = remembered.into_iter();
    let mut configurations = match remembered.next() {
        Some(epochs) => Configurations::of_epochs(epochs, first.alpha()),
        None => first,
    };
    // Between two that do not touch there may be slots that only members of the older one can tell of.
    remembered.for_each(|newer| {
        configurations.merge(&newer);
    });
    // An acceptor that keeps no state may have passed over slots. Its peers tell it what was chosen there.
    let first = configurations.known_below().max(Slot::FIRST).max(log_begin);
    let mut chosen = Vec::new();
    for slot in (first.0..first_unchosen.0).map(Slot) {
        let (_, value) = wal.read(slot).ok_or(ServeError::SlotMissing { slot: slot.0 })?;
        chosen.extend(Configuration::of_bytes(value).map(|configuration| (slot, configuration)));
    }
    if first < first_unchosen {
        configurations.on_values(first, first_unchosen, chosen);
    }
    Ok(configurations)
}

/// The log's checksums are right, or it would not have been opened. A value that nobody here has written
/// is refused all the same: behind this place nobody expects one.
pub fn check_value(slot: Slot, value: &[u8]) -> Result<(), ServeError> {
    match Batch::decode(value) {
        Some(_) => Ok(()),
        None => Err(ServeError::LogForeign { what: format!("slot {} holds no batch", slot.0) }),
    }
}

/// A bit of a replica's memory changes by itself, once.
pub fn corrupt_on_purpose(store: &mut Store, node: NodeId, slot: Slot) {
    if mutants::is_on(Mutant::CorruptMemory) && node == NodeId(2) && slot == CORRUPTED_BEHIND {
        store.corrupt();
    }
}

fn break_on_purpose(store: &mut Store, last: &[u8]) {
    if mutants::is_on(Mutant::ForgetSessions) {
        store.forget_sessions();
    }
    if mutants::is_on(Mutant::ApplyTwice) {
        store.apply_again(last);
    }
}

/// The values that answer a learner: at most `len_max`, and as many as fit a message.
pub fn learned_values<D: Disk>(
    wal: &Wal<D>,
    reply: LearnReply,
    len_max: usize,
) -> Result<Vec<(Ballot, &[u8])>, ServeError> {
    let (mut values, mut size, mut slot) = (Vec::new(), 0, reply.first_slot);
    while slot < reply.first_unchosen
        && values.len() < len_max
        && size < limits::MESSAGE_VALUES_SIZE_SOFT_MAX
    {
        let value: (Ballot, &[u8]) =
            wal.read(slot).ok_or(ServeError::SlotMissing { slot: slot.0 })?;
        size += value.1.len();
        values.push(value);
        slot = slot.next();
    }
    Ok(values)
}
