//! How the binary `loggos` is linked: small. Both arguments are understood by `lld` and by GNU `ld`.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build.ld");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|it| it == value);
    if !is("CARGO_CFG_TARGET_OS", "linux") {
        return;
    }
    let argument = |text: &str| println!("cargo::rustc-link-arg-bin=loggos=-Wl,{text}");
    // What the loader adjusts stands in a bitmap instead of a table, 1 KiB instead of 64. That needs
    // glibc 2.36, which Debian 12 has.
    argument("-z,pack-relative-relocs");
    // With debug information (profile `perf`) the tables stay, for profilers and debuggers.
    if is("PROFILE", "release") && is("DEBUG", "false") {
        let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
        argument(&format!("-T,{root}/build.ld"));
    }
}
