//! The replica's client side: commands on their way into the log, and reads on their way to be served
//! (PMMC, section 2.1 and figure 1).
//!
//! A replica hands its clients' commands to the leader and keeps each until it is applied here or has
//! waited too long. After a change of leader, or a new connection to it, all that wait are handed over
//! again: a command may so be chosen twice, and sessions see to it that it is applied once.
//!
//! Departure from PMMC: replicas do not assign slots, the leader does.

use std::collections::{BTreeMap, VecDeque};

use crate::limits;
use crate::mutants::{self, Mutant};

use super::batch::{Command, CommandId};
use super::effects::{Effects, Expired};
use super::ids::{Ballot, Slot};

#[derive(Clone, Debug, Hash)]
pub struct Replica {
    /// How long a command or read may wait.
    timeout_us: u64,
    commands: BTreeMap<CommandId, Waiting>,
    commands_size: usize,
    /// Commands that were not handed to the present leader yet.
    unsent: VecDeque<CommandId>,
    /// Bytes of `commands` that the present leader was handed.
    handed_size: usize,
    /// Reads that no request covers yet.
    reads_new: Vec<WaitingRead>,
    /// Reads of the request in flight.
    reads_asked: Vec<WaitingRead>,
    /// Id of the read request in flight, or of the last one. It begins at random: an answer that is
    /// still on its way, over a relay, to an earlier life of this process must not fit.
    read_request: u64,
    read_asked_us: u64,
    /// Confirmed reads that wait until all slots below are applied here.
    reads_confirmed: Vec<(Slot, WaitingRead)>,
}

#[derive(Clone, Debug, Hash)]
struct Waiting {
    command: Command,
    client: u64,
    arrived_us: u64,
    sent_us: u64,
    /// Whether its id is in `unsent`.
    unsent: bool,
    /// The leader that it was handed to last; none yet: it certainly has not happened.
    sent_to: Ballot,
}

#[derive(Clone, Copy, Debug, Hash)]
struct WaitingRead {
    read: u64,
    arrived_us: u64,
}

impl Replica {
    /// `first_read_request`: any number that no other life of this process begins at.
    pub fn new(timeout_us: u64, first_read_request: u64) -> Replica {
        Replica {
            timeout_us,
            commands: BTreeMap::new(),
            commands_size: 0,
            unsent: VecDeque::new(),
            handed_size: 0,
            reads_new: Vec::new(),
            reads_asked: Vec::new(),
            read_request: first_read_request,
            read_asked_us: 0,
            reads_confirmed: Vec::new(),
        }
    }

    /// Whether clients must wait before they send more.
    pub fn is_full(&self) -> bool {
        let reads = self.reads_new.len() + self.reads_asked.len() + self.reads_confirmed.len();
        limits::PENDING_COMMANDS_MAX <= self.commands.len()
            || limits::PENDING_SIZE_MAX <= self.commands_size
            || limits::PENDING_READS_MAX <= reads
    }

    /// Whether no command and no read waits.
    pub fn is_quiet(&self) -> bool {
        self.commands.is_empty()
            && self.reads_new.is_empty()
            && self.reads_asked.is_empty()
            && self.reads_confirmed.is_empty()
    }

    /// A client's command. `client` is handed back with `finish`. A command that waits already is the
    /// client's second attempt: its answer goes to where that came from.
    pub fn on_command(&mut self, command: Command, client: u64, now_us: u64) {
        if let Some(waiting) = self.commands.get_mut(&command.id) {
            waiting.client = client;
            waiting.arrived_us = now_us;
            return;
        }
        self.commands_size += command.size();
        self.unsent.push_back(command.id);
        let (id, sent_to) = (command.id, Ballot::NONE);
        let waiting =
            Waiting { command, client, arrived_us: now_us, sent_us: 0, unsent: true, sent_to };
        self.commands.insert(id, waiting);
    }

    /// The command was applied here: whom to tell, if it came from here.
    pub fn finish(&mut self, id: CommandId) -> Option<u64> {
        if self.commands.is_empty() {
            return None;
        }
        self.remove(id).map(|waiting| waiting.client)
    }

    fn remove(&mut self, id: CommandId) -> Option<Waiting> {
        let waiting = self.commands.remove(&id)?;
        self.commands_size -= waiting.command.size();
        if !waiting.unsent {
            self.handed_size -= waiting.command.size();
        }
        Some(waiting)
    }

    pub fn on_read(&mut self, read: u64, now_us: u64) {
        self.reads_new.push(WaitingRead { read, arrived_us: now_us });
    }

    /// The leader changed, or a connection to it is new: hand over everything again.
    pub fn resend_all(&mut self) {
        self.unsent = self.commands.keys().copied().collect();
        self.commands.values_mut().for_each(|waiting| waiting.unsent = true);
        self.handed_size = 0;
        self.reads_new.append(&mut self.reads_asked);
    }

    /// Commands to hand to the leader of `ballot` now, oldest id first. The leader gets no more than it
    /// can soon propose: with all that waits, the connection to it would be full beyond its limit, and
    /// closed, and the next one would get all of it again.
    pub fn commands_to_send(&mut self, ballot: Ballot, now_us: u64) -> Vec<Command> {
        let mut commands = Vec::new();
        while self.handed_size < limits::HANDED_SIZE_SOFT_MAX {
            let Some(id) = self.unsent.pop_front() else { break };
            // Finished meanwhile; or finished, come anew and listed twice.
            let Some(waiting) = self.commands.get_mut(&id).filter(|waiting| waiting.unsent) else {
                continue;
            };
            waiting.unsent = false;
            self.handed_size += waiting.command.size();
            waiting.sent_to = ballot;
            waiting.sent_us = now_us;
            commands.push(waiting.command.clone());
        }
        commands
    }

    /// The id of a read request to send to the leader now, if reads wait and none is in flight.
    pub fn read_request(&mut self, now_us: u64) -> Option<u64> {
        if self.reads_new.is_empty() || !self.reads_asked.is_empty() {
            return None;
        }
        self.reads_asked = std::mem::take(&mut self.reads_new);
        self.read_request = self.read_request.wrapping_add(1);
        self.read_asked_us = now_us;
        Some(self.read_request)
    }

    /// The leader confirmed request `id`.
    pub fn on_read_index(&mut self, id: u64, read_slot: Slot) {
        if id == self.read_request {
            let asked = self.reads_asked.drain(..);
            self.reads_confirmed.extend(asked.map(|read| (read_slot, read)));
        }
    }

    /// Hands out the reads that may be served once all slots below `first_unchosen` are applied.
    pub fn serve_reads(&mut self, first_unchosen: Slot, fx: &mut Effects) {
        self.reads_confirmed.retain(|(read_slot, waiting)| {
            let ready = *read_slot <= first_unchosen;
            if ready {
                fx.reads_ready.push(waiting.read);
            }
            !ready
        });
    }

    /// Now and then: tells who waited too long, and hands over again what may have been lost.
    /// `patience_us`, if given, is how long at most anybody waits now: there is no leader in reach, and
    /// another node may know one.
    pub fn on_tick(&mut self, now_us: u64, patience_us: Option<u64>, fx: &mut Effects) {
        let limit_us = patience_us.map_or(self.timeout_us, |it| it.min(self.timeout_us));
        let old = |at_us: u64, limit_us: u64| limit_us <= now_us.saturating_sub(at_us);

        let retry_us = self.timeout_us / 4;
        let mut expired = Vec::new();
        for (id, waiting) in &mut self.commands {
            if old(waiting.arrived_us, limit_us) {
                expired.push(*id);
            } else if !waiting.unsent && old(waiting.sent_us, retry_us) {
                waiting.unsent = true;
                self.handed_size -= waiting.command.size();
                self.unsent.push_back(*id);
            }
        }
        for id in expired {
            let waiting = self.remove(id).expect("just listed");
            let definite = waiting.sent_to.is_none() || mutants::is_on(Mutant::DefiniteTooEarly);
            fx.expired.push(Expired::Command { id, client: waiting.client, definite });
        }

        if !self.reads_asked.is_empty() && old(self.read_asked_us, retry_us) {
            self.reads_new.append(&mut self.reads_asked);
        }
        let mut expire = |waiting: &WaitingRead| {
            let expired = old(waiting.arrived_us, limit_us);
            if expired {
                fx.expired.push(Expired::Read { read: waiting.read });
            }
            !expired
        };
        self.reads_new.retain(&mut expire);
        self.reads_asked.retain(&mut expire);
        self.reads_confirmed.retain(|(_, waiting)| expire(waiting));
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::SessionId;
    use super::super::ids::NodeId;
    use super::*;
    use std::sync::Arc;

    fn command(seq: u64) -> Command {
        let id = CommandId { session: SessionId(1), seq };
        Command { id, acknowledged: 1, payload: Arc::from([0u8; 8]) }
    }

    fn seqs(commands: &[Command]) -> Vec<u64> {
        commands.iter().map(|command| command.id.seq).collect()
    }

    const LEADER: Ballot = Ballot { round: 1, node: NodeId(2) };

    /// Each command goes to a leader once; after a change of leader those that still wait go again.
    #[test]
    fn commands_are_resent_only_after_a_change() {
        let mut replica = Replica::new(1000, 0);
        for seq in 1..=3 {
            replica.on_command(command(seq), 10 + seq, 0);
        }
        assert_eq!(seqs(&replica.commands_to_send(LEADER, 0)), [1, 2, 3]);
        assert!(replica.commands_to_send(LEADER, 0).is_empty());
        assert_eq!(replica.finish(command(2).id), Some(12));
        assert_eq!(replica.finish(command(2).id), None);
        replica.resend_all();
        assert_eq!(seqs(&replica.commands_to_send(LEADER, 0)), [1, 3]);
    }

    /// While there is no leader, ticks go by. They must not pile up retries, all of which the next
    /// leader would get.
    #[test]
    fn retries_do_not_pile_up_without_a_leader() {
        let mut replica = Replica::new(1000, 0);
        replica.on_command(command(1), 11, 0);
        replica.commands_to_send(LEADER, 0);
        for now_us in 250..260 {
            replica.on_tick(now_us, None, &mut Effects::new(NodeId(1)));
        }
        assert_eq!(seqs(&replica.commands_to_send(LEADER, 260)), [1]);
        // Finished while listed, and sent again by its client: one copy too.
        replica.resend_all();
        replica.finish(command(1).id);
        replica.on_command(command(1), 11, 300);
        assert_eq!(seqs(&replica.commands_to_send(LEADER, 300)), [1]);
    }

    /// A leader gets a part of what waits, however much that is, and more of it as commands are done;
    /// the next leader gets no more than that either.
    #[test]
    fn a_leader_is_handed_what_it_can_take() {
        let mut replica = Replica::new(1000, 0);
        let size = limits::COMMAND_SIZE_MAX;
        let mut seq = 0;
        while !replica.is_full() {
            seq += 1;
            let payload = Arc::from(vec![0; size]);
            replica.on_command(Command { payload, ..command(seq) }, 11, 0);
        }
        let handed = replica.commands_to_send(LEADER, 0);
        let least = limits::HANDED_SIZE_SOFT_MAX / size;
        assert!((least..=least + 1).contains(&handed.len()), "{}", handed.len());
        assert!(replica.commands_to_send(LEADER, 0).is_empty());
        replica.finish(handed[0].id);
        assert_eq!(replica.commands_to_send(LEADER, 0).len(), 1);
        replica.resend_all();
        assert_eq!(replica.commands_to_send(LEADER, 0).len(), handed.len());
        // Those that seem lost are handed over again, in the place of themselves.
        replica.on_tick(250, None, &mut Effects::new(NodeId(1)));
        assert_eq!(replica.commands_to_send(LEADER, 250).len(), handed.len());
        let mut fx = Effects::new(NodeId(1));
        replica.on_tick(1000, None, &mut fx);
        assert_eq!((replica.commands_size, replica.handed_size), (0, 0));
    }

    /// A client that asks again over a new connection is answered there, and the command is not
    /// handed over twice.
    #[test]
    fn a_second_attempt_moves_the_answer() {
        let mut replica = Replica::new(1000, 0);
        replica.on_command(command(1), 11, 0);
        replica.on_command(command(1), 12, 5);
        assert_eq!(replica.commands_to_send(LEADER, 5).len(), 1);
        assert_eq!(replica.finish(command(1).id), Some(12));
    }

    /// What was never handed to a leader certainly did not happen; the rest may have.
    #[test]
    fn expiry_tells_definite_from_indefinite() {
        let (mut replica, mut fx) = (Replica::new(1000, 0), Effects::new(NodeId(1)));
        replica.on_command(command(1), 11, 0);
        replica.commands_to_send(LEADER, 0);
        replica.on_command(command(2), 12, 0);
        replica.on_read(99, 0);
        replica.on_tick(999, None, &mut fx);
        assert!(fx.expired.is_empty());
        replica.on_tick(1000, None, &mut fx);
        let expired =
            |seq, client, definite| Expired::Command { id: command(seq).id, client, definite };
        let expected = [expired(1, 11, false), expired(2, 12, true), Expired::Read { read: 99 }];
        assert_eq!(fx.expired, expected);
        assert!(!replica.is_full());
    }

    /// An answer to a request of before a restart, delayed at a relay, must not serve a read of now:
    /// writes were acknowledged in between.
    #[test]
    fn an_answer_to_an_earlier_life_serves_nothing() {
        let (mut replica, mut fx) = (Replica::new(1000, 77), Effects::new(NodeId(1)));
        replica.on_read(1, 0);
        let earlier = replica.read_request(0).unwrap();
        let mut replica = Replica::new(1000, 123_456);
        replica.on_read(2, 0);
        replica.read_request(0).unwrap();
        replica.on_read_index(earlier, Slot(1));
        replica.serve_reads(Slot(1), &mut fx);
        assert!(fx.reads_ready.is_empty());
    }

    /// Without a leader in reach nobody waits for long: another node may know one.
    #[test]
    fn without_a_leader_clients_are_told_early() {
        let (mut replica, mut fx) = (Replica::new(1000, 0), Effects::new(NodeId(1)));
        replica.on_command(command(1), 11, 0);
        replica.on_read(99, 50);
        replica.on_tick(100, Some(100), &mut fx);
        assert_eq!(fx.expired.len(), 1);
        replica.on_tick(150, Some(100), &mut fx);
        assert_eq!(fx.expired.len(), 2);
    }

    /// Reads wait for the leader's answer to their own request and until its slot is applied here.
    #[test]
    fn reads_wait_for_their_slot() {
        let (mut replica, mut fx) = (Replica::new(1000, 0), Effects::new(NodeId(1)));
        replica.on_read(1, 0);
        let first = replica.read_request(0).unwrap();
        replica.on_read(2, 0);
        assert_eq!(replica.read_request(0), None);
        replica.on_read_index(first + 1, Slot(1));
        replica.on_read_index(first, Slot(5));
        replica.serve_reads(Slot(4), &mut fx);
        assert!(fx.reads_ready.is_empty());
        replica.serve_reads(Slot(5), &mut fx);
        assert_eq!(fx.reads_ready, [1]);
        assert!(replica.read_request(0).is_some());
    }
}
