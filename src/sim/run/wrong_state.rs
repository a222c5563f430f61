//! Towards its end each run has a state go wrong, and a replica that has to get another one.

use rand::RngExt;
use rand::seq::IndexedRandom;

use super::super::cluster::Reply;
use super::{OWN, Run};

/// Election timeouts within which a replica that others outvote is sound again: some writes up to the next
/// checkpoint, a heartbeat of each, and a snapshot that is taken and fetched.
const SOUND_TIMEOUTS_MAX: u64 = 80;

impl Run {
    /// The state of one of three replicas at least goes another way than the slots say. The others outvote
    /// it, and it gets another state, with which it also starts again.
    pub(super) fn replace_wrong_state(&mut self) {
        self.cluster.heal_all();
        self.settle();
        let mut replicas = self.cluster.replicas();
        replicas.retain(|id| self.cluster.is_running(*id));
        if replicas.len() < 3 || self.cluster.settings.checkpoint_slots == 0 {
            return;
        }
        let wrong = replicas.swap_remove(self.dice.random_range(0..replicas.len()));
        self.cluster.derail(wrong);
        let quarantines = self.cluster.coverage.quarantines;
        let deadline_us = self.deadline_us(SOUND_TIMEOUTS_MAX);
        let mut nonce = 10;
        self.write_own(replicas[0], nonce);
        while self.cluster.coverage.quarantines == quarantines || !self.cluster.wrong().is_empty() {
            self.step_until(deadline_us, "a replica that the others outvote");
            for reply in std::mem::take(&mut self.cluster.replies) {
                match reply {
                    Reply::Registered { client: OWN, .. } | Reply::Expired { client: OWN, .. } => {
                        nonce += 1;
                        let at = *replicas.choose(&mut self.dice).expect("two others at least");
                        self.write_own(at, nonce);
                    }
                    other => self.clients.on_reply(&mut self.cluster, &mut self.dice, other),
                }
            }
        }
        // Its state is held against what the others had at each slot when it starts.
        self.cluster.crash(wrong, self.dice.random_bool(0.5));
        self.cluster.start(wrong);
        self.settle();
    }
}
