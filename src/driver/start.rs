//! How a node starts: recover the log, replay it into the store, open the doors.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use mio::net::{TcpListener, UnixStream};
use mio::{Interest, Poll, Waker};
use rand::TryRng;
use rand::rngs::SysRng;

use crate::config::Config;
use crate::limits;
use crate::paxos::{
    Configurations, Effects, Epochs, Node, NodeConfig, Optimisations, Recovered, Roles, Slot,
};
use crate::snapshot::{Form, Loaded, SnapshotDir, SnapshotError};
use crate::store::{Engine, Store};
use crate::trace;
use crate::wal::{Identity, Options, Wal};
use crate::wire::ClusterId;

use super::ServeError;
use super::backup::chunk_reader;
use super::catch_up::CatchUp;
use super::checkpoints::Checkpoints;
use super::connection::READ_CHUNK;
use super::fetch::start_fetcher;
use super::freshness::Freshness;
use super::held::Held;
use super::members;
use super::quarantine::Quarantine;
use super::replay::{check_value, replay_into};
use super::scan::Scans;
use super::server::{CLIENT_LISTENER, PEER_LISTENER, SIGNALS, Server, WAKER, clock};
use super::snapshots::{Rule, Snapshots, size_in_log};
use super::sql::SqlQueries;
use super::table::Table;
use super::tracer::Tracer;
use super::watch::Watches;

/// What a node that joins is until it learns otherwise.
const LEARNER: Roles = Roles { acceptor: false, leader: false, replica: true };

impl Server {
    /// Recovers the node's state and opens its doors.
    pub fn start(config: Config) -> Result<Server, ServeError> {
        let poll = Poll::new().map_err(io_error("cannot make an event poll"))?;
        let waker = Waker::new(poll.registry(), WAKER);
        let waker = Arc::new(waker.map_err(io_error("cannot make a waker"))?);
        let signals = register_signals(&poll).map_err(io_error("cannot watch signals"))?;
        let mut tracer = Tracer::new(&config).map_err(io_error("cannot create the trace file"))?;

        let identity = Identity { cluster: config.cluster, node: config.node };
        let options = Options { segment_size: config.wal_segment_size, sync: config.wal_sync };
        if !config.wal_sync {
            log::warn!("wal.sync = false: a power cut may lose what was acknowledged");
        }
        if config.optimisations != Optimisations::default() || !config.group_commit {
            log::warn!("[optimisations]: some are off, for the laboratory");
        }
        // A lost wake-up would leave a sync unnoticed, so a failing waker is fatal.
        let wake = move || waker.wake().expect("the waker's descriptor stays open");
        let mut progress = report_progress("reading the log");
        let (mut wal, mut recovered) =
            Wal::open(&config.data_dir, identity, options, Box::new(wake.clone()), &mut progress)?;

        check_numbers(&recovered)?;
        for entry in &recovered.tail {
            check_value(entry.slot, &entry.value.0)?;
        }
        let dir = SnapshotDir::open(&config.data_dir)?;
        dir.remove_parts()?;
        let engine = config.engine.open(&config.data_dir);
        let engine = engine.map_err(io_error("cannot make room for the keys"))?;
        let log_begin = wal.log_begin(recovered.first_unchosen);
        let (loaded, epochs) = match load_snapshot(&engine, &dir, log_begin, config.cluster)? {
            Some(loaded) => loaded,
            None => (Store::in_engine(&engine), begin_with(&dir, &config)?),
        };
        let is_linked = dir.form(loaded.applied()) == Some(Form::Linked);
        if !wal.lost().is_empty() {
            recovered = wal.recovered_above(loaded.applied().next());
            tell_of_damage(&wal, &recovered);
        }
        let log_begin = wal.log_begin(recovered.first_unchosen);
        recovered.snapshot = loaded.applied();
        dir.remove_above(recovered.snapshot)?;
        dir.retire()?;
        // All up to the snapshot's slot is chosen. The log may not know: it is told of that later.
        let first_unchosen = recovered.first_unchosen.max(recovered.snapshot.next());
        let mut checkpoints = Checkpoints::new(limits::CHECKPOINT_SLOTS);
        let (store, log_size) =
            replay(loaded, &wal, log_begin, first_unchosen, &config, &mut checkpoints)?;
        let quarantine = Quarantine::new(checkpoints, limits::QUARANTINE_RETRY_US);
        let fetcher = start_fetcher(engine.clone(), dir.clone(), config.cluster, wake.clone())
            .map_err(io_error("cannot start a thread"))?;
        let rule =
            Rule { log_size_min: config.snapshot_log_size, keep_slots: config.snapshot_keep_slots };
        let chunks = chunk_reader(wake.clone()).map_err(io_error("cannot start a thread"))?;
        let sql_queries =
            SqlQueries::start(wake.clone()).map_err(io_error("cannot start a thread"))?;
        let verifier = Server::start_verifier(&engine, rule, is_linked, wake.clone())
            .map_err(io_error("cannot start a thread"))?;
        let links = engine.has_checkpoints();
        let catch_up = CatchUp::start(
            engine,
            &dir,
            config.cluster,
            recovered.snapshot,
            config.snapshot_transfer_bytes_s,
            wake.clone(),
        )?;
        let snapshots = Snapshots::start(&dir, config.cluster, rule, log_size, links, wake)?;
        let configurations = members::recover(&config, epochs, &wal, log_begin, first_unchosen)?;
        let me = config.nodes.iter().find(|n| n.id == config.node).expect("checked by Config");
        let remembered = configurations.roles(config.node);
        let roles = remembered.unwrap_or(if config.join { LEARNER } else { me.roles });
        if let Some(addresses) = configurations.latest().1.addresses(config.node)
            && (addresses.peer, addresses.client) != (me.peer_address, me.client_address)
        {
            log::warn!(
                "the others look for this node at {} and {}, not at the addresses of its \
                     configuration file",
                addresses.peer,
                addresses.client
            );
        }
        let now = clock();
        let node_config = NodeConfig {
            node: config.node,
            roles,
            configurations,
            election_timeout_us: config.election_timeout_us,
            request_timeout_us: config.request_timeout_us,
            window_slots: config.window_slots,
            optimisations: config.optimisations,
            lease: config.lease,
            snapshot_chunk_size: limits::SNAPSHOT_CHUNK_SIZE,
        };
        let mut fx = Effects::new(config.node);
        // Another one in each life of the process: read requests of two lives must not share ids.
        let seed = SysRng.try_next_u64().map_err(|error| ServeError::Io {
            doing: "cannot get random numbers from the system",
            error: io::Error::other(error),
        })?;
        let node = Node::new(node_config, &recovered, seed, now, &mut fx);

        let listen = |what, address, token| -> Result<TcpListener, ServeError> {
            let result = TcpListener::bind(address).and_then(|mut listener| {
                poll.registry().register(&mut listener, token, Interest::READABLE)?;
                Ok(listener)
            });
            result.map_err(|error| ServeError::Listen { what, address, error })
        };
        let peer_listener = listen("peer_address", me.peer_address, PEER_LISTENER)?;
        let client_listener = listen("client_address", me.client_address, CLIENT_LISTENER)?;
        log::info!(
            "serving as {} of cluster {:?}: clients on {}, peers on {}, first unchosen slot {}",
            me.roles,
            config.cluster_name,
            me.client_address,
            me.peer_address,
            node.view().first_unchosen,
        );
        tracer.started(node.view().first_unchosen);

        let mut server = Server {
            poll,
            peer_listener,
            client_listener,
            signals,
            accept_again: Vec::new(),
            descriptors_max: descriptors_max(),
            next_full_warning_us: 0,
            scratch: vec![0; READ_CHUNK].into(),
            table: Table::default(),
            links: BTreeMap::new(),
            linked_us: now.mono_us,
            members_epoch: 0,
            ready: Vec::new(),
            blocked: Vec::new(),
            dirty: Vec::new(),
            node,
            fx,
            appended_end: recovered.tail.last().map_or(first_unchosen, |t| t.slot.next()),
            syncing: false,
            syncing_end: Slot::FIRST,
            syncing_from: wal.durable(),
            syncing_since_us: now.mono_us,
            wal,
            held: Held::default(),
            store,
            snapshots,
            verifier,
            chunks,
            sql_queries,
            watches: Watches::default(),
            scans: Scans::default(),
            quarantine,
            fetcher,
            catch_up,
            reads: BTreeMap::new(),
            next_read: 0,
            freshness: Freshness::default(),
            tracer,
            started_us: now.mono_us,
            next_upkeep_us: now.mono_us,
            watchdog_us: sd_notify::watchdog_enabled().map(|limit| limit.as_micros() as u64 / 3),
            next_watchdog_us: now.mono_us,
            next_room_us: now.mono_us,
            told_leader: None,
            is_repairing: !recovered.unsure.is_empty(),
            stopping_us: None,
            config,
        };
        server.on_snapshots_changed()?;
        Ok(server)
    }
}

/// Says what of the log is lost, and what that means.
fn tell_of_damage(wal: &Wal, recovered: &Recovered) {
    for lost in wal.lost() {
        let (first, end) = (lost.sequences.start, lost.sequences.end);
        log::error!(
            "the log is damaged: records {first}..{end} are lost at segment {} offset {}: {}",
            lost.segment,
            lost.offset,
            lost.why
        );
    }
    if recovered.unsure.is_empty() {
        if !wal.lost().is_empty() {
            log::info!("nothing that the log lost is missing: it is known, or was learned again");
        }
    } else {
        log::error!(
            "repairing {} slots from peers, from slot {} on; until then this node does not vote on what \
             it may have accepted in them",
            recovered.unsure.len(),
            recovered.first_unchosen
        );
    }
}

/// The log's checksums are right, or it would not have been opened. Numbers that nobody here has written
/// are refused all the same: counting on from the end of their range would overflow. `wire` lets no such
/// number in.
fn check_numbers(recovered: &Recovered) -> Result<(), ServeError> {
    const MAX: u64 = 1 << 62;
    let rounds = [recovered.promised.round, recovered.own_ballot.round];
    let last = recovered.tail.last().map_or(Slot(0), |entry| entry.slot);
    let slots = [recovered.first_unchosen.0, last.0];
    match rounds.into_iter().chain(slots).find(|number| MAX <= *number) {
        Some(number) => Err(ServeError::LogForeign {
            what: format!("a slot or a round is {number}, which is out of all range"),
        }),
        None => Ok(()),
    }
}

/// The newest snapshot that can be used: state and configurations. `None` if there is none and the log has
/// all.
fn load_snapshot(
    engine: &Engine,
    dir: &SnapshotDir,
    log_begin: Slot,
    cluster: ClusterId,
) -> Result<Option<(Store, Option<Epochs>)>, ServeError> {
    let begun_ns = trace::monotonic_ns();
    match dir.load_newest(engine, cluster, &mut report_progress("reading the snapshot")) {
        Ok(Some(Loaded { store, summary })) => {
            let ms = (trace::monotonic_ns() - begun_ns) / 1_000_000;
            let (slot, size) = (summary.head.slot, summary.size);
            if dir.form(slot) == Some(Form::Linked) {
                log::info!("opened the checkpoint of slot {slot}: {} keys", summary.keys);
            }
            log::info!("loaded the snapshot of slot {slot}: {size} bytes in {ms} ms");
            match Epochs::from_bytes(&summary.head.configurations) {
                Some(epochs) => Ok(Some((store, Some(epochs)))),
                None => Err(ServeError::LogForeign {
                    what: format!("the snapshot of slot {slot} holds no configurations"),
                }),
            }
        }
        Ok(None) => Ok(None),
        Err(SnapshotError::NoneUsable { .. }) if log_begin == Slot::FIRST => {
            log::warn!("the log is replayed from its beginning, for want of a snapshot");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes down with what configuration the cluster begins, as a snapshot of slot 0: from now on the data
/// directory tells it and not the file, which may be edited. `None` for a node that joins a cluster and
/// has not heard of it yet.
fn begin_with(dir: &SnapshotDir, config: &Config) -> Result<Option<Epochs>, ServeError> {
    let configurations = Configurations::new(config.configuration.clone(), limits::ALPHA_SLOTS);
    let epochs = configurations.as_of(Slot::FIRST);
    if let Some(epochs) = &epochs {
        dir.write(&Store::new().freeze(), config.cluster, epochs.to_bytes().into())?;
    }
    Ok(epochs)
}

/// Brings the store to where the log says that all is chosen. Also returns how many bytes the log holds
/// behind the snapshot.
fn replay(
    store: Store,
    wal: &Wal,
    log_begin: Slot,
    first_unchosen: Slot,
    config: &Config,
    checkpoints: &mut Checkpoints,
) -> Result<(Store, u64), ServeError> {
    let me = config.nodes.iter().find(|n| n.id == config.node).expect("checked by Config");
    if !me.roles.replica {
        return Ok((Store::new(), 0));
    }
    let first = store.applied().next();
    if first < first_unchosen && first < log_begin {
        let (snapshot, log_begin) = (store.applied().0, log_begin.0);
        return Err(ServeError::LogTooShort { snapshot, log_begin });
    }
    let begun_ns = trace::monotonic_ns();
    let (mut told_ns, mut log_size) = (begun_ns, 0);
    let store = replay_into(store, wal, first_unchosen, &mut |done| {
        log_size += size_in_log(done.value.len());
        checkpoints.on_applied(done.slot, || done.store.digest());
        let now_ns = trace::monotonic_ns();
        if 1_000_000_000 < now_ns - told_ns {
            told_ns = now_ns;
            log::info!("replaying the log: slot {} of {}", done.slot, first_unchosen.0 - 1);
        }
    })?;
    let ms = (trace::monotonic_ns() - begun_ns) / 1_000_000;
    log::info!("replayed {} slots in {ms} ms", first_unchosen.since(first));
    Ok((store, log_size))
}

/// Says now and then how far reading has come.
fn report_progress(reading: &'static str) -> impl FnMut(u64, u64) {
    let mut told_ns = trace::monotonic_ns();
    move |done, total| {
        let now_ns = trace::monotonic_ns();
        if 1_000_000_000 < now_ns - told_ns {
            told_ns = now_ns;
            log::info!("{reading}: {} of {} MiB", done >> 20, total >> 20);
        }
    }
}

/// The soft limit of open files, if there is one that can be read.
fn descriptors_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    soft.and_then(|soft| soft.parse().ok()).unwrap_or(usize::MAX)
}

fn register_signals(poll: &Poll) -> io::Result<UnixStream> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::low_level::pipe::register(signal, theirs.try_clone()?)?;
    }
    let mut ours = UnixStream::from_std(ours);
    poll.registry().register(&mut ours, SIGNALS, Interest::READABLE)?;
    Ok(ours)
}

pub(super) fn io_error(doing: &'static str) -> impl FnOnce(io::Error) -> ServeError {
    move |error| ServeError::Io { doing, error }
}
