//! One connection of the load generator to a node: frames in and out of a `Socket`.

use std::io;
use std::net::SocketAddr;

use mio::{Registry, Token};
use serde::Serialize;

use crate::wire::{Hello, PROTOCOL_VERSION, WireError, frame};

use super::socket::Socket;

pub struct Link {
    socket: Socket,
}

impl Link {
    /// Begins to connect; the hello goes out as soon as that is done.
    pub fn dial(registry: &Registry, token: Token, address: SocketAddr) -> io::Result<Link> {
        let mut link = Link { socket: Socket::dial(registry, token, address)? };
        link.queue(&Hello::Client { version: PROTOCOL_VERSION, cluster: None }, &[]);
        Ok(link)
    }

    /// Adds a frame to what the next `flush` sends.
    pub fn queue<T: Serialize>(&mut self, head: &T, bulk: &[u8]) {
        frame::write(head, &[bulk], self.socket.out());
    }

    /// Sends what is queued, as far as the socket takes it; the rest goes at the next event.
    pub fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }

    /// Reads all that is there and hands each frame to `on_frame`. `closing`: as for `Socket::receive`.
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        closing: bool,
        mut on_frame: impl FnMut(frame::Frame<'_>) -> Result<(), WireError>,
    ) -> io::Result<()> {
        self.socket.receive(buffer, closing, |bytes, _| take_frames(bytes, &mut on_frame))
    }
}

/// Hands the whole frames of `bytes` on; returns how many bytes they take.
fn take_frames(
    bytes: &[u8],
    on_frame: &mut impl FnMut(frame::Frame<'_>) -> Result<(), WireError>,
) -> io::Result<usize> {
    let mut taken = 0;
    while taken < bytes.len() {
        match frame::read(&bytes[taken..]).map_err(io::Error::other)? {
            Some((frame, size)) => {
                on_frame(frame).map_err(io::Error::other)?;
                taken += size;
            }
            None => break,
        }
    }
    Ok(taken)
}
