//! What each fault does to the cluster, and how it ends.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::paxos::NodeId;

use super::cluster::Cluster;
use super::plan::{Fault, Planned};

/// How a fault ends.
#[derive(Clone, Copy, Debug)]
pub enum Undo {
    Start(NodeId),
    Resume(NodeId),
    Heal(NodeId, NodeId),
    HealAll,
    Delay(NodeId, NodeId),
    Loss(NodeId, NodeId),
    Disk(NodeId),
    /// The operator has a snapshot taken: a memory that changed is found out at the latest then.
    Snapshot(NodeId),
}

const HOUR_US: i64 = 3_600_000_000;

/// Strikes; what comes back ends it.
pub fn strike(cluster: &mut Cluster, planned: &Planned) -> Vec<Undo> {
    let mut dice = StdRng::seed_from_u64(planned.dice);
    let dice = &mut dice;
    let timeout_us = cluster.settings.election_timeout_us;
    let nodes = cluster.nodes();
    let a = nodes[dice.random_range(0..nodes.len())];
    // The leader is the best victim.
    let a = match cluster.leader() {
        Some(leader) if dice.random_bool(0.4) => leader,
        _ => a,
    };
    let others: Vec<NodeId> = nodes.iter().copied().filter(|node| *node != a).collect();
    let b = match others.len() {
        0 => a,
        len => others[dice.random_range(0..len)],
    };
    match planned.fault {
        Fault::Crash | Fault::PowerLoss | Fault::Away => {
            cluster.crash(a, planned.fault == Fault::PowerLoss);
            vec![Undo::Start(a)]
        }
        Fault::CrashAll | Fault::PowerLossAll => {
            for &node in &nodes {
                cluster.crash(node, planned.fault == Fault::PowerLossAll);
            }
            nodes.into_iter().map(Undo::Start).collect()
        }
        Fault::Pause => {
            cluster.pause(a);
            if dice.random_bool(0.3) {
                // It wakes up in the past, with nobody there who could tell it better.
                for other in others {
                    cluster.cut_both(a, other);
                }
                return vec![Undo::Resume(a), Undo::HealAll];
            }
            vec![Undo::Resume(a)]
        }
        Fault::HandOver => {
            cluster.hand_over(a);
            vec![]
        }
        Fault::Rival => {
            cluster.take_over(a);
            vec![]
        }
        Fault::Members => {
            cluster.change_members(dice);
            vec![]
        }
        Fault::Transfer => {
            cluster.transfer(dice);
            vec![]
        }
        Fault::WallClock => {
            // A day and more makes sessions expire.
            let most_us = HOUR_US * if dice.random_range(0..4) == 0 { 60 } else { 1 };
            let by_us = dice.random_range(-most_us..=most_us);
            cluster.jump_wall_clock(a, by_us);
            vec![]
        }
        Fault::SlowDisk => {
            cluster.slow_disk(a, (timeout_us / 10, timeout_us * 2));
            vec![Undo::Disk(a)]
        }
        Fault::StalledDisk => {
            cluster.stall_disk(a);
            vec![Undo::Disk(a)]
        }
        Fault::FailedSync => {
            cluster.fail_next_sync(a);
            vec![Undo::Disk(a), Undo::Start(a)]
        }
        Fault::FullDisk => {
            // Sometimes on so many nodes that nothing can be chosen. A process that finds no room at all
            // ends, and is started again.
            let mut full = vec![a];
            if dice.random_bool(0.3) {
                full.extend(others.into_iter().filter(|_| dice.random_bool(0.5)));
            }
            let undo = |node: &NodeId| [Undo::Disk(*node), Undo::Start(*node)];
            full.iter().for_each(|node| cluster.fill_disk(*node, true));
            full.iter().flat_map(undo).collect()
        }
        Fault::Damage | Fault::StaleSegment => {
            let stale = planned.fault == Fault::StaleSegment;
            cluster.crash(a, stale || dice.random_bool(0.5));
            for _ in 0..dice.random_range(1..4) {
                cluster.damage(a, stale, dice);
            }
            vec![Undo::Start(a)]
        }
        Fault::DamageSnapshot => {
            cluster.crash(a, dice.random_bool(0.5));
            cluster.damage_snapshot(a, dice);
            vec![Undo::Start(a)]
        }
        Fault::Corrupt if cluster.corrupt(a) => vec![Undo::Snapshot(a)],
        Fault::Corrupt => vec![],
        Fault::Replay => {
            cluster.replay(20);
            vec![]
        }
        // What follows takes two.
        _ if a == b => vec![],
        Fault::Cut => {
            cluster.cut_both(a, b);
            vec![Undo::Heal(a, b)]
        }
        Fault::CutOneWay => {
            cluster.cut(a, b);
            vec![Undo::Heal(a, b)]
        }
        Fault::Isolate => {
            for other in others {
                cluster.cut_both(a, other);
            }
            vec![Undo::HealAll]
        }
        Fault::Partial => {
            let links = nodes.len() * nodes.len();
            let kept: Vec<bool> = (0..links).map(|_| dice.random_bool(0.5)).collect();
            cluster
                .partition(|a, b| kept[usize::from(a.0 - 1) * nodes.len() + usize::from(b.0 - 1)]);
            vec![Undo::HealAll]
        }
        Fault::Split => {
            let side: Vec<bool> =
                nodes.iter().map(|node| *node == a || dice.random_bool(0.35)).collect();
            cluster.partition(|a, b| side[usize::from(a.0 - 1)] == side[usize::from(b.0 - 1)]);
            vec![Undo::HealAll]
        }
        Fault::Reset => {
            cluster.reset(a, b);
            vec![]
        }
        Fault::SlowLink => {
            cluster.delay(a, b, (timeout_us / 20, timeout_us / 2));
            vec![Undo::Delay(a, b)]
        }
        Fault::LossyLink => {
            cluster.lose(a, b, dice.random_range(1..=30));
            vec![Undo::Loss(a, b)]
        }
    }
}

pub fn undo(cluster: &mut Cluster, undo: Undo) {
    match undo {
        Undo::Start(node) => {
            if !cluster.is_running(node) {
                cluster.start(node);
            }
        }
        Undo::Resume(node) => cluster.resume(node),
        Undo::Heal(a, b) => cluster.heal(a, b),
        Undo::HealAll => cluster.heal_all(),
        Undo::Delay(a, b) => {
            let delay_us = cluster.settings.delay_us;
            cluster.delay(a, b, delay_us);
        }
        Undo::Loss(a, b) => cluster.lose(a, b, 0),
        Undo::Disk(node) => cluster.mend_disk(node),
        Undo::Snapshot(node) => cluster.ask_for_snapshot(node),
    }
}

/// Ends everything that can end.
pub fn undo_all(cluster: &mut Cluster) {
    cluster.ends_at_steps = false;
    let nodes = cluster.nodes();
    for (i, &a) in nodes.iter().enumerate() {
        cluster.mend_disk(a);
        cluster.resume(a);
        for &b in &nodes[i + 1..] {
            undo(cluster, Undo::Delay(a, b));
            undo(cluster, Undo::Loss(a, b));
        }
    }
    cluster.heal_all();
    cluster.start_all();
    for node in cluster.wrong() {
        cluster.ask_for_snapshot(node);
    }
}
