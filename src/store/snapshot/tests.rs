use super::fixtures::chunks;
use super::*;
use crate::limits::{BATCH_COMMANDS_MAX, IMAGE_HASH_SIZE_MAX, SESSION_WINDOW_MAX};
use crate::paxos::{Command as LogCommand, CommandId, SessionId, batch};
use crate::sql::pages::PAGE_SIZE;
use crate::store::{Command, Engine, Query, Store};
use crate::wire::kv::encode_command;

fn put(session: u64, seq: u64, key: &[u8], value: &[u8]) -> LogCommand {
    let id = CommandId { session: SessionId(session), seq };
    let payload = encode_command(&Command::Put { key, value });
    LogCommand { id, acknowledged: 1, payload: payload.into() }
}

fn apply(store: &mut Store, time_us: u64, commands: &[LogCommand]) {
    let slot = store.applied().next();
    store.apply(slot, &batch::encode(time_us, commands.iter()), &mut Vec::new());
}

/// Two sessions with replies, and entries of 100 bytes.
fn store(keys: u64) -> Store {
    let mut store = Store::new();
    let register = |seq| LogCommand {
        id: CommandId { session: SessionId::NONE, seq },
        acknowledged: 0,
        payload: [].into(),
    };
    apply(&mut store, 7, &[register(1), register(2)]);
    for key in 0..keys {
        let name = format!("key-{key:06}");
        let seq = 1 + key % 500;
        let mut command = put(4096 + key % 2, seq, name.as_bytes(), &[key as u8; 100]);
        if key % 3 == 1 {
            let set = Command::SetImage { hash: name.as_bytes(), meta: &[key as u8; 100] };
            command.payload = encode_command(&set).into();
        }
        command.acknowledged = 1 + key / 500 * 500;
        command.id.seq += key / 500 * 500;
        apply(&mut store, 8 + key, &[command]);
    }
    store
}

fn load(applied: Slot, chunks: &[Vec<u8>]) -> Result<Store, &'static str> {
    let mut loader = Loader::new(applied, &Engine::Memory);
    chunks.iter().try_for_each(|chunk| loader.push(chunk))?;
    loader.finish().map(|(.., store)| store)
}

/// The restored store must not only look the same but go on the same: repeats are answered from the
/// replies kept, sessions expire in the same order.
#[test]
fn what_was_frozen_goes_on_as_the_original_does() {
    for keys in [0, 1, 9, 6_000] {
        let mut original = store(keys);
        let frozen = original.freeze();
        let chunks = chunks(&frozen);
        assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_SIZE_MAX));
        assert_eq!(1 < chunks.len(), keys == 6_000);
        let mut restored = load(frozen.applied(), &chunks).unwrap();
        assert_eq!(restored.digest_from_scratch(), original.digest());
        assert_eq!(restored.applied(), original.applied());
        assert_eq!((restored.keys() + restored.images(), restored.sessions()), (keys as usize, 2));
        let near = |store: &Store| {
            store.query(&Query::Nearest { hash: b"key-000001", within: 9, limit: 1_000 })
        };
        assert_eq!(near(&restored), near(&original));

        let slot = original.applied().next();
        let again = put(4096, 1, b"again", b"x");
        let value = batch::encode(9_000_000, [again.clone(), again].iter());
        let outcomes = [&mut original, &mut restored].map(|store| {
            let mut out = Vec::new();
            store.apply(slot, &value, &mut out);
            out
        });
        assert_eq!(outcomes[0], outcomes[1]);
        assert_eq!(restored.digest(), original.digest());
    }
}

/// What the store does while the snapshot is being written must not show in it.
#[test]
fn a_frozen_state_does_not_change() {
    let mut store = store(2_000);
    let frozen = store.freeze();
    let before = chunks(&frozen);
    for key in 0..2_000 {
        let name = format!("key-{key:06}");
        let mut command = put(4097, 5_000 + key, name.as_bytes(), &[0xff; 100]);
        command.acknowledged = 5_000 + key;
        apply(&mut store, 10_000 + key, &[command]);
    }
    assert_ne!(store.digest(), frozen.digest());
    assert_eq!(store.digest(), store.digest_from_scratch());
    assert!(chunks(&frozen) == before);
    assert_eq!(load(frozen.applied(), &before).unwrap().digest(), frozen.digest());
}

/// A store that was put together by nobody's log must be refused: its invariants would not hold.
#[test]
fn a_state_that_no_log_leads_to_is_refused() {
    let time = [&[TIME][..], &9u64.to_le_bytes()].concat();
    let session = |id: u64, acknowledged: u64, used: u64| {
        let numbers = [id, acknowledged, used].map(u64::to_le_bytes).concat();
        [&[SESSION][..], &numbers].concat()
    };
    let reply = |seq: u64, size: u32| {
        let size_bytes = size.to_le_bytes();
        [&[REPLY][..], &seq.to_le_bytes(), &size_bytes, &vec![0; size as usize]].concat()
    };
    let entry = |key: &[u8]| {
        let size = (key.len() as u32).to_le_bytes();
        [&[ENTRY][..], &size, &[0; 4], key].concat()
    };
    let image = |hash: &[u8]| [&[IMAGE][..], &entry(hash)[1..]].concat();
    let check = |items: &[Vec<u8>]| load(Slot(3), &[items.concat()]).map(|_| ());
    let (sound, end) = (session(4096, 5, 9), 4 * BATCH_COMMANDS_MAX as u64);
    let last = |token: u64| [&[LAST_TOKEN][..], &token.to_le_bytes()].concat();
    let lock = |key: &[u8], token: u64| {
        let numbers = [7, token].map(u64::to_le_bytes).concat();
        [&[ENTRY_WITH_TERM][..], &numbers, &entry(key)[1..]].concat()
    };
    let whole = [
        time.clone(),
        sound.clone(),
        reply(5, 2),
        last(3),
        entry(b""),
        lock(b"a", 3),
        lock(b"b", 0),
        entry(b"c"),
    ];
    assert_eq!(check(&whole), Ok(()));
    let page = [&[PAGE][..], &[0; PAGE_SIZE]].concat();
    let images = [image(b"a"), image(b"aa"), image(b"b"), page.clone()];
    assert_eq!(check(&[&whole[..], &images].concat()), Ok(()));
    assert_eq!(check(&[std::slice::from_ref(&time), &images].concat()), Ok(()));
    let refused: &[&[Vec<u8>]] = &[
        &[],
        std::slice::from_ref(&sound),
        &[time.clone(), time.clone()],
        &[time.clone(), session(4096, 5, 10)],
        &[time.clone(), session(0, 5, 9)],
        &[time.clone(), session(end, 5, 9)],
        &[time.clone(), sound.clone(), sound.clone()],
        &[time.clone(), reply(5, 2)],
        &[time.clone(), sound.clone(), reply(4, 2)],
        &[time.clone(), sound.clone(), reply(5, 2), reply(5, 2)],
        &[time.clone(), sound.clone(), reply(5 + SESSION_WINDOW_MAX as u64, 2)],
        &[time.clone(), sound.clone(), reply(5, REPLY_SIZE_MAX as u32 + 1)],
        &[time.clone(), entry(b"a"), sound.clone()],
        &[time.clone(), sound.clone(), entry(b"a"), reply(5, 2)],
        &[time.clone(), entry(b"a"), entry(b"a")],
        &[time.clone(), entry(b"b"), entry(b"a")],
        &[time.clone(), entry(&[0; KEY_SIZE_MAX + 1])],
        &[time.clone(), lock(b"a", 1)],
        &[time.clone(), last(2), lock(b"a", 3)],
        &[time.clone(), last(2), last(2)],
        &[time.clone(), last(0)],
        &[time.clone(), last(2), sound.clone()],
        &[time.clone(), sound.clone(), last(2), reply(5, 2)],
        &[time.clone(), entry(b"a"), last(2)],
        &[time.clone(), lock(b"a", 0), entry(b"a")],
        &[time.clone(), image(b"")],
        &[time.clone(), image(b"a"), image(b"a")],
        &[time.clone(), image(b"b"), image(b"a")],
        &[time.clone(), image(&[7; IMAGE_HASH_SIZE_MAX + 1])],
        &[time.clone(), image(b"a"), entry(b"b")],
        &[time.clone(), image(b"a"), sound.clone()],
        &[time.clone(), page, image(b"a")],
        &[time.clone(), vec![9]],
        &[time, vec![ENTRY, 1]],
    ];
    for items in refused {
        assert!(check(items).is_err(), "{items:?}");
    }
}

/// The same state in other chunks is another file, and would not be the same at every replica.
#[test]
fn chunks_end_where_they_must() {
    let frozen = store(6_000).freeze();
    let chunks = chunks(&frozen);
    assert!(load(frozen.applied(), &[chunks.concat()]).is_err());
    let (first, second) = chunks[0].split_at(1 + 8);
    let cut = [&[first.to_vec(), second.to_vec()], &chunks[1..]].concat();
    assert!(load(frozen.applied(), &cut).is_err());
}
