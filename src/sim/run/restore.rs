//! What ends each run: a backup becomes a cluster of its own.

use rand::seq::IndexedRandom;

use crate::paxos::{NodeId, Slot};
use crate::snapshot;

use super::super::cluster::{Cluster, Reply};
use super::super::host;
use super::super::oracle::Oracle;
use super::{OWN, Run};

/// Election timeouts within which a backup is there, and within which what was made of it serves.
const BACKUP_TIMEOUTS_MAX: u64 = 40;

impl Run {
    /// A backup of this cluster is restored as another one, which serves, and knows what was done.
    pub(super) fn restore_elsewhere(&mut self) {
        self.settle();
        let mut replicas = self.cluster.replicas();
        replicas.retain(|id| self.cluster.is_running(*id));
        let from = *replicas.choose(&mut self.dice).expect("somebody serves");
        let deadline_us = self.deadline_us(BACKUP_TIMEOUTS_MAX);
        self.cluster.ask_for_snapshot(from);
        let bytes = loop {
            // The oracle must have seen no more than is in the backup.
            let end = self.cluster.checker.oracle.end();
            if end == Slot::FIRST {
                return;
            }
            match self.cluster.backup(from, Slot(end.0 - 1)) {
                Some(bytes) => break bytes,
                None => self.cluster.ask_for_snapshot(from),
            }
            self.step_until(deadline_us, "a client that wants a snapshot");
            self.pass_replies();
        };
        let loaded = snapshot::load(&mut &bytes[..]).expect("it was just taken");
        self.cluster.checker.on_state(from, loaded.store.applied(), loaded.store.digest());
        let last = self.cluster.checker.acked().last_key_value().map(|(id, _)| *id);
        let oracle = std::mem::replace(&mut self.cluster.checker.oracle, Oracle::new());
        let settings = self.cluster.settings.clone();
        let mut cluster = Cluster::restored(settings, self.plan.seed, &loaded.store, oracle);
        std::mem::swap(&mut self.cluster.trace, &mut cluster.trace);
        cluster.note(|| "a backup is restored".into());
        cluster.start_all();
        let timeout_us = cluster.settings.election_timeout_us;
        let deadline_us = BACKUP_TIMEOUTS_MAX * timeout_us;
        let replicas = cluster.replicas();
        let first = replicas[0];
        // What was done is not done again: the oracle holds the answer against the first one.
        let last = last.map(|id| host::command(id.session.0, id.seq, 0, b""));
        let new = host::command(0, OWN, 0, b"");
        let commands: Vec<_> = last.into_iter().chain([new]).collect();
        let mut waiting = commands.len();
        for command in &commands {
            cluster.command(first, command.clone(), OWN);
        }
        let is_level = |cluster: &Cluster, end: Slot| {
            replicas.iter().all(|id: &NodeId| end <= cluster.hosts[id].applied_end)
        };
        while 0 < waiting || !is_level(&cluster, cluster.checker.oracle.end()) {
            cluster.step(deadline_us);
            for reply in std::mem::take(&mut cluster.replies) {
                match reply {
                    Reply::Registered { .. } | Reply::Done { .. } | Reply::Refused { .. } => {
                        waiting -= 1;
                    }
                    Reply::Expired { id, .. } => {
                        let again = commands.iter().find(|command| command.id == id);
                        cluster.command(first, again.expect("one of them").clone(), OWN);
                    }
                    _ => {}
                }
            }
            assert!(cluster.now_us < deadline_us, "what was restored does not serve");
        }
        std::mem::swap(&mut self.cluster.trace, &mut cluster.trace);
        self.cluster.coverage.restores += 1;
    }
}
