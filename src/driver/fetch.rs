//! The thread that fetches another state for a quarantined replica (`quarantine`), as a backup is fetched.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::net::SocketAddr;
use std::time::Duration;

use crate::client::Client;
use crate::paxos::Slot;
use crate::snapshot::{self, Loaded, SnapshotDir};
use crate::store::Engine;
use crate::wire::ClusterId;

use super::helper::Helper;
use super::quarantine::is_of_use;

/// How long the fetching thread waits for a snapshot, and for each part of it.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

/// A thread that fetches snapshots.
pub type Fetcher = Helper<Wanted, Result<Loaded, String>>;

/// A snapshot is wanted from one of these nodes, in the place of those.
pub struct Wanted {
    pub nodes: Vec<SocketAddr>,
    pub wrong: Vec<Slot>,
    /// Where this node's log begins.
    pub log_begin: Slot,
}

pub fn start_fetcher(
    engine: Engine,
    dir: SnapshotDir,
    cluster: ClusterId,
    wake: impl Fn() + Send + 'static,
) -> io::Result<Fetcher> {
    Helper::start_in_background("snapshot-fetch", wake, move |wanted| {
        fetch(&wanted, &engine, &dir, cluster)
    })
}

fn fetch(
    wanted: &Wanted,
    engine: &Engine,
    dir: &SnapshotDir,
    cluster: ClusterId,
) -> Result<Loaded, String> {
    if wanted.nodes.is_empty() {
        return Err("there is no other replica".to_owned());
    }
    dir.remove_spare().map_err(|error| error.to_string())?;
    let part = dir.part_path(Slot(0));
    let file = File::options().write(true).create(true).truncate(true).open(&part);
    let file = file.map_err(|error| format!("cannot create {}: {error}", part.display()))?;
    let mut client = Client::new(&wanted.nodes, FETCH_TIMEOUT);
    let (id, _) =
        client.fetch_snapshot(&file, &mut |_, _| {}).map_err(|error| error.to_string())?;
    let read = File::open(&part).map_err(|error| error.to_string())?;
    let loaded = snapshot::load_into(engine, &mut BufReader::new(read))
        .map_err(|error| error.to_string())?;
    if loaded.summary.id() != id || loaded.summary.head.cluster != cluster {
        return Err("the node sent another snapshot than it said".to_owned());
    }
    if !is_of_use(id.slot, wanted.log_begin) {
        return Err(format!("it is of slot {}, and the log begins later", id.slot));
    }
    fs::rename(&part, dir.part_path(id.slot)).map_err(|error| error.to_string())?;
    dir.complete_instead(id.slot, &file, &wanted.wrong).map_err(|error| error.to_string())?;
    Ok(loaded)
}
