//! What a message must keep to that its shape alone does not say, so that no number or list from outside
//! can do harm further in.

use crate::limits::{
    ACCEPTOR_AHEAD_SLOTS_MAX, NODES_MAX, SNAPSHOT_CHUNK_SIZE_MAX, SNAPSHOT_SIZE_MAX,
};
use crate::paxos::{Ballot, Message, NodeId, PValue, Slot, SnapshotId, StateStanding};
use crate::wire::WireError;

/// No cluster counts so far in its life, and counting on from here does not overflow.
const NUMBERS_END: u64 = 1 << 62;

/// A route goes over other nodes than its beginning, over each once.
pub(super) fn check_route(route: &[NodeId]) -> Result<(), WireError> {
    let again = |(at, node): (usize, &NodeId)| route[..at].contains(node);
    if NODES_MAX <= route.len() || route.iter().enumerate().any(again) {
        return Err(WireError::Malformed("a route goes over a node twice"));
    }
    Ok(())
}

/// A part of a snapshot lies within it, holds something, and fits a message.
pub(super) fn check_part(snapshot: SnapshotId, offset: u64, size: u64) -> Result<(), WireError> {
    let end = offset.checked_add(size);
    let within = end.is_some_and(|end| end <= snapshot.size);
    if within && 0 < size && size <= SNAPSHOT_CHUNK_SIZE_MAX as u64 {
        Ok(())
    } else {
        Err(WireError::Malformed("a part of a snapshot lies outside of it"))
    }
}

/// Rounds, slots and times are such as are counted on from.
pub(super) fn check_numbers(message: &Message) -> Result<(), WireError> {
    let (ballots, slots): (&[Ballot], &[Slot]) = match message {
        Message::HeartbeatReply { standing, .. } => {
            let StateStanding { snapshot, checkpoint } = standing.state;
            let checkpoint = checkpoint.map_or(Slot(0), |it| it.slot);
            (&[standing.ballot, standing.leader], &[standing.first_unchosen, snapshot, checkpoint])
        }
        Message::P1a { ballot, first_slot } => (&[*ballot], &[*first_slot]),
        Message::P1b(p1b) => {
            // What an acceptor can have accepted lies near what it knows to be chosen; the scout fills
            // the gaps, and must not be made to fill a large one.
            let known = p1b.first_unchosen.0.min(NUMBERS_END);
            let far = |p: &PValue| known + ACCEPTOR_AHEAD_SLOTS_MAX as u64 <= p.slot.0;
            if p1b.accepted.iter().any(far) {
                return Err(WireError::Malformed("a P1b's slots are too far ahead"));
            }
            if p1b.epochs.known_below() < p1b.first_unchosen {
                return Err(WireError::Malformed("a P1b lacks configurations"));
            }
            (&[p1b.ballot, p1b.promised], &[p1b.first_slot, p1b.end, p1b.first_unchosen])
        }
        Message::P2a { ballot, first_slot, first_unchosen, .. } => {
            (&[*ballot], &[*first_slot, *first_unchosen])
        }
        Message::P2b(p2b) => (&[p2b.ballot, p2b.promised], &[p2b.accepted_end]),
        Message::Commit { ballot, first_unchosen } => (&[*ballot], &[*first_unchosen]),
        Message::LearnRequest { first_slot } => (&[], &[*first_slot]),
        Message::Chosen { first_slot, first_unchosen, .. } => {
            (&[], &[*first_slot, *first_unchosen])
        }
        Message::SnapshotOffer { log_begin, first_unchosen, snapshot, .. } => {
            if let Some(snapshot) = snapshot {
                check_snapshot(*snapshot)?;
            }
            (&[], &[*log_begin, *first_unchosen])
        }
        Message::SnapshotRequest { snapshot, .. } | Message::SnapshotChunk { snapshot, .. } => {
            check_snapshot(*snapshot)?;
            (&[], &[])
        }
        Message::ReadIndexReply { read_slot, .. } => (&[], &[*read_slot]),
        Message::ConfirmAck { ballot, told_end, .. } => (&[*ballot], &[*told_end]),
        Message::LeaseRequest { asked_us, .. } if NUMBERS_END <= *asked_us => {
            return Err(WireError::Malformed("a time is out of all range"));
        }
        Message::LeaseGrant { asked_us, .. } if NUMBERS_END <= *asked_us => {
            return Err(WireError::Malformed("a time is out of all range"));
        }
        Message::LeaseGrant { ballot, told_end, .. } => (&[*ballot], &[*told_end]),
        Message::LeaseRequest { ballot, .. }
        | Message::LeaseRelease { ballot }
        | Message::Confirm { ballot, .. }
        | Message::TakeOver { ballot } => (&[*ballot], &[]),
        Message::QuorumReadReply { extent, .. } => {
            (&[extent.ballot], &[extent.end, extent.accepted_end])
        }
        Message::HeartbeatRequest { .. }
        | Message::QuorumRead { .. }
        | Message::Propose { .. }
        | Message::Configurations(_)
        | Message::Recorded { .. }
        | Message::ReadIndexRequest { .. } => (&[], &[]),
        Message::Relay { message, .. } => return check_numbers(message),
    };
    let sane = ballots.iter().all(|ballot| ballot.round < NUMBERS_END)
        && slots.iter().all(|slot| slot.0 < NUMBERS_END);
    if sane { Ok(()) } else { Err(WireError::Malformed("a slot or a round is out of all range")) }
}

fn check_snapshot(snapshot: SnapshotId) -> Result<(), WireError> {
    if snapshot.slot.0 < NUMBERS_END && (1..=SNAPSHOT_SIZE_MAX).contains(&snapshot.size) {
        Ok(())
    } else {
        Err(WireError::Malformed("a snapshot is out of all range"))
    }
}
