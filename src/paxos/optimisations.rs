//! What makes the protocol fast and hard to stop, and is not needed for it to be right. Each can be switched off, to
//! measure what it is worth: for the laboratory only. (Pipelining is `NodeConfig::window_slots`.)

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Optimisations {
    /// Commands that arrive together are the value of one slot. Without: one command a slot.
    pub batching: bool,
    /// A leader goes through phase 1 once (Paxos Made Simple, section 3). Without: again, with a higher ballot, whenever
    /// all that it proposed is chosen and more has come.
    pub phase1_skip: bool,
    /// Nodes compete only if they reach a quorum and hear of no leader, and a leader that has lost its quorum says so
    /// (`election`). Without: whoever does not hear the leader itself competes, and the leader believes in itself.
    pub quorum_connected_election: bool,
}

impl Default for Optimisations {
    fn default() -> Optimisations {
        Optimisations { batching: true, phase1_skip: true, quorum_connected_election: true }
    }
}
