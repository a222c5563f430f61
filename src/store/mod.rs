//! What is replicated: the key-value store and the sessions of its clients.
//!
//! Invariant: the state is a function of the values applied and of nothing else, neither clock nor
//! randomness nor hash order, so that replicas which applied the same slots have the same state and
//! gave every command the same outcome. All that is kept beside keys and values is bounded by
//! `limits`.
//!
//! `command` says what clients can ask, `kv` carries it out, `sessions` sees to it that it is carried
//! out at most once, `images` are keys that are found by nearness, `digest` lets replicas compare, `snapshot` makes bytes of the state. Ballots, peers and connections are not known
//! here; bytes are given to and taken from `wire::kv`.

pub mod changes;
#[cfg(all(test, feature = "rocksdb"))]
mod checkpoint_tests;
pub mod command;
pub(crate) mod digest;
#[cfg(feature = "rocksdb")]
mod disk;
#[cfg(feature = "rocksdb")]
mod disk_table;
mod engine;
#[cfg(all(test, feature = "rocksdb"))]
mod engine_tests;
mod image_index;
mod images;
mod kv;
mod sessions;
pub mod snapshot;
mod table;
mod terms;
mod transaction;

use std::cell::RefCell;

use xxhash_rust::xxh3::xxh3_64;

use crate::limits::{SQL_QUERY_ROWS_SIZE_MAX, SQL_STEPS_MAX};
use crate::paxos::{Batch, Bytes, CommandId, CommandRef, SessionId, Slot, Value};
use crate::sql::{Budget, Database, Moment, Page, Pages, Reader, View};
use crate::wire::codec;
use crate::wire::kv::{decode_command, decode_statement, decode_transaction};

use changes::History;
pub use command::{Command, Failure, Image, Query, Reply, StepReply, prefix_end};
pub use engine::{Engine, EngineChoice};
use images::Images;
use kv::Kv;
pub use kv::ScanView;
use sessions::Sessions;
pub use snapshot::Frozen;
pub use table::Hold;
use transaction::transact;
pub use transaction::{Condition, Holds, Step, Transaction};

/// The replicated state.
#[derive(Debug, Default)]
pub struct Store {
    /// The last slot applied, 0 before the first.
    applied: Slot,
    kv: Kv,
    images: Images,
    database: Database,
    sessions: Sessions,
    /// No part of the state.
    history: History,
    /// For queries of SQL.
    reader: RefCell<Reader>,
    /// Where replies are encoded, again and again.
    scratch: Vec<u8>,
}

/// An encoded `Reply`: most are a few bytes.
pub type ReplyBytes = Bytes<22>;

/// What became of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Of a registration: no session, and the client's nonce.
    pub id: CommandId,
    pub outcome: Outcome,
}

/// The same at every replica. Only a `Reply` may stand for a change of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The session that was asked for.
    Registered(SessionId),
    /// Of this copy of the command or, kept, of an earlier one.
    Reply(ReplyBytes),
    /// The session expired or never was. No copy of the command will be applied any more, but one
    /// may have been before the session expired.
    SessionExpired,
    /// The number is below the session's acknowledged: the client has the reply or gave up on it.
    /// No copy will be applied any more, but one may have been.
    Stale,
    /// The number is too far above the acknowledged, or too large replies wait to be acknowledged.
    /// This copy was not applied and none before it; one that is later in the log may be.
    OutOfWindow,
}

impl Store {
    pub fn new() -> Store {
        Store::default()
    }

    /// One whose entries lie there.
    pub fn in_engine(engine: &Engine) -> Store {
        Store { kv: Kv::new(engine), ..Store::default() }
    }

    /// A store in which the sessions 1 to `count` are open: what scripted clusters begin with.
    #[cfg(feature = "sim")]
    pub fn with_sessions(count: u64) -> Store {
        let mut store = Store::default();
        store.sessions.open_first(count);
        store
    }

    /// Applies the value of `slot`, which must be the one after the last applied, and pushes one
    /// `Applied` a command in the order of the batch (of a no-op: none).
    ///
    /// # Panics
    /// If slots are left out or repeated, or the value is none that our leaders form: `wire` lets no
    /// such value in, nor does a node's start take one from its log.
    pub fn apply(&mut self, slot: Slot, value: &Value, out: &mut Vec<Applied>) {
        self.apply_bytes(slot, &value.0, out);
    }

    /// `apply` of a value that lies elsewhere, in the log for example.
    pub fn apply_bytes(&mut self, slot: Slot, value: &[u8], out: &mut Vec<Applied>) {
        assert!(slot == self.applied.next(), "{slot:?} does not follow {:?}", self.applied);
        self.applied = slot;
        let batch = Batch::decode(value).expect("a value from outside was checked in wire");
        self.sessions.on_time(batch.time_us);
        self.kv.expire(self.sessions.time_us());
        out.reserve(batch.len());
        for (index, command) in batch.commands().enumerate() {
            let outcome = self.apply_command(slot, index, &command);
            out.push(Applied { id: command.id, outcome });
        }
        self.database.settle();
        self.history.push(slot, self.kv.changes());
        self.kv.end_slot(slot);
    }

    fn apply_command(&mut self, slot: Slot, index: usize, command: &CommandRef<'_>) -> Outcome {
        if command.id.session == SessionId::NONE {
            return Outcome::Registered(self.sessions.register(slot, index));
        }
        let time_us = self.sessions.time_us();
        self.sessions.once(command.id, command.acknowledged, || {
            // A payload that is no command gets a reply like any other, kept and the same at every
            // replica: the client numbered it, and its session must go on.
            let reply = match decode_command(command.payload) {
                Ok(Command::Transaction(bytes)) => match decode_transaction(bytes) {
                    Ok(it) => {
                        let moment = moment(slot, index, time_us);
                        transact(&mut self.kv, &mut self.images, &mut self.database, moment, &it)
                    }
                    Err(_) => Reply::Failed(Failure::Invalid),
                },
                Ok(Command::SetImage { hash, meta }) => self.images.set(hash, meta),
                Ok(Command::DeleteImage { hash }) => self.images.delete(hash),
                Ok(command) => self.kv.apply(&command, time_us),
                Err(_) => Reply::Failed(Failure::Invalid),
            };
            self.scratch.clear();
            codec::encode_into(&reply, &mut self.scratch);
            self.scratch.as_slice().into()
        })
    }

    /// What no restart may do: see `mutants`.
    pub(crate) fn forget_sessions(&mut self) {
        self.sessions = Sessions::default();
    }

    /// What no restart may do: see `mutants`.
    pub(crate) fn apply_again(&mut self, value: &[u8]) {
        let batch = Batch::decode(value);
        for command in batch.iter().flat_map(Batch::commands) {
            if let Ok(command) = decode_command(command.payload) {
                self.kv.apply(&command, self.sessions.time_us());
            }
        }
    }

    /// What no memory may do: see `mutants`.
    pub(crate) fn corrupt(&mut self) {
        self.kv.corrupt();
    }

    /// What no slot did: see `sim`. The digest goes with it.
    #[cfg(feature = "sim")]
    pub(crate) fn derail(&mut self) {
        self.kv.apply(&Command::Put { key: b"derailed", value: b"" }, 0);
    }

    /// Answers a query from the applied state. One of SQL may take as long as a command: whoever must not wait
    /// for that has it answered elsewhere, by `sql_query`.
    pub fn query(&self, query: &Query<'_>) -> Reply {
        let bytes = match *query {
            Query::Sql(bytes) => bytes,
            Query::Ttl { key } => return self.kv.ttl(key, self.sessions.time_us()),
            Query::Nearest { hash, within, limit } => {
                return self.images.nearest(hash, within, limit);
            }
            Query::Get { .. } | Query::Scan { .. } => return self.kv.query(query),
        };
        let budget =
            Budget { steps: SQL_STEPS_MAX, until_ns: None, rows_size: SQL_QUERY_ROWS_SIZE_MAX };
        self.sql_query(bytes).answer(&mut self.reader.borrow_mut(), budget, 0)
    }

    /// The pages of the database, as SQLite has them in a file.
    pub fn database(&self) -> Pages {
        self.database.pages()
    }

    /// A query of SQL with the state that it asks, to be answered at any time and by any thread.
    pub fn sql_query(&self, statement: &[u8]) -> SqlQuery {
        let moment = moment(self.applied, usize::MAX, self.sessions.time_us());
        SqlQuery { pages: self.database.pages(), moment, statement: statement.to_vec() }
    }

    /// The keys as they are now, to be scanned later.
    pub fn scan_view(&self) -> ScanView {
        self.kv.scan_view()
    }

    /// What the slots from `first` on did to the keys; `None` if it is not known any more what all of them did.
    pub fn changes_since(&self, first: Slot) -> Option<impl Iterator<Item = (Slot, &[u8])>> {
        (self.history.begin() <= first).then(|| self.history.since(first))
    }

    /// The first slot for which `changes_since` answers.
    pub fn history_begin(&self) -> Slot {
        self.history.begin()
    }

    /// The time, in microseconds since 1970, when a key is to go next; the log's time has to reach it.
    pub fn next_expiry_us(&self) -> Option<u64> {
        self.kv.terms().first_end_us()
    }

    /// The log's time, in microseconds since 1970.
    pub fn time_us(&self) -> u64 {
        self.sessions.time_us()
    }

    /// The last slot applied, 0 before the first.
    pub fn applied(&self) -> Slot {
        self.applied
    }

    /// A fingerprint of the entries, the images, the database, the sessions with their kept replies, and the time of the state
    /// machine; not of `applied`, which a no-op moves too. Equal states have equal digests, and
    /// unequal ones unequal digests except by a chance of one in 2^128.
    pub fn digest(&self) -> u128 {
        digest_of(&self.kv, &self.images, &self.database, &self.sessions)
    }

    /// Number of keys.
    pub fn keys(&self) -> usize {
        self.kv.len()
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.images.len()
    }

    /// Number of sessions.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    #[cfg(test)]
    fn digest_from_scratch(&self) -> u128 {
        let mut pages = Pages::default();
        for (index, bytes) in self.database.pages().iter().enumerate() {
            pages.write(index * crate::sql::pages::PAGE_SIZE, bytes);
        }
        pages.settle();
        let rest = self.kv.digest_from_scratch().wrapping_add(self.sessions.digest_from_scratch());
        let rest = rest.wrapping_add(self.images.digest_from_scratch());
        rest.wrapping_add(pages.digest().sum())
    }
}

/// When a command takes place that is at this place in the log, for SQL.
fn moment(slot: Slot, index: usize, time_us: u64) -> Moment {
    let mut place = [0; 16];
    place[..8].copy_from_slice(&slot.0.to_le_bytes());
    place[8..].copy_from_slice(&(index as u64).to_le_bytes());
    Moment { time_us, seed: xxh3_64(&place) }
}

/// A query of SQL, and the database as it was when it was asked.
#[derive(Debug)]
pub struct SqlQuery {
    pages: Pages,
    moment: Moment,
    statement: Vec<u8>,
}

impl SqlQuery {
    /// The rows from `skip` on, as far as the budget goes.
    pub fn answer(&self, reader: &mut Reader, budget: Budget, skip: u64) -> Reply {
        let Ok(statement) = decode_statement(&self.statement) else {
            return Reply::Failed(Failure::Invalid);
        };
        let view = View { pages: &self.pages, moment: self.moment, budget };
        match reader.query(view, &statement, skip) {
            Ok(Page { rows, next: None }) => Reply::Rows(rows),
            Ok(Page { rows, next: Some(next) }) => Reply::RowsPart { rows, next },
            Err(why) => Reply::Failed(Failure::Sql { why }),
        }
    }
}

fn digest_of(kv: &Kv, images: &Images, database: &Database, sessions: &Sessions) -> u128 {
    let keys = kv.digest().wrapping_add(images.digest());
    keys.wrapping_add(database.digest().sum()).wrapping_add(sessions.digest())
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::paxos::batch;
    use crate::wire::kv::{decode_reply, encode_command, encode_transaction};

    fn raw(session: SessionId, seq: u64, acknowledged: u64, payload: &[u8]) -> batch::Command {
        let id = CommandId { session, seq };
        batch::Command { id, acknowledged, payload: payload.into() }
    }

    fn command(session: SessionId, seq: u64, ack: u64, command: Command<'_>) -> batch::Command {
        raw(session, seq, ack, &encode_command(&command))
    }

    fn registration(nonce: u64) -> batch::Command {
        raw(SessionId::NONE, nonce, 0, b"")
    }

    /// Applies a batch in the next slot.
    fn apply(store: &mut Store, time_us: u64, commands: &[batch::Command]) -> Vec<Applied> {
        let mut out = Vec::new();
        let slot = store.applied().next();
        store.apply(slot, &batch::encode(time_us, commands.iter()), &mut out);
        let ids: Vec<CommandId> = commands.iter().map(|command| command.id).collect();
        assert_eq!(out.iter().map(|applied| applied.id).collect::<Vec<_>>(), ids);
        assert_eq!(store.applied(), slot);
        out
    }

    fn register(store: &mut Store, time_us: u64) -> SessionId {
        match apply(store, time_us, &[registration(9)])[0].outcome {
            Outcome::Registered(id) => id,
            ref other => panic!("registration answered {other:?}"),
        }
    }

    fn reply(applied: &Applied) -> Reply {
        match &applied.outcome {
            Outcome::Reply(bytes) => decode_reply(bytes).unwrap(),
            other => panic!("{:?} answered {other:?}", applied.id),
        }
    }

    #[test]
    fn a_batch_is_applied_in_order() {
        let mut store = Store::new();
        assert_eq!((store.applied(), store.keys(), store.sessions()), (Slot(0), 0, 0));
        let id = register(&mut store, 1);
        let key = b"k";
        let out = apply(
            &mut store,
            2,
            &[
                command(id, 1, 1, Command::Create { key, value: b"1" }),
                registration(4),
                command(id, 2, 1, Command::Incr { key, by: 41 }),
                command(id, 3, 1, Command::Create { key, value: b"2" }),
            ],
        );
        assert_eq!(reply(&out[0]), Reply::Done);
        assert!(matches!(out[1].outcome, Outcome::Registered(new) if new != id));
        assert_eq!(reply(&out[2]), Reply::Integer(42));
        assert_eq!(reply(&out[3]), Reply::Failed(Failure::Exists));
        assert_eq!(store.query(&Query::Get { key }), Reply::Value(Some(b"42".to_vec())));
        assert_eq!((store.keys(), store.sessions()), (1, 2));
    }

    /// A no-op fills its slot and changes nothing else.
    #[test]
    fn a_noop_only_moves_on() {
        let mut store = Store::new();
        register(&mut store, 5);
        let (digest, mut out) = (store.digest(), Vec::new());
        store.apply(Slot(2), &Value::noop(), &mut out);
        assert_eq!((out.len(), store.applied(), store.digest()), (0, Slot(2), digest));
    }

    #[test]
    #[should_panic(expected = "does not follow")]
    fn a_slot_left_out_is_a_bug() {
        Store::new().apply(Slot(2), &Value::noop(), &mut Vec::new());
    }

    /// Two copies of a command, chosen in two slots because a client sent it through two replicas.
    #[test]
    fn a_command_in_the_log_twice_is_applied_once() {
        let mut store = Store::new();
        let id = register(&mut store, 1);
        let incr = command(id, 1, 1, Command::Incr { key: b"n", by: 1 });
        for time_us in 2..5 {
            let out = apply(&mut store, time_us, &[incr.clone(), incr.clone()]);
            assert!(out.iter().all(|applied| reply(applied) == Reply::Integer(1)));
        }
        // A failed condition is kept too, even when it would hold by the time of the repeat.
        let cas = Command::Cas { key: b"n", expect: Some(b"2"), value: b"x" };
        let mismatch = Reply::Failed(Failure::Mismatch { present: Some(b"1".to_vec()) });
        assert_eq!(reply(&apply(&mut store, 6, &[command(id, 2, 2, cas)])[0]), mismatch);
        let out = apply(&mut store, 7, &[command(id, 3, 2, Command::Incr { key: b"n", by: 1 })]);
        assert_eq!(reply(&out[0]), Reply::Integer(2));
        assert_eq!(reply(&apply(&mut store, 8, &[command(id, 2, 2, cas)])[0]), mismatch);
        assert_eq!(apply(&mut store, 9, &[incr])[0].outcome, Outcome::Stale);
    }

    /// A batch whose time expires a session refuses the commands of it that it carries.
    #[test]
    fn a_command_of_an_expired_session_is_refused() {
        let mut store = Store::new();
        let id = register(&mut store, 1);
        let put = command(id, 1, 1, Command::Put { key: b"k", value: b"v" });
        let late = 2 + crate::limits::SESSION_IDLE_US_MAX;
        assert_eq!(apply(&mut store, late, &[put])[0].outcome, Outcome::SessionExpired);
        assert_eq!((store.keys(), store.sessions()), (0, 0));
    }

    /// Bytes that are no command must neither stop a replica nor change the store.
    #[test]
    fn a_payload_that_does_not_decode_is_invalid() {
        let mut store = Store::new();
        let id = register(&mut store, 1);
        let long = vec![0; crate::limits::KEY_SIZE_MAX + 1];
        let put = encode_command(&Command::Put { key: b"k", value: b"v" });
        let long = encode_command(&Command::Put { key: &long, value: b"v" });
        for (seq, payload) in [(1, &b""[..]), (2, &put[..9]), (3, &[0xff; 40]), (4, &long)] {
            let out = apply(&mut store, 1, &[raw(id, seq, 1, payload)]);
            assert_eq!(reply(&out[0]), Reply::Failed(Failure::Invalid));
        }
        assert_eq!(store.keys(), 0);
        // It used its number up.
        let out = apply(&mut store, 1, &[raw(id, 1, 1, &put)]);
        assert_eq!(reply(&out[0]), Reply::Failed(Failure::Invalid));
    }

    /// The same content, reached by other commands in other orders and batches, with keys and
    /// replies that came and went, has the same digest; any difference changes it.
    #[test]
    fn the_digest_tells_the_content_and_not_its_history() {
        let put = |key, value| Command::Put { key, value };
        let mut one = Store::new();
        let id = register(&mut one, 1);
        apply(&mut one, 1, &[command(id, 1, 1, put(b"a", b"1"))]);
        apply(&mut one, 1, &[command(id, 2, 1, put(b"b", b"2"))]);
        apply(&mut one, 7, &[command(id, 5, 5, put(b"c", b"3"))]);

        let mut two = Store::new();
        assert_eq!(register(&mut two, 0), id);
        apply(
            &mut two,
            6,
            &[
                command(id, 4, 1, put(b"c", b"30")),
                command(id, 3, 1, Command::Create { key: b"gone", value: b"" }),
                command(id, 2, 1, Command::Incr { key: b"b", by: 2 }),
                command(id, 1, 1, Command::Delete { key: b"gone" }),
            ],
        );
        assert_ne!(one.digest(), two.digest());
        let out = apply(
            &mut two,
            7,
            &[
                command(id, 6, 3, put(b"c", b"3")),
                command(id, 5, 5, Command::Cas { key: b"a", expect: None, value: b"1" }),
            ],
        );
        assert!(out.iter().all(|applied| reply(applied) == Reply::Done));
        // The contents differ by one kept reply, until both sessions keep the same.
        assert_ne!(one.digest(), two.digest());
        apply(&mut one, 7, &[command(id, 7, 7, put(b"c", b"3"))]);
        apply(&mut two, 7, &[command(id, 7, 7, put(b"a", b"1"))]);
        assert_eq!(one.digest(), two.digest());
        apply(&mut two, 8, &[]);
        assert_ne!(one.digest(), two.digest(), "the time is part of the state");
    }

    /// A long random history: the digest kept along the way is that of the state from scratch,
    /// replicas agree on everything, and nothing is kept over its limit.
    #[test]
    fn random_histories_keep_the_digest_and_agree() {
        for seed in 1..=8 {
            let mut random = Random(seed);
            let (mut one, mut two) = (Store::new(), Store::new());
            let (mut ids, mut time_us) = (vec![SessionId(77)], 0);
            for _ in 0..300 {
                time_us += random.below(1 + crate::limits::SESSION_IDLE_US_MAX / 8);
                let commands: Vec<batch::Command> =
                    (0..random.below(6)).map(|_| random_command(&mut random, &ids)).collect();
                // Now and then a leader's clock is behind.
                let stamp = time_us - random.below(1 + time_us / 4);
                let out = apply(&mut one, stamp, &commands);
                assert_eq!(apply(&mut two, stamp, &commands), out);
                for applied in out {
                    if let Outcome::Registered(id) = applied.outcome {
                        ids.push(id);
                    }
                }
                assert_eq!(one.digest(), one.digest_from_scratch());
                assert_eq!(one.digest(), two.digest());
            }
            assert!(one.keys() > 0 && one.images() > 0);
            assert!(one.sessions() > 0 && one.sessions() < ids.len() - 1);
        }
    }

    fn random_command(random: &mut Random, ids: &[SessionId]) -> batch::Command {
        if random.below(20) == 0 {
            return registration(random.below(u64::MAX));
        }
        // Mostly one of the last few sessions: those before have often expired.
        let back = random.below(ids.len().min(4) as u64) as usize;
        let id = ids[ids.len() - 1 - back];
        let ack = random.below(20);
        let seq = ack + random.below(8);
        let key = [b'a' + random.below(6) as u8];
        let key = &key[..];
        let value = &b"12345678901234567890123"[..random.below(24) as usize];
        let expect = (random.below(2) == 0).then_some(&b"1"[..]);
        let by = random.below(100) as i64 - 50;
        let hash = &[b'a' + by.unsigned_abs() as u8 % 3, b'a' + value.len() as u8 % 6][..];
        let (set, delete) =
            (Command::SetImage { hash, meta: value }, Command::DeleteImage { hash: &hash[1..] });
        // Mostly undone: there is seldom an image with so short a hash.
        let then = [set, Command::SetImage { hash: key, meta: b"" }, delete].map(Step::Key).into();
        let together = encode_transaction(&Transaction { then, ..Transaction::default() });
        let kv = match random.below(10) {
            0 => Command::Put { key, value },
            1 => Command::Create { key, value },
            2 => Command::Update { key, value },
            3 => Command::Delete { key },
            4 => Command::Cas { key, expect, value },
            5 => Command::Incr { key, by },
            6 => set,
            7 => Command::DeleteImage { hash },
            8 => Command::Transaction(&together),
            _ => return raw(id, seq, ack, value),
        };
        command(id, seq, ack, kv)
    }

    /// SplitMix64: enough for tests, and the same histories for ever.
    pub(super) struct Random(pub u64);

    impl Random {
        pub fn below(&mut self, end: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % end
        }
    }
}
