//! `DIR/snapshots/`: the snapshots of a data directory, `SLOT.snap` each, with the slot in 20 digits.
//!
//! A file comes into being whole: it is written as `SLOT.part`, synced, renamed, and the directory synced.
//! So a `.part` is what was being written when the process ended, and a `.snap` was whole once. The two
//! newest are kept: the newest one may turn out to be damaged.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::os;
use crate::paxos::{Slot, SnapshotId};
use crate::store::Frozen;
use crate::trace::monotonic_ns;
use crate::wire::ClusterId;

use super::format::{self, FOOTER_SIZE};
use super::{Loaded, SnapshotError, Summary};

/// Snapshots that are kept.
pub const KEPT: usize = 2;
/// Bytes that are written before they are synced.
const SYNC_STEP_SIZE: u64 = 1024 * 1024;
/// How much longer than a step the rest after it is.
const RESTS: u64 = 2;

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

    /// Removes one that is no good.
    pub fn remove_one(&self, slot: Slot) -> Result<(), SnapshotError> {
        self.remove(&self.path(slot))
    }

    /// Removes all other snapshots.
    pub fn remove_others(&self, slot: Slot) -> Result<(), SnapshotError> {
        let others = self.slots()?.into_iter().filter(|other| *other != slot);
        others.into_iter().try_for_each(|other| self.remove(&self.path(other)))
    }

    /// Removes the snapshots of later slots: they could not be used.
    pub fn remove_above(&self, slot: Slot) -> Result<(), SnapshotError> {
        let above = self.slots()?.into_iter().filter(|above| slot < *above);
        above.into_iter().try_for_each(|above| self.remove(&self.path(above)))
    }

    /// An error about the directory as a whole. `doing` comes before its path.
    pub fn error(&self, doing: &'static str, error: io::Error) -> SnapshotError {
        SnapshotError::io(doing, &self.dir, error)
    }

    /// Removes the snapshots of earlier slots.
    pub fn remove_below(&self, slot: Slot) -> Result<(), SnapshotError> {
        let mut below = self.slots()?.into_iter().filter(|below| *below < slot);
        below.try_for_each(|below| self.remove(&self.path(below)))
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

    /// Opens a snapshot. It stays readable if it is removed meanwhile: the lock says that somebody has it.
    pub fn open_file(&self, slot: Slot) -> Result<File, SnapshotError> {
        let path = self.path(slot);
        let open = || {
            let file = File::open(&path)?;
            match os::try_lock(&file, true)? {
                true => Ok(file),
                // It is being removed.
                false => Err(io::ErrorKind::NotFound.into()),
            }
        };
        open().map_err(|error| SnapshotError::io("open", &path, error))
    }

    /// Writes a snapshot and makes it durable.
    pub fn write(
        &self,
        frozen: &Frozen,
        cluster: ClusterId,
        configurations: Arc<[u8]>,
    ) -> Result<Summary, SnapshotError> {
        let slot = frozen.applied();
        let path = self.part_path(slot);
        let file =
            File::create(&path).map_err(|error| SnapshotError::io("create", &path, error))?;
        let mut out = Stepwise { file, unsynced: 0, step_begun_ns: monotonic_ns() };
        let summary = super::write(frozen, cluster, configurations, &mut out);
        let summary = summary.map_err(|error| match error {
            SnapshotError::Write(error) => SnapshotError::io("write", &path, error),
            other => other,
        })?;
        self.complete(slot, &out.file)?;
        Ok(summary)
    }

    /// Makes the `.part` of this slot, which is all written, the snapshot of it; older ones that are not
    /// kept any more go.
    pub fn complete(&self, slot: Slot, part: &File) -> Result<(), SnapshotError> {
        let path = self.part_path(slot);
        part.sync_all()
            .and_then(|()| fs::rename(&path, self.path(slot)))
            .and_then(|()| sync_dir(&self.dir))
            .map_err(|error| SnapshotError::io("make durable", &path, error))?;
        for old in self.slots()?.into_iter().skip(KEPT) {
            self.remove(&self.path(old))?;
        }
        Ok(())
    }

    /// Removes what was being written when the process ended.
    pub fn remove_parts(&self) -> Result<(), SnapshotError> {
        self.parts()?.into_iter().try_for_each(|slot| self.remove(&self.part_path(slot)))
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
        cluster: ClusterId,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Option<Loaded>, SnapshotError> {
        super::load_newest(&self.slots()?, cluster, |slot| {
            let file = self.open_file(slot)?;
            let total = file.metadata().map_or(0, |metadata| metadata.len());
            super::load(&mut Told { file, done: 0, total, progress })
        })
    }
}

/// A file that makes what is written durable in steps, so that a sync of the log that comes in between
/// finds no long queue at the disk. After each it rests for twice as long as that took: so a snapshot has
/// a third of a core and of the disk at most, and the loop finds both free most of the time.
struct Stepwise {
    file: File,
    unsynced: u64,
    step_begun_ns: u64,
}

impl Write for Stepwise {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let size = self.file.write(bytes)?;
        self.unsynced += size as u64;
        if SYNC_STEP_SIZE <= self.unsynced {
            self.file.sync_data()?;
            // Nobody is likely to read it soon. And when its turn to be removed has come, the kernel would
            // throw all of its pages out at once, and hold a processor for some 10 ms a 100 MiB.
            os::drop_cache(&self.file);
            self.unsynced = 0;
            let rest_ns = RESTS * (monotonic_ns() - self.step_begun_ns);
            // sleep: nobody waits for this thread, and many for what it would take from them.
            std::thread::sleep(Duration::from_nanos(rest_ns));
            self.step_begun_ns = monotonic_ns();
        }
        Ok(size)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
