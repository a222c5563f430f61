//! Every maximum of the program, with its unit, in one place.
//!
//! A limit that an operator may want to move has its default here and its key in `config`; the rest
//! are fixed, because peers rely on them.

/// Largest key, in bytes.
pub const KEY_SIZE_MAX: usize = 4 * 1024;
/// Largest value of one key, in bytes.
pub const VALUE_SIZE_MAX: usize = 1024 * 1024;
/// Largest hash of an image, in bytes.
pub const IMAGE_HASH_SIZE_MAX: usize = 128;
/// Most bits that images may differ by and be asked for as near.
pub const IMAGE_WITHIN_MAX: u32 = 8 * IMAGE_HASH_SIZE_MAX as u32;
/// Largest encoded command (key, value, expected value and framing), in bytes.
pub const COMMAND_SIZE_MAX: usize = 2 * VALUE_SIZE_MAX + KEY_SIZE_MAX + 1024;
/// A batch is closed once it holds this many bytes; one command more may overshoot it.
pub const BATCH_SIZE_SOFT_MAX: usize = 1024 * 1024;
/// Commands in one batch. Session ids are made of slot and position, hence the power of two.
pub const BATCH_COMMANDS_MAX: usize = 4096;
/// Largest value of one slot, in bytes.
pub const SLOT_VALUE_SIZE_MAX: usize = BATCH_SIZE_SOFT_MAX + COMMAND_SIZE_MAX + 64 * 1024;

/// Largest head (the bincode part) of a frame, in bytes.
pub const FRAME_HEAD_SIZE_MAX: usize = 1024 * 1024;
/// Largest bulk (the raw part) of a frame, in bytes.
pub const FRAME_BULK_SIZE_MAX: usize = 8 * 1024 * 1024;

/// Values sent in one P2a, P1b or Chosen message stop after this many bytes (one value may
/// overshoot it).
pub const MESSAGE_VALUES_SIZE_SOFT_MAX: usize = 1024 * 1024;
/// Values in one such message.
pub const MESSAGE_VALUES_MAX: usize = 1024;

/// Bytes of a snapshot that go in one message: few enough that what else is to be said to that peer does
/// not wait long.
pub const SNAPSHOT_CHUNK_SIZE: usize = 256 * 1024;
/// The most that may be asked for in one message.
pub const SNAPSHOT_CHUNK_SIZE_MAX: usize = 1024 * 1024;
/// Chunks that a node has asked for and that are not there yet.
pub const SNAPSHOT_CHUNKS_IN_FLIGHT: usize = 4;
/// Bytes of a snapshot: more than any machine holds in memory.
pub const SNAPSHOT_SIZE_MAX: u64 = 1 << 44;

/// Alpha: a configuration chosen in a slot governs from so many slots further on. The same at all nodes of
/// a cluster for ever, so it is no option; no leader has more than this proposed and not yet chosen.
pub const ALPHA_SLOTS: usize = 256;
/// Default of `window_slots`: slots that a leader may have proposed and not yet chosen.
pub const WINDOW_SLOTS_DEFAULT: usize = 256;
/// Bytes of P2a that a leader sends to one acceptor ahead of its acknowledgement.
pub const STREAM_UNACKED_SIZE_MAX: usize = 16 * 1024 * 1024;
/// An acceptor takes no pvalue further than this above its own first unchosen slot: it catches up
/// first, so that its memory stays bounded.
pub const ACCEPTOR_AHEAD_SLOTS_MAX: usize = 4096;
/// The same in bytes of accepted values not known to be chosen.
pub const ACCEPTOR_AHEAD_SIZE_MAX: usize = 128 * 1024 * 1024;
/// How many slots a learner may be behind the leader to be promoted: an acceptor that is further behind
/// than `ACCEPTOR_AHEAD_SLOTS_MAX` has no vote on what is proposed.
pub const PROMOTE_BEHIND_SLOTS_MAX: usize = 1024;
/// Bytes that a leader may have proposed and not yet chosen; one batch may overshoot it.
pub const WINDOW_SIZE_SOFT_MAX: usize = 32 * 1024 * 1024;

/// Commands of one session that may be in flight: replies kept until acknowledged.
pub const SESSION_WINDOW_MAX: usize = 1024;
/// Sessions kept at once; the one unused for longest is expired first.
pub const SESSIONS_MAX: usize = 65_536;
/// Log time without a command after which a session expires, in microseconds (one day).
pub const SESSION_IDLE_US_MAX: u64 = 24 * 60 * 60 * 1_000_000;

/// Commands waiting at one replica for their decision; at the limit clients are made to wait.
pub const PENDING_COMMANDS_MAX: usize = 16_384;
/// Bytes of such commands.
pub const PENDING_SIZE_MAX: usize = 64 * 1024 * 1024;
/// Bytes of them that a replica has handed to the leader; one command may overshoot it.
pub const HANDED_SIZE_SOFT_MAX: usize = 16 * 1024 * 1024;
/// Reads waiting at one replica.
pub const PENDING_READS_MAX: usize = 16_384;

/// Commands, and their bytes, that wait at a leader for its window; above, replicas hand them over
/// again later.
pub const LEADER_QUEUE_COMMANDS_MAX: usize = 8 * PENDING_COMMANDS_MAX;
pub const LEADER_QUEUE_SIZE_MAX: usize = 4 * PENDING_SIZE_MAX;

/// Default number of client connections of one node.
pub const CLIENTS_MAX_DEFAULT: usize = 4096;
/// Descriptors that clients leave to the log and to peers, and peers half of them to the log: a log
/// that cannot make its next segment ends the node.
pub const DESCRIPTORS_RESERVED: usize = 2 * NODES_MAX;
/// Bytes waiting to be sent to one client; at the limit we stop reading its requests.
pub const CLIENT_OUT_SIZE_MAX: usize = 4 * 1024 * 1024;
/// Linearizable reads of one client that wait; at the limit we stop reading its requests.
pub const CLIENT_READS_MAX: usize = 1024;
/// Bytes waiting to be sent to one peer; at the limit the connection is closed and dialled again.
pub const PEER_OUT_SIZE_MAX: usize = 64 * 1024 * 1024;
/// Bytes read from one connection in one turn of the loop, so that no peer can starve the others.
pub const READ_BUDGET_PER_TURN: usize = 1024 * 1024;
/// Bytes read from all clients in one turn: what they send is copied and checked several times on its
/// way, and a turn must be short against an election timeout.
pub const CLIENTS_READ_BUDGET_PER_TURN: usize = 4 * READ_BUDGET_PER_TURN;

/// How long either side of a new connection may take for its first frame, in microseconds.
pub const HANDSHAKE_US_MAX: u64 = 2_000_000;
/// First and longest pause before a peer is dialled again, in microseconds.
pub const DIAL_PAUSE_US_MIN: u64 = 10_000;
pub const DIAL_PAUSE_US_MAX: u64 = 250_000;
/// A dialled peer that does not answer is given up and dialled again after so long at least, or after an
/// election timeout if that is longer.
pub const DIAL_ANSWER_US_MIN: u64 = 50_000;
/// Least time of silence after which a peer's connection is given up, in microseconds; the other
/// bound is four election timeouts.
pub const PEER_SILENCE_US_MIN: u64 = 300_000;
/// How long a sync may be under way before its disk counts as stalled, in microseconds; the other bound is
/// an election timeout. Disks that others use as well take some hundred milliseconds now and then.
pub const DISK_STALL_US_MIN: u64 = 300_000;
/// How long no connection to any peer stands before a node dials those too that should dial it.
pub const LONELY_US_MIN: u64 = 5_000_000;
/// How long a node that was asked to stop waits for what is in flight, in microseconds.
pub const STOP_US_MAX: u64 = 3_000_000;

/// Entries of one `scan` reply, whatever was asked for.
pub const SCAN_ENTRIES_MAX: usize = 10_000;
/// Bytes of one `scan` reply; one entry may overshoot it.
pub const SCAN_SIZE_SOFT_MAX: usize = 1024 * 1024;

/// Scans of several replies that one node holds, and how long one is held that nobody asks for, in microseconds.
pub const SCANS_HELD_MAX: usize = 64;
pub const SCAN_HELD_US_MAX: u64 = 30_000_000;

/// Keys whose time is over that one slot deletes: a thousand take a millisecond.
pub const EXPIRIES_PER_SLOT_MAX: usize = 1000;
/// Longest time that a key may be given, in microseconds (ten years).
pub const TTL_US_MAX: u64 = 3650 * 24 * 60 * 60 * 1_000_000;
/// Bytes of the last changes that a node keeps for watchers; the last slot may overshoot it.
pub const HISTORY_SIZE_MAX: usize = 16 * 1024 * 1024;
/// Bytes of changes sent in one message; those of one slot may overshoot it.
pub const CHANGES_SIZE_SOFT_MAX: usize = 256 * 1024;
/// Watches of one node, and of one connection.
pub const WATCHES_MAX: usize = 4096;
pub const WATCHES_PER_CLIENT_MAX: usize = 64;

/// Default and least size of a segment of the write-ahead log, in bytes.
pub const WAL_SEGMENT_SIZE_DEFAULT: u64 = 64 * 1024 * 1024;
pub const WAL_SEGMENT_SIZE_MIN: u64 = 8 * 1024 * 1024;

/// Default of `snapshot.log_mib`: growth of the log after which a snapshot is taken, in bytes.
pub const SNAPSHOT_LOG_SIZE_DEFAULT: u64 = 256 * 1024 * 1024;
/// Default of `snapshot.keep_slots`: slots kept in the log behind a snapshot, for peers that lag. None more
/// than are kept in any case: a slot may hold megabytes.
pub const SNAPSHOT_KEEP_SLOTS_DEFAULT: u64 = 0;
/// Default of `snapshot.transfer_mib_s`: how fast snapshots are sent to peers, in bytes a second.
pub const SNAPSHOT_TRANSFER_BYTES_S_DEFAULT: u64 = 64 * 1024 * 1024;
/// How long a node waits after a snapshot that could not be written, in microseconds.
pub const SNAPSHOT_RETRY_US: u64 = 30_000_000;
/// A replica notes the digest of its state at each slot that is a multiple of this.
pub const CHECKPOINT_SLOTS: u64 = 1024;
/// Such notes that are kept of each replica.
pub const CHECKPOINTS_MAX: usize = 8;
/// How long a quarantined replica waits after a snapshot that it could not get, in microseconds.
pub const QUARANTINE_RETRY_US: u64 = 1_000_000;
/// Bytes of the configurations that a snapshot carries.
pub const SNAPSHOT_CONFIGURATIONS_SIZE_MAX: usize = 1024 * 1024;

/// Nodes of a cluster.
pub const NODES_MAX: usize = 64;

// How the limits hang together.
const _: () = assert!(BATCH_COMMANDS_MAX.is_power_of_two());
const _: () = assert!(COMMAND_SIZE_MAX > 2 * VALUE_SIZE_MAX + KEY_SIZE_MAX);
const _: () = assert!(
    SLOT_VALUE_SIZE_MAX + MESSAGE_VALUES_SIZE_SOFT_MAX <= FRAME_BULK_SIZE_MAX,
    "a message that overshoots by one value must still fit a frame"
);
const _: () = assert!(IMAGE_HASH_SIZE_MAX <= KEY_SIZE_MAX, "an image takes no more than an entry");
const _: () = assert!(SNAPSHOT_CHUNK_SIZE <= SNAPSHOT_CHUNK_SIZE_MAX);
const _: () = assert!(SNAPSHOT_CHUNK_SIZE_MAX <= FRAME_BULK_SIZE_MAX);
const _: () = assert!(
    CHANGES_SIZE_SOFT_MAX + SLOT_VALUE_SIZE_MAX + EXPIRIES_PER_SLOT_MAX * (KEY_SIZE_MAX + 8)
        <= FRAME_BULK_SIZE_MAX,
    "the changes of a slot fit a frame: a command has the bytes of what it changes"
);
const _: () = assert!(SCAN_SIZE_SOFT_MAX + VALUE_SIZE_MAX + KEY_SIZE_MAX <= FRAME_BULK_SIZE_MAX);
const _: () = assert!(
    (SLOT_VALUE_SIZE_MAX as u64) * 2 <= WAL_SEGMENT_SIZE_MIN,
    "a record must fit a segment with room to spare"
);
const _: () = assert!(
    WINDOW_SLOTS_DEFAULT <= ALPHA_SLOTS && ALPHA_SLOTS <= ACCEPTOR_AHEAD_SLOTS_MAX,
    "a leader knows what governs the slots of its window, and an acceptor takes them"
);
const _: () = assert!(PROMOTE_BEHIND_SLOTS_MAX + ALPHA_SLOTS < ACCEPTOR_AHEAD_SLOTS_MAX);
const _: () = assert!(CLIENT_OUT_SIZE_MAX < PEER_OUT_SIZE_MAX);
const _: () = assert!(
    HANDED_SIZE_SOFT_MAX + STREAM_UNACKED_SIZE_MAX + 4 * FRAME_BULK_SIZE_MAX <= PEER_OUT_SIZE_MAX,
    "a peer that is merely slow must not lose its connection over what it is owed"
);

/// Instructions of SQLite's machine that one command may take: some 30 milliseconds, in which a node does nothing else,
/// and sends no heartbeats. That is 400,000 rows in an index, for example.
pub const SQL_STEPS_MAX: u64 = 5_000_000;
/// Bytes that a command may put aside, in sorts for example, beyond SQLite's cache.
pub const SQL_SCRATCH_SIZE_MAX: usize = 64 * 1024 * 1024;
/// Bytes of the rows that one statement of a command gives: replies are kept.
pub const SQL_ROWS_SIZE_MAX: usize = TRANSACTION_REPLY_SIZE_MAX;
/// Largest value in a database, and largest row, in bytes.
pub const SQL_VALUE_SIZE_MAX: usize = VALUE_SIZE_MAX;
/// Longest statement, in bytes.
pub const SQL_TEXT_SIZE_MAX: usize = VALUE_SIZE_MAX;
/// Pages of the database: 16 GiB.
pub const SQL_PAGES_MAX: u32 = 1 << 22;
/// Bytes of the reply to a transaction: it is kept like any other.
pub const TRANSACTION_REPLY_SIZE_MAX: usize = VALUE_SIZE_MAX / 2;
/// Bytes of the rows of a query that go in one reply.
pub const SQL_QUERY_ROWS_SIZE_MAX: usize = 4 * 1024 * 1024;
/// Queries of SQL that one node has under way.
pub const SQL_QUERIES_MAX: usize = 256;
/// Results, too large for one reply, that one node holds for its clients. Each keeps the database as it was.
pub const SQL_RESULTS_HELD_MAX: usize = 16;
/// How long a query may take for the rows of one reply, in microseconds. It runs beside the loop.
pub const SQL_QUERY_US_MAX: u64 = 2_000_000;
