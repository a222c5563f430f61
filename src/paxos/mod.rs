//! The protocol: Multi-Paxos with the roles of *Paxos Made Moderately Complex* (PMMC) and the election
//! of Omni-Paxos. Pure: one input in, `Effects` out; no socket, file, clock, thread or randomness.
//!
//! Safety is in `acceptor`, `scout`, `commander`, `quorum` and `log`: right whenever called. Liveness
//! is in `election`, `learner` and `fetch`, and in the ticks of the others: it may only be slow. `Node` wires
//! the roles of one process together and is all that the outside needs.

mod acceptor;
pub mod batch;
mod by_node;
mod bytes;
mod commander;
mod commands;
mod configuration;
mod configurations;
mod effects;
mod election;
mod fetch;
mod ids;
mod leader;
mod learner;
mod lease;
mod log;
mod message;
mod node;
mod optimisations;
mod overdue;
mod quorum;
mod quorum_reads;
mod read_rounds;
mod reads;
mod record;
mod replica;
mod scout;
mod slots;

pub use batch::{Batch, Command, CommandId, CommandRef, SessionId};
pub use bytes::Bytes;
pub use configuration::{Addresses, Change, Configuration};
pub use configurations::{Configurations, Epochs};
pub use effects::{ChosenSlot, Effects, Event, Expired, LearnReply, Receive, SnapshotReply};
pub use ids::{Ballot, NodeId, Slot, Value};
pub use lease::LeaseConfig;
pub use message::{
    Checkpoint, Extent, Health, Message, P1b, P2b, PValue, SnapshotId, Standing, StateStanding,
    Values,
};
pub use node::{Node, NodeConfig, Now, Refusal, View};
pub use optimisations::Optimisations;
pub use quorum::{Member, Membership, Roles};
pub use reads::ReadWay;
pub use record::{Record, Recovered, RecoveredSlot};
pub use slots::SlotSet;
