//! A frozen state becomes the bytes of a snapshot.

use std::io::{self, Write};
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use crate::store::Frozen;
use crate::wire::ClusterId;

use super::format::{Footer, Form, chunk_header, encode_footer, encode_head};
use super::{Head, SnapshotError, Summary};

/// Writes the snapshot of `frozen` to `out`. What is written per call is up to a chunk
/// (`store::snapshot::CHUNK_SIZE_MAX`); nothing is flushed or synced. An error if `out` does not take it, or
/// if the state turns out not to have the digest that was kept of it.
pub fn write(
    frozen: &Frozen,
    cluster: ClusterId,
    configurations: Arc<[u8]>,
    out: &mut impl Write,
) -> Result<Summary, SnapshotError> {
    write_as(Form::Whole, frozen, cluster, configurations, out)
}

/// The same in this form. What a linked one lacks is in the checkpoint that `frozen` made.
pub(super) fn write_as(
    form: Form,
    frozen: &Frozen,
    cluster: ClusterId,
    configurations: Arc<[u8]>,
    out: &mut impl Write,
) -> Result<Summary, SnapshotError> {
    let head = Head { cluster, slot: frozen.applied(), digest: frozen.digest(), configurations };
    let (mut hasher, mut size, mut chunks) = (Xxh3::new(), 0, 0);
    let mut put = |bytes: &[u8]| {
        hasher.update(bytes);
        size += bytes.len() as u64;
        out.write_all(bytes)
    };
    put(&encode_head(&head, form)).map_err(SnapshotError::Write)?;
    let emit = |chunk: &[u8]| {
        put(&chunk_header(chunks, chunk))?;
        put(chunk)?;
        chunks += 1;
        Ok::<_, io::Error>(())
    };
    let digest = match form {
        Form::Whole => frozen.encode(emit),
        Form::Linked => frozen.encode_linked(emit),
    };
    if digest.map_err(SnapshotError::Write)? != head.digest {
        return Err(SnapshotError::StateDamaged);
    }
    let (keys, sessions) = (frozen.keys() as u64, frozen.sessions() as u64);
    let checksum = hasher.digest128();
    size += super::format::FOOTER_SIZE as u64;
    let footer = encode_footer(&Footer { chunks, keys, sessions, size, checksum });
    out.write_all(&footer).map_err(SnapshotError::Write)?;
    Ok(Summary { head, keys, sessions, size, checksum })
}
