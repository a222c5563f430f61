//! What a run will be, drawn from its seed: the cluster, its network and disks, the clients, and each
//! fault with its time.
//!
//! Swarm testing: each seed also draws which kinds of faults are on and how hard they come, so that no
//! fault drowns the others. A plan is data: it can be written down, played again, and made smaller. Each
//! fault has dice of its own, so that the others strike as before when one is left out.

use std::net::SocketAddr;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::limits;
use crate::paxos::{Addresses, Configuration, Member, NodeId, Optimisations, Roles};

use super::cluster::Settings;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// For all that is not in the plan: delays, and what clients pick.
    pub seed: u64,
    pub settings: Settings,
    pub load: Load,
    pub faults: Vec<Planned>,
    /// From and to: when clients begin operations and most faults strike. Between storms little happens.
    pub storms: Vec<(u64, u64)>,
    /// How long clients work and faults strike, in virtual microseconds.
    pub duration_us: u64,
    /// The run ends after so many happenings, even if time is left.
    pub steps_max: u64,
    /// Whether, before all is healed, some node that reaches a quorum over some links must be served.
    pub hub: bool,
}

/// What the clients do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    pub clients: usize,
    /// Operations that a client has in flight.
    pub lanes: usize,
    pub keys: u64,
    pub reads_percent: u32,
    /// Of the reads, those that are served by a quorum of acceptors and not by the leader.
    #[serde(default)]
    pub quorum_reads_percent: u32,
    /// And those that are served under the leader's lease, where it holds one.
    #[serde(default)]
    pub lease_reads_percent: u32,
    /// Between the operations of a burst, and between bursts; the latter is drawn from 0 to twice this.
    pub think_us: u64,
    pub pause_us: u64,
    /// Operations of a burst, at most.
    pub burst: u64,
    /// How long a client waits for a reply before it asks another node, from and to.
    pub patience_us: (u64, u64),
    /// How often an operation is sent before the client gives it up.
    pub sends_max: u32,
    /// Bytes of every second value; others are a few bytes.
    pub value_size: usize,
    /// All on keys of the map, without SQL, images and locks: a run has more of what goes wrong with these keys.
    #[serde(default)]
    pub keys_only: bool,
}

impl Load {
    /// Few commands are under way at once, so that a batch of them fits a small segment.
    pub fn is_small(&self) -> bool {
        self.clients * self.lanes <= 6
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    pub at_us: u64,
    /// How long it lasts, where it lasts.
    pub for_us: u64,
    pub dice: u64,
    pub fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    // Processes and machines.
    Crash,
    PowerLoss,
    CrashAll,
    PowerLossAll,
    /// A node is down for so long that the others may truncate what it misses.
    Away,
    Pause,
    HandOver,
    /// A node is told to take over the lead, as by a leader that hands over: also the leader itself.
    Rival,
    /// The operator adds, promotes, removes or replaces a node, if the leader agrees.
    Members,
    /// The operator has the lead handed over.
    Transfer,
    /// The wall clock jumps, by seconds or by days, in either direction.
    WallClock,
    // The network.
    Cut,
    CutOneWay,
    Isolate,
    /// Each pair is cut or healed by the toss of a coin.
    Partial,
    /// Two sides that do not hear each other, the leader mostly on the smaller one: it leaves values
    /// that a minority accepted, and the next split leaves others.
    Split,
    Reset,
    SlowLink,
    /// Packets are lost; TCP sends them again, and what lies behind them waits.
    LossyLink,
    /// Old messages arrive again.
    Replay,
    // Disks.
    SlowDisk,
    StalledDisk,
    FailedSync,
    FullDisk,
    /// Bits flip, or a sector is lost, in what was durable; the node finds out when it restarts.
    Damage,
    /// A segment comes back as it was earlier.
    StaleSegment,
    /// A bit of the newest snapshot flips, where the one before or the log can do instead.
    DamageSnapshot,
    /// A replica's memory changes by itself.
    Corrupt,
}

pub const FAULTS: [Fault; 28] = [
    Fault::Crash,
    Fault::PowerLoss,
    Fault::CrashAll,
    Fault::PowerLossAll,
    Fault::Away,
    Fault::Pause,
    Fault::HandOver,
    Fault::Rival,
    Fault::Members,
    Fault::Transfer,
    Fault::WallClock,
    Fault::Cut,
    Fault::CutOneWay,
    Fault::Isolate,
    Fault::Partial,
    Fault::Split,
    Fault::Reset,
    Fault::SlowLink,
    Fault::LossyLink,
    Fault::Replay,
    Fault::SlowDisk,
    Fault::StalledDisk,
    Fault::FailedSync,
    Fault::FullDisk,
    Fault::Damage,
    Fault::StaleSegment,
    Fault::DamageSnapshot,
    Fault::Corrupt,
];

/// What of a plan the user fixes; the seed draws the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fixed {
    pub nodes: Option<usize>,
    pub clients: Option<usize>,
    /// See `Load`.
    pub keys_only: bool,
    pub duration_us: Option<u64>,
    pub steps_max: Option<u64>,
    /// Only these faults; an empty list means none.
    pub faults: Option<Vec<Fault>>,
}

const SECOND_US: u64 = 1_000_000;
/// Every run of the default lasts at least this long.
pub const DURATION_US_MIN: u64 = 60 * SECOND_US;

impl Plan {
    pub fn draw(seed: u64, fixed: &Fixed) -> Plan {
        let mut dice = StdRng::seed_from_u64(seed);
        let dice = &mut dice;
        let timeout_us =
            pick(dice, &[100_000, 300_000, 1_000_000, 1_000_000, 2_000_000, 2_000_000]);
        // Large commands, few enough: answers to scouts and learners then come in parts.
        let heavy = dice.random_range(0..30) == 0;
        let mut settings = draw_settings(dice, timeout_us, heavy, fixed);
        let duration_us = DURATION_US_MIN + dice.random_range(0..20 * SECOND_US);
        let duration_us = fixed.duration_us.unwrap_or(duration_us);
        let storms = draw_storms(dice, timeout_us, duration_us);
        let mut load = draw_load(dice, timeout_us, heavy);
        load.clients = fixed.clients.unwrap_or(load.clients);
        load.keys_only = fixed.keys_only;
        if load.value_size == 0 {
            // A batch must fit; where it is small, small segments make many.
            settings.segment_size = match load.keys_only {
                _ if load.is_small() => pick(dice, &[8 << 10, 16 << 10]),
                true => 68 << 10,
                false => 256 << 10,
            };
        }
        let faults = draw_faults(dice, timeout_us, heavy, &storms, fixed);
        if faults.iter().any(|planned| planned.fault == Fault::Members) {
            // As above: whoever joins learns all from the first slot on.
            settings.learn_values_max = 100;
        }
        let seed = dice.next_u64();
        settings.optimisations = draw_optimisations(seed);
        if !settings.optimisations.batching {
            // With one command a slot, fewer slots at once than clients would be an overload that grows and grows.
            settings.window_slots = settings.window_slots.max(load.clients * load.lanes);
            settings.alpha_slots = settings.alpha_slots.max(settings.window_slots);
        }
        let hub = dice.random_bool(0.5);
        load.quorum_reads_percent = pick(dice, &[0, 30, 30, 100]);
        if dice.random_bool(0.5) {
            settings.lease_us = pick(dice, &[timeout_us / 2, timeout_us, 2 * timeout_us]);
            load.lease_reads_percent =
                pick(dice, &[30, 60, 100]) * (100 - load.quorum_reads_percent) / 100;
            // Clocks so wrong as none is, to see that the lease allows for it.
            settings.drift_ppm_max = pick(dice, &[settings.drift_ppm_max, 100_000]);
        }
        let steps_max = fixed.steps_max.unwrap_or(u64::MAX);
        Plan { seed, settings, load, faults, storms, duration_us, steps_max, hub }
    }
}

impl Plan {
    /// Whether the plan, which may have been written by hand, can be played.
    pub fn check(&self) -> Result<(), String> {
        initial(&self.settings)?;
        let load = &self.load;
        if load.clients == 0 || load.lanes == 0 || load.keys == 0 || load.burst == 0 {
            return Err("clients, lanes, keys and burst must be 1 at least".into());
        }
        let ranges = [
            ("delay_us", self.settings.delay_us),
            ("sync_us", self.settings.sync_us),
            ("stall_us", self.settings.stall_us),
            ("dial_us", self.settings.dial_us),
            ("patience_us", load.patience_us),
        ];
        for (name, (from, to)) in ranges {
            if to < from {
                return Err(format!("{name} is from {from} to {to}"));
            }
        }
        if self.settings.election_timeout_us == 0 || self.settings.window_slots == 0 {
            return Err("election_timeout_us and window_slots must be 1 at least".into());
        }
        if self.settings.alpha_slots < self.settings.window_slots {
            return Err("alpha_slots must be window_slots at least".into());
        }
        if !(0..1_000_000).contains(&self.settings.drift_ppm_max) {
            return Err("drift_ppm_max is 0 to 999999".into());
        }
        Ok(())
    }
}

/// The members of a cluster of these roles: node 1 and so on.
pub fn members(roles: &[Roles]) -> Vec<Member> {
    (1..).zip(roles).map(|(id, roles)| Member { node: NodeId(id), roles: *roles }).collect()
}

/// The configuration that a cluster of these settings begins with.
pub fn initial(settings: &Settings) -> Result<Configuration, String> {
    let members = members(&settings.roles).into_iter();
    let members = members.map(|member| (member, addresses(member.node))).collect();
    Configuration::initial(members, settings.phase1, settings.phase2)
}

/// Of a node that is reached without any.
pub fn addresses(node: NodeId) -> Addresses {
    let [high, low] = node.0.to_be_bytes();
    let at = |port| SocketAddr::from(([10, 0, high, low], port));
    Addresses { peer: at(7400), client: at(7401) }
}

fn pick<T: Copy>(dice: &mut StdRng, of: &[T]) -> T {
    *of.choose(dice).expect("there is something to choose from")
}

/// Some clusters are without one of those that a cluster is as live without. By dice of their own, so that it changes
/// nothing else.
fn draw_optimisations(seed: u64) -> Optimisations {
    let mut dice = StdRng::seed_from_u64(seed);
    Optimisations {
        batching: dice.random_range(0..20) != 0,
        phase1_skip: dice.random_range(0..20) != 0,
        quorum_connected_election: true,
    }
}

fn draw_settings(dice: &mut StdRng, timeout_us: u64, heavy: bool, fixed: &Fixed) -> Settings {
    let acceptors = fixed.nodes.unwrap_or_else(|| pick(dice, &[1, 3, 3, 3, 3, 5, 5, 7]));
    let mut roles = Vec::new();
    // Split: acceptors alone, one to three leaders, one or two replicas.
    if fixed.nodes.is_none() && dice.random_range(0..5) == 0 {
        let only = |acceptor, leader, replica| Roles { acceptor, leader, replica };
        for _ in 0..acceptors {
            roles.push(only(true, false, dice.random_bool(0.2)));
        }
        for _ in 0..dice.random_range(1..4) {
            roles.push(only(false, true, dice.random_bool(0.3)));
        }
        for _ in 0..dice.random_range(1..3) {
            roles.push(only(false, false, true));
        }
    } else {
        roles.resize(acceptors, Roles::ALL);
    }
    // Phase 1 gets what phase 2 leaves over.
    let phase2 = (dice.random_range(0..4) == 0).then(|| dice.random_range(1..=acceptors));
    let delay_max_us = timeout_us / pick(dice, &[50, 50, 50, 5]);
    let mut settings = Settings {
        roles,
        phase1: None,
        phase2,
        election_timeout_us: timeout_us,
        request_timeout_us: timeout_us * dice.random_range(4..30),
        optimisations: Optimisations::default(),
        window_slots: if heavy { 16 } else { pick(dice, &[1, 2, 4, 16, 256]) },
        alpha_slots: 256,
        spares: 0,
        delay_us: (timeout_us / 1000, delay_max_us),
        sync_us: (timeout_us / 2000, timeout_us / pick(dice, &[500, 50, 5])),
        stall_us: (timeout_us / 2, timeout_us * dice.random_range(1..5)),
        dial_us: (timeout_us / 200, timeout_us / 3),
        learn_values_max: pick(dice, &[3, 20, 100]),
        snapshot_slots: 0,
        keep_slots: 0,
        snapshot_chunk_size: 0,
        checkpoint_slots: 0,
        segment_size: if heavy { 8 << 20 } else { 256 << 10 },
        lease_us: 0,
        drift_ppm_max: pick(dice, &[0, 100, 20_000]),
        random_start: true,
        first_leader: 0,
        sessions_open: 0,
    };
    settings.spares = dice.random_range(0..6);
    let least = settings.window_slots;
    settings.alpha_slots = pick(dice, &[least, least.max(4), least.max(16), least.max(32)]);
    settings.snapshot_slots = pick(dice, &[0, 1, 3, 3, 10, 30]);
    settings.checkpoint_slots = pick(dice, &[1, 2, 8]);
    settings.keep_slots = pick(dice, &[0, 0, 0, 2, 10]);
    settings.snapshot_chunk_size =
        if heavy { limits::SNAPSHOT_CHUNK_SIZE } else { pick(dice, &[100, 500, 5000]) };
    if timeout_us / 50 < delay_max_us {
        // A few values for each time to a peer and back would take longer than a run may take to end.
        settings.learn_values_max = 100;
        settings.snapshot_chunk_size = settings.snapshot_chunk_size.max(10_000);
    }
    settings
}

/// Some tens of election timeouts each, the first at the beginning.
fn draw_storms(dice: &mut StdRng, timeout_us: u64, duration_us: u64) -> Vec<(u64, u64)> {
    let mut storms = Vec::new();
    let mut at_us = timeout_us / 10;
    while at_us < duration_us && storms.len() < 3 {
        let end_us = at_us + timeout_us * dice.random_range(10..40);
        storms.push((at_us, end_us.min(duration_us)));
        at_us = end_us + dice.random_range(0..duration_us / 2);
    }
    storms
}

fn draw_load(dice: &mut StdRng, timeout_us: u64, heavy: bool) -> Load {
    let clients = if heavy { 6 } else { dice.random_range(1..6) };
    let lanes = if heavy { 1 } else { pick(dice, &[1, 1, 2, 5]) };
    let think_us = if heavy { timeout_us } else { timeout_us / pick(dice, &[1, 5, 25]) };
    Load {
        clients,
        lanes: lanes as usize,
        keys: pick(dice, &[1, 3, 10]),
        reads_percent: dice.random_range(0..60),
        quorum_reads_percent: 0,
        lease_reads_percent: 0,
        think_us: think_us * lanes,
        pause_us: timeout_us * dice.random_range(1..10),
        burst: pick(dice, &[3, 30, 300]),
        patience_us: (timeout_us / 2, timeout_us * dice.random_range(1..10)),
        // Each operation given up has an unknown outcome, and many of those hide errors.
        sends_max: pick(dice, &[1, 4, 100, 100, 100, 100, 100, 100]),
        value_size: if heavy { 900_000 } else { pick(dice, &[0, 0, 0, 2000]) },
        keys_only: false,
    }
}

fn draw_faults(
    dice: &mut StdRng,
    timeout_us: u64,
    heavy: bool,
    storms: &[(u64, u64)],
    fixed: &Fixed,
) -> Vec<Planned> {
    let mut kinds: Vec<Fault> = match dice.random_range(0..16) {
        // Splits alone, one behind the other, are the hardest on phase 1.
        0..8 if heavy => vec![Fault::Split],
        0 => vec![Fault::Split],
        // Logs that are cut off anywhere, again and again, are the hardest on recovery.
        1 => vec![Fault::PowerLoss, Fault::PowerLossAll, Fault::Crash, Fault::SlowDisk],
        // Leaders that do not know that they were deposed are the hardest on reads.
        2 => vec![Fault::Pause, Fault::Isolate, Fault::Rival],
        // Members that come and go while leaders do are the hardest on quorums.
        3 => {
            let slow = [Fault::SlowDisk, Fault::SlowLink];
            [vec![Fault::Members; 4], vec![Fault::Split, Fault::Rival], slow.to_vec()].concat()
        }
        // A few that may only together do harm.
        4..8 => (0..dice.random_range(1..4)).map(|_| pick(dice, &FAULTS)).collect(),
        _ => {
            let on = dice.random_range(0.1..0.9);
            FAULTS.into_iter().filter(|_| dice.random_bool(on)).collect()
        }
    };
    if let Some(faults) = &fixed.faults {
        kinds.clone_from(faults);
    }
    // A tenth to six election timeouts, as likely to be short as long.
    let gap_us = (timeout_us as f64 * 0.1 * 60f64.powf(dice.random_range(0.0..1.0))) as u64;
    let length_us = (timeout_us as f64 * 0.1 * 80f64.powf(dice.random_range(0.0..1.0))) as u64;
    let mut faults = Vec::new();
    for (start_us, end_us) in storms {
        let mut at_us = start_us + dice.random_range(0..2 * timeout_us);
        while at_us < *end_us && !kinds.is_empty() {
            let (for_us, fault) = (dice.random_range(1..=2 * length_us), pick(dice, &kinds));
            let for_us = if fault == Fault::Away { 5 * timeout_us + 2 * for_us } else { for_us };
            faults.push(Planned { at_us, for_us, dice: dice.next_u64(), fault });
            at_us += dice.random_range(1..=2 * gap_us);
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seed is a plan, and a plan survives being written down.
    #[test]
    fn a_seed_draws_the_same_plan_again() {
        for seed in 0..50 {
            let plan = Plan::draw(seed, &Fixed::default());
            assert_eq!(plan, Plan::draw(seed, &Fixed::default()));
            let text = serde_json::to_string(&plan).unwrap();
            assert_eq!(plan, serde_json::from_str(&text).unwrap());
            assert_eq!(plan.check(), Ok(()));
        }
    }

    /// Plans may be written by hand: what cannot be played is told, and does not panic.
    #[test]
    fn what_is_no_cluster_is_told() {
        let changes: [fn(&mut Plan); 5] = [
            |plan| plan.settings.phase2 = Some(99),
            |plan| plan.settings.roles.clear(),
            |plan| plan.load.keys = 0,
            |plan| plan.settings.delay_us = (2, 1),
            |plan| plan.settings.drift_ppm_max = -1,
        ];
        for change in changes {
            let mut plan = Plan::draw(1, &Fixed::default());
            change(&mut plan);
            assert!(plan.check().is_err(), "{plan:?}");
        }
    }
}
