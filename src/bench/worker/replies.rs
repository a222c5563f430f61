//! What a worker makes of the frames that it receives.
//!
//! Nothing here touches the link, which is being read from: what asks for that is noted in `resume`
//! and `leave`, and done when the frames of the event are all taken.

use crate::store::Reply;
use crate::trace::OperationOutcome;
use crate::wire::client::{ErrorKind, ErrorReply, RequestKey, Response};
use crate::wire::{Hello, WireError, codec, frame, kv};

use super::super::check::Observed;
use super::{BUSY_PAUSE_NS, State, Turn, Worker, outcome_of};

impl Worker {
    pub(super) fn on_frame(
        &mut self,
        frame: frame::Frame<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), WireError> {
        if self.state != State::Ready {
            let Hello::Welcome { node, .. } = codec::decode(frame.head)? else {
                return Err(WireError::Malformed("refused"));
            };
            turn.nodes.ids[self.at] = Some(node);
            self.node = node;
            self.state = State::Ready;
            self.resume = true;
            return Ok(());
        }
        match codec::decode::<Response>(frame.head)? {
            Response::Registered { nonce, session, .. } => {
                if self.session.is_none() && nonce == self.nonce {
                    self.session = Some(session);
                    self.registering_until_ns = None;
                    self.resume = true;
                    self.failures = 0;
                }
            }
            Response::Reply { id, .. } => {
                self.on_reply(RequestKey::Command(id), frame.bulk)?;
            }
            Response::Read { id, .. } => self.on_reply(RequestKey::Read { id }, frame.bulk)?,
            Response::Error { key, error } => self.on_error(key, &error, turn.now_ns),
            Response::Status { .. }
            | Response::Snapshot { .. }
            | Response::SnapshotChunk { .. }
            | Response::Reconfiguring { .. }
            | Response::LeadTransferred { .. }
            | Response::Changes { .. } => {
                return Err(WireError::Malformed("nobody asked for it"));
            }
        }
        Ok(())
    }

    fn on_reply(&mut self, key: RequestKey, bulk: &[u8]) -> Result<(), WireError> {
        // The answer to something given up is nobody's.
        let Some(at) = self.position(key) else { return Ok(()) };
        self.failures = 0;
        let (outcome, observed) = match kv::decode_reply(bulk)? {
            Reply::Done
            | Reply::Entries { .. }
            | Reply::Transaction { .. }
            | Reply::Rows(_)
            | Reply::RowsPart { .. }
            | Reply::Ttl { .. }
            | Reply::Token(_)
            | Reply::Images { .. } => (OperationOutcome::Ok, Observed::Nothing),
            Reply::Integer(count) => (OperationOutcome::Ok, Observed::Integer(count)),
            Reply::Value(value) => (OperationOutcome::Ok, Observed::Value(value)),
            Reply::Failed(_) => (OperationOutcome::Refused, Observed::Nothing),
        };
        self.end(at, outcome, observed, self.node);
        Ok(())
    }

    fn on_error(&mut self, key: RequestKey, error: &ErrorReply, now_ns: u64) {
        let Some(at) = self.position(key) else {
            // Of a registration, or of something given up.
            if matches!(key, RequestKey::Register { .. }) && self.session.is_none() {
                self.leave = Some(error.ask);
            }
            return;
        };
        let op = &mut self.ops[at];
        op.outstanding = false;
        op.maybe |= !error.definite;
        match error.kind {
            ErrorKind::BadRequest | ErrorKind::Refused | ErrorKind::TooOld => {
                let unknown = !op.is_read() && op.maybe;
                self.leaving_session |= unknown;
                self.end(at, outcome_of(unknown), Observed::Nothing, self.node);
            }
            ErrorKind::SessionExpired => self.on_session_expired(),
            ErrorKind::Busy | ErrorKind::DiskFull => op.resend_ns = now_ns + BUSY_PAUSE_NS,
            ErrorKind::Timeout
            | ErrorKind::NotAReplica
            | ErrorKind::NotLeading
            | ErrorKind::Stopping => {
                self.leave = Some(error.ask);
            }
        }
    }

    /// The session is gone: what may have run under it is unknown, the rest goes under a new one.
    fn on_session_expired(&mut self) {
        let mut at = 0;
        while at < self.ops.len() {
            let op = &mut self.ops[at];
            if op.is_read() {
                at += 1;
            } else if op.maybe || op.outstanding {
                self.end(at, OperationOutcome::Unknown, Observed::Nothing, self.node);
            } else {
                op.number = 0;
                at += 1;
            }
        }
        self.forget_session();
        self.resume = true;
    }

    fn position(&self, key: RequestKey) -> Option<usize> {
        match key {
            RequestKey::Command(id) if Some(id.session) == self.session => {
                self.ops.iter().position(|op| !op.is_read() && op.number == id.seq)
            }
            RequestKey::Read { id } => {
                self.ops.iter().position(|op| op.is_read() && op.number == id)
            }
            _ => None,
        }
    }
}
