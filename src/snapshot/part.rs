//! The file that a snapshot is written to, at a pace that leaves the disk to the log.

use std::fs::File;
use std::io::{self, Write};

use crate::os::{self, Pace};

/// Bytes that are written, and made durable, at once. The file may hold others: a write that begins or ends
/// within a page would have to read it first.
const STEP_SIZE: usize = 256 * 1024;

/// A file that makes what is written durable in steps, so that a sync of the log that comes in between
/// finds no long queue at the disk, and rests in between.
pub(super) struct Part {
    file: File,
    buffer: Vec<u8>,
    size: u64,
    pace: Pace,
}

impl Part {
    /// Writes over `file` from its beginning.
    pub(super) fn new(file: File) -> Part {
        let buffer = Vec::with_capacity(STEP_SIZE);
        Part { file, buffer, size: 0, pace: Pace::start() }
    }

    /// Writes what is left, and cuts off what the file held behind. It is not synced.
    pub(super) fn finish(mut self) -> io::Result<File> {
        self.file.write_all(&self.buffer)?;
        self.size += self.buffer.len() as u64;
        os::shrink_by_steps(&self.file, self.size)?;
        Ok(self.file)
    }

    fn step(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.size += self.buffer.len() as u64;
        self.buffer.clear();
        self.file.sync_data()?;
        // Nobody is likely to read it soon. And when it is freed, the kernel would throw all of its pages out
        // at once, and hold a processor for some 10 ms a 100 MiB.
        os::drop_cache(&self.file);
        self.pace.rest();
        Ok(())
    }
}

impl Write for Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(STEP_SIZE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == STEP_SIZE {
            self.step()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
