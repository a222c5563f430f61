//! The bytes of a snapshot are checked, and become a store.
//!
//! Nothing here panics at any bytes, nor sets more aside than a chunk and what the bytes themselves hold.

use std::io::{ErrorKind, Read};
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use crate::paxos::Slot;
use crate::store::snapshot::{CHUNK_SIZE_MAX, Decoder, Loader};
use crate::store::{Engine, Store};
use crate::wire::ClusterId;

use super::format::{self, CHUNK_HEADER_SIZE, FOOTER_SIZE, Form, HEADER_SIZE};
use super::{Head, SnapshotError, Summary};

/// A store as a snapshot says.
#[derive(Debug)]
pub struct Loaded {
    pub store: Store,
    pub summary: Summary,
}

/// Reads the head alone, which says what the snapshot is of. Whether the rest is whole is not known then.
pub fn read_head(input: &mut impl Read) -> Result<Head, SnapshotError> {
    Input::new(input).head(Form::Whole)
}

/// Reads a whole snapshot and checks everything that `load` checks, in the memory of one chunk.
pub fn verify(input: &mut impl Read) -> Result<Summary, SnapshotError> {
    let mut input = Input::new(input);
    let head = input.head(Form::Whole)?;
    let mut decoder = Decoder::new(head.slot);
    input.chunks(|chunk| decoder.push(chunk, |_| {}))?;
    let (keys, sessions, digest) = decoder.finish().map_err(|why| input.damaged(why))?;
    input.footer(head, keys, sessions, digest)
}

/// Reads a whole snapshot into a store in memory.
pub fn load(input: &mut impl Read) -> Result<Loaded, SnapshotError> {
    load_into(&Engine::Memory, input)
}

/// Reads a whole snapshot into a store whose entries lie there.
pub fn load_into(engine: &Engine, input: &mut impl Read) -> Result<Loaded, SnapshotError> {
    let mut input = Input::new(input);
    let head = input.head(Form::Whole)?;
    let mut loader = Loader::new(head.slot, engine);
    input.chunks(|chunk| loader.push(chunk))?;
    let (keys, sessions, digest, store) = loader.finish().map_err(|why| input.damaged(why))?;
    let summary = input.footer(head, keys, sessions, digest)?;
    Ok(Loaded { store, summary })
}

/// Reads a linked snapshot, and makes a store of it whose entries lie there, as its checkpoint has them.
pub(super) fn load_linked(
    engine: &Engine,
    input: &mut impl Read,
    checkpoint: &Path,
) -> Result<Loaded, SnapshotError> {
    let mut input = Input::new(input);
    let head = input.head(Form::Linked)?;
    let mut loader = Loader::linked(head.slot);
    input.chunks(|chunk| loader.push(chunk))?;
    let (keys, sessions, digest) = loader.ended().map_err(|why| input.damaged(why))?;
    let summary = input.footer(head, keys, sessions, digest)?;
    let store = loader.finish_linked(engine, checkpoint);
    let store = store.map_err(|why| SnapshotError::checkpoint(checkpoint, why))?;
    Ok(Loaded { store, summary })
}

/// Loads the newest of `slots`, which are in descending order, that can be used; one that cannot is said
/// in the log. `None` if there is no snapshot. An error if none can be used, or one is another cluster's.
pub fn load_newest(
    slots: &[Slot],
    cluster: ClusterId,
    mut load: impl FnMut(Slot) -> Result<Loaded, SnapshotError>,
) -> Result<Option<Loaded>, SnapshotError> {
    let mut newest = None;
    for &slot in slots {
        let error = match load(slot) {
            Ok(loaded) if loaded.summary.head.cluster != cluster => {
                let (found, expected) = (loaded.summary.head.cluster, cluster);
                return Err(SnapshotError::Foreign { found, expected });
            }
            Ok(loaded) if loaded.summary.head.slot == slot => return Ok(Some(loaded)),
            Ok(_) => SnapshotError::damaged(24, "it is of another slot than its name says"),
            Err(error) => error,
        };
        log::warn!("the snapshot of slot {slot} cannot be used: {error}");
        newest.get_or_insert((slot, error));
    }
    match newest {
        Some((slot, error)) => Err(SnapshotError::NoneUsable { slot, error: Box::new(error) }),
        None => Ok(None),
    }
}

struct Input<'a, R> {
    from: &'a mut R,
    /// Bytes read so far.
    offset: u64,
    hasher: Xxh3,
    chunks: u64,
    /// Holds one part at a time: configurations or a chunk.
    part: Vec<u8>,
}

impl<'a, R: Read> Input<'a, R> {
    fn new(from: &'a mut R) -> Input<'a, R> {
        Input { from, offset: 0, hasher: Xxh3::new(), chunks: 0, part: Vec::new() }
    }

    fn damaged(&self, why: &'static str) -> SnapshotError {
        SnapshotError::damaged(self.offset, why)
    }

    /// Of a snapshot that must have this form.
    fn head(&mut self, form: Form) -> Result<Head, SnapshotError> {
        let mut header = [0; HEADER_SIZE];
        self.from.read_exact(&mut header).map_err(SnapshotError::Read)?;
        if format::form(&header)? != form {
            return Err(SnapshotError::Linked);
        }
        let size = format::configurations_size(&header)?;
        self.part.extend_from_slice(&header);
        self.append(size)?;
        let head = format::decode_head(&self.part)?;
        self.pass();
        Ok(head)
    }

    /// Hands each chunk to `push`, up to the footer.
    fn chunks(
        &mut self,
        mut push: impl FnMut(&[u8]) -> Result<(), &'static str>,
    ) -> Result<(), SnapshotError> {
        loop {
            self.append(CHUNK_HEADER_SIZE)?;
            let size = format::u32_at(&self.part, 0) as usize;
            if size == 0 {
                return Ok(());
            }
            if CHUNK_SIZE_MAX < size {
                return Err(self.damaged("a chunk is over its limit"));
            }
            let crc = format::u32_at(&self.part, 4);
            self.append(size)?;
            let chunk = &self.part[CHUNK_HEADER_SIZE..];
            if format::chunk_crc(self.chunks, chunk) != crc {
                return Err(self.damaged("a chunk has a wrong checksum"));
            }
            push(chunk).map_err(|why| self.damaged(why))?;
            self.chunks += 1;
            self.pass();
        }
    }

    /// Compares what was read with the footer, whose first part `chunks` has read.
    fn footer(
        mut self,
        head: Head,
        keys: u64,
        sessions: u64,
        digest: u128,
    ) -> Result<Summary, SnapshotError> {
        self.append(FOOTER_SIZE - CHUNK_HEADER_SIZE)?;
        let bytes = self.part[..].try_into().expect("a footer was read");
        let Some(footer) = format::decode_footer(bytes) else {
            return Err(self.damaged("the footer has a wrong checksum"));
        };
        let size = self.offset + FOOTER_SIZE as u64;
        let checksum = self.hasher.digest128();
        if footer != (format::Footer { chunks: self.chunks, keys, sessions, size, checksum }) {
            return Err(self.damaged("the footer does not tell what was before it"));
        }
        if head.digest != digest {
            return Err(self.damaged("the state does not have the digest that the header tells"));
        }
        self.part.clear();
        match self.append(1) {
            Err(SnapshotError::Read(error)) if error.kind() == ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error),
            Ok(()) => return Err(self.damaged("something follows the footer")),
        }
        Ok(Summary { head, keys, sessions, size, checksum })
    }

    /// Reads `size` bytes more of the present part. They are set aside as they come.
    fn append(&mut self, size: usize) -> Result<(), SnapshotError> {
        let end = self.part.len() + size;
        let mut limited = Read::take(&mut *self.from, size as u64);
        limited.read_to_end(&mut self.part).map_err(SnapshotError::Read)?;
        if self.part.len() < end {
            return Err(SnapshotError::Read(ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    /// The present part is read and well.
    fn pass(&mut self) {
        self.hasher.update(&self.part);
        self.offset += self.part.len() as u64;
        self.part.clear();
    }
}
