//! What the load asks of a system: requests into bytes, bytes into replies. A new system is one more file that
//! implements `Protocol`, and a line in `system.rs`.
//!
//! An implementor sees bytes and never a socket. What comes from the other side is not trusted: it is an error
//! that names what was wrong, and never a panic.

use std::collections::VecDeque;

/// One operation.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// The first write of a key; for most systems the same as a put.
    Create {
        key: &'a [u8],
        value: &'a [u8],
    },
    Put {
        key: &'a [u8],
        value: &'a [u8],
    },
    /// Linearizable, unless it may be stale.
    Get {
        key: &'a [u8],
        may_be_stale: bool,
    },
    /// Whether this node leads.
    Status,
}

/// How a request ended. Texts are the server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Value(Option<Vec<u8>>),
    Leads(bool),
    /// Of a create: the key is there.
    Exists,
    /// Not done, and no other node would do it.
    Refused(String),
    /// Not done; another node may do it.
    NotHere(String),
    /// This node does not know whether it was done or will be.
    Unsure(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// As given with the request.
    pub ticket: u32,
    pub outcome: Outcome,
}

/// Why a request was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// It is one that cannot be sent.
    Refused(String),
    /// This connection takes no more.
    WornOut(String),
}

/// One connection's end of a conversation.
pub trait Protocol {
    /// What a new connection says first.
    fn greet(&mut self, out: &mut Vec<u8>);

    /// Whether the other side has answered the greeting, so that requests may follow.
    fn is_ready(&self) -> bool;

    /// Adds a request to `out`, now or when the other side allows it. Tickets are small numbers: slots, each of
    /// which is used again once its request has ended.
    fn request(
        &mut self,
        ticket: u32,
        request: Request<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unsent>;

    /// Takes whole messages off the front of `bytes`, adds the replies among them to `replies` and what has to
    /// be said to them to `out`; returns how many bytes they had. An error ends the connection.
    fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        replies: &mut Vec<Reply>,
    ) -> Result<usize, String>;
}

/// What is known of requests whose replies come in the same order.
pub struct InOrder<T>(VecDeque<T>);

impl<T> Default for InOrder<T> {
    fn default() -> InOrder<T> {
        InOrder(VecDeque::new())
    }
}

impl<T> InOrder<T> {
    pub fn push(&mut self, asked: T) {
        self.0.push_back(asked);
    }

    pub fn pop(&mut self) -> Result<T, String> {
        self.0.pop_front().ok_or_else(|| "a reply that nobody waits for".to_owned())
    }
}
