//! What a link does to packets, as asked for, and one direction of one: what becomes of each packet.
//!
//! Chance comes from a generator of the link's own, and each packet draws the same numbers whatever the shape is. So
//! which of a link's packets are lost depends on the seed and their order alone: not on other links, not on jitter.

use std::net::Ipv4Addr;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The longest delay; more is taken for a slip.
pub const DELAY_US_MAX: u64 = 60_000_000;
/// What probabilities are parts of.
pub const MILLION: u64 = 1_000_000;

/// What one direction of a link does to packets; nothing, by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    pub delay_us: u64,
    /// Each packet's delay is drawn evenly from `delay_us` plus and minus this.
    pub jitter_us: u64,
    pub loss_ppm: u64,
    /// So many are sent on at once, past those that wait, as netem does. Without any, packets keep their order
    /// whatever the jitter; with some, they arrive as their delays tell.
    pub reorder_ppm: u64,
}

impl Shape {
    /// Says what is wrong with a shape that is none.
    pub fn check(&self) -> Result<(), String> {
        for (name, value, max) in [
            ("delay_us", self.delay_us, DELAY_US_MAX),
            ("jitter_us", self.jitter_us, self.delay_us),
            ("loss_ppm", self.loss_ppm, MILLION),
            ("reorder_ppm", self.reorder_ppm, MILLION),
        ] {
            if value > max {
                return Err(format!("{name} is {value}; allowed is 0 to {max}"));
            }
        }
        Ok(())
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Lost,
    /// It is sent on at this time, in nanoseconds of the clock by which it came.
    Due(u64),
}

/// What a link has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub packets: u64,
    pub lost: u64,
    pub reordered: u64,
    pub sent: u64,
    /// By how much later than it was due a packet was sent on: what this program, or the machine, added.
    pub late_ns_sum: u64,
    pub late_ns_max: u64,
}

/// One direction of a link.
pub struct Link {
    pub shape: Shape,
    pub counts: Counts,
    dice: StdRng,
    /// When the last packet is due that keeps the order: none behind it may be sooner.
    last_due_ns: u64,
}

impl Link {
    /// A link between these two that does nothing.
    pub fn new(from: Ipv4Addr, to: Ipv4Addr, seed: u64) -> Link {
        let addresses = u64::from(from.to_bits()) << 32 | u64::from(to.to_bits());
        Link {
            shape: Shape::default(),
            counts: Counts::default(),
            // Of two seeds side by side, one link's numbers are not another's: the generator's seed is mixed.
            dice: StdRng::seed_from_u64(addresses.rotate_left(17) ^ seed),
            last_due_ns: 0,
        }
    }

    /// What becomes of a packet that came now.
    pub fn fate(&mut self, now_ns: u64) -> Fate {
        let shape = self.shape;
        let lost = self.dice.random_range(0..MILLION) < shape.loss_ppm;
        let reordered = self.dice.random_range(0..MILLION) < shape.reorder_ppm;
        // Between -1 and 1.
        let spread = self.dice.random_range(-1.0..=1.0);
        self.counts.packets += 1;
        if lost {
            self.counts.lost += 1;
            return Fate::Lost;
        }
        if reordered {
            self.counts.reordered += 1;
            return Fate::Due(now_ns);
        }
        let jitter_ns = (spread * (shape.jitter_us * 1000) as f64) as i64;
        let due_ns = (now_ns + shape.delay_us * 1000).saturating_add_signed(jitter_ns);
        if shape.reorder_ppm > 0 {
            return Fate::Due(due_ns);
        }
        self.last_due_ns = self.last_due_ns.max(due_ns);
        Fate::Due(self.last_due_ns)
    }

    /// A packet was sent on at this time, and was due before.
    pub fn sent(&mut self, due_ns: u64, now_ns: u64) {
        let late_ns = now_ns.saturating_sub(due_ns);
        self.counts.sent += 1;
        self.counts.late_ns_sum += late_ns;
        self.counts.late_ns_max = self.counts.late_ns_max.max(late_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn link(seed: u64, shape: Shape) -> Link {
        let mut link = Link::new(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2), seed);
        link.shape = shape;
        link
    }

    /// The fates of packets that come one a millisecond.
    fn fates(link: &mut Link, packets: u64) -> Vec<Fate> {
        (1..=packets).map(|n| link.fate(n * MS)).collect()
    }

    fn delays(fates: &[Fate]) -> Vec<u64> {
        let due = |(n, fate): (usize, &Fate)| match fate {
            Fate::Due(at) => Some(at - (n as u64 + 1) * MS),
            Fate::Lost => None,
        };
        fates.iter().enumerate().filter_map(due).collect()
    }

    #[test]
    fn a_link_without_a_shape_lets_everything_through_at_once() {
        assert_eq!(delays(&fates(&mut link(1, Shape::default()), 3)), [0, 0, 0]);
    }

    #[test]
    fn a_delay_is_that_of_each_packet_to_the_microsecond() {
        let mut link = link(1, Shape { delay_us: 1_234, ..Shape::default() });
        assert_eq!(delays(&fates(&mut link, 3)), [1_234_000; 3]);
    }

    /// What is drawn for one purpose must not move what is drawn for another: the same packets are lost with
    /// jitter as without, and other ones under another seed.
    #[test]
    fn the_seed_alone_decides_which_packets_are_lost() {
        let lossy = Shape { loss_ppm: 100_000, delay_us: 5_000, ..Shape::default() };
        let lost = |seed, shape| -> Vec<bool> {
            fates(&mut link(seed, shape), 10_000).iter().map(|it| *it == Fate::Lost).collect()
        };
        let found = lost(7, lossy);
        assert_eq!(found, lost(7, lossy));
        assert_eq!(found, lost(7, Shape { jitter_us: 2_000, reorder_ppm: 10_000, ..lossy }));
        assert_ne!(found, lost(8, lossy));
        // Three standard deviations of 10,000 packets, one in ten lost.
        let count = found.iter().filter(|it| **it).count();
        assert!((910..=1090).contains(&count), "{count} of 10,000 lost");
    }

    #[test]
    fn the_two_directions_of_a_link_lose_different_packets() {
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let shape = Shape { loss_ppm: MILLION / 2, ..Shape::default() };
        let [mut there, mut back] = [Link::new(a, b, 1), Link::new(b, a, 1)];
        (there.shape, back.shape) = (shape, shape);
        assert_ne!(fates(&mut there, 64), fates(&mut back, 64));
    }

    /// Jitter of more than the packets' distance would let them overtake each other; TCP would take that for loss.
    #[test]
    fn jitter_keeps_the_order_unless_reordering_is_asked_for() {
        let shape = Shape { delay_us: 20_000, jitter_us: 10_000, ..Shape::default() };
        let ordered = |fates: &[Fate]| {
            let due: Vec<u64> = fates
                .iter()
                .map(|it| match it {
                    Fate::Due(at) => *at,
                    Fate::Lost => panic!("nothing is lost"),
                })
                .collect();
            due.is_sorted()
        };
        let found = fates(&mut link(1, shape), 1_000);
        assert!(ordered(&found));
        let delays = delays(&found);
        assert!(delays.iter().all(|it| (10 * MS..=30 * MS).contains(it)));
        assert!(delays.iter().max() > delays.iter().min());
        // One in a million of a thousand packets is not what reorders here: jitter is.
        assert!(!ordered(&fates(&mut link(1, Shape { reorder_ppm: 1, ..shape }), 1_000)));
    }

    #[test]
    fn what_is_reordered_goes_past_those_that_wait() {
        let shape = Shape { delay_us: 5_000, reorder_ppm: 200_000, ..Shape::default() };
        let mut link = link(3, shape);
        let found = delays(&fates(&mut link, 1_000));
        let at_once = found.iter().filter(|it| **it == 0).count();
        assert_eq!(at_once as u64, link.counts.reordered);
        assert!((160..=240).contains(&at_once), "{at_once} of 1,000 reordered");
        assert!(found.iter().all(|it| [0, 5 * MS].contains(it)));
    }

    /// A shorter delay from now on must not let new packets overtake those that wait for the longer one.
    #[test]
    fn a_new_shape_keeps_the_order_of_packets_under_way() {
        let mut link = link(1, Shape { delay_us: 50_000, ..Shape::default() });
        assert_eq!(link.fate(MS), Fate::Due(51 * MS));
        link.shape.delay_us = 1_000;
        assert_eq!(link.fate(2 * MS), Fate::Due(51 * MS));
        assert_eq!(link.fate(60 * MS), Fate::Due(61 * MS));
    }

    #[test]
    fn a_shape_that_is_none_is_refused() {
        let refused = |shape: Shape| shape.check().unwrap_err();
        let jitter = Shape { delay_us: 5, jitter_us: 6, ..Shape::default() };
        assert_eq!(refused(jitter), "jitter_us is 6; allowed is 0 to 5");
        let loss = Shape { loss_ppm: MILLION + 1, ..Shape::default() };
        assert_eq!(refused(loss), "loss_ppm is 1000001; allowed is 0 to 1000000");
        Shape { loss_ppm: MILLION, ..Shape::default() }.check().unwrap();
    }
}
