//! A pair's connection as TCP gives it: first in, first out, nothing lost while it lives.
//!
//! A cut (of packets, in one direction or both) does not end a connection: what must pass the cut
//! stays in the sender's kernel, the other direction still flows for a while, and both sides give up
//! after a time of their own. Healed before that, all that was held back arrives.

use std::collections::VecDeque;

use crate::paxos::NodeId;

pub struct Link {
    /// The lower id first; index 0 and 1 below.
    pub nodes: [NodeId; 2],
    /// Which connection this is. A new one loses what was on the way in the old.
    pub epoch: u64,
    /// Whether each side has the connection.
    pub up: [bool; 2],
    /// Whether packets *from* each side are lost.
    pub cut: [bool; 2],
    /// What each side sent, oldest first, with the time when it arrives at the earliest.
    pub pipe: [VecDeque<(u64, Parcel)>; 2],
    /// Delay of this link, in microseconds, from and to.
    pub delay_us: (u64, u64),
    /// Of a hundred packets so many are lost: TCP sends them again, and holds back what comes behind.
    pub loss_percent: u32,
}

pub enum Parcel {
    /// The frame of a message.
    Frame(Vec<u8>),
    /// The sender closed the connection.
    End,
}

impl Link {
    pub fn new(a: NodeId, b: NodeId, delay_us: (u64, u64)) -> Link {
        assert!(a < b);
        Link {
            nodes: [a, b],
            epoch: 0,
            up: [false; 2],
            cut: [false; 2],
            pipe: [VecDeque::new(), VecDeque::new()],
            delay_us,
            loss_percent: 0,
        }
    }

    pub fn side(&self, node: NodeId) -> usize {
        usize::from(self.nodes[1] == node)
    }

    pub fn is_cut(&self) -> bool {
        self.cut[0] || self.cut[1]
    }
}
