//! What the log needs of a disk. The log decides (what is torn and what is damaged, what is zeroed
//! and removed, when a spare is asked for); a disk does it.
//!
//! Two implementations: `FileDisk`, which is files, mappings and two helper threads, and the
//! simulator's, which is memory and can fail in every way that recovery has to bear. `Wal` is
//! compiled for each, so that an append to a mapping stays a copy.

use std::ops::Deref;
use std::path::Path;

use super::WalError;

/// The unit of the page cache, in which segments are measured and zeros are written.
pub const PAGE_SIZE: usize = 4096;

/// A segment's bytes, for as long as the log holds it open.
pub trait SegmentBytes: Deref<Target = [u8]> {
    /// `start..end`, to be written. What is stored there is in the file at once, and survives the
    /// process; it survives a loss of power once a sync has covered it.
    fn write(&mut self, start: usize, end: usize) -> &mut [u8];

    /// Somebody reads in it, now that it is sealed.
    fn note_read(&self) {}
}

/// A segment to be created: all of its blocks are allocated, and its first page is zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blank {
    pub number: u64,
    pub size: u64,
    /// Whether that page and the name are durable before anybody gets it.
    pub sync: bool,
}

/// The end of a sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// What it was started with.
    pub position: u64,
    pub duration_ns: u64,
    /// Why it failed, if it did.
    pub result: Result<(), String>,
}

/// What became of the segment that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpareState {
    /// It is on its way.
    Asked,
    Ready,
    /// There was no room for it, or something else went wrong: it counts as not asked for.
    Failed,
}

/// One data directory, held by one process.
pub trait Disk {
    type Bytes: SegmentBytes;

    /// Where it is, for errors.
    fn dir(&self) -> &Path;

    /// 64 random bits that no other log has drawn.
    fn draw_log_id(&mut self) -> Result<u64, WalError>;

    /// The bytes of `meta`, `None` if there is no such file.
    fn read_meta(&mut self) -> Result<Option<Vec<u8>>, WalError>;

    /// Replaces `meta`, durably: a crash leaves the old bytes or the new ones.
    fn write_meta(&mut self, bytes: &[u8]) -> Result<(), WalError>;

    /// The numbers of all segments, in order.
    fn list_segments(&mut self) -> Result<Vec<u64>, WalError>;

    /// Opens a segment that is there.
    fn open_segment(&mut self, number: u64) -> Result<Self::Bytes, WalError>;

    /// Reads all of it from the disk, so that what can't be read is an error here, and not later.
    fn read_through(&mut self, bytes: &Self::Bytes) -> Result<(), WalError>;

    /// Creates a segment now, all zeros, in place of one that may be there.
    fn create_segment(&mut self, blank: Blank) -> Result<Self::Bytes, WalError>;

    /// Removes a segment, which nobody has open. Durable after `sync_names`.
    fn remove_segment(&mut self, number: u64) -> Result<(), WalError>;

    /// Replaces `meta`, durably, and then removes the first segments, given with their numbers in
    /// order: in the background. Nothing may depend on when, or whether, it ends. Spares may be made
    /// of what is removed, and then hold, behind their first page, what that held.
    fn remove_first(&mut self, gone: Vec<(u64, Self::Bytes)>, meta: &[u8]) -> Result<(), WalError>;

    /// Whether an earlier `remove_first` is still at work.
    fn is_removing(&mut self) -> bool;

    /// Makes durable which segments there are.
    fn sync_names(&mut self) -> Result<(), WalError>;

    /// Makes all of a segment durable, now.
    fn sync_segment(&mut self, bytes: &Self::Bytes) -> Result<(), WalError>;

    /// Writes zeros from `used` to the end of a segment, durably; it is appended to from there.
    fn clear_rest(&mut self, bytes: Self::Bytes, used: usize) -> Result<Self::Bytes, WalError>;

    /// What lies in this range is not written any more, and seldom read. Advice only.
    fn release(&mut self, bytes: &Self::Bytes, start: usize, end: usize);

    /// Nothing is written to it any more. Advice only.
    fn seal(&mut self, bytes: &Self::Bytes);

    /// Has a segment created in the background: one at a time.
    fn ask_spare(&mut self, blank: Blank) -> Result<(), WalError>;

    /// So many bytes of the segment that was asked for should be made by now: at first none, `u64::MAX` when
    /// somebody waits for it. Advice only.
    fn want_spare(&mut self, bytes: u64);

    /// What became of the segment that was asked for. Never waits.
    fn spare(&mut self) -> Result<SpareState, WalError>;

    /// The segment that was asked for, waiting for it if need be. If it could not be created, it
    /// counts as not asked for from then on; one that was not asked for is asked for here.
    fn take_spare(&mut self, blank: Blank) -> Result<Self::Bytes, WalError>;

    /// Starts a sync of `segments`, of what they hold now; `position` comes back with its end.
    /// One at a time, and none after one that has failed.
    fn start_sync<'a>(
        &mut self,
        segments: impl Iterator<Item = &'a Self::Bytes>,
        position: u64,
    ) -> Result<(), WalError>
    where
        Self: 'a;

    /// The end of the sync in flight, once; `None` before. Never waits.
    fn poll_sync(&mut self) -> Result<Option<Finished>, WalError>;

    /// Waits for the end of the sync in flight.
    fn wait_sync(&mut self) -> Result<Finished, WalError>;
}
