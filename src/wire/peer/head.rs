//! The heads of messages between nodes, as they are written.

use serde::{Deserialize, Serialize};

use crate::paxos::{Ballot, CommandId, Health, NodeId, Slot, SnapshotId};
use crate::wire::WireError;

#[derive(Serialize, Deserialize)]
pub(super) enum Head {
    HeartbeatRequest {
        round: u64,
    },
    HeartbeatReply {
        round: u64,
        ballot: Ballot,
        leader: Ballot,
        happy: bool,
        first_unchosen: Slot,
        epoch: u64,
        hears: Vec<NodeId>,
        route: Vec<NodeId>,
        /// The bits `DISK_STALLED`, `DISK_FULL` and `QUARANTINED`; no others.
        health: u8,
        snapshot: Slot,
        /// Slot and digest.
        checkpoint: Option<(Slot, u128)>,
    },
    P1a {
        ballot: Ballot,
        first_slot: Slot,
    },
    P1b {
        ballot: Ballot,
        promised: Ballot,
        first_slot: Slot,
        end: Slot,
        no_more_accepted: bool,
        first_unchosen: Slot,
        /// As `Epochs::to_bytes` writes them.
        epochs: Vec<u8>,
        /// Ballot, slot and size of each pvalue.
        accepted: Vec<(Ballot, Slot, u32)>,
        /// First slot of each run, and the slot after its last.
        unsure: Vec<(Slot, Slot)>,
    },
    P2a {
        ballot: Ballot,
        first_slot: Slot,
        first_unchosen: Slot,
        sizes: Vec<u32>,
    },
    P2b {
        ballot: Ballot,
        promised: Ballot,
        accepted_end: Slot,
        resend: bool,
    },
    Commit {
        ballot: Ballot,
        first_unchosen: Slot,
    },
    LearnRequest {
        first_slot: Slot,
    },
    Chosen {
        first_slot: Slot,
        first_unchosen: Slot,
        values: Vec<(Ballot, u32)>,
    },
    Propose {
        /// Id, `acknowledged` and size of each command.
        commands: Vec<(CommandId, u64, u32)>,
    },
    ReadIndexRequest {
        id: u64,
        lease: bool,
    },
    ReadIndexReply {
        id: u64,
        read_slot: Slot,
    },
    Confirm {
        ballot: Ballot,
        round: u64,
    },
    ConfirmAck {
        ballot: Ballot,
        round: u64,
        told_end: Slot,
    },
    LeaseRequest {
        ballot: Ballot,
        asked_us: u64,
        lease_us: u64,
    },
    LeaseGrant {
        ballot: Ballot,
        asked_us: u64,
        told_end: Slot,
    },
    LeaseRelease {
        ballot: Ballot,
    },
    QuorumRead {
        round: u64,
    },
    QuorumReadReply {
        round: u64,
        end: Slot,
        ballot: Ballot,
        accepted_end: Slot,
    },
    TakeOver {
        ballot: Ballot,
    },
    Configurations {
        epochs: Vec<u8>,
    },
    Relay {
        from: NodeId,
        route: Vec<NodeId>,
        /// The encoded head of the message inside: bytes, so that no hostile frame can make the
        /// decoder recurse.
        head: Vec<u8>,
    },
    SnapshotOffer {
        log_begin: Slot,
        first_unchosen: Slot,
        snapshot: Option<SnapshotId>,
        epochs: Vec<u8>,
    },
    SnapshotRequest {
        snapshot: SnapshotId,
        offset: u64,
        size: u32,
    },
    SnapshotChunk {
        snapshot: SnapshotId,
        offset: u64,
        size: u32,
    },
}

const DISK_STALLED: u8 = 1;
const DISK_FULL: u8 = 2;
const QUARANTINED: u8 = 4;

pub(super) fn health_bits(health: Health) -> u8 {
    let Health { disk_stalled, disk_full, quarantined } = health;
    [(disk_stalled, DISK_STALLED), (disk_full, DISK_FULL), (quarantined, QUARANTINED)]
        .iter()
        .filter(|(is, _)| *is)
        .fold(0, |bits, (_, bit)| bits | bit)
}

pub(super) fn health_of(bits: u8) -> Result<Health, WireError> {
    if bits & !(DISK_STALLED | DISK_FULL | QUARANTINED) != 0 {
        return Err(WireError::Malformed("a node's health has a sign that is not known"));
    }
    let has = |bit| bits & bit != 0;
    Ok(Health {
        disk_stalled: has(DISK_STALLED),
        disk_full: has(DISK_FULL),
        quarantined: has(QUARANTINED),
    })
}
