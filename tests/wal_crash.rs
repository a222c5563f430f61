//! What crashes and bad disks may leave behind, played on copies of a data directory.
//!
//! A crash image is built from what the log looked like at the last sync and at every append since:
//! each page (or sector) of each file is taken from any of these versions, as if the disk had got
//! to it at that moment. Whatever comes out, recovery must yield a prefix of what was appended that
//! holds all that was durable. Damage must be refused by name, or cost nothing that matters.
#![allow(clippy::unwrap_used)] // The helpers of tests are tests, too.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};

use loggos::paxos::{Ballot, NodeId, Record, Recovered, RecoveredSlot, Slot, Value};
use loggos::wal::segment::HEADER_SIZE;
use loggos::wal::{Identity, LogPosition, Options, Verdict, Wal, WalError, inspect, record};
use loggos::wire::ClusterId;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

const IDENTITY: Identity = Identity { cluster: ClusterId(0x1122), node: NodeId(1) };
const SEGMENT_SIZE: u64 = 16 * 1024;

/// The log, what came back, and a word for each sync that has ended.
type Opened = (Wal, Recovered, Receiver<()>);

fn open(dir: &Path) -> Result<Opened, WalError> {
    open_sized(dir, SEGMENT_SIZE)
}

fn open_sized(dir: &Path, segment_size: u64) -> Result<Opened, WalError> {
    let (wake, woken) = channel();
    let options = Options { segment_size, sync: true };
    let wake = Box::new(move || {
        let _ = wake.send(());
    });
    let (wal, recovered) = Wal::open(dir, IDENTITY, options, wake, &mut |_, _| ())?;
    Ok((wal, recovered, woken))
}

/// All files of a data directory, by their path in it.
type Image = BTreeMap<String, Vec<u8>>;

fn take_image(dir: &Path) -> Image {
    let mut image = Image::new();
    for folder in ["", "wal"] {
        for entry in fs::read_dir(dir.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            // A segment that is just being made may be renamed under our hands.
            if let Ok(bytes) = fs::read(&path) {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                image.insert(name, bytes);
            }
        }
    }
    image
}

fn lay_down(image: &Image) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("wal")).unwrap();
    for (name, bytes) in image {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

/// What recovery must say of these records: a second opinion, written from the types' comments.
fn fold(records: &[Record]) -> Recovered {
    let mut recovered = Recovered { first_unchosen: Slot::FIRST, ..Recovered::default() };
    let mut last = BTreeMap::new();
    for record in records {
        match record.clone() {
            Record::Promised(ballot) => recovered.promised = recovered.promised.max(ballot),
            Record::OwnBallot(ballot) => recovered.own_ballot = recovered.own_ballot.max(ballot),
            Record::FirstUnchosen(slot) => recovered.first_unchosen = slot,
            Record::Jumped(slot) => {
                (recovered.first_unchosen, recovered.log_begin) = (slot, slot);
            }
            Record::Accepted { ballot, slot, value } => {
                recovered.promised = recovered.promised.max(ballot);
                last.insert(slot, RecoveredSlot { slot, ballot, value, chosen: false });
            }
            Record::Chosen { ballot, slot, value } => {
                last.insert(slot, RecoveredSlot { slot, ballot, value, chosen: true });
            }
        }
    }
    recovered.tail = last.into_values().filter(|s| s.slot >= recovered.first_unchosen).collect();
    recovered
}

fn random_record(rng: &mut StdRng) -> Record {
    let ballot = Ballot { round: rng.random_range(1..50), node: NodeId(rng.random_range(1..4)) };
    let slot = Slot(rng.random_range(1..40));
    let size = match rng.random_range(0..4) {
        0 => 0,
        1 => rng.random_range(0..100),
        2 => rng.random_range(0..3000),
        _ => rng.random_range(0..9000),
    };
    // Zeros inside values, so that lost pages do not always show.
    let fill = if rng.random_bool(0.3) { 0 } else { rng.random::<u8>() };
    let value = Value(vec![fill; size].into());
    match rng.random_range(0..8) {
        0 => Record::Promised(ballot),
        1 => Record::OwnBallot(Ballot { node: IDENTITY.node, ..ballot }),
        2 if slot.0.is_multiple_of(4) => Record::Jumped(slot),
        2 => Record::FirstUnchosen(slot),
        3 => Record::Chosen { ballot, slot, value },
        _ => Record::Accepted { ballot, slot, value },
    }
}

fn random_records(rng: &mut StdRng, count: usize) -> Vec<Record> {
    (0..count).map(|_| random_record(rng)).collect()
}

fn append_all(wal: &mut Wal, records: &[Record]) {
    for record in records {
        wal.append(record).unwrap();
    }
}

/// Checks what came back from a disk against what was appended, and returns how many records came.
fn check_prefix(wal: &Wal, recovered: &Recovered, records: &[Record]) -> usize {
    let count = wal.end().0 as usize;
    assert!(count <= records.len(), "{count} records from {}", records.len());
    assert_eq!(recovered, &fold(&records[..count]));
    assert_eq!(wal.durable(), wal.end());
    count
}

/// A log whose records were each synced before the next was appended, so that every record but the
/// last is proven by the one behind it. Returns its image when nobody uses it.
fn synced_log(records: &[Record]) -> Image {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _, _) = open(dir.path()).unwrap();
    for record in records {
        wal.append(record).unwrap();
        wal.sync_now().unwrap();
    }
    drop(wal);
    take_image(dir.path())
}

/// Where each record lies: number of the segment, offset, and bytes without padding.
fn places(image: &Image) -> Vec<(u64, usize, usize)> {
    let dir = lay_down(image);
    let mut out = Vec::new();
    assert_eq!(inspect(dir.path(), &mut out).unwrap(), Verdict::Clean);
    let text = String::from_utf8(out).unwrap();
    let records = text.lines().skip_while(|line| !line.contains("sequence")).skip(1);
    records
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.len() == 7)
        .map(|fields| {
            let size: usize = fields[6].parse().unwrap();
            (fields[1].parse().unwrap(), fields[2].parse().unwrap(), record::HEADER_SIZE + size)
        })
        .collect()
}

fn segment_name(number: u64) -> String {
    format!("wal/{number:016}.seg")
}

/// Versions of the directory that the disk may hold pages of.
struct Disk {
    /// From the last sync that ended on.
    versions: Vec<Image>,
    /// Which of them the sync in flight began with.
    syncing: Option<usize>,
}

impl Disk {
    fn new(dir: &Path) -> Disk {
        Disk { versions: vec![take_image(dir)], syncing: None }
    }

    fn changed(&mut self, dir: &Path) {
        self.versions.push(take_image(dir));
    }

    fn sync_started(&mut self) {
        self.syncing.get_or_insert(self.versions.len() - 1);
    }

    fn sync_ended(&mut self) {
        let first = self.syncing.take().expect("a sync was in flight");
        self.versions.drain(..first);
    }

    fn crash(&self, rng: &mut StdRng) -> Image {
        let unit = if rng.random_bool(0.5) { 4096 } else { 512 };
        let mut image = self.versions.last().unwrap().clone();
        for (name, bytes) in image.iter_mut().filter(|(name, _)| name.ends_with(".seg")) {
            // Mostly new or mostly old, so that long and short prefixes both come out.
            let keep = rng.random_range(0.0..1.0);
            for (i, page) in bytes.chunks_mut(unit).enumerate() {
                if rng.random_bool(keep) {
                    continue;
                }
                let version = &self.versions[rng.random_range(0..self.versions.len())];
                match version.get(name) {
                    Some(old) => page.copy_from_slice(&old[i * unit..i * unit + page.len()]),
                    // It was made since, and was durable and blank before it was used.
                    None => page.fill(0),
                }
            }
        }
        image
    }
}

/// Crash after crash on the same log, with syncs that cover a part of what was appended.
#[test]
fn a_crash_keeps_a_prefix_with_all_that_was_durable() {
    let mut torn = 0;
    for seed in 0..25 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut image = synced_log(&[]);
        let mut records: Vec<Record> = Vec::new();
        let mut durable = 0;
        for _generation in 0..4 {
            let dir = lay_down(&image);
            let (mut wal, recovered, woken) = open(dir.path())
                .unwrap_or_else(|error| panic!("seed {seed}: a crash is no damage: {error}"));
            let count = check_prefix(&wal, &recovered, &records);
            assert!(durable <= count, "seed {seed}: {durable} were durable, {count} came back");
            torn += usize::from(count < records.len());
            records.truncate(count);

            let mut disk = Disk::new(dir.path());
            for _ in 0..rng.random_range(1..25) {
                let record = random_record(&mut rng);
                wal.append(&record).unwrap();
                records.push(record);
                disk.changed(dir.path());
                if rng.random_bool(0.2) && wal.start_sync().unwrap() {
                    disk.sync_started();
                }
                if rng.random_bool(0.2) && disk.syncing.is_some() {
                    woken.recv().unwrap();
                    assert!(wal.poll_sync().unwrap().is_some());
                    disk.sync_ended();
                }
            }
            durable = wal.durable().0 as usize;
            image = disk.crash(&mut rng);
        }
    }
    assert!(10 <= torn, "the crashes must hurt, or this test proves nothing: {torn}");
}

/// The power goes while recovery itself clears a torn tail: any part of the clearing may be done.
#[test]
fn a_crash_during_recovery_is_recovered_from() {
    for seed in 0..10 {
        let mut rng = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let (mut wal, _, _) = open(dir.path()).unwrap();
        let mut records = random_records(&mut rng, 5);
        append_all(&mut wal, &records);
        wal.sync_now().unwrap();
        let mut disk = Disk::new(dir.path());
        for record in random_records(&mut rng, 8) {
            wal.append(&record).unwrap();
            records.push(record);
            disk.changed(dir.path());
        }
        drop(wal);
        let before = disk.crash(&mut rng);
        let dir = lay_down(&before);
        let (wal, recovered, _) = open(dir.path()).unwrap();
        let count = check_prefix(&wal, &recovered, &records);
        drop(wal);
        let mut after = take_image(dir.path());
        // The blank segment that was made ready at the end is not part of the clearing.
        after.retain(|name, bytes| !name.ends_with(".seg") || bytes.iter().any(|byte| *byte != 0));

        // Later segments go first, the last one first; then zeros, in any order.
        let mut partly = before.clone();
        let is_gone = |name: &&String| name.ends_with(".seg") && !after.contains_key(*name);
        let gone: Vec<&String> = before.keys().filter(is_gone).collect();
        let removed = rng.random_range(0..=gone.len());
        for name in gone.iter().rev().take(removed) {
            partly.remove(*name);
        }
        if removed == gone.len() {
            partly = Disk { versions: vec![before, after], syncing: None }.crash(&mut rng);
        }
        let dir = lay_down(&partly);
        let (wal, recovered, _) = open(dir.path()).unwrap();
        assert_eq!(check_prefix(&wal, &recovered, &records), count, "seed {seed}");
    }
}

/// The last record ends anywhere: it was never whole, and its room is used again.
#[test]
fn a_torn_tail_at_every_byte_of_the_last_record() {
    let ballot = Ballot { round: 7, node: NodeId(2) };
    let accepted = |slot, byte: u8| {
        let value = Value(vec![byte; 61].into());
        Record::Accepted { ballot, slot: Slot(slot), value }
    };
    let records = [accepted(1, 1), accepted(2, 2), accepted(3, 3)];
    let image = synced_log(&records);
    let (number, offset, size) = places(&image)[2];
    for kept in 0..size {
        let mut torn = image.clone();
        torn.get_mut(&segment_name(number)).unwrap()[offset + kept..].fill(0);
        let dir = lay_down(&torn);
        let verdict = inspect(dir.path(), &mut Vec::new()).unwrap();
        let segment = dir.path().join(segment_name(number));
        let expected = match kept {
            // Nothing of it reached the disk, or not its number: then nothing tells it from what an earlier
            // segment may have left there.
            0..=8 => Verdict::Clean,
            _ => Verdict::TornTail { segment, offset: offset as u64 },
        };
        assert_eq!(verdict, expected, "kept {kept}");
        let (mut wal, recovered, _) = open(dir.path()).unwrap();
        assert_eq!(check_prefix(&wal, &recovered, &records), 2, "kept {kept}");
        let again = accepted(3, 9);
        wal.append(&again).unwrap();
        wal.sync_now().unwrap();
        drop(wal);
        let (wal, recovered, _) = open(dir.path()).unwrap();
        let records = [records[0].clone(), records[1].clone(), again];
        assert_eq!(check_prefix(&wal, &recovered, &records), 3);
    }
}

/// What a bad disk does to the bytes of one record.
type Spoil<'a> = dyn Fn(&mut [u8]) + 'a;

/// Records as a node writes them: ballots only rise, and what is known to be chosen is not accepted again.
fn protocol_records(rng: &mut StdRng, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    let (mut round, mut first_unchosen, mut end) = (1, 1, 1);
    while records.len() < count {
        let ballot = Ballot { round, node: NodeId(2) };
        let value = Value(vec![rng.random::<u8>(); rng.random_range(0..2500)].into());
        let slot = Slot(rng.random_range(first_unchosen..=end));
        records.push(match rng.random_range(0..10) {
            0 => {
                round += 1;
                Record::Promised(Ballot { round, node: NodeId(2) })
            }
            1 => Record::OwnBallot(Ballot { node: IDENTITY.node, ..ballot }),
            2 => {
                first_unchosen = rng.random_range(first_unchosen..=end);
                Record::FirstUnchosen(Slot(first_unchosen))
            }
            3..5 => {
                round += 1;
                end = end.max(slot.0 + 1);
                let ballot = Ballot { round, node: NodeId(2) };
                Record::Accepted { ballot, slot, value }
            }
            _ => {
                end += 1;
                Record::Accepted { ballot, slot: Slot(end - 1), value }
            }
        });
    }
    records
}

/// Holds a log that lost these records against what was written: no promise is forgotten, and of each slot
/// the last value is known, or the slot is in doubt for a reason.
fn check_damaged(wal: &Wal, recovered: &Recovered, records: &[Record], lost: &[u64]) {
    let whole = fold(records);
    assert_eq!(wal.end().0 as usize, records.len());
    assert_eq!((recovered.promised, recovered.own_ballot), (whole.promised, whole.own_ballot));
    assert!(recovered.first_unchosen <= whole.first_unchosen);
    let told = wal.lost().iter().flat_map(|lost| lost.sequences.clone());
    assert_eq!(told.collect::<Vec<_>>(), lost);
    let mut last = BTreeMap::new();
    for (sequence, record) in (1..).zip(records) {
        if let Record::Accepted { ballot, slot, value } = record {
            last.insert(*slot, (sequence, *ballot, value));
        }
    }
    for (slot, (sequence, ballot, value)) in last {
        if recovered.unsure.contains(slot) {
            assert!(recovered.first_unchosen <= slot);
            assert!(lost.iter().any(|it| sequence <= *it), "slot {slot} is in doubt for no reason");
            continue;
        }
        assert!(!lost.contains(&sequence), "slot {slot} is lost, and not in doubt");
        assert_eq!(wal.read(slot), Some((ballot, &*value.0)));
        if recovered.first_unchosen <= slot {
            let entry = recovered.tail.iter().find(|entry| entry.slot == slot);
            assert_eq!(entry.map(|it| (it.ballot, &it.value)), Some((ballot, value)));
        }
    }
}

/// Records that were durable are spoilt, at their boundaries or inside: a later one proves it. The node
/// starts, says what is lost, and knows all that it can still know; also when it starts once more.
#[test]
fn damage_to_durable_records_loses_them_and_no_more() {
    let mut rng = StdRng::seed_from_u64(1);
    let records = protocol_records(&mut rng, 60);
    let image = synced_log(&records);
    let places = places(&image);
    assert_eq!(places.len(), records.len());
    assert!(3 <= places.last().unwrap().0, "the records spread over segments");
    let (last, durable) = places.split_last().unwrap();
    for (i, &(number, offset, size)) in durable.iter().enumerate() {
        let inside = rng.random_range(0..size);
        let spoils: [&Spoil; 4] = [
            &|record| record[..24].fill(0),
            &|record| record[..size.min(512)].fill(0),
            &|record| record[inside] ^= 0x10,
            // The size field: where the next record begins is lost too.
            &|record| record[4..8].fill(0xff),
        ];
        for (way, spoil) in spoils.iter().enumerate() {
            let mut damaged = image.clone();
            let mut spoil_one = |(number, offset, size): (u64, usize, usize)| {
                let bytes = damaged.get_mut(&segment_name(number)).unwrap();
                spoil(&mut bytes[offset..offset + size]);
            };
            spoil_one((number, offset, size));
            let mut lost = vec![i as u64 + 1];
            if way == 3 {
                // Somewhere else as well.
                let other = rng.random_range(0..durable.len());
                if durable[other].2 == size && other != i {
                    spoil_one(durable[other]);
                    lost.push(other as u64 + 1);
                    lost.sort_unstable();
                }
            }
            let dir = lay_down(&damaged);
            let verdict = inspect(dir.path(), &mut Vec::new()).unwrap();
            let (number, offset, _) = durable[lost[0] as usize - 1];
            let segment = dir.path().join(segment_name(number));
            assert_eq!(verdict, Verdict::Damaged { segment, offset: offset as u64 });
            let (wal, first, _) = open(dir.path()).unwrap();
            assert_eq!((wal.lost()[0].segment, wal.lost()[0].offset), (number, offset));
            assert!(wal.lost()[0].why.contains("says that it was durable"));
            check_damaged(&wal, &first, &records, &lost);
            drop(wal);
            let (wal, second, _) = open(dir.path()).unwrap();
            check_damaged(&wal, &second, &records, &lost);
            assert_eq!(first, second);
        }
    }
    // Behind the last one nothing can prove anything.
    let mut torn = image;
    torn.get_mut(&segment_name(last.0)).unwrap()[last.1] ^= 1;
    let dir = lay_down(&torn);
    let (wal, recovered, _) = open(dir.path()).unwrap();
    assert_eq!(check_prefix(&wal, &recovered, &records), records.len() - 1);
}

/// The only proof of a damage is a record behind a tail that was torn off, and goes with it: the next start
/// must know of the damage all the same.
#[test]
fn what_proved_a_damage_may_go() {
    let mut rng = StdRng::seed_from_u64(7);
    let records = protocol_records(&mut rng, 12);
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _, _) = open(dir.path()).unwrap();
    append_all(&mut wal, &records[..8]);
    wal.sync_now().unwrap();
    append_all(&mut wal, &records[8..]);
    drop(wal);
    let mut image = take_image(dir.path());
    // Durable is all up to 8; of these the sixth is spoilt, and the ninth never reached the disk.
    let places = places(&image);
    for (number, offset, size) in [places[5], places[8]] {
        image.get_mut(&segment_name(number)).unwrap()[offset..offset + size].fill(0);
    }
    let dir = lay_down(&image);
    for _ in 0..3 {
        let (wal, recovered, _) = open(dir.path()).unwrap();
        check_damaged(&wal, &recovered, &records[..8], &[6]);
    }
}

/// Records behind a missing one prove nothing if they were appended in the same batch.
#[test]
fn a_hole_in_an_unsynced_batch_is_a_torn_tail() {
    let mut rng = StdRng::seed_from_u64(2);
    let records = random_records(&mut rng, 24);
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _, _) = open(dir.path()).unwrap();
    append_all(&mut wal, &records[..4]);
    wal.sync_now().unwrap();
    append_all(&mut wal, &records[4..]);
    drop(wal);
    let image = take_image(dir.path());
    let places = places(&image);
    assert!(2 <= places.last().unwrap().0, "the batch spans segments");
    for (i, &(number, offset, size)) in places.iter().enumerate() {
        let mut holed = image.clone();
        holed.get_mut(&segment_name(number)).unwrap()[offset..offset + size].fill(0);
        let dir = lay_down(&holed);
        match open(dir.path()) {
            Ok((wal, recovered, _)) if 4 <= i => {
                assert_eq!(check_prefix(&wal, &recovered, &records), i);
            }
            Ok((wal, ..)) => {
                assert_eq!(wal.lost()[0].sequences, i as u64 + 1..i as u64 + 2);
                assert_eq!(wal.end().0 as usize, records.len());
            }
            Err(error) => panic!("record {i}: {error}"),
        }
    }
}

/// The first record of a lost batch is torn, the next ones are whole. They get the same sequence
/// numbers and places as what is appended next, and must not come back behind it.
#[test]
fn what_was_dropped_never_comes_back() {
    let record = |slot, fill| {
        let ballot = Ballot { round: 1, node: NodeId(1) };
        let value = Value(vec![fill; 1000].into());
        Record::Accepted { ballot, slot: Slot(slot), value }
    };
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _, _) = open(dir.path()).unwrap();
    let old: Vec<Record> = (1..=40).map(|slot| record(slot, 1)).collect();
    append_all(&mut wal, &old[..1]);
    wal.sync_now().unwrap();
    append_all(&mut wal, &old[1..]);
    drop(wal);
    let mut image = take_image(dir.path());
    let places = places(&image);
    assert!(3 <= places[39].0, "the batch spans segments");
    image.get_mut(&segment_name(places[1].0)).unwrap()[places[1].1 + 500] ^= 1;

    let dir = lay_down(&image);
    let mut records = old[..1].to_vec();
    for slot in 2..=20 {
        let (mut wal, recovered, _) = open(dir.path()).unwrap();
        assert_eq!(check_prefix(&wal, &recovered, &records), records.len());
        let new = record(slot, 2);
        wal.append(&new).unwrap();
        wal.sync_now().unwrap();
        records.push(new);
    }
}

/// A value may be made to look like records, by mischief or because somebody stores a log in the
/// store: behind a torn tail it must not be taken for a proof, nor for records.
#[test]
fn a_value_full_of_records_is_only_a_value() {
    let ballot = Ballot { round: 1, node: NodeId(1) };
    let plain = |slot| {
        let value = Value(vec![slot as u8; 50].into());
        Record::Accepted { ballot, slot: Slot(slot), value }
    };
    // Another log of the same node, which did sync, with sequence numbers that fit in here.
    let other = synced_log(&(1..=20).map(plain).collect::<Vec<_>>());
    let value = Value(other[&segment_name(1)][HEADER_SIZE..8000].into());
    let records = [plain(1), plain(2), Record::Accepted { ballot, slot: Slot(3), value }];
    let image = synced_log(&records);
    let (number, offset, _) = places(&image)[2];
    for at in [0, 4, 8, 47] {
        let mut torn = image.clone();
        torn.get_mut(&segment_name(number)).unwrap()[offset + at] ^= 0x40;
        let dir = lay_down(&torn);
        let (wal, recovered, _) = open(dir.path()).unwrap();
        assert_eq!(check_prefix(&wal, &recovered, &records), 2);
    }
}

/// Single bits flip anywhere. What comes back was written, and nothing that a later record proves
/// is missing.
#[test]
fn flipped_bits_never_yield_what_was_not_written() {
    let mut rng = StdRng::seed_from_u64(3);
    let records = random_records(&mut rng, 20);
    let image = synced_log(&records);
    let names: Vec<&String> = image.keys().filter(|name| *name != "lock").collect();
    let mut damaged = 0;
    for _ in 0..150 {
        let mut flipped = image.clone();
        let bytes = flipped.get_mut(names[rng.random_range(0..names.len())]).unwrap();
        let bit = rng.random_range(0..bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let dir = lay_down(&flipped);
        inspect(dir.path(), &mut Vec::new()).unwrap();
        let (wal, recovered, _) = open(dir.path()).unwrap();
        if wal.lost().is_empty() {
            assert!(records.len() - 1 <= check_prefix(&wal, &recovered, &records));
        } else {
            check_written(&wal, &records);
            damaged += 1;
        }
    }
    assert!(0 < damaged, "some of them must hit records");
}

/// What can be read of a damaged log was written to it.
fn check_written(wal: &Wal, records: &[Record]) {
    assert!(wal.end().0 as usize <= records.len());
    for slot in (1..50).map(Slot) {
        let Some((ballot, value)) = wal.read(slot) else { continue };
        let value = Value(value.into());
        let is_it = |record: &Record| match record.clone() {
            Record::Accepted { ballot: b, slot: s, value: v }
            | Record::Chosen { ballot: b, slot: s, value: v } => {
                (b, s, v) == (ballot, slot, value.clone())
            }
            _ => false,
        };
        assert!(records.iter().any(is_it), "slot {slot} was never written like that");
    }
}

/// Whole ranges turn into rubbish, zeros or bytes from elsewhere; files are cut. Anything but a
/// panic or an invented record.
#[test]
fn rubbish_is_never_taken_for_records() {
    let mut rng = StdRng::seed_from_u64(4);
    let records = random_records(&mut rng, 20);
    let image = synced_log(&records);
    let names: Vec<&String> = image.keys().filter(|name| *name != "lock").collect();
    let (mut refused, mut damaged, mut whole) = (0, 0, 0);
    for _ in 0..150 {
        let mut spoilt = image.clone();
        for _ in 0..rng.random_range(1..4) {
            let bytes = spoilt.get_mut(names[rng.random_range(0..names.len())]).unwrap();
            if bytes.is_empty() {
                continue;
            }
            let start = rng.random_range(0..bytes.len());
            let end = (start + rng.random_range(1..5000)).min(bytes.len());
            match rng.random_range(0..8) {
                0..3 => bytes[start..end].fill(0),
                3..5 => rng.fill_bytes(&mut bytes[start..end]),
                5..7 => {
                    let size = end - start;
                    let from = rng.random_range(0..=bytes.len() - size) & !7;
                    bytes.copy_within(from..from + size, start);
                }
                _ => bytes.truncate(start),
            }
        }
        let dir = lay_down(&spoilt);
        let inspected = inspect(dir.path(), &mut Vec::new());
        match open(dir.path()) {
            Ok((wal, recovered, _)) if wal.lost().is_empty() => {
                check_prefix(&wal, &recovered, &records);
                assert!(matches!(inspected, Ok(Verdict::Clean | Verdict::TornTail { .. })));
                whole += 1;
            }
            Ok((wal, ..)) => {
                check_written(&wal, &records);
                assert!(matches!(inspected, Ok(Verdict::Damaged { .. })));
                damaged += 1;
            }
            Err(error) => {
                assert!(matches!(inspected, Err(_) | Ok(Verdict::Refused { .. })));
                assert!(!error.to_string().contains('\n'), "{error}");
                refused += 1;
            }
        }
    }
    assert!(5 <= whole.min(damaged).min(refused), "all must come up: {whole} {damaged} {refused}");
}

/// Each way in which files can be wrong is told by name. With something behind that can be read the node
/// starts; without, nobody knows what it promised last, and it is refused in one line.
#[test]
fn wrong_files_are_named() {
    let mut rng = StdRng::seed_from_u64(5);
    let image = synced_log(&random_records(&mut rng, 30));
    let (first, second) = (segment_name(1), segment_name(2));
    let last = places(&image).last().unwrap().0;
    assert!(3 <= last && image.contains_key(&segment_name(last + 1)), "and a spare one behind");
    let spoilt = |deed: &dyn Fn(&mut Image)| {
        let mut spoilt = image.clone();
        deed(&mut spoilt);
        lay_down(&spoilt)
    };
    let told = |segment: u64, what: &str, deed: &dyn Fn(&mut Image)| {
        let dir = spoilt(deed);
        let (wal, ..) = open(dir.path()).unwrap();
        let lost = &wal.lost()[0];
        assert!(lost.segment == segment && lost.why.contains(what), "{lost:?}");
        assert_eq!(wal.end().0, 30);
    };
    told(2, "is missing", &|image| drop(image.remove(&second)));
    told(2, "has 9000 bytes", &|image| image.get_mut(&second).unwrap().truncate(9000));
    told(2, "has 0 bytes", &|image| image.get_mut(&second).unwrap().clear());
    told(2, "its header", &|image| image.get_mut(&second).unwrap()[50] ^= 1);
    told(2, "durable", &|image| image.get_mut(&second).unwrap()[..HEADER_SIZE].fill(0));
    told(1, "header is blank", &|image| {
        image.get_mut(&first).unwrap()[..HEADER_SIZE].fill(0);
    });
    told(2, "another place", &|image| {
        let third = image[&segment_name(3)].clone();
        image.insert(second.clone(), third);
    });

    let refused = |name: &str, what: &str, deed: &dyn Fn(&mut Image)| {
        let dir = spoilt(deed);
        let error = open(dir.path()).err().expect("refused").to_string();
        let is_line = !error.contains('\n');
        assert!(error.contains(name) && error.contains(what) && is_line, "{error}");
        let inspected = inspect(dir.path(), &mut Vec::new());
        assert!(matches!(inspected, Err(_) | Ok(Verdict::Refused { .. })), "{inspected:?}");
    };
    let last_name = segment_name(last);
    refused(&last_name, "is missing", &|image| drop(image.remove(&last_name)));
    refused(&last_name, "should have", &|image| {
        image.get_mut(&last_name).unwrap().truncate(HEADER_SIZE + 100);
    });
    refused(&last_name, "wrong checksum", &|image| {
        let bytes = image.get_mut(&last_name).unwrap();
        bytes.fill(0);
        bytes[50] = 1;
    });
    refused("wal", "no log segments", &|image| image.retain(|name, _| !name.ends_with(".seg")));
    refused("meta", "is missing", &|image| drop(image.remove("meta")));
    refused("meta", "both copies", &|image| image.get_mut("meta").unwrap().fill(7));
}

/// A process is killed, not the machine: what it appended is in the page cache and counts, synced
/// or not.
#[test]
fn a_killed_process_loses_nothing() {
    let mut rng = StdRng::seed_from_u64(6);
    let records = random_records(&mut rng, 30);
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _, _) = open(dir.path()).unwrap();
    append_all(&mut wal, &records);
    assert_eq!(wal.durable(), LogPosition(0));
    drop(wal);
    let mut steps = Vec::new();
    let options = Options { segment_size: SEGMENT_SIZE, sync: true };
    let mut progress = |done, total| steps.push((done, total));
    let (wal, recovered) =
        Wal::open(dir.path(), IDENTITY, options, Box::new(|| ()), &mut progress).unwrap();
    assert_eq!(check_prefix(&wal, &recovered, &records), records.len());
    let (done, total) = *steps.last().unwrap();
    assert!(steps.is_sorted() && done == total, "{steps:?}");
}

const FULL_DISK_DIR: &str = "LOGGOS_TEST_FULL_DISK_DIR";

/// A full disk is played by a limit on the size of files, in a child of this test's own binary: the
/// log must say so, keep what it has, and go on once there is room.
#[test]
fn a_full_disk_is_an_error_and_harms_nothing() {
    let record = Record::Promised(Ballot { round: 1, node: NodeId(1) });
    if let Some(dir) = std::env::var_os(FULL_DISK_DIR) {
        // The child: the segment that is there may be filled, the next can't be made.
        let (mut wal, _, _) = open_sized(&PathBuf::from(dir), 4 * 1024 * 1024).unwrap();
        let most = SEGMENT_SIZE as usize / record::HEADER_SIZE * 3 / 4;
        append_all(&mut wal, &vec![record.clone(); most]);
        // It is told while there is still room for promises, once the helper thread has found out.
        while !wal.is_full(false).unwrap() {
            std::thread::yield_now();
        }
        let error = (0..10_000)
            .find_map(|_| wal.append(&record).err())
            .expect("the limit is below the size of the next segment");
        assert!(matches!(error, WalError::DiskFull { .. }), "{error}");
        assert!(error.to_string().contains("0000000000000002.seg"), "{error}");
        assert!(wal.append(&record).is_err());
        wal.sync_now().unwrap();
        assert_eq!(wal.durable(), wal.end());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    // The signal of the limit is ignored, so that the write fails instead.
    let script = "trap '' XFSZ; ulimit -f 2000; exec \"$0\" --exact \"$1\"";
    let child = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .arg("a_full_disk_is_an_error_and_harms_nothing")
        .env(FULL_DISK_DIR, dir.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && told.contains("1 passed"), "{told}");
    let (mut wal, recovered, _) = open(dir.path()).unwrap();
    let count = (SEGMENT_SIZE as usize - HEADER_SIZE) / record::HEADER_SIZE;
    assert_eq!(check_prefix(&wal, &recovered, &vec![record.clone(); count]), count);
    wal.append(&record).unwrap();
    wal.sync_now().unwrap();
}
