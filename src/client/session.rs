//! A session from the client's side: the numbers of its commands.

use rand::TryRng;
use rand::rngs::SysRng;

use crate::limits::SESSION_IDLE_US_MAX;
use crate::paxos::{CommandId, SessionId};
use crate::trace::monotonic_ns;

/// A session that was not used for so long is left for a new one. The cluster forgets one after a day of its own
/// time without a command, and its answer to the next one then cannot be definite.
const IDLE_NS_MAX: u64 = SESSION_IDLE_US_MAX / 24 * 1000;

/// A registered session whose commands are sent one after the other.
pub struct Session {
    id: SessionId,
    next_seq: u64,
    used_ns: u64,
}

impl Session {
    pub fn new(id: SessionId) -> Session {
        Session { id, next_seq: 1, used_ns: monotonic_ns() }
    }

    pub fn is_fresh(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.used_ns) < IDLE_NS_MAX
    }

    /// The id of the next command, and the floor to acknowledge: all below it are answered.
    pub fn number(&mut self) -> (CommandId, u64) {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.used_ns = monotonic_ns();
        (CommandId { session: self.id, seq }, seq)
    }
}

/// A random number from the operating system: two clients must not register under one nonce.
pub fn nonce() -> Result<u64, String> {
    SysRng.try_next_u64().map_err(|error| format!("the system has no random numbers: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_session_is_not_used_again() {
        let mut session = Session::new(SessionId(7));
        let used_ns = session.used_ns;
        assert!(session.is_fresh(used_ns + IDLE_NS_MAX - 1));
        assert!(!session.is_fresh(used_ns + IDLE_NS_MAX));
        session.used_ns = 0;
        session.number();
        assert!(used_ns <= session.used_ns);
    }
}
