//! Tests of the log as a whole that need its insides: syncs that are held back or fail, and which
//! files they touch. Crash images are in `tests/wal_crash.rs`.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::paxos::{RecoveredSlot, Value};

use super::*;

const IDENTITY: Identity = Identity { cluster: ClusterId(0x1122), node: NodeId(1) };
const OPTIONS: Options = Options { segment_size: 16 * 1024, sync: true };

/// A log whose syncs end when and how the test says.
struct Gated {
    wal: Wal,
    permits: Sender<io::Result<()>>,
    woken: Receiver<()>,
    /// Inodes, in the order in which they were synced.
    synced: Receiver<u64>,
}

fn open(dir: &Path, options: Options) -> Result<(Wal, Recovered), WalError> {
    Wal::open(dir, IDENTITY, options, Box::new(|| ()), &mut |_, _| ())
}

fn gated(dir: &Path) -> Gated {
    let (permits, permits_in) = channel::<io::Result<()>>();
    let (woken_out, woken) = channel();
    let (synced_out, synced) = channel();
    let wake = Box::new(move || woken_out.send(()).unwrap());
    let sync_file = Box::new(move |file: &File| {
        synced_out.send(file.metadata()?.ino()).unwrap();
        permits_in.recv().unwrap()
    });
    let disk = FileDisk::open_with(dir, wake, sync_file).unwrap();
    let (wal, _) = Wal::open_on(disk, IDENTITY, OPTIONS, &mut |_, _| ()).unwrap();
    Gated { wal, permits, woken, synced }
}

fn accepted(slot: u64, size: usize) -> Record {
    let value = Value(vec![slot as u8; size].into());
    Record::Accepted { ballot: Ballot { round: 1, node: NodeId(1) }, slot: Slot(slot), value }
}

/// If a sync counted for records appended while it ran, a crash could lose what was answered.
#[test]
fn a_sync_covers_what_was_appended_before_it_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = gated(dir.path());
    assert!(!log.wal.start_sync().unwrap(), "there is nothing to sync");
    assert_eq!(log.wal.append(&accepted(1, 10)).unwrap(), LogPosition(1));
    assert_eq!(log.wal.append(&accepted(2, 10)).unwrap(), LogPosition(2));
    assert!(log.wal.start_sync().unwrap());
    assert_eq!(log.wal.append(&accepted(3, 10)).unwrap(), LogPosition(3));
    assert!(log.wal.start_sync().unwrap(), "one is in flight already");
    assert!(log.wal.poll_sync().unwrap().is_none());
    assert_eq!(log.wal.durable(), LogPosition(0));

    log.permits.send(Ok(())).unwrap();
    log.woken.recv().unwrap();
    let done = log.wal.poll_sync().unwrap().unwrap();
    assert_eq!(done.position, LogPosition(2));
    assert_eq!((log.wal.durable(), log.wal.end()), (LogPosition(2), LogPosition(3)));
    assert!(log.wal.poll_sync().unwrap().is_none());
    assert_eq!(log.wal.syncs(), 1);

    // The next record carries what is durable by now: that is what recovery proves damage with.
    log.wal.append(&accepted(4, 10)).unwrap();
    let carried = |slot| {
        let at = log.wal.index.find(Slot(slot)).unwrap();
        let seed = record::Seed::new(log.wal.meta.log.random, 1).at(at.offset as usize);
        let bytes = log.wal.segments[0].record_at(at.offset as usize);
        Stored::decode(bytes, seed).unwrap().unwrap().durable
    };
    assert_eq!((carried(3), carried(4)), (0, 2));

    log.permits.send(Ok(())).unwrap();
    log.wal.sync_now().unwrap();
    assert_eq!(log.wal.durable(), LogPosition(4));
    assert_eq!(log.wal.syncs(), 2);
    assert!(!log.wal.start_sync().unwrap());
}

/// A batch that began in one segment and ended in the next is durable only with both files.
#[test]
fn a_batch_over_two_segments_syncs_both() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = gated(dir.path());
    let inode =
        |number| fs::metadata(segment::path_in(&dir.path().join("wal"), number)).unwrap().ino();
    log.wal.append(&accepted(1, 12_000)).unwrap();
    log.wal.append(&accepted(2, 12_000)).unwrap();
    assert_eq!(log.wal.segments.len(), 2);
    log.permits.send(Ok(())).unwrap();
    log.permits.send(Ok(())).unwrap();
    log.wal.sync_now().unwrap();
    assert_eq!(log.synced.try_iter().collect::<Vec<_>>(), [inode(1), inode(2)]);

    // The first one is not touched any more.
    log.wal.append(&accepted(3, 10)).unwrap();
    log.permits.send(Ok(())).unwrap();
    log.wal.sync_now().unwrap();
    assert_eq!(log.synced.try_iter().collect::<Vec<_>>(), [inode(2)]);
}

/// After a failed sync the page cache can't be trusted: a retry would succeed and prove nothing.
#[test]
fn a_failed_sync_is_final() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = gated(dir.path());
    log.wal.append(&accepted(1, 10)).unwrap();
    assert!(log.wal.start_sync().unwrap());
    log.permits.send(Err(io::Error::other("the disk is gone"))).unwrap();
    log.woken.recv().unwrap();
    let error = log.wal.poll_sync().unwrap_err();
    assert!(error.to_string().contains("the disk is gone"), "{error}");
    assert!(error.to_string().contains("0000000000000001.seg"), "{error}");
    for again in [
        log.wal.poll_sync().map(|_| ()),
        log.wal.start_sync().map(|_| ()),
        log.wal.sync_now(),
        log.wal.append(&accepted(2, 10)).map(|_| ()),
    ] {
        assert!(matches!(again, Err(WalError::SyncFailed { .. })));
    }
    assert_eq!(log.wal.durable(), LogPosition(0));
    assert_eq!(log.synced.try_iter().count(), 1, "the disk was not asked again");
}

/// The last record of a slot counts, in the running log as after a restart.
#[test]
fn read_gives_the_last_value_of_a_slot() {
    let dir = tempfile::tempdir().unwrap();
    let ballot = |round| Ballot { round, node: NodeId(2) };
    let value = |text: &str| Value(text.as_bytes().into());
    {
        let (mut wal, recovered) = open(dir.path(), OPTIONS).unwrap();
        assert_eq!(recovered, Recovered { first_unchosen: Slot(1), ..Recovered::default() });
        for record in [
            Record::OwnBallot(Ballot { round: 4, node: NodeId(1) }),
            Record::Promised(ballot(9)),
            Record::Accepted { ballot: ballot(3), slot: Slot(5), value: value("old") },
            Record::Accepted { ballot: ballot(5), slot: Slot(5), value: value("new") },
            Record::Chosen { ballot: ballot(4), slot: Slot(7), value: Value::noop() },
            Record::Accepted { ballot: ballot(5), slot: Slot(4), value: value("below") },
            Record::FirstUnchosen(Slot(5)),
        ] {
            wal.append(&record).unwrap();
        }
        assert_eq!(wal.read(Slot(5)), Some((ballot(5), &b"new"[..])));
        assert_eq!(wal.read(Slot(7)), Some((ballot(4), &b""[..])));
        assert_eq!(wal.read(Slot(6)), None);
        assert_eq!(wal.held(), (Slot(4), Slot(8)));
        wal.sync_now().unwrap();
    }
    let (mut wal, recovered) = open(dir.path(), OPTIONS).unwrap();
    let slot = |slot, round, text, chosen| RecoveredSlot {
        slot: Slot(slot),
        ballot: ballot(round),
        value: value(text),
        chosen,
    };
    assert_eq!(
        recovered,
        Recovered {
            promised: ballot(9),
            own_ballot: Ballot { round: 4, node: NodeId(1) },
            first_unchosen: Slot(5),
            tail: vec![slot(5, 5, "new", false), slot(7, 4, "", true)],
            ..Recovered::default()
        }
    );
    assert_eq!((wal.end(), wal.durable()), (LogPosition(7), LogPosition(7)));
    assert_eq!(wal.read(Slot(4)), Some((ballot(5), &b"below"[..])));
    assert_eq!(wal.append(&accepted(9, 1)).unwrap(), LogPosition(8));
}

/// Many segments, of sizes that change between runs: every value is still found.
#[test]
fn segments_roll_over_and_may_change_their_size() {
    let dir = tempfile::tempdir().unwrap();
    let mut slot = 0;
    for segment_size in [8 * 1024, 64 * 1024, 8 * 1024, 20_000] {
        let options = Options { segment_size, sync: true };
        let (mut wal, recovered) = open(dir.path(), options).unwrap();
        assert_eq!(recovered.tail.len() as u64, slot);
        for _ in 0..40 {
            slot += 1;
            wal.append(&accepted(slot, slot as usize * 17 % 3000)).unwrap();
            wal.start_sync().unwrap();
        }
        for slot in 1..=slot {
            let (_, value) = wal.read(Slot(slot)).unwrap();
            assert_eq!(value.len(), slot as usize * 17 % 3000);
            assert!(value.iter().all(|byte| *byte == slot as u8));
        }
        assert!(3 <= wal.segments.len());
        wal.sync_now().unwrap();
    }
}

/// Records that fill a segment to its last byte, and records that no segment can hold.
#[test]
fn the_largest_record_fills_a_segment() {
    let dir = tempfile::tempdir().unwrap();
    let room = 16 * 1024 - segment::HEADER_SIZE - record::HEADER_SIZE;
    {
        let (mut wal, _) = open(dir.path(), OPTIONS).unwrap();
        for slot in 1..=3 {
            wal.append(&accepted(slot, room)).unwrap();
        }
        assert_eq!(wal.segments.len(), 3);
        let error = wal.append(&accepted(4, room + 1)).unwrap_err();
        assert!(matches!(error, WalError::TooLarge { .. }), "{error}");
        wal.sync_now().unwrap();
    }
    let large = Options { segment_size: 8 * 1024 * 1024, sync: true };
    let (mut wal, recovered) = open(dir.path(), large).unwrap();
    assert_eq!(recovered.tail.len(), 3);
    wal.append(&accepted(4, SLOT_VALUE_SIZE_MAX)).unwrap();
    assert!(wal.append(&accepted(5, SLOT_VALUE_SIZE_MAX + 1)).is_err());
    assert_eq!(wal.read(Slot(4)).unwrap().1.len(), SLOT_VALUE_SIZE_MAX);
}

/// Without syncs nothing may be written that claims durability: a later run with syncs would take
/// an ordinary torn tail for damage.
#[test]
fn the_laboratory_log_claims_no_durability_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { sync: false, ..OPTIONS };
    let (mut wal, _) = open(dir.path(), options).unwrap();
    for slot in 1..=30 {
        wal.append(&accepted(slot, 1000)).unwrap();
        assert_eq!(wal.durable(), wal.end());
        assert!(!wal.start_sync().unwrap());
    }
    wal.sync_now().unwrap();
    assert_eq!((wal.syncs(), wal.synced), (0, 0));
    drop(wal);
    let (wal, recovered) = open(dir.path(), OPTIONS).unwrap();
    assert_eq!((recovered.tail.len(), wal.synced), (30, 30));
}

/// The names of the segments that are there.
fn segment_numbers(dir: &Path) -> Vec<u64> {
    files::list(&dir.join("wal")).unwrap()
}

/// What lies below a jump was accepted, and may have lost: it is there, and is not told to be contiguous with
/// what was chosen behind, after a restart no more than before.
#[test]
fn the_log_begins_at_a_jump() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (mut wal, _) = open(dir.path(), OPTIONS).unwrap();
        for slot in 1..=6 {
            wal.append(&accepted(slot, 10)).unwrap();
        }
        assert_eq!(wal.log_begin(Slot(7)), Slot(1));
        wal.append(&Record::Jumped(Slot(5))).unwrap();
        assert_eq!(wal.log_begin(Slot(7)), Slot(5));
        wal.sync_now().unwrap();
    }
    let (mut wal, recovered) = open(dir.path(), OPTIONS).unwrap();
    assert_eq!((recovered.first_unchosen, recovered.log_begin), (Slot(5), Slot(5)));
    assert_eq!(recovered.tail.len(), 2);
    assert_eq!(wal.log_begin(Slot(7)), Slot(5));
}

/// What is below the slot goes, as whole segments, once it is durable; what was promised in it stays.
#[test]
fn truncation_removes_what_is_below_and_forgets_no_promise() {
    let dir = tempfile::tempdir().unwrap();
    let high = Ballot { round: 9, node: NodeId(3) };
    let own = Ballot { round: 8, node: NodeId(1) };
    {
        let (mut wal, _) = open(dir.path(), OPTIONS).unwrap();
        for slot in 1..=4 {
            wal.append(&accepted(slot, 6000)).unwrap();
        }
        wal.append(&Record::Promised(high)).unwrap();
        wal.append(&Record::OwnBallot(own)).unwrap();
        wal.append(&Record::FirstUnchosen(Slot(5))).unwrap();
        assert_eq!(wal.truncate_before(Slot(5)).unwrap(), 0, "nothing is durable yet");
        let ballot = Ballot { round: 9, node: NodeId(3) };
        for slot in 5..=9 {
            let value = Value(vec![slot as u8; 6000].into());
            wal.append(&Record::Accepted { ballot, slot: Slot(slot), value }).unwrap();
        }
        wal.sync_now().unwrap();
        assert_eq!(wal.segments.len(), 5);
        assert_eq!(wal.log_begin(Slot(10)), Slot(1));
        assert_eq!(wal.truncate_before(Slot(1)).unwrap(), 0);
        // Slot 5 shares its segment with nothing that is needed, and yet is needed.
        assert_eq!(wal.truncate_before(Slot(5)).unwrap(), 2);
        assert_eq!((wal.read(Slot(4)), wal.held()), (None, (Slot(5), Slot(10))));
        assert_eq!((wal.log_begin(Slot(10)), wal.log_begin(Slot(5))), (Slot(5), Slot(5)));
        assert_eq!(wal.read(Slot(5)).unwrap().1.len(), 6000);
        assert_eq!(wal.size(), 3 * OPTIONS.segment_size);
    }
    assert_eq!(segment_numbers(dir.path())[0], 3);
    let (mut wal, recovered) = open(dir.path(), OPTIONS).unwrap();
    assert_eq!((recovered.promised, recovered.own_ballot), (high, own));
    assert_eq!((recovered.first_unchosen, recovered.tail.len()), (Slot(5), 5));
    assert_eq!(wal.log_begin(Slot(10)), Slot(5));
    let end = wal.end();
    assert_eq!(wal.append(&accepted(10, 10)).unwrap(), LogPosition(end.0 + 1));
    // All of it, but for the segment that is appended to.
    wal.sync_now().unwrap();
    while wal.truncate_before(Slot(11)).unwrap() == 0 {
        std::thread::yield_now();
    }
    assert_eq!(wal.segments.len(), 1);
    drop(wal);
    let (_, recovered) = open(dir.path(), OPTIONS).unwrap();
    assert_eq!((recovered.promised, recovered.own_ballot), (high, own));
    assert_eq!(inspect(dir.path(), &mut io::sink()).unwrap(), Verdict::Clean);
}

/// Segments go round: each new one is the file of one that was truncated, full of old records, and a log whose
/// process ends anywhere in it is read as what was appended last. What was read after it was written, or by the
/// start of a process, is not used again: its pages may be large folios.
#[test]
fn truncated_segments_are_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let files = |dir: &Path| -> Vec<u64> {
        let wal_dir = segment::dir_in(dir);
        let path = |number: &u64| segment::path_in(&wal_dir, *number);
        segment_numbers(dir).iter().map(|it| fs::metadata(path(it)).unwrap().ino()).collect()
    };
    let (mut wal, _) = open(dir.path(), OPTIONS).unwrap();
    let mut known = std::collections::BTreeSet::new();
    let (mut slot, mut reused) = (0, 0);
    for round in 0..12 {
        // Three segments more, with records of other sizes, so that old ones end elsewhere than new ones.
        while wal.segments.len() < 4 {
            slot += 1;
            wal.append(&accepted(slot, 200 + 37 * (slot as usize % 40))).unwrap();
            wal.append(&Record::FirstUnchosen(Slot(slot + 1))).unwrap();
        }
        wal.sync_now().unwrap();
        if round == 6 {
            drop(wal);
            wal = open(dir.path(), OPTIONS).unwrap().0;
        }
        let begin = wal.log_begin(Slot(slot + 1));
        let now = files(dir.path());
        reused += now.iter().filter(|it| known.contains(*it)).count();
        known.extend(now);
        while wal.truncate_before(Slot(slot)).unwrap() == 0 {
            std::thread::yield_now();
        }
        while wal.disk.is_removing() {
            std::thread::yield_now();
        }
        // What is left is read back as it is.
        let copy = tempfile::tempdir().unwrap();
        copy_log(dir.path(), copy.path());
        assert_eq!(inspect(copy.path(), &mut io::sink()).unwrap(), Verdict::Clean);
        let (mut read, recovered) = open(copy.path(), OPTIONS).unwrap();
        assert_eq!((recovered.first_unchosen, read.end()), (Slot(slot + 1), wal.end()));
        assert!(read.lost().is_empty() && begin <= read.log_begin(Slot(slot + 1)));
        assert_eq!(read.read(Slot(slot)).unwrap(), wal.read(Slot(slot)).unwrap());
    }
    assert!(12 <= reused, "{reused} segments were used again");
}

/// The files of a log as a process that ends now would leave them.
fn copy_log(from: &Path, to: &Path) {
    fs::create_dir(segment::dir_in(to)).unwrap();
    fs::copy(meta::path_in(from), meta::path_in(to)).unwrap();
    for number in segment_numbers(from) {
        let [from, to] = [from, to].map(|dir| segment::path_in(&segment::dir_in(dir), number));
        fs::copy(from, to).unwrap();
    }
}

/// A segment lost the record of a slot far above those that it still has: it stays until that one is known
/// elsewhere, or nobody would know any more that something was accepted there.
#[test]
fn what_tells_of_a_loss_stays_as_long_as_it_matters() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = open(dir.path(), OPTIONS).unwrap();
    for slot in [1, 9, 2, 3, 4, 5, 6] {
        wal.append(&accepted(slot, 6000)).unwrap();
        wal.sync_now().unwrap();
    }
    drop(wal);
    let path = segment::path_in(&dir.path().join("wal"), 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[segment::HEADER_SIZE + 9000] ^= 1;
    fs::write(&path, bytes).unwrap();

    let (mut wal, recovered) = open(dir.path(), OPTIONS).unwrap();
    assert_eq!(wal.lost().len(), 1);
    assert!(recovered.unsure.contains(Slot(9)));
    assert_eq!(wal.truncate_before(Slot(7)).unwrap(), 0);
    drop(wal);
    let (mut wal, recovered) = open(dir.path(), OPTIONS).unwrap();
    assert!(recovered.unsure.contains(Slot(9)));
    assert_eq!(wal.truncate_before(Slot(10)).unwrap(), 3);
}

/// A truncation is broken off after any of its steps: the next start finishes it. A segment that goes
/// without it is missed.
#[test]
fn a_truncation_can_be_broken_off_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = open(dir.path(), OPTIONS).unwrap();
    for slot in 1..=9 {
        wal.append(&accepted(slot, 6000)).unwrap();
        wal.sync_now().unwrap();
    }
    let before = tempfile::tempdir().unwrap();
    fs::create_dir(before.path().join("wal")).unwrap();
    let copy = |name: &str| {
        fs::copy(dir.path().join(name), before.path().join(name)).unwrap();
    };
    let name = |number| format!("wal/{number:016}.seg");
    (1..=5).for_each(|number| copy(&name(number)));
    assert_eq!(wal.truncate_before(Slot(7)).unwrap(), 3);
    drop(wal);
    let truncated = segment_numbers(dir.path());
    for left in [vec![1, 2, 3], vec![2, 3], vec![3]] {
        for number in &left {
            fs::copy(before.path().join(name(*number)), dir.path().join(name(*number))).unwrap();
        }
        assert_eq!(inspect(dir.path(), &mut io::sink()).unwrap(), Verdict::Clean);
        let (wal, recovered) = open(dir.path(), OPTIONS).unwrap();
        assert_eq!((wal.held(), wal.end()), ((Slot(7), Slot(10)), LogPosition(9)));
        assert_eq!(recovered.first_unchosen, Slot(7), "what was truncated is chosen");
        drop(wal);
        assert_eq!(segment_numbers(dir.path())[..2], truncated[..2]);
    }
    fs::remove_file(dir.path().join(name(4))).unwrap();
    let (wal, recovered) = open(dir.path(), OPTIONS).unwrap();
    assert_eq!((wal.lost()[0].segment, wal.lost()[0].sequences.clone()), (4, 7..9));
    let unsure: Vec<_> = recovered.unsure.runs_in(Slot(0)..Slot(99)).collect();
    assert_eq!(unsure, [Slot(7)..Slot(9)]);
}

/// Two processes on one log would interleave their records.
#[test]
fn a_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let held = open(dir.path(), OPTIONS).unwrap();
    let error = open(dir.path(), OPTIONS).err().unwrap();
    assert!(matches!(error, WalError::Locked { .. }), "{error}");
    let error = inspect(dir.path(), &mut io::sink()).unwrap_err();
    assert!(matches!(error, WalError::Locked { .. }), "{error}");
    drop(held);
    assert_eq!(inspect(dir.path(), &mut io::sink()).unwrap(), Verdict::Clean);
    open(dir.path(), OPTIONS).unwrap();
}

/// A node started on another's directory would vote with the other's promises.
#[test]
fn another_nodes_directory_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), OPTIONS).unwrap());
    for (cluster, node) in [(0x1122, 2), (0x3344, 1)] {
        let other = Identity { cluster: ClusterId(cluster), node: NodeId(node) };
        let error = Wal::open(dir.path(), other, OPTIONS, Box::new(|| ()), &mut |_, _| ())
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("node 1 of cluster 0000000000001122"), "{error}");
        assert!(error.contains(&other.to_string()), "{error}");
    }
}

/// A crash while the directory was created must not need an operator; a lost `meta` must.
#[test]
fn only_an_interrupted_creation_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), OPTIONS).unwrap());
    fs::remove_file(meta::path_in(dir.path())).unwrap();
    fs::remove_file(segment::path_in(&dir.path().join("wal"), 2)).ok();
    fs::write(dir.path().join("wal/0000000000000002.tmp"), b"half").unwrap();
    let (mut wal, _) = open(dir.path(), OPTIONS).unwrap();
    wal.append(&accepted(1, 10)).unwrap();
    wal.sync_now().unwrap();
    drop(wal);

    fs::remove_file(meta::path_in(dir.path())).unwrap();
    let error = open(dir.path(), OPTIONS).err().unwrap();
    assert!(matches!(error, WalError::MetaMissing { .. }), "{error}");
}

#[test]
fn a_useless_segment_size_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for segment_size in [0, 8191, 1 << 32, u64::MAX] {
        let error = open(dir.path(), Options { segment_size, sync: true }).err().unwrap();
        assert!(error.to_string().contains(&segment_size.to_string()), "{error}");
    }
}
