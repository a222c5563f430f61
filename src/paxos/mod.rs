//! The protocol. Pure: inputs in, `Effects` out; no socket, file, clock, thread or randomness.

pub mod batch;
pub mod ids;
pub mod quorum;
pub mod record;

pub use batch::{Batch, Command, CommandId, CommandRef, SessionId};
pub use ids::{Ballot, NodeId, Slot, Value};
pub use quorum::{Member, Membership, Roles};
pub use record::{Record, Recovered, RecoveredSlot};
