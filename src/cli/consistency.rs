//! `--consistency`: what reads may return, in the words of the command line.

use crate::wire::client::Consistency;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadConsistency {
    Linearizable,
    Leader,
    Lease,
    Quorum,
    Stale,
}

pub const WORDS: [(&str, ReadConsistency); 5] = [
    ("linearizable", ReadConsistency::Linearizable),
    ("leader", ReadConsistency::Leader),
    ("lease", ReadConsistency::Lease),
    ("quorum", ReadConsistency::Quorum),
    ("stale", ReadConsistency::Stale),
];

impl From<ReadConsistency> for Consistency {
    fn from(given: ReadConsistency) -> Consistency {
        match given {
            ReadConsistency::Linearizable => Consistency::Linearizable,
            ReadConsistency::Leader => Consistency::Leader,
            ReadConsistency::Lease => Consistency::Lease,
            ReadConsistency::Quorum => Consistency::Quorum,
            ReadConsistency::Stale => Consistency::Stale,
        }
    }
}
