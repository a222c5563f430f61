//! The replica's client side: commands on their way into the log, and reads on their way to be served
//! (PMMC, section 2.1 and figure 1).
//!
//! A replica hands its clients' commands to the leader and keeps each until it is applied here or has
//! waited too long. After a change of leader, or a new connection to it, all that wait are handed over
//! again: a command may so be chosen twice, and sessions see to it that it is applied once.
//!
//! Departure from PMMC: replicas do not assign slots, the leader does.

use std::collections::VecDeque;

use crate::limits;
use crate::mutants::{self, Mutant};

use super::batch::{Command, CommandId};
use super::commands::{Commands, Waiting};
use super::configurations::Configurations;
use super::effects::{Effects, Expired};
use super::ids::{Ballot, NodeId, Slot};
use super::message::Extent;
use super::quorum_reads::QuorumReads;
use super::reads::{ReadWay, Reads};

#[derive(Clone, Debug, Hash)]
pub struct Replica {
    /// How long a command or read may wait.
    timeout_us: u64,
    /// How long a quorum read waits before it asks the leader as well.
    quorum_read_patience_us: u64,
    commands: Commands,
    commands_size: usize,
    /// Commands that were not handed to the present leader yet.
    unsent: VecDeque<CommandId>,
    /// Bytes of `commands` that the present leader was handed.
    handed_size: usize,
    reads: Reads,
    quorum_reads: QuorumReads,
}

impl Replica {
    /// `seed`: any number that no other life of this process begins with.
    pub fn new(timeout_us: u64, quorum_read_patience_us: u64, seed: u64) -> Replica {
        Replica {
            timeout_us,
            quorum_read_patience_us,
            commands: Commands::new(seed),
            commands_size: 0,
            unsent: VecDeque::new(),
            handed_size: 0,
            reads: Reads::new(seed),
            quorum_reads: QuorumReads::new(seed),
        }
    }

    /// Whether clients must wait before they send more.
    pub fn is_full(&self) -> bool {
        limits::PENDING_COMMANDS_MAX <= self.commands.len()
            || limits::PENDING_SIZE_MAX <= self.commands_size
            || limits::PENDING_READS_MAX <= self.reads.len()
    }

    /// Whether no command and no read waits.
    pub fn is_quiet(&self) -> bool {
        self.commands.is_empty() && self.reads.len() == 0
    }

    /// A client's command. `client` is handed back with `finish`. A command that waits already is the
    /// client's second attempt: its answer goes to where that came from.
    pub fn on_command(&mut self, command: Command, client: u64, now_us: u64) {
        if let Some(waiting) = self.commands.get_mut(command.id) {
            waiting.client = client;
            waiting.arrived_us = now_us;
            return;
        }
        self.commands_size += command.size();
        self.unsent.push_back(command.id);
        let (arrived_us, sent_us, sent_to) = (now_us, 0, Ballot::NONE);
        let unsent = true;
        self.commands.insert(Waiting { command, client, arrived_us, sent_us, unsent, sent_to });
    }

    /// The command was applied here: whom to tell, if it came from here.
    pub fn finish(&mut self, id: CommandId) -> Option<u64> {
        if self.commands.is_empty() {
            return None;
        }
        self.remove(id).map(|(client, _)| client)
    }

    /// Whose it was, and the leader that it was handed to last.
    fn remove(&mut self, id: CommandId) -> Option<(u64, Ballot)> {
        let waiting = self.commands.get_mut(id)?;
        let (size, told) = (waiting.command.size(), (waiting.client, waiting.sent_to));
        self.commands_size -= size;
        if !waiting.unsent {
            self.handed_size -= size;
        }
        self.commands.remove(id);
        Some(told)
    }

    pub fn on_read(&mut self, read: u64, way: ReadWay, now_us: u64) {
        self.reads.on_read(read, way, now_us);
    }

    /// The leader changed, or a connection to it is new: hand over everything again.
    pub fn resend_all(&mut self) {
        self.unsent = self.commands.ids(|_| true).into();
        for id in &self.unsent {
            self.commands.get_mut(*id).expect("just listed").unsent = true;
        }
        self.handed_size = 0;
        self.reads.ask_leader_again();
    }

    /// Whether there may be commands or reads to hand to a leader.
    pub fn has_to_send(&self) -> bool {
        !self.unsent.is_empty() || self.reads.ask_leader()
    }

    /// Hands commands to the leader of `ballot`, oldest id first. The leader gets no more than it
    /// can soon propose: with all that waits, the connection to it would be full beyond its limit, and
    /// closed, and the next one would get all of it again.
    pub fn hand_over(&mut self, ballot: Ballot, now_us: u64, mut take: impl FnMut(&Command)) {
        while self.handed_size < limits::HANDED_SIZE_SOFT_MAX {
            let Some(id) = self.unsent.pop_front() else { break };
            // Finished meanwhile; or finished, come anew and listed twice.
            let Some(waiting) = self.commands.get_mut(id).filter(|waiting| waiting.unsent) else {
                continue;
            };
            waiting.unsent = false;
            self.handed_size += waiting.command.size();
            waiting.sent_to = ballot;
            waiting.sent_us = now_us;
            take(&waiting.command);
        }
    }

    /// The id of a read request to send to the leader now, if reads wait and none is in flight; and whether
    /// a lease may answer it.
    pub fn read_request(&mut self, now_us: u64) -> Option<(u64, bool)> {
        self.reads.leader_request(now_us)
    }

    /// The leader confirmed request `id`.
    pub fn on_read_index(&mut self, id: u64, read_slot: Slot) {
        self.reads.on_leader_answer(id, read_slot);
    }

    /// Begins a round of quorum reads, if reads wait for one and none is in flight. Returns its number.
    pub fn begin_quorum_read(&mut self, now_us: u64) -> Option<u64> {
        self.reads.quorum_request(now_us).then(|| self.quorum_reads.begin())
    }

    /// The round of quorum reads in flight, to ask an acceptor again over a new connection.
    pub fn quorum_read_in_flight(&self) -> Option<u64> {
        self.quorum_reads.in_flight()
    }

    /// An acceptor answered a round of quorum reads. Returns what its answers show to be chosen: all
    /// slots below, where the ballot proposed something, that.
    pub fn on_quorum_read_reply(
        &mut self,
        from: NodeId,
        round: u64,
        extent: Extent,
        configurations: &Configurations,
    ) -> Option<(Ballot, Slot)> {
        let outcome = self.quorum_reads.on_reply(from, round, extent, configurations);
        if let Some(read_slot) = outcome.read_slot {
            self.reads.on_quorum_answer(read_slot);
        }
        outcome.chosen
    }

    /// There is a newer configuration than those whose acceptors were asked.
    pub fn on_configurations(&mut self) {
        self.reads.on_configurations();
    }

    /// Hands out the reads that may be served once all slots below `first_unchosen` are applied.
    pub fn serve_reads(&mut self, first_unchosen: Slot, fx: &mut Effects) {
        self.reads.serve(first_unchosen, fx);
    }

    /// Now and then: tells who waited too long, and hands over again what may have been lost.
    /// `patience_us`, if given, is how long at most anybody waits now: there is no leader in reach, and
    /// another node may know one.
    pub fn on_tick(&mut self, now_us: u64, patience_us: Option<u64>, fx: &mut Effects) {
        let limit_us = patience_us.map_or(self.timeout_us, |it| it.min(self.timeout_us));
        let old = |at_us: u64, limit_us: u64| limit_us <= now_us.saturating_sub(at_us);

        let retry_us = self.timeout_us / 4;
        let expired = |waiting: &Waiting| old(waiting.arrived_us, limit_us);
        let lost = |waiting: &Waiting| !waiting.unsent && old(waiting.sent_us, retry_us);
        for id in self.commands.ids(|waiting| !expired(waiting) && lost(waiting)) {
            let waiting = self.commands.get_mut(id).expect("just listed");
            waiting.unsent = true;
            self.handed_size -= waiting.command.size();
            self.unsent.push_back(id);
        }
        for id in self.commands.ids(expired) {
            let (client, sent_to) = self.remove(id).expect("just listed");
            let definite = sent_to.is_none() || mutants::is_on(Mutant::DefiniteTooEarly);
            fx.expired.push(Expired::Command { id, client, definite });
        }

        self.commands.shrink();
        self.reads.on_tick(now_us, limit_us, retry_us, self.quorum_read_patience_us, fx);
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::SessionId;
    use super::*;

    fn command(seq: u64) -> Command {
        let id = CommandId { session: SessionId(1), seq };
        Command { id, acknowledged: 1, payload: [0; 8].into() }
    }

    fn seqs(commands: &[Command]) -> Vec<u64> {
        commands.iter().map(|command| command.id.seq).collect()
    }

    fn handed(replica: &mut Replica, leader: Ballot, now_us: u64) -> Vec<Command> {
        let mut commands = Vec::new();
        replica.hand_over(leader, now_us, |command| commands.push(command.clone()));
        commands
    }

    const LEADER: Ballot = Ballot { round: 1, node: NodeId(2) };

    /// Each command goes to a leader once; after a change of leader those that still wait go again.
    #[test]
    fn commands_are_resent_only_after_a_change() {
        let mut replica = Replica::new(1000, 50, 0);
        for seq in 1..=3 {
            replica.on_command(command(seq), 10 + seq, 0);
        }
        assert_eq!(seqs(&handed(&mut replica, LEADER, 0)), [1, 2, 3]);
        assert!(handed(&mut replica, LEADER, 0).is_empty());
        assert_eq!(replica.finish(command(2).id), Some(12));
        assert_eq!(replica.finish(command(2).id), None);
        replica.resend_all();
        assert_eq!(seqs(&handed(&mut replica, LEADER, 0)), [1, 3]);
    }

    /// While there is no leader, ticks go by. They must not pile up retries, all of which the next
    /// leader would get.
    #[test]
    fn retries_do_not_pile_up_without_a_leader() {
        let mut replica = Replica::new(1000, 50, 0);
        replica.on_command(command(1), 11, 0);
        handed(&mut replica, LEADER, 0);
        for now_us in 250..260 {
            replica.on_tick(now_us, None, &mut Effects::new(NodeId(1)));
        }
        assert_eq!(seqs(&handed(&mut replica, LEADER, 260)), [1]);
        // Finished while listed, and sent again by its client: one copy too.
        replica.resend_all();
        replica.finish(command(1).id);
        replica.on_command(command(1), 11, 300);
        assert_eq!(seqs(&handed(&mut replica, LEADER, 300)), [1]);
    }

    /// A leader gets a part of what waits, however much that is, and more of it as commands are done;
    /// the next leader gets no more than that either.
    #[test]
    fn a_leader_is_handed_what_it_can_take() {
        let mut replica = Replica::new(1000, 50, 0);
        let size = limits::COMMAND_SIZE_MAX;
        let mut seq = 0;
        while !replica.is_full() {
            seq += 1;
            let payload = vec![0; size].into();
            replica.on_command(Command { payload, ..command(seq) }, 11, 0);
        }
        let all = handed(&mut replica, LEADER, 0);
        let least = limits::HANDED_SIZE_SOFT_MAX / size;
        assert!((least..=least + 1).contains(&all.len()), "{}", all.len());
        assert!(handed(&mut replica, LEADER, 0).is_empty());
        replica.finish(all[0].id);
        assert_eq!(handed(&mut replica, LEADER, 0).len(), 1);
        replica.resend_all();
        assert_eq!(handed(&mut replica, LEADER, 0).len(), all.len());
        // Those that seem lost are handed over again, in the place of themselves.
        replica.on_tick(250, None, &mut Effects::new(NodeId(1)));
        assert_eq!(handed(&mut replica, LEADER, 250).len(), all.len());
        let mut fx = Effects::new(NodeId(1));
        replica.on_tick(1000, None, &mut fx);
        assert_eq!((replica.commands_size, replica.handed_size), (0, 0));
    }

    /// A client that asks again over a new connection is answered there, and the command is not
    /// handed over twice.
    #[test]
    fn a_second_attempt_moves_the_answer() {
        let mut replica = Replica::new(1000, 50, 0);
        replica.on_command(command(1), 11, 0);
        replica.on_command(command(1), 12, 5);
        assert_eq!(handed(&mut replica, LEADER, 5).len(), 1);
        assert_eq!(replica.finish(command(1).id), Some(12));
    }

    /// What was never handed to a leader certainly did not happen; the rest may have.
    #[test]
    fn expiry_tells_definite_from_indefinite() {
        let (mut replica, mut fx) = (Replica::new(1000, 50, 0), Effects::new(NodeId(1)));
        replica.on_command(command(1), 11, 0);
        handed(&mut replica, LEADER, 0);
        replica.on_command(command(2), 12, 0);
        replica.on_read(99, ReadWay::Leader, 0);
        replica.on_tick(999, None, &mut fx);
        assert!(fx.expired.is_empty());
        replica.on_tick(1000, None, &mut fx);
        let expired =
            |seq, client, definite| Expired::Command { id: command(seq).id, client, definite };
        let expected = [expired(1, 11, false), expired(2, 12, true), Expired::Read { read: 99 }];
        assert_eq!(fx.expired, expected);
        assert!(!replica.is_full());
    }

    /// Without a leader in reach nobody waits for long: another node may know one.
    #[test]
    fn without_a_leader_clients_are_told_early() {
        let (mut replica, mut fx) = (Replica::new(1000, 50, 0), Effects::new(NodeId(1)));
        replica.on_command(command(1), 11, 0);
        replica.on_read(99, ReadWay::Leader, 50);
        replica.on_tick(100, Some(100), &mut fx);
        assert_eq!(fx.expired.len(), 1);
        replica.on_tick(150, Some(100), &mut fx);
        assert_eq!(fx.expired.len(), 2);
    }
}
