//! Makes a plan that fails smaller, as long as it fails: fewer faults, clients, nodes, less time.
//!
//! Each step of a run draws from the same dice, so a smaller plan is another run, and may fail in another
//! way or not at all. What fails counts, however it does: the smallest failure is the one to look at.

use super::plan::Plan;

/// Tries smaller plans until none of them fails or `tries_max` were tried. `fails` plays a plan;
/// `progress` hears of each that failed, with the number of tries so far.
pub fn shrink(
    plan: Plan,
    tries_max: usize,
    fails: &mut dyn FnMut(&Plan) -> bool,
    progress: &mut dyn FnMut(&Plan, usize),
) -> Plan {
    let mut search = Search { best: plan, tries: 0, tries_max, fails, progress };
    loop {
        let before = search.best.clone();
        search.shorten();
        search.drop_faults();
        search.drop_clients();
        search.drop_nodes();
        search.calm();
        if search.best == before || search.tries_max <= search.tries {
            return search.best;
        }
    }
}

struct Search<'a> {
    best: Plan,
    tries: usize,
    tries_max: usize,
    fails: &'a mut dyn FnMut(&Plan) -> bool,
    progress: &'a mut dyn FnMut(&Plan, usize),
}

impl Search<'_> {
    /// Takes the plan if it fails. Says whether it did.
    fn attempt(&mut self, plan: Plan) -> bool {
        if plan == self.best || self.tries_max <= self.tries {
            return false;
        }
        self.tries += 1;
        let failed = (self.fails)(&plan);
        if failed {
            self.best = plan;
            (self.progress)(&self.best, self.tries);
        }
        failed
    }

    /// Cuts the end off, by halves, then by less.
    fn shorten(&mut self) {
        for part in [2, 4, 8, 16] {
            loop {
                let mut plan = self.best.clone();
                plan.duration_us -= plan.duration_us / part;
                plan.faults.retain(|fault| fault.at_us < plan.duration_us);
                plan.storms.retain(|(start_us, _)| *start_us < plan.duration_us);
                if !self.attempt(plan) {
                    break;
                }
            }
        }
    }

    /// Leaves faults out, first many at a time (delta debugging).
    fn drop_faults(&mut self) {
        let mut size = self.best.faults.len().div_ceil(2);
        while 0 < size {
            let mut at = 0;
            while at < self.best.faults.len() {
                let mut plan = self.best.clone();
                let end = (at + size).min(plan.faults.len());
                plan.faults.drain(at..end);
                if !self.attempt(plan) {
                    at += size;
                }
            }
            size /= 2;
        }
    }

    fn drop_clients(&mut self) {
        while 1 < self.best.load.clients {
            let mut plan = self.best.clone();
            plan.load.clients -= 1;
            if !self.attempt(plan) {
                break;
            }
        }
        for change in [
            |plan: &mut Plan| plan.load.lanes = 1,
            |plan: &mut Plan| plan.load.keys = 1,
            |plan: &mut Plan| plan.load.value_size = 0,
            |plan: &mut Plan| plan.load.reads_percent = 0,
            |plan: &mut Plan| plan.load.quorum_reads_percent = 0,
            |plan: &mut Plan| plan.load.lease_reads_percent = 0,
            |plan: &mut Plan| plan.load.burst = 1,
        ] {
            let mut plan = self.best.clone();
            change(&mut plan);
            self.attempt(plan);
        }
    }

    /// Leaves the last node out, where the rest still makes a cluster.
    fn drop_nodes(&mut self) {
        loop {
            let mut plan = self.best.clone();
            plan.settings.roles.pop();
            let roles = &plan.settings.roles;
            let acceptors = roles.iter().filter(|roles| roles.acceptor).count();
            let whole = roles.iter().any(|roles| roles.leader)
                && roles.iter().any(|roles| roles.replica)
                && plan.settings.phase2.is_none_or(|phase2| phase2 <= acceptors)
                && 0 < acceptors;
            if !whole || !self.attempt(plan) {
                return;
            }
        }
    }

    /// Makes what is drawn at random steadier.
    fn calm(&mut self) {
        for change in [
            |plan: &mut Plan| plan.hub = false,
            |plan: &mut Plan| plan.settings.drift_ppm_max = 0,
            |plan: &mut Plan| plan.settings.lease_us = 0,
            |plan: &mut Plan| plan.settings.delay_us.1 = plan.settings.delay_us.0,
            |plan: &mut Plan| plan.settings.sync_us.1 = plan.settings.sync_us.0,
            |plan: &mut Plan| plan.settings.phase2 = None,
            |plan: &mut Plan| {
                plan.settings.window_slots = 4;
                plan.settings.alpha_slots = plan.settings.alpha_slots.max(4);
            },
            |plan: &mut Plan| plan.settings.spares = 0,
        ] {
            let mut plan = self.best.clone();
            change(&mut plan);
            self.attempt(plan);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Fixed, Planned};
    use super::*;
    use crate::paxos::Roles;

    /// Of many faults two matter, and they must come in this order.
    #[test]
    fn what_does_not_matter_is_left_out() {
        let plan = (0..)
            .map(|seed| Plan::draw(seed, &Fixed::default()))
            .find(|plan| {
                let together = plan.settings.roles.iter().all(|roles| *roles == Roles::ALL);
                together && 20 < plan.faults.len() && 1 < plan.load.clients
            })
            .unwrap();
        let (first, second) = (plan.faults[3], plan.faults[9]);
        let fails = |plan: &Plan| {
            let at = |one: &Planned| plan.faults.iter().position(|fault| fault == one);
            matches!((at(&first), at(&second)), (Some(a), Some(b)) if a < b)
        };
        let small = shrink(plan, 10_000, &mut { fails }, &mut |_, _| ());
        assert_eq!(small.faults, [first, second]);
        assert_eq!((small.load.clients, small.settings.roles.len()), (1, 1));
        assert!(second.at_us < small.duration_us);
    }

    #[test]
    fn tries_are_bounded() {
        let mut tries = 0;
        let mut fails = |_: &Plan| {
            tries += 1;
            true
        };
        shrink(Plan::draw(1, &Fixed::default()), 7, &mut fails, &mut |_, _| ());
        assert_eq!(tries, 7);
    }
}
