//! Plays a plan: clients work and faults strike, then all faults end and everybody must be served again.

mod restore;
mod wrong_state;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::check::{self, Verdict};
use crate::paxos::{NodeId, Roles, Slot};
use crate::store;

use super::clients::Clients;
use super::cluster::{Cluster, Reply};
use super::coverage::Coverage;
use super::faults::{self, Undo};
use super::host;
use super::plan::Plan;
use super::sql;

/// Election timeouts after the last fault within which reads and commands must be served again at each
/// replica and all nodes be level.
const RECOVERY_TIMEOUTS_MAX: f64 = 20.0;
/// Election timeouts within which a node that reaches a quorum, whatever else is cut, must be served. Four do
/// where messages take no time; here each may take a fifth of one, and so may syncs, and a node that is two
/// hops from the leader may have to pull a snapshot first.
const HUB_TIMEOUTS_MAX: f64 = 8.0;

/// Election timeouts within which a leader whose disk stalls is replaced, and commands are served: one until
/// that is noticed, and what messages and syncs of the slowest take.
const STALLED_TIMEOUTS_MAX: f64 = 10.0;

/// Election timeouts after all is well in which leaders may still change, and then, in which none may.
const SETTLING_TIMEOUTS: u64 = 4;
const CALM_TIMEOUTS: u64 = 6;

/// Work that the judgement of one key may take: a second or so.
const SEARCH_POINTS_MAX: u64 = 300_000;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub coverage: Coverage,
    /// Commands acknowledged, slots chosen, operations in the history.
    pub acked: u64,
    pub chosen: u64,
    pub operations: u64,
    pub virtual_us: u64,
    pub happenings: u64,
    /// From the end of all faults until everybody is served and level, in election timeouts.
    pub recovery: f64,
    /// Until a node that reaches a quorum was served while other links stayed cut; if that was tried.
    pub hub: Option<f64>,
}

pub struct Run {
    pub plan: Plan,
    pub cluster: Cluster,
    /// Draws what the clients do; the cluster draws for itself.
    dice: StdRng,
    clients: Clients,
    undos: Vec<Undo>,
}

/// Alarm tokens: lanes of clients by their number, then these and a number.
const FAULT: u64 = 1 << 32;
const UNDO: u64 = 2 << 32;
/// Client tokens and read tokens of the run itself.
const OWN: u64 = 1 << 40;

impl Run {
    /// `trace_len`: how many lines of the trace are kept.
    pub fn new(plan: Plan, trace_len: usize, messages: bool) -> Run {
        let mut cluster = Cluster::new(plan.settings.clone(), plan.seed);
        cluster.trace.len_max = trace_len;
        cluster.trace.messages = messages;
        let replays = plan.faults.iter().any(|it| it.fault == super::plan::Fault::Replay);
        cluster.keep_sent(if replays { 300 } else { 0 });
        Run {
            cluster,
            dice: StdRng::seed_from_u64(plan.seed ^ 0x9e37_79b9_7f4a_7c15),
            clients: Clients::new(plan.load.clone(), plan.storms.clone()),
            undos: Vec::new(),
            plan,
        }
    }

    /// # Panics
    /// If a rule is broken.
    pub fn go(&mut self) -> Outcome {
        self.cluster.ends_at_steps = !self.plan.faults.is_empty();
        self.cluster.start_all();
        for lane in 0..self.clients.lanes() {
            let in_us = self.dice.random_range(0..=self.plan.load.pause_us);
            self.clients.wake(&mut self.cluster, lane, in_us);
        }
        for (i, fault) in self.plan.faults.iter().enumerate() {
            self.cluster.alarm(fault.at_us, FAULT + i as u64);
        }
        let end_us = self.plan.duration_us;
        while self.cluster.now_us < end_us && self.cluster.happenings() < self.plan.steps_max {
            match self.cluster.step(end_us) {
                None => {}
                Some(token) => self.on_alarm(token),
            }
            self.pass_replies();
        }
        self.clients.done = true;
        let hub = if self.plan.hub { self.serve_hub() } else { None };
        let recovery = self.recover();
        self.stay_calm();
        self.leave_stalled_disk();
        self.replace_wrong_state();
        self.check_history();
        let oracle = &self.cluster.checker.oracle;
        self.cluster.coverage.duplicates += oracle.duplicates;
        self.cluster.coverage.expiries += oracle.expiries;
        self.cluster.coverage.locks += oracle.last_token;
        self.cluster.coverage.refused_commands += oracle.refused;
        let reused = self.cluster.hosts.values().map(|host| host.log.reused_segments());
        self.cluster.coverage.reused_segments += reused.sum::<u64>();
        self.restore_elsewhere();
        Outcome {
            coverage: self.cluster.coverage.clone(),
            acked: self.cluster.checker.acked().len() as u64,
            chosen: self.cluster.checker.chosen_len() as u64,
            operations: self.clients.history.len() as u64,
            virtual_us: self.cluster.now_us,
            happenings: self.cluster.happenings(),
            recovery,
            hub,
        }
    }

    fn on_alarm(&mut self, token: u64) {
        if token < FAULT {
            self.clients.on_wake(&mut self.cluster, &mut self.dice, token as usize);
        } else if token < UNDO {
            let planned = self.plan.faults[(token - FAULT) as usize];
            self.cluster.note(|| format!("fault: {:?}", planned.fault));
            for undo in faults::strike(&mut self.cluster, &planned) {
                self.undos.push(undo);
                let number = self.undos.len() as u64 - 1;
                self.cluster.alarm(planned.for_us, UNDO + number);
            }
        } else {
            faults::undo(&mut self.cluster, self.undos[(token - UNDO) as usize]);
        }
    }

    fn pass_replies(&mut self) {
        while !self.cluster.replies.is_empty() {
            for reply in std::mem::take(&mut self.cluster.replies) {
                self.clients.on_reply(&mut self.cluster, &mut self.dice, reply);
            }
        }
    }

    /// Whether there are other members than at first, or may come to be: who reaches a quorum depends on how far each
    /// change has come.
    fn is_changing(&self) -> bool {
        self.cluster.checker.in_question().any(|it| 1 < it.epoch())
    }

    /// Cuts all links but some, over which one node reaches a quorum of acceptors, and returns after how
    /// many election timeouts that one was served. `None` if there is no such node.
    fn serve_hub(&mut self) -> Option<f64> {
        faults::undo_all(&mut self.cluster);
        if self.is_changing() {
            return None;
        }
        let membership = self.cluster.latest().membership().clone();
        // Who is about to join may run already.
        let is_up = |id: &NodeId| self.cluster.is_running(*id) && membership.roles(*id).is_some();
        let up: Vec<NodeId> = self.cluster.nodes().into_iter().filter(is_up).collect();
        let roles = |id: &NodeId| membership.roles(*id).expect("a member");
        let hubs: Vec<NodeId> = up
            .iter()
            .copied()
            .filter(|id| roles(id).leader && roles(id).replica && roles(id).acceptor)
            .collect();
        if hubs.is_empty() {
            return None;
        }
        let hub = hubs[self.dice.random_range(0..hubs.len())];
        let mut acceptors: Vec<NodeId> =
            up.iter().copied().filter(|id| *id != hub && roles(id).acceptor).collect();
        let quorum = membership.phase1().max(membership.phase2());
        if acceptors.len() + 1 < quorum {
            return None;
        }
        acceptors.shuffle(&mut self.dice);
        acceptors.truncate(quorum - 1);
        // Some time with all links up, so that a leader stands, before most are cut.
        let timeout_us = self.cluster.settings.election_timeout_us;
        let timeouts = self.dice.random_range(0..8);
        self.pass_time(timeouts);
        // Who has to repair a damaged log may need just the nodes that are cut off; or who has a wrong state.
        if self.is_changing() || !self.cluster.wrong().is_empty() {
            return None;
        }
        let nodes = self.cluster.hosts.values().filter_map(|host| host.node.as_ref());
        if nodes.into_iter().any(|node| 0 < node.view().unsure) {
            return None;
        }
        let chance = self.dice.random_range(0.0..0.7);
        let mut kept = Vec::new();
        for (i, &a) in up.iter().enumerate() {
            for &b in &up[i + 1..] {
                let of_hub =
                    (a == hub && acceptors.contains(&b)) || (b == hub && acceptors.contains(&a));
                if of_hub || self.dice.random_bool(chance) {
                    kept.push((a, b));
                }
            }
        }
        self.cluster.note(|| format!("only {kept:?} are left; {hub} must be served"));
        self.cluster.partition(|a, b| kept.contains(&(a, b)));
        let start_us = self.cluster.now_us;
        let deadline_us = start_us + (HUB_TIMEOUTS_MAX * timeout_us as f64) as u64;
        self.write_own(hub, 1);
        loop {
            self.step_until(deadline_us, "the node that reaches a quorum");
            let mut done = false;
            let mut again = false;
            for reply in std::mem::take(&mut self.cluster.replies) {
                match reply {
                    Reply::Registered { client: OWN, .. } => done = true,
                    Reply::Expired { client: OWN, .. } => again = true,
                    other => self.clients.on_reply(&mut self.cluster, &mut self.dice, other),
                }
            }
            if done {
                return Some((self.cluster.now_us - start_us) as f64 / timeout_us as f64);
            }
            if again {
                self.write_own(hub, 1);
            }
        }
    }

    /// The run's own command: it registers a session, for which it needs none.
    fn write_own(&mut self, at: NodeId, nonce: u64) {
        self.cluster.command(at, host::command(0, OWN + nonce, 0, b""), OWN);
    }

    fn read_own(&mut self, at: NodeId) -> bool {
        let way = self.clients.draw_way(&mut self.dice);
        self.cluster.read(at, OWN + u64::from(at.0), way)
    }

    /// Ends all faults and returns the election timeouts until all is well again: a read at each
    /// replica answered, then a new command applied everywhere.
    fn recover(&mut self) -> f64 {
        self.cluster.note(|| "all faults end".into());
        faults::undo_all(&mut self.cluster);
        let timeout_us = self.cluster.settings.election_timeout_us;
        let start_us = self.cluster.now_us;
        let deadline_us = start_us + (RECOVERY_TIMEOUTS_MAX * timeout_us as f64) as u64;

        // Reads first: they must not need a write to be served.
        let replicas: Vec<NodeId> =
            self.cluster.replicas().into_iter().filter(|id| self.cluster.is_running(*id)).collect();
        let mut reading = replicas.clone();
        // Those who do not serve yet are asked again: they are in quarantine.
        let mut unasked = replicas.clone();
        // Not at each event: a question makes events, and time would stand still.
        let mut ask_us = start_us;
        while !reading.is_empty() {
            if ask_us <= self.cluster.now_us {
                unasked.retain(|replica| !self.read_own(*replica));
                ask_us = self.cluster.now_us + timeout_us / 10;
            }
            self.step_until(deadline_us, "a read");
            // Who is removed meanwhile need not serve.
            let members = self.cluster.replicas();
            reading.retain(|replica| members.contains(replica));
            unasked.retain(|replica| reading.contains(replica));
            for reply in std::mem::take(&mut self.cluster.replies) {
                match reply {
                    Reply::Read { read, node, .. } if OWN <= read => {
                        reading.retain(|replica| *replica != node);
                    }
                    Reply::ReadExpired { read } if OWN <= read => {
                        unasked.push(NodeId((read - OWN) as u16));
                    }
                    other => self.clients.on_reply(&mut self.cluster, &mut self.dice, other),
                }
            }
        }

        let mut at = replicas[self.dice.random_range(0..replicas.len())];
        self.write_own(at, 2);
        let mut written = false;
        let mut end = Slot::FIRST;
        while !written || !self.is_level(end) {
            self.step_until(deadline_us, "a command");
            let members = self.cluster.replicas();
            if !written && !members.contains(&at) {
                at = *members
                    .iter()
                    .find(|id| self.cluster.is_running(**id))
                    .expect("somebody runs");
                self.write_own(at, 2);
            }
            for reply in std::mem::take(&mut self.cluster.replies) {
                match reply {
                    Reply::Registered { client: OWN, .. } => {
                        written = true;
                        end = self.cluster.checker.oracle.end();
                    }
                    Reply::Expired { client: OWN, .. } => self.write_own(at, 2),
                    other => self.clients.on_reply(&mut self.cluster, &mut self.dice, other),
                }
            }
        }
        // All are level, perhaps further on than that command.
        let end = self.cluster.hosts[&at].applied_end;
        for (id, slot) in self.cluster.checker.acked() {
            let executed = self.cluster.checker.oracle.executed(*id);
            assert_eq!(executed, Some(*slot), "the acknowledged {id:?} is lost");
            assert!(*slot < end, "the acknowledged {id:?} is not applied everywhere");
        }
        (self.cluster.now_us - start_us) as f64 / timeout_us as f64
    }

    /// With nothing in the way, whoever leads goes on to lead; and also when one link of it is cut, as
    /// long as it reaches a quorum over the others and they tell of it.
    fn stay_calm(&mut self) {
        self.settle();
        assert_eq!(self.pass_time(CALM_TIMEOUTS), 0, "new leaders, and no fault");
        let Some(leader) = self.cluster.leader() else { panic!("nobody leads, and no fault") };
        self.expect_no_key_overdue(leader);
        let latest = self.cluster.latest();
        let running = self.cluster.nodes().into_iter().filter(|id| self.cluster.is_running(*id));
        let members: Vec<(NodeId, Roles)> =
            running.filter_map(|id| Some((id, latest.roles(id)?))).collect();
        let acceptors = members.iter().filter(|(_, roles)| roles.acceptor).count();
        let others: Vec<NodeId> =
            members.into_iter().map(|(id, _)| id).filter(|id| *id != leader).collect();
        if others.len() < 2 || acceptors <= latest.membership().connected() {
            return;
        }
        let other = others[self.dice.random_range(0..others.len())];
        self.cluster.cut_both(leader, other);
        assert_eq!(self.pass_time(CALM_TIMEOUTS), 0, "new leaders, and one link is cut");
    }

    /// Nobody has sent anything for a while: keys went all the same, by the clock of who leads and keeps them.
    fn expect_no_key_overdue(&self, leader: NodeId) {
        let host = &self.cluster.hosts[&leader];
        if !host.is_replica {
            return;
        }
        let now_us = host.now(self.cluster.now_us).wall_us;
        let slack_us = CALM_TIMEOUTS / 2 * self.cluster.settings.election_timeout_us;
        if let Some(due_us) = host.store.next_expiry_us() {
            assert!(now_us < due_us + slack_us, "a key is kept {} us over", now_us - due_us);
        }
    }

    /// A leader whose disk stalls leaves the lead to another, if one can do without it, and gets it back
    /// neither while the disk stalls nor because it does no more.
    fn leave_stalled_disk(&mut self) {
        self.cluster.heal_all();
        self.settle();
        let Some(leader) = self.cluster.leader() else { panic!("nobody leads, and no fault") };
        let latest = self.cluster.latest();
        let running = self.cluster.nodes().into_iter().filter(|id| self.cluster.is_running(*id));
        let others: Vec<Roles> =
            running.filter(|id| *id != leader).filter_map(|id| latest.roles(id)).collect();
        let acceptors = others.iter().filter(|roles| roles.acceptor).count();
        // Without the role of an acceptor a leader writes its ballots only, and none now.
        if !latest.roles(leader).is_some_and(|roles| roles.acceptor)
            || !others.iter().any(|roles| roles.leader)
            || acceptors < latest.membership().connected()
        {
            return;
        }
        self.cluster.stall_disk(leader);
        let timeout_us = self.cluster.settings.election_timeout_us;
        let deadline_us = self.cluster.now_us + (STALLED_TIMEOUTS_MAX * timeout_us as f64) as u64;
        let replicas = self.cluster.replicas();
        let at = *replicas.iter().find(|id| self.cluster.is_running(**id)).expect("somebody runs");
        self.write_own(at, 3);
        let mut written = false;
        while !written || self.cluster.leader().is_none_or(|now| now == leader) {
            self.step_until(deadline_us, "by another than the leader whose disk stalls");
            for reply in std::mem::take(&mut self.cluster.replies) {
                match reply {
                    Reply::Registered { client: OWN, .. } => written = true,
                    Reply::Expired { client: OWN, .. } => self.write_own(at, 3),
                    other => self.clients.on_reply(&mut self.cluster, &mut self.dice, other),
                }
            }
        }
        self.pass_time(SETTLING_TIMEOUTS);
        assert_eq!(self.pass_time(CALM_TIMEOUTS), 0, "new leaders, and one disk stalls");
        self.cluster.mend_disk(leader);
        assert_eq!(self.pass_time(CALM_TIMEOUTS), 0, "new leaders, and a disk that works again");
    }

    /// Lets what the faults left come to rest; a change of the members, too, at whose end a leader that was
    /// removed leaves the lead to another.
    fn settle(&mut self) {
        self.pass_time(SETTLING_TIMEOUTS);
        let timeouts = RECOVERY_TIMEOUTS_MAX as u64 + self.cluster.settings.alpha_slots as u64;
        let deadline_us =
            self.cluster.now_us + timeouts * self.cluster.settings.election_timeout_us;
        while !self.is_settled() {
            self.step_until(deadline_us, "a change of the members");
            self.pass_replies();
            if self.is_settled() {
                self.pass_time(SETTLING_TIMEOUTS);
            }
        }
    }

    /// Whether a member leads, and the newest members are all that matter.
    fn is_settled(&self) -> bool {
        let latest = self.cluster.latest();
        let leader = self.cluster.leader().filter(|id| latest.roles(*id).is_some());
        let node = leader.and_then(|id| self.cluster.hosts[&id].node.as_ref());
        node.is_some_and(|node| {
            node.is_settled() && node.configurations().latest().1.epoch() == latest.epoch()
        })
    }

    /// Lets election timeouts pass, and returns how many leaders were elected meanwhile.
    fn pass_time(&mut self, timeouts: u64) -> u64 {
        let elections = self.new_leaders();
        let until_us = self.cluster.now_us + timeouts * self.cluster.settings.election_timeout_us;
        while self.cluster.now_us < until_us {
            self.cluster.step(until_us);
            self.pass_replies();
        }
        self.new_leaders() - elections
    }

    /// A leader that does not skip phase 1 takes a ballot for each value, and is no new one.
    fn new_leaders(&self) -> u64 {
        let coverage = &self.cluster.coverage;
        let skips = self.cluster.settings.optimisations.phase1_skip;
        coverage.elections - if skips { 0 } else { coverage.elected_again }
    }

    /// Whether every running node that learns has all slots below `end`, and as many as any other.
    fn is_level(&self, end: Slot) -> bool {
        let learners = self
            .cluster
            .hosts
            .iter()
            .filter(|(id, host)| host.is_running() && self.cluster.roles(**id).learns());
        let mut ends = learners.map(|(_, host)| host.applied_end);
        let first = ends.next().expect("somebody runs");
        end <= first && ends.all(|other| other == first)
    }

    fn step_until(&mut self, deadline_us: u64, what: &str) {
        if let Some(token) = self.cluster.step(deadline_us) {
            // Faults are over; clients only learn how their last operations end.
            if token < FAULT {
                self.clients.on_wake(&mut self.cluster, &mut self.dice, token as usize);
            }
        }
        if deadline_us <= self.cluster.now_us {
            let views: Vec<String> = self
                .cluster
                .hosts
                .iter()
                .map(|(id, host)| format!("{id} {:?}", host.node.as_ref().map(|node| node.view())))
                .collect();
            panic!("not served in time after the last fault: {what}\n{}", views.join("\n"));
        }
    }

    /// So many election timeouts from now.
    fn deadline_us(&self, timeouts: u64) -> u64 {
        self.cluster.now_us + timeouts * self.cluster.settings.election_timeout_us
    }

    fn check_history(&mut self) {
        let Some(&node) = self.cluster.replicas().iter().find(|id| self.cluster.is_running(**id))
        else {
            return;
        };
        self.clients.read_all(&self.cluster, node);
        for key in 0..self.plan.load.keys {
            let key = format!("k{key}").into_bytes();
            let present = self.cluster.checker.oracle.get(&key).cloned();
            let shown = sql::get(&self.cluster.hosts[&node].store, &key, &self.plan.load);
            assert_eq!(shown, store::Reply::Value(present), "{node}: what a key holds in the end");
        }
        match check::linearizable_within(&self.clients.history, SEARCH_POINTS_MAX) {
            Verdict::Linearizable => {}
            Verdict::Undecided { .. } => self.cluster.coverage.undecided += 1,
            Verdict::Violated(witness) => panic!("the history is not linearizable: {witness:?}"),
        }
    }
}
