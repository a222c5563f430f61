//! `--consistency`: what reads may return, in the words of the command line.

use clap::ValueEnum;

use crate::wire::client::Consistency;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReadConsistency {
    #[default]
    Linearizable,
    Leader,
    Lease,
    Quorum,
    Stale,
}

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
