//! Bytes of the messages between nodes.
//!
//! The head carries everything but values and payloads; those lie in the bulk, one behind the other,
//! in the order in which the head names their sizes. So a value is copied once into a frame, whatever
//! the codec of heads does.

use std::sync::Arc;

use crate::limits::{COMMAND_SIZE_MAX, NODES_MAX, SLOT_VALUE_SIZE_MAX, SNAPSHOT_CHUNK_SIZE_MAX};
use crate::paxos::{
    Ballot, Batch, Bytes, Checkpoint, Command, Epochs, Extent, Message, P1b, P2b, PValue, Slot,
    Standing, StateStanding, Value, Values,
};

use super::frame::{self, Frame};
use super::{WireError, codec};
use check::{check_numbers, check_part, check_route};
use head::{Head, health_bits, health_of};

mod check;
mod head;
#[cfg(test)]
mod tests;

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
            Message::HeartbeatReply { round, standing: Box::new(standing) }
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
            Message::P1b(Box::new(P1b {
                ballot,
                promised,
                first_slot,
                end,
                no_more_accepted,
                first_unchosen,
                epochs: epochs_of(&epochs)?,
                accepted,
                unsure: unsure.into_iter().map(|(first, end)| first..end).collect(),
            }))
        }
        Head::P2a { ballot, first_slot, first_unchosen, sizes } => Message::P2a {
            ballot,
            first_slot,
            first_unchosen,
            values: match *sizes {
                [size] => Values::from(bulk.take_value(size)?),
                _ => {
                    let values = sizes.into_iter().map(|size| bulk.take_value(size));
                    Values::from(values.collect::<Result<Vec<Value>, _>>()?)
                }
            },
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
                    let payload = Bytes::from(bulk.take(size, COMMAND_SIZE_MAX)?);
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
            Some(_) => Ok(Value(Bytes::from(bytes))),
            None => Err(WireError::Malformed("a slot's value is no batch")),
        }
    }
}

fn epochs_of(bytes: &[u8]) -> Result<Epochs, WireError> {
    Epochs::from_bytes(bytes).ok_or(WireError::Malformed("no list of configurations"))
}

fn size_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("values are bounded by SLOT_VALUE_SIZE_MAX")
}
