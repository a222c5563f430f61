//! The protocol core alone: three nodes in one thread, without sockets, disk or clock. What a value costs in
//! `paxos::Node`, and how often it allocates.
//!
//! `cargo bench --bench core`. Each value is a batch of one command of 8 bytes, proposed by `Node::on_command`,
//! accepted by all three and learned by all three before the next one begins. The second figure is of batches of
//! 64 such commands.

mod common;

use common::Cluster;
use loggos::trace::monotonic_ns;

/// Values of one measurement, and how many are made; the least is told, which others disturbed least.
const VALUES: u64 = 100_000;
const MEASUREMENTS: usize = 15;

fn main() {
    // Under a profiler: `core-... 10000` chooses so many values, and nothing else.
    if let Some(values) = std::env::args().nth(1).and_then(|it| it.parse().ok()) {
        let mut cluster = Cluster::new(&[7; 8]);
        (0..values).for_each(|_: u64| cluster.choose(1));
        return;
    }
    for commands in [1, 64] {
        let mut cluster = Cluster::new(&[7; 8]);
        let values = VALUES / commands;
        let mut least_ns = f64::MAX;
        for _ in 0..MEASUREMENTS {
            let begun_ns = monotonic_ns();
            (0..values).for_each(|_| cluster.choose(commands));
            let ns = (monotonic_ns() - begun_ns) as f64 / (values * commands) as f64;
            least_ns = least_ns.min(ns);
        }
        let allocations = allocation_counter::measure(|| {
            (0..values).for_each(|_| cluster.choose(commands));
        });
        let each = allocations.count_total as f64 / (values * commands) as f64;
        println!(
            "a command, in batches of {commands}, at all three nodes: {least_ns:.0} ns, {each:.2} allocations"
        );
    }
}
