//! Linked states: a table is held while its checkpoint is made, and what comes of that is the state of one slot.

#![allow(clippy::unwrap_used)] // A test helper that fails is a failed test.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::paxos::{Command as LogCommand, CommandId, SessionId, Slot, batch};
use crate::wire::kv::encode_command;

use super::snapshot::Loader;
use super::*;

fn rocksdb(dir: &Path) -> Engine {
    EngineChoice::Rocksdb { cache_size: 8 << 20, compress: false }.open(dir).expect("there is room")
}

fn put(store: &mut Store, key: &[u8], value: &[u8]) {
    apply(store, &Command::Put { key, value });
}

fn apply(store: &mut Store, command: &Command<'_>) {
    let slot = store.applied().next();
    let id = CommandId { session: SessionId(4096), seq: slot.0 };
    let command = LogCommand { id, acknowledged: slot.0, payload: encode_command(command).into() };
    store.apply(slot, &batch::encode(slot.0, [command].iter()), &mut Vec::new());
}

/// With a session, in these engines.
fn stores<const N: usize>(engines: [&Engine; N]) -> [Store; N] {
    engines.map(|engine| {
        let mut store = Store::in_engine(engine);
        let id = CommandId { session: SessionId::NONE, seq: 1 };
        let register = LogCommand { id, acknowledged: 0, payload: [].into() };
        store.apply(Slot(1), &batch::encode(1, [register].iter()), &mut Vec::new());
        store
    })
}

fn whole(frozen: &Frozen) -> Vec<u8> {
    let mut bytes = Vec::new();
    let digest = frozen.encode(|chunk| {
        bytes.extend_from_slice(chunk);
        Ok::<_, ()>(())
    });
    assert_eq!(digest, Ok(frozen.digest()));
    bytes
}

/// A linked state: its chunks, and the checkpoint.
struct Linked {
    slot: Slot,
    chunks: Vec<Vec<u8>>,
    path: PathBuf,
}

fn link(frozen: &Frozen, hold: std::sync::Arc<Hold>, path: PathBuf) -> Result<Linked, String> {
    frozen.checkpoint(&path, hold)?;
    let mut chunks = Vec::new();
    let digest = frozen.encode_linked(|chunk| {
        chunks.push(chunk.to_vec());
        Ok::<_, ()>(())
    });
    assert_eq!(digest, Ok(frozen.digest()));
    Ok(Linked { slot: frozen.applied(), chunks, path })
}

impl Linked {
    fn open(&self, engine: &Engine) -> Result<Store, String> {
        let mut loader = Loader::linked(self.slot);
        for chunk in &self.chunks {
            loader.push(chunk)?;
        }
        loader.finish_linked(engine, &self.path)
    }
}

/// All files of a directory.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

/// 2,000 keys, in files and not; the checkpoint is made of them.
fn linked(dir: &tempfile::TempDir) -> (Engine, Store, Linked) {
    let engine = rocksdb(dir.path());
    let [mut store] = stores([&engine]);
    for n in 0..2_000u32 {
        put(&mut store, &n.to_be_bytes(), &[n as u8; 100]);
    }
    apply(&mut store, &Command::PutFor { key: b"soon", value: b"gone", ttl_us: 1 << 40 });
    apply(&mut store, &Command::Lock { key: b"lock", value: b"held", ttl_us: 1 << 40 });
    apply(&mut store, &Command::SetImage { hash: b"hash", meta: b"meta" });
    let hold = store.hold().unwrap();
    let linked = link(&store.freeze(), hold, dir.path().join("1.keys")).unwrap();
    (engine, store, linked)
}

/// Slots are applied from when the state is frozen until long after the checkpoint is made. It must be of the slot at which
/// that began, whatever they did; and reads, scans and other frozen states in between must show all that they did.
#[test]
fn a_checkpoint_is_of_its_slot_while_slots_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let engine = rocksdb(dir.path());
    let mut stores = stores([&Engine::Memory, &engine]);
    let step = |stores: &mut [Store; 2], n: u32| {
        for store in stores {
            put(store, &(n % 60).to_be_bytes(), &[n as u8; 10]);
            apply(store, &Command::Delete { key: &(7 * n % 60).to_be_bytes() });
            apply(store, &Command::Incr { key: b"n", by: 1 });
        }
    };
    let same = |stores: &[Store; 2]| {
        let scan = Query::Scan { from: &3u32.to_be_bytes(), to: Some(b"z"), limit: 100 };
        assert_eq!(stores[0].query(&scan), stores[1].query(&scan));
        for key in 0..60u32 {
            let get = Query::Get { key: &key.to_be_bytes() };
            assert_eq!(stores[0].query(&get), stores[1].query(&get));
        }
        assert_eq!(stores[0].digest(), stores[1].digest());
        assert_eq!(stores[0].keys(), stores[1].keys());
    };
    (0..100).for_each(|n| step(&mut stores, n));
    for round in 0..5 {
        let hold = stores[1].hold().unwrap();
        assert!(stores[1].hold().is_none(), "one at a time");
        let frozen = stores.each_ref().map(Store::freeze);
        (0..20).for_each(|n| step(&mut stores, 31 * round + n));
        same(&stores);
        let between = stores.each_ref().map(Store::freeze);
        let path = dir.path().join(format!("{round}.keys"));
        let linked = link(&frozen[1], hold, path).unwrap();
        // It is not held any more, and what waited is written with the next slot.
        let held = stores.each_ref().map(Store::freeze);
        (0..20).for_each(|n| step(&mut stores, 17 * round + n));
        same(&stores);
        for [memory, disk] in [frozen.clone(), between, held] {
            assert!(whole(&memory) == whole(&disk));
            assert!(disk.verify_entries(|| {}).is_ok());
        }
        let opened = linked.open(&engine).unwrap();
        assert_eq!((opened.applied(), opened.keys()), (frozen[0].applied(), frozen[0].keys()));
        assert_eq!(opened.digest(), frozen[0].digest());
        assert!(whole(&opened.freeze()) == whole(&frozen[0]));
        if round == 2 {
            // The next ones are made of a table that began with one.
            let memory = {
                let mut loader = Loader::new(opened.applied(), &Engine::Memory);
                loader.push(&whole(&frozen[0])).unwrap();
                loader.finish().unwrap().3
            };
            stores = [memory, opened];
        }
    }
}

/// Nobody waits for a checkpoint that takes too long: it is given up, is none, and another one can be made.
#[test]
fn a_table_is_not_held_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let engine = rocksdb(dir.path());
    let mut stores = stores([&Engine::Memory, &engine]);
    let hold = stores[1].hold().unwrap();
    let frozen = stores[1].freeze();
    for n in 0..3u32 {
        stores.iter_mut().for_each(|store| put(store, &n.to_be_bytes(), &[1; 40_000]));
    }
    let path = dir.path().join("1.keys");
    let error = link(&frozen, hold, path.clone()).err().unwrap();
    assert!(error.contains("too much"), "{error}");
    assert!(!path.exists());
    let hold = stores[1].hold().unwrap();
    let linked = link(&stores[1].freeze(), hold, path).unwrap();
    assert!(whole(&linked.open(&engine).unwrap().freeze()) == whole(&stores[0].freeze()));
    // A hold that is dropped before anything is made of it is over, too.
    drop(stores[1].hold().unwrap());
    assert!(stores[1].hold().is_some());
}

/// What begins with a checkpoint goes its own way: the checkpoint stays as it is, and can be opened again, also by a
/// program whose keys are in memory.
#[test]
fn a_checkpoint_is_nobodys_to_write() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, store, linked) = linked(&dir);
    let (before, state) = (files(&linked.path), whole(&store.freeze()));
    drop(store);
    for _ in 0..2 {
        let mut opened = linked.open(&engine).unwrap();
        assert!(whole(&opened.freeze()) == state);
        for n in 0..3_000u32 {
            put(&mut opened, &n.to_be_bytes(), &[7; 100]);
        }
        let hold = opened.hold().unwrap();
        link(&opened.freeze(), hold, dir.path().join("2.keys")).unwrap();
        drop(opened);
        fs::remove_dir_all(dir.path().join("2.keys")).unwrap();
    }
    let opened = linked.open(&Engine::Memory).unwrap();
    assert!(whole(&opened.freeze()) == state);
    assert!(files(&linked.path) == before);
    let names: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "the checkpoint and the tables: {names:?}");
}

/// A file of a checkpoint is missing, cut off or changed where opening looks; or the checkpoint is another one.
#[test]
fn a_checkpoint_that_is_damaged_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, store, mut linked) = linked(&dir);
    drop(store);
    for (path, bytes) in files(&linked.path) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("OPTIONS") {
            continue;
        }
        fs::remove_file(&path).unwrap();
        assert!(linked.open(&engine).is_err(), "without {name}");
        fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        assert!(linked.open(&engine).is_err(), "of {name} the end is missing");
        fs::write(&path, &bytes).unwrap();
        if name.starts_with("MANIFEST") {
            let mut bytes = bytes.clone();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert!(linked.open(&engine).is_err(), "{name} has changed");
        }
        fs::write(&path, &bytes).unwrap();
    }
    drop(linked.open(&engine).unwrap());
    linked.slot = linked.slot.next();
    let error = linked.open(&engine).err().unwrap();
    assert!(error.contains("should be of slot"), "{error}");
}

/// Changes a byte of the first value of this checkpoint that is found in its files.
fn damage(linked: &Linked) {
    for (path, bytes) in files(&linked.path) {
        if let Some(at) = bytes.windows(100).position(|window| window == [9; 100]) {
            fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .write_all_at(&[8], at as u64)
                .unwrap();
            return;
        }
    }
    panic!("nothing is compressed");
}

/// A block has gone bad that no start reads: it is found when the keys are read through, or when somebody reads that key, and
/// then the process ends. Either way no start opens that checkpoint again.
#[test]
fn a_block_that_has_gone_bad_is_met_once() {
    for is_read_through in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (engine, store, linked) = linked(&dir);
        drop(store);
        damage(&linked);
        let opened = linked.open(&engine).unwrap();
        if is_read_through {
            let error = opened.freeze().verify_entries(|| {}).unwrap_err();
            assert!(error.starts_with("Corruption"), "{error}");
        } else {
            let key = 9u32.to_be_bytes();
            let read = catch_unwind(AssertUnwindSafe(|| opened.query(&Query::Get { key: &key })));
            assert!(read.is_err());
        }
        drop(opened);
        let error = linked.open(&engine).err().unwrap();
        assert!(error.contains("found damaged: Corruption"), "{error}");
    }
}

/// A block goes bad in a file that two checkpoints have: both are of no use. One that was made before has other files.
#[test]
fn checkpoints_with_the_same_file_are_damaged_together() {
    let dir = tempfile::tempdir().unwrap();
    let engine = rocksdb(dir.path());
    let [mut store] = stores([&engine]);
    let mut linked = Vec::new();
    for (n, key) in [(0, b"a"), (1, b"b"), (2, b"c")] {
        put(&mut store, key, &[8 + n; 100]);
        let hold = store.hold().unwrap();
        let path = dir.path().join(format!("{n}.keys"));
        linked.push(link(&store.freeze(), hold, path).unwrap());
    }
    drop(store);
    damage(&linked[2]);
    let opened = linked[2].open(&engine).unwrap();
    let read = catch_unwind(AssertUnwindSafe(|| opened.query(&Query::Get { key: b"b" })));
    assert!(read.is_err());
    drop(opened);
    // The other one that has it was made in another life: it finds out by itself.
    assert!(linked[2].open(&engine).is_err());
    assert!(linked[1].open(&engine).unwrap().freeze().verify_entries(|| {}).is_err());
    assert!(linked[1].open(&engine).is_err());
    assert!(linked[0].open(&engine).unwrap().freeze().verify_entries(|| {}).is_ok());
}

/// A value that changes in RocksDB by itself is in no checksum. The digest of the keys tells.
#[test]
fn a_value_that_changed_by_itself_is_found_when_all_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut store, _) = linked(&dir);
    store.corrupt();
    let hold = store.hold().unwrap();
    let linked = link(&store.freeze(), hold, dir.path().join("2.keys")).unwrap();
    for store in [store, linked.open(&engine).unwrap()] {
        let mut rests = 0;
        let error = store.freeze().verify_entries(|| rests += 1).unwrap_err();
        assert!(error.contains("digest"), "{error}");
        assert!(rests == 0 || rests == 1, "{rests} for 200 KB");
    }
    let error = linked.open(&Engine::Memory).err().unwrap();
    assert!(error.contains("digest"), "{error}");
}

/// A linked state that no node of ours wrote is refused, and each form by who wants the other one.
#[test]
fn a_linked_state_that_no_log_leads_to_is_refused() {
    let time = [&[1][..], &9u64.to_le_bytes()].concat();
    let session = [&[2][..], &[4096u64, 5, 9].map(u64::to_le_bytes).concat()].concat();
    let last = |token: u64| [&[7][..], &token.to_le_bytes()].concat();
    let elsewhere = |keys: u64| [&[9][..], &keys.to_le_bytes(), &[3; 16]].concat();
    let term = |key: &[u8], token: u64| {
        let numbers = [7, token].map(u64::to_le_bytes).concat();
        [&[10][..], &numbers, &(key.len() as u32).to_le_bytes(), key].concat()
    };
    let entry = [&[4][..], &[1, 0, 0, 0, 0, 0, 0, 0], b"k"].concat();
    let image = [&[8][..], &[1, 0, 0, 0, 0, 0, 0, 0], b"h"].concat();
    let check = |items: &[&Vec<u8>]| {
        let mut loader = Loader::linked(Slot(3));
        loader.push(&items.iter().copied().flatten().copied().collect::<Vec<u8>>())?;
        loader.ended().map(|(keys, ..)| keys)
    };
    let (two, a, b) = (&elsewhere(2), &term(b"a", 0), &term(b"b", 4));
    assert_eq!(check(&[&time, &session, &last(4), two, a, b, &image]), Ok(2));
    assert_eq!(check(&[&time, two]), Ok(2));
    let refused: &[&[&Vec<u8>]] = &[
        &[&time],
        &[two],
        &[&time, two, two],
        &[&time, &elsewhere(u64::MAX)],
        &[&time, &entry, two],
        &[&time, two, &entry],
        &[&time, two, &session],
        &[&time, two, &last(4)],
        &[&time, a, two],
        &[&time, &image, two],
        &[&time, two, &image, a],
        &[&time, two, a, a],
        &[&time, &last(4), two, b, a],
        &[&time, two, b],
        &[&time, &elsewhere(1), a, &term(b"aa", 0)],
    ];
    for items in refused {
        assert!(check(items).is_err(), "{items:?}");
    }
    let mut loader = Loader::new(Slot(3), &Engine::Memory);
    assert!(loader.push(&[time, elsewhere(2)].concat()).is_err());
}
