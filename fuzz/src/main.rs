//! The targets under libFuzzer: `LOGGOS_FUZZ_TARGET=peer loggos-fuzz CORPUS -max_total_time=60`.
//!
//! Built by `scripts/fuzz.sh` with the compiler's coverage counters, which the stable toolchain has.
#![no_main]

#[allow(dead_code, unused_imports)] // The seeds are for the tests.
mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use targets::Target;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("LOGGOS_FUZZ_TARGET").unwrap_or_default();
        let target = targets::TARGETS.iter().find(|target| target.name == name);
        let Some(target) = target else {
            let names: Vec<_> = targets::TARGETS.iter().map(|target| target.name).collect();
            eprintln!("LOGGOS_FUZZ_TARGET is {name:?}; there are: {}", names.join(" "));
            std::process::exit(2);
        };
        TARGET.set(target).ok();
    },
    |input: &[u8]| -> Corpus {
        targets::run(TARGET.get().expect("set before the first input"), input);
        Corpus::Keep
    }
);
