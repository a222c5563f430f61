//! What a replica does whose state is wrong: it serves nobody with it, and gets another one.
//!
//! That it is wrong it hears from others (`checkpoints`), or finds when it writes a snapshot. It then serves
//! no client and does not lead, but goes on voting: what an acceptor promises and accepts stands in its
//! log and has nothing to do with the state. It fetches a snapshot from another replica, as a backup would
//! (`fetch`). The log from there on is this node's own, and replayed.
//!
//! What is decided is in `Quarantine`, which the simulator plays as well; what the server does about it is below.

use crate::mutants::{self, Mutant};
use crate::paxos::{Checkpoint, Health, NodeId, Now, Slot, StateStanding};
use crate::snapshot::Loaded;
use crate::store::Store;
use crate::trace;
use crate::wal::{Disk, Wal};

use super::ServeError;
use super::checkpoints::{Checkpoints, Verdict};
use super::fetch::Wanted;
use super::replay::{Replayed, replay_into};
use super::server::Server;

pub struct Quarantine {
    checkpoints: Checkpoints,
    /// How long it waits after a snapshot that it could not get, in microseconds.
    retry_us: u64,
    stage: Stage,
    /// The last checkpoint that was said to be disputed, or wrong at another replica.
    disputed: Slot,
}

enum Stage {
    /// Nothing is known against the state.
    Sound,
    /// A snapshot is to be fetched then, or later.
    Waiting { from_us: u64 },
    /// It is on its way.
    Fetching,
    /// It is here, and is put in place once this node's log reaches over it.
    Fetched(Box<Loaded>),
}

/// What is to be done next for another state.
#[derive(Debug)]
pub enum Due {
    Nothing,
    /// Another replica is to be asked for a snapshot. `on_fetched` waits to hear what becomes of that.
    Fetch,
    /// The state of this one, and what this node's log has behind it, is to be its state: `renewed`.
    Replace(Box<Loaded>),
}

/// Whether the state behind `slot` can be brought to where this node is, by its log that begins there.
pub fn is_of_use(slot: Slot, log_begin: Slot) -> bool {
    log_begin <= slot.next()
}

impl Quarantine {
    /// `checkpoints`: of the state that the node begins with.
    pub fn new(checkpoints: Checkpoints, retry_us: u64) -> Quarantine {
        Quarantine { checkpoints, retry_us, stage: Stage::Sound, disputed: Slot(0) }
    }

    pub fn is_on(&self) -> bool {
        !matches!(self.stage, Stage::Sound)
    }

    /// The state behind `slot` was applied. True if others are to be told of its digest.
    pub fn on_applied(&mut self, slot: Slot, digest: impl FnOnce() -> u128) -> bool {
        self.checkpoints.on_applied(slot, digest)
    }

    /// What others are told: nothing of a state that is known to be wrong.
    pub fn told(&self) -> Option<Checkpoint> {
        self.checkpoints.newest().filter(|_| !self.is_on())
    }

    /// What a heartbeat of another replica says.
    pub fn on_told(&mut self, from: NodeId, checkpoint: Checkpoint) {
        self.checkpoints.on_told(from, checkpoint);
    }

    /// What others say against this state, or about one another; each is said once.
    pub fn judge(&mut self) -> Verdict {
        if self.is_on() || mutants::is_on(Mutant::IgnoreVerdict) {
            return Verdict::Sound;
        }
        let verdict = self.checkpoints.verdict();
        if let Verdict::Disputed(slot) | Verdict::OtherWrong(slot, _) = verdict {
            if slot <= self.disputed {
                return Verdict::Sound;
            }
            self.disputed = slot;
        }
        verdict
    }

    /// The state is wrong.
    pub fn begin(&mut self, now: Now) {
        assert!(!self.is_on());
        self.stage = Stage::Waiting { from_us: now.mono_us };
    }

    /// To be asked whenever time has passed, or slots were applied; `applied` is the last one.
    pub fn due(&mut self, now: Now, applied: Slot) -> Due {
        match &self.stage {
            Stage::Waiting { from_us } if *from_us <= now.mono_us => {
                self.stage = Stage::Fetching;
                Due::Fetch
            }
            Stage::Fetched(loaded) if loaded.store.applied() <= applied => {
                let stage = std::mem::replace(&mut self.stage, Stage::Sound);
                let Stage::Fetched(loaded) = stage else { unreachable!("just seen") };
                Due::Replace(loaded)
            }
            _ => Due::Nothing,
        }
    }

    /// What has become of `Due::Fetch`: a snapshot, durable here, or none.
    pub fn on_fetched(&mut self, now: Now, loaded: Option<Loaded>) {
        assert!(matches!(self.stage, Stage::Fetching));
        self.stage = match loaded {
            Some(loaded) => Stage::Fetched(Box::new(loaded)),
            None => Stage::Waiting { from_us: now.mono_us + self.retry_us },
        };
    }

    /// The state that `fetched` and the log up to `end` make.
    pub fn renewed<D: Disk>(
        &mut self,
        fetched: Store,
        wal: &Wal<D>,
        end: Slot,
        done: &mut dyn FnMut(&Replayed<'_>),
    ) -> Result<Store, ServeError> {
        self.on_replaced();
        let end = match mutants::is_on(Mutant::FetchedWithoutLog) {
            true => fetched.applied().next(),
            false => end,
        };
        replay_into(fetched, wal, end, &mut |it| {
            self.checkpoints.on_applied(it.slot, || it.store.digest());
            done(&it);
        })
    }

    /// The state is another one: what was noted of the old one is no longer this replica's.
    pub fn on_replaced(&mut self) {
        self.checkpoints.forget_own();
    }
}

impl Server {
    /// The state behind `slot` was applied.
    pub(super) fn note_checkpoint(&mut self, slot: Slot) {
        let store = &self.store;
        if self.quarantine.on_applied(slot, || store.digest()) {
            self.tell_state();
        }
    }

    /// What heartbeats say of snapshots and digests.
    pub(super) fn tell_state(&mut self) {
        let snapshot = self.snapshots.newest();
        let checkpoint = self.quarantine.told();
        self.node.set_standing_of_state(StateStanding { snapshot, checkpoint });
    }

    /// Compares this replica's state with what others have said of theirs.
    pub(super) fn compare_states(&mut self, now: Now) {
        let me = self.config.node;
        let peers: Vec<_> = self.links.keys().copied().filter(|node| *node != me).collect();
        for peer in peers {
            if let Some(told) = self.node.heard(peer).and_then(|it| it.state.checkpoint) {
                self.quarantine.on_told(peer, told);
            }
        }
        match self.quarantine.judge() {
            Verdict::Sound => {}
            Verdict::OtherWrong(slot, node) => {
                log::warn!("{node} has another state behind slot {slot} than others and this one");
            }
            Verdict::Disputed(slot) => {
                log::error!(
                    "replicas differ behind slot {slot}, and it cannot be told which is wrong: \
                     compare `loggos status --json` at all of them"
                );
            }
            Verdict::Wrong(slot) => {
                self.begin_quarantine(now, &format!("others agree on another behind slot {slot}"));
            }
        }
    }

    pub(super) fn begin_quarantine(&mut self, now: Now, why: &str) {
        if self.quarantine.is_on() {
            return;
        }
        log::error!("quarantined: the state of this replica is wrong ({why}); fetching another");
        self.snapshots.distrust();
        self.sql_queries.forget_all();
        self.scans.forget_all();
        self.freshness.forget();
        self.quarantine.begin(now);
        self.node.set_health(Health { quarantined: true, ..self.node.health() });
        self.node.hand_over(&mut self.fx);
        self.tell_state();
    }

    /// Carries on with getting another state.
    pub(super) fn look_after_quarantine(&mut self, now: Now) -> Result<(), ServeError> {
        if let Some(fetched) = self.fetcher.poll() {
            if let Err(why) = &fetched {
                log::warn!(
                    "no snapshot from another replica: {why}; trying again (a restart makes the \
                     state from this node's own snapshot and log)"
                );
            }
            self.quarantine.on_fetched(now, fetched.ok());
        }
        match self.quarantine.due(now, self.store.applied()) {
            Due::Nothing => {}
            Due::Fetch => {
                // As they are now: the file tells how the cluster began.
                let members = self.node.configurations().members().into_iter();
                let others =
                    members.filter(|(it, _)| it.node != self.config.node && it.roles.replica);
                let nodes = others.map(|(_, addresses)| addresses.client).collect();
                let (wrong, log_begin) = (self.snapshots.wrong(), self.node.log_begin());
                self.fetcher.hand_over(Wanted { nodes, wrong, log_begin });
            }
            Due::Replace(loaded) => self.end_quarantine(*loaded)?,
        }
        Ok(())
    }

    /// Puts the fetched state in the place of the wrong one.
    fn end_quarantine(&mut self, loaded: Loaded) -> Result<(), ServeError> {
        let Loaded { store, summary } = loaded;
        let (slot, end) = (store.applied(), self.store.applied().next());
        let begun_ns = trace::monotonic_ns();
        if is_of_use(slot, self.node.log_begin()) {
            self.store = self.quarantine.renewed(store, &self.wal, end, &mut |_| {})?;
            self.snapshots.replace(summary.id());
            if let Some(verifier) = &mut self.verifier {
                verifier.on_replaced();
            }
            self.on_snapshots_changed()?;
        } else {
            // This node has lagged so far since then that the log jumped: its state is another one already.
            self.snapshots.drop_fetched(slot)?;
        }
        self.node.set_health(Health { quarantined: false, ..self.node.health() });
        self.tell_state();
        let ms = (trace::monotonic_ns() - begun_ns) / 1_000_000;
        log::info!("out of quarantine: the state is from the snapshot of slot {slot}, {ms} ms");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CHECKPOINT_SLOTS;

    fn at(mono_us: u64) -> Now {
        Now { mono_us, wall_us: 0 }
    }

    fn loaded(slot: u64) -> Loaded {
        let mut store = Store::new();
        for slot in (1..=slot).map(Slot) {
            store.apply(slot, &crate::paxos::Value::noop(), &mut Vec::new());
        }
        let mut bytes = Vec::new();
        let cluster = crate::wire::ClusterId(1);
        crate::snapshot::write(&store.freeze(), cluster, [].into(), &mut bytes).unwrap();
        crate::snapshot::load(&mut &bytes[..]).unwrap()
    }

    /// It fetches until it gets something, and takes that when its own log has come as far.
    #[test]
    fn a_wrong_state_is_fetched_again_until_it_is_there() {
        let mut quarantine = Quarantine::new(Checkpoints::new(CHECKPOINT_SLOTS), 100);
        assert!(matches!(quarantine.due(at(5), Slot(3)), Due::Nothing));
        quarantine.begin(at(5));
        assert!(quarantine.is_on());
        assert!(matches!(quarantine.due(at(5), Slot(3)), Due::Fetch));
        assert!(matches!(quarantine.due(at(900), Slot(3)), Due::Nothing), "one at a time");
        quarantine.on_fetched(at(900), None);
        assert!(matches!(quarantine.due(at(999), Slot(3)), Due::Nothing));
        assert!(matches!(quarantine.due(at(1000), Slot(3)), Due::Fetch));
        quarantine.on_fetched(at(1000), Some(loaded(5)));
        assert!(
            matches!(quarantine.due(at(1000), Slot(4)), Due::Nothing),
            "not yet known to be chosen"
        );
        assert!(quarantine.is_on());
        let Due::Replace(fetched) = quarantine.due(at(1000), Slot(5)) else { panic!("it is due") };
        assert_eq!(fetched.store.applied(), Slot(5));
        assert!(!quarantine.is_on());
    }

    /// A state that is known to be wrong is not told of, and a new one is not judged by what it was.
    #[test]
    fn who_is_wrong_keeps_quiet_and_begins_anew() {
        let mut quarantine = Quarantine::new(Checkpoints::new(2), 100);
        assert!(!quarantine.on_applied(Slot(1), || 7));
        assert!(quarantine.on_applied(Slot(2), || 7));
        let (slot, digest) = (Slot(2), 7);
        assert_eq!(quarantine.told(), Some(Checkpoint { slot, digest }));
        quarantine.on_told(NodeId(2), Checkpoint { slot, digest: 8 });
        assert_eq!(quarantine.judge(), Verdict::Disputed(slot));
        assert_eq!(quarantine.judge(), Verdict::Sound, "that was said");
        quarantine.on_told(NodeId(3), Checkpoint { slot, digest: 8 });
        assert_eq!(quarantine.judge(), Verdict::Wrong(slot));
        quarantine.begin(at(0));
        assert_eq!((quarantine.told(), quarantine.judge()), (None, Verdict::Sound));
        assert!(matches!(quarantine.due(at(0), slot), Due::Fetch));
        quarantine.on_fetched(at(0), Some(loaded(2)));
        assert!(matches!(quarantine.due(at(0), slot), Due::Replace(_)));
        quarantine.on_replaced();
        assert_eq!(quarantine.judge(), Verdict::Sound);
    }
}
