//! For the tests of states that are frozen.

use super::Frozen;

/// The chunks of the state, and its digest as it is found while they are made.
pub fn chunks(frozen: &Frozen) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    let emitted = frozen.encode(|chunk| {
        chunks.push(chunk.to_vec());
        Ok::<_, ()>(())
    });
    assert_eq!(emitted, Ok(frozen.digest()));
    chunks
}
