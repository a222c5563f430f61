//! `loggos-shaper`: delay, jitter, loss and reordering between emulated hosts, where the kernel has no netem.
//!
//! What a host receives waits in a queue of its kernel (netfilter's NFQUEUE) until this process lets it on: at the
//! receiver, because a sender's TCP would notice that its packets do not leave. One thread serves all hosts. It says
//! `ready` once every queue is open, then answers commands (`command.rs`), and ends with its standard input.
//!
//! The rule that leads packets into the queue is not ours; it must not have `--queue-bypass`.

mod command;
mod host;
mod shape;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::num::NonZeroU64;
use std::process::ExitCode;
use std::str::FromStr;

use clap::Parser;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::thread::set_current_timer_slack;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use command::Command;
use host::{Host, Packet};
use shape::{Fate, Link};

/// Packets that are read from one host before the others have their turn, and what is due is sent on.
const BATCH: usize = 64;

/// Holds, loses and reorders what emulated hosts receive from each other
#[derive(Parser)]
#[command(name = "loggos-shaper")]
struct Options {
    /// Of what is drawn by chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Hosts: the IPv4 address, and a process in its network
    #[arg(value_name = "ADDRESS=PID", required = true)]
    hosts: Vec<Place>,
}

/// A host's address, and a process in its network.
#[derive(Clone)]
struct Place {
    address: Ipv4Addr,
    pid: u32,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let (address, pid) = text.split_once('=').ok_or("expected ADDRESS=PID")?;
        let pid = pid.parse().map_err(|_| format!("{pid:?} is no process id"))?;
        Ok(Place { address: command::address(address)?, pid })
    }
}

fn main() -> ExitCode {
    match Shaper::open(&Options::parse()).and_then(Shaper::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("loggos-shaper: {why}");
            ExitCode::FAILURE
        }
    }
}

/// A packet that waits. Ordered by when it is due, then by when it came.
struct Held {
    due_ns: u64,
    number: u64,
    /// Whose it is: the place of the host.
    host: usize,
    packet: Packet,
}

struct Shaper {
    hosts: Vec<Host>,
    /// By source and destination.
    links: BTreeMap<(Ipv4Addr, Ipv4Addr), Link>,
    held: BinaryHeap<Reverse<Held>>,
    /// Packets so far.
    number: u64,
    /// What was read of a line that has not ended yet.
    line: Vec<u8>,
}

impl Shaper {
    fn open(options: &Options) -> Result<Shaper, String> {
        // The kernel may otherwise wake us 50 us late, to wake others with us.
        set_current_timer_slack(NonZeroU64::new(1)).map_err(|error| error.to_string())?;
        let hosts = options
            .hosts
            .iter()
            .map(|it| Host::open(it.address, it.pid))
            .collect::<Result<Vec<_>, _>>()?;
        let addresses: Vec<Ipv4Addr> = hosts.iter().map(|host| host.address).collect();
        let mut links = BTreeMap::new();
        for &from in &addresses {
            for &to in addresses.iter().filter(|to| **to != from) {
                links.insert((from, to), Link::new(from, to, options.seed));
            }
        }
        if links.len() != addresses.len() * (addresses.len() - 1) {
            return Err("two hosts have the same address".to_owned());
        }
        Ok(Shaper { hosts, links, held: BinaryHeap::new(), number: 0, line: Vec::new() })
    }

    fn run(mut self) -> Result<(), String> {
        answer("ready")?;
        loop {
            self.send_due()?;
            let (spoken_to, received) = self.wait()?;
            if spoken_to && !self.listen()? {
                return Ok(());
            }
            for host in received {
                self.receive(host)?;
            }
        }
    }

    /// Waits until something is due or has come: whether there is something to listen to, and which hosts have
    /// received something.
    fn wait(&self) -> Result<(bool, Vec<usize>), String> {
        let timeout = self.held.peek().map(|next| timespec(next.0.due_ns.saturating_sub(now_ns())));
        let stdin = io::stdin();
        let mut sockets = vec![PollFd::new(&stdin, PollFlags::IN)];
        sockets.extend(
            self.hosts.iter().map(|host| PollFd::from_borrowed_fd(host.socket(), PollFlags::IN)),
        );
        match poll(&mut sockets, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(format!("waiting: {error}")),
        }
        let ready: Vec<bool> = sockets.iter().map(|it| !it.revents().is_empty()).collect();
        Ok((ready[0], (0..self.hosts.len()).filter(|host| ready[host + 1]).collect()))
    }

    fn receive(&mut self, host: usize) -> Result<(), String> {
        let it = &mut self.hosts[host];
        let to = it.address;
        let failed = |error: io::Error| format!("the queue of {to}: {error}");
        for _ in 0..BATCH {
            let Some(packet) = it.receive().map_err(failed)? else { return Ok(()) };
            // Whoever is no host of ours is not shaped.
            let fate = match self.links.get_mut(&(packet.from, to)) {
                Some(link) => link.fate(now_ns()),
                None => Fate::Due(0),
            };
            match fate {
                Fate::Lost => it.lose(packet).map_err(failed)?,
                Fate::Due(due_ns) => {
                    self.number += 1;
                    self.held.push(Reverse(Held { due_ns, number: self.number, host, packet }));
                }
            }
        }
        Ok(())
    }

    /// Sends on what is due by now.
    fn send_due(&mut self) -> Result<(), String> {
        let mut now = now_ns();
        while self.held.peek().is_some_and(|next| next.0.due_ns <= now) {
            let Reverse(held) = self.held.pop().expect("it was there");
            let host = &mut self.hosts[held.host];
            if let Some(link) = self.links.get_mut(&(held.packet.from, host.address)) {
                link.sent(held.due_ns, now);
            }
            host.accept(held.packet)
                .map_err(|error| format!("the queue of {}: {error}", host.address))?;
            now = now_ns();
        }
        Ok(())
    }

    /// Reads what was said and answers the lines in it; whether there may be more.
    fn listen(&mut self) -> Result<bool, String> {
        let mut bytes = [0; 4096];
        let size = match rustix::io::read(io::stdin(), &mut bytes) {
            Ok(size) => size,
            Err(Errno::INTR | Errno::AGAIN) => return Ok(true),
            Err(error) => return Err(format!("standard input: {error}")),
        };
        self.line.extend(&bytes[..size]);
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            let said = self.obey(String::from_utf8_lossy(&line).trim());
            answer(&said.unwrap_or_else(|why| format!("error: {why}")))?;
        }
        Ok(size > 0)
    }

    /// Carries out a command; returns what to answer.
    fn obey(&mut self, line: &str) -> Result<String, String> {
        match line.parse()? {
            Command::Shape { from, to, shape } => {
                let link = self.links.get_mut(&(from, to));
                link.ok_or_else(|| format!("there is no link from {from} to {to}"))?.shape = shape;
                Ok("ok".to_owned())
            }
            Command::Report => Ok(self.report()?.to_string()),
        }
    }

    fn report(&self) -> Result<Value, String> {
        let mut hosts = BTreeMap::new();
        for host in &self.hosts {
            let overflow = host.overflow()?;
            hosts.insert(
                host.address.to_string(),
                json!({ "overflow_queue": overflow.queue, "overflow_socket": overflow.socket }),
            );
        }
        let links = self.links.iter().filter(|(_, link)| link.counts.packets > 0);
        let links: Vec<Value> = links
            .map(|((from, to), link)| {
                let counts = link.counts;
                json!({
                    "from": from.to_string(),
                    "to": to.to_string(),
                    "packets": counts.packets,
                    "lost": counts.lost,
                    "reordered": counts.reordered,
                    "late_us_mean": counts.late_ns_sum / counts.sent.max(1) / 1000,
                    "late_us_max": counts.late_ns_max / 1000,
                })
            })
            .collect();
        Ok(json!({ "hosts": hosts, "links": links, "held": self.held.len() }))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Held) -> std::cmp::Ordering {
        (self.due_ns, self.number).cmp(&(other.due_ns, other.number))
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Held) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Held) -> bool {
        self.number == other.number
    }
}

impl Eq for Held {}

/// A line to whoever started us, at once.
fn answer(line: &str) -> Result<(), String> {
    let mut out = io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| format!("answer: {error}"))
}

/// The clock that nobody sets.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 }
}
