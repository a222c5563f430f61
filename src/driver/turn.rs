//! The end of a turn: what the node wants done is done, in the one safe order (`paxos::Effects`).

use crate::limits;
use crate::paxos::{Expired, LearnReply, Message, NodeId, Now, Record};
use crate::wire::peer;

use super::ServeError;
use super::connection::Stage;
use super::peers::Link;
use super::replay::learned_values;
use super::server::{Server, clock, reason};
use super::table::ConnectionId;

impl Server {
    /// Carries out what this turn asked for, again as long as what it made durable leads to more.
    pub(super) fn finish_turn(&mut self, mut now: Now) -> Result<(), ServeError> {
        loop {
            if self.config.lease.is_on() {
                // Leases need a time that is later than what the turn brought (`paxos::lease`).
                now = clock();
            }
            self.node.end_turn(now, &mut self.fx);
            self.carry_out(now)?;
            let told = self.release(now);
            self.flush_dirty(now);
            // A connection that broke while it was written to may have been the leader's.
            if !told && self.fx.sends.is_empty() {
                return Ok(());
            }
        }
    }

    fn carry_out(&mut self, now: Now) -> Result<(), ServeError> {
        // First of all out of the door: while the others write, we do.
        let sends = std::mem::take(&mut self.fx.sends);
        if !sends.is_empty() {
            for (to, message) in sends {
                self.send(to, &message);
            }
            self.flush_dirty(now);
        }
        self.append_records()?;
        let position = self.wal.end();
        for (to, message) in std::mem::take(&mut self.fx.sends_after_sync) {
            self.held.push(position, to, message);
        }
        let before = self.wal.durable();
        let in_flight = self.wal.start_sync()?;
        if in_flight && !self.syncing {
            (self.syncing_from, self.syncing_end) = (before, self.appended_end);
            self.syncing_since_us = now.mono_us;
        }
        self.syncing = in_flight;
        for event in std::mem::take(&mut self.fx.events) {
            self.tracer.on_core_event(event);
        }
        self.apply_chosen();
        self.tell_watchers();
        for read in std::mem::take(&mut self.fx.reads_ready) {
            self.serve_read(read);
        }
        for reply in std::mem::take(&mut self.fx.learn_replies) {
            self.send_chosen(reply)?;
        }
        for reply in std::mem::take(&mut self.fx.snapshot_replies) {
            self.serve_part(now, reply);
        }
        if std::mem::take(&mut self.fx.snapshot_wanted) {
            self.snapshots.want();
        }
        for receive in std::mem::take(&mut self.fx.receives) {
            self.receive_snapshot(now, receive);
        }
        for expired in std::mem::take(&mut self.fx.expired) {
            match expired {
                Expired::Command { id, client, definite } => {
                    self.command_expired(id, client, definite);
                }
                Expired::Read { read } => self.read_expired(read),
            }
        }
        Ok(())
    }

    pub(super) fn append_records(&mut self) -> Result<(), ServeError> {
        for record in std::mem::take(&mut self.fx.records) {
            self.wal.append(&record)?;
            if let Record::Accepted { slot, .. } | Record::Chosen { slot, .. } = record {
                self.appended_end = self.appended_end.max(slot.next());
            }
            if !self.config.group_commit && matches!(record, Record::Accepted { .. }) {
                // As programs do that sync where they write: everybody waits.
                self.wal.sync_now()?;
            }
        }
        Ok(())
    }

    /// Lets go what the log's durability has made true. True if the node itself was told something.
    fn release(&mut self, now: Now) -> bool {
        let mut told = false;
        while let Some((to, message)) = self.held.pop(self.wal.durable()) {
            if to == self.config.node {
                told = true;
                self.node.on_message(now, to, message, &mut self.fx);
            } else {
                self.send(to, &message);
            }
        }
        told
    }

    /// Sends to a peer, if a connection to it stands: the protocol expects losses only there.
    pub(super) fn send(&mut self, to: NodeId, message: &Message) {
        let Some(id) = self.links.get(&to).and_then(Link::up) else { return };
        let Some(connection) = self.table.get_mut(id) else { return };
        peer::write(message, connection.output());
        self.touch(id);
    }

    /// Answers a learner from the log: as many chosen values as fit a message.
    fn send_chosen(&mut self, reply: LearnReply) -> Result<(), ServeError> {
        let Some(id) = self.links.get(&reply.to).and_then(Link::up) else { return Ok(()) };
        let Some(connection) = self.table.get_mut(id) else { return Ok(()) };
        let values = learned_values(&self.wal, reply, limits::MESSAGE_VALUES_MAX)?;
        let out = connection.output();
        peer::write_chosen(reply.first_slot, &values, reply.first_unchosen, out);
        self.touch(id);
        Ok(())
    }

    /// Marks that something waits to be sent.
    pub(super) fn touch(&mut self, id: ConnectionId) {
        if let Some(connection) = self.table.get_mut(id)
            && !std::mem::replace(&mut connection.dirty, true)
        {
            self.dirty.push(id);
        }
    }

    /// Sends what waits on all connections.
    fn flush_dirty(&mut self, now: Now) {
        for id in std::mem::take(&mut self.dirty) {
            self.flush(now, id);
        }
    }

    fn flush(&mut self, now: Now, id: ConnectionId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let stage = connection.stage;
        connection.dirty = false;
        if let Err(ended) = connection.flush() {
            self.close(now, id, &reason(ended));
            return;
        }
        let unsent = connection.unsent();
        match stage {
            Stage::Closing if unsent == 0 => self.close(now, id, ""),
            Stage::Peer(_) if limits::PEER_OUT_SIZE_MAX < unsent => {
                self.close(now, id, "it does not take what we send");
            }
            // It may have been held back because of its unsent replies.
            Stage::Client
                if unsent < limits::CLIENT_OUT_SIZE_MAX
                    && (connection.readable || connection.has_input()) =>
            {
                self.ready.push(id);
            }
            _ => {}
        }
        if stage == Stage::Client {
            self.answer_reads(id);
            self.tell_watcher(id, false);
        }
    }
}
