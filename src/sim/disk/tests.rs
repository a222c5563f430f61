//! What the disk must be able to do to the log, and the log must bear.

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::paxos::{Ballot, NodeId, Record, Recovered, Slot, Value};
use crate::wal::{Identity, Options, Wal};
use crate::wire::ClusterId;

use super::*;

const IDENTITY: Identity = Identity { cluster: ClusterId(0x1122), node: NodeId(1) };
const OPTIONS: Options = Options { segment_size: 16 * 1024, sync: true };

fn open(disk: &SimDisk) -> Result<(Wal<Mount>, Recovered), WalError> {
    Wal::open_on(disk.mount(), IDENTITY, OPTIONS, &mut |_, _| ())
}

/// The record with this sequence number: its value says which it is, and of which `era`.
fn record(sequence: u64, era: u8) -> Record {
    let size = sequence as usize * 379 % 1900;
    let mut value = vec![sequence as u8 | 1; size + 1];
    value[0] = era;
    let ballot = Ballot { round: 1, node: NodeId(1) };
    Record::Accepted { ballot, slot: Slot(sequence), value: Value(value.into()) }
}

/// Opens the log and checks that it holds exactly the first of `written`; returns how many.
fn check(disk: &SimDisk, written: &[Record]) -> usize {
    let (wal, recovered) = open(disk).unwrap_or_else(|error| panic!("{error}"));
    check_opened(&wal, &recovered, written)
}

fn check_opened(wal: &Wal<Mount>, recovered: &Recovered, written: &[Record]) -> usize {
    let count = wal.end().0 as usize;
    assert!(count <= written.len());
    assert_eq!(recovered.tail.len(), count);
    for (record, found) in written.iter().zip(&recovered.tail) {
        let Record::Accepted { slot, value, .. } = record else { unreachable!() };
        assert_eq!((found.slot, &found.value), (*slot, value));
    }
    count
}

/// A log of `count` records, each synced before the next one: all but the last are provable.
fn synced_log(disk: &SimDisk, count: u64) -> Vec<Record> {
    let (mut wal, _) = open(disk).unwrap();
    let records: Vec<Record> = (1..=count).map(|sequence| record(sequence, 0)).collect();
    for record in &records {
        wal.append(record).unwrap();
        wal.sync_now().unwrap();
    }
    records
}

/// Lives of a node, each ended by a kill or a crash, some in the middle of a recovery or after
/// a sync that failed. Returns what was on the disk at last, and how often the log came back
/// short, with part of what was not synced, and whole.
fn live(seed: u64) -> (DiskCopy, [u32; 3]) {
    let mut dice = StdRng::seed_from_u64(seed);
    let disk = SimDisk::new("disk", seed);
    let mut written: Vec<Record> = Vec::new();
    // At least so many come back; exactly all if the page cache is whole.
    let (mut durable, mut is_cache_whole) = (0, true);
    let mut ends = [0; 3];
    for era in 0..12 {
        if dice.random_ratio(1, 4) {
            disk.fail_after(dice.random_range(0..6));
        }
        let (mut wal, recovered) = match open(&disk) {
            Ok(opened) => opened,
            Err(WalError::Io { .. }) => {
                if dice.random_bool(0.5) {
                    disk.crash(Loss::draw(&mut dice), &mut dice);
                    is_cache_whole = false;
                }
                continue;
            }
            Err(error) => panic!("seed {seed}: a crash is no damage: {error}"),
        };
        let count = check_opened(&wal, &recovered, &written);
        assert!(durable <= count, "seed {seed}: {durable} were durable, {count} came back");
        assert!(!is_cache_whole || count == written.len());
        let end = if count == written.len() { 2 } else { usize::from(durable < count) };
        ends[end] += u32::from(durable < written.len());
        written.truncate(count);
        (durable, is_cache_whole) = (count, true);
        for _ in 0..dice.random_range(0..40) {
            match dice.random_range(0..8) {
                0..4 => {
                    written.push(record(wal.end().0 + 1, era));
                    wal.append(&written[written.len() - 1]).unwrap();
                }
                4..6 => drop(wal.start_sync().unwrap()),
                6 if disk.syncing().is_some() => {
                    let position = disk.syncing().unwrap();
                    disk.finish_sync(1);
                    assert_eq!(wal.poll_sync().unwrap().unwrap().position, position);
                    durable = position.0 as usize;
                }
                7 if disk.syncing().is_some() && dice.random_ratio(1, 8) => {
                    disk.fail_sync("played", 1, &mut dice);
                    assert!(wal.poll_sync().is_err());
                    is_cache_whole = false;
                    break;
                }
                _ => {}
            }
        }
        assert_eq!(wal.durable().0 as usize, durable);
        drop(wal);
        if dice.random_ratio(3, 4) {
            disk.crash(Loss::draw(&mut dice), &mut dice);
            is_cache_whole = false;
        }
    }
    (disk.copy(), ends)
}

/// Whatever happens between, the log comes back with all that was durable and a prefix of the
/// rest; and all ends of that must come up.
#[test]
fn what_was_synced_survives_and_the_rest_is_a_prefix() {
    let mut sums = [0; 3];
    for seed in 0..300 {
        let (_, ends) = live(seed);
        (0..3).for_each(|i| sums[i] += ends[i]);
    }
    assert!(sums.iter().all(|sum| 50 < *sum), "{sums:?}");
}

#[test]
fn the_same_seed_leaves_the_same_bytes() {
    let bytes = |seed| -> Vec<Vec<u8>> {
        let (copy, _) = live(seed);
        copy.segments.into_iter().map(|it| it.bytes).collect()
    };
    for seed in 0..10 {
        assert!(bytes(seed) == bytes(seed));
        assert!(bytes(seed) != bytes(seed + 1));
    }
}

/// Sectors go each its own way: every combination of old, middle and new comes up.
#[test]
fn sectors_are_lost_in_any_combination() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let mut dice = StdRng::seed_from_u64(seed);
        let disk = SimDisk::new("disk", 1);
        let mut mount = disk.mount();
        let blank = Blank { number: 1, size: 4096, sync: true };
        let mut segment = mount.create_segment(blank).unwrap();
        segment.write(0, 1024).fill(1);
        mount.start_sync([&segment].into_iter(), 1).unwrap();
        segment.write(512, 1536).fill(2);
        drop(segment);
        drop(mount);
        disk.crash(Loss::Sectors { keep: 0.5 }, &mut dice);
        let bytes = disk.copy_segment(1).unwrap().bytes;
        for sector in bytes.chunks(SECTOR_SIZE) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "sectors are not torn");
        }
        seen.insert([bytes[0], bytes[512], bytes[1024], bytes[1536]]);
    }
    // The first: written by the sync or not; the second: not, by the sync, or since; the third:
    // since or not; the fourth was never written.
    assert_eq!(seen.len(), 2 * 3 * 2);
    assert!(seen.iter().all(|it| it[0] < 2 && it[2] != 1 && it[3] == 0), "{seen:?}");
}

/// The kernel takes for clean what a failed sync did not write. If the next life only synced what
/// it finds, a loss of power would then take what that life has answered with.
#[test]
fn a_failed_sync_is_final() {
    let mut shorter = 0;
    for seed in 0..100 {
        let mut dice = StdRng::seed_from_u64(seed);
        let disk = SimDisk::new("disk", 1);
        let mut written = synced_log(&disk, 3);
        let (mut wal, _) = open(&disk).unwrap();
        for sequence in 4..=6 {
            written.push(record(sequence, 0));
            wal.append(&written[sequence as usize - 1]).unwrap();
        }
        assert!(wal.start_sync().unwrap());
        assert_eq!(disk.syncing(), Some(LogPosition(6)));
        disk.fail_sync("the disk is gone", 5, &mut dice);
        assert_eq!(disk.syncing(), None);
        for _ in 0..2 {
            let error = wal.poll_sync().unwrap_err();
            assert!(error.to_string().contains("the disk is gone"), "{error}");
        }
        assert!(wal.append(&record(7, 0)).is_err() && wal.start_sync().is_err());
        assert_eq!(wal.durable(), LogPosition(3));
        drop(wal);
        let count = check(&disk, &written);
        assert!((3..=6).contains(&count));
        shorter += u32::from(count < 6);
        disk.crash(Loss::All, &mut dice);
        assert_eq!(check(&disk, &written), count);
    }
    assert!((30..100).contains(&shorter), "whole and short both come up: {shorter}");
}

#[test]
fn a_full_disk_is_an_error_and_harms_nothing() {
    let disk = SimDisk::new("disk", 1);
    let mut written = synced_log(&disk, 2);
    for _ in 0..2 {
        disk.set_full(true);
        let (mut wal, _) = open(&disk).unwrap();
        let mut left = 0;
        let error = loop {
            // What is appended although the log says that it is full.
            left += u32::from(wal.is_full(true).unwrap());
            let next = record(wal.end().0 + 1, 0);
            match wal.append(&next) {
                Ok(_) => written.push(next),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, WalError::DiskFull { .. }), "{error}");
        wal.sync_now().unwrap();
        assert!(3 < left, "there is room for more than values");
        assert!(wal.append(&record(wal.end().0 + 1, 0)).is_err());
        disk.set_full(false);
        assert!(wal.is_full(true).unwrap() && !wal.is_full(false).unwrap());
        written.push(record(wal.end().0 + 1, 0));
        wal.append(&written[written.len() - 1]).unwrap();
    }
    assert_eq!(check(&disk, &written), written.len());
}

/// The power goes during truncations: a prefix of what they do is done, and nothing that is needed is gone.
#[test]
fn a_truncation_can_be_cut_off_by_a_loss_of_power() {
    let mut kept = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let mut dice = StdRng::seed_from_u64(seed);
        let disk = SimDisk::new("disk", 1);
        synced_log(&disk, 60);
        let (mut wal, _) = open(&disk).unwrap();
        let removed = wal.truncate_before(Slot(40)).unwrap();
        let held = wal.held();
        assert!(2 <= removed && wal.log_begin(Slot(61)) <= Slot(40));
        assert_eq!(wal.truncate_before(Slot(61)).unwrap(), 0, "one at a time");
        if dice.random_bool(0.3) {
            wal.append(&record(61, 1)).unwrap();
            wal.sync_now().unwrap();
            assert!(0 < wal.truncate_before(Slot(61)).unwrap());
        }
        let end = wal.end();
        drop(wal);
        disk.crash(Loss::draw(&mut dice), &mut dice);
        kept.insert(disk.copy().segments.len());
        let (wal, recovered) = open(&disk).unwrap();
        assert_eq!(wal.end(), end);
        assert!(wal.held().0 <= held.0.max(Slot(61)) && recovered.promised.round == 1);
        assert!(
            (40..=60).all(|slot| wal.read(Slot(slot)).is_some() || wal.end() == LogPosition(61))
        );
    }
    assert!(4 <= kept.len(), "{kept:?}");
}

/// Every way to spoil durable bytes: where that can be proven the log opens, says exactly what is lost,
/// and holds all the rest; otherwise it comes back with what lies before, or is refused. It opens a second
/// time as it did the first.
#[test]
fn provable_damage_loses_what_was_hit_and_no_more() {
    let disk = SimDisk::new("disk", 1);
    let mut written = synced_log(&disk, 40);
    {
        // A tail that was killed before its sync: nothing proves its records, and only they prove
        // the last one before, since no segment begins with them.
        let (mut wal, _) = open(&disk).unwrap();
        for sequence in 41..=42 {
            written.push(record(sequence, 0));
            wal.append(&written[sequence as usize - 1]).unwrap();
        }
    }
    assert_eq!(check(&disk, &written), 42);
    let good = disk.copy();
    assert!(3 <= good.segments.len());
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..1500 {
        let mut dice = StdRng::seed_from_u64(seed);
        let place = if seed % 2 == 0 { Place::Provable } else { Place::Anywhere };
        let durable = if place == Place::Provable { 40 } else { 42 };
        let mut damage = disk.damage(place, durable, &mut dice).unwrap();
        assert_ne!(
            disk.copy().segments[damage.segment as usize - 1].bytes,
            good.segments[damage.segment as usize - 1].bytes
        );
        if damage.provable && dice.random_bool(0.5) {
            let second = disk.damage(Place::Provable, 40, &mut dice).unwrap();
            damage.lost.extend(second.lost);
        }
        assert!(damage.provable || place == Place::Anywhere);
        seen.insert((damage.spoil as u8, damage.header, damage.provable));
        let mut opened = open(&disk);
        for _ in 0..2 {
            match &opened {
                Err(error) => assert!(!damage.provable, "seed {seed}: {damage}, and yet: {error}"),
                Ok((wal, recovered)) if damage.provable => {
                    let end = wal.end().0;
                    let is_lost = |it: &u64| damage.lost.contains(it);
                    let mut told = wal.lost().iter().flat_map(|it| it.sequences.clone());
                    assert!(told.all(|it| is_lost(&it)), "seed {seed}: {damage}: {:?}", wal.lost());
                    for sequence in 1..=end {
                        let found = wal.read(Slot(sequence));
                        assert_eq!(found.is_none(), is_lost(&sequence), "seed {seed}: {damage}");
                        let unsure = recovered.unsure.contains(Slot(sequence));
                        assert!(unsure || !is_lost(&sequence), "seed {seed}: {damage}");
                    }
                    assert!(40 <= end, "seed {seed}: {damage}");
                    assert_eq!(recovered.promised.round, 1);
                }
                Ok((wal, recovered)) => {
                    let count = wal.end().0;
                    assert!(damage.lost.contains(&(count + 1)), "seed {seed}: {damage}");
                    check_opened(wal, recovered, &written[..count as usize]);
                }
            }
            drop(opened);
            disk.crash(Loss::draw(&mut dice), &mut dice);
            opened = open(&disk);
        }
        drop(opened);
        disk.restore(&good);
    }
    // Four ways, provable or not, and in a header.
    assert!(10 <= seen.len(), "{seen:?}");
}

/// One copy of `meta` is enough, and is repaired; with none there is nothing to trust.
#[test]
fn one_copy_of_meta_is_enough() {
    let disk = SimDisk::new("disk", 1);
    let mut dice = StdRng::seed_from_u64(1);
    assert_eq!(disk.damage_meta(&mut dice), None);
    assert_eq!(disk.damage(Place::Anywhere, 0, &mut dice), None);
    let written = synced_log(&disk, 3);
    let mut copies = [0; 2];
    for _ in 0..20 {
        copies[disk.damage_meta(&mut dice).unwrap()] += 1;
        assert_eq!(check(&disk, &written), 3);
    }
    assert!(copies.iter().all(|count| 0 < *count));
    while copies != [1, 1] {
        let good = disk.copy();
        copies = [0; 2];
        (0..2).for_each(|_| copies[disk.damage_meta(&mut dice).unwrap()] += 1);
        if copies != [1, 1] {
            disk.restore(&good);
        }
    }
    assert!(matches!(open(&disk).err(), Some(WalError::MetaDamaged { .. })));
}

/// A segment comes back as it was before. If it is the last one, the witnesses of what it lost
/// are lost with it; of any other one it is told what is lost, or it is what it was.
#[test]
fn a_stale_segment_is_seen_unless_it_is_the_last() {
    let (mut told, mut same, mut unproven) = (0, 0, 0);
    for seed in 0..100 {
        let mut dice = StdRng::seed_from_u64(seed);
        let disk = SimDisk::new("disk", 1);
        synced_log(&disk, dice.random_range(1..30));
        let copies = disk.copy().segments;
        let copy = copies[dice.random_range(0..copies.len())].clone();
        let (mut wal, _) = open(&disk).unwrap();
        let mut written: Vec<Record> = (1..=wal.end().0).map(|it| record(it, 0)).collect();
        for _ in 0..dice.random_range(0..20) {
            written.push(record(wal.end().0 + 1, 0));
            wal.append(&written[written.len() - 1]).unwrap();
            wal.sync_now().unwrap();
        }
        drop(wal);
        let last = disk.stopped().records().last_begun();
        let damage = disk.restore_segment(&copy, written.len() as u64).unwrap();
        let (wal, recovered) =
            open(&disk).unwrap_or_else(|it| panic!("seed {seed}: {damage}: {it}"));
        if damage.lost.is_empty() {
            assert_eq!(check_opened(&wal, &recovered, &written), written.len());
            same += 1;
        } else if damage.provable {
            let lost: Vec<u64> = wal.lost().iter().flat_map(|it| it.sequences.clone()).collect();
            assert_eq!(lost, damage.lost, "seed {seed}: {damage}");
            told += 1;
        } else {
            assert_eq!(last, copy.number, "seed {seed}: {damage}");
            unproven += 1;
        }
    }
    assert!(10 <= told.min(same).min(unproven), "{told} {same} {unproven}");
}

/// The power goes at every step of a recovery that has a torn tail over segments to clear: what
/// is recovered then is what would have been.
#[test]
fn a_recovery_can_be_broken_off_anywhere() {
    for seed in 0..40 {
        let mut dice = StdRng::seed_from_u64(seed);
        let disk = SimDisk::new("disk", 1);
        let mut written = synced_log(&disk, 5);
        let (mut wal, _) = open(&disk).unwrap();
        for sequence in 6..=40 {
            written.push(record(sequence, 0));
            wal.append(&written[sequence as usize - 1]).unwrap();
        }
        drop(wal);
        disk.crash(Loss::Sectors { keep: 0.8 }, &mut dice);
        let torn = disk.copy();
        let expected = check(&disk, &written);
        let mut breaks = 0;
        loop {
            disk.restore(&torn);
            disk.fail_after(breaks);
            if open(&disk).is_ok() {
                break;
            }
            disk.crash(Loss::draw(&mut dice), &mut dice);
            assert_eq!(check(&disk, &written), expected, "seed {seed}, step {breaks}");
            breaks += 1;
        }
        assert!(4 <= breaks);
    }
}
