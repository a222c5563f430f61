//! `DIR/snapshots/`: the snapshots of a data directory, `SLOT.snap` each, with the slot in 20 digits.
//!
//! A file comes into being whole: it is written as `SLOT.part`, synced, renamed, and the directory synced.
//! So a `.part` is what was being written when the process ended, and a `.snap` was whole once. The two
//! newest are kept: the newest one may turn out to be damaged.
//!
//! With the keys of a linked one (`Form::Linked`) there is a directory `SLOT.keys`, the checkpoint of RocksDB. It is made
//! first, and is durable before the file is there: that is what says that both are. It goes after the file. So a directory
//! without its file is what was being made or removed when the process ended.
//!
//! The one before them stays as `spare`, and the next is written over it. To allocate blocks and to free them
//! goes through the journal of the file system, which holds up the syncs of the log; and a disk that became
//! full still takes a snapshot that is no larger, behind which the log can be truncated.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::os;
use crate::paxos::{Slot, SnapshotId};
use crate::store::{Engine, Frozen, Hold};
use crate::wire::ClusterId;

use super::format::{self, FOOTER_SIZE, Form, HEADER_SIZE};
use super::part::Part;
use super::read::load_linked;
use super::write::write_as;
use super::{Loaded, SnapshotError, Summary};

/// Snapshots that are kept.
pub const KEPT: usize = 2;
/// The extension of checkpoints.
const KEYS: &str = "keys";

/// The snapshots of one data directory. It may be used by several threads, but only one of them writes.
#[derive(Clone, Debug)]
pub struct SnapshotDir {
    dir: PathBuf,
}

impl SnapshotDir {
    /// Creates the directory if it is missing. The data directory is there and locked.
    pub fn open(data_dir: &Path) -> Result<SnapshotDir, SnapshotError> {
        let dir = data_dir.join("snapshots");
        if !dir.is_dir() {
            fs::create_dir(&dir)
                .and_then(|()| sync_dir(data_dir))
                .map_err(|error| SnapshotError::io("create", &dir, error))?;
        }
        Ok(SnapshotDir { dir })
    }

    pub fn path(&self, slot: Slot) -> PathBuf {
        self.dir.join(format!("{:020}.snap", slot.0))
    }

    /// Where a snapshot lies until it is whole.
    pub fn part_path(&self, slot: Slot) -> PathBuf {
        self.dir.join(format!("{:020}.part", slot.0))
    }

    /// Where the keys of a linked snapshot lie.
    pub fn checkpoint_path(&self, slot: Slot) -> PathBuf {
        self.dir.join(format!("{:020}.{KEYS}", slot.0))
    }

    /// The slots of the snapshots that are there, the newest first.
    pub fn slots(&self) -> Result<Vec<Slot>, SnapshotError> {
        self.slots_of("snap")
    }

    /// The slots of those that are not whole, the newest first.
    pub fn parts(&self) -> Result<Vec<Slot>, SnapshotError> {
        self.slots_of("part")
    }

    fn slots_of(&self, extension: &str) -> Result<Vec<Slot>, SnapshotError> {
        let list = || -> io::Result<Vec<Slot>> {
            let mut slots = Vec::new();
            for entry in fs::read_dir(&self.dir)? {
                let name = entry?.file_name();
                let slot =
                    name.to_str().and_then(|name| name.strip_suffix(extension)?.strip_suffix('.'));
                let digits = slot.filter(|slot| slot.bytes().all(|byte| byte.is_ascii_digit()));
                slots.extend(digits.and_then(|digits| digits.parse().ok()).map(Slot));
            }
            slots.sort_unstable_by(|a, b| b.cmp(a));
            Ok(slots)
        };
        list().map_err(|error| SnapshotError::io("list", &self.dir, error))
    }

    /// What the footer of a snapshot says of it; `None` if it has none that is right. Whether the rest is,
    /// is not known then.
    pub fn id(&self, slot: Slot) -> Result<Option<SnapshotId>, SnapshotError> {
        let file = self.open_file(slot)?;
        let read = || -> io::Result<Option<SnapshotId>> {
            let size = file.metadata()?.len();
            let mut bytes = [0; FOOTER_SIZE];
            let Some(offset) = size.checked_sub(FOOTER_SIZE as u64) else { return Ok(None) };
            file.read_exact_at(&mut bytes, offset)?;
            let footer = format::decode_footer(&bytes).filter(|footer| footer.size == size);
            Ok(footer.map(|footer| SnapshotId { slot, size, checksum: footer.checksum }))
        };
        read().map_err(|error| SnapshotError::io("read", &self.path(slot), error))
    }

    /// What the header of a snapshot says that it is; `None` if that cannot be read.
    pub fn form(&self, slot: Slot) -> Option<Form> {
        let mut header = [0; HEADER_SIZE];
        let file = File::open(self.path(slot)).ok()?;
        file.read_exact_at(&mut header, 0).ok()?;
        format::form(&header).ok()
    }

    /// Removes one that is no good.
    pub fn remove_one(&self, slot: Slot) -> Result<(), SnapshotError> {
        self.remove(&self.path(slot))?;
        self.remove_checkpoint(slot)
    }

    /// Removes the snapshots of later slots: they could not be used.
    pub fn remove_above(&self, slot: Slot) -> Result<(), SnapshotError> {
        let above = self.slots()?.into_iter().filter(|above| slot < *above);
        above.into_iter().try_for_each(|above| self.remove_one(above))
    }

    /// An error about the directory as a whole. `doing` comes before its path.
    pub fn error(&self, doing: &'static str, error: io::Error) -> SnapshotError {
        SnapshotError::io(doing, &self.dir, error)
    }

    /// Removes the snapshots of earlier slots.
    pub fn remove_below(&self, slot: Slot) -> Result<(), SnapshotError> {
        let mut below = self.slots()?.into_iter().filter(|below| *below < slot);
        below.try_for_each(|below| self.remove_one(below))
    }

    /// Where a snapshot from a peer lies until all of it is there and checked. It may outlive the process.
    pub fn received_path(&self, snapshot: SnapshotId) -> PathBuf {
        self.dir.join(format!("{:020}-{:032x}.recv", snapshot.slot.0, snapshot.checksum))
    }

    /// Removes what came from peers and is not all there, where `goes` says so.
    pub fn remove_received(&self, goes: impl Fn(Slot, &Path) -> bool) -> Result<(), SnapshotError> {
        let list = || -> io::Result<Vec<PathBuf>> {
            fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.path())).collect()
        };
        let paths = list().map_err(|error| SnapshotError::io("list", &self.dir, error))?;
        for path in paths {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
            let slot = name.strip_suffix(".recv").and_then(|name| name.split_once('-'));
            let slot = slot.and_then(|(digits, _)| digits.parse().ok()).map(Slot);
            if slot.is_some_and(|slot| goes(slot, &path)) {
                self.remove(&path)?;
            }
        }
        Ok(())
    }

    /// Opens a snapshot. It stays readable if it is removed meanwhile: the lock says that somebody has it, and
    /// nothing is written over it.
    pub fn open_file(&self, slot: Slot) -> Result<File, SnapshotError> {
        let path = self.path(slot);
        let open = || {
            let file = File::open(&path)?;
            let is_locked = os::try_lock(&file, true)?;
            // Else it is being removed or written over, or was before the lock.
            match is_locked && file.metadata()?.ino() == fs::metadata(&path)?.ino() {
                true => Ok(file),
                false => Err(io::ErrorKind::NotFound.into()),
            }
        };
        open().map_err(|error| SnapshotError::io("open", &path, error))
    }

    /// Writes a whole snapshot and makes it durable.
    pub fn write(
        &self,
        frozen: &Frozen,
        cluster: ClusterId,
        configurations: Arc<[u8]>,
    ) -> Result<Summary, SnapshotError> {
        self.write_file(Form::Whole, frozen, cluster, configurations)
    }

    /// Makes a linked snapshot, which is durable then, of a state that is held since it was frozen.
    pub fn link(
        &self,
        frozen: &Frozen,
        hold: Arc<Hold>,
        cluster: ClusterId,
        configurations: Arc<[u8]>,
    ) -> Result<Summary, SnapshotError> {
        let slot = frozen.applied();
        let path = self.checkpoint_path(slot);
        assert!(!self.path(slot).exists(), "no snapshot is made of what one is made of already");
        let made = frozen.checkpoint(&path, hold);
        made.map_err(|why| SnapshotError::checkpoint(&path, why))?;
        let written = self.write_file(Form::Linked, frozen, cluster, configurations);
        if written.is_err() {
            let _ = self.remove_checkpoint(slot);
        }
        written
    }

    fn write_file(
        &self,
        form: Form,
        frozen: &Frozen,
        cluster: ClusterId,
        configurations: Arc<[u8]>,
    ) -> Result<Summary, SnapshotError> {
        let slot = frozen.applied();
        let path = self.part_path(slot);
        let (file, is_spare) = self.begin(&path)?;
        let mut part = Part::new(file);
        let written =
            write_as(form, frozen, cluster, configurations, &mut part).and_then(|summary| {
                self.complete(slot, &part.finish().map_err(SnapshotError::Write)?)?;
                Ok(summary)
            });
        written.map_err(|error| {
            // It would take room that may be missing, each time that it is tried again.
            let _ = if is_spare { fs::rename(&path, self.spare()) } else { fs::remove_file(&path) };
            match error {
                SnapshotError::Write(error) => SnapshotError::io("write", &path, error),
                other => other,
            }
        })
    }

    /// A file to write over, under this path; and whether it was the spare one.
    fn begin(&self, path: &Path) -> Result<(File, bool), SnapshotError> {
        let begin = || {
            let spare = match File::options().write(true).open(self.spare()) {
                Ok(spare) => spare,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok((File::create(path)?, false));
                }
                Err(error) => return Err(error),
            };
            if os::try_lock(&spare, false)? {
                fs::rename(self.spare(), path)?;
                // Or a power cut could bring it back under the name that it had as a snapshot.
                sync_dir(&self.dir)?;
                return Ok((spare, true));
            }
            // Whoever reads it keeps what it has.
            fs::remove_file(self.spare())?;
            Ok((File::create(path)?, false))
        };
        begin().map_err(|error| SnapshotError::io("create", path, error))
    }

    /// Gives up the file that the next snapshot would be written over: its room is for one from a peer.
    pub fn remove_spare(&self) -> Result<(), SnapshotError> {
        match self.remove(&self.spare()) {
            // There is none, or the writer has just taken it.
            Err(SnapshotError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                Ok(())
            }
            removed => removed,
        }
    }

    fn spare(&self) -> PathBuf {
        self.dir.join("spare")
    }

    /// Makes the `.part` of this slot, which is all written, the snapshot of it; older ones that are not
    /// kept any more go.
    pub fn complete(&self, slot: Slot, part: &File) -> Result<(), SnapshotError> {
        self.make_durable(slot, part)?;
        self.retire()
    }

    /// Removes those that are not kept any more. A process that ends between making one durable and this leaves one too
    /// many behind.
    pub fn retire(&self) -> Result<(), SnapshotError> {
        for slot in self.slots()?.into_iter().skip(KEPT) {
            let old = self.path(slot);
            if self.spare().exists() {
                self.remove(&old)?;
            } else {
                fs::rename(&old, self.spare())
                    .map_err(|error| SnapshotError::io("retire", &old, error))?;
            }
            self.remove_checkpoint(slot)?;
        }
        Ok(())
    }

    /// As `complete`, but what goes are these: their states are wrong.
    pub fn complete_instead(
        &self,
        slot: Slot,
        part: &File,
        wrong: &[Slot],
    ) -> Result<(), SnapshotError> {
        self.make_durable(slot, part)?;
        let wrong = self.slots()?.into_iter().filter(|it| *it != slot && wrong.contains(it));
        wrong.into_iter().try_for_each(|it| self.remove_one(it))
    }

    fn make_durable(&self, slot: Slot, part: &File) -> Result<(), SnapshotError> {
        let path = self.part_path(slot);
        part.sync_all()
            .and_then(|()| fs::rename(&path, self.path(slot)))
            .and_then(|()| sync_dir(&self.dir))
            .map_err(|error| SnapshotError::io("make durable", &path, error))?;
        match self.form(slot) {
            Some(Form::Linked) => Ok(()),
            // There may have been a linked one in its place.
            _ => self.remove_checkpoint(slot),
        }
    }

    /// Removes what was being written, or removed, when the process ended.
    pub fn remove_parts(&self) -> Result<(), SnapshotError> {
        self.parts()?.into_iter().try_for_each(|slot| self.remove(&self.part_path(slot)))?;
        let slots = self.slots()?.into_iter();
        let linked = slots.filter(|slot| self.form(*slot) == Some(Form::Linked));
        let kept: Vec<PathBuf> = linked.map(|slot| self.checkpoint_path(slot)).collect();
        let list = || -> io::Result<Vec<PathBuf>> {
            fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.path())).collect()
        };
        let paths = list().map_err(|error| SnapshotError::io("list", &self.dir, error))?;
        // All directories here are checkpoints, or were to become one, or belong to who reads one.
        for path in paths.iter().filter(|path| path.is_dir() && !kept.contains(path)) {
            fs::remove_dir_all(path).map_err(|error| SnapshotError::io("remove", path, error))?;
        }
        Ok(())
    }

    /// Removes the keys of what is no linked snapshot any more, if there are some. Most files are another's as well.
    fn remove_checkpoint(&self, slot: Slot) -> Result<(), SnapshotError> {
        let path = self.checkpoint_path(slot);
        let remove = || -> io::Result<()> {
            let entries = fs::read_dir(&path)?;
            // Or a power cut could bring the file back, and not all of its keys.
            sync_dir(&self.dir)?;
            for entry in entries {
                let entry = entry?;
                if entry.metadata()?.nlink() == 1 {
                    let file = File::options().write(true).open(entry.path())?;
                    os::remove_by_steps(&entry.path(), &file)?;
                } else {
                    fs::remove_file(entry.path())?;
                }
            }
            fs::remove_dir(&path)
        };
        match remove() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(SnapshotError::io("remove", &path, error))
            }
            _ => Ok(()),
        }
    }

    fn remove(&self, path: &Path) -> Result<(), SnapshotError> {
        let remove = || {
            let file = File::options().write(true).open(path)?;
            match os::try_lock(&file, false)? {
                true => os::remove_by_steps(path, &file),
                // Whoever reads it keeps what it has.
                false => fs::remove_file(path),
            }
        };
        remove().map_err(|error| SnapshotError::io("remove", path, error))
    }

    /// Loads the newest snapshot that can be used; see `read::load_newest`. `progress` gets bytes read and
    /// bytes in all.
    pub fn load_newest(
        &self,
        engine: &Engine,
        cluster: ClusterId,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Option<Loaded>, SnapshotError> {
        super::load_newest(&self.slots()?, cluster, |slot| {
            let file = self.open_file(slot)?;
            let total = file.metadata().map_or(0, |metadata| metadata.len());
            let mut input = Told { file, done: 0, total, progress };
            match self.form(slot) {
                Some(Form::Linked) => load_linked(engine, &mut input, &self.checkpoint_path(slot)),
                _ => super::load_into(engine, &mut input),
            }
        })
    }
}

/// A file that says how far reading it has come.
struct Told<'a> {
    file: File,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Read for Told<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let size = self.file.read(bytes)?;
        self.done += size as u64;
        (self.progress)(self.done, self.total);
        Ok(size)
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
