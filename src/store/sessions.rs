//! Sessions: what makes a command apply at most once, however often it is in the log.
//!
//! A client that hears nothing sends its command again, perhaps through another replica, and both
//! copies may be chosen. So the state remembers, for each session, the replies of its last commands;
//! a copy of a command that was applied is answered with the reply kept.
//!
//! Invariants:
//! - A command is carried out only if its number is at or above its session's `acknowledged` and no
//!   reply is kept for it. Its reply is kept from then on until `acknowledged` passes it, and
//!   `acknowledged` never goes down. Hence at most once.
//! - Kept replies have numbers in `acknowledged..acknowledged + SESSION_WINDOW_MAX`; inside of this
//!   window commands may come in any order.
//! - The id of a session is never given again, so commands of an expired one stay refused for ever.
//! - `time_us` never goes back, and it is at or above the `last_used_us` of every session.
//!
//! Time is the log's: the highest that leaders stamped into batches. What a command does is not
//! known here.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use imbl::OrdMap;

use crate::limits::{BATCH_COMMANDS_MAX, SESSION_IDLE_US_MAX, SESSION_WINDOW_MAX, SESSIONS_MAX};
use crate::mutants::{self, Mutant};
use crate::paxos::{CommandId, SessionId, Slot};

use super::digest::{self, Digest};
use super::{Outcome, ReplyBytes};

/// Bytes of replies that a session keeps; one reply may overshoot it. At the limit the session has
/// to acknowledge before it goes on. Without it, a window of failed `cas`, each of which says what
/// the key holds instead, would fill a gibibyte of every replica.
pub const SESSION_REPLIES_SIZE_SOFT_MAX: usize = 16 * 1024 * 1024;

/// A session without replies keeps room for so many.
const REPLIES_ROOM_MAX: usize = 64;

#[derive(Debug, Default)]
pub struct Sessions {
    /// A persistent map, for snapshots (see `kv`). A session is behind a pointer, so that a copied leaf
    /// copies no replies.
    sessions: OrdMap<SessionId, Arc<Session>>,
    /// Each session once, under a time at or before its last use: it is brought up to date when it comes
    /// first, and not with each command.
    by_use: BTreeSet<(u64, SessionId)>,
    /// The time of the state machine: microseconds since 1970 by the clock of some leader.
    time_us: u64,
    /// Of the sessions and their replies; `time_us` is added where it is asked for.
    digest: Digest,
}

#[derive(Clone, Debug)]
pub struct Session {
    /// The client has the replies of all commands below this number.
    pub acknowledged: u64,
    pub last_used_us: u64,
    /// Encoded replies by command number, in its order.
    pub replies: VecDeque<(u64, ReplyBytes)>,
    /// Bytes of these replies.
    replies_size: usize,
}

impl Sessions {
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    pub fn digest(&self) -> u128 {
        let mut digest = self.digest;
        digest.add(digest::time(self.time_us));
        digest.sum()
    }

    /// Moves the time on to that of a batch, unless that is in the past, and expires what has been
    /// idle for too long by then.
    pub fn on_time(&mut self, time_us: u64) {
        self.time_us = self.time_us.max(time_us);
        while let Some(&(used_us, id)) = self.by_use.first() {
            if self.time_us - used_us <= SESSION_IDLE_US_MAX {
                break;
            }
            let last_used_us = self.sessions[&id].last_used_us;
            if self.time_us - last_used_us <= SESSION_IDLE_US_MAX {
                self.by_use.remove(&(used_us, id));
                self.by_use.insert((last_used_us, id));
            } else {
                self.expire_first();
            }
        }
    }

    /// Expires the session unused for longest, the older id among equals.
    fn expire_unused(&mut self) {
        while let Some(&(used_us, id)) = self.by_use.first() {
            let last_used_us = self.sessions[&id].last_used_us;
            if used_us == last_used_us {
                return self.expire_first();
            }
            self.by_use.remove(&(used_us, id));
            self.by_use.insert((last_used_us, id));
        }
    }

    /// Opens the session asked for by command `index` of the batch in `slot`. At the limit it takes
    /// the place of the session unused for longest.
    pub fn register(&mut self, slot: Slot, index: usize) -> SessionId {
        // Unique, because a slot has fewer commands than the factor, and never 0, because no slot is.
        assert!(Slot::FIRST <= slot);
        assert!(index < BATCH_COMMANDS_MAX);
        let id = SessionId(slot.0 * BATCH_COMMANDS_MAX as u64 + index as u64);
        if self.sessions.len() == SESSIONS_MAX {
            self.expire_unused();
        }
        self.open(id);
        id
    }

    fn open(&mut self, id: SessionId) {
        let session = Session {
            acknowledged: 1,
            last_used_us: self.time_us,
            replies: VecDeque::new(),
            replies_size: 0,
        };
        self.add(id, session);
    }

    fn add(&mut self, id: SessionId, session: Session) {
        self.digest.add(session.digest(id));
        self.by_use.insert((session.last_used_us, id));
        let before = self.sessions.insert(id, Arc::new(session));
        assert!(before.is_none(), "a session id is given once");
        assert!(self.sessions.len() <= SESSIONS_MAX);
    }

    pub fn time_us(&self) -> u64 {
        self.time_us
    }

    pub fn all(&self) -> &OrdMap<SessionId, Arc<Session>> {
        &self.sessions
    }

    /// The time of a snapshot, before any session of it.
    pub fn restore_time(&mut self, time_us: u64) {
        assert!(self.sessions.is_empty());
        self.time_us = time_us;
    }

    /// A session of a snapshot, without its replies; its id is above those before.
    pub fn restore(&mut self, id: SessionId, acknowledged: u64, last_used_us: u64) {
        assert!(last_used_us <= self.time_us);
        let (replies, replies_size) = (VecDeque::new(), 0);
        self.add(id, Session { acknowledged, last_used_us, replies, replies_size });
    }

    /// A reply that the session keeps.
    pub fn restore_reply(&mut self, id: SessionId, seq: u64, reply: &[u8]) {
        let session = self.sessions.get_mut(&id).expect("its session comes before a reply");
        Arc::make_mut(session).keep(id, seq, reply.into(), &mut self.digest);
    }

    /// Opens the sessions 1 to `count`, which nobody registers: those come from `BATCH_COMMANDS_MAX` on.
    #[cfg(feature = "sim")]
    pub fn open_first(&mut self, count: u64) {
        assert!(count < BATCH_COMMANDS_MAX as u64);
        for id in 1..=count {
            self.open(SessionId(id));
        }
    }

    /// Calls `execute` for the reply of a command unless it was applied before or may not be.
    pub fn once(
        &mut self,
        id: CommandId,
        acknowledged: u64,
        execute: impl FnOnce() -> ReplyBytes,
    ) -> Outcome {
        let Some(session) = self.sessions.get_mut(&id.session) else {
            return Outcome::SessionExpired;
        };
        let session = Arc::make_mut(session);
        // Most commands share their time with the one before, and many acknowledge nothing new.
        if session.last_used_us < self.time_us || session.acknowledged < acknowledged {
            self.digest.remove(session.digest(id.session));
            session.last_used_us = self.time_us;
            session.acknowledge(id.session, acknowledged, &mut self.digest);
            self.digest.add(session.digest(id.session));
        }
        if id.seq < session.acknowledged {
            return Outcome::Stale;
        }
        let kept = session.reply(id.seq);
        if let (Some(reply), false) = (kept, mutants::is_on(Mutant::SessionlessRetry)) {
            return Outcome::Reply(reply.clone());
        }
        if SESSION_WINDOW_MAX as u64 <= id.seq - session.acknowledged
            || SESSION_REPLIES_SIZE_SOFT_MAX <= session.replies_size
        {
            return Outcome::OutOfWindow;
        }
        let reply = execute();
        session.keep(id.session, id.seq, reply.clone(), &mut self.digest);
        Outcome::Reply(reply)
    }

    fn expire_first(&mut self) {
        let (_, id) = self.by_use.pop_first().expect("every session is listed");
        let session = self.sessions.remove(&id).expect("only a session that exists expires");
        self.digest.remove(session.digest(id));
        for (seq, reply) in &session.replies {
            self.digest.remove(digest::reply(id, *seq, reply));
        }
    }

    /// What `digest` must be; checks the invariants on the way.
    #[cfg(test)]
    pub fn digest_from_scratch(&self) -> u128 {
        let mut digest = Digest::default();
        digest.add(digest::time(self.time_us));
        for (&id, session) in self.sessions.iter() {
            digest.add(session.digest(id));
            for &(seq, ref reply) in &session.replies {
                assert!(session.acknowledged <= seq);
                assert!(seq - session.acknowledged < SESSION_WINDOW_MAX as u64);
                digest.add(digest::reply(id, seq, reply));
            }
            let size: usize = session.replies.iter().map(|(_, reply)| reply.len()).sum();
            assert_eq!(session.replies_size, size);
        }
        assert_eq!(self.by_use.len(), self.sessions.len());
        assert!(self.by_use.iter().all(|(used_us, id)| *used_us <= self.sessions[id].last_used_us));
        digest.sum()
    }
}

impl Session {
    /// Drops the replies below `acknowledged`. A lower number than before comes from a command that
    /// was overtaken, and says nothing.
    fn acknowledge(&mut self, id: SessionId, acknowledged: u64, digest: &mut Digest) {
        if acknowledged <= self.acknowledged {
            return;
        }
        self.acknowledged = acknowledged;
        while let Some((seq, reply)) = self.replies.front().filter(|(seq, _)| *seq < acknowledged) {
            self.replies_size -= reply.len();
            digest.remove(digest::reply(id, *seq, reply));
            self.replies.pop_front();
        }
        if self.replies.is_empty() {
            // One that once had a full window does not keep its room for ever.
            self.replies.shrink_to(REPLIES_ROOM_MAX);
        }
    }

    /// The reply kept for a command.
    fn reply(&self, seq: u64) -> Option<&ReplyBytes> {
        let at = self.replies.binary_search_by_key(&seq, |(seq, _)| *seq).ok()?;
        Some(&self.replies[at].1)
    }

    fn keep(&mut self, id: SessionId, seq: u64, reply: ReplyBytes, digest: &mut Digest) {
        digest.add(digest::reply(id, seq, &reply));
        self.replies_size += reply.len();
        // Commands mostly come in order; then this looks at the last and adds one behind it.
        let at = match self.replies.back() {
            Some((last, _)) if seq <= *last => self.replies.partition_point(|(it, _)| *it < seq),
            _ => self.replies.len(),
        };
        self.replies.insert(at, (seq, reply));
        assert!(self.replies.len() <= SESSION_WINDOW_MAX);
    }

    /// The session as an item of the digest, without its replies.
    fn digest(&self, id: SessionId) -> u128 {
        digest::session(id, self.acknowledged, self.last_used_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a command whose reply is `reply`, and tells whether it was carried out.
    fn send_reply(
        sessions: &mut Sessions,
        session: SessionId,
        seq: u64,
        acknowledged: u64,
        reply: &[u8],
    ) -> (bool, Outcome) {
        let mut executed = false;
        let outcome = sessions.once(CommandId { session, seq }, acknowledged, || {
            executed = true;
            reply.into()
        });
        assert_eq!(sessions.digest(), sessions.digest_from_scratch());
        (executed, outcome)
    }

    fn send(sessions: &mut Sessions, session: SessionId, seq: u64, ack: u64) -> (bool, Outcome) {
        send_reply(sessions, session, seq, ack, &seq.to_le_bytes())
    }

    fn reply(seq: u64) -> Outcome {
        Outcome::Reply(seq.to_le_bytes().as_slice().into())
    }

    fn at(time_us: u64) -> Sessions {
        let mut sessions = Sessions::default();
        sessions.on_time(time_us);
        sessions
    }

    #[test]
    fn ids_are_unique_and_never_none() {
        let mut sessions = at(1);
        let mut ids = Vec::new();
        for slot in 1..=3 {
            for index in [0, 1, BATCH_COMMANDS_MAX - 1] {
                ids.push(sessions.register(Slot(slot), index));
            }
        }
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(!ids.contains(&SessionId::NONE));
        assert_eq!(sessions.len(), 9);
    }

    /// The same command twice in the log, once through each of two replicas.
    #[test]
    fn a_repeat_gets_the_reply_kept() {
        let mut sessions = at(1);
        let id = sessions.register(Slot(1), 0);
        assert_eq!(send(&mut sessions, id, 1, 1), (true, reply(1)));
        assert_eq!(send_reply(&mut sessions, id, 1, 1, b"other"), (false, reply(1)));
        // Acknowledging what comes before it does not drop it.
        assert_eq!(send(&mut sessions, id, 2, 1), (true, reply(2)));
        assert_eq!(send(&mut sessions, id, 2, 2), (false, reply(2)));
        assert_eq!(send(&mut sessions, id, 1, 1), (false, Outcome::Stale));
    }

    /// A later command may overtake an earlier one; neither is lost nor doubled.
    #[test]
    fn commands_of_a_window_come_in_any_order() {
        let mut sessions = at(1);
        let id = sessions.register(Slot(1), 0);
        for seq in [5, 3, 1, 4, 2] {
            assert_eq!(send(&mut sessions, id, seq, 1), (true, reply(seq)));
        }
        for seq in 1..=5 {
            assert_eq!(send(&mut sessions, id, seq, 1), (false, reply(seq)));
        }
        // Command 6 says that the replies of 1 to 3 have arrived; 4 and 5 stay.
        assert_eq!(send(&mut sessions, id, 6, 4), (true, reply(6)));
        for (seq, outcome) in [(3, Outcome::Stale), (4, reply(4)), (5, reply(5))] {
            assert_eq!(send(&mut sessions, id, seq, 1), (false, outcome));
        }
    }

    /// A copy that comes after the client gave up on a command must not be carried out.
    #[test]
    fn below_the_acknowledged_nothing_is_carried_out() {
        let mut sessions = at(1);
        let id = sessions.register(Slot(1), 0);
        assert_eq!(send(&mut sessions, id, 0, 0), (false, Outcome::Stale));
        assert_eq!(send(&mut sessions, id, 9, 9), (true, reply(9)));
        for seq in 0..9 {
            assert_eq!(send(&mut sessions, id, seq, 1), (false, Outcome::Stale));
        }
        // A command that acknowledges itself is stale; its session is the only one it harms.
        assert_eq!(send(&mut sessions, id, 10, 11), (false, Outcome::Stale));
        assert_eq!(send(&mut sessions, id, u64::MAX, u64::MAX), (true, reply(u64::MAX)));
    }

    #[test]
    fn the_window_bounds_what_is_kept_and_moves_with_the_acknowledged() {
        let mut sessions = at(1);
        let id = sessions.register(Slot(1), 0);
        let end = 1 + SESSION_WINDOW_MAX as u64;
        assert_eq!(send(&mut sessions, id, end, 1), (false, Outcome::OutOfWindow));
        assert_eq!(send(&mut sessions, id, u64::MAX, 1), (false, Outcome::OutOfWindow));
        assert_eq!(send(&mut sessions, id, end - 1, 1), (true, reply(end - 1)));
        // The command that was refused is not remembered: once there is room it is carried out.
        assert_eq!(send(&mut sessions, id, end, 2), (true, reply(end)));
        assert_eq!(send(&mut sessions, id, end + 1, 2), (false, Outcome::OutOfWindow));
    }

    #[test]
    fn large_replies_close_the_window_until_acknowledged() {
        let mut sessions = at(1);
        let id = sessions.register(Slot(1), 0);
        let large = vec![0; SESSION_REPLIES_SIZE_SOFT_MAX / 2];
        for seq in 1..=2 {
            assert!(send_reply(&mut sessions, id, seq, 1, &large).0);
        }
        assert_eq!(send(&mut sessions, id, 3, 1), (false, Outcome::OutOfWindow));
        assert_eq!(send(&mut sessions, id, 2, 1).1, Outcome::Reply(large.as_slice().into()));
        assert_eq!(send(&mut sessions, id, 3, 2), (true, reply(3)));
    }

    #[test]
    fn idle_sessions_expire_by_the_time_of_the_log() {
        let mut sessions = at(1_000);
        let idle = sessions.register(Slot(1), 0);
        let used = sessions.register(Slot(1), 1);
        send(&mut sessions, idle, 1, 1);
        sessions.on_time(2_000);
        send(&mut sessions, used, 1, 1);
        sessions.on_time(1_000 + SESSION_IDLE_US_MAX);
        assert_eq!(sessions.len(), 2, "a session may be idle for exactly the limit");
        sessions.on_time(1_001 + SESSION_IDLE_US_MAX);
        assert_eq!(send(&mut sessions, idle, 1, 1), (false, Outcome::SessionExpired));
        assert_eq!(send(&mut sessions, used, 1, 1), (false, reply(1)));
        sessions.on_time(u64::MAX);
        assert_eq!(sessions.len(), 0);
        assert_eq!(sessions.digest(), digest::time(u64::MAX));
    }

    /// A new leader's clock may be behind the old one's: the time stands still until it is not.
    #[test]
    fn time_never_goes_back() {
        let mut sessions = at(SESSION_IDLE_US_MAX * 3);
        let id = sessions.register(Slot(1), 0);
        sessions.on_time(1);
        let late = sessions.register(Slot(2), 0);
        send(&mut sessions, id, 1, 1);
        sessions.on_time(SESSION_IDLE_US_MAX * 4);
        assert_eq!(send(&mut sessions, id, 1, 1), (false, reply(1)));
        assert_eq!(send(&mut sessions, late, 1, 1), (true, reply(1)));
    }

    #[test]
    fn a_session_never_registered_is_expired() {
        let mut sessions = at(1);
        let unknown = SessionId(77);
        assert_eq!(send(&mut sessions, unknown, 1, 1), (false, Outcome::SessionExpired));
        assert_eq!(sessions.len(), 0);
    }

    /// At the limit the least recently used session goes, the oldest among equals, and only it.
    #[test]
    fn a_full_table_expires_the_session_unused_for_longest() {
        let mut sessions = at(1);
        let per_slot = BATCH_COMMANDS_MAX;
        let ids: Vec<SessionId> = (0..SESSIONS_MAX)
            .map(|i| sessions.register(Slot(1 + (i / per_slot) as u64), i % per_slot))
            .collect();
        assert_eq!(sessions.len(), SESSIONS_MAX);
        let id = |seq: u64, session| CommandId { session, seq };
        let empty = || [].as_slice().into();
        sessions.on_time(2);
        assert_eq!(sessions.once(id(1, ids[0]), 1, empty), Outcome::Reply(empty()));
        let first = sessions.register(Slot(1_000), 0);
        let second = sessions.register(Slot(1_000), 1);
        assert_eq!(sessions.len(), SESSIONS_MAX);
        for (session, expired) in
            [(ids[0], false), (ids[1], true), (ids[2], true), (ids[3], false), (first, false)]
        {
            let outcome = sessions.once(id(1, session), 1, empty);
            assert_eq!(outcome == Outcome::SessionExpired, expired, "{session:?}");
        }
        assert_eq!(sessions.once(id(1, second), 1, empty), Outcome::Reply(empty()));
        assert_eq!(sessions.digest(), sessions.digest_from_scratch());
    }
}
