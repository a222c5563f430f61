//! Who is in the cluster, as the driver sees it: what the data directory remembers of that, links that
//! follow it, and what operators ask for.
//!
//! `DIR/configurations` holds what the log said of the configurations when it was last written:
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 8 | magic `LOGGOSCF` |
//! | 8 | 4 | version: 1 |
//! | 12 | 4 | CRC-32 of all that follows |
//! | 16 | | as `Epochs::to_bytes` writes them |
//!
//! It is written whole beside itself, synced and renamed. It may lag: what the log says of slots above it
//! is read at each start. It is there so that a node knows who is in the cluster although its file of
//! configuration says otherwise, or an old thing: only when the directory is new is that believed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::limits::ALPHA_SLOTS;
use crate::paxos::{Change, Configurations, Epochs, NodeId, Now, Refusal, Slot};
use crate::wal::Wal;
use crate::wire::client::{ErrorKind, RequestKey, Response};

use super::ServeError;
use super::replay::recover_configurations;
use super::server::Server;
use super::table::ConnectionId;

const MAGIC: [u8; 8] = *b"LOGGOSCF";
const VERSION: u32 = 1;
const HEADER_SIZE: usize = 16;

fn path_in(dir: &Path) -> PathBuf {
    dir.join("configurations")
}

/// What the node knows at start of who is in the cluster: from the data directory, which may hold a snapshot
/// that says so too, and where that is new from the file of configuration.
pub(super) fn recover(
    config: &Config,
    snapshot: Option<Epochs>,
    wal: &Wal,
    log_begin: Slot,
    first_unchosen: Slot,
) -> Result<Configurations, ServeError> {
    let remembered = load(&config.data_dir)?;
    let is_new = remembered.is_none() && snapshot.is_none();
    let configurations = recover_configurations(
        Configurations::new(config.configuration.clone(), ALPHA_SLOTS),
        remembered.iter().cloned().chain(snapshot),
        wal,
        log_begin,
        first_unchosen,
    )?;
    let (_, latest) = configurations.latest();
    if !is_new && !config.configuration.has_same_members(latest) && !config.join {
        log::info!(
            "the members are those of epoch {} as the data directory has them, not as the nodes of \
             the configuration file: see `loggos member list`",
            latest.epoch()
        );
    }
    if !configurations.is_provisional() && remembered.as_ref() != Some(configurations.epochs()) {
        match save(&config.data_dir, configurations.epochs()) {
            // What there is may lag: a disk that is full must not keep the node from serving.
            Err(error) if !is_new => log::warn!("{error}"),
            saved => saved?,
        }
    }
    Ok(configurations)
}

fn load(dir: &Path) -> Result<Option<Epochs>, ServeError> {
    let path = path_in(dir);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ServeError::ConfigurationsIo { path, error }),
    };
    match decode(&bytes) {
        Ok(epochs) => Ok(Some(epochs)),
        Err(what) => Err(ServeError::ConfigurationsDamaged { path, what }),
    }
}

fn decode(bytes: &[u8]) -> Result<Epochs, String> {
    let damaged = || "it is damaged".to_string();
    let (header, content) = bytes.split_at_checked(HEADER_SIZE).ok_or_else(damaged)?;
    let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    if header[..8] != MAGIC {
        return Err(damaged());
    }
    if u32_at(8) != VERSION {
        return Err(format!("it has version {}, and {VERSION} is known here", u32_at(8)));
    }
    if u32_at(12) != crc32fast::hash(content) {
        return Err(damaged());
    }
    Epochs::from_bytes(content).ok_or_else(damaged)
}

fn encode(epochs: &Epochs) -> Vec<u8> {
    let content = epochs.to_bytes();
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&content).to_le_bytes());
    bytes.extend_from_slice(&content);
    bytes
}

fn save(dir: &Path, epochs: &Epochs) -> Result<(), ServeError> {
    let path = path_in(dir);
    let part = dir.join("configurations.part");
    let write = || -> io::Result<()> {
        let mut file = File::create(&part)?;
        file.write_all(&encode(epochs))?;
        file.sync_all()?;
        fs::rename(&part, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|error| ServeError::ConfigurationsIo { path: path.clone(), error })
}

impl Server {
    /// Now and then: links follow what the node knows of the members, and so does the data directory.
    pub(super) fn follow_members(&mut self, now: Now) -> Result<(), ServeError> {
        self.follow_links(now);
        let configurations = self.node.configurations();
        let (_, latest) = configurations.latest();
        if configurations.is_provisional() || self.members_epoch == latest.epoch() {
            return Ok(());
        }
        self.members_epoch = latest.epoch();
        let me = self.config.node;
        let list: Vec<String> =
            latest.members().map(|(it, _)| format!("{} ({})", it.node, it.roles)).collect();
        log::info!("epoch {} of the cluster: {}", latest.epoch(), list.join(", "));
        if latest.has_removed(me) {
            log::warn!(
                "{me} was removed from the cluster in epoch {}: it serves nobody any more, and may be \
                 stopped once `loggos member remove` says so",
                latest.epoch()
            );
        }
        // The log has it: this is for the next start, and must not hold up the loop.
        let (dir, epochs) = (self.config.data_dir.clone(), configurations.epochs().clone());
        let written = std::thread::Builder::new().name("members".into()).spawn(move || {
            if let Err(error) = save(&dir, &epochs) {
                log::warn!("{error}");
            }
        });
        if let Err(error) = written {
            log::warn!("no thread to note down the members: {error}");
        }
        Ok(())
    }

    pub(super) fn on_reconfigure(
        &mut self,
        now: Now,
        client: ConnectionId,
        id: u64,
        epoch: u64,
        change: &Change,
    ) {
        match self.node.reconfigure(now, epoch, change) {
            Ok(epoch) => {
                log::info!("proposed epoch {epoch} of the cluster: {change:?}");
                self.respond(client, &Response::Reconfiguring { id, epoch }, &[]);
            }
            Err(refusal) => self.respond_refusal(client, id, &refusal),
        }
    }

    pub(super) fn on_transfer(&mut self, client: ConnectionId, id: u64, to: Option<NodeId>) {
        match self.node.transfer(to, &mut self.fx) {
            Ok(to) => {
                log::info!("handed the lead to {to}, as asked");
                self.respond(client, &Response::LeadTransferred { id, to }, &[]);
            }
            Err(refusal) => self.respond_refusal(client, id, &refusal),
        }
    }

    fn respond_refusal(&mut self, client: ConnectionId, id: u64, refusal: &Refusal) {
        let kind = match refusal {
            Refusal::NotLeading { .. } => ErrorKind::NotLeading,
            Refusal::OtherEpoch { .. } | Refusal::Busy(_) => ErrorKind::Busy,
            Refusal::No(_) => ErrorKind::Refused,
        };
        self.respond_error(client, RequestKey::Admin { id }, kind, true, refusal.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::{Addresses, Configuration, Member, Roles};

    fn epochs() -> Epochs {
        let at = |port| std::net::SocketAddr::from(([10, 0, 0, 1], port));
        let addresses = Addresses { peer: at(1), client: at(2) };
        let member = (Member { node: NodeId(1), roles: Roles::ALL }, addresses);
        let one = Configuration::initial(vec![member], None, None).unwrap();
        Configurations::new(one, ALPHA_SLOTS).epochs().clone()
    }

    /// A file that was cut short, changed, or written by a newer program is an error, never a belief.
    #[test]
    fn what_is_remembered_is_checked() {
        let bytes = encode(&epochs());
        assert_eq!(decode(&bytes), Ok(epochs()));
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err());
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(decode(&changed).is_err(), "byte {at}");
        }
        let mut newer = bytes;
        newer[8] = 2;
        assert!(decode(&newer).unwrap_err().contains("version 2"));
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()).unwrap(), None);
        save(dir.path(), &epochs()).unwrap();
        assert_eq!(load(dir.path()).unwrap(), Some(epochs()));
    }
}
