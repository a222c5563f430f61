//! Connections: of clients, to and from peers, and of who has not said yet what it is.
//!
//! A connection has a slot, which is its token in the poll, and a number that no other ever has.

use std::net::SocketAddr;

use loggos::bench::socket::Socket;
use mio::net::TcpStream;
use mio::{Registry, Token};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Client {
        /// It has said what it is.
        greeted: bool,
        /// Commands that wait for their answers.
        in_flight: usize,
    },
    /// One that has not said yet which node it is.
    Stranger {
        /// Whom we dialled; `None`: it dialled us.
        dialled: Option<u64>,
    },
    Peer(u64),
}

pub struct Link {
    pub number: u64,
    pub role: Role,
    pub socket: Socket,
    /// When it was made, or last heard of.
    pub heard_ns: u64,
    /// Has something to send.
    pub dirty: bool,
}

#[derive(Default)]
pub struct Links {
    slots: Vec<Option<Link>>,
    free: Vec<usize>,
    next_number: u64,
    /// Slots with something to send.
    dirty: Vec<usize>,
}

impl Links {
    pub fn accept(
        &mut self,
        registry: &Registry,
        stream: TcpStream,
        role: Role,
        now_ns: u64,
    ) -> std::io::Result<()> {
        let slot = self.slot();
        let socket = Socket::accepted(registry, Token(slot), stream);
        self.add(slot, socket, role, now_ns).map(drop)
    }

    pub fn dial(
        &mut self,
        registry: &Registry,
        address: SocketAddr,
        role: Role,
        now_ns: u64,
    ) -> std::io::Result<usize> {
        let slot = self.slot();
        let socket = Socket::dial(registry, Token(slot), address);
        self.add(slot, socket, role, now_ns)
    }

    fn slot(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        })
    }

    fn add(
        &mut self,
        slot: usize,
        socket: std::io::Result<Socket>,
        role: Role,
        now_ns: u64,
    ) -> std::io::Result<usize> {
        match socket {
            Ok(socket) => {
                self.next_number += 1;
                let number = self.next_number;
                let link = Link { number, role, socket, heard_ns: now_ns, dirty: false };
                self.slots[slot] = Some(link);
                Ok(slot)
            }
            Err(error) => {
                self.free.push(slot);
                Err(error)
            }
        }
    }

    pub fn get(&mut self, slot: usize) -> Option<&mut Link> {
        self.slots.get_mut(slot).and_then(Option::as_mut)
    }

    /// The bytes to send, of a connection that will be flushed.
    pub fn out(&mut self, slot: usize) -> Option<&mut Vec<u8>> {
        let link = self.slots.get_mut(slot).and_then(Option::as_mut)?;
        if !std::mem::replace(&mut link.dirty, true) {
            self.dirty.push(slot);
        }
        Some(link.socket.out())
    }

    /// The connections with something to send, which they are not any more.
    pub fn take_dirty(&mut self) -> Vec<usize> {
        let all = std::mem::take(&mut self.dirty);
        for &slot in &all {
            if let Some(link) = self.get(slot) {
                link.dirty = false;
            }
        }
        all
    }

    pub fn close(&mut self, slot: usize) -> Option<Link> {
        let link = self.slots.get_mut(slot).and_then(Option::take)?;
        self.free.push(slot);
        Some(link)
    }

    /// All that is open.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Link)> {
        self.slots.iter().enumerate().filter_map(|(slot, link)| Some((slot, link.as_ref()?)))
    }
}
