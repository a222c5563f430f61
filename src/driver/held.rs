//! Messages that must not leave before a sync: `Effects::sends_after_sync`, by log position.

use std::collections::VecDeque;

use crate::paxos::{Message, NodeId};
use crate::wal::LogPosition;

/// Invariant: positions never go down from front to back.
#[derive(Default)]
pub struct Held {
    queue: VecDeque<(LogPosition, NodeId, Message)>,
}

impl Held {
    /// Holds a message until the log is durable up to `position`.
    pub fn push(&mut self, position: LogPosition, to: NodeId, message: Message) {
        assert!(self.queue.back().is_none_or(|(last, _, _)| *last <= position));
        self.queue.push_back((position, to, message));
    }

    /// The next message that may leave now that the log is durable up to `durable`.
    pub fn pop(&mut self, durable: LogPosition) -> Option<(NodeId, Message)> {
        let (position, _, _) = self.queue.front()?;
        if durable < *position {
            return None;
        }
        self.queue.pop_front().map(|(_, to, message)| (to, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message leaves when its own position is durable, and not before.
    #[test]
    fn waits_for_its_position() {
        let mut held = Held::default();
        let message = |round| Message::HeartbeatRequest { round };
        held.push(LogPosition(1), NodeId(1), message(1));
        held.push(LogPosition(3), NodeId(2), message(2));
        assert_eq!(held.pop(LogPosition(0)), None);
        assert_eq!(held.pop(LogPosition(2)), Some((NodeId(1), message(1))));
        assert_eq!(held.pop(LogPosition(2)), None);
        assert_eq!(held.pop(LogPosition(3)), Some((NodeId(2), message(2))));
    }
}
