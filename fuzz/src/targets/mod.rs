//! What is fuzzed: one plain function for each place where bytes from outside become something, each
//! with what must hold for every input. A violation is a panic.
//!
//! Two programs run these: the coverage-guided fuzzer of this folder, and `tests/fuzz.rs` of the main
//! package, which replays `fuzz/corpus` and mutates it for a while in every `make test`.
//!
//! Checksums keep random bytes from getting anywhere, so some inputs begin with a byte that says whether
//! the checksums are made right first: bytes with right checksums are what a broken peer or disk
//! controller would give us.

mod check;
mod config;
mod memory;
mod seeds;
mod snapshot;
mod store;
mod wal;
mod wire;

pub use seeds::seeds;

pub struct Target {
    /// Also the name of its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// Longer inputs find nothing that shorter ones do not, and are slow.
    pub size_max: usize,
    check: fn(&[u8]),
}

pub const TARGETS: &[Target] = &[
    Target { name: "frame", size_max: 512, check: wire::frame },
    Target { name: "peer", size_max: 2048, check: wire::peer },
    Target { name: "client", size_max: 512, check: wire::client },
    Target { name: "kv", size_max: 512, check: wire::kv },
    Target { name: "batch", size_max: 1024, check: wire::batch },
    Target { name: "store", size_max: 2048, check: store::apply },
    Target { name: "snapshot", size_max: 12_000, check: snapshot::read },
    Target { name: "config", size_max: 8192, check: config::parse },
    Target { name: "words", size_max: 256, check: config::words },
    Target { name: "log", size_max: 10_000, check: wal::scan },
    Target { name: "directory", size_max: 10_000, check: wal::open },
    Target { name: "history", size_max: 2048, check: check::history },
    Target { name: "trace", size_max: 4096, check: check::trace },
];

/// Checks one input; panics if something does not hold.
pub fn run(target: &Target, input: &[u8]) {
    if input.len() <= target.size_max {
        (target.check)(input);
    }
}
