//! How the binary `loggos` is linked: small. `lld` and GNU `ld` understand it.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build.ld");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|it| it == value);
    if !is("CARGO_CFG_TARGET_OS", "linux") {
        return;
    }
    // With debug information (profile `perf`) the tables stay, for profilers and debuggers.
    if is("PROFILE", "release") && is("DEBUG", "false") {
        let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
        println!("cargo::rustc-link-arg-bin=loggos=-Wl,-T,{root}/build.ld");
    }
}
