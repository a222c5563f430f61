//! How old the state of this replica may be, at most: for reads that may be stale, but not by more than that.
//!
//! Whenever a linearizable read is served here, by whatever way, the state has all that was acknowledged anywhere before
//! that read came, and keeps it. So the state is no older than the youngest such read, by this node's monotonic clock
//! alone. A read that wants it younger is made a linearizable one, and the next ones profit.

/// What is known of it.
#[derive(Debug, Default)]
pub struct Freshness {
    /// When the youngest read came that was served; `None` if none was.
    confirmed_us: Option<u64>,
}

impl Freshness {
    /// A linearizable read is served that came at this time.
    pub fn note(&mut self, arrived_us: u64) {
        self.confirmed_us = self.confirmed_us.max(Some(arrived_us));
    }

    /// The state is another one.
    pub fn forget(&mut self) {
        self.confirmed_us = None;
    }

    /// How old the state may be by now; `None` if nobody can tell.
    pub fn age_us(&self, now_us: u64) -> Option<u64> {
        self.confirmed_us.map(|confirmed_us| now_us.saturating_sub(confirmed_us))
    }

    pub fn is_within(&self, age_us: u64, now_us: u64) -> bool {
        self.age_us(now_us).is_some_and(|age| age <= age_us)
    }

    /// Why a read was not served that wanted it younger.
    pub fn complaint(&self, wanted_us: u64, now_us: u64) -> String {
        let ms = |us: u64| format!("{}.{:03} ms", us / 1000, us % 1000);
        let known = match self.age_us(now_us) {
            Some(age_us) => format!("it may be {} old", ms(age_us)),
            None => "nothing is known of its age".to_owned(),
        };
        let wanted = ms(wanted_us);
        format!("nobody confirmed in time that the state here is at most {wanted} old; {known}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_youngest_read_counts() {
        let mut freshness = Freshness::default();
        assert!(!freshness.is_within(u64::MAX, 5));
        assert!(freshness.complaint(1500, 5).ends_with("nothing is known of its age"));
        freshness.note(100);
        freshness.note(90);
        assert!(freshness.is_within(50, 150) && !freshness.is_within(50, 151));
        assert!(freshness.is_within(0, 100));
        let complaint = freshness.complaint(1500, 2_000_101);
        assert!(complaint.contains("1.500 ms old; it may be 2000.001 ms old"), "{complaint}");
        freshness.forget();
        assert_eq!(freshness.age_us(100), None);
    }
}
