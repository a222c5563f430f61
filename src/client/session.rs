//! A session from the client's side: the numbers of its commands.

use rand::TryRng;
use rand::rngs::SysRng;

use crate::paxos::{CommandId, SessionId};

/// A registered session whose commands are sent one after the other.
pub struct Session {
    id: SessionId,
    next_seq: u64,
}

impl Session {
    pub fn new(id: SessionId) -> Session {
        Session { id, next_seq: 1 }
    }

    /// The id of the next command, and the floor to acknowledge: all below it are answered.
    pub fn number(&mut self) -> (CommandId, u64) {
        let seq = self.next_seq;
        self.next_seq += 1;
        (CommandId { session: self.id, seq }, seq)
    }
}

/// A random number from the operating system: two clients must not register under one nonce.
pub fn nonce() -> Result<u64, String> {
    SysRng.try_next_u64().map_err(|error| format!("the system has no random numbers: {error}"))
}
