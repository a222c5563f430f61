//! Linked snapshots in a data directory: what there is of them when, and what is used.

#![allow(clippy::unwrap_used)] // A test helper that fails is a failed test.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::made_up::CLUSTER;
use super::*;
use crate::paxos::{Command, CommandId, SessionId, batch};
use crate::store::{self, Engine, EngineChoice, Store};
use crate::wire::kv::encode_command;

fn rocksdb(data_dir: &Path) -> Engine {
    let choice = EngineChoice::Rocksdb { cache_size: 8 << 20, compress: false };
    choice.open(data_dir).expect("there is room")
}

/// One slot more, with a key of its own.
fn put(store: &mut Store) {
    let slot = store.applied().next();
    let (session, payload) = match slot.0 {
        1 => (SessionId::NONE, Vec::new()),
        n => {
            let (key, value) = (&n.to_be_bytes()[..], &[n as u8; 100][..]);
            (SessionId(4096), encode_command(&store::Command::Put { key, value }))
        }
    };
    let id = CommandId { session, seq: slot.0 };
    let command = Command { id, acknowledged: slot.0, payload: payload.into() };
    store.apply(slot, &batch::encode(slot.0, [command].iter()), &mut Vec::new());
}

fn link(dir: &SnapshotDir, store: &mut Store) -> Summary {
    let hold = store.hold().expect("one at a time");
    dir.link(&store.freeze(), hold, CLUSTER, Arc::from([])).expect("there is room")
}

fn names(data_dir: &Path) -> Vec<String> {
    let names = fs::read_dir(data_dir.join("snapshots")).unwrap();
    let mut names: Vec<_> =
        names.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn newest(dir: &SnapshotDir, engine: &Engine) -> Result<Option<Loaded>, SnapshotError> {
    dir.load_newest(engine, CLUSTER, &mut |_, _| {})
}

/// Three snapshots, and a whole one of the newest slot, as a backup has one made: of each that is not kept, both parts go.
#[test]
fn what_is_not_kept_goes_with_its_keys() {
    let data_dir = tempfile::tempdir().unwrap();
    let (dir, engine) = (SnapshotDir::open(data_dir.path()).unwrap(), rocksdb(data_dir.path()));
    let mut store = Store::in_engine(&engine);
    for _ in 0..3 {
        put(&mut store);
        link(&dir, &mut store);
    }
    let (two, three) = ("00000000000000000002", "00000000000000000003");
    let both = |slot: &str| [format!("{slot}.keys"), format!("{slot}.snap")];
    let mut expected = [both(two), both(three)].concat();
    expected.push("spare".to_owned());
    assert_eq!(names(data_dir.path()), expected);
    assert_eq!(dir.form(Slot(3)), Some(Form::Linked));

    let whole = dir.write(&store.freeze(), CLUSTER, Arc::from([])).unwrap();
    assert_eq!(dir.form(Slot(3)), Some(Form::Whole));
    assert!(!dir.checkpoint_path(Slot(3)).exists() && dir.checkpoint_path(Slot(2)).exists());
    let loaded = newest(&dir, &engine).unwrap().unwrap();
    assert_eq!((loaded.summary, loaded.store.digest()), (whole, store.digest()));
    put(&mut store);
    link(&dir, &mut store);
    dir.remove_below(Slot(4)).unwrap();
    assert_eq!(names(data_dir.path())[..2], both("00000000000000000004"));
    dir.remove_above(Slot(0)).unwrap();
    assert!(names(data_dir.path()).iter().all(|name| name == "spare"));
}

/// The process ends at any step of making or removing one: what is left is no snapshot, goes at the next start, and
/// those that are whole stay.
#[test]
fn what_a_crash_leaves_is_no_snapshot() {
    let data_dir = tempfile::tempdir().unwrap();
    let (dir, engine) = (SnapshotDir::open(data_dir.path()).unwrap(), rocksdb(data_dir.path()));
    let mut store = Store::in_engine(&engine);
    put(&mut store);
    link(&dir, &mut store);
    put(&mut store);
    link(&dir, &mut store);
    let before = names(data_dir.path());
    for left in ["9.keys.tmp", "00000000000000000009.keys", "00000000000000000001.read"] {
        fs::create_dir(data_dir.path().join("snapshots").join(left)).unwrap();
        fs::write(data_dir.path().join("snapshots").join(left).join("CURRENT"), "x").unwrap();
    }
    dir.remove_parts().unwrap();
    assert_eq!(names(data_dir.path()), before);
    // The file went first.
    fs::remove_file(dir.path(Slot(2))).unwrap();
    dir.remove_parts().unwrap();
    assert_eq!(names(data_dir.path()), before[..2]);
    assert_eq!(newest(&dir, &engine).unwrap().unwrap().store.applied(), Slot(1));
}

/// The keys of the newest one are damaged, or not there: the one before is used; with both of no use it is an error that
/// says where and why.
#[test]
fn one_whose_keys_are_damaged_is_not_used() {
    let data_dir = tempfile::tempdir().unwrap();
    let (dir, engine) = (SnapshotDir::open(data_dir.path()).unwrap(), rocksdb(data_dir.path()));
    let mut store = Store::in_engine(&engine);
    for _ in 0..2 {
        put(&mut store);
        link(&dir, &mut store);
    }
    let loaded = newest(&dir, &engine).unwrap().unwrap();
    assert_eq!((loaded.store.digest(), loaded.store.keys()), (store.digest(), 1));
    fs::remove_file(dir.checkpoint_path(Slot(2)).join("CURRENT")).unwrap();
    assert_eq!(newest(&dir, &engine).unwrap().unwrap().store.applied(), Slot(1));
    fs::remove_dir_all(dir.checkpoint_path(Slot(1))).unwrap();
    let error = newest(&dir, &engine).unwrap_err();
    assert!(matches!(error, SnapshotError::NoneUsable { slot: Slot(2), .. }), "{error}");
    assert!(error.to_string().contains("00000000000000000002.keys"), "{error}");
    assert!(newest(&dir, &Engine::Memory).is_err());
}

/// One bit of the file itself: its checksums find it before the keys are looked at.
#[test]
fn no_flipped_bit_goes_unnoticed() {
    let data_dir = tempfile::tempdir().unwrap();
    let (dir, engine) = (SnapshotDir::open(data_dir.path()).unwrap(), rocksdb(data_dir.path()));
    let mut store = Store::in_engine(&engine);
    (0..3).for_each(|_| put(&mut store));
    link(&dir, &mut store);
    let bytes = fs::read(dir.path(Slot(3))).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(dir.path(Slot(3)), bytes).unwrap();
        assert!(newest(&dir, &engine).is_err(), "bit {bit}");
    }
    fs::write(dir.path(Slot(3)), bytes).unwrap();
    assert_eq!(newest(&dir, &engine).unwrap().unwrap().store.digest(), store.digest());
}
