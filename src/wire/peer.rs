//! Bytes of the messages between nodes.
//!
//! The head carries everything but values and payloads; those lie in the bulk, one behind the other,
//! in the order in which the head names their sizes. So a value is copied once into a frame, whatever
//! the codec of heads does.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits::{
    ACCEPTOR_AHEAD_SLOTS_MAX, COMMAND_SIZE_MAX, NODES_MAX, SLOT_VALUE_SIZE_MAX,
    SNAPSHOT_CHUNK_SIZE_MAX, SNAPSHOT_SIZE_MAX,
};
use crate::paxos::{
    Ballot, Batch, Checkpoint, Command, CommandId, Epochs, Extent, Health, Message, NodeId, P1b,
    P2b, PValue, Slot, SnapshotId, Standing, StateStanding, Value,
};

use super::frame::{self, Frame};
use super::{WireError, codec};

#[derive(Serialize, Deserialize)]
enum Head {
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

/// Appends the message's frame to `out`.
pub fn write(message: &Message, out: &mut Vec<u8>) {
    let mut bulk = Vec::new();
    let head = head_of(message, &mut bulk);
    frame::write(&head, &bulk, out);
}

/// Appends the frame of a `Message::Chosen` whose values are still in the log.
pub fn write_chosen(
    first_slot: Slot,
    values: &[(Ballot, &[u8])],
    first_unchosen: Slot,
    out: &mut Vec<u8>,
) {
    let bulk: Vec<&[u8]> = values.iter().map(|(_, value)| *value).collect();
    let values = values.iter().map(|(ballot, value)| (*ballot, size_of(value))).collect();
    frame::write(&Head::Chosen { first_slot, first_unchosen, values }, &bulk, out);
}

/// The message of a frame, checked against every limit.
pub fn read(frame: Frame<'_>) -> Result<Message, WireError> {
    let head = codec::decode(frame.head)?;
    let mut bulk = Bulk { rest: frame.bulk };
    let message = message_of(head, &mut bulk, 0)?;
    check_numbers(&message)?;
    if bulk.rest.is_empty() {
        Ok(message)
    } else {
        Err(WireError::Malformed("bytes left over behind the values"))
    }
}

fn head_of<'a>(message: &'a Message, bulk: &mut Vec<&'a [u8]>) -> Head {
    match message {
        Message::HeartbeatRequest { round } => Head::HeartbeatRequest { round: *round },
        Message::HeartbeatReply { round, standing } => Head::HeartbeatReply {
            round: *round,
            ballot: standing.ballot,
            leader: standing.leader,
            happy: standing.happy,
            first_unchosen: standing.first_unchosen,
            epoch: standing.epoch,
            hears: standing.hears.clone(),
            route: standing.route.clone(),
            health: health_bits(standing.health),
            snapshot: standing.state.snapshot,
            checkpoint: standing.state.checkpoint.map(|it| (it.slot, it.digest)),
        },
        Message::P1a { ballot, first_slot } => {
            Head::P1a { ballot: *ballot, first_slot: *first_slot }
        }
        Message::P1b(p1b) => {
            bulk.extend(p1b.accepted.iter().map(|pvalue| &*pvalue.value.0));
            let pvalue = |p: &PValue| (p.ballot, p.slot, size_of(&p.value.0));
            Head::P1b {
                ballot: p1b.ballot,
                promised: p1b.promised,
                first_slot: p1b.first_slot,
                end: p1b.end,
                no_more_accepted: p1b.no_more_accepted,
                first_unchosen: p1b.first_unchosen,
                epochs: p1b.epochs.to_bytes(),
                accepted: p1b.accepted.iter().map(pvalue).collect(),
                unsure: p1b.unsure.iter().map(|run| (run.start, run.end)).collect(),
            }
        }
        Message::P2a { ballot, first_slot, first_unchosen, values } => {
            bulk.extend(values.iter().map(|value| &*value.0));
            Head::P2a {
                ballot: *ballot,
                first_slot: *first_slot,
                first_unchosen: *first_unchosen,
                sizes: values.iter().map(|value| size_of(&value.0)).collect(),
            }
        }
        Message::P2b(P2b { ballot, promised, accepted_end, resend }) => Head::P2b {
            ballot: *ballot,
            promised: *promised,
            accepted_end: *accepted_end,
            resend: *resend,
        },
        Message::Commit { ballot, first_unchosen } => {
            Head::Commit { ballot: *ballot, first_unchosen: *first_unchosen }
        }
        Message::LearnRequest { first_slot } => Head::LearnRequest { first_slot: *first_slot },
        Message::Chosen { first_slot, values, first_unchosen } => {
            bulk.extend(values.iter().map(|(_, value)| &*value.0));
            Head::Chosen {
                first_slot: *first_slot,
                first_unchosen: *first_unchosen,
                values: values.iter().map(|(ballot, v)| (*ballot, size_of(&v.0))).collect(),
            }
        }
        Message::SnapshotOffer { log_begin, first_unchosen, snapshot, epochs } => {
            Head::SnapshotOffer {
                epochs: epochs.to_bytes(),
                log_begin: *log_begin,
                first_unchosen: *first_unchosen,
                snapshot: *snapshot,
            }
        }
        Message::SnapshotRequest { snapshot, offset, size } => {
            Head::SnapshotRequest { snapshot: *snapshot, offset: *offset, size: *size }
        }
        Message::SnapshotChunk { snapshot, offset, bytes } => {
            bulk.push(bytes);
            Head::SnapshotChunk { snapshot: *snapshot, offset: *offset, size: size_of(bytes) }
        }
        Message::Propose { commands } => {
            bulk.extend(commands.iter().map(|command| &*command.payload));
            let command = |c: &Command| (c.id, c.acknowledged, size_of(&c.payload));
            Head::Propose { commands: commands.iter().map(command).collect() }
        }
        Message::ReadIndexRequest { id, lease } => {
            Head::ReadIndexRequest { id: *id, lease: *lease }
        }
        Message::ReadIndexReply { id, read_slot } => {
            Head::ReadIndexReply { id: *id, read_slot: *read_slot }
        }
        Message::Confirm { ballot, round } => Head::Confirm { ballot: *ballot, round: *round },
        Message::ConfirmAck { ballot, round, told_end } => {
            Head::ConfirmAck { ballot: *ballot, round: *round, told_end: *told_end }
        }
        Message::LeaseRequest { ballot, asked_us, lease_us } => {
            Head::LeaseRequest { ballot: *ballot, asked_us: *asked_us, lease_us: *lease_us }
        }
        Message::LeaseGrant { ballot, asked_us, told_end } => {
            Head::LeaseGrant { ballot: *ballot, asked_us: *asked_us, told_end: *told_end }
        }
        Message::LeaseRelease { ballot } => Head::LeaseRelease { ballot: *ballot },
        Message::QuorumRead { round } => Head::QuorumRead { round: *round },
        Message::QuorumReadReply { round, extent } => Head::QuorumReadReply {
            round: *round,
            end: extent.end,
            ballot: extent.ballot,
            accepted_end: extent.accepted_end,
        },
        Message::TakeOver { ballot } => Head::TakeOver { ballot: *ballot },
        Message::Configurations(epochs) => Head::Configurations { epochs: epochs.to_bytes() },
        Message::Recorded { .. } => unreachable!("a node says this to itself only"),
        Message::Relay { from, route, message } => Head::Relay {
            from: *from,
            route: route.clone(),
            head: codec::encode(&head_of(message, bulk)),
        },
    }
}

fn message_of(head: Head, bulk: &mut Bulk<'_>, depth: usize) -> Result<Message, WireError> {
    Ok(match head {
        Head::HeartbeatRequest { round } => Message::HeartbeatRequest { round },
        Head::HeartbeatReply {
            round,
            ballot,
            leader,
            happy,
            first_unchosen,
            epoch,
            hears,
            route,
            health,
            snapshot,
            checkpoint,
        } => {
            if NODES_MAX <= hears.len() || !hears.is_sorted_by(|a, b| a < b) {
                return Err(WireError::Malformed("the nodes that are heard are out of order"));
            }
            check_route(&route)?;
            let health = health_of(health)?;
            let checkpoint = checkpoint.map(|(slot, digest)| Checkpoint { slot, digest });
            let state = StateStanding { snapshot, checkpoint };
            let standing = Standing {
                ballot,
                leader,
                happy,
                first_unchosen,
                epoch,
                hears,
                route,
                health,
                state,
            };
            Message::HeartbeatReply { round, standing }
        }
        Head::P1a { ballot, first_slot } => Message::P1a { ballot, first_slot },
        Head::P1b {
            ballot,
            promised,
            first_slot,
            end,
            no_more_accepted,
            first_unchosen,
            epochs,
            accepted,
            unsure,
        } => {
            let runs = unsure.iter().flat_map(|(first, end)| [*first, *end]);
            let bounds = [first_slot].into_iter().chain(runs).chain([end]);
            let are_runs = unsure.iter().all(|(first, end)| first < end) && bounds.is_sorted();
            if !are_runs && !unsure.is_empty() {
                return Err(WireError::Malformed("a P1b's unsure slots are out of order"));
            }
            let in_order = accepted.windows(2).all(|pair| pair[0].1 < pair[1].1);
            let within = accepted.iter().all(|(_, slot, _)| first_slot <= *slot && *slot < end);
            if !in_order || !within {
                return Err(WireError::Malformed("a P1b's slots are out of order"));
            }
            let accepted = accepted
                .into_iter()
                .map(|(ballot, slot, size)| {
                    Ok(PValue { ballot, slot, value: bulk.take_value(size)? })
                })
                .collect::<Result<_, WireError>>()?;
            Message::P1b(P1b {
                ballot,
                promised,
                first_slot,
                end,
                no_more_accepted,
                first_unchosen,
                epochs: epochs_of(&epochs)?,
                accepted,
                unsure: unsure.into_iter().map(|(first, end)| first..end).collect(),
            })
        }
        Head::P2a { ballot, first_slot, first_unchosen, sizes } => Message::P2a {
            ballot,
            first_slot,
            first_unchosen,
            values: sizes
                .into_iter()
                .map(|size| bulk.take_value(size))
                .collect::<Result<_, _>>()?,
        },
        Head::P2b { ballot, promised, accepted_end, resend } => {
            Message::P2b(P2b { ballot, promised, accepted_end, resend })
        }
        Head::Commit { ballot, first_unchosen } => Message::Commit { ballot, first_unchosen },
        Head::LearnRequest { first_slot } => Message::LearnRequest { first_slot },
        Head::Chosen { first_slot, first_unchosen, values } => Message::Chosen {
            first_slot,
            first_unchosen,
            values: values
                .into_iter()
                .map(|(ballot, size)| Ok((ballot, bulk.take_value(size)?)))
                .collect::<Result<_, WireError>>()?,
        },
        Head::SnapshotOffer { log_begin, first_unchosen, snapshot, epochs } => {
            let epochs = epochs_of(&epochs)?;
            Message::SnapshotOffer { log_begin, first_unchosen, snapshot, epochs }
        }
        Head::SnapshotRequest { snapshot, offset, size } => {
            check_part(snapshot, offset, u64::from(size))?;
            Message::SnapshotRequest { snapshot, offset, size }
        }
        Head::SnapshotChunk { snapshot, offset, size } => {
            check_part(snapshot, offset, u64::from(size))?;
            let bytes = Arc::from(bulk.take(size, SNAPSHOT_CHUNK_SIZE_MAX)?);
            Message::SnapshotChunk { snapshot, offset, bytes }
        }
        Head::Propose { commands } => Message::Propose {
            commands: commands
                .into_iter()
                .map(|(id, acknowledged, size)| {
                    let payload = Arc::from(bulk.take(size, COMMAND_SIZE_MAX)?);
                    Ok(Command { id, acknowledged, payload })
                })
                .collect::<Result<_, WireError>>()?,
        },
        Head::ReadIndexRequest { id, lease } => Message::ReadIndexRequest { id, lease },
        Head::ReadIndexReply { id, read_slot } => Message::ReadIndexReply { id, read_slot },
        Head::Confirm { ballot, round } => Message::Confirm { ballot, round },
        Head::ConfirmAck { ballot, round, told_end } => {
            Message::ConfirmAck { ballot, round, told_end }
        }
        Head::LeaseRequest { ballot, asked_us, lease_us } => {
            Message::LeaseRequest { ballot, asked_us, lease_us }
        }
        Head::LeaseGrant { ballot, asked_us, told_end } => {
            Message::LeaseGrant { ballot, asked_us, told_end }
        }
        Head::LeaseRelease { ballot } => Message::LeaseRelease { ballot },
        Head::QuorumRead { round } => Message::QuorumRead { round },
        Head::QuorumReadReply { round, end, ballot, accepted_end } => {
            let extent = Extent { end, ballot, accepted_end };
            Message::QuorumReadReply { round, extent }
        }
        Head::TakeOver { ballot } => Message::TakeOver { ballot },
        Head::Configurations { epochs } => Message::Configurations(epochs_of(&epochs)?),
        Head::Relay { from, route, head } => {
            check_route(&route)?;
            if route.is_empty() || route.contains(&from) {
                return Err(WireError::Malformed("a route leads to another node"));
            }
            if 0 < depth {
                return Err(WireError::Malformed("a relayed message is relayed once"));
            }
            let message = Box::new(message_of(codec::decode(&head)?, bulk, depth + 1)?);
            Message::Relay { from, route, message }
        }
    })
}

/// A route goes over other nodes than its beginning, over each once.
fn check_route(route: &[NodeId]) -> Result<(), WireError> {
    let again = |(at, node): (usize, &NodeId)| route[..at].contains(node);
    if NODES_MAX <= route.len() || route.iter().enumerate().any(again) {
        return Err(WireError::Malformed("a route goes over a node twice"));
    }
    Ok(())
}

/// A part of a snapshot lies within it, holds something, and fits a message.
fn check_part(snapshot: SnapshotId, offset: u64, size: u64) -> Result<(), WireError> {
    let end = offset.checked_add(size);
    let within = end.is_some_and(|end| end <= snapshot.size);
    if within && 0 < size && size <= SNAPSHOT_CHUNK_SIZE_MAX as u64 {
        Ok(())
    } else {
        Err(WireError::Malformed("a part of a snapshot lies outside of it"))
    }
}

/// What is left of a frame's bulk.
struct Bulk<'a> {
    rest: &'a [u8],
}

impl<'a> Bulk<'a> {
    fn take(&mut self, size: u32, size_max: usize) -> Result<&'a [u8], WireError> {
        let size = size as usize;
        if size_max < size {
            return Err(WireError::Malformed("a value is over its limit"));
        }
        let (part, rest) =
            self.rest.split_at_checked(size).ok_or(WireError::Malformed("values are cut short"))?;
        self.rest = rest;
        Ok(part)
    }

    /// Takes a slot's value; from here on it is known to be a batch.
    fn take_value(&mut self, size: u32) -> Result<Value, WireError> {
        let bytes = self.take(size, SLOT_VALUE_SIZE_MAX)?;
        match Batch::decode(bytes) {
            Some(_) => Ok(Value(Arc::from(bytes))),
            None => Err(WireError::Malformed("a slot's value is no batch")),
        }
    }
}

/// Rounds and slots that no cluster reaches in its life are nonsense, and counting on from them would
/// overflow.
fn check_numbers(message: &Message) -> Result<(), WireError> {
    const MAX: u64 = 1 << 62;
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
            let known = p1b.first_unchosen.0.min(MAX);
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
        Message::LeaseRequest { asked_us, .. } if MAX <= *asked_us => {
            return Err(WireError::Malformed("a time is out of all range"));
        }
        Message::LeaseGrant { asked_us, .. } if MAX <= *asked_us => {
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
    let sane =
        ballots.iter().all(|ballot| ballot.round < MAX) && slots.iter().all(|slot| slot.0 < MAX);
    if sane { Ok(()) } else { Err(WireError::Malformed("a slot or a round is out of all range")) }
}

fn epochs_of(bytes: &[u8]) -> Result<Epochs, WireError> {
    Epochs::from_bytes(bytes).ok_or(WireError::Malformed("no list of configurations"))
}

fn health_bits(health: Health) -> u8 {
    let Health { disk_stalled, disk_full, quarantined } = health;
    [(disk_stalled, DISK_STALLED), (disk_full, DISK_FULL), (quarantined, QUARANTINED)]
        .iter()
        .filter(|(is, _)| *is)
        .fold(0, |bits, (_, bit)| bits | bit)
}

fn health_of(bits: u8) -> Result<Health, WireError> {
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

fn check_snapshot(snapshot: SnapshotId) -> Result<(), WireError> {
    if snapshot.slot.0 < 1 << 62 && (1..=SNAPSHOT_SIZE_MAX).contains(&snapshot.size) {
        Ok(())
    } else {
        Err(WireError::Malformed("a snapshot is out of all range"))
    }
}

fn size_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("values are bounded by SLOT_VALUE_SIZE_MAX")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::{Addresses, Configuration, Configurations, Member, Roles, SessionId, batch};
    use std::net::SocketAddr;

    const SNAPSHOT: SnapshotId = SnapshotId { slot: Slot(3), size: 7, checksum: 8 };

    fn ballot(round: u64) -> Ballot {
        Ballot { round, node: NodeId(2) }
    }

    fn command(seq: u64, payload: &[u8]) -> Command {
        let id = CommandId { session: SessionId(4), seq };
        Command { id, acknowledged: 1, payload: Arc::from(payload) }
    }

    fn value(seq: u64) -> Value {
        batch::encode(9, [command(seq, b"abc")].iter())
    }

    /// Node 2 alone, of which all below slot 7 is known.
    fn epochs() -> Epochs {
        let at = |port| SocketAddr::from(([10, 0, 0, 2], port));
        let addresses = Addresses { peer: at(7400), client: at(7401) };
        let member = Member { node: NodeId(2), roles: Roles::ALL };
        let initial = Configuration::initial(vec![(member, addresses)], None, None).unwrap();
        let mut configurations = Configurations::new(initial, 4);
        configurations.on_known(Slot(7));
        configurations.epochs().clone()
    }

    fn all_messages() -> Vec<Message> {
        let first_slot = Slot(3);
        let first_unchosen = Slot(4);
        let pvalue = |slot| PValue { ballot: ballot(1), slot: Slot(slot), value: value(slot) };
        let standing = Standing {
            ballot: ballot(1),
            leader: ballot(2),
            happy: true,
            first_unchosen,
            epoch: 2,
            hears: vec![NodeId(1), NodeId(3)],
            route: vec![NodeId(3), NodeId(1)],
            health: Health { disk_stalled: true, disk_full: false, quarantined: true },
            state: StateStanding {
                snapshot: Slot(2),
                checkpoint: Some(Checkpoint { slot: Slot(3), digest: u128::MAX - 1 }),
            },
        };
        let alone = Standing {
            hears: vec![],
            route: vec![],
            health: Health { disk_full: true, ..Health::default() },
            state: StateStanding::default(),
            ..standing
        };
        vec![
            Message::HeartbeatRequest { round: 1 },
            Message::HeartbeatReply { round: 1, standing },
            Message::HeartbeatReply { round: 2, standing: alone },
            Message::P1a { ballot: ballot(1), first_slot },
            Message::P1b(P1b {
                ballot: ballot(1),
                promised: ballot(2),
                first_slot,
                end: Slot(9),
                no_more_accepted: true,
                first_unchosen,
                epochs: epochs(),
                accepted: vec![pvalue(3), pvalue(8)],
                unsure: vec![Slot(4)..Slot(6), Slot(8)..Slot(9)],
            }),
            Message::P2a {
                ballot: ballot(1),
                first_slot,
                first_unchosen,
                values: vec![value(1), Value::noop(), value(2)],
            },
            Message::P2b(P2b {
                ballot: ballot(1),
                promised: ballot(1),
                accepted_end: Slot(5),
                resend: true,
            }),
            Message::Commit { ballot: ballot(1), first_unchosen },
            Message::LearnRequest { first_slot },
            Message::Chosen {
                first_slot,
                values: vec![(ballot(1), value(5)), (ballot(2), Value::noop())],
                first_unchosen,
            },
            Message::SnapshotOffer {
                log_begin: Slot(2),
                first_unchosen,
                snapshot: None,
                epochs: epochs(),
            },
            Message::SnapshotOffer {
                log_begin: Slot(2),
                first_unchosen,
                snapshot: Some(SNAPSHOT),
                epochs: epochs(),
            },
            Message::SnapshotRequest { snapshot: SNAPSHOT, offset: 5, size: 2 },
            Message::SnapshotChunk { snapshot: SNAPSHOT, offset: 5, bytes: Arc::from(*b"ab") },
            Message::Propose { commands: vec![command(1, b""), command(2, b"xy")] },
            Message::ReadIndexRequest { id: 5, lease: true },
            Message::ReadIndexReply { id: 5, read_slot: Slot(6) },
            Message::Confirm { ballot: ballot(1), round: 7 },
            Message::ConfirmAck { ballot: ballot(1), round: 7, told_end: Slot(4) },
            Message::LeaseRequest { ballot: ballot(1), asked_us: 6, lease_us: 7 },
            Message::LeaseGrant { ballot: ballot(1), asked_us: 6, told_end: Slot(4) },
            Message::LeaseRelease { ballot: ballot(1) },
            Message::QuorumRead { round: 8 },
            Message::QuorumReadReply {
                round: 8,
                extent: Extent { end: Slot(9), ballot: ballot(2), accepted_end: Slot(7) },
            },
            Message::TakeOver { ballot: ballot(1) },
            Message::Configurations(epochs()),
            Message::Relay {
                from: NodeId(1),
                route: vec![NodeId(2), NodeId(3)],
                message: Box::new(Message::Propose { commands: vec![command(1, b"q")] }),
            },
        ]
    }

    #[test]
    fn what_goes_in_comes_out() {
        for message in all_messages() {
            let mut bytes = Vec::new();
            write(&message, &mut bytes);
            let (frame, size) = frame::read(&bytes).unwrap().unwrap();
            assert_eq!(size, bytes.len());
            assert_eq!(read(frame), Ok(message));
        }
    }

    /// Values from the log make the same frame as values in memory.
    #[test]
    fn chosen_from_the_log_is_the_same_frame() {
        let (one, two) = (value(1), value(2));
        let message = Message::Chosen {
            first_slot: Slot(1),
            values: vec![(ballot(1), one.clone()), (ballot(2), two.clone())],
            first_unchosen: Slot(7),
        };
        let (mut a, mut b) = (Vec::new(), Vec::new());
        write(&message, &mut a);
        write_chosen(Slot(1), &[(ballot(1), &one.0), (ballot(2), &two.0)], Slot(7), &mut b);
        assert_eq!(a, b);
    }

    /// A head or a bulk that is cut, or changed in any byte, is an error or another valid message,
    /// never a panic.
    #[test]
    fn hostile_bytes_are_errors() {
        for message in all_messages() {
            let mut bytes = Vec::new();
            write(&message, &mut bytes);
            let (frame, _) = frame::read(&bytes).unwrap().unwrap();
            for cut in 0..frame.head.len() {
                assert!(read(Frame { head: &frame.head[..cut], bulk: frame.bulk }).is_err());
            }
            for cut in 0..frame.bulk.len() {
                assert!(read(Frame { head: frame.head, bulk: &frame.bulk[..cut] }).is_err());
            }
            for at in 0..frame.head.len() {
                for byte in [0, 1, 0x7f, 0xff] {
                    let mut head = frame.head.to_vec();
                    head[at] = byte;
                    let _ = read(Frame { head: &head, bulk: frame.bulk });
                }
            }
        }
    }

    /// Numbers near the end of their range would overflow where they are counted on.
    #[test]
    fn numbers_out_of_range_are_refused() {
        let refused = |message: Message| {
            let mut bytes = Vec::new();
            write(&message, &mut bytes);
            let (frame, _) = frame::read(&bytes).unwrap().unwrap();
            assert!(read(frame).is_err(), "{message:?}");
        };
        refused(Message::P1a { ballot: ballot(u64::MAX), first_slot: Slot(1) });
        refused(Message::Commit { ballot: ballot(1), first_unchosen: Slot(u64::MAX) });
        let far = PValue { ballot: ballot(1), slot: Slot(1 << 40), value: Value::noop() };
        refused(Message::P1b(P1b {
            ballot: ballot(1),
            promised: ballot(1),
            first_slot: Slot(1),
            end: Slot(1 << 41),
            no_more_accepted: true,
            first_unchosen: Slot(1),
            epochs: epochs(),
            accepted: vec![far],
            unsure: vec![],
        }));
        let unsure = |runs: &[(u64, u64)]| P1b {
            ballot: ballot(1),
            promised: ballot(1),
            first_slot: Slot(1),
            end: Slot(9),
            no_more_accepted: true,
            first_unchosen: Slot(1),
            epochs: epochs(),
            accepted: vec![],
            unsure: runs.iter().map(|(first, end)| Slot(*first)..Slot(*end)).collect(),
        };
        for runs in [&[(2, 2)][..], &[(0, 2)], &[(8, 10)], &[(5, 7), (2, 3)], &[(2, 4), (3, 5)]] {
            refused(Message::P1b(unsure(runs)));
        }
    }

    /// Who is heard is a set of other nodes; health has signs that are known, slots a range.
    #[test]
    fn a_standing_that_nobody_writes_is_refused() {
        let read_with = |hears: Vec<NodeId>, route: Vec<NodeId>, health: u8, snapshot: Slot| {
            let (ballot, first_unchosen) = (ballot(1), Slot(1));
            let head = Head::HeartbeatReply {
                epoch: 1,
                round: 1,
                ballot,
                leader: ballot,
                happy: false,
                first_unchosen,
                hears,
                route,
                health,
                snapshot,
                checkpoint: None,
            };
            read(Frame { head: &codec::encode(&head), bulk: &[] })
        };
        let nodes = |ids: std::ops::Range<u16>| ids.map(NodeId).collect::<Vec<_>>();
        let most = || nodes(1..NODES_MAX as u16);
        assert!(read_with(most(), most(), 7, Slot(1)).is_ok());
        assert!(read_with(nodes(1..NODES_MAX as u16 + 1), vec![], 7, Slot(1)).is_err());
        assert!(read_with(vec![], nodes(1..NODES_MAX as u16 + 1), 7, Slot(1)).is_err());
        assert!(read_with(vec![NodeId(2), NodeId(2)], vec![], 0, Slot(1)).is_err());
        assert!(read_with(vec![NodeId(2), NodeId(1)], vec![], 0, Slot(1)).is_err());
        assert!(read_with(vec![], vec![NodeId(2), NodeId(1), NodeId(2)], 0, Slot(1)).is_err());
        assert!(read_with(vec![], vec![], 8, Slot(1)).is_err());
        assert!(read_with(vec![], vec![], 0, Slot(1 << 62)).is_err());
    }

    /// A receiver writes what comes where the chunk says, and counts on.
    #[test]
    fn parts_outside_of_a_snapshot_are_refused() {
        let taken = |message: Message| {
            let mut bytes = Vec::new();
            write(&message, &mut bytes);
            let (frame, _) = frame::read(&bytes).unwrap().unwrap();
            read(frame).is_ok()
        };
        let request =
            |snapshot, offset, size| taken(Message::SnapshotRequest { snapshot, offset, size });
        assert!(request(SNAPSHOT, 0, 7));
        assert!(!request(SNAPSHOT, 0, 8));
        assert!(!request(SNAPSHOT, 7, 0));
        assert!(!request(SNAPSHOT, u64::MAX, 1));
        let large = SnapshotId { size: SNAPSHOT_SIZE_MAX, ..SNAPSHOT };
        assert!(request(large, 0, SNAPSHOT_CHUNK_SIZE_MAX as u32));
        assert!(!request(large, 0, SNAPSHOT_CHUNK_SIZE_MAX as u32 + 1));
        assert!(!request(SnapshotId { size: u64::MAX, ..SNAPSHOT }, 0, 1));
        assert!(!request(SnapshotId { slot: Slot(u64::MAX), ..SNAPSHOT }, 0, 1));
        let chunk = |offset, bytes: &[u8]| {
            taken(Message::SnapshotChunk { snapshot: SNAPSHOT, offset, bytes: Arc::from(bytes) })
        };
        assert!(chunk(5, b"ab") && !chunk(6, b"ab") && !chunk(5, b""));
    }

    /// A relayed message goes to others than it is from, and over each once.
    #[test]
    fn a_relay_goes_somewhere() {
        let taken = |route: &[u16]| {
            let (from, route) = (NodeId(1), route.iter().copied().map(NodeId).collect());
            let message = Box::new(Message::HeartbeatRequest { round: 1 });
            let mut bytes = Vec::new();
            write(&Message::Relay { from, route, message }, &mut bytes);
            let (frame, _) = frame::read(&bytes).unwrap().unwrap();
            read(frame).is_ok()
        };
        assert!(taken(&[2]) && taken(&[3, 2]));
        assert!(!taken(&[]) && !taken(&[1]) && !taken(&[2, 1]) && !taken(&[2, 3, 2]));
    }

    /// A message inside a relayed message inside a relayed message: refused, however deep.
    #[test]
    fn relays_do_not_nest() {
        let mut message = Message::HeartbeatRequest { round: 1 };
        for _ in 0..3 {
            let (from, route) = (NodeId(1), vec![NodeId(2)]);
            message = Message::Relay { from, route, message: Box::new(message) };
        }
        let mut bytes = Vec::new();
        write(&message, &mut bytes);
        let (frame, _) = frame::read(&bytes).unwrap().unwrap();
        assert!(read(frame).is_err());
    }
}
