//! Keys that lie in RocksDB are read through now and then, by a thread that rests most of the time.
//!
//! What writes a whole snapshot makes the digest of the state anew, and so finds what memory or the disk has changed by
//! itself. A linked snapshot reads no key. In its place the keys are read here: after a start that read none, and
//! each time when the log has grown by as much as they take, or by `snapshot.log_mib` if that is more. That is as
//! often as whole snapshots are written, and of the disk it takes no more than the log does.

use std::io;

use crate::os::Pace;
use crate::store::Frozen;
use crate::trace::monotonic_ns;

use super::helper::Helper;
use super::snapshots::size_in_log;

pub struct Verifier {
    thread: Helper<Frozen, Found>,
    log_size_min: u64,
    /// Bytes of all keys and values, as they were found last.
    size: u64,
    /// Bytes that the log has grown by since a state was last handed over, about.
    log_size: u64,
    is_at_work: bool,
    /// The state has been replaced since: what is found of the old one is of no interest.
    is_void: bool,
}

/// How many bytes there are, or why the state is wrong.
type Found = Result<u64, String>;

impl Verifier {
    /// `is_due`: the state that the node starts with was not read.
    pub fn start(
        log_size_min: u64,
        is_due: bool,
        wake: impl Fn() + Send + 'static,
    ) -> io::Result<Verifier> {
        let verify = |frozen: Frozen| {
            let (begun_ns, mut pace) = (monotonic_ns(), Pace::start());
            let found = frozen.verify_entries(|| pace.rest());
            let ms = (monotonic_ns() - begun_ns) / 1_000_000;
            match &found {
                Ok(size) => log::info!(
                    "verified the keys behind slot {}: {} of them, {} MiB in {ms} ms",
                    frozen.applied(),
                    frozen.keys(),
                    size.div_ceil(1 << 20)
                ),
                Err(why) => {
                    log::error!("the keys behind slot {} are wrong: {why}", frozen.applied());
                }
            }
            found
        };
        let thread = Helper::start_in_background("keys-verify", wake, verify)?;
        let log_size = if is_due { log_size_min } else { 0 };
        Ok(Verifier { thread, log_size_min, size: 0, log_size, is_at_work: false, is_void: false })
    }

    /// A value of this size was applied.
    pub fn on_applied(&mut self, value_size: usize) {
        self.log_size += size_in_log(value_size);
    }

    /// The state is another one, which was read when it came.
    pub fn on_replaced(&mut self) {
        (self.is_void, self.log_size) = (self.is_at_work, 0);
    }

    pub fn is_due(&self) -> bool {
        !self.is_at_work && self.log_size_min.max(self.size) <= self.log_size
    }

    pub fn begin(&mut self, frozen: Frozen) {
        (self.is_at_work, self.log_size) = (true, 0);
        self.thread.hand_over(frozen);
    }

    /// Why the state is wrong, if that was found.
    pub fn poll(&mut self) -> Option<String> {
        let found = self.thread.poll()?;
        self.is_at_work = false;
        let is_void = std::mem::take(&mut self.is_void);
        match found {
            _ if is_void => None,
            Ok(size) => {
                self.size = size;
                None
            }
            Err(why) => Some(why),
        }
    }
}
