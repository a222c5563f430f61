//! The wire: frames, the codec, the handshake, and the messages of clients and peers.
//!
//! Bytes from outside become types here, once, checked against every limit; nobody behind re-checks
//! them. Nothing here has state, and nothing here can be made to panic or to allocate without bound
//! by what it is given.

pub mod client;
pub mod codec;
pub mod frame;
pub mod hello;
pub mod kv;
pub mod peer;
pub mod status;

use std::fmt;

pub use hello::{ClusterId, Hello, PROTOCOL_VERSION};

/// Why bytes from outside are no message. The connection they came over is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    Malformed(&'static str),
    FrameVersion(u8),
    TooLarge { head_size: usize, bulk_size: usize },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Malformed(what) => write!(f, "{what}"),
            WireError::FrameVersion(version) => {
                write!(f, "frame format version {version} is not known here (this is version 1)")
            }
            WireError::TooLarge { head_size, bulk_size } => {
                write!(f, "a frame of {head_size} + {bulk_size} bytes is over the limit")
            }
        }
    }
}

impl std::error::Error for WireError {}
