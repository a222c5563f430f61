use super::made_up::{CLUSTER, bytes_of, store};
use super::*;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use crate::store::Engine;

/// Files live longer than programs.
#[test]
fn golden_bytes() {
    let (bytes, summary) = bytes_of(&store(1, 3));
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = [
        // Magic, version, CRC, cluster, slot, digest, size of the configurations.
        "4c4f47474f53534e01000000a47094b108070605040302010200000000000000",
        "1992dfd86ede9a833654a5003e6e890d0b000000000000000000000000000000",
        "7468726565206e6f646573",
        // A chunk: time, session, reply, entry.
        "43000000d21fc7b0",
        "010100000000000000",
        "02001000000000000001000000000000000100000000000000",
        "03010000000000000004000000",
        "00000000",
        "040400000003000000",
        "30303031010101",
        // The footer.
        "00000000d456df2101000000000000000100000000000000",
        "0100000000000000ce00000000000000",
        "676505acd7045adc893def82d1111612",
    ];
    assert_eq!(hex, expected.concat());
    assert_eq!(format!("{:032x}", summary.checksum.swap_bytes()), expected[12]);
}

/// Of a linked snapshot, too. Nobody takes it for a whole one.
#[test]
fn golden_bytes_of_a_linked_one() {
    let mut bytes = Vec::new();
    let (frozen, configurations) = (store(1, 3).freeze(), Arc::from(&b"three nodes"[..]));
    let summary =
        write::write_as(Form::Linked, &frozen, CLUSTER, configurations, &mut bytes).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = [
        // The same state as above, in version 2.
        "4c4f47474f53534e02000000c0cf414008070605040302010200000000000000",
        "1992dfd86ede9a833654a5003e6e890d0b000000000000000000000000000000",
        "7468726565206e6f646573",
        // A chunk: time, session, reply, the number of the entries that lie elsewhere and their digest.
        "4c000000918ff79f",
        "010100000000000000",
        "02001000000000000001000000000000000100000000000000",
        "03010000000000000004000000",
        "00000000",
        "090100000000000000",
        "e95d0ce1e90c80ac66193bc193ee7a62",
        // The footer.
        "0000000086bb836c01000000000000000100000000000000",
        "0100000000000000d700000000000000",
        "8e89667d4617b89f5044d9d8721c6186",
    ];
    assert_eq!(hex, expected.concat());
    assert_eq!((summary.keys, summary.sessions, summary.head.digest), (1, 1, frozen.digest()));
    for error in [load(&mut &bytes[..]).unwrap_err(), verify(&mut &bytes[..]).unwrap_err()] {
        assert!(matches!(error, SnapshotError::Linked), "{error}");
    }
}

/// A program without RocksDB says what it lacks, and takes the one before, from which the log goes on.
#[cfg(not(feature = "rocksdb"))]
#[test]
fn a_linked_one_needs_rocksdb() {
    let data_dir = tempfile::tempdir().unwrap();
    let dir = SnapshotDir::open(data_dir.path()).unwrap();
    let mut bytes = Vec::new();
    let frozen = store(3, 10).freeze();
    write::write_as(Form::Linked, &frozen, CLUSTER, Arc::from([]), &mut bytes).unwrap();
    fs::write(dir.path(Slot(4)), bytes).unwrap();
    fs::create_dir(dir.checkpoint_path(Slot(4))).unwrap();
    dir.remove_parts().unwrap();
    let newest = || dir.load_newest(&Engine::Memory, CLUSTER, &mut |_, _| {});
    let error = newest().unwrap_err().to_string();
    assert!(error.contains("the 3 keys of slot 4 lie in a checkpoint of RocksDB"), "{error}");
    assert!(dir.checkpoint_path(Slot(4)).exists(), "a program that can open it may come");
    dir.write(&store(2, 10).freeze(), CLUSTER, Arc::from([])).unwrap();
    assert_eq!(newest().unwrap().unwrap().store.applied(), Slot(3));
    dir.remove_above(Slot(3)).unwrap();
    assert_eq!(
        (dir.slots().unwrap(), dir.checkpoint_path(Slot(4)).exists()),
        (vec![Slot(3)], false)
    );
}

#[test]
fn what_is_written_is_read() {
    for (keys, size) in [(0, 0), (1, 3), (100, 9_000), (3, 1024 * 1024)] {
        let store = store(keys, size);
        let (bytes, summary) = bytes_of(&store);
        assert_eq!(read_head(&mut &bytes[..]).unwrap(), summary.head);
        assert_eq!(verify(&mut &bytes[..]).unwrap(), summary);
        let loaded = load(&mut &bytes[..]).unwrap();
        assert_eq!(loaded.summary, summary);
        assert_eq!(loaded.store.digest(), store.digest());
        assert_eq!((summary.keys, summary.sessions), (keys, 1));
        assert!(bytes_of(&loaded.store).0 == bytes, "a replica that loaded it makes the same file");
    }
}

/// A value that changes in memory is in no digest until it is written again: writing a snapshot finds it.
#[test]
fn a_damaged_state_is_not_written() {
    let mut store = store(3, 40);
    store.corrupt();
    let written = write(&store.freeze(), CLUSTER, Arc::from([]), &mut Vec::new());
    assert!(matches!(written, Err(SnapshotError::StateDamaged)), "{written:?}");
}

/// A disk that flips one bit, anywhere, or loses the end of the file.
#[test]
fn no_flipped_bit_and_no_cut_goes_unnoticed() {
    let (bytes, _) = bytes_of(&store(3, 40));
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(verify(&mut &bytes[..]).is_err(), "bit {bit}");
        assert!(load(&mut &bytes[..]).is_err(), "bit {bit}");
    }
    for cut in 0..bytes.len() {
        let error = load(&mut &bytes[..cut]).unwrap_err();
        assert!(matches!(error, SnapshotError::Read(_)), "cut at {cut}: {error}");
    }
    let longer = [&bytes[..], b"x"].concat();
    assert!(load(&mut &longer[..]).is_err());
}

/// Whole chunks that change places, or are left out, are right by themselves.
#[test]
fn chunks_keep_their_places() {
    let (bytes, _) = bytes_of(&store(100, 9_000));
    let mut at = vec![format::HEADER_SIZE + b"three nodes".len()];
    loop {
        let last = at[at.len() - 1];
        match format::u32_at(&bytes, last) as usize {
            0 => break,
            size => at.push(last + format::CHUNK_HEADER_SIZE + size),
        }
    }
    assert!(4 <= at.len(), "{at:?}");
    let part = |i: usize| &bytes[at[i]..at[i + 1]];
    let swapped = [&bytes[..at[1]], part(2), part(1), &bytes[at[3]..]].concat();
    assert!(load(&mut &swapped[..]).is_err());
    let without = [&bytes[..at[1]], &bytes[at[2]..]].concat();
    assert!(load(&mut &without[..]).is_err());
}

#[test]
fn a_newer_version_is_named() {
    let (mut bytes, _) = bytes_of(&store(1, 1));
    bytes[8] = 9;
    let error = load(&mut &bytes[..]).unwrap_err();
    assert!(matches!(error, SnapshotError::NewerVersion { found: 9 }), "{error}");
}

/// The newest file has gone bad: the one before is used, and of a third there is no trace. With both bad
/// it is an error, since what is behind them is gone from the log.
#[test]
fn a_damaged_newest_snapshot_falls_back_to_the_one_before() {
    let data_dir = tempfile::tempdir().unwrap();
    let dir = SnapshotDir::open(data_dir.path()).unwrap();
    assert!(dir.load_newest(&Engine::Memory, CLUSTER, &mut |_, _| {}).unwrap().is_none());
    for keys in [1, 2, 3] {
        dir.write(&store(keys, 10).freeze(), CLUSTER, Arc::from([])).unwrap();
    }
    assert_eq!(dir.slots().unwrap(), [Slot(4), Slot(3)]);
    let newest = |cluster| {
        dir.load_newest(&Engine::Memory, cluster, &mut |done, total| assert!(done <= total))
    };
    assert_eq!(newest(CLUSTER).unwrap().unwrap().store.applied(), Slot(4));
    let error = newest(ClusterId(7)).unwrap_err();
    assert!(matches!(error, SnapshotError::Foreign { .. }), "{error}");

    let damage = |slot| {
        let mut bytes = fs::read(dir.path(slot)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(dir.path(slot), bytes).unwrap();
    };
    let summary = newest(CLUSTER).unwrap().unwrap().summary;
    assert_eq!(dir.id(Slot(4)).unwrap(), Some(summary.id()));
    damage(Slot(4));
    assert_eq!(newest(CLUSTER).unwrap().unwrap().store.applied(), Slot(3));
    damage(Slot(3));
    let error = newest(CLUSTER).unwrap_err();
    assert!(matches!(error, SnapshotError::NoneUsable { slot: Slot(4), .. }), "{error}");
    dir.remove_above(Slot(3)).unwrap();
    assert_eq!(dir.slots().unwrap(), [Slot(3)]);
    fs::write(dir.path(Slot(3)), b"short").unwrap();
    assert_eq!(dir.id(Slot(3)).unwrap(), None);
}

/// The process ends while it writes one: what is left is no snapshot, and goes at the next start.
#[test]
fn a_part_is_no_snapshot() {
    let data_dir = tempfile::tempdir().unwrap();
    let dir = SnapshotDir::open(data_dir.path()).unwrap();
    fs::write(dir.part_path(Slot(9)), b"LOGGOSSN").unwrap();
    fs::write(data_dir.path().join("snapshots/other.snap"), b"").unwrap();
    assert_eq!((dir.slots().unwrap(), dir.parts().unwrap()), (vec![], vec![Slot(9)]));
    dir.remove_parts().unwrap();
    assert_eq!(SnapshotDir::open(data_dir.path()).unwrap().parts().unwrap(), []);
}

/// What is not kept any more is written over: no blocks are freed, none allocated. Nothing of it shows.
#[test]
fn a_snapshot_is_written_over_the_one_that_goes() {
    let data_dir = tempfile::tempdir().unwrap();
    let dir = SnapshotDir::open(data_dir.path()).unwrap();
    let write =
        |keys, size| dir.write(&store(keys, size).freeze(), CLUSTER, Arc::from([])).unwrap();
    let inode = |slot| fs::metadata(dir.path(Slot(slot))).unwrap().ino();
    // More than is written at once.
    write(1, 3_000_000);
    let first = inode(2);
    write(2, 10);
    write(3, 10);
    assert_eq!(dir.slots().unwrap(), [Slot(4), Slot(3)]);
    let second = inode(3);
    let summary = write(4, 1_000_000);
    assert_eq!((inode(5), fs::metadata(dir.path(Slot(5))).unwrap().len()), (first, summary.size));
    let loaded = dir.load_newest(&Engine::Memory, CLUSTER, &mut |_, _| {}).unwrap().unwrap();
    assert_eq!(loaded.summary, summary);
    // One that fails leaves the file to the next.
    let mut damaged = store(5, 10);
    damaged.corrupt();
    let failed = dir.write(&damaged.freeze(), CLUSTER, Arc::from([]));
    assert!(matches!(failed, Err(SnapshotError::StateDamaged)), "{failed:?}");
    assert_eq!(dir.parts().unwrap(), []);
    write(6, 10);
    assert_eq!(inode(7), second);
}

/// A peer still reads a snapshot that is not kept any more: it reads on, and another file is written.
#[test]
fn what_is_read_is_not_written_over() {
    let data_dir = tempfile::tempdir().unwrap();
    let dir = SnapshotDir::open(data_dir.path()).unwrap();
    let write = |keys| dir.write(&store(keys, 10).freeze(), CLUSTER, Arc::from([])).unwrap();
    write(1);
    let mut reader = dir.open_file(Slot(2)).unwrap();
    let expected = fs::read(dir.path(Slot(2))).unwrap();
    let first = reader.metadata().unwrap().ino();
    (2..=4).for_each(|keys| drop(write(keys)));
    let mut found = Vec::new();
    reader.read_to_end(&mut found).unwrap();
    assert_eq!(found, expected);
    assert_ne!(fs::metadata(dir.path(Slot(5))).unwrap().ino(), first);
    assert_eq!(
        dir.load_newest(&Engine::Memory, CLUSTER, &mut |_, _| {}).unwrap().unwrap().store.applied(),
        Slot(5)
    );
}
