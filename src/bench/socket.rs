//! One non-blocking connection: bytes in and out, made to be cheap. What they mean is its user's affair: `link` puts
//! frames of Loggos on it, `rivals/` the messages of other systems.
//!
//! The poll is edge-triggered: a socket is registered once for both directions, reads until it is
//! empty and writes once a turn. Whoever owns it drops it at the first error and dials again.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

pub struct Socket {
    stream: TcpStream,
    connected: bool,
    /// What the next `flush` sends; the bytes before `sent` are gone.
    out: Vec<u8>,
    sent: usize,
    /// The beginning of a message whose rest has not come yet.
    partial: Vec<u8>,
}

impl Socket {
    /// Begins to connect; what is in `out` goes as soon as that is done.
    pub fn dial(registry: &Registry, token: Token, address: SocketAddr) -> io::Result<Socket> {
        let mut stream = TcpStream::connect(address)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Socket {
            stream,
            connected: false,
            out: Vec::with_capacity(1024),
            sent: 0,
            partial: Vec::new(),
        })
    }

    /// One that was accepted.
    pub fn accepted(
        registry: &Registry,
        token: Token,
        mut stream: TcpStream,
    ) -> io::Result<Socket> {
        stream.set_nodelay(true)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Socket { stream, connected: true, out: Vec::new(), sent: 0, partial: Vec::new() })
    }

    /// Bytes that were queued and not sent yet.
    pub fn waiting(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Where what is to be sent is added.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
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

    /// Reads all that is there and hands it to `take`, which takes whole messages off its front and returns
    /// how many bytes they had. What it has to say to them it adds to its second argument, `out`.
    ///
    /// `closing`: the event said that the other side has closed; then a short read does not mean
    /// that the socket is empty, and we read on to the end, which is an error.
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        closing: bool,
        mut take: impl FnMut(&[u8], &mut Vec<u8>) -> io::Result<usize>,
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
            // Whole messages are taken where they lie; only a cut one is copied.
            if self.partial.is_empty() {
                let taken = take(&buffer[..size], &mut self.out)?;
                self.partial.extend_from_slice(&buffer[taken..size]);
            } else {
                self.partial.extend_from_slice(&buffer[..size]);
                let taken = take(&self.partial, &mut self.out)?;
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
