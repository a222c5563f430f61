//! What the load asks of a system: requests into bytes, bytes into replies. A new system is one more file that
//! implements `Protocol`, and a line in `main.rs`.
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
    /// Linearizable.
    Get {
        key: &'a [u8],
    },
}

/// How a request ended. An error is the server's, in its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// As given with the request.
    pub ticket: u32,
    pub outcome: Result<(), String>,
}

/// One connection's end of a conversation.
pub trait Protocol {
    /// What a new connection says first.
    fn greet(&mut self, out: &mut Vec<u8>);

    /// Whether the other side has answered the greeting, so that requests may follow.
    fn is_ready(&self) -> bool;

    /// Whether a key has to be created before it can be put.
    fn creates_first(&self) -> bool {
        false
    }

    /// Adds a request to `out`, now or when the other side allows it. An error ends the connection.
    fn request(
        &mut self,
        ticket: u32,
        request: Request<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), String>;

    /// Takes whole messages off the front of `bytes`, adds the replies among them to `replies` and what has to
    /// be said to them to `out`; returns how many bytes they had. An error ends the connection.
    fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        replies: &mut Vec<Reply>,
    ) -> Result<usize, String>;
}

/// Tickets of requests whose replies come in the same order.
#[derive(Default)]
pub struct InOrder(VecDeque<u32>);

impl InOrder {
    pub fn push(&mut self, ticket: u32) {
        self.0.push_back(ticket);
    }

    pub fn pop(&mut self) -> Result<u32, String> {
        self.0.pop_front().ok_or_else(|| "a reply that nobody waits for".to_owned())
    }
}
