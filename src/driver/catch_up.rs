//! Snapshots between nodes: parts are read and sent at a pace, received into a file, and what came is checked
//! and put in the place of this node's state.
//!
//! Two threads do what the disk or a long look at the bytes may hold up; the loop hands on. What is received
//! lies in `DIR/snapshots/SLOT-CHECKSUM.recv`, so that a transfer goes on after a restart. When all is there:
//!
//! 1. the bytes are checked as at a start, and decoded,
//! 2. the file becomes a durable snapshot, and older ones go: between them and it the log has a gap, so
//!    no start may fall back to one of them,
//! 3. the loop takes the state over, and the log says that it jumped.
//!
//! A process that ends between 2 and 3 does the rest at its next start.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::paxos::{Epochs, Message, NodeId, Now, Receive, Slot, SnapshotId, SnapshotReply};
use crate::snapshot::{self, Loaded, SnapshotDir, SnapshotError};
use crate::store::{Engine, Store};
use crate::trace::monotonic_ns;
use crate::wire::ClusterId;

use super::ServeError;
use super::helper::Helper;
use super::server::Server;

/// A file that no peer has asked for in this time is closed, in microseconds.
const IDLE_US: u64 = 30_000_000;
/// How often an acceptor without a state looks what the replicas have, in microseconds.
const TRUNCATION_US: u64 = 1_000_000;
/// Bytes that are received before they are synced.
const SYNC_STEP_SIZE: u64 = 4 * 1024 * 1024;

pub struct CatchUp {
    sender: Helper<Asked, Part>,
    receiver: Helper<Step, Came>,
    /// Snapshots that peers pull: they stay readable although their files are removed meanwhile.
    serving: BTreeMap<SnapshotId, Serving>,
    /// When the transfer that is under way began.
    begun_us: u64,
    told_us: u64,
    next_truncation_us: u64,
}

struct Serving {
    file: Arc<File>,
    asked_us: u64,
}

struct Asked {
    reply: SnapshotReply,
    file: Arc<File>,
}

struct Part {
    to: NodeId,
    snapshot: SnapshotId,
    offset: u64,
    bytes: io::Result<Arc<[u8]>>,
}

enum Step {
    Receive(Receive),
    /// A state that is no longer used: to take it apart takes long if it is large.
    Drop(Box<Store>),
}

enum Came {
    /// So many bytes are kept of it.
    Part(SnapshotId, u64),
    Installed(SnapshotId, Box<Loaded>, Epochs),
    Failed(SnapshotId, String),
    Nothing,
}

impl CatchUp {
    /// `bytes_per_s`: how fast parts are sent, to all peers together.
    pub fn start(
        engine: Engine,
        dir: &SnapshotDir,
        cluster: ClusterId,
        applied: Slot,
        bytes_per_s: u64,
        wake: impl Fn() + Clone + Send + 'static,
    ) -> Result<CatchUp, SnapshotError> {
        dir.remove_received(|slot, _| slot <= applied)?;
        let mut throttle = Throttle { bytes_per_s, next_ns: 0 };
        let send = move |Asked { reply, file }: Asked| {
            let SnapshotReply { to, snapshot, offset, size } = reply;
            throttle.wait(u64::from(size));
            let mut bytes = vec![0; size as usize];
            let bytes = file.read_exact_at(&mut bytes, offset).map(|()| Arc::from(bytes));
            Part { to, snapshot, offset, bytes }
        };
        let failed = |error| dir.error("start a thread for", error);
        let sender =
            Helper::start_in_background("snapshot-send", wake.clone(), send).map_err(failed)?;
        let mut receiver = Receiver { engine, dir: dir.clone(), cluster, file: None, unsynced: 0 };
        let receive = move |step| receiver.step(step);
        let receiver =
            Helper::start_in_background("snapshot-receive", wake, receive).map_err(failed)?;
        Ok(CatchUp {
            sender,
            receiver,
            serving: BTreeMap::new(),
            begun_us: 0,
            told_us: 0,
            next_truncation_us: 0,
        })
    }

    /// Says now and then how far a transfer has come.
    fn tell(&mut self, now: Now, snapshot: SnapshotId, size: u64) {
        if self.told_us + 1_000_000 <= now.mono_us {
            self.told_us = now.mono_us;
            let (done, total) = (size >> 20, snapshot.size.div_ceil(1 << 20));
            log::info!("snapshot of slot {}: received {done} of {total} MiB", snapshot.slot);
        }
    }

    /// What peers can be given, the newest last: these durable ones, and those that are being pulled.
    pub fn with_served(&self, durable: impl Iterator<Item = SnapshotId>) -> Vec<SnapshotId> {
        let served = self.serving.keys().copied();
        let all: BTreeMap<Slot, SnapshotId> =
            served.chain(durable).map(|snapshot| (snapshot.slot, snapshot)).collect();
        all.into_values().collect()
    }
}

/// Lets so many bytes pass in a second.
struct Throttle {
    bytes_per_s: u64,
    next_ns: u64,
}

impl Throttle {
    fn wait(&mut self, size: u64) {
        let now_ns = monotonic_ns();
        if now_ns < self.next_ns {
            // sleep: nothing but time is waited for; this is what it is for.
            std::thread::sleep(Duration::from_nanos(self.next_ns - now_ns));
        }
        let takes_ns = size.saturating_mul(1_000_000_000) / self.bytes_per_s;
        self.next_ns = self.next_ns.max(now_ns) + takes_ns;
    }
}

/// The thread's side of receiving.
struct Receiver {
    engine: Engine,
    dir: SnapshotDir,
    cluster: ClusterId,
    file: Option<(SnapshotId, File)>,
    unsynced: u64,
}

impl Receiver {
    fn step(&mut self, step: Step) -> Came {
        let (snapshot, came) = match step {
            Step::Drop(store) => {
                drop(store);
                return Came::Nothing;
            }
            Step::Receive(Receive::Begin(snapshot)) => (snapshot, self.begin(snapshot)),
            Step::Receive(Receive::Chunk { snapshot, offset, bytes }) => {
                (snapshot, self.keep(snapshot, offset, &bytes))
            }
            Step::Receive(Receive::Install(snapshot)) => {
                let installed = self.install(snapshot);
                if installed.is_err() {
                    self.file = None;
                    // What is left goes at the next attempt, at the latest.
                    let _ = self.dir.remove_received(|_, _| true);
                }
                (snapshot, installed)
            }
            Step::Receive(Receive::GiveUp(snapshot)) => {
                self.file = None;
                let given_up = self.dir.remove_received(|_, _| true);
                (snapshot, given_up.map(|()| Came::Nothing).map_err(|error| error.to_string()))
            }
        };
        came.unwrap_or_else(|why| Came::Failed(snapshot, why))
    }

    fn path(&self, snapshot: SnapshotId) -> PathBuf {
        self.dir.received_path(snapshot)
    }

    fn begin(&mut self, snapshot: SnapshotId) -> Result<Came, String> {
        self.file = None;
        let path = self.path(snapshot);
        let others = |error: SnapshotError| error.to_string();
        self.dir.remove_received(|_, other| other != path).map_err(others)?;
        self.dir.remove_spare().map_err(others)?;
        let open = || -> io::Result<(File, u64)> {
            let file =
                File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
            let size = file.metadata()?.len();
            if snapshot.size < size {
                file.set_len(0)?;
                return Ok((file, 0));
            }
            Ok((file, size))
        };
        let (file, size) = open().map_err(|error| format!("{}: {error}", path.display()))?;
        if 0 < size {
            log::info!("of that snapshot {size} bytes of {} are there already", snapshot.size);
        }
        (self.file, self.unsynced) = (Some((snapshot, file)), 0);
        Ok(Came::Part(snapshot, size))
    }

    fn keep(&mut self, snapshot: SnapshotId, offset: u64, bytes: &[u8]) -> Result<Came, String> {
        // Steps of one that has failed meanwhile.
        let Some((_, file)) = self.file.as_ref().filter(|(id, _)| *id == snapshot) else {
            return Ok(Came::Nothing);
        };
        file.write_all_at(bytes, offset).map_err(|error| error.to_string())?;
        self.unsynced += bytes.len() as u64;
        if SYNC_STEP_SIZE <= self.unsynced {
            // In steps, so that a sync of the log in between finds no long queue at the disk.
            file.sync_data().map_err(|error| error.to_string())?;
            self.unsynced = 0;
        }
        Ok(Came::Part(snapshot, offset + bytes.len() as u64))
    }

    fn install(&mut self, snapshot: SnapshotId) -> Result<Came, String> {
        let file = self.file.take().filter(|(id, _)| *id == snapshot);
        let (_, file) = file.ok_or("it was not kept")?;
        let path = self.path(snapshot);
        let opened = File::open(&path).map_err(|error| error.to_string())?;
        let loaded =
            snapshot::load_into(&self.engine, &mut BufReader::with_capacity(1 << 20, opened))
                .map_err(|error| error.to_string())?;
        if loaded.summary.id() != snapshot || loaded.summary.head.cluster != self.cluster {
            return Err("it is another one than was offered".to_owned());
        }
        let epochs = Epochs::from_bytes(&loaded.summary.head.configurations)
            .ok_or("it holds no configurations")?;
        fs::rename(&path, self.dir.part_path(snapshot.slot)).map_err(|error| error.to_string())?;
        self.dir.complete(snapshot.slot, &file).map_err(|error| error.to_string())?;
        self.dir.remove_below(snapshot.slot).map_err(|error| error.to_string())?;
        Ok(Came::Installed(snapshot, Box::new(loaded), epochs))
    }
}

impl Server {
    /// Has a part of a snapshot read for a peer.
    pub(super) fn serve_part(&mut self, now: Now, reply: SnapshotReply) {
        if let Some(serving) = self.catch_up.serving.get_mut(&reply.snapshot) {
            serving.asked_us = now.mono_us;
            let file = Arc::clone(&serving.file);
            self.catch_up.sender.hand_over(Asked { reply, file });
            return;
        }
        match self.snapshots.open_for_peer(reply.snapshot) {
            Some(Ok(file)) => {
                log::info!("sending the snapshot of slot {} to {}", reply.snapshot.slot, reply.to);
                let file = Arc::new(file);
                let serving = Serving { file: Arc::clone(&file), asked_us: now.mono_us };
                self.catch_up.serving.insert(reply.snapshot, serving);
                self.catch_up.sender.hand_over(Asked { reply, file });
            }
            // The peer hears nothing and asks for what there is.
            Some(Err(error)) => log::warn!("a snapshot cannot be sent: {error}"),
            None => {}
        }
    }

    pub(super) fn receive_snapshot(&mut self, now: Now, receive: Receive) {
        if let Receive::Begin(snapshot) = &receive {
            log::info!(
                "the log that this node missed is gone at its peers: fetching the snapshot of slot {}, \
                 {} MiB",
                snapshot.slot,
                snapshot.size.div_ceil(1 << 20)
            );
            (self.catch_up.begun_us, self.catch_up.told_us) = (now.mono_us, now.mono_us);
        }
        self.catch_up.receiver.hand_over(Step::Receive(receive));
    }

    /// Hands on what the threads have done. Nothing may wait to be applied.
    pub(super) fn look_after_catch_up(&mut self, now: Now) -> Result<(), ServeError> {
        while let Some(Part { to, snapshot, offset, bytes }) = self.catch_up.sender.poll() {
            match bytes {
                Ok(bytes) => self.send(to, &Message::SnapshotChunk { snapshot, offset, bytes }),
                Err(error) => log::warn!("a snapshot cannot be read: {error}"),
            }
        }
        while let Some(came) = self.catch_up.receiver.poll() {
            match came {
                Came::Nothing => {}
                Came::Part(snapshot, size) => {
                    self.catch_up.tell(now, snapshot, size);
                    self.node.on_part(now, snapshot, size, &mut self.fx);
                }
                Came::Failed(snapshot, why) => {
                    log::warn!("the snapshot of slot {} is of no use: {why}", snapshot.slot);
                    self.node.on_snapshot_refused(snapshot);
                }
                Came::Installed(snapshot, loaded, epochs) => {
                    self.install(now, snapshot, *loaded, &epochs)?;
                }
            }
        }
        if self.catch_up.next_truncation_us <= now.mono_us {
            self.catch_up.next_truncation_us = now.mono_us + TRUNCATION_US;
            self.truncate_behind_replicas()?;
        }
        let is_idle = |serving: &Serving| serving.asked_us + IDLE_US <= now.mono_us;
        if self.catch_up.serving.values().any(is_idle) {
            self.catch_up.serving.retain(|_, serving| !is_idle(serving));
            self.on_snapshots_changed()?;
        }
        Ok(())
    }

    /// An acceptor that keeps no state lets go of what a majority of the replicas have in snapshots. To be
    /// called now and then.
    pub(super) fn truncate_behind_replicas(&mut self) -> Result<(), ServeError> {
        if self.node.roles().replica {
            return Ok(());
        }
        let first_unchosen = self.node.view().first_unchosen;
        let covered = self.node.covered_by_snapshots().next().min(first_unchosen);
        let needed_from = Slot(covered.0.saturating_sub(self.config.snapshot_keep_slots));
        let removed = self.wal.truncate_before(needed_from)?;
        if 0 < removed {
            log::info!("removing {removed} files of the log: replicas have what is in them");
            let log_begin = self.wal.log_begin(first_unchosen);
            self.node.on_snapshots(Vec::new(), Slot(0), log_begin, &mut self.fx);
        }
        Ok(())
    }

    /// The state of a snapshot, which is durable here now, becomes this node's.
    fn install(
        &mut self,
        now: Now,
        snapshot: SnapshotId,
        loaded: Loaded,
        epochs: &Epochs,
    ) -> Result<(), ServeError> {
        assert!(self.fx.chosen.is_empty(), "what is chosen was applied in its own turn");
        self.snapshots.on_received(snapshot);
        if snapshot.slot <= self.store.applied() {
            // The log has come as far meanwhile.
            self.node.on_snapshot_refused(snapshot);
            self.catch_up.receiver.hand_over(Step::Drop(Box::new(loaded.store)));
            return self.on_snapshots_changed();
        }
        let old = std::mem::replace(&mut self.store, loaded.store);
        self.catch_up.receiver.hand_over(Step::Drop(Box::new(old)));
        self.quarantine.on_replaced();
        if let Some(verifier) = &mut self.verifier {
            verifier.on_replaced();
        }
        self.node.on_snapshot_installed(now, snapshot.slot, epochs, &mut self.fx);
        let ms = (now.mono_us - self.catch_up.begun_us) / 1000;
        let keys = self.store.keys();
        log::info!("the state is that behind slot {} now: {keys} keys, {ms} ms", snapshot.slot);
        self.on_snapshots_changed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::{Addresses, Configuration, Configurations, Member, Roles};
    use crate::store::Store;

    const CLUSTER: ClusterId = ClusterId(5);

    /// The bytes of a snapshot of a node that has applied nothing but no-ops up to `slot`.
    fn bytes_of(slot: u64) -> (SnapshotId, Vec<u8>) {
        let mut store = Store::new();
        for slot in (1..=slot).map(Slot) {
            store.apply(slot, &crate::paxos::Value::noop(), &mut Vec::new());
        }
        let member = Member { node: NodeId(1), roles: Roles::ALL };
        let address = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let addresses = Addresses { peer: address(1), client: address(2) };
        let initial = Configuration::initial(vec![(member, addresses)], None, None).unwrap();
        let mut configurations = Configurations::new(initial, 4);
        configurations.on_known(Slot(slot + 1));
        let epochs = configurations.as_of(Slot(slot + 1)).unwrap().to_bytes();
        let mut bytes = Vec::new();
        let summary =
            snapshot::write(&store.freeze(), CLUSTER, Arc::from(epochs), &mut bytes).unwrap();
        (summary.id(), bytes)
    }

    fn receiver(dir: &SnapshotDir) -> Receiver {
        let (engine, dir) = (Engine::Memory, dir.clone());
        Receiver { engine, dir, cluster: CLUSTER, file: None, unsynced: 0 }
    }

    fn begin(receiver: &mut Receiver, snapshot: SnapshotId) -> u64 {
        match receiver.step(Step::Receive(Receive::Begin(snapshot))) {
            Came::Part(of, size) if of == snapshot => size,
            _ => panic!("it was not begun"),
        }
    }

    fn keep(receiver: &mut Receiver, snapshot: SnapshotId, offset: u64, bytes: &[u8]) {
        let receive = Receive::Chunk { snapshot, offset, bytes: Arc::from(bytes) };
        let came = receiver.step(Step::Receive(receive));
        let end = offset + bytes.len() as u64;
        assert!(matches!(came, Came::Part(of, size) if of == snapshot && size == end));
    }

    /// Half of it came, the process ended, the other half comes: it is installed, and nothing else is left.
    #[test]
    fn a_transfer_goes_on_after_a_restart() {
        let data_dir = tempfile::tempdir().unwrap();
        let dir = SnapshotDir::open(data_dir.path()).unwrap();
        let (snapshot, bytes) = bytes_of(9);
        let half = bytes.len() / 2;
        let mut before = receiver(&dir);
        // What is left of another one goes.
        assert_eq!(begin(&mut before, SnapshotId { slot: Slot(4), ..snapshot }), 0);
        assert_eq!(begin(&mut before, snapshot), 0);
        keep(&mut before, snapshot, 0, &bytes[..half]);
        drop(before);
        fs::write(dir.path(Slot(3)), b"an older one").unwrap();

        let mut receiver = receiver(&dir);
        assert_eq!(begin(&mut receiver, snapshot), half as u64);
        keep(&mut receiver, snapshot, half as u64, &bytes[half..]);
        match receiver.step(Step::Receive(Receive::Install(snapshot))) {
            Came::Installed(of, loaded, _) => {
                assert_eq!((of, loaded.store.applied()), (snapshot, Slot(9)));
            }
            Came::Failed(_, why) => panic!("{why}"),
            _ => panic!("it was not installed"),
        }
        assert_eq!(fs::read(dir.path(Slot(9))).unwrap(), bytes);
        assert_eq!(fs::read_dir(data_dir.path().join("snapshots")).unwrap().count(), 1);
    }

    /// The disk holds three snapshots at most, one that comes from a peer among them.
    #[test]
    fn what_comes_takes_the_room_of_the_spare() {
        let data_dir = tempfile::tempdir().unwrap();
        let dir = SnapshotDir::open(data_dir.path()).unwrap();
        for slot in 1..=3 {
            fs::write(dir.part_path(Slot(slot)), b"an older one").unwrap();
            let part = File::open(dir.part_path(Slot(slot))).unwrap();
            dir.complete(Slot(slot), &part).unwrap();
        }
        let files = || fs::read_dir(data_dir.path().join("snapshots")).unwrap().count();
        assert_eq!(files(), 3, "two that are kept, and the spare");
        begin(&mut receiver(&dir), bytes_of(9).0);
        assert_eq!((files(), dir.slots().unwrap()), (3, vec![Slot(3), Slot(2)]));
    }

    /// Bytes that are not those of the snapshot are dropped, and the next attempt begins anew.
    #[test]
    fn what_is_no_good_is_dropped() {
        let data_dir = tempfile::tempdir().unwrap();
        let dir = SnapshotDir::open(data_dir.path()).unwrap();
        let (snapshot, mut bytes) = bytes_of(9);
        bytes[70] ^= 1;
        let mut receiver = receiver(&dir);
        begin(&mut receiver, snapshot);
        keep(&mut receiver, snapshot, 0, &bytes);
        let came = receiver.step(Step::Receive(Receive::Install(snapshot)));
        assert!(matches!(came, Came::Failed(of, _) if of == snapshot));
        assert_eq!(begin(&mut receiver, snapshot), 0);
        assert_eq!(dir.slots().unwrap(), []);
    }
}
