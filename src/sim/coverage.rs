//! How often the runs came to the places that matter: a test that never gets there proves nothing.

use std::collections::BTreeMap;

use crate::paxos::{Ballot, Event, Message, NodeId, Record, Slot};

use super::host::Input;
use super::shadow::Shadow;

#[derive(Clone, Debug, Default)]
pub struct Coverage {
    pub elections: u64,
    pub preemptions: u64,
    /// Answers of chosen values that were taken.
    pub catch_ups: u64,
    /// Acceptors that began above slots which they only learn.
    pub jumps: u64,
    pub resends: u64,
    /// P1b in more than one part.
    pub parts: u64,
    pub refusals: u64,
    pub restarts: u64,
    pub reads: u64,
    /// Leases granted by acceptors, and their answers to rounds of quorum reads.
    pub lease_grants: u64,
    pub quorum_read_replies: u64,
    pub relays: u64,
    pub take_overs: u64,
    /// Changes of the members that were proposed, and nodes that left and were switched off.
    pub changes: u64,
    pub departures: u64,
    /// Commands decided more than once and executed once.
    pub duplicates: u64,
    /// Keys whose time was over, and locks given.
    pub expiries: u64,
    pub locks: u64,
    /// Sessions opened by clients.
    pub sessions: u64,
    /// Commands that the store refused: their session had expired, or the number was out of its window.
    pub refused_commands: u64,
    /// Operations that clients gave up, and those that certainly did not happen.
    pub given_up: u64,
    pub definite_errors: u64,
    pub clock_jumps: u64,
    pub failed_syncs: u64,
    /// Syncs that were still in flight after an election timeout.
    pub stalls: u64,
    /// How often a node found no room for values in its log, or ended or did not start for want of it.
    pub full_disks: u64,
    /// Places of logs that were damaged on the disk, and starts of nodes that had lost something by it.
    pub damages: u64,
    pub repairs: u64,
    /// Memories that changed; replicas that found out, and how many of those by what others said; states
    /// that were fetched then.
    pub corruptions: u64,
    pub quarantines: u64,
    pub outvoted: u64,
    pub fetches: u64,
    pub damaged_snapshots: u64,
    /// Clusters that were made of a backup.
    pub restores: u64,
    /// Snapshots taken; those from peers that were installed, and that were no good; transfers that went
    /// on behind what came earlier; acceptors that jumped by an offer alone.
    pub snapshots: u64,
    pub installs: u64,
    /// Segments of logs that went, and new ones that were made of such.
    pub truncations: u64,
    pub reused_segments: u64,
    pub refused_parts: u64,
    pub resumed: u64,
    pub passed_over: u64,
    /// Histories whose check was given up.
    pub undecided: u64,
    /// Who was elected last, and how often whoever was it was elected next, too.
    elected: Option<NodeId>,
    pub elected_again: u64,
    /// Where each stream of P2a ends.
    sent: BTreeMap<NodeId, (Ballot, Slot)>,
}

impl Coverage {
    pub fn on_event(&mut self, event: &Event) {
        match event {
            Event::Adopted { ballot, .. } => {
                self.elections += 1;
                self.elected_again += u64::from(self.elected == Some(ballot.node));
                self.elected = Some(ballot.node);
            }
            Event::Preempted { .. } => self.preemptions += 1,
            _ => {}
        }
    }

    pub fn on_input(&mut self, input: &Input) {
        match input {
            Input::Message(_, Message::Chosen { .. }) => self.catch_ups += 1,
            Input::Message(_, Message::LeaseGrant { .. }) => self.lease_grants += 1,
            Input::Message(_, Message::QuorumReadReply { .. }) => self.quorum_read_replies += 1,
            Input::Message(_, Message::Relay { .. }) => self.relays += 1,
            Input::Message(_, Message::TakeOver { .. }) => self.take_overs += 1,
            _ => {}
        }
    }

    pub fn on_record(&mut self, log: &Shadow, record: &Record) {
        if let Record::Accepted { slot, .. } = record
            && Slot::FIRST < *slot
            && log.value(Slot(slot.0 - 1)).is_none()
        {
            self.jumps += 1;
        }
    }

    pub fn on_send(&mut self, to: NodeId, message: &Message) {
        match message {
            Message::P2a { ballot, first_slot, values, .. } => {
                let sent = self.sent.entry(to).or_default();
                if sent.0 == *ballot && *first_slot < sent.1 {
                    self.resends += 1;
                }
                *sent = (*ballot, first_slot.plus(values.len()));
            }
            Message::P1b(p1b) if p1b.promised == p1b.ballot && !p1b.no_more_accepted => {
                self.parts += 1;
            }
            Message::P1b(p1b) if p1b.promised != p1b.ballot => self.refusals += 1,
            Message::P2b(p2b) if p2b.promised != p2b.ballot => self.refusals += 1,
            _ => {}
        }
    }

    pub fn add(&mut self, other: &Coverage) {
        for ((_, mine), (_, theirs)) in self.counts_mut().into_iter().zip(other.counts()) {
            *mine += theirs;
        }
    }

    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        self.clone().counts_mut().into_iter().map(|(name, count)| (name, *count)).collect()
    }

    fn counts_mut(&mut self) -> Vec<(&'static str, &mut u64)> {
        vec![
            ("elections", &mut self.elections),
            ("preemptions", &mut self.preemptions),
            ("catch-ups", &mut self.catch_ups),
            ("jumps", &mut self.jumps),
            ("resends", &mut self.resends),
            ("parts", &mut self.parts),
            ("refusals", &mut self.refusals),
            ("restarts", &mut self.restarts),
            ("reads", &mut self.reads),
            ("lease grants", &mut self.lease_grants),
            ("quorum read replies", &mut self.quorum_read_replies),
            ("relays", &mut self.relays),
            ("take-overs", &mut self.take_overs),
            ("changes of members", &mut self.changes),
            ("departures", &mut self.departures),
            ("duplicates", &mut self.duplicates),
            ("expired keys", &mut self.expiries),
            ("locks", &mut self.locks),
            ("sessions", &mut self.sessions),
            ("refused commands", &mut self.refused_commands),
            ("given up", &mut self.given_up),
            ("definite errors", &mut self.definite_errors),
            ("clock jumps", &mut self.clock_jumps),
            ("failed syncs", &mut self.failed_syncs),
            ("stalled syncs", &mut self.stalls),
            ("full disks", &mut self.full_disks),
            ("damages", &mut self.damages),
            ("repairs", &mut self.repairs),
            ("corruptions", &mut self.corruptions),
            ("quarantines", &mut self.quarantines),
            ("outvoted", &mut self.outvoted),
            ("states fetched", &mut self.fetches),
            ("damaged snapshots", &mut self.damaged_snapshots),
            ("restores", &mut self.restores),
            ("snapshots", &mut self.snapshots),
            ("installs", &mut self.installs),
            ("truncations", &mut self.truncations),
            ("reused segments", &mut self.reused_segments),
            ("refused parts", &mut self.refused_parts),
            ("resumed", &mut self.resumed),
            ("passed over", &mut self.passed_over),
            ("undecided histories", &mut self.undecided),
        ]
    }
}
