//! Finds the leader while the load runs, on a connection of its own.
//!
//! The leader is who says so itself and answers us: so no worker is ever sent to a node that cannot
//! be reached or has lost its lead, whatever the other nodes believe.

use mio::{Registry, Token};

use crate::wire::client::{Request, Response};
use crate::wire::{Hello, WireError, codec, frame};

use super::link::Link;
use super::worker::Nodes;

/// Between two questions while the leader is known, and while it is not.
const CALM_NS: u64 = 500_000_000;
const SEARCH_NS: u64 = 20_000_000;
/// A node that takes longer to say what it is does not lead, for all that matters to us.
const PATIENCE_NS: u64 = 100_000_000;
/// A node that did not answer is asked again after so long, even if others still follow it.
const DISTRUST_NS: u64 = 1_000_000_000;
/// A known leader is announced again after so long, for workers that had to leave it meanwhile.
const ANNOUNCE_NS: u64 = 2_000_000_000;

pub struct Control {
    token: Token,
    link: Option<Link>,
    greeted: bool,
    /// Index of the node asked.
    at: usize,
    /// The question that waits for its answer, and when that is too late.
    waiting_until_ns: Option<u64>,
    next_ns: u64,
    asked_ns: u64,
    announced_ns: u64,
    /// Who did not answer, and until when we do not go there on hearsay.
    distrusted: Option<(usize, u64)>,
}

impl Control {
    pub fn new(token: Token, at: usize) -> Control {
        Control {
            token,
            link: None,
            greeted: false,
            at,
            waiting_until_ns: None,
            next_ns: 0,
            asked_ns: 0,
            distrusted: None,
            announced_ns: 0,
        }
    }

    /// Asks if it is time to.
    pub fn tick(&mut self, now_ns: u64, registry: &Registry, nodes: &mut Nodes) {
        // Not more often than this, or a cluster that is merely slow would be asked all the time.
        if std::mem::take(&mut nodes.suspicion) && self.asked_ns + PATIENCE_NS <= now_ns {
            self.next_ns = now_ns;
        }
        match self.waiting_until_ns {
            Some(until_ns) if until_ns <= now_ns => self.fail(now_ns, nodes),
            None if self.next_ns <= now_ns => self.ask(now_ns, registry, nodes),
            _ => {}
        }
    }

    fn ask(&mut self, now_ns: u64, registry: &Registry, nodes: &mut Nodes) {
        self.asked_ns = now_ns;
        self.waiting_until_ns = Some(now_ns + nodes.op_timeout_ns.min(PATIENCE_NS));
        if let Some(link) = &mut self.link {
            link.queue(&Request::Status { id: 0 }, &[]);
            if link.flush().is_err() {
                self.fail(now_ns, nodes);
            }
            return;
        }
        self.greeted = false;
        match Link::dial(registry, self.token, nodes.addresses[self.at]) {
            Ok(link) => self.link = Some(link),
            Err(_) => self.fail(now_ns, nodes),
        }
    }

    pub fn on_event(&mut self, now_ns: u64, closing: bool, buffer: &mut [u8], nodes: &mut Nodes) {
        let Some(link) = &mut self.link else { return };
        let mut answer = None;
        let greeted = &mut self.greeted;
        let received = link.flush().and_then(|()| {
            link.receive(buffer, closing, |frame| {
                on_frame(frame, greeted, self.at, nodes, &mut answer)
            })
        });
        if received.is_err() {
            return self.fail(now_ns, nodes);
        }
        match answer {
            None => {}
            Some(Answer::Welcome) => {
                link.queue(&Request::Status { id: 0 }, &[]);
                if link.flush().is_err() {
                    self.fail(now_ns, nodes);
                }
            }
            Some(Answer::Leads) => {
                self.waiting_until_ns = None;
                self.next_ns = now_ns + CALM_NS;
                if nodes.leader != Some(self.at) || self.announced_ns + ANNOUNCE_NS <= now_ns {
                    self.announced_ns = now_ns;
                    nodes.leader = Some(self.at);
                    nodes.generation += 1;
                }
            }
            Some(Answer::Follows(leader)) => {
                nodes.leader = None;
                let trusted = |&at: &usize| {
                    self.distrusted.is_none_or(|(who, until_ns)| who != at || until_ns <= now_ns)
                };
                self.leave(leader.filter(trusted), now_ns, nodes);
            }
        }
    }

    fn fail(&mut self, now_ns: u64, nodes: &mut Nodes) {
        nodes.leader = None;
        self.distrusted = Some((self.at, now_ns + DISTRUST_NS));
        self.leave(None, now_ns, nodes);
    }

    /// Goes on with `next`, or with whoever is next in the list.
    fn leave(&mut self, next: Option<usize>, now_ns: u64, nodes: &Nodes) {
        self.link = None;
        self.waiting_until_ns = None;
        self.next_ns = now_ns + SEARCH_NS;
        self.at = match next {
            Some(next) if next != self.at => next,
            _ => (self.at + 1) % nodes.addresses.len(),
        };
    }
}

enum Answer {
    Welcome,
    Leads,
    /// It follows the node with this index, if we know that one.
    Follows(Option<usize>),
}

fn on_frame(
    frame: frame::Frame<'_>,
    greeted: &mut bool,
    at: usize,
    nodes: &mut Nodes,
    answer: &mut Option<Answer>,
) -> Result<(), WireError> {
    if !*greeted {
        let Hello::Welcome { node, .. } = codec::decode(frame.head)? else {
            return Err(WireError::Malformed("refused"));
        };
        nodes.ids[at] = Some(node);
        *greeted = true;
        *answer = Some(Answer::Welcome);
        return Ok(());
    }
    match codec::decode(frame.head)? {
        Response::Status { status, .. } if status.leading => *answer = Some(Answer::Leads),
        Response::Status { status, .. } => {
            let leader = status.leader.and_then(|leader| nodes.index_of(leader));
            *answer = Some(Answer::Follows(leader));
        }
        _ => return Err(WireError::Malformed("no status")),
    }
    Ok(())
}
