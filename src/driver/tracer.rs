//! Turns what the core and the driver report into log lines and trace records.

use xxhash_rust::xxh3::xxh3_64;

use crate::config::Config;
use crate::paxos::{CommandId, Event, NodeId, Slot, Value};
use crate::trace::{self, Kind, Source, Writer};

pub struct Tracer {
    me: u16,
    out: Option<Writer>,
}

impl Tracer {
    pub fn new(config: &Config) -> std::io::Result<Tracer> {
        let me = config.node.0;
        let create = |path: &std::path::PathBuf| Writer::create(path, Source::Node(me));
        Ok(Tracer { me, out: config.trace.as_ref().map(create).transpose()? })
    }

    pub fn is_on(&self) -> bool {
        self.out.is_some()
    }

    pub fn on_core_event(&mut self, event: Event) {
        let me = self.me;
        match event {
            Event::LeaderChanged { ballot } => {
                log::info!("following {} with ballot {ballot}", ballot.node);
                self.write(|t| trace::Event {
                    a: ballot.round,
                    ..trace::Event::new(t, Kind::LeaderChanged, ballot.node.0)
                });
            }
            Event::ScoutStarted { ballot, first_slot } => {
                log::info!("competing with ballot {ballot} from slot {first_slot}");
                self.write(|t| trace::Event {
                    a: ballot.round,
                    b: first_slot.0,
                    ..trace::Event::new(t, Kind::ScoutStarted, me)
                });
            }
            Event::Adopted { ballot, first_slot } => {
                log::info!("leading with ballot {ballot} from slot {first_slot}");
                self.write(|t| trace::Event {
                    a: ballot.round,
                    b: first_slot.0,
                    ..trace::Event::new(t, Kind::Adopted, me)
                });
            }
            Event::Preempted { ballot, by } => {
                log::info!("ballot {ballot} was preempted by {by}");
                self.write(|t| trace::Event {
                    a: ballot.round,
                    b: by.round,
                    ..trace::Event::new(t, Kind::Preempted, by.node.0)
                });
            }
            Event::Proposed { slot, commands, size, waited_us } => self.write(|t| trace::Event {
                a: slot.0,
                b: size as u64,
                c: waited_us * 1000,
                aux: commands as u32,
                ..trace::Event::new(t, Kind::Proposed, me)
            }),
            Event::Chosen { before, first_unchosen } => self.write(|t| trace::Event {
                a: first_unchosen.0,
                b: before.0,
                ..trace::Event::new(t, Kind::Chosen, me)
            }),
            Event::Jumped { before, first_unchosen } => {
                log::info!("went from slot {before} to {first_unchosen} at once, by a snapshot");
                self.write(|t| trace::Event {
                    a: first_unchosen.0,
                    b: before.0,
                    ..trace::Event::new(t, Kind::Jumped, me)
                });
            }
        }
    }

    pub fn started(&mut self, first_unchosen: Slot) {
        let me = self.me;
        self.write(|t| trace::Event {
            a: first_unchosen.0,
            ..trace::Event::new(t, Kind::NodeStarted, me)
        });
        self.flush();
    }

    pub fn stopped(&mut self) {
        let me = self.me;
        self.write(|t| trace::Event::new(t, Kind::NodeStopped, me));
        self.flush();
    }

    pub fn peer(&mut self, peer: NodeId, up: bool) {
        let kind = if up { Kind::PeerUp } else { Kind::PeerDown };
        self.write(|t| trace::Event::new(t, kind, peer.0));
    }

    pub fn received(&mut self, id: CommandId, size: usize) {
        let me = self.me;
        self.write(|t| trace::Event {
            a: id.session.0,
            b: id.seq,
            aux: size as u32,
            ..trace::Event::new(t, Kind::RequestReceived, me)
        });
    }

    pub fn replied(&mut self, id: CommandId, slot: Slot) {
        let me = self.me;
        self.write(|t| trace::Event {
            a: id.session.0,
            b: id.seq,
            c: slot.0,
            ..trace::Event::new(t, Kind::RequestReplied, me)
        });
    }

    /// `digest`: the store's after this slot.
    pub fn applied(&mut self, slot: Slot, commands: usize, digest: u128, value: &Value) {
        let me = self.me;
        self.write(|t| trace::Event {
            a: slot.0,
            aux: commands as u32,
            b: digest as u64,
            c: xxh3_64(&value.0),
            ..trace::Event::new(t, Kind::Applied, me)
        });
    }

    /// All slots below `end` are durable here.
    pub fn synced(&mut self, end: Slot, duration_ns: u64, records: u64) {
        let me = self.me;
        self.write(|t| trace::Event {
            a: end.0,
            b: duration_ns,
            aux: u32::try_from(records).unwrap_or(u32::MAX),
            ..trace::Event::new(t, Kind::Synced, me)
        });
    }

    pub fn flush(&mut self) {
        if let Some(out) = &mut self.out
            && let Err(error) = out.flush()
        {
            self.give_up(&error);
        }
    }

    fn write(&mut self, event: impl FnOnce(u64) -> trace::Event) {
        if let Some(out) = &mut self.out
            && let Err(error) = out.write(&event(trace::monotonic_ns()))
        {
            self.give_up(&error);
        }
    }

    /// A trace that cannot be written must not stop the node that it only watches.
    fn give_up(&mut self, error: &std::io::Error) {
        log::error!("the trace cannot be written any more and is switched off: {error}");
        self.out = None;
    }
}
