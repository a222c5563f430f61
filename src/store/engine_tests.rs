//! The engines do the same: replies, digests, scans, and the bytes of snapshots.

use crate::paxos::{Command as LogCommand, CommandId, SessionId, Slot, batch};
use crate::wire::kv::{encode_command, encode_transaction};

use super::snapshot::Loader;
use super::snapshot::fixtures::chunks;
use super::*;

struct Chance(u64);

impl Chance {
    /// Below `end`.
    fn next(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn key(&mut self) -> Vec<u8> {
        let n = self.next(300);
        // Some are longer than what lies in a node of the tree, some are each other's prefixes.
        vec![b'a' + (n % 3) as u8; 1 + (n / 3) as usize]
    }

    fn value(&mut self) -> Vec<u8> {
        let size = if self.next(15) == 0 { 60_000 } else { self.next(200) };
        vec![self.next(256) as u8; size as usize]
    }

    /// A command on a key, encoded.
    fn command(&mut self) -> Vec<u8> {
        let (key, value, other) = (&self.key()[..], &self.value()[..], &self.value()[..]);
        let (number, ttl_us) = (&[key, b"n"].concat(), 1 + self.next(500));
        encode_command(&match self.next(12) {
            0..4 => Command::Put { key, value },
            4 => Command::PutFor { key, value, ttl_us },
            5 => Command::Lock { key, value, ttl_us },
            6 => Command::Create { key, value },
            7 => Command::Update { key, value },
            8 | 9 => Command::Delete { key },
            10 => Command::Cas { key, expect: Some(other), value },
            _ => Command::Incr { key: number, by: 1 },
        })
    }

    fn transaction(&mut self) -> Vec<u8> {
        let (a, b, value) = (&self.key()[..], &self.key()[..], &self.value()[..]);
        let conditions = vec![Condition { key: a, holds: Holds::Something }];
        let steps = || {
            let put = Step::Key(Command::Put { key: b, value });
            let get = Step::Get { key: b };
            // Fails every other time, and what was put is taken back.
            let create = Step::Key(Command::Create { key: a, value: b"new" });
            vec![put, get, create, Step::Key(Command::Delete { key: b })]
        };
        let otherwise = steps().into_iter().rev().collect();
        let transaction = encode_transaction(&Transaction { conditions, then: steps(), otherwise });
        encode_command(&Command::Transaction(&transaction))
    }
}

fn load(engine: &Engine, applied: Slot, chunks: &[Vec<u8>]) -> Store {
    let mut loader = Loader::new(applied, engine);
    chunks.iter().for_each(|chunk| loader.push(chunk).expect("a snapshot is read"));
    loader.finish().expect("it is whole").3
}

fn rocksdb(dir: &tempfile::TempDir) -> Engine {
    EngineChoice::Rocksdb { cache_size: 8 << 20, compress: true }
        .open(dir.path())
        .expect("there is room")
}

/// The tables that are there.
fn tables(dir: &tempfile::TempDir) -> usize {
    std::fs::read_dir(dir.path().join("keys")).expect("it is there").count()
}

#[test]
fn engines_do_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let engines = [Engine::Memory, rocksdb(&dir)];
    let mut stores = engines.each_ref().map(Store::in_engine);
    let (mut chance, mut seq, mut frozen) = (Chance(7), 0, Vec::new());
    for slot in (1..1_500).map(Slot) {
        let commands: Vec<LogCommand> = match slot {
            Slot(1) => {
                let id = CommandId { session: SessionId::NONE, seq: 1 };
                vec![LogCommand { id, acknowledged: 0, payload: [].into() }]
            }
            _ => (0..chance.next(9))
                .map(|n| {
                    seq += 1;
                    let payload = if n % 4 == 3 { chance.transaction() } else { chance.command() };
                    let id = CommandId { session: SessionId(4096), seq };
                    LogCommand { id, acknowledged: seq, payload: payload.into() }
                })
                .collect(),
        };
        let value = batch::encode(100 * slot.0, commands.iter());
        let applied = stores.each_mut().map(|store| {
            let mut out = Vec::new();
            store.apply(slot, &value, &mut out);
            out
        });
        assert_eq!(applied[0], applied[1]);
        assert_eq!(stores[0].digest(), stores[1].digest());
        assert_eq!(stores[0].keys(), stores[1].keys());
        if slot.0 % 50 == 0 {
            let (from, to) = (chance.key(), chance.key());
            let query = Query::Scan { from: &from, to: Some(&to), limit: 20 };
            assert_eq!(stores[0].query(&query), stores[1].query(&query));
            let query = Query::Get { key: &from };
            assert_eq!(stores[0].query(&query), stores[1].query(&query));
        }
        if slot.0 % 300 == 0 {
            frozen.push(stores.each_ref().map(Store::freeze));
        }
        if slot.0 % 400 == 0 {
            // Each goes on with what the other one wrote.
            let written = stores.each_ref().map(|store| chunks(&store.freeze()));
            assert!(written[0] == written[1]);
            assert!(1 < written[0].len());
            stores = engines.each_ref().map(|engine| load(engine, slot, &written[0]));
        }
    }
    // They are as they were, however the tables went on.
    for [memory, disk] in frozen {
        assert!(chunks(&memory) == chunks(&disk));
    }
    assert_eq!(tables(&dir), 1);
    drop(stores);
    assert_eq!(tables(&dir), 0);
}

/// What a process left that was killed is nobody's state.
#[test]
fn a_table_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("keys/0")).unwrap();
    std::fs::write(dir.path().join("keys/0/CURRENT"), "nonsense").unwrap();
    let engine = rocksdb(&dir);
    assert_eq!(Store::in_engine(&engine).keys(), 0);
}

/// Both column families are bounded as the configuration says, and not as RocksDB would by itself.
#[test]
fn tables_are_made_as_configured() {
    let dir = tempfile::tempdir().unwrap();
    let choice = EngineChoice::Rocksdb { cache_size: 20 << 20, compress: false };
    let _store = Store::in_engine(&choice.open(dir.path()).unwrap());
    let files = std::fs::read_dir(dir.path().join("keys/0")).unwrap();
    let mut options: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    options.retain(|path| path.to_str().unwrap().contains("/OPTIONS-"));
    let options = std::fs::read_to_string(options.iter().max().unwrap()).unwrap();
    let lines = |wanted| options.lines().filter(|line| line.trim() == wanted).count();
    assert_eq!(lines("write_buffer_size=5242880"), 2);
    assert_eq!(lines("compression=kNoCompression"), 2);
    assert_eq!(lines("cache_index_and_filter_blocks=true"), 2);
    assert_eq!(lines("filter_policy=nullptr"), 0);
}

/// Memory that was damaged is found out: the digest is made anew from what is there.
#[test]
fn a_value_that_changed_by_itself_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::in_engine(&rocksdb(&dir));
    store.kv.apply(&Command::Put { key: b"k", value: b"v" }, 0);
    store.kv.end_slot(Slot(0));
    store.corrupt();
    let frozen = store.freeze();
    assert_ne!(frozen.encode(|_| Ok::<_, ()>(())), Ok(frozen.digest()));
}
