//! The queue of an emulated host: what its kernel has received, and holds until we say what becomes of it.
//!
//! The queue is bounded by the kernel, which drops what comes when it is full, and counts that. Nothing passes when
//! nobody reads the queue: a shaper that died leaves a network that is dead, and not one without delays.

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nfq::{Message, Queue, Verdict};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The number of the queue, in every host's namespace.
const QUEUE: u16 = 0;
/// Packets that a host's queue holds: 100 ms of a gigabit a second in packets of 1,500 bytes, and room.
pub const HELD_MAX: u32 = 16_384;
/// What is copied of each packet: as much as the addresses in an IPv4 header need.
const COPIED_SIZE: u16 = 20;
/// What the kernel may have told us that we have not read yet, in bytes.
const SOCKET_BUFFER_SIZE: usize = 16 << 20;

/// A host, and the queue of what it receives.
pub struct Host {
    pub address: Ipv4Addr,
    pid: u32,
    queue: Queue,
    /// The queue's socket once more: the crate shows none that one could wait for.
    socket: OwnedFd,
}

/// A packet that was received and waits, and who sent it.
pub struct Packet {
    pub from: Ipv4Addr,
    message: Message,
}

/// What got lost because too much was waiting.
pub struct Overflow {
    /// For a verdict.
    pub queue: u64,
    /// To be read by us.
    pub socket: u64,
}

impl Host {
    /// Opens the queue of the host in whose network this process is.
    pub fn open(address: Ipv4Addr, pid: u32) -> Result<Host, String> {
        Host::try_open(address, pid)
            .map_err(|error| format!("the queue of {address}, process {pid}: {error}"))
    }

    fn try_open(address: Ipv4Addr, pid: u32) -> io::Result<Host> {
        let network = File::open(format!("/proc/{pid}/ns/net"))?;
        // A socket belongs to the network in which it was opened, wherever its process goes afterwards.
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        // What is opened takes the lowest number that is free, and no other thread opens anything.
        let number = File::open("/dev/null")?.as_raw_fd();
        let mut queue = Queue::open()?;
        let own = pidfd_open(getpid(), PidfdFlags::empty())?;
        let socket = pidfd_getfd(own, number, PidfdGetfdFlags::empty())?;
        // Fails for what is no socket, should the number ever be wrong.
        set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER_SIZE)?;
        queue.bind(QUEUE)?;
        queue.set_copy_range(QUEUE, COPIED_SIZE)?;
        queue.set_queue_max_len(QUEUE, HELD_MAX)?;
        queue.set_fail_open(QUEUE, false)?;
        // As they came, rather than cut into pieces and put together again.
        queue.set_recv_gso(QUEUE, true)?;
        queue.set_nonblocking(true);
        Ok(Host { address, pid, queue, socket })
    }

    /// What to wait for until there is something to receive.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The next packet that has come, if any.
    pub fn receive(&mut self) -> io::Result<Option<Packet>> {
        loop {
            match self.queue.recv() {
                Ok(message) => {
                    let from = source(message.get_payload());
                    return Ok(Some(Packet { from, message }));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A verdict on a packet that is gone: its interface went down meanwhile.
                Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a packet on.
    pub fn accept(&mut self, packet: Packet) -> io::Result<()> {
        self.decide(packet, Verdict::Accept)
    }

    /// Loses a packet.
    pub fn lose(&mut self, packet: Packet) -> io::Result<()> {
        self.decide(packet, Verdict::Drop)
    }

    fn decide(&mut self, packet: Packet, verdict: Verdict) -> io::Result<()> {
        let mut message = packet.message;
        message.set_verdict(verdict);
        self.queue.verdict(message)
    }

    /// What got lost so far because too much was waiting.
    pub fn overflow(&self) -> Result<Overflow, String> {
        let path = format!("/proc/{}/net/netfilter/nfnetlink_queue", self.pid);
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        overflow(&text).ok_or_else(|| format!("{path} has no line of queue {QUEUE}: {text:?}"))
    }
}

/// The source in an IPv4 header; nobody's, if there is none.
fn source(packet: &[u8]) -> Ipv4Addr {
    match packet.get(12..16) {
        Some(bytes) if packet[0] >> 4 == 4 => Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]),
        _ => Ipv4Addr::UNSPECIFIED,
    }
}

/// Reads the kernel's table: number, port, waiting, copy mode, copied size, dropped by the queue, dropped by the
/// socket, and more.
fn overflow(table: &str) -> Option<Overflow> {
    table.lines().find_map(|line| {
        let numbers: Vec<u64> = line.split_whitespace().map_while(|it| it.parse().ok()).collect();
        match numbers[..] {
            [number, _, _, _, _, queue, socket, ..] if number == u64::from(QUEUE) => {
                Some(Overflow { queue, socket })
            }
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packets_source_is_in_its_header() {
        let mut packet = [0; 20];
        packet[0] = 0x45;
        packet[12..16].copy_from_slice(&[10, 0, 1, 7]);
        assert_eq!(source(&packet), Ipv4Addr::new(10, 0, 1, 7));
        assert_eq!(source(&packet[..15]), Ipv4Addr::UNSPECIFIED);
        packet[0] = 0x65;
        assert_eq!(source(&packet), Ipv4Addr::UNSPECIFIED);
    }

    #[test]
    fn overflow_is_read_from_the_kernels_table() {
        let table = "    1  11 0 2 20 5 6 7  1\n    0  22528     3 2    20    17     4  1203  1\n";
        let found = overflow(table).unwrap();
        assert_eq!((found.queue, found.socket), (17, 4));
        assert!(overflow("    1  11 0 2 20 5 6 7  1\n").is_none());
    }
}
