//! When a replica asks a leader that is no replica itself to let the log's time pass.
//!
//! The time of a batch is by the leader's clock. Where the replica's clock is ahead, what is due by it is not due yet,
//! and a batch asked for in vain takes a slot. So the replica asks once, sees from the batch how far the leader's clock
//! is, and asks again when it must have come to the time that counts.

/// The last question; times are in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Overdue {
    asked: Option<Asked>,
}

#[derive(Clone, Debug)]
struct Asked {
    /// The log's time for which it was asked, and by this node's clock when.
    due_us: u64,
    at_us: u64,
    /// The log's time that was seen last; and when it was seen to move, since it was asked.
    time_us: u64,
    moved_us: Option<u64>,
}

impl Overdue {
    /// Whether to ask now, when something is due at `due_us` and the log's time is `time_us`. Of one due time it asks
    /// every `pause_us` at most, since a question or its answer can be lost.
    pub fn asks(&mut self, due_us: u64, time_us: u64, now_us: u64, pause_us: u64) -> bool {
        let Some(asked) = self.asked.as_mut().filter(|asked| asked.due_us == due_us) else {
            self.asked = Some(Asked { due_us, at_us: now_us, time_us, moved_us: None });
            return true;
        };
        if asked.time_us != time_us {
            (asked.time_us, asked.moved_us) = (time_us, Some(now_us));
        }
        let left_us = due_us.saturating_sub(time_us);
        let has_come = asked.moved_us.is_none_or(|moved_us| moved_us + left_us <= now_us);
        if !has_come || now_us < asked.at_us + pause_us {
            return false;
        }
        asked.at_us = now_us;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE_US: u64 = 10;

    #[test]
    fn what_is_lost_is_asked_for_again() {
        let mut overdue = Overdue::default();
        let asked: Vec<u64> =
            (0..25).filter(|now| overdue.asks(500, 400, *now, PAUSE_US)).collect();
        assert_eq!(asked, [0, 10, 20]);
    }

    #[test]
    fn a_leader_whose_clock_is_behind_is_left_alone_until_it_is_there() {
        let mut overdue = Overdue::default();
        assert!(overdue.asks(500, 400, 0, PAUSE_US));
        // The batch came: the leader's clock stood at 420 then.
        let asked: Vec<u64> =
            (1..200).filter(|now| overdue.asks(500, 420, *now, PAUSE_US)).collect();
        assert_eq!(asked[0], 1 + 80);
        // Other batches tell as well: it is further than was thought.
        assert!(!overdue.asks(500, 490, 200, PAUSE_US));
        assert!(overdue.asks(500, 490, 210, PAUSE_US));
    }

    #[test]
    fn what_is_due_next_is_asked_for_at_once() {
        let mut overdue = Overdue::default();
        assert!(overdue.asks(500, 400, 0, PAUSE_US));
        assert!(overdue.asks(501, 500, 1, PAUSE_US));
        assert!(!overdue.asks(501, 500, 2, PAUSE_US));
    }
}
