//! Images by nearness: how long a store of a million takes to build and how much memory, and how long searches take.
//!
//! `cargo bench --bench images`. Hashes are drawn at random and set through the store, as batches of the log are applied, with
//! 16 bytes of metadata each. Each search is for another hash: one of the store with up to `within` bits flipped, so that
//! something is found. `-- 100000` takes so many images instead, `-- 100000 64`
//! hashes of so many bits only.

use std::process::Command as Process;

use loggos::paxos::{Command as LogCommand, CommandId, SessionId, batch};
use loggos::store::snapshot::Loader;
use loggos::store::{Command, Engine, Outcome, Query, Reply, Store};
use loggos::trace::monotonic_ns;
use loggos::wire::kv;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const IMAGES: usize = 1_000_000;
const BATCH: usize = 64;
const SEARCHES: usize = 1_000;
const WITHIN: [u32; 6] = [0, 2, 5, 10, 20, 40];

fn main() {
    let mut numbers = std::env::args().filter_map(|it| it.parse().ok());
    let count = numbers.next().unwrap_or(IMAGES);
    if let Some(bits) = numbers.next() {
        measure(count, bits / 8);
        return;
    }
    // Each in a process of its own: what another has left would hide its memory.
    let program = std::env::current_exe().expect("this program");
    for bits in [64, 256, 1024] {
        let words = [count, bits].map(|it| it.to_string());
        assert!(Process::new(&program).args(words).status().expect("it starts").success());
    }
}

fn measure(count: usize, size: usize) {
    let mut dice = StdRng::seed_from_u64(size as u64);
    let hashes: Vec<Vec<u8>> =
        (0..count).map(|_| (0..size).map(|_| dice.random()).collect()).collect();
    let mut store = Store::new();
    let mut applied = Vec::new();
    let id = CommandId { session: SessionId::NONE, seq: 1 };
    let register = LogCommand { id, acknowledged: 0, payload: [].into() };
    store.apply(store.applied().next(), &batch::encode(1, [register].iter()), &mut applied);
    let Outcome::Registered(session) = applied[0].outcome else { panic!("{applied:?}") };

    let memory_before = resident_bytes();
    let (mut ns, mut longest_ns) = (0, 0);
    for (number, hashes) in (0..).zip(hashes.chunks(BATCH)) {
        let first = 1 + number * BATCH as u64;
        let command = |(seq, hash): (u64, &Vec<u8>)| {
            let payload = kv::encode_command(&Command::SetImage { hash, meta: &[7; 16] });
            let id = CommandId { session, seq };
            LogCommand { id, acknowledged: first, payload: payload.into() }
        };
        let commands: Vec<LogCommand> = (first..).zip(hashes).map(command).collect();
        let value = batch::encode(1, commands.iter());
        applied.clear();
        let begun_ns = monotonic_ns();
        store.apply(store.applied().next(), &value, &mut applied);
        let took_ns = monotonic_ns() - begun_ns;
        ns += took_ns;
        longest_ns = longest_ns.max(took_ns);
    }
    assert_eq!(store.images(), count);
    let each = (resident_bytes() - memory_before) as f64 / count as f64;
    println!(
        "{} bits, {count} images: {:.2} us and {each:.0} bytes each; a batch of {BATCH} at most {:.1} ms",
        8 * size,
        ns as f64 / count as f64 / 1e3,
        longest_ns as f64 / 1e6
    );
    load(&store);
    for within in WITHIN {
        search(&store, &hashes, within, &mut dice);
    }
}

/// The state as a snapshot has it, read back.
fn load(store: &Store) {
    let frozen = store.freeze();
    let mut chunks = Vec::new();
    let begun_ns = monotonic_ns();
    let digest = frozen.encode(|chunk| {
        chunks.push(chunk.to_vec());
        Ok::<_, ()>(())
    });
    let encoded_ns = monotonic_ns();
    let mut loader = Loader::new(store.applied(), &Engine::Memory);
    chunks.iter().for_each(|chunk| loader.push(chunk).expect("it was just written"));
    let (.., read, loaded) = loader.finish().expect("all of it is there");
    let loaded_ns = monotonic_ns();
    assert_eq!((digest, loaded.images()), (Ok(read), store.images()));
    println!(
        "  as a snapshot: written in {:.1} s, read in {:.1} s",
        (encoded_ns - begun_ns) as f64 / 1e9,
        (loaded_ns - encoded_ns) as f64 / 1e9
    );
}

fn search(store: &Store, hashes: &[Vec<u8>], within: u32, dice: &mut StdRng) {
    let mut found = 0;
    let mut times_ns: Vec<u64> = (0..SEARCHES)
        .map(|_| {
            let mut hash = hashes[dice.random_range(0..hashes.len())].clone();
            for _ in 0..within {
                let bit = dice.random_range(0..8 * hash.len());
                hash[bit / 8] ^= 1 << (bit % 8);
            }
            let begun_ns = monotonic_ns();
            let reply = store.query(&Query::Nearest { hash: &hash, within, limit: 100 });
            let ns = monotonic_ns() - begun_ns;
            let Reply::Images { images, .. } = reply else { panic!("{reply:?}") };
            assert!(!images.is_empty(), "the one that it was made from");
            found += images.len();
            ns
        })
        .collect();
    times_ns.sort_unstable();
    let at = |permille: usize| times_ns[(times_ns.len() - 1) * permille / 1000] as f64 / 1e3;
    println!(
        "  within {within:>2}: least {:>7.1} us, median {:>7.1} us, p99 {:>7.1} us, {:.0} found",
        at(0),
        at(500),
        at(990),
        found as f64 / SEARCHES as f64
    );
}

/// What this process has in memory.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages = statm.split(' ').nth(1).and_then(|it| it.parse().ok());
    4096 * pages.unwrap_or(0usize)
}
