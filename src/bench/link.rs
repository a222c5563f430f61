//! One connection of the load generator: non-blocking, frames in and out, made to be cheap.
//!
//! The poll is edge-triggered: a link is registered once for both directions, reads until the socket
//! is empty and writes once a turn. Whoever owns it drops it at the first error and dials again.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use serde::Serialize;

use crate::wire::{Hello, PROTOCOL_VERSION, WireError, frame};

pub struct Link {
    stream: TcpStream,
    connected: bool,
    /// Frames to be sent; those before `sent` are.
    out: Vec<u8>,
    sent: usize,
    /// The beginning of a frame whose rest has not come yet.
    partial: Vec<u8>,
}

impl Link {
    /// Begins to connect; the hello goes out as soon as that is done.
    pub fn dial(registry: &Registry, token: Token, address: SocketAddr) -> io::Result<Link> {
        let mut stream = TcpStream::connect(address)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let mut link = Link {
            stream,
            connected: false,
            out: Vec::with_capacity(1024),
            sent: 0,
            partial: Vec::new(),
        };
        link.queue(&Hello::Client { version: PROTOCOL_VERSION, cluster: None }, &[]);
        Ok(link)
    }

    /// Adds a frame to what the next `flush` sends.
    pub fn queue<T: Serialize>(&mut self, head: &T, bulk: &[u8]) {
        frame::write(head, &[bulk], &mut self.out);
    }

    /// Sends what is queued, as far as the socket takes it; the rest goes at the next event.
    pub fn flush(&mut self) -> io::Result<()> {
        if !self.connected && !self.finish_connecting()? {
            return Ok(());
        }
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(size) => self.sent += size,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Reads all that is there and hands each frame to `on_frame`.
    ///
    /// `closing`: the event said that the other side has closed; then a short read does not mean
    /// that the socket is empty, and we read on to the end, which is an error.
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        closing: bool,
        mut on_frame: impl FnMut(frame::Frame<'_>) -> Result<(), WireError>,
    ) -> io::Result<()> {
        loop {
            let size = match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(size) => size,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // Not connected yet: the event was for the writing side.
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) =>
                {
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            // Whole frames are taken where they lie; only a cut one is copied.
            if self.partial.is_empty() {
                let taken = take_frames(&buffer[..size], &mut on_frame)?;
                self.partial.extend_from_slice(&buffer[taken..size]);
            } else {
                self.partial.extend_from_slice(&buffer[..size]);
                let taken = take_frames(&self.partial, &mut on_frame)?;
                self.partial.drain(..taken);
            }
            if size < buffer.len() && !closing {
                return Ok(());
            }
        }
    }

    fn finish_connecting(&mut self) -> io::Result<bool> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                self.stream.set_nodelay(true)?;
                self.connected = true;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
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
