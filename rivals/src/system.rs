//! The systems that can be loaded, and how each says who leads.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use clap::ValueEnum;
use loggos::trace::monotonic_ns;

use crate::etcd::Etcd;
use crate::omnipaxos::OmniPaxos;
use crate::protocol::{Outcome, Protocol, Request};
use crate::redis::Redis;
use crate::zookeeper::{self, ZooKeeper};

/// What is read in answer to one question.
const ANSWER_SIZE_MAX: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum System {
    Etcd,
    Redis,
    Zookeeper,
    Omnipaxos,
}

impl System {
    pub fn name(self) -> &'static str {
        match self {
            System::Etcd => "etcd",
            System::Redis => "redis",
            System::Zookeeper => "zookeeper",
            System::Omnipaxos => "omnipaxos",
        }
    }

    /// Our end of a new connection.
    pub fn protocol(self, address: SocketAddr) -> Box<dyn Protocol> {
        match self {
            System::Etcd => Box::new(Etcd::new(address)),
            System::Redis => Box::new(Redis::default()),
            System::Zookeeper => Box::new(ZooKeeper::default()),
            System::Omnipaxos => Box::new(OmniPaxos::default()),
        }
    }

    /// Whether a key has to be created before it can be put.
    pub fn creates_first(self) -> bool {
        self == System::Zookeeper
    }

    /// Asks a node whether it leads, on a connection of its own, and waits for its answer for so long.
    pub fn leads(self, address: SocketAddr, timeout: Duration) -> io::Result<bool> {
        if self == System::Zookeeper {
            return zookeeper::leads(address, timeout);
        }
        let until_ns = monotonic_ns() + timeout.as_nanos() as u64;
        let mut stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        let mut protocol = self.protocol(address);
        let (mut out, mut replies, mut partial) = (Vec::new(), Vec::new(), Vec::new());
        let (mut buffer, mut asked) = ([0; 16 << 10], false);
        protocol.greet(&mut out);
        loop {
            if protocol.is_ready() && !std::mem::replace(&mut asked, true) {
                let sent = protocol.request(0, Request::Status, &mut out);
                sent.map_err(|error| io::Error::other(format!("{error:?}")))?;
            }
            let left_ns = until_ns.saturating_sub(monotonic_ns()).max(1_000);
            stream.set_write_timeout(Some(Duration::from_nanos(left_ns)))?;
            stream.set_read_timeout(Some(Duration::from_nanos(left_ns)))?;
            stream.write_all(&out)?;
            out.clear();
            if until_ns <= monotonic_ns() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let size = match stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(size) => size,
                // As the kernel calls a timeout.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(error) => return Err(error),
            };
            partial.extend_from_slice(&buffer[..size]);
            let taken = protocol.receive(&partial, &mut out, &mut replies);
            partial.drain(..taken.map_err(io::Error::other)?);
            if let Some(reply) = replies.pop() {
                return Ok(reply.outcome == Outcome::Leads(true));
            }
            if ANSWER_SIZE_MAX < partial.len() {
                return Err(io::Error::other("an answer without end"));
            }
        }
    }
}
